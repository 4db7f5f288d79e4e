"""Constraints and penalties on a factor: what is added to the loss, and its prox.

Written for rows x of a factor: the penalty is l1 sum|x| + l2 sum x^2, over x of 0 or
more where the factor is nonnegative. The three combine, and the prox of their sum is
exact.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descents.checks import InvalidValueError, real_number
from descents.problems.compiled import NUMBERS, address, of_precision

SOURCE = Path(__file__).with_name("rounds.c")
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

    Examples
    --------
    >>> Regularizer(nonnegative=True, l1=1.0).prox(torch.tensor([-1.0, 0.5, 3.0]), 1.0)
    tensor([0., 0., 2.])
    """

    nonnegative: bool = False
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        for name in ("l1", "l2"):
            object.__setattr__(self, name, real_number(name, getattr(self, name), 0))

    @property
    def smooth(self) -> bool:
        """Whether the penalty alone can be differentiated, on all of space."""
        return not self.nonnegative and self.l1 == 0

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

    def prox(self, point: torch.Tensor, rate: torch.Tensor | float) -> torch.Tensor:
        """Minimise l1 |x| + (x - p)^2 / (2 rate) over the set, entry by entry.

        Without l1 it is the projection: the nearest point of the set.

        Parameters
        ----------
        point : Tensor
        rate : float or Tensor
            Of a shape that broadcasts to the point's.
        """
        if self.nonnegative:
            shifted = point - rate * self.l1 if self.l1 else point
            return shifted.clamp_min(0)
        if self.l1:
            return point.sign() * (point.abs() - rate * self.l1).clamp_min(0)
        return point

    def distance(self, point: torch.Tensor) -> float:
        """Return the largest distance of an entry from the set."""
        if not self.nonnegative or not point.numel():
            return 0.0
        return float((-point).clamp_min(0).max())

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
        only falls.

        Parameters
        ----------
        gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
        right, point : Tensor of shape (S, rows, q)
        l2, l1 : Tensor that broadcast to (rows, q), or to (S, rows, q)
            The penalties of each coordinate, multiplied out.
        bound : int
            How many coordinates, from the first, the constraint holds for.
        """
        q = right.shape[-1]
        scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
        unit = torch.finfo(right.dtype).eps
        damping = 30 * unit * (scale + scale.mean(1, keepdim=True)) + 1e-30
        if not self.nonnegative and not self.l1:
            # Rows that share a Gram matrix have as many cells, and so one penalty.
            charge = l2[..., : gram.shape[1], :] + damping
            whole = gram + torch.diag_embed(charge.expand(*scale.shape[:2], q))
            target = (right + damping * point)[..., None]
            factor, _ = torch.linalg.cholesky_ex(whole)
            if whole.shape[1] == 1 and right.shape[1] > 1:  # one Gram for all rows
                wide = torch.cholesky_solve(target[..., 0].mT, factor[:, 0])
                return wide.mT
            return torch.cholesky_solve(target, factor)[..., 0]
        charges = [c.expand(right.shape[3 - c.ndim :]) for c in (l2, l1)]
        found = self._compiled(gram, right, point, charges, damping[..., 0], bound)
        if found is not None:
            return found
        # Coordinate by coordinate: each lies in one piece, with the rows beside it.
        moved = point.mT.clone(memory_format=torch.contiguous_format)
        target = right.mT.contiguous()
        damped = damping[..., 0]
        for _ in range(PASSES):
            for c in range(q):
                row = gram[..., c, :]
                if gram.shape[1] == 1:
                    inner = torch.bmm(row, moved)[:, 0]
                else:
                    inner = (row.mT * moved).sum(1)
                here, own = moved[:, c], gram[..., c, c]
                free = target[:, c] - inner + (own + damped) * here
                half = l1[..., c] / 2
                if c >= bound:
                    pass
                elif self.nonnegative:
                    free = (free - half).clamp_min(0)
                else:
                    free = free.sign() * (free.abs() - half).clamp_min(0)
                moved[:, c] = free / (own + l2[..., c] + damped)
        return moved.mT.contiguous()

    def _compiled(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        charges: list[torch.Tensor],
        damping: torch.Tensor,
        bound: int,
    ) -> torch.Tensor | None:
        """Take the same rounds by compiled code; None where there is none."""
        starts, rows, q = right.shape
        if right.device.type != "cpu" or q > MOST_COORDINATES:
            return None
        code = of_precision(SOURCE, right.dtype)
        if code is None:
            return None
        counts = [ctypes.c_int64(n) for n in (q, PASSES, bound, self.nonnegative)]
        given = [right, *charges, point]
        if gram.shape[1] > 1 or rows == 1:  # a row lies in one piece
            tensors = [t.contiguous() for t in given]
            tensors[-1] = point.clone(memory_format=torch.contiguous_format)
            each = [damping.contiguous(), gram.contiguous()]
            for k in range(starts):
                code.rounds_apart(
                    ctypes.c_int64(rows), *counts, *_places(k, [*each, *tensors])
                )
            return tensors[-1]
        group = code.group()  # rows are filled up to whole groups
        wide = -(-rows // group) * group
        tensors = [t.new_zeros(*t.shape[:-2], q, wide) for t in given]
        for tensor, value in zip(tensors, given, strict=True):
            tensor[..., :rows] = value.mT
        for k in range(starts):
            code.rounds_shared(
                ctypes.c_int64(wide),
                *counts,
                NUMBERS[right.dtype](damping[k, 0].item()),
                *_places(k, [gram[:, 0].contiguous(), *tensors]),
            )
        return tensors[-1][..., :rows].mT.contiguous()


def _places(start: int, tensors: list[torch.Tensor]) -> list[Any]:
    """Return where in memory a start's part is; charges may be those of all starts."""
    charges = (len(tensors) - 3, len(tensors) - 2)
    return [
        address(t if place in charges and t.ndim == 2 else t[start])
        for place, t in enumerate(tensors)
    ]


def regularizers(
    constraint: Any, penalty: Any
) -> tuple[Regularizer, Regularizer, float, float]:
    """Return what is asked of the row factor and of the column factor.

    Parameters
    ----------
    constraint : None, "nonnegative", or a pair of these
        Of rows and columns.
    penalty : None, number, or mapping
        A number is l2 on both factors. A mapping may have l1, l2 (on both), l1_rows,
        l2_rows, l1_columns, l2_columns, l2_biases, and count_power: a row's or column's
        penalty is multiplied by the number of its observed cells to that power.

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
    >>> regularizers("nonnegative", {"l1_rows": 2})[0]
    Regularizer(nonnegative=True, l1=2.0, l2=0.0)
    """
    pair = constraint if isinstance(constraint, tuple | list) else (constraint,) * 2
    if len(pair) != 2 or any(c not in (None, "none", "nonnegative") for c in pair):
        raise InvalidValueError(
            f"constraint is {constraint!r}; give None, 'nonnegative', or a pair of these "
            "for rows and columns"
        )
    if penalty is None:
        penalty = {}
    elif not isinstance(penalty, dict):
        penalty = {"l2": real_number("penalty", penalty, 0)}
    names = [f"l{p}{of}" for p in (1, 2) for of in ("", "_rows", "_columns")]
    known = [*names, "l2_biases", "count_power"]
    unknown = [name for name in penalty if name not in known]
    if unknown:
        raise InvalidValueError(
            f"penalty has {unknown[0]!r}; give some of {', '.join(known)}"
        )
    given = {name: real_number(f"{name}", v, 0) for name, v in penalty.items()}
    factors = [
        Regularizer(
            nonnegative=asked == "nonnegative",
            l1=given.get(f"l1_{of}", given.get("l1", 0.0)),
            l2=given.get(f"l2_{of}", given.get("l2", 0.0)),
        )
        for asked, of in zip(pair, ("rows", "columns"), strict=True)
    ]
    biases = given.get("l2_biases", 0.0)
    return factors[0], factors[1], biases, given.get("count_power", 0.0)


def counted(counts: np.ndarray, power: float) -> np.ndarray:
    """Return what each row's penalty is multiplied by: its count to a power."""
    if power == 0:
        return np.ones(len(counts))
    return np.maximum(counts, 1.0) ** power
