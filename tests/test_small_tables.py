"""`descents impute` on small tables: what is judged, on how many cells, and what helped."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from descents import LowRankImputer
from descents.cli.main import main
from descents.marginal.held_out import ENOUGH_OF_COLUMN, relative_errors
from descents.marginal.model import fit
from descents.marginal.settings import Settings


def small(rows: int, seed: int = 0) -> pd.DataFrame:
    """Return three dependent columns and one of noise, with an eighth missing."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(rows, 1))
    values = factor * [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=(rows, 3))
    table = pd.DataFrame(
        np.column_stack([values, rng.normal(size=rows)]),
        columns=[*"abc", "noise"],
    )
    return table.mask(rng.random(table.shape) < 0.125)


def imputed(table: pd.DataFrame, folder: Path, *options: str) -> dict:
    """Return the result of the command."""
    table.to_csv(folder / "t.csv", index=False)
    paths = [str(folder / name) for name in ("t.csv", "f.csv", "run")]
    assert main(["impute", *paths[:2], "--out", paths[2], *options]) == 0
    return json.loads((folder / "run" / "result.json").read_text())


def test_refined_models_of_small_tables_are_judged_on_enough_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = imputed(small(40), tmp_path, "--refine")
    columns = {one["name"]: one for one in result["columns"]}
    assert min(one["held_out"] for one in columns.values()) >= ENOUGH_OF_COLUMN
    assert [columns[name]["filled_by"] for name in "abc"] == ["model"] * 3
    assert [columns[name]["verdict"] for name in "abc"] == ["yes"] * 3
    assert result["filled"]["not_judged"] == []
    page = (tmp_path / "run" / "report.html").read_text()
    printed = " ".join(capsys.readouterr().out.split())
    assert result["refinement"]["says"].startswith("The forests of --refine")
    for text in (page, printed):
        assert result["refinement"]["says"] in text


def test_whether_forests_help_is_measured_on_the_same_held_out_cells() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 400)
    curve = np.abs(np.sin(2 * x)) + 0.05 * rng.normal(size=400)
    codes = np.column_stack([x, curve, rng.normal(size=400)])
    codes[rng.random(codes.shape) < 0.1] = np.nan
    found = fit(codes, np.zeros(3, int), Settings(refine=True))
    after, before = found.held_out, found.unrefined
    np.testing.assert_array_equal(after.truth, before.truth)
    np.testing.assert_array_equal(after.columns, before.columns)

    def relative(cells) -> float:
        errors = []
        for column in range(3):
            mine = cells.columns == column
            spread = np.nanstd(codes[:, column]) * np.sqrt(mine.sum())
            off = cells.values[mine] - cells.truth[mine]
            constant = cells.constants[mine] - cells.truth[mine]
            errors.append(
                [np.linalg.norm(off) / spread, np.linalg.norm(constant) / spread]
            )
        return float(np.divide(*np.mean(errors, axis=0)))

    from descents.runs.impute_facts import refinement_of

    result = refinement_of(found)
    assert result.after == pytest.approx(relative(after))
    assert result.before == pytest.approx(relative(before))
    assert result.verdict == "better"  # the Gaussian model sees no curve
    assert result.after < result.before - 5 * result.standard_error
    assert refinement_of(fit(codes, np.zeros(3, int))) is None


def test_columns_with_few_held_out_cells_are_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = small(12)
    result = imputed(table, tmp_path)
    lacking = [one for one in result["columns"] if one["missing"]]
    assert max(one["held_out"] for one in lacking) < ENOUGH_OF_COLUMN
    assert {one["verdict"] for one in lacking} == {"not judged"}
    assert result["filled"]["not_judged"] == [one["name"] for one in lacking]
    few = "fewer than 20 cells could be held out of each of these columns"
    assert few in result["warnings"][0]
    assert not any("not predicted better" in line for line in result["warnings"])
    assert few in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "run" / "report.html").read_text()
    assert few in page
    assert "could be judged one by one" in page
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        imputer = LowRankImputer(random_state=0).fit(table)
    constant = imputer.fitted_.fitted.constant
    says = " ".join(str(one.message) for one in caught)
    assert ("fewer than 20 of its cells could be held out" in says) == constant.any()


def test_a_table_that_constants_fill_is_described_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("abcd"))
    result = imputed(table.mask(rng.random(table.shape) < 0.1), tmp_path)
    assert result["filled"]["by_constant"] == list("abcd")
    assert "filled with the mean or the most frequent level" in result["quality"]
    assert "is 1 of that" not in result["quality"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<strong>0</strong> of these columns are filled by the model" in page


def test_wide_tables_are_judged_by_the_mean_error_of_their_columns() -> None:
    """Two or three held-out cells of a column say next to nothing of its own error."""
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 1200))
    whole += rng.normal(size=whole.shape)
    hidden = rng.random(whole.shape) < 0.2
    codes = np.where(hidden, np.nan, whole)
    found = fit(codes, np.zeros(1200, dtype=int), Settings())
    assert found.setting.sample == "columns"
    assert not found.constant.any()
    off = [
        np.square(np.where(hidden, guess - whole, np.nan) / whole.std(0))
        for guess in (found.predicted(codes).values, np.nanmean(codes, 0)[None])
    ]
    model, constant = (np.sqrt(np.nanmean(one, 0)).mean() for one in off)
    said = relative_errors(found.held_out, found.levels)[0]
    assert model / constant == pytest.approx(said, abs=0.04)
    assert model / constant < 0.85
