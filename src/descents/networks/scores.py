"""Scores of classifiers from the probabilities of many starts, as scikit-learn defines them."""

from __future__ import annotations

import torch

SCORES = ("balanced_accuracy", "f1", "roc_auc", "log_loss")
"""Scores beside accuracy; computed once for each start, where it ends."""


def class_scores(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return weighted scores of each start.

    Balanced accuracy is the mean recall over the classes that occur; f1 that of class 1
    where there are two classes, else the mean over the classes that occur or are
    predicted; roc_auc that of class 1, else the mean over classes, each against the
    others; log_loss the mean of -log p. All are those of `sklearn.metrics` with
    ``sample_weight``. roc_auc is NaN where a class does not occur.

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
    own = torch.where(weights > 0, own, 0.0)  # what counts nothing may be infinite
    return {
        "balanced_accuracy": recall.nanmean(1),
        "f1": _f1(right, true, said),
        "roc_auc": _roc_auc(logs.exp(), target, weights),
        "log_loss": -(own * weights).sum(1) / weights.sum(1),
    }


def _confusion(
    said: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, classes: int
) -> torch.Tensor:
    """Return the weight of the rows of each class that are predicted as each."""
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
    """Return the chance that a row of a class is ranked above one of another class.

    Ties count one half.
    """
    classes = shares.shape[-1]
    found = []
    for number in [1] if classes == 2 else range(classes):
        score, order = shares[..., number].sort(1)
        positive = torch.where(target == number, weights, 0.0).gather(1, order)
        negative = weights.gather(1, order) - positive
        upto = negative.cumsum(1)
        # Weight of the negatives before the first row of each tie, and up to its last:
        # sums only rise, so the largest of the first rows so far is that of this tie.
        edge = torch.ones_like(score[:, :1], dtype=torch.bool)
        differs = score[:, 1:] != score[:, :-1]
        first, last = torch.cat([edge, differs], 1), torch.cat([differs, edge], 1)
        before = torch.nn.functional.pad(upto, (1, 0))[:, :-1]
        less = torch.where(first, before, 0.0).cummax(1).values
        ends = torch.where(last, upto, torch.inf).flip(1).cummin(1).values.flip(1)
        pairs = positive.sum(1) * negative.sum(1)
        area = (positive * (less + ends)).sum(1) / 2 / pairs
        # A start that diverged ranks nothing.
        area = torch.where(score.isnan().any(1), torch.nan, area)
        found.append(torch.where(pairs > 0, area, torch.nan))
    return torch.stack(found).mean(0)
