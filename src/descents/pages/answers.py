"""What a page says first: an answer in a sentence and tiles, alerts, and a quotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A number of the answer, and what it is.

    Attributes
    ----------
    value : str
    says : str
        What the number is, over what, and how sure it is.
    """

    value: str
    says: str


@dataclass(frozen=True)
class Alert:
    """A sentence that a reader must not miss, and the section that explains it."""

    says: str
    section: str
    link: str


@dataclass(frozen=True)
class Answer:
    """The first screen of a page.

    Attributes
    ----------
    title : str
    sentence : str
        The answer, with its number, what it is over and how sure it is.
    tiles : sequence of Tile
    alerts : sequence of Alert
    sections : mapping of str to str
        The heading of each section by its name, in their order.
    command : str
        The command that repeats the run.
    """

    title: str
    sentence: str
    tiles: Sequence[Tile]
    alerts: Sequence[Alert]
    sections: Mapping[str, str]
    command: str = ""
