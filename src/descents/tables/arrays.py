"""Files of numpy and scipy.sparse: headers are checked before memory is allocated."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.frames import reason_of

MOST_ROWS = 10**8
"""Maximum number of rows or columns of a sparse matrix, because each needs memory."""
MOST_BLANK = 10**6
"""Maximum number of rows or columns of a sparse matrix if nearly all of them are empty."""
BLANK = 1000
"""Nearly all rows count as empty if there are more than this many per stored cell."""


def memory_of_machine() -> int:
    """Return the maximum amount of memory that this process may use, in bytes.

    It is 2**40 if the system does not report it.

    Examples
    --------
    >>> memory_of_machine() > 10**6
    True
    """
    limits = [2**40]
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        limits.append(int(text))
    return min(limit for limit in limits if limit > 0)


def array_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether the order is Fortran's, and type from a .npy header.

    Raises
    ------
    ValueError
        If it is not such a header, or its shape is invalid.

    Examples
    --------
    >>> import io
    >>> stream = io.BytesIO()
    >>> np.save(stream, np.zeros((2, 3)))
    >>> _ = stream.seek(0)
    >>> array_header(stream)
    ((2, 3), False, dtype('float64'))
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream)
        elif version in ((2, 0), (3, 0)):
            header = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"its format has version {version}, which is unknown")
    except OSError:
        raise
    except Exception as error:  # damaged text: errors of the tokenizer, recursion, ...
        raise ValueError(reason_of(error)) from None
    shape, fortran_order, dtype = header
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}, with a size below 0")
    if dtype.hasobject:
        raise ValueError("it contains Python objects, or is damaged")
    return tuple(int(size) for size in shape), bool(fortran_order), dtype


def check_length(shape: tuple[int, ...], dtype: np.dtype, length: int) -> None:
    """Raise an error for an array that is longer than its file or than the memory.

    Parameters
    ----------
    length : int
        Number of bytes that follow the header.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_length((10**12, 3), np.dtype(float), 100)
    Traceback (most recent call last):
    ...
    ValueError: its shape is (1000000000000, 3), which takes 24000000000000 bytes, but 100
    follow
    """
    size = math.prod(shape) * dtype.itemsize
    if size > length:
        raise ValueError(
            f"its shape is {shape}, which takes {size} bytes, but {length} follow"
        )
    if size > memory_of_machine():
        raise ValueError(
            f"its shape is {shape}, which takes {size} bytes, more than the memory of "
            "this machine"
        )


def load_checked(file: Any) -> Any:
    """Return ``np.load(file)``, an array or the members of a .npz file, after a check.

    Raises
    ------
    ValueError
        If the header of an array does not match the length of the file.

    Examples
    --------
    >>> import io
    >>> stream = io.BytesIO()
    >>> np.save(stream, np.arange(3.0))
    >>> load_checked(stream)
    array([0., 1., 2.])
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(len(np.lib.format.MAGIC_PREFIX))
    file.seek(0)
    if magic == np.lib.format.MAGIC_PREFIX:
        shape, _, dtype = array_header(file)
        check_length(shape, dtype, end - file.tell())
        file.seek(0)
    return np.load(file, allow_pickle=False)


def check_members(loaded: Any, names: Iterable[str]) -> None:
    """Raise an error for a member of a .npz file that is damaged or not a .npy file.

    Raises
    ------
    ValueError
    """
    infos = {info.filename.removesuffix(".npy"): info for info in loaded.zip.infolist()}
    for name in names:
        info = infos[name.removesuffix(".npy")]
        with loaded.zip.open(info) as member:
            try:
                shape, _, dtype = array_header(member)
                check_length(shape, dtype, info.file_size - member.tell())
            except ValueError as error:
                raise ValueError(f"its member {info.filename!r}: {error}") from None


def check_sparse(where: str, loaded: Any) -> None:
    """Raise an error for the members of a sparse matrix if its shape is not plausible.

    Raises
    ------
    InvalidValueError
        If the matrix has far more rows or columns than stored cells. A model would need
        memory for each of them.
    ValueError
        If its shape is not two whole numbers of at least 0.
    """
    check_members(loaded, loaded.files)
    shape = loaded["shape"]
    if shape.dtype.kind not in "iu" or shape.shape != (2,) or (shape < 0).any():
        raise ValueError(f"its member 'shape' is {shape.tolist()!r}")
    stored = int(loaded["data"].size)
    for size, what in zip(shape.tolist(), ("rows", "columns"), strict=True):
        blank = size > MOST_BLANK and size > BLANK * stored
        if size > MOST_ROWS or blank:
            raise InvalidValueError(
                f"{where} is a sparse matrix of {size} {what} with {stored} stored cells, "
                f"but a model needs memory for each of the {what}; give one without the "
                f"empty {what}"
            )
