"""Which mark is the decimal one in a text file: what its columns show, and what a fit had.

A column by itself may leave it open: 35.125 is a number with decimals or, with a mark
between thousands, one of five digits. The other columns of the file decide then, or the
file that a model was fitted to. What is decided without evidence is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from descents.checks import InvalidValueError
from descents.data.frames import short
from descents.data.numerals import Ends, Written, decimal_commas, dotted, restored, ways

_NAMES = {".": "points", ",": "commas"}


class Cells(Protocol):
    """The different texts of a column that stand for no missing cell."""

    name: str
    seen: list[str]

    @property
    def points(self) -> Any:
        """The plain numbers of the texts with decimal points, or None."""

    @property
    def commas(self) -> Any:
        """The same with decimal commas."""


@dataclass(frozen=True)
class Memory:
    """What is known of how numbers are written before a file was looked at.

    Attributes
    ----------
    decimal : str or None
        The decimal mark that was asked for.
    formats : mapping or None
        What `Table.formats` returned of the table of a fit.
    """

    decimal: str | None
    formats: Mapping[str, Any] | None

    @property
    def before(self) -> str:
        """The decimal mark of plain numbers in the table of the fit."""
        return str((self.formats or {}).get("decimal", "."))

    @property
    def delimiter(self) -> str:
        """What parts the cells in the table of the fit; a comma where it is not known."""
        return str((self.formats or {}).get("delimiter", ","))

    @property
    def first(self) -> str:
        """The decimal mark of plain numbers, before a column was looked at."""
        return self.decimal or self.before

    def known(self, name: str) -> Written | Ends | None:
        """Return how a column of that name was written in the fit; None of no numbers."""
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
        One for each column, None where it holds no numbers.
    decimal : str
        The decimal mark of plain numbers in the file.
    notes : list of str
        What was decided that may have been meant otherwise, for people.
    """

    ways: list[Written | Ends | None]
    decimal: str
    notes: list[str]


class _Column:
    """A column of new rows: how it may be written, and how it was in the fit."""

    def __init__(self, cells: Cells, memory: Memory) -> None:
        self.cells = cells
        self.known = memory.known(cells.name)
        self.ways: list[Written] = []
        if isinstance(self.known, Written):
            self.ways = [
                way
                for way in possible(cells, self.known)
                if memory.decimal in (None, way.decimal)
            ]

    @property
    def before(self) -> str:
        """The decimal mark that the column had in the fit."""
        return self.known.decimal if isinstance(self.known, Written) else ""

    @cached_property
    def example(self) -> str | None:
        """A cell with a mark that may be decimal."""
        return next((x for x in self.cells.seen if "." in x or "," in x), None)

    @property
    def shows(self) -> str | None:
        """The decimal mark that its cells show beyond doubt."""
        return self.ways[0].decimal if len(self.ways) == 1 and self.example else None

    @property
    def new_thousands(self) -> bool:
        """Whether it is read with marks between thousands, which it had not in the fit."""
        known, way = self.known, self.way(None)
        if not isinstance(known, Written) or not isinstance(way, Written):
            return False
        return bool(way.thousands) and not known.thousands

    def way(self, other: str | None) -> Written | Ends | None:
        """Return how it is read, where the file has another decimal mark than the fit."""
        if isinstance(self.known, Ends):
            return self.known
        if len(self.ways) < 2:
            return self.ways[0] if self.ways else None
        decimal = other or self.before
        return next(way for way in self.ways if way.decimal == decimal)

    def readings(self, other: str | None) -> str:
        """Return what a cell in doubt was read as, and what else it may be."""
        assert self.example is not None  # noqa: S101
        way = self.way(other)
        numbers = {one.decimal: one.number(self.example) for one in self.ways}
        chosen = way.decimal if isinstance(way, Written) else "."
        rest = "," if chosen == "." else "."
        return (
            f"{self.example} read as {numbers[chosen]:.15g}, not {numbers[rest]:.15g}"
        )


def possible(cells: Cells, like: Written) -> list[Written]:
    """Return the ways in which the numbers of a column may be written, at most two.

    Parameters
    ----------
    cells : Cells
    like : Written
        How the same column was written elsewhere: its unit, its brackets, and what
        reads cells without a mark.

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
    where: str, each: Sequence[Cells], memory: Memory, delimiter: str
) -> Settled:
    """Decide how new rows are read, whose columns a fit had in a known way.

    A column that leaves no doubt is read as it is written. Another is read as in the
    table of the fit, or as the other columns of its file where these are written
    otherwise than in the fit.

    Raises
    ------
    InvalidValueError
        When a column is in doubt, and others show both decimal marks, otherwise than in
        the fit.
    """
    columns = [_Column(cells, memory) for cells in each]
    showing = [column for column in columns if column.shows]
    marks = {column.shows for column in showing}
    doubtful = [column for column in columns if len(column.ways) == 2]
    other: str | None = None  # the decimal mark of this file, where it is not the fit's
    if any(column.shows != column.before for column in showing):
        if len(marks) == 1:
            other = showing[0].shows
        elif doubtful:
            raise _contradiction(where, doubtful, showing)
    elif not showing and delimiter == "," != memory.delimiter:
        other = "."  # as a comma parts the cells
    ways = [column.way(other) for column in columns]
    changed = [
        column
        for column, way in zip(columns, ways, strict=True)
        if isinstance(way, Written) and column.example and way.decimal != column.before
    ]
    decimal = other or (showing[0].shows if len(marks) == 1 else None) or memory.before
    notes = []
    if memory.decimal is None:
        # Marks between thousands are doubtful where the fit had none in the column.
        silent = [c for c in doubtful if (showing and not c.new_thousands) or other]
        notes = _of_change(changed)
        notes += _of_doubt([c for c in doubtful if c not in silent])
    return Settled(ways, memory.decimal or decimal, notes)


def _of_change(changed: Sequence[_Column]) -> list[str]:
    """Say which columns are written otherwise than in the fit, a line for each mark."""
    found = []
    for mark, fit in ((".", ","), (",", ".")):
        group = [column for column in changed if column.before == fit]
        doubt = any(len(column.ways) == 2 for column in group)
        if group:
            found.append(
                f"{_names(group)}: read with decimal {_NAMES[mark]}, as this table has "
                f"them, where the table of the fit has decimal {_NAMES[fit]}"
                + (f"; give --decimal {fit} if that is wrong" if doubt else "")
            )
    return found


def _of_doubt(doubtful: Sequence[_Column]) -> list[str]:
    """Say which columns were read as in the fit, although they may be meant otherwise."""
    found = []
    for mark, rest in ((".", ","), (",", ".")):
        group = [column for column in doubtful if column.before == mark]
        if group:
            found.append(
                f"{_names(group)}: read with decimal {_NAMES[mark]}, as in the table of "
                f"the fit ({group[0].readings(None)}); give --decimal {rest} if that is "
                "wrong"
            )
    return found


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
        f"{low:.15g} or {high:.15g}, and other columns show both {says}; write all "
        "numbers in one way, and give --decimal . or --decimal ,"
    )


def notes_of_points(each: Sequence[Cells], chosen: Sequence[Any]) -> list[str]:
    """Return a note of columns whose points were read as decimal ones, and may be others.

    Parameters
    ----------
    each : sequence of Cells
        The columns of a file that does not show its decimal mark.
    chosen : sequence of Written, Ends or None
        How they are read.
    """
    doubtful = [
        cells
        for cells, way in zip(each, chosen, strict=True)
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
        "give --decimal , if the points are between thousands"
    ]


def _names(columns: Sequence[Any]) -> str:
    names = [short(getattr(column, "cells", column).name) for column in columns]
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
