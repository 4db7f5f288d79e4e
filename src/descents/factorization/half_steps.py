"""Half a round of alternating steps: one factor, with the other one fixed.

Under a quadratic of the loss, each row of a factor solves a least-squares problem of its
own, `solved_side` for all rows and starts at once; `Turn` says what constrains them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch

from descents.cells.base import Side
from descents.cells.in_memory import Quadratic
from descents.constraints.quadratics import products
from descents.constraints.sets import Sparse
from descents.constraints.unit_norm import UnitNorm
from descents.factorization.factorization import Factorization
from descents.optim.problem import Parameters
from descents.optim.rules import State
from descents.optim.stacked import LazyParameters

SIDES: tuple[Side, Side] = ("rows", "columns")


class Turn:
    """Whose turn it is: which of its coordinates are free, and what they are charged.

    Attributes
    ----------
    free : list of int
        The columns of [U, a, 1] or [V, 1, b] that are solved for.
    known : Tensor of shape (..., rows or coordinates, q)
        The entries that are not: ones, and what penalised offsets deviate from.
    l2, l1 : Tensor
        The penalty of each free entry, multiplied out.
    """

    def __init__(self, problem: Factorization, side: Side, like: torch.Tensor) -> None:
        rank, rows = problem.rank, side == "rows"
        self.rank = rank
        self.factor = "U" if rows else "V"
        self.bias = None
        if rows and problem.has_row_biases:
            self.bias = "row_biases"
        if not rows and problem.has_offsets:
            self.bias = "offsets"
        self.regularizer = (
            problem.row_regularizer if rows else problem.column_regularizer
        )
        if norm_is_free(problem, side):
            self.regularizer = replace(self.regularizer, inside=None)
        counts = problem.row_penalties if rows else problem.coordinate_counts
        plain = torch.as_tensor(counts).to(like)[..., None]
        # Of candidates, each start has a strength and counts of its own.
        strength = torch.as_tensor(problem.strength).to(like)[..., None]
        self.counts = plain * strength
        own = int(self.bias is not None)
        self.l2 = self.counts * like.new_tensor([self.regularizer.l2] * rank)
        self.l1 = self.counts * like.new_tensor([self.regularizer.l1] * rank)
        if own:
            biases = (plain * problem.l2_biases).expand_as(self.counts)
            self.l2 = torch.cat([self.l2, biases], -1)
            self.l1 = torch.cat([self.l1, torch.zeros_like(self.counts)], -1)
        self.free = list(range(rank))
        if own:
            self.free.append(rank if rows else rank + int(problem.has_row_biases))
        base = torch.as_tensor(problem.base).to(like)
        self.known = like.new_zeros(*base.shape[:-1], counts.shape[-1], like.shape[-1])
        if rows and like.shape[-1] > rank:
            self.known[..., -1] = 1
        elif like.shape[-1] > rank:
            self.known[..., rank:-1] = 1
            self.known[..., -1] = base

    def point(self, parameters: Parameters) -> torch.Tensor:
        """Return the factor, with its bias as a last column."""
        point = parameters[self.factor]
        if self.bias is not None:
            point = torch.cat([point, parameters[self.bias][..., None]], -1)
        return point

    def solve(
        self, gram: torch.Tensor, wanted: torch.Tensor, point: torch.Tensor
    ) -> tuple[Parameters, torch.Tensor, torch.Tensor]:
        """Return the solution of the quadratics of all rows, and their change by it.

        Returns
        -------
        found : dict of Tensor
        change, whole : float64 Tensor of shape (S,)
            The change without and with the penalties.
        """
        found, change = self.regularizer.step(
            gram, wanted, point, self.l2, self.l1, self.rank
        )
        # l2 (x'^2 - x^2) as a product, without cancellation.
        penalty = self.l2 * (found - point) * (found + point)
        if self.regularizer.l1:
            penalty = penalty + self.l1 * (found.abs() - point.abs())
        whole = change + penalty.double().sum((1, 2))
        if self.regularizer.smoothness:
            moved, both = ((found + s * point)[..., : self.rank] for s in (-1, 1))
            rough = (moved.diff(dim=-2) * both.diff(dim=-2)).double().sum((1, 2))
            whole = whole + self.regularizer.smoothness * rough
        return self.named(found), change, whole

    def mapping(
        self,
        point: torch.Tensor,
        gradient: torch.Tensor,
        gram: torch.Tensor,
        heaviest: torch.Tensor | float = 1.0,
        solved: torch.Tensor | None = None,
    ) -> Parameters:
        """Return (x - prox(x - rate g)) / rate; without constraints, the gradient g.

        The rate is below one over the largest curvature, so that it is zero wherever a row, or a
        column of norm one, is at its minimum, whatever the set.

        Parameters
        ----------
        gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
            At least the curvature, when multiplied by the heaviest weight.
        solved : Tensor, optional
            The factor at the minimum of each row, where it is known of a set that is
            not convex: in place of the prox, which stays at members that are better
            than their neighbors alone.
        """
        asked = self.regularizer
        if asked.smooth and not asked.smoothness:
            return self.named(gradient)
        size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
        if asked.entrywise:
            largest = size.amax(-1) + self.l2.amax((-1, -2))
            rate = (0.5 / largest.clamp_min(1e-30))[:, None, None]
            plain = point - rate * gradient
            factor = asked.prox(plain[..., : self.rank], rate, self.counts)
            moved = torch.cat([factor, plain[..., self.rank :]], -1)
            return self.named((point - moved) / rate)
        largest = (size * heaviest).amax(-1) + self.l2.amax((-1, -2))
        rate = 0.5 / (largest + 4 * asked.smoothness).clamp_min(1e-30)[:, None, None]
        factor, slope = point[..., : self.rank], gradient
        if asked.smoothness:
            uphill = 2 * asked.uphill(factor)
            rest = slope[..., self.rank :]
            slope = torch.cat([slope[..., : self.rank] + uphill, rest], -1)
        found = self.named(slope)
        if not asked.smooth:
            plain = factor - rate * found[self.factor]
            if solved is None:
                solved = asked.prox(plain, rate, self.counts)
            found[self.factor] = (factor - solved) / rate
        return found

    def named(self, value: torch.Tensor) -> Parameters:
        """Return the columns of a point as parameters."""
        found = {self.factor: value[..., : self.rank]}
        if self.bias is not None:
            found[self.bias] = value[..., self.rank]
        return found


def turn_of(problem: Factorization, side: Side, like: torch.Tensor) -> Turn:
    """Return whose turn it is, worked out once for a problem."""
    key = (side, like.dtype, like.device)
    if key not in problem.turns:
        problem.turns[key] = Turn(problem, side, like)
    found: Turn = problem.turns[key]
    return found


class Half(NamedTuple):
    """What half a step makes of the parameters.

    Attributes
    ----------
    parameters : dict of Tensor
        After it.
    mapping : LazyParameters
        Of the rows, before it.
    equations : dict of Tensor
        The normal equations it solved.
    change, whole : float64 Tensor of shape (S,)
        What the quadratic changes by, without and with its penalties.
    """

    parameters: Parameters
    mapping: LazyParameters
    equations: Parameters
    change: torch.Tensor
    whole: torch.Tensor


def half_step(
    problem: Factorization,
    parameters: Parameters,
    look: Quadratic,
    side: Side,
    other: torch.Tensor,
) -> Half:
    """Solve for one side."""
    equations = problem.cells.in_memory.normal(look, side, other)
    return solved_side(problem, parameters, side, equations)


def solved_side(
    problem: Factorization,
    parameters: Parameters,
    side: Side,
    normal: tuple[torch.Tensor, torch.Tensor],
) -> Half:
    """Solve the normal equations of one side."""
    gram, wanted = normal
    turn = turn_of(problem, side, wanted)
    equations = {"gram": gram, "wanted": wanted}
    point = turn.point(parameters)
    if gram.shape[-1] > problem.rank:
        wanted = (wanted - products(gram, turn.known))[..., turn.free]
        gram = gram[..., turn.free, :][..., turn.free]
    found, change, whole = turn.solve(gram, wanted, point)

    def mapping() -> Parameters:
        gradient = 2 * (products(gram, point) - wanted + turn.l2 * point)
        best = found[turn.factor] if turn.regularizer.exact else None
        return turn.mapping(point, gradient, gram, solved=best)

    # That of the columns is asked for before the rows have moved.
    asked = _lazy(mapping, gram) if side == "rows" else LazyParameters(dict)
    return Half({**parameters, **found}, asked, equations, change, whole)


def _lazy(mapping: Callable[[], Parameters], gram: torch.Tensor) -> LazyParameters:
    """Return a mapping worked out where it is looked at; now, where it holds much."""
    return (
        LazyParameters(mapping) if gram.shape[1] == 1 else LazyParameters(mapping).now()
    )


def column_mapping(
    problem: Factorization,
    parameters: Parameters,
    state: State,
    look: Quadratic,
    sides: tuple[torch.Tensor, torch.Tensor],
) -> LazyParameters:
    """Return the mapping of the columns at the point that the losses are of."""
    left, right = sides
    turn = turn_of(problem, "columns", left)

    def along(downhill: torch.Tensor) -> Parameters:
        heaviest: torch.Tensor | float = 1.0
        if not turn.regularizer.entrywise and look.weights is not None:
            heaviest = look.weights.max()
        best = None
        if turn.regularizer.exact:
            best = half_step(problem, parameters, look, "columns", left).parameters["V"]
        bound = (left.mT @ left)[:, None]
        return mapping_along(turn, parameters, downhill, bound, heaviest, best)

    if "equations" not in state:
        return LazyParameters(
            lambda: along(problem.cells.in_memory.descent(look, left, right))
        ).now()
    solved = state["equations"]  # only the columns have moved since
    gram, wanted = solved["gram"], solved["wanted"]
    return _lazy(lambda: along(2 * (wanted - products(gram, right))), gram)


def mapping_along(
    turn: Turn,
    parameters: Parameters,
    downhill: torch.Tensor,
    bound: torch.Tensor,
    heaviest: torch.Tensor | float = 1.0,
    solved: torch.Tensor | None = None,
) -> Parameters:
    """Return the mapping of the columns where the loss falls along `downhill`."""
    point = turn.point(parameters)
    gradient = 2 * turn.l2 * point - downhill[..., turn.free]
    return turn.mapping(point, gradient, bound, heaviest, solved)


def norm_is_free(problem: Factorization, side: Side) -> bool:
    """Return whether columns of norm one restrict a factor's form, but no prediction.

    The other factor then takes up any norm at no cost: it is charged nothing, and with a
    member its set has every multiple of it. Such a factor is solved for without its
    norm, which then goes to the other one (`normed`).

    Examples
    --------
    >>> table = [[1.0, 2.0], [0.0, 1.0]]
    >>> [norm_is_free(Factorization(table, 1, constraint=pair), "rows")
    ...  for pair in (("unit_norm", "nonnegative"), ("unit_norm", "simplex"))]
    [True, False]
    """
    own, other = problem.row_regularizer, problem.column_regularizer
    if side == "columns":
        own, other = other, own
    charged = any(part.l1 or part.l2 or part.smoothness for part in (own, other))
    return (
        isinstance(own.inside, UnitNorm)
        and not charged
        and (other.inside is None or isinstance(other.inside, Sparse))
    )


def normed(problem: Factorization, parameters: Parameters) -> Parameters:
    """Return the same predictions by columns of norm one, where norms are free."""
    if "V" not in parameters:
        return parameters
    for side, name, other in zip(SIDES, "UV", "VU", strict=True):
        if norm_is_free(problem, side):
            factor = parameters[name]
            norm = torch.linalg.vector_norm(factor, dim=-2, keepdim=True)
            own = problem.row_regularizer
            if side == "columns":
                own = problem.column_regularizer
            parameters = {
                **parameters,
                name: own.nearest(factor),
                other: parameters[other] * norm,
            }
    return parameters
