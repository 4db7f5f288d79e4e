"""Tables larger than memory: numbers in a file, read in blocks of rows."""

from __future__ import annotations

import copy
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.absent import check_columns
from descents.tables.arrays import array_header
from descents.tables.frames import reason_of
from descents.tables.memory import size_in_bytes
from descents.tables.row_readers import (
    ArrayRows,
    ParquetRows,
    file_stamp,
    without_limit,
)
from descents.tables.sizes import enough_memory
from descents.tables.tables import known_names
from descents.text import counted
from descents.validation import check_file, folder_path

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


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
        reader: ArrayRows | ParquetRows
        if isinstance(source, np.memmap):
            reader = _mapped(source)
        elif isinstance(source, str | Path):
            reader = opened(source)
        else:
            raise InvalidValueError(
                f"the table is a {type(source).__name__}; give the path of a .npy or "
                ".parquet file, or a numpy.memmap"
            )
        self.where, self._reader = reader.where, reader
        left_out = known_names(ignore, reader.names)
        selected = [j for j, name in enumerate(reader.names) if name not in left_out]
        self.names = tuple(reader.names[j] for j in selected)
        self.named = isinstance(reader, ParquetRows)
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
        self._stamp = file_stamp(reader.where, reader.path)
        self._hidden: tuple[np.ndarray, np.ndarray] | None = None
        self.passes = 0
        """Number of times that reading began at the first row."""

    def of_columns(self, names: Sequence[str]) -> TableOnDisk:
        """Return the table with the columns `names`, in this order.

        Raises
        ------
        InvalidValueError
            If the table lacks one of them.
        """
        check_columns(names, self.names)
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

    def without_cells(self, rows: np.ndarray, columns: np.ndarray) -> Self:
        """Return the table with some cells missing.

        Parameters
        ----------
        rows, columns : int ndarray
            The positions of the cells; rows are sorted.

        Examples
        --------
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "table.npy"
        >>> np.save(path, np.arange(6.0).reshape(3, 2))
        >>> part = TableOnDisk(path, "1MB").without_cells(np.array([2]), np.array([0]))
        >>> [block.tolist() for _, block in part.blocks(2)]
        [[[0.0, 1.0], [2.0, 3.0]], [[nan, 5.0]]]
        """
        other = copy.copy(self)
        other._hidden = rows, columns
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
        reading = iter(self._reader.read(rows, self.dtype))
        try:
            while True:
                with enough_memory(self.where):  # but not what is done with a block
                    block = next(reading, None)
                if block is None:
                    break
                place = slice(first, first + len(block))
                first = place.stop
                if self._hidden is not None:
                    hidden, columns = self._hidden
                    here = slice(*np.searchsorted(hidden, [place.start, place.stop]))
                    block[hidden[here] - place.start, columns[here]] = np.nan
                yield place, block
                del block
        except (OSError, EOFError) as error:
            self._check()
            raise InvalidValueError(
                f"{self.where} cannot be read ({reason_of(error)}); give a file that can"
            ) from None
        self._check()

    def reading(self, rows: int) -> int:
        """Return the memory, in bytes, that reading blocks of `rows` rows needs."""
        return self._reader.reading(rows, self.dtype)

    def _check(self) -> None:
        now = file_stamp(self.where, self._reader.path)
        if now != self._stamp:
            raise InvalidValueError(
                f"{self.where} has changed since it was opened (it had {self._stamp[0]} "
                f"bytes, and has {now[0]}); give a file that is not written to meanwhile"
            )


def opened(source: str | Path) -> ArrayRows | ParquetRows:
    """Return the reader of a .npy or .parquet file.

    Raises
    ------
    InvalidValueError
        If it is another file, or cannot be read.
    """
    where, path = str(source), folder_path(source)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".parquet"):
        raise InvalidValueError(
            f"{where} is neither a .npy nor a .parquet file, and only these are read in "
            "blocks of rows; convert it to one of them, or "
            f"{without_limit('give no memory')} to read it whole"
        )
    check_file(where, path)
    if suffix == ".parquet":
        return ParquetRows(where, path)
    try:
        with path.open("rb") as file:
            shape, turned, dtype = array_header(file)
            begins = file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise InvalidValueError(
            f"{where} cannot be read as a numpy file ({reason_of(error)}); give a whole "
            ".npy file of numbers"
        ) from None
    return ArrayRows(where, path, shape, dtype, begins, turned=turned)


def _mapped(source: np.memmap) -> ArrayRows:
    """Return the file of a memory map; pages read through the map would count as memory."""
    path, whole = source.filename, isinstance(source.base, mmap.mmap)
    if path is None or not whole or source.mode == "c":
        raise InvalidValueError(
            "the memory map is a part of another, has no file, or is copy-on-write "
            "(mode 'c'); give a whole one, opened with mode 'r', or the path of a file"
        )
    source.flush()
    turned = source.flags.f_contiguous and not source.flags.c_contiguous
    return ArrayRows(
        str(path), Path(path), source.shape, source.dtype, source.offset, turned=turned
    )
