"""The same starts on several processes, and what is finished kept at once."""

from __future__ import annotations

import contextlib
import hashlib
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from descents.checks import LostProcessError, start_numbers, whole_number
from descents.descent.loop import Stop, Watch, chunked, descend, span
from descents.descent.pace import Pace
from descents.descent.runs import Runs
from descents.problems.problem import Problem
from descents.problems.rules import UpdateRule


class Store(Protocol):
    """Where finished chunks of starts are kept."""

    def get(self, name: str) -> Runs | None:
        """Return what was kept under a name, None where nothing was."""

    def put(self, name: str, runs: Runs) -> None:
        """Keep a finished chunk."""


def descend_in_parts(  # noqa: PLR0913
    problem: Problem,
    starts: int | Iterable[int] = 1,
    seed: int = 0,
    *,
    steps: UpdateRule,
    stop: Stop,
    record: Iterable[int] = (),
    watch: Watch | None = None,
    width: int | None = None,
    threads: int | None = None,
    workers: int = 1,
    store: Store | None = None,
) -> Runs:
    """Descend as `descend` does, chunk by chunk, on several processes if asked for.

    Each chunk of starts is a descent of its own, so that the result has the same bits
    for any number of workers of equal machines; finished chunks are kept in `store`,
    and taken from there where they are known.

    Parameters
    ----------
    problem, starts, seed, steps, stop, record, watch, width, threads
        As `descend` takes them. With several workers `watch` is told of finished
        chunks only, and each worker uses one thread.
    workers : int
        How many processes, by joblib; 1 is this one.
    store : Store, optional

    Returns
    -------
    Runs
        Interrupted starts are in it, but not in the store. What a process of several
        had not finished when Ctrl-C came rests at its initial points.

    Raises
    ------
    LostProcessError
        When a process of several was killed. What was finished before is in the store.

    Examples
    --------
    >>> from descents import Factorization, GradientDescent
    >>> problem = Factorization([[1.0, 0.0], [0.0, 2.0]], rank=1)
    >>> rule = GradientDescent(0.1)
    >>> descend_in_parts(problem, 3, steps=rule, stop=Stop(5), width=2).starts
    array([0, 1, 2])
    """
    numbers = start_numbers(starts)
    whole_number("workers", workers, 1)
    layout: dict[str, Any] = {"width": width, "edges": (0,)}
    if width is None:
        layout = {"width": problem.width, "edges": problem.edges}
    order = np.argsort(numbers, kind="stable")
    chunks = chunked(numbers[order], **layout)
    names = [_name(chunk) for chunk in chunks]
    kept = [None if store is None else store.get(name) for name in names]
    known = {name: runs for name, runs in zip(names, kept, strict=True) if runs}
    waiting = [chunk for chunk in chunks if _name(chunk) not in known]
    deadline = None if stop.max_seconds is None else time.time() + stop.max_seconds
    options = {"steps": steps, "stop": stop, "record": tuple(record), "width": width}
    if watch is not None:
        for runs in known.values():
            watch(runs.starts, int(runs.steps_taken.max()), runs.losses)

    def take(runs: Runs) -> None:
        known[_name(runs.starts)] = runs
        if store is not None and not runs.interrupted:
            store.put(_name(runs.starts), runs)

    if workers == 1:
        for runs in _in_this_process(
            problem, waiting, seed, deadline, options, watch, threads, layout
        ):
            take(runs)
    elif waiting:
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        tasks = [(problem, chunk, seed, deadline, options) for chunk in waiting]
        try:
            # As in one process, what there is at Ctrl-C is returned.
            with (
                contextlib.suppress(KeyboardInterrupt),
                contextlib.closing(_from_processes(workers, tasks)) as finished,
            ):
                for runs in finished:
                    take(runs)
                    if watch is not None:
                        watch(runs.starts, int(runs.steps_taken.max()), runs.losses)
        except TerminatedWorkerError as error:
            fate = "not kept" if store is None else "kept"
            raise LostProcessError(
                f"one of {workers} processes was ended from outside, probably for want "
                f"of memory, when {len(known)} of {len(chunks)} chunks of starts were "
                f"finished, and {fate}; use fewer workers"
            ) from error
        for chunk in waiting:
            if _name(chunk) not in known:
                take(_descended(problem, chunk, seed, 0.0, options))
    joined = Runs.joined([known[name] for name in names])
    return joined.picked(np.argsort(order, kind="stable"))


def _from_processes(
    workers: int, tasks: Sequence[tuple[Any, ...]]
) -> Generator[Runs, None, None]:
    """Give the runs of some tasks as they are finished; to close it gives up the rest."""
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        finished = Parallel(return_as="generator_unordered", pre_dispatch="all")(
            delayed(_descended)(*task) for task in tasks
        )
        try:
            # Not `yield from`, which would close it with a warning.
            for runs in finished:  # noqa: UP028
                yield runs
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that tasks are given up is meant
                finished.close()


def _in_this_process(
    problem: Problem,
    waiting: list[np.ndarray],
    seed: int,
    deadline: float | None,
    options: dict[str, Any],
    watch: Watch | None,
    threads: int | None,
    layout: dict[str, Any],
) -> Generator[Runs, None, None]:
    """Give the runs of some chunks as they are finished.

    Chunks side by side on threads go together; one group is kept at a time. Where there
    is a budget of time the narrow chunks go together too, as they share it.
    """
    pace, done = Pace(problem, options["steps"], layout["width"], threads), 0
    while done < len(waiting):
        narrow = sum(
            _width(chunk, layout) < layout["width"] for chunk in waiting[done:]
        )
        side = count = pace.share(len(waiting) - done, narrow)[1]
        if narrow and deadline is not None:
            count, side = narrow, 1
        group = np.concatenate(waiting[done : done + count])
        begun, done = time.perf_counter(), done + count
        runs = _descended(problem, group, seed, deadline, options, watch, side)
        parts = [
            runs.picked(np.flatnonzero(np.isin(group, chunk)))
            for chunk in chunked(group, **layout)
        ]
        if not narrow:
            taken = sum(int(part.steps_taken.max()) for part in parts)
            pace.took(taken, time.perf_counter() - begun)
        yield from parts
        if runs.interrupted:  # the rest is not to begin
            deadline = 0.0


def _width(chunk: np.ndarray, layout: dict[str, Any]) -> int:
    """Return how many starts the chunk of some starts has in all."""
    return span(int(chunk[0]), **layout)[1]


def _name(chunk: np.ndarray) -> str:
    """Return the name of a chunk of sorted numbers, of which some may not be there."""
    name = f"{chunk[0]}-{chunk[-1]}-{len(chunk)}"
    if chunk[-1] - chunk[0] + 1 == len(chunk):
        return name
    # Other numbers may have the same ends and count.
    told = hashlib.sha256(np.asarray(chunk, dtype="<i8").tobytes()).hexdigest()
    return f"{name}-{told[:16]}"


def _descended(
    problem: Problem,
    numbers: np.ndarray,
    seed: int,
    deadline: float | None,
    options: dict[str, Any],
    watch: Watch | None = None,
    threads: int = 1,
) -> Runs:
    stop = options["stop"]
    if deadline is not None:
        stop = replace(stop, max_seconds=max(0.0, deadline - time.time()))
    found = descend(
        problem,
        numbers.tolist(),
        seed,
        **{**options, "stop": stop},
        watch=watch,
        threads=threads,
    )
    # The budget left is no setting of the run.
    settings = {**found.settings}
    settings["stop"] = {**settings["stop"], "max_seconds": None}
    return replace(found, settings=settings)
