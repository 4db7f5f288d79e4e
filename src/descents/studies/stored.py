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
from descents.estimators.networks import MLPStartsClassifier, MLPStartsRegressor
from descents.estimators.transformer import LowRankModel
from descents.studies import applied, trained


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
    Trained
        Of a run of ``descents train``: it predicts from data frames as the run read
        them, and has the starts of the best setting.
    StoredRun
        Of a run of ``descents reproduce``: the result, the starts and the tensors.
    LowRankModel, MLPStartsClassifier or MLPStartsRegressor
        Of a file.

    Raises
    ------
    RunFolderError
        When the folder holds no complete run, or the file no model.
    InvalidValueError
        When the run stores no model, as that of ``descents apply``.
    """
    folder = folder_path(folder)
    if folder.is_file():
        return _of_file(folder)
    result = storage.read_json(folder / RESULT)
    run = result.get("run")
    command = run.get("command") if isinstance(run, dict) else None
    if command == "factorize":
        return applied.load_as(folder, LowRankModel)
    if command == "train":
        return trained.load(folder)
    if command == "reproduce":
        tensors, _ = storage.read_tensors(folder / TENSORS)
        return StoredRun(result, storage.read_table(folder / ROWS), tensors)
    what = f"a run of 'descents {command}'" if command else "no run of descents"
    raise InvalidValueError(
        f"{folder} holds {what}, which stores no model; give the folder of a run of "
        "'descents factorize', 'descents train' or 'descents reproduce'"
    )


def _of_file(path: Path) -> Any:
    """Return the model in a file, of the class that wrote it."""
    classes = (LowRankModel, MLPStartsClassifier, MLPStartsRegressor)
    kinds: dict[str, Any] = {kind.__name__: kind for kind in classes}
    _, facts = storage.read_tensors(path)
    return kinds.get(facts.get("model", ""), LowRankModel).load(path)
