"""Supervised learning: losses and metrics of any model with a start axis."""

from __future__ import annotations

import torch

from descents.networks.bound_supervised import BoundSupervised
from descents.networks.labeled import Labeled
from descents.optim.problem import Bound, Parameters


class Supervised(Labeled):
    """Base class of models that predict a class or numbers for each row.

    From every start, the weighted mean (or sum) over its training rows of the
    cross-entropy log(sum_c exp(z_c)) - z_label, or of the squared error, plus
    weight_decay / 2 times the squared weights is minimized. A derived class defines the
    predictions (`predict`) and the initial points (`point`).

    Parameters
    ----------
    X : array-like of shape (rows, features)
    y : array-like
        Classes 0, 1, ..., C - 1, shape (rows,); or numbers, shape (rows,) or
        (rows, outputs).
    task : {"classification", "regression"}
    outputs : int, optional
        The number of classes, if the last ones may not occur in y.
    loss : {"mean", "sum"}
    splits, batch_size
        See `descents.networks.Batches`.
    row_weights : array-like of shape (rows,), optional
        The weight of each row, at least 0, in the losses, in all metrics and in their
        baselines. A row of weight w counts like w copies of the row.
    class_weights : array-like of shape (classes,), optional
        The weight of the rows of each class in the losses (training and validation),
        multiplied by `row_weights`. Metrics other than losses ignore it.
    weight_decay : float or sequence of float
        One value for all settings, or one per setting.
    settings : int
        See `descents.networks.Batches`.
    seed : int
        The seed of the orders of rows and of dropout.
    dtype : torch.dtype, optional
        float32 or float64, by default that of X.
    device : str or torch.device

    Attributes
    ----------
    batches : Batches
    outputs : int
        The number of classes, or of numbers predicted for a row.
    row_weights, loss_weights : ndarray of shape (rows,) or None
        The weight of each row in the metrics, and in the losses; None if all are equal.
    stochastic : bool
        Whether a step uses only some of the rows, or drops units.
    """

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this problem bound to the starts of a chunk."""
        return BoundSupervised(self, starts)

    def view(self, starts: torch.Tensor) -> BoundSupervised:
        """Return this problem bound to starts for one evaluation, with its own model."""
        return BoundSupervised(self, starts)

    def overrides(self, name: str) -> bool:
        """Return whether a derived class has its own version of a method."""
        return getattr(type(self), name) is not getattr(Supervised, name)

    def fused(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients by compiled code, or None if autograd is faster."""
        return self.view(starts).compiled(parameters, step)

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the loss of each start on the rows of a step, shape (S,)."""
        return self.view(starts).own_losses(parameters, step)

    def metrics(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the scores of each start on its training and validation rows.

        Returns
        -------
        dict of Tensor of shape (S,)
            ``training_accuracy`` and ``validation_accuracy``, or ``training_r2`` and
            ``validation_r2``; ``validation_loss``; those of validation only if rows are
            held out; ``dead_units``, their number, if there are hidden units.

        Notes
        -----
        Accuracy and R^2 are weighted by `row_weights`, ``validation_loss`` is weighted as
        the training loss. R^2 of several outputs is the mean of their R^2, as in
        scikit-learn. An output that is constant on the rows has R^2 1 if it is predicted
        exactly, else 0. R^2 is NaN (undefined) if no output varies by more than rounding.
        """
        return self.view(starts).own_metrics(parameters)

    def final_metrics(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the scores of a classifier that are computed only at the end.

        Returns
        -------
        dict of Tensor of shape (S,)
            ``training_`` and, if rows are held out, ``validation_`` before each name in
            `descents.networks.scores.SCORES`, weighted by `row_weights`.
        """
        return self.view(starts).own_final_metrics(parameters)

    def dead_units(self, parameters: Parameters, starts: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on every training row, (S, units)."""
        return self.view(starts).dead_units(parameters)

    def saturated_units(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> torch.Tensor:
        """Return which hidden units are saturated on every training row, (S, units)."""
        return self.view(starts).saturated_units(parameters)
