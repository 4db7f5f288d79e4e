"""Multiple imputation by models of resampled rows, against closed forms."""

from __future__ import annotations

import numpy as np

from descents.marginal.draws import bootstrap_draws, bootstrapped
from descents.marginal.model import fit
from descents.marginal.settings import Settings


def test_imputations_differ_as_an_uncertain_regression_does():
    rng = np.random.default_rng(0)
    seen, lacking = 40, 150
    x = np.concatenate([rng.normal(size=seen), 1 + 0.1 * rng.normal(size=lacking)])
    y = x + rng.normal(size=len(x))
    codes = np.column_stack([x, y])
    codes[seen:, 1] = np.nan
    found = fit(codes, np.zeros(2, int), Settings(held_out=0))
    means = [t[seen:, 1].mean() for t in bootstrap_draws(found, codes, 80, seed=1)]
    # The mean of new responses of a linear regression varies by their noise, and by the
    # intercept and the slope.
    slope, start = np.polyfit(x[:seen], y[:seen], 1)
    noise = np.square(y[:seen] - start - slope * x[:seen]).sum() / (seen - 2)
    off = np.square(x[seen:].mean() - x[:seen].mean())
    spread = np.square(x[:seen] - x[:seen].mean()).sum()
    expected = np.sqrt(noise * (1 / lacking + 1 / seen + off / spread))
    assert 0.75 < np.std(means) / expected < 1.25
    assert expected > 2 * np.sqrt(noise / lacking)  # which draws alone would have


def test_models_of_resampled_rows_have_the_error_of_a_mean():
    rng = np.random.default_rng(2)
    codes = rng.normal(size=(50, 2))
    found = fit(codes, np.zeros(2, int), Settings(held_out=0))
    weights = np.ones(50)
    weights[25:] = 0.0
    for rows, given in ((50, None), (25, weights)):
        models = bootstrapped(found, codes, 60, 0, given)
        means = np.array([model.model.gaussian.mean[0] for model in models])
        if given is not None:  # the mean of the rows with a weight
            expected = found.features.encoded(codes[:25])[:, 0]
            assert abs(means.mean() - expected.mean()) < 3 / np.sqrt(25 * 60)
        assert 0.75 < means.std() * np.sqrt(rows) < 1.25


def test_an_imputation_depends_on_the_seed_and_its_number_alone():
    rng = np.random.default_rng(3)
    codes = np.column_stack([rng.normal(size=30), rng.integers(0, 2, 30)]) * 1.0
    codes[:9, 0] = codes[5:12, 1] = np.nan
    found = fit(codes, np.array([0, 2]), Settings(held_out=0))
    two = list(bootstrap_draws(found, codes, 2, seed=4))
    three = list(bootstrap_draws(found, codes, 3, seed=4))
    np.testing.assert_array_equal(two, three[:2])
    seen = ~np.isnan(codes)
    for one in three:
        np.testing.assert_array_equal(one[seen], codes[seen])
        assert np.isfinite(one).all()
        assert set(one[:, 1]) <= {0.0, 1.0}
    assert (three[0] != three[1]).any()
    low, high = np.nanmin(codes[:, 0]), np.nanmax(codes[:, 0])
    for one in bootstrap_draws(found, codes, 3, seed=4, limited=True):
        assert one[:, 0].min() >= low
        assert one[:, 0].max() <= high


def test_a_sample_without_any_cell_takes_the_fit():
    codes = np.full((4, 2), np.nan)
    codes[0] = [1.0, 2.0]
    found = fit(codes, np.zeros(2, int), Settings(held_out=0))
    draws = list(bootstrap_draws(found, codes, 8, seed=0))
    assert all(np.isfinite(draw).all() for draw in draws)
