"""Intervals and sets of labels that hold hidden cells as often as is asked for.

Split conformal prediction [1]_ [2]_ [3]_: some observed cells are held out, a twin of
the model is fitted without them, and a score says how far each of them is from what the
twin predicts. What holds a hidden cell is all whose score is at most a quantile of
those. Hidden cells are held with at least that probability, on the average over cells,
whatever the data and however wrong the model, if they are exchangeable with those held
out: missing at random, not for what they hold.

References
----------
.. [1] Vovk, Gammerman and Shafer (2005), "Algorithmic learning in a random world".
.. [2] Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018), "Distribution-free
   predictive inference for regression", Journal of the American Statistical
   Association 113.
.. [3] Angelopoulos and Bates (2023), "Conformal prediction: a gentle introduction",
   Foundations and Trends in Machine Learning 16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from descents.answers.fitted import Fitted
from descents.checks import InvalidValueError, counted, real_number
from descents.losses import Loss, Periodic
from descents.problems.columns import ColumnModel

PARTS = 5
"""One part of so many of the observed cells is held out."""
OWN = 30
"""A column with so many cells held out has a quantile of its own."""
MOST_SCORED = 2**15
"""How many cells are scored at most."""
AT_ONCE = 2**22
"""How many numbers the rows of cells that are scored together have at most."""
CONSTANT = 1e-9
"""A column that varies by less than this share of its size is constant."""


def kind_of(loss: Loss) -> str | None:
    """Return how cells of a loss are scored; None where there is no way.

    ========  ==================================================================
    number    the size of the residual over the spread of the column
    period    the same, to the nearest copy of a number that counts modulo a period
    count     2 abs(sqrt(x + 3/8) - sqrt(m + 3/8)) of the mean m, which for a
              Poisson number has a variance near 1 whatever m is (Anscombe, 1948)
    labels    1 - the probability of the label, or what stands for it where the loss
              is none of probabilities (`Loss.probabilities`)
    ========  ==================================================================

    Examples
    --------
    >>> from descents.losses import named
    >>> kind_of(named("ordinal")), kind_of(named("poisson")), kind_of(named("huber"))
    ('labels', 'count', 'number')
    >>> print(kind_of(named(lambda prediction, target: (prediction - target) ** 4)))
    None
    """
    if loss.has_levels:
        return "labels"
    if loss.domain.startswith("counts"):
        return "count"
    if isinstance(loss, Periodic):
        return "period"
    return "number" if loss.identity and loss.name != "own" else None


def coverage_checked(value: Any) -> float:
    """Return a coverage, above 0 and below 1.

    Examples
    --------
    >>> coverage_checked(90)
    Traceback (most recent call last):
    ...
    descents.checks.InvalidValueError: coverage is 90; give a number above 0 and below 1
    """
    wanted = f"coverage is {value!r}; give a number above 0 and below 1"
    try:
        number = real_number("coverage", value)
    except InvalidValueError:
        raise InvalidValueError(wanted) from None
    if not 0 < number < 1:
        raise InvalidValueError(wanted)
    return number


def rank_of(coverage: float, count: int) -> int:
    """Return which of `count` rising scores is the quantile; more than all of too few.

    The ceiling of coverage (count + 1).

    Examples
    --------
    >>> rank_of(0.9, 9), rank_of(0.9, 8), rank_of(0.9, 99)
    (9, 9, 90)
    """
    return math.ceil(coverage * (count + 1) - 1e-9)


@dataclass(frozen=True)
class Intervals:
    """What holds the cells that were filled in.

    Attributes
    ----------
    coverage : float
    names : tuple of str
        Of the columns of the model, in their order.
    lower, upper : float64 ndarray of shape (rows, columns)
        The ends of intervals; NaN at observed cells, in columns of labels, and in
        columns with fewer than two observed cells, of which nothing is known.
    sets : object ndarray of shape (rows, columns)
        The labels, as a tuple; None at observed cells and in columns of numbers.
    """

    coverage: float
    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    sets: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """The scores of the cells that a twin of a model was not fitted to.

    Attributes
    ----------
    models : list of ColumnModel
    columns : int64 ndarray of shape (cells,)
        The column of each.
    scores : float64 ndarray of shape (cells,)
    spreads : float64 ndarray of shape (columns,)
        What the residuals of columns of numbers are divided by.

    Examples
    --------
    >>> from descents.losses import named
    >>> models = [ColumnModel(name, named("squared"), (), "") for name in "ab"]
    >>> scores = np.arange(1.0, 41.0)
    >>> known = Calibration(models, np.repeat([0, 1], [38, 2]), scores, np.ones(2))
    >>> known.quantiles(0.9)  # the second column has too few of its own
    array([36., 37.])
    """

    models: list[ColumnModel]
    columns: np.ndarray
    scores: np.ndarray
    spreads: np.ndarray

    def quantiles(self, coverage: float) -> np.ndarray:
        """Return the quantile of each column, shape (columns,).

        Of its own scores where 30 cells, and as many as the coverage needs, were held
        out, else of those of all columns that are scored as it is.

        Raises
        ------
        InvalidValueError
            When even these are too few: coverage c needs c / (1 - c) cells.
        """
        coverage = coverage_checked(coverage)
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        kinds = [kind_of(model.loss) for model in self.models]
        found = np.full(len(kinds), np.nan)
        for j, kind in enumerate(kinds):
            own = self.scores[self.columns == j]
            if len(own) < max(OWN, least):
                same = [k for k, other in enumerate(kinds) if other == kind]
                own = self.scores[np.isin(self.columns, same)]
            if len(own) < least:
                raise InvalidValueError(
                    f"a coverage of {coverage:g} needs at least {counted(least, 'cell')} of "
                    f"columns like {self.models[j].name!r} that were held out, but "
                    f"there are {len(own)}; give a smaller coverage, or a larger table"
                )
            found[j] = np.sort(own)[rank_of(coverage, len(own)) - 1]
        return found

    def described(self, coverage: float) -> dict[str, Any]:
        """Return what was held out, and each column's quantile, as plain values."""
        quantiles = self.quantiles(coverage)
        counts = np.bincount(self.columns, minlength=len(self.models))
        return {
            "coverage": coverage,
            "held": len(self.scores),
            "columns": [
                {
                    "name": model.name,
                    "kind": kind_of(model.loss),
                    "held": int(count),
                    "quantile": float(quantile),
                    "width": float(2 * quantile)
                    if kind_of(model.loss) in ("number", "period")
                    else None,
                }
                for model, count, quantile in zip(
                    self.models, counts, quantiles, strict=True
                )
            ],
        }

    def intervals(
        self,
        fitted: Fitted,
        predicted: tuple[np.ndarray, np.ndarray],
        holes: np.ndarray,
        coverage: float,
    ) -> Intervals:
        """Return what holds cells, about what a model predicts of them.

        The value that is filled in is always held: an interval is stretched to it where
        it was rounded, and the likeliest label is in every set.

        Parameters
        ----------
        fitted : Fitted
        predicted : pair of ndarray
            Natural parameters and cut points, as `Fitted.predictions` returns them.
        holes : bool ndarray of shape (rows, columns)
            Which cells are asked for.
        coverage : float
        """
        quantiles = self.quantiles(coverage)
        shape = (len(predicted[0]), len(self.models))
        lower, upper = np.full(shape, np.nan), np.full(shape, np.nan)
        sets = np.full(shape, None, dtype=object)
        points = fitted.decoded(*predicted)
        chances = probabilities(fitted, *predicted)
        for j, model in enumerate(self.models):
            rows = np.flatnonzero(holes[:, j])
            if not np.isfinite(self.spreads[j]):  # next to nothing is known of it
                continue
            point, q, chance = points[j][rows], quantiles[j], chances[j]
            if chance is not None:
                kept = 1 - chance[rows] <= q
                kept[np.arange(len(rows)), point.astype(np.int64)] = True
                for row, one in zip(rows, kept, strict=True):
                    sets[row, j] = tuple(
                        level
                        for level, has in zip(model.levels, one, strict=False)
                        if has
                    )
                continue
            if kind_of(model.loss) == "count":
                root = np.sqrt(np.maximum(point, 0) + 3 / 8)
                low = np.maximum(np.maximum(root - q / 2, 0) ** 2 - 3 / 8, 0)
                high = (root + q / 2) ** 2 - 3 / 8
            else:
                half = q * self.spreads[j]
                if isinstance(model.loss, Periodic):  # the ends count modulo it too
                    half = min(half, model.loss.period / 2)
                low, high = point - half, point + half
                if model.loss.divergence:
                    low = np.maximum(low, 0)
            if model.whole and model.limits is not None:
                point = np.rint(point).clip(*model.limits)
            lower[rows, j] = np.minimum(low, point)
            upper[rows, j] = np.maximum(high, point)
        names = tuple(model.name for model in self.models)
        return Intervals(coverage_checked(coverage), names, lower, upper, sets)

    def stored(self) -> dict[str, np.ndarray]:
        """Return it as named arrays."""
        return {
            "calibration/columns": self.columns,
            "calibration/scores": self.scores,
            "calibration/spreads": self.spreads,
        }

    @classmethod
    def restored(
        cls, models: list[ColumnModel], arrays: dict[str, np.ndarray]
    ) -> Calibration | None:
        """Return what `stored` gave, None where there is nothing of it."""
        if "calibration/scores" not in arrays:
            return None
        names = ("columns", "scores", "spreads")
        return cls(models, *(arrays[f"calibration/{name}"] for name in names))


def check_scored(models: Sequence[ColumnModel]) -> None:
    """Raise unless every column has a loss that cells can be scored by."""
    without = [model for model in models if kind_of(model.loss) is None]
    if without:
        listed = ", ".join(f"{m.name!r} ({m.loss.name})" for m in without[:5])
        raise InvalidValueError(
            f"there are no intervals for the loss of {listed}, of which it is "
            "not known what they predict; give those columns a loss with a name"
        )


def probabilities(
    fitted: Fitted, natural: np.ndarray, cuts: np.ndarray
) -> list[np.ndarray | None]:
    """Return the probability of each level of each column; None where it has none."""
    found: list[np.ndarray | None] = [None] * len(fitted.models)
    for block in fitted.problem.cells.blocks:
        if not block.loss.has_levels:
            continue
        values = block.loss.probabilities(
            block.predictions(natural), block.levels, **block.cuts(cuts)
        )
        for place, column in enumerate(block.columns):
            found[column] = values[:, place]
    return found


def calibrated(
    twin: Fitted,
    values: np.ndarray,
    held: np.ndarray,
    generator: np.random.Generator,
) -> Calibration:
    """Score the cells that a twin was not fitted to.

    Each is predicted as a hidden cell is: the twin's columns held fixed, from all other
    observed cells of its row, those held out among them. So it has as many others to go
    by as a hidden one, on the average; only the columns have seen fewer cells.

    Parameters
    ----------
    twin : Fitted
        Of the table without them.
    values : ndarray of shape (rows, columns)
        The table, codes for levels.
    held : bool ndarray of shape (rows, columns)
    generator : numpy Generator
        Of many cells some are drawn.
    """
    deviations, spreads = twin.problem.deviations(), np.full(len(twin.models), np.nan)
    cells = twin.problem.cells
    for block in cells.blocks:
        for place, column in enumerate(block.columns):
            if cells.column_counts[column] > 1:
                # Of a constant column, the size of rounding.
                first = block.first + place * block.each
                size = abs(cells.offsets[first])
                floor = CONSTANT * (size if size > 0 else CONSTANT)
                unit = twin.problem.units[first]
                spreads[column] = max(deviations[first], floor) * unit
    i, j = np.nonzero(held & np.isfinite(spreads))
    if len(i) > MOST_SCORED:
        kept = np.sort(generator.choice(len(i), MOST_SCORED, replace=False))
        i, j = i[kept], j[kept]
    size = max(1, AT_ONCE // values.shape[1])
    scores = [
        _scores(twin, values, spreads, i[k : k + size], j[k : k + size])
        for k in range(0, len(i), size)
    ]
    return Calibration(twin.models, j, np.concatenate([*scores, np.zeros(0)]), spreads)


def _scores(
    twin: Fitted, values: np.ndarray, spreads: np.ndarray, i: np.ndarray, j: np.ndarray
) -> np.ndarray:
    """Score cells, each by the other cells of its row."""
    rows, places = values[i], np.arange(len(i))
    truth = rows[places, j].astype(np.float64)
    rows[places, j] = np.nan
    known = twin.cells_of(rows)
    predicted = twin.predictions([twin.solved(known, one) for one in twin.points])
    points, chances = twin.decoded(*predicted), probabilities(twin, *predicted)
    scores = np.empty(len(i))
    for column in np.unique(j):
        here = np.flatnonzero(j == column)
        x, point, chance = truth[here], points[column][here], chances[column]
        if chance is not None:
            scores[here] = 1 - chance[here, x.astype(np.int64)]
        elif kind_of(twin.models[column].loss) == "count":
            roots = (np.sqrt(np.maximum(part, 0) + 3 / 8) for part in (x, point))
            scores[here] = 2 * np.abs(np.subtract(*roots))
        else:
            rest, loss = x - point, twin.models[column].loss
            if isinstance(loss, Periodic):
                rest = rest - loss.period * np.round(rest / loss.period)
            scores[here] = np.abs(rest) / spreads[column]
    return scores
