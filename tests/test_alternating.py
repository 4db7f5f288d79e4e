"""Alternating, quasi-Newton and self-rated steps: they fall, stay feasible, and arrive."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import NMF

import descents
from conftest import slow, some
from descents import (
    LBFGS,
    Alternating,
    Factorization,
    LineDescent,
    Problem,
    Runs,
    Status,
    Stop,
    truncated_svd,
)
from descents.bounds.references import reference
from descents.cells.observed import cells
from descents.errors import InvalidValueError
from descents.factorization import multiplicative
from descents.factorization.alternating import applies
from descents.losses import Absolute, Huber
from descents.optim.problem import losses_and_gradients
from descents.tables.datasets import planted_table, uci_iris

CLEAN = planted_table(16, 9, 2, seed=0)[1]
TABLE = planted_table(16, 9, 2, noise=0.2, seed=0)[0]
MASK = np.random.default_rng(1).random(TABLE.shape) < 0.75
LABELS = (TABLE > 0).astype(float)
CLASSES = np.digitize(TABLE, [-0.5, 0.5]).astype(float)
LOSSES = {
    "squared": (TABLE, "squared"),
    "huber": (TABLE, Huber(0.3)),
    "logistic": (LABELS, "logistic"),
    "categorical": (CLASSES, "categorical"),
    "mixed": (
        np.concatenate([TABLE[:, :3], LABELS[:, 3:6], CLASSES[:, 6:]], 1),
        ["squared"] * 2 + [Huber(0.3)] + ["logistic"] * 3 + ["categorical"] * 3,
    ),
}
ASKED = {
    "free": (None, None),
    "l2": (None, {"l2": 0.2, "l2_biases": 0.1}),
    "l1": (None, {"l1": 0.3}),
    "nonnegative": ("nonnegative", None),
    "all": (("nonnegative", None), {"l1": 0.2, "l2": 0.1, "count_power": 0.5}),
}


def made(name: str, asked: str, offsets: str, kind: str) -> Factorization:
    table, loss = LOSSES[name]
    constraint, penalty = ASKED[asked]
    holed = table if kind == "complete" else np.where(MASK, table, np.nan)
    found = cells(holed, loss, scales=kind == "scales")
    return Factorization(
        found,
        2,
        offsets=offsets,
        constraint=constraint,
        penalty=penalty,
        initialization="normal",
    )


def descend(problem: Problem, starts, **options) -> Runs:
    """Descend in chunks no wider than asked for: a whole one is 256 starts."""
    count = starts if isinstance(starts, int) else len(starts)
    return descents.descend(problem, starts, **{"width": count, **options})


@pytest.mark.parametrize("offsets", ["none", slow("both")])
@pytest.mark.parametrize("kind", [slow("complete"), "holes", slow("scales")])
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", LOSSES)
def test_no_step_raises_the_objective_nor_leaves_the_set(
    name, asked, kind, offsets
) -> None:
    problem = made(name, asked, offsets, kind)
    runs = descend(problem, 2, steps=Alternating(), stop=Stop(25), record=range(26))
    curve = runs.histories["loss"]
    rises = np.diff(curve, axis=0)
    assert (rises <= 1e-11 * curve[0]).all()
    assert (curve[-1] < curve[0]).all()
    for name_of, side in (
        ("U", problem.row_regularizer),
        ("V", problem.column_regularizer),
    ):
        if side.nonnegative:
            assert (runs.parameters[name_of] >= 0).all()  # to the bit
    if asked == "all":
        assert (runs.parameters["U"] == 0).any()
        if name == "squared":
            assert (runs.parameters["V"] < 0).any()


@pytest.mark.parametrize("offsets", ["none", slow("columns"), slow("rows"), "both"])
@pytest.mark.parametrize("kind", [slow("complete"), "holes", "scales"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_mapping_is_the_gradient_by_autograd(name, kind, offsets) -> None:
    for asked in ("free", "l2"):
        problem = made(name, asked, offsets, kind)
        runs = descend(problem, 2, steps=Alternating(), stop=Stop(3))
        p = {n: torch.tensor(value) for n, value in runs.parameters.items()}
        starts = torch.arange(2)
        losses, gradients = losses_and_gradients(problem, p, starts, 0)
        update = Alternating().update(problem.bind(starts), p, {}, 0)
        torch.testing.assert_close(update.losses, losses, rtol=1e-10, atol=1e-10)
        assert list(update.mapping) == list(p) == list(update.parameters)
        for n, gradient in gradients.items():
            torch.testing.assert_close(
                update.mapping[n], gradient, rtol=1e-7, atol=1e-8
            )


@pytest.mark.parametrize("asked", ["l1", "nonnegative", "all"])
def test_the_mapping_vanishes_where_nothing_moves(asked) -> None:
    problem = made("squared", asked, "columns", "holes")
    stop = Stop(1000, gradient_tol=1e-6)
    runs = descend(problem, 2, steps=Alternating(), stop=stop)
    assert (runs.gradient_norms <= 1e-2 * runs.initial_gradient_norms).all()
    # A rule that knows nothing of quadratics finds no way down from there.
    ends = (runs.parameters["U"], runs.parameters["V"])
    table, loss = LOSSES["squared"]
    constraint, penalty = ASKED[asked]
    again = Factorization(
        np.where(MASK, table, np.nan),
        2,
        loss=loss,
        offsets="columns",
        constraint=constraint,
        penalty=penalty,
        initialization=ends,
    )
    kept = descend(again, 2, steps=Alternating(), stop=Stop(300))
    lower = descend(again, 2, steps=LineDescent(), stop=Stop(100))
    assert (lower.losses >= kept.losses * (1 - 1e-4)).all()


@pytest.mark.parametrize("asked", ["free", "l2", "nonnegative"])
def test_absolute_loss_falls_but_for_its_smoothing(asked) -> None:
    constraint, penalty = ASKED[asked]
    table = np.where(MASK, TABLE, np.nan)
    problem = Factorization(
        table, 2, loss="absolute", constraint=constraint, penalty=penalty
    )
    runs = descend(problem, 3, steps=Alternating(), stop=Stop(300), record=range(301))
    curve = runs.histories["loss"]
    # sum |r| <= sum sqrt(r^2 + s^2) <= sum |r| + s, and s falls with the steps.
    widths = TABLE.std(0).max() * 1.5 * np.maximum(0.1 * 0.9 ** np.arange(300), 1e-6)
    assert (np.diff(curve, axis=0) <= widths[:, None] * MASK.sum()).all()
    assert (curve[-1] < curve[0]).all()
    if asked == "free":
        squares = descend(
            Factorization(table, 2), 3, steps=Alternating(), stop=Stop(200)
        )
        fitted = squares.parameters["U"] @ squares.parameters["V"].transpose(0, 2, 1)
        assert curve[-1].min() < np.abs((fitted - TABLE) * MASK).sum((1, 2)).min()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offsets", ["none", "columns", "both"])
@pytest.mark.parametrize("initialization", ["spectral", "normal"])
@pytest.mark.sampled(4)
def test_absolute_loss_bears_a_constant_column(dtype, offsets, initialization) -> None:
    table = np.random.default_rng(0).normal(size=(20, 6))
    table[:, 2] = 3
    problem = Factorization(
        table,
        2,
        loss="absolute",
        offsets=offsets,
        initialization=initialization,
        dtype=dtype,
    )
    before = descend(problem, 2, stop=Stop(0)).losses
    runs = descend(problem, 2, steps=Alternating(), stop=Stop(100))
    assert (runs.losses < before).all()
    assert (runs.losses < np.abs(table - np.median(table, 0)).sum()).all()


def test_an_outlier_hardly_moves_robust_losses() -> None:
    clean = planted_table(60, 40, 2, seed=0)[1]
    table = clean.copy()
    table[2, 3] += 20
    for loss in (Absolute(), Huber(0.05)):
        problem = Factorization(table, 2, loss=loss, initialization="normal")
        runs = descend(problem, 5, steps=Alternating(), stop=Stop(400))
        best = runs.best
        product = runs.parameters["U"][best] @ runs.parameters["V"][best].T
        assert np.abs(product - clean).max() < 0.1


COUNTS = np.random.default_rng(2).poisson(np.exp(CLEAN)).astype(float)


@pytest.mark.parametrize(
    "penalty", [None, {"l1": 0.3}, {"l2": 0.2}, {"l1": 0.1, "l2": 1}]
)
@pytest.mark.parametrize("kind", ["complete", "holes", "weights", "stored", "zeros"])
@pytest.mark.sampled(8)
def test_multiplicative_steps_never_raise_kl(penalty, kind) -> None:
    table, weights = COUNTS, None
    if kind in ("holes", "weights"):
        table = np.where(MASK, COUNTS, np.nan)
        table[3] = np.nan  # a row without a cell
        if kind == "weights":
            weights = np.random.default_rng(3).uniform(0.2, 2, TABLE.shape)
    elif kind in ("stored", "zeros"):
        table = scipy.sparse.csr_array(COUNTS)
    found = cells(
        table, "kl", weights=weights, sparse="zero" if kind == "zeros" else "missing"
    )
    for initialization in ("uniform", "nndsvd"):
        problem = Factorization(
            found,
            3,
            constraint="nonnegative",
            penalty=penalty,
            initialization=initialization,
        )
        runs = descend(problem, 2, steps=Alternating(), stop=Stop(80), record=range(81))
        curve = runs.histories["loss"]
        assert np.isfinite(curve).all()
        assert (np.diff(curve, axis=0) <= 1e-11 * curve[0]).all()
        assert all((runs.parameters[n] >= 0).all() for n in "UV")
        if kind in ("holes", "weights"):
            assert (runs.parameters["U"][:, 3] == 0).all()


def test_the_multiplicative_fixed_point_is_stationary() -> None:
    penalty = {"l1": 0.1, "l2": 0.05}
    problem = Factorization(
        COUNTS + 1, 2, loss="kl", constraint="nonnegative", penalty=penalty
    )
    runs = descend(problem, 1, steps=Alternating(), stop=Stop(2500))
    p = {n: torch.tensor(value) for n, value in runs.parameters.items()}
    _, gradients = losses_and_gradients(problem, p, torch.arange(1), 0)
    for name, gradient in gradients.items():
        whole = gradient + 0.1  # l1, of which autograd knows nothing
        inside = p[name] > 0.05  # others are on their way to 0
        assert float(whole[inside].abs().max()) < 1e-2
        assert float(whole.min()) > -0.1


def counts_problem(rank: int = 2, **options) -> Factorization:
    found = cells(scipy.sparse.csr_array(COUNTS), "kl", sparse="zero")
    options = {"constraint": "nonnegative", "initialization": "normal", **options}
    return Factorization(found, rank, **options)


def test_one_component_of_counts_has_a_closed_form() -> None:
    # The best one is the product of the margins over the total.
    expected = np.outer(COUNTS.sum(1), COUNTS.sum(0)) / COUNTS.sum()
    runs = descend(counts_problem(1), 3, steps=Alternating(), stop=Stop(30))
    for k in range(3):
        found = runs.parameters["U"][k] @ runs.parameters["V"][k].T
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.slow
def test_extrapolated_steps_arrive_where_plain_ones_do_and_sooner(monkeypatch) -> None:
    steps, stop = Alternating(), Stop(3000)
    problem = counts_problem()
    losses, soon = {}, {}
    for every in (multiplicative.EVERY, 10**9):
        monkeypatch.setattr(multiplicative, "EVERY", every)
        runs = descend(problem, 2, steps=steps, stop=stop, record=[60], width=2)
        losses[every], soon[every] = runs.losses, runs.histories["loss"][0]
        assert (runs.gradient_norms <= 1e-5 * runs.initial_gradient_norms).all()
    fast, plain = losses.values()
    np.testing.assert_allclose(fast, plain, rtol=1e-9)
    left = [early - plain for early in soon.values()]
    assert (left[0] < 0.5 * left[1]).all()


def test_who_would_rise_by_extrapolation_takes_the_plain_step() -> None:
    problem = counts_problem()
    starts, first = torch.arange(2), problem.points([0, 1], 0)
    points = [first]
    for _ in range(2):
        points.append(multiplicative._multiplicative(problem, points[-1]).parameters)
    points[1] = dict(points[1])
    # The second start's two steps look like a straight line that goes on for long.
    for name, end in points[2].items():
        middle = (points[0][name][1] + end[1]) / 2
        points[1][name] = torch.stack([points[1][name][0], middle * (1 + 1e-9)])
    losses = problem.losses(points[1], starts, 0)
    found = multiplicative._further(problem, tuple(points), losses)
    for name, end in points[2].items():
        assert not torch.equal(found[name][0], end[0])
        assert torch.equal(found[name][1], end[1])
    assert (problem.losses(found, starts, 0) <= losses).all()


@pytest.mark.parametrize("compiled", ["1", "0"])
def test_counts_stored_are_as_counts_written_out(compiled, monkeypatch) -> None:
    monkeypatch.setenv("DESCENTS_COMPILE", compiled)
    dense = Factorization(
        cells(COUNTS, "kl"), 2, constraint="nonnegative", initialization="normal"
    )
    found = [
        descend(problem, 3, steps=Alternating(), stop=Stop(50))
        for problem in (counts_problem(), dense)
    ]
    np.testing.assert_allclose(found[0].losses, found[1].losses, rtol=1e-10)
    for name in "UV":
        np.testing.assert_allclose(
            found[0].parameters[name], found[1].parameters[name], rtol=1e-7, atol=1e-10
        )


def test_a_start_of_counts_is_the_same_bits_in_any_company() -> None:
    problem = counts_problem()
    options = {"steps": Alternating(), "stop": Stop(40), "width": 4}
    many = descend(problem, 6, **options)
    for k in (0, 5):
        few = descend(problem, [k], **options)
        for name, value in few.parameters.items():
            np.testing.assert_array_equal(value[0], many.parameters[name][k])


@pytest.mark.parametrize("loss", ["squared", "kl"])
def test_scikit_learn_factorizes_no_better(loss) -> None:
    table = np.maximum(planted_table(40, 20, 3, noise=0.1, seed=4)[0], 0)
    name = {"squared": "frobenius", "kl": "kullback-leibler"}[loss]
    peer = NMF(
        3,
        init="nndsvda",
        solver="cd" if loss == "squared" else "mu",
        beta_loss=name,
        max_iter=5000,
        tol=1e-10,
        random_state=0,
    )
    W = peer.fit_transform(table)
    product = W @ peer.components_
    if loss == "squared":
        value = np.square(table - product).sum()
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.where(table > 0, table * np.log(table / product), 0)
        value = (log - table + product).sum()
    problem = Factorization(
        table, 3, loss=loss, constraint="nonnegative", initialization="nndsvd"
    )
    runs = descend(problem, 4, steps=Alternating(), stop=Stop(1000))
    assert runs.losses.min() <= 1.001 * value


def test_where_alternating_steps_apply() -> None:
    assert applies(Factorization(TABLE, 1))
    assert applies(Factorization(COUNTS, 1, loss="kl", constraint="nonnegative"))
    assert not applies(Factorization(COUNTS, 1, loss="poisson"))
    assert not applies(Factorization(CLASSES, 1, loss="ordinal"))
    with pytest.raises(InvalidValueError, match="alternating steps are for"):
        descend(Factorization(COUNTS, 1, loss="poisson"), 1, steps=Alternating())


def standardised() -> np.ndarray:
    table = load_breast_cancer().data
    return (table - table.mean(0)) / table.std(0)


KNOWN = {
    "iris": (lambda: uci_iris().values, 2, "columns"),
    "digits": (lambda: load_digits().data, 10, "none"),
    "breast cancer": (standardised, 5, "none"),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.float64, 1e-9), (torch.float32, 1e-5)]
)
def test_alternating_steps_close_the_gap_from_a_random_start(
    name, dtype, largest
) -> None:
    load, rank, offsets = KNOWN[name]
    problem = Factorization(
        load(), rank, offsets=offsets, initialization="normal", dtype=dtype
    )
    runs = descend(problem, 1, steps=Alternating(), stop=Stop(200), width=1)
    found = reference(problem, runs)
    assert found.kind == "exact"
    table = load() - (load().mean(0) if offsets == "columns" else 0)
    assert found.value == pytest.approx(truncated_svd(table, rank).loss, rel=1e-9)
    assert -1e-12 < runs.losses[0] / found.value - 1 < largest


@pytest.mark.parametrize(
    "name",
    some(["breast cancer", "iris", "digits"], 1),
)
def test_line_descent_closes_the_gap_from_a_random_start(name) -> None:
    load, rank, offsets = KNOWN[name]
    problem = Factorization(load(), rank, offsets=offsets, initialization="normal")
    stop = Stop(2000, loss_tol=1e-12)
    runs = descend(problem, 1, steps=LineDescent(), stop=stop, width=1)
    gap = runs.losses[0] / reference(problem, runs).value - 1
    assert -1e-12 < gap < 1e-6


def test_hidden_cells_of_a_planted_table_are_found() -> None:
    noisy, clean = planted_table(200, 100, 4, noise=0.1, seed=6)
    hidden = np.random.default_rng(7).random(noisy.shape) < 0.4
    problem = Factorization(
        np.where(hidden, np.nan, noisy), 4, penalty=0.01, initialization="normal"
    )
    stop = Stop(300, gradient_tol=1e-6)
    runs = descend(problem, 1, steps=Alternating(), stop=stop, width=1)
    product = runs.parameters["U"][0] @ runs.parameters["V"][0].T
    error = np.sqrt(np.square(product - clean)[hidden].mean())
    assert error < 0.05


def valley(p, starts, step):
    x = p["x"]
    return ((1 - x[:, :-1]) ** 2 + 100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2).sum(1)


@pytest.mark.parametrize("dimension", [2, slow(4)])
def test_lbfgs_goes_through_the_valley_of_rosenbrock(dimension) -> None:
    problem = Problem.from_batched_loss(
        valley, lambda generator: {"x": generator.uniform(0, 2, dimension)}
    )
    runs = descend(problem, 10, steps=LBFGS(), stop=Stop(200))
    assert runs.losses.max() < 1e-18
    np.testing.assert_allclose(runs.parameters["x"], 1, atol=1e-8)
    short = descend(problem, 10, steps=LBFGS(memory=3), stop=Stop(400))
    assert short.losses.max() < 1e-18


def test_line_descent_goes_through_the_valley_of_rosenbrock() -> None:
    problem = Problem.from_batched_loss(
        valley, lambda generator: {"x": generator.uniform(-2, 2, 2)}
    )
    runs = descend(problem, 10, steps=LineDescent(), stop=Stop(800), record=range(801))
    assert runs.losses.max() < 1e-3
    assert (np.diff(runs.histories["loss"], axis=0) <= 1e-12).all()


@pytest.mark.parametrize("loss", some(["poisson", "squared", "logistic", "ordinal"], 1))
def test_lbfgs_finds_the_minimum_that_scipy_finds(loss) -> None:
    table = {"logistic": LABELS, "poisson": COUNTS, "ordinal": CLASSES}.get(loss, TABLE)
    problem = Factorization(
        np.where(MASK, table, np.nan),
        2,
        loss=loss,
        offsets="columns",
        penalty={"l2": 0.5, "l2_biases": 0.1},
        initialization="normal",
    )
    count = 3
    runs = descend(problem, count, steps=LBFGS(), stop=Stop(600, gradient_tol=1e-9))
    points, peers = problem.points(range(count), 0), []
    for k in range(count):
        names = list(points)
        shapes = {n: points[n][k].shape for n in names}
        sizes = np.cumsum([points[n][k].numel() for n in names])[:-1]

        def value(x, shapes=shapes, sizes=sizes):
            parts = np.split(x, sizes)
            at = {
                n: torch.tensor(part.reshape(shape))[None]
                for (n, shape), part in zip(shapes.items(), parts, strict=True)
            }
            losses, gradients = losses_and_gradients(problem, at, torch.arange(1), 0)
            flat = np.concatenate([g.numpy().ravel() for g in gradients.values()])
            return float(losses[0]), flat

        options = {"maxiter": 3000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-8}
        ends = {n: runs.parameters[n][k] for n in names}
        found = []
        for begin in (points, {n: [end] * count for n, end in ends.items()}):
            x = np.concatenate([np.asarray(begin[n][k]).ravel() for n in names])
            peer = minimize(value, x, jac=True, method="L-BFGS-B", options=options)
            found.append(peer.fun)
        peers.append(found[0])
        # Where there are several minima, two rules may end in two of them.
        assert runs.losses[k] == pytest.approx(found[1], rel=1e-8)
    assert runs.losses.min() <= min(peers) * (1 + 1e-8)
    if loss == "squared":
        other = descend(problem, count, steps=Alternating(), stop=Stop(800))
        np.testing.assert_allclose(runs.losses, other.losses, rtol=1e-7)
    if loss == "squared":
        stop = Stop(1000, loss_tol=1e-12)
        slower = descend(problem, count, steps=LineDescent(), stop=stop)
        np.testing.assert_allclose(runs.losses, slower.losses, rtol=1e-7)


@pytest.mark.parametrize("rule", [LBFGS(), LineDescent()])
def test_a_region_of_nan_is_walked_around(rule) -> None:
    # log x is NaN below 0, and the first long step along the gradient ends there.
    problem = Problem.from_batched_loss(
        lambda p, starts, step: (
            (p["x"].log() + 3).square().sum(1) + (p["x"] - 2).square().sum(1)
        ),
        lambda generator: {"x": generator.uniform(0.01, 8, 3)},
    )
    runs = descend(problem, 20, steps=rule, stop=Stop(300))
    assert np.isfinite(runs.losses).all()
    grid = np.linspace(1e-3, 8, 400_001)
    least = 3 * ((np.log(grid) + 3) ** 2 + (grid - 2) ** 2).min()
    assert runs.losses.min() == pytest.approx(least, rel=1e-8)


@pytest.mark.parametrize("rule", [LBFGS(), LineDescent()])
def test_a_bad_start_disturbs_no_bit_of_the_others(rule) -> None:
    def problem(bad: float) -> Problem:
        def losses(p, starts, step):
            factors = torch.ones(len(starts), dtype=torch.float64)
            factors[starts == 2] = bad
            return valley(p, starts, step) * factors

        return Problem.from_batched_loss(
            losses, lambda generator: {"x": generator.uniform(-1, 1, 3)}
        )

    calm = descend(problem(1.0), 5, steps=rule, stop=Stop(60))
    for bad in (np.nan, np.inf, 1e300):
        wild = descend(problem(bad), 5, steps=rule, stop=Stop(60))
        for k in (0, 1, 3, 4):
            assert calm.losses[k] == wild.losses[k]
            np.testing.assert_array_equal(
                calm.parameters["x"][k], wild.parameters["x"][k]
            )
        if not np.isfinite(bad):
            assert wild.statuses[2] is Status.NONFINITE


@pytest.mark.parametrize(
    "options", [{"constraint": "nonnegative"}, {"penalty": {"l1": 1}}]
)
def test_lbfgs_refuses_what_it_cannot_do(options) -> None:
    with pytest.raises(
        InvalidValueError, match="supports neither constraints nor an l1"
    ):
        descend(Factorization(TABLE, 2, **options), 1, steps=LBFGS())
    with pytest.raises(InvalidValueError, match="memory is 0"):
        LBFGS(memory=0)


def test_a_start_that_hardly_falls_is_settled() -> None:
    table = np.where(MASK, TABLE, np.nan)
    problem = Factorization(table, 2, loss="absolute", initialization="normal")
    stop = Stop(2000, loss_tol=1e-5)
    runs = descend(
        problem, 4, steps=Alternating(), stop=stop, record=range(0, 2001, 10)
    )
    assert runs.statuses == (Status.SETTLED,) * 4
    assert (runs.steps_taken % 10 == 0).all()
    assert (runs.steps_taken < 2000).all()
    for k, taken in enumerate(runs.steps_taken):
        curve = runs.histories["loss"][: taken // 10 + 1, k]
        falls = (curve[:-1] - curve[1:]) / curve[1:]
        assert (falls[:-1] > 1e-5).all()
        assert falls[-1] <= 1e-5
    never = descend(problem, 1, steps=Alternating(), stop=Stop(30))
    assert never.statuses == (Status.LIMIT,)
    with pytest.raises(InvalidValueError, match="loss_tol is -1"):
        Stop(loss_tol=-1)


@pytest.mark.parametrize("offsets", some(["columns", "none"], 1))
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rule", [Alternating(), LBFGS(), LineDescent()])
def test_a_start_is_the_same_bits_in_any_company(rule, masked, offsets) -> None:
    # Nine columns: every other slice of a batch begins off the vector lanes.
    table = np.where(MASK, TABLE, np.nan) if masked else TABLE
    problem = Factorization(table, 2, loss=Huber(0.3), offsets=offsets)
    options = {"steps": rule, "stop": Stop(40), "width": 4}
    many = descend(problem, 6, **options)
    for k in range(6):
        few = descend(problem, [k], **options)
        assert few.losses[0] == many.losses[k]
        for name, value in few.parameters.items():
            np.testing.assert_array_equal(value[0], many.parameters[name][k])
    np.testing.assert_array_equal(
        descend(problem, [5, 0, 3], **options).losses, many.losses[[5, 0, 3]]
    )
