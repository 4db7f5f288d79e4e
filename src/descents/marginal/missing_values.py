"""Which values represent a missing cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from descents.errors import InvalidValueError
from descents.tables.pandas_values import equals
from descents.tables.typed_columns import Column


def is_blank(value: object) -> bool:
    """Return whether a value always represents a missing cell: NaN, None, NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def none_as_nan(X: object) -> object:
    """Return nested sequences or an array of objects with NaN in place of None and NA.

    The value is returned unchanged if it contains none of these, or is not a table.

    Examples
    --------
    >>> none_as_nan([[1, None]])
    array([[1, nan]], dtype=object)
    """
    try:
        array = np.asarray(X, dtype=object)
    except ValueError:
        return X
    if array.ndim != 2 or not array.size:
        return X
    blank = np.vectorize(is_blank, otypes=[bool])(array)
    if not blank.any():
        return X
    return np.where(blank, np.nan, array)


def marked_cells(X: object, mark: object) -> np.ndarray | None:
    """Return which cells of nested sequences or of an array of objects are a mark of text.

    None if the mark is a number, or if no cell is the mark.

    Examples
    --------
    >>> marked_cells([[1, "?"]], "?"), marked_cells([[1, 2]], "?")
    (array([[False,  True]]), None)
    """
    if not isinstance(mark, str) or np.ma.isMaskedArray(X):
        return None
    kind = getattr(getattr(X, "dtype", None), "kind", "O")
    if kind not in "OUS":
        return None
    try:
        array = np.asarray(X, dtype=object)
    except ValueError:
        return None
    if array.ndim != 2:
        return None
    marked = np.array([[equals(x, mark) for x in row] for row in array], dtype=bool)
    return marked if marked.any() else None


def check_mark(mark: object) -> None:
    """Raise an error unless a value can represent a missing cell."""
    single = isinstance(mark, str | bool | int | float | np.generic)
    if not single and not is_blank(mark):
        raise InvalidValueError(
            f"missing_values is {mark!r}; give one number or text, or np.nan or None"
        )


def with_missing(column: Column, mark: object) -> Column:
    """Return a column in which cells that equal a mark are missing.

    Parameters
    ----------
    column : Column
    mark : object
        A level or a number. A column that cannot contain it is returned unchanged.
    """
    if column.levels:
        if mark not in column.levels:
            return column
        place = column.levels.index(mark)
        # The codes of the levels after the removed one decrease by 1.
        values = np.where(column.values == place, np.nan, column.values)
        values = np.where(values > place, values - 1, values)
        levels = column.levels[:place] + column.levels[place + 1 :]
        marked = replace(column, values=values, levels=levels)
    elif isinstance(mark, int | float | np.number) and column.kind == "number":
        values = np.where(column.values == mark, np.nan, column.values)
        marked = replace(column, values=values)
    else:
        return column
    return replace(marked, kind="empty") if np.isnan(marked.values).all() else marked
