"""One loss of the stored entries of a sparse table; other cells are missing.

Memory is of the order of entries times rank.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from descents.cells import constants
from descents.cells.base import Block, Side
from descents.cells.in_memory import CellsInMemory, Key, Quadratic, cached
from descents.cells.products import outer, unpacked
from descents.cells.sparse_products import SparseTensors
from descents.cells.units import on_a_grid
from descents.kernels import entries
from descents.losses import slope

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Sparse(CellsInMemory):
    """One loss of the stored entries of a sparse table; other cells are missing.

    Parameters
    ----------
    table : csr_array
        In canonical format.
    weights : float64 ndarray of shape (entries,), optional
    block : Block
    """

    def __init__(
        self, table: csr_array, weights: np.ndarray | None, block: Block
    ) -> None:
        self.table = table
        self.weights = weights
        self.shape = table.shape
        self.blocks, self.coordinates, self.cut_count = (block,), table.shape[1], 0
        columns = self.shape[1]
        self.row_counts = np.diff(table.indptr).astype(np.float64)
        self.column_counts = np.bincount(table.indices, minlength=columns) * 1.0
        self.offsets = constants.of_entries(table, weights, block.loss)
        self.cuts = np.zeros(0)
        self.size = table.nnz
        self._cache: dict[Key, SparseTensors] = {}

    def over(self, unit: float, scale: float) -> Sparse:
        """Return the entries divided by a unit, with weights multiplied by a number."""
        loss = self.blocks[0].loss.in_units(np.array([unit])).column(0)
        data = on_a_grid(
            self.table.data.astype(np.float64) / unit, relative=loss.divergence
        )
        places = (data, self.table.indices, self.table.indptr)
        weights = self.weights
        if weights is not None or scale != 1:
            weights = (np.ones(len(data)) if weights is None else weights) * scale
        return Sparse(
            type(self.table)(places, self.shape),
            weights,
            replace(self.blocks[0], loss=loss),
        )

    def with_weights_over(self, size: float) -> Sparse:
        """Return the same entries with all weights divided by a number."""
        return self.of_starts(np.full(self.table.nnz, 1 / size))

    def part(self, mask: np.ndarray) -> Sparse:
        """Return some of the stored entries.

        Parameters
        ----------
        mask : bool ndarray of shape (entries,)
        """
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.table.indptr))[mask]
        places = (rows, self.table.indices[mask])
        table = type(self.table)((self.table.data[mask], places), shape=self.shape)
        weights = None if self.weights is None else self.weights[mask]
        return Sparse(table, weights, self.blocks[0])

    def of_starts(self, masks: np.ndarray) -> Sparse:
        """Return the cells with different entries for each of S starts.

        Parameters
        ----------
        masks : bool ndarray of shape (S, entries)
        """
        other = copy.copy(self)
        weights = np.ones(self.table.nnz) if self.weights is None else self.weights
        other.weights = weights * masks
        other._cache, other._constants_loss = {}, None
        return other

    def tensors(self, dtype: torch.dtype, device: torch.device) -> SparseTensors:
        """Return the entries as tensors in one precision on one device."""
        return cached(self._cache, self._make_tensors, dtype, device)

    def _make_tensors(self, dtype: torch.dtype, device: torch.device) -> SparseTensors:
        return SparseTensors.of(self.table, self.weights, dtype, device)

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum over the stored entries of each start."""
        tensors = self.tensors(left.dtype, left.device)
        return self._summed(tensors.predictions(left, right), tensors)

    def _summed(self, z: torch.Tensor, tensors: SparseTensors) -> torch.Tensor:
        loss = self.blocks[0].loss(z, tensors.values)
        return (loss if tensors.weights is None else loss * tensors.weights).sum(-1)

    def look(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor, step: int
    ) -> Quadratic:
        """Return the losses and the quadratic of each entry."""
        tensors = self.tensors(left.dtype, left.device)
        z = tensors.predictions(left, right)
        weight, target = self.blocks[0].loss.majorize(z, tensors.values, step)
        if tensors.weights is not None:
            weight = tensors.weights if weight is None else weight * tensors.weights
        return Quadratic(self._summed(z, tensors), weight, target, z)

    def _quadratic(self, dtype: torch.dtype, device: torch.device) -> Quadratic:
        tensors = self.tensors(dtype, device)
        return Quadratic(None, tensors.weights, tensors.values, None)

    def normal(
        self, look: Quadratic, side: Side, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sum_j w v_j v_j^T and sum_j w t v_j over the entries of each row.

        Without compiled code, they are products of the sparse matrix of the weights with
        the outer products of the rows v_j, and of the sparse matrix of w t with them.
        """
        tensors = self.tensors(other.dtype, other.device)
        weights, targets = look.weights, look.targets
        assert targets is not None  # noqa: S101
        found = entries.normal_equations(
            tensors.ends(side),
            tensors.others(side),
            None if weights is None else tensors.arranged(side, weights),
            tensors.arranged(side, targets),
            other,
        )
        if found is not None:
            return found
        if weights is tensors.weights and targets is tensors.values:
            product = tensors.weighted_values
        else:
            product = targets if weights is None else weights * targets
        gram = tensors.sums(
            side, tensors.ones if weights is None else weights, outer(other)
        )
        return unpacked(gram, other.shape[-1]), tensors.sums(side, product, other)

    def descent(
        self, look: Quadratic, left: torch.Tensor, right: torch.Tensor
    ) -> torch.Tensor:
        """Return 2 (w (t - Z))^T L over the stored entries."""
        tensors = self.tensors(left.dtype, left.device)
        assert look.targets is not None  # noqa: S101
        assert look.predictions is not None  # noqa: S101
        residual = look.targets - look.predictions
        if look.weights is not None:
            residual = residual * look.weights
        return 2 * tensors.sums("columns", residual, left)

    def ratios(
        self, side: Side, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two sums over the stored entries."""
        tensors = self.tensors(left.dtype, left.device)
        other = right if side == "rows" else left
        weight = tensors.ones if tensors.weights is None else tensors.weights
        target, loss = tensors.weighted_values, self.blocks[0].loss
        if getattr(loss, "beta", None) == 1:  # kl: n = x / z and p = 1
            less = tensors.ratios(side, target, left, right)
            return less, tensors.sums(side, weight, other)
        # n is linear in the target, so weighted targets give w n.
        n, p = loss.parts(tensors.predictions(left, right), target)
        more = weight if p is None else weight * p
        return tensors.sums(side, n, other), tensors.sums(side, more, other)

    def slopes(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> csr_array:
        """Return w f'(z) as a sparse array of the same pattern."""
        tensors = self.tensors(left.dtype, left.device)
        with torch.no_grad():
            z = tensors.predictions(left[None], right[None])[0]
        part = slope(self.blocks[0].loss, z, tensors.values)
        if tensors.weights is not None:
            part = part * tensors.weights
        data = part.cpu().numpy().astype(np.float64)
        table = self.table
        return type(table)((data, table.indices, table.indptr), table.shape)

    def each(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> np.ndarray:
        """Return the loss of each stored entry."""
        tensors = self.tensors(left.dtype, left.device)
        z = tensors.predictions(left[None], right[None])[0]
        return np.asarray(self.blocks[0].loss(z, tensors.values).cpu().numpy())

    def _squares_about(self, block: Block, constant: np.ndarray) -> np.ndarray:
        rest = np.square(self.table.data - constant[self.table.indices])
        return np.bincount(self.table.indices, rest, self.shape[1])

    def conjugates(self, slopes: csr_array) -> float:
        """Return sum w f*(g / w) over the stored entries."""
        weight = np.ones(len(slopes.data)) if self.weights is None else self.weights
        value = self.blocks[0].loss.conjugate(slopes.data / weight, self.table.data)
        return float((weight * value).sum())
