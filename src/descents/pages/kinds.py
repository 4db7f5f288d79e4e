"""What the page of a command consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic

from descents.pages.answers import Answer
from descents.pages.figures import Picture, R, Stored
from descents.pages.starts import StartsTable
from descents.storage.results import Result


def present(run: Stored[R], need: str) -> bool:
    """Return whether a run has a tensor, or a field of its result that is not empty."""
    return need in run.tensors or bool(getattr(run.result, need, None))


def nothing(run: Stored[R]) -> dict[str, object]:
    """Return nothing that a template needs besides the result."""
    return {}


def no_starts(run: Stored[R]) -> StartsTable | None:
    """Return no table of starts."""
    return None


@dataclass(frozen=True)
class Kind(Generic[R]):
    """The page of a command; its template has the name of the command.

    Attributes
    ----------
    result : type
        The dataclass of the result.
    pictures : mapping of str to Picture
    answer : callable
        What the page says first.
    starts : callable
        The table of the starts, or None.
    facts : callable
        What the template needs besides the result.
    has : callable
        Whether a run has what a picture needs.
    files : tuple of str
        The pictures that are also written as PNG and SVG files.
    result_type : callable or None
        The class of a stored result, if a command has several.
    """

    result: type[Result]
    pictures: Mapping[str, Picture[R]]
    answer: Callable[[Stored[R]], Answer]
    starts: Callable[[Stored[R]], StartsTable | None] = no_starts
    facts: Callable[[Stored[R]], dict[str, object]] = nothing
    has: Callable[[Stored[R], str], bool] = present
    files: tuple[str, ...] = ()
    result_type: Callable[[Mapping[str, object]], type[Result]] | None = None

    def type_of(self, stored: Mapping[str, object]) -> type[Result]:
        """Return the class of a stored result."""
        return self.result if self.result_type is None else self.result_type(stored)
