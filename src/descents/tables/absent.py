"""Columns of a model that a table of new rows lacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from descents.errors import InvalidValueError
from descents.text import counted, without_formula

NAMED = 5
"""The largest number of columns that a message names."""


def check_columns(
    names: Sequence[str], present: Collection[str], verb: str = "fitted"
) -> None:
    """Raise an error if a table lacks columns of a model.

    Parameters
    ----------
    names : sequence of str
        The columns of the model.
    present : collection of str
        Those of the table.
    verb : {"fitted", "trained"}

    Raises
    ------
    InvalidValueError

    Examples
    --------
    >>> check_columns(["a", "=b"], {"a", "'=b"})
    Traceback (most recent call last):
    ...
    descents.errors.InvalidValueError: the table lacks 1 of the 2 columns that the model was \
fitted with: '=b'; it has "'=b", as --safe-csv writes that name: remove the single quote \
before it, and those before the cells of the table
    """
    present = set(present)
    absent = [name for name in names if name not in present]
    if not absent:
        return
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    remedy = "add them, with empty cells where values are missing"
    quoted = [without_formula(name) for name in absent]
    if all(name in present for name in quoted):
        one = len(quoted) == 1
        remedy = (
            f"it has {', '.join(map(repr, quoted[:NAMED]))}{more}, as --safe-csv writes "
            f"{'that name' if one else 'those names'}: remove the single quote before "
            f"{'it' if one else 'them'}, and those before the cells of the table"
        )
    raise InvalidValueError(
        f"the table lacks {len(absent)} of the {counted(len(names), 'column')} that the "
        f"model was {verb} with: {', '.join(map(repr, absent[:NAMED]))}{more}; {remedy}"
    )
