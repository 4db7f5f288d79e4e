"""Sparse ratings by an estimator: cells against brute force, plain loops and draws."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import descents
from descents import LowRankRatings
from descents.errors import InvalidValueError, RunFolderError
from descents.marginal.both_parameters import Sides, each, narrowed
from rating_tables import planted, stored


@pytest.fixture(scope="module")
def fitted():
    values, there = planted(150, 60, noise=0.5, share=0.3)
    return LowRankRatings(random_state=0).fit(stored(values, there)), values, there


@parametrize_with_checks([LowRankRatings(4, max_iter=40, random_state=0)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def test_cells_are_predicted_as_draws_of_all_that_is_unknown_say(fitted):
    model, _, there = fitted
    problem = model.fitted_.problem
    parameters = model.runs_.parameters
    one = each({n: torch.from_numpy(parameters[n]) for n in Sides._fields})[0]
    rho, kappa = (part.mean.numpy() for part in problem.precisions(one))
    prior = problem.row_prior(narrowed(one)).numpy()
    one = Sides(*(part.numpy() for part in narrowed(one)))
    rank, scales = len(one.scales) - 2, one.scales
    own = [*range(rank), rank + 1]
    variance = float(np.exp(one.noise[0]))
    cells = problem.cells.toarray()
    rng, draws = np.random.default_rng(0), 100_000
    rows, columns = [0, 3, 17, 140], [5, 59, 30, 2]
    for i, j in zip(rows, columns, strict=True):
        # The factors of a row given its cells, one cell after another.
        precision, right = np.eye(rank + 1), prior[i].copy()
        for k in np.flatnonzero(there[i]):
            mean = scales[own] * one.factors[k]
            spread = scales[own, None] * one.spreads[k]
            cov = spread @ spread.T
            c = np.append(mean[:rank], scales[rank])
            second = np.outer(c, c)
            second[:rank, :rank] += cov[:rank, :rank]
            off = cells[i, k] - one.mean[0] - mean[rank]
            weight = rho[i] * kappa[k] / variance
            precision += weight * second
            right += weight * (off * c - np.append(cov[:rank, rank], 0.0))
        cov = np.linalg.inv(precision)
        w = rng.multivariate_normal(cov @ right, cov, size=draws)
        z = one.factors[j] + rng.normal(size=(draws, rank + 1)) @ one.spreads[j].T
        x = one.mean[0] + scales[rank] * w[:, rank] + scales[rank + 1] * z[:, rank]
        x += (scales[:rank] * w[:, :rank] * z[:, :rank]).sum(1)
        x += np.sqrt(variance / (rho[i] * kappa[j])) * rng.normal(size=draws)
        x = problem.center + problem.unit * x
        mean, std = model.predict_cells([i], [j], return_std=True)
        assert abs(mean[0] - x.mean()) < 5 * x.std() / np.sqrt(draws)
        assert abs(std[0] / x.std() - 1) < 0.015


def alternating(table, shape, rank, penalty, sweeps=40):
    """Return all cells by penalized alternating least squares with biases, in loops."""
    rng = np.random.default_rng(0)
    i, j, x = table.coords[0], table.coords[1], table.data
    mean = x.mean()
    U = np.column_stack([rng.normal(size=(shape[0], rank)), np.ones(shape[0])])
    V = np.column_stack([rng.normal(size=(shape[1], rank)), np.ones(shape[1])])
    a, b = np.zeros(shape[0]), np.zeros(shape[1])
    for _ in range(sweeps):
        for left, right, mine, other, at, to in (
            (U, V, a, b, i, j),
            (V, U, b, a, j, i),
        ):
            for k in range(len(left)):
                here = at == k
                F = np.column_stack([right[to[here], :rank], np.ones(here.sum())])
                off = x[here] - mean - other[to[here]]
                gram = F.T @ F + penalty * np.eye(rank + 1)
                solved = np.linalg.solve(gram, F.T @ off)
                left[k, :rank], mine[k] = solved[:rank], solved[rank]
    return mean + a[:, None] + b + U[:, :rank] @ V[:, :rank].T


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_hidden_cells_are_predicted_better_than_by_tuned_alternating_steps(share):
    values, there = planted(120, 50, share=share, noise=0.7, seed=3)
    table = stored(values, there)
    i, j = np.nonzero(~there)
    peers = [
        alternating(table, values.shape, rank, penalty)
        for rank in (1, 2)
        for penalty in (0.3, 1.0, 3.0)
    ]
    best = min(np.sqrt(np.mean((one - values)[i, j] ** 2)) for one in peers)
    model = LowRankRatings(random_state=0).fit(table)
    mean, std = model.predict_cells(i, j, return_std=True)
    off = values[i, j] - mean
    assert np.sqrt(np.mean(off**2)) < best
    assert 0.86 < np.mean(np.abs(off) < 1.645 * std) < 0.94


def test_tables_of_all_kinds_are_the_same_table(fitted):
    model, values, there = fitted
    dense = np.where(there, values, np.nan)
    coo = stored(values, there)
    names = [f"c{k}" for k in range(values.shape[1])]
    shuffled = np.random.default_rng(0).permutation(coo.nnz)
    places = tuple(part[shuffled] for part in coo.coords)
    holes = sparse.csr_array(
        (np.append(coo.data, np.nan), tuple(np.append(c, 0) for c in coo.coords)),
        shape=coo.shape,
    )
    assert np.isnan(holes.data).any()
    free = np.flatnonzero(~there[0])[0]
    with_hole = coo.tolil()
    with_hole[0, free] = np.nan
    expected = model.predict_cells([0, 1], [2, 3])
    for table in (
        dense,
        np.ma.masked_array(values, ~there),
        pd.DataFrame(dense, columns=names),
        coo.tocsr(),
        coo.tocsc(),
        sparse.coo_matrix(coo),
        sparse.coo_array((coo.data[shuffled], places), shape=coo.shape),
        with_hole.tocsr(),
        torch.sparse_coo_tensor(
            np.stack(coo.coords), coo.data, coo.shape, check_invariants=True
        ),
    ):
        other = clone(model).fit(table)
        np.testing.assert_allclose(
            other.predict_cells([0, 1], [2, 3]), expected, rtol=0, atol=1e-6
        )


def test_the_table_of_the_caller_is_not_changed():
    values, there = planted(40, 30, noise=0.5, share=0.3)
    table = stored(values, there)
    order = np.random.default_rng(1).permutation(table.nnz)
    order = order[np.argsort(table.coords[0][order], kind="stable")]
    ends = np.append(0, np.cumsum(there.sum(1)))
    jumbled = sparse.csr_array(
        (table.data[order], table.coords[1][order], ends), shape=table.shape
    )
    data, indices = jumbled.data.copy(), jumbled.indices.copy()
    for array in (jumbled.data, jumbled.indices, jumbled.indptr):
        array.flags.writeable = False
    model = LowRankRatings(2, random_state=0).fit(jumbled)
    expected = clone(model).fit(table).predict_cells([0], [1])
    np.testing.assert_allclose(model.predict_cells([0], [1]), expected, atol=1e-6)
    model.predict_cells([0], [1], jumbled)
    np.testing.assert_array_equal(jumbled.data, data)
    np.testing.assert_array_equal(jumbled.indices, indices)


def test_rows_and_columns_that_the_fit_has_not_seen(fitted):
    model, values, there = fitted
    n, d = values.shape
    table = stored(values, there)
    with pytest.warns(UserWarning, match="2 cells in rows from 150 on"):
        mean, std = model.predict_cells([n, n + 7], [4, 4], return_std=True)
    assert mean[0] == mean[1]
    empty = sparse.csr_array((1, d))
    again = model.predict_cells([0], [4], empty, return_std=True)
    np.testing.assert_allclose([mean[0], std[0]], np.ravel(again), rtol=1e-9)
    # A row without cells has the bias of the column, and is as uncertain as rows differ.
    assert abs(mean[0] - values[:, 4].mean()) < 0.5
    assert abs(std[0] / values[:, 4].std() - 1) < 0.35
    with pytest.warns(UserWarning, match="1 cell in columns from 60 on"):
        mean, std = model.predict_cells([9], [d], return_std=True)
    assert abs(mean[0] - values[9].mean()) < 1.0
    assert abs(std[0] / values.std(1).mean() - 1) < 0.35
    # The same row and column in the table of the fit, without any cell.
    wide = sparse.coo_array((table.data, table.coords), shape=(n + 1, d + 1))
    inside = clone(model).fit(wide).predict_cells([n, 9], [4, d], return_std=True)
    with pytest.warns(UserWarning, match="cell"):
        outside = model.predict_cells([n, 9], [4, d], return_std=True)
    np.testing.assert_allclose(outside, inside, atol=0.25)
    strict = clone(model).set_params(unseen="error").fit(table)
    with pytest.raises(InvalidValueError, match="rows go from 150 to 150"):
        strict.predict_cells([n], [0])
    with pytest.raises(InvalidValueError, match="columns go from -1"):
        model.predict_cells([0], [-1])


def test_new_rows_are_predicted_without_a_fit(fitted):
    model, values, there = fitted
    table = stored(values, there)
    i, j = np.nonzero(~there)
    part = clone(model).fit(stored(values[:120], there[:120]))
    late = i >= 120
    mean = part.predict_cells(i[late], j[late], table)
    whole = model.predict_cells(i[late], j[late])
    errors = [
        np.sqrt(np.mean((said - values[i[late], j[late]]) ** 2))
        for said in (mean, whole)
    ]
    assert errors[0] < 1.1 * errors[1]


def test_score_is_the_share_of_variance_of_hidden_cells(fitted):
    model, values, there = fitted
    hidden = stored(values, ~there)
    said = model.predict_cells(*hidden.coords)
    rest = np.var(hidden.data - said) + np.mean(hidden.data - said) ** 2
    assert abs(model.score(hidden) - (1 - rest / np.var(hidden.data))) < 1e-9
    assert model.score(hidden) > 0.85
    with pytest.raises(InvalidValueError, match="0 observed cells"):
        model.score(sparse.csr_array(values.shape))


def test_what_is_saved_predicts_the_same(tmp_path, fitted):
    model, values, there = fitted
    path = tmp_path / "ratings.safetensors"
    model.save(path)
    i, j = np.nonzero(~there)
    empty = sparse.csr_array((1, values.shape[1]))
    for other in (LowRankRatings.load(path), descents.load(path)):
        assert other.get_params() == model.get_params()
        assert other.noise_ == model.noise_
        assert other.n_components_ == model.n_components_
        for said, expected in zip(
            other.predict_cells(i, j, return_std=True),
            model.predict_cells(i, j, return_std=True),
            strict=True,
        ):
            np.testing.assert_allclose(said, expected, rtol=1e-13)
        np.testing.assert_allclose(
            other.predict_cells([0], [1], empty),
            model.predict_cells([0], [1], empty),
            rtol=1e-13,
        )
    imputer = descents.LowRankImputer(held_out=0, random_state=0).fit(values)
    imputer.save(tmp_path / "other.safetensors")
    with pytest.raises(RunFolderError, match="does not contain a LowRankRatings"):
        LowRankRatings.load(tmp_path / "other.safetensors")


@pytest.mark.slow
def test_a_large_table_is_never_made_dense():
    rng = np.random.default_rng(0)
    shape, count = (60_000, 20_000), 40_000
    places = rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)
    values = rng.normal(size=shape[0])[places[0]] + rng.normal(size=count)
    table = sparse.coo_array((values, places), shape=shape)
    tracemalloc.start()
    model = LowRankRatings(1, random_state=0).fit(table)
    model.predict_cells(places[0][:1000], places[1][:1000], return_std=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < shape[0] * shape[1] / 10  # bytes


def test_the_planted_rank_and_noise_are_found(fitted):
    model, _, _ = fitted
    assert model.n_components_ == 2
    assert abs(model.noise_ - 0.5) < 0.05
    assert model.n_iter_ < 200


def test_wrong_settings_are_refused_together_and_short_fits_are_told(fitted):
    model, values, there = fitted
    table = stored(values, there)
    wrong = LowRankRatings(-1, n_starts=0, tol=-1.0, unseen="mean")
    with pytest.raises(InvalidValueError) as raised:
        wrong.fit(table)
    for name in ("n_components", "n_starts", "tol", "unseen"):
        assert name in str(raised.value)
    with pytest.warns(ConvergenceWarning, match="1 step"):
        clone(model).set_params(max_iter=1).fit(table)
    with pytest.raises(InvalidValueError, match="no cell"):
        clone(model).fit(sparse.csr_array((4, 3)))
    with pytest.raises(ValueError, match="infinity"):
        clone(model).fit([[1.0, np.inf], [0.0, 2.0]])
    with pytest.raises(InvalidValueError, match="2 rows and 1 columns"):
        model.predict_cells([0, 1], [0])
