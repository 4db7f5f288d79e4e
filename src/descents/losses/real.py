"""Losses of numbers: squared, robust, and periodic."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from descents.devices import constant
from descents.errors import InvalidValueError
from descents.losses.base import NEAREST, Loss, corner
from descents.validation import real_number


def squared(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error (p - t)^2 of each entry.

    Parameters
    ----------
    prediction, target : Tensor
        They broadcast with each other and have one floating dtype.

    Returns
    -------
    Tensor
        The loss of each entry, with the broadcast shape.

    Examples
    --------
    >>> squared(torch.tensor([1.0, 3.0]), torch.tensor(1.0))
    tensor([0., 4.])
    """
    return (prediction - target).square()


def weighted_quantile(
    values: np.ndarray, weights: np.ndarray, level: float
) -> np.ndarray:
    """Return the smallest value with at least a share `level` of the weight at or below.

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
    value: np.ndarray = values[order][[int(np.searchsorted(total, total[-1] * level))]]
    return value


def rounded(rest: torch.Tensor, target: torch.Tensor, share: float) -> torch.Tensor:
    """Return r^2 + s^2 for residuals r, where s is a share of the spread.

    Parameters
    ----------
    rest : Tensor
        Residuals, with the shape of the target or with a start axis before it.
    target : Tensor
        The observed values. The spread is the standard deviation of each column, or of
        all stored cells of a sparse table.
    share : float
        s over the spread.

    Examples
    --------
    >>> rounded(torch.tensor([[3.0], [0.0]]), torch.tensor([[-1.0], [1.0]]), 0.1)
    tensor([[9.0100],
            [0.0100]])
    """
    spread = target.std(0, correction=0)
    # The floor keeps a nearly constant column from getting an extreme weight.
    typical, size = spread.square().mean().sqrt(), target.square().mean().sqrt()
    floor = 1e-3 * typical + NEAREST * size
    # Positive also for a table of zeros, and too small to matter for other tables.
    least = torch.finfo(target.dtype).tiny ** 0.5
    width = (spread.maximum(floor) * share).clamp_min(least)
    return rest.square() + width.square()


@dataclass(frozen=True)
class Squared(Loss):
    """Squared error (z - x)^2, for numbers with noise of equal variance.

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
    """Absolute error abs(z - x), robust to outliers.

    It is majorized as sqrt(r^2 + s^2) with r = z - x, as in iteratively reweighted least
    squares [1]_. The rounding s shrinks with the steps to almost zero (`corner`).

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
        """Return the weight 1 / (2 sqrt(r^2 + s^2)) and the target x."""
        # The first rounding is small enough not to follow outliers, and it shrinks
        # slowly. Of eight pairs of first rounding and rate, this one reached the lowest
        # losses on small tables with 5% of outliers, with and without constraints.
        size = rounded(prediction - target, target, corner(step, 0.3))
        return 0.5 * torch.rsqrt(size), target

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x for abs(g) <= 1."""
        return np.where(np.abs(slope) <= 1, slope * target, np.inf)


@dataclass(frozen=True)
class Quantile(Loss):
    """Pinball loss of r = x - z: q r if r > 0, else (q - 1) r [1]_.

    A share q of the cells lies at or below the fit; q = 1/2 is half the absolute error.
    It is majorized by the quadratic of Hunter and Lange [2]_, (r^2 / c + c) / 4 + (q -
    1/2) r with c = sqrt(r^2 + s^2). The rounding s shrinks with the steps to almost zero
    (`corner`).

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
    """Huber's loss of r = z - x: r^2 if abs(r) <= d, else d (2 abs(r) - d) [1]_.

    Parameters
    ----------
    width : float, tuple of float, or None
        d, in units of the data; one for all columns, or one for each. None lets a fitted
        model set it to 1.345 times a robust estimate of the noise.

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
        """Return the loss of one of its columns."""
        return Huber(self.width[place]) if isinstance(self.width, tuple) else self

    def in_units(self, units: np.ndarray) -> Loss:
        """Return the loss with the width of each column divided by its unit."""
        widths = np.asarray(self._set_width()) / units
        return Huber(tuple(float(f"{width:.11g}") for width in widths))

    def _set_width(self) -> float | tuple[float, ...]:
        if self.width is None:
            raise InvalidValueError(
                "huber has no width yet; give Huber(width), in units of the data"
            )
        return self.width

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return Huber's loss, as m (2 r - m) with m = r clamped between -d and d.

        The same with abs(r) has the same bits, but torch loads its compiler, for a
        second, to differentiate the gradient of an absolute value.
        """
        rest = prediction - target
        width = constant(self._set_width(), rest.dtype, rest.device)
        inner = rest.clamp(-width, width)
        return inner * (2 * rest - inner)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight min(1, d / abs(r)) and the target x."""
        size = (prediction - target).abs()
        width = constant(self._set_width(), size.dtype, size.device)
        return width / size.maximum(width), target

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x + g^2 / 4 for abs(g) <= 2 d."""
        inside = np.abs(slope) <= 2 * np.asarray(self._set_width())
        return np.where(inside, slope * target + np.square(slope) / 4, np.inf)


def _width(value: object) -> float:
    return real_number("the width of huber", value, 0, strict=True)


@dataclass(frozen=True)
class Periodic(Loss):
    """1 - cos(2 pi (z - x) / T), for angles, hours and days: numbers modulo a period T.

    It is not convex, and z counts modulo T. It is majorized by the quadratic about the
    copy of x that is nearest to z, with the weight f'(r) / (2 r), which is the smallest
    one possible for even losses [1]_: half the curvature (2 pi / T)^2 at r = 0, and zero
    half a period away.

    Parameters
    ----------
    period : float
        T, in units of the data.
    low : float, optional
        The lower end of the period that imputed values lie in, by default 0. A fitted
        model takes it from the column: 0 if its values lie in [0, T), -T/2 if they lie in
        [-T/2, T/2), else the smallest value.

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
    # Predictions that begin far from the constants end at copies of the targets that no
    # other cell of their row or column agrees with.
    first_size: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        period = real_number("the period of periodic", self.period, 0, strict=True)
        object.__setattr__(self, "period", period)

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return 2 sin(pi (z - x) / T)^2, the same value without cancellation."""
        rest = prediction - self._nearest(prediction, target)
        return 2 * torch.sin(math.pi / self.period * rest).square()

    def _nearest(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the copies of the targets nearest to the predictions."""
        turns = ((prediction - target) / self.period).round()
        return target + self.period * turns

    def of_values(self, values: np.ndarray) -> Loss:
        """Return the loss with `low` set to the period that the values lie in."""
        finite, half = values[np.isfinite(values)], self.period / 2
        if self.low is not None or not len(finite):
            return self
        least, most = float(finite.min()), float(finite.max())
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
        # torch.sinc(y) is sin(pi y) / (pi y): the weight is k^2 / 2 sinc(2 r / T).
        nearest = self._nearest(prediction, target)
        share = torch.sinc(2 / self.period * (prediction - nearest)).clamp_min(0)
        return 2 * (math.pi / self.period) ** 2 * share, nearest

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the copy in the period that begins at `low`."""
        low = 0.0 if self.low is None else self.low
        copy: np.ndarray = low + np.mod(prediction - low, self.period)
        # A value just below `low` may round to the excluded upper end.
        return np.where(copy >= low + self.period, low, copy)
