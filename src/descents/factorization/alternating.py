"""Alternating steps: each factor in turn goes to the minimum of a majorizing quadratic.

The quadratic is nowhere below the loss and equals it at the current point. For squared
loss it is the loss itself, and each half step is exact. There is no learning rate, no
step raises the loss, and all iterates meet the constraints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from descents.cells.in_memory import Quadratic
from descents.cells.streamed import Streamed, losses_of
from descents.constraints.quadratics import products
from descents.devices import remote
from descents.errors import InvalidValueError
from descents.factorization.balance import balanced
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
"""The parameters with one entry, or one row, per row of the table."""
WORN = 1e-3
"""If the loss falls below this share of the last evaluated one, it is evaluated again."""
AWAY_EVERY = 10
"""On another device, the loss is evaluated again after this number of steps. In between,
the loss of an exact fit may be reported as 0."""


@dataclass(frozen=True)
class Alternating(UpdateRule):
    """Alternating minimization over the rows of U, then over the rows of V.

    Biases are updated with U, offsets with V. Given the other factor, rows are
    independent, and the normal equations of all rows are solved in one batch. With
    nonnegativity or an l1 penalty, they are solved by coordinate descent (for
    nonnegative factors the HALS of [1]_). A set of `descents.constraints.sets` has a
    solver of its own, or prox-gradient steps. Rows with a smoothness penalty are solved
    jointly, or every other row in turn.

    Beta-divergences, including Kullback-Leibler, use the multiplicative step of [2]_
    with the exponent of [3]_, extended to penalties. Every third step is extrapolated
    [4]_ if that lowers the loss.

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

    distributed: ClassVar[bool] = True

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return an empty state, or raise an error if the problem is not supported."""
        if not applies(bound.problem):
            raise InvalidValueError(
                "alternating steps are for a Factorization whose losses have a majorizing "
                "quadratic (all but poisson, ordinal, ordistic and custom losses), or "
                "with one divergence (kl, itakura_saito, beta) for all columns and "
                "nonnegative factors; give other steps"
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
            # The prediction is left @ right.T. The quadratic is that of squared loss,
            # the same at every point, or None for losses that are majorized anew.
            left, right = problem.extended(parameters)
            cuts = problem.cut_parameters(parameters)
            step = corner_step(problem, step)
            quadratic = problem.cells.in_memory.quadratic(left.dtype, left.device)
            look, known = _looked(problem, state, (left, right, cuts), quadratic, step)
            losses = problem.penalized(known["loss"].to(left.dtype), parameters)
            found: State
            # The first half step is over U and the row biases.
            rows, mapping = _rows_first(problem, parameters, state, look, (left, right))
            if quadratic is not None:
                known["loss"] = (known["loss"] + rows.change).clamp_min(0)
            if "V" not in parameters:  # the columns are held fixed
                found = {"known": known}
                return Update(rows.parameters, found, losses, mapping, -rows.whole)
            found = {}
            # The second half step is over V and the offsets, majorized at the new rows.
            left, right = problem.extended(rows.parameters)
            nearer = quadratic or problem.cells.in_memory.look(left, right, cuts, step)
            columns = half_step(problem, rows.parameters, nearer, "columns", left)
            moved, equations = balanced(problem, columns)
            # The normal equations of the columns belong to the rows as they are returned.
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
        """Return whether this step still uses rounded corners of the losses."""
        return corners_rounded(bound.problem, step)

    def mapping(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Mapping[str, torch.Tensor]:
        """Return the prox-gradient mapping without the step of the columns."""
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


def _rows_first(
    problem: Factorization,
    parameters: Parameters,
    state: State,
    look: Quadratic,
    sides: tuple[torch.Tensor, torch.Tensor],
) -> tuple[Half, LazyParameters]:
    """Return the half step of the rows, and the mapping of both sides before it."""
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
    """Return the quadratic at a point, and the loss of each start without penalties.

    If the loss is quadratic, it is evaluated once, and each half step then adds the
    change of the quadratic. After the loss has fallen by a large factor, the rounding
    errors of these changes would be visible, and it is evaluated again.

    Returns
    -------
    look : Quadratic
    known : dict of float64 Tensor of shape (S,)
        "loss" is the current loss, "measured" the last one that was evaluated.
    """
    if quadratic is None or "known" not in state:
        look = problem.cells.in_memory.look(*point, step)
        assert look.losses is not None  # noqa: S101
        fresh = look.losses.double()
        return look, {"loss": fresh, "measured": fresh}
    known = dict(state["known"])
    small = _worn(known)
    away = remote(small.device)  # looking at `small` would wait for the device
    if step % AWAY_EVERY == 0 if away else bool(small.any()):
        fresh = problem.cells.losses(*point).double()
        known = {name: torch.where(small, fresh, old) for name, old in known.items()}
    return quadratic, known


def _worn(known: Parameters) -> torch.Tensor:
    """Return a mask of the starts whose loss has to be evaluated again, shape (S,)."""
    return known["loss"] < WORN * known["measured"]


def applies(problem: Problem) -> bool:
    """Return whether `Alternating` supports a problem.

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
    """Return whether a step majorizes losses with rounded corners.

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
    """Return the step number that sets how much corners of the losses are rounded.

    Factors whose norms are free (`norm_is_free`) move slowly along directions in which
    the loss hardly changes. The rounding then decreases at a quarter of the usual speed:
    at the usual speed, the best of five starts on a small table ended up to 8% higher.
    """
    slow = not problem.cells.smooth and any(norm_is_free(problem, s) for s in SIDES)
    return step // SLOWER if slow else step


def _streamed(
    problem: Factorization, found: Streamed, parameters: Parameters, state: State
) -> Update:
    """Take a step with one pass over a table on disk.

    While a block is in memory, its rows are solved for, and their terms are added to the
    normal equations of the columns.
    """
    like = parameters["U"]
    own: Parameters = {
        name: value for name, value in parameters.items() if name in OF_ROWS
    }
    moved: Parameters = {name: torch.empty_like(value) for name, value in own.items()}
    known = dict(state.get("known", {}))
    every = torch.ones(len(like), dtype=torch.bool, device=like.device)
    measured = _worn(known) if known else every
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
    sums = _of_all_processes(found, sums)
    if not known:
        known = {"loss": sums["loss"], "measured": sums["loss"]}
    elif "loss" in sums:
        known = {n: torch.where(measured, sums["loss"], k) for n, k in known.items()}
    losses = problem.penalized(known["loss"].to(like.dtype), parameters)
    known["loss"] = (known["loss"] + sums["change"]).clamp_min(0)
    # Only the norm of a mapping is used, so that of the rows is a norm per start.
    mapping = {name: sums[name].sqrt()[:, None] for name in own}
    moved = {**parameters, **moved}
    if "V" not in parameters:
        return Update(moved, {"known": known}, losses, mapping, -sums["whole"])
    columns, slopes = _columns_of_sums(problem, parameters, moved, state, (sums, right))
    mapping |= slopes
    known["loss"] = (known["loss"] + columns.change).clamp_min(0)
    mapping = {name: mapping[name] for name in parameters}
    sized, equations = balanced(problem, columns)
    ended: State = {"known": known, "equations": equations}
    gain = -(sums["whole"] + columns.whole)
    return Update(sized, ended, losses, mapping, gain)


def _of_all_processes(found: Streamed, sums: Parameters) -> Parameters:
    """Return sums over the rows of all processes, except for the mapping of the rows.

    Of the mapping, each process has the norm of its own rows.
    """
    together, shared = found.together, dict(sums)
    if together.size == 1:
        return sums
    own = {name: shared.pop(name) for name in OF_ROWS if name in shared}
    for name in ("gram", "gram_before"):
        if name in shared and not found.complete:  # one for each column
            gram = shared[name]
            shared[name] = gram.expand(-1, found.coordinates, -1, -1)
    return together.sums(shared) | own


def _columns_of_sums(
    problem: Factorization,
    parameters: Parameters,
    moved: Parameters,
    state: State,
    read: tuple[Parameters, torch.Tensor],
) -> tuple[Half, Parameters]:
    """Solve for the columns after all rows have been read, and return their mapping.

    Before the step, the negative gradient by V is 2 (W - G V), with the normal equations
    G V = W of the rows before the step.
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
