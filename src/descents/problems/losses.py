"""Elementwise losses, each written once and differentiated by autograd.

A loss takes what a model says and what was observed, and returns one deviance for
each observation: never negative, zero for a perfect fit.
"""

from __future__ import annotations

import torch


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
