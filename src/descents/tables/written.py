"""Encodes a filled table as a file, in the format of the file that was read."""

from __future__ import annotations

import gzip
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.tables.arrays import array_name
from descents.tables.formats import OTHER_PROGRAMS, refusal
from descents.tables.frames import given_back, short
from descents.tables.tables import Table
from descents.validation import is_special

if TYPE_CHECKING:
    import pyarrow

ARRAYS = (".npy", ".npz")
BINARY = (".parquet", *ARRAYS)


def without_formulas(table: Table) -> Table:
    """Return the table of a file with CSV text that no spreadsheet computes.

    In `Table.filled`, text and names that begin with =, +, -, @, a tab or a carriage
    return have a single quote in front; see `descents.text.without_formula`.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_arrow
    >>> frame = pyarrow.table({"a": ["=1+1", "-2"], "b": [-1.5, 2.0]})
    >>> table = from_arrow("t.parquet", frame, [], [])
    >>> without_formulas(table).filled({}).splitlines()
    ['a,b', "'=1+1,-1.5", '-2,2']
    """
    source = table.source
    if source.dialect is None:
        return table
    dialect = replace(source.dialect, safe=True)
    return replace(table, source=replace(source, dialect=dialect))


def check_target(source: str, target: Path, name: str = "FILLED") -> None:
    """Raise an error if a filled table cannot be written to a path, before it is filled.

    Parameters
    ----------
    source : str
        The path of the table that is read, or ``-``.
    target : Path
    name : str
        How messages call the target.

    Raises
    ------
    InvalidValueError

    Examples
    --------
    >>> check_target("table.csv", Path("filled.parquet"))
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: FILLED is filled.parquet, but table.csv is text;
    give a name that ends in .csv
    """
    destination, original = target.expanduser(), Path(source).expanduser()
    complaints = Complaints()
    kind, wanted = original.suffix.lower(), destination.suffix.lower()
    complaints.require(
        os.path.isdir(destination.parent),
        f"{name} is {target}, but there is no folder {target.parent}; create it, or give "
        "another path",
    )
    complaints.require(
        str(target) != "-" and not os.path.isdir(destination),
        f"{name} is {target}, which is not a file; give the name of a file",
    )
    complaints.require(
        not is_special(destination),
        f"{name} is {target}, which is a device or a pipe; give the name of a file",
    )
    complaints.require(wanted not in OTHER_PROGRAMS, f"{name} {refusal(target)}")
    same = source != "-" and os.path.exists(original) and os.path.exists(destination)
    complaints.require(
        not (same and destination.samefile(original)),
        f"{name} is {target}, which is TABLE itself; give another name",
    )
    if wanted in BINARY and wanted != kind and not {wanted, kind} <= set(ARRAYS):
        is_text = kind not in BINARY
        what = "standard input" if source == "-" else source
        complaints.require(
            False,
            f"{name} is {target}, but {what} is {'text' if is_text else kind[1:]}; give "
            f"a name that ends in {'.csv' if is_text else f'{kind} or .csv'}",
        )
    complaints.raise_any()


def content(table: Table, source: str, target: Path) -> bytes:
    """Return the source of a table, with all its columns, as the bytes of a file.

    A name that ends in .parquet, .npy or .npz gets that format. Any other name gets CSV
    text in the dialect and the encoding of the table, compressed if it ends in .gz.

    Parameters
    ----------
    table : Table
    source : str
        The path of the table that was read, which gives the name of an array in a .npz
        file.
    target : Path

    Raises
    ------
    InvalidValueError
        If an array would contain text, or the encoding lacks a character.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.frames import Dialect, Source
    >>> frame = pyarrow.table({"0": [1.0, 2.0], "1": [0.5, 0.25]})
    >>> table = Table((), Source("pyarrow", frame, ("0", "1"), 2, Dialect(("0", "1"))))
    >>> np.load(io.BytesIO(content(table, "a.npy", Path("b.npy")))).tolist()
    [[1.0, 0.5], [2.0, 0.25]]
    """
    kind = target.suffix.lower()
    if kind == ".parquet":
        return _parquet(table.source.frame)
    if kind in ARRAYS:
        array, buffer = array_of(table, target), io.BytesIO()
        if kind == ".npy":
            np.save(buffer, array)
        else:
            named: Any = {_name_in(source): array}
            np.savez(buffer, **named)
        return buffer.getvalue()
    text = table.encoded(given_back(table.source))
    return gzip.compress(text, mtime=0) if kind == ".gz" else text


def _parquet(frame: pyarrow.Table) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(frame, sink)
    return bytes(sink.getvalue().to_pybytes())


def array_of(table: Table, target: Path) -> np.ndarray:
    """Return all columns of a source as an array, of the type that was read if possible."""
    columns, frame = [], table.source.frame
    for name, cells in zip(frame.column_names, frame.columns, strict=True):
        column = cells.to_numpy()
        if column.dtype.kind not in "buif":
            raise InvalidValueError(
                f"column {short(name)!r} is text, which {target} cannot contain; give a "
                "name that ends in .csv"
            )
        columns.append(column)
    kinds = {column.cells.type.to_pandas_dtype() for column in table.columns}
    kind = np.result_type(*kinds) if kinds else np.dtype(np.float64)
    array = np.column_stack(columns)
    return array.astype(kind) if kind.kind == "f" else array


def _name_in(source: str) -> str:
    """Return the name of the array in a .npz file, or X for other files."""
    if Path(source).suffix.lower() != ".npz":
        return "X"
    with np.load(Path(source).expanduser()) as loaded:
        return array_name(source, loaded.files)
