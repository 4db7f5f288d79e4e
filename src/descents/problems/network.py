"""Networks: one multilayer perceptron from many initial points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from descents.checks import (
    Complaints,
    InvalidValueError,
    class_labels,
    finite_matrix,
    one_of,
    torch_device,
    torch_dtype,
    whole_number,
)
from descents.problems import losses
from descents.problems.problem import Parameters, Problem, stream

WEIGHTS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "uniform01": lambda generator, inputs, outputs: generator.random((inputs, outputs)),
    "normal": lambda generator, inputs, outputs: generator.standard_normal(
        (inputs, outputs)
    ),
    "kaiming": lambda generator, inputs, outputs: (
        generator.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
    ),
    "xavier": lambda generator, inputs, outputs: (
        generator.uniform(-1, 1, (inputs, outputs)) * np.sqrt(6 / (inputs + outputs))
    ),
}
"""How the weights of a layer are drawn: uniform on [0, 1); standard normal; normal of
variance 2 / inputs (He et al., 2015, ICCV); uniform of variance 2 / (inputs + outputs)
(Glorot and Bengio, 2010, AISTATS)."""

BIASES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "zero": lambda generator, outputs: np.zeros((1, outputs)),
    "uniform01": lambda generator, outputs: generator.random((1, outputs)),
}
"""How the biases of a layer are drawn: all zero, or uniform on [0, 1)."""

REDUCTIONS = ("sum", "mean")


def random_splits(
    rows: int, training_rows: int, splits: Sequence[int], seed: int
) -> np.ndarray:
    """Return the training rows of some random divisions of a table.

    Split number s is a shuffle drawn from (seed, s) alone, of which the first rows
    train.

    Parameters
    ----------
    rows, training_rows : int
    splits : sequence of int
        The numbers of the splits.
    seed : int

    Returns
    -------
    ndarray of int64, shape (len(splits), training_rows)

    Examples
    --------
    >>> random_splits(5, 3, [0, 1], seed=0).shape
    (2, 3)
    """
    return np.stack(
        [stream(seed, "split", s).permutation(rows)[:training_rows] for s in splits]
    )


class Network(Problem):
    """Cross-entropy of a ReLU perceptron for classes.

    One layer after the other computes ``x @ weight + bias``, with ReLU between them;
    the last gives a logit for each class. Minimises the sum or mean over the training
    rows of log(sum_c exp(z_c)) - z_label.

    Parameters
    ----------
    X : array-like of shape (rows, features)
    y : array-like of shape (rows,)
        Classes 0, 1, ..., C - 1.
    hidden : int or sequence of int
        The width of each hidden layer, at least one.
    weights : {"uniform01", "normal", "kaiming", "xavier"}
    biases : {"zero", "uniform01"}
    loss : {"sum", "mean"}
        Whether losses are summed or averaged over the training rows.
    scalar_biases : bool
        One bias for each layer in place of one for each unit.
    splits : array-like of int, shape (splits, training rows), optional
        The training rows of each division; start k trains on number k modulo
        `splits` and is validated on the other rows. By default all rows train.
    dtype : torch.dtype, optional
        float32 or float64, by default that of X.
    device : str or torch.device

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.

    Examples
    --------
    >>> from descents import descend, GradientDescent, Stop
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> network = Network(X, y, hidden=[8])
    >>> runs = descend(network, starts=5, steps=GradientDescent(0.3), stop=Stop(300))
    >>> runs.metrics["training_accuracy"]
    array([1., 1., 1., 1., 1.])
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        hidden: int | Sequence[int] = (12,),
        *,
        weights: str = "kaiming",
        biases: str = "zero",
        loss: str = "mean",
        scalar_biases: bool = False,
        splits: Any = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        complaints = Complaints()
        features = complaints.attempt(finite_matrix, "X", X)
        hidden = [hidden] if isinstance(hidden, int) else list(hidden)
        widths = [
            complaints.attempt(whole_number, "a hidden width", width, 1)
            for width in hidden
        ]
        complaints.require(bool(widths), "hidden is empty; give one width at least")
        complaints.attempt(one_of, "weights", weights, WEIGHTS)
        complaints.attempt(one_of, "biases", biases, BIASES)
        complaints.attempt(one_of, "loss", loss, REDUCTIONS)
        given_device = complaints.attempt(torch_device, device)
        labels: Any = None
        given_dtype: Any = None
        if features is not None:
            labels = complaints.attempt(class_labels, "y", y, len(features))
            given_dtype = complaints.attempt(torch_dtype, dtype, features)
        complaints.raise_any()
        self.X: np.ndarray = features
        self.y: np.ndarray = labels
        self.weights, self.biases, self.loss = weights, biases, loss
        self.scalar_biases = scalar_biases
        self.dtype, self.device = given_dtype, given_device
        self.widths: list[int] = [features.shape[1], *widths, int(labels.max()) + 1]
        self.splits = self._check_splits(splits)
        self.size = self.splits.shape[1] * max(self.widths)
        self._rows = torch.as_tensor(self.splits, device=self.device)
        self._held_out = torch.as_tensor(
            np.stack(
                [np.setdiff1d(np.arange(len(labels)), rows) for rows in self.splits]
            ),
            device=self.device,
        )
        self._labels = torch.as_tensor(labels, device=self.device)
        self._batch: tuple[Any, ...] = (None,)

    def _check_splits(self, splits: Any) -> np.ndarray:
        rows = len(self.y)
        if splits is None:
            return np.arange(rows)[None]
        array = np.asarray(splits)
        if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iu":
            raise InvalidValueError(
                f"splits has shape {array.shape} and dtype {array.dtype}; give whole "
                "numbers of shape (splits, training rows)"
            )
        distinct = all(len(np.unique(row)) == len(row) for row in array)
        if array.min() < 0 or array.max() >= rows or not distinct:
            raise InvalidValueError(
                f"splits names a row twice or outside 0 to {rows - 1}; name each "
                "training row once"
            )
        return array.astype(np.int64)

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Draw the weights of all layers, then the biases of all layers.

        In this order, the same start has the same weights whatever its biases are.
        """
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        point: dict[str, np.ndarray] = {}
        for layer, (inputs, outputs) in enumerate(pairs, 1):
            point[f"weight{layer}"] = WEIGHTS[self.weights](generator, inputs, outputs)
        for layer, (_, outputs) in enumerate(pairs, 1):
            width = 1 if self.scalar_biases else outputs
            point[f"bias{layer}"] = BIASES[self.biases](generator, width)
        return point

    def split_of(self, starts: torch.Tensor) -> torch.Tensor:
        """Return the number of the split that each start trains on, shape (S,)."""
        return starts % len(self._rows)

    def _training_batch(
        self, starts: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # A chunk asks at every step with the same tensor of starts: gather once.
        if self._batch[0] is not starts or self._batch[1].dtype != dtype:
            self._batch = (starts, *self._gather(self._rows, starts, dtype))
        return self._batch[1], self._batch[2]

    def _gather(
        self, rows: torch.Tensor, starts: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = rows[self.split_of(starts)]
        features = torch.as_tensor(self.X, dtype=dtype, device=self.device)
        return features[chosen], self._labels[chosen]

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (S, rows, classes), of features (S, rows, d)."""
        return self._forward(parameters, features)[-1]

    def _forward(
        self, parameters: Parameters, features: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return what every layer computes before its activation."""
        outputs: list[torch.Tensor] = []
        for layer in range(1, len(self.widths)):
            inputs = torch.relu(outputs[-1]) if outputs else features
            outputs.append(
                torch.baddbmm(
                    parameters[f"bias{layer}"], inputs, parameters[f"weight{layer}"]
                )
            )
        return outputs

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the cross-entropy of each start on its training rows, shape (S,)."""
        dtype = parameters["weight1"].dtype
        features, labels = self._training_batch(starts, dtype)
        each = losses.cross_entropy(self.predict(parameters, features), labels)
        return each.sum(1) if self.loss == "sum" else each.mean(1)

    def metrics(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return accuracies on training and validation rows, and dead units.

        Returns
        -------
        dict of Tensor of shape (S,)
            ``training_accuracy``, ``validation_accuracy`` (where rows are held out)
            and ``dead_units``, the number of them.
        """
        dtype = parameters["weight1"].dtype

        def accuracy(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            guess = self.predict(parameters, features).argmax(-1)
            # float64 whatever the working precision: 92 of 100 rows is 0.92.
            return (guess == labels).double().mean(1)

        found = {"training_accuracy": accuracy(*self._training_batch(starts, dtype))}
        if self._held_out.shape[1]:
            found["validation_accuracy"] = accuracy(
                *self._gather(self._held_out, starts, dtype)
            )
        found["dead_units"] = self.dead_units(parameters, starts).sum(1)
        return found

    def layers(self, parameters: Parameters) -> dict[str, tuple[str, ...]]:
        """Return the weight and bias of each layer."""
        return {
            f"layer{layer}": (f"weight{layer}", f"bias{layer}")
            for layer in range(1, len(self.widths))
        }

    def dead_units(self, parameters: Parameters, starts: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on every training row, (S, units)."""
        features, _ = self._training_batch(starts, parameters["weight1"].dtype)
        hidden = self._forward(parameters, features)[:-1]
        return torch.cat([(values <= 0).all(1) for values in hidden], 1)
