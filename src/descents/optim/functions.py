"""Problems made from functions of the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike

from descents.optim.problem import Bound, Parameters, Problem

SECONDS_AT_ONCE = 0.1
"""How long a problem may compute before it returns to check for an interrupt."""


class FunctionProblem(Problem):
    """A problem made from two functions of the user."""

    def __init__(
        self,
        losses: Callable[[Parameters, torch.Tensor, int], torch.Tensor],
        points: Callable[[np.random.Generator], Mapping[str, ArrayLike]],
        dtype: torch.dtype,
        size: int,
    ) -> None:
        self._losses, self._points, self.size = losses, points, size
        # The data in the user's closure has one dtype, so final losses use it too.
        self.dtype = self.evaluation_dtype = dtype

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, ArrayLike]:
        """Draw the initial point of one start by the user's function."""
        return self._points(generator)

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the losses that the user's function computes."""
        return self._losses(parameters, starts, step)

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return the functions bound to the starts of one chunk."""
        return _BoundFunctions(self, starts)


class _BoundFunctions(Bound):
    """Functions of the user, bound to starts."""

    def plain_steps(
        self, parameters: Parameters, step: int, rates: torch.Tensor, count: int
    ) -> tuple[int, Parameters, Parameters] | None:
        return several_plain_steps(self, parameters, step, rates, count)


def several_plain_steps(
    bound: Bound,
    parameters: Parameters,
    step: int,
    rates: torch.Tensor,
    count: int,
) -> tuple[int, Parameters, Parameters] | None:
    """Take several steps of plain gradient descent, as `Bound.plain_steps` does.

    The losses are checked once, after all steps. An interrupt, or the end of the time
    budget, is noticed only between calls, so a call takes about 0.1 seconds at most.
    """
    moved, gradients = parameters, parameters
    total = torch.zeros_like(rates)
    shaped = {n: rates.reshape(-1, *[1] * (p.ndim - 1)) for n, p in moved.items()}
    begun, taken = time.perf_counter(), 0
    while taken < count and time.perf_counter() - begun < SECONDS_AT_ONCE:
        losses, gradients = bound.losses_and_gradients(moved, step + taken)
        total += losses  # once non-finite, the sum stays non-finite
        moved = {n: p - shaped[n] * gradients[n] for n, p in moved.items()}
        taken += 1
    return (taken, moved, gradients) if bool(total.isfinite().all()) else None
