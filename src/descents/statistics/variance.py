"""Variance components of results: starts, shuffles or splits, and the residual."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from descents.errors import InvalidValueError
from descents.statistics.confidence import residual_mean_square
from descents.text import counted


def variance_components(values: ArrayLike, groups: ArrayLike) -> tuple[float, float]:
    """Estimate the variance within groups and the variance between groups.

    The method of moments for the one-way random-effects model gives within = mean square
    within, and between = (mean square between - within) / n0, at least 0, where n0 is the
    group size corrected for imbalance [1]_.

    Parameters
    ----------
    values : array-like of shape (N,)
    groups : array-like of shape (N,)
        At least two groups, one of them with two members.

    Returns
    -------
    within, between : float

    References
    ----------
    .. [1] Searle, Casella and McCulloch (1992), "Variance Components", chapter 3.

    Examples
    --------
    >>> variance_components([1.0, 3.0, 11.0, 13.0], [0, 0, 1, 1])
    (2.0, 49.0)
    """
    values = np.asarray(values, dtype=np.float64)
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    total, count = len(values), len(sizes)
    if count < 2 or total == count:
        raise InvalidValueError(
            f"{counted(total, 'value')} in {count} groups; give at least two groups, one of "
            "them with two values"
        )
    means = np.bincount(member, values) / sizes
    within = float(np.square(values - means[member]).sum() / (total - count))
    spread = float((sizes * np.square(means - values.mean())).sum() / (count - 1))
    size = (total - float(np.square(sizes).sum()) / total) / (count - 1)
    return within, max(0.0, (spread - within) / size)


def crossed_variances(values: ArrayLike) -> dict[str, float | None]:
    """Estimate the variance between rows and the variance between columns of a table.

    The method of moments for two crossed random effects without repetition [1]_ gives
    rows = (mean square of rows - mean square of the residual) / columns, and the same for
    columns; at least 0.

    Parameters
    ----------
    values : array-like of shape (starts, splits)
        Columns without any finite number are left out, then rows with a number that is
        not finite.

    Returns
    -------
    dict
        ``starts``, ``splits`` and ``residual``. With one split, ``starts`` is the
        variance and the others are None. With fewer than two starts, all are None.

    References
    ----------
    .. [1] Searle, Casella and McCulloch (1992), "Variance Components", chapter 4.

    Examples
    --------
    >>> crossed_variances([[0.0, 2.0], [4.0, 6.0]])
    {'starts': 8.0, 'splits': 2.0, 'residual': 0.0}
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, np.isfinite(table).any(0)]
    table = table[np.isfinite(table).all(1)]
    rows, columns = table.shape
    if rows < 2 or columns < 1:
        return {"starts": None, "splits": None, "residual": None}
    if columns < 2:
        return {
            "starts": float(table.var(ddof=1)),
            "splits": None,
            "residual": None,
        }
    by_row, by_column = table.mean(1), table.mean(0)
    residual = residual_mean_square(table)
    return {
        "starts": max(0.0, float(by_row.var(ddof=1)) - residual / columns),
        "splits": max(0.0, float(by_column.var(ddof=1)) - residual / rows),
        "residual": residual,
    }
