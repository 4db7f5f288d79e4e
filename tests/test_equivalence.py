"""Equivalence within a margin: against scipy's one-sided tests, and its level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from conftest import slow
from descents.errors import InvalidValueError
from descents.statistics import compared, equivalence

RNG = np.random.default_rng


@pytest.mark.parametrize("margin", [0.05, 0.4, 2.0])
def test_both_sides_are_those_of_student(margin: float) -> None:
    first, second = RNG(0).normal(size=(2, 25))
    found = equivalence(first, second, margin, paired=True)
    gaps = first - second
    low = stats.ttest_1samp(gaps, -margin, alternative="greater").pvalue
    high = stats.ttest_1samp(gaps, margin, alternative="less").pvalue
    assert (found.p_low, found.p_high) == pytest.approx((low, high), rel=1e-9)
    assert found.p_value == max(found.p_low, found.p_high)
    ends = stats.ttest_1samp(gaps, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx(tuple(ends), rel=1e-9)
    assert found.equivalent == (-margin < found.low and found.high < margin)


def test_both_sides_are_those_of_welch() -> None:
    first, second = RNG(1).normal(size=20), RNG(2).normal(0.1, 3, 35)
    found = equivalence(first, second, 1.1, paired=False)
    for shift, side, p in ((1.1, "greater", found.p_low), (-1.1, "less", found.p_high)):
        expected = stats.ttest_ind(
            first + shift, second, equal_var=False, alternative=side
        )
        assert p == pytest.approx(expected.pvalue, rel=1e-9)
    ends = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx(tuple(ends), rel=1e-9)


def test_the_tests_agree_with_the_interval_that_compared_has() -> None:
    """Its 90% interval, by another function, is inside of the margin or not."""
    for seed in range(40):
        first, second = RNG(seed).normal([[0.2], [0]], 1, (2, 30))
        for paired in (True, False):
            found = equivalence(first, second, 0.5, paired=paired)
            other = compared(
                first, second, paired=paired, generator=RNG(0), confidence=0.9,
                resamples=10,
            )  # fmt: skip
            assert found.low == pytest.approx(other.low)
            assert found.high == pytest.approx(other.high)
            assert found.equivalent == (other.low > -0.5 and other.high < 0.5)


def test_several_comparisons_are_adjusted_by_their_number() -> None:
    first, second = RNG(3).normal(size=(2, 15))
    one = equivalence(first, second, 0.9, paired=True)
    three = equivalence(first, second, 0.9, paired=True, tests=3)
    assert three.p_low == min(1, 3 * one.p_low)
    assert three.p_high == min(1, 3 * one.p_high)
    ends = stats.ttest_1samp(first - second, 0).confidence_interval(1 - 0.1 / 3)
    assert (three.low, three.high) == pytest.approx(tuple(ends), rel=1e-9)
    assert three.equivalent == (three.low > -0.9 and three.high < 0.9)


def test_sets_without_spread_and_sets_of_one() -> None:
    same = equivalence([0.1 + 0.2] * 3, [0.3] * 3, 0.01, paired=True)
    assert same.equivalent
    assert (same.low, same.high, same.p_value) == (0, 0, 0)
    at_margin = equivalence([1.0] * 3, [0.5] * 3, 0.5, paired=False)
    assert not at_margin.equivalent
    assert at_margin.p_high == 1
    alone = equivalence([1.0], [1.0], 0.5, paired=True)
    assert not alone.equivalent
    assert np.isnan([alone.low, alone.p_low, alone.p_value]).all()


def test_wrong_input_is_refused_together() -> None:
    with pytest.raises(InvalidValueError) as error:
        equivalence([1.0, np.nan], [1.0], 0, paired=True, level=0.5, tests=0)
    said = str(error.value)
    for word in (
        "first has 1 of 2 numbers not finite",
        "margin is 0",
        "level is 0.5",
        "tests is 0",
    ):
        assert said.count(word) == 1
    with pytest.raises(InvalidValueError, match="first has 2 starts and second has 1"):
        equivalence([1.0, 2.0], [1.0], 1.0, paired=True)


@pytest.mark.parametrize("starts", [5, 30, slow(300)])
@pytest.mark.parametrize("paired", [True, False])
def test_its_level_holds_at_the_margin(starts: int, paired: bool) -> None:
    """Where the true difference is the margin, it is called equivalent in 5 of 100."""
    generator, trials, wrong = RNG(starts), 2000, 0
    for _ in range(trials):
        shared = generator.normal(size=starts)
        first = shared + generator.normal(1.5, 0.6, starts)
        second = (shared if paired else 0) + generator.normal(0, 0.6, starts)
        wrong += equivalence(first, second, 1.5, paired=paired).equivalent
    assert 0 < wrong / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_equal_sets_are_found_as_often_as_the_normal_approximation_says() -> None:
    """The power for equal means is 2 Φ(margin / s - t) - 1 (Schuirmann 1987)."""
    values = RNG(0).normal(size=(500, 2, 80))
    found = [equivalence(*pair, 0.6, paired=True).equivalent for pair in values]
    expected = 2 * stats.norm.cdf(0.6 / np.sqrt(2 / 80) - stats.t.ppf(0.95, 79)) - 1
    assert np.mean(found) == pytest.approx(expected, abs=0.03)
