"""Columns of a text file: decides how their cells are written, and converts them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from descents.tables.conventions import Expected, Settled, notes_of_points, settled
from descents.tables.dates import as_days
from descents.tables.frames import short
from descents.tables.numerals import (
    Written,
    decimal_commas,
    dotted,
    grouped,
    padded,
    unit,
    ways,
    whole,
)
from descents.tables.open_ends import Ends, is_open, open_ends
from descents.tables.spelling import WORDS, both
from descents.tables.typed_columns import (
    MOST_LEVELS,
    Column,
    Kind,
    as_column,
    text_kind,
)

if TYPE_CHECKING:
    import pyarrow

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_PADDED = re.compile(r"[+-]?0[0-9]+")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}([,.' ][0-9]{3})+([.,][0-9]*)?")
NUMBER = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?)?", re.ASCII)

FEW = 50
"""Number of cells that Python encodes faster than pyarrow, which matters in wide tables."""


class TextCells:
    """The cells of one column of text, as distinct texts and their positions."""

    def __init__(self, name: str, cells: pyarrow.ChunkedArray, marks: set[str]) -> None:
        from pyarrow import compute

        trimmed = compute.utf8_trim_whitespace(cells.combine_chunks())
        self.name = name
        self.texts: list[str]
        self.places: np.ndarray
        if len(trimmed) <= FEW:
            every = trimmed.to_pylist()
            self.texts = list(dict.fromkeys(every))
            codes = {text: code for code, text in enumerate(self.texts)}
            self.places = np.array([codes[text] for text in every], dtype=np.int32)
        else:
            encoded = trimmed.dictionary_encode()
            self.texts = encoded.dictionary.to_pylist()
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
                number = plain_number(text, decimal)
                if number is None:
                    return None
                values[place] = number
        return values

    def column(
        self,
        kind: Kind,
        codes: Mapping[str, float | None] | np.ndarray,
        levels: Iterable[object] = (),
        whole: bool = False,
        written: Written | Ends | None = None,
    ) -> Column:
        """Return the column, given the number of each text: a mapping, or in order."""
        if isinstance(codes, Mapping):
            values = [codes.get(text) for text in self.texts]
            codes = np.array(values, dtype=np.float64)  # None becomes NaN
        return as_column(self.name, kind, codes[self.places], levels, whole, written)


def text_columns(
    where: str, file_columns: Sequence[TextCells], wanted: Expected, delimiter: str
) -> tuple[tuple[Column, ...], str, list[str]]:
    """Return the columns of a file, the decimal mark of its plain numbers, and notes.

    A column with ambiguous commas, such as 1,234, is read like the other columns.
    """
    new = wanted.formats is not None
    decision = (
        settled(where, file_columns, wanted, delimiter)
        if new
        else _recognized(file_columns, wanted, delimiter)
    )
    columns = tuple(
        _text_column(
            cells, decision.decimal, way, wanted.fitted(cells.name) if new else None
        )
        for cells, way in zip(file_columns, decision.ways, strict=True)
    )
    return columns, decision.decimal, decision.notes


def _recognized(
    file_columns: Sequence[TextCells], wanted: Expected, delimiter: str
) -> Settled:
    """Decide how the columns of a file are read, without a table of a fit."""
    options = [_ways(cells, wanted) for cells in file_columns]
    shown = {wanted.decimal} if wanted.decimal else _decimals(file_columns, options)
    sure = next(iter(shown)) if len(shown) == 1 else None
    chosen = [
        _way(cells, ways, sure, delimiter)
        for cells, ways in zip(file_columns, options, strict=True)
    ]
    notes = []
    if (
        sure is None and delimiter != ","
    ):  # with this one, decimal commas are impossible
        notes = notes_of_points(file_columns, chosen)
    return Settled(chosen, sure or wanted.first, notes)


def _ways(cells: TextCells, wanted: Expected) -> list[Written]:
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


def _decimals(
    file_columns: Sequence[TextCells], options: Sequence[Sequence[Written]]
) -> set[str]:
    """Return the decimal marks of unambiguous columns."""
    shown = {
        its_ways[0].decimal
        for cells, its_ways in zip(file_columns, options, strict=True)
        if len(its_ways) == 1 and any("." in text or "," in text for text in cells.seen)
    }
    for cells in file_columns:
        if cells.points is not None and dotted(cells.seen)[1]:
            shown.add(".")
    return shown


def _way(
    cells: TextCells, options: Sequence[Written], decimal: str | None, delimiter: str
) -> Written | Ends | None:
    """Return how a column is written, or None if it is plain or ambiguous.

    Parameters
    ----------
    decimal : str or None
        The decimal mark of the whole file, if it is known.
    """
    if len(options) == 1:
        return options[0]
    if len(options) == 2:
        for way in options:
            if way.decimal == decimal:
                return way
        # An ambiguous point is a decimal point, as in plain numbers. A comma is a
        # thousands separator if smaller numbers have none, or if it is the delimiter.
        if any("." in text for text in cells.seen):
            return options[0]
        thousands = delimiter == "," or grouped(cells.seen)
        return options[0] if thousands else None
    if decimal == "," and cells.seen and cells.points is not None:
        pointed, sure = dotted(cells.seen)
        return Written(",", ".") if pointed and not sure else None
    return open_ends(cells.seen, MOST_LEVELS)


def _text_column(
    cells: TextCells,
    decimal: str,
    way: Written | Ends | None,
    fitted: Written | Ends | None,
) -> Column:
    """Convert the texts of a column to numbers, levels or dates.

    Parameters
    ----------
    decimal : str
        The decimal mark of plain numbers in the file.
    way : Written, Ends or None
        How the column is written; None if it is plain or ambiguous.
    fitted : Written, Ends or None
        How it was written in the table of a fit.
    """
    seen = cells.seen
    if not seen:
        empty = cells.column("empty", {})
        if isinstance(fitted, Written) and fitted.has_unit:
            return replace(empty, written=fitted.switched(decimal))
        return empty
    if way is not None:
        column = _as_written(cells, way, fitted, decimal)
        if column is not None:
            return column
    plain = cells.points if decimal == "." else cells.commas
    if plain is not None and not any(map(_PADDED.fullmatch, seen)):
        return cells.column("number", plain, whole=all(map(_WHOLE.fullmatch, seen)))
    return _levels_column(cells, decimal)


def _levels_column(cells: TextCells, decimal: str) -> Column:
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
    cells: TextCells, way: Written | Ends, fitted: Written | Ends | None, decimal: str
) -> Column | None:
    """Return a column whose cells are written in the way `way`, or None if they are not."""
    seen = cells.seen
    if isinstance(way, Ends):
        codes = {text: float(code) for code, text in enumerate(way.levels)}
        if set(seen) <= set(codes):
            return cells.column("order", codes, levels=way.levels, written=way)
        return None
    numbers: Mapping[str, float | None] | np.ndarray | None
    numbers = {Written(): cells.points, Written(","): cells.commas}.get(way)
    exact = all(map(_WHOLE.fullmatch, seen))
    if numbers is None:
        numbers = {text: way.number(text) for text in seen}
        if None in numbers.values():
            return None
        exact = whole(seen, way)
        way = way.shaped(seen, fitted if isinstance(fitted, Written) else None)
    elif any(map(_PADDED.fullmatch, seen)):
        return None
    bare = way in (Written(), Written(","))
    # Values that are filled into plain cells have the decimal mark of the file.
    plain = bare and (exact or way.decimal == decimal == ".")
    written = None if plain else way
    return cells.column("number", numbers, whole=exact, written=written)


def _hint(levels: Sequence[str], decimal: str) -> str:
    """Return a hint for a column of text if all or most cells are numbers."""
    numbers = {text: plain_number(text, decimal) for text in levels}
    odd = [text for text in levels if numbers[text] is None]
    if not odd:
        return ", codes with leading zeros"
    if len(ways(levels)) == 2:
        return (
            f", numbers such as {short(odd[0])!r} whose comma may be a decimal mark "
            "(--decimal ,) or a thousands separator (--decimal .)"
        )
    other = "," if decimal == "." else "."
    if all(plain_number(text, other) is not None for text in levels):
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


def plain_number(text: str, decimal: str) -> float | None:
    """Return a text as a number without thousands separators and units, or None.

    Examples
    --------
    >>> plain_number("1,5", ","), plain_number("1,5", ".")
    (1.5, None)
    """
    if decimal == ",":
        text = text.replace(".", "?").replace(",", ".")
    return float(text) if NUMBER.fullmatch(text) else None


def _days_of_text(texts: Sequence[str]) -> dict[str, float] | None:
    """Return ISO dates as days, or None if one is not a date."""
    import pyarrow

    plain = [text.removesuffix("Z") for text in texts]
    try:
        cells = pyarrow.array(plain).cast(pyarrow.timestamp("us"))
    except pyarrow.ArrowException:
        return None
    return dict(zip(texts, as_days(cells).tolist(), strict=True))
