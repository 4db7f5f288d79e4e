"""The order of the levels of a column, if it is certain, or as it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.tables.frames import short
from descents.tables.levels import KnownLevels, coded, different_cells, levels_of
from descents.tables.scales import arranged
from descents.tables.spelling import listed, number_of, spelled
from descents.tables.tables import Table
from descents.tables.typed_columns import Column, as_column
from descents.text import counted


@dataclass(frozen=True)
class Order:
    """The levels of a column from the lowest to the highest.

    Attributes
    ----------
    levels : tuple
    says : str
        The source of the order, for messages; empty if it needs no explanation.
    mark : str
        A mark of missing cells in the column that could also be a level of its scale.
    """

    levels: tuple[object, ...]
    says: str = ""
    mark: str = ""


def order_of(column: Column) -> Order | None:
    """Return the order of the levels of a column, or None if it is not known.

    The order is known for ordered categories, numbers, booleans and dates; for text with
    a number in each level; for well-known scales; and for two levels, because both orders
    give the same model.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> frame = pyarrow.table({"a": ["low", "high", "Medium"], "b": ["x", "y", "z"]})
    >>> [order_of(column) for column in from_frame(frame).columns]
    [Order(levels=('low', 'Medium', 'high'), says='a known scale', mark=''), None]
    """
    levels = levels_of(column)
    if column.kind in ("number", "date", "order", "boolean"):
        return Order(levels)
    if not all(isinstance(level, str) for level in levels):
        return Order(levels)  # categories that are numbers
    texts = _one_of_each(column)
    numbers = [number_of(text) for text in texts]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return Order(tuple(sorted(texts, key=lambda text: number_of(text) or 0)))
    arrangement = arranged(texts, column.decimal)
    if arrangement is not None:
        return Order(*arrangement, mark=_doubtful_mark(column, texts))
    return Order(tuple(texts)) if len(texts) <= 2 else None


def _doubtful_mark(column: Column, texts: Sequence[str]) -> str:
    """Return a mark of missing cells that could be a level of the scale: None, mild, ..."""
    if column.cells is None or not np.isnan(column.values).any():
        return ""
    levels = set(map(spelled, texts))
    for cell in different_cells(column.cells)[1]:
        if not isinstance(cell, str) or not cell or spelled(cell) in levels:
            continue
        if arranged([*texts, cell], column.decimal) is not None:
            return cell
    return ""


def _one_of_each(column: Column) -> list[str]:
    """Return levels of text; of those that differ only in case and spaces, the commonest."""
    places = column.values[~np.isnan(column.values)].astype(np.int64)
    counts = np.bincount(places, minlength=len(column.levels))
    commonest: dict[str, int] = {}
    for place in np.argsort(-counts, kind="stable").tolist():
        commonest.setdefault(spelled(column.levels[place]), place)
    return [str(column.levels[place]) for place in sorted(commonest.values())]


def ordered(
    table: Table, given: Mapping[str, Sequence[str]], option: str = "--levels"
) -> Table:
    """Return a table with the levels of some columns in a given order.

    Parameters
    ----------
    table : Table
    given : mapping from names of columns to levels
        All levels of the column from the lowest to the highest, and perhaps others that
        do not occur. Case and spaces are ignored.
    option : str
        How messages call this argument.

    Raises
    ------
    InvalidValueError
        If a column is absent, a level is listed twice, or a cell has an unlisted level.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["no", "maybe", "yes"]}))
    >>> column = ordered(table, {"a": ["no", "maybe", "yes", "always"]}).column("a")
    >>> column.kind, column.levels, column.values
    ('order', ('no', 'maybe', 'yes', 'always'), array([0., 1., 2.]))
    """
    complaints = Complaints()
    parts = {column.name: column for column in table.columns}
    for name, levels in given.items():
        column = complaints.attempt(table.column, name)
        if column is not None:
            part = complaints.attempt(_in_order, column, tuple(levels), option)
            parts[name] = part or column
    complaints.raise_any()
    return replace(table, columns=tuple(parts.values()))


def _in_order(column: Column, levels: tuple[str, ...], option: str) -> Column:
    name = short(column.name)
    counts = Counter(map(spelled, levels))
    twice = [level for level in levels if counts[spelled(level)] > 1]
    if twice or not levels:
        raise InvalidValueError(
            f"{option} gives {listed(twice[:1]) + ' twice' if twice else 'no level'} for "
            f"column {name!r}; give each level once, from the lowest to the highest"
        )
    codes, unseen = coded(column, KnownLevels(levels, loose=True))
    if unseen:
        cells = counted(sum(unseen.values()), "cell")
        raise InvalidValueError(
            f"column {name!r} holds {listed(unseen)} in {cells}, which {option} does not "
            f"list for it ({listed(levels)}); list all levels, or give --missing for a "
            "mark of missing cells"
        )
    return replace(as_column(column.name, "order", codes, levels), cells=column.cells)
