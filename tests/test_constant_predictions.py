"""Networks are compared with the best constant prediction, which one lucky start beats."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.dummy import DummyClassifier, DummyRegressor

from descents import MLPStartsClassifier, MLPStartsRegressor, sweep
from descents.cli.main import main
from descents.networks import Folds, HoldOut
from descents.networks.constants import best_unbeaten, unbeaten

ROWS = 200
OPTIONS = {"n_starts": 30, "max_epochs": 40, "random_state": 0}
LEARNED_NOTHING = pytest.mark.filterwarnings(
    "ignore:(the starts? (is|are) not clearly|no start of|start .* which predict uses)"
    ":UserWarning"
)


def table(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features, and labels that have nothing to do with them."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(ROWS, 4)), generator.integers(0, 2, ROWS)


@LEARNED_NOTHING
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_the_constant_are_those_of_scikit_learns_dummies(classes) -> None:
    X, _ = table(0)
    generator = np.random.default_rng(1)
    y = generator.choice(
        classes, ROWS, p=[0.5, 0.3, 0.2] if classes > 2 else [0.4, 0.6]
    )
    weights = generator.integers(1, 4, ROWS).astype(float)
    model = MLPStartsClassifier(
        3, n_starts=1, max_epochs=1, validation=Folds(3), random_state=0
    ).fit(X, y, weights)
    problem = model.problem_
    every = np.arange(ROWS)
    for split, training in enumerate(problem.batches.splits):
        rows = np.setdiff1d(every, training)
        most, prior = (
            DummyClassifier(strategy=kind).fit(
                X[training], y[training], weights[training]
            )
            for kind in ("most_frequent", "prior")
        )
        given = {"sample_weight": weights[rows]}
        said, shares = most.predict(X[rows]), prior.predict_proba(X[rows])
        average = "binary" if classes == 2 else "macro"
        expected = {
            "accuracy": metrics.accuracy_score(y[rows], said, **given),
            "balanced_accuracy": metrics.balanced_accuracy_score(
                y[rows], said, **given
            ),
            "f1": metrics.f1_score(
                y[rows], said, average=average, zero_division=0, **given
            ),
            "roc_auc": 0.5,
            "log_loss": metrics.log_loss(y[rows], shares, **given),
            "loss": metrics.log_loss(y[rows], shares, **given),
        }
        for name, value in expected.items():
            found = problem.constant_scores(f"validation_{name}")[split]
            assert found == pytest.approx(value, rel=1e-12), name
    assert np.isnan(problem.constant_scores("gradient_norm")).all()


@LEARNED_NOTHING
def test_the_loss_of_the_mean_is_that_of_scikit_learns_dummy() -> None:
    X, y = table(2)
    model = MLPStartsRegressor(
        3, n_starts=1, max_epochs=1, validation=HoldOut(0.3), random_state=0
    ).fit(X, y)
    (training,) = model.problem_.batches.splits
    rows = np.setdiff1d(np.arange(ROWS), training)
    mean = DummyRegressor().fit(X[training], y[training]).predict(X[rows])
    expected = metrics.mean_squared_error(y[rows], mean)
    found = model.problem_.constant_scores("validation_loss")
    assert found == pytest.approx([expected], rel=1e-12)
    assert model.problem_.constant_scores("validation_r2") == [0]


@LEARNED_NOTHING
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [MLPStartsClassifier, MLPStartsRegressor])
def test_labels_without_meaning_are_warned_of_and_others_not(seed, kind) -> None:
    X, y = table(seed)
    model = kind(12, validation=0.33, **OPTIONS)
    with pytest.warns(UserWarning, match="than always predicting|than a constant"):
        model.fit(X, y)
    warnings.simplefilter("error")
    learned = X[:, 0] + np.random.default_rng(seed).normal(size=ROWS)
    kind(12, validation=0.33, **OPTIONS).fit(
        X, learned > 0 if kind is MLPStartsClassifier else learned
    )


@LEARNED_NOTHING
def test_a_lucky_start_does_not_silence_the_warning() -> None:
    X, y = table(0)
    model = MLPStartsClassifier(12, validation=0.33, **OPTIONS)
    with pytest.warns(UserWarning, match="chance alone makes some on 66 held-out rows"):
        model.fit(X, y)
    record = model.unbeaten()
    scores = model.table()["validation_accuracy"]
    assert record is not None
    assert record.best == scores.max() > record.constant
    assert record.better == (scores > record.constant).sum() > 0
    assert record.median == pytest.approx(np.median(scores))
    with pytest.warns(UserWarning, match="not clearly better than a constant"):
        sweep(model, {"learning_rate": [0.01, 0.02]}, X, y)


@LEARNED_NOTHING
def test_few_starts_that_learn_are_enough_if_chance_does_not_explain_them() -> None:
    X, y = table(0)
    model = MLPStartsClassifier(12, validation=0.33, **OPTIONS).fit(X, y)
    runs = model.runs_
    scores = np.full(30, 0.5)
    runs.metrics["validation_accuracy"] = scores
    constant = model.problem_.constant_scores("validation_accuracy")[0]
    error = np.sqrt((1 - constant) / 66)
    limit = constant + error * (1 + np.sqrt(2 * np.log(30)))
    scores[3] = limit - 0.01
    assert unbeaten(model.problem_, runs, "accuracy").better == 1
    scores[3] = limit + 0.01
    assert unbeaten(model.problem_, runs, "accuracy") is None
    scores[:] = constant + error - 0.01  # the median decides
    assert unbeaten(model.problem_, runs, "accuracy").better == 30
    scores[:16] = constant + error + 0.01
    assert unbeaten(model.problem_, runs, "accuracy") is None
    # The start that predicts is judged by itself.
    scores[5] = constant
    assert best_unbeaten(model.problem_, runs, 5, "accuracy").constant == constant
    assert best_unbeaten(model.problem_, runs, 6, "accuracy") is None


def test_the_command_shows_the_constant_everywhere(tmp_path: Path, capsys) -> None:
    X, y = table(0)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(
        answer=np.array(["no", "yes"])[y]
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "run"
    options = ["--starts", "30", "--epochs", "15", "--hidden", "12", "--diagnose", "0"]
    table_of = ["train", str(tmp_path / "t.csv"), "--target", "answer"]
    assert main([*table_of, *options, "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    result = json.loads((out / "result.json").read_text())
    constant = result["constant"]
    assert constant == result["best"]["constant"]
    share = (y == np.bincount(y).argmax()).mean()
    assert constant == pytest.approx(share, abs=1 / 66)  # the split is stratified
    page = (out / "report.html").read_text()
    for text in (printed, page):
        assert f"{constant:.4f}" in text
        assert "always predicting the most frequent class" in text
        assert "chance alone makes some" in text or "no start of 30" in text
    assert any("constant" in line for line in result["warnings"])
    metric = ["--metric", "gradient_norm", "--out", str(tmp_path / "norm"), "--quiet"]
    assert main([*table_of, *options, *metric]) == 0
    result = json.loads((tmp_path / "norm" / "result.json").read_text())
    assert result["constant"] is None


@pytest.mark.parametrize("value", [7.0, 0.0])
def test_a_target_of_one_number_is_warned_of(value: float) -> None:
    X, _ = table(0)
    model = MLPStartsRegressor(4, n_starts=3, max_epochs=3, random_state=0)
    said = f"y is {value:g} in all rows.*no start of 3 is better"
    with (
        pytest.warns(UserWarning, match="does not vary"),
        pytest.warns(UserWarning, match=said),
    ):
        model.fit(X, np.full(ROWS, value))


def test_a_target_whose_squares_vanish_is_said_to_be_small() -> None:
    X, _ = table(0)
    model = MLPStartsRegressor(4, n_starts=1, max_epochs=2, random_state=0)
    with pytest.warns(UserWarning, match="vanish; scale it"):
        model.fit(X, 1e-170 * X[:, 0])


@LEARNED_NOTHING
def test_a_class_without_weight_is_warned_of_with_this_reason() -> None:
    X, _ = table(0)
    y = np.arange(ROWS) % 3
    model = MLPStartsClassifier(
        4, n_starts=1, max_epochs=2, validation=HoldOut(), random_state=0
    )
    with pytest.warns(UserWarning, match="weight 0 in all rows") as warned:
        model.fit(X, y, np.where(y == 2, 0.0, 1.0))
    texts = [str(one.message) for one in warned]
    assert any("1 class (2) has weight 0 in all rows" in text for text in texts)
    assert not any("as classes of one row do" in text for text in texts)


@LEARNED_NOTHING
@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e160, 1e307])
@pytest.mark.parametrize("kind", [MLPStartsClassifier, MLPStartsRegressor])
def test_a_constant_times_extreme_weights_changes_no_score(kind, size: float) -> None:
    X, y = table(0)
    y = y if kind is MLPStartsClassifier else X[:, 0]
    options = {"n_starts": 2, "max_epochs": 20, "validation": HoldOut()}
    weights = 1.0 + np.arange(ROWS) % 3
    plain, extreme = (
        kind(4, random_state=0, **options).fit(X, y, given)
        for given in (weights, size * weights)
    )
    for name, values in plain.table().items():
        if name not in ("seconds", "status"):
            np.testing.assert_allclose(
                extreme.table()[name], values, rtol=1e-6, err_msg=name
            )


def test_weighted_classes_are_judged_by_balanced_accuracy(tmp_path) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 3))
    rare = X[:, 0] + generator.normal(0, 0.8, 300) > 1.9
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame.assign(y=np.where(rare, "rare", "common")).to_csv(
        tmp_path / "rare.csv", index=False
    )

    def said(name: str, *options: str) -> str:
        out = str(tmp_path / name)
        given = ["train", str(tmp_path / "rare.csv"), "--target", "y", "--out", out]
        given += ["--starts", "6", "--epochs", "30", "--hidden", "4"]
        given += ["--class-weight", "balanced", "--diagnose", "0", "--quiet"]
        assert main([*given, *options]) == 0
        found = json.loads((tmp_path / name / "result.json").read_text())
        assert found["settings"][0]["metric"]["maximum"] < found["constant"]
        return "\n".join(found["warnings"])

    # All starts are less accurate than a constant, but tell the classes apart.
    assert "constant" not in said("default")
    plain = said("plain", "--metric", "validation_accuracy")
    assert "no start of 6 is better" in plain
    assert "for rare classes, try --metric validation_balanced_accuracy" in plain
    assert "--class-weight" not in plain


def test_weighted_classes_decide_the_verdicts_by_balanced_accuracy() -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 3))
    rare = X[:, 0] + generator.normal(0, 0.8, 300) > 1.9
    model = MLPStartsClassifier(
        4, n_starts=6, max_epochs=30, class_weight="balanced", random_state=0
    ).fit(X, rare)
    runs, problem = model.runs_, model.problem_
    name = "training_balanced_accuracy"
    assert problem.deciding_metric == name
    assert runs.metrics["training_accuracy"].max() < problem.baseline(
        "training_accuracy"
    )
    found = model.fitted_.diagnose(multiples=[10])
    best = runs.metrics[name].max()
    assert found.threshold == pytest.approx(0.5 + 0.8 * (best - 0.5))
    np.testing.assert_array_equal(found.metric[0], runs.metrics[name])
    short = runs.metrics[name] < found.threshold
    assert not short.all()
    np.testing.assert_array_equal(found.reached, ~short)
    # A start that did not learn is trained for longer and judged by the same score.
    values = np.where(np.arange(6) == 2, 0.5, runs.metrics[name])
    fallen = replace(
        model.fitted_, runs=replace(runs, metrics={**runs.metrics, name: values})
    ).diagnose(multiples=[10])
    assert not fallen.reached[2]
    assert fallen.recovered[2]
    assert fallen.metric[1, 2] > 0.7
    codes = model.fitted_.outputs(X, np.arange(6)).argmax(-1)
    for start, said in enumerate(codes):  # as scikit-learn defines it
        expected = metrics.balanced_accuracy_score(rare, said)
        assert runs.metrics[name][start] == pytest.approx(expected)
