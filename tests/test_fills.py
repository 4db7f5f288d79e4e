"""What is said of fills outside the range of their column, and of those held to it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import slow
from descents import LowRankModel
from descents.cli.main import main

NONNEGATIVE = ("squared", "kl", "itakura_saito", "beta:0.5")
FREE = ("absolute", "huber", "quantile", "poisson")


def holed(loss: str) -> np.ndarray:
    """Return counts of so few cells that rank 6 without a penalty runs away."""
    draw = np.random.default_rng(0)
    table = draw.gamma(2, 1, (30, 4)) @ draw.gamma(2, 1, (4, 12))
    table = draw.poisson(table).astype(float) + (loss == "itakura_saito")
    table[draw.random(table.shape) < 0.5] = np.nan
    return table


def by_a_loop(table: np.ndarray, filled: np.ndarray) -> tuple[int, int]:
    """Return how many fills are outside by more than the range, and the worst column."""
    count, worst, column = 0, 0.0, -1
    for j in range(table.shape[1]):
        seen = [x for x in table[:, j] if not np.isnan(x)]
        low, high = min(seen), max(seen)
        for i in range(len(table)):
            if np.isnan(table[i, j]):
                away = max(low - filled[i, j], filled[i, j] - high) / (high - low)
                count += away > 1
                if away > worst:
                    worst, column = away, j
    return count, column


@pytest.mark.parametrize(
    "loss",
    [slow(x) if x in ("huber", "quantile") else x for x in NONNEGATIVE + FREE],
)
@pytest.mark.sampled(3)
def test_fills_far_outside_are_warned_of(loss: str, tmp_path: Path) -> None:
    table = holed(loss)
    constraint = "nonnegative" if loss in NONNEGATIVE else None
    model = LowRankModel(
        6,
        loss=loss,
        constraint=constraint,
        penalty={"l2": 0.0},
        held_out=0,  # by which such columns are filled with constants
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(table)
    said = [str(one.message) for one in told if "outside" in str(one.message)]
    codes = np.column_stack(model.fitted_.codes_of(np.arange(30)))
    count, column = by_a_loop(table, codes)
    assert count > 0
    assert len(said) == 1
    assert said[0].startswith(
        f"{count} missing cell{'s are' if count > 1 else ' is'} predicted far outside"
    )
    assert f" in x{column}, whose observed cells lie between " in said[0]
    assert "--penalty l2=auto" in said[0]
    assert "penalty='auto'" in said[0]
    model.save(tmp_path / "m")
    for one in (model, LowRankModel.load(tmp_path / "m")):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            filled = one.impute(table)
        says = [str(warning.message) for warning in told]
        count, column = by_a_loop(table, filled)
        assert says[0].startswith(f"{count} missing cell")
        assert f"x{column}," in says[0]


def test_a_penalty_is_the_remedy() -> None:
    model = LowRankModel(2, penalty=30.0, random_state=0)
    model.fit(holed("squared"))  # warnings are errors
    model.impute(holed("squared"))


def test_a_fit_without_noise_is_not_warned_of() -> None:
    draw = np.random.default_rng(0)
    table = np.outer(draw.normal(size=20), draw.normal(size=8))
    table[draw.random(table.shape) < 0.2] = np.nan
    model = LowRankModel(1, offsets="none", random_state=0).fit(table)
    assert np.isfinite(model.impute(table)).all()


def test_a_constant_column_is_not_warned_of_for_rounding() -> None:
    draw = np.random.default_rng(0)
    table = np.column_stack([draw.normal(size=(20, 3)), np.full(20, 7.0)])
    table[3, 3] = np.nan
    assert LowRankModel(1, random_state=0).fit(table).impute(table)[3, 3] == (
        pytest.approx(7.0, rel=1e-4)
    )


def written(path: Path, table: np.ndarray, names: str = "abcdefghijkl") -> Path:
    frame = pd.DataFrame(table, columns=list(names)[: table.shape[1]])
    if (np.isnan(table) | (table == np.rint(table))).all():
        frame = frame.astype("Int64")
    frame.to_csv(path, index=False)
    return path


def test_the_command_says_it_first(tmp_path: Path, capsys) -> None:
    path = written(tmp_path / "t.csv", holed("kl") + 0.5)
    arguments = (
        "factorize", str(path), "--rank", "6", "--loss", "kl", "--constraint",
        "nonnegative", "--penalty", "l2=0", "--held-out", "0",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if " loss (" in line or "Warning" in line)
    assert first.startswith("Warning: ")
    assert "predicted far outside" in first
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "predicted far outside" in result["warnings"][0]
    assert "predicted far outside" in (tmp_path / "run" / "report.html").read_text()
    out = str(tmp_path / "applied")
    assert main(("apply", str(tmp_path / "run"), str(path), "--out", out)) == 0
    assert capsys.readouterr().out.startswith("Warning: ")
    applied = json.loads((tmp_path / "applied" / "result.json").read_text())
    assert "predicted far outside" in applied["warnings"][0]


def sums() -> np.ndarray:
    """Return sums of rows and columns, of which the largest five are missing."""
    table = np.add.outer(np.arange(-10.0, 11), np.arange(6.0))
    table[20, 1:] = np.nan
    return table


def test_whole_numbers_that_are_held_to_the_range_are_counted(
    tmp_path: Path, capsys
) -> None:
    table = sums()
    frame = pd.DataFrame(table, columns=list("abcdef")).astype("Int64")
    model = LowRankModel(1, random_state=0).fit(frame)
    with pytest.warns(UserWarning, match="cells of whole numbers") as told:
        filled = model.impute(frame).to_numpy(dtype=float)
    assert filled[20, 1:].tolist() == [10, 11, 12, 13, 14]
    count = 5
    assert str(told[0].message) == (
        "5 filled cells of whole numbers are predicted outside what their column holds, "
        "and are held to the nearest observed number ('b', 'c', 'd', 'e', 'f')"
    )
    path = written(tmp_path / "t.csv", table)
    run, out = str(tmp_path / "run"), str(tmp_path / "filled.csv")
    assert (
        main(("factorize", str(path), "--rank", "1", "--out", run, "--impute", out))
        == 0
    )
    assert f"Note: {count} filled cells of whole numbers" in capsys.readouterr().out
    assert main(("apply", run, str(path), "--out", str(tmp_path / "new"))) == 0
    assert f"Warning: {count} filled cells of whole numbers" in capsys.readouterr().out


@pytest.mark.parametrize("wide", [2, 3])
def test_a_dominant_column_is_named(wide: int, tmp_path: Path, capsys) -> None:
    draw = np.random.default_rng(2)
    table = draw.normal(size=(30, wide))
    table[:, 1] *= 1000
    path = written(tmp_path / "t.csv", table)
    run = str(tmp_path / "run")
    assert main(("factorize", str(path), "--rank", "1", "--out", run)) == 0
    assert "column 'b' alone is 100% of the loss" in capsys.readouterr().out
    table[:, 1] /= 1000
    path = written(tmp_path / "even.csv", table)
    assert main(("factorize", str(path), "--rank", "1", "--out", run + "2")) == 0
    assert "alone is" not in capsys.readouterr().out
