"""Stored runs and saved models come back with the types that they had."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import descents
from descents import (
    EarlyStopping,
    Folds,
    HoldOut,
    LowRankModel,
    MLPStartsClassifier,
    MLPStartsRegressor,
)
from descents.cli.main import main
from descents.errors import InvalidValueError, RunFolderError
from descents.runs.compare import compare_runs
from descents.storage.values import json_text, of_typed, typed

RNG = np.random.default_rng
X = RNG(0).normal(size=(40, 3))
CODES = (X[:, 0] > 0).astype(int)


def same(one: Any, two: Any) -> bool:
    """Return whether two values are equal and of one type, in whatever they lie."""
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and bool(np.array_equal(one, two))
    if isinstance(one, dict):
        keys = zip(one, two, strict=True)
        return all(same(a, b) for a, b in keys) and all(
            same(one[k], two[k]) for k in one
        )
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 0.1, "a", float("inf"), [1, (2.5, "b")],
        {0: 1, True: 2.5, "a": None, np.int64(3): np.float32(0.1), (1, 2): [3]},
        np.float32(0.1), np.int8(3), np.bool_(True), np.str_("a"),
        np.datetime64("2021-03-01"), np.arange(3, dtype=np.int16),
        np.array([[0.5, np.nan]]), np.array(["a", "bc"]),
        np.array(["a", 1, None], dtype=object),
        np.array(["2021-03-01", "NaT"], dtype="datetime64[D]"),
    ],
)  # fmt: skip
def test_values_keep_their_types(value: Any) -> None:
    import json

    back = of_typed(json.loads(json.dumps(typed(value), allow_nan=False)))
    if isinstance(value, np.ndarray) and value.dtype.kind in "fM":
        assert back.dtype == value.dtype
        np.testing.assert_array_equal(back, value)
    else:
        assert same(back, value)


def test_what_has_no_such_type_is_refused() -> None:
    for value in (datetime.date(2021, 3, 1), object(), np.array([b"a"])):
        with pytest.raises(TypeError, match="cannot be stored"):
            typed(value)


CLASSES = {
    "int": CODES + 3,
    "int8": CODES.astype(np.int8),
    "bool": CODES > 0,
    "text": np.where(CODES, "yes", "no"),
    "object": np.where(CODES, "yes", "no").astype(object),
    "float": CODES.astype(float),
    "date": np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")[CODES],
}


@pytest.mark.filterwarnings("ignore:the starts are not clearly better than")  # 2 epochs
@pytest.mark.filterwarnings("ignore:start 1, which predict uses")
@pytest.mark.parametrize("kind", CLASSES)
def test_a_classifier_keeps_its_classes_and_their_weights(kind: str, tmp_path) -> None:
    y = CLASSES[kind]
    weights: dict[Any, Any] | str = dict(
        zip(np.unique(y).tolist(), [1, np.float64(2.5)], strict=True)
    )
    if kind == "date":
        weights = "balanced"
    model = MLPStartsClassifier(
        [3, np.int64(4)], class_weight=weights, n_starts=np.int64(2), max_epochs=2,
        random_state=np.int64(7), learning_rate=(0.01, 0.02),
        validation=HoldOut(np.float64(0.3), 2), early_stopping=EarlyStopping(patience=2),
    ).fit(X, y)  # fmt: skip
    model.save(tmp_path / "m")
    for again in (
        MLPStartsClassifier.load(tmp_path / "m"),
        descents.load(tmp_path / "m"),
    ):
        assert same(again.classes_, model.classes_)
        one, two = model.get_params(), again.get_params()
        assert all(same(one[name], two[name]) for name in one), (one, two)
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.predict(X).dtype == model.predict(X).dtype
    # It can be fitted again: the weights still have the classes for keys.
    refitted = again.fit(X, y)
    np.testing.assert_array_equal(refitted.runs_.losses, model.runs_.losses)


@pytest.mark.filterwarnings("ignore:no start of .* is better than always")  # 2 epochs
@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_layer_sizes": np.array([3, 4])},
        {"hidden_layer_sizes": 5, "dropout": np.float32(0.25)},
        {"learning_rate": np.array([0.1, 0.2]), "n_starts": 2},
        {"validation": Folds(3), "random_state": np.uint8(3)},
    ],
)
def test_a_regressor_keeps_its_parameters(settings: dict[str, Any], tmp_path) -> None:
    model = MLPStartsRegressor(max_epochs=2, **settings).fit(X, X[:, :2])
    model.save(tmp_path / "m")
    again = descents.load(tmp_path / "m")
    one, two = model.get_params(), again.get_params()
    assert all(same(one[name], two[name]) for name in one), (one, two)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_low_rank_model_keeps_its_parameters(tmp_path) -> None:
    model = LowRankModel(
        np.int64(2), n_starts=np.int64(2), random_state=np.int64(3),
        penalty={"l2": np.float32(0.5)},
    ).fit(X)  # fmt: skip
    model.save(tmp_path / "m")
    again = descents.load(tmp_path / "m")
    one, two = model.get_params(), again.get_params()
    assert all(same(one[name], two[name]) for name in one), (one, two)


def test_a_file_of_the_first_format_is_read(tmp_path) -> None:
    from descents.storage.files import read_tensors, write_tensors

    model = MLPStartsClassifier((4,), n_starts=2, max_epochs=2, random_state=0)
    model.fit(X, np.where(CODES, "yes", "no")).save(tmp_path / "m")
    arrays, facts = read_tensors(tmp_path / "m")
    facts |= {"format": 1, "classes": ["no", "yes"], "class_kind": "U"}
    facts["settings"]["hidden_layer_sizes"] = {"kind": "sizes", "sizes": [4]}
    write_tensors(tmp_path / "m", arrays, facts)
    again = MLPStartsClassifier.load(tmp_path / "m")
    assert again.hidden_layer_sizes == (4,)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def frame() -> pd.DataFrame:
    found = pd.DataFrame(X, columns=["a", "b", "c"])
    return found.assign(d=np.where(X[:, 1] > 0, "x", "z"))


TARGETS: dict[str, Any] = {
    "bool": (X[:, 0] > 0, [False, True]),
    "int": (CODES * 7 + 3, [3, 10]),
    "text": (np.where(CODES, "yes", "no"), ["no", "yes"]),
    "number": (X[:, 0] * 1000 + 5, None),
}


@pytest.mark.parametrize("kind", ["bool", "number", *map(lambda k: pytest.param(k, marks=pytest.mark.slow), ["int", "text"])])  # fmt: skip
def test_a_run_of_train_is_opened(kind: str, tmp_path: Path) -> None:
    values, classes = TARGETS[kind]
    rows = frame()
    rows.assign(y=values).to_parquet(tmp_path / "t.parquet")
    options = ["train", str(tmp_path / "t.parquet"), "--target", "y", "--starts", "3",
               "--epochs", "10", "--init", "kaiming", "--init", "zero", "--hidden", "4",
               "--diagnose", "0", "--quiet", "--out", str(tmp_path / "run")]  # fmt: skip
    assert main(options) == 0
    found = descents.load(tmp_path / "run")
    predicted = found.predict(rows)
    if classes is None:
        assert not hasattr(found, "classes_")
        assert abs(predicted - 5).max() > 100
    else:
        assert found.classes_.tolist() == classes
        assert {type(one) for one in found.classes_.tolist()} == {type(classes[0])}
        assert predicted.dtype == found.classes_.dtype
        chances = found.predict_proba(rows)
        np.testing.assert_array_equal(predicted, found.classes_[chances.argmax(1)])
    assert len(found.runs_) == 3
    assert found.interval().count == 3
    np.testing.assert_array_equal(predicted, found.predict(rows.to_numpy(dtype=object)))
    out = ["--out", str(tmp_path / "new"), "--quiet"]
    assert (
        main(["apply", str(tmp_path / "run"), str(tmp_path / "t.parquet"), *out]) == 0
    )
    written = pd.read_parquet(tmp_path / "new" / "predictions.parquet")["y"].to_numpy()
    np.testing.assert_array_equal(written, predicted)
    with pytest.raises(InvalidValueError, match="shape \\(40, 3\\); give a data frame"):
        found.predict(X)
    with pytest.raises(
        InvalidValueError, match="run of 'descents apply', which stores"
    ):
        descents.load(tmp_path / "new")


def test_runs_of_other_commands_are_opened(mixed: Path, tmp_path: Path) -> None:
    assert isinstance(descents.load(mixed / "run"), LowRankModel)
    with pytest.raises(RunFolderError, match="give the folder of a complete run"):
        descents.load(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InvalidValueError, match="no run of descents"):
        descents.load(tmp_path)


def test_what_holds_no_model_says_what_to_open(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": X[:, 0], "y": np.where(CODES, "p", "q")})
    table = tmp_path / "t.csv"
    frame.to_csv(table, index=False)
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        code = main(
            ["train", str(table), "--target", "y", "--starts", "3", "--epochs", "3",
             "--diagnose", "0", "--quiet", "--out", str(run)]
        )  # fmt: skip
        assert code == 0
    comparison = compare_runs(*runs)
    for place in (tmp_path / "compared.json", tmp_path / "compared" / "result.json"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(json_text(comparison))
    applied = tmp_path / "applied"
    assert (
        main(["apply", str(runs[0]), str(table), "--quiet", "--out", str(applied)]) == 0
    )
    both = f"{runs[0]} and {runs[1]}"
    for place, words in (
        (tmp_path / "compared.json", both),
        (tmp_path / "compared", both),
        (applied, f"the run whose model it used, {runs[0]}"),
        (runs[0] / "starts.parquet", f"the folder of the run, {runs[0]}"),
        (runs[0] / "result.json", f"the folder of the run, {runs[0]}"),
        (runs[0] / "tensors.safetensors", f"the folder of the run, {runs[0]}"),
    ):
        with pytest.raises(InvalidValueError) as told:
            descents.load(place)
        assert words in str(told.value)
    assert isinstance(descents.load(runs[0] / "model.safetensors"), MLPStartsClassifier)
    with pytest.raises(InvalidValueError, match="a list is not a path"):
        descents.load([])


def test_a_run_of_reproduce_is_opened(whole: Path, result: dict[str, Any]) -> None:
    found = descents.load(whole)
    assert found.result == result
    assert len(found.rows["start"]) == len(pd.read_parquet(whole / "starts.parquet"))
    assert "history_loss" in found.tensors
