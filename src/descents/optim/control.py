"""How a fit is run: what it records, who watches it, for how long, in how many processes."""

from __future__ import annotations

from dataclasses import dataclass

from descents.optim.chunk import Watch
from descents.optim.executors import Workers


@dataclass(frozen=True)
class RunControl:
    """How a fit is run, as opposed to what is fitted.

    With the same settings and starts, the control changes no result of a fit that ends
    before its time limit.

    Attributes
    ----------
    record : tuple of int or None
        The steps (of networks, the epochs) at which losses and metrics are recorded; None
        records none.
    watch : callable or None
        Called as ``watch(starts, step, losses)``, see `descents.optim.descend`.
    seconds : float or None
        The limit on wall time. Starts that have not stopped by then are interrupted.
    workers : int or Executor
        How many processes compute chunks of starts; 1 is this process. Or the executor
        that computes them.

    Examples
    --------
    >>> RunControl(seconds=60.0).workers
    1
    """

    record: tuple[int, ...] | None = None
    watch: Watch | None = None
    seconds: float | None = None
    workers: Workers = 1
