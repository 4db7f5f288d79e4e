"""Pooled intervals of multiple imputation hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from descents import LowRankImputer, pool

SLOPES = np.array([1.0, -0.5, 0.5])


def simulated(seed: int, rows: int = 200) -> np.ndarray:
    """Return an outcome and three predictors, 30% of these missing given the outcome."""
    rng = np.random.default_rng(seed)
    spread = [[1.0, 0.5, 0.3], [0.5, 1.0, 0.4], [0.3, 0.4, 1.0]]
    predictors = rng.multivariate_normal(np.zeros(3), spread, rows)
    outcome = 1 + predictors @ SLOPES + rng.normal(size=rows)
    chance = 1 / (1 + np.exp(-(outcome - 1) / outcome.std()))
    chance *= 0.3 / chance.mean()
    predictors[rng.random(predictors.shape) < chance[:, None]] = np.nan
    return np.column_stack([outcome, predictors])


def regression(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients of the first column on the others, and their covariance."""
    design = np.column_stack([np.ones(len(table)), table[:, 1:]])
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ table[:, 0]
    noise = np.square(table[:, 0] - design @ found).sum() / (len(table) - 4)
    return found, noise * inverse


def coverages(tables: int, m: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return how often 95% intervals hold each slope: pooled, and of a single fill."""
    hits = np.zeros((2, 3))
    for seed in range(tables):
        table = simulated(seed)
        imputer = LowRankImputer(random_state=seed, held_out=0).fit(table)
        fits = [regression(one) for one in imputer.sample(table, m)]
        found = pool(*map(np.array, zip(*fits, strict=True)), complete_df=196)
        hits[0] += (found.low <= [1, *SLOPES])[1:] & (found.high >= [1, *SLOPES])[1:]
        single, spread = regression(imputer.transform(table))
        half = stats.t.ppf(0.975, 196) * np.sqrt(np.diag(spread))
        hits[1] += np.abs(single - [1, *SLOPES])[1:] <= half[1:]
    return hits[0] / tables, hits[1] / tables


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_pooled_intervals_of_slopes_hold_them_19_times_of_20():
    pooled, single = coverages(1000)
    assert ((pooled >= 0.93) & (pooled <= 0.97)).all()
    assert (single < 0.9).all()


def test_pooled_intervals_hold_slopes_far_more_often_than_those_of_one_fill():
    pooled, single = coverages(12, 5)
    assert pooled.mean() > 0.85
    assert pooled.mean() > single.mean() + 0.2
