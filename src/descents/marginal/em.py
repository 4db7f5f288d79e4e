"""The steps of EM: expected moments of completed rows, then the best model of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from descents.marginal.gaussian import (
    LEAST_NOISE,
    Marginal,
    Moments,
    Parts,
    covariance,
    each,
    stacked,
)
from descents.optim.problem import Bound, Parameters
from descents.optim.rules import State, Update, UpdateRule

ROUNDS = 3
"""Number of times that noise and loadings are updated in turn in one step of EM."""
HALVINGS = 4
"""Number of times that a change of the noise is halved while it raises the loss."""
MOST_EXTRAPOLATED = 8.0
"""The largest factor of an extrapolation."""
SLOWEST = 0.95
"""The largest ratio of successive gains from which the remaining gain is extrapolated."""


@dataclass(frozen=True)
class EM(UpdateRule):
    """Expectation-maximization for `descents.marginal.gaussian.Marginal` [1]_.

    Each step computes the moments of the completed rows (E), and then the mean, the loadings
    and the noise that minimize the expected loss of the completed rows (M). The loss never
    rises.

    Parameters
    ----------
    accelerate : bool
        Whether the moments of completed rows are extrapolated by a factor that grows as
        long as the loss falls [2]_. If the loss rises, the step is replaced by the plain
        one.

    References
    ----------
    .. [1] Dempster, Laird and Rubin (1977), "Maximum likelihood from incomplete data via
       the EM algorithm", Journal of the Royal Statistical Society B 39(1).
    .. [2] Salakhutdinov and Roweis (2003), "Adaptive overrelaxed bound optimization
       methods", ICML.

    Examples
    --------
    A complete table needs one step:

    >>> import numpy as np
    >>> from descents import Stop, descend
    >>> table = np.random.default_rng(0).normal(size=(30, 3))
    >>> problem = Marginal(table, rank=1, noise="equal")
    >>> runs = descend(problem, steps=EM(), stop=Stop(2))
    >>> [round(float(x), 3) for x in runs.losses]
    [1.329]
    """

    accelerate: bool = True

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return the state before the first step, which is not extrapolated."""
        problem = bound.problem
        assert isinstance(problem, Marginal)  # noqa: S101
        count, width = len(next(iter(parameters.values()))), problem.columns
        unknown = torch.full((count,), torch.inf, dtype=torch.float64)
        return {
            "before": {
                "gain": unknown,
                "loss": unknown,
                "factor": torch.zeros_like(unknown),
                "mean": torch.zeros(count, width, dtype=torch.float64),
                "second": torch.zeros(count, width, width, dtype=torch.float64),
            },
            "plain": dict(parameters),
        }

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step; losses are those of the parameters that it starts from.

        These are the given parameters, or the plain ones of the last step if its
        extrapolation raised the loss.
        """
        problem = bound.problem
        assert isinstance(problem, Marginal)  # noqa: S101
        before = state["before"]
        moved, plain, known, losses, gains, gradients = [], [], [], [], [], []
        for place, given in enumerate(each(parameters)):
            one = given
            factor, last = before["factor"][place], before["loss"][place]
            found = problem.moments(one)
            if factor > 0 and not found.loss <= last:
                one = each(state["plain"])[place]
                found, factor = problem.moments(one), factor * 0
                grown = factor
            else:
                grown = (factor * 1.5 + 0.25).clamp(max=MOST_EXTRAPOLATED)
            losses.append(found.loss)
            gradients.append(problem.gradient(one, found))
            target = Target.of(found, one[0])
            if not bool(found.loss.isfinite()):
                best, gain, ahead = one, found.loss, one
            else:
                best, gain = maximized(problem, one, found, target)
                ahead = best
                if self.accelerate and step > 0 and grown > 0:
                    old = Target(before["mean"][place], before["second"][place])
                    further = target.beyond(old, float(grown))
                    ahead, _ = maximized(problem, one, found, further)
            moved.append(ahead)
            plain.append(best)
            gains.append(gain)
            known.append((gain, found.loss, grown, target.mean, target.second))
        gain = torch.stack(gains)
        # EM converges linearly: with the ratio r of successive gains, the sum of all
        # remaining gains is the gain times 1 / (1 - r).
        ratio = (gain / before["gain"]).nan_to_num(0.0).clamp(0.0, SLOWEST)
        columns = (torch.stack(some) for some in zip(*known, strict=True))
        remembered = {
            "before": dict(zip(before, columns, strict=True)),
            "plain": stacked(plain),
        }
        return Update(
            stacked(moved),
            remembered,
            torch.stack(losses),
            stacked(gradients),
            gain / (1 - ratio),
        )


@dataclass(frozen=True, eq=False)
class Target:
    """The mean and the covariance of completed rows, without the ridge."""

    mean: torch.Tensor
    second: torch.Tensor

    @classmethod
    def of(cls, found: Moments, mean: torch.Tensor) -> Target:
        """Return the target with given moments about a mean."""
        centered = found.second - torch.outer(found.shift, found.shift)
        return cls(mean + found.shift, centered)

    def beyond(self, before: Target, factor: float) -> Target:
        """Return the target extrapolated from the one before."""
        return Target(
            torch.lerp(before.mean, self.mean, 1 + factor),
            torch.lerp(before.second, self.second, 1 + factor),
        )


def maximized(
    problem: Marginal, one: Parts, found: Moments, target: Target
) -> tuple[Parts, torch.Tensor]:
    """Return the M step: the optimal model of completed rows, and how much it lowers the loss.

    Returns
    -------
    best : Parts
    gain : Tensor
        The fall of the expected loss of completed rows, per observed cell. The loss of
        the observed cells falls by at least as much.
    """
    ridge = torch.diag(problem.ridge)
    _, loadings, noise = one
    before = _expected_loss(problem, loadings, noise, found.second + ridge)
    second = target.second + ridge
    if problem.full:
        # C = S + Lambda is the optimal covariance: V V^T = S, and D = Lambda.
        noise = problem.ridge.clamp(min=LEAST_NOISE).log()
        values, vectors = torch.linalg.eigh(target.second)
        loadings = (vectors * values.clamp(min=0).sqrt()).flip(1)
    elif problem.noise == "equal":
        loadings, noise = _equal_noise(problem, second)
    else:
        loadings, noise = _noise_of_columns(problem, noise, second)
    after = _expected_loss(problem, loadings, noise, second)
    return Parts(target.mean, loadings, noise), (before - after).clamp(min=0)


def _expected_loss(
    problem: Marginal, loadings: torch.Tensor, noise: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """Return the loss of completed rows with second moments S + Lambda, per observed cell.

    n/2 (log|C| + tr(C^{-1} (S + Lambda))) + k d/2 (log|C| - log|D|).
    """
    variances = problem.variances(noise)
    factor = torch.linalg.cholesky(covariance(loadings, variances))
    log_det = 2 * factor.diagonal().log().sum()
    trace = torch.cholesky_solve(second, factor).trace()
    prior = problem.strength * problem.columns
    doubled = problem.weight * (log_det + trace)
    doubled = doubled + prior * (log_det - variances.log().sum())
    return doubled / (2 * problem.observed)


def _equal_noise(
    problem: Marginal, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the optimal loadings and noise if all columns have one variance s.

    For q components with eigenvalues L_1 >= ... >= L_q of the target, the eigenvalues of
    C are l_i = n L_i / (n + k d) and s otherwise, and (Tipping and Bishop, equation 8,
    has k = 0)

        s = n (L_{q+1} + ... + L_d) / (n (d - q) - k d q).

    Among all q up to the rank with l_q >= s, the one with the smallest loss is taken.
    """
    weight, prior = problem.weight, problem.strength * problem.columns
    values, vectors = torch.linalg.eigh(target)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    width = problem.columns
    shrunk = values * weight / (weight + prior)
    tails = values.flip(0).cumsum(0).flip(0)  # L_{q+1} + ... + L_d
    best: tuple[float, int, float] | None = None
    for count in range(min(problem.rank, width - 1) + 1):
        freedom = weight * (width - count) - prior * count
        if freedom <= 0:
            break
        variance = max(weight * float(tails[count]) / freedom, LEAST_NOISE)
        if count and float(shrunk[count - 1]) < variance * (1 - 1e-12):
            break
        kept = shrunk[:count].clamp(min=LEAST_NOISE)
        # Twice the loss: (n + k d) sum log l_i + n sum L_i / l_i for the components, and
        # (n (d - q) - k d q) log s + n (L_{q+1} + ... + L_d) / s for the rest, because
        # log|D| = d log s.
        doubled = float(
            (weight + prior) * kept.log().sum()
            + weight * (values[:count] / kept).sum()
            + freedom * torch.tensor(variance).double().log()
            + weight * tails[count] / variance
        )
        if best is None or doubled < best[0]:
            best = (doubled, count, variance)
    assert best is not None  # noqa: S101
    _, count, variance = best
    loadings = torch.zeros(width, problem.rank, dtype=torch.float64)
    sizes = (shrunk[:count] - variance).clamp(min=0).sqrt()
    loadings[:, :count] = vectors[:, :count] * sizes
    return loadings, torch.full((1,), variance, dtype=torch.float64).log()


def _noise_of_columns(
    problem: Marginal, noise: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return better loadings and noise, by updating each for the other in turn.

    Given the noise D, the optimal loadings are D^{1/2} U (l - 1)^{1/2} with the eigenvectors
    U and eigenvalues L of D^{-1/2} (S + Lambda) D^{-1/2}, and l = n L / (n + k d) where
    that is above 1. At the optimal noise, the derivative of the loss by D is 0, which means
    D = diag(S + Lambda - (1 + k d / n) V V^T). The noise is set to that; while the loss
    would rise, the change of its logarithm is halved.
    """
    more = 1 + problem.strength * problem.columns / problem.weight
    loadings, loss = _best_loadings(problem, noise, target)
    for _ in range(ROUNDS):
        explained = more * loadings.square().sum(1)
        least = problem.ridge.clamp(min=LEAST_NOISE)
        goal = torch.maximum(target.diagonal() - explained, least).log()
        for _ in range(HALVINGS):
            other, lower = _best_loadings(problem, goal, target)
            if lower <= loss:
                loadings, noise, loss = other, goal, lower
                break
            goal = (goal + noise) / 2
        else:
            break
    return loadings, noise


def _best_loadings(
    problem: Marginal, noise: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Return the optimal loadings for a noise, and twice the loss of both.

    They are D^{1/2} U (l - 1)^{1/2}, as `_noise_of_columns` explains.
    """
    weight, prior = problem.weight, problem.strength * problem.columns
    roots = problem.variances(noise).sqrt()
    values, vectors = torch.linalg.eigh(target / torch.outer(roots, roots))
    values, vectors = values.flip(0), vectors.flip(1)
    values, vectors = values.clamp(min=0), vectors[:, : problem.rank]
    kept = (values[: problem.rank] * weight / (weight + prior)).clamp(min=1.0)
    loadings = roots[:, None] * vectors * (kept - 1).sqrt()
    doubled = (
        (weight + prior) * kept.log().sum()
        + weight * (values[: problem.rank] / kept).sum()
        + weight * values[problem.rank :].sum()
        + weight * 2 * roots.log().sum()
    )
    return loadings, float(doubled)
