"""Networks against plain torch loops, initialisations, weights of rows, large tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.metrics import r2_score
from torch.nn import functional

from descents import (
    LBFGS,
    Adam,
    GradientDescent,
    Momentum,
    Network,
    Stop,
    descend,
)
from descents.errors import InvalidValueError
from descents.networks import bound_supervised
from descents.networks.activations import ACTIVATIONS
from descents.networks.initialization import WEIGHTS
from descents.optim.first_order import AdamW
from descents.optim.problem import losses_and_gradients
from descents.rng import stream

RANDOM = np.random.default_rng(11)
X = RANDOM.normal(size=(23, 4))
CLASSES = np.arange(23) % 3
NUMBERS = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], 1)
COUNTS = RANDOM.integers(0, 4, 23)
SPLITS = [range(17), range(5, 23), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21]]
PLAIN = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "gelu": functional.gelu,
}
RULES = {
    "gd": (GradientDescent(0.1), torch.optim.SGD, {"lr": 0.1}),
    "momentum": (Momentum(0.05, 0.8), torch.optim.SGD, {"lr": 0.05, "momentum": 0.8}),
    "nesterov": (
        Momentum(0.05, 0.8, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.8, "nesterov": True},
    ),
    "adam": (Adam(0.02), torch.optim.Adam, {"lr": 0.02}),
    "adamw": (
        AdamW(0.02, weight_decay=0.3),
        torch.optim.AdamW,
        {"lr": 0.02, "weight_decay": 0.3},
    ),
}


class Plain:
    """One start of a network as a user would write it in torch."""

    def __init__(self, network: Network, k: int, weights: np.ndarray | None) -> None:
        self.network, self.start = network, torch.tensor([k])
        points = network.points([k], 0)
        self.linear = torch.nn.ModuleList()
        for layer, (inputs, outputs) in enumerate(pairwise(network.widths), 1):
            made = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
            with torch.no_grad():
                made.weight.copy_(points[f"weight{layer}"][0].T)
                made.bias.copy_(points[f"bias{layer}"][0, 0])
            self.linear.append(made)
        self.activation = PLAIN[network.activation.name]
        self.X = torch.tensor(X)
        y = CLASSES if network.classifies else NUMBERS
        self.y = torch.tensor(y)
        self.row_weights = torch.tensor(
            np.ones(len(X)) if weights is None else weights, dtype=torch.float64
        )

    def loss(self, rows: torch.Tensor, step: int | None) -> torch.Tensor:
        """Return the loss of some rows; a step says whose units are left out."""
        hidden = self.X[rows]
        masks = None
        if step is not None and self.network.dropout:
            masks = self.network.view(self.start).masks(step, len(rows))[0]
        for layer, linear in enumerate(self.linear):
            hidden = linear(hidden)
            if layer < len(self.linear) - 1:
                hidden = self.activation(hidden)
                if masks is not None:
                    wide = linear.out_features
                    hidden, masks = hidden * masks[:, :wide], masks[:, wide:]
        if self.network.classifies:
            each = functional.cross_entropy(hidden, self.y[rows], reduction="none")
        else:
            each = (hidden - self.y[rows]).square().mean(1)
        weights = self.row_weights[rows]
        total = (each * weights).sum()
        if self.network.loss == "sum":
            return total
        if step is None or self.network.batches.batch_size is None:
            return total / weights.sum()
        # In expectation over batches, the gradient is that of the weighted mean.
        return total / (len(rows) * self.row_weights.mean())

    def curve(self, optimizer, options: dict[str, float], steps: int) -> np.ndarray:
        """Return the whole loss before every step and after the last."""
        network = self.network
        decay = options.get("weight_decay", network.weight_decay)
        plain = optimizer(
            [
                {"params": [part.weight for part in self.linear]},
                {"params": [part.bias for part in self.linear], "weight_decay": 0.0},
            ],
            **{**options, "weight_decay": decay},
        )
        split = SPLITS[int(self.start) % 3] if len(network.batches.splits) > 1 else None
        all_rows = torch.tensor(list(range(len(X)) if split is None else split))
        found = []
        for step in range(steps + 1):
            squares = sum(
                float(part.weight.detach().square().sum()) for part in self.linear
            )
            with torch.no_grad():
                whole = float(self.loss(all_rows, None))
            found.append(whole + network.weight_decay / 2 * squares)
            rows, counted = network.batches.at(self.start, step)
            rows = rows[0] if counted is None else rows[0][counted[0] > 0]
            plain.zero_grad()
            self.loss(rows, step).backward()
            plain.step()
        return np.array(found)


def agree(network: Network, rule: str, weights: np.ndarray | None = None) -> None:
    """Assert that three starts have the curves of plain loops."""
    steps, optimizer, options = RULES[rule]
    runs = descend(network, 3, steps=steps, stop=Stop(30), record=range(31))
    for k in range(3):
        expected = Plain(network, k, weights).curve(optimizer, options, 30)
        np.testing.assert_allclose(
            runs.histories["loss"][:, k], expected, rtol=1e-10, err_msg=f"start {k}"
        )
        np.testing.assert_allclose(runs.losses[k], expected[-1], rtol=1e-10)


@pytest.mark.parametrize("batch_size", [None, 6])
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.sampled(10)
def test_every_rule_is_a_plain_torch_loop(rule, task, batch_size) -> None:
    y = CLASSES if task == "classification" else NUMBERS
    agree(Network(X, y, [5, 3], task=task, batch_size=batch_size), rule)


@pytest.mark.parametrize("activation", PLAIN)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.sampled(4)
def test_every_activation_with_and_without_dropout(activation, dropout) -> None:
    for batch_size in (None, 7):
        network = Network(
            X, CLASSES, [6, 4], activation=activation, dropout=dropout,
            batch_size=batch_size, biases="uniform01", seed=5,
        )  # fmt: skip
        agree(network, "adam")


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("loss", ["mean", "sum"])
@pytest.mark.sampled(2)
def test_weights_of_rows_decay_and_divisions(task, loss) -> None:
    y = CLASSES if task == "classification" else NUMBERS
    for options in ({}, {"batch_size": 5, "dropout": 0.2}):
        network = Network(
            X, y, [6], task=task, loss=loss, weight_decay=0.05, **options
        )  # fmt: skip
        agree(network, "adam")
        network = Network(
            X, y, [6], task=task, loss=loss, row_weights=COUNTS + 0.5, **options
        )
        agree(network, "adam", COUNTS + 0.5)
    agree(Network(X, y, [6], task=task, loss=loss, splits=SPLITS), "adam")
    agree(
        Network(X, y, [6], task=task, loss=loss, splits=SPLITS, row_weights=COUNTS),
        "adam",
        COUNTS,
    )


def test_momentum_has_decay_in_its_gradient() -> None:
    agree(Network(X, CLASSES, [5], weight_decay=0.1), "momentum")


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_weight_k_is_the_row_k_times(task) -> None:
    y = CLASSES if task == "classification" else NUMBERS
    places = np.repeat(np.arange(len(X)), COUNTS)
    for loss in ("mean", "sum"):
        options = {"task": task, "loss": loss, "weight_decay": 0.01}
        weighted = Network(X, y, [5], row_weights=COUNTS, **options)
        repeated = Network(
            X[places], y[places], [5], outputs=weighted.outputs, **options
        )
        together = {"steps": Adam(0.02), "stop": Stop(25), "record": range(26)}
        first, second = (
            descend(weighted, 4, **together),
            descend(repeated, 4, **together),
        )
        np.testing.assert_allclose(
            first.histories["loss"], second.histories["loss"], rtol=1e-11
        )


def test_lbfgs_finds_the_minimum_that_scipy_finds() -> None:
    network = Network(
        X, NUMBERS, [1], task="regression", activation="tanh", weight_decay=0.02,
        weights=lambda g, n, m: 0.3 * g.standard_normal((n, m)),
    )  # fmt: skip
    runs = descend(network, 6, steps=LBFGS(), stop=Stop(400))
    shapes = {n: p.shape[1:] for n, p in network.points([0], 0).items()}

    def of_one(flat: np.ndarray) -> tuple[float, np.ndarray]:
        leaves, first = {}, 0
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            leaves[name] = torch.tensor(flat[first : first + count].reshape(1, *shape))
            first += count
        loss, slopes = losses_and_gradients(network, leaves, torch.tensor([0]), 0)
        return float(loss), np.concatenate([s.numpy().ravel() for s in slopes.values()])

    minima = []
    for k in range(6):
        begin = np.concatenate(
            [p.numpy().ravel() for p in network.points([k], 0).values()]
        )
        found = optimize.minimize(
            of_one, begin, jac=True, method="BFGS",
            options={"gtol": 1e-9, "maxiter": 2000},
        )  # fmt: skip
        minima.append(found.fun)
    assert abs(runs.losses.min() - min(minima)) < 1e-8
    assert runs.gradient_norms.max() < 1e-6
    # Whatever basin a start falls in, it is one of the few that scipy falls in.
    for loss in runs.losses:
        assert np.abs(np.array(minima) - loss).min() < 1e-8


@pytest.mark.parametrize("activation", PLAIN)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_gradients_in_float32_are_near_those_in_float64(activation, task) -> None:
    y = CLASSES if task == "classification" else NUMBERS
    options = {"task": task, "activation": activation, "weight_decay": 0.01}
    single = Network(X.astype(np.float32), y, [6, 5], **options)
    double = Network(X.astype(np.float32).astype(np.float64), y, [6, 5], **options)
    assert single.dtype == torch.float32
    points, starts = single.points(range(4), 3), torch.arange(4)
    losses, gradients = losses_and_gradients(single, points, starts, 0)
    exact, slopes = losses_and_gradients(
        double, {n: p.double() for n, p in points.items()}, starts, 0
    )
    torch.testing.assert_close(losses.double(), exact, rtol=2e-6, atol=0)
    for name, slope in slopes.items():
        off = (gradients[name].double() - slope).flatten(1).norm(dim=1)
        assert float((off / slope.flatten(1).norm(dim=1)).max()) < 1e-5


# Initial points


@pytest.mark.parametrize(
    ("rule", "law"),
    [
        ("uniform01", stats.uniform(0, 1)),
        ("normal", stats.norm(0, 1)),
        ("kaiming", stats.norm(0, np.sqrt(2 / 4))),
        ("xavier", stats.uniform(-np.sqrt(6 / 24), 2 * np.sqrt(6 / 24))),
    ],
)
def test_initial_weights_have_their_law(rule, law) -> None:
    points = Network(X, CLASSES, [20], weights=rule).points(range(60), 8)
    drawn = points["weight1"].numpy().ravel()
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("biases", ["zero", "uniform01"])
@pytest.mark.parametrize("rule", WEIGHTS)
def test_many_points_are_those_of_each_start(rule, biases, scalar) -> None:
    network = Network(
        X, CLASSES, [6, 2], weights=rule, biases=biases, scalar_biases=scalar
    )
    together = network.points([5, 0, 2**33], 7)
    for place, start in enumerate([5, 0, 2**33]):
        alone = network.point(stream(7, "start", start), start)
        assert list(alone) == list(together)
        for name, value in alone.items():
            np.testing.assert_array_equal(together[name][place].numpy(), value)


def test_orthogonal_weights_are_orthonormal_and_uniform() -> None:
    points = Network(X[:, :3], CLASSES, [2, 5, 3], weights="orthogonal").points(
        range(900), 4
    )
    for name, (inputs, outputs) in (
        ("weight1", (3, 2)),
        ("weight2", (2, 5)),
        ("weight3", (5, 3)),
    ):
        drawn = points[name].numpy()
        assert drawn.shape[1:] == (inputs, outputs)
        short = drawn.mT @ drawn if inputs > outputs else drawn @ drawn.mT
        eye = np.eye(min(inputs, outputs))
        np.testing.assert_allclose(short, np.broadcast_to(eye, short.shape), atol=1e-14)
    # A coordinate of a uniform point on the sphere in three dimensions is uniform.
    for row in range(3):
        for column in range(2):
            entries = points["weight1"][:, row, column].numpy()
            assert stats.kstest(entries, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_zero_weights_and_uniform_biases() -> None:
    points = Network(X, CLASSES, [7], weights="zero", biases="uniform01").points(
        range(100), 0
    )
    assert float(points["weight1"].abs().max()) == 0
    assert stats.kstest(points["bias1"].numpy().ravel(), "uniform").pvalue > 1e-3


def test_weights_of_a_function_of_the_users() -> None:
    asked = []

    def half(generator, inputs, outputs):
        asked.append((inputs, outputs))
        return np.full((inputs, outputs), 0.5)

    points = Network(X, CLASSES, [6, 2], weights=half).points([0], 0)
    assert asked == [(4, 6), (6, 2), (2, 3)]
    assert all(float(points[f"weight{k}"].min()) == 0.5 for k in (1, 2, 3))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            lambda g, n, m: np.zeros((m, n)),
            r"shape \(6, 4\) for layer 1; return an array of shape \(4, 6\)",
        ),
        (lambda g, n, m: np.full((n, m), np.nan), "what weights returned has 24 NaN"),
        (lambda g, n, m: "x", "what weights returned must contain only real numbers"),
        (lambda g, n, m: np.zeros(n), r"what weights returned has shape \(4,\)"),
    ],
)
def test_wrong_weights_are_refused(weights, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        descend(Network(X, CLASSES, [6], weights=weights), 2, stop=Stop(1))


def test_crossed_starts_begin_alike_on_every_split() -> None:
    splits = [range(10), range(5, 20), range(13, 23)]
    crossed = Network(X, CLASSES, [4], splits=splits, crossed=True)
    plain = Network(X, CLASSES, [4], splits=splits)
    found, alone = crossed.points(range(12), 2), plain.points(range(4), 2)
    for k in range(12):
        assert torch.equal(found["weight1"][k], alone["weight1"][k // 3])
    assert crossed.batches.split_of(torch.arange(6)).tolist() == [0, 1, 2, 0, 1, 2]


# Units


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_units_are_off_or_flat_where_the_slope_says_so(name) -> None:
    activation = ACTIVATIONS[name]
    z = torch.linspace(-9, 9, 36001, dtype=torch.float64).requires_grad_()
    out = activation.function(z)
    slope = torch.autograd.grad(out.sum(), z)[0].abs()
    z, out = z.detach(), out.detach()
    nothing, flat = activation.off(z), activation.flat(z)
    if name in ("tanh", "logistic"):
        expected = slope < 0.01 * slope.max()
        apart = (flat != expected).sum()
        assert not nothing.any()
    else:
        # Only on the side where the output is nothing; the dip of GELU is no such.
        expected = (slope <= 0.01) & (out.abs() < 0.01) & (z <= 0)
        apart = (nothing != expected).sum()
        assert not flat.any()
    assert int(apart) <= 2  # of the grid's step, 0.0005, at each end


# Measures


@pytest.mark.parametrize("shift", [0.0, 1e8])
def test_r2_is_one_minus_the_share_of_squares_left(shift) -> None:
    y = NUMBERS + shift
    network = Network(X, y, [5], task="regression", splits=SPLITS)
    points = network.points(range(3), 0)
    points["bias2"] = points["bias2"] + shift
    found = network.metrics(points, torch.arange(3))
    for k, split in enumerate(SPLITS):
        features = torch.tensor(X)[None]
        with torch.no_grad():
            one = {n: p[k : k + 1] for n, p in points.items()}
            guess = network.predict(one, features)[0].numpy()
        for name, rows in (
            ("training", list(split)),
            ("validation", sorted({*range(23)} - {*split})),
        ):
            left = np.square(guess - y)[rows].sum(0)
            spread = np.square(y[rows] - y[rows].mean(0)).sum(0)
            # Of several outputs, the mean of the R^2 of each, as in scikit-learn.
            each = 1 - left / spread
            np.testing.assert_allclose(found[f"{name}_r2"][k], each.mean(), rtol=1e-7)
            np.testing.assert_allclose(
                each.mean(), r2_score(y[rows], guess[rows]), rtol=1e-7
            )
            if name == "validation":
                np.testing.assert_allclose(
                    found["validation_loss"][k], left.sum() / len(rows) / 2, rtol=1e-9
                )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 0.3, -1e6])
def test_r2_is_not_defined_where_the_target_has_no_spread(dtype, level) -> None:
    y = np.random.default_rng(3).normal(size=(23, 2))
    y[:8] = level
    y[3] = np.nextafter(level, np.inf) if level else level  # as 0.1 + 0.2 and 0.3
    splits = [range(8, 23), range(8), range(4, 20)]
    network = Network(X, y, [5], task="regression", splits=splits, dtype=dtype)
    found = network.metrics(network.points(range(3), 0), torch.arange(3))
    defined = {
        name: found[f"{name}_r2"].isfinite() for name in ("training", "validation")
    }
    assert defined["training"].tolist() == [True, False, True]
    assert defined["validation"].tolist() == [False, True, True]
    assert found["validation_loss"].isfinite().all()
    # One output without spread that is not predicted exactly has 0, as in scikit-learn.
    y[:8, 1] = np.arange(8.0)
    network = Network(X, y, [5], task="regression", splits=splits[:1], dtype=dtype)
    points = network.points([0], 0)
    found = network.metrics(points, torch.tensor([0]))
    with torch.no_grad():
        guess = network.predict(points, torch.tensor(X[:8], dtype=dtype)[None])[0]
    left = (guess[:, 1].numpy().astype(float) - np.arange(8.0)).var() + (
        guess[:, 1].numpy().mean() - 3.5
    ) ** 2
    expected = (0 + 1 - left / np.arange(8.0).var()) / 2
    assert float(found["validation_r2"][0]) == pytest.approx(expected, rel=1e-5)


def test_an_output_that_is_constant_counts_as_in_scikit_learn() -> None:
    y = np.stack([np.full(23, 2.0), X[:, 0]], 1)
    network = Network(X, y, [5], task="regression", weights="zero")
    points = network.points([0, 1], 0)
    points["bias2"][:, 0, 0] = torch.tensor([2.0, 1.0])
    found = network.metrics(points, torch.arange(2))["training_r2"]
    for k, level in enumerate((2.0, 1.0)):
        guess = np.stack([np.full(23, level), np.zeros(23)], 1)
        assert float(found[k]) == pytest.approx(r2_score(y, guess))


# Large tables


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("loss", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("divided", [False, True])
def test_slices_of_a_large_table_are_the_whole(
    monkeypatch, task, loss, weighted, divided
) -> None:
    options = {
        "task": task,
        "loss": loss,
        "row_weights": COUNTS + 0.25 if weighted else None,
        "splits": SPLITS if divided else None,
        "weight_decay": 0.01,
    }
    y = CLASSES if task == "classification" else NUMBERS
    network = Network(X, y, [6, 5], **options)
    points, starts = network.points(range(4), 0), torch.arange(4)
    whole = losses_and_gradients(network, points, starts, 0)
    measured = network.metrics(points, starts)
    dead = network.dead_units(points, starts)
    # Five rows of each start at once; the last slice is shorter.
    monkeypatch.setattr(bound_supervised, "LOOK_ENTRIES", 4 * 6 * 5)
    assert network.view(starts)._slice(4) == 5
    cut = losses_and_gradients(network, points, starts, 0)
    torch.testing.assert_close(cut[0], whole[0], rtol=1e-13, atol=0)
    for name, slope in whole[1].items():
        torch.testing.assert_close(cut[1][name], slope, rtol=1e-12, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(
            network.losses(points, starts, 0), whole[0], rtol=1e-13, atol=0
        )
    for name, values in network.metrics(points, starts).items():
        torch.testing.assert_close(
            values.double(), measured[name].double(), rtol=1e-12, atol=1e-13
        )
    assert torch.equal(network.dead_units(points, starts), dead)


def test_finished_chunks_keep_no_rows_in_memory() -> None:
    import gc
    import weakref

    gathered: list[weakref.ref] = []

    class Seen(Network):
        def _rows(self, rows, dtype):
            found = super()._rows(rows, dtype)
            gathered.append(weakref.ref(found[0]))
            return found

    alive = []

    def watch(starts, step, losses):
        gc.collect()
        alive.append(sum(tensor() is not None for tensor in gathered))

    descend(Seen(X, CLASSES, [4]), 12, stop=Stop(3), width=2, watch=watch)
    assert len(alive) == 6
    assert max(alive) == alive[0]


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ({"X": [[1.0, np.nan]] * 3, "y": [0, 1, 2]}, ["X has 3 NaN"]),
        ({"y": [0, 1]}, [r"y has shape \(2,\)"]),
        ({"y": CLASSES + 0.5}, ["y has float64 values; give class numbers"]),
        ({"y": np.zeros(23, int)}, ["y has only one class"]),
        (
            {"hidden": [], "loss": "max", "splits": [[0, 0]], "seed": -1},
            ["hidden is empty", "loss is 'max'", "names a row twice", "seed is -1"],
        ),
        ({"hidden": None}, ["a hidden width is None"]),
        ({"hidden": 2.5}, ["a hidden width is 2.5"]),
        ({"hidden": "12"}, ["a hidden width is '1'"]),
        ({"activation": "selu"}, ["activation is 'selu'"]),
        ({"weights": "he"}, ["weights is 'he'"]),
        ({"biases": "one"}, ["biases is 'one'"]),
        ({"dropout": 1.0}, ["dropout is 1.0; give a probability"]),
        ({"dropout": "x"}, ["dropout is 'x'"]),
        (
            {"batch_size": 0, "weight_decay": -1, "outputs": "3"},
            ["weight_decay is -1", "batch_size is 0", "outputs is '3'"],
        ),
        ({"outputs": 2}, ["outputs is 2, but y has 3"]),
        ({"task": "regression", "y": NUMBERS, "outputs": 3}, ["but y has 2"]),
        ({"task": "ranking"}, ["task is 'ranking'; give one of"]),
        ({"task": "regression", "y": ["a"] * 23}, ["y must contain only real numbers"]),
        ({"task": "regression", "y": [[1], [2, 3]]}, ["y is not a table of numbers"]),
        ({"task": "regression", "y": np.full(23, np.nan)}, ["y has 23 NaN"]),
        ({"task": "regression", "y": [1.0]}, [r"y has shape \(1,\)"]),
        ({"row_weights": [1.0]}, [r"row_weights has shape \(1,\)"]),
        ({"row_weights": ["a"] * 23}, ["row_weights has values that are not numbers"]),
        ({"row_weights": [-1.0] * 23}, ["finite number of at least 0"]),
        ({"row_weights": [0] * 23}, ["row_weights is 0 for every row"]),
        (
            {"row_weights": [0, 0] + [1] * 21, "splits": [[0, 1], [2, 3]]},
            ["row_weights is 0 on all training rows of a split"],
        ),
        ({"splits": 3}, ["splits are not lists of whole numbers"]),
        ({"splits": [[0, [1]]]}, ["splits are not lists of whole numbers"]),
        ({"splits": []}, ["splits are not lists of whole numbers"]),
        ({"splits": [[]]}, ["splits are not lists of whole numbers"]),
        ({"splits": [[0.0, 1.0]]}, ["splits are not lists of whole numbers"]),
        ({"splits": [[23]]}, ["outside 0 to 22"]),
        ({"dtype": torch.float16}, ["dtype is torch.float16"]),
        ({"dtype": "float32"}, ["dtype is float32"]),
        ({"device": "abacus"}, ["device is 'abacus'"]),
    ],
)
def test_all_that_is_wrong_is_told_together(arguments, messages) -> None:
    given = {"X": X, "y": CLASSES, **arguments}
    with pytest.raises(InvalidValueError) as told:
        Network(given.pop("X"), given.pop("y"), **given)
    for message in messages:
        assert told.match(message)


def test_what_may_be_given_in_other_forms() -> None:
    plain = Network(X, CLASSES, [5])
    for other in (
        Network(torch.tensor(X), torch.tensor(CLASSES), np.int64(5)),
        Network(X.tolist(), CLASSES.tolist(), (5,)),
    ):
        points = plain.points(range(2), 0)
        starts = torch.arange(2)
        torch.testing.assert_close(
            other.losses(points, starts, 0), plain.losses(points, starts, 0)
        )
    leaf = torch.tensor(NUMBERS, requires_grad=True)
    assert Network(X, leaf, 3, task="regression").outputs == 2
    assert Network(X, CLASSES, outputs=5).outputs == 5
