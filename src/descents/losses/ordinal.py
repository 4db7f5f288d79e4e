"""Losses of ordered levels, which have the codes 0, 1, 2, ...

Many of them are sums of losses of two values, one for each boundary between two levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from descents.errors import InvalidValueError
from descents.losses.base import Kind, Loss, slope
from descents.losses.binary import BinarySum, Hinge
from descents.losses.multiclass import Categorical


@dataclass(frozen=True)
class Ordinal(Loss):
    """Ordered logit: -log(s(c_x - z) - s(c_{x-1} - z)), s the logistic function [1]_.

    Each column has L - 1 cut points c between its levels 0 to L - 1; beyond the ends they
    are infinite. The parameters of the cut points are the first one and the logarithms of
    the differences between neighbors, which keeps them in order.

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
    likelihood: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "levels with an order"
    kind: ClassVar[Kind] = "levels"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the negative log-likelihood of the level; cuts has one row per column."""
        points = self.cut_points(cuts["cuts"])  # (..., columns, L - 1)
        infinite = torch.full_like(points[..., :1], math.inf)
        edges = torch.cat([-infinite, points, infinite], -1)
        level = target.long().expand(prediction.shape)
        edges = edges.unsqueeze(-3).expand(*level.shape, edges.shape[-1])
        upper = edges.gather(-1, level[..., None] + 1)[..., 0] - prediction
        lower = edges.gather(-1, level[..., None])[..., 0] - prediction
        # log(s(b) - s(a)) = log s(b) + log s(-a) + log(1 - exp(a - b)), without the terms
        # of an end that is infinite.
        top, bottom = torch.isinf(upper), torch.isinf(lower)
        b, a = upper.masked_fill(top, 0), lower.masked_fill(bottom, 0)
        width = (b - a).masked_fill(top | bottom, 1.0).clamp_min(1e-30)
        log = torch.nn.functional.logsigmoid
        total = log(b).masked_fill(top, 0) + log(-a).masked_fill(bottom, 0)
        inner = torch.log(-torch.expm1(-width)).masked_fill(top | bottom, 0)
        return -(total + inner)

    def approximate(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        step: int,
        **cuts: torch.Tensor,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight 1/4 and the target z - 2 gradient, with the cuts fixed.

        The curvature is s'(b) + s'(a) for the ends a and b of the level, at most 1/2.
        """
        gradient = slope(self, prediction, target, **cuts)
        return torch.full_like(prediction, 0.25), prediction - 2 * gradient

    @staticmethod
    def cut_points(parameters: torch.Tensor) -> torch.Tensor:
        """Return the increasing cut points for parameters of shape (..., L - 1)."""
        first, rest = parameters[..., :1], parameters[..., 1:].exp()
        return torch.cat([first, first + rest.cumsum(-1)], -1)

    def thresholds(self, levels: int) -> int:
        """Return the number of levels minus one."""
        return levels - 1

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return 0: the cut points contain the constant."""
        return np.zeros(1)

    @staticmethod
    def best_cuts(values: np.ndarray, weights: np.ndarray, levels: int) -> np.ndarray:
        """Return the parameters of the cut points that fit one column best.

        The cut points are the log-odds of the cumulative shares. Counts are raised by
        0.001, so that an empty level gets some room.
        """
        counts = np.bincount(values.astype(np.int64), weights, levels)
        share = np.cumsum(counts + 1e-3)[:-1] / (counts + 1e-3).sum()
        points = np.log(share) - np.log1p(-share)
        best: np.ndarray = np.concatenate([points[:1], np.log(np.diff(points))])
        return best

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the likeliest level."""
        from scipy.special import expit

        points = self.cut_points(torch.as_tensor(cuts["cuts"])).numpy()
        below = expit(points - prediction[..., None])
        ends = (*below.shape[:-1], 1)
        chances = np.diff(np.concatenate([np.zeros(ends), below, np.ones(ends)], -1))
        return chances.argmax(-1).astype(np.float64)


@dataclass(frozen=True)
class BiggerVsSmaller(BinarySum):
    """Sum over the boundaries j of the logistic loss of z_j for x > j [1]_.

    Each boundary between two levels has a natural parameter z_j of its own, for the event
    that x is above it. The z_j need not be in order.

    Parameters
    ----------
    levels : int, optional
        The number of levels, which a fit sets. By default it is the number of natural
        parameters plus one.

    References
    ----------
    .. [1] Udell, Horn, Zadeh and Boyd (2016), "Generalized low rank models",
       Foundations and Trends in Machine Learning 9, section 6.2.

    Examples
    --------
    >>> BiggerVsSmaller()(torch.zeros(1, 3), torch.tensor([1.0]))
    tensor([2.0794])
    """

    levels: int | None = None

    name: ClassVar[str] = "bigger_vs_smaller"
    domain: ClassVar[str] = "levels with an order"
    kind: ClassVar[Kind] = "levels"

    def of_levels(self, levels: int) -> Loss:
        """Return the loss for columns with this many levels."""
        return replace(self, levels=levels)

    def _binary(self, target: torch.Tensor, count: int) -> torch.Tensor:
        return target[..., None] > torch.arange(count, device=target.device)

    def _parts(self, prediction: torch.Tensor) -> torch.Tensor:
        # With one boundary, predictions have one number per cell and no axis for it.
        return prediction[..., None] if self.levels == 2 else prediction

    def coordinates(self, levels: int) -> int:
        """Return the number of boundaries."""
        return levels - 1

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the weight and target of each boundary."""
        weight, center = super().majorize(prediction, target, step)
        assert weight is not None  # noqa: S101
        if self.levels == 2:
            return weight[..., 0], center[..., 0]
        return weight, center

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the level with the smallest loss."""
        # The loss of level x is that of level 0 plus the first x differences.
        rises = self._rises(prediction)[1].cumsum(-1)
        losses = np.concatenate([np.zeros_like(rises[..., :1]), rises], -1)
        return losses.argmin(-1).astype(np.float64)


@dataclass(frozen=True)
class BiggerVsSmallerHinge(BiggerVsSmaller):
    """Sum over the boundaries j of the hinge loss of z_j for x > j [1]_.

    References
    ----------
    .. [1] Udell, Horn, Zadeh and Boyd (2016), "Generalized low rank models",
       Foundations and Trends in Machine Learning 9, section 6.2.

    Examples
    --------
    >>> BiggerVsSmallerHinge()(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([1.0]))
    tensor([1.])
    """

    name: ClassVar[str] = "bigger_vs_smaller_hinge"
    binary: ClassVar[Loss] = Hinge()
    robust: ClassVar[bool] = True
    smooth: ClassVar[bool] = False


@dataclass(frozen=True)
class OrdinalHinge(BiggerVsSmaller):
    """Sum over the boundaries j of the hinge max(0, 1/2 - y_j (z - j - 1/2)) [1]_.

    y_j is 1 if x > j, else -1. There is one natural parameter, on the scale of the codes.
    The loss is smallest within half a level of the code, and its slope grows by one with
    every further level.

    References
    ----------
    .. [1] Rennie and Srebro (2005), "Loss functions for preference levels: regression
       with discrete ordered labels", IJCAI workshop on preference handling.

    Examples
    --------
    >>> OrdinalHinge(4)(torch.tensor([0.0, 1.0, 1.5, 3.0]), torch.ones(4))
    tensor([1.0000, 0.0000, 0.5000, 3.0000])
    """

    name: ClassVar[str] = "ordinal_hinge"
    binary: ClassVar[Loss] = Hinge()
    robust: ClassVar[bool] = True
    smooth: ClassVar[bool] = False
    identity: ClassVar[bool] = True

    def _level_count(self) -> int:
        if self.levels is None:
            raise InvalidValueError(
                f"{self.name} does not know how many levels there are; give "
                "OrdinalHinge(levels)"
            )
        return self.levels

    def _middles(self, like: torch.Tensor) -> torch.Tensor:
        count = self._level_count() - 1
        return torch.arange(count, dtype=like.dtype, device=like.device) + 0.5

    def _parts(self, prediction: torch.Tensor) -> torch.Tensor:
        return 2 * (prediction[..., None] - self._middles(prediction))

    def coordinates(self, levels: int) -> int:
        """Return 1."""
        return 1

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return half the sum of the hinges max(0, 1 - y_j 2 (z - j - 1/2))."""
        return super().__call__(prediction, target) / 2

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the code that fits best, as the loss has corners at the codes only."""
        codes = np.arange(float(self._level_count()))
        loss = self(torch.as_tensor(codes), torch.as_tensor(values)[:, None]).numpy()
        return codes[[int((weights @ loss).argmin())]]

    def best_point(
        self, values: np.ndarray, weights: np.ndarray, levels: int
    ) -> np.ndarray:
        """Return the best constant."""
        return self.best_constant(values, weights)

    def majorize(
        self, prediction: torch.Tensor, target: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the sum of the quadratics of the boundaries."""
        weight, center = BinarySum.majorize(self, prediction, target, step)
        assert weight is not None  # noqa: S101
        # Half the sum over j of w_j (c_j - 2 (z - m_j))^2, with the middles m_j, is the
        # sum over j of 2 w_j (m_j + c_j / 2 - z)^2.
        center = self._middles(prediction) + center / 2
        total = weight.sum(-1)
        return 2 * total, (weight * center).sum(-1) / total

    def conjugate(self, slope: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the maximum of g z - f(z) over the codes z, for g in [-x, L - 1 - x]."""
        codes = np.arange(float(self._level_count()))
        x = torch.as_tensor(np.asarray(target, dtype=np.float64))
        loss = self(torch.as_tensor(codes), x[..., None]).numpy()
        most = (np.asarray(slope)[..., None] * codes - loss).max(-1)
        inside = (slope >= -target) & (slope <= len(codes) - 1 - target)
        return np.where(inside, most, np.inf)


@dataclass(frozen=True)
class Sequential(BiggerVsSmaller):
    """Sequential logit (continuation ratios) [1]_: passing one boundary after another.

    The loss is the sum over the boundaries j <= x of the logistic loss of z_j for x > j:
    minus the log-probability to pass every boundary below x and to stop there. The
    probabilities of the levels sum to one for all natural parameters, so that P(x > j)
    falls with j, as an ordinal loss requires, without a constraint.

    References
    ----------
    .. [1] Tutz (1991), "Sequential models in categorical regression", Computational
       Statistics & Data Analysis 11.

    Examples
    --------
    >>> Sequential()(torch.zeros(3, 2), torch.tensor([0.0, 1.0, 2.0]))
    tensor([0.6931, 1.3863, 1.3863])
    """

    name: ClassVar[str] = "sequential"
    likelihood: ClassVar[bool] = True

    def _mask(self, target: torch.Tensor, count: int) -> torch.Tensor:
        return target[..., None] >= torch.arange(count, device=target.device)

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the likeliest level."""
        no, rises = self._rises(prediction)
        # Minus the log-probability to pass the boundaries up to j, and to stop at j.
        passed = (no + rises).cumsum(-1)
        zero = np.zeros_like(no[..., :1])
        losses = np.concatenate([zero, passed], -1) + np.concatenate([no, zero], -1)
        return losses.argmin(-1).astype(np.float64)


@dataclass(frozen=True)
class Ordistic(Loss):
    """Multinomial loss of -z_c^2: log(sum_c exp(-z_c^2)) + z_x^2, for levels [1]_.

    The likeliest level is the one whose natural parameter is nearest to zero. The loss is
    not convex. Far from zero, small changes of z change the probabilities as much as one
    likes: where predictions have offsets, penalize these too (`l2_biases`).

    References
    ----------
    .. [1] Rennie and Srebro (2005), "Loss functions for preference levels: regression
       with discrete ordered labels", IJCAI workshop on preference handling; here with a
       natural parameter for each level, as in LowRankModels.jl.

    Examples
    --------
    >>> Ordistic()(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0.0]))
    tensor([0.3266])
    """

    name: ClassVar[str] = "ordistic"
    likelihood: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "levels with an order"
    kind: ClassVar[Kind] = "levels"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the negative log-likelihood of the level."""
        loss: torch.Tensor = Categorical()(-prediction.square(), target)
        return loss

    def approximate(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        step: int,
        **cuts: torch.Tensor,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the quadratic of curvature 2 h + 2 z^2 + 0.1 and slope 2 z (h - p).

        h is 1 for the observed level and else 0, and p are the probabilities. z_x^2 has
        the curvature 2. The curvature of the logarithm by z^2 is at most 1/2, which is 2
        z^2 by z; its other terms are negative.
        """
        hot = torch.nn.functional.one_hot(target.long(), prediction.shape[-1])
        hot = hot.to(prediction).expand_as(prediction)
        share = (-prediction.square()).softmax(-1)
        curvature = 2 * hot + 2 * prediction.square() + 0.1
        return curvature / 2, prediction - 2 * prediction * (hot - share) / curvature

    def coordinates(self, levels: int) -> int:
        """Return one for each level."""
        return levels

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Raise: the number of levels is not in the values; see `best_point`."""
        raise NotImplementedError

    def best_point(
        self, values: np.ndarray, weights: np.ndarray, levels: int
    ) -> np.ndarray:
        """Return sqrt(max_c log p_c - log p_c), where p are the shares of the levels."""
        logits = Categorical().best_point(values, weights, levels)
        return np.sqrt(logits.max() - logits)

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the likeliest level."""
        return np.abs(prediction).argmin(-1).astype(np.float64)
