"""Which chunk a start belongs to, and how wide the chunk is."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np


def span(number: int, width: int, edges: Sequence[int] = (0,)) -> tuple[int, int]:
    """Return the first start and the width of the chunk that contains a start.

    Examples
    --------
    >>> span(0, 16, (0, 1, 10)), span(4, 16, (0, 1, 10)), span(40, 16, (0, 1, 10))
    ((0, 1), (1, 9), (32, 16))
    """
    if number >= width:
        return int(number) // width * width, width
    place = bisect.bisect_right(edges, number)
    return edges[place - 1], [*edges, width][place] - edges[place - 1]


def chunked(
    numbers: np.ndarray, width: int, edges: Sequence[int] = (0,)
) -> list[np.ndarray]:
    """Return the sorted numbers in groups, one for each chunk.

    Examples
    --------
    >>> chunked(np.arange(7), 4, (0, 1))
    [array([0]), array([1, 2, 3]), array([4, 5, 6])]
    """
    firsts = np.asarray(edges)[np.searchsorted(edges, numbers, "right") - 1]
    firsts = np.where(numbers < width, firsts, numbers // width * width)
    return np.split(numbers, np.flatnonzero(np.diff(firsts)) + 1)
