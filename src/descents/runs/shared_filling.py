"""The filled table of processes that share its rows, which the first one writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BufferedWriter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from descents.optim.collective import ROWS_AT_ONCE, Collective
from descents.runs.filling import Filling
from descents.storage.files import written
from descents.tables.tables import Table
from descents.tables.written import array_of

Block = Callable[[bytes], None]


def write_shared(filling: Filling, target: Path) -> None:
    """Write a filled table in the first process, of which each process has some rows.

    The others send their rows in blocks, so that the whole table is in no memory.

    Parameters
    ----------
    filling : Filling
        The model, and the rows of this process.
    target : Path
        A .npy or .parquet file.

    Raises
    ------
    InvalidValueError
        In all processes, if a column cannot hold what is filled in.
    RunFolderError
        In the first process, if the file cannot be written.
    """
    together = filling.together
    table, rows = together.attempt(filling.filled), filling.counts[0]
    table = _alike(table, together)
    is_array = target.suffix.lower() == ".npy"
    encoded = _as_array if is_array else _as_frame
    blocks = (encoded(part, target) for part in _parts(table))
    if together.rank:
        for _ in together.in_turn(blocks):
            pass
        return
    with written(target.expanduser(), alone=True) as file:
        sink = _array_sink(file, table, target, rows) if is_array else _frame_sink(file)
        with sink as write:
            for block in together.in_turn(blocks):
                write(block)


def _alike(table: Table, together: Collective) -> Table:
    """Return a table whose columns have the same types in all processes.

    A column that is added has no type where a process adds no cell to it.
    """
    source, own = table.source, table.source.frame.schema
    schema = own
    for other in together.each(own):
        for place, field in enumerate(other):
            if pyarrow.types.is_null(schema.field(place).type):
                schema = schema.set(place, field)
    return replace(table, source=replace(source, frame=source.frame.cast(schema)))


def _parts(table: Table) -> Iterator[Table]:
    """Yield a table in blocks of rows."""
    source = table.source
    for first in range(0, source.rows, ROWS_AT_ONCE):
        part = source.frame.slice(first, ROWS_AT_ONCE)
        yield replace(table, source=replace(source, frame=part, rows=len(part)))


def _as_array(table: Table, target: Path) -> bytes:
    return array_of(table, target).tobytes()


def _as_frame(table: Table, target: Path) -> bytes:
    sink, frame = pyarrow.BufferOutputStream(), table.source.frame
    with pyarrow.ipc.new_stream(sink, frame.schema) as stream:
        stream.write_table(frame)
    return bytes(sink.getvalue().to_pybytes())


@contextlib.contextmanager
def _array_sink(
    file: BufferedWriter, table: Table, target: Path, rows: int
) -> Iterator[Block]:
    """Yield a function that appends the bytes of rows to a .npy file."""
    first = array_of(next(_parts(table)), target)
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (rows, first.shape[1]),
    }
    np.lib.format.write_array_header_1_0(file, header)

    def write(block: bytes) -> None:
        file.write(block)

    yield write


@contextlib.contextmanager
def _frame_sink(file: BufferedWriter) -> Iterator[Block]:
    """Yield a function that appends rows, as an arrow stream, to a Parquet file."""
    with contextlib.ExitStack() as stack:
        writers: list[pyarrow.parquet.ParquetWriter] = []

        def write(block: bytes) -> None:
            frame = pyarrow.ipc.open_stream(block).read_all()
            if not writers:
                opened = pyarrow.parquet.ParquetWriter(file, frame.schema)
                writers.append(stack.enter_context(opened))
            writers[0].write_table(frame)

        yield write
