"""`descents report`: the page again, figures as files, and the main table."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import made_once
from descents.cli.main import main
from descents.pages.page import pictures_of, read_run
from descents.pages.table_formats import comma_separated, latex, markdown
from descents.pages.tables import Cell, PaperTable, formatted

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Return a folder with a run of each command that has a short one."""

    def make(folder: Path) -> None:
        frame = pd.DataFrame(RNG(0).normal(size=(60, 3)), columns=["a|b", "c_d", "50%"])
        frame["y"] = np.where(frame["a|b"] > 0, "p", "q")
        frame.to_csv(folder / "t_1.csv", index=False)
        table = str(folder / "t_1.csv")
        holes = frame.mask(RNG(1).random(frame.shape) < 0.1)
        holes.to_csv(folder / "holes.csv", index=False)
        train = ["train", table, "--target", "y", "--epochs", "2", "--hidden", "2"]
        train += ["--starts", "5", "--diagnose", "0", "--quiet"]
        rates = ["--learning-rate", "0.01", "--learning-rate", "0.1"]
        assert main([*train, "--out", str(folder / "one")]) == 0
        assert main([*train, *rates, "--out", str(folder / "train")]) == 0
        both = [str(folder / "one"), str(folder / "train"), "--margin", "0.5"]
        assert (
            main(["compare", *both, "--quiet", "--out", str(folder / "compare")]) == 0
        )
        holes_of = str(folder / "holes.csv")
        out = ["--quiet", "--out", str(folder / "factorize")]
        assert main(["factorize", holes_of, "--rank", "1", *out]) == 0
        filled = str(folder / "filled.csv")
        out = ["--quiet", "--out", str(folder / "impute")]
        assert main(["impute", holes_of, filled, *out]) == 0
        applied = ["apply", str(folder / "one"), table, "--quiet"]
        assert main([*applied, "--out", str(folder / "applied")]) == 0

    return made_once(tmp_path_factory, "report", make)


def printed(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["report", *arguments]) == 0
    return str(capsys.readouterr().out)


def as_csv(capsys, run: Path) -> list[dict[str, str]]:
    text = printed(capsys, str(run), "--table", "csv")
    return list(csv.DictReader(io.StringIO(text)))


def result_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "result.json").read_text()))


def test_the_page_is_drawn_again(runs: Path, tmp_path: Path, capsys) -> None:
    for name in ("train", "compare", "factorize", "impute"):
        out = tmp_path / name / "again"
        said = printed(capsys, str(runs / name), "--out", str(out))
        assert said == f"The page: {out / 'report.html'}\n"
        for path in out.iterdir():
            assert path.read_bytes() == (runs / name / path.name).read_bytes()
        assert (out / "report.html").exists()


def test_figures_are_written_in_the_requested_formats(
    runs: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "compare", run)
    names = list(pictures_of(read_run(run)))
    assert len(names) == 3
    lines = printed(capsys, str(run), "--figures", "pdf,png", "--figures", "SVG").split(
        "\n"
    )
    assert lines[0] == f"The page: {run / 'report.html'}"
    paths = [Path(line) for line in lines[1:] if line]
    expected = {run / f"{n}.{form}" for n in names for form in ("pdf", "png", "svg")}
    assert set(paths) == expected
    starts = {".pdf": b"%PDF-", ".png": b"\x89PNG", ".svg": b"<?xml"}
    for path in paths:
        assert path.read_bytes().startswith(starts[path.suffix])
    assert printed(capsys, str(run), "--figures", "pdf", "--quiet") == ""


def test_the_table_of_settings(runs: Path, capsys) -> None:
    rows = as_csv(capsys, runs / "train")
    starts = pd.read_parquet(runs / "train" / "starts.parquet")
    means = starts.groupby("setting")["validation_accuracy"]
    *settings, constant = rows
    for row in settings:
        values = means.get_group(row["setting"])
        assert float(row["mean"]) == pytest.approx(values.mean())
        assert float(row["SD"]) == pytest.approx(values.std())
        assert float(row["95% interval: low"]) <= values.mean()
        assert (row["n"], row["failed"]) == ("5", "0")
    assert constant["setting"] == "always the most frequent class"
    assert float(constant["mean"]) == pytest.approx(
        result_of(runs / "train")["constant"]
    )
    assert constant["95% interval: low"] == constant["n"] == ""
    text = printed(capsys, str(runs / "train"), "--table", "latex")
    assert r"(t\_1.csv, 60 rows), over 5 starts" in text
    assert text.count(r" \\") == 2 + len(settings)
    widths = {line.count(" & ") for line in text.split("\n") if line.endswith(r"\\")}
    assert widths == {6}


def test_the_table_of_a_comparison(runs: Path, capsys) -> None:
    rows = as_csv(capsys, runs / "compare")
    (one,) = result_of(runs / "compare")["differences"]
    assert [row["verdict"] for row in rows] == [one["verdict"], "reference"]
    assert float(rows[0]["difference"]) == one["difference"]
    ends = [
        rows[0][f"95% interval of the difference: {end}"] for end in ("low", "high")
    ]
    assert list(map(float, ends)) == one["interval"]
    test = one["equivalence"]
    assert float(rows[0]["p of equivalence"]) == max(test["p_low"], test["p_high"])
    assert float(rows[0]["90% interval of the difference: low"]) == test["interval"][0]
    assert rows[1]["difference"] == ""


def test_the_tables_of_columns(runs: Path, capsys) -> None:
    rows = as_csv(capsys, runs / "factorize")
    columns = result_of(runs / "factorize")["columns"]
    assert [row["column"] for row in rows] == ["a|b", "c_d", "50%", "y"]
    for row, column in zip(rows, columns, strict=True):
        assert float(row["seen cells"]) == column["explained"]
        assert float(row["held-out cells"]) == column["unseen"]
        assert int(row["n"]) == column["observed"]
    rows = as_csv(capsys, runs / "impute")
    for row, column in zip(rows, result_of(runs / "impute")["columns"], strict=True):
        low, high = (float(row[f"95% interval: {end}"]) for end in ("low", "high"))
        assert (low + high) / 2 == pytest.approx(column["error"])
        assert high - low == pytest.approx(2 * 1.96 * column["standard_error"])
        assert row["n"] == str(column["held_out"])
    text = printed(capsys, str(runs / "factorize"), "--table", "latex")
    assert r"a\textbar{}b &" in text
    assert r"50\% &" in text
    text = printed(capsys, str(runs / "impute"), "--table", "markdown")
    assert r"| a\|b |" in text
    lines = [line for line in text.split("\n") if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(cells) == 1, "an unescaped | would add a cell"


@pytest.mark.slow
def test_the_table_of_the_report(unbroken: Path, capsys) -> None:
    rows = as_csv(capsys, unbroken)
    claims = result_of(unbroken)["claims"]
    assert [row["verdict"] for row in rows] == [claim["verdict"] for claim in claims]


def test_special_characters_are_escaped() -> None:
    name = 'a\\b & 5% $x$ #1 _y_ {z} ~ ^ <t> | "q"\nr'
    table = PaperTable("caption", ["x", "n"], [[Cell(name), Cell([-0.5, 1.25], 2)]])
    line = formatted(table, "latex").split("\n")[7]
    assert line == (
        r"a\textbackslash{}b \& 5\% \$x\$ \#1 \_y\_ \{z\} \textasciitilde{} "
        r"\textasciicircum{} \textless{}t\textgreater{} \textbar{} "
        r"\textquotedbl{}q\textquotedbl{} r & $-0.50$ to 1.25 \\"
    )
    line = formatted(table, "markdown").split("\n")[4]
    assert line == r'| a\\b & 5% $x$ #1 \_y\_ {z} \~ ^ \<t\> \| "q" r | -0.50 to 1.25 |'
    read = list(csv.reader(io.StringIO(formatted(table, "csv"))))
    assert read == [["x", "n: low", "n: high"], [name, "-0.5", "1.25"]]
    empty = ("", ["x"], [[""]], [True])
    assert comma_separated(*empty) == 'x\n""\n'
    for write in (latex, markdown):
        assert write(*empty).count("\n") >= 4


def test_only_the_table_is_on_standard_output(
    runs: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("result.json", "starts.parquet"):
        shutil.copy(runs / "compare" / name, run)
    printed(capsys, str(run), "--table", "csv")
    assert not (run / "report.html").exists()
    assert main(["report", str(run), "--table", "csv", "--figures", "svg"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("side,mean,")
    assert "The page" not in said.out
    assert f"The page: {run / 'report.html'}" in said.err
    assert (run / "report.html").exists()


def test_the_page_is_opened(runs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    opened = []
    for found in (True, False):
        monkeypatch.setattr(
            "webbrowser.open", lambda uri, f=found: opened.append(uri) or f
        )
        out = tmp_path / str(found)
        assert main(["report", str(runs / "compare"), "--open", "--out", str(out)]) == 0
        assert opened[-1] == (out / "report.html").as_uri()
        assert ("no browser was found" in capsys.readouterr().err) is not found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "the folder nowhere does not exist"),
        (["empty"], "contains no run, as it has no result.json"),
        (["RUNS/applied", "--figures", "pdf"], "the page of 'descents apply' has no figures"),
        (["unknown"], "contains a run of 'paint'; give the folder of a run that has a page"),
        (["RUNS/train", "--figures", "gif"], "'gif' is not a format of figures"),
        (["RUNS/train", "--figures", "gif", "--table", "word"], "'word' is not one of"),
        (["RUNS/train", "--out", "file"], "could not create file"),
        (["RUNS/train", "--out", "file/below", "--figures", "pdf"], "could not create file/below"),
        (["later"], "has the schema version 99"),
        (["damaged"], "contains a damaged run"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_in_one_sentence(
    runs: Path, tmp_path: Path, monkeypatch, capsys, arguments, words
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    for name in ("later", "damaged"):
        shutil.copytree(runs / "compare", name)
    result = result_of(runs / "compare")
    Path("later/result.json").write_text(json.dumps({**result, "schema_version": 99}))
    shutil.copy(runs / "train" / "starts.parquet", "damaged/starts.parquet")
    Path("unknown").mkdir()
    unknown = {**result, "run": {**result["run"], "command": "paint"}}
    Path("unknown/result.json").write_text(json.dumps(unknown))
    call = [part.replace("RUNS", str(runs)) for part in arguments]
    assert main(["report", *call]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert words in said.err


def test_a_folder_that_takes_no_files_is_reported(
    runs: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    assert main(["report", str(runs / "compare"), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "its folder cannot be written to" in said
    assert said.count("\n") == 1


def test_a_run_of_an_earlier_version_opens(runs: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "train", run)
    result = result_of(run)
    for name in ("schema_version", "quote", "held_out_rows"):
        del result[name]
    (run / "result.json").write_text(json.dumps(result))
    assert "setting" in printed(capsys, str(run), "--table", "markdown")
    assert main(["report", str(run), "--quiet"]) == 0
