"""Weights of rows and of classes: in losses, gradients, metrics, thresholds and choices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    r2_score,
    roc_auc_score,
)
from sklearn.utils.class_weight import compute_class_weight

import descents
from conftest import slow
from descents import (
    Adam,
    EarlyStopping,
    GradientDescent,
    MLPStartsClassifier,
    MLPStartsRegressor,
    Network,
    Stop,
    descend,
    sweep,
)
from descents.cli.main import main
from descents.diagnosis.diagnosis import diagnose, reached_by_the_best
from descents.errors import InvalidValueError
from descents.networks.class_weights import weights_of_classes
from descents.networks.modules import Modules
from descents.networks.splits import HoldOut
from descents.optim.problem import losses_and_gradients
from descents.runs.compare import compare_runs

pytestmark = pytest.mark.filterwarnings("ignore:no start of")
"""What few epochs learn is not the subject here."""
RANDOM = np.random.default_rng(8)
X = RANDOM.normal(size=(24, 3))
CLASSES = (np.arange(24) * 7 % 24 > 9).astype(int) + (X[:, 1] > 0.6)
NUMBERS = np.stack([X[:, 0] + 0.2 * RANDOM.normal(size=24), X[:, 1] ** 2], 1)
WEIGHTS = RANDOM.integers(0, 5, 24) + np.where(np.arange(24) % 5 == 0, 0.0, 0.25)
UNEVEN = [np.arange(24), np.arange(3, 20), np.arange(0, 24, 2)]


def made(kind: str, task: str, **options):
    """Return a problem of a kind; a module has the layers of the network."""
    y = CLASSES if task == "classification" else NUMBERS
    if task == "regression":
        options.pop("class_weights", None)
    if kind == "network":
        return Network(X, y, [5], task=task, activation="tanh", **options)

    def module() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, y.max() + 1)
            if task == "classification"
            else torch.nn.Linear(5, 2),
        )  # fmt: skip

    return Modules(module, X, y, task=task, batched=kind == "batched", **options)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("kind", ["network", "batched", "apart"])
@pytest.mark.parametrize(
    ("batch_size", "splits"), [(1, None), (6, None), (8, [np.arange(8, 24)])]
)
def test_batches_of_an_epoch_have_the_weighted_gradient(
    task, kind, batch_size, splits
) -> None:
    options = {"row_weights": WEIGHTS, "splits": splits, "weight_decay": 0.1}
    options["class_weights"] = [1.0, 5.0, 0.5]
    batches = made(kind, task, batch_size=batch_size, **options)
    whole = made(kind, task, **options)
    count = 1 if kind == "apart" else 3
    starts = torch.arange(count)
    points = whole.points(range(count), 0)
    losses, gradients = losses_and_gradients(whole, points, starts, 0)
    rows = np.arange(24) if splits is None else splits[0]
    weights = WEIGHTS[rows]
    if task == "classification":
        weights = weights * np.array([1.0, 5.0, 0.5])[CLASSES[rows]]
    features = torch.tensor(X[rows]).expand(count, -1, -1)
    each = whole.view(starts)._each(
        whole.predict(points, features),
        torch.tensor(CLASSES[rows]).expand(count, -1)
        if task == "classification"
        else torch.tensor(NUMBERS[rows]),
    )
    decay = whole.view(starts)._decay(points)
    expected = (each.detach().numpy() * weights).sum(1) / weights.sum()
    np.testing.assert_allclose(losses, expected + decay.detach().numpy(), rtol=1e-12)
    steps = batches.batches.steps_in_epoch
    found = [losses_and_gradients(batches, points, starts, k) for k in range(steps)]
    mean = torch.stack([loss for loss, _ in found]).mean(0)
    np.testing.assert_allclose(mean, losses, rtol=1e-12)
    for name, gradient in gradients.items():
        mean = torch.stack([one[name] for _, one in found]).mean(0)
        np.testing.assert_allclose(mean, gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("loss", ["mean", "sum"])
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_compiled_recorded_and_plain_gradients_agree(task, batch_size, loss) -> None:
    network = made(
        "network", task, batch_size=batch_size, splits=UNEVEN, row_weights=WEIGHTS,
        class_weights=[1.0, 5.0, 0.5], loss=loss,
    )  # fmt: skip
    starts = torch.arange(6)
    points = network.points(range(6), 0)
    for step in range(7):
        leaves = {n: p.clone().requires_grad_() for n, p in points.items()}
        losses = network.losses(leaves, starts, step)
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        bound = network.bind(starts)
        inputs = bound.graph_inputs(step)
        captured = bound.with_inputs(inputs) if inputs else bound
        told = captured.losses(leaves, step)
        np.testing.assert_allclose(told.detach(), losses.detach(), rtol=1e-13)
        compiled = network.fused(points, starts, step)
        assert compiled is not None
        np.testing.assert_allclose(compiled[0], losses.detach(), rtol=1e-12)
        for name, gradient in zip(points, gradients, strict=True):
            np.testing.assert_allclose(
                compiled[1][name], gradient, rtol=1e-12, atol=1e-13
            )


def test_uneven_last_batches_have_the_expected_gradient() -> None:
    network = made(
        "network", "classification", batch_size=5, splits=UNEVEN, row_weights=WEIGHTS
    )
    starts = torch.arange(3)
    points = {
        n: p[:1].expand(3, *p.shape[1:]) for n, p in network.points([0], 0).items()
    }
    whole = network.whole.losses(points, starts, 0)
    steps = network.batches.steps_in_epoch
    found = torch.stack(
        [network.losses(points, starts, step) for step in range(400 * steps)]
    )
    error = found.std(0) / np.sqrt(len(found))
    assert ((found.mean(0) - whole).abs() < 4 * error).all()
    assert (error < 0.05 * whole).all()


@pytest.mark.parametrize("factor", [3.0, 1e-6])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_a_constant_times_the_weights_changes_nothing(factor, batch_size) -> None:
    options = {"batch_size": batch_size, "random_state": 0, "max_epochs": 5}
    first, second = (
        MLPStartsClassifier(4, n_starts=2, **options).fit(
            X, CLASSES, sample_weight=weights
        )
        for weights in (WEIGHTS, factor * WEIGHTS)
    )
    np.testing.assert_allclose(
        first.predict_starts(X), second.predict_starts(X), rtol=1e-9
    )


@pytest.mark.parametrize("batch_size", [1, slow(2), 8])
def test_small_batches_learn_what_weights_say(batch_size) -> None:
    features = np.random.default_rng(0).normal(size=(60, 2))
    y = (np.random.default_rng(1).random(60) < 0.2).astype(int)  # no signal
    options = {"learning_rate": 0.01, "max_epochs": 60, "batch_size": batch_size}
    plain, weighted = (
        MLPStartsClassifier(
            4, class_weight=weight, n_starts=4, random_state=0, **options
        ).fit(features, y)
        for weight in (None, {0: 1, 1: 20})
    )
    shares = [m.predict_starts(features)[..., 1].mean() for m in (plain, weighted)]
    assert shares[0] < 0.3
    assert shares[1] > 0.6


def test_balanced_classes_count_rows_by_their_weights() -> None:
    weights = RANDOM.integers(0, 4, 24)
    places = np.repeat(np.arange(24), weights)
    options = {"optimizer": "gd", "learning_rate": 0.2, "max_epochs": 40}
    options.update(class_weight="balanced", random_state=0)
    weighted = MLPStartsClassifier(4, **options).fit(X, CLASSES, sample_weight=weights)
    repeated = MLPStartsClassifier(4, **options).fit(X[places], CLASSES[places])
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-12
    )
    expected = compute_class_weight("balanced", classes=np.arange(3), y=CLASSES[places])
    np.testing.assert_allclose(
        weights_of_classes("balanced", weighted.classes_, CLASSES, weights), expected
    )
    # A class whose rows weigh nothing has no say.
    without = np.where(CLASSES == 2, 0.0, 1.0)
    found = weights_of_classes("balanced", weighted.classes_, CLASSES, without)
    kept = CLASSES < 2
    expected = compute_class_weight("balanced", classes=np.arange(2), y=CLASSES[kept])
    np.testing.assert_allclose(found[:2], expected)
    linear = LogisticRegression(class_weight="balanced").fit(X, CLASSES, weights)
    assert linear.n_features_in_ == weighted.n_features_in_


@pytest.mark.parametrize("splits", [None, [range(16), range(5, 24)]])
def test_metrics_are_scikit_learns_with_sample_weight(splits) -> None:
    for task, y in (("classification", CLASSES), ("regression", NUMBERS)):
        network = Network(X, y, [6], task=task, row_weights=WEIGHTS, splits=splits)
        runs = descend(network, 4, steps=Adam(0.05), stop=Stop(15))
        points = {n: torch.tensor(p) for n, p in runs.parameters.items()}
        for k in range(4):
            training = np.arange(24) if splits is None else np.array(splits[k % 2])
            held_out = np.setdiff1d(np.arange(24), training)
            for part, rows in (("training", training), ("validation", held_out)):
                if not len(rows):
                    continue
                one = {n: p[k : k + 1] for n, p in points.items()}
                said = network.predict(one, torch.tensor(X[rows])[None])[0]
                if task == "classification":
                    expected = accuracy_score(
                        y[rows], said.argmax(1), sample_weight=WEIGHTS[rows]
                    )
                    each = torch.nn.functional.cross_entropy(
                        said, torch.tensor(y[rows]), reduction="none"
                    )
                    name = f"{part}_accuracy"
                else:
                    expected = r2_score(
                        y[rows], said.numpy(), sample_weight=WEIGHTS[rows]
                    )
                    each = (said - torch.tensor(y[rows])).square().mean(1)
                    name = f"{part}_r2"
                np.testing.assert_allclose(runs.metrics[name][k], expected, rtol=1e-12)
                loss = np.average(each.numpy(), weights=WEIGHTS[rows])
                found = (
                    runs.losses
                    if part == "training"
                    else runs.metrics["validation_loss"]
                )
                np.testing.assert_allclose(found[k], loss, rtol=1e-12)


def test_thresholds_verdicts_and_choices_are_those_of_repeated_rows() -> None:
    counts = RANDOM.integers(0, 4, 24)
    places = np.repeat(np.arange(24), counts)
    split = np.arange(15)
    repeated_split = np.flatnonzero(places < 15)
    first = Network(X, CLASSES, [4], row_weights=counts, splits=[split])
    second = Network(
        X[places], CLASSES[places], [4], outputs=3, splits=[repeated_split]
    )
    assert first.baseline("training_accuracy") == pytest.approx(
        second.baseline("training_accuracy")
    )
    rule, stop = GradientDescent(0.3), Stop(60, early=EarlyStopping(patience=4))
    runs = [descend(network, 12, steps=rule, stop=stop) for network in (first, second)]
    for name in ("validation_loss", "training_accuracy", "best_step", "dead_units"):
        np.testing.assert_allclose(
            runs[0].metrics[name], runs[1].metrics[name], rtol=1e-9, err_msg=name
        )
    metric = "training_accuracy"
    assert reached_by_the_best(first, runs[0], metric) == pytest.approx(
        reached_by_the_best(second, runs[1], metric)
    )
    told = [
        diagnose(network, found, steps=rule, multiples=[4])
        for network, found in zip((first, second), runs, strict=True)
    ]
    assert told[0].verdicts == told[1].verdicts


def test_the_best_start_is_chosen_by_weighted_validation() -> None:
    weights = np.where(np.arange(24) % 2 == 0, 1.0, 30.0)
    options = {"n_starts": 8, "validation": 0.4, "max_epochs": 30, "random_state": 1}
    model = MLPStartsClassifier(5, **options).fit(X, CLASSES, sample_weight=weights)
    held_out = np.setdiff1d(np.arange(24), model.problem_.batches.splits[0])
    shares = model.predict_starts(X[held_out])
    each = -np.log(shares[:, np.arange(len(held_out)), CLASSES[held_out]])
    losses = np.average(each, 1, weights[held_out])
    np.testing.assert_allclose(model.table()["validation_loss"], losses, rtol=1e-10)
    assert model.best_ == np.argmin(losses)
    assert np.argmin(each.mean(1)) != model.best_  # else this shows nothing


def test_class_weights_are_in_losses_only() -> None:
    each = {0: 1.0, 1: 4.0, 2: 0.5}
    options = {"n_starts": 3, "validation": 0.4, "max_epochs": 20, "random_state": 1}
    by_class = MLPStartsClassifier(5, class_weight=each, **options).fit(X, CLASSES)
    by_row = MLPStartsClassifier(5, **options).fit(
        X, CLASSES, sample_weight=np.array([each[c] for c in CLASSES])
    )
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(by_class.table()[name], by_row.table()[name])
    np.testing.assert_allclose(by_class.predict_starts(X), by_row.predict_starts(X))
    rows = by_class.problem_.batches.splits[0]
    for k, shares in enumerate(by_class.predict_starts(X)):
        expected = accuracy_score(CLASSES[rows], shares[rows].argmax(1))
        assert by_class.table()["training_accuracy"][k] == pytest.approx(expected)


def test_sweeps_and_folds_have_weights_too() -> None:
    model = MLPStartsRegressor(4, n_starts=3, max_epochs=5, random_state=0)
    study = sweep(
        model, {"learning_rate": [0.01, 0.1]}, X, NUMBERS, sample_weight=WEIGHTS
    )
    for rate, other in zip((0.01, 0.1), study.models, strict=True):
        alone = MLPStartsRegressor(
            4, n_starts=3, max_epochs=5, random_state=0, learning_rate=rate
        ).fit(X, NUMBERS, sample_weight=WEIGHTS)
        np.testing.assert_allclose(alone.table()["loss"], other.table()["loss"])
        for k, numbers in enumerate(alone.predict_starts(X)):
            expected = r2_score(NUMBERS, numbers, sample_weight=WEIGHTS)
            assert alone.table()["training_r2"][k] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": [1.0]}, "for each of the 3 classes"),
        ({"class_weights": [1.0, -1.0, 1.0]}, "at least 0"),
        ({"class_weights": "heavy"}, "at least 0"),
        ({"class_weights": [0.0, 0.0, 0.0]}, "class_weights is 0 for every class"),
    ],
)
def test_wrong_class_weights_are_refused(options, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Network(X, CLASSES, [4], **options)


def test_class_weights_are_not_for_regression() -> None:
    with pytest.raises(InvalidValueError, match="for classification"):
        Network(X, NUMBERS, [4], task="regression", class_weights=[1.0, 2.0])


# Weights of rows on the command line


def weighted_csv(folder: Path, numbers: bool = False) -> tuple[Path, pd.DataFrame]:
    draw = np.random.default_rng(3)
    frame = pd.DataFrame(draw.normal(size=(90, 2)), columns=["a", "b"])
    signal = frame["a"] + 0.5 * draw.normal(size=90)
    frame["y"] = signal if numbers else np.where(signal > 0.3, "yes", "no")
    frame["times"] = draw.integers(0, 4, 90)
    path = folder / "t.csv"
    frame.to_csv(path, index=False)
    return path, frame


def trained_on(table: Path, out: Path, *options: str) -> int:
    return main(
        ["train", str(table), "--target", "y", "--starts", "3", "--epochs", "20",
         "--hidden", "6", "--diagnose", "0", "--quiet", "--out", str(out), *options]
    )  # fmt: skip


@pytest.mark.parametrize("numbers", [False, True])
def test_weights_of_a_table_are_in_every_score(numbers: bool, tmp_path: Path) -> None:
    """Against scikit-learn's scores with weights, on the rows that were held out."""
    table, frame = weighted_csv(tmp_path, numbers)
    out = tmp_path / "run"
    assert trained_on(table, out, "--weights", "times", "--early-stopping", "5") == 0
    result = json.loads((out / "result.json").read_text())
    assert result["features"] == ["a", "b"]
    assert "weighted by times" in (out / "report.html").read_text()
    model = descents.load(out)
    groups = np.zeros(90) if numbers else (frame["y"] == "yes").to_numpy().astype(int)
    training = HoldOut(0.33).splits(groups, 0)[0]
    held_out = np.setdiff1d(np.arange(90), training)
    rows = pd.read_parquet(out / "starts.parquet")
    predicted = model.predict_starts(frame.drop(columns="times"))
    for part, chosen in (("training", training), ("validation", held_out)):
        weights, y = frame["times"].to_numpy()[chosen], frame["y"].to_numpy()[chosen]
        for start in range(3):
            said = predicted[start][chosen]
            scores = {"r2": r2_score}
            values = said[:, 0]
            if not numbers:
                y, values = groups[chosen], said.argmax(1)
                scores = {
                    "accuracy": accuracy_score,
                    "balanced_accuracy": balanced_accuracy_score,
                    "f1": f1_score,
                }
                for name, score in (("roc_auc", roc_auc_score), ("log_loss", log_loss)):
                    found = score(y, said[:, 1], sample_weight=weights)
                    assert rows[f"{part}_{name}"][start] == pytest.approx(
                        found, abs=1e-6
                    )
            for name, score in scores.items():
                found = score(y, values, sample_weight=weights)
                assert rows[f"{part}_{name}"][start] == pytest.approx(found, abs=1e-5)
    new = tmp_path / "new.csv"
    frame[["a", "b"]].to_csv(new, index=False)
    applied = tmp_path / "applied"
    assert main(["apply", str(out), str(new), "--quiet", "--out", str(applied)]) == 0
    np.testing.assert_array_equal(
        pd.read_parquet(applied / "predictions.parquet")["y"], model.predict(frame)
    )


def test_a_weight_in_a_table_is_a_repetition(tmp_path: Path) -> None:
    table, frame = weighted_csv(tmp_path)
    options = ["--validation", "none", "--batch-size", "all", "--weights", "times"]
    assert trained_on(table, tmp_path / "run", *options) == 0
    stored = descents.load(tmp_path / "run")
    features = np.repeat(stored._encoded(frame), frame["times"], axis=0)
    alike = MLPStartsClassifier(**stored.model.get_params())
    alike.fit(features, np.repeat(frame["y"], frame["times"]))
    rows = pd.read_parquet(tmp_path / "run" / "starts.parquet")
    for name in ("loss", "training_accuracy", "training_log_loss", "training_roc_auc"):
        np.testing.assert_allclose(rows[name], alike.table()[name], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"times": -1.0}, ["--weights", "times"], ["--weights", "has -1 in row 3"]),
        ({"times": np.nan}, ["--weights", "times"], ["has a missing cell in row 3"]),
        ({}, ["--weights", "y"], ["--target and to --weights"]),
        (
            {},
            ["--weights", "times", "--ignore", "times"],
            ["--weights and to --ignore"],
        ),
        ({}, ["--weights", "word"], ["give a column of numbers"]),
        ({}, ["--weights", "zero"], ["is 0 in all rows"]),
        ({}, ["--weights", "nothing"], ["no column 'nothing'"]),
    ],
)
def test_wrong_weights_of_a_table_are_refused(
    change, options, words, tmp_path, capsys
) -> None:
    table, frame = weighted_csv(tmp_path)
    frame["word"], frame["zero"] = np.where(frame["a"] > 0, "u", "v"), 0
    frame["times"] = frame["times"].astype(float)
    for name, value in change.items():
        frame.loc[2, name] = value
    frame.to_csv(table, index=False)
    assert trained_on(table, tmp_path / "o", *options) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said


def test_runs_that_weigh_differently_are_said_to(tmp_path: Path) -> None:
    table, _ = weighted_csv(tmp_path)
    assert trained_on(table, tmp_path / "a") == 0
    assert trained_on(table, tmp_path / "b", "--weights", "times") == 0
    assert trained_on(table, tmp_path / "c", "--class-weight", "yes=3") == 0
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert any("weight rows differently" in line for line in found.warnings)
    found = compare_runs(tmp_path / "a", tmp_path / "c")
    assert found.warnings == []
    found = compare_runs(tmp_path / "a", tmp_path / "c", "validation_loss")
    assert any("--class-weight differ" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ("heavy", "class_weight is 'heavy'; give None, 'balanced', or a dict"),
        ([1, 2], r"class_weight is \[1, 2\]; give None"),
        ({1: -2.0}, "class_weight of 1 is -2.0"),
        (
            {1: 2.0, "x": 3.0},
            "class_weight names 'x', which y does not contain; its classes",
        ),
    ],
)
def test_a_class_weight_that_cannot_be_used_is_named(weight, words) -> None:
    model = MLPStartsClassifier(4, class_weight=weight, max_epochs=2, random_state=0)
    with pytest.raises(InvalidValueError, match=words):
        model.fit(X, CLASSES)


@pytest.mark.parametrize("labels", [["a", None], ["a", 1], ["a", b"a"]])
def test_labels_that_cannot_be_sorted_are_refused(labels) -> None:
    y = np.array((labels * 12)[:24], dtype=object)
    with pytest.raises(
        InvalidValueError, match="y contains labels that cannot be sorted"
    ):
        MLPStartsClassifier(4, max_epochs=2, random_state=0).fit(X, y)


@pytest.mark.parametrize(("unit", "told"), [(1e-6, True), (1.0, False), (1e6, True)])
def test_a_target_in_another_unit_is_named_where_nothing_is_learned(unit, told) -> None:
    y = np.random.default_rng(0).normal(size=24)
    model = MLPStartsRegressor(4, max_epochs=2, validation=0.3, random_state=0)
    with pytest.warns(UserWarning, match="no start of") as found:
        model.fit(X, y * unit)
    said = str(found[0].message)
    expected = f"y has mean {(y * unit).mean():.3g} and standard deviation"
    assert (expected in said) is told
    assert len(said) < 450
