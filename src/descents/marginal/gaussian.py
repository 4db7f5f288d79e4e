"""The likelihood of the observed cells, with the factors of rows integrated out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError
from descents.marginal.patterns import Batch, Patterns, grouped
from descents.optim.collective import ALONE, Collective
from descents.optim.problem import Parameters, Problem
from descents.validation import one_of, real_number, whole_number

Noise = Literal["columns", "equal"]
Point = Mapping[str, torch.Tensor]
"""The mean, the loadings and the noise of one start, by name."""

LEAST_NOISE = 1e-10
"""The smallest variance of noise, so that covariances can be inverted."""
LOG_2PI = float(np.log(2 * np.pi))


class Parts(NamedTuple):
    """The parameters of one start."""

    mean: torch.Tensor
    loadings: torch.Tensor
    noise: torch.Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the completed rows of a table, given their observed cells.

    Attributes
    ----------
    loss : Tensor
        The penalized negative log likelihood per observed cell.
    shift : Tensor of shape (d,)
        The mean of the completed rows minus the mean of the model.
    second : Tensor of shape (d, d)
        E[(x - m)(x - m)^T], averaged over rows; m is the mean of the model.
    """

    loss: torch.Tensor
    shift: torch.Tensor
    second: torch.Tensor


class Marginal(Problem):
    r"""A Gaussian model of the rows of a table, with their factors integrated out.

    Row i is x_i = m + V u_i + e_i, with factors u_i ~ N(0, I) and noise e_i ~ N(0, D), D
    diagonal. The factors are integrated out, so that x_i ~ N(m, C) with C = V V^T + D.
    The loss of a start is

    .. math::
        \frac{1}{N} \Big[ -\sum_i \log N(x_{io}; m_o, C_{oo})
        + \frac{n}{2} \mathrm{tr}(C^{-1} \Lambda)
        + \frac{k d}{2} (\log|C| - \log|D|) \Big],

    over the n rows and their N observed cells. The second term adds the variances in the
    diagonal matrix Lambda to the observed covariance, so that no variance of noise becomes
    0 [1]_. The third term shrinks the eigenvalues of D^{-1/2} C D^{-1/2} towards 1, and
    removes components whose variance is at most k d / n times that of the noise.

    Parameters
    ----------
    features : array of shape (n, d)
        NaN where missing. Columns should have comparable variances.
    rank : int, optional
        The number of columns of V, by default d.
    noise : {"columns", "equal"}
        Whether D has one variance for each column, or one for all columns.
    ridge : float or array of shape (d,)
        The diagonal of Lambda, at least 0.
    strength : float
        k, at least 0.
    weights : array of shape (n,), optional
        Weights of the rows; n is then their sum.
    together : Collective
        Processes that share the table. Each has some rows in `features`; the parameters,
        losses and moments are those of all rows, and the same in all processes.

    References
    ----------
    .. [1] Tipping and Bishop (1999), "Probabilistic principal component analysis",
       Journal of the Royal Statistical Society B 61(3). Rubin and Thayer (1982), "EM
       algorithms for ML factor analysis", Psychometrika 47(1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(50, 1)) * [1.0, 2.0, -1.0] + rng.normal(size=(50, 3))
    >>> table[::3, 1] = np.nan
    >>> from descents import Stop, descend
    >>> from descents.marginal.em import EM
    >>> problem = Marginal(table, rank=1, ridge=0.01)
    >>> runs = descend(problem, steps=EM(), stop=Stop(500, gradient_tol=1e-6))
    >>> runs.statuses[0].name
    'STATIONARY'
    """

    dtype = torch.float64

    def __init__(
        self,
        features: np.ndarray,
        rank: int | None = None,
        *,
        noise: Noise = "columns",
        ridge: float | np.ndarray = 0.0,
        strength: float = 0.0,
        weights: np.ndarray | None = None,
        together: Collective = ALONE,
    ) -> None:
        features = np.asarray(features, dtype=np.float64)
        complaints = Complaints()
        complaints.require(
            features.ndim == 2 and min(features.shape) > 0,
            f"features have shape {features.shape}; give a matrix of rows and columns",
        )
        complaints.attempt(one_of, "noise", noise, ("columns", "equal"))
        complaints.attempt(real_number, "strength", strength, 0)
        if rank is not None:
            complaints.attempt(whole_number, "rank", rank, 0, features.shape[-1])
        complaints.raise_any()
        self.rows, self.columns = features.shape
        self.rank = self.columns if rank is None else rank
        self.noise, self.strength = noise, float(strength)
        self.ridge = torch.as_tensor(
            np.broadcast_to(np.asarray(ridge, np.float64), (self.columns,)).copy()
        )
        if not bool((self.ridge >= 0).all() and self.ridge.isfinite().all()):
            raise InvalidValueError(f"ridge is {ridge}; give numbers of at least 0")
        self.patterns: Patterns = grouped(features, weights)
        seen = ~np.isnan(features)
        share = np.ones(self.rows) if weights is None else np.asarray(weights)
        # Sums over rows are those of all processes.
        self.together = together
        own = np.array([self.patterns.weight, self.patterns.cells])
        counts, sums, own = together.sum_arrays(
            share @ seen, share @ np.where(seen, features, 0), own
        )
        self.weight, self.observed = own.tolist()
        if not self.observed:
            raise InvalidValueError(
                "features have no observed cell; give a table that has some"
            )
        counts[counts == 0] = 1
        self._center = sums / counts
        spread = np.where(seen, features - self._center, 0)
        (sums,) = together.sum_arrays(share @ np.square(spread))
        self._spread = np.maximum(sums / counts, LEAST_NOISE)
        self.size = self.columns * max(self.columns, 1)
        self._before: Point | None = None

    def begin_at(self, point: Point | None) -> None:
        """Let start 0 begin at a point, if its shapes are those of this problem."""
        shapes = {"mean": (self.columns,), "loadings": (self.columns, self.rank)}
        fits = point is not None and all(
            tuple(point[name].shape) == shape for name, shape in shapes.items()
        )
        self._before = point if fits else None

    @property
    def full(self) -> bool:
        """Whether the model has every covariance that is at least the ridge."""
        return (
            self.rank == self.columns and self.noise == "columns" and not self.strength
        )

    @property
    def loss_scale(self) -> float:
        """One nat for each observed cell."""
        return 1.0

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Return the observed means, half of the variances as noise, and random loadings.

        At full rank, start 0 has diagonal loadings, so that columns are independent. Other
        starts have normal loadings.
        """
        if start == 0 and self._before is not None:
            return {name: part.numpy() for name, part in self._before.items()}
        half = np.sqrt(self._spread / 2)
        if start == 0 and self.rank == self.columns:
            loadings = np.diag(half)
        else:
            loadings = generator.normal(size=(self.columns, self.rank))
            loadings *= half[:, None] / np.sqrt(max(self.rank, 1))
        noise = np.log(self._spread / 2)
        if self.noise == "equal":
            noise = np.log(self._spread.mean(keepdims=True) / 2)
        return {"mean": self._center, "loadings": loadings, "noise": noise}

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the loss of each start, in nats per observed cell."""
        return torch.stack([self._expected(one).loss for one in each(parameters)])

    def moments(self, one: Parts) -> Moments:
        """Return the loss of one start, and the moments of the completed rows."""
        with torch.no_grad():
            return self._expected(one, moments=True)

    def fused(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Parameters]:
        """Return losses and gradients from the moments of the completed rows.

        By Fisher's identity, the gradient of the likelihood of the observed cells is that
        of the expected likelihood of completed rows. With the second moments S and
        P = C^{-1}, the derivative of N times the loss by C is
        n/2 (P - P (S + Lambda) P) + k d/2 P.
        """
        losses, gradients = [], []
        for one in each(parameters):
            found = self.moments(one)
            losses.append(found.loss)
            gradients.append(self.gradient(one, found))
        return torch.stack(losses), stacked(gradients)

    def gradient(self, one: Parts, found: Moments) -> Parts:
        """Return the gradient of the loss of one start from its moments."""
        _, loadings, noise = one
        variances = self.variances(noise)
        inverse = torch.linalg.inv(covariance(loadings, variances))
        weight, prior = self.weight, self.strength * self.columns
        second = found.second + torch.diag(self.ridge)
        # The derivative by C; that by V is twice its product with V, and that by log D is
        # its diagonal times D. log|D| has the derivative -k d/2 by each log D.
        slope = weight * (inverse - inverse @ second @ inverse) + prior * inverse
        slope = slope / (2 * self.observed)
        of_noise = slope.diagonal() * variances - prior / (2 * self.observed)
        if self.noise == "equal":
            of_noise = of_noise.sum(0, keepdim=True)
        of_mean = -weight / self.observed * (inverse @ found.shift)
        return Parts(of_mean, 2 * slope @ loadings, of_noise)

    def variances(self, noise: torch.Tensor) -> torch.Tensor:
        """Return the variances of the noise of each column, from their logarithms."""
        return noise.exp().clamp(min=LEAST_NOISE).expand(self.columns)

    def _expected(self, one: Parts, *, moments: bool = False) -> Moments:
        r"""Return the loss, and if `moments` is true also those of the completed rows.

        With P = C^{-1}, o the observed and m the missing features of a row, and d_o the
        difference from the mean (0 at the missing features),

            log|C_oo| = log|C| + log|P_mm|,
            d_o^T C_oo^{-1} d_o = d^T P d - t^T P_mm^{-1} t,   t = (P d)_m,
            E[d_m | d_o] = -P_mm^{-1} t,   Cov[d_m | d_o] = P_mm^{-1},

        so that the work for a row depends on how many of its features are missing. In the
        code, `off` is d, `along` is P d, and `conditional` returns the Cholesky factors of
        P_mm, E[d_m | d_o] and t.
        """
        mean, loadings, noise = one
        data, variances = self.patterns, self.variances(noise)
        factor, failed = torch.linalg.cholesky_ex(covariance(loadings, variances))
        if bool(failed) or not bool(factor.isfinite().all()):
            lost = loadings.sum() * torch.nan
            return Moments(lost, mean * lost, loadings @ loadings.T * lost)
        inverse = torch.cholesky_inverse(factor)
        log_det = 2 * factor.diagonal().log().sum()
        # d = x - m; compressed rows have `constants` in place of 1.
        off = data.values - data.constants[:, None] * (data.observed * mean)
        along = off @ inverse
        logs, squares = data.weight * log_det, (off * along).sum()
        completed = off.clone() if moments else off
        wider = self.columns + 1
        spread = torch.zeros(wider, wider, dtype=inverse.dtype)
        for batch in data.batches:
            if batch.missing.shape[1] == 0:
                continue
            factors, guess, slopes = conditional(batch, inverse, along[batch.rows])
            logs = logs + 2 * (
                factors.diagonal(dim1=1, dim2=2).log().sum(1) @ batch.weights
            )
            squares = squares + (slopes * guess).sum()  # - t^T P_mm^{-1} t
            if moments:  # E[d d^T] = E[d] E[d]^T + P_mm^{-1}
                places = batch.missing[batch.pattern]
                completed[batch.rows].scatter_add_(1, places, guess)
                batch.add(spread, torch.cholesky_inverse(factors))
        sums = {"logs": logs, "squares": squares}
        if moments:
            sums["second"] = completed.T @ completed + spread[:-1, :-1]
            sums["shift"] = data.constants @ completed
        sums = self.together.sums(sums)
        prior = self.strength * self.columns
        doubled = self.observed * LOG_2PI + sums["logs"] + sums["squares"]
        doubled = doubled + self.weight * (inverse.diagonal() @ self.ridge)
        if prior:
            doubled = doubled + prior * (log_det - variances.log().sum())
        loss = doubled / (2 * self.observed)
        if not moments:
            return Moments(loss, mean, inverse)
        return Moments(loss, sums["shift"] / self.weight, sums["second"] / self.weight)


def each(parameters: Parameters) -> list[Parts]:
    """Return the parameters of each start."""
    mean, loadings, noise = (parameters[name].unbind(0) for name in Parts._fields)
    return [Parts(*one) for one in zip(mean, loadings, noise, strict=True)]


def stacked(ones: Sequence[Parts]) -> Parameters:
    """Return the parameters of several starts by name."""
    return {
        name: torch.stack([getattr(one, name) for one in ones])
        for name in Parts._fields
    }


def covariance(loadings: torch.Tensor, variances: torch.Tensor) -> torch.Tensor:
    """Return V V^T + D.

    Examples
    --------
    >>> covariance(torch.tensor([[1.0], [2.0]]), torch.tensor([0.5, 0.5]))
    tensor([[1.5000, 2.0000],
            [2.0000, 4.5000]])
    """
    return loadings @ loadings.T + torch.diag(variances)


def conditional(
    batch: Batch, inverse: torch.Tensor, along: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the conditional expectations of missing features, given the observed ones.

    Parameters
    ----------
    batch : Batch
    inverse : Tensor of shape (d, d)
        P, the inverse of the covariance.
    along : Tensor of shape (rows, d)
        P d for each row of the batch.

    Returns
    -------
    factors : Tensor of shape (patterns, m, m)
        The Cholesky factors of P_mm.
    guess : Tensor of shape (rows, m)
        E[d_m | d_o] = -P_mm^{-1} t; 0 in the padding.
    slopes : Tensor of shape (rows, m)
        t = (P d)_m.
    """
    factors = torch.linalg.cholesky(batch.blocks(inverse))
    slopes = batch.entries(along)
    if len(batch.pattern) == len(batch.weights):  # one row per pattern
        mine = factors
    else:
        mine = factors[batch.pattern]
    guess = -torch.cholesky_solve(slopes[:, :, None], mine)[:, :, 0]
    return factors, guess, slopes
