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
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from descents.checks import InvalidValueError, counted, folder_path, one_of
from descents.data.arrays import (
    check_members,
    check_sparse,
    load_checked,
    memory_of_machine,
)
from descents.data.conventions import Memory, Settled, notes_of_points, settled
from descents.data.dates import as_days
from descents.data.frames import Dialect, Source, cell_texts, reason_of, short
from descents.data.levels import WORDS, both
from descents.data.numerals import (
    Ends,
    Written,
    decimal_commas,
    dotted,
    grouped,
    is_open,
    open_ends,
    padded,
    unit,
    ways,
    whole,
)
from descents.data.tables import (
    MOST_LEVELS,
    Column,
    Kind,
    Stored,
    Table,
    as_column,
    check_names,
    from_source,
    known_names,
    stored_once,
    text_kind,
)

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
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_PADDED = re.compile(r"[+-]?0[0-9]+")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}([,.' ][0-9]{3})+([.,][0-9]*)?")
_NUMBER = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?)?", re.ASCII)


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
    >>> from descents.data.tables import describe
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
    if _NUMBER.fullmatch(label):
        return 0, float(label), label
    parts = re.split(r"(\d+)", label, flags=re.ASCII)
    return 1, [int(p) if i % 2 else p for i, p in enumerate(parts)], label


# Text


def _delimiter(given: str | None, decimal: str | None) -> str | None:
    if given is None:
        return None
    given = "\t" if given == "\\t" else given
    if not isinstance(given, str) or len(given) != 1 or given in '"\r\n\0':
        raise InvalidValueError(
            f"delimiter is {given!r}; give one character, such as ';'"
        )
    if not given.isascii() or given == decimal:
        raise InvalidValueError(
            f"delimiter is {given!r} with decimal {decimal!r}; give an ASCII character "
            "that is not the decimal mark"
        )
    return given


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
    if not text.strip():
        raise InvalidValueError(f"{where} is empty; give a table of at least one row")
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
        delimiter = delimiter or _sniffed(head, wanted.decimal)
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
    if header:
        cells = cells.slice(1)
        names = [name.strip() for name in first]
    else:
        names = [""] * len(first)
    each = (wanted.decimal,) if wanted.decimal else (".", ",")
    numeric = header and any(
        all(_number(name, mark) is not None for name in names) for mark in each
    )
    names = [name or f"column{place}" for place, name in enumerate(names, 1)]
    check_names(where, names, _REMEDY)
    if not len(cells):
        raise InvalidValueError(
            f"{where} has a header and no rows; give at least one row (or give "
            "--no-header, if the first line is data)"
        )
    newline = "\r\n" if "\r\n" in head else "\n"
    if "\n" not in head and "\r" in head:
        newline = "\r"
    ignored = known_names(ignore, names).union(skip)
    columns, decimal, notes = _text_columns(
        where,
        [
            _Cells(name, cells.column(place), marks)
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
    descents.checks.InvalidValueError: t.csv has a quote that opens in line 2 and is never
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


class _Cells:
    """The cells of one column of text, as distinct texts and their positions."""

    def __init__(self, name: str, cells: Any, marks: set[str]) -> None:
        from pyarrow import compute

        trimmed = compute.utf8_trim_whitespace(cells.combine_chunks())
        encoded = trimmed.dictionary_encode()
        self.name = name
        self.texts: list[str] = encoded.dictionary.to_pylist()
        # pyarrow's own to_numpy imports pandas, which takes longer than all the reading.
        self.places = np.from_dlpack(encoded.indices)
        self.marks = marks
        self.seen = [text for text in self.texts if text not in marks]

    @cached_property
    def points(self) -> np.ndarray | None:
        """The texts as plain numbers with decimal points; None if one is not a number."""
        return self.numbers(".")

    @cached_property
    def commas(self) -> np.ndarray | None:
        """The texts as plain numbers with decimal commas; None if one is not a number."""
        return self.numbers(",")

    def numbers(self, decimal: str) -> np.ndarray | None:
        """Return the texts as plain numbers with this decimal mark, or None."""
        values = np.full(len(self.texts), np.nan)
        for place, text in enumerate(self.texts):
            if text not in self.marks:
                number = _number(text, decimal)
                if number is None:
                    return None
                values[place] = number
        return values

    def column(self, kind: Kind, codes: Any, **rest: Any) -> Column:
        """Return the column, given the number of each text: a mapping, or in order."""
        if isinstance(codes, Mapping):
            values = [codes.get(text) for text in self.texts]
            codes = np.array(values, dtype=np.float64)  # None becomes NaN
        return as_column(self.name, kind, codes[self.places], **rest)


def _text_columns(
    where: str, each: Sequence[_Cells], wanted: Memory, delimiter: str
) -> tuple[tuple[Column, ...], str, list[str]]:
    """Return the columns of a file, the decimal mark of its plain numbers, and notes.

    A column with ambiguous commas, such as 1,234, is read like the other columns.
    """
    new = wanted.formats is not None
    decision = (
        settled(where, each, wanted, delimiter)
        if new
        else _recognized(each, wanted, delimiter)
    )
    columns = tuple(
        _text_column(
            cells, decision.decimal, way, wanted.known(cells.name) if new else None
        )
        for cells, way in zip(each, decision.ways, strict=True)
    )
    return columns, decision.decimal, decision.notes


def _recognized(each: Sequence[_Cells], wanted: Memory, delimiter: str) -> Settled:
    """Decide how the columns of a file are read, without a table of a fit."""
    options = [_ways(cells, wanted) for cells in each]
    shown = {wanted.decimal} if wanted.decimal else _decimals(each, options)
    sure = next(iter(shown)) if len(shown) == 1 else None
    chosen = [
        _way(cells, ways, sure, delimiter)
        for cells, ways in zip(each, options, strict=True)
    ]
    notes = []
    if (
        sure is None and delimiter != ","
    ):  # with this one, decimal commas are impossible
        notes = notes_of_points(each, chosen)
    return Settled(chosen, sure or wanted.first, notes)


def _ways(cells: _Cells, wanted: Memory) -> list[Written]:
    """Return the possible ways in which numbers are written; none for plain numbers."""
    plain = cells.points if wanted.first == "." else cells.commas
    if plain is not None:
        return []
    if (
        wanted.decimal is None
        and cells.commas is not None
        and decimal_commas(cells.seen)
        and not padded(cells.seen)
    ):
        return [Written(",")]  # a shortcut for the common case
    return [way for way in ways(cells.seen) if wanted.decimal in (None, way.decimal)]


def _decimals(each: Sequence[_Cells], found: Sequence[Sequence[Written]]) -> set[str]:
    """Return the decimal marks of unambiguous columns."""
    shown = {
        one[0].decimal
        for cells, one in zip(each, found, strict=True)
        if len(one) == 1 and any("." in text or "," in text for text in cells.seen)
    }
    for cells in each:
        if cells.points is not None and dotted(cells.seen)[1]:
            shown.add(".")
    return shown


def _way(
    cells: _Cells, found: Sequence[Written], decimal: str | None, delimiter: str
) -> Written | Ends | None:
    """Return how a column is written, or None if it is plain or ambiguous.

    Parameters
    ----------
    decimal : str or None
        The decimal mark of the whole file, if it is known.
    """
    if len(found) == 1:
        return found[0]
    if len(found) == 2:
        for way in found:
            if way.decimal == decimal:
                return way
        # An ambiguous point is a decimal point, as in plain numbers. A comma is a
        # thousands separator if smaller numbers have none, or if it is the delimiter.
        if any("." in text for text in cells.seen):
            return found[0]
        thousands = delimiter == "," or grouped(cells.seen)
        return found[0] if thousands else None
    if decimal == "," and cells.seen and cells.points is not None:
        pointed, sure = dotted(cells.seen)
        return Written(",", ".") if pointed and not sure else None
    return open_ends(cells.seen, MOST_LEVELS)


def _text_column(
    cells: _Cells,
    decimal: str,
    way: Written | Ends | None,
    known: Written | Ends | None,
) -> Column:
    """Convert the texts of a column to numbers, levels or dates.

    Parameters
    ----------
    decimal : str
        The decimal mark of plain numbers in the file.
    way : Written, Ends or None
        How the column is written; None if it is plain or ambiguous.
    known : Written, Ends or None
        How it was written in the table of a fit.
    """
    seen = cells.seen
    if not seen:
        empty = cells.column("empty", {})
        if isinstance(known, Written) and known.has_unit:
            return replace(empty, written=known.switched(decimal))
        return empty
    if way is not None:
        column = _as_written(cells, way, known, decimal)
        if column is not None:
            return column
    plain = cells.points if decimal == "." else cells.commas
    if plain is not None and not any(map(_PADDED.fullmatch, seen)):
        return cells.column("number", plain, whole=all(map(_WHOLE.fullmatch, seen)))
    return _levels_column(cells, decimal)


def _levels_column(cells: _Cells, decimal: str) -> Column:
    """Return a column without numbers: two values, dates or text."""
    seen = cells.seen
    for pair in WORDS:
        if {text.lower() for text in seen} <= set(pair):
            truth = {text: float(pair.index(text.lower())) for text in seen}
            return cells.column("boolean", truth, levels=both(seen, pair))
    if all(map(_DATE.fullmatch, seen)):
        days = _days_of_text(seen)
        if days is not None:
            return cells.column("date", days)
    levels = sorted(seen)
    codes = {text: float(code) for code, text in enumerate(levels)}
    result = cells.column("text", codes, levels=levels)
    result = cells.column(text_kind(result.values, levels), codes, levels=levels)
    return replace(result, says=result.says + _hint(levels, decimal))


def _as_written(
    cells: _Cells, way: Written | Ends, known: Written | Ends | None, decimal: str
) -> Column | None:
    """Return a column whose cells are written in the way `way`, or None if they are not."""
    seen = cells.seen
    if isinstance(way, Ends):
        codes = {text: float(code) for code, text in enumerate(way.levels)}
        if set(seen) <= set(codes):
            return cells.column("order", codes, levels=way.levels, written=way)
        return None
    numbers: Any = {Written(): cells.points, Written(","): cells.commas}.get(way)
    exact = all(map(_WHOLE.fullmatch, seen))
    if numbers is None:
        numbers = {text: way.number(text) for text in seen}
        if None in numbers.values():
            return None
        exact = whole(seen, way)
        way = way.shaped(seen, known if isinstance(known, Written) else None)
    elif any(map(_PADDED.fullmatch, seen)):
        return None
    bare = way in (Written(), Written(","))
    # Values that are filled into plain cells have the decimal mark of the file.
    plain = bare and (exact or way.decimal == decimal == ".")
    written = None if plain else way
    return cells.column("number", numbers, whole=exact, written=written)


def _hint(levels: Sequence[str], decimal: str) -> str:
    """Return a hint for a column of text if all or most cells are numbers."""
    numbers = {text: _number(text, decimal) for text in levels}
    odd = [text for text in levels if numbers[text] is None]
    if not odd:
        return ", codes with leading zeros"
    if len(ways(levels)) == 2:
        return (
            f", numbers such as {short(odd[0])!r} whose comma may be a decimal mark "
            "(--decimal ,) or a thousands separator (--decimal .)"
        )
    other = "," if decimal == "." else "."
    if all(_number(text, other) is not None for text in levels):
        mark = {",": "commas", ".": "points"}[other]
        return f", numbers such as {short(odd[0])!r} with decimal {mark} (--decimal {other})"
    return _odd_ones(numbers, odd, levels)


def _odd_ones(
    numbers: Mapping[str, float | None], odd: Sequence[str], levels: Sequence[str]
) -> str:
    """Return a hint for a column in which some cells are written differently."""
    read = [text for text in levels if ways([text])]
    if len(read) == len(levels):
        units = sorted({unit(text) for text in levels})
        if len(units) > 1:
            listed = ", ".join(repr(x) if x else "none" for x in units[:4])
            return f", numbers with several units ({listed}); write all in one unit"
        if not any(ways(levels)):
            return (
                ", numbers that are written in several ways, such as "
                f"{short(odd[0])!r}; write all in one way"
            )
    if 2 * len(odd) < len(levels):
        rest = odd
    else:
        rest = [text for text in odd if text not in read]
        if 2 * len(rest) >= len(levels) or not rest:
            return ""
    hint = f", mostly numbers except for {short(rest[0])!r}"
    if _THOUSANDS.fullmatch(rest[0]):
        return f"{hint}; remove its thousands separator"
    if is_open(rest[0]):
        return f"{hint}, an open end (--missing {rest[0]!r} reads it as missing)"
    return f"{hint} (if it marks missing cells, give --missing)"


def _number(text: str, decimal: str) -> float | None:
    if decimal == ",":
        text = text.replace(".", "?").replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else None


def _days_of_text(texts: Sequence[str]) -> dict[str, float] | None:
    """Return ISO dates as days, or None if one is not a date."""
    import pyarrow

    plain = [text.removesuffix("Z") for text in texts]
    try:
        cells = pyarrow.array(plain).cast(pyarrow.timestamp("us"))
    except pyarrow.ArrowException:
        return None
    return dict(zip(texts, as_days(cells).tolist(), strict=True))
