"""Multiplicative steps for divergences under nonnegativity, and their acceleration."""

from __future__ import annotations

import torch

from descents.cells.base import Side
from descents.factorization.factorization import Factorization
from descents.factorization.half_steps import turn_of
from descents.optim.problem import Parameters
from descents.optim.rules import State, Update
from descents.optim.stacked import LazyParameters, flat

EVERY = 3
"""Of so many multiplicative steps, one goes further than the others."""

SLOWER = 4
"""How many steps have one rounding of corners where factors move slowly."""

LEFT = 0.5
"""What extrapolation leaves of a factor's entry at least."""


def _multiplicative(problem: Factorization, parameters: Parameters) -> Update:
    """Take the step of a divergence over U, then over V.

    x <- x s, where s minimises a surrogate that lies above the loss and touches it at 1.
    With n and p the two parts of the slope of the loss, summed over a row times v, its
    slope is x ((p + l1 + 2 l2 x) s^(m - 1) - n s^(k - 1)), so that s is n / (p + l1 + 2
    l2 x) to the power 1 / (m - k): terms of lower powers of s are bounded by those of
    the highest. For kl, x itself minimises p x - n log x + l1 x + l2 x^2 with n = x sum
    w a / z v: the surrogate of Lee and Seung with penalties, without that bound.
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
        n, d = point * ratio, total + turn.l1
        slope = d + 2 * turn.l2 * point - ratio
        ridge = turn.regularizer.l2 > 0
        power = loss.exponent(ridge=ridge)
        if ridge and loss.name == "kl":
            # The positive root of 2 l2 x^2 + d x - n = 0, without cancellation.
            root = (d.square() + 8 * turn.l2 * n).sqrt()
            point = 2 * n / (d + root).clamp_min(1e-30)
        elif power == 1:
            point = n / (d + 2 * turn.l2 * point).clamp_min(1e-30)
        else:
            share = ratio / (d + 2 * turn.l2 * point).clamp_min(1e-30)
            point = point * share**power
        # Half of what the slope promises: all of it, if the loss were linear.
        change = change + (slope * (point - before)).double().sum((1, 2)) / 2
        moved |= turn.named(point)

    def mapping() -> Parameters:
        found: Parameters = {}
        for side in turns:
            turn = turn_of(problem, side, left)
            ratio, total = of_rows
            if side == "columns":  # where they were before the rows were moved
                ratio, total = problem.cells.in_memory.ratios(side, left, right)
            x = turn.point(parameters)
            gradient = total - ratio + 2 * turn.l2 * x + turn.l1
            rate = 1 / total.mean((1, 2), keepdim=True).clamp_min(1e-30)
            away = (x - (x - rate * gradient).clamp_min(0)) / rate
            found |= turn.named(away)
        return found

    return Update(moved, {}, losses, LazyParameters(mapping), -change)


def _penalized(problem: Factorization, parameters: Parameters) -> torch.Tensor:
    """Return the losses of the data, with penalties."""
    left, right = problem.extended(parameters)
    losses = problem.cells.losses(left, right, problem.cut_parameters(parameters))
    return problem.penalized(losses, parameters)


def accelerated(
    problem: Factorization, parameters: Parameters, state: State, step: int
) -> Update:
    """Take the multiplicative step; each third goes further where that is lower.

    With the points x, x + r and x + 2 r + v of two steps, it goes to x + 2 a r + a^2 v
    for a = max(1, norm(r) / norm(v)), the squared extrapolation of Varadhan and Roland; for a = 1 that
    is where the two steps led. The next cycle begins one step on.
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
    """Extrapolate from three points, and keep the third of the starts that do not fall."""
    before, middle, last = points
    first = {name: middle[name] - before[name] for name in last}
    turn = {name: last[name] - middle[name] - first[name] for name in last}
    norms = [flat(part).double().norm(dim=1) for part in (first, turn)]
    length = (norms[0] / norms[1].clamp_min(1e-300)).clamp_min(1.0)
    tried = {}
    for name, end in last.items():
        a = length.to(end)[:, None, None]
        ahead = before[name] + 2 * a * first[name] + a.square() * turn[name]
        # What reaches zero would stay there.
        tried[name] = torch.maximum(ahead, LEFT * end)
    lower = (_penalized(problem, tried) <= losses)[:, None, None]
    return {name: torch.where(lower, tried[name], last[name]) for name in last}
