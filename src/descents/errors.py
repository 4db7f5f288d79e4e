"""Errors, and how all problems of one call are reported together."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar, cast

from descents.text import visible

P = ParamSpec("P")
T = TypeVar("T")


class DescentsError(Exception):
    """Base class of all errors that this package raises on purpose."""

    def __str__(self) -> str:
        """Return the message, with control characters from a user's file escaped."""
        return visible(super().__str__())


class InvalidValueError(DescentsError, ValueError):
    """A value from the caller cannot be used; the message says what to do."""

    problems: tuple[str, ...] = ()
    """The messages that were joined, if there are several."""


class RunFolderError(DescentsError, OSError):
    """A run folder cannot be written, or contains something else."""


class DrawingError(RunFolderError):
    """The page of a run could not be drawn; everything else of the run is there."""


class InterruptedRunError(DescentsError):
    """A study was interrupted; finished parts are kept, so that it can be resumed."""


class LostProcessError(DescentsError):
    """A worker process was killed; chunks that finished before are kept in a store."""


_MEMORY = (
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "failed to map segment",
    "malloc of size",
    "not enough memory",
    "out of memory",
    "resource temporarily unavailable",
)
"""What libraries write in errors of other types when they get no memory, or no thread."""


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that there is no more memory, or no more threads.

    Libraries raise errors of many types then.

    Examples
    --------
    >>> ran_out(OSError("Failed to launch worker thread: Resource temporarily unavailable"))
    True
    >>> ran_out(ValueError("out of memory is a title of a film"))
    False
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).casefold()
    general = isinstance(error, RuntimeError | ImportError | OSError | SystemError)
    return general and any(words in text for words in _MEMORY)


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
    descents.errors.InvalidValueError: rank is 0; give a whole number of at least 1
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def require(self, holds: bool, message: str) -> None:
        """Add `message` unless the condition holds."""
        if not holds:
            self.messages.append(message)

    def attempt(
        self, check: Callable[P, T], *arguments: P.args, **options: P.kwargs
    ) -> T:
        """Return ``check(*arguments)``, or add its error message and return None.

        The type does not say that the result may be None, because `raise_any` raises
        then. Before that, a caller compares the result with None.
        """
        try:
            return check(*arguments, **options)
        except InvalidValueError as error:
            self.messages += error.problems or (str(error),)
            return cast("T", None)

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
        error = InvalidValueError("; ".join(parts))
        error.problems = tuple(self.messages)
        raise error


_BY_COMMAND: ContextVar[bool] = ContextVar("by_command", default=False)


@contextmanager
def by_command() -> Iterator[None]:
    """Let messages name command-line options instead of Python parameters."""
    token = _BY_COMMAND.set(True)
    try:
        yield
    finally:
        _BY_COMMAND.reset(token)


_NAMES: ContextVar[dict[str, str] | None] = ContextVar("names", default=None)


@contextmanager
def called(**names: str) -> Iterator[None]:
    """Let messages name arguments by the words of the caller.

    Parameters
    ----------
    **names
        What the caller calls each argument.
    """
    token = _NAMES.set({**(_NAMES.get() or {}), **names})
    try:
        yield
    finally:
        _NAMES.reset(token)


def name_of(argument: str) -> str:
    """Return what the caller calls an argument.

    Examples
    --------
    >>> with called(row_weights="sample_weight"):
    ...     print(name_of("row_weights"), name_of("splits"))
    sample_weight splits
    """
    return (_NAMES.get() or {}).get(argument, argument)


def for_caller(command: str, python: str) -> str:
    """Return the wording for users of the command line, or for users of Python.

    Examples
    --------
    >>> for_caller("--ignore COLUMN", "ignore=[...]")
    'ignore=[...]'
    """
    return command if _BY_COMMAND.get() else python
