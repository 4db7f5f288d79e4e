"""Judge a model by held-out cells: folds, errors, and decisions that depend on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np

from descents.marginal.chosen import hidden_cells
from descents.marginal.features import (
    Features,
    LevelFeatures,
    NumberFeatures,
    constants_of,
)
from descents.marginal.posterior import RowsModel
from descents.marginal.refinement import RefinedModel
from descents.marginal.wide import ColumnsModel
from descents.optim.collective import ALONE, Collective
from descents.text import OneLine

MOST_HELD_OUT = 20_000
"""Most cells that are held out in one fold."""
ENOUGH_HELD_OUT = 1000
"""Folds are added until this many cells were held out."""
MOST_FOLDS = 10
ENOUGH_OF_COLUMN = 20
"""Fewest held-out cells from which it is decided whether a column is predicted."""
LEAST_FOLDS = 2
"""Fewest folds in which refined models are judged: each takes as long as the fit."""
BLOCKS = 20
"""Number of blocks of cells of the jackknife."""
SURE = 1.5
"""A table is filled by the model if that is better than constants by this many standard
errors."""
SURE_OF_COLUMNS = 0.5
"""The same where the columns are the sample. Such a model shrinks to the means by itself,
and each fold leaves it less of the few rows than the table has. Both numbers were chosen
on generated tables."""

Choice = TypeVar("Choice")


@dataclass(frozen=True, eq=False)
class HeldOut(OneLine):
    """Held-out cells with the predictions of fits that had not seen them.

    Attributes
    ----------
    columns : int64 ndarray
        The column of each cell.
    truth, values, constants : float64 ndarray
        The observed value; the prediction of the model; the mean or the most frequent
        level of the column. The mean is that of the cells that the fit had seen. The level
        is the most frequent one of all cells: without the held-out cells, their level
        would be rarer, which is decisive if levels are about equally frequent.
    scores : float64 ndarray
        The nonconformity score of the truth. For a number, it is the distance from the
        prediction over the predicted standard deviation; for a level, 1 less its
        probability.
    deviations : float64 ndarray
        The predicted standard deviation of a number; 0 for a level.
    chances : float64 ndarray of shape (cells, most levels)
        The predicted probabilities of the levels of the column; NaN past its last level.
    spreads : float64 ndarray
        The standard deviation of all observed cells of the column; 1 for levels.
    rounds : int64 ndarray
        The number of the fit that had not seen the cell; empty if it is not known.
    """

    columns: np.ndarray
    truth: np.ndarray
    values: np.ndarray
    constants: np.ndarray
    scores: np.ndarray
    deviations: np.ndarray = field(default_factory=lambda: np.empty(0))
    chances: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    spreads: np.ndarray = field(default_factory=lambda: np.empty(0))
    rounds: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __repr__(self) -> str:
        """Return the numbers of cells and columns, in one line."""
        return f"HeldOut({len(self.truth)} cells of {len(np.unique(self.columns))} columns)"

    def errors(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the errors of the model and of constants for each cell.

        They are squared differences for numbers, and 1 for a wrong level.
        """
        of_levels = levels[self.columns] > 0
        model, constant = (
            np.where(of_levels, guess != self.truth, np.square(guess - self.truth))
            for guess in (self.values, self.constants)
        )
        return model, constant

    def some(self, kept: np.ndarray) -> HeldOut:
        """Return some of the cells; empty fields stay empty.

        Parameters
        ----------
        kept : bool or int ndarray
            Which cells.

        Examples
        --------
        >>> ones = np.ones(3)
        >>> HeldOut(np.array([0, 0, 1]), ones, ones, ones, ones).some(np.array([0, 2]))
        HeldOut(2 cells of 2 columns)
        """
        parts = (getattr(self, one.name) for one in fields(self))
        return HeldOut(*(part[kept] if len(part) else part for part in parts))

    @classmethod
    def joined(cls, parts: Sequence[HeldOut]) -> HeldOut:
        """Return the cells of several folds."""
        found = cls(
            *(
                np.concatenate([getattr(part, one.name) for part in parts])
                for one in fields(cls)
            )
        )
        sizes = [len(part.truth) for part in parts]
        return replace(found, rounds=np.repeat(np.arange(len(parts)), sizes))


def of_hidden(
    model: RowsModel | ColumnsModel | RefinedModel,
    features: Features,
    codes: np.ndarray,
    shown: np.ndarray,
    hidden: np.ndarray,
    whole: Features,
) -> HeldOut:
    """Return the predictions of a model of the shown cells for the hidden ones.

    Parameters
    ----------
    model : RowsModel, ColumnsModel or RefinedModel
    features : Features
        Those of the shown cells.
    codes, shown : float64 ndarray of shape (n, p)
        The table, and the same with NaN in place of the hidden cells.
    hidden : bool ndarray of shape (n, p)
    whole : Features
        Those of all cells.
    """
    rows = np.flatnonzero(hidden.any(1))
    base = model.model if isinstance(model, RefinedModel) else model
    if isinstance(base, ColumnsModel):  # it knows the rows of its fit
        rows = np.arange(len(codes))
    held = hidden[rows]
    predicted = model.predicted(shown[rows])
    cells, columns = np.nonzero(held)
    truth, values = codes[rows][held], predicted.values[held]
    std, scores = predicted.deviations[held], np.zeros(len(truth))
    widths = [c.width for c in features.columns if isinstance(c, LevelFeatures)]
    probabilities = np.full((len(truth), max(widths, default=0)), np.nan)
    for place, column in enumerate(features.columns):
        mine = columns == place
        if not mine.any():
            continue
        if isinstance(column, NumberFeatures):
            off = np.abs(truth[mine] - values[mine])
            scores[mine] = off / np.maximum(std[mine], 1e-300)
            values[mine] = np.clip(values[mine], column.low, column.high)
        else:
            probable = predicted.probabilities[place][cells[mine]]
            true = truth[mine].astype(np.int64)
            scores[mine] = 1 - probable[np.arange(len(true)), true]
            probabilities[mine, : column.width] = probable
    of_levels = [isinstance(column, LevelFeatures) for column in features.columns]
    constants = np.where(of_levels, constants_of(whole), constants_of(features))
    spreads = np.array([getattr(column, "spread", 1.0) for column in whole.columns])
    return HeldOut(
        columns,
        truth,
        values,
        constants[columns],
        scores,
        std,
        probabilities,
        spreads[columns],
    )


@dataclass(frozen=True)
class ColumnScore:
    """How well the held-out cells of a column were predicted.

    Attributes
    ----------
    cells : int
        Number of held-out cells.
    error, constant_error : float
        The error of the model, and that of the mean or the most frequent level: the root
        mean squared error of numbers, in their units, or the share of wrong levels.
    difference, standard_error : float
        The mean difference of the errors of cells (squared for numbers), that of the model
        minus that of the constant, and its standard error.
    """

    cells: int
    error: float
    constant_error: float
    difference: float
    standard_error: float

    @property
    def judged(self) -> bool:
        """Whether there are enough held-out cells to compare the model with the constant."""
        return self.cells >= ENOUGH_OF_COLUMN

    def is_worse(self) -> bool:
        """Return whether the model is worse than the constant by a standard error."""
        return self.judged and self.difference > self.standard_error

    def is_better(self) -> bool:
        """Return whether the model is better than the constant by two standard errors."""
        return self.judged and self.difference < -2 * self.standard_error


def folds_of(
    codes: np.ndarray, share: float, seed: int, together: Collective = ALONE
) -> Iterator[np.ndarray]:
    """Yield the held-out cells of each fold, as masks.

    Each row and each column keeps an observed cell. There is one fold if that has enough
    cells, and otherwise there are up to ten, which are disjoint. Of processes that share
    the table, each has the masks of its rows.
    """
    return hidden_cells(
        ~np.isnan(codes),
        share,
        seed,
        most=MOST_HELD_OUT,
        enough=ENOUGH_HELD_OUT,
        folds=MOST_FOLDS,
        together=together,
    )


def enough_folds(folds: Sequence[np.ndarray], codes: np.ndarray) -> int:
    """Return how many folds judge each column with missing cells, two or more.

    Each of these columns has `ENOUGH_OF_COLUMN` held-out cells in these folds, or there
    are no more folds.

    Parameters
    ----------
    folds : sequence of bool ndarray of shape (n, p)
    codes : float64 ndarray of shape (n, p)
        The table.

    Examples
    --------
    >>> codes = np.zeros((30, 1))
    >>> codes[0] = np.nan
    >>> enough_folds([np.arange(30)[:, None] % 3 == k for k in range(3)], codes)
    2
    """
    missing = np.isnan(codes).any(0)
    seen = np.zeros(codes.shape[1], dtype=np.int64)
    for place, hidden in enumerate(folds):
        if place >= LEAST_FOLDS and (seen[missing] >= ENOUGH_OF_COLUMN).all():
            return place
        seen += hidden.sum(0)
    return len(folds)


def best_of(parts: Mapping[Choice, Sequence[HeldOut]], levels: np.ndarray) -> Choice:
    """Return the model with the smallest error, or the first if no other is clearly better.

    Another model must be better than the first by two standard errors of the difference of
    their relative errors (`relative_errors`).

    Parameters
    ----------
    parts : mapping of models to sequences of HeldOut
        For each model, the held-out cells of each of its fits.
    levels : int ndarray of shape (p,)
    """
    first, *others = parts
    if not others:
        return first
    errors = np.array(
        [relative_errors(HeldOut.joined(some), levels) for some in parts.values()]
    )
    best = int(errors[:, 0].argmin())
    off = errors[best] - errors[0]
    return list(parts)[best] if off[0] < -2 * deviation_of(off) else first


def relative_errors(held_out: HeldOut, levels: np.ndarray) -> np.ndarray:
    """Return the relative error of all cells, and of all but each of some blocks.

    The relative error is the mean error of the columns over that of the constants. The error
    of a column of numbers is the root mean squared error over its standard deviation, the
    error of a column of levels the share of wrong ones.

    Returns
    -------
    ndarray of shape (1 + blocks,)
    """
    blocks = np.arange(len(held_out.columns)) % BLOCKS
    found = [_mean_error(held_out, levels, blocks != k) for k in (-1, *range(BLOCKS))]
    return np.array(found)


def deviation_of(errors: np.ndarray) -> float:
    """Return the standard error of the first error, by the jackknife over the blocks.

    With b blocks it is ((b - 1) times the variance of the other errors)^{1/2}.
    """
    return float(np.sqrt((BLOCKS - 1) * np.var(errors[1:])))


@dataclass(frozen=True)
class Change:
    """The relative errors of two models on the same held-out cells.

    Attributes
    ----------
    before, after : float
        The relative errors (`relative_errors`).
    standard_error : float
        Of their difference, by the jackknife.
    cells : int
    """

    before: float
    after: float
    standard_error: float
    cells: int

    @property
    def verdict(self) -> str:
        """Whether the difference is more than two standard errors, and which way."""
        if abs(self.after - self.before) <= 2 * self.standard_error:
            return "no clear difference"
        return "better" if self.after < self.before else "worse"


def change_of(before: HeldOut, after: HeldOut, levels: np.ndarray) -> Change:
    """Return the relative errors of two models on the same held-out cells."""
    first, second = relative_errors(before, levels), relative_errors(after, levels)
    spread = deviation_of(second - first)
    return Change(float(first[0]), float(second[0]), spread, len(after.columns))


def worse_columns(before: HeldOut, after: HeldOut, levels: np.ndarray) -> np.ndarray:
    """Return which columns a second model predicts worse by one standard error.

    Parameters
    ----------
    before, after : HeldOut
        The same cells in the same order.
    levels : int ndarray of shape (p,)

    Returns
    -------
    bool ndarray of shape (p,)
    """
    scores = scores_of(replace(after, constants=before.values), levels)
    return np.array(
        [one is not None and one.difference > one.standard_error for one in scores]
    )


def with_columns(held_out: HeldOut, chosen: np.ndarray, other: HeldOut) -> HeldOut:
    """Return held-out cells with the predictions of another model in some columns.

    Parameters
    ----------
    held_out, other : HeldOut
        The same cells in the same order.
    chosen : bool ndarray of shape (p,)
    """
    mine = chosen[held_out.columns]
    parts = []
    for one in fields(HeldOut):
        here, there = getattr(held_out, one.name), getattr(other, one.name)
        pick = mine if here.ndim == 1 else mine[:, None]
        parts.append(np.where(pick, there, here) if len(here) else here)
    return HeldOut(*parts)


def filled_by_constants(
    held_out: HeldOut,
    scores: Sequence[ColumnScore | None],
    levels: np.ndarray,
    *,
    sample: str = "rows",
) -> np.ndarray:
    """Return which columns are filled with their mean or most frequent level.

    If the model as a whole is better than the constants by 1.5 standard errors, these are
    the columns that it predicts worse by one standard error. Otherwise they are all columns
    except those that it predicts better by two standard errors. If the columns are the
    sample, half a standard error in place of the 1.5 is enough.

    Parameters
    ----------
    held_out : HeldOut
    scores : sequence of ColumnScore or None
        One for each column.
    levels : int ndarray of shape (p,)
        Number of levels of each column; 0 for numbers.
    sample : {"rows", "columns"}
        The side whose factors are integrated out.

    Returns
    -------
    bool ndarray of shape (p,)
    """
    errors = relative_errors(held_out, levels)
    sure = SURE_OF_COLUMNS if sample == "columns" else SURE
    if errors[0] < 1 - sure * deviation_of(errors):
        return np.array([one is not None and one.is_worse() for one in scores])
    return np.array([one is None or not one.is_better() for one in scores])


def _mean_error(held_out: HeldOut, levels: np.ndarray, kept: np.ndarray) -> float:
    """Return the relative error of some of the cells."""
    columns, most = held_out.columns[kept], len(levels)
    sums = [
        np.bincount(columns, weights=part[kept], minlength=most)
        for part in held_out.errors(levels)
    ]
    some = sums[1] > 0
    if not some.any():
        return 0.0
    of_levels = levels[some] > 0
    ratios = sums[0][some] / sums[1][some]
    ratios = np.where(of_levels, ratios, np.sqrt(ratios))
    # The mean of ratios, weighted by the errors of the constants, is the ratio of means.
    # Without spreads, numbers have the weight 1 of many cells.
    shares = sums[1][some] / np.bincount(columns, minlength=most)[some]
    weights = np.where(of_levels, shares, 1.0)
    if len(held_out.spreads):
        spreads = np.ones(most)
        spreads[columns] = held_out.spreads[kept]
        weights = np.where(of_levels, shares, np.sqrt(shares) / spreads[some])
    return float(ratios @ weights / weights.sum())


def scores_of(held_out: HeldOut, levels: np.ndarray) -> tuple[ColumnScore | None, ...]:
    """Return the score of each column; None for a column without held-out cells."""
    model, constant = held_out.errors(levels)
    found: list[ColumnScore | None] = []
    for place, count in enumerate(levels):
        mine = held_out.columns == place
        cells = int(mine.sum())
        if not cells:
            found.append(None)
            continue
        off = model[mine] - constant[mine]
        errors = [float(part[mine].mean()) for part in (model, constant)]
        if not count:
            errors = [float(np.sqrt(error)) for error in errors]
        std = float(off.std(ddof=1)) if cells > 1 else np.inf
        found.append(
            ColumnScore(
                cells,
                errors[0],
                errors[1],
                float(off.mean()),
                std / float(np.sqrt(cells)),
            )
        )
    return tuple(found)
