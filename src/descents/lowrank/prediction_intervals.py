"""Prediction intervals and prediction sets for missing cells, by conformal prediction.

Split conformal prediction [1]_ [2]_ [3]_ holds out some observed cells, fits a second
model (the twin) without them, and scores how far each of them is from the twin's
prediction. The interval or set of a missing cell contains all values whose score is at
most a quantile of these scores. On average over cells it contains the true value with at
least the requested probability, for any data and any model, if missing cells are
exchangeable with those held out. This requires that whether a cell is missing does not
depend on its value.

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
from typing import TypedDict

import numpy as np

from descents.cells.base import Cells
from descents.cells.columns import ColumnModel
from descents.errors import InvalidValueError
from descents.losses import Loss, Periodic
from descents.lowrank.predictor import Predictor, probabilities
from descents.statistics.quantiles import coverage_checked, rank_of
from descents.text import OneLine, counted

PARTS = 5
"""One in this many of the observed cells is held out."""
OWN = 30
"""A column with at least this many held-out cells has its own quantile."""
MOST_SCORED = 2**15
"""The largest number of cells that are scored."""
AT_ONCE = 2**22
"""The largest number of values in the rows of cells that are scored together."""
CONSTANT = 1e-9
"""A column counts as constant if it varies by less than this share of its size."""


def kind_of(loss: Loss) -> str | None:
    """Return how cells of a loss are scored; None if they cannot be scored.

    ========  ==================================================================
    number    the absolute residual over the spread of the column
    period    the same for the nearest copy of a number that is modulo a period
    count     2 abs(sqrt(x + 3/8) - sqrt(m + 3/8)) for the mean m; for a Poisson
              number its variance is near 1 for every m (Anscombe, 1948)
    labels    1 - the probability of the label, or a substitute if the loss does not
              define probabilities (`Loss.probabilities`)
    ========  ==================================================================

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> kind_of(get_loss("ordinal")), kind_of(get_loss("poisson")), kind_of(get_loss("huber"))
    ('labels', 'count', 'number')
    >>> print(kind_of(get_loss(lambda prediction, target: (prediction - target) ** 4)))
    None
    """
    if loss.has_levels:
        return "labels"
    if loss.counts:
        return "count"
    if isinstance(loss, Periodic):
        return "period"
    return "number" if loss.identity and loss.name != "own" else None


@dataclass(frozen=True)
class Intervals(OneLine):
    """Prediction intervals and sets of the cells that were filled.

    Attributes
    ----------
    coverage : float
    names : tuple of str
        The names of the columns of the model, in their order.
    lower, upper : float64 ndarray of shape (rows, columns)
        The ends of the intervals; NaN for observed cells, in columns of labels, and in
        columns with fewer than two observed cells.
    sets : object ndarray of shape (rows, columns)
        The sets of labels as tuples; None for observed cells and in columns of numbers.
    """

    coverage: float
    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    sets: np.ndarray


class ColumnFacts(TypedDict):
    """The calibration of a column as plain values."""

    name: str
    kind: str
    held: int
    quantile: float
    width: float | None


class CalibrationFacts(TypedDict):
    """A `Calibration` as plain values."""

    coverage: float
    held: int
    columns: list[ColumnFacts]


@dataclass(frozen=True)
class Flat:
    """The columns that are filled with their constant.

    Their numbers are scored by the constants of the twin, and their levels by the shares of
    the whole table: sets consist of the same shares, and would leave out a level whose
    share in the table of the twin is slightly larger.

    Attributes
    ----------
    columns : bool ndarray of shape (columns,)
    shares : float64 ndarray of shape (columns, levels), optional
        The shares of the levels in the table, NaN after the last one and for numbers.
    """

    columns: np.ndarray
    shares: np.ndarray | None = None

    @classmethod
    def none(cls, count: int) -> Flat:
        """Return that none of some columns is filled with its constant."""
        return cls(np.zeros(count, dtype=bool))

    @classmethod
    def of(cls, columns: np.ndarray, shares: Sequence[np.ndarray | None]) -> Flat:
        """Return columns with the shares of each, of shape (1, levels), None for numbers."""
        known = [0 if share is None else share.shape[1] for share in shares]
        table = np.full((len(known), max(known, default=0)), np.nan)
        for j, share in enumerate(shares):
            if share is not None:
                table[j, : known[j]] = share[0]
        return cls(columns, table if table.size else None)

    def share(self, column: int, probability: np.ndarray) -> np.ndarray:
        """Return the shares of levels of a column in place of their probabilities.

        The probabilities, of shape (rows, levels), are returned if it is not filled with
        its constant, or if its shares are not known.
        """
        if not self.columns[column] or self.shares is None:
            return probability
        share = self.shares[column, : probability.shape[1]]
        return np.broadcast_to(share, probability.shape)


@dataclass(frozen=True)
class Calibration(OneLine):
    """The scores of the held-out cells, to which the twin of a model was not fitted.

    Attributes
    ----------
    models : list of ColumnModel
    columns : int64 ndarray of shape (cells,)
        The column of each cell.
    scores : float64 ndarray of shape (cells,)
    spreads : float64 ndarray of shape (columns,)
        The divisors of residuals in columns of numbers.
    flat : Flat
        The columns that are filled with their constant, whose cells have the scores of
        the constant.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> models = [ColumnModel(name, get_loss("squared"), (), "") for name in "ab"]
    >>> scores = np.arange(1.0, 41.0)
    >>> columns, flat = np.repeat([0, 1], [38, 2]), Flat.none(2)
    >>> calibration = Calibration(models, columns, scores, np.ones(2), flat)
    >>> calibration.quantiles(0.9)  # the second column has too few cells of its own
    array([36., 37.])
    """

    models: list[ColumnModel]
    columns: np.ndarray
    scores: np.ndarray
    spreads: np.ndarray
    flat: Flat

    def quantiles(self, coverage: float) -> np.ndarray:
        """Return the quantile of each column, shape (columns,).

        It is that of the column's own scores if at least 30 cells, and as many as the
        coverage needs, were held out. Otherwise it is that of the scores of all columns
        that are scored in the same way, around predictions or around constants.

        Raises
        ------
        InvalidValueError
            If even these are too few: coverage c needs c / (1 - c) cells.
        """
        coverage = coverage_checked(coverage)
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        kinds = [
            (kind_of(model.loss), bool(flat))
            for model, flat in zip(self.models, self.flat.columns, strict=True)
        ]
        quantiles = np.full(len(kinds), np.nan)
        for j, kind in enumerate(kinds):
            scores = self.scores[self.columns == j]
            if len(scores) < max(OWN, least):
                same = [k for k, other in enumerate(kinds) if other == kind]
                scores = self.scores[np.isin(self.columns, same)]
            if len(scores) < least:
                raise InvalidValueError(
                    f"a coverage of {coverage:g} needs at least "
                    f"{counted(least, 'held-out cell')} in columns like "
                    f"{self.models[j].name!r}, but there are {len(scores)}; give a smaller "
                    "coverage, or a larger table"
                )
            quantiles[j] = np.sort(scores)[rank_of(coverage, len(scores)) - 1]
        return quantiles

    def described(self, coverage: float) -> CalibrationFacts:
        """Return the numbers of held-out cells and the quantiles as plain values."""
        quantiles = self.quantiles(coverage)
        counts = np.bincount(self.columns, minlength=len(self.models))
        return {
            "coverage": coverage,
            "held": len(self.scores),
            "columns": [
                {
                    "name": model.name,
                    "kind": kind_of(model.loss) or "",
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
        fitted: Predictor,
        predicted: tuple[np.ndarray, np.ndarray],
        filled: Sequence[np.ndarray],
        holes: np.ndarray,
        coverage: float,
    ) -> Intervals:
        """Return intervals and sets around the filled values of a model.

        They always contain the filled value: intervals are extended if the filled value
        was rounded, and the filled level is in every set.

        Parameters
        ----------
        fitted : Predictor
        predicted : pair of ndarray
            Natural parameters and cut points, see `Predictor.predictions`.
        filled : sequence of ndarray
            The numbers or codes that missing cells of each column are filled with. In
            some columns these are constants in place of predictions.
        holes : bool ndarray of shape (rows, columns)
            The cells that need an interval.
        coverage : float
        """
        quantiles = self.quantiles(coverage)
        shape = (len(predicted[0]), len(self.models))
        lower, upper = np.full(shape, np.nan), np.full(shape, np.nan)
        sets = np.full(shape, None, dtype=object)
        of_levels = probabilities(fitted.problem.cells, *predicted)
        for j, model in enumerate(self.models):
            rows = np.flatnonzero(holes[:, j])
            if not np.isfinite(self.spreads[j]):  # fewer than two observed cells
                continue
            point, q, probability = filled[j][rows], quantiles[j], of_levels[j]
            if probability is not None:
                probability = self.flat.share(j, probability)
                inside = 1 - probability[rows] <= q
                inside[np.arange(len(rows)), point.astype(np.int64)] = True
                for row, mask in zip(rows, inside, strict=True):
                    sets[row, j] = tuple(
                        level
                        for level, has in zip(model.levels, mask, strict=False)
                        if has
                    )
                continue
            if kind_of(model.loss) == "count":
                root = np.sqrt(np.maximum(point, 0) + 3 / 8)
                low = np.maximum(np.maximum(root - q / 2, 0) ** 2 - 3 / 8, 0)
                high = (root + q / 2) ** 2 - 3 / 8
            else:
                half = q * self.spreads[j]
                if isinstance(model.loss, Periodic):  # the ends are modulo the period
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
        """Return the calibration as named arrays."""
        shares = self.flat.shares
        return {
            "calibration/columns": self.columns,
            "calibration/scores": self.scores,
            "calibration/spreads": self.spreads,
            "calibration/constant": self.flat.columns.astype(np.uint8),
        } | ({} if shares is None else {"calibration/shares": shares})

    @classmethod
    def restored(
        cls, models: list[ColumnModel], arrays: dict[str, np.ndarray]
    ) -> Calibration | None:
        """Return the calibration from `stored`, None if the arrays do not include one."""
        if "calibration/scores" not in arrays:
            return None
        names = ("columns", "scores", "spreads")
        columns, scores, spreads = (arrays[f"calibration/{name}"] for name in names)
        constant = arrays.get("calibration/constant")  # version 0.1 has none
        flat = Flat.none(len(models))
        if constant is not None:
            flat = Flat(constant.astype(bool), arrays.get("calibration/shares"))
        return cls(models, columns, scores, spreads, flat)


def check_scored(models: Sequence[ColumnModel]) -> None:
    """Raise unless the cells of every column can be scored."""
    without = [model for model in models if kind_of(model.loss) is None]
    if without:
        listed = ", ".join(f"{m.name!r} ({m.loss.name})" for m in without[:5])
        raise InvalidValueError(
            f"there are no intervals for the loss of {listed}, because a custom loss does "
            "not define what it predicts; give these columns a named loss"
        )


def constants_of(
    fitted: Predictor, cells: Cells
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Return the constant of each column, and its probabilities of the levels.

    Each is an array with one row: the prediction for a row whose factors are 0.

    Parameters
    ----------
    fitted : Predictor
    cells : Cells
        Those of the table; a loaded model does not know its best constants.
    """
    natural = cells.offsets[None]
    return (
        fitted.decoded(natural, cells.cuts),
        probabilities(fitted.problem.cells, natural, cells.cuts),
    )


def calibrated(
    twin: Predictor,
    values: np.ndarray,
    held: np.ndarray,
    generator: np.random.Generator,
    flat: Flat | None = None,
) -> Calibration:
    """Score the held-out cells, to which the twin was not fitted.

    Each cell is predicted like a missing cell: with the column parameters of the twin
    fixed, from all other observed cells of its row, including held-out ones. Therefore on
    average it is predicted from as many cells as a missing one; only the column
    parameters were fitted to fewer cells.

    Parameters
    ----------
    twin : Predictor
        The fit of the table without the held-out cells.
    values : ndarray of shape (rows, columns)
        The table, with codes for levels.
    held : bool ndarray of shape (rows, columns)
        The held-out cells.
    generator : numpy Generator
        Draws the cells that are scored if there are more than `MOST_SCORED`.
    flat : Flat, optional
        The columns that are filled with their constant.
    """
    if flat is None:
        flat = Flat.none(len(twin.models))
    sizes, spreads = twin.problem.root_mean_squares(), np.full(len(twin.models), np.nan)
    cells = twin.problem.cells
    for block in cells.blocks:
        for place, column in enumerate(block.columns):
            if cells.column_counts[column] > 1:
                # The floor is the size of rounding, for constant columns.
                first = block.first + place * block.each
                size = abs(cells.offsets[first])
                floor = CONSTANT * (size if size > 0 else CONSTANT)
                unit = twin.problem.units[first]
                spreads[column] = max(sizes[first], floor) * unit
    i, j = np.nonzero(held & np.isfinite(spreads))
    if len(i) > MOST_SCORED:
        drawn = np.sort(generator.choice(len(i), MOST_SCORED, replace=False))
        i, j = i[drawn], j[drawn]
    size = max(1, AT_ONCE // values.shape[1])
    scores = [
        _scores(twin, values, spreads, flat, i[k : k + size], j[k : k + size])
        for k in range(0, len(i), size)
    ]
    found = np.concatenate([*scores, np.zeros(0)])
    return Calibration(twin.models, j, found, spreads, flat)


def _scores(
    twin: Predictor,
    values: np.ndarray,
    spreads: np.ndarray,
    flat: Flat,
    i: np.ndarray,
    j: np.ndarray,
) -> np.ndarray:
    """Score cells by predicting each from the other cells of its row, or by constants."""
    rows, places = values[i], np.arange(len(i))
    truth = rows[places, j].astype(np.float64)
    rows[places, j] = np.nan
    others = twin.cells_of(rows)
    predicted = twin.predictions([twin.solved(others, start) for start in twin.points])
    points, of_levels = (
        twin.decoded(*predicted),
        probabilities(twin.problem.cells, *predicted),
    )
    fixed, _ = constants_of(twin, twin.problem.cells)
    scores = np.empty(len(i))
    for column in np.unique(j):
        here = np.flatnonzero(j == column)
        x, point, probability = truth[here], points[column][here], of_levels[column]
        if flat.columns[column]:
            point = np.full(len(here), fixed[column][0])
        if probability is not None:
            probability = flat.share(column, probability)
            scores[here] = 1 - probability[here, x.astype(np.int64)]
        elif kind_of(twin.models[column].loss) == "count":
            roots = (np.sqrt(np.maximum(part, 0) + 3 / 8) for part in (x, point))
            scores[here] = 2 * np.abs(np.subtract(*roots))
        else:
            residual, loss = x - point, twin.models[column].loss
            if isinstance(loss, Periodic):
                residual = residual - loss.period * np.round(residual / loss.period)
            scores[here] = np.abs(residual) / spreads[column]
    return scores
