"""What a fit warns of: columns that are not modeled or predicted, no convergence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from descents.cells.intake import convergence_warning
from descents.marginal.held_out import ENOUGH_OF_COLUMN, change_of
from descents.marginal.tables import TableModel
from descents.optim.runs import Runs, Status
from descents.tables.spelling import listed
from descents.text import counted, visible

MOST_REASONS = 5
"""The reasons of at most this many columns are shown."""


def notices(
    model: TableModel,
    names: Sequence[str],
    missing: np.ndarray,
    empty: np.ndarray,
    treatment: str,
    *,
    drawn: bool = False,
) -> Iterator[str]:
    """Yield a sentence for each thing that the user should know about the columns.

    Parameters
    ----------
    model : TableModel
    names : sequence of str
        The columns of the table of the fit.
    missing : bool ndarray of shape (rows, columns)
    empty : bool ndarray of shape (columns,)
        Whether a column has no observed cell.
    treatment : str
        What is done with these: they are "dropped", "filled with 0", or "kept, still
        missing".
    drawn : bool
        Whether cells are filled with draws.
    """
    without = [name for name, blank in zip(names, empty, strict=True) if blank]
    yield from _not_modeled(model, without)
    if without:
        yield (
            f"{counted(len(without), 'column')} without any observed cell "
            f"{'is' if len(without) == 1 else 'are'} {treatment}: {listed(without)}"
        )
    filled = {names[int(j)] for j in np.flatnonzero(missing.any(0))}
    yield from _not_predicted(model, filled, drawn=drawn)
    fitted = model.fitted
    if fitted.held_out is not None and fitted.unrefined is not None:
        off = change_of(fitted.unrefined, fitted.held_out, fitted.levels)
        if off.verdict == "worse":
            yield (
                f"refine=True made the predictions of held-out cells worse: {off.after:.3f} "
                f"of the error of constants, {off.before:.3f} without it; leave it out"
            )


def _not_modeled(model: TableModel, empty: Sequence[str]) -> Iterator[str]:
    """Yield which columns are returned unchanged, and why."""
    passed = {one.name: one.why for one in model.passed if one.name not in empty}
    if not passed:
        return
    shown = "; ".join(
        f"{name!r} {why}" for name, why in list(passed.items())[:MOST_REASONS]
    )
    rest = len(passed) - MOST_REASONS
    more = f"; and {rest} more" if rest > 0 else ""
    yield (
        f"{counted(len(passed), 'column')} cannot be modeled, and "
        f"{'is' if len(passed) == 1 else 'are'} returned unchanged: "
        f"{visible(shown)}{more}"
    )


def _not_predicted(
    model: TableModel, filled: set[str], *, drawn: bool
) -> Iterator[str]:
    """Yield which columns with missing cells are filled with a constant.

    Draws are from the model, but those of such columns contain little information.
    """
    fitted = model.fitted
    scored = [one for one in fitted.scores if one is not None]
    flat: list[str] = []
    few: list[str] = []
    each = zip(model.columns, fitted.constant, fitted.scores, strict=True)
    for column, constant, score in each:
        if constant and column.name in filled:
            judged = score is not None and score.judged
            (flat if judged else few).append(column.name)
    if scored and all(one.difference >= 0 for one in scored):
        yield (
            "held-out cells of no column were predicted better than by its mean or most "
            "frequent level; the filled cells contain little more information than these"
        )
    elif flat and drawn:
        yield (
            f"draws of {counted(len(flat), 'column')} contain little information, because "
            "held-out cells were not predicted better than by the mean or the most "
            f"frequent level: {listed(flat)}"
        )
    elif flat:
        yield (
            f"{counted(len(flat), 'column')} {'is' if len(flat) == 1 else 'are'} "
            "filled with the mean or the most frequent level, because held-out cells "
            f"were not predicted better: {listed(flat)}"
        )
    if not drawn and few and any(one.difference < 0 for one in scored):
        yield (
            f"{counted(len(few), 'column')} {'is' if len(few) == 1 else 'are'} filled with "
            f"the mean or the most frequent level, because fewer than {ENOUGH_OF_COLUMN} "
            "of its cells could be held out to judge whether the model predicts better: "
            f"{listed(few)}"
        )


def warn_unconverged(runs: Runs, what: str, steps: int, level: int) -> None:
    """Warn if no start has converged.

    Parameters
    ----------
    runs : Runs
    what : str
        What has not converged, such as "EM".
    steps : int
        The maximum number of steps.
    level : int
        The ``stacklevel`` of the warning.
    """
    if not {Status.STATIONARY, Status.SETTLED} & set(runs.statuses):
        warnings.warn(
            f"{what} has not converged after {counted(steps, 'step')}; raise max_iter or "
            "tol",
            convergence_warning(),
            stacklevel=level,
        )
