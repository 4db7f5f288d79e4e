"""The cells of a table that are data, and what a fit asks of them.

A model's natural parameters are Z = L R^T, for factors L of shape (rows, q) and R of
shape (coordinates, q) that hold offsets and biases as columns beside a column of ones.
The layouts that answer are in `descents.cells.layouts`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch

from descents.losses import Loss

Side = Literal["rows", "columns"]
ONCE = threading.RLock()
"""Held while something is made that several threads ask for."""


@dataclass(frozen=True)
class Block:
    """Columns of one loss, whose coordinates and cut points lie side by side.

    Attributes
    ----------
    loss : Loss
    columns : int64 ndarray of shape (J,)
        Their places in the table.
    levels : int
        How many levels each has; 0 where the loss asks for none.
    first, first_cut : int
        Where their coordinates, and their cut points, begin.
    """

    loss: Loss
    columns: np.ndarray
    levels: int
    first: int
    first_cut: int

    @property
    def each(self) -> int:
        """How many coordinates a column has."""
        return self.loss.coordinates(self.levels)

    @property
    def place(self) -> slice:
        """Where its coordinates are."""
        return slice(self.first, self.first + self.each * len(self.columns))

    @property
    def cut_place(self) -> slice:
        """Where its cut points are."""
        count = self.loss.thresholds(self.levels) * len(self.columns)
        return slice(self.first_cut, self.first_cut + count)

    def predictions(self, coordinates: Any) -> Any:
        """Return the block's part of (..., coordinates), a column an entry."""
        part = coordinates[..., self.place]
        if self.each == 1:
            return part
        return part.reshape(*part.shape[:-1], len(self.columns), self.each)

    def cuts(self, cuts: Any) -> dict[str, Any]:
        """Return the block's part of (..., cut points) as a keyword."""
        count = self.loss.thresholds(self.levels)
        if not count:
            return {}
        part = cuts[..., self.cut_place]
        return {"cuts": part.reshape(*part.shape[:-1], len(self.columns), count)}


class Look(NamedTuple):
    """A quadratic above the loss at one point: sum w (t - Z)^2 + constant.

    Weights of None stand for one on every cell; then the table times the factor of the
    columns is kept, where it was computed.
    """

    losses: torch.Tensor | None
    weights: torch.Tensor | None
    targets: torch.Tensor | None
    predictions: torch.Tensor | None
    product: torch.Tensor | None = None


class Cells(ABC):
    """What a fit asks of its data.

    Attributes
    ----------
    table : ndarray or sparse array
        The data, with zeros at the missing cells of a dense one, each column over its
        unit.
    given : ndarray or sparse array
        The same in the units that the table came in.
    weights : ndarray or None
        The weight of each cell (of each entry of a sparse table), zero at holes; None
        where all are one.
    scales : ndarray of shape (columns,) or None
        What the weights of each column were multiplied by.
    complete : bool
        Whether every cell is data, of weight one and one loss.
    units : float64 ndarray of shape (columns,) or None
        What each column was divided by; None where the table is as it was given.
        Everything that a problem works with is in these units: predictions, offsets,
        factors, penalties, the widths of losses.
    shape : tuple of int
        Rows and columns of the table.
    blocks : tuple of Block
    coordinates : int
        How many natural parameters a row has.
    cut_count : int
    row_counts, column_counts : float64 ndarray
        How many cells of each row and column are data.
    offsets : float64 ndarray of shape (coordinates,)
        The natural parameters of the best constant of each column.
    cuts : float64 ndarray of shape (cut_count,)
        The cut points that go with them.
    size : int
        How many numbers one start keeps in its largest tensor, for rank 1.
    """

    table: Any
    weights: Any = None
    shape: tuple[int, int]
    blocks: tuple[Block, ...]
    coordinates: int
    cut_count: int
    row_counts: np.ndarray
    column_counts: np.ndarray
    offsets: np.ndarray
    cuts: np.ndarray
    size: int
    scales: np.ndarray | None = None
    units: np.ndarray | None = None
    complete: bool = False

    _cache: dict[Any, dict[str, Any]]
    _given: Any = None

    @property
    def given(self) -> Any:  # noqa: D102 - among the attributes
        return self.table if self._given is None else self._given

    def in_units_of(self, other: Cells) -> Self:
        """Say that these cells are in the units of others, and weighted by their scales."""
        self.scales, self.units, self._given = other.scales, other.units, other._given
        return self

    @property
    def coordinate_units(self) -> np.ndarray:
        """What the predictions of each coordinate are multiplied by: units, or 1."""
        if self.units is None:
            return np.ones(self.coordinates)
        return np.asarray(self.units[self.coordinate_columns])

    @property
    def losses_of_columns(self) -> list[Loss]:
        """The loss of each column, in the table's order."""
        found: list[Any] = [None] * self.shape[1]
        for block in self.blocks:
            for place, column in enumerate(block.columns):
                found[column] = block.loss.column(place)
        return found

    @property
    def one_loss(self) -> Loss | None:
        """The loss of all columns, or None where they differ."""
        return self.blocks[0].loss if len(self.blocks) == 1 else None

    @property
    def square(self) -> float:
        """The sum of the squares of the data."""
        data = self.table.data if hasattr(self.table, "tocsr") else self.table
        return float(np.square(data, dtype=np.float64).sum())

    @property
    def loss_of_zero(self) -> float:
        """About what a loss costs that predicts zero: rounding is a tiny share of that.

        The sum of squares under squared loss, of absolute values under others; 0 where
        a loss is the user's, whose size is not known.
        """
        if all(block.loss.quadratic for block in self.blocks):
            return self.square
        if any(block.loss.name == "own" for block in self.blocks):
            return 0.0
        data = self.table.data if hasattr(self.table, "tocsr") else self.table
        return float(np.abs(data).sum(dtype=np.float64))

    @property
    def observed(self) -> int:
        """How many cells are data."""
        return int(self.row_counts.sum())

    @property
    def mean_weight(self) -> float:
        """The mean weight of the cells that are data, without that of their columns."""
        weights = self.raw_weights
        total = 0.0 if weights is None else float(weights.sum())
        return total / self.observed if total > 0 else 1.0

    @property
    def raw_weights(self) -> Any:
        """The weights without what those of columns were multiplied by."""
        if self.weights is None or self.scales is None:
            return self.weights
        return self.weights / self.scales

    @property
    def majorized(self) -> bool:
        """Whether every loss has a quadratic above it."""
        return all(block.loss.majorized for block in self.blocks)

    @property
    def smooth(self) -> bool:
        """Whether every loss has a continuous gradient."""
        return all(block.loss.smooth for block in self.blocks)

    @property
    def coordinate_columns(self) -> np.ndarray:
        """The column of each coordinate."""
        return np.concatenate([np.repeat(b.columns, b.each) for b in self.blocks])

    def constants_loss(self) -> float:
        """Return the loss of the best constant of each column."""
        if "constants" not in self._cache:
            left = torch.ones(1, self.shape[0], 1, dtype=torch.float64)
            right = torch.as_tensor(self.offsets)[None, :, None]
            cuts = torch.as_tensor(self.cuts)[None]
            with torch.no_grad():
                loss = float(self.losses(left, right, cuts))
            self._cache["constants"] = {"loss": loss}
        return float(self._cache["constants"]["loss"])

    def _held(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        key = (dtype, device)
        if key not in self._cache:
            # For all chunks that go side by side; and it outlives the caller's mode.
            with ONCE, torch.inference_mode(False):
                if key not in self._cache:
                    self._cache[key] = self._hold(dtype, device)
        return self._cache[key]

    @abstractmethod
    def _hold(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        """Return the data in one precision on one device."""

    @abstractmethod
    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed loss of each start, for autograd to differentiate.

        Parameters
        ----------
        left : Tensor of shape (S, rows, q)
        right : Tensor of shape (S, coordinates, q)
        cuts : Tensor of shape (S, cut_count)

        Returns
        -------
        Tensor of shape (S,)
        """

    @abstractmethod
    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Look:
        """Return the losses, and a quadratic above them that touches at this point."""

    def squares(
        self, predictions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the losses of predictions and their slopes, where all are squared.

        None where a loss is not squared error, or no predictions of all cells are made.

        Parameters
        ----------
        predictions : Tensor of shape (S, rows, coordinates)

        Returns
        -------
        losses : Tensor of shape (S,)
        slopes : Tensor of shape (S, rows, coordinates)
            The derivative of the losses by the predictions.
        """
        return None

    def quadratic(self, dtype: torch.dtype, device: torch.device) -> Look | None:
        """Return the quadratic that is the loss itself, if it is one: without losses.

        Its weights and targets are the same wherever it is taken.
        """
        if not all(block.loss.quadratic for block in self.blocks):
            return None
        return self._quadratic(self._held(dtype, device))

    @abstractmethod
    def _quadratic(self, held: dict[str, Any]) -> Look:
        """Return the weights and targets of squared loss."""

    @abstractmethod
    def normal(
        self, look: Look, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normal equations G x = r of every row of one side.

        Parameters
        ----------
        look : Look
        side : {"rows", "columns"}
        other : Tensor
            The factor of the other side.

        Returns
        -------
        gram : Tensor of shape (S, rows, q, q), or (S, 1, q, q) where all rows share it
        right : Tensor of shape (S, rows, q)
        """

    @abstractmethod
    def descent(self, look: Look, left: torch.Tensor, right: torch.Tensor) -> Any:
        """Return minus the derivative of the loss by R, shape (S, coordinates, q)."""

    @abstractmethod
    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sum w n v and sum w p v of every row, for multiplicative steps.

        n and p are the parts of the slope of a divergence: x / z and 1 for kl.
        """

    @abstractmethod
    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> Any:
        """Return the derivative of the loss by each prediction of one start.

        Parameters
        ----------
        left : Tensor of shape (rows, q)
        right : Tensor of shape (coordinates, q)
        cuts : Tensor of shape (cut_count,)

        Returns
        -------
        ndarray or sparse array of shape (rows, coordinates), zero at holes
        """

    @abstractmethod
    def each(self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor) -> Any:
        """Return the loss of each cell of one start, without its weight.

        Returns
        -------
        ndarray of shape (rows, columns), NaN at holes, or ndarray of shape (entries,)
        for the stored entries of a sparse table
        """

    @abstractmethod
    def conjugates(self, slopes: Any) -> float:
        """Return sum w f*(g / w), the conjugate of the summed loss at such slopes."""
