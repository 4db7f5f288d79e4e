"""The types of tables: dense, sparse, or on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from descents.tables.blocks import TableOnDisk

if TYPE_CHECKING:
    from typing_extensions import TypeIs


class SparseTable(Protocol):
    """The part of a compressed sparse array of scipy that is used; scipy has no types."""

    shape: tuple[int, int]
    dtype: np.dtype
    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray

    @property
    def T(self) -> SparseTable:  # noqa: N802
        """The transposed table."""

    def __getitem__(self, place: object) -> SparseTable:
        """Return some rows or columns."""

    def __gt__(self, other: float) -> SparseTable:
        """Return where entries are larger than a number."""

    def __mul__(self, other: SparseTable) -> SparseTable:
        """Return the product of each pair of entries."""

    def __truediv__(self, other: float) -> SparseTable:
        """Return the table divided by a number."""

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        """Return the product with a dense matrix."""

    def sum(self, axis: int | None = None) -> np.ndarray:
        """Return sums of entries."""

    def toarray(self) -> np.ndarray:
        """Return the table as a dense array."""

    def tocsr(self) -> SparseTable:
        """Return the table with compressed rows."""


def like(table: SparseTable, data: np.ndarray) -> SparseTable:
    """Return a sparse array with the places of another one, and its own entries."""
    from scipy.sparse import csr_array

    found: SparseTable = csr_array(
        (data, table.indices, table.indptr), shape=table.shape
    )
    return found


Matrix = np.ndarray | SparseTable
Values = Matrix | TableOnDisk
"""A table as numbers and codes of levels."""


def is_sparse(table: object) -> TypeIs[SparseTable]:
    """Return whether a table is a sparse array.

    Examples
    --------
    >>> is_sparse(np.zeros((1, 1)))
    False
    """
    return hasattr(table, "tocsr")
