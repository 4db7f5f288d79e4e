"""The rows of a table on disk that one of several processes has."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from descents.cells.complete import Complete
from descents.cells.dense import Dense
from descents.cells.streamed import Streamed
from descents.errors import InvalidValueError
from descents.optim.collective import Collective, parts
from descents.tables.blocks import TableOnDisk

UNLIMITED = 2**60
"""The memory, in bytes, of a table whose rows are kept in memory."""
SHARED_LIMITS = (
    "several processes (torchrun) fit squared loss by alternating, lbfgs, gd or adam steps, "
    "with nonnegative factors and l1 and l2 penalties alone, without weights or scales; "
    "leave the others out, or start one process"
)


def check_shares(where: str, rows: int, together: Collective) -> None:
    """Raise an error if there are more processes than rows."""
    if rows < together.size:
        raise InvalidValueError(
            f"{where} has {rows} rows, which {together.size} processes cannot share; start "
            "at most one process for each row"
        )


class SharedTable(TableOnDisk):
    """The rows of a file that this process has, of a table that several processes share.

    Each process reads only its own rows, and keeps them in memory.

    Parameters
    ----------
    source : str or Path
        A ``.npy`` or ``.parquet`` file, as `TableOnDisk` takes it.
    together : Collective
        The processes.
    ignore : sequence of str
        Columns that are not read.

    Attributes
    ----------
    together : Collective
    whole_table : TableOnDisk
        The table with the rows of all processes.

    Raises
    ------
    InvalidValueError
        In all processes, if one of them cannot read the table, or there are more processes
        than rows.
    """

    def __init__(
        self,
        source: str | Path,
        together: Collective,
        *,
        ignore: Sequence[str] = (),
    ) -> None:
        whole = together.attempt(
            TableOnDisk, source, UNLIMITED, ignore=ignore, dtype=np.float64
        )
        check_shares(whole.where, whole.shape[0], together)
        place = parts(whole.shape[0], together.size, whole.edges)[together.rank]
        vars(self).update(vars(whole.of_rows(place)))
        self.together, self.whole_table = together, whole


class Distributed(Streamed):
    """Squared loss of the observed cells of a table that several processes share.

    It is a `Streamed` of the rows of this process. All statistics, losses and sums over
    rows are those of the whole table.

    Parameters
    ----------
    table : SharedTable
    rank, starts : int
        See `Streamed`.
    """

    limits = SHARED_LIMITS

    def __init__(self, table: SharedTable, rank: int = 1, starts: int = 1) -> None:
        self.together, self.first_row = table.together, table.first_row
        self._rows, self.unit = table.all_rows, 1.0
        self._pieces: list[tuple[slice, Complete | Dense]] = []
        self._joined: dict[tuple[bytes, bool], np.ndarray] = {}
        super().__init__(table, rank, starts)
        # Starts are in the same chunks as in one process, which has all rows.
        self.size = self.all_rows * self.coordinates

    @property
    def all_rows(self) -> int:  # noqa: D102 - as in the base
        return self._rows

    @property
    def observed(self) -> int:  # noqa: D102 - as in the base
        return int(self.column_counts.sum())

    def _fitting(self) -> int:
        return self.together.attempt(super()._fitting)

    def _survey(self) -> None:
        """Read the rows of this process, and join the statistics of all of them."""
        together = self.together
        together.attempt(super()._survey)
        if together.agreed(not self.complete) and self.complete:
            self.complete = False
            self.row_counts = np.full(self.shape[0], float(self.shape[1]))
        here, middle = self.column_counts, self.offsets
        count, total = together.sum_arrays(here, here * middle)
        mean = total / np.maximum(count, 1)
        # The squares about the common mean, see `Streamed._survey`.
        about = self._squares + np.square(middle - mean) * here
        self.column_counts, self.offsets = count, mean
        (self._squares,) = together.sum_arrays(about)
        self.least, self.most = together.least(self.least), together.most(self.most)

    def alone(self) -> Distributed:
        """Return the cells of this process, whose losses autograd can differentiate."""
        other = copy.copy(self)
        other.together = Collective()
        return other

    @property
    def own_rows(self) -> Complete | Dense:
        """The cells of the rows of this process, as one table in memory."""
        rows = [block for _, block in self.table.blocks(self.block_rows)]
        return self.piece(np.concatenate(rows))

    def over(self, unit: float) -> Distributed:
        """Return the cells divided by a unit."""
        other = copy.copy(self)
        other.unit, other._pieces = unit, []
        other.offsets, other._squares = self.offsets / unit, self._squares / unit**2
        other.least, other.most = self.least / unit, self.most / unit
        other._triangles, other._joined = {}, {}
        return other

    def gathered(self) -> Streamed | None:
        """Return the statistics of the whole table in the first process, None in others."""
        counts = self.together.rows(np.array(self.row_counts))
        if counts is None:
            return None
        other = copy.copy(self)
        other.together, other.first_row = Collective(), 0
        assert isinstance(self.table, SharedTable)  # noqa: S101
        other.table, other.shape = self.table.whole_table, self.whole_shape
        other.row_counts, other._pieces = counts, []
        return other

    def pieces(self) -> Iterator[tuple[slice, Complete | Dense]]:
        """Yield the positions of blocks of the rows of this process, and their cells."""
        if self._pieces:
            yield from self._pieces
            return
        found = []
        for place, piece in super().pieces():
            found.append((place, piece))
            yield place, piece
        self._pieces = found

    def piece(self, rows: np.ndarray) -> Complete | Dense:  # noqa: D102 - as in the base
        return super().piece(rows if self.unit == 1 else rows / self.unit)

    def losses(
        self, left: torch.Tensor, right: torch.Tensor, cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed loss of each start over all processes.

        Autograd can differentiate those of `alone`.
        """
        total = left.new_zeros(len(left), dtype=torch.float64)
        for place, block in self.pieces():
            total = total + block.losses(left[:, place], right, cuts).double()
        return self.together.sum(total).to(left.dtype)

    def gradients(
        self, left: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the losses, and their gradients by the rows here and by the columns."""
        losses = left.new_zeros(len(left), dtype=torch.float64)
        by_left = torch.empty_like(left)
        by_right = torch.zeros_like(right, dtype=torch.float64)
        for place, block in self.pieces():
            looked = block.gradients(left[:, place], right)
            assert looked is not None  # noqa: S101
            losses += looked[0].double()
            by_left[:, place] = looked[1]
            by_right += looked[2].double()
        summed = self.together.sums({"losses": losses, "right": by_right})
        like = left.dtype
        return summed["losses"].to(like), by_left, summed["right"].to(like)

    def rest(
        self, constant: np.ndarray, *, level: bool
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of the rows of this process, minus a constant of each column."""
        for place, piece in self.pieces():
            block = np.array(piece.table, dtype=np.float64)
            if level:
                block -= block.mean(1, keepdims=True)
            block -= constant
            if piece.weights is not None:
                block[piece.weights == 0] = 0
            yield place, block

    def triangle(self, constant: np.ndarray, *, level: bool = False) -> np.ndarray:
        """Return R of the decomposition Q R of the rest of the whole table.

        It is that of the triangles of all processes, one below the other.
        """
        key = (constant.tobytes(), level)
        if key not in self._joined:
            own = super().triangle(constant, level=level)
            joined: np.ndarray = np.zeros((0, self.shape[1]))
            for each in self.together.arrays(own):
                stacked = np.vstack([joined, each])
                joined = np.asarray(np.linalg.qr(stacked, mode="r"))
            self._joined[key] = joined
        return self._joined[key]

    def leading(
        self, constant: np.ndarray, count: int, *, level: bool = False
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return leading singular values of the rest, by Lanczos on A'A.

        It is for tables with too many columns for `triangle`. All processes take the same
        steps, because the products with A'A have the same bits in all of them.

        Returns
        -------
        values : ndarray of shape (count,)
            The largest first.
        right : ndarray of shape (columns, count)
            The entry of largest magnitude of each column is positive.
        square : float
            The sum of the squares of the rest.
        """
        from scipy.sparse.linalg import LinearOperator, eigsh

        size = self.shape[1]

        def times(vector: np.ndarray) -> np.ndarray:
            found = np.zeros(size)
            for _, block in self.rest(constant, level=level):
                found += block.T @ (block @ vector.ravel())
            return self.together.sum_arrays(found)[0]

        blocks = self.rest(constant, level=level)
        own = sum(float(np.square(block).sum()) for _, block in blocks)
        square = float(self.together.sum_arrays(np.asarray(own))[0])
        first = np.random.Generator(np.random.Philox(0)).standard_normal(size)
        gram = LinearOperator((size, size), matvec=times, dtype=np.float64)
        squares, right = eigsh(gram, count, v0=first)
        order = np.argsort(squares)[::-1]
        values, right = np.sqrt(np.maximum(squares[order], 0)), right[:, order]
        largest = right[np.abs(right).argmax(0), np.arange(count)]
        return values, right * np.where(largest < 0, -1.0, 1.0), square
