"""Which mark is decimal: the file shows it, a fit remembers it, and doubt is said."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.tables.files import read

GERMAN, US = (",", "."), (".", ",")


def written(value: float, marks: tuple[str, str], digits: int = 2) -> str:
    """Return a number in a convention, by another route than `Written.text`."""
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans({".": marks[0], ",": marks[1]}))


def file_of(path: Path, columns: dict[str, list[str]], delimiter: str = ";") -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [columns, *rows]
    cells = (
        [f'"{cell}"' if delimiter in cell else cell for cell in line] for line in lines
    )
    path.write_text("\n".join(map(delimiter.join, cells)) + "\n", encoding="utf-8")
    return path


def remembered(path: Path, columns: dict[str, list[str]], delimiter: str = ";") -> Any:
    formats = read(file_of(path, columns, delimiter)).formats()
    return json.loads(json.dumps(formats))


UNITS = ["#", "# €", "$#", "#%", "# %", "#\u00a0kg", "CHF #"]


@pytest.mark.parametrize("form", UNITS)
@pytest.mark.parametrize(
    ("fit", "new"), list(itertools.product([GERMAN, US], repeat=2))
)
@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_shows_its_marks_is_read_by_them(
    tmp_path, form, fit, new, large
) -> None:
    """New rows in any of two conventions give the numbers that were written."""
    numbers = [1234.5, 7.25, 35.125 * 100, 0.5] if large else [12.5, 7.25, 0.75, 3.0]
    cells = [form.replace("#", written(x, fit)) for x in numbers]
    formats = remembered(tmp_path / "fit.csv", {"a": cells, "k": list("1234")})
    cells = [form.replace("#", written(x, new)) for x in numbers]
    table = read(
        file_of(tmp_path / "new.csv", {"a": ["", *cells], "k": list("12345")}),
        formats=formats,
    )
    column = table.column("a")
    np.testing.assert_allclose(column.values[1:], np.round(numbers, 2), rtol=1e-15)
    said = any("the table of the fit has decimal" in x for x in table.notes)
    assert said == (fit != new)
    # A cell that is filled is written as the others of the new file are.
    filled = table.filled({"a": np.full(5, 1234.5)}).splitlines()[1].split(";")[0]
    if form == "#" and not large:
        assert filled == f"1234{new[0]}5"
    else:
        assert filled == form.replace("#", written(1234.5, new)).replace(
            "" if large else new[1], ""
        )


@pytest.mark.parametrize(("fit", "value"), [(GERMAN, 35125.0), (US, 35.125)])
@pytest.mark.parametrize("unit", ["", " kg", " €"])
def test_in_doubt_the_fit_decides_and_both_readings_are_said(
    tmp_path, fit, value, unit
) -> None:
    cells = [written(x, fit) + unit for x in (1.5, 2.25, 3.75)]
    formats = remembered(tmp_path / "fit.csv", {"a": cells, "k": list("123")})
    path = file_of(
        tmp_path / "new.csv", {"a": [f"35.125{unit}", "7" + unit]} | {"k": list("12")}
    )
    table = read(path, formats=formats)
    assert table.column("a").values.tolist() == [value, 7]
    (note,) = table.notes
    for words in ("a: read with decimal", "35125", "35.125", "--decimal"):
        assert words in note
    # The option decides, and then nothing is left to say.
    for decimal, number in ((",", 35125.0), (".", 35.125)):
        table = read(path, formats=formats, decimal=decimal)
        assert table.column("a").values.tolist() == [number, 7]
        assert not table.notes
    # So does another column, in whichever convention it is.
    for decimal, number in ((",", 35125.0), (".", 35.125)):
        other = {"a": [f"35.125{unit}"], "b": [f"2{decimal}5"], "k": ["1"]}
        fitted = {
            "a": cells,
            "b": [written(x, fit, 1) for x in (1, 2, 3)],
            "k": list("123"),
        }
        formats = remembered(tmp_path / "fit.csv", fitted)
        table = read(file_of(path, other), formats=formats)
        assert table.column("a").values.tolist() == [number]
        assert table.column("b").values.tolist() == [2.5]
        assert len(table.notes) == (decimal != fit[0] or decimal == ",")


def test_a_comma_between_cells_is_no_decimal_one(tmp_path) -> None:
    formats = remembered(tmp_path / "fit.csv", {"a": ["1,5", "2,25"], "k": ["1", "2"]})
    path = file_of(tmp_path / "new.csv", {"a": ["35.125"], "k": ["1"]}, ",")
    table = read(path, formats=formats)
    assert table.column("a").values.tolist() == [35.125]
    assert "read with decimal points, as in this table" in table.notes[0]
    # Where the fit had quoted decimal commas in such a file, it decides.
    fit = {"a": ["1,5", "2,25"], "k": ["1", "2"]}
    formats = remembered(tmp_path / "fit.csv", fit, ",")
    assert read(path, formats=formats).column("a").values.tolist() == [35125]


def test_new_marks_between_thousands_are_said_where_others_agree(tmp_path) -> None:
    fit = {"a": ["21,782", "9,5"], "b": ["1,5", "2,5"], "c": ["1.234,5", "2,5"]}
    formats = remembered(tmp_path / "fit.csv", fit)
    new = {"a": ["21.782", "7"], "b": ["1,5", "2"], "c": ["1.234", "3"]}
    table = read(file_of(tmp_path / "new.csv", new), formats=formats)
    assert table.column("a").values.tolist() == [21782, 7]
    (note,) = table.notes
    assert note.startswith("a: read with decimal commas")
    assert "21.782 read as 21782, not 21.782" in note


def test_a_file_that_contradicts_itself_is_refused_where_it_matters(tmp_path) -> None:
    fit = {"a": ["1,5", "2,5"], "b": ["1,5", "2,5"], "c": ["1,5", "2,5"]}
    formats = remembered(tmp_path / "fit.csv", fit)
    new = {"a": ["35.125", "7"], "b": ["1.5", "2"], "c": ["1,5", "3"]}
    path = file_of(tmp_path / "new.csv", new)
    with pytest.raises(InvalidValueError) as caught:
        read(path, formats=formats)
    message = str(caught.value)
    for words in ("'a'", "35.125 or 35125", "'b'", "'c'", "--decimal", "in one way"):
        assert words in message
    # A file whose columns differ as those of the fit do is no contradiction.
    mixed = {"a": ["1.5", "2.5"], "b": ["1.5", "2.5"], "c": ["1,5", "2,5"]}
    formats = remembered(tmp_path / "fit.csv", mixed)
    table = read(path, formats=formats)
    assert [column.values[0] for column in table.columns] == [35.125, 1.5, 1.5]
    assert not table.notes
    filled = read(file_of(path, {n: ["", *x] for n, x in new.items()}), formats=formats)
    text = filled.filled({name: np.full(3, 0.25) for name in "abc"})
    assert text.splitlines()[1] == "0.25;0.25;0,25"


def test_columns_that_are_no_numbers_of_the_fit_show_nothing(tmp_path) -> None:
    fit = {"a": ["1,5", "2,5"], "v": ["1.2.3", "1.2"]}
    formats = remembered(tmp_path / "fit.csv", fit)
    new = {"a": ["35.125", "7"], "v": ["1.2", "1.10"], "extra": ["0.5", "1.5"]}
    table = read(file_of(tmp_path / "new.csv", new), formats=formats)
    assert table.column("a").values.tolist() == [35125, 7]


@pytest.mark.parametrize(
    ("delimiter", "other", "said"),
    [
        (";", ["1", "2"], True),
        ("\t", ["1", "2"], True),
        (",", ["1", "2"], False),
        (";", ["0.5", "2"], False),
    ],
)
def test_a_point_without_evidence_is_decimal_and_said(
    tmp_path, delimiter, other, said
) -> None:
    columns = {"a": ["181.715", "35.125"], "b": other}
    path = tmp_path / ("t.tsv" if delimiter == "\t" else "t.csv")
    table = read(file_of(path, columns, delimiter))
    assert table.column("a").values.tolist() == [181.715, 35.125]
    assert (
        any("181.715 read with decimal points" in note for note in table.notes) == said
    )
    table = read(path, decimal=",")
    assert table.column("a").values.tolist() == [181715, 35125]
    assert not table.notes


@pytest.mark.parametrize(
    ("cells", "value", "filled"),
    [
        (["($5.25)", "$3.00"], -1234.5678, "($1234.57)"),
        (["$(5.25)", "$3.00"], -1234.5678, "$(1234.57)"),
        (["$5.25", "$(3,000.00)"], -1234.5678, "$(1,234.57)"),
        (["(5.25)", "3.00"], -1234.5678, "(1234.57)"),
        (["-$5.25", "$3.00"], -1234.5678, "-$1234.57"),
        (["$-5.25", "$3.00"], -1234.5678, "$-1234.57"),
        (["$ 5.5", "$ 3"], 20 / 3, "$ 6.7"),
        (["5,25 €", "3 €"], -20 / 3, "-6,67 €"),
        (["5,25\u00a0€", "3,00\u00a0€"], 20 / 3, "6,67\u00a0€"),
        (["\u22125,25 €", "3,00 €"], -20 / 3, "\u22126,67 €"),
        (["1\u202f234,5", "2\u202f345,6"], 9876.54321, "9\u202f876,5"),
        (["1\u2019234.50", "5.00"], 9876.54321, "9\u2019876.54"),
        (["CHF 1'234.50", "CHF 5.00"], 9876.54321, "CHF 9'876.54"),
        (["CHF5.5", "CHF6.5"], 20 / 3, "CHF6.7"),
        (["5.5 %", "12.25 %"], 20 / 3, "6.67 %"),
        (["$5.25", "($3.00)"], -0.001, "$0.00"),
        (["+5.5 %", "-3.5 %"], -20 / 3, "-6.7 %"),
        (["₹1,23,456.50", "₹5.00"], -1234567.891, "-₹12,34,567.89"),
        (["₹1,23,456", "₹5"], 7.3, "₹7"),
        (["5.5", "12.25"], 20 / 3, repr(20 / 3)),
        (["5,5", "12,25"], 20 / 3, repr(20 / 3).replace(".", ",")),
    ],
)
def test_a_filled_cell_has_the_form_and_the_digits_of_its_column(
    tmp_path, cells, value, filled
) -> None:
    path = file_of(tmp_path / "t.csv", {"a": [*cells, ""], "k": list("123")})
    table = read(path)
    text = table.filled({"a": np.full(3, value)})
    assert text.splitlines()[3] == f"{filled};3"
    # New rows without a single number in the column have the form of the fit.
    formats = json.loads(json.dumps(table.formats()))
    blank = read(file_of(path, {"a": ["", ""], "k": ["1", "2"]}), formats=formats)
    if "$" in filled or "€" in filled:
        shown = blank.filled
        assert blank.column("a").kind == "empty"
        assert blank.column("a").written.text(value) == filled
        assert shown({}).splitlines()[1] == ";1"


@pytest.mark.parametrize("option", [[], ["--decimal", ","]])
def test_apply_says_and_fills_in_the_convention_of_the_new_file(
    tmp_path, capsys, option
) -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(10, 99, 30)
    columns = {
        "a": [written(value, GERMAN) for value in x],
        "b": [written(value / 2, GERMAN, 3) for value in x],
    }
    fit = file_of(tmp_path / "fit.csv", columns)
    run, filled = tmp_path / "run", tmp_path / "filled.csv"
    assert main(["factorize", str(fit), "--rank", "1", "--out", str(run), *option]) == 0
    new = file_of(
        tmp_path / "new.csv",
        {"a": ["20.25", "", "30.50"], "b": ["10.125", "12.125", ""]},
    )
    capsys.readouterr()
    applied = ["apply", str(run), str(new), "--impute", str(filled)]
    assert main([*applied, "--out", str(tmp_path / "applied")]) == 0
    printed = capsys.readouterr().out
    assert "a, b: read with decimal points, as in this table" in printed
    rows = [line.split(";") for line in filled.read_text().splitlines()[1:]]
    assert "," not in filled.read_text()
    assert float(rows[1][0]) == pytest.approx(24.25, rel=0.2)
    assert float(rows[2][1]) == pytest.approx(15.25, rel=0.2)


# In the words of the caller


def test_messages_name_options_to_commands_and_parameters_to_python(
    tmp_path, capsys
) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    from descents import LowRankModel, TableOnDisk

    names = [f"name {k}" for k in range(6)]
    colors = ["red", "green", "blue"] * 2
    frame = pa.table({"n": names, "x": np.arange(6.0), "c": colors})
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(frame, path)
    command = ["factorize", str(path), "--rank", "1", "--out", str(tmp_path / "run")]
    for python, options in (
        (lambda: LowRankModel(1).fit(frame), []),
        (
            lambda: LowRankModel(1, loss={"c": "ordinal"}).fit(frame.drop(["n"])),
            ["--ignore", "n", "--loss-of", "c=ordinal"],
        ),
        (lambda: LowRankModel(1).fit(TableOnDisk(path, "1GB")), ["--memory", "1GB"]),
    ):
        with pytest.raises(InvalidValueError) as caught:
            python()
        assert "--" not in str(caught.value)
        assert main([*command, *options]) == 2
        said = capsys.readouterr().err
        assert "--" in said.partition(";")[2]
        assert "loss=" not in said
        assert "ignore=" not in said
