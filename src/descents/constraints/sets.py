"""Constraint sets of a factor: their prox, and the minimization of quadratics over them.

The prox of a set is the minimum of h(x) + sum_q (x_q - p_q)^2 / (2 rate_q) over its
members, where h(x) = sum_q t_q |x_q| / rate_q with thresholds t_q of 0 or more. If
nonnegativity is also required, members are 0 or more. To minimize a quadratic x' G x - 2
x' r over its members, a set has by default the prox-gradient steps of PALM [1]_, none of
which raises it.

References
----------
.. [1] Bolte, Sabach and Teboulle (2014), "Proximal alternating linearized minimization
   for nonconvex and nonsmooth problems", Mathematical Programming 146.
"""

from __future__ import annotations

import itertools
import math
import warnings
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
"""The number of prox-gradient steps on the quadratics of rows at each step."""
PASSES = 4
"""The number of rounds over pairs of shares, or over columns of norm one."""
MOST_PAIRED = 8
"""The largest number of shares of a row that are moved in pairs, because the number of
pairs grows with its square."""
MOST_CHOICES = 20
"""The largest number of choices of the nonzero entries of a row that are all tried."""
NORM_ROUNDED = 1e-5
"""The largest error of a squared norm of 1 by rounding."""
SECULAR_STEPS = 12
"""The largest number of Newton steps for the multiplier of a norm."""
Solve = Callable[..., torch.Tensor]


def entrywise(
    point: torch.Tensor, thresholds: torch.Tensor | float, *, nonnegative: bool
) -> torch.Tensor:
    """Minimize t |x| + (x - p)^2 / 2, entry by entry, over x >= 0 if `nonnegative`.

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
    """Return G x for every row; all rows may share one G.

    Examples
    --------
    >>> products(2 * torch.eye(2)[None, None], torch.ones(1, 3, 2)).sum()
    tensor(12.)
    """
    if gram.shape[1] == 1:
        return points @ gram[:, 0]
    return (gram @ points[..., None])[..., 0]


def differences(points: torch.Tensor) -> torch.Tensor:
    """Return half the derivative of sum_i ||x_{i+1} - x_i||^2 over neighboring rows.

    Examples
    --------
    >>> differences(torch.tensor([[0.0], [1.0], [3.0]])).T
    tensor([[-1., -1.,  2.]])
    """
    steps = points.diff(dim=-2)
    result = torch.zeros_like(points)
    result[..., :-1, :] -= steps
    result[..., 1:, :] += steps
    return result


class FactorSet:
    """The base of all sets.

    Attributes
    ----------
    name : str
        The name that the command takes.
    positive : bool
        Whether all its members are 0 or more.
    sparse : bool
        Whether most entries of its members are 0.
    overcomplete : bool
        Whether a rank above the smaller side of the table is useful.
    sized : bool
        Whether the constraint sets the size of its members.
    couples : bool
        Whether the constraint of a row depends on the other rows.
    exact : bool
        Whether `solve` finds the global minimum over the set.
    """

    name: str
    positive: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    overcomplete: ClassVar[bool] = False
    sized: ClassVar[bool] = False
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
            They broadcast to the shape of the point.
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
        """Lower x' G x - 2 x' r + sum_q l2_q x_q^2 + l1_q |x_q| for every row.

        It takes prox-gradient steps x <- prox(x - rate (2 (G + l2) x - 2 r)) with rate = 1
        / (2 ||G + l2||), where the Frobenius norm bounds the curvature. No step raises
        the value, whatever the set.

        Parameters
        ----------
        gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
        right, point : Tensor of shape (S, rows, q)
        l2, l1 : Tensor of shape (rows, q) or (S, rows, q)
        nonnegative : bool
        plain : callable
            Solves the same problem without the set.
        """
        whole = gram + torch.diag_embed(l2[..., : gram.shape[1], :])
        size = torch.linalg.matrix_norm(whole)[..., None].clamp_min(1e-30)
        rate = 0.5 / size
        for _ in range(ROUNDS):
            moved = point - (products(whole, point) - right) / size
            point = self.prox(moved, rate, rate * l1, nonnegative=nonnegative)
        return point

    def of_other_rows(self, rows: int) -> FactorSet | None:
        """Return the set for rows that were not fitted; by default the same."""
        return self

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raise unless a factor of this shape, (rows, rank), can lie in the set."""


@dataclass(frozen=True)
class Simplex(FactorSet):
    """Rows of shares: entries of 0 or more that sum to 1.

    Examples
    --------
    >>> Simplex().prox(torch.tensor([[0.5, 0.7, -1.0]]), 1.0, 0.0, nonnegative=False)
    tensor([[0.4000, 0.6000, 0.0000]])
    """

    name: str = field(default="simplex", init=False)
    sized: ClassVar[bool] = True
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
        """Return max(p - rate mu, 0) with the mu for which the row sums to 1.

        The l1 penalty is the same for all members, as their entries sum to 1. mu is found
        by sorting p / rate, as in Held, Wolfe and Crowder (1974), Mathematical
        Programming 6, here for rates that may differ between entries.
        """
        rates = torch.as_tensor(rate).to(point).expand_as(point)
        # The entry q is positive if p_q / rate_q > mu, so positive entries come first.
        order = (point / rates).argsort(-1, descending=True)
        p, r = point.gather(-1, order), rates.gather(-1, order)
        # If the first k entries are positive: sum_q p_q - mu sum_q rate_q = 1.
        level = (p.cumsum(-1) - 1) / r.cumsum(-1)
        count = (p > r * level).sum(-1, keepdim=True).clamp_min(1)  # k
        shares = (point - rates * level.gather(-1, count - 1)).clamp_min(0)
        return shares / shares.sum(-1, keepdim=True)

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
        """Minimize exactly along one pair of shares at a time.

        A move of t from share j to share i changes the value by 2 t (s_i - s_j) + t^2 (G_ii
        - 2 G_ij + G_jj) with the half slopes s = G x - r, where G includes l2; t is limited to keep both at 0
        or more. Prox-gradient steps with one rate hardly move if curvatures differ much
        or two columns are nearly equal, so they are used only for more than `MOST_PAIRED`
        shares. The l1 penalty is the same for all members.
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
                    along = whole[i] - whole[j]  # G (e_i - e_j)
                    curvature = (along[i] - along[j]).clamp_min(1e-30)
                    move = (slope[j] - slope[i]) / curvature
                    move = move.maximum(-x[i]).minimum(x[j])
                    x[i] += move
                    x[j] -= move
                    slope += move * along
        shares = x.movedim(0, -1).clamp_min(0)
        return shares / shares.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Sparse(FactorSet):
    """Rows with at most `count` nonzero entries.

    Parameters
    ----------
    count : int
        From 1 to the rank.

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
        """The name: sparse:K, or one_sparse for K = 1."""
        return "one_sparse" if self.count == 1 else f"sparse:{self.count}"

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether there is one nonzero entry; `solve` then tries each position."""
        return self.count == 1

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raise if the rank is below the allowed number of nonzero entries."""
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
        """Keep the entries that gain most over 0, x^2 / rate, where x is their prox."""
        values = entrywise(point, thresholds, nonnegative=nonnegative)
        return _largest_gains(values, values.square() / rate, self.count)

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
        """Minimize exactly for one nonzero entry per row, by trying each position.

        For more entries, minimize over the entries of each of the C(rank, count) choices
        if there are few of them; else take prox-gradient steps, and then minimize over the
        entries that they have chosen.
        """
        if self.count == 1:
            # Entry q alone has its minimum at x = prox(r_q) / g_q, with g_q = G_qq +
            # l2_q, where it gains g_q x^2.
            own = gram.diagonal(dim1=-2, dim2=-1) + l2
            best = entrywise(right, l1 / 2, nonnegative=nonnegative)
            best = best / own.clamp_min(1e-30)
            return _largest_gains(best, own * best.square(), 1)
        members = right.shape[-1]
        if math.comb(members, self.count) <= MOST_CHOICES:
            best = point
            least = torch.full_like(right[..., :1], torch.inf)
            for places in itertools.combinations(range(members), self.count):
                zero = torch.ones(members, dtype=torch.bool, device=right.device)
                zero[list(places)] = False
                at = point.masked_fill(zero, 0)
                fixed = zero.expand(right.shape)
                tried = _solve_free(gram, right, at, l2, l1, fixed, plain)
                cost = tried * (products(gram, tried) - 2 * right + l2 * tried)
                cost = (cost + l1 * tried.abs()).sum(-1, keepdim=True)
                best = torch.where(cost < least, tried, best)
                least = least.minimum(cost)
            return best
        moved = super().solve(
            gram, right, point, l2, l1, nonnegative=nonnegative, plain=plain
        )
        return _solve_free(gram, right, moved, l2, l1, moved == 0, plain)


@dataclass(frozen=True)
class OneHot(FactorSet):
    """Rows with one entry of 1 and zeros elsewhere: each row belongs to one cluster.

    Examples
    --------
    >>> OneHot().prox(torch.tensor([[1.0, 3.0]]), 1.0, 0.0, nonnegative=False)
    tensor([[0., 1.]])
    """

    name: str = field(default="one_hot", init=False)
    sized: ClassVar[bool] = True
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
        """Return 1 at the smallest (1 - 2 p) / rate; the l1 penalty is always the same."""
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
        """Minimize exactly by trying each position, as Lloyd's algorithm does."""
        cost = gram.diagonal(dim1=-2, dim2=-1) - 2 * right + l2 + l1
        return _one_hot(cost)


@dataclass(frozen=True)
class UnitNorm(FactorSet):
    """Columns of Euclidean norm 1.

    The projection of a column of zeros, or with nonnegativity of a column without
    positive entries, is 1 at its largest entry (the first of equals) and 0 elsewhere.

    Examples
    --------
    >>> UnitNorm().prox(torch.tensor([[3.0], [-4.0]]), 1.0, 0.0, nonnegative=False)
    tensor([[ 0.6000],
            [-0.8000]])
    """

    name: str = field(default="unit_norm", init=False)
    sized: ClassVar[bool] = True
    couples: ClassVar[bool] = True

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Return the soft-thresholded column over its norm, which maximizes x'p - t |x|.

        Raises
        ------
        InvalidValueError
            If rates differ within a column, for which there is no closed form.
        """
        if isinstance(rate, torch.Tensor) and rate.ndim > 1 and rate.shape[-2] > 1:
            raise InvalidValueError(
                "columns of norm one have no prox for rates that differ between entries, "
                "as Adam's do; give steps with one rate ('gd' or 'alternating')"
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
        """Lower the quadratics of all rows together, column by column.

        Each column goes to its minimum (`_on_sphere`). With smoothness, which couples the
        rows, it takes a prox-gradient step at one over the largest curvature instead.
        """
        own = gram.diagonal(dim1=-2, dim2=-1) + l2
        factor = point.clone()
        for _ in range(PASSES):
            for c in range(point.shape[-1]):
                previous = factor[..., c]
                slope = (factor * gram[..., c, :]).sum(-1) + l2[..., c] * previous
                slope = slope - right[..., c]
                if not smoothness:
                    factor[..., c] = self._on_sphere(
                        own[..., c].expand_as(previous),
                        slope,
                        previous,
                        l1[..., c] / 2,
                        nonnegative=nonnegative,
                    )
                    continue
                slope = slope + smoothness * differences(previous[..., None])[..., 0]
                # The matrix of the squared differences has eigenvalues of at most 4.
                size = own[..., c].amax(-1, keepdim=True) + 4 * smoothness
                size = size.clamp_min(1e-30)
                column = self.prox(
                    (previous - slope / size)[..., None],
                    0.5,
                    (l1[..., c] / 2 / size)[..., None],
                    nonnegative=nonnegative,
                )
                factor[..., c] = column[..., 0]
        return factor

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

        Here b = a x - slope. With the multiplier m of the norm, |x_i| = s_i / (a_i + m)
        with s_i = max(|b_i| - h_i, 0). The norm decreases in m and 1 / norm is concave in
        m, so Newton's steps from below increase to the root m of 1 / norm = 1 and never
        pass it. A column whose value was lower before stays as it was; this happens if
        entries that are now 0 had been useful.
        """
        wanted = curvature * here - slope
        sign = torch.ones_like(wanted) if nonnegative else wanted.sign()
        size = wanted * sign - half
        used = size > 0
        size = size.clamp_min(0)
        least = (size - curvature).masked_fill(~used, -torch.inf)
        # Two lower bounds of the root: from one entry alone, s_i / (a_i + m) <= 1, and
        # from all entries at the largest curvature, ||s|| / (max a + m) <= 1.
        m = least.amax(-1, keepdim=True)
        length = torch.linalg.vector_norm(size, dim=-1, keepdim=True)
        m = m.maximum(length - curvature.amax(-1, keepdim=True))
        empty = ~used.any(-1, keepdim=True)
        m = m.masked_fill(empty, 0.0)
        rounded = 1 + 16 * torch.finfo(m.dtype).eps
        away = remote(m.device)  # do not wait there to check whether all converged
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
            # Newton on 1 / norm - 1, whose derivative is steep / norm^3.
            m = torch.where(ahead, m + square * (norm - 1) / steep, m)
        x = sign * size / (curvature + m).clamp_min(1e-30)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        # If every s_i is 0, the minimum has one nonzero entry, of size 1.
        lone = (curvature - 2 * (wanted * sign - half)).argmin(-1, keepdim=True)
        alone = torch.zeros_like(x).scatter(-1, lone, sign.gather(-1, lone))
        x = torch.where(empty | ~(norm > 0), alone, x / norm)

        def value(at: torch.Tensor) -> torch.Tensor:
            terms = at * (curvature * at - 2 * wanted) + 2 * half * at.abs()
            return terms.sum(-1, keepdim=True)

        inside = (here.square().sum(-1, keepdim=True) - 1).abs() < NORM_ROUNDED
        if nonnegative:
            inside = inside & (here >= 0).all(-1, keepdim=True)
        return torch.where(inside & (value(here) < value(x)), here, x)

    def of_other_rows(self, rows: int) -> FactorSet | None:
        """Return None: the norm is over the fitted rows only."""
        return None


@dataclass(frozen=True, eq=False)
class Fixed(FactorSet):
    """A factor with some entries fixed.

    Parameters
    ----------
    values : array-like of shape (rows, rank)
        The fixed entries, and NaN for free ones. For the column factor there is one row
        for each coordinate, in the order of `LowRankModel.components_`.

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
    sized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            values = np.array(self.values, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.zeros(0)
        if values.ndim != 2 or np.isinf(values).any() or not values.size:
            raise InvalidValueError(
                "fixed values are not a table of numbers; give finite numbers of shape "
                "(rows, rank), and NaN for free entries"
            )
        object.__setattr__(self, "values", values)

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raise if the values do not have the shape of the factor."""
        if self.values.shape != shape:
            raise InvalidValueError(
                f"the fixed values of {name} have shape {self.values.shape}; give "
                f"values of shape {shape}, with one column for each component and NaN for "
                "free entries"
            )

    def prox(
        self,
        point: torch.Tensor,
        rate: torch.Tensor | float,
        thresholds: torch.Tensor | float,
        *,
        nonnegative: bool,
    ) -> torch.Tensor:
        """Return the fixed values, and the entrywise prox for free entries."""
        values = torch.as_tensor(self.values).to(point)
        free_values = entrywise(point, thresholds, nonnegative=nonnegative)
        return torch.where(values.isnan(), free_values, values)

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
        """Minimize over the free entries, with the others fixed."""
        values = torch.as_tensor(self.values).to(right)
        fixed = ~values.isnan()
        l2, l1 = (penalty.masked_fill(fixed, 0) for penalty in (l2, l1))
        at = torch.where(fixed, values, point)
        return _solve_free(gram, right, at, l2, l1, fixed, plain)

    def of_other_rows(self, rows: int) -> FactorSet | None:
        """Return the values for as many rows, or for columns that are the same in all rows.

        Raises
        ------
        InvalidValueError
            If there is another number of rows, and values differ between the fitted rows.
        """
        if rows == len(self.values):
            return self
        if (self.values != self.values[:1])[~np.isnan(self.values)].any() or (
            np.isnan(self.values) != np.isnan(self.values[:1])
        ).any():
            raise InvalidValueError(
                f"the model has fixed values for the {counted(len(self.values), 'row')} "
                f"that it was fitted to, but the table has {counted(rows, 'row')}; give "
                "the table of the fit, or fix values that are the same in all rows"
            )
        return Fixed(np.repeat(self.values[:1], rows, 0)) if rows else None


def _largest_gains(
    values: torch.Tensor, gains: torch.Tensor, count: int
) -> torch.Tensor:
    """Return the `count` entries of each row that gain most, and 0 elsewhere.

    Among equal gains, the first entries are kept.
    """
    order = torch.sort(gains, dim=-1, descending=True, stable=True).indices
    places = order[..., :count]
    return torch.zeros_like(values).scatter(-1, places, values.gather(-1, places))


def _one_hot(costs: torch.Tensor) -> torch.Tensor:
    """Return 1 at the lowest cost of each row (the first of equals), and 0 elsewhere."""
    return torch.zeros_like(costs).scatter(-1, costs.argmin(-1, keepdim=True), 1.0)


def _solve_free(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    l2: torch.Tensor,
    l1: torch.Tensor,
    fixed: torch.Tensor,
    plain: Solve,
) -> torch.Tensor:
    """Minimize over the free entries of each row, with the others fixed at the point.

    With values v of the fixed entries, the free entries have the same G, and r - G v. To
    keep one matrix of full size, the rows and columns of fixed entries become those of a
    multiple of the identity.

    Parameters
    ----------
    fixed : bool Tensor of shape (..., rows, q)
        Fixed entries other than 0 must have no penalty.
    """
    pattern = fixed
    if gram.shape[1] == 1 and bool((fixed == fixed[..., :1, :]).all()):
        pattern = fixed[..., :1, :]  # all rows still share one matrix
    free = (~pattern).to(gram)
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True) + 1
    inner = gram * free[..., :, None] * free[..., None, :]
    inner = inner + torch.diag_embed((1 - free) * size)
    values = torch.where(fixed, point, torch.zeros_like(point))
    wanted = torch.where(fixed, size * values, right - products(gram, values))
    solution = plain(inner, wanted, point, l2, l1, point.shape[-1])
    return torch.where(fixed, point, solution)


NAMES = ("simplex", "unit_norm", "sparse:K", "one_sparse", "one_hot")


FORMER_NAMES = {"unit_one_sparse": "one_hot"}
"""Former names of sets, and what they are called now."""


def renamed_sets(constraint: Any) -> Any:
    """Return a constraint, or a sequence of them, with former names replaced.

    Examples
    --------
    >>> renamed_sets((None, "nonnegative+unit_one_sparse"))
    (None, 'nonnegative+one_hot')
    """
    if isinstance(constraint, str):
        return "+".join(FORMER_NAMES.get(part, part) for part in constraint.split("+"))
    if isinstance(constraint, list | tuple):
        return type(constraint)(map(renamed_sets, constraint))
    return constraint


def named_set(name: str) -> FactorSet | None:
    """Return the set with a name, or None if there is no such set.

    Raises
    ------
    InvalidValueError
        If K of ``sparse:K`` is not a whole number of at least 1.

    Examples
    --------
    >>> named_set("sparse:2")
    Sparse(count=2)
    """
    if name in FORMER_NAMES:
        warnings.warn(
            f"the constraint {name!r} is now called {FORMER_NAMES[name]!r}, and the former "
            "name will be removed in version 0.4; give the new one",
            FutureWarning,
            stacklevel=2,
        )
        name = FORMER_NAMES[name]
    kind, colon, count = name.partition(":")
    if kind == "sparse" and colon:
        try:
            return Sparse(int(count))
        except ValueError:  # also InvalidValueError, which derives from it
            raise InvalidValueError(
                f"constraint is {name!r}; give sparse:K with a whole number K from 1 to "
                "the rank"
            ) from None
    named: dict[str, Callable[[], FactorSet]] = {
        "simplex": Simplex,
        "unit_norm": UnitNorm,
        "one_sparse": lambda: Sparse(1),
        "one_hot": OneHot,
    }
    return named[name]() if name in named else None
