"""The marginal likelihood, its gradient and EM, against dense normal distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from conftest import slow
from descents import Adam, Stop, descend
from descents.errors import InvalidValueError
from descents.marginal.em import EM
from descents.marginal.features import features_of
from descents.marginal.gaussian import Marginal, covariance
from descents.marginal.model import fit
from descents.marginal.patterns import grouped
from descents.marginal.posterior import Gaussian, predicted
from descents.marginal.settings import Settings

CASES = [
    {"rank": 2, "ridge": 0.1, "strength": 0.5},
    {"rank": None, "ridge": 0.02},
    {"rank": 2, "noise": "equal"},
    {"rank": 3, "noise": "equal", "ridge": 0.05, "strength": 0.7},
    {"rank": 0},
    {"rank": 5, "strength": 2.0},
]


def table(rows: int = 60, missing: float = 0.3, seed: int = 0) -> np.ndarray:
    """Return a table of rank 2 and noise with missing cells, some rows without any."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, 5))
    values += 0.3 * rng.normal(size=(rows, 5)) + [0.0, 1.0, 2.0, 0.0, 0.0]
    values[rng.random(values.shape) < missing] = np.nan
    values[3] = np.nan
    return values


def loss_by_hand(problem: Marginal, values: np.ndarray, point: dict, weights) -> float:
    """Return the penalized loss, one row after the other, from dense covariances."""
    mean, loadings = point["mean"].numpy(), point["loadings"].numpy()
    noise = np.broadcast_to(np.exp(point["noise"].numpy()), mean.shape)
    dense = loadings @ loadings.T + np.diag(noise)
    total, cells = 0.0, 0.0
    for weight, row in zip(weights, values, strict=True):
        there = ~np.isnan(row)
        if there.any():
            part = multivariate_normal(mean[there], dense[np.ix_(there, there)])
            total -= weight * part.logpdf(row[there])
            cells += weight * there.sum()
    ridge = problem.ridge.numpy()
    total += sum(weights) / 2 * np.trace(np.linalg.solve(dense, np.diag(ridge)))
    gap = np.linalg.slogdet(dense)[1] - np.log(noise).sum()
    total += problem.strength * len(mean) / 2 * gap
    return float(total / cells)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_and_gradients_are_those_of_dense_normals(case, weighted):
    values = table()
    weights = np.random.default_rng(1).random(60) + 0.1 if weighted else np.ones(60)
    weights[5] = 0.0 if weighted else 1.0
    problem = Marginal(values, weights=weights if weighted else None, **case)
    points = problem.points([0, 1, 7], seed=3)
    rng = torch.Generator().manual_seed(0)
    points = {
        n: p + 0.1 * torch.randn(p.shape, generator=rng, dtype=p.dtype)
        for n, p in points.items()
    }
    losses, gradients = problem.fused(points, torch.arange(3), 0)
    by_hand = [
        loss_by_hand(problem, values, {n: p[k] for n, p in points.items()}, weights)
        for k in range(3)
    ]
    np.testing.assert_allclose(losses, by_hand, rtol=0, atol=1e-10)
    leaves = {n: p.clone().requires_grad_() for n, p in points.items()}
    problem.losses(leaves, torch.arange(3), 0).sum().backward()
    for name, leaf in leaves.items():
        np.testing.assert_allclose(gradients[name], leaf.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("accelerate", [slow(False), True])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.sampled(3)
def test_the_loss_never_rises_and_adam_finds_nothing_lower(case, accelerate):
    problem = Marginal(table(), **case)
    runs = descend(
        problem, 3, steps=EM(accelerate), stop=Stop(500, 1e-7), record=range(501)
    )
    for k in range(3):
        losses = runs.histories["loss"][: runs.steps_taken[k] + 1, k]
        assert np.diff(losses).max(initial=0) < 1e-12
    assert all(status.value.startswith("stationary") for status in runs.statuses)
    np.testing.assert_allclose(runs.losses, runs.losses[0], rtol=0, atol=1e-6)
    # From where EM stopped, first-order steps find nothing lower.
    problem.begin_at({n: torch.as_tensor(p[0]) for n, p in runs.parameters.items()})
    other = descend(problem, 1, steps=Adam(1e-4), stop=Stop(100))
    assert runs.losses[0] - other.losses[0] < 1e-8


def test_the_optimum_of_a_complete_table_is_the_closed_form():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 7)) + rng.normal(
        size=(80, 7)
    )
    eigenvalues = np.linalg.eigvalsh(np.cov(values.T, bias=True))[::-1]
    for rank in (1, 2, 4):
        # Tipping and Bishop (1999), equations 7 and 8.
        noise = eigenvalues[rank:].mean()
        inside = np.log(eigenvalues[:rank]).sum() + (7 - rank) * np.log(noise) + 7
        best = (7 * np.log(2 * np.pi) + inside) / 2 / 7
        problem = Marginal(values, rank, noise="equal")
        runs = descend(problem, 2, steps=EM(), stop=Stop(50, 1e-8))
        np.testing.assert_allclose(runs.losses, best, rtol=0, atol=1e-8)


def test_compressed_rows_have_the_same_losses():
    rng = np.random.default_rng(3)
    values = table(400, 0.2, seed=4)
    weights = rng.random(400)
    few, all_rows = grouped(values, weights), grouped(values, weights, compress=False)
    assert len(few.values) < 250 < len(all_rows.values)
    problem = Marginal(values, ridge=0.01, weights=weights)
    point = problem.points([0], 0)
    expected = problem.fused(point, torch.arange(1), 0)
    problem.patterns = all_rows
    found = problem.fused(point, torch.arange(1), 0)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    for name, gradient in expected[1].items():
        np.testing.assert_allclose(found[1][name], gradient, rtol=0, atol=1e-12)


def test_predictions_are_conditional_expectations():
    values = table(seed=5)
    problem = Marginal(values, ridge=0.01)
    runs = descend(problem, 1, steps=EM(), stop=Stop(100, 1e-6))
    point = {n: torch.as_tensor(p[0]) for n, p in runs.parameters.items()}
    levels = np.zeros(5, dtype=int)
    features = features_of(values, levels)
    wide = features.encoded(values)
    problem = Marginal(wide, ridge=features.ridge)
    runs = descend(problem, 1, steps=EM(), stop=Stop(100, 1e-6))
    point = {n: torch.as_tensor(p[0]) for n, p in runs.parameters.items()}
    found = predicted(Gaussian.of(problem, point), features, values)
    mean = point["mean"].numpy()
    dense = covariance(point["loadings"], problem.variances(point["noise"])).numpy()
    for i, row in enumerate(wide):
        there = ~np.isnan(row)
        for j, (column, place) in enumerate(
            zip(features.columns, features.places, strict=True)
        ):
            if not np.isnan(values[i, j]):
                assert found.values[i, j] == values[i, j]
                continue
            k = place.start
            slope = np.linalg.solve(dense[np.ix_(there, there)], dense[there, k])
            value = mean[k] + slope @ (row[there] - mean[there])
            variance = dense[k, k] - slope @ dense[there, k]
            value = column.center + column.spread * value
            np.testing.assert_allclose(found.values[i, j], value, atol=1e-9)
            deviation = column.spread * np.sqrt(variance)
            np.testing.assert_allclose(found.deviations[i, j], deviation, rtol=1e-9)


def test_draws_have_the_moments_and_the_probabilities_that_are_predicted():
    rng = np.random.default_rng(6)
    number = rng.normal(size=500)
    level = (number[:, None] + rng.normal(size=(500, 2)) > [0.0, 1.0]).sum(1)
    codes = np.column_stack([number, level, rng.normal(size=500) + number])
    levels = np.array([0, 3, 0])
    codes[:4, 0] = codes[:4, 1] = codes[2:6, 2] = np.nan
    found = fit(codes, levels, Settings(held_out=0))
    cells = found.predicted(codes[:6], limited=False)
    draws = np.array(
        [found.drawn(codes[:6], np.random.default_rng(k)) for k in range(4000)]
    )
    deviations = np.where(np.isnan(codes[:6]), cells.deviations, 0.0)[:, [0, 2]]
    off = draws.mean(0)[:, [0, 2]] - cells.values[:, [0, 2]]
    assert (np.abs(off) <= 4 * deviations / np.sqrt(4000) + 1e-12).all()
    np.testing.assert_allclose(
        draws.std(0)[:, [0, 2]], deviations, rtol=0.06, atol=1e-12
    )
    for i in range(4):
        shares = np.bincount(draws[:, i, 1].astype(int), minlength=3) / 4000
        expected = cells.probabilities[1][i]
        assert (np.abs(shares - expected) < 4 * np.sqrt(expected / 4000)).all()
        # A row's number and level are drawn together: they depend on each other.
        assert np.corrcoef(draws[:, i, 0], draws[:, i, 1])[0, 1] > 0.3
    np.testing.assert_array_equal(draws[0][4:, :2], codes[4:6, :2])


@pytest.mark.parametrize("factor", [1e-9, slow(1e-3), slow(1e9)])
def test_units_change_nothing_but_units(factor):
    rng = np.random.default_rng(7)
    codes = table(120, 0.2, seed=8)
    codes = np.column_stack([np.exp(codes), rng.integers(0, 3, 120)])
    levels = np.array([0, 0, 0, 0, 0, 3])
    base = fit(codes, levels, Settings())
    units = np.array([factor, 1.0, 1.0, 1 / factor, 1.0, 1.0])
    other = fit(codes * units, levels, Settings())
    expected, found = base.predicted(codes), other.predicted(codes * units)
    np.testing.assert_allclose(found.values / units, expected.values, rtol=1e-6)
    np.testing.assert_allclose(found.deviations / units, expected.deviations, rtol=1e-6)
    assert other.setting == base.setting


def test_what_is_held_out_says_which_columns_cannot_be_predicted():
    rng = np.random.default_rng(9)
    codes = np.column_stack([rng.normal(size=(300, 3)), np.zeros(300)])
    codes[:, 1] = codes[:, 0] + 0.1 * codes[:, 1]
    codes[rng.random(codes.shape) < 0.1] = np.nan
    found = fit(codes, np.zeros(4, int), Settings())
    assert found.constant.tolist()[:2] == [False, False]
    scores = found.scores
    assert scores[0].error < 0.5 * scores[0].constant_error
    assert abs(scores[2].error / scores[2].constant_error - 1) < 0.1
    # A constant column is filled by its constant.
    cells = found.predicted(codes)
    assert (cells.values[:, 3] == 0).all()


def test_normal_scores_are_those_of_average_ranks():
    values = np.array([1.0, 1.0, 2.0, 50.0, np.nan, 3.0])
    [column] = features_of(values[:, None], np.array([0])).columns
    expected = norm.ppf((np.array([1.5, 1.5, 3.0, 5.0, 4.0]) - 0.5) / 5)
    found = column.encoded(values)[[0, 1, 2, 3, 5], 1]
    np.testing.assert_allclose(found, expected / np.sqrt(np.mean(expected**2)))


def test_bad_settings_are_refused_together():
    with pytest.raises(InvalidValueError, match="(?s)n_starts.*tol"):
        Settings(n_starts=0, tol=-1)
    with pytest.raises(InvalidValueError, match="no observed cell"):
        fit(np.full((3, 2), np.nan), np.zeros(2, int))
    with pytest.raises(InvalidValueError, match="rank is 9"):
        Marginal(np.zeros((3, 2)), rank=9)


def wide_table(rows: int, columns: int, seed: int) -> np.ndarray:
    """Return a table of rank 3 with more columns than rows, in units of their own."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, columns))
    values += 0.5 * rng.normal(size=values.shape)
    return values * np.exp(2 * rng.normal(size=columns))


def test_more_columns_than_rows_are_a_sample_of_columns():
    values = wide_table(30, 300, seed=0)
    hidden = np.random.default_rng(1).random(values.shape) < 0.2
    codes = np.where(hidden, np.nan, values)
    found = fit(codes, np.zeros(300, int), Settings())
    assert found.setting.sample == "columns"
    off = (found.predicted(codes).values - values) / values.std(0)
    # Column means reach 1.05; the noise, which nothing can predict, is 0.4 in the mean.
    assert np.sqrt(np.mean(off[hidden] ** 2)) < 0.55
    # New rows are predicted from the rows of the fit.
    found = fit(codes[4:], np.zeros(300, int), Settings())
    cells = found.predicted(codes[:4])
    new = hidden[:4]
    off = ((cells.values - values[:4]) / values.std(0))[new]
    assert np.sqrt(np.mean(off**2)) < 0.65
    scores = ((cells.values - values[:4]) / np.where(new, cells.deviations, 1))[new]
    assert 0.7 < scores.std() < 1.4


def test_draws_of_wide_tables_have_the_predicted_moments():
    codes = wide_table(12, 60, seed=2)
    codes[np.random.default_rng(3).random(codes.shape) < 0.2] = np.nan
    found = fit(codes, np.zeros(60, int), Settings(held_out=0))
    cells = found.predicted(codes, limited=False)
    generators = [np.random.default_rng(k) for k in range(1500)]
    draws = np.array([found.drawn(codes, generator) for generator in generators])
    lacking = np.isnan(codes)
    scale = cells.deviations[lacking]
    off = (draws.mean(0) - cells.values)[lacking] / scale
    assert np.abs(off).max() < 5 / np.sqrt(1500)
    np.testing.assert_allclose(draws.std(0)[lacking] / scale, 1.0, atol=0.12)


def test_rows_as_a_new_table_are_close_to_those_of_the_fit():
    codes = wide_table(20, 100, seed=4)
    codes[np.random.default_rng(5).random(codes.shape) < 0.2] = np.nan
    found = fit(codes, np.zeros(100, int), Settings(held_out=0))
    lacking = np.isnan(codes)
    same = found.predicted(codes).values
    other = found.predicted(codes[:10]).values
    off = ((other - same[:10]) / np.nanstd(codes, axis=0))[lacking[:10]]
    assert np.sqrt(np.mean(off**2)) < 0.3


def test_refinement_finds_what_is_not_linear():
    rng = np.random.default_rng(10)
    x = rng.uniform(-3, 3, 500)
    level = (np.abs(x) > 1.5).astype(float)
    codes = np.column_stack([x, np.sin(3 * x) + 0.1 * rng.normal(size=500), level])
    truth, lacking = codes.copy(), rng.random(codes.shape) < 0.15
    lacking[:, 0] = False
    codes[lacking] = np.nan
    levels = np.array([0, 0, 2])
    base = fit(codes, levels, Settings())
    better = fit(codes, levels, Settings(refine=True))
    for place in (1, 2):
        rows = lacking[:, place]
        errors = [
            np.sqrt(np.mean((found.predicted(codes).values - truth)[rows, place] ** 2))
            for found in (base, better)
        ]
        assert errors[1] < 0.6 * errors[0]
        # What is said of held-out cells is of the refined model, and about right.
        said = better.scores[place].error
        said = said if place == 1 else np.sqrt(said)
        assert abs(said - errors[1]) < 0.2
    seen = ~np.isnan(codes)
    np.testing.assert_array_equal(better.predicted(codes).values[seen], codes[seen])


def test_a_row_of_weight_three_is_three_rows() -> None:
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(60, 1))
    codes = np.column_stack([
        factor[:, 0] + 0.3 * rng.normal(size=60),
        np.exp(factor[:, 0] + 0.2 * rng.normal(size=60)),  # skewed, so with scores
        np.square(factor[:, 0]) + 0.1 * rng.normal(size=60),  # correlated with squares
        rng.integers(0, 3, 60).astype(float),
    ])  # fmt: skip
    codes[rng.random(codes.shape) < 0.15] = np.nan
    codes = codes[~np.isnan(codes).all(1)]
    counts = rng.integers(1, 4, len(codes))
    levels = np.array([0, 0, 0, 3])
    repeated = np.repeat(codes, counts, axis=0)
    weighted = features_of(codes, levels, counts.astype(float))
    plain = features_of(repeated, levels)
    assert weighted.columns[1].has_scores
    assert weighted.columns[0].square is not None
    np.testing.assert_allclose(
        weighted.encoded(codes), plain.encoded(codes), atol=1e-12
    )
    np.testing.assert_allclose(
        weighted.columns[3].shares, plain.columns[3].shares, rtol=1e-12
    )
    settings = Settings(strength=0.0, held_out=0.0, tol=1e-8, max_steps=3000)
    one = fit(codes, levels, settings, counts.astype(float))
    other = fit(repeated, levels, settings)
    assert one.runs.losses[0] == pytest.approx(other.runs.losses[0], abs=1e-9)
    np.testing.assert_allclose(
        one.model.predicted(codes).values, other.model.predicted(codes).values,
        atol=1e-5, equal_nan=True,
    )  # fmt: skip
    np.testing.assert_allclose(one.constants, other.constants, rtol=1e-12)
