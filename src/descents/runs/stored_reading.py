"""How a stored run read its table, checked before new rows are read in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict, cast

from descents.storage.damage import check_facts
from descents.tables.numerals import restored

MOST_PLACES = 400
"""The largest number of decimals of a written number."""


class InheritedFacts(TypedDict, total=False):
    """The options for reading a table that new rows inherit."""

    missing: list[str]
    delimiter: str | None
    encoding: str | None
    decimal: str | None
    identifier: str | None


class WrittenFacts(TypedDict, total=False):
    """How one column writes numbers, or its levels with open ends."""

    decimal: Literal[".", ","]
    thousands: str
    before: str
    after: str
    brackets: bool
    minus: bool
    mark: str
    positive: str
    negative: str
    lakhs: bool
    places: int | None
    levels: list[str]


class FormatFacts(TypedDict):
    """The result of `Table.formats`."""

    decimal: Literal[".", ","]
    columns: dict[str, WrittenFacts]
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
    if formats is None:
        return
    check_facts(FormatFacts, formats, "its formats")
    for written in cast("FormatFacts", formats)["columns"].values():
        restored(written)
        places = written.get("places") or 0
        if not 0 <= places <= MOST_PLACES:
            raise ValueError(f"its formats have numbers of {places} decimals")
