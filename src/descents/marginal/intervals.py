"""Prediction intervals of imputed cells, calibrated on held-out cells.

Split conformal prediction with normalized scores [1]_: the distance of a held-out number
from its prediction is divided by the standard deviation that the model predicts. A cell
therefore has a narrower interval in a row with more observed cells, and in the part of a
skewed column where errors are smaller (`calibration`). The score of a level is 1 less its
probability.

References
----------
.. [1] Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018), "Distribution-free
   predictive inference for regression", Journal of the American Statistical
   Association 113.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from descents.marginal.features import NumberFeatures
from descents.marginal.held_out import HeldOut
from descents.marginal.model import Fitted
from descents.marginal.posterior import Cells

USUAL = 0.9
"""Share of the held-out cells of a column that count as usual: less is known of the rest."""


@dataclass(frozen=True, eq=False)
class CellIntervals:
    """Prediction intervals of numbers and prediction sets of levels for missing cells.

    Attributes
    ----------
    coverage : float
    lower, upper : float64 ndarray of shape (n, p)
        The limits of the intervals; NaN at observed cells and in columns of levels.
    sets : dict
        For each column of levels, a bool array of shape (n, levels): whether each level
        is in the set of a missing cell. It is False in other rows.
    """

    coverage: float
    lower: np.ndarray
    upper: np.ndarray
    sets: dict[int, np.ndarray]


def intervals(
    fitted: Fitted, codes: np.ndarray, coverage: float, *, limited: bool = True
) -> CellIntervals:
    """Return intervals of the missing numbers of a table, and sets of its levels.

    For a column that is filled with its mean or its most frequent level, the interval is
    around that value.

    Parameters
    ----------
    fitted : Fitted
    codes : float64 ndarray of shape (n, p)
        NaN where missing.
    coverage : float
        The probability that an interval contains its cell, averaged over cells that are
        missing at random.
    limited : bool
        Whether cells are filled within the observed range. An interval always contains
        the value that is filled in, and may extend beyond the range.

    Raises
    ------
    InvalidValueError
        If too few cells were held out for this coverage.

    Examples
    --------
    >>> from descents.marginal.model import fit
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(400, 1)) + 0.1 * rng.normal(size=(400, 2))
    >>> table[:9, 1] = np.nan
    >>> found = intervals(fit(table, np.zeros(2, int)), table, 0.9)
    >>> bool(0.2 < np.nanmean(found.upper - found.lower) < 0.8)
    True
    """
    quantiles = fitted.quantiles(coverage)
    if fitted.constant.any():
        other = replace(fitted, held_out=_of_constants(fitted)).quantiles(coverage)
        quantiles = np.where(fitted.constant, other, quantiles)
    free = fitted.predicted(codes, limited=False)
    filled = fitted.predicted(codes, limited=limited) if limited else free
    lacking = np.isnan(codes)
    lower, upper = np.full(codes.shape, np.nan), np.full(codes.shape, np.nan)
    sets = {}
    for place, column in enumerate(fitted.features.columns):
        rows = lacking[:, place]
        if not rows.any():
            continue
        if isinstance(column, NumberFeatures):
            scale = free.deviations[rows, place]
            if column.low == column.high:  # a constant
                scale = np.zeros(len(scale))
            usual = np.inf if fitted.constant[place] else _usual(fitted, place)
            center = free.values[rows, place]
            half = _half_width(scale, usual, quantiles[place], coverage)
            value = filled.values[rows, place]
            lower[rows, place] = np.minimum(center - half, value)
            upper[rows, place] = np.maximum(center + half, value)
        else:
            least = -1.0 if fitted.constant[place] else _least_certain(fitted, place)
            sets[place] = _set_of(free, place, rows, quantiles[place])
            _extend(sets[place], free.probabilities[place], rows, least, coverage)
    return CellIntervals(coverage, lower, upper, sets)


def _set_of(cells: Cells, place: int, rows: np.ndarray, quantile: float) -> np.ndarray:
    """Return which levels are in the set of each cell: likely ones, and that filled in."""
    chances = cells.probabilities[place][rows]
    found = np.zeros(cells.probabilities[place].shape, dtype=bool)
    part = chances >= 1 - quantile - 1e-12
    likeliest = cells.values[rows, place].astype(np.int64)
    part[np.arange(len(part)), likeliest] = True
    found[rows] = part
    return found


def _half_width(
    std: np.ndarray, usual: float, quantile: float, coverage: float
) -> np.ndarray:
    """Return half the widths of intervals.

    The quantile was learned on the held-out cells. It may be small because the model is
    too unsure of them, which says nothing about rows of which less is known: the variance
    beyond `usual` is multiplied by no less than the normal quantile.

    Parameters
    ----------
    std : ndarray
        The standard deviations of the model.
    usual : float
        The standard deviation up to which there are held-out cells.
    quantile, coverage : float
    """
    known = np.minimum(std, usual)
    beyond = np.square(std) - np.square(known)
    normal = NormalDist().inv_cdf((1 + coverage) / 2)
    variance = np.square(quantile * known) + max(quantile, normal) ** 2 * beyond
    return np.asarray(np.sqrt(variance))


def _held_out_of(fitted: Fitted, place: int) -> tuple[HeldOut | None, np.ndarray]:
    """Return the held-out cells, and which of them are of a column."""
    held_out = fitted.held_out
    if held_out is None:
        return None, np.empty(0, dtype=np.int64)
    return held_out, np.flatnonzero(held_out.columns == place)


def _usual(fitted: Fitted, place: int) -> float:
    """Return the standard deviation that few held-out cells of a column exceed."""
    held_out, mine = _held_out_of(fitted, place)
    if held_out is None or not len(held_out.deviations) or not len(mine):
        return np.inf
    return float(np.quantile(held_out.deviations[mine], USUAL))


def _least_certain(fitted: Fitted, place: int) -> float:
    """Return a probability of the likeliest level that few held-out cells fall below."""
    held_out, mine = _held_out_of(fitted, place)
    if held_out is None or not held_out.chances.size or not len(mine):
        return -1.0
    most = np.nanmax(held_out.chances[mine], axis=1)
    return float(np.quantile(most, 1 - USUAL)) + 1e-9


def _extend(
    sets: np.ndarray,
    chances: np.ndarray,
    rows: np.ndarray,
    least: float,
    coverage: float,
) -> None:
    """Add likely levels to the sets of cells that are less certain than held-out ones.

    These sets get the likeliest levels that together have the probability `coverage`.

    Parameters
    ----------
    sets : bool ndarray of shape (n, levels)
        Changed in place.
    chances : ndarray of shape (n, levels)
    rows : bool ndarray of shape (n,)
        The rows of missing cells.
    least : float
        The probability of the likeliest level below which a cell is less certain.
    coverage : float
    """
    unsure = np.flatnonzero(rows & (chances.max(1) <= least))
    order = np.argsort(-chances[unsure], axis=1, kind="stable")
    part = np.take_along_axis(chances[unsure], order, axis=1)
    before = np.cumsum(part, axis=1) - part
    added = np.zeros(part.shape, dtype=bool)
    np.put_along_axis(added, order, before < coverage - 1e-9, axis=1)
    sets[unsure] |= added


def _of_constants(fitted: Fitted) -> HeldOut | None:
    """Return the held-out cells with the scores of constants as predictions."""
    held_out = fitted.held_out
    if held_out is None:
        return None
    scores = np.zeros(len(held_out.truth))
    for place, column in enumerate(fitted.features.columns):
        mine = held_out.columns == place
        truth = held_out.truth[mine]
        if isinstance(column, NumberFeatures):
            scores[mine] = np.abs(truth - held_out.constants[mine]) / column.spread
        else:
            scores[mine] = 1 - column.shares[truth.astype(np.int64)]
    return replace(held_out, scores=scores)
