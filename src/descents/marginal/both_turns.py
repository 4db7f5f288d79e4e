"""Shift and rotate the factors of both sides without changing any prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from descents.marginal.both_parameters import Sides, narrowed
from descents.marginal.both_sides import BothSides, Sums

LEAST_SCALE = 1e-6
"""Components with smaller scales are removed, in units of the data."""


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
        """Return sum E[w w^T] less the part that features explain, with the optimal q(B).

        That part is S^T diag(r^2 / (1 + n r^2)) S with S = F^T E[w] and gains r.
        """
        shrunk = self.gains.square() / (1 + self.count * self.gains.square())
        return self.second - self.seen.T @ (shrunk[:, None] * self.seen)

    def mean_moments(self) -> torch.Tensor:
        """Return mean second moments, including those of the weights of features over gains.

        Each feature with a gain above 0 counts as a row with the second moment I: the
        covariance of its weights, plus the part of w that it explains.
        """
        used = int((self.gains > 0).sum())
        own = used * torch.eye(len(self.second), dtype=self.second.dtype)
        return (self.unexplained() + own) / (self.count + used)


def _shear(one: Side, other: Side, scales: torch.Tensor) -> torch.Tensor:
    """Return the optimal shift of the factors of one side, compensated by biases.

    u -> u + c and b -> b - (s c)^T v / s_b change no prediction. With C the unexplained
    moments of (v, b), and a constant first feature with gain r, the part of the loss that
    depends on c is half of the quadratic

        (2 c^T sum E[u] + n |c|^2) / (1 + n r^2) - 2 g^T C_vb + g^T C_vv g, g = s c / s_b.
    """
    rank = len(scales) - 1
    first = one.gains[:1].square().sum()
    weight = 1 / (1 + one.count * first)
    ratio = scales[:rank] / scales[rank]
    # The minimum: (diag(s / s_b) C_vv diag(s / s_b) + n / (1 + n r^2) I) c
    # = s / s_b C_vb - sum E[u] / (1 + n r^2).
    inner = other.unexplained()
    left = inner[:rank, :rank] * torch.outer(ratio, ratio)
    left = left + one.count * weight * torch.eye(rank, dtype=left.dtype)
    right = ratio * inner[:rank, rank] - weight * one.total[:rank]
    return torch.linalg.solve(left, right)


class Move(NamedTuple):
    """A map w -> A w + c of the factors of a side."""

    matrix: torch.Tensor
    shift: torch.Tensor

    def then(self, other: Move) -> Move:
        """Return the composition: this map, then another."""
        return Move(other.matrix @ self.matrix, other.matrix @ self.shift + other.shift)


def _sheared(rows: Side, columns: Side, scales: torch.Tensor) -> tuple[Move, Move]:
    """Return the optimal shifts of the factors of both sides, compensated by biases.

    First the factors of rows are shifted and the biases of columns compensate for it, then
    the other way round.
    """
    rank = len(scales) - 2
    eye = torch.eye(rank + 1, dtype=scales.dtype)
    still = torch.zeros_like(eye[0])
    moves = [Move(eye, still), Move(eye, still)]
    if not rank or bool((scales[rank:] <= LEAST_SCALE).any()):
        return moves[0], moves[1]
    sides = [rows, columns]
    for k in range(2):
        own = scales[[*range(rank), rank + 1 - k]]
        shift = torch.cat([_shear(sides[k], sides[1 - k], own), still[:1]])
        tilted = eye.clone()
        tilted[rank, :rank] = -own[:rank] * shift[:rank] / own[rank]
        for side, move in ((k, Move(eye, shift)), (1 - k, Move(tilted, still))):
            sides[side] = sides[side].moved(*move)
            moves[side] = moves[side].then(move)
    return moves[0], moves[1]


def _rotated(
    rows: Side, columns: Side, scales: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrices that rotate the factors of both sides, and the scales.

    With the mean moments M = L L^T of u and N = R R^T of v, and the singular value
    decomposition P S Q^T of L^T diag(s) R, the optimal factors are P^T L^{-1} u and
    Q^T R^{-1} v with scales S: their mean moments are I. Biases are only rescaled.
    """
    rank = len(scales) - 2
    of_both = rows.mean_moments(), columns.mean_moments()
    left, right = (torch.linalg.cholesky(part[:rank, :rank]) for part in of_both)
    p, values, q = torch.linalg.svd(left.T @ (scales[:rank, None] * right))
    roots = torch.stack([part[rank, rank].sqrt() for part in of_both])
    turns = torch.zeros(2, rank + 1, rank + 1, dtype=scales.dtype)
    turns[0, :rank, :rank] = p.T @ torch.linalg.inv(left)
    turns[1, :rank, :rank] = q @ torch.linalg.inv(right)
    turns[:, rank, rank] = 1 / roots
    return turns, torch.cat([values, scales[rank:] * roots])


def turned(
    problem: BothSides, one: Sides, found: Sums, covariances: torch.Tensor
) -> Sides:
    """Return the optimal parameters among those with the same predictions.

    Predictions do not change if factors are shifted and the biases of the other side
    compensate for it, if biases are shifted and the common mean compensates, or if the
    factors of one side are multiplied by a matrix and those of the other by its inverse.

    Parameters
    ----------
    problem : BothSides
    one : Sides
        Its `spreads` are not read.
    found : Sums
    covariances : Tensor of shape (d, q, q)
        Of q(v_j, b_j).
    """
    rank = len(one.scales) - 2
    sides = _sides_of(problem, one, found, covariances)
    mean, moved, moves, weights = one.mean, [], [], []
    for k, move in enumerate(_sheared(sides[0], sides[1], one.scales)):
        shifted = sides[k].moved(*move)
        level = shifted.total[rank] / shifted.count
        mean = mean + one.scales[rank + k] * level
        # Biases get the mean 0, and the common mean takes theirs.
        off = torch.zeros_like(move.shift)
        off[rank] = -level
        centered = shifted.moved(torch.eye(len(off), dtype=off.dtype), off)
        gains, means = best_gains(centered.seen, centered.count)
        moved.append(replace(centered, gains=gains))
        moves.append(Move(move.matrix, move.shift + off))
        weights.append(means)
    turns, scales = _rotated(moved[0], moved[1], one.scales)
    matrix, shift = turns[1] @ moves[1].matrix, turns[1] @ moves[1].shift
    covariances = matrix @ covariances @ matrix.T
    one = one._replace(
        mean=mean,
        scales=scales,
        factors=one.factors @ matrix.T + shift,
        spreads=torch.linalg.cholesky((covariances + covariances.mT) / 2),
        weights=weights[0] @ turns[0].T,
        row_gains=moved[0].gains,
        column_gains=moved[1].gains,
    )
    small = (scales[:rank] < LEAST_SCALE).nonzero()[:, 0].tolist()
    return without(one, small) if small else one


def _sides_of(
    problem: BothSides, one: Sides, found: Sums, covariances: torch.Tensor
) -> tuple[Side, Side]:
    """Return the moments of rows and of columns."""
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
    return rows, columns


def best_gains(seen: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the optimal gains of features, and the means of their weights over the gains.

    As the features F of n rows have F^T F = n I, each has its own optimum. With c = F^T w
    of the q factors, it is r^2 = (|c|^2 - q n) / (q n^2), or 0 if that is negative, and the
    mean of its weights is c r^2 / (1 + n r^2).

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
    # The other components keep their covariances: L L^T of their rows of L.
    rank = len(scales) - 2
    stay = [k for k in range(rank + 1) if k not in places]
    block = one.spreads[:, stay]
    spreads[:, torch.tensor(stay)[:, None], torch.tensor(stay)] = torch.linalg.cholesky(
        block @ block.mT
    )
    return narrowed(one._replace(scales=scales, spreads=spreads))
