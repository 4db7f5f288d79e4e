"""Compute chunks of starts by an executor: of dask, of Ray, or any of `concurrent.futures`."""

from __future__ import annotations

import logging
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from descents.errors import InvalidValueError, LostProcessError

if TYPE_CHECKING:
    from descents.optim.runs import Runs

T = TypeVar("T")
Workers = int | Executor
"""How many processes of this machine compute chunks, or the executor that does."""
SCHEMES = ("dask", "ray")
"""The kinds of addresses that `connected` knows."""
SECONDS = 20
"""How long to wait for a dask scheduler."""
RAY_SECONDS = 35
"""How long Ray waits for a cluster: 5, 10 and 20 seconds."""


class Computes(Protocol):
    """What can compute a chunk of starts."""

    def computed(self, numbers: np.ndarray, deadline: float | None) -> Runs:
        """Compute a chunk, at most until `deadline` (`time.time`)."""


class SharingExecutor(Executor):
    """An executor that sends an object to its workers once, not with every task."""

    lost: tuple[type[BaseException], ...] = (BrokenExecutor,)
    """The errors which say that a worker was lost."""

    @abstractmethod
    def share(self, value: T) -> T:
        """Return what stands for an object in the arguments of `submit`."""


def computed_alone(work: Computes, chunk: np.ndarray, deadline: float | None) -> Runs:
    """Compute a chunk on one thread, as every process of this machine does.

    The bits of a result depend on the number of threads.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with import_module("threadpoolctl").threadpool_limits(1):
            return work.computed(chunk, deadline)
    finally:
        torch.set_num_threads(before)


def from_executor(
    work: Computes,
    chunks: Sequence[np.ndarray],
    deadline: float | None,
    executor: Executor,
) -> Generator[Runs, None, None]:
    """Yield the runs of chunks as they finish; closing it cancels those that have not begun.

    Raises
    ------
    LostProcessError
        If a worker was lost.
    """
    shared, lost = work, SharingExecutor.lost
    if isinstance(executor, SharingExecutor):
        shared, lost = executor.share(work), executor.lost
    tasks: list[Future[Runs]] = []
    try:
        tasks += [
            executor.submit(computed_alone, shared, chunk, deadline) for chunk in chunks
        ]
        for task in as_completed(tasks):
            yield task.result()
    except lost as error:
        raise LostProcessError(
            f"a worker of {type(executor).__name__} was lost ({type(error).__name__})"
        ) from error
    finally:
        for task in tasks:
            task.cancel()


def longest_wait(workers: int | str) -> int | None:
    """Return how many seconds `connected` waits at most; None if nothing is waited for.

    Examples
    --------
    >>> longest_wait("dask://localhost:8786"), longest_wait(2)
    (20, None)
    """
    if not isinstance(workers, str):
        return None
    return {"dask": SECONDS, "ray": RAY_SECONDS}.get(workers.partition("://")[0])


@contextmanager
def connected(workers: int | str) -> Iterator[Workers]:
    """Connect to workers, and disconnect at the end.

    Parameters
    ----------
    workers : int or str
        The number of processes of this machine, which is returned as it is, or an address:
        ``dask://HOST:PORT`` of a dask scheduler, ``ray://HOST:PORT`` of a Ray cluster.

    Raises
    ------
    InvalidValueError
        If the package for this address is not installed, or no one answers there.

    Examples
    --------
    >>> with connected(2) as workers:
    ...     workers
    2
    """
    if not isinstance(workers, str):
        yield workers
        return
    scheme, _, address = workers.partition("://")
    connect = {"dask": _dask, "ray": _ray}.get(scheme)
    if connect is None or not address:
        raise InvalidValueError(
            f"workers is {workers!r}; give a number of processes, dask://HOST:PORT or "
            "ray://HOST:PORT"
        )
    executor, disconnect = connect(address)
    try:
        yield executor
    finally:
        disconnect()


Connection = tuple[SharingExecutor, Callable[[], object]]
"""An executor, and the function that disconnects from its workers."""


def _missing(address: str, package: str, extra: str) -> InvalidValueError:
    return InvalidValueError(
        f"{address} needs the package {package}, which is not installed; run pip install "
        f"'descents[{extra}]'"
    )


def _unreachable(address: str, error: BaseException) -> InvalidValueError:
    says = str(error).strip().partition("\n")[0] or type(error).__name__
    return InvalidValueError(
        f"no workers were reached at {address} ({says}); start them, or give another address"
    )


def _dask(address: str) -> Connection:
    """Connect to a dask scheduler."""
    try:
        distributed = import_module("distributed")
        comm = import_module("distributed.comm")
    except ImportError:
        raise _missing(f"dask://{address}", "distributed", "dask") from None

    try:
        client = distributed.Client(
            f"tcp://{address}", timeout=SECONDS, set_as_default=False
        )
    except (OSError, ValueError, TimeoutError) as error:
        raise _unreachable(f"dask://{address}", error) from None
    executor = client.get_executor(pure=False)

    class Dask(SharingExecutor):
        """The workers of a dask scheduler."""

        lost = (distributed.KilledWorker, comm.CommClosedError)

        def submit(
            self, fn: Callable[..., T], /, *args: object, **kwargs: object
        ) -> Future[T]:
            """Run a function on a worker."""
            task: Future[T] = executor.submit(fn, *args, **kwargs)
            return task

        def share(self, value: T) -> T:
            """Send an object to all workers."""
            scattered: T = client.scatter(value, broadcast=True, hash=False)
            return scattered

    return Dask(), client.close


def _ray(address: str) -> Connection:
    """Connect to a Ray cluster; nothing is reported about its use."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = import_module("ray")
        errors = import_module("ray.exceptions")
    except ImportError:
        raise _missing(f"ray://{address}", "ray", "ray") from None

    class Ray(SharingExecutor):
        """The workers of a Ray cluster."""

        lost = (errors.WorkerCrashedError, errors.RayActorError, ConnectionError)

        def submit(
            self, fn: Callable[..., T], /, *args: object, **kwargs: object
        ) -> Future[T]:
            """Run a function on a worker, with one processor."""
            reference = ray.remote(num_cpus=1)(fn).remote(*args, **kwargs)
            task: Future[T] = reference.future()
            return task

        def share(self, value: T) -> T:
            """Put an object into the memory of the cluster."""
            reference: T = ray.put(value)
            return reference

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says the same
            ray.init(
                f"ray://{address}",
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise _unreachable(f"ray://{address}", error) from None
    return Ray(), ray.shutdown
