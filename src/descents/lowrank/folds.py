"""Split the observed cells of a table into folds for cross-validation."""

from __future__ import annotations

import numpy as np

from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.cells.dense import Dense
from descents.cells.sparse import Sparse
from descents.errors import InvalidValueError

MOST_CELLS = 2**22
"""Sparse tables whose absent entries are zeros are converted to dense up to this size."""


def dealt(found: Cells, folds: int, generator: np.random.Generator) -> np.ndarray:
    """Split the observed cells into folds, with equal parts of each column.

    The cells of each level of a column of levels are split into equal parts too. A cell
    is never held out if it is the only one of its row, its column or its level. No fold
    holds out all cells of a row, a column or a level.

    Parameters
    ----------
    found : Cells
        Cells of type `Dense` or `Sparse`.
    folds : int
        At least 2.

    Returns
    -------
    int64 ndarray of the table's shape, or of shape (entries,)
        The fold of each cell; -1 for cells that are never held out.

    Examples
    --------
    >>> from descents.cells.observed import cells
    >>> table = cells(np.where(np.eye(6, 3) > 0, np.nan, 1.0))
    >>> folds = dealt(table, 3, np.random.default_rng(0))
    >>> np.bincount(folds[folds >= 0]), (folds == -1).sum()
    (array([5, 5, 5]), np.int64(3))
    """
    i, j, values = observed(found)
    level = _level_keys(found, j, values)
    # Within each column, sort by level, with ties in random order, and deal in turn.
    order = np.lexsort((generator.random(len(i)), level, j))
    first = np.searchsorted(j[order], j[order])
    shift = generator.integers(0, folds, found.shape[1])
    fold = np.empty(len(i), dtype=np.int64)
    fold[order] = (np.arange(len(i)) - first + shift[j[order]]) % folds
    groups = [np.unique(part, return_inverse=True)[1] for part in (i, j, level)]
    for group in groups:
        fold[np.bincount(group)[group] < 2] = -1
    # Repair rows, columns and levels that are all in one fold: move one of their cells to
    # the next fold. After ten passes, those that remain are never held out.
    for last in [False] * 10 + [True]:
        for group in groups:
            low = np.full(group.max() + 1, folds)
            high = np.full(group.max() + 1, -1)
            np.minimum.at(low, group, fold)
            np.maximum.at(high, group, fold)
            in_one_fold = ((low == high) & (low >= 0))[group]
            if last:
                fold[in_one_fold] = -1
            elif in_one_fold.any():
                places = np.flatnonzero(in_one_fold)
                _, chosen = np.unique(group[places], return_index=True)
                fold[places[chosen]] = (fold[places[chosen]] + 1) % folds
    if isinstance(found, Sparse):
        return fold
    table = np.full(found.shape, -1, dtype=np.int64)
    table[i, j] = fold
    return table


def observed(found: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, the columns and the values of the observed cells."""
    if isinstance(found, Sparse):
        rows = np.repeat(np.arange(found.shape[0]), np.diff(found.table.indptr))
        return rows, found.table.indices.astype(np.int64), found.table.data
    i, j = np.nonzero(found.weights > 0)
    return i, j, found.in_memory.table[i, j]


def _level_keys(found: Cells, j: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a distinct number for each level of each column, one per numeric column."""
    has_levels = np.zeros(found.shape[1], dtype=bool)
    for block in found.blocks:
        has_levels[block.columns] = block.loss.has_levels
    codes = np.where(has_levels[j], values, 0).astype(np.int64)
    key: np.ndarray = j * (codes.max(initial=0) + 1) + codes
    return key


def with_holes(found: Cells) -> Dense | Sparse:
    """Return the same cells in a layout that allows missing cells.

    Raises
    ------
    InvalidValueError
        If the absent entries of a sparse table are zeros, and it is too large to be
        converted to dense.
    """
    if not isinstance(found, Complete):
        assert isinstance(found, Dense | Sparse)  # noqa: S101
        return found
    table = found.table
    if not isinstance(table, np.ndarray):
        if table.shape[0] * table.shape[1] > MOST_CELLS:
            raise InvalidValueError(
                f"the table has {table.shape[0]} x {table.shape[1]} cells, and with "
                "sparse='zero' all of them are data; holding some out would need a dense "
                "table, which is too large; give the rank and the penalty as numbers"
            )
        table = table.toarray()
    table = table.astype(np.float64)
    return Dense(table, np.ones(table.shape), found.blocks).in_units_of(found)
