"""Compute chunks of starts in several processes, and store finished chunks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

import numpy as np

from descents.errors import LostProcessError
from descents.optim.checkpoints import Keeper
from descents.optim.chunk import Watch
from descents.optim.executors import Workers, from_executor
from descents.optim.runs import Runs
from descents.optim.stopping import Stop
from descents.signals import begin_tracker, exit_with, unreached_by_interrupts

SIGNALLED = 0.5
"""The seconds after the loss of a process in which this one may get the same signal."""


class Store(Protocol):
    """Where finished chunks of starts are saved."""

    def get(self, name: str) -> Runs | None:
        """Return the runs saved under a name, or None."""

    def put(self, name: str, runs: Runs) -> None:
        """Save a finished chunk."""


class Work(Protocol):
    """The work that processes share."""

    @property
    def stop(self) -> Stop:
        """When starts stop."""

    def computed(self, numbers: np.ndarray, deadline: float | None) -> Runs:
        """Compute a chunk, at most until `deadline` (`time.time`)."""


class Finished:
    """The finished chunks of a descent: those in the store, and new ones.

    Parameters
    ----------
    chunks : sequence of ndarray
        The numbers of the starts of each chunk.
    store : Store or None

    Attributes
    ----------
    keeper : Keeper or None
        The store, if it also keeps the states of unfinished chunks.

    Examples
    --------
    >>> Finished([np.array([0]), np.array([1, 2])], None).waiting
    [array([0]), array([1, 2])]
    """

    def __init__(self, chunks: Sequence[np.ndarray], store: Store | None) -> None:
        self._store = store
        self.keeper = store if isinstance(store, Keeper) else None
        self._names = [chunk_name(chunk) for chunk in chunks]
        self._runs: dict[str, Runs] = {}
        if store is not None:
            stored = {name: store.get(name) for name in self._names}
            self._runs = {name: runs for name, runs in stored.items() if runs}
        self.waiting = [
            chunk
            for chunk, name in zip(chunks, self._names, strict=True)
            if name not in self._runs
        ]

    @property
    def known(self) -> list[Runs]:
        """The runs of the chunks that are finished."""
        return list(self._runs.values())

    def take(self, runs: Runs) -> None:
        """Keep the runs of a chunk, and save them unless a start was interrupted."""
        name = chunk_name(runs.starts)
        self._runs[name] = runs
        if self._store is not None and not runs.interrupted:
            self._store.put(name, runs)

    def has(self, chunk: np.ndarray) -> bool:
        """Return whether a chunk is finished."""
        return chunk_name(chunk) in self._runs

    @property
    def joined(self) -> Runs:
        """The runs of all chunks, in their order."""
        return Runs.joined([self._runs[name] for name in self._names])

    @property
    def state(self) -> str:
        """A sentence: how many chunks are finished, and whether they are saved."""
        fate = "not saved" if self._store is None else "saved"
        count = f"{len(self._runs)} of {len(self._names)}"
        return f"{count} chunks of starts were finished and {fate}"


def compute(
    work: Work, finished: Finished, workers: Workers, watch: Watch | None = None
) -> None:
    """Compute the unfinished chunks in several processes, or by an executor.

    After an interrupt (Ctrl-C), starts of unfinished chunks are at their initial points.

    Raises
    ------
    LostProcessError
        If a process was killed, or a worker was lost.
    """
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    limit = work.stop.max_seconds
    deadline = None if limit is None else time.time() + limit
    try:
        with (
            contextlib.suppress(KeyboardInterrupt),
            contextlib.closing(
                _results(work, finished.waiting, deadline, workers)
            ) as results,
        ):
            for runs in results:
                finished.take(runs)
                if watch is not None:
                    watch(runs.starts, int(runs.steps_taken.max()), runs.losses)
    except TerminatedWorkerError as error:
        time.sleep(
            SIGNALLED
        )  # if a signal to all processes ended it, this one ends here
        raise LostProcessError(
            f"one of {workers} processes was killed, probably because memory ran out, "
            f"when {finished.state}; use fewer workers"
        ) from error
    except LostProcessError as error:
        raise LostProcessError(f"{error}, when {finished.state}") from error
    for chunk in finished.waiting:
        if not finished.has(chunk):
            finished.take(work.computed(chunk, 0.0))


def _results(
    work: Work,
    chunks: Sequence[np.ndarray],
    deadline: float | None,
    workers: Workers,
) -> Generator[Runs, None, None]:
    """Yield the runs of chunks as they finish; closing it cancels the others."""
    if isinstance(workers, int):
        return _from_processes(work, chunks, deadline, workers)
    return from_executor(work, chunks, deadline, workers)


def _from_processes(
    work: Work, chunks: Sequence[np.ndarray], deadline: float | None, workers: int
) -> Generator[Runs, None, None]:
    """Yield the runs of chunks as they finish; closing it cancels the others.

    A process ends when this one has ended, however that ended.
    """
    from joblib import Parallel, delayed, parallel_config

    begin_tracker()
    hook = threading.excepthook  # an interrupt may come at any time from here on
    threading.excepthook = _without_cancelled(hook)
    with parallel_config(
        "loky",
        n_jobs=workers,
        inner_max_num_threads=1,
        initializer=exit_with,
        initargs=(os.getpid(),),
    ):
        finished: Generator[Runs, None, None] | None = None
        try:
            with unreached_by_interrupts():
                finished = Parallel(
                    return_as="generator_unordered", pre_dispatch="all"
                )(delayed(work.computed)(chunk, deadline) for chunk in chunks)
            # Not `yield from`, which would close `finished` with a warning.
            for runs in finished:  # noqa: UP028
                yield runs
            threading.excepthook = hook
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tasks are cancelled on purpose
                if finished is not None:
                    finished.close()


def _without_cancelled(
    hook: Callable[[threading.ExceptHookArgs], object],
) -> Callable[[threading.ExceptHookArgs], object]:
    """Return a hook that prints no traceback of a thread that feeds processes.

    When tasks are cancelled, such a thread may look for one of them, and ends.
    """

    def filtered(told: threading.ExceptHookArgs) -> None:
        manager = (
            told.thread is not None and told.thread.name == "ExecutorManagerThread"
        )
        if not (manager and told.exc_type is KeyError):
            hook(told)

    return filtered


def chunk_name(chunk: np.ndarray) -> str:
    """Return the name of a chunk of sorted start numbers, which may have gaps.

    Examples
    --------
    >>> chunk_name(np.arange(4, 8))
    '4-7-4'
    """
    name = f"{chunk[0]}-{chunk[-1]}-{len(chunk)}"
    if chunk[-1] - chunk[0] + 1 == len(chunk):
        return name
    # Other numbers may have the same ends and count.
    digest = hashlib.sha256(np.asarray(chunk, dtype="<i8").tobytes()).hexdigest()
    return f"{name}-{digest[:16]}"
