"""Errors, and functions that check and convert the values that a caller passes.

Values are checked once, where they enter the package: other modules assume clean input.
This module imports only numpy, so that a wrong option is reported before torch is loaded.
"""

from __future__ import annotations

import functools
import math
import operator
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


MOST_STARTS = 10**6
"""Upper limit on the number of starts; a larger number is taken for a typing error."""


_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    r"""Return a text with its control characters escaped, except for line ends.

    A terminal executes control characters, and those that change the direction of
    writing make one text look like another. Neither may reach a terminal from a file.

    Examples
    --------
    >>> visible("a\x1b[2Jb\n")
    'a\\x1b[2Jb\n'
    """
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


class DescentsError(Exception):
    """Base class of all errors that this package raises on purpose."""

    def __str__(self) -> str:
        """Return the message, with control characters from a user's file escaped."""
        return visible(super().__str__())


class InvalidValueError(DescentsError, ValueError):
    """A value from the caller cannot be used; the message says what to do."""


class RunFolderError(DescentsError, OSError):
    """A run folder cannot be written, or contains something else."""


class InterruptedRunError(DescentsError):
    """A study was interrupted; finished parts are kept, so that it can be resumed."""


class LostProcessError(DescentsError):
    """A worker process was killed; chunks that finished before are kept in a store."""


MOST_LISTED = 6
"""How many problems with the same remedy an error message lists at most."""


class Complaints:
    """Collects the problems of one call, so that one error reports them together.

    Examples
    --------
    >>> complaints = Complaints()
    >>> complaints.require(0 > 1, "rank is 0; give a whole number of at least 1")
    >>> complaints.require(1 > 0, "never reported")
    >>> complaints.raise_any()
    Traceback (most recent call last):
    ...
    descents.checks.InvalidValueError: rank is 0; give a whole number of at least 1
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def require(self, holds: bool, message: str) -> None:
        """Add `message` unless the condition holds."""
        if not holds:
            self.messages.append(message)

    def attempt(self, check: Any, *arguments: Any, **options: Any) -> Any:
        """Return ``check(*arguments)``, or add its error message and return None."""
        try:
            return check(*arguments, **options)
        except InvalidValueError as error:
            self.messages.append(str(error))
            return None

    def table_and_rank(self, name: str, table: Any, rank: Any) -> tuple[Any, Any]:
        """Return a complete table and a rank that fits it, or add what is wrong."""
        array = self.attempt(finite_matrix, name, table)
        most = None if array is None else min(array.shape)
        return array, self.attempt(whole_number, "rank", rank, 1, most)

    def raise_any(self) -> None:
        """Raise one error with all messages; a remedy that several share is given once."""
        if not self.messages:
            return
        groups: dict[str, list[str]] = {}
        for message in self.messages:
            problem, _, remedy = message.rpartition("; ")
            groups.setdefault(remedy if problem else message, []).append(problem)
        parts = []
        for remedy, problems in groups.items():
            shown = [problem for problem in dict.fromkeys(problems) if problem]
            if len(shown) > MOST_LISTED:
                more = len(shown) - MOST_LISTED
                shown = [*shown[:MOST_LISTED], f"and {more} more like these"]
            parts.append("; ".join([*shown, remedy]))
        raise InvalidValueError("; ".join(parts))


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def whole_number(
    name: str, value: Any, minimum: int, maximum: int | None = None
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
    wanted = f"a whole number of at least {minimum}"
    if maximum is not None:
        wanted = f"a whole number from {minimum} to {maximum}"
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}") from None
    if isinstance(value, bool | np.bool_) or number < minimum:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}")
    if maximum is not None and number > maximum:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}")
    return number


def real_number(
    name: str, value: Any, minimum: float = -math.inf, *, strict: bool = False
) -> float:
    """Return `value` as a finite float, at least (or, if `strict`, above) `minimum`.

    Raises
    ------
    InvalidValueError
        If it is not a finite number or is too small.

    Examples
    --------
    >>> real_number("tolerance", 0, minimum=0)
    0.0
    """
    wanted = "a finite number"
    if minimum > -math.inf:
        wanted += f" {'above' if strict else 'of at least'} {minimum:g}"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}") from None
    low = number <= minimum if strict else number < minimum
    if not math.isfinite(number) or low:
        raise InvalidValueError(f"{name} is {value!r}; give {wanted}")
    return number


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
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
        raise InvalidValueError(f"{name} is {value!r}; give one of {listed}")
    return value


def seed_number(value: Any) -> int:
    """Return a seed: a whole number of at least 0, without an upper limit.

    Examples
    --------
    >>> seed_number(5 + 2**40)
    1099511627781
    """
    return whole_number("seed", value, 0)


def start_numbers(value: Any) -> np.ndarray:
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


def finite_matrix(name: str, value: Any, *, holes: bool = False) -> np.ndarray:
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
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a device
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
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


def class_labels(name: str, value: Any, rows: int) -> np.ndarray:
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
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    labels = np.asarray(value)
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


_BY_COMMAND: ContextVar[bool] = ContextVar("by_command", default=False)


@contextmanager
def by_command() -> Iterator[None]:
    """Let messages name command-line options instead of Python parameters."""
    token = _BY_COMMAND.set(True)
    try:
        yield
    finally:
        _BY_COMMAND.reset(token)


def for_caller(command: str, python: str) -> str:
    """Return the wording for users of the command line, or for users of Python.

    Examples
    --------
    >>> for_caller("--ignore COLUMN", "ignore=[...]")
    'ignore=[...]'
    """
    return command if _BY_COMMAND.get() else python


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a count followed by its noun, in the singular or the plural.

    Examples
    --------
    >>> counted(1, "start"), counted(2, "start"), counted(0, "class", "classes")
    ('1 start', '2 starts', '0 classes')
    """
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def torch_device(value: str | torch.device) -> torch.device:
    """Return a torch device that is present on this machine.

    Raises
    ------
    InvalidValueError
        If the name is unknown or the device is absent.

    Examples
    --------
    >>> torch_device("cpu")
    device(type='cpu')
    """
    import torch

    try:
        device = torch.device(value)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # If torch does not know the type of device, its message lists all types.
        reason, unknown, _ = str(error).splitlines()[0].partition("Expected one of")
        reason = "torch has no such type of device" if unknown else reason
        raise InvalidValueError(
            f"device is {str(value)!r}, which is not usable here ({reason}); "
            "give 'cpu' or a device that this machine has"
        ) from None
    return device


def remote(device: torch.device) -> bool:
    """Return whether reading a number from a device waits for all its queued work.

    Examples
    --------
    >>> import torch
    >>> remote(torch.device("cpu"))
    False
    """
    return device.type != "cpu"


@functools.lru_cache(maxsize=4096)
def constant(
    value: float | tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Return a number, or several, as a shared tensor, which must not be modified.

    Examples
    --------
    >>> import torch
    >>> constant(0.5, torch.float64, torch.device("cpu"))
    tensor(0.5000, dtype=torch.float64)
    """
    import torch

    with torch.inference_mode(False):  # the tensor outlives the caller's context
        return torch.tensor(value, dtype=dtype, device=device)


def torch_dtype(dtype: torch.dtype | None, data: np.ndarray) -> torch.dtype:
    """Return the working precision: the requested one, or that of the data.

    Examples
    --------
    >>> import torch
    >>> torch_dtype(None, np.zeros(1, dtype=np.float32))
    torch.float32
    """
    import torch

    if dtype is None:
        return torch.float64 if data.dtype == np.float64 else torch.float32
    if dtype not in (torch.float32, torch.float64):
        raise InvalidValueError(
            f"dtype is {dtype}; give torch.float32 or torch.float64"
        )
    return dtype


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
