"""Beta-divergences, the losses of nonnegative matrix factorization, and their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.losses.base import Loss
from descents.validation import real_number


class _Divergence(Loss):
    """Base of the beta-divergences; b stands for beta in the formulas."""

    beta: float

    divergence: ClassVar[bool] = True
    domain: ClassVar[str] = "numbers of 0 or more"

    def _floor(self, like: torch.Tensor) -> float:
        """Return the smallest prediction whose powers do not overflow."""
        return float(torch.finfo(like.dtype).tiny ** (0.5 / max(1.0, 2 - self.beta)))

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return (x^b + (b - 1) z^b - b x z^(b - 1)) / (b (b - 1)), or its limit."""
        # At a prediction of zero for a positive value, the loss would be infinite and
        # its gradient NaN. So z is the prediction, but at least the floor.
        b, floor = self.beta, self._floor(prediction)
        z = prediction.clamp_min(floor)
        if b == 1:
            log = torch.special.xlogy(target, target) - target * z.log()
            return log - target + prediction
        if b == 2:
            return (prediction - target).square() / 2
        if b <= 0:  # only missing cells are zero; infinity times a weight of 0 is NaN
            target = target.clamp_min(floor)
        if b == 0:
            ratio = target / z
            return ratio - ratio.log() - 1
        least = target.pow(b) / (b * (b - 1))
        return least + z.pow(b) / b - target * z.pow(b - 1) / (b - 1)

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are at least 0, or above 0 if beta is 0 or less."""
        return np.isfinite(values) & (values > 0 if self.beta <= 0 else values >= 0)

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean."""
        return np.array([np.average(values, weights=weights)])

    def approximate(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        step: int,
        **cuts: torch.Tensor,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the quadratic of curvature z^(b - 2) max(1, (b - 1) + (2 - b) x / z).

        It is the larger of the second derivative of the loss and its mean over x
        distributed about z. For kl, a step goes from z to at most 2 z. If x is 0 and b is
        below 2, the loss is nearly linear in z and has no such curvature; it is then
        evaluated at a z of at least the mean of the data.
        """
        b, mean = self.beta, target.mean()
        least = torch.finfo(prediction.dtype).eps ** 0.5 * mean
        z = prediction.maximum(least.clamp_min(self._floor(prediction)))
        times = ((b - 1) + (2 - b) * target / z).clamp_min(1)
        curvature = z.pow(b - 2) * times
        if b < 2:
            curvature = torch.where(target == 0, z.maximum(mean).pow(b - 2), curvature)
        slope = z.pow(b - 2) * (z - target)
        # A Newton step with this curvature: w is half of it, t the minimum.
        return curvature / 2, prediction - slope / curvature

    def parts(
        self, prediction: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return x z^(b - 2) and z^(b - 1)."""
        z = prediction.clamp_min(self._floor(prediction))
        if self.beta == 1:
            return target / z, None
        return target * z.pow(self.beta - 2), z.pow(self.beta - 1)

    def exponent(self, *, ridge: bool) -> float:
        """Return 1 / (m - n), from the powers m and n of the two parts of a surrogate.

        Let s be the ratio of a factor to its old value. The rising part of the surrogate
        is at most a multiple of s^m, with m = max(b, 1), and at least 2 under l2; the
        falling part is a multiple of s^n, with n = min(b - 1, 1). Without l2 the exponent
        is 1 / (2 - b) for b < 1, 1 for 1 <= b <= 2, and 1 / (b - 1) for b > 2, as Fevotte
        and Idier derive it.
        """
        return 1 / (max(self.beta, 2 if ridge else 1) - min(self.beta - 1, 1))


@dataclass(frozen=True)
class KullbackLeibler(_Divergence):
    """Generalized Kullback-Leibler divergence x log(x / z) - x + z, for z of 0 or more.

    Half the Poisson deviance with the identity link: the loss of nonnegative matrix
    factorization for counts. It requires nonnegative factors.

    Examples
    --------
    >>> KullbackLeibler()(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor([0., 1.])
    """

    name: ClassVar[str] = "kl"
    beta: ClassVar[float] = 1.0  # type: ignore[misc]
    domain: ClassVar[str] = "counts, 0 or more"
    counts: ClassVar[bool] = True


@dataclass(frozen=True)
class ItakuraSaito(_Divergence):
    """Itakura-Saito divergence x / z - log(x / z) - 1, for x above 0 [1]_.

    It depends on the ratio x / z alone, as suits power spectra, whose noise is
    multiplicative. It requires nonnegative factors, and is not convex in z.

    References
    ----------
    .. [1] Févotte, Bertin and Durrieu (2009), "Nonnegative matrix factorization with the
       Itakura-Saito divergence", Neural Computation 21.

    Examples
    --------
    >>> ItakuraSaito()(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 2.0]))
    tensor([0.0000, 0.3069])
    """

    name: ClassVar[str] = "itakura_saito"
    beta: ClassVar[float] = 0.0  # type: ignore[misc]
    domain: ClassVar[str] = "numbers above 0"


@dataclass(frozen=True)
class BetaDivergence(_Divergence):
    """Beta-divergence (x^b + (b - 1) z^b - b x z^(b - 1)) / (b (b - 1)) [1]_.

    It is the Itakura-Saito divergence for b = 0, Kullback-Leibler for b = 1 and half the
    squared error for b = 2. The smaller b, the more small values count. It requires
    nonnegative factors.

    Parameters
    ----------
    beta : float
        b. If it is 0 or less, values must be above 0.

    References
    ----------
    .. [1] Févotte and Idier (2011), "Algorithms for nonnegative matrix factorization
       with the beta-divergence", Neural Computation 23.

    Examples
    --------
    >>> BetaDivergence(0.5)(torch.tensor([4.0, 1.0]), torch.tensor([4.0, 0.0]))
    tensor([0., 2.])
    """

    beta: float

    name: ClassVar[str] = "beta"
    domain: ClassVar[str] = "numbers of 0 or more, above 0 where beta is 0 or less"
    parameter: ClassVar[str] = "beta"
    sample: ClassVar[str] = "beta:0.5"

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", real_number("the beta of beta", self.beta))
