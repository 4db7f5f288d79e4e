"""Decides which mark is the decimal mark in a text file.

A column by itself can be ambiguous: 35.125 is either a number with three decimals or, with
a thousands separator, a number of five digits. Then the other columns of the file decide,
or the file that a model was fitted to. Decisions without evidence are reported in notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.frames import short
from descents.tables.numerals import (
    Written,
    decimal_commas,
    dotted,
    restored,
    ways,
)
from descents.tables.open_ends import Ends

_NAMES = {".": "points", ",": "commas"}


class ColumnTexts(Protocol):
    """The distinct texts of a column, without marks of missing cells."""

    name: str
    seen: list[str]

    @property
    def points(self) -> np.ndarray | None:
        """The texts as plain numbers with decimal points, or None."""

    @property
    def commas(self) -> np.ndarray | None:
        """The texts as plain numbers with decimal commas, or None."""


@dataclass(frozen=True)
class Expected:
    """How numbers are written, as far as it is known before a file is read.

    Attributes
    ----------
    decimal : str or None
        The decimal mark that the user requested.
    formats : mapping or None
        The result of `Table.formats` for the table of the fit, if there was one.
    """

    decimal: str | None
    formats: Mapping[str, Any] | None

    @property
    def before(self) -> str:
        """The decimal mark of plain numbers in the table of the fit."""
        return str((self.formats or {}).get("decimal", "."))

    @property
    def delimiter(self) -> str:
        """The delimiter of the table of the fit; a comma if it is not known."""
        return str((self.formats or {}).get("delimiter", ","))

    @property
    def first(self) -> str:
        """The decimal mark of plain numbers that is tried first."""
        return self.decimal or self.before

    def fitted(self, name: str) -> Written | Ends | None:
        """Return how the column `name` was written in the fit; None if not as numbers."""
        facts = self.formats or {}
        if name in facts.get("columns", ()):
            return restored(facts["columns"][name])
        return Written(self.before) if name in facts.get("numbers", (name,)) else None


@dataclass(frozen=True)
class Settled:
    """How the columns of a file are read.

    Attributes
    ----------
    ways : list of Written, Ends or None
        One for each column; None for a column without numbers.
    decimal : str
        The decimal mark of plain numbers in the file.
    notes : list of str
        Decisions for the user to check, because another reading is possible.
    """

    ways: list[Written | Ends | None]
    decimal: str
    notes: list[str]


class _Column:
    """A column of new rows: how it may be written, and how it was written in the fit."""

    def __init__(self, cells: ColumnTexts, expected: Expected) -> None:
        self.cells = cells
        self.fitted = expected.fitted(cells.name)
        self.ways: list[Written] = []
        if isinstance(self.fitted, Written):
            self.ways = [
                way
                for way in possible(cells, self.fitted)
                if expected.decimal in (None, way.decimal)
            ]

    @property
    def before(self) -> str:
        """The decimal mark that the column had in the fit."""
        return self.fitted.decimal if isinstance(self.fitted, Written) else ""

    @cached_property
    def example(self) -> str | None:
        """A cell with a mark that may be decimal."""
        return next((x for x in self.cells.seen if "." in x or "," in x), None)

    @property
    def shows(self) -> str | None:
        """The decimal mark, if the cells are unambiguous."""
        return self.ways[0].decimal if len(self.ways) == 1 and self.example else None

    @property
    def new_thousands(self) -> bool:
        """Whether it is read with thousands separators that it did not have in the fit."""
        fitted, way = self.fitted, self.way(None)
        if not isinstance(fitted, Written) or not isinstance(way, Written):
            return False
        return bool(way.thousands) and not fitted.thousands

    def way(self, other: str | None) -> Written | Ends | None:
        """Return how it is read.

        `other` is the decimal mark of the file if it is not the one of the fit, else None.
        """
        if isinstance(self.fitted, Ends):
            return self.fitted
        if len(self.ways) < 2:
            return self.ways[0] if self.ways else None
        decimal = other or self.before
        return next(way for way in self.ways if way.decimal == decimal)

    def readings(self, other: str | None) -> str:
        """Return how an ambiguous cell was read, and the other possible reading."""
        assert self.example is not None  # noqa: S101
        way = self.way(other)
        numbers = {option.decimal: option.number(self.example) for option in self.ways}
        chosen = way.decimal if isinstance(way, Written) else "."
        rest = "," if chosen == "." else "."
        return (
            f"{self.example} read as {numbers[chosen]:.15g}, not {numbers[rest]:.15g}"
        )


def possible(cells: ColumnTexts, like: Written) -> list[Written]:
    """Return the possible ways in which the numbers of a column are written, at most two.

    Parameters
    ----------
    cells : ColumnTexts
    like : Written
        How the same column was written elsewhere: its unit, its brackets, and the decimal
        mark for cells without a mark.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> cells = SimpleNamespace(seen=["35.125", "7"], points=[35.125, 7.0], commas=None)
    >>> [way.decimal for way in possible(cells, Written())]
    ['.', ',']
    """
    if cells.points is not None:
        pointed, sure = dotted(cells.seen)
        if not pointed:
            return [Written(like.decimal)]
        if sure:
            return [Written()]
    elif cells.commas is not None and decimal_commas(cells.seen):
        return [Written(",")]
    return ways(cells.seen, like)


def settled(
    where: str, file_columns: Sequence[ColumnTexts], expected: Expected, delimiter: str
) -> Settled:
    """Decide how new rows are read, given how their columns were written in the fit.

    An unambiguous column is read as it is written. An ambiguous column is read like the
    other columns of its file if these are written differently than in the fit, and else
    as in the fit.

    Raises
    ------
    InvalidValueError
        If a column is ambiguous, and other columns show both decimal marks, differently
        than in the fit.
    """
    columns = [_Column(cells, expected) for cells in file_columns]
    showing = [column for column in columns if column.shows]
    marks = {column.shows for column in showing}
    doubtful = [column for column in columns if len(column.ways) == 2]
    other: str | None = (
        None  # the decimal mark of this file if it differs from the fit's
    )
    if any(column.shows != column.before for column in showing):
        if len(marks) == 1:
            other = showing[0].shows
        elif doubtful:
            raise _contradiction(where, doubtful, showing)
    elif not showing and delimiter == "," != expected.delimiter:
        other = "."  # because the delimiter is a comma
    ways = [column.way(other) for column in columns]
    changed = [
        column
        for column, way in zip(columns, ways, strict=True)
        if isinstance(way, Written) and column.example and way.decimal != column.before
    ]
    decimal = (
        other or (showing[0].shows if len(marks) == 1 else None) or expected.before
    )
    notes = []
    if expected.decimal is None:
        # Thousands separators are doubtful if the fit had none in the column.
        silent = [c for c in doubtful if (showing and not c.new_thousands) or other]
        notes = _of_change(changed)
        notes += _of_doubt([c for c in doubtful if c not in silent])
    return Settled(ways, expected.decimal or decimal, notes)


def _of_change(changed: Sequence[_Column]) -> list[str]:
    """Return notes on columns that are written differently than in the fit."""
    notes = []
    for mark, fit in ((".", ","), (",", ".")):
        group = [column for column in changed if column.before == fit]
        doubt = any(len(column.ways) == 2 for column in group)
        if group:
            notes.append(
                f"{_names([column.cells for column in group])}: read with decimal {_NAMES[mark]}, as in this table; "
                f"the table of the fit has decimal {_NAMES[fit]}"
                + (f"; give --decimal {fit} if that is wrong" if doubt else "")
            )
    return notes


def _of_doubt(doubtful: Sequence[_Column]) -> list[str]:
    """Return notes on ambiguous columns that were read as in the fit."""
    notes = []
    for mark, rest in ((".", ","), (",", ".")):
        group = [column for column in doubtful if column.before == mark]
        if group:
            notes.append(
                f"{_names([column.cells for column in group])}: read with decimal {_NAMES[mark]}, as in the table of "
                f"the fit ({group[0].readings(None)}); give --decimal {rest} if that is "
                "wrong"
            )
    return notes


def _contradiction(
    where: str, doubtful: Sequence[_Column], showing: Sequence[_Column]
) -> InvalidValueError:
    examples = {column.shows: column for column in showing}
    says = " and ".join(
        f"decimal {_NAMES[mark]} ({examples[mark].example} in "
        f"{short(examples[mark].cells.name)!r})"
        for mark in ".,"
    )
    first = doubtful[0]
    low, high = sorted(way.number(first.example or "") or 0.0 for way in first.ways)
    return InvalidValueError(
        f"{first.example} in column {short(first.cells.name)!r} of {where} may be "
        f"{low:.15g} or {high:.15g}, and other columns have both {says}; write all "
        "numbers in one way, and give --decimal . or --decimal ,"
    )


def notes_of_points(
    file_columns: Sequence[ColumnTexts], chosen: Sequence[Written | Ends | None]
) -> list[str]:
    """Return a note on columns whose points were read as decimal points without evidence.

    Parameters
    ----------
    file_columns : sequence of ColumnTexts
        The columns of a file without evidence for its decimal mark.
    chosen : sequence of Written, Ends or None
        How they are read.
    """
    doubtful = [
        cells
        for cells, way in zip(file_columns, chosen, strict=True)
        if not isinstance(way, Ends)
        and (way or Written()).decimal == "."
        and any("." in text for text in cells.seen)
        and len(possible(cells, way or Written())) == 2
    ]
    if not doubtful:
        return []
    example = next(text for text in doubtful[0].seen if "." in text)
    return [
        f"{_names(doubtful)}: numbers such as {short(example)} read with decimal points; "
        "give --decimal , if the points are thousands separators"
    ]


def _names(columns: Sequence[ColumnTexts]) -> str:
    names = [short(column.name) for column in columns]
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
