"""Levels of a table that a model was not fitted with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.tables.frames import short
from descents.tables.levels import KnownLevels, coded
from descents.tables.spelling import listed, text_of
from descents.tables.tables import Table


@dataclass(frozen=True)
class Unseen:
    """Levels of a column that a model was not fitted with.

    Attributes
    ----------
    column : str
    cells : dict
        The number of cells of each such level.
    known : tuple
        The levels of the model.
    verb : {"fitted", "trained"}
    never : tuple
        Levels that a category declared in the table of the fit, but that no cell had.
    """

    column: str
    cells: Mapping[object, int]
    known: tuple[object, ...]
    verb: str = "fitted"
    never: tuple[object, ...] = ()

    @property
    def says(self) -> str:
        """A clause that names the levels and the number of their cells."""
        count = sum(self.cells.values())
        where = f" in {count} cells" if count > 1 else ""
        never = set(map(text_of, self.never))
        declared = [level for level in self.cells if text_of(level) in never]
        why = ""
        if declared:
            verb = "were" if len(declared) > 1 else "was"
            why = (
                f"; {listed(declared)} {verb} declared as a category there, but never "
                "observed"
            )
        return (
            f"column {short(self.column)!r} holds {listed(self.cells)}{where}, which the "
            f"model was not {self.verb} with (it knows {listed(self.known)}{why})"
        )

    def error(self, remedy: str) -> InvalidValueError:
        """Return the error for these levels."""
        return InvalidValueError(f"{self.says}; {remedy}")


def known_only(
    table: Table, known: Mapping[str, KnownLevels], remedy: str | None
) -> tuple[Table, tuple[Unseen, ...]]:
    """Return a table in which cells with unknown levels are missing, and these levels.

    Parameters
    ----------
    table : Table
    known : mapping from names of columns to KnownLevels
        Columns that the table lacks are ignored.
    remedy : str, optional
        Raise an error with this remedy for unknown levels. By default they become missing.

    Raises
    ------
    InvalidValueError
        If there are unknown levels and a `remedy`, with all columns in one message.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> table = from_frame(pyarrow.table({"a": ["x", "y", "x", None]}))
    >>> less, unseen = known_only(table, {"a": KnownLevels(("x",))}, None)
    >>> less.column("a").values, dict(unseen[0].cells)
    (array([ 0., nan,  0., nan]), {'y': 1})
    """
    complaints, unknown, parts = Complaints(), [], []
    for column in table.columns:
        levels = known.get(column.name)
        if levels is not None and levels.levels and column.kind != "empty":
            codes, unseen = coded(column, levels)
            if unseen:
                unknown.append(
                    Unseen(column.name, unseen, levels.levels, never=levels.never)
                )
                values = np.where(np.isnan(codes), np.nan, column.values)
                parts.append(replace(column, values=values))
                continue
        parts.append(column)
    if remedy is not None:
        for levels_of_column in unknown:
            complaints.require(False, f"{levels_of_column.says}; {remedy}")
        complaints.raise_any()
    return replace(table, columns=tuple(parts)) if unknown else table, tuple(unknown)
