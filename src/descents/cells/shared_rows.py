"""The rows of a file that one of several processes has, with the types of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descents.cells.columns import MOST_CLASSES
from descents.cells.distributed import check_shares
from descents.errors import InvalidValueError
from descents.optim.collective import Collective, parts
from descents.tables.arrays import columns_of_array
from descents.tables.blocks import opened
from descents.tables.calendar import LEAST, are_dates
from descents.tables.frames import short
from descents.tables.row_readers import ArrayRows, ParquetRows
from descents.tables.sizes import enough_memory
from descents.tables.tables import Table, from_arrow, known_names
from descents.tables.typed_columns import (
    Column,
    Extent,
    Kind,
    check_finite,
    described,
    kind_of_text,
)

if TYPE_CHECKING:
    import pyarrow


def read_rows(
    source: str | Path, together: Collective, *, ignore: Sequence[str] = ()
) -> Table:
    """Return the rows of a file that this process has, of a table that several share.

    Its columns have the kinds, and are described, as in the whole table.

    Parameters
    ----------
    source : str or Path
        A ``.npy`` or ``.parquet`` file.
    together : Collective
        The processes.
    ignore : sequence of str
        Columns that may contain anything. They are not among `Table.columns`, but
        `Table.filled` returns them.

    Raises
    ------
    InvalidValueError
        In all processes, if one of them cannot read the table, there are more processes
        than rows, or a column has dates.

    Examples
    --------
    >>> import tempfile
    >>> from descents.optim.collective import ALONE
    >>> path = Path(tempfile.mkdtemp()) / "table.npy"
    >>> np.save(path, np.array([[1.0, np.nan], [2.0, 5.0]]))
    >>> read_rows(path, ALONE).column("1").says
    'numbers, all 5, 1 missing'
    """
    reader = together.attempt(opened, source)
    together.attempt(known_names, ignore, reader.names)
    check_shares(reader.where, reader.rows, together)
    edges = np.cumsum([0, *reader.groups[:-1]]).tolist()
    place = parts(reader.rows, together.size, edges)[together.rank]
    frame = together.attempt(_frame, reader, place)
    together.attempt(_check_finite, frame, ignore, place.start)
    table = together.attempt(from_arrow, reader.where, frame, ignore, ())
    columns = tuple(_of_whole(column, together) for column in table.columns)
    _check_dates(columns, together)
    return replace(table, columns=columns)


def _frame(reader: ArrayRows | ParquetRows, place: slice) -> pyarrow.Table:
    """Return all columns of some rows, with the types of the file."""
    if isinstance(reader, ParquetRows):
        return reader.frame(place)
    count = place.stop - place.start
    reader.select(list(range(reader.columns)))
    reader.first, reader.rows = place.start, count
    with enough_memory(reader.where):
        (block,) = reader.read(count, reader.dtype)
    return columns_of_array(block)


def _check_finite(frame: pyarrow.Table, ignore: Sequence[str], first: int) -> None:
    """Raise an error that names the row in the file if a column has infinite numbers."""
    from pyarrow import types

    for field, cells in zip(frame.schema, frame.columns, strict=True):
        if types.is_floating(field.type) and field.name not in ignore:
            check_finite(field.name, cells.to_numpy(), first)


def _of_whole(column: Column, together: Collective) -> Column:
    """Return a column of some rows with the kind and the levels of those of all processes."""
    own = Extent.of(column.values)
    every = together.each((own, column.kind, column.whole))
    extent = Extent.joined([one for one, _, _ in every])
    found = replace(column, whole_extent=extent)
    kinds = [kind for _, kind, _ in every if kind != "empty"]
    if not kinds:
        return described(found)
    whole = any(one for _, _, one in every)
    if kinds[0] in ("number", "date", "boolean"):  # by its type
        levels = (False, True) if kinds[0] == "boolean" else ()
        found = replace(found, kind=kinds[0], whole=whole, levels=levels)
    else:
        found = _with_all_levels(found, "order" in kinds, together)
    found = described(found)
    if found.kind == "text" and len(found.levels) > MOST_CLASSES:  # not all are known
        exact = f"{len(found.levels)} different"
        more = found.says.replace(exact, f"more than {MOST_CLASSES} different")
        found = replace(found, says=more)
    return found


def _with_all_levels(column: Column, ordered: bool, together: Collective) -> Column:
    """Return a category or text with the levels that occur in the rows of any process.

    Of text with very many values only some are known, enough to tell that it is not a
    category.
    """
    parts = together.each(column.levels[: MOST_CLASSES + 1])
    every: list[Any] = list(dict.fromkeys(chain.from_iterable(parts)))
    levels: tuple[object, ...] = tuple(every if ordered else sorted(every))
    codes = {level: float(code) for code, level in enumerate(levels)}
    new = np.array([codes.get(one, np.nan) for one in column.levels] + [np.nan])
    values = new[np.nan_to_num(column.values, nan=-1).astype(np.int64)]
    kind: Kind = "order" if ordered else "category"
    text = {one is str for one in map(type, levels)} == {True}
    coded = hasattr(column.cells, "dictionary")
    if not ordered and not coded and text:
        kind = kind_of_text(len(levels), column.extent.observed)
    return replace(column, kind=kind, levels=levels, values=values)


def _check_dates(columns: Sequence[Column], together: Collective) -> None:
    """Raise an error if a column has dates, whose precision is that of all their cells."""
    dates = [column.name for column in columns if column.kind == "date"]
    for column in columns:
        if column.kind == "number" and column.whole:
            numbers = column.values[~np.isnan(column.values)]
            own = len(numbers) == 0 or are_dates(numbers)
            few = together.each(np.unique(numbers)[:LEAST])
            if not together.agreed(not own) and len(set(np.concatenate(few))) >= LEAST:
                dates.append(column.name)
    if dates:
        raise InvalidValueError(
            f"column {short(dates[0])!r} has dates, which several processes (torchrun) do "
            f"not fill; give --ignore {short(dates[0])}, or start one process"
        )


def check_filled(source: str, target: Path) -> None:
    """Raise an error if several processes cannot write a table to a file.

    Examples
    --------
    >>> check_filled("table.npy", Path("filled.csv"))
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: FILLED is filled.csv, but several processes
    (torchrun) write the format of TABLE, .npy; give a name that ends in .npy
    """
    kind = Path(source).suffix.lower()
    if kind in (".npy", ".parquet") and target.suffix.lower() != kind:
        raise InvalidValueError(
            f"FILLED is {short(str(target))}, but several processes (torchrun) write the "
            f"format of TABLE, {kind}; give a name that ends in {kind}"
        )
