"""The options of `descents train`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.networks.features import Target
from descents.networks.initialization import WEIGHTS
from descents.networks.setting_names import word_of
from descents.networks.settings import OPTIMIZERS, metric_names
from descents.networks.splits import Folds, HoldOut
from descents.validation import one_of

MOST_DIAGNOSED = 40
"""The default number of starts below the threshold that are diagnosed in each setting."""


@dataclass(frozen=True)
class NetworkSetting:
    """One of the settings that are compared.

    Attributes
    ----------
    name : str
        A short name made of the options in which the settings differ.
    initialization, optimizer : str
    learning_rate : float
    """

    name: str
    initialization: str
    optimizer: str
    learning_rate: float

    @property
    def chosen(self) -> dict[str, object]:
        """The value of each option in which settings may differ."""
        return {n: v for n, v in vars(self).items() if n != "name"}


@dataclass(frozen=True)
class NetworkOptions:
    """The options of `train`.

    Attributes
    ----------
    target : str
    task : {"auto", "classification", "regression"}
    starts, epochs, seed : int
    hidden : tuple of int
    activation : str
    initializations, optimizers : tuple of str
        If there are several, all combinations are compared.
    learning_rates : tuple of float
    batch_size : int, None or "auto"
        None is all rows; "auto" is a tenth of the training rows, from 16 to 128.
    weight_decay, dropout : float
    validation : str
        "none", a share, or "folds=K".
    early_stopping : int or None
    tol : float or None
        Stop a start when its training loss has not fallen by more than this for more
        than `n_iter_no_change` epochs; None trains all epochs.
    n_iter_no_change : int
    class_weight : tuple of str
        "balanced" alone, or LEVEL=WEIGHT for each level whose weight is not 1.
    weights : str or None
        The column with the weight of each row; it is not a feature.
    metric : str or None
        By default the validation score, or the training score if no rows are held out.
    diagnosed : int
        Diagnose at most this many starts below the threshold in each setting; with 0
        there are no verdicts.
    device : str
    """

    target: str
    task: str = "auto"
    starts: int = 1000
    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    initializations: tuple[str, ...] = ("kaiming",)
    optimizers: tuple[str, ...] = ("adam",)
    learning_rates: tuple[float, ...] = (0.01,)
    epochs: int = 100
    batch_size: int | str | None = "auto"
    weight_decay: float = 0.0
    dropout: float = 0.0
    validation: str = "0.33"
    early_stopping: int | None = None
    tol: float | None = None
    n_iter_no_change: int = 10
    class_weight: tuple[str, ...] = ()
    weights: str | None = None
    metric: str | None = None
    diagnosed: int = MOST_DIAGNOSED
    seed: int = 0
    device: str = "cpu"

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns that the table must have, by option."""
        named = {"--target": self.target, "--weights": self.weights}
        return {option: [name] for option, name in named.items() if name is not None}

    def check_metric(self, task: str) -> None:
        """Raise unless `metric` is one of a task: that of the target, or "auto" for any."""
        if self.metric is None:
            return
        possible = self._metrics(self.task)  # before the target is known
        names = self._metrics(task) if self.metric in possible else possible
        one_of("--metric", self.metric, names)

    def _metrics(self, task: str) -> list[str]:
        """Return the metrics of a task, or of both if it is "auto"."""
        tasks = ("classification", "regression") if task == "auto" else (task,)
        validated = self.validation.strip().lower() != "none"
        early = self.early_stopping is not None
        each = [metric_names(one, validated=validated, early=early) for one in tasks]
        return list(dict.fromkeys(itertools.chain(*each)))

    def settings(self) -> list[NetworkSetting]:
        """Return every combination of the options, without duplicates."""
        complaints = Complaints()
        for name in self.initializations:
            complaints.attempt(one_of, "--init", name, WEIGHTS)
        for name in self.optimizers:
            complaints.attempt(one_of, "--optimizer", name, OPTIMIZERS)
        complaints.attempt(self.held_out)
        complaints.attempt(self.check_metric, self.task)
        complaints.raise_any()
        options = (self.initializations, self.optimizers, self.learning_rates)
        varied = [len(set(option)) > 1 for option in options]
        varied[0] = varied[0] or not any(varied)
        settings = []
        for values in dict.fromkeys(itertools.product(*options)):
            settings.append(NetworkSetting(_name_of(values, varied), *values))
        return settings

    def held_out(self) -> HoldOut | Folds | None:
        """Return the validation scheme, None if no rows are held out.

        Raises
        ------
        InvalidValueError
            If `validation` is neither a share nor folds nor "none", or if
            `early_stopping` is given and no rows are held out.
        """
        text = self.validation.strip().lower()
        if text == "none":
            if self.early_stopping is not None:
                raise InvalidValueError(
                    "--early-stopping uses the loss on held-out rows, but --validation "
                    "none holds out no rows; give --validation 0.33 or folds=5, or use "
                    "--tol, which uses the training loss"
                )
            return None
        try:
            if text.startswith("folds="):
                return Folds(int(text.removeprefix("folds=")))
            share, _, repeats = text.partition("x")
            return HoldOut(float(share), int(repeats or 1))
        except InvalidValueError as error:
            raise InvalidValueError(
                f"--validation is {self.validation!r}: {error}"
            ) from None
        except ValueError:
            raise InvalidValueError(
                f"--validation is {self.validation!r}; give none, a share such "
                "as 0.33, a share and the number of splits, such as 0.33x5, or folds=5"
            ) from None


def _name_of(values: tuple[str, str, float], varied: Sequence[bool]) -> str:
    """Return the name of a setting, made of the options that vary.

    Examples
    --------
    >>> _name_of(("kaiming", "adam", 0.01), (False, True, True))
    'adam with learning rate 0.01'
    """
    name = "-".join(itertools.compress(values[:2], varied[:2]))
    if not varied[2]:
        return name
    rate = f"learning rate {word_of(values[2])}"
    return f"{name} with {rate}" if name else rate


def class_weights(
    given: Sequence[str], target: Target
) -> dict[int, float] | str | None:
    """Return the class weights by class index, "balanced", or None.

    Raises
    ------
    InvalidValueError
        If the target is numeric, a level is unknown, or a weight is not a number of at
        least 0.

    Examples
    --------
    >>> class_weights(["yes=20"], Target("answer", ("no", "yes"), 0.0, 1.0, ""))
    {1: 20.0}
    """
    if not given:
        return None
    if not target.classes:
        raise InvalidValueError(
            f"--class-weight needs classes, but {target.name!r} is numeric; leave it "
            "out, or give --task classification"
        )
    if "balanced" in given:
        if len(given) > 1:
            raise InvalidValueError(
                "--class-weight combines balanced with other values; give balanced alone, "
                "or LEVEL=WEIGHT for each level"
            )
        return "balanced"
    names = [str(level) for level in target.classes]
    complaints = Complaints()
    weights: dict[int, float] = {}
    for option in given:
        level, equals, text = option.rpartition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = np.nan
        if not equals or not np.isfinite(weight) or weight < 0:
            complaints.require(
                False,
                f"--class-weight is {option!r}; give balanced, or LEVEL=WEIGHT with a "
                "weight of at least 0",
            )
        elif level not in names:
            complaints.require(
                False,
                f"--class-weight names {level!r}, which is not a level of {target.name!r}; "
                f"its levels are {', '.join(names)}",
            )
        elif names.index(level) in weights:
            complaints.require(False, f"--class-weight names {level!r} twice")
        else:
            weights[names.index(level)] = weight
    complaints.raise_any()
    return weights
