"""Tables larger than memory: numbers in a file, read in blocks of rows."""

from __future__ import annotations

import copy
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descents.errors import InvalidValueError, for_caller
from descents.tables.arrays import array_header
from descents.tables.frames import reason_of, short
from descents.tables.memory import size_in_bytes
from descents.tables.tables import check_names, known_names
from descents.text import counted
from descents.validation import folder_path

if TYPE_CHECKING:
    from io import FileIO

    import pyarrow
    from numpy.typing import DTypeLike

COLUMNS_AT_ONCE = 16
"""Number of columns of a Parquet file that are decompressed together."""
_PAGES = """
import json
import pyarrow.parquet
with pyarrow.parquet.ParquetFile(sys.argv[1]) as file:
    facts = file.metadata
    groups = [facts.row_group(k) for k in range(facts.num_row_groups)]
    print(json.dumps([
        max(
            chunk.total_compressed_size + chunk.total_uncompressed_size
            for chunk in (group.column(j) for group in groups)
        )
        for j in range(facts.num_columns * bool(groups))
    ]))
"""
"""Program that prints, for each column of a Parquet file, the maximum over row groups of
the compressed plus the uncompressed size."""


class TableOnDisk:
    """A table of numbers in a file, of which one block of rows at a time is in memory.

    `LowRankModel.fit`, `transform` and `score` accept it in place of a table that is
    larger than memory.

    Parameters
    ----------
    source : str, Path or numpy.memmap
        A two-dimensional ``.npy`` file, a ``.parquet`` file with numeric columns, or a
        whole memory map, whose file is read. NaN and null are missing cells.
    memory : str or int
        Memory that a fit may use, such as "500MB". This covers blocks of rows, the
        factors of all starts and the normal equations, but not Python and its libraries.
    ignore : sequence of str
        Columns that are not read. The columns of an array have the names "0", "1", ...
    dtype : numpy dtype, optional
        Type of the blocks, float32 or float64. By default float32 if all columns of the
        file are floats of at most 32 bits, else float64.

    Attributes
    ----------
    where : str
        Path of the file, as messages show it.
    memory : int
        In bytes.
    shape : tuple of int
    first_row, all_rows : int
        The position of the first row in the file, and how many rows the file has.
    names : tuple of str
        Names of the columns.
    named : bool
        Whether the file names its columns.
    whole : bool ndarray of shape (columns,)
        Whether the type of a column is an integer type.
    dtype : numpy dtype

    Raises
    ------
    InvalidValueError
        If `source` is not such a table, or `memory` is not a size.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "table.npy"
    >>> np.save(path, np.arange(6.0).reshape(3, 2))
    >>> table = TableOnDisk(path, "1MB")
    >>> [(place.start, block.tolist()) for place, block in table.blocks(2)]
    [(0, [[0.0, 1.0], [2.0, 3.0]]), (2, [[4.0, 5.0]])]
    """

    def __init__(
        self,
        source: str | Path | np.memmap,
        memory: str | int,
        *,
        ignore: Sequence[str] = (),
        dtype: DTypeLike | None = None,
    ) -> None:
        self.memory = size_in_bytes(memory)
        reader: _Array | _Parquet
        if isinstance(source, np.memmap):
            reader = _mapped(source)
        elif isinstance(source, str | Path):
            reader = _opened(source)
        else:
            raise InvalidValueError(
                f"the table is a {type(source).__name__}; give the path of a .npy or "
                ".parquet file, or a numpy.memmap"
            )
        self.where, self._reader = reader.where, reader
        left_out = known_names(ignore, reader.names)
        selected = [j for j, name in enumerate(reader.names) if name not in left_out]
        self.names = tuple(reader.names[j] for j in selected)
        self.named = isinstance(reader, _Parquet)
        reader.select(selected)
        self.shape = (reader.rows, len(selected))
        self.first_row, self.all_rows = 0, reader.rows
        if not all(self.shape):
            raise InvalidValueError(
                f"{self.where} has {counted(self.shape[0], 'row')} and "
                f"{counted(self.shape[1], 'column')} to be read; give a table with at "
                "least one of each"
            )
        kinds = reader.kinds
        self.whole = np.array([kind.kind in "iu" for kind in kinds])
        small = all(kind.kind == "f" and kind.itemsize <= 4 for kind in kinds)
        self.dtype = np.dtype(np.float32 if small else np.float64)
        if dtype is not None:
            self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise InvalidValueError(f"dtype is {dtype}; give float32 or float64")
        self._stamp = _stamp(reader.where, reader.path)
        self.passes = 0
        """Number of times that reading began at the first row."""

    def of_columns(self, names: Sequence[str]) -> TableOnDisk:
        """Return the table with the columns `names`, in this order.

        Raises
        ------
        InvalidValueError
            If the table lacks one of them.
        """
        absent = [name for name in names if name not in self.names]
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            raise InvalidValueError(
                f"the table lacks {len(absent)} of the {counted(len(names), 'column')} "
                f"that the model was fitted with: {', '.join(map(repr, absent[:5]))}"
                f"{more}; add them, with null where a value is missing"
            )
        other = copy.copy(self)
        other._reader = copy.copy(self._reader)
        other._reader.select([self._reader.names.index(name) for name in names])
        other.names, other.shape = tuple(names), (self.shape[0], len(names))
        other.whole = np.array([self.whole[self.names.index(n)] for n in names])
        return other

    def of_rows(self, place: slice) -> TableOnDisk:
        """Return the table of some successive rows, of which alone the file is read.

        Examples
        --------
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "table.npy"
        >>> np.save(path, np.arange(6.0).reshape(3, 2))
        >>> [block.tolist() for _, block in TableOnDisk(path, "1MB").of_rows(slice(1, 3)).blocks(9)]
        [[[2.0, 3.0], [4.0, 5.0]]]
        """
        other = copy.copy(self)
        other._reader = copy.copy(self._reader)
        other._reader.first, other._reader.rows = place.start, place.stop - place.start
        other.first_row, other.shape = place.start, (other._reader.rows, self.shape[1])
        return other

    @property
    def edges(self) -> list[int]:
        """Where the row groups of the file begin; none in an array."""
        return list(np.cumsum([0, *self._reader.groups[:-1]]))

    def blocks(self, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of rows in order, each with its position in the table.

        Parameters
        ----------
        rows : int
            Maximum number of rows in a block.

        Yields
        ------
        slice, ndarray
            The rows that the block has in the table, and the block.

        Raises
        ------
        InvalidValueError
            If the file cannot be read, or has changed since it was opened.
        """
        self.passes += 1
        first = 0
        self._check()
        try:
            for block in self._reader.read(rows, self.dtype):
                place = slice(first, first + len(block))
                first = place.stop
                yield place, block
                del block
        except (OSError, EOFError, MemoryError) as error:
            self._check()
            raise InvalidValueError(
                f"{self.where} cannot be read ({reason_of(error)}); give a file that can"
            ) from None
        self._check()

    def reading(self, rows: int) -> int:
        """Return the memory, in bytes, that reading blocks of `rows` rows needs."""
        return self._reader.reading(rows, self.dtype)

    def _check(self) -> None:
        now = _stamp(self.where, self._reader.path)
        if now != self._stamp:
            raise InvalidValueError(
                f"{self.where} has changed since it was opened (it had {self._stamp[0]} "
                f"bytes, and has {now[0]}); give a file that is not written to meanwhile"
            )


def _stamp(where: str, path: Path) -> tuple[int, int]:
    """Return the size of a file and the time when it was last modified."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidValueError(
            f"{where} cannot be read ({error.strerror}); give a file that can"
        ) from None
    return status.st_size, status.st_mtime_ns


def _opened(source: str | Path) -> _Array | _Parquet:
    where, path = str(source), folder_path(source)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".parquet"):
        raise InvalidValueError(
            f"{where} is neither a .npy nor a .parquet file, and only these are read in "
            "blocks of rows; convert it to one of them, or "
            f"{for_caller('leave --memory out', 'give no memory')} to read it whole"
        )
    if path.is_dir():
        raise InvalidValueError(f"{where} is a folder; give a file")
    if not path.exists():
        raise InvalidValueError(f"there is no file {where}; check its name")
    if suffix == ".parquet":
        return _Parquet(where, path)
    try:
        with path.open("rb") as file:
            shape, turned, dtype = array_header(file)
            begins = file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise InvalidValueError(
            f"{where} cannot be read as a numpy file ({reason_of(error)}); give a whole "
            ".npy file of numbers"
        ) from None
    return _Array(where, path, shape, dtype, begins, turned=turned)


def _mapped(source: np.memmap) -> _Array:
    """Return the file of a memory map; pages read through the map would count as memory."""
    path, whole = source.filename, isinstance(source.base, mmap.mmap)
    if path is None or not whole or source.mode == "c":
        raise InvalidValueError(
            "the memory map is a part of another, has no file, or is copy-on-write "
            "(mode 'c'); give a whole one, opened with mode 'r', or the path of a file"
        )
    source.flush()
    turned = source.flags.f_contiguous and not source.flags.c_contiguous
    return _Array(
        str(path), Path(path), source.shape, source.dtype, source.offset, turned=turned
    )


class _Array:
    """Reader of a .npy file, whose numbers are contiguous."""

    def __init__(
        self,
        where: str,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype,
        begins: int,
        *,
        turned: bool,
    ) -> None:
        self.where, self.path, self.begins = where, path.absolute(), begins
        if dtype.kind not in "iuf" or len(shape) != 2:
            raise InvalidValueError(
                f"{where} has {dtype} values of shape {shape}; give a two-dimensional "
                "table of real numbers"
            )
        self.dtype, self.turned = dtype, turned
        self.rows, self.columns = shape
        self.first, self.length, self.groups = 0, self.rows, [self.rows]
        self.names = [str(place) for place in range(self.columns)]
        missing = begins + self.rows * self.columns * dtype.itemsize
        missing -= _stamp(where, path)[0]
        if missing > 0:
            raise InvalidValueError(
                f"{where} is {counted(missing, 'byte')} too short for its shape, {shape}; "
                "give a complete file"
            )

    def select(self, columns: list[int]) -> None:
        self.selected: slice | list[int] = (
            slice(None) if columns == list(range(self.columns)) else columns
        )
        self.kinds = [self.dtype] * len(columns)

    def reading(self, rows: int, dtype: np.dtype) -> int:
        copied = dtype != self.dtype or not isinstance(self.selected, slice)
        size = rows * self.columns * self.dtype.itemsize
        return size + copied * rows * len(self.kinds) * dtype.itemsize

    def read(self, rows: int, dtype: np.dtype) -> Iterator[np.ndarray]:
        with self.path.open("rb", buffering=0) as file:
            for first in range(0, self.rows, rows):
                count = min(rows, self.rows - first)
                block = self._filled(file, first, count)
                yield block[:, self.selected].astype(dtype, order="C", copy=False)
                del block

    def _filled(self, file: FileIO, first: int, count: int) -> np.ndarray:
        first, size = first + self.first, self.dtype.itemsize
        if not self.turned:
            block = np.empty((count, self.columns), dtype=self.dtype)
            self._fill(file, self.begins + first * self.columns * size, block)
            return block
        block = np.empty((self.columns, count), dtype=self.dtype)
        for column in range(self.columns):
            place = (column * self.length + first) * size
            self._fill(file, self.begins + place, block[column])
        return block.T

    def _fill(self, file: FileIO, place: int, block: np.ndarray) -> None:
        file.seek(place)
        view = memoryview(block.reshape(-1).view(np.uint8).data)
        while view:
            count = file.readinto(view)
            if not count:
                raise EOFError("the file ends too early")
            view = view[count:]


class _Parquet:
    """Reader of a Parquet file, which reads some row groups at a time."""

    def __init__(self, where: str, path: Path) -> None:
        self.where, self.path = where, path.absolute()
        with self._file() as file:
            schema, facts = file.schema_arrow, file.metadata
            self.first, self.rows = 0, facts.num_rows
            numbers = range(facts.num_row_groups)
            self.groups = [facts.row_group(k).num_rows for k in numbers]
        self.pages = self._largest_pages()
        self.names = list(schema.names)
        check_names(where, self.names)
        self.types = list(schema.types)

    def _largest_pages(self) -> list[int]:
        """Return, for each column, the largest size of its pages in a row group.

        It is the compressed plus the uncompressed size. pyarrow aborts the whole process
        if this information is damaged, so another process reads it.
        """
        source = f"import sys; sys.path[:] = {sys.path!r}\n{_PAGES}"
        command = [sys.executable, "-c", source, str(self.path)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        except OSError as error:
            raise InvalidValueError(
                f"{self.where} cannot be inspected, because no process can be started "
                f"({error.strerror}); "
                + for_caller("give it without --memory", "give a data frame instead")
            ) from None
        try:
            pages: list[int] = json.loads(done.stdout)
        except ValueError:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            reason = (
                lines[-1].strip().removeprefix("what():").strip()[:200]
                if lines
                else "its page sizes are damaged"
            )
            raise InvalidValueError(
                f"{self.where} cannot be read as Parquet ({reason}); give a whole "
                "Parquet file"
            ) from None
        return pages

    def _file(self) -> pyarrow.parquet.ParquetFile:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise InvalidValueError(
                f"{self.where} cannot be read as Parquet ({reason_of(error)}); give a "
                "whole Parquet file"
            ) from None

    def select(self, columns: list[int]) -> None:
        from pyarrow import types

        odd = [
            f"{short(self.names[j])!r} ({self.types[j]})"
            for j in columns
            if not (types.is_integer(self.types[j]) or types.is_floating(self.types[j]))
        ]
        if odd:
            more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
            raise InvalidValueError(
                f"{self.where} has columns that are not numeric: {', '.join(odd[:5])}"
                f"{more}; a table that is read in blocks of rows may have only numeric "
                "columns: leave the others out "
                f"({for_caller('--ignore COLUMN', 'ignore=[...]')}), or "
                + for_caller("leave --memory out", "pass a data frame instead")
            )
        self.selected = [self.names[j] for j in columns]
        self.kinds = [np.dtype(self.types[j].to_pandas_dtype()) for j in columns]
        self.sizes = [self.pages[j] for j in columns]

    def reading(self, rows: int, dtype: np.dtype) -> int:
        together = max(*self.groups, min(rows, self.rows))
        # pyarrow needs up to twice the memory of a few columns and their validity bits.
        few = max(
            sum(self.sizes[k : k + COLUMNS_AT_ONCE])
            + together
            * sum(kind.itemsize + 1 for kind in self.kinds[k : k + COLUMNS_AT_ONCE])
            for k in range(0, len(self.selected), COLUMNS_AT_ONCE)
        )
        return 2 * few + together * len(self.selected) * dtype.itemsize

    def read(self, rows: int, dtype: np.dtype) -> Iterator[np.ndarray]:
        import pyarrow

        try:
            with self._file() as file:
                for begin, together in self._together(rows):
                    block = self._read_groups(file, together, dtype)
                    ends = np.clip(self.first - begin + np.array([0, self.rows]), 0, None)
                    block = block[slice(*ends)]
                    for first in range(0, len(block), rows):
                        yield block[first : first + rows]
                    del block
        except pyarrow.ArrowException as error:
            raise OSError(reason_of(error)) from None

    def _together(self, rows: int) -> Iterator[tuple[int, list[int]]]:
        """Yield row groups to read at once: at most `rows` rows, or one group.

        Each list follows the position of its first row. Groups without a row that is to
        be read are left out.
        """
        waiting: list[int] = []
        count = begin = 0
        for number, size in enumerate(self.groups):
            end = begin + count
            if waiting and count + size > rows:
                yield begin, waiting
                waiting, count, begin = [], 0, end
            if end + size > self.first and end < self.first + self.rows:
                waiting.append(number)
                count += size
            elif not waiting:
                begin += size
        if waiting:
            yield begin, waiting

    def _read_groups(
        self, file: pyarrow.parquet.ParquetFile, groups: list[int], dtype: np.dtype
    ) -> np.ndarray:
        """Return some row groups, decompressing a few columns at a time."""
        rows = sum(self.groups[group] for group in groups)
        block = np.empty((rows, len(self.selected)), dtype=dtype)
        for k in range(0, len(self.selected), COLUMNS_AT_ONCE):
            names = self.selected[k : k + COLUMNS_AT_ONCE]
            frame = file.read_row_groups(groups, columns=names, use_threads=False)
            if len(frame) != rows:
                raise OSError(
                    f"it declares {counted(rows, 'row')} and has {len(frame)}"
                )
            for j, name in enumerate(names, k):
                block[:, j] = frame.column(name).to_numpy()
        return block
