"""The names of rows: numbers, or the cells of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import overload

from descents.tables.frames import short
from descents.text import counted


class Numbered(Sequence[str]):
    """The names of rows that are numbered from 1; they are computed when requested.

    Examples
    --------
    >>> names = Numbered(1000)
    >>> len(names), names[0], list(names[998:])
    (1000, '1', ['999', '1000'])
    """

    def __init__(self, rows: int) -> None:
        self._places = range(1, rows + 1)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [str(k) for k in self._places[place]]
        return str(self._places[place])

    def __len__(self) -> int:
        return len(self._places)


def notes_on(identifier: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return a note if rows have no name, or share one."""
    counts = Counter(names)
    blank = counts.pop("", 0)
    shared = sum(count > 1 for count in counts.values())
    says = [f"{counted(blank, 'row')} without a name"] if blank else []
    if shared:
        says.append(f"{counted(shared, 'name')} of several rows each")
    return (f"{short(identifier)} (--id): {', '.join(says)}",) if says else ()
