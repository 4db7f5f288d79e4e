"""Settings compared over shared starts: what each learns, and what is told of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from descents import (
    Folds,
    HoldOut,
    MLPStartsClassifier,
    MLPStartsRegressor,
    SweepResult,
    sweep,
)
from descents.errors import InvalidValueError
from descents.networks import fitting, labeled_rows
from descents.networks.estimator_base import settings_of
from descents.networks.fitting import Job, batched, fit_all
from descents.networks.setting_names import named

pytestmark = pytest.mark.filterwarnings("ignore:no start of")
"""What few epochs learn is not the subject here."""
X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)


def classifier(**settings) -> MLPStartsClassifier:
    given = {"hidden_layer_sizes": (5,), "max_epochs": 12, "n_starts": 6}
    given |= {"random_state": 3, "batch_size": 20, "validation": HoldOut(0.3, 2)}
    return MLPStartsClassifier(**{**given, **settings})


@pytest.mark.parametrize(
    ("base", "grid"),
    [
        ({}, {"initialization": ["kaiming", "normal", "zero"]}),
        ({"optimizer": "momentum"}, {"learning_rate": [0.1, 0.01], "weight_decay": [0, 0.1]}),
        ({"activation": "tanh"}, {"dropout": [0.1, 0.5], "initialization": ["xavier", "uniform01"]}),
        ({"early_stopping": 2}, {"learning_rate": [0.5, [0.1] * 6]}),
        ({"batch_size": None, "optimizer": "lbfgs", "validation": None},
         {"initialization": ["kaiming", "orthogonal"], "weight_decay": [0.01, 0.1]}),
        ({"optimizer": "adamw", "weight_decay": 0.3}, {"learning_rate": [0.1, 0.01]}),
    ],
)  # fmt: skip
@pytest.mark.sampled(3)
def test_a_setting_learns_in_a_shared_batch_what_it_learns_alone(base, grid) -> None:
    study = sweep(classifier(**base), grid, X, Y)
    assert len(batched([settings_of(model) for model in study.models])) == 1
    assert len(study.models) == int(np.prod([len(v) for v in grid.values()]))
    for setting, model in zip(study.settings, study.models, strict=True):
        alone = classifier(**base).set_params(**setting).fit(X, Y)
        np.testing.assert_array_equal(model.runs_.starts, alone.runs_.starts)
        assert model.runs_.statuses == alone.runs_.statuses
        np.testing.assert_allclose(
            model.runs_.losses, alone.runs_.losses, rtol=1e-10, atol=1e-14
        )
        for name, values in alone.runs_.parameters.items():
            np.testing.assert_allclose(
                model.runs_.parameters[name], values, rtol=1e-8, atol=1e-10
            )
        assert model.runs_.settings["steps"] == alone.runs_.settings["steps"]
        np.testing.assert_array_equal(model.predict(X), alone.predict(X))
        words = model.diagnose([0], multiples=[2]).verdicts
        assert words == alone.diagnose([0], multiples=[2]).verdicts


def test_settings_that_differ_in_more_have_batches_of_their_own() -> None:
    def groups(*models):
        return batched([settings_of(model) for model in models])

    models = [
        classifier(optimizer=o, learning_rate=r, activation=a)
        for o in ("adam", "gd")
        for r in (0.1, 0.2)
        for a in ("relu", "tanh")
    ]
    assert groups(*models) == [[0, 2], [1, 3], [4, 6], [5, 7]]
    # Decoupled weight decay belongs to the update rule; without dropout a descent is not
    # random.
    decays = [classifier(optimizer="adamw", weight_decay=w) for w in (0, 1)]
    assert groups(*decays) == [[0], [1]]
    assert groups(*[classifier(dropout=d) for d in (0, 0.1, 0.2)]) == [[0], [1, 2]]


def test_a_setting_that_fills_a_batch_is_trained_alone(monkeypatch) -> None:
    widths = []
    usual = fitting.descend

    def watched(problem, count, seed, **options):
        widths.append((count, problem.batches.settings))
        return usual(problem, count, seed, **options)

    monkeypatch.setattr(fitting, "descend", watched)
    given = {"max_epochs": 1, "validation": None}
    models = [classifier(n_starts=300, learning_rate=r, **given) for r in (0.1, 0.2)]
    jobs = [Job(settings_of(model)) for model in models]
    fits = fit_all(labeled_rows(X, Y), jobs)
    assert widths == [(300, 1), (300, 1)]
    assert {len(fitted.runs) for fitted in fits} == {300}
    assert not any(hasattr(model, "runs_") for model in models)
    # Then it is the same to the bit.
    alone = models[1].fit(X, Y)
    np.testing.assert_array_equal(fits[1].runs.losses, alone.runs_.losses)


def test_a_study_tells_settings_apart() -> None:
    grid = {"initialization": ["kaiming", "zero"], "learning_rate": [0.02, 1e-7]}
    model = classifier(n_starts=10, max_epochs=40)
    study = sweep(model, grid, X, Y)
    assert isinstance(study, SweepResult)
    assert not hasattr(model, "runs_")
    assert study.metric == "validation_accuracy"
    values = study.values()
    assert values.shape == (4, 10)
    best = study.best
    assert study.settings[best] == {"initialization": "kaiming", "learning_rate": 0.02}
    assert study.names[best] == "initialization=kaiming, learning_rate=0.02"
    assert study.ranked[0] == best
    assert study.best_model is study.models[best]
    assert values[best].mean() > 0.9
    np.testing.assert_allclose([s.mean for s in study.summaries()], values.mean(1))
    compared = study.compared()
    assert [other for other, _, _ in compared] == study.ranked[1:]
    for other, found, adjusted in compared:
        gaps = values[best] - values[other]
        assert found.difference == pytest.approx(gaps.mean(), rel=1e-12)
        assert found.paired
        assert found.p_value <= adjusted <= 0.01
    effects = {e.parameter: e for e in study.effects()}
    assert set(effects) == {"initialization", "learning_rate"}
    gap = effects["learning_rate"].means[0] - effects["learning_rate"].means[1]
    assert gap == pytest.approx(values[[0, 2]].mean() - values[[1, 3]].mean())
    assert all(e.p_adjusted < 0.02 for e in effects.values())
    table = pd.DataFrame(study.table())
    assert len(table) == 4 * 10 * 2
    means = table.groupby(["setting", "start"])["validation_accuracy"].mean()
    for name, row in zip(study.names, values, strict=True):
        np.testing.assert_allclose(means[name], row)
    # By a loss, less is better.
    by_loss = sweep(model, grid, X, Y, metric="validation_loss")
    assert not by_loss.higher_is_better
    assert by_loss.best == np.argmin(by_loss.values().mean(1))


# The seed is drawn, and 20 epochs are few: the start that predicts may be a bad one.
@pytest.mark.filterwarnings("ignore:start ., which predict uses:UserWarning")
def test_a_regressor_a_list_of_grids_and_folds() -> None:
    target = X[:, 0] + X[:, 1] ** 2
    model = MLPStartsRegressor((6,), n_starts=4, max_epochs=20, validation=Folds(3))
    study = sweep(
        model,
        [{"activation": ["tanh"]}, {"hidden_layer_sizes": [(6,), (3, 3)]}],
        X[:, :2], target,
    )  # fmt: skip
    assert len(study.models) == 3
    assert study.metric == "validation_r2"
    # The seed is drawn once: no random_state is given, and starts are shared.
    np.testing.assert_array_equal(
        study.models[1].runs_.settings["seed"], study.models[2].runs_.settings["seed"]
    )
    assert len(study.table()["start"]) == 3 * 4 * 3
    with pytest.raises(InvalidValueError, match="full grid"):
        study.effects()


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_setting_that_fails_wholly_is_told_and_the_others_are_not_lost() -> None:
    model = classifier(optimizer="gd", validation=None, batch_size=None)
    with pytest.warns(ConvergenceWarning, match="every start of the setting learning"):
        study = sweep(model, {"learning_rate": [1e30, 0.1, 0.2]}, X, Y)
    assert study.summaries()[0] is None
    assert np.isnan(study.values()[0]).all()
    assert study.best in (1, 2)
    assert study.ranked[-1] == 0
    assert [other for other, _, _ in study.compared()] == [3 - study.best]
    with pytest.raises(InvalidValueError, match="in learning_rate=1e\\+30 nearly all"):
        study.effects()
    with pytest.raises(InvalidValueError, match="learning_rate 1e\\+30"):
        sweep(model, {"learning_rate": [1e30]}, X, Y)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"initialisation": ["zero"]}, "'initialisation'; give one of 'activation'"),
        ({"initialization": "zero"}, "give a list of values"),
        ({"learning_rate": 0.1}, "give a list of values"),
        ({"learning_rate": []}, "give a list of values"),
        ({"n_starts": [1, 2]}, "n_starts, which settings share"),
        ({"random_state": [1, 2]}, "random_state, which settings share"),
        ({"validation": [0.2, 0.3]}, "same held-out rows.; give validation to the est"),
        ({"combine": ["mean"]}, "says how a fitted model predicts"),
        ({"device": ["cpu"]}, "trained on the same device"),
        ({"initialization": ["zero", "none"]}, "'none'; give one of"),
        ({"learning_rate": [0.1, -1]}, "learning_rate is -1"),
        (7, "give a dict"),
        ([], "give a dict"),
        ([3], "give dicts of lists"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(grid, words) -> None:
    with pytest.raises(InvalidValueError, match=words):
        sweep(classifier(), grid, X, Y)


def test_one_start_cannot_tell_what_a_setting_does() -> None:
    model = classifier(n_starts=1, max_epochs=3)
    study = sweep(model, {"initialization": ["kaiming", "zero"]}, X, Y)
    with pytest.raises(
        InvalidValueError, match="one start was trained in each setting"
    ):
        study.effects()


def test_an_unknown_metric_or_estimator_is_refused_before_any_training() -> None:
    with pytest.raises(InvalidValueError, match="metric is 'f1'; give one of 'valid"):
        sweep(classifier(max_epochs=10**9), {"dropout": [0, 0.1]}, X, Y, metric="f1")
    with pytest.raises(InvalidValueError, match="estimator is int"):
        sweep(3, {"dropout": [0]}, X, Y)


@pytest.mark.parametrize(("early", "validation"), [(None, None), (None, 0.3), (3, 0.3)])
def test_the_metrics_that_are_named_are_those_of_the_table(early, validation) -> None:
    model = classifier(validation=validation, early_stopping=early).fit(X, Y)
    table = model.table()
    numbers = {n for n, v in table.items() if v.dtype.kind in "biuf"}
    assert set(model.metric_names()) == numbers - {"start", "split", "seconds"}
    assert model.metric_ == model.metric_names()[0]
    assert "verdict" not in table
    model.diagnose([1], multiples=[2])
    words = model.table()["verdict"]
    assert words[0] == "not diagnosed"
    assert words[1] != "not diagnosed"
    assert model.runs_.table()["verdict"][1] == words[1]


def test_every_start_predicts() -> None:
    model = classifier(n_starts=3).fit(X, Y)
    each = model.predict_starts(X)
    assert each.shape == (6, 150, 3)
    np.testing.assert_allclose(each.sum(-1), 1, rtol=1e-12)
    np.testing.assert_array_equal(each[model.best_], model.predict_proba(X))
    hits = (each.argmax(-1) == Y[None]).astype(float)
    splits = model.problem_.batches.splits
    for number, held_out in enumerate(model.table()["validation_accuracy"]):
        others = np.setdiff1d(np.arange(150), splits[number % 2])
        assert hits[number, others].mean() == pytest.approx(held_out, rel=1e-12)
    whole = clone(model).set_params(combine="mean").fit(X, Y)
    np.testing.assert_allclose(whole.predict_proba(X), each.mean(0), rtol=1e-12)


def test_settings_are_named_by_what_tells_them_apart() -> None:
    def mine(generator, inputs, outputs):
        return generator.normal(size=(inputs, outputs))

    found = named(
        [{"initialization": mine, "n": (2, 3)}, {"initialization": "zero", "n": (2, 3)}]
    )
    assert found == ("initialization=mine", "initialization=zero")
    assert named([{"n": (2, 3)}]) == ("n=(2, 3)",)
    assert named([{}]) == ("as given",)


def test_no_two_settings_have_one_name() -> None:
    rates = [0.01, 0.01 + 1e-9, np.float64(0.01) + 2e-9, np.float32(0.02), 1e-5]
    names = named([{"rate": rate} for rate in rates])
    assert len(set(names)) == len(rates)
    assert names[0] == "rate=0.01"
    assert float(names[1].removeprefix("rate=")) == rates[1]
    # What has no words of its own gets a number; arrays are equal as a whole.
    drawn = [lambda g, i, o: g.normal(size=(i, o)), lambda g, i, o: g.random((i, o))]
    assert named([{"n": one} for one in drawn]) == ("n=<lambda>", "n=<lambda> (2)")
    long = [np.arange(2000) + k for k in (0.0, 1e-9)]
    assert len(set(named([{"rates": one} for one in long]))) == 2
    grid = {"learning_rate": [np.full(2, 0.1), np.full(2, 0.1), np.array([0.1, 0.2])]}
    study = sweep(classifier(n_starts=2, max_epochs=2), grid, X, Y)
    assert len(study.names) == len(set(study.names)) == 2
    assert len(study.effects()[0].levels) == 2


def test_a_metric_that_a_setting_does_not_have_is_refused_before_training() -> None:
    model = classifier(early_stopping=2, max_epochs=10**9)
    with pytest.raises(InvalidValueError, match="metric is 'best_epoch'"):
        sweep(model, {"early_stopping": [2, None]}, X, Y, metric="best_epoch")
