"""Observed cells that are held out of a fit, never whole rows."""

from __future__ import annotations

import numpy as np

from descents.checks import InvalidValueError
from descents.problems.cells import Cells
from descents.problems.layouts import Complete, Dense, Stored

MOST_CELLS = 2**22
"""Larger sparse tables whose absent entries are zeros are not made dense."""


def dealt(found: Cells, folds: int, generator: np.random.Generator) -> np.ndarray:
    """Deal the observed cells out to folds, each column in equal parts.

    The cells of each level of a column of levels are spread in equal parts too. A cell
    is never held out where its row, its column or its level has no other, and no fold
    holds out all cells of a row, a column or a level.

    Parameters
    ----------
    found : Cells
        `Dense` or `Stored`.
    folds : int
        At least 2.

    Returns
    -------
    int64 ndarray of the table's shape, or of shape (entries,)
        The fold of each cell; -1 where it is never held out.

    Examples
    --------
    >>> from descents.problems.observed import cells
    >>> known = cells(np.where(np.eye(6, 3) > 0, np.nan, 1.0))
    >>> folds = dealt(known, 3, np.random.default_rng(0))
    >>> np.bincount(folds[folds >= 0]), (folds == -1).sum()
    (array([5, 5, 5]), np.int64(3))
    """
    i, j, values = observed(found)
    level = _level_keys(found, j, values)
    order = np.lexsort((generator.random(len(i)), level, j))
    first = np.searchsorted(j[order], j[order])
    shift = generator.integers(0, folds, found.shape[1])
    fold = np.empty(len(i), dtype=np.int64)
    fold[order] = (np.arange(len(i)) - first + shift[j[order]]) % folds
    groups = [np.unique(part, return_inverse=True)[1] for part in (i, j, level)]
    for group in groups:
        fold[np.bincount(group)[group] < 2] = -1
    for last in [False] * 10 + [True]:
        for group in groups:
            low = np.full(group.max() + 1, folds)
            high = np.full(group.max() + 1, -1)
            np.minimum.at(low, group, fold)
            np.maximum.at(high, group, fold)
            alone = ((low == high) & (low >= 0))[group]  # all in one fold
            if last:
                fold[alone] = -1
            elif alone.any():
                places = np.flatnonzero(alone)
                _, one = np.unique(group[places], return_index=True)
                fold[places[one]] = (fold[places[one]] + 1) % folds
    if isinstance(found, Stored):
        return fold
    table = np.full(found.shape, -1, dtype=np.int64)
    table[i, j] = fold
    return table


def observed(found: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, the columns and the values of the cells that are data."""
    if isinstance(found, Stored):
        rows = np.repeat(np.arange(found.shape[0]), np.diff(found.table.indptr))
        return rows, found.table.indices.astype(np.int64), found.table.data
    i, j = np.nonzero(found.weights > 0)
    return i, j, found.table[i, j]


def _level_keys(found: Cells, j: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a number for each level of each column; one for a column of numbers."""
    has_levels = np.zeros(found.shape[1], dtype=bool)
    for block in found.blocks:
        has_levels[block.columns] = block.loss.has_levels
    codes = np.where(has_levels[j], values, 0).astype(np.int64)
    key: np.ndarray = j * (codes.max(initial=0) + 1) + codes
    return key


def with_holes(found: Cells) -> Dense | Stored:
    """Return the same cells in a layout that some can be taken out of.

    Raises
    ------
    InvalidValueError
        Of a sparse table, too large to be made dense, whose absent entries are zeros.
    """
    if not isinstance(found, Complete):
        assert isinstance(found, Dense | Stored)  # noqa: S101
        return found
    table = found.table
    if not isinstance(table, np.ndarray):
        if table.shape[0] * table.shape[1] > MOST_CELLS:
            raise InvalidValueError(
                f"a sparse table of {table.shape[0]} x {table.shape[1]} cells, all of "
                "which count (sparse='zero'), would have to be made dense to hold some "
                "out; give the rank and the penalty as numbers"
            )
        table = table.toarray()
    table = table.astype(np.float64)
    return Dense(table, np.ones(table.shape), found.blocks).in_units_of(found)
