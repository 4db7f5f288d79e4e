"""Labeled rows: the data, weights and baselines that every model of them shares."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from descents.devices import torch_device, torch_dtype
from descents.errors import Complaints, InvalidValueError
from descents.networks.batches import Batches, training_rows
from descents.networks.fused import Shape
from descents.optim.problem import Parameters, Problem
from descents.statistics.metrics import metric_kind
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


class Labeled(Problem):
    """Labeled rows and a model of them: what `Supervised` is fitted to.

    It has the parameters and attributes of `descents.networks.supervised.Supervised`.
    """

    dropout: float = 0.0
    rows_apart: bool = True
    """Whether in training a row's prediction is its own, so that few rows will do."""

    def __init__(  # noqa: PLR0913
        self,
        X: Any,
        y: Any,
        *,
        task: str = "classification",
        outputs: int | None = None,
        loss: str = "mean",
        splits: Any = None,
        row_weights: Any = None,
        class_weights: Any = None,
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
            of_settings, "weight_decay", weight_decay, settings, real_number, 0
        )
        if batch_size is not None:
            complaints.attempt(whole_number, "batch_size", batch_size, 1)
        if outputs is not None:
            outputs = complaints.attempt(whole_number, "outputs", outputs, 1)
        complaints.attempt(seed_number, seed)
        given_device = complaints.attempt(torch_device, device)
        target: Any = None
        weights: Any = None
        given_dtype: Any = None
        if features is not None:
            rows = len(features)
            reader = class_labels if task == "classification" else _numbers
            target = complaints.attempt(reader, "y", y, rows)
            given_dtype = complaints.attempt(torch_dtype, dtype, features)
            if row_weights is not None:
                weights = complaints.attempt(_row_weights, row_weights, rows)
            if splits is not None:
                splits = complaints.attempt(training_rows, splits, rows)
        if outputs is not None and target is not None:
            found = int(target.max()) + 1 if target.ndim == 1 else target.shape[1]
            complaints.require(
                outputs == found or (target.ndim == 1 and outputs > found),
                f"outputs is {outputs}, but y has {found}; leave it out, or give as "
                "many as y has (or, of classes, more)",
            )
        weighed = weights
        if target is not None:
            given = (weights, class_weights, target, outputs, splits)
            weighed = complaints.attempt(_weighed, *given)
        complaints.raise_any()
        self.X: np.ndarray = features
        self.y: np.ndarray = target
        self.task, self.loss, self.weight_decay = task, loss, decay
        self.dtype, self.device = given_dtype, given_device
        self.batches = Batches(
            len(features),
            splits=splits,
            weights=weighed,
            batch_size=batch_size,
            seed=seed,
            settings=settings,
            device=given_device,
        )
        self.row_weights: np.ndarray | None = weights
        self.loss_weights: np.ndarray | None = weighed
        self.weights_of_rows = _sent(weights, self.batches.device)
        self.weights_of_losses = (
            self.weights_of_rows
            if weighed is weights
            else _sent(weighed, self.batches.device)
        )
        self.classifies = task == "classification"
        if self.classifies:
            self.outputs = max(outputs or 0, int(target.max()) + 1)
        else:
            self.outputs = target.shape[1]
        self._has_layers_of(features.shape[1])
        self._tables: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = {}

    def _has_layers_of(self, widest: int) -> None:
        """Take note of how wide the widest layer is."""
        self.widest = widest
        self.size = (self.batches.batch_size or self.batches.longest) * widest

    @property
    def stochastic(self) -> bool:
        """Whether a step looks at some of the rows, or with some of the units."""
        return self.batches.batch_size is not None or self.dropout > 0

    @property
    def whole(self) -> Problem:
        """The problem with every row and every unit at every step."""
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
            with torch.inference_mode(False):  # it outlives the caller's
                # torch keeps the strides of numpy, and the compiled gradients read rows.
                features = torch.tensor(self.X, dtype=dtype, device=self.device)
                target = torch.tensor(self.y, dtype=kind, device=self.device)
                features, target = features.contiguous(), target.contiguous()
            self._tables = {**self._tables, dtype: (features, target)}
        return self._tables[dtype]

    def baseline(self, metric: str) -> float:
        """Return what the best constant answer to the training rows has of a score, or 0.

        Of accuracy the weighted share of the largest class, of balanced accuracy one
        over the number of classes, of the area under the ROC curve one half, of R^2 0;
        where splits differ, the largest such value.
        """
        if metric_kind(metric) == "roc_auc":
            return 0.5
        if metric_kind(metric) not in ("accuracy", "balanced_accuracy"):
            return 0.0
        return float(np.nanmax(self.constant_scores(f"training_{metric_kind(metric)}")))

    def constant_scores(self, metric: str) -> np.ndarray:
        """Return what the most frequent class of the training rows scores, by split.

        Parameters
        ----------
        metric : str
            ``training_`` or ``validation_`` with accuracy, balanced_accuracy or r2.

        Returns
        -------
        ndarray of shape (splits,)
            NaN where no row counts; of R^2 0, which the mean of the rows has.
        """
        splits = self.batches.splits
        if not self.classifies:
            return np.zeros(len(splits))
        weights = np.ones(len(self.y)) if self.row_weights is None else self.row_weights
        found = np.full(len(splits), np.nan)
        for place, training in enumerate(splits):
            answer = self.majority(place)
            rows = training
            if metric.startswith("validation"):
                rows = np.setdiff1d(np.arange(len(self.y)), training)
            rows = rows[weights[rows] > 0]
            if metric_kind(metric) == "balanced_accuracy" and len(rows):
                found[place] = (answer in self.y[rows]) / len(np.unique(self.y[rows]))
            elif len(rows):
                found[place] = np.average(self.y[rows] == answer, weights=weights[rows])
        return found

    def majority(self, split: int = 0) -> int:
        """Return the class of the largest weight among the training rows of a split."""
        rows = self.batches.splits[split]
        weights = None if self.row_weights is None else self.row_weights[rows]
        return int(np.bincount(self.y[rows], weights).argmax())

    def layers(self, parameters: Parameters) -> dict[str, tuple[str, ...]]:
        """Return which parameters belong together; here, each is alone."""
        return {name: (name,) for name in parameters}

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units give nothing on some rows, (S, rows, units)."""
        return features.new_zeros(*features.shape[:2], 0, dtype=torch.bool)

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on some rows, (S, rows, units)."""
        return features.new_zeros(*features.shape[:2], 0, dtype=torch.bool)

    def overrides(self, name: str) -> bool:
        """Return whether a derived kind has its own version of a method."""
        return False


def of_settings(
    name: str, value: Any, settings: int, check: Callable[..., Any], *limits: Any
) -> Any:
    """Return a value that settings share, or a tuple of one for each, checked.

    What is the same in all is shared: nothing is then looked up at every step, nor
    computed for the sake of zeros.

    Examples
    --------
    >>> of_settings("weight_decay", [0, 0.1], 2, real_number, 0)
    (0.0, 0.1)
    """
    if not isinstance(value, list | tuple):
        return check(name, value, *limits)
    if len(value) != settings:
        raise InvalidValueError(
            f"{name} has {counted(len(value), 'value')} for {counted(settings, 'setting')}; give one for "
            "each, or one for all"
        )
    found = tuple(check(name, one, *limits) for one in value)
    return found[0] if all(one == found[0] for one in found) else found


def _numbers(name: str, value: Any, rows: int) -> np.ndarray:
    """Return numbers to foretell as float64 of shape (rows, outputs)."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidValueError(
            f"{name} is no table of numbers ({error}); give numbers for each of the "
            f"{counted(rows, 'row')}"
        ) from None
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or len(array) != rows:
        raise InvalidValueError(
            f"{name} has shape {np.shape(value)}; give numbers for each of the {rows} "
            "rows"
        )
    return finite_matrix(name, array).astype(np.float64)


def _weighed(
    weights: np.ndarray | None,
    class_weights: Any,
    target: np.ndarray,
    outputs: int | None,
    splits: Any,
) -> np.ndarray | None:
    """Return the weight of each row in the losses, None where all weigh the same."""
    places = splits or [slice(None)]
    if weights is not None and not all(weights[rows].any() for rows in places):
        raise InvalidValueError(
            "row_weights are 0 on all training rows of a split; give a row of each split "
            "a weight"
        )
    if class_weights is None:
        return weights
    classes = max(outputs or 0, int(target.max()) + 1) if target.ndim == 1 else 0
    each: np.ndarray = _class_weights(class_weights, classes)[target]
    found = each if weights is None else each * weights
    if not all(found[rows].any() for rows in places):
        raise InvalidValueError(
            "class_weights are 0 for every class of the training rows of a split; give "
            "one of its classes a weight above 0"
        )
    return found


def _class_weights(value: Any, classes: int) -> np.ndarray:
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
            f"class_weights is {value!r}; give a finite number of at least 0 for each of "
            f"the {classes} classes"
            if classes
            else "class_weights is for classification; leave it out for regression"
        )
    return weights


def _sent(weights: np.ndarray | None, device: torch.device) -> torch.Tensor | None:
    """Return weights as a float64 tensor on a device."""
    if weights is None:
        return None
    return torch.tensor(weights, dtype=torch.float64, device=device)


def _row_weights(value: Any, rows: int) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        weights = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"row_weights are no numbers ({error}); give a finite number of at least 0 "
            f"for each of the {counted(rows, 'row')}"
        ) from None
    if weights.shape != (rows,) or not np.isfinite(weights).all() or weights.min() < 0:
        raise InvalidValueError(
            f"row_weights has shape {weights.shape}; give a finite number of at least "
            f"0 for each of the {counted(rows, 'row')}"
        )
    if not weights.any():
        raise InvalidValueError("row_weights are all 0; give a row at least a weight")
    return weights
