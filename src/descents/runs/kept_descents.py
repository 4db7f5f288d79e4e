"""The states of a descent in a run folder, from which `--resume` goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from descents.errors import RunFolderError
from descents.optim.checkpoints import Part
from descents.optim.collective import Collective
from descents.optim.runs import Runs
from descents.storage.files import read_tensors, write_tensors
from descents.storage.run_folders import RunFolder

SHARE = 0.05
"""The maximum share of the time that is spent on keeping states."""


class KeptDescents:
    """The states of the chunks of a descent, in the folder of its run.

    Processes that share a table send their rows to the first one, which alone writes.

    Parameters
    ----------
    folder : RunFolder or None
        None in the other processes.
    together : Collective
    seconds : float
        The least time between two states.
    every : bool
        Whether every finished chunk is kept, as a shard needs. Otherwise a chunk is kept
        if `seconds` have passed: to write the starts of a short descent would take longer
        than the descent. Of processes that share a table no finished chunk is kept.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        together: Collective,
        seconds: float,
        *,
        every: bool = False,
    ) -> None:
        self._folder, self._together, self._seconds = folder, together, seconds
        self._next = time.monotonic() + seconds
        self._every = every

    def _chunk(self, name: str) -> Path | None:
        """Return the file of a finished chunk."""
        if self._folder is None or self._together.size > 1:
            return None
        return self._folder.stage(f"starts-{name}.safetensors")

    def get(self, name: str) -> Runs | None:
        """Return a finished chunk, None if it is not kept."""
        path = self._chunk(name)
        return None if path is None else Runs.if_kept(path)

    def put(self, name: str, runs: Runs) -> None:
        """Keep a finished chunk, if it is time to.

        A chunk of a shard that cannot be written is an error, others are not needed.
        """
        path = self._chunk(name)
        if path is None or not (self._every or time.monotonic() >= self._next):
            return
        with (
            contextlib.nullcontext()
            if self._every
            else contextlib.suppress(RunFolderError)
        ):
            runs.save(path)

    def due(self) -> bool:
        """Return whether it is time to keep a state."""
        return self._together.agreed(time.monotonic() >= self._next)

    def keep(self, name: str, parts: Sequence[Part]) -> None:
        """Keep a state, in place of an earlier one with this name.

        A state that cannot be written, for example on a full disk, does not end the fit.
        """
        begun, arrays = time.monotonic(), {}
        for part in parts:
            value: np.ndarray | None = part.value
            if part.divided:
                rows = np.ascontiguousarray(np.moveaxis(part.value, 1, 0))
                value = self._together.rows(rows)
            if value is not None:
                arrays[part.name] = value
        if self._folder is not None:
            facts = {"divided": [part.name for part in parts if part.divided]}
            with contextlib.suppress(RunFolderError):
                write_tensors(self._folder.stage(f"{name}.safetensors"), arrays, facts)
        now = time.monotonic()
        self._next = now + max(self._seconds, (now - begun) / SHARE)

    def kept(self, name: str, rows: int) -> dict[str, np.ndarray] | None:
        """Return a state with the rows of this process, None if there is none."""
        together, arrays = self._together, dict[str, np.ndarray]()
        divided: list[str] | None = None
        if self._folder is not None:
            with contextlib.suppress(RunFolderError):
                path = self._folder.stage(f"{name}.safetensors")
                arrays, facts = read_tensors(path)
                divided = facts["divided"]
        divided = together.from_first(divided)
        if divided is None:
            return None
        empty = {n: a[:0] for n, a in arrays.items() if n in divided}
        lengths = {len(a) for n, a in arrays.items() if n in divided}
        empty, lengths = together.from_first((empty, lengths))
        if lengths - {sum(together.each(rows))}:
            return None  # of another table
        found = {n: a for n, a in arrays.items() if n not in divided}
        found = dict(together.from_first(found))
        for part, like in empty.items():
            here = np.empty((rows, *like.shape[1:]), like.dtype)
            dealt = together.dealt(arrays.get(part), here)
            found[part] = np.ascontiguousarray(np.moveaxis(dealt, 0, 1))
        return found
