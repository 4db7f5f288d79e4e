"""Values of starts and options, checked, and the sizes of chunks of resamples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.text import counted
from descents.validation import from_torch, real_number

RESAMPLES = 9999
"""The default number of resamples or permutations."""

CELLS = 2**20
"""The largest number of values in a chunk of resamples, which limits memory."""


def start_values(name: str, values: object) -> np.ndarray:
    """Return one finite number per start, float64 of shape (S,), S at least 1.

    Raises
    ------
    InvalidValueError
        If there is no number, or one is not a finite real number.

    Examples
    --------
    >>> start_values("values", [1, 2])
    array([1., 2.])
    """
    try:
        array = np.asarray(from_torch(values))
        if np.iscomplexobj(array):
            raise TypeError("complex numbers")
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"{name} does not contain only real numbers ({error}); give one number for "
            "each start"
        ) from None
    if array.ndim != 1 or not array.size:
        raise InvalidValueError(
            f"{name} has shape {array.shape}; give one number for each start, at least one"
        )
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise InvalidValueError(
            f"{name} has {bad.size} of {counted(array.size, 'number')} not finite, the "
            f"first at index {bad[0]} (0-based); leave failed starts out, or give them the "
            "value of a failure"
        )
    return array


def require_pairs(
    complaints: Complaints, first: np.ndarray, second: np.ndarray, paired: bool
) -> None:
    """Add a complaint if values that are compared start by start differ in number.

    Values that were refused, which are None then, are not compared.
    """
    if paired and first is not None and second is not None:
        complaints.require(
            len(first) == len(second),
            f"first has {counted(len(first), 'start')} and second has {len(second)}; give "
            "the same starts of both, or paired=False",
        )


def number_between(
    name: str, value: object, low: float = 0.0, high: float = 1.0
) -> float:
    """Return a number strictly between `low` and `high`.

    Raises
    ------
    InvalidValueError
        If the number is outside this range.

    Examples
    --------
    >>> number_between("confidence", 0.9)
    0.9
    """
    number = real_number(name, value)
    if not low < number < high:
        raise InvalidValueError(
            f"{name} is {value!r}; give a number between {low:g} and {high:g}"
        )
    return number


def chunk_rows(total: int, width: int) -> Iterator[int]:
    """Yield the sizes of chunks of rows of `width` numbers, `total` rows in all.

    Examples
    --------
    >>> list(chunk_rows(5, 2**19))
    [2, 2, 1]
    """
    step = max(1, CELLS // width)
    for begin in range(0, total, step):
        yield min(step, total - begin)
