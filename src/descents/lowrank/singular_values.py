"""Choose a rank by the singular values above a threshold."""

from __future__ import annotations

import numpy as np

from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.errors import InvalidValueError, for_caller
from descents.lowrank.selection import THRESHOLD, Selection
from descents.validation import real_number

ROUNDINGS = 4
"""By how many units of its last place a number of a table may be off."""


def optimal_threshold(ratio: float) -> float:
    r"""Return the optimal hard threshold over the median singular value.

    :math:`\omega(\beta) = \lambda_*(\beta) / \sqrt{\mu_\beta}`, for a table with noise
    of one, unknown size on every cell and the ratio beta of its sides [1]_, where

    .. math:: \lambda_*(\beta)^2 = 2(\beta + 1) + \frac{8 \beta}
              {\beta + 1 + \sqrt{\beta^2 + 14 \beta + 1}}

    and mu is the median of the distribution of Marchenko and Pastur: 2.858 at 1.

    Parameters
    ----------
    ratio : float
        The shorter side over the longer, above 0 and at most 1.

    References
    ----------
    .. [1] Gavish and Donoho (2014), "The optimal hard threshold for singular values is
       4 / sqrt(3)", IEEE Transactions on Information Theory 60.

    Examples
    --------
    >>> round(optimal_threshold(1.0), 3), round(optimal_threshold(0.5), 3)
    (2.858, 2.171)
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq

    beta = real_number("ratio", ratio, 0, strict=True)
    if beta > 1:
        raise InvalidValueError(f"ratio is {ratio!r}; give the shorter over the longer")
    low, high = (1 - beta**0.5) ** 2, (1 + beta**0.5) ** 2
    half = (high - low) / 2

    def density(angle: float) -> float:
        """Return it by the angle of a point of the support, where it has no corner."""
        sine, cosine = np.sin(angle / 2), np.cos(angle / 2)
        point = low + 2 * half * sine**2
        return float(2 * (half * sine * cosine) ** 2 / (np.pi * beta * point))

    def below(angle: float) -> float:
        return float(quad(density, 0, angle, epsabs=1e-12)[0]) - 0.5

    angle = brentq(below, 1e-9, np.pi, xtol=1e-13)
    median = low + 2 * half * np.sin(angle / 2) ** 2
    root = np.sqrt(beta**2 + 14 * beta + 1)
    threshold = np.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + root))
    return float(threshold / np.sqrt(median))


def by_singular_values(found: Cells, offsets: str) -> Selection:
    """Count the singular values above the optimal hard threshold.

    The threshold is `optimal_threshold` times the median of the singular values of the
    table, less its means where columns have offsets or rows biases: then a side counts
    one less. It asks for noise of one size on all cells. Rows and columns of which
    nothing is left, such as constant columns, have no noise and are not counted.
    Singular values no larger than those of rounding errors are not counted either, so
    that the rank of a table without noise is its numerical rank.

    Parameters
    ----------
    found : Cells
        A complete dense table under squared loss.
    offsets : {"none", "columns", "rows", "both"}

    Returns
    -------
    Selection
        Its rank may be 0: nothing stands out of the noise.

    Raises
    ------
    InvalidValueError
        When the table is no such one.

    Examples
    --------
    >>> from descents.tables.datasets import planted_table
    >>> from descents.cells.observed import cells
    >>> known = cells(planted_table(60, 30, 3, noise=0.2)[0])
    >>> by_singular_values(known, "columns").rank
    3
    """
    if not isinstance(found, Complete) or not isinstance(found.table, np.ndarray):
        raise InvalidValueError(
            for_caller(
                f"--rank {THRESHOLD} is for a table of numbers without missing cells or "
                "--scales, under squared loss; give --rank auto, or a number",
                f"n_components is {THRESHOLD!r}, which is for a dense table without holes, "
                "weights or scales, and squared loss; give 'auto', or a number",
            )
        )
    table = found.table.astype(np.float64)
    rows, wide = table.shape
    if offsets in ("columns", "both"):
        table, rows = table - table.mean(0), rows - 1
    if offsets in ("rows", "both"):
        table, wide = table - table.mean(1, keepdims=True), wide - 1
    if min(rows, wide) < 1:
        raise InvalidValueError(
            f"a table of {found.shape[0]} x {found.shape[1]} cells, less its means, has "
            "no singular values to judge; give the rank as a number"
        )
    noisy, rounding = _noisy_part(table, found.table)
    rows, wide = rows - len(table), wide - table.shape[1]  # what the means take
    values = np.linalg.svd(table, compute_uv=False)[
        : min(found.shape[0] + rows, found.shape[1] + wide)
    ]
    threshold = rounding
    sides = sorted((noisy.shape[0] + rows, noisy.shape[1] + wide))
    if sides[0] >= 1:
        noise = np.linalg.svd(noisy, compute_uv=False)[: sides[0]]
        typical = optimal_threshold(sides[0] / sides[1]) * float(np.median(noise))
        threshold = max(typical, rounding)
    rank = int((values > threshold).sum())
    return Selection(
        "singular values",
        rank,
        None,
        None,
        (),
        (),
        np.zeros((0, 0, 0)),
        0,
        values,
        threshold,
    )


def _noisy_part(centered: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the rows and columns that vary, and the singular value of rounding errors.

    Each number of a table was rounded once at least, and the sums that made it, and its
    mean, a few times more: by some units of its last place. Such errors as noise of
    rows and columns have a largest singular value of about its size times the sum of
    the roots of the sides; those of the decomposition itself are added.

    Parameters
    ----------
    centered : float64 ndarray
        The table less its means.
    given : ndarray
        The table in the precision that it came in.
    """
    numbers = given.astype(np.float64)
    error = ROUNDINGS * float(np.finfo(given.dtype).eps) * np.abs(numbers)
    columns, rows = (
        (np.ptp(numbers, axis=side) > error.max(side))
        & (np.abs(centered).max(side) > error.max(side))
        for side in (0, 1)
    )
    spread = float(error.max(initial=0.0)) * float(np.sqrt(given.shape).sum())
    own = max(given.shape) * np.finfo(np.float64).eps * np.linalg.norm(numbers)
    return centered[rows][:, columns], spread + float(own)
