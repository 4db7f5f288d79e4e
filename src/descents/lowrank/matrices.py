"""The types of tables: dense, sparse, or on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from descents.tables.blocks import TableOnDisk

if TYPE_CHECKING:
    from typing_extensions import TypeIs


class SparseTable(Protocol):
    """A compressed sparse array of scipy, which has no types of its own."""

    shape: tuple[int, int]
    dtype: np.dtype
    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        """Return the product with a dense matrix."""
        ...

    def toarray(self) -> np.ndarray:
        """Return the table as a dense array."""
        ...


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
