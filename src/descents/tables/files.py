"""Reads tables from files: Parquet, numpy and scipy.sparse arrays, and CSV text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.arrays import read_arrays
from descents.tables.conventions import Expected
from descents.tables.csv_text import (
    checked_delimiter,
    decoded,
    read_bytes,
    read_text,
    without_separator_line,
)
from descents.tables.formats import OTHER_PROGRAMS, refusal
from descents.tables.frames import Dialect, cell_texts, short
from descents.tables.parquet import read_parquet
from descents.tables.sizes import enough_memory
from descents.tables.tables import Table
from descents.tables.text_columns import NUMBER
from descents.tables.triples import Triples, stored_once
from descents.text import counted
from descents.validation import check_file, folder_path, one_of

MISSING = ("", "NA", "NaN", "nan", "null", "None", "N/A", "NULL", "#N/A")
"""Texts that always mark a missing cell in a text file; spaces around them are ignored."""


def read(
    source: str | Path,
    *,
    header: bool = True,
    missing: Sequence[str] = (),
    decimal: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    ignore: Sequence[str] = (),
    formats: Mapping[str, Any] | None = None,
    skip: Sequence[str] = (),
    content: bytes | None = None,
) -> Table | Triples:
    r"""Read the table in a file.

    Parameters
    ----------
    source : str or Path
        ``.parquet``, ``.npy``, ``.npz`` (one dense table, or a scipy.sparse matrix),
        or text: CSV, TSV, either with ``.gz``; ``-`` reads CSV from standard input.
    header : bool
        Whether the first line of a text file names the columns.
    missing : sequence of str
        Marks of missing cells, in addition to `MISSING`.
    decimal : {".", ","}, optional
        The decimal mark. Without it, decimal commas are detected if the cells of the
        column, or of the other columns, are unambiguous.
    delimiter : str, optional
        One character. By default it is detected in the first lines.
    encoding : str
    ignore : sequence of str
        Columns that may contain anything. They are not among `Table.columns`, but
        `Table.filled` returns them.
    formats : mapping, optional
        The result of `Table.formats` for another file. It decides how the numbers of the
        same columns are read if the cells are ambiguous. Units must be those of that
        file, and columns of text are not read as numbers.
    skip : sequence of str
        Columns to ignore if the table has them.
    content : bytes, optional
        The bytes of a text file that were read already, see
        `descents.tables.sources.TableSource`.

    Returns
    -------
    Table, or Triples for a sparse matrix

    Raises
    ------
    InvalidValueError
        If the file cannot be read, is not a table, or lacks a column of `ignore`.

    Examples
    --------
    >>> import tempfile
    >>> from descents.tables.typed_columns import describe
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> _ = path.write_text("length;kind\n1,50;x\n?;y\n2;x\n")
    >>> table = read(path, missing=["?"], decimal=",")
    >>> describe(table.columns)
    ['length: numbers 1.5 to 2, 1 missing', 'kind: category of 2 levels']
    >>> table.filled({"length": np.full(3, 1.25)})
    'length;kind\n1,50;x\n1,25;y\n2;x\n'
    """
    where = "standard input" if str(source) == "-" else str(source)
    with enough_memory(where):
        return _read(
            source,
            header,
            missing,
            decimal,
            delimiter,
            encoding,
            ignore,
            formats,
            skip,
            content,
        )


def _read(
    source: str | Path,
    header: bool,
    missing: Sequence[str],
    decimal: str | None,
    delimiter: str | None,
    encoding: str,
    ignore: Sequence[str],
    formats: Mapping[str, object] | None,
    skip: Sequence[str],
    content: bytes | None,
) -> Table | Triples:
    if decimal is not None:
        one_of("decimal", decimal, (".", ","))
    delimiter = checked_delimiter(delimiter, decimal)
    if not isinstance(source, str | Path):
        raise InvalidValueError(
            f"the table is a {type(source).__name__}; give the path of a file"
        )
    marks = (missing,) if isinstance(missing, str) else tuple(missing)
    if not all(isinstance(mark, str) for mark in marks):
        raise InvalidValueError(f"missing is {missing!r}; give texts, such as ['?']")
    if str(source) == "-":
        where, path = "standard input", None
    else:
        where, path = str(source), folder_path(source)
        check_file(where, path)
        if path.suffix.lower() in OTHER_PROGRAMS:
            raise InvalidValueError(f"the table {refusal(where)}")
        if path.suffix.lower() == ".parquet":
            return read_parquet(where, path, ignore, skip)
        if path.suffix.lower() in (".npy", ".npz"):
            return read_arrays(where, path, ignore, skip)
        if delimiter is None and re.search(r"\.tsv(\.gz)?$", path.name.lower()):
            delimiter = "\t"
    text = decoded(where, read_bytes(where, path, content), encoding)
    bare = text.lstrip("\ufeff")  # some programs write two
    written = Dialect(None, encoding=encoding, marked=len(bare) < len(text))
    wanted = Expected(decimal, formats)
    bare, named = without_separator_line(bare)
    if delimiter is None and named != decimal:
        delimiter = checked_delimiter(named, decimal)
    return read_text(
        where,
        bare,
        header,
        {*MISSING, *marks},
        written,
        delimiter,
        ignore,
        wanted,
        skip,
    )


def read_triples(
    source: str | Path,
    *,
    header: bool = True,
    missing: Sequence[str] = (),
    decimal: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    content: bytes | None = None,
) -> Triples:
    r"""Read a table from a file that lists its cells: row, column, value.

    The first three columns of the file are read; the options are those of `read`.
    Labels are sorted, with numbers in them in numeric order. A missing value is a missing
    cell, but its row and column are part of the table.

    Raises
    ------
    InvalidValueError
        If `read` raises it, there are fewer than three columns, values are not numbers,
        a label is missing, or a cell is listed twice.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ratings.csv"
    >>> _ = path.write_text("user,film,stars\nu10,A,4\nu9,A,0\nu9,B,\n")
    >>> triples = read_triples(path)
    >>> triples.row_names, triples.column_names, triples.values.tolist()
    (('u9', 'u10'), ('A', 'B'), [4.0, 0.0])
    """
    table = read(
        source,
        header=header,
        missing=missing,
        decimal=decimal,
        delimiter=delimiter,
        encoding=encoding,
        content=content,
    )
    if isinstance(table, Triples):
        return table
    where = "standard input" if str(source) == "-" else str(source)
    if len(table.columns) < 3:
        raise InvalidValueError(
            f"{where} has {counted(len(table.columns), 'column')}; give three: row, "
            "column and value"
        )
    if table.columns[2].kind != "number":
        third = table.columns[2]
        raise InvalidValueError(
            f"the third column of {where}, {short(third.name)!r}, is {third.says}; "
            "give numbers as values"
        )
    rows, row_names = _labels(where, table, 0)
    columns, column_names = _labels(where, table, 1)
    values = table.columns[2].values
    observed = ~np.isnan(values)
    return stored_once(
        where,
        rows[observed],
        columns[observed],
        values[observed],
        row_names,
        column_names,
    )


# Triples


def _labels(where: str, table: Table, place: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the codes and the sorted names of a column of labels."""
    column, dialect = table.columns[place], table.source.dialect or Dialect(None)
    holes = np.flatnonzero(np.isnan(column.values))
    if len(holes):
        raise InvalidValueError(
            f"column {short(column.name)!r} of {where} has no label in "
            f"{counted(len(holes), 'row')}, the first row {holes[0] + 1} (1-based); give "
            "each value a row and a column"
        )
    cells = cell_texts(table.source.frame[place], dialect)
    texts = np.array([text.strip() for text in cells])
    names, codes = np.unique(texts, return_inverse=True)
    order = sorted(range(len(names)), key=lambda code: _natural(str(names[code])))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[codes], tuple(str(names[code]) for code in order)


def _natural(label: str) -> tuple[int, float | list[str | int], str]:
    """Return a sorting key: numbers first, then text, with its numbers in numeric order."""
    if NUMBER.fullmatch(label):
        return 0, float(label), label
    parts = re.split(r"(\d+)", label, flags=re.ASCII)
    return 1, [int(p) if i % 2 else p for i, p in enumerate(parts)], label
