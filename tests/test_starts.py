"""The network estimators: scikit-learn's checks, what they predict, what they tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from descents import (
    EarlyStopping,
    Folds,
    HoldOut,
    MLPStartsClassifier,
    MLPStartsRegressor,
    train_module,
)
from descents.errors import InvalidValueError, RunFolderError

IRIS, SPECIES = load_iris(return_X_y=True)
SCALED = StandardScaler().fit_transform(IRIS)


# Several checks fit labels drawn at random, or ask for one class by its weight.
@pytest.mark.filterwarnings("ignore:no start of 1 is better than always predicting")
@parametrize_with_checks(
    [
        MLPStartsClassifier(max_epochs=100),
        MLPStartsRegressor(max_epochs=120, learning_rate=0.05),
    ]
)
def test_scikit_learn(estimator, check) -> None:
    check(estimator)


def test_predict_is_the_plain_network_of_the_best_start() -> None:
    model = MLPStartsClassifier((7, 5), n_starts=4, random_state=0, max_epochs=50)
    model.fit(SCALED, SPECIES)
    assert model.best_ == model.runs_.losses.argmin()
    p = {n: v[model.best_] for n, v in model.runs_.parameters.items()}
    hidden = SCALED
    for layer in (1, 2):
        hidden = np.maximum(hidden @ p[f"weight{layer}"] + p[f"bias{layer}"], 0)
    logits = hidden @ p["weight3"] + p["bias3"]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    expected = odds / odds.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(SCALED), expected, rtol=1e-10)
    loss = -np.log(expected[np.arange(150), SPECIES]).mean()
    assert model.loss_ == pytest.approx(loss, rel=1e-10)


def test_the_mean_of_the_starts_is_that_of_their_probabilities() -> None:
    model = MLPStartsClassifier(
        n_starts=5, combine="mean", random_state=0, max_epochs=30
    ).fit(SCALED, SPECIES)
    singles = []
    for position in range(5):
        model.combine, model.best_ = "best", position
        singles.append(model.predict_proba(SCALED))
    model.combine = "mean"
    np.testing.assert_allclose(
        model.predict_proba(SCALED), np.mean(singles, 0), rtol=1e-12
    )


@pytest.mark.filterwarnings("ignore:the starts are not clearly better than")  # 2 epochs
def test_the_best_start_is_best_on_average_over_the_splits() -> None:
    """The easiest split does not decide, and a start that failed on one is last."""
    model = MLPStartsClassifier(
        n_starts=4, validation=Folds(2), random_state=0, max_epochs=2
    ).fit(SCALED, SPECIES)
    held_out = np.array([[0.1, 0.9], [0.4, 0.3], [0.2, 0.0], [np.inf, 0.0]])
    losses = np.zeros((4, 2))
    losses[2, 1] = np.nan
    metrics = {**model.runs_.metrics, "validation_loss": held_out.ravel()}
    runs = replace(model.runs_, metrics=metrics, losses=losses.ravel())
    best = replace(model.fitted_, runs=runs).best
    assert best == 1 * 2 + 1  # the mean 0.35, and there the second split's 0.3


def test_classes_of_any_type_come_back() -> None:
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[SPECIES]
    model = MLPStartsClassifier(random_state=0).fit(SCALED, names)
    assert (model.predict(SCALED) == names).mean() > 0.95
    assert model.predict_proba(SCALED).shape == (150, 3)


def test_every_start_is_tried_on_every_split() -> None:
    model = MLPStartsClassifier(
        n_starts=6, validation=Folds(5), random_state=0, max_epochs=40
    ).fit(SCALED, SPECIES)
    table = model.table()
    assert len(table["start"]) == 30
    np.testing.assert_array_equal(table["start"], np.repeat(np.arange(6), 5))
    np.testing.assert_array_equal(table["split"], np.tile(np.arange(5), 6))
    first = model.problem_.points(range(30), 0)["weight1"]
    torch.testing.assert_close(first[0], first[4], rtol=0, atol=0)
    assert not torch.equal(first[0], first[5])
    values = model.values()
    expected = table["validation_accuracy"].to_numpy().reshape(6, 5).mean(1)
    np.testing.assert_allclose(values, expected, rtol=1e-15)
    parts = model.variance()
    assert set(parts) == {"starts", "splits", "residual"}
    assert parts["splits"] > 0
    found = model.interval()
    assert found.mean == pytest.approx(expected.mean())
    assert found.low < found.mean < found.high


def test_early_stopping_keeps_the_best_epoch_of_each_start() -> None:
    model = MLPStartsClassifier(
        (30,), n_starts=4, validation=0.4, early_stopping=5, learning_rate=0.1,
        max_epochs=200, random_state=0,
    ).fit(SCALED, SPECIES)  # fmt: skip
    table = model.table()
    assert (table["best_epoch"] + 5 <= 200).any()
    stopped = table["status"] == "stopped"
    assert stopped.any()
    np.testing.assert_array_equal(
        table["epochs"][stopped], table["best_epoch"][stopped] + 5
    )
    plain = MLPStartsClassifier(
        (30,), n_starts=4, validation=0.4, learning_rate=0.1,
        max_epochs=int(table["best_epoch"][0]), random_state=0,
    ).fit(SCALED, SPECIES)  # fmt: skip
    assert plain.table()["validation_loss"][0] == table["validation_loss"][0]


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam", "adamw", "lbfgs"])
def test_every_optimizer_learns_iris(optimizer) -> None:
    rate = {"gd": 0.5, "momentum": 0.1}.get(optimizer, 0.03)
    model = MLPStartsClassifier(
        n_starts=3, optimizer=optimizer, learning_rate=rate, weight_decay=1e-3,
        random_state=0, max_epochs=100,
    ).fit(SCALED, SPECIES)  # fmt: skip
    assert (model.values("training_accuracy") > 0.93).all()


def test_rates_of_each_start() -> None:
    model = MLPStartsClassifier(
        n_starts=2, learning_rate=[1e-9, 0.05], validation=Folds(2), random_state=0
    ).fit(SCALED, SPECIES)
    slow, fast = model.values("training_accuracy")
    assert slow < 0.8
    assert fast > 0.95
    with pytest.raises(InvalidValueError, match="3 rates for 2 starts"):
        MLPStartsClassifier(n_starts=2, learning_rate=[1, 2, 3]).fit(SCALED, SPECIES)


def test_class_weights_are_row_weights() -> None:
    weights = np.array([1.0, 4.0, 2.0])
    by_class = MLPStartsClassifier(
        class_weight=dict(enumerate(weights)), random_state=0, max_epochs=20
    ).fit(SCALED, SPECIES)
    by_row = MLPStartsClassifier(random_state=0, max_epochs=20).fit(
        SCALED, SPECIES, sample_weight=weights[SPECIES]
    )
    assert by_class.loss_ == by_row.loss_


def test_regression_has_the_shape_of_its_target() -> None:
    X = np.linspace(-2, 2, 60)[:, None]
    both = np.column_stack([np.sin(X[:, 0]), np.cos(X[:, 0])])
    model = MLPStartsRegressor(
        (20,),
        activation="tanh",
        n_starts=2,
        optimizer="lbfgs",
        random_state=0,
        max_epochs=100,
    ).fit(X, both)
    assert model.predict(X).shape == (60, 2)
    assert model.score(X, both) > 0.999
    one = MLPStartsRegressor(random_state=0, max_epochs=5).fit(X, both[:, 0])
    assert one.predict(X).shape == (60,)


@pytest.mark.parametrize("kind", [MLPStartsClassifier, MLPStartsRegressor])
def test_a_saved_model_predicts_and_tells_the_same(kind, tmp_path: Path) -> None:
    model = kind(
        (6,), n_starts=4, validation=HoldOut(0.3, 2), random_state=0, max_epochs=30,
        early_stopping=EarlyStopping(every=2, patience=3),
    ).fit(SCALED.astype(np.float32), SPECIES)  # fmt: skip
    model.save(tmp_path / "m.safetensors")
    again = kind.load(tmp_path / "m.safetensors")
    X = SCALED.astype(np.float32)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.values(), model.values())
    assert again.get_params() == model.get_params()
    # As text: with four starts some bounds are NaN.
    assert repr(again.interval()) == repr(model.interval())
    other = {MLPStartsClassifier: MLPStartsRegressor}.get(kind, MLPStartsClassifier)
    with pytest.raises(RunFolderError, match=f"{other.__name__}.save wrote"):
        other.load(tmp_path / "m.safetensors")


def test_all_problems_are_told_together() -> None:
    model = MLPStartsClassifier(
        (0,), activation="sine", initialization="x", optimizer="sgd", max_epochs=0,
        n_starts=0, weight_decay=-1, combine="sum", validation="half", early_stopping=3,
    )  # fmt: skip
    with pytest.raises(InvalidValueError) as caught:
        model.fit(SCALED, SPECIES)
    for word in (
        "hidden layer size", "activation", "initialization", "optimizer", "max_epochs",
        "n_starts", "weight_decay", "combine", "validation",
    ):  # fmt: skip
        assert word in str(caught.value)
    for options, words in (
        ({"early_stopping": 3}, "validation is None"),
        ({"optimizer": "lbfgs", "batch_size": 5}, "loss of all rows"),
        ({"validation": Folds(200)}, "150 rows"),
        ({"learning_rate": 1e30, "n_starts": 2, "optimizer": "gd"}, "1e\\+30"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            MLPStartsClassifier(random_state=0, **options).fit(SCALED, SPECIES)


def test_pipelines_and_searches() -> None:
    model = make_pipeline(
        StandardScaler(),
        MLPStartsClassifier(max_epochs=60, learning_rate=0.05, random_state=0),
    )
    assert cross_val_score(model, IRIS, SPECIES, cv=3).mean() > 0.9
    search = GridSearchCV(
        model, {"mlpstartsclassifier__activation": ["relu", "tanh"]}, cv=2
    ).fit(IRIS, SPECIES)
    assert search.best_score_ > 0.9


def test_the_global_generators_are_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    MLPStartsClassifier(n_starts=2, dropout=0.2, batch_size=20, max_epochs=2).fit(
        SCALED, SPECIES
    )
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_module_is_trained_as_the_network_is() -> None:
    def make() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
        )

    runs = train_module(
        make,
        SCALED,
        SPECIES,
        n_starts=5,
        validation=0.3,
        early_stopping=20,
        max_epochs=80,
        learning_rate=0.05,
    )
    assert (runs.metrics["validation_accuracy"] > 0.85).all()
    assert len({loss.round(9) for loss in runs.losses}) == 5


@pytest.mark.slow
def test_digits_are_learned_from_a_hundred_starts() -> None:
    X, y = load_digits(return_X_y=True)
    model = MLPStartsClassifier(
        (64,), n_starts=100, batch_size=128, max_epochs=30, validation=0.33,
        random_state=0,
    ).fit((X / 16).astype(np.float32), y)  # fmt: skip
    assert np.median(model.values("validation_accuracy")) >= 0.96
