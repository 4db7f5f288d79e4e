"""Networks planted to fail in each way, healthy ones, and curvature against the dense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from descents import (
    Adam,
    Factorization,
    GradientDescent,
    Momentum,
    Network,
    Problem,
    Stop,
    descend,
    diagnose,
)
from descents.diagnosis.diagnosis import baseline_of, reached_by_the_best
from descents.diagnosis.hessian import curvature, hessians, lanczos
from descents.diagnosis.verdicts import HEALTHY, Verdict
from descents.tables.datasets import uci_iris

IRIS = uci_iris().values
X = (IRIS - IRIS.mean(0)) / IRIS.std(0)
Y = np.asarray(uci_iris().classes)


class Planted(Network):
    """A network whose starts begin where a function says."""

    def __init__(self, *arguments, plant, **options) -> None:
        super().__init__(*arguments, **options)
        self._plant = plant

    def point(self, generator, start):
        point = {n: np.array(v) for n, v in super().point(generator, start).items()}
        self._plant(point, generator)
        return point


class Students(Problem):
    """Six ReLU units that learn six orthogonal ones on normal inputs, in closed form.

    Safran and Shamir (2018), "Spurious local minima are common in two-layer ReLU neural
    networks", ICML: from 6 units on there are minima of loss above 0, the global one.
    """

    dtype = torch.float64
    units = 6
    own = units / 4 + units * (units - 1) / (4 * np.pi)

    def point(self, generator, start):
        weights = np.eye(self.units)
        weights[-1] = 0.2
        weights[-1, -1] = -1
        noise = generator.standard_normal(weights.shape)
        return {"weights": weights + 0.05 * noise}

    @staticmethod
    def _expected(a, b, apart):
        """Return E[relu(a x) relu(b x)] of each pair of different directions."""
        lengths = a.norm(dim=2)[:, :, None] * b.norm(dim=2)[:, None]
        cosines = torch.where(apart, a @ b.mT / lengths, 0.0)
        angles = torch.arccos(cosines)
        bent = (1 - cosines.square()).sqrt() + (np.pi - angles) * cosines
        return torch.where(apart, lengths * bent, 0.0) / (2 * np.pi)

    def losses(self, parameters, starts, step):
        weights = parameters["weights"]
        same = torch.eye(self.units, dtype=torch.bool)
        teachers = torch.eye(self.units, dtype=weights.dtype).expand_as(weights)
        among = self._expected(weights, weights, ~same).sum((1, 2))
        among = (among + weights.square().sum((1, 2)) / 2) / 2
        across = self._expected(weights, teachers, torch.ones_like(same))
        return among - across.sum((1, 2)) + self.own

    def metrics(self, parameters, starts):
        return {"training_r2": 1 - self.losses(parameters, starts, 0) / self.own}


def dead(point, generator):
    point["bias1"] -= 100


def units_on(point, generator):
    point["bias1"][:] = generator.uniform(0.5, 2)


LINE = np.linspace(-1, 1, 30)[:, None]
BENT = np.abs(LINE[:, 0])


def linear(point, generator):
    """Put a network that is linear on all rows near the best line through them.

    Yun, Sra and Jadbabaie (2019), "Small nonlinearities in activation functions create
    bad local minima in neural networks", ICLR: a minimum, wherever a line is not all.
    """
    width = point["weight1"].shape[1]
    slopes = generator.uniform(0.5, 1.5, width) * generator.choice([-1, 1], width)
    outer = generator.standard_normal(width)
    outer -= slopes * (slopes @ outer) / (slopes @ slopes)
    point["weight1"], point["bias1"] = slopes[None], np.full((1, width), 3.0)
    point["weight2"] = outer[:, None]
    point["bias2"] = np.array([[BENT.mean() - 3 * outer.sum()]])
    for name in point:
        point[name] = point[name] + 0.01 * generator.standard_normal(point[name].shape)


def large(generator, inputs, outputs):
    return 100 * generator.standard_normal((inputs, outputs))


def tiny(generator, inputs, outputs):
    return 0.05 * generator.standard_normal((inputs, outputs))


RULE = GradientDescent(0.1)


@dataclass(frozen=True)
class Case:
    """How starts are planted to fail, and what is to be said of them."""

    verdict: Verdict
    make: Callable[[], Problem]
    steps: Any = RULE
    stop: int = 30
    multiples: tuple[int, ...] = (10,)
    threshold: float = 0.8

    def __call__(self, starts: int):
        problem = self.make()
        stop = Stop(self.stop)
        runs = descend(problem, starts, steps=self.steps, stop=stop, width=starts)
        return diagnose(
            problem,
            runs,
            steps=self.steps,
            threshold=self.threshold,
            multiples=self.multiples,
        )


CASES = {
    "overflow": Case(
        Verdict.NONFINITE, lambda: Network(X, Y, [8]), GradientDescent(1e5), stop=60
    ),
    "wild rate": Case(
        Verdict.EXPLODING, lambda: Network(X, Y, [8]), GradientDescent(30)
    ),
    "wild rate, sum": Case(
        Verdict.EXPLODING,
        lambda: Network(X, Y, [8], loss="sum"),
        GradientDescent(20),
        stop=5,
    ),
    "biases of -100": Case(Verdict.DEAD_UNITS, lambda: Planted(X, Y, [8], plant=dead)),
    "one dead layer of two": Case(
        Verdict.DEAD_UNITS, lambda: Planted(X, Y, [3, 9], plant=dead), Adam(0.01)
    ),
    "large weights": Case(
        Verdict.SATURATED,
        lambda: Network(IRIS, Y, [8], activation="logistic", weights=large),
    ),
    "large weights, tanh": Case(
        Verdict.SATURATED,
        lambda: Network(IRIS, Y, [8], activation="tanh", weights=large),
        GradientDescent(0.01),
    ),
    "deep and logistic": Case(
        Verdict.VANISHING_GRADIENT,
        lambda: Network(X, Y, [5] * 4, activation="logistic", weights=tiny),
    ),
    "too few steps": Case(
        Verdict.PLATEAU,
        lambda: Network(X, Y, [8]),
        GradientDescent(0.02),
        stop=5,
        multiples=(30, 200),
        threshold=0.9,
    ),
    "zero weights": Case(
        Verdict.SADDLE,
        lambda: Network(X, Y, [8], activation="tanh", weights="zero"),
    ),
    "zero weights, classes not balanced": Case(
        Verdict.SADDLE,
        lambda: Network(X[20:], Y[20:], [8], activation="tanh", weights="zero"),
        GradientDescent(0.5),
    ),
    "zero weights, units on": Case(
        Verdict.SADDLE,
        lambda: Planted(X, Y, [8], weights="zero", plant=units_on),
        GradientDescent(1e-3),
    ),
    "Safran and Shamir": Case(
        Verdict.LOCAL_MINIMUM,
        Students,
        Momentum(0.1),
        stop=200,
        threshold=0.9999,
    ),
    "Yun, Sra and Jadbabaie": Case(
        Verdict.LOCAL_MINIMUM,
        lambda: Planted(LINE, BENT, [3], task="regression", plant=linear),
        GradientDescent(0.02),
        stop=200,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(7)
def test_planted_starts_are_told(name: str) -> None:
    case = CASES[name]
    found = case(10)
    assert Counter(found.verdicts) == {case.verdict: 10}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_95_of_100_planted_starts_are_told(name: str) -> None:
    case = CASES[name]
    assert case(100).counts()[case.verdict.word] >= 95


@pytest.mark.slow
def test_the_minimum_of_safran_and_shamir() -> None:
    # Positive definite, with a loss above that of the teacher, which is 0.
    found = CASES["Safran and Shamir"](5)
    assert (found.last.smallest_eigenvalue > 1e-3).all()
    np.testing.assert_allclose(found.loss[-1], 0.0250806, rtol=1e-5)
    problem = Students()
    exact = {"weights": torch.eye(6, dtype=torch.float64)[None].flip(1) * (1 - 1e-9)}
    assert float(problem.losses(exact, torch.arange(1), 0)) < 1e-6
    draws = np.random.default_rng(0).standard_normal((200_000, 6))
    weights = problem.points([0], 0)["weights"].numpy()[0]
    units = np.maximum(draws @ weights.T, 0).sum(1) - np.maximum(draws, 0).sum(1)
    closed = problem.losses(problem.points([0], 0), torch.arange(1), 0)
    assert float(closed) == pytest.approx(np.square(units).mean() / 2, rel=0.05)


def digits(rows: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    values, classes = load_digits(return_X_y=True)
    return values[:rows] / 16, classes[:rows]


def healthy(data: str, starts: int, **options):
    features, classes = (X, Y) if data == "iris" else digits(400)
    rows = np.random.default_rng(0).permutation(len(classes))
    problem = Network(
        features,
        classes,
        [12] if data == "iris" else [24],
        splits=[rows[: 2 * len(rows) // 3]],
        **options,
    )
    rule = Adam(0.02)
    runs = descend(problem, starts, steps=rule, stop=Stop(150), width=min(starts, 50))
    return problem, runs, diagnose(problem, runs, steps=rule, multiples=[5])


@pytest.mark.parametrize("data", ["iris", "digits"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_healthy_starts_are_not_called_failed(data: str, activation: str) -> None:
    _, _, found = healthy(data, 20, activation=activation)
    assert set(found.verdicts) <= set(HEALTHY)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["iris", "digits"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "gelu"])
def test_at_most_4_of_200_healthy_starts_are_called_failed(data, activation) -> None:
    _, _, found = healthy(data, 200, activation=activation)
    assert found.failed.sum() <= 4
    assert found.counts()["converged"] >= 190


def test_what_reaches_the_best_is_told_without_longer_descents() -> None:
    problem, runs, found = healthy("iris", 6)
    assert found.counts()["converged"] == 6
    assert np.isnan(found.metric[1:]).all()
    assert np.isnan(found.end.smallest_eigenvalue).all()
    assert np.isnan(found.last.gradient_norm).all()
    np.testing.assert_allclose(found.end.gradient_norm, runs.gradient_norms, rtol=1e-9)
    best = runs.metrics["training_accuracy"].max()
    base = np.bincount(Y[problem.batches.splits[0]]).max() / 100
    assert found.threshold == pytest.approx(base + 0.8 * (best - base))
    table = found.table()
    assert table["reached"].all()
    assert {len(column) for column in table.values()} == {6}


def test_overfitted() -> None:
    # Labels by chance: rows can be learned by heart, and nothing else.
    draw = np.random.default_rng(1)
    problem = Network(
        draw.normal(size=(80, 10)),
        draw.integers(2, size=80),
        [40],
        splits=[np.arange(40)],
    )
    rule = Adam(0.05)
    runs = descend(problem, 10, steps=rule, stop=Stop(200), width=10)
    found = diagnose(problem, runs, steps=rule)
    assert set(found.verdicts) == {Verdict.OVERFITTED}
    assert not found.failed.any()


def test_failed_starts_among_healthy_ones() -> None:
    # By default, what falls short is judged by the best of the runs.
    def plant(point, generator):
        kind = generator.integers(3)
        if kind == 1:
            point["bias1"] -= 100
        if kind == 2:
            for name in point:
                point[name] *= 0

    problem = Planted(X, Y, [8], activation="relu", plant=plant)
    rule = Adam(0.05)
    runs = descend(problem, 30, steps=rule, stop=Stop(100), width=30)
    found = diagnose(problem, runs, steps=rule, multiples=[3])
    low = runs.metrics["training_accuracy"] < 0.5
    assert 10 < low.sum() < 25
    np.testing.assert_array_equal(found.failed, low)
    # A unit whose sum is 0 on every row gives nothing either.
    assert found.counts()["dead units"] == low.sum()
    assert np.isnan(found.growth[~low]).all()


def test_where_the_best_has_learned_nothing_every_start_is_diagnosed() -> None:
    problem = Network(X, Y, [8], activation="tanh", weights="zero")
    rule = GradientDescent(0.1)
    runs = descend(problem, 3, steps=rule, stop=Stop(10), width=3)
    assert reached_by_the_best(problem, runs, "training_accuracy") > 1 / 3
    assert diagnose(problem, runs, steps=rule).counts()["saddle"] == 3


def test_of_a_stochastic_problem_the_whole_is_seen() -> None:
    options: dict[str, Any] = {"activation": "tanh", "weight_decay": 0.01}
    problem = Network(X, Y, [6], batch_size=20, dropout=0.2, **options)
    rule = Adam(0.01)
    runs = descend(problem, 4, steps=rule, stop=Stop(20), width=4)
    found = diagnose(problem, runs, steps=rule, threshold=1.01, multiples=[2])
    whole = Network(X, Y, [6], **options)
    for k in range(4):
        leaves = {
            name: torch.tensor(value[[k]], requires_grad=True)
            for name, value in runs.parameters.items()
        }
        loss = whole.losses(leaves, torch.arange(1), 0).sum()
        loss.backward()
        squares = {n: float(leaf.grad.square().sum()) for n, leaf in leaves.items()}
        norm = np.sqrt(sum(squares.values()))
        assert found.end.gradient_norm[k] == pytest.approx(norm, rel=1e-9)
        first = np.sqrt(squares["weight1"] + squares["bias1"])
        assert found.end.layers["layer1"][k] == pytest.approx(first, rel=1e-9)
    begun = problem.points(range(4), 0)
    moved = sum(
        np.square(runs.parameters[n] - begun[n].numpy()).reshape(4, -1).sum(1)
        for n in begun
    )
    length = sum(np.square(v.numpy()).reshape(4, -1).sum(1) for v in begun.values())
    np.testing.assert_allclose(found.distance, np.sqrt(moved / length), rtol=1e-12)


def at_a_point(kind: str):
    """Return a problem and three points, one of them where it has descended to."""
    problem: Problem
    if kind == "factorization":
        problem = Factorization(X[:40], 3)
    elif kind == "sum":
        problem = Network(X[:, :3], Y, [9], activation="tanh", loss="sum")
    else:
        problem = Network(X, Y, [20, 20], activation="tanh")
    runs = descend(problem, 3, steps=Adam(0.02), stop=Stop(100), width=3)
    begun = problem.points(range(3), 0)
    points = {
        name: torch.cat([begun[name][:2], torch.tensor(runs.parameters[name][2:])])
        for name in begun
    }
    return problem, points


@pytest.mark.parametrize("kind", ["factorization", "sum", "two layers"])
def test_lanczos_agrees_with_the_dense_hessian(kind: str) -> None:
    problem, points = at_a_point(kind)
    starts = torch.arange(3)
    values = np.linalg.eigvalsh(hessians(problem.bind(starts), points).numpy())
    found = lanczos(problem.bind(starts), points)
    scale = np.abs(values).max(1)
    np.testing.assert_allclose(found.largest, values[:, -1], rtol=1e-7)
    assert (np.abs(found.smallest - values[:, 0]) <= 1e-4 * scale).all()
    assert (found.smallest >= values[:, 0] - 1e-10 * scale).all()
    assert (found.residuals <= 1e-3 * scale).all()
    # What a residual says: an eigenvalue lies so near.
    away = np.abs(values - found.smallest[:, None]).min(1)
    assert (away <= found.residuals + 1e-10 * scale).all()


def test_few_steps_of_lanczos_say_how_far_off_they_are() -> None:
    problem, points = at_a_point("two layers")
    starts = torch.arange(3)
    values = np.linalg.eigvalsh(hessians(problem.bind(starts), points).numpy())
    found = lanczos(problem.bind(starts), points, max_steps=6)
    away = np.abs(values - found.smallest[:, None]).min(1)
    assert (found.residuals > 1e-6).all()
    assert (away <= found.residuals).all()


def test_many_parameters_take_lanczos_and_few_the_whole_spectrum() -> None:
    problem, points = at_a_point("two layers")  # 583 parameters
    assert (curvature(problem.bind(torch.arange(3)), points).residuals > 0).all()
    problem, points = at_a_point("sum")
    exact = curvature(problem.bind(torch.arange(3)), points)
    assert (exact.residuals == 0).all()
    values = np.linalg.eigvalsh(hessians(problem.bind(torch.arange(3)), points).numpy())
    np.testing.assert_allclose(exact.smallest, values[:, 0], rtol=1e-8)
    np.testing.assert_allclose(exact.magnitude, np.abs(values).max(1), rtol=1e-8)


def test_lanczos_of_repeated_eigenvalues_and_of_starts_that_are_not_finite() -> None:
    # Three eigenvalues in 40 dimensions: the subspace is exhausted after three steps.
    scale = torch.tensor([-1.0] * 10 + [2.0] * 20 + [5.0] * 10, dtype=torch.float64)
    problem = Problem.from_batched_loss(
        lambda p, starts, step: (scale * p["x"].square() / 2 + p["x"] ** 3).sum(1),
        lambda generator: {"x": np.zeros(40)},
    )
    points = {"x": torch.zeros(3, 40, dtype=torch.float64)}
    points["x"][1] = np.nan
    found = lanczos(problem.bind(torch.arange(3)), points)
    np.testing.assert_allclose(found.smallest[[0, 2]], -1, atol=1e-10)
    np.testing.assert_allclose(found.largest[[0, 2]], 5, atol=1e-10)
    assert np.isnan(found.smallest[1])
    flat = Problem.from_batched_loss(
        lambda p, starts, step: p["x"].sum(1), lambda generator: {"x": np.zeros(40)}
    )
    line = lanczos(flat.bind(torch.arange(3)), points)
    assert line.smallest[0] == line.largest[0] == line.residuals[0] == 0


def test_the_baseline_is_what_a_constant_answer_gets() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    network = Network(X[:6], labels, [3], splits=[[0, 1, 3, 4], [0, 3, 4, 4 + 1]])
    assert network.baseline("training_accuracy") == 0.5
    assert network.baseline("training_r2") == 0.0
    assert baseline_of(Factorization(X, 1), "anything") == 0.0
