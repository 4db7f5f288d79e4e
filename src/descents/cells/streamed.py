"""The cells of a table on disk, which is read in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from descents.cells.base import Block, Cells
from descents.cells.complete import Complete
from descents.cells.dense import Dense
from descents.cells.in_memory import CellsInMemory
from descents.errors import InvalidValueError
from descents.losses import Squared
from descents.tables.blocks import TableOnDisk
from descents.tables.memory import said
from descents.text import counted

MOST_BYTES = 2**25
"""Maximum size of a block in memory, in bytes; larger ones are not faster."""
LEAST_ROWS = 16
"""Minimum number of rows that the memory must be enough for."""
WIDEST = 2000
"""Maximum number of columns of a table whose singular values are computed."""
LIMITS = (
    "a table that is read in blocks of rows takes squared loss, alternating steps, "
    "nonnegative factors and l1 and l2 penalties alone, without weights or scales; leave "
    "the others out, or give the table whole"
)


class Streamed(Cells):
    """Squared loss of the observed cells of a table that is read in blocks of rows.

    Each block is `Complete` or `Dense`. The first reading of the table computes, for each
    column, the number of cells, their mean, and their squares about the mean.

    Parameters
    ----------
    table : TableOnDisk
    rank, starts : int
        The rank and the number of starts of the fit that the table's memory must be
        enough for.

    Attributes
    ----------
    table : TableOnDisk
    block_rows : int
        The number of rows in memory at a time.
    complete : bool
        Whether no cell is missing.
    least, most : float64 ndarray of shape (columns,)
        The range of the observed cells.
    limits : str
        What such a table is limited to, for messages.

    Raises
    ------
    InvalidValueError
        If the memory is not enough (the message says how much would be), a cell is
        infinite, or no cell is observed.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/table.npy"
    >>> np.save(path, [[1.0, 2.0], [3.0, np.nan]])
    >>> cells = Streamed(TableOnDisk(path, "1MB"))
    >>> cells.observed, cells.offsets, cells.constants_loss()
    (3, array([2., 2.]), 2.0)
    """

    limits = LIMITS

    def __init__(self, table: TableOnDisk, rank: int = 1, starts: int = 1) -> None:
        self.table, self.shape = table, table.shape
        rows, columns = table.shape
        self.rank, self.starts = min(rank, *table.shape), starts
        self.blocks = (Block(Squared(), np.arange(columns), 0, 0, 0),)
        self.coordinates, self.cut_count, self.cuts = columns, 0, np.zeros(0)
        self.size = (
            1  # all starts are in one chunk, so that one reading serves them all
        )
        self.complete = True
        self._triangles: dict[tuple[bytes, bool], np.ndarray] = {}
        self.has_triangle = columns <= WIDEST and 32 * columns**2 <= max(
            table.memory // 4, 2**16
        )
        self.block_rows = self._fitting()
        self.row_counts = np.broadcast_to(np.float64(columns), (rows,))
        self._survey()
        if not self.column_counts.any():
            raise InvalidValueError(
                "the table has no observed cell; give one that has some"
            )
        if not self.complete:
            self.block_rows = self._fitting()

    # Memory

    def needed(self, block_rows: int) -> int:
        """Return the memory that a fit needs with blocks of this many rows, in bytes.

        It is the sum of the factors of the rows (four copies for each start, or the best
        one in its final form, which is computed in float64), the normal equations of the
        columns, the triangle that has the singular values of the table, and a block with
        what is computed from it.
        """
        rows, columns = self.shape
        item, rank, q = self.table.dtype.itemsize, self.rank, self.rank + 2
        descent = self.starts * (rank * max(4 * item, item + 16) + 16)
        if not self.complete:  # a spectral start is kept in float64
            descent += 8 * rank
        factors = rows * (8 + max(descent, rank * (self.starts * item + 4 * 8)))
        each = q * q if not self.complete else q
        equations = 4 * 8 * self.starts * columns * each
        if self.has_triangle:
            equations += 4 * 8 * columns**2
        return factors + equations + self._block(block_rows)

    def _block(self, rows: int) -> int:
        return block_bytes(
            self.table, rows, self.rank, self.starts, complete=self.complete
        )

    def _fitting(self) -> int:
        """Return the number of rows of a block for which the memory is enough."""
        held = self.needed(0) - self._block(0)
        what = (
            f"the factors and normal equations of {self.shape[0]} x {self.shape[1]} "
            f"cells at rank {self.rank} from {counted(self.starts, 'start')}"
        )
        return rows_at_once(self.table, held, self._block, what)

    # The first reading

    def _survey(self) -> None:
        """Read the table, and compute the statistics of its columns."""
        rows, columns = self.shape
        count, mean, rest = np.zeros((3, columns))
        self.least, self.most = np.full(columns, np.inf), np.full(columns, -np.inf)
        for place, given in self.table.blocks(self.block_rows):
            missing = np.isnan(given)
            here = np.full(columns, len(given), dtype=np.float64)
            block = given
            if missing.any():
                here -= missing.sum(0)
                if self.complete:
                    self.complete = False
                    self.row_counts = np.full(rows, float(columns))
                self.row_counts[place] -= missing.sum(1)
                block = np.where(missing, 0, given)
            total = block.sum(0, dtype=np.float64)
            if not np.isfinite(total).all():
                self._refuse_infinite(place.start, block)
            np.minimum(
                self.least, np.fmin.reduce(given), out=self.least, where=here > 0
            )
            np.maximum(self.most, np.fmax.reduce(given), out=self.most, where=here > 0)
            middle = total / np.maximum(here, 1)
            about = np.where(missing, 0, block - middle)
            # Combine two parts with n and m cells, means a and b, and squares S and T
            # about them (Chan, Golub and LeVeque, 1983): the squares about the common
            # mean are S + T + (b - a)^2 n m / (n + m), and the mean moves from a by
            # (b - a) m / (n + m).
            joined = np.maximum(count + here, 1)
            apart = middle - mean
            rest += np.einsum("ij,ij->j", about, about)
            rest += np.square(apart) * count * here / joined
            mean += apart * here / joined
            count += here
            del given, missing, block, about
        self.column_counts, self.offsets, self._squares = count, mean, rest

    def _refuse_infinite(self, first: int, block: np.ndarray) -> None:
        """Raise an error that names the infinite cell of a block, if there is one."""
        bad = np.argwhere(~np.isfinite(block))
        if not len(bad):
            raise InvalidValueError(
                f"the numbers of {self.table.where} are too large to be summed; divide "
                "them"
            )
        row, column = bad[0]
        raise InvalidValueError(
            f"{self.table.where} holds {block[row, column]:g} in row "
            f"{self.table.first_row + first + row + 1} (1-based) of column "
            f"{self.table.names[column]!r}; give finite numbers, or NaN where one is missing"
        )

    @property
    def dtype(self) -> np.dtype:  # noqa: D102 - as in the base
        return self.table.dtype

    @property
    def square(self) -> float:  # noqa: D102 - as in the base
        means = np.square(self.offsets) * self.column_counts
        return float((self._squares + means).sum())

    def constants_loss(self) -> float:  # noqa: D102 - as in the base
        return float(self._squares.sum())

    def root_mean_squares(self, constant: np.ndarray) -> np.ndarray:  # noqa: D102 - as in the base
        count = np.maximum(self.column_counts, 1)
        return np.sqrt(self._squares / count + np.square(self.offsets - constant))

    @property
    def in_memory(self) -> CellsInMemory:  # noqa: D102 - as in the base
        raise InvalidValueError(self.limits)

    # Further readings

    def pieces(self) -> Iterator[tuple[slice, Complete | Dense]]:
        """Yield the positions of blocks of rows, and their cells, in order."""
        for place, given in self.table.blocks(self.block_rows):
            yield place, self.piece(given)
            del given

    def piece(self, rows: np.ndarray) -> Complete | Dense:
        """Return the cells of some rows."""
        missing = np.isnan(rows)
        if not missing.any():
            return Complete(rows, self.blocks[0])
        mask = np.where(missing, 0.0, 1.0)
        return Dense(np.where(missing, 0, rows), mask, self.blocks)

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed loss of each start, from one reading of the table.

        Autograd cannot differentiate it.
        """
        if torch.is_grad_enabled() and (left.requires_grad or right.requires_grad):
            raise InvalidValueError(LIMITS)
        total = left.new_zeros(len(left), dtype=torch.float64)
        for place, block in self.pieces():
            total += losses_of(block, left[:, place], right)
            del block
        return total.to(left.dtype)

    def rest(
        self, constant: np.ndarray, *, level: bool
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of rows as float64, minus a constant of each column.

        With `level`, the mean of each row is subtracted first. Missing cells are zero.
        """
        for place, given in self.table.blocks(self.block_rows):
            block = given.astype(np.float64)
            if level:
                block -= block.mean(1, keepdims=True)
            block -= constant
            if not self.complete:
                block[np.isnan(block)] = 0
            del given
            yield place, block
            del block

    def triangle(self, constant: np.ndarray, *, level: bool = False) -> np.ndarray:
        """Return R of the decomposition Q R of the rest, which has its singular values.

        Block by block, it is the triangle of the previous triangle above the new rows.
        Unlike products of columns, it loses no digits of small singular values.
        """
        key = (constant.tobytes(), level)
        if key not in self._triangles:
            triangle: np.ndarray = np.zeros((0, self.shape[1]))
            for _, block in self.rest(constant, level=level):
                stacked = np.vstack([triangle, block])
                triangle = np.asarray(np.linalg.qr(stacked, mode="r"))
                del stacked
                del block
            self._triangles[key] = triangle
        return self._triangles[key]

    def times(self, constant: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the rest times a thin matrix, from one reading."""
        found = np.empty((self.shape[0], right.shape[1]))
        for place, block in self.rest(constant, level=False):
            np.matmul(block, right, out=found[place])
            del block
        return found


def block_bytes(
    table: TableOnDisk, rows: int, rank: int, starts: int, *, complete: bool
) -> int:
    """Return the memory that a block of rows needs while it is read and used, in bytes."""
    item, q = table.dtype.itemsize, rank + 2
    cell = item + 40 if complete else 7 * item + 64
    row = starts * item * (6 * q if complete else 4 * q * q)
    return table.reading(rows) + rows * (table.shape[1] * cell + row)


def rows_at_once(
    table: TableOnDisk, held: int, block: Callable[[int], int], what: str
) -> int:
    """Return the largest number of rows of a block for which the memory is enough.

    Parameters
    ----------
    table : TableOnDisk
    held : int
        The number of bytes that are needed besides a block.
    block : callable
        Returns the number of bytes that a block of a given number of rows needs.
    what : str
        What needs the other bytes, for people.

    Raises
    ------
    InvalidValueError
        If it is not enough for `LEAST_ROWS` rows.
    """
    low, high = min(LEAST_ROWS, table.shape[0]), table.shape[0]
    if held + block(low) > table.memory:
        raise InvalidValueError(
            f"memory is {said(table.memory)}, but {what} take {said(held)}, and {low} "
            f"rows at a time, as {table.where} is read, {said(block(low))}; give at "
            f"least {said(held + block(low))}, a smaller rank, fewer starts, or a "
            "Parquet file of smaller row groups"
        )
    while low < high:
        middle = (low + high + 1) // 2
        if held + block(middle) <= table.memory and block(middle) <= MOST_BYTES:
            low = middle
        else:
            high = middle - 1
    return low


def losses_of(block: Cells, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the loss of each start in float64, computed one after the other."""
    cuts = left.new_zeros(1, 0)
    each = [
        block.losses(left[k : k + 1], right[k : k + 1], cuts) for k in range(len(left))
    ]
    return torch.cat(each).double()
