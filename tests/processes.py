"""Processes that share a table, as threads of one process: each has its own collective."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from descents.cells.distributed import SharedTable
from descents.factorization import residuals
from descents.lowrank.fitted import Fitted
from descents.lowrank.fitting import fit
from descents.lowrank.gathering import gathered
from descents.lowrank.settings import RunControl, Settings
from descents.optim.collective import Collective

T = TypeVar("T")
PATIENCE = 60.0
"""A process that waits longer for the others has taken another branch than they."""


class Thread(Collective):
    """One of several threads; facts are exchanged by a list that all of them see."""

    def __init__(
        self, rank: int, shared: list[list[Any]], barrier: threading.Barrier
    ) -> None:
        self.rank, self.size = rank, len(shared[0])
        self._shared, self._barrier, self._turn = shared, barrier, 0
        self.sizes: list[int] = []

    def each(self, fact: T) -> list[T]:
        # Two lists in turn: one is written again only when all have read it.
        self._turn = 1 - self._turn
        shared = self._shared[self._turn]
        shared[self.rank] = fact
        self._barrier.wait(PATIENCE)
        return list(shared)

    def sums(self, parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        flat = {name: part.detach().double() for name, part in parts.items()}
        self.sizes.append(sum(8 * part.numel() for part in flat.values()))
        every = self.each(flat)
        assert len({tuple(p.shape for p in one.values()) for one in every}) == 1
        summed = {name: sum(one[name] for one in every) for name in flat}
        return {name: summed[name].to(part.dtype) for name, part in parts.items()}

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        return self.sums({"": part})[""]

    def sum_arrays(self, *parts: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(sum(each) for each in zip(*self.each(parts), strict=True))

    def least(self, part: np.ndarray) -> np.ndarray:
        return np.minimum.reduce(self.each(part))

    def most(self, part: np.ndarray) -> np.ndarray:
        return np.maximum.reduce(self.each(part))

    def agreed(self, here: bool) -> bool:
        return any(self.each(here))

    def from_first(self, fact: T) -> T:
        return self.each(fact)[0]

    def arrays(self, array: np.ndarray) -> Iterator[np.ndarray]:
        yield from self.each(array)

    def rows(self, array: np.ndarray) -> np.ndarray | None:
        every = self.each(array)
        return None if self.rank else np.concatenate(every)

    def in_turn(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        every = self.each(list(blocks))
        for one in every if self.rank == 0 else ():
            yield from one

    def dealt(self, whole: np.ndarray | None, like: np.ndarray) -> np.ndarray:
        counts = self.each(len(like))
        whole = self.from_first(whole)
        first = sum(counts[: self.rank])
        return whole[first : first + len(like)].copy()


def in_processes(count: int, work: Callable[[Thread], T]) -> list[T]:
    """Return what `count` processes that work together return."""
    shared: list[list[Any]] = [[None] * count for _ in range(2)]
    barrier = threading.Barrier(count)
    every = [Thread(rank, shared, barrier) for rank in range(count)]

    def guarded(one: Thread) -> T:
        try:
            return work(one)
        except threading.BrokenBarrierError:
            raise
        except BaseException:
            # An error that the others have too comes from all of them at once; else
            # those that wait must not wait for ever.
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(2)
            raise

    with pytest.MonkeyPatch.context() as patched:
        # Processes have a lock each; threads would wait for each other.
        patched.setattr(residuals, "ONCE", contextlib.nullcontext())
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(guarded, every))


def fit_together(
    path: Path, count: int, control: RunControl | None = None, **settings: Any
) -> Fitted:
    """Return the fit of a file by several processes, as the first one has it."""

    def work(together: Thread) -> Fitted | None:
        return gathered(fit(SharedTable(path, together), Settings(**settings), control))

    first, *others = in_processes(count, work)
    assert others == [None] * (count - 1)
    assert first is not None
    return first
