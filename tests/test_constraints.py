"""Constraints and penalties: the prox, and the quadratic they are solved in."""

from __future__ import annotations

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

import descents
from descents import Adam, Factorization, LineDescent, Problem, Runs, Stop
from descents.constraints.constraints import Regularizer, counted, regularizers
from descents.constraints.coordinates import MOST_COORDINATES, SOURCE
from descents.errors import InvalidValueError
from descents.kernels.compiled import of_precision
from descents.tables.datasets import planted_table

needs_compiler = pytest.mark.skipif(
    of_precision(SOURCE, torch.float64) is None, reason="there is no C compiler"
)

KINDS = {
    "free": Regularizer(l2=0.3),
    "nonnegative": Regularizer(nonnegative=True),
    "l1": Regularizer(l1=0.8),
    "both": Regularizer(nonnegative=True, l1=0.8),
}


def descend(problem: Problem, starts, **options) -> Runs:
    """Descend in chunks no wider than asked for: a whole one is 256 starts."""
    count = starts if isinstance(starts, int) else len(starts)
    return descents.descend(problem, starts, **{"width": count, **options})


@needs_compiler
@settings(deadline=None, max_examples=40)
@given(
    q=st.integers(1, MOST_COORDINATES),
    rows=st.integers(1, 70),
    kind=st.sampled_from(["nonnegative", "l1", "both"]),
    shared=st.booleans(),
    double=st.booleans(),
)
def test_compiled_rounds_are_those_of_torch(q, rows, kind, shared, double) -> None:
    rng = np.random.default_rng(rows * 100 + q)
    dtype = torch.float64 if double else torch.float32
    bases = rng.normal(size=(2, 1 if shared else rows, q + 2, q))
    gram = torch.tensor(bases.swapaxes(-1, -2) @ bases, dtype=dtype)
    right, point = torch.tensor(rng.normal(size=(2, 2, rows, q)), dtype=dtype)
    l2, l1 = torch.tensor(rng.uniform(0, 2, (2, rows, q)), dtype=dtype)
    bound = max(1, q - 1)
    found = []
    with pytest.MonkeyPatch.context() as patched:
        for compiled in ("1", "0"):
            patched.setenv("DESCENTS_COMPILE", compiled)
            found.append(KINDS[kind].solve(gram, right, point, l2, l1, bound))
    tolerance = 1e-9 if double else 2e-3
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
    if KINDS[kind].nonnegative:
        assert (found[0][..., :bound] >= 0).all()


@needs_compiler
@pytest.mark.parametrize("shared", [True, False])
def test_rows_and_starts_do_not_change_the_bits_of_others(shared) -> None:
    rng = np.random.default_rng(0)
    bases = rng.normal(size=(2, 1 if shared else 50, 9, 6))
    gram = torch.tensor(bases.swapaxes(-1, -2) @ bases)
    right, point = torch.tensor(rng.normal(size=(2, 2, 50, 6)))
    zero, asked = torch.zeros(50, 6, dtype=torch.float64), KINDS["nonnegative"]
    right[1, 7] = torch.nan
    both = asked.solve(gram, right, point, zero, zero, 6)
    alone = asked.solve(gram[:1], right[:1], point[:1], zero, zero, 6)
    assert torch.equal(both[:1], alone)
    spoilt = both[1].isnan().any(-1)
    assert spoilt.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("kind", KINDS)
def test_the_prox_is_that_of_a_convex_solver(kind) -> None:
    asked = KINDS[kind]
    point = np.random.default_rng(0).normal(size=30) * 2
    rates = np.random.default_rng(1).uniform(0.1, 2, 30)
    x = cvxpy.Variable(30, nonneg=asked.nonnegative)
    away = cvxpy.sum_squares(cvxpy.multiply(np.sqrt(1 / (2 * rates)), x - point))
    cvxpy.Problem(cvxpy.Minimize(asked.l1 * cvxpy.norm1(x) + away)).solve(
        solver="CLARABEL"
    )
    found = asked.prox(torch.tensor(point), torch.tensor(rates)).numpy()
    np.testing.assert_allclose(found, x.value, atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(
    point=st.floats(-5, 5), rate=st.floats(0.01, 3), kind=st.sampled_from(list(KINDS))
)
def test_no_other_number_is_better_than_the_prox(point, rate, kind) -> None:
    asked = KINDS[kind]

    def value(x: np.ndarray) -> np.ndarray:
        return asked.l1 * np.abs(x) + (x - point) ** 2 / (2 * rate)

    found = asked.prox(torch.tensor([point], dtype=torch.float64), rate).numpy()
    grid = np.linspace(0 if asked.nonnegative else -8, 8, 4001)
    assert found[0] >= 0 or not asked.nonnegative
    assert value(found)[0] <= value(grid).min() + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_projection_twice_is_one_to_the_bit(dtype) -> None:
    point = torch.randn(500, dtype=dtype, generator=torch.Generator().manual_seed(0))
    asked = KINDS["nonnegative"]
    once = asked.prox(point, 0.7)
    assert torch.equal(asked.prox(once, 0.7), once)
    assert asked.distance(once) == 0
    assert asked.distance(point) == float(-point.min())
    assert Regularizer().distance(point) == 0
    assert torch.equal(Regularizer(l2=3.0).prox(point, 0.7), point)


def system(
    rows: int, q: int, seed: int = 0, starts: int = 2, *, shared: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return Gram matrices, right-hand sides and points of random least squares."""
    generator = np.random.default_rng(seed)
    many = 1 if shared else rows
    tall = generator.normal(size=(starts, many, q + 4, q))
    target = generator.normal(size=(starts, rows, q + 4))
    right = np.einsum("smkq,smk->smq", np.broadcast_to(
        tall, (starts, rows, q + 4, q)), target)  # fmt: skip
    gram = np.einsum("smkq,smkp->smqp", tall, tall)
    point = generator.normal(size=(starts, rows, q))
    return torch.tensor(gram), torch.tensor(right), torch.tensor(point)


@pytest.mark.parametrize("shared", [True, False])
def test_the_free_solution_is_that_of_the_normal_equations(shared) -> None:
    gram, right, point = system(7, 4, shared=shared)
    l2 = torch.tensor([0.3, 0.3, 0.3, 0.0], dtype=torch.float64).expand(7, 4)
    found = KINDS["free"].solve(gram, right, point, l2, 0 * l2, 3)
    for s in range(2):
        for i in range(7):
            whole = gram[s, 0 if shared else i].numpy() + np.diag(l2[i])
            expected = np.linalg.solve(whole, right[s, i].numpy())
            np.testing.assert_allclose(found[s, i], expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_one_gram_for_all_is_as_one_for_each(kind) -> None:
    gram, right, point = system(6, 3, seed=1, shared=True)
    asked = KINDS[kind]
    l2 = torch.full((6, 3), asked.l2, dtype=torch.float64)
    l1 = torch.full((6, 3), asked.l1, dtype=torch.float64)
    each = gram.expand(-1, 6, -1, -1).contiguous()
    found = [asked.solve(g, right, point, l2, l1, 3) for g in (gram, each)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_repeated_rounds_reach_the_nonnegative_least_squares() -> None:
    generator = np.random.default_rng(2)
    tall, target = generator.normal(size=(12, 5)), generator.normal(size=(8, 12))
    gram = torch.tensor(tall.T @ tall)[None, None]
    right, zero = torch.tensor(target @ tall)[None], torch.zeros(8, 5).double()
    asked, x = KINDS["nonnegative"], torch.ones(1, 8, 5).double()
    for _ in range(200):
        x = asked.solve(gram, right, x, zero, zero, 5)
        assert bool((x >= 0).all())
    expected = np.stack([nnls(tall, row)[0] for row in target])
    assert (expected == 0).any()
    np.testing.assert_allclose(x[0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["l1", "both"])
def test_repeated_rounds_reach_the_answer_of_a_convex_solver(kind) -> None:
    asked = KINDS[kind]
    gram, right, x = system(3, 4, seed=3, starts=1)
    l2 = torch.tensor([[0.2], [0.0], [1.0]], dtype=torch.float64).expand(3, 4)
    l1 = torch.tensor([[3.0], [1.0], [9.0]], dtype=torch.float64).expand(3, 4).clone()
    l1[:, 3] = 0  # the last coordinate is a bias: free
    if asked.nonnegative:
        x = x.abs()
    for _ in range(300):
        x = asked.solve(gram, right, x, l2, l1, 3)
    for i in range(3):
        v = cvxpy.Variable(4)
        whole = gram[0, i].numpy() + np.diag(l2[i])
        value = cvxpy.quad_form(v, cvxpy.psd_wrap(whole)) - 2 * right[0, i].numpy() @ v
        value += l1[i].numpy() @ cvxpy.abs(v)
        held = [v[:3] >= 0] if asked.nonnegative else []
        cvxpy.Problem(cvxpy.Minimize(value), held).solve(solver="CLARABEL")
        np.testing.assert_allclose(x[0, i], v.value, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    q=st.integers(1, 5),
    rows=st.integers(1, 6),
    kind=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 999),
)
def test_a_round_never_raises_the_quadratic(q, rows, kind, seed) -> None:
    asked = KINDS[kind]
    gram, right, point = system(rows, q, seed=seed)
    if asked.nonnegative:
        point = point.abs()
    l2 = torch.full((rows, q), asked.l2, dtype=torch.float64)
    l1 = torch.full((rows, q), asked.l1, dtype=torch.float64)

    def value(x: torch.Tensor) -> torch.Tensor:
        square = (x * (gram @ x[..., None])[..., 0]).sum(-1) - 2 * (x * right).sum(-1)
        return square + (l2 * x.square()).sum(-1) + (l1 * x.abs()).sum(-1)

    found = asked.solve(gram, right, point, l2, l1, q)
    assert bool((value(found) <= value(point) + 1e-9).all())
    assert asked.distance(found) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_nothing_is_asked_the_point_stays(dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(1, 4, 3, dtype=dtype, generator=generator)
    zero = torch.zeros(4, 3, dtype=dtype)
    gram = torch.zeros(1, 4, 3, 3, dtype=dtype)
    found = Regularizer().solve(gram, torch.zeros_like(point), point, zero, zero, 3)
    torch.testing.assert_close(found, point)
    # A singular Gram matrix: the answer nearest to the point.
    u = torch.tensor([1.0, 2.0, 2.0], dtype=dtype) / 3
    gram = (4 * torch.outer(u, u)).expand(1, 4, 3, 3)
    right = 8 * u.expand(1, 4, 3)
    found = Regularizer().solve(gram, right, point, zero, zero, 3)
    nearest = point + (2 - point @ u)[..., None] * u
    # The damping is some tens of roundings: what it holds, it holds to a few parts in
    # a hundred; what the equations hold is exact.
    torch.testing.assert_close(found, nearest, rtol=0, atol=0.1)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(
        found @ u, torch.full_like(found[..., 0], 2), rtol=tolerance, atol=0
    )


def test_penalties_are_multiplied_by_the_counts() -> None:
    factor = torch.tensor([[[1.0, -2.0], [3.0, 0.0]]])
    counts = torch.tensor([1.0, 10.0])
    asked = Regularizer(l1=2.0, l2=0.5)
    assert asked.ridge(factor, counts).tolist() == [0.5 * (5 + 90)]
    assert asked.lasso(factor, counts).tolist() == [2.0 * (3 + 30)]
    np.testing.assert_array_equal(counted(np.array([0.0, 4.0]), 0.5), [1, 2])
    np.testing.assert_array_equal(counted(np.array([0.0, 4.0]), 0), [1, 1])


@pytest.mark.parametrize("rule", [Adam(0.05), LineDescent()])
def test_first_order_steps_end_in_the_set_and_with_exact_zeros(rule) -> None:
    table, _ = planted_table(20, 10, 2, noise=0.1, seed=0)
    problem = Factorization(
        np.abs(table), 3, constraint=("nonnegative", None), penalty={"l1": 2.0}
    )
    runs = descend(problem, 3, steps=rule, stop=Stop(300))
    assert (runs.parameters["U"] >= 0).all()
    assert (runs.parameters["U"] == 0).any()
    assert (runs.parameters["V"] == 0).any()
    assert (runs.losses < descend(problem, 3, stop=Stop(0)).losses).all()


@pytest.mark.parametrize(
    ("kind", "penalty"), [("nonnegative", {}), (None, {"l1": 1.5}), (None, {"l2": 1.0})]
)
def test_adam_of_equal_rates_takes_the_prox_of_its_own_rates(kind, penalty) -> None:
    # One step from a point: x - r g / (|g| + epsilon), then the prox of rate r / |g|.
    table = np.arange(6.0).reshape(3, 2) - 2
    given_points = (np.full((1, 3, 1), 0.3), np.full((1, 2, 1), 0.4))
    problem = Factorization(
        table, 1, constraint=kind, penalty=penalty, initialization=given_points
    )
    runs = descend(problem, 1, steps=Adam(0.05), stop=Stop(1))
    U, V = given_points[0][0], given_points[1][0]
    rest = U @ V.T - table
    l2 = penalty.get("l2", 0.0)
    for name, x, g in (("U", U, 2 * rest @ V), ("V", V, 2 * rest.T @ U)):
        whole = g + 2 * l2 * x
        scale = 0.05 / (np.abs(whole) + 1e-8)
        moved = x - scale * whole
        if penalty.get("l1"):
            moved = np.sign(moved) * np.maximum(np.abs(moved) - 1.5 * scale, 0)
        if kind:
            moved = np.maximum(moved, 0)
        np.testing.assert_allclose(runs.parameters[name][0], moved, rtol=1e-9)


def test_what_a_penalty_may_say() -> None:
    rows, columns, biases, power = regularizers(
        ("nonnegative", None),
        {"l2": 1, "l2_rows": 3, "l1_columns": 2, "l2_biases": 4, "count_power": 0.5},
    )
    assert rows == Regularizer(nonnegative=True, l2=3.0)
    assert columns == Regularizer(l1=2.0, l2=1.0)
    assert (biases, power) == (4.0, 0.5)
    assert regularizers(None, 0.5)[:2] == (Regularizer(l2=0.5),) * 2
    assert Regularizer(l2=1).smooth
    assert not Regularizer(l1=1).smooth


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("positive", None), "constraint is 'positive'"),
        ((("nonnegative",) * 3, None), "constraint is"),
        ((None, {"l3": 1}), "penalty has 'l3'"),
        ((None, {"l1": -1}), "l1 is -1"),
        ((None, -2.0), "penalty is -2"),
        ((None, {"count_power": float("nan")}), "count_power is nan"),
    ],
)
def test_wrong_penalties_are_refused(arguments, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        regularizers(*arguments)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("constraint", "penalty"),
    [
        (None, {"l2": 1.0}),
        (None, {"l1": 0.5}),
        ("nonnegative", {"l1": 0.5, "l2": 1.0}),
        ("sparse:2", {"l1": 0.5, "l2": 1.0}),
        ("unit_norm", {"l1": 0.5}),
        (None, {"l2": 1.0, "smooth_rows": 0.7}),
        ("nonnegative", {"l1": 0.5, "smooth_rows": 0.7}),
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_starts_may_have_charges_of_their_own(
    constraint: str | None,
    penalty: dict[str, float],
    *,
    shared: bool,
    compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not compiled:
        name = "descents.constraints.coordinates.compiled_rounds"
        monkeypatch.setattr(name, lambda *args: None)
    starts, rows, q = 3, 7, 4  # the last coordinate is a bias
    generator = torch.Generator().manual_seed(0)
    numbers = {"generator": generator, "dtype": torch.float64}
    root = torch.randn(starts, 1 if shared else rows, 9, q, **numbers)
    gram = root.mT @ root
    right, point = (torch.randn(starts, rows, q, **numbers) for _ in range(2))
    l2, l1 = (
        torch.rand(starts, 1, q, **numbers).expand(-1, rows, -1) for _ in range(2)
    )
    l1 = l1 * (torch.arange(q) < q - 1)
    asked = regularizers((constraint, None), penalty)[0]
    if not asked.l1:
        l1 = torch.zeros_like(l1)
    found, change = asked.step(gram, right, point, l2, l1, q - 1)
    for k in range(starts):
        one = slice(k, k + 1)
        alone, fall = asked.step(gram[one], right[one], point[one], l2[k], l1[k], q - 1)
        torch.testing.assert_close(found[one], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(change[one], fall, rtol=1e-10, atol=1e-10)
