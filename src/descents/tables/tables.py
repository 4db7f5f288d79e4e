"""A user's table: typed columns, and the same table with its missing cells filled.

A table comes from a data frame or a file. Its columns become numbers, or codes of levels,
with NaN for missing cells. The source is kept unchanged, so that `Table.filled` returns
every observed cell as it was. This module writes no files.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.tables.dates import of_days
from descents.tables.fitted_types import fresh
from descents.tables.frames import (
    Dialect,
    Frame,
    Source,
    arrow_cells,
    assemble,
    beside,
    cell_texts,
    given_back,
    native,
    put,
    short,
)
from descents.tables.numerals import Written, fixed_places
from descents.tables.typed_columns import Column, typed_column
from descents.text import counted

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a table, and its source.

    Attributes
    ----------
    columns : tuple of Column
    source : object
        The original table, including ignored columns; private.
    notes : tuple of str
        Decisions of the reader for the user to check.

    Examples
    --------
    >>> import pyarrow
    >>> table = from_frame(pyarrow.table({"a": [1, None, 3], "b": ["x", "y", "x"]}))
    >>> table.rows, [column.says for column in table.columns]
    (3, ['whole numbers 1 to 3, 1 missing', 'category of 2 levels'])
    """

    columns: tuple[Column, ...]
    source: Source
    notes: tuple[str, ...] = ()

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

    @property
    def textual(self) -> bool:
        """Whether the source is a text file."""
        dialect = self.source.dialect
        return dialect is not None and dialect.textual

    def column(self, name: str) -> Column:
        """Return the column with this name.

        Raises
        ------
        InvalidValueError
            If there is none; the message lists the names.

        Examples
        --------
        >>> import pyarrow
        >>> from_frame(pyarrow.table({"species": ["x", "y", "x"]})).column("speceis")
        Traceback (most recent call last):
        ...
        descents.errors.InvalidValueError: there is no column 'speceis'; did you mean
        'species'? The columns are species
        """
        names = [column.name for column in self.columns]
        if name in names:
            return self.columns[names.index(name)]
        raise _unknown(name, names)

    def without(self, names: str | Iterable[str]) -> Table:
        """Return the table without some columns, which `filled` still returns.

        Examples
        --------
        >>> import pyarrow
        >>> table = from_frame(pyarrow.table({"id": [7, 8], "a": [0.5, None]}))
        >>> [column.name for column in table.without(["id"]).columns]
        ['a']
        """
        dropped = known_names(names, [column.name for column in self.columns])
        left = tuple(column for column in self.columns if column.name not in dropped)
        return replace(self, columns=left)

    def places(self, name: str) -> int | None:
        """Return the number of decimals of a column of plain numbers in a text file.

        None if the cells have different numbers of decimals, or a unit.
        """
        column = self.column(name)
        bare = column.written in (None, Written(), Written(","))
        if column.kind != "number" or column.whole or column.cells is None or not bare:
            return None
        # A list of texts: pyarrow loads pandas to convert a mask or positions.
        known = (~np.isnan(column.values)).tolist()
        cells = column.cells.to_pylist()
        seen = {str(cell) for cell, here in zip(cells, known, strict=True) if here}
        written = column.written
        decimal = written.decimal if isinstance(written, Written) else self.decimal
        return fixed_places(list(seen), decimal)

    @property
    def decimal(self) -> str:
        """The decimal mark of plain numbers in a text file."""
        return "." if self.source.dialect is None else self.source.dialect.decimal

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the cells of a column of the source as text, "" if missing.

        The text of a file is returned unchanged, with leading zeros, all digits, and
        marks of missing cells. The column need not be among `columns`.

        Raises
        ------
        InvalidValueError
            If there is none; the message lists the names.

        Examples
        --------
        >>> import pyarrow
        >>> table = from_frame(pyarrow.table({"id": [2**60 + 1, None], "a": [1, 2]}))
        >>> table.texts("id")
        ('1152921504606846977', '')
        """
        names = self.source.names
        if name not in names:
            raise _unknown(name, names)
        cells, _ = arrow_cells(self.source, names.index(name))
        return tuple(cell_texts(cells, self.source.dialect or Dialect(None)))

    def filled(self, values: Mapping[str, np.ndarray]) -> Frame:
        """Return the source with the missing cells of some columns filled.

        Parameters
        ----------
        values : mapping of column names to float64 arrays of shape (rows,)
            Numbers, codes of the levels, or days. Only values at missing cells are used.
            Whole numbers and codes are rounded, and whole numbers are clipped to the
            observed range. Dates are rounded to the precision of their column.

        Returns
        -------
        frame or str
            A frame of the same library, with the same types of columns; CSV text if the
            table came from a file. Observed cells are unchanged.

        Raises
        ------
        InvalidValueError
            If a column is absent or empty, an array has another length, or a value at a
            missing cell is not finite or not a code.

        Examples
        --------
        >>> import pyarrow
        >>> table = from_frame(pyarrow.table({"a": [1, None, 3], "b": ["x", "y", None]}))
        >>> filled = table.filled({"a": [0, 1.8, 0], "b": [0, 0, 1]})
        >>> filled.to_pydict()
        {'a': [1, 2, 3], 'b': ['x', 'y', 'y']}
        """
        return given_back(self.completed(values).source)

    def completed(self, values: Mapping[str, np.ndarray]) -> Table:
        """Return the table with its source filled as by `filled`.

        Its columns do not change: missing cells are still NaN there.

        Examples
        --------
        >>> import pyarrow
        >>> table = from_frame(pyarrow.table({"a": [1, None, 3]}))
        >>> table.completed({"a": [0, 2, 0]}).source.frame.to_pydict()
        {'a': [1, 2, 3]}
        """
        source = self.source
        places = {name: place for place, name in enumerate(source.names)}
        by_name = {column.name: column for column in self.columns}
        parts: dict[int, object] = {}
        for name, predicted in values.items():
            column = by_name.get(name) or self.column(name)
            holes = np.flatnonzero(np.isnan(column.values))
            fills = _fills(column, predicted, holes)
            written = column.written
            if isinstance(written, Written):  # write them like the other cells
                fills = [x if isinstance(x, str) else written.text(x) for x in fills]
            if column.fitted is not None:
                parts[places[name]] = fresh(
                    source, places[name], fills, column.fitted, column.levels,
                    column.kind == "order",
                )  # fmt: skip
            elif fills:
                parts[places[name]] = put(source, places[name], holes, fills)
        return replace(self, source=assemble(source, parts))

    def beside(self, texts: Mapping[str, Sequence[object]]) -> Table:
        """Return the table of a file with more columns on the right, for `filled`.

        Parameters
        ----------
        texts : mapping of names to sequences of length rows
            Numbers, text or dates; None is an empty cell.

        Raises
        ------
        InvalidValueError
            If the table already has a column of that name.

        Examples
        --------
        >>> import pyarrow
        >>> frame = pyarrow.table({"a": ["1.5", "2.0"]})
        >>> dialect = Dialect(("a",), textual=True)
        >>> source = Source("pyarrow", frame, ("a",), 2, dialect)
        >>> table = from_source(source, "a table", ())
        >>> table.beside({"a_low": [None, 1.25]}).filled({}).splitlines()
        ['a,a_low', '1.5,', '2.0,1.25']
        """
        twice = [name for name in texts if name in self.source.names]
        if twice:
            raise InvalidValueError(
                f"a column {twice[0]!r} is to be written, but the table has one of that "
                "name; rename it"
            )
        return replace(self, source=beside(self.source, texts))

    def formats(self) -> dict[str, Any] | None:
        """Return how the numbers of a text file are written, for `files.read` of new rows.

        None if the source is not a text file.

        Examples
        --------
        >>> import pyarrow
        >>> frame = pyarrow.table({"a": ["1.5", "2.0"]})
        >>> dialect = Dialect(("a",), textual=True)
        >>> source = Source("pyarrow", frame, ("a",), 2, dialect)
        >>> from_source(source, "a table", ()).formats()
        {'decimal': '.', 'delimiter': ',', 'columns': {}, 'numbers': []}
        """
        dialect = self.source.dialect
        if dialect is None or not dialect.textual:
            return None
        return {
            "decimal": dialect.decimal,
            "delimiter": dialect.delimiter,
            "columns": {
                column.name: column.written.described()
                for column in self.columns
                if column.written is not None
            },
            "numbers": [
                column.name
                for column in self.columns
                if column.kind == "number" and column.written is None
            ],
        }

    def encoded(self, text: str) -> bytes:
        r"""Encode text that `filled` returned like the source file.

        A byte order mark is added if the source has one.

        Raises
        ------
        InvalidValueError
            If the encoding lacks a character.

        Examples
        --------
        >>> import pyarrow
        >>> from_frame(pyarrow.table({"a": [1]})).encoded("a\n1\n")
        b'a\n1\n'
        """
        dialect = self.source.dialect or Dialect(None)
        marked = "\ufeff" + text if dialect.marked else text
        try:
            return marked.encode(dialect.encoding)
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"the filled table contains {error.object[error.start]!r}, which "
                f"{dialect.encoding} cannot write; give the table in UTF-8"
            ) from None


# From a frame


def from_frame(
    frame: Frame, *, ignore: Sequence[str] = (), mark: object = None
) -> Table:
    """Return the table in a pandas or polars data frame or a pyarrow table.

    None, NaN, NA, NaT and null are missing. Text is a category if values repeat and at
    most `MOST_LEVELS` differ. An ordered Categorical, an Enum and intervals of pandas give
    ordered levels; periods of pandas are dates.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame or pyarrow.Table
    ignore : sequence of str
        Columns that may contain anything. They are not among `Table.columns`, but
        `Table.filled` returns them.
    mark : object, optional
        A value of columns of objects of pandas that represents a missing cell.

    Raises
    ------
    InvalidValueError
        If `frame` is not such a frame, has no rows, repeats a name, lacks a column of
        `ignore`, or if another column has an infinite number, or values other than
        numbers, text, booleans and dates.

    Examples
    --------
    >>> import pyarrow
    >>> table = from_frame(pyarrow.table({"a": [0.5, float("nan")], "b": [True, None]}))
    >>> [(column.kind, column.values.tolist()) for column in table.columns]
    [('number', [0.5, nan]), ('boolean', [1.0, nan])]
    >>> frame = pyarrow.table({"a": [0.5, None], "tags": [["x"], []]})
    >>> table = from_frame(frame, ignore=["tags"])
    >>> table.filled({"a": [0, 1.5]}).to_pydict()
    {'a': [0.5, 1.5], 'tags': [['x'], []]}
    """
    return from_source(native(frame, mark), "the table", ignore)


def from_source(
    source: Source, where: str, ignore: Iterable[str], skip: Iterable[str] = ()
) -> Table:
    """Return the table of typed columns in a frame, without those to ignore or skip.

    Columns to ignore must be present; columns to skip may be absent.
    """
    check_names(where, source.names)
    if not source.rows or not source.names:
        raise InvalidValueError(f"{where} has no rows or no columns; give at least one")
    ignored = known_names(ignore, source.names).union(skip)
    columns = []
    for place, name in enumerate(source.names):
        if name not in ignored:
            cells, in_order = arrow_cells(source, place)
            column = typed_column(name, cells, in_order)
            column.belongs_to(cells)
            columns.append(column)
    return Table(tuple(columns), source)


def from_arrow(
    where: str, frame: pyarrow.Table, ignore: Sequence[str], skip: Sequence[str]
) -> Table:
    """Return the table of the columns of a file, which are written back as they are."""
    names = tuple(frame.column_names)
    dialect = Dialect(header=names)
    source = Source("pyarrow", frame, names, len(frame), dialect)
    return from_source(source, where, ignore, skip)


def check_names(where: str, names: Sequence[str], remedy: str = "") -> None:
    """Raise an error if a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidValueError(
                f"{where} has two columns named {short(name)!r}; give each a different "
                f"name{remedy}"
            )
        seen.add(name)


def known_names(requested: str | Iterable[str], names: Sequence[str]) -> set[str]:
    """Return the requested names as a set; raise an error if some are not in `names`."""
    requested = [requested] if isinstance(requested, str) else list(requested)
    complaints = Complaints()
    for name in requested:
        complaints.attempt(check_name, name, names)
    complaints.raise_any()
    return set(requested)


def check_name(name: object, names: Sequence[str], option: str = "") -> None:
    """Raise an error if there is no column with this name.

    Parameters
    ----------
    name : object
    names : sequence of str
        The columns of the table.
    option : str
        The option that gives the name, for the message.

    Examples
    --------
    >>> check_name("agee", ["age", "size"], "--ignore")
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: there is no column 'agee' (--ignore); did you mean
    'age'? The columns are age, size
    """
    if not isinstance(name, str) or name not in names:
        raise _unknown(name, names, option)


def _unknown(name: object, names: Sequence[str], option: str = "") -> InvalidValueError:
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {near[0]!r}? The" if near else "the"
    listed = ", ".join(short(each) for each in names[:20])
    more = f", ... ({len(names)} in all)" if len(names) > 20 else ""
    return InvalidValueError(
        f"there is no column {name!r}{f' ({option})' if option else ''}; {hint} columns "
        f"are {listed}{more}"
    )


# Missing cells


def _fills(column: Column, predicted: np.ndarray, holes: np.ndarray) -> list[Any]:
    """Return the values for the missing cells: numbers, dates or levels."""
    name = short(column.name)
    values = np.asarray(predicted, dtype=np.float64)
    if values.shape != column.values.shape:
        raise InvalidValueError(
            f"the values for column {name!r} have shape {values.shape}; give one for "
            f"each of the {counted(len(column.values), 'row')}"
        )
    chosen = values[holes]
    if not len(holes):
        return []
    if column.kind == "empty":
        raise InvalidValueError(
            f"column {name!r} is {column.says}, which cannot be filled; give no values "
            "for it"
        )
    if not np.isfinite(chosen).all():
        raise InvalidValueError(
            f"the values for column {name!r} are not finite at every missing cell; "
            "give a number for each"
        )
    if column.kind == "date":
        return of_days(chosen, column.cells, column.values)
    if column.kind == "number":
        if not column.whole:
            return list(chosen.tolist())
        low, high = np.nanmin(column.values), np.nanmax(column.values)
        # Beyond 2**53 the limits may be rounded outward, to numbers outside of the type.
        low, high = (np.nextafter(x, 0) if abs(x) > 2**53 else x for x in (low, high))
        return [int(number) for number in np.clip(np.rint(chosen), low, high)]
    codes = np.rint(chosen).astype(np.int64)
    if codes.min() < 0 or codes.max() >= len(column.levels):
        raise InvalidValueError(
            f"the values for column {name!r} run from {codes.min()} to {codes.max()}; "
            f"give codes from 0 to {len(column.levels) - 1}"
        )
    return [column.levels[code] for code in codes]
