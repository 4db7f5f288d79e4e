"""Rubin's rules against numbers by hand, a published example and statsmodels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from descents import LowRankImputer, pool
from descents.errors import InvalidValueError


def test_two_estimates_by_hand():
    # W = 3, B = 2, T = 3 + 1.5 * 2 = 6, r = 1, share 1/2.
    found = pool([1.0, 3.0], [2.0, 4.0])
    assert found.estimate == 2.0
    assert (found.within, found.between) == (3.0, 2.0)
    assert found.standard_error == pytest.approx(np.sqrt(6))
    assert found.relative_increase == pytest.approx(1.0)
    assert found.df == pytest.approx(4.0)  # (m - 1) / share^2
    assert found.missing_information == pytest.approx((1 + 2 / 7) / 2)
    quantile = 2.7764451051977987  # of Student's t with 4 degrees of freedom
    assert found.high == pytest.approx(2 + quantile * np.sqrt(6), rel=1e-12)
    assert found.low == pytest.approx(2 - quantile * np.sqrt(6), rel=1e-12)
    assert found.p_value == pytest.approx(2 * stats.t.sf(2 / np.sqrt(6), 4), rel=1e-12)
    assert pool([1.0, 3.0], [2.0, 4.0], null=2.0).p_value == 1.0
    # Barnard and Rubin: 11 / 13 * 10 * (1 - 1/2) = 4.2308; 1 / (1/4 + 1/4.2308)
    small = pool([1.0, 3.0], [2.0, 4.0], complete_df=10)
    assert small.df == pytest.approx(1 / (1 / 4 + 13 / 55), rel=1e-12)
    assert repr(found) == (
        "Pooled(2 (-4.801 to 8.801); 95% intervals from 2 imputations)"
    )


def test_the_published_example_of_physical_fitness():
    # Means of oxygen intake, run time and pulse of 31 men from five completed tables:
    # SAS/STAT User's Guide, "The MIANALYZE Procedure", getting started (EDF = 30).
    means = [
        [47.0120, 10.4441, 171.216],
        [47.2407, 10.5040, 171.244],
        [47.4995, 10.5922, 171.909],
        [47.1485, 10.5279, 171.146],
        [47.0042, 10.4913, 172.072],
    ]
    errors = [
        [0.95984, 0.28520, 1.59910],
        [0.93540, 0.26661, 1.75638],
        [1.00766, 0.26302, 1.85795],
        [0.95439, 0.28566, 1.75011],
        [0.96528, 0.27871, 1.66988],
    ]
    found = pool(means, np.square(errors), complete_df=30)
    # What is published of the first, of numbers that have five digits here.
    assert found.estimate[0] == pytest.approx(47.180993, abs=2e-5)
    assert found.standard_error[0] == pytest.approx(0.990266, abs=1e-5)
    assert found.df[0] == pytest.approx(26.298, abs=2e-3)
    assert found.low[0] == pytest.approx(45.1466, abs=1e-4)
    assert found.high[0] == pytest.approx(49.2154, abs=1e-4)
    assert found.relative_increase[0] == pytest.approx(0.053471, abs=2e-5)
    assert found.missing_information[0] == pytest.approx(0.051977, abs=2e-5)


def random_fits(m: int = 7, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(m, k, k + 3))
    return rng.normal(size=(m, k)), roots @ roots.swapaxes(1, 2)


def test_covariances_have_the_variances_of_each_parameter():
    estimates, covariances = random_fits()
    found = pool(estimates, covariances, complete_df=40)
    for j in range(3):
        one = pool(estimates[:, j], covariances[:, j, j], complete_df=40)
        for name in found.table():
            expected = getattr(one, name)
            assert getattr(found, name)[j] == pytest.approx(expected, rel=1e-12)
    total = covariances.mean(0) + 8 / 7 * np.cov(estimates.T)
    np.testing.assert_allclose(found.covariance, total, rtol=1e-12)
    np.testing.assert_allclose(np.diag(total), found.standard_error**2, rtol=1e-12)
    diagonal = covariances.diagonal(axis1=1, axis2=2)
    assert pool(estimates, diagonal).covariance is None


def test_where_nothing_is_missing_the_complete_analysis_is_left():
    for df in (np.inf, 20.0):
        found = pool([1.5] * 3, [0.25] * 3, complete_df=df, confidence=0.9)
        assert found.missing_information == found.relative_increase == 0
        # Barnard and Rubin: (v + 1) / (v + 3) v
        expected = df if df == np.inf else 21 / 23 * 20
        assert found.df == pytest.approx(expected)
        half = stats.t.ppf(0.95, expected) * 0.5
        assert found.high == pytest.approx(1.5 + half)
    exact = pool([2.0, 2.0], [0.0, 0.0], null=1.0)
    assert (exact.low, exact.high, exact.p_value) == (2.0, 2.0, 0.0)


def test_wrong_shapes_and_numbers_are_refused():
    estimates, covariances = random_fits()
    for bad in (
        ([1.0], [1.0]),
        (1.0, 1.0),
        (estimates, covariances[:, :2]),
        (estimates, covariances[:3]),
        ([1.0, np.nan], [1.0, 1.0]),
        ([1.0, 2.0], [1.0, -1.0]),
        (["a", "b"], [1.0, 1.0]),
        (estimates, covariances + np.triu(np.ones((3, 3)), 1)),
    ):
        with pytest.raises(InvalidValueError):
            pool(*bad)
    with pytest.raises(InvalidValueError, match="(?s)complete_df.*confidence.*null"):
        pool([1.0, 2.0], [1.0, 1.0], complete_df=0, confidence=1.0, null=[1.0, 2.0])


def test_statsmodels_combines_alike():
    mice = pytest.importorskip("statsmodels.imputation.mice")

    estimates, covariances = random_fits()
    study = object.__new__(mice.MICE)
    study.model_class = object  # which statsmodels 0.15 names in its results
    study.results_list = [
        SimpleNamespace(
            _results=SimpleNamespace(params=one, cov_params=lambda c=spread: c),
            scale=1.0,
        )
        for one, spread in zip(estimates, covariances, strict=True)
    ]
    study.exog_names, study.endog_names = ["a", "b", "c"], "y"
    study.model_class = None
    theirs, found = study.combine(), pool(estimates, covariances)
    np.testing.assert_allclose(found.estimate, theirs.params)
    np.testing.assert_allclose(found.standard_error, theirs.bse)
    np.testing.assert_allclose(found.covariance, theirs.cov_params())


def test_a_regression_of_fair_is_pooled_near_that_of_the_complete_table():
    api = pytest.importorskip("statsmodels.api")
    whole = api.datasets.fair.load_pandas().data.iloc[:1500].astype(float)
    rng = np.random.default_rng(0)
    table = whole.mask(rng.random(whole.shape) < 0.2)
    imputer = LowRankImputer(random_state=0).fit(table)
    filled = imputer.transform(table)
    ratios = []
    for name in table:
        hidden = table[name].isna()
        fills, truth = filled[name][hidden], whole[name][hidden]
        assert fills.between(table[name].min(), table[name].max()).all()
        mean = np.square(table[name].mean() - truth).mean()
        ratios.append(np.sqrt(np.square(fills - truth).mean() / mean))
    # A low-rank point estimate was off by hundreds of standard deviations here.
    assert np.mean(ratios) < 0.85
    assert max(ratios) < 1.01
    outcome, causes = "rate_marriage", ["age", "yrs_married", "religious", "educ"]

    def regression(one):
        found = api.OLS(one[outcome], api.add_constant(one[causes])).fit()
        return found.params.to_numpy(), found.cov_params().to_numpy()

    fits = [regression(one) for one in imputer.sample(table, m=10)]
    pooled = pool(*zip(*fits, strict=True), complete_df=len(table) - 5)
    truth, spread = regression(whole)
    off = np.abs(pooled.estimate - truth) / pooled.standard_error
    assert (off < 2.5).all(), off
    ratio = pooled.standard_error / np.sqrt(np.diag(spread))
    assert (ratio > 1).all(), ratio
    assert (ratio < 2).all(), ratio
