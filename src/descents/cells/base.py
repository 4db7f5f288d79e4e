"""The cells of a table that are data, and what a fit computes from them.

A model predicts natural parameters Z = L R^T. L has shape (rows, q) and R has shape
(coordinates, q); offsets and biases are columns of these factors, opposite a column of
ones. `Cells` is what every table offers, also one on disk. `CellsInMemory` adds what only
a table in memory offers, for example the steps that visit cells in any order.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
import torch

from descents.losses import Loss

Side = Literal["rows", "columns"]
Key = tuple[torch.dtype, torch.device]
Tensors = TypeVar("Tensors")
Array = TypeVar("Array", np.ndarray, torch.Tensor)
ONCE = threading.RLock()
"""Lock for results that several threads request, but that are computed once."""


@dataclass(frozen=True)
class Block:
    """Columns with one loss, whose coordinates and cut points are adjacent.

    Attributes
    ----------
    loss : Loss
    columns : int64 ndarray of shape (J,)
        Their positions in the table.
    levels : int
        The number of levels of each column; 0 if the loss does not need it.
    first, first_cut : int
        The position of their first coordinate, and of their first cut point.
    """

    loss: Loss
    columns: np.ndarray
    levels: int
    first: int
    first_cut: int

    @property
    def each(self) -> int:
        """The number of coordinates of a column."""
        return self.loss.coordinates(self.levels)

    @property
    def place(self) -> slice:
        """The positions of the coordinates."""
        return slice(self.first, self.first + self.each * len(self.columns))

    @property
    def cut_place(self) -> slice:
        """The positions of the cut points."""
        count = self.loss.thresholds(self.levels) * len(self.columns)
        return slice(self.first_cut, self.first_cut + count)

    def predictions(self, coordinates: Array) -> Array:
        """Return the block's part of (..., coordinates), as the loss takes it.

        The shape is (..., J), or (..., J, each) if a column has several coordinates.
        """
        part = coordinates[..., self.place]
        if self.each == 1:
            return part
        return part.reshape(*part.shape[:-1], len(self.columns), self.each)

    def cuts(self, cuts: Array) -> dict[str, Array]:
        """Return the block's part of (..., cut points) as keyword arguments."""
        count = self.loss.thresholds(self.levels)
        if not count:
            return {}
        part = cuts[..., self.cut_place]
        return {"cuts": part.reshape(*part.shape[:-1], len(self.columns), count)}


class Quadratic(NamedTuple):
    """A quadratic above the loss that touches it at one point: sum w (t - Z)^2 + constant.

    Attributes
    ----------
    losses : Tensor of shape (S,), or None if they were not computed
    weights : Tensor or None
        w, or None if all are 1.
    targets : Tensor or None
        t, or None if they are the table.
    predictions : Tensor or None
        Z at the point, if it was computed.
    product : Tensor or None
        The table times the factor of the columns, if all weights are 1 and it was
        computed.
    """

    losses: torch.Tensor | None
    weights: torch.Tensor | None
    targets: torch.Tensor | None
    predictions: torch.Tensor | None
    product: torch.Tensor | None = None


class Cells(ABC):
    """The observed cells of a table under their losses, in memory or on disk.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the table.
    blocks : tuple of Block
    coordinates : int
        The number of natural parameters of a row.
    cut_count : int
        The number of cut points of all columns.
    row_counts, column_counts : float64 ndarray
        The number of observed cells of each row and column.
    offsets : float64 ndarray of shape (coordinates,)
        The natural parameters of the best constant of each column.
    cuts : float64 ndarray of shape (cut_count,)
        The cut points that belong to them.
    size : int
        The number of elements of the largest tensor that a start needs, for rank 1.
    complete : bool
        Whether every cell is observed and has weight 1, and there is one loss.
    weights : ndarray or None
        The weight of each cell, or of each entry of a sparse table; zero for missing
        cells, None if all are 1.
    scales : float64 ndarray of shape (columns,) or None
        The factor by which the weights of each column were multiplied.
    units : float64 ndarray of shape (columns,) or None
        The number by which each column was divided; None if there is none. Everything
        that a problem works with is in these units: predictions, offsets, factors,
        penalties, the widths of losses.
    """

    shape: tuple[int, int]
    blocks: tuple[Block, ...]
    coordinates: int
    cut_count: int
    row_counts: np.ndarray
    column_counts: np.ndarray
    offsets: np.ndarray
    cuts: np.ndarray
    size: int
    complete: bool = False
    weights: Any = None
    scales: np.ndarray | None = None
    units: np.ndarray | None = None

    @property
    def coordinate_units(self) -> np.ndarray:
        """The factor from predictions of each coordinate to units of the data; 1 if none."""
        if self.units is None:
            return np.ones(self.coordinates)
        return np.asarray(self.units[self.coordinate_columns])

    @property
    def losses_of_columns(self) -> list[Loss]:
        """The loss of each column, in the table's order."""
        losses = {
            int(column): block.loss.column(place)
            for block in self.blocks
            for place, column in enumerate(block.columns)
        }
        return [losses[column] for column in range(self.shape[1])]

    @property
    def one_loss(self) -> Loss | None:
        """The loss of all columns, or None if they differ."""
        return self.blocks[0].loss if len(self.blocks) == 1 else None

    @property
    def observed(self) -> int:
        """The number of observed cells."""
        return int(self.row_counts.sum())

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

    @property
    def mean_weight(self) -> float:
        """The mean weight of the observed cells, without the factors `scales`."""
        return 1.0

    @property
    @abstractmethod
    def dtype(self) -> np.dtype:
        """The type of the numbers in the table."""

    @property
    @abstractmethod
    def square(self) -> float:
        """The sum of the squares of the data."""

    @property
    def loss_of_zero(self) -> float:
        """The approximate loss of predicting zero; rounding is a tiny share of it.

        It is the sum of squares under squared loss, the sum of absolute values under
        other losses, and 0 if a loss is the user's, because its size is not known.
        """
        return self.square

    @abstractmethod
    def constants_loss(self) -> float:
        """Return the loss of the best constant of each column."""

    @abstractmethod
    def root_mean_squares(self, constant: np.ndarray) -> np.ndarray:
        """Return the root mean square of the data about a constant.

        Parameters
        ----------
        constant : float64 ndarray of shape (coordinates,)

        Returns
        -------
        float64 ndarray of shape (coordinates,)
            1 for coordinates that are not on the scale of the data.
        """

    @abstractmethod
    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed loss of each start.

        Parameters
        ----------
        left : Tensor of shape (S, rows, q)
        right : Tensor of shape (S, coordinates, q)
        cuts : Tensor of shape (S, cut_count)

        Returns
        -------
        Tensor of shape (S,)

        Raises
        ------
        InvalidValueError
            If autograd is to differentiate it, and the table is on disk.
        """

    def squares(
        self, predictions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the losses of predictions and their slopes if all losses are squared.

        None if a loss is another one, or predictions of all cells are not computed.

        Parameters
        ----------
        predictions : Tensor of shape (S, rows, coordinates)

        Returns
        -------
        losses : Tensor of shape (S,)
        slopes : Tensor of shape (S, rows, coordinates)
            The derivative of the losses with respect to the predictions.
        """
        return None

    @property
    @abstractmethod
    def in_memory(self) -> CellsInMemory:
        """These cells, for steps that need all of them in memory.

        Raises
        ------
        InvalidValueError
            If the table is on disk.
        """


class CellsInMemory(Cells):
    """Cells that are all in memory.

    Attributes
    ----------
    table : ndarray or sparse array
        The data, with zeros at the missing cells of a dense table; each column divided
        by its unit.
    given : ndarray or sparse array
        The same in the units of the source.
    """

    table: Any

    _given: Any = None
    _constants_loss: float | None = None

    @property
    def in_memory(self) -> CellsInMemory:  # noqa: D102 - as in the base
        return self

    @property
    def given(self) -> Any:  # noqa: D102 - among the attributes
        return self.table if self._given is None else self._given

    def in_units_of(self, other: CellsInMemory) -> Self:
        """Take the units and scales of other cells, from which these ones were made."""
        self.scales, self.units, self._given = other.scales, other.units, other._given
        return self

    @property
    def _data(self) -> np.ndarray:
        """The values of the table: all cells of a dense one, the entries of a sparse one."""
        data: np.ndarray = (
            self.table.data if hasattr(self.table, "tocsr") else self.table
        )
        return data

    @property
    def dtype(self) -> np.dtype:  # noqa: D102 - as in the base
        kind: np.dtype = self.table.dtype
        return kind

    @property
    def square(self) -> float:  # noqa: D102 - as in the base
        return float(np.square(self._data, dtype=np.float64).sum())

    @property
    def loss_of_zero(self) -> float:  # noqa: D102 - as in the base
        if all(block.loss.quadratic for block in self.blocks):
            return self.square
        if any(block.loss.name == "own" for block in self.blocks):
            return 0.0
        return float(np.abs(self._data).sum(dtype=np.float64))

    @property
    def mean_weight(self) -> float:  # noqa: D102 - as in the base
        weights = self.raw_weights
        total = 0.0 if weights is None else float(weights.sum())
        return total / self.observed if total > 0 else 1.0

    @property
    def raw_weights(self) -> np.ndarray | None:
        """The weights without the factors `scales`."""
        weights: np.ndarray | None = self.weights
        if weights is None or self.scales is None:
            return weights
        return np.asarray(weights / self.scales)

    def constants_loss(self) -> float:  # noqa: D102 - as in the base
        if self._constants_loss is None:
            left = torch.ones(1, self.shape[0], 1, dtype=torch.float64)
            right = torch.as_tensor(self.offsets)[None, :, None]
            cuts = torch.as_tensor(self.cuts)[None]
            with torch.no_grad():
                self._constants_loss = float(self.losses(left, right, cuts))
        return self._constants_loss

    def root_mean_squares(self, constant: np.ndarray) -> np.ndarray:  # noqa: D102 - as in the base
        found = np.ones(self.coordinates)
        for block in self.blocks:
            if block.loss.identity:
                squares = self._squares_about(block, constant[block.place])
                mean = squares / np.maximum(self.column_counts[block.columns], 1)
                found[block.place] = np.sqrt(mean)
        return found

    @abstractmethod
    def _squares_about(self, block: Block, constant: np.ndarray) -> np.ndarray:
        """Return the sum of squares of each column of a block about a constant."""

    # Steps

    @abstractmethod
    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Quadratic:
        """Return the losses, and a quadratic above them that touches at this point.

        Parameters
        ----------
        left, right, cuts : Tensor
            As for `losses`.
        step : int
            The number of the step; the quadratics of some losses change with it.
        """

    def quadratic(self, dtype: torch.dtype, device: torch.device) -> Quadratic | None:
        """Return the weights and targets if the loss itself is quadratic, else None.

        They do not depend on the point. The losses are not computed.
        """
        if not all(block.loss.quadratic for block in self.blocks):
            return None
        return self._quadratic(dtype, device)

    @abstractmethod
    def _quadratic(self, dtype: torch.dtype, device: torch.device) -> Quadratic:
        """Return the weights and targets of squared loss."""

    @abstractmethod
    def normal(
        self, look: Quadratic, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normal equations G x = r of every row of one side.

        For row i and the rows v of the other factor, G = sum_j w_ij v_j v_j^T and
        r = sum_j w_ij t_ij v_j.

        Parameters
        ----------
        look : Quadratic
        side : {"rows", "columns"}
        other : Tensor of shape (S, n, q)
            The factor of the other side.

        Returns
        -------
        gram : Tensor of shape (S, rows, q, q), or (S, 1, q, q) if all rows share it
        right : Tensor of shape (S, rows, q)
        """

    @abstractmethod
    def descent(
        self, look: Quadratic, left: torch.Tensor, right: torch.Tensor
    ) -> torch.Tensor:
        """Return minus the derivative of the loss with respect to R.

        Returns
        -------
        Tensor of shape (S, coordinates, q)
        """

    @abstractmethod
    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two sums of multiplicative steps, for every row of one side.

        The slope of a divergence is p - n with n, p >= 0; for kl they are x / z and 1.
        The sums are sum_j w_ij n_ij v_j and sum_j w_ij p_ij v_j.

        Returns
        -------
        less, more : Tensor of shape (S, rows, q)
        """

    # One start

    @abstractmethod
    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> Any:
        """Return the derivative of the loss with respect to each prediction of one start.

        Parameters
        ----------
        left : Tensor of shape (rows, q)
        right : Tensor of shape (coordinates, q)
        cuts : Tensor of shape (cut_count,)

        Returns
        -------
        float64 ndarray or sparse array of shape (rows, coordinates)
            Zero at missing cells.
        """

    @abstractmethod
    def each(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> np.ndarray:
        """Return the loss of each cell of one start, without its weight.

        Returns
        -------
        ndarray of shape (rows, columns)
            NaN at missing cells. For a sparse table, the shape is (entries,) instead.
        """

    @abstractmethod
    def conjugates(self, slopes: Any) -> float:
        """Return sum w f*(g / w), the convex conjugate of the summed loss at slopes g.

        Parameters
        ----------
        slopes : ndarray or sparse array
            Shaped as `slopes` returns them.
        """


def cached(
    cache: dict[Key, Tensors],
    make: Callable[[torch.dtype, torch.device], Tensors],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensors:
    """Return the data in one precision on one device, made at the first call."""
    key = (dtype, device)
    if key not in cache:
        # Threads of several chunks share it, and it outlives the caller's inference mode.
        with ONCE, torch.inference_mode(False):
            if key not in cache:
                cache[key] = make(dtype, device)
    return cache[key]
