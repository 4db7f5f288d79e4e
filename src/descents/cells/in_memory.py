"""Cells that are all in memory, and the steps that need all of them at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch

from descents.cells.base import ONCE, Block, Cells, Side

Key = tuple[torch.dtype, torch.device]
Tensors = TypeVar("Tensors")


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

    def without_units(self) -> Self:
        """Drop units and scales: the cells are a table like any other afterwards."""
        self.scales, self.units, self._given = None, None, None
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
