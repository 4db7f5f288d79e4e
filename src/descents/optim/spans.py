"""Which chunk a start belongs to, and how wide the chunk is."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descents.errors import InvalidValueError


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


@dataclass(frozen=True)
class Shard:
    """One of several shares of the starts, each of whole chunks.

    Attributes
    ----------
    number : int
        From 1 to `count`.
    count : int

    Examples
    --------
    >>> [Shard(k, 2).starts(7, 2).tolist() for k in (1, 2)]
    [[0, 1, 4, 5], [2, 3, 6]]
    >>> str(Shard(1, 2))
    '1/2'
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.number <= self.count:
            raise InvalidValueError(
                f"the shard is {self.number}/{self.count}; give K/N with K from 1 to N, "
                "such as 3/10"
            )

    def starts(
        self, starts: int, width: int, edges: Sequence[int] = (0,)
    ) -> np.ndarray:
        """Return the numbers of the starts of this shard.

        The chunk of a start does not depend on which starts are requested, so the chunks of
        all shards together are those of one descent from all starts.

        Parameters
        ----------
        starts : int
            The number of all starts.
        width : int
        edges : sequence of int
            Those of the problem, see `chunked`.
        """
        chunks = chunked(np.arange(starts), width, edges)[self.number - 1 :: self.count]
        return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.int64)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
