"""Which parameters of a grid matter: known effects, known p-values, coverage."""

from __future__ import annotations

import itertools
from math import factorial

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from descents.errors import InvalidValueError
from descents.statistics.effects import main_effects
from descents.statistics.factorial import variance_sources


def grid(**levels) -> list[dict[str, object]]:
    return [
        dict(zip(levels, values, strict=True))
        for values in itertools.product(*levels.values())
    ]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_means_differences_and_intervals_are_those_of_the_starts() -> None:
    settings = grid(rate=[0.1, 0.2, 0.3], kind=["a", "b"])
    values = generator().normal(size=(6, 25)) + np.arange(6)[:, None]
    found = {
        e.parameter: e for e in main_effects(values, settings, generator=generator())
    }
    table = values.reshape(3, 2, 25)
    by_rate = table.mean(1)
    effect = found["rate"]
    assert effect.levels == (0.1, 0.2, 0.3)
    np.testing.assert_allclose(effect.means, by_rate.mean(1), rtol=1e-12)
    for level in range(3):
        gaps = by_rate[level] - by_rate.mean(0)
        told = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
        np.testing.assert_allclose(effect.differences[level], gaps.mean(), rtol=1e-12)
        np.testing.assert_allclose(effect.intervals[level], told, rtol=1e-9)


def test_the_share_is_omega_squared_of_the_analysis_of_variance() -> None:
    """By the sums of squares of a two-way layout, written out in loops."""
    settings = grid(a=[0, 1], b=[0, 1])
    values = generator(3).normal(size=(4, 12))
    values[2:] += 1.5
    effects = {
        e.parameter: e for e in main_effects(values, settings, generator=generator())
    }
    grand = values.mean()
    between = sum(24 * (values[rows].mean() - grand) ** 2 for rows in ([0, 1], [2, 3]))
    rest = 0.0
    for g in range(4):
        for k in range(12):
            rest += (values[g, k] - values[g].mean() - values[:, k].mean() + grand) ** 2
    rest /= 3 * 11
    total = np.square(values - grand).sum()
    expected = (between - rest) / (total + rest)
    assert effects["a"].share == pytest.approx(expected, rel=1e-12)
    assert effects["a"].share > 0.2 > effects["b"].share


def test_the_p_value_is_that_of_all_permutations() -> None:
    """Of three levels and four starts there are 6^4 = 1296 permutations."""
    settings = grid(level=[1, 2, 3])
    values = generator(5).normal(size=(3, 4)) + np.array([0.0, 0.5, 2.0])[:, None]

    def statistic(rows: np.ndarray) -> float:
        gaps = rows - rows.mean(1, keepdims=True)
        return np.max(np.abs(gaps.mean(0)) / (gaps.std(0, ddof=1) / np.sqrt(len(gaps))))

    observed = statistic(values.T)
    orders = list(itertools.permutations(range(3)))
    assert len(orders) == factorial(3)
    larger = [
        statistic(
            np.stack([row[list(o)] for row, o in zip(values.T, chosen, strict=True)])
        )
        >= observed * (1 - 1e-10)
        for chosen in itertools.product(orders, repeat=4)
    ]
    (effect,) = main_effects(values, settings, generator=generator(), resamples=20000)
    assert effect.p_value == pytest.approx(np.mean(larger), abs=0.012)


def test_two_levels_have_the_p_value_of_the_paired_test() -> None:
    from descents.statistics.differences import compared

    values = generator(1).normal(size=(2, 9)) + np.array([0.0, 0.8])[:, None]
    (effect,) = main_effects(
        values, grid(level=[0, 1]), generator=generator(), resamples=20000
    )
    exact = compared(values[1], values[0], paired=True, generator=generator()).p_value
    assert effect.p_value == pytest.approx(exact, abs=0.012)


def test_an_effect_of_every_start_alike_is_certain_and_none_is_none() -> None:
    settings = grid(a=[0, 1], b=[0, 1])
    values = np.repeat([[0.0], [0.0], [1.0], [1.0]], 8, axis=1)
    a, b = main_effects(values, settings, generator=generator())
    assert (a.parameter, a.share, b.share) == ("a", 1.0, 0.0)
    assert a.p_value < 0.01
    assert b.p_value == 1.0
    assert b.p_adjusted == 1.0
    assert a.intervals == ((-0.5, -0.5), (0.5, 0.5))


def test_nothing_varies() -> None:
    assert main_effects([[1.0, 2.0]], [{"a": 1}], generator=generator()) == []


@pytest.mark.parametrize(
    ("values", "settings", "words"),
    [
        (np.zeros((3, 4)), grid(a=[0, 1], b=[0, 1])[:3], "full grid"),
        (np.zeros((2, 4)), [{"a": 1}, {"b": 1}], "full grid"),
        (np.zeros((2, 4)), [{"a": 1}, {"a": 1}], "full grid"),
        (np.zeros((3, 4)), grid(a=[0, 1]), "one row per setting"),
        (np.zeros((2, 1)), grid(a=[0, 1]), "two starts"),
        ([[1.0, np.nan], [1.0, 2.0]], grid(a=[0, 1]), "not finite"),
    ],
)
def test_what_cannot_be_used_is_refused(values, settings, words) -> None:
    with pytest.raises(InvalidValueError, match=words):
        main_effects(values, settings, generator=generator())


def simulated(draw: int, starts: int) -> np.ndarray:
    """Settings of unequal spread over starts that have something in common."""
    rng = np.random.default_rng([draw, starts])
    common = rng.exponential(size=starts)
    noise = rng.normal(size=(6, starts)) * np.repeat([0.3, 1.0, 2.0], 2)[:, None]
    return common + noise


@pytest.mark.slow
@pytest.mark.parametrize("starts", [30, 300])
def test_intervals_cover_and_tests_reject_as_often_as_they_say(starts: int) -> None:
    """Over 2000 draws: 93 to 97% of the intervals hold; 3.5 to 6.5% of tests reject."""
    settings = grid(a=["x", "y", "z"], b=[0, 1])
    held: dict[str, int] = {"a": 0, "b": 0}
    rejected = {"a": 0, "b": 0}
    for draw in range(2000):
        found = main_effects(
            simulated(draw, starts), settings, generator=generator(draw), resamples=199
        )
        for effect in found:
            low, high = effect.intervals[0]
            held[effect.parameter] += low <= 0 <= high
            rejected[effect.parameter] += effect.p_value <= 0.05
    for name in ("a", "b"):
        assert 0.93 <= held[name] / 2000 <= 0.97
        assert 0.035 <= rejected[name] / 2000 <= 0.065


def test_variance_sources_are_those_of_an_analysis_of_variance() -> None:
    """By statsmodels, with the starts as a factor of their own."""
    settings = grid(a=[0, 1, 2], b=["x", "y"], c=[1, 2])
    values = generator(7).normal(size=(12, 9)) + generator(8).normal(size=9)
    values[::3] += 1.0
    rows = [
        {**setting, "start": k, "value": values[g, k]}
        for g, setting in enumerate(settings)
        for k in range(9)
    ]
    fitted = ols("value ~ C(a) * C(b) * C(c) + C(start)", pd.DataFrame(rows)).fit()
    table = anova_lm(fitted)
    total = table["sum_sq"].sum()
    found = {
        s.name: s for s in variance_sources(values, settings, generator=generator())
    }
    names = {"a": "C(a)", "a x b": "C(a):C(b)", "b x c": "C(b):C(c)"}
    names |= {"a x b x c": "C(a):C(b):C(c)", "starts": "C(start)", "rest": "Residual"}
    assert len(found) == 9
    assert sum(source.share for source in found.values()) == pytest.approx(1)
    for name, peer in names.items():
        expected = table.loc[peer]
        assert found[name].share == pytest.approx(expected["sum_sq"] / total, rel=1e-9)
        assert found[name].degrees == expected["df"]


def test_a_crossing_interaction_is_found_where_no_option_matters_alone() -> None:
    settings = grid(rate=[0.1, 0.2], init=["a", "b"])
    noise = generator(2).normal(size=(4, 40))
    crossed = noise + np.array([0.0, 1.0, 1.0, 0.0])[:, None]
    first = variance_sources(crossed, settings, generator=generator())[0]
    assert (first.parameters, first.p_value < 0.01) == (("rate", "init"), True)
    main = main_effects(crossed, settings, generator=generator())
    assert all(effect.share < 0.05 for effect in main)


def test_signs_of_all_starts_give_the_p_value_of_an_interaction() -> None:
    settings = grid(a=[0, 1], b=[0, 1])
    values = generator(4).normal(size=(4, 8))
    values[0] += 1.0
    contrast = (values[0] - values[1] - values[2] + values[3]) / 4

    def statistic(one: np.ndarray) -> float:
        return abs(one.mean()) / (one.std(ddof=0) / np.sqrt(len(one) - 1))

    every = [
        statistic(contrast * np.array(signs))
        for signs in itertools.product([1, -1], repeat=8)
    ]
    exact = np.mean(np.array(every) >= statistic(contrast) * (1 - 1e-9))
    sources = variance_sources(
        values, settings, generator=generator(), resamples=40_000
    )
    found = {source.name: source.p_value for source in sources}
    assert found["a x b"] == pytest.approx(exact, abs=0.008)


def test_tests_of_interactions_hold_their_level() -> None:
    settings = grid(a=[0, 1], b=[0, 1, 2])
    random = generator(11)
    small = [
        found.p_value < 0.05
        for _ in range(200)
        for found in variance_sources(
            random.normal(size=(6, 12)), settings, generator=random, resamples=199
        )
        if found.name == "a x b"
    ]
    assert 0.01 < np.mean(small) < 0.1
