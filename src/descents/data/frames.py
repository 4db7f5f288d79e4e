"""Native data frames: taken in, read by column, and given back with cells replaced.

A frame is one of pandas or polars, or a pyarrow table; a file's cells are a pyarrow
table with the dialect in which they are written as CSV text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any

import numpy as np

from descents.checks import InvalidValueError


@dataclass(frozen=True)
class Dialect:
    """How a table is written as CSV text."""

    header: tuple[str, ...] | None
    delimiter: str = ","
    decimal: str = "."
    newline: str = "\n"
    textual: bool = False  # whether the cells are kept as the text of a file
    encoding: str = "utf-8"
    marked: bool = False  # whether a byte order mark that is no text comes first


@dataclass(frozen=True, eq=False)
class Source:
    """The table as it was given: a frame of some library, or of a file's cells."""

    library: str
    frame: Any
    names: tuple[str, ...]
    rows: int
    dialect: Dialect | None = None  # None: the frame is what the caller gave


def native(frame: Any) -> Source:
    """Return a frame of a caller as a source, or refuse it."""
    from narwhals import dependencies

    if dependencies.is_pandas_dataframe(frame):
        library, given = "pandas", list(frame.columns)
    elif dependencies.is_polars_dataframe(frame):
        library, given = "polars", list(frame.columns)
    elif dependencies.is_pyarrow_table(frame):
        library, given = "pyarrow", list(frame.column_names)
    else:
        lazy = dependencies.is_polars_lazyframe(frame)
        raise InvalidValueError(
            f"the table is a {type(frame).__name__}; give a pandas or polars DataFrame "
            f"or a pyarrow Table{' (call collect() first)' if lazy else ''}"
        )
    names = tuple(str(name) for name in given)
    return Source(library, frame, names, len(frame))


def arrow_cells(source: Source, place: int) -> tuple[Any, bool]:
    """Return a column as one pyarrow array, and whether its levels are an order."""
    import pyarrow

    name = short(source.names[place])
    ordered = False
    try:
        if source.library == "pandas":
            series = source.frame.iloc[:, place]
            if hasattr(series, "sparse"):
                series = series.sparse.to_dense()
            if getattr(series.dtype, "kind", "") == "c":
                raise TypeError("complex numbers")
            cells = pyarrow.Array.from_pandas(series)
        elif source.library == "polars":
            series = source.frame.to_series(place)
            ordered = type(series.dtype).__name__ == "Enum"
            cells = series.to_arrow()
        else:
            cells = source.frame.column(place)
        if isinstance(cells, pyarrow.ChunkedArray):
            cells = cells.combine_chunks()
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidValueError(
            f"column {name!r} holds values of no single known type ({reason_of(error)}); "
            "give numbers, text, booleans or dates"
        ) from None
    if pyarrow.types.is_dictionary(cells.type):
        ordered = ordered or cells.type.ordered
    return cells, ordered


# What is said of a name and of an error


def short(name: str) -> str:
    """Return a name as a message shows it, cut where it is long."""
    return name if len(name) <= 40 else f"{name[:37]}..."


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error of a library says."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


# The holes


def _cell_text(fill: Any, decimal: str) -> str:
    return repr(fill).replace(".", decimal) if isinstance(fill, float) else str(fill)


def put(source: Source, place: int, holes: np.ndarray, fills: list[Any]) -> Any:
    """Return one column of the source, of its own type, with its holes filled."""
    import pyarrow
    from pyarrow import compute, types

    if source.dialect and source.dialect.textual:
        fills = [_cell_text(fill, source.dialect.decimal) for fill in fills]
    cells, _ = arrow_cells(source, place)
    if types.is_decimal(cells.type):
        # Python's own decimals, in a pandas column of objects, have no largest number.
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
        series.iloc[holes] = np.array(fills, dtype=series.dtype) if single else fills
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
    if str(plain.type) == "string_view":  # of which pyarrow can take no part
        plain = plain.cast(pyarrow.large_string())
    if types.is_floating(plain.type):
        filler = pyarrow.array(np.array(fills, dtype=plain.type.to_pandas_dtype()))
    else:
        filler = pyarrow.array(fills, type=plain.type)
    whole = compute.if_else(pyarrow.array(observed), plain, filler.take(index))
    if not types.is_dictionary(kind):
        return whole.cast(kind)
    codes = compute.index_in(whole, value_set=cells.dictionary).cast(kind.index_type)
    maker = pyarrow.DictionaryArray.from_arrays
    return maker(codes, cells.dictionary, ordered=kind.ordered)


def _decimals(fills: Sequence[float], digits: int, scale: int) -> list[Decimal]:
    """Return numbers to the places of a decimal type, none too large for it."""
    exact = Context(prec=500)
    step = Decimal(1).scaleb(-scale)
    most = exact.subtract(exact.power(10, digits - scale), step)
    kept = (max(-most, min(most, Decimal(repr(fill)))) for fill in fills)
    return [number.quantize(step, context=exact) for number in kept]


def assemble(source: Source, parts: Mapping[int, Any]) -> Source:
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
        frame = pyarrow.Table.from_arrays(columns, schema=frame.schema)
    return replace(source, frame=frame)


def given_back(source: Source) -> Any:
    """Return a source as its reader has it: a frame, or CSV text of a file."""
    frame = source.frame
    return frame if source.dialect is None else _csv_text(frame, source.dialect)


def stacked(sources: Sequence[Source], name: str) -> Source:
    """Return tables of one file below each other, numbered from 1 in a first column.

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


def beside(source: Source, texts: Mapping[str, Sequence[Any]]) -> Source:
    """Return the source of a file with columns after its own; None is a blank."""
    import pyarrow

    assert source.dialect is not None  # noqa: S101
    frame, dialect = source.frame, source.dialect
    for name, cells in texts.items():
        given = list(cells)
        if dialect.textual:
            given = ["" if x is None else _cell_text(x, dialect.decimal) for x in given]
        frame = frame.append_column(name, pyarrow.array(given))
    names = (*source.names, *texts)
    if dialect.header is not None:
        dialect = replace(dialect, header=(*dialect.header, *texts))
    return replace(source, frame=frame, names=names, dialect=dialect)


def _csv_text(frame: Any, dialect: Dialect) -> str:
    """Return a pyarrow table as CSV text, quoted only where it must be."""
    special = re.compile(f'[{re.escape(dialect.delimiter)}"\r\n]')

    def quoted(text: str) -> str:
        doubled = text.replace('"', '""')
        return f'"{doubled}"' if special.search(text) else text

    columns = [map(quoted, cell_texts(cells, dialect)) for cells in frame.columns]
    lines = list(map(dialect.delimiter.join, zip(*columns, strict=True)))
    if dialect.header is not None:
        lines.insert(0, dialect.delimiter.join(map(quoted, dialect.header)))
    # A blank line would not be read as a row.
    return dialect.newline.join([line or '""' for line in lines] + [""])


def cell_texts(cells: Any, dialect: Dialect) -> list[str]:
    """Return the cells of a column as text, "" where missing.

    The cells of a text file are returned to the letter. Whole numbers, decimals, dates
    and times of other files are exact; whole floats below 2**53 have no exponent.
    """
    import pyarrow
    from pyarrow import types

    if dialect.textual:
        return list(cells.to_pylist())
    try:
        found = cells.cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowException:
        found = [None if each is None else str(each) for each in cells.to_pylist()]
    if types.is_floating(cells.type):
        found = [None if text == "nan" else _without_exponent(text) for text in found]
    elif types.is_timestamp(cells.type):
        found = _without_fraction(found)
    return ["" if text is None else text for text in found]


def _without_exponent(text: str | None) -> str | None:
    """Return the text of a float without an exponent where it is a whole number."""
    if text is None or "e+" not in text:
        return text
    number = float(text)
    return str(int(number)) if abs(number) < 2**53 and number.is_integer() else text


_FRACTION = re.compile(r"(?<=:\d\d)\.0+(?=\D|$)", re.ASCII)


def _without_fraction(texts: list[str | None]) -> list[str | None]:
    """Return times of a column without fractions of a second, if none has any."""
    if all(text is None or _FRACTION.search(text) for text in texts):
        return [None if text is None else _FRACTION.sub("", text) for text in texts]
    return texts
