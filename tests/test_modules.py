"""Modules of the user's against the built-in network and plain torch loops."""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from descents import (
    LBFGS,
    Adam,
    GradientDescent,
    Momentum,
    Network,
    Runs,
    Stop,
    descend,
)
from descents.errors import InvalidValueError
from descents.networks import bound_supervised
from descents.networks.modules import Modules
from descents.optim.problem import losses_and_gradients
from descents.optim.stopping import EarlyStopping
from descents.rng import stream

RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(21, 4))
CLASSES = np.arange(21) % 3
NUMBERS = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], 1)
SPLITS = [range(15), range(6, 21), range(3, 20, 2)]
LAYERS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid, "gelu": nn.GELU}


def perceptron(activation=nn.ReLU, outputs: int = 3):
    return lambda: nn.Sequential(
        nn.Linear(4, 6), activation(), nn.Linear(6, 5), activation(),
        nn.Linear(5, outputs),
    )  # fmt: skip


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def dropped() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 3))


def translated(parameters):
    """Return what a Network calls the parameters of `perceptron`."""
    found = {}
    for layer, place in enumerate((0, 2, 4), 1):
        found[f"weight{layer}"] = parameters[f"{place}.weight"].mT.contiguous()
        found[f"bias{layer}"] = parameters[f"{place}.bias"][:, None]
    return found


def same(first: Runs, second: Runs, place: int, other: int) -> None:
    """Assert that a start has the same bits in two runs."""
    assert first.starts[place] == second.starts[other]
    assert first.losses[place] == second.losses[other]
    for name, value in first.parameters.items():
        np.testing.assert_array_equal(value[place], second.parameters[name][other])
    for name, history in first.histories.items():
        np.testing.assert_array_equal(
            history[:, place], second.histories[name][:, other]
        )


@pytest.mark.parametrize("activation", LAYERS)
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("batched", [True, False])
def test_a_module_is_the_network_with_its_weights(activation, task, batched) -> None:
    classifies = task == "classification"
    y, outputs = (CLASSES, 3) if classifies else (NUMBERS, 2)
    options = {
        "task": task, "splits": SPLITS, "weight_decay": 0.02,
        "row_weights": np.arange(21) % 4 + 0.5,
    }  # fmt: skip
    modules = Modules(
        perceptron(LAYERS[activation], outputs), X, y, batched=batched, **options
    )
    network = Network(X, y, [6, 5], activation=activation, **options)
    points, starts = modules.points(range(6), 3), torch.arange(6)
    # Large weights, so that some units are dead or saturated.
    points = {name: 60 * value for name, value in points.items()}
    losses, gradients = losses_and_gradients(modules, points, starts, 0)
    expected, slopes = losses_and_gradients(network, translated(points), starts, 0)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
    for name, slope in translated(gradients).items():
        largest = float(slopes[name].abs().max())
        torch.testing.assert_close(
            slope, slopes[name], rtol=1e-12, atol=1e-12 * max(largest, 1)
        )
    measures = network.metrics(translated(points), starts)
    found = modules.metrics(points, starts)
    assert found.keys() == measures.keys()
    for name, values in measures.items():
        torch.testing.assert_close(found[name], values, rtol=1e-12, atol=1e-13)
    for units in ("dead_units", "saturated_units"):
        assert torch.equal(
            getattr(modules, units)(points, starts),
            getattr(network, units)(translated(points), starts),
        )
    if activation == "relu":
        assert measures["dead_units"].sum() > 0
    if activation in ("tanh", "logistic"):
        assert network.saturated_units(translated(points), starts).any()


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_descent_is_that_of_the_network(batch_size) -> None:
    modules = Modules(perceptron(), X, CLASSES, batch_size=batch_size, seed=4)
    points = translated(modules.points(range(3), 0))
    options = {"steps": Adam(0.02), "stop": Stop(30), "record": range(31)}
    found = descend(modules, 3, **options)
    drawn = iter(range(9))

    def given(generator, inputs, outputs):  # layer after layer, start after start
        k, layer = divmod(next(drawn), 3)
        return points[f"weight{layer + 1}"][k].numpy()

    class Network2(Network):
        def point(self, generator, start):
            point = dict(super().point(generator, start))
            return {n: points[n][start].numpy() for n in point}

    network = Network2(X, CLASSES, [6, 5], batch_size=batch_size, seed=4, weights=given)
    expected = descend(network, 3, **options)
    np.testing.assert_allclose(
        found.histories["loss"], expected.histories["loss"], rtol=1e-11
    )
    np.testing.assert_array_equal(
        found.histories["training_accuracy"], expected.histories["training_accuracy"]
    )


def test_the_points_are_those_of_torch_under_the_seed_of_a_start() -> None:
    found = Modules(perceptron(), X, CLASSES).points([3, 8], 5)
    for place, k in enumerate((3, 8)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(5, "start", k).integers(2**32)))
            module = perceptron()()
        for name, value in module.named_parameters():
            assert torch.equal(found[name][place], value.detach().double())


# What cannot be many starts at once


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.BatchNorm1d(6), "BatchNorm1d"),
        (nn.Dropout(0.1), "Dropout"),
        (nn.AlphaDropout(0.1), "AlphaDropout"),
        (nn.RReLU(), "RReLU"),
    ],
)
def test_layers_that_mix_or_draw_are_refused_by_name(layer, name) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), copy.deepcopy(layer), nn.Linear(6, 3))

    with pytest.raises(InvalidValueError, match=rf"has {name} layers.*batched=False"):
        Modules(make, X, CLASSES)
    assert Modules(make, X, CLASSES, batched=False).width == 1


def test_dropout_of_nothing_is_no_randomness() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.0), nn.Linear(6, 3))

    modules = Modules(make, X, CLASSES)
    assert not modules.stochastic
    descend(modules, 2, stop=Stop(2))


class Hidden(nn.Module):
    """Draws inside its own code, where no layer says so."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, rows):
        return self.last(functional.dropout(self.first(rows), 0.5, self.training))


def test_hidden_randomness_is_seen() -> None:
    with pytest.raises(InvalidValueError, match="many starts at once.*batched=False"):
        Modules(Hidden, X, CLASSES)
    modules = Modules(Hidden, X, CLASSES, batched=False)
    assert modules.stochastic
    before = torch.get_rng_state()
    options = {"steps": Adam(0.02), "stop": Stop(6), "record": [0, 3, 6]}
    many, alone = descend(modules, 3, **options), descend(modules, [2], **options)
    same(alone, many, 0, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_constants_that_differ_between_starts() -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("fixed", torch.randn(4, 8))
            self.last = nn.Linear(8, 3)

        def forward(self, rows):
            return self.last(torch.cos(rows @ self.fixed))

    options = {"steps": Adam(0.02), "stop": Stop(5)}
    with pytest.raises(InvalidValueError, match="fixed of the module is not learned"):
        descend(Modules(Features, X, CLASSES), 3, **options)
    runs = descend(Modules(Features, X, CLASSES, batched=False), 3, **options)
    # Each start keeps its own, and its loss is with it.
    for k in range(3):
        p = {name: torch.tensor(value[k]) for name, value in runs.parameters.items()}
        logits = torch.cos(torch.tensor(X) @ p["fixed"].double())
        logits = logits @ p["last.weight"].T + p["last.bias"]
        loss = functional.cross_entropy(logits, torch.tensor(CLASSES))
        np.testing.assert_allclose(runs.losses[k], float(loss), rtol=1e-12)
    assert not np.array_equal(runs.parameters["fixed"][0], runs.parameters["fixed"][1])


# Start by start


def loop(make, k, optimizer, options, steps, *, batches, seed=0, masks=False):
    """Train one start in plain torch; return the curve, accuracies and the module."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(0, "start", k).integers(2**32)))
        module = make().double()
    plain = optimizer(module.parameters(), **options)
    features, labels = torch.tensor(X), torch.tensor(CLASSES)
    curve, right = [], []
    for step in range(steps + 1):
        module.eval()
        with torch.no_grad():
            logits = module(features)
            right.append(float((logits.argmax(1) == labels).double().mean()))
            if batches.batch_size or masks:
                curve.append(float(functional.cross_entropy(logits, labels)))
        if step == steps:
            break
        rows = batches.at(torch.tensor([k]), step)[0][0]
        module.train()
        plain.zero_grad()
        with torch.random.fork_rng(devices=[]):
            drawn = stream(seed, "dropout", k, step).integers(2**32)
            torch.manual_seed(int(drawn))
            loss = functional.cross_entropy(module(features[rows]), labels[rows])
        if not (batches.batch_size or masks):
            curve.append(float(loss.detach()))
        loss.backward()
        plain.step()
    return np.array(curve), np.array(right), module


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("make", [normed, dropped])
def test_start_by_start_is_a_plain_torch_loop(make, batch_size) -> None:
    modules = Modules(make, X, CLASSES, batched=False, batch_size=batch_size, seed=6)
    runs = descend(
        modules, 3, steps=Momentum(0.1, 0.8), stop=Stop(25), record=range(26)
    )
    for k in range(3):
        curve, right, module = loop(
            make, k, torch.optim.SGD, {"lr": 0.1, "momentum": 0.8}, 25,
            batches=modules.batches, seed=6, masks=make is dropped,
        )  # fmt: skip
        np.testing.assert_allclose(
            runs.histories["loss"][: len(curve), k], curve, rtol=1e-9
        )
        np.testing.assert_array_equal(runs.histories["training_accuracy"][:, k], right)
        left = module.state_dict()
        assert set(left) == set(runs.parameters)
        for name, value in left.items():
            np.testing.assert_allclose(
                runs.parameters[name][k], value.numpy(), rtol=1e-9, atol=1e-11
            )


def test_running_means_do_not_move_when_the_end_is_looked_at() -> None:
    modules = Modules(normed, X, CLASSES, batched=False)
    runs = descend(modules, 2, steps=GradientDescent(0.1), stop=Stop(0))
    np.testing.assert_array_equal(runs.parameters["1.running_mean"], np.zeros((2, 6)))
    np.testing.assert_array_equal(runs.parameters["1.num_batches_tracked"], [0, 0])
    runs = descend(modules, 2, steps=GradientDescent(0.1), stop=Stop(4), record=[1])
    np.testing.assert_array_equal(runs.parameters["1.num_batches_tracked"], [4, 4])


def test_early_stopping_gives_the_running_means_of_the_best_step() -> None:
    modules = Modules(normed, X, CLASSES, batched=False, splits=[range(12)])
    rule = EarlyStopping(patience=5)
    steps = Momentum(0.2, 0.9)
    runs = descend(modules, 3, steps=steps, stop=Stop(60, early=rule))
    best = runs.metrics["best_step"]
    assert (best < 60).any()
    for k in range(3):
        alone = descend(modules, [k], steps=steps, stop=Stop(int(best[k])))
        same(alone, runs, 0, k)
        for name in ("validation_loss", "training_accuracy"):
            assert alone.metrics[name][0] == runs.metrics[name][k]


@pytest.mark.parametrize("make", [normed, dropped])
def test_start_by_start_is_the_same_in_any_company(make) -> None:
    modules = Modules(make, X, CLASSES, batched=False, batch_size=7, seed=1)
    options = {"steps": Adam(0.02), "stop": Stop(9), "record": [0, 5, 9]}
    many = descend(modules, 5, **options)
    for place, k in enumerate([4, 1]):
        same(descend(modules, [4, 1], **options), many, place, k)
    threads = descend(modules, 5, threads=2, **options)
    for k in range(5):
        same(threads, many, k, k)


@pytest.mark.parametrize(
    "modules",
    [
        Modules(perceptron(), X, CLASSES, batch_size=5),
        Network(X, CLASSES, [5], batch_size=5, dropout=0.2),
    ],
    ids=["module", "network"],
)
def test_threads_do_not_share_what_they_look_up(modules) -> None:
    options = {"steps": Adam(0.02), "stop": Stop(25), "record": [0, 12], "width": 2}
    one = descend(modules, 12, **options)
    for _ in range(3):
        four = descend(modules, 12, threads=4, **options)
        for k in range(12):
            same(one, four, k, k)


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_fills_up_a_shorter_split_is_not_seen(batch_size, weighted) -> None:
    short, longer = range(4, 16), range(2, 17)
    counts = np.arange(21) % 3 + bool(batch_size) if weighted else None
    options = {"batched": False, "batch_size": batch_size, "row_weights": counts}
    ragged = Modules(normed, X, CLASSES, splits=[longer, short], **options)
    if batch_size:  # 12 rows in 3 batches, as 15 of 5 have
        options["batch_size"] = 4
    even = Modules(normed, X, CLASSES, splits=[short, short], **options)
    together = {"steps": Momentum(0.1), "stop": Stop(9), "record": [0, 3, 9]}
    found = descend(ragged, [1], **together)
    expected = descend(even, [1], **together)
    for name, value in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], value, rtol=1e-10)
    np.testing.assert_allclose(
        found.histories["loss"], expected.histories["loss"], rtol=1e-10
    )
    if weighted and batch_size is None:  # a row of weight 0 is as if it were absent
        kept = [row for row in short if counts[row]]
        absent = Modules(normed, X, CLASSES, splits=[kept, kept], **options)
        without = descend(absent, [1], **together)
        np.testing.assert_allclose(
            found.histories["loss"], without.histories["loss"], rtol=1e-10
        )


def test_a_step_without_a_row_moves_no_running_mean() -> None:
    options = {"batched": False, "splits": [range(12)], "batch_size": 4}
    second = Modules(normed, X, CLASSES, **options).batches.at(torch.tensor([0]), 1)[0]
    weights = np.ones(21)
    weights[second[0]] = 0
    modules = Modules(normed, X, CLASSES, row_weights=weights, **options)
    runs = descend(modules, 1, steps=GradientDescent(0.1), stop=Stop(3))
    np.testing.assert_array_equal(runs.parameters["1.num_batches_tracked"], [2])


def test_a_batch_of_one_row_is_refused_where_rows_meet() -> None:
    with pytest.raises(
        InvalidValueError, match=r"cannot be trained on rows of shape \(1, 4\)"
    ):
        Modules(normed, X, CLASSES, batched=False, batch_size=5)  # 21 = 4 * 5 + 1
    with pytest.raises(InvalidValueError, match=r"rows of shape \(1, 4\)"):
        Modules(  # four rows in three batches
            normed, X, CLASSES, batched=False, splits=[range(12), range(4)],
            batch_size=4,
        )  # fmt: skip
    # 13 rows of 12 and 13 in 4 batches leave none alone.
    Modules(
        normed, X, CLASSES, batched=False, splits=[range(12), range(13)], batch_size=4
    )
    Modules(dropped, X, CLASSES, batched=False, batch_size=5)


def test_starts_that_would_share_running_means_are_refused() -> None:
    modules = Modules(normed, X, CLASSES, batched=False)
    with pytest.raises(InvalidValueError, match="leave the width at 1"):
        descend(modules, 4, stop=Stop(2), width=4)


def test_rows_that_meet_in_a_layer_are_never_cut_in_slices(monkeypatch) -> None:
    modules = Modules(normed, X, CLASSES, batched=False)
    options = {"steps": GradientDescent(0.1), "stop": Stop(5), "record": range(6)}
    whole = descend(modules, 1, **options)
    monkeypatch.setattr(bound_supervised, "LOOK_ENTRIES", 40)
    cut = descend(modules, 1, **options)
    np.testing.assert_array_equal(whole.histories["loss"], cut.histories["loss"])
    np.testing.assert_array_equal(
        whole.parameters["1.running_var"], cut.parameters["1.running_var"]
    )


def test_slices_of_a_large_table_are_the_whole(monkeypatch) -> None:
    modules = Modules(perceptron(), X, CLASSES, splits=SPLITS, weight_decay=0.1)
    points, starts = modules.points(range(4), 0), torch.arange(4)
    whole = losses_and_gradients(modules, points, starts, 0)
    monkeypatch.setattr(bound_supervised, "LOOK_ENTRIES", 4 * 6 * 4)
    cut = losses_and_gradients(modules, points, starts, 0)
    torch.testing.assert_close(cut[0], whole[0], rtol=1e-13, atol=0)
    for name, slope in whole[1].items():
        torch.testing.assert_close(cut[1][name], slope, rtol=1e-12, atol=1e-14)


def test_start_by_start_is_not_slow() -> None:
    modules = Modules(normed, X, CLASSES, batched=False, batch_size=7)
    begun = time.perf_counter()
    descend(modules, 1, stop=Stop(120))
    assert time.perf_counter() - begun < 3


# Global state


@pytest.mark.parametrize("batched", [True, False])
def test_no_global_state_is_changed(batched) -> None:
    torch.manual_seed(0)
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
    make = perceptron() if batched else normed
    modules = Modules(make, X, CLASSES, batched=batched, batch_size=6, splits=SPLITS)
    for steps in (Adam(), GradientDescent()):
        descend(
            modules, 3, steps=steps, stop=Stop(4, early=EarlyStopping()), record=[0, 2]
        )
    modules.dead_units(modules.points([0], 0), torch.tensor([0]))
    network = Network(X, CLASSES, dropout=0.3, batch_size=4)
    descend(network, 3, stop=Stop(3), record=[1])
    descend(Network(X, CLASSES), 3, steps=LBFGS(), stop=Stop(3))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_default_dtype(), torch.get_num_threads())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


def test_an_error_in_the_users_code_leaves_the_generator() -> None:
    def broken() -> nn.Module:
        torch.rand(3)
        raise RuntimeError("mine")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="mine"):
        Modules(broken, X, CLASSES)
    assert torch.equal(before, torch.get_rng_state())


# Wrong modules


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, rows):
        return self.linear(rows), rows


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(4, 2), r"returned \(2, 2\) for 2 rows.*shape \(2, 3\)"),
        (lambda: nn.Linear(5, 3), r"cannot take rows of shape \(2, 4\)"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Flatten(0)), r"returned \(6,\)"),
        (Two, "returned tuple for 2 rows"),
        (nn.Identity, "has no parameter that requires a gradient"),
        (lambda: nn.Linear(4, 3).requires_grad_(False), "has no parameter that"),
        (nn.Linear(4, 3), "make_module is a Linear; give a function"),
        ("net", "make_module is a str; give a function"),
        (lambda: "net", "make_module returned str; return a torch.nn.Module"),
    ],
)
@pytest.mark.parametrize("batched", [True, False])
def test_wrong_modules_are_refused(make, message, batched) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Modules(make, X, CLASSES, batched=batched)


def test_wrong_data_of_a_module_is_told_together() -> None:
    with pytest.raises(
        InvalidValueError, match="loss is 'max'.*batch_size is 0.*seed is -2"
    ):
        Modules(perceptron(), X, CLASSES, loss="max", batch_size=0, seed=-2)


def test_points_and_descents_leave_the_problem_as_it_was() -> None:
    """Running means belong to the starts of a chunk, not to the problem."""

    def normed() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))

    problem = Modules(normed, X, CLASSES, batched=False, batch_size=6)
    module = problem._module
    before = {n: v.clone() for n, v in module.state_dict().items()}
    first = descend(problem, 2, steps=Adam(0.01), stop=Stop(8))
    assert problem._module is module
    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())
    again = descend(problem, 2, steps=Adam(0.01), stop=Stop(8))
    for name, values in first.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], values)
    assert np.abs(first.parameters["1.running_mean"]).max() > 0


def test_bound_starts_of_one_problem_share_no_module() -> None:
    problem = Modules(lambda: nn.Linear(4, 3), X, CLASSES, batched=True)
    one, other = (problem.bind(torch.arange(2)) for _ in range(2))
    assert one.caller.module is not other.caller.module
    assert one.whole is one  # without mini-batches
