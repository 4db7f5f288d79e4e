"""Cells and rows that are chosen at random from a table, which processes may share.

Every process chooses its own ones of those that one process would choose. Of tables with
many cells, each cell has a random key, and those with the smallest keys are chosen; in
smaller ones they are the first of a random permutation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from descents.optim.collective import ALONE, Collective
from descents.rng import drawn_in_blocks, stream

MOST_PERMUTED = 2**22
"""The largest number of observed cells that are permuted. Their positions are in the memory
of every process."""


def hidden_cells(
    observed: np.ndarray,
    share: float,
    seed: int,
    *,
    most: int,
    enough: int,
    folds: int,
    together: Collective = ALONE,
) -> Iterator[np.ndarray]:
    """Yield disjoint sets of observed cells, as masks of the rows of this process.

    Each row and each column keeps an observed cell.

    Parameters
    ----------
    observed : bool ndarray of shape (n, p)
    share : float
        The share of the observed cells in each set.
    seed : int
    most : int
        The most cells in each set.
    enough, folds : int
        There are as many sets as give `enough` cells, but at most `folds`.
    together : Collective
        Processes that share the table.
    """
    (total,) = together.sum_arrays(np.asarray(float(observed.sum())))
    if not share or not total:
        return
    each = min(max(1, round(share * float(total))), most)
    fewest = min(folds, -(-enough // each))
    if total <= MOST_PERMUTED:
        cells, count = _permuted(observed, seed, together)
    else:
        cells, count = _of_least_keys(observed, seed, each * fewest, together)
    for fold in range(min(fewest, -(-count // each))):
        hidden = np.zeros(observed.shape, dtype=bool)
        place, rows, columns = cells
        mine = (place >= fold * each) & (place < (fold + 1) * each)
        hidden[rows[mine], columns[mine]] = True
        yield hidden


Places = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The positions of cells in the order of all that were chosen, their rows and columns."""


def _permuted(
    observed: np.ndarray, seed: int, together: Collective
) -> tuple[Places, int]:
    """Return the cells here in a permutation of all, without the first of rows and columns.

    The number of all cells is returned too.
    """
    first, whole = together.offset(len(observed)), _joined(observed, together)
    cells = np.argwhere(whole)
    cells = stream(seed, "split", 0).permutation(cells)
    kept = np.zeros(len(cells), dtype=bool)
    for axis in (0, 1):  # the first cell of each row and each column is kept
        kept[np.unique(cells[:, axis], return_index=True)[1]] = True
    rows, columns = cells[~kept].T
    place = np.flatnonzero((rows >= first) & (rows < first + len(observed)))
    return (place, rows[place] - first, columns[place]), len(rows)


def _joined(observed: np.ndarray, together: Collective) -> np.ndarray:
    """Return the mask of the rows of all processes."""
    if together.size == 1:
        return observed
    shape = observed.shape[1:]
    parts = together.each((len(observed), np.packbits(observed)))
    found = [
        np.unpackbits(bits, count=rows * int(np.prod(shape))).reshape(rows, *shape)
        for rows, bits in parts
    ]
    return np.concatenate(found).astype(bool)


def _of_least_keys(
    observed: np.ndarray, seed: int, count: int, together: Collective
) -> tuple[Places, int]:
    """Return the cells here that are among the `count` cells with the smallest keys.

    Of each row and each column the cell with the largest key is kept. The number of all
    that are chosen is returned too.
    """
    keys = _keys(stream(seed, "split", 0), observed.shape, together)
    keys[~observed] = -1.0
    kept = keys == keys.max(1, keepdims=True)
    kept |= keys == together.most(keys.max(0, initial=-1.0))
    rows, columns = np.nonzero(observed & ~kept)
    own = keys[rows, columns]
    if len(own) > count:
        least = np.sort(np.argpartition(own, count)[:count])
        rows, columns, own = rows[least], columns[least], own[least]
    place, number = _ranks(own, together)
    some = place < count
    return (place[some], rows[some], columns[some]), min(number, count)


def chosen_rows(
    observed: np.ndarray, count: int, seed: int, number: int, together: Collective
) -> tuple[np.ndarray, np.ndarray]:
    """Choose observed cells of a column at random.

    Parameters
    ----------
    observed : bool ndarray of shape (n,)
        The rows of this process that have a cell.
    count : int
        How many are chosen, if there are as many.
    seed, number : int
        The number of the draw.
    together : Collective

    Returns
    -------
    rows, place : int64 ndarray
        Those of this process, and their positions among all that are chosen.
    """
    generator = stream(seed, "split", number)
    (total,) = together.sum_arrays(np.asarray(float(observed.sum())))
    if total <= MOST_PERMUTED:
        first = together.offset(len(observed))
        whole = np.flatnonzero(_joined(observed, together))
        rows = generator.permutation(whole)[:count]
        place = np.flatnonzero((rows >= first) & (rows < first + len(observed)))
        return rows[place] - first, place
    keys = _keys(generator, (len(observed), 1), together)[:, 0]
    rows = np.flatnonzero(observed)
    if len(rows) > count:
        rows = rows[np.argpartition(keys[rows], count)[:count]]
    place, _ = _ranks(keys[rows], together)
    return rows[place < count], place[place < count]


def _keys(
    generator: np.random.Generator, shape: tuple[int, ...], together: Collective
) -> np.ndarray:
    """Return a random number for each cell of the rows of this process."""
    rows, first = sum(together.each(shape[0])), together.offset(shape[0])
    place = slice(first, first + shape[0])
    return drawn_in_blocks(generator, rows, place, shape[1])


def _ranks(keys: np.ndarray, together: Collective) -> tuple[np.ndarray, int]:
    """Return the positions of keys among those of all processes, and how many these are."""
    every = np.concatenate(together.each(keys))
    place: np.ndarray = np.empty(len(every), dtype=np.int64)
    place[np.argsort(every, kind="stable")] = np.arange(len(every))
    first = together.offset(len(keys))
    return place[first : first + len(keys)], len(every)
