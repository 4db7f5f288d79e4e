"""The share of noise in a table with missing cells, and the penalty that follows from it.

A point estimate fits rows with few observed cells exactly, with factors of any size. In a
model in which the factors are integrated out, such rows shrink by themselves. The penalty
is the one with which point estimates shrink in the same way (`descents.lowrank.noise_sweeps`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.cells.distributed import Distributed
from descents.cells.streamed import Streamed
from descents.constraints.sets import Sparse
from descents.factorization.factorization import Factorization
from descents.losses import CustomLoss, Periodic
from descents.lowrank.matrices import Matrix, is_sparse, like
from descents.lowrank.noise_sweeps import DIGITS, Sweeps

MOST_NUMBERS = 2**22
"""The largest number of covariances of a side; a longer side is sampled."""
LEAST_ROWS = 2000
"""A sample has at least this many rows or columns."""
RENEWALS = 20
"""The maximum number of times that quadratics are computed."""
STAYS = 0.02
"""They are not computed again once the penalty changes by less than this share."""
CLOSE = 1e-9
"""A residual of less than this many spreads of its column counts as 0."""
MOVED = 1.5
"""The number of standard errors by which a penalty may move constants."""
NUDGE = 1e-3
"""The step of difference quotients of slopes, in spreads of the column."""


@dataclass(frozen=True)
class Noise:
    """The noise of a table, and the penalty that follows from it.

    Attributes
    ----------
    share : float
        The variance of the noise over the variance around the best constants.
    l2 : float
        The penalty on both factors.

    Examples
    --------
    >>> Noise(0.25, 1.5).says
    'penalty l2=1.5, from the noise (25% of the variance of the observed cells)'
    """

    share: float
    l2: float

    @property
    def says(self) -> str:
        """The penalty and its reason in a sentence."""
        if self.l2 == 0:
            return "no penalty, as there is no noise to speak of"
        share = 100 * min(self.share, 1)
        percent = f"{share:.0f}" if share >= 10 else f"{share:.2g}"
        return (
            f"penalty l2={self.l2:.3g}, from the noise ({percent}% of the variance of the "
            "observed cells)"
        )


def lacks_cells(found: Cells) -> bool:
    """Return whether a cell of a table is missing.

    Examples
    --------
    >>> from descents.cells.observed import cells
    >>> lacks_cells(cells([[1.0, 2.0]])), lacks_cells(cells([[1.0, np.nan]]))
    (False, True)
    """
    if isinstance(found, Complete):
        return False
    return found.observed < math.prod(found.whole_shape)


def implied(problem: Factorization) -> Noise | None:
    """Return the noise of a table with missing cells, and the penalty that follows from it.

    It is None for a complete table, for a custom loss, and if a factor lies in a set that
    determines its size.

    Parameters
    ----------
    problem : Factorization
        A problem without penalty. Its losses predict numbers on the scale of the data.

    Examples
    --------
    >>> from descents.tables.datasets import planted_table
    >>> table = planted_table(200, 10, 2, noise=0.3, seed=1)[0]
    >>> table[np.random.default_rng(0).random(table.shape) < 0.2] = np.nan
    >>> found = implied(Factorization(table, 2, offsets="columns"))
    >>> round(float(np.sqrt(found.share * np.nanvar(table))), 1)
    0.3
    """
    found = problem.cells
    for side in (problem.row_regularizer, problem.column_regularizer):
        if side.inside is not None and not isinstance(side.inside, Sparse):
            return None
    own = any(isinstance(block.loss, CustomLoss) for block in found.blocks)
    if own or not lacks_cells(found):
        return None
    share, l2, largest, size = _estimated(problem)
    if problem.has_offsets and not isinstance(found, Streamed):
        # With twice the penalty at which the factors vanish, nothing changes any more.
        l2 = min(l2, 2 * problem.vanishing_l2())
    elif not np.isfinite(l2):
        l2 = largest
    if not problem.has_offsets and np.any(found.offsets):
        constants = found.constants_loss()
        if constants > 0:
            share = size * found.observed / constants
        l2 = min(l2, _largest_for_constants(problem, size))
    return Noise(share, l2)


def _largest_for_constants(problem: Factorization, size: float) -> float:
    r"""Return the largest l2 that leaves the constants of the columns about as they are.

    Without offsets, the factors represent the constants c too. Those of m rows have the
    penalty 2 l2 m^(1/2) |c|, which is at most the loss of the best constants: else
    predictions of 0 may cost less.

    And l2 moves c_j by l2 m^(1/2) c_j / (|c| k_j), where k_j is half the curvature of the
    loss of column j. For divergences, the loss that this adds is at most that of moving
    the constants by `MOVED` standard errors, each of which costs the noise of one cell.

    Parameters
    ----------
    problem : Factorization
        A problem without offsets, of which a column has a constant other than 0.
    size : float
        The noise of a cell, in units of the loss.
    """
    found = problem.cells
    rows, constant = found.all_rows, found.offsets
    norm = float(np.linalg.norm(constant))
    most = found.constants_loss() / (2 * np.sqrt(rows) * norm)
    if problem.diverges:
        weights = _quadratics(problem, np.ones((rows, 1)), constant[:, None])[1]
        heights = np.asarray(weights.sum(0)).reshape(-1)
        seen = heights > 0
        added = rows * (np.square(constant[seen] / norm) / heights[seen]).sum()
        if added > 0:
            most = min(most, MOVED * float(np.sqrt(seen.sum() * size / added)))
    return float(f"{most:.{DIGITS}g}")


def _estimated(problem: Factorization) -> tuple[float, float, float, float]:
    """Return the share of noise, the l2, the largest l2 of a component, and the noise.

    The noise is that of a cell in units of the loss.

    The loss is replaced by quadratics. If its slope is a line, those near the best
    constants are the loss itself. If not, they are computed anew near the predictions,
    until the penalty stays: then the curvature far from the predictions, which would pass
    for noise, has no effect.
    """
    found = problem.cells
    if isinstance(found, Streamed):
        return _estimated_on_disk(found, problem)
    left = np.ones((found.shape[0], 1))
    right = found.offsets[:, None]
    best = np.inf, np.inf, np.inf, 0.0
    for _ in range(RENEWALS):
        table, weights, straight = _quadratics(problem, left, right)
        table, weights, times = _sampled(table, weights, problem.rank)
        means = np.zeros(table.shape[0])
        if problem.has_row_biases:
            table, means = _less_row_means(table, weights)
        sweeps = Sweeps(table, weights, problem.rank, biased=problem.has_offsets)
        share, l2 = sweeps.ended()
        largest = float(sweeps.penalties().max()) * sweeps.scale
        if np.isfinite(best[1]) and not (share < best[0] and np.isfinite(l2)):
            break  # for example near a corner of an asymmetric loss
        settled = abs(l2 - best[1]) <= STAYS * l2 or not np.isfinite(l2)
        best = share, l2 * times, largest * times, sweeps.noise_of_a_cell
        if straight or settled or table.shape != (found.shape[0], found.coordinates):
            break
        U, V, offsets = sweeps.fitted()
        ones = np.ones((len(V), 1))
        left = np.column_stack([U, means, np.ones(len(U))])
        right = np.column_stack([V, ones, _middle(problem) + offsets])
    return best


def _estimated_on_disk(
    found: Streamed, problem: Factorization
) -> tuple[float, float, float, float]:
    """Return the same for a table on disk, from a sample of its rows."""
    table, weights, times = _of_sampled_blocks(found, problem)
    if problem.has_row_biases and isinstance(found, Distributed):
        table = np.asarray(_less_row_means(table, weights)[0])
    sweeps = Sweeps(table, weights, problem.rank, biased=problem.has_offsets)
    share, l2 = sweeps.ended()
    largest = float(sweeps.penalties().max()) * sweeps.scale
    return share, l2 * times, largest * times, sweeps.noise_of_a_cell


def _middle(problem: Factorization) -> np.ndarray:
    """Return the prediction of each coordinate without the factors."""
    found: np.ndarray = problem.cells.offsets if problem.has_offsets else problem.base
    return found


def _quadratics(
    problem: Factorization, left: np.ndarray, right: np.ndarray
) -> tuple[Matrix, Matrix, bool]:
    r"""Return quadratics near the loss, sum k w (t - Z)^2, at predictions Z = L R^T.

    Let psi be minus half the slope of the loss. Then t = Z + psi / k, where k is half the
    mean curvature of a column: the slope of the least-squares line of psi over x - Z, which
    also exists for losses with corners. For squared loss t is x and k is 1.

    Returns
    -------
    targets : float64 ndarray or csr array of shape (rows, coordinates)
        t minus the prediction without the factors; 0 for missing cells.
    weights : the same
    straight : bool
        Whether slopes are lines: t is x.
    """
    found, cuts = problem.cells.in_memory, torch.as_tensor(problem.cells.cuts)
    sides = torch.as_tensor(left), torch.as_tensor(right)
    psi = found.slopes(*sides, cuts)
    sparse = hasattr(psi, "tocsr")
    middle, spread = _middle(problem), problem.spread()
    if sparse:
        table = found.table
        places = table.indices
        rows = np.repeat(np.arange(len(left)), np.diff(table.indptr))
        given, values = table.data, psi.data * -0.5
        weights = np.ones(len(given)) if found.weights is None else found.weights
        Z = np.einsum("ij,ij->i", left[rows], right[places])
        middle, spread = middle[places], spread[places]
    else:
        given, values = found.table[:, found.coordinate_columns], psi * -0.5
        weights, Z = found.weights[:, found.coordinate_columns], left @ right.T

    def summed(each: np.ndarray) -> np.ndarray:
        if sparse:
            return np.bincount(places, each, found.coordinates)
        return np.asarray(each.sum(0))

    away = np.where(weights > 0, given - Z, 0)
    # At a corner of the loss, to rounding, the slope is 0.
    values = np.where(np.abs(away) <= CLOSE * spread, 0, values)
    size = summed(weights * np.square(away))
    k = summed(values * away) / np.where(size > 0, size, 1)
    if any(isinstance(block.loss, Periodic) for block in found.blocks):
        k = _curvatures(problem, sides, summed(weights))
    k = np.where((k > 0) & (size > 0), k, 0.0)
    heavy = weights * (k[places] if sparse else k)
    steps = np.where(heavy > 0, values / np.where(heavy > 0, heavy, 1), 0)
    bends = (heavy > 0) & ~(np.abs(steps - away) <= CLOSE * spread)
    straight = not bends.any()
    targets = np.where(heavy > 0, Z - middle + steps, 0)
    if not sparse:
        return targets, heavy, straight
    return like(table, targets), like(table, heavy), straight


def _curvatures(
    problem: Factorization,
    sides: tuple[torch.Tensor, torch.Tensor],
    heights: np.ndarray,
) -> np.ndarray:
    """Return half the mean curvature of each column, from slopes on both sides."""
    left, right = sides
    nudge = NUDGE * torch.as_tensor(problem.spread())
    found, cuts = problem.cells.in_memory, torch.as_tensor(problem.cells.cuts)
    above, below = (
        found.slopes(left, torch.cat([right[:, :-1], one], 1), cuts)
        for one in (right[:, -1:] + nudge[:, None], right[:, -1:] - nudge[:, None])
    )
    width = heights * 4 * nudge.numpy()
    return np.asarray((above - below).sum(0)).reshape(-1) / np.where(
        width > 0, width, 1
    )


def _sampled(
    targets: Matrix, weights: Matrix, rank: int
) -> tuple[Matrix, Matrix, float]:
    """Return a sample of the rows of a tall table, or of the columns of a wide one.

    The penalty is multiplied by the third value, because it grows with the square root of
    the length of the longer side.
    """
    rows, wide = targets.shape
    most = max(LEAST_ROWS, MOST_NUMBERS // rank**2)
    long = max(rows, wide)
    if long <= most:
        return targets, weights, 1.0
    picked = np.sort(np.random.default_rng(0).choice(long, most, replace=False))
    if rows >= wide:
        targets, weights = targets[picked], weights[picked]
    else:
        targets, weights = targets[:, picked], weights[:, picked]
    return targets, weights, float(np.sqrt(long / most))


def _of_sampled_blocks(
    found: Streamed, problem: Factorization
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a sample of the rows of a table on disk, those of all processes."""
    rows, wide = found.whole_shape
    each = 8 * (6 * wide + 6 * (problem.rank + 1) ** 2)  # bytes per row
    room = found.table.memory // 2 // each
    most = max(1, min(rows, room, max(LEAST_ROWS, MOST_NUMBERS // problem.rank**2)))
    picked = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    constant = found.offsets if problem.has_offsets else problem.base
    tables, masks = [], []
    for place, block in found.table.blocks(found.block_rows):
        first = found.first_row + place.start
        some = picked[(picked >= first) & (picked < first + len(block))]
        part = block[some - first].astype(np.float64) - constant
        tables.append(np.where(np.isnan(part), 0, part))
        masks.append(np.where(np.isnan(part), 0.0, 1.0))
        del block
    targets, weights = (
        np.concatenate(list(found.together.arrays(np.concatenate(part))))
        for part in (tables, masks)
    )
    return targets, weights, float(np.sqrt(rows / most))


def _less_row_means(table: Matrix, weights: Matrix) -> tuple[Matrix, np.ndarray]:
    """Return a table minus means of its rows, and these means.

    The means are shrunk, as if each row had one more cell with the value 0.
    """
    known = (weights > 0).sum(1)
    total = np.asarray((weights * table).sum(1)).reshape(-1)
    heights = np.asarray(weights.sum(1)).reshape(-1)
    known = np.asarray(known).reshape(-1)
    mean = total / np.where(heights > 0, heights, 1) * known / (known + 1)
    if not is_sparse(table):
        return np.where(np.asarray(weights) > 0, table - mean[:, None], 0), mean
    rest = table.data - np.repeat(mean, np.diff(table.indptr))
    return like(table, rest), mean
