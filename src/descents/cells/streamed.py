"""A fourth layout: the cells of a table on disk, of which some rows at a time are held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from descents.cells.base import Block, Cells
from descents.cells.layouts import Complete, Dense
from descents.errors import InvalidValueError
from descents.losses import Squared
from descents.tables.blocks import TableOnDisk, said
from descents.text import counted

MOST_BYTES = 2**25
"""How much memory a block takes at most: larger ones are no faster."""
LEAST_ROWS = 16
"""A fit whose memory leaves room for fewer rows at a time is refused."""
WIDEST = 2000
"""Up to this many columns the singular values of a table are computed."""
LIMITS = (
    "a table that is read by blocks of rows takes squared loss, alternating steps, "
    "nonnegative factors and l1 and l2 penalties alone, without weights or scales; leave "
    "the others out, or give the table whole"
)


class Streamed(Cells):
    """Squared loss of the observed cells of a table that is read by blocks of rows.

    A block is itself a `Complete` or a `Dense` table. Here is what one reading tells of
    the columns: how many cells, their means, and the squares about them.

    Parameters
    ----------
    table : TableOnDisk
    rank, starts : int
        Of the fit that its memory is to be enough for: how many numbers a start has
        for each row, and how many starts there are.

    Attributes
    ----------
    block_rows : int
        How many rows are held at a time.
    complete : bool
        Whether there are no holes.
    least, most : float64 ndarray of shape (columns,)
        Of the observed cells.

    Raises
    ------
    InvalidValueError
        When the memory is not enough, and the message says how much would be; when a
        cell is infinite, or none is observed.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/table.npy"
    >>> np.save(path, [[1.0, 2.0], [3.0, np.nan]])
    >>> found = Streamed(TableOnDisk(path, "1MB"))
    >>> found.observed, found.offsets, found.constants_loss()
    (3, array([2., 2.]), 2.0)
    """

    table: TableOnDisk

    def __init__(self, table: TableOnDisk, rank: int = 1, starts: int = 1) -> None:
        self.table, self.shape = table, table.shape
        rows, columns = table.shape
        self.rank, self.starts = min(rank, *table.shape), starts
        self.blocks = (Block(Squared(), np.arange(columns), 0, 0, 0),)
        self.coordinates, self.cut_count, self.cuts = columns, 0, np.zeros(0)
        self.size = 1  # all starts go together, as the table is read for all at once
        self.complete, self._cache = True, {}
        self._triangles: dict[Any, np.ndarray] = {}
        self.has_triangle = columns <= WIDEST and 32 * columns**2 <= max(
            table.memory // 4, 2**16
        )
        self.block_rows = self._fitting()
        self.row_counts = np.broadcast_to(np.float64(columns), (rows,))
        self._survey()
        if not self.complete:
            self.block_rows = self._fitting()

    # Memory

    def needed(self, block_rows: int) -> int:
        """Return how much memory a fit takes with so many rows at a time, in bytes.

        Of the factor of the rows: four copies for each start, or of the best the form
        it is given in, which is found in float64. The normal equations of the columns,
        and the triangle whose singular values are the table's. A block as it is read,
        and what is made of it.
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
        """Return how many rows at a time the memory is enough for."""
        held = self.needed(0) - self._block(0)
        what = (
            f"the factors and normal equations of {self.shape[0]} x {self.shape[1]} "
            f"cells at rank {self.rank} from {counted(self.starts, 'start')}"
        )
        return rows_at_once(self.table, held, self._block, what)

    # What one reading tells

    def _survey(self) -> None:
        rows, columns = self.shape
        count, mean, rest = np.zeros((3, columns))
        self.least, self.most = np.full(columns, np.inf), np.full(columns, -np.inf)
        for place, given in self.table.blocks(self.block_rows):
            hole = np.isnan(given)
            here = np.full(columns, len(given), dtype=np.float64)
            block = given
            if hole.any():
                here -= hole.sum(0)
                if self.complete:
                    self.complete = False
                    self.row_counts = np.full(rows, float(columns))
                self.row_counts[place] -= hole.sum(1)
                block = np.where(hole, 0, given)
            total = block.sum(0, dtype=np.float64)
            if not np.isfinite(total).all():
                self._refuse_infinite(place.start, block)
            np.minimum(
                self.least, np.fmin.reduce(given), out=self.least, where=here > 0
            )
            np.maximum(self.most, np.fmax.reduce(given), out=self.most, where=here > 0)
            middle = total / np.maximum(here, 1)
            about = np.where(hole, 0, block - middle)
            # Means and squares of two parts put together (Chan, Golub and LeVeque).
            joined = np.maximum(count + here, 1)
            apart = middle - mean
            rest += np.einsum("ij,ij->j", about, about)
            rest += np.square(apart) * count * here / joined
            mean += apart * here / joined
            count += here
            del given, hole, block, about
        if not count.any():
            raise InvalidValueError(
                "the table has no observed cell; give one that has some"
            )
        self.column_counts, self.offsets, self._squares = count, mean, rest

    def _refuse_infinite(self, first: int, block: np.ndarray) -> None:
        bad = np.argwhere(~np.isfinite(block))
        if not len(bad):
            raise InvalidValueError(
                f"the numbers of {self.table.where} are too large to be summed; divide "
                "them"
            )
        row, column = bad[0]
        raise InvalidValueError(
            f"{self.table.where} holds {block[row, column]:g} in row {first + row + 1} "
            f"(1-based) of column {self.table.names[column]!r}; give finite numbers, or "
            "NaN where one is missing"
        )

    @property
    def square(self) -> float:
        """The sum of the squares of the data."""
        means = np.square(self.offsets) * self.column_counts
        return float((self._squares + means).sum())

    def constants_loss(self) -> float:
        """Return the loss of the best constant of each column."""
        return float(self._squares.sum())

    def deviations(self, constant: np.ndarray) -> np.ndarray:
        """Return the root mean square of each column about a constant."""
        count = np.maximum(self.column_counts, 1)
        return np.sqrt(self._squares / count + np.square(self.offsets - constant))

    # Rows by rows

    def pieces(self) -> Iterator[tuple[slice, Cells]]:
        """Give the places of some rows, and their cells, from the first to the last."""
        for place, given in self.table.blocks(self.block_rows):
            yield place, self.piece(given)
            del given

    def piece(self, rows: np.ndarray) -> Cells:
        """Return the cells of some rows."""
        hole = np.isnan(rows)
        if not hole.any():
            return Complete(rows, self.blocks[0])
        mask = np.where(hole, 0.0, 1.0)
        return Dense(np.where(hole, 0, rows), mask, self.blocks)

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed loss of each start, from one reading of the table."""
        if torch.is_grad_enabled() and (left.requires_grad or right.requires_grad):
            raise InvalidValueError(LIMITS)
        total = left.new_zeros(len(left), dtype=torch.float64)
        for place, block in self.pieces():
            total += losses_of(block, left[:, place], right)
            del block
        return total.to(left.dtype)

    def rest(self, constant: np.ndarray, *, level: bool) -> Iterator[Any]:
        """Give places and rows minus a constant of each column, zero at holes, float64.

        With `level` minus the mean of each row first.
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
        """Return R of the rest Q R, whose singular values R has, from one reading.

        A triangle of the rows so far and of the next ones together, block by block:
        it loses no digits of small values, as the products of columns would.
        """
        key = (constant.tobytes(), level)
        if key not in self._triangles:
            found: Any = np.zeros((0, self.shape[1]))
            for _, block in self.rest(constant, level=level):
                found = np.linalg.qr(np.vstack([found, block]), mode="r")
                del block
            self._triangles[key] = found
        triangle: np.ndarray = self._triangles[key]
        return triangle

    def times(self, constant: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the rest times a thin matrix, from one reading."""
        found = np.empty((self.shape[0], right.shape[1]))
        for place, block in self.rest(constant, level=False):
            np.matmul(block, right, out=found[place])
            del block
        return found

    # What is asked of tables in memory alone

    def _refuse(self, *_: Any) -> Any:
        raise InvalidValueError(LIMITS)

    look = normal = descent = ratios = _refuse  # type: ignore[assignment]
    slopes = each = conjugates = _hold = _quadratic = _refuse  # type: ignore[assignment]


def block_bytes(
    table: TableOnDisk, rows: int, rank: int, starts: int, *, complete: bool
) -> int:
    """Return what memory some rows take, as they are read and worked on."""
    item, q = table.dtype.itemsize, rank + 2
    cell = item + 40 if complete else 7 * item + 64
    row = starts * item * (6 * q if complete else 4 * q * q)
    return table.reading(rows) + rows * (table.shape[1] * cell + row)


def rows_at_once(
    table: TableOnDisk, held: int, block: Callable[[int], int], what: str
) -> int:
    """Return how many rows at a time the memory of a table is enough for.

    Parameters
    ----------
    table : TableOnDisk
    held : int
        How many bytes are taken by what is no block.
    block : callable
        How many are taken by a block of so many rows.
    what : str
        What the others are taken by, for people.

    Raises
    ------
    InvalidValueError
        When it is not enough for a few.
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
    """Return the loss of each start in float64, of one after the other."""
    cuts = left.new_zeros(1, 0)
    each = [
        block.losses(left[k : k + 1], right[k : k + 1], cuts) for k in range(len(left))
    ]
    return torch.cat(each).double()
