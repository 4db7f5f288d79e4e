"""Starts planted to fail in each way, and the Hessian by another route."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from descents import Factorization, GradientDescent, Network, Problem, Stop, descend
from descents.diagnosis.diagnosis import diagnose
from descents.diagnosis.hessian import hessians
from descents.diagnosis.verdicts import Verdict
from descents.errors import InterruptedRunError, InvalidValueError

X = np.random.default_rng(0).normal(size=(60, 4))
Y = np.arange(60) % 3
SEPARABLE = X + 4 * np.eye(4)[Y]


class Planted(Network):
    """A network whose starts begin where a function says."""

    def __init__(self, *arguments, plant, **options) -> None:
        super().__init__(*arguments, **options)
        self._plant = plant

    def point(self, generator, start):
        point = dict(super().point(generator, start))
        self._plant(point, start)
        return point


def judged(problem, rate=0.05, steps=20, starts=4, multiples=(10, 30)):
    rule = GradientDescent(rate)
    runs = descend(problem, starts, steps=rule, stop=Stop(steps))
    below = runs.metrics["training_accuracy"] < 0.8
    failed = runs.starts[below | ~np.isfinite(runs.losses)]
    found = diagnose(
        problem, runs, failed, steps=rule, threshold=0.8, multiples=multiples
    )
    return runs, found


def test_non_finite() -> None:
    def plant(point, start):
        point["weight1"] *= 1e200
        point["weight2"] *= 1e200

    _, found = judged(Planted(SEPARABLE, Y, [6], plant=plant))
    assert found.verdicts == (Verdict.NONFINITE,) * 4
    assert np.isnan(found.smallest_eigenvalue).all()


def test_dead_units() -> None:
    def plant(point, start):
        point["bias1"] -= 100

    _, found = judged(Planted(SEPARABLE, Y, [6], plant=plant))
    assert found.verdicts == (Verdict.DEAD_UNITS,) * 4
    np.testing.assert_array_equal(found.dead_share, 1.0)
    np.testing.assert_array_equal(found.layer_shares["layer1"], 0.0)


def test_plateau() -> None:
    def plant(point, start):
        for name in point:
            point[name] *= 1e-3

    _, found = judged(Planted(SEPARABLE, Y, [6], plant=plant), steps=5)
    assert found.verdicts == (Verdict.PLATEAU,) * 4
    assert found.recovered.all()
    assert (found.loss[-1] < found.loss[0]).all()
    assert found.steps == (5, 50, 150)


def test_saddle() -> None:
    # Units on, outgoing and incoming weights zero, classes balanced: the gradient is
    # zero, and outgoing and incoming weights together have curvature of both signs.
    def plant(point, start):
        for name in ("weight1", "weight2"):
            point[name][:] = 0
        point["bias1"][:] = 1

    _, found = judged(Planted(SEPARABLE, Y, [6], plant=plant, loss="sum"), rate=1e-4)
    assert found.verdicts == (Verdict.SADDLE,) * 4
    assert (found.smallest_eigenvalue < -1).all()
    np.testing.assert_allclose(found.gradient_norm, 0, atol=1e-12)


def test_local_minimum() -> None:
    # One row repeated with every class: nothing is better than equal probabilities,
    # and a third of the rows is all that any network gets right.
    flat = np.ones((60, 4))
    problem = Network(flat, Y, [6], weights="uniform01")
    _, found = judged(problem, rate=0.05, steps=100, multiples=(2, 5))
    assert found.verdicts == (Verdict.LOCAL_MINIMUM,) * 4
    assert (found.final_gradient_ratio < 1e-3).all()
    np.testing.assert_allclose(found.loss[-1], np.log(3), rtol=1e-6)


def test_undecided() -> None:
    # Far too few steps to be stationary, to recover or to die.
    _, found = judged(Network(X, Y, [6]), rate=1e-6, steps=1, multiples=(2,))
    assert set(found.verdicts) == {Verdict.UNDECIDED}


def test_all_ways_in_one_batch() -> None:
    def plant(point, start):
        if start == 1:
            point["bias1"] -= 100
        if start == 2:
            point["weight1"] *= 1e200
            point["weight2"] *= 1e200
        if start == 3:
            for name in point:
                point[name] *= 1e-3

    problem = Planted(SEPARABLE, Y, [6], plant=plant)
    _, found = judged(problem, steps=5, starts=4)
    verdicts = dict(zip(found.starts.tolist(), found.verdicts, strict=True))
    assert verdicts[1] is Verdict.DEAD_UNITS
    assert verdicts[2] is Verdict.NONFINITE
    assert verdicts[3] is Verdict.PLATEAU
    assert sum(found.counts().values()) == len(found.starts)
    table = found.table()
    assert {len(column) for column in table.values()} == {len(found.starts)}
    assert table["metric_after_150"].shape == found.starts.shape


def test_precedence_is_the_order_of_the_verdicts() -> None:
    assert [verdict.word for verdict in Verdict] == [
        "non-finite",
        "exploding",
        "dead units",
        "saturated",
        "vanishing gradient",
        "ended early",
        "plateau",
        "saddle",
        "local minimum",
        "overfitted",
        "converged",
        "undecided",
    ]


def test_gradient_shares_of_layers_by_hand() -> None:
    problem = Network(X, Y, [5], loss="sum", scalar_biases=True)
    runs, found = judged(problem, rate=1e-4, steps=1, starts=3, multiples=(2,))
    for row, start in enumerate(found.starts):
        p = {
            n: torch.tensor(v[start], requires_grad=True)
            for n, v in runs.parameters.items()
        }
        hidden = torch.relu(torch.tensor(X) @ p["weight1"] + p["bias1"])
        logits = hidden @ p["weight2"] + p["bias2"]
        torch.nn.functional.cross_entropy(
            logits, torch.tensor(Y), reduction="sum"
        ).backward()
        squares = {n: float(v.grad.square().sum()) for n, v in p.items()}
        total = sum(squares.values())
        assert found.gradient_norm[row] == pytest.approx(np.sqrt(total), rel=1e-10)
        first = squares["weight1"] + squares["bias1"]
        assert found.layer_shares["layer1"][row] == pytest.approx(first / total)


@pytest.mark.parametrize("kind", ["factorization", "network"])
def test_hessian_agrees_with_torch_and_finite_differences(kind) -> None:
    problem: Problem
    if kind == "network":
        problem = Network(X, Y, [3], loss="sum", biases="uniform01", scalar_biases=True)
    else:
        problem = Factorization(X[:6], 2)
    parameters = problem.points(range(3), 0)
    starts = torch.arange(3)
    found = hessians(problem.bind(starts), parameters)
    shapes = {name: value.shape[1:] for name, value in parameters.items()}
    sizes = [shape.numel() for shape in shapes.values()]

    def loss_of(flat: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        pieces = flat.split(sizes)
        one = {
            n: piece.reshape(1, *shape)
            for (n, shape), piece in zip(shapes.items(), pieces, strict=True)
        }
        return problem.losses(one, start[None], 0)[0]

    for k in range(3):
        flat = torch.cat([value[k].flatten() for value in parameters.values()])
        expected = torch.autograd.functional.hessian(
            lambda flat, k=k: loss_of(flat, starts[k]), flat
        )
        torch.testing.assert_close(found[k], expected, rtol=1e-10, atol=1e-10)

        def gradient(flat, k=k):
            leaf = flat.clone().requires_grad_()
            return torch.autograd.grad(loss_of(leaf, starts[k]), leaf)[0]

        for entry in range(0, len(flat), 5):
            step = torch.zeros_like(flat)
            step[entry] = 1e-6
            difference = gradient(flat + step) - gradient(flat - step)
            torch.testing.assert_close(
                found[k, entry], difference / 2e-6, rtol=1e-4, atol=1e-4
            )


def test_a_linear_loss_has_no_curvature() -> None:
    line = Problem.from_batched_loss(
        lambda p, starts, step: 3 * p["x"].sum(1), lambda generator: {"x": np.ones(2)}
    )
    found = hessians(line.bind(torch.arange(2)), line.points(range(2), 0))
    assert found.shape == (2, 2, 2)
    assert float(found.abs().max()) == 0


def test_no_failed_start_has_an_empty_diagnosis() -> None:
    problem = Network(SEPARABLE, Y, [6])
    rule = GradientDescent(0.05)
    runs = descend(problem, 2, steps=rule, stop=Stop(2))
    found = diagnose(problem, runs, [], steps=rule)
    assert sum(found.counts().values()) == 0
    assert len(found.table()["verdict"]) == 0
    assert list(found.layer_shares) == ["layer1", "layer2"]


def test_what_cannot_be_diagnosed_is_refused() -> None:
    problem = Network(SEPARABLE, Y, [6])
    rule = GradientDescent(0.05)
    runs = descend(problem, 2, steps=rule, stop=Stop(2))
    with pytest.raises(InvalidValueError, match=r"\[5\] are not.*'loss'.*is empty"):
        diagnose(problem, runs, [5], steps=rule, metric="loss", multiples=[])
    with pytest.raises(InvalidValueError, match="a multiple is 1"):
        diagnose(problem, runs, [0], steps=rule, multiples=[1])
    with pytest.raises(InterruptedRunError, match="longer descents"):
        diagnose(problem, runs, [0], steps=rule, threshold=1.01, max_seconds=0)
    cut = descend(problem, 2, steps=rule, stop=Stop(2, max_seconds=0))
    with pytest.raises(InvalidValueError, match="were interrupted"):
        diagnose(problem, cut, [0], steps=rule)


def test_a_metric_that_is_not_defined_tells_of_no_failure() -> None:
    """A target without spread on the training rows of a split has no R^2 there."""
    y = np.append(np.zeros(30), np.arange(30.0) / 30)
    splits = [range(30), range(30, 60)]
    network = Network(X, y, [4], task="regression", splits=splits)
    rule = GradientDescent(0.05)
    runs = descend(network, 4, steps=rule, stop=Stop(20))
    assert np.isnan(runs.metrics["training_r2"]).tolist() == [True, False] * 2
    found = diagnose(network, runs, [0, 2], steps=rule)
    assert found.verdicts == (Verdict.CONVERGED,) * 2


def test_a_metric_of_which_less_is_better_is_refused() -> None:
    network = Network(
        [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], [4], splits=[[0, 2, 3]]
    )
    rule = GradientDescent(0.05)
    runs = descend(network, 2, steps=rule, stop=Stop(3))
    with pytest.raises(InvalidValueError, match="of which less is better; give one"):
        diagnose(network, runs, steps=rule, metric="validation_loss")
