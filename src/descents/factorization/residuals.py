"""What the best constants of a table leave: residuals, their size and their spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from descents.cells.base import ONCE, Cells
from descents.cells.complete import Complete
from descents.cells.streamed import WIDEST, Streamed
from descents.errors import InvalidValueError
from descents.factorization.initialization import (
    weighted_table,
)
from descents.linalg.spectra import leading_triples, shifted
from descents.losses import CustomLoss, Loss, Poisson
from descents.optim.problem import Problem


class Residuals(Problem):
    """What a factorization knows of its table before it begins.

    Attributes
    ----------
    cells : Cells
    rank : int
    offsets : {"none", "columns", "rows", "both"}
    l2_biases : float
    row_penalties, coordinate_counts : ndarray
        What the penalties of each row and coordinate are multiplied by.
    """

    cells: Cells
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
        """What penalised biases deviate from, shape (coordinates,).

        The best constant of the whole table where all of it is on one scale, else that
        of each column; 0 where biases are not penalised.
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
        """Whether all columns have one loss, of one number a cell, and one unit."""
        alike = self.cells.units is None and len(self.cells.blocks) == 1
        return alike and self.cells.blocks[0].each == 1

    @property
    def _mean_offset(self) -> float:
        found = self.cells
        weight = found.column_counts[found.coordinate_columns]
        return float(np.average(found.offsets, weights=weight))

    def spectrum(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return leading singular triples of what the constants leave, holes at zero.

        The values are divided by the share of cells that are data, and by their mean
        weight, so that they estimate those of the whole table.

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
            share = self.cells.observed / (self.cells.shape[0] * self.cells.shape[1])
            share *= self.cells.mean_weight  # the same for weights of any size
            if isinstance(self.cells, Streamed):
                left, values, right = self._streamed_triples(self.cells)
            else:
                left, values, right = leading_triples(
                    self._distances(self.cells.in_memory.raw_weights), self.rank
                )
            self._spectra["spectrum"] = left, values / share, right

    def take_spectrum(self, triples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Take the first of what `spectrum` gave of the same cells for a larger rank."""
        left, values, right = (part[..., : self.rank] for part in triples)
        self._spectra["spectrum"] = left, values, right

    def vanishing_l2(self) -> float:
        r"""Return the least l2 on both factors under which zero factors are stationary.

        Where the loss is convex they are then the minimum: with Z = U V^T the penalty
        is at least 2 l2 times the nuclear norm, so that it is the spectral norm of half
        the slopes at the best constants, each row and column over the root of what its
        penalty is multiplied by.

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
        """Return the leading triples of a table on disk, from two readings."""
        if not found.has_triangle:
            raise InvalidValueError(
                f"a spectral start of {found.shape[1]} columns that are read by blocks "
                f"of rows takes more memory than {found.table.memory} bytes, or more "
                f"columns than are looked at ({WIDEST}); give initialization='normal' "
                "or 'uniform'"
            )
        constant = found.offsets if self.has_offsets else self.base
        _, values, right = leading_triples(found.triangle(constant), self.rank)
        left = found.times(constant, right)
        kept = values > np.finfo(np.float64).eps * values[0]
        return left * np.where(kept, 1 / np.where(kept, values, 1), 0), values, right

    def _rest(self) -> Any:
        """Return minus half the slopes at the best constants: residuals, if squared."""
        found = self.cells.in_memory
        constant = found.offsets if self.has_offsets else self.base
        if isinstance(found, Complete):
            if not constant.any():
                return found.table
            if isinstance(found.table, np.ndarray):
                return found.table - constant
            return shifted(found.table, constant)
        if found.blocks[0].loss.divergence:
            # Its slope at zero is the same for every count. It has no offsets.
            return found.table if found.weights is None else weighted_table(found)
        left = torch.ones(found.shape[0], 1, dtype=torch.float64)
        right = torch.as_tensor(constant)[:, None]
        return found.slopes(left, right, torch.as_tensor(found.cuts)) * -0.5

    def _distances(self, weights: Any) -> Any:
        """Return `_rest`, with logarithms where predictions are logarithms of means.

        The slope of Poisson loss is a difference of counts, which as a prediction would
        be raised to the power of e.
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
        """Return `_rest` with weighted residuals for losses of the user's.

        Their slopes are of no known size, whatever the size of the numbers is.
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
        """Return the rows of the table as V may begin with them, or None.

        Of sparse tables with holes, or with offsets, there are none.
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
        """Return the typical size of predictions about the constants, one a coordinate.

        The root mean square of what the best constants leave where predictions are on
        the scale of the data, else 1.
        """
        left = self.deviations()
        typical = np.sqrt(np.square(left).mean())
        # A constant column is not to begin at zero.
        floor = 1e-3 * typical if typical > 0 else 1.0
        return np.asarray(np.maximum(left, floor))

    def deviations(self) -> np.ndarray:
        """Return the same as it is: next to nothing for a constant column."""
        if "deviations" not in self._spectra:
            constant = self.cells.offsets if self.has_offsets else self.base
            self._spectra["deviations"] = self.cells.root_mean_squares(constant)
        found: np.ndarray = self._spectra["deviations"]
        return found


def _away(loss: Loss, z: np.ndarray, target: torch.Tensor) -> np.ndarray:
    """Return how far the minimum of a quadratic about a prediction is from it."""
    point = torch.tensor(z, dtype=target.dtype)
    found: np.ndarray = (loss.approximate(point, target, 0)[1] - point).numpy()
    return found
