"""Training models from many initial points: optimizers, validation and stopping by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descents.checks import (
    Complaints,
    InvalidValueError,
    counted,
    one_of,
    real_number,
    whole_number,
)
from descents.descent.chunk import Watch
from descents.descent.loop import descend
from descents.descent.runs import Runs
from descents.descent.steps import (
    LBFGS,
    Adam,
    AdamW,
    GradientDescent,
    Momentum,
)
from descents.descent.stopping import EarlyStopping, NoProgress, Stop
from descents.descent.workers import Store
from descents.problems.batches import Folds, HoldOut
from descents.problems.metrics import metric_kind
from descents.problems.modules import Modules
from descents.problems.problem import Parameters
from descents.problems.rules import UpdateRule
from descents.problems.supervised import Supervised

OPTIMIZERS = ("gd", "momentum", "adam", "adamw", "lbfgs")
REMEDY = (
    "train for longer, try another learning rate, or scale the features; of rare classes "
    "compare balanced_accuracy or roc_auc, and weight the classes"
)
"""What to do where no start beats a constant answer."""
FARTHEST = 10.0
"""Targets whose root mean square is more than this many times away from 1 are learned
badly."""


def remedy_for(problem: Supervised) -> str:
    """Return what to do where no start beats a constant answer to the rows of a problem.

    Targets far from the size of 1 are named first.
    """
    if problem.classifies:
        return REMEDY
    remedy = REMEDY.split("; ", maxsplit=1)[0]
    size = float(np.sqrt(np.square(problem.y).mean()))
    if 1 / FARTHEST <= size <= FARTHEST or size == 0:
        return remedy
    means, spreads = problem.y.mean(), problem.y.std(0).mean()
    return (
        f"y has mean {means:.3g} and standard deviation {spreads:.3g}, so scale it to 0 "
        f"and 1 first, as sklearn.compose.TransformedTargetRegressor does; or {remedy}"
    )


PREDICTED_ENTRIES = 2**24
"""How many numbers are kept at once while predicting."""


def train_starts(  # noqa: PLR0913
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
        ``make_module()`` returns a `torch.nn.Module` with its parameters drawn, which
        takes rows of features and returns logits, or numbers to foretell.
    X : array-like of shape (rows, features)
    y : array-like
        Classes 0, 1, ..., or numbers.
    task : {"classification", "regression"}
    n_starts : int
    optimizer, learning_rate, max_epochs, batch_size, weight_decay, validation
        As `MLPStartsClassifier` has them; start k is tried on split k modulo their
        count.
    early_stopping, tol, n_iter_no_change
        As `MLPStartsClassifier` has them.
    batched : bool
        False trains start by start: for modules with random layers or batch
        normalization, which in a batch would not be each start's own.
    random_state : int
    device : str

    Returns
    -------
    Runs

    Raises
    ------
    InvalidValueError
        When an argument is wrong, or the module has layers that cannot be batched.

    Examples
    --------
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> make = lambda: torch.nn.Sequential(
    ...     torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
    ... )
    >>> runs = train_starts(make, X, y, n_starts=3, learning_rate=0.05)
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
    none = unbeaten(problem, runs, crossed=False)
    if none is not None:
        answer = "the mean" if none.answer is None else f"class {none.answer}"
        sentence = none.sentence(answer, remedy_for(problem))
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
    """Descend from some starts for some epochs."""
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
    """Return the update rule of a name.

    Parameters
    ----------
    name : one of `OPTIMIZERS`
    learning_rate : float or sequence of float
        One for all, or one for each start.
    weight_decay : float
        Of "adamw".
    splits : int
        On how many splits each start is tried.

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
    """Raise unless the optimizer is known and its rate, and what else it needs, right."""
    name, rate = estimator.optimizer, estimator.learning_rate
    one_of("optimizer", name, OPTIMIZERS)
    if name == "lbfgs":
        if estimator.batch_size is not None or estimator.dropout:
            raise InvalidValueError(
                "optimizer is 'lbfgs', which looks at the whole loss at every step; "
                "leave batch_size and dropout out, or give another optimizer"
            )
        return
    rates = np.atleast_1d(np.asarray(rate, dtype=object))
    for one in rates:
        real_number("learning_rate", one, 0, strict=True)
    if np.ndim(rate) and len(rates) != estimator.n_starts:
        raise InvalidValueError(
            f"learning_rate has {counted(len(rates), 'rate')} for {counted(estimator.n_starts, 'start')}; give "
            "one for each, or one for all"
        )


def validation_of(given: Any) -> HoldOut | Folds:
    """Return what is held out: a share stands for `HoldOut`.

    Examples
    --------
    >>> validation_of(0.25)
    HoldOut(share=0.25, repeats=1)
    """
    if isinstance(given, HoldOut | Folds):
        return given
    if isinstance(given, float):
        return HoldOut(given)
    raise InvalidValueError(
        f"validation is {given!r}; give None, a share such as 0.33, HoldOut or Folds"
    )


def early_stopping_of(given: Any, steps_in_epoch: int) -> EarlyStopping:
    """Return how starts are stopped early: a number of epochs stands for the patience.

    Examples
    --------
    >>> early_stopping_of(10, 5).every
    5
    """
    if isinstance(given, EarlyStopping):
        return given
    patience = whole_number("early_stopping", given, 1)
    return EarlyStopping(every=steps_in_epoch, patience=patience)


def no_progress(
    tol: Any, n_iter_no_change: Any, steps_in_epoch: int
) -> NoProgress | None:
    """Return the rule that ends starts by their training loss, None where tol is None.

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
    """Return what to say when every start failed."""
    if optimizer == "lbfgs":
        return "the loss of every start became infinite or NaN; scale the features"
    highest = float(np.max(learning_rate))
    return (
        f"the loss of every start became infinite or NaN with learning_rate {highest:g}; "
        "give a smaller one, or scale the features"
    )


MOST_FAILED = 0.1
"""A warning is given where more than this share of the starts failed."""


def many_failed(failed: np.ndarray, which: str = "") -> str | None:
    """Return a sentence where more than a tenth of the starts failed, else None.

    Parameters
    ----------
    failed : bool ndarray of shape (S,)
    which : str
        Whose starts they are.

    Examples
    --------
    >>> many_failed(np.array([True] * 4 + [False] * 6))
    '4 of 10 starts failed, as their loss became infinite or NaN; means and intervals are of the other 6. Give a smaller learning rate, or scale the features'
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
        f"{lost} of {total} starts {which}failed, as their loss became infinite or NaN; "
        f"means and intervals are of the other {total - lost}. Give a smaller learning "
        "rate, or scale the features"
    )


def undefined_sentences(metric: str, missing: int, splits: int) -> list[str]:
    """Return what to say where a metric is not defined on some divisions of the rows.

    Parameters
    ----------
    metric : str
    missing, splits : int
        On how many of how many divisions it is not defined.

    Examples
    --------
    >>> undefined_sentences("validation_r2", 2, 5)
    ['validation_r2 is not defined on 2 of 5 divisions of the rows, as the target does not vary in the held-out rows; its values are means over the other 3']
    """
    if not missing:
        return []
    rows = "held-out" if metric.startswith("validation_") else "training"
    why = {
        "r2": f"the target does not vary in the {rows} rows",
        "roc_auc": f"a class does not occur in the {rows} rows",
    }.get(metric_kind(metric), f"all {rows} rows have weight 0")
    if missing == splits:
        return [f"{metric} is not defined for any start, as {why}"]
    return [
        f"{metric} is not defined on {missing} of {splits} divisions of the rows, as {why}; "
        f"its values are means over the other {splits - missing}"
    ]


@dataclass(frozen=True)
class Unbeaten:
    """That no start does better than one constant answer.

    Attributes
    ----------
    metric : str
    best, constant : float
        The best value of a start, and that of the constant answer.
    answer : int or None
        The number of the most frequent class; None for numbers, where it is the mean.
    starts : int
    """

    metric: str
    best: float
    constant: float
    answer: int | None
    starts: int

    def sentence(self, answer: str, remedy: str) -> str:
        """Return what to say, with the answer and the remedy in the caller's words."""
        name = self.metric.replace("_", " ")
        form = ".4f" if abs(self.best) < 1e4 else ".4g"
        return (
            f"no start of {self.starts} is better than always answering {answer}: the "
            f"best {name} is {self.best:{form}}, that of the constant answer "
            f"{self.constant:.4f}; {remedy}"
        )


def unbeaten(
    problem: Supervised, runs: Runs, *, balanced: bool = False, crossed: bool = True
) -> Unbeaten | None:
    """Return that no start beats the constant answer, None where one does.

    On the rows held out, where there are some, by accuracy or R^2.

    Parameters
    ----------
    problem, runs
    balanced : bool
        Whether to judge by balanced accuracy: where classes are weighted, the loss does
        not ask for accuracy.
    crossed : bool
        Whether every start was tried on every split; it is judged by the mean over them.
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
    known = np.isfinite(groups).all(0)
    if not known.any():
        return None
    total = np.where(known, groups, 0.0).sum(2)[:, known.any(1)]
    values, constants = total / known.sum(1)[known.any(1)]
    # Nothing is better than a score of 1, which a constant has where all is of one class.
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

    What is learned of a class of one row, of which nothing is held out, is tried on no
    other row; and a class of which no row trains (or only rows of weight 0) is never
    predicted.
    """
    if not (problem.classifies and problem.batches.any_held_out):
        return []
    counts = np.ones(len(problem.y), dtype=bool)
    if problem.row_weights is not None:
        counts = problem.row_weights > 0
    classes = np.unique(problem.y)
    crossed = np.zeros(len(classes), dtype=bool)
    for rows in problem.batches.splits:
        training = np.zeros(len(problem.y), dtype=bool)
        training[rows] = True
        crossed |= np.isin(classes, problem.y[training & counts]) & np.isin(
            classes, problem.y[~training & counts]
        )
    return [int(label) for label in classes[~crossed]]


def lone_sentence(names: Sequence[str]) -> str:
    """Return what to say of such classes."""
    many = len(names) > 1
    return (
        f"{len(names)} class{'es' if many else ''} ({', '.join(names)}) "
        f"{'have' if many else 'has'} rows only for training or only for validation, as a "
        "class of one row has: what is learned of it is tested on no other row; give more "
        "rows of it, or leave it out"
    )


def predicted(problem: Supervised, parameters: Parameters, X: np.ndarray) -> np.ndarray:
    """Return probabilities, or numbers, of rows by some starts, (S, rows, outputs).

    Few rows of few starts are kept in memory at once.
    """
    count = len(next(iter(parameters.values())))
    widest = max([X.shape[1], *(v[0].numel() for v in parameters.values())])
    size = max(1, PREDICTED_ENTRIES // (count * min(widest, 2**12)))
    found = []
    with torch.no_grad():
        for first in range(0, len(X), size):
            part = np.ascontiguousarray(X[first : first + size])
            rows = torch.tensor(part, dtype=problem.dtype)
            features = rows.to(problem.device).expand(count, *rows.shape)
            given = {n: v.to(problem.device) for n, v in parameters.items()}
            outputs = problem.predict(given, features).double()
            if problem.classifies:
                outputs = outputs.softmax(-1)
            found.append(outputs.cpu().numpy())
    return np.concatenate(found, 1)
