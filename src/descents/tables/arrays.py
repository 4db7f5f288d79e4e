"""Files of numpy and scipy.sparse: headers are checked before memory is allocated."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.frames import reason_of, short
from descents.tables.sizes import bytes_to_read, check_columns, check_size
from descents.tables.tables import Table, from_arrow
from descents.tables.triples import Triples, stored_once

if TYPE_CHECKING:
    import pyarrow
    from numpy.lib.npyio import NpzFile
    from scipy.sparse import sparray

MOST_ROWS = 10**8
"""Maximum number of rows or columns of a sparse matrix, because each needs memory."""
MOST_BLANK = 10**6
"""Maximum number of rows or columns of a sparse matrix if nearly all of them are empty."""
BLANK = 1000
"""Nearly all rows count as empty if there are more than this many per stored cell."""
BYTES_OF_CELL = 100
"""The memory, in bytes, that a stored cell of a sparse matrix takes while it is read."""
BYTES_OF_NAME = 64
"""The memory of the name of a row or a column."""


def array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
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


def check_length(
    shape: tuple[int, ...], dtype: np.dtype, length: int, packed: int | None = None
) -> None:
    """Raise an error for an array that is longer than its file or than the memory.

    Parameters
    ----------
    length : int
        Number of bytes that follow the header.
    packed : int, optional
        The size of a compressed file, in bytes.

    Raises
    ------
    ValueError
    MemoryError
        If the memory is not enough.

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
    what, needs = f"its shape is {shape}, which", bytes_to_read(shape, dtype.itemsize)
    check_size(what, needs, length if packed is None else packed)


def load_checked(file: BinaryIO) -> np.ndarray | NpzFile:
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
    end = _length(file)
    magic = file.read(len(np.lib.format.MAGIC_PREFIX))
    file.seek(0)
    if magic == np.lib.format.MAGIC_PREFIX:
        shape, _, dtype = array_header(file)
        check_length(shape, dtype, end - file.tell())
        file.seek(0)
    return np.load(file, allow_pickle=False)


def _length(file: BinaryIO) -> int:
    """Return the number of bytes of a file, which is then at its beginning."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    return end


def check_members(loaded: NpzFile, names: Iterable[str], packed: int) -> None:
    """Raise an error for a member of a .npz file that is damaged or not a .npy file.

    Parameters
    ----------
    loaded : NpzFile
    names : iterable of str
    packed : int
        The size of the file, in bytes.

    Raises
    ------
    ValueError
        Also if the members together are far larger than the file.
    """
    members = loaded.zip
    assert members is not None  # noqa: S101 - until the file is closed
    infos = {info.filename.removesuffix(".npy"): info for info in members.infolist()}
    used = [infos[name.removesuffix(".npy")] for name in names]
    check_size("its content", sum(info.file_size for info in used), packed)
    for info in used:
        # Python decompresses other methods without a limit, whatever size is declared.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"its member {info.filename!r} is compressed by a method that numpy does "
                "not use"
            )
        with members.open(info) as member:
            try:
                shape, _, dtype = array_header(member)
                length = info.file_size - member.tell()
                check_length(shape, dtype, length, packed)
            except ValueError as error:
                raise ValueError(f"its member {info.filename!r}: {error}") from None


def check_sparse(where: str, loaded: NpzFile, packed: int) -> None:
    """Raise an error for the members of a sparse matrix if its shape is not plausible.

    `packed` is the size of the file, in bytes.

    Raises
    ------
    InvalidValueError
        If the matrix has far more rows or columns than stored cells. A model would need
        memory for each of them.
    ValueError
        If its shape is not two whole numbers of at least 0, or the rows of stored cells
        do not follow each other.
    """
    check_members(loaded, loaded.files, packed)
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
    names = sum(shape.tolist()) * BYTES_OF_NAME
    check_size(f"its shape is {tuple(shape.tolist())}, which", names, packed)
    cells = f"its table of {stored} stored cells"
    check_size(cells, stored * BYTES_OF_CELL, packed)
    if "indptr" in loaded.files:
        _check_pointers(loaded["indptr"], len(loaded["indices"]))


def _check_pointers(pointers: np.ndarray, cells: int) -> None:
    """Raise a ValueError if pointers into stored cells fall, or leave these.

    scipy looks for falling pointers too, but in 32 bits their differences may overflow.
    """
    ends = pointers.astype(np.float64)
    falls = pointers.ndim != 1 or not len(ends) or (np.diff(ends) < 0).any()
    if falls or ends[0] != 0 or ends[-1] > cells:
        raise ValueError(
            "its member 'indptr' does not divide its stored cells into rows"
        )


def read_arrays(
    where: str, path: Path, ignore: Sequence[str], skip: Sequence[str]
) -> Table | Triples:
    """Read a file of numpy or scipy.sparse."""
    import scipy.sparse

    try:
        with path.open("rb") as file:
            packed = _length(file)
            loaded = load_checked(file)
            if isinstance(loaded, np.ndarray):
                array = loaded
            elif {"format", "shape", "data"} <= set(loaded.files):
                if len(ignore):
                    raise InvalidValueError(
                        f"{where} is a sparse matrix, and all its columns are read; "
                        "give no columns to ignore"
                    )
                check_sparse(where, loaded, packed)
                file.seek(0)
                return _from_sparse(where, scipy.sparse.load_npz(file))
            else:
                name = array_name(where, loaded.files)
                check_members(loaded, [name], packed)
                array = loaded[name]
    except (InvalidValueError, MemoryError):
        raise
    except Exception as error:  # damaged files: errors of zip, zlib, tokenizer
        reason = reason_of(error)
        if "pickled" in str(error) or "Object arrays" in str(error):
            reason = "it contains Python objects, or is damaged"
        raise InvalidValueError(
            f"{where} cannot be read as a numpy file ({reason}); give a whole .npy or "
            ".npz file of numbers"
        ) from None
    if array.dtype.kind not in "buif" or array.ndim != 2:
        raise InvalidValueError(
            f"{where} has {array.dtype} values of shape {array.shape}; give a "
            "two-dimensional table of real numbers"
        )
    if not all(array.shape):
        raise InvalidValueError(
            f"{where} has shape {array.shape}, no rows or no columns; give at least one of "
            "each"
        )
    check_columns(where, array.shape[1])
    return from_arrow(where, columns_of_array(array), ignore, skip)


def columns_of_array(array: np.ndarray) -> pyarrow.Table:
    """Return the columns of an array, with the names "0", "1", ...

    Examples
    --------
    >>> columns_of_array(np.zeros((2, 1), dtype=">f2")).schema.types
    [DataType(float)]
    """
    import pyarrow

    if array.dtype.kind == "f":
        narrow = np.float32 if array.itemsize <= 4 else np.float64
        with np.errstate(all="ignore"):  # NaNs of other widths; too large is infinite
            array = array.astype(narrow, copy=False)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    columns = [pyarrow.array(np.ascontiguousarray(column)) for column in array.T]
    names = [str(place) for place in range(array.shape[1])]
    return pyarrow.table(columns, names=names)


def array_name(where: str, names: Sequence[str]) -> str:
    """Return the name of the array in a .npz file that is the table."""
    usual = [name for name in names if name in ("table", "X", "data")]
    for choice in (names, usual):
        if len(choice) == 1:
            return choice[0]
    raise InvalidValueError(
        f"{where} has {len(names)} arrays ({', '.join(map(short, names[:10]))}); give a "
        "file with only one, or with one that is named table, X or data"
    )


def _from_sparse(where: str, matrix: sparray) -> Triples:
    if matrix.dtype.kind not in "buif":
        raise InvalidValueError(
            f"{where} is a sparse matrix of {matrix.dtype} values; give real numbers"
        )
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)  # damaged indices would crash later
    entries = matrix.tocoo()
    values = entries.data.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidValueError(
            f"{where} stores NaN or infinite values; give finite numbers, and leave "
            "missing cells out"
        )
    rows, columns = (place.astype(np.int64) for place in (entries.row, entries.col))
    row_names, column_names = (tuple(map(str, range(size))) for size in matrix.shape)
    return stored_once(where, rows, columns, values, row_names, column_names)
