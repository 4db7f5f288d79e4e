"""Losses of unordered classes, which have the codes 0, 1, 2, ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.losses.base import FARTHEST_LOGIT, Kind, Loss
from descents.losses.binary import BinarySum, Hinge


@dataclass(frozen=True)
class Categorical(Loss):
    """Multinomial loss log(sum_c exp(z_c)) - z_x, for unordered classes.

    It is majorized by a quadratic of curvature 1/2, the bound of Böhning [1]_.

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
    likelihood: ClassVar[bool] = True
    majorized: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    domain: ClassVar[str] = "classes"
    kind: ClassVar[Kind] = "classes"

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the negative log-likelihood of the class."""
        label = target.long().expand(prediction.shape[:-1])[..., None]
        return prediction.logsumexp(-1) - prediction.gather(-1, label)[..., 0]

    def coordinates(self, levels: int) -> int:
        """Return one for each class."""
        return levels

    def best_constant(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Raise: the number of classes is not in the values; see `best_point`."""
        raise NotImplementedError

    def best_point(
        self, values: np.ndarray, weights: np.ndarray, levels: int
    ) -> np.ndarray:
        """Return the logarithms of the weighted shares of the classes, centered."""
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


@dataclass(frozen=True)
class OneVsAll(BinarySum):
    """Sum over all classes c of the logistic loss of z_c for x = c [1]_.

    Each class has a natural parameter of its own, as in `Categorical`, but its
    probabilities do not sum to one: no class may be likely, or several.

    References
    ----------
    .. [1] Rifkin and Klautau (2004), "In defense of one-vs-all classification", JMLR 5.

    Examples
    --------
    >>> OneVsAll()(torch.zeros(1, 3), torch.tensor([1.0]))
    tensor([2.0794])
    """

    name: ClassVar[str] = "one_vs_all"
    domain: ClassVar[str] = "classes"
    kind: ClassVar[Kind] = "classes"

    def _binary(self, target: torch.Tensor, count: int) -> torch.Tensor:
        return target[..., None] == torch.arange(count, device=target.device)

    def coordinates(self, levels: int) -> int:
        """Return one for each class."""
        return levels

    def impute(self, prediction: np.ndarray, **cuts: np.ndarray) -> np.ndarray:
        """Return the class with the largest natural parameter and the smallest loss."""
        return prediction.argmax(-1).astype(np.float64)


@dataclass(frozen=True)
class OneVsAllHinge(OneVsAll):
    """Sum over all classes c of the hinge loss of z_c for x = c [1]_.

    References
    ----------
    .. [1] Rifkin and Klautau (2004), "In defense of one-vs-all classification", JMLR 5.

    Examples
    --------
    >>> OneVsAllHinge()(torch.tensor([[-1.0, 0.5, 0.0]]), torch.tensor([1.0]))
    tensor([1.5000])
    """

    name: ClassVar[str] = "one_vs_all_hinge"
    binary: ClassVar[Loss] = Hinge()
    robust: ClassVar[bool] = True
    smooth: ClassVar[bool] = False


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
    # With few classes, several times faster with the class axis in the middle than last.
    return torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none")
