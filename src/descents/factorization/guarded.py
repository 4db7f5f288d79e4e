"""Alternating steps for losses without a majorizing quadratic: each step is checked.

Each factor in turn goes to the minimum, within its constraint, of a quadratic that equals
the loss at the current point. Rows are independent, so each is checked separately: a row
whose loss would rise is solved for again with a larger curvature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from descents.cells.base import Block, Cells, Side
from descents.cells.dense import Dense
from descents.cells.in_memory import Quadratic
from descents.cells.sparse import Sparse
from descents.constraints.quadratics import products
from descents.constraints.sets import OneHot
from descents.errors import InvalidValueError
from descents.factorization import alternating, half_steps
from descents.factorization.balance import with_least_penalties
from descents.factorization.factorization import Factorization
from descents.optim.problem import Bound, Parameters, Problem
from descents.optim.rules import State, Update, UpdateRule

TRIALS = 8
"""The largest number of curvatures that a step tries for a row."""
STEEPER, GENTLER = 4.0, 0.5
"""The factors of the curvature after a rise of the loss, and for the next step after a
fall."""


def applies(problem: Problem) -> bool:
    """Return whether `Guarded` supports a problem.

    Examples
    --------
    >>> applies(Factorization([[1.0, 2.0], [0.0, 1.0]], 1, loss="poisson"))
    True
    """
    return (
        isinstance(problem, Factorization)
        and isinstance(problem.cells, Dense | Sparse)
        and all(block.loss.has_quadratic for block in problem.cells.blocks)
    )


@dataclass(frozen=True)
class Guarded(UpdateRule):
    """Alternating minimization for any loss with a curvature, under any constraint.

    The rows of U, then those of V, go to the minimum of their quadratics, as in
    `Alternating`. The cut points of ordinal losses take a Newton step. The loss of each
    row is then evaluated. If it rises, the curvature is multiplied by 4 and the row is
    solved for again, up to 8 times in total. No step raises the loss. If a constraint or
    a smoothness penalty couples rows, they are accepted or rejected together.

    Examples
    --------
    >>> from descents import descend, Stop
    >>> counts = [[1.0, 2.0], [2.0, 4.0], [3.0, float("nan")]]  # of rank one
    >>> problem = Factorization(counts, 1, loss="kl", constraint=("simplex", "nonnegative"))
    >>> runs = descend(problem, 2, steps=Guarded(), stop=Stop(100))
    >>> runs.losses.round(3)  # the loss of the column means
    array([0.863, 0.863])
    """

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return the initial state: a factor of 1 for the curvature of every row."""
        if not applies(bound.problem):
            raise InvalidValueError(
                "guarded alternating steps are for a Factorization of a dense table, or "
                "of the stored entries of a sparse one, without custom losses; give "
                "other steps"
            )
        return {
            "curvature": {
                name: parameters[name].new_ones(parameters[name].shape[:2])
                for name in ("U", "V")
                if name in parameters
            }
        }

    def unsettled(self, bound: Bound, step: int) -> bool:
        """Return whether this step still uses rounded corners of the losses."""
        return alternating.corners_rounded(bound.problem, step)

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step over both factors, then over the cut points."""
        problem = bound.problem
        assert isinstance(problem, Factorization)  # noqa: S101
        times = dict(state["curvature"])
        with torch.no_grad():
            left, right = problem.extended(parameters)
            cuts = problem.cut_parameters(parameters)
            step = alternating.corner_step(problem, step)
            look = _look(problem.cells, (left, right, cuts), step)
            assert look.losses is not None  # noqa: S101
            losses = problem.penalized(look.losses, parameters)
            here = _Here(problem, parameters, look, cuts)
            moved, mapping, gain = _half(here, "rows", right, times)
            if "V" not in parameters:
                return Update(moved, {"curvature": times}, losses, mapping, gain)
            both = _column_mapping(here, left, right)
            left, right = problem.extended(moved)
            look = _look(problem.cells, (left, right, cuts), step)
            here = _Here(problem, moved, look, cuts)
            moved, _, more = _half(here, "columns", left, times)
            gain = gain + more
            moved = half_steps.normed(problem, moved)
            moved = with_least_penalties(problem, moved)
            if "cuts" in moved:
                moved, both["cuts"], more = _cut(problem, parameters, moved)
                gain = gain + more
        mapping = {name: {**mapping, **both}[name] for name in parameters}
        return Update(moved, {"curvature": times}, losses, mapping, gain)


class _Here(NamedTuple):
    """The point at which a half step begins, and the quadratic at that point."""

    problem: Factorization
    parameters: Parameters
    look: Quadratic
    cuts: torch.Tensor


def _look(
    found: Cells, point: tuple[torch.Tensor, torch.Tensor, torch.Tensor], step: int
) -> Quadratic:
    """Return the losses, and for each cell a quadratic that equals its loss at a point.

    As `CellsInMemory.look`, but the quadratic may be below the loss elsewhere.
    """
    left, right, cuts = point
    if isinstance(found, Sparse):
        entries = found.tensors(left.dtype, left.device)
        z, x = entries.predictions(left, right), entries.values
        loss = found.blocks[0].loss
        weight, target = loss.approximate(z, x, step)
        weight = torch.ones_like(z) if weight is None else weight
        each = loss(z, x)
        if entries.weights is not None:
            weight, each = weight * entries.weights, each * entries.weights
        return Quadratic(each.sum(-1), weight, target, z)
    assert isinstance(found, Dense)  # noqa: S101
    held = found.tensors(left.dtype, left.device)
    z = torch.bmm(left, right.mT)
    weights, targets = torch.empty_like(z), torch.empty_like(z)
    total = z.new_zeros(len(z))
    for block, x, w in zip(found.blocks, held.targets, held.weights, strict=True):
        part, own = block.predictions(z), block.cuts(cuts)
        weight, target = block.loss.approximate(part, x, step, **own)
        weight = torch.ones_like(part) if weight is None else weight
        cell = w if block.each == 1 else w[..., None]
        shape = z[..., block.place].shape
        weights[..., block.place] = (weight * cell).expand_as(part).reshape(shape)
        targets[..., block.place] = target.expand_as(part).reshape(shape)
        total = total + (block.loss(part, x, **own) * w).sum((1, 2))
    return Quadratic(total, weights, targets, z)


def _cells_before_and_after(
    here: _Here, z: torch.Tensor, *, exact: bool
) -> list[tuple[Block | None, torch.Tensor, torch.Tensor]]:
    """Return the loss of each cell at the old and the new predictions, per block.

    If a loss has a majorizing quadratic, the values of the quadratic are returned,
    unless `exact`. The reason is that the rounding of corners decreases from step to
    step, in which the loss itself may rise a little.
    """
    found, look = here.problem.cells, here.look
    assert look.predictions is not None  # noqa: S101
    pair = (look.predictions, z)

    def quadratic(at: torch.Tensor) -> torch.Tensor:
        rest: torch.Tensor = look.weights * (look.targets - at).square()  # type: ignore
        return rest

    if isinstance(found, Sparse):
        entries, loss = found.tensors(z.dtype, z.device), found.blocks[0].loss
        weight = entries.ones if entries.weights is None else entries.weights
        if loss.majorized and not exact:
            return [(None, quadratic(pair[0]), quadratic(pair[1]))]
        before, after = (loss(at, entries.values) * weight for at in pair)
        return [(None, before, after)]
    assert isinstance(found, Dense)  # noqa: S101
    held = found.tensors(z.dtype, z.device)
    parts: list[Any] = []
    for block, x, w in zip(found.blocks, held.targets, held.weights, strict=True):
        if block.loss.majorized and not exact:
            both = [quadratic(at)[..., block.place] for at in pair]
        else:
            own = block.cuts(here.cuts)
            both = [block.loss(block.predictions(at), x, **own) * w for at in pair]
        parts.append((block, *both))
    return parts


def _rise(
    here: _Here, side: Side, z: torch.Tensor, *, exact: bool
) -> tuple[torch.Tensor, Any]:
    """Return the rise of the loss of each row of U or V, and its size before.

    Shapes (S, rows) or (S, coordinates). The loss of a column with several coordinates
    is divided equally among them.
    """
    problem, parts = here.problem, _cells_before_and_after(here, z, exact=exact)
    if parts[0][0] is None:  # the stored entries of a sparse table
        _, before, after = parts[0]
        assert isinstance(problem.cells, Sparse)  # noqa: S101
        entries = problem.cells.tensors(z.dtype, z.device)
        places = entries.rows if side == "rows" else entries.columns
        index = places.expand(len(z), -1)
        rows = problem.cells.shape[0 if side == "rows" else 1]
        zero = z.new_zeros(len(z), rows)
        rise = zero.scatter_add(1, index, after - before)
        return rise, zero.scatter_add(1, index, before.abs())
    if side == "rows":
        rises = [(after - before).sum(-1) for _, before, after in parts]
        sizes = [before.abs().sum(-1) for _, before, _ in parts]
        return torch.stack(rises).sum(0), torch.stack(sizes).sum(0)
    rises, sizes = [], []
    for block, before, after in parts:
        assert block is not None  # noqa: S101
        shares = 1 if block.loss.majorized and not exact else block.each
        for part, sums in ((after - before, rises), (before.abs(), sizes)):
            total = part.sum(1) / shares
            sums.append(total.repeat_interleave(shares, -1))
    return torch.cat(rises, -1), torch.cat(sizes, -1)


def _together(
    here: _Here, side: Side, turn: half_steps.Turn, rise: torch.Tensor, *, exact: bool
) -> torch.Tensor:
    """Return for each row the sum of the rises of all rows that are coupled to it."""
    asked = turn.regularizer
    if asked.smoothness or (asked.inside is not None and asked.inside.couples):
        return rise.sum(-1, keepdim=True).expand_as(rise)
    tied = [
        block
        for block in here.problem.cells.blocks
        if block.each > 1 and (exact or not block.loss.majorized)
    ]
    if side == "rows" or not tied:
        return rise
    rise = rise.clone()
    for block in tied:
        part = rise[..., block.place].reshape(*rise.shape[:-1], -1, block.each)
        rise[..., block.place] = part.sum(-1, keepdim=True).expand_as(part).flatten(-2)
    return rise


def _predictions(problem: Factorization, parameters: Parameters) -> torch.Tensor:
    """Return the predictions of all cells, or of the stored entries of a sparse table."""
    left, right = problem.extended(parameters)
    if isinstance(problem.cells, Sparse):
        entries = problem.cells.tensors(left.dtype, left.device)
        return entries.predictions(left, right)
    return torch.bmm(left, right.mT)


def _accepted(
    here: _Here,
    side: Side,
    turn: half_steps.Turn,
    tried: Parameters,
    *,
    exact: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a mask of the rows that do not raise the loss with penalties, and the rises.

    A rise within 4 eps of the size of the loss is rounding, and is accepted.
    """
    problem, parameters = here.problem, here.parameters
    z = _predictions(problem, {**parameters, **tried})
    rise, size = _rise(here, side, z, exact=exact)
    old, new = turn.point(parameters), turn.point({**parameters, **tried})
    rise = rise + (turn.l2 * (new.square() - old.square())).sum(-1)
    rise = rise + (turn.l1 * (new.abs() - old.abs())).sum(-1)
    asked = turn.regularizer
    rise, size = (
        _together(here, side, turn, part, exact=exact) for part in (rise, size)
    )
    if asked.smoothness:
        rough = [asked.roughness(p[turn.factor]) for p in (parameters, tried)]
        rise = rise + (rough[1] - rough[0])[:, None]
    return rise <= 4 * torch.finfo(rise.dtype).eps * size, rise


def _half(
    here: _Here, side: Side, other: torch.Tensor, times: Parameters
) -> tuple[Parameters, Parameters, torch.Tensor]:
    """Solve for one side; return the parameters, the mapping before, and the gain.

    The gain is the decrease of the first quadratic that was tried, for each start.
    """
    problem, parameters = here.problem, here.parameters
    gram, wanted = problem.cells.in_memory.normal(here.look, side, other)
    turn = half_steps.turn_of(problem, side, wanted)
    point = turn.point(parameters)
    # Reduce the normal equations G x = w to the free entries of x.
    if gram.shape[-1] > problem.rank:
        wanted = (wanted - products(gram, turn.known))[..., turn.free]
        gram = gram[..., turn.free, :][..., turn.free]
    gram = gram.expand(-1, point.shape[1], -1, -1)
    bent = products(gram, point)
    downhill = wanted - bent
    best = {n: parameters[n] for n in (turn.factor, turn.bias) if n is not None}
    mapping = turn.mapping(point, 2 * (turn.l2 * point - downhill), gram)
    curvature, gain = times[turn.factor], None
    waiting = torch.ones_like(curvature, dtype=torch.bool)
    clusters = isinstance(turn.regularizer.inside, OneHot)
    if clusters:
        best[turn.factor], rise = _members(here, side, turn)
        gain = -rise.double().sum(-1)
        mapping = mapping | {
            turn.factor: best[turn.factor] - point[..., : problem.rank]
        }
        if turn.bias is None:
            return {**parameters, **best}, mapping, gain
        bend = gram[..., -1, -1] + turn.l2[..., -1]
        fall = downhill[..., -1] - turn.l2[..., -1] * point[..., -1]
        gain = gain + (fall.square() / bend.clamp_min(1e-30)).double().sum(-1)
        waiting = rise == 0  # the bias of a row that moves is left to the next step
    for _ in range(TRIALS):
        # With the curvature c G, the slope at x stays the same: c G y = c G x + (w - G x).
        each = curvature[..., None]
        solved, _, change = turn.solve(
            gram * each[..., None], bent * each + downhill, point
        )
        if clusters and turn.bias is not None:
            solved = dict(best)
            step = fall / (bend * curvature).clamp_min(1e-30)
            solved[turn.bias] = point[..., -1] + step
        gain = -change if gain is None else gain
        tried = {
            n: torch.where(_wide(waiting, v), solved[n], v) for n, v in best.items()
        }
        good = waiting & _accepted(here, side, turn, tried)[0]
        best = {n: torch.where(_wide(good, v), tried[n], v) for n, v in best.items()}
        waiting = waiting & ~good
        curvature = torch.where(waiting, STEEPER * curvature, curvature)
        if not bool(waiting.any()):
            break
    times[turn.factor] = (GENTLER * curvature).clamp_min(1)
    assert gain is not None  # noqa: S101
    return {**parameters, **best}, mapping, gain


def _members(here: _Here, side: Side, turn: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best unit vector for each row (one-hot rows), and the rises of the loss.

    The loss of each row is evaluated at every unit vector. A quadratic would not do,
    because it is steep at the current one and would keep the row there.
    """
    old = here.parameters[turn.factor]
    best, least = old, torch.zeros_like(old[..., 0])
    for chosen in _independent(here.problem, side, old):
        for place in range(old.shape[-1]):
            member = torch.zeros_like(old)
            member[..., place] = 1
            tried = torch.where(chosen, member, best)
            good, rise = _accepted(here, side, turn, {turn.factor: tried}, exact=True)
            better = good & (rise < least)
            best = torch.where(better[..., None], tried, best)
            least = torch.where(better, rise, least)
    return best, least


def _independent(
    problem: Factorization, side: Side, like: torch.Tensor
) -> list[torch.Tensor]:
    """Return masks of rows of a factor whose losses are independent, shape (rows, 1).

    All rows of U are in one mask. Each mask of V has one coordinate per column.
    """
    blocks = problem.cells.blocks
    most = 1 if side == "rows" else max(block.each for block in blocks)
    number = torch.zeros(like.shape[-2], 1, dtype=torch.long, device=like.device)
    if most > 1:
        for block in blocks:
            rows = number[block.place]
            rows[:, 0] = torch.arange(len(rows), device=like.device) % block.each
    return [number == k for k in range(most)]


def _wide(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a mask of rows, shaped to broadcast with a factor or a bias."""
    return mask[..., None] if like.ndim > mask.ndim else mask


def _column_mapping(here: _Here, left: torch.Tensor, right: torch.Tensor) -> Parameters:
    """Return the prox-gradient mapping of the columns before the step of the rows."""
    problem, look = here.problem, here.look
    turn = half_steps.turn_of(problem, "columns", left)
    gram, wanted = problem.cells.in_memory.normal(look, "columns", left)
    downhill = (wanted - products(gram, right))[..., turn.free]
    gram = gram[..., turn.free, :][..., turn.free]
    point = turn.point(here.parameters)
    found: Parameters = turn.mapping(point, 2 * (turn.l2 * point - downhill), gram)
    return found


def _cut(
    problem: Factorization, before: Parameters, moved: Parameters
) -> tuple[Parameters, torch.Tensor, torch.Tensor]:
    """Take a Newton step of the cut points; return the gradient before it and the gain.

    Columns are independent, and each has a few cut points. With the Hessian Q D Q' of a
    column, the step is Q (abs(D) + r)^-1 Q' g, where r increases until the loss falls.
    """
    found, mapping = problem.cells, torch.zeros_like(before["cuts"])
    z = {name: problem.predict(p) for name, p in (("old", before), ("new", moved))}
    assert isinstance(found, Dense)  # noqa: S101
    held = found.tensors(z["new"].dtype, z["new"].device)
    cuts = moved["cuts"].clone()
    gain = cuts.new_zeros(len(cuts), dtype=torch.float64)
    for block, x, w in zip(found.blocks, held.targets, held.weights, strict=True):
        place = block.cut_place
        if place.stop == place.start:
            continue
        loss = block.loss

        def total(c: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            return (loss(block.predictions(at), x, cuts=c) * w).sum(1)  # noqa: B023

        own = block.cuts(moved["cuts"])["cuts"]
        old = block.cuts(before["cuts"])["cuts"]
        mapping[:, place] = _derivatives(total, old, z["old"])[0].flatten(1)
        slope, curved = _derivatives(total, own, z["new"], second=True)
        values, vectors = torch.linalg.eigh(torch.nan_to_num(curved))
        along = (vectors.mT @ slope[..., None])[..., 0]
        least = total(own, z["new"])
        size = values.abs().amax(-1, keepdim=True).clamp_min(1e-30)
        raised, waiting = 1e-8 * size, torch.ones_like(least, dtype=torch.bool)
        for _ in range(TRIALS):
            fall = (vectors @ (along / (values.abs() + raised))[..., None])[..., 0]
            if bool(waiting.all()):  # the first trial
                gain = gain + (fall * slope).double().sum((1, 2)) / 2
            tried = own - fall
            now = total(tried, z["new"])
            slack = 4 * torch.finfo(now.dtype).eps * least.abs()
            good = waiting & (now <= least + slack)
            own = torch.where(good[..., None], tried, own)
            waiting = waiting & ~good
            if not bool(waiting.any()):
                break
            raised = torch.where(raised < 0.01 * size, 0.1 * size, 10 * raised)
        cuts[:, place] = own.flatten(1)
    return {**moved, "cuts": cuts}, mapping, gain


def _derivatives(
    total: Any, cuts: torch.Tensor, z: torch.Tensor, *, second: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return first and second derivatives of the losses of columns by their cut points.

    Parameters
    ----------
    total : callable
        Takes cut points of shape (S, columns, count) and predictions, and returns losses
        of shape (S, columns).

    Returns
    -------
    slope : Tensor of shape (S, columns, count)
    curved : Tensor of shape (S, columns, count, count)
        The Hessians; the slopes again if `second` is false.
    """
    with torch.enable_grad():
        leaf = cuts.detach().requires_grad_()
        (slope,) = torch.autograd.grad(total(leaf, z).sum(), leaf, create_graph=second)
        if not second:
            return slope, slope
        rows = [
            torch.autograd.grad(
                slope[..., k].sum(), leaf, retain_graph=True, materialize_grads=True
            )[0]
            for k in range(cuts.shape[-1])
        ]
    return slope.detach(), torch.stack(rows, -2)
