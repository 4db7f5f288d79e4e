"""Variational Bayes for a table with noise, of which a penalty follows.

The model is not that of `descents.marginal.both_sides`: cells have weights in place of
random precisions of rows and columns, columns have fixed offsets, and there are no biases
or features. The sweeps work on dense and on sparse tables in closed form, with covariances
of both sides, because the penalty follows from these. So the two share no step.
"""

from __future__ import annotations

import copy

import numpy as np

from descents.linalg.spectra import leading_triples
from descents.lowrank.matrices import Matrix, SparseTable, is_sparse, like

SWEEPS = 500
"""The maximum number of sweeps."""

SETTLED = 1e-3
"""The sweeps end once one of them changes the penalty by less than this share."""

VANISHED = 1e-12
"""A noise with less than this share of the variance counts as no noise."""

DIGITS = 5
"""The number of significant digits of a penalty."""

LEAST = 1e-30

LIVE = 0.05
"""A component has vanished if its means have a smaller share of its mean square."""

FAINT = 1e-4
"""A share of noise at which no component vanishes."""

PATIENT = 30
"""The number of sweeps in which the noise is limited to it."""


class Sweeps:
    r"""Variational Bayes for the factors of a table, and the penalty that follows from it.

    The model is x_ij = b_j + u_i^T v_j + e_ij with normal factors and noise of variance
    s / w_ij. The distribution of all factors given the observed cells is approximated by
    independent normal distributions with means u_i and v_j and covariances C_i and D_j
    [1]_. Their prior variances A and B, b and s maximize the bound. A row solves

    .. math::
        \Big( \sum_j w_{ij} (v_j v_j^T + D_j) + s A^{-1} \Big) u_i
        = \sum_j w_{ij} v_j (x_{ij} - b_j),

    where a point estimate has l2 in place of the term :math:`\sum_j w_{ij} D_j + s A^{-1}`.
    Let p_k be the mean over the rows of the k-th entry of its diagonal, and q_k that of its
    counterpart over the columns. The penalty of component k is :math:`\sqrt{p_k q_k}`,
    which does not depend on how the size of the component is split between U and V. For a
    complete table of m rows and n < m columns it tends to s m / d, where d is the singular
    value of the component: point estimates then shrink as the posterior means of the
    marginal model do [2]_. The penalty of all components is the largest one of those that
    have not vanished.

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

    def __init__(
        self, table: Matrix, weights: Matrix, rank: int, *, biased: bool
    ) -> None:
        given = weights.data if is_sparse(weights) else weights
        self.count = max(int((given > 0).sum()), 1)
        # The size of the weights has no effect.
        heavy = float(given.sum()) / self.count or 1.0
        weights = weights / heavy
        self.weights, self.shape, self.biased = weights, table.shape, biased
        # The places of the cells of a sparse table.
        self.places: SparseTable | None = None
        if is_sparse(table) and is_sparse(weights):
            self.places = table
            self.rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
            self.w, self.x = weights.data, table.data
            self.turned: Matrix = weights.T.tocsr()
        else:
            self.w, self.x = np.asarray(weights), np.asarray(table)
            self.turned = self.w.T
        self.heights = np.asarray(weights.sum(0)).reshape(-1)
        self.some_rows = np.asarray(weights.sum(1)).reshape(-1) > 0
        self.some_columns = self.heights > 0
        self.unit = float(np.abs(self.x).max(initial=0.0)) or 1.0
        self.scale = heavy * self.unit
        self.x = self.x / self.unit  # no square overflows or vanishes
        self.variance = float((self.w * np.square(self.x)).sum() / self.count)
        self._begin(min(rank, *table.shape), 0.5)

    def _begin(self, rank: int, share: float) -> None:
        """Set the initial values, with the noise at a share of the variance."""
        self.U, self.V = self._first_factors(rank)
        self.C, self.D = (np.zeros((*part.shape, rank)) for part in (self.U, self.V))
        self.prior = np.ones(rank), np.ones(rank)
        self.added = np.ones(rank), np.ones(rank)
        self.offsets = np.zeros(self.shape[1])
        self.noise = self.variance * share

    def _first_factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the singular vectors of the table, with each column times its weight."""
        counts = np.asarray((self.weights > 0).sum(0)).reshape(-1)
        over = np.sqrt(np.where(counts > 0, self.heights / np.maximum(counts, 1), 1))
        each = over if self.places is None else over[self.places.indices]
        left, values, right = leading_triples(self._weighted(self.x / each), rank)
        share = self.count / (self.shape[0] * self.shape[1])
        root = np.sqrt(values / share)
        return left * root, right * root / over[:, None]

    def fitted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the factors and the offsets, in the units of the table."""
        return self.U, self.V * self.unit, self.offsets * self.unit

    @property
    def noise_of_a_cell(self) -> float:
        """The variance of the noise, times the mean weight, in the units of the table."""
        return self.noise * self.scale * self.unit

    def ended(self) -> tuple[float, float]:
        """Sweep until the penalty converges; return the share of noise and the l2.

        The first sweeps overestimate the noise, so that a weak component may vanish for
        good. If one has, sweeps that begin with little noise show whether there is any.
        """
        found = self._ended()
        (rows, columns), rank = self.shape, self.U.shape[1]
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
        """Sweep until the penalty converges."""
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
        # Rounded to the digits that are right, so that other units give the same.
        return self.noise / self.variance, float(f"{now:.{DIGITS}g}") * self.scale

    def penalties(self) -> np.ndarray:
        """Return the penalty of each component."""
        found: np.ndarray = np.sqrt(self.added[0] * self.added[1])
        return found

    def sweep(self) -> None:
        """Update the factors of the rows, those of the columns, offsets and noise."""
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
        weights: Matrix,
        product: Matrix,
        other: tuple[np.ndarray, np.ndarray],
        prior: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return means and covariances of one side, and the diagonals of the l2 term."""
        means, covariances = other
        rank = means.shape[1]
        added = (weights @ covariances.reshape(len(means), -1)).reshape(-1, rank, rank)
        added = added + np.diag(self.noise / prior)
        gram = (weights @ _squares(means)).reshape(-1, rank, rank)
        inverse = np.linalg.inv(gram + added)
        solved = np.einsum("iab,ib->ia", inverse, product @ means)
        return solved, self.noise * inverse, np.einsum("iaa->ia", added)

    def _turn(self) -> None:
        """Rotate the factors to independent ones, with prior variances of 1 for the rows."""
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

    def _weighted(self, x: np.ndarray) -> Matrix:
        """Return the weights times numbers of the cells, in the layout of the table."""
        if self.places is None:
            return self.w * x
        return like(self.places, self.w * x)

    def _fits(self) -> np.ndarray:
        """Return u_i^T v_j of the cells."""
        if self.places is None:
            return self.U @ self.V.T
        pairs = self.U[self.rows], self.V[self.places.indices]
        return np.asarray(np.einsum("ij,ij->i", *pairs))

    def _centered(self) -> np.ndarray:
        offsets = self.offsets
        if self.places is not None:
            offsets = offsets[self.places.indices]
        return np.asarray(self.x - offsets)


def _squares(factor: np.ndarray) -> np.ndarray:
    """Return the outer product of each row with itself, as a row."""
    return (factor[:, :, None] * factor[:, None, :]).reshape(len(factor), -1)
