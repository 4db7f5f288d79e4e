"""Levels as text, as numbers and as truth values, whatever their type and spelling.

Another table may write the same levels differently: the codes 01 and 10 as the numbers 1
and 10, yes and no as booleans, a date as a time.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np

from descents.tables.frames import short
from descents.tables.numeral_parts import MINUS

LARGEST = 2**53
"""Up to this number, float64 represents every whole number exactly."""


MOST_SHOWN = 10
"""Maximum number of levels that a message lists."""

_NUMBER = re.compile(
    r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE
)
_WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
WORDS = (("false", "true"), ("no", "yes"))
"""Words for false and true that have no other meaning."""
LETTERS = (("f", "t"), ("n", "y"))
"""Letters for false and true; one without the other may have another meaning."""

_TRUTHS = {word: bool(k) for pair in WORDS + LETTERS for k, word in enumerate(pair)}


def text_of(value: object) -> str:
    """Return a level as text: whole floats without a point, dates without a time of 0:00.

    Examples
    --------
    >>> text_of("01"), text_of(np.float64(10.0)), text_of(datetime.datetime(2021, 3, 1))
    ('01', '10', '2021-03-01')
    """
    value = plain(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return str(value).removesuffix(" 00:00:00")
    return str(value)


def shown(value: object) -> str:
    """Return a level for a message: text in quotes, numbers without.

    Examples
    --------
    >>> shown("red"), shown(np.float64(10.0)), shown(True)
    ("'red'", '10', 'True')
    """
    return repr(short(value)) if isinstance(value, str) else text_of(value)


def printed(value: object) -> str:
    r"""Return a level for a sentence, with control characters escaped.

    Examples
    --------
    >>> printed("low"), printed("\x1b[31mlow")
    ('low', '\\x1b[31mlow')
    """
    text = short(text_of(value))
    return text if text.isprintable() else repr(text)[1:-1]


def listed(levels: Iterable[object]) -> str:
    """Return a list of levels for a message, shortened if it is long.

    Examples
    --------
    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    levels = list(levels)
    more = f" and {len(levels) - MOST_SHOWN} more" if len(levels) > MOST_SHOWN else ""
    return ", ".join(map(shown, levels[:MOST_SHOWN])) + more


def plain(value: object) -> object:
    """Convert a numpy scalar to Python, a float32 to the shortest decimal that it prints.

    Examples
    --------
    >>> plain(np.float32(0.1)), plain(np.int64(3)), plain("x")
    (0.1, 3, 'x')
    """
    if isinstance(value, np.float32 | np.float16):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def number_of(value: object) -> int | float | None:
    """Return the number that a level represents, exactly if it is whole, or None.

    Examples
    --------
    >>> number_of("01"), number_of("1.50"), number_of(Decimal("3")), number_of("x")
    (1, 1.5, 3, None)
    """
    value = plain(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value if value.isascii() else MINUS.sub("-", value)
        if _WHOLE.fullmatch(value):
            return int(value) if len(value) < 1000 else None
        value = float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) else None


def truth_of(value: object) -> bool | None:
    """Return whether a level is true or false, or None if it is neither."""
    value = plain(value)
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().casefold())
    return value if isinstance(value, bool) else None


def truths_of(levels: Sequence[object]) -> list[bool | None]:
    """Return which of false and true each level is; all None if one of them is neither.

    Letters count only if both of a pair are levels: F and T, not F and M.
    """
    truths = list(map(truth_of, levels))
    words = {spelled(level) for level in levels}
    letters = any(len(word) == 1 for word in words)
    certain = not letters or any(words == set(pair) for pair in LETTERS)
    alike = None not in truths and len(set(truths)) == len(truths)
    return truths if alike and certain else [None] * len(truths)


def both(seen: Sequence[str], pair: tuple[str, str]) -> tuple[str, str]:
    """Return the two words of a pair; a missing one gets the case of the other.

    Examples
    --------
    >>> both(["NO"], ("no", "yes"))
    ('NO', 'YES')
    """
    texts = {text.lower(): text for text in reversed(seen)}
    first = seen[0]
    change = (
        str.upper if first.isupper() else str.title if first.istitle() else str.lower
    )
    false, true = (texts.get(word, change(word)) for word in pair)
    return false, true


def truth_among(level: object, others: Sequence[object]) -> object:
    """Return a level of false or true in the spelling of other levels: F beside T.

    Returns
    -------
    object
        None if the level is neither false nor true, or the others are not.

    Examples
    --------
    >>> truth_among("no", ["T"]), truth_among("no", [1]), truth_among("low", ["T"])
    ('F', 0, None)
    """
    truth = truth_of(level)
    if truth is None:
        return None
    if others and all(number_of(other) in (0, 1) for other in others):
        return int(truth)
    texts = [other for other in others if isinstance(other, str)]
    for pair in WORDS + LETTERS:
        seen = [text for text in texts if spelled(text) in pair]
        if seen and len(seen) == len(others):
            return both(seen, pair)[truth]
    return None


def day_of(value: object) -> datetime.datetime | None:
    """Return a date, a time, or ISO text of one, as a time."""
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    return None


def spelled(value: object) -> str:
    """Return text in a form that ignores case and spaces.

    Examples
    --------
    >>> spelled("  Strongly   Agree")
    'strongly agree'
    """
    return " ".join(text_of(value).casefold().split())
