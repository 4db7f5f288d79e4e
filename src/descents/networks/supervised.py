"""Learning from labeled rows: losses and metrics of any model over the start axis."""

from __future__ import annotations

import torch

from descents.networks.bound_supervised import BoundSupervised
from descents.networks.labeled import Labeled
from descents.optim.problem import Bound, Parameters


class Supervised(Labeled):
    """What every model learns from: rows with a class or with numbers to foretell.

    Minimises over the parameters of each start the weighted mean (or sum) over its
    training rows of the cross-entropy log(sum_c exp(z_c)) - z_label, or of the squared
    error, plus weight_decay / 2 times the squared weights. A kind says what the
    predictions are (`predict`) and where a start begins (`point`).

    Parameters
    ----------
    X : array-like of shape (rows, features)
    y : array-like
        Classes 0, 1, ..., C - 1, shape (rows,); or numbers, shape (rows,) or
        (rows, outputs).
    task : {"classification", "regression"}
    outputs : int, optional
        How many classes there are, where y may lack the last of them.
    loss : {"mean", "sum"}
    splits, batch_size
        As `descents.networks.batches.Batches` takes them.
    row_weights : array-like of shape (rows,), optional
        The weight of each row, at least 0, as if the row were repeated so often: in the
        losses, in all metrics, and in the baselines that metrics are compared with.
    class_weights : array-like of shape (classes,), optional
        The weight of the rows of each class in the losses (training and validation),
        multiplied by `row_weights`. Metrics other than losses ignore it.
    weight_decay : float or sequence of float
        One for all, or one for each setting.
    settings : int
        As `descents.networks.batches.Batches` takes it.
    seed : int
        Of what is drawn at every step: the order of rows, dropout.
    dtype : torch.dtype, optional
        float32 or float64, by default that of X.
    device : str or torch.device

    Attributes
    ----------
    batches : Batches
    outputs : int
        The number of classes, or of numbers foretold of a row.
    row_weights, loss_weights : ndarray of shape (rows,) or None
        The weight of each row in the metrics, and in the losses; None where all weigh
        the same.
    stochastic : bool
        Whether a step looks at less than the whole loss.
    """

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this problem bound to the starts of a chunk."""
        return BoundSupervised(self, starts)

    def view(self, starts: torch.Tensor) -> BoundSupervised:
        """Return this problem bound to starts for one evaluation, with its own model."""
        return BoundSupervised(self, starts)

    def overrides(self, name: str) -> bool:
        """Return whether a derived kind has its own version of a method."""
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
        """Return how well each start does on its training and validation rows.

        Returns
        -------
        dict of Tensor of shape (S,)
            ``training_accuracy`` and ``validation_accuracy``, or ``training_r2`` and
            ``validation_r2``; ``validation_loss``; validation where rows are held out;
            ``dead_units``, the number of them, where there are units.

        Notes
        -----
        Accuracy and R^2 are weighted by `row_weights`, ``validation_loss`` as the
        training loss. R^2 of several outputs is the mean of the R^2 of each, as
        scikit-learn's default is, and an output that is constant on the rows has 1 where
        it is predicted exactly, else 0. R^2 is NaN, not defined, where no output varies
        beyond rounding.
        """
        return self.view(starts).own_metrics(parameters)

    def final_metrics(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return what else is computed of a classifier where its starts end.

        Returns
        -------
        dict of Tensor of shape (S,)
            ``training_`` and, where rows are held out, ``validation_`` with each of
            `descents.networks.scores.SCORES`, weighted by `row_weights`.
        """
        return self.view(starts).own_final_metrics(parameters)

    def dead_units(self, parameters: Parameters, starts: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on every training row, (S, units)."""
        return self.view(starts).dead_units(parameters)

    def saturated_units(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> torch.Tensor:
        """Return which hidden units are flat on every training row, (S, units)."""
        return self.view(starts).saturated_units(parameters)
