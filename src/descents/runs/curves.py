"""Which points of which curves are drawn on a page."""

from __future__ import annotations

import numpy as np

MOST_CURVES = 1000
"""Maximum number of curves in a figure; failed starts are always drawn."""

CURVE_POINTS = 32
"""Maximum number of points of a curve."""


def thinned(count: int) -> np.ndarray:
    """Return at most `CURVE_POINTS` of the places 0 to count - 1, with both ends.

    Examples
    --------
    >>> thinned(3), len(thinned(1000)), int(thinned(1000)[-1])
    (array([0, 1, 2]), 32, 999)
    """
    places = np.linspace(0, count - 1, min(count, CURVE_POINTS)).round()
    return np.unique(places).astype(np.int64)


def drawn_starts(failed: np.ndarray, most: int = MOST_CURVES) -> np.ndarray:
    """Return the starts whose curves are drawn: all failed ones, and others up to `most`.

    The others are taken at even distances in the order of their numbers.

    Examples
    --------
    >>> drawn_starts(np.array([False, True, False, False, False]), most=3)
    array([0, 1, 4])
    """
    bad, good = np.flatnonzero(failed), np.flatnonzero(~failed)
    room = max(0, most - len(bad))
    if len(good) > room:
        good = good[np.linspace(0, len(good) - 1, room).round().astype(np.int64)]
    return np.sort(np.concatenate([bad, good]))
