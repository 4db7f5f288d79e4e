"""The folder of a run.

While a study runs, its files are in ``.partial`` inside its folder. At the end they are
moved up, ``result.json`` last: if it is present, the run is complete.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from descents.errors import (
    InterruptedRunError,
    InvalidValueError,
    LostProcessError,
    RunFolderError,
)
from descents.signals import (
    StoppedBySignalError,
    add_hint,
    deferred,
    remove_hint,
)
from descents.storage.files import (
    Column,
    check_space,
    read_json,
    remedy_of,
    write_blocks,
    write_bytes,
    write_table,
    write_tensors,
)
from descents.storage.values import json_text, plain
from descents.text import counted
from descents.validation import folder_path

RESULT = "result.json"
ROWS = "starts.parquet"
TENSORS = "tensors.safetensors"
PARTIAL = ".partial"
IDENTITY = "run.json"
STAGES = "stages"


def _same_bytes(one: Mapping[str, object], two: Mapping[str, object]) -> bool:
    """Return whether two runs read the same bytes in the same way, of any name.

    The end of a name decides how a file is read.
    """
    kinds = [Path(str(run.get("table"))).suffix.lower() for run in (one, two)]
    hashes = [run.get("sha256") for run in (one, two)]
    return bool(hashes[0]) and hashes[0] == hashes[1] and kinds[0] == kinds[1]


def _flat(value: Mapping[str, object]) -> dict[str, object]:
    """Return the entries of a mapping, including those of nested mappings."""
    entries: dict[str, object] = {}
    for name, item in value.items():
        entries |= _flat(item) if isinstance(item, Mapping) else {name: item}
    return entries


def _short(name: str, entries: Mapping[str, object]) -> str:
    """Return an entry of an identity for a message; of a hash, the first 12 digits."""
    value = entries.get(name)
    return (
        f"{value[:12]}..."
        if name == "sha256" and isinstance(value, str) and value
        else repr(value)
    )


class RunFolder:
    """The folder of one run, which is locked while this process works in it.

    Parameters
    ----------
    path : str or Path
        Must be absent or empty; with `resume`, it may contain the same run, started or
        complete.
    identity : mapping
        The command and its settings, which identify the run.
    resume : bool
    resumable : bool
        Whether the command has an option to continue a run. If not, what it wrote is
        removed when it ends early.

    Attributes
    ----------
    complete : bool
        Whether the folder contains the complete run.
    work : Path
        The folder that files are written to until `finish`.

    Raises
    ------
    RunFolderError
        If the path is a file, cannot be written, or contains something else.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "run"
    >>> with RunFolder(place, {"command": "demo"}) as folder:
    ...     folder.write_json(RESULT, {"answer": 42})
    ...     folder.finish()
    >>> read_json(place / RESULT)
    {'answer': 42}
    """

    def __init__(
        self,
        path: str | Path,
        identity: Mapping[str, object],
        *,
        resume: bool = False,
        resumable: bool = True,
    ) -> None:
        self.path = folder_path(path)
        self.work = self.path / PARTIAL
        self._identity: dict[str, object] = plain(identity)
        self._resume, self._resumable = resume, resumable
        self._made: list[Path] = []
        self._moved: list[Path] = []
        self._ours = False  # whether the contents of .partial may be removed
        self._lock: int | None = None
        self.complete = False

    def __enter__(self) -> RunFolder:
        with deferred():
            try:
                self._make_folder()
                self._take_lock()
                self._look_inside()
            except (OSError, ValueError) as error:  # a ValueError of a zero byte
                self._abandon()
                if isinstance(error, RunFolderError):
                    raise
                raise RunFolderError(
                    f"the folder {self.path} cannot be written: "
                    f"{getattr(error, 'strerror', None) or error}; give another --out"
                ) from None
            add_hint(self._hint)
        return self

    def _make_folder(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file; give --out a folder")
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        for parent in reversed(missing):
            parent.mkdir()
            self._made.append(parent)

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not a POSIX system: there is no lock
            return
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(
                f"another process is working in {self.path}; wait for it, or give "
                "another --out"
            ) from None

    def _look_inside(self) -> None:
        present = sorted(entry.name for entry in self.path.iterdir())
        begun = (self.work / IDENTITY).exists()
        if RESULT in present and self._resume:
            self._compare(read_json(self.path / RESULT).get("run"))
            self.complete = True
            # A kill may have come after the last file was moved up.
            shutil.rmtree(self.work, ignore_errors=True)
            return
        if self._resume and begun:
            self._compare(read_json(self.work / IDENTITY))
            self._move_back(name for name in present if name != PARTIAL)
        elif self._resume and present == [PARTIAL]:
            pass  # the run ended before its identity was written
        elif PARTIAL in present:
            raise RunFolderError(
                f"{self.path} contains a run that was not finished; continue it with "
                "--resume, or give another --out"
            )
        elif present:
            raise RunFolderError(
                f"{self.path} is not empty (it contains {present[0]}); give --out a new "
                "folder"
            )
        # An error must not remove parts that an earlier run made.
        self._ours = not begun
        check_space(self.path)
        (self.work / STAGES).mkdir(parents=True, exist_ok=True)
        self.write_json(IDENTITY, self._identity)

    def _move_back(self, names: Iterable[str]) -> None:
        """Undo what `finish` did before the run ended, so that it can be done again."""
        for name in names:
            if not (self.work / name).exists():
                os.replace(self.path / name, self.work / name)

    def _compare(self, stored: object) -> None:
        known = stored if isinstance(stored, dict) else {}
        if _same_bytes(known, self._identity):  # its name has no effect then
            known = known | {"table": self._identity["table"]}
        if known != self._identity:
            old, new = _flat(known), _flat(self._identity)
            differences = [
                f"{name} {_short(name, old)}, not {_short(name, new)}"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            ]
            raise RunFolderError(
                f"{self.path} contains another run ({'; '.join(differences)}); give the "
                "same options, or another --out"
            )

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file into `work`."""
        write_bytes(self.work / name, json_text(value).encode())

    def write_table(self, name: str, columns: Mapping[str, Column]) -> None:
        """Write a Parquet file into `work`."""
        write_table(self.work / name, columns)

    def write_blocks(self, name: str, blocks: Iterable[Mapping[str, Column]]) -> None:
        """Write a Parquet file from blocks of rows into `work`."""
        write_blocks(self.work / name, blocks)

    def write_tensors(
        self, name: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]
    ) -> None:
        """Write a safetensors file into `work`."""
        write_tensors(self.work / name, arrays, facts)

    def stage(self, name: str) -> Path:
        """Return the path of an intermediate result, which `finish` removes."""
        return self.work / STAGES / name

    @property
    def stages(self) -> int:
        """Number of stored intermediate results."""
        try:
            names = os.listdir(self.work / STAGES)
        except OSError:
            return 0
        return sum(not name.startswith(".") for name in names)

    @property
    def fitted(self) -> bool:
        """Whether everything is written but the page, and waits for `finish`.

        ``result.json`` is the last file that is written before the page is drawn.
        """
        return not self.complete and (self.work / RESULT).exists()

    def finish(self) -> None:
        """Move all files from `work` to the folder, ``result.json`` last."""
        try:
            with deferred():
                self._move_up()
        except OSError as error:
            raise RunFolderError(
                f"could not write {self.path}: {error.strerror}; "
                f"{remedy_of(error, 'another --out')}"
            ) from None

    def _move_up(self) -> None:
        names = {path.name for path in self.work.iterdir()} - {STAGES, IDENTITY}
        for name in sorted(names, key=lambda name: (name == RESULT, name)):
            if not name.startswith("."):  # skip temporary files of a killed process
                os.replace(self.work / name, self.path / name)
                self._moved.append(self.path / name)
        self.complete = True
        shutil.rmtree(self.work, ignore_errors=True)

    def _abandon(self) -> None:
        """Remove the files and folders that this run created."""
        if self._ours:
            shutil.rmtree(self.work, ignore_errors=True)
            for path in self._moved:  # the disk was full before the last one
                path.unlink(missing_ok=True)
        self._release()
        self._unmake()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _unmake(self) -> None:
        for parent in reversed(self._made):
            try:
                parent.rmdir()
            except OSError:
                break

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with deferred():
            stopped = isinstance(error, StoppedBySignalError | KeyboardInterrupt)
            if not stopped and not (error is None and self.complete):
                remove_hint(
                    self._hint
                )  # a complete run is named until the command ends
            kept = self.complete or self._is_kept(error)
            if kept and isinstance(error, Exception):
                error.add_note(self._hint())
            if not kept:
                self._abandon()
            self._release()

    def _is_kept(self, error: BaseException | None) -> bool:
        """Return whether a run that ended early can be continued.

        Whatever was stored is kept, unless the options or the table must be changed.
        """
        if not self._resumable or error is None or isinstance(error, InvalidValueError):
            return False
        if isinstance(error, LostProcessError):
            return self.stages > 0
        expected = KeyboardInterrupt | StoppedBySignalError | InterruptedRunError
        nobody_reads = isinstance(error, BrokenPipeError)  # as in `| head -1`
        if isinstance(error, expected | OSError | MemoryError) and not nobody_reads:
            return True
        return self.stages > 0 or self.fitted

    def _hint(self) -> str:
        """Return what a command that ends early leaves behind, and how to go on."""
        options = f"--resume --out {shlex.quote(str(self.path))} and the same options"
        if self.complete:
            left = f"; {options} write what is left" if self._resumable else ""
            return f"the run in {self.path} is complete{left}"
        if not self._resumable:
            return "nothing is kept"
        if self.fitted:
            return f"the fit is kept: continue with {options}"
        count = self.stages
        are = "is" if count == 1 else "are"
        kept = f"{counted(count, 'finished part')} {are} kept: " if count else ""
        return f"{kept}continue with {options}"
