"""Sizes that a file declares, judged before memory is allocated for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from descents.errors import InvalidValueError, for_caller
from descents.storage.parquet_sizes import MOST_TIMES, SUSPECT
from descents.tables.frames import reason_of
from descents.tables.memory import memory_of_machine, said

MOST_COLUMNS = 100_000
"""Maximum number of columns of a table that is read whole."""
MOST_COLUMNS_ON_DISK = 10**6
"""Maximum number of columns of a table that is read in blocks of rows."""
MOST_TIMES_TEXT, SUSPECT_TEXT = 200, 2**25
"""The same for text, of which reading needs several copies."""


def check_columns(where: str, count: int, most: int = MOST_COLUMNS) -> None:
    """Raise an error for a table with too many columns.

    Raises
    ------
    InvalidValueError

    Examples
    --------
    >>> check_columns("t.npy", 10**12)
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: t.npy has 1000000000000 columns, more than 100000;
    give fewer, or the table with rows and columns exchanged
    """
    if count > most:
        raise InvalidValueError(
            f"{where} has {count} columns, more than {most}; give fewer, or the table "
            "with rows and columns exchanged"
        )


def check_size(
    what: str, size: int, packed: int, times: int = MOST_TIMES, suspect: int = SUSPECT
) -> None:
    """Raise an error for contents that are far larger than their file, or than the memory.

    Parameters
    ----------
    what : str
        What the file contains, for the message.
    size : int
        Its declared or actual size, in bytes.
    packed : int
        The size of the file, in bytes.
    times : int
        How many times larger than the file it may be.
    suspect : int
        The size up to which it may be as large as it likes.

    Raises
    ------
    ValueError
    MemoryError
        If the memory is not enough.

    Examples
    --------
    >>> check_size("its table", 10**9, 1000)
    Traceback (most recent call last):
    ...
    ValueError: its table takes 1.0 GB, but the file has only 1 KB
    """
    if size > max(suspect, times * packed):
        raise ValueError(
            f"{what} takes {said(size)}, but the file has only {said(packed)}"
        )
    check_memory(what, size)


def check_memory(what: str, size: int) -> None:
    """Raise a MemoryError for contents that take more than this process may use."""
    if size > memory_of_machine():
        raise MemoryError(
            f"{what} takes {said(size)} to read, more than the memory of this machine "
            "or than its limit"
        )


def bytes_to_read(shape: tuple[int, ...], itemsize: int) -> int:
    """Return the memory that reading an array takes.

    This is the array, its columns, float64 values, and an intermediate result of these.

    Examples
    --------
    >>> bytes_to_read((1000, 2), 4)
    48000
    """
    return math.prod(shape) * (2 * itemsize + 16)


@contextmanager
def enough_memory(where: str) -> Iterator[None]:
    """Report a lack of memory while a table is read as an error that says so.

    Raises
    ------
    InvalidValueError
    """
    try:
        yield
    except MemoryError as error:
        why = f" ({reason_of(error)})" if str(error) else ""
        raise InvalidValueError(
            f"there is not enough memory to read {where}{why}; free some, raise the limit "
            "of memory, give a smaller table, or a .npy or .parquet file of numbers and "
            + for_caller("--memory", "a TableOnDisk")
        ) from None
