"""Sums over the processes that share one problem, and what they agree on.

Every process has some of the rows of a table, and a replica of everything else. What is a
sum over rows is added up by a `Collective`; all processes get the same bits, so that they
take the same branches. With one process, nothing is sent and no number changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import ParamSpec, TypeVar, cast

import numpy as np
import torch

from descents.errors import InvalidValueError, LostProcessError

P = ParamSpec("P")
T = TypeVar("T")
ROWS_AT_ONCE = 2**16
"""The number of rows that are sent to the first process in one message."""


class Collective:
    """One process, which shares nothing.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and the number of processes.
    messages, sent : int
        The number of messages so far, and the numbers of this process in them, in bytes.

    Examples
    --------
    >>> alone = Collective()
    >>> alone.sum(torch.ones(2)), alone.agreed(True), alone.offset(5)
    (tensor([1., 1.]), True, 0)
    """

    rank: int = 0
    size: int = 1
    messages: int = 0
    sent: int = 0

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes, in its own type."""
        return part

    def sums(self, parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the sums of several tensors, which travel in one message."""
        return parts

    def sum_arrays(self, *parts: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the sums of float64 arrays, which travel in one message."""
        return parts

    def least(self, part: np.ndarray) -> np.ndarray:
        """Return the entrywise minimum over all processes."""
        return part

    def most(self, part: np.ndarray) -> np.ndarray:
        """Return the entrywise maximum over all processes."""
        return part

    def agreed(self, here: bool) -> bool:
        """Return whether something is so in at least one process."""
        return here

    def from_first(self, fact: T) -> T:
        """Return a fact of the first process."""
        return fact

    def each(self, fact: T) -> list[T]:
        """Return the facts of all processes, in their order."""
        return [fact]

    def arrays(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the arrays of all processes, one after the other, in their order."""
        yield array

    def offset(self, count: int) -> int:
        """Return the sum of the counts of the processes before this one."""
        return sum(self.each(count)[: self.rank])

    def rows(self, array: np.ndarray) -> np.ndarray | None:
        """Return the rows of all processes in the first one, None in the others."""
        return array

    def dealt(self, whole: np.ndarray | None, like: np.ndarray) -> np.ndarray:
        """Return the rows of this process of an array that the first process has.

        Parameters
        ----------
        whole : ndarray or None
            The rows of all processes; None in the others.
        like : ndarray
            An array of the shape and type that the result has.
        """
        assert whole is not None  # noqa: S101
        return whole

    def in_turn(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the blocks of all processes in the first one, in their order.

        The others send theirs, and yield nothing. Empty blocks may be left out.
        """
        yield from blocks

    def attempt(
        self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs
    ) -> T:
        """Return ``work(...)``; if it is refused in one process, raise in all of them."""
        refusal, done = None, None
        try:
            done = work(*arguments, **options)
        except InvalidValueError as error:
            refusal = str(error)
        refusals = [one for one in self.each(refusal) if one is not None]
        if refusals:
            raise InvalidValueError(refusals[0])
        return cast("T", done)


ALONE = Collective()


class Processes(Collective):
    """The processes of `torch.distributed`, whose default group must exist.

    Sums are computed in float64. Tensors of a GPU go by nccl, the others by gloo.

    Raises
    ------
    LostProcessError
        By every method, if another process has ended.
    """

    def __init__(self) -> None:
        from torch import distributed

        self._torch = distributed
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.messages = self.sent = 0

    def _call(self, size: int, work: Callable[..., object], *arguments: object) -> None:
        self.messages += 1
        self.sent += size
        try:
            work(*arguments)
        except RuntimeError as error:
            raise LostProcessError(
                f"process {self.rank} has lost another one of {self.size}, which was killed "
                "or has failed, so that all must be started again"
            ) from error

    def _reduced(self, message: torch.Tensor, how: object) -> torch.Tensor:
        size = message.numel() * message.element_size()
        self._call(size, self._torch.all_reduce, message, how)
        return message

    def sum(self, part: torch.Tensor) -> torch.Tensor:  # noqa: D102 - as in the base
        return self.sums({"": part})[""]

    def sums(self, parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:  # noqa: D102
        flat = [part.detach().reshape(-1).double() for part in parts.values()]
        message = self._reduced(torch.cat(flat), self._torch.ReduceOp.SUM)
        pieces = message.split_with_sizes([len(part) for part in flat])
        return {
            name: piece.reshape(part.shape).to(part.dtype)
            for (name, part), piece in zip(parts.items(), pieces, strict=True)
        }

    def sum_arrays(self, *parts: np.ndarray) -> tuple[np.ndarray, ...]:  # noqa: D102
        named = {str(k): torch.as_tensor(part) for k, part in enumerate(parts)}
        return tuple(part.numpy() for part in self.sums(named).values())

    def least(self, part: np.ndarray) -> np.ndarray:  # noqa: D102 - as in the base
        copied = torch.tensor(part)
        return self._reduced(copied, self._torch.ReduceOp.MIN).numpy()

    def most(self, part: np.ndarray) -> np.ndarray:  # noqa: D102 - as in the base
        copied = torch.tensor(part)
        return self._reduced(copied, self._torch.ReduceOp.MAX).numpy()

    def agreed(self, here: bool) -> bool:  # noqa: D102 - as in the base
        return bool(self.most(np.array([int(here)]))[0])

    def from_first(self, fact: T) -> T:  # noqa: D102 - as in the base
        box = [fact if self.rank == 0 else None]
        self._call(0, self._torch.broadcast_object_list, box)
        return cast("T", box[0])

    def each(self, fact: T) -> list[T]:  # noqa: D102 - as in the base
        facts: list[T | None] = [None] * self.size
        self._call(0, self._torch.all_gather_object, facts, fact)
        return cast("list[T]", facts)

    def arrays(self, array: np.ndarray) -> Iterator[np.ndarray]:  # noqa: D102
        shapes = self.each(array.shape)
        for rank, shape in enumerate(shapes):
            own = torch.tensor(array, dtype=torch.float64)
            message = own if rank == self.rank else torch.empty(shape).double()
            size = 8 * message.numel() * (rank == self.rank)
            self._call(size, self._torch.broadcast, message, rank)
            yield message.numpy()

    def rows(self, array: np.ndarray) -> np.ndarray | None:  # noqa: D102
        counts = self.each(len(array))
        if self.rank:
            for block in _blocks(array):
                self._send(torch.tensor(block))
            return None
        whole: np.ndarray = np.empty((sum(counts), *array.shape[1:]), array.dtype)
        whole[: len(array)] = array
        first = len(array)
        for rank, count in enumerate(counts[1:], 1):
            for block in _blocks(whole[first : first + count]):
                message = torch.empty(block.shape, dtype=torch.as_tensor(block).dtype)
                self._call(0, self._torch.recv, message, rank)
                block[...] = message.numpy()
            first += count
        return whole

    def dealt(self, whole: np.ndarray | None, like: np.ndarray) -> np.ndarray:  # noqa: D102
        counts = self.each(len(like))
        if self.rank:
            found: np.ndarray = np.empty(like.shape, like.dtype)
            for block in _blocks(found):
                message = torch.empty(block.shape, dtype=torch.as_tensor(block).dtype)
                self._call(0, self._torch.recv, message, 0)
                block[...] = message.numpy()
            return found
        assert whole is not None  # noqa: S101
        first = counts[0]
        for rank, count in enumerate(counts[1:], 1):
            for block in _blocks(whole[first : first + count]):
                self._send(torch.tensor(block), rank)
            first += count
        return whole[: counts[0]]

    def in_turn(self, blocks: Iterable[bytes]) -> Iterator[bytes]:  # noqa: D102
        length = torch.zeros(1, dtype=torch.int64)
        if self.rank:
            for block in filter(None, blocks):  # a length of 0 is the end
                self._send(torch.tensor([len(block)]))
                self._send(torch.frombuffer(bytearray(block), dtype=torch.uint8))
            self._send(length)
            return
        yield from blocks
        for rank in range(1, self.size):
            while True:
                self._call(0, self._torch.recv, length, rank)
                if not int(length):
                    break
                message = torch.empty(int(length), dtype=torch.uint8)
                self._call(0, self._torch.recv, message, rank)
                yield message.numpy().tobytes()

    def _send(self, message: torch.Tensor, rank: int = 0) -> None:
        size = message.numel() * message.element_size()
        self._call(size, self._torch.send, message, rank)


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield views of some rows of an array."""
    for first in range(0, len(array), ROWS_AT_ONCE):
        yield array[first : first + ROWS_AT_ONCE]


def joined(device: str = "cpu") -> Processes:
    """Return the processes that torchrun has started, this one among them.

    Parameters
    ----------
    device : str
        The device of the problem. Each process of a machine has a GPU of its own, and
        tensors there go by nccl.
    """
    from torch import distributed

    if device != "cpu":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not distributed.is_initialized():
        backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend)
    return Processes()


def leave() -> None:
    """End the group of processes, whose threads must not outlive the interpreter."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def parts(rows: int, size: int, edges: Sequence[int] = ()) -> list[slice]:
    """Return the rows of each process: equal numbers, moved to near edges.

    Parameters
    ----------
    rows, size : int
    edges : sequence of int
        Where row groups of a file begin. A boundary moves to the nearest one if that is
        less than a quarter of a part away, so that a group is read by one process.

    Examples
    --------
    >>> parts(10, 3)
    [slice(0, 3, None), slice(3, 7, None), slice(7, 10, None)]
    >>> parts(100, 2, [0, 45, 90])
    [slice(0, 45, None), slice(45, 100, None)]
    """
    bounds = [round(rows * k / size) for k in range(size + 1)]
    near = np.asarray([edge for edge in edges if 0 < edge < rows])
    for k in range(1, size if len(near) else 1):
        nearest = int(near[np.abs(near - bounds[k]).argmin()])
        if abs(nearest - bounds[k]) * size * 4 < rows:
            bounds[k] = nearest
    return [slice(*bound) for bound in pairwise(bounds)]
