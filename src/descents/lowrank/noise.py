r"""How much of a table with missing cells is noise, and which penalty that implies.

A point estimate of every factor fits rows with few observed cells exactly, with factors of
any size. Where the factors are uncertain, and integrated out, such rows shrink by
themselves. The penalty that does the same to point estimates follows from that model.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.cells.streamed import Streamed
from descents.constraints.sets import Sparse
from descents.factorization.factorization import Factorization
from descents.linalg.spectra import leading_triples
from descents.losses import CustomLoss, Periodic

SWEEPS = 500
"""The limit of sweeps."""
SETTLED = 1e-3
"""The sweeps end once the penalty changes by less than this share in one."""
VANISHED = 1e-12
"""A noise of less than this share of the variance is none."""
DIGITS = 5
"""How many digits of a penalty count."""
LEAST = 1e-30
LIVE = 0.05
"""A component with a smaller share of its mean square in its means has vanished."""
MOST_NUMBERS = 2**22
"""Longer sides are sampled, so that their covariances have no more numbers."""
LEAST_ROWS = 2000
"""As many of them are looked at, though."""
RENEWALS = 20
"""The limit of times that quadratics are renewed near predictions."""
STAYS = 0.02
"""They are not once the penalty changes by less than this share."""
FAINT = 1e-4
"""A share of noise to begin with that no component vanishes in."""
PATIENT = 30
"""So many sweeps hold it there."""
CLOSE = 1e-9
"""What is nearer to its prediction, in units of a column's spread, is that."""
NUDGE = 1e-3
"""How far apart two slopes are that tell a curvature, in units of a column's spread."""


@dataclass(frozen=True)
class Noise:
    """The noise of a table, and the penalty that it implies.

    Attributes
    ----------
    share : float
        The variance of the noise over that about the constants.
    l2 : float
        Of both factors.

    Examples
    --------
    >>> Noise(0.25, 1.5).says
    'penalty l2=1.5, from the noise (25% of the variance of the observed cells)'
    """

    share: float
    l2: float

    @property
    def says(self) -> str:
        """Which penalty is taken, and why."""
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
    return found.observed < found.shape[0] * found.shape[1]


def implied(problem: Factorization) -> Noise | None:
    """Return the noise of a table with missing cells, and the penalty that it implies.

    None where the table is complete; where a factor lies in a set, which has a size of its
    own, other than one of few entries; and for a function of the user's.

    Parameters
    ----------
    problem : Factorization
        Without a penalty; all its losses predict numbers on the scale of the data.

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
    share, l2, largest = _estimated(problem)
    if problem.has_offsets and not isinstance(found, Streamed):
        # Twice what leaves nothing of the factors is as good as more.
        l2 = min(l2, 2 * problem.vanishing_l2())
    elif not np.isfinite(l2):
        l2 = largest
    return Noise(share, l2)


def _estimated(problem: Factorization) -> tuple[float, float, float]:
    """Return the share of noise, the l2, and the largest l2 of a component.

    Quadratics near the best constants are those of the loss itself where its slope is a
    line. Where it is not, they are renewed near the predictions, until the penalty stays:
    what bends far away, and would pass for noise, is gone where predictions are exact.
    """
    found = problem.cells
    if isinstance(found, Streamed):
        table, weights, times = _of_sampled_blocks(found, problem)
        sweeps = _Sweeps(table, weights, problem.rank, biased=problem.has_offsets)
        share, l2 = sweeps.ended()
        return share, l2 * times, float(sweeps.penalties().max()) * sweeps.scale * times
    left = np.ones((found.shape[0], 1))
    right = found.offsets[:, None]
    best = np.inf, np.inf, np.inf
    for _ in range(RENEWALS):
        table, weights, straight = _quadratics(problem, left, right)
        table, weights, times = _sampled(table, weights, problem.rank)
        means = np.zeros(table.shape[0])
        if problem.has_row_biases:
            table, means = _less_row_means(table, weights)
        sweeps = _Sweeps(table, weights, problem.rank, biased=problem.has_offsets)
        share, l2 = sweeps.ended()
        largest = float(sweeps.penalties().max()) * sweeps.scale
        if np.isfinite(best[1]) and not (share < best[0] and np.isfinite(l2)):
            break  # as around an asymmetric corner
        settled = abs(l2 - best[1]) <= STAYS * l2 or not np.isfinite(l2)
        best = share, l2 * times, largest * times
        if straight or settled or table.shape != (found.shape[0], found.coordinates):
            break
        U, V, offsets = sweeps.fitted()
        ones = np.ones((len(V), 1))
        left = np.column_stack([U, means, np.ones(len(U))])
        right = np.column_stack([V, ones, _middle(problem) + offsets])
    return best


def _middle(problem: Factorization) -> np.ndarray:
    """Return what is predicted of each coordinate without the factors."""
    found: np.ndarray = problem.cells.offsets if problem.has_offsets else problem.base
    return found


def _quadratics(
    problem: Factorization, left: np.ndarray, right: np.ndarray
) -> tuple[Any, Any, bool]:
    r"""Return quadratics near the loss, sum k w (t - Z)^2, at predictions Z = L R^T.

    With psi minus half the slope of the loss, t = Z + psi / k. k is the mean half
    curvature of a column there; of losses whose predictions are on the scale of the data
    the slope of the line of psi by x - Z, which corners do not mislead. For squared loss
    t is x and k is 1.

    Returns
    -------
    targets : float64 ndarray or csr array of shape (rows, coordinates)
        About what is predicted without the factors; 0 where a cell is missing.
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
    kind, parts = type(table), (table.indices, table.indptr)
    of_entries = (kind((each, *parts), shape=found.shape) for each in (targets, heavy))
    return *of_entries, straight


def _curvatures(
    problem: Factorization,
    sides: tuple[torch.Tensor, torch.Tensor],
    heights: np.ndarray,
) -> np.ndarray:
    """Return the mean half curvature of each column, by slopes on both sides."""
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


def _sampled(targets: Any, weights: Any, rank: int) -> tuple[Any, Any, float]:
    """Return some rows of a tall table, or some columns of a wide one.

    The penalty grows with the root of the length of the longer side.
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
    """Return some rows of a table on disk, as much from each block."""
    rows, wide = found.shape
    each = 8 * (6 * wide + 6 * (problem.rank + 1) ** 2)  # bytes that a row takes
    room = found.table.memory // 2 // each
    most = max(1, min(rows, room, max(LEAST_ROWS, MOST_NUMBERS // problem.rank**2)))
    picked = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    constant = found.offsets if problem.has_offsets else problem.base
    tables, masks = [], []
    for place, block in found.table.blocks(found.block_rows):
        some = picked[(picked >= place.start) & (picked < place.start + len(block))]
        part = block[some - place.start].astype(np.float64) - constant
        tables.append(np.where(np.isnan(part), 0, part))
        masks.append(np.where(np.isnan(part), 0.0, 1.0))
        del block
    return np.concatenate(tables), np.concatenate(masks), float(np.sqrt(rows / most))


def _less_row_means(table: Any, weights: Any) -> tuple[Any, np.ndarray]:
    """Return a table less means of its rows, shrunk as if each had a cell more; them."""
    known = (weights > 0).sum(1)
    total = np.asarray((weights * table).sum(1)).reshape(-1)
    heights = np.asarray(weights.sum(1)).reshape(-1)
    known = np.asarray(known).reshape(-1)
    mean = total / np.where(heights > 0, heights, 1) * known / (known + 1)
    if not hasattr(table, "tocsr"):
        return np.where(weights > 0, table - mean[:, None], 0), mean
    rest = table.data - np.repeat(mean, np.diff(table.indptr))
    return type(table)((rest, table.indices, table.indptr), shape=table.shape), mean


class _Sweeps:
    r"""Sweeps of variational Bayes over a table, and the penalty that they imply.

    The model is x_ij = b_j + u_i^T v_j + e_ij with normal factors and noise of variance
    s / w_ij. The distribution of all factors given the observed cells is approximated by
    independent normal ones, of means u_i and v_j and covariances C_i and D_j [1]_; their
    prior variances A and B, b and s are those that maximize the bound. A row solves

    .. math::
        \Big( \sum_j w_{ij} (v_j v_j^T + D_j) + s A^{-1} \Big) u_i
        = \sum_j w_{ij} v_j (x_{ij} - b_j),

    where a point estimate has l2 in the place of what is added to the first term. With p_k
    the mean of its diagonal over the rows, and q_k that of its counterpart over the
    columns, the penalty of component k is :math:`\sqrt{p_k q_k}`, which does not depend on
    how the size of a component is shared out to U and V. For a complete table of m rows
    and n < m columns it tends to s m / d, d the singular value of the component, for which
    point estimates shrink as the posterior means of the marginal model do [2]_. The
    penalty of all is the largest one of those that have not vanished.

    Parameters
    ----------
    table, weights : float64 ndarray or csr array of shape (m, n)
        0 where a cell is missing.
    rank : int
    biased : bool
        Whether columns have offsets.

    References
    ----------
    .. [1] Lim and Teh (2007), "Variational Bayesian approach to movie rating prediction",
       KDD Cup. Ilin and Raiko (2010), "Practical approaches to principal component
       analysis in the presence of missing values", Journal of Machine Learning Research 11.
    .. [2] Tipping and Bishop (1999), "Probabilistic principal component analysis",
       Journal of the Royal Statistical Society B 61(3).
    """

    def __init__(self, table: Any, weights: Any, rank: int, *, biased: bool) -> None:
        self.sparse = hasattr(table, "tocsr")
        given = weights.data if self.sparse else weights
        self.count = max(int((given > 0).sum()), 1)
        # Weights of any size imply the same.
        heavy = float(given.sum()) / self.count or 1.0
        weights = weights / heavy
        self.weights, self.table, self.biased = weights, table, biased
        self.turned = weights.T.tocsr() if self.sparse else weights.T
        self.w, self.x = weights, table
        if self.sparse:
            self.rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
            self.w, self.x = weights.data, table.data
        self.heights = np.asarray(weights.sum(0)).reshape(-1)
        self.some_rows = np.asarray(weights.sum(1)).reshape(-1) > 0
        self.some_columns = self.heights > 0
        self.unit = float(np.abs(self.x).max(initial=0.0)) or 1.0
        self.scale = heavy * self.unit
        self.x = self.x / self.unit  # no square overflows or vanishes
        self.variance = float((self.w * np.square(self.x)).sum() / self.count)
        self._begin(min(rank, *table.shape), 0.5)

    def _begin(self, rank: int, share: float) -> None:
        """Set all that sweeps renew, the noise to a share of the variance."""
        self.U, self.V = self._first_factors(rank)
        self.C, self.D = (np.zeros((*part.shape, rank)) for part in (self.U, self.V))
        self.prior = np.ones(rank), np.ones(rank)
        self.added = np.ones(rank), np.ones(rank)
        self.offsets = np.zeros(self.table.shape[1])
        self.noise = self.variance * share

    def _first_factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the singular vectors of the table, each column in its weight."""
        counts = np.asarray((self.weights > 0).sum(0)).reshape(-1)
        over = np.sqrt(np.where(counts > 0, self.heights / np.maximum(counts, 1), 1))
        each = over[self.table.indices] if self.sparse else over
        left, values, right = leading_triples(self._weighted(self.x / each), rank)
        share = self.count / (self.table.shape[0] * self.table.shape[1])
        root = np.sqrt(values / share)
        return left * root, right * root / over[:, None]

    def fitted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the factors and the offsets, in the units of the table."""
        return self.U, self.V * self.unit, self.offsets * self.unit

    def ended(self) -> tuple[float, float]:
        """Return the share of noise, and the l2, where sweeps settle.

        The first sweeps take much for noise, and a weak component may vanish in it for
        good. Where one has, sweeps that begin with little noise tell whether there is any.
        """
        found = self._ended()
        (rows, columns), rank = self.table.shape, self.U.shape[1]
        spent = rank * (rows + columns - rank) + columns
        if found[0] > 0 and not self._live().all() and self.count > spent:
            other = copy.copy(self)
            other._begin(rank, FAINT)
            for _ in range(PATIENT):
                other.sweep()
                other.noise = min(other.noise, FAINT * self.variance)
            if other._ended()[0] == 0:
                return 0.0, 0.0
        return found

    def _ended(self) -> tuple[float, float]:
        """Sweep until the penalty has settled."""
        before = now = np.inf
        for sweep in range(SWEEPS):
            if self.noise <= VANISHED * self.variance:
                return 0.0, 0.0
            self.sweep()
            live = self._live()
            now = float(self.penalties()[live].max()) if live.any() else np.inf
            if sweep > 1 and (now == before or abs(now - before) <= SETTLED * now):
                break
            before = now
        # As many digits as it has, so that other units, and their roundings, give the same.
        return self.noise / self.variance, float(f"{now:.{DIGITS}g}") * self.scale

    def penalties(self) -> np.ndarray:
        """Return the penalty that each component implies."""
        found: np.ndarray = np.sqrt(self.added[0] * self.added[1])
        return found

    def sweep(self) -> None:
        """Renew the factors of the rows, those of the columns, and what they share."""
        product = self._weighted(self._centered())
        self.U, self.C, of_rows = self._half(
            self.weights, product, (self.V, self.D), self.prior[0]
        )
        turned = product.T
        self.V, self.D, of_columns = self._half(
            self.turned, turned, (self.U, self.C), self.prior[1]
        )
        self.added = (
            of_rows[self.some_rows].mean(0),
            of_columns[self.some_columns].mean(0),
        )
        self._turn()
        fits = self._fits()
        if self.biased:
            rest = np.asarray(self._weighted(self.x - fits).sum(0)).reshape(-1)
            self.offsets = rest / np.where(self.some_columns, self.heights, 1)
        left = (self.w * np.square(self._centered() - fits)).sum()
        C, D = (part.reshape(len(part), -1) for part in (self.C, self.D))
        left += ((self.turned @ C) * (_squares(self.V) + D)).sum()
        left += ((self.weights @ D) * _squares(self.U)).sum()
        self.noise = float(left) / self.count

    def _half(
        self,
        weights: Any,
        product: Any,
        other: tuple[np.ndarray, np.ndarray],
        prior: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return means and covariances of one side, and what is added to its diagonals."""
        means, covariances = other
        rank = means.shape[1]
        added = (weights @ covariances.reshape(len(means), -1)).reshape(-1, rank, rank)
        added = added + np.diag(self.noise / prior)
        gram = (weights @ _squares(means)).reshape(-1, rank, rank)
        inverse = np.linalg.inv(gram + added)
        solved = np.einsum("iab,ib->ia", inverse, product @ means)
        return solved, self.noise * inverse, np.einsum("iaa->ia", added)

    def _turn(self) -> None:
        """Turn the factors to prior variances of 1 for the rows, and to independent ones."""
        rows, columns = self.some_rows, self.some_columns
        A = self.U[rows].T @ self.U[rows] + self.C[rows].sum(0)
        B = self.V[columns].T @ self.V[columns] + self.D[columns].sum(0)
        a, Q = np.linalg.eigh(A / rows.sum())
        root = np.sqrt(np.maximum(a, LEAST))
        b, P = np.linalg.eigh((Q * root).T @ (B / columns.sum()) @ (Q * root))
        of_rows, of_columns = (Q / root) @ P, (Q * root) @ P
        self.U, self.V = self.U @ of_rows, self.V @ of_columns
        self.C = of_rows.T @ self.C @ of_rows
        self.D = of_columns.T @ self.D @ of_columns
        self.prior = np.ones(len(a)), np.maximum(b, LEAST)

    def _live(self) -> np.ndarray:
        """Return which components have not vanished."""
        known = np.square(self.U).sum(0)
        found: np.ndarray = known > LIVE * (known + np.einsum("iaa->a", self.C))
        return found

    def _weighted(self, x: np.ndarray) -> Any:
        """Return the weights times numbers of the cells, laid out as the table is."""
        if not self.sparse:
            return self.w * x
        parts = (self.w * x, self.table.indices, self.table.indptr)
        return type(self.table)(parts, shape=self.table.shape)

    def _fits(self) -> np.ndarray:
        """Return u_i^T v_j of the cells."""
        if not self.sparse:
            return self.U @ self.V.T
        pairs = self.U[self.rows], self.V[self.table.indices]
        return np.asarray(np.einsum("ij,ij->i", *pairs))

    def _centered(self) -> np.ndarray:
        offsets = self.offsets[self.table.indices] if self.sparse else self.offsets
        return np.asarray(self.x - offsets)


def _squares(factor: np.ndarray) -> np.ndarray:
    """Return x x^T of each row, flat."""
    return (factor[:, :, None] * factor[:, None, :]).reshape(len(factor), -1)
