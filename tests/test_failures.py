"""Starts that fail, metrics that are not defined, and which direction is better."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from conftest import slow, some
from descents import (
    EarlyStopping,
    Folds,
    MLPStartsClassifier,
    MLPStartsRegressor,
    SweepResult,
    sweep,
)
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.networks import sweep_result as sweeps
from descents.runs import network_summary as train
from descents.statistics import metrics
from descents.statistics import summaries as statistics
from descents.statistics.variance import crossed_variances

RNG = np.random.default_rng
SCHEMA = Path(__file__).parents[1] / "docs" / "train.schema.json"
NAN = np.nan


@dataclass
class Told:
    """A model that has a table of metrics and nothing else."""

    found: dict[str, list[float]]
    lost: list[bool]
    problem_: object = None

    def metric_names(self) -> list[str]:
        return list(self.found)

    def values(self, metric: str) -> np.ndarray:
        return np.where(self.lost, NAN, self.found[metric])

    def failed(self, metric: str | None = None) -> np.ndarray:
        return np.array(self.lost)


def study(metric: str, *rows: list[float]) -> SweepResult:
    """Return a study of settings, a NaN for a start that failed."""
    models = [Told({metric: row}, np.isnan(row).tolist()) for row in rows]
    names = tuple(f"s{k}" for k in range(len(rows)))
    return SweepResult(
        tuple({"s": k} for k in range(len(rows))), names, tuple(models), metric
    )


# Directions


@pytest.mark.parametrize(
    ("kind", "higher"),
    [
        ("accuracy", True), ("balanced_accuracy", True), ("f1", True), ("roc_auc", True),
        ("r2", True), ("loss", False), ("log_loss", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rows", ["training_", "validation_", ""])
def test_each_metric_has_its_direction(kind: str, higher: bool, rows: str) -> None:
    assert metrics.higher_is_better(rows + kind) is higher
    assert EarlyStopping(rows + kind).higher_is_better is higher
    good, bad = [0.3, 0.31, 0.32], [0.5, 0.51, 0.52]
    found = study(rows + kind, good, bad)
    assert found.higher_is_better is higher
    assert found.best == int(higher)
    ((other, comparison, _),) = found.compared()
    assert other == 1 - found.best
    assert comparison.probability_of_improvement == 1


def test_what_has_no_direction_is_refused() -> None:
    for name in ("seconds", "epochs", "dead_units", "gradient_norm", "best_epoch"):
        assert not metrics.higher_is_better(name)
    with pytest.raises(
        InvalidValueError, match="'my_own', for which it is unknown whether"
    ):
        metrics.higher_is_better("my_own")
    # Early stopping on an own metric waits for a lower one, unless it is told.
    assert EarlyStopping("my_own").higher_is_better is False
    assert EarlyStopping("my_own", higher_is_better=True).higher_is_better is True


def test_every_metric_of_an_estimator_has_a_direction() -> None:
    for kind in (MLPStartsClassifier, MLPStartsRegressor):
        model = kind(validation=0.3, early_stopping=3)
        assert all(metrics.has_direction(name) for name in model.metric_names())


def test_another_metric_is_compared_in_its_own_direction() -> None:
    """Counted by hand; either metric may be that of the study."""
    X = RNG(0).normal(size=(90, 3))
    y = X[:, 0] > 0
    model = MLPStartsClassifier(
        n_starts=8, max_epochs=30, random_state=0, validation=0.33
    )
    for judge in ("validation_accuracy", "validation_loss"):
        found = sweep(model, {"learning_rate": [0.001, 0.05]}, X, y, metric=judge)
        for metric, sign in (("validation_accuracy", 1), ("validation_loss", -1)):
            values = sign * found.values(metric)
            gap = values[found.best] - values[1 - found.best]
            by_hand = ((gap > 0) + (gap == 0) / 2).mean()
            ((_, told, _),) = found.compared(metric)
            assert told.probability_of_improvement == pytest.approx(by_hand)
            assert told.difference == pytest.approx(sign * gap.mean())


def test_values_on_the_threshold_reach_it() -> None:
    for n in (30, 50, 100, 150):
        shares = np.arange(n + 1) / n
        for best in shares[n // 5 :]:
            exact = np.round(best * n) - n * 0.02
            expected = np.arange(n + 1) >= exact - 1e-6
            found = statistics.reaches(shares, best - 0.02)
            np.testing.assert_array_equal(found, expected)
            lower = statistics.reaches(
                1 - shares, 1 - best + 0.02, higher_is_better=False
            )
            np.testing.assert_array_equal(lower, expected)


# Failures


@pytest.mark.parametrize("metric", ["validation_accuracy", "validation_r2", "loss"])
def test_a_setting_is_ranked_with_its_failures(metric: str) -> None:
    sign = 1 if metrics.higher_is_better(metric) else -1
    steady = (0.5 - sign * 0.1 + RNG(0).uniform(0, 0.01, 40)).tolist()
    survivors = [0.5 + sign * 0.4] * 4 + [NAN] * 36
    nearly = [0.5 + sign * 0.3] * 39 + [NAN]
    gone = [NAN] * 40
    found = study(metric, gone, survivors, steady, nearly)
    assert found.ranked == [3, 2, 1, 0]
    np.testing.assert_array_equal(found.failed().sum(1), [40, 36, 0, 1])
    summaries = found.summaries()
    assert summaries[0] is None
    assert [(s.count, s.failed) for s in summaries[1:]] == [(4, 36), (40, 0), (39, 1)]
    # Failed starts are as bad as the worst, or worse.
    counted = found.counted_values()
    known = counted[np.isfinite(found.values())]
    assert ((sign * counted[1, 4:]) <= (sign * known).min()).all()
    sentences = found.warnings()
    assert len(sentences) == 2
    assert "every start of the setting s0 failed" in sentences[0]
    assert "36 of 40 starts of the setting s1 failed" in sentences[1]
    compared = {other: one for other, one, _ in found.compared()}
    assert set(compared) == {1, 2}
    assert (compared[1].first_count, compared[1].second_failed) == (4, 36)
    # 35 pairs in which the other alone failed, one in which both did, and four that it
    # won by its value.
    assert compared[1].probability_of_improvement == pytest.approx(35.5 / 40)


def test_start_means_by_hand() -> None:
    table = np.array(
        [[0.5, NAN, 0.7], [0.9, NAN, -np.inf], [0.2, NAN, 0.4], [0.1, 0.2, 0.3]]
    )
    failed = np.zeros_like(table, dtype=bool)
    failed[2, 0] = failed[3, 1] = True
    means, lost = statistics.start_means(table, failed)
    np.testing.assert_allclose(means, [0.6, NAN, NAN, NAN])
    np.testing.assert_array_equal(lost, [False, True, True, True])
    none = statistics.start_means(np.full((2, 2), NAN), np.zeros((2, 2)))
    assert np.isnan(none[0]).all()
    assert not none[1].any()


def test_splits_without_a_value_do_not_hide_the_variances() -> None:
    table = RNG(1).normal(size=(6, 3))
    with_gap = np.insert(table, 1, NAN, axis=1)
    assert crossed_variances(with_gap) == crossed_variances(table)
    assert crossed_variances(np.full((4, 2), NAN))["starts"] is None


@pytest.mark.filterwarnings("ignore:overflow")
def test_many_failed_starts_warn_in_python() -> None:
    X = RNG(0).normal(size=(60, 2))
    y = X[:, 0] + RNG(1).normal(size=60)
    rates = [0.01] * 8 + [1e30] * 2
    model = MLPStartsRegressor(
        n_starts=10, optimizer="gd", learning_rate=rates, max_epochs=5, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="^2 of 10 starts failed"):
        model.fit(X, y)
    np.testing.assert_array_equal(np.flatnonzero(model.failed()), [8, 9])
    found = model.interval()
    assert (found.count, found.failed) == (8, 2)
    model.set_params(learning_rate=[0.01] * 9 + [1e30]).fit(X, y)  # a tenth: no warning
    assert model.interval().failed == 1


def survivors(folder: Path) -> Path:
    """Write a table on which most starts of a high rate overflow."""
    rng = RNG(3)
    X = rng.normal(size=(80, 4)) * [1, 3, 10, 1]
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["y"] = X @ [1, 0.5, 0.2, 0] + rng.standard_t(2, 80)
    frame.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow")
def test_both_counts_are_said_everywhere(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = survivors(tmp_path)
    common = ["train", str(table), "--target", "y", "--task", "regression", "--starts", "24",
              "--epochs", "40", "--hidden", "16", "--optimizer", "gd", "--batch-size", "all",
              "--diagnose", "0"]  # fmt: skip
    low, high = ["--learning-rate", "0.005"], ["--learning-rate", "0.62"]
    assert main([*common, *low, *high, "--out", str(tmp_path / "both")]) == 0
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "both" / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    wild = result["settings"][1]["metric"]
    assert 12 < wild["failed"] < 24, "the table is to make most starts fail"
    assert wild["count"] == 24 - wild["failed"]
    assert result["best"]["setting"] == "0.005"
    assert wild["mean_with_failures"] < wild["mean"]
    counts = f"{wild['failed']} of 24"
    assert counts in said
    sentence = f"{counts} starts of the setting 0.62 failed"
    assert sentence in said
    page = (tmp_path / "both" / "report.html").read_text()
    assert sentence in page
    assert f'<td class="n">{counts}</td>' in page
    (compared,) = result["compared"]
    assert compared["counts"] == [wild["count"]] * 2
    assert compared["failed"] == [0, wild["failed"]]
    assert f"from {wild['count']} of 24 starts" in said
    assert result["effects"] == [] or result["effects"][0]["count"] == wild["count"]
    for name, rate in (("low", low), ("high", high)):
        assert main([*common, *rate, "--quiet", "--out", str(tmp_path / name)]) == 0
    needed = json.loads((tmp_path / "high" / "result.json").read_text())[
        "starts_needed"
    ]
    assert needed["count"] is None or needed["count"] >= 24 / wild["count"]
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "high"), str(tmp_path / "low")]) == 0
    said = capsys.readouterr().out
    assert f"of {wild['count']} of 24 starts of {tmp_path / 'high'}" in said
    assert f"{counts} starts of {tmp_path / 'high'} (kaiming) failed" in said
    assert (
        main(["compare", str(tmp_path / "high"), str(tmp_path / "low"), "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["starts"], found["failed"]) == ([24, 24], [wild["failed"], 0])
    assert found["probability_of_improvement"] < 0.5


# What is not defined


def rare(folder: Path, where: str) -> Path:
    """Write a table whose target is zero but in three rows: held out, or learned from."""
    from descents import HoldOut

    rows = np.arange(60)
    training = HoldOut(0.33).splits(np.zeros(60), 0)[0]
    chosen = training if where == "training" else np.setdiff1d(rows, training)
    frame = pd.DataFrame(RNG(0).normal(size=(60, 2)), columns=["a", "b"])
    frame["y"] = 0.0
    frame.loc[chosen[:3], "y"] = [120.5, 80.0, 310.0]
    frame.to_csv(folder / "claims.csv", index=False)
    return folder / "claims.csv"


@pytest.mark.parametrize("where", ["held-out", slow("training")])
@pytest.mark.parametrize("metric", some([None, "validation_r2", "training_r2"], 1))
def test_a_target_that_does_not_vary_is_carried_to_the_end(
    where: str,
    metric: str | None,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    table, out = rare(tmp_path, where), tmp_path / "out"
    options = ["train", str(table), "--target", "y", "--task", "regression", "--starts", "3",
               "--epochs", "3", "--learning-rate", "0.01", "--learning-rate", "0.02",
               "--diagnose", "1", "--out", str(out)]  # fmt: skip
    options += [] if metric is None else ["--metric", metric]
    assert main(options) == 0
    said = capsys.readouterr().out
    assert "nan" not in said.lower().replace("infinite or nan", "")
    result = json.loads((out / "result.json").read_text(), parse_constant=pytest.fail)
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    none = "training_r2" if where == "held-out" else "validation_r2"
    assert any(line.startswith(f"{none} is not defined") for line in result["warnings"])
    assert f"{none} is not defined" in said
    known = result["settings"][0]["metric"]["mean"] is not None
    assert known is (metric != none)
    if metric is None and where == "training":
        assert result["metric"] == "validation_loss"
    assert main([*options, "--resume"]) == 0
    assert main(["report", str(out)]) == 0
    assert main(["compare", str(out), str(out)]) == 0
    said = capsys.readouterr().out
    assert ("is not defined for any start of" in said) is (not known)
    rows = pd.read_parquet(out / "starts.parquet")
    assert rows[none].isna().all()
    assert rows["loss"].notna().all()


def test_splits_without_a_score_are_left_out_in_compare_as_in_train(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = rare(tmp_path, "training")
    options = ["train", str(table), "--target", "y", "--task", "regression", "--starts", "4",
               "--epochs", "3", "--validation", "folds=5", "--diagnose", "0"]  # fmt: skip
    for seed in ("0", "1"):
        assert main([*options, "--seed", seed, "--out", str(tmp_path / seed)]) == 0
    rows = pd.read_parquet(tmp_path / "0" / "starts.parquet")
    undefined = rows.groupby("split")["validation_r2"].apply(lambda x: x.isna().all())
    assert 0 < undefined.sum() < 5, "the table is to have splits of both kinds"
    capsys.readouterr()
    assert main(["compare", *(str(tmp_path / s) for s in "01"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    means = []
    for seed in "01":
        rows = pd.read_parquet(tmp_path / seed / "starts.parquet")
        means.append(rows.groupby("start")["validation_r2"].mean().mean())
        result = json.loads((tmp_path / seed / "result.json").read_text())
        assert result["settings"][0]["metric"]["mean"] == pytest.approx(means[-1])
        assert result["variance"]["starts"] is not None
    assert found["means"] == pytest.approx(means)
    assert found["difference"] == pytest.approx(means[0] - means[1])


def test_an_undefined_score_in_python() -> None:
    X = RNG(0).normal(size=(12, 2))
    model = MLPStartsRegressor(
        n_starts=3, max_epochs=2, validation=Folds(12), random_state=0
    )
    grid = {"learning_rate": [0.01, 0.02]}
    with pytest.warns(UserWarning, match="validation_r2 is not defined for any start"):
        found = sweep(model, grid, X, X[:, 0])
    assert found.metric == "validation_loss"
    with pytest.warns(UserWarning, match="validation_r2 is not defined for any start"):
        asked = sweep(model, grid, X, X[:, 0], metric="validation_r2")
    assert np.isnan(asked.values()).all()
    assert not asked.failed().any()
    assert asked.ranked == found.ranked
    assert asked.summaries() == [None, None]
    assert asked.compared() == []
    assert asked.warnings() == []
    with pytest.raises(InvalidValueError, match="validation_r2 is not defined for any"):
        asked.effects()
    told = asked.best_model.interval()
    assert (told.count, told.failed) == (0, 0)
    assert np.isnan(told.mean)
    assert asked.best_model.variance()["starts"] is None


def test_one_class_among_the_held_out_rows_is_carried() -> None:
    X = RNG(0).normal(size=(40, 2))
    y = np.array(["u"] * 36 + ["v"] * 4)
    model = MLPStartsClassifier(
        n_starts=2, max_epochs=2, validation=Folds(4), random_state=0
    )
    with pytest.warns(UserWarning, match="always predicting 'u': .* 0.9000"):
        model.fit(X, y)
    assert np.isfinite(model.values()).all()


# What is said of it, and how near the best is near


def test_divisions_that_do_not_define_a_metric_are_counted() -> None:
    draw = RNG(0)
    X, y = draw.normal(size=(60, 2)), np.zeros(60)
    y[[3, 7]] = 4.0, 5.0
    model = MLPStartsRegressor(
        n_starts=3, max_epochs=3, validation=Folds(5), random_state=0
    )
    with pytest.warns(UserWarning, match="validation_r2 is not defined on") as told:
        model.fit(X, y)
    splits = model.problem_.batches.splits
    flat = sum(len(np.unique(np.delete(y, rows))) == 1 for rows in splits)
    assert 0 < flat < 5
    assert model.undefined_splits() == flat
    assert model.undefined_splits("validation_loss") == 0
    expected = f"on {flat} of 5 splits of the rows, because the target does not vary"
    assert any(expected in str(one.message) for one in told)
    with pytest.warns(
        UserWarning, match="y is 1 in all rows|is not defined for"
    ) as told:
        model.fit(X, np.ones(60))
    assert any(
        "validation_r2 is not defined for any start" in str(w.message) for w in told
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_a_loss_near_the_best_is_measured_in_that_of_a_constant(weighted: bool) -> None:
    """Numbers succeed by loss where they do by R^2; a share of a loss near 0 is nothing."""
    draw = RNG(1)
    X = draw.normal(size=(80, 2))
    weights = draw.integers(1, 5, 80).astype(float) if weighted else None
    y = X @ [1.0, 2.0]
    model = MLPStartsRegressor(n_starts=6, max_epochs=60, random_state=0)
    model.fit(X, y, sample_weight=weights)
    constant = sweeps.constant_loss(model, "loss")
    center = np.average(y, weights=weights)
    by_hand = np.average((y - center) ** 2, weights=weights)
    assert constant == pytest.approx(by_hand, rel=1e-12)
    losses, scores = model.values("loss"), model.values("training_r2")
    near = losses <= train.success_threshold(losses, False, constant)
    np.testing.assert_array_equal(near, scores >= train.success_threshold(scores, True))
    assert 0 < near.sum() < 6
    close = np.array([1e-9, 3e-9, 0.5])
    assert (close <= train.success_threshold(close, False, constant)).sum() == 2
    labels = (y > 1).astype(int)
    chosen = MLPStartsClassifier(
        n_starts=1, max_epochs=2, class_weight={0: 1, 1: 3}, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen.fit(X, labels, sample_weight=weights)
    rows = np.ones(80) if weights is None else weights
    for metric, each in (
        ("loss", rows * np.where(labels, 3, 1)),
        ("training_log_loss", rows),
    ):
        shares = np.bincount(labels, each) / each.sum()
        expected = log_loss(
            labels, np.tile(shares, (80, 1)), sample_weight=each, labels=[0, 1]
        )
        found = sweeps.constant_loss(chosen, metric)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("starts", "warned"), [(5, True), (8, False)])
def test_settings_that_share_few_starts_are_warned_of(starts, warned, tmp_path) -> None:
    draw = RNG(0)
    frame = pd.DataFrame(draw.normal(size=(60, 2)), columns=["a", "b"])
    frame["y"] = np.where(frame["a"] > 0, "p", "q")
    frame.to_csv(tmp_path / "t.csv", index=False)
    code = main(
        ["train", str(tmp_path / "t.csv"), "--target", "y", "--starts", str(starts),
         "--epochs", "4", "--init", "kaiming", "--init", "normal", "--diagnose", "0",
         "--quiet", "--out", str(tmp_path / "o")]
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    told = [line for line in result["warnings"] if "settings are compared over" in line]
    assert len(told) == warned
    if warned:  # of 2**5 patterns of signs, two are as extreme as the one that is seen
        assert "no p-value can be below 0.062;" in told[0]
        assert result["compared"][0]["p_adjusted"] >= 2 / 2**5
