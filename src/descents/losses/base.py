"""What a loss of single cells is: a value, and what fits, steps and bounds ask of it.

A loss takes what a model says of a cell, its natural parameter z, and what was observed
there, and returns a deviance: never negative, zero for a perfect fit. Beside its value
it may know the constant that fits a column best, its convex conjugate, a quadratic that
lies above it, and which value a natural parameter stands for.
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
"""Where the best constant of a column that holds one class only is cut off."""
CORNER_RATE, LATE_CORNER_RATE = 0.98, 0.95
"""What the rounding of a corner is multiplied by at each step, and once it is sharp."""
SHARP = 1e-3
"""How far a sharp corner is rounded: the fit hardly changes after that."""
NEAREST = 1e-6
"""How near to zero a residual of a loss with a corner may be taken for, over its scale."""


def corner(step: int, first: float = 1.0) -> float:
    """Return how far a corner is rounded at a step, over the scale of the residuals.

    From all of the scale, slowly: corners that are sharp before the factors are near
    their place hold them where they are. (Ninety percent quantiles of a small table, 12
    starts: all end at one loss, where 0.1 and 0.9 end at up to twice of it.) At a rate
    of 0.95 the factors of a constrained table are left behind: of small tables, the
    best of five starts ended up to 20% above where it ends at 0.98, most of them at the
    limit of steps.

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
    """Return whether corners are rounded so much that no fit has settled.

    A loss may stand still, or rise, while the corners of its quadratics sharpen.

    Examples
    --------
    >>> still_rounded(100), still_rounded(400)
    (True, False)
    """
    return corner(step) > SHARP


def golden_section(
    total: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return where functions of one variable are least, each between its two ends.

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


class Loss(ABC):
    """The loss of one cell.

    A column with `levels` levels has `coordinates(levels)` natural parameters, and
    `thresholds(levels)` cut points of its own. Where a column has one natural
    parameter, predictions and targets have one shape, (..., columns); else predictions
    have one axis more, at the end.

    Attributes
    ----------
    name : str
    smooth : bool
        Whether the gradient is continuous.
    quadratic : bool
        Whether `majorize` is the loss itself.
    majorized : bool
        Whether there is a quadratic above it, for alternating steps.
    robust : bool
        Whether its quadratic weighs outliers down, so that alternating steps are the
        ones to take: they begin nearer to least squares, and are not caught as others.
    identity : bool
        Whether the natural parameter is on the scale of the data.
    domain : str
        Which values a column may hold, in words.
    kind : {"numbers", "two values", "classes", "levels"}
        What a column holds: numbers, or codes 0, 1, ... of its levels.
    divergence : bool
        Whether predictions must be at least 0, for which there are multiplicative
        steps: see `parts` and `exponent`.
    parameter : str
        Which of its fields a number after its name sets ("quantile:0.9"), if one does.
    sample : str
        A name with such a number.
    """

    name: ClassVar[str]
    smooth: ClassVar[bool] = True
    quadratic: ClassVar[bool] = False
    majorized: ClassVar[bool] = False
    robust: ClassVar[bool] = False
    identity: ClassVar[bool] = True
    domain: ClassVar[str] = "finite numbers"
    kind: ClassVar[Kind] = "numbers"
    divergence: ClassVar[bool] = False
    parameter: ClassVar[str] = ""
    sample: ClassVar[str] = ""

    @abstractmethod
    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of each cell, shaped as the target."""

    def coordinates(self, levels: int) -> int:
        """Return how many natural parameters a column has."""
        return 1

    def thresholds(self, levels: int) -> int:
        """Return how many cut points a column has."""
        return 0

    def column(self, place: int) -> Loss:
        """Return the loss of one column of those it is for; here, the same."""
        return self

    def of_levels(self, levels: int) -> Loss:
        """Return the loss of columns of so many levels; here, the same."""
        return self

    def of_values(self, values: np.ndarray) -> Loss:
        """Return the loss with what it takes from a column's values; here, the same."""
        return self

    @property
    def has_units(self) -> bool:
        """Whether predictions and values are numbers in the units of the column."""
        return self.identity and self.kind == "numbers"

    def unit(self, spread: float) -> float:
        """Return what to divide a column of this spread by; here, the spread."""
        return spread

    def in_units(self, units: np.ndarray) -> Loss:
        """Return the loss of columns whose values are divided by their units.

        Up to a constant factor for each column, which scaling removes, it has the same
        minima: loss(z, x) is proportional to in_units(u)(z / u, x / u). Here, for
        losses that are homogeneous, the same.

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
        """Return loss(u z, u x) over in_units(u)(z, x), the same for all z and x.

        For a loss of degree d in the unit it is u^d; of one column.

        Examples
        --------
        >>> from descents.losses import named
        >>> [round(named(x).size_in(3.0), 9) for x in ("squared", "absolute", "huber:2")]
        [9.0, 3.0, 9.0]
        """
        z, x = torch.full((1,), 2.0).double(), torch.ones(1).double()
        standard = self.in_units(np.array([unit])).column(0)
        return float(self(z * unit, x * unit) / standard(z, x))

    @property
    def label(self) -> str:
        """Its name, with the number that sets it apart, as `named` takes it."""
        defaults = {field.name: field.default for field in fields(self)}  # type: ignore[arg-type]
        number = getattr(self, self.parameter) if self.parameter else None
        plain = not isinstance(number, float) or number == defaults[self.parameter]
        return self.name if plain else f"{self.name}:{number:.12g}"

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which observed values lie in the domain."""
        return np.isfinite(values)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the natural parameter that fits one column best, shape (coordinates,).

        Here by golden-section search between the least and the greatest value.
        """
        low, high = np.array([values.min()]), np.array([values.max()])
        target, weight = torch.as_tensor(values), torch.as_tensor(weights)

        def total(z: np.ndarray) -> np.ndarray:
            loss = self(torch.as_tensor(z).expand(len(values)), target)
            return (weight * loss).sum(0, keepdim=True).numpy()

        return golden_section(total, low, high)

    def best_point(
        self, values: np.ndarray, weights: np.ndarray, levels: int
    ) -> np.ndarray:
        """Return the same for a column of so many levels."""
        return self.best_constant(values, weights)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return w and t of a quadratic w (t - z)^2 + constant that touches the loss.

        It lies above the loss everywhere and meets it, value and slope, at the given
        prediction. A weight of None stands for one.
        """
        raise NotImplementedError(f"{self.name} has no quadratic above it")

    def approximate(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        step: int,
        **cuts: torch.Tensor,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return w and t of a quadratic that touches the loss, as `majorize` does.

        It need not lie above the loss: whoever takes a step by it has to check that the
        loss falls. Here it is that of `majorize`.
        """
        return self.majorize(prediction, target, step)

    @property
    def has_quadratic(self) -> bool:
        """Whether `approximate` is known."""
        return self.majorized or type(self).approximate is not Loss.approximate

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return sup_z (slope z - loss(z, target)), infinite outside its domain."""
        raise NotImplementedError(f"{self.name} has no conjugate here")

    @property
    def has_conjugate(self) -> bool:
        """Whether `conjugate` is known."""
        return type(self).conjugate is not Loss.conjugate

    def parts(
        self, prediction: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return n and p of at least 0, where the slope of a divergence is p - n.

        n is linear in the target. None stands for one.
        """
        raise NotImplementedError(f"{self.name} is no divergence")

    def exponent(self, *, ridge: bool) -> float:
        """Return the exponent with which multiplicative steps never raise a divergence.

        Parameters
        ----------
        ridge : bool
            Whether there is an l2 penalty.
        """
        raise NotImplementedError(f"{self.name} is no divergence")

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the value (or code) that has the least loss under a prediction."""
        return prediction

    def probabilities(
        self, prediction: np.ndarray, levels: int, **cuts: np.ndarray
    ) -> np.ndarray:
        """Return exp(-loss) of each level over their sum, on an axis at the end.

        Where the loss is a negative log-likelihood that is the probability; else it
        says how the levels stand to each other.

        Parameters
        ----------
        prediction : ndarray
        levels : int
            How many there are; two where a loss is of two values.

        Examples
        --------
        >>> from descents.losses import named
        >>> named("logistic").probabilities(np.zeros(1), 2)
        array([[0.5, 0.5]])
        """
        if not self.has_levels:
            raise NotImplementedError(f"{self.name} is of numbers, not of levels")
        z = torch.as_tensor(prediction)
        points = {name: torch.as_tensor(value) for name, value in cuts.items()}
        count = 2 if self.kind == "two values" else levels
        shape = z.shape if self.coordinates(count) == 1 else z.shape[:-1]
        each = [self(z, z.new_full(shape, float(x)), **points) for x in range(count)]
        chances: np.ndarray = torch.stack(each, -1).neg().softmax(-1).numpy()
        return chances

    @property
    def has_levels(self) -> bool:
        """Whether a column holds codes of levels."""
        return self.kind != "numbers"


def slope(
    loss: Loss, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
) -> torch.Tensor:
    """Return the derivative of a loss by the prediction, cell by cell, by autograd.

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
