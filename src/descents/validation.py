"""Conversions that turn what a caller gives into clean values, or refuse it."""

from __future__ import annotations

import contextlib
import errno
import math
import operator
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import SupportsFloat, SupportsIndex, cast

import numpy as np

from descents.errors import Complaints, InvalidValueError, name_of

MOST_STARTS = 10**6
"""Upper limit on the number of starts; a larger number is taken for a typing error."""


def whole_number(
    name: str, value: object, minimum: int, maximum: int | None = None
) -> int:
    """Return `value` as an int in [`minimum`, `maximum`].

    Raises
    ------
    InvalidValueError
        If it is not a whole number or lies outside of this range.

    Examples
    --------
    >>> whole_number("rank", np.int64(2), 1)
    2
    """
    name, wanted = name_of(name), f"a whole number of at least {minimum}"
    if maximum is not None:
        wanted = f"a whole number from {minimum} to {maximum}"
    try:
        number = operator.index(cast("SupportsIndex", value))
    except TypeError:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}") from None
    if isinstance(value, bool | np.bool_) or number < minimum:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}")
    if maximum is not None and number > maximum:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}")
    return number


def real_number(
    name: str, value: object, minimum: float = -math.inf, *, strict: bool = False
) -> float:
    """Return `value` as a finite float, at least (or, if `strict`, above) `minimum`.

    Raises
    ------
    InvalidValueError
        If it is not a finite number or is too small. Text and truth values are refused.

    Examples
    --------
    >>> real_number("tolerance", 0, minimum=0)
    0.0
    """
    name, wanted = name_of(name), "a finite number"
    if minimum > -math.inf:
        wanted += f" {'above' if strict else 'of at least'} {minimum:g}"
    try:
        refused = isinstance(value, str | bytes | bool | np.bool_)
        if refused or getattr(value, "ndim", None):
            raise TypeError
        number = float(cast("SupportsFloat", value))
    except (TypeError, ValueError, OverflowError):
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}") from None
    low = number <= minimum if strict else number < minimum
    if not math.isfinite(number) or low:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}")
    return number


def number_in(text: str) -> float | str:
    """Return the number that a text is, or the text itself, which `real_number` refuses.

    Examples
    --------
    >>> number_in("0.5"), number_in("2"), number_in("half")
    (0.5, 2, 'half')
    """
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def true_or_false(name: str, value: object) -> bool:
    """Return `value` as a bool.

    Raises
    ------
    InvalidValueError
        If it is not True or False, of Python or numpy.

    Examples
    --------
    >>> true_or_false("refine", np.True_)
    True
    """
    if not isinstance(value, bool | np.bool_):
        raise InvalidValueError(f"{name_of(name)} is {value!r}; give True or False")
    return bool(value)


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises
    ------
    InvalidValueError
        If it is not; the message lists the choices.

    Examples
    --------
    >>> one_of("loss", "sum", ["sum", "mean"])
    'sum'
    """
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidValueError(f"{name_of(name)} is {value!r}; give one of {listed}")
    return value


def seed_number(value: object) -> int:
    """Return a seed: a whole number of at least 0, without an upper limit.

    Examples
    --------
    >>> seed_number(5 + 2**40)
    1099511627781
    """
    return whole_number("seed", value, 0)


def start_numbers(value: object) -> np.ndarray:
    """Return the numbers of the starts, int64 of shape (S,), S at least 1.

    Parameters
    ----------
    value : int or iterable of int
        A count S means the starts 0, ..., S - 1. An iterable lists the numbers
        themselves, each at least 0 and without repetition.

    Raises
    ------
    InvalidValueError
        If there are none, or one is negative, repeated or not whole.

    Examples
    --------
    >>> start_numbers(3)
    array([0, 1, 2])
    >>> start_numbers([7, 2])
    array([7, 2])
    """
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        numbers = [whole_number("a start", start, 0, 2**63 - 1) for start in value]
        if not numbers:
            raise InvalidValueError("starts is empty; give at least one start")
        if len(set(numbers)) < len(numbers):
            raise InvalidValueError("starts names a start twice; give each once")
        return np.array(numbers, dtype=np.int64)
    return np.arange(whole_number("starts", value, 1, MOST_STARTS), dtype=np.int64)


def from_torch(value: object) -> object:
    """Return a torch tensor, perhaps on a device, as an array; other values as they are.

    Examples
    --------
    >>> from_torch([1.0])
    [1.0]
    """
    detach = getattr(value, "detach", None)
    return value if detach is None else detach().cpu().numpy()


def finite_matrix(name: str, value: object, *, holes: bool = False) -> np.ndarray:
    """Return a table as a float32 or float64 array of shape (rows, columns).

    float32 and float64 are kept; all other types are converted to float64. With `holes`,
    NaN is allowed and marks a missing cell.

    Raises
    ------
    InvalidValueError
        If it is not a two-dimensional table of finite real numbers.

    Examples
    --------
    >>> finite_matrix("table", [[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]])
    """
    try:
        array = np.asarray(from_torch(value))
        if np.iscomplexobj(array):
            raise TypeError("complex numbers")
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float64)
        if any(stride < 0 for stride in array.strides):
            array = array.copy()  # torch has no negative strides
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"{name} must contain only real numbers ({error}); give a table of numbers"
        ) from None
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidValueError(
            f"{name} has shape {array.shape}; give a table of at least one row "
            "and one column"
        )
    wrong = np.isinf(array) if holes else ~np.isfinite(array)
    if wrong.any():
        bad = np.argwhere(wrong)
        row, column = bad[0]
        raise InvalidValueError(
            f"{name} has {len(bad)} {'' if holes else 'NaN or '}infinite "
            f"cell{'s' * (len(bad) != 1)}, the first at row {row}, column {column} "
            "(0-based); give finite numbers"
        )
    return array


def class_labels(name: str, value: object, rows: int) -> np.ndarray:
    """Return class numbers 0, 1, ... as int64 of shape (rows,).

    Raises
    ------
    InvalidValueError
        If they are not whole numbers of at least 0, one for each row, with at least
        two classes.

    Examples
    --------
    >>> class_labels("y", [0, 2, 1], rows=3)
    array([0, 2, 1])
    """
    labels = np.asarray(from_torch(value))
    if labels.shape != (rows,):
        raise InvalidValueError(
            f"{name} has shape {labels.shape}; give one class for each of the "
            f"{rows} rows"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InvalidValueError(
            f"{name} has {labels.dtype} values; give class numbers 0, 1, 2, ..."
        )
    if labels.max() < 1:
        raise InvalidValueError(f"{name} has only one class; give at least two")
    return labels.astype(np.int64)


def check_file(where: str, path: Path) -> None:
    """Raise an error if a path is not that of a file that can be looked up.

    Parameters
    ----------
    where : str
        The path in the words of the caller.
    path : Path

    Raises
    ------
    InvalidValueError

    Examples
    --------
    >>> check_file("nowhere.csv", Path("nowhere.csv"))
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: there is no file nowhere.csv; check its name
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        numbers = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
        if not isinstance(error, OSError) or error.errno in numbers:
            raise InvalidValueError(
                f"there is no file {where}; check its name"
            ) from None
        raise InvalidValueError(
            f"{where} cannot be read ({error.strerror}); give a file that can"
        ) from None
    if is_folder:
        raise InvalidValueError(f"{where} is a folder; give a file")


def folder_path(value: str | Path) -> Path:
    """Return `value` as a path, with `~` expanded."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise InvalidValueError(
            f"{value} is not a path ({error}); give another"
        ) from None
    except TypeError:
        raise InvalidValueError(
            f"a {type(value).__name__} is not a path; give the path of a folder or a file"
        ) from None


def table_and_rank(
    complaints: Complaints, name: str, table: object, rank: object
) -> tuple[np.ndarray, int]:
    """Return a complete table and a rank that fits it, or note what is wrong."""
    array = complaints.attempt(finite_matrix, name, table)
    most = None if array is None else min(array.shape)
    return array, complaints.attempt(whole_number, "rank", rank, 1, most)


def is_special(path: Path) -> bool:
    """Return whether a path is a device, a pipe or a socket.

    Examples
    --------
    >>> is_special(Path("/dev/null")), is_special(Path("absent"))
    (True, False)
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
