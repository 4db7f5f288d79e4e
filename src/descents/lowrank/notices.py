"""Warnings about the table of a fit, and about how well it is fitted."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence

import numpy as np

from descents.bounds import gaps
from descents.bounds.gaps import Reference
from descents.cells.columns import ColumnModel
from descents.cells.intake import convergence_warning
from descents.cells.streamed import Streamed
from descents.errors import for_caller
from descents.factorization.factorization import Factorization
from descents.lowrank.blanks import alone
from descents.lowrank.descending import is_given, loss_of_the_data
from descents.lowrank.predictor import Predictor
from descents.lowrank.settings import Settings
from descents.optim.runs import Runs, Status
from descents.text import counted, visible

FAR = 1e7
"""In a column that is this many times larger than it varies, rounding loses digits."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the line outside of this package that led to it."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and _is_inside(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)


def _is_inside(module: str) -> bool:
    return module == "descents" or module.startswith("descents.")


def warn_of_blanks(
    problem: Factorization,
    columns: Sequence[ColumnModel],
    row_names: Sequence[str] | None,
) -> None:
    """Name the rows and columns without observed cells, and how they are predicted.

    Rows or columns with a smoothness penalty are predicted by their neighbors, and are not
    named.

    Parameters
    ----------
    problem : Factorization
    columns : sequence of ColumnModel
    row_names : sequence of str or None
        None numbers the rows from 0.
    """
    found = problem.cells
    blank = np.flatnonzero(found.row_counts == 0) + found.first_row
    blank = np.concatenate(found.together.each(blank))
    if len(blank) and not problem.row_regularizer.smoothness:
        base = ", 0-based" * (row_names is None)
        _warn_of_blank(
            "row",
            [str(i) if row_names is None else row_names[i] for i in blank.tolist()],
            base,
            "what is nearest to the best constants of the columns (means under squared "
            "loss)",
        )
    if problem.column_regularizer.smoothness:
        return
    blank, lone = np.flatnonzero(found.column_counts == 0), alone(problem)
    its = "its" if len(lone) == 1 else "their"
    for places, by in (
        (np.setdiff1d(blank, lone), "the mean of the other columns"),
        (lone, f"0, as no other column has {its} loss"),
    ):
        if len(places):
            _warn_of_blank("column", [columns[j].name for j in places], "", by)


def _warn_of_blank(noun: str, names: Sequence[str], base: str, by: str) -> None:
    count = len(names)
    listed = visible(", ".join(names[:5])) + ", ..." * (count > 5)
    has, they_are = ("has", "it is") if count == 1 else ("have", "they are")
    warn(
        f"{counted(count, noun)} {has} no observed cell ({listed}{base}); {they_are} "
        f"predicted by {by}"
    )


def warn_of_dropped(names: Sequence[str]) -> None:
    """Name the columns of a data frame without observed cells, which are left out."""
    if not names:
        return
    listed = visible(", ".join(names[:5])) + ", ..." * (len(names) > 5)
    has, are, stay = (
        ("has", "it is", "stays") if len(names) == 1 else ("have", "they are", "stay")
    )
    warn(
        f"{counted(len(names), 'column')} {has} no observed cell ({listed}); {are} left "
        f"out, and {stay} missing"
    )


def warn_of_the_fit(
    fit: Predictor, reference: Reference, constants: float, settings: Settings
) -> None:
    """Warn if a fit is below the reference, or worse than constants, or loses digits.

    Parameters
    ----------
    fit : Predictor
    reference : Reference
    constants : float
        The loss of the best constants.
    settings : Settings
    """
    _warn_of_bug(fit, reference, constants)
    _warn_of_constants(fit, constants, settings)
    _warn_of_rounding(fit)


def _warn_of_bug(fit: Predictor, reference: Reference, constants: float) -> None:
    """Warn if the loss is below a proven lower bound by more than rounding errors."""
    found, size = fit.problem.cells, constants
    if not all(block.loss.identity for block in found.blocks):
        size += found.observed  # sums of logarithms, which may cancel
    # For numbers far from zero, the squares themselves are rounded.
    size += np.finfo(np.float64).eps / gaps.ROUNDING * found.square
    if gaps.below_reference([fit.loss], reference, size)[0]:
        warn(
            f"the loss {fit.loss:.10g} is below the proven lower bound "
            f"{reference.value:.10g}; this is a bug, please report it",
            RuntimeWarning,
        )


def _warn_of_constants(fit: Predictor, constants: float, settings: Settings) -> None:
    """Warn if constants predict better than the best start, or than some starts."""
    runs = fit.runs
    worse = runs.statuses.count(Status.WORSE)
    if runs.statuses[runs.best] is Status.WORSE:
        warn(
            f"the loss {fit.loss:.6g} is above {constants:.6g}, that of the best "
            "constant of each column: the model predicts worse than column means or "
            f"modes would; {_remedy(fit.problem, runs, settings)}",
            convergence_warning(),
        )
    elif worse:
        warn(
            f"{worse} of {len(runs)} starts {'ends' if worse == 1 else 'end'} at a loss "
            "above that of the best constant of each column; the statuses say which, and "
            "the best start is not one of them",
            convergence_warning(),
        )
    elif fit.penalized and fit.loss > constants * (1 + 1e-6) and constants > 0:
        _warn_of_penalty(fit, constants, settings)


def _warn_of_penalty(fit: Predictor, constants: float, settings: Settings) -> None:
    """Warn that the loss is above that of constants because of the penalty."""
    problem, parts = fit.problem, ""
    if is_given(problem):
        return
    if not isinstance(problem.cells, Streamed):
        data = loss_of_the_data(problem, fit.runs, fit.runs.best)
        parts = f": {data:.6g} is the loss of the cells, and {fit.loss - data:.6g} the penalty"
    warn(
        f"the loss with its penalty, {fit.loss:.6g}, is above {constants:.6g}, that of the "
        f"best constant of each column{parts}; {_remedy(problem, fit.runs, settings)}"
    )


def _remedy(problem: Factorization, runs: Runs, settings: Settings) -> str:
    """Return what to change if the fit is worse than constants."""
    sides = (problem.row_regularizer, problem.column_regularizer)
    charged = any(side.l1 or side.l2 or side.smoothness for side in sides)
    if charged and not problem.has_offsets and problem.diverges:
        return for_caller(
            "lower the --penalty, give --constraint rows=simplex,columns=nonnegative, or "
            "squared loss, which may have offsets",
            "lower the penalty, give constraint=('simplex', 'nonnegative'), or squared "
            "loss, which may have offsets",
        )
    if charged and not problem.has_offsets:
        return for_caller(
            "lower the --penalty, or give --offsets columns",
            "lower the penalty, or give offsets='columns'",
        )
    if runs.steps_taken[runs.best] >= settings.max_iter:
        return _more_steps()
    if not problem.has_offsets and not any(side.positive for side in sides):
        return for_caller(
            "give --offsets columns, a larger --rank, or more --starts",
            "give offsets='columns', a larger n_components, or more starts",
        )
    return for_caller(
        "try more --starts, a larger --rank, or another --solver",
        "try more starts (n_starts), a larger n_components, or another solver",
    )


def _more_steps() -> str:
    return for_caller(
        "raise --max-iter, or try more --starts",
        "raise max_iter, or try more starts (n_starts)",
    )


def _warn_of_rounding(fit: Predictor) -> None:
    """Warn of columns that vary by little compared with the size of their numbers."""
    far: list[int] = []
    found, problem = fit.problem.cells, fit.problem
    for block in found.blocks:
        if block.loss.identity and problem.has_offsets:
            middle = np.abs(found.offsets[block.place])
            spread = problem.root_mean_squares()[block.place]
            # The spread of a constant column is rounding alone, which hides nothing.
            varies = spread > 8 * np.finfo(found.dtype).eps * middle
            far += list(block.columns[varies & (middle > FAR * spread)])
    if far:
        listed = ", ".join(repr(fit.models[j].name) for j in far[:5])
        columns, vary = ("columns", "vary") if len(far) > 1 else ("column", "varies")
        warn(
            f"{columns} {listed} {vary} by less than {1 / FAR:g} of the size of the "
            "numbers, so that rounding hides part of it; subtract a constant, such as "
            "the mean"
        )


def warn_of_the_end(fit: Predictor, settings: Settings) -> None:
    """Warn if no start is stationary."""
    ended = {Status.STATIONARY, Status.SETTLED, Status.WORSE}
    if ended & set(fit.runs.statuses):
        return
    starts = len(fit.runs)
    flat = fit.problem.row_regularizer.l2 == 0 and fit.problem.cells.weights is not None
    none_is = "the start is not" if starts == 1 else f"none of {starts} starts is"
    warn(
        f"{none_is} stationary after {counted(settings.max_iter, 'iteration')}; "
        f"{_more_steps()}"
        + f", or give a {for_caller('--penalty', 'penalty')}, because there may be no minimum with missing cells"
        * flat,
        convergence_warning(),
    )


def warn_of_far(
    fit: Predictor, fills: Sequence[np.ndarray], missing: np.ndarray
) -> str | None:
    """Warn if missing cells are filled far outside the observed range of their column.

    Parameters
    ----------
    fit : Predictor
    fills : sequence of ndarray
        The numbers or codes of each column.
    missing : bool ndarray of shape (rows, columns)

    Returns
    -------
    str or None
        The message.
    """
    far = fit.far_fills(fills, missing)
    if far is None:
        return None
    says = far.says(fit.penalized)
    warn(says, convergence_warning())
    return says


def hopeless(columns: Sequence[ColumnModel], solver: str, rate: float | None) -> str:
    """Return the error message if no start has a finite loss."""
    if any(column.loss.name == "own" for column in columns):
        return (
            "the given loss is NaN or infinite at every start; return finite numbers "
            "for every finite prediction"
        )
    solver_is = for_caller("--solver", "solver")
    remedy = f"give another {solver_is}, or divide numbers that are very large"
    if rate is not None:
        name = for_caller("--learning-rate", "learning_rate")
        remedy += f", or a {name} below {rate:g}"
    return (
        f"the loss of every start became infinite or NaN with {solver} steps; {remedy}"
    )
