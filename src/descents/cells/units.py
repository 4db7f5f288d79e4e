"""Units of columns: their spread, and values rounded so that units do not count."""

from __future__ import annotations

import numpy as np

GRID = 36
"""The number of binary places to which standardized values are rounded."""
FLAT = 1e-12
"""A column counts as constant if it varies by less than this share of its size."""


SQUARES_AT_ONCE = 2**16
"""Maximum number of residuals that are squared at once, so that they stay in the cache."""


def on_a_grid(values: np.ndarray, *, relative: bool) -> np.ndarray:
    """Round standardized values to `GRID` binary places, about 1.5e-11.

    A table in other units then gives the same bits. Without rounding, descents that
    magnify differences in the last digits, such as those with long steps or a line
    search, would differ between units.

    Parameters
    ----------
    values : float64 ndarray
    relative : bool
        Whether to round the significands, so that small values keep their ratios.

    Examples
    --------
    >>> third = np.array([1.0 / 3.0])
    >>> same = on_a_grid(third * 0.1 / 0.1, relative=True)
    >>> bool(same == on_a_grid(third, relative=True)), bool(abs(same - third) < 1e-11)
    (True, True)
    """
    fraction, exponent = np.frexp(values) if relative else (values, 0)
    rounded: np.ndarray = np.ldexp(np.rint(np.ldexp(fraction, GRID)), exponent - GRID)
    return rounded


def squares_about(
    table: np.ndarray,
    constant: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return the sum of squares of some columns about a constant, over observed cells.

    Parameters
    ----------
    table : ndarray of shape (rows, columns)
    constant : float64 ndarray of shape (J,)
    columns : int64 ndarray of shape (J,)
    weights : ndarray of shape (rows, columns), optional
        Zero for missing cells.

    Examples
    --------
    >>> squares_about(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([2.0]), np.array([0]))
    array([2.])
    """
    squares: np.ndarray = np.zeros(len(columns))
    each = max(1, SQUARES_AT_ONCE // len(columns))
    every = len(columns) == table.shape[1]
    for first in range(0, table.shape[0], each):
        rows = slice(first, first + each)
        rest = (table[rows] if every else table[rows, columns]) - constant
        if weights is not None:
            rest *= weights[rows, columns] > 0
        squares += np.einsum("ij,ij->j", rest, rest)
    return squares


def spreads(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted standard deviation and the size of each column.

    The standard deviation is about the mean, whatever the loss is: a search for the best
    constant would end with different digits in different units.

    Parameters
    ----------
    values, weights : float64 ndarray of shape (rows, columns)
        Weights are zero for missing cells.

    Returns
    -------
    spread : float64 ndarray of shape (columns,)
        The standard deviation, NaN for constant columns.
    size : float64 ndarray of shape (columns,)
        The largest absolute value; 1 if all are 0.

    Examples
    --------
    >>> spreads(np.array([[1.0, 5.0], [3.0, 5.0]]), np.ones((2, 2)))
    (array([ 1., nan]), array([3., 5.]))
    """
    seen = weights > 0
    largest = np.where(seen, np.abs(values), 0).max(0, initial=0.0)
    # In units of the largest value, no square overflows or vanishes.
    size = np.where(largest > 0, largest, 1.0)
    heaviest = weights.max(0, initial=0.0)
    share = weights / np.where(heaviest > 0, heaviest, 1.0)
    share /= np.where(heaviest > 0, share.sum(0), 1.0)  # weights that sum to 1
    over = np.where(seen, values / size, 0)
    rest = np.where(seen, over - (share * over).sum(0), 0)
    spread = size * np.sqrt((share * np.square(rest)).sum(0))
    # In a constant column, only rounding of its own size remains.
    return np.where(spread > FLAT * size, spread, np.nan), size
