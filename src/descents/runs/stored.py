"""Load the stored run of any command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from descents.errors import InvalidValueError
from descents.lowrank.transformer import LowRankModel
from descents.marginal.imputer import LowRankImputer
from descents.marginal.low_rank_ratings import LowRankRatings
from descents.networks.estimators import MLPStartsClassifier, MLPStartsRegressor
from descents.runs import apply as applied
from descents.runs import apply_network as trained
from descents.runs.impute import StoredImputer
from descents.runs.train import MODEL
from descents.storage.damage import undamaged
from descents.storage.files import read_json, read_table, read_tensors
from descents.storage.run_folders import RESULT, ROWS, TENSORS
from descents.text import OneLine, joined, shortened
from descents.validation import folder_path

Facts = Mapping[str, Any]
"""The contents of a ``result.json``."""


@dataclass(frozen=True)
class StoredRun(OneLine):
    """A stored run that has no single model, such as a run of `descents reproduce`.

    Attributes
    ----------
    result : dict
        The contents of ``result.json``.
    rows : dict of ndarray
        The columns of ``starts.parquet``.
    tensors : dict of ndarray
    """

    result: Facts
    rows: Mapping[str, np.ndarray]
    tensors: Mapping[str, np.ndarray]


def load(folder: str | Path) -> Any:
    """Load the model of a stored run, or of a file that a model was saved to.

    Parameters
    ----------
    folder : path
        The folder of a run, or a file that the `save` method of a model wrote.

    Returns
    -------
    LowRankModel
        For a run of ``descents factorize``.
    StoredImputer
        For a run of ``descents impute``: its `impute` fills data frames.
    Trained
        For a run of ``descents train``: it predicts from data frames with the columns of
        the run, and has the starts of the best setting. The results of the starts of
        other settings are in ``starts.parquet``; their networks are not stored.
    StoredRun
        For a run of ``descents reproduce``: the result, the starts and the tensors.
    LowRankModel, LowRankImputer, LowRankRatings, MLPStartsClassifier or MLPStartsRegressor
        For a file.

    Raises
    ------
    RunFolderError
        If the folder contains no complete run, or the file no model.
    InvalidValueError
        If the run has no stored model (``descents apply``), or `folder` is not a path.
        `sweep` returns a `SweepResult` and stores nothing; save one of its models, such as
        ``study.best_model``, with its `save` method.
    """
    folder = folder_path(folder)
    with undamaged(folder):
        return _of_file(folder) if os.path.isfile(folder) else _of_folder(folder)


def _of_folder(folder: Path) -> object:
    """Return the model of a stored run."""
    result = read_json(folder / RESULT)
    run = result.get("run")
    command = run.get("command") if isinstance(run, dict) else None
    if command == "factorize":
        return applied.load_as(folder, LowRankModel)
    if command == "impute":
        return StoredImputer.load(folder)
    if command == "train":
        return trained.load(folder)
    if command == "reproduce":
        tensors, _ = read_tensors(folder / TENSORS)
        return StoredRun(result, read_table(folder / ROWS), tensors)
    raise InvalidValueError(_no_model(folder, result, command))


LONGEST_PATH = 500
"""More characters of a stored path are not repeated in a message."""


def _no_model(place: Path, result: Facts, command: str | None) -> str:
    """Return the message that a path has no model, and which path to load instead."""
    if command == "apply":
        return (
            f"{place} contains a run of 'descents apply', which stores no model; load the "
            f"run whose model it used, {str(result['run'].get('model'))[:LONGEST_PATH]}"
        )
    if "probability_of_improvement" in result:
        runs = joined(list(dict.fromkeys(result["runs"])))
        return (
            f"{place} contains the result of 'descents compare', which has no model; load "
            f"the runs that it compared, {runs}"
        )
    name = shortened(f"descents {command}")
    what = f"a run of {name}, which stores no model"
    return (
        f"{place} contains {what if command else 'no run of descents'}; give the folder of "
        "a run of 'descents factorize', 'descents impute', 'descents train' or 'descents "
        "reproduce', or a file that the `save` method of a model wrote"
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
        result = read_json(path)
        if "probability_of_improvement" in result:
            raise InvalidValueError(_no_model(path, result, None))
    if os.path.isfile(path.parent / RESULT) and path.name != MODEL:
        raise InvalidValueError(
            f"{path} is one file of a run and contains no model; give the folder of the "
            f"run, {path.parent}"
        )
    _, facts = read_tensors(path)
    name = facts.get("model")
    kind = kinds.get(name, LowRankModel) if isinstance(name, str) else LowRankModel
    return kind.load(path)
