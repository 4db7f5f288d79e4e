"""The loss of counts whose logarithms are modeled; see `divergences` for the other ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.losses.base import FARTHEST_LOGIT, Loss

LARGEST_LOG = 60.0
"""Logarithms of means are clipped to this absolute value when curvatures are computed."""


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
    counts: ClassVar[bool] = True

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return exp(z) - x z + x log x - x."""
        saturated = torch.special.xlogy(target, target) - target
        return prediction.exp() - target * prediction + saturated

    def allows(self, values: np.ndarray) -> np.ndarray:
        """Return which values are finite and at least 0."""
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
        """Return a quadratic whose minimum is not beyond that of the loss.

        If the prediction is too large, it has the curvature m = exp(z) of the loss. If it
        is too small, it has the mean curvature (x - m) / (log x - z) on the way to the
        minimum, so that its minimum is log x; with curvature m a step would overflow.
        """
        mean = prediction.clamp(-LARGEST_LOG, LARGEST_LOG).exp()
        log = target.clamp_min(torch.finfo(target.dtype).tiny).log()
        below = log > prediction
        way = torch.where(below, log - prediction, torch.ones_like(prediction))
        # On a short way d, (x - m) / d would be a difference of nearly equal numbers;
        # its expansion is m (1 + d / 2).
        near = way < 1e-3
        between = torch.where(near, mean * (1 + way / 2), (target - mean) / way)
        curvature = torch.where(below, between, mean)
        fall = torch.where(below & ~near, way, (target - mean) / curvature)
        return curvature / 2, prediction + fall

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return m log m - m - x log x + x of the mean m = g + x, at least 0."""
        from scipy.special import xlogy

        mean = slope + target
        mean_or_zero = np.maximum(mean, 0)
        value = (
            xlogy(mean_or_zero, mean_or_zero)
            - mean_or_zero
            - xlogy(target, target)
            + target
        )
        return np.where(mean >= 0, value, np.inf)

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the mean exp(z)."""
        return np.exp(prediction)
