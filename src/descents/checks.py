"""Errors, and the conversions that turn what a caller gives into clean values.

Everything is checked once, at the door: the modules below assume clean input.
This module imports numpy alone, so that a wrong option never waits for torch.
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
"""More starts than this are taken for a slip."""


_HIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    r"""Return a text with its control characters written out; line ends stay.

    A terminal obeys control characters, and those that turn the direction of writing
    make a text look like another: neither may reach it from a file.

    Examples
    --------
    >>> visible("a\x1b[2Jb\n")
    'a\\x1b[2Jb\n'
    """
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)


class DescentsError(Exception):
    """Base class of every error that this package raises on purpose."""

    def __str__(self) -> str:
        """Return the message, which may name what is in a file, for a terminal."""
        return visible(super().__str__())


class InvalidValueError(DescentsError, ValueError):
    """A value that the caller gave cannot be used; the message says what to do."""


class RunFolderError(DescentsError, OSError):
    """A run folder cannot be written, or holds something else."""


class InterruptedRunError(DescentsError):
    """A study ended before its time; what was finished is kept for a resume."""


class LostProcessError(DescentsError):
    """A process that descended was killed; chunks finished before are kept in a store."""


MOST_TOLD = 6
"""How many problems with one remedy are told of a call."""


class Complaints:
    """Collects the problems of one call, so that all are told together.

    Examples
    --------
    >>> complaints = Complaints()
    >>> complaints.require(0 > 1, "rank is 0; give a whole number of at least 1")
    >>> complaints.require(1 > 0, "never told")
    >>> complaints.raise_any()
    Traceback (most recent call last):
    ...
    descents.checks.InvalidValueError: rank is 0; give a whole number of at least 1
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def require(self, holds: bool, message: str) -> None:
        """Note `message` unless the condition holds."""
        if not holds:
            self.messages.append(message)

    def attempt(self, check: Any, *arguments: Any, **options: Any) -> Any:
        """Return ``check(*arguments)``, or note its complaint and return None."""
        try:
            return check(*arguments, **options)
        except InvalidValueError as error:
            self.messages.append(str(error))
            return None

    def table_and_rank(self, name: str, table: Any, rank: Any) -> tuple[Any, Any]:
        """Return a complete table and a rank that fits it, or note what is wrong."""
        array = self.attempt(finite_matrix, name, table)
        most = None if array is None else min(array.shape)
        return array, self.attempt(whole_number, "rank", rank, 1, most)

    def raise_any(self) -> None:
        """Raise one error with every message; a remedy that many share is said once."""
        if not self.messages:
            return
        groups: dict[str, list[str]] = {}
        for message in self.messages:
            problem, _, remedy = message.rpartition("; ")
            groups.setdefault(remedy if problem else message, []).append(problem)
        parts = []
        for remedy, problems in groups.items():
            shown = [problem for problem in dict.fromkeys(problems) if problem]
            if len(shown) > MOST_TOLD:
                more = len(shown) - MOST_TOLD
                shown = [*shown[:MOST_TOLD], f"and {more} more like these"]
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
        When it is not a whole number or lies outside.

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
        When it is not a finite number or lies outside.

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
        When it is not; the message lists the choices.

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
    """Return a seed: a whole number of at least 0, of any size.

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
        A count S stands for 0, ..., S - 1; otherwise the numbers themselves,
        each at least 0 and given once.

    Raises
    ------
    InvalidValueError
        When there are none, or one is negative, repeated or not whole.

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
    """Return a complete table as a float32 or float64 array of shape (rows, columns).

    float32 and float64 are kept, everything else becomes float64. With `holes`, NaN may
    stand where a cell is missing.

    Raises
    ------
    InvalidValueError
        When it is not a two-dimensional table of finite real numbers.

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
            f"{name} does not hold real numbers only ({error}); give a table of numbers"
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
            f"{name} holds {len(bad)} {'' if holes else 'NaN or '}infinite cell{'s' * (len(bad) != 1)}, the first at row {row}, "
            f"column {column} (0-based); give finite numbers"
        )
    return array


def class_labels(name: str, value: Any, rows: int) -> np.ndarray:
    """Return class numbers 0, 1, ... as int64 of shape (rows,).

    Raises
    ------
    InvalidValueError
        When they are not whole numbers from 0 on, one for each row, two classes
        at least.

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
        raise InvalidValueError(f"{name} holds one class only; give two at least")
    return labels.astype(np.int64)


_BY_COMMAND: ContextVar[bool] = ContextVar("by_command", default=False)


@contextmanager
def by_command() -> Iterator[None]:
    """Let messages name the options of commands, not the parameters of Python."""
    token = _BY_COMMAND.set(True)
    try:
        yield
    finally:
        _BY_COMMAND.reset(token)


def for_caller(command: str, python: str) -> str:
    """Return what a message says to a user of the commands, or of Python.

    Examples
    --------
    >>> for_caller("--ignore COLUMN", "ignore=[...]")
    'ignore=[...]'
    """
    return command if _BY_COMMAND.get() else python


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a number of things in words.

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
        When the name is unknown or the device is absent.

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
        # torch names every kind of device where it does not know this one.
        reason, unknown, _ = str(error).splitlines()[0].partition("Expected one of")
        reason = "torch knows no such kind" if unknown else reason
        raise InvalidValueError(
            f"device is {str(value)!r}, which is not usable here ({reason}); "
            "give 'cpu' or a device that this machine has"
        ) from None
    return device


def remote(device: torch.device) -> bool:
    """Return whether to read a number of a device is to wait for all it was told.

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
    """Return a number, or several, as a tensor that is never written to.

    Examples
    --------
    >>> import torch
    >>> constant(0.5, torch.float64, torch.device("cpu"))
    tensor(0.5000, dtype=torch.float64)
    """
    import torch

    with torch.inference_mode(False):  # it outlives the caller's
        return torch.tensor(value, dtype=dtype, device=device)


def torch_dtype(dtype: torch.dtype | None, data: np.ndarray) -> torch.dtype:
    """Return the working precision: the one asked for, or that of the data.

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
    """Return `value` as a path, `~` expanded."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise InvalidValueError(f"{value} is no path ({error}); give another") from None
    except TypeError:
        raise InvalidValueError(
            f"a {type(value).__name__} is no path; give the path of a folder or a file"
        ) from None
