"""The memory that reading a Parquet file takes, judged before it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descents.storage.parquet_sizes import Declared, DeclaredColumn

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

COPIES = 3
"""Number of copies of a text in memory while it is read: from the file, in one piece, and
without spaces around."""
OF_TEXT = 200
"""The memory, in bytes, that Python needs for a text in addition to its characters."""
OF_DECIMAL = 128
"""The memory, in bytes, of a Decimal of Python."""
MUCH = 2**25
"""The bytes of texts that are measured together, or more if much memory is allowed."""
MOST_ROWS = 2**16
"""Maximum number of rows whose texts are measured together."""


def bytes_to_read(file: ParquetFile, found: Declared, most: int) -> int:
    """Return the memory, in bytes, that reading a Parquet file takes.

    Parameters
    ----------
    file : ParquetFile
    found : Declared
        What the file declares.
    most : int
        The memory that it may take. If it takes more, the result is above this number,
        but need not be exact.

    Examples
    --------
    >>> import io, pyarrow, pyarrow.parquet
    >>> from descents.storage.parquet_sizes import declared
    >>> stream = io.BytesIO()
    >>> pyarrow.parquet.write_table(pyarrow.table({"a": ["x" * 1000] * 10**5}), stream)
    >>> file = pyarrow.parquet.ParquetFile(stream)
    >>> len(stream.getvalue()) < 20_000
    True
    >>> bytes_to_read(file, declared(stream), 10**8) > 10**8
    True
    """
    from pyarrow import types

    schema = file.schema_arrow.types
    size = 0
    for column in found.columns:
        values = max(found.rows, column.values)
        size += values * (2 * column.width + 16) + column.largest
        if column.text:
            size += COPIES * column.pages + column.distinct * OF_TEXT
        if column.place < len(schema) and types.is_decimal(schema[column.place]):
            size += values * OF_DECIMAL
    unclear = [column for column in found.columns if column.text and column.longest]
    limits = sum(column.repeated * column.longest for column in unclear)
    if size > most or size + COPIES * limits <= most:
        return size
    # Many files have short texts beside a long one, so the texts are measured, in blocks
    # of rows. A row of a column of lists may have any number of texts.
    lists = [column for column in unclear if column.values > found.rows]
    size += COPIES * sum(column.repeated * column.longest for column in lists)
    rest = [column for column in unclear if column not in lists]
    return size + COPIES * _measured(file, found, rest, (most - size) // COPIES)


def _measured(
    file: ParquetFile, found: Declared, columns: list[DeclaredColumn], most: int
) -> int:
    """Return the bytes of all texts of some columns, or a number above `most`."""
    if most <= 0 or not columns:
        return 0
    names = [file.schema.column(found.columns.index(each)).path for each in columns]
    together = max(1, sum(column.longest for column in columns))
    rows = min(MOST_ROWS, max(1, max(most // 4, MUCH) // together))
    size = 0
    for batch in file.iter_batches(rows, columns=names, use_threads=False):
        size += sum(map(_bytes_of, batch.columns))
        if size > most:
            break
    return size


def _bytes_of(cells: pyarrow.Array) -> int:
    """Return the size of the cells of a column, as they are without a dictionary."""
    from pyarrow import compute, types

    if not types.is_dictionary(cells.type) or not len(cells.dictionary):
        return int(cells.nbytes)
    cells.validate(full=True)  # that no code is outside of the dictionary
    kind = cells.type.value_type
    texts = types.is_string(kind) or types.is_large_string(kind)
    if not (texts or types.is_binary(kind) or types.is_large_binary(kind)):
        return int(cells.nbytes)
    lengths = compute.binary_length(cells.dictionary).take(cells.indices)
    return int(compute.sum(lengths).as_py() or 0)
