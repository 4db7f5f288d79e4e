"""Choose how many chunks of starts run in parallel threads, by timing the work itself."""

from __future__ import annotations

from collections.abc import Hashable

import torch

from descents.devices import processors, remote
from descents.optim.abilities import Parallel
from descents.optim.problem import Problem
from descents.optim.rules import UpdateRule

MOST_ENTRIES = 2**25
"""The limit on the summed sizes of the largest tensors of parallel chunks, in numbers. A
chunk has several tensors of that size."""
WORTH = 1.1
"""Several threads are used if they do at least 1.1 times as much work as one."""

_fastest: dict[Hashable, int] = {}
"""The number of threads chosen earlier in this process, by the shape of the work."""


class Pace:
    """Choose how many chunks of starts run in parallel threads.

    - On another device, chunks run one at a time.
    - Else, if a number of threads is given, that number is used.
    - If a problem is computed by compiled code of one thread, there is a thread for each
      processor.
    - If torch has one thread, parallel chunks may be much faster, or no faster at all, as
      many small operations wait for Python's lock. One chunk is then timed alone, then
      several in parallel, and the faster way is used from then on, also for later work
      of the same shape. If there are no more chunks than processors, all of them run in
      parallel without a trial.
    - If torch has several threads, chunks run one at a time, because nested threads wait
      for each other.

    The results are the same bits in every case.

    Parameters
    ----------
    problem : Problem
    rule : UpdateRule
    width : int
        The number of starts in a chunk.
    asked : int or None
        The requested number of threads, or None to choose one.

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
        self._most, self._decided = 1 if away else asked or 1, True
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
            self._decided = self._most == 1 or self._key in _fastest
            self._most = _fastest.get(self._key, self._most)

    def share(self, waiting: int, narrow: int = 0) -> tuple[int, int]:
        """Return how many of the waiting chunks to do next, and on how many threads.

        Parameters
        ----------
        waiting : int
        narrow : int
            How many of them, at the front, have fewer starts than the others. If torch
            computes them they run one at a time, because small operations in threads
            would wait for Python's lock. Their speed says nothing about that of the
            others.
        """
        if narrow and not self._narrow_too:
            return narrow, 1
        if not self._decided and self._alone is None and waiting <= self._most:
            self._decided = True  # too few chunks for a trial
        threads = min(self._most, waiting)
        if self._decided:
            return waiting, threads
        return (1, 1) if self._alone is None else (threads, threads)

    def took(self, steps: int, seconds: float) -> None:
        """Report how long the chunks of a share took, with the sum of their steps."""
        if self._decided or not steps:  # no steps: the time was up
            return
        rate = steps / max(seconds, 1e-9)
        if self._alone is None:
            self._alone = rate
            return
        if rate < WORTH * self._alone:
            self._most = 1
        self._decided, _fastest[self._key] = True, self._most
