"""The steps of variational Bayes with both sides integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from descents.marginal.both_parameters import (
    Gamma,
    Sides,
    each,
    moments,
    narrowed,
    stacked,
    widened,
)
from descents.marginal.both_rows import expected_squares
from descents.marginal.both_sides import BothSides, Sums
from descents.marginal.both_turns import turned, without
from descents.optim.problem import Bound, Parameters
from descents.optim.rules import State, Update, UpdateRule

HELD = 5
"""Number of first steps that change factors alone: scales that are too small would shrink
factors to 0 before these are fitted."""
REMOVE_EVERY = 5
"""Number of steps between attempts to remove components."""
FIRST_REMOVAL = 7
"""The step of the first attempt. It is early because a step of a large table takes three
times as long with twice the components that it needs."""
LEAST_KNOWN = 0.1
"""A component is removed if the posterior variances of the factors of both sides are more
than 1 less this share of their prior variance, and the loss does not rise."""
LEAST_NOISE = 1e-10
"""The smallest variance of noise, in units of the variance of the data."""
LEAST_OF_SINGLE = 1e-3
"""Sums are in single precision if the variance of noise is larger than this share of the
variance of the data: residual sums of squares then have relative errors of 1e-4."""
SLOWEST = 0.98
"""The remaining gain is extrapolated from ratios of successive falls of at most this."""
LEAST_DEGREES, MOST_DEGREES = 0.5, 1e4
"""The range of the degrees of freedom of the noise."""


@dataclass(frozen=True)
class CoordinateAscent(UpdateRule):
    """Coordinate ascent on the bound of `descents.marginal.both_sides.BothSides`.

    A step minimizes the loss in turn over q(w), q(rho), q(z), q(kappa), the noise and the
    degrees of freedom. Then it shifts and rotates the factors in the way that minimizes
    the loss without changing any prediction, which also minimizes over the scales [1]_,
    over q(B) and over the gains of features. The first 5 steps change factors alone. Every
    5 steps, components whose factors the data do not determine are removed. The loss never
    rises.

    A start is stationary if the loss can still fall by less than the square of the
    tolerance, in nats per cell: 0.001 nats correspond to a thousandth of the standard
    deviation of the noise.

    Parameters
    ----------
    single : bool
        Whether sums over cells are taken in single precision if the noise is large
        enough: steps of a large table then take about half the time.
    gradients : bool
        Whether the gradient is computed, for its norms at the beginning and the end;
        otherwise they are NaN.

    References
    ----------
    .. [1] Ilin and Raiko (2010), "Practical approaches to principal component analysis
       in the presence of missing values", Journal of Machine Learning Research 11.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from descents import Stop, descend
    >>> ratings = sparse.random_array((30, 20), density=0.4, rng=0)
    >>> runs = descend(BothSides(ratings, rank=2), steps=CoordinateAscent(), stop=Stop(9),
    ...                record=range(10))
    >>> bool((np.diff(runs.histories["loss"][:, 0]) <= 1e-12).all())
    True
    """

    single: bool = False
    gradients: bool = True

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return the state before the first step."""
        unknown = torch.full((len(parameters["mean"]),), torch.inf, dtype=torch.float64)
        return {"before": {"loss": unknown, "fall": unknown}}

    def mapping(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Parameters:
        """Return the gradient."""
        if not self.gradients:
            return {"mean": torch.full_like(parameters["mean"], torch.nan)}
        return bound.losses_and_gradients(parameters, step)[1]

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step; losses are those of the given parameters.

        The mapping is the gradient after q(rho) is updated, which is the gradient of the
        loss at a fixed point of the steps.
        """
        problem = bound.problem
        assert isinstance(problem, BothSides)  # noqa: S101
        moved, losses, gradients = [], [], []
        for given in each(parameters):
            one = narrowed(given)
            single = self.single and bool(one.noise.exp() > LEAST_OF_SINGLE)
            found = problem.sums(one, renew=True, single=single)
            losses.append(found.loss)
            if self.gradients:
                gradients.append(problem.gradient(given, found))
            if bool(found.loss.isfinite()):
                better = improved(problem, one, found, whole=step >= HELD)
                if step == FIRST_REMOVAL or (
                    step > FIRST_REMOVAL and step % REMOVE_EVERY == REMOVE_EVERY - 1
                ):
                    better = fewer(problem, better, single=single)
                moved.append(widened(better, problem.rank))
            else:
                moved.append(given)
        if self.gradients:
            mapping = stacked(gradients)
        else:
            mapping = self.mapping(bound, parameters, state, step)
        loss = torch.stack(losses)
        fall = (state["before"]["loss"] - loss).clamp(min=0)
        ratio = (fall / state["before"]["fall"]).nan_to_num(0.0).clamp(0.0, SLOWEST)
        remembered = {"before": {"loss": loss, "fall": fall}}
        gain = fall / (1 - ratio)
        scale = torch.ones_like(fall)  # the tolerance is in nats per cell
        return Update(stacked(moved), remembered, loss, mapping, gain, scale)


def improved(problem: BothSides, one: Sides, found: Sums, *, whole: bool) -> Sides:
    """Return better parameters from sums over rows weighted by the optimal q(rho).

    Unless `whole` is true, only the factors and q(rho) change.
    """
    with torch.no_grad():
        one = one._replace(row_rates=found.row_rates)
        better, covariances = _with_columns(problem, one, found)
        if not whole:
            spreads = torch.linalg.cholesky(covariances)
            return one._replace(factors=better.factors, spreads=spreads)
        one = better
        return turned(problem, one, found, covariances)


def _with_columns(
    problem: BothSides, one: Sides, found: Sums
) -> tuple[Sides, torch.Tensor]:
    """Return the optimal q(z), q(kappa), noise and degrees, and the covariances of q(z)."""
    rank, scales = len(one.scales) - 2, one.scales
    # q(z) of column j is N(P^{-1} r, P^{-1}), with `own` the scales S of its entries:
    # P = I + kappa_j / sigma^2 S G S with G = sum_i rho_i E[h h^T] for `inner`, and
    # r = D^T g_j + kappa_j / sigma^2 S sum_i rho_i E[h (x - s_a a_i - m)] for `right`.
    here = [*range(rank), rank + 1]
    own, noise = scales[here], one.noise.exp()
    rho, kappa = problem.precisions(one)
    prior = problem.column_prior(one, problem.sightings.columns)
    gram = found.second
    weight = kappa.mean / noise
    right = found.along - scales[rank] * gram[:, rank] - one.mean * gram[:, rank + 1]
    right = prior + weight[:, None] * own * right[:, here]
    inner = gram[:, here][:, :, here] * torch.outer(own, own)
    inner = weight[:, None, None] * inner + torch.eye(len(own), dtype=gram.dtype)
    covariances = torch.cholesky_inverse(torch.linalg.cholesky(inner))
    one = one._replace(factors=(covariances @ right[:, :, None])[:, :, 0])
    # q(kappa_j) = Gamma(nu / 2 + n_j / 2, nu / 2 + sum_i rho_i E[e_ij^2] / (2 sigma^2)),
    # and sigma^2 is the mean of the squared errors with the weights rho_i kappa_j.
    off = expected_squares(*moments(one, covariances), gram, found.along, found.squares)
    rates = one.degrees[1].exp() / 2 + off / (2 * noise)
    best = Gamma(kappa.shape, rates).mean
    noise = ((best @ off) / problem.count).clamp(min=LEAST_NOISE)
    counts = problem.row_counts, problem.column_counts
    degrees, logs = [], []
    for k, mean in enumerate((rho.mean, best)):
        # Dividing all precisions of a side and the noise by their mean does not change
        # the likelihood, and a mean of 1 is optimal for the prior.
        level = mean.mean()
        noise = noise / level
        degree = best_degrees(counts[k], mean / level, float(one.degrees[k]))
        degrees.append(degree)
        logs.append(((degree.exp() + counts[k]) * level / (2 * mean)).log())
    one = one._replace(
        noise=noise.log().reshape(1),
        degrees=torch.stack(degrees),
        row_rates=logs[0],
        column_rates=logs[1],
    )
    return one, covariances


def best_degrees(
    counts: torch.Tensor, means: torch.Tensor, log_degrees: float
) -> torch.Tensor:
    """Return the logarithm of the optimal degrees of freedom, given the means of q(rho).

    With shapes s = (nu + counts) / 2 and means m, the part of the loss that depends on nu is

        sum(s log s - lgamma(s) - s + lgamma(nu / 2) - nu / 2 (log(nu / 2) + log m - m)).

    Parameters
    ----------
    counts : Tensor of shape (n,)
        The numbers of cells; the shapes of q(rho) are half of them plus half of the
        degrees.
    means : Tensor of shape (n,)
    log_degrees : float
        The present value, which is returned unless another one is better.
    """
    cells, times = (
        torch.from_numpy(part) for part in np.unique(counts, return_counts=True)
    )
    shift = float((means - means.log()).sum())

    def loss(logarithm: float) -> float:
        half = torch.tensor(logarithm, dtype=torch.float64).exp() / 2
        shapes = half + cells / 2
        each = shapes * shapes.log() - shapes.lgamma() - shapes
        prior = half.lgamma() - half * half.log()
        return float(each @ times.double() + len(means) * prior + half * shift)

    low, high = torch.tensor([LEAST_DEGREES, MOST_DEGREES]).double().log().tolist()
    found = minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": 1e-2}
    )
    best = float(found.x) if found.fun < loss(log_degrees) else log_degrees
    return torch.tensor(best, dtype=torch.float64)


def fewer(problem: BothSides, one: Sides, *, single: bool) -> Sides:
    """Return parameters without components that the data do not determine.

    Such a component has posterior variances near the prior variance of 1 in the factors of
    both sides. It is removed if that does not raise the loss. All of them are tried
    together, then the last one alone.
    """
    rank = len(one.scales) - 2
    known = 1 - one.spreads.square().sum((0, 2))[:rank] / problem.columns
    if not bool((known < LEAST_KNOWN).any()):
        return one
    found = problem.sums(one, renew=False, single=single)
    of_rows = 1 - found.covariances.diagonal()[:rank] / problem.rows
    unknown = (known < LEAST_KNOWN) & (of_rows < LEAST_KNOWN)
    places = unknown.nonzero()[:, 0].tolist()
    for some in (places, places[-1:]):
        if some:
            other = without(one, some)
            if problem.sums(other, renew=False, single=single).loss <= found.loss:
                return other
    return one
