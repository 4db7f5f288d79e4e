"""Sets that a factor may be asked to lie in: the nearest point, and the best of a quadratic.

A set knows its prox: the minimum of h(x) + sum_q (x_q - p_q)^2 / (2 rate_q) over its
members, where h is sum_q t_q |x_q| / rate_q, thresholds t_q of 0 or more, and members are
0 or more where that is asked. It knows how to go down a quadratic x' G x - 2 x' r without
leaving, by the prox-gradient steps of PALM [1]_ at the least, none of which raises it.

References
----------
.. [1] Bolte, Sabach and Teboulle (2014), "Proximal alternating linearized minimization
   for nonconvex and nonsmooth problems", Mathematical Programming 146.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from descents.devices import remote
from descents.errors import InvalidValueError
from descents.text import counted
from descents.validation import whole_number

ROUNDS = 10
"""How many prox-gradient steps go down the quadratics of rows at each step."""
PASSES = 4
"""How many rounds over the columns are taken where they have norm one."""
MOST_PAIRED = 8
"""Up to so many shares of a row are moved in pairs: there are as many as their square."""
NORM_ROUNDED = 1e-5
"""How far from 1 the square of a norm is by rounding."""
SECULAR_STEPS = 12
"""How many of Newton's steps find the multiplier of a norm; they rise to it."""
Solve = Callable[..., torch.Tensor]


def entrywise(
    point: torch.Tensor, thresholds: torch.Tensor | float, *, nonnegative: bool
) -> torch.Tensor:
    """Minimise t |x| + (x - p)^2 / 2, entry by entry, over x of 0 or more if asked.

    Examples
    --------
    >>> entrywise(torch.tensor([-3.0, 0.5, 3.0]), 1.0, nonnegative=False)
    tensor([-2., 0., 2.])
    """
    bare = isinstance(thresholds, float) and thresholds == 0
    if nonnegative:
        return (point if bare else point - thresholds).clamp_min(0)
    if bare:
        return point
    return point.sign() * (point.abs() - thresholds).clamp_min(0)


def products(gram: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return G x of every row, where all rows may share one G.

    Examples
    --------
    >>> products(2 * torch.eye(2)[None, None], torch.ones(1, 3, 2)).sum()
    tensor(12.)
    """
    if gram.shape[1] == 1:
        return points @ gram[:, 0]
    return (gram @ points[..., None])[..., 0]


def differences(points: torch.Tensor) -> torch.Tensor:
    """Return half the derivative of sum_i ||x_{i+1} - x_i||^2 over neighbouring rows.

    Examples
    --------
    >>> differences(torch.tensor([[0.0], [1.0], [3.0]])).T
    tensor([[-1., -1.,  2.]])
    """
    steps = points.diff(dim=-2)
    found = torch.zeros_like(points)
    found[..., :-1, :] -= steps
    found[..., 1:, :] += steps
    return found


class FactorSet:
    """What every set has.

    Attributes
    ----------
    name : str
        As the command takes it.
    positive : bool
        Whether its members are 0 or more whatever else is asked.
    sparse : bool
        Whether most entries of its members are 0.
    overcomplete : bool
        Whether a factor of more columns than the table has still says something.
    couples : bool
        Whether what is asked of a row depends on the others.
    exact : bool
        Whether `solve` finds the least of all members.
    """

    name: str
    positive: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    overcomplete: ClassVar[bool] = False
    couples: ClassVar[bool] = False
    exact: bool = False

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Return the minimum of h(x) + sum_q (x_q - p_q)^2 / (2 rate_q) over the set.

        Parameters
        ----------
        point : Tensor of shape (..., rows, rank)
        rate, thresholds : float or Tensor
            Of shapes that broadcast to the point's.
        nonnegative : bool
        """
        raise NotImplementedError

    def solve(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        *,
        nonnegative: bool,
        plain: Solve,
    ) -> torch.Tensor:
        """Go down x' G x - 2 x' r + sum_q l2_q x_q^2 + l1_q |x_q| of every row.

        By prox-gradient steps at the rate one over a bound on the curvature, the
        Frobenius norm of G: each falls, whatever the set.

        Parameters
        ----------
        gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
        right, point : Tensor of shape (S, rows, q)
        l2, l1 : Tensor of shape (rows, q) or (S, rows, q)
        nonnegative : bool
        plain : callable
            Solves the same without the set.
        """
        whole = gram + torch.diag_embed(l2[..., : gram.shape[1], :])
        size = torch.linalg.matrix_norm(whole)[..., None].clamp_min(1e-30)
        rate = 0.5 / size
        for _ in range(ROUNDS):
            moved = point - (products(whole, point) - right) / size
            point = self.prox(moved, rate, rate * l1, nonnegative=nonnegative)
        return point

    def of_other_rows(self, rows: int) -> FactorSet | None:
        """Return what is asked of rows that were not fitted; here, the same."""
        return self

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raise unless a factor of this shape, (rows, rank), can lie in the set."""


@dataclass(frozen=True)
class Simplex(FactorSet):
    """Rows of shares: 0 or more, with the sum 1.

    Examples
    --------
    >>> Simplex().prox(torch.tensor([[0.5, 0.7, -1.0]]), 1.0, 0.0, nonnegative=False)
    tensor([[0.4000, 0.6000, 0.0000]])
    """

    name: str = field(default="simplex", init=False)
    positive: ClassVar[bool] = True
    overcomplete: ClassVar[bool] = True

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Return max(p - rate mu, 0) with the mu at which a row sums to 1.

        The penalty of a row is the same for all members. By sorting, as Held, Wolfe
        and Crowder (1974), Mathematical Programming 6, here with rates that may differ.
        """
        rates = torch.as_tensor(rate).to(point).expand_as(point)
        order = (point / rates).argsort(-1, descending=True)
        p, r = point.gather(-1, order), rates.gather(-1, order)
        level = (p.cumsum(-1) - 1) / r.cumsum(-1)
        kept = (p > r * level).sum(-1, keepdim=True).clamp_min(1)
        found = (point - rates * level.gather(-1, kept - 1)).clamp_min(0)
        return found / found.sum(-1, keepdim=True)

    def solve(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        *,
        nonnegative: bool,
        plain: Solve,
    ) -> torch.Tensor:
        """Move shares between two members at a time, each pair exactly.

        Where one member has a far larger curvature than another, or two are much alike,
        prox-gradient steps of one rate hardly move; they are left to many members. The
        l1 penalty of a row is the same for all.
        """
        members = right.shape[-1]
        if members == 1:
            return torch.ones_like(point)
        if members > MOST_PAIRED:
            return super().solve(
                gram, right, point, l2, l1, nonnegative=nonnegative, plain=plain
            )
        x = point.movedim(-1, 0).clone(memory_format=torch.contiguous_format)
        whole = gram + torch.diag_embed(l2[..., : gram.shape[1], :])
        whole = whole.movedim((-2, -1), (0, 1))
        slope = (products(gram, point) + l2 * point - right).movedim(-1, 0).contiguous()
        for _ in range(PASSES):
            for i in range(members):
                for j in range(i):
                    along = whole[i] - whole[j]
                    bent = (along[i] - along[j]).clamp_min(1e-30)
                    move = (slope[j] - slope[i]) / bent
                    move = move.maximum(-x[i]).minimum(x[j])
                    x[i] += move
                    x[j] -= move
                    slope += move * along
        found = x.movedim(0, -1).clamp_min(0)
        return found / found.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Sparse(FactorSet):
    """Rows with at most so many entries that are not zero.

    Parameters
    ----------
    count : int
        At least 1, at most the rank.

    Examples
    --------
    >>> Sparse(1).prox(torch.tensor([[1.0, -3.0]]), 1.0, 0.5, nonnegative=False)
    tensor([[ 0.0000, -2.5000]])
    """

    count: int
    sparse: ClassVar[bool] = True
    overcomplete: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_number("the number of entries of sparse rows", self.count, 1)

    @property
    def name(self) -> str:  # type: ignore[override]
        """sparse:K, or one_sparse."""
        return "one_sparse" if self.count == 1 else f"sparse:{self.count}"

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether there is one entry, for which all are tried."""
        return self.count == 1

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raise where there are fewer columns than entries are allowed."""
        if self.count > shape[1]:
            raise InvalidValueError(
                f"the constraint of {name} is '{self.name}', but the rank is "
                f"{shape[1]}; give sparse:K with K from 1 to {shape[1]}"
            )

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Keep the entries that gain most over 0, x^2 / rate, each at its own prox."""
        found = entrywise(point, thresholds, nonnegative=nonnegative)
        return _kept(found, found.square() / rate, self.count)

    def solve(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        *,
        nonnegative: bool,
        plain: Solve,
    ) -> torch.Tensor:
        """One entry a row exactly, by trying all; more by prox-gradient steps.

        These are followed by the minimum over the entries that they have chosen.
        """
        if self.count == 1:
            own = gram.diagonal(dim1=-2, dim2=-1) + l2
            best = entrywise(right, l1 / 2, nonnegative=nonnegative)
            best = best / own.clamp_min(1e-30)
            return _kept(best, own * best.square(), 1)
        moved = super().solve(
            gram, right, point, l2, l1, nonnegative=nonnegative, plain=plain
        )
        return _solve_held(gram, right, moved, l2, l1, moved == 0, plain)


@dataclass(frozen=True)
class UnitOneSparse(FactorSet):
    """Rows with one entry of 1, the others 0: each row belongs to one cluster.

    Examples
    --------
    >>> UnitOneSparse().prox(torch.tensor([[1.0, 3.0]]), 1.0, 0.0, nonnegative=False)
    tensor([[0., 1.]])
    """

    name: str = field(default="unit_one_sparse", init=False)
    exact: ClassVar[bool] = True  # type: ignore[misc]
    positive: ClassVar[bool] = True
    sparse: ClassVar[bool] = True
    overcomplete: ClassVar[bool] = True

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Choose the entry of least (1 - 2 p) / rate; the penalty is the same for all."""
        return _one_hot((1 - 2 * point) / rate)

    def solve(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        *,
        nonnegative: bool,
        plain: Solve,
    ) -> torch.Tensor:
        """Try all: the step of Lloyd's algorithm that finds the nearest center."""
        cost = gram.diagonal(dim1=-2, dim2=-1) - 2 * right + l2 + l1
        return _one_hot(cost)


@dataclass(frozen=True)
class UnitNorm(FactorSet):
    """Columns of Euclidean norm 1, exactly.

    The nearest to a column of zeros, or under nonnegativity to one without an entry
    above 0, is 1 at its largest entry (the first of these) and 0 elsewhere.

    Examples
    --------
    >>> UnitNorm().prox(torch.tensor([[3.0], [-4.0]]), 1.0, 0.0, nonnegative=False)
    tensor([[ 0.6000],
            [-0.8000]])
    """

    name: str = field(default="unit_norm", init=False)
    couples: ClassVar[bool] = True

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Maximise sum x p - t |x|: the shrunk column over its norm.

        Raises
        ------
        InvalidValueError
            When rates differ within a column: of those there is no closed form.
        """
        if isinstance(rate, torch.Tensor) and rate.ndim > 1 and rate.shape[-2] > 1:
            raise InvalidValueError(
                "columns of norm one have no prox for rates that differ from entry to "
                "entry, as Adam's do; give steps of one rate ('gd' or 'alternating')"
            )
        sign = torch.where(point < 0, -1.0, 1.0).to(point)
        if nonnegative:
            sign = torch.ones_like(sign)
        size = point * sign - thresholds
        above = size.clamp_min(0)
        norm = torch.linalg.vector_norm(above, dim=-2, keepdim=True)
        peak = size.argmax(-2, keepdim=True)
        lone = torch.zeros_like(point).scatter(-2, peak, 1.0)
        empty = norm == 0
        return sign * torch.where(empty, lone, above / torch.where(empty, 1.0, norm))

    def over_columns(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        smoothness: float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Go down the quadratics of all rows together, column by column.

        Each column goes to its minimum (`_on_sphere`); where rows are smooth, which ties
        them to each other, it takes the prox-gradient step at one over the largest
        curvature.
        """
        own = gram.diagonal(dim1=-2, dim2=-1) + l2
        found = point.clone()
        for _ in range(PASSES):
            for c in range(point.shape[-1]):
                here = found[..., c]
                slope = (found * gram[..., c, :]).sum(-1) + l2[..., c] * here
                slope = slope - right[..., c]
                if not smoothness:
                    found[..., c] = self._on_sphere(
                        own[..., c].expand_as(here),
                        slope,
                        here,
                        l1[..., c] / 2,
                        nonnegative=nonnegative,
                    )
                    continue
                if smoothness:
                    slope = slope + smoothness * differences(here[..., None])[..., 0]
                size = own[..., c].amax(-1, keepdim=True) + 4 * smoothness
                size = size.clamp_min(1e-30)
                column = self.prox(
                    (here - slope / size)[..., None],
                    0.5,
                    (l1[..., c] / 2 / size)[..., None],
                    nonnegative=nonnegative,
                )
                found[..., c] = column[..., 0]
        return found

    def _on_sphere(
        self,
        curvature: torch.Tensor,
        slope: torch.Tensor,
        here: torch.Tensor,
        half: torch.Tensor,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Minimize sum_i a_i x_i^2 - 2 b_i x_i + 2 h_i |x_i| over columns of norm 1.

        b = a x - slope. With the multiplier m of the norm, x_i = s_i / (a_i + m), where
        s_i is |b_i| - h_i, and 0 where that is not above 0. The norm falls with m; its
        inverse is concave, so that Newton's steps from below never pass the root.
        Where the column was lower before, as entries that are now 0 had been of use, it
        stays.
        """
        wanted = curvature * here - slope
        sign = torch.ones_like(wanted) if nonnegative else wanted.sign()
        size = wanted * sign - half
        used = size > 0
        size = size.clamp_min(0)
        least = (size - curvature).masked_fill(~used, -torch.inf)
        # Both are at most the root: one entry alone, and all at the largest curvature.
        m = least.amax(-1, keepdim=True)
        length = torch.linalg.vector_norm(size, dim=-1, keepdim=True)
        m = m.maximum(length - curvature.amax(-1, keepdim=True))
        empty = ~used.any(-1, keepdim=True)
        m = m.masked_fill(empty, 0.0)
        rounded = 1 + 16 * torch.finfo(m.dtype).eps
        away = remote(m.device)  # there it is not asked whether all have arrived
        for _ in range(SECULAR_STEPS):
            bottom = (curvature + m).clamp_min(1e-30)
            x = size / bottom
            squares = x.square()
            square = squares.sum(-1, keepdim=True)
            norm = square.sqrt()
            ahead = norm > rounded
            if not (away or bool(ahead.any())):
                break
            steep = (squares / bottom).sum(-1, keepdim=True).clamp_min(1e-30)
            m = torch.where(ahead, m + square * (norm - 1) / steep, m)
        x = sign * size / (curvature + m).clamp_min(1e-30)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        lone = (curvature - 2 * (wanted * sign - half)).argmin(-1, keepdim=True)
        alone = torch.zeros_like(x).scatter(-1, lone, sign.gather(-1, lone))
        x = torch.where(empty | ~(norm > 0), alone, x / norm)

        def value(at: torch.Tensor) -> torch.Tensor:
            each = at * (curvature * at - 2 * wanted) + 2 * half * at.abs()
            return each.sum(-1, keepdim=True)

        inside = (here.square().sum(-1, keepdim=True) - 1).abs() < NORM_ROUNDED
        if nonnegative:
            inside = inside & (here >= 0).all(-1, keepdim=True)
        return torch.where(inside & (value(here) < value(x)), here, x)

    def of_other_rows(self, rows: int) -> FactorSet | None:
        """Return None: the norm is that of the rows that were fitted."""
        return None


@dataclass(frozen=True, eq=False)
class Fixed(FactorSet):
    """A factor of which some entries are given.

    Parameters
    ----------
    values : array-like of shape (rows, rank)
        NaN where an entry is free. For the factor of the columns a row for each
        coordinate, counted as `LowRankModel.components_` is.

    Examples
    --------
    The first component is the same for all columns:

    >>> Fixed([[1.0, np.nan], [1.0, np.nan]]).prox(
    ...     torch.tensor([[3.0, 2.0], [0.0, -1.0]]), 1.0, 0.0, nonnegative=True)
    tensor([[1., 2.],
            [1., 0.]])
    """

    values: Any
    name: str = field(default="fixed", init=False)

    def __post_init__(self) -> None:
        try:
            values = np.array(self.values, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.zeros(0)
        if values.ndim != 2 or np.isinf(values).any() or not values.size:
            raise InvalidValueError(
                "fixed values are no table of numbers; give finite ones of shape (rows, "
                "rank), NaN where an entry is free"
            )
        object.__setattr__(self, "values", values)

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raise where values are not of the factor's shape."""
        if self.values.shape != shape:
            raise InvalidValueError(
                f"the fixed values of {name} have shape {self.values.shape}; give "
                f"{shape}, a row for each and a column for each component, NaN where "
                "free"
            )

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Put the given values in their places, and the entrywise prox elsewhere."""
        values = torch.as_tensor(self.values).to(point)
        found = entrywise(point, thresholds, nonnegative=nonnegative)
        return torch.where(values.isnan(), found, values)

    def solve(
        self,
        gram: torch.Tensor,
        right: torch.Tensor,
        point: torch.Tensor,
        l2: torch.Tensor,
        l1: torch.Tensor,
        *,
        nonnegative: bool,
        plain: Solve,
    ) -> torch.Tensor:
        """Solve for what is free, the rest held."""
        values = torch.as_tensor(self.values).to(right)
        held = ~values.isnan()
        l2, l1 = (charge.masked_fill(held, 0) for charge in (l2, l1))
        at = torch.where(held, values, point)
        return _solve_held(gram, right, at, l2, l1, held, plain)

    def of_other_rows(self, rows: int) -> FactorSet | None:
        """Return the values of the same rows, or of columns that are the same in all.

        Raises
        ------
        InvalidValueError
            When there are as many other rows, and values that are known of the fitted
            rows alone.
        """
        if rows == len(self.values):
            return self
        if (self.values != self.values[:1])[~np.isnan(self.values)].any() or (
            np.isnan(self.values) != np.isnan(self.values[:1])
        ).any():
            raise InvalidValueError(
                f"the model holds fixed values of the {counted(len(self.values), 'row')} that it "
                f"was fitted to, but the table has {counted(rows, 'row')}; give the table of the "
                "fit, or fix values that are the same in all rows"
            )
        return Fixed(np.repeat(self.values[:1], rows, 0)) if rows else None


def _kept(values: torch.Tensor, gains: torch.Tensor, count: int) -> torch.Tensor:
    """Return the entries of a row that gain most, and 0 elsewhere; the first of equals."""
    order = torch.sort(gains, dim=-1, descending=True, stable=True).indices
    places = order[..., :count]
    return torch.zeros_like(values).scatter(-1, places, values.gather(-1, places))


def _one_hot(costs: torch.Tensor) -> torch.Tensor:
    """Return 1 at the entry of least cost in each row, the first of equals, else 0."""
    return torch.zeros_like(costs).scatter(-1, costs.argmin(-1, keepdim=True), 1.0)


def _solve_held(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    l2: torch.Tensor,
    l1: torch.Tensor,
    held: torch.Tensor,
    plain: Solve,
) -> torch.Tensor:
    """Minimise over the entries of each row that are not held, the others as they are.

    Parameters
    ----------
    held : bool Tensor of shape (..., rows, q)
        Entries that are not zero have no penalty.
    """
    pattern = held
    if gram.shape[1] == 1 and bool((held == held[..., :1, :]).all()):
        pattern = held[..., :1, :]  # one matrix for all rows still
    free = (~pattern).to(gram)
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True) + 1
    inner = gram * free[..., :, None] * free[..., None, :]
    inner = inner + torch.diag_embed((1 - free) * size)
    values = torch.where(held, point, torch.zeros_like(point))
    wanted = torch.where(held, size * values, right - products(gram, values))
    found = plain(inner, wanted, point, l2, l1, point.shape[-1])
    return torch.where(held, point, found)


NAMES = ("simplex", "unit_norm", "sparse:K", "one_sparse", "unit_one_sparse")


def named_set(name: str) -> FactorSet | None:
    """Return the set of a name, or None where there is none of it.

    Raises
    ------
    InvalidValueError
        When K of ``sparse:K`` is no whole number of at least 1.

    Examples
    --------
    >>> named_set("sparse:2")
    Sparse(count=2)
    """
    kind, colon, count = name.partition(":")
    if kind == "sparse" and colon:
        try:
            return Sparse(int(count))
        except ValueError:  # InvalidValueError among them
            raise InvalidValueError(
                f"constraint is {name!r}; give sparse:K with a whole number K from 1 to "
                "the rank"
            ) from None
    known: dict[str, Callable[[], FactorSet]] = {
        "simplex": Simplex,
        "unit_norm": UnitNorm,
        "one_sparse": lambda: Sparse(1),
        "unit_one_sparse": UnitOneSparse,
    }
    return known[name]() if name in known else None
