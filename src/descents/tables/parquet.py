"""Reads a Parquet file whole, if what it declares is not too much for its size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from descents.errors import InvalidValueError
from descents.storage.parquet import bytes_to_read
from descents.storage.parquet_sizes import MOST_TIMES, SUSPECT, declared
from descents.tables.frames import reason_of
from descents.tables.sizes import check_columns, check_size
from descents.tables.tables import Table, check_names, from_arrow, known_names
from descents.tables.typed_columns import wrong_type

if TYPE_CHECKING:
    import pyarrow


def read_parquet(
    where: str, path: Path, ignore: Sequence[str], skip: Sequence[str]
) -> Table:
    """Return the table in a Parquet file.

    Raises
    ------
    InvalidValueError
        If it cannot be read, or is far larger than its file.
    MemoryError
    """
    import pyarrow

    try:
        # pyarrow opens no path that is not UTF-8, so Python opens the file.
        with path.open("rb") as stream:
            frame = _frame(where, stream, ignore, skip)
        return from_arrow(where, frame, ignore, skip)
    except (InvalidValueError, MemoryError):
        raise
    except (OSError, ValueError, LookupError, pyarrow.ArrowException) as error:
        raise InvalidValueError(
            f"{where} cannot be read as Parquet ({reason_of(error)}); give a whole "
            "Parquet file"
        ) from None


def _frame(
    where: str, stream: BinaryIO, ignore: Sequence[str], skip: Sequence[str]
) -> pyarrow.Table:
    import pyarrow.parquet
    from pyarrow import types

    found = declared(stream)
    length = stream.seek(0, 2)
    check_columns(where, len(found.columns))
    with pyarrow.parquet.ParquetFile(stream) as file:
        schema = file.schema_arrow
        check_names(where, schema.names)
        ignored = known_names(ignore, schema.names).union(skip)
        for field in schema:
            if types.is_nested(field.type) and field.name not in ignored:
                raise wrong_type(field.name, field.type)
        needs = bytes_to_read(file, found, max(SUSPECT, MOST_TIMES * length))
        check_size(f"its table of {found.rows} rows", needs, length)
        frame = file.read()
    # Text that is not UTF-8, and codes without a level, would fail later or crash.
    frame.validate(full=True)
    return frame
