"""Models of tables on disk: statistics of a fit from one pass, and memory use."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np

from descents.cells.streamed import Streamed
from descents.lowrank.model import LowRank
from descents.lowrank.predictor import Predictor
from descents.runs.factorize_result import MemoryUse
from descents.tables.memory import peak_memory, said
from descents.text import counted


@dataclass(frozen=True)
class Seen:
    """How a model fits a table on disk.

    Attributes
    ----------
    losses, constants : float64 ndarray of shape (columns,)
        The loss of each column under the model, and under its mean.
    row_losses : float64 ndarray of shape (rows,)
        The mean loss per observed cell of each row, 0 for rows without observed cells.
    cells : list of (int, int, float)
        Row, column and value of the cells with the largest losses, largest first.
    pattern : ndarray
        The share of observed cells in each square of a coarse grid.
    places : int64 ndarray of shape (points, 2)
        Row and column of a sample of the observed cells.
    values, predicted : float64 ndarray of shape (points,)
        The observed and the predicted values of these cells.
    """

    losses: np.ndarray
    constants: np.ndarray
    row_losses: np.ndarray
    cells: list[tuple[int, int, float]]
    pattern: np.ndarray
    places: np.ndarray
    values: np.ndarray
    predicted: np.ndarray


def look(fitted: Predictor, picked: np.ndarray, worst: int, squares: int) -> Seen:
    """Read a table on disk once, and return how well a model fits it.

    Processes that share the table read their own rows, and the first one has the result.

    Parameters
    ----------
    fitted : Predictor
        The fit of a table on disk.
    picked : int64 ndarray of shape (points,)
        The sorted indices of the sampled cells; observed cells are counted row by row.
    worst : int
        The number of worst cells to return.
    squares : int
        The largest number of squares along a side of the grid.
    """
    cells = fitted.problem.cells
    assert isinstance(cells, Streamed)  # noqa: S101
    (rows, columns), together = cells.whole_shape, cells.together
    losses, constants = np.zeros((2, columns))
    row_losses = np.zeros(cells.shape[0])
    cellwise: list[tuple[float, int, int, float]] = []
    grid = _Grid(rows, columns, squares)
    sampled: list[np.ndarray] = []
    # The observed cells in the blocks before, and in the processes before.
    passed = together.offset(int(cells.row_counts.sum()))
    for place, block in cells.table.blocks(cells.block_rows):
        natural, _ = fitted.predictions([fitted.of_rows(fitted.points[0], place)])
        squared = np.square(block - natural, dtype=np.float64)
        missing = np.isnan(squared)
        observed = np.flatnonzero(~missing)
        squared[missing] = 0
        losses += squared.sum(0)
        row_losses[place] = squared.sum(1) / np.maximum((~missing).sum(1), 1)
        constants += np.nansum(np.square(block - cells.offsets), 0)
        first = cells.first_row + place.start
        grid.add(first, ~missing)
        cellwise += _largest(squared, missing, worst, first, block)
        cellwise = sorted(cellwise, key=lambda cell: (-cell[0], cell[1:3]))[:worst]
        ends = np.searchsorted(picked, [passed, passed + len(observed)])
        i, j = np.divmod(observed[picked[slice(*ends)] - passed], columns)
        passed += len(observed)
        if len(fitted.points) > 1:  # predictions are means over several starts
            natural, _ = fitted.predictions(
                [fitted.of_rows(point, place) for point in fitted.points]
            )
        sampled.append(np.column_stack([i + first, j, block[i, j], natural[i, j]]))
        # Free the block before the next one is read.
        del block, natural, squared, missing, observed
    points = np.concatenate(list(together.arrays(np.concatenate(sampled))))
    losses, constants, *counts = together.sum_arrays(
        losses, constants, grid.counts, grid.sizes
    )
    of_rows = together.rows(row_losses)
    cellwise = [cell for each in together.each(cellwise) for cell in each]
    cellwise = sorted(cellwise, key=lambda cell: (-cell[0], cell[1:3]))[:worst]
    return Seen(
        losses,
        constants,
        row_losses if of_rows is None else of_rows,
        [(i, j, value) for _, i, j, value in cellwise],
        grid.share(*counts),
        points[:, :2].astype(np.int64),
        points[:, 2],
        points[:, 3],
    )


def _largest(
    losses: np.ndarray, missing: np.ndarray, worst: int, first: int, block: np.ndarray
) -> list[tuple[float, int, int, float]]:
    """Return the largest losses in a block of rows, with row, column and value."""
    flat = np.where(missing, -1.0, losses).ravel()
    size = min(worst, len(flat))
    smallest = np.partition(flat, len(flat) - size)[len(flat) - size]
    # Cells that tie with the smallest of the largest losses are taken in table order.
    above = np.flatnonzero(flat > smallest)
    ties = np.flatnonzero(flat == smallest)[: size - len(above)]
    return [
        (float(flat[k]), first + i, j, float(block[i, j]))
        for k in [*above, *ties]
        if flat[k] >= 0
        for i, j in [divmod(int(k), losses.shape[1])]
    ]


class _Grid:
    """Computes the share of observed cells in each square of a coarse grid."""

    def __init__(self, rows: int, columns: int, squares: int) -> None:
        self.rows, self.high = rows, min(rows, squares)
        wide = min(columns, squares)
        place = np.arange(columns) * wide // columns
        self.belongs = (place[:, None] == np.arange(wide)).astype(np.float64)
        self.counts = np.zeros((self.high, wide))
        self.sizes = np.zeros(self.high)

    def add(self, first: int, observed: np.ndarray) -> None:
        square = np.arange(first, first + len(observed)) * self.high // self.rows
        np.add.at(self.counts, square, observed @ self.belongs)
        np.add.at(self.sizes, square, 1)

    def share(self, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return the share of observed cells, from the sums of all processes."""
        size: np.ndarray = sizes[:, None] * self.belongs.sum(0)
        return counts / size


def warmed_up() -> int | None:
    """Return the peak memory after libraries were loaded and have allocated buffers."""
    import pyarrow.parquet
    import scipy.sparse.linalg  # noqa: F401

    # A fit large enough to make linear algebra libraries allocate all their buffers.
    small = np.random.Generator(np.random.Philox(0)).standard_normal((4096, 100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LowRank(10, random_state=0, max_iter=5).fit(small)
    pyarrow.parquet.write_table(pyarrow.table({"x": small[:, 0]}), io.BytesIO())
    return peak_memory()


def memory_use(cells: Streamed, before: int | None) -> MemoryUse:
    """Return the limit and the use of memory so far, and how the table was read.

    Parameters
    ----------
    cells : Streamed
    before : int or None
        The peak memory before the fit, if the system reports it.
    """
    process_peak, peak, says = peak_memory(), None, ""
    if process_peak is None or before is None:
        says = "the peak is not available on this system"
    else:
        peak = process_peak - before
        says = (
            f"{said(peak)} at the peak, in addition to the {said(before)} of Python and "
            "its libraries"
        )
    table = cells.table
    return MemoryUse(
        asked=table.memory,
        needed=cells.needed(cells.block_rows),
        before=before,
        peak=peak,
        process_peak=process_peak,
        passes=table.passes,
        block_rows=cells.block_rows,
        says=f"Memory: limit {said(table.memory)}, {says}; the table was read "
        f"{counted(table.passes, 'time')}, {counted(cells.block_rows, 'row')} at a time.",
    )
