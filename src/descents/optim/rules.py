"""The interface of update rules, and the result of one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch

from descents.optim.problem import Bound, Parameters

State = dict[str, Parameters]
"""The state of a rule between steps: groups of tensors, each of shape (S, ...)."""


class Update(NamedTuple):
    """The result of one update of a chunk of starts.

    Attributes
    ----------
    parameters : dict of Tensor
        The parameters after the update.
    state : dict of dict of Tensor
        The state of the rule after the update.
    losses : Tensor of shape (S,)
        The losses of the parameters before the update.
    mapping : mapping of Tensor
        The prox-gradient mapping before the update; without constraints, the gradient.
    gain : float64 Tensor of shape (S,), optional
        How much a step that uses the curvature could still lower each loss. If it is
        missing, the loop estimates it from the mapping and the curvature along it.
    scale : Tensor of shape (S,), optional
        The `gradient_tol` of a `Stop` is relative to this; by default to the loss.
    """

    parameters: Parameters
    state: State
    losses: torch.Tensor
    mapping: Mapping[str, torch.Tensor]
    gain: torch.Tensor | None = None
    scale: torch.Tensor | None = None


class UpdateRule(ABC):
    """An update rule over stacked parameters.

    A rule object has only settings. The state between steps is made by `init` and
    returned by `update`, so that a descent can be interrupted and resumed.
    A rule has to define `update`; the other methods have defaults.

    Attributes
    ----------
    capturable : bool
        Whether `update` can be captured in a CUDA graph: it consists of torch operations
        alone, reads no number, and accepts the step as a tensor. A derived class has to
        declare it again.
    distributed : bool
        Whether several processes can share a problem: all sums over parameters are those
        of `Bound.inner`. A derived class has to declare it again.

    Examples
    --------
    Steps along the sign of the gradient:

    >>> from descents import Problem, Stop, descend
    >>> class SignDescent(UpdateRule):
    ...     def update(self, bound, parameters, state, step):
    ...         losses, slopes = bound.losses_and_gradients(parameters, step)
    ...         moved = {n: p - 0.1 * slopes[n].sign() for n, p in parameters.items()}
    ...         return Update(moved, state, losses, slopes)
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: parameters["x"].square(),
    ...     lambda generator: {"x": 1.0},
    ... )
    >>> descend(bowl, 1, steps=SignDescent(), stop=Stop(10)).losses.round(12)
    array([0.])
    """

    capturable: ClassVar[bool] = False
    distributed: ClassVar[bool] = False

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        # An overridden update may do more than that of the base class.
        cls.capturable = vars(cls).get("capturable", False)
        cls.distributed = vars(cls).get("distributed", False)

    @property
    def kind(self) -> str:
        """The name of the rule; a rule that wraps another adds that one's name."""
        return type(self).__name__

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return the state before the first update; by default it is empty."""
        return {}

    @abstractmethod
    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""

    def check_starts(self, last: int) -> None:  # noqa: B027 - most rules take all
        """Raise if the rule lacks settings for a start; `last` is the largest number."""

    def unsettled(self, bound: Bound, step: int) -> bool:
        """Return whether the rule still changes the losses themselves between steps.

        While it does, no start is stopped because its loss no longer falls.
        """
        return False

    def mapping(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Mapping[str, torch.Tensor]:
        """Return the prox-gradient mapping alone, which may be cheaper than a step."""
        return self.update(bound, parameters, state, step).mapping

    def leap(
        self,
        bound: Bound,
        parameters: Parameters,
        step: int,
        count: int,
    ) -> tuple[int, Parameters, State] | None:
        """Take up to `count` steps at once; by default None, for one step at a time.

        Returns
        -------
        taken : int
            The number of steps taken; the results have the same bits as single steps.
        parameters : dict of Tensor
        state : dict
        """
        return None
