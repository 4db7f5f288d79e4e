"""Columns of pandas with values that arrow does not know, read as ones that it knows.

Intervals are ordered levels, periods are dates, and categories of any values are levels of
text. `own_values` converts what is filled in back to the values of the column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from descents.errors import InvalidValueError

if TYPE_CHECKING:
    import pandas

MOST_TYPES = 3
"""The number of types of values that a message names at most."""
PLAIN = ("integer", "floating", "string", "boolean", "empty")
"""What pandas calls the values of categories that arrow knows as levels."""
KIND = "numbers, text, booleans or dates"


def readable(series: pandas.Series, mark: object = None) -> tuple[pandas.Series, bool]:
    """Return a column that arrow can read, and whether its levels are certainly in order.

    Parameters
    ----------
    series : Series
    mark : object, optional
        A value of a column of objects that represents a missing cell.

    Examples
    --------
    >>> import pandas
    >>> ages = pandas.cut(pandas.Series([1, 5]), [0, 4, 8])
    >>> found, ordered = readable(ages)
    >>> found.cat.categories.tolist(), ordered
    (['(0, 4]', '(4, 8]'], True)
    """
    import pandas

    series = _typed(_without(series, mark))
    if isinstance(series.dtype, pandas.PeriodDtype):
        return series.dt.to_timestamp(), False
    if isinstance(series.dtype, pandas.IntervalDtype):
        series = series.astype("category")
    if not _odd_categories(series):
        return series, False
    categories = series.cat.categories
    intervals = isinstance(categories.dtype, pandas.IntervalDtype)
    if intervals and not categories.is_monotonic_increasing:
        series = series.cat.reorder_categories(categories.sort_values())
    texts = [str(value) for value in series.cat.categories]
    if len(set(texts)) < len(texts):
        raise TypeError("several categories have the same text")
    return series.cat.rename_categories(texts), intervals or bool(series.cat.ordered)


def own_values(series: pandas.Series, fills: Sequence[object]) -> list[object]:
    """Return values of a column that `readable` converted, as values of its own type.

    Examples
    --------
    >>> import pandas
    >>> months = pandas.Series(pandas.period_range("2020-01", periods=2, freq="M"))
    >>> own_values(months, [pandas.Timestamp("2020-02-11")])
    [Period('2020-02', 'M')]
    """
    import pandas

    typed = _typed(series)
    if isinstance(typed.dtype, pandas.PeriodDtype):
        return [pandas.Period(fill, freq=typed.dtype.freq) for fill in fills]
    if isinstance(typed.dtype, pandas.IntervalDtype):
        typed = typed.astype("category")
    if not _odd_categories(typed):
        return list(fills)
    own: dict[object, object] = {str(one): one for one in typed.cat.categories}
    return [own[fill] for fill in fills]


def wide_categories(series: pandas.Series, levels: Sequence[object]) -> pandas.Series:
    """Return a column of categories that has some levels, in their order.

    Categories that are read as text become text, because not all of the levels are known
    as values.
    """
    if _odd_categories(series):
        series = series.cat.rename_categories(list(map(str, series.cat.categories)))
    return series.cat.set_categories(list(levels))


def refusal(name: str, series: pandas.Series | None, reason: str) -> InvalidValueError:
    """Return the error for a column that cannot be read.

    Parameters
    ----------
    name : str
    series : Series or None
        None if it is not one of pandas.
    reason : str
        What another library says.
    """
    start = f"column {name!r} has"
    values = [] if series is None else list(series.dropna().array)
    types = sorted({type(value).__name__ for value in values})
    if any(isinstance(value, complex | np.complexfloating) for value in values):
        return InvalidValueError(
            f"{start} complex numbers; give their real and imaginary parts as two columns"
        )
    whole = [v for v in values if isinstance(v, int) and not -(2**63) <= v < 2**64]
    if whole:
        return InvalidValueError(
            f"{start} whole numbers beyond 64 bits, such as {whole[0]}; give them as "
            "floats, or as text if they are names"
        )
    if types == ["bytes"]:
        return InvalidValueError(
            f"{start} values of type bytes; give text, as bytes.decode returns it"
        )
    if len(types) > 1:
        more = ", ..." if len(types) > MOST_TYPES else ""
        return InvalidValueError(
            f"{start} values of several types ({', '.join(types[:MOST_TYPES])}{more}); "
            f"give {KIND} alone, with None where a cell is missing"
        )
    what = f"values of type {types[0]}" if types else f"unknown values ({reason})"
    return InvalidValueError(f"{start} {what}; give {KIND}, or leave the column out")


def _without(series: pandas.Series, mark: object) -> pandas.Series:
    """Return a column of objects with None for cells that equal a mark."""
    if mark is None or series.dtype != object:
        return series
    equal = np.array([equals(value, mark) for value in series.array], dtype=bool)
    return series.mask(equal, None) if equal.any() else series


def equals(value: object, mark: object) -> bool:
    """Return whether a value is a mark: the same text, truth value or number.

    Examples
    --------
    >>> equals(-1.0, -1), equals(True, 1), equals("1", 1)
    (True, False, False)
    """
    for kinds in (str, bool | np.bool_, int | float | np.number):
        if isinstance(mark, kinds):
            return isinstance(value, kinds) and bool(value == mark)
        if isinstance(value, kinds):
            return False
    return type(value) is type(mark) and bool(value == mark)


def _typed(series: pandas.Series) -> pandas.Series:
    """Return a column of objects that are periods or intervals with their type."""
    from pandas.api.types import infer_dtype

    if series.dtype != object:
        return series
    if infer_dtype(series, skipna=True) not in ("period", "interval"):
        return series
    return series.infer_objects()


def _odd_categories(series: pandas.Series) -> bool:
    """Return whether a column has categories that arrow does not know as levels."""
    from pandas import CategoricalDtype
    from pandas.api.types import infer_dtype

    if not isinstance(series.dtype, CategoricalDtype):
        return False
    categories = series.cat.categories
    kind = infer_dtype(categories, skipna=True)
    if kind != "integer" or categories.dtype != object:
        return kind not in PLAIN
    return any(not -(2**63) <= value < 2**63 for value in categories)
