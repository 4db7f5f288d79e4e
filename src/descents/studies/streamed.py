"""Models of tables on disk: what one reading tells of their fit, and what memory they took."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from descents.answers.fitted import Fitted
from descents.checks import counted
from descents.data.blocks import peak_memory, said
from descents.estimators.lowrank import LowRank
from descents.problems.streamed import Streamed


@dataclass(frozen=True)
class Seen:
    """How a model fits a table on disk.

    Attributes
    ----------
    losses, constants : float64 ndarray of shape (columns,)
        The loss of each column under the model, and under its mean.
    row_losses : float64 ndarray of shape (rows,)
        The mean loss of a cell of each row, 0 where none is observed.
    cells : list of (int, int, float)
        Row, column and value of the cells of largest loss, the largest first.
    pattern : ndarray
        The share of cells that are observed in each square of a coarse grid.
    places : int64 ndarray of shape (points, 2)
        Row and column of a sample of the observed cells.
    values, predicted : float64 ndarray of shape (points,)
        What is observed there, and what is predicted.
    """

    losses: np.ndarray
    constants: np.ndarray
    row_losses: np.ndarray
    cells: list[tuple[int, int, float]]
    pattern: np.ndarray
    places: np.ndarray
    values: np.ndarray
    predicted: np.ndarray


def look(fitted: Fitted, picked: np.ndarray, worst: int, squares: int) -> Seen:
    """Read a table on disk once, and return how a model fits it.

    Parameters
    ----------
    fitted : Fitted
        Of a table on disk.
    picked : int64 ndarray of shape (points,)
        Which of the observed cells, counted row by row, are sampled; sorted.
    worst : int
        How many of the worst cells are told.
    squares : int
        How many squares a side of the grid has at most.
    """
    cells = fitted.problem.cells
    assert isinstance(cells, Streamed)  # noqa: S101
    rows, columns = cells.shape
    losses, constants = np.zeros((2, columns))
    row_losses = np.zeros(rows)
    cellwise: list[tuple[float, int, int, float]] = []
    grid = _Grid(rows, columns, squares)
    sampled: list[np.ndarray] = []
    begun = 0
    for place, given in cells.table.blocks(cells.block_rows):
        natural, _ = fitted.predictions([fitted.of_rows(fitted.points[0], place)])
        each = np.square(given - natural, dtype=np.float64)
        hole = np.isnan(each)
        observed = np.flatnonzero(~hole)
        each[hole] = 0
        losses += each.sum(0)
        row_losses[place] = each.sum(1) / np.maximum((~hole).sum(1), 1)
        constants += np.nansum(np.square(given - cells.offsets), 0)
        grid.add(place, ~hole)
        cellwise += _largest(each, hole, worst, place.start, given)
        cellwise = sorted(cellwise, key=lambda one: (-one[0], one[1:3]))[:worst]
        ends = np.searchsorted(picked, [begun, begun + len(observed)])
        i, j = np.divmod(observed[picked[slice(*ends)] - begun], columns)
        begun += len(observed)
        if len(fitted.points) > 1:  # the mean of several starts is what predicts
            natural, _ = fitted.predictions(
                [fitted.of_rows(point, place) for point in fitted.points]
            )
        sampled.append(
            np.column_stack([i + place.start, j, given[i, j], natural[i, j]])
        )
        del given, natural, each, hole, observed
    points = np.concatenate(sampled)
    return Seen(
        losses,
        constants,
        row_losses,
        [(i, j, value) for _, i, j, value in cellwise],
        grid.share,
        points[:, :2].astype(np.int64),
        points[:, 2],
        points[:, 3],
    )


def _largest(
    each: np.ndarray, hole: np.ndarray, worst: int, first: int, given: np.ndarray
) -> list[tuple[float, int, int, float]]:
    """Return the largest losses of some rows, with row, column and value."""
    flat = np.where(hole, -1.0, each).ravel()
    size = min(worst, len(flat))
    least = np.partition(flat, len(flat) - size)[len(flat) - size]
    # Those that are as large as the least of them come in the order of the table.
    above = np.flatnonzero(flat > least)
    level = np.flatnonzero(flat == least)[: size - len(above)]
    return [
        (float(flat[k]), first + i, j, float(given[i, j]))
        for k in [*above, *level]
        if flat[k] >= 0
        for i, j in [divmod(int(k), each.shape[1])]
    ]


class _Grid:
    """The share of cells that are observed in each square of a coarse grid."""

    def __init__(self, rows: int, columns: int, squares: int) -> None:
        self.rows, self.high = rows, min(rows, squares)
        wide = min(columns, squares)
        place = np.arange(columns) * wide // columns
        self.belongs = (place[:, None] == np.arange(wide)).astype(np.float64)
        self.counts = np.zeros((self.high, wide))
        self.sizes = np.zeros(self.high)

    def add(self, place: slice, observed: np.ndarray) -> None:
        square = np.arange(place.start, place.stop) * self.high // self.rows
        np.add.at(self.counts, square, observed @ self.belongs)
        np.add.at(self.sizes, square, 1)

    @property
    def share(self) -> np.ndarray:
        size: np.ndarray = self.sizes[:, None] * self.belongs.sum(0)
        return self.counts / size


def warmed_up() -> int | None:
    """Return the peak of memory once libraries are loaded and have worked a little."""
    import pyarrow.parquet
    import scipy.sparse.linalg  # noqa: F401

    # Large enough for all buffers that libraries of linear algebra keep.
    small = np.random.Generator(np.random.Philox(0)).standard_normal((4096, 100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LowRank(10, random_state=0, max_iter=5).fit(small)
    pyarrow.parquet.write_table(pyarrow.table({"x": small[:, 0]}), io.BytesIO())
    return peak_memory()


def memory_facts(cells: Streamed, before: int | None) -> dict[str, Any]:
    """Return what was asked of memory, and what was reckoned with."""
    return {
        "asked": cells.table.memory,
        "needed": cells.needed(cells.block_rows),
        "before": before,
        "peak": None,
        "passes": cells.table.passes,
        "block_rows": cells.block_rows,
    }


def tell_peak(memory: dict[str, Any]) -> None:
    """Write down the peak of memory so far, and say it in a sentence."""
    memory["process_peak"] = peak_memory()
    said_peak = "not told by this system"
    if memory["process_peak"] is not None:
        memory["peak"] = memory["process_peak"] - memory["before"]
        said_peak = (
            f"{said(memory['peak'])} at the peak, beside the {said(memory['before'])} of "
            "Python and its libraries"
        )
    memory["says"] = (
        f"Memory: {said(memory['asked'])} asked for, {said_peak}; the table was read "
        f"{counted(memory['passes'], 'time')}, {counted(memory['block_rows'], 'row')} at a time."
    )
