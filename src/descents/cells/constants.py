"""The best constant of each column, from which offsets and references are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from descents.cells.base import Block
from descents.losses import Loss, Ordinal, bisection, golden_section, slope

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST_AT_ONCE = 100_000
"""The maximum number of cells of which columns are searched at once.

More are slower at once than column by column, whose cells stay in the processor's cache.
"""


def of_block(
    block: Block, values: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best constants of the columns of a block.

    Parameters
    ----------
    block : Block
    values, weights : float64 ndarray of shape (rows, J)
        Weights are zero for missing cells. A column without cells counts as one zero.

    Returns
    -------
    offsets : float64 ndarray of shape (J each,)
        Natural parameters.
    cuts : float64 ndarray of shape (J thresholds,)
        The cut points that belong to them.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> block = Block(get_loss("squared"), np.arange(1), 0, 0, 0)
    >>> of_block(block, np.array([[1.0], [4.0]]), np.array([[2.0], [1.0]]))
    (array([2.]), array([], dtype=float64))
    """
    loss, count = block.loss, len(block.columns)
    weights = _of_size_one(weights)
    if loss.quadratic:  # the weighted mean
        total = weights.sum(0)
        return (weights * values).sum(0) / np.where(total > 0, total, 1), np.zeros(0)
    if type(loss).best_constant is Loss.best_constant and values.size <= MOST_AT_ONCE:
        return _searched_at_once(loss, values, weights), np.zeros(0)
    offsets = np.zeros((count, block.each))
    cuts = np.zeros((count, loss.thresholds(block.levels)))
    for place in range(count):
        kept = weights[:, place] > 0
        x, w = values[kept, place], weights[kept, place]
        if not kept.any():
            x, w = np.zeros(1), np.ones(1)
        offsets[place] = loss.column(place).best_point(x, w, block.levels)
        if isinstance(loss, Ordinal):
            cuts[place] = Ordinal.best_cuts(x, w, block.levels)
    return offsets.reshape(-1), cuts.reshape(-1)


def _of_size_one(weights: np.ndarray) -> np.ndarray:
    """Return the weights of each column over the largest one: their size has no effect."""
    most = weights.max(0, initial=0.0)
    if np.isin(most, (0.0, 1.0)).all():
        return weights
    return np.asarray(weights / np.where(most > 0, most, 1.0))


def _searched_at_once(
    loss: Loss, values: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the best constants of all columns of numbers, from one search for them."""
    blank = ~(weights > 0).any(0)
    if blank.any():  # they count as one zero
        values, weights = values.copy(), weights.copy()
        values[0, blank], weights[0, blank] = 0.0, 1.0
    return loss.searched_constants(values, weights)


def of_entries(table: csr_array, weights: np.ndarray | None, loss: Loss) -> np.ndarray:
    """Return the best constants of the columns of a sparse table.

    Parameters
    ----------
    table : csr_array
        Entries that are not stored are missing cells.
    weights : float64 ndarray of shape (entries,), optional
    loss : Loss
        A loss of numbers, with one coordinate for each column.

    Returns
    -------
    float64 ndarray of shape (columns,)
        0 for columns without entries.
    """
    columns = table.shape[1]
    weight = np.ones(table.nnz) if weights is None else weights
    if weights is not None and weights.max(initial=0.0) > 0:
        weight = weights / weights.max()
    if loss.quadratic:
        total = np.bincount(table.indices, weight, columns)
        sums = np.bincount(table.indices, weight * table.data, columns)
        return np.asarray(sums / np.where(total > 0, total, 1))
    seen = np.flatnonzero(np.bincount(table.indices, minlength=columns))
    turned = table.tocsc()
    offsets = np.zeros(columns)
    if type(loss).best_constant is Loss.best_constant:
        offsets[seen] = _searched(table, turned, weight, loss, seen)
        return offsets
    heavy = type(table)((weight, table.indices, table.indptr), table.shape).tocsc()
    for j in seen:
        part = slice(turned.indptr[j], turned.indptr[j + 1])
        values = turned.data[part].astype(np.float64)
        offsets[j] = loss.best_constant(values, heavy.data[part])[0]
    return offsets


def _searched(
    table: csr_array,
    turned: csr_array,
    weight: np.ndarray,
    loss: Loss,
    seen: np.ndarray,
) -> np.ndarray:
    """Return the best constants of the columns `seen` by one search for all of them.

    It is the search of `Loss.best_constant`, in which the loss of all entries is computed
    at once. `turned` is the table in CSC format.
    """
    if not len(seen):
        return np.zeros(0)
    place = np.zeros(table.shape[1], dtype=np.int64)
    place[seen] = np.arange(len(seen))
    columns = place[table.indices]
    target = torch.as_tensor(table.data.astype(np.float64))

    def total(z: np.ndarray) -> np.ndarray:
        each = loss(torch.as_tensor(z[columns]), target)
        return np.bincount(columns, weight * each.numpy(), len(seen))

    def derivative(z: np.ndarray) -> np.ndarray:
        each = slope(loss, torch.as_tensor(z[columns]), target)
        return np.bincount(columns, weight * each.numpy(), len(seen))

    values, begins = turned.data.astype(np.float64), turned.indptr[seen]
    low = np.minimum.reduceat(values, begins)
    high = np.maximum.reduceat(values, begins)
    return bisection(derivative, golden_section(total, low, high), high - low)
