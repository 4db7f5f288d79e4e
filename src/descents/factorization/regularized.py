"""The penalties and constraints of a factorization: values, gradients and prox."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from descents.constraints.constraints import (
    Regularizer,
    counted,
)
from descents.factorization.residuals import Residuals
from descents.optim.collective import ALONE
from descents.optim.problem import Parameters


class Regularized(Residuals):
    """A factorization with its penalties and constraints.

    Attributes
    ----------
    row_regularizer, column_regularizer : Regularizer
        The penalties and constraint of U, and those of V.
    count_power : float
        The penalties of a row are multiplied by this power of its number of cells.
    strength : ndarray
        Multiplies the penalties of the factors of each start.
    """

    row_regularizer: Regularizer
    column_regularizer: Regularizer
    count_power: float
    strength: np.ndarray
    _fixed: Parameters
    _kept: dict[Any, tuple[tuple[np.ndarray, ...], torch.Tensor]]

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the multipliers of the penalties, shapes (rows,) and (coordinates,)."""
        rows = counted(self.cells.row_counts, self.count_power)
        columns = counted(self.cells.column_counts, self.count_power)
        return rows, columns[self.cells.coordinate_columns]

    def _held(self, name: str, like: torch.Tensor, *arrays: np.ndarray) -> torch.Tensor:
        """Return the product of arrays as a tensor, cached until an array is replaced."""
        key = name, like.dtype, like.device
        known, found = self._kept.get(key, ((), like))
        if len(known) == 0 or any(
            old is not new for old, new in zip(known, arrays, strict=True)
        ):
            with torch.inference_mode(
                False
            ):  # it may be used outside of the caller's mode
                found = torch.as_tensor(math.prod(arrays)).to(like)
            self._kept[key] = arrays, found
        return found

    def _add_penalty_slopes(
        self, gradients: Parameters, parameters: Parameters
    ) -> None:
        """Add the gradients of the l2 penalties, 2 l2 c x, in place."""
        for name, counts, asked in self._sides():
            if asked.l2 and name in parameters:
                weight = self._held(name, parameters[name], counts, self.strength)
                slope = weight[..., None] * parameters[name]
                gradients[name] = gradients[name] + 2 * asked.l2 * slope
        for name, counts in (
            ("row_biases", self.row_penalties),
            ("offsets", self.coordinate_counts),
        ):
            if self.l2_biases and name in parameters:
                weight = self._held(name, parameters[name], counts)
                slope = weight * parameters[name]
                gradients[name] = gradients[name] + 2 * self.l2_biases * slope

    def penalized(self, losses: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Return the losses plus penalties, shape (S,).

        The l1 penalties are added without a gradient, because `prox` applies them.
        """
        for name, counts, asked in self._sides():
            if name in self._fixed:
                continue
            if asked.l2 or asked.l1:
                weight = self._held(name, parameters[name], counts, self.strength)
            if asked.l2:
                ridge = asked.ridge(parameters[name], weight)
                losses = losses + self._over_all(name, ridge)
            if asked.smoothness:
                losses = losses + asked.roughness(parameters[name])
            if asked.l1:
                with torch.no_grad():
                    lasso = asked.lasso(parameters[name], weight)
                losses = losses + self._over_all(name, lasso)
        if self.l2_biases:
            for name, counts in (
                ("row_biases", self.row_penalties),
                ("offsets", self.coordinate_counts),
            ):
                if name in parameters and name not in self._fixed:
                    weight = self._held(name, parameters[name], counts)
                    square = (parameters[name].square() * weight).sum(-1)
                    square = self._over_all(name, square)
                    losses = losses + self.l2_biases * square
        return losses

    def _over_all(self, name: str, part: torch.Tensor) -> torch.Tensor:
        """Return the sum over all rows of a parameter, those of all processes."""
        return self.together.sum(part) if name in self.divided else part

    def own_losses(self, parameters: Parameters) -> torch.Tensor:
        """Return the losses of the rows of this process, with their penalties.

        The first process has the other penalties, so that the losses of all processes sum
        up to those of the problem. Autograd can differentiate them.
        """
        other = copy.copy(self)
        other.together, other.cells = ALONE, self.cells.alone()
        if self.together.rank:
            other.coordinate_counts = np.zeros_like(self.coordinate_counts)
            regularizer = self.column_regularizer
            other.column_regularizer = replace(regularizer, smoothness=0.0)
        starts = torch.arange(len(next(iter(parameters.values()))))
        return other.losses(parameters, starts, 0)

    def _sides(self) -> tuple[tuple[str, np.ndarray, Regularizer], ...]:
        return (
            ("U", self.row_penalties, self.row_regularizer),
            ("V", self.coordinate_counts, self.column_regularizer),
        )

    def prox(self, parameters: Parameters, rates: Parameters) -> Parameters:
        """Return the prox of the l1 penalty and the constraint set of each factor."""
        moved = dict(parameters)
        for name, counts, asked in self._sides():
            if name in self._fixed:
                continue
            weight: Any = 1.0
            if asked.l1:
                weight = self._held(name, parameters[name], counts, self.strength)
                weight = weight[..., None]
            moved[name] = asked.prox(parameters[name], rates[name], weight)
        return moved
