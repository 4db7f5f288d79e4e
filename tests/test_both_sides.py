"""Both sides integrated out: the bound, its gradient, its steps and what it predicts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import gammaln, logsumexp

from descents import Adam, Status, Stop, descend
from descents.errors import InvalidValueError
from descents.marginal.both_parameters import Gamma, Sides, each, narrowed
from descents.marginal.both_sides import BothSides
from descents.marginal.both_steps import CoordinateAscent, best_degrees
from descents.marginal.both_turns import best_gains
from descents.marginal.ratings import RatingsModel, fit_ratings
from descents.marginal.sightings import sightings
from descents.optim.problem import Problem
from rating_tables import planted, stored


def shaken(problem: Problem, size=0.1, starts=(0, 1)):
    """Return points at which no parameter has a special value."""
    rng = torch.Generator().manual_seed(0)
    return {
        n: p + size * torch.randn(p.shape, generator=rng, dtype=p.dtype)
        for n, p in problem.points(list(starts), 0).items()
    }


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_gradients_are_those_of_autograd(rank):
    problem = BothSides(stored(*planted()), rank)
    points = shaken(problem)
    if rank > 1:
        points["scales"][1, 0] = 0.0  # removed
    losses, gradients = problem.fused(points, torch.arange(2), 0)
    with torch.no_grad():
        np.testing.assert_allclose(
            problem.losses(points, torch.arange(2), 0), losses, rtol=0, atol=1e-12
        )
    leaves = {n: p.clone().requires_grad_() for n, p in points.items()}
    by_cells = problem.losses(leaves, torch.arange(2), 0)
    by_cells.sum().backward()
    np.testing.assert_allclose(by_cells.detach(), losses, rtol=0, atol=1e-12)
    for name, leaf in leaves.items():
        np.testing.assert_allclose(
            gradients[name], leaf.grad, rtol=0, atol=1e-11, err_msg=name
        )


def negative_bound(problem: BothSides, one: Sides) -> float:
    """Return the negative bound over N, cell by cell and factor by factor."""
    one = Sides(*(part.numpy() for part in one))
    rank, scales = len(one.scales) - 2, one.scales
    variance = float(np.exp(one.noise[0]))
    half = np.exp(one.degrees) / 2
    n, d, q = problem.rows, problem.columns, rank + 1
    cells = problem.cells.toarray()
    there = problem.cells.astype(bool).toarray()
    F, G = problem.sightings.rows.numpy(), problem.sightings.columns.numpy()
    total, rates = 0.0, (np.exp(one.row_rates), np.exp(one.column_rates))
    means, logs = [], []
    for side in range(2):
        shape = half[side] + there.sum(1 - side) / 2
        means.append(shape / rates[side])
        digamma = torch.digamma(torch.from_numpy(shape)).numpy()
        logs.append(digamma - np.log(rates[side]))
        # KL of Gamma densities: E log q - E log p.
        total += np.sum(
            shape * np.log(rates[side])
            - gammaln(shape)
            + (shape - 1) * logs[side]
            - shape
        )
        total -= np.sum(
            half[side] * np.log(half[side])
            - gammaln(half[side])
            + (half[side] - 1) * logs[side]
            - half[side] * means[side]
        )
    lower = np.tril(one.spreads)
    S = lower @ np.swapaxes(lower, 1, 2)
    # The best q(D) by a dense solution, the features of gain 0 left out.
    for gains, X, factors, best in (
        (one.column_gains, G, one.factors, True),
        (one.row_gains, F, None, False),
    ):
        precision = X.T @ X + np.diag(1 / gains**2)
        cov = np.linalg.inv(precision)
        weights = cov @ X.T @ factors if best else gains[:, None] * one.weights
        kl = np.sum(weights**2 / gains[:, None] ** 2)
        kl += q * (np.sum(np.diag(cov) / gains**2 - 1) - np.linalg.slogdet(cov)[1])
        kl += q * np.sum(np.log(gains**2))
        total += kl / 2 + q * np.trace(X @ cov @ X.T) / 2
        if best:
            off = factors - X @ weights
            total += np.sum(off**2) / 2
        else:
            prior = X @ weights
    for j in range(d):
        total += (np.trace(S[j]) - np.linalg.slogdet(S[j])[1] - q) / 2
    own = [*range(rank), rank + 1]
    for i in range(n):
        precision, right, rest = np.eye(q), prior[i].copy(), 0.0
        for j in np.flatnonzero(there[i]):
            weight = means[0][i] * means[1][j] / variance
            mean = scales[own] * one.factors[j]
            cov = S[j] * np.outer(scales[own], scales[own])
            c = np.append(mean[:rank], scales[rank])
            second = np.outer(c, c)
            second[:rank, :rank] += cov[:rank, :rank]
            off = cells[i, j] - one.mean[0] - mean[rank]
            cross = np.append(cov[:rank, rank], 0.0)
            precision += weight * second
            right += weight * (off * c - cross)
            rest += weight * (off**2 + cov[rank, rank])
            total += np.log(2 * np.pi * variance) / 2
            total -= (logs[0][i] + logs[1][j]) / 2
        mean = np.linalg.solve(precision, right)
        total += np.linalg.slogdet(precision)[1] / 2 - right @ mean / 2
        total += prior[i] @ prior[i] / 2 + rest / 2
    return total / problem.count


def test_the_loss_is_the_bound_added_up_cell_by_cell():
    problem = BothSides(stored(*planted(30, 20)), 2)
    points = shaken(problem)
    losses = problem.losses(points, torch.arange(2), 0)
    by_hand = [negative_bound(problem, one) for one in each(points)]
    np.testing.assert_allclose(losses, by_hand, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rank", [0, 6])
@pytest.mark.parametrize(
    "case", [{}, {"rows": 20, "columns": 70}, {"noise": 2.0}], ids=str
)
@pytest.mark.sampled(3)
def test_the_loss_never_rises_and_no_gradient_is_left(rank, case):
    problem = BothSides(stored(*planted(**case)), rank)
    runs = descend(
        problem, 1, steps=CoordinateAscent(), stop=Stop(300, 1e-5), record=range(301)
    )
    assert np.diff(runs.histories["loss"], axis=0).max() < 1e-12
    assert runs.statuses[0] == Status.STATIONARY
    leaves = {
        n: torch.from_numpy(p).requires_grad_() for n, p in runs.parameters.items()
    }
    problem.losses(leaves, torch.arange(1), 0).sum().backward()
    first = problem.fused(problem.points([0], 0), torch.arange(1), 0)[1]
    for name in ("noise", "scales", "factors", "spreads", "column_rates"):
        least = 0.02 * first[name].abs().max()
        assert leaves[name].grad.abs().max() < least, name
    for name in ("mean", "row_rates", "weights", "row_gains", "column_gains"):
        assert leaves[name].grad.abs().max() < 1e-3, name


def test_other_steps_descend_it_too():
    problem = BothSides(stored(*planted(30, 20)), 1)
    runs = descend(problem, 1, steps=Adam(0.03), stop=Stop(50), record=[0])
    best = descend(problem, 1, steps=CoordinateAscent(), stop=Stop(500, 1e-5))
    assert runs.losses[0] < runs.histories["loss"][0, 0] - 0.05
    assert best.losses[0] < runs.losses[0] + 1e-3


class Blank(NamedTuple):
    """No features of rows and columns."""

    rows: torch.Tensor
    columns: torch.Tensor
    count: int = 0

    def of_blank(self):
        return self.rows[:1], self.columns[:1]


def log_evidence(problem: BothSides, one: Sides, draws: int, seed: int) -> float:
    """Return log p(x) of a table without features, by sampling columns from q.

    Given z, rho and kappa, rows are Gaussian: they are integrated out exactly.
    """
    rng = np.random.default_rng(seed)
    one = Sides(*(part.numpy() for part in one))
    rank, scales = len(one.scales) - 2, one.scales
    n, d, q = problem.rows, problem.columns, rank + 1
    cells, there = problem.cells.toarray(), problem.cells.astype(bool).toarray()
    half = np.exp(one.degrees) / 2
    # Wider than q, with tails as heavy as those of the prior.
    z = one.factors + 1.3 * np.einsum(
        "jab,sjb->sja", one.spreads, rng.normal(size=(draws, d, q))
    )
    logs = -(z**2).sum((1, 2)) / 2 - d * q / 2 * np.log(2 * np.pi)
    spreads = 1.3 * one.spreads
    raw = np.linalg.solve(spreads, (z - one.factors)[..., None])[..., 0]
    logs += (raw**2).sum((1, 2)) / 2 + d * q / 2 * np.log(2 * np.pi)
    logs += np.log(np.abs(np.diagonal(spreads, axis1=1, axis2=2))).sum()
    precisions = []
    for side, rates in enumerate((one.row_rates, one.column_rates)):
        shape, rate = half[side] + there.sum(1 - side) / 2, np.exp(rates)
        drawn = rng.gamma(shape, 1 / rate, size=(draws, len(rate)))
        precisions.append(drawn)
        for s, r, sign in ((half[side], half[side], 1), (shape, rate, -1)):
            density = s * np.log(r) - gammaln(s) + (s - 1) * np.log(drawn) - r * drawn
            logs += sign * density.sum(1)
    C = np.concatenate(
        [scales[:rank] * z[:, :, :rank], np.full((draws, d, 1), scales[rank])], 2
    )
    base = one.mean[0] + scales[rank + 1] * z[:, :, rank]
    for i in range(n):
        o = np.flatnonzero(there[i])
        if not len(o):
            continue
        part = C[:, o]
        noise = np.exp(one.noise[0]) / (precisions[0][:, [i]] * precisions[1][:, o])
        covariance = part @ np.swapaxes(part, 1, 2)
        covariance[:, range(len(o)), range(len(o))] += noise
        off = cells[i, o] - base[:, o]
        solved = np.linalg.solve(covariance, off[..., None])[..., 0]
        logs -= (off * solved).sum(1) / 2 + np.linalg.slogdet(covariance)[1] / 2
        logs -= len(o) / 2 * np.log(2 * np.pi)
    return float(logsumexp(logs) - np.log(draws))


def test_the_bound_is_below_the_evidence_of_a_small_table():
    problem = BothSides(stored(*planted(8, 4, rank=1, noise=0.5, share=0.8, seed=3)), 1)
    problem.sightings = Blank(torch.zeros(8, 0).double(), torch.zeros(4, 0).double())
    point = problem.points([0], 0)
    point["degrees"] += 1.0
    steps = CoordinateAscent()
    bound = problem.bind(torch.arange(1))
    state = steps.init(bound, point)
    for step in range(8):  # before components are removed
        update = steps.update(bound, point, state, step)
        point, state = update.parameters, update.state
    one = each(point)[0]
    assert one.scales[0] > 0.1
    bound = -float(problem.losses(point, torch.arange(1), 0)) * problem.count
    found = [log_evidence(problem, one, 40_000, seed) for seed in range(3)]
    # Estimates agree, the bound is below them, and not by far.
    assert np.ptp(found) < 0.3
    assert bound < min(found)
    assert bound > max(found) - 8


@pytest.mark.parametrize("rank", [0, 3])
def test_the_planted_rank_is_found_and_cells_are_predicted(rank):
    values, there = planted(120, 60, rank=rank, noise=0.3, share=0.5, seed=rank)
    model = fit_ratings(stored(values, there), 8)
    assert model.ranks.tolist() == [rank]
    i, j = np.nonzero(~there)
    cells = model.predicted(i, j)
    off = values[i, j] - cells.values
    assert np.sqrt(np.mean(off**2)) < 0.37  # of noise alone 0.3
    assert 0.87 < np.mean(np.abs(off) < 1.645 * cells.deviations) < 0.93


@pytest.mark.parametrize(("unit", "zero"), [(1000.0, -7.0), (1e200, 0.0)])
def test_units_change_nothing_but_units(unit, zero):
    values, there = planted()
    model = fit_ratings(stored(values, there), 4)
    other = fit_ratings(stored(unit * values + zero, there), 4)
    np.testing.assert_allclose(other.runs.losses, model.runs.losses, rtol=0, atol=1e-9)
    i, j = np.nonzero(~there)
    one, two = model.predicted(i, j), other.predicted(i, j)
    np.testing.assert_allclose(two.values, unit * one.values + zero, rtol=1e-6)
    np.testing.assert_allclose(two.deviations, unit * one.deviations, rtol=1e-6)


def test_the_order_of_rows_and_columns_changes_nothing():
    values, there = planted(60, 50)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(60), rng.permutation(50)
    one = BothSides(stored(values, there), 4)
    two = BothSides(stored(values[rows][:, columns], there[rows][:, columns]), 4)
    point = one.point(np.random.default_rng(5), 0)
    moved = {**point, "factors": point["factors"][columns]}
    moved["row_rates"] = point["row_rates"][rows]
    moved["column_rates"] = point["column_rates"][columns]
    predictions = []
    for problem, begin in ((one, point), (two, moved)):
        problem.point = lambda generator, start, begin=begin: begin
        runs = descend(problem, 1, steps=CoordinateAscent(), stop=Stop(50))
        i, j = np.indices(values.shape).reshape(2, -1)
        found = RatingsModel(problem, runs).predicted(i, j).values
        predictions.append(found.reshape(values.shape))
    np.testing.assert_allclose(
        predictions[1], predictions[0][rows][:, columns], atol=1e-6
    )


def test_new_rows_are_predicted_as_the_same_rows_in_the_fit():
    values, there = planted(200, 40, rank=2, share=0.5)
    table = stored(values, there)
    model = fit_ratings(table, 4)
    i, j = np.nonzero(~there)
    fitted, new = model.predicted(i, j), model.predicted_new(table, i, j)
    np.testing.assert_allclose(new.values, fitted.values, atol=0.02)
    np.testing.assert_allclose(new.deviations, fitted.deviations, rtol=0.05)
    # Rows that the fit has not seen, and one without any cell.
    some = stored(values[:150], there[:150])
    model = fit_ratings(some, 4)
    fresh = np.where(np.arange(200)[:, None] == 199, False, there)
    later = stored(values, fresh)
    late = i >= 150
    late &= i < 199
    cells = model.predicted_new(later, i[late], j[late])
    off = values[i[late], j[late]] - cells.values
    assert np.sqrt(np.mean(off**2)) < 0.4
    assert 0.85 < np.mean(np.abs(off) < 1.645 * cells.deviations) < 0.95
    empty = model.predicted_new(later, [199], [0])
    assert empty.deviations[0] > 2 * cells.deviations.mean()


def test_noisy_rows_have_wider_intervals():
    values, there = planted(120, 60, rank=1, noise=0.1)
    rng = np.random.default_rng(2)
    values[:20] += rng.normal(size=(20, 60))
    model = fit_ratings(stored(values, there), 3)
    i, j = np.nonzero(~there)
    deviations = model.predicted(i, j).deviations
    assert deviations[i < 20].mean() > 4 * deviations[i >= 20].mean()


def test_who_is_seen_where_tells_of_ratings():
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(200, 1)), rng.normal(size=80)
    values = u * v + 0.5 * rng.normal(size=(200, 80))
    # Rows with positive factors see rather the first columns, whatever their values.
    first = np.arange(80) < 40
    there = rng.random(values.shape) < 0.02 + 0.1 * ((u > 0) == first)
    informed = fit_ratings(stored(values, there), 3)
    assert (informed.runs.parameters["row_gains"] > 0).any()
    i, j = np.indices(values.shape).reshape(2, -1)
    off = (u * v)[i, j] - informed.predicted(i, j).values
    blind = BothSides(stored(values, there), 3)
    blind.sightings = Blank(torch.zeros(200, 0).double(), torch.zeros(80, 0).double())
    found = descend(blind, steps=CoordinateAscent(), stop=Stop(200, 1e-2))
    other = (u * v)[i, j] - RatingsModel(blind, found).predicted(i, j).values
    assert np.mean(off**2) < 0.9 * np.mean(other**2)


def test_features_are_orthogonal_and_those_of_the_same_rows():
    _, there = planted(70, 50)
    pattern = sparse.csr_array(there.astype(float))
    found = sightings(pattern)
    for part in (found.rows, found.columns):
        gram = (part.T @ part / len(part)).numpy()
        np.testing.assert_allclose(gram, np.eye(found.count), atol=1e-10)
    np.testing.assert_allclose(found.of_rows(pattern), found.rows, atol=1e-10)
    # The dense decomposition has the same vectors, up to sign.
    counts = there.sum(1), there.sum(0)
    scaled = there / np.sqrt(np.outer(*(c + c.mean() for c in counts)))
    u, _, _ = np.linalg.svd(scaled)
    kept = u[:, : found.count - 2]
    span = np.column_stack([np.ones(70), np.log1p(counts[0]), kept])
    rest = found.rows.numpy() - span @ np.linalg.lstsq(span, found.rows.numpy())[0]
    np.testing.assert_allclose(rest, 0, atol=1e-5)  # single precision


def test_gains_are_the_best():
    rng = np.random.default_rng(0)
    n, q = 50, 3
    F = np.linalg.qr(rng.normal(size=(n, 4)))[0] * np.sqrt(n)
    w = rng.normal(size=(n, q)) + F[:, :1] * [1.0, 0.5, -1.0]

    def evidence(gain, k):  # of the columns of w, by their dense covariance
        covariance = np.eye(n) + gain**2 * np.outer(F[:, k], F[:, k])
        inside = np.trace(w.T @ np.linalg.solve(covariance, w))
        return -(q * np.linalg.slogdet(covariance)[1] + inside) / 2

    gains, _ = best_gains(torch.from_numpy(F.T @ w), n)
    for k, gain in enumerate(gains.tolist()):
        others = gain + np.array([-0.05, -0.01, 0.01, 0.05])
        assert all(evidence(gain, k) >= evidence(other, k) for other in others)
    assert gains[0] > 0.3


def test_removed_components_are_not_part_of_the_model():
    problem = BothSides(stored(*planted()), 3)
    point = shaken(problem, starts=(0,))
    point["scales"][0, 1] = 0.0
    fewer = narrowed(each(point)[0])
    smaller = BothSides(stored(*planted()), 2)
    other = {n: getattr(fewer, n)[None] for n in Sides._fields}
    ones = torch.arange(1)
    np.testing.assert_allclose(
        problem.losses(point, ones, 0), smaller.losses(other, ones, 0), atol=1e-12
    )


def test_blocks_of_rows_change_only_rounding(monkeypatch):
    problem = BothSides(stored(*planted()), 2)
    point = shaken(problem)
    whole = problem.fused(point, torch.arange(2), 0)
    monkeypatch.setattr("descents.marginal.both_rows.BLOCK_ENTRIES", 70)
    parts = problem.fused(point, torch.arange(2), 0)
    np.testing.assert_allclose(parts[0], whole[0], atol=1e-13)
    for name in whole[1]:
        np.testing.assert_allclose(parts[1][name], whole[1][name], atol=1e-12)


def test_tables_without_anything_to_learn_are_fitted():
    for table in (
        sparse.coo_array(([2.0], ([0], [0])), shape=(1, 1)),
        sparse.coo_array(np.full((8, 5), 2.0)),
    ):
        cells = fit_ratings(table).predicted([0], [0])
        np.testing.assert_allclose(cells.values, 2.0, atol=1e-6)
        assert cells.deviations[0] < 1e-3


def test_wrong_tables_and_places_are_refused():
    values, there = planted()
    with pytest.raises(InvalidValueError, match="sparse"):
        fit_ratings(values)
    bad = stored(np.where(values == values[there][0], np.inf, values), there)
    with pytest.raises(InvalidValueError, match="finite"):
        fit_ratings(bad)
    with pytest.raises(InvalidValueError, match="0 stored"):
        fit_ratings(sparse.coo_array((5, 4)))
    model = fit_ratings(stored(values, there), 1)
    with pytest.raises(InvalidValueError, match="columns go from 0 to 40"):
        model.predicted([0, 1], [0, 40])
    with pytest.raises(InvalidValueError, match="2 rows and 1 columns"):
        model.predicted([0, 1], [0])
    with pytest.raises(InvalidValueError, match="40 columns"):
        model.predicted_new(sparse.coo_array((5, 4)), [0], [0])
    assert len(model.predicted([], []).values) == 0


def test_sums_in_single_precision_agree_with_double():
    problem = BothSides(stored(*planted(200, 60)), 3)
    one = each(problem.points([0], 0))[0]
    exact = problem.sums(one, renew=True)
    rounded = problem.sums(one, renew=True, single=True)
    for name in ("loss", "second", "along", "squares", "gram", "row_rates"):
        x, y = getattr(exact, name), getattr(rounded, name)
        assert (x - y).abs().max() < 1e-5 * x.abs().max(), name
        assert x.dtype == y.dtype == torch.float64


@pytest.mark.parametrize("noise", [1e-5, 0.3])
def test_fits_in_single_precision_predict_the_same(noise):
    values, there = planted(150, 60, noise=noise)
    problem = BothSides(stored(values, there), 4)
    i, j = np.nonzero(~there)
    found = []
    for single in (False, True):
        steps = CoordinateAscent(single=single)
        runs = descend(problem, steps=steps, stop=Stop(200, 1e-3))
        found.append(RatingsModel(problem, runs).predicted(i, j))
    assert np.abs(found[0].values - found[1].values).max() < 0.02 * noise
    np.testing.assert_allclose(found[1].deviations, found[0].deviations, rtol=0.01)
    # What is predicted of exact tables is not left at single precision.
    assert np.sqrt(np.mean((found[1].values - values[i, j]) ** 2)) < 2 * noise


def test_degrees_are_the_best_for_the_means():
    counts = torch.tensor([0.0, 3.0, 3.0, 40.0]).double()
    means = torch.tensor([1.0, 0.5, 1.2, 1.3]).double()

    def loss(logarithm):  # of the terms of the bound in which degrees are
        half = np.exp(logarithm) / 2
        shapes = half + counts / 2
        gamma = Gamma(shapes, shapes / means)
        kl = gamma.divergence(torch.tensor(half).double()).sum()
        return float(kl - gamma.log_mean @ counts / 2)

    best = float(best_degrees(counts, means, np.log(10.0)))
    grid = np.linspace(np.log(0.5), np.log(1e4), 400)
    assert loss(best) < min(loss(other) for other in grid) + 1e-4


def test_a_step_does_not_leave_the_noise_at_a_wrong_level():
    # Where rows and columns are equally noisy, no step may explain the noise by them.
    values, there = planted(400, 100, noise=0.1, share=0.5)
    problem = BothSides(stored(values, there), 2)
    runs = descend(problem, steps=CoordinateAscent(), stop=Stop(15))
    assert abs(np.exp(runs.parameters["noise"][0, 0] / 2) * problem.unit - 0.1) < 0.005
    for precision in problem.precisions(
        each({n: torch.from_numpy(p) for n, p in runs.parameters.items()})[0]
    ):
        assert abs(float(precision.mean.mean()) - 1) < 0.01


def test_it_stops_by_nats_per_cell_wherever_the_loss_has_its_zero():
    # Units of noise change the loss by a constant, and with it the share that is left.
    taken = []
    for noise in (0.1, 0.35, 0.6):
        problem = BothSides(stored(*planted(300, 80, noise=noise)), 3)
        steps = CoordinateAscent(gradients=False)
        runs = descend(
            problem, steps=steps, stop=Stop(300, 0.03), record=range(0, 301, 10)
        )
        assert runs.statuses[0] == Status.STATIONARY
        further = descend(problem, steps=steps, stop=Stop(400, 1e-4))
        assert runs.losses[0] - further.losses[0] < 2e-3
        taken.append(int(runs.steps_taken[0]))
    assert max(taken) <= 40


def test_gradients_are_left_out_on_request():
    problem = BothSides(stored(*planted()), 1)
    steps = CoordinateAscent(gradients=False)
    runs = descend(problem, steps=steps, stop=Stop(7))
    other = descend(problem, steps=CoordinateAscent(), stop=Stop(7))
    assert np.isnan(runs.gradient_norms[0])
    assert other.gradient_norms[0] > 0
    assert runs.losses[0] == other.losses[0]
