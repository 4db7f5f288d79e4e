"""A user's table: what each column holds, and the same table with its holes filled.

A table is a data frame or a file. Its columns become numbers, or codes into levels,
with NaN where a cell is missing. The source is kept as it was, so that `Table.filled`
returns every observed cell unchanged. Nothing here writes a file.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from descents.checks import InvalidValueError, folder_path, one_of

Kind = Literal["number", "boolean", "category", "order", "text", "date", "empty"]

MISSING = ("", "NA", "NaN", "nan", "null", "None", "N/A", "NULL", "#N/A")
"""What always stands for a missing cell in a text file, spaces around it apart."""
MOST_LEVELS = 20
"""Text with more different values than this is no category."""
LONGEST_LINE = 64 * 2**20
"""A line of more bytes than this is taken for something else than a table."""
MOST_COLUMNS = 100_000
"""A text file with more columns than this is taken for something else than a table."""
MOST_LINES = 12
"""`describe` says no more lines than this."""

_DELIMITERS = (",", ";", "\t", "|")
_PAIRS = (("false", "true"), ("no", "yes"))
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?)?", re.ASCII)
_DAY = 86_400e6  # in microseconds


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table, as numbers.

    Attributes
    ----------
    name : str
    kind : {"number", "boolean", "category", "order", "text", "date", "empty"}
    values : float64 ndarray of shape (rows,)
        Numbers, codes 0.0, 1.0, ... into `levels`, or days (dates since 1970-01-01);
        NaN where missing.
    levels : tuple
        What the codes stand for, as the source has it; empty for numbers and dates.
    whole : bool
        Whether the source holds whole numbers only: an integer type, or such text.
    says : str
        A clause for people.

    Examples
    --------
    >>> import pyarrow
    >>> from_frame(pyarrow.table({"size": ["S", "L", None, "S"]})).column("size")
    Column(name='size', kind='category', values=array([ 1.,  0., nan,  1.]),
           levels=('L', 'S'), whole=False, says='category of 2 levels, 1 missing')
    """

    name: str
    kind: Kind
    values: np.ndarray
    levels: tuple[Any, ...]
    whole: bool
    says: str


@dataclass(frozen=True)
class _Dialect:
    """How a table is written as CSV text."""

    header: tuple[str, ...] | None
    delimiter: str = ","
    decimal: str = "."
    newline: str = "\n"
    textual: bool = False  # whether the cells are kept as the text of a file


@dataclass(frozen=True, eq=False)
class _Source:
    """The table as it was given: a frame of some library, or of a file's cells."""

    library: str
    frame: Any
    names: tuple[str, ...]
    rows: int
    dialect: _Dialect | None = None  # None: the frame is what the caller gave


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a table, and its source.

    Attributes
    ----------
    columns : tuple of Column
    source : object
        What `filled` gives back; private.

    Examples
    --------
    >>> import pyarrow
    >>> table = from_frame(pyarrow.table({"a": [1, None, 3], "b": ["x", "y", "x"]}))
    >>> table.rows, [column.says for column in table.columns]
    (3, ['whole numbers 1 to 3, 1 missing', 'category of 2 levels'])
    """

    columns: tuple[Column, ...]
    source: _Source

    @property
    def rows(self) -> int:
        """The number of rows.

        Examples
        --------
        >>> import pyarrow
        >>> from_frame(pyarrow.table({"a": [0.5, None]})).rows
        2
        """
        return self.source.rows

    def column(self, name: str) -> Column:
        """Return a column by its name.

        Raises
        ------
        InvalidValueError
            When there is none; the message lists the names.

        Examples
        --------
        >>> import pyarrow
        >>> from_frame(pyarrow.table({"species": ["x", "y", "x"]})).column("speceis")
        Traceback (most recent call last):
        ...
        descents.checks.InvalidValueError: there is no column 'speceis'; did you mean
        'species'? The columns are species
        """
        names = [column.name for column in self.columns]
        if name in names:
            return self.columns[names.index(name)]
        near = difflib.get_close_matches(str(name), names, 1)
        hint = f"did you mean {near[0]!r}? The" if near else "the"
        listed = ", ".join(_short(each) for each in names[:20])
        more = f", ... ({len(names)} in all)" if len(names) > 20 else ""
        raise InvalidValueError(
            f"there is no column {name!r}; {hint} columns are {listed}{more}"
        )

    def without(self, names: str | Iterable[str]) -> Table:
        """Return the table less some columns, which `filled` still gives back.

        Examples
        --------
        >>> import pyarrow
        >>> table = from_frame(pyarrow.table({"id": [7, 8], "a": [0.5, None]}))
        >>> [column.name for column in table.without(["id"]).columns]
        ['a']
        """
        names = [names] if isinstance(names, str) else names
        dropped = {self.column(name).name for name in names}
        left = tuple(column for column in self.columns if column.name not in dropped)
        return Table(left, self.source)

    def filled(self, values: Mapping[str, np.ndarray]) -> Any:
        """Return the source with the missing cells of some columns filled.

        Parameters
        ----------
        values : mapping of column names to float64 arrays of shape (rows,)
            Numbers, or codes into the levels; read at the missing cells alone.
            Whole numbers and codes are rounded, whole numbers kept within the
            observed range.

        Returns
        -------
        frame or str
            A frame of the library that was given, each column of the type it had;
            for a file, CSV text. Every observed cell is what it was.

        Raises
        ------
        InvalidValueError
            When a column is absent, empty or of dates, or an array is of another
            length, not finite, or no code, at a missing cell.

        Examples
        --------
        >>> import pyarrow
        >>> table = from_frame(pyarrow.table({"a": [1, None, 3], "b": ["x", "y", None]}))
        >>> filled = table.filled({"a": [0, 1.8, 0], "b": [0, 0, 1]})
        >>> filled.to_pydict()
        {'a': [1, 2, 3], 'b': ['x', 'y', 'y']}
        """
        source = self.source
        places = {name: place for place, name in enumerate(source.names)}
        known = {column.name: column for column in self.columns}
        parts: dict[int, Any] = {}
        for name, given in values.items():
            column = known.get(name) or self.column(name)
            holes = np.flatnonzero(np.isnan(column.values))
            fills = _fills(column, given, holes)
            if not fills:
                continue
            if source.dialect and source.dialect.textual:
                fills = [_cell_text(fill, source.dialect.decimal) for fill in fills]
            parts[places[name]] = _put(source, places[name], holes, fills)
        frame = _assemble(source, parts)
        return frame if source.dialect is None else _csv_text(frame, source.dialect)


@dataclass(frozen=True, eq=False)
class Stored:
    """A table of which only some cells are stored, as triples.

    Attributes
    ----------
    rows, columns : int64 ndarray of shape (N,)
    values : float64 ndarray of shape (N,)
        A stored 0 is a datum; what is not stored is missing.
    shape : tuple of int
    row_names, column_names : tuple of str

    Examples
    --------
    >>> at = np.array([0, 1])
    >>> Stored(at, at, np.array([0.0, 5.0]), (2, 2), ("u", "v"), ("a", "b")).shape
    (2, 2)
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]
    row_names: tuple[str, ...]
    column_names: tuple[str, ...]

    def to_sparse(self) -> Any:
        """Return a ``scipy.sparse.csr_array`` that keeps a stored 0.

        Examples
        --------
        >>> at = np.array([0, 1])
        >>> stored = Stored(at, at, np.array([0.0, 5.0]), (2, 2), ("u", "v"), ("a", "b"))
        >>> stored.to_sparse().nnz
        2
        """
        from scipy.sparse import coo_array

        entries = (self.values, (self.rows, self.columns))
        return coo_array(entries, shape=self.shape).tocsr()


def from_frame(frame: Any) -> Table:
    """Return the table in a pandas or polars data frame or a pyarrow table.

    None, NaN, NA, NaT and null are missing. Text is a category where values repeat
    and at most `MOST_LEVELS` differ; an ordered Categorical or an Enum is an order.

    Raises
    ------
    InvalidValueError
        When it is no such frame, has no rows, repeats a name, or a column holds what
        is none of numbers, text, booleans and dates, or an infinite number.

    Examples
    --------
    >>> import pyarrow
    >>> table = from_frame(pyarrow.table({"a": [0.5, float("nan")], "b": [True, None]}))
    >>> [(column.kind, column.values.tolist()) for column in table.columns]
    [('number', [0.5, nan]), ('boolean', [1.0, nan])]
    """
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
    return _from_native(_Source(library, frame, names, len(frame)), "the table")


def read(
    source: str | Path,
    *,
    header: bool = True,
    missing: Sequence[str] = (),
    decimal: str = ".",
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> Table | Stored:
    r"""Return the table in a file.

    Parameters
    ----------
    source : str or Path
        ``.parquet``, ``.npy``, ``.npz`` (one dense table, or a scipy.sparse matrix),
        or text: CSV, TSV, either with ``.gz``; ``-`` reads CSV from standard input.
    header : bool
        Whether the first line of a text file names the columns.
    missing : sequence of str
        Marks for a missing cell, beside `MISSING`.
    decimal : {".", ","}
    delimiter : str, optional
        One character; otherwise found in the first lines.
    encoding : str

    Returns
    -------
    Table, or Stored for a sparse matrix

    Raises
    ------
    InvalidValueError
        When the file cannot be read, or is no table; the message says what to do.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> _ = path.write_text("length;kind\n1,50;x\n?;y\n2;x\n")
    >>> table = read(path, missing=["?"], decimal=",")
    >>> describe(table.columns)
    ['length: numbers 1.5 to 2, 1 missing', 'kind: category of 2 levels']
    >>> table.filled({"length": np.full(3, 1.25)})
    'length;kind\n1,50;x\n1,25;y\n2;x\n'
    """
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
            return _read_parquet(where, path)
        if path.suffix.lower() in (".npy", ".npz"):
            return _read_arrays(where, path)
        if delimiter is None and re.search(r"\.tsv(\.gz)?$", path.name.lower()):
            delimiter = "\t"
    text = _decoded(where, _all_bytes(where, path), encoding)
    return _read_text(where, text, header, {*MISSING, *marks}, decimal, delimiter)


def read_triples(
    source: str | Path,
    *,
    header: bool = True,
    missing: Sequence[str] = (),
    decimal: str = ".",
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> Stored:
    r"""Return the table whose cells a file lists: row, column, value.

    The first three columns of the file are read; the options are those of `read`.
    Labels are sorted, numbers in them as numbers; a missing value is no entry, though
    its row and column are part of the table.

    Raises
    ------
    InvalidValueError
        When `read` refuses the file, there are fewer columns, values are no numbers,
        a label is missing, or a cell is given twice.

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
            f"{where} has {len(table.columns)} column(s); give three: row, column, value"
        )
    if table.columns[2].kind != "number":
        found = table.columns[2]
        raise InvalidValueError(
            f"the third column of {where}, {_short(found.name)!r}, is {found.says}; "
            "give numbers as values"
        )
    rows, row_names = _labels(where, table, 0)
    columns, column_names = _labels(where, table, 1)
    values = table.columns[2].values
    kept = ~np.isnan(values)
    return _stored(
        where, rows[kept], columns[kept], values[kept], row_names, column_names
    )


def describe(columns: Sequence[Column]) -> list[str]:
    """Return a few lines that say what was read as what.

    Neighbors that say the same share a line. Where that leaves too many lines,
    neighbors of one kind do, and at last all columns of one kind.

    Examples
    --------
    >>> import pyarrow
    >>> numbers = {f"A{i}": [1, 6] for i in range(1, 6)}
    >>> describe(from_frame(pyarrow.table(numbers | {"b": [True, None]})).columns)
    ['A1 to A5 (5 columns): whole numbers 1 to 6', 'b: boolean, 1 missing']
    """

    def alike(column: Column) -> tuple[str, bool]:
        return column.kind, column.whole

    same = [list(group) for _, group in groupby(columns, lambda each: each.says)]
    runs = [list(group) for _, group in groupby(columns, alike)]
    for groups in (same, runs):
        if len(groups) <= MOST_LINES:
            return [f"{_span(group)}: {_clause(group)}" for group in groups]
    kinds: dict[tuple[str, bool], list[Column]] = {}
    for column in columns:
        kinds.setdefault(alike(column), []).append(column)
    return [
        f"{', '.join(_short(each.name) for each in group[:3])}"
        f"{f', ... ({len(group)} columns)' if len(group) > 3 else ''}: {_clause(group)}"
        for group in kinds.values()
    ]


# What is said of names and columns


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:37]}..."


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def _span(group: Sequence[Column]) -> str:
    first, last = _short(group[0].name), _short(group[-1].name)
    if len(group) < 3:
        return " and ".join(_short(column.name) for column in group)
    return f"{first} to {last} ({len(group)} columns)"


def _between(low: Any, high: Any) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _clause(columns: Sequence[Column]) -> str:
    """Return what is said of columns of one kind, taken together."""
    if len(columns) == 1 and columns[0].says:
        return columns[0].says
    kind = columns[0].kind
    observed = [column.values[~np.isnan(column.values)] for column in columns]
    counts = [len(column.levels) for column in columns]
    levels = _between(min(counts), max(counts))
    if kind == "number":
        low, high = min(map(np.min, observed)), max(map(np.max, observed))
        exact = columns[0].whole and max(-low, high) < 1e15
        shown = [f"{x:.0f}" if exact else f"{x:.6g}" for x in (low, high)]
        clause = "whole numbers" if columns[0].whole else "numbers"
        clause += f", all {shown[0]}" if low == high else f" {shown[0]} to {shown[1]}"
    elif kind == "text":
        different = [len(column.levels) for column in columns]
        if max(different) == 1:
            clause = "text of a single value"
        elif [len(values) for values in observed] == different:
            clause = f"text, all {levels} values different"
        else:
            clause = f"text of {levels} different values"
    elif kind in ("category", "order"):
        clause = f"{kind} of {levels} level{'s' * (max(counts) > 1)}"
    else:
        clause = {"date": "dates or times"}.get(kind, kind)
    holes = sum(map(len, (c.values for c in columns))) - sum(map(len, observed))
    if holes and kind != "empty":
        clause += f", {holes} missing{' in all' * (len(columns) > 1)}"
    return clause


def _column(
    name: str,
    kind: Kind,
    values: np.ndarray,
    levels: Iterable[Any] = (),
    whole: bool = False,
) -> Column:
    """Return a column, with its clause; one without a single value is empty."""
    if np.isnan(values).all():
        kind, levels, whole = "empty", (), False
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise InvalidValueError(
            f"column {_short(name)!r} holds {len(infinite)} infinite value(s), the "
            f"first in row {infinite[0]} (0-based); give finite numbers, or leave the "
            "cell empty"
        )
    column = Column(name, kind, values, tuple(levels), whole, "")
    return replace(column, says=_clause([column]))


# From a frame


def _from_native(source: _Source, where: str) -> Table:
    """Return the table of typed columns in a frame."""
    _check_names(where, source.names)
    if not source.rows or not source.names:
        raise InvalidValueError(f"{where} has no rows or no columns; give at least one")
    columns = (
        _typed_column(name, *_arrow(source, place))
        for place, name in enumerate(source.names)
    )
    return Table(tuple(columns), source)


def _check_names(where: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidValueError(
                f"{where} has two columns named {_short(name)!r}; give each a name of "
                "its own (or, for a file without names, say that it has no header)"
            )
        seen.add(name)


def _arrow(source: _Source, place: int) -> tuple[Any, bool]:
    """Return a column as one pyarrow array, and whether its levels are an order."""
    import pyarrow

    name = _short(source.names[place])
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
            f"column {name!r} holds values of no single known type ({_reason(error)}); "
            "give numbers, text, booleans or dates"
        ) from None
    if pyarrow.types.is_dictionary(cells.type):
        ordered = ordered or cells.type.ordered
    return cells, ordered


def _typed_column(name: str, cells: Any, ordered: bool) -> Column:
    from pyarrow import large_string, types

    kind = cells.type
    if types.is_null(kind) or cells.null_count == len(cells):
        return _column(name, "empty", np.full(len(cells), np.nan))
    if types.is_boolean(kind):
        codes = np.array(cells.to_pylist(), dtype=np.float64)
        return _column(name, "boolean", codes, (False, True))
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        values = np.array(cells.to_numpy(zero_copy_only=False), dtype=np.float64)
        return _column(name, "number", values, whole=types.is_integer(kind))
    if types.is_temporal(kind) and not types.is_interval(kind):
        return _column(name, "date", _days(cells))
    if types.is_dictionary(kind) and not _is_odd(kind.value_type):
        values, levels = _coded(cells, ordered)
        return _column(name, "order" if ordered else "category", values, levels)
    if not _is_odd(kind):
        values, levels = _coded(cells.cast(large_string()).dictionary_encode(), False)
        return _column(name, _text_kind(values, levels), values, levels)
    raise InvalidValueError(
        f"column {_short(name)!r} holds values of type {_short(str(kind))}; give "
        "numbers, text, booleans or dates, or leave the column out"
    )


def _is_odd(kind: Any) -> bool:
    """Return whether values of a pyarrow type cannot be levels."""
    from pyarrow import types

    simple = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
    return not simple and str(kind) not in ("string", "large_string", "string_view")


def _text_kind(values: np.ndarray, levels: Sequence[Any]) -> Kind:
    repeats = len(levels) < np.count_nonzero(~np.isnan(values))
    return "category" if repeats and len(levels) <= MOST_LEVELS else "text"


def _coded(encoded: Any, ordered: bool) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return codes and levels: all of an order, otherwise those that occur, sorted."""
    stored = encoded.dictionary.to_pylist()
    places = encoded.indices.to_numpy(zero_copy_only=False)
    used = {stored[int(place)] for place in np.unique(places[~np.isnan(places)])}
    levels = stored if ordered else sorted(used - {None})
    rank = {level: float(code) for code, level in enumerate(levels)}
    codes = np.array([rank.get(level, np.nan) for level in stored] + [np.nan])
    return codes[np.nan_to_num(places, nan=-1).astype(np.int64)], tuple(levels)


def _days(cells: Any) -> np.ndarray:
    """Return dates, times and durations as float64 days."""
    import pyarrow
    from pyarrow import types

    wanted = pyarrow.timestamp("us", getattr(cells.type, "tz", None))
    if types.is_duration(cells.type):
        wanted = pyarrow.duration("us")
    elif types.is_time(cells.type):
        wanted = pyarrow.time64("us")
    count = cells.cast(wanted, safe=False).cast(pyarrow.int64())
    return np.asarray(count.to_numpy(zero_copy_only=False), dtype=np.float64) / _DAY


# The holes


def _fills(column: Column, given: Any, holes: np.ndarray) -> list[Any]:
    """Return what goes into the holes: numbers, or values of the levels."""
    name = _short(column.name)
    values = np.asarray(given, dtype=np.float64)
    if values.shape != column.values.shape:
        raise InvalidValueError(
            f"the values for column {name!r} have shape {values.shape}; give one for "
            f"each of the {len(column.values)} rows"
        )
    chosen = values[holes]
    if not len(holes):
        return []
    if column.kind in ("date", "empty"):
        raise InvalidValueError(
            f"column {name!r} is {column.says}, which cannot be filled; give no values for it"
        )
    if not np.isfinite(chosen).all():
        raise InvalidValueError(
            f"the values for column {name!r} are not finite at every missing cell; "
            "give a number for each"
        )
    if column.kind == "number":
        if not column.whole:
            return list(chosen.tolist())
        low, high = np.nanmin(column.values), np.nanmax(column.values)
        # Beyond 2**53 the limit itself may be rounded outward, out of the type.
        low, high = (np.nextafter(x, 0) if abs(x) > 2**53 else x for x in (low, high))
        return [int(number) for number in np.clip(np.rint(chosen), low, high)]
    codes = np.rint(chosen).astype(np.int64)
    if codes.min() < 0 or codes.max() >= len(column.levels):
        raise InvalidValueError(
            f"the values for column {name!r} run from {codes.min()} to {codes.max()}; "
            f"give codes from 0 to {len(column.levels) - 1}"
        )
    return [column.levels[code] for code in codes]


def _cell_text(fill: Any, decimal: str) -> str:
    return repr(fill).replace(".", decimal) if isinstance(fill, float) else str(fill)


def _put(source: _Source, place: int, holes: np.ndarray, fills: list[Any]) -> Any:
    """Return one column of the source, of its own type, with its holes filled."""
    import pyarrow
    from pyarrow import compute, types

    cells, _ = _arrow(source, place)
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


def _assemble(source: _Source, parts: Mapping[int, Any]) -> Any:
    """Return the frame with some columns replaced."""
    import pyarrow

    frame = source.frame
    if source.library == "pandas":
        frame = frame.copy()
        for place, series in parts.items():
            frame.isetitem(place, series)
        return frame
    if source.library == "polars":
        return frame.with_columns(list(parts.values()))
    columns = [parts.get(place, cells) for place, cells in enumerate(frame.columns)]
    return pyarrow.Table.from_arrays(columns, schema=frame.schema)


def _csv_text(frame: Any, dialect: _Dialect) -> str:
    """Return a pyarrow table as CSV text, quoted only where it must be."""
    special = re.compile(f'[{re.escape(dialect.delimiter)}"\r\n]')

    def quoted(text: str) -> str:
        doubled = text.replace('"', '""')
        return f'"{doubled}"' if special.search(text) else text

    columns = [map(quoted, _texts(cells, dialect)) for cells in frame.columns]
    lines = list(map(dialect.delimiter.join, zip(*columns, strict=True)))
    if dialect.header is not None:
        lines.insert(0, dialect.delimiter.join(map(quoted, dialect.header)))
    # A blank line would not be read as a row.
    return dialect.newline.join([line or '""' for line in lines] + [""])


def _texts(cells: Any, dialect: _Dialect) -> list[str]:
    """Return the cells of a column as text, "" where missing."""
    import pyarrow

    if dialect.textual:
        return list(cells.to_pylist())
    try:
        found = cells.cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowException:
        found = [None if each is None else str(each) for each in cells.to_pylist()]
    return ["" if text is None or text == "nan" else text for text in found]


# From a file


def _read_parquet(where: str, path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return _from_arrow(where, file.read())
    except InvalidValueError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InvalidValueError(
            f"{where} cannot be read as Parquet ({_reason(error)}); give a whole "
            "Parquet file"
        ) from None


def _from_arrow(where: str, frame: Any) -> Table:
    names = tuple(frame.column_names)
    dialect = _Dialect(header=names)
    return _from_native(_Source("pyarrow", frame, names, len(frame), dialect), where)


def _read_arrays(where: str, path: Path) -> Table | Stored:
    """Return what numpy or scipy.sparse stored."""
    import pyarrow
    import scipy.sparse

    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                array = loaded
            elif {"format", "shape", "data"} <= set(loaded.files):
                file.seek(0)
                return _from_sparse(where, scipy.sparse.load_npz(file))
            else:
                array = loaded[_array_name(where, loaded.files)]
    except InvalidValueError:
        raise
    except Exception as error:  # of a damaged file: zip, zlib, tokenizer, memory, ...
        pickled = "pickled" in str(error) or "Object arrays" in str(error)
        reason = "it holds Python objects, or is damaged" if pickled else _reason(error)
        raise InvalidValueError(
            f"{where} cannot be read as a numpy file ({reason}); give a whole .npy or "
            ".npz file of numbers"
        ) from None
    if array.dtype.kind not in "buif" or array.ndim != 2:
        raise InvalidValueError(
            f"{where} holds {array.dtype} values of shape {array.shape}; give a table "
            "of two dimensions of real numbers"
        )
    if array.dtype.kind == "f":
        array = array.astype(np.float32 if array.itemsize <= 4 else np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    columns = [pyarrow.array(np.ascontiguousarray(column)) for column in array.T]
    names = [str(place) for place in range(array.shape[1])]
    return _from_arrow(where, pyarrow.table(columns, names=names))


def _array_name(where: str, names: Sequence[str]) -> str:
    known = [name for name in names if name in ("table", "X", "data")]
    for choice in (names, known):
        if len(choice) == 1:
            return choice[0]
    raise InvalidValueError(
        f"{where} holds {len(names)} arrays ({', '.join(map(_short, names[:10]))}); "
        "give a file with one, or with one that is called table, X or data"
    )


def _from_sparse(where: str, matrix: Any) -> Stored:
    if matrix.dtype.kind not in "buif":
        raise InvalidValueError(
            f"{where} is a sparse matrix of {matrix.dtype} values; give real numbers"
        )
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)  # damaged indices would crash below
    entries = matrix.tocoo()
    values = entries.data.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidValueError(
            f"{where} stores NaN or infinite values; give finite numbers, and leave "
            "missing cells out"
        )
    rows, columns = (place.astype(np.int64) for place in (entries.row, entries.col))
    row_names, column_names = (tuple(map(str, range(size))) for size in matrix.shape)
    return _stored(where, rows, columns, values, row_names, column_names)


def _stored(
    where: str,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    row_names: tuple[str, ...],
    column_names: tuple[str, ...],
) -> Stored:
    """Return triples, each cell given once."""
    if not len(values):
        raise InvalidValueError(f"{where} gives no value; give at least one")
    keys = rows * len(column_names) + columns
    _, first, times = np.unique(keys, return_index=True, return_counts=True)
    twice = first[times > 1]
    if len(twice):
        at = twice.min()
        raise InvalidValueError(
            f"{where} gives row {_short(row_names[rows[at]])!r}, column "
            f"{_short(column_names[columns[at]])!r} more than once, and "
            f"{len(twice)} such pair(s) in all; give each pair once"
        )
    shape = (len(row_names), len(column_names))
    return Stored(rows, columns, values, shape, row_names, column_names)


def _labels(where: str, table: Table, place: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return codes and sorted names of a column of labels."""
    column, dialect = table.columns[place], table.source.dialect or _Dialect(None)
    holes = np.flatnonzero(np.isnan(column.values))
    if len(holes):
        raise InvalidValueError(
            f"column {_short(column.name)!r} of {where} has no label in "
            f"{len(holes)} row(s), the first row {holes[0]} (0-based); give every "
            "value its row and column"
        )
    cells = _texts(table.source.frame[place], dialect)
    texts = np.array([text.strip() for text in cells])
    names, codes = np.unique(texts, return_inverse=True)
    order = sorted(range(len(names)), key=lambda code: _natural(str(names[code])))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[codes], tuple(str(names[code]) for code in order)


def _natural(label: str) -> tuple[Any, ...]:
    """Return a sorting key: numbers first, then text with its numbers as numbers."""
    if _NUMBER.fullmatch(label):
        return 0, float(label), label
    parts = re.split(r"(\d+)", label, flags=re.ASCII)
    return 1, [int(p) if i % 2 else p for i, p in enumerate(parts)], label


# From text


def _delimiter(given: str | None, decimal: str) -> str | None:
    if given is None:
        return None
    given = "\t" if given == "\\t" else given
    if not isinstance(given, str) or len(given) != 1 or given in '"\r\n\0':
        raise InvalidValueError(f"delimiter is {given!r}; give one character, as ';'")
    if not given.isascii() or given == decimal:
        raise InvalidValueError(
            f"delimiter is {given!r} with decimal {decimal!r}; give an ASCII character "
            "that is not the decimal mark"
        )
    return given


def _all_bytes(where: str, path: Path | None) -> bytes:
    """Return the content of a file, unpacked, unless a line of it has no end."""
    try:
        if path is None:
            return _bytes_in_lines(where, sys.stdin.buffer)
        packed = path.suffix.lower() == ".gz"
        with gzip.open(path) if packed else path.open("rb") as stream:
            return _bytes_in_lines(where, stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidValueError(
            f"{where} is no whole gzip file ({_reason(error)}); give another, or "
            "unpack it"
        ) from None
    except OSError as error:
        raise InvalidValueError(
            f"{where} cannot be read ({error.strerror or error}); give a file that can"
        ) from None


def _bytes_in_lines(where: str, stream: Any) -> bytes:
    chunks = []
    length = 0  # of the line that has not ended
    while chunk := stream.read(2**20):
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
    binary = f"{where} holds zero bytes, so it is no text"
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode(encoding)
    except LookupError:
        raise InvalidValueError(
            f"encoding is {encoding!r}, which is unknown; give one such as 'utf-8' or "
            "'latin-1'"
        ) from None
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        if b"\0" not in content or utf16:
            other = "utf-16" if utf16 else "latin-1"
            line = content.count(b"\n", 0, at) + 1
            raise InvalidValueError(
                f"{where} is not {encoding}: byte {at}, in line {line}, has no meaning; "
                f"give its encoding, such as encoding='{other}' (--encoding {other})"
            ) from None
        text = "\0"
    if "\0" in text:
        raise InvalidValueError(
            f"{binary}; give CSV text, or a file whose name ends in .parquet, .npy or "
            ".npz (UTF-16 text is read with --encoding utf-16)"
        )
    return text.removeprefix("\ufeff")


def _records(text: str, delimiter: str, most: int) -> list[list[str]]:
    """Return the first records of a text, blank lines left out."""
    found = []
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        if record:
            found.append(record)
        if len(found) == most:
            break
    return found


def _sniffed(head: str, decimal: str) -> str:
    """Return the delimiter that cuts the first lines evenly, into the most cells."""
    best = (False, 1, ",")
    for delimiter in _DELIMITERS:
        if delimiter != decimal:
            counts = [len(record) for record in _records(head, delimiter, 20)]
            even = counts[0] > 1 and len(set(counts)) == 1
            if (even, counts[0]) > best[:2]:
                best = (even, counts[0], delimiter)
    return best[2]


def _read_text(
    where: str,
    text: str,
    header: bool,
    marks: set[str],
    decimal: str,
    delimiter: str | None,
) -> Table:
    if not text.strip():
        raise InvalidValueError(f"{where} is empty; give a table of at least one row")
    end = text.find("\n") + 1 or len(text)
    marks_in_line = [text.count(mark, 0, end) for mark in delimiter or _DELIMITERS]
    if max(marks_in_line) >= MOST_COLUMNS:
        raise InvalidValueError(
            f"{where} has {max(marks_in_line) + 1} columns, more than {MOST_COLUMNS}; "
            "give fewer, or a Parquet or .npy file"
        )
    head = text[: max(2**16, end)]
    if len(head) < len(text):
        head = head[: head.rfind("\n") + 1]
    try:
        delimiter = delimiter or _sniffed(head, decimal)
        first = _records(head, delimiter, 1)[0]
    except csv.Error:  # the csv module refuses a cell of over 128 KiB
        raise InvalidValueError(
            f"{where} has a huge cell in its first lines; give a table with one line "
            "for each row, and a delimiter between its cells"
        ) from None
    cells = _parsed(where, text, delimiter, len(first))
    if header:
        cells = cells.slice(1)
        names = [name.strip() for name in first]
    else:
        names = [""] * len(first)
    names = [name or f"column{place}" for place, name in enumerate(names, 1)]
    _check_names(where, names)
    if not len(cells):
        raise InvalidValueError(
            f"{where} has a header and no rows; give at least one row (or, for a file "
            "without names, say that it has no header)"
        )
    newline = "\r\n" if "\r\n" in head else "\n"
    titles = tuple(first) if header else None
    dialect = _Dialect(titles, delimiter, decimal, newline, textual=True)
    columns = tuple(
        _text_column(name, cells.column(place), marks, decimal)
        for place, name in enumerate(names)
    )
    return Table(columns, _Source("pyarrow", cells, tuple(names), len(cells), dialect))


def _parsed(where: str, text: str, delimiter: str, width: int) -> Any:
    """Return every record of a text, the first included, as columns of strings."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    content = text.encode()
    names = [str(place) for place in range(width)]
    try:
        return arrow_csv.read_csv(
            pyarrow.BufferReader(content),
            # A record that does not fit into a block is refused: one block for all.
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
        reason = _ragged(text, delimiter, width) or _reason(error)
    raise InvalidValueError(
        f"{where} is no table with {delimiter!r} between cells: {reason}; give every "
        "line as many cells, or another delimiter"
    )


def _ragged(text: str, delimiter: str, width: int) -> str | None:
    """Return what is wrong with the first record of another length."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    try:
        for record in lines:
            if record and len(record) != width:
                return f"line {line} has {len(record)} cell(s), the first line {width}"
            line = lines.line_num + 1
    except csv.Error as error:
        return f"line {line} cannot be read ({error})"
    return None


def _text_column(name: str, cells: Any, marks: set[str], decimal: str) -> Column:
    """Return what a column of text holds."""
    from pyarrow import compute

    encoded = compute.utf8_trim_whitespace(cells.combine_chunks()).dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    places = encoded.indices.to_numpy()
    seen = [text for text in texts if text not in marks]

    def column(kind: Kind, codes: Mapping[str, float | None], **rest: Any) -> Column:
        found = [codes.get(text) for text in texts]
        lookup = np.array(found, dtype=np.float64)  # None becomes NaN
        return _column(name, kind, lookup[places], **rest)

    if not seen:
        return column("empty", {})
    numbers = {text: _number(text, decimal) for text in seen}
    numeric = sum(number is not None for number in numbers.values())
    if numeric == len(seen):
        whole = all(map(_WHOLE.fullmatch, seen))
        return column("number", numbers, whole=whole)
    for pair in _PAIRS:
        if {text.lower() for text in seen} <= set(pair):
            truth = {text: float(pair.index(text.lower())) for text in seen}
            return column("boolean", truth, levels=_both(seen, pair))
    if all(map(_DATE.fullmatch, seen)):
        days = _days_of_text(seen)
        if days is not None:
            return column("date", days)
    levels = sorted(seen)
    codes = {text: float(code) for code, text in enumerate(levels)}
    result = column("text", codes, levels=levels)
    result = column(_text_kind(result.values, levels), codes, levels=levels)
    if 2 * numeric > len(seen):
        odd = next(text for text in levels if numbers[text] is None)
        hint = f"{result.says}, mostly numbers: is {_short(odd)!r} a missing mark?"
        return replace(result, says=hint)
    return result


def _number(text: str, decimal: str) -> float | None:
    if decimal == ",":
        text = text.replace(".", "?").replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else None


def _both(seen: Sequence[str], pair: tuple[str, str]) -> tuple[str, str]:
    """Return the two texts of a boolean, one that never occurs in the other's case."""
    spelled = {text.lower(): text for text in reversed(seen)}
    one = seen[0]
    change = str.upper if one.isupper() else str.title if one.istitle() else str.lower
    false, true = (spelled.get(word, change(word)) for word in pair)
    return false, true


def _days_of_text(texts: Sequence[str]) -> dict[str, float] | None:
    """Return ISO dates as days, or None when one is no date."""
    import pyarrow

    plain = [text.removesuffix("Z") for text in texts]
    try:
        cells = pyarrow.array(plain).cast(pyarrow.timestamp("us"))
    except pyarrow.ArrowException:
        return None
    return dict(zip(texts, _days(cells).tolist(), strict=True))
