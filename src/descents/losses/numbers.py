"""Losses of numbers, each written once and differentiated by autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from descents.devices import constant
from descents.errors import InvalidValueError
from descents.losses.base import FARTHEST_LOGIT, NEAREST, Loss, corner
from descents.validation import real_number

LARGEST_LOG = 60.0
"""Beyond it a logarithm of a mean is taken for this number where curvatures are judged."""


def squared(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error (p - t)^2 of each entry.

    Parameters
    ----------
    prediction, target : Tensor
        Of shapes that broadcast to each other, one floating dtype.

    Returns
    -------
    Tensor
        The loss of each entry, of the broadcast shape.

    Examples
    --------
    >>> squared(torch.tensor([1.0, 3.0]), torch.tensor(1.0))
    tensor([0., 4.])
    """
    return (prediction - target).square()


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood log(sum_c exp(z_c)) - z_label of each row.

    Parameters
    ----------
    logits : Tensor of shape (starts, rows, classes)
    labels : int64 Tensor of shape (starts, rows)
        The class of each row.

    Returns
    -------
    Tensor of shape (starts, rows)

    Examples
    --------
    >>> cross_entropy(torch.zeros(1, 1, 2), torch.tensor([[0]]))
    tensor([[0.6931]])
    """
    # Classes in the middle: several times faster than last, where they are few.
    return torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none")


def weighted_quantile(
    values: np.ndarray, weights: np.ndarray, level: float
) -> np.ndarray:
    """Return the least value with at least a share of the weights at or below it.

    Returns
    -------
    ndarray of shape (1,)

    Examples
    --------
    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.ones(3), 0.5)
    array([2.])
    """
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    found: np.ndarray = values[order][[int(np.searchsorted(total, total[-1] * level))]]
    return found


def rounded(rest: torch.Tensor, target: torch.Tensor, share: float) -> torch.Tensor:
    """Return r^2 + s^2 of residuals r, where s is a share of the spread.

    Parameters
    ----------
    rest : Tensor
        Residuals, of the shape of the target or with a start axis before it.
    target : Tensor
        The observed values, whose spread is that of each column, or of all stored
        cells.
    share : float

    Examples
    --------
    >>> rounded(torch.tensor([[3.0], [0.0]]), torch.tensor([[-1.0], [1.0]]), 0.1)
    tensor([[9.0100],
            [0.0100]])
    """
    spread = target.std(0, correction=0)
    # A column that hardly varies is not held to its values with all weight.
    typical, size = spread.square().mean().sqrt(), target.square().mean().sqrt()
    floor = 1e-3 * typical + NEAREST * size
    # Above zero for a table of zeros, and too small to matter for any other.
    least = torch.finfo(target.dtype).tiny ** 0.5
    width = (spread.maximum(floor) * share).clamp_min(least)
    return rest.square() + width.square()


@dataclass(frozen=True)
class Squared(Loss):
    """Squared error (z - x)^2, for numbers with noise of one size.

    Examples
    --------
    >>> Squared()(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    tensor([0., 4.])
    """

    name: ClassVar[str] = "squared"
    quadratic: ClassVar[bool] = True
    majorized: ClassVar[bool] = True

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return (z - x)^2."""
        return squared(prediction, target)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean."""
        return np.array([np.average(values, weights=weights)])

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the loss itself."""
        return None, target

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x + g^2 / 4."""
        value: np.ndarray = slope * target + np.square(slope) / 4
        return value


@dataclass(frozen=True)
class Absolute(Loss):
    """Absolute error abs(z - x), which gross outliers hardly move.

    Its quadratic is that of sqrt(r^2 + s^2), iteratively reweighted least squares
    [1]_; s falls with the steps to almost nothing.

    References
    ----------
    .. [1] Daubechies, DeVore, Fornasier and Güntürk (2010), "Iteratively reweighted
       least squares minimization for sparse recovery", Communications on Pure and
       Applied Mathematics 63.

    Examples
    --------
    >>> Absolute()(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1.0]))
    tensor([1., 2.])
    """

    name: ClassVar[str] = "absolute"
    robust: ClassVar[bool] = True
    smooth: ClassVar[bool] = False
    majorized: ClassVar[bool] = True

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return abs(z - x)."""
        return (prediction - target).abs()

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted median."""
        return weighted_quantile(values, weights, 0.5)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight 1 / (2 sqrt(r^2 + s^2)) and the value itself."""
        # From near enough to the corner not to follow outliers, and slowly: on small
        # tables with 5% of outliers, with and without constraints, no other pair of a
        # first share and a rate among eight ended as low on the whole.
        size = rounded(prediction - target, target, corner(step, 0.3))
        return 0.5 * torch.rsqrt(size), target

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x where abs(g) is at most 1."""
        return np.where(np.abs(slope) <= 1, slope * target, np.inf)


@dataclass(frozen=True)
class Quantile(Loss):
    """Pinball loss of r = x - z: q r where r > 0, else (q - 1) r [1]_.

    Its fit has a share q of the cells at or below it; q = 1/2 is half the absolute
    error. Its quadratic is that of Hunter and Lange [2]_, (r^2 / c + c) / 4 + (q - 1/2)
    r with c = sqrt(r^2 + s^2); s falls with the steps to almost nothing.

    Parameters
    ----------
    level : float
        q, between 0 and 1.

    References
    ----------
    .. [1] Koenker and Bassett (1978), "Regression quantiles", Econometrica 46.
    .. [2] Hunter and Lange (2000), "Quantile regression via an MM algorithm", Journal of
       Computational and Graphical Statistics 9.

    Examples
    --------
    >>> Quantile(0.75)(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]))
    tensor([0.7500, 0.2500])
    """

    level: float = 0.5

    name: ClassVar[str] = "quantile"
    robust: ClassVar[bool] = True
    smooth: ClassVar[bool] = False
    majorized: ClassVar[bool] = True
    parameter: ClassVar[str] = "level"
    sample: ClassVar[str] = "quantile:0.9"

    def __post_init__(self) -> None:
        level = real_number("the level of quantile", self.level)
        if not 0 < level < 1:
            raise InvalidValueError(
                f"the level of quantile is {self.level!r}; give a number between 0 and "
                "1, such as 0.9"
            )
        object.__setattr__(self, "level", level)

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return q max(x - z, 0) + (1 - q) max(z - x, 0)."""
        rest = target - prediction
        return (self.level * rest).maximum((self.level - 1) * rest)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted quantile."""
        return weighted_quantile(values, weights, self.level)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight 1 / (4 c) and the target x + (2 q - 1) c."""
        size = rounded(prediction - target, target, corner(step)).sqrt()
        return 0.25 / size, target + (2 * self.level - 1) * size

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x for g from -q to 1 - q."""
        inside = (slope >= -self.level) & (slope <= 1 - self.level)
        return np.where(inside, slope * target, np.inf)


@dataclass(frozen=True)
class Huber(Loss):
    """Huber's loss: r^2 where abs(r) <= d, else d (2 abs(r) - d), of r = z - x [1]_.

    Parameters
    ----------
    width : float, tuple of float, or None
        d, in units of the data; one for all columns, or one for each. None asks who
        fits the model to set it to 1.345 times a robust estimate of the noise.

    References
    ----------
    .. [1] Huber (1964), "Robust estimation of a location parameter", Annals of
       Mathematical Statistics 35.

    Examples
    --------
    >>> Huber(1.0)(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]))
    tensor([0.2500, 5.0000])
    """

    width: float | tuple[float, ...] | None = None

    name: ClassVar[str] = "huber"
    parameter: ClassVar[str] = "width"
    sample: ClassVar[str] = "huber:2"
    robust: ClassVar[bool] = True
    majorized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.width is None:
            return
        if isinstance(self.width, tuple):
            widths = tuple(_width(width) for width in self.width)
            object.__setattr__(self, "width", widths)
        else:
            object.__setattr__(self, "width", _width(self.width))

    def column(self, place: int) -> Loss:
        """Return the loss of one column of those it is for."""
        return Huber(self.width[place]) if isinstance(self.width, tuple) else self

    def in_units(self, units: np.ndarray) -> Loss:
        """Return the loss with each column's width over its unit."""
        widths = np.asarray(self._known()) / units
        return Huber(tuple(float(f"{width:.11g}") for width in widths))

    def _known(self) -> float | tuple[float, ...]:
        if self.width is None:
            raise InvalidValueError(
                "huber has no width yet; give Huber(width), in units of the data"
            )
        return self.width

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return Huber's loss, continuous with its slope."""
        size = (prediction - target).abs()
        inner = size.minimum(constant(self._known(), size.dtype, size.device))
        return inner * (2 * size - inner)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight min(1, d / abs(r)) and the value itself."""
        size = (prediction - target).abs()
        width = constant(self._known(), size.dtype, size.device)
        return width / size.maximum(width), target

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x + g^2 / 4 where abs(g) is at most 2 d."""
        inside = np.abs(slope) <= 2 * np.asarray(self._known())
        return np.where(inside, slope * target + np.square(slope) / 4, np.inf)


def _width(given: Any) -> float:
    return real_number("the width of huber", given, 0, strict=True)


@dataclass(frozen=True)
class Periodic(Loss):
    """1 - cos(2 pi (z - x) / T), for angles, hours and days: numbers modulo a period T.

    It is not convex, and z counts modulo T. Its quadratic is about the copy of x that is
    nearest to z, with the weight f'(r) / (2 r) that is sharp for even losses [1]_: half
    the curvature (2 pi / T)^2 where r is 0, nothing half a period away.

    Parameters
    ----------
    period : float
        T, in units of the data.
    low : float, optional
        Where the period begins that values are imputed into, by default 0. A fitted
        model takes it from the column: 0 where its values lie from 0 to T, -T/2 where
        they lie from there to T/2, else the least.

    References
    ----------
    .. [1] de Leeuw and Lange (2009), "Sharp quadratic majorization in one dimension",
       Computational Statistics & Data Analysis 53.

    Examples
    --------
    >>> Periodic(24.0)(torch.tensor([1.0, 12.0]), torch.tensor([25.0, 0.0]))
    tensor([0., 2.])
    >>> Periodic(24.0).impute(np.array([-1.0, 25.0]))
    array([23.,  1.])
    """

    period: float
    low: float | None = None

    name: ClassVar[str] = "periodic"
    majorized: ClassVar[bool] = True
    parameter: ClassVar[str] = "period"
    sample: ClassVar[str] = "periodic:24"

    def __post_init__(self) -> None:
        period = real_number("the period of periodic", self.period, 0, strict=True)
        object.__setattr__(self, "period", period)

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return 2 sin(pi (z - x) / T)^2, the same without cancellation."""
        rest = prediction - self._nearest(prediction, target)
        return 2 * torch.sin(math.pi / self.period * rest).square()

    def _nearest(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the copies of the targets that are nearest to the predictions."""
        turns = ((prediction - target) / self.period).round()
        return target + self.period * turns

    def of_values(self, values: np.ndarray) -> Loss:
        """Return the loss with the period that the values lie in."""
        seen, half = values[np.isfinite(values)], self.period / 2
        if self.low is not None or not len(seen):
            return self
        least, most = float(seen.min()), float(seen.max())
        if least >= 0 and most < self.period:
            low = 0.0
        elif -half <= least and most < half:
            low = -half
        elif most - least <= self.period:
            low = least
        else:
            low = (least + most) / 2 - half
        return replace(self, low=low)

    def unit(self, spread: float) -> float:
        """Return the length of a radian, whatever the spread."""
        return self.period / (2 * math.pi)

    def in_units(self, units: np.ndarray) -> Loss:
        """Return the loss in radians."""
        low = None if self.low is None else self.low / self.unit(1.0)
        return Periodic(2 * math.pi, low)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean direction."""
        turn = 2 * math.pi / self.period
        sine, cosine = (weights @ f(turn * values) for f in (np.sin, np.cos))
        return self.impute(np.array([np.arctan2(sine, cosine) / turn]))

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight k sin(k r) / (2 r), k = 2 pi / T, and the nearest copy."""
        nearest = self._nearest(prediction, target)
        share = torch.sinc(2 / self.period * (prediction - nearest)).clamp_min(0)
        return 2 * (math.pi / self.period) ** 2 * share, nearest

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the copy in the period that begins at `low`."""
        low = 0.0 if self.low is None else self.low
        found: np.ndarray = low + np.mod(prediction - low, self.period)
        # What is below by less than a rounding would come out at the other end.
        return np.where(found >= low + self.period, low, found)


@dataclass(frozen=True)
class Poisson(Loss):
    """Half the Poisson deviance with log link: exp(z) - x z + x log x - x.

    Examples
    --------
    >>> Poisson()(torch.zeros(2), torch.tensor([1.0, 2.0]))
    tensor([0.0000, 0.3863])
    """

    name: ClassVar[str] = "poisson"
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "counts, 0 or more"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return exp(z) - x z + x log x - x."""
        saturated = torch.special.xlogy(target, target) - target
        return prediction.exp() - target * prediction + saturated

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are not negative."""
        return np.isfinite(values) & (values >= 0)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the logarithm of the weighted mean."""
        with np.errstate(divide="ignore"):
            log = np.log(np.average(values, weights=weights))
        return np.array([np.maximum(log, -FARTHEST_LOGIT)])

    def approximate(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        step: int,
        **cuts: torch.Tensor,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the quadratic whose minimum is no further than that of the loss.

        Of curvature m = exp(z) where the prediction is too large. Where it is too small,
        the curvature is the mean (x - m) / (log x - z) on the way to the minimum, and
        the target is log x: with curvature m alone a step would overflow.
        """
        mean = prediction.clamp(-LARGEST_LOG, LARGEST_LOG).exp()
        log = target.clamp_min(torch.finfo(target.dtype).tiny).log()
        below = log > prediction
        way = torch.where(below, log - prediction, torch.ones_like(prediction))
        # Of a short way the difference of two like numbers over another.
        near = way < 1e-3
        between = torch.where(near, mean * (1 + way / 2), (target - mean) / way)
        curvature = torch.where(below, between, mean)
        fall = torch.where(below & ~near, way, (target - mean) / curvature)
        return curvature / 2, prediction + fall

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return m log m - m - x log x + x of the mean m = g + x, at least 0."""
        from scipy.special import xlogy

        mean = slope + target
        kept = np.maximum(mean, 0)
        value = xlogy(kept, kept) - kept - xlogy(target, target) + target
        return np.where(mean >= 0, value, np.inf)

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the mean exp(z)."""
        return np.exp(prediction)


@dataclass(frozen=True)
class Own(Loss):
    """A loss of the user's: any function of prediction and target, cell by cell.

    Parameters
    ----------
    function : callable
        ``function(prediction, target)`` of two tensors of one shape returns a tensor of
        that shape, by torch operations; autograd differentiates it. It is always given
        numbers in the units of the data.
    units : tuple of float, optional
        What predictions and targets are multiplied by before the call: the unit of
        each column, where the table is divided by them.

    Examples
    --------
    >>> loss = Own(lambda prediction, target: (prediction - target) ** 4)
    >>> loss(torch.tensor([2.0]), torch.tensor([0.0]))
    tensor([16.])
    """

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    units: tuple[float, ...] | None = None

    name: ClassVar[str] = "own"

    def column(self, place: int) -> Loss:
        """Return the loss of one column of those it is for."""
        return self if self.units is None else Own(self.function, (self.units[place],))

    def in_units(self, units: np.ndarray) -> Loss:
        """Return a loss that calls the function with numbers in the data's units."""
        return Own(self.function, tuple(units.tolist()))

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return what the function does, checked for its shape."""
        if self.units is not None:
            unit = constant(self.units, prediction.dtype, prediction.device)
            prediction, target = prediction * unit, target * unit
        try:
            value = self.function(prediction, target)
        except TypeError as error:
            raise InvalidValueError(
                f"the given loss cannot be called with prediction and target ({error}); "
                "give a function of two tensors of one shape"
            ) from error
        expected = prediction.shape
        if not isinstance(value, torch.Tensor) or value.shape != expected:
            got = getattr(value, "shape", None)
            got = type(value).__name__ if got is None else tuple(got)
            raise InvalidValueError(
                f"the given loss returns {got} for predictions of shape "
                f"{tuple(expected)}; return a tensor of that shape, a loss a cell"
            )
        return value
