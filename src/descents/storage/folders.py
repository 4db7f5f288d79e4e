"""Run folders and files: the only module that writes to disk.

Every file is written under a temporary name and then renamed, so that it is complete or
absent. While a study runs, its files are in ``.partial`` inside its folder. At the end they
are moved up, ``result.json`` last: if it is present, the run is complete.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from descents.errors import InterruptedRunError, LostProcessError, RunFolderError
from descents.validation import folder_path

RESULT = "result.json"
ROWS = "starts.parquet"
TENSORS = "tensors.safetensors"
PARTIAL = ".partial"
IDENTITY = "run.json"
STAGES = "stages"


def plain(value: Any) -> Any:
    """Convert `value` for JSON: numpy types to Python's, NaN and infinity to null.

    Dataclasses become objects. Fields with ``metadata={"omitted": True}`` are left out if
    they are None.

    Examples
    --------
    >>> plain({"a": np.float32(0.5), "b": np.array([1, 2]), "c": float("nan")})
    {'a': 0.5, 'b': [1, 2], 'c': None}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if not field.metadata.get("omitted")
            or getattr(value, field.name) is not None
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def typed(value: Any) -> Any:
    """Convert `value` for JSON, so that `of_typed` can restore its types.

    Numbers, text, booleans, None and lists stay as they are. Tuples, mappings (with keys
    of any of these types), arrays, and numbers of numpy become an object with their
    ``kind``.

    Raises
    ------
    TypeError
        If the value is of another type.

    Examples
    --------
    >>> typed({0: 1.5, True: None})
    {'kind': 'mapping', 'items': [[0, 1.5], [True, None]]}
    >>> of_typed(typed({0: (np.int64(3), "a")}))
    {0: (np.int64(3), 'a')}
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"kind": "float", "value": str(value)}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, tuple):
        return {"kind": "tuple", "items": [typed(item) for item in value]}
    if isinstance(value, Mapping):
        items = [[typed(key), typed(item)] for key, item in value.items()]
        return {"kind": "mapping", "items": items}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind in "mM":
            items = array.astype(np.int64).tolist()
        elif array.dtype.kind in "biufUO":
            items = typed(array.tolist())
        else:
            raise TypeError(f"an array of {array.dtype} cannot be stored")
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {"kind": kind, "dtype": array.dtype.str, "items": items}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def of_typed(value: Any) -> Any:
    """Restore a value that `typed` converted.

    Examples
    --------
    >>> of_typed(typed(np.array([True, False])))
    array([ True, False])
    """
    if isinstance(value, list):
        return [of_typed(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if kind == "float":
        return float(value["value"])
    if kind == "tuple":
        return tuple(of_typed(item) for item in value["items"])
    if kind == "mapping":
        return {of_typed(key): of_typed(item) for key, item in value["items"]}
    if kind not in ("array", "scalar"):
        raise ValueError(f"a value has the unknown kind {kind!r}")
    dtype, items = np.dtype(value["dtype"]), of_typed(value["items"])
    if dtype.kind in "mM":
        array = np.array(items, dtype=np.int64).astype(dtype)
    elif dtype.kind == "O":
        array = np.empty(len(items), dtype=object)
        array[:] = items
    else:
        array = np.array(items, dtype=dtype)
    return array if kind == "array" else array[()]


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a mapping, including those of nested mappings."""
    entries: dict[str, Any] = {}
    for name, item in value.items():
        entries |= _flat(item) if isinstance(item, Mapping) else {name: item}
    return entries


def _reason(error: Exception) -> str:
    """Return the message of an error, without its number and path."""
    return getattr(error, "strerror", None) or str(error)


def json_text(value: Any) -> str:
    """Return `value` as indented JSON text that ends in a newline."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it.

    Raises
    ------
    RunFolderError
        If writing fails; no partial file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFolderError(
            f"could not write {path}: {error.strerror}; free some space or give "
            "another folder"
        ) from None


def write_new(path: Path, content: bytes) -> None:
    """Create the folders of a file, then write it with `write_bytes`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"could not create {path.parent}: {error.strerror}; give another folder"
        ) from None
    write_bytes(path, content)


def write_tensors(
    path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> None:
    """Write named arrays as safetensors, with `facts` as JSON in the header."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    header = {"facts": json.dumps(plain(facts), allow_nan=False)}
    write_bytes(path, save(contiguous, metadata=header))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the facts that `write_tensors` wrote.

    Raises
    ------
    RunFolderError
        If the file is absent, damaged, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({_reason(error)}); give a file that descents wrote"
        ) from None
    return arrays, facts


def write_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length as Parquet."""
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(_table(columns), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def _table(columns: Mapping[str, Any]) -> Any:
    import pyarrow

    return pyarrow.table({name: _arrow(values) for name, values in columns.items()})


def _arrow(values: Any) -> Any:
    """Return a column as an Arrow array.

    Numbers and texts are passed as buffers, because Arrow's own conversion imports pandas
    if it is installed, which takes longer than all the writing.
    """
    import pyarrow

    array = np.asarray(values)
    if array.dtype.kind in "iuf" and array.ndim == 1:
        data = pyarrow.py_buffer(np.ascontiguousarray(array))
        kind = pyarrow.from_numpy_dtype(array.dtype)
        return pyarrow.Array.from_buffers(kind, len(array), [None, data])
    texts = [text for text in values if isinstance(text, str)]
    if len(array) and len(texts) == len(array):
        encoded = [str(text).encode() for text in texts]
        ends = np.cumsum([0, *map(len, encoded)])
        if ends[-1] < 2**31:
            parts = [ends.astype(np.int32), b"".join(encoded)]
            buffers = [None, *map(pyarrow.py_buffer, parts)]
            return pyarrow.Array.from_buffers(pyarrow.string(), len(texts), buffers)
    return pyarrow.array(values)


def write_blocks(path: Path, blocks: Iterable[Mapping[str, Any]]) -> None:
    """Write a Parquet file from blocks of rows.

    Raises
    ------
    RunFolderError
        If writing fails; no partial file is left.
    """
    import pyarrow
    import pyarrow.parquet

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    writer = None
    try:
        for block in blocks:
            rows = _table(block)
            if writer is None:
                writer = pyarrow.parquet.ParquetWriter(temporary, rows.schema)
            writer.write_table(rows)
        if writer is not None:
            writer.close()
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError) or isinstance(error, RunFolderError):
            raise
        raise RunFolderError(
            f"could not write {path}: {_reason(error)}; free some space or give "
            "another folder"
        ) from None


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a Parquet file as arrays, with NaN for null numbers."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pyarrow.ArrowException) as error:
        raise RunFolderError(
            f"{path} cannot be read ({_reason(error)}); give the folder of a complete run"
        ) from None
    return {
        name: _numpy(column)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _numpy(column: Any) -> np.ndarray:
    """Return an Arrow column as a numpy array, like `_arrow` without pandas if possible."""
    from pyarrow import types

    plain = types.is_integer(column.type) or types.is_floating(column.type)
    if plain and not column.null_count:
        parts = [np.from_dlpack(part) for part in column.chunks if len(part)]
        return np.concatenate(parts) if parts else column.to_numpy()
    if types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    array: np.ndarray = column.to_numpy()
    return array


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    RunFolderError
        If it is absent or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({_reason(error)}); give the folder of a complete run"
        ) from None
    return value


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
        self, path: str | Path, identity: Mapping[str, Any], *, resume: bool = False
    ) -> None:
        self.path = folder_path(path)
        self.work = self.path / PARTIAL
        self._identity = plain(identity)
        self._resume = resume
        self._made: list[Path] = []
        self._ours = False  # whether the contents of .partial may be removed
        self._lock: int | None = None
        self.complete = False

    def __enter__(self) -> RunFolder:
        try:
            self._make_folder()
            self._take_lock()
            self._look_inside()
        except OSError as error:
            self._abandon()
            if isinstance(error, RunFolderError):
                raise
            raise RunFolderError(
                f"the folder {self.path} cannot be written: {error.strerror}; "
                "give another --out"
            ) from None
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
            return
        if self._resume and begun:
            # If the run ended while files were moved up, they are moved again.
            self._compare(read_json(self.work / IDENTITY))
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
        self._ours = (
            not begun
        )  # an error must not remove parts that an earlier run made
        (self.work / STAGES).mkdir(parents=True, exist_ok=True)
        self.write_json(IDENTITY, self._identity)

    def _compare(self, stored: Any) -> None:
        if stored != self._identity:
            old = _flat(stored) if isinstance(stored, dict) else {}
            new = _flat(self._identity)
            differences = [
                f"{name} {old.get(name)!r}, not {new.get(name)!r}"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            ]
            raise RunFolderError(
                f"{self.path} contains another run ({'; '.join(differences)}); give the "
                "same options, or another --out"
            )

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file into `work`."""
        write_bytes(self.work / name, json_text(value).encode())

    def write_table(self, name: str, columns: Mapping[str, Any]) -> None:
        """Write a Parquet file into `work`."""
        write_table(self.work / name, columns)

    def write_blocks(self, name: str, blocks: Iterable[Mapping[str, Any]]) -> None:
        """Write a Parquet file from blocks of rows into `work`."""
        write_blocks(self.work / name, blocks)

    def write_tensors(
        self, name: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
    ) -> None:
        """Write a safetensors file into `work`."""
        write_tensors(self.work / name, arrays, facts)

    def stage(self, name: str) -> Path:
        """Return the path of an intermediate result, which `finish` removes."""
        return self.work / STAGES / name

    @property
    def stages(self) -> int:
        """Number of stored intermediate results."""
        return len(list((self.work / STAGES).glob("[!.]*")))

    def finish(self) -> None:
        """Move all files from `work` to the folder, ``result.json`` last."""
        try:
            self._move_up()
        except KeyboardInterrupt:
            self._move_up()  # this takes a moment, and then the run is complete
        except OSError as error:
            raise RunFolderError(
                f"could not write {self.path}: {error.strerror}; free some space or "
                "give another --out"
            ) from None

    def _move_up(self) -> None:
        names = {path.name for path in self.work.iterdir()} - {STAGES, IDENTITY}
        for name in sorted(names, key=lambda name: (name == RESULT, name)):
            if not name.startswith("."):  # skip temporary files of a killed process
                os.replace(self.work / name, self.path / name)
        self.complete = True
        shutil.rmtree(self.work, ignore_errors=True)

    def _abandon(self) -> None:
        """Remove the files and folders that this run created."""
        if self._ours:
            shutil.rmtree(self.work, ignore_errors=True)
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
        keep_parts = isinstance(error, KeyboardInterrupt | InterruptedRunError)
        if isinstance(error, LostProcessError) and self.stages:
            keep_parts = True
            place = shlex.quote(str(self.path))
            error.add_note(f"continue with --resume --out {place} and the same options")
        if not self.complete and not keep_parts:
            self._abandon()
        self._release()
