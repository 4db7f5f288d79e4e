"""`descents train`: train a network on a table from many starts, and compare the starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from descents.errors import InvalidValueError
from descents.networks.estimators import estimator_of
from descents.networks.fitting import Job, fit_all
from descents.networks.fitting import train_shard as run_shard
from descents.networks.rows import labeled_rows
from descents.networks.settings import Settings
from descents.networks.splits import Folds, HoldOut
from descents.networks.sweep_result import SweepResult, judged
from descents.optim.chunk import Watch
from descents.optim.control import RunControl
from descents.optim.executors import Workers
from descents.optim.runs import Runs
from descents.optim.spans import Shard
from descents.runs.network_options import NetworkOptions, NetworkSetting, class_weights
from descents.runs.network_rows import Prepared, prepared
from descents.runs.network_summary import summarized, tensors_of
from descents.runs.network_verdicts import diagnosed
from descents.runs.network_warnings import hopeless
from descents.runs.request import Data
from descents.runs.train_result import (
    NetworkResult,
)
from descents.storage.run_folders import RESULT, ROWS, TENSORS, RunFolder

MODEL = "model.safetensors"
CURVES = 40
"""The number of epochs at which the losses of all starts are recorded."""
Progress = Callable[[str, float], None]


class FolderStore:
    """Stores finished chunks of starts in a run folder."""

    def __init__(self, folder: RunFolder, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix

    def _path(self, name: str) -> Path:
        return self._folder.stage(f"{self._prefix}-{name}.safetensors")

    def get(self, name: str) -> Runs | None:
        """Return a stored chunk, None if there is no readable one."""
        return Runs.if_kept(self._path(name))

    def put(self, name: str, runs: Runs) -> None:
        """Store a finished chunk."""
        runs.save(self._path(name))


@dataclass(frozen=True)
class TrainedRun:
    """What `train` returns: the result, and the data that a run stores beside it."""

    result: NetworkResult
    study: SweepResult
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]

    def write(self, folder: RunFolder) -> None:
        """Write everything but the page into a run folder."""
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {})
        self.study.best_model.save(folder.work / MODEL)
        folder.write_json(RESULT, self.result)  # the last: only the page is left


def train(
    data: Data,
    options: NetworkOptions,
    run: Mapping[str, Any],
    *,
    folder: RunFolder | None = None,
    threads: int = 1,
    workers: Workers = 1,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> TrainedRun:
    """Train the network from many starts in every setting, and compare the settings.

    Parameters
    ----------
    data : Data
    options : NetworkOptions
    run : mapping
        The identity of the run.
    folder : RunFolder, optional
        Stores finished chunks of starts; chunks that it already contains are not
        computed again.
    threads : int
    workers : int or Executor
        How many chunks run in parallel, in threads or in processes.
    max_seconds : float, optional
    progress : callable, optional
        ``progress(what, share)``.

    Raises
    ------
    InvalidValueError
        If options or data are invalid (one message lists all problems), or if every
        start failed.
    InterruptedRunError
        If the time limit was reached, or the user interrupted; finished chunks are
        stored.
    """
    begun = time.perf_counter()
    names = [setting.name for setting in options.settings()]
    given = prepared(data, options)
    limit = None if max_seconds is None else time.monotonic() + max_seconds
    marks = _marks(options)
    control = RunControl(marks, None, max_seconds, workers)
    jobs = _jobs(given, options, control, threads, folder, progress)
    rows = labeled_rows(given.X, given.y, given.target.task, given.weights)
    fits = fit_all(rows, jobs)
    if not any(fitted.usable for fitted in fits):
        raise InvalidValueError(hopeless(options))
    ends = []
    for place, name in enumerate(names):
        if progress is not None:
            progress(f"diagnosing {name}", 0.8 + 0.15 * place / len(names))
        left = None if limit is None else max(0.0, limit - time.monotonic())
        stage = None if folder is None else folder.stage(f"{name}-verdicts.json")
        fits[place], end = diagnosed(
            fits[place], options.diagnosed, left, threads, stage
        )
        ends.append(end)
    if progress is not None:
        progress("judging", 0.95)
    study = judged(
        [setting.chosen for setting in options.settings()],
        names,
        [estimator_of(fitted) for fitted in fits],
        options.metric,
    )
    result = summarized(given, data, options, run, study, ends, begun)
    return TrainedRun(
        result, study, study.columns(), tensors_of(study, np.array(marks))
    )


def train_shard(
    data: Data,
    options: NetworkOptions,
    folder: RunFolder,
    shard: Shard,
    *,
    threads: int = 1,
    workers: Workers = 1,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Train the starts of a shard in every setting, and store them in a run folder.

    The parameters are those of `train`, which needs all shards for its result.

    Raises
    ------
    InvalidValueError
        If options or data are invalid; one message lists all problems.
    InterruptedRunError
        If the time limit was reached, or the user interrupted; finished chunks are
        stored.
    """
    given = prepared(data, options)
    control = RunControl(_marks(options), None, max_seconds, workers)
    jobs = _jobs(given, options, control, threads, folder, progress, shard.count)
    rows = labeled_rows(given.X, given.y, given.target.task, given.weights)
    run_shard(rows, jobs, shard)


def _marks(options: NetworkOptions) -> tuple[int, ...]:
    """Return the epochs at which losses are recorded."""
    count = min(CURVES, options.epochs + 1)
    marks = np.unique(np.linspace(0, options.epochs, count).astype(int))
    return tuple(marks.tolist())


def _jobs(
    given: Prepared,
    options: NetworkOptions,
    control: RunControl,
    threads: int,
    folder: RunFolder | None,
    progress: Progress | None,
    shards: int = 1,
) -> list[Job]:
    """Return what is to be trained: one job for each of the settings.

    Progress is reported for one of `shards` equal shares of the starts.
    """
    held_out, named = options.held_out(), options.settings()
    settings = [_settings_of(given, options, setting, held_out) for setting in named]
    ended: set[tuple[str, int]] = set()
    jobs = []
    for setting, one in zip(named, settings, strict=True):
        watch, store = None, None
        if progress is not None:
            watch = _watch(progress, setting.name, len(named) / shards, one, ended)
        if folder is not None:
            store = FolderStore(folder, setting.name)
        jobs.append(Job(one, replace(control, watch=watch), threads, store))
    return jobs


def _watch(
    progress: Progress,
    name: str,
    count: float,
    settings: Settings,
    ended: set[tuple[str, int]],
) -> Watch:
    """Return the callback that reports progress for a setting, or for all in its batch."""
    scheme = settings.validation
    splits = 1 if scheme is None else scheme.number
    whole = count * settings.n_starts * splits

    def watch(starts: np.ndarray, step: int, losses: np.ndarray) -> None:
        if step >= settings.max_epochs:
            ended.update((name, int(k)) for k in starts)
        progress(name, 0.8 * min(1.0, len(ended) / whole))

    return watch


def _settings_of(
    given: Prepared,
    options: NetworkOptions,
    setting: NetworkSetting,
    held_out: HoldOut | Folds | None,
) -> Settings:
    """Return the settings of a network, for one of the settings that are compared."""
    second_order = setting.optimizer == "lbfgs"
    batch = options.batch_size
    if batch == "auto":
        batch = int(np.clip(len(given.y) // 10, 16, 128))
    return Settings.of(
        task=given.target.task,
        hidden_layer_sizes=options.hidden,
        activation=options.activation,
        initialization=setting.initialization,
        optimizer=setting.optimizer,
        learning_rate=setting.learning_rate,
        max_epochs=options.epochs,
        batch_size=None if second_order else batch,
        weight_decay=options.weight_decay,
        dropout=0.0 if second_order else options.dropout,
        class_weight=class_weights(options.class_weight, given.target),
        validation=held_out,
        early_stopping=options.early_stopping,
        tol=options.tol,
        n_iter_no_change=options.n_iter_no_change,
        n_starts=options.starts,
        random_state=options.seed,
        device=options.device,
    )
