"""Every public method of a fitted estimator returns the same after save and load."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import descents
from descents import Fixed, LowRankModel, MLPStartsClassifier, MLPStartsRegressor

RELATIVE = 1e-12
NOT_OF_A_FIT = {
    "diagnose",  # both need the rows of the fit, which no file has, and refuse
    "unbeaten",
    "fit",
    "fit_transform",
    "get_metadata_routing",
    "get_params",
    "load",
    "of_fit",
    "restored",
    "save",
    "set_output",
    "set_params",
    "stored",
    "transformed_blocks",  # of a table on disk: tests/test_streamed.py
}


def plain(value: Any) -> Any:
    """Return what a method returned as nested lists, dicts, arrays and single values."""
    if isinstance(value, pd.DataFrame):
        return {name: value[name].to_numpy() for name in value}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "__dict__") and not isinstance(value, np.ndarray):
        return {name: plain(one) for name, one in vars(value).items()}
    return value


def assert_same(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(two)
        for name in one:
            assert_same(one[name], two[name])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray) and one.dtype.kind == "f":
        scale = float(np.nanmax(np.abs(one), initial=0))
        np.testing.assert_allclose(one, two, rtol=RELATIVE, atol=RELATIVE * scale)
        assert one.dtype == two.dtype
    elif isinstance(one, float):
        assert two == pytest.approx(one, rel=RELATIVE, nan_ok=True)
    else:
        assert np.array_equal(one, two) if isinstance(one, np.ndarray) else one == two


def public(estimator: Any) -> set[str]:
    names = {n for n in dir(type(estimator)) if not n.startswith("_")}
    return {
        name
        for name in names - NOT_OF_A_FIT
        if callable(getattr(type(estimator), name)) and not name.endswith("_request")
    }


def compared(
    model: Any, calls: dict[str, list[Callable[[Any], Any]]], path: Path
) -> None:
    """Compare all calls, those of before made before the model is stored."""
    assert set(calls) == public(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = {
            name: [plain(call(model)) for call in made] for name, made in calls.items()
        }
        model.save(path)
        for again in (type(model).load(path), descents.load(path)):
            for name, made in calls.items():
                for call, expected in zip(made, before[name], strict=True):
                    assert_same(expected, plain(call(again)))


def ratings(dtype: type = np.float64) -> np.ndarray:
    draw = np.random.default_rng(1)
    table = 3 + 5 * draw.normal(size=(50, 1)) + draw.normal(size=(1, 9))
    table = table + draw.normal(size=(50, 2)) @ draw.normal(size=(2, 9))
    table[draw.random(table.shape) < 0.2] = np.nan
    return np.exp(table / 10).astype(dtype)


def mixed() -> pd.DataFrame:
    table = ratings()
    frame = pd.DataFrame(table, columns=list("abcdefghi"))
    frame["b"] = frame["b"] > 1
    frame["c"] = pd.cut(frame["c"], [0, 1, 1.5, 99], labels=["low", "mid", "high"])
    frame["d"] = pd.Categorical(np.where(frame["d"] > 1.2, "x", "y"))
    frame["e"] = np.rint(10 * frame["e"])
    return frame


GAPS = ratings()
GAPS[5], GAPS[:, 3] = np.nan, np.nan
SPARSE = scipy.sparse.csr_array(np.nan_to_num(ratings()))
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (ratings(), {}),
    "single": (ratings(np.float32), {"offsets": "both", "penalty": 0.1}),
    "rows": (ratings(), {"offsets": "rows", "penalty": 0.1}),
    "both": (ratings(), {"offsets": "both", "penalty": {"l2": 0.5, "l2_biases": 0.1}}),
    "scaled": (ratings(), {"scales": True, "offsets": "both", "penalty": 0.1}),
    "mean": (ratings(), {"n_starts": 3, "combine": "mean", "penalty": 0.1}),
    "chosen": (ratings(), {"n_components": "auto", "folds": 2, "max_iter": 20}),
    "gaps": (GAPS, {"offsets": "both", "constraint": "nonnegative"}),
    "gaps, kl": (GAPS, {"loss": "kl", "constraint": "nonnegative"}),
    "gaps, free": (GAPS, {"offsets": "columns", "penalty": 0.1}),
    "fixed": (ratings(), {"constraint": (None, Fixed(np.ones((9, 2))))}),
    "sets": (ratings(), {"constraint": ("simplex", None)}),
    "huber": (ratings(), {"loss": "huber"}),
    "mixed": (mixed(), {"offsets": "both", "penalty": 0.1}),
    "sparse": (SPARSE, {"offsets": "both", "penalty": 0.1}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.sampled(6)
def test_a_low_rank_model_is_the_same(kind: str, tmp_path: Path) -> None:
    table, settings = KINDS[kind]
    settings = {"n_components": 2, "random_state": None, "max_iter": 60, **settings}
    new = table[7:19]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LowRankModel(**settings).fit(table)
        points = model.transform(new)
    at, other = np.array([0, 3, 5]), model.embedding_[:4] + 0.01
    calls: dict[str, list[Callable[[Any], Any]]] = {
        "transform": [lambda m: m.transform(new)],
        "inverse_transform": [
            lambda m: m.inverse_transform(points),
            lambda m: m.inverse_transform(points[[5, 2]]),
            lambda m: m.inverse_transform(model.embedding_),
            lambda m: m.inverse_transform(m.embedding_ * (1 + 1e-15)),
            lambda m: m.inverse_transform(other),
        ],
        "score": [lambda m: m.score(new)],
        "get_feature_names_out": [lambda m: m.get_feature_names_out()],
        "predict_cells": [lambda m: m.predict_cells(at, at)],
        "impute": [lambda m: m.impute(table), lambda m: m.impute(new)],
        "calibrate": [lambda m: vars(m.calibrate(table).calibration_)],
    }
    if kind == "mixed":
        calls["predict_cells"] = []
    if kind == "sparse":
        calls["impute"] = calls["calibrate"] = []
    else:
        calls["impute"].append(
            lambda m: m.calibrate(table).impute(new, return_interval=True)
        )
    # Stored once before anything but transform was called, once after all.
    model.save(tmp_path / "first")
    again = descents.load(tmp_path / "first")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in calls["inverse_transform"]:
            assert_same(call(model), call(again))
    compared(model, calls, tmp_path / "model")
    for name in (n for n in vars(model) if n.endswith("_") and not n.startswith("_")):
        if name not in ("fitted_", "runs_", "columns_", "calibration_"):
            assert_same(plain(getattr(model, name)), plain(getattr(again, name)))


@pytest.mark.filterwarnings("ignore:no start of .* is better than always")
@pytest.mark.parametrize("kind", [MLPStartsClassifier, MLPStartsRegressor])
def test_a_network_is_the_same(kind: type, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int) if kind is MLPStartsClassifier else X[:, 0]
    settings: dict[str, Any] = {"n_starts": 4, "max_epochs": 3, "random_state": 0}
    model = kind((3,), learning_rate=0.1, **settings).fit(X, y)
    calls: dict[str, list[Callable[[Any], Any]]] = {
        "predict": [lambda m: m.predict(X)],
        "predict_starts": [lambda m: m.predict_starts(X)],
        "score": [lambda m: m.score(X, y)],
        "table": [lambda m: m.table()],
        "variance": [lambda m: m.variance()],
        "interval": [lambda m: m.interval()],
        "values": [lambda m: m.values()],
        "failed": [lambda m: m.failed()],
        "undefined_splits": [lambda m: m.undefined_splits()],
        "metric_names": [lambda m: m.metric_names()],
    }
    if kind is MLPStartsClassifier:
        calls["predict_proba"] = [lambda m: m.predict_proba(X)]
    compared(model, calls, tmp_path / "model")
