"""Choose the rank and the penalty of a model, by held-out cells or singular values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from descents.cells.base import Cells
from descents.constraints.constraints import most_components, regularizers
from descents.errors import InvalidValueError, for_caller
from descents.lowrank import cross_validation, noise, selection, singular_values
from descents.lowrank.descending import brief_stop
from descents.lowrank.huber_width import with_widths
from descents.lowrank.notices import warn
from descents.lowrank.problems import (
    Encoded,
    OfFactorization,
    encoded,
    implied_noise,
    lacks_widths,
    problem_of,
    problem_settings,
)
from descents.lowrank.selection import Penalty, Search, Selection
from descents.lowrank.settings import RunControl, Settings
from descents.lowrank.table import CodedTable


@dataclass(frozen=True)
class Choice:
    """A rank and a penalty, given or chosen.

    Attributes
    ----------
    rank : int
    penalty : None, number or mapping
    selection : Selection or None
        How they were chosen.
    """

    rank: int
    penalty: Penalty
    selection: Selection | None = None


def chosen(
    table: CodedTable, data: Encoded, settings: Settings, control: RunControl
) -> Choice:
    """Return the rank and the penalty of a model; choose those that are open.

    Parameters
    ----------
    table : CodedTable
    data : Encoded
        Its cells.
    settings : Settings
    control : RunControl

    Raises
    ------
    InvalidValueError
        If nothing can be chosen for this table.
    """
    search = settings.search
    if settings.by_threshold:
        found = _by_singular_values(data.cells, settings)
    elif search is not None:
        found = _by_cells(table, data, search, settings, control)
    else:
        assert isinstance(settings.n_components, int | np.integer)  # noqa: S101
        return Choice(int(settings.n_components), settings.penalty)
    return Choice(max(1, found.rank), penalty_taken(settings, found), found)


def penalty_taken(settings: Settings, found: Selection | None) -> Penalty:
    """Return the penalty of a fit, given or chosen."""
    if settings.search is None or found is None:
        return settings.penalty
    return settings.search.penalty(found.penalty)


def _by_singular_values(found: Cells, settings: Settings) -> Selection:
    sides = None
    if settings.search is None:
        sides = regularizers(settings.constraint, settings.penalty)[:2]
    if sides is None or any(
        not side.smooth or side.l2 or side.smoothness for side in sides
    ):
        raise InvalidValueError(
            for_caller(
                f"--rank {selection.THRESHOLD} is for fits without --constraint and "
                "--penalty; give --rank auto, or leave those out",
                f"n_components is {selection.THRESHOLD!r}, which is for fits without "
                "constraint and penalty; give 'auto', or leave those out",
            )
        )
    chosen = singular_values.by_singular_values(found, settings.offsets_used)
    if chosen.rank == 0:
        warn(
            "no singular value is above the optimal hard threshold: nothing stands "
            "out of the noise, and rank 1 is taken"
        )
    return chosen


def _by_cells(
    table: CodedTable,
    data: Encoded,
    search: Search,
    settings: Settings,
    control: RunControl,
) -> Selection:
    dtype = table.dtype
    if lacks_widths(data.columns):
        data = _with_trial_widths(table, data, search, settings)
    found = data.cells

    def arguments(penalty: Penalty) -> OfFactorization:
        return problem_settings(settings, found, dtype, penalty, incomplete=True)

    def l2_of(rank: int) -> float | None:
        implied = implied_noise(found, rank, arguments(search.rest))
        return None if implied is None else implied.l2

    chosen = cross_validation.by_cells(
        found,
        search,
        arguments,
        settings.step,
        l2_of=l2_of if noise.lacks_cells(found) else None,
        folds=settings.cv,
        seed=settings.seed,
        stop=brief_stop(settings, dtype, control.seconds),
        workers=control.workers,
    )
    if chosen.mean[chosen.best] >= 1:
        warn(
            "no rank and penalty of those tried predicts held-out cells better than "
            "the best constants do; the table may have no low-rank structure"
        )
    return chosen


def _with_trial_widths(
    table: CodedTable, data: Encoded, search: Search, settings: Settings
) -> Encoded:
    """Return the cells with widths of Huber's loss that are estimated at the largest rank.

    The chosen rank gets its own widths later.
    """
    most = most_components(data.cells.shape, *settings.sides)
    rank = search.ranks[-1] if search.ranks else cross_validation.RANKS
    trial, _ = problem_of(
        data, settings, table.dtype, min(rank, most), search.penalty(1.0)
    )
    return encoded(replace(table, columns=with_widths(data.columns, trial)), settings)
