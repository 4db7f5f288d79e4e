"""Beta-divergences, the losses of nonnegative matrix factorization, and their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.losses.base import Loss
from descents.validation import real_number


class _Divergence(Loss):
    """What beta-divergences share; the exponents are those of Fevotte and Idier."""

    beta: float

    divergence: ClassVar[bool] = True
    domain: ClassVar[str] = "numbers of 0 or more"

    def _floor(self, like: torch.Tensor) -> float:
        """Return what predictions are held above, so that no power overflows."""
        return float(torch.finfo(like.dtype).tiny ** (0.5 / max(1.0, 2 - self.beta)))

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return (x^b + (b - 1) z^b - b x z^(b - 1)) / (b (b - 1)), or its limit."""
        # A prediction of zero for a positive value would be infinite, and its gradient
        # NaN: it is held a hair above.
        b, floor = self.beta, self._floor(prediction)
        held = prediction.clamp_min(floor)
        if b == 1:
            log = torch.special.xlogy(target, target) - target * held.log()
            return log - target + prediction
        if b == 2:
            return (prediction - target).square() / 2
        if b <= 0:  # only holes hold zeros, which would be infinite times no weight
            target = target.clamp_min(floor)
        if b == 0:
            ratio = target / held
            return ratio - ratio.log() - 1
        least = target.pow(b) / (b * (b - 1))
        return least + held.pow(b) / b - target * held.pow(b - 1) / (b - 1)

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are not negative, and positive where beta is 0 or less."""
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

        That is the larger of the second derivative and of its mean where x is
        distributed about z; the step on it is from z to at most twice z for kl. Where x
        is 0 and b below 2, the loss has no such curvature: it is all but linear, and
        nothing but 0 stops it. There z is taken for at least the mean of the data.
        """
        b, mean = self.beta, target.mean()
        least = torch.finfo(prediction.dtype).eps ** 0.5 * mean
        z = prediction.maximum(least.clamp_min(self._floor(prediction)))
        times = ((b - 1) + (2 - b) * target / z).clamp_min(1)
        curvature = z.pow(b - 2) * times
        if b < 2:
            curvature = torch.where(target == 0, z.maximum(mean).pow(b - 2), curvature)
        slope = z.pow(b - 2) * (z - target)
        return curvature / 2, prediction - slope / curvature

    def parts(
        self, prediction: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return x z^(b - 2) and z^(b - 1)."""
        held = prediction.clamp_min(self._floor(prediction))
        if self.beta == 1:
            return target / held, None
        return target * held.pow(self.beta - 2), held.pow(self.beta - 1)

    def exponent(self, *, ridge: bool) -> float:
        """Return 1 / (m - n), of the powers m and n of the two parts of a surrogate.

        In the ratio s of a factor to what it was, what rises is at most a multiple of
        s^m, what falls is s^n: m = max(b, 1), and at least 2 under l2; n = min(b - 1,
        1). Without l2 it is 1 / (2 - b) below 1, 1 up to 2, and 1 / (b - 1) beyond.
        """
        return 1 / (max(self.beta, 2 if ridge else 1) - min(self.beta - 1, 1))


@dataclass(frozen=True)
class KullbackLeibler(_Divergence):
    """Generalised Kullback-Leibler divergence x log(x / z) - x + z, for z of 0 or more.

    Half the Poisson deviance with the identity link: the loss of nonnegative matrix
    factorization for counts. It asks for nonnegative factors.

    Examples
    --------
    >>> KullbackLeibler()(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor([0., 1.])
    """

    name: ClassVar[str] = "kl"
    beta: ClassVar[float] = 1.0  # type: ignore[misc]
    domain: ClassVar[str] = "counts, 0 or more"


@dataclass(frozen=True)
class ItakuraSaito(_Divergence):
    """Itakura-Saito divergence x / z - log(x / z) - 1, for x above 0 [1]_.

    It sees ratios alone, whatever their size: for power spectra, whose noise multiplies.
    It asks for nonnegative factors, and is not convex in z.

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

    Itakura-Saito for b = 0, Kullback-Leibler for 1, half the squared error for 2: the
    smaller b, the more small values count. It asks for nonnegative factors.

    Parameters
    ----------
    beta : float
        b. Where it is 0 or less, values must be above 0.

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
