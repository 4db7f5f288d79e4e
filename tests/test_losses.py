"""Losses of cells: slope, best constant, quadratic above, conjugate, likeliest value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from descents.errors import InvalidValueError
from descents.losses import (
    NAMED,
    Absolute,
    BetaDivergence,
    BiggerVsSmaller,
    BiggerVsSmallerHinge,
    Categorical,
    CustomLoss,
    Hinge,
    Huber,
    ItakuraSaito,
    KullbackLeibler,
    Logistic,
    Loss,
    OneVsAll,
    OneVsAllHinge,
    Ordinal,
    OrdinalHinge,
    Ordistic,
    Periodic,
    Poisson,
    Quantile,
    Sequential,
    Squared,
    get_loss,
    slope,
)
from descents.losses.base import corner

COSH = CustomLoss(lambda prediction, target: torch.log(torch.cosh(prediction - target)))
LEVELS = 4
CUTS = torch.tensor([[-1.5, 0.3, -0.4]], dtype=torch.float64)
POINTS = np.array([-1.5, -1.5 + np.exp(0.3), -1.5 + np.exp(0.3) + np.exp(-0.4)])
PERIOD = 5.0


@dataclass(frozen=True)
class Case:
    """A loss, and what the tests have to know of it.

    `draw` gives observed values, `perfect` the predictions that fit them perfectly (or
    all but), `round` how many corners of which size are rounded off together.
    """

    loss: Loss
    draw: Callable[[np.random.Generator, int], np.ndarray]
    perfect: Callable[[np.ndarray], np.ndarray] | None
    domain: np.ndarray
    each: int = 1
    positive: bool = False
    round: float = 0.0


def numbers(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.normal(size=count) * 2


def counts(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.poisson(2.0, count).astype(float)


def sizes(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.gamma(2.0, 1.0, count) + 0.05


def two(generator: np.random.Generator, count: int) -> np.ndarray:
    return (generator.random(count) < 0.4).astype(float)


def codes(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.integers(0, LEVELS, count).astype(float)


def same(x: np.ndarray) -> np.ndarray:
    return x


def sure(x: np.ndarray) -> np.ndarray:
    return 60 * (2 * x - 1)


def hot(x: np.ndarray) -> np.ndarray:
    return 60 * (2.0 * (x[:, None] == np.arange(LEVELS)) - 1)


def above(x: np.ndarray) -> np.ndarray:
    return 60 * (2.0 * (x[:, None] > np.arange(LEVELS - 1)) - 1)


LINE = np.linspace(-15, 15, 30001)
RAY = np.linspace(1e-3, 20, 20000)
ALL = np.arange(float(LEVELS))
BOTH = np.arange(2.0)
CASES = {
    "squared": Case(Squared(), numbers, same, LINE),
    "absolute": Case(Absolute(), numbers, same, LINE, round=1.0),
    "huber": Case(Huber(0.7), numbers, same, LINE),
    "quantile": Case(Quantile(), numbers, same, LINE, round=1.0),
    "quantile:0.9": Case(Quantile(0.9), numbers, same, LINE, round=1.0),
    "periodic": Case(
        Periodic(PERIOD), numbers, same, np.linspace(0, PERIOD, 30001)[:-1]
    ),
    "own": Case(COSH, numbers, same, LINE),
    "logistic": Case(Logistic(), two, sure, BOTH),
    "hinge": Case(Hinge(), two, sure, BOTH, round=1.0),
    "hinge:3": Case(Hinge(3.0), two, sure, BOTH, round=3.0),
    "poisson": Case(Poisson(), counts, lambda x: np.log(np.maximum(x, 1e-20)), RAY),
    "kl": Case(KullbackLeibler(), counts, same, RAY, positive=True),
    "itakura_saito": Case(ItakuraSaito(), sizes, same, RAY, positive=True),
    "beta:-1": Case(BetaDivergence(-1.0), sizes, same, RAY, positive=True),
    "beta:0.5": Case(BetaDivergence(0.5), counts, same, RAY, positive=True),
    "beta:1.5": Case(BetaDivergence(1.5), counts, same, RAY, positive=True),
    "beta:2": Case(BetaDivergence(2.0), counts, same, RAY, positive=True),
    "beta:3": Case(BetaDivergence(3.0), counts, same, RAY, positive=True),
    "categorical": Case(Categorical(), codes, hot, ALL, LEVELS),
    "one_vs_all": Case(OneVsAll(), codes, hot, ALL, LEVELS),
    "one_vs_all_hinge": Case(OneVsAllHinge(), codes, hot, ALL, LEVELS, round=LEVELS),
    "ordinal": Case(Ordinal(), codes, None, ALL),
    "ordinal_hinge": Case(OrdinalHinge(LEVELS), codes, same, ALL, round=LEVELS),
    "bigger_vs_smaller": Case(BiggerVsSmaller(), codes, above, ALL, LEVELS - 1),
    "bigger_vs_smaller_hinge": Case(
        BiggerVsSmallerHinge(), codes, above, ALL, LEVELS - 1, round=LEVELS
    ),
    "sequential": Case(Sequential(), codes, above, ALL, LEVELS - 1),
    "ordistic": Case(Ordistic(), codes, lambda x: 30 * (hot(x) < 0), ALL, LEVELS),
}
SINGLE = [name for name, case in CASES.items() if case.each == 1]
MAJORIZED = [name for name, case in CASES.items() if case.loss.majorized]
CONJUGATE = [name for name, case in CASES.items() if case.loss.has_conjugate]


def test_every_loss_that_has_a_name_is_here() -> None:
    assert {case.loss.name for case in CASES.values()} == {*NAMED, "own"}


def drawn(name: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and observed values."""
    generator, case = np.random.default_rng(seed), CASES[name]
    shape = (count,) if case.each == 1 else (count, case.each)
    z = generator.normal(size=shape) * 2
    if case.positive:
        z = np.abs(z) + 0.05
    return z, case.draw(generator, count)


def value(name: str, z, x) -> np.ndarray:
    """Return the loss of each cell."""
    case = CASES[name]
    z, x = np.asarray(z, float), np.asarray(x, float)
    if case.each == 1:
        z, x = np.broadcast_arrays(z, x)
    else:
        x = np.broadcast_to(x, z.shape[:-1])
    z, x = torch.tensor(z), torch.tensor(x)
    if name == "ordinal":
        flat = Ordinal()(z.reshape(-1, 1), x.reshape(-1, 1), cuts=CUTS)
        return flat.reshape(z.shape).numpy()
    return case.loss(z, x).numpy()


def derivative(name: str, z: np.ndarray, x: np.ndarray) -> np.ndarray:
    if name == "ordinal":
        column = torch.tensor(z[:, None]), torch.tensor(x[:, None])
        return slope(Ordinal(), *column, cuts=CUTS)[:, 0].numpy()
    return slope(CASES[name].loss, torch.tensor(z), torch.tensor(x)).numpy()


def moved(name: str, z: np.ndarray, c: int, by) -> np.ndarray:
    """Return predictions with one coordinate moved."""
    if CASES[name].each == 1:
        return z + by
    z = z.copy()
    z[..., c] += by
    return z


# The value and its slope


@pytest.mark.parametrize("name", CASES)
def test_the_slope_is_that_of_finite_differences(name) -> None:
    z, x = drawn(name, 300)
    step, found = 1e-6, derivative(name, z, x).reshape(300, -1)
    for c in range(CASES[name].each):
        after, before = (value(name, moved(name, z, c, s), x) for s in (step, -step))
        here = value(name, z, x)
        bend = np.abs((after - here) - (here - before))
        smooth = (bend < 1e-3 * step) | CASES[name].loss.smooth
        assert smooth.mean() > 0.98  # all but those within a step of a corner
        expected = (after - before) / (2 * step)
        np.testing.assert_allclose(
            found[smooth, c], expected[smooth], rtol=1e-5, atol=1e-7
        )


def test_the_slope_of_the_cut_points_is_that_of_finite_differences() -> None:
    generator = np.random.default_rng(2)
    z = torch.tensor(generator.normal(size=(50, 1)) * 2)
    x = torch.tensor(generator.integers(0, 4, (50, 1)).astype(float))
    cuts = CUTS.clone().requires_grad_()
    (found,) = torch.autograd.grad(Ordinal()(z, x, cuts=cuts).sum(), cuts)
    for c in range(3):
        shift = torch.zeros_like(CUTS)
        shift[0, c] = 1e-6
        rise = Ordinal()(z, x, cuts=CUTS + shift) - Ordinal()(z, x, cuts=CUTS - shift)
        assert float(found[0, c]) == pytest.approx(float(rise.sum()) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_loss_is_negative(name, dtype) -> None:
    z, x = drawn(name, 2000, seed=3)
    cuts = {"cuts": CUTS.to(dtype)} if name == "ordinal" else {}
    if cuts:
        z, x = z[:, None], x[:, None]
    given = torch.tensor(z, dtype=dtype), torch.tensor(x, dtype=dtype)
    loss = CASES[name].loss(*given, **cuts)
    # Those that are differences of terms of the size of the data round as these do.
    size = 1.0 if not name.startswith("beta") else float(loss.max()) + 100
    assert float(loss.min()) >= -20 * torch.finfo(dtype).eps * size
    assert bool(torch.isfinite(loss).all())


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].perfect])
def test_a_perfect_fit_costs_nothing(name) -> None:
    _, x = drawn(name, 200, seed=4)
    perfect = CASES[name].perfect
    assert perfect is not None
    np.testing.assert_allclose(value(name, perfect(x), x), 0, atol=1e-13)


def test_levels_that_are_sure_cost_nothing() -> None:
    far = torch.tensor([[-30.0, np.log(60.0)]], dtype=torch.float64)
    z = torch.tensor([[-60.0], [0.0], [60.0]], dtype=torch.float64)
    middle = Ordinal()(z, torch.tensor([[0.0], [1.0], [2.0]]), cuts=far)
    np.testing.assert_allclose(middle.numpy(), 0, atol=1e-12)


def test_far_predictions_stay_finite() -> None:
    for name in ("logistic", "hinge", "squared", "huber", "absolute", "quantile:0.9"):
        far = value(name, [-5000.0, 5000.0], [1.0, 0.0])
        assert np.isfinite(far).all()
        assert (far > 400).all()
    far = value("ordinal", [-700.0, 700.0, 700.0, -700.0], [3, 0, 1, 2])
    assert np.isfinite(far).all()
    assert (far > 600).all()
    for name in ("kl", "itakura_saito", "beta:-1", "beta:0.5", "beta:1.5"):
        for dtype in (torch.float32, torch.float64):
            none = torch.zeros(2, dtype=dtype)
            loss = CASES[name].loss(none, none + 3)
            assert bool(torch.isfinite(loss).all())
            parts = CASES[name].loss.parts(none, none + 3)
            assert all(bool(torch.isfinite(p).all()) for p in parts if p is not None)


def test_the_chances_of_levels_share_out_one() -> None:
    generator = np.random.default_rng(5)
    for z in (-4.0, 0.0, 2.5):
        chances = np.exp(-value("ordinal", np.full(4, z), ALL))
        below = 1 / (1 + np.exp(z - POINTS))
        expected = np.diff(np.concatenate([[0], below, [1]]))
        np.testing.assert_allclose(chances, expected, rtol=1e-10)
    for name in ("categorical", "sequential", "ordistic", "ordinal"):
        each = CASES[name].each
        z = generator.normal(size=(30, each) if each > 1 else 30) * 2
        total = sum(np.exp(-value(name, z, np.full(30, x))) for x in ALL)
        np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_divergences_are_limits_of_each_other() -> None:
    z, x = drawn("itakura_saito", 100)
    for near, limit in (
        (BetaDivergence(1e-5), ItakuraSaito()),
        (BetaDivergence(1 + 1e-5), KullbackLeibler()),
        (BetaDivergence(2 + 1e-5), CustomLoss(lambda p, t: (p - t).square() / 2)),
    ):
        given = torch.tensor(z), torch.tensor(x)
        np.testing.assert_allclose(near(*given), limit(*given), rtol=1e-3, atol=1e-4)
    given = torch.tensor(z), torch.tensor(x)
    for beta, loss in ((0.0, ItakuraSaito()), (1.0, KullbackLeibler())):
        torch.testing.assert_close(BetaDivergence(beta)(*given), loss(*given))


@settings(deadline=None, max_examples=60)
@given(
    beta=st.floats(-3, 4),
    z=st.floats(0.01, 50),
    x=st.floats(0.01, 50),
    scale=st.floats(0.1, 10),
)
def test_a_divergence_is_homogeneous_and_its_parts_are_its_slope(
    beta, z, x, scale
) -> None:
    loss = BetaDivergence(round(beta, 2))
    one = [torch.tensor([v], dtype=torch.float64) for v in (z, x)]
    big = [scale * v for v in one]
    size = abs(float(z)) ** loss.beta + x**loss.beta + x * z ** (loss.beta - 1)
    far = 1e-13 * size / max(abs(loss.beta * (loss.beta - 1)), 0.009)
    assert float(loss(*big)) == pytest.approx(
        scale**loss.beta * float(loss(*one)),
        rel=1e-9,
        abs=10 * far * max(1, scale**loss.beta),
    )
    less, more = loss.parts(*one)
    more = 1.0 if more is None else float(more)
    found = float(slope(loss, *one))
    assert found == pytest.approx(more - float(less), rel=1e-8, abs=1e-9 * more)


def test_boundaries_of_two_levels_are_one_number_a_cell() -> None:
    z, x = drawn("logistic", 50)
    pair = BiggerVsSmaller().of_levels(2)
    given = torch.tensor(z), torch.tensor(x)
    torch.testing.assert_close(pair(*given), Logistic()(*given))
    for a, b in zip(
        pair.majorize(*given, 0), Logistic().majorize(*given, 0), strict=True
    ):
        torch.testing.assert_close(a, b)
    np.testing.assert_array_equal(pair.impute(z), Logistic().impute(z))
    np.testing.assert_allclose(
        pair.best_point(x, np.ones(50), 2), Logistic().best_constant(x, np.ones(50))
    )


def test_ordinal_hinge_is_that_of_low_rank_models() -> None:
    # LowRankModels.jl, by its slopes: n = min(ceil(u), L) - a above a, and so on.
    z = np.linspace(-2.45, 5.45, 80)
    for a in ALL:
        upward = np.clip(np.ceil(z), None, LEVELS - 1) - a
        downward = np.maximum(np.floor(z), 0) - a
        expected = np.where(z > a, upward, downward)
        expected = np.where((z > a) & (a == LEVELS - 1), 0, expected)
        found = derivative("ordinal_hinge", z, np.full(80, a))
        np.testing.assert_allclose(found, expected, atol=1e-12)


# The best constant


@pytest.mark.parametrize("name", [name for name in CASES if name != "ordinal"])
def test_no_constant_is_better_than_the_best(name) -> None:
    generator, case = np.random.default_rng(6), CASES[name]
    x, w = case.draw(generator, 41), generator.uniform(0.1, 2, 41)
    best = case.loss.best_point(x, w, LEVELS)
    assert best.shape == (case.each,)

    def total(z: np.ndarray) -> float:
        row = z[0] if case.each == 1 else np.broadcast_to(z, (41, case.each))
        return float(w @ value(name, row, x))

    least = total(best)
    low = 1e-4 if case.positive else -9.0
    for c in range(case.each):
        for other in np.linspace(low, 9.0, 500):
            point = best.copy()
            point[c] = other
            assert least <= total(point) * (1 + 1e-12)
    first = np.abs(generator.normal(size=case.each)) + 0.1
    bounds = [(low, 9.0)] * case.each
    # And from elsewhere, in all coordinates.
    peer = minimize(total, first, method="Powell", bounds=bounds)
    assert least <= peer.fun * (1 + 1e-9)


@pytest.mark.parametrize(
    ("loss", "values", "best"),
    [
        (Logistic(), np.ones(4), 30.0),
        (Logistic(), np.zeros(4), -30.0),
        (Logistic(), np.array([0.0, 1, 1, 1]), np.log(3)),
        (Poisson(), np.zeros(3), -30.0),
        (Poisson(), np.array([1.0, 3.0]), np.log(2)),
        (Absolute(), np.array([5.0, 1.0, 2.0]), 2.0),
        (Quantile(0.9), np.arange(1.0, 11.0), 9.0),
        (Quantile(0.1), np.arange(1.0, 11.0), 1.0),
        (Huber(1.0), np.array([4.0, 4.0]), 4.0),
        (Squared(), np.array([1.0, 2.0]), 1.5),
        (Hinge(), np.array([0.0, 1, 1]), 1.0),
        (Hinge(), np.array([0.0, 0, 1]), -1.0),
        (Hinge(3.0), np.array([0.0, 0, 1]), 1.0),
        (Hinge(2.0), np.array([0.0, 0, 1]), 0.0),
        (Periodic(24.0), np.array([23.0, 1.0, 0.0]), 0.0),
        (Periodic(360.0, -180.0), np.array([-170.0, 170.0]), -180.0),
        (ItakuraSaito(), np.array([1.0, 4.0]), 2.5),
        (OrdinalHinge(4), np.array([0.0, 2.0, 3.0]), 2.0),
    ],
)
def test_known_best_constants(loss, values, best) -> None:
    found = loss.best_constant(values, np.ones(len(values)))
    assert found == pytest.approx(best, abs=1e-8)


def test_the_best_cuts_are_those_of_a_search() -> None:
    generator = np.random.default_rng(8)
    x, w = generator.integers(0, 4, 80), generator.uniform(0.5, 2, 80)

    def total(c: np.ndarray) -> float:
        cuts = torch.tensor(c)[None]
        z = torch.zeros(80, 1, dtype=torch.float64)
        loss = Ordinal()(z, torch.tensor(x * 1.0)[:, None], cuts=cuts)[:, 0]
        return float((torch.tensor(w) * loss).sum())

    best = Ordinal.best_cuts(x.astype(float), w, 4)
    peer = minimize(total, np.zeros(3), method="BFGS", options={"gtol": 1e-7})
    # Counts are raised by a thousandth for empty levels, which costs next to nothing.
    assert total(best) <= peer.fun * (1 + 1e-7)
    np.testing.assert_allclose(best, peer.x, atol=1e-3)


def test_an_empty_level_has_some_room() -> None:
    best = Ordinal.best_cuts(np.array([0.0, 0, 3, 3]), np.ones(4), 4)
    assert np.isfinite(best).all()
    points = Ordinal.cut_points(torch.tensor(best)).numpy()
    assert (np.diff(points) > 0).all()


def test_the_best_logits_are_centered_and_a_level_that_is_never_reached_has_none() -> (
    None
):
    x = codes(np.random.default_rng(7), 60)
    best = Categorical().best_point(x, np.ones(60), 4)
    assert best.mean() == pytest.approx(0, abs=1e-12)
    found = Sequential().best_point(np.zeros(5), np.ones(5), 4)
    np.testing.assert_array_equal(found, [-30, 0, 0])


# The quadratic above


def quadratic(name: str, z: np.ndarray, x: np.ndarray, step: int):
    case = CASES[name]
    weight, center = case.loss.majorize(torch.tensor(z), torch.tensor(x), step)
    w = np.ones_like(z) if weight is None else np.broadcast_to(weight.numpy(), z.shape)
    return w, np.broadcast_to(center.numpy(), z.shape)


@pytest.mark.parametrize("name", MAJORIZED)
@pytest.mark.parametrize("step", [0, 20, 1000])
def test_the_quadratic_meets_the_loss_and_lies_above(name, step) -> None:
    generator, case = np.random.default_rng(9), CASES[name]
    z, x = drawn(name, 60, seed=9)
    w, t = quadratic(name, z, x, step)
    assert (w >= 0).all()
    # Where corners are rounded, by as much as the rounding: s each at most.
    scale = x.std() if name in ("absolute", "quantile", "quantile:0.9") else 1.0
    share = corner(step, 0.3) if name == "absolute" else corner(step)
    room = case.round * share * scale
    if case.loss.smooth or step == 1000:
        np.testing.assert_allclose(
            2 * w * (z - t), derivative(name, z, x), rtol=1e-8, atol=1e-8 + 100 * room
        )
    here = value(name, z, x) + room
    for size in (0.01, 0.3, 3.0, 30.0):
        for _ in range(60):
            other = z + size * generator.normal(size=z.shape)
            change = w * ((t - other) ** 2 - (t - z) ** 2)
            over = here + (change if case.each == 1 else change.sum(-1))
            assert (over >= value(name, other, x) - 1e-9 * (1 + np.abs(over))).all()
    assert case.loss.quadratic == (name == "squared")


def test_the_quadratic_of_logistic_at_zero() -> None:
    weight, target = Logistic().majorize(
        torch.zeros(2, dtype=torch.float64), torch.tensor([0.0, 1.0]), 0
    )
    np.testing.assert_allclose(weight.numpy(), 1 / 8, rtol=1e-8)
    np.testing.assert_allclose(target.numpy(), [-2, 2], rtol=1e-8)


def test_the_quadratic_of_periodic_is_about_the_nearest_copy() -> None:
    z, x = torch.tensor([7.2, -3.1], dtype=torch.float64), torch.tensor([2.0, 1.0])
    weight, center = Periodic(5.0).majorize(z, x.double(), 0)
    np.testing.assert_allclose(center, [7, -4])
    assert weight is not None
    half_curvature = 2 * (np.pi / 5) ** 2
    assert (weight.numpy() < half_curvature).all()
    np.testing.assert_allclose(weight[0], half_curvature, rtol=0.02)


@pytest.mark.parametrize("loss", [Absolute(), Quantile(0.9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_quadratic_of_a_corner_is_finite_for_a_constant_column(loss, dtype) -> None:
    table = torch.tensor([[1.0, 3.0], [2.0, 3.0], [4.0, 3.0]], dtype=dtype)
    for target in (table, table[:, 1:], table[:, 1], 0 * table):
        weight, _ = loss.majorize(target.clone()[None], target, 10**4)
        assert bool(torch.isfinite(weight).all())


# The conjugate


@pytest.mark.parametrize("name", CONJUGATE)
def test_the_conjugate_is_the_largest_excess(name) -> None:
    generator, loss = np.random.default_rng(12), CASES[name].loss
    grid = np.linspace(-12, 12, 4801)
    for x in CASES[name].draw(generator, 6):
        here = generator.uniform(-3, 3, 20)
        # Every slope that is taken somewhere is inside the domain, and shares of it.
        slopes = derivative(name, here, np.full(20, x)) * generator.random(20)
        for g in slopes:
            excess = g * grid - value(name, grid, x)
            coarse = grid[np.argmax(excess)]
            peer = minimize_scalar(
                lambda z, g=g, x=x: float(value(name, z, x) - g * z),
                bounds=(coarse - 0.01, coarse + 0.01),
                method="bounded",
                options={"xatol": 1e-12},
            )
            found = float(loss.conjugate(np.array(g), np.array(x)))
            assert found == pytest.approx(max(-peer.fun, excess.max()), abs=1e-6)
            # Fenchel and Young: never exceeded anywhere.
            assert excess.max() <= found + 1e-9 * (1 + abs(found))


@pytest.mark.parametrize(
    ("name", "slopes", "target"),
    [
        ("absolute", [1.0001, -1.0001], 0.5),
        ("huber", [1.4001, -1.4001], 0.5),
        ("quantile:0.9", [0.1001, -0.9001], 0.5),
        ("logistic", [0.0001, -1.0001], 1.0),
        ("logistic", [1.0001, -0.0001], 0.0),
        ("hinge", [0.0001, -1.0001], 1.0),
        ("hinge", [1.0001, -0.0001], 0.0),
        ("hinge:3", [0.0001, -3.0001], 1.0),
        ("ordinal_hinge", [2.0001, -1.0001], 1.0),
        ("poisson", [-2.0001], 2.0),
        ("poisson", [-0.0001], 0.0),
    ],
)
def test_a_conjugate_is_infinite_outside_its_domain(name, slopes, target) -> None:
    found = CASES[name].loss.conjugate(np.array(slopes), np.array(target))
    assert np.isposinf(found).all()


@pytest.mark.parametrize("name", CASES)
def test_a_conjugate_at_zero_or_none(name) -> None:
    loss, x = CASES[name].loss, np.array(1.0)
    if loss.has_conjugate:  # losses reach zero, and never fall below
        assert float(loss.conjugate(np.array(0.0), x)) == pytest.approx(0)
    else:
        with pytest.raises(NotImplementedError, match="has no conjugate"):
            loss.conjugate(np.array(0.0), x)


def test_conjugates_at_the_edge_of_the_domain() -> None:
    assert float(Logistic().conjugate(np.array(-1.0), np.array(1.0))) == 0
    assert float(Poisson().conjugate(np.array(-2.0), np.array(2.0))) == pytest.approx(
        2 - 2 * np.log(2)
    )
    assert float(Hinge().conjugate(np.array(-1.0), np.array(1.0))) == -1


# The value that a prediction stands for


@pytest.mark.parametrize("name", CASES)
def test_the_imputed_value_has_the_least_loss(name) -> None:
    z, _ = drawn(name, 40, seed=13)
    case = CASES[name]
    # However weighed, a hinge imputes by its side.
    judge = "hinge" if name == "hinge:3" else name
    if name == "ordinal":
        found = Ordinal().impute(z[:, None], cuts=CUTS.numpy())[:, 0]
    else:
        found = case.loss.impute(z)
    if case.each > 1:
        losses = np.stack([value(name, z, np.full(40, x)) for x in case.domain], -1)
        np.testing.assert_array_equal(found, case.domain[losses.argmin(-1)])
        assert len(set(found)) > 2
        return
    for one, best in zip(z, found, strict=True):
        losses = value(judge, one, case.domain)
        assert value(judge, one, best) <= losses.min() + 1e-12
        if abs(best) < 15:
            near = case.domain[losses.argmin()]
            circle = abs(abs(best - near) - PERIOD) if name == "periodic" else np.inf
            assert min(abs(best - near), circle) <= 1e-3


@pytest.mark.parametrize(
    ("values", "low"),
    [
        ([0.3, 23.9], 0.0),
        ([-11.0, 11.5], -12.0),
        ([1.0, 24.0], 1.0),
        ([30.0, 40.0], 30.0),
        ([0.0, 48.0], 12.0),
        ([np.nan, 5.0], 0.0),
    ],
)
def test_the_period_that_values_lie_in(values, low) -> None:
    loss = Periodic(24.0).of_values(np.array(values))
    assert loss == Periodic(24.0, low)
    filled = loss.impute(np.linspace(-100, 100, 999))
    assert filled.min() >= low
    assert filled.max() < low + 24
    assert loss.of_values(np.array([99.0])) is loss
    assert Periodic(24.0).of_values(np.array([np.nan])) == Periodic(24.0)


def test_a_rounding_below_the_period_is_its_beginning() -> None:
    assert Periodic(24.0).impute(np.array([-1e-18])).tolist() == [0.0]


# Names and parameters


def test_a_width_a_column() -> None:
    wide = Huber((0.5, 2.0))
    z, x = torch.tensor([[3.0, 3.0]]), torch.zeros(1, 2)
    expected = [float(Huber(d)(z[0, :1], x[0, :1])) for d in (0.5, 2.0)]
    np.testing.assert_allclose(wide(z, x)[0].numpy(), expected, rtol=1e-6)
    assert wide.column(1) == Huber(2.0)
    assert wide.label == "huber"
    np.testing.assert_array_equal(
        np.isinf(wide.conjugate(np.full((1, 2), 1.5), np.zeros((1, 2)))),
        [[True, False]],
    )


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("huber:2", Huber(2.0)),
        ("quantile", Quantile(0.5)),
        ("quantile:0.9", Quantile(0.9)),
        ("periodic:24", Periodic(24.0)),
        ("hinge:3", Hinge(3.0)),
        ("beta:-0.5", BetaDivergence(-0.5)),
        ("beta:1e-1", BetaDivergence(0.1)),
    ],
)
def test_a_number_behind_the_name(name, loss) -> None:
    assert get_loss(name) == loss
    assert get_loss(loss.label) == loss


@given(level=st.integers(1, 999_999), kind=st.sampled_from([Quantile, Hinge, Periodic]))
def test_a_label_names_its_loss(level, kind) -> None:
    loss = kind(level / 1e6)
    assert get_loss(loss.label) == loss


@pytest.mark.parametrize("name", NAMED)
def test_names_are_labels(name) -> None:
    if name in ("beta", "periodic"):
        with pytest.raises(InvalidValueError, match=f"which needs its .*'{name}:"):
            get_loss(name)
    else:
        assert get_loss(name).label == name


def test_a_loss_of_ones_own() -> None:
    assert get_loss(COSH) is COSH
    assert not COSH.has_conjugate
    assert not COSH.majorized
    assert COSH.label == "own"
    with pytest.raises(NotImplementedError, match="own has no quadratic above it"):
        COSH.majorize(torch.zeros(1), torch.zeros(1), 0)
    for ask in (lambda: COSH.exponent(ridge=True), lambda: COSH.parts(*[CUTS] * 2)):
        with pytest.raises(NotImplementedError, match="own is not a divergence"):
            ask()
    with pytest.raises(InvalidValueError, match=r"returns \(\) for predictions"):
        CustomLoss(lambda p, t: (p - t).square().mean())(torch.zeros(3), torch.zeros(3))
    with pytest.raises(InvalidValueError, match="returns float"):
        CustomLoss(lambda p, t: 1.0)(torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get_loss("hubber"), "loss is 'hubber'; give one of 'squared', "),
        (lambda: get_loss("hubber:2"), "loss is 'hubber:2'; give one of"),
        (lambda: get_loss(3), "loss is 3"),
        (lambda: get_loss("squared:2"), "'squared:2', but squared takes no number"),
        (lambda: get_loss("categorical:"), "but categorical takes no number"),
        (lambda: get_loss("huber:"), "the width of huber is ''"),
        (lambda: get_loss("quantile:x"), "the level of quantile is 'x'"),
        (
            lambda: get_loss("quantile:1"),
            "quantile is 1; give a number between 0 and 1",
        ),
        (lambda: Quantile(0.0), "the level of quantile is 0.0; give a number between"),
        (lambda: Quantile(1.5), "the level of quantile is 1.5; give a number between"),
        (lambda: get_loss("periodic:0"), "the period of periodic is 0; .* above 0"),
        (lambda: Periodic(-1.0), "the period of periodic is -1"),
        (lambda: Hinge(0.0), "the weight of hinge is 0"),
        (lambda: BetaDivergence(np.inf), "the beta of beta is inf"),
        (lambda: Huber(0.0), "the width of huber is 0"),
        (lambda: Huber((1.0, -1.0)), "the width of huber is -1"),
        (lambda: Huber()(torch.zeros(1), torch.zeros(1)), "huber has no width yet"),
        (
            lambda: OrdinalHinge()(torch.zeros(1), torch.zeros(1)),
            "ordinal_hinge does not know how many levels",
        ),
    ],
)
def test_wrong_losses_are_refused(make, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("squared", [0.0, -1e9], [np.inf, np.nan]),
        ("quantile", [0.0, -1e9], [np.inf, np.nan]),
        ("periodic", [0.0, -1e9], [np.inf, np.nan]),
        ("logistic", [0.0, 1.0], [0.5, np.nan]),
        ("hinge", [0.0, 1.0], [0.5, -1.0, np.nan]),
        ("poisson", [0.0, 2.5], [-1.0, np.inf]),
        ("kl", [0.0, 2.5], [-1.0, np.inf]),
        ("itakura_saito", [0.1, 2.5], [0.0, -1.0, np.inf]),
        ("beta:-1", [0.1, 2.5], [0.0, -1.0, np.inf]),
        ("beta:0.5", [0.0, 2.5], [-1.0, np.nan]),
    ],
)
def test_which_values_a_loss_is_for(name, inside, outside) -> None:
    assert CASES[name].loss.allows(np.array(inside)).all()
    assert not CASES[name].loss.allows(np.array(outside)).any()


CHANCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "logistic": lambda z: np.stack([1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))], -1),
    "categorical": lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True),
    # That one of independent classes has come true, and no other, given that one has.
    "one_vs_all": lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True),
    "ordinal": lambda z: np.diff(
        1 / (1 + np.exp(z[..., None] - np.array([-np.inf, *POINTS, np.inf]))), axis=-1
    ),
    "sequential": lambda z: np.stack(
        [
            np.prod(1 / (1 + np.exp(-z[..., :x])), -1)
            * (1 / (1 + np.exp(z[..., x])) if x < LEVELS - 1 else 1)
            for x in range(LEVELS)
        ],
        -1,
    ),
    "ordistic": lambda z: np.exp(-(z**2)) / np.exp(-(z**2)).sum(-1, keepdims=True),
}


@pytest.mark.parametrize(
    "name", [n for n, kind in NAMED.items() if kind.kind != "numbers"]
)
def test_probabilities_are_those_of_the_model_and_imply_what_is_imputed(
    name: str,
) -> None:
    levels = 2 if NAMED[name].kind == "two values" else LEVELS
    loss = get_loss(name).of_levels(levels)
    count = loss.coordinates(levels)
    shape = (50, 1) if count == 1 else (50, 1, count)
    z = np.random.default_rng(0).normal(size=shape)
    if name == "ordinal_hinge":
        z = z + 1.5
    cuts = {"cuts": CUTS.numpy()} if loss.thresholds(levels) else {}
    found = loss.probabilities(z, levels, **cuts)
    assert found.shape == (50, 1, levels)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-14)
    if name in CHANCES:
        np.testing.assert_allclose(found, CHANCES[name](z), rtol=1e-10)
    filled = loss.impute(z, **cuts).astype(int)
    most = np.take_along_axis(found, filled[..., None], -1)[..., 0]
    np.testing.assert_allclose(most, found.max(-1), rtol=1e-12)


def test_numbers_have_no_probabilities() -> None:
    with pytest.raises(NotImplementedError, match="squared is a loss of numbers"):
        Squared().probabilities(np.zeros(1), 2)
