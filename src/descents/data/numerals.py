"""How the numbers in a text file are written: decimal commas, thousands, units, money.

A column is read as numbers only if all its cells are written in one way. Dates, times,
codes with leading zeros, versions and telephone numbers do not become numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

CURRENCIES = frozenset(
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR "  # noqa: SIM905
    "ISK JPY KES KRW MAD MXN MYR NGN NOK NZD PEN PHP PKR PLN QAR RON RSD RUB SAR SEK "
    "SGD THB TRY TWD UAH USD VND ZAR".split()
)
UNITS = frozenset(
    "% ‰ ° °C °F °K kg g mg µg μg ug ng lb lbs oz st. km m cm mm µm μm nm mi ft in yd "  # noqa: SIM905
    "l L dl dL cl ml mL µl μl gal h hr hrs min sec s ms µs μs ns day days week weeks "
    "month months year years yr yrs d Hz kHz MHz GHz W kW MW GW Wh kWh MWh GWh V mV kV "
    "mA kJ MJ cal kcal kN Pa hPa kPa MPa bar mbar psi mmHg kB KB MB GB TB KiB MiB GiB "
    "bit kbit Mbit px pt pp dB ppm ppb mol mmol bpm rpm mph kph km/h m/s m² m³ cm² cm³ "
    "km² ha mg/dL mg/dl mmol/L mmol/l g/L g/l g/dL kg/m² k x bn Mio Mrd Tsd pcs kr kr. "
    "zł Kč Ft lei лв руб ₽".split()
)
"""Words behind numbers that are read as units wherever they stand."""
NO_UNITS = frozenset(
    "th st nd rd e er ère eme ème re o º ª a am pm AM PM a.m. p.m. Uhr uhr".split()  # noqa: SIM905
)
"""Words behind numbers that say which one it is, or what time, not how much."""

_SPACES = re.compile("[\u00a0\u2007\u2009\u202f]")
_MONEY = (
    r"(?:[A-Z]{0,3}[$\u00a2-\u00a5\u20a0-\u20cf\u0e3f]|" + "|".join(CURRENCIES) + ")"
)
_WORD = r"[A-Za-zÀ-ÖØ-öø-žµμĀ-ſΑ-ωА-я]"
_CELL = re.compile(
    rf"(?P<open>\()?(?P<sign>[+-])? ?(?P<before>{_MONEY})? ?(?P<second>[+-])?"
    r"(?P<digits>[.,]?[0-9](?:[0-9.,' ]*[0-9])?[.,]?)(?P<power>[eE][+-]?[0-9]+)?"
    rf"(?P<space> ?)(?P<after>{_MONEY}|[%‰]|°[A-Z]?|{_WORD}+(?:[./]{_WORD}*)?[²³]?)?"
    r"(?P<close>\))?"
)
_BRACKETS = re.compile(rf"({_MONEY}) ?\(([^()]*)\)")  # $(5.00)
_OPEN_END = re.compile(
    r"(?P<below>[<≤] ?=? ?)?(?P<above>[>≥] ?=? ?)?([0-9]+)(?P<plus> ?\+)?"
)
_THREE = re.compile(r"[1-9][0-9]{0,2},[0-9]{3}")
_SIGNED_THREE = re.compile(rf"[+-]?{_THREE.pattern}")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_DOTTED = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}")
"""A number that may as well have a mark between thousands."""


def plain(text: str) -> str:
    """Return a cell with one kind of spaces, of minus signs and of apostrophes.

    Examples
    --------
    >>> plain("\u22125\u202f000")
    '-5 000'
    """
    if text.isascii():
        return text
    text = _SPACES.sub(" ", text).replace("\u2212", "-")
    return text.replace("\u2019", "'")


@dataclass(frozen=True)
class Written:
    """How the numbers of a column are written.

    Attributes
    ----------
    decimal : {".", ","}
    thousands : str
        The mark between thousands, or "".
    before, after : str
        Money or a unit before or behind the number, or "".
    brackets : bool
        Whether numbers in round brackets are negative.
    minus : bool
        Whether there are minus signs of their own, U+2212.
    gap : str
        What stands between a number and what is behind it.

    Examples
    --------
    >>> Written(",", ".", after="€").number("-1.234,50 €"), Written(before="$").text(-5.5)
    (-1234.5, '-$5.5')
    """

    decimal: str = "."
    thousands: str = ""
    before: str = ""
    after: str = ""
    brackets: bool = False
    minus: bool = False
    gap: str = ""

    def number(self, text: str) -> float | None:
        """Return the number of a cell, with or without its unit, or None."""
        cell = _parted(text)
        if cell is None or cell["before"] not in ("", self.before):
            return None
        if cell["after"] not in ("", self.after) or (
            cell["open"] and not self.brackets
        ):
            return None
        marks = [self.thousands]
        if not self.thousands:  # where the fit had no number above 999
            marks += {".": [",", " ", "'"], ",": [".", " ", "'"]}[self.decimal]
        for mark in marks:
            if _fits(cell, self.decimal, mark):
                return _value(cell, self.decimal, mark)
        return None

    def text(self, value: float) -> str:
        """Return a number as it is written in the column."""
        digits = f"{value:,}" if self.thousands else f"{value!r}"
        if isinstance(value, float) and "e" in digits.lower():
            digits = repr(value)
        sign = "-" if digits.startswith("-") else ""
        digits = digits.removeprefix("-")
        marks = {",": self.thousands, ".": self.decimal}
        digits = "".join(marks.get(mark, mark) for mark in digits)
        space = " " if len(self.before) > 1 and self.before.isalpha() else ""
        return f"{sign}{self.before}{space}{digits}{self.gap}{self.after}"

    @property
    def says(self) -> str:
        """What was done to read the numbers."""
        marks = {",": "commas", ".": "points", " ": "spaces", "'": "apostrophes"}
        parts = []
        if self.decimal == ",":
            parts.append("decimal commas")
        if self.thousands:
            parts.append(f"{marks[self.thousands]} between thousands")
        text = "read as numbers" + (f" with {' and '.join(parts)}" if parts else "")
        removed = [repr(one) for one in (self.before, self.after) if one]
        if removed:
            text += f", {' and '.join(removed)} removed"
        if self.brackets:
            text += ", negative in brackets"
        if self.minus:
            text += ", with minus signs (U+2212)"
        return text

    def described(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Ends:
    """Levels of a column of whole numbers, of which the first or last is an open end.

    Attributes
    ----------
    levels : tuple of str
        In order.
    """

    levels: tuple[str, ...]

    @property
    def says(self) -> str:
        """What was done to read the levels."""
        ends = [repr(x) for x in (self.levels[0], self.levels[-1]) if not x.isdigit()]
        what = "an open end" if len(ends) == 1 else "open ends"
        return (
            f"read as {len(self.levels)} ordered levels, as {' and '.join(ends)} "
            f"{'is' if len(ends) == 1 else 'are'} {what} (--missing MARK for a missing "
            "cell instead)"
        )

    def described(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"levels": list(self.levels)}


def restored(facts: Mapping[str, Any]) -> Written | Ends:
    """Return what `described` described.

    Examples
    --------
    >>> restored(Written(before="$").described()).before
    '$'
    """
    return Ends(tuple(facts["levels"])) if "levels" in facts else Written(**facts)


def ways(texts: Sequence[str]) -> list[Written]:
    """Return the ways in which all cells of a column may be written, at most two.

    Two ways, of which the first has a decimal point and the second a decimal comma,
    where the cells leave open which of both it is.

    Examples
    --------
    >>> [way.decimal for way in ways(["76,4", "181,60"])], ways(["1.2.2020"])
    ([','], [])
    >>> [way.thousands for way in ways(["1,234", "2,345"])]
    [',', '']
    """
    cells: list[Mapping[str, str]] = []
    for text in texts:
        cell = _parted(text)
        if cell is None or (cells and not _alike(cell, cells[0])):
            return []
        cells.append(cell)
    if not cells or _codes(cells):
        return []
    brackets = [bool(cell["open"]) for cell in cells]
    if all(brackets):
        return []
    found = []
    seen = set("".join(cell["digits"] for cell in cells)) & set(".,' ")
    for decimal in ".,":
        marks = seen - {decimal}
        mark = next(iter(marks), "")
        if len(marks) <= 1 and all(_fits(cell, decimal, mark) for cell in cells):
            found.append(
                Written(
                    decimal,
                    mark,
                    cells[0]["before"],
                    cells[0]["after"],
                    any(brackets),
                    any("\u2212" in text for text in texts),
                    cells[0]["space"] if cells[0]["after"] else "",
                )
            )
    if len(found) == 2 and not seen & set(".,"):
        return found[:1]
    marked = [cell["digits"] for cell in cells if set(cell["digits"]) & set(".,")]
    if len(found) == 1 and not found[0].thousands and "," in seen:
        # All that speaks against thousands is 1234 beside 12,345: it is left open.
        return found if not all(map(_THREE.fullmatch, marked)) else []
    return found


def grouped(texts: Iterable[str]) -> bool:
    """Return whether some cells have a mark and others, below 1000, do without.

    Numbers with decimals would have them everywhere, or of several lengths.

    Examples
    --------
    >>> grouped(["12", "1,234"]), grouped(["1,234", "5,678"])
    (True, False)
    """
    return any(not set(plain(text)) & set(".,") for text in texts)


def decimal_commas(texts: Iterable[str]) -> bool:
    """Return whether plain numbers with commas leave no doubt that these are decimal.

    Examples
    --------
    >>> decimal_commas(["76,4", "5"]), decimal_commas(["1,234"]), decimal_commas(["01,5"])
    (True, False, False)
    """
    if any(map(_LEADING_ZERO.match, texts)):
        return False
    return any("," in text and not _SIGNED_THREE.fullmatch(text) for text in texts)


def dotted(texts: Iterable[str]) -> tuple[bool, bool]:
    """Return whether plain numbers have points, and whether one is a decimal for sure.

    Examples
    --------
    >>> dotted(["1.234", "5"]), dotted(["1.5"]), dotted(["12"])
    ((True, False), (True, True), (False, False))
    """
    pointed = [text for text in texts if "." in text]
    return bool(pointed), not all(map(_DOTTED.fullmatch, pointed))


def open_ends(texts: Sequence[str], most: int) -> Ends | None:
    """Return the ordered levels of whole numbers with an open end, as 10+ or <5.

    Parameters
    ----------
    most : int
        With more levels than this there is no order of levels.

    Examples
    --------
    >>> open_ends(["3", "10+", "2"], 20).levels
    ('2', '3', '10+')
    """
    if not 3 <= len(texts) <= most:
        return None
    keys: dict[str, tuple[int, int]] = {}
    ends = {-1: 0, 1: 0}
    for text in texts:
        found = _OPEN_END.fullmatch(text)
        if not found or (len(found[3]) > 1 and found[3][0] == "0"):
            return None
        signs = [found["below"], found["above"], found["plus"]]
        if sum(sign is not None for sign in signs) > 1:
            return None
        side = -1 if found["below"] else int(any(signs[1:]))
        if side:
            ends[side] += 1
        keys[text] = (int(found[3]), side)
    if not any(ends.values()) or max(ends.values()) > 1:
        return None
    order = sorted(keys, key=lambda text: keys[text])
    inner = [text for text in order if keys[text][1] == 0]
    if order != [
        *(text for text in order if keys[text][1] < 0),
        *inner,
        *(text for text in order if keys[text][1] > 0),
    ]:
        return None  # numbers beyond the end
    return Ends(tuple(order)) if inner else None


def is_open(text: str) -> bool:
    """Return whether a cell is an open end, as 10+ or <0.5.

    Examples
    --------
    >>> is_open("10+"), is_open("<0.5"), is_open("5")
    (True, True, False)
    """
    return re.fullmatch(r"[<>≤≥]=? ?[0-9.,]+|[0-9.,]+ ?\+", text) is not None


def unit(text: str) -> str:
    """Return the unit or the money of a cell, or "".

    Examples
    --------
    >>> unit("12 kg"), unit("$5"), unit("5")
    ('kg', '$', '')
    """
    cell = _parted(text)
    return "" if cell is None else cell["before"] or cell["after"]


# The parts of a cell


def _parted(text: str) -> dict[str, str] | None:
    """Return the parts of a cell that is a number and no more than that."""
    text = plain(text)
    if "(" in text:
        text = _BRACKETS.sub(r"(\1\2)", text)
    found = _CELL.fullmatch(text)
    if found is None:
        return None
    cell = found.groupdict("")
    signs = cell["sign"] + cell["second"]
    if len(signs) > 1 or bool(cell["open"]) != bool(cell["close"]):
        return None
    if cell["open"] and signs:
        return None
    if cell["before"] and cell["after"] not in ("", "%"):
        return None
    return cell


def _alike(cell: Mapping[str, str], first: Mapping[str, str]) -> bool:
    return cell["before"] == first["before"] and cell["after"] == first["after"]


def _codes(cells: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a column is of codes, places, times or addresses instead."""
    unit = cells[0]["after"]
    digits = [cell["digits"] for cell in cells]
    exact = any(set(text) & set(".,") for text in digits)
    money = cells[0]["before"] or re.fullmatch(_MONEY, unit)
    if unit and not money and unit not in UNITS:
        spaced = all(cell["space"] for cell in cells)
        if unit in NO_UNITS or not (exact or (spaced and unit.islower())):
            return True
    if unit == "s" and all(len(text) == 4 and text[-1] == "0" for text in digits):
        return True  # decades, as the 1990s
    if unit or money:
        return False
    parts = [re.split(r"[.,' ]", text) for text in digits]
    if all(len(groups) == 4 for groups in parts) and "." in digits[0]:
        return True  # addresses of computers
    # Telephone numbers, and others that are called and not counted.
    called = all(len(groups) > 2 and len(groups[0]) == 3 for groups in parts)
    plus = any(cell["sign"] == "+" for cell in cells) and any(" " in d for d in digits)
    return (called and all("," not in text for text in digits)) or plus


@cache
def _patterns(decimal: str, mark: str) -> tuple[Any, Any]:
    """Return what matches digits without and with marks between thousands."""
    point, between = re.escape(decimal), re.escape(mark)
    single = re.compile(rf"(0|[1-9][0-9]*)?(?:{point}[0-9]*)?")
    groups = rf"[1-9][0-9]{{0,2}}(?:{between}[0-9]{{3}})+(?:{point}[0-9]*)?"
    return single.fullmatch, re.compile(groups).fullmatch


def _fits(cell: Mapping[str, str], decimal: str, mark: str) -> bool:
    """Return whether the digits of a cell are written so."""
    single, groups = _patterns(decimal, mark)
    found = single(cell["digits"])
    if found:
        most = 3 + (mark == " ")  # 1234 beside 12 345
        return not mark or len(found[1] or "") <= most
    return bool(mark) and not cell["power"] and groups(cell["digits"]) is not None


def _value(cell: Mapping[str, str], decimal: str, mark: str) -> float:
    digits = cell["digits"].replace(mark, "") if mark else cell["digits"]
    number = float(digits.replace(decimal, ".") + cell["power"])
    negative = "-" in (cell["sign"], cell["second"]) or cell["open"]
    return -number if negative else number


def whole(texts: Iterable[str], way: Written) -> bool:
    """Return whether no cell has decimals.

    Examples
    --------
    >>> whole(["$1,000", "$5"], Written(thousands=",", before="$"))
    True
    """
    cells = [_parted(text) for text in texts]
    return not any(
        cell is None or way.decimal in cell["digits"] or cell["power"] for cell in cells
    )
