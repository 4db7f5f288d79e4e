"""How many chunks of starts go side by side, tried once on the work itself."""

from __future__ import annotations

from collections.abc import Hashable

import torch

from descents.devices import processors, remote
from descents.optim.problem import Parallel, Problem
from descents.optim.rules import UpdateRule

MOST_ENTRIES = 2**25
"""How many numbers chunks side by side keep at most in their largest tensors together, of
which each has several."""
WORTH = 1.1
"""Several threads are taken where they do at least so many times as much as one."""

_known: dict[Hashable, int] = {}
"""What was found before in this process."""


class Pace:
    """How many threads do the chunks of a descent, each on one of its own.

    As many as are asked for. Else as many as there are processors where the problem is
    computed by code of one thread. Where torch does it on one thread, side by side may
    be faster by as many times, or no faster at all, as with many small operations that
    wait for Python: one chunk is done alone, then some side by side, and what did more
    goes on; it is known then for all work of the same shape. With no more chunks than
    processors all go side by side, untried. Where torch has several threads already,
    chunks go one by one: threads of threads wait for each other. So they do on another
    device, whatever is asked. The results are the same bits in every case.

    Parameters
    ----------
    problem : Problem
    rule : UpdateRule
    width : int
        How many starts a chunk has.
    asked : int or None
        How many threads are asked for.

    Examples
    --------
    >>> from descents import Factorization, GradientDescent
    >>> Pace(Factorization([[1.0, 2.0]], 1), GradientDescent(0.1), 2, asked=3).share(7)
    (7, 3)
    """

    def __init__(
        self, problem: Problem, rule: UpdateRule, width: int, asked: int | None
    ) -> None:
        away = remote(problem.device)
        self._most, self._settled = 1 if away else asked or 1, True
        parallel = isinstance(problem, Parallel) and problem.side_by_side
        compiled = isinstance(problem, Parallel) and problem.one_threaded
        self._narrow_too = asked is not None or compiled
        self._alone: float | None = None
        self._key: Hashable = None
        if asked is not None or away or not parallel:
            return
        if compiled:
            self._most = processors()
        elif torch.get_num_threads() == 1:
            room = max(1, MOST_ENTRIES // (problem.size * width))
            self._most = min(processors(), room)
            kinds = type(problem).__name__, rule.kind
            self._key = *kinds, problem.size, width, problem.dtype, self._most
            self._settled = self._most == 1 or self._key in _known
            self._most = _known.get(self._key, self._most)

    def share(self, waiting: int, narrow: int = 0) -> tuple[int, int]:
        """Return how many of the waiting chunks to do next, and on how many threads.

        Parameters
        ----------
        waiting : int
        narrow : int
            How many of them, the first, have fewer starts than the others. By torch
            operations they are done one by one, as on threads small operations would
            wait for Python; they say nothing about how fast the others are.
        """
        if narrow and not self._narrow_too:
            return narrow, 1
        if not self._settled and self._alone is None and waiting <= self._most:
            self._settled = True  # there are too few to try with
        threads = min(self._most, waiting)
        if self._settled:
            return waiting, threads
        return (1, 1) if self._alone is None else (threads, threads)

    def took(self, steps: int, seconds: float) -> None:
        """Take note of how long it took: the steps of all chunks of a share."""
        if self._settled or not steps:  # the time was out
            return
        rate = steps / max(seconds, 1e-9)
        if self._alone is None:
            self._alone = rate
            return
        if rate < WORTH * self._alone:
            self._most = 1
        self._settled, _known[self._key] = True, self._most
