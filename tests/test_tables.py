"""A user's table: read as what it is, given back to the bit with its holes filled."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import time
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from descents.checks import InvalidValueError
from descents.data import tables
from descents.data.tables import Stored, Table, describe, from_frame, read, read_triples

NAN = np.nan


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Return a function that puts text or bytes into a file and gives its path."""

    def put(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


def refused(call: Any, *words: str) -> str:
    """Check that one clear sentence refuses the call."""
    with pytest.raises(InvalidValueError) as caught:
        call()
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    assert len(message) < 500
    assert any(word in message for word in ("give", "check", "columns are"))
    return message


def constant(table: Table, **values: float) -> dict[str, np.ndarray]:
    return {name: np.full(table.rows, value) for name, value in values.items()}


def facts(table: Table) -> list[tuple[str, str, list[float], tuple[Any, ...], bool]]:
    return [
        (c.name, c.kind, np.nan_to_num(c.values, nan=-9).tolist(), c.levels, c.whole)
        for c in table.columns
    ]


# What text holds

PETS = """name;size;age;weight;happy;born;note
rex;S;3; 4.5;yes;2020-01-02;
tom;L;NA;7e0;no;2021-05-06 10:00;
ida;?;10;null;YES;;
leo;S;-2;.5;?;1969-12-31T12:00:00;
"""


def test_text_becomes_numbers_and_levels(write) -> None:
    table = read(write(PETS), missing=["?"])
    names, days = ("name", "size", "age", "weight", "happy", "born", "note"), -0.5
    assert tuple(column.name for column in table.columns) == names
    found = {row[0]: row[1:] for row in facts(table)}
    assert found["name"] == ("text", [2, 3, 0, 1], ("ida", "leo", "rex", "tom"), False)
    assert found["size"] == ("category", [1, 0, -9, 1], ("L", "S"), False)
    assert found["age"] == ("number", [3, -9, 10, -2], (), True)
    assert found["weight"] == ("number", [4.5, 7, -9, 0.5], (), False)
    assert found["happy"] == ("boolean", [1, 0, 1, -9], ("no", "yes"), False)
    born = (datetime.date(2020, 1, 2) - datetime.date(1970, 1, 1)).days
    later = (datetime.date(2021, 5, 6) - datetime.date(1970, 1, 1)).days + 10 / 24
    assert found["born"] == ("date", [born, later, -9, days], (), False)
    assert found["note"] == ("empty", [-9] * 4, (), False)
    assert describe(table.columns) == [
        "name: text, all 4 values different",
        "size: category of 2 levels, 1 missing",
        "age: whole numbers -2 to 10, 1 missing",
        "weight: numbers 0.5 to 7, 1 missing",
        "happy: boolean, 1 missing",
        "born: dates or times, 1 missing",
        "note: empty",
    ]


def test_filled_text_is_the_text_of_the_file_but_for_the_holes(write) -> None:
    table = read(write(PETS), missing=["?"])
    assert table.filled({}) == PETS
    values = constant(table, size=0, age=99.0, weight=1 / 3, happy=0, name=0)
    expected = PETS.replace("?;10;null", "L;10;0.3333333333333333")
    expected = expected.replace("L;NA;", "L;10;").replace(".5;?;", ".5;no;")
    assert table.filled(values) == expected
    assert table.without(["note", "born"]).filled(values) == expected


@pytest.mark.parametrize("mark", tables.MISSING)
def test_every_mark_is_missing(write, mark) -> None:
    table = read(write(f"a,b\n1,x\n {mark} ,y\n"))
    assert facts(table)[0] == ("a", "number", [1, -9], (), True)


def test_twenty_levels_are_a_category_and_more_are_text(write) -> None:
    for count, kind in ((20, "category"), (21, "text")):
        cells = [f"k{i:02}" for i in range(count)] + ["k00"]
        column = read(write("a\n" + "\n".join(cells) + "\n")).column("a")
        assert (column.kind, len(column.levels)) == (kind, count)
        assert [column.levels[int(code)] for code in column.values] == cells


@pytest.mark.parametrize(
    ("cells", "kind", "levels"),
    [
        ("0 1 1", "number", ()),
        ("T F T", "category", ("F", "T")),
        ("True true FALSE", "boolean", ("FALSE", "True")),
        ("TRUE TRUE NA", "boolean", ("FALSE", "TRUE")),
        ("No no no", "boolean", ("No", "Yes")),
        ("yes true yes", "category", ("true", "yes")),
        ("1_000 2 2", "category", ("1_000", "2")),
        ("2020-13-01 2020-13-01", "category", ("2020-13-01",)),
        ("2020-01-01T10:00Z 2020-01-01", "date", ()),
        ("+5 005", "number", ()),
        ("\u0661 \u0661", "category", ("\u0661",)),
    ],
)
def test_kinds_of_text(write, cells, kind, levels) -> None:
    column = read(write("a\n" + cells.replace(" ", "\n"))).column("a")
    assert (column.kind, column.levels) == (kind, levels)


def test_an_unknown_mark_among_numbers_is_pointed_at(write) -> None:
    column = read(write("a\n1\n2\n3\n?\n")).column("a")
    assert column.kind == "text"
    assert column.says.endswith("mostly numbers: is '?' a missing mark?")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(write, delimiter) -> None:
    rows = [["a", "b", "c"], ["1", 'say "x, y"; z', "2.5"], ["3", "two\nlines", ""]]
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    path = write(stream.getvalue())
    table = read(path)
    assert [c.name for c in table.columns] == rows[0]
    assert sorted(table.column("b").levels) == sorted([rows[1][1], rows[2][1]])
    back = table.filled(constant(table, c=4.0))
    rows[2][2] = "4.0"
    assert list(csv.reader(io.StringIO(back, newline=""), delimiter=delimiter)) == rows
    assert back.count("\r\n") == 3


def test_decimal_comma(write) -> None:
    table = read(write("a;b\n1,5;x\n-,5;x\n;1.5\n"), decimal=",")
    assert facts(table)[0] == ("a", "number", [1.5, -0.5, -9], (), False)
    assert table.column("b").kind == "category"
    assert table.filled(constant(table, a=0.25)) == "a;b\n1,5;x\n-,5;x\n0,25;1.5\n"
    # Without quotes, two decimal commas would otherwise cut evenly.
    assert (
        len(read(write("1,5;2,5\n3,5;4,5\n"), header=False, decimal=",").columns) == 2
    )


def test_no_header_blank_names_and_a_byte_order_mark(write) -> None:
    table = read(write("1,2\n3,\n"), header=False)
    assert [c.name for c in table.columns] == ["column1", "column2"]
    assert table.filled(constant(table, column2=7)) == "1,2\n3,2\n"
    table = read(write("\ufeffa, ,b\n1,2,\n"))
    assert [c.name for c in table.columns] == ["a", "column2", "b"]
    assert table.filled({}) == "a, ,b\n1,2,\n"


def test_one_column_with_holes_comes_back(write) -> None:
    table = read(write('a\n1\n""\n\n2\n'))
    assert facts(table) == [("a", "number", [1, -9, 2], (), True)]
    assert table.filled({}) == 'a\n1\n""\n2\n'


def test_encodings_gz_tsv_and_standard_input(write, monkeypatch) -> None:
    text = "größe\tb\n1,5\tä\n2,5\t\n"
    for name, content, options in [
        ("t.tsv", text.encode("latin-1"), {"encoding": "latin-1"}),
        ("t.csv", text.encode("utf-16"), {"encoding": "utf-16"}),
        ("t.TSV.gz", gzip.compress(text.encode()), {}),
        ("t.txt", text.encode("utf-8-sig"), {"delimiter": "\\t"}),
    ]:
        table = read(write(content, name), decimal=",", **options)
        assert facts(table)[0] == ("größe", "number", [1.5, 2.5], (), False)
        assert table.filled({}) == text
    stream = types.SimpleNamespace(buffer=io.BytesIO(text.encode()))
    monkeypatch.setattr("sys.stdin", stream)
    assert read("-").filled({}) == text


def test_a_single_row_and_old_line_ends(write) -> None:
    assert read(write("a,b\nx,1")).rows == 1
    assert facts(read(write("a,b\rx,1\ry,2\r")))[1][2] == [1, 2]


# Frames

MIXED = pd.DataFrame(
    {
        "i8": pd.array([1, None, 5], dtype="Int8"),
        "int": [3, 4, 5],
        "f4": np.array([0.1, NAN, -0.0], dtype=np.float32),
        "F8": pd.array([0.1, None, 2.0], dtype="Float64"),
        "arrow": pd.array([7, None, 9], dtype="int64[pyarrow]"),
        "flag": pd.array([True, None, False], dtype="boolean"),
        "oflag": pd.Series([True, None, False], dtype=object),
        "onum": pd.Series([2, None, 4], dtype=object),
        "dec": pd.Series([Decimal("1.50"), None, Decimal("2.25")], dtype=object),
        "str": ["x", None, "x"],
        "ostr": pd.Series(["x", NAN, "x"], dtype=object),
        "cat": pd.Categorical(["b", None, "b"], categories=["c", "b"]),
        "ord": pd.Categorical([3, None, 1], categories=[1, 2, 3], ordered=True),
        "date": pd.to_datetime(["2020-01-01", None, "2020-01-02"]),
        "none": [None, None, None],
        5: [1.0, 2.0, NAN],
    }
).set_axis([3, 3, 9])


def test_pandas_kinds() -> None:
    found = {row[0]: row[1:] for row in facts(from_frame(MIXED))}
    assert found["i8"] == ("number", [1, -9, 5], (), True)
    assert found["int"] == ("number", [3, 4, 5], (), True)
    assert found["f4"][:3:2] == ("number", ())
    assert found["F8"] == ("number", [0.1, -9, 2], (), False)
    assert found["arrow"] == ("number", [7, -9, 9], (), True)
    for name in ("flag", "oflag"):
        assert found[name] == ("boolean", [1, -9, 0], (False, True), False)
    assert found["onum"] == ("number", [2, -9, 4], (), True)
    assert found["dec"] == ("number", [1.5, -9, 2.25], (), False)
    for name in ("str", "ostr"):
        assert found[name] == ("category", [0, -9, 0], ("x",), False)
    assert found["cat"] == ("category", [0, -9, 0], ("b",), False)
    assert found["ord"] == ("order", [2, -9, 0], (1, 2, 3), False)
    assert found["date"] == ("date", [18262, -9, 18263], (), False)
    assert found["none"][0] == "empty"
    assert found["5"] == ("number", [1, 2, -9], (), False)


def test_pandas_comes_back_with_its_types_index_and_bits() -> None:
    before = MIXED.copy()
    table = from_frame(MIXED)
    values = constant(table, i8=9.0, f4=0.7, F8=0.3, arrow=8.4, flag=1, oflag=0)
    values |= constant(table, onum=2.6, dec=1.987, str=0, ostr=0, cat=0, ord=1, int=0)
    values["5"] = np.array([0, 0, 0.5])
    back = table.filled(values)
    assert (back.dtypes == MIXED.dtypes).all()
    assert back.index.equals(MIXED.index)
    assert list(back.columns) == list(MIXED.columns)
    second = back.iloc[1]
    assert second["i8"] == 5
    assert second["f4"] == np.float32(0.7)
    assert second["F8"] == 0.3
    assert second["arrow"] == 8
    assert second["flag"] is True or second["flag"] == np.True_
    assert second["oflag"] is False
    assert second["onum"] == 3
    assert isinstance(second["onum"], int)
    assert second["dec"] == Decimal("1.99")
    assert [second[name] for name in ("str", "ostr", "cat", "ord")] == [
        "x",
        "x",
        "b",
        2,
    ]
    assert back.iloc[2][5] == 0.5
    assert back["date"].isna().tolist() == [False, True, False]
    pd.testing.assert_frame_equal(back.iloc[[0]], MIXED.iloc[[0]], check_exact=True)
    pd.testing.assert_frame_equal(MIXED, before)
    large = table.filled(constant(table, dec=12345.678))["dec"].tolist()
    assert large == [Decimal("1.50"), Decimal("12345.68"), Decimal("2.25")]
    assert np.signbit(back["f4"].iloc[2])


def test_narrow_types_are_kept() -> None:
    cells = {
        "f": pd.array([1.5, None], dtype="float32[pyarrow]"),
        "d": pd.array([1, None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
        "F": pd.array([1.5, None], dtype="Float32"),
        "h": np.array([1.5, NAN], dtype=np.float16),
        "u": pd.array([2**64 - 1, None], dtype="UInt64"),
    }
    frame = pd.DataFrame(cells)
    back = from_frame(frame).filled({name: np.full(2, 1e3) for name in frame})
    assert (back.dtypes == frame.dtypes).all()
    found = [back[name][1] for name in frame]
    assert found[:4] == [1000, Decimal("999.99"), 1000, 1000]
    assert 2**63 < found[4] < 2**64
    arrow = pa.table({"h": pa.array([1.5, None], pa.float16())})
    table = from_frame(
        arrow.append_column("d", pa.array([1, None]).cast(pa.decimal256(50, 3)))
    )
    assert table.filled(constant(table, h=2, d=7)).to_pydict() == {
        "h": [1.5, 2.0],
        "d": [1, 7],
    }


def test_polars_comes_back_with_its_types() -> None:
    frame = pl.DataFrame(
        {
            "i": pl.Series([1, None, 3], dtype=pl.Int16),
            "f": pl.Series([0.1, NAN, None], dtype=pl.Float32),
            "b": [True, None, False],
            "s": ["x", "x", None],
            "e": pl.Series(["lo", None, "hi"], dtype=pl.Enum(["lo", "mid", "hi"])),
            "c": pl.Series(["q", None, "p"], dtype=pl.Categorical),
            "d": pl.Series([Decimal("1.50"), None, Decimal("2.25")]),
            "t": [datetime.date(2020, 1, 1), None, None],
            "u": pl.Series([datetime.timedelta(days=2), None, None]),
        }
    )
    table = from_frame(frame)
    assert [c.kind for c in table.columns] == [
        *("number", "number", "boolean", "category", "order", "category"),
        *("number", "date", "date"),
    ]
    assert table.column("e").levels == ("lo", "mid", "hi")
    assert table.column("c").levels == ("p", "q")
    assert table.column("u").values[0] == 2
    back = table.filled(constant(table, i=2, f=0.7, b=1, s=0, e=1, c=0, d=1.999))
    assert back.schema == frame.schema
    assert back.row(1)[:1] + back.row(1)[2:7] == (2, True, "x", "mid", "p", Decimal(2))
    assert back["f"].to_list() == [np.float32(0.1), np.float32(0.7), np.float32(0.7)]
    assert back["s"].to_list() == ["x", "x", "x"]
    assert back.row(0) == frame.row(0)
    assert frame["i"].null_count() == 1


def test_pyarrow_comes_back_with_its_types() -> None:
    ordered = pa.DictionaryArray.from_arrays(
        pa.array([1, None, 0], pa.int8()), ["z", "a"], ordered=True
    )
    frame = pa.table(
        {
            "i": pa.array([1, None, 3], pa.uint8()),
            "h": pa.array([1.5, NAN, None], pa.float32()),
            "b": [True, None, False],
            "o": ordered,
            "c": pa.array(["x", None, "y"]).dictionary_encode(),
            "d": pa.array([Decimal("1.50"), None, Decimal("2.25")]),
            "big": pa.array([2**63 - 1, None, 2**63 - 5]),
        }
    ).replace_schema_metadata({"kept": "yes"})
    frame = pa.concat_tables([frame.slice(0, 2), frame.slice(2)])
    table = from_frame(frame)
    assert table.column("o").kind == "order"
    assert table.column("o").levels == ("z", "a")
    back = table.filled(constant(table, i=1.6, h=0.5, b=0, o=0, c=1, d=1e9, big=1e30))
    assert back.schema.equals(frame.schema, check_metadata=True)
    row = {name: cells[1] for name, cells in back.to_pydict().items()}
    assert row.pop("big") < 2**63
    assert row == {
        "i": 2, "h": 0.5, "b": False, "o": "z", "c": "y", "d": Decimal("9.99"),
    }  # fmt: skip
    assert back.slice(0, 1).equals(frame.slice(0, 1))


def test_sparse_and_view_columns() -> None:
    frame = pd.DataFrame({"a": pd.arrays.SparseArray([1.0, NAN, 2.0])})
    table = from_frame(frame)
    assert table.filled(constant(table, a=5))["a"].tolist() == [1, 5, 2]
    frame = pa.table({"s": pa.array(["x", None, "x"], pa.string_view())})
    table = from_frame(frame)
    assert table.filled(constant(table, s=0)).to_pydict() == {"s": ["x", "x", "x"]}


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([[1], None], ["'bad'", "list"]),
        ([{"a": 1}, None], ["'bad'", "struct"]),
        ([object(), None], ["'bad'", "no single known type"]),
        (["a", 1], ["'bad'", "no single known type"]),
        ([1 + 2j, 1j], ["'bad'", "complex"]),
        ([b"a", b"b"], ["'bad'", "binary"]),
        ([2**70, 1], ["'bad'"]),
        ([1.0, np.inf], ["'bad'", "1 infinite", "row 1 (0-based)"]),
        (pd.period_range("2020", periods=2), ["'bad'", "period"]),
        (pd.Categorical(pd.to_datetime(["2020", "2021"])), ["'bad'", "dictionary"]),
    ],
)
def test_what_no_column_may_hold(cells, words) -> None:
    frame = pd.DataFrame({"fine": [1, 2], "bad": pd.Series(cells)})
    refused(lambda: from_frame(frame), *words)


def test_frames_refused() -> None:
    two = pd.DataFrame([[1, 2]], columns=["a", "a"])
    refused(lambda: from_frame(two), "two columns named 'a'")
    refused(lambda: from_frame(pd.DataFrame({1: [1], "1": [2]})), "two columns", "'1'")
    refused(lambda: from_frame(pa.table([[1], [2]], names=["a", "a"])), "two columns")
    refused(lambda: from_frame(pd.DataFrame({"a": []})), "no rows")
    refused(lambda: from_frame(pd.DataFrame(index=[1, 2])), "no columns")
    refused(lambda: from_frame([[1]]), "list", "pandas")
    refused(lambda: from_frame(pl.LazyFrame({"a": [1]})), "LazyFrame", "collect()")
    objects = pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)})
    refused(lambda: from_frame(objects), "'o'")


def test_names_and_values_refused() -> None:
    table = from_frame(MIXED)
    refused(lambda: table.column("dat"), "'dat'", "did you mean 'date'", "i8, int, f4")
    refused(lambda: table.without(["nothing"]), "'nothing'")
    assert "did you" not in refused(lambda: table.column("zzzz"), "there is no column")
    refused(lambda: table.filled({"zzzz": np.zeros(3)}), "there is no column")
    refused(lambda: table.filled({"i8": np.zeros(2)}), "'i8'", "(2,)", "3 rows")
    refused(lambda: table.filled({"i8": np.full(3, NAN)}), "'i8'", "not finite")
    refused(
        lambda: table.filled({"ord": np.full(3, 3.0)}), "'ord'", "codes from 0 to 2"
    )
    refused(lambda: table.filled({"date": np.zeros(3)}), "'date'", "cannot be filled")
    refused(lambda: table.filled({"none": np.zeros(3)}), "'none'", "empty")
    assert table.filled({"int": np.full(3, NAN)})["int"].tolist() == [3, 4, 5]


# Other files


def test_parquet(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    frame = pl.DataFrame(
        {
            "a": [0.1, None, 1e22],
            "e": pl.Series(["lo", None, "hi"], dtype=pl.Enum(["lo", "hi"])),
            "t": [datetime.date(2020, 1, 1), None, None],
            "s": ['say "x"', "a,b", None],
            "f": pl.Series([0.1, NAN, 1], dtype=pl.Float32),
            "u": [datetime.timedelta(days=2), None, None],
        }
    )
    frame.write_parquet(path)
    table = read(path)
    assert isinstance(table, Table)
    assert facts(table)[0] == ("a", "number", [0.1, -9, 1e22], (), False)
    back = table.filled(constant(table, a=0.5, e=0))
    assert back.splitlines()[:3] == [
        "a,e,t,s,f,u",
        '0.1,lo,2020-01-01,"say ""x""",0.1,172800000000',
        '0.5,lo,,"a,b",,',
    ]
    nested = tmp_path / "nested.parquet"
    pq.write_table(pa.table({"deep": [[1], [2]]}), nested)
    refused(lambda: read(nested), "'deep'", "list")


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("f2", "number"), (">f8", "number"), ("i1", "number"), ("u8", "number"), ("?", "boolean")],
)  # fmt: skip
def test_dense_arrays(tmp_path, dtype, kind) -> None:
    array = np.array([[1, 0, 1], [0, 1, 1]], dtype=dtype)
    path = tmp_path / "t.npy"
    np.save(path, array)
    np.savez(tmp_path / "one.npz", anything=array)
    np.savez(tmp_path / "more.npz", X=array, y=np.zeros(2))
    for name in ("t.npy", "one.npz", "more.npz"):
        table = read(tmp_path / name)
        assert isinstance(table, Table)
        assert [c.name for c in table.columns] == ["0", "1", "2"]
        assert {c.kind for c in table.columns} == {kind}
        found = np.stack([c.values for c in table.columns], axis=1)
        np.testing.assert_array_equal(found, array.astype(float))


def test_npy_with_holes_is_filled_to_the_bit(tmp_path) -> None:
    array = np.random.default_rng(0).standard_normal((20, 3))
    array[4, 1] = NAN
    np.save(tmp_path / "t.npy", array)
    table = read(tmp_path / "t.npy")
    text = table.filled({"1": np.full(20, 1 / 3)})
    array[4, 1] = 1 / 3
    np.testing.assert_array_equal(
        np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1), array
    )


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr"])
def test_sparse_keeps_a_stored_zero(tmp_path, kind) -> None:
    entries = (np.array([0.0, 3.0, 2.0]), ([0, 1, 1], [1, 0, 2]))
    matrix = sp.coo_array(entries, shape=(2, 3)).asformat(kind)
    sp.save_npz(tmp_path / "t.npz", matrix)
    stored = read(tmp_path / "t.npz")
    assert isinstance(stored, Stored)
    assert stored.row_names == ("0", "1")
    assert stored.column_names == ("0", "1", "2")
    if kind != "bsr":
        assert sorted(stored.values) == [0, 2, 3]
        assert stored.to_sparse().nnz == 3
    np.testing.assert_array_equal(stored.to_sparse().toarray(), matrix.toarray())


def test_triples(write) -> None:
    path = write("u,i,v,time\nu10,7,1.5,9\nu9,10,0,9\nu9,7,NA,9\nu11,x,2,9\n")
    stored = read_triples(path)
    assert stored.row_names == ("u9", "u10", "u11")
    assert stored.column_names == ("7", "10", "x")
    assert stored.rows.tolist() == [1, 0, 2]
    assert stored.columns.tolist() == [0, 1, 2]
    assert stored.values.tolist() == [1.5, 0, 2]
    assert stored.shape == (3, 3)
    bare = read_triples(write("10;2;1,5\n9;2;2\n"), header=False, decimal=",")
    assert bare.row_names == ("9", "10")
    path = path.with_suffix(".parquet")
    pq.write_table(pa.table({"u": [10, 9], "i": ["a", "b"], "v": [1, 2]}), path)
    assert read_triples(path).row_names == ("9", "10")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("u,i\na,b\n", ["2 column(s)", "row, column, value"]),
        ("u,i,v\na,b,c\n", ["third column", "'v'", "text"]),
        ("u,i,v\na,b,NA\n", ["third column", "empty"]),
        ("u,i,v\na,b,1\n,b,1\n", ["'u'", "no label", "row 1 (0-based)"]),
        ("u,i,v\na,b,1\nc,d,1\na,b,2\nc,d,1\n", ["row 'a', column 'b'", "2 such"]),
        ("u,i,v\na,b,inf\n", ["'v'", "infinite"]),
    ],
)
def test_triples_refused(write, text, words) -> None:
    refused(lambda: read_triples(write(text)), *words)


# What cannot be read


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["empty"]),
        (" \n\n", ["empty"]),
        ("a,b\n", ["header and no rows"]),
        ("a,b\n1,2\n\n3\n", ["line 4 has 1 cell(s), the first line 2", "','"]),
        ('a,b\n"x\ny",2\n3,4,5\n', ["line 4 has 3 cell(s)"]),
        ('a,b\n"x,1\ny,2\n', ["line 2"]),
        ("a,b,a\n1,2,3\n", ["two columns named 'a'", "header"]),
        ("a,b\n1,inf\n2,-Infinity\n", ["'b'", "2 infinite", "row 0 (0-based)"]),
        ("a\n1e999\n", ["'a'", "infinite"]),
        ("größe\n1\n".encode("latin-1"), ["byte 2", "line 1", "--encoding latin-1"]),
        (b"a\n1\n\xff\n", ["byte 4", "line 3", "latin-1"]),
        ("a,b\n1,2\n".encode("utf-16"), ["--encoding utf-16"]),
        (bytes(range(256)) * 9, ["zero bytes"]),
        (b"a,b\n1,\0\n", ["zero bytes"]),
        (gzip.compress(b"a,b\n1,2\n"), ["zero bytes"]),
    ],
)
def test_bad_text(write, content, words) -> None:
    path = write(content)
    refused(lambda: read(path), *words)


def test_bad_places_and_options(write, tmp_path) -> None:
    path = write("a,b\n1,2\n")
    refused(lambda: read(tmp_path / "absent.csv"), "no file", "absent.csv")
    refused(lambda: read("x" * 300), "no file")
    refused(lambda: read("a\0b"), "no file")
    refused(lambda: read(tmp_path), "folder")
    refused(lambda: read(MIXED), "DataFrame", "path")
    refused(lambda: read("/proc/self/mem"), "cannot be read")
    refused(lambda: read(path, decimal="x"), "decimal is 'x'")
    for mark in ("ab", "", '"', "\n", "é"):
        refused(lambda mark=mark: read(path, delimiter=mark), "delimiter is")
    refused(lambda: read(path, delimiter=",", decimal=","), "decimal")
    refused(lambda: read(path, encoding="utf-99"), "'utf-99'", "unknown")
    refused(lambda: read(path, missing=[1]), "missing is [1]")
    assert read(path, missing="2").column("b").kind == "empty"


def test_endless_lines(write, monkeypatch) -> None:
    began = time.monotonic()
    refused(lambda: read(write("x" * 50_000_000)), "huge cell")
    refused(lambda: read(write("1," * 25_000_000)), "25000001 columns")
    assert time.monotonic() - began < 15
    monkeypatch.setattr(tables, "LONGEST_LINE", 2**21)
    path = write("a,b\n" + "1" * (4 * 2**20))
    refused(lambda: read(path), "a line of over 2 MiB")
    long = write("a,b\n" + "1,2\n" * 2**20)
    assert read(long).rows == 2**20


def test_damaged_files(write, tmp_path) -> None:
    for name in ("t.parquet", "t.npy", "t.npz", "t.csv.gz"):
        for content in (b"", b"garbage", b"PK\x03\x04garbage", b"\x1f\x8bgarbage"):
            path = write(content, name)
            refused(lambda path=path: read(path), str(path))
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 999)
    path = write(whole[:-12], "cut.csv.gz")
    refused(lambda: read(path), "gzip", "cut.csv.gz")
    np.savez_compressed(tmp_path / "z.npz", a=np.arange(3000.0).reshape(3, -1))
    content = bytearray((tmp_path / "z.npz").read_bytes())
    content[300:340] = b"?" * 40
    path = write(bytes(content), "z.npz")
    refused(lambda: read(path), "numpy")
    refused(lambda: read(write(bytes(content[:500]), "z.npz")), "numpy")


def test_arrays_refused(tmp_path) -> None:
    path = tmp_path / "t.npy"
    for array, words in [
        (np.arange(3), ["(3,)", "two dimensions"]),
        (np.zeros((2, 2, 2)), ["(2, 2, 2)"]),
        (np.zeros((2, 2), dtype=complex), ["complex128"]),
        (np.array([["a", "b"]]), ["<U1"]),
        (np.zeros((0, 2)), ["no rows"]),
        (np.array([[1.0, np.inf]]), ["column '1'", "infinite"]),
    ]:
        np.save(path, array)
        refused(lambda: read(path), *words)
    np.save(path, np.array([[{}, 1]], dtype=object), allow_pickle=True)
    refused(lambda: read(path), "Python objects", "numpy")
    path = tmp_path / "t.npz"
    np.savez(path, a=np.eye(2), b=np.eye(2))
    refused(lambda: read(path), "2 arrays (a, b)", "called table, X or data")
    np.savez(path, a=np.array([[{}]], dtype=object))
    refused(lambda: read(path), "Python objects")


def test_sparse_refused(tmp_path) -> None:
    path = tmp_path / "t.npz"
    sp.save_npz(path, sp.eye_array(2, dtype=complex).tocsr())
    refused(lambda: read(path), "complex128")
    sp.save_npz(path, sp.csr_array(np.array([[np.inf, 1]])))
    refused(lambda: read(path), "infinite")
    sp.save_npz(path, sp.csr_array((2, 2)))
    refused(lambda: read(path), "no value")
    twice = sp.coo_array((np.ones(2), ([1, 1], [0, 0])), shape=(2, 2))
    sp.save_npz(path, twice)
    refused(lambda: read(path), "row '1', column '0'", "1 such")
    parts = {"format": b"csr", "shape": (2, 2), "indptr": [0, 1, 2], "data": [1.0, 2.0]}
    np.savez(path, **parts, indices=[0, 10**9])
    refused(lambda: read(path), "numpy")
    np.savez(path, **parts, indices=np.array([{}, 1], dtype=object))
    refused(lambda: read(path), "numpy")
    np.savez(path, format=b"csr", shape=(2, 2), data=np.array([{}], dtype=object))
    refused(lambda: read(path), "numpy")


# A few lines for many columns


def test_describe_is_short() -> None:
    rng = np.random.default_rng(0)
    wide = {f"n{i}": rng.standard_normal(5) for i in range(500)}
    wide |= {f"k{i}": rng.choice(list("abc"), 5) for i in range(500)}
    lines = describe(from_frame(pl.DataFrame(wide)).columns)
    assert len(lines) <= 2 + 2
    assert lines[0].startswith("n0 to n499 (500 columns): numbers -")
    names = sorted(wide, key=lambda name: name[1:])
    lines = describe(from_frame(pl.DataFrame(wide).select(names)).columns)
    assert len(lines) <= tables.MOST_LINES
    assert lines[0].startswith("n0, n1, n10, ... (500 columns): numbers -")
    assert max(map(len, lines)) < 150
    columns = from_frame(pl.DataFrame({"a": [1, 6], "b": [1, 6], "c": [1, 1]})).columns
    assert describe(columns) == [
        "a and b: whole numbers 1 to 6",
        "c: whole numbers, all 1",
    ]
    assert describe([]) == []


# Any table

NUMBER = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=1, max_size=8
).filter(lambda text: text == text.strip() and "inf" not in text.lower())


@st.composite
def written(draw: Any) -> tuple[list[str], list[list[Any]]]:
    """Draw names and columns of one kind each, None where missing."""
    rows = draw(st.integers(1, 8))
    cells = [
        NUMBER,
        st.integers(-(10**6), 10**6),
        st.sampled_from(["true", "false"]),
        TEXT,
    ]
    columns = []
    for _ in range(draw(st.integers(1, 5))):
        cell = st.none() | draw(st.sampled_from(cells))
        columns.append(draw(st.lists(cell, min_size=rows, max_size=rows)))
    return [f"c{i}" for i in range(len(columns))], columns


def check_column(column: tables.Column, cells: list[Any], text: list[str]) -> None:
    missing = [cell in tables.MISSING for cell in text]
    assert np.isnan(column.values).tolist() == missing
    for value, cell in zip(column.values, cells, strict=True):
        if column.levels and not np.isnan(value):
            assert column.levels[int(value)] == str(cell)
        elif isinstance(cell, int | float):
            assert value == cell


@settings(max_examples=150, deadline=None)
@given(written(), st.sampled_from([",", ";", "\t", "|"]), st.data())
def test_any_table_is_read_back_and_filled_in_its_holes_alone(
    tmp_path_factory, drawn, delimiter, data
) -> None:
    names, columns = drawn
    texts = [["" if cell is None else str(cell) for cell in c] for c in columns]
    rows = [names, *map(list, zip(*texts, strict=True))]
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(stream.getvalue().encode())
    table = read(path, delimiter=delimiter)
    values = {}
    for column, cells, text in zip(table.columns, columns, texts, strict=True):
        check_column(column, cells, text)
        if column.kind == "number":
            values[column.name] = np.full(len(cells), data.draw(NUMBER))
        elif column.levels:
            values[column.name] = np.zeros(len(cells))
    back = table.filled(values)
    again = list(csv.reader(io.StringIO(back, newline=""), delimiter=delimiter))
    assert again[0] == names
    for name, old, new in zip(names, texts, zip(*again[1:], strict=True), strict=True):
        for before, after in zip(old, new, strict=True):
            if before not in tables.MISSING or name not in values:
                assert after == before
            else:
                assert after not in tables.MISSING
    path.write_bytes(back.encode())
    second = read(path, delimiter=delimiter)
    for name in values:
        then, now = table.column(name), second.column(name)
        if then.kind in ("number", "boolean"):
            assert now.kind == then.kind
            assert not np.isnan(now.values).any()
            kept = ~np.isnan(then.values)
            np.testing.assert_array_equal(now.values[kept], then.values[kept])
