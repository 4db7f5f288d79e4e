"""Tests of whether two sets of starts differ by less than a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from descents.errors import Complaints
from descents.statistics.confidence import paired_error, welch_error
from descents.statistics.differences import tied
from descents.statistics.samples import number_between, require_pairs, start_values
from descents.validation import real_number, whole_number


@dataclass(frozen=True)
class Equivalence:
    """The test of whether two sets of starts differ by less than a margin.

    Attributes
    ----------
    margin : float
    difference : float
        The mean of the first minus that of the second.
    low, high : float
        The interval at confidence 1 - 2 `level` / `tests`: 90% for one test at .05. It is
        inside of the margin if both tests reject.
    p_low : float
        The one-sided p-value of a difference of -margin or less.
    p_high : float
        The one-sided p-value of a difference of margin or more.
    level : float
        The level of both tests.
    tests : int
        The number of comparisons that the p-values are adjusted for.
    """

    margin: float
    difference: float
    low: float
    high: float
    p_low: float
    p_high: float
    level: float
    tests: int = 1

    @property
    def p_value(self) -> float:
        """The larger of the two p-values, which is that of the whole test."""
        return float(np.maximum(self.p_low, self.p_high))

    @property
    def equivalent(self) -> bool:
        """Whether both tests reject: the difference is smaller than the margin."""
        return self.p_value < self.level


def equivalence(
    first: ArrayLike,
    second: ArrayLike,
    margin: float,
    *,
    paired: bool,
    level: float = 0.05,
    tests: int = 1,
) -> Equivalence:
    r"""Test whether the means of two sets of starts differ by less than a margin.

    The two one-sided tests of Schuirmann [1]_: the sets are equivalent if a difference of
    -margin or less is rejected, and one of margin or more is rejected too. With the
    difference d of the means and its standard error s, their p-values are

    .. math:: p_{low} = P(T \ge (d + margin) / s), \quad p_{high} = P(T \le (d - margin) / s).

    If paired, s is that of the mean of the differences and T is Student's with n - 1
    degrees of freedom. Otherwise s and the degrees of freedom are Welch's [2]_. Both
    p-values are below `level` exactly if the interval at confidence 1 - 2 level lies
    inside of the margin. No correction is needed for the two tests, because equivalence
    is claimed only if both reject: it is claimed wrongly with a probability of at most
    `level`. For several comparisons, the p-values are multiplied by their number
    (Bonferroni), and the interval is wider accordingly.

    Parameters
    ----------
    first : array-like of shape (A,)
    second : array-like of shape (B,)
        If paired, the same starts in the same order.
    margin : float
        The smallest difference that matters, above 0.
    paired : bool
    level : float
    tests : int

    Returns
    -------
    Equivalence
        With a single start, interval and p-values are NaN, and nothing is equivalent.

    Raises
    ------
    InvalidValueError
        If a value is not finite, paired sets differ in length, or an option is invalid.

    References
    ----------
    .. [1] Schuirmann (1987), "A comparison of the two one-sided tests procedure and the
       power approach for assessing the equivalence of average bioavailability", Journal
       of Pharmacokinetics and Biopharmaceutics 15.
    .. [2] Welch (1947), "The generalization of 'Student's' problem when several
       different population variances are involved", Biometrika 34.

    Examples
    --------
    >>> first, second = [0.95, 0.97, 0.96, 0.98], [0.95, 0.96, 0.97, 0.97]
    >>> found = equivalence(first, second, 0.03, paired=True)
    >>> found.equivalent, round(found.low, 4), round(found.high, 4)
    (True, -0.0088, 0.0138)
    >>> equivalence(first, second, 0.01, paired=True).equivalent
    False
    """
    complaints = Complaints()
    a = complaints.attempt(start_values, "first", first)
    b = complaints.attempt(start_values, "second", second)
    margin = complaints.attempt(
        lambda: real_number("margin", margin, minimum=0, strict=True)
    )
    level = complaints.attempt(number_between, "level", level, 0.0, 0.5)
    tests = complaints.attempt(whole_number, "tests", tests, 1)
    require_pairs(complaints, a, b, paired)
    complaints.raise_any()
    a, b = tied(a, b)
    difference = float((a - b).mean()) if paired else float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        nan = math.nan
        return Equivalence(margin, difference, nan, nan, nan, nan, level, tests)
    error, degrees = paired_error(a, b) if paired else welch_error(a, b)
    # P(T ≥ (d + margin) / s) and P(T ≤ (d - margin) / s)
    p_low, p_high = (
        min(1.0, tests * _below(gap, error, degrees))
        for gap in (-(difference + margin), difference - margin)
    )
    half = error * float(stdtrit(degrees, 1 - level / tests)) if error > 0 else 0.0
    return Equivalence(
        margin,
        difference,
        difference - half,
        difference + half,
        p_low,
        p_high,
        level,
        tests,
    )


def _below(gap: float, error: float, degrees: float) -> float:
    """Return P(T ≤ gap / error); without any spread, whether the gap is below 0."""
    if error == 0:
        return 0.0 if gap < 0 else 1.0
    return float(stdtr(degrees, gap / error))
