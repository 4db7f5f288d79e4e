"""The observed cells of a table, and what every table offers, also one on disk.

A model predicts natural parameters Z = L R^T. L has shape (rows, q) and R has shape
(coordinates, q); offsets and biases are columns of these factors, opposite a column of
ones. What only a table in memory offers is in `descents.cells.in_memory`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch

from descents.losses import Loss
from descents.optim.collective import ALONE, Collective

if TYPE_CHECKING:
    from descents.cells.in_memory import CellsInMemory

Side = Literal["rows", "columns"]
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


class Cells(ABC):
    """The observed cells of a table under their losses, in memory or on disk.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the table; of a table that several processes share, the rows
        that this one has.
    together : Collective
        The processes that share the table.
    first_row : int
        The position of the first row of this process in the table.
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
    together: Collective = ALONE
    first_row: int = 0
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
    def all_rows(self) -> int:
        """The number of rows of the table, those of all processes."""
        return self.shape[0]

    @property
    def whole_shape(self) -> tuple[int, int]:
        """The rows, of all processes, and the columns of the table."""
        return self.all_rows, self.shape[1]

    def alone(self) -> Cells:
        """Return the cells of this process alone, without those of the others."""
        return self

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

    def gradients(
        self, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Return the losses and their gradients by both sides if all losses are squared.

        None where `squares` is None.

        Returns
        -------
        losses : Tensor of shape (S,)
        by_left : Tensor of shape (S, rows, q)
        by_right : Tensor of shape (S, coordinates, q)
        """
        looked = self.squares(torch.bmm(left, right.mT))
        if looked is None:
            return None
        losses, slopes = looked
        return losses, torch.bmm(slopes, right), torch.bmm(left.mT, slopes).mT

    @property
    @abstractmethod
    def in_memory(self) -> CellsInMemory:
        """These cells, for steps that need all of them in memory.

        Raises
        ------
        InvalidValueError
            If the table is on disk.
        """
