"""The smallest and the largest value that an imputer may fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from descents.cells.columns import ColumnModel
from descents.errors import Complaints
from descents.tables.spelling import listed
from descents.text import counted

Bound = ArrayLike | Mapping[str, float]
"""One number, one for each column, or those of some columns by name."""


def clip_range(
    min_value: Bound,
    max_value: Bound,
    names: Sequence[str],
    models: Mapping[int, ColumnModel],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value of each modeled column.

    Levels and dates have no bounds, and those of whole numbers are rounded inwards.

    Parameters
    ----------
    min_value, max_value : float, array-like of shape (columns,), or mapping
        The parameters of `descents.LowRankImputer`.
    names : sequence of str
        The columns of the table of the fit.
    models : mapping
        The modeled columns by their positions in the table.

    Returns
    -------
    low, high : float64 ndarray of shape (modeled columns,)

    Raises
    ------
    InvalidValueError
        If there are not as many bounds as columns, or a lower bound is not below the
        upper one.
    """
    complaints = Complaints()
    low = _per_column("min_value", min_value, -np.inf, names, complaints)
    high = _per_column("max_value", max_value, np.inf, names, complaints)
    wrong = np.flatnonzero(low >= high)
    complaints.require(
        not len(wrong),
        f"min_value is not below max_value for {listed(names[int(j)] for j in wrong)}; give "
        "smaller ones",
    )
    complaints.raise_any()
    places = list(models)
    low, high = low[places], high[places]
    for j, model in enumerate(models.values()):
        if model.levels or model.dates:
            low[j], high[j] = -np.inf, np.inf
        elif model.whole:
            low[j], high[j] = np.ceil(low[j]), np.floor(high[j])
    return low, high


def _per_column(
    name: str,
    bound: Bound,
    default: float,
    names: Sequence[str],
    complaints: Complaints,
) -> np.ndarray:
    """Return a bound for each column of the table, and report what is wrong with it."""
    numbers: object = bound
    if isinstance(bound, Mapping):
        unknown = [key for key in bound if key not in names]
        complaints.require(
            not unknown,
            f"{name} names {listed(unknown)}, which is not a column of X; name those "
            f"({listed(names)})",
        )
        numbers = [bound.get(one, default) for one in names]
    try:
        if np.asarray(numbers).dtype.kind not in "iufO":
            raise TypeError  # text or truth values
        per_column = np.array(
            np.broadcast_to(np.asarray(numbers, np.float64), (len(names),))
        )
    except (TypeError, ValueError):
        complaints.require(
            False,
            f"{name} is {numbers!r}; give a number, or one for each of the "
            f"{counted(len(names), 'column')}",
        )
        per_column = np.full(len(names), default)
    complaints.require(
        not np.isnan(per_column).any(),
        f"{name} is NaN; give numbers, or leave it out",
    )
    return per_column
