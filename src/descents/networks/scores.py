"""Scores of classifiers from the probabilities of many starts, as scikit-learn defines them."""

from __future__ import annotations

import torch

SCORES = ("balanced_accuracy", "f1", "roc_auc", "log_loss")
"""Scores other than accuracy, which are computed once for each start, at its end."""


def class_scores(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return weighted scores of each start.

    The scores are those of `sklearn.metrics` with ``sample_weight``. Balanced accuracy is
    the mean recall over the classes that occur. With two classes, f1 and roc_auc are those
    of class 1. With more, f1 is the mean over the classes that occur or are predicted, and
    roc_auc the mean over classes, each against the others; it is NaN if a class does not
    occur. log_loss is the mean of -log p.

    Parameters
    ----------
    logits : Tensor of shape (S, rows, classes)
    target : int64 Tensor of shape (S, rows)
    weights : float64 Tensor of shape (S, rows)

    Returns
    -------
    dict of float64 Tensor of shape (S,)

    Examples
    --------
    >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    >>> found = class_scores(logits, torch.tensor([[0, 1, 1]]), torch.ones(1, 3).double())
    >>> {name: round(float(value), 3) for name, value in found.items()}
    {'balanced_accuracy': 0.75, 'f1': 0.667, 'roc_auc': 1.0, 'log_loss': 0.584}
    """
    logits = logits.double()
    counts = _confusion(logits.argmax(-1), target, weights, logits.shape[-1])
    right = counts.diagonal(dim1=1, dim2=2)
    true, said = counts.sum(2), counts.sum(1)
    recall = right / true
    logs = logits.log_softmax(-1)
    own = logs.gather(-1, target[..., None])[..., 0]
    own = torch.where(weights > 0, own, 0.0)  # it may be infinite where weights are 0
    return {
        "balanced_accuracy": recall.nanmean(1),
        "f1": _f1(right, true, said),
        "roc_auc": _roc_auc(logs.exp(), target, weights),
        "log_loss": -(own * weights).sum(1) / weights.sum(1),
    }


class Determination:
    """R^2 of each start, accumulated over slices of its rows.

    Parameters
    ----------
    zero : float64 Tensor of shape (S,)
        Zeros.

    Examples
    --------
    >>> found = Determination(torch.zeros(1).double())
    >>> target = torch.tensor([[[0.0], [1.0], [2.0]]])
    >>> found.add(target + 0.5, target, torch.ones(1, 3).double())
    >>> found.score(torch.tensor([3.0]).double(), 1e-7)
    tensor([0.6250], dtype=torch.float64)
    """

    def __init__(self, zero: torch.Tensor) -> None:
        zeros = zero[:, None]
        self._squares = self._first = self._second = self._largest = zeros
        self._origin: torch.Tensor | None = None

    def add(
        self, predictions: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
    ) -> None:
        """Add rows: predictions and target (S, rows, outputs), weights (S, rows)."""
        squares = (predictions - target).square().double()
        self._squares = self._squares + (squares * weights[..., None]).sum(1)
        exact = target.double()
        sizes = exact.abs() * (weights > 0)[..., None]
        self._largest = sizes.amax(1).clamp_min(self._largest)
        # Relative to one of the rows, because squares of large numbers would cancel.
        if self._origin is None:
            self._origin = exact[:, :1]
        exact = exact - self._origin
        self._first = self._first + (exact * weights[..., None]).sum(1)
        self._second = self._second + (exact.square() * weights[..., None]).sum(1)

    def score(self, count: torch.Tensor, eps: float) -> torch.Tensor:
        """Return R^2, shape (S,), the mean over the outputs.

        Parameters
        ----------
        count : float64 Tensor of shape (S,)
            The total weight of the rows.
        eps : float
            The relative precision of the target.
        """
        spread = self._second - self._first.square() / count[:, None]
        rounding = count[:, None] * (eps * self._largest).square()
        varies = spread > rounding
        # A constant output scores 1 if it is predicted exactly, else 0, as in scikit-learn.
        exact = (self._squares == 0).double()
        each = torch.where(varies, 1 - self._squares / spread, exact)
        return torch.where(varies.any(-1), each.mean(-1), torch.nan)


def _confusion(
    said: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, classes: int
) -> torch.Tensor:
    """Return the weight of the rows of each class, by predicted class, (S, true, predicted)."""
    starts = torch.arange(len(target), device=target.device)[:, None]
    cells = (starts * classes + target) * classes + said
    size = len(target) * classes * classes
    counts = torch.bincount(cells.flatten(), weights.flatten(), minlength=size)
    return counts.reshape(len(target), classes, classes)


def _f1(right: torch.Tensor, true: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    both = true + said
    each = torch.where(both > 0, 2 * right / both, torch.nan)
    if right.shape[1] == 2:
        return each[:, 1].nan_to_num(0.0)
    return each.nanmean(1)


def _roc_auc(
    shares: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the probability that a row of a class is ranked above one of another class.

    Ties count one half.
    """
    classes = shares.shape[-1]
    found = []
    for number in [1] if classes == 2 else range(classes):
        score, order = shares[..., number].sort(1)
        positive = torch.where(target == number, weights, 0.0).gather(1, order)
        negative = weights.gather(1, order) - positive
        upto = negative.cumsum(1)
        # `less` is the weight of the negatives before the first row of each tie, and `ends`
        # that up to its last row. Cumulative sums never decrease, so the running maximum
        # over first rows is the value at the first row of the present tie.
        edge = torch.ones_like(score[:, :1], dtype=torch.bool)
        differs = score[:, 1:] != score[:, :-1]
        first, last = torch.cat([edge, differs], 1), torch.cat([differs, edge], 1)
        before = torch.nn.functional.pad(upto, (1, 0))[:, :-1]
        less = torch.where(first, before, 0.0).cummax(1).values
        ends = torch.where(last, upto, torch.inf).flip(1).cummin(1).values.flip(1)
        pairs = positive.sum(1) * negative.sum(1)
        area = (positive * (less + ends)).sum(1) / 2 / pairs
        # A start that diverged has no ranks.
        area = torch.where(score.isnan().any(1), torch.nan, area)
        found.append(torch.where(pairs > 0, area, torch.nan))
    return torch.stack(found).mean(0)
