"""Small Parquet files of large tables: judged before they are read, or read cheaply."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from descents import TableOnDisk
from descents.cli.main import main
from descents.errors import RunFolderError
from descents.storage.files import read_table
from descents.storage.parquet_sizes import declared
from descents.tables.files import read
from faults import readers, thrift
from test_hostile_files import footer, limited, of_field, with_footer
from test_tables import refused

REPEATED = pa.DictionaryArray.from_arrays(
    pa.array(np.zeros(20_000, np.int32)), ["x" * 100_000]
)
"""A text of 100 KB that is repeated in 20,000 rows, which are 2 GB of text."""


def written(path: Path, frame: pa.Table, **options: Any) -> Path:
    """Write a compressed Parquet file without the types of Arrow."""
    options = {"compression": "zstd", "store_schema": False} | options
    pq.write_table(frame, path, **options)
    assert path.stat().st_size < 10**6
    return path


def with_numbers(cells: pa.Array) -> pa.Table:
    """Return a table of a column and of numbers."""
    return pa.table({"a": cells, "b": np.arange(len(cells)) % 7 * 1.0})


def lists(count: int) -> pa.Array:
    """Return lists, of which the last has all of `count` zeros."""
    return pa.ListArray.from_arrays([0, 0, 0, count], pa.array(np.zeros(count)))


def test_texts_that_are_stored_once_and_repeated(tmp_path: Path) -> None:
    frame = with_numbers(REPEATED)
    plain = with_numbers(REPEATED.cast(pa.string()))
    prefixes = {"a": "DELTA_BYTE_ARRAY", "b": "PLAIN"}
    short = with_numbers(REPEATED.slice(0, 100).cast(pa.string()))
    paths = [
        written(tmp_path / "codes.parquet", plain),
        written(tmp_path / "levels.parquet", frame, store_schema=True),
        written(
            tmp_path / "prefixes.parquet",
            plain,
            use_dictionary=False,
            column_encoding=prefixes,
        ),
        written(tmp_path / "read.parquet", short),
    ]
    *found, last = limited(*paths)
    for said in found:
        assert "but the file has only" in said
        assert "its table of 20000 rows" in said
    assert not last


def test_a_long_text_beside_short_ones_is_read(tmp_path: Path) -> None:
    codes = pa.array(np.arange(10**5) % 100, pa.int32())
    texts = [f"text {k}" for k in range(99)] + ["y" * 400_000]
    cells = pa.DictionaryArray.from_arrays(codes, texts).cast(pa.string())
    texts[99] = "y" * 2000  # the same, with 200 times less text
    frame = with_numbers(pa.DictionaryArray.from_arrays(codes, texts).cast(pa.string()))
    path = written(tmp_path / "t.parquet", with_numbers(cells))
    assert "but the file has only" in limited(path)[0]
    table = read(written(path, frame))
    assert table.source.frame.equals(pq.read_table(path))


@pytest.mark.parametrize("inside", [False, True], ids=["list", "struct"])
def test_lists_are_refused_before_they_are_read(tmp_path: Path, inside: bool) -> None:
    cells = lists(6 * 10**7)
    cells = pa.StructArray.from_arrays([cells], ["x"]) if inside else cells
    path = written(tmp_path / "t.parquet", with_numbers(cells))
    (said,) = limited(path)
    assert "column 'a' has values of type" in said
    refused(lambda: read(path, ignore=["a"]), "but the file has only")
    refused(lambda: read(path, ignore=["c"]), "there is no column 'c'")


def test_lists_that_are_ignored_are_kept(tmp_path: Path) -> None:
    frame = with_numbers(lists(5))
    table = read(written(tmp_path / "t.parquet", frame), ignore=["a"])
    assert [column.name for column in table.columns] == ["b"]
    assert table.source.frame.equals(pq.read_table(tmp_path / "t.parquet"))


def test_pages_that_expand(tmp_path: Path) -> None:
    cells = pa.array(["y", "z" * 400_000_000, "y"])
    path = tmp_path / "text.parquet"
    pages = written(path, with_numbers(cells), use_dictionary=False)
    exact = pa.array(np.zeros(10**7)).cast(pa.decimal128(38, 2))
    wide = pa.array([b"x" * 10**6] * 2000, pa.binary(10**6))
    found = limited(
        pages,
        written(tmp_path / "exact.parquet", with_numbers(exact)),
        written(tmp_path / "wide.parquet", with_numbers(wide)),
    )
    assert all("but the file has only" in said for said in found), found


def changed(frame: pa.Table, change: Any, **options: Any) -> bytes:
    """Return a Parquet file whose footer is changed."""
    stream = io.BytesIO()
    pq.write_table(frame, stream, **options)
    data, tree = footer(stream.getvalue())
    change(tree)
    return with_footer(data, tree)


def test_row_groups_that_have_more_than_is_declared(tmp_path: Path) -> None:
    frame = pa.table({"a": np.zeros(6 * 10**7)})

    def fewer(tree: list[Any]) -> None:
        of_field(tree, 3)[2] = 5
        for group in of_field(tree, 4)[2][1]:
            of_field(group, 3)[2] = 5

    path = tmp_path / "t.parquet"
    path.write_bytes(changed(frame, fewer, row_group_size=10**8))
    assert "but the file has only" in limited(path)[0]


def test_rows_that_row_groups_do_not_have(tmp_path: Path) -> None:
    def twice(tree: list[Any]) -> None:
        groups = of_field(tree, 4)[2]
        groups[1] = groups[1] * 2

    path = tmp_path / "t.parquet"
    path.write_bytes(changed(pa.table({"a": [1.0, 2.0]}), twice))
    words = "it declares 2 rows, and its row groups 4"
    refused(lambda: read(path), words)
    refused(lambda: TableOnDisk(path, "10MB"), words)


def test_row_groups_that_share_their_pages(tmp_path: Path) -> None:
    def repeated(tree: list[Any]) -> None:
        groups = of_field(tree, 4)[2]
        groups[1] = groups[1] * 1000
        of_field(tree, 3)[2] *= 1000

    path = tmp_path / "t.parquet"
    path.write_bytes(changed(pa.table({"a": np.arange(10**4)}), repeated))
    assert "larger than the file" in limited(path)[0]


def test_columns_in_columns_of_any_depth(tmp_path: Path) -> None:
    def deeper(tree: list[Any]) -> None:
        elements = of_field(tree, 2)[2][1]
        group = [[3, thrift.I32, 1], [4, thrift.BINARY, b"x"], [5, thrift.I32, 1]]
        elements[1:1] = [group] * 200_000

    path = tmp_path / "t.parquet"
    path.write_bytes(changed(pa.table({"a": [1.0]}), deeper))
    structs = with_footer(b"PAR1", [])[:-9]
    deep = b"\x5c" + b"\x1c" * 10**5 + b"\0" * (10**5 + 2)
    other = tmp_path / "u.parquet"
    other.write_bytes(structs + deep + len(deep).to_bytes(4, "little") + b"PAR1")
    found = limited(path, other)
    assert "nested too deeply" in found[0]
    assert "nested too deeply" in found[1]


def test_metadata_of_endless_lists(tmp_path: Path) -> None:
    count = b"\xff" * 8 + b"\x7f"
    maps = b"\x1b" + count + b"\x11\x00"  # a map of truth values
    items = b"\x19\xf1" + count + b"\x00"
    for k, fields in enumerate((maps, items)):
        path = tmp_path / f"{k}.parquet"
        length = len(fields).to_bytes(4, "little")
        path.write_bytes(b"PAR1" + fields + length + b"PAR1")
        assert "its footer ends too early" in limited(path)[0]


def test_rows_without_a_value(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", pa.table({"a": pa.nulls(4 * 10**7)}))
    assert "but the file has only" in limited(path)[0]


def test_the_sizes_are_those_of_the_pages(tmp_path: Path) -> None:
    for content in readers.wholes.parquets():
        found = declared(io.BytesIO(content))
        with pq.ParquetFile(io.BytesIO(content)) as file:
            facts = file.metadata
            assert found.rows == facts.num_rows
            assert len(found.columns) == facts.num_columns
            for j, column in enumerate(found.columns):
                chunks = [
                    facts.row_group(k).column(j) for k in range(facts.num_row_groups)
                ]
                assert column.values == sum(chunk.num_values for chunk in chunks)
                whole = [
                    chunk.total_compressed_size + chunk.total_uncompressed_size
                    for chunk in chunks
                ]
                # Those of the file include the headers of the pages twice.
                assert max(whole) / 2 < column.group <= max(whole)


def test_tables_of_stored_runs(tmp_path: Path) -> None:
    frame = with_numbers(REPEATED.cast(pa.string()))
    path = written(tmp_path / "starts.parquet", frame)
    with pytest.raises(RunFolderError, match="far larger than its file"):
        read_table(path)


def test_paths_that_are_not_utf8(tmp_path: Path, capsys) -> None:
    name = os.fsdecode(b"table\xe9.parquet")
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    frame = pa.table({"a": [None, *x[1:]], "b": 2 * x, "c": x + 1})
    pq.write_table(frame, tmp_path / "t.parquet")
    path = tmp_path / name
    (tmp_path / "t.parquet").rename(path)
    assert read(path).rows == 30
    numbers = np.concatenate([block for _, block in TableOnDisk(path, "1MB").blocks(7)])
    np.testing.assert_array_equal(numbers[1:, 0], x[1:])
    filled = tmp_path / os.fsdecode(b"filled\xe9.parquet")
    out = ["--out", str(tmp_path / "run"), "--quiet"]
    assert main(["impute", str(path), str(filled), *out]) == 0, capsys.readouterr().err
    assert read(filled).source.frame.column("a").null_count == 0
    out[1] = str(tmp_path / "other")
    assert main(["factorize", str(path), "--rank", "1", *out]) == 0
