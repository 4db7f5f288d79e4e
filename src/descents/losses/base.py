"""The interface of losses of single cells.

A loss takes the natural parameter z that a model predicts for a cell and the observed
value x, and returns a deviance: never negative, and zero for a perfect fit. It may also
define the constant that fits a column best, its convex conjugate (for lower bounds), a
quadratic that lies above it (for alternating steps), and the value to impute for z.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import ClassVar, Literal

import numpy as np
import torch

Kind = Literal["numbers", "two values", "classes", "levels"]

FARTHEST_LOGIT = 30.0
"""The largest absolute best constant, reached if a column has one class only."""
CORNER_RATE, LATE_CORNER_RATE = 0.98, 0.95
"""The factors that shrink the rounding of a corner at each step, before and after SHARP."""
SHARP = 1e-3
"""The rounding below which a corner counts as sharp: the fit hardly changes after that."""
NEAREST = 1e-6
"""The smallest rounding of a corner, relative to the scale of the residuals."""


def corner(step: int, first: float = 1.0) -> float:
    """Return how much a corner is rounded at a step, relative to the residuals' scale.

    The rounding begins at the full scale and shrinks slowly, because sharp corners hold
    the factors in place before these are near their minimum. (For 90% quantiles of a
    small table, 12 starts all end at one loss; with a first rounding of 0.1 and a rate of
    0.9 they end at up to twice that loss.) The rate of 0.95 is too fast for the factors
    of a constrained table: on small tables, the best of five starts ended up to 20% above
    that at 0.98, and most starts reached the limit of steps.

    Examples
    --------
    >>> corner(0), corner(1000)
    (1.0, 1e-06)
    """
    slow = math.ceil(math.log(SHARP / first) / math.log(CORNER_RATE))
    late = max(step - slow, 0)
    rounding = first * CORNER_RATE ** min(step, slow) * LATE_CORNER_RATE**late
    return max(rounding, NEAREST)


def still_rounded(step: int) -> bool:
    """Return whether corners are still rounded too much for a fit to have converged.

    A loss may stay the same, or rise, while the corners of its quadratics sharpen.

    Examples
    --------
    >>> still_rounded(100), still_rounded(400)
    (True, False)
    """
    return corner(step) > SHARP


def golden_section(
    total: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the minima of functions of one variable, each within an interval.

    Examples
    --------
    >>> golden_section(np.square, np.array([-1.0, 2.0]), np.array([2.0, 3.0])).round(6)
    array([0., 2.])
    """
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        falls = total(left) <= total(right)
        high, low = np.where(falls, right, high), np.where(falls, low, left)
    middle: np.ndarray = (low + high) / 2
    return middle


def bisection(
    derivative: Callable[[np.ndarray], np.ndarray], near: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Return the minima near some points to full precision, from the derivatives' signs.

    A search by values finds only half of the digits, because a function is flat about
    its minimum. Where a derivative does not change its sign within a millionth of
    `width` on either side, the point itself is returned.

    Examples
    --------
    >>> bisection(lambda z: z - 2, np.array([2.0 + 1e-8]), np.array([1.0]))
    array([2.])
    """
    low, high = near - 1e-6 * width, near + 1e-6 * width
    inside = (derivative(low) < 0) & (derivative(high) > 0)
    for _ in range(40 if inside.any() else 0):
        middle = low + (high - low) / 2
        rises = derivative(middle) > 0
        low, high = np.where(rises, low, middle), np.where(rises, middle, high)
    return np.where(inside, low + (high - low) / 2, near)


class Loss(ABC):
    """The loss of one cell.

    A column with `levels` levels has `coordinates(levels)` natural parameters, and
    `thresholds(levels)` cut points of its own. If a column has one natural parameter,
    predictions and targets have the same shape, (..., columns); otherwise predictions
    have one more axis at the end.

    Attributes
    ----------
    name : str
    smooth : bool
        Whether the gradient is continuous.
    quadratic : bool
        Whether `majorize` is the loss itself.
    majorized : bool
        Whether there is a quadratic that lies above it, for alternating steps.
    robust : bool
        Whether its quadratic gives outliers less weight. Alternating steps are then the
        best choice: they begin nearer to least squares and are caught less often.
    identity : bool
        Whether the natural parameter is on the scale of the data.
    domain : str
        The values that a column may have, in words.
    counts : bool
        Whether it is for counts, whose variance grows with their mean.
    kind : {"numbers", "two values", "classes", "levels"}
        The content of a column: numbers, or codes 0, 1, ... of its levels.
    likelihood : bool
        Whether it is minus the log-probability of a level, so that `probabilities` returns
        these probabilities.
    divergence : bool
        Whether predictions must be at least 0. Such losses have multiplicative steps,
        see `parts` and `exponent`.
    parameter : str
        The field that a number after the name sets ("quantile:0.9"), if there is one.
    sample : str
        An example of a name with such a number.
    first_size : float
        The size of predictions of normal starts, about the best constants, in spreads of
        the data.
    """

    name: ClassVar[str]
    smooth: ClassVar[bool] = True
    quadratic: ClassVar[bool] = False
    majorized: ClassVar[bool] = False
    robust: ClassVar[bool] = False
    identity: ClassVar[bool] = True
    domain: ClassVar[str] = "finite numbers"
    counts: ClassVar[bool] = False
    kind: ClassVar[Kind] = "numbers"
    likelihood: ClassVar[bool] = False
    divergence: ClassVar[bool] = False
    parameter: ClassVar[str] = ""
    sample: ClassVar[str] = ""
    first_size: ClassVar[float] = 1.0

    @abstractmethod
    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of each cell, shaped as the target."""

    def coordinates(self, levels: int) -> int:
        """Return the number of natural parameters of a column."""
        return 1

    def thresholds(self, levels: int) -> int:
        """Return the number of cut points of a column."""
        return 0

    def column(self, place: int) -> Loss:
        """Return the loss of one of its columns; by default the loss itself."""
        return self

    def of_levels(self, levels: int) -> Loss:
        """Return the loss for columns with this many levels; by default itself."""
        return self

    def of_values(self, values: np.ndarray) -> Loss:
        """Return the loss with settings taken from a column's values; by default itself."""
        return self

    @property
    def has_units(self) -> bool:
        """Whether predictions and values are numbers in the units of the column."""
        return self.identity and self.kind == "numbers"

    def unit(self, spread: float) -> float:
        """Return the unit to divide a column by, given its spread; by default the spread."""
        return spread

    def in_units(self, units: np.ndarray) -> Loss:
        """Return the loss for columns whose values are divided by their units.

        It has the same minima, because loss(z, x) is proportional to in_units(u)(z / u, x
        / u); scaling removes the constant factor of each column. The default, the loss
        itself, is right for homogeneous losses.

        Parameters
        ----------
        units : float64 ndarray of shape (columns,)
            Positive.

        Examples
        --------
        >>> from descents.losses import Huber
        >>> Huber(6.0).in_units(np.array([2.0, 3.0])).width
        (3.0, 2.0)
        """
        return self

    def size_in(self, unit: float) -> float:
        """Return loss(u z, u x) / in_units(u)(z, x) of one column, the same for all z, x.

        For a loss that is homogeneous of degree d it is u^d.

        Examples
        --------
        >>> from descents.losses import get_loss
        >>> [round(get_loss(x).size_in(3.0), 9) for x in ("squared", "absolute", "huber:2")]
        [9.0, 3.0, 9.0]
        """
        z, x = torch.full((1,), 2.0).double(), torch.ones(1).double()
        standard = self.in_units(np.array([unit])).column(0)
        return float(self(z * unit, x * unit) / standard(z, x))

    @classmethod
    def defaults(cls) -> dict[str, object]:
        """Return the default of each parameter; `dataclasses.MISSING` if there is none."""
        return {field.name: field.default for field in fields(cls)}  # type: ignore[arg-type]

    @property
    def label(self) -> str:
        """Its name, with its number unless that is the default, as `named` takes it."""
        number = getattr(self, self.parameter) if self.parameter else None
        plain = (
            not isinstance(number, float) or number == self.defaults()[self.parameter]
        )
        return self.name if plain else f"{self.name}:{number:.12g}"

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which observed values lie in the domain."""
        return np.isfinite(values)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the natural parameter that fits one column best, shape (coordinates,).

        By default it is found by the search of `searched_constants`.
        """
        return self.searched_constants(values[:, None], weights[:, None])

    def searched_constants(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the best constants of columns of numbers, by one search for all of them.

        It is a golden-section search between the smallest and the largest value of each
        column, and then, to full precision, bisection of the derivative.

        Parameters
        ----------
        values, weights : float64 ndarray of shape (rows, columns)
            Values without weight are ignored; each column has one with a weight.

        Returns
        -------
        float64 ndarray of shape (columns,)

        Examples
        --------
        >>> from descents.losses import Huber
        >>> values = np.array([[1.0, 2.0], [1.0, 3.0], [9.0, 0.0]])
        >>> weights = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
        >>> Huber(1.0).searched_constants(values, weights).round(6)
        array([1.5, 2.5])
        """
        seen = weights > 0
        low = np.where(seen, values, np.inf).min(0)
        high = np.where(seen, values, -np.inf).max(0)
        # Cells without weight take a value of their column, which the loss allows.
        target = torch.as_tensor(np.where(seen, values, low))
        weight = torch.as_tensor(weights)

        def total(z: np.ndarray) -> np.ndarray:
            loss = self(torch.as_tensor(z).expand(values.shape), target)
            return (weight * loss).sum(0).numpy()

        def derivative(z: np.ndarray) -> np.ndarray:
            each = slope(self, torch.as_tensor(z).expand(values.shape), target)
            return (weight * each).sum(0).numpy()

        return bisection(derivative, golden_section(total, low, high), high - low)

    def best_point(
        self, values: np.ndarray, weights: np.ndarray, levels: int
    ) -> np.ndarray:
        """Return the best constant of a column with this many levels."""
        return self.best_constant(values, weights)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return w and t of a quadratic w (t - z)^2 + constant that majorizes the loss.

        It lies above the loss everywhere, and has the same value and slope at the given
        prediction. A weight of None stands for 1.
        """
        raise NotImplementedError(f"{self.name} has no quadratic above it")

    def approximate(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        step: int,
        **cuts: torch.Tensor,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return w and t of a quadratic that has the value and slope of the loss.

        Unlike that of `majorize`, the default here, it need not lie above the loss: after
        a step to its minimum, check that the loss fell.
        """
        return self.majorize(prediction, target, step)

    @property
    def has_quadratic(self) -> bool:
        """Whether `approximate` is implemented."""
        return self.majorized or type(self).approximate is not Loss.approximate

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the conjugate sup_z (slope z - loss(z, target)), which may be infinite."""
        raise NotImplementedError(f"{self.name} has no conjugate here")

    @property
    def has_conjugate(self) -> bool:
        """Whether `conjugate` is implemented."""
        return type(self).conjugate is not Loss.conjugate

    def parts(
        self, prediction: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return n >= 0 and p >= 0, such that the slope of a divergence is p - n.

        n is linear in the target. A p of None stands for 1.
        """
        raise NotImplementedError(f"{self.name} is not a divergence")

    def exponent(self, *, ridge: bool) -> float:
        """Return the exponent with which multiplicative steps never raise a divergence.

        Parameters
        ----------
        ridge : bool
            Whether there is an l2 penalty.
        """
        raise NotImplementedError(f"{self.name} is not a divergence")

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the value (or code) with the smallest loss under a prediction."""
        return prediction

    def probabilities(
        self, prediction: np.ndarray, levels: int, **cuts: np.ndarray
    ) -> np.ndarray:
        """Return exp(-loss) of each level over their sum, on a new last axis.

        If the loss is a negative log-likelihood, these are the probabilities of the
        levels; otherwise they only compare the levels.

        Parameters
        ----------
        prediction : ndarray
        levels : int
            The number of levels; ignored by losses of two values.

        Examples
        --------
        >>> from descents.losses import get_loss
        >>> get_loss("logistic").probabilities(np.zeros(1), 2)
        array([[0.5, 0.5]])
        """
        if not self.has_levels:
            raise NotImplementedError(
                f"{self.name} is a loss of numbers, which have no levels"
            )
        z = torch.as_tensor(prediction)
        points = {name: torch.as_tensor(value) for name, value in cuts.items()}
        count = 2 if self.kind == "two values" else levels
        shape = z.shape if self.coordinates(count) == 1 else z.shape[:-1]
        losses = [self(z, z.new_full(shape, float(x)), **points) for x in range(count)]
        chances: np.ndarray = torch.stack(losses, -1).neg().softmax(-1).numpy()
        return chances

    @property
    def has_levels(self) -> bool:
        """Whether a column has codes of levels."""
        return self.kind != "numbers"


def slope(
    loss: Loss, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
) -> torch.Tensor:
    """Return the derivative of the loss of each cell by its prediction, by autograd.

    Examples
    --------
    >>> from descents.losses import Squared
    >>> slope(Squared(), torch.tensor([3.0]), torch.tensor([1.0]))
    tensor([4.])
    """
    leaf = prediction.detach().requires_grad_()
    with torch.enable_grad():
        total = loss(leaf, target, **cuts).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient
