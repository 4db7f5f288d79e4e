"""Factorization: its losses against a plain loop, its starts, its forms, new rows."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import descents
from descents import Alternating, Factorization, LineDescent, Problem, Runs, Stop
from descents.cells.observed import cells
from descents.errors import InvalidValueError
from descents.factorization.factorization import OFFSETS
from descents.factorization.initialization import INITIALIZATIONS
from descents.linalg.spectra import leading_triples, singular_form
from descents.optim.problem import losses_and_gradients
from descents.optim.stacked import flat
from descents.tables.datasets import planted_table

GENERATOR = np.random.default_rng(0)
TABLE = planted_table(9, 6, 2, noise=0.3, seed=1)[0] + 1.0
MASK = GENERATOR.random(TABLE.shape) < 0.75
HOLED = np.where(MASK, TABLE, np.nan)
WEIGHTS = GENERATOR.uniform(0.3, 2, TABLE.shape)
PENALTY = {
    "l2_rows": 0.3,
    "l2_columns": 0.7,
    "l1_columns": 0.2,
    "l2_biases": 0.4,
    "count_power": 0.5,
}


def point(problem: Factorization, starts: int = 2, seed: int = 2) -> dict:
    generator = np.random.default_rng(seed)
    return {
        name: value.double() + torch.tensor(generator.normal(size=value.shape))
        for name, value in problem.points(range(starts), 0).items()
    }


def descend(problem: Problem, starts, **options) -> Runs:
    """Descend in chunks no wider than asked for: a whole one is 256 starts."""
    count = starts if isinstance(starts, int) else len(starts)
    return descents.descend(problem, starts, **{"width": count, **options})


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("penalty", [None, 0.5, PENALTY])
@pytest.mark.parametrize("kind", ["complete", "holes", "weights", "scales", "sparse"])
def test_losses_are_those_of_a_plain_double_loop(offsets, penalty, kind) -> None:
    mask, weights = np.ones(TABLE.shape, bool), np.ones(TABLE.shape)
    if kind == "complete":
        found = cells(TABLE)
    elif kind == "sparse":
        rows, columns = np.nonzero(MASK)
        entries = TABLE[rows, columns]
        found = cells(scipy.sparse.csr_array((entries, (rows, columns)), TABLE.shape))
        mask = MASK
    else:
        mask = MASK
        weights = WEIGHTS if kind == "weights" else weights
        found = cells(HOLED, weights=weights, scales=kind == "scales")
    spread = np.nanstd(HOLED, 0) if kind == "scales" else np.ones(6)
    problem = Factorization(found, 2, offsets=offsets, penalty=penalty)
    p = point(problem)
    given_penalty = {"l2": penalty} if isinstance(penalty, float) else penalty or {}
    l2 = given_penalty.get("l2", 0)
    power = given_penalty.get("count_power", 0)
    for s in range(2):
        at = {name: value[s].numpy() for name, value in p.items()}
        total = 0.0
        for i in range(9):
            for j in range(6):
                z = at["U"][i] @ at["V"][j]
                if offsets != "none":
                    z += problem.base[j]
                if offsets in ("rows", "both"):
                    z += at["row_biases"][i]
                if offsets in ("columns", "both"):
                    z += at["offsets"][j]
                x = TABLE[i, j] / spread[j]
                total += mask[i, j] * weights[i, j] * (z - x) ** 2
        for name, axis, side in (("U", 1, "rows"), ("V", 0, "columns")):
            counts = mask.sum(axis) ** power
            own_l2 = given_penalty.get(f"l2_{side}", l2)
            own_l1 = given_penalty.get(f"l1_{side}", 0)
            bias = {"rows": "row_biases", "columns": "offsets"}[side]
            for k, count in enumerate(counts):
                total += count * own_l2 * (at[name][k] ** 2).sum()
                total += count * own_l1 * np.abs(at[name][k]).sum()
                if bias in at:
                    extra = given_penalty.get("l2_biases", 0)
                    total += count * extra * at[bias][k] ** 2
        value = float(problem.losses(p, torch.arange(2), 0)[s])
        assert value == pytest.approx(total, rel=1e-11)


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize(
    "loss", ["squared", "logistic", "poisson", "ordinal", "categorical"]
)
def test_gradients_are_those_of_finite_differences(offsets, scales, loss) -> None:
    table = HOLED
    if loss in ("logistic", "poisson"):
        table = np.where(MASK, TABLE > 1, np.nan)
    elif loss != "squared":
        table = np.where(MASK, np.digitize(TABLE, [0.5, 1.5]), np.nan)
    penalty = {**PENALTY, "l1_columns": 0.0}
    found = cells(table, loss, weights=WEIGHTS, scales=scales)
    problem = Factorization(found, 2, offsets=offsets, penalty=penalty)
    p, number = point(problem, 1), torch.arange(1)
    _, gradients = losses_and_gradients(problem, p, number, 0)
    step = 1e-6
    for name, value in p.items():
        numeric = torch.zeros_like(value)
        for k in range(value.numel()):
            away = torch.zeros_like(value).flatten()
            away[k] = step
            moved = away.reshape(value.shape)
            ends = [
                problem.losses({**p, name: value + sign * moved}, number, 0)
                for sign in (1, -1)
            ]
            numeric.view(-1)[k] = (ends[0] - ends[1]).item() / (2 * step)
        torch.testing.assert_close(gradients[name], numeric, rtol=1e-5, atol=1e-5)


def test_the_prediction_is_of_the_extended_factors() -> None:
    problem = Factorization(HOLED, 2, offsets="both", penalty={"l2_biases": 0.5})
    p = point(problem)
    left, right = problem.extended(p)
    assert left.shape[-1] == right.shape[-1] == 4
    expected = p["U"] @ p["V"].mT + p["row_biases"][..., None] + p["offsets"][:, None]
    expected = expected + np.nanmean(HOLED)  # what penalised biases deviate from
    torch.testing.assert_close(problem.predict(p), expected)
    plain = Factorization(HOLED, 2)
    assert plain.extended(p)[0].shape[-1] == 2


def test_the_prox_minds_counts_and_units() -> None:
    problem = Factorization(
        HOLED,
        2,
        constraint=("nonnegative", None),
        penalty={"l1": 0.5, "count_power": 1},
    )
    p = point(problem, 1)
    rates = {name: torch.tensor(0.1).double() for name in p}
    moved = problem.prox(p, rates)
    rows, columns = MASK.sum(1), MASK.sum(0)
    U = np.maximum(p["U"][0].numpy() - 0.05 * rows[:, None], 0)
    V = p["V"][0].numpy()
    V = np.sign(V) * np.maximum(np.abs(V) - 0.05 * columns[:, None], 0)
    np.testing.assert_allclose(moved["U"][0], U, atol=1e-12)
    np.testing.assert_allclose(moved["V"][0], V, atol=1e-12)


def test_the_penalty_without_gradient_is_that_of_the_prox() -> None:
    problem = Factorization(HOLED, 2, penalty={"l1": 0.5})
    p = point(problem, 1)
    losses, gradients = losses_and_gradients(problem, p, torch.arange(1), 0)
    plain = Factorization(HOLED, 2)
    bare, without = losses_and_gradients(plain, p, torch.arange(1), 0)
    lasso = 0.5 * (p["U"].abs().sum() + p["V"].abs().sum())
    assert float(losses - bare) == pytest.approx(float(lasso))
    torch.testing.assert_close(flat(gradients), flat(without))
    assert problem.constrained


def test_the_spectrum_is_that_of_the_residuals() -> None:
    problem = Factorization(TABLE, 3, offsets="columns")
    left, values, right = problem.spectrum()
    centred = TABLE - TABLE.mean(0)
    expected = np.linalg.svd(centred, compute_uv=False)[:3]
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    np.testing.assert_allclose(left.T @ centred @ right, np.diag(expected), atol=1e-10)
    holed = Factorization(HOLED, 2, offsets="columns")
    rest = np.where(MASK, TABLE - np.nanmean(HOLED, 0), 0)
    expected = np.linalg.svd(rest, compute_uv=False)[:2] / MASK.mean()
    np.testing.assert_allclose(holed.spectrum()[1], expected, rtol=1e-10)
    rows, columns = np.nonzero(MASK)
    entries = scipy.sparse.csr_array((TABLE[MASK], (rows, columns)), TABLE.shape)
    sparse = Factorization(entries, 2, offsets="columns")
    np.testing.assert_allclose(sparse.spectrum()[1], expected, rtol=1e-10)
    zeros = cells(scipy.sparse.csr_array(TABLE), sparse="zero")
    found = Factorization(zeros, 3, offsets="columns").spectrum()
    np.testing.assert_allclose(found[1], values, rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_spectrum_of_counts_under_kl_is_that_of_the_counts(weighted) -> None:
    table = np.random.default_rng(3).poisson(3.0, (12, 7)).astype(float)
    weights = np.random.default_rng(4).uniform(0.5, 2, (12, 7)) if weighted else None
    dense = cells(table, "kl", weights=weights)
    sparse = scipy.sparse.csr_array(table + 1) - scipy.sparse.csr_array(
        np.ones((12, 7))
    )
    # Over the mean weight: weights that are all twice as large change nothing.
    expected = table * (1 if weights is None else weights / weights.mean())
    values = np.linalg.svd(expected, compute_uv=False)[:3]
    problem = Factorization(dense, 3, constraint="nonnegative", initialization="nndsvd")
    np.testing.assert_allclose(problem.spectrum()[1], values, rtol=1e-10)
    runs = descend(problem, 1, steps=Alternating(), stop=Stop(300))
    U = runs.parameters["U"][0]
    # From equal columns multiplicative steps would never part them.
    assert np.linalg.matrix_rank(U) == 3
    if not weighted:
        zeros = cells(sparse, "kl", sparse="zero")
        other = Factorization(zeros, 3, constraint="nonnegative")
        np.testing.assert_allclose(other.spectrum()[1], values, rtol=1e-10)


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
@pytest.mark.parametrize("offsets", ["none", "columns"])
def test_every_start_is_finite_feasible_and_its_own(initialization, offsets) -> None:
    kind = "nonnegative" if initialization != "spectral" else None
    problem = Factorization(
        np.abs(HOLED),
        2,
        offsets=offsets,
        constraint=kind,
        initialization=initialization,
    )
    points = problem.points(range(4), 0)
    alone = problem.points([2], 0)
    for name, value in points.items():
        assert bool(torch.isfinite(value).all())
        assert torch.equal(value[2], alone[name][0])
        if kind and name in "UV":
            assert bool((value >= 0).all())
    assert not torch.equal(points["U"][0], points["U"][1])
    if offsets == "columns":
        np.testing.assert_allclose(points["offsets"][0], np.nanmean(np.abs(HOLED), 0))


def test_the_spectral_start_of_a_complete_table_is_the_answer() -> None:
    problem = Factorization(TABLE, 2, initialization="spectral")
    tail = np.square(np.linalg.svd(TABLE, compute_uv=False)[2:]).sum()
    assert descend(problem, 1, stop=Stop(0)).losses[0] == pytest.approx(tail, rel=1e-10)


def test_normal_starts_have_the_spread_of_the_table() -> None:
    table = planted_table(200, 50, 5, seed=5)[0] * np.geomspace(0.1, 100, 50)
    for found in (cells(table), cells(table, scales=True)):
        problem = Factorization(found, 4, initialization="normal")
        product = problem.predict(problem.points(range(20), 0)).numpy()
        spread = np.sqrt(np.square(table).mean(0))
        ratio = np.sqrt(np.square(product).mean((0, 1))) * problem.units / spread
        assert 0.5 < ratio.min() < ratio.max() < 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_table_without_residuals_has_a_start(dtype) -> None:
    for table in (
        scipy.sparse.csr_array(np.eye(400)),
        scipy.sparse.csr_array((350, 400)) + scipy.sparse.eye_array(350, 400),
    ):
        problem = Factorization(
            table, 2, offsets="columns", initialization="spectral", dtype=dtype
        )
        runs = descend(problem, 2, steps=Alternating(), stop=Stop(3))
        np.testing.assert_allclose(runs.losses, 0, atol=1e-10)
    for shape in ((350, 400), (400, 350)):
        left, values, right = leading_triples(scipy.sparse.csr_array(shape), 2)
        assert (left.shape, right.shape) == ((shape[0], 2), (shape[1], 2))
        np.testing.assert_array_equal(values, 0)
        np.testing.assert_allclose(left.T @ left, np.eye(2))


@pytest.mark.parametrize("rank", [1, 4, 8, 9])
def test_leading_triples_of_every_kind_of_matrix(rank) -> None:
    matrix = np.random.default_rng(6).normal(size=(12, 9))
    expected = np.linalg.svd(matrix, compute_uv=False)[:rank]
    operator = scipy.sparse.linalg.aslinearoperator(matrix)
    for given_matrix in (matrix, scipy.sparse.csr_array(matrix), operator):
        left, values, right = leading_triples(given_matrix, rank)
        np.testing.assert_allclose(values, expected, rtol=1e-9)
        np.testing.assert_allclose(matrix @ right, left * values, atol=1e-8)
        assert (right[np.abs(right).argmax(0), np.arange(rank)] > 0).all()


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    rank=st.integers(1, 9),
    center=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_singular_form_has_the_same_product(
    rows, columns, rank, center, seed
) -> None:
    rank = min(rank, rows, columns)
    generator = np.random.default_rng(seed)
    U, V = generator.normal(size=(rows, rank)), generator.normal(size=(columns, rank))
    scores, components, turn, mean = singular_form(U, V, center=center)
    np.testing.assert_allclose(mean, U.mean(0) if center else 0)
    np.testing.assert_allclose(scores @ components, (U - mean) @ V.T, atol=1e-10)
    np.testing.assert_allclose(components @ components.T, np.eye(rank), atol=1e-10)
    np.testing.assert_allclose((U - mean) @ turn, scores, atol=1e-10)
    gram = scores.T @ scores
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    assert (np.diff(np.diag(gram)) <= 1e-9).all()


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.sampled(4)
def test_the_rows_of_a_table_as_new_rows_have_no_better_place(offsets, biased) -> None:
    penalty = {"l2": 0.5, "l2_biases": 0.3 if biased else 0.0}
    problem = Factorization(HOLED, 2, offsets=offsets, penalty=penalty)
    stop = Stop(3000, gradient_tol=1e-12)
    runs = descend(problem, 1, steps=Alternating(), stop=stop)
    columns = {name: value[0] for name, value in runs.parameters.items()}
    new = problem.for_rows(cells(HOLED[:4], blank=True), columns)
    found = descend(new, 1, steps=Alternating(), stop=stop)
    np.testing.assert_allclose(found.parameters["U"][0], columns["U"][:4], atol=1e-6)
    if offsets in ("rows", "both"):
        np.testing.assert_allclose(
            found.parameters["row_biases"][0], columns["row_biases"][:4], atol=1e-6
        )
    slower = descend(new, 1, steps=LineDescent(), stop=Stop(500))
    assert slower.losses[0] == pytest.approx(found.losses[0], rel=1e-8)


def test_rows_and_columns_without_a_cell_stay_at_zero() -> None:
    table = HOLED.copy()
    table[3], table[:, 2] = np.nan, np.nan
    for steps in (Alternating(), LineDescent()):
        problem = Factorization(table, 2, offsets="columns", penalty=0.1)
        runs = descend(problem, 2, steps=steps, stop=Stop(30))
        assert (runs.parameters["U"][:, 3] == 0).all()
        assert (runs.parameters["V"][:, 2] == 0).all()
        assert np.isfinite(runs.losses).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Factorization(TABLE, 7), "rank is 7"),
        (lambda: Factorization(TABLE, 1, offsets="all"), "offsets is 'all'"),
        (lambda: Factorization(TABLE, 1, initialization="x"), "initialization is 'x'"),
        (lambda: Factorization(np.abs(TABLE), 1, loss="kl"), "kl loss needs"),
        (
            lambda: Factorization(
                TABLE,
                1,
                constraint="nonnegative",
                initialization=(-np.ones((1, 9, 1)), np.ones((1, 6, 1))),
            ),
            "nonnegative numbers",
        ),
        (
            lambda: Factorization(
                TABLE, 1, initialization=(np.ones((1, 6, 1)), np.ones((1, 6, 1)))
            ),
            r"the initial U has shape \(1, 6, 1\)",
        ),
    ],
)
def test_wrong_factorizations_are_refused(make, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()
