"""Files that are complete or absent: JSON, Parquet, safetensors.

Every file is written under a temporary name and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from descents.errors import RunFolderError
from descents.storage.parquet import bytes_to_read
from descents.storage.parquet_sizes import MOST_TIMES, SUSPECT, declared
from descents.storage.values import plain
from descents.validation import is_special

if TYPE_CHECKING:
    import pyarrow

Column = np.ndarray | Sequence[object]
"""The cells of a column of a Parquet file."""


LONGEST_NAME = 200
"""Names of files that have more bytes get a shorter temporary name."""
LEAST_SPACE, LEAST_FILE = 2**20, 2**18
"""The bytes that a run takes at least, and that its largest file may need."""


def _reason(error: Exception) -> str:
    """Return the message of an error in one line, without its number and path."""
    text = str(getattr(error, "strerror", None) or error)
    return (text.splitlines() or [type(error).__name__])[0][:200].rstrip(".")


DEEPEST = 60
"""How deeply objects and lists of a JSON file may be nested."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_LOCKED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR}


def remedy_of(error: Exception, instead: str = "another folder") -> str:
    """Return what to do about an error in writing a file.

    Examples
    --------
    >>> remedy_of(OSError(errno.ENOSPC, "No space left on device"))
    'free some space or give another folder'
    >>> remedy_of(OSError(errno.ENOENT, "No such file or directory"), "another --out")
    'its folder does not exist or takes no new files; give another --out'
    """
    number = getattr(error, "errno", None)
    if number in _LOCKED:
        return (
            f"its folder cannot be written to; change its permissions or give {instead}"
        )
    if number in _ABSENT:
        return f"its folder does not exist or takes no new files; give {instead}"
    if number == errno.EFBIG:
        return f"raise the limit on the size of files (ulimit -f) or give {instead}"
    if number == errno.ENAMETOOLONG:
        return "give a shorter name"
    if number is None or number in _FULL:
        return f"free some space or give {instead}"
    return f"give {instead}"


def _temporary(path: Path) -> Path:
    """Return the temporary name of a file, which is not longer than names may be."""
    name = path.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{os.getpid()}")


def remove_abandoned(path: Path) -> None:
    """Remove temporary files that killed processes left of a file."""
    stem = _temporary(path).name.rpartition(".")[0] + "."
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            number = entry.name.removeprefix(stem)
            if entry.name.startswith(stem) and number.isdecimal():
                try:
                    os.kill(int(number), 0)
                except (ProcessLookupError, OverflowError):
                    os.unlink(entry.path)


def check_space(folder: Path) -> None:
    """Raise an error if a disk is so full that no run could be written to it.

    Raises
    ------
    RunFolderError
        If there is less than `LEAST_SPACE`, or files are limited to less than `LEAST_FILE`.
    """
    limit, free = -1, LEAST_SPACE
    with contextlib.suppress(OSError, ImportError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        free = shutil.disk_usage(folder).free
    if 0 <= limit < LEAST_FILE:
        raise RunFolderError(
            f"a process may write files of {limit} bytes here, but those of a run may "
            f"have {LEAST_FILE} or more; raise the limit (ulimit -f)"
        )
    if free < LEAST_SPACE:
        raise RunFolderError(
            f"the disk of {folder} has {free} bytes left, but a run takes at least "
            f"{LEAST_SPACE}; free some space or give another folder"
        )


def write_bytes(path: Path, content: bytes, *, alone: bool = False) -> None:
    """Write a file under a temporary name, then rename it; see `written`."""
    with written(path, alone=alone) as file:
        file.write(content)


@contextlib.contextmanager
def written(path: Path, *, alone: bool = False) -> Iterator[BufferedWriter]:
    """Open a file under a temporary name, and rename it when it is complete.

    Parameters
    ----------
    path : Path
    alone : bool
        Whether the file is in a folder of the user, and not in the work of a run: a link
        is then followed, and what killed processes left of the file is removed.

    Raises
    ------
    RunFolderError
        If writing fails, or if there is a device or a pipe; no partial file is left.
    """
    if alone:
        path = Path(os.path.realpath(path))
        if is_special(path):
            raise RunFolderError(
                f"{path} is a device or a pipe; give the name of a file"
            )
        remove_abandoned(path)
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):  # a signal
            raise
        raise RunFolderError(
            f"could not write {path}: {error.strerror}; {remedy_of(error)}"
        ) from None


def write_new(path: Path, content: bytes) -> None:
    """Create the folders of a file, then write it with `write_bytes`."""
    make_folder(path.parent)
    write_bytes(path, content)


def make_folder(folder: Path) -> None:
    """Create a folder, unless it exists.

    Raises
    ------
    RunFolderError
        If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"could not create {folder}: {error.strerror}; give another folder"
        ) from None


def write_tensors(
    path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]
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
            facts = of_json_text((file.metadata() or {})["facts"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except MemoryError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({_reason(error)}); give a file that descents wrote"
        ) from None
    return arrays, facts


def write_table(path: Path, columns: Mapping[str, Column]) -> None:
    """Write columns of equal length as Parquet."""
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(_table(columns), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def _table(columns: Mapping[str, Column]) -> pyarrow.Table:
    import pyarrow

    return pyarrow.table({name: _arrow(values) for name, values in columns.items()})


def _arrow(values: Column) -> pyarrow.Array:
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


def write_blocks(path: Path, blocks: Iterable[Mapping[str, Column]]) -> None:
    """Write a Parquet file from blocks of rows.

    Raises
    ------
    RunFolderError
        If writing fails; no partial file is left.
    """
    import pyarrow
    import pyarrow.parquet

    temporary, writer = _temporary(path), None
    try:
        with open(temporary, "wb") as file:
            for block in blocks:
                rows = _table(block)
                if writer is None:
                    writer = pyarrow.parquet.ParquetWriter(file, rows.schema)
                writer.write_table(rows)
            if writer is not None:
                writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError) or isinstance(error, RunFolderError):
            raise
        raise RunFolderError(
            f"could not write {path}: {_reason(error)}; {remedy_of(error)}"
        ) from None


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a Parquet file as arrays, with NaN for null numbers."""
    import pyarrow.parquet

    try:
        # Python opens the file, because Arrow opens no path that is not UTF-8.
        with path.open("rb") as source:
            found = declared(source)
            most = max(SUSPECT, MOST_TIMES * source.seek(0, 2))
            with pyarrow.parquet.ParquetFile(source) as file:
                if bytes_to_read(file, found, most) > most:
                    raise ValueError("its table is far larger than its file")
                table = file.read()
        table.validate(full=True)  # text that is not UTF-8, or ends outside
        return {
            name: _numpy(column)
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    except MemoryError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise RunFolderError(
            f"{path} cannot be read ({_reason(error)}); give the folder of a complete run"
        ) from None


def _numpy(column: pyarrow.ChunkedArray) -> np.ndarray:
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
        value = of_json_text(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(
            f"{_absence(path)}; give the folder of a complete run"
        ) from None
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({_reason(error)}); give the folder of a complete run"
        ) from None
    return value


def of_json_text(text: str) -> dict[str, object]:
    """Return the object in a JSON text, which may come from anywhere.

    Raises
    ------
    ValueError
        If it is not a JSON object, is nested deeper than any result, or has numbers or
        texts that cannot be stored.

    Examples
    --------
    >>> of_json_text('{"a": [1, null]}')
    {'a': [1, None]}
    >>> of_json_text("[" * 10_000)
    Traceback (most recent call last):
    ...
    ValueError: it is nested too deeply
    """
    try:
        value = json.loads(text, parse_constant=_not_a_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    level: list[object] = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for one in level
            for item in (
                one.values() if isinstance(one, dict) else cast("list[object]", one)
            )
            if isinstance(item, dict | list)
        ]
    if level:
        raise ValueError("it is nested too deeply")
    if _SURROGATE.search(text):
        # Half a character raises, a byte of a file name that is not UTF-8 does not.
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return value


def _not_a_number(text: str) -> None:
    raise ValueError(f"it contains {text}")


def _absence(path: Path) -> str:
    """Return why a file of a run is absent: there is no folder, or no complete run."""
    folder = path.parent
    if not os.path.exists(folder):
        return f"the folder {folder} does not exist"
    if os.path.isfile(folder):
        if os.path.isfile(folder.parent / path.name):
            return (
                f"{folder} is a file in the folder of a run, which is {folder.parent}"
            )
        return f"{folder} is a file, not the folder that a command wrote"
    if os.path.exists(folder / ".partial"):
        return (
            f"{folder} contains a run that was not finished, which --resume continues"
        )
    return f"{folder} contains no run, as it has no {path.name}"
