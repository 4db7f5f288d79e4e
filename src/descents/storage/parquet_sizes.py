"""Sizes that a Parquet file declares, read from its footer and the headers of its pages.

pyarrow allocates what these declare, and ends the process if the sizes in a damaged footer
contradict each other and are requested. So they are read here, without pyarrow, before it
opens the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import BinaryIO, TypeAlias

Wanted: TypeAlias = Mapping[int, "Wanted | None"]
"""The numbers of the fields of a struct that are read, with the wanted fields of those that
are structs or lists of structs; all other fields are skipped."""
Value: TypeAlias = "int | Fields | list[Fields]"
Fields: TypeAlias = dict[int, "Value"]

DEEPEST = 100
"""Maximum depth of structs, and of columns in columns; pyarrow reads them by recursion."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_LIST, _SET, _MAP, _STRUCT, _UUID = range(9, 14)
_OF_LENGTH = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}

BYTE_ARRAY, FIXED_LENGTH = 6, 7
"""Physical types of columns whose values are not numbers."""
MOST_TIMES = 500
"""A file that grows more than this many times is suspect, if what it becomes is large."""
SUSPECT = 2**29
"""The memory, in bytes, from which tables count as large."""
CODES = (2, 8)
"""Encodings of pages with the places of values in a dictionary."""
PREFIXES = 7
"""The encoding of texts by the part that is equal to the beginning of the text before."""

_COLUMN: Wanted = {3: {1: None, 5: None, 7: None, 9: None, 11: None}}
_FOOTER: Wanted = {
    2: {1: None, 2: None, 5: None},
    3: None,
    4: {1: _COLUMN, 3: None},
}
_PAGE: Wanted = {
    1: None,
    2: None,
    3: None,
    5: {1: None, 2: None},
    7: {1: None},
    8: {1: None, 4: None},
}
_HEADER = 512
"""Number of bytes that are read at first for the header of a page."""


class _Compact:
    """Reader of the compact protocol of Thrift, in which Parquet writes its metadata."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        data, at = self.data, self.at
        number, shift = data[at] & 127, 7
        while data[at] > 127:
            at += 1
            number |= (data[at] & 127) << shift
            shift += 7
            if shift > 70:
                raise ValueError("its metadata has a number of over 64 bits")
        self.at = at + 1
        return number

    def zigzag(self) -> int:
        number = self.varint()
        return (number >> 1) ^ -(number & 1)

    def length(self) -> tuple[int, int]:
        """Return the type of the items of a list, and their number."""
        head = self.data[self.at]
        self.at += 1
        return head & 15, self.fits(self.varint() if head > 239 else head >> 4)

    def fits(self, count: int) -> int:
        """Return a number of items, each of which takes a byte or more of what is left."""
        if count > len(self.data) - self.at:
            raise IndexError
        return count

    def struct(self, wanted: Wanted, depth: int = 0) -> Fields:
        """Return the wanted fields of a struct; of a field that repeats, the last."""
        if depth > DEEPEST:
            raise ValueError("its metadata is nested too deeply")
        fields: Fields = {}
        data, number = self.data, 0
        while head := data[self.at]:
            self.at += 1
            kind = head & 15
            number = number + (head >> 4) if head > 15 else self.zigzag()
            if number in wanted:
                value = self.value(kind, wanted[number], depth)
                if value is not None:
                    fields[number] = value
            elif kind == _BINARY and data[self.at] < 128:  # the most frequent case
                self.at += 1 + data[self.at]
            elif kind > _FALSE:
                self.skip(kind, depth)
        self.at += 1
        return fields

    def value(self, kind: int, wanted: Wanted | None, depth: int) -> Value | None:
        """Return a wanted number, struct or list; None if it is of another type."""
        if wanted is None and _I16 <= kind <= _I64:
            number = self.data[self.at]
            if number > 127:
                return self.zigzag()
            self.at += 1
            return (number >> 1) ^ -(number & 1)
        if kind == _STRUCT and wanted is not None:
            return self.struct(wanted, depth + 1)
        if kind == _LIST and wanted is not None:
            inner, count = self.length()
            if inner == _STRUCT:
                return [self.struct(wanted, depth + 1) for _ in range(count)]
            self.skip_items(inner, count, depth)
            return None
        self.skip(kind, depth)
        return None

    def skip(self, kind: int, depth: int) -> None:
        if _I16 <= kind <= _I64:
            at = self.at
            while self.data[at] > 127:
                at += 1
            self.at = at + 1
        elif kind == _BINARY:
            count = self.varint()
            self.at += count
        elif kind in _OF_LENGTH:
            self.at += _OF_LENGTH[kind]
        elif kind in (_LIST, _SET):
            self.skip_items(*self.length(), depth)
        elif kind == _STRUCT:
            self.struct({}, depth + 1)
        elif kind == _MAP:
            count = self.fits(self.varint())
            if count:
                kinds = self.data[self.at]
                self.at += 1
                for _ in range(count):
                    self.skip_items(kinds >> 4, 1, depth)
                    self.skip_items(kinds & 15, 1, depth)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"its metadata has a field of type {kind}")

    def skip_items(self, kind: int, count: int, depth: int) -> None:
        """Skip the items of a list, of which truth values take a byte each."""
        if depth > DEEPEST:
            raise ValueError("its metadata is nested too deeply")
        if kind in _OF_LENGTH or kind in (_TRUE, _FALSE):
            self.at += count * _OF_LENGTH.get(kind, 1)
            return
        if _I16 <= kind <= _I64 and count < 20:  # such as the encodings of a column
            data, at = self.data, self.at
            for _ in range(count):
                while data[at] > 127:
                    at += 1
                at += 1
            self.at = at
            return
        for _ in range(count):
            self.skip(kind, depth + 1)


def _number(fields: Fields, key: int, missing: int = 0) -> int:
    value = fields.get(key, missing)
    return value if isinstance(value, int) else missing


def _struct(fields: Fields, key: int) -> Fields:
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def _list(fields: Fields, key: int) -> list[Fields]:
    value = fields.get(key)
    return value if isinstance(value, list) else []


@dataclass
class DeclaredColumn:
    """The sizes of one column without columns inside, in bytes, over all row groups.

    Attributes
    ----------
    place : int
        The number of the column of the table that it belongs to.
    text : bool
        Whether its values are bytes of any length, such as text.
    width : int
        Bytes of a value in memory; of text, without its bytes.
    values : int
        Number of values, including missing ones.
    pages : int
        Size of all pages, decompressed.
    largest : int
        Size of the largest page, as it is and decompressed.
    group : int
        Size of the largest row group, as it is and decompressed.
    distinct : int
        An upper limit on the number of different values.
    longest : int
        An upper limit on the bytes of a text that is stored once and repeated.
    repeated : int
        Number of values that may be such a text.
    """

    place: int
    text: bool
    width: int
    values: int = 0
    pages: int = 0
    largest: int = 0
    group: int = 0
    distinct: int = 0
    longest: int = 0
    repeated: int = 0


@dataclass
class Declared:
    """What a Parquet file declares.

    Attributes
    ----------
    rows : int
    columns : list of DeclaredColumn
        In the order of the file; a column of structs or lists has several, or none.
    """

    rows: int
    columns: list[DeclaredColumn]


def declared(file: BinaryIO) -> Declared:
    """Return the sizes that an open Parquet file declares.

    Raises
    ------
    ValueError
        If the file is not a whole Parquet file, or sizes contradict each other.
    OSError

    Examples
    --------
    >>> import io, pyarrow, pyarrow.parquet
    >>> stream = io.BytesIO()
    >>> pyarrow.parquet.write_table(pyarrow.table({"a": ["x", "y", "x"]}), stream)
    >>> found = declared(stream)
    >>> found.rows, found.columns[0].values, found.columns[0].distinct
    (3, 3, 2)
    """
    length = file.seek(0, 2)
    fields = _footer(file, length)
    columns = _leaves(_list(fields, 2))
    whole, rows, left = _counted(fields, 3, "rows"), 0, length
    for group in _list(fields, 4):
        rows += _counted(group, 3, "rows")
        chunks = _list(group, 1)
        for column, chunk in zip_longest(columns, chunks):
            if column is None or chunk is None:
                raise ValueError(
                    f"a row group has {len(chunks)} columns, the schema {len(columns)}"
                )
            left = _add_chunk(file, length, left, column, _struct(chunk, 3))
    if rows != whole:
        raise ValueError(f"it declares {whole} rows, and its row groups {rows}")
    return Declared(rows, columns)


def _footer(file: BinaryIO, length: int) -> Fields:
    """Return the wanted fields of the footer, which is at the end of the file."""
    file.seek(max(0, length - 8))
    end = file.read(8)
    size = int.from_bytes(end[:4], "little")
    if length < 12 or end[4:] != b"PAR1":
        raise ValueError("it does not end as a Parquet file does")
    if size > length - 8:
        raise ValueError(f"its footer of {size} bytes is longer than the file")
    file.seek(length - 8 - size)
    try:
        return _Compact(file.read(size)).struct(_FOOTER)
    except IndexError:
        raise ValueError("its footer ends too early") from None


def _leaves(schema: Sequence[Fields]) -> list[DeclaredColumn]:
    """Return the columns of a schema that have no columns inside.

    The schema lists each column before those inside of it.
    """
    columns = []
    open_ends: list[int] = []  # for each level, the number of columns that follow
    place = -1
    for element in schema:
        place += len(open_ends) == 1
        inside = _counted(element, 5, "columns")
        if not inside and open_ends:
            kind, size = _number(element, 1, -1), _counted(element, 2, "bytes")
            width = max(8, size) if kind == FIXED_LENGTH else 8
            columns.append(DeclaredColumn(place, kind == BYTE_ARRAY, width))
        if open_ends:
            open_ends[-1] -= 1
        open_ends.append(inside)
        if len(open_ends) > DEEPEST:
            raise ValueError("its columns are nested too deeply")
        while open_ends and not open_ends[-1]:
            open_ends.pop()
    return columns


def _counted(fields: Fields, key: int, what: str) -> int:
    """Return a number that cannot be negative."""
    count = _number(fields, key)
    if count < 0:
        raise ValueError(f"it declares {count} {what}")
    return count


def _add_chunk(
    file: BinaryIO, length: int, left: int, column: DeclaredColumn, chunk: Fields
) -> int:
    """Add the pages of a column in one row group; return how many bytes are left.

    No byte belongs to two pages, so all pages together are not longer than the file.
    """
    most = _counted(chunk, 5, "values")
    begin, dictionary = _counted(chunk, 9, "bytes"), _counted(chunk, 11, "bytes")
    if 0 < dictionary < begin:
        begin = dictionary
    end = min(length, begin + _counted(chunk, 7, "bytes") + 100)
    values = packed = unpacked = longest = 0
    for page, size in _pages(file, begin, end):
        larger = _counted(page, 2, "bytes")
        packed, unpacked = packed + size, unpacked + larger
        column.largest = max(column.largest, size + larger)
        if packed > left:
            raise ValueError("its pages are larger than the file")
        if 7 in page:
            column.distinct += min(larger, _counted(_struct(page, 7), 1, "values"))
            longest = max(longest, larger)
            continue
        count = _counted(_struct(page, 5) or _struct(page, 8), 1, "values")
        encoding = _number(_struct(page, 5), 2, _number(_struct(page, 8), 4))
        values += count
        column.distinct += count * (encoding not in CODES)
        column.repeated += count * (encoding in (*CODES, PREFIXES))
        if encoding == PREFIXES:
            longest = max(longest, larger)
        if values >= most:  # pyarrow reads no further
            break
    column.values += max(values, most)
    column.pages += unpacked
    column.group = max(column.group, packed + unpacked)
    column.longest = max(column.longest, longest)
    return left - packed


def _pages(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[Fields, int]]:
    """Yield the header of each page, and the size of the page with its header."""
    at = begin
    while at < end:
        page, size = _header(file, at, end)
        size += _counted(page, 3, "bytes")
        if at + size > end:
            raise ValueError("a page ends behind its column")
        yield page, size
        at += size


def _header(file: BinaryIO, at: int, end: int) -> tuple[Fields, int]:
    """Return the header of a page, and its length."""
    size = _HEADER
    while True:
        file.seek(at)
        reader = _Compact(file.read(min(size, end - at)))
        try:
            fields = reader.struct(_PAGE)
        except IndexError:
            if (
                size >= end - at or size >= 2**24
            ):  # as pyarrow, which reads no longer ones
                raise ValueError("the header of a page ends too early") from None
            size *= 16
        else:
            return fields, reader.at
