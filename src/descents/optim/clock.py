"""The time budget of a descent, and of its chunks."""

from __future__ import annotations

import math
import threading
import time

from descents.optim.collective import ALONE, Collective

LEAST_SHARE = 0.05
"""The minimum time in seconds that a chunk gets when it is its turn."""


class Clock:
    """A time limit, which an interrupt ends early.

    Parameters
    ----------
    max_seconds : float or None
    together : Collective
        Processes that share the work: the time is up for all of them at once.
    """

    def __init__(self, max_seconds: float | None, together: Collective = ALONE) -> None:
        self._together = together
        limit = math.inf if max_seconds is None else max_seconds
        self._end = time.monotonic() + limit
        self._stopped = threading.Event()  # of the whole clock and all its shares
        self._whole: Clock | None = None

    def share(self, parts: int) -> Clock:
        """Divide the remaining time into equal parts, and return a clock for one."""
        left = self._end - time.monotonic()
        if parts == 1 or math.isinf(left):
            return self
        part = Clock(max(left / parts, LEAST_SHARE), self._together)
        part._end, part._whole = min(part._end, self._end), self
        part._stopped = self._stopped
        return part

    @property
    def whole(self) -> Clock:
        """The clock of which this one is a share; itself if it is not a share."""
        return self._whole or self

    def interrupt(self) -> None:
        """Stop the whole clock and all its shares."""
        self._stopped.set()

    @property
    def interrupted(self) -> bool:
        """Whether the clock was stopped by the user or by an error, not by the time."""
        return self._stopped.is_set()

    @property
    def out(self) -> bool:
        """Whether the time is up or the clock was stopped."""
        here = self._stopped.is_set() or time.monotonic() >= self._end
        return here if math.isinf(self._end) else self._together.agreed(here)
