"""What `descents impute` says in words: the answer, its quality, warnings and captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descents.marginal.held_out import ENOUGH_OF_COLUMN, Change
from descents.marginal.tables import CELLS_OF_LEVEL
from descents.optim.runs import Status
from descents.runs.impute_result import (
    FilledCells,
    FilledTable,
    Fills,
    HeldOutError,
    ImputedColumn,
    PicturedColumn,
    Refinement,
    UnmodeledColumn,
)
from descents.tables.frames import short
from descents.tables.numerals import Written
from descents.text import counted, in_rounds


def to_precision(value: float, standard_error: float | None) -> str:
    """Return a number with the digits that its standard error leaves.

    Examples
    --------
    >>> to_precision(4.1234, 0.3), to_precision(4234.0, 180.0), to_precision(0.5, None)
    ('4.1', '4200', '0.5')
    >>> to_precision(1.23456e-7, 1e-9), to_precision(3.0, 0.0)
    ('1.23e-07', '3')
    """
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    size = int(np.floor(np.log10(abs(value))))
    if standard_error is None or not np.isfinite(standard_error):
        digits = 1
    elif standard_error <= 0:
        digits = 3
    else:
        digits = size - int(np.floor(np.log10(standard_error))) + 1
    digits = min(max(digits, 1), 4)
    found = float(f"{value:.{digits - 1}e}")
    if not 1e-4 <= abs(found) < 1e9:
        return f"{found:.{digits - 1}e}" if standard_error else f"{found:g}"
    places = max(digits - 1 - size, 0)
    return f"{found:.{places}f}" if standard_error else f"{found:g}"


def error_text(
    error: float | None,
    standard_error: float | None,
    kind: str,
    held_out: int,
    written: Written,
) -> str:
    """Return an error in the unit of its column, to the digits that the cells support.

    Parameters
    ----------
    error : float or None
        None if no cell of the column was held out.
    standard_error : float or None
    kind : {"numbers", "levels", "dates"}
    held_out : int
        The number of held-out cells.
    written : Written
        How the column writes its numbers.
    """
    if error is None:
        return "not known"
    if kind == "levels":
        # At least to whole percent: 12.5% of 8 cells is not about 10%.
        spread = min(max(standard_error or 0.0, 1 / max(held_out, 1)), 0.01)
        return f"{float(to_precision(100 * error, 100 * spread)):g}% wrong"
    text = to_precision(error, standard_error)
    if kind == "dates":
        return f"{text} days"
    form = written.positive or f"{written.before}#{written.after}"
    return form.removeprefix("+").replace("#", text.replace(".", written.decimal))


def answer(filled: FilledCells, how: Fills, shape: Sequence[int]) -> str:
    """Return a sentence on how much was filled."""
    rows, wide = shape
    of = f"{counted(rows, 'row')} and {counted(wide, 'modeled column')}"
    if not filled.cells:
        return f"No cell of {of} is missing; the table is written as it was."
    times = "" if how.imputations is None else f", each by {how.imputations} draws"
    return (
        f"Filled {counted(filled.cells, 'missing cell')} in "
        f"{counted(filled.columns, 'column')}{times} (of {of})."
    )


def quality(overall: HeldOutError | None, filled: FilledTable, how: Fills) -> str:
    """Return a sentence on the error of the filled columns on held-out cells."""
    flat = bool(filled.cells) and len(filled.by_constant) == filled.columns
    flat &= how.imputations is None  # otherwise all cells are drawn from the model
    every = "All of them are filled with the mean or the most frequent level of their column"
    if overall is None:
        if flat:
            return f"{every}, because no cell could be held out to judge a model."
        return "How good that is, is not known: too few cells to hold some out."
    standard = overall.standard_error
    sure = "not known" if standard is None else f"{standard:.1g}"
    cells = counted(overall.cells, "cell")
    rounds = in_rounds(overall.rounds)
    if flat:
        return (
            f"{every}, because on {cells} held out from the fit{rounds}, the model is not clearly "
            "better than these."
        )
    if overall.relative_error is None:
        return f"All of {cells} held out from the fit{rounds} are the constant of their column."
    return (
        f"On {cells} held out from the fit{rounds}, the error is "
        f"{overall.says} of that of column means and most frequent "
        f"levels (mean over {counted(overall.columns, 'column')}, standard error "
        f"{sure})."
    )


def refined_says(change: Change) -> str:
    """Return a sentence on whether forests improved the predictions of held-out cells.

    Examples
    --------
    >>> print(refined_says(Change(0.5, 0.4, 0.02, 900)))
    The forests of --refine improved the predictions: on 900 held-out cells, the error of the model relative to means and most frequent levels is 0.500 without and 0.400 with them (standard error of the difference 0.02).
    """
    what = {
        "better": "improved the predictions",
        "worse": "made the predictions worse",
    }.get(change.verdict, "made no clear difference")
    return (
        f"The forests of --refine {what}: on {counted(change.cells, 'held-out cell')}, the "
        f"error of the model relative to means and most frequent levels is "
        f"{change.before:.3f} without and {change.after:.3f} with them (standard error of "
        f"the difference {change.standard_error:.1g})."
    )


def warnings_of(
    filled: FilledTable,
    how: Fills,
    columns: Sequence[ImputedColumn],
    held_out: HeldOutError | None,
    ended: Status,
    refinement: Refinement | None = None,
    passed: Sequence[UnmodeledColumn] = (),
) -> list[str]:
    """Return what a user has to know before using the filled table.

    Parameters
    ----------
    filled : FilledTable
    how : Fills
    columns : sequence of ImputedColumn
    held_out : HeldOutError or None
    ended : Status
        How the best start ended.
    refinement : Refinement, optional
    passed : sequence of UnmodeledColumn
    """
    found, drawn = _left_empty(passed), how.imputations is not None
    lacking = [column for column in columns if column.missing]
    judged = [name for name in filled.by_constant if name not in filled.not_judged]
    so = "and filled by it"
    if drawn:
        judged = [column.name for column in lacking if column.verdict == "no"]
        so = "so that their draws from the model contain little information"
    if judged:
        found.append(
            "not predicted better than by the mean or the most frequent level, "
            f"{so}: {some_names(judged)}"
        )
    if held_out is not None:
        found += _not_judged(filled, drawn=drawn)
    if refinement is not None and refinement.verdict == "worse":
        found.append("--refine made the predictions worse; leave it out")
    unclear = [column.name for column in lacking if column.verdict == "not clearly"]
    if unclear:
        found.append(
            "predicted not clearly better than by the mean or the most frequent level "
            f"(within two standard errors): {some_names(unclear)}"
        )
    if filled.rows_without_cells:
        rows = counted(filled.rows_without_cells, "row")
        verb = "has" if filled.rows_without_cells == 1 else "have"
        found.append(
            f"{rows} {verb} no observed cell in a modeled column; "
            + (
                "cells there are drawn from the distribution of all rows"
                if drawn
                else "the model's means and most probable levels are filled in there"
            )
        )
    if filled.outside_range:
        cells = counted(filled.outside_range, "cell")
        found.append(
            f"{cells} filled outside the observed range of the column; --range observed "
            "keeps values within it"
        )
    if ended is not Status.STATIONARY:
        found.append(
            f"the best start is not stationary ({ended.value}), so that a longer fit "
            "may fill other values"
        )
    return found


def _left_empty(passed: Sequence[UnmodeledColumn]) -> list[str]:
    """Warn of missing cells in columns that are not modeled."""
    left = [one for one in passed if one.missing]
    if not left:
        return []
    count = sum(one.missing for one in left)
    return [
        f"{counted(count, 'missing cell')} {'is' if count == 1 else 'are'} left empty in "
        f"columns that are not modeled: {some_names([one.name for one in left])} (text is "
        f"modeled if each value occurs {CELLS_OF_LEVEL} times on average)"
    ]


def _not_judged(filled: FilledTable, *, drawn: bool) -> list[str]:
    """Warn of columns of which too few cells could be held out to judge them."""
    found = []
    for says, constant in (
        (f"{'drawn from' if drawn else 'filled by'} the model all the same", False),
        ("filled by their mean or most frequent level", True),
    ):
        names = [
            name
            for name in filled.not_judged
            if (name in filled.by_constant) is constant
        ]
        if names:
            found.append(
                f"fewer than {ENOUGH_OF_COLUMN} cells could be held out of each of "
                f"these columns, too few to judge them one by one, and they are {says}: "
                f"{some_names(names)}"
            )
    return found


def some_names(names: Sequence[str]) -> str:
    """Return a list of at most ten names, and how many more there are."""
    listed = ", ".join(short(name) for name in names[:10])
    return f"{listed} and {len(names) - 10} more" if len(names) > 10 else listed


def caption_of(pictures: Sequence[PicturedColumn]) -> str:
    """Return the caption of the picture of the best and the worst predicted column."""
    parts = []
    for one in pictures:
        drawn = f", of which {one.drawn} are drawn" * (one.drawn < one.cells)
        parts.append(
            f"{one.name} ({one.which}): error {one.error_says}, by its mean or "
            f"mode {one.constant_says}, on {counted(one.cells, 'held-out cell')}"
            f"{drawn}"
        )
    return f"{'; '.join(parts)}. A perfect prediction lies on the diagonal."
