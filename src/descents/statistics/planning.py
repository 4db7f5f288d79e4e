"""The number of starts that a precision needs, and the expected best of k starts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from descents.errors import Complaints
from descents.statistics.samples import chunk_rows, number_between, start_values
from descents.validation import real_number, whole_number


def starts_needed(values: ArrayLike, precision: float, confidence: float = 0.95) -> int:
    """Return the number of starts for which the mean has a given precision.

    It is the smallest n with t s / √n ≤ precision, where s is the standard deviation of
    the values, and t is Student's quantile with n - 1 degrees of freedom [1]_. The answer
    is only as accurate as the estimate s.

    Parameters
    ----------
    values : array-like of shape (S,), S at least 2
        The values of the available starts.
    precision : float
        The half width of the interval, in the unit of the values.
    confidence : float

    Returns
    -------
    int
        The total number, including the available starts; at least 2.

    Raises
    ------
    InvalidValueError
        If a value is not finite, there is only one, or an option is invalid.

    References
    ----------
    .. [1] Cochran (1977), "Sampling Techniques", section 4.6.

    Examples
    --------
    >>> starts_needed([0.90, 0.92, 0.95, 0.91, 0.97, 0.93], precision=0.01)
    29
    """
    complaints = Complaints()
    sample = complaints.attempt(start_values, "values", values)
    precision = complaints.attempt(
        real_number, "precision", precision, minimum=0, strict=True
    )
    confidence = complaints.attempt(number_between, "confidence", confidence)
    complaints.require(
        sample is None or len(sample) > 1,
        "values has only one number, which has no standard deviation; give at least two",
    )
    complaints.raise_any()
    spread = float(sample.std(ddof=1))

    def enough(count: int) -> bool:
        half = stdtrit(count - 1, (1 + confidence) / 2) * spread / math.sqrt(count)
        return bool(half <= precision)

    # Double the number until it is enough, then bisect.
    above = 2
    while not enough(above):
        above *= 2
    below = above // 2
    while above - below > 1 and above > 2:
        middle = (above + below) // 2
        below, above = (below, middle) if enough(middle) else (middle, above)
    return above


def starts_needed_for_share(
    share: float, precision: float, confidence: float = 0.95
) -> int:
    """Return the number of starts for which Wilson's interval has a given precision.

    It is the smallest n with z √(n p (1 - p) + z² / 4) / (n + z²) ≤ h, where the left
    side is the half width of Wilson's interval at the share p [1]_, and h is the
    precision. Solved for n, with q = p (1 - p):
    n + z² = z² (q + √(q² + h² (1 - 4 q))) / (2 h²).

    Parameters
    ----------
    share : float
        The expected share of successes, 0 to 1; 0.5 needs the most starts.
    precision : float
        The half width of the interval, between 0 and 0.5.
    confidence : float

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    InvalidValueError
        If an option is invalid.

    References
    ----------
    .. [1] Wilson (1927), "Probable inference, the law of succession, and statistical
       inference", JASA 22.

    Examples
    --------
    >>> starts_needed_for_share(0.5, precision=0.1)
    93
    """
    complaints = Complaints()
    share = complaints.attempt(real_number, "share", share, minimum=0)
    precision = complaints.attempt(number_between, "precision", precision, 0.0, 0.5)
    confidence = complaints.attempt(number_between, "confidence", confidence)
    complaints.require(
        share is None or share <= 1, f"share is {share!r}; give a number from 0 to 1"
    )
    complaints.raise_any()
    product = share * (1 - share)
    square = float(ndtri((1 + confidence) / 2)) ** 2
    root = math.sqrt(product**2 + precision**2 * (1 - 4 * product))
    return max(1, math.ceil(square * ((product + root) / (2 * precision**2) - 1)))


def _best_weights(count: int, draws: np.ndarray) -> np.ndarray:
    """Return the probability that each sorted value is the largest of k; shape (S, K).

    It is C(i - 1, k - 1) / C(S, k) for the i-th smallest value, computed by a recurrence
    downward from k / S, which neither overflows nor cancels.
    """
    rank = np.arange(count, 1, -1)[:, None]
    ratios = np.maximum(rank - draws, 0) / (rank - 1)
    return np.cumprod(np.vstack([draws / count, ratios]), axis=0)[::-1]


def expected_best(
    values: ArrayLike, draws: ArrayLike, *, higher_is_better: bool = True
) -> np.ndarray:
    """Return the expected best of k starts, for each k.

    The estimate is the mean of the best over all subsets of k of the S starts,
    Σᵢ C(i - 1, k - 1) / C(S, k) x₍ᵢ₎, with the values in ascending order. It is unbiased
    [2]_, whereas drawing with replacement [1]_ is biased downward.

    Parameters
    ----------
    values : array-like of shape (S,)
    draws : int or array-like of int of shape (K,)
        The k, each from 1 to S.
    higher_is_better : bool
        False for losses: the expected lowest.

    Returns
    -------
    ndarray of shape (K,)

    Raises
    ------
    InvalidValueError
        If a value is not finite, or some k is not a whole number from 1 to S.

    References
    ----------
    .. [1] Dodge et al. (2019), "Show your work: improved reporting of experimental
       results", EMNLP.
    .. [2] Tang et al. (2020), "Showing your work doesn't always work", ACL.

    Examples
    --------
    >>> expected_best([0.7, 0.9, 0.8], [1, 2, 3]).round(4)
    array([0.8   , 0.8667, 0.9   ])
    """
    ordered, center, numbers = _ordered(values, draws, higher_is_better, 0.95)
    best = [ordered @ _best_weights(len(ordered), some) for some in numbers]
    return (1 if higher_is_better else -1) * (np.concatenate(best) + center)


def expected_best_interval(
    values: ArrayLike,
    draws: ArrayLike,
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the expected best of k starts with its interval, for each k.

    See `expected_best`. The interval is Student's with the standard error of the
    jackknife, from the S estimates that leave one start out [1]_. The best of k depends
    mainly on the upper S / k values, so the standard error is less accurate than S - 1
    degrees of freedom suggest. Therefore the degrees of freedom are 2 S / (κ - 1), at most
    S - 1, where κ is the kurtosis of the S estimates; this matches the variance of the
    variance, as in [2]_. In simulations the coverage is 94 to 96 of 100 for k = 5 of 30
    starts and 20 of 300, and 90 to 93 for half of the starts, where the few largest values
    dominate.

    Parameters
    ----------
    values : array-like of shape (S,)
    draws : int or array-like of int of shape (K,)
        The k, each from 1 to S.
    higher_is_better : bool
        False for losses: the expected lowest.
    confidence : float

    Returns
    -------
    best, low, high : ndarray of shape (K,)
        The bounds are NaN for k = S, because there is only one subset.

    Raises
    ------
    InvalidValueError
        If a value is not finite, or some k is not a whole number from 1 to S.

    References
    ----------
    .. [1] Arvesen (1969), "Jackknifing U-statistics", Annals of Mathematical
       Statistics 40.
    .. [2] Satterthwaite (1946), "An approximate distribution of estimates of variance
       components", Biometrics Bulletin 2.

    Examples
    --------
    >>> best, low, high = expected_best_interval(np.arange(30) / 30, [1, 5])
    >>> best.round(3), low.round(3), high.round(3)
    (array([0.483, 0.828]), array([0.374, 0.725]), array([0.593, 0.93 ]))
    """
    ordered, _, numbers = _ordered(values, draws, higher_is_better, confidence)
    best = expected_best(values, draws, higher_is_better=higher_is_better)
    widths = [_jackknife_half_width(ordered, some, confidence) for some in numbers]
    half = np.concatenate(widths)
    return best, best - half, best + half


def _ordered(
    values: ArrayLike, draws: ArrayLike, higher_is_better: bool, confidence: float
) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """Return the centered values with the best last; their mean; and the k in chunks."""
    complaints = Complaints()
    sample = complaints.attempt(start_values, "values", values)
    complaints.attempt(number_between, "confidence", confidence)
    most = None if sample is None else len(sample)
    numbers = [
        complaints.attempt(whole_number, "a number of draws", number, 1, most)
        for number in np.atleast_1d(np.asarray(draws)).tolist()
    ]
    complaints.require(bool(numbers), "draws is empty; give at least one whole number")
    complaints.raise_any()
    ordered = np.sort(sample if higher_is_better else -sample)
    center = float(ordered.mean())
    cuts = np.cumsum(list(chunk_rows(len(numbers), len(ordered))))[:-1]
    return ordered - center, center, np.split(np.array(numbers, dtype=np.int64), cuts)


def _jackknife_half_width(
    ordered: np.ndarray, draws: np.ndarray, confidence: float
) -> np.ndarray:
    """Return the half width of the interval of the expected best; shape (K,)."""
    count = len(ordered)
    if count == 1:
        return np.full(len(draws), np.nan)
    # Row i is the estimate without value i: the values below it, then those above.
    weights = _best_weights(count - 1, draws)
    without = np.zeros((count, len(draws)))
    without[1:] = np.cumsum(weights * ordered[:-1, None], axis=0)
    without[:-1] += np.cumsum((weights * ordered[1:, None])[::-1], axis=0)[::-1]
    squares = np.square(without - without.mean(axis=0))
    total, fourth = squares.sum(axis=0), np.square(squares).sum(axis=0)
    # 2 S / (kurtosis - 1), where kurtosis is S x fourth / total squared, at least 1.
    over = count * fourth - total**2
    degrees = np.full(len(draws), count - 1.0)
    np.divide(2 * count * total**2, over, out=degrees, where=over > 0)
    quantile = stdtrit(np.minimum(degrees, count - 1), (1 + confidence) / 2)
    return np.where(
        draws < count, quantile * np.sqrt((count - 1) / count * total), np.nan
    )
