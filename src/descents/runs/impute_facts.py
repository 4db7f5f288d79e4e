"""The numbers in the result of `descents impute`: what is filled, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from descents.cells.columns import ColumnModel
from descents.cells.encoding import decoded
from descents.marginal.features import NumberFeatures
from descents.marginal.held_out import (
    ColumnScore,
    HeldOut,
    change_of,
)
from descents.marginal.model import Fitted
from descents.rng import stream
from descents.runs.apply_facts import new_columns
from descents.runs.apply_result import NewColumn
from descents.runs.distributions import MOST_COLUMNS, calibrations, distribution
from descents.runs.filling import Filling, Options, level_names
from descents.runs.impute_result import (
    ColumnIntervals,
    FilledCells,
    FilledTable,
    FillIntervals,
    Fills,
    HeldOutError,
    ImputedColumn,
    Level,
    PicturedColumn,
    Refinement,
    UnmodeledColumn,
)
from descents.runs.impute_sentences import error_text, refined_says, to_precision
from descents.runs.results import Distribution
from descents.tables.dates import of_days
from descents.tables.numerals import Written
from descents.tables.spelling import text_of
from descents.tables.typed_columns import Column
from descents.text import counted

BLOCKS = 20
"""The blocks of held-out cells of the jackknife."""
ENOUGH = 10
"""A column with fewer held-out cells is not drawn."""
MOST_POINTS = 2000
"""How many held-out cells of a column are drawn at most."""
MOST_LEVELS = 12
"""A column with more levels is not drawn."""


@dataclass(frozen=True)
class Errors:
    """The errors of the held-out cells of a fit: squared, or 1 for a wrong level.

    Attributes
    ----------
    held_out : HeldOut
    model, constant, filled : float64 ndarray of shape (cells,)
        By the model, by the constant of the column, and by what fills the column.
    """

    held_out: HeldOut
    model: np.ndarray
    constant: np.ndarray
    filled: np.ndarray

    @classmethod
    def of(cls, fitted: Fitted) -> Errors | None:
        """Return the errors of a fit, or None if no cell was held out."""
        held_out = fitted.held_out
        if held_out is None or not len(held_out.columns):
            return None
        model, constant = held_out.errors(fitted.levels)
        here = fitted.constant[held_out.columns]
        filled = np.where(here, constant, model).astype(float)
        return cls(held_out, model, constant.astype(float), filled)


def columns_of(
    filling: Filling, errors: Errors | None, intervals: FillIntervals | None
) -> list[ImputedColumn]:
    """Return the modeled columns, and how well each is predicted."""
    columns, fitted = filling.model.columns, filling.model.fitted
    found = [
        _column(filling, place, errors, intervals) for place in range(len(columns))
    ]
    if len(columns) > MOST_COLUMNS:
        return found
    filled = None
    if filling.options.imputations is None:
        filled = fitted.predicted(filling.codes, limited=filling.options.limited).values
    levels = [len(model.levels) for model in columns]
    calibrated = calibrations(fitted.held_out, levels)
    return [
        replace(
            column,
            spread=_spread(filling, place),
            distribution=_distribution(filling, place, filled),
            calibration=calibrated[place],
        )
        for place, column in enumerate(found)
    ]


def _spread(filling: Filling, place: int) -> float | None:
    """Return the standard deviation of a column of numbers."""
    if filling.model.columns[place].levels:
        return None
    one = filling.model.fitted.features.columns[place]
    return one.spread if isinstance(one, NumberFeatures) and one.low < one.high else 0.0


def _distribution(
    filling: Filling, place: int, filled: np.ndarray | None
) -> Distribution | None:
    """Return how often the values of a column occur; draws are not counted as filled."""
    values = filling.codes[:, place]
    lacking = np.isnan(values)
    fills = np.zeros(0) if filled is None else filled[lacking, place]
    model = filling.model.columns[place]
    return distribution(model, values[~lacking], fills, filling.together)


def columns_of_rows(filling: Filling) -> list[NewColumn]:
    """Return what the columns of the model have in the rows that it fills."""
    fitted, codes, filled = filling.model.fitted, filling.codes, None
    if filling.options.imputations is None:
        values = fitted.predicted(codes, limited=filling.options.limited).values
        filled = [values[np.isnan(codes[:, k]), k] for k in range(codes.shape[1])]
    numbers = [
        (column.low, column.high)
        if isinstance(column, NumberFeatures)
        else (np.nan, np.nan)
        for column in fitted.features.columns
    ]
    return new_columns(
        filling.model.columns, list(codes.T), np.transpose(numbers), filled
    )


def passed_columns(filling: Filling) -> list[UnmodeledColumn]:
    """Return the columns that are not modeled, and why."""
    found = []
    for one in filling.model.passed:
        own = filling.table.column(one.name)
        missing, why = own.extent.missing, one.why
        if missing and own.kind not in ("text", "empty"):  # which say so
            why += f"; {counted(missing, 'cell')} left missing"
        found.append(UnmodeledColumn(name=one.name, why=why, missing=missing))
    return found


def ignored_columns(filling: Filling) -> list[str]:
    """Return the columns of the source that were not read."""
    read = {column.name for column in filling.table.columns}
    return [name for name in filling.table.source.names if name not in read]


def filled_cells(filling: Filling) -> FilledCells:
    """Return how many cells are filled."""
    lacking, (_, missing) = np.isnan(filling.codes), filling.counts
    own = [lacking.any(1).sum(), lacking.all(1).sum(), _outside_range(filling, lacking)]
    (summed,) = filling.together.sum_arrays(np.array(own, dtype=np.float64))
    rows, blank, outside = summed.astype(np.int64).tolist()
    return FilledCells(
        cells=int(missing.sum()),
        columns=int((missing > 0).sum()),
        rows=rows,
        rows_without_cells=blank,
        outside_range=outside,
    )


def constant_columns(filling: Filling) -> list[str]:
    """Return the columns whose missing cells are filled with a constant of the fit.

    With several imputations, all cells are drawn from the model.
    """
    if filling.options.imputations is not None:
        return []
    flat = (filling.counts[1] > 0) & filling.model.fitted.constant
    return [filling.model.columns[int(place)].name for place in np.flatnonzero(flat)]


def filled_table(
    filling: Filling,
    columns: Sequence[ImputedColumn],
    passed: Sequence[UnmodeledColumn],
) -> FilledTable:
    """Return how many cells of the table of the fit are filled, and which are not."""
    return FilledTable(
        **vars(filled_cells(filling)),
        left_missing=sum(one.missing for one in passed),
        by_constant=[
            column.name
            for column in columns
            if column.missing and column.filled_by != "model"
        ],
        not_judged=[
            column.name
            for column in columns
            if column.missing and column.verdict == "not judged"
        ],
    )


def fills_of(options: Options) -> Fills:
    """Return what the missing cells are filled with."""
    draws = options.imputations
    return Fills(
        imputations=draws,
        range="observed" if options.limited else "free",
        says="expected numbers and the most probable levels"
        if draws is None
        else f"{draws} draws from models of resampled rows",
    )


def _outside_range(filling: Filling, lacking: np.ndarray) -> int:
    """Return how many single fills are outside the observed range of their column."""
    if filling.options.limited or filling.options.imputations is not None:
        return 0
    values = filling.model.fitted.predicted(filling.codes, limited=False).values
    count = 0
    for place, column in enumerate(filling.model.fitted.features.columns):
        if isinstance(column, NumberFeatures):
            part = values[lacking[:, place], place]
            count += int(((part < column.low) | (part > column.high)).sum())
    return count


def overall_error(fitted: Fitted, errors: Errors | None) -> HeldOutError | None:
    """Return the mean over columns of the error relative to constants.

    Its standard error is that of the jackknife over blocks of held-out cells.
    """
    if errors is None:
        return None
    columns, levels = errors.held_out.columns, fitted.levels
    blocks = np.arange(len(columns)) % BLOCKS

    def ratio(kept: np.ndarray) -> float:
        filled, constant = (
            np.bincount(columns[kept], part[kept], len(levels))
            for part in (errors.filled, errors.constant)
        )
        some = constant > 0
        shares = filled[some] / constant[some]
        shares = np.where(levels[some] > 0, shares, np.sqrt(shares))
        return float(shares.mean()) if len(shares) else float("nan")

    each = np.array([ratio(blocks != block) for block in range(BLOCKS)])
    known = bool(np.isfinite(each).all())  # not if all that vary are in one block
    spread = float(np.sqrt((BLOCKS - 1) * np.var(each))) if known else None
    whole = ratio(np.ones(len(columns), dtype=bool))
    # A column that does not vary is predicted by its constant without an error.
    varies = np.bincount(columns, errors.constant, len(levels)) > 0
    return HeldOutError(
        cells=int(varies[columns].sum()),
        columns=int(varies.sum()),
        relative_error=whole,
        standard_error=spread,
        says=to_precision(whole, spread) if np.isfinite(whole) else "not known",
        rounds=len(np.unique(errors.held_out.rounds)),
    )


def refinement_of(fitted: Fitted) -> Refinement | None:
    """Return whether forests improved the predictions of held-out cells."""
    held_out, unrefined = fitted.held_out, fitted.unrefined
    if held_out is None or unrefined is None:
        return None
    change = change_of(unrefined, held_out, fitted.levels)
    return Refinement(
        before=change.before,
        after=change.after,
        standard_error=change.standard_error,
        cells=change.cells,
        verdict=change.verdict,
        says=refined_says(change),
    )


def _column(
    filling: Filling,
    place: int,
    errors: Errors | None,
    intervals: FillIntervals | None,
) -> ImputedColumn:
    """Return the numbers of a column."""
    fitted, model = filling.model.fitted, filling.model.columns[place]
    column = filling.table.column(model.name)
    count, missing = filling.counts[0], int(filling.counts[1][place])
    score, levels = fitted.scores[place], bool(model.levels)
    kind = "levels" if levels else "dates" if model.dates else "numbers"
    by = "model"
    if fitted.constant[place]:
        by = "most frequent level" if levels else "mean"
    held_out = 0 if score is None else score.cells
    error = None if score is None else score.error
    by_constant = None if score is None else score.constant_error
    standard = _standard_error(score, errors, place, levels=levels)
    written = column.written if isinstance(column.written, Written) else Written()
    width = None if intervals is None else intervals.columns.get(model.name)
    return ImputedColumn(
        name=model.name,
        kind=kind,
        levels=len(model.levels),
        observed=count - missing,
        missing=missing,
        filled_by=by if filling.options.imputations is None else "model",
        verdict=_verdict(score, by),
        held_out=held_out,
        error=error,
        standard_error=standard,
        constant_error=by_constant,
        measure="share of wrong levels" if levels else "root mean squared error",
        error_says=error_text(error, standard, kind, held_out, written),
        constant_says=error_text(by_constant, standard, kind, held_out, written),
        constant=_constant(model, column, fitted.constants[place]),
        interval=None if width is None else width.says,
    )


def _standard_error(
    score: ColumnScore | None, errors: Errors | None, place: int, *, levels: bool
) -> float | None:
    """Return the standard error of the error of a column by the model."""
    if score is None or errors is None or score.cells <= 1:
        return None
    part = errors.model[errors.held_out.columns == place]
    standard = float(part.std(ddof=1) / np.sqrt(len(part)))
    if levels:
        return standard
    # The error is the square root of the mean: the derivative of the root is 1 / (2 root).
    return standard / (2 * score.error if score.error > 0 else 1.0)


def _constant(model: ColumnModel, column: Column, code: float) -> Level:
    """Return the mean or the most frequent level of a column, as in the column."""
    if model.dates:
        return text_of(of_days(np.array([code]), column.cells, column.values)[0])
    level: Level = decoded(model, np.array([code]))[0]
    return level


def _verdict(score: ColumnScore | None, by: str) -> str:
    """Return in words whether a column is predicted better than by a constant."""
    if score is None or not score.judged:
        return "not judged"
    if by != "model":
        return "no"
    if score.difference == 0:
        return "the same"
    clear = score.difference < -2 * score.standard_error
    return "yes" if clear else "not clearly"


def intervals_of(filling: Filling) -> FillIntervals | None:
    """Return the widths of the prediction intervals, and the sizes of the sets."""
    found = filling.intervals
    if found is None:
        return None
    lacking = np.isnan(filling.codes)
    columns = {}
    for place, model in enumerate(filling.model.columns):
        rows = lacking[:, place]
        if not filling.counts[1][place]:
            continue
        width = size = None
        if model.levels:
            total = np.asarray(float(found.sets[place][rows].sum()))
            (total,) = filling.together.sum_arrays(total)
            size = float(total) / float(filling.counts[1][place])
            says = f"{size:.2g} levels"
        else:
            own = (found.upper - found.lower)[rows, place]
            every = filling.together.rows(own)  # of all, in the first process
            width = None if every is None else float(np.median(every))
            width = filling.together.from_first(width)
            says = f"{width:.2g} days" if model.dates else f"{width:.2g}"
        columns[model.name] = ColumnIntervals(width=width, levels=size, says=says)
    held_out = filling.model.fitted.held_out
    cells = 0 if held_out is None else len(held_out.columns)
    return FillIntervals(coverage=found.coverage, cells=cells, columns=columns)


def pictures_of(
    filling: Filling, columns: Sequence[ImputedColumn]
) -> tuple[list[PicturedColumn], dict[str, np.ndarray]]:
    """Return the best and the worst predicted column, and their held-out cells."""
    fitted = filling.model.fitted
    found: list[PicturedColumn] = []
    tensors: dict[str, np.ndarray] = {}
    held_out = fitted.held_out
    if held_out is None:
        return found, tensors
    ratios = {}
    for place, score in enumerate(fitted.scores):
        few = len(filling.model.columns[place].levels) <= MOST_LEVELS
        if score and score.cells >= ENOUGH and score.constant_error > 0 and few:
            ratios[place] = score.error / score.constant_error
    if not ratios:
        return found, tensors
    best, worst = (pick(ratios, key=lambda k: ratios[k]) for pick in (min, max))
    for which, place in {"best": best, "worst": worst}.items():
        if which == "worst" and worst == best:
            continue
        model, mine = filling.model.columns[place], held_out.columns == place
        picked = np.flatnonzero(mine)
        if len(picked) > MOST_POINTS and not model.levels:
            generator = stream(filling.options.seed, "split", 1)
            picked = np.sort(generator.choice(picked, MOST_POINTS, replace=False))
        found.append(
            PicturedColumn(
                name=model.name,
                which=which,
                levels=level_names(model),
                cells=int(mine.sum()),
                drawn=len(picked),
                error_says=columns[place].error_says,
                constant_says=columns[place].constant_says,
            )
        )
        tensors[f"{which}/truth"] = held_out.truth[picked]
        tensors[f"{which}/predicted"] = held_out.values[picked]
    return found, tensors
