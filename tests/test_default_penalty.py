"""The penalty that the noise of a table implies: against closed forms, loops and means."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from conftest import some
from descents import Factorization, LowRankModel, TableOnDisk
from descents.cells.observed import cells
from descents.lowrank import noise
from descents.lowrank.noise import Noise, implied
from descents.lowrank.noise_sweeps import Sweeps
from descents.tables.datasets import planted_table

IDENTITY: tuple[tuple[str, str | None], ...] = (
    ("squared", None),
    ("absolute", None),
    ("huber", None),
    ("quantile:0.5", None),
    ("squared", "nonnegative"),
    ("kl", "nonnegative"),
    ("itakura_saito", "nonnegative"),
    ("beta:0.5", "nonnegative"),
    ("beta:1.5", "nonnegative"),
)


def holed(table: np.ndarray, share: float = 0.2, seed: int = 0) -> np.ndarray:
    hidden = np.random.default_rng([seed, 1]).random(table.shape) < share
    hidden[np.arange(len(table)), np.arange(len(table)) % table.shape[1]] = False
    return np.where(hidden, np.nan, table)


def noisy(rows: int = 300, columns: int = 8, sigma: float = 0.4) -> np.ndarray:
    return holed(planted_table(rows, columns, 2, noise=sigma, seed=3)[0])


def test_of_a_complete_table_it_is_the_shrinkage_of_the_marginal_model() -> None:
    """s m / d, with the variance of the noise that Tipping and Bishop's likelihood has."""
    table = planted_table(5000, 10, 3, noise=0.7, seed=0)[0]
    table -= table.mean(0)
    sweeps = Sweeps(table, np.ones(table.shape), 3, biased=True)
    share, l2 = sweeps.ended()
    values = np.linalg.svd(table, compute_uv=False)
    likely = np.square(values[3:]).mean() / len(table)
    assert share * np.square(table).mean() == pytest.approx(likely, rel=0.005)
    each = np.sort(sweeps.penalties())[::-1] * sweeps.unit
    np.testing.assert_allclose(each, likely * 5000 / values[:3][::-1], rtol=0.01)
    assert l2 == pytest.approx(each.max(), rel=1e-4)


def by_a_loop(
    table: np.ndarray, weights: np.ndarray, U: np.ndarray, V: np.ndarray, sweeps: int
) -> tuple[float, np.ndarray]:
    """Return noise and penalties after some sweeps, cell by cell, without offsets."""
    (m, n), r = table.shape, U.shape[1]
    C, D = np.zeros((m, r, r)), np.zeros((n, r, r))
    a, b = np.ones(r), np.ones(r)
    count = (weights > 0).sum()
    s = (weights * table**2).sum() / count / 2
    for _ in range(sweeps):
        added: list[list[np.ndarray]] = [[], []]
        for i in range(m):
            plus = sum(weights[i, j] * D[j] for j in range(n)) + s * np.diag(1 / a)
            gram = sum(weights[i, j] * np.outer(V[j], V[j]) for j in range(n)) + plus
            right = sum(weights[i, j] * table[i, j] * V[j] for j in range(n))
            U[i], C[i] = np.linalg.solve(gram, right), s * np.linalg.inv(gram)
            added[0].append(np.diag(plus))
        for j in range(n):
            plus = sum(weights[i, j] * C[i] for i in range(m)) + s * np.diag(1 / b)
            gram = sum(weights[i, j] * np.outer(U[i], U[i]) for i in range(m)) + plus
            right = sum(weights[i, j] * table[i, j] * U[i] for i in range(m))
            V[j], D[j] = np.linalg.solve(gram, right), s * np.linalg.inv(gram)
            added[1].append(np.diag(plus))
        A = (U.T @ U + C.sum(0)) / m
        B = (V.T @ V + D.sum(0)) / n
        a_values, Q = np.linalg.eigh(A)
        half = Q * np.sqrt(a_values)
        b, P = np.linalg.eigh(half.T @ B @ half)
        T, W = (Q / np.sqrt(a_values)) @ P, half @ P
        U, V, a = U @ T, V @ W, np.ones(r)
        C, D = (np.array([G.T @ x @ G for x in X]) for G, X in ((T, C), (W, D)))
        left = 0.0
        for i in range(m):
            for j in range(n):
                off = (table[i, j] - U[i] @ V[j]) ** 2
                off += np.trace(C[i] @ D[j]) + V[j] @ C[i] @ V[j] + U[i] @ D[j] @ U[i]
                left += weights[i, j] * off
        s = left / count
    p, q = (np.mean(part, axis=0) for part in added)
    return s, np.sqrt(p * q)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_sweeps_are_those_of_a_plain_loop(sparse: bool) -> None:
    table = noisy(12, 6)
    generator = np.random.default_rng(0)
    weights = np.where(np.isnan(table), 0, generator.uniform(0.5, 2, table.shape))
    weights /= weights[weights > 0].mean()  # as the sweeps have them
    table = np.where(weights > 0, table, 0)
    given: Any = (table, weights)
    if sparse:
        given = tuple(scipy.sparse.csr_array(part) for part in given)
    sweeps = Sweeps(*given, 2, biased=False)
    unit = sweeps.unit
    expected = by_a_loop(table / unit, weights, sweeps.U.copy(), sweeps.V.copy(), 4)
    for _ in range(4):
        sweeps.sweep()
    assert sweeps.noise == pytest.approx(expected[0], rel=1e-9)
    np.testing.assert_allclose(sweeps.penalties(), expected[1], rtol=1e-9)


def test_rows_of_few_cells_shrink_as_in_the_marginal_model() -> None:
    """Against conditional means under the planted covariance."""
    generator = np.random.default_rng(0)
    V = generator.normal(size=(8, 2))
    table = generator.normal(size=(3000, 2)) @ V.T + 0.7 * generator.normal(
        size=(3000, 8)
    )
    hidden = generator.random(table.shape) < 0.2
    hidden[:300] = True
    hidden[np.arange(300), np.arange(300) % 8] = False  # one cell each
    given = np.where(hidden, np.nan, table)
    covariance = V @ V.T + 0.49 * np.eye(8)
    best = np.zeros(table.shape)
    for i in range(3000):
        o = ~hidden[i]
        if o.any():
            known = np.linalg.solve(covariance[np.ix_(o, o)], table[i, o])
            best[i] = covariance[:, o] @ known
    filled = LowRankModel(2, random_state=0).fit(given).impute(given)
    for rows in (slice(0, 300), slice(300, None)):
        here = hidden[rows]
        errors = [
            np.sqrt(np.square((f - table)[rows][here]).mean()) for f in (filled, best)
        ]
        assert errors[0] < 1.05 * errors[1]


@pytest.mark.parametrize(("loss", "constraint"), IDENTITY)
@pytest.mark.sampled(4)
def test_no_loss_runs_away_by_default(loss: str, constraint: str | None) -> None:
    """Rows of one cell are within the range, and hidden cells better than by means."""
    generator = np.random.default_rng(0)
    table = generator.gamma(2, 1, (200, 2)) @ generator.gamma(2, 1, (2, 10))
    table *= generator.gamma(8, 1 / 8, table.shape)
    hidden = generator.random(table.shape) < 0.3
    hidden[:20] = True
    hidden[np.arange(20), generator.integers(0, 10, 20)] = False
    given = np.where(hidden, np.nan, table)
    settings: dict[str, Any] = {"loss": loss, "constraint": constraint, "max_iter": 300}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LowRankModel(3, random_state=0, held_out=0, **settings).fit(given)
        free = LowRankModel(3, random_state=0, held_out=0, penalty=0, **settings)
        free.fit(given)
        fills = [one.impute(given) for one in (model, free)]
    mean = np.nanmean(given, 0)
    errors = [
        np.sqrt(np.square((f - table) / table.std(0))[hidden].mean())
        for f in (*fills, np.tile(mean, (200, 1)))
    ]
    assert model.noise_.l2 > 0
    assert free.noise_ is None
    assert errors[0] < errors[2]
    assert errors[0] < errors[1]
    assert model.fitted_.far is None


def test_it_is_told_from_an_explicit_zero_and_not_for_complete_tables() -> None:
    table = noisy()
    for penalty in (0, 0.0, {"l2": 0}, {"l2_rows": 0.0}):
        model = LowRankModel(
            2, penalty=penalty, random_state=0, max_iter=20, held_out=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(table)
        assert model.noise_ is None
        assert model.fitted_.penalty["l2_rows"] == 0
    complete = planted_table(60, 8, 2, noise=0.4)[0] * np.geomspace(1, 100, 8)
    weights = np.random.default_rng(0).uniform(1, 2, complete.shape)
    for given in (None, weights):
        by_default = LowRankModel(2, random_state=0).fit(complete, weights=given)
        without = LowRankModel(2, random_state=0, penalty=0)
        without.fit(complete, weights=given)
        assert by_default.noise_ is None
        assert by_default.scales_ is None
        assert by_default.judged_ is None
        for name, value in without.runs_.parameters.items():
            np.testing.assert_array_equal(by_default.runs_.parameters[name], value)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_without_noise_there_is_no_penalty(rank: int) -> None:
    clean = planted_table(50, 12, rank, seed=rank)[0]
    model = LowRankModel(rank, random_state=0).fit(holed(clean, 0.25))
    assert model.noise_ == Noise(0.0, 0.0)
    np.testing.assert_allclose(model.impute(holed(clean, 0.25)), clean, atol=1e-6)
    assert model.noise_.says == "no penalty, as there is no noise to speak of"


def test_it_vanishes_with_the_noise_and_follows_the_units() -> None:
    found = [implied(Factorization(noisy(sigma=s), 2)).l2 for s in (0.4, 0.04, 0.004)]
    np.testing.assert_allclose(found[1:], np.array(found[:-1]) / 100, rtol=0.15)
    table = noisy()
    for unit in (1e-100, 1e3, 1e100):
        other = implied(Factorization(table * unit, 2, offsets="columns"))
        first = implied(Factorization(table, 2, offsets="columns"))
        assert other.l2 == pytest.approx(first.l2 * unit, rel=1e-9)
        assert other.share == pytest.approx(first.share, rel=1e-9)


def test_of_noise_alone_means_are_left() -> None:
    table = holed(np.random.default_rng(0).normal(size=(200, 6)))
    model = LowRankModel(2, random_state=0).fit(table)
    with pytest.warns(UserWarning, match="held-out cells|filled with the mean"):
        filled = model.impute(table)
    mean = np.broadcast_to(np.nanmean(table, 0), table.shape)
    np.testing.assert_allclose(
        filled[np.isnan(table)], mean[np.isnan(table)], atol=1e-6
    )


def test_sparse_tables_and_those_on_disk_imply_the_same(tmp_path: Any) -> None:
    table = noisy()
    dense = LowRankModel(2, random_state=0).fit(table)
    i, j = np.nonzero(~np.isnan(table))
    stored = scipy.sparse.csr_array((table[i, j], (i, j)), shape=table.shape)
    sparse = LowRankModel(2, random_state=0).fit(stored)
    np.save(tmp_path / "t.npy", table)
    disk = LowRankModel(2, random_state=0).fit(TableOnDisk(tmp_path / "t.npy", "8MB"))
    for other in (sparse, disk):
        assert other.noise_.l2 == pytest.approx(dense.noise_.l2, rel=1e-9)
        assert other.loss_ == pytest.approx(dense.loss_, rel=1e-6)


def test_a_sample_of_a_long_side_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (noisy(3000, 8), noisy(3000, 8).T.copy()):
        whole = implied(Factorization(table, 2))
        monkeypatch.setattr(noise, "MOST_NUMBERS", 1000)
        monkeypatch.setattr(noise, "LEAST_ROWS", 1000)
        some = implied(Factorization(table, 2))
        monkeypatch.undo()
        assert some.l2 != whole.l2
        assert some.l2 == pytest.approx(whole.l2, rel=0.1)


def test_a_rank_is_chosen_under_the_penalty_of_each() -> None:
    table = noisy(120, 10, 0.5)
    auto = LowRankModel([1, 2, 3], random_state=0, cv=3).fit(table)
    found = cells(table)
    for k, rank in enumerate((1, 2, 3)):
        l2 = implied(Factorization(found, rank, offsets="columns")).l2
        one = LowRankModel([rank], penalty=l2, random_state=0, cv=3, held_out=0)
        one.initialization = "spectral"
        one.fit(table)
        np.testing.assert_allclose(
            one.selection_.losses[0], auto.selection_.losses[k], rtol=1e-6
        )
    assert auto.n_components_ == 2
    assert auto.noise_.l2 == pytest.approx(
        implied(Factorization(found, 2, offsets="columns")).l2
    )


def test_sets_and_functions_of_the_users_have_none() -> None:
    table = np.abs(noisy(40, 6))
    for settings in (
        {"constraint": ("simplex", "nonnegative")},
        {"constraint": ("one_hot", None)},
        {"loss": lambda z, x: (z - x).square(), "max_iter": 50},
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LowRankModel(2, random_state=0, held_out=0, **settings).fit(table)
        assert model.noise_ is None
        assert not model.fitted_.penalized


# Scales


@pytest.mark.parametrize(
    ("ratio", "missing", "scaled"),
    [(9.0, True, False), (12.0, True, True), (1e6, False, False)],
)
def test_scales_are_decided_by_the_data(ratio, missing, scaled) -> None:
    table = planted_table(80, 6, 2, noise=0.3)[0]
    table /= table.std(0)
    table[:, 2] *= ratio
    if missing:
        table = holed(table, 0.05)
        table /= np.nanstd(table, 0) * [1, 1, 1 / ratio, 1, 1, 1]
    found = [
        LowRankModel(2, random_state=0, held_out=0).fit(given)
        for given in (table, pd.DataFrame(table), np.ma.masked_invalid(table))
    ]
    for model in found:
        assert (model.scales_ is not None) == scaled
        np.testing.assert_array_equal(model.components_, found[0].components_)
    if scaled:
        assert found[0].scales_ == (
            "cells are missing and the spreads of columns differ by a factor of 12"
        )
        alike = LowRankModel(2, scales=True, random_state=0, held_out=0).fit(table)
        np.testing.assert_array_equal(alike.components_, found[0].components_)
        plain = LowRankModel(2, scales=False, random_state=0, held_out=0).fit(table)
        assert plain.scales_ is None
        assert plain.fitted_.problem.cells.units is None


@pytest.mark.parametrize(
    ("constraint", "scaled"),
    [
        (("simplex", "nonnegative"), True),
        ((None, "unit_norm"), True),
        (("nonnegative", "simplex"), False),
        (("nonnegative", "one_hot"), False),
        (("simplex", "one_hot"), False),
    ],
)
def test_no_scales_where_columns_are_mixtures_or_copies(constraint, scaled) -> None:
    """In other units, columns would be mixtures of other profiles."""
    rng = np.random.default_rng(3)
    profiles, shares = rng.gamma(1, 1, (40, 3)), rng.dirichlet(np.ones(3), 6)
    table = holed(profiles @ shares.T * [1, 1, 1, 1, 1, 40], 0.05)
    model = LowRankModel(
        3, constraint=constraint, max_iter=5, random_state=0, held_out=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (model.fit(table).scales_ is not None) == scaled


@pytest.mark.parametrize("penalty", [None, 0.2])
def test_offsets_of_ordistic_loss_are_penalized_like_factors(penalty) -> None:
    """With free offsets they grow without end, and the penalty has no effect.

    With an offset b, the exponent -(b + z)^2 changes with z by -2 b z. The loss of a
    table of 14 rows fell from 22 to 1.2 in this way, with offsets of 10^8.
    """
    rng = np.random.default_rng(2)
    latent = rng.normal(size=(14, 2)) @ rng.normal(size=(2, 7))
    table = (latent > -0.7) * 1.0 + (latent > 0.7)
    model = LowRankModel(
        3, loss="ordistic", penalty=penalty, n_starts=3, max_iter=3000, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(table)
    given = model.fitted_.penalty
    assert given["l2_biases"] == given["l2_columns"] == (penalty or 0.1 * 14**0.5)
    U, V, offsets = (model.runs_.parameters[n] for n in ("U", "V", "offsets"))
    squares = [np.square(each).sum((1, 2)) for each in (U, V)]
    moved = np.square(offsets).sum(1) * given["l2_biases"]
    assert (moved + given["l2_rows"] * sum(squares) < model.runs_.losses).all()
    assert np.abs(offsets).max() < 5
    only = LowRankModel(2, loss="ordistic", penalty={"l2": 0.2}, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert only.fit(table).fitted_.penalty["l2_biases"] == 0


def test_a_constant_column_has_no_spread_to_compare() -> None:
    table = noisy(60, 6)
    table[:, 5] = 1e9
    assert LowRankModel(2, random_state=0, held_out=0).fit(table).scales_ is None


def test_squared_and_robust_losses_choose_a_rank_together() -> None:
    losses = ["squared"] * 4 + ["absolute"] * 4
    model = LowRankModel([1, 2], loss=losses, cv=2, random_state=0, held_out=0)
    assert model.fit(noisy(60, 8)).n_components_ in (1, 2)


@pytest.mark.parametrize(
    "table",
    [
        np.array([[1.0, np.nan, 2.0, 5.0]]),
        np.array([[1.0], [np.nan], [3.0]]),
        np.array([[np.nan, 4.0], [3.0, np.nan]]),
        holed(np.ones((20, 5)) * np.arange(5)),
        holed(np.zeros((9, 4))),
        noisy(5, 60),
    ],
)
def test_small_flat_and_wide_tables(table: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LowRankModel(1, random_state=0).fit(table)
        filled = model.impute(table)
    assert np.isfinite(filled).all()
    low, high = np.nanmin(table), np.nanmax(table)
    assert (filled >= low - (high - low)).all()
    assert (filled <= high + (high - low)).all()


# Losses whose slopes bend


@pytest.mark.parametrize("loss", ["absolute", "huber", "huber:1"])
@pytest.mark.parametrize("seed", some(range(3), 1))
@pytest.mark.sampled(1)
def test_a_table_without_noise_comes_back_under_bent_losses(loss, seed) -> None:
    """Around the constants, what bends far from them would pass for noise."""
    clean = planted_table(60, 12, 2, seed=seed)[0]
    table = holed(clean, seed=seed)
    # Without noise, the width that huber chooses is tiny, and its steps converge slowly.
    most = 6000 if loss == "huber" else 2000
    model = LowRankModel(
        2, loss=loss, n_starts=3, random_state=0, held_out=0, max_iter=most
    )
    model.fit(table)
    assert model.noise_.share < 1e-9
    assert np.abs(model.impute(table) - clean).max() < 1e-5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(3))
def test_angles_without_noise_imply_no_penalty_and_no_scales(seed) -> None:
    """A spread on the circle is no unit; there are minima, so starts may miss the best."""
    clean = planted_table(60, 12, 2, seed=seed)[0] + np.linspace(0, 24, 12)
    table = holed(np.mod(clean, 24), seed=seed)
    spreads = np.nanstd(table, 0)
    assert spreads.max() > 10 * spreads.min()
    model = LowRankModel(
        2, loss="periodic:24", n_starts=2, max_iter=20, random_state=0, held_out=0
    ).fit(table)
    assert model.noise_.l2 == 0
    assert model.scales_ is None


@pytest.mark.parametrize("loss", ["squared", "kl"])
@pytest.mark.parametrize("seed", range(4))
def test_no_component_of_a_table_without_noise_vanishes(loss, seed) -> None:
    """Sweeps that begin with much noise leave out the weakest part of some of these."""
    draw = np.random.default_rng(7)
    W, H = np.zeros((60, 6)), np.zeros((6, 30))
    W[np.arange(60), draw.integers(0, 6, 60)] = draw.gamma(2, 1, 60)
    H[draw.integers(0, 6, 30), np.arange(30)] = draw.gamma(2, 1, 30)
    table = W @ H
    table[np.random.default_rng(seed).random(table.shape) < 0.2] = np.nan
    found = cells(table, loss)
    problem = Factorization(found, 6, constraint="nonnegative")
    assert noise.implied(problem).l2 == 0


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_weights_of_any_size_imply_as_much(size) -> None:
    table = noisy()
    found = [
        noise.implied(
            Factorization(
                cells(table, weights=np.full(table.shape, one)), 2, offsets="columns"
            )
        )
        for one in (1.0, size)
    ]
    assert found[1].share == pytest.approx(found[0].share, rel=1e-6)
    assert found[1].l2 == pytest.approx(found[0].l2 * size, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "times"), [("absolute", np.pi / 2), ("periodic:100", 1.0)]
)
def test_noise_under_bent_losses_is_that_of_their_estimates(loss, times) -> None:
    """Of normal noise a median has pi / 2 times the variance of a mean."""
    table = noisy(5000, 10, 0.6)
    squared, bent = (
        implied(Factorization(cells(table, one), 2, offsets="columns"))
        for one in ("squared", loss)
    )
    assert bent.share == pytest.approx(times * squared.share, rel=0.1)
