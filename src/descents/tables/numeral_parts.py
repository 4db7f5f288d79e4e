"""The parts of a cell that is a number: sign, currency, digits, exponent and unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

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
"""Words after numbers that are always read as units."""
NO_UNITS = frozenset(
    "th st nd rd e er ère eme ème re o º ª a am pm AM PM a.m. p.m. Uhr uhr".split()  # noqa: SIM905
)
"""Words after numbers that mark ordinal numbers or times, not quantities."""

_SPACES = re.compile("[\u00a0\u2007\u2009\u202f]")
MINUS = re.compile(
    "\u2212|(?<![\\w.,)\\]%])[\u2013\ufe63\uff0d](?= ?[0-9.,$\u00a2-\u00a5\u20a0-\u20cf])"
)
"""Minus signs other than that of ASCII; a dash is one only where a number begins."""
MONEY = (
    r"(?:[A-Z]{0,3}[$\u00a2-\u00a5\u20a0-\u20cf\u0e3f]|" + "|".join(CURRENCIES) + ")"
)
_WORD = r"[A-Za-zÀ-ÖØ-öø-žµμĀ-ſΑ-ωА-я]"
_CELL = re.compile(
    rf"(?P<open>\()?(?P<sign>[+-])? ?(?P<before>{MONEY})? ?(?P<second>[+-])?"
    r"(?P<digits>[.,]?[0-9](?:[0-9.,' ]*[0-9])?[.,]?)(?P<power>[eE][+-]?[0-9]+)?"
    rf"(?P<space> ?)(?P<after>{MONEY}|[%‰]|°[A-Z]?|{_WORD}+(?:[./]{_WORD}*)?[²³]?)?"
    r"(?P<close>\))?"
)
_BRACKETS = re.compile(rf"({MONEY}) ?\(([^()]*)\)")  # $(5.00)
LAKHS = re.compile(r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}")
"""Digits grouped in pairs above the thousands, as in 12,34,567."""

Matcher = Callable[[str], re.Match[str] | None]


def plain(text: str) -> str:
    """Return a cell with all spaces, minus signs and apostrophes replaced by ASCII.

    Examples
    --------
    >>> plain("\u22125\u202f000")
    '-5 000'
    """
    if text.isascii():
        return text
    text = MINUS.sub("-", _SPACES.sub(" ", text))
    return text.replace("\u2019", "'")


def parted(text: str) -> dict[str, str] | None:
    """Split a cell into sign, currency, digits, exponent and unit; None if impossible."""
    text = plain(text)
    if "(" in text:
        text = _BRACKETS.sub(r"(\1\2)", text)
    match = _CELL.fullmatch(text)
    if match is None:
        return None
    cell = match.groupdict("")
    signs = cell["sign"] + cell["second"]
    if len(signs) > 1 or bool(cell["open"]) != bool(cell["close"]):
        return None
    if cell["open"] and signs:
        return None
    if cell["before"] and cell["after"] not in ("", "%"):
        return None
    return cell


def are_codes(cells: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a column has codes, ordinals, times or addresses, not quantities."""
    unit = cells[0]["after"]
    digits = [cell["digits"] for cell in cells]
    exact = any(set(text) & set(".,") for text in digits)
    money = cells[0]["before"] or re.fullmatch(MONEY, unit)
    if unit and not money and unit not in UNITS:
        spaced = all(cell["space"] for cell in cells)
        if unit in NO_UNITS or not (exact or (spaced and unit.islower())):
            return True
    if unit == "s" and all(len(text) == 4 and text[-1] == "0" for text in digits):
        return True  # decades, such as the 1990s
    if unit or money:
        return False
    parts = [re.split(r"[.,' ]", text) for text in digits]
    if all(len(groups) == 4 for groups in parts) and "." in digits[0]:
        return True  # IP addresses
    # Telephone numbers and similar numbers.
    dialed = all(len(groups) > 2 and len(groups[0]) == 3 for groups in parts)
    plus = any(cell["sign"] == "+" for cell in cells) and any(" " in d for d in digits)
    return (dialed and all("," not in text for text in digits)) or plus


@cache
def _patterns(decimal: str, mark: str) -> tuple[Matcher, Matcher]:
    """Return functions that match digits without and with thousands separators."""
    point, between = re.escape(decimal), re.escape(mark)
    single = re.compile(rf"(0|[1-9][0-9]*)?(?:{point}[0-9]*)?")
    groups = rf"(?:[1-9][0-9]{{0,2}}(?:{between}[0-9]{{3}})+)"
    if mark == ",":
        groups = rf"(?:{groups}|{LAKHS.pattern})"
    groups += rf"(?:{point}[0-9]*)?"
    return single.fullmatch, re.compile(groups).fullmatch


def fits(cell: Mapping[str, str], decimal: str, mark: str, most: int) -> bool:
    """Return whether the digits of a cell fit a decimal mark and a thousands separator.

    Without a separator, there may be at most `most` digits before the decimal mark.
    """
    single, groups = _patterns(decimal, mark)
    match = single(cell["digits"])
    if match:
        return not mark or len(match[1] or "") <= most
    return bool(mark) and not cell["power"] and groups(cell["digits"]) is not None


def value_of(cell: Mapping[str, str], decimal: str, mark: str) -> float:
    """Return the number in a cell, given its decimal mark and thousands separator."""
    digits = cell["digits"].replace(mark, "") if mark else cell["digits"]
    number = float(digits.replace(decimal, ".") + cell["power"])
    negative = "-" in (cell["sign"], cell["second"]) or cell["open"]
    return -number if negative else number
