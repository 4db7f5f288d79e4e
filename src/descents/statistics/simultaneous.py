"""Simultaneous intervals for the differences between all pairs of settings.

The intervals hold jointly for all pairs. Therefore they also hold for pairs with a setting
that was chosen by its values, such as the best one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import polygamma, stdtr, stdtrit

from descents.errors import Complaints
from descents.statistics.samples import RESAMPLES, chunk_rows, number_between
from descents.validation import whole_number

FEWEST_FLIPPED = 8
"""With fewer shared starts than this there are too few sign patterns to resample from."""


@dataclass(frozen=True)
class Simultaneous:
    """Differences between each pair of G settings, with simultaneous intervals.

    Two settings that share only one start have NaN as interval and p-value. Two settings
    that share no start also have NaN as difference.

    Attributes
    ----------
    difference : ndarray of shape (G, G)
        The mean of the row's setting minus that of the column's, over shared starts.
    low, high : ndarray of shape (G, G)
        The simultaneous interval of each difference.
    p_value : ndarray of shape (G, G)
        The p-value of no difference, adjusted for all pairs. It is below 1 - confidence
        if the interval excludes zero.
    count : int ndarray of shape (G, G)
        The number of starts that both settings have.
    """

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class _Pairs:
    """Statistics of the P pairs of settings."""

    first: np.ndarray
    second: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    residuals: np.ndarray  # (S, P), zero where a start is missing


def simultaneous_differences(
    values: ArrayLike,
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Simultaneous:
    r"""Return the differences between all pairs of settings with simultaneous intervals.

    Let d be the difference of two settings in a start, n the number of starts that both
    have, and s² the variance of d. The interval is mean(d) ± q √(ŝ² / n). The same q is
    used for all pairs: it is the quantile of the largest
    \|mean(d) - E d\| / √(ŝ² / n) over the pairs, as in Tukey's range test [1]_. Its
    distribution is resampled by flipping the sign of all residuals of a start at once
    [2]_, which preserves the correlation through starts, splits of the rows and similar
    settings. With fewer than eight shared starts, independent normal values are simulated
    instead.

    The variances of the pairs are moderated: log ŝ² = w log s² + (1 - w) log mean(s²). The
    weight w is the share of the variance of log s² over the pairs that exceeds the
    sampling variance of estimates of one common variance, which is the trigamma function
    of (n - 1) / 2 [3]_. Therefore settings of about equal spread have intervals of equal
    length, like Tukey's, and a setting with a far larger spread does not widen the
    intervals of the others.

    Settings in which more than half of the starts are missing, and pairs that share fewer
    than half of the starts, do not enter q. Such pairs have Student's interval at
    Bonferroni's level.

    Parameters
    ----------
    values : array-like of shape (G, S)
        A number for each setting and start; NaN for missing starts.
    generator : numpy Generator
        Equal states give equal intervals.
    confidence : float
        The probability that all intervals cover at once.
    resamples : int

    Returns
    -------
    Simultaneous

    Raises
    ------
    InvalidValueError
        If the values are not a table, or an option is invalid.

    References
    ----------
    .. [1] Tukey (1953), "The problem of multiple comparisons"; Hochberg and Tamhane
       (1987), "Multiple comparison procedures".
    .. [2] Romano and Wolf (2005), "Exact and approximate stepdown methods for multiple
       hypothesis testing", Journal of the American Statistical Association 100.
    .. [3] Smyth (2004), "Linear models and empirical Bayes methods for assessing
       differential expression in microarray experiments", Statistical Applications in
       Genetics and Molecular Biology 3.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(3, 40))
    >>> values[2] += 2
    >>> result = simultaneous_differences(values, generator=np.random.default_rng(1))
    >>> bool(result.low[2, 0] < 2 < result.high[2, 0]), bool(result.p_value[2, 0] < 0.01)
    (True, True)
    >>> bool(result.p_value[0, 1] > 0.05)
    True
    """
    complaints = Complaints()
    confidence = complaints.attempt(number_between, "confidence", confidence)
    resamples = complaints.attempt(whole_number, "resamples", resamples, 1)
    table = np.asarray(values, dtype=np.float64)
    complaints.require(
        table.ndim == 2 and table.size > 0,
        f"values has shape {table.shape}; give one row per setting, with one number per "
        "start",
    )
    complaints.raise_any()
    settings, starts = table.shape
    scale = np.nanmax(np.abs(table), initial=0.0) or 1.0
    pairs = _pairs(np.where(np.isfinite(table), table / scale, np.nan))
    half = np.full(len(pairs.first), np.nan)
    p_value = np.full(len(pairs.first), np.nan)
    enough = np.isfinite(table).sum(1) * 2 >= starts
    joint = enough[pairs.first] & enough[pairs.second] & (pairs.count * 2 >= starts)
    joint &= pairs.count > 1
    if joint.any():
        half[joint], p_value[joint] = _together(
            _chosen(pairs, joint), settings, generator, confidence, resamples
        )
    apart = ~joint & (pairs.count > 1)
    if apart.any():
        half[apart], p_value[apart] = _bonferroni(_chosen(pairs, apart), confidence)

    def square(upper: np.ndarray, sign: float, diagonal: float) -> np.ndarray:
        matrix = np.full((settings, settings), diagonal)
        matrix[pairs.first, pairs.second] = upper
        matrix[pairs.second, pairs.first] = sign * upper
        return matrix

    difference = square(scale * pairs.mean, -1.0, 0.0)
    width = square(scale * half, 1.0, 0.0)
    return Simultaneous(
        difference,
        difference - width,
        difference + width,
        square(p_value, 1.0, 1.0),
        square(pairs.count, 1.0, 0.0).astype(np.int64),
    )


def _pairs(table: np.ndarray) -> _Pairs:
    """Return the statistics of all pairs from a table (G, S), NaN for missing starts."""
    first, second = np.triu_indices(len(table), 1)
    # Round, so that differences equal up to rounding have no variance.
    gaps = (table[first] - table[second]).T.round(12)
    shared = np.isfinite(gaps)
    count = shared.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(shared, gaps, 0.0).sum(0) / np.where(count > 0, count, np.nan)
        residuals = np.where(shared, gaps - mean, 0.0)
        residuals[:, count == 0] = 0.0
        residuals[np.abs(residuals) < 1e-12] = 0.0
        variance = np.square(residuals).sum(0) / np.where(count > 1, count - 1, np.nan)
    return _Pairs(first, second, count, mean, variance, residuals)


def _chosen(pairs: _Pairs, which: np.ndarray) -> _Pairs:
    """Return some of the pairs."""
    return _Pairs(
        pairs.first[which],
        pairs.second[which],
        pairs.count[which],
        pairs.mean[which],
        pairs.variance[which],
        pairs.residuals[:, which],
    )


def _weight(variance: np.ndarray, count: np.ndarray) -> float:
    """Return w, the weight of a pair's own variance beside the mean over the pairs."""
    positive = variance > 0
    if positive.sum() < 2:
        return 1.0
    spread = float(np.log(variance[positive]).var())
    noise = float(polygamma(1, (count[positive] - 1) / 2).mean())
    return max(0.0, 1 - noise / spread) if spread > 0 else 0.0


def _mixed(variance: np.ndarray, weight: float) -> np.ndarray:
    """Return ŝ²: variances (..., P) shrunk to their mean on the log scale; 0 stays 0."""
    positive = variance > 0
    number = np.maximum(positive.sum(-1, keepdims=True), 1)
    common = variance.sum(-1, keepdims=True) / number
    mixed: np.ndarray = np.where(
        positive, variance**weight * common ** (1 - weight), 0.0
    )
    return mixed


def _together(
    pairs: _Pairs,
    settings: int,
    generator: np.random.Generator,
    confidence: float,
    resamples: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the half widths of the intervals of all pairs, and their p-values."""
    weight = _weight(pairs.variance, pairs.count)
    error = np.sqrt(_mixed(pairs.variance, weight) / pairs.count)
    statistics = _ratio(np.abs(pairs.mean), error)
    if len(statistics) == 1:
        degrees = int(pairs.count[0]) - 1
        quantile = float(stdtrit(degrees, (1 + confidence) / 2))
        return quantile * error, 2 * stdtr(degrees, -statistics)
    draw = _flipped if pairs.count.min() >= FEWEST_FLIPPED else _normal
    largest = np.sort(draw(pairs, settings, weight, generator, resamples))
    place = math.ceil(confidence * (resamples + 1) - 1e-9) - 1
    quantile = float(largest[place]) if place < resamples else np.inf
    # The margin makes equal statistics count as equal in spite of rounding.
    above = resamples - np.searchsorted(largest, statistics * (1 - 1e-10), "left")
    half = np.where(error > 0, quantile * np.where(error > 0, error, 1.0), 0.0)
    return half, (1 + above) / (1 + resamples)


def _ratio(gap: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return gaps over their errors: 0 for no gap, infinite for other gaps of error 0."""
    ratio = np.where(gap > 0, np.inf, 0.0)
    np.divide(gap, error, out=ratio, where=error > 0)
    return ratio


def _flipped(
    pairs: _Pairs,
    settings: int,
    weight: float,
    generator: np.random.Generator,
    resamples: int,
) -> np.ndarray:
    """Return the largest statistic for each random flip of the signs of the starts."""
    starts, count = len(pairs.residuals), pairs.count
    squares = np.square(pairs.residuals).sum(0)
    largest = []
    for rows in chunk_rows(resamples, max(starts, len(count))):
        signs = 2.0 * generator.integers(0, 2, (rows, starts), dtype=np.int8) - 1.0
        mean = np.abs(signs @ pairs.residuals / count)
        mean[mean < 1e-12] = 0.0
        variance = np.maximum(squares - count * mean**2, 0.0) / (count - 1)
        largest.append(_largest(mean, variance, weight, count))
    return np.concatenate(largest)


def _normal(
    pairs: _Pairs,
    settings: int,
    weight: float,
    generator: np.random.Generator,
    resamples: int,
) -> np.ndarray:
    """Return the largest statistic for each simulated table of independent normal values."""
    starts = int(pairs.count.min())
    spreads = _spreads(pairs, settings, weight)
    largest = []
    for rows in chunk_rows(resamples, starts * len(pairs.count)):
        drawn = spreads * generator.normal(size=(rows, starts, settings))
        gaps = drawn[..., pairs.first] - drawn[..., pairs.second]
        mean, variance = np.abs(gaps.mean(1)), gaps.var(1, ddof=1)
        largest.append(
            _largest(mean, variance, weight, np.full(len(pairs.count), starts))
        )
    return np.concatenate(largest)


def _spreads(pairs: _Pairs, settings: int, weight: float) -> np.ndarray:
    """Return the standard deviation of each setting, without the effect of the starts.

    The variance of a pair is the sum of the variances of its settings, which are fitted
    by least squares.
    """
    design = np.zeros((len(pairs.count), settings))
    design[np.arange(len(design)), pairs.first] = 1
    design[np.arange(len(design)), pairs.second] = 1
    mixed = _mixed(pairs.variance, weight)
    variances = np.linalg.lstsq(design, mixed, rcond=None)[0]
    return np.sqrt(np.maximum(variances, 0.0))


def _largest(
    mean: np.ndarray, variance: np.ndarray, weight: float, count: np.ndarray
) -> np.ndarray:
    """Return the largest statistic over the pairs for each draw, from arrays (draws, P)."""
    error = np.sqrt(_mixed(variance, weight) / count)
    largest: np.ndarray = _ratio(mean, error).max(1)
    return largest


def _bonferroni(pairs: _Pairs, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the half widths of Student's intervals of pairs, and their p-values."""
    total = len(pairs.count)
    degrees = pairs.count - 1
    error = np.sqrt(pairs.variance / pairs.count)
    quantile = stdtrit(degrees, 1 - (1 - confidence) / (2 * total))
    statistics = _ratio(np.abs(pairs.mean), error)
    return quantile * error, np.minimum(1.0, total * 2 * stdtr(degrees, -statistics))
