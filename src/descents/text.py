"""Words and characters in messages."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)


UNJUDGED = "not diagnosed"
"""The verdict of a start that was not diagnosed."""


def visible(text: str) -> str:
    r"""Return a text with its control characters escaped, except for line ends.

    A terminal executes control characters, and those that change the direction of
    writing make one text look like another. Neither may reach a terminal from a file. A
    name that is not UTF-8 has surrogates, which no stream and no file can encode.

    Examples
    --------
    >>> visible("a\x1b[2Jb\n")
    'a\\x1b[2Jb\n'
    """
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The first characters of a cell that a spreadsheet may compute or execute."""
_PLAIN_NUMBER = re.compile(
    r"[+-]\s?[$€£¥]?\s?[0-9.,'\s]*[0-9]\.?(e[+-]?[0-9]+)?\s?%?", re.IGNORECASE
)


def without_formula(cell: str) -> str:
    """Return a cell of CSV text that no spreadsheet takes for a formula.

    Text that begins with =, +, -, @, a tab or a carriage return gets a single quote in
    front, as OWASP advises. Numbers are returned unchanged.

    Examples
    --------
    >>> without_formula("=1+1"), without_formula("-1.5"), without_formula("-x")
    ("'=1+1", '-1.5', "'-x")
    """
    if not cell.startswith(_FORMULA) or _PLAIN_NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a count followed by its noun, in the singular or the plural.

    Examples
    --------
    >>> counted(1, "start"), counted(2, "start"), counted(0, "class", "classes")
    ('1 start', '2 starts', '0 classes')
    """
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


MOST_DIGITS = 6
"""The largest number of significant digits, for values whose spread is only rounding."""
MOST_DECIMALS = 6
"""Numbers that need more decimals than this are written with an exponent."""


def in_rounds(rounds: int) -> str:
    """Return in how many rounds cells were hidden, as it follows a noun.

    Examples
    --------
    >>> in_rounds(10), in_rounds(1)
    (' in 10 rounds', '')
    """
    return f" in {rounds} rounds" if rounds > 1 else ""


def decimals(error: float | None, resolution: float | None = None) -> int | None:
    """Return how many decimals of a number its data support.

    The last decimal is that of the first significant digit of the standard error: with an
    error of 0.0025 a mean has three decimals. Without an error, as for a single start, it
    is that of the smallest step of the number: an accuracy on 50 rows moves in steps of
    0.02 and has two. A mean has at most one more, however many starts there are.

    Parameters
    ----------
    error : float or None
        The standard error of the number.
    resolution : float or None
        The smallest step by which the number can change.

    Returns
    -------
    int or None
        Negative if not even the last digit before the point is supported; None if neither
        the error nor the step is known.

    Examples
    --------
    >>> decimals(0.0025), decimals(0.031), decimals(12.0), decimals(None, 1 / 50)
    (3, 2, -1, 2)
    >>> decimals(0.00004, 1 / 50)
    3
    >>> decimals(0.0) is None
    True
    """
    found = [
        # The margin keeps 0.001 at three decimals in spite of rounding.
        -math.floor(math.log10(scale) + 1e-9)
        if scale is not None and 0 < scale < math.inf
        else None
        for scale in (error, resolution)
    ]
    of_error, of_step = found
    if of_error is None or of_step is None:
        return of_step if of_error is None else of_error
    return min(of_error, of_step + 1)


def decimals_of(
    interval: Sequence[float | None] | None, resolution: float | None = None
) -> int | None:
    """Return how many decimals of a number its 95% interval supports.

    The standard error is about a quarter of the interval; see `decimals`.

    Examples
    --------
    >>> decimals_of([0.948, 0.958]), decimals_of([None, None], 0.02), decimals_of(None)
    (3, 2, None)
    """
    low, high = interval or (None, None)
    error = None if low is None or high is None else (high - low) / 4
    return decimals(error, resolution)


def p_text(p_value: float | None) -> str:
    """Return a p-value with its letter, as in a sentence.

    Examples
    --------
    >>> p_text(0.0123), p_text(0.0001), p_text(0.3), p_text(None)
    ('p 0.012', 'p < 0.001', 'p 0.3', 'p not known')
    """
    if p_value is None or math.isnan(p_value):
        return "p not known"
    return "p < 0.001" if p_value < 0.001 else f"p {p_value:.2g}"


def rounded(value: float | None, places: int | None, sign: bool = False) -> str:
    """Return a number as text with a number of decimals, see `decimals`.

    Parameters
    ----------
    value : float or None
    places : int or None
        None gives four significant digits.
    sign : bool
        Whether positive numbers have a sign too.

    Examples
    --------
    >>> rounded(0.95312, 3), rounded(-0.0004, 2), rounded(1234.5, -1), rounded(None, 2)
    ('0.953', '0.00', '1234', 'not known')
    >>> rounded(0.1 + 0.1, 17), rounded(1234567.8, 2)
    ('0.2', '1.23457e+06')
    >>> rounded(0.95312, None), rounded(3.27e-9, 10), rounded(0.5, 1, sign=True)
    ('0.9531', '3.3e-09', '+0.5')
    """
    if value is None or math.isnan(value):
        return "not known"
    mark = "+" if sign else ""
    if places is None:
        return f"{value:{mark}.4g}"
    if value != 0:
        digits = places + 1 + math.floor(math.log10(abs(value)))
        tiny = abs(value) < 10.0 ** (1 - MOST_DECIMALS)
        if digits > MOST_DIGITS or (places > MOST_DECIMALS and tiny):
            return f"{value:{mark}.{min(max(1, digits), MOST_DIGITS)}g}"
    elif places > MOST_DECIMALS:
        return "0"
    text = f"{value:{mark}.{max(0, places)}f}"
    zero = float(text) == 0 and text[0] in "+-"
    return text[1:] if zero else text


def small(value: float | None, places: int | None, sign: bool = False) -> str:
    """Return a number with some decimals; one that would be 0 has one digit.

    Examples
    --------
    >>> small(0.00004, 3), small(0.0, 3), small(0.1234, 3)
    ('4e-05', '0.000', '0.123')
    """
    text = rounded(value, places, sign)
    if value and math.isfinite(value) and not any(c in "123456789" for c in text):
        return f"{value:{'+' if sign else ''}.1g}"
    return text


def joined(names: Sequence[str], word: str = "and") -> str:
    """Return names as a list in a sentence.

    Examples
    --------
    >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"], "or")
    ('a', 'a and b', 'a, b or c')
    """
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def percent(confidence: float) -> str:
    """Return a confidence as a percentage.

    Examples
    --------
    >>> percent(0.9), percent(1 - 0.1 / 3)
    ('90%', '96.7%')
    """
    return f"{100 * confidence:.3g}%"


LONGEST_VALUE, LONGEST_LINE = 40, 200
"""The most characters of a value, and of a result, in its `repr`."""


class OneLine:
    """Base class of dataclasses whose `repr` is one line, with arrays by their shape.

    Examples
    --------
    >>> import numpy as np
    >>> @dataclasses.dataclass
    ... class Found(OneLine):
    ...     loss: float
    ...     points: np.ndarray
    >>> Found(0.5, np.zeros((100, 2)))
    Found(loss=0.5, points=array of shape (100, 2))
    """

    def __init_subclass__(cls) -> None:
        """Let the class keep this `repr`, which `dataclass` would replace."""
        super().__init_subclass__()
        if "__repr__" not in vars(cls):
            cls.__repr__ = OneLine.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Return the class, and its fields as short texts."""
        named: tuple[dataclasses.Field[object], ...] = ()
        if dataclasses.is_dataclass(self):
            named = dataclasses.fields(self)
        parts = [
            f"{f.name}={shortened(getattr(self, f.name))}" for f in named if f.repr
        ]
        text = f"{type(self).__name__}({', '.join(parts)})"
        return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 5]} ...)"


def shortened(value: object) -> str:
    """Return a value as one short text, for messages and summaries.

    Examples
    --------
    >>> len(shortened("a" * 1000)) < 100, shortened(3), shortened([0] * 9)
    (True, '3', 'list of 9')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"array of shape {tuple(map(int, shape))}"
    if isinstance(value, dict | list | tuple) and len(value) > 5:
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value)
    if len(text) <= LONGEST_VALUE and "\n" not in text:
        return text
    if isinstance(value, dict | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, str):
        return f"{text[: LONGEST_VALUE - 4]}...{text[-1]}"
    return f"<{type(value).__name__}>"
