"""Whole numbers that are dates, such as 20210301."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.frames import short
from descents.tables.tables import Table
from descents.tables.typed_columns import Column, as_column

YEARS = range(1900, 2101)
"""The years of numbers that are recognized as dates."""
LEAST = 3
"""Fewest different numbers of a column that are recognized as dates."""


def with_dates(table: Table, names: Collection[str] | None = None) -> Table:
    """Return a table in which whole numbers that are dates are read as dates.

    Parameters
    ----------
    table : Table
    names : collection of str, optional
        The columns of dates of a model. By default the columns are recognized: all their
        numbers have the form YYYYMMDD, with a year from 1900 to 2100.

    Raises
    ------
    InvalidValueError
        If a column of `names` has another number.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"day": [20210228, 20210301, 20210305, None]}))
    >>> with_dates(table).column("day").says
    'dates as whole numbers YYYYMMDD, 1 missing'
    """
    columns, notes = [], list(table.notes)
    for column in table.columns:
        numbers = column.kind == "number" and column.written is None
        if not numbers or (names is not None and column.name not in names):
            columns.append(column)
            continue
        days = _days(column.values)
        if days is None and names is not None:
            raise InvalidValueError(
                f"column {short(column.name)!r} must hold dates as whole numbers YYYYMMDD, "
                "as the model has dates there; give these"
            )
        if days is None or (names is None and len(set(days[~np.isnan(days)])) < LEAST):
            columns.append(column)
            continue
        columns.append(_dated(column, days))
        notes.append(
            f"column {short(column.name)!r} is read as dates: all its numbers have the "
            "form YYYYMMDD"
        )
    return replace(table, columns=tuple(columns), notes=tuple(notes))


def are_dates(values: np.ndarray) -> bool:
    """Return whether all numbers have the form YYYYMMDD; NaN is a missing cell.

    Examples
    --------
    >>> are_dates(np.array([20210228.0, np.nan])), are_dates(np.array([20210229.0]))
    (True, False)
    """
    return _days(values) is not None


def _dated(column: Column, days: np.ndarray) -> Column:
    """Return a column of numbers as one of dates."""
    dated = replace(as_column(column.name, "date", days), cells=column.cells)
    says = dated.says.replace("dates or times", "dates as whole numbers YYYYMMDD")
    return replace(dated, says=says)


def _days(values: np.ndarray) -> np.ndarray | None:
    """Return numbers YYYYMMDD as days since 1970; None if one is not a date."""
    days, first = np.full(len(values), np.nan), datetime.date(1970, 1, 1)
    for row in np.flatnonzero(~np.isnan(values)):
        number = values[row]
        if number % 1 or int(number) // 10_000 not in YEARS:
            return None
        year, rest = divmod(int(number), 10_000)
        try:
            days[row] = (datetime.date(year, *divmod(rest, 100)) - first).days
        except ValueError:
            return None
    return days
