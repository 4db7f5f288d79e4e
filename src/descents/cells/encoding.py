"""The values of a column as numbers or as codes of a model's levels, and back."""

from __future__ import annotations

import numpy as np

from descents.cells.columns import ColumnModel
from descents.errors import InvalidValueError
from descents.tables import levels
from descents.tables.levels import KnownLevels, Places
from descents.tables.spelling import LARGEST, plain
from descents.tables.typed_columns import Column
from descents.tables.unseen import Unseen

UNSEEN = (
    "give one of these, leave the cell empty, or read such cells as missing "
    "(unseen='missing')"
)
"""What to do about levels that a model does not know."""


def encoded(model: ColumnModel, column: Column) -> np.ndarray:
    """Return a column's numbers, or the codes of its levels in the model.

    Raises
    ------
    InvalidValueError
        If it has a level that the model does not know, or is of another kind.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
    >>> column = from_frame(pyarrow.table({"a": ["y", "x", "y"]})).column("a")
    >>> encoded(ColumnModel("a", get_loss("logistic"), ("x", "y"), ""), column)
    array([1., 0., 1.])
    """
    if not model.levels:
        return column.values if column.kind == "empty" else _numbers(model, column)
    codes, unseen = levels.coded(column, model.known)
    if unseen:
        raise Unseen(model.name, unseen, model.levels, never=model.never).error(UNSEEN)
    return codes


def _numbers(model: ColumnModel, column: Column) -> np.ndarray:
    """Return the numbers in a column; raise an error if it has other values."""
    dates = column.kind == "date"
    if column.kind == "number" or (dates and model.dates):
        return column.values
    if model.limits == (0, 1) and not dates:
        codes, unseen = levels.coded(column, KnownLevels((0, 1)))  # no and yes
        if not unseen:
            return codes
    values = None if dates else levels.numbers_in(column)
    if values is None:
        raise InvalidValueError(
            f"column {column.name!r} must hold numbers, as the model has numbers there, "
            f"but it is {column.says}; give numbers"
        )
    return values


def coded(model: ColumnModel, values: np.ndarray) -> np.ndarray:
    """Return numbers as codes of the model's levels.

    Raises
    ------
    InvalidValueError
        If there is a level that the model does not know.
    """
    codes, unseen = looked_up(model, values)
    if unseen is not None:
        raise unseen.error(UNSEEN)
    return codes


def looked_up(
    model: ColumnModel, values: np.ndarray
) -> tuple[np.ndarray, Unseen | None]:
    """Return numbers as codes of the model's levels, and the levels it does not know.

    The codes of unknown levels are NaN.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> model = ColumnModel("a", get_loss("categorical"), ("01", "10"), "")
    >>> codes, unseen = looked_up(model, np.array([10.0, np.nan, 7.0, 1.0]))
    >>> codes, unseen.says
    (array([ 1., nan, nan,  0.]), "column 'a' holds 7, which the model was not fitted
    with (it knows '01', '10')")
    """
    known = model.known
    places = Places(known.all_levels)
    codes = np.full(values.shape, np.nan)
    unseen: dict[object, int] = {}
    for value in np.unique(values[~np.isnan(values)]):
        here = values == value
        place = places.of(value)
        if place is None:
            unseen[plain(value)] = int(here.sum())
        else:
            codes[here] = known.code(place)
    return codes, Unseen(model.name, unseen, model.levels) if unseen else None


def decoded(model: ColumnModel, codes: np.ndarray) -> np.ndarray:
    """Return numbers, or the levels that codes represent, as an array.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> decoded(ColumnModel("a", get_loss("logistic"), ("x", "y"), ""), np.array([1.0]))
    array(['y'], dtype=object)
    """
    if not model.levels:
        return codes
    known = model.levels
    places = np.clip(codes.astype(np.int64), 0, len(known) - 1)
    plain = all(
        isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= LARGEST
        for x in known
    )
    return np.array(known, dtype=np.float64 if plain else object)[places]
