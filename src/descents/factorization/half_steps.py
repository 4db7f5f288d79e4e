"""Half steps of alternating minimization: one factor, with the other one fixed.

Under a quadratic of the loss, each row x of a factor minimizes x' G x - 2 w' x plus its
penalties, where G x = w are its normal equations. `solved_side` solves those of all rows
and starts at once. `Turn` knows the penalties and constraints of the rows.
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
    """The side that a half step solves for: its free entries, penalties and constraint.

    A row of the extended factor is z = known + x on the free entries, with [U, a, 1] for
    rows and [V, 1, b] for columns.

    Attributes
    ----------
    free : list of int
        The columns of the extended factor that are solved for.
    known : Tensor of shape (..., rows or coordinates, q)
        The fixed part: ones, and the base from which the penalty of offsets measures.
    l2, l1 : Tensor of shape (..., rows or coordinates, free entries)
        The penalty of each free entry, with strengths and counts multiplied in.
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
        # With candidates, each start has its own strength and counts.
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
        """Return the factor, with its biases or offsets as a last column if it has any."""
        point = parameters[self.factor]
        if self.bias is not None:
            point = torch.cat([point, parameters[self.bias][..., None]], -1)
        return point

    def solve(
        self, gram: torch.Tensor, wanted: torch.Tensor, point: torch.Tensor
    ) -> tuple[Parameters, torch.Tensor, torch.Tensor]:
        """Minimize the quadratics of all rows, with penalties and within the constraint.

        Returns
        -------
        found : dict of Tensor
            The new factor and its biases or offsets.
        change, whole : float64 Tensor of shape (S,)
            The change of the quadratics without and with the penalties.
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
            # The same for the squared differences of successive rows.
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

        The rate is less than one over the largest curvature. The mapping is then zero
        wherever each row, or each column of norm one, is at its minimum, also for sets
        that are not convex.

        Parameters
        ----------
        gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
            Multiplied by `heaviest`, an upper bound on the curvature.
        solved : Tensor, optional
            The factor with each row at its minimum, if it is known and the set is not
            convex. It replaces the prox, which cannot leave a point that is better than
            its neighbors only.
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
        """Return the columns of a point as named parameters."""
        found = {self.factor: value[..., : self.rank]}
        if self.bias is not None:
            found[self.bias] = value[..., self.rank]
        return found


def turn_of(problem: Factorization, side: Side, like: torch.Tensor) -> Turn:
    """Return the `Turn` of a side of a problem, which is built once and cached."""
    key = (side, like.dtype, like.device)
    if key not in problem.turns:
        problem.turns[key] = Turn(problem, side, like)
    found: Turn = problem.turns[key]
    return found


class Half(NamedTuple):
    """The result of a half step.

    Attributes
    ----------
    parameters : dict of Tensor
        The parameters after the half step.
    mapping : LazyParameters
        The prox-gradient mapping of the rows before the half step; empty for columns.
    equations : dict of Tensor
        The normal equations that were solved: "gram" G and "wanted" w.
    change, whole : float64 Tensor of shape (S,)
        The change of the quadratic without and with the penalties.
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
    """Minimize the quadratic `look` over one side, with the `other` factor fixed."""
    equations = problem.cells.in_memory.normal(look, side, other)
    return solved_side(problem, parameters, side, equations)


def solved_side(
    problem: Factorization,
    parameters: Parameters,
    side: Side,
    normal: tuple[torch.Tensor, torch.Tensor],
) -> Half:
    """Minimize over one side, given its normal equations G x = w."""
    gram, wanted = normal
    turn = turn_of(problem, side, wanted)
    equations = {"gram": gram, "wanted": wanted}
    point = turn.point(parameters)
    # Reduce to the free entries: with z = known + x, G x = w - G known.
    if gram.shape[-1] > problem.rank:
        wanted = (wanted - products(gram, turn.known))[..., turn.free]
        gram = gram[..., turn.free, :][..., turn.free]
    found, change, whole = turn.solve(gram, wanted, point)

    def mapping() -> Parameters:
        gradient = 2 * (products(gram, point) - wanted + turn.l2 * point)
        best = found[turn.factor] if turn.regularizer.exact else None
        return turn.mapping(point, gradient, gram, solved=best)

    # The mapping of the columns is computed by `column_mapping`, before the rows move.
    asked = _lazy(mapping, gram) if side == "rows" else LazyParameters(dict)
    return Half({**parameters, **found}, asked, equations, change, whole)


def _lazy(mapping: Callable[[], Parameters], gram: torch.Tensor) -> LazyParameters:
    """Return a mapping that is computed on first use.

    It is computed now if each row has a Gram matrix, which would stay in memory.
    """
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
    """Return the mapping of the columns at the point before the step."""
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
    solved = state["equations"]  # the rows are still the same
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
    """Return the mapping of the columns, given the negative gradient `downhill`."""
    point = turn.point(parameters)
    gradient = 2 * turn.l2 * point - downhill[..., turn.free]
    return turn.mapping(point, gradient, bound, heaviest, solved)


def norm_is_free(problem: Factorization, side: Side) -> bool:
    """Return whether a constraint to columns of norm one leaves all predictions possible.

    This holds if the other factor can take up any norm at no cost: it has no penalty, and
    its set contains all multiples of its members. The factor is then solved for without
    the constraint, and its norms are moved to the other factor (`normed`).

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
    """Return parameters with the same predictions, and free norms set to one."""
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
