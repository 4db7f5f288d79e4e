"""Columns of a table as numbers or codes of levels, and how messages describe them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.dates import as_days
from descents.tables.frames import short
from descents.tables.limits import shown
from descents.tables.numerals import Written
from descents.tables.open_ends import Ends
from descents.text import counted

if TYPE_CHECKING:
    import pyarrow

Kind = Literal["number", "boolean", "category", "order", "text", "date", "empty"]

MOST_LEVELS = 20
"""Maximum number of different values of a text column that is a category."""
MOST_LINES = 12
"""Maximum number of lines that `describe` returns, unless there are more types."""


@dataclass(frozen=True)
class Extent:
    """How many cells of a column are observed, and the range of their numbers or codes.

    Attributes
    ----------
    observed, missing : int
    low, high : float
        NaN if no cell is observed.
    """

    observed: int
    missing: int
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Extent:
        """Return the extent of some values, NaN where missing.

        Examples
        --------
        >>> Extent.of(np.array([2.0, np.nan, 1.0]))
        Extent(observed=2, missing=1, low=1.0, high=2.0)
        """
        seen = values[~np.isnan(values)]
        ends = (float(seen.min()), float(seen.max())) if len(seen) else (np.nan,) * 2
        return cls(len(seen), len(values) - len(seen), *ends)

    @classmethod
    def joined(cls, parts: Sequence[Extent]) -> Extent:
        """Return the extent of the values of several parts.

        Examples
        --------
        >>> Extent.joined([Extent(0, 2, np.nan, np.nan), Extent(1, 0, 5.0, 5.0)])
        Extent(observed=1, missing=2, low=5.0, high=5.0)
        """
        some = [one for one in parts if one.observed]
        return cls(
            sum(one.observed for one in parts),
            sum(one.missing for one in parts),
            min((one.low for one in some), default=np.nan),
            max((one.high for one in some), default=np.nan),
        )


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table, as numbers.

    Attributes
    ----------
    name : str
    kind : {"number", "boolean", "category", "order", "text", "date", "empty"}
    values : float64 ndarray of shape (rows,)
        Numbers, codes 0.0, 1.0, ... of `levels`, or days (for dates, since 1970-01-01);
        NaN for missing cells.
    levels : tuple
        The values that the codes represent, as in the source; empty for numbers and dates.
    whole : bool
        Whether the source has only whole numbers: an integer type, or such text.
    says : str
        A description of the column, for messages.
    cells : arrow array, optional
        The cells of the source; None if there is no source.
    written : Written or Ends, optional
        How the cells of a text file are written, unless they are plain numbers.
    fitted : arrow type, optional
        The type that the column gets if it is filled, in place of its own, which cannot
        hold the values of a model. The column then has no observed cell.
    decimal : {".", ","} or None
        The decimal mark that was requested for the file; None if it was not.
    whole_extent : Extent, optional
        The extent of the column in all rows, if other processes have some of them.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> from_frame(pyarrow.table({"size": ["S", "L", None, "S"]})).column("size")
    Column(name='size', kind='category', values=array([ 1.,  0., nan,  1.]),
           levels=('L', 'S'), whole=False, says='category of 2 levels, 1 missing')
    """

    name: str
    kind: Kind
    values: np.ndarray
    levels: tuple[object, ...]
    whole: bool
    says: str
    written: Written | Ends | None = field(default=None, repr=False)
    cells: pyarrow.Array = field(default=None, repr=False)
    fitted: pyarrow.DataType = field(default=None, repr=False)
    decimal: str | None = field(default=None, repr=False)
    whole_extent: Extent | None = field(default=None, repr=False)

    @cached_property
    def extent(self) -> Extent:
        """The numbers of observed and missing cells, and the observed range."""
        return self.whole_extent or Extent.of(self.values)

    def belongs_to(self, cells: pyarrow.Array, decimal: str | None = None) -> None:
        """Note the cells of the source of a new column, and the decimal mark of its file.

        A reader calls it for each column. `dataclasses.replace` takes four times longer,
        which is much of the time that a table of 100,000 columns takes.
        """
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "decimal", decimal)


def _span(group: Sequence[Column]) -> str:
    first, last = short(group[0].name), short(group[-1].name)
    if len(group) < 3:
        return " and ".join(short(column.name) for column in group)
    return f"{first} to {last} ({counted(len(group), 'column')})"


def _between(low: object, high: object) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _clause(columns: Sequence[Column]) -> str:
    """Return one description of several columns of one kind."""
    if len(columns) == 1 and columns[0].says:
        return columns[0].says
    kind = columns[0].kind
    extents = [column.extent for column in columns]
    counts = [len(column.levels) for column in columns]
    levels = _between(min(counts), max(counts))
    if kind == "number":
        low, high = min(one.low for one in extents), max(one.high for one in extents)
        exact = columns[0].whole and max(-low, high) < 1e15
        ends = [f"{x:.0f}" for x in (low, high)] if exact else shown((low, high))
        clause = "whole numbers" if columns[0].whole else "numbers"
        clause += f", all {ends[0]}" if low == high else f" {ends[0]} to {ends[1]}"
    elif kind == "text":
        different = [len(column.levels) for column in columns]
        if max(different) == 1:
            clause = "text of a single value"
        elif [one.observed for one in extents] == different:
            clause = f"text, all {levels} values different"
        else:
            clause = f"text of {levels} different values"
    elif kind in ("category", "order"):
        clause = f"{kind} of {levels} level{'s' * (max(counts) > 1)}"
    else:
        clause = {"date": "dates or times"}.get(kind, kind)
    holes = sum(one.missing for one in extents)
    if holes and kind != "empty":
        clause += f", {holes} missing{' in all' * (len(columns) > 1)}"
    return clause


def as_column(
    name: str,
    kind: Kind,
    values: np.ndarray,
    levels: Iterable[object] = (),
    whole: bool = False,
    written: Written | Ends | None = None,
) -> Column:
    """Return a column with its description; a column without values has kind "empty"."""
    if np.isnan(values).all():
        kind, levels, whole, written = "empty", (), False, None
    check_finite(name, values)
    column = Column(name, kind, values, tuple(levels), whole, "", written)
    object.__setattr__(column, "says", _clause([column]))  # `replace` takes longer
    return column


def described(column: Column) -> Column:
    """Return a column with its description."""
    return replace(column, says=_clause([replace(column, says="")]))


def check_finite(name: str, values: np.ndarray, first: int = 0) -> None:
    """Raise an error if a column has infinite numbers; `first` is the place of its first row."""
    if np.isinf(values).any():
        infinite = np.flatnonzero(np.isinf(values))
        raise InvalidValueError(
            f"column {short(name)!r} has {counted(len(infinite), 'infinite value')}, the "
            f"first in row {first + infinite[0] + 1} (1-based); give finite numbers, or "
            "leave the cell empty"
        )


# From arrow


def typed_column(name: str, cells: pyarrow.Array, ordered: bool) -> Column:
    """Return the column in an arrow array, of a kind that its type determines.

    `ordered` says whether the levels of a category are in order.

    Raises
    ------
    InvalidValueError
        If its values are not numbers, text, booleans or dates, or one is infinite.
    """
    from pyarrow import large_string, types

    kind = cells.type
    if types.is_null(kind) or cells.null_count == len(cells):
        return as_column(name, "empty", np.full(len(cells), np.nan))
    if types.is_boolean(kind):
        codes = np.array(cells.to_pylist(), dtype=np.float64)
        return as_column(name, "boolean", codes, (False, True))
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        with np.errstate(invalid="ignore"):  # NaNs of 16 or 32 bits, which stay NaN
            values = np.array(cells.to_numpy(zero_copy_only=False), dtype=np.float64)
        return as_column(name, "number", values, whole=types.is_integer(kind))
    if types.is_temporal(kind) and not types.is_interval(kind):
        return as_column(name, "date", as_days(cells))
    if types.is_dictionary(kind) and not _is_odd(kind.value_type):
        values, levels = _coded(cells, ordered)
        return as_column(name, "order" if ordered else "category", values, levels)
    if not _is_odd(kind):
        values, levels = _coded(cells.cast(large_string()).dictionary_encode(), False)
        return as_column(name, text_kind(values, levels), values, levels)
    raise wrong_type(name, kind)


def wrong_type(name: str, kind: pyarrow.DataType) -> InvalidValueError:
    """Return the error for a column of a type that cannot be read."""
    return InvalidValueError(
        f"column {short(name)!r} has values of type {short(str(kind))}; give "
        "numbers, text, booleans or dates, or leave the column out"
    )


def _is_odd(kind: pyarrow.DataType) -> bool:
    """Return whether values of a pyarrow type cannot be levels."""
    from pyarrow import types

    simple = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
    return not simple and str(kind) not in ("string", "large_string", "string_view")


def text_kind(values: np.ndarray, levels: Sequence[object]) -> Kind:
    """Return whether text is a category or free text."""
    return kind_of_text(len(levels), int(np.count_nonzero(~np.isnan(values))))


def kind_of_text(levels: int, observed: int) -> Kind:
    """Return whether text is a category, by the numbers of its values and its cells."""
    return "category" if levels < observed and levels <= MOST_LEVELS else "text"


def _coded(
    encoded: pyarrow.DictionaryArray, ordered: bool
) -> tuple[np.ndarray, tuple[object, ...]]:
    """Return codes and levels: all levels if ordered, else those that occur, sorted."""
    stored = encoded.dictionary.to_pylist()
    places = encoded.indices.to_numpy(zero_copy_only=False)
    used = {stored[int(place)] for place in np.unique(places[~np.isnan(places)])}
    levels = stored if ordered else sorted(used - {None})
    rank = {level: float(code) for code, level in enumerate(levels)}
    codes = np.array([rank.get(level, np.nan) for level in stored] + [np.nan])
    return codes[np.nan_to_num(places, nan=-1).astype(np.int64)], tuple(levels)


# Descriptions


def describe(columns: Sequence[Column]) -> list[str]:
    """Return a few lines that describe the columns as they were read.

    Neighboring columns with the same description share a line. If there are too many
    lines, neighboring columns of one kind share a line, and finally all columns of one
    kind.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
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
        f"{', '.join(short(each.name) for each in group[:3])}"
        f"{f', ... ({len(group)} columns)' if len(group) > 3 else ''}: {_clause(group)}"
        for group in kinds.values()
    ]


def remarks(columns: Sequence[Column]) -> list[str]:
    """Return a line for each way in which numbers are written, except plain numbers.

    Examples
    --------
    >>> values = np.array([5.0, 6.0])
    >>> price = as_column("price", "number", values, written=Written(before="$"))
    >>> remarks([price])
    ["price: read as numbers, '$' removed"]
    """
    names: dict[str, list[str]] = {}
    for column in columns:
        if column.written is not None and column.kind != "empty":
            names.setdefault(column.written.says, []).append(short(column.name))
    return [
        f"{', '.join(group[:6])}"
        f"{f' and {len(group) - 6} more' if len(group) > 6 else ''}: {says}"
        for says, group in names.items()
    ]
