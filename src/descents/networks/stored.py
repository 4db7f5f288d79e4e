"""Fitted networks in files: arrays and plain values, which contain no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descents.errors import InvalidValueError
from descents.networks.fitted import Fitted
from descents.networks.network import Network
from descents.networks.settings import Settings
from descents.networks.splits import Folds, HoldOut
from descents.optim.runs import Runs
from descents.optim.stopping import EarlyStopping
from descents.storage.files import write_tensors
from descents.storage.values import of_typed, typed

Facts = Mapping[str, Any]
"""The plain values of a file."""
FORMATS = (1, 2)
"""The formats of files that can be read; the last is written."""
KINDS = {kind.__name__: kind for kind in (HoldOut, Folds, EarlyStopping)}
"""Values of parameters that are stored with their fields."""


def write(
    path: str | Path, fitted: Fitted, name: str, parameters: Mapping[str, object]
) -> None:
    """Write a fit, with the name and the parameters of its estimator.

    Raises
    ------
    InvalidValueError
        If a parameter or the classes have a type that cannot be stored.
    RunFolderError
        If the file cannot be written.
    """
    arrays, runs = fitted.runs.stored()
    own: dict[str, object] = {"single": fitted.single}
    try:
        if fitted.classes is not None:
            own = {"classes": typed(fitted.classes)}
        settings = _stored_parameters(parameters)
    except TypeError as error:
        raise InvalidValueError(
            f"the model cannot be saved ({error}); fit it with numbers, text, "
            "booleans or dates"
        ) from None
    facts = {
        "format": FORMATS[-1],
        "model": name,
        "settings": settings,
        "names": list(fitted.names),
        "features": fitted.problem.X.shape[1],
        "outputs": fitted.problem.outputs,
        "splits": fitted.splits,
        "steps_in_epoch": fitted.steps_in_epoch,
        "dtype": str(fitted.problem.dtype),
        "runs": runs,
        **own,
    }
    write_tensors(Path(path), arrays, facts)


def _stored_parameters(parameters: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters of an estimator as plain values."""
    stored: dict[str, object] = {}
    for name, value in parameters.items():
        if name == "initialization" and callable(value):
            stored[name] = "zero"  # a loaded model draws no weights
        elif name == "random_state" and not isinstance(value, int | np.integer):
            stored[name] = None
        elif isinstance(value, HoldOut | Folds | EarlyStopping):
            fields = {n: typed(v) for n, v in vars(value).items()}
            stored[name] = {"kind": type(value).__name__, **fields}
        else:
            stored[name] = typed(value)
    return stored


def parameters_of(facts: Facts) -> dict[str, object]:
    """Return the parameters of the estimator from what `write` wrote."""
    parameters = dict(facts["settings"])
    for name, value in facts["settings"].items():
        kind = value.get("kind") if isinstance(value, dict) else None
        if kind in KINDS:
            rest = {n: v for n, v in value.items() if n != "kind"}
            parameters[name] = KINDS[kind](**{n: of_typed(v) for n, v in rest.items()})
        elif kind == "sizes":  # format 1
            parameters[name] = tuple(value["sizes"])
        elif facts["format"] > 1:
            parameters[name] = of_typed(value)
    return parameters


def restored(arrays: dict[str, np.ndarray], facts: Facts, settings: Settings) -> Fitted:
    """Return the fit from what `write` wrote; it has no training rows."""
    features, outputs = facts["features"], facts["outputs"]
    classes = None
    if settings.classifies and facts["format"] > 1:
        classes = of_typed(facts["classes"])
    elif settings.classifies:
        kind = object if facts["class_kind"] == "O" else None
        classes = np.array(facts["classes"], dtype=kind)
    # The file has no training rows, so the problem gets placeholder rows.
    problem = Network(
        np.zeros((2, features)),
        [0, 1] if settings.classifies else np.zeros((2, outputs)),
        settings.hidden_layer_sizes,
        task=settings.task,
        outputs=outputs if settings.classifies else None,
        activation=settings.activation,
        dtype=torch.float32 if facts["dtype"] == "torch.float32" else torch.float64,
    )
    return Fitted(
        settings,
        problem,
        Runs.restored(arrays, facts["runs"]),
        facts["splits"],
        facts["steps_in_epoch"],
        classes=classes,
        names=tuple(facts["names"]),
        single=settings.classifies or facts["single"],
    )
