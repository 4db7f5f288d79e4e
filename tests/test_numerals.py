"""Numbers as people write them: read where there is no doubt, and else pointed at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descents.cli.main import main
from descents.tables.files import read, read_triples
from descents.tables.numerals import Written, ways
from descents.tables.open_ends import open_ends
from descents.tables.typed_columns import remarks

NAN = np.nan
MINUS = "\u2212"


@pytest.fixture
def column(tmp_path: Path) -> Any:
    """Return a function that reads cells as the first of two columns of a file."""

    def reads(cells: list[str], delimiter: str = ";", **given: Any) -> Any:
        quoted = [f'"{cell}"' if delimiter in cell else cell for cell in cells]
        lines = [f"{cell}{delimiter}{k}" for k, cell in enumerate(quoted)]
        path = tmp_path / ("t.tsv" if delimiter == "\t" else "t.csv")
        path.write_text("\n".join([f"a{delimiter}k", *lines, ""]), encoding="utf-8")
        return read(path, **given).column("a")

    return reads


@pytest.mark.parametrize(
    ("cells", "values", "says"),
    [
        (["76,4", "181,60", "-0,698"], [76.4, 181.6, -0.698], "decimal commas"),
        (["0,333", "1,234"], [0.333, 1.234], "decimal commas"),
        (["1,234,567", "12", ""], [1234567, 12, NAN], "commas between thousands"),
        (["1.234.567,8", "12,5"], [1234567.8, 12.5], "points between thousands"),
        (["1.234.567", "1.234"], [1234567, 1234], "points between thousands"),
        (["1,234.5", "2"], [1234.5, 2], "commas between thousands"),
        (["12,345", "678", "9"], [12345, 678, 9], "commas between thousands"),
        (
            ["₹7,66,767.08", "₹5.00"],
            [766767.08, 5],
            "commas between lakhs and thousands",
        ),
        (["1,23,45,678", "1,234"], [12345678, 1234], "commas between lakhs"),
        (["1 234", "56 789", "3"], [1234, 56789, 3], "spaces between thousands"),
        (["1\u2009234,5", "2"], [1234.5, 2], "decimal commas and spaces between"),
        (["1\u00a0234", "1\u202f234\u202f567"], [1234, 1234567], "spaces between"),
        (["1'234.50", "12.00"], [1234.5, 12], "apostrophes between thousands"),
        (["1\u2019234", "5"], [1234, 5], "apostrophes between thousands"),
        (["12%", "5.5 %", "NA"], [12, 5.5, NAN], "'%' removed"),
        (["$6.00", "-$5.00", "$-4.00"], [6, -5, -4], "'$' removed"),
        (["$6.00", "($5.00)", "$(4.00)"], [6, -5, -4], "negative in brackets"),
        (["6.00", "(5.00)"], [6, -5], "negative in brackets"),
        (["1.234,50 €", "5,00 €"], [1234.5, 5], "'€' removed"),
        (["CHF 1'234.50", "CHF 5"], [1234.5, 5], "'CHF' removed"),
        (["5 USD", "1.5 USD"], [5, 1.5], "'USD' removed"),
        (["12 kg", "3 kg"], [12, 3], "'kg' removed"),
        (["3.5cm", "4cm"], [3.5, 4], "'cm' removed"),
        (["21 °C", "-3.5 °C"], [21, -3.5], "'°C' removed"),
        (["50 km/h", "130 km/h"], [50, 130], "'km/h' removed"),
        ([f"{MINUS}5", "3", f"{MINUS}1.5"], [-5, 3, -1.5], "minus signs"),
        ([f"{MINUS}5,5 €", "3 €"], [-5.5, 3], "minus signs"),
    ],
)
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_one_way_of_writing_is_read_and_said(
    column, cells, values, says, delimiter
) -> None:
    found = column(cells, delimiter)
    assert found.kind == "number"
    np.testing.assert_array_equal(found.values, np.array(values, dtype=float))
    (line,) = remarks([found])
    assert line.startswith("a: read as numbers")
    assert says in line
    assert found.whole == all(np.isnan(x) or x == int(x) for x in values) or any(
        "." in cell or "," in cell for cell in cells
    )


@pytest.mark.parametrize(
    "cells",
    [
        ["01.02.2020", "03.04.2021"],
        ["2020-01", "2020-02"],
        ["12:30", "13:45"],
        ["1.2.3", "1.2.4"],
        ["192.168.100.200", "192.168.100.201"],
        ["555 123 456", "555 987 654"],
        ["+49 123 456", "+49 234 567"],
        ["030 123 456", "030 234 567"],
        ["555-123-4567", "555-123-4568"],
        ["01234 kg", "5 kg"],
        ["007", "008"],
        ["5th", "6th"],
        ["5pm", "6pm"],
        ["1990s", "2000s"],
        ["101A", "102A"],
        ["123 LH", "456 LH"],
        ["12 Main St", "14 Main St"],
        ["1/2", "3/4"],
        ["5-7", "8-9"],
        ["(1)", "(2)"],
        ["1,2,3", "1,2"],
        ["1 2 3", "4 5 6"],
        ["3 kg", "4 lb"],
        ["3 kg", "4"],
        ["$3", "€4"],
        ["1234", "12,345"],
        ["12,34,567", "1,234,567"],
        ["5'10", "6'1"],
        ["A1", "A2"],
        ["1e", "2e"],
    ],
)
@pytest.mark.parametrize("delimiter", [";", ","])
def test_what_is_counted_in_no_single_way_stays_text(column, cells, delimiter) -> None:
    assert column(cells, delimiter).kind in ("text", "category", "date")


def test_a_comma_in_doubt_is_decided_by_others_or_pointed_at(
    column, tmp_path: Path
) -> None:
    cells = ["1,234", "5,678"]
    doubt = column(cells)
    assert doubt.kind == "text"
    assert "--decimal ," in doubt.says
    assert "--decimal ." in doubt.says
    assert column(cells, decimal=",").values.tolist() == [1.234, 5.678]
    assert column(cells, decimal=".").values.tolist() == [1234, 5678]
    assert column([*cells, "9"]).values.tolist() == [1234, 5678, 9]
    # In a file of commas it has to be quoted, which one who wrote it would not need.
    assert column(cells, ",").values.tolist() == [1234, 5678]
    for other, expected in (("2,5", 1.234), ("2.5", 1234.0)):
        path = tmp_path / "two.csv"
        path.write_text(f"a;b\n1,234;{other}\n5,678;3\n")
        assert read(path).column("a").values[0] == expected
    path.write_text("a;b\n1.234;2,5\n5.678;3\n")
    assert read(path).column("a").values.tolist() == [1234, 5678]
    path.write_text("a;b\n1.234;2\n5.678;3\n")
    assert read(path).column("a").values.tolist() == [1.234, 5.678]
    path.write_text("a;b;c\n1.234;2,5;1.5\n5.678;3,25;2\n")
    table = read(path)
    assert table.column("a").values.tolist() == [1.234, 5.678]
    assert table.column("b").values.tolist() == [2.5, 3.25]


def test_decimal_commas_do_not_part_the_cells(tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("76,4;181,60\n70,3;163,88\n")
    table = read(path, header=False)
    assert [c.values.tolist() for c in table.columns] == [[76.4, 70.3], [181.6, 163.88]]
    path.write_text("1,Action|Comedy\n2,Drama|Crime\n")
    assert len(read(path, header=False).columns) == 2
    path.write_text("1,5\n2,6\n")
    assert len(read(path, header=False).columns) == 2


def test_triples_have_such_values_too(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("u;f;v\na;x;1,5\nb;x;2\n")
    assert read_triples(path).values.tolist() == [1.5, 2.0]


def test_filled_cells_are_written_as_the_others_are(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    text = "a;price;share\n1,5;$1.000,50;12 %\n;$2,00;\n2,5;;3 %\n"
    path.write_text(text)
    table = read(path)
    values = {"a": 1234.5, "price": -1234.5, "share": 7.25}
    filled = table.filled({name: np.full(3, x) for name, x in values.items()})
    assert filled == text.replace("\n;", "\n1234,5;").replace(
        "2,00;\n", "2,00;7 %\n"
    ).replace(";;", ";-$1.234,50;")
    path.write_text(filled)
    again = read(path)
    assert [column.kind for column in again.columns] == ["number"] * 3
    assert again.column("price").values.tolist() == [1000.5, 2.0, -1234.5]


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (Written(), -1.5),
        (Written(",", "."), 1234567.25),
        (Written(thousands=",", before="$"), -98765),
        (Written(",", " ", after="€", positive="# €"), 1e-7),
        (Written(thousands="'", before="CHF"), 1e22),
        (Written(",", after="kg"), 0.1),
        (Written(thousands=",", lakhs=True, before="₹"), -123456789.5),
        (Written(thousands=",", lakhs=True), 1234.5),
    ],
)
def test_what_is_written_is_read_back(way: Written, value: float) -> None:
    assert way.number(way.text(value)) == value


def test_a_way_is_the_same_for_new_rows(column) -> None:
    for cells, new, values in (
        (["$6.00", "$5.00"], ["6.00", "5"], [6, 5]),
        (["$6.00", "$5.00"], ["$1,006.00", "($5.00)"], None),
        (["$6.00", "($5.00)"], ["$1,006.00", "($5.00)"], [1006, -5]),
        (["6,5 kg", "5 kg"], ["1,234", "5 kg"], [1.234, 5]),
        (["12", "1,234"], ["1,234", "5,678"], [1234, 5678]),
        (["1.234,5", "1"], ["1.234", "5.678"], [1234, 5678]),
        (["1.234,5", "1"], ["1.234", "5678", "12345,5"], [1234, 5678, 12345.5]),
        (["1,234.5 kg", "1 kg"], ["1234", "12,345 kg"], [1234, 12345]),
        (["1 234", "5"], ["1\u202f234,5", "5,25"], [1234.5, 5.25]),
        (["1'234.5", "5"], ["1’234.5", "1234.25"], [1234.5, 1234.25]),
    ):
        formats = {"decimal": ".", "columns": {}}
        written = column(cells).written
        formats["columns"] = {"a": json.loads(json.dumps(written.described()))}
        found = column(new, formats=formats)
        if values is None:
            assert found.kind != "number"
        else:
            assert found.values.tolist() == values
    # What were levels do not become numbers because new rows happen to look like them.
    assert column(["$5", "$6"], formats={"decimal": ".", "columns": {}}).kind == "text"


def test_open_ends_are_ordered_levels(column) -> None:
    found = column(["10+", "5", "1", "5", "", "9"])
    assert (found.kind, found.levels) == ("order", ("1", "5", "9", "10+"))
    assert found.values.tolist()[:4] == [3, 1, 0, 1]
    (line,) = remarks([found])
    assert line.startswith("a: read as 4 ordered levels, because '10+' is an open end")
    assert open_ends(["<5", "10", "5", ">10"], 20).levels == ("<5", "5", "10", ">10")
    assert open_ends(["10+", "11", "5"], 20) is None
    assert open_ends(["10+", "20+", "5"], 20) is None
    assert open_ends(["1", "2", "3"], 20) is None
    # Thousands, and levels that are all open to one side.
    assert open_ends(["5,000+", "800", "1,200"], 20).levels == (
        "800",
        "1,200",
        "5,000+",
    )
    assert open_ends(["5,000+", "10+", "500+"], 20).levels == ("10+", "500+", "5,000+")
    assert open_ends(["10+", "<5", "20+"], 20) is None
    many = column(["<0.5", *(f"{1 + k / 8}" for k in range(30))])
    assert many.kind == "text"
    assert "open end (--missing '<0.5'" in many.says
    again = column(["5", "1"], formats={"columns": {"a": found.written.described()}})
    assert again.levels == found.levels
    assert again.values.tolist() == [1, 0]


def test_several_units_and_words_among_money_are_named(column) -> None:
    assert "several units ('kg', 'lb')" in column(["3 kg", "4 lb", "5 kg"]).says
    assert "(none, 'kg')" in column(["3 kg", "4", "5 kg"]).says
    assert "except for 'free'" in column(["$3", "free", "$5", "$6"]).says


def test_no_more_than_two_ways() -> None:
    assert [way.decimal for way in ways(["1,234"])] == [".", ","]
    assert ways([]) == []
    assert [way.decimal for way in ways(["1 234"])] == ["."]


def test_the_commands_remember_how_numbers_are_written(tmp_path: Path, capsys) -> None:
    generator = np.random.default_rng(0)
    prices = [f"${x:.2f}" for x in 5 + generator.random(20)]
    shares = [f"{x:.2f}".replace(".", ",") for x in generator.random(20)]
    lines = [
        f"{p};{s};{k}" for k, (p, s) in enumerate(zip(prices, shares, strict=True))
    ]
    table, new = tmp_path / "table.csv", tmp_path / "new.csv"
    table.write_text("\n".join(["price;share;k", *lines, ""]).replace(".", ","))
    new.write_text("price;share;k\n6,00;;3\n;0,25;4\n")
    out = tmp_path / "run"
    assert main(["factorize", str(table), "--rank", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "price: read as numbers with decimal commas, '$' removed"
    assert printed[1] == "share: read as numbers with decimal commas"
    found = json.loads((out / "result.json").read_text())["formats"]
    assert found["decimal"] == ","
    assert found["columns"]["price"]["before"] == "$"
    filled = tmp_path / "filled.csv"
    arguments = ["apply", str(out), str(new), "--impute", str(filled)]
    assert main([*arguments, "--out", str(tmp_path / "applied"), "--quiet"]) == 0
    rows = [line.split(";") for line in filled.read_text().splitlines()]
    assert rows[1][0] == "6,00"
    assert rows[2][1] == "0,25"
    assert 4 < float(rows[2][0].replace(",", ".")) < 7
    assert 0 < float(rows[1][1].replace(",", ".")) < 1
    training = ["train", str(table), "--target", "price", "--starts", "2"]
    network = tmp_path / "network"
    training += ["--epochs", "2", "--diagnose", "0", "--out", str(network), "--quiet"]
    assert main(training) == 0
    assert json.loads((network / "result.json").read_text())["task"] == "regression"
    new.write_text("share;k\n0,5;3\n")
    applied = ["apply", str(network), str(new), "--out", str(tmp_path / "predicted")]
    assert main([*applied, "--quiet"]) == 0
