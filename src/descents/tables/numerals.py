"""How numbers in a text file are written: decimal commas, thousands separators, units.

A column is read as numbers only if all its cells are written in one way. Dates, times,
codes with leading zeros, versions and telephone numbers are not read as numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from descents.tables.numeral_parts import (
    LAKHS,
    MINUS,
    are_codes,
    fits,
    parted,
    plain,
    value_of,
)
from descents.tables.open_ends import Ends

SHAPES = 10_000
"""Maximum number of cells that are inspected to find the form of a column."""

_DIGITS = re.compile(r"[.,]?[0-9](?:[0-9.,' ]*[0-9])?[.,]?(?:[eE][+-]?[0-9]+)?")
_THREE = re.compile(r"[1-9][0-9]{0,2},[0-9]{3}")
_SIGNED_THREE = re.compile(rf"[+-]?{_THREE.pattern}")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_MILLIONS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3}){2}")
_DOTTED = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}")
"""A number whose point may be a thousands separator."""


@dataclass(frozen=True)
class Written:
    """How the numbers of a column are written.

    Attributes
    ----------
    decimal : {".", ","}
    thousands : str
        The thousands separator, or "".
    before, after : str
        The currency or unit before or after the number, or "".
    brackets : bool
        Whether numbers in round brackets are negative.
    minus : bool
        Whether the minus sign is another than that of ASCII.
    mark : str
        The character that is written as thousands separator if it is not the one of
        `thousands`, for example a no-break space.
    positive, negative : str
        The form of positive and negative cells, with # for the digits; "" if the column
        has no such cell.
    lakhs : bool
        Whether digits above the thousands are grouped in pairs, as in 12,34,567.
    places : int or None
        Number of decimals that are written; None for all digits.

    Examples
    --------
    >>> Written(",", ".", after="€").number("-1.234,50 €"), Written(before="$").text(-5.5)
    (-1234.5, '-$5.5')
    >>> Written(before="$", negative="($#)", places=2).text(-5.5)
    '($5.50)'
    """

    decimal: str = "."
    thousands: str = ""
    before: str = ""
    after: str = ""
    brackets: bool = False
    minus: bool = False
    mark: str = ""
    positive: str = ""
    negative: str = ""
    lakhs: bool = False
    places: int | None = None

    def number(self, text: str) -> float | None:
        """Parse a cell, with or without its unit; return None if it does not fit."""
        cell = parted(text)
        if cell is None or cell["before"] not in ("", self.before):
            return None
        if cell["after"] not in ("", self.after) or (
            cell["open"] and not self.brackets
        ):
            return None
        marks = [self.thousands]
        if not self.thousands:  # the fit may have had no number above 999
            marks += {".": [",", " ", "'"], ",": [".", " ", "'"]}[self.decimal]
        for mark in marks:
            if fits(cell, self.decimal, mark, most=len(text)):
                return value_of(cell, self.decimal, mark)
        return None

    def text(self, value: float) -> str:
        """Return a number, written as in the column."""
        size = abs(value)
        if self.places is None or isinstance(value, int):
            digits = f"{size:,}"
            digits = repr(size) if "e" in digits.lower() else digits
        else:
            digits = f"{size:,.{self.places}f}"
        if self.lakhs:
            digits = _in_lakhs(digits)
        below = value < 0 and any(digit in digits for digit in "123456789")
        marks = {",": self.mark or self.thousands, ".": self.decimal}
        digits = "".join(marks.get(mark, mark) for mark in digits)
        space = " " if len(self.before) > 1 and self.before.isalpha() else ""
        form = self.positive or f"{self.before}{space}#{self.after}"
        if below:
            sign = self._sign
            other = f"({form})" if self.brackets else sign + form.removeprefix("+")
            form = self.negative or other
        return form.replace("#", digits)

    def switched(self, decimal: str) -> Written:
        """Return a copy with another decimal mark, and a thousands separator to match.

        Examples
        --------
        >>> Written(",", ".", after="€").switched(".").text(1234.5)
        '1,234.5€'
        """
        if decimal == self.decimal:
            return self
        mark = {".": ",", ",": "."}.get(self.thousands, self.thousands)
        return replace(self, decimal=decimal, thousands=mark)

    @property
    def _sign(self) -> str:
        """The minus sign of the column."""
        found = MINUS.search(self.negative.replace("#", "0"))
        if found is not None:
            return found[0]
        return "\u2212" if self.minus else "-"

    @property
    def has_unit(self) -> bool:
        """Whether there is a currency or a unit."""
        return bool(self.before or self.after)

    def shaped(self, texts: Sequence[str], before: Written | None = None) -> Written:
        """Return a copy with the forms and the number of decimals of some cells.

        Plain numbers are written with all their digits, and without a form.

        Parameters
        ----------
        texts : sequence of str
        before : Written, optional
            How the column was written in another table. Its forms are used if these cells
            have none.

        Examples
        --------
        >>> way = Written(before="$", brackets=True).shaped(["$5.25", "$(3)"])
        >>> way.positive, way.negative, way.places
        ('$#', '$(#)', 2)
        """
        if not (self.has_unit or self.thousands or self.brackets or self.minus):
            return self
        forms: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        marks: Counter[str] = Counter()
        places: list[int | None] = []
        for text in texts[:SHAPES]:
            cell, at = parted(text), _DIGITS.search(plain(text))
            if cell is None or at is None:
                continue
            form = f"{text[: at.start()]}#{text[at.end() :]}"
            forms["-" in cell["sign"] + cell["second"] or bool(cell["open"])][form] += 1
            digits = zip(at[0], text[at.start() : at.end()], strict=True)
            marks.update(raw for digit, raw in digits if digit == self.thousands)
            behind = cell["digits"].partition(self.decimal)[2]
            places.append(None if cell["power"] else len(behind))
        positive, negative = (
            counts.most_common(1)[0][0] if counts else "" for counts in forms
        )
        mark = marks.most_common(1)[0][0] if marks else ""
        exact = [count for count in places if count is not None]
        most = max(exact) if len(exact) == len(places) > 0 else None
        if before is not None:
            if (before.before, before.after) == (self.before, self.after):
                positive = positive or before.positive
                negative = negative or before.negative
            if most is not None and before.places is not None:
                most = max(most, before.places)
        return replace(
            self,
            mark=mark if mark != self.thousands else "",
            positive=positive,
            negative=negative,
            places=most,
        )

    @property
    def says(self) -> str:
        """A clause that describes how the numbers were read."""
        marks = {",": "commas", ".": "points", " ": "spaces", "'": "apostrophes"}
        parts = []
        if self.decimal == ",":
            parts.append("decimal commas")
        if self.thousands:
            what = "lakhs and thousands" if self.lakhs else "thousands"
            parts.append(f"{marks[self.thousands]} between {what}")
        text = "read as numbers" + (f" with {' and '.join(parts)}" if parts else "")
        removed = [repr(word) for word in (self.before, self.after) if word]
        if removed:
            text += f", {' and '.join(removed)} removed"
        if self.brackets:
            text += ", negative in brackets"
        if self.minus:
            text += f", with minus signs (U+{ord(self._sign):04X})"
        return text if text != "read as numbers" else f"{text} with decimal points"

    def described(self) -> dict[str, object]:
        """Return it as plain values."""
        return asdict(self)


def restored(facts: Mapping[str, Any]) -> Written | Ends:
    """Return the object that `described` was called on.

    Examples
    --------
    >>> restored(Written(before="$").described()).before
    '$'
    """
    if "levels" in facts:
        return Ends(tuple(facts["levels"]))
    names = {field.name for field in fields(Written)}
    return Written(**{name: facts[name] for name in names & set(facts)})


def ways(texts: Sequence[str], like: Written | None = None) -> list[Written]:
    """Return the ways in which all cells of a column may be written, at most two.

    If the cells are ambiguous, the first way has a decimal point and the second a decimal
    comma.

    Parameters
    ----------
    texts : sequence of str
    like : Written, optional
        How the same column is written in another table. Cells may omit its unit and its
        brackets.

    Examples
    --------
    >>> [way.decimal for way in ways(["76,4", "181,60"])], ways(["1.2.2020"])
    ([','], [])
    >>> [way.thousands for way in ways(["1,234", "2,345"])]
    [',', '']
    >>> [way.decimal for way in ways(["35.5", "7.25 €"], Written(",", after="€"))]
    ['.']
    """
    cells: list[Mapping[str, str]] = []
    for text in texts:
        cell = parted(text)
        if cell is None or not _alike(cell, cells, like):
            return []
        cells.append(cell)
    bracketed = [bool(cell["open"]) for cell in cells]
    if not cells or (like is None and (are_codes(cells) or all(bracketed))):
        return []
    millions = any(_MILLIONS.match(cell["digits"]) for cell in cells)
    if millions and any(LAKHS.match(cell["digits"]) for cell in cells):
        return []
    seen = set("".join(cell["digits"] for cell in cells)) & set(".,' ")
    options = []
    for decimal in ".,":
        marks = seen - {decimal}
        mark = next(iter(marks), "")
        # 1234 beside 12,345 is accepted if the separator is known: some omit it there.
        most = 4 if mark == " " or (like and like.decimal == decimal) else 3
        if len(marks) <= 1 and all(fits(cell, decimal, mark, most) for cell in cells):
            way = Written(
                decimal,
                mark,
                max(cell["before"] for cell in cells),
                max(cell["after"] for cell in cells),
                any(bracketed),
                any(map(MINUS.search, texts)),
                lakhs=any(LAKHS.match(cell["digits"]) for cell in cells),
            )
            options.append(way)
    if len(options) == 2 and not seen & set(".,"):
        return [options[like is not None and like.decimal == ","]]
    if like is not None:
        return _with_like(options, texts, like)
    marked = [cell["digits"] for cell in cells if set(cell["digits"]) & set(".,")]
    # If only 1234 beside 12,345 contradicts a thousands separator, it is ambiguous.
    alone = len(options) == 1 and not options[0].thousands and "," in seen
    return [] if alone and all(map(_THREE.fullmatch, marked)) else options


def _with_like(
    options: list[Written], texts: Sequence[str], like: Written
) -> list[Written]:
    """Return the ways, with `like` added if it can read every cell."""
    if any(way.decimal == like.decimal for way in options):
        return options
    if any(like.number(text) is None for text in texts):
        return options
    return sorted([*options, like], key=lambda way: way.decimal == ",")


def _alike(
    cell: Mapping[str, str], others: Sequence[Mapping[str, str]], like: Written | None
) -> bool:
    """Return whether a cell has the unit of the first cell, or of another table's column."""
    if like is not None:
        return (
            cell["before"] in ("", like.before)
            and cell["after"] in ("", like.after)
            and (like.brackets or not cell["open"])
        )
    names = ("before", "after")
    return not others or all(cell[name] == others[0][name] for name in names)


def fixed_places(texts: Iterable[str], decimal: str) -> int | None:
    """Return the number of decimals of plain numbers if all have the same, at least 1.

    Examples
    --------
    >>> fixed_places(["0.10", "-2.25"], "."), fixed_places(["0.1", "2.25"], ".")
    (2, None)
    >>> fixed_places(["0,1", "2,5"], ","), fixed_places(["1.5e3", "2.5e3"], ".")
    (1, None)
    """
    lengths = set()
    for text in texts:
        _, _, behind = text.strip().partition(decimal)
        lengths.add(len(behind) if behind.isdecimal() else 0)
        if len(lengths) > 1:
            return None
    return lengths.pop() or None if lengths else None


def grouped(texts: Iterable[str]) -> bool:
    """Return whether some cells have no comma or point, so that others may be grouped.

    Numbers with decimals would have decimals in all cells, or of several lengths.

    Examples
    --------
    >>> grouped(["12", "1,234"]), grouped(["1,234", "5,678"])
    (True, False)
    """
    return any(not set(plain(text)) & set(".,") for text in texts)


def decimal_commas(texts: Iterable[str]) -> bool:
    """Return whether plain numbers have commas that can only be decimal commas.

    Examples
    --------
    >>> decimal_commas(["76,4", "5"]), decimal_commas(["1,234"]), decimal_commas(["01,5"])
    (True, False, True)
    """
    return any("," in text and not _SIGNED_THREE.fullmatch(text) for text in texts)


def padded(texts: Iterable[str]) -> bool:
    """Return whether a number has a leading zero, as codes have.

    Examples
    --------
    >>> padded(["5", "05"]), padded(["0", "0.5"])
    (True, False)
    """
    return any(map(_LEADING_ZERO.match, texts))


def dotted(texts: Iterable[str]) -> tuple[bool, bool]:
    """Return whether plain numbers have points, and whether one is certainly decimal.

    Examples
    --------
    >>> dotted(["1.234", "5"]), dotted(["1.5"]), dotted(["12"])
    ((True, False), (True, True), (False, False))
    """
    pointed = [text for text in texts if "." in text]
    return bool(pointed), not all(map(_DOTTED.fullmatch, pointed))


def unit(text: str) -> str:
    """Return the unit or the currency of a cell, or "".

    Examples
    --------
    >>> unit("12 kg"), unit("$5"), unit("5")
    ('kg', '$', '')
    """
    cell = parted(text)
    return "" if cell is None else cell["before"] or cell["after"]


def _in_lakhs(digits: str) -> str:
    """Return digits regrouped in pairs above the thousands, as lakhs and crores are."""
    whole, point, behind = digits.replace(",", "").partition(".")
    pairs = re.sub(r"(?<=[0-9])(?=(?:[0-9]{2})+$)", ",", whole[:-3])
    return f"{pairs},{whole[-3:]}{point}{behind}" if pairs else digits


def whole(texts: Iterable[str], way: Written) -> bool:
    """Return whether all cells are whole numbers.

    Examples
    --------
    >>> whole(["$1,000", "$5"], Written(thousands=",", before="$"))
    True
    """
    cells = [parted(text) for text in texts]
    return not any(
        cell is None or way.decimal in cell["digits"] or cell["power"] for cell in cells
    )
