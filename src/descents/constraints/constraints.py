"""Constraints and penalties on a factor: what is added to the loss, and its prox.

Written for rows x_i of a factor: the penalty is l1 sum|x| + l2 sum x^2, and s times the
sum of ||x_{i+1} - x_i||^2 over neighbours, over x of 0 or more where the factor is
nonnegative, and in one of `descents.constraints.sets`. All of these combine, and the prox of
their sum is exact; the smooth parts, l2 and s, are left to the gradient.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descents.constraints.sets import (
    NAMES,
    FactorSet,
    Fixed,
    UnitNorm,
    differences,
    entrywise,
    named_set,
    products,
)
from descents.errors import Complaints, InvalidValueError
from descents.kernels.compiled import NUMBERS, address, of_precision
from descents.validation import real_number

SOURCE = Path(__file__).parents[1] / "kernels" / "rounds.c"
MOST_COORDINATES = 64
"""Rows of more coordinates are left to torch."""
PASSES = 4
"""How many rounds over the coordinates solve a constrained quadratic at each step."""


@dataclass(frozen=True)
class Regularizer:
    """What is asked of one factor.

    Parameters
    ----------
    nonnegative : bool
    l1, l2 : float
        At least 0.
    smoothness : float
        What the squared differences of neighbouring rows are multiplied by; at least 0.
    inside : FactorSet, optional
        The set that the factor lies in.

    Examples
    --------
    >>> Regularizer(nonnegative=True, l1=1.0).prox(torch.tensor([-1.0, 0.5, 3.0]), 1.0)
    tensor([0., 0., 2.])
    """

    nonnegative: bool = False
    l1: float = 0.0
    l2: float = 0.0
    smoothness: float = 0.0
    inside: FactorSet | None = None

    def __post_init__(self) -> None:
        for name in ("l1", "l2", "smoothness"):
            object.__setattr__(self, name, real_number(name, getattr(self, name), 0))
        if self.nonnegative and isinstance(self.inside, Fixed):
            low = np.nanmin(self.inside.values, initial=0)
            if low < 0:
                raise InvalidValueError(
                    f"a fixed value is {low:g} where the factor is to be nonnegative; "
                    "fix values of 0 or more, or leave 'nonnegative' out"
                )

    @property
    def smooth(self) -> bool:
        """Whether the penalty alone can be differentiated, on all of space."""
        return not self.nonnegative and self.l1 == 0 and self.inside is None

    @property
    def entrywise(self) -> bool:
        """Whether what is asked of an entry does not depend on the others."""
        return self.inside is None and self.smoothness == 0

    @property
    def exact(self) -> bool:
        """Whether `solve` finds the least of a set that is not convex."""
        return self.inside is not None and self.inside.exact and not self.smoothness

    @property
    def positive(self) -> bool:
        """Whether the factor is 0 or more."""
        return self.nonnegative or (self.inside is not None and self.inside.positive)

    @property
    def constraint(self) -> list[Any]:
        """The names of its sets, and fixed values, as `regularizers` takes them."""
        names: list[Any] = ["nonnegative"] if self.nonnegative else []
        if self.inside is not None:
            fixed = isinstance(self.inside, Fixed)
            names.append(self.inside if fixed else self.inside.name)
        return names

    def of_other_rows(self, rows: int) -> Regularizer:
        """Return what is asked of rows that were not fitted.

        The same, save that there is no norm of columns; smoothness is of the new rows
        among themselves; and fixed values are those of the same number of rows, or the
        same in all.
        """
        if self.inside is None:
            return self
        return replace(self, inside=self.inside.of_other_rows(rows))

    def ridge(self, factor: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Return l2 sum_i c_i ||x_i||^2 of each start, the smooth part, shape (S,).

        Parameters
        ----------
        factor : Tensor of shape (S, rows, rank)
        counts : Tensor of shape (rows,)
            What the penalty of each row is multiplied by.
        """
        return self.l2 * (factor.square().sum(-1) * counts).sum(-1)

    def lasso(self, factor: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Return l1 sum_i c_i |x_i|, what the prox takes care of, shape (S,)."""
        return self.l1 * (factor.abs().sum(-1) * counts).sum(-1)

    def roughness(self, factor: torch.Tensor) -> torch.Tensor:
        """Return s sum_i ||x_{i+1} - x_i||^2 of each start, shape (S,)."""
        return self.smoothness * factor.diff(dim=-2).square().sum((-1, -2))

    def uphill(self, factor: torch.Tensor) -> torch.Tensor:
        """Return half the derivative of `roughness`."""
        return self.smoothness * differences(factor)

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        counts: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        """Minimise sum_q l1 c |x_q| + (x_q - p_q)^2 / (2 rate_q) over the set.

        Without l1 it is the projection: the nearest point of the set.

        Parameters
        ----------
        point : Tensor of shape (..., rows, rank)
        rate, counts : float or Tensor
            Of shapes that broadcast to the point's; c is what the penalty of each row
            is multiplied by.
        """
        thresholds = rate * counts * self.l1 if self.l1 else 0.0
        if self.inside is None:
            return entrywise(point, thresholds, nonnegative=self.nonnegative)
        return self.inside.prox(point, rate, thresholds, nonnegative=self.nonnegative)

    def nearest(self, point: torch.Tensor) -> torch.Tensor:
        """Return the nearest point of the set; of several, always the same."""
        return replace(self, l1=0.0).prox(point, 1.0)

    def distance(self, point: torch.Tensor) -> float:
        """Return how far an entry is from that of the nearest point, at most."""
        if not point.numel():
            return 0.0
        return float((point - self.nearest(point)).abs().max())

    def solve(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        bound: int,
    ) -> torch.Tensor:
        r"""Minimise x' G x - 2 x' r + sum_q l2_q x_q^2 + l1_q |x_q| for every row.

        Without constraint or l1 exactly, by Cholesky, with a trace of damping towards
        the given point: where G is singular the answer is the one nearest to it. Else
        by rounds of exact minimisation over one coordinate at a time, each of which
        only falls. Sets have ways of their own; smooth rows are solved for together
        where nothing else is asked, else every other row in turn.

        Parameters
        ----------
        gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
        right, point : Tensor of shape (S, rows, q)
        l2, l1 : Tensor that broadcast to (rows, q), or to (S, rows, q)
            The penalties of each coordinate, multiplied out.
        bound : int
            How many coordinates, from the first, the constraint holds for: all, or
            all but the last, a bias.
        """
        return self.step(gram, right, point, l2, l1, bound)[0]

    def step(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        bound: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `solve` does, and the change of x' G x - 2 x' r over all rows.

        Returns
        -------
        solved : Tensor of shape (S, rows, q)
        change : float64 Tensor of shape (S,)
        """
        if not self.entrywise:
            together = self._solve_together(gram, right, point, l2, l1, bound)
            return together, _change(gram, right, point, together)
        scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
        unit = torch.finfo(right.dtype).eps
        # Each row's own scale: the weights of rows may span many orders.
        damping = 60 * unit * scale + torch.finfo(right.dtype).tiny
        if not self.nonnegative and not self.l1:
            found = _exactly(gram, right, point, l2, damping)
        else:
            charges = [
                charge.expand(right.shape if charge.ndim == 3 else right.shape[1:])
                for charge in (l2, l1)
            ]
            args = (gram, right, point, charges, damping[..., 0], bound)
            compiled = self._compiled(*args)
            if compiled is not None:
                return compiled
            found = self._rounds(*args)
        return found, _change(gram, right, point, found)

    def _rounds(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        charges: list[torch.Tensor],
        damping: torch.Tensor,
        bound: int,
    ) -> torch.Tensor:
        """Take the rounds coordinate by coordinate: each lies in one piece."""
        l2, l1 = charges
        moved = point.mT.clone(memory_format=torch.contiguous_format)
        target = right.mT.contiguous()
        for _ in range(PASSES):
            for c in range(right.shape[-1]):
                row = gram[..., c, :]
                if gram.shape[1] == 1:
                    inner = torch.bmm(row, moved)[:, 0]
                else:
                    inner = (row.mT * moved).sum(1)
                here, own = moved[:, c], gram[..., c, c]
                free = target[:, c] - inner + (own + damping) * here
                half = l1[..., c] / 2
                if c >= bound:
                    pass
                elif self.nonnegative:
                    free = (free - half).clamp_min(0)
                else:
                    free = free.sign() * (free.abs() - half).clamp_min(0)
                moved[:, c] = free / (own + l2[..., c] + damping)
        return moved.mT.contiguous()

    def _solve_together(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        bound: int,
    ) -> torch.Tensor:
        """Solve where there is a set, or rows depend on each other."""
        if not self.smoothness or isinstance(self.inside, UnitNorm):
            return self._solve_inside(gram, right, point, l2, l1, bound)
        rows = l2.shape[-2]
        near = torch.full_like(l2[..., :1], 2.0)  # how many neighbors a row has
        near[..., 0, :] -= 1
        near[..., -1, :] -= 1
        held = torch.zeros_like(l2)
        held[..., :bound] = self.smoothness
        l2 = l2 + near * held
        gram = gram.expand(-1, rows, -1, -1)
        if self.smooth:
            return _solve_chain(gram, right, point, l2, self.smoothness, bound)
        moved = point.clone(memory_format=torch.contiguous_format)
        for first in range(min(2, rows)):
            pick = slice(first, None, 2)
            toward = held * (near * moved - differences(moved))
            part = self if self.inside is None else self._of_rows(pick)
            moved[:, pick] = part._solve_inside(
                gram[:, pick],
                (right + toward)[:, pick],
                moved[:, pick],
                l2[..., pick, :],
                l1[..., pick, :],
                bound,
            )
        return moved

    def _of_rows(self, pick: slice) -> Regularizer:
        if not isinstance(self.inside, Fixed):
            return self
        return replace(self, inside=Fixed(self.inside.values[pick]))

    def _solve_inside(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        bound: int,
    ) -> torch.Tensor:
        """Solve in the set, with a bias at its best for whichever member is taken."""
        plain = replace(self, inside=None, smoothness=0.0).solve
        if self.inside is None:
            return plain(gram, right, point, l2, l1, bound)
        bias = None
        if bound < right.shape[-1]:
            own = gram[..., -1, -1] + l2[..., : gram.shape[1], -1] + 1e-30
            cross = gram[..., :-1, -1]
            bias = (right[..., -1] + 1e-30 * point[..., -1]) / own
            gram = gram[..., :-1, :-1] - (
                cross[..., None] * cross[..., None, :] / own[..., None, None]
            )
            right = right[..., :-1] - cross * bias[..., None]
            point, l2, l1 = point[..., :-1], l2[..., :-1], l1[..., :-1]
        asked: dict[str, Any] = {"nonnegative": self.nonnegative}
        if isinstance(self.inside, UnitNorm):
            found = self.inside.over_columns(
                gram, right, point, l2, l1, self.smoothness, **asked
            )
        else:
            found = self.inside.solve(gram, right, point, l2, l1, plain=plain, **asked)
        if bias is None:
            return found
        bias = bias - (cross * found).sum(-1) / own
        return torch.cat([found, bias[..., None]], -1)

    def _compiled(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        charges: list[torch.Tensor],
        damping: torch.Tensor,
        bound: int,
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Take the same rounds by compiled code; None where there is none."""
        starts, rows, q = right.shape
        if right.device.type != "cpu" or q > MOST_COORDINATES:
            return None
        code = of_precision(SOURCE, right.dtype)
        if code is None:
            return None
        counts = [ctypes.c_int64(n) for n in (rows, q, PASSES, bound, self.nonnegative)]
        gram = gram.contiguous()
        changes = []
        if gram.shape[1] > 1 or rows == 1:  # a row lies in one piece
            code.rounds_apart.restype = ctypes.c_double
            found = point.clone(memory_format=torch.contiguous_format)
            held = [charge.contiguous() for charge in charges]
            each = [damping.contiguous(), gram, right.contiguous()]
            for k in range(starts):
                own = [_of_start(charge, k) for charge in held]
                given = (*(tensor[k] for tensor in each), *own, found[k])
                changes.append(code.rounds_apart(*counts, *map(address, given)))
        else:
            code.rounds_shared.restype = ctypes.c_double
            found = torch.empty_like(point, memory_format=torch.contiguous_format)
            for k, scale in enumerate(damping[:, 0].tolist()):
                places: list[Any] = [NUMBERS[right.dtype](scale), address(gram[k])]
                own = [_of_start(charge, k) for charge in charges]
                for tensor in (right[k], *own, point[k]):
                    places += [address(tensor), *map(ctypes.c_int64, tensor.stride())]
                changes.append(code.rounds_shared(*counts, *places, address(found[k])))
        return found, torch.tensor(changes, dtype=torch.float64)


def _of_start(charge: torch.Tensor, start: int) -> torch.Tensor:
    """Return the charges of one start, where they are not those of all."""
    return charge[start] if charge.ndim == 3 else charge


def _change(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    found: torch.Tensor,
) -> torch.Tensor:
    """Return what x' G x - 2 x' r changes by, over all rows."""
    moved = found - point
    twice = products(gram, moved) + 2 * (products(gram, point) - right)
    return (moved * twice).double().sum((1, 2))


def _solve_chain(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    l2: torch.Tensor,
    smoothness: float,
    bound: int,
) -> torch.Tensor:
    """Minimise the quadratics of all rows at once, each tied to the one before it.

    By the Cholesky factor of the matrix of all rows, which is banded, with the damping
    of `Regularizer.solve`.
    """
    from scipy.linalg import LinAlgError, solveh_banded

    starts, rows, q = right.shape
    size = gram.diagonal(dim1=-2, dim2=-1).mean((-1, -2)) + l2.mean((-1, -2))
    damping = (30 * torch.finfo(right.dtype).eps * size + 1e-30)[:, None, None]
    whole = gram + torch.diag_embed(l2 + damping)
    wanted = right + damping * point
    found = np.full(right.shape, np.nan, dtype=_numpy_type(right))
    for k in range(starts):
        matrix = whole[k].cpu().numpy()
        band = np.zeros((q + 1, rows, q), dtype=matrix.dtype)
        for below in range(q):
            band[below, :, : q - below] = matrix.diagonal(-below, 1, 2)
        band[q, :-1, :bound] = -smoothness
        try:
            solved = solveh_banded(
                band.reshape(q + 1, rows * q),
                wanted[k].reshape(-1).cpu().numpy(),
                lower=True,
                check_finite=False,
            )
        except LinAlgError:  # of numbers that are not finite: so is the start
            continue
        found[k] = solved.reshape(rows, q)
    return torch.as_tensor(found).to(right)


def _numpy_type(like: torch.Tensor) -> Any:
    return np.float32 if like.dtype == torch.float32 else np.float64


def _exactly(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    l2: torch.Tensor,
    damping: torch.Tensor,
) -> torch.Tensor:
    """Minimise x' G x - 2 x' r + sum l2 x^2 by Cholesky, damped towards the point."""
    # Rows that share a Gram matrix have as many cells, and so one penalty.
    charge = l2[..., : gram.shape[1], :] + damping
    diagonal = charge.expand(len(gram), gram.shape[1], right.shape[-1])
    whole = gram + torch.diag_embed(diagonal)
    target = (right + damping * point)[..., None]
    factor, _ = torch.linalg.cholesky_ex(whole)
    if whole.shape[1] == 1 and right.shape[1] > 1:  # one Gram for all rows
        wide = torch.cholesky_solve(target[..., 0].mT, factor[:, 0])
        return wide.mT
    return torch.cholesky_solve(target, factor)[..., 0]


def regularizers(
    constraint: Any, penalty: Any
) -> tuple[Regularizer, Regularizer, float, float]:
    """Return what is asked of the row factor and of the column factor.

    Parameters
    ----------
    constraint : None, str, FactorSet, or a pair of these or of sequences of them
        Of rows and columns, or of both: "nonnegative", "simplex", "unit_norm",
        "sparse:K", "one_sparse" or "unit_one_sparse", or `Fixed` values. Several
        together are joined by "+", or in a sequence: "nonnegative+sparse:2".
    penalty : None, number, or mapping
        A number is l2 on both factors. A mapping may have l1, l2 (on both), l1_rows,
        l2_rows, l1_columns, l2_columns, smooth_rows, smooth_columns, l2_biases, and
        count_power: a row's or column's l1 and l2 are multiplied by the number of its
        observed cells to that power.

    Returns
    -------
    rows, columns : Regularizer
    l2_biases, count_power : float

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.

    Examples
    --------
    >>> regularizers("nonnegative+sparse:2", {"l1_rows": 2})[0].constraint
    ['nonnegative', 'sparse:2']
    """
    complaints = Complaints()
    pair = constraint if isinstance(constraint, tuple | list) else (constraint,) * 2
    sets: list[Any] = [None, None]
    if len(pair) != 2:
        complaints.require(False, _unknown(constraint))
    elif pair[0] is pair[1]:
        sets = [complaints.attempt(_asked, pair[0])] * 2
    else:
        sets = [complaints.attempt(_asked, one) for one in pair]
    if penalty is None:
        penalty = {}
    elif not isinstance(penalty, dict):
        penalty = {"l2": complaints.attempt(real_number, "penalty", penalty, 0)}
    names = [f"l{p}{of}" for p in (1, 2) for of in ("", "_rows", "_columns")]
    known = [*names, "smooth_rows", "smooth_columns", "l2_biases", "count_power"]
    unknown = [name for name in penalty if name not in known]
    complaints.require(
        not unknown,
        f"penalty has {', '.join(map(repr, unknown))}; give some of {', '.join(known)}",
    )
    given = {
        name: complaints.attempt(real_number, name, value, 0)
        for name, value in penalty.items()
        if name in known and value is not None
    }
    complaints.raise_any()
    factors = [
        complaints.attempt(
            Regularizer,
            nonnegative=nonnegative,
            l1=given.get(f"l1_{of}", given.get("l1", 0.0)),
            l2=given.get(f"l2_{of}", given.get("l2", 0.0)),
            smoothness=given.get(f"smooth_{of}", 0.0),
            inside=inside,
        )
        for (nonnegative, inside), of in zip(sets, ("rows", "columns"), strict=True)
    ]
    complaints.raise_any()
    biases = given.get("l2_biases", 0.0)
    return factors[0], factors[1], biases, given.get("count_power", 0.0)


def _unknown(constraint: Any) -> str:
    return (
        f"constraint is {constraint!r}; give None, 'nonnegative', "
        f"{', '.join(map(repr, NAMES))}, Fixed values, several joined by '+', or a pair "
        "of these for rows and columns"
    )


def _asked(constraint: Any) -> tuple[bool, FactorSet | None]:
    """Return whether one factor is nonnegative, and the set that it lies in."""
    parts = [constraint]
    if isinstance(constraint, str):
        parts = constraint.split("+")
    elif isinstance(constraint, Sequence):
        parts = [p for part in constraint for p in _split(part)]
    nonnegative, sets = False, []
    for part in parts:
        if part == "nonnegative":
            nonnegative = True
        elif isinstance(part, FactorSet):
            sets.append(part)
        elif part is not None and part != "none":
            found = named_set(part) if isinstance(part, str) else None
            if found is None:
                raise InvalidValueError(_unknown(constraint))
            sets.append(found)
    if len(sets) > 1:
        listed = " and ".join(repr(one.name) for one in sets)
        raise InvalidValueError(
            f"one factor is to lie in {listed} at once, of which the nearest point is "
            "not known here; give one of them, to which 'nonnegative' and penalties may "
            "be added"
        )
    return nonnegative, sets[0] if sets else None


def _split(part: Any) -> list[Any]:
    return list(part.split("+")) if isinstance(part, str) else [part]


def most_components(
    shape: tuple[int, int], rows: Regularizer, columns: Regularizer
) -> int:
    """Return the largest rank that says something of a table.

    The lesser side; but where the rows of a factor are shares or sparse, as many as the
    table has of them.

    Examples
    --------
    >>> most_components((9, 2), *regularizers(("unit_one_sparse", None), None)[:2])
    9
    """
    sides = [
        side
        for side, asked in zip(shape, (rows, columns), strict=True)
        if asked.inside is not None and asked.inside.overcomplete
    ]
    return max([min(shape), *sides])


def counted(counts: np.ndarray, power: float) -> np.ndarray:
    """Return what each row's penalty is multiplied by: its count to a power."""
    if power == 0:
        return np.ones(len(counts))
    return np.maximum(counts, 1.0) ** power
