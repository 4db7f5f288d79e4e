"""Residuals of the best constants of a table: their size and their singular values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from descents.cells.base import ONCE, Cells
from descents.cells.complete import Complete
from descents.cells.distributed import Distributed
from descents.cells.streamed import WIDEST, Streamed
from descents.errors import InvalidValueError
from descents.factorization.initialization import (
    weighted_table,
)
from descents.linalg.spectra import leading_triples, shifted
from descents.losses import CustomLoss, Loss, Poisson
from descents.optim.collective import Collective
from descents.optim.problem import Problem


class Residuals(Problem):
    """Statistics of a table that initial points and default penalties use.

    Best constants are the best offsets of a model without factors.

    Attributes
    ----------
    cells : Cells
    together : Collective
        The processes that share the table.
    divided : tuple of str
        The parameters of which each process has some rows.
    rank : int
    offsets : {"none", "columns", "rows", "both"}
    l2_biases : float
    row_penalties, coordinate_counts : ndarray
        Multiply the penalties of each row and of each coordinate.
    """

    cells: Cells
    together: Collective
    divided: tuple[str, ...] = ("U", "row_biases")
    rank: int
    offsets: str
    l2_biases: float
    row_penalties: np.ndarray
    coordinate_counts: np.ndarray
    _base: np.ndarray | None
    _spectra: dict[str, Any]

    @property
    def has_offsets(self) -> bool:
        """Whether columns have offsets."""
        return self.offsets in ("columns", "both")

    @property
    def has_row_biases(self) -> bool:
        """Whether rows have biases."""
        return self.offsets in ("rows", "both")

    @property
    def base(self) -> np.ndarray:
        """The point from which the penalty of offsets measures, shape (coordinates,).

        If all columns are on one scale, it is the mean of the best constants, else the
        best constant of each column. It is 0 if offsets are free or there are no biases.
        """
        if self._base is not None:
            return self._base
        found = self.cells
        zero: np.ndarray = np.zeros(found.coordinates)
        penalized = self.has_row_biases or self.has_offsets
        if not penalized or (self.l2_biases == 0 and self.has_offsets):
            self._base = zero
        else:
            self._base = zero + self._mean_offset if self._one_scale else found.offsets
        return self._base

    @property
    def _one_scale(self) -> bool:
        """Whether all columns have the same unit and loss, with one coordinate each."""
        alike = self.cells.units is None and len(self.cells.blocks) == 1
        return alike and self.cells.blocks[0].each == 1

    @property
    def _mean_offset(self) -> float:
        found = self.cells
        weight = found.column_counts[found.coordinate_columns]
        return float(np.average(found.offsets, weights=weight))

    def spectrum(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return leading singular triples of the residuals, zero at missing cells.

        The singular values are divided by the share of observed cells and by their mean
        weight. They then estimate the singular values of the complete table.

        Returns
        -------
        left : ndarray of shape (rows, rank)
        values : ndarray of shape (rank,)
        right : ndarray of shape (coordinates, rank)
        """
        with ONCE:
            self._make_spectrum()
        found: tuple[np.ndarray, np.ndarray, np.ndarray] = self._spectra["spectrum"]
        return found

    def _make_spectrum(self) -> None:
        if "spectrum" not in self._spectra:
            share = self.cells.observed / math.prod(self.cells.whole_shape)
            share *= self.cells.mean_weight  # so that the size of weights has no effect
            if isinstance(self.cells, Streamed):
                left, values, right = self._streamed_triples(self.cells)
            else:
                left, values, right = leading_triples(
                    self._distances(self.cells.in_memory.raw_weights), self.rank
                )
            self._spectra["spectrum"] = left, values / share, right

    def take_spectrum(self, triples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Use the triples of `spectrum` of the same cells for a larger rank."""
        left, values, right = (part[..., : self.rank] for part in triples)
        self._spectra["spectrum"] = left, values, right

    def vanishing_l2(self) -> float:
        r"""Return the smallest l2 for both factors at which zero factors are stationary.

        For convex losses zero is then the minimum. With Z = U V^T, the smallest penalty
        of factors of Z is 2 l2 times the nuclear norm of Z. Therefore the value is the
        spectral norm of half the slopes at the best constants, with each row and column
        divided by the root of the multiplier of its penalty.

        Examples
        --------
        >>> from descents import Factorization
        >>> Factorization([[3.0, 0.0], [0.0, 1.0]], 1).vanishing_l2()
        3.0
        """
        from scipy.sparse import diags_array

        rest = self._rest()
        rows = 1 / np.sqrt(self.row_penalties)
        columns = 1 / np.sqrt(self.coordinate_counts)
        if isinstance(rest, np.ndarray):
            rest = rest * rows[:, None] * columns
        elif (rows != 1).any() or (columns != 1).any():
            rest = (diags_array(rows) @ rest @ diags_array(columns)).tocsr()
        return float(leading_triples(rest, 1)[1][0])

    def _streamed_triples(
        self, found: Streamed
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the leading triples of a table on disk, in two passes over it."""
        constant = found.offsets if self.has_offsets else self.base
        if isinstance(found, Distributed) and not found.has_triangle:
            values, right, _ = found.leading(constant, self.rank)
            return self._with_left(found, constant, values, right)
        if not found.has_triangle:
            raise InvalidValueError(
                f"a spectral start for {found.shape[1]} columns that are read in row "
                f"blocks needs more memory than {found.table.memory} bytes, or there are "
                f"more columns than supported ({WIDEST}); give initialization='normal' "
                "or 'uniform'"
            )
        _, values, right = leading_triples(found.triangle(constant), self.rank)
        return self._with_left(found, constant, values, right)

    @staticmethod
    def _with_left(
        found: Streamed, constant: np.ndarray, values: np.ndarray, right: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return triples, with the left vectors from a pass over the table."""
        left = found.times(constant, right)
        kept = values > np.finfo(np.float64).eps * values[0]
        return left * np.where(kept, 1 / np.where(kept, values, 1), 0), values, right

    def _rest(self) -> Any:
        """Return minus half the slopes at the best constants.

        For squared loss these are the residuals. Shape (rows, coordinates), of the same
        layout as the table.
        """
        found = self.cells.in_memory
        constant = found.offsets if self.has_offsets else self.base
        if isinstance(found, Complete):
            if not constant.any():
                return found.table
            if isinstance(found.table, np.ndarray):
                return found.table - constant
            return shifted(found.table, constant)
        if found.blocks[0].loss.divergence:
            # A divergence has no offsets, and its slope at zero does not depend on the data.
            return found.table if found.weights is None else weighted_table(found)
        left = torch.ones(found.shape[0], 1, dtype=torch.float64)
        right = torch.as_tensor(constant)[:, None]
        return found.slopes(left, right, torch.as_tensor(found.cuts)) * -0.5

    def _distances(self, weights: Any) -> Any:
        """Return `_rest`, with differences on the log scale for Poisson columns.

        The slope of Poisson loss is a difference of counts, but predictions are
        logarithms of counts.
        """
        found = self.cells.in_memory
        rest = self._with_residuals(self._rest(), weights)
        if not any(isinstance(block.loss, Poisson) for block in found.blocks):
            return rest
        constant = found.offsets if self.has_offsets else self.base
        if not isinstance(rest, np.ndarray):
            rest, weights = rest.copy(), found.weights
            z = constant[found.table.indices]
            target = torch.as_tensor(found.table.data.astype(np.float64))
            away = _away(found.blocks[0].loss, z, target)
            rest.data = away if weights is None else away * weights
            return rest
        for block in found.blocks:
            if isinstance(block.loss, Poisson):
                target = torch.as_tensor(found.table[:, block.columns])
                z = np.broadcast_to(constant[block.place], target.shape)
                weight = found.weights[:, block.columns]
                rest[:, block.place] = _away(block.loss, z, target) * weight
        return rest

    def _with_residuals(self, rest: Any, weights: Any) -> Any:
        """Return `_rest`, with weighted residuals for columns with custom losses.

        The slopes of a custom loss may have any size.
        """
        found = self.cells.in_memory
        if not any(isinstance(block.loss, CustomLoss) for block in found.blocks):
            return rest
        constant = found.offsets if self.has_offsets else self.base
        if not isinstance(rest, np.ndarray):
            rest = rest.copy()
            rest.data = found.table.data - constant[found.table.indices]
            rest.data = rest.data if weights is None else rest.data * weights
            return rest
        for block in found.blocks:
            if isinstance(block.loss, CustomLoss):
                left = found.table[:, block.columns] - constant[block.place]
                rest[:, block.place] = left * weights[:, block.columns]
        return rest

    def row_candidates(self) -> Any:
        """Return rows from which V may be initialized, shape (rows, coordinates), or None.

        None for sparse tables with missing cells or with offsets.
        """
        found = self.cells
        if "candidates" not in self._spectra:
            rest = self._distances(found.weights)
            if hasattr(rest, "tocsr"):
                rest = rest.tocsr() if isinstance(found, Complete) else None
            elif isinstance(rest, np.ndarray) and found.weights is not None:
                constant = found.offsets if self.has_offsets else self.base
                weights = found.weights[:, found.coordinate_columns]
                kept = weights > 0
                rest = np.where(
                    kept, rest / np.where(kept, weights, 1), found.offsets - constant
                )
            elif not isinstance(rest, np.ndarray):
                rest = None
            self._spectra["candidates"] = rest
        return self._spectra["candidates"]

    def spread(self) -> np.ndarray:
        """Return the typical size of predictions about the constants, (coordinates,).

        It is the root mean square residual of the best constants if predictions are on
        the scale of the data, else 1. Small values are raised.
        """
        left = self.root_mean_squares()
        typical = np.sqrt(np.square(left).mean())
        # A constant column must not begin at zero.
        floor = 1e-3 * typical if typical > 0 else 1.0
        return np.asarray(np.maximum(left, floor))

    def root_mean_squares(self) -> np.ndarray:
        """Return the root mean square residuals themselves, 0 for a constant column."""
        if "root mean squares" not in self._spectra:
            constant = self.cells.offsets if self.has_offsets else self.base
            self._spectra["root mean squares"] = self.cells.root_mean_squares(constant)
        found: np.ndarray = self._spectra["root mean squares"]
        return found


def _away(loss: Loss, z: np.ndarray, target: torch.Tensor) -> np.ndarray:
    """Return the step from a prediction to the minimum of the quadratic at it."""
    point = torch.tensor(z, dtype=target.dtype)
    found: np.ndarray = (loss.approximate(point, target, 0)[1] - point).numpy()
    return found
