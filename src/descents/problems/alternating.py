"""Alternating steps: each factor in turn, at the minimum of a quadratic above the loss.

For squared loss the quadratic is the loss, and each half of a step is exact. No rate is
to be chosen, no step raises the loss, and no result leaves the constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from descents.checks import InvalidValueError
from descents.problems.cells import Look, Side
from descents.problems.factorization import Factorization
from descents.problems.problem import Parameters, Problem

State = dict[str, Parameters]
WORN = 1e-3
"""The share of a measured loss below which it is measured again."""


@dataclass(frozen=True)
class Alternating:
    """Alternating minimisation over the rows of U, then over those of V.

    With biases and offsets in their turns. Rows are independent, and their normal
    equations are solved together; with a constraint or an l1 penalty by rounds over
    their coordinates (for nonnegative factors the HALS of [1]_). Kullback-Leibler loss
    has the multiplicative step of [2]_, with penalties.

    References
    ----------
    .. [1] Cichocki and Phan (2009), "Fast local algorithms for large scale nonnegative
       matrix and tensor factorizations", IEICE Transactions.
    .. [2] Lee and Seung (2000), "Algorithms for non-negative matrix factorization",
       NIPS.

    Examples
    --------
    >>> from descents import Factorization, descend, Stop
    >>> table = [[1.0, 2.0], [2.0, 4.0], [3.0, float("nan")]]  # of rank one
    >>> problem = Factorization(table, rank=1)
    >>> runs = descend(problem, 3, steps=Alternating(), stop=Stop(100))
    >>> bool((runs.losses < 1e-20).all())
    True
    """

    def init(self, problem: Problem, parameters: Parameters) -> State:
        """Return an empty state: nothing is remembered."""
        if not applies(problem):
            raise InvalidValueError(
                "alternating steps are for a Factorization whose losses have a quadratic "
                "above them (squared, absolute, huber, logistic, categorical), or of kl "
                "loss alone; give other steps"
            )
        return {}

    def update(
        self,
        problem: Problem,
        parameters: Parameters,
        state: State,
        starts: torch.Tensor,
        step: int,
    ) -> tuple[Parameters, State, torch.Tensor]:
        """Take one step over both factors."""
        assert isinstance(problem, Factorization)  # noqa: S101
        with torch.no_grad():
            if problem.cells.blocks[0].loss.name == "kl":
                return _multiplicative(problem, parameters)
            left, right = problem.extended(parameters)
            cuts = problem.cut_parameters(parameters)
            quadratic = problem.cells.quadratic(left.dtype, left.device)
            look, known = _looked(problem, state, (left, right, cuts), quadratic, step)
            losses = problem.penalized(known["loss"].to(left.dtype), parameters)
            rows = _half(problem, parameters, look, "rows", right)
            if quadratic is not None:
                known["loss"] = (known["loss"] + rows.change).clamp_min(0)
            if "V" not in parameters:  # the columns are held fixed
                return (
                    rows.parameters,
                    {"mapping": rows.mapping, "known": known},
                    losses,
                )
            if "equations" in state:  # only the columns have moved since
                solved = state["equations"]
                downhill = 2 * (solved["wanted"] - _products(solved["gram"], right))
            else:
                downhill = problem.cells.descent(look, left, right)
            slopes = _column_mapping(problem, parameters, downhill, left)
            mapping = {**rows.mapping, **slopes}
            found = {"mapping": {name: mapping[name] for name in parameters}}
            left, right = problem.extended(rows.parameters)
            nearer = quadratic or problem.cells.look(left, right, cuts, step)
            columns = _half(problem, rows.parameters, nearer, "columns", left)
            if quadratic is not None:
                known["loss"] = (known["loss"] + columns.change).clamp_min(0)
                found.update(known=known, equations=columns.equations)
        return columns.parameters, found, losses


def _looked(
    problem: Factorization,
    state: State,
    point: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    quadratic: Look | None,
    step: int,
) -> tuple[Look, Parameters]:
    """Return the quadratic of the loss, and the loss of the data as far as it is known.

    Where the loss is quadratic, it is measured by residuals once, and then changes by
    what every half of a step takes from it; it is measured again when so much of it is
    gone that the rounding of what is gone would show.
    """
    if quadratic is None or "known" not in state:
        look = problem.cells.look(*point, step)
        assert look.losses is not None  # noqa: S101
        fresh = look.losses.double()
        return look, {"loss": fresh, "measured": fresh}
    known = dict(state["known"])
    small = known["loss"] < WORN * known["measured"]
    if bool(small.any()):
        fresh = problem.cells.losses(*point).double()
        known = {name: torch.where(small, fresh, old) for name, old in known.items()}
    return quadratic, known


def applies(problem: Problem) -> bool:
    """Return whether alternating steps can be taken.

    Examples
    --------
    >>> applies(Factorization([[1.0, 2.0], [0.0, 1.0]], 1, loss="poisson"))
    False
    """
    if not isinstance(problem, Factorization):
        return False
    found = problem.cells
    kl = len(found.blocks) == 1 and found.blocks[0].loss.name == "kl"
    return kl or found.majorized


class _Turn:
    """Whose turn it is: which of its coordinates are free, and what they are charged.

    Attributes
    ----------
    free : list of int
        The columns of [U, a, 1] or [V, 1, b] that are solved for.
    known : Tensor of shape (..., rows or coordinates, q)
        The entries that are not: ones, and what penalised offsets deviate from.
    l2, l1 : Tensor
        The penalty of each free entry, multiplied out, in the units of the data.
    units : Tensor of shape (coordinates, 1) or 1.0
        Those that the parameters are counted in.
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
        counts = problem.row_penalties if rows else problem.coordinate_counts
        plain = torch.as_tensor(counts).to(like)[..., None]
        self.units: Any = 1.0
        if not rows and (problem.units != 1).any():
            self.units = torch.as_tensor(problem.units).to(like)[:, None]
            plain = plain / self.units
        # Of candidates, each start has a strength and counts of its own.
        strength = torch.as_tensor(problem.strength).to(like)[..., None]
        self.counts = plain * strength
        own = int(self.bias is not None)
        charges = like.new_tensor([self.regularizer.l2] * rank)
        self.l2 = self.counts / self.units * charges
        self.l1 = self.counts * like.new_tensor([self.regularizer.l1] * rank)
        if own:
            biases = (plain / self.units * problem.l2_biases).expand_as(self.counts)
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
        point = parameters[self.factor]
        if self.bias is not None:
            point = torch.cat([point, parameters[self.bias][..., None]], -1)
        return point * self.units

    def slopes(self, value: torch.Tensor) -> Parameters:
        """Return derivatives by what is counted in the data's units as by parameters."""
        return self.split(value * self.units * self.units)

    def split(self, value: torch.Tensor) -> Parameters:
        value = value / self.units
        found = {self.factor: value[..., : self.rank]}
        if self.bias is not None:
            found[self.bias] = value[..., self.rank]
        return found


def _turn(problem: Factorization, side: Side, like: torch.Tensor) -> _Turn:
    """Return whose turn it is, worked out once for a problem."""
    key = (side, like.dtype, like.device)
    if key not in problem.turns:
        problem.turns[key] = _Turn(problem, side, like)
    found: _Turn = problem.turns[key]
    return found


class _Half(NamedTuple):
    """What half a step makes of the parameters.

    Attributes
    ----------
    parameters : dict of Tensor
        After it.
    mapping : dict of Tensor
        Of the rows, before it.
    equations : dict of Tensor
        The normal equations it solved.
    change : float64 Tensor of shape (S,)
        What the quadratic changes by, without its penalties.
    """

    parameters: Parameters
    mapping: Parameters
    equations: Parameters
    change: torch.Tensor


def _half(
    problem: Factorization,
    parameters: Parameters,
    look: Look,
    side: Side,
    other: torch.Tensor,
) -> _Half:
    """Solve for one side."""
    turn = _turn(problem, side, other)
    gram, wanted = problem.cells.normal(look, side, other)
    equations = {"gram": gram, "wanted": wanted}
    point = turn.point(parameters)
    if gram.shape[-1] > problem.rank:
        wanted = (wanted - _products(gram, turn.known))[..., turn.free]
        gram = gram[..., turn.free, :][..., turn.free]
    slope = _products(gram, point) - wanted
    mapping = {}
    if side == "rows":  # that of the columns is asked for before the rows have moved
        gradient = 2 * (slope + turn.l2 * point)
        mapping = turn.slopes(_mapping(turn, point, gradient, gram))
    solved = turn.regularizer.solve(gram, wanted, point, turn.l2, turn.l1, turn.rank)
    moved = solved - point
    change = (moved * (_products(gram, moved) + 2 * slope)).double().sum((1, 2))
    return _Half({**parameters, **turn.split(solved)}, mapping, equations, change)


def _products(gram: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return G x of every row, where all rows may share one G."""
    if gram.shape[1] == 1:
        return points @ gram[:, 0]
    return (gram @ points[..., None])[..., 0]


def _mapping(
    turn: _Turn,
    point: torch.Tensor,
    gradient: torch.Tensor,
    gram: torch.Tensor,
) -> torch.Tensor:
    """Return (x - prox(x - rate g)) / rate; without constraints, the gradient g."""
    if turn.regularizer.smooth:
        return gradient
    largest = gram.diagonal(dim1=-2, dim2=-1).sum(-1).amax(-1) + turn.l2.max()
    rate = (0.5 / largest.clamp_min(1e-30))[:, None, None]
    plain = point - rate * gradient
    factor = turn.regularizer.prox(plain[..., : turn.rank], rate * turn.counts)
    moved = torch.cat([factor, plain[..., turn.rank :]], -1)
    return (point - moved) / rate


def _column_mapping(
    problem: Factorization,
    parameters: Parameters,
    downhill: torch.Tensor,
    left: torch.Tensor,
) -> Parameters:
    """Return the mapping of the columns at the point that the losses are of."""
    turn = _turn(problem, "columns", left)
    downhill = downhill[..., turn.free]
    point = turn.point(parameters)
    gradient = 2 * turn.l2 * point - downhill
    bound = (left.mT @ left)[:, None]
    return turn.slopes(_mapping(turn, point, gradient, bound))


def _multiplicative(
    problem: Factorization, parameters: Parameters
) -> tuple[Parameters, State, torch.Tensor]:
    """Take the step of Kullback-Leibler loss over U, then over V.

    x <- x * s, where the factor x of a row minimises d x - n log x + l1 x + l2 x^2 with
    n = x sum w a / z v and d = sum w v: the surrogate of Lee and Seung with penalties.
    """
    left, right = problem.extended(parameters)
    cuts = problem.cut_parameters(parameters)
    losses = problem.penalized(problem.cells.losses(left, right, cuts), parameters)
    moved, mapping = dict(parameters), {}
    turns: tuple[Side, ...] = ("rows", "columns") if "V" in parameters else ("rows",)
    for side in turns:
        turn = _turn(problem, side, left)
        name = turn.factor
        ratio, total = problem.cells.ratios(side, left, right)
        gradient = total - ratio + 2 * turn.l2 * parameters[name] + turn.l1
        rate = 1 / total.mean((1, 2), keepdim=True).clamp_min(1e-30)
        plain = (parameters[name] - rate * gradient).clamp_min(0)
        mapping[name] = (parameters[name] - plain) / rate
        if side == "columns":
            ratio, total = problem.cells.ratios(side, moved["U"], moved["V"])
        n, d = moved[name] * ratio, total + turn.l1
        if turn.regularizer.l2 == 0:
            moved[name] = n / d.clamp_min(1e-30)
        else:
            # The positive root of 2 l2 x^2 + d x - n = 0, without cancellation.
            root = (d.square() + 8 * turn.l2 * n).sqrt()
            moved[name] = 2 * n / (d + root).clamp_min(1e-30)
    return moved, {"mapping": mapping}, losses
