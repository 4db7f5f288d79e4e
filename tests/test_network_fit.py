"""`networks.fit`: the estimators are shells around it, and its result is complete."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from sklearn.datasets import load_iris

from descents import EarlyStopping, HoldOut, MLPStartsClassifier, MLPStartsRegressor
from descents.errors import InterruptedRunError, InvalidValueError
from descents.networks import Settings, fit, labeled_rows
from descents.networks.fitting import Job, fit_all
from descents.optim import RunControl, Status

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
GIVEN = {"n_starts": 3, "max_epochs": 6, "batch_size": 25, "random_state": 2}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_estimator_is_a_shell_around_fit(task: str) -> None:
    kind = MLPStartsClassifier if task == "classification" else MLPStartsRegressor
    y = np.array(["a", "b", "c"])[Y] if task == "classification" else X[:, 3]
    weights = np.arange(150) % 3
    model = kind(validation=HoldOut(0.3, 2), **GIVEN).fit(X[:, :3], y, weights)
    fitted = fit(
        labeled_rows(X[:, :3], y, task, weights),
        Settings.of(task=task, validation=HoldOut(0.3, 2), **GIVEN),
    )
    for name, values in model.runs_.parameters.items():
        np.testing.assert_array_equal(fitted.runs.parameters[name], values)
    np.testing.assert_array_equal(fitted.values(), model.values())
    assert fitted.best == model.best_
    assert repr(fitted.interval()) == repr(model.interval())
    assert fitted.metric == model.metric_
    positions = np.arange(len(fitted.runs))
    np.testing.assert_array_equal(
        fitted.outputs(X[:, :3], positions), model.predict_starts(X[:, :3])
    )


def test_the_control_records_watches_and_limits() -> None:
    rows = labeled_rows(X, Y)
    settings = Settings.of(**GIVEN)
    seen = []
    control = RunControl(
        record=(0, 2, 6, 99),  # epochs after the last are left out
        watch=lambda starts, step, losses: seen.append((starts.tolist(), step)),
    )
    fitted = fit(rows, settings, control)
    np.testing.assert_array_equal(fitted.runs.recorded, [0, 12, 36])  # 6 steps each
    assert seen[-1][1] == 36
    assert {k for starts, _ in seen for k in starts} == {0, 1, 2}
    plain = fit(rows, settings)
    np.testing.assert_array_equal(fitted.runs.losses, plain.runs.losses)
    late = fit(rows, settings, RunControl(seconds=0.0))
    assert set(late.runs.statuses) == {Status.INTERRUPTED}
    with pytest.raises(InterruptedRunError):
        fit_all(rows, [Job(settings, RunControl(seconds=0.0))])


def test_settings_are_checked_once_and_frozen() -> None:
    settings = Settings.of(hidden_layer_sizes=np.int64(4), validation=0.2, **GIVEN)
    assert settings.hidden_layer_sizes == (4,)
    assert settings.validation == HoldOut(0.2)
    with pytest.raises(FrozenInstanceError):
        settings.max_epochs = 3  # type: ignore[misc]
    with pytest.raises(InvalidValueError) as told:
        Settings.of(optimizer="sgd", dropout=1.0, batch_size=0, n_starts=0)
    for part in ("optimizer is 'sgd'", "dropout is 1.0", "batch_size is 0", "n_starts"):
        assert part in str(told.value)
    with pytest.raises(InvalidValueError, match="early_stopping needs held-out rows"):
        Settings.of(early_stopping=3)
    early = EarlyStopping(metric="training_accuracy", every=5)
    assert Settings.of(early_stopping=early).metric_names[-1] == "best_epoch"
    with pytest.raises(TypeError, match="hidden"):
        Settings.of(hidden=3)


def test_a_fit_in_which_every_start_failed_is_complete() -> None:
    settings = Settings.of(**GIVEN | {"learning_rate": 1e30, "optimizer": "gd"})
    fitted = fit(labeled_rows(X, Y), settings)
    assert not fitted.usable
    assert fitted.failed("loss").all()
    assert np.isnan(fitted.values()).all()
    assert np.isnan(fitted.outputs(X, np.arange(3))).all()
    assert fitted.interval().count == 0
