"""`descents train`, `compare` and `apply`: from a user's table to what the starts tell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pyarrow
import pytest
from sklearn.datasets import load_iris

import descents
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.networks.features import Features, Target
from descents.runs import apply_network as trained
from descents.runs import request as asked
from descents.runs.compare import compare_runs
from descents.runs.network_options import NetworkOptions
from descents.runs.network_rows import prepared as prepared_rows
from descents.storage.files import read_table, read_tensors
from descents.tables.files import read
from descents.tables.tables import from_frame

SCHEMA = Path(__file__).parents[1] / "docs" / "train.schema.json"


def iris_csv(folder: Path) -> Path:
    found = load_iris(as_frame=True)
    frame = found.data.copy()
    frame["species"] = [found.target_names[code] for code in found.target]
    frame.loc[3, "sepal width (cm)"] = np.nan
    frame["wet"] = ["yes", "no", "no"] * 50
    path = folder / "iris.csv"
    frame.to_csv(path, index=False)
    return path


def ran(*arguments: str) -> int:
    return main([*arguments, "--quiet"])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    table = iris_csv(folder)
    code = ran(
        "train", str(table), "--target", "species", "--starts", "12", "--hidden", "8",
        "--init", "kaiming", "--init", "zero", "--validation", "folds=3",
        "--epochs", "15", "--out", str(folder / "run"),
    )  # fmt: skip
    assert code == 0
    return folder / "run"


def test_the_result_follows_its_schema(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert result["task"] == "classification"
    assert result["classes"] == ["setosa", "versicolor", "virginica"]
    assert result["rows"] == 150
    assert [s["name"] for s in result["settings"]] == ["kaiming", "zero"]
    assert result["splits"] == 3


def test_the_result_is_that_of_its_rows(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    rows = pd.read_parquet(run / "starts.parquet")
    assert len(rows) == 2 * 12 * 3
    means = rows.groupby(["setting", "start"])["validation_accuracy"].mean()
    for setting in result["settings"]:
        values = means[setting["name"]]
        metric = setting["metric"]
        assert metric["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert metric["quartiles"][1] == pytest.approx(values.median(), rel=1e-12)
        good = (values >= result["success_threshold"]).mean()
        assert metric["success"]["share"] == pytest.approx(good, rel=1e-12)
    # Weights of zero never tell the classes apart beyond the biases.
    assert result["settings"][1]["metric"]["maximum"] < 0.5
    profile = result["profile"]
    for name, curve in profile["settings"].items():
        reached = [
            (means[name] >= place - 1e-12).mean() for place in profile["thresholds"]
        ]
        np.testing.assert_allclose(curve["shares"], reached, rtol=1e-12)
    for setting in result["settings"]:
        told = sum(setting["verdicts"].values())
        assert told == 36 - setting["short"] + setting["diagnosed"]
    compared = result["compared"][0]
    assert (compared["setting"], compared["against"]) == ("kaiming", "zero")
    gap = means["kaiming"].mean() - means["zero"].mean()
    assert compared["difference"] == pytest.approx(gap, rel=1e-12)
    assert compared["p_value"] < 0.001


def test_an_example_of_a_verdict_is_a_start_on_a_division(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    rows = pd.read_parquet(run / "starts.parquet")
    rows = rows.set_index(["setting", "start", "split"])
    for setting in result["settings"]:
        assert setting["examples"]
        for word, example in setting["examples"].items():
            row = rows.loc[(setting["name"], example["start"], example["split"])]
            assert row["verdict"] == word
            assert row["training_accuracy"] == pytest.approx(example["training"])
        gained = setting["reached"] - setting["baseline"]
        assert setting["reached"] == float(f"{setting['reached']:.10g}")
        gain = setting["most"] - setting["baseline"]
        if gain > 0.01:
            assert gained == pytest.approx(0.8 * gain, abs=1e-9)
    page = (run / "report.html").read_text()
    assert "A start counts once on each split." in page


def test_the_best_start_is_that_of_the_best_mean_over_divisions(run: Path) -> None:
    best = json.loads((run / "result.json").read_text())["best"]
    rows = pd.read_parquet(run / "starts.parquet")
    rows = rows[rows["setting"] == best["setting"]]
    losses = rows.pivot_table(index="start", columns="split", values="validation_loss")
    assert best["start"] == losses.mean(axis=1).idxmin()
    assert best["split"] == losses.loc[best["start"]].idxmin()
    own = rows[rows["start"] == best["start"]]
    assert best["mean"] == pytest.approx(own["validation_accuracy"].mean(), rel=1e-12)
    page = (run / "report.html").read_text()
    assert f"On split {best['split']}, where it does best" in page


def test_the_page_shows_every_picture(run: Path) -> None:
    page = (run / "report.html").read_text()
    names = (
        *("distribution", "forest", "training-validation", "curves"),
        "expected-best",
    )
    assert page.count('<svg id="figure-') == len(names)
    for name in names:
        assert f'<svg id="figure-{name}-svg"' in page
    assert not list(run.glob("figure-*"))
    assert "://" not in page.replace("http://www.w3.org", "")


def test_apply_foretells_what_the_model_predicts(run: Path, tmp_path: Path) -> None:
    table = iris_csv(tmp_path)
    assert ran("apply", str(run), str(table), "--out", str(tmp_path / "a")) == 0
    found = pd.read_parquet(tmp_path / "a" / "predictions.parquet")
    truth = pd.read_csv(table)["species"]
    assert (found["species"] == truth).mean() > 0.9
    chances = found.filter(like="probability_").to_numpy()
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-12)
    # One row alone is told the same; columns may come in any order.
    frame = pd.read_csv(table).iloc[[60], ::-1]
    frame.to_csv(tmp_path / "one.csv", index=False)
    stored = trained.load(run)
    one = stored.apply(asked.Reading().read(str(tmp_path / "one.csv")))
    np.testing.assert_allclose(
        [one[f"probability_{name}"][0] for name in stored.classes], chances[60],
        rtol=1e-5,
    )  # fmt: skip


def test_regression_comes_back_in_the_units_of_its_target(tmp_path: Path) -> None:
    table = iris_csv(tmp_path)
    code = ran(
        "train", str(table), "--target", "petal width (cm)", "--starts", "3",
        "--validation", "none", "--out", str(tmp_path / "r"), "--epochs", "60",
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert result["metric"] == "training_r2"
    assert result["classes"] is None
    found = trained.load(tmp_path / "r").apply(asked.Reading().read(str(table)))
    truth = pd.read_csv(table)["petal width (cm)"]
    error = truth - found["petal width (cm)"]
    explained = 1 - np.square(error).sum() / np.square(truth - truth.mean()).sum()
    assert explained == pytest.approx(result["best"]["training"], rel=1e-4)


def test_a_target_far_from_zero_is_predicted_without_rounding(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=300)
    frame = pd.DataFrame({"x": x, "time": 1.7e9 + 100 * x})
    frame.to_csv(tmp_path / "times.csv", index=False)
    out = tmp_path / "run"
    code = ran(
        "train", str(tmp_path / "times.csv"), "--target", "time", "--starts", "3",
        "--diagnose", "0", "--out", str(out),
    )  # fmt: skip
    assert code == 0
    model = descents.load(out)
    found = model.predict(frame)
    scaled = (frame["time"] - model.target["center"]) / model.target["spread"]
    residual = (found - frame["time"]) / model.target["spread"]
    # In float32 numbers near 1.7e9 are 128 apart, which is more than the spread of 100.
    by_hand = model.model.predict_starts(model._encoded(frame))[model.best_, :, 0]
    np.testing.assert_allclose(residual, by_hand - scaled, atol=1e-6)
    assert model.score(frame, frame["time"]) == pytest.approx(
        1 - (residual**2).mean() / scaled.var(ddof=0), rel=1e-9
    )
    assert model.score(frame, frame["time"]) > 0.98
    starts = model.predict_starts(frame)
    np.testing.assert_allclose(starts[model.best_, :, 0], found, rtol=0, atol=1e-3)
    new = tmp_path / "applied"
    assert ran("apply", str(out), str(tmp_path / "times.csv"), "--out", str(new)) == 0
    applied = pd.read_parquet(new / "predictions.parquet")["time"]
    np.testing.assert_array_equal(applied, found)


@pytest.mark.parametrize("unit", [2.0**-600, 2.0**-20, 1.0, 2.0**600])
def test_units_of_a_table_change_nothing(unit: float, tmp_path: Path) -> None:
    """Powers of two: the scaled features and target have the same bits in every unit."""
    draw = np.random.default_rng(0)
    columns = {"a": draw.normal(size=50), "y": draw.normal(size=50) + 3}
    prepared = []
    for size in (1.0, unit):
        table = from_frame(pyarrow.table({n: v * size for n, v in columns.items()}))
        data = asked.Data.of_table(table, None)
        prepared.append(prepared_rows(data, NetworkOptions(target="y")))
    one, two = prepared
    np.testing.assert_array_equal(one.X, two.X)
    np.testing.assert_array_equal(one.y, two.y)
    assert (two.target.center, two.target.spread) == (
        columns["y"].mean() * unit, columns["y"].std() * unit
    )  # fmt: skip


def test_a_stored_classifier_takes_data_frames_throughout(run: Path) -> None:
    model = descents.load(run)
    frame = pd.read_csv(run.parent / "iris.csv")
    chances = model.predict_starts(frame)
    np.testing.assert_array_equal(chances[model.best_], model.predict_proba(frame))
    right = (model.predict(frame) == frame["species"]).mean()
    assert model.score(frame, frame["species"]) == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("kind", ["float64", "float32", "bool", "Int64", "category"])
def test_a_stored_classifier_scores_classes_of_any_type(
    kind: str, tmp_path: Path
) -> None:
    a = np.random.default_rng(0).normal(size=60)
    half = pd.Series(np.where(a > 0, 0.5, 1.5))
    y = (half - 0.5 if kind in ("bool", "Int64") else half).astype(kind)
    frame = pd.DataFrame({"a": a, "y": y})
    frame.to_parquet(tmp_path / "t.parquet")
    call = ["train", str(tmp_path / "t.parquet"), "--target", "y", "--starts", "2"]
    call += ["--task", "classification", "--epochs", "5", "--diagnose", "0"]
    assert ran(*call, "--out", str(tmp_path / "r")) == 0
    model = descents.load(tmp_path / "r")
    chosen = model.predict(frame)
    assert chosen.dtype.kind == {"bool": "b", "Int64": "i"}.get(kind, "f")
    assert set(model.classes_.tolist()) == set(y.tolist())
    right = float(np.mean([one == two for one, two in zip(chosen, y, strict=True)]))
    weights = np.where(chosen == chosen[0], 3.0, 1.0)
    assert model.score(frame, y) == pytest.approx(right)
    assert model.score(frame, np.asarray(y)) == pytest.approx(right)
    correct = (chosen == np.asarray(y)).astype(float)
    expected = np.average(correct, weights=weights)
    assert model.score(frame, y, weights) == pytest.approx(expected)


def test_compare_is_paired_where_the_starts_are_shared(
    run: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(run), str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["paired"]
    assert found["difference"] == 0
    assert found["probability_of_improvement"] == 0.5
    table = iris_csv(tmp_path)
    common = ["train", str(table), "--target", "species", "--hidden", "8"]
    common += ["--starts", "12", "--validation", "folds=3", "--epochs", "3"]
    assert ran(*common, "--out", str(tmp_path / "b")) == 0
    assert ran(*common, "--seed", "1", "--out", str(tmp_path / "c")) == 0
    for other, paired in (("b", True), ("c", False)):
        assert main(["compare", str(run), str(tmp_path / other), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["paired"] is paired
        assert found["difference"] > 0.05
        assert found["interval"][0] > 0
    assert "their seeds (0 and 1) draw different starts" in found["warnings"][0]


def test_compare_says_what_else_the_runs_differ_in(
    run: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = iris_csv(tmp_path)
    frame = pd.read_csv(table).iloc[1:]
    frame.to_csv(table, index=False)
    options = ["train", str(table), "--target", "species", "--hidden", "4"]
    options += ["--epochs", "2", "--starts", "1", "--out", str(tmp_path / "one")]
    assert ran(*options) == 0
    assert main(["compare", str(run), str(tmp_path / "one"), "--json"]) == 0
    text = capsys.readouterr().out
    found = json.loads(
        text, parse_constant=pytest.fail
    )  # no NaN: there is none in JSON
    assert found["interval"] == [None, None]
    said = found["warnings"]
    assert ["tables" in w or "rows" in w for w in said] == [True, True, False]
    assert "start" in said[2]  # the interval needs more than one
    assert main(["compare", str(run), str(tmp_path / "one")]) == 0
    said = capsys.readouterr().out
    assert "Warning: they learned from different tables" in said
    assert "nan" not in said
    for metric in ("start", "split", "seconds"):
        assert main(["compare", str(run), str(run), "--metric", metric]) == 2
        assert "'validation_accuracy'" in capsys.readouterr().err


def files_of(folder: Path) -> dict[str, bytes]:
    skipped = ("seconds",)
    rows = read_table(folder / "starts.parquet")
    arrays, _ = read_tensors(folder / "model.safetensors")
    arrays.pop("seconds", None)
    kept = {n: v.tobytes() for n, v in arrays.items()}
    return kept | {
        n: np.asarray(v).astype(str).tobytes()
        for n, v in rows.items()
        if n not in skipped
    }


def options_of(table: Path, out: Path) -> list[str]:
    return [
        "train", str(table), "--target", "species", "--starts", "600", "--hidden", "8",
        "--dropout", "0.1", "--epochs", "3", "--out", str(out),
    ]  # fmt: skip


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    table = iris_csv(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert ran(*options_of(table, whole)) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "descents", *options_of(table, broken), "--quiet"],
        env=environment,
    )
    stages = broken / ".partial" / "stages"
    end = time.monotonic() + 120
    while time.monotonic() < end and not list(stages.glob("*.safetensors")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(stages.glob("[!.]*.safetensors")))
    assert kept >= 1
    assert ran(*options_of(table, broken), "--resume") == 0
    assert files_of(broken) == files_of(whole)


@pytest.mark.slow
def test_two_processes_give_the_same_bits_as_one(tmp_path: Path) -> None:
    table = iris_csv(tmp_path)
    assert ran(*options_of(table, tmp_path / "one")) == 0
    assert ran(*options_of(table, tmp_path / "two"), "--workers", "2") == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "nothing"], ["no column 'nothing'"]),
        (["--target", "species", "--task", "regression"], ["numbers", "classification"]),
        (["--target", "species", "--init", "x", "--optimizer", "y"],
         ["--init", "'kaiming'", "--optimizer", "'adamw'"]),
        (["--target", "species", "--validation", "half"], ["0.33", "folds=5"]),
        (["--target", "species", "--validation", "folds=151"], ["150 rows"]),
        (["--target", "species", "--hidden", "0"], ["64,64"]),
        (["--target", "species", "--batch-size", "-1"], ["all, or auto"]),
        (["--target", "species", "--device", "tpu"], ["'tpu'", "cpu"]),
        (["--target", "species", "--learning-rate", "1e30", "--optimizer", "gd"],
         ["every start", "--learning-rate 1e+30; give a smaller one"]),
        (["--target", "species", "--metric", "speed"], ["validation_accuracy"]),
        (["--target", "species", "--id", "species"], ["--target and to --id"]),
        (["--target", "wet", "--ignore", "wet"], ["--target and to --ignore"]),
        (["--target", "species", "--early-stopping", "3", "--validation", "none"],
         ["--early-stopping uses", "--validation none holds out no rows", "--tol"]),
        (["--target", "species", "--n-iter-no-change", "3"],
         ["--n-iter-no-change has no effect without --tol"]),
    ],
)  # fmt: skip
def test_wrong_options_end_in_a_sentence(options, words, tmp_path, capsys) -> None:
    table = iris_csv(tmp_path)
    code = main(
        ["train", str(table), "--starts", "2", "--epochs", "2", *options,
         "--out", str(tmp_path / "o")]
    )  # fmt: skip
    said = capsys.readouterr().err
    assert code == 2
    for word in words:
        assert word in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b\n1,x\n2,x\n", ["--target", "b"], ["only one class, 'x'"]),
        ("a,b\n1,x\n2,y\n3,z\n", ["--target", "b"],
         ["3 different values in 3 rows", "no value occurs twice"]),
        ("a;b\n" + "".join(f"{i + 1},500;{i % 2}\n" for i in range(30)),
         ["--target", "b"], ["'a'", "--decimal ,", "--decimal ."]),
        ("a;b\n" + "".join(f"{i};{i + 1},250\n" for i in range(30)),
         ["--target", "b"], ["'b'", "--decimal ,", "--decimal ."]),
        ("a,b\n" + "".join(f"{i},2024-01-{i + 1:02}\n" for i in range(30)),
         ["--target", "b"], ["'b'", "cannot be predicted", "another target"]),
        ("a,b\n1,1\n1,2\n1,1\n1,2\n", ["--target", "b"], ["no column is left"]),
        ("a,b\n1,\n2,\n", ["--target", "b"], ["no value"]),
        (
            "t,b\n" + "".join(f"w{i},{i % 2}\n" for i in range(30)),
            ["--target", "b"],
            ["'t'", "all 30 values different", "--ignore", "--id"],
        ),
        ("t,b\n" + "".join(f"{i},w{i}\n" for i in range(300)), ["--target", "b"],
         ["300 different"]),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_learned_from(text, options, words, tmp_path, capsys):
    (tmp_path / "t.csv").write_text(text)
    code = main(
        ["train", str(tmp_path / "t.csv"), *options, "--out", str(tmp_path / "o")]
    )
    said = capsys.readouterr().err
    assert code == 2
    for word in words:
        assert word in said


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [f"{i / 7},{'x' if i % 2 else 'y'}" for i in range(40)]
    lines[5] = "0.3,"
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
    code = ran("train", str(tmp_path / "t.csv"), "--target", "b", "--starts", "2",
               "--epochs", "2", "--out", str(tmp_path / "o"))  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert (result["rows"], result["rows_without_target"]) == (39, 1)
    assert result["warnings"][0] == "1 row without a target was left out"


def test_what_was_asked_for_in_vain_is_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=60)
    lines = [f"{v},{'x' if i % 10 else 'y'}" for i, v in enumerate(values)]
    lines[7] = "0.3,rare"
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
    options = ["train", str(tmp_path / "t.csv"), "--target", "b", "--starts", "2",
               "--hidden", "2", "--epochs", "2", "--batch-size", "8"]  # fmt: skip
    more = ["--optimizer", "lbfgs", "--optimizer", "gd", "--out", str(tmp_path / "o")]
    assert ran(*options, *more) == 0
    said = json.loads((tmp_path / "o" / "result.json").read_text())["warnings"]
    assert any("1 class of one row alone (rare)" in line for line in said)
    assert any("lbfgs uses all rows" in x and "--batch-size" in x for x in said)
    # What stands there anyway is foretold without looking at the features.
    assert any("the verdicts mean little" in line for line in said)
    assert ran(*options, "--diagnose", "0", "--out", str(tmp_path / "p")) == 0
    result = json.loads((tmp_path / "p" / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert result["settings"][0]["verdicts"] == {}
    assert not any("verdicts" in line for line in result["warnings"])
    rows = pd.read_parquet(tmp_path / "p" / "starts.parquet")
    assert "verdict" not in rows
    assert "--diagnose explains why" in (
        tmp_path / "p" / "report.html"
    ).read_text() or (result["settings"][0]["short"] == 0)


def test_a_score_that_no_start_has_is_told(tmp_path: Path, capsys) -> None:
    """R^2 of one row held out is not defined; the loss is."""
    lines = "\n".join(f"{i / 3},{(i * 7 % 5) / 2}" for i in range(12))
    (tmp_path / "t.csv").write_text(f"a,b\n{lines}\n")
    options = ["train", str(tmp_path / "t.csv"), "--target", "b", "--starts", "2",
               "--task", "regression", "--epochs", "2", "--validation", "folds=12"]  # fmt: skip
    assert main([*options, "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    assert "validation_r2 is not defined for any start" in said
    assert "--metric validation_loss" in said
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert result["metric"] == "validation_loss"
    more = ["--metric", "validation_loss", "--out", str(tmp_path / "p")]
    assert ran(*options, *more) == 0


def test_features_of_a_table(tmp_path: Path) -> None:
    text = "n,k,c,flag,e\n1,a,7,yes,\n,b,7,no,\n3,,7,,\n5,a,7,yes,\n"
    (tmp_path / "t.csv").write_text(text)
    table = read(str(tmp_path / "t.csv"))
    features = Features.of_table(table)
    assert features.labels == ["n", "k=a", "k=b", "flag=no", "flag=yes"]
    numbers = np.array([1.0, 3.0, 3.0, 5.0])  # the median fills the hole
    expected = (numbers - numbers.mean()) / numbers.std()
    found = features.encoded(table)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)
    np.testing.assert_array_equal(found[:, 1:3], [[1, 0], [0, 1], [1, 0], [1, 0]])
    again = Features.restored(json.loads(json.dumps(features.described())))
    np.testing.assert_array_equal(again.encoded(table), found)
    (tmp_path / "u.csv").write_text("n,k,flag\n2,z,yes\n")
    with pytest.raises(InvalidValueError, match="'z'.*not.*trained with"):
        features.encoded(read(str(tmp_path / "u.csv")))
    (tmp_path / "v.csv").write_text("n\n2\n")
    with pytest.raises(InvalidValueError, match="lacks 2 of the 3"):
        features.encoded(read(str(tmp_path / "v.csv")))


@pytest.mark.parametrize(
    ("cells", "task", "expected"),
    [
        ("0 1 0 1", "auto", (0, 1)),
        ("yes no no yes", "auto", ("no", "yes")),
        ("0.5 1 2.5 3", "auto", ()),
        ("0 1 0 1", "regression", ()),
        ("0.5 1 1 0.5", "classification", (0.5, 1.0)),
        (" ".join(str(i) for i in range(30)), "auto", ()),
    ],
)
def test_what_kind_of_target_a_column_is(cells, task, expected, tmp_path) -> None:
    (tmp_path / "t.csv").write_text("b\n" + cells.replace(" ", "\n") + "\n")
    column = read(str(tmp_path / "t.csv")).column("b")
    target, values = Target.of_column(column, task)
    assert target.classes == expected
    assert np.isfinite(values).all()


def test_json_alone_on_standard_output(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "descents", "train", "-", "--target", "b", "--starts", "2",
         "--epochs", "2", "--json", "--out", str(tmp_path / "o")],
        input="a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(20)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--validation", "none"], "No rows were held out"),
        (
            ["--early-stopping", "2"],
            "--early-stopping used the held-out rows to choose",
        ),
        ([], None),
    ],
)
def test_scores_that_are_too_good_are_named_so(
    options, words, tmp_path, capsys
) -> None:
    table, out = iris_csv(tmp_path), tmp_path / "run"
    code = main(
        ["train", str(table), "--target", "species", "--starts", "3", "--epochs", "9",
         "--learning-rate", "0.1", "--hidden", "8", "--diagnose", "0", *options, "--out",
         str(out)]
    )  # fmt: skip
    assert code == 0
    said = " ".join(capsys.readouterr().out.split())
    page = (out / "report.html").read_text()
    for sentence in (
        "No rows were held out",
        "--early-stopping used the held-out rows",
    ):
        expected = words is not None and words.startswith(sentence)
        assert (sentence in said) == (sentence in page) == expected
    chosen = "because these rows chose the start" in said
    assert chosen == ("none" not in options)


def test_the_sign_of_a_difference_is_told(
    run: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table, other = run.parent / "iris.csv", tmp_path / "other"
    code = ran(
        "train", str(table), "--target", "species", "--starts", "12", "--hidden", "8",
        "--validation", "folds=3", "--epochs", "2", "--diagnose", "0", "--out", str(other),
    )  # fmt: skip
    assert code == 0
    rows = [pd.read_parquet(one / "starts.parquet") for one in (run, other)]
    first = rows[0][rows[0]["setting"] == "kaiming"]
    for metric, better in (("validation_accuracy", "higher"), ("loss", "lower")):
        assert main(["compare", str(run), str(other), "--metric", metric]) == 0
        said = capsys.readouterr().out
        gap = first[metric].mean() - rows[1][metric].mean()
        assert (gap > 0) == (better == "higher"), "the first run is the better one"
        match = re.match(
            rf"{run.name}:kaiming is better than other by ([0-9.]+) ", said
        )
        assert match, said
        assert float(match[1]) == pytest.approx(abs(gap), rel=0.1)
        assert (", where lower is better (95% interval" in said) == (better == "lower")


def test_which_option_matters(run: Path, tmp_path: Path, capsys) -> None:
    """By the rows of starts.parquet, and no setting is lost where another fails."""
    result = json.loads((run / "result.json").read_text())
    (effect,) = result["effects"]
    rows = pd.read_parquet(run / "starts.parquet")
    means = rows.groupby("setting")["validation_accuracy"].mean()
    assert effect["parameter"] == "initialization"
    for level in effect["levels"]:
        assert level["mean"] == pytest.approx(means[level["value"]], rel=1e-12)
    gap = (means["kaiming"] - means["zero"]) / 2
    assert effect["levels"][0]["difference"] == pytest.approx(gap, rel=1e-12)
    assert effect["p_adjusted"] < 0.01
    assert "Which option matters?" in (run / "report.html").read_text()
    out = tmp_path / "wild"
    code = main(
        ["train", str(iris_csv(tmp_path)), "--target", "species", "--starts", "3",
         "--epochs", "3", "--optimizer", "gd", "--learning-rate", "0.1",
         "--learning-rate", "1e30", "--out", str(out)]
    )  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    assert "every start of the setting learning rate 1e+30 failed" in said
    result = json.loads((out / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert result["best"]["setting"] == "learning rate 0.1"
    wild = result["settings"][1]
    assert wild["metric"]["mean"] is None
    assert wild["metric"]["success"]["share"] == 0
    assert wild["verdicts"] == {"non-finite": 3}
    assert result["effects"] == []
    assert any("two are needed" in line for line in result["warnings"])
    assert "not known" in (out / "report.html").read_text()


def test_verdicts_stand_in_the_rows_and_are_kept_for_a_resume(
    run: Path, tmp_path: Path, monkeypatch
) -> None:
    result = json.loads((run / "result.json").read_text())
    rows = pd.read_parquet(run / "starts.parquet")
    for setting in result["settings"]:
        found = rows[rows["setting"] == setting["name"]]["verdict"].value_counts()
        left = setting["short"] - setting["diagnosed"]
        assert found.get("not diagnosed", 0) == left
        assert {w: n for w, n in found.items() if w != "not diagnosed"} == setting[
            "verdicts"
        ]
    table, out = iris_csv(tmp_path), tmp_path / "o"
    options = ["train", str(table), "--target", "species", "--starts", "4",
               "--hidden", "4", "--epochs", "3", "--out", str(out)]  # fmt: skip

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("descents.pages.page.draw", interrupted)
    assert ran(*options) == 130
    monkeypatch.undo()

    def forbidden(*_, **__):
        raise AssertionError("diagnosed again")

    monkeypatch.setattr(descents.MLPStartsClassifier, "diagnose", forbidden)
    assert ran(*options, "--resume") == 0
    monkeypatch.undo()
    again = pd.read_parquet(out / "starts.parquet")
    assert ran(*options[:-1], str(tmp_path / "whole")) == 0
    whole = pd.read_parquet(tmp_path / "whole" / "starts.parquet")
    pd.testing.assert_frame_equal(
        again.drop(columns="seconds"), whole.drop(columns="seconds")
    )


def test_a_run_of_another_command_is_not_compared(run: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"run": {"command": "factorize"}}')
    with pytest.raises(descents.DescentsError, match="no run of 'descents train'"):
        compare_runs(run, tmp_path)


@pytest.mark.slow
def test_max_seconds_keeps_what_is_finished(tmp_path: Path, capsys) -> None:
    table = iris_csv(tmp_path)
    out = tmp_path / "o"
    code = main([*options_of(table, out), "--max-seconds", "0.001"])
    assert code == 3
    assert "continue with --resume" in capsys.readouterr().err
    assert ran(*options_of(table, out), "--resume") == 0


def test_rates_that_print_alike_are_settings_of_their_own(tmp_path: Path) -> None:
    rates = ["0.01", "0.010000001", "0.010000002"]
    options = [x for rate in rates for x in ("--learning-rate", rate)]
    out = tmp_path / "o"
    assert ran("train", str(iris_csv(tmp_path)), "--target", "species", "--starts", "2",
               "--epochs", "2", "--diagnose", "0", *options, "--out", str(out)) == 0  # fmt: skip
    result = json.loads((out / "result.json").read_text())
    names = [s["name"] for s in result["settings"]]
    assert names == [f"learning rate {rate}" for rate in rates]
    assert pd.read_parquet(out / "starts.parquet")["setting"].nunique() == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--init", "bad", "--optimizer", "o", "--validation", "2"],
            ["--init is 'bad'", "--optimizer is 'o'", "--validation is '2'"],
        ),
        (["--target", "nobody", "--weights", "nothing"], ["'nobody'", "'nothing'"]),
    ],
)
def test_several_wrong_options_are_named_at_once(
    options: list[str],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,y\n" + "1,2,u\n2,1,v\n3,5,u\n" * 4)
    run = ["train", str(table), "--target", "y", "--out", str(tmp_path / "run")]
    assert main([*run, *options]) != 0
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
