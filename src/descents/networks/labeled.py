"""Labeled rows: data, weights and baselines, which all models of them share."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

from descents.devices import torch_device, torch_dtype
from descents.errors import Complaints, InvalidValueError, name_of
from descents.networks.batches import Batches
from descents.networks.constants import constant_score
from descents.networks.fused import Shape
from descents.networks.splits import Splits, training_rows
from descents.optim.problem import Parameters, Problem
from descents.statistics.metrics import metric_kind, metric_rows
from descents.text import counted
from descents.validation import (
    class_labels,
    finite_matrix,
    one_of,
    real_number,
    seed_number,
    whole_number,
)

REDUCTIONS = ("sum", "mean")
TASKS = ("classification", "regression")
Value = TypeVar("Value")


class Labeled(Problem):
    """Base class of `Supervised`: labeled rows, and the interface of a model of them.

    It has the parameters and attributes of `descents.networks.supervised.Supervised`.
    """

    dropout: float = 0.0
    rows_apart: bool = True
    """Whether in training the prediction of a row depends on this row alone."""

    def __init__(  # noqa: PLR0913
        self,
        X: object,
        y: object,
        *,
        task: str = "classification",
        outputs: int | None = None,
        loss: str = "mean",
        splits: Splits | None = None,
        row_weights: object = None,
        class_weights: object = None,
        batch_size: int | None = None,
        weight_decay: float | Sequence[float] = 0.0,
        settings: int = 1,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        complaints = Complaints()
        features = complaints.attempt(finite_matrix, "X", X)
        complaints.attempt(one_of, "loss", loss, REDUCTIONS)
        complaints.attempt(one_of, "task", task, TASKS)
        decay = complaints.attempt(
            of_settings, "weight_decay", weight_decay, settings, _decay
        )
        if batch_size is not None:
            complaints.attempt(whole_number, "batch_size", batch_size, 1)
        if outputs is not None:
            outputs = complaints.attempt(whole_number, "outputs", outputs, 1)
        complaints.attempt(seed_number, seed)
        self.device = complaints.attempt(torch_device, device)
        target = weights = weighed = None
        if features is not None:
            rows = len(features)
            reader = class_labels if task == "classification" else _numbers
            target = complaints.attempt(reader, "y", y, rows)
            self.dtype = complaints.attempt(torch_dtype, dtype, features)
            if row_weights is not None:
                weights = complaints.attempt(_row_weights, row_weights, rows, loss)
            if splits is not None:
                splits = complaints.attempt(training_rows, splits, rows)
        if target is not None:
            complaints.attempt(_check_outputs, outputs, target)
            given = (weights, class_weights, target, outputs, splits)
            weighed = complaints.attempt(_weighed, *given)
        complaints.raise_any()
        assert target is not None  # noqa: S101
        self.task, self.loss, self.classifies = task, loss, task == "classification"
        self.weighs_classes = class_weights is not None
        self.weight_decay: float | tuple[float, ...] = decay
        self.batches = Batches(
            len(features),
            splits=splits,
            weights=weighed,
            batch_size=batch_size,
            seed=seed,
            settings=settings,
            device=self.device,
        )
        self._set_rows(features, target, weights, weighed, outputs)

    def _set_rows(
        self,
        X: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        loss_weights: np.ndarray | None,
        outputs: int | None,
    ) -> None:
        """Set the rows and their weights, checked."""
        self.X, self.y = X, y
        if weights is not None:
            weights = of_mean_one(weights)
        self.row_weights, self.loss_weights = weights, loss_weights
        self.weights_of_rows = _sent(weights, self.batches.device)
        self.weights_of_losses = (
            self.weights_of_rows
            if loss_weights is weights
            else _sent(loss_weights, self.batches.device)
        )
        if self.classifies:
            self.outputs = max(outputs or 0, int(y.max()) + 1)
        else:
            self.outputs = y.shape[1]
        self._has_layers_of(X.shape[1])
        self._tables: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = {}

    def _has_layers_of(self, widest: int) -> None:
        """Set the width of the widest layer, which limits how many starts a chunk has."""
        self.widest = widest
        self.size = (self.batches.batch_size or self.batches.longest) * widest

    @property
    def stochastic(self) -> bool:
        """Whether a step uses only some of the rows, or drops units."""
        return self.batches.batch_size is not None or self.dropout > 0

    @property
    def whole(self) -> Problem:
        """The problem with all rows and all units at every step."""
        if not self.stochastic:
            return self
        whole = copy.copy(self)
        whole.batches = self.batches.whole
        whole.dropout = 0.0
        return whole

    # Compiled code, which a kind may be computed by

    @property
    def shape(self) -> Shape | None:
        """The shape of a multilayer perceptron that compiled code computes, or None."""
        return None

    @property
    def rows_at_once(self) -> int:
        """The number of rows that a step uses."""
        return self.batches.batch_size or self.batches.longest

    @property
    def width(self) -> int:
        """The maximum number of starts in a chunk, a function of the problem alone."""
        if self.shape is None:
            return super().width
        return self.shape.width(self.rows_at_once)

    @property
    def edges(self) -> tuple[int, ...]:
        """Return the first starts of the chunks that are narrower than `width`.

        In compiled code, 1 to 15 starts take as long as one, because they are lanes of
        the same vectors.
        """
        if self.shape is None:
            return super().edges
        return tuple(edge for edge in (0, 1, 16, 64) if edge < self.width)

    # The model

    @abstractmethod
    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return logits or numbers, shape (S, rows, outputs), of features (S, rows, d)."""

    def decays(self, name: str) -> bool:
        """Return whether a parameter is a weight, which decays."""
        return True

    def table(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features and target of all rows."""
        if dtype not in self._tables:
            kind = None if self.classifies else dtype
            with torch.inference_mode(False):  # it is used after the caller's ends
                # torch keeps the strides of numpy, but compiled code reads whole rows.
                features = torch.tensor(self.X, dtype=dtype, device=self.device)
                target = torch.tensor(self.y, dtype=kind, device=self.device)
                features, target = features.contiguous(), target.contiguous()
            self._tables = {**self._tables, dtype: (features, target)}
        return self._tables[dtype]

    def baseline(self, metric: str) -> float:
        """Return the score of the best constant prediction on the training rows, or 0.

        It is the weighted share of the largest class for accuracy, one over the number of
        classes for balanced accuracy, one half for the area under the ROC curve, and 0 for
        R^2; if splits differ, the largest of their values.
        """
        if metric_kind(metric) == "roc_auc":
            return 0.5
        if metric_kind(metric) not in ("accuracy", "balanced_accuracy"):
            return 0.0
        return float(np.nanmax(self.constant_scores(f"training_{metric_kind(metric)}")))

    @property
    def deciding_metric(self) -> str:
        """The training score that says whether a start learned.

        It is R^2 or accuracy; balanced accuracy if classes are weighted, because a start
        then gives up accuracy for the recall of rare classes.
        """
        if not self.classifies:
            return "training_r2"
        return f"training_{'balanced_' * self.weighs_classes}accuracy"

    def constant_scores(self, metric: str) -> np.ndarray:
        """Return the score of the best constant prediction of each split.

        It is the most frequent training class, or the mean; for losses of classes, the
        shares of the classes in the training rows.

        Parameters
        ----------
        metric : str
            ``training_`` or ``validation_`` with the name of a score or a loss; ``loss``.

        Returns
        -------
        ndarray of shape (splits,)
            NaN if all rows have weight 0, or for metrics that do not judge predictions;
            0 for R^2, the score of the mean.
        """
        splits = self.batches.splits
        if metric_kind(metric) == "r2":
            return np.zeros(len(splits))
        held_out = metric_rows(metric) == "validation"
        every = np.arange(len(self.y))
        kind, found = metric_kind(metric), np.full(len(splits), np.nan)
        for place, training in enumerate(splits):
            rows = np.setdiff1d(every, training) if held_out else training
            weights = self.loss_weights if kind == "loss" else self.row_weights
            weights = np.ones(len(self.y)) if weights is None else weights
            if len(rows) and weights[rows].any():
                found[place] = constant_score(
                    kind, self.y, weights, training, rows, classes=self.classifies
                )
        return found

    def majority(self, split: int = 0) -> int:
        """Return the class with the largest total weight in the training rows of a split."""
        rows = self.batches.splits[split]
        weights = None if self.row_weights is None else self.row_weights[rows]
        return int(np.bincount(self.y[rows], weights).argmax())

    def layers(self, parameters: Parameters) -> dict[str, tuple[str, ...]]:
        """Return the names of the parameters of each layer; here, each is a layer."""
        return {name: (name,) for name in parameters}

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on each row, bool (S, rows, units)."""
        return features.new_zeros(*features.shape[:2], 0, dtype=torch.bool)

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on each row, bool (S, rows, units)."""
        return features.new_zeros(*features.shape[:2], 0, dtype=torch.bool)

    def overrides(self, name: str) -> bool:
        """Return whether a derived class has its own version of a method."""
        return False


def of_settings(
    name: str, value: object, settings: int, check: Callable[[str, object], Value]
) -> Value | tuple[Value, ...]:
    """Return a value that settings share, or a tuple with one per setting, checked.

    If all settings have the same value, it is returned alone, so that nothing has to be
    looked up at every step.

    Examples
    --------
    >>> of_settings("weight_decay", [0, 0.1], 2, real_number)
    (0.0, 0.1)
    """
    if not isinstance(value, list | tuple):
        return check(name, value)
    if len(value) != settings:
        raise InvalidValueError(
            f"{name} has {counted(len(value), 'value')} for {counted(settings, 'setting')}; give one for "
            "each, or one for all"
        )
    found = tuple(check(name, one) for one in value)
    return found[0] if all(one == found[0] for one in found) else found


def _decay(name: str, value: object) -> float:
    return real_number(name, value, 0)


def _numbers(name: str, value: object, rows: int) -> np.ndarray:
    """Return the numbers to predict, float64 of shape (rows, outputs)."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
        given = array.shape
    except ValueError as error:
        raise InvalidValueError(
            f"{name} is not a table of numbers ({error}); give numbers for each of the "
            f"{counted(rows, 'row')}"
        ) from None
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or len(array) != rows:
        raise InvalidValueError(
            f"{name} has shape {given}; give numbers for each of the {rows} rows"
        )
    return finite_matrix(name, array).astype(np.float64)


def _weighed(
    weights: np.ndarray | None,
    class_weights: object,
    target: np.ndarray,
    outputs: int | None,
    splits: Sequence[np.ndarray] | None,
) -> np.ndarray | None:
    """Return the weight of each row in the losses, None if all are equal."""
    places = splits or [np.arange(len(target))]
    if weights is not None and not all(weights[rows].any() for rows in places):
        raise InvalidValueError(
            f"{name_of('row_weights')} is 0 on all training rows of a split; give a row of "
            "each split a weight above 0"
        )
    if class_weights is None:
        return weights
    classes = max(outputs or 0, int(target.max()) + 1) if target.ndim == 1 else 0
    each: np.ndarray = _class_weights(class_weights, classes)[target]
    found = each if weights is None else each * weights
    if not all(found[rows].any() for rows in places):
        raise InvalidValueError(
            f"{name_of('class_weights')} is 0 for every class of the training rows of a "
            "split; give one of its classes a weight above 0"
        )
    return found


def _class_weights(value: object, classes: int) -> np.ndarray:
    try:
        weights = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.full(1, np.nan)
    if (
        weights.shape != (classes,)
        or not np.isfinite(weights).all()
        or min(weights) < 0
    ):
        raise InvalidValueError(
            f"{name_of('class_weights')} is {value!r}; give a finite number of at least 0 "
            f"for each of the {classes} classes"
            if classes
            else f"{name_of('class_weights')} is for classification; leave it out for "
            "regression"
        )
    return weights


def _check_outputs(outputs: int | None, target: np.ndarray) -> None:
    """Raise if the number of outputs is not that of the target."""
    if outputs is None:
        return
    found = int(target.max()) + 1 if target.ndim == 1 else target.shape[1]
    if outputs != found and not (target.ndim == 1 and outputs > found):
        raise InvalidValueError(
            f"outputs is {outputs}, but y has {found}; leave it out, or give as "
            "many as y has (or, of classes, more)"
        )


def of_mean_one(weights: np.ndarray) -> np.ndarray:
    """Return weights times a power of 2, so that their mean is between 1/2 and 2.

    Metrics and mean losses do not depend on the size of weights. A power of 2 keeps all
    their digits.

    Examples
    --------
    >>> of_mean_one(np.array([3e-200, 1e-200])).mean().round(3)
    np.float64(0.765)
    """
    weights = np.asarray(weights, dtype=np.float64)
    most = float(weights.max(initial=0.0))
    if not 0 < most < np.inf:
        return weights
    first = -int(np.frexp(most)[1])
    second = -int(np.round(np.log2(np.ldexp(weights, first).mean())))
    if first + second == 0:
        return weights
    return np.asarray(np.ldexp(np.ldexp(weights, first), second))


def _sent(weights: np.ndarray | None, device: torch.device) -> torch.Tensor | None:
    """Return weights as a float64 tensor on a device."""
    if weights is None:
        return None
    return torch.tensor(weights, dtype=torch.float64, device=device)


def _row_weights(value: object, rows: int, loss: str) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        weights = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"{name_of('row_weights')} has values that are not numbers ({error}); give a "
            f"finite number of at least 0 for each of the {counted(rows, 'row')}"
        ) from None
    if weights.shape != (rows,) or not np.isfinite(weights).all() or weights.min() < 0:
        raise InvalidValueError(
            f"{name_of('row_weights')} has shape {weights.shape}; give a finite number of "
            f"at least 0 for each of the {counted(rows, 'row')}"
        )
    if not weights.any():
        raise InvalidValueError(
            f"{name_of('row_weights')} is 0 for every row; give at least one row a weight "
            "above 0"
        )
    return weights if loss == "sum" else of_mean_one(weights)
