"""The entries of a sparse table as tensors, and sums over them for all starts.

Compiled code computes the sums where there is any; torch operations give the same sums
otherwise. Products take a few rows at a time, so that memory stays of the order of
entries times rank.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from descents.cells.base import ONCE, Side
from descents.cells.products import times
from descents.kernels import entries

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PIECE = 2**18
"""The maximum number of elements that a product over stored entries has at once."""


@dataclass
class SparseTensors:
    """The entries of a sparse table in one precision on one device.

    Attributes
    ----------
    shape : tuple of int
    values, rows, columns : Tensor of shape (entries,)
        Row by row.
    order : int64 Tensor of shape (entries,)
        The positions of the entries, column by column.
    turned_rows : int64 Tensor of shape (entries,)
        The rows of the entries, column by column.
    row_ends, column_ends : int64 Tensor of shape (rows + 1,) and (columns + 1,)
        Where the entries of each row, and of each column, begin and end.
    ones : Tensor of shape (entries,)
    weights : Tensor of shape (entries,) or (S, entries), optional
    """

    shape: tuple[int, int]
    values: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    order: torch.Tensor
    turned_rows: torch.Tensor
    row_ends: torch.Tensor
    column_ends: torch.Tensor
    ones: torch.Tensor
    weights: torch.Tensor | None = None
    _weighted: torch.Tensor | None = None
    _derived: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        table: csr_array,
        weights: np.ndarray | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> SparseTensors:
        """Return the entries of a CSR array, with their weights.

        Values are copied, because torch aligns its own memory and numpy does not; where
        an array begins changes the last bits of its products.
        """

        def whole(array: np.ndarray, *, own: bool = True) -> torch.Tensor:
            # What belongs to the caller is copied.
            array = array.astype(np.int64, copy=not own)
            return torch.as_tensor(array, device=device)

        m, n = table.shape
        rows = np.repeat(np.arange(m), np.diff(table.indptr))
        places = np.arange(table.nnz)
        turned = type(table)((places, table.indices, table.indptr), (m, n)).tocsc()
        counts = np.bincount(table.indices, minlength=n)
        values = torch.tensor(table.data, dtype=dtype, device=device)
        heavy = None
        if weights is not None:
            heavy = torch.tensor(weights, dtype=dtype, device=device)
        return cls(
            shape=(m, n),
            values=values,
            rows=whole(rows),
            columns=whole(table.indices, own=False),
            order=whole(turned.data),
            turned_rows=whole(turned.indices),
            row_ends=whole(table.indptr, own=False),
            column_ends=whole(np.concatenate([[0], counts.cumsum()])),
            ones=torch.ones_like(values),
            weights=heavy,
        )

    @property
    def weighted_values(self) -> torch.Tensor:
        """The values times their weights."""
        if self.weights is None:
            return self.values
        if self._weighted is None:
            with ONCE, torch.inference_mode(False):
                self._weighted = self.weights * self.values
        return self._weighted

    def ends(self, side: Side) -> torch.Tensor:
        """Return where the entries of each row of one side begin and end."""
        return self.row_ends if side == "rows" else self.column_ends

    def others(self, side: Side) -> torch.Tensor:
        """Return the row of the other factor of each entry, in the order of one side."""
        return self.columns if side == "rows" else self.turned_rows

    def arranged(self, side: Side, values: torch.Tensor) -> torch.Tensor:
        """Return numbers of the entries in the order of one side."""
        if side == "rows":
            return values
        return self._once("order", values, lambda: values[..., self.order])

    def _once(
        self, what: str, values: torch.Tensor, make: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Return what is made of values; it is stored if they are the same at every step."""
        key = (what, id(values))
        if key in self._derived:
            return self._derived[key]
        made = make()
        own = (self.values, self.ones, self.weights, self._weighted)
        if any(values is one for one in own):
            self._derived[key] = made
        return made

    def matrix(self, side: Side, values: torch.Tensor) -> torch.Tensor:
        """Return a CSR tensor with these values, of shape (rows of the side, others)."""

        def made() -> torch.Tensor:
            m, n = self.shape if side == "rows" else self.shape[::-1]
            with warnings.catch_warnings():
                # torch warns once in a process that its sparse tensors are in beta.
                warnings.filterwarnings(
                    "ignore", "Sparse CSR tensor support", UserWarning
                )
                return torch.sparse_csr_tensor(
                    self.ends(side),
                    self.others(side),
                    self.arranged(side, values),
                    (m, n),
                    check_invariants=False,
                )

        return self._once(side, values, made)

    # Sums over entries

    def sums(
        self, side: Side, values: torch.Tensor, factor: torch.Tensor
    ) -> torch.Tensor:
        """Return sum_j x_ij v_j for every row i of one side and every start.

        Parameters
        ----------
        side : {"rows", "columns"}
        values : Tensor of shape (entries,) or (S, entries)
            x, row by row.
        factor : Tensor of shape (S, n, q)
            The rows v of the other side.

        Returns
        -------
        Tensor of shape (S, rows of the side, q)
        """
        if values.ndim == 1:
            return times(self.matrix(side, values), factor)
        return torch.stack(
            [self.matrix(side, v) @ f for v, f in zip(values, factor, strict=True)]
        )

    def ratios(
        self,
        side: Side,
        targets: torch.Tensor,
        left: torch.Tensor,
        right: torch.Tensor,
    ) -> torch.Tensor:
        """Return sum_j t_ij / z_ij v_j for every row i of one side and every start."""
        least = float(torch.finfo(left.dtype).tiny ** 0.5)
        this, other = (left, right) if side == "rows" else (right, left)
        found = entries.ratios(
            self.ends(side),
            self.others(side),
            self.arranged(side, targets),
            this,
            other,
            least,
        )
        if found is not None:
            return found
        ratio = targets / self.predictions(left, right).clamp_min(least)
        return self.sums(side, ratio, other)

    def predictions(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return the predictions z_ij = l_i^T r_j of the entries, shape (S, entries)."""
        rows, columns = self.rows, self.columns
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
