"""Ratings with the factors of rows and of columns integrated out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from descents.errors import Complaints, InvalidValueError
from descents.marginal.both_parameters import (
    Gamma,
    Sides,
    each,
    moments,
    narrowed,
    stacked,
)
from descents.marginal.both_rows import (
    View,
    csr,
    expected_squares,
    posterior,
    unpacked,
)
from descents.marginal.gaussian import LOG_2PI
from descents.marginal.sightings import Sightings, sightings
from descents.optim.problem import Parameters, Problem
from descents.validation import whole_number

RANK = 20
"""Number of components at the beginning of a fit; those that are not needed are removed."""


def default_rank(cells: sparse.csr_array) -> int:
    """Return 20, or the largest number with no more factors than observed cells.

    With more components, the descent may end at a local minimum where the noise explains
    everything.

    Parameters
    ----------
    cells : scipy csr_array of shape (n, d)

    Examples
    --------
    >>> default_rank(sparse.csr_array(np.ones((30, 6)))), default_rank(sparse.eye_array(9, format="csr"))
    (5, 1)
    """
    factors = np.count_nonzero(np.diff(cells.indptr)) + len(np.unique(cells.indices))
    return min(RANK, cells.shape[1] - 1, max(1, int(cells.nnz // factors)))


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over all rows, from which columns and shared parameters are updated.

    With h_i = (u_i, a_i, 1), the first three sums go over the cells of each column.

    Attributes
    ----------
    loss : Tensor
        Per observed cell, at the given parameters.
    second : Tensor of shape (d, K + 2, K + 2)
        sum_i rho_i E[h_i h_i^T].
    along : Tensor of shape (d, K + 2)
        sum_i rho_i x_ij E[h_i].
    squares : Tensor of shape (d,)
        sum_i rho_i x_ij^2.
    gram : Tensor of shape (q, q)
        sum_i E[w_i] E[w_i]^T, w_i = (u_i, a_i), over all rows.
    covariances : Tensor of shape (q, q)
        sum_i Cov[w_i].
    total : Tensor of shape (q,)
        sum_i E[w_i].
    seen : Tensor of shape (p, q)
        F^T E[w], for the features F of the rows.
    row_rates : Tensor of shape (n,)
        Logarithms of the rates of the optimal q(rho_i).
    row_squares : Tensor of shape (n,)
        As in `Posterior`.
    """

    loss: torch.Tensor
    second: torch.Tensor
    along: torch.Tensor
    squares: torch.Tensor
    gram: torch.Tensor
    covariances: torch.Tensor
    total: torch.Tensor
    seen: torch.Tensor
    row_rates: torch.Tensor
    row_squares: torch.Tensor


class BothSides(Problem):
    r"""Sparse ratings with the factors of rows and of columns integrated out.

    The observed cells are

    .. math::
        x_{ij} = m + s_a a_i + s_b b_j + \sum_k s_k u_{ik} v_{jk} + e_{ij},
        \qquad e_{ij} \sim N(0, \sigma^2 / (\rho_i \kappa_j)).

    A bias is a component whose counterpart is 1, so that it is integrated out too. Row factors w_i = (u_i, a_i) have the prior N(B^T f_i, I) and column factors
    z_j = (v_j, b_j) the prior N(D^T g_j, I). The features f_i and g_j say which cells are
    observed (`descents.marginal.sightings`), which may depend on the ratings. B
    and D have independent normal entries with variances r_f^2 and c_f^2 of each feature.
    rho_i and kappa_j have Gamma priors with mean 1 and shapes nu / 2, so that some rows and
    columns may be noisier than others.

    The loss of a start is the negative evidence lower bound of Gaussian variational Bayes
    in nats per observed cell [1]_ [2]_, the minimum over q of

    .. math::
        \frac{1}{N} \Big[ -E_q \log p(x \mid w, z, \rho, \kappa)
        + KL(q(w) q(z) q(\rho) q(\kappa) q(B) q(D) \| p) \Big],

    where q(w) and q(D) are optimal given the rest, in closed form, and the others are
    parameters (`Sides`). With h_i = (w_i, 1), c_j = (s_k v_jk, s_a, m + s_b b_j), a
    cell is h_i^T c_j + e_ij, and the posterior of row i is N(P^{-1} r, P^{-1}), where

    .. math::
        P = I + \rho_i \sum_j \kappa_j E[c_j c_j^T] / \sigma^2, \qquad
        r = B^T f_i + \rho_i \sum_j \kappa_j E[c_j (x_{ij} - m - s_b b_j)] / \sigma^2,

    with c_j without its last entry. The scales s are standard deviations of components.
    As the prior variances of both factors are 1, the scale of a component that is not
    needed shrinks to 0 [3]_ [4]_.

    Internally the data have mean 0 and variance 1. Rows are processed in blocks, but the
    covariances of all columns are in memory, so rows should be the longer side.

    Parameters
    ----------
    table : scipy sparse array of shape (n, d)
        Stored entries are data, including zeros; all other cells are missing. The table is
        never made dense.
    rank : int, optional
        K, by default `default_rank`.

    References
    ----------
    .. [1] Bishop (1999), "Variational principal components", ICANN. Lim and Teh (2007),
       "Variational Bayesian approach to movie rating prediction", KDD Cup.
    .. [2] Lakshminarayanan, Bouchard and Archambeau (2011), "Robust Bayesian matrix
       factorisation", AISTATS.
    .. [3] Ilin and Raiko (2010), "Practical approaches to principal component analysis
       in the presence of missing values", Journal of Machine Learning Research 11.
    .. [4] Nakajima and Sugiyama (2011), "Theoretical analysis of Bayesian matrix
       factorization", Journal of Machine Learning Research 12.

    Examples
    --------
    >>> from descents import Stop, descend
    >>> from descents.marginal.both_steps import CoordinateAscent
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(40, 1)) * rng.normal(size=30) + 3
    >>> values += 0.1 * rng.normal(size=(40, 30))
    >>> table = sparse.coo_array(values * (rng.random((40, 30)) < 0.5))
    >>> problem = BothSides(table, rank=3)
    >>> runs = descend(problem, steps=CoordinateAscent(), stop=Stop(300, 1e-4))
    >>> int(np.count_nonzero(runs.parameters["scales"][0, :3]))
    1
    """

    dtype = torch.float64

    def __init__(self, table: sparse.sparray, rank: int | None = None) -> None:
        complaints = Complaints()
        complaints.require(
            sparse.issparse(table) and table.ndim == 2,
            f"table is a {type(table).__name__}; give a sparse matrix of scipy with the "
            "observed cells as its stored entries",
        )
        if rank is not None:
            complaints.attempt(whole_number, "rank", rank, 0)
        complaints.raise_any()
        cells = sparse.csr_array(table)
        if not cells.nnz or not np.isfinite(cells.data).all():
            raise InvalidValueError(
                f"table has {cells.nnz} stored entries, of which "
                f"{int(np.isfinite(cells.data).sum())} are finite; give a table with "
                "observed cells, all of them finite"
            )
        if not cells.has_canonical_format:
            cells = cells.copy()  # the caller's table must not change
            cells.sum_duplicates()
        values = cells.data.astype(np.float64)
        center = float(values.mean())
        size = float(np.abs(values).max()) or 1.0  # so that no square overflows
        unit = float((values / size).std()) * size or 1.0
        indices = cells.indices.astype(np.int32, copy=False)
        self._keep(
            csr((values - center) / unit, indices, cells.indptr, cells.shape[1]),
            default_rank(cells) if rank is None else rank,
            (center, unit),
            sightings(csr(None, indices, cells.indptr, cells.shape[1])),
        )

    def _keep(
        self,
        cells: sparse.csr_array,
        rank: int,
        scale: tuple[float, float],
        features: Sightings,
    ) -> None:
        self.rows, self.columns = cells.shape
        self.cells, self.count, self.rank = cells, cells.nnz, rank
        self.center, self.unit = scale
        self.sightings = features
        self.row_counts = torch.from_numpy(np.diff(cells.indptr).astype(np.float64))
        self.column_counts = torch.from_numpy(
            np.bincount(cells.indices, minlength=self.columns).astype(np.float64)
        )
        self.size = self.columns * (self.rank + 1) ** 2

    @classmethod
    def of_parts(
        cls,
        cells: sparse.csr_array,
        rank: int,
        scale: tuple[float, float],
        features: Sightings,
    ) -> BothSides:
        """Return a problem from the attributes of another one.

        Parameters
        ----------
        cells : scipy csr_array of shape (n, d)
            With mean 0 and variance 1.
        rank : int
        scale : tuple of float
            `center` and `unit`.
        features : Sightings
        """
        problem = cls.__new__(cls)
        problem._keep(cells, rank, scale, features)
        return problem

    @property
    def loss_scale(self) -> float:
        """One nat for each observed cell."""
        return 1.0

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Return normal column factors, a quarter of the variance as noise, no features.

        The components have half of the variance, in equal shares.
        """
        q, p = self.rank + 1, self.sightings.count
        factors = generator.normal(size=(self.columns, q))
        factors[:, -1] = 0.0
        scales = np.full(q + 1, 0.5)
        scales[: self.rank] = np.sqrt(0.5 / max(self.rank, 1))
        rates = 5 + self.row_counts.numpy() / 2, 5 + self.column_counts.numpy() / 2
        return {
            "mean": np.zeros(1),
            "scales": scales,
            "noise": np.log([0.25]),
            "degrees": np.log([10.0, 10.0]),
            "row_rates": np.log(rates[0]),
            "column_rates": np.log(rates[1]),
            "factors": factors,
            "spreads": np.tile(0.5 * np.eye(q), (self.columns, 1, 1)),
            "weights": np.zeros((p, q)),
            "row_gains": np.zeros(p),
            "column_gains": np.zeros(p),
        }

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the loss of each start, in nats per observed cell.

        If a gradient is recorded, the sums go over single cells, which is for small tables;
        `fused` is for large ones.
        """
        return torch.stack([self._loss(one) for one in each(parameters)])

    def fused(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Parameters]:
        """Return losses and gradients from the sums over rows.

        As q(w) is optimal, the gradient is that of the bound at constant q(w).
        """
        losses, gradients = [], []
        for one in each(parameters):
            found = self.sums(one, renew=False)
            losses.append(found.loss)
            gradients.append(self.gradient(one, found))
        return torch.stack(losses), stacked(gradients)

    def _loss(self, one: Sides) -> torch.Tensor:
        one = narrowed(one)
        if torch.is_grad_enabled() and any(part.requires_grad for part in one):
            means, second = moments(one)
            rho, kappa = self.precisions(one)
            cells = self.cells.tocoo()
            i, j = (torch.from_numpy(at.astype(np.int64)) for at in cells.coords)
            x = torch.from_numpy(cells.data)
            weight = kappa.mean[j]
            zeros = torch.zeros(self.rows, *second.shape[1:], dtype=x.dtype)
            gram = zeros.index_add(0, i, weight[:, None, None] * second[j])
            along = zeros[:, 0].index_add(0, i, (weight * x)[:, None] * means[j])
            squares = zeros[:, 0, 0].index_add(0, i, weight * x.square())
            prior = self.row_prior(one)
            rows = posterior(gram, along, squares, rho.mean, one.noise.exp(), prior)
            return self._total(one, rows.terms.sum())
        return self.sums(one, renew=False).loss

    def precisions(self, one: Sides) -> tuple[Gamma, Gamma]:
        """Return q(rho) and q(kappa)."""
        shapes = one.degrees.exp() / 2
        return (
            Gamma(shapes[0] + self.row_counts / 2, one.row_rates.exp()),
            Gamma(shapes[1] + self.column_counts / 2, one.column_rates.exp()),
        )

    def row_prior(self, one: Sides) -> torch.Tensor:
        """Return E[B]^T f of all rows, shape (n, q)."""
        return self.sightings.rows @ (one.row_gains[:, None] * one.weights)

    def column_prior(self, one: Sides, features: torch.Tensor) -> torch.Tensor:
        """Return E[D]^T g of columns with some features, shape (columns, q).

        For features with F^T F = d I and the variances c^2 of D, the optimal q(D) has the
        mean c^2 / (1 + d c^2) F^T E[z].
        """
        gains = one.column_gains.square()
        shrunk = gains / (1 + self.columns * gains)
        return features @ (shrunk[:, None] * (self.sightings.columns.T @ one.factors))

    def sums(self, one: Sides, *, renew: bool, single: bool = False) -> Sums:
        """Return the sums over all rows, added up in blocks.

        Parameters
        ----------
        one : Sides
            Without removed components: see `narrowed`.
        renew : bool
            Whether rows have the weights of the optimal q(rho_i) in place of the given ones.
        single : bool
            Whether sums over the cells of a block are taken in single precision.
        """
        with torch.no_grad():
            return self._sums(
                narrowed(one), renew, torch.float32 if single else torch.float64
            )

    def _sums(self, one: Sides, renew: bool, dtype: torch.dtype) -> Sums:
        rho, kappa = self.precisions(one)
        view = View.of(one, kappa.mean, dtype)
        q = view.means.shape[1] - 1
        noise, shape = one.noise.exp(), one.degrees[0].exp() / 2
        upper = torch.triu_indices(q + 1, q + 1)
        second = np.zeros((self.columns, upper.shape[1]))
        along, squares = np.zeros((self.columns, q + 1)), np.zeros(self.columns)
        gram, covariances = torch.zeros(2, q, q, dtype=torch.float64)
        seen = torch.zeros(self.sightings.count, q, dtype=torch.float64)
        total, terms = torch.zeros(q, dtype=torch.float64), torch.zeros(1).double()
        rates, row_squares = torch.empty(2, self.rows, dtype=torch.float64)
        for place, block in view.blocks(self.cells):
            features = self.sightings.rows[place]
            rows = view.rows(block, features, rho.mean[place])
            # q(rho_i) = Gamma(nu / 2 + n_i / 2, nu / 2 + sum_j kappa_j E[e_ij^2] /
            # (2 sigma^2)); `best` is its rate.
            best = shape + rows.squares / (2 * noise)
            weight = rho.shape[place] / best if renew else rho.mean[place]
            rates[place], row_squares[place] = best.log(), rows.squares
            means, both = rows.lifted
            means, both = means.to(dtype), both[:, upper[0], upper[1]].to(dtype)
            level = weight.to(dtype)
            second += block.pattern.T @ (level[:, None] * both).numpy()
            along += block.values.T @ (level[:, None] * means).numpy()
            squares += block.squares.T @ level.numpy()
            gram += rows.means.T @ rows.means
            covariances += rows.covariances.sum(0)
            total += rows.means.sum(0)
            seen += features.T @ rows.means
            terms += rows.terms.sum()
        return Sums(
            self._total(one, terms.sum()),
            unpacked(torch.from_numpy(second), q + 1),
            torch.from_numpy(along),
            torch.from_numpy(squares),
            gram,
            covariances,
            total,
            seen,
            rates,
            row_squares,
        )

    def _total(self, one: Sides, terms: torch.Tensor) -> torch.Tensor:
        """Return the loss per cell from the terms of the rows."""
        rows = self.rows * one.row_gains.square()
        q = one.factors.shape[1]
        doubled = one.weights.square().sum() + q * rows.log1p().sum()
        return (self._shared(one) + terms + doubled / 2) / self.count

    def _shared(self, one: Sides) -> torch.Tensor:
        """Return N times the terms of the loss that do not depend on the factors of rows."""
        rho, kappa = self.precisions(one)
        shapes = one.degrees.exp() / 2
        # -E[log p(x)] without the squared errors: log(2 pi sigma^2) / 2 - (E[log rho_i] +
        # E[log kappa_j]) / 2 for each cell. Then KL(q(rho) || p) and KL(q(kappa) || p).
        total = self.count / 2 * (LOG_2PI + one.noise.sum())
        total = total - rho.log_mean @ self.row_counts / 2
        total = total - kappa.log_mean @ self.column_counts / 2
        total = (
            total + rho.divergence(shapes[0]).sum() + kappa.divergence(shapes[1]).sum()
        )
        # KL(q(z) q(D) || p) with the optimal q(D), doubled: |E[z]|^2 less the part that
        # features explain, log-determinants of q(D), and tr(Cov) - log|Cov| - q of q(z).
        q, gains = one.factors.shape[1], self.columns * one.column_gains.square()
        seen = self.sightings.columns.T @ one.factors
        shrunk = gains / (1 + gains) / self.columns
        doubled = one.factors.square().sum() - seen.square().sum(1) @ shrunk
        doubled = doubled + q * gains.log1p().sum()
        spreads = one.spreads.tril()
        diagonal = spreads.diagonal(dim1=1, dim2=2)
        doubled = doubled + spreads.square().sum() - 2 * diagonal.abs().log().sum()
        return total + (doubled - one.factors.numel()) / 2

    def gradient(self, one: Sides, found: Sums) -> Sides:
        """Return the gradient of the loss of one start from its sums."""
        leaves = Sides(*(part.detach().requires_grad_() for part in one))
        with torch.enable_grad():
            loss = self._expected(narrowed(leaves), found)
            gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
        return Sides(*gradients)

    def _expected(self, one: Sides, found: Sums) -> torch.Tensor:
        """Return the bound per cell at constant q(w), up to a constant."""
        means, second = moments(one)
        rho, kappa = self.precisions(one)
        squares = expected_squares(
            means, second, found.second, found.along, found.squares
        )
        noise = one.noise.exp()
        terms = (kappa.mean * squares).sum() / (2 * noise)
        # The sums have the weights rho, as constants. This term is 0, and its gradient by
        # rho is that of the squared errors of the rows.
        terms = terms + (rho.mean - rho.mean.detach()) @ found.row_squares / (
            2 * noise.detach()
        )
        # -E[log p(w | B)] = -sum f^T E[B] E[w] + n |E[B]|^2 / 2, as F^T F = n I.
        gains = one.row_gains[:, None] * one.weights
        terms = terms - (gains * found.seen).sum()
        terms = terms + self.rows / 2 * gains.square().sum()
        return self._total(one, terms.sum())
