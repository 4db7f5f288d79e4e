"""The settings of a network and of its training: checked once, and then frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from descents.cells.intake import seed_of
from descents.errors import Complaints, InvalidValueError
from descents.networks.activations import ACTIVATIONS
from descents.networks.class_weights import ClassWeight, check_class_weight
from descents.networks.initialization import WEIGHTS, Initialization
from descents.networks.network import probability
from descents.networks.scores import SCORES
from descents.networks.splits import Folds, HoldOut
from descents.optim.first_order import Adam, AdamW, GradientDescent, Momentum
from descents.optim.lbfgs import LBFGS
from descents.optim.rules import UpdateRule
from descents.optim.stopping import EarlyStopping, NoProgress, Stop
from descents.text import counted
from descents.validation import one_of, real_number, whole_number

RULES: dict[str, Callable[[float | Sequence[float]], UpdateRule]] = {
    "gd": GradientDescent,
    "momentum": Momentum,
    "adam": Adam,
}
"""The update rules that have a learning rate and nothing else."""
OPTIMIZERS = (*RULES, "adamw", "lbfgs")
SHARED = ("initialization", "learning_rate", "weight_decay", "dropout")
"""The settings in which networks that are trained in one batch may differ."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A network, how it is trained, and from how many starts.

    `Settings.of` checks and converts what a user gives. See `descents.MLPStartsClassifier`
    for what each of them means.

    Attributes
    ----------
    task : {"classification", "regression"}
    hidden_layer_sizes : tuple of int
    activation, initialization, optimizer
    learning_rate : float or tuple of float
        One rate for all starts, or one per start.
    max_epochs, batch_size, weight_decay, dropout, class_weight
    validation : HoldOut, Folds or None
    early_stopping, tol, n_iter_no_change, n_starts, combine
    random_state : int
        The seed.
    device : str
    """

    task: str = "classification"
    hidden_layer_sizes: tuple[int, ...] = (12,)
    activation: str = "relu"
    initialization: str | Initialization = "kaiming"
    optimizer: str = "adam"
    learning_rate: float | tuple[float, ...] = 0.01
    max_epochs: int = 200
    batch_size: int | None = None
    weight_decay: float = 0.0
    dropout: float = 0.0
    class_weight: ClassWeight = None
    validation: HoldOut | Folds | None = None
    early_stopping: int | EarlyStopping | None = None
    tol: float | None = None
    n_iter_no_change: int = 10
    n_starts: int = 1
    combine: str = "best"
    random_state: int = 0
    device: str = "cpu"

    @classmethod
    def of(cls, **parameters: object) -> Settings:
        """Return the settings with these names, checked and converted.

        Parameters
        ----------
        **parameters
            The attributes. `hidden_layer_sizes` may be one number, `validation` a share,
            and `random_state` also None or a `RandomState`.

        Raises
        ------
        InvalidValueError
            With all invalid settings in one message.

        Examples
        --------
        >>> settings = Settings.of(hidden_layer_sizes=8, validation=0.25, random_state=0)
        >>> settings.hidden_layer_sizes, settings.validation
        ((8,), HoldOut(share=0.25, repeats=1))
        """
        given: dict[str, Any] = {field.name: field.default for field in fields(cls)}
        given |= parameters
        complaints = Complaints()
        sizes = given["hidden_layer_sizes"]
        sizes = sizes if isinstance(sizes, list | tuple | np.ndarray) else [sizes]
        given["hidden_layer_sizes"] = tuple(
            complaints.attempt(whole_number, "a hidden layer size", size, 1)
            for size in sizes
        )
        complaints.attempt(one_of, "activation", given["activation"], ACTIVATIONS)
        if not callable(given["initialization"]):
            name = given["initialization"]
            complaints.attempt(one_of, "initialization", name, WEIGHTS)
        complaints.attempt(_check_optimizer, given)
        for name in ("max_epochs", "n_starts"):
            given[name] = complaints.attempt(whole_number, name, given[name], 1)
        complaints.attempt(real_number, "weight_decay", given["weight_decay"], 0)
        complaints.attempt(one_of, "combine", given["combine"], ("best", "mean"))
        complaints.attempt(no_progress, given["tol"], given["n_iter_no_change"], 1)
        complaints.attempt(check_class_weight, given["class_weight"])
        scheme, patience = given["validation"], given["early_stopping"]
        if scheme is not None:
            given["validation"] = complaints.attempt(validation_of, scheme)
        if patience is not None:
            complaints.attempt(early_stopping_of, patience, 1)
            complaints.require(
                scheme is not None or isinstance(patience, EarlyStopping),
                "early_stopping needs held-out rows, but validation is None; also give "
                "validation, such as validation=0.33",
            )
        complaints.attempt(probability, "dropout", given["dropout"])
        if given["batch_size"] is not None:
            complaints.attempt(whole_number, "batch_size", given["batch_size"], 1)
        complaints.raise_any()
        if np.ndim(given["learning_rate"]):
            rates = np.asarray(given["learning_rate"], np.float64)
            given["learning_rate"] = tuple(rates.tolist())
        given["random_state"] = seed_of(given["random_state"])
        return cls(**given)

    @property
    def classifies(self) -> bool:
        """Whether classes are predicted, not numbers."""
        return self.task == "classification"

    @property
    def score(self) -> str:
        """The score by which starts are compared: "accuracy" or "r2"."""
        return "accuracy" if self.classifies else "r2"

    @property
    def metric_names(self) -> list[str]:
        """The metrics that starts can be compared by, the score first."""
        return metric_names(
            self.task,
            validated=self.validation is not None,
            early=self.early_stopping is not None,
        )

    def parameters(self) -> dict[str, object]:
        """Return the settings as the parameters of the scikit-learn estimator."""
        left_out = {"task"} if self.classifies else {"task", "class_weight"}
        return {name: v for name, v in vars(self).items() if name not in left_out}

    def rule(self, splits: int) -> UpdateRule:
        """Return the update rule, for starts that are trained on some splits each."""
        return optimizer_named(
            self.optimizer, self.learning_rate, self.weight_decay, splits=splits
        )

    def stop(self, steps_in_epoch: int, max_seconds: float | None = None) -> Stop:
        """Return when starts stop."""
        early = None
        if self.early_stopping is not None:
            early = early_stopping_of(self.early_stopping, steps_in_epoch)
        return Stop(
            self.max_epochs * steps_in_epoch,
            early=early,
            max_seconds=max_seconds,
            progress=no_progress(self.tol, self.n_iter_no_change, steps_in_epoch),
        )


def metric_names(task: str, *, validated: bool, early: bool) -> list[str]:
    """Return the metrics of a task that starts can be compared by, the score first.

    Parameters
    ----------
    task : {"classification", "regression"}
    validated : bool
        Whether rows are held out.
    early : bool
        Whether the best epoch is kept.

    Examples
    --------
    >>> metric_names("regression", validated=True, early=False)[:3]
    ['validation_r2', 'validation_loss', 'training_r2']
    """
    score = "accuracy" if task == "classification" else "r2"
    more = SCORES if task == "classification" else ()
    names = [f"training_{score}", "loss", "gradient_norm", "initial_gradient_norm"]
    names += ["epochs", "dead_units", *(f"training_{name}" for name in more)]
    if validated:
        names = [f"validation_{score}", "validation_loss", *names]
        names += [f"validation_{name}" for name in more]
    return [*names, "best_epoch"] if early else names


def optimizer_named(
    name: str,
    learning_rate: float | Sequence[float],
    weight_decay: float = 0.0,
    *,
    splits: int = 1,
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
    return RULES[name](learning_rate)


def _check_optimizer(given: Mapping[str, Any]) -> None:
    """Raise unless the optimizer, its learning rate and its other settings are valid."""
    name, rate, starts = given["optimizer"], given["learning_rate"], given["n_starts"]
    one_of("optimizer", name, OPTIMIZERS)
    if name == "lbfgs":
        if given["batch_size"] is not None or given["dropout"]:
            raise InvalidValueError(
                "optimizer is 'lbfgs', which needs the loss of all rows, without dropout, "
                "at every step; leave batch_size and dropout out, or give another optimizer"
            )
        return
    rates = np.atleast_1d(np.asarray(rate, dtype=object))
    for number in rates:
        real_number("learning_rate", number, 0, strict=True)
    if np.ndim(rate) and len(rates) != starts:
        raise InvalidValueError(
            f"learning_rate has {counted(len(rates), 'rate')} for "
            f"{counted(starts, 'start')}; give one per start, or one for all"
        )


def validation_of(validation: object) -> HoldOut | Folds:
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


def early_stopping_of(early_stopping: object, steps_in_epoch: int) -> EarlyStopping:
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
    tol: float | None, n_iter_no_change: int, steps_in_epoch: int
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
