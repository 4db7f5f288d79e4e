"""A table in a file: read as what it is, given back as text with its holes filled."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import time
import types
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

from descents.errors import InvalidValueError
from descents.tables import csv_text, files
from descents.tables.files import read, read_triples
from descents.tables.scales import arranged
from descents.tables.spelling import number_of
from descents.tables.tables import Table
from descents.tables.triples import Triples
from descents.tables.typed_columns import Column, describe
from descents.tables.written import check_target
from test_tables import constant, facts, refused

NAN = np.nan


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Return a function that puts text or bytes into a file and gives its path."""

    def put(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


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


@pytest.mark.parametrize("mark", files.MISSING)
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
        ("+5 5.0 0 0.5 -0", "number", ()),
        ("08001 08002 08001", "category", ("08001", "08002")),
        ("\u0661 \u0661", "category", ("\u0661",)),
    ],
)
def test_kinds_of_text(write, cells, kind, levels) -> None:
    column = read(write("a\n" + cells.replace(" ", "\n"))).column("a")
    assert (column.kind, column.levels) == (kind, levels)


def test_an_unknown_mark_among_numbers_is_pointed_at(write) -> None:
    column = read(write("a\n1\n2\n3\n?\n")).column("a")
    assert column.kind == "text"
    assert column.says.endswith(
        "mostly numbers except for '?' (if it marks missing cells, give --missing)"
    )


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
    marked = b"\xef\xbb\xbfa, ,b\n1,2,\n"
    assert table.encoded(table.filled({})) == marked
    bare = read(write(marked[3:]))
    assert bare.encoded(bare.filled({})) == marked[3:]
    latin = read(write("a\n1\n"), encoding="latin-1")
    refused(lambda: latin.encoded("ał"), "'ł'", "latin-1 cannot write")


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
        unpacked = gzip.decompress(content) if name.endswith("gz") else content
        assert table.encoded(table.filled({})) == unpacked
    stream = types.SimpleNamespace(buffer=io.BytesIO(text.encode()))
    monkeypatch.setattr("sys.stdin", stream)
    assert read("-").filled({}) == text


def test_a_single_row_and_old_line_ends(write) -> None:
    assert read(write("a,b\nx,1")).rows == 1
    assert facts(read(write("a,b\rx,1\ry,2\r")))[1][2] == [1, 2]


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


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr"])  # codespell:ignore coo
def test_sparse_keeps_a_stored_zero(tmp_path, kind) -> None:
    entries = (np.array([0.0, 3.0, 2.0]), ([0, 1, 1], [1, 0, 2]))
    matrix = sp.coo_array(entries, shape=(2, 3)).asformat(kind)
    sp.save_npz(tmp_path / "t.npz", matrix)
    stored = read(tmp_path / "t.npz")
    assert isinstance(stored, Triples)
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
        ("u,i\na,b\n", ["2 columns", "row, column and value"]),
        ("u,i,v\na,b,c\n", ["third column", "'v'", "text"]),
        ("u,i,v\na,b,NA\n", ["third column", "empty"]),
        ("u,i,v\na,b,1\n,b,1\n", ["'u'", "no label", "row 2 (1-based)"]),
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
        ("a,b\n1,2\n\n3\n", ["line 4 has 1 cell, the first line 2", "','"]),
        ('a,b\n"x\ny",2\n3,4,5\n', ["line 4 has 3 cells"]),
        ('a,b\n"x,1\ny,2\n', ["line 2"]),
        ("a,b,a\n1,2,3\n", ["two columns named 'a'", "header"]),
        ("a,b\n1,inf\n2,-Infinity\n", ["'b'", "2 infinite", "row 1 (1-based)"]),
        ("a\n1e999\n", ["'a'", "infinite"]),
        ("größe\n1\n".encode("latin-1"), ["byte 2", "line 1", "--encoding latin-1"]),
        (b"a\n1\n\xff\n", ["byte 4", "line 3", "latin-1"]),
        ("a\n€ 1\n".encode("cp1252"), ["byte 2", "line 2", "--encoding cp1252"]),
        ("À€\n1\n".encode("cp1252"), ["--encoding cp1252"]),
        ("Àß".encode() + b"\xe9\n1\n", ["--encoding latin-1"]),
        ("sep=;\na;b\n1;2\n3\n", ["line 4 has 1 cell, the first line 2"]),
        ("a,b\n1,2\n".encode("utf-16"), ["--encoding utf-16"]),
        (bytes(range(256)) * 9, ["zero bytes"]),
        (b"a,b\n1,\0\n", ["zero bytes"]),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), ["zero bytes"]),
    ],
)
def test_bad_text(write, content, words) -> None:
    path = write(content)
    refused(lambda: read(path), *words)


@pytest.mark.parametrize(
    "text", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n", "\ufeffsep=;\n", "\ufeff\ufeff", ""]
)
def test_the_separator_line_of_excel_and_second_marks_are_read_past(
    write, text
) -> None:
    path = write(text + "a;b\n1,5;x,y\n2,5;z,u\n")
    table = read(path)
    assert [column.name for column in table.columns] == ["a", "b"]
    assert table.columns[0].values.tolist() == [1.5, 2.5]
    assert read(path, delimiter=";").columns[1].levels == ("x,y", "z,u")


@pytest.mark.parametrize("minus", ["\u2212", "\u2013", "\uff0d", "\ufe63"])
def test_minus_signs_before_digits_are_minus(write, minus: str) -> None:
    table = read(write(f"a;b\n{minus}5;3 kg\n7;{minus}2 kg\n;\n"))
    assert table.columns[0].values[:2].tolist() == [-5, 7]
    assert table.columns[1].values[:2].tolist() == [3, -2]
    assert f"U+{ord(minus):04X}" in table.columns[0].written.says
    filled = table.filled({"a": np.array([0, 0, -1.0]), "b": np.array([0, 0, -2.0])})
    assert filled.splitlines()[-1] == f"{minus}1;{minus}2 kg"
    levels = [f"{minus}5", f"{minus}2,5", "0"]
    assert arranged(levels[::-1]) == (tuple(levels), "its numbers")
    assert number_of(f"{minus}5") == -5


def test_dashes_between_numbers_are_no_minus_signs(write) -> None:
    table = read(write("a\n18\u201324\n25\u201334\n18\u201324\n"))
    assert table.columns[0].kind == "category"
    assert number_of("5\u2013") is None


def test_bad_places_and_options(write, tmp_path) -> None:
    path = write("a,b\n1,2\n")
    refused(lambda: read(tmp_path / "absent.csv"), "no file", "absent.csv")
    refused(lambda: read("x" * 300), "no file")
    refused(lambda: read("a\0b"), "no file")
    refused(lambda: read(tmp_path), "folder")
    refused(lambda: read(pd.DataFrame({"a": [1]})), "DataFrame", "path")
    refused(lambda: read("/proc/self/mem"), "cannot be read")
    refused(lambda: read(path, decimal="x"), "decimal is 'x'")
    for mark in ("ab", "", '"', "\n", "é"):
        refused(lambda mark=mark: read(path, delimiter=mark), "delimiter is")
    refused(lambda: read(path, delimiter=",", decimal=","), "decimal")
    refused(lambda: read(path, encoding="utf-99"), "'utf-99'", "unknown")
    refused(lambda: read(path, missing=[1]), "missing is [1]")
    assert read(path, missing="2").column("b").kind == "empty"


@pytest.mark.slow
def test_endless_lines(write, monkeypatch) -> None:
    began = time.monotonic()
    refused(lambda: read(write("x" * 50_000_000)), "huge cell")
    refused(lambda: read(write("1," * 25_000_000)), "25000001 columns")
    assert time.monotonic() - began < 15
    monkeypatch.setattr(csv_text, "LONGEST_LINE", 2**21)
    path = write("a,b\n" + "1" * (4 * 2**20))
    refused(lambda: read(path), "a line of over 2 MiB")
    long = write("a,b\n" + "1,2\n" * 2**20)
    assert read(long).rows == 2**20


def test_damaged_files(write, tmp_path) -> None:
    for name in ("t.parquet", "t.npy", "t.npz", "t.csv.gz"):
        for content in (b"", b"garbage", b"PK\x03\x04garbage", b"\x1f\x8bgarbage"):
            path = write(content, name)
            refused(lambda path=path: read(path), str(path))
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 999, mtime=0)
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
        (np.arange(3), ["(3,)", "two-dimensional"]),
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
    refused(lambda: read(path), "2 arrays (a, b)", "named table, X or data")
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


# Columns to ignore, and names that may be data


def test_ignored_text_is_not_looked_at_and_comes_back(write) -> None:
    text = "id;far;a\n x;inf;1,5\nNA;1e999;\n"
    path = write(text)
    refused(lambda: read(path, decimal=","), "'far'", "infinite")
    refused(lambda: read(path, decimal=",", ignore=["id"]), "'far'", "infinite")
    table = read(path, decimal=",", ignore=["id", "far"])
    assert facts(table) == [("a", "number", [1.5, -9], (), False)]
    assert table.filled({}) == text
    assert table.filled(constant(table, a=0.5)) == text[:-1] + "0,5\n"
    table = read(write("inf,1\n2,\n"), header=False, ignore=["column1"])
    assert table.filled(constant(table, column2=3)) == "inf,1\n2,1\n"


def test_ignored_columns_of_other_files(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    cells = {"a": [1, None], "deep": [[1, 2], None], "far": [np.inf, 1.0]}
    pq.write_table(pa.table(cells), path)
    refused(lambda: read(path, ignore=["deep"]), "'far'", "infinite")
    table = read(path, ignore=["far", "deep"])
    assert [column.name for column in table.columns] == ["a"]
    back = list(csv.reader(io.StringIO(table.filled(constant(table, a=1)))))
    assert back == [["a", "deep", "far"], ["1", "[1, 2]", "inf"], ["1", "", "1"]]
    path = tmp_path / "t.npy"
    np.save(path, np.array([[1.0, np.inf], [NAN, 2.0]]))
    table = read(path, ignore=["1"])
    assert table.filled(constant(table, **{"0": 3.0})) == "0,1\n1,inf\n3,2\n"


def test_only_columns_of_the_file_are_ignored(write, tmp_path) -> None:
    words = ("no column 'weightt'", "did you mean 'weight'", "columns are id, weight")
    path = write("id,weight\n1,2\n")
    refused(lambda: read(path, ignore=["id", "weightt"]), *words)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": [1], "weight": [2]}), path)
    refused(lambda: read(path, ignore=["weightt"]), *words)
    sp.save_npz(tmp_path / "t.npz", sp.eye_array(2).tocsr())
    refused(lambda: read(tmp_path / "t.npz", ignore=["0"]), "sparse", "ignore")


@pytest.mark.parametrize(
    ("line", "decimal", "noted"),
    [
        ("1;2", ".", True),
        (" 1.5 ;-.5e3", ".", True),
        ("1,5;2", ",", True),
        ("1,5;2", ".", False),
        ("1;x", ".", False),
        ("1;", ".", False),
        ("1;NA", ".", False),
    ],
)
def test_numbers_taken_for_names_are_mentioned(write, line, decimal, noted) -> None:
    note = (
        "the first line has only numbers and was taken for column names; give --no-header "
        "if it is data"
    )
    path = write(f"{line}\n3;4\n")
    table = read(path, delimiter=";", decimal=decimal)
    assert table.rows == 1
    assert table.notes == ((note,) if noted else ())
    assert table.without(table.columns[0].name).notes == table.notes
    table = read(path, delimiter=";", decimal=decimal, header=False)
    assert (table.rows, table.notes) == (2, ())


def test_repeated_numbers_as_names_may_be_data(write) -> None:
    path = write("1,0,1\n3,4,5\n")
    refused(lambda: read(path), "two columns named '1'", "--no-header", "is data")
    assert read(path, header=False).rows == 2


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


def check_column(column: Column, cells: list[Any], text: list[str]) -> None:
    missing = [cell in files.MISSING for cell in text]
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
            if before not in files.MISSING or name not in values:
                assert after == before
            else:
                assert after not in files.MISSING
    path.write_bytes(back.encode())
    second = read(path, delimiter=delimiter)
    for name in values:
        then, now = table.column(name), second.column(name)
        if then.kind in ("number", "boolean"):
            assert now.kind == then.kind
            assert not np.isnan(now.values).any()
            kept = ~np.isnan(then.values)
            np.testing.assert_array_equal(now.values[kept], then.values[kept])


@pytest.mark.parametrize(
    ("text", "given", "says"),
    [
        ("a,b\n1,2\n3,4\n", ";", "each of its first lines contains commas"),
        ("a;b\n1;2\n3;4\n", ",", "contains semicolons"),
        ("a\tb\n1\t2\n", "|", r"contains tabs; leave the delimiter out, or give '\t'"),
    ],
)
def test_a_wrong_delimiter_is_named_with_the_right_one(
    write, text, given, says
) -> None:
    with pytest.raises(InvalidValueError) as caught:
        read(write(text), delimiter=given)
    assert says in str(caught.value)


def test_one_column_with_another_delimiter_is_read(write) -> None:
    for text in ("a\n1,5\n2,5\n", 'a\n"1,000"\n20\n'):
        assert len(read(write(text), delimiter=";").columns) == 1


@pytest.mark.parametrize("kind", [".xlsx", ".XLS", ".ods", ".sav"])
def test_files_of_other_programs_are_neither_read_nor_written(write, kind) -> None:
    """Text under such a name misleads the program that opens it."""
    path = write("a,b\n1,2\n3,4\n", f"table{kind}")
    says = "export the table as CSV or Parquet"
    with pytest.raises(InvalidValueError, match=says):
        read(path)
    with pytest.raises(InvalidValueError, match=f"FILLED is .*{says}"):
        check_target("table.csv", path.with_name(f"filled{kind}"))
