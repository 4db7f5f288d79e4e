"""Data frames of other libraries: read by column, and returned with cells replaced.

A frame is a pandas or polars DataFrame, or a pyarrow table. The cells of a file are a
pyarrow table together with the dialect that they are written in as CSV text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.pandas_values import own_values, readable, refusal
from descents.text import without_formula

if TYPE_CHECKING:
    import pyarrow

Library = Literal["pandas", "polars", "pyarrow"]
Frame: TypeAlias = Any
"""A pandas or polars DataFrame, or a pyarrow Table: these have no common type."""
_FRAMES: dict[Library, str] = {
    "pandas": "DataFrame",
    "polars": "DataFrame",
    "pyarrow": "Table",
}


@dataclass(frozen=True)
class Dialect:
    """How a table is written as CSV text."""

    # `textual`: the cells are the text of a file. `marked`: the file begins with a byte
    # order mark. `quoted`: for each column of the frame whose cells are in quotes, the
    # texts that are not, such as NA. `all_quoted`: so is every column, with its name.
    # `safe`: text that a spreadsheet would take for a formula gets a quote in front.

    header: tuple[str, ...] | None
    delimiter: str = ","
    decimal: str = "."
    newline: str = "\n"
    textual: bool = False
    encoding: str = "utf-8"
    marked: bool = False
    quoted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    all_quoted: bool = False
    safe: bool = False


@dataclass(frozen=True, eq=False)
class Source:
    """The original table: a frame of some library, or the cells of a file."""

    library: Library
    frame: Frame
    names: tuple[str, ...]
    rows: int
    dialect: Dialect | None = None  # None: the caller passed a frame
    mark: object = None  # of missing cells, in columns of objects


def library_of(frame: object) -> Library | None:
    """Return the library that a data frame belongs to, or None if it is not a data frame.

    No library is imported: a frame of a library that is not imported cannot exist.

    Examples
    --------
    >>> import pyarrow
    >>> library_of(pyarrow.table({"a": [1]})), library_of([1])
    ('pyarrow', None)
    """
    for library, name in _FRAMES.items():
        kind = getattr(sys.modules.get(library), name, None)
        if kind is not None and isinstance(frame, kind):
            return library
    return None


def native(frame: object, mark: object = None) -> Source:
    """Return a frame from the caller as a source; raise an error for other types."""
    library = library_of(frame)
    if library is None:
        kind = type(frame).__name__
        raise InvalidValueError(
            f"the table is a {kind}; give a pandas or polars DataFrame or a pyarrow Table"
            f"{' (call collect() first)' if kind == 'LazyFrame' else ''}"
        )
    known: Frame = frame
    labels = known.column_names if library == "pyarrow" else known.columns
    names = tuple(str(label) for label in labels)
    return Source(library, frame, names, len(known), mark=mark)


def arrow_cells(source: Source, place: int) -> tuple[pyarrow.Array, bool]:
    """Return a column as one pyarrow array, and whether its levels are ordered."""
    import pyarrow

    name = short(source.names[place])
    ordered, series = False, None
    try:
        if source.library == "pandas":
            series = source.frame.iloc[:, place]
            if hasattr(series, "sparse"):
                series = series.sparse.to_dense()
            if getattr(series.dtype, "kind", "") == "c":
                raise TypeError("complex numbers")
            read, ordered = readable(series, source.mark)
            cells = pyarrow.Array.from_pandas(read)
            if series.dtype == object and not _known(cells.type):
                raise TypeError("unknown values")
        elif source.library == "polars":
            series = source.frame.to_series(place)
            ordered = type(series.dtype).__name__ == "Enum"
            cells = series.to_arrow()
        else:
            cells = source.frame.column(place)
        if isinstance(cells, pyarrow.ChunkedArray):
            cells = cells.combine_chunks()
    except MemoryError:  # some of which are ArrowExceptions too
        raise
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        own = series if source.library == "pandas" else None
        raise refusal(name, own, reason_of(error)) from None
    if pyarrow.types.is_dictionary(cells.type):
        ordered = ordered or cells.type.ordered
    return cells, ordered


def _known(kind: pyarrow.DataType) -> bool:
    """Return whether an arrow type that objects have can be read as a column."""
    from pyarrow import types

    binary = types.is_binary(kind) or types.is_large_binary(kind)
    return not (binary or types.is_nested(kind) or hasattr(kind, "extension_name"))


# Names and errors in messages


def short(name: str) -> str:
    """Return a name for a message, in one line and shortened if it is long."""
    name = "\\n".join(name.splitlines()) if "\n" in name or "\r" in name else name
    return name if len(name) <= 40 else f"{name[:37]}..."


def reason_of(error: BaseException) -> str:
    """Return the first line of the message of another library's error."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


# Missing cells


def _cell_text(fill: object, decimal: str) -> str:
    return repr(fill).replace(".", decimal) if isinstance(fill, float) else str(fill)


def put(source: Source, place: int, holes: np.ndarray, fills: list[Any]) -> Any:
    """Return one column of the source, of its own type, with missing cells filled.

    `holes` are the row numbers of the missing cells, and `fills` their values.
    """
    import pyarrow
    from pyarrow import compute, types

    if source.dialect and source.dialect.textual:
        fills = [_cell_text(fill, source.dialect.decimal) for fill in fills]
    cells, _ = arrow_cells(source, place)
    if types.is_decimal(cells.type):
        # Decimals of Python in a pandas column of objects have no upper limit.
        typed = source.library != "pandas" or not isinstance(
            source.frame.dtypes.iloc[place], np.dtype
        )
        digits = cells.type.precision if typed else 400
        fills = _decimals(fills, digits, cells.type.scale)
    if source.library == "pandas":
        series = source.frame.iloc[:, place].copy()
        if hasattr(series, "sparse"):
            series = series.sparse.to_dense()
        single = isinstance(series.dtype, np.dtype) and series.dtype.kind == "f"
        if single:
            series.iloc[holes] = _floats(fills, series.dtype)
        else:
            series.iloc[holes] = own_values(series, fills)
        return series
    observed = np.ones(source.rows, dtype=bool)
    observed[holes] = False
    index = np.zeros(source.rows, dtype=np.int64)
    index[holes] = np.arange(len(holes))
    if source.library == "polars":
        series = source.frame.to_series(place)
        maker = type(series)
        filler = maker(series.name, fills, dtype=series.dtype).gather(index)
        return series.zip_with(maker(observed), filler)
    kind = cells.type
    plain = cells.dictionary_decode() if types.is_dictionary(kind) else cells
    if str(plain.type) == "string_view":  # pyarrow cannot take elements of this type
        plain = plain.cast(pyarrow.large_string())
    if types.is_floating(plain.type):
        filler = pyarrow.array(_floats(fills, plain.type.to_pandas_dtype()))
    else:
        filler = pyarrow.array(fills, type=plain.type)
    whole = compute.if_else(pyarrow.array(observed), plain, filler.take(index))
    if not types.is_dictionary(kind):
        return whole.cast(kind)
    codes = compute.index_in(whole, value_set=cells.dictionary).cast(kind.index_type)
    maker = pyarrow.DictionaryArray.from_arrays
    return maker(codes, cells.dictionary, ordered=kind.ordered)


def _floats(fills: Sequence[float], dtype: np.dtype) -> np.ndarray:
    """Return numbers as floats of a type, clipped to its finite range."""
    most = float(np.finfo(dtype).max)
    return np.clip(np.array(fills, dtype=np.float64), -most, most).astype(dtype)


def _decimals(fills: Sequence[float], digits: int, scale: int) -> list[Decimal]:
    """Return numbers rounded and clipped to what a decimal type can represent."""
    exact = Context(prec=500)
    step = Decimal(1).scaleb(-scale)
    most = exact.subtract(exact.power(10, digits - scale), step)
    clipped = (max(-most, min(most, Decimal(repr(fill)))) for fill in fills)
    return [number.quantize(step, context=exact) for number in clipped]


def assemble(source: Source, parts: Mapping[int, object]) -> Source:
    """Return the source with some columns replaced."""
    import pyarrow

    frame = source.frame
    if source.library == "pandas":
        frame = frame.copy()
        for place, series in parts.items():
            frame.isetitem(place, series)
    elif source.library == "polars":
        frame = frame.with_columns(list(parts.values()))
    else:
        columns = [parts.get(place, cells) for place, cells in enumerate(frame.columns)]
        schema = frame.schema
        for place, cells in parts.items():
            field = schema.field(place).with_type(getattr(cells, "type", None))
            schema = schema.set(place, field)
        frame = pyarrow.Table.from_arrays(columns, schema=schema)
    return replace(source, frame=frame)


def given_back(source: Source) -> Frame | str:
    """Return a source for the caller: a frame, or CSV text if it came from a file."""
    frame = source.frame
    return frame if source.dialect is None else _csv_text(frame, source.dialect)


def stacked(sources: Sequence[Source], name: str) -> Source:
    """Return several versions of one file, stacked, with their number in a first column.

    The numbers begin with 1.

    Examples
    --------
    >>> import pyarrow
    >>> dialect = Dialect(("a",), textual=True)
    >>> frames = [pyarrow.table({"a": [text]}) for text in ("x", "y")]
    >>> each = [Source("pyarrow", frame, ("a",), 1, dialect) for frame in frames]
    >>> given_back(stacked(each, "number")).splitlines()
    ['number,a', '1,x', '2,y']
    """
    import pyarrow

    first = sources[0]
    assert first.dialect is not None  # noqa: S101
    frame = pyarrow.concat_tables([source.frame for source in sources])
    numbers = np.repeat(np.arange(1, len(sources) + 1), first.rows)
    kind = pyarrow.string() if first.dialect.textual else pyarrow.int64()
    frame = frame.add_column(0, name, pyarrow.array(numbers).cast(kind))
    header = first.dialect.header
    dialect = replace(first.dialect, header=None if header is None else (name, *header))
    return Source("pyarrow", frame, (name, *first.names), len(frame), dialect)


def beside(source: Source, texts: Mapping[str, Sequence[object]]) -> Source:
    """Return the source of a file with more columns on the right; None is an empty cell."""
    import pyarrow

    assert source.dialect is not None  # noqa: S101
    frame, dialect = source.frame, source.dialect
    for name, cells in texts.items():
        values = list(cells)
        if dialect.textual:
            values = [
                "" if cell is None else _cell_text(cell, dialect.decimal)
                for cell in values
            ]
        frame = frame.append_column(name, pyarrow.array(values))
    names = (*source.names, *texts)
    if dialect.header is not None:
        dialect = replace(dialect, header=(*dialect.header, *texts))
    return replace(source, frame=frame, names=names, dialect=dialect)


def _csv_text(frame: pyarrow.Table, dialect: Dialect) -> str:
    """Return a pyarrow table as CSV text.

    Quotes are around cells that need them, and in the columns that have them in the source.
    """
    special = re.compile(f'[{re.escape(dialect.delimiter)}"\r\n]')

    def in_quotes(text: str) -> str:
        doubled = text.replace('"', '""')
        return f'"{doubled}"'

    def quoted(text: str) -> str:
        return in_quotes(text) if special.search(text) else text

    columns = []
    for name, cells in zip(frame.column_names, frame.columns, strict=True):
        bare = dialect.quoted.get(name, frozenset() if dialect.all_quoted else None)
        texts = cell_texts(cells, dialect)
        if dialect.safe:
            texts = list(map(without_formula, texts))
        columns.append(
            [
                quoted(text) if bare is None or text in bare else in_quotes(text)
                for text in texts
            ]
        )
    lines = list(map(dialect.delimiter.join, zip(*columns, strict=True)))
    if dialect.header is not None:
        of_names = in_quotes if dialect.all_quoted else quoted
        names = dialect.header
        if dialect.safe:
            names = tuple(map(without_formula, names))
        lines.insert(0, dialect.delimiter.join(map(of_names, names)))
    # A blank line would not be read as a row, so it gets an empty quoted cell.
    return dialect.newline.join([line or '""' for line in lines] + [""])


def cell_texts(cells: pyarrow.ChunkedArray, dialect: Dialect) -> list[str]:
    """Return the cells of a column as text, "" if missing.

    The cells of a text file are returned unchanged. Whole numbers, decimals, dates and
    times of other files are exact. Whole floats below 2**53 have no exponent.
    """
    import pyarrow
    from pyarrow import types

    if dialect.textual:
        return list(cells.to_pylist())
    try:
        texts = cells.cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowException:
        texts = [None if cell is None else str(cell) for cell in cells.to_pylist()]
    if types.is_floating(cells.type):
        texts = [None if text == "nan" else _without_exponent(text) for text in texts]
    elif types.is_timestamp(cells.type):
        texts = _without_fraction(texts)
    return ["" if text is None else text for text in texts]


def _without_exponent(text: str | None) -> str | None:
    """Return the text of a float, without an exponent if it is a whole number."""
    if text is None or "e+" not in text:
        return text
    number = float(text)
    return str(int(number)) if abs(number) < 2**53 and number.is_integer() else text


_FRACTION = re.compile(r"(?<=:\d\d)\.0+(?=\D|$)", re.ASCII)


def _without_fraction(texts: list[str | None]) -> list[str | None]:
    """Return the times of a column without fractions of a second if all are zero."""
    if all(text is None or _FRACTION.search(text) for text in texts):
        return [None if text is None else _FRACTION.sub("", text) for text in texts]
    return texts
