"""Losses of cells: slope, best constant, quadratic above, conjugate, likeliest value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar

from descents.checks import InvalidValueError
from descents.problems.losses import (
    NAMED,
    Absolute,
    Categorical,
    Huber,
    KullbackLeibler,
    Logistic,
    Ordinal,
    Own,
    Poisson,
    Squared,
    named,
    slope,
)

COSH = Own(lambda prediction, target: torch.log(torch.cosh(prediction - target)))
PLAIN = {
    "squared": Squared(),
    "absolute": Absolute(),
    "huber": Huber(0.7),
    "logistic": Logistic(),
    "poisson": Poisson(),
    "kl": KullbackLeibler(),
    "own": COSH,
}
"""Losses with one natural parameter and no cut points."""
CUTS = torch.tensor([[-1.5, 0.3, -0.4]], dtype=torch.float64)
POINTS = np.array([-1.5, -1.5 + np.exp(0.3), -1.5 + np.exp(0.3) + np.exp(-0.4)])


def drawn(name: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and targets of the loss's domain."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=count) * 3
    if name == "logistic":
        return z, (generator.random(count) < 0.4).astype(float)
    if name == "poisson":
        return z / 2, generator.poisson(2.0, count).astype(float)
    if name == "kl":
        return np.abs(z) + 0.05, generator.poisson(2.0, count).astype(float)
    return z, generator.normal(size=count) * 2


def value(loss, z, x, **cuts) -> np.ndarray:
    z, x = np.broadcast_arrays(np.asarray(z, float), np.asarray(x, float))
    return loss(torch.tensor(z), torch.tensor(x), **cuts).numpy()


def ordinal(z, x, cuts: torch.Tensor = CUTS) -> np.ndarray:
    """Return the loss of a column of cells at scalar predictions."""
    z, x = np.broadcast_arrays(np.asarray(z, float), np.asarray(x, float))
    flat = torch.tensor(z.reshape(-1, 1)), torch.tensor(x.reshape(-1, 1))
    return Ordinal()(*flat, cuts=cuts).numpy().reshape(z.shape)


@pytest.mark.parametrize("name", PLAIN)
def test_the_slope_is_that_of_finite_differences(name) -> None:
    z, x = drawn(name, 300)
    loss, step = PLAIN[name], 1e-6
    if name == "absolute":
        z = np.where(np.abs(z - x) < 1e-3, z + 0.1, z)
    expected = (value(loss, z + step, x) - value(loss, z - step, x)) / (2 * step)
    found = slope(loss, torch.tensor(z), torch.tensor(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_the_slopes_of_classes_and_levels_are_those_of_finite_differences() -> None:
    generator = np.random.default_rng(1)
    z = torch.tensor(generator.normal(size=(40, 3)) * 2)
    x = torch.tensor(generator.integers(0, 3, 40).astype(float))
    step = 1e-6
    found = slope(Categorical(), z, x)
    for c in range(3):
        moved = torch.zeros_like(z)
        moved[:, c] = step
        rise = Categorical()(z + moved, x) - Categorical()(z - moved, x)
        torch.testing.assert_close(found[:, c], rise / (2 * step), rtol=1e-6, atol=1e-8)
    z, x = generator.normal(size=60) * 3, generator.integers(0, 4, 60)
    expected = (ordinal(z + step, x) - ordinal(z - step, x)) / (2 * step)
    column = torch.tensor(z[:, None]), torch.tensor(x[:, None] * 1.0)
    found = slope(Ordinal(), *column, cuts=CUTS)[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_the_slope_of_the_cut_points_is_that_of_finite_differences() -> None:
    generator = np.random.default_rng(2)
    z = torch.tensor(generator.normal(size=(50, 1)) * 2)
    x = torch.tensor(generator.integers(0, 4, (50, 1)).astype(float))
    cuts = CUTS.clone().requires_grad_()
    (found,) = torch.autograd.grad(Ordinal()(z, x, cuts=cuts).sum(), cuts)
    for c in range(3):
        moved = torch.zeros_like(CUTS)
        moved[0, c] = 1e-6
        rise = Ordinal()(z, x, cuts=CUTS + moved) - Ordinal()(z, x, cuts=CUTS - moved)
        assert float(found[0, c]) == pytest.approx(float(rise.sum()) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_loss_is_negative(name, dtype) -> None:
    z, x = drawn(name, 2000, seed=3)
    loss = PLAIN[name](torch.tensor(z, dtype=dtype), torch.tensor(x, dtype=dtype))
    assert float(loss.min()) >= -20 * torch.finfo(dtype).eps
    assert bool(torch.isfinite(loss).all())


@pytest.mark.parametrize(
    ("name", "perfect"),
    [
        ("squared", lambda x: x),
        ("absolute", lambda x: x),
        ("huber", lambda x: x),
        ("own", lambda x: x),
        ("kl", lambda x: x),
        ("poisson", lambda x: np.log(np.maximum(x, 1e-20))),
        ("logistic", lambda x: 60 * (2 * x - 1)),
    ],
)
def test_a_perfect_fit_costs_nothing(name, perfect) -> None:
    _, x = drawn(name, 200, seed=4)
    np.testing.assert_allclose(value(PLAIN[name], perfect(x), x), 0, atol=1e-14)


def test_classes_and_levels_that_are_sure_cost_nothing() -> None:
    sure = 60.0 * torch.eye(3, dtype=torch.float64)
    assert float(Categorical()(sure, torch.arange(3.0)).max()) < 1e-20
    far = torch.tensor([[-30.0, np.log(60.0)]], dtype=torch.float64)
    middle = ordinal([-60.0, 0.0, 60.0], [0, 1, 2], far)
    np.testing.assert_allclose(middle, 0, atol=1e-12)


def test_far_predictions_stay_finite() -> None:
    for loss in (Logistic(), Squared(), Huber(1.0), Absolute()):
        far = value(loss, [-500.0, 500.0], [1.0, 0.0])
        assert np.isfinite(far).all()
        assert (far > 400).all()
    far = ordinal([-700.0, 700.0, 700.0, -700.0], [3, 0, 1, 2])
    assert np.isfinite(far).all()
    assert (far > 600).all()
    assert np.isfinite(value(KullbackLeibler(), 0.0, 3.0))


def test_the_levels_of_an_ordinal_column_share_out_one() -> None:
    for z in (-4.0, 0.0, 2.5):
        chances = np.exp(-ordinal(np.full(4, z), np.arange(4)))
        below = 1 / (1 + np.exp(z - POINTS))
        expected = np.diff(np.concatenate([[0], below, [1]]))
        np.testing.assert_allclose(chances, expected, rtol=1e-10)
        assert chances.sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_the_best_constant_is_that_of_a_scalar_search(name) -> None:
    _, x = drawn(name, 41, seed=5)
    w = np.random.default_rng(6).uniform(0.1, 2, 41)
    loss = PLAIN[name]

    def total(z: float) -> float:
        return float(w @ value(loss, z, x))

    low, high = (1e-6, x.max()) if name == "kl" else (min(x.min(), -5), x.max() + 1)
    peer = minimize_scalar(
        total, bounds=(low, high), method="bounded", options={"xatol": 1e-11}
    )
    (best,) = loss.best_constant(x, w)
    assert total(best) <= peer.fun * (1 + 1e-12)
    # At the least loss z is known to the root of its precision; a median is a corner.
    assert best == pytest.approx(peer.x, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "values", "best"),
    [
        (Logistic(), np.ones(4), 30.0),
        (Logistic(), np.zeros(4), -30.0),
        (Logistic(), np.array([0.0, 1, 1, 1]), np.log(3)),
        (Poisson(), np.zeros(3), -30.0),
        (Poisson(), np.array([1.0, 3.0]), np.log(2)),
        (Absolute(), np.array([5.0, 1.0, 2.0]), 2.0),
        (Huber(1.0), np.array([4.0, 4.0]), 4.0),
        (Squared(), np.array([1.0, 2.0]), 1.5),
    ],
)
def test_known_best_constants(loss, values, best) -> None:
    found = loss.best_constant(values, np.ones(len(values)))
    assert found == pytest.approx(best, abs=1e-8)


def test_the_best_logits_are_those_of_a_search() -> None:
    generator = np.random.default_rng(7)
    x, w = generator.integers(0, 4, 60), generator.uniform(0.1, 2, 60)

    def total(z: np.ndarray) -> float:
        logits = torch.tensor(z).expand(60, 4)
        return float((torch.tensor(w) * Categorical()(logits, torch.tensor(x))).sum())

    peer = minimize(total, np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    best = Categorical.best_logits(x.astype(float), w, 4)
    assert total(best) <= peer.fun + 1e-12
    assert best.mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(best, peer.x - peer.x.mean(), atol=1e-5)


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


MAJORIZED = ["squared", "huber", "logistic"]


@pytest.mark.parametrize("name", MAJORIZED)
def test_the_quadratic_meets_the_loss_and_lies_above(name) -> None:
    z, x = drawn(name, 60, seed=9)
    loss = PLAIN[name]
    point, target = torch.tensor(z), torch.tensor(x)
    weight, center = loss.majorize(point, target, 0)
    w = np.ones(60) if weight is None else weight.numpy()
    t = np.broadcast_to(center.numpy(), 60)
    np.testing.assert_allclose(
        2 * w * (z - t), slope(loss, point, target).numpy(), rtol=1e-9, atol=1e-9
    )
    here = value(loss, z, x)
    for other in np.linspace(-30, 30, 601):
        above = here + w * ((t - other) ** 2 - (t - z) ** 2)
        assert (above >= value(loss, other, x) - 1e-9 * (1 + np.abs(above))).all()
    assert loss.quadratic == (name == "squared")


def test_the_quadratic_of_logistic_at_zero() -> None:
    weight, target = Logistic().majorize(
        torch.zeros(2, dtype=torch.float64), torch.tensor([0.0, 1.0]), 0
    )
    np.testing.assert_allclose(weight.numpy(), 1 / 8, rtol=1e-8)
    np.testing.assert_allclose(target.numpy(), [-2, 2], rtol=1e-8)


def test_the_quadratic_of_classes_meets_the_loss_and_lies_above() -> None:
    generator = np.random.default_rng(10)
    z = torch.tensor(generator.normal(size=(30, 4)) * 2)
    x = torch.tensor(generator.integers(0, 4, 30).astype(float))
    weight, center = Categorical().majorize(z, x, 0)
    torch.testing.assert_close(
        2 * weight * (z - center), slope(Categorical(), z, x), rtol=1e-10, atol=1e-12
    )
    here = Categorical()(z, x)
    for size in (0.01, 1.0, 10.0):
        for _ in range(50):
            other = z + size * torch.tensor(generator.normal(size=(30, 4)))
            square = (center - other).square() - (center - z).square()
            above = here + (weight * square).sum(-1)
            assert bool((above >= Categorical()(other, x) - 1e-10).all())


@pytest.mark.parametrize("step", [0, 20, 1000])
def test_the_quadratic_of_absolute_is_that_of_a_smoothed_one(step) -> None:
    z, x = drawn("absolute", 80, seed=11)
    weight, center = Absolute().majorize(torch.tensor(z), torch.tensor(x), step)
    w, width = weight.numpy(), x.std() * max(0.1 * 0.9**step, 1e-6)
    np.testing.assert_array_equal(center.numpy(), x)

    def smoothed(at) -> np.ndarray:
        return np.sqrt((at - x) ** 2 + width**2)

    np.testing.assert_allclose(
        2 * w * (z - x), (z - x) / smoothed(z), rtol=1e-10, atol=1e-12
    )
    for other in np.linspace(-10, 10, 201):
        above = smoothed(z) + w * ((x - other) ** 2 - (x - z) ** 2)
        assert (above >= smoothed(other) - 1e-10 * above).all()
        assert (above >= value(Absolute(), other, x) - 1e-10 * above).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_quadratic_of_absolute_is_finite_for_a_constant_column(dtype) -> None:
    table = torch.tensor([[1.0, 3.0], [2.0, 3.0], [4.0, 3.0]], dtype=dtype)
    for target in (table, table[:, 1:], table[:, 1], 0 * table):
        weight, _ = Absolute().majorize(target.clone()[None], target, 10**4)
        assert bool(torch.isfinite(weight).all())


CONJUGATES = {
    "squared": lambda x: np.linspace(-6, 6, 25),
    "absolute": lambda x: np.linspace(-1, 1, 21),
    "huber": lambda x: np.linspace(-1.4, 1.4, 21),
    "logistic": lambda x: np.linspace(0.001, 0.999, 25) - x,
    "poisson": lambda x: np.linspace(0.01, 8, 25) - x,
}


@pytest.mark.parametrize("name", CONJUGATES)
def test_the_conjugate_is_the_largest_excess(name) -> None:
    loss = PLAIN[name]
    for x in np.unique(drawn(name, 12, seed=12)[1])[:6]:
        slopes = CONJUGATES[name](x)
        grid = np.linspace(-12, 12, 4001)
        for g in slopes:
            coarse = grid[np.argmax(g * grid - value(loss, grid, x))]
            peer = minimize_scalar(
                lambda z, g=g, x=x: float(value(loss, z, x) - g * z),
                bounds=(coarse - 0.01, coarse + 0.01),
                method="bounded",
                options={"xatol": 1e-12},
            )
            found = loss.conjugate(np.array(g), np.array(x))
            assert float(found) == pytest.approx(-peer.fun, abs=1e-7)
            # Fenchel and Young: never exceeded anywhere.
            excess = g * grid - value(loss, grid, x)
            assert excess.max() <= float(found) + 1e-9 * (1 + abs(float(found)))


@pytest.mark.parametrize(
    ("name", "slopes", "target"),
    [
        ("absolute", [1.0001, -1.0001], 0.5),
        ("huber", [1.4001, -1.4001], 0.5),
        ("logistic", [0.0001, -1.0001], 1.0),
        ("logistic", [1.0001, -0.0001], 0.0),
        ("poisson", [-2.0001], 2.0),
        ("poisson", [-0.0001], 0.0),
    ],
)
def test_a_conjugate_is_infinite_outside_its_domain(name, slopes, target) -> None:
    found = PLAIN[name].conjugate(np.array(slopes), np.array(target))
    assert np.isposinf(found).all()


def test_conjugates_at_the_edge_of_the_domain() -> None:
    assert float(Logistic().conjugate(np.array(-1.0), np.array(1.0))) == 0
    assert float(Poisson().conjugate(np.array(-2.0), np.array(2.0))) == pytest.approx(
        2 - 2 * np.log(2)
    )
    for loss in NAMED.values():
        x = np.array(1.0)
        kept = Huber(1.0) if isinstance(loss, Huber) else loss
        if kept.has_conjugate:  # losses reach zero, and never fall below
            assert float(kept.conjugate(np.array(0.0), x)) == pytest.approx(0)
        else:
            with pytest.raises(NotImplementedError, match="has no conjugate"):
                kept.conjugate(np.array(0.0), x)


@pytest.mark.parametrize("name", ["squared", "absolute", "huber", "poisson", "own"])
def test_the_imputed_value_has_the_least_loss(name) -> None:
    z, _ = drawn(name, 20, seed=13)
    candidates = np.linspace(0 if name == "poisson" else -15, 15, 30001)
    best = PLAIN[name].impute(z)
    for one, found in zip(z, best, strict=True):
        losses = value(PLAIN[name], one, candidates)
        assert value(PLAIN[name], one, found) <= losses.min() + 1e-12
        if found < 15:
            assert found == pytest.approx(candidates[losses.argmin()], abs=1e-3)


def test_the_imputed_label_class_or_level_is_the_likeliest() -> None:
    generator = np.random.default_rng(14)
    z = generator.normal(size=50) * 3
    both = np.stack([value(Logistic(), z, x) for x in (0.0, 1.0)], -1)
    np.testing.assert_array_equal(Logistic().impute(z), both.argmin(-1))
    logits = torch.tensor(generator.normal(size=(50, 5)))
    every = [Categorical()(logits, torch.full((50,), float(x))) for x in range(5)]
    expected = torch.stack(every, -1).argmin(-1).numpy()
    np.testing.assert_array_equal(Categorical().impute(logits.numpy()), expected)
    every = np.stack([ordinal(z, np.full(50, x)) for x in range(4)], -1)
    found = Ordinal().impute(z[:, None], cuts=CUTS.numpy())
    np.testing.assert_array_equal(found[:, 0], every.argmin(-1))
    assert len(set(found[:, 0])) > 2


def test_a_width_a_column() -> None:
    wide = Huber((0.5, 2.0))
    z, x = torch.tensor([[3.0, 3.0]]), torch.zeros(1, 2)
    expected = [float(Huber(d)(z[0, :1], x[0, :1])) for d in (0.5, 2.0)]
    np.testing.assert_allclose(wide(z, x)[0].numpy(), expected, rtol=1e-6)
    assert wide.column(1) == Huber(2.0)
    np.testing.assert_array_equal(
        np.isinf(wide.conjugate(np.full((1, 2), 1.5), np.zeros((1, 2)))),
        [[True, False]],
    )


def test_a_loss_of_ones_own() -> None:
    assert named(COSH) is COSH
    assert not COSH.has_conjugate
    assert not COSH.majorized
    with pytest.raises(NotImplementedError, match="own has no quadratic above it"):
        COSH.majorize(torch.zeros(1), torch.zeros(1), 0)
    with pytest.raises(InvalidValueError, match=r"returns \(\) for predictions"):
        Own(lambda p, t: (p - t).square().mean())(torch.zeros(3), torch.zeros(3))
    with pytest.raises(InvalidValueError, match="returns float"):
        Own(lambda p, t: 1.0)(torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: named("hubber"), "loss is 'hubber'"),
        (lambda: named(3), "loss is 3"),
        (lambda: Huber(0.0), "the width of huber is 0"),
        (lambda: Huber((1.0, -1.0)), "the width of huber is -1"),
        (lambda: Huber()(torch.zeros(1), torch.zeros(1)), "huber has no width yet"),
    ],
)
def test_wrong_losses_are_refused(make, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("squared", [0.0, -1e9], [np.inf, np.nan]),
        ("logistic", [0.0, 1.0], [0.5, np.nan]),
        ("poisson", [0.0, 2.5], [-1.0, np.inf]),
        ("kl", [0.0, 2.5], [-1.0, np.inf]),
    ],
)
def test_which_values_a_loss_is_for(name, inside, outside) -> None:
    assert PLAIN[name].allows(np.array(inside)).all()
    assert not PLAIN[name].allows(np.array(outside)).any()
