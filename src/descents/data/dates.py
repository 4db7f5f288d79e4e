"""Dates, times and durations as numbers of days, and back as a column has them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

DAY = 86_400_000_000  # in microseconds
STEPS = (DAY, DAY // 24, DAY // 24 // 60, 1_000_000, 1000, 1)
"""What dates are rounded to: days, hours, minutes, seconds, milliseconds, microseconds."""
YEARS_1_TO_9999 = (-719_161.0, 2_932_895.0)
NANOSECONDS = (-106_750.0, 106_750.0)
"""What python and 64 bits of nanoseconds can hold, in days, less a day at each end."""
_SHAPES = 2**14
"""How many cells of text are looked at for how they are written."""


def as_days(cells: Any) -> np.ndarray:
    """Return dates, times and durations as float64 days."""
    import pyarrow

    count = cells.cast(_microseconds(cells.type), safe=False).cast(pyarrow.int64())
    return np.asarray(count.to_numpy(zero_copy_only=False), dtype=np.float64) / DAY


def _microseconds(kind: Any) -> Any:
    """Return the type of microseconds that a type of dates or times goes to."""
    import pyarrow
    from pyarrow import types

    if types.is_duration(kind):
        return pyarrow.duration("us")
    if types.is_time(kind):
        return pyarrow.time64("us")
    return pyarrow.timestamp("us", getattr(kind, "tz", None))


def step_of(days: np.ndarray, *, from_zero: bool = False) -> tuple[int, int]:
    """Return the largest of `STEPS` by multiples of which all days differ, and the rest.

    Parameters
    ----------
    days : float64 ndarray
        NaN where missing.
    from_zero : bool
        Whether all have to be multiples of the step themselves.

    Returns
    -------
    step, offset : int
        In microseconds; all days are multiples of the step, plus the offset.

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
    cells: Any,
    observed: np.ndarray,
    rounded: Callable[[np.ndarray], np.ndarray] = np.rint,
) -> list[Any]:
    """Return days as the cells of a column are: dates, times, or text of these.

    They are rounded as the observed cells seem to be: to days, if all of these have the
    same time of day, else to hours, minutes, seconds or parts of these.

    Parameters
    ----------
    days : float64 ndarray
    cells : arrow array
        Of dates, times, durations or ISO text.
    observed : float64 ndarray
        The days of all cells, NaN where missing.
    rounded : callable
        What rounds: `numpy.rint`, or floor or ceil.

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
    kind = pyarrow.timestamp("us") if text else kind
    low, high = NANOSECONDS if getattr(kind, "unit", "") == "ns" else YEARS_1_TO_9999
    if types.is_time(kind):
        low, high = 0.0, 1 - step / DAY
    counts = rounded(np.clip(days, low, high) * (DAY // step) - offset / step)
    numbers = pyarrow.array(counts.astype(np.int64) * step + offset)
    found = numbers.cast(_microseconds(kind)).cast(kind, safe=False).to_pylist()
    return [_written(value, shape) for value in found] if text else list(found)


def _shape(cells: Any, observed: np.ndarray) -> str:
    """Return the commonest form of ISO text, with zeros for its digits."""
    places = np.flatnonzero(~np.isnan(observed))[:_SHAPES]
    texts: Sequence[str] = cells.take(places).to_pylist() if len(places) else []
    forms = Counter(re.sub(r"\d", "0", text.strip()) for text in texts)
    return forms.most_common(1)[0][0] if forms else "0000-00-00"


def _step_of_shape(shape: str) -> int:
    """Return what ISO text of a form can tell apart, in microseconds."""
    if len(shape) <= 10:
        return DAY
    if shape.count(":") < 2:
        return STEPS[2]
    digits = shape.partition(".")[2].count("0")
    return int(10 ** max(6 - digits, 0))


def _written(value: Any, shape: str) -> str:
    """Return a time as ISO text of a form."""
    text: str = value.isoformat(sep=shape[10:11] or "T", timespec="microseconds")
    end = len(shape.removesuffix("Z"))
    return text[:end].ljust(end, "0") + "Z" * shape.endswith("Z")
