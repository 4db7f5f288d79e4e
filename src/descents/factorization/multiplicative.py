"""Multiplicative steps for divergences under nonnegativity, and their acceleration."""

from __future__ import annotations

import torch

from descents.cells.base import Side
from descents.factorization.balance import with_least_penalties
from descents.factorization.factorization import Factorization
from descents.factorization.half_steps import turn_of
from descents.optim.problem import Parameters
from descents.optim.rules import State, Update
from descents.optim.stacked import LazyParameters, flat

EVERY = 3
"""The number of multiplicative steps in a cycle, the last of which is extrapolated."""

SLOWER = 4
"""The number of steps with the same rounding of corners if factors move slowly."""

LEFT = 0.5
"""The smallest factor by which extrapolation may multiply an entry."""


def _multiplicative(problem: Factorization, parameters: Parameters) -> Update:
    """Take the multiplicative step of a divergence over U, then over V.

    An entry x becomes x s, where s minimizes a surrogate that is nowhere below the loss
    and equals it at s = 1. The derivative of the loss by x is p - n, with sums p and n
    over the cells of the row. The derivative of the surrogate by s is x ((p + l1 + 2 l2
    x) s^(m - 1) - n s^(k - 1)), where terms with lower powers of s have been bounded by
    those with the highest. Hence s = (n / (p + l1 + 2 l2 x))^(1 / (m - k)).

    For kl the bound is not needed: with N = n x, x itself minimizes p x - N log x + l1 x
    + l2 x^2, the surrogate of Lee and Seung with penalties.
    """
    loss = problem.cells.blocks[0].loss
    left, right = problem.extended(parameters)
    losses = _penalized(problem, parameters)
    moved, change = dict(parameters), losses.new_zeros(len(losses)).double()
    turns: tuple[Side, ...] = ("rows", "columns") if "V" in parameters else ("rows",)
    of_rows = problem.cells.in_memory.ratios("rows", left, right)
    for side in turns:
        turn = turn_of(problem, side, left)
        ratio, total = of_rows
        if side == "columns":
            ratio, total = problem.cells.in_memory.ratios(
                side, *problem.extended(moved)
            )
        point = before = turn.point(parameters)
        # In the terms of the docstring: ratio is n, total p, n is N, and d is p + l1.
        n, d = point * ratio, total + turn.l1
        slope = d + 2 * turn.l2 * point - ratio
        ridge = turn.regularizer.l2 > 0
        power = loss.exponent(ridge=ridge)
        if ridge and loss.name == "kl":
            # The positive root of 2 l2 x^2 + d x - N = 0, without cancellation.
            root = (d.square() + 8 * turn.l2 * n).sqrt()
            point = 2 * n / (d + root).clamp_min(1e-30)
        elif power == 1:
            point = n / (d + 2 * turn.l2 * point).clamp_min(1e-30)
        else:
            share = ratio / (d + 2 * turn.l2 * point).clamp_min(1e-30)
            point = point * share**power
        # Half the change to first order estimates the change of the loss.
        change = change + (slope * (point - before)).double().sum((1, 2)) / 2
        moved |= turn.named(point)
    moved = with_least_penalties(problem, moved)

    def mapping() -> Parameters:
        found: Parameters = {}
        for side in turns:
            turn = turn_of(problem, side, left)
            ratio, total = of_rows
            if side == "columns":  # at the point before the rows moved
                ratio, total = problem.cells.in_memory.ratios(side, left, right)
            x = turn.point(parameters)
            gradient = total - ratio + 2 * turn.l2 * x + turn.l1
            rate = 1 / total.mean((1, 2), keepdim=True).clamp_min(1e-30)
            away = (x - (x - rate * gradient).clamp_min(0)) / rate
            found |= turn.named(away)
        return found

    return Update(moved, {}, losses, LazyParameters(mapping), -change)


def _penalized(problem: Factorization, parameters: Parameters) -> torch.Tensor:
    """Return the losses with penalties of each start, shape (S,)."""
    left, right = problem.extended(parameters)
    losses = problem.cells.losses(left, right, problem.cut_parameters(parameters))
    return problem.penalized(losses, parameters)


def accelerated(
    problem: Factorization, parameters: Parameters, state: State, step: int
) -> Update:
    """Take a multiplicative step; extrapolate every third one if that lowers the loss.

    Two steps lead from x to x + r and x + 2 r + v. The squared extrapolation of Varadhan
    and Roland goes to x + 2 a r + a^2 v with a = max(1, norm(r) / norm(v)). With a = 1
    this is the point after the two steps. The next cycle begins with the step after it.
    """
    found = _multiplicative(problem, parameters)
    if step % EVERY == EVERY - 2:
        return found._replace(state={"before": parameters})
    if step % EVERY == EVERY - 1 and "before" in state:
        points = state["before"], parameters, found.parameters
        return found._replace(parameters=_further(problem, points, found.losses))
    return found


def _further(
    problem: Factorization, points: tuple[Parameters, ...], losses: torch.Tensor
) -> Parameters:
    """Extrapolate from three points; starts whose loss would rise get the third one."""
    before, middle, last = points
    first = {name: middle[name] - before[name] for name in last}
    # r is `first`, v is `turn`, a is `length`.
    turn = {name: last[name] - middle[name] - first[name] for name in last}
    norms = [flat(part).double().norm(dim=1) for part in (first, turn)]
    length = (norms[0] / norms[1].clamp_min(1e-300)).clamp_min(1.0)
    tried = {}
    for name, end in last.items():
        a = length.to(end)[:, None, None]
        ahead = before[name] + 2 * a * first[name] + a.square() * turn[name]
        # Multiplicative steps never leave zero, so entries must not reach it.
        tried[name] = torch.maximum(ahead, LEFT * end)
    lower = (_penalized(problem, tried) <= losses)[:, None, None]
    return {name: torch.where(lower, tried[name], last[name]) for name in last}
