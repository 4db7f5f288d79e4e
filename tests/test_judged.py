"""How good a point fit is on cells that it has not seen, against separate fits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from descents import LowRankModel, TableOnDisk
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.lowrank.judged import Judged
from descents.tables.datasets import planted_table

SCHEMA = Path(__file__).parents[1] / "docs" / "factorize.schema.json"


def holed(table: np.ndarray, share: float = 0.15, seed: int = 0) -> np.ndarray:
    hidden = np.random.default_rng([seed, 1]).random(table.shape) < share
    return np.where(hidden, np.nan, table)


def noisy(rows: int = 120, columns: int = 6) -> np.ndarray:
    return holed(planted_table(rows, columns, 2, noise=0.4, seed=1)[0])


def mixed(rows: int = 150) -> pd.DataFrame:
    table = planted_table(rows, 6, 2, noise=0.3, seed=5)[0]
    frame = pd.DataFrame(table[:, :3] * [1, 100, 1], columns=["a", "b", "c"])
    frame["kind"] = np.array(["x", "y", "z"])[np.digitize(table[:, 3], [-0.4, 0.4])]
    frame["yes"] = np.where(table[:, 4] > 0, "yes", "no")
    generator = np.random.default_rng(0)
    frame["noise"] = generator.normal(size=rows)
    return frame.mask(generator.random(frame.shape) < 0.1)


def by_separate_fits(model: LowRankModel, table: np.ndarray, **settings: Any) -> Any:
    """Return what fits without each fold say of the cells of it, and of means."""
    unseen = model.fitted_.unseen
    rows, columns = unseen.rows, unseen.predicted.columns
    guess, mean = np.zeros((2, len(rows)))
    for fold in range(unseen.folds.max() + 1):
        mine = unseen.folds == fold
        shown = table.copy()
        shown[rows[mine], columns[mine]] = np.nan
        penalty = {"l2": model.fitted_.penalty["l2_rows"]}
        one = LowRankModel(2, penalty=penalty, held_out=0, random_state=0, **settings)
        guess[mine] = one.fit(shown).impute(shown)[rows[mine], columns[mine]]
        mean[mine] = np.nanmean(shown, 0)[columns[mine]]
    return guess, mean


def test_scores_are_those_of_separate_fits() -> None:
    table = noisy()
    model = LowRankModel(2, random_state=0).fit(table)
    judged, unseen = model.judged_, model.fitted_.unseen
    rows, columns = unseen.rows, unseen.predicted.columns
    truth = table[rows, columns]
    assert not np.isnan(truth).any()
    assert len(set(zip(rows, columns, strict=True))) == len(rows)  # each once
    guess, mean = by_separate_fits(model, table)
    np.testing.assert_allclose(unseen.predicted.values, guess, atol=0.02)
    np.testing.assert_allclose(unseen.predicted.truth, truth, atol=1e-12)
    for j in range(6):
        here = columns == j
        score = model.scores_[f"x{j}"]
        errors = [
            np.sqrt(np.square((part - truth)[here]).mean()) for part in (guess, mean)
        ]
        assert score.cells == here.sum()
        assert score.error == pytest.approx(errors[0], rel=0.01)
        assert score.constant_error == pytest.approx(errors[1], rel=1e-9)
        share = judged.shares()[j]
        assert share == pytest.approx(1 - (errors[0] / errors[1]) ** 2, abs=0.01)
    overall = judged.overall()
    ratios = [s.error / s.constant_error for s in model.scores_.values()]
    assert overall["relative_error"] == pytest.approx(np.mean(ratios), rel=1e-9)
    assert overall["cells"] == len(rows)
    rounds = len(np.unique(unseen.folds))
    assert overall["rounds"] == unseen.predicted.rounds.max() + 1 == rounds > 1
    says = f"On {len(rows)} cells that a fit had not seen (hidden in {rounds} rounds), "
    assert overall["says"].startswith(says)
    stored = judged.stored()
    assert Judged.restored(stored).overall() == overall
    del stored["judged/rounds"]  # of an earlier version
    assert "rounds" not in Judged.restored(stored).overall()["says"]


def test_the_model_itself_is_fitted_to_all_cells() -> None:
    table = noisy()
    judged = LowRankModel(2, random_state=0).fit(table)
    plain = LowRankModel(2, random_state=0, held_out=0).fit(table)
    assert plain.judged_ is None
    assert plain.scores_ == {}
    for name, value in plain.runs_.parameters.items():
        np.testing.assert_array_equal(judged.runs_.parameters[name], value)


def test_of_large_tables_at_most_so_many_cells_are_held_out(monkeypatch) -> None:
    from descents.lowrank import judging

    monkeypatch.setattr(judging, "MOST_HELD_OUT", 50)
    monkeypatch.setattr(judging, "ENOUGH_HELD_OUT", 40)
    model = LowRankModel(2, random_state=0).fit(noisy())
    assert model.judged_.overall()["cells"] == 50
    assert set(model.fitted_.unseen.folds) == {0}


def test_columns_that_nothing_predicts_are_filled_with_constants(tmp_path) -> None:
    frame = mixed(400)
    model = LowRankModel(2, random_state=0).fit(frame)
    assert model.constant_columns_ == ["noise"]
    assert model.judged_.shares()[5] < 0.05
    assert min(model.judged_.shares()[:5]) > 0.2
    lacking = frame["noise"].isna()
    model.save(tmp_path / "m")
    loaded = LowRankModel.load(tmp_path / "m")
    for one in (model, loaded):
        with pytest.warns(UserWarning, match="filled with the mean .*'noise'"):
            filled = one.impute(frame)
        np.testing.assert_allclose(filled["noise"][lacking], frame["noise"].mean())
        assert filled["a"][frame["a"].isna()].std() > 0.1
    assert loaded.scores_ == model.scores_
    assert loaded.constant_columns_ == model.constant_columns_
    assert loaded.noise_ == model.noise_
    assert loaded.scales_ == model.scales_ == "columns have different losses"


def test_what_runs_away_is_replaced_and_said() -> None:
    """Rows of one cell, without a penalty: fills were a thousand times the range."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(200, 2)) @ generator.normal(size=(2, 12))
    table += 0.7 * generator.standard_t(3, size=table.shape)
    hidden = generator.random(table.shape) < 0.4
    hidden[:40] = True
    hidden[np.arange(40), generator.integers(0, 12, 40)] = False
    table[hidden] = np.nan
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = LowRankModel(3, penalty=0, random_state=0, max_iter=200).fit(table)
        filled = model.impute(table)
    said = [str(one.message) for one in told]
    assert any("held-out cells" in line for line in said)
    flat = [int(name[1:]) for name in model.constant_columns_]
    assert len(flat) > 8
    for j in flat:
        np.testing.assert_allclose(filled[hidden[:, j], j], np.nanmean(table[:, j]))


def test_a_table_without_noise_keeps_its_fills() -> None:
    clean = planted_table(40, 10, 3, seed=0)[0]
    table = holed(clean, 0.3)
    for penalty in (None, 0):
        model = LowRankModel(3, penalty=penalty, random_state=0).fit(table)
        assert model.constant_columns_ == []
        np.testing.assert_allclose(model.impute(table), clean, atol=1e-5)


def test_when_cells_are_held_out(tmp_path: Path) -> None:
    complete = planted_table(100, 12, 2, noise=0.3)[0]
    assert LowRankModel(2, random_state=0).fit(complete).judged_ is None
    chosen = LowRankModel([1, 2], random_state=0).fit(complete)
    assert min(chosen.judged_.shares()) > 0.2
    table = noisy()
    i, j = np.nonzero(~np.isnan(table))
    stored = scipy.sparse.csr_array((table[i, j], (i, j)), shape=table.shape)
    sparse = LowRankModel(2, random_state=0).fit(stored)
    dense = LowRankModel(2, random_state=0).fit(table)
    np.testing.assert_allclose(
        sparse.judged_.shares(), dense.judged_.shares(), atol=0.1
    )
    np.save(tmp_path / "t.npy", table)
    disk = LowRankModel(2, random_state=0).fit(TableOnDisk(tmp_path / "t.npy", "8MB"))
    assert disk.judged_ is None
    with pytest.raises(InvalidValueError, match="held_out is 0.7; give a number"):
        LowRankModel(2, held_out=0.7).fit(table)


def test_units_do_not_count() -> None:
    table = noisy()
    shares = [
        LowRankModel(2, random_state=0).fit(table * unit).judged_.shares()
        for unit in (1.0, 1e-3, 1e6)
    ]
    np.testing.assert_allclose(shares[1], shares[0], atol=1e-3)
    np.testing.assert_allclose(shares[2], shares[0], atol=1e-3)


def run(path: Path, out: Path, *options: str) -> dict[str, Any]:
    fit = ["factorize", str(path), "--rank", "2", "--out", str(out), *options]
    assert main(fit) == 0
    result = json.loads((out / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    return result


def test_the_command_says_it(tmp_path: Path, capsys) -> None:
    mixed(400).to_csv(tmp_path / "t.csv", index=False)
    result = run(tmp_path / "t.csv", tmp_path / "run")
    out = capsys.readouterr().out
    assert result["held_out"]["says"] in out
    assert "Predicted of each column, of such cells: " in out
    assert "Not predicted better than by a constant, and filled with it: 'noise'" in out
    assert any("filled with the mean" in line for line in result["warnings"])
    assert [c["name"] for c in result["columns"] if c["filled_by"] == "constant"] == [
        "noise"
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert result["held_out"]["says"] in page
    assert "Can the filled cells be trusted?" in page
    plain = run(tmp_path / "t.csv", tmp_path / "plain", "--held-out", "0")
    assert plain["held_out"] is None
    assert {c["unseen"] for c in plain["columns"]} == {None}


def test_the_command_says_which_penalty_and_scales(tmp_path: Path, capsys) -> None:
    frame = pd.DataFrame(noisy() * [1, 1, 1, 1, 1, 50], columns=list("abcdef"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = run(tmp_path / "t.csv", tmp_path / "run")
    out = capsys.readouterr().out
    l2 = result["penalty"]["l2_rows"]
    assert l2 > 0
    assert result["defaults"][0].startswith(f"Penalty l2={l2:.3g}, from the noise (")
    assert result["defaults"][1].startswith("Each column is over its spread, as cells")
    page = (tmp_path / "run" / "report.html").read_text()
    for line in result["defaults"]:
        assert line in out
        assert line in page
    free = run(
        tmp_path / "t.csv", tmp_path / "free", "--penalty", "l2=0", "--scales", "no"
    )
    assert free["defaults"] == []
    assert free["penalty"]["l2_rows"] == 0


@pytest.mark.parametrize("rank", ["1", "2"])
def test_it_says_where_the_imputer_does_better(rank, tmp_path: Path, capsys) -> None:
    """At rank 1 of 2 it does; at the planted rank nothing is said."""
    table = holed(planted_table(400, 9, 2, noise=0.5, seed=0)[0], 0.1)
    pd.DataFrame(table, columns=list("abcdefghi")).to_csv(
        tmp_path / "t.csv", index=False
    )
    options = ("factorize", str(tmp_path / "t.csv"), "--rank", rank)
    place = ("--out", str(tmp_path / "run"), "--impute", str(tmp_path / "f.csv"))
    assert main([*options, *place]) == 0
    said = "Note: 'descents impute' predicts these cells better: on "
    assert (said in capsys.readouterr().out) == (rank == "1")


def test_of_few_cells_nothing_is_concluded() -> None:
    """Neither of a tiny table, nor of one column of few cells."""
    generator = np.random.default_rng(0)
    tiny = generator.normal(size=(10, 4))
    tiny[0, 0] = np.nan
    model = LowRankModel(1, random_state=0).fit(tiny)
    assert model.judged_ is None
    assert model.constant_columns_ == []
    model.impute(tiny)  # without a warning
    table = np.column_stack([noisy(), generator.normal(size=len(noisy()))])
    table[12:, -1] = np.nan
    model = LowRankModel(2, random_state=0).fit(table)
    assert model.scores_["x6"].cells < 20
    assert "x6" not in model.constant_columns_


def test_where_the_whole_is_worse_columns_of_few_cells_are_constant() -> None:
    generator = np.random.default_rng(1)
    wide = generator.normal(size=(12, 40))
    wide[generator.random(wide.shape) < 0.2] = np.nan
    model = LowRankModel(4, penalty=0.01, random_state=0).fit(wide)
    assert max(score.cells for score in model.scores_.values()) < 20
    assert len(model.constant_columns_) > 35


def test_some_held_out_cells_keep_the_fields_that_are_not_given() -> None:
    from descents.marginal.held_out import HeldOut

    ones = np.arange(3.0)
    some = HeldOut(np.array([0, 1, 1]), ones, ones, ones, ones).some(ones > 0)
    assert list(some.columns) == [1, 1]
    assert some.deviations.shape == (0,)
    assert some.chances.shape == (0, 0)


def test_what_is_said_of_a_fit_is_the_same_after_loading(tmp_path) -> None:
    model = LowRankModel(2, random_state=0).fit(noisy())
    model.save(tmp_path / "m")
    loaded = LowRankModel.load(tmp_path / "m")
    assert loaded.judged_.overall() == model.judged_.overall()
    assert loaded.judged_.shares() == model.judged_.shares()


def test_a_constant_that_fills_a_column_is_in_its_interval() -> None:
    table = np.random.default_rng(0).normal(size=(60, 6))
    table[np.random.default_rng(1).random(table.shape) < 0.2] = np.nan
    model = LowRankModel(2, penalty={"l2": 0}, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is predicted better than by constants
        model.fit(table).calibrate(table)
        filled, found = model.impute(table, return_interval=True, coverage=0.9)
    assert model.judged_ is not None
    assert model.judged_.constant.all()
    missing = np.isnan(table)
    middle = (found.lower + found.upper)[missing] / 2
    np.testing.assert_allclose(middle, filled[missing], atol=1e-12)
