"""Tables in CSV text: delimiters, records, quotes, and errors that name the line."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict

from descents.errors import InvalidValueError, ran_out
from descents.tables.conventions import Expected
from descents.tables.frames import Dialect, Source, reason_of
from descents.tables.memory import memory_of_machine
from descents.tables.sizes import (
    MOST_TIMES_TEXT,
    SUSPECT_TEXT,
    check_columns,
)
from descents.tables.tables import Table, check_names, known_names
from descents.tables.text_columns import TextCells, plain_number, text_columns
from descents.text import counted

if TYPE_CHECKING:
    import pyarrow

LONGEST_LINE = 64 * 2**20
"""Maximum length of a line, in bytes; a longer one is not part of a table."""

_NUMBERS_AS_NAMES = (
    "the first line has only numbers and was taken for column names; give --no-header "
    "if it is data"
)
_REMEDY = " (or --no-header, if the first line is data)"
_IN_NUMBER = re.compile(r"(?<=[0-9]),(?=[0-9])")
_LINE_END = re.compile(r"\r\n|\r|\n")
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<mark>[^"\w\r\n])"?[ ;,\t]*(?=\r|\n)', re.I)
"""The first line that names the delimiter for Excel."""
_CONTROLS = re.compile("[\udc80-\udc9f]")
"""Bytes from 0x80 to 0x9f that are not part of UTF-8."""
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def checked_delimiter(
    mark: str | None, decimal: str | None, name: str = "delimiter"
) -> str | None:
    """Return the delimiter that a user gave, or raise an error; None if there is none."""
    if mark is None:
        return None
    mark = "\t" if mark == "\\t" else mark
    if not isinstance(mark, str) or len(mark) != 1 or mark in '"\r\n\0':
        raise InvalidValueError(f"{name} is {mark!r}; give one character, such as ';'")
    if not mark.isascii() or mark == decimal:
        raise InvalidValueError(
            f"{name} is {mark!r} with decimal {decimal!r}; give an ASCII character "
            "that is not the decimal mark"
        )
    return mark


def checked_encoding(encoding: str, name: str = "encoding") -> str:
    """Return the name of an encoding, or raise an error if it is unknown."""
    try:
        with contextlib.suppress(UnicodeError):  # half a character of UTF-16
            b" ".decode(encoding)
    except LookupError:  # also of codecs that are not of text, such as hex
        raise InvalidValueError(
            f"{name} is {encoding!r}, which is unknown; give an encoding such as 'utf-8' "
            "or 'latin-1'"
        ) from None
    return encoding


def read_bytes(where: str, path: Path | None, content: bytes | None = None) -> bytes:
    """Return the content of a file, decompressed; raise an error for an endless line.

    `content` has the bytes if they were read already, as those of a pipe are.
    """
    try:
        packed = path is not None and path.suffix.lower() == ".gz"
        if content is not None and not packed:
            return content
        if path is None:
            if sys.stdin is None:  # it was closed before this process began
                raise InvalidValueError(
                    "standard input is closed; give the path of a file, or a pipe"
                )
            return bytes_in_lines(where, sys.stdin.buffer)
        if not packed:
            with path.open("rb") as stream:
                return bytes_in_lines(where, stream)
        size = path.stat().st_size if content is None else len(content)
        most = max(SUSPECT_TEXT, MOST_TIMES_TEXT * size)
        with gzip.open(path if content is None else io.BytesIO(content)) as unpacked:
            return bytes_in_lines(where, unpacked, most)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidValueError(
            f"{where} is not a complete gzip file ({reason_of(error)}); give another, or "
            "decompress it"
        ) from None
    except OSError as error:
        raise InvalidValueError(
            f"{where} cannot be read ({error.strerror or error}); give a file that can"
        ) from None


def bytes_in_lines(
    where: str, stream: BinaryIO | gzip.GzipFile, expands: int | None = None
) -> bytes:
    """Return the bytes of a stream, of which a gzip file may contain `expands`.

    Raises
    ------
    InvalidValueError
        If a line is endless, or the stream is too large.
    """
    chunks = []
    length = 0  # of the current line
    whole, most = 0, memory_of_machine() // 4  # there are several copies of the text
    while chunk := stream.read(2**20):
        whole += len(chunk)
        if expands is not None and whole > expands:
            raise InvalidValueError(
                f"{where} contains more than {MOST_TIMES_TEXT} times its size, {expands // 2**20} "
                "MiB of text; decompress it, and give the file if it is the table"
            )
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


def decoded(where: str, content: bytes, encoding: str) -> str:
    """Return bytes as text; raise an error if they are not text in this encoding."""
    binary = f"{where} contains zero bytes, so it is not text"
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    encoding = checked_encoding(encoding)
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        if b"\0" not in content or utf16:
            other = _other_encoding(content)
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


def without_separator_line(text: str) -> tuple[str, str | None]:
    r"""Return a text without the line of Excel that names the delimiter, and the delimiter.

    An empty line takes its place, so that later lines keep their numbers.

    Examples
    --------
    >>> without_separator_line("sep=;\na;b\n"), without_separator_line("a,b\n")
    (('\na;b\n', ';'), ('a,b\n', None))
    """
    match = _SEPARATOR_LINE.match(text)
    return (text, None) if match is None else (text[match.end() :], match["mark"])


def _other_encoding(content: bytes) -> str:
    """Return an encoding that a file which is not UTF-8 may have.

    Bytes from 0x80 to 0x9f are quotes, dashes and the euro sign in cp1252, but control
    characters in latin-1.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    rest = content.decode("utf-8", "surrogateescape")
    if not _CONTROLS.search(rest):
        return "latin-1"
    try:
        content.decode("cp1252")
    except UnicodeError:
        return "latin-1"
    return "cp1252"


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
            try:
                counts = [len(record) for record in _records(head, delimiter, 20)]
            except csv.Error:  # a cell of over 128 KiB: not the delimiter, unless alone
                continue
            even = counts[0] > 1 and len(set(counts)) == 1
            if (inside and even and best[2] == ",") or (even, counts[0]) > best[:2]:
                best = (even, counts[0], delimiter)
    return best[2]


def read_text(
    where: str,
    text: str,
    header: bool,
    marks: set[str],
    written: Dialect,
    delimiter: str | None,
    ignore: Sequence[str],
    wanted: Expected,
    skip: Sequence[str],
) -> Table:
    """Return the table in a CSV text."""
    if not text.strip():
        raise InvalidValueError(f"{where} is empty; give a table of at least one row")
    given = delimiter
    delimiter, newline, first, cells = _split(where, text, given, wanted.decimal)
    if header and given is not None and len(first) == 1:
        _check_other_delimiter(where, given, cells)
    cells = cells.slice(1) if header else cells
    names = [name.strip() if header else "" for name in first]
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
    places = dict(zip(names, range(len(names)), strict=True))
    mark = wanted.decimal
    for column in columns:
        column.belongs_to(cells.column(places[column.name]), mark)
    dialect = replace(
        written,
        decimal=decimal,
        header=tuple(first) if header else None,
        delimiter=delimiter,
        newline=newline,
        textual=True,
        **_quotes(text, delimiter, len(first), marks, header),
    )
    source = Source("pyarrow", cells, tuple(names), len(cells), dialect)
    return Table(columns, source, (*notes, *([_NUMBERS_AS_NAMES] if numeric else ())))


def _check_other_delimiter(where: str, given: str, cells: pyarrow.Table) -> None:
    """Raise if the first lines, which the given delimiter leaves whole, have another."""
    lines = cells.column(0).slice(0, 20).to_pylist()
    for mark, noun in _DELIMITERS.items():
        counts = {line.count(mark) for line in lines}
        if mark != given and len(counts) == 1 and counts != {0}:
            raise InvalidValueError(
                f"{where} has one column if the delimiter is {given!r}, but each of its "
                f"first lines contains {noun}; leave the delimiter out, or give {mark!r}"
            )


class _Quotes(TypedDict):
    """The parts of a dialect on quotes."""

    quoted: dict[str, frozenset[str]]
    all_quoted: bool


def _quotes(
    text: str, delimiter: str, width: int, marks: set[str], header: bool
) -> _Quotes:
    """Return which columns have all their cells in quotes, except marks of missing ones."""
    if '"' not in text:
        return {"quoted": {}, "all_quoted": False}
    mark = re.escape(delimiter)
    cell = re.compile(
        rf'("[^"]*+(?:""[^"]*+)*+"|[^{mark}\r\n]*+)({mark}|\r\n|\r|\n|\Z)'
    )
    bare: list[set[str]] = [set() for _ in range(width)]
    some, left, blank = [False] * width, set(range(width)), marks | {""}
    place, row, names = 0, 0, header
    for match in cell.finditer(text):
        content, end = match[1], match[2]
        last = end != delimiter
        if not (place == 0 and last and not content):  # not a blank line
            if place >= width:
                return {"quoted": {}, "all_quoted": False}
            is_quoted = content.startswith('"')
            if header and row == 0:
                names &= is_quoted
            elif is_quoted:
                some[place] = True
            elif content not in bare[place] and place in left:
                bare[place].add(content)
                if content.strip() not in blank:
                    left.remove(place)
                    if not left:
                        break
            row += last
        place = 0 if last else place + 1
    quoted = {str(at): frozenset(bare[at]) for at in left if some[at]}
    every = len(quoted) == width and (names or not header)
    return {"quoted": quoted, "all_quoted": every and not any(bare)}


def _split(
    where: str, text: str, delimiter: str | None, decimal: str | None
) -> tuple[str, str, list[str], pyarrow.Table]:
    """Return the delimiter, the line end, the first record, and columns of all records."""
    end = _first_line(text)
    marks_in_line = [text.count(mark, 0, end) for mark in delimiter or _DELIMITERS]
    check_columns(where, max(marks_in_line) + 1)
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


def _parsed(where: str, text: str, delimiter: str, width: int) -> pyarrow.Table:
    """Return all records of a text, including the first, as columns of strings."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    # A blank line in a single column is a missing cell, unless it is at an end, or other
    # missing cells are written as "".
    blanks = width == 1 and not re.search(r'^""\r?$', text, re.MULTILINE)
    if blanks:
        text = text.strip("\r\n") + "\n"
    content = text.encode()
    names = [str(place) for place in range(width)]
    try:
        return arrow_csv.read_csv(
            pyarrow.BufferReader(content),
            # pyarrow rejects a record that is longer than a block: use one block.
            arrow_csv.ReadOptions(
                column_names=names, block_size=min(len(content) + 1, 2**31 - 1)
            ),
            arrow_csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=not blanks,
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string()),
                strings_can_be_null=False,
                # For these, pyarrow keeps 9 KB a column, though text needs none of them.
                null_values=[],
                true_values=[],
                false_values=[],
            ),
        )
    except MemoryError:  # some of which are ArrowExceptions too
        raise
    except (pyarrow.ArrowException, OSError) as error:
        if ran_out(error):
            raise MemoryError(str(error)) from None
        check_quotes(where, text, delimiter)
        reason = _ragged(text, delimiter, width) or reason_of(error)
    raise InvalidValueError(
        f"{where} is not a table with {delimiter!r} between cells: {reason}; give all "
        "lines the same number of cells, or give another delimiter"
    )


def _first_line(text: str) -> int:
    """Return where the first line of a text that is not blank ends, with its line end."""
    blank = re.match(r"[\r\n]*", text)
    match = _LINE_END.search(text, blank.end() if blank else 0)
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
