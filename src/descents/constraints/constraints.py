"""Constraints and penalties on a factor, and their proximal operators.

For rows x_i of a factor, the penalty is l1 sum |x| + l2 sum x^2 + s sum_i ||x_{i+1} -
x_i||^2, where the last sum is over neighboring rows. The factor may be constrained to be
nonnegative, and to lie in one of `descents.constraints.sets`. All of these combine. The
prox of the l1 penalty and the constraints together is exact; the smooth parts, l2 and s,
have gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from descents.constraints.coordinates import coordinate_rounds
from descents.constraints.names import NAMES, named_set
from descents.constraints.quadratics import (
    change,
    differences,
    entrywise,
    solve_chain,
    solve_exactly,
)
from descents.constraints.sets import FactorSet, Fixed
from descents.constraints.unit_norm import UnitNorm
from descents.errors import Complaints, InvalidValueError, for_caller
from descents.validation import real_number


@dataclass(frozen=True)
class Regularizer:
    """The constraints and penalties on one factor.

    Parameters
    ----------
    nonnegative : bool
    l1, l2 : float
        At least 0.
    smoothness : float
        s, the weight of the squared differences of neighboring rows; at least 0.
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
                    f"a fixed value is {low:g}, but the factor must be nonnegative; fix "
                    "values of 0 or more, or leave 'nonnegative' out"
                )

    @property
    def smooth(self) -> bool:
        """Whether the penalty is differentiable everywhere and there is no constraint."""
        return not self.nonnegative and self.l1 == 0 and self.inside is None

    @property
    def entrywise(self) -> bool:
        """Whether constraint and penalty of an entry do not depend on other entries."""
        return self.inside is None and self.smoothness == 0

    @property
    def exact(self) -> bool:
        """Whether `solve` finds the global minimum over a set that is not convex."""
        return self.inside is not None and self.inside.exact and not self.smoothness

    @property
    def sized(self) -> bool:
        """Whether the constraint sets the size of the factor."""
        return self.inside is not None and self.inside.sized

    @property
    def positive(self) -> bool:
        """Whether the constraint keeps the factor at 0 or more."""
        return self.nonnegative or (self.inside is not None and self.inside.positive)

    @property
    def constraint(self) -> list[str | Fixed]:
        """The names of its sets, and fixed values, as `regularizers` takes them."""
        names: list[str | Fixed] = ["nonnegative"] if self.nonnegative else []
        if self.inside is not None:
            inside = self.inside
            names.append(inside if isinstance(inside, Fixed) else inside.name)
        return names

    def of_other_rows(self, rows: int) -> Regularizer:
        """Return the constraints and penalties on rows that were not fitted.

        They are the same, with three exceptions: there is no norm of columns; smoothness
        is between the new rows; and fixed values apply if there are as many new rows, or
        if they are the same in all rows.
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
            The factors c_i of the penalties of the rows.
        """
        return self.l2 * (factor.square().sum(-1) * counts).sum(-1)

    def lasso(self, factor: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Return l1 sum_i c_i |x_i|, the part of the penalty with a prox, shape (S,)."""
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
        """Minimize sum_q l1 c |x_q| + (x_q - p_q)^2 / (2 rate_q) over the set.

        Without l1 it is the projection onto the set.

        Parameters
        ----------
        point : Tensor of shape (..., rows, rank)
            p.
        rate, counts : float or Tensor
            They broadcast to the shape of the point; counts are the factors c of the
            penalties of the rows.
        """
        thresholds = rate * counts * self.l1 if self.l1 else 0.0
        if self.inside is None:
            return entrywise(point, thresholds, nonnegative=self.nonnegative)
        return self.inside.prox(point, rate, thresholds, nonnegative=self.nonnegative)

    def nearest(self, point: torch.Tensor) -> torch.Tensor:
        """Return the nearest point of the set; among ties, always the same one."""
        return replace(self, l1=0.0).prox(point, 1.0)

    def distance(self, point: torch.Tensor) -> float:
        """Return the largest absolute difference of an entry from the nearest point."""
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
        r"""Minimize x' G x - 2 x' r + sum_q l2_q x_q^2 + l1_q |x_q| for every row.

        - Without constraint or l1, the minimum is exact, by Cholesky. A little damping
          towards the given point makes the solution the nearest one to it if G is
          singular.
        - With nonnegativity or l1, it takes rounds of exact minimization over one
          coordinate at a time, none of which raises the value.
        - Sets have methods of their own, see `FactorSet.solve`.
        - With smoothness alone, all rows are solved for together; with smoothness and
          other constraints, even rows and odd rows in turn.

        Parameters
        ----------
        gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
            G of each row, or one G for all rows of a start.
        right, point : Tensor of shape (S, rows, q)
            r, and the x to begin from.
        l2, l1 : Tensor that broadcast to (rows, q), or to (S, rows, q)
            The penalty factors of each coordinate.
        bound : int
            The number of leading coordinates that the constraint applies to: all, or all
            but the last one, a bias.
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
        """Return the result of `solve`, and the change of x' G x - 2 x' r over all rows.

        Returns
        -------
        solved : Tensor of shape (S, rows, q)
        change : float64 Tensor of shape (S,)
        """
        if not self.entrywise:
            solution = self._solve_together(gram, right, point, l2, l1, bound)
            return solution, change(gram, right, point, solution)
        scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
        unit = torch.finfo(right.dtype).eps
        # Relative to each row's scale, as weights of rows may differ by many orders.
        damping = 60 * unit * scale + torch.finfo(right.dtype).tiny
        if self.nonnegative or self.l1:
            penalties = [
                penalty.expand(right.shape if penalty.ndim == 3 else right.shape[1:])
                for penalty in (l2, l1)
            ]
            return coordinate_rounds(
                gram,
                right,
                point,
                penalties,
                damping[..., 0],
                bound,
                self.nonnegative,
            )
        solution = solve_exactly(gram, right, point, l2, damping)
        return solution, change(gram, right, point, solution)

    def _solve_together(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        bound: int,
    ) -> torch.Tensor:
        """Minimize over a set, or with smoothness between rows.

        In x_i, the smoothness is s (n_i x_i^2 - 2 x_i sum of its neighbors), where n_i is
        the number of neighbors. So s n_i is added to l2, and s times the sum of the
        neighbors to r.
        """
        if not self.smoothness or isinstance(self.inside, UnitNorm):
            return self._solve_inside(gram, right, point, l2, l1, bound)
        rows = l2.shape[-2]
        neighbors = torch.full_like(l2[..., :1], 2.0)
        neighbors[..., 0, :] -= 1  # the first and the last row have one
        neighbors[..., -1, :] -= 1
        neighbor_weight = torch.zeros_like(l2)
        neighbor_weight[..., :bound] = self.smoothness
        l2 = l2 + neighbors * neighbor_weight
        gram = gram.expand(-1, rows, -1, -1)
        if self.smooth:
            return solve_chain(gram, right, point, l2, self.smoothness, bound)
        moved = point.clone(memory_format=torch.contiguous_format)
        for first in range(min(2, rows)):  # even rows, then odd rows
            pick = slice(first, None, 2)
            # `differences` is n_i x_i minus the sum of the neighbors.
            toward = neighbor_weight * (neighbors * moved - differences(moved))
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
        """Minimize over the set, with the bias eliminated.

        Write G = [A c; c' g] with the bias last. At its best, the bias is b = (r_b - c'
        x) / (g + l2_b). Inserting it leaves a quadratic in x alone, with A - c c' / (g +
        l2_b) and r - c r_b / (g + l2_b).
        """
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
        if isinstance(self.inside, UnitNorm):
            solution = self.inside.over_columns(
                gram,
                right,
                point,
                l2,
                l1,
                self.smoothness,
                nonnegative=self.nonnegative,
            )
        else:
            solution = self.inside.solve(
                gram, right, point, l2, l1, plain=plain, nonnegative=self.nonnegative
            )
        if bias is None:
            return solution
        bias = bias - (cross * solution).sum(-1) / own
        return torch.cat([solution, bias[..., None]], -1)


def regularizers(
    constraint: object, penalty: object
) -> tuple[Regularizer, Regularizer, float, float]:
    """Return the constraints and penalties on the row factor and the column factor.

    Parameters
    ----------
    constraint : None, str, FactorSet, or a pair of these or of sequences of them
        For both factors, or a pair for rows and columns: "nonnegative", "simplex",
        "unit_norm", "sparse:K", "one_sparse" or "one_hot", or `Fixed` values.
        Combine several by "+", or in a sequence: "nonnegative+sparse:2".
    penalty : None, number, or mapping
        A number is l2 on both factors. A mapping may have l1, l2 (on both), l1_rows,
        l2_rows, l1_columns, l2_columns, smooth_rows, smooth_columns, l2_biases, and
        count_power: l1 and l2 of a row or column are multiplied by the number of its
        observed cells to this power.

    Returns
    -------
    rows, columns : Regularizer
    l2_biases, count_power : float

    Raises
    ------
    InvalidValueError
        If an argument is invalid; one message lists all problems.

    Examples
    --------
    >>> regularizers("nonnegative+sparse:2", {"l1_rows": 2})[0].constraint
    ['nonnegative', 'sparse:2']
    """
    complaints = Complaints()
    pair = constraint if isinstance(constraint, tuple | list) else (constraint,) * 2
    sets: list[tuple[bool, FactorSet | None]] = []
    if len(pair) != 2:
        complaints.require(False, _unknown(constraint))
    elif pair[0] is pair[1]:
        sets = [complaints.attempt(_parsed, pair[0])] * 2
    else:
        sets = [complaints.attempt(_parsed, part) for part in pair]
    given: dict[str, object] = {}
    if isinstance(penalty, dict):
        given = penalty
    elif penalty is not None:
        given = {"l2": complaints.attempt(real_number, "penalty", penalty, 0)}
    names = [f"l{p}{of}" for p in (1, 2) for of in ("", "_rows", "_columns")]
    allowed = [*names, "smooth_rows", "smooth_columns", "l2_biases", "count_power"]
    unknown = [name for name in given if name not in allowed]
    complaints.require(
        not unknown,
        f"{for_caller('--penalty', 'penalty')} has {', '.join(map(repr, unknown))}; give "
        f"some of {', '.join(allowed)}",
    )
    values = {
        name: complaints.attempt(real_number, name, value, 0)
        for name, value in given.items()
        if name in allowed and value is not None
    }
    complaints.raise_any()
    factors = [
        complaints.attempt(
            Regularizer,
            nonnegative=nonnegative,
            l1=values.get(f"l1_{of}", values.get("l1", 0.0)),
            l2=values.get(f"l2_{of}", values.get("l2", 0.0)),
            smoothness=values.get(f"smooth_{of}", 0.0),
            inside=inside,
        )
        for (nonnegative, inside), of in zip(sets, ("rows", "columns"), strict=True)
    ]
    complaints.raise_any()
    biases = values.get("l2_biases", 0.0)
    return factors[0], factors[1], biases, values.get("count_power", 0.0)


def _unknown(constraint: object) -> str:
    return for_caller(
        f"--constraint is {constraint!r}; give none, nonnegative, {', '.join(NAMES)}, "
        "several joined by +, or rows=NAME,columns=NAME",
        f"constraint is {constraint!r}; give None, 'nonnegative', "
        f"{', '.join(map(repr, NAMES))}, Fixed values, several joined by '+', or a pair "
        "of these for rows and columns",
    )


def _parsed(constraint: object) -> tuple[bool, FactorSet | None]:
    """Return whether one factor must be nonnegative, and the set that it must lie in."""
    parts: Sequence[object] = [constraint]
    if isinstance(constraint, str):
        parts = constraint.split("+")
    elif isinstance(constraint, Sequence):
        parts = [p for part in constraint for p in _split(part)]
    nonnegative, sets = False, []
    for part in parts:
        name = part if isinstance(part, str) else ""
        if name == "nonnegative":
            nonnegative = True
        elif isinstance(part, FactorSet):
            sets.append(part)
        elif part is not None and name != "none":
            factor_set = named_set(name)
            if factor_set is None:
                raise InvalidValueError(_unknown(constraint))
            sets.append(factor_set)
    if len(sets) > 1:
        listed = " and ".join(repr(factor_set.name) for factor_set in sets)
        raise InvalidValueError(
            f"the constraint of one factor combines {listed}, which is not supported; "
            "give one of them, to which 'nonnegative' and penalties may be added"
        )
    return nonnegative, sets[0] if sets else None


def _split(part: object) -> list[object]:
    return list(part.split("+")) if isinstance(part, str) else [part]


def most_components(
    shape: tuple[int, int], rows: Regularizer, columns: Regularizer
) -> int:
    """Return the largest useful rank of a model of a table.

    It is the smaller side of the table. If the rows of a factor are shares or sparse, it
    is the number of these rows, if that is larger.

    Examples
    --------
    >>> most_components((9, 2), *regularizers(("one_hot", None), None)[:2])
    9
    """
    sides = [
        side
        for side, regularizer in zip(shape, (rows, columns), strict=True)
        if regularizer.inside is not None and regularizer.inside.overcomplete
    ]
    return max([min(shape), *sides])


def counted(counts: np.ndarray, power: float) -> np.ndarray:
    """Return the factors of the penalties of rows: their counts to a power."""
    if power == 0:
        return np.ones(len(counts))
    return np.maximum(counts, 1.0) ** power
