"""Intervals of shares and of paired differences, and adjusted p-values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit


def wilson_interval(
    successes: int, count: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Wilson's interval for a proportion.

    References
    ----------
    .. [1] Wilson (1927), "Probable inference, the law of succession, and statistical
       inference", JASA 22.

    Examples
    --------
    >>> low, high = wilson_interval(5, 10)
    >>> round(low, 4), round(high, 4)
    (0.2366, 0.7634)
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Return the mean of first - second over shared starts, with Student's interval.

    Parameters
    ----------
    first, second : array-like of shape (S,), S at least 2
        Values of the same starts in the same order.
    groups : array-like of shape (S,), optional
        The group of each start, such as the shuffle it trains on. The interval is then
        over the means of the groups; at least two groups are needed.
    confidence : float

    Returns
    -------
    difference, low, high : float

    Examples
    --------
    >>> difference, low, high = paired_difference_interval([1, 1, 1, 0], [0, 0, 1, 0])
    >>> difference, round(low, 3), round(high, 3)
    (0.5, -0.419, 1.419)
    """
    from scipy.stats import t

    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if groups is not None:
        _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        differences = np.bincount(member, differences) / sizes
    count = len(differences)
    mean = float(differences.mean())
    quantile = t.ppf((1 + confidence) / 2, count - 1)
    half = float(quantile * differences.std(ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def paired_error(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the standard error of the mean of first - second, and its degrees of freedom.

    Examples
    --------
    >>> paired_error(np.array([1.0, 3.0]), np.array([0.0, 0.0]))
    (1.0, 1.0)
    """
    count = len(first)
    return float((first - second).std(ddof=1)) / count**0.5, float(count - 1)


def welch_error(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return Welch's standard error of a difference of means, and its degrees of freedom.

    With the variances s² / n of the two means, the error is the root of their sum, and the
    degrees of freedom are (Σ s²/n)² / Σ (s²/n)² / (n - 1) [1]_. Without any spread, these
    are n₁ + n₂ - 2.

    References
    ----------
    .. [1] Welch (1947), "The generalization of 'Student's' problem when several
       different population variances are involved", Biometrika 34.

    Examples
    --------
    >>> welch_error(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    (1.0, 1.0)
    """
    shares = np.array([part.var(ddof=1) / len(part) for part in (first, second)])
    counts = np.array([len(first), len(second)])
    variance = float(shares.sum())
    if variance == 0:
        return 0.0, float(counts.sum() - 2)
    parts = (shares / variance) ** 2 / (counts - 1)
    return variance**0.5, float(1 / parts.sum())


def bonferroni_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    paired: bool,
    tests: int = 1,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Return the interval and the p-value of a difference that is one of several.

    The interval is Student's over the differences if paired, and Welch's otherwise, at the
    confidence 1 - (1 - confidence) / tests (Bonferroni): those of all comparisons cover at
    once with a probability of at least `confidence`, whatever starts they share. The
    p-value is multiplied by the number of comparisons.

    Parameters
    ----------
    first : ndarray of shape (A,), A at least 2
    second : ndarray of shape (B,), B at least 2
        If paired, the same starts in the same order.
    paired : bool
    tests : int
        The number of comparisons.
    confidence : float

    Returns
    -------
    low, high, p_value : float

    Examples
    --------
    >>> first, second = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.0, 1.0])
    >>> low, high, p_value = bonferroni_difference(first, second, paired=True, tests=3)
    >>> round(low, 2), round(high, 2), round(p_value, 3)
    (-2.42, 6.42, 0.223)
    """
    error, degrees = (paired_error if paired else welch_error)(first, second)
    difference = float(first.mean() - second.mean())
    if error == 0:
        return difference, difference, 1.0 if difference == 0 else 0.0
    half = error * float(stdtrit(degrees, 1 - (1 - confidence) / (2 * tests)))
    p_value = min(1.0, tests * 2 * float(stdtr(degrees, -abs(difference) / error)))
    return difference - half, difference + half, p_value


def residual_mean_square(table: np.ndarray) -> float:
    """Return the residual mean square of a table after its row and column effects.

    Examples
    --------
    >>> residual_mean_square(np.array([[1.0, 0.0], [0.0, 1.0]]))
    1.0
    """
    rows, columns = table.shape
    residual = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    return float(np.square(residual).sum() / max(1, (rows - 1) * (columns - 1)))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values adjusted for multiple tests by Holm's step-down rule [1]_.

    References
    ----------
    .. [1] Holm (1979), "A simple sequentially rejective multiple test procedure",
       Scandinavian Journal of Statistics 6.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
