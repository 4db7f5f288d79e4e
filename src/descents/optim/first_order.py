"""The update rules that use gradients alone, for every kind of problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.devices import constant
from descents.errors import InvalidValueError
from descents.optim.problem import Bound, Parameters
from descents.optim.rules import State, Update, UpdateRule
from descents.text import counted
from descents.validation import real_number


@dataclass(frozen=True)
class _FirstOrder(UpdateRule):
    """Base of the rules that follow one gradient: learning rates and the prox."""

    learning_rate: float | Sequence[float] = 0.01

    def __post_init__(self) -> None:
        rates = self.learning_rate
        if not isinstance(rates, float | int) and np.ndim(rates):
            checked = tuple(
                real_number("a learning rate", rate, 0, strict=True) for rate in rates
            )
            if not checked:
                raise InvalidValueError(
                    "learning_rate is empty; give a rate for each start"
                )
            object.__setattr__(self, "learning_rate", checked)
            object.__setattr__(self, "_cache", {})
        else:
            rate = real_number("learning_rate", rates, 0, strict=True)
            object.__setattr__(self, "learning_rate", rate)

    def check_starts(self, last: int) -> None:
        """Raise if there are fewer rates than starts."""
        count = len(self.learning_rate) if isinstance(self.learning_rate, tuple) else 0
        if 0 < count <= last:
            raise InvalidValueError(
                f"learning_rate has {counted(count, 'rate')}, but start {last} is "
                "requested; give a rate for each start"
            )

    def _rates(self, parameters: Parameters, starts: torch.Tensor) -> Parameters:
        """Return the rate of each start, shaped to multiply each parameter."""
        if isinstance(self.learning_rate, float):  # one rate for all starts
            return {
                name: constant(self.learning_rate, value.dtype, value.device)
                for name, value in parameters.items()
            }
        cache: dict[torch.device, torch.Tensor] = vars(self)["_cache"]
        if starts.device not in cache:
            with torch.inference_mode(False):  # the cache outlives the caller's mode
                cache[starts.device] = torch.tensor(
                    self.learning_rate, dtype=torch.float64, device=starts.device
                )
        rates = cache[starts.device][starts]
        return {
            name: rates.to(value).reshape(-1, *[1] * (value.ndim - 1))
            for name, value in parameters.items()
        }

    def _move(
        self,
        bound: Bound,
        parameters: Parameters,
        directions: Parameters,
        gradients: Parameters,
        scales: Parameters | None = None,
    ) -> tuple[Parameters, Parameters]:
        """Return prox(x - rate * scale * direction), and the prox-gradient mapping.

        The prox-gradient mapping is (x - prox(x - rate g)) / rate, which without
        constraints is the gradient g. `scales` multiply the rate of each entry, as in
        Adam; the prox of the step uses the scaled rates, that of the mapping does not.
        """
        if not bound.constrained and isinstance(self.learning_rate, float):
            rate = self.learning_rate
            return _plain_move(parameters, directions, scales, rate), gradients
        rates = self._rates(parameters, bound.starts)
        used = rates if scales is None else {n: r * scales[n] for n, r in rates.items()}
        moved = {n: p - used[n] * directions[n] for n, p in parameters.items()}
        if not bound.constrained:
            return moved, gradients
        plain = bound.prox(  # prox(x - rate g)
            {n: p - rates[n] * gradients[n] for n, p in parameters.items()}, rates
        )
        mapping = {n: (p - plain[n]) / rates[n] for n, p in parameters.items()}
        return bound.prox(moved, used), mapping


@dataclass(frozen=True)
class GradientDescent(_FirstOrder):
    """Plain gradient descent: x <- x - rate * gradient.

    Parameters
    ----------
    learning_rate : float or sequence of float
        Above 0: one rate for all starts, or rate k for start k.

    Examples
    --------
    Two rates for two starts of (x - 1)^2; the second is the exact step:

    >>> from descents import Problem, descend, Stop
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: (parameters["x"] - 1).square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> descend(bowl, 2, steps=GradientDescent([0.25, 0.5]), stop=Stop(1)).losses
    array([0.25, 0.  ])
    """

    capturable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        losses, gradients = bound.losses_and_gradients(parameters, step)
        moved, mapping = self._move(bound, parameters, gradients, gradients)
        return Update(moved, {}, losses, mapping)

    def leap(
        self,
        bound: Bound,
        parameters: Parameters,
        step: int,
        count: int,
    ) -> tuple[int, Parameters, State] | None:
        """Take up to `count` steps at once if the problem can, with the same bits.

        Returns
        -------
        taken : int
        parameters : dict of Tensor
        state : dict
        """
        if type(self) is not GradientDescent or bound.constrained:
            return None
        rates = next(iter(self._rates(parameters, bound.starts).values())).reshape(-1)
        rates = rates.expand(len(bound.starts)).contiguous()
        steps = bound.plain_steps(parameters, step, rates, count)
        if steps is None:
            return None
        taken, moved, _ = steps
        return taken, moved, {}


@dataclass(frozen=True)
class Momentum(_FirstOrder):
    """Gradient descent with momentum: v <- momentum * v + gradient; x <- x - rate * v.

    Parameters
    ----------
    learning_rate : float or sequence of float
    momentum : float
        From 0 to below 1.
    nesterov : bool
        Step along gradient + momentum * v instead of v (Sutskever et al., 2013, ICML, in
        the form of torch.optim.SGD).

    Examples
    --------
    >>> Momentum(0.1)
    Momentum(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    momentum: float = 0.9
    nesterov: bool = False
    capturable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("momentum", self.momentum)

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return a velocity of zero."""
        return {"velocity": _zeros(parameters)}

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        losses, gradients = bound.losses_and_gradients(parameters, step)
        g = list(gradients.values())
        v = _times([state["velocity"][n] for n in gradients], self.momentum)
        torch._foreach_add_(v, g)  # v = momentum * v + g
        velocity = directions = dict(zip(gradients, v, strict=True))
        if self.nesterov:  # g + momentum * v
            ahead = _times(v, self.momentum)
            torch._foreach_add_(ahead, g)
            directions = dict(zip(gradients, ahead, strict=True))
        moved, mapping = self._move(bound, parameters, directions, gradients)
        return Update(moved, {"velocity": velocity}, losses, mapping)


@dataclass(frozen=True)
class Adam(_FirstOrder):
    """Adam [1]_: x <- x - rate * m' / (sqrt(s') + epsilon).

    m and s are running means of the gradient and of its square. They begin at zero; m'
    and s' are m and s with this bias corrected, m / (1 - beta1^t) and s / (1 - beta2^t)
    after t steps.

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
    capturable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        real_number("epsilon", self.epsilon, 0, strict=True)

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return running means of zero."""
        return {"mean": _zeros(parameters), "square": _zeros(parameters)}

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        losses, gradients = bound.losses_and_gradients(parameters, step)
        # One call for all parameters: for small ones, the calls take most of the time.
        g = list(gradients.values())
        m = torch._foreach_lerp(  # beta1 m + (1 - beta1) g
            [state["mean"][name] for name in gradients], g, 1 - self.beta1
        )
        # s = beta2 s + (1 - beta2) g^2
        s = _times([state["square"][name] for name in gradients], self.beta2)
        squares = _times(g, 1 - self.beta2)
        torch._foreach_mul_(squares, g)
        torch._foreach_add_(s, squares)
        # scale = 1 / (sqrt(s') + epsilon)
        scale = _over(s, 1 - self.beta2 ** (step + 1))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, self.epsilon)
        torch._foreach_reciprocal_(scale)
        ahead = _over(m, 1 - self.beta1 ** (step + 1))  # m'
        mean, square, directions, scales = (
            dict(zip(gradients, tensors, strict=True))
            for tensors in (m, s, ahead, scale)
        )
        moved, mapping = self._move(bound, parameters, directions, gradients, scales)
        return Update(moved, {"mean": mean, "square": square}, losses, mapping)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay [1]_: x <- (1 - rate * weight_decay) x, then Adam.

    Only parameters that the problem declares to be weights decay (`Bound.decays`).

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon
        As `Adam` takes them.
    weight_decay : float
        At least 0.

    References
    ----------
    .. [1] Loshchilov and Hutter (2019), "Decoupled weight decay regularization", ICLR.

    Examples
    --------
    >>> AdamW(0.1).weight_decay
    0.01
    """

    weight_decay: float = 0.01
    capturable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        real_number("weight_decay", self.weight_decay, 0)

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        update = super().update(bound, parameters, state, step)
        rates = self._rates(parameters, bound.starts)
        shrunk = {
            name: value - rates[name] * self.weight_decay * parameters[name]
            if bound.decays(name)
            else value
            for name, value in update.parameters.items()
        }
        return update._replace(parameters=shrunk)


def _plain_move(
    parameters: Parameters,
    directions: Parameters,
    scales: Parameters | None,
    rate: float,
) -> Parameters:
    """Return the step for one rate and no constraints, by fewer calls of torch."""
    along = [directions[name] for name in parameters]
    if scales is None:
        moves = _times(along, rate)
    else:
        used = [scales[name] for name in parameters]
        moves = _times(used, rate)
        torch._foreach_mul_(moves, along)
    moved = torch._foreach_sub(list(parameters.values()), moves)
    return dict(zip(parameters, moved, strict=True))


def _times(values: Sequence[torch.Tensor], factor: float) -> list[torch.Tensor]:
    """Return each tensor times a number."""
    number = _number(factor, values[0])
    return list(torch._foreach_mul(list(values), number))


def _number(value: float, like: torch.Tensor) -> float | torch.Tensor:
    """Return a number as a cached tensor on a CPU: for small tensors, twice as fast."""
    if like.device.type != "cpu":
        return value
    key = value, like.dtype
    if key not in _numbers:
        _numbers[key] = constant(value, like.dtype, like.device)
    return _numbers[key]


_numbers: dict[tuple[float, torch.dtype], torch.Tensor] = {}
"""The cache of `_number`."""


def _over(
    values: Sequence[torch.Tensor], divisor: float | torch.Tensor
) -> list[torch.Tensor]:
    """Return each tensor over a number, which is a tensor in a CUDA graph."""
    if isinstance(divisor, torch.Tensor):
        return [value / divisor for value in values]
    return list(torch._foreach_div(list(values), divisor))


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= real_number(name, value) < 1:
        raise InvalidValueError(f"{name} is {value!r}; give a number in [0, 1)")


def _zeros(parameters: Parameters) -> Parameters:
    return {name: torch.zeros_like(value) for name, value in parameters.items()}
