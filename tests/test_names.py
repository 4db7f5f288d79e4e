"""Names of rows to the letter, and levels of new rows, as the commands have them."""

from __future__ import annotations

import csv
import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.runs.request import Reading

IDS = [
    "2021-03-01",
    "007",
    "7",
    "1e5",
    "1.10",
    "TRUE",
    "",
    "NA",
    "inf",
    "007",
    "1234567890123456780",
    "1234567890123456781",
    "2021-03-01 10:00:00",
    " spaced ",
    "a,b",
]


def write_csv(path: Path, header: list[str], columns: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header] * bool(header) + list(zip(*columns, strict=True)))
    return path


def numbers(count: int) -> list[list[float]]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=count).round(3)
    return [x.tolist(), (2 * x + 0.1).round(3).tolist(), (1 - x).round(3).tolist()]


def rows_of(folder: Path) -> list[str]:
    return list(pq.read_table(folder / "rows.parquet").column("row").to_pylist())


# Names of rows


def test_names_of_rows_are_the_text_of_the_file(tmp_path: Path, capsys) -> None:
    table = write_csv(
        tmp_path / "t.csv", ["who", "a", "b", "c"], [IDS, *numbers(len(IDS))]
    )
    text = table.read_text().replace("-0.132", "")
    table.write_text(text)
    out, filled = tmp_path / "run", tmp_path / "filled.csv"
    options = ("--rank", "1", "--id", "who", "--out", str(out), "--impute", str(filled))
    assert main(["factorize", str(table), *options]) == 0
    assert "who (--id): 1 row without a name, 1 name of several rows each" in (
        capsys.readouterr().out
    )
    assert rows_of(out) == IDS
    result = json.loads((out / "result.json").read_text())
    named = [worst["row"] for worst in [*result["worst_rows"], *result["worst_cells"]]]
    assert set(named) <= set(IDS)
    assert len({worst["row"] for worst in result["worst_rows"]}) >= 9
    with filled.open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["who", *IDS]
    page = (out / "report.html").read_text()
    assert result["worst_rows"][0]["row"] in page
    new = tmp_path / "new"
    assert main(["apply", str(out), str(table), "--out", str(new), "--quiet"]) == 0
    assert rows_of(new) == IDS


@pytest.mark.parametrize(
    "cells", [["1e999", "x", "nan"], ["1", "2", "3"], ["", "", ""]]
)
def test_a_name_is_never_interpreted(tmp_path: Path, cells) -> None:
    path = write_csv(tmp_path / "t.csv", ["who", "a"], [cells, [1, 2, 3]])
    data = Reading(identifier="who").read(str(path))
    assert list(data.row_names) == cells
    assert data.column_names == ("a",)


@pytest.mark.parametrize("number", ["1", "column1", "01"])
def test_a_column_without_a_name_has_a_number(tmp_path: Path, number) -> None:
    path = write_csv(tmp_path / "t.csv", [], [["007", "008"], [1.5, 2.5], [3, 4]])
    data = Reading(header=False, identifier=number, ignore=("3",)).read(str(path))
    assert list(data.row_names) == ["007", "008"]
    assert data.column_names == ("column2",)
    with pytest.raises(InvalidValueError, match="no column 'column4'"):
        Reading(header=False, identifier="4").read(str(path))
    named = write_csv(tmp_path / "n.csv", ["2", "1"], [["007", "008"], [1.5, 2.5]])
    assert list(Reading(identifier="2").read(str(named)).row_names) == ["007", "008"]


BIG = [2**62 + 1, 2**62 + 2, None]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (pa.array(BIG), [str(BIG[0]), str(BIG[1]), ""]),
        (pa.array([2**64 - 1, 0, 1], pa.uint64()), [str(2**64 - 1), "0", "1"]),
        (pa.array([Decimal("1.10"), Decimal("2.00"), None]), ["1.10", "2.00", ""]),
        (
            pa.array(
                [Decimal(10**30 + 1), Decimal(10**30), None], pa.decimal128(38, 0)
            ),
            [str(10**30 + 1), str(10**30), ""],
        ),
        (pa.array([12345678901.0, 2.0, 0.1]), ["12345678901", "2", "0.1"]),
        (
            pa.array([datetime.date(2021, 3, day) for day in (1, 2, 3)]),
            ["2021-03-01", "2021-03-02", "2021-03-03"],
        ),
        (
            pa.array([datetime.datetime(2021, 3, 1, hour) for hour in (0, 1, 2)]),
            ["2021-03-01 00:00:00", "2021-03-01 01:00:00", "2021-03-01 02:00:00"],
        ),
        (
            pa.array([0, 1500000], pa.timestamp("us")).take(pa.array([0, 1, 0])),
            [f"1970-01-01 00:00:0{x}" for x in ("0.000000", "1.500000", "0.000000")],
        ),
        (pa.array(["007", None, "nan"]).dictionary_encode(), ["007", "", "nan"]),
        (pa.array(["NA", "007", "nan"]), ["NA", "007", "nan"]),
        (pa.array([True, False, None]), ["true", "false", ""]),
        (pa.array([["a"], [], None]), ["['a']", "[]", ""]),
    ],
)
def test_names_of_rows_in_parquet(tmp_path: Path, cells, names) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"who": cells, "a": [1.0, None, 3.0]}), path)
    data = Reading(identifier="who").read(str(path))
    assert list(data.row_names) == names
    assert data.column_names == ("a",)
    # The table with its holes filled has the same names.
    text = data.values.filled({"a": np.full(3, 2.0)})
    found = [row[0] for row in csv.reader(text.splitlines())][1:]
    assert found == names


def test_names_of_rows_in_an_array(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.array([[2**60 + 1, 5], [2**60 + 2, 6]]))
    data = Reading(identifier="0").read(str(path))
    assert list(data.row_names) == [str(2**60 + 1), str(2**60 + 2)]


# Levels of new rows


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """Return the folder of a run whose levels look like other things."""
    folder = tmp_path_factory.mktemp("levels")
    count = 40
    x, y, _ = numbers(count)
    columns = {
        "code": ["01", "02", "10", "48"],
        "flag": ["yes", "no"],
        "odd": ["yes", "no", "TRUE"],
        "when": ["2021-01-01", "2021-01-02", "n/a"],
        "part": ["1", "2", "x"],
        "rate": ["low", "high", "medium", "low"],
    }
    cells = [[v[i % len(v)] for i in range(count)] for v in columns.values()]
    table = write_csv(folder / "t.csv", ["x", "y", *columns], [x, y, *cells])
    code = main(
        ["factorize", str(table), "--rank", "1", "--loss-of", "rate=ordinal", "--quiet",
         "--out", str(folder / "run")]
    )  # fmt: skip
    assert code == 0
    return folder / "run"


HEADER = ["x", "y", "code", "flag", "odd", "when", "part", "rate"]
SAME = [
    [0.5, 1.0],
    [1.1, 2.1],
    ["10", "48"],
    ["yes", "yes"],
    ["TRUE", "TRUE"],
    ["2021-01-02", "2021-01-01"],
    ["1", "2"],
    ["low", "high"],
]


def scores(folder: Path) -> np.ndarray:
    table = pq.read_table(folder / "rows.parquet")
    return np.asarray(table.column("component_1"))


def applied(run: Path, table: Path, out: Path, *options: str) -> int:
    return main(["apply", str(run), str(table), "--out", str(out), *options])


def test_levels_that_look_like_something_else(fitted: Path, tmp_path: Path) -> None:
    as_fitted = [cells * 3 for cells in SAME]  # beside others, as in the fit
    as_fitted[2] = [*as_fitted[2][:4], "01", "02"]
    as_fitted[3] = [*as_fitted[3][:4], "no", "no"]
    as_fitted[4] = [*as_fitted[4][:4], "no", "yes"]
    as_fitted[5] = [*as_fitted[5][:4], "n/a", "n/a"]
    as_fitted[6] = [*as_fitted[6][:4], "x", "x"]
    table = write_csv(tmp_path / "fit.csv", HEADER, as_fitted)
    assert applied(fitted, table, tmp_path / "fit", "--quiet") == 0
    expected = scores(tmp_path / "fit")[:2]
    text = write_csv(tmp_path / "text.csv", HEADER, SAME)
    assert applied(fitted, text, tmp_path / "text", "--quiet") == 0
    np.testing.assert_allclose(scores(tmp_path / "text"), expected, rtol=1e-12)
    typed = [
        *SAME[:2],
        [10, 48],
        [True, True],
        [True, True],
        [datetime.date(2021, 1, 2), datetime.date(2021, 1, 1)],
        [1, 2],
        ["Low", "HIGH"],
    ]
    path = tmp_path / "typed.parquet"
    pq.write_table(pa.table(dict(zip(HEADER, typed, strict=True))), path)
    assert applied(fitted, path, tmp_path / "typed", "--quiet") == 0
    np.testing.assert_allclose(scores(tmp_path / "typed"), expected, rtol=1e-12)


def test_unseen_levels_end_in_a_sentence(fitted: Path, tmp_path: Path, capsys) -> None:
    new = [*SAME[:2], [10, 99], *SAME[3:7], ["awful", "awful"]]
    table = write_csv(tmp_path / "new.csv", HEADER, new)
    assert applied(fitted, table, tmp_path / "out") == 2
    said = capsys.readouterr().err
    for words in (
        "column 'code' holds '99', which the model was not fitted with",
        "'01', '02', '10', '48'",
        "column 'rate' holds 'awful' in 2 cells",
        "--unseen missing",
    ):
        assert words in said
    assert "np." not in said
    assert not (tmp_path / "out").exists()


def test_unseen_levels_may_be_missing_cells(
    fitted: Path, tmp_path: Path, capsys
) -> None:
    new = [*SAME[:2], [10, 99], *SAME[3:7], ["awful", "awful"]]
    table = write_csv(tmp_path / "new.csv", HEADER, new)
    filled = tmp_path / "filled.csv"
    options = ("--unseen", "missing", "--impute", str(filled))
    assert applied(fitted, table, tmp_path / "out", *options) == 0
    said = capsys.readouterr().out
    assert "code: 1 cell read as missing" in said
    assert "rate: 2 cells read as missing" in said
    assert "3 missing cells filled" in said
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["unseen"] == [
        {"column": "code", "level": "99", "cells": 1},
        {"column": "rate", "level": "awful", "cells": 2},
    ]
    # All is as if the cells were empty.
    blank = [*SAME[:2], [10, ""], *SAME[3:7], ["", ""]]
    empty = write_csv(tmp_path / "empty.csv", HEADER, blank)
    wanted = tmp_path / "wanted.csv"
    options = ("--impute", str(wanted), "--quiet")
    assert applied(fitted, empty, tmp_path / "other", *options) == 0
    np.testing.assert_array_equal(scores(tmp_path / "out"), scores(tmp_path / "other"))
    assert filled.read_text() == wanted.read_text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    x, _, z = numbers(40)
    codes = [["01", "02", "10", "48"][i % 4] for i in range(40)]
    flags = [["yes", "no"][i % 2] for i in range(40)]
    ids = [str(10**18 + i) for i in range(40)]
    table = write_csv(
        folder / "t.csv", ["id", "x", "code", "flag", "z"], [ids, x, codes, flags, z]
    )
    code = main(
        ["train", str(table), "--target", "z", "--id", "id", "--starts", "2", "--epochs", "2",
         "--diagnose", "0", "--quiet", "--out", str(folder / "run")]
    )  # fmt: skip
    assert code == 0
    return folder / "run"


def predictions(folder: Path) -> np.ndarray:
    return np.asarray(pq.read_table(folder / "predictions.parquet").column("z"))


def test_a_network_names_rows_to_the_letter(trained: Path, tmp_path: Path) -> None:
    table = trained.parent / "t.csv"
    assert applied(trained, table, tmp_path / "new", "--quiet") == 0
    found = pq.read_table(tmp_path / "new" / "predictions.parquet").column("row")
    assert found.to_pylist() == [str(10**18 + i) for i in range(40)]


def test_a_network_knows_its_levels_too(trained: Path, tmp_path: Path, capsys) -> None:
    header = ["x", "code", "flag"]
    wide = [[0.5, 1, 2], ["10", "48", "01"], ["yes", "yes", "no"]]
    table = write_csv(tmp_path / "wide.csv", header, wide)
    assert applied(trained, table, tmp_path / "wide", "--quiet") == 0
    expected = predictions(tmp_path / "wide")[:2]
    narrow = write_csv(tmp_path / "narrow.csv", header, [cells[:2] for cells in wide])
    assert applied(trained, narrow, tmp_path / "narrow", "--quiet") == 0
    np.testing.assert_allclose(predictions(tmp_path / "narrow"), expected, rtol=1e-5)
    path = tmp_path / "typed.parquet"
    typed = {"x": [0.5, 1.0], "code": [10, 48], "flag": [True, True]}
    pq.write_table(pa.table(typed), path)
    assert applied(trained, path, tmp_path / "typed", "--quiet") == 0
    np.testing.assert_allclose(predictions(tmp_path / "typed"), expected, rtol=1e-5)
    unseen = write_csv(tmp_path / "u.csv", header, [[0.5, 1], [99, 10], ["yes", "no"]])
    assert applied(trained, unseen, tmp_path / "u") == 2
    assert "'code' holds '99'" in (said := capsys.readouterr().err)
    assert "--unseen missing" in said
    assert applied(trained, unseen, tmp_path / "u", "--unseen", "missing") == 0
    assert "code: 1 cell read as missing" in capsys.readouterr().out
    blank = write_csv(tmp_path / "b.csv", header, [[0.5, 1], ["", 10], ["yes", "no"]])
    assert applied(trained, blank, tmp_path / "b", "--quiet") == 0
    np.testing.assert_array_equal(
        predictions(tmp_path / "u"), predictions(tmp_path / "b")
    )
    days = write_csv(tmp_path / "d.csv", header, [["2021-01-01"], ["10"], ["no"]])
    assert applied(trained, days, tmp_path / "d") == 2
    assert "trained with numbers there" in capsys.readouterr().err


# Orders


def test_levels_of_the_command(tmp_path: Path, capsys) -> None:
    x, y, _ = numbers(30)
    cells = [["red", "green", "blue"][int(v > -0.5) + int(v > 0.5)] for v in x]
    columns = [x, y, cells, cells, ["a", "b", "c"] * 10]
    table = write_csv(tmp_path / "t.csv", ["x", "y", "p", "q", "r"], columns)
    options = ["factorize", str(table), "--rank", "1", "--out", str(tmp_path / "o")]
    assert main([*options, "--loss", "ordinal"]) == 2
    said = capsys.readouterr().err
    for words in ("column 'p' has 3 levels", "'q' has", "'r' has", "--levels"):
        assert words in said
    wrong = [
        *options,
        "--levels",
        "p,q=red,green,blue",
        "--levels",
        "q=a,b",
        "--rank",
        "0",
    ]
    assert main(wrong) == 2
    said = capsys.readouterr().err
    assert "--levels names 'q' twice" in said
    assert "--rank is '0'" in said
    assert main([*options, "--levels", "p,q=red,green"]) == 2
    assert "'p' holds 'blue' in" in capsys.readouterr().err
    assert main([*options, "--levels", "p,q=RED, green,blue"]) == 0
    said = capsys.readouterr().out
    assert "q: order of 3 levels" in said
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    losses = {"x": "squared", "y": "squared", "r": "categorical"}
    assert result["losses"] == losses | {"p": "ordinal", "q": "ordinal"}
    data = Reading(levels=("p,q=red,green,blue",)).read(str(table))
    codes = [["red", "green", "blue"].index(cell) for cell in cells]
    assert data.values.column("q").values.tolist() == codes


def test_levels_are_for_columns_of_a_table(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", ["a", "b", "c"], [["x"], ["y"], [1]])
    with pytest.raises(InvalidValueError, match="--levels is for columns"):
        Reading(triples=True, levels=("a=x,y",)).read(str(table))
    bare = write_csv(tmp_path / "b.csv", [], [["lo", "hi"], [1, 2]])
    data = Reading(header=False, levels=("1=lo,hi",)).read(str(bare))
    assert data.values.column("column1").levels == ("lo", "hi")
