"""The columns of a table as features of a Gaussian model, and back.

A column of numbers becomes its standardized values, their normal scores where they are
skewed, and the squares of the scores where they are correlated with other columns. A column
of levels becomes one indicator for each level.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from descents.optim.collective import ALONE, Collective

LEAST_SKEWED = 0.001
"""Normal scores are features only if 1 minus their squared correlation with the values is
at least this."""
RIDGE_OF_VALUES = 0.005
RIDGE_OF_SQUARES = 0.15
RIDGE_OF_LEVELS = 0.01
"""The variances that the model adds to standardized values and their scores, to squares
of scores, and to indicators. They were chosen on hidden cells of 15 tables."""

MOST_KNOTS = 2**17
"""If a column has more observed values, nearly equal ones share a knot."""
KNOTS_PER_UNIT = 512
"""Groups of nearly equal values within a standard deviation of the mean, and within a
factor of e of the distance from the smallest or the largest value."""
LEAST_DISTANCE = 1e-16
"""The smallest of these distances, as a share of the standard deviation."""

LEAST_RELATED = 3.5
"""Squares are features if their covariance with another column is larger than this many
standard errors."""

LINEAR = np.array([1.0, 0.0, 0.0, 0.0])
"""The coefficients of `readout_terms` that do not change probabilities."""


@dataclass(frozen=True, eq=False)
class NumberFeatures:
    """The features of a column of numbers.

    Attributes
    ----------
    center, spread : float
        The mean and the standard deviation of the observed values; 1 for a constant.
    low, high : float
        The observed range.
    knots, scores : ndarray
        The distinct observed values, and their normal scores with variance 1; empty if
        scores are not used. Of very many values, the means of nearly equal ones.
    square : tuple of float or None
        The mean and the standard deviation of squared scores; None if these are not a
        feature.
    has_scores : bool
        Whether the scores are a feature.
    at, relative : ndarray
        Some predictions, and the factor that standard deviations are multiplied by near
        them; empty if they are the same everywhere.
    explained : float
        The share of the variance that was explained in the cells that `relative` was
        learned from.
    """

    center: float
    spread: float
    low: float
    high: float
    knots: np.ndarray
    scores: np.ndarray
    square: tuple[float, float] | None
    has_scores: bool
    at: np.ndarray = field(default_factory=lambda: np.empty(0))
    relative: np.ndarray = field(default_factory=lambda: np.empty(0))
    explained: float = 1.0

    @property
    def width(self) -> int:
        """Number of features."""
        return 1 + self.has_scores + (self.square is not None)

    @property
    def ridges(self) -> list[float]:
        """The ridge of each feature."""
        found = [RIDGE_OF_VALUES] * (1 + self.has_scores)
        return found + [RIDGE_OF_SQUARES] * (self.square is not None)

    def encoded(self, values: np.ndarray) -> np.ndarray:
        """Return the features of values, NaN where they are missing."""
        parts = [(values - self.center) / self.spread]
        if len(self.knots):
            scores = np.interp(values, self.knots, self.scores)  # NaN stays NaN
            if self.has_scores:
                parts.append(scores)
            if self.square is not None:
                mean, std = self.square
                parts.append((np.square(scores) - mean) / std)
        return np.column_stack(parts)

    def numbers(self, features: np.ndarray) -> np.ndarray:
        """Return values from the first of their features."""
        return features[..., 0] * self.spread + self.center

    def relative_at(self, values: np.ndarray, variances: np.ndarray) -> np.ndarray:
        """Return the factors of the standard deviations of predictions.

        A factor is `relative` if as much of the variance is explained as in the cells that
        it was learned from, and 1 if nothing is explained: a row without observed cells is
        predicted to have the mean, whatever its value is.

        Parameters
        ----------
        values, variances : ndarray
            Predictions, and the conditional variances of standardized values.
        """
        if not len(self.at):
            return np.ones_like(values)
        power = np.clip((1 - variances) / self.explained, 0, 1)
        return np.asarray(np.interp(values, self.at, self.relative) ** power)


@dataclass(frozen=True, eq=False)
class LevelFeatures:
    """The features of a column of levels: an indicator for each level.

    Attributes
    ----------
    shares : ndarray of shape (levels,)
        The observed share of each level.
    readout : ndarray of shape (4,)
        The coefficients of `readout_terms`.
    """

    shares: np.ndarray
    readout: np.ndarray = field(default_factory=LINEAR.copy)

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.shares)

    @property
    def ridges(self) -> list[float]:
        """The ridge of each feature."""
        return [RIDGE_OF_LEVELS] * self.width

    def encoded(self, codes: np.ndarray) -> np.ndarray:
        """Return the indicators of codes, NaN where they are missing."""
        found = (codes[:, None] == np.arange(self.width)).astype(np.float64)
        found[np.isnan(codes)] = np.nan
        return found

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities of levels from the means of their indicators.

        Linear predictions may be outside of [0, 1]. They are clipped below, to a hundredth
        of the observed share of the level or to 0.001 if that is larger, divided by their
        sum, and calibrated by the readout.
        """
        least = np.maximum(self.shares / 100, 1e-3)
        found = np.maximum(features, least)
        return self.read(found / found.sum(-1, keepdims=True))

    def read(self, chances: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities from those of the linear model."""
        if np.array_equal(self.readout, LINEAR):
            return chances
        return softmax(readout_terms(chances, self.shares) @ self.readout)


def readout_terms(chances: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the terms whose linear combination is the logarithm of a probability.

    They are the logarithms of the linear probability and of the observed share, and the
    difference of both, relative to the share and absolute.

    Parameters
    ----------
    chances : ndarray of shape (cells, levels)
        Linear probabilities, above 0.
    shares : ndarray of shape (levels,)

    Returns
    -------
    ndarray of shape (cells, levels, 4)
    """
    off = chances - shares
    prior = np.broadcast_to(np.log(np.maximum(shares, 1e-3)), chances.shape)
    relative = off / np.maximum(shares, 0.02)
    return np.stack([np.log(chances), prior, relative, off], axis=-1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities from their logarithms up to a constant in each row."""
    found = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(found / found.sum(-1, keepdims=True))


ColumnFeatures = NumberFeatures | LevelFeatures


@dataclass(frozen=True, eq=False)
class Features:
    """The features of all columns of a table.

    Attributes
    ----------
    columns : tuple of NumberFeatures or LevelFeatures
    places : tuple of slice
        The positions of the features of each column.
    """

    columns: tuple[ColumnFeatures, ...]

    @property
    def places(self) -> tuple[slice, ...]:
        """The positions of the features of each column."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return tuple(map(slice, [0, *ends[:-1]], ends))

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(column.width for column in self.columns)

    @property
    def ridge(self) -> np.ndarray:
        """The variance that the model adds to each feature."""
        return np.array([one for column in self.columns for one in column.ridges])

    def encoded(self, codes: np.ndarray) -> np.ndarray:
        """Return the features of a table of numbers and codes, NaN where missing."""
        parts = [
            column.encoded(codes[:, place]) for place, column in enumerate(self.columns)
        ]
        return np.concatenate(parts, axis=1)


def features_of(
    codes: np.ndarray,
    levels: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    plain: bool = False,
    together: Collective = ALONE,
) -> Features:
    """Choose the features of each column of a table.

    Parameters
    ----------
    codes : float64 ndarray of shape (n, p)
        Numbers, and codes 0, 1, ... of levels; NaN where missing.
    levels : int ndarray of shape (p,)
        Number of levels of each column; 0 for a column of numbers.
    weights : float64 ndarray of shape (n,), optional
        Weights of the rows, above 0: a row of weight 2 counts as two.
    plain : bool
        Whether standardized values are the only features of numbers.
    together : Collective
        Processes that share the table: each has some of its rows.

    Examples
    --------
    >>> codes = np.array([[1.0, 0.0], [2.0, 1.0], [40.0, np.nan]])
    >>> found = features_of(codes, np.array([0, 2]))
    >>> [column.width for column in found.columns]
    [2, 2]
    """
    weights = np.ones(len(codes)) if weights is None else weights
    columns: list[ColumnFeatures] = []
    squares = []
    for place, count in enumerate(levels):
        observed = ~np.isnan(codes[:, place])
        seen, counts = codes[observed, place], weights[observed]
        if count:
            totals = np.bincount(seen.astype(np.int64), counts, minlength=count)
            (totals,) = together.sum_arrays(totals)
            columns.append(LevelFeatures(totals / max(totals.sum(), 1e-300)))
        else:
            columns.append(_of_numbers(seen, counts, together, plain=plain))
            squares.append(place)
    found = Features(tuple(columns))
    if squares and not plain:
        found = _with_squares(found, codes, weights, squares, together)
    return found


def constants_of(features: Features) -> np.ndarray:
    """Return the mean, or the code of the most frequent level, of each column."""
    return np.array(
        [
            column.center
            if isinstance(column, NumberFeatures)
            else float(column.shares.argmax())
            for column in features.columns
        ]
    )


def levels_of(features: Features) -> np.ndarray:
    """Return the number of levels of each column, 0 for numbers."""
    return np.array(
        [
            column.width if isinstance(column, LevelFeatures) else 0
            for column in features.columns
        ]
    )


def _of_numbers(
    seen: np.ndarray, weights: np.ndarray, together: Collective, *, plain: bool
) -> NumberFeatures:
    """Return the features of a column of numbers, given its observed values."""
    from scipy.special import ndtri

    none = np.empty(0)
    own = [weights.sum(), float(len(seen)), seen @ weights]
    total, number, weighted = together.sum_arrays(np.array(own))[0].tolist()
    if not number:
        return NumberFeatures(0.0, 1.0, 0.0, 0.0, none, none, None, False)
    center = weighted / total
    (about,) = together.sum_arrays(np.asarray(np.square(seen - center) @ weights))
    spread = float(np.sqrt(about / total))
    low = float(together.least(np.min(seen, initial=np.inf, keepdims=True))[0])
    high = float(together.most(np.max(seen, initial=-np.inf, keepdims=True))[0])
    # A spread of the size of rounding errors is that of a constant.
    if spread <= 1e-14 * max(abs(low), abs(high)):
        return NumberFeatures(center, 1.0, low, high, none, none, None, False)
    one = NumberFeatures(center, spread, low, high, none, none, None, False)
    if plain:
        return one
    groups = _groups(seen, one) if number > MOST_KNOTS else seen
    knots, counts = _counted(groups, seen, weights, together)
    if len(knots) <= 2:
        return one
    scores = ndtri((np.cumsum(counts) - counts / 2) / total)
    scores /= np.sqrt(np.average(np.square(scores), weights=counts))
    alike = np.average(scores * (knots - center) / spread, weights=counts)
    square = np.square(scores)
    mean = float(np.average(square, weights=counts))
    std = float(np.sqrt(np.average(np.square(square - mean), weights=counts)))
    of_squares = (mean, std) if std > 1e-6 else None
    skewed = _is_skewed(1 - float(alike) ** 2, total)
    return NumberFeatures(center, spread, low, high, knots, scores, of_squares, skewed)


def _groups(seen: np.ndarray, column: NumberFeatures) -> np.ndarray:
    """Return the group of each value: nearly equal values have the same.

    It is the sum of three whole numbers that do not fall where values rise. They are the
    rounded multiples of arsinh(z) of standardized values z, which divides the middle, and
    of the logarithms of the distances from the smallest and the largest value, which divide
    the sides of skewed columns. The groups do not depend on how processes share the rows,
    and there are some ten thousand.
    """
    spread = column.spread
    middle = np.arcsinh((seen - column.center) / spread)
    above, below = (
        np.log(np.maximum(distance / spread, LEAST_DISTANCE))
        for distance in (seen - column.low, column.high - seen)
    )
    parts = (np.rint(part * KNOTS_PER_UNIT) for part in (middle, above, -below))
    return np.asarray(sum(parts))


def _counted(
    groups: np.ndarray, seen: np.ndarray, weights: np.ndarray, together: Collective
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each group of values, in order, and its sum of weights."""
    found, places = np.unique(groups, return_inverse=True)
    counts = np.bincount(places, weights, len(found))
    sums = np.bincount(places, weights * seen, len(found))
    parts = together.each((found, counts, sums))
    if len(parts) > 1:
        every, counts, sums = map(np.concatenate, zip(*parts, strict=True))
        found, places = np.unique(every, return_inverse=True)
        counts, sums = (np.bincount(places, one) for one in (counts, sums))
    return (found if groups is seen else sums / counts), counts


def _is_skewed(off: float, count: float) -> bool:
    """Return whether values are not normal, by their correlation with normal scores.

    `off` is 1 - W', the statistic of Shapiro and Francia. Where values are normal, its
    logarithm is about normal, with the mean and the standard deviation below (Royston,
    1993, Statistics in Medicine 12); values are skewed where it is above the quantile .99.
    """
    if off < LEAST_SKEWED or count < 5:
        return off >= LEAST_SKEWED
    log, loglog = np.log(count), np.log(np.log(count))
    mean = -1.2725 + 1.0521 * (loglog - log)
    std = 1.0308 - 0.26758 * (loglog + 2 / log)
    return bool((np.log(off) - mean) / std > 2.326)


def _with_squares(
    found: Features,
    codes: np.ndarray,
    weights: np.ndarray,
    squares: list[int],
    together: Collective,
) -> Features:
    """Return features without the squares that are not correlated with other columns.

    A square is kept if its correlation with a value or an indicator of another column is
    more than 3.5 standard errors from zero.
    """
    encoded = found.encoded(codes)
    seen = ~np.isnan(encoded)
    places = found.places
    centered = np.where(seen, encoded, 0.0)
    counts, sums = together.sum_arrays(weights @ seen, weights @ centered)
    counts = np.maximum(counts, 1e-300)
    centered = np.where(seen, centered - sums / counts, 0.0)
    (sums,) = together.sum_arrays(weights @ np.square(centered))
    centered /= np.sqrt(np.maximum(sums / counts, 1e-12))
    of_squares = [
        place
        for place in squares
        if getattr(found.columns[place], "square", None) is not None
    ]
    if not of_squares:
        return found
    mine = [places[place].stop - 1 for place in of_squares]
    others = [
        i
        for place, column in enumerate(found.columns)
        for i in (
            range(places[place].start, places[place].stop)
            if isinstance(column, LevelFeatures)
            else [places[place].start]
        )
    ]
    owner = np.repeat(
        np.arange(len(places)), [column.width for column in found.columns]
    )
    both, sums = together.sum_arrays(
        (seen[:, mine].T * weights) @ seen[:, others],
        (centered[:, mine].T * weights) @ centered[:, others],
    )
    scores = np.abs(sums) / np.sqrt(np.maximum(both, 1.0))
    scores[np.array(of_squares)[:, None] == owner[others][None, :]] = 0.0
    columns = list(found.columns)
    for place, strongest in zip(of_squares, scores.max(1), strict=True):
        column = columns[place]
        if isinstance(column, NumberFeatures) and strongest <= LEAST_RELATED:
            columns[place] = _without_square(column)
    return Features(tuple(columns))


def _without_square(column: NumberFeatures) -> NumberFeatures:
    """Return the features of a column without the square of its scores."""
    some = column.has_scores
    none = np.empty(0)
    return NumberFeatures(
        column.center,
        column.spread,
        column.low,
        column.high,
        column.knots if some else none,
        column.scores if some else none,
        None,
        some,
    )
