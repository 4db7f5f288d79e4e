"""Damage of stored files: found when they are opened, and reported in a sentence."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NotRequired, Required

from descents.errors import DescentsError, RunFolderError


@contextmanager
def undamaged(place: str | Path) -> Iterator[None]:
    """Report errors while a stored run is opened or used as damage of the run.

    A file that was damaged, or edited, can make any later step fail, and in any way.

    Parameters
    ----------
    place : path
        The folder or the file, for the message.

    Raises
    ------
    RunFolderError
        If the block raises an error that is not one of this package, of the system, or of
        the memory. Its cause is that error.

    Examples
    --------
    >>> with undamaged("runs/a"):
    ...     {}["losses"]
    Traceback (most recent call last):
    ...
    descents.errors.RunFolderError: runs/a is damaged, contains files of different runs, or
    was written by another version of descents (KeyError: 'losses'); run the command again,
    with a new folder
    """
    try:
        yield
    except (DescentsError, OSError, MemoryError):
        raise
    except Exception as error:
        raise RunFolderError(
            f"{place} is damaged, contains files of different runs, or was written by "
            f"another version of descents ({brief(error)}); run the command again, with "
            "a new folder"
        ) from error


def brief(error: BaseException) -> str:
    """Return an error as a few words: its type, and the first line of its message.

    Examples
    --------
    >>> brief(KeyError("a")), brief(ValueError())
    ("KeyError: 'a'", 'ValueError')
    """
    lines = str(error).splitlines()
    text = f": {lines[0][:120]}" if lines else ""
    return f"{type(error).__name__}{text}"


def check_distinct(names: Iterable[str]) -> None:
    """Raise a ValueError if a name of a stored column occurs twice.

    Examples
    --------
    >>> check_distinct(["a", "b", "a"])
    Traceback (most recent call last):
    ...
    ValueError: two columns have the name 'a'
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two columns have the name {name!r}")
        seen.add(name)


def check_facts(kind: object, value: object, name: str = "its content") -> None:
    """Raise an error if a value from JSON is not as a type hint says.

    Parameters
    ----------
    kind : type hint
        Of plain values, lists, tuples and dictionaries, or a TypedDict. A float may be a
        whole number, or null, which NaN is in JSON. Other types are not checked.
    value : object
    name : str
        What the value is, for the message.

    Raises
    ------
    TypeError
        If a part has another type, or a key of a TypedDict is missing.

    Examples
    --------
    >>> check_facts(dict[str, list[float | None]], {"a": [1, None, 0.5]})
    >>> check_facts(dict[str, list[int]], {"a": [1, "x"]}, "settings")
    Traceback (most recent call last):
    ...
    TypeError: settings, 'a', 1 is not of the type int
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Required, NotRequired):
        check_facts(inner[0], value, name)
    elif origin in (types.UnionType, typing.Union):
        _check_either(inner, value, name)
    elif origin is Literal:
        _require(value in inner, name, str(inner))
    elif typing.is_typeddict(kind):
        _check_keys(kind, value, name)
    elif origin in (list, dict, tuple):
        _check_items(origin, inner, value, name)
    elif kind is float:
        number = isinstance(value, int | float | None) and not isinstance(value, bool)
        _require(number, name, "float")
    elif kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        _require(whole and value in range(-(2**63), 2**63), name, "int")
    elif kind in (str, bool, types.NoneType):
        assert isinstance(kind, type)  # noqa: S101
        _require(isinstance(value, kind), name, kind.__name__)


def _require(holds: bool, name: str, kind: str) -> None:
    if not holds:
        raise TypeError(f"{name} is not of the type {kind}")


def _check_either(kinds: tuple[object, ...], value: object, name: str) -> None:
    """Raise an error if a value has none of several types."""
    for kind in kinds:
        try:
            check_facts(kind, value, name)
        except TypeError:
            continue
        return
    names = [getattr(kind, "__name__", str(kind)) for kind in kinds]
    raise TypeError(f"{name} is not of the type {' or '.join(names)}")


def _check_keys(kind: object, value: object, name: str) -> None:
    """Raise an error if a value does not have the keys of a TypedDict."""
    _require(isinstance(value, Mapping), name, "object")
    assert isinstance(value, Mapping)  # noqa: S101
    optional = not getattr(kind, "__total__", True)
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        if key in value:
            check_facts(hint, value[key], f"{name}, {key!r}")
        elif not optional and typing.get_origin(hint) is not NotRequired:
            raise TypeError(f"{name} lacks {key!r}")


def _check_items(
    origin: object, inner: tuple[object, ...], value: object, name: str
) -> None:
    """Raise an error if a value is not a list or dictionary of items of a type."""
    if origin is dict:
        _require(isinstance(value, Mapping), name, "object")
        assert isinstance(value, Mapping)  # noqa: S101
        for key, item in value.items():
            check_facts(inner[1], item, f"{name}, {key!r}")
        return
    _require(isinstance(value, list | tuple), name, "list")
    assert isinstance(value, list | tuple)  # noqa: S101
    kinds: tuple[object, ...] = (inner[0],) * len(value)
    if origin is tuple and inner[-1] is not Ellipsis:
        _require(len(value) == len(inner), name, f"list of {len(inner)}")
        kinds = inner
    for place, (one, item) in enumerate(zip(kinds, value, strict=True)):
        check_facts(one, item, f"{name}, {place}")
