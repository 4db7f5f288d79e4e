"""The steps of variational Bayes with both sides integrated out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from scipy.optimize import minimize_scalar

from descents.marginal.both_sides import (
    LEAST_NOISE,
    BothSides,
    Gamma,
    Sides,
    Sums,
    each,
    expected_squares,
    moments,
    narrowed,
    stacked,
    widened,
)
from descents.problems.problem import Bound, Parameters
from descents.problems.rules import State, Update, UpdateRule

HELD = 5
"""The first steps change factors alone: scales that are too small for factors that are
not known yet would draw these to 0."""
REMOVE_EVERY = 10
"""After so many steps it is tried whether the loss falls without a component."""
LEAST_KNOWN = 0.05
"""The share of a component's variance that has to be known of either side's factors."""
LEAST_SCALE = 1e-6
"""Components of smaller scale are removed, in units of the data."""
SLOWEST = 0.98
"""The remaining gain is extrapolated from ratios of successive falls of at most this."""
LEAST_DEGREES, MOST_DEGREES = 0.5, 1e4
"""Where the degrees of freedom of the noise are looked for."""


@dataclass(frozen=True)
class CoordinateAscent(UpdateRule):
    """Coordinate ascent on the bound of `descents.marginal.both_sides.BothSides`.

    A step takes in turn the best q(w), q(rho), q(z), q(kappa), noise, degrees, and q(B)
    with the gains of features. Then the factors are shifted and rotated to the best of
    those that leave every prediction as it is, which gives the best scales at once
    [1]_. Every 10 steps,
    components that nothing is known of are removed. The first steps change factors alone. The loss never rises.

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
        return bound.losses_and_gradients(parameters, step)[1]

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step; losses are those of the given parameters.

        The mapping is the gradient after rho is renewed, which is the gradient of the
        loss where the steps stop.
        """
        problem = bound.problem
        assert isinstance(problem, BothSides)  # noqa: S101
        moved, losses, gradients = [], [], []
        for given in each(parameters):
            one = narrowed(given)
            found = problem.sums(one, renew=True)
            losses.append(found.loss)
            gradients.append(problem.gradient(given, found))
            if bool(found.loss.isfinite()):
                better = improved(problem, one, found, whole=step >= HELD)
                if step > HELD and step % REMOVE_EVERY == REMOVE_EVERY - 1:
                    better = fewer(problem, better)
                moved.append(widened(better, problem.rank))
            else:
                moved.append(given)
        loss = torch.stack(losses)
        fall = (state["before"]["loss"] - loss).clamp(min=0)
        ratio = (fall / state["before"]["fall"]).nan_to_num(0.0).clamp(0.0, SLOWEST)
        remembered = {"before": {"loss": loss, "fall": fall}}
        gain = fall / (1 - ratio)
        return Update(stacked(moved), remembered, loss, stacked(gradients), gain)


def improved(problem: BothSides, one: Sides, found: Sums, *, whole: bool) -> Sides:
    """Return better parameters from sums over rows weighted by the best rho.

    Noise, scales and gains stay as they are unless `whole` is true.
    """
    with torch.no_grad():
        one = one._replace(row_rates=found.row_rates)
        better, covariances = _with_columns(problem, one, found)
        if not whole:
            return one._replace(factors=better.factors, spreads=better.spreads)
        one = better
        return _turned(problem, one, found, covariances)


def _with_columns(
    problem: BothSides, one: Sides, found: Sums
) -> tuple[Sides, torch.Tensor]:
    """Return the best q(z), q(kappa) and noise, and the covariances of q(z)."""
    rank, scales = len(one.scales) - 2, one.scales
    here = [*range(rank), rank + 1]
    own, noise = scales[here], one.noise.exp()
    rho, kappa = problem.precisions(one)
    features = problem.sightings.columns
    gains = one.column_gains.square()
    shrunk = gains / (1 + problem.columns * gains)
    prior = features @ (shrunk[:, None] * (features.T @ one.factors))
    gram = found.second
    weight = kappa.mean / noise
    right = found.along - scales[rank] * gram[:, rank] - one.mean * gram[:, rank + 1]
    right = prior + weight[:, None] * own * right[:, here]
    inner = gram[:, here][:, :, here] * torch.outer(own, own)
    inner = weight[:, None, None] * inner + torch.eye(len(own), dtype=gram.dtype)
    covariances = torch.cholesky_inverse(torch.linalg.cholesky(inner))
    one = one._replace(
        factors=(covariances @ right[:, :, None])[:, :, 0],
        spreads=torch.linalg.cholesky(covariances),
    )
    off = expected_squares(*moments(one), gram, found.along, found.squares)
    rates = one.degrees[1].exp() / 2 + off / (2 * noise)
    best = Gamma(kappa.shape, rates).mean
    noise = ((best @ off) / problem.count).clamp(min=LEAST_NOISE)
    counts = problem.row_counts, problem.column_counts
    degrees, logs = [], []
    for k, mean in enumerate((rho.mean, best)):
        degree = best_degrees(counts[k], mean, float(one.degrees[k]))
        degrees.append(degree)
        logs.append(((degree.exp() + counts[k]) / (2 * mean)).log())
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
    """Return the logarithm of the best degrees of freedom, for given means of q(rho).

    Parameters
    ----------
    counts : Tensor of shape (n,)
        The numbers of cells; the shapes of q(rho) are half of them plus half of the
        degrees.
    means : Tensor of shape (n,)
    log_degrees : float
        Those so far, which are returned if none are better.
    """

    def loss(logarithm: float) -> float:
        half = torch.tensor(logarithm, dtype=torch.float64).exp() / 2
        shapes = half + counts / 2
        gamma = Gamma(shapes, shapes / means)
        return float(gamma.divergence(half).sum() - gamma.log_mean @ counts / 2)

    low, high = torch.tensor([LEAST_DEGREES, MOST_DEGREES]).double().log().tolist()
    near = max(low, log_degrees - 1), min(high, log_degrees + 1)
    found = minimize_scalar(
        loss, bounds=near, method="bounded", options={"xatol": 1e-2}
    )
    best = float(found.x) if found.fun < loss(log_degrees) else log_degrees
    return torch.tensor(best, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Side:
    """The moments of the factors of one side, over all n rows or columns.

    Attributes
    ----------
    count : int
        n.
    second : Tensor of shape (q, q)
        sum E[w w^T].
    total : Tensor of shape (q,)
        sum E[w].
    seen : Tensor of shape (p, q)
        F^T E[w].
    features : Tensor of shape (p,)
        F^T 1.
    gains : Tensor of shape (p,)
    """

    count: int
    second: torch.Tensor
    total: torch.Tensor
    seen: torch.Tensor
    features: torch.Tensor
    gains: torch.Tensor

    def moved(self, matrix: torch.Tensor, shift: torch.Tensor) -> Side:
        """Return the moments of A w + shift."""
        total = matrix @ self.total
        cross = torch.outer(total, shift)
        own = self.count * torch.outer(shift, shift)
        return replace(
            self,
            second=matrix @ self.second @ matrix.T + cross + cross.T + own,
            total=total + self.count * shift,
            seen=self.seen @ matrix.T + torch.outer(self.features, shift),
        )

    def unexplained(self) -> torch.Tensor:
        """Return the second moments about what features say of w, with the best q(B)."""
        shrunk = self.gains.square() / (1 + self.count * self.gains.square())
        return self.second - self.seen.T @ (shrunk[:, None] * self.seen)

    def mean_moments(self) -> torch.Tensor:
        """Return mean second moments, those of the features' weights over gains included.

        Each feature of gain above 0 counts as a row: the covariance of its weights, and
        what is lost of w by it, add up to I.
        """
        used = int((self.gains > 0).sum())
        own = used * torch.eye(len(self.second), dtype=self.second.dtype)
        return (self.unexplained() + own) / (self.count + used)


def _shear(one: Side, other: Side, scales: torch.Tensor) -> torch.Tensor:
    """Return the best shift of the factors of one side, of which biases take the rest.

    u -> u + c and b -> b - (s c)^T v / s_b leave every prediction as it is. With C the
    unexplained moments of (v, b), and features that have a constant of gain r first, what
    depends on c is the quadratic

        (2 c^T sum E[u] + n |c|^2) / (1 + n r^2) - 2 g^T C_vb + g^T C_vv g, g = s c / s_b.
    """
    rank = len(scales) - 1
    first = one.gains[:1].square().sum()
    weight = 1 / (1 + one.count * first)
    ratio = scales[:rank] / scales[rank]
    inner = other.unexplained()
    left = inner[:rank, :rank] * torch.outer(ratio, ratio)
    left = left + one.count * weight * torch.eye(rank, dtype=left.dtype)
    right = ratio * inner[:rank, rank] - weight * one.total[:rank]
    return torch.linalg.solve(left, right)


def _turned(
    problem: BothSides, one: Sides, found: Sums, covariances: torch.Tensor
) -> Sides:
    """Return the best parameters among those with the same predictions.

    Factors may be shifted where the biases of the other side make up for it, biases where
    the common mean does, and factors may be multiplied by a matrix where those of the
    other side are by its inverse. Shifts are found by `_shear`. With M and N the mean
    moments of u and v, M = L L^T and N = R R^T, and the singular values P S Q^T of
    L^T diag(s) R, the best factors are P^T L^{-1} u and Q^T R^{-1} v with scales S: the
    mean moments become I. Biases are rescaled alone.
    """
    rank, scales = len(one.scales) - 2, one.scales
    features = problem.sightings
    rows = Side(
        problem.rows,
        found.gram + found.covariances,
        found.total,
        found.seen,
        features.rows.sum(0),
        one.row_gains,
    )
    columns = Side(
        problem.columns,
        one.factors.T @ one.factors + covariances.sum(0),
        one.factors.sum(0),
        features.columns.T @ one.factors,
        features.columns.sum(0),
        one.column_gains,
    )
    eye = torch.eye(rank + 1, dtype=scales.dtype)
    of_columns, off_columns = eye, torch.zeros_like(eye[0])
    of_rows = eye
    still = torch.zeros_like(eye[0])
    if rank and bool((scales[rank:] > LEAST_SCALE).all()):
        own = scales[[*range(rank), rank + 1]]
        shift = torch.cat([_shear(rows, columns, own), still[:1]])
        of_columns = eye.clone()
        of_columns[rank, :rank] = -own[:rank] * shift[:rank] / own[rank]
        rows, columns = rows.moved(eye, shift), columns.moved(of_columns, still)
        own = scales[: rank + 1]
        off_columns = torch.cat([_shear(columns, rows, own), still[:1]])
        of_rows = eye.clone()
        of_rows[rank, :rank] = -own[:rank] * off_columns[:rank] / own[rank]
        rows, columns = rows.moved(of_rows, still), columns.moved(eye, off_columns)
    # Biases have mean 0.
    last = eye[rank]
    means = rows.total[rank] / rows.count, columns.total[rank] / columns.count
    mean = one.mean + scales[rank] * means[0] + scales[rank + 1] * means[1]
    rows, columns = (
        rows.moved(eye, -means[0] * last),
        columns.moved(eye, -means[1] * last),
    )
    off_columns = off_columns - means[1] * last
    row_gains, weights = best_gains(rows.seen, rows.count)
    column_gains, _ = best_gains(columns.seen, columns.count)
    rows, columns = replace(rows, gains=row_gains), replace(columns, gains=column_gains)
    # The rotation.
    of_both = rows.mean_moments(), columns.mean_moments()
    left, right = (torch.linalg.cholesky(each[:rank, :rank]) for each in of_both)
    p, values, q = torch.linalg.svd(left.T @ (scales[:rank, None] * right))
    roots = torch.stack([each[rank, rank].sqrt() for each in of_both])
    turns = torch.zeros(2, rank + 1, rank + 1, dtype=scales.dtype)
    turns[0, :rank, :rank] = p.T @ torch.linalg.inv(left)
    turns[1, :rank, :rank] = q @ torch.linalg.inv(right)
    turns[:, rank, rank] = 1 / roots
    matrix = turns[1] @ of_columns
    turned = matrix @ covariances @ matrix.T
    one = one._replace(
        mean=mean,
        scales=torch.cat([values, scales[rank:] * roots]),
        factors=one.factors @ matrix.T + turns[1] @ off_columns,
        spreads=torch.linalg.cholesky((turned + turned.mT) / 2),
        weights=weights @ turns[0].T,
        row_gains=row_gains,
        column_gains=column_gains,
    )
    small = (values < LEAST_SCALE).nonzero()[:, 0].tolist()
    return without(one, small) if small else one


def best_gains(seen: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best gains of features, and the means of their weights over the gains.

    The features F of n rows have F^T F = n I, so that each has its own optimum: with
    c = F^T w of the q factors, r^2 = (|c|^2 - q n) / (q n^2) where that is positive, else
    0, and the mean of its weights is c r^2 / (1 + n r^2).

    Parameters
    ----------
    seen : Tensor of shape (p, q)
        F^T E[w].
    count : int
        n.
    """
    q = seen.shape[1]
    squares = (seen.square().sum(1) - q * count) / (q * count**2)
    gains = squares.clamp(min=0).sqrt()
    return gains, seen * (gains / (1 + count * gains.square()))[:, None]


def without(one: Sides, places: list[int]) -> Sides:
    """Return parameters without some components."""
    scales, spreads = one.scales.clone(), one.spreads.clone()
    scales[places] = 0.0
    spreads[:, places], spreads[:, :, places] = 0.0, 0.0
    # What is left of each covariance is that of the other components.
    rank = len(scales) - 2
    stay = [k for k in range(rank + 1) if k not in places]
    block = one.spreads[:, stay]
    spreads[:, torch.tensor(stay)[:, None], torch.tensor(stay)] = torch.linalg.cholesky(
        block @ block.mT
    )
    return narrowed(one._replace(scales=scales, spreads=spreads))


def fewer(problem: BothSides, one: Sides) -> Sides:
    """Return parameters without components that nothing is known of.

    Where factors of both sides have nearly their prior variance of 1, a component says
    next to nothing. It is left out if that does not raise the loss.
    """
    rank = len(one.scales) - 2
    known = 1 - one.spreads.square().sum((0, 2))[:rank] / problem.columns
    if not bool((known < LEAST_KNOWN).any()):
        return one
    found = problem.sums(one, renew=False)
    of_rows = 1 - found.covariances.diagonal()[:rank] / problem.rows
    unknown = (known < LEAST_KNOWN) & (of_rows < LEAST_KNOWN)
    places = unknown.nonzero()[:, 0].tolist()
    for some in (places, places[-1:]):
        if some:
            other = without(one, some)
            if problem.sums(other, renew=False).loss <= found.loss:
                return other
    return one
