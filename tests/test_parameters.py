"""Parameters of estimators that have the wrong type are refused in one sentence."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from descents import (
    LowRankImputer,
    LowRankModel,
    LowRankRatings,
    MLPStartsClassifier,
    MLPStartsRegressor,
)
from descents.errors import InvalidValueError
from descents.networks import Folds, Network
from descents.networks.cautions import many_failed

X = np.random.default_rng(0).normal(size=(30, 1)) * [1.0, 2.0, -1.0]
Y = (X[:, 0] > 0).astype(int)
NETWORKS = (MLPStartsClassifier, MLPStartsRegressor)
ALL = (LowRankImputer, LowRankModel, LowRankRatings, *NETWORKS)
WRONG = (
    *(
        (LowRankImputer, name, value)
        for name in (
            "refine", "sample_posterior", "add_indicator", "keep_empty_features"
        )
        for value in ("y", 1, None, np.array([True, False]))
    ),
    *((LowRankImputer, name, "0.5") for name in ("strength", "tol", "held_out")),
    *((LowRankImputer, name, x) for name in ("min_value", "max_value") for x in ("1", True)),
    (LowRankImputer, "strength", np.array([1, 2])),
    *((LowRankModel, "scales", value) for value in (1, 0, "y", np.array([1, 2]))),
    *((LowRankModel, name, "1") for name in ("tol", "held_out", "penalty")),
    (LowRankModel, "tol", True),
    (LowRankModel, "constraint", np.array([1, 2])),
    (LowRankRatings, "tol", "1"),
    *(
        (kind, name, value)
        for kind in NETWORKS
        for name in ("dropout", "learning_rate", "tol", "weight_decay")
        for value in ("0.5", True)
    ),
    *((kind, "device", None) for kind in (LowRankModel, *NETWORKS)),
    *((kind, "random_state", value) for kind in ALL for value in ("y", -1, True, 0.5)),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "value"), WRONG)
def test_values_of_the_wrong_type_are_refused(kind, name: str, value: object) -> None:
    with pytest.raises(InvalidValueError) as error:
        kind(**{name: value}).fit(X, Y)
    assert name in str(error.value)
    assert "; give" in str(error.value)


def test_truth_values_and_whole_numbers_of_numpy_are_accepted() -> None:
    given = LowRankImputer(refine=np.False_, random_state=np.int64(3)).fit(X)
    same = LowRankImputer(random_state=3).fit(X)
    assert given.loss_ == same.loss_
    LowRankModel(1, scales=np.True_, random_state=0, max_iter=3, held_out=0).fit(X)


def test_messages_about_weights_use_the_words_of_the_caller() -> None:
    model = MLPStartsClassifier(validation=Folds(2), random_state=0)
    with pytest.raises(InvalidValueError, match="sample_weight is 0 on all training"):
        model.fit(X, Y, (np.arange(30) == 0).astype(float))
    with pytest.raises(InvalidValueError, match="class_weight is 0 for every class"):
        MLPStartsClassifier(class_weight={0: 0, 1: 0}).fit(X, Y)


@pytest.mark.parametrize("unit", [1e170, 1e-170])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_target_in_an_extreme_unit_is_named(unit: float, optimizer: str) -> None:
    model = MLPStartsRegressor(optimizer=optimizer, max_epochs=5, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(X, unit * X[:, 0])
            sentences = [str(warning.message) for warning in caught]
        except InvalidValueError as error:
            sentences = [str(error)]
    (sentence,) = sentences
    assert "y has mean" in sentence or "of a target that varies" in sentence
    assert "features" not in sentence


def test_starts_that_fail_because_of_the_target_are_said_to() -> None:
    y = 1e170 * X[:, 0]
    problem = Network(X, y, 3, task="regression")
    assert "y has mean" in str(many_failed(np.array([True, False]), problem=problem))
    small = Network(X, X[:, 0], 3, task="regression")
    assert "features" in str(many_failed(np.array([True, False]), problem=small))
