"""Messages that name what the user gave, and say what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from descents import LowRankModel
from descents.cli.main import main
from descents.tables.datasets import planted_table


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tables, and runs of train of one start and of four."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
    table["y"] = np.where(table["a"] > 0, "yes", "no")
    table["x"] = table["a"] + 1.0
    table.to_csv(folder / "t.csv", index=False)
    holes = planted_table(40, 4, 3, noise=0.3, seed=0)[0]
    holes[rng.random(holes.shape) < 0.1] = np.nan
    pd.DataFrame(holes, columns=list("abcd")).to_csv(folder / "holes.csv", index=False)
    for name, starts, hidden in (
        ("one", "1", "4"),
        ("other", "1", "5"),
        ("r", "4", "4"),
    ):
        train = ["train", str(folder / "t.csv"), "--target", "y", "--starts", starts]
        more = ["--hidden", hidden, "--epochs", "30", "--quiet", "--out"]
        assert main([*train, *more, str(folder / name)]) == 0
    return folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rank", "50"], "--rank is 50, but the table has 40 rows and 4 columns"),
        (["--rank", "auto:1-7"], "--rank tries 7, but the table has 40 rows"),
        (["--rank", "gavish-donoho"], "give --rank auto, or a number"),
        (["--rank", "1", "--constraint", "foo"], "--constraint is 'foo'; give none,"),
        (["--rank", "1", "--constraint", "sparse:x"], "--constraint is 'sparse:x'"),
        (["--rank", "1", "--penalty", "l3=1"], "--penalty has 'l3'"),
    ],
)
def test_refusals_name_options(place, tmp_path, capsys, options, words) -> None:
    command = ["factorize", str(place / "holes.csv"), "--out", str(tmp_path / "run")]
    assert main([*command, *options]) == 2
    message = capsys.readouterr().err
    assert words in message
    for parameter in ("n_components", "n_samples", "None", "Fixed"):
        assert parameter not in message


@pytest.mark.parametrize(("rank", "said"), [("auto:1-2", True), ("auto:1-4", False)])
def test_the_largest_rank_tried_is_named_so(
    place, tmp_path, capsys, rank, said
) -> None:
    """The planted rank is 3, and the table allows at most 4."""
    table = planted_table(80, 4, 3, noise=0.01, seed=0)[0]
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    command = ["factorize", str(tmp_path / "t.csv"), "--rank", rank]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    words = "This is the largest rank that was tried, and a larger one may be better"
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["selection"]["most"] == 4
    for text in (capsys.readouterr().out, result["selection"]["says"]):
        assert (words in text) == said
        assert ("--rank auto:1-4 tries more" in text) == said
    if said:
        model = LowRankModel([1, 2], random_state=0).fit(table)
        assert "n_components=range(1, 5) tries more" in model.selection_.says


def test_absent_and_damaged_runs_are_called_so(
    place, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for command in (["report"], ["compare", str(place / "r")]):
        assert main([*command, str(tmp_path / "none")]) == 2
        assert "none does not exist; give the folder" in capsys.readouterr().err
        assert main([*command, str(tmp_path / "empty")]) == 2
        assert "contains no run, as it has no result.json" in capsys.readouterr().err
    shutil.copytree(place / "r", tmp_path / "damaged")
    path = tmp_path / "damaged" / "result.json"
    whole = json.loads(path.read_text())
    metric = {**whole["settings"][0]["metric"], "mean": "high"}
    for change in (
        {"settings": 5},
        {"best": None},
        {"settings": [{**whole["settings"][0], "metric": metric}]},
        {"rows": "many"},
    ):
        path.write_text(json.dumps({**whole, **change}))
        for command in (["report"], ["compare", str(place / "r")]):
            assert main([*command, str(tmp_path / "damaged")]) == 2
            message = capsys.readouterr().err
            assert "is damaged, or was written by another version" in message
            assert message.count(";") == 1
            assert "object" not in message


def test_comparisons_that_say_nothing_are_called_so(
    place, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(place / "r"), str(place / "r" / "..") + "/r"]) == 0
    assert "both are the same run, so there is nothing" in capsys.readouterr().out
    shutil.copytree(place / "r", tmp_path / "copy")
    assert main(["compare", str(place / "r"), str(tmp_path / "copy")]) == 0
    assert "so their starts are the same; give a run" in capsys.readouterr().out
    assert main(["compare", str(place / "one"), str(place / "other")]) == 0
    out = capsys.readouterr().out
    assert "the difference is of 1 start" in out
    assert "95% interval not known" in out
    assert "- to -" not in out
    assert "The best constant prediction has 0." in out
    table = pd.read_csv(place / "t.csv").iloc[:50]
    table.to_csv(tmp_path / "u.csv", index=False)
    train = ["train", str(tmp_path / "u.csv"), "--target", "y", "--starts", "4"]
    more = ["--hidden", "4", "--epochs", "30", "--quiet", "--out"]
    assert main([*train, *more, str(tmp_path / "u")]) == 0
    capsys.readouterr()
    assert main(["compare", str(place / "r"), str(tmp_path / "u")]) == 0
    out = capsys.readouterr().out
    assert "t.csv, 60 rows and y of " in out
    assert "u.csv, 50 rows), so the difference is not only that of their options" in out


def test_a_column_of_numbers_is_not_called_so_twice(place, tmp_path, capsys) -> None:
    train = ["train", str(place / "t.csv"), "--target", "x", "--starts", "2"]
    assert main([*train, "--epochs", "60", "--out", str(tmp_path / "run")]) == 0
    assert "x: numbers, 60 rows" in capsys.readouterr().out


def test_one_column_alone_is_filled_with_its_mean(tmp_path, capsys) -> None:
    cells = ["1.5", "2.5", '""'] * 10
    (tmp_path / "t.csv").write_text("a\n" + "\n".join(cells) + "\n")
    paths = [str(tmp_path / name) for name in ("t.csv", "f.csv", "run")]
    assert main(["impute", *paths[:2], "--out", paths[2]]) == 0
    out = " ".join(capsys.readouterr().out.split())
    says = "because no cell could be held out to judge a model"
    page = (tmp_path / "run" / "report.html").read_text()
    assert says in out
    assert says in page
    assert "is not known" not in out
    assert set(pd.read_csv(tmp_path / "f.csv")["a"]) == {1.5, 2.5, 2.0}


def test_apply_names_the_columns_that_means_fill(tmp_path, capsys) -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(150, 1))
    table = factor + 0.2 * rng.normal(size=(150, 3))
    table = pd.DataFrame(table, columns=list("abc")).assign(noise=rng.normal(size=150))
    table = table.mask(rng.random(table.shape) < 0.1)
    table.to_csv(tmp_path / "t.csv", index=False)
    paths = [str(tmp_path / name) for name in ("t.csv", "f.csv", "run")]
    assert main(["impute", *paths[:2], "--out", paths[2]]) == 0
    run = json.loads((tmp_path / "run" / "result.json").read_text())
    flat = run["filled"]["by_constant"]
    capsys.readouterr()
    again = ["apply", paths[2], *paths[:2], "--out", str(tmp_path / "applied")]
    assert main(again) == 0
    said = "Filled with the mean or the most frequent level, as in the run: noise"
    assert (said in capsys.readouterr().out) == (flat == ["noise"])
    applied = json.loads((tmp_path / "applied" / "result.json").read_text())
    assert applied["by_constant"] == flat


@pytest.mark.parametrize(
    ("share", "cells", "text"), [(0.125, 8, "12% wrong"), (1 / 3, 3, "33% wrong")]
)
def test_shares_of_wrong_levels_are_not_rounded_to_tens(share, cells, text) -> None:
    from descents.runs.impute_sentences import error_text
    from descents.tables.numerals import Written

    standard_error = float(np.sqrt(share * (1 - share) / cells))
    assert error_text(share, standard_error, "levels", cells, Written()) == text


def test_a_closed_bound_is_not_zero_percent_away(tmp_path, capsys) -> None:
    table = np.random.default_rng(0).normal(size=(12, 4))
    table[:2, 0] = np.nan
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    command = [
        "factorize",
        str(tmp_path / "t.csv"),
        "--rank",
        "1",
        "--penalty",
        "l2=50",
    ]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "The loss equals a proven bound within" in out
    assert "lower bound: a lower bound" not in out


def test_several_imputations_are_not_said_to_be_filled_by_constants(
    tmp_path, capsys
) -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(200, 1)) + 0.2 * rng.normal(size=(200, 4))
    table[:, 3] = rng.normal(size=200)
    table[rng.random(table.shape) < 0.1] = np.nan
    pd.DataFrame(table, columns=list("abcd")).to_csv(tmp_path / "t.csv", index=False)
    call = ["impute", *(str(tmp_path / name) for name in ("t.csv", "f.csv"))]
    said = {}
    for draws in ((), ("--imputations", "2")):
        out = str(tmp_path / f"run{len(draws)}")
        assert main([*call, *draws, "--out", out]) == 0
        page = (tmp_path / f"run{len(draws)}" / "report.html").read_text()
        said[len(draws)] = capsys.readouterr().out + page
    assert "most frequent level, and filled by it: d" in said[0]
    assert "filled by it" not in said[2]
    assert "filled with its" not in said[2]
    assert "filled with their" not in said[2]
    assert "so that their draws from the model contain little information: d" in said[2]
    assert "<strong>1 of 4</strong> columns are not predicted better" in said[2]
    result = json.loads((tmp_path / "run2" / "result.json").read_text())
    assert result["filled"]["by_constant"] == []
    assert {one["filled_by"] for one in result["columns"]} == {"model"}
