"""Train any torch module of a user from many initial points."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from descents.networks.cautions import advice, constant_target, untested
from descents.networks.constants import LIMIT_THE_FIT, unbeaten
from descents.networks.fitting import descend_network
from descents.networks.modules import Modules
from descents.networks.settings import Settings
from descents.networks.splits import Folds, HoldOut
from descents.optim.runs import Runs
from descents.optim.stopping import EarlyStopping


def train_module(  # noqa: PLR0913
    make_module: Callable[[], torch.nn.Module],
    X: object,
    y: object,
    *,
    task: str = "classification",
    n_starts: int = 100,
    optimizer: str = "adam",
    learning_rate: float | Sequence[float] = 0.01,
    max_epochs: int = 200,
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    validation: float | HoldOut | Folds | None = None,
    early_stopping: int | EarlyStopping | None = None,
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
    settings = Settings.of(
        task=task,
        optimizer=optimizer,
        learning_rate=learning_rate,
        max_epochs=max_epochs,
        weight_decay=weight_decay,
        validation=validation,
        early_stopping=early_stopping,
        tol=tol,
        n_iter_no_change=n_iter_no_change,
        n_starts=n_starts,
        random_state=random_state,
    )
    splits = None
    if settings.validation is not None:
        groups = np.asarray(y)
        if not settings.classifies:
            groups = np.zeros(len(groups))
        splits = settings.validation.splits(groups, random_state)
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
    runs = descend_network(problem, n_starts, settings, settings.rule(splits=1))
    for line in _cautions(problem, runs):
        warnings.warn(line, UserWarning, stacklevel=2)
    return runs


def _cautions(problem: Modules, runs: Runs) -> list[str]:
    """Return warnings about classes that are not tested, and if nothing was learned."""
    labels = [str(label) for label in range(problem.outputs)]
    sentences = [*untested(problem, labels), *constant_target(problem, runs)]
    score = "accuracy" if problem.classifies else "r2"
    record = unbeaten(problem, runs, score, crossed=False)
    if record is not None:
        answer = "the mean" if record.answer is None else f"class {record.answer}"
        remedy = advice(problem)
        if record.better:
            remedy = LIMIT_THE_FIT
        sentences.append(record.sentence(answer, remedy))
    return sentences
