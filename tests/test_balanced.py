"""Alternating steps share out the size of a product at the least penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from descents import LBFGS, Alternating, Factorization, LowRankModel, Stop, descend
from descents.bounds.dual import _best_scale, _top_of_parabola
from descents.factorization.balance import balance, balanced
from descents.factorization.guarded import Guarded
from descents.factorization.half_steps import half_step
from descents.tables.datasets import planted_table

SETTINGS: tuple[dict[str, Any], ...] = (
    {"penalty": 0.7},
    {"penalty": 0.7, "offsets": "columns"},
    {"penalty": {"l2_rows": 3.0, "l2_columns": 0.2}, "offsets": "rows"},
    {"penalty": {"l2": 0.5, "count_power": 0.7}, "offsets": "both"},
    {"penalty": {"l2": 0.5, "l2_biases": 2.0}, "offsets": "both"},
    {"penalty": {"l2": 0.5, "smooth_rows": 4.0, "smooth_columns": 1.0}},
)


def table_of(rows: int = 40, columns: int = 7) -> np.ndarray:
    table = planted_table(rows, columns, 2, noise=0.3, seed=2)[0] + 3.0
    generator = np.random.default_rng(0)
    table[generator.random(table.shape) < 0.3] = np.nan
    table[4], table[:, 3] = np.nan, np.nan  # a row and a column without a cell
    return table


def drawn(problem: Factorization, starts: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = problem.points(range(starts), 0)
    found = {}
    for name, point in points.items():
        noise = torch.randn(point.shape, generator=generator, dtype=point.dtype)
        scale = 30.0 if name == "U" else 0.1
        found[name] = point + scale * noise * (point != 0)
    return found


@pytest.mark.parametrize("settings", SETTINGS)
def test_predictions_are_kept_and_the_penalty_is_the_least(settings: Any) -> None:
    problem = Factorization(table_of(), 2, initialization="normal", **settings)
    before = drawn(problem)
    turn = balance(problem, before)
    after = turn.of(before)
    seen = ~torch.as_tensor(np.isnan(table_of()))
    predicted = [problem.predict(one)[:, seen] for one in (before, after)]
    torch.testing.assert_close(predicted[1], predicted[0], rtol=1e-10, atol=1e-10)
    starts = torch.arange(3)
    losses = [problem.losses(one, starts, 0) for one in (before, after)]
    assert (losses[1] < losses[0]).all()
    for name in ("U", "V"):  # what has no cell stays at zero
        assert not after[name][:, 4 if name == "U" else 3].any()
    # No other turn, nor shift, is lower: the penalty is stationary there.
    for _ in range(2):
        again = balance(problem, after).of(after)
        lower = problem.losses(again, starts, 0)
        torch.testing.assert_close(lower, losses[1], rtol=1e-9, atol=0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        T = (
            torch.eye(2).double()
            + 1e-3 * torch.randn(2, 2, generator=generator).double()
        )
        moved = {**after, "U": after["U"] @ T, "V": after["V"] @ torch.linalg.inv(T).mT}
        assert (problem.losses(moved, starts, 0) >= losses[1] * (1 - 1e-12)).all()


def test_of_l2_alone_it_is_the_nuclear_norm() -> None:
    problem = Factorization(table_of(), 2, penalty=0.7, initialization="normal")
    before = drawn(problem)
    after = balance(problem, before).of(before)
    for k in range(3):
        values = np.linalg.svd(problem.predict(before)[k].numpy(), compute_uv=False)
        size = sum(float(after[name][k].square().sum()) for name in ("U", "V"))
        assert size == pytest.approx(2 * values.sum(), rel=1e-10)


@pytest.mark.parametrize("power", [0.0, 0.7])
def test_nonnegative_factors_are_scaled_to_the_least_penalty(power: float) -> None:
    """At the least, each component has the same penalty in both factors."""
    table, penalty = np.abs(table_of()), {"l2": 0.5, "count_power": power}
    problem = Factorization(table, 2, constraint="nonnegative", penalty=penalty)
    before = {name: part.abs() for name, part in drawn(problem).items()}
    after = balance(problem, before).of(before)
    torch.testing.assert_close(problem.predict(after), problem.predict(before))
    counts = [np.isfinite(table).sum(axis) ** power for axis in (1, 0)]
    sizes = [
        (torch.as_tensor(count)[:, None] * after[name].square()).sum(1)
        for count, name in zip(counts, ("U", "V"), strict=True)
    ]
    torch.testing.assert_close(sizes[0], sizes[1])
    assert all((part >= 0).all() for part in after.values())
    losses = [problem.losses(one, torch.arange(3), 0) for one in (before, after)]
    assert (losses[1] < losses[0]).all()


@pytest.mark.parametrize("loss", ["squared", "kl", "itakura_saito", "beta:0.5"])
def test_nonnegative_columns_far_from_zero_end_at_the_minimum(loss: str) -> None:
    """Of a table of rank 1 and nothing else, at 2 l2 d, the penalty of its product."""
    generator = np.random.default_rng(0)
    u, v = 30 + generator.random(60), 20 + generator.random(5)
    table = np.outer(u, v)
    table[generator.random(table.shape) < 0.2] = np.nan
    problem = Factorization(table, 1, loss=loss, constraint="nonnegative", penalty=1e-6)
    rules: tuple[Any, ...] = (Alternating(), Guarded())
    for steps in rules[: 1 if loss == "squared" else 2]:
        runs = descend(problem, 2, steps=steps, stop=Stop(300, gradient_tol=1e-10))
        size = 2e-6 * np.linalg.norm(u) * np.linalg.norm(v)
        np.testing.assert_allclose(runs.losses, size, rtol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_equations_follow(settings: Any) -> None:
    problem = Factorization(table_of(), 2, initialization="normal", **settings)
    before = drawn(problem)
    look = problem.cells.quadratic(torch.float64, torch.device("cpu"))
    left = problem.extended(before)[0]
    half = half_step(problem, before, look, "columns", left)
    moved, equations = balanced(problem, half)
    left = problem.extended(moved)[0]
    seen = torch.as_tensor(problem.cells.column_counts > 0)
    gram, wanted = problem.cells.normal(look, "columns", left)
    torch.testing.assert_close(equations["gram"][:, seen], gram[:, seen])
    torch.testing.assert_close(equations["wanted"][:, seen], wanted[:, seen])


@pytest.mark.parametrize("settings", SETTINGS)
def test_steps_never_raise_the_loss_and_end_where_lbfgs_does(settings: Any) -> None:
    problem = Factorization(table_of(), 2, initialization="normal", **settings)
    stop = Stop(3000, gradient_tol=1e-9)
    runs = descend(problem, 4, steps=Alternating(), stop=stop, record=range(60))
    history = runs.histories["loss"]  # a line for each step
    assert (np.diff(history, axis=0) <= 1e-12 * history.max()).all()
    other = descend(problem, 4, steps=LBFGS(), stop=Stop(5000, gradient_tol=1e-9))
    assert runs.losses.min() == pytest.approx(other.losses.min(), rel=1e-6)


def test_a_small_penalty_takes_tens_of_steps() -> None:
    """It took 2000 and more: sizes were shared out anew by a share of the penalty."""
    table = planted_table(300, 40, 4, noise=0.1, seed=0)[0]
    table[np.random.default_rng(0).random(table.shape) < 0.4] = np.nan
    for offsets in ("none", "columns", "both"):
        model = LowRankModel(
            4, offsets=offsets, penalty=0.05, random_state=0, held_out=0
        ).fit(table)
        assert model.n_iter_ <= 100


def test_a_component_below_the_penalty_vanishes_in_both_factors() -> None:
    problem = Factorization(
        np.diag([5.0, 3.0, 0.5]), 3, penalty=1.0, initialization="normal"
    )
    runs = descend(problem, 2, steps=Alternating(), stop=Stop(500, gradient_tol=1e-12))
    # Values are lowered by the penalty: 25 - 16 + 9 - 4 + 0.25 with 2 (4 + 2) charged.
    assert runs.losses.min() == pytest.approx(1 + 1 + 0.25 + 2 * 6, rel=1e-9)


def test_without_a_size_to_share_nothing_is_turned() -> None:
    for settings in (
        {},
        {"penalty": {"l2_rows": 1.0}},
        {"penalty": 1.0, "constraint": "simplex"},
        {"penalty": {"l2": 1.0, "l1": 0.1}},
    ):
        problem = Factorization(np.abs(np.nan_to_num(table_of())), 2, **settings)
        assert balance(problem, drawn(problem)) is None


@pytest.mark.parametrize("top", [-0.5, 0.3, 7.0])
def test_the_top_of_a_parabola(top: float) -> None:
    def function(x: float) -> float:
        return 2.0 - (x - top) ** 2

    expected = _best_scale(function, 4.0)
    assert _top_of_parabola(function, 4.0) == pytest.approx(expected, rel=1e-12)
