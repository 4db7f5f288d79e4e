"""Losses of two values, and sums of them.

Many losses of classes and of levels are a sum of losses of two values, one for each class
or for each boundary between two levels.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.losses.base import FARTHEST_LOGIT, Kind, Loss, corner
from descents.validation import real_number


@dataclass(frozen=True)
class Logistic(Loss):
    """Logistic loss log(1 + exp(z)) - x z, for x of 0 and 1.

    It is majorized by the quadratic of Jaakkola and Jordan [1]_.

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
    likelihood: ClassVar[bool] = True
    majorized: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "two values, such as 0 and 1"
    kind: ClassVar[Kind] = "two values"

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
        size = prediction.abs().clamp_min(1e-4)  # w tends to 1/8 at zero
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


@dataclass(frozen=True)
class Hinge(Loss):
    """Hinge loss max(0, 1 - y z), for x of 0 and 1, y = 2 x - 1, times W if x is 1.

    It is majorized as in SVM-Maj [1]_: with r = 1 - y z, by (r^2 / c + c) / 4 + r / 2 with
    c = sqrt(r^2 + s^2). The rounding s shrinks with the steps to almost zero (`corner`).

    Parameters
    ----------
    weight : float
        W, the weight of ones relative to zeros, above 0.

    References
    ----------
    .. [1] Groenen, Nalbantov and Bioch (2008), "SVM-Maj: a majorization approach to
       linear support vector machines with different hinge errors", Advances in Data
       Analysis and Classification 2.

    Examples
    --------
    >>> Hinge(3.0)(torch.tensor([0.0, 0.0, 2.0]), torch.tensor([1.0, 0.0, 1.0]))
    tensor([3., 1., 0.])
    """

    weight: float = 1.0

    name: ClassVar[str] = "hinge"
    robust: ClassVar[bool] = True
    smooth: ClassVar[bool] = False
    majorized: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "two values, such as 0 and 1"
    kind: ClassVar[Kind] = "two values"
    parameter: ClassVar[str] = "weight"
    sample: ClassVar[str] = "hinge:3"

    def __post_init__(self) -> None:
        weight = real_number("the weight of hinge", self.weight, 0, strict=True)
        object.__setattr__(self, "weight", weight)

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return max(0, 1 - y z), times W if x is 1."""
        rest = (1 - (2 * target - 1) * prediction).clamp_min(0)
        return rest * (1 + (self.weight - 1) * target)

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are 0 or 1."""
        return (values == 0) | (values == 1)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return 1 or -1, whichever has more weight; 0, one of the best, if they tie."""
        return np.sign([weights @ np.where(values == 1, self.weight, -1.0)])

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight 1 / (4 c) and the target y (1 + c)."""
        side = 2 * target - 1  # y
        size = ((1 - side * prediction).square() + corner(step) ** 2).sqrt()
        return (1 + (self.weight - 1) * target) / (4 * size), side * (1 + size)

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return y g for y g from -W (-1 if x is 0) to 0."""
        inner = (2 * target - 1) * slope
        most = np.where(target == 1, self.weight, 1.0)
        return np.where((inner >= -most) & (inner <= 0), inner, np.inf)

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the value on the side of the prediction, whatever the weight."""
        return (prediction > 0).astype(np.float64)


class BinarySum(Loss):
    """A sum of losses of two values; the base class of losses of classes and levels.

    `_binary` encodes each code as several targets of 0 or 1, and `_mask` selects those
    that count for a code.
    """

    binary: ClassVar[Loss] = Logistic()
    majorized: ClassVar[bool] = True
    identity: ClassVar[bool] = False

    @abstractmethod
    def _binary(self, target: torch.Tensor, count: int) -> torch.Tensor:
        """Return `count` binary targets, 0 or 1, on a new last axis."""

    def _mask(self, target: torch.Tensor, count: int) -> torch.Tensor | None:
        """Return which binary targets count; None if all do."""
        return None

    def _parts(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the natural parameter of each binary target, on the last axis."""
        return prediction

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the sum over the binary targets."""
        z = self._parts(prediction)
        loss = self.binary(z, self._binary(target, z.shape[-1]).to(z))
        mask = self._mask(target, z.shape[-1])
        return (loss if mask is None else loss * mask.to(z)).sum(-1)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Raise: the number of levels is not in the values; see `best_point`."""
        raise NotImplementedError

    def best_point(
        self, values: np.ndarray, weights: np.ndarray, levels: int
    ) -> np.ndarray:
        """Return the best constant of each binary target."""
        count, target = self.coordinates(levels), torch.as_tensor(values)
        answers = self._binary(target, count).numpy().astype(np.float64)
        mask = self._mask(target, count)
        heavy = weights[:, None] * (1 if mask is None else mask.numpy())
        heavy = np.broadcast_to(heavy, answers.shape)
        best = np.zeros(count)
        for j in np.flatnonzero(heavy.sum(0) > 0):
            best[j] = self.binary.best_constant(answers[:, j], heavy[:, j])[0]
        return best

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weights and targets of the quadratic of each binary target."""
        z = self._parts(prediction)
        answers = self._binary(target, z.shape[-1]).to(z)
        weight, center = self.binary.majorize(z, answers, step)
        mask = self._mask(target, z.shape[-1])
        assert weight is not None  # noqa: S101
        return weight if mask is None else weight * mask.to(z), center

    def _rises(self, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each loss for the binary target 0, and the difference for 1."""
        z = self._parts(torch.as_tensor(prediction))
        no, yes = (self.binary(z, torch.full_like(z, x)) for x in (0, 1))
        return no.numpy(), (yes - no).numpy()
