"""How a stored run read its table, checked before new rows are read in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from descents.storage.damage import check_facts
from descents.tables.numerals import restored


class InheritedFacts(TypedDict, total=False):
    """The options for reading a table that new rows inherit."""

    missing: list[str]
    delimiter: str | None
    encoding: str | None
    decimal: str | None
    identifier: str | None


class FormatFacts(TypedDict):
    """The result of `Table.formats`."""

    decimal: str
    columns: dict[str, dict[str, object]]
    numbers: NotRequired[list[str]]
    delimiter: NotRequired[str | None]


def check_reading(before: Mapping[str, object], formats: object) -> None:
    """Raise an error if the stored options for reading a table are damaged.

    Parameters
    ----------
    before : mapping
        The options.
    formats : mapping or None
        The result of `Table.formats`.

    Raises
    ------
    LookupError, TypeError or ValueError

    Examples
    --------
    >>> check_reading({"missing": ["?"]}, None)
    >>> check_reading({"delimiter": 1}, None)
    Traceback (most recent call last):
    ...
    TypeError: its reading, 'delimiter' is not of the type str or NoneType
    """
    check_facts(InheritedFacts, before, "its reading")
    if isinstance(formats, Mapping):
        for written in formats["columns"].values():
            restored(written)
    check_facts(FormatFacts | None, formats, "its formats")
