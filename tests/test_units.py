"""Units: what a table is measured in changes nothing but the units of the answer.

The grid is every loss of numbers x constraint x kind of step x missing cells x penalty.
Quick tests take a twentieth of it for each of two tests, `make test-all` all.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from descents import LowRankModel
from descents.errors import InvalidValueError

ROWS, COLUMNS = 16, 5
POSITIVE = ("kl", "itakura_saito", "beta:0.5", "beta:1.5")
LOSSES = (
    "squared",
    "absolute",
    "huber",
    "huber:2",
    "quantile:0.8",
    "periodic:6.5",
    *POSITIVE,
    "own",
)
CONSTRAINTS: tuple[Any, ...] = (
    None,
    "nonnegative",
    ("simplex", None),
    ("simplex", "nonnegative"),
    (None, "unit_norm"),
    ("sparse:1", None),
    ("one_hot", None),
)
STEPS = ("auto", "alternating", "lbfgs", "gd", "adam")
GRID = list(itertools.product(LOSSES, CONSTRAINTS, STEPS, (False, True), (None, 0.3)))
TENTH = set(np.random.default_rng(5).choice(len(GRID), len(GRID) // 10, replace=False))


def sampled(among: set[int]) -> list[Any]:
    """Return the grid, of which all but these are slow."""
    return [
        pytest.param(*case, marks=[] if k in among else pytest.mark.slow)
        for k, case in enumerate(GRID)
    ]


# Units of columns and units of the table: each has half of the tenth.
HALVES = sorted(TENTH)[::2], sorted(TENTH)[1::2]
# Three fits each: every loss and every kind of step are in the sample.
WEIGHTED = [
    pytest.param(loss, steps, marks=[] if (i + j) % 3 == 0 else pytest.mark.slow)
    for i, loss in enumerate(LOSSES)
    for j, steps in enumerate(STEPS)
]


def cubed(prediction, target):
    return (prediction - target).abs().pow(3)


def table_of(loss: str, missing: bool, seed: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    shape = (ROWS, COLUMNS)
    if loss in POSITIVE:
        found = draw.gamma(2.0, 1.0, (ROWS, 2)) @ draw.gamma(2.0, 1.0, (2, COLUMNS))
        found *= draw.gamma(20.0, 0.05, shape)
    else:
        found = draw.normal(size=(ROWS, 2)) @ draw.normal(size=(2, COLUMNS))
        found += 1.5 + 0.3 * draw.normal(size=shape)
    if missing:
        hidden = draw.random(shape) < 0.2
        hidden[0] = hidden[:, 0] = False
        found = np.where(hidden, np.nan, found)
    return found


def loss_in(loss: str, units: np.ndarray) -> Any:
    """Return a loss whose width or period is given in each column's units."""
    if loss == "own":
        return cubed
    name, _, number = loss.partition(":")
    if name in ("huber", "periodic") and number:
        return [f"{name}:{float(number) * unit!r}" for unit in units]
    return loss


def fitted(table, loss, **options) -> LowRankModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few steps
        model = LowRankModel(2, loss=loss, random_state=0, **options)
        return model.fit(table)


def predicted(model: LowRankModel) -> np.ndarray:
    return model.fitted_.stacked(model.fitted_.codes_of(np.arange(ROWS)))


def apart(loss: str, one: np.ndarray, other: np.ndarray, table: np.ndarray) -> float:
    """Return the largest difference over the spread of its column."""
    rest = one - other
    if loss.startswith("periodic"):
        rest -= 6.5 * np.round(rest / 6.5)
    return float((np.abs(rest) / np.nanstd(table, 0)).max())


@pytest.mark.parametrize(
    ("loss", "constraint", "steps", "missing", "l2"), sampled({*HALVES[0]})
)
def test_columns_in_other_units(loss, constraint, steps, missing, l2) -> None:
    table = table_of(loss, missing)
    units = 10.0 ** np.random.default_rng(7).uniform(-9, 9, COLUMNS)
    options = {
        "constraint": constraint,
        "solver": steps,
        "penalty": l2,
        "scales": True,
        "max_iter": 40,
    }
    try:
        one = fitted(table, loss_in(loss, np.ones(COLUMNS)), **options)
    except InvalidValueError:
        with pytest.raises(InvalidValueError):
            fitted(table * units, loss_in(loss, units), **options)
        return
    other = fitted(table * units, loss_in(loss, units), **options)
    assert other.runs_.statuses == one.runs_.statuses
    assert other.n_iter_ == one.n_iter_
    if loss != "own":  # whose size is the user's
        assert other.loss_ == pytest.approx(one.loss_, rel=1e-6, abs=1e-12)
    assert apart(loss, predicted(other) / units, predicted(one), table) < 1e-6


@pytest.mark.parametrize(
    ("loss", "constraint", "steps", "missing", "l2"), sampled({*HALVES[1]})
)
def test_a_whole_table_in_other_units(loss, constraint, steps, missing, l2) -> None:
    table = table_of(loss, missing)
    unit = 10.0 ** np.random.default_rng(len(loss) + missing).uniform(-9, 9)
    if loss == "huber" and l2 is None:
        # What the noise implies is the same to nine digits, as best constants are
        # searched for, which 40 steps of descent magnify.
        l2 = 0
    options = {
        "constraint": constraint,
        "solver": steps,
        "scales": False,
        "max_iter": 40,
    }
    try:
        one = fitted(table, loss_in(loss, np.ones(COLUMNS)), penalty=l2, **options)
    except InvalidValueError:
        with pytest.raises(InvalidValueError):
            fitted(table, loss_in(loss, np.full(COLUMNS, unit)), **options)
        return
    # Losses are of degree d in the unit; U or V, or half of each, takes it up.
    degree = {"absolute": 1, "quantile:0.8": 1, "kl": 1, "itakura_saito": 0, "own": 3}
    degree |= {"periodic:6.5": 0, "beta:0.5": 0.5, "beta:1.5": 1.5}
    size = unit ** degree.get(loss, 2)
    in_rows = 0.0 if _sized(constraint, 0) else 1.0 if _sized(constraint, 1) else 0.5
    penalty = l2 and {
        "l2_rows": l2 * size / unit ** (2 * in_rows),
        "l2_columns": l2 * size / unit ** (2 - 2 * in_rows),
    }
    own = loss_in(loss, np.full(COLUMNS, unit))
    other = fitted(table * unit, own, penalty=penalty, **options)
    # Which entry of a row is not 0 may be decided by rounding, which Adam magnifies.
    chosen = loss == "own" and constraint == ("sparse:1", None)
    # At the best constants some gradients are rounding errors, of which Adam takes the sign.
    chosen |= (loss, constraint, steps) == ("huber", ("one_hot", None), "adam")
    room = 1e-3 if chosen else 1e-6
    assert other.loss_ / size == pytest.approx(one.loss_, rel=room)
    apart_by = apart(loss, predicted(other) / unit, predicted(one), table)
    assert apart_by < (0.1 if chosen else 1e-6)


def _sized(constraint: Any, side: int) -> bool:
    one = constraint[side] if isinstance(constraint, tuple) else constraint
    return one in ("simplex", "unit_norm", "one_hot")


@pytest.mark.parametrize(("loss", "steps"), WEIGHTED)
@pytest.mark.sampled(8)
def test_weights_that_are_all_larger(loss, steps) -> None:
    table = table_of(loss, True)
    weights = np.random.default_rng(8).uniform(0.5, 2, table.shape)
    options = {"solver": steps, "max_iter": 40, "constraint": "nonnegative"}
    found = []
    for size in (1.0, 1e-7, 1e7):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = LowRankModel(
                2,
                loss=loss_in(loss, np.ones(COLUMNS)),
                random_state=0,
                penalty=0.3 * size,
                **options,
            )
            try:
                model.fit(table, weights=weights * size)
            except InvalidValueError:
                assert not found
                return
        found.append((model.loss_ / size, predicted(model)))
    for value, cells in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)
        assert apart(loss, cells, found[0][1], table) < 1e-6


@pytest.mark.parametrize("scales", [False, True])
def test_weights_of_many_orders_end_at_the_minimum(scales) -> None:
    """The best column factors are those of weighted least squares, and stationary."""
    draw = np.random.default_rng(0)
    table = draw.normal(size=(40, 2)) @ draw.normal(size=(2, 6))
    table += 0.1 * draw.normal(size=table.shape)
    weights = 10.0 ** draw.uniform(-6, 6, (40, 1)) * np.ones((1, 6))
    model = LowRankModel(2, scales=scales, random_state=0, max_iter=5000)
    model.fit(table, weights=weights)
    # Weights of whole rows: the singular values of the centered, weighted table.
    root = np.sqrt(weights)
    center = (weights * table).sum(0) / weights.sum(0)
    rest = root * (table - center)
    if scales:
        rest = rest / np.sqrt((weights * (table - center) ** 2).sum(0) / weights.sum(0))
    best = np.square(np.linalg.svd(rest, compute_uv=False)[2:]).sum()
    assert model.loss_ == pytest.approx(best, rel=1e-6)


def test_a_column_in_a_small_unit_is_filled_as_well() -> None:
    draw = np.random.default_rng(0)
    table = draw.normal(size=(60, 2)) @ draw.normal(size=(2, 6))
    table += 0.1 * draw.normal(size=table.shape)
    hidden = draw.random(table.shape) < 0.15
    found = []
    for unit in (1.0, 1e-3, 1e-6):
        units = np.array([unit, 1, 1, 1, 1, 1])
        known = np.where(hidden, np.nan, table * units)
        model = LowRankModel(2, scales=True, random_state=0).fit(known)
        rest = (model.impute(known) - table * units)[hidden] / np.broadcast_to(
            units, table.shape
        )[hidden]
        found.append(np.sqrt(np.square(rest).mean()))
    np.testing.assert_allclose(found, found[0], rtol=1e-6)
    assert found[0] < 0.2  # noise of 0.1; the fills were off by 1e5 and more


@pytest.mark.parametrize("degree", [2, 4])
def test_a_homogeneous_loss_of_ones_own_has_no_unit(degree: int) -> None:
    draw = np.random.default_rng(0)
    table = draw.normal(size=(40, 2)) @ draw.normal(size=(2, 8))
    table = table + 0.1 * draw.normal(size=(40, 8))

    def fitted(unit: float, loss: object) -> float:
        model = LowRankModel(2, loss=loss, scales=False, random_state=0)
        return float(model.fit(unit * table).loss_) / unit**degree

    def own(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (z - x) ** degree

    losses = [fitted(unit, own) for unit in (1e-6, 1.0, 1e6)]
    np.testing.assert_allclose(losses, losses[1], rtol=1e-9)
    if degree == 2:
        np.testing.assert_allclose(losses[1], fitted(1.0, "squared"), rtol=1e-9)


def test_a_loss_of_ones_own_is_called_in_the_units_of_the_data() -> None:
    seen = []

    def own(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        seen.append(float(x.detach().max()))
        return (z - x) ** 2

    table = 1e5 * np.outer(np.arange(1.0, 9), [1.0, 2.0, 3.0])
    for scales in (False, True):
        LowRankModel(1, loss=own, scales=scales, random_state=0).fit(table)
    # Of single columns and of all, and of one unit: never of numbers about 1.
    assert min(seen) > 1e5
    assert max(seen) == pytest.approx(24e5)
