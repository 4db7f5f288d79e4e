"""Dual bounds and shrunk singular values, against a convex solver and each other."""

from __future__ import annotations

import warnings

import cvxpy
import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import descents
from conftest import some
from descents import LBFGS, Alternating, Factorization, Problem, Runs, Stop
from descents.bounds.dual import dual_bound
from descents.bounds.references import reference, shrunk_svd
from descents.cells.observed import cells
from descents.losses import Huber
from descents.tables.datasets import planted_table

NOISY, CLEAN = planted_table(500, 300, 5, noise=0.1)
SEEN = np.random.default_rng(0).random(NOISY.shape) >= 0.6
CHANCES = 1 / (1 + np.exp(-3 * CLEAN))
DRAWN = (np.random.default_rng(1).random(NOISY.shape) < CHANCES).astype(float)


def descend(problem: Problem, starts, **options) -> Runs:
    """Descend in chunks no wider than asked for: a whole one is 256 starts."""
    count = starts if isinstance(starts, int) else len(starts)
    return descents.descend(problem, starts, **{"width": count, **options})


def norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))


def certificate(loss: str, rank: int, offsets: str) -> float:
    """Return the relative gap between the fit of a planted table and its bound."""
    if loss == "logistic":
        table, asked = DRAWN, "logistic"
        l2 = 1.25 * norm(np.where(SEEN, DRAWN - CHANCES, 0)) / 2
    else:
        table, asked = NOISY, "squared" if loss == "squared" else Huber(0.1345)
        l2 = 1.25 * norm(np.where(SEEN, NOISY - CLEAN, 0))
        l2 *= 1.0 if loss == "squared" else 0.8
    problem = Factorization(
        np.where(SEEN, table, np.nan),
        rank,
        loss=asked,
        offsets=offsets,
        penalty=l2,
        initialization="spectral",
    )
    steps = LBFGS() if loss == "logistic" else Alternating()
    stop = Stop(2000, gradient_tol=1e-8)
    runs = descend(problem, 1, steps=steps, stop=stop, width=1)
    found = reference(problem, runs)
    assert found.kind == "bound"
    assert "the gap is closed" in found.says
    return runs.losses[0] / found.value - 1


SLOW = pytest.mark.slow
CERTIFICATES = [
    ("squared", 10, "none", 1e-6),
    ("logistic", 10, "none", 1e-5),
    ("logistic", 10, "columns", 1e-5),
    pytest.param("huber", 10, "none", 1e-5, marks=SLOW),
    pytest.param("logistic", 20, "none", 1e-5, marks=SLOW),
    pytest.param("logistic", 20, "columns", 1e-5, marks=SLOW),
    pytest.param("squared", 20, "none", 1e-6, marks=SLOW),
    pytest.param("squared", 10, "columns", 1e-6, marks=SLOW),
    pytest.param("squared", 20, "columns", 1e-6, marks=SLOW),
    pytest.param("huber", 20, "none", 1e-5, marks=SLOW),
    pytest.param("huber", 10, "columns", 1e-5, marks=SLOW),
    pytest.param("huber", 20, "columns", 1e-5, marks=SLOW),
]


@pytest.mark.parametrize(("loss", "rank", "offsets", "largest"), CERTIFICATES)
def test_a_planted_table_has_a_certificate(loss, rank, offsets, largest) -> None:
    assert -1e-12 < certificate(loss, rank, offsets) < largest


SMALL = planted_table(30, 20, 2, noise=0.3, seed=2)[0]
MASK = np.random.default_rng(3).random(SMALL.shape) < 0.7
LABELS = (SMALL > 0).astype(float)
LOSSES = {
    "squared": (SMALL, "squared", 1e-8),
    "huber": (SMALL, Huber(0.3), 1e-8),
    "logistic": (LABELS, "logistic", 1e-6),
}


def solved(problem: cvxpy.Problem) -> float:
    """Return a minimum as nearly as the solver of cones can."""
    tight = {f"tol_{kind}": 1e-11 for kind in ("gap_abs", "gap_rel", "feas")}
    with warnings.catch_warnings():
        # It may fall short of these tolerances, but the tests' own are what counts.
        warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
        problem.solve(solver="CLARABEL", **tight)
    return float(problem.value)


def convex(
    name: str, l2: float, offsets: str = "none", l2_biases: float = 0, power: float = 0
) -> float:
    """Return the minimum of the nuclear-norm problem, by a solver of cones."""
    table, _, _ = LOSSES[name]
    rows, columns = MASK.sum(1) ** power, MASK.sum(0) ** power
    X = cvxpy.Variable(SMALL.shape)
    Z, extra = X, 0
    base = table[MASK].mean()
    if name == "logistic":
        base = 0.0
    if offsets in ("columns", "both"):
        b = cvxpy.Variable((1, 20))
        Z = Z + np.ones((30, 1)) @ b
        extra += l2_biases * cvxpy.sum(
            cvxpy.multiply(columns, cvxpy.square(b[0] - base))
        )
    if offsets in ("rows", "both"):
        a = cvxpy.Variable((30, 1))
        Z = Z + a @ np.ones((1, 20)) + (base if offsets == "rows" else 0)
        extra += l2_biases * cvxpy.sum(cvxpy.multiply(rows, cvxpy.square(a[:, 0])))
    z, x = Z[np.nonzero(MASK)], table[MASK]
    loss = {
        "squared": lambda: cvxpy.sum_squares(z - x),
        "huber": lambda: cvxpy.sum(cvxpy.huber(z - x, 0.3)),
        "logistic": lambda: cvxpy.sum(cvxpy.logistic(cvxpy.multiply(1 - 2 * x, z))),
    }[name]()
    weighted = np.diag(np.sqrt(rows)) @ X @ np.diag(np.sqrt(columns))
    value = loss + 2 * l2 * cvxpy.normNuc(weighted) + extra
    problem = cvxpy.Problem(cvxpy.Minimize(value))
    return solved(problem)


def fitted(name: str, rank: int, l2: float, offsets: str = "none", **penalty):
    table, loss, _ = LOSSES[name]
    problem = Factorization(
        np.where(MASK, table, np.nan),
        rank,
        loss=loss,
        offsets=offsets,
        penalty={"l2": l2, **penalty},
        initialization="spectral",
    )
    steps = LBFGS() if name == "logistic" else Alternating()
    stop = Stop(3000, gradient_tol=1e-10)
    return problem, descend(problem, 1, steps=steps, stop=stop, width=1)


@pytest.mark.parametrize("offsets", ["none", pytest.param("columns", marks=SLOW)])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.sampled(2)
def test_the_optimum_is_that_of_a_convex_solver(name, offsets) -> None:
    l2 = 1.5
    problem, runs = fitted(name, 12, l2, offsets)
    bound, value = dual_bound(problem, runs), convex(name, l2, offsets)
    near = LOSSES[name][2]
    assert runs.losses[0] == pytest.approx(value, rel=max(near, 2e-8))
    assert bound.value <= runs.losses[0] * (1 + 1e-12)
    assert bound.value <= value * (1 + 1e-8)
    assert bound.value == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "rank", "l2", "offsets", "penalty"),
    [
        ("squared", 1, 1.5, "none", {}),  # below the rank of the convex solution
        pytest.param("huber", 1, 0.5, "columns", {}, marks=SLOW),
        ("logistic", 1, 0.5, "none", {}),
        # A penalty below the noise:
        pytest.param("squared", 2, 0.05, "none", {}, marks=SLOW),
        pytest.param("squared", 20, 0.05, "columns", {}, marks=SLOW),
        pytest.param("squared", 8, 2.5, "rows", {}, marks=SLOW),
        ("squared", 8, 2.5, "both", {}),
        pytest.param("huber", 8, 1.8, "both", {}, marks=SLOW),
        pytest.param("squared", 8, 2.5, "columns", {"l2_biases": 0.5}, marks=SLOW),
        ("squared", 8, 2.5, "both", {"l2_biases": 0.5}),
        ("squared", 8, 0.15, "none", {"count_power": 1.0}),
        pytest.param(
            "squared",
            8,
            0.15,
            "both",
            {"count_power": 1.0, "l2_biases": 0.2},
            marks=SLOW,
        ),
    ],
)
@pytest.mark.sampled(2)
def test_the_bound_is_never_above_the_convex_minimum(
    name, rank, l2, offsets, penalty
) -> None:
    power, biases = penalty.get("count_power", 0), penalty.get("l2_biases", 0)
    problem, runs = fitted(name, rank, l2, offsets, **penalty)
    bound = dual_bound(problem, runs)
    value = convex(name, l2, offsets, biases, power)
    assert bound.value <= value * (1 + 1e-7)
    assert runs.losses[0] >= value * (1 - 1e-7)
    assert 0 <= bound.value <= runs.losses[0] * (1 + 1e-12)
    if rank == 8:  # with rank to spare the two meet
        assert runs.losses[0] / bound.value - 1 < 1e-5
    if rank < 3:
        assert "the gap is open" in bound.says


@settings(deadline=None, max_examples=20)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 6),
    name=st.sampled_from(list(LOSSES)),
    offsets=st.sampled_from(["none", "columns", "rows", "both"]),
    biases=st.sampled_from([0.0, 0.3]),
    power=st.sampled_from([0.0, 0.5]),
    scaled=st.booleans(),
    seed=st.integers(0, 999),
)
def test_no_factors_are_below_the_bound(
    rows, columns, name, offsets, biases, power, scaled, seed
) -> None:
    generator = np.random.default_rng(seed)
    table = generator.normal(size=(rows, columns))
    if name == "logistic":
        table = (table > 0).astype(float)
    mask = generator.random(table.shape) < 0.8
    mask[0, 0] = True
    weights = generator.uniform(0.3, 2, table.shape)
    found = cells(
        np.where(mask, table, np.nan), LOSSES[name][1], weights=weights, scales=scaled
    )
    asked = {"l2_rows": 0.4, "l2_columns": 0.1, "l2_biases": biases}
    problem = Factorization(
        found, 1, offsets=offsets, penalty={**asked, "count_power": power}
    )
    runs = descend(problem, 1, steps=Alternating(), stop=Stop(20))
    bound = dual_bound(problem, runs)
    if bound is None:  # doubly centred slopes may not be found
        assert offsets == "both"
        return
    assert bound.value <= runs.losses[0] + 1e-9
    wide = Factorization(
        found,
        min(rows, columns),
        offsets=offsets,
        penalty={**asked, "count_power": power},
    )
    best = descend(wide, 1, steps=Alternating(), stop=Stop(100))
    assert bound.value <= best.losses[0] + 1e-9
    for size in (0.01, 0.3, 1.0):
        at = {
            n: torch.tensor(v + size * generator.normal(size=(20, *v.shape[1:])))
            for n, v in best.parameters.items()
        }
        assert bound.value <= float(wide.losses(at, torch.arange(20), 0).min()) + 1e-9


@pytest.mark.parametrize("offsets", ["none", "columns"])
def test_shrunk_singular_values_are_the_convex_minimum(offsets) -> None:
    problem = Factorization(SMALL, 20, offsets=offsets, penalty=1.2)
    X = cvxpy.Variable(SMALL.shape)
    b = cvxpy.Variable((1, 20))
    Z = X + np.ones((30, 1)) @ b if offsets == "columns" else X
    value = cvxpy.sum_squares(SMALL - Z) + 2.4 * cvxpy.normNuc(X)
    least = solved(cvxpy.Problem(cvxpy.Minimize(value)))
    found = shrunk_svd(problem)
    assert found.kind == "exact"
    assert found.value == pytest.approx(least, rel=1e-7)


@pytest.mark.parametrize("offsets", some(["columns", "none", "rows", "both"], 2))
@pytest.mark.parametrize("l2", [0.0, 0.7, {"l2_rows": 0.3, "l2_columns": 2.0}])
@pytest.mark.sampled(3)
def test_descents_reach_shrunk_singular_values_and_nothing_below(offsets, l2) -> None:
    problem = Factorization(
        SMALL, 3, offsets=offsets, penalty=l2, initialization="normal"
    )
    stop = Stop(1000, gradient_tol=1e-11)
    runs = descend(problem, 2, steps=Alternating(), stop=stop)
    found = shrunk_svd(problem)
    assert found.kind == "exact"
    assert (runs.losses >= found.value * (1 - 1e-11)).all()
    assert runs.losses.min() == pytest.approx(found.value, rel=1e-9)


@pytest.mark.parametrize("offsets", ["none", "columns"])
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_a_sparse_table_of_zeros_has_the_answer_of_the_dense_one(offsets, l2) -> None:
    table = np.where(MASK, SMALL, 0)
    dense = Factorization(table, 4, offsets=offsets, penalty=l2)
    zeros = cells(scipy.sparse.csr_array(table), sparse="zero")
    sparse = Factorization(zeros, 4, offsets=offsets, penalty=l2)
    assert shrunk_svd(sparse).value == pytest.approx(shrunk_svd(dense).value, rel=1e-10)
    runs = descend(sparse, 2, steps=Alternating(), stop=Stop(300))
    assert reference(sparse, runs).kind == "exact"
    assert runs.losses.min() == pytest.approx(shrunk_svd(dense).value, rel=1e-8)


def test_which_answer_a_problem_has() -> None:
    holed = np.where(MASK, SMALL, np.nan)

    def kind(table, **options) -> str:
        problem = Factorization(table, 2, **options)
        return reference(problem, descend(problem, 1, stop=Stop(0))).kind

    assert kind(SMALL) == "exact"
    assert kind(SMALL, penalty=1.0) == "exact"
    assert kind(SMALL, penalty={"l2_rows": 1.0}) == "bound"
    assert kind(SMALL, penalty={"l1": 1.0}) == "bound"
    assert kind(np.abs(SMALL), constraint="nonnegative") == "bound"
    assert kind(SMALL, penalty={"l2": 1.0, "count_power": 1}) == "bound"
    assert kind(holed) == "best found"
    assert kind(holed, penalty=1.0) == "bound"
    assert kind(holed, penalty={"l2_rows": 1.0}) == "best found"
    assert kind(LABELS, loss="logistic", penalty=1.0) == "bound"
    assert kind(LABELS, loss="categorical", penalty=1.0) == "best found"
    assert kind(LABELS, loss=lambda p, t: (p - t) ** 2, penalty=1.0) == "best found"
