"""The ends of intervals as they are written: few digits, rounded outward.

How many digits an end needs depends on the width of its interval, not on its size: a
column of numbers near a million may have intervals that are narrower than 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import numpy as np

from descents.tables.numerals import Written

DIGITS = 4
"""Significant digits of the width to which ends are rounded."""
_EXACT = Context(prec=1200)
"""Float64 numbers have at most 1075 digits."""


def outward(
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    whole: bool = False,
    written: object = None,
) -> tuple[list[object], list[object]]:
    """Return the ends of intervals, rounded so that the intervals grow.

    Parameters
    ----------
    lower, upper : float64 ndarray of shape (cells,)
    whole : bool
        Whether the cells are whole numbers, so that the ends are too.
    written : Written, optional
        How the cells of the column are written; the ends are then text in the same form.

    Examples
    --------
    >>> outward(np.array([1e6 - 0.123456]), np.array([1e6 + 0.1]))
    ([999999.8765], [1000000.1])
    >>> outward(np.array([1.2]), np.array([1.4]), whole=True)
    ([1], [2])
    >>> outward(np.array([1.2]), np.array([1.4]), written=Written(before="$"))
    (['$1.2000'], ['$1.4000'])
    """
    found: tuple[list[object], list[object]] = [], []
    for low, high in zip(lower.tolist(), upper.tolist(), strict=True):
        places = 0 if whole else decimals(low, high)
        for ends, end, rounding in zip(
            found, (low, high), (ROUND_FLOOR, ROUND_CEILING), strict=True
        ):
            ends.append(_end(end, places, rounding, whole, written))
    return found


def decimals(low: float, high: float) -> int | None:
    """Return the number of decimals that the ends of an interval need; None for all.

    It is negative if zeros before the point are enough.

    Examples
    --------
    >>> decimals(1e6, 1e6 + 0.25), decimals(0, 9e6), decimals(1, 1)
    (4, -3, None)
    """
    width = high - low
    if not (0 < width < math.inf):
        return None
    return DIGITS - 1 - math.floor(math.log10(width))


def _end(
    end: float, places: int | None, rounding: str, whole: bool, written: object
) -> object:
    """Return one end, rounded to a number of decimals."""
    if places is not None:
        step = Decimal(1).scaleb(-places)
        exact = Decimal(repr(end)).quantize(step, rounding=rounding, context=_EXACT)
        end = int(exact) if whole and abs(exact) < 2**63 else float(exact)
    if not isinstance(written, Written):
        return end
    if isinstance(end, float) and places is not None:
        written = replace(written, places=max(places, 0))
    return written.text(end)


def shown(numbers: Sequence[float]) -> list[str]:
    """Return numbers for a message, with as many digits as tell them from each other.

    Examples
    --------
    >>> shown([1e9 + 0.25, 1e9 + 0.5]), shown([0.1234567, 2e9])
    (['1000000000.25', '1000000000.5'], ['0.123457', '2e+09'])
    """
    low, high = float(min(numbers)), float(max(numbers))
    width, most = high - low, max(-low, high)  # infinite without a warning
    digits = 6
    if 0 < width < math.inf:
        digits = min(max(digits, math.ceil(math.log10(most / width)) + 3), 17)
    return [f"{x:.{digits}g}" for x in numbers]
