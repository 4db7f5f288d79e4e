"""The parameters of one start with both sides integrated out, and their moments."""

from __future__ import annotations

from typing import NamedTuple

import torch

from descents.optim.problem import Parameters


class Sides(NamedTuple):
    """The parameters of one start; K components, q = K + 1, p features of each side.

    A component whose scale is exactly 0 is not part of the model.
    """

    mean: torch.Tensor
    """m, shape (1,)."""
    scales: torch.Tensor
    """s: the scales of the components, of row biases and of column biases, shape (K + 2,)."""
    noise: torch.Tensor
    """log sigma^2, shape (1,)."""
    degrees: torch.Tensor
    """log nu: the degrees of freedom of rows and of columns, shape (2,)."""
    row_rates: torch.Tensor
    """Logarithms of the rates of q(rho_i), shape (n,)."""
    column_rates: torch.Tensor
    """Logarithms of the rates of q(kappa_j), shape (d,)."""
    factors: torch.Tensor
    """The means of q(v_j, b_j), shape (d, q)."""
    spreads: torch.Tensor
    """Lower triangular factors of the covariances of q(v_j, b_j), shape (d, q, q)."""
    weights: torch.Tensor
    """The means of q(B) divided by the gains, shape (p, q)."""
    row_gains: torch.Tensor
    """Standard deviations of the rows of B, shape (p,)."""
    column_gains: torch.Tensor
    """Standard deviations of the rows of D, shape (p,)."""


class Gamma(NamedTuple):
    """Gamma distributions with given shapes and rates."""

    shape: torch.Tensor
    rate: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """The expectation."""
        return self.shape / self.rate

    @property
    def log_mean(self) -> torch.Tensor:
        """The expectation of the logarithm."""
        return self.shape.digamma() - self.rate.log()

    def divergence(self, half: torch.Tensor) -> torch.Tensor:
        """Return KL(Gamma(shape, rate) || Gamma(half, half))."""
        return (
            (self.shape - half) * self.shape.digamma()
            - self.shape.lgamma()
            + half.lgamma()
            + half * (self.rate.log() - half.log())
            + self.mean * (half - self.rate)
        )


def each(parameters: Parameters) -> list[Sides]:
    """Return the parameters of each start."""
    parts = (parameters[name].unbind(0) for name in Sides._fields)
    return [Sides(*one) for one in zip(*parts, strict=True)]


def stacked(ones: list[Sides]) -> Parameters:
    """Return the parameters of several starts by name."""
    return {
        name: torch.stack([getattr(one, name) for one in ones])
        for name in Sides._fields
    }


def kept(one: Sides) -> torch.Tensor:
    """Return the positions of the components that are not removed, and of the bias."""
    rank = len(one.scales) - 2
    there = one.scales[:rank] != 0
    return torch.cat([torch.nonzero(there)[:, 0], torch.tensor([rank])])


def narrowed(one: Sides) -> Sides:
    """Return the parameters without those of removed components."""
    here = kept(one)
    if len(here) == one.factors.shape[1]:
        return one
    return one._replace(
        scales=one.scales[torch.cat([here, torch.tensor([len(one.scales) - 1])])],
        factors=one.factors[:, here],
        spreads=one.spreads[:, here[:, None], here],
        weights=one.weights[:, here],
    )


def widened(one: Sides, rank: int) -> Sides:
    """Return parameters with removed components appended, up to a rank."""
    lacking = rank + 2 - len(one.scales)
    if not lacking:
        return one
    own = len(one.scales) - 2

    def padded(part: torch.Tensor) -> torch.Tensor:
        zeros = part.new_zeros(*part.shape[:-1], lacking)
        return torch.cat([part[..., :own], zeros, part[..., own:]], -1)

    spreads = padded(padded(one.spreads.mT).mT)
    spreads[:, range(own, rank), range(own, rank)] = 1.0
    return one._replace(
        scales=padded(one.scales),
        factors=padded(one.factors),
        spreads=spreads,
        weights=padded(one.weights),
    )


def moments(
    one: Sides, covariances: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return E[c_j] and E[c_j c_j^T], c_j = (s_k v_jk, s_a, m + s_b b_j).

    Parameters
    ----------
    one : Sides
    covariances : Tensor of shape (d, q, q), optional
        Those of q(v_j, b_j), by default L L^T with the spreads L.

    Returns
    -------
    means : Tensor of shape (d, K + 2)
    second : Tensor of shape (d, K + 2, K + 2)
    """
    rank = len(one.scales) - 2
    # Only the entries s_k v_jk and m + s_b b_j of c_j are random: those in `here`.
    here = torch.tensor([*range(rank), rank + 1])
    own = one.scales[here]
    scaled = own * one.factors
    ones = torch.ones_like(scaled[:, :1])
    means = torch.cat(
        [scaled[:, :rank], one.scales[rank] * ones, one.mean + scaled[:, rank:]], 1
    )
    if covariances is None:
        spreads = own[:, None] * one.spreads.tril()
        covariances = spreads @ spreads.mT
    else:
        covariances = torch.outer(own, own) * covariances
    second = means[:, :, None] * means[:, None, :]
    return means, second.index_put(
        (torch.arange(len(second))[:, None, None], here[:, None], here),
        covariances,
        accumulate=True,
    )
