"""Learning from labeled rows: data, loss and metrics of any model over the start axis."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from descents import losses
from descents.checks import (
    Complaints,
    InvalidValueError,
    class_labels,
    constant,
    counted,
    finite_matrix,
    one_of,
    real_number,
    seed_number,
    torch_device,
    torch_dtype,
    whole_number,
)
from descents.problems.batches import Batches, training_rows
from descents.problems.metrics import metric_kind
from descents.problems.problem import Parameters, Problem
from descents.problems.scores import SCORES, class_scores

REDUCTIONS = ("sum", "mean")
TASKS = ("classification", "regression")
LOOK_ENTRIES = 2**24
"""How many numbers are kept at once where all rows are looked at."""


class Supervised(Problem):
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
        As `descents.problems.batches.Batches` takes them.
    row_weights : array-like of shape (rows,), optional
        The weight of each row, at least 0, as if the row were repeated so often: in the
        losses, in all metrics, and in the baselines that metrics are compared with.
    class_weights : array-like of shape (classes,), optional
        The weight of the rows of each class in the losses (training and validation),
        multiplied by `row_weights`. Metrics other than losses ignore it.
    weight_decay : float or sequence of float
        One for all, or one for each setting.
    settings : int
        As `descents.problems.batches.Batches` takes it.
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
        self._row_weights = _sent(weights, self.batches.device)
        self._loss_weights = (
            self._row_weights
            if weighed is weights
            else _sent(weighed, self.batches.device)
        )
        self.classifies = task == "classification"
        if self.classifies:
            self.outputs = max(outputs or 0, int(target.max()) + 1)
        else:
            self.outputs = target.shape[1]
        self._has_layers_of(features.shape[1])
        self._gathered: tuple[Any, ...] = (None, -1)
        self._looked_up: tuple[Any, ...] = (None, -1)
        self._tables: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = {}
        self._given: Parameters | None = None

    def __copy__(self) -> Self:
        """Return a problem on the same rows that looks them up for itself."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.batches = copy.copy(self.batches)
        other._gathered = other._looked_up = (None, -1)
        return other

    def _has_layers_of(self, widest: int) -> None:
        """Take note of how wide the widest layer is."""
        self._widest = widest
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
        whole.batches.batch_size = None
        whole.dropout = 0.0
        return whole

    @abstractmethod
    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return logits or numbers, shape (S, rows, outputs), of features (S, rows, d)."""

    def _predict_in_training(
        self,
        parameters: Parameters,
        features: torch.Tensor,
        starts: torch.Tensor,
        step: int,
    ) -> torch.Tensor:
        """Return predictions as training sees them; a kind may drop some units."""
        return self.predict(parameters, features)

    def _predict_apart(
        self,
        parameters: Parameters,
        features: torch.Tensor,
        starts: torch.Tensor,
        step: int,
    ) -> torch.Tensor:
        """Return predictions where a step has no row that counts."""
        return self.predict(parameters, features)

    def decays(self, name: str) -> bool:
        """Return whether a parameter is a weight, which decays."""
        return True

    # Losses

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the loss of each start on the rows of a step, shape (S,)."""
        given = self._given
        rows, weights = (
            self._weighed_rows(starts, step)
            if given is None
            else (given["rows"], given.get("weights"))
        )
        dtype = next(iter(parameters.values())).dtype
        predict = self._predict_in_training
        if not self.rows_apart and weights is not None and len(starts) == 1:
            # What only fills up, or counts nothing, is not to be seen by the others.
            seen = weights[0] > 0
            if bool(seen.any()):
                rows, weights = rows[:, seen], weights[:, seen]
            else:
                predict = self._predict_apart
        together = self.stochastic or not self.rows_apart
        size = rows.shape[1] if together else self._slice(len(starts))
        if rows.shape[1] <= size:
            key = step if self.batches.batch_size is not None else 0
            if given is None:
                features, target = self._gather(rows, starts, key, dtype)
            else:  # other rows may stand there the next time
                features, target = self._rows(rows, dtype)
            each = self._each(predict(parameters, features, starts, step), target)
            total = self._reduced(each, weights)
        else:
            total = self._in_slices(parameters, rows, weights, size)
        return total + self._decay(parameters, starts) if self.weight_decay else total

    def _reduced(
        self, each: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        if weights is None:
            return each.sum(1) if self.loss == "sum" else each.mean(1)
        return (each * weights.to(each.dtype)).sum(1)

    def _weighed_rows(
        self, starts: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the rows of each start at a step, and the factor of each row's loss.

        The loss of a step is the sum of factor times loss over its rows; without
        factors it is the plain sum or mean.
        """
        if self.loss == "sum":
            return self.batches.at(starts, step)
        return self.batches.shares(starts, step)

    def _in_slices(
        self,
        parameters: Parameters,
        rows: torch.Tensor,
        weights: torch.Tensor | None,
        size: int,
    ) -> torch.Tensor:
        """Return the loss over many rows, of which few are kept in memory at once."""
        dtype = next(iter(parameters.values())).dtype

        # All that a part needs comes in as arguments: it runs again while the gradient
        # is taken, when the names of the loop below stand for its last slice.
        def part(
            chosen: torch.Tensor, counts: torch.Tensor | None, *tensors: torch.Tensor
        ) -> torch.Tensor:
            given = dict(zip(parameters, tensors, strict=True))
            features, target = self._rows(chosen, dtype)
            each = self._each(self.predict(given, features), target)
            return (each if counts is None else each * counts.to(dtype)).sum(1)

        total: Any = 0.0
        for first in range(0, rows.shape[1], size):
            place = slice(first, first + size)
            counts = None if weights is None else weights[:, place]
            tensors = tuple(parameters.values())
            if torch.is_grad_enabled():
                total = total + checkpoint(
                    part,
                    rows[:, place],
                    counts,
                    *tensors,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                total = total + part(rows[:, place], counts, *tensors)
        if self.loss == "mean" and weights is None:
            return total / rows.shape[1]
        return total

    def _decay(self, parameters: Parameters, starts: torch.Tensor) -> torch.Tensor:
        total: Any = 0.0
        for name, value in parameters.items():
            if self.decays(name):
                total = total + value.square().flatten(1).sum(1)
        rate: Any = self.weight_decay
        if isinstance(rate, tuple):
            setting = self.batches.setting_of(starts)
            rate = constant(rate, total.dtype, total.device)[setting]
        return rate / 2 * total

    def _each(self, predictions: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row, (S, rows)."""
        if self.classifies:
            return losses.cross_entropy(predictions, target)
        return (predictions - target).square().mean(-1)

    # Rows

    def _table(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
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

    def _rows(
        self, rows: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features, target = self._table(dtype)
        return features[rows], target[rows]

    def _gather(
        self, rows: torch.Tensor, starts: torch.Tensor, key: int, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # A chunk asks at every step with the same tensor of starts: gather once.
        last = self._gathered
        if last[0] is not starts or last[1] != key or last[2].dtype != dtype:
            self._gathered = (starts, key, *self._rows(rows, dtype))
        return self._gathered[2], self._gathered[3]

    def _slice(self, count: int) -> int:
        """Return how many rows of each of some starts are looked at at once."""
        return max(1, LOOK_ENTRIES // (count * self._widest))

    def _slices(
        self, starts: torch.Tensor, rows: torch.Tensor, dtype: torch.dtype
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Give all rows of each start, some at a time."""
        size = self._slice(len(starts))
        for first in range(0, rows.shape[1], size):
            place = slice(first, first + size)
            yield place, *self._rows(rows[:, place], dtype)

    # Metrics

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
        rows = self.batches.training(starts)[0]
        counted = self.batches.counted(starts)
        name = "accuracy" if self.classifies else "r2"
        found = {f"training_{name}": self._judged(parameters, starts, rows, counted)[1]}
        if self.batches.any_held_out:
            loss, score = self._judged(
                parameters, starts, *self.batches.held_out(starts)
            )
            found[f"validation_{name}"] = score
            found["validation_loss"] = loss
        dead = self.dead_units(parameters, starts)
        if dead.shape[1]:
            found["dead_units"] = dead.sum(1)
        return found

    def final_metrics(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return what else is computed of a classifier where its starts end.

        Returns
        -------
        dict of Tensor of shape (S,)
            ``training_`` and, where rows are held out, ``validation_`` with each of
            `descents.problems.scores.SCORES`, weighted by `row_weights`.
        """
        if not self.classifies:
            return {}
        parts: dict[str, tuple[torch.Tensor, Any]] = {
            "training": (self.batches.training(starts)[0], self.batches.counted)
        }
        if self.batches.any_held_out:
            rows = self.batches.held_out(starts)[0]
            parts["validation"] = (rows, lambda some: self.batches.held_out(some)[1])
        found: dict[str, torch.Tensor] = {}
        for part, (rows, count_of) in parts.items():
            # All rows of few starts: ranks are over all rows.
            size = max(1, LOOK_ENTRIES // (rows.shape[1] * self.outputs))
            size = len(starts) if not self.rows_apart else size
            each = [
                self._scored(
                    {n: p[first : first + size] for n, p in parameters.items()},
                    starts[first : first + size],
                    rows[first : first + size],
                    count_of(starts[first : first + size]),
                )
                for first in range(0, len(starts), size)
            ]
            for name in SCORES:
                found[f"{part}_{name}"] = torch.cat([one[name] for one in each])
        return found

    def _scored(
        self,
        parameters: Parameters,
        starts: torch.Tensor,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """Return the scores of some starts on some rows."""
        dtype = next(iter(parameters.values())).dtype
        predictions = torch.cat(
            [
                self.predict(parameters, features)
                for _, features, _ in self._slices(starts, rows, dtype)
            ],
            1,
        )
        target = self._table(dtype)[1][rows]
        weights = self._weights_of(self._row_weights, rows, counted)
        return class_scores(predictions, target, weights)

    def _judged(
        self,
        parameters: Parameters,
        starts: torch.Tensor,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted mean loss of some rows, and accuracy or R^2, in float64."""
        dtype = next(iter(parameters.values())).dtype
        loss: Any = 0.0
        weight: Any = 0.0
        squares: Any = 0.0
        good: Any = 0.0
        count: Any = 0.0
        first: Any = 0.0
        second: Any = 0.0
        largest: Any = 0.0
        origin: Any = None
        for place, features, target in self._slices(starts, rows, dtype):
            predictions = self.predict(parameters, features)
            real = None if counted is None else counted[:, place]
            kept = self._weights_of(self._row_weights, rows[:, place], real)
            weighed = kept
            if self._loss_weights is not self._row_weights:
                weighed = self._weights_of(self._loss_weights, rows[:, place], real)
            each = self._each(predictions, target).double()
            loss = loss + (each * weighed).sum(1)
            weight = weight + weighed.sum(1)
            count = count + kept.sum(1)
            if self.classifies:
                good = good + ((predictions.argmax(-1) == target) * kept).sum(1)
            else:
                off = (predictions - target).square().double()
                squares = squares + (off * kept[..., None]).sum(1)
                exact = target.double()
                seen = (kept > 0)[..., None]
                largest = (exact.abs() * seen).amax(1).clamp_min(largest)
                # From one of these rows: squares of large numbers would cancel.
                origin = exact[:, :1] if origin is None else origin
                exact = exact - origin
                first = first + (exact * kept[..., None]).sum(1)
                second = second + (exact.square() * kept[..., None]).sum(1)
        if self.classifies:
            return loss / weight, good / count
        spread = second - first.square() / count[:, None]
        rounding = count[:, None] * (torch.finfo(dtype).eps * largest).square()
        varies = spread > rounding
        # What is constant is predicted exactly or not at all, as in scikit-learn.
        each = torch.where(varies, 1 - squares / spread, (squares == 0).double())
        score = torch.where(varies.any(-1), each.mean(-1), torch.nan)
        return loss / weight, score

    def _weights_of(
        self,
        weights: torch.Tensor | None,
        rows: torch.Tensor,
        counted: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the weights of some rows, 0 for what only fills up, in float64."""
        if weights is None:
            if counted is not None:
                return counted
            return torch.ones(rows.shape, dtype=torch.float64, device=rows.device)
        chosen = weights[rows]
        return chosen if counted is None else chosen * counted

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

    def dead_units(self, parameters: Parameters, starts: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on every training row, (S, units)."""
        return self._all_rows(parameters, starts, self.off)

    def saturated_units(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> torch.Tensor:
        """Return which hidden units are flat on every training row, (S, units)."""
        return self._all_rows(parameters, starts, self.flat)

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units give nothing on some rows, (S, rows, units)."""
        return features.new_zeros(*features.shape[:2], 0, dtype=torch.bool)

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on some rows, (S, rows, units)."""
        return features.new_zeros(*features.shape[:2], 0, dtype=torch.bool)

    def _all_rows(
        self,
        parameters: Parameters,
        starts: torch.Tensor,
        look: Callable[[Parameters, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Return which units something holds of on all training rows."""
        rows = self.batches.training(starts)[0]
        counted = self.batches.counted(starts)
        dtype = next(iter(parameters.values())).dtype
        found: Any = None
        for place, features, _ in self._slices(starts, rows, dtype):
            holds = look(parameters, features)
            if counted is not None or self._row_weights is not None:
                real = None if counted is None else counted[:, place]
                kept = self._weights_of(self._row_weights, rows[:, place], real)
                holds = holds | (kept == 0)[..., None]
            holds = holds.sum(1) == holds.shape[1]  # several times faster than `all`
            found = holds if found is None else found & holds
        return torch.as_tensor(found)


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
