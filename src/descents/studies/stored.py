"""Stored runs of every command, opened again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from descents.checks import InvalidValueError, folder_path
from descents.data import storage
from descents.data.storage import RESULT, ROWS, TENSORS
from descents.estimators.imputer import LowRankImputer
from descents.estimators.networks import MLPStartsClassifier, MLPStartsRegressor
from descents.estimators.ratings import LowRankRatings
from descents.estimators.transformer import LowRankModel
from descents.studies import applied, trained
from descents.studies.impute import StoredImputer
from descents.studies.train import MODEL


@dataclass(frozen=True)
class StoredRun:
    """A stored run that leaves no single model, as that of `descents reproduce`.

    Attributes
    ----------
    result : dict
        What is in ``result.json``.
    rows : dict of ndarray
        The columns of ``starts.parquet``.
    tensors : dict of ndarray
    """

    result: Mapping[str, Any]
    rows: Mapping[str, np.ndarray]
    tensors: Mapping[str, np.ndarray]


def load(folder: str | Path) -> Any:
    """Return the model of a stored run, or of a file that a model was saved to.

    Parameters
    ----------
    folder : path
        The folder of a run, or a file that `save` of a model wrote.

    Returns
    -------
    LowRankModel
        Of a run of ``descents factorize``.
    StoredImputer
        Of a run of ``descents impute``: its `impute` fills data frames.
    Trained
        Of a run of ``descents train``: it predicts from data frames as the run read
        them, and has the starts of the best setting. Those of the other settings are in
        ``starts.parquet``; their networks are not stored.
    StoredRun
        Of a run of ``descents reproduce``: the result, the starts and the tensors.
    LowRankModel, LowRankImputer, LowRankRatings, MLPStartsClassifier or MLPStartsRegressor
        Of a file.

    Raises
    ------
    RunFolderError
        When the folder holds no complete run, or the file no model.
    InvalidValueError
        When the run stores no model, as that of ``descents apply``, or what is given is
        no path. `sweep` returns a `Study` and stores nothing; save a model of it, such as
        ``study.best_model``, with its `save`.
    """
    folder = folder_path(folder)
    if folder.is_file():
        return _of_file(folder)
    result = storage.read_json(folder / RESULT)
    run = result.get("run")
    command = run.get("command") if isinstance(run, dict) else None
    if command == "factorize":
        return applied.load_as(folder, LowRankModel)
    if command == "impute":
        return StoredImputer.load(folder)
    if command == "train":
        return trained.load(folder)
    if command == "reproduce":
        tensors, _ = storage.read_tensors(folder / TENSORS)
        return StoredRun(result, storage.read_table(folder / ROWS), tensors)
    raise InvalidValueError(_no_model(folder, result, command))


def _no_model(place: Path, result: Mapping[str, Any], command: str | None) -> str:
    """Say what lies at a place where no model is, and what to open in place of it."""
    if command == "apply":
        return (
            f"{place} holds a run of 'descents apply', which stores no model; open the "
            f"run whose model it used, {result['run'].get('model')}"
        )
    if "probability_of_improvement" in result:
        first, second = result["runs"]
        return (
            f"{place} holds what 'descents compare --json' printed, which has no model; "
            f"open the runs that it compared, {first} and {second}"
        )
    what = f"a run of 'descents {command}', which stores no model"
    return (
        f"{place} holds {what if command else 'no run of descents'}; give the folder of a "
        "run of 'descents factorize', 'descents impute', 'descents train' or 'descents "
        "reproduce', or a file that `save` of a model wrote"
    )


def _of_file(path: Path) -> Any:
    """Return the model in a file, of the class that wrote it."""
    classes = (
        LowRankModel,
        LowRankImputer,
        LowRankRatings,
        MLPStartsClassifier,
        MLPStartsRegressor,
    )
    kinds: dict[str, Any] = {kind.__name__: kind for kind in classes}
    if path.suffix == ".json":
        result = storage.read_json(path)
        if "probability_of_improvement" in result:
            raise InvalidValueError(_no_model(path, result, None))
    if (path.parent / RESULT).is_file() and path.name != MODEL:
        raise InvalidValueError(
            f"{path} is one file of a run and holds no model; give the folder of the run, "
            f"{path.parent}"
        )
    _, facts = storage.read_tensors(path)
    return kinds.get(facts.get("model", ""), LowRankModel).load(path)
