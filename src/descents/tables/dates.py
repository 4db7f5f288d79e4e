"""Conversion of dates, times and durations to numbers of days, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import datetime

    import pyarrow

DAY = 86_400_000_000  # in microseconds
STEPS = (DAY, DAY // 24, DAY // 24 // 60, 1_000_000, 1000, 1)
"""Units for rounding: days, hours, minutes, seconds, milliseconds and microseconds."""
YYYYMMDD = "00000000"
"""The form of dates as whole numbers."""
YEARS_1_TO_9999 = (-719_161.0, 2_932_895.0)
NANOSECONDS = (-106_750.0, 106_750.0)
"""The ranges of Python's dates and of 64-bit nanoseconds, in days since 1970, less a day
at each end."""
_SHAPES = 2**14
"""Maximum number of text cells that are inspected to find their form."""


def as_days(cells: pyarrow.Array) -> np.ndarray:
    """Return dates, times and durations as float64 days."""
    import pyarrow

    count = cells.cast(_microseconds(cells.type), safe=False).cast(pyarrow.int64())
    return np.asarray(count.to_numpy(zero_copy_only=False), dtype=np.float64) / DAY


def _microseconds(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Return the pyarrow type with microseconds for a type of dates or times."""
    import pyarrow
    from pyarrow import types

    if types.is_duration(kind):
        return pyarrow.duration("us")
    if types.is_time(kind):
        return pyarrow.time64("us")
    return pyarrow.timestamp("us", getattr(kind, "tz", None))


def step_of(days: np.ndarray, *, from_zero: bool = False) -> tuple[int, int]:
    """Return the largest of `STEPS` that divides all differences of days, and the offset.

    Parameters
    ----------
    days : float64 ndarray
        NaN where missing.
    from_zero : bool
        Whether the days themselves must be multiples of the step, with an offset of 0.

    Returns
    -------
    step, offset : int
        In microseconds. All days are the offset plus a multiple of the step.

    Examples
    --------
    >>> step_of(np.array([1.0, 2.0])) == (DAY, 0)
    True
    >>> step_of(np.array([1.5, 3.5])) == (DAY, DAY // 2)
    True
    """
    counts = np.rint(days[~np.isnan(days)] * DAY).astype(np.int64)
    first = int(counts[0]) if len(counts) and not from_zero else 0
    step = next(step for step in STEPS if not ((counts - first) % step).any())
    return step, first % step


def of_days(
    days: np.ndarray,
    cells: pyarrow.Array,
    observed: np.ndarray,
    rounded: Callable[[np.ndarray], np.ndarray] = np.rint,
) -> list[object]:
    """Convert days to the type of a column: dates, times, or text that contains these.

    They are rounded to the precision of the observed cells: to days if all of them have
    the same time of day, else to hours, minutes, seconds or fractions of seconds.

    Parameters
    ----------
    days : float64 ndarray
    cells : arrow array
        The cells of the column: dates, times, durations, ISO text, or YYYYMMDD as text or
        numbers.
    observed : float64 ndarray
        The days of all cells, NaN where missing.
    rounded : callable
        Rounding function: `numpy.rint`, `numpy.floor` or `numpy.ceil`.

    Examples
    --------
    >>> import pyarrow
    >>> cells = pyarrow.array(["2021-03-01", "2021-03-09"])
    >>> of_days(np.array([18690.4]), cells, np.array([18687.0, 18695.0]))
    ['2021-03-04']
    """
    import pyarrow
    from pyarrow import types

    kind = cells.type
    text = types.is_string(kind) or types.is_large_string(kind)
    shape = _shape(cells, observed) if text else ""
    step, offset = step_of(observed, from_zero=types.is_time(kind))
    if text and _step_of_shape(shape) > step:
        step, offset = _step_of_shape(shape), 0
    number = types.is_integer(kind) or types.is_floating(kind)
    kind = pyarrow.timestamp("us") if text or number else kind
    low, high = NANOSECONDS if getattr(kind, "unit", "") == "ns" else YEARS_1_TO_9999
    if types.is_time(kind):
        low, high = 0.0, 1 - step / DAY
    counts = rounded(np.clip(days, low, high) * (DAY // step) - offset / step)
    numbers = pyarrow.array(counts.astype(np.int64) * step + offset)
    values = numbers.cast(_microseconds(kind)).cast(kind, safe=False).to_pylist()
    if number:
        return [int(_written(value, YYYYMMDD)) for value in values]
    return [_written(value, shape) for value in values] if text else list(values)


def _shape(cells: pyarrow.Array, observed: np.ndarray) -> str:
    """Return the most frequent form of ISO text, with all digits replaced by 0."""
    places = np.flatnonzero(~np.isnan(observed))[:_SHAPES]
    texts: Sequence[str] = cells.take(places).to_pylist() if len(places) else []
    forms = Counter(re.sub(r"\d", "0", text.strip()) for text in texts)
    return forms.most_common(1)[0][0] if forms else "0000-00-00"


def _step_of_shape(shape: str) -> int:
    """Return the resolution of ISO text of a form, in microseconds."""
    if len(shape) <= 10:
        return DAY
    if shape.count(":") < 2:
        return STEPS[2]
    digits = shape.partition(".")[2].count("0")
    return int(10 ** max(6 - digits, 0))


def _written(value: datetime.datetime, shape: str) -> str:
    """Return a time as ISO text in the form `shape`."""
    if shape == YYYYMMDD:
        return value.isoformat()[:10].replace("-", "")
    text: str = value.isoformat(sep=shape[10:11] or "T", timespec="microseconds")
    end = len(shape.removesuffix("Z"))
    return text[:end].ljust(end, "0") + "Z" * shape.endswith("Z")
