"""A table in a frame: read as what it is, given back to the bit with its holes filled."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from descents.errors import InvalidValueError
from descents.tables.tables import Table, from_frame
from descents.tables.typed_columns import MOST_LINES, describe

NAN = np.nan


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
        ([{"a": 1}, None], ["'bad'", "type dict"]),
        ([object(), None], ["'bad'", "type object"]),
        (["a", 1], ["'bad'", "several types (int, str)"]),
        ([1 + 2j, 1j], ["'bad'", "complex"]),
        ([b"a", b"b"], ["'bad'", "values of type bytes", "decode"]),
        ([2**70, 1], ["'bad'", f"beyond 64 bits, such as {2**70}"]),
        ([1.0, np.inf], ["'bad'", "1 infinite", "row 2 (1-based)"]),
        ([(1, 2), None], ["'bad'", "type tuple", "leave the column out"]),
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
    refused(lambda: table.filled({"date": np.zeros(2)}), "'date'", "(2,)", "3 rows")
    refused(lambda: table.filled({"none": np.zeros(3)}), "'none'", "empty")
    assert table.filled({"int": np.full(3, NAN)})["int"].tolist() == [3, 4, 5]


def odd_frames() -> list[Any]:
    """Return one table, whose last columns nothing can be read from, of each library."""
    cells = {"a": [1.0, NAN], "far": [np.inf, 2.0], "deep": [[1], []]}
    pandas = pd.DataFrame(cells | {"any": [object(), 1 + 2j]}, index=[7, 7])
    objects = pl.Series("any", [object(), object()], dtype=pl.Object)
    polars = pl.DataFrame(cells).with_columns(objects)
    arrow = pa.table(cells | {"any": pa.array([b"\xff", None])})
    return [pandas, polars, arrow]


@pytest.mark.parametrize("frame", odd_frames(), ids=["pandas", "polars", "pyarrow"])
def test_ignored_columns_hold_anything_and_come_back(frame) -> None:
    odd = ["far", "deep", "any"]
    for name in odd:
        rest = [other for other in odd if other != name]
        refused(lambda rest=rest: from_frame(frame, ignore=rest), repr(name))
    table = from_frame(frame, ignore=odd)
    assert facts(table) == [("a", "number", [1, -9], (), False)]
    assert (table.rows, table.notes) == (2, ())
    back = table.filled({"a": np.full(2, 0.5)})
    assert type(back) is type(frame)
    assert list(back["a"].to_numpy()) == [1, 0.5]
    for name in odd:
        assert list(map(str, back[name])) == list(map(str, frame[name]))
    refused(lambda: table.column("far"), "there is no column 'far'", "are a")
    refused(lambda: table.filled({"far": np.zeros(2)}), "there is no column 'far'")
    everything = from_frame(frame, ignore=["a", *odd])
    assert (everything.columns, everything.rows) == ((), 2)


def test_only_columns_of_the_table_are_ignored() -> None:
    frame = pd.DataFrame({"weight": [1.0, np.inf], 5: [1, 2]})
    words = ("no column 'weightt'", "did you mean 'weight'", "columns are weight, 5")
    refused(lambda: from_frame(frame, ignore=["5", "weightt"]), *words)
    refused(lambda: from_frame(frame, ignore=[5]), "no column 5", "did you mean '5'")
    table = from_frame(frame, ignore="weight")
    assert [column.name for column in table.columns] == ["5"]
    assert table.without("5").columns == ()


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
    assert len(lines) <= MOST_LINES
    assert lines[0].startswith("n0, n1, n10, ... (500 columns): numbers -")
    assert max(map(len, lines)) < 150
    columns = from_frame(pl.DataFrame({"a": [1, 6], "b": [1, 6], "c": [1, 1]})).columns
    assert describe(columns) == [
        "a and b: whole numbers 1 to 6",
        "c: whole numbers, all 1",
    ]
    assert describe([]) == []
