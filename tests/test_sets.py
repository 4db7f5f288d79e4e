"""Sets that factors lie in: the nearest point, the steps, known answers, bad input."""

from __future__ import annotations

import itertools
import json

import cvxpy
import numpy as np
import pyarrow.parquet
import pytest
import scipy.sparse
import torch
from scipy.optimize import nnls
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris

import descents
from conftest import run_descents, some
from descents import (
    Adam,
    Alternating,
    Factorization,
    Fixed,
    LineDescent,
    LowRankModel,
    Runs,
    Status,
    Stop,
)
from descents.bounds.references import reference
from descents.cells.base import Cells
from descents.cells.observed import cells
from descents.constraints.constraints import Regularizer, regularizers
from descents.errors import InvalidValueError
from descents.losses import Huber
from descents.runs import factorize_options
from descents.tables.datasets import planted_table

ROWS, RANK = 2, 3
HELD = np.array([[0.5, np.nan, np.nan], [np.nan, np.nan, 2.0]])
SETS = (
    "simplex",
    "unit_norm",
    "sparse:2",
    "one_sparse",
    "one_hot",
    Fixed(HELD),
)
ASKED = {
    f"{one if isinstance(one, str) else 'fixed'}{', nonnegative' * above}{', l1' * bool(l1)}": (
        Regularizer(nonnegative=above, l1=l1, inside=regularizers(one, None)[0].inside)
    )
    for one in SETS
    for above in (False, True)
    for l1 in (0.0, 0.4)
}
IRIS = load_iris().data


def descend(problem: Factorization, starts: int, **options) -> Runs:
    return descents.descend(problem, starts, width=starts, **options)


def is_member(asked: Regularizer, factor: np.ndarray, held: np.ndarray = HELD) -> bool:
    """Return whether a factor lies in its set, by what the set is."""
    name = asked.inside.name if asked.inside else "none"
    nonzero = (factor != 0).sum(1)
    inside = {
        "none": True,
        "simplex": (factor >= 0).all() and np.abs(factor.sum(1) - 1).max() < 1e-12,
        "unit_norm": np.abs(np.linalg.norm(factor, axis=0) - 1).max() < 1e-12,
        "sparse:2": (nonzero <= 2).all(),
        "one_sparse": (nonzero <= 1).all(),
        "one_hot": (nonzero == 1).all() and (factor.max(1) == 1).all(),
        "fixed": name == "fixed" and (factor == held)[~np.isnan(held)].all(),
    }
    return bool(inside[name]) and (not asked.nonnegative or bool((factor >= 0).all()))


def value(asked: Regularizer, x: np.ndarray, p: np.ndarray, rates: np.ndarray) -> float:
    return float((asked.l1 * np.abs(x) + (x - p) ** 2 / (2 * rates)).sum())


def least(asked: Regularizer, p: np.ndarray, rates: np.ndarray) -> float:
    """Return the least of `value` over the set: by cvxpy, by trying all, or on a grid."""
    name = asked.inside.name
    if name in ("simplex", "fixed"):
        x = cvxpy.Variable(p.shape, nonneg=asked.nonnegative or name == "simplex")
        away = cvxpy.multiply(np.sqrt(1 / (2 * rates)), x - p)
        total = asked.l1 * cvxpy.sum(cvxpy.abs(x)) + cvxpy.sum_squares(away)
        kept = [cvxpy.sum(x, axis=1) == 1]
        if name == "fixed":
            kept = [x[i, j] == HELD[i, j] for i, j in np.argwhere(~np.isnan(HELD))]
        return float(cvxpy.Problem(cvxpy.Minimize(total), kept).solve("CLARABEL"))
    if name == "unit_norm":  # of two rows: a circle
        angles = np.linspace(0, 2 * np.pi, 40001)
        circle = np.stack([np.cos(angles), np.sin(angles)])
        if asked.nonnegative:
            circle = circle[:, (circle >= 0).all(0)]
        return sum(
            min((asked.l1 * np.abs(circle) + (circle - p[:, [c]]) ** 2 / (2 * rates[:, [c]])).sum(0))
            for c in range(p.shape[1])
        )  # fmt: skip
    if name == "one_hot":
        return sum(
            min(value(asked, one, row, rate) for one in np.eye(len(row)))
            for row, rate in zip(p, rates, strict=True)
        )
    grid = np.linspace(0 if asked.nonnegative else -6, 6, 24001)[:, None]
    each = asked.l1 * np.abs(grid) + (grid - p.ravel()) ** 2 / (2 * rates.ravel())
    best = each.min(0).reshape(p.shape)
    zero = p**2 / (2 * rates)
    count = asked.inside.count
    return sum(
        min(
            sum(best[i, j] if j in kept else zero[i, j] for j in range(p.shape[1]))
            for kept in itertools.combinations(range(p.shape[1]), count)
        )
        for i in range(len(p))
    )


@pytest.mark.parametrize("kind", ASKED)
def test_projections_land_stay_and_are_nearest(kind) -> None:
    asked, rng = ASKED[kind], np.random.default_rng(0)
    for size in (0.3, 1.0, 2.0):
        p = rng.normal(size=(ROWS, RANK)) * size
        once = asked.nearest(torch.tensor(p)).numpy()
        assert is_member(asked, once)
        assert asked.distance(torch.tensor(once)) < 1e-15
        np.testing.assert_allclose(
            asked.nearest(torch.tensor(once)), once, atol=1e-15, rtol=0
        )
        plain = Regularizer(asked.nonnegative, inside=asked.inside)
        ones = np.ones_like(p)
        assert value(plain, once, p, ones) == pytest.approx(
            least(plain, p, ones), abs=2e-6
        )


@pytest.mark.parametrize("kind", ASKED)
def test_the_prox_of_a_sum_is_its_minimum(kind) -> None:
    asked, rng = ASKED[kind], np.random.default_rng(1)
    for size in (0.2, 1.0, 2.0):
        p = rng.normal(size=(ROWS, RANK)) * size
        rates = rng.uniform(0.2, 2, p.shape)  # as Adam's
        if asked.inside.couples:
            with pytest.raises(
                InvalidValueError, match="rates that differ between entries"
            ):
                asked.prox(torch.tensor(p), torch.tensor(rates))
            rates = np.full(p.shape, rates[0, 0])
            given: float | torch.Tensor = float(rates[0, 0])
        else:
            given = torch.tensor(rates)
        found = asked.prox(torch.tensor(p), given).numpy()
        assert is_member(asked, found)
        assert value(asked, found, p, rates) == pytest.approx(
            least(asked, p, rates), abs=2e-6
        )


def test_columns_of_norm_one_of_nothing() -> None:
    asked = ASKED["unit_norm, nonnegative"]
    for column in ([0.0, 0.0], [-2.0, -1.0]):
        p = torch.tensor(column, dtype=torch.float64)[:, None]
        expected = [[1.0], [0.0]] if column[0] == 0 else [[0.0], [1.0]]
        assert asked.nearest(p).tolist() == expected


# In problems

CLEAN = planted_table(16, 9, 2, seed=0)[1]
TABLE = planted_table(16, 9, 2, noise=0.2, seed=0)[0]
MASK = np.random.default_rng(1).random(TABLE.shape) < 0.75
HOLED = np.where(MASK, TABLE, np.nan)
LABELS = np.where(MASK, TABLE > 0, np.nan)


def partly(rows: int, rank: int = 3) -> np.ndarray:
    """Return fixed values: the first row, the last column, and one entry."""
    found = np.full((rows, rank), np.nan)
    found[0], found[:, -1], found[3, 0] = 0.2, 1.0, 0.0
    return found


CONSTRAINTS = {
    "simplex": ("simplex", None),
    "simplex both": ("simplex", "simplex"),
    "unit_norm": (None, "unit_norm"),
    "norms, nonnegative": ("nonnegative+unit_norm", "nonnegative"),
    "sparse": ("sparse:2", None),
    "sparse, nonnegative": ("nonnegative", "nonnegative+sparse:2"),
    "one_sparse": ("one_sparse", None),
    "one_hot": ("one_hot", None),
    "clusters both": ("one_hot", "one_sparse"),
    "fixed": (Fixed(partly(16)), None),
    "fixed, nonnegative": (["nonnegative", Fixed(partly(16))], Fixed(partly(9))),
    "smooth": (None, None),
}
PENALTIES = {
    "none": {},
    "some": {
        "l1_rows": 0.1,
        "l2": 0.1,
        "smooth_rows": 0.3,
        "smooth_columns": 0.2,
        "l2_biases": 0.1,
        "count_power": 0.5,
    },
}


def made(
    constraint: str, penalty: str, table: np.ndarray | Cells, **options
) -> Factorization:
    given = PENALTIES[penalty]
    if constraint == "smooth" and not given:
        given = {"smooth_rows": 0.5, "l2": 0.1}
    return Factorization(
        table,
        3,
        constraint=CONSTRAINTS[constraint],
        penalty=given,
        **{"initialization": "normal", **options},
    )


def inside(problem: Factorization, parameters: dict[str, np.ndarray]) -> bool:
    sides = (("U", problem.row_regularizer), ("V", problem.column_regularizer))
    return all(
        is_member(side, factor, partly(len(factor)))
        for name, side in sides
        for factor in np.asarray(parameters[name])
    )


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_starts_are_random_members_and_their_own(constraint) -> None:
    problem = made(constraint, "none", TABLE)
    points = problem.points(range(6), 0)
    assert inside(problem, points)
    assert not torch.equal(points["V"][0], points["V"][1])
    alone = problem.points([4], 0)
    assert torch.equal(alone["U"][0], points["U"][4])
    assert torch.equal(alone["V"][0], points["V"][4])


KINDS = {
    "holes, biases": lambda: (HOLED, "both"),
    "huber": lambda: (cells(HOLED, Huber(0.3)), "columns"),
    "complete": lambda: (TABLE, "none"),
    "stored": lambda: (
        cells(scipy.sparse.csr_array(np.where(MASK, TABLE, 0)), "squared"),
        "none",
    ),
    "scales": lambda: (
        cells(HOLED * np.arange(1, 10), "squared", scales=True),
        "columns",
    ),
    "logistic": lambda: (cells(LABELS, "logistic"), "columns"),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize(
    "kind",
    [
        kind
        if kind in ("holes, biases", "huber")
        else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
    ],
)
@pytest.mark.sampled(16)
def test_alternating_steps_fall_and_stay_inside(constraint, penalty, kind) -> None:
    table, offsets = KINDS[kind]()
    problem = made(constraint, penalty, table, offsets=offsets)
    runs = descend(problem, 2, steps=Alternating(), stop=Stop(25), record=range(26))
    curve = runs.histories["loss"]
    assert (np.diff(curve, axis=0) <= 1e-11 * np.abs(curve[0])).all()
    assert (curve[-1] < curve[0]).all()
    assert inside(problem, runs.parameters)
    point = {n: torch.tensor(p) for n, p in runs.parameters.items()}
    losses = problem.losses(point, torch.arange(2), 0)
    assert runs.losses == pytest.approx(losses.numpy(), rel=1e-12)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_gradient_steps_fall_and_stay_inside(constraint) -> None:
    table = cells(np.exp(CLEAN).round(), "poisson")
    if "one_hot" in CONSTRAINTS[constraint]:
        table = cells(TABLE, "squared")  # gradients choose it badly: refused for others
    for penalty in PENALTIES:
        problem = made(constraint, penalty, table, offsets="columns")
        runs = descend(problem, 2, steps=LineDescent(), stop=Stop(40), record=range(41))
        curve = runs.histories["loss"]
        assert (np.diff(curve, axis=0) <= 1e-11 * np.abs(curve[0])).all()
        assert (curve[-1] < curve[0]).all()
        assert inside(problem, runs.parameters)


def test_adam_stays_inside() -> None:
    for constraint in ("simplex", "sparse", "one_hot", "fixed, nonnegative"):
        problem = made(constraint, "some", TABLE)
        runs = descend(problem, 2, steps=Adam(0.05), stop=Stop(50))
        assert inside(problem, runs.parameters)


@pytest.mark.parametrize("constraint", some(reversed(CONSTRAINTS), 5))
def test_no_gradient_step_leads_down_from_the_end(constraint) -> None:
    problem = made(constraint, "some", HOLED)
    runs = descend(
        problem, 2, steps=Alternating(), stop=Stop(4000, gradient_tol=1e-7, loss_tol=1e-14)
    )  # fmt: skip
    assert {Status.STATIONARY, Status.SETTLED} >= set(runs.statuses)
    assert (runs.gradient_norms <= 1e-4 * runs.initial_gradient_norms).all()
    again = Factorization(
        HOLED,
        3,
        constraint=CONSTRAINTS[constraint],
        penalty=PENALTIES["some"],
        initialization=(runs.parameters["U"], runs.parameters["V"]),
    )
    lower = descend(again, 2, steps=LineDescent(), stop=Stop(40))
    assert (lower.losses >= runs.losses * (1 - 1e-6)).all()


# Known answers


def clusters(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(6, 3)) * 4
    return centers[rng.integers(0, 6, 240)] + rng.normal(size=(240, 3))


@pytest.mark.parametrize(("table", "count"), [(clusters(), 6), (IRIS, 3), (IRIS, 4)])
def test_one_unit_a_row_is_k_means(table, count) -> None:
    # Six clusters of three columns: a rank above that of any table of three columns.
    model = LowRankModel(
        count, constraint=("one_hot", None), n_starts=20, random_state=0
    ).fit(table)
    peer = KMeans(count, n_init=20, random_state=0).fit(table)
    assert model.loss_ == pytest.approx(peer.inertia_, rel=1e-6)
    labels = model.embedding_.argmax(1)
    assert np.unique(labels).tolist() == list(range(count))
    np.testing.assert_allclose(
        model.components_,
        [table[labels == k].mean(0) for k in range(count)],
        rtol=1e-9,
    )
    assert model.runs_.statuses[model.runs_.best] is Status.STATIONARY
    new = table[:20] + 0.5
    away = np.square(new[:, None] - model.components_).sum(-1)
    assert (model.transform(new).argmax(1) == away.argmin(1)).all()


def test_from_the_same_centers_it_is_lloyds_algorithm() -> None:
    table = clusters(3)
    problem = Factorization(
        table, 6, constraint=("one_hot", None), initialization="centers"
    )
    runs = descend(problem, 4, steps=Alternating(), stop=Stop(100))
    begun = problem.points(range(4), 0)["V"].numpy()
    assert all((c == table).all(1).any() for V in begun for c in V.T)
    for loss, V in zip(runs.losses, begun, strict=True):
        peer = KMeans(6, init=V.T, n_init=1, algorithm="lloyd", tol=0).fit(table)
        assert loss == pytest.approx(peer.inertia_, rel=1e-9)


def test_centers_of_holes_and_of_zeros() -> None:
    table = clusters()
    holed = np.where(np.random.default_rng(0).random(table.shape) < 0.8, table, np.nan)
    holed[:, 0] = table[:, 0]
    model = LowRankModel(6, constraint=("one_hot", None), n_starts=5)
    model.set_params(random_state=0).fit(holed)
    labels = model.embedding_.argmax(1)
    means = [np.nanmean(holed[labels == k], 0) for k in range(6)]
    np.testing.assert_allclose(model.components_, means, rtol=1e-9)
    some = np.where(table > 2, table, 0)
    dense, stored = (
        Factorization(found, 3, constraint=("one_hot", None), initialization="centers")
        for found in (
            some,
            cells(scipy.sparse.csr_array(some), "squared", sparse="zero"),
        )
    )
    for name, value_of in dense.points([0, 1], 0).items():
        assert torch.equal(value_of, stored.points([0, 1], 0)[name])


def test_sparse_components_are_found() -> None:
    rng = np.random.default_rng(0)
    V = np.zeros((12, 3))
    V[np.arange(12), np.arange(12) % 3] = rng.uniform(1, 2, 12)
    table = rng.normal(size=(100, 3)) @ V.T + 0.05 * rng.normal(size=(100, 12))
    model = LowRankModel(3, constraint=(None, "one_sparse"), n_starts=10)
    model.set_params(random_state=0, offsets="none").fit(table)
    groups = np.abs(model.components_).argmax(0)
    assert ((model.components_ != 0).sum(0) == 1).all()
    assert all(len(set(groups[k::3])) == 1 for k in range(3))
    assert len(set(groups[:3])) == 3
    # For each group alone, the best of rank one.
    best = sum(
        np.square(np.linalg.svd(table[:, k::3], compute_uv=False)[1:]).sum()
        for k in range(3)
    )
    assert model.loss_ == pytest.approx(best, rel=1e-9)


def test_planted_mixtures_are_found() -> None:
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(3, 8)) * 3
    shares = np.vstack([np.eye(3), rng.dirichlet(np.ones(3) * 0.3, 60)])
    table = shares @ corners
    model = LowRankModel(
        3, constraint=("simplex", None), n_starts=3, random_state=0, max_iter=3000
    ).fit(table)
    assert model.loss_ < 1e-6 * np.square(table).sum()
    np.testing.assert_allclose(model.embedding_.sum(1), 1, atol=1e-12)
    assert (model.embedding_ >= 0).all()
    # New rows: as a convex solver puts them.
    new = rng.normal(size=(4, 8))
    found = model.transform(new)
    for row, at in zip(new, found, strict=True):
        x = cvxpy.Variable(3, nonneg=True)
        away = cvxpy.sum_squares(model.components_.T @ x - row)
        best = cvxpy.Problem(cvxpy.Minimize(away), [cvxpy.sum(x) == 1]).solve(
            "CLARABEL"
        )
        assert np.square(at @ model.components_ - row).sum() == pytest.approx(best, rel=1e-6)  # fmt: skip


def test_new_rows_of_sparse_factors_are_the_best_of_all_choices() -> None:
    model = LowRankModel(3, constraint=("sparse:1", None), offsets="none", n_starts=3)
    model.set_params(random_state=0).fit(TABLE)
    V = model.components_
    for row, at in zip(CLEAN, model.transform(CLEAN), strict=True):
        best = min(
            np.square(row - (row @ v) / (v @ v) * v).sum() for v in V if v @ v > 0
        )
        assert np.square(row - at @ V).sum() == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("constraint", [None, "nonnegative"])
def test_a_fixed_factor_leaves_least_squares(constraint) -> None:
    V = np.abs(np.random.default_rng(0).normal(size=(9, 3)))
    asked = (constraint, Fixed(V))
    model = LowRankModel(3, constraint=asked, offsets="none", random_state=0)
    model.set_params(max_iter=5000, tol=1e-13).fit(TABLE)
    assert (model.components_.T == V).all()
    if constraint is None:
        expected = np.linalg.lstsq(V, TABLE.T)[0].T
    else:
        expected = np.stack([nnls(V, row)[0] for row in TABLE])
    np.testing.assert_allclose(model.embedding_, expected, atol=1e-8)
    np.testing.assert_allclose(model.transform(TABLE), expected, atol=1e-6)


def test_fixed_ones_are_offsets() -> None:
    ones = np.full((16, 3), np.nan)
    ones[:, 2] = 1
    model = LowRankModel(3, constraint=(Fixed(ones), None), offsets="none")
    model.set_params(random_state=0).fit(TABLE)
    centered = TABLE - TABLE.mean(0)
    best = np.square(np.linalg.svd(centered, compute_uv=False)[2:]).sum()
    assert model.loss_ == pytest.approx(best, rel=1e-9)
    assert (model.embedding_[:, 2] == 1).all()
    assert (model.transform(CLEAN[:5])[:, 2] == 1).all()  # the same in all rows
    model.set_params(constraint=(Fixed(partly(16)), None)).fit(TABLE)
    assert model.transform(TABLE)[0].tolist() == [0.2, 0.2, 1.0]
    with pytest.raises(InvalidValueError, match="16 rows .* but the table has 5 rows"):
        model.transform(CLEAN[:5])


def smoothed(V: np.ndarray, table: np.ndarray, s: float, l2: float) -> np.ndarray:
    """Return U of least sum (x - u'v)^2 + s sum ||difference||^2 + l2 ||U||^2."""
    rows, rank = len(table), V.shape[1]
    step = np.diff(np.eye(rows), axis=0)
    system = np.kron(s * step.T @ step, np.eye(rank)) + l2 * np.eye(rows * rank)
    right = np.zeros(rows * rank)
    for i, row in enumerate(table):
        kept = ~np.isnan(row)
        place = slice(i * rank, (i + 1) * rank)
        system[place, place] += V[kept].T @ V[kept]
        right[place] += V[kept].T @ row[kept]
    return np.linalg.solve(system, right).reshape(rows, rank)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("smoothness", [0.1, 10.0, 1e4])
def test_smooth_rows_are_those_of_the_linear_system(smoothness) -> None:
    V = np.random.default_rng(0).normal(size=(9, 3))
    table = HOLED.copy()
    table[5] = np.nan  # without a cell: between its neighbors
    penalty = {"smooth_rows": smoothness, "l2_rows": 0.01}
    model = LowRankModel(3, constraint=(None, Fixed(V)), penalty=penalty)
    model.set_params(offsets="none", random_state=0).fit(table)
    expected = smoothed(V, table, smoothness, 0.01)
    np.testing.assert_allclose(model.embedding_, expected, atol=1e-8)
    # New rows are smooth among themselves.
    model = LowRankModel(3, constraint=(None, Fixed(V)), penalty=penalty)
    model.set_params(offsets="none", random_state=0).fit(TABLE)
    expected = smoothed(V, CLEAN[4:9], smoothness, 0.01)
    np.testing.assert_allclose(model.transform(CLEAN[4:9]), expected, atol=1e-8)


def test_smooth_nonnegative_rows_are_those_of_a_convex_solver() -> None:
    V = np.random.default_rng(0).normal(size=(9, 3))
    model = LowRankModel(
        3,
        constraint=("nonnegative", Fixed(V)),
        penalty={"smooth_rows": 2.0},
        random_state=0,
    ).fit(TABLE)
    x = cvxpy.Variable((16, 3), nonneg=True)
    total = cvxpy.sum_squares(x @ V.T - TABLE) + 2 * cvxpy.sum_squares(cvxpy.diff(x))
    best = cvxpy.Problem(cvxpy.Minimize(total)).solve("CLARABEL")
    assert model.loss_ == pytest.approx(best, rel=1e-8)


@pytest.mark.slow
def test_smooth_columns_and_norms_together() -> None:
    # With U of norm one and one component: the leading eigenvalue of a matrix.
    s = 3.0
    problem = Factorization(
        TABLE, 1, constraint=("unit_norm", None), penalty={"smooth_columns": s}
    )
    runs = descend(problem, 5, steps=Alternating(), stop=Stop(2000))
    step = np.diff(np.eye(9), axis=0)
    inner = np.linalg.inv(np.eye(9) + s * step.T @ step)
    best = np.square(TABLE).sum() - np.linalg.eigvalsh(TABLE @ inner @ TABLE.T)[-1]
    assert runs.losses.min() == pytest.approx(best, rel=1e-10)


def test_norms_of_one_do_not_hold_the_svd_back() -> None:
    model = LowRankModel(2, constraint=(None, "unit_norm"), random_state=0).fit(IRIS)
    assert model.reference_.kind == "bound"
    assert abs(model.gap_) < 1e-9
    np.testing.assert_allclose(np.linalg.norm(model.components_, axis=1), 1)


# What else holds


@pytest.mark.parametrize("constraint", some(CONSTRAINTS, 5))
def test_the_bound_is_below_and_nothing_is_exact(constraint) -> None:
    for penalty in PENALTIES:
        problem = made(constraint, penalty, TABLE)
        runs = descend(problem, 3, steps=Alternating(), stop=Stop(50))
        found = reference(problem, runs)
        assert found.kind == ("bound" if penalty == "none" else found.kind)
        assert found.kind != "exact"
        assert (runs.losses >= found.value * (1 - 1e-12)).all()
    full = Factorization(TABLE, 12, constraint=("sparse:2", None))
    assert reference(full, descend(full, 1)).kind == "best found"


def test_smooth_rows_allow_a_rotation_and_sets_do_not() -> None:
    model = LowRankModel(2, penalty={"smooth_rows": 1.0, "l2": 0.1}, random_state=0)
    V = model.fit(TABLE).components_
    np.testing.assert_allclose(V @ V.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(
        model.inverse_transform(model.embedding_),
        model.fitted_.predictions(model.fitted_.points)[0],
        atol=1e-12,
    )
    model.set_params(penalty=None, constraint=(None, "unit_norm")).fit(TABLE)
    assert (model.components_ == model.runs_.parameters["V"][0].T).all()


@pytest.mark.parametrize("constraint", some(CONSTRAINTS, 4))
def test_a_stored_model_keeps_its_constraints(constraint, tmp_path) -> None:
    penalty = {"smooth_rows": 0.5, "smooth_columns": 0.25, "l2": 0.1}
    model = LowRankModel(
        3, constraint=CONSTRAINTS[constraint], penalty=penalty, random_state=0
    )
    model.set_params(max_iter=3000, tol=1e-5).fit(TABLE)
    model.save(tmp_path / "model")
    again = LowRankModel.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(HOLED), model.transform(HOLED))
    assert again.fitted_.penalty == model.fitted_.penalty
    sides = zip(again.fitted_.constraint, model.fitted_.constraint, strict=True)
    for loaded, kept in sides:
        for a, b in zip(loaded, kept, strict=True):
            same = a == b if isinstance(b, str) else np.array_equal(a.values, b.values, equal_nan=True)  # fmt: skip
            assert same
    asked = model.fitted_.problem.row_regularizer
    if not (asked.inside and asked.inside.couples):  # norms are of the fitted rows
        assert is_member(asked, model.transform(HOLED), partly(16))
    refitted = LowRankModel.load(tmp_path / "model")
    refitted.fit(TABLE)
    assert refitted.loss_ == pytest.approx(model.loss_, rel=1e-9)


def quartic(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (prediction - target) ** 4


BAD = [
    ({"constraint": "simple"}, "constraint is 'simple'; give None, 'nonnegative'"),
    ({"constraint": ("simplex", "ones")}, "constraint is 'ones'; give"),
    ({"constraint": "sparse:0"}, "'sparse:0'; give sparse:K with a whole number K"),
    ({"constraint": "sparse:x"}, "'sparse:x'; give sparse:K with a whole number K"),
    ({"constraint": "sparse:4"}, "rows, is 'sparse:4', but the rank is 3"),
    (
        {"constraint": (None, "sparse:4")},
        "of the columns, is 'sparse:4', but the rank is 3; give sparse:K with K from 1",
    ),
    (
        {"constraint": "simplex+sparse:2"},
        "combines 'simplex' and 'sparse:2', which is not supported",
    ),
    (
        {"constraint": ([Fixed(partly(16)), "unit_norm"], None)},
        "combines 'fixed' and 'unit_norm'",
    ),
    (
        {"constraint": (Fixed(np.ones((3, 3))), None)},
        r"fixed values of U, .* have shape \(3, 3\); give values of shape \(16, 3\)",
    ),
    (
        {"constraint": (None, Fixed(np.ones((9, 2))))},
        r"fixed values of V, .* have shape \(9, 2\); give values of shape \(9, 3\)",
    ),
    (
        {"constraint": (["nonnegative", Fixed(-np.ones((16, 3)))], None)},
        "a fixed value is -1, but the factor must be nonnegative",
    ),
    ({"penalty": {"smooth_rows": -1}}, "smooth_rows is -1; give a finite number"),
    ({"penalty": {"smooth": 1}}, "penalty has 'smooth'; give some of .*smooth_rows"),
    (
        {"constraint": "simple", "penalty": {"l3": 1}},
        "constraint is 'simple'.*penalty has 'l3'",
    ),
    (
        {"loss": "kl", "constraint": ("nonnegative", "unit_norm")},
        "kl loss needs predictions of at least 0",
    ),
    (
        {"loss": "kl", "constraint": ("nonnegative+sparse:2", "one_hot")},
        "kl loss is infinite .* which 'sparse:2' rows and 'one_hot' columns do",
    ),
    (
        {"initialization": (np.ones((1, 16, 3)), np.ones((1, 9, 3))), "constraint": ("simplex", None)},
        "the initial U is up to 0.667 away from the nearest factor that meets the constraint 'simplex'",
    ),
    (
        {"loss": quartic, "constraint": (None, "one_hot")},
        "of the columns, is 'one_hot', whose members have no neighbors",
    ),
    ({"n_components": 17, "constraint": ("one_sparse", None)}, "number from 1 to 16"),
    ({"n_components": 10, "constraint": ("unit_norm", None)}, "number from 1 to 9"),
    (
        {"n_components": 12, "constraint": ("sparse:2", None), "initialization": "nndsvd"},
        "initialization is 'nndsvd', which has at most 9 components",
    ),
    (
        {"constraint": (None, "unit_norm"), "solver": "adam"},
        "columns of norm one have no prox for rates that differ",
    ),
    (
        {"loss": quartic, "constraint": "simplex", "solver": "alternating"},
        "alternating steps are for",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_told(options, message) -> None:
    model = LowRankModel(**{"n_components": 3, "loss": "squared", **options})
    with pytest.raises(InvalidValueError, match=message):
        model.fit(np.exp(CLEAN))


@pytest.mark.parametrize("values", [[1.0, 2.0], [[np.inf]], [["a"]], np.zeros((0, 2))])
def test_fixed_values_are_a_table(values) -> None:
    with pytest.raises(
        InvalidValueError, match="fixed values are not a table of numbers"
    ):
        Fixed(values)


@pytest.mark.parametrize(
    "constraint", ["simplex", "nonnegative+unit_norm", "nonnegative"]
)
def test_kl_takes_alternating_steps_in_positive_sets(constraint) -> None:
    model = LowRankModel(
        2, loss="kl", constraint=(constraint, "nonnegative"), random_state=0
    )
    model.set_params(max_iter=1000, tol=1e-2).fit(np.exp(CLEAN))
    assert model.solver_ == "alternating"
    assert model.score(np.exp(CLEAN)) > 0.5
    assert inside(model.fitted_.problem, model.runs_.parameters)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_loss_of_ones_own_in_a_set() -> None:
    def quartic(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (z - x) ** 4

    steps = {}
    for constraint in ("unit_norm", "simplex"):
        model = LowRankModel(2, loss=quartic, constraint=(None, constraint))
        model.set_params(max_iter=500, tol=1e-3, random_state=0).fit(TABLE)
        steps[constraint] = model.solver_
        assert inside(model.fitted_.problem, model.runs_.parameters)
    assert steps == {"unit_norm": "gd", "simplex": "adam"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", None),
        ("nonnegative", "nonnegative"),
        ("nonnegative-columns", ("none", "nonnegative")),
        ("sparse:2-rows", ("sparse:2", "none")),
        ("rows=one_sparse,columns=none", ("one_sparse", "none")),
        ("columns=nonnegative+sparse:2", ("none", "nonnegative+sparse:2")),
    ],
)
def test_constraints_of_the_command(text, expected) -> None:
    assert factorize_options.constraints(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ones", "constraint is 'ones'"),
        ("rows=simplex,cols=simplex", "--constraint names 'cols'"),
        ("rows=simplex,simplex", "--constraint is 'simplex'; give NAME=VALUE"),
        ("rows=simplex,rows=none", "names 'rows' twice"),
        ("rows=ones", "constraint is 'ones'"),
    ],
)
def test_wrong_constraints_of_the_command(text, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        factorize_options.constraints(text)


@pytest.mark.slow
def test_the_command_makes_clusters_and_uses_them(tmp_path) -> None:
    header = "a,b,c,d"
    np.savetxt(
        tmp_path / "iris.csv", IRIS, delimiter=",", header=header, comments="", fmt="%g"
    )
    done = run_descents(
        "factorize", "iris.csv", "--rank", "3", "--starts", "5", "--json",
        "--constraint", "rows=one_hot,columns=none", "--out", "run",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["loss"] == pytest.approx(78.85144142614601, rel=1e-6)
    done = run_descents("apply", "run", "iris.csv", "--out", "applied", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    parts = [
        pyarrow.parquet.read_table(tmp_path / folder / "rows.parquet").to_pylist()
        for folder in ("run", "applied")
    ]
    assert parts[0] == parts[1]
    assert all(sorted(list(row.values())[1:]) == [0, 0, 1] for row in parts[0])


def test_the_command_refuses_what_it_does_not_know(tmp_path) -> None:
    done = run_descents("factorize", "-", "--rank", "3", "--constraint", "rows=ones")
    assert done.returncode == 2
    assert "--constraint is 'ones'; give none, nonnegative, simplex" in done.stderr
