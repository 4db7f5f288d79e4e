"""Update rules over stacked parameters, as pairs of `init` and `update`.

A rule holds its settings only; what it remembers between steps is the state that
`init` makes and `update` returns, so that it can be stored, cut and resumed. Every
state has an entry ``"mapping"``, the prox-gradient mapping where the returned losses
were evaluated: its norm says how far a start is from being stationary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from descents.checks import InvalidValueError, real_number
from descents.problems.problem import Parameters, Problem, losses_and_gradients

State = dict[str, Parameters]


class Step(Protocol):
    """What the loop asks of an update rule."""

    def init(self, problem: Problem, parameters: Parameters) -> State:
        """Return the state before the first step."""

    def update(
        self,
        problem: Problem,
        parameters: Parameters,
        state: State,
        starts: torch.Tensor,
        step: int,
    ) -> tuple[Parameters, State, torch.Tensor]:
        """Return new parameters, new state, and the losses of the given parameters."""


@dataclass(frozen=True)
class _FirstOrder:
    """What rules that follow one gradient share: the rate, and the projection."""

    learning_rate: float | Sequence[float] = 0.01

    def __post_init__(self) -> None:
        rates = self.learning_rate
        if not isinstance(rates, float | int) and np.ndim(rates):
            checked = tuple(
                real_number("a learning rate", rate, 0, strict=True) for rate in rates
            )
            if not checked:
                raise InvalidValueError("learning_rate is empty; give a rate a start")
            object.__setattr__(self, "learning_rate", checked)
        else:
            rate = real_number("learning_rate", rates, 0, strict=True)
            object.__setattr__(self, "learning_rate", rate)

    def _rates(self, parameters: Parameters, starts: torch.Tensor) -> Parameters:
        """Return the rate of each start, shaped to multiply each parameter."""
        if isinstance(self.learning_rate, float):  # one for all: nothing to look up
            rates = torch.tensor(self.learning_rate, dtype=torch.float64)
            return {name: rates.to(value) for name, value in parameters.items()}
        if int(starts.max()) >= len(self.learning_rate):
            raise InvalidValueError(
                f"learning_rate has {len(self.learning_rate)} rates, but start "
                f"{int(starts.max())} is asked for; give a rate for each start"
            )
        rates = torch.tensor(self.learning_rate, dtype=torch.float64)[starts.cpu()]
        return {
            name: rates.to(value).reshape(-1, *[1] * (value.ndim - 1))
            for name, value in parameters.items()
        }

    def _move(
        self,
        problem: Problem,
        parameters: Parameters,
        directions: Parameters,
        gradients: Parameters,
        rates: Parameters,
    ) -> tuple[Parameters, Parameters]:
        """Return the projected step along minus `directions`, and the mapping.

        The prox-gradient mapping is (x - project(x - rate g)) / rate, which without
        constraints is the gradient g.
        """
        moved = {n: p - rates[n] * directions[n] for n, p in parameters.items()}
        if not problem.constrained:
            return moved, gradients
        plain = problem.project(
            {n: p - rates[n] * gradients[n] for n, p in parameters.items()}
        )
        mapping = {n: (p - plain[n]) / rates[n] for n, p in parameters.items()}
        return problem.project(moved), mapping


@dataclass(frozen=True)
class GradientDescent(_FirstOrder):
    """Plain gradient descent: x <- x - rate * gradient.

    Parameters
    ----------
    learning_rate : float or sequence of float
        Above 0; one for all, or the k-th for start k.

    Examples
    --------
    Two rates for two starts of (x - 1)^2; the second is the exact step:

    >>> from descents import Problem, descend, Stop
    >>> bowl = Problem.from_losses(
    ...     lambda parameters, starts, step: (parameters["x"] - 1).square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> descend(bowl, 2, steps=GradientDescent([0.25, 0.5]), stop=Stop(1)).losses
    array([0.25, 0.  ])
    """

    def init(self, problem: Problem, parameters: Parameters) -> State:
        """Return an empty state: this rule remembers nothing."""
        return {}

    def update(
        self,
        problem: Problem,
        parameters: Parameters,
        state: State,
        starts: torch.Tensor,
        step: int,
    ) -> tuple[Parameters, State, torch.Tensor]:
        """Take one step."""
        losses, gradients = losses_and_gradients(problem, parameters, starts, step)
        rates = self._rates(parameters, starts)
        moved, mapping = self._move(problem, parameters, gradients, gradients, rates)
        return moved, {"mapping": mapping}, losses


@dataclass(frozen=True)
class Momentum(_FirstOrder):
    """Gradient descent with momentum: v <- momentum * v + gradient; x <- x - rate * v.

    Parameters
    ----------
    learning_rate : float or sequence of float
    momentum : float
        From 0 to below 1.
    nesterov : bool
        Step along gradient + momentum * v in place of v (Sutskever et al., 2013, ICML,
        in the form that torch.optim.SGD has).

    Examples
    --------
    >>> Momentum(0.1)
    Momentum(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("momentum", self.momentum)

    def init(self, problem: Problem, parameters: Parameters) -> State:
        """Return a velocity of zero."""
        return {"velocity": _zeros(parameters)}

    def update(
        self,
        problem: Problem,
        parameters: Parameters,
        state: State,
        starts: torch.Tensor,
        step: int,
    ) -> tuple[Parameters, State, torch.Tensor]:
        """Take one step."""
        losses, gradients = losses_and_gradients(problem, parameters, starts, step)
        velocity = {
            n: self.momentum * state["velocity"][n] + g for n, g in gradients.items()
        }
        directions = velocity
        if self.nesterov:
            directions = {
                n: g + self.momentum * velocity[n] for n, g in gradients.items()
            }
        rates = self._rates(parameters, starts)
        moved, mapping = self._move(problem, parameters, directions, gradients, rates)
        return moved, {"mapping": mapping, "velocity": velocity}, losses


@dataclass(frozen=True)
class Adam(_FirstOrder):
    """Adam [1]_: x <- x - rate * m' / (sqrt(s') + epsilon).

    m and s are running means of the gradient and of its square, m' and s' the same
    with the bias of the zero beginning taken off.

    Parameters
    ----------
    learning_rate : float or sequence of float
    beta1, beta2 : float
        From 0 to below 1.
    epsilon : float
        Above 0.

    References
    ----------
    .. [1] Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR.

    Examples
    --------
    >>> Adam(0.1).beta2
    0.999
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        real_number("epsilon", self.epsilon, 0, strict=True)

    def init(self, problem: Problem, parameters: Parameters) -> State:
        """Return running means of zero."""
        return {"mean": _zeros(parameters), "square": _zeros(parameters)}

    def update(
        self,
        problem: Problem,
        parameters: Parameters,
        state: State,
        starts: torch.Tensor,
        step: int,
    ) -> tuple[Parameters, State, torch.Tensor]:
        """Take one step."""
        losses, gradients = losses_and_gradients(problem, parameters, starts, step)
        mean, square, directions = {}, {}, {}
        for name, g in gradients.items():
            mean[name] = state["mean"][name].lerp(g, 1 - self.beta1)
            square[name] = self.beta2 * state["square"][name] + (1 - self.beta2) * g * g
            scale = (square[name] / (1 - self.beta2 ** (step + 1))).sqrt()
            unbiased = mean[name] / (1 - self.beta1 ** (step + 1))
            directions[name] = unbiased / (scale + self.epsilon)
        rates = self._rates(parameters, starts)
        moved, mapping = self._move(problem, parameters, directions, gradients, rates)
        return moved, {"mapping": mapping, "mean": mean, "square": square}, losses


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= real_number(name, value) < 1:
        raise InvalidValueError(f"{name} is {value!r}; give a number in [0, 1)")


def _zeros(parameters: Parameters) -> Parameters:
    return {name: torch.zeros_like(value) for name, value in parameters.items()}
