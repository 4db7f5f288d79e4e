"""Losses of a dense table, one block of columns each, with weights and missing cells."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch

from descents.cells import constants
from descents.cells.base import Block, Side
from descents.cells.complete import Complete
from descents.cells.in_memory import CellsInMemory, Key, Quadratic, cached
from descents.cells.products import outer, times, unpacked
from descents.cells.units import FLAT, on_a_grid, spreads, squares_about
from descents.losses import slope

TINIEST = float(np.finfo(np.float64).tiny)


@dataclass
class DenseTensors:
    """A dense table in one precision on one device, contiguous.

    Attributes
    ----------
    targets, weights : list of Tensor of shape (rows, J)
        The values and weights of each block. Weights may be different for each start,
        with shape (S, rows, J).
    wide, wide_targets, wide_product : Tensor of shape (rows, coordinates), optional
        Weights, values and their products for all coordinates, if every loss is squared.
        Weights and products may have a first axis of starts.
    """

    targets: list[torch.Tensor]
    weights: list[torch.Tensor]
    wide: torch.Tensor | None = None
    wide_targets: torch.Tensor | None = None
    wide_product: torch.Tensor | None = None


class Dense(CellsInMemory):
    """Losses of a dense table, one block of columns each, with weights and missing cells.

    Parameters
    ----------
    table : float64 ndarray of shape (rows, columns)
        With zeros at missing cells.
    weights : float64 ndarray of shape (rows, columns)
        Zero at missing cells.
    blocks : tuple of Block
    """

    def __init__(
        self, table: np.ndarray, weights: np.ndarray, blocks: tuple[Block, ...]
    ) -> None:
        self.shape = (table.shape[0], table.shape[1])
        self.blocks = blocks
        self.table, self.weights = table, weights
        self.coordinates = blocks[-1].place.stop
        self.cut_count = blocks[-1].cut_place.stop
        self.row_counts = (weights > 0).sum(1).astype(np.float64)
        self.column_counts = (weights > 0).sum(0).astype(np.float64)
        self.offsets, self.cuts = np.zeros(self.coordinates), np.zeros(self.cut_count)
        self.size = table.shape[0] * self.coordinates
        self._cache: dict[Key, DenseTensors] = {}
        for block in blocks:
            self.offsets[block.place], self.cuts[block.cut_place] = constants.of_block(
                block, table[:, block.columns], weights[:, block.columns]
            )
        # The cells with a value, and the numbers that stand for the others. Parts of the
        # cells keep those of the whole.
        self._stand_ins = weights > 0, self.offsets

    def standardized(
        self, scales: np.ndarray | None = None, units: np.ndarray | None = None
    ) -> Dense | Complete:
        """Return the cells with columns divided by their spread, and scaled weights.

        The weights of each column are divided by its mean loss at the best constant. The
        loss of the best constants then has one term per observed cell of each column,
        whatever its units and its loss [1]_. So a penalty means the same for all columns,
        and no result depends on the units of the source.

        Parameters
        ----------
        scales, units : ndarray of shape (columns,), optional
            Those of another table, instead of the table's own.

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
        found.weights, found.scales = found.weights * scales, scales
        found._forget()
        quadratic = len(found.blocks) == 1 and found.blocks[0].loss.quadratic
        if quadratic and found.complete_with_ones:
            return Complete(found.table, found.blocks[0]).in_units_of(found)
        return found

    @property
    def complete_with_ones(self) -> bool:
        """Whether every cell is observed and has weight 1."""
        return bool((self.weights == 1).all())

    def own_units(self) -> np.ndarray:
        """Return the unit of each column of numbers; 1 for levels.

        It is the standard deviation, or the largest absolute value of a constant column.
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
        """Return the standard deviation and the largest absolute value of each column.

        The standard deviation is NaN for constant columns, and for columns of levels,
        whose size is 1. See `descents.cells.units.spreads`.
        """
        spread, size = np.full(self.shape[1], np.nan), np.ones(self.shape[1])
        for block in self.blocks:
            if block.loss.has_units:
                spread[block.columns], size[block.columns] = spreads(
                    self.table[:, block.columns], self.weights[:, block.columns]
                )
        return spread, size

    def _over(self, units: np.ndarray) -> Dense:
        """Return the cells with each column divided by its unit, and losses to match."""
        table, blocks = self.table / units, []
        for block in self.blocks:
            if not block.loss.has_units:
                blocks.append(block)
                continue
            loss = block.loss.in_units(units[block.columns])
            blocks.append(replace(block, loss=loss))
            values = table[:, block.columns]
            # Divergences depend on ratios of values, which rounding must keep.
            rounded = on_a_grid(values, relative=block.loss.divergence)
            table[:, block.columns] = rounded
        found = Dense(table, self.weights, tuple(blocks))
        found.units, found._given = units, self.table
        return found

    def _own_scales(self) -> np.ndarray:
        """Return 1 / the mean loss of each column at its best constant; 1 if constant."""
        scales = np.ones(self.shape[1])
        predictions = torch.as_tensor(self.offsets).expand(1, self.shape[0], -1)
        cuts = torch.as_tensor(self.cuts)[None]
        for block, loss in self._each(predictions, cuts):
            if block.loss.quadratic:  # a column with spread 1 has a mean loss of 1
                continue
            weight = self.weights[:, block.columns]
            share = weight / np.maximum(weight.max(0, initial=0.0), TINIEST)
            mean = (loss[0].numpy() * share).sum(0) / np.maximum(share.sum(0), TINIEST)
            usable = mean > FLAT
            if block.loss.has_units:  # a constant column was divided by its size
                x = self.table[:, block.columns]
                varies = np.ptp(np.where(share > 0, x, x.max(0)), axis=0) > FLAT
                usable = varies & (mean > 0)
            scales[block.columns] = np.where(usable, 1 / np.where(usable, mean, 1), 1.0)
        return scales

    def part(self, mask: np.ndarray) -> Dense:
        """Return the cells of a part of the table, with the same scales and units.

        Parameters
        ----------
        mask : bool ndarray of the table's shape
        """
        other = Dense(self.table, np.where(mask, self.weights, 0.0), self.blocks)
        other._stand_ins = self._stand_ins
        return other.in_units_of(self)

    def of_starts(self, masks: np.ndarray) -> Dense:
        """Return the cells with a different part of the table for each of S starts.

        Parameters
        ----------
        masks : bool ndarray of shape (S, rows, columns)
        """
        other = copy.copy(self)
        other.weights = self.weights * masks
        other._forget()
        return other

    def with_weights_over(self, size: float) -> Dense:
        """Return the same cells with all weights divided by a number."""
        other = copy.copy(self)
        other.weights = self.weights / size
        other._forget()
        return other

    def _forget(self) -> None:
        """Drop what was computed for other weights."""
        self._cache, self._constants_loss = {}, None

    def tensors(self, dtype: torch.dtype, device: torch.device) -> DenseTensors:
        """Return the table as tensors in one precision on one device."""
        return cached(self._cache, self._make_tensors, dtype, device)

    def _make_tensors(self, dtype: torch.dtype, device: torch.device) -> DenseTensors:
        def tensor(array: np.ndarray) -> torch.Tensor:
            # A copy: torch aligns its own memory, and alignment changes the last bits.
            return torch.tensor(array, dtype=dtype, device=device).contiguous()

        tensors = DenseTensors(
            [tensor(self._targets(block)) for block in self.blocks],
            [tensor(self.weights[..., block.columns]) for block in self.blocks],
        )
        if all(block.loss.quadratic for block in self.blocks):
            tensors.wide = tensor(self.weights[..., self.coordinate_columns])
            tensors.wide_targets = tensor(self.table[:, self.coordinate_columns])
            tensors.wide_product = tensors.wide * tensors.wide_targets
        return tensors

    def _targets(self, block: Block) -> np.ndarray:
        """Return a block's values, with the best constants in place of missing values.

        These have no weight, but some losses compute the spread of all values of a column.
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
        tensors = self.tensors(predictions.dtype, predictions.device)
        return [
            (block, block.loss(block.predictions(predictions), x, **block.cuts(cuts)))
            for block, x in zip(self.blocks, tensors.targets, strict=True)
        ]

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum of the losses of each start."""
        return self._summed(torch.bmm(left, right.mT), cuts)

    def squares(
        self, predictions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return sum w (z - x)^2 and 2 w (z - x) if every loss is squared."""
        tensors = self.tensors(predictions.dtype, predictions.device)
        if tensors.wide is None or tensors.wide_targets is None:
            return None
        rest = predictions - tensors.wide_targets
        weighted = tensors.wide * rest
        return (weighted * rest).sum((1, 2)), weighted.mul_(2)

    def _summed(self, predictions: torch.Tensor, cuts: torch.Tensor) -> torch.Tensor:
        weights = self.tensors(predictions.dtype, predictions.device).weights
        parts = self._each(predictions, cuts)
        totals = [
            (loss * w).sum((1, 2)) for (_, loss), w in zip(parts, weights, strict=True)
        ]
        return torch.stack(totals).sum(0)

    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Quadratic:
        """Return the losses, and the quadratics of all blocks side by side.

        Per cell, the quadratic is w m (t - z)^2 for the weight w of the cell, and m and t
        of `Loss.majorize`.
        """
        tensors = self.tensors(left.dtype, left.device)
        z = torch.bmm(left, right.mT)
        losses = self._summed(z, cuts)
        if tensors.wide is not None:
            return Quadratic(losses, tensors.wide, tensors.wide_targets, z)
        weights, targets = torch.empty_like(z), torch.empty_like(z)
        for block, x, w in zip(
            self.blocks, tensors.targets, tensors.weights, strict=True
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
        return Quadratic(losses, weights, targets, z)

    def _quadratic(self, dtype: torch.dtype, device: torch.device) -> Quadratic:
        tensors = self.tensors(dtype, device)
        return Quadratic(None, tensors.wide, tensors.wide_targets, None)

    def normal(
        self, look: Quadratic, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted Gram matrix of each row, and its right-hand side.

        With the distinct products v_a v_b of the rows v of the other factor as columns,
        all Gram matrices are one product with the weights. If the weights are the same
        for all starts, it is one product for all of them.
        """
        weights, targets = look.weights, look.targets
        assert weights is not None  # noqa: S101
        assert targets is not None  # noqa: S101
        shared = weights.ndim == 2
        tensors = self.tensors(other.dtype, other.device)
        if (shared or weights is tensors.wide) and tensors.wide_product is not None:
            product = tensors.wide_product
        else:
            product = weights * targets
        if side == "columns":
            weights, product = weights.mT, product.mT
        multiply = times if shared else torch.bmm
        gram = multiply(weights, outer(other))
        return unpacked(gram, other.shape[-1]), multiply(product, other)

    def descent(
        self, look: Quadratic, left: torch.Tensor, right: torch.Tensor
    ) -> torch.Tensor:
        """Return 2 (w (t - Z))^T L."""
        assert look.weights is not None  # noqa: S101
        assert look.targets is not None  # noqa: S101
        assert look.predictions is not None  # noqa: S101
        return 2 * ((look.weights * (look.targets - look.predictions)).mT @ left)

    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two sums from products over all cells.

        n is linear in the target, so that weighted targets give w n.
        """
        tensors = self.tensors(left.dtype, left.device)
        weight, z = tensors.weights[0], torch.bmm(left, right.mT)
        n, p = self.blocks[0].loss.parts(z, weight * tensors.targets[0])
        multiply = torch.bmm if weight.ndim == 3 else times
        other = right
        if side == "columns":
            weight, n, other = weight.mT, n.mT, left
            p = None if p is None else p.mT
        if p is None:
            return torch.bmm(n, other), multiply(weight, other)
        return torch.bmm(n, other), torch.bmm(weight * p, other)

    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> np.ndarray:
        """Return w f'(z), zero at missing cells."""
        z = left @ right.mT
        tensors = self.tensors(z.dtype, z.device)
        found = torch.zeros_like(z)
        for block, x, w in zip(
            self.blocks, tensors.targets, tensors.weights, strict=True
        ):
            part = slope(block.loss, block.predictions(z), x, **block.cuts(cuts))
            part = part * (w if block.each == 1 else w[..., None])
            found[..., block.place] = part.reshape(found[..., block.place].shape)
        return np.asarray(found.cpu().numpy(), dtype=np.float64)

    def each(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> np.ndarray:
        """Return the loss of each cell, NaN at missing cells."""
        z = (left @ right.mT)[None]
        found = np.full(self.shape, np.nan)
        for block, loss in self._each(z, cuts[None]):
            found[:, block.columns] = loss[0].cpu().numpy()
        return np.where(self.weights > 0, found, np.nan)

    def _squares_about(self, block: Block, constant: np.ndarray) -> np.ndarray:
        return squares_about(self.table, constant, block.columns, self.weights)

    def conjugates(self, slopes: np.ndarray) -> float:
        """Return sum w f*(g / w) over the observed cells."""
        total = 0.0
        for block in self.blocks:
            weight = self.weights[:, block.columns]
            kept = weight > 0
            over = slopes[:, block.place] / np.where(kept, weight, 1)
            value = block.loss.conjugate(over, self.table[:, block.columns])
            total += float((weight * np.where(kept, value, 0)).sum())
        return total
