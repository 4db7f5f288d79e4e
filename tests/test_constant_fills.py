"""Columns that constants fill: their intervals, and what is said of them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from descents import LowRankModel
from descents.cli.main import main
from descents.lowrank.judged import Judged
from descents.marginal.held_out import ColumnScore
from descents.tables.datasets import planted_table


def noise(rows: int = 150) -> pd.DataFrame:
    """Return columns that say nothing about each other, with a fifth missing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(rows, 4)) * [1, 10, 1, 1], columns=list("abcd")
    )
    frame["count"] = rng.poisson(8, rows).astype(float)
    frame["label"] = rng.choice(["often", "rarely", "never"], rows, p=[0.7, 0.2, 0.1])
    return frame.mask(rng.random(frame.shape) < 0.2)


@pytest.mark.filterwarnings("ignore::UserWarning")  # nothing is predicted
def test_intervals_around_constants_are_calibrated_on_their_errors(tmp_path) -> None:
    frame = noise()
    model = LowRankModel(3, penalty={"l2": 0.01}, random_state=0, max_iter=100)
    model.fit(frame).calibrate(frame)
    assert model.judged_.constant.all()
    model.save(tmp_path / "m")
    for one in (model, LowRankModel.load(tmp_path / "m")):
        filled, found = one.impute(frame, return_interval=True, coverage=0.9)
        for j, name in enumerate("abcd"):
            lacking = frame[name].isna().to_numpy()
            half = (found.upper - found.lower)[lacking, j] / 2
            off = (frame[name] - frame[name].mean()).abs().dropna()
            # A fifth of the cells calibrates, about 24: the sample quantiles differ.
            low, high = np.quantile(off, [0.75, 1.0])
            assert low <= half.min() <= half.max() <= high
            assert filled[name][lacking].to_numpy() == pytest.approx(frame[name].mean())
        sets = found.sets[frame["label"].isna().to_numpy(), 5]
        assert all({"often", "rarely"} <= set(one) for one in sets)  # 90% of the cells
    assert model.calibration_.flat.all()


def test_intervals_of_columns_that_the_model_fills_are_of_its_errors() -> None:
    table = planted_table(200, 6, 2, noise=0.3, seed=1)[0]
    table = np.column_stack([table, np.random.default_rng(2).normal(size=200)])
    hidden = np.random.default_rng(3).random(table.shape) < 0.15
    shown = np.where(hidden, np.nan, table)
    model = LowRankModel(2, random_state=0).fit(shown).calibrate(shown)
    assert model.judged_.constant.tolist() == [False] * 6 + [True]
    with pytest.warns(UserWarning, match="filled with the mean"):
        _, found = model.impute(shown, return_interval=True, coverage=0.9)
    half = (found.upper - found.lower) / 2
    spread = np.nanstd(shown, 0)
    assert np.nanmin(half[:, 6]) > 1.3 * spread[6]
    inside = (found.lower <= table) & (table <= found.upper)
    assert 0.82 < inside[hidden].mean() < 0.97


def run(frame: pd.DataFrame, folder: Path, rank: str) -> dict:
    frame.to_csv(folder / "t.csv", index=False)
    out = folder / "run"
    fit = ["factorize", str(folder / "t.csv"), "--rank", rank, "--out", str(out)]
    assert main(fit) == 0
    return json.loads((out / "result.json").read_text())


def test_the_command_says_that_constants_fill_all_columns(tmp_path, capsys) -> None:
    frame = noise().drop(columns=["count", "label"])
    result = run(frame, tmp_path, "2")
    assert {one["filled_by"] for one in result["columns"]} == {"constant"}
    says = result["held_out"]["says"]
    assert "the model is not clearly better than the best constants" in says
    assert "missing cells of all columns are filled with these" in says
    assert "is 1 of that" not in says
    page = (tmp_path / "run" / "report.html").read_text()
    for text in (capsys.readouterr().out, page):
        assert says in text
    assert "unless the model is better in it by more than two standard errors" in page


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (
            12.0,
            "the model is worse than the best constants: its error is 12 times theirs",
        ),
        (
            1.004,
            "not clearly better than the best constants: its error is 1 times theirs",
        ),
        (
            0.98,
            "not clearly better than the best constants: its error is 0.98 of theirs",
        ),
    ],
)
def test_it_says_by_how_much_the_model_is_worse(size: float, says: str) -> None:
    score = ColumnScore(60, size, 1.0, size - 1, 0.01)
    flat, none = np.ones(2, dtype=bool), np.zeros(2, dtype=np.int64)
    judged = Judged(none, (score,) * 2, flat, np.zeros(2), 120, 1.0, 0.0, size, 0.002)
    assert says in judged.overall()["says"]
    warned = judged.says(["a", "b"], flat)
    assert ("worse than constants, with 12 times their error" in warned) == (size == 12)


def test_columns_that_the_model_fills_in_vain_are_listed(tmp_path, capsys) -> None:
    rng = np.random.default_rng(0)
    table = planted_table(120, 6, 2, noise=0.4, seed=1)[0]
    table = np.where(rng.random(table.shape) < 0.15, np.nan, table)
    few = rng.normal(size=120)
    few[14:] = np.nan
    frame = pd.DataFrame(np.column_stack([table, few]), columns=[*"abcdef", "few"])
    result = run(frame, tmp_path, "2")
    column = result["columns"][-1]
    assert column["unseen"] <= 0
    assert column["filled_by"] == "model"
    said = "Not predicted better than by a constant, but filled by the model: 'few'"
    assert said in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "run" / "report.html").read_text()
    assert (
        "does not predict their held-out cells better than the constant: few." in page
    )


def test_a_model_that_equals_the_constants_is_warned_of() -> None:
    """Each column has too few cells to be judged, but the table has enough."""
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(14, 30))
    wide[rng.random(wide.shape) < 0.2] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LowRankModel(1, random_state=0).fit(wide)
        model.impute(wide)
    assert max(score.cells for score in model.scores_.values()) < 20
    assert model.judged_.model_error >= 0.999999
    says = " ".join(str(one.message) for one in caught)
    flat = model.judged_.constant.any()
    assert ("the model as a whole predicts" in says) != flat
