"""The quantile of exchangeable scores that bounds a new score with a given coverage."""

from __future__ import annotations

import math

from descents.errors import InvalidValueError
from descents.validation import real_number


def coverage_checked(value: object) -> float:
    """Return a coverage, above 0 and below 1.

    Examples
    --------
    >>> coverage_checked(90)
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: coverage is 90; give a number above 0 and below 1
    """
    message = f"coverage is {value!r}; give a number above 0 and below 1"
    try:
        number = real_number("coverage", value)
    except InvalidValueError:
        raise InvalidValueError(message) from None
    if not 0 < number < 1:
        raise InvalidValueError(message)
    return number


def rank_of(coverage: float, count: int) -> int:
    """Return the rank of the quantile among `count` scores in increasing order.

    It is the ceiling of coverage (count + 1). A rank above `count` means that there are
    too few scores.

    Examples
    --------
    >>> rank_of(0.9, 9), rank_of(0.9, 8), rank_of(0.9, 99)
    (9, 9, 90)
    """
    return math.ceil(coverage * (count + 1) - 1e-9)
