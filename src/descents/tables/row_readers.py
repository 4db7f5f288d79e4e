"""Readers of the rows of a file: some of them, a block at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descents.errors import InvalidValueError, for_caller, name_of
from descents.storage.parquet_sizes import declared
from descents.tables.frames import reason_of, short
from descents.tables.sizes import MOST_COLUMNS_ON_DISK, check_columns
from descents.tables.tables import check_names
from descents.text import counted

if TYPE_CHECKING:
    from io import FileIO

    import pyarrow

COLUMNS_AT_ONCE = 16
"""Number of columns of a Parquet file that are decompressed together."""


def file_stamp(where: str, path: Path) -> tuple[int, int]:
    """Return the size of a file and the time when it was last modified."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidValueError(
            f"{where} cannot be read ({error.strerror}); give a file that can"
        ) from None
    return status.st_size, status.st_mtime_ns


def without_limit(python: str) -> str:
    """Return how a table is read whole, for users of the command line or of Python."""
    return for_caller(f"leave {name_of('memory')} out", python)


class ArrayRows:
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
        if not all(shape):
            raise InvalidValueError(
                f"{where} has {counted(self.rows, 'row')} and "
                f"{counted(self.columns, 'column')}; give a table with at least one of each"
            )
        check_columns(where, self.columns, MOST_COLUMNS_ON_DISK)
        missing = begins + self.rows * self.columns * dtype.itemsize
        missing -= file_stamp(where, path)[0]
        if missing > 0:
            raise InvalidValueError(
                f"{where} is {counted(missing, 'byte')} too short for its shape, {shape}; "
                "give a complete file"
            )
        self.names = [str(place) for place in range(self.columns)]

    def select(self, columns: list[int]) -> None:
        """Read these columns from now on."""
        self.selected: slice | list[int] = (
            slice(None) if columns == list(range(self.columns)) else columns
        )
        self.kinds = [self.dtype] * len(columns)

    def reading(self, rows: int, dtype: np.dtype) -> int:
        """Return the memory, in bytes, that reading blocks of `rows` rows needs."""
        copied = dtype != self.dtype or not isinstance(self.selected, slice)
        size = rows * self.columns * self.dtype.itemsize
        return size + copied * rows * len(self.kinds) * dtype.itemsize

    def read(self, rows: int, dtype: np.dtype) -> Iterator[np.ndarray]:
        """Yield blocks of at most `rows` rows, from the row `first` on."""
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


class ParquetRows:
    """Reader of a Parquet file, which reads some row groups at a time."""

    def __init__(self, where: str, path: Path) -> None:
        self.where, self.path = where, path.absolute()
        try:
            with self.path.open("rb") as stream:
                found = declared(stream)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None
        with self._file() as file:
            schema, facts = file.schema_arrow, file.metadata
            self.first, self.rows = 0, facts.num_rows
            numbers = range(facts.num_row_groups)
            self.groups = [facts.row_group(k).num_rows for k in numbers]
        self.names = list(schema.names)
        check_names(where, self.names)
        self.types = list(schema.types)
        # Columns of structs and lists have several entries; they are not selected.
        self.pages = {each.place: each.group for each in found.columns}

    def _damaged(self, error: Exception) -> InvalidValueError:
        return InvalidValueError(
            f"{self.where} cannot be read as Parquet ({reason_of(error)}); give a whole "
            "Parquet file"
        )

    @contextmanager
    def _file(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        import pyarrow
        import pyarrow.parquet

        with ExitStack() as stack:
            try:
                # pyarrow opens no path that is not UTF-8, so Python opens the file.
                stream = stack.enter_context(self.path.open("rb"))
                file = stack.enter_context(pyarrow.parquet.ParquetFile(stream))
            except MemoryError:  # some of which are ArrowExceptions too
                raise
            except (OSError, ValueError, pyarrow.ArrowException) as error:
                raise self._damaged(error) from None
            yield file

    def frame(self, place: slice) -> pyarrow.Table:
        """Return some rows with all columns, as the file has them."""
        import pyarrow

        ends = np.cumsum([0, *self.groups])
        here = (ends[:-1] < place.stop) & (ends[1:] > place.start)
        groups = np.flatnonzero(here).tolist()
        try:
            with self._file() as file:
                frame = file.read_row_groups(groups)
            first = place.start - int(ends[groups[0]])
            frame = frame.slice(first, place.stop - place.start)
            frame.validate(full=True)
            return frame
        except (InvalidValueError, MemoryError):
            raise
        except (OSError, ValueError, LookupError, pyarrow.ArrowException) as error:
            raise self._damaged(error) from None

    def select(self, columns: list[int]) -> None:
        """Read these columns from now on."""
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
                + without_limit("pass a data frame instead")
            )
        self.selected = [self.names[j] for j in columns]
        self.kinds = [np.dtype(self.types[j].to_pandas_dtype()) for j in columns]
        self.sizes = [self.pages.get(j, 0) for j in columns]

    def reading(self, rows: int, dtype: np.dtype) -> int:
        """Return the memory, in bytes, that reading blocks of `rows` rows needs."""
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
        """Yield blocks of at most `rows` rows, from the row `first` on."""
        import pyarrow

        try:
            with self._file() as file:
                for begin, together in self._together(rows):
                    block = self._read_groups(file, together, dtype)
                    ends = np.clip(
                        self.first - begin + np.array([0, self.rows]), 0, None
                    )
                    block = block[slice(*ends)]
                    for first in range(0, len(block), rows):
                        yield block[first : first + rows]
                    del block
        except MemoryError:
            raise
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
