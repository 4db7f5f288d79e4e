"""Scores of classifiers against scikit-learn, and warnings where nothing was learned."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from descents import (
    Adam,
    EarlyStopping,
    Folds,
    MLPStartsClassifier,
    MLPStartsRegressor,
    Network,
    Stop,
    descend,
    sweep,
    train_module,
)
from descents.cli.main import main
from descents.diagnosis.diagnosis import diagnose
from descents.errors import InvalidValueError
from descents.networks import bound_supervised
from descents.networks.scores import SCORES, class_scores

RANDOM = np.random.default_rng(4)
X = RANDOM.normal(size=(50, 3))
RARE = np.where(np.arange(200) % 100 == 0, "yes", "no")
RARE_X = np.random.default_rng(0).normal(size=(200, 3))


def expected(y, logits, weights) -> dict[str, float]:
    """Return the scores that scikit-learn gives, with its defaults."""
    classes = logits.shape[1]
    shares = torch.tensor(logits).log_softmax(-1).exp().numpy()  # with the same ties
    said = logits.argmax(1)
    two = classes == 2
    return {
        "balanced_accuracy": metrics.balanced_accuracy_score(
            y, said, sample_weight=weights
        ),
        "f1": metrics.f1_score(
            y, said, sample_weight=weights, average="binary" if two else "macro"
        ),
        "roc_auc": metrics.roc_auc_score(
            y,
            shares[:, 1] if two else shares,
            sample_weight=weights,
            multi_class="ovr",
        ),
        "log_loss": metrics.log_loss(
            y, shares, sample_weight=weights, labels=range(classes)
        ),
    }


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_scikit_learns(classes, weighted) -> None:
    y = RANDOM.integers(0, classes, (3, 50))
    logits = np.round(RANDOM.normal(size=(3, 50, classes)), 1)  # with ties
    weights = RANDOM.random((3, 50)) + 0.1 if weighted else np.ones((3, 50))
    found = class_scores(*map(torch.tensor, (logits, y, weights)))
    assert tuple(found) == SCORES
    for k in range(3):
        for name, value in expected(y[k], logits[k], weights[k]).items():
            np.testing.assert_allclose(found[name][k], value, rtol=1e-12, err_msg=name)


def test_scores_with_weights_are_those_of_repeated_rows() -> None:
    counts = RANDOM.integers(0, 4, 50)
    y, logits = RANDOM.integers(0, 3, 50), RANDOM.normal(size=(50, 3))
    places = np.repeat(np.arange(50), counts)
    one = class_scores(
        torch.tensor(logits)[None], torch.tensor(y)[None], torch.tensor(counts)[None].double()
    )  # fmt: skip
    for name, value in expected(y[places], logits[places], None).items():
        np.testing.assert_allclose(one[name][0], value, rtol=1e-12)


def test_scores_where_a_class_does_not_occur() -> None:
    logits = torch.tensor(RANDOM.normal(size=(1, 10, 2)))
    y = torch.zeros(1, 10, dtype=torch.int64)
    found = class_scores(logits, y, torch.ones(1, 10).double())
    assert found["roc_auc"].isnan().all()
    right = (logits.argmax(-1) == 0).double().mean()
    np.testing.assert_allclose(found["balanced_accuracy"][0], right)
    assert found["f1"][0] == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_starts_have_the_scores_on_each_of_their_splits(classes, monkeypatch) -> None:
    monkeypatch.setattr(bound_supervised, "LOOK_ENTRIES", 200)  # in many slices
    y = RANDOM.integers(0, classes, 50)
    weights = RANDOM.random(50) + 0.1
    splits = [range(30), range(9, 48)]
    network = Network(X, y, [4], splits=splits, row_weights=weights)
    runs = descend(network, 4, steps=Adam(0.05), stop=Stop(20), record=[0, 10])
    for k in range(4):
        training = np.array(splits[k % 2])
        held_out = np.setdiff1d(np.arange(50), training)
        one = {n: torch.tensor(p[k : k + 1]) for n, p in runs.parameters.items()}
        for part, rows in (("training", training), ("validation", held_out)):
            logits = network.predict(one, torch.tensor(X[rows])[None])[0].numpy()
            for name, value in expected(y[rows], logits, weights[rows]).items():
                found = runs.metrics[f"{part}_{name}"][k]
                np.testing.assert_allclose(found, value, rtol=1e-10, err_msg=name)
    assert not any(name.endswith(SCORES) for name in runs.histories)
    np.testing.assert_allclose(
        runs.metrics["validation_log_loss"], runs.metrics["validation_loss"], rtol=1e-10
    )


def test_starts_are_compared_and_stopped_by_scores() -> None:
    y = (X[:, 0] + 0.5 * RANDOM.normal(size=50) > 0).astype(int)
    rule = EarlyStopping("validation_roc_auc", higher_is_better=True, patience=3)
    model = MLPStartsClassifier(
        4,
        n_starts=4,
        max_epochs=30,
        validation=0.3,
        early_stopping=rule,
        random_state=0,
    )
    study = sweep(
        model, {"learning_rate": [0.01, 0.1]}, X, y, metric="validation_roc_auc"
    )
    assert study.higher_is_better
    fitted = study.best_model
    found = fitted.interval("validation_roc_auc")
    assert found.mean == pytest.approx(fitted.table()["validation_roc_auc"].mean())
    assert fitted.table()["best_epoch"].max() < 30
    with pytest.raises(InvalidValueError, match="only at the end"):
        diagnose(
            fitted.problem_, fitted.runs_, steps=fitted.fitted_.rule, metric="training_roc_auc",
            threshold=2.0, multiples=[2],
        )  # fmt: skip


def test_a_warning_where_nothing_beats_the_majority() -> None:
    options = {"n_starts": 4, "max_epochs": 10, "random_state": 0}
    with pytest.warns(UserWarning, match=r"no start of 4.*'no'.*0\.9900.*class_weight"):
        MLPStartsClassifier(3, **options).fit(RARE_X, RARE)
    with pytest.warns(UserWarning, match="no start of 4 .*validation accuracy"):
        MLPStartsClassifier(3, validation=0.5, **options).fit(RARE_X, RARE)
    with pytest.warns(UserWarning, match="no start of 4"):
        sweep(MLPStartsClassifier(3, **options), {"dropout": [0.0, 0.1]}, RARE_X, RARE)
    with pytest.warns(UserWarning, match="no start of 4 .*class 0"):
        train_module(
            lambda: torch.nn.Linear(3, 2), RARE_X, (RARE == "yes").astype(int),
            n_starts=4, max_epochs=5, learning_rate=0.01, optimizer="gd",
        )  # fmt: skip
    noise = np.random.default_rng(1).normal(size=200)
    with pytest.warns(UserWarning, match="always predicting the mean.*validation r2"):
        MLPStartsRegressor(
            3, optimizer="gd", learning_rate=1e-6, validation=0.3, **options
        ).fit(RARE_X, noise + 100)


def test_no_warning_where_something_is_learned_or_classes_are_weighted() -> None:
    y = np.where(RARE_X[:, 0] > 1.5, "yes", "no")  # the suite makes warnings errors
    options = {"n_starts": 4, "max_epochs": 60, "random_state": 0}
    MLPStartsClassifier(6, learning_rate=0.05, **options).fit(RARE_X, y)
    weighted = MLPStartsClassifier(
        6, learning_rate=0.05, class_weight="balanced", **options
    ).fit(RARE_X, RARE)
    assert weighted.table()["training_balanced_accuracy"].max() > 0.6
    # Weights of rows move the majority.
    heavy = np.where(y == "yes", 50.0, 1.0)
    model = MLPStartsClassifier(6, learning_rate=0.05, **options)
    model.fit(RARE_X, y, sample_weight=heavy)
    assert model.problem_.majority() == 1
    # Nothing is better than to be right for all rows, as a constant is of one class.
    one_class = np.where(RARE == "yes", 0.0, 1.0)
    model.fit(RARE_X, RARE, sample_weight=one_class)
    assert model.problem_.constant_scores("training_accuracy") == [1.0]
    assert model.table()["training_accuracy"].max() == 1


def test_a_class_that_is_not_tested_is_warned_of() -> None:
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    y[7] = "lone"
    options = {
        "n_starts": 2,
        "max_epochs": 40,
        "learning_rate": 0.05,
        "random_state": 0,
    }
    with pytest.warns(
        UserWarning, match=r"1 class \(lone\) has rows only for training"
    ):
        MLPStartsClassifier(4, validation=0.3, **options).fit(X, y)
    MLPStartsClassifier(4, **options).fit(X, y)  # nothing is held out
    y[8] = "lone"
    MLPStartsClassifier(4, validation=Folds(2), **options).fit(X, y)
    weights = np.ones(50)
    weights[8] = 0
    with pytest.warns(UserWarning, match="lone"):
        MLPStartsClassifier(4, validation=Folds(2), **options).fit(X, y, weights)
    codes = np.unique(np.where(y == "lone", "c", y).astype(str), return_inverse=True)[1]
    codes[8] = 0
    with pytest.warns(UserWarning, match=r"1 class \(2\)"):
        train_module(
            lambda: torch.nn.Linear(3, 3), X, codes, n_starts=2, validation=0.3,
            max_epochs=40, learning_rate=0.05,
        )  # fmt: skip


def run(*arguments: str) -> int:
    return main(["train", *arguments, "--quiet"])


def test_the_command_warns_weights_and_ends_by_loss(tmp_path) -> None:
    table = tmp_path / "rare.csv"
    frame = pd.DataFrame(RARE_X, columns=["a", "b", "c"]).assign(answer=RARE)
    frame.to_csv(table, index=False)
    options = [str(table), "--target", "answer", "--starts", "4", "--epochs", "8"]
    options += ["--hidden", "3", "--diagnose", "0"]
    plain = run(*options, "--out", str(tmp_path / "plain"))
    assert plain == 0
    result = json.loads((tmp_path / "plain" / "result.json").read_text())
    assert any(
        "always predicting 'no'" in line and "--class-weight balanced" in line
        for line in result["warnings"]
    )
    assert "always predicting" in (tmp_path / "plain" / "report.html").read_text()
    starts = pd.read_parquet(tmp_path / "plain" / "starts.parquet")
    for name in SCORES:
        assert {f"training_{name}", f"validation_{name}"} <= set(starts)
    metric = ["--metric", "validation_balanced_accuracy"]
    weighted = run(
        *options, "--class-weight", "yes=99", "--out", str(tmp_path / "w"), *metric,
        "--tol", "10", "--n-iter-no-change", "2",
    )  # fmt: skip
    assert weighted == 0
    result = json.loads((tmp_path / "w" / "result.json").read_text())
    assert result["metric"] == metric[1]
    assert result["higher_is_better"]
    ended = pd.read_parquet(tmp_path / "w" / "starts.parquet")
    assert set(ended["status"]) == {"stalled"}
    assert set(ended["epochs"]) == {4}
    assert (ended["training_log_loss"] != starts["training_log_loss"]).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["maybe=2"], ["names 'maybe'", "no, yes"]),
        (["yes"], ["'yes'; give balanced, or LEVEL=WEIGHT"]),
        (["yes=-1"], ["at least 0"]),
        (["yes=1", "yes=2"], ["names 'yes' twice"]),
        (["balanced", "yes=2"], ["give balanced alone"]),
    ],
)
def test_wrong_class_weights_of_the_command(tmp_path, capsys, given, words) -> None:
    table = tmp_path / "rare.csv"
    pd.DataFrame(RARE_X, columns=["a", "b", "c"]).assign(answer=RARE).to_csv(
        table, index=False
    )
    weights = [part for one in given for part in ("--class-weight", one)]
    found = run(
        str(table), "--target", "answer", "--out", str(tmp_path / "o"), *weights
    )
    assert found == 2
    said = " ".join(capsys.readouterr().err.split())
    for word in words:
        assert word in said
