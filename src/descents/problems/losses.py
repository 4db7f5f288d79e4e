"""Losses of single cells, each written once and differentiated by autograd.

A loss takes what a model says of a cell, its natural parameter z, and what was observed
there, and returns a deviance: never negative, zero for a perfect fit. Beside its value
it may know the constant that fits a column best, its convex conjugate, a quadratic that
lies above it, and which value a natural parameter stands for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from descents.checks import InvalidValueError, one_of, real_number

FARTHEST_LOGIT = 30.0
"""Where the best constant of a column that holds one class only is cut off."""
NEAREST = 1e-6
"""How near to zero a residual of the absolute loss may be taken for, over its scale."""


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
    """

    name: ClassVar[str]
    smooth: ClassVar[bool] = True
    quadratic: ClassVar[bool] = False
    majorized: ClassVar[bool] = False
    robust: ClassVar[bool] = False
    identity: ClassVar[bool] = True
    domain: ClassVar[str] = "finite numbers"

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

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return w and t of a quadratic w (t - z)^2 + constant that touches the loss.

        It lies above the loss everywhere and meets it, value and slope, at the given
        prediction. A weight of None stands for one.
        """
        raise NotImplementedError(f"{self.name} has no quadratic above it")

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return sup_z (slope z - loss(z, target)), infinite outside its domain."""
        raise NotImplementedError(f"{self.name} has no conjugate here")

    @property
    def has_conjugate(self) -> bool:
        """Whether `conjugate` is known."""
        return type(self).conjugate is not Loss.conjugate

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the value (or code) that has the least loss under a prediction."""
        return prediction

    def probabilities(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the probability of each level, on an axis at the end."""
        raise NotImplementedError(f"{self.name} has no probabilities")

    @property
    def has_probabilities(self) -> bool:
        """Whether `probabilities` are known."""
        return type(self).probabilities is not Loss.probabilities


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
        order = np.argsort(values, kind="stable")
        total = np.cumsum(weights[order])
        return values[order][[int(np.searchsorted(total, total[-1] / 2))]]

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight 1 / (2 sqrt(r^2 + s^2)) and the value itself."""
        spread = target.std(0, correction=0)  # of each column, or of all stored cells
        # A column that hardly varies is not held to its values with all weight.
        typical, size = spread.square().mean().sqrt(), target.square().mean().sqrt()
        floor = (1e-3 * typical + NEAREST * size).clamp_min(1e-12)
        width = spread.maximum(floor) * max(0.1 * 0.9**step, NEAREST)
        weight = 0.5 * torch.rsqrt((prediction - target).square() + width.square())
        return weight, target

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x where abs(g) is at most 1."""
        return np.where(np.abs(slope) <= 1, slope * target, np.inf)


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
    robust: ClassVar[bool] = True
    majorized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.width is None:
            return
        for width in np.atleast_1d(self.width).tolist():
            real_number("the width of huber", width, 0, strict=True)

    def column(self, place: int) -> Loss:
        """Return the loss of one column of those it is for."""
        return Huber(self.width[place]) if isinstance(self.width, tuple) else self

    def _known(self) -> np.ndarray:
        if self.width is None:
            raise InvalidValueError(
                "huber has no width yet; give Huber(width), in units of the data"
            )
        return np.asarray(self.width, dtype=np.float64)

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return Huber's loss, continuous with its slope."""
        size = (prediction - target).abs()
        inner = size.minimum(torch.as_tensor(self._known()).to(size))
        return inner * (2 * size - inner)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight min(1, d / abs(r)) and the value itself."""
        size = (prediction - target).abs()
        width = torch.as_tensor(self._known()).to(size)
        return width / size.maximum(width), target

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return g x + g^2 / 4 where abs(g) is at most 2 d."""
        inside = np.abs(slope) <= 2 * self._known()
        return np.where(inside, slope * target + np.square(slope) / 4, np.inf)


@dataclass(frozen=True)
class Logistic(Loss):
    """Logistic loss log(1 + exp(z)) - x z, for x of 0 and 1.

    Its quadratic is that of Jaakkola and Jordan [1]_.

    References
    ----------
    .. [1] Jaakkola and Jordan (2000), "Bayesian parameter estimation via variational
       methods", Statistics and Computing 10.

    Examples
    --------
    >>> Logistic()(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
    tensor([0.6931, 0.1269])
    """

    name: ClassVar[str] = "logistic"
    majorized: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "two values, such as 0 and 1"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return log(1 + exp(z)) - x z."""
        return torch.nn.functional.softplus((1 - 2 * target) * prediction, threshold=40)

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are 0 or 1."""
        return (values == 0) | (values == 1)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the log-odds of the weighted mean."""
        mean = np.average(values, weights=weights)
        with np.errstate(divide="ignore"):
            logit = np.log(mean) - np.log1p(-mean)
        return np.array([np.clip(logit, -FARTHEST_LOGIT, FARTHEST_LOGIT)])

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight tanh(z / 2) / (4 z) and the target (x - 1/2) / (2 w)."""
        size = prediction.abs().clamp_min(1e-4)  # the limit at zero is 1/8
        weight = torch.tanh(size / 2) / (4 * size)
        return weight, (target - 0.5) / (2 * weight)

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return s log s + (1 - s) log(1 - s) of the probability s = g + x in [0, 1]."""
        from scipy.special import xlogy

        s = slope + target
        inside = (s >= 0) & (s <= 1)
        s = np.clip(s, 0, 1)
        return np.where(inside, xlogy(s, s) + xlogy(1 - s, 1 - s), np.inf)

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the likelier of 0 and 1."""
        return (prediction > 0).astype(np.float64)

    def probabilities(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return 1 / (1 + exp(z)) and 1 / (1 + exp(-z))."""
        from scipy.special import expit

        return np.stack([expit(-prediction), expit(prediction)], -1)


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
class KullbackLeibler(Loss):
    """Generalised Kullback-Leibler divergence x log(x / z) - x + z, for z of 0 or more.

    Half the Poisson deviance with the identity link: the loss of nonnegative matrix
    factorization for counts. It asks for nonnegative factors.

    Examples
    --------
    >>> KullbackLeibler()(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor([0., 1.])
    """

    name: ClassVar[str] = "kl"
    domain: ClassVar[str] = "counts, 0 or more"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return x log(x / z) - x + z."""
        # A prediction of zero for a positive count would be infinite, and its gradient
        # NaN: it is held a hair above.
        held = prediction.clamp_min(torch.finfo(prediction.dtype).tiny ** 0.5)
        log = torch.special.xlogy(target, target) - torch.special.xlogy(target, held)
        return log - target + prediction

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are not negative."""
        return np.isfinite(values) & (values >= 0)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean."""
        return np.array([np.average(values, weights=weights)])


@dataclass(frozen=True)
class Categorical(Loss):
    """Multinomial loss log(sum_c exp(z_c)) - z_x, for classes without an order.

    Its quadratic has the curvature 1/2 that bounds the softmax [1]_.

    References
    ----------
    .. [1] Böhning (1992), "Multinomial logistic regression algorithm", Annals of the
       Institute of Statistical Mathematics 44.

    Examples
    --------
    >>> Categorical()(torch.zeros(1, 2), torch.tensor([1.0]))
    tensor([0.6931])
    """

    name: ClassVar[str] = "categorical"
    majorized: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "classes"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the negative log-likelihood of the class."""
        chosen = target.long().expand(prediction.shape[:-1])[..., None]
        return prediction.logsumexp(-1) - prediction.gather(-1, chosen)[..., 0]

    def coordinates(self, levels: int) -> int:
        """Return one for each class."""
        return levels

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Raise: the number of classes is not in the values; see `best_logits`."""
        raise NotImplementedError

    @staticmethod
    def best_logits(values: np.ndarray, weights: np.ndarray, levels: int) -> np.ndarray:
        """Return the logarithms of the weighted shares, their mean taken off."""
        counts = np.bincount(values.astype(np.int64), weights, levels)
        logits = np.log(np.maximum(counts / counts.sum(), np.exp(-FARTHEST_LOGIT)))
        centered: np.ndarray = logits - logits.mean()
        return centered

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight 1/4 and the target z - 2 gradient."""
        classes = prediction.shape[-1]
        hot = torch.nn.functional.one_hot(target.long(), classes).to(prediction)
        slope = prediction.softmax(-1) - hot
        return torch.full_like(prediction, 0.25), prediction - 2 * slope

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the likeliest class."""
        return prediction.argmax(-1).astype(np.float64)

    def probabilities(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return exp(z_c) / sum exp(z)."""
        from scipy.special import softmax

        found: np.ndarray = softmax(prediction, -1)
        return found


@dataclass(frozen=True)
class Ordinal(Loss):
    """Ordered logit: -log(s(c_x - z) - s(c_{x-1} - z)), s the logistic function [1]_.

    Levels 0 to L - 1 are parted by L - 1 cut points c of the column's own; those beyond
    the ends are infinite. The cut points are kept in order by their parameters: the
    first, and the logarithms of the steps to the next.

    References
    ----------
    .. [1] McCullagh (1980), "Regression models for ordinal data", Journal of the Royal
       Statistical Society B 42.

    Examples
    --------
    >>> cuts = torch.tensor([[-1.0, math.log(2.0)]])  # at -1 and 1
    >>> Ordinal()(torch.zeros(1, 1), torch.tensor([[1.0]]), cuts=cuts)
    tensor([[0.7719]])
    """

    name: ClassVar[str] = "ordinal"
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "levels with an order"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the negative log-likelihood of the level; cuts has a row a column."""
        points = self.cut_points(cuts["cuts"])  # (..., columns, L - 1)
        infinite = torch.full_like(points[..., :1], math.inf)
        edges = torch.cat([-infinite, points, infinite], -1)
        level = target.long().expand(prediction.shape)
        edges = edges.unsqueeze(-3).expand(*level.shape, edges.shape[-1])
        upper = edges.gather(-1, level[..., None] + 1)[..., 0] - prediction
        lower = edges.gather(-1, level[..., None])[..., 0] - prediction
        # log(s(b) - s(a)) = log s(b) + log s(-a) + log(1 - exp(a - b)), in which an
        # infinite end leaves out its terms.
        top, bottom = torch.isinf(upper), torch.isinf(lower)
        b, a = upper.masked_fill(top, 0), lower.masked_fill(bottom, 0)
        width = (b - a).masked_fill(top | bottom, 1.0).clamp_min(1e-30)
        log = torch.nn.functional.logsigmoid
        total = log(b).masked_fill(top, 0) + log(-a).masked_fill(bottom, 0)
        inner = torch.log(-torch.expm1(-width)).masked_fill(top | bottom, 0)
        return -(total + inner)

    @staticmethod
    def cut_points(parameters: torch.Tensor) -> torch.Tensor:
        """Return the rising cut points of parameters of shape (..., L - 1)."""
        first, rest = parameters[..., :1], parameters[..., 1:].exp()
        return torch.cat([first, first + rest.cumsum(-1)], -1)

    def thresholds(self, levels: int) -> int:
        """Return one less than there are levels."""
        return levels - 1

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return 0: the cut points hold the constant."""
        return np.zeros(1)

    @staticmethod
    def best_cuts(values: np.ndarray, weights: np.ndarray, levels: int) -> np.ndarray:
        """Return the parameters of the cut points that fit one column best.

        The log-odds of the cumulated shares, of counts raised by a thousandth so that
        an empty level has some room.
        """
        counts = np.bincount(values.astype(np.int64), weights, levels)
        share = np.cumsum(counts + 1e-3)[:-1] / (counts + 1e-3).sum()
        points = np.log(share) - np.log1p(-share)
        best: np.ndarray = np.concatenate([points[:1], np.log(np.diff(points))])
        return best

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the likeliest level."""
        return self.probabilities(prediction, **cuts).argmax(-1).astype(np.float64)

    def probabilities(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return s(c_x - z) - s(c_{x-1} - z)."""
        from scipy.special import expit

        points = self.cut_points(torch.as_tensor(cuts["cuts"])).numpy()
        below = expit(points - prediction[..., None])
        ends = (*below.shape[:-1], 1)
        edges = [np.zeros(ends), below, np.ones(ends)]
        chances: np.ndarray = np.diff(np.concatenate(edges, -1))
        return chances


@dataclass(frozen=True)
class Own(Loss):
    """A loss of the user's: any function of prediction and target, cell by cell.

    Parameters
    ----------
    function : callable
        ``function(prediction, target)`` of two tensors of one shape returns a tensor of
        that shape, by torch operations; autograd differentiates it.

    Examples
    --------
    >>> loss = Own(lambda prediction, target: (prediction - target) ** 4)
    >>> loss(torch.tensor([2.0]), torch.tensor([0.0]))
    tensor([16.])
    """

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    name: ClassVar[str] = "own"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return what the function does, checked for its shape."""
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


NAMED: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Squared(),
        Absolute(),
        Huber(),
        Logistic(),
        Poisson(),
        KullbackLeibler(),
        Categorical(),
        Ordinal(),
    )
}
"""The losses that have a name."""


def named(value: Any) -> Loss:
    """Return a loss of a name, of a function, or as it is.

    Raises
    ------
    InvalidValueError
        When it is none of these.

    Examples
    --------
    >>> named("huber")
    Huber(width=None)
    """
    if isinstance(value, Loss):
        return value
    if callable(value) and not isinstance(value, type):
        return Own(value)
    return NAMED[one_of("loss", value, NAMED)]


def slope(
    loss: Loss, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
) -> torch.Tensor:
    """Return the derivative of a loss by the prediction, cell by cell, by autograd.

    Examples
    --------
    >>> slope(Squared(), torch.tensor([3.0]), torch.tensor([1.0]))
    tensor([4.])
    """
    leaf = prediction.detach().requires_grad_()
    with torch.enable_grad():
        total = loss(leaf, target, **cuts).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient
