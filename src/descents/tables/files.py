"""Reads tables from files: Parquet, numpy and scipy.sparse arrays, and CSV text."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.arrays import (
    check_members,
    check_sparse,
    load_checked,
    memory_of_machine,
)
from descents.tables.conventions import Memory
from descents.tables.frames import Dialect, Source, cell_texts, reason_of, short
from descents.tables.tables import (
    Stored,
    Table,
    check_names,
    from_source,
    known_names,
    stored_once,
)
from descents.tables.text_columns import NUMBER, TextCells, plain_number, text_columns
from descents.text import counted
from descents.validation import folder_path, one_of

MISSING = ("", "NA", "NaN", "nan", "null", "None", "N/A", "NULL", "#N/A")
"""Texts that always mark a missing cell in a text file; spaces around them are ignored."""
LONGEST_LINE = 64 * 2**20
"""Maximum length of a line, in bytes; a longer one is not part of a table."""
MOST_COLUMNS = 100_000
"""Maximum number of columns of a text file; with more it is not a table."""

_NUMBERS_AS_NAMES = (
    "the first line has only numbers and was taken for column names; give --no-header "
    "if it is data"
)
_REMEDY = " (or --no-header, if the first line is data)"
_IN_NUMBER = re.compile(r"(?<=[0-9]),(?=[0-9])")
_LINE_END = re.compile(r"\r\n|\r|\n")
_DELIMITERS = (",", ";", "\t", "|")


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
) -> Table | Stored:
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

    Returns
    -------
    Table, or Stored for a sparse matrix

    Raises
    ------
    InvalidValueError
        If the file cannot be read, is not a table, or lacks a column of `ignore`.

    Examples
    --------
    >>> import tempfile
    >>> from descents.tables.tables import describe
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> _ = path.write_text("length;kind\n1,50;x\n?;y\n2;x\n")
    >>> table = read(path, missing=["?"], decimal=",")
    >>> describe(table.columns)
    ['length: numbers 1.5 to 2, 1 missing', 'kind: category of 2 levels']
    >>> table.filled({"length": np.full(3, 1.25)})
    'length;kind\n1,50;x\n1,25;y\n2;x\n'
    """
    if decimal is not None:
        one_of("decimal", decimal, (".", ","))
    delimiter = _delimiter(delimiter, decimal)
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
        if os.path.isdir(path):
            raise InvalidValueError(f"{where} is a folder; give a file")
        if not os.path.exists(path):
            raise InvalidValueError(f"there is no file {where}; check its name")
        if path.suffix.lower() == ".parquet":
            return _read_parquet(where, path, ignore, skip)
        if path.suffix.lower() in (".npy", ".npz"):
            return _read_arrays(where, path, ignore, skip)
        if delimiter is None and re.search(r"\.tsv(\.gz)?$", path.name.lower()):
            delimiter = "\t"
    text = _decoded(where, _all_bytes(where, path), encoding)
    bare = text.removeprefix("\ufeff")
    written = Dialect(None, encoding=encoding, marked=len(bare) < len(text))
    wanted = Memory(decimal, formats)
    return _read_text(
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
) -> Stored:
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
    >>> stored = read_triples(path)
    >>> stored.row_names, stored.column_names, stored.values.tolist()
    (('u9', 'u10'), ('A', 'B'), [4.0, 0.0])
    """
    table = read(
        source,
        header=header,
        missing=missing,
        decimal=decimal,
        delimiter=delimiter,
        encoding=encoding,
    )
    if isinstance(table, Stored):
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


# Parquet and arrays


def _read_parquet(
    where: str, path: Path, ignore: Sequence[str], skip: Sequence[str]
) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return _from_arrow(where, file.read(), ignore, skip)
    except InvalidValueError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InvalidValueError(
            f"{where} cannot be read as Parquet ({reason_of(error)}); give a whole "
            "Parquet file"
        ) from None


def _from_arrow(
    where: str, frame: Any, ignore: Sequence[str], skip: Sequence[str]
) -> Table:
    names = tuple(frame.column_names)
    dialect = Dialect(header=names)
    source = Source("pyarrow", frame, names, len(frame), dialect)
    return from_source(source, where, ignore, skip)


def _read_arrays(
    where: str, path: Path, ignore: Sequence[str], skip: Sequence[str]
) -> Table | Stored:
    """Read a file of numpy or scipy.sparse."""
    import pyarrow
    import scipy.sparse

    try:
        with path.open("rb") as file:
            loaded = load_checked(file)
            if isinstance(loaded, np.ndarray):
                array = loaded
            elif {"format", "shape", "data"} <= set(loaded.files):
                if len(ignore):
                    raise InvalidValueError(
                        f"{where} is a sparse matrix, and all its columns are read; "
                        "give no columns to ignore"
                    )
                check_sparse(where, loaded)
                file.seek(0)
                return _from_sparse(where, scipy.sparse.load_npz(file))
            else:
                name = array_name(where, loaded.files)
                check_members(loaded, [name])
                array = loaded[name]
    except InvalidValueError:
        raise
    except Exception as error:  # damaged files: errors of zip, zlib, tokenizer, memory
        reason = reason_of(error)
        if "pickled" in str(error) or "Object arrays" in str(error):
            reason = "it contains Python objects, or is damaged"
        raise InvalidValueError(
            f"{where} cannot be read as a numpy file ({reason}); give a whole .npy or "
            ".npz file of numbers"
        ) from None
    if array.dtype.kind not in "buif" or array.ndim != 2:
        raise InvalidValueError(
            f"{where} has {array.dtype} values of shape {array.shape}; give a "
            "two-dimensional table of real numbers"
        )
    if array.dtype.kind == "f":
        array = array.astype(np.float32 if array.itemsize <= 4 else np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    columns = [pyarrow.array(np.ascontiguousarray(column)) for column in array.T]
    names = [str(place) for place in range(array.shape[1])]
    return _from_arrow(where, pyarrow.table(columns, names=names), ignore, skip)


def array_name(where: str, names: Sequence[str]) -> str:
    """Return the name of the array in a .npz file that is the table."""
    usual = [name for name in names if name in ("table", "X", "data")]
    for choice in (names, usual):
        if len(choice) == 1:
            return choice[0]
    raise InvalidValueError(
        f"{where} has {len(names)} arrays ({', '.join(map(short, names[:10]))}); give a "
        "file with only one, or with one that is named table, X or data"
    )


def _from_sparse(where: str, matrix: Any) -> Stored:
    if matrix.dtype.kind not in "buif":
        raise InvalidValueError(
            f"{where} is a sparse matrix of {matrix.dtype} values; give real numbers"
        )
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)  # damaged indices would crash later
    entries = matrix.tocoo()
    values = entries.data.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidValueError(
            f"{where} stores NaN or infinite values; give finite numbers, and leave "
            "missing cells out"
        )
    rows, columns = (place.astype(np.int64) for place in (entries.row, entries.col))
    row_names, column_names = (tuple(map(str, range(size))) for size in matrix.shape)
    return stored_once(where, rows, columns, values, row_names, column_names)


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


def _natural(label: str) -> tuple[Any, ...]:
    """Return a sorting key: numbers first, then text, with its numbers in numeric order."""
    if NUMBER.fullmatch(label):
        return 0, float(label), label
    parts = re.split(r"(\d+)", label, flags=re.ASCII)
    return 1, [int(p) if i % 2 else p for i, p in enumerate(parts)], label


# Text


def _delimiter(mark: str | None, decimal: str | None) -> str | None:
    if mark is None:
        return None
    mark = "\t" if mark == "\\t" else mark
    if not isinstance(mark, str) or len(mark) != 1 or mark in '"\r\n\0':
        raise InvalidValueError(
            f"delimiter is {mark!r}; give one character, such as ';'"
        )
    if not mark.isascii() or mark == decimal:
        raise InvalidValueError(
            f"delimiter is {mark!r} with decimal {decimal!r}; give an ASCII character "
            "that is not the decimal mark"
        )
    return mark


def _all_bytes(where: str, path: Path | None) -> bytes:
    """Return the content of a file, decompressed; raise an error for an endless line."""
    try:
        if path is None:
            return _bytes_in_lines(where, sys.stdin.buffer)
        packed = path.suffix.lower() == ".gz"
        with gzip.open(path) if packed else path.open("rb") as stream:
            return _bytes_in_lines(where, stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidValueError(
            f"{where} is not a complete gzip file ({reason_of(error)}); give another, or "
            "decompress it"
        ) from None
    except OSError as error:
        raise InvalidValueError(
            f"{where} cannot be read ({error.strerror or error}); give a file that can"
        ) from None


def _bytes_in_lines(where: str, stream: Any) -> bytes:
    chunks = []
    length = 0  # of the current line
    whole, most = 0, memory_of_machine() // 4  # there are several copies of the text
    while chunk := stream.read(2**20):
        whole += len(chunk)
        if whole > most:
            raise InvalidValueError(
                f"{where} has more than {most // 2**20} MiB of text, which is too much for "
                "the memory of this machine; give a .npy or Parquet file, and --memory"
            )
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        length = len(chunk) - end - 1 if end >= 0 else length + len(chunk)
        if length > LONGEST_LINE:
            raise InvalidValueError(
                f"{where} has a line of over {LONGEST_LINE // 2**20} MiB; give a table "
                "with one line for each row, or a Parquet or .npy file"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _decoded(where: str, content: bytes, encoding: str) -> str:
    binary = f"{where} contains zero bytes, so it is not text"
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode(encoding)
    except LookupError:
        raise InvalidValueError(
            f"encoding is {encoding!r}, which is unknown; give an encoding such as "
            "'utf-8' or 'latin-1'"
        ) from None
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        if b"\0" not in content or utf16:
            other = "utf-16" if utf16 else "latin-1"
            line = content.count(b"\n", 0, at) + 1
            raise InvalidValueError(
                f"{where} is not {encoding}: byte {at}, in line {line}, is invalid; give "
                f"its encoding, such as encoding='{other}' (--encoding {other})"
            ) from None
        text = "\0"
    if "\0" in text:
        raise InvalidValueError(
            f"{binary}; give CSV text, or a file whose name ends in .parquet, .npy or "
            ".npz (UTF-16 text is read with --encoding utf-16)"
        )
    return text


def _records(text: str, delimiter: str, most: int) -> list[list[str]]:
    """Return the first records of a text, without blank lines."""
    records = []
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        if record:
            records.append(record)
        if len(records) == most:
            break
    return records


def _sniffed(head: str, decimal: str | None) -> str:
    """Return the delimiter that splits all first lines into the same number of cells.

    If there are several such delimiters, the one with the most cells is returned.
    """
    best = (False, 1, ",")
    # Decimal commas, too, may split all lines into the same number of cells.
    inside = decimal is None and head.count(",") == len(_IN_NUMBER.findall(head))
    for delimiter in _DELIMITERS:
        if delimiter != decimal:
            counts = [len(record) for record in _records(head, delimiter, 20)]
            even = counts[0] > 1 and len(set(counts)) == 1
            if (inside and even and best[2] == ",") or (even, counts[0]) > best[:2]:
                best = (even, counts[0], delimiter)
    return best[2]


def _read_text(
    where: str,
    text: str,
    header: bool,
    marks: set[str],
    written: Dialect,
    delimiter: str | None,
    ignore: Sequence[str],
    wanted: Memory,
    skip: Sequence[str],
) -> Table:
    """Return the table in a CSV text."""
    if not text.strip():
        raise InvalidValueError(f"{where} is empty; give a table of at least one row")
    delimiter, newline, first, cells = _split(where, text, delimiter, wanted.decimal)
    if header:
        cells = cells.slice(1)
        names = [name.strip() for name in first]
    else:
        names = [""] * len(first)
    marks_tried = (wanted.decimal,) if wanted.decimal else (".", ",")
    numeric = header and any(
        all(plain_number(name, mark) is not None for name in names)
        for mark in marks_tried
    )
    names = [name or f"column{place}" for place, name in enumerate(names, 1)]
    check_names(where, names, _REMEDY)
    if not len(cells):
        raise InvalidValueError(
            f"{where} has a header and no rows; give at least one row (or give "
            "--no-header, if the first line is data)"
        )
    ignored = known_names(ignore, names).union(skip)
    columns, decimal, notes = text_columns(
        where,
        [
            TextCells(name, cells.column(place), marks)
            for place, name in enumerate(names)
            if name not in ignored
        ],
        wanted,
        delimiter,
    )
    places = {name: place for place, name in enumerate(names)}
    columns = tuple(
        replace(column, cells=cells.column(places[column.name])) for column in columns
    )
    dialect = replace(
        written,
        decimal=decimal,
        header=tuple(first) if header else None,
        delimiter=delimiter,
        newline=newline,
        textual=True,
    )
    source = Source("pyarrow", cells, tuple(names), len(cells), dialect)
    return Table(columns, source, (*notes, *([_NUMBERS_AS_NAMES] if numeric else ())))


def _split(
    where: str, text: str, delimiter: str | None, decimal: str | None
) -> tuple[str, str, list[str], Any]:
    """Return the delimiter, the line end, the first record, and columns of all records."""
    end = _first_line(text)
    marks_in_line = [text.count(mark, 0, end) for mark in delimiter or _DELIMITERS]
    if max(marks_in_line) >= MOST_COLUMNS:
        raise InvalidValueError(
            f"{where} has {max(marks_in_line) + 1} columns, more than {MOST_COLUMNS}; "
            "give fewer, or a Parquet or .npy file"
        )
    head = text[: max(2**16, end)]
    if len(head) < len(text):
        head = head[: max(head.rfind("\n"), head.rfind("\r")) + 1]
    try:
        delimiter = delimiter or _sniffed(head, decimal)
        first = _records(head, delimiter, 1)[0]
    except csv.Error:  # the csv module refuses a cell of over 128 KiB
        check_quotes(where, text, delimiter or ",")
        raise InvalidValueError(
            f"{where} has a huge cell in its first lines; give a table with one line "
            "for each row, and a delimiter between its cells"
        ) from None
    if text.count('"') % 2:
        check_quotes(where, text, delimiter)
    cells = _parsed(where, text, delimiter, len(first))
    if len(cells) < _line_count(text):  # some lines are blank, or inside of quotes
        check_quotes(where, text, delimiter)
    newline = "\r\n" if "\r\n" in head else "\n"
    if "\n" not in head and "\r" in head:
        newline = "\r"
    return delimiter, newline, first, cells


def _parsed(where: str, text: str, delimiter: str, width: int) -> Any:
    """Return all records of a text, including the first, as columns of strings."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    content = text.encode()
    names = [str(place) for place in range(width)]
    try:
        return arrow_csv.read_csv(
            pyarrow.BufferReader(content),
            # pyarrow rejects a record that is longer than a block: use one block.
            arrow_csv.ReadOptions(
                column_names=names, block_size=min(len(content) + 1, 2**31 - 1)
            ),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string()),
                strings_can_be_null=False,
            ),
        )
    except (pyarrow.ArrowException, OSError) as error:
        check_quotes(where, text, delimiter)
        reason = _ragged(text, delimiter, width) or reason_of(error)
    raise InvalidValueError(
        f"{where} is not a table with {delimiter!r} between cells: {reason}; give all "
        "lines the same number of cells, or give another delimiter"
    )


def _first_line(text: str) -> int:
    """Return the length of the first line of a text, including its line end."""
    match = _LINE_END.search(text)
    return match.end() if match else len(text)


def _line_count(text: str, end: int | None = None) -> int:
    """Return the number of lines of a text, or of its first `end` characters."""
    count = text.count("\n", 0, end) + text.count("\r", 0, end)
    count -= text.count("\r\n", 0, end)
    last = text[: len(text) if end is None else end][-1:]
    return count + (last not in ("", "\n", "\r"))


def check_quotes(where: str, text: str, delimiter: str) -> None:
    r"""Raise an error for a quoted cell that does not end, or ends inside of another cell.

    Such a cell would contain the lines that follow it.

    Examples
    --------
    >>> check_quotes("t.csv", 'a,b\n1,"x\n2,y\n', ",")
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: t.csv has a quote that opens in line 2 and is never
    closed; give a closing quote, or write "" for a quote that is part of a cell
    """
    # A quote at the beginning of a cell; pairs of quotes inside; the closing quote, if any.
    edge = f"{re.escape(delimiter)}\r\n"
    quoted = re.compile(f'"(?<![^{edge}]")[^"]*+(?:""[^"]*+)*+("?)')
    for match in quoted.finditer(text):
        behind = text[match.end() : match.end() + 1]
        if match[1] and (behind in ("", delimiter, "\r", "\n") or behind.isspace()):
            continue
        inside = match[0]
        if match[1] and "\n" not in inside and "\r" not in inside:
            continue  # such as "x"y, which is within one line
        opens = _line_count(text, match.start() + 1)
        how = "is never closed"
        if match[1]:
            how = (
                f"is closed in line {_line_count(text, match.end())}, inside of a cell"
            )
        raise InvalidValueError(
            f"{where} has a quote that opens in line {opens} and {how}; give a closing quote, or "
            'write "" for a quote that is part of a cell'
        )


def _ragged(text: str, delimiter: str, width: int) -> str | None:
    """Return a description of the first record with another number of cells, if any."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    try:
        for record in lines:
            if record and len(record) != width:
                return (
                    f"line {line} has {counted(len(record), 'cell')}, the first line "
                    f"{width}"
                )
            line = lines.line_num + 1
    except csv.Error as error:
        return f"line {line} cannot be read ({error})"
    return None
