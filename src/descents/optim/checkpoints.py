"""The state of a chunk of starts between two steps, from which a descent goes on.

The rows of divided parameters are stored as those of one process, so that another number of
processes can go on with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from descents.optim.problem import Parameters
from descents.optim.runs import Status
from descents.optim.stacked import flat, unflat

if TYPE_CHECKING:
    from descents.optim.chunk import Chunk

FLAT = "pairs"
"""The tensors of a rule's state whose last axis is that of all parameters (`flat`)."""
STATUSES = tuple(Status)
EVERY = 10
"""States are kept between steps whose number is a multiple of this."""


class Part(NamedTuple):
    """An array of a checkpoint.

    Attributes
    ----------
    name : str
    value : ndarray
    divided : bool
        Whether the second axis has the rows of this process.
    """

    name: str
    value: np.ndarray
    divided: bool = False


@runtime_checkable
class Keeper(Protocol):
    """Where the states of unfinished chunks are kept."""

    def due(self) -> bool:
        """Return whether it is time to keep a state."""

    def keep(self, name: str, parts: Sequence[Part]) -> None:
        """Keep a state, in place of an earlier one with this name."""

    def kept(self, name: str, rows: int) -> dict[str, np.ndarray] | None:
        """Return a state with as many rows as this process has, None if there is none."""


def keep(chunk: Chunk, step: int) -> None:
    """Keep the state of a chunk before a step, if it is time to."""
    keeper = chunk.keeper
    if keeper is None or step % EVERY:
        return
    able = chunk.best is None and chunk.progress is None and not chunk.bound.stochastic
    if able and keeper.due():
        keeper.keep(_name(chunk), list(_captured(chunk)))


def go_on(chunk: Chunk) -> None:
    """Set a chunk to the state that was kept, if there is one of this problem."""
    if chunk.keeper is None:
        return
    divided = [n for n in chunk.bound.inner.divided if n in chunk.parameters]
    rows = chunk.parameters[divided[0]].shape[1] if divided else 0
    found = chunk.keeper.kept(_name(chunk), rows)
    if found is not None and _fits(chunk, found):
        _restore(chunk, found)


def _name(chunk: Chunk) -> str:
    return f"descent-{chunk.first}-{chunk.width}"


def _captured(chunk: Chunk) -> Iterator[Part]:
    """Yield the arrays of a state; the order of parameters is that of their names."""
    for place, (name, value) in enumerate(chunk.parameters.items()):
        divided = name in chunk.bound.inner.divided
        yield Part(f"parameters/{place:02}/{name}", value.numpy(force=True), divided)
    for group, values in chunk.state.items():
        for place, (name, value) in enumerate(values.items()):
            where = f"state/{group}/{place:02}/{name}"
            if name == FLAT:
                yield from _split(chunk, where, value)
                continue
            like = chunk.parameters.get(name)
            divided = name in chunk.bound.inner.divided
            divided &= like is not None and like.shape == value.shape
            yield Part(where, value.numpy(force=True), divided)
    assert chunk.active is not None  # noqa: S101
    numbers = [STATUSES.index(status) for status in chunk.statuses]
    yield Part("statuses", np.array(numbers, dtype=np.int64))
    for name in ("taken", "initial", "active"):
        yield Part(name, np.array(getattr(chunk, name)))
    for name in ("reached", "seconds"):
        yield Part(name, np.array([getattr(chunk, name)], dtype=np.float64))
    if chunk.convergence.scale is not None:
        yield Part("scale", chunk.convergence.scale)
    if chunk.convergence.before is not None:
        yield Part("before", chunk.convergence.before.numpy(force=True))
    for name, noted in chunk.noted.items():
        yield Part(f"noted/{name}", torch.stack(noted).numpy(force=True))


def _split(chunk: Chunk, where: str, value: torch.Tensor) -> Iterator[Part]:
    """Yield the parts of a tensor of shape (S, n, P) that belong to each parameter."""
    count = value.shape[0] * value.shape[1]
    for name, part in unflat(value.reshape(count, -1), _repeated(chunk, count)).items():
        divided = name in chunk.bound.inner.divided
        yield Part(f"{where}/{name}", part.numpy(force=True), divided)


def _repeated(chunk: Chunk, count: int) -> Parameters:
    """Return parameters of `count` starts, without memory of their own."""
    return {
        name: value[:1].expand(count, *value.shape[1:])
        for name, value in chunk.parameters.items()
    }


def _fits(chunk: Chunk, found: Mapping[str, np.ndarray]) -> bool:
    """Return whether a state is one of this chunk."""
    expected = {
        f"parameters/{place:02}/{name}": tuple(value.shape)
        for place, (name, value) in enumerate(chunk.parameters.items())
    }
    given = {n: v.shape for n, v in found.items() if n.startswith("parameters/")}
    needed = {"statuses", "taken", "initial", "active", "reached", "seconds"}
    return given == expected and needed <= set(found)


def _restore(chunk: Chunk, found: Mapping[str, np.ndarray]) -> None:
    like = next(iter(chunk.parameters.values()))

    def tensor(name: str) -> torch.Tensor:
        return torch.tensor(found[name], device=like.device)

    chunk.parameters = {
        name: tensor(f"parameters/{place:02}/{name}")
        for place, name in enumerate(chunk.parameters)
    }
    state: dict[str, Parameters] = {}
    pieces: dict[tuple[str, str], Parameters] = {}
    for where in sorted(name for name in found if name.startswith("state/")):
        _, group, _, name, *rest = where.split("/")
        if rest:
            pieces.setdefault((group, name), {})[rest[0]] = tensor(where)
        else:
            state.setdefault(group, {})[name] = tensor(where)
    for (group, name), parts in pieces.items():
        joined = flat({key: parts[key] for key in chunk.parameters})
        whole = joined.reshape(len(like), -1, joined.shape[1])
        # In the group, such a tensor comes first (`LBFGS.init`).
        state[group] = {name: whole, **state.get(group, {})}
    chunk.state = state
    chunk.statuses[:] = [STATUSES[number] for number in found["statuses"].tolist()]
    chunk.taken, chunk.initial = found["taken"].copy(), found["initial"].copy()
    chunk.active = found["active"].astype(bool)
    chunk.reached = int(found["reached"][0])
    chunk.seconds += float(found["seconds"][0])
    if "scale" in found:
        chunk.convergence.scale = found["scale"]
    if "before" in found:
        chunk.convergence.before = tensor("before")
    for where in found:
        if where.startswith("noted/"):
            chunk.noted[where.removeprefix("noted/")] = list(tensor(where))
