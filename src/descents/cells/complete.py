"""Squared loss of every cell, without forming residuals during a descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descents.cells.base import Block, Side
from descents.cells.in_memory import CellsInMemory, Key, Quadratic, cached
from descents.cells.products import times
from descents.cells.sparse_products import SparseTensors
from descents.cells.units import squares_about
from descents.devices import remote

BLOCK_ENTRIES = 2**19
"""The maximum number of residuals of a dense table that are computed at once."""
MOST_TURNED = 2**21
"""Maximum number of cells of a table that is also stored column by column.

Its products per row then take half the time on two threads. Larger tables, which are often
fitted in a few steps, are not worth the copy.
"""


@dataclass
class CompleteTensors:
    """A complete table in one precision on one device.

    Attributes
    ----------
    table, turned : Tensor of shape (rows, columns) and (columns, rows)
        The table and its transpose, dense or in CSR format.
    square : Tensor
        The sum of the squares of the table.
    stored : SparseTensors or None
        The entries of a sparse table.
    """

    table: torch.Tensor
    turned: torch.Tensor
    square: torch.Tensor
    stored: SparseTensors | None = None


class Complete(CellsInMemory):
    """Squared loss of every cell with weight 1, of a dense or a sparse table.

    In a sparse table, an entry that is not stored is a zero. A sparse table may also have
    Kullback-Leibler divergence, because zeros then need only sums of predictions.
    """

    complete = True

    def __init__(self, table: Any, block: Block) -> None:
        self.table = table
        self._sparse = not isinstance(table, np.ndarray)
        self.shape = table.shape
        self.blocks, self.coordinates, self.cut_count = (block,), table.shape[1], 0
        rows, columns = self.shape
        self.row_counts = np.full(rows, float(columns))
        self.column_counts = np.full(columns, float(rows))
        self.offsets = np.asarray(table.mean(axis=0, dtype=np.float64)).reshape(-1)
        self.cuts = np.zeros(0)
        self.size = table.nnz if self._sparse else table.size
        self._cache: dict[Key, CompleteTensors] = {}

    def tensors(self, dtype: torch.dtype, device: torch.device) -> CompleteTensors:
        """Return the table as tensors in one precision on one device."""
        return cached(self._cache, self._make_tensors, dtype, device)

    def _make_tensors(
        self, dtype: torch.dtype, device: torch.device
    ) -> CompleteTensors:
        if self._sparse:
            stored = SparseTensors.of(self.table.tocsr(), None, dtype, device)
            values = stored.values
            return CompleteTensors(
                stored.matrix("rows", values),
                stored.matrix("columns", values),
                values.square().sum(),
                stored,
            )
        # A copy: torch aligns its own memory, and alignment changes the last bits.
        table = torch.tensor(self.table, dtype=dtype, device=device)
        square, turned = table.square().sum(), table.mT
        if table.numel() <= MOST_TURNED:
            # `times` multiplies by the transpose, which must then be contiguous.
            table = turned.contiguous().mT
        return CompleteTensors(table, turned, square)

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed loss of each start, from residuals if the table is dense.

        A sparse table needs predictions z of its entries x only. Under squared loss the
        sum is |Z|^2 + sum x (x - 2 z) with |Z|^2 = <L^T L, R^T R>; under kl it is
        sum Z + sum (loss(z, x) - z), because a zero costs z.
        """
        stored = self.tensors(left.dtype, left.device).stored if self._sparse else None
        if stored is None:
            return self._residuals(left, right)
        z, x = stored.predictions(left, right), stored.values
        if self.blocks[0].loss.quadratic:
            every = (left.mT @ left * (right.mT @ right)).sum((1, 2))
            return every + (x * (x - 2 * z)).sum(-1)
        every = (left.sum(1) * right.sum(1)).sum(-1)
        return every + (self.blocks[0].loss(z, x) - z).sum(-1)

    def squares(
        self, predictions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return sum (z - x)^2 and 2 (z - x) of a dense table."""
        if self._sparse or not self.blocks[0].loss.quadratic:
            return None
        table = self.tensors(predictions.dtype, predictions.device).table
        rest = predictions - table
        return rest.square().sum((1, 2)), rest.mul_(2)

    def _residuals(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return the losses of a dense table; without gradients, some rows at a time."""
        if torch.is_grad_enabled():
            table = self.tensors(left.dtype, left.device).table
            return self.blocks[0].loss(torch.bmm(left, right.mT), table).sum((1, 2))
        rows, columns = self.shape
        size = min(rows, max(1, BLOCK_ENTRIES // (len(left) * columns)))
        # One buffer for all blocks: allocating it for each would take longer than the
        # products. The table is not converted as a whole for one evaluation.
        rest = left.new_empty(len(left), size, columns)
        total = left.new_zeros(len(left))
        # torch.from_numpy warns of read-only arrays, though nothing is written here.
        shared = torch.from_numpy if self.table.flags.writeable else torch.tensor
        # On another device, the table that is already there is used.
        away = self.tensors(left.dtype, left.device) if remote(left.device) else None
        for first in range(0, rows, size):
            place = slice(first, first + size)
            here = left[:, place]
            part = away.table[place] if away else shared(self.table[place])
            block = rest[:, : here.shape[1]].copy_(part)
            total += block.baddbmm_(here, right.mT, alpha=-1).square_().sum((1, 2))
        return total

    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Quadratic:
        """Return the losses from Gram matrices alone, without residuals.

        |A - L R^T|^2 = |A|^2 - 2 <A R, L> + <L^T L, R^T R>. The terms may cancel, so they
        are summed in float64. The product A R is returned for `normal`.
        """
        tensors = self.tensors(left.dtype, left.device)
        product = times(tensors.table, right)
        cross = (product * left).sum((1, 2), dtype=torch.float64)
        every = ((left.mT @ left).double() * (right.mT @ right)).sum((1, 2))
        losses = tensors.square.double() - 2 * cross + every
        return Quadratic(losses.clamp_min(0).to(left.dtype), None, None, None, product)

    def _quadratic(self, dtype: torch.dtype, device: torch.device) -> Quadratic:
        return Quadratic(None, None, None, None)

    def normal(
        self, look: Quadratic, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one Gram matrix for all rows, and the table times the factor."""
        tensors = self.tensors(other.dtype, other.device)
        product = look.product if side == "rows" else times(tensors.turned, other)
        if product is None:
            product = times(tensors.table, other)
        return (other.mT @ other)[:, None], product

    def descent(
        self, look: Quadratic, left: torch.Tensor, right: torch.Tensor
    ) -> torch.Tensor:
        """Return 2 (A^T L - R L^T L)."""
        tensors = self.tensors(left.dtype, left.device)
        return 2 * (times(tensors.turned, left) - right @ (left.mT @ left))

    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over all cells of a sparse table.

        n = x / z is zero where x is, so the first sum needs only stored entries. p = 1,
        so the second sum is sum_j v_j for every row.
        """
        stored = self.tensors(left.dtype, left.device).stored
        if stored is None:
            raise NotImplementedError("a dense table under a divergence is `Dense`")
        this, other = (left, right) if side == "rows" else (right, left)
        sums = other.sum(1, keepdim=True).expand(-1, this.shape[1], -1)
        return stored.ratios(side, stored.values, left, right), sums

    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> np.ndarray:
        """Return 2 (Z - A) of a dense table."""
        if self._sparse:
            raise NotImplementedError("the slopes of a sparse table would be dense")
        z = (left @ right.mT).cpu().numpy().astype(np.float64)
        return np.asarray(2 * (z - self.table))

    def each(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> np.ndarray:
        """Return the loss of each cell, or of each stored entry."""
        tensors = self.tensors(left.dtype, left.device)
        loss, stored = self.blocks[0].loss, tensors.stored
        if stored is None:
            part = loss(left @ right.mT, tensors.table)
        else:
            z = stored.predictions(left[None], right[None])[0]
            part = loss(z, stored.values)
        return np.asarray(part.cpu().numpy())

    def _squares_about(self, block: Block, constant: np.ndarray) -> np.ndarray:
        if not self._sparse:
            return squares_about(self.table, constant, block.columns)
        places, (rows, columns) = self.table.indices, self.shape
        rest = np.square(self.table.data - constant[places])
        stored = np.bincount(places, minlength=columns)
        zeros = (rows - stored) * constant**2  # of the entries that are not stored
        return np.asarray(np.bincount(places, rest, columns) + zeros)

    def conjugates(self, slopes: np.ndarray) -> float:
        """Return the sum of g x + g^2 / 4."""
        return float(self.blocks[0].loss.conjugate(slopes, self.table).sum())
