"""A factorization bound to the starts of one chunk, with its fast paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from descents.cells.streamed import Streamed
from descents.losses import CustomLoss
from descents.optim.functions import several_plain_steps
from descents.optim.problem import Bound, Parameters

if TYPE_CHECKING:
    from descents.factorization.factorization import Factorization


class BoundFactorization(Bound):
    """A factorization bound to starts, with its fast paths."""

    def __init__(self, problem: Factorization, starts: torch.Tensor) -> None:
        super().__init__(problem, starts)
        cells = problem.cells
        own = any(isinstance(block.loss, CustomLoss) for block in cells.blocks)
        self._capturable = not isinstance(cells, Streamed) and not own

    def plain_steps(
        self, parameters: Parameters, step: int, rates: torch.Tensor, count: int
    ) -> tuple[int, Parameters, Parameters] | None:
        """Take several steps of gradient descent, or return None if they need autograd."""
        if self.fused(parameters, step) is None:
            return None
        return several_plain_steps(self, parameters, step, rates, count)

    def graph_inputs(self, step: int) -> Parameters | None:
        """Return the per-step inputs: none, or None if steps cannot be captured."""
        return {} if self._capturable else None
