"""Sentences to quote: every number is one of the result, with decimals that it supports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import made_once
from descents.cli.main import main
from descents.text import decimals, rounded

RNG = np.random.default_rng
CALLS = {
    "split": ("--starts", "9"),
    "folds": ("--starts", "4", "--validation", "folds=4"),
    "one": ("--starts", "1"),
    "none": ("--starts", "3", "--validation", "none"),
    "loss": ("--starts", "3", "--metric", "loss", "--hidden", "3,2"),
    "rates": ("--starts", "4", "--learning-rate", "0.01", "--learning-rate", "0.02"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    def make(folder: Path) -> None:
        frame = pd.DataFrame(RNG(0).normal(size=(90, 3)), columns=list("abc"))
        frame["y"] = np.where(frame["a"] + frame["b"] > 0.3, "p", "q")
        frame.to_csv(folder / "t.csv", index=False)
        holes = frame.mask(RNG(1).random(frame.shape) < 0.1)
        holes.to_csv(folder / "holes.csv", index=False)
        for name, options in CALLS.items():
            code = main(
                ["train", str(folder / "t.csv"), "--target", "y", "--epochs", "4",
                 "--hidden", "3", "--diagnose", "0", "--quiet", *options,
                 "--out", str(folder / name)]
            )  # fmt: skip
            assert code == 0
        table = str(folder / "holes.csv")
        low_rank = ["--quiet", "--out", str(folder / "low-rank")]
        assert (
            main(["factorize", table, "--rank", "1", "--starts", "2", *low_rank]) == 0
        )
        filled = [
            str(folder / "filled.csv"),
            "--quiet",
            "--out",
            str(folder / "filled"),
        ]
        assert main(["impute", table, *filled]) == 0

    return made_once(tmp_path_factory, "quotes", make)


def result_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "result.json").read_text()))


def test_the_decimals_are_those_of_the_standard_error() -> None:
    sample = RNG(0).normal(0.95, 0.02, 100)
    places = decimals(stats.sem(sample))
    assert places == 3
    assert rounded(sample.mean(), places) == f"{sample.mean():.3f}"
    for error, expected in ((0.1, 1), (0.0999, 2), (0.001, 3), (0.00099, 4), (25, -1)):
        assert decimals(error) == expected
    assert decimals(None, 1 / 49) == 2
    assert decimals(float("nan")) is None


def test_one_split(runs: Path) -> None:
    result = result_of(runs / "split")
    metric = result["settings"][0]["metric"]
    rows = pd.read_parquet(runs / "split" / "starts.parquet")["validation_accuracy"]
    (held_out,) = result["held_out_rows"]
    assert ((rows * held_out).round(4) % 1 == 0).all(), "accuracies on that many rows"
    low, high = metric["interval"]
    k = decimals((high - low) / 4)
    assert k is not None
    assert result["quote"].startswith(
        f"Over 9 random initializations on one random split of 90 rows ({held_out} "
        "held-out rows), a network with one hidden layer of 3 units reached a mean "
        f"validation accuracy of {rows.mean():.{k}f} (95% CI {low:.{k}f} to {high:.{k}f}; "
        f"SD between starts {rows.std():.{k}f}), where always predicting the most "
        f"frequent class has {result['constant']:.{k}f}."
    )


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("folds", "Over 4 random initializations on each of 4 folds of 90 rows (22 to 23 held-out rows each)"),
        ("one", "reached a validation accuracy of 0."),
        ("none", "on all 90 rows, none of them held out, a network"),
        ("loss", "on one random split of 90 rows, a network with 2 hidden layers of 3 and 2 units reached a mean training loss"),
        ("rates", ", the best of 2 settings by these starts) reached"),
    ],
)  # fmt: skip
def test_what_was_measured(runs: Path, run: str, words: str) -> None:
    quote = result_of(runs / run)["quote"]
    assert words in quote
    assert ("CI" in quote) == (run != "one")


def test_one_start_has_the_decimals_of_one_row(runs: Path) -> None:
    result = result_of(runs / "one")
    found = re.search(r"accuracy of (0\.\d+),", result["quote"])
    assert found
    assert found[1] == f"{result['settings'][0]['metric']['mean']:.2f}"


def test_low_rank_models_are_quoted_by_held_out_cells(runs: Path) -> None:
    for run, observed in (("low-rank", True), ("filled", False)):
        result = result_of(runs / run)
        held_out = result["held_out"]
        k = decimals(held_out["standard_error"])
        assert (
            f"{held_out['cells']} observed cells that it had not seen"
            in result["quote"]
        )
        assert (
            f"with {held_out['relative_error']:.{k}f} of the error" in result["quote"]
        )
        assert f"standard error {held_out['standard_error']:.2g})" in result["quote"]
        if observed:
            assert (
                f"with {result['observed']} observed cells predicts" in result["quote"]
            )
            assert "A model of rank 1 (the best of 2 random" in result["quote"]
        else:
            cells = result["filled"]["cells"]
            assert result["quote"].startswith(f"{cells} missing cells in ")
