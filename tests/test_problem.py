"""Streams, initial points and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from descents import Factorization, GradientDescent, Network, Problem, Stop, descend
from descents.errors import InvalidValueError
from descents.optim.problem import losses_and_gradients
from descents.rng import stream, streams

TABLE = np.random.default_rng(0).normal(size=(7, 5))


def test_a_seed_has_all_its_bits() -> None:
    problem = Factorization(TABLE, 2)
    five = problem.points([0], 5)["U"]
    wrapped = problem.points([0], 5 + 2**32)["U"]
    assert not torch.equal(five, wrapped)
    assert torch.equal(five, problem.points([0], 5)["U"])


@given(
    seed=st.integers(0, 2**200),
    numbers=st.lists(st.integers(0, 2**32 - 1), max_size=5),
    counters=st.lists(st.integers(0, 2**32 - 1), max_size=2),
)
@example(seed=0, numbers=[0, 1, 2**32 - 1], counters=[])
@example(seed=2**32 - 1, numbers=[7, 8], counters=[3])
@example(seed=2**32, numbers=[7, 8], counters=[3])
@example(seed=2**100, numbers=[0], counters=[0])
@example(seed=2**128, numbers=[5, 6], counters=[])
@example(seed=5, numbers=[2**32, 1, 2**70], counters=[])
@example(seed=5, numbers=[1, 2], counters=[2**64])
def test_many_streams_are_those_that_numpy_makes_one_by_one(
    seed, numbers, counters
) -> None:
    found = list(streams(seed, "order", numbers, *counters))
    assert len(found) == len(numbers)
    for number, generator in zip(numbers, found, strict=True):
        key = (1, number, *counters)
        sequence = np.random.SeedSequence(seed, spawn_key=key)
        state = np.random.Philox(sequence).state["state"]
        own = generator.bit_generator.state["state"]
        np.testing.assert_array_equal(own["key"], state["key"])
        np.testing.assert_array_equal(own["counter"], state["counter"])


def test_streams_do_not_meet() -> None:
    first = [stream(0, name, 3).random() for name in ("start", "order", "split")]
    assert len(set(first)) == 3
    assert stream(0, "order", 3, 1).random() != stream(0, "order", 3, 2).random()


@pytest.mark.parametrize(
    "problem",
    [
        Factorization(TABLE, 2),
        Network(TABLE, [0, 1, 2, 0, 1, 2, 0], [3, 4], weights="kaiming"),
    ],
    ids=["factorization", "network"],
)
def test_a_start_is_the_same_bits_among_any_others(problem) -> None:
    alone = problem.points([7], 1)
    for others in (range(8), range(1000), [7, 3], [900, 7]):
        among = problem.points(others, 1)
        place = list(others).index(7)
        for name, value in alone.items():
            assert torch.equal(value[0], among[name][place])


def test_stream_is_philox_of_its_spawn_key() -> None:
    key = np.random.SeedSequence(11, spawn_key=(0, 4))
    expected = np.random.Generator(np.random.Philox(key)).random((7, 2))
    drawn = Factorization(TABLE, 2).points([4], 11)["U"][0]
    np.testing.assert_array_equal(drawn.numpy(), expected)


@pytest.mark.parametrize(
    "problem",
    [
        Factorization(TABLE, 2),
        Network(TABLE, [0, 1, 2, 0, 1, 2, 0], [4], scalar_biases=True, loss="sum"),
        Network(TABLE, [0, 1, 2, 0, 1, 2, 0], [3, 4], biases="uniform01"),
    ],
    ids=["factorization", "sheet's network", "deep network"],
)
def test_gradients_agree_with_finite_differences(problem) -> None:
    starts = torch.arange(3)
    parameters = problem.points(range(3), 0)
    _, gradients = losses_and_gradients(problem, parameters, starts, 0)
    for name, value in parameters.items():
        flat = value.reshape(3, -1)
        for entry in range(flat.shape[1]):
            step = torch.zeros_like(flat)
            step[:, entry] = 1e-6
            up = problem.losses(
                {**parameters, name: (flat + step).reshape(value.shape)}, starts, 0
            )
            down = problem.losses(
                {**parameters, name: (flat - step).reshape(value.shape)}, starts, 0
            )
            found = gradients[name].reshape(3, -1)[:, entry]
            torch.testing.assert_close(found, (up - down) / 2e-6, rtol=1e-6, atol=1e-6)


def test_factorization_loss_and_gradient_in_closed_form() -> None:
    problem = Factorization(TABLE, 2)
    parameters = problem.points(range(4), 0)
    losses, gradients = losses_and_gradients(problem, parameters, torch.arange(4), 0)
    for k in range(4):
        U, V = (parameters[name][k].numpy() for name in "UV")
        residual = U @ V.T - TABLE
        np.testing.assert_allclose(losses[k], np.square(residual).sum(), rtol=1e-13)
        np.testing.assert_allclose(gradients["U"][k], 2 * residual @ V, rtol=1e-12)
        np.testing.assert_allclose(gradients["V"][k], 2 * residual.T @ U, rtol=1e-12)


def test_network_by_a_plain_single_network() -> None:
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    problem = Network(
        TABLE, y, [3, 4], biases="uniform01", splits=[[0, 1, 2], [4, 5, 6]]
    )
    parameters = problem.points(range(5), 0)
    starts = torch.arange(5)
    losses = problem.losses(parameters, starts, 0)
    metrics = problem.metrics(parameters, starts)
    for k in range(5):
        rows = [[0, 1, 2], [4, 5, 6]][k % 2]
        held_out = sorted({*range(7)} - {*rows})
        p = {name: value[k] for name, value in parameters.items()}
        x = torch.tensor(TABLE)
        h1 = torch.relu(x @ p["weight1"] + p["bias1"])
        h2 = torch.relu(h1 @ p["weight2"] + p["bias2"])
        z = h2 @ p["weight3"] + p["bias3"]
        expected = torch.nn.functional.cross_entropy(z[rows], y[rows])
        torch.testing.assert_close(losses[k], expected, rtol=1e-12, atol=0)
        right = (z.argmax(1) == y).double()
        assert metrics["training_accuracy"][k] == right[rows].mean()
        assert metrics["validation_accuracy"][k] == right[held_out].mean()
        dead = (h1[rows] == 0).all(0).sum() + (h2[rows] == 0).all(0).sum()
        assert metrics["dead_units"][k] == dead


def test_initial_weights_follow_their_rules() -> None:
    X, y = np.zeros((2, 50)), [0, 1]
    for rule, mean, variance in (
        ("uniform01", 0.5, 1 / 12),
        ("normal", 0, 1),
        ("kaiming", 0, 2 / 50),
        ("xavier", 0, 2 / (50 + 80)),
    ):
        weights = Network(X, y, [80], weights=rule).points(range(20), 0)["weight1"]
        # 80,000 draws: four standard errors of the mean, and 3% of the variance.
        assert abs(float(weights.mean()) - mean) < 4 * np.sqrt(variance / 80_000)
        assert abs(float(weights.var()) / variance - 1) < 0.03


def test_the_same_start_has_the_same_weights_whatever_its_biases() -> None:
    X, y = TABLE, [0, 1, 2, 0, 1, 2, 0]
    zero, uniform = (
        Network(X, y, [4], biases=biases).points(range(3), 0)
        for biases in ("zero", "uniform01")
    )
    assert torch.equal(zero["weight2"], uniform["weight2"])
    assert float(zero["bias1"].abs().max()) == 0
    assert 0 <= float(uniform["bias1"].min()) < float(uniform["bias1"].max()) < 1


def test_loss_of_one_is_the_same_as_losses_of_all() -> None:
    def points(generator):
        return {"x": generator.normal(size=3)}

    one = Problem.from_loss(lambda p: (p["x"] ** 4).sum(), points)
    many = Problem.from_batched_loss(
        lambda p, starts, step: (p["x"] ** 4).sum(1), points
    )
    parameters = one.points(range(6), 0)
    for found, expected in zip(
        losses_and_gradients(one, parameters, torch.arange(6), 0),
        losses_and_gradients(many, parameters, torch.arange(6), 0),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda p, starts, step: p["x"], r"are \(2, 3\); return a tensor of shape"),
        (lambda p, starts, step: p["x"].sum(), r"are \(\); return a tensor"),
        (lambda p, starts, step: 1.0, "are float; return a tensor"),
        (lambda p, starts, step: p["x"].detach().sum(1), "do not depend on the"),
    ],
)
def test_wrong_losses_are_refused(losses, message) -> None:
    problem = Problem.from_batched_loss(losses, lambda generator: {"x": np.ones(3)})
    with pytest.raises(InvalidValueError, match=message):
        losses_and_gradients(problem, problem.points(range(2), 0), torch.arange(2), 0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (lambda generator: np.ones(3), "is ndarray; give a dict of arrays"),
        (lambda generator: {}, "is dict; give a dict of arrays"),
        (
            lambda generator: {"x": np.ones(generator.integers(1, 9))},
            "other names or shapes",
        ),
    ],
)
def test_wrong_points_are_refused(points, message) -> None:
    problem = Problem.from_batched_loss(lambda p, starts, step: p["x"].sum(1), points)
    with pytest.raises(InvalidValueError, match=message):
        problem.points(range(5), 0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"x": torch.ones(9, 2)}, r"of 1 start have \(9, 2\) for 'x'; .* length 1"),
        ({"x": torch.tensor(1.0)}, r"of 1 start have \(\) for 'x'"),
        ({"x": np.ones((1, 2))}, "of 1 start have ndarray for 'x'"),
        ({}, "are dict; return a dict of tensors"),
        (torch.ones(1, 2), "are Tensor; return a dict of tensors"),
    ],
)
def test_a_problem_whose_own_points_are_not_those_asked_for_is_refused(
    points, message
) -> None:
    own = Problem.from_batched_loss(
        lambda p, starts, step: p["x"].sum(1), lambda generator: {}
    )
    own.points = lambda starts, seed: points
    with pytest.raises(InvalidValueError, match=message):
        descend(own, 9, stop=Stop(1))


def test_all_that_is_wrong_with_a_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidValueError, match="rank is 9.*1 to 5.*initialization is"):
        Factorization(TABLE, 9, initialization="best")
    with pytest.raises(
        InvalidValueError,
        match="width is 0.*weights is 'x'.*loss is 'max'.*y has shape",
    ):
        Network(TABLE, [0, 1], [0], weights="x", loss="max")
    with pytest.raises(InvalidValueError, match="names a row twice or outside 0 to 6"):
        Network(TABLE, [0, 1, 2, 0, 1, 2, 0], splits=[[0, 0]])
    with pytest.raises(InvalidValueError, match=r"initial V has shape \(1, 4, 2\)"):
        Factorization(TABLE, 2, initialization=(np.ones((1, 7, 2)), np.ones((1, 4, 2))))


def test_precision_is_that_of_the_data_unless_asked_for() -> None:
    assert Factorization(TABLE, 1).dtype == torch.float64
    assert Factorization(TABLE.astype(np.float32), 1).dtype == torch.float32
    assert Factorization(TABLE, 1, dtype=torch.float32).dtype == torch.float32
    with pytest.raises(InvalidValueError, match="dtype is torch.float16"):
        Factorization(TABLE, 1, dtype=torch.float16)


def test_a_problem_has_ten_members_beside_its_attributes() -> None:
    methods = {n for n in vars(Problem) if not n.startswith("_")} - {
        "dtype", "evaluation_dtype", "device", "size", "available", "constrained",
        "from_batched_loss", "from_loss",
    }  # fmt: skip
    assert methods == {
        "point", "points", "losses", "prox", "metrics", "final_metrics", "bind",
        "width", "edges", "loss_scale",
    }  # fmt: skip


def test_a_faster_way_of_ones_own_is_found_by_its_protocol() -> None:
    calls = []

    class Bowl(Problem):
        dtype = torch.float64

        def point(self, generator, start):
            return {"x": generator.normal(size=2)}

        def losses(self, parameters, starts, step):
            return parameters["x"].square().sum(1)

    class Faster(Bowl):
        def fused(self, parameters, starts, step):
            calls.append(step)
            x = parameters["x"]
            return x.square().sum(1), {"x": 2 * x}

    slow, fast = (
        descend(kind(), 3, steps=GradientDescent(0.1), stop=Stop(5))
        for kind in (Bowl, Faster)
    )
    assert set(calls) == set(range(6))
    np.testing.assert_allclose(fast.losses, slow.losses, rtol=1e-12)
