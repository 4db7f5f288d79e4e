"""`descents train`: one network on a user's table, from many starts, and what they tell."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from descents.answers import compare, differences, planning, statistics
from descents.answers.diagnosis import reached_by_the_best
from descents.checks import (
    Complaints,
    InterruptedRunError,
    InvalidValueError,
    RunFolderError,
    folder_path,
    one_of,
)
from descents.data import storage
from descents.data.storage import RESULT, ROWS, TENSORS, RunFolder
from descents.data.tables import Table
from descents.descent.runs import Runs, Status
from descents.estimators.networks import MLPStartsClassifier, MLPStartsRegressor
from descents.estimators.training import OPTIMIZERS
from descents.problems.batches import Folds, HoldOut
from descents.problems.features import Features, Target
from descents.problems.network import WEIGHTS
from descents.studies.asked import Data, environment

MODEL = "model.safetensors"
CURVES = 40
"""At how many epochs the losses of all starts are written down."""
NEAR_BEST = 0.02
"""A start succeeds when its metric is within this of the best start's."""
PRECISION = 0.005
"""For which half width of the mean's interval the number of starts is told."""
MOST_DIAGNOSED = 40
"""How many starts that fall short are diagnosed in each setting at most."""
LONGER = 10
"""For how many times the epochs those are trained on."""
MOST_DRAWS = 100
"""Up to how many draws the expected best is told."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Setting:
    """One of the settings that are compared.

    Attributes
    ----------
    name : str
        The setting in a word: what tells it from the others.
    initialization, optimizer : str
    learning_rate : float
    """

    name: str
    initialization: str
    optimizer: str
    learning_rate: float


@dataclass(frozen=True)
class Options:
    """What is asked of `train`.

    Attributes
    ----------
    target : str
    task : {"auto", "classification", "regression"}
    starts, epochs, seed : int
    hidden : tuple of int
    activation : str
    initializations, optimizers : tuple of str
        Several are compared, each with each.
    learning_rates : tuple of float
    batch_size : int, None or "auto"
        None is all rows; "auto" is a tenth of the training rows, from 16 to 128.
    weight_decay, dropout : float
    validation : str
        "none", a share, or "folds=K".
    early_stopping : int or None
    metric : str or None
        By default the validation score, or without held-out rows the training score.
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
    metric: str | None = None
    seed: int = 0
    device: str = "cpu"

    def settings(self) -> list[Setting]:
        """Return every combination that is to be run, each once."""
        complaints = Complaints()
        for name in self.initializations:
            complaints.attempt(one_of, "--init", name, WEIGHTS)
        for name in self.optimizers:
            complaints.attempt(one_of, "--optimizer", name, OPTIMIZERS)
        complaints.raise_any()
        options = (self.initializations, self.optimizers, self.learning_rates)
        varied = [len(set(option)) > 1 for option in options]
        varied[0] = varied[0] or not any(varied)
        found = []
        for each in dict.fromkeys(itertools.product(*options)):
            words = (each[0], each[1], f"{each[2]:g}")
            kept = [word for word, told in zip(words, varied, strict=True) if told]
            found.append(Setting("-".join(kept), *each))
        return found

    def held_out(self) -> HoldOut | Folds | None:
        """Return which rows are held out.

        Raises
        ------
        InvalidValueError
            When `validation` says neither a share nor folds.
        """
        text = self.validation.strip().lower()
        if text == "none":
            return None
        try:
            if text.startswith("folds="):
                return Folds(int(text.removeprefix("folds=")))
            share, _, repeats = text.partition("x")
            return HoldOut(float(share), int(repeats or 1))
        except ValueError as error:
            raise InvalidValueError(
                f"--validation is {self.validation!r} ({error}); give none, a share such "
                "as 0.33, a share and how often, 0.33x5, or folds=5"
            ) from None


class FolderStore:
    """Keeps finished chunks of starts in a run folder."""

    def __init__(self, folder: RunFolder, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix

    def _path(self, name: str) -> Path:
        return self._folder.stage(f"{self._prefix}-{name}.safetensors")

    def get(self, name: str) -> Runs | None:
        """Return a chunk, None where there is none that can be read."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            return Runs.load(path)
        except RunFolderError:  # a damaged one is run again
            return None

    def put(self, name: str, runs: Runs) -> None:
        """Keep a finished chunk."""
        runs.save(self._path(name))


@dataclass(frozen=True)
class Prepared:
    """A table as a network takes it.

    Attributes
    ----------
    X : float32 ndarray of shape (rows, features)
    y : ndarray of shape (rows,)
    features : Features
    target : Target
    without_target : int
        How many rows were left out.
    """

    X: np.ndarray
    y: np.ndarray
    features: Features
    target: Target
    without_target: int


def prepared(data: Data, options: Options) -> Prepared:
    """Return features and target of a table.

    Raises
    ------
    InvalidValueError
        When the target is not there, cannot be foretold, or nothing is left to learn
        from.
    """
    table = data.values
    if not isinstance(table, Table):
        raise InvalidValueError(
            "train needs a table whose columns have names, but this one is sparse; give "
            "CSV, TSV or Parquet"
        )
    column = table.column(options.target)
    target, values = Target.of_column(column, options.task)
    kept = ~np.isnan(values)
    learned = _rows(table, kept)
    features = Features.of_table(learned, options.target)
    X = features.encoded(learned).astype(np.float32)
    if target.classes:
        y = values[kept].astype(np.int64)
        counts = np.bincount(y)
        if len(y) < 2 * len(counts):
            raise InvalidValueError(
                f"there are {len(y)} rows for {len(counts)} classes; give two rows of "
                "each at least, or --task regression"
            )
    else:
        y = ((values[kept] - target.center) / target.spread).astype(np.float32)
    return Prepared(X, y, features, target, int((~kept).sum()))


def _rows(table: Table, kept: np.ndarray) -> Table:
    """Return some rows of a table, to be looked at only."""
    columns = tuple(replace(c, values=c.values[kept]) for c in table.columns)
    return replace(table, columns=columns)


@dataclass(frozen=True)
class Found:
    """What came of it, as a run stores it."""

    result: dict[str, Any]
    models: dict[str, Any]
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]

    def write(self, folder: RunFolder) -> None:
        """Write everything but the page into the work of a run folder."""
        folder.write_json(RESULT, self.result)
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {})
        self.models[self.result["best"]["setting"]].save(folder.work / MODEL)


def train(
    data: Data,
    options: Options,
    run: Mapping[str, Any],
    *,
    folder: RunFolder | None = None,
    threads: int = 1,
    workers: int = 1,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> Found:
    """Train the network from many starts, in every setting, and compare.

    Parameters
    ----------
    data : Data
    options : Options
    run : mapping
        The identity of the run.
    folder : RunFolder, optional
        Where finished chunks of starts are kept, and taken from.
    threads, workers : int
        Chunks side by side, on threads or on processes.
    max_seconds : float, optional
    progress : callable, optional
        ``progress(what, share)``.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message; when every start of a setting failed.
    InterruptedRunError
        When time ended, or the user interrupted; finished chunks are kept.
    """
    begun = time.perf_counter()
    settings = options.settings()
    held_out = options.held_out()
    given = prepared(data, options)
    marks = np.unique(
        np.linspace(0, options.epochs, min(CURVES, options.epochs + 1)).astype(int)
    )
    models: dict[str, Any] = {}
    judged: dict[str, dict[str, Any]] = {}
    for place, setting in enumerate(settings):
        model = _model(given, options, setting, held_out)
        model._record, model._threads, model._workers = marks.tolist(), threads, workers
        if max_seconds is not None:
            left = max_seconds - (time.perf_counter() - begun)
            model._max_seconds = max(left, 0.0)
        if folder is not None:
            model._store = FolderStore(folder, setting.name)
        if progress is not None:
            model._watch = _watch(progress, setting.name, place, len(settings), model)
        model.fit(given.X, given.y)
        if model.runs_.interrupted:
            raise InterruptedRunError(f"stopped in the setting {setting.name}")
        models[setting.name] = model
        judged[setting.name] = _diagnosed(model)
    if progress is not None:
        progress("judging", 0.95)
    result = _result(given, data, options, run, settings, models)
    for facts in result["settings"]:
        facts.update(judged[facts["name"]])
    result["seconds"] = time.perf_counter() - begun
    return Found(
        result, models, _starts(settings, models), _tensors(result, models, marks)
    )


def _watch(
    progress: Progress, name: str, place: int, count: int, model: Any
) -> Callable[[np.ndarray, int, np.ndarray], None]:
    ended: set[int] = set()

    def watch(starts: np.ndarray, step: int, losses: np.ndarray) -> None:
        splits = getattr(
            model.validation, "count", getattr(model.validation, "repeats", 1)
        )
        if step >= model.max_epochs:
            ended.update(int(k) for k in starts)
        share = min(1.0, len(ended) / (model.n_starts * splits))
        progress(name, 0.93 * (place + share) / count)

    return watch


def _model(
    given: Prepared, options: Options, setting: Setting, held_out: Any
) -> MLPStartsClassifier | MLPStartsRegressor:
    kind: Any = MLPStartsClassifier if given.target.classes else MLPStartsRegressor
    second_order = setting.optimizer == "lbfgs"
    batch = options.batch_size
    if batch == "auto":
        batch = int(np.clip(len(given.y) // 10, 16, 128))
    model: MLPStartsClassifier | MLPStartsRegressor = kind(
        options.hidden,
        activation=options.activation,
        initialization=setting.initialization,
        optimizer=setting.optimizer,
        learning_rate=setting.learning_rate,
        max_epochs=options.epochs,
        batch_size=None if second_order else batch,
        weight_decay=options.weight_decay,
        dropout=0.0 if second_order else options.dropout,
        validation=held_out,
        early_stopping=options.early_stopping,
        n_starts=options.starts,
        random_state=options.seed,
        device=options.device,
    )
    return model


def _result(
    given: Prepared,
    data: Data,
    options: Options,
    run: Mapping[str, Any],
    settings: Sequence[Setting],
    models: Mapping[str, Any],
) -> dict[str, Any]:
    first = models[settings[0].name]
    metric = options.metric or first.metric_
    values = {name: model.values(metric) for name, model in models.items()}
    higher = _higher_is_better(metric)
    tops = {n: np.nanmax(v) if higher else np.nanmin(v) for n, v in values.items()}
    best_value = max(tops.values()) if higher else min(tops.values())
    near = NEAR_BEST * (1 if higher else abs(best_value))
    threshold = float(best_value - near if higher else best_value + near)
    facts = [
        _setting_facts(s, models[s.name], values[s.name], threshold, higher)
        for s in settings
    ]
    ranked = sorted(facts, key=lambda f: f["metric"]["mean"], reverse=higher)
    best = ranked[0]["name"]
    model = models[best]
    left = (
        [f"{given.without_target} rows without a target were left out"]
        if given.without_target
        else []
    )
    table = model.table()
    position = model.best_
    score = model.metric_.split("_", 1)[1]
    return {
        "run": run,
        "read": [*data.notes, *given.features.notes],
        "warnings": left,
        "task": given.target.task,
        "why": given.target.why,
        "target": {
            "name": given.target.name,
            "center": given.target.center,
            "spread": given.target.spread,
        },
        "rows": len(given.y),
        "rows_without_target": given.without_target,
        "classes": list(given.target.classes) or None,
        "features": given.features.labels,
        "encoding": given.features.described(),
        "hidden": list(options.hidden),
        "starts": options.starts,
        "splits": len(model.problem_.batches.splits),
        "epochs": options.epochs,
        "batch_size": model.batch_size,
        "metric": metric,
        "higher_is_better": higher,
        "success_threshold": threshold,
        "settings": facts,
        "compared": _compared(ranked, values, higher),
        "variance": model.variance(metric),
        "expected_best": _expected_best(values[best], higher),
        "starts_needed": _needed(values[best]),
        "best": {
            "setting": best,
            "start": int(table["start"][position]),
            "split": int(table["split"][position]),
            "loss": float(table["loss"][position]),
            "training": float(table[f"training_{score}"][position]),
            "validation": (
                float(table[f"validation_{score}"][position])
                if f"validation_{score}" in table
                else None
            ),
            "epochs": int(table.get("best_epoch", table["epochs"])[position]),
        },
        "environment": environment(),
        "seconds": 0.0,
    }


def _diagnosed(model: Any) -> dict[str, Any]:
    """Return how many starts have each verdict, and an example of each.

    Of the starts that fall short of what the best reach, the first so many are
    diagnosed, as each is trained on for ten times its epochs.
    """
    runs = model.runs_
    metric = model.metric_.replace("validation", "training")
    threshold = reached_by_the_best(model.problem_, runs, metric)
    short = ~(runs.metrics[metric] >= threshold) | ~np.isfinite(runs.losses)
    kept = ~short
    kept[np.flatnonzero(short)[:MOST_DIAGNOSED]] = True
    chosen = np.flatnonzero(kept)
    found = model.diagnose(runs.starts[chosen].tolist(), multiples=[LONGER])
    examples = {}
    for row, verdict in enumerate(found.verdicts):
        if verdict.word not in examples:
            examples[verdict.word] = {
                "start": int(runs.starts[chosen[row]]),
                "says": verdict.value,
                "training": float(found.metric[0, row]),
                "gradient_ratio": float(found.gradient_ratio[row]),
                "dead_share": float(found.dead_share[row]),
            }
    return {
        "verdicts": {word: count for word, count in found.counts().items() if count},
        "short": int(short.sum()),
        "diagnosed": int(min(short.sum(), MOST_DIAGNOSED)),
        "reached": float(threshold),
        "examples": examples,
    }


def _higher_is_better(metric: str) -> bool:
    return "loss" not in metric and metric != "gradient_norm"


def _generator() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(0))


def _setting_facts(
    setting: Setting, model: Any, values: np.ndarray, threshold: float, higher: bool
) -> dict[str, Any]:
    """Return what the starts of one setting tell."""
    finite = values[np.isfinite(values)]
    found = statistics.summary(finite, _generator())
    # A failed start is no success, and counts.
    worst = -np.inf if higher else np.inf
    reached = np.where(np.isfinite(values), values, worst)
    good = int(((reached >= threshold) if higher else (reached <= threshold)).sum())
    words = [status.word for status in model.runs_.statuses]
    return {
        **asdict(setting),
        "metric": {
            "count": found.count,
            "failed": int(len(values) - found.count),
            "mean": found.mean,
            "interval": [found.low, found.high],
            "standard_deviation": found.standard_deviation,
            "minimum": found.minimum,
            "quartiles": [found.lower_quartile, found.median, found.upper_quartile],
            "maximum": found.maximum,
            "success": {
                "share": good / len(values),
                "interval": list(compare.wilson_interval(good, len(values))),
            },
        },
        "statuses": {s.word: words.count(s.word) for s in Status if s.word in words},
    }


def _compared(
    ranked: Sequence[Mapping[str, Any]], values: Mapping[str, np.ndarray], higher: bool
) -> list[dict[str, Any]]:
    """Compare the best setting with each other one, start by start."""
    best = ranked[0]["name"]
    found = [
        {
            "setting": best,
            "against": other["name"],
            **facts_of(
                compared_values(values[best], values[other["name"]], True, higher)
            ),
        }
        for other in ranked[1:]
    ]
    if found:
        adjusted = compare.holm([each["p_value"] for each in found])
        for each, p in zip(found, adjusted, strict=True):
            each["p_adjusted"] = float(p)
    return found


def compared_values(
    first: np.ndarray, second: np.ndarray, paired: bool, higher: bool
) -> differences.Comparison:
    """Compare a metric of two sets of starts, those that failed left out."""
    if paired:
        kept = np.isfinite(first) & np.isfinite(second)
        first, second = first[kept], second[kept]
    else:
        first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    return differences.compared(
        first, second, paired=paired, generator=_generator(), higher_is_better=higher
    )


def facts_of(comparison: differences.Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    return {
        "difference": comparison.difference,
        "interval": [comparison.low, comparison.high],
        "probability_of_improvement": comparison.probability_of_improvement,
        "improvement_interval": [
            comparison.improvement_low,
            comparison.improvement_high,
        ],
        "p_value": comparison.p_value,
        "paired": comparison.paired,
    }


def _expected_best(values: np.ndarray, higher: bool) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    most = min(MOST_DRAWS, len(finite))
    draws = np.unique(np.geomspace(1, most, 30).astype(int))
    best, low, high = planning.expected_best_interval(
        finite, draws, higher_is_better=higher
    )
    return {"draws": draws, "best": best, "low": low, "high": high}


def _needed(values: np.ndarray) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    count = planning.starts_needed(finite, PRECISION) if len(finite) > 1 else None
    return {"precision": PRECISION, "count": count}


def _starts(
    settings: Sequence[Setting], models: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return a row for each setting, start and split."""
    tables = [models[setting.name].table() for setting in settings]
    shared = [n for n in tables[0] if all(n in table for table in tables)]
    names = np.repeat([s.name for s in settings], [len(t["start"]) for t in tables])
    columns = {n: np.concatenate([table[n] for table in tables]) for n in shared}
    return {"setting": names, **columns}


def _tensors(
    result: Mapping[str, Any], models: Mapping[str, Any], marks: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what the pictures are drawn from."""
    model = models[result["best"]["setting"]]
    history = model.runs_.histories["loss"]
    return {
        "epochs": marks,
        "history_loss": history,
        "failed": ~np.isfinite(model.runs_.losses),
        **{f"values/{name}": m.values(result["metric"]) for name, m in models.items()},
    }


@dataclass(frozen=True)
class Trained:
    """A stored network with what its table was made into.

    Attributes
    ----------
    model : MLPStartsClassifier or MLPStartsRegressor
    features : Features
    target : dict
    classes : list or None
    """

    model: Any
    features: Features
    target: Mapping[str, Any]
    classes: list[Any] | None

    def apply(self, data: Data) -> dict[str, Any]:
        """Return what is foretold of new rows, a column for each fact."""
        if not isinstance(data.values, Table):
            raise InvalidValueError(
                "the model needs a table whose columns have names, but this one is "
                "sparse; give CSV, TSV or Parquet"
            )
        X = self.features.encoded(data.values).astype(np.float32)
        found: dict[str, Any] = {"row": list(data.row_names)}
        if self.classes is None:
            numbers = self.model.predict(X) * self.target["spread"]
            found[self.target["name"]] = numbers + self.target["center"]
            return found
        chances = self.model.predict_proba(X)
        chosen = chances.argmax(1)
        found[self.target["name"]] = [str(self.classes[code]) for code in chosen]
        for code, name in enumerate(self.classes):
            found[f"probability_{name}"] = chances[:, code]
        return found


def load(folder: str | Path) -> Trained:
    """Return the network of a stored run.

    Raises
    ------
    RunFolderError
        When the folder holds no complete run.
    """
    folder = folder_path(folder)
    result = storage.read_json(folder / RESULT)
    kind: Any = MLPStartsClassifier if result["classes"] else MLPStartsRegressor
    return Trained(
        kind.load(folder / MODEL),
        Features.restored(result["encoding"]),
        result["target"],
        result["classes"],
    )


def compare_runs(
    first: str | Path, second: str | Path, metric: str | None = None
) -> dict[str, Any]:
    """Compare the best settings of two stored runs.

    Starts are compared in pairs where both runs have the same numbers of starts, seed
    and validation.

    Raises
    ------
    RunFolderError
        When a folder holds no complete run of train.
    InvalidValueError
        When the metric is not in both.
    """
    sides = [_side(folder, metric) for folder in (first, second)]
    (one, values, a), (two, others, b) = sides
    if one["metric"] != two["metric"] and metric is None:
        raise InvalidValueError(
            f"the runs are judged by {one['metric']} and {two['metric']}; give --metric "
            "one that both have"
        )
    same = ("starts", "splits", "rows", "target")
    paired = all(one[n] == two[n] for n in same) and all(
        one["run"]["options"][n] == two["run"]["options"][n]
        for n in ("seed", "validation")
    )
    paired = paired and one["run"]["sha256"] == two["run"]["sha256"]
    name = metric or one["metric"]
    higher = _higher_is_better(name)
    found = compared_values(values, others, paired, higher)
    return {
        "runs": [str(first), str(second)],
        "settings": [a, b],
        "metric": name,
        "means": [float(np.nanmean(values)), float(np.nanmean(others))],
        "starts": [len(values), len(others)],
        **facts_of(found),
    }


def _side(
    folder: str | Path, metric: str | None
) -> tuple[dict[str, Any], np.ndarray, str]:
    folder = folder_path(folder)
    result = storage.read_json(folder / RESULT)
    run = result.get("run")
    if not isinstance(run, dict) or run.get("command") != "train":
        raise InvalidValueError(
            f"{folder} holds no run of 'descents train'; give the folder of one"
        )
    rows = storage.read_table(folder / ROWS)
    name = metric or result["metric"]
    numbers = [n for n, v in rows.items() if v.dtype.kind in "biuf"]
    one_of("--metric", name, numbers)
    setting = result["best"]["setting"]
    chosen = rows["setting"] == setting
    values = np.where(
        np.isfinite(rows["loss"][chosen]), rows[name][chosen].astype(float), np.nan
    )
    return result, values.reshape(-1, result["splits"]).mean(1), setting
