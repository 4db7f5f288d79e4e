"""A comparison of two sides in words: the verdict, and a sentence that says the sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from descents.runs.train_result import ComparedSides, Difference, EquivalenceOfSides
from descents.statistics.metrics import metric_words
from descents.storage.results import Interval, Number
from descents.text import decimals_of, joined, p_text, percent, small

LEVEL = 0.05
"""The level of the verdicts."""


@dataclass(frozen=True)
class Judged:
    """A side compared with a reference, to be put into words.

    Attributes
    ----------
    side, reference : str
        Their names.
    metric : str
    higher_is_better : bool
    found : Difference
        The mean of the side minus that of the reference.
    p_adjusted : float or None
    equivalence : EquivalenceOfSides or None
    resolution : float or None
        The smallest difference that the metric of a start can have.
    """

    side: str
    reference: str
    metric: str
    higher_is_better: bool
    found: Difference
    p_adjusted: Number
    equivalence: EquivalenceOfSides | None
    resolution: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0 and the p-value is below the level."""
        low, high = self.found.interval
        if low is None or high is None or self.p_adjusted is None:
            return False
        return (low > 0 or high < 0) and self.p_adjusted < LEVEL

    @property
    def verdict(self) -> str:
        """The verdict on the side, see `ComparedSides`."""
        if self.found.difference is None:
            return "not compared"
        if self.equivalence is not None and self.equivalence.equivalent:
            return "equivalent"
        if self.clear:
            higher = self.found.difference > 0
            return "better" if higher is self.higher_is_better else "worse"
        return "not distinguished"

    @property
    def says(self) -> str:
        """The comparison in a sentence, without its period."""
        what = metric_words(self.metric)
        verdict, pair = self.verdict, f"{self.side} and {self.reference}"
        if verdict == "not compared":
            return f"{pair} cannot be compared: {what} is not defined for both"
        if verdict in ("better", "worse"):
            return f"{self._better(what)}{self._beside_margin()}"
        if verdict == "equivalent" and self.equivalence is not None:
            return self._equivalent(pair, what, self.equivalence)
        lower = "" if self.higher_is_better else "; lower is better"
        return (
            f"{pair} cannot be distinguished in {what}: {self._shift()} "
            f"({self._interval()}; {p_text(self.p_adjusted)}{lower})"
            f"{self._beside_margin()}"
        )

    @property
    def _places(self) -> int | None:
        return decimals_of(self.found.interval, self.resolution)

    def _better(self, what: str) -> str:
        """Return which side is better, by how much, with an interval above 0."""
        gap = self.found.difference or 0.0
        low, high = self.found.interval if gap > 0 else self.found.interval[::-1]
        names = self.side, self.reference
        better, worse = names if (gap > 0) is self.higher_is_better else names[::-1]
        size, least, most = (
            small(None if x is None else abs(x), self._places) for x in (gap, low, high)
        )
        lower = "" if self.higher_is_better else ", where lower is better"
        return (
            f"{better} is better than {worse} by {size} {what}{lower} (95% interval "
            f"{least} to {most}; {p_text(self.p_adjusted)})"
        )

    def _equivalent(self, pair: str, what: str, test: EquivalenceOfSides) -> str:
        """Return that the sides are equivalent, with both tests."""
        small = ""
        if self.clear:
            higher = (self.found.difference or 0.0) > 0
            side = self.side if higher is self.higher_is_better else self.reference
            small = f"; {side} is better by this small difference"
        lows = [p_text(p) for p in (test.p_low, test.p_high)]
        return (
            f"{pair} are equivalent within {test.margin:g} {what}: {self._shift()} "
            f"({percent(test.confidence)} interval of the test "
            f"{_moved(test.interval, self._places)}, one-sided {lows[0]} and {lows[1]}; "
            f"{self._interval()}, {p_text(self.p_adjusted)}){small}"
        )

    def _beside_margin(self) -> str:
        """Return what the test of equivalence adds if it does not reject."""
        test = self.equivalence
        if test is None:
            return ""
        if None in test.interval:
            return f"; nothing is known about a margin of {test.margin:g}"
        interval = f"the {percent(test.confidence)} interval of the test"
        ends = _moved(test.interval, self._places)
        if not self.clear:
            return (
                "; they are not shown to be equivalent either, because "
                f"{interval}, {ends}, is not within {test.margin:g}"
            )
        near, far = sorted(abs(x) for x in test.interval if x is not None)
        ends = f"{small(near, self._places)} to {small(far, self._places)}"
        if near > test.margin:
            return f"; {interval}, {ends}, is beyond the margin of {test.margin:g}"
        return (
            f"; whether by more than the margin of {test.margin:g} is open, because "
            f"{interval}, {ends}, contains it"
        )

    def _shift(self) -> str:
        """Return the difference of the means, with its sign in a word."""
        gap = self.found.difference or 0.0
        if gap == 0:
            return "their means are equal"
        return f"the mean of {self.side} is {_moved_by(gap, self._places)}"

    def _interval(self) -> str:
        """Return the 95% interval of the difference, with signs in words."""
        if None in self.found.interval:
            return "95% interval not known"
        return f"95% interval {_moved(self.found.interval, self._places)}"


def _moved_by(value: float, places: int | None) -> str:
    """Return a difference with its sign in a word.

    Examples
    --------
    >>> _moved_by(-0.0123, 3), _moved_by(0.0, 2)
    ('0.012 lower', '0')
    """
    if value == 0:
        return "0"
    return f"{small(abs(value), places)} {'higher' if value > 0 else 'lower'}"


def _moved(interval: Interval, places: int | None) -> str:
    """Return an interval of a difference, with signs in words.

    Examples
    --------
    >>> _moved([-0.0123, 0.004], 3), _moved([0.0123, 0.02], 3)
    ('0.012 lower to 0.004 higher', '0.012 to 0.020 higher')
    """
    low, high = interval
    if low is None or high is None:
        return "not known"
    if low * high > 0:
        near, far = sorted((abs(low), abs(high)))
        return f"{small(near, places)} to {_moved_by(far if low > 0 else -far, places)}"
    return f"{_moved_by(low, places)} to {_moved_by(high, places)}"


def answer_of(
    differences: Sequence[ComparedSides],
    reference: str,
    mean: str,
    reference_is: str,
    metric: str,
    margin: Number,
) -> str:
    """Return the result in a sentence: of two sides their comparison, else all verdicts.

    Parameters
    ----------
    differences : sequence of ComparedSides
    reference, mean : str
        The reference and its mean.
    reference_is : str
        Why it is the reference.
    metric : str
    margin : float or None
    """
    if len(differences) == 1:
        return f"{differences[0].says}."
    words = {
        "worse": "is better than",
        "better": "is worse than",
        "equivalent": f"is equivalent within {margin:g} to" if margin else "",
        "not distinguished": "cannot be distinguished from",
        "not compared": "cannot be compared with",
    }
    parts = []
    for verdict, says in words.items():
        names = [one.side for one in differences if one.verdict == verdict]
        if names:
            parts.append(f"{says} {joined(names)}")
    lead = f"the best mean {metric_words(metric)}, {mean}"
    if reference_is != "the best":
        lead = f"a mean {metric_words(metric)} of {mean}"
    return (
        f"Of {len(differences) + 1} sides, {reference} has {lead}: it "
        f"{', and it '.join(parts)}."
    )
