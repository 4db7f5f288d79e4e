"""Tables that are stored as triples of row, column and value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.frames import short
from descents.text import counted

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class Triples:
    """A table that is stored as triples of row, column and value.

    Attributes
    ----------
    rows, columns : int64 ndarray of shape (N,)
    values : float64 ndarray of shape (N,)
        A stored 0 is an observed value; cells that are not stored are missing.
    shape : tuple of int
    row_names, column_names : tuple of str

    Examples
    --------
    >>> at = np.array([0, 1])
    >>> Triples(at, at, np.array([0.0, 5.0]), (2, 2), ("u", "v"), ("a", "b")).shape
    (2, 2)
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]
    row_names: tuple[str, ...]
    column_names: tuple[str, ...]

    def to_sparse(self) -> csr_array:
        """Return a ``scipy.sparse.csr_array`` that keeps a stored 0.

        Examples
        --------
        >>> at = np.array([0, 1])
        >>> triples = Triples(at, at, np.array([0.0, 5.0]), (2, 2), ("u", "v"), ("a", "b"))
        >>> triples.to_sparse().nnz
        2
        """
        from scipy.sparse import coo_array

        entries = (self.values, (self.rows, self.columns))
        return coo_array(entries, shape=self.shape).tocsr()


def stored_once(
    where: str,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    row_names: tuple[str, ...],
    column_names: tuple[str, ...],
) -> Triples:
    """Return triples; raise an error if a cell occurs more than once."""
    if not len(values):
        raise InvalidValueError(f"{where} has no values; give at least one")
    keys = rows * len(column_names) + columns
    _, first, times = np.unique(keys, return_index=True, return_counts=True)
    twice = first[times > 1]
    if len(twice):
        at = twice.min()
        raise InvalidValueError(
            f"{where} has row {short(row_names[rows[at]])!r}, column "
            f"{short(column_names[columns[at]])!r} more than once, and "
            f"{counted(len(twice), 'such pair')} in all; give each pair once"
        )
    shape = (len(row_names), len(column_names))
    return Triples(rows, columns, values, shape, row_names, column_names)
