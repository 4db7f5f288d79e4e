"""Three layouts of the cells of a table; none fills a hole.

- `Complete`: squared loss of every cell, of a dense table or of a sparse one whose
  absent entries are zeros; no residual is ever formed, but for the last evaluation;
- `Dense`: any losses, weights and holes, of a dense table;
- `Stored`: one loss of the stored entries of a sparse table, in memory of the order of
  entries times rank.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from descents.cells.base import Block, Cells, Look, Side
from descents.devices import remote
from descents.kernels import entries
from descents.losses import Loss, Ordinal, bisection, golden_section, slope

PIECE = 2**18
"""How many numbers a product over stored entries keeps at once."""


def pairs(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places (a, b), a <= b, of the distinct entries of a Gram matrix."""
    places = torch.triu_indices(rank, rank)
    return places[0], places[1]


def _unpacked(packed: torch.Tensor, rank: int) -> torch.Tensor:
    """Return symmetric matrices of (..., rank (rank + 1) / 2) entries."""
    where = torch.empty(rank, rank, dtype=torch.int64)
    a, b = pairs(rank)
    where[a, b] = where[b, a] = torch.arange(len(a))
    return packed[..., where.reshape(-1).to(packed.device)].reshape(
        *packed.shape[:-1], rank, rank
    )


def _outer(factor: torch.Tensor) -> torch.Tensor:
    """Return the distinct products of the entries of each row."""
    a, b = pairs(factor.shape[-1])
    return factor[..., a.to(factor.device)] * factor[..., b.to(factor.device)]


def _times(table: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return one table times the factors of all starts, as a single product."""
    starts, _, q = factor.shape
    if table.layout == torch.strided and not (starts == 1 and table.is_contiguous()):
        # Turned: libraries are slow at products of few columns, not at those of few rows.
        flat = factor.mT.reshape(starts * q, -1)
        return (flat @ table.mT).reshape(starts, q, -1).mT
    flat = factor.permute(1, 0, 2).reshape(factor.shape[1], starts * q)
    return (table @ flat).reshape(-1, starts, q).permute(1, 0, 2)


GRID = 36
"""To how many binary places standardized values are rounded."""


def on_a_grid(values: np.ndarray, *, relative: bool) -> np.ndarray:
    """Round standardized values to `GRID` binary places, about 1.5e-11.

    A table in other units then gives the same bits, and descents that magnify
    roundings, as those with long steps or a line search do, take the same way.

    Parameters
    ----------
    values : float64 ndarray
    relative : bool
        Whether to round the significands, so that small values keep their ratios.

    Examples
    --------
    >>> third = np.array([1.0 / 3.0])
    >>> same = on_a_grid(third * 0.1 / 0.1, relative=True)
    >>> bool(same == on_a_grid(third, relative=True)), bool(abs(same - third) < 1e-11)
    (True, True)
    """
    fraction, exponent = np.frexp(values) if relative else (values, 0)
    rounded: np.ndarray = np.ldexp(np.rint(np.ldexp(fraction, GRID)), exponent - GRID)
    return rounded


BLOCK_ENTRIES = 2**19
"""How many residuals are kept at once where a dense table is looked at."""
MOST_TURNED = 2**21
"""Up to so many numbers a table is also kept turned: on two threads its products by rows
then take half the time. Larger ones, often fitted in a few steps, are not worth the copy."""
TINIEST = float(np.finfo(np.float64).tiny)
FLAT = 1e-12
"""A column that varies by less than this share of its size is constant."""


class Complete(Cells):
    """Squared loss of every cell with weight one, of a dense or a sparse table.

    In a sparse table, an absent entry is a zero. Kullback-Leibler divergence is also
    taken for a sparse one, as its zeros need only the sums of the predictions.
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
        self._cache = {}

    def _hold(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        if not self._sparse:
            table = torch.tensor(self.table, dtype=dtype, device=device)
            square, turned = table.square().sum(), table.mT
            if table.numel() <= MOST_TURNED:
                # `_times` turns what it is given: it is to lie in one piece then.
                table = turned.contiguous().mT
            return {"table": table, "turned": turned, "square": square}
        held = _sparse_tensors(self.table.tocsr(), dtype, device)
        held["square"] = held["values"].square().sum()
        held["table"] = _pattern(held, "rows", held["values"])
        held["turned"] = _pattern(held, "columns", held["values"])
        return held

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed loss of each start, by residuals where it is dense."""
        if not self._sparse:
            return self._residuals(left, right)
        held = self._held(left.dtype, left.device)
        z, x = _entries(left, right, held), held["values"]
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
        rest = predictions - self._held(predictions.dtype, predictions.device)["table"]
        return rest.square().sum((1, 2)), rest.mul_(2)

    def _residuals(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return the losses of a dense table; without gradients, some rows at a time."""
        if torch.is_grad_enabled():
            held = self._held(left.dtype, left.device)
            loss = self.blocks[0].loss
            return loss(torch.bmm(left, right.mT), held["table"]).sum((1, 2))
        rows, columns = self.shape
        size = min(rows, max(1, BLOCK_ENTRIES // (len(left) * columns)))
        # Made anew for each block, they would cost more than the products; and no second
        # table is kept for what is only looked at in the end.
        rest = left.new_empty(len(left), size, columns)
        total = left.new_zeros(len(left))
        # torch warns of arrays that may not be written to, though none is.
        shared = torch.from_numpy if self.table.flags.writeable else torch.tensor
        # What lies on another device already is not sent there again.
        away = self._held(left.dtype, left.device) if remote(left.device) else None
        for first in range(0, rows, size):
            place = slice(first, first + size)
            here = left[:, place]
            part = away["table"][place] if away else shared(self.table[place])
            block = rest[:, : here.shape[1]].copy_(part)
            total += block.baddbmm_(here, right.mT, alpha=-1).square_().sum((1, 2))
        return total

    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Look:
        """Return the losses through Gram matrices alone, without residuals."""
        held = self._held(left.dtype, left.device)
        product = _times(held["table"], right)
        cross = (product * left).sum((1, 2), dtype=torch.float64)
        every = ((left.mT @ left).double() * (right.mT @ right)).sum((1, 2))
        losses = held["square"].double() - 2 * cross + every
        return Look(losses.clamp_min(0).to(left.dtype), None, None, None, product)

    def _quadratic(self, held: dict[str, Any]) -> Look:
        return Look(None, None, None, None)

    def normal(
        self, look: Look, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one Gram matrix for all rows, and the table times the factor."""
        held = self._held(other.dtype, other.device)
        product = look.product if side == "rows" else _times(held["turned"], other)
        if product is None:
            product = _times(held["table"], other)
        return (other.mT @ other)[:, None], product

    def descent(self, look: Look, left: torch.Tensor, right: torch.Tensor) -> Any:
        """Return 2 (A^T L - R L^T L)."""
        held = self._held(left.dtype, left.device)
        return 2 * (_times(held["turned"], left) - right @ (left.mT @ left))

    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return them through the stored entries; the zeros add to the sums alone."""
        held = self._held(left.dtype, left.device)
        this, other = (left, right) if side == "rows" else (right, left)
        sums = other.sum(1, keepdim=True).expand(-1, this.shape[1], -1)
        return _ratios(held, side, held["values"], left, right), sums

    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> Any:
        """Return 2 (Z - A) of a dense table."""
        if self._sparse:
            raise NotImplementedError
        return 2 * ((left @ right.mT).cpu().numpy().astype(np.float64) - self.table)

    def each(self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor) -> Any:
        """Return the loss of each cell, or of each stored entry."""
        held = self._held(left.dtype, left.device)
        loss = self.blocks[0].loss
        if self._sparse:
            part = loss(_entries(left[None], right[None], held)[0], held["values"])
        else:
            part = loss(left @ right.mT, held["table"])
        return part.cpu().numpy()

    def conjugates(self, slopes: Any) -> float:
        """Return the sum of g x + g^2 / 4."""
        return float(self.blocks[0].loss.conjugate(slopes, self.table).sum())


class Dense(Cells):
    """Losses of a dense table, a block of columns each, with weights and holes."""

    def __init__(
        self, table: np.ndarray, weights: np.ndarray, blocks: tuple[Block, ...]
    ) -> None:
        """Take a table with zeros at its holes, and weights that are zero there."""
        self.shape = (table.shape[0], table.shape[1])
        self.blocks = blocks
        self.table, self.weights = table, weights
        self.coordinates = blocks[-1].place.stop
        self.cut_count = blocks[-1].cut_place.stop
        self.row_counts = (weights > 0).sum(1).astype(np.float64)
        self.column_counts = (weights > 0).sum(0).astype(np.float64)
        self.offsets, self.cuts = np.zeros(self.coordinates), np.zeros(self.cut_count)
        self.size = table.shape[0] * self.coordinates
        self._cache = {}
        for block in blocks:
            _best_constants(self, block, table[:, block.columns], weights)
        # What stands where the table has no value; the same for parts of the cells.
        self._stand_ins = weights > 0, self.offsets

    def standardized(
        self, scales: np.ndarray | None = None, units: np.ndarray | None = None
    ) -> Dense | Complete:
        """Return the cells with columns of numbers over their spread, and all weighed.

        The weights of each column are divided by its mean loss at the best constant, so
        that every column adds as much to the loss of the best constants as it has
        cells, whatever its units and its loss [1]_. A penalty then means the same for
        all columns, and no result depends on the units that a column came in.

        Parameters
        ----------
        scales, units : ndarray of shape (columns,), optional
            Those of another table, in place of this one's.

        References
        ----------
        .. [1] Udell, Horn, Zadeh and Boyd (2016), "Generalized low rank models",
           Foundations and Trends in Machine Learning 9, section 5.
        """
        if units is None:
            units = self.own_units()
        found = self._over(units)
        if scales is None:
            scales = found._own_scales()
        found.weights, found._cache = found.weights * scales, {}
        found.scales = scales
        quadratic = len(found.blocks) == 1 and found.blocks[0].loss.quadratic
        if quadratic and found.complete_with_ones:
            return Complete(found.table, found.blocks[0]).in_units_of(found)
        return found

    @property
    def complete_with_ones(self) -> bool:
        """Whether every cell is data, of weight one."""
        return bool((self.weights == 1).all())

    def own_units(self) -> np.ndarray:
        """Return the unit of each column of numbers; 1 for levels.

        The standard deviation; for a constant column, its size.
        """
        units = np.ones(self.shape[1])
        spread, size = self.spreads()
        spread = np.where(np.isnan(spread), size, spread)
        for block in self.blocks:
            if block.loss.has_units:
                units[block.columns] = [
                    block.loss.column(place).unit(float(spread[column]))
                    for place, column in enumerate(block.columns)
                ]
        return units

    def spreads(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the standard deviation and the size of each column.

        The standard deviation is NaN for a constant column, and for levels. (It is about
        the mean whatever the loss: a search for the best constant ends in other digits in
        other units.) The size is the largest absolute value.
        """
        spreads, sizes = np.full(self.shape[1], np.nan), np.ones(self.shape[1])
        for block in self.blocks:
            if not block.loss.has_units:
                continue
            values = self.table[:, block.columns]
            weight = self.weights[:, block.columns]
            seen = weight > 0
            largest = np.where(seen, np.abs(values), 0).max(0, initial=0.0)
            # In units of the largest value, no square overflows or vanishes.
            size = np.where(largest > 0, largest, 1.0)
            heaviest = weight.max(0, initial=0.0)
            share = weight / np.where(heaviest > 0, heaviest, 1.0)
            share /= np.where(heaviest > 0, share.sum(0), 1.0)
            over = np.where(seen, values / size, 0)
            rest = np.where(seen, over - (share * over).sum(0), 0)
            spread = size * np.sqrt((share * np.square(rest)).sum(0))
            # What is left of a constant column is rounding of its own size.
            spreads[block.columns] = np.where(spread > FLAT * size, spread, np.nan)
            sizes[block.columns] = size
        return spreads, sizes

    def _over(self, units: np.ndarray) -> Dense:
        """Return the cells with each column over its unit, and its loss in that."""
        table, blocks = self.table / units, []
        for block in self.blocks:
            if not block.loss.has_units:
                blocks.append(block)
                continue
            loss = block.loss.in_units(units[block.columns])
            blocks.append(replace(block, loss=loss))
            ratios = block.loss.divergence  # which values of 0 or more are judged by
            values = table[:, block.columns]
            table[:, block.columns] = on_a_grid(values, relative=ratios)
        found = Dense(table, self.weights, tuple(blocks))
        found.units, found._given = units, self.table
        return found

    def _own_scales(self) -> np.ndarray:
        """Return one over each column's mean loss at its best constant; 1 if constant."""
        scales = np.ones(self.shape[1])
        predictions = torch.as_tensor(self.offsets).expand(1, self.shape[0], -1)
        cuts = torch.as_tensor(self.cuts)[None]
        for block, loss in self._each(predictions, cuts):
            if block.loss.quadratic:  # a column of spread 1 has a mean loss of 1
                continue
            weight = self.weights[:, block.columns]
            share = weight / np.maximum(weight.max(0, initial=0.0), TINIEST)
            mean = (loss[0].numpy() * share).sum(0) / np.maximum(share.sum(0), TINIEST)
            usable = mean > FLAT
            if block.loss.has_units:  # a constant column is 1 or -1 throughout
                x = self.table[:, block.columns]
                varies = np.ptp(np.where(share > 0, x, x.max(0)), axis=0) > FLAT
                usable = varies & (mean > 0)
            scales[block.columns] = np.where(usable, 1 / np.where(usable, mean, 1), 1.0)
        return scales

    def part(self, mask: np.ndarray) -> Dense:
        """Return the cells of a part of the table, its scales and units the same.

        Parameters
        ----------
        mask : bool ndarray of the table's shape
        """
        other = Dense(self.table, np.where(mask, self.weights, 0.0), self.blocks)
        other._stand_ins = self._stand_ins
        return other.in_units_of(self)

    def of_starts(self, masks: np.ndarray) -> Dense:
        """Return the cells with a part of its own for each of S starts.

        Parameters
        ----------
        masks : bool ndarray of shape (S, rows, columns)
        """
        other = copy.copy(self)
        other.weights, other._cache = self.weights * masks, {}
        return other

    def _hold(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array, dtype=dtype, device=device).contiguous()

        wide = self.weights[..., self.coordinate_columns]
        target = self.table[:, self.coordinate_columns]
        held: dict[str, Any] = {
            "targets": [tensor(self._targets(block)) for block in self.blocks],
            "cells": [tensor(self.weights[..., b.columns]) for b in self.blocks],
        }
        if all(b.loss.quadratic for b in self.blocks):
            held["wide"], held["target"] = tensor(wide), tensor(target)
            held["product"] = held["wide"] * held["target"]
        return held

    def _targets(self, block: Block) -> np.ndarray:
        """Return a block's values, with the best constants in place of missing ones.

        They have no weight, but losses that judge the spread of a column look at them.
        """
        values = self.table[:, block.columns]
        if not block.loss.has_units:
            return values
        seen, offsets = self._stand_ins
        return np.where(seen[:, block.columns], values, offsets[block.place])

    def _each(
        self, predictions: torch.Tensor, cuts: torch.Tensor
    ) -> list[tuple[Block, torch.Tensor]]:
        """Return the loss of each cell of each block, shape (S, rows, J)."""
        held = self._held(predictions.dtype, predictions.device)
        return [
            (block, block.loss(block.predictions(predictions), x, **block.cuts(cuts)))
            for block, x in zip(self.blocks, held["targets"], strict=True)
        ]

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum of the losses of each start."""
        return self._summed(torch.bmm(left, right.mT), cuts)

    def squares(
        self, predictions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return sum w (z - x)^2 and 2 w (z - x), where every loss is squared."""
        held = self._held(predictions.dtype, predictions.device)
        if "wide" not in held:
            return None
        rest = predictions - held["target"]
        weighted = held["wide"] * rest
        return (weighted * rest).sum((1, 2)), weighted.mul_(2)

    def _summed(self, predictions: torch.Tensor, cuts: torch.Tensor) -> torch.Tensor:
        held = self._held(predictions.dtype, predictions.device)
        parts = self._each(predictions, cuts)
        totals = [
            (loss * w).sum((1, 2))
            for (_, loss), w in zip(parts, held["cells"], strict=True)
        ]
        return torch.stack(totals).sum(0)

    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Look:
        """Return the losses and the quadratics of all blocks side by side."""
        held = self._held(left.dtype, left.device)
        z = torch.bmm(left, right.mT)
        losses = self._summed(z, cuts)
        if "wide" in held:
            return Look(losses, held["wide"], held["target"], z)
        weights, targets = torch.empty_like(z), torch.empty_like(z)
        for block, x, w in zip(
            self.blocks, held["targets"], held["cells"], strict=True
        ):
            weight, target = block.loss.majorize(block.predictions(z), x, step)
            cell = w if block.each == 1 else w[..., None]
            weight = cell if weight is None else weight * cell
            shape = z[..., block.place].shape
            wide = (*shape[:-1], len(block.columns), block.each)
            if block.each == 1:
                wide = tuple(shape)
            weights[..., block.place] = weight.expand(wide).reshape(shape)
            targets[..., block.place] = target.expand(wide).reshape(shape)
        return Look(losses, weights, targets, z)

    def _quadratic(self, held: dict[str, Any]) -> Look:
        return Look(None, held["wide"], held["target"], None)

    def normal(
        self, look: Look, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted Gram matrix of each row, and its right-hand side."""
        weights, targets = look.weights, look.targets
        assert weights is not None  # noqa: S101
        assert targets is not None  # noqa: S101
        shared = weights.ndim == 2
        held = self._held(other.dtype, other.device)
        if shared or weights is held.get("wide"):
            product = held["product"]
        else:
            product = weights * targets
        if side == "columns":
            weights, product = weights.mT, product.mT
        outer = _outer(other)
        if shared:
            return (
                _unpacked(_times(weights, outer), other.shape[-1]),
                _times(product, other),
            )
        gram = torch.bmm(weights, outer)
        return _unpacked(gram, other.shape[-1]), torch.bmm(product, other)

    def descent(self, look: Look, left: torch.Tensor, right: torch.Tensor) -> Any:
        """Return 2 (w (t - Z))^T L."""
        assert look.weights is not None  # noqa: S101
        assert look.targets is not None  # noqa: S101
        assert look.predictions is not None  # noqa: S101
        return 2 * ((look.weights * (look.targets - look.predictions)).mT @ left)

    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return them from a product over all cells."""
        held = self._held(left.dtype, left.device)
        weight, z = held["cells"][0], torch.bmm(left, right.mT)
        less, more = self.blocks[0].loss.parts(z, weight * held["targets"][0])
        times = torch.bmm if weight.ndim == 3 else _times
        other = right
        if side == "columns":
            weight, less, other = weight.mT, less.mT, left
            more = None if more is None else more.mT
        if more is None:
            return torch.bmm(less, other), times(weight, other)
        return torch.bmm(less, other), torch.bmm(weight * more, other)

    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> Any:
        """Return w f'(z), zero at holes."""
        z = left @ right.mT
        held = self._held(z.dtype, z.device)
        found = torch.zeros_like(z)
        for block, x, w in zip(
            self.blocks, held["targets"], held["cells"], strict=True
        ):
            part = slope(block.loss, block.predictions(z), x, **block.cuts(cuts))
            part = part * (w if block.each == 1 else w[..., None])
            found[..., block.place] = part.reshape(found[..., block.place].shape)
        return found.cpu().numpy().astype(np.float64)

    def each(self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor) -> Any:
        """Return the loss of each cell, NaN at holes."""
        z = (left @ right.mT)[None]
        found = np.full(self.shape, np.nan)
        for block, loss in self._each(z, cuts[None]):
            found[:, block.columns] = loss[0].cpu().numpy()
        return np.where(self.weights > 0, found, np.nan)

    def conjugates(self, slopes: Any) -> float:
        """Return sum w f*(g / w) over the cells that are data."""
        total = 0.0
        for block in self.blocks:
            weight = self.weights[:, block.columns]
            kept = weight > 0
            over = slopes[:, block.place] / np.where(kept, weight, 1)
            value = block.loss.conjugate(over, self.table[:, block.columns])
            total += float((weight * np.where(kept, value, 0)).sum())
        return total


class Stored(Cells):
    """One loss of the stored entries of a sparse table; what is absent is a hole."""

    def __init__(self, table: Any, weights: np.ndarray | None, block: Block) -> None:
        """Take a canonical CSR array, and the weight of each of its entries."""
        self.table = table
        self.weights = weights
        self.shape = table.shape
        self.blocks, self.coordinates, self.cut_count = (block,), table.shape[1], 0
        columns = self.shape[1]
        self.row_counts = np.diff(table.indptr).astype(np.float64)
        self.column_counts = np.bincount(table.indices, minlength=columns) * 1.0
        self.offsets, self.cuts = np.zeros(columns), np.zeros(0)
        weight = np.ones(table.nnz) if weights is None else weights
        if block.loss.quadratic:
            total = np.bincount(table.indices, weight, columns)
            sums = np.bincount(table.indices, weight * table.data, columns)
            self.offsets = sums / np.where(total > 0, total, 1)
        elif type(block.loss).best_constant is Loss.best_constant:
            self.offsets = self._searched(weight)
        else:
            turned = table.tocsc()
            heavy = type(table)((weight, table.indices, table.indptr), table.shape)
            heavy = heavy.tocsc()
            for j in np.flatnonzero(self.column_counts):
                part = slice(turned.indptr[j], turned.indptr[j + 1])
                self.offsets[j] = block.loss.best_constant(
                    turned.data[part].astype(np.float64), heavy.data[part]
                )[0]
        self.size = table.nnz
        self._cache = {}

    def _searched(self, weight: np.ndarray) -> np.ndarray:
        """Return the best constants of all columns by one search."""
        table, found = self.table, np.zeros(self.shape[1])
        seen = np.flatnonzero(self.column_counts)
        if not len(seen):
            return found
        turned, place = table.tocsc(), np.zeros(self.shape[1], dtype=np.int64)
        values = turned.data.astype(np.float64)
        place[seen] = np.arange(len(seen))
        columns = place[table.indices]
        target = torch.as_tensor(table.data.astype(np.float64))

        def total(z: np.ndarray) -> np.ndarray:
            loss = self.blocks[0].loss(torch.as_tensor(z[columns]), target)
            return np.bincount(columns, weight * loss.numpy(), len(seen))

        def derivative(z: np.ndarray) -> np.ndarray:
            each = slope(self.blocks[0].loss, torch.as_tensor(z[columns]), target)
            return np.bincount(columns, weight * each.numpy(), len(seen))

        begins = turned.indptr[seen]
        low = np.minimum.reduceat(values, begins)
        high = np.maximum.reduceat(values, begins)
        found[seen] = bisection(
            derivative, golden_section(total, low, high), high - low
        )
        return found

    def over(self, unit: float, scale: float) -> Stored:
        """Return the entries over a unit, their weights multiplied by a number."""
        loss = self.blocks[0].loss.in_units(np.array([unit])).column(0)
        data = on_a_grid(
            self.table.data.astype(np.float64) / unit, relative=loss.divergence
        )
        places = (data, self.table.indices, self.table.indptr)
        weights = self.weights
        if weights is not None or scale != 1:
            weights = (np.ones(len(data)) if weights is None else weights) * scale
        return Stored(
            type(self.table)(places, self.shape),
            weights,
            replace(self.blocks[0], loss=loss),
        )

    def part(self, mask: np.ndarray) -> Stored:
        """Return some of the stored entries.

        Parameters
        ----------
        mask : bool ndarray of shape (entries,)
        """
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.table.indptr))[mask]
        places = (rows, self.table.indices[mask])
        table = type(self.table)((self.table.data[mask], places), shape=self.shape)
        weights = None if self.weights is None else self.weights[mask]
        return Stored(table, weights, self.blocks[0])

    def of_starts(self, masks: np.ndarray) -> Stored:
        """Return the entries with a part of its own for each of S starts.

        Parameters
        ----------
        masks : bool ndarray of shape (S, entries)
        """
        other = copy.copy(self)
        weights = np.ones(self.table.nnz) if self.weights is None else self.weights
        other.weights, other._cache = weights * masks, {}
        return other

    def _hold(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        held = _sparse_tensors(self.table, dtype, device)
        if self.weights is not None:
            held["weights"] = torch.tensor(self.weights, dtype=dtype, device=device)
        return held

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum over the stored entries of each start."""
        held = self._held(left.dtype, left.device)
        return self._summed(_entries(left, right, held), held)

    def _summed(self, z: torch.Tensor, held: dict[str, Any]) -> torch.Tensor:
        loss = self.blocks[0].loss(z, held["values"])
        return (loss * held["weights"] if "weights" in held else loss).sum(-1)

    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Look:
        """Return the losses and the quadratic of each entry."""
        held = self._held(left.dtype, left.device)
        z = _entries(left, right, held)
        weight, target = self.blocks[0].loss.majorize(z, held["values"], step)
        if "weights" in held:
            weight = held["weights"] if weight is None else weight * held["weights"]
        return Look(self._summed(z, held), weight, target, z)

    def _quadratic(self, held: dict[str, Any]) -> Look:
        return Look(None, held.get("weights"), held["values"], None)

    def normal(
        self, look: Look, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sparse products: the pattern times the outer products of the rows."""
        held = self._held(other.dtype, other.device)
        weights, targets = look.weights, look.targets
        assert targets is not None  # noqa: S101
        rows = side == "rows"
        found = entries.normal_equations(
            held["row_ends"] if rows else held["column_ends"],
            held["columns"] if rows else held["turned_rows"],
            None if weights is None else _arranged(held, side, weights),
            _arranged(held, side, targets),
            other,
        )
        if found is not None:
            return found
        outer = _outer(other)
        ones = held["ones"] if weights is None else weights
        product = targets if weights is None else weights * targets
        if weights is held.get("weights") and targets is held["values"]:
            product = held.setdefault("product", product)
        gram = _spread(held, side, ones, outer)
        return _unpacked(gram, other.shape[-1]), _spread(held, side, product, other)

    def descent(self, look: Look, left: torch.Tensor, right: torch.Tensor) -> Any:
        """Return 2 (w (t - Z))^T L over the stored entries."""
        held = self._held(left.dtype, left.device)
        residual = look.targets - look.predictions  # type: ignore[operator]
        if look.weights is not None:
            residual = residual * look.weights
        return 2 * _spread(held, "columns", residual, left)

    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return them through the stored entries."""
        held = self._held(left.dtype, left.device)
        other = right if side == "rows" else left
        weight, target = held.get("weights", held["ones"]), held["values"]
        if "weights" in held:
            target = held.setdefault("product", weight * target)
        loss = self.blocks[0].loss
        if getattr(loss, "beta", None) == 1:
            less = _ratios(held, side, target, left, right)
            return less, _spread(held, side, weight, other)
        parts = loss.parts(_entries(left, right, held), target)
        total = weight if parts[1] is None else weight * parts[1]
        return _spread(held, side, parts[0], other), _spread(held, side, total, other)

    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> Any:
        """Return w f'(z) as a sparse array of the same pattern."""
        held = self._held(left.dtype, left.device)
        with torch.no_grad():
            z = _entries(left[None], right[None], held)[0]
        part = slope(self.blocks[0].loss, z, held["values"])
        if "weights" in held:
            part = part * held["weights"]
        data = part.cpu().numpy().astype(np.float64)
        table = self.table
        return type(table)((data, table.indices, table.indptr), table.shape)

    def each(self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor) -> Any:
        """Return the loss of each stored entry."""
        held = self._held(left.dtype, left.device)
        z = _entries(left[None], right[None], held)[0]
        return self.blocks[0].loss(z, held["values"]).cpu().numpy()

    def conjugates(self, slopes: Any) -> float:
        """Return sum w f*(g / w) over the stored entries."""
        weight = np.ones(len(slopes.data)) if self.weights is None else self.weights
        value = self.blocks[0].loss.conjugate(slopes.data / weight, self.table.data)
        return float((weight * value).sum())


# Tables are copied, as torch aligns its own memory where numpy does not, and where an
# array begins decides the last bits of its products.


def _tiny(like: torch.Tensor) -> float:
    return float(torch.finfo(like.dtype).tiny ** 0.5)


def _sparse_tensors(
    table: Any, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """Return the entries of a CSR array, row by row, and how to put them by column."""
    rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    order, turned_rows = _turned(table)
    held: dict[str, Any] = {
        "values": torch.tensor(table.data, dtype=dtype, device=device),
        "rows": torch.as_tensor(rows, device=device),
        "columns": torch.as_tensor(table.indices.astype(np.int64), device=device),
        "order": torch.as_tensor(order, device=device),
        "row_ends": torch.as_tensor(table.indptr.astype(np.int64), device=device),
        "column_ends": torch.as_tensor(
            np.concatenate(
                [[0], np.bincount(table.indices, minlength=table.shape[1]).cumsum()]
            ).astype(np.int64),
            device=device,
        ),
        "shape": table.shape,
        "arranged": {},
    }
    held["ones"] = torch.ones_like(held["values"])
    held["turned_rows"] = torch.as_tensor(turned_rows, device=device)
    return held


def _turned(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the order in which the entries of a CSR array are by column, and their rows."""
    places = np.arange(table.nnz)
    turned = type(table)((places, table.indices, table.indptr), table.shape).tocsc()
    return turned.data, turned.indices.astype(np.int64)


def _arranged(held: dict[str, Any], side: Side, values: torch.Tensor) -> torch.Tensor:
    """Return entries in the order of a side; of those that are held, once."""
    if side == "rows":
        return values
    return _once(held, "order", values, lambda: values[..., held["order"]])


def _once(
    held: dict[str, Any],
    what: str,
    values: torch.Tensor,
    make: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """Return what is made of entries: of those that are held, at every step the same, once."""
    known, key = held["arranged"], (what, id(values))
    if key in known:
        return torch.as_tensor(known[key])
    made = make()
    if any(values is kept for kept in tuple(held.values())):
        known[key] = made
    return made


def _pattern(held: dict[str, Any], side: Side, values: torch.Tensor) -> torch.Tensor:
    """Return a sparse matrix of these entries, with one row for each of a side."""

    def made() -> torch.Tensor:
        m, n = held["shape"]
        if side == "rows":
            ends, others = held["row_ends"], held["columns"]
        else:
            ends, others, (m, n) = held["column_ends"], held["turned_rows"], (n, m)
        with warnings.catch_warnings():
            # torch says once in a process that its sparse tensors are young.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            return torch.sparse_csr_tensor(
                ends,
                others,
                _arranged(held, side, values),
                (m, n),
                check_invariants=False,
            )

    return _once(held, side, values, made)


def _spread(
    held: dict[str, Any], side: Side, values: torch.Tensor, factor: torch.Tensor
) -> torch.Tensor:
    """Return sum_j values_ij factor_j of every row i of a side, for every start."""
    if values.ndim == 1:
        return _times(_pattern(held, side, values), factor)
    return torch.stack(
        [_pattern(held, side, v) @ f for v, f in zip(values, factor, strict=True)]
    )


def _ratios(
    held: dict[str, Any],
    side: Side,
    targets: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
) -> torch.Tensor:
    """Return sum t / z v over the entries of every row of a side, for every start."""
    rows, least = side == "rows", _tiny(left)
    this, other = (left, right) if rows else (right, left)
    found = entries.ratios(
        held["row_ends"] if rows else held["column_ends"],
        held["columns"] if rows else held["turned_rows"],
        _arranged(held, side, targets),
        this,
        other,
        least,
    )
    if found is not None:
        return found
    ratio = targets / _entries(left, right, held).clamp_min(least)
    return _spread(held, side, ratio, other)


def _entries(
    left: torch.Tensor, right: torch.Tensor, held: dict[str, Any]
) -> torch.Tensor:
    """Return the predictions of the stored entries, shape (S, entries)."""
    rows, columns = held["rows"], held["columns"]
    if torch.is_grad_enabled() and (left.requires_grad or right.requires_grad):
        return (left[:, rows] * right[:, columns]).sum(-1)
    found = entries.products(rows, columns, left, right)
    if found is not None:
        return found
    piece = max(1, PIECE // (left.shape[0] * left.shape[2]))
    parts = [
        torch.linalg.vecdot(
            left.index_select(1, rows[k : k + piece]),
            right.index_select(1, columns[k : k + piece]),
        )
        for k in range(0, len(rows), piece)
    ]
    return torch.cat(parts, 1) if parts else left.new_zeros(left.shape[0], 0)


def _best_constants(
    cells: Dense, block: Block, table: np.ndarray, weights: np.ndarray
) -> None:
    """Write the best constants of a block's columns into the cells."""
    weight = weights[:, block.columns]
    if block.loss.quadratic:
        total = weight.sum(0)
        cells.offsets[block.place] = (weight * table).sum(0) / np.where(
            total > 0, total, 1
        )
        return
    cuts = block.loss.thresholds(block.levels)
    for place in range(len(block.columns)):
        kept = weight[:, place] > 0
        x, w = table[kept, place], weight[kept, place]
        if not kept.any():
            x, w = np.zeros(1), np.ones(1)
        first = block.first + place * block.each
        best = block.loss.column(place).best_point(x, w, block.levels)
        cells.offsets[first : first + block.each] = best
        if isinstance(block.loss, Ordinal):
            first = block.first_cut + place * cuts
            cells.cuts[first : first + cuts] = Ordinal.best_cuts(x, w, block.levels)
