"""Alternating steps: each factor in turn, at the minimum of a quadratic above the loss.

For squared loss the quadratic is the loss, and each half of a step is exact. No rate is
to be chosen, no step raises the loss, and no result leaves the constraints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from descents.cells.in_memory import Quadratic
from descents.cells.streamed import Streamed, losses_of
from descents.constraints.quadratics import products
from descents.devices import remote
from descents.errors import InvalidValueError
from descents.factorization.factorization import Factorization
from descents.factorization.half_steps import (
    SIDES,
    Half,
    column_mapping,
    half_step,
    mapping_along,
    norm_is_free,
    normed,
    solved_side,
    turn_of,
)
from descents.factorization.multiplicative import SLOWER, accelerated
from descents.losses.base import still_rounded
from descents.optim.problem import Bound, Parameters, Problem
from descents.optim.rules import State, Update, UpdateRule
from descents.optim.stacked import LazyParameters, flat

OF_ROWS = ("U", "row_biases")
"""The parameters that have an entry for each row of the table."""
WORN = 1e-3
"""The share of a measured loss below which it is measured again."""
AWAY_EVERY = 10
"""On another device it is measured after so many steps, whether or not: in between, that
of an exact fit may be told as 0."""


@dataclass(frozen=True)
class Alternating(UpdateRule):
    """Alternating minimisation over the rows of U, then over those of V.

    With biases and offsets in their turns. Rows are independent, and their normal
    equations are solved together; with a constraint or an l1 penalty by rounds over
    their coordinates (for nonnegative factors the HALS of [1]_); in a set of
    `descents.constraints.sets` in the way of that set, at the least by prox-gradient
    steps; smooth rows together, or every other one in turn. Beta-divergences,
    Kullback-Leibler among them, have the multiplicative step of [2]_ with the exponent
    of [3]_, with penalties, each third one extrapolated [4]_ where that lowers the loss.

    References
    ----------
    .. [1] Cichocki and Phan (2009), "Fast local algorithms for large scale nonnegative
       matrix and tensor factorizations", IEICE Transactions.
    .. [2] Lee and Seung (2000), "Algorithms for non-negative matrix factorization",
       NIPS.
    .. [3] Févotte and Idier (2011), "Algorithms for nonnegative matrix factorization
       with the beta-divergence", Neural Computation 23.
    .. [4] Varadhan and Roland (2008), "Simple and globally convergent methods for
       accelerating the convergence of any EM algorithm", Scandinavian Journal of
       Statistics 35.

    Examples
    --------
    >>> from descents import Factorization, descend, Stop
    >>> table = [[1.0, 2.0], [2.0, 4.0], [3.0, float("nan")]]  # of rank one
    >>> problem = Factorization(table, rank=1)
    >>> runs = descend(problem, 3, steps=Alternating(), stop=Stop(100))
    >>> bool((runs.losses < 1e-20).all())
    True
    """

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return an empty state: nothing is remembered."""
        if not applies(bound.problem):
            raise InvalidValueError(
                "alternating steps are for a Factorization whose losses have a quadratic "
                "above them (all but poisson, ordinal, ordistic and one's own), or of "
                "one divergence (kl, itakura_saito, beta) alone and nonnegative factors; "
                "give other steps"
            )
        return {}

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step over both factors."""
        problem = bound.problem
        assert isinstance(problem, Factorization)  # noqa: S101
        with torch.no_grad():
            if problem.cells.blocks[0].loss.divergence:
                return accelerated(problem, parameters, state, step)
            if isinstance(problem.cells, Streamed):
                return _streamed(problem, problem.cells, parameters, state)
            left, right = problem.extended(parameters)
            cuts = problem.cut_parameters(parameters)
            step = corner_step(problem, step)
            quadratic = problem.cells.in_memory.quadratic(left.dtype, left.device)
            look, known = _looked(problem, state, (left, right, cuts), quadratic, step)
            losses = problem.penalized(known["loss"].to(left.dtype), parameters)
            found: State
            rows, mapping = _rows_first(problem, parameters, state, look, (left, right))
            if quadratic is not None:
                known["loss"] = (known["loss"] + rows.change).clamp_min(0)
            if "V" not in parameters:  # the columns are held fixed
                found = {"known": known}
                return Update(rows.parameters, found, losses, mapping, -rows.whole)
            found = {}
            left, right = problem.extended(rows.parameters)
            nearer = quadratic or problem.cells.in_memory.look(left, right, cuts, step)
            columns = half_step(problem, rows.parameters, nearer, "columns", left)
            moved, equations = _balanced(problem, columns)
            if any(norm_is_free(problem, side) for side in SIDES):
                moved = normed(problem, moved)
                if quadratic is not None:
                    left = problem.extended(moved)[0]
                    gram, wanted = problem.cells.in_memory.normal(
                        quadratic, "columns", left
                    )
                    equations = {"gram": gram, "wanted": wanted}
            if quadratic is not None:
                known["loss"] = (known["loss"] + columns.change).clamp_min(0)
                found.update(known=known, equations=equations)
            gain = -(rows.whole + columns.whole)
        return Update(moved, found, losses, mapping, gain)

    def unsettled(self, bound: Bound, step: int) -> bool:
        """Return whether corners of the losses are still being rounded."""
        return corners_rounded(bound.problem, step)

    def mapping(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Mapping[str, torch.Tensor]:
        """Return the mapping alone: half the work of a step where that is known."""
        problem = bound.problem
        assert isinstance(problem, Factorization)  # noqa: S101
        single = problem.cells.blocks[0].loss.divergence
        if single or isinstance(problem.cells, Streamed):
            return super().mapping(bound, parameters, state, step)
        with torch.no_grad():
            left, right = problem.extended(parameters)
            look = problem.cells.in_memory.quadratic(left.dtype, left.device)
            if look is None:
                cuts = problem.cut_parameters(parameters)
                step = corner_step(problem, step)
                look = problem.cells.in_memory.look(left, right, cuts, step)
            return _rows_first(problem, parameters, state, look, (left, right))[1]


class _Balance(NamedTuple):
    """What gives the same predictions by factors of the least penalty.

    Attributes
    ----------
    turn, back : Tensor of shape (S, rank, rank)
        T and T^-T: what U and V are multiplied by.
    shifts : pair of Tensor of shape (S, 1, rank)
        What is taken from the rows of U before, and goes to the offsets of the columns;
        and from those of V, and goes to the biases of the rows.
    seen : pair of Tensor of shape (rows, 1)
        Which rows and columns have a cell; of the others nothing is taken.
    """

    turn: torch.Tensor
    back: torch.Tensor
    shifts: tuple[torch.Tensor, torch.Tensor]
    seen: tuple[torch.Tensor, torch.Tensor]

    def of(self, parameters: Parameters) -> Parameters:
        """Return parameters with the factors in that form."""
        U, V, (of_rows, of_columns) = parameters["U"], parameters["V"], self.shifts
        found = dict(parameters)
        if "row_biases" in parameters:
            gained = (U @ of_columns.mT)[..., 0]
            found["row_biases"] = parameters["row_biases"] + gained
            V = V - of_columns * self.seen[1]
        if "offsets" in parameters:
            found["offsets"] = parameters["offsets"] + (V @ of_rows.mT)[..., 0]
        found["U"] = (U - of_rows * self.seen[0]) @ self.turn
        found["V"] = V @ self.back
        return found

    def of_equations(self, equations: Parameters) -> Parameters:
        """Return the normal equations of the columns for the rows in that form."""
        gram, wanted, rank = equations["gram"], equations["wanted"], len(self.turn[0])
        size = gram.shape[-1]
        M = torch.eye(size, dtype=gram.dtype, device=gram.device)
        M = M.repeat(len(gram), 1, 1)
        M[:, :rank, :rank] = self.turn
        of_rows, of_columns = self.shifts
        if size > rank:  # the last column of the rows is of ones, one before of biases
            M[:, -1:, :rank] = -of_rows @ self.turn
        if size > rank + 1:
            M[:, :rank, rank : rank + 1] = of_columns.mT
        return {"gram": M[:, None].mT @ gram @ M[:, None], "wanted": wanted @ M}


def _balanced(problem: Factorization, half: Half) -> tuple[Parameters, Parameters]:
    """Return the parameters after the columns' half at the least penalty, its equations."""
    turn = _balance(problem, half.parameters)
    if turn is None:
        return half.parameters, half.equations
    return turn.of(half.parameters), turn.of_equations(half.equations)


def _balance(problem: Factorization, parameters: Parameters) -> _Balance | None:
    r"""Return what shares out the size of U V^T to the factors at the least penalty.

    The mean of U, weighted by what its rows are charged, goes to the offsets of the
    columns where these are free, and that of V to the biases of the rows. Then with A
    and B the charged Gram matrices of U and V, such that their penalties are tr(T' A T)
    and tr(T^-1 B T^-T) for U T and V T^-T, the least sum, 2 tr((A^(1/2) B
    A^(1/2))^(1/2)), is that of T = A^(-1/2) Q D^(1/4), where Q D Q' = A^(1/2) B
    A^(1/2): each component is charged as much in one factor as in the other. For l2
    alone this is the product's SVD form, D^(1/4) half of each value. None where a
    factor has no charge of its size, or a constraint or l1 that such a turn would
    break.
    """
    asked = problem.row_regularizer, problem.column_regularizer
    if not all(side.smooth and side.l2 for side in asked) or "V" not in parameters:
        return None
    like = parameters["U"]
    factors = [like, parameters["V"]]
    seen = problem.seen_rows(like)[:, None], problem.seen_coordinates(like)[:, None]
    charges = [turn_of(problem, side, like).l2[..., :1] for side in ("rows", "columns")]
    shifts = [like.new_zeros(len(like), 1, problem.rank) for _ in charges]
    free = (
        problem.has_offsets and not problem.l2_biases,
        problem.has_row_biases and not problem.l2_biases,
    )
    for k in (side for side in (0, 1) if free[side]):
        heavy = charges[k] * seen[k]
        total = heavy.sum(-2, keepdim=True)
        total = torch.where(total > 0, total, 1.0)
        shifts[k] = (heavy * factors[k]).sum(1, keepdim=True) / total
        factors[k] = factors[k] - shifts[k] * seen[k]
    A, B = (
        (factor.mT @ (charge * factor)).double()
        for factor, charge in zip(factors, charges, strict=True)
    )
    for k, gram in enumerate((A, B)):
        if asked[k].smoothness:
            apart = factors[k].diff(dim=-2)
            gram.add_((apart.mT @ apart).double(), alpha=asked[k].smoothness)
    # Of candidates, some may have no penalty; and a start may have run away.
    usable = torch.stack([_size(gram) for gram in (A, B)]).prod(0)
    usable = (usable > 0) & usable.isfinite()
    usable = usable[:, None, None]
    same = torch.eye(problem.rank, dtype=A.dtype, device=A.device).expand_as(A)
    A, B = torch.where(usable, A, same), torch.where(usable, B, same)
    root, over = _roots(A)
    values, Q = torch.linalg.eigh(root @ B @ root)
    least = torch.finfo(like.dtype).eps ** 2 * values[:, -1:]
    kept = values > least.clamp_min(torch.finfo(torch.float64).tiny)
    fourth = torch.where(kept, values, 1.0) ** 0.25
    T = torch.where(usable, over @ Q * (fourth * kept)[:, None], same).to(like)
    back = torch.where(usable, root @ Q * (kept / fourth)[:, None], same).to(like)
    of_rows, of_columns = (torch.where(usable, shift, 0.0) for shift in shifts)
    return _Balance(T, back, (of_rows, of_columns), seen)


def _size(gram: torch.Tensor) -> torch.Tensor:
    """Return the trace of each matrix."""
    return gram.diagonal(dim1=-2, dim2=-1).sum(-1)


def _roots(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the symmetric root of a positive semidefinite matrix, and its inverse."""
    values, turn = torch.linalg.eigh(gram)
    kept = values > torch.finfo(gram.dtype).eps * values[:, -1:]
    root = torch.where(kept, values, 0.0).sqrt()
    over = kept / torch.where(kept, root, 1.0)
    return turn * root[:, None] @ turn.mT, turn * over[:, None] @ turn.mT


def _rows_first(
    problem: Factorization,
    parameters: Parameters,
    state: State,
    look: Quadratic,
    sides: tuple[torch.Tensor, torch.Tensor],
) -> tuple[Half, LazyParameters]:
    """Solve for the rows; return that half, and the mapping of both before it."""
    rows = half_step(problem, parameters, look, "rows", sides[1])
    if "V" not in parameters:
        return rows, rows.mapping
    slopes = column_mapping(problem, parameters, state, look, sides)
    return rows, LazyParameters.both(rows.mapping, slopes, parameters)


def _looked(
    problem: Factorization,
    state: State,
    point: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    quadratic: Quadratic | None,
    step: int,
) -> tuple[Quadratic, Parameters]:
    """Return the quadratic of the loss, and the loss of the data as far as it is known.

    Where the loss is quadratic, it is measured by residuals once, and then changes by
    what every half of a step takes from it; it is measured again when so much of it is
    gone that the rounding of what is gone would show.
    """
    if quadratic is None or "known" not in state:
        look = problem.cells.in_memory.look(*point, step)
        assert look.losses is not None  # noqa: S101
        fresh = look.losses.double()
        return look, {"loss": fresh, "measured": fresh}
    known = dict(state["known"])
    small = _worn(known)
    away = remote(small.device)  # it is not asked whether there are any
    if step % AWAY_EVERY == 0 if away else bool(small.any()):
        fresh = problem.cells.losses(*point).double()
        known = {name: torch.where(small, fresh, old) for name, old in known.items()}
    return quadratic, known


def _worn(known: Parameters) -> torch.Tensor:
    """Return of which starts so much of the loss is gone that it is measured again."""
    return known["loss"] < WORN * known["measured"]


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
    alone = len(found.blocks) == 1 and found.blocks[0].loss.divergence
    sides = (problem.row_regularizer, problem.column_regularizer)
    return (alone and all(side.entrywise for side in sides)) or found.majorized


def corners_rounded(problem: Problem, step: int) -> bool:
    """Return whether the quadratics of a step are of losses with rounded corners.

    Examples
    --------
    >>> table = [[1.0, 2.0], [0.0, 1.0]]
    >>> [corners_rounded(Factorization(table, 1, loss=loss), 10)
    ...  for loss in ("squared", "absolute")]
    [False, True]
    """
    assert isinstance(problem, Factorization)  # noqa: S101
    return still_rounded(corner_step(problem, step)) and not problem.cells.smooth


def corner_step(problem: Factorization, step: int) -> int:
    """Return the step whose rounding of corners a step has.

    Where columns of norm one cost nothing, factors are as free as without a constraint or
    a penalty, and move slowly along directions in which the loss hardly changes. Corners
    then sharpen at a quarter of the usual pace: at the usual one, the best of five starts
    of a small table ended up to 8% higher.
    """
    slow = not problem.cells.smooth and any(norm_is_free(problem, s) for s in SIDES)
    return step // SLOWER if slow else step


def _streamed(
    problem: Factorization, found: Streamed, parameters: Parameters, state: State
) -> Update:
    """Take a step from one reading of a table on disk.

    The rows of a block are solved for while it is in memory, and add their part to the
    normal equations of the columns.
    """
    like = parameters["U"]
    own: Parameters = {
        name: value for name, value in parameters.items() if name in OF_ROWS
    }
    moved: Parameters = {name: torch.empty_like(value) for name, value in own.items()}
    known = dict(state.get("known", {}))
    measured = _worn(known) if known else torch.ones(len(like), dtype=torch.bool)
    sums: Parameters = {}

    def add(**parts: torch.Tensor) -> None:
        for name, part in parts.items():
            sums[name] = part.double() + sums.get(name, 0.0)

    for place, block in found.pieces():
        part = problem.of_rows(place, block)
        here = {**parameters, **{name: value[:, place] for name, value in own.items()}}
        left, right = part.extended(here)
        if bool(measured.any()):
            add(loss=losses_of(block, left, right))
        look = block.quadratic(left.dtype, left.device)
        assert look is not None  # noqa: S101
        rows = half_step(part, here, look, "rows", right)
        add(change=rows.change, whole=rows.whole)
        for name in own:
            moved[name][:, place] = rows.parameters[name]
            add(**{name: flat({name: rows.mapping[name]}).double().square().sum(1)})
        if "V" in parameters:
            add(bound=(left.mT @ left)[:, None])
            if "equations" not in state:
                gram, wanted = block.normal(look, "columns", left)
                add(gram_before=gram, wanted_before=wanted)
            gram, wanted = block.normal(
                look, "columns", part.extended(rows.parameters)[0]
            )
            add(gram=gram, wanted=wanted)
        del block, look
    if not known:
        known = {"loss": sums["loss"], "measured": sums["loss"]}
    elif "loss" in sums:
        known = {n: torch.where(measured, sums["loss"], k) for n, k in known.items()}
    losses = problem.penalized(known["loss"].to(like.dtype), parameters)
    known["loss"] = (known["loss"] + sums["change"]).clamp_min(0)
    # Of the rows the norms alone: what is asked of a mapping is how large it is.
    mapping = {name: sums[name].sqrt()[:, None] for name in own}
    moved = {**parameters, **moved}
    if "V" not in parameters:
        return Update(moved, {"known": known}, losses, mapping, -sums["whole"])
    columns, slopes = _columns_of_sums(problem, parameters, moved, state, (sums, right))
    mapping |= slopes
    known["loss"] = (known["loss"] + columns.change).clamp_min(0)
    mapping = {name: mapping[name] for name in parameters}
    balanced, equations = _balanced(problem, columns)
    ended: State = {"known": known, "equations": equations}
    gain = -(sums["whole"] + columns.whole)
    return Update(balanced, ended, losses, mapping, gain)


def _columns_of_sums(
    problem: Factorization,
    parameters: Parameters,
    moved: Parameters,
    state: State,
    read: tuple[Parameters, torch.Tensor],
) -> tuple[Half, Parameters]:
    """Solve for the columns after all rows were read, and return their mapping, too.

    Before the step, the loss falls along 2 (W - G V), with the equations G V = W of the
    rows as they were.
    """
    sums, right = read
    like = parameters["U"]
    summed = {name: value.to(like.dtype) for name, value in sums.items()}
    before = state.get("equations")
    if before is None:
        before = {name: summed[f"{name}_before"] for name in ("gram", "wanted")}
    downhill = 2 * (before["wanted"] - products(before["gram"], right))
    turn = turn_of(problem, "columns", downhill)
    slopes = mapping_along(turn, parameters, downhill, summed["bound"])
    equations = summed["gram"], summed["wanted"]
    return solved_side(problem, moved, "columns", equations), slopes
