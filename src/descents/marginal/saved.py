"""Fitted estimators in one file each: the part that all of them save and load alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from descents.errors import RunFolderError
from descents.storage.files import read_tensors
from descents.storage.values import of_typed, typed

Estimator = TypeVar("Estimator")


def facts_of(estimator: Any, kind: str, **changed: Any) -> dict[str, Any]:
    """Return the parameters and the column names of a fitted estimator.

    Parameters
    ----------
    estimator : object
        A fitted estimator with a parameter ``random_state``. A generator as
        ``random_state`` is not stored.
    kind : str
        The name of its class.
    **changed
        Parameters that are stored with another value than the estimator has.
    """
    settings = {**estimator.get_params(deep=False), **changed}
    if not isinstance(settings["random_state"], int | None):
        settings["random_state"] = None
    return {
        "model": kind,
        "settings": typed(settings),
        "names": list(getattr(estimator, "feature_names_in_", [])),
        "features_in": estimator.n_features_in_,
    }


def opened(
    kind: type[Estimator], path: str | Path, name: str
) -> tuple[Estimator, dict[str, np.ndarray], dict[str, Any]]:
    """Return an estimator with the parameters of a file, and the rest of the file.

    Parameters
    ----------
    kind : type
        The class to make.
    path : path
    name : str
        The `kind` of `facts_of` that the file must have.

    Raises
    ------
    RunFolderError
        When the file cannot be read or holds something else.
    """
    arrays, facts = read_tensors(Path(path))
    if facts.get("model") != name:
        raise RunFolderError(
            f"{path} holds something else than a {name}; give a file that "
            f"{name}.save wrote"
        )
    estimator: Any = kind(**of_typed(facts["settings"]))
    if facts["names"]:
        estimator.feature_names_in_ = np.array(facts["names"], dtype=object)
    estimator.n_features_in_ = facts["features_in"]
    return estimator, arrays, facts
