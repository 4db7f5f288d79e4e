"""Weights of rows, as estimators take them."""

from __future__ import annotations

import numpy as np

from descents.cells.intake import plain_array
from descents.errors import InvalidValueError
from descents.text import counted


def row_weights(sample_weight: object, rows: int) -> np.ndarray | None:
    """Return the weights of rows with mean 1, or raise an error if they cannot be used.

    The mean is that of the weights above 0. How complex a model is depends on the number
    of rows, so the size of weights must not: those of a survey may count people.

    Examples
    --------
    >>> row_weights([300, 0, 100], 3)
    array([1.5, 0. , 0.5])
    """
    if sample_weight is None:
        return None
    weights = np.asarray(plain_array(sample_weight))
    try:
        weights = weights.astype(np.float64)
    except (TypeError, ValueError):
        weights = np.full(1, np.nan)
    if isinstance(sample_weight, int | float | np.number):
        weights = np.full(rows, float(weights))
    usable = weights.shape == (rows,) and np.isfinite(weights).all()
    if not usable or (weights < 0).any():
        raise InvalidValueError(
            f"sample_weight has shape {weights.shape}, or contains other than finite "
            f"numbers of at least 0; give one for each of the {counted(rows, 'row')}"
        )
    if not weights.any():
        raise InvalidValueError(
            "every weight in sample_weight is zero; give some above 0"
        )
    weights = weights / weights.max()
    return np.asarray(weights / weights[weights > 0].mean())
