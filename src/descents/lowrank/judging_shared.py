"""How well the fit of processes that share a table predicts cells that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from descents.cells.distributed import Distributed
from descents.lowrank import descending
from descents.lowrank.choosing import penalty_taken
from descents.lowrank.fitted import Fitted
from descents.lowrank.judged import Judged
from descents.lowrank.judging import ENOUGH_TO_JUDGE, Part, Unseen, concluded
from descents.lowrank.predictor import Predictor
from descents.lowrank.problems import encoded, problem_of
from descents.lowrank.settings import RunControl
from descents.lowrank.table import CodedTable
from descents.marginal.chosen import hidden_cells
from descents.marginal.held_out import (
    ENOUGH_HELD_OUT,
    MOST_FOLDS,
    MOST_HELD_OUT,
    HeldOut,
)
from descents.tables.blocks import TableOnDisk


def judged_together(
    fit: Fitted, table: CodedTable, control: RunControl, *, exact: bool
) -> tuple[Judged, Unseen] | None:
    """Fit without some of the cells, and compare what is predicted of them.

    As `descents.lowrank.judging.judged`; other cells are held out, because no process sees
    the whole table. All processes return the same.

    Parameters
    ----------
    fit : Fitted
        With the rows of U of this process.
    table : CodedTable
        The table of the fit, of which this process has some rows.
    control : RunControl
    exact : bool
        See `judged`.

    Returns
    -------
    tuple of Judged and Unseen, or None
        None where fewer than 50 cells can be held out.
    """
    cells, disk = fit.problem.cells, table.values
    assert isinstance(cells, Distributed)  # noqa: S101
    assert isinstance(disk, TableOnDisk)  # noqa: S101
    observed: np.ndarray = np.empty(disk.shape, dtype=bool)
    for place, block in disk.blocks(cells.block_rows):
        observed[place] = ~np.isnan(block)
    parts: list[Part] = []
    for hidden in hidden_cells(
        observed,
        fit.settings.held_out,
        fit.seed,
        most=MOST_HELD_OUT,
        enough=ENOUGH_HELD_OUT,
        folds=MOST_FOLDS,
        together=cells.together,
    ):
        rows, columns = np.nonzero(hidden)
        own = _predicted(fit, table, control, rows, columns)
        every = cells.together.each((*own, rows + cells.first_row))
        losses, predicted, places = zip(*every, strict=True)
        joined = HeldOut.joined(losses), HeldOut.joined(predicted)
        parts.append((*joined, np.concatenate(places)))
    if sum(len(rows) for _, _, rows in parts) < ENOUGH_TO_JUDGE:
        return None
    levels: np.ndarray = np.zeros(disk.shape[1], dtype=np.int64)
    return concluded(parts, levels, cells.offsets, exact=exact)


def _predicted(
    fit: Fitted,
    table: CodedTable,
    control: RunControl,
    rows: np.ndarray,
    columns: np.ndarray,
) -> tuple[HeldOut, HeldOut]:
    """Return what a fit without some cells says of them, by their losses and as numbers."""
    disk = table.values
    assert isinstance(disk, TableOnDisk)  # noqa: S101
    settings = replace(fit.settings, n_starts=1)
    shown = replace(table, values=disk.without_cells(rows, columns))
    data = encoded(shown, settings)
    penalty = penalty_taken(settings, fit.selection)
    problem, _ = problem_of(data, settings, table.dtype, fit.problem.rank, penalty)
    quiet = RunControl(seconds=control.seconds)
    runs = descending.descended(
        problem, settings.step(problem), settings, fit.seed, quiet
    )
    twin = Predictor.of(fit.models, problem, runs, settings.combine)
    cells = twin.problem.cells
    assert isinstance(cells, Distributed)  # noqa: S101
    parts = list(_of_blocks(twin, disk, cells.block_rows, rows, columns))
    truth, guess = np.concatenate(parts, axis=1)
    constants, none = cells.offsets[columns], np.zeros(len(rows))
    off = [np.abs(one - truth) for one in (guess, constants)]
    return (
        HeldOut(columns, none, off[0], off[1], none),
        HeldOut(
            columns, truth, guess, constants, none, chances=np.empty((len(rows), 0))
        ),
    )


def _of_blocks(
    twin: Predictor, disk: TableOnDisk, size: int, rows: np.ndarray, columns: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the truth and the prediction of some cells, for each block of rows."""
    for place, block in disk.blocks(size):
        here = slice(*np.searchsorted(rows, [place.start, place.stop]))
        natural, _ = twin.predictions([twin.of_rows(twin.points[0], place)])
        at = rows[here] - place.start, columns[here]
        yield np.stack([block[at], natural[at]])
