"""Descend from many starts, in one thread, several threads or several processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, is_dataclass, replace
from queue import SimpleQueue
from typing import cast

import numpy as np

from descents.errors import Complaints
from descents.optim import workers as processes
from descents.optim.chunk import Chunk, Watch
from descents.optim.clock import Clock
from descents.optim.executors import Workers
from descents.optim.first_order import Adam
from descents.optim.inner import Inner
from descents.optim.pace import Pace
from descents.optim.problem import Problem
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs, RunSettings, StopSettings
from descents.optim.spans import chunked, span
from descents.optim.stopping import Stop
from descents.optim.workers import Finished, Store
from descents.validation import seed_number, start_numbers, whole_number


def descend(  # noqa: PLR0913
    problem: Problem,
    starts: int | Iterable[int] = 1,
    seed: int = 0,
    *,
    steps: UpdateRule | None = None,
    stop: Stop | None = None,
    record: Iterable[int] = (),
    watch: Watch | None = None,
    width: int | None = None,
    threads: int | None = None,
    workers: Workers = 1,
    store: Store | None = None,
) -> Runs:
    """Descend from many starting points at once.

    Minimizes the loss of every start separately. Start k depends on (problem, seed, k)
    alone. Starts are computed in chunks: start 0 in a chunk of its own, the next few in a
    second one, later ones in wider chunks (`Problem.edges`, `Problem.width`). The chunk of
    a start, and its place there, do not depend on which starts are requested. On the same
    machine with the same number of threads, start k has the same bits in every call.

    Parameters
    ----------
    problem : Problem
    starts : int or iterable of int
        The number of starts (0, 1, ..., S - 1), or a list of start numbers.
    seed : int
    steps : UpdateRule, optional
        The update rule, by default ``Adam()``.
    stop : Stop, optional
        By default 1000 steps.
    record : iterable of int
        The steps at which losses and metrics are recorded, each from 0 to
        ``stop.max_steps``.
    watch : callable, optional
        ``watch(starts, step, losses)`` is called in the calling thread at recorded steps
        and when a chunk of starts ends; with several workers, only when a chunk ends.
    width : int, optional
        Compute all starts in chunks of this width. By default the first chunks are
        narrow and the later ones have ``problem.width``. Results with other widths agree
        up to rounding.
    threads : int, optional
        How many chunks of starts run in parallel threads; the result is the same. The
        default depends on the problem and on torch's own threads, see
        `descents.optim.pace.Pace`. Each of several workers uses one thread.
    workers : int or Executor
        How many processes compute chunks, by joblib; 1 is this process. Or an executor of
        `concurrent.futures`, such as that of `descents.optim.connected` for dask and Ray;
        each task is a chunk on one thread. The result is the same on equal machines.
    store : Store, optional
        Where finished chunks are saved. Chunks that are there are not computed again. If
        it is a `descents.optim.checkpoints.Keeper`, the states of unfinished chunks are
        kept too, unless there are several workers.

    Returns
    -------
    Runs
        With a status for each start. A start that becomes non-finite is marked; it does
        not raise an error and does not affect the others. After an interrupt (Ctrl-C) or
        at the end of the time budget, the results so far are returned; starts that never
        began, and those that another process had not finished, are at their initial
        points. Chunks with interrupted starts are not saved.

    Raises
    ------
    InvalidValueError
        If an argument is invalid, or the losses have the wrong shape.
    LostProcessError
        If one of several processes was killed. Finished chunks are in the store.

    Examples
    --------
    >>> from descents import Factorization
    >>> runs = descend(Factorization([[1.0, 0.0], [0.0, 2.0]], rank=1), starts=20)
    >>> bool(abs(runs.losses[runs.best] - 1.0) < 1e-6)  # the smaller singular value, squared
    True
    """
    complaints = Complaints()
    numbers = complaints.attempt(start_numbers, starts)
    if not isinstance(workers, Executor):
        complaints.attempt(whole_number, "workers", workers, 1)
    if threads is not None:
        complaints.attempt(whole_number, "threads", threads, 1)
    stop, rule = stop or Stop(), Adam() if steps is None else steps
    work = _Work.of(complaints, problem, seed, rule, stop, record, width)
    if numbers is not None:
        work.check_starts(complaints, int(numbers.max()))
    complaints.raise_any()
    order = np.argsort(numbers, kind="stable")
    chunks = chunked(numbers[order], work.width, work.edges)
    finished = Finished(chunks, store)
    if watch is not None:
        for runs in finished.known:
            watch(runs.starts, int(runs.steps_taken.max()), runs.losses)
    interrupted = False
    if workers == 1:
        interrupted = _in_this_process(work, finished, watch, threads)
    elif finished.waiting:
        processes.compute(work, finished, workers, watch)
    joined = finished.joined
    if interrupted and not joined.interrupted:
        # The interrupt came during the last evaluation, so no status shows it.
        raise KeyboardInterrupt
    return joined.picked(np.argsort(order, kind="stable"))


@dataclass(frozen=True)
class _Work:
    """The settings that all chunks of a descent share; it can be pickled."""

    problem: Problem
    seed: int
    rule: UpdateRule
    stop: Stop
    record: list[int]
    width: int
    edges: tuple[int, ...]

    @classmethod
    def of(
        cls,
        complaints: Complaints,
        problem: Problem,
        seed: int,
        rule: UpdateRule,
        stop: Stop,
        record: Iterable[int],
        width: int | None,
    ) -> _Work:
        """Return the checked settings; problems are added to the complaints."""
        complaints.require(
            isinstance(rule, UpdateRule),
            f"steps is {rule!r}; give an update rule, such as Adam()",
        )
        seed = complaints.attempt(seed_number, seed)
        edges = problem.edges if width is None else (0,)
        if width is None:
            width = problem.width
        else:
            width = complaints.attempt(whole_number, "width", width, 1)
        recorded = {
            complaints.attempt(whole_number, "a recorded step", step, 0, stop.max_steps)
            for step in record
        }
        return cls(problem, seed, rule, stop, sorted(recorded - {None}), width, edges)

    def check_starts(self, complaints: Complaints, last: int) -> None:
        """Complain if there are fewer initial points or learning rates than starts."""
        available = self.problem.available
        complaints.require(
            available is None or last < available,
            f"start {last} is requested, but only {available} initial points were given; "
            "request fewer starts or give more points",
        )
        if isinstance(self.rule, UpdateRule):
            complaints.attempt(self.rule.check_starts, last)

    def chunk(self, numbers: np.ndarray) -> Chunk:
        """Return the chunk of some starts."""
        place = span(int(numbers[0]), self.width, self.edges)
        return Chunk(self.problem, numbers, self.seed, *place, self.record)

    @property
    def settings(self) -> RunSettings:
        """The settings that determine the results: all except the time budget."""
        stop = described(replace(self.stop, max_seconds=None))
        return {
            "seed": self.seed,
            "width": self.width,
            "dtype": str(self.problem.dtype),
            "edges": list(self.edges),
            "steps": described(self.rule),
            "stop": cast("StopSettings", stop),
        }

    def computed(self, numbers: np.ndarray, deadline: float | None) -> Runs:
        """Compute a chunk without a watcher, at most until `deadline` (`time.time`)."""
        left = None if deadline is None else max(0.0, deadline - time.time())
        chunk = self.chunk(numbers)
        chunk.descend(self.rule, self.stop, Clock(left), None)
        return chunk.runs(self.settings)


def _in_this_process(
    work: _Work, finished: Finished, watch: Watch | None, threads: int | None
) -> bool:
    """Compute the unfinished chunks; return whether the user interrupted."""
    clock = Clock(work.stop.max_seconds, Inner.of(work.problem).together)
    width = work.width
    chunks = [work.chunk(numbers) for numbers in finished.waiting]
    for chunk in chunks:
        chunk.keeper = finished.keeper
    settings, done = work.settings, 0
    pace = Pace(work.problem, work.rule, width, threads)

    def take(chunk: Chunk) -> None:
        finished.take(chunk.runs(settings))

    while done < len(chunks):
        narrow = sum(chunk.width < width for chunk in chunks[done:])
        count, side = pace.share(len(chunks) - done, narrow)
        if narrow and work.stop.max_seconds is not None:
            count, side = narrow, 1  # the narrow chunks share the time budget
        group = chunks[done : done + count]
        begun, done = time.perf_counter(), done + count
        if side == 1:
            first = [chunk for chunk in group if chunk.first < width]
            _in_turns(first, work, clock, watch, take)
            for chunk in group[len(first) :]:
                chunk.descend(work.rule, work.stop, clock, watch)
                take(chunk)
        else:
            _side_by_side(group, side, work, clock, watch, take)
        if not narrow:
            pace.took(sum(chunk.steps for chunk in group), time.perf_counter() - begun)
    return clock.interrupted


Event = tuple[np.ndarray, int, np.ndarray]
"""What a watcher is called with."""
Take = Callable[[Chunk], None]
"""A function that is called with each finished chunk."""


def _in_turns(
    chunks: Sequence[Chunk], work: _Work, clock: Clock, watch: Watch | None, take: Take
) -> None:
    """Descend chunks one after the other; all share the time budget equally.

    A chunk that has used its share waits until the others had theirs, and then goes on
    with what is left.
    """
    waiting = list(chunks)
    while waiting:
        for place, chunk in enumerate(list(waiting)):
            share = clock.share(len(waiting) - place)
            if chunk.advance(work.rule, work.stop, share, watch):
                chunk.close(work.rule, work.stop, clock, watch)
                take(chunk)
        waiting = [chunk for chunk in waiting if not chunk.closed]


def _side_by_side(
    chunks: Sequence[Chunk],
    threads: int,
    work: _Work,
    clock: Clock,
    watch: Watch | None,
    take: Take,
) -> None:
    """Descend chunks in parallel threads; the watcher is called in this thread."""
    events: SimpleQueue[Event | Future[None]] = SimpleQueue()

    def report(*event: *Event) -> None:
        events.put(event)

    watched = None if watch is None else report
    tasks: dict[Future[None], Chunk] = {}
    with ThreadPoolExecutor(threads) as pool:
        left = len(chunks)
        try:
            for chunk in chunks:
                task = pool.submit(chunk.descend, work.rule, work.stop, clock, watched)
                tasks[task] = chunk
                task.add_done_callback(events.put)
            while left:
                event = events.get()
                if isinstance(event, Future):
                    left -= 1
                    if event.exception() is not None:
                        break
                    take(tasks.pop(event))
                elif watch is not None:
                    watch(*event)
        except KeyboardInterrupt:  # only the main thread receives it
            pass
        finally:
            if left:
                clock.interrupt()
    for task, chunk in tasks.items():  # after an interrupt or an error
        task.result()
        take(chunk)
    while watch is not None and not events.empty():
        event = events.get()
        if not isinstance(event, Future):
            watch(*event)


def described(rule: object) -> dict[str, object]:
    """Return a rule's name and settings as plain values.

    Examples
    --------
    >>> described(Stop(5))["max_steps"]
    5
    """
    settings = asdict(rule) if is_dataclass(rule) and not isinstance(rule, type) else {}
    return {"name": type(rule).__name__, **settings}
