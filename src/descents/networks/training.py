"""Train models from many initial points: optimizers, validation, stopping and warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError
from descents.networks.batches import Folds, HoldOut
from descents.networks.modules import Modules
from descents.networks.supervised import Supervised
from descents.optim.chunk import Watch
from descents.optim.first_order import Adam, AdamW, GradientDescent, Momentum
from descents.optim.line_search import LBFGS
from descents.optim.loop import descend
from descents.optim.problem import Parameters
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs
from descents.optim.stopping import EarlyStopping, NoProgress, Stop
from descents.optim.workers import Store
from descents.statistics.metrics import metric_kind
from descents.text import counted
from descents.validation import one_of, real_number, whole_number

OPTIMIZERS = ("gd", "momentum", "adam", "adamw", "lbfgs")
REMEDY = (
    "train for longer, try another learning rate, or scale the features; for rare classes "
    "compare balanced_accuracy or roc_auc, and weight the classes"
)
"""The advice given if no start beats a constant prediction."""
FARTHEST = 10.0
"""Targets are learned badly if their root mean square is above this or below 1 / this."""


def remedy_for(problem: Supervised) -> str:
    """Return the advice for a problem on which no start beats a constant prediction.

    If the size of the targets is far from 1, scaling them comes first.
    """
    if problem.classifies:
        return REMEDY
    remedy = REMEDY.split("; ", maxsplit=1)[0]
    root_mean_square = float(np.sqrt(np.square(problem.y).mean()))
    if 1 / FARTHEST <= root_mean_square <= FARTHEST or root_mean_square == 0:
        return remedy
    mean, deviation = problem.y.mean(), problem.y.std(0).mean()
    return (
        f"y has mean {mean:.3g} and standard deviation {deviation:.3g}, so scale it to 0 "
        f"and 1 first, as sklearn.compose.TransformedTargetRegressor does; or {remedy}"
    )


PREDICTED_ENTRIES = 2**24
"""The largest number of values kept in memory at once while predicting."""


def train_module(  # noqa: PLR0913
    make_module: Callable[[], torch.nn.Module],
    X: Any,
    y: Any,
    *,
    task: str = "classification",
    n_starts: int = 100,
    optimizer: str = "adam",
    learning_rate: Any = 0.01,
    max_epochs: int = 200,
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    validation: Any = None,
    early_stopping: Any = None,
    tol: float | None = None,
    n_iter_no_change: int = 10,
    batched: bool = True,
    random_state: int = 0,
    device: str = "cpu",
) -> Runs:
    """Train any torch module from many initial points, in one batch.

    Parameters
    ----------
    make_module : callable
        ``make_module()`` returns a `torch.nn.Module` with randomly initialized
        parameters, which maps rows of features to logits, or to predicted numbers.
    X : array-like of shape (rows, features)
    y : array-like
        Classes 0, 1, ..., or numbers.
    task : {"classification", "regression"}
    n_starts : int
    optimizer, learning_rate, max_epochs, batch_size, weight_decay, validation
        See `MLPStartsClassifier`. Start k is trained on split k modulo the number of
        splits only.
    early_stopping, tol, n_iter_no_change
        See `MLPStartsClassifier`.
    batched : bool
        False trains the starts one after the other. Modules with random layers or batch
        normalization need this, because in a batch the starts would share them.
    random_state : int
    device : str

    Returns
    -------
    Runs

    Raises
    ------
    InvalidValueError
        If an argument is invalid, or the module has layers that cannot be batched.

    Examples
    --------
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> make = lambda: torch.nn.Sequential(
    ...     torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
    ... )
    >>> runs = train_module(make, X, y, n_starts=3, learning_rate=0.05)
    >>> runs.metrics["training_accuracy"]
    array([1., 1., 1.])
    """
    complaints = Complaints()
    complaints.attempt(whole_number, "n_starts", n_starts, 1)
    complaints.attempt(whole_number, "max_epochs", max_epochs, 1)
    complaints.attempt(one_of, "optimizer", optimizer, OPTIMIZERS)
    complaints.attempt(no_progress, tol, n_iter_no_change, 1)
    complaints.raise_any()
    splits = None
    if validation is not None:
        groups = np.asarray(y) if task == "classification" else np.zeros(len(y))
        splits = validation_of(validation).splits(groups, random_state)
    problem = Modules(
        make_module,
        X,
        y,
        batched=batched,
        task=task,
        splits=splits,
        batch_size=batch_size,
        weight_decay=0.0 if optimizer == "adamw" else weight_decay,
        seed=random_state,
        device=device,
    )
    lone = lone_classes(problem)
    if lone:
        warnings.warn(lone_sentence([str(c) for c in lone]), UserWarning, stacklevel=2)
    runs = descend_network(
        problem,
        n_starts,
        random_state,
        steps=optimizer_named(optimizer, learning_rate, weight_decay),
        max_epochs=max_epochs,
        early_stopping=early_stopping,
        tol=tol,
        n_iter_no_change=n_iter_no_change,
    )
    record = unbeaten(problem, runs, crossed=False)
    if record is not None:
        answer = "the mean" if record.answer is None else f"class {record.answer}"
        sentence = record.sentence(answer, remedy_for(problem))
        warnings.warn(sentence, UserWarning, stacklevel=2)
    return runs


def descend_network(  # noqa: PLR0913
    problem: Supervised,
    count: int,
    seed: int,
    *,
    steps: UpdateRule,
    max_epochs: int,
    early_stopping: Any = None,
    tol: float | None = None,
    n_iter_no_change: int = 10,
    record: Sequence[int] = (),
    watch: Watch | None = None,
    threads: int | None = None,
    workers: int = 1,
    store: Store | None = None,
    max_seconds: float | None = None,
) -> Runs:
    """Train the starts of a problem, with limits and records counted in epochs."""
    epoch = problem.batches.steps_in_epoch
    early = None
    if early_stopping is not None:
        early = early_stopping_of(early_stopping, epoch)
    return descend(
        problem,
        count,
        seed,
        steps=steps,
        stop=Stop(
            max_epochs * epoch,
            early=early,
            max_seconds=max_seconds,
            progress=no_progress(tol, n_iter_no_change, epoch),
        ),
        record=[epoch * number for number in record if number <= max_epochs],
        watch=watch,
        threads=threads,
        workers=workers,
        store=store,
    )


def optimizer_named(
    name: str, learning_rate: Any, weight_decay: float = 0.0, *, splits: int = 1
) -> UpdateRule:
    """Return the update rule with a name.

    Parameters
    ----------
    name : one of `OPTIMIZERS`
    learning_rate : float or sequence of float
        One rate for all starts, or one per start.
    weight_decay : float
        Used by "adamw" only.
    splits : int
        The number of splits that each start is trained on.

    Examples
    --------
    >>> optimizer_named("adamw", 0.1, 0.5).weight_decay
    0.5
    """
    if name == "lbfgs":
        return LBFGS()
    if np.ndim(learning_rate):
        learning_rate = tuple(np.repeat(np.asarray(learning_rate, float), splits))
    if name == "adamw":
        return AdamW(learning_rate, weight_decay=weight_decay)
    rules: dict[str, Any] = {"gd": GradientDescent, "momentum": Momentum, "adam": Adam}
    rule: UpdateRule = rules[name](learning_rate)
    return rule


def check_optimizer(estimator: Any) -> None:
    """Raise unless the optimizer, its learning rate and its other settings are valid."""
    name, rate = estimator.optimizer, estimator.learning_rate
    one_of("optimizer", name, OPTIMIZERS)
    if name == "lbfgs":
        if estimator.batch_size is not None or estimator.dropout:
            raise InvalidValueError(
                "optimizer is 'lbfgs', which needs the loss of all rows, without dropout, "
                "at every step; leave batch_size and dropout out, or give another optimizer"
            )
        return
    rates = np.atleast_1d(np.asarray(rate, dtype=object))
    for number in rates:
        real_number("learning_rate", number, 0, strict=True)
    if np.ndim(rate) and len(rates) != estimator.n_starts:
        raise InvalidValueError(
            f"learning_rate has {counted(len(rates), 'rate')} for "
            f"{counted(estimator.n_starts, 'start')}; give one per start, or one for all"
        )


def validation_of(validation: Any) -> HoldOut | Folds:
    """Return the validation scheme; a number becomes `HoldOut` with that share.

    Examples
    --------
    >>> validation_of(0.25)
    HoldOut(share=0.25, repeats=1)
    """
    if isinstance(validation, HoldOut | Folds):
        return validation
    if isinstance(validation, float):
        return HoldOut(validation)
    raise InvalidValueError(
        f"validation is {validation!r}; give None, a share such as 0.33, HoldOut or Folds"
    )


def early_stopping_of(early_stopping: Any, steps_in_epoch: int) -> EarlyStopping:
    """Return the rule for early stopping; an integer is the patience in epochs.

    Examples
    --------
    >>> early_stopping_of(10, 5).every
    5
    """
    if isinstance(early_stopping, EarlyStopping):
        return early_stopping
    patience = whole_number("early_stopping", early_stopping, 1)
    return EarlyStopping(every=steps_in_epoch, patience=patience)


def no_progress(
    tol: Any, n_iter_no_change: Any, steps_in_epoch: int
) -> NoProgress | None:
    """Return the rule that stops starts by their training loss, None if tol is None.

    Examples
    --------
    >>> no_progress(1e-4, 10, 5)
    NoProgress(tol=0.0001, patience=10, every=5)
    """
    complaints = Complaints()
    if tol is not None:
        complaints.attempt(real_number, "tol", tol, 0)
    complaints.attempt(whole_number, "n_iter_no_change", n_iter_no_change, 1)
    complaints.raise_any()
    if tol is None:
        return None
    return NoProgress(float(tol), n_iter_no_change, steps_in_epoch)


def hopeless(optimizer: str, learning_rate: Any) -> str:
    """Return the message for the case that every start failed."""
    if optimizer == "lbfgs":
        return "the loss of every start became infinite or NaN; scale the features"
    highest = float(np.max(learning_rate))
    return (
        f"the loss of every start became infinite or NaN with learning_rate {highest:g}; "
        "give a smaller one, or scale the features"
    )


MOST_FAILED = 0.1
"""A warning is shown if more than this share of the starts failed."""


def many_failed(failed: np.ndarray, which: str = "") -> str | None:
    """Return a warning if more than a tenth of the starts failed, else None.

    Parameters
    ----------
    failed : bool ndarray of shape (S,)
    which : str
        A phrase that says which starts, with a space at its end.

    Examples
    --------
    >>> many_failed(np.array([True] * 4 + [False] * 6))
    '4 of 10 starts failed, because their loss became infinite or NaN; means and intervals are of the other 6. Give a smaller learning rate, or scale the features'
    >>> many_failed(np.array([True] + [False] * 9)) is None
    True
    """
    total, lost = len(failed), int(failed.sum())
    if lost <= MOST_FAILED * total:
        return None
    if lost == total:
        return (
            f"every start {which}failed: its loss became infinite or NaN. Give a smaller "
            "learning rate, or scale the features"
        )
    return (
        f"{lost} of {total} starts {which}failed, because their loss became infinite or "
        f"NaN; means and intervals are of the other {total - lost}. Give a smaller "
        "learning rate, or scale the features"
    )


def undefined_sentences(metric: str, missing: int, splits: int) -> list[str]:
    """Return the warning that a metric is undefined on some splits of the rows.

    Parameters
    ----------
    metric : str
    missing, splits : int
        The number of splits on which it is undefined, and of all splits.

    Examples
    --------
    >>> undefined_sentences("validation_r2", 2, 5)
    ['validation_r2 is not defined on 2 of 5 splits of the rows, because the target does not vary in the held-out rows; its values are means over the other 3']
    """
    if not missing:
        return []
    rows = "held-out" if metric.startswith("validation_") else "training"
    why = {
        "r2": f"the target does not vary in the {rows} rows",
        "roc_auc": f"a class does not occur in the {rows} rows",
    }.get(metric_kind(metric), f"all {rows} rows have weight 0")
    if missing == splits:
        return [f"{metric} is not defined for any start, because {why}"]
    return [
        f"{metric} is not defined on {missing} of {splits} splits of the rows, because {why}; "
        f"its values are means over the other {splits - missing}"
    ]


@dataclass(frozen=True)
class Unbeaten:
    """A record that no start does better than a constant prediction.

    Attributes
    ----------
    metric : str
    best, constant : float
        The best value of a start, and the value of the constant prediction.
    answer : int or None
        The index of the most frequent class; None for numbers, which use the mean.
    starts : int
    """

    metric: str
    best: float
    constant: float
    answer: int | None
    starts: int

    def sentence(self, answer: str, remedy: str) -> str:
        """Return the warning, with the prediction and the advice in the caller's words."""
        name = self.metric.replace("_", " ")
        form = ".4f" if abs(self.best) < 1e4 else ".4g"
        return (
            f"no start of {self.starts} is better than always predicting {answer}: the "
            f"best {name} is {self.best:{form}}, that of the constant prediction "
            f"{self.constant:.4f}; {remedy}"
        )


def unbeaten(
    problem: Supervised, runs: Runs, *, balanced: bool = False, crossed: bool = True
) -> Unbeaten | None:
    """Return a record that no start beats the constant prediction, None if one does.

    Starts are judged by accuracy or R^2, on the held-out rows if there are any.

    Parameters
    ----------
    problem, runs
    balanced : bool
        Whether to judge by balanced accuracy. If classes are weighted, the loss does not
        aim at accuracy.
    crossed : bool
        Whether every start was trained on every split; if so, starts are judged by the
        mean over the splits.
    """
    part = "validation" if problem.batches.any_held_out else "training"
    score = "r2"
    if problem.classifies:
        score = "balanced_accuracy" if balanced else "accuracy"
    metric = f"{part}_{score}"
    if metric not in runs.metrics:
        return None
    count = len(problem.batches.splits)
    values = np.where(np.isfinite(runs.losses), runs.metrics[metric], np.nan)
    constants = problem.constant_scores(metric)[runs.starts % count]
    groups = np.stack([values, constants]).reshape(2, -1, count if crossed else 1)
    defined = np.isfinite(groups).all(0)
    if not defined.any():
        return None
    total = np.where(defined, groups, 0.0).sum(2)[:, defined.any(1)]
    values, constants = total / defined.sum(1)[defined.any(1)]
    # No start can beat a constant that scores 1, as it does if all rows have one class.
    if (values > np.minimum(constants + 1e-9, 1 - 1e-9)).any():
        return None
    best = int(np.argmax(values - constants))
    return Unbeaten(
        metric,
        float(values[best]),
        float(constants[best]),
        problem.majority() if problem.classifies else None,
        len(values),
    )


def lone_classes(problem: Supervised) -> list[int]:
    """Return the classes whose rows are all on one side of every split.

    If all rows of a class are training rows, what is learned about it is not tested. If
    none is a training row with a positive weight, the class is never predicted.
    """
    if not (problem.classifies and problem.batches.any_held_out):
        return []
    positive = np.ones(len(problem.y), dtype=bool)
    if problem.row_weights is not None:
        positive = problem.row_weights > 0
    classes = np.unique(problem.y)
    crossed = np.zeros(len(classes), dtype=bool)
    for rows in problem.batches.splits:
        training = np.zeros(len(problem.y), dtype=bool)
        training[rows] = True
        crossed |= np.isin(classes, problem.y[training & positive]) & np.isin(
            classes, problem.y[~training & positive]
        )
    return [int(label) for label in classes[~crossed]]


def lone_sentence(names: Sequence[str]) -> str:
    """Return the warning about the classes that `lone_classes` returns."""
    many = len(names) > 1
    them = "them" if many else "it"
    return (
        f"{len(names)} class{'es' if many else ''} ({', '.join(names)}) "
        f"{'have' if many else 'has'} rows only for training or only for validation, as "
        f"classes of one row do: what is learned about {them} is not tested; give more "
        f"rows of {them}, or leave {them} out"
    )


def predicted(problem: Supervised, parameters: Parameters, X: np.ndarray) -> np.ndarray:
    """Return probabilities, or numbers, for rows from each start, (S, rows, outputs).

    Rows are computed in blocks of at most `PREDICTED_ENTRIES` values.
    """
    count = len(next(iter(parameters.values())))
    widest = max([X.shape[1], *(v[0].numel() for v in parameters.values())])
    size = max(1, PREDICTED_ENTRIES // (count * min(widest, 2**12)))
    blocks = []
    with torch.no_grad():
        for first in range(0, len(X), size):
            part = np.ascontiguousarray(X[first : first + size])
            rows = torch.tensor(part, dtype=problem.dtype)
            features = rows.to(problem.device).expand(count, *rows.shape)
            on_device = {n: v.to(problem.device) for n, v in parameters.items()}
            outputs = problem.predict(on_device, features).double()
            if problem.classifies:
                outputs = outputs.softmax(-1)
            blocks.append(outputs.cpu().numpy())
    return np.concatenate(blocks, 1)
