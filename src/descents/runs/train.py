"""`descents train`: train a network on a table from many starts, and compare the starts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from descents.diagnosis.diagnosis import reached_by_the_best
from descents.errors import Complaints, InvalidValueError, RunFolderError
from descents.networks.batches import Folds, HoldOut
from descents.networks.cautions import (
    lone_classes,
    lone_sentence,
    undefined_sentences,
)
from descents.networks.estimators import estimator_of
from descents.networks.features import Features, Target
from descents.networks.fitted import Fitted
from descents.networks.fitting import Job, fit_all
from descents.networks.network import WEIGHTS
from descents.networks.rows import labeled_rows
from descents.networks.setting_names import word_of
from descents.networks.settings import OPTIMIZERS, Settings
from descents.networks.sweep_result import SweepResult, constant_loss, judged
from descents.optim.chunk import Watch
from descents.optim.control import RunControl
from descents.optim.runs import Runs, Status
from descents.runs.network_result import (
    BestStart,
    ComparedSettings,
    Curve,
    Encoding,
    Ends,
    Example,
    ExpectedBest,
    LevelOfOption,
    MetricOfStarts,
    NetworkResult,
    OptionEffect,
    Profile,
    SettingResult,
    StartsNeeded,
    StartsOfSetting,
    Success,
    TargetColumn,
    Variance,
    facts_of,
)
from descents.runs.request import Data, environment
from descents.runs.results import Environment, Formats, Run
from descents.statistics import confidence, planning
from descents.statistics import summaries as statistics
from descents.statistics.simultaneous import FEWEST_FLIPPED
from descents.storage import folders as storage
from descents.storage.folders import RESULT, ROWS, TENSORS, RunFolder
from descents.storage.results import of_json
from descents.tables.tables import Column, Table
from descents.text import counted
from descents.validation import one_of

MODEL = "model.safetensors"
CURVES = 40
"""The number of epochs at which the losses of all starts are recorded."""
NEAR_BEST = 0.02
"""The distance from the best start's metric within which a start counts as near the best.
For a loss, it is a share of the loss of the best constant answer."""
PRECISION = 0.005
"""The half width of the mean's interval for which the number of starts is computed."""
MOST_DIAGNOSED = 40
"""The default number of starts below the threshold that are diagnosed in each setting."""
WORTH_A_VERDICT = 0.1
"""Verdicts mean little if the best start gains less than this share of what can be gained
over no learning."""
LONGER = 10
"""Diagnosed starts are trained for this many times the epochs."""
PROFILE = 60
"""The number of thresholds in a performance profile."""
MOST_DRAWS = 100
"""The largest number of draws for which the expected best is computed."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Setting:
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
    def chosen(self) -> dict[str, Any]:
        """The value of each option in which settings may differ."""
        return {n: v for n, v in vars(self).items() if n != "name"}


@dataclass(frozen=True)
class Options:
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

    def settings(self) -> list[Setting]:
        """Return every combination of the options, without duplicates."""
        complaints = Complaints()
        for name in self.initializations:
            complaints.attempt(one_of, "--init", name, WEIGHTS)
        for name in self.optimizers:
            complaints.attempt(one_of, "--optimizer", name, OPTIMIZERS)
        complaints.raise_any()
        options = (self.initializations, self.optimizers, self.learning_rates)
        varied = [len(set(option)) > 1 for option in options]
        varied[0] = varied[0] or not any(varied)
        settings = []
        for values in dict.fromkeys(itertools.product(*options)):
            words = (values[0], values[1], word_of(values[2]))
            name = "-".join(itertools.compress(words, varied))
            settings.append(Setting(name, *values))
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
        except ValueError as error:
            raise InvalidValueError(
                f"--validation is {self.validation!r} ({error}); give none, a share such "
                "as 0.33, a share and the number of splits, such as 0.33x5, or folds=5"
            ) from None


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
class Prepared:
    """A table as arrays for a network.

    Attributes
    ----------
    X : float32 ndarray of shape (rows, features)
    y : ndarray of shape (rows,)
    features : Features
    target : Target
    without_target : int
        The number of rows that were left out because their target is missing.
    single : tuple of str
        The classes that have only one row.
    weights : ndarray of shape (rows,) or None
    """

    X: np.ndarray
    y: np.ndarray
    features: Features
    target: Target
    without_target: int
    single: tuple[str, ...] = ()
    weights: np.ndarray | None = None


def prepared(data: Data, options: Options) -> Prepared:
    """Return features and target of a table.

    Raises
    ------
    InvalidValueError
        If the target column is missing or cannot be predicted, if no rows or features
        remain, or if the weight column contains invalid weights.
    """
    table = data.values
    if not isinstance(table, Table):
        raise InvalidValueError(
            "train needs a table with column names, but this one is sparse; give CSV, TSV "
            "or Parquet"
        )
    column = table.column(options.target)
    target, values = Target.of_column(column, options.task)
    has_target = ~np.isnan(values)
    weights = None
    if options.weights is not None:
        weights = row_weights(table.column(options.weights), has_target)
        rest = (c for c in table.columns if c.name != options.weights)
        table = replace(table, columns=tuple(rest))
    training = _rows(table, has_target)
    features = Features.of_table(training, options.target)
    X = features.encoded(training).astype(np.float32)
    single: tuple[str, ...] = ()
    if target.classes:
        y = values[has_target].astype(np.int64)
        counts = np.bincount(y)
        if len(y) < 2 * len(counts):
            raise InvalidValueError(
                f"there are {counted(len(y), 'row')} for "
                f"{counted(len(counts), 'class', 'classes')}; give at least two rows of "
                "each class, or --task regression"
            )
        single = tuple(str(target.classes[code]) for code in np.flatnonzero(counts < 2))
    else:
        y = ((values[has_target] - target.center) / target.spread).astype(np.float32)
    missing = int((~has_target).sum())
    return Prepared(X, y, features, target, missing, single, weights)


def row_weights(column: Column, kept: np.ndarray) -> np.ndarray:
    """Return the weights of the kept rows from the weight column.

    Raises
    ------
    InvalidValueError
        If the weight of a kept row is not a number of at least 0, or all weights are 0.
    """
    name = f"column {column.name!r} (--weights)"
    if column.kind != "number":
        raise InvalidValueError(
            f"{name} is {column.says}; give a column of numbers of at least 0"
        )
    weights = np.asarray(column.values, np.float64)
    wrong = np.flatnonzero(kept & ~(weights >= 0))
    if len(wrong):
        first = weights[wrong[0]]
        cell = "a missing cell" if np.isnan(first) else f"{first:g}"
        raise InvalidValueError(
            f"{name} has {cell} in row {wrong[0] + 1} (1-based), and in total "
            f"{counted(len(wrong), 'row')} without a weight of at least 0; give every row "
            "with a target a weight, 0 to leave it out"
        )
    if not weights[kept].any():
        raise InvalidValueError(
            f"{name} is 0 in all rows with a target; give some of them a weight above 0"
        )
    return weights[kept]


def _rows(table: Table, kept: np.ndarray) -> Table:
    """Return some rows of a table; the result must not be changed."""
    places = np.flatnonzero(kept)
    columns = tuple(
        replace(
            column,
            values=column.values[kept],
            cells=None if column.cells is None else column.cells.take(places),
        )
        for column in table.columns
    )
    return replace(table, columns=columns)


@dataclass(frozen=True)
class Found:
    """The result of `train`, as a run stores it."""

    result: NetworkResult
    study: SweepResult
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]

    def write(self, folder: RunFolder) -> None:
        """Write everything but the page into a run folder."""
        folder.write_json(RESULT, self.result)
        folder.write_table(ROWS, self.rows)
        folder.write_tensors(TENSORS, self.tensors, {})
        self.study.best_model.save(folder.work / MODEL)


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
    """Train the network from many starts in every setting, and compare the settings.

    Parameters
    ----------
    data : Data
    options : Options
    run : mapping
        The identity of the run.
    folder : RunFolder, optional
        Stores finished chunks of starts; chunks that it already contains are not
        computed again.
    threads, workers : int
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
    settings = options.settings()
    held_out = options.held_out()
    given = prepared(data, options)
    chosen = [_settings_of(given, options, one, held_out) for one in settings]
    if options.metric is not None:
        one_of("--metric", options.metric, chosen[0].metric_names)
    rows = labeled_rows(given.X, given.y, given.target.task, given.weights)
    limit = None if max_seconds is None else time.monotonic() + max_seconds
    marks = np.unique(
        np.linspace(0, options.epochs, min(CURVES, options.epochs + 1)).astype(int)
    )
    ended: set[tuple[str, int]] = set()
    jobs = []
    for setting, one in zip(settings, chosen, strict=True):
        watch = None
        if progress is not None:
            watch = _watch(progress, setting.name, len(settings), one, ended)
        control = RunControl(tuple(marks.tolist()), watch, max_seconds, workers)
        store = None if folder is None else FolderStore(folder, setting.name)
        jobs.append(Job(one, control, threads, store))
    fits = fit_all(rows, jobs)
    if not any(fitted.usable for fitted in fits):
        raise InvalidValueError(_hopeless(options))
    ends = []
    for place, setting in enumerate(settings):
        if progress is not None:
            progress(f"diagnosing {setting.name}", 0.8 + 0.15 * place / len(settings))
        left = None if limit is None else max(0.0, limit - time.monotonic())
        fits[place], end = _ends(
            fits[place], folder, setting.name, options.diagnosed, left, threads
        )
        ends.append(end)
    if progress is not None:
        progress("judging", 0.95)
    study = judged(
        [setting.chosen for setting in settings],
        [setting.name for setting in settings],
        [estimator_of(fitted) for fitted in fits],
        options.metric,
    )
    result = _result(given, data, options, run, study, ends, begun)
    return Found(result, study, study.table(), _tensors(study, marks))


def _watch(
    progress: Progress,
    name: str,
    count: int,
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
    options: Options,
    setting: Setting,
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


def _result(
    given: Prepared,
    data: Data,
    options: Options,
    run: Mapping[str, Any],
    study: SweepResult,
    ends: Sequence[Ends],
    begun: float,
) -> NetworkResult:
    metric, higher = study.metric, study.higher_is_better
    values, failed = study.values(), study.failed()
    effects, why_not = _effects(study)
    constant = max(constant_loss(one, metric) for one in study.models)
    threshold = success_threshold(values, higher, constant)
    best, model = study.best, study.best_model
    settings = [
        SettingResult(**vars(starts), **vars(end))
        for starts, end in zip(
            _settings(study, options.settings(), threshold), ends, strict=True
        )
    ]
    warnings = [*_warnings(given, options, study), *why_not, *_weak_verdicts(settings)]
    formats = data.formats()
    return NetworkResult(
        run=Run(**run),
        read=[*data.notes, *given.features.notes],
        formats=None if formats is None else Formats(**formats),
        warnings=warnings,
        task=given.target.task,
        why=given.target.why,
        target=TargetColumn(
            name=given.target.name,
            center=given.target.center,
            spread=given.target.spread,
        ),
        rows=len(given.y),
        rows_without_target=given.without_target,
        classes=list(given.target.classes) or None,
        features=given.features.labels,
        encoding=[Encoding(**facts) for facts in given.features.described()],
        hidden=list(options.hidden),
        starts=options.starts,
        splits=model.splits_,
        epochs=options.epochs,
        batch_size=model.batch_size,
        metric=metric,
        higher_is_better=higher,
        success_threshold=threshold,
        settings=settings,
        compared=_compared(study),
        effects=effects,
        profile=_profile(study),
        variance=Variance(**model.variance(metric)),
        expected_best=_expected_best(study.counted_values()[best], higher),
        starts_needed=_needed(values[best], failed[best]),
        best=_best_start(study, values[best], failed[best]),
        environment=Environment(**environment()),
        seconds=time.perf_counter() - begun,
    )


def _best_start(
    study: SweepResult, values: np.ndarray, failed: np.ndarray
) -> BestStart:
    """Return the best start of the best setting, whose values are given."""
    model = study.best_model
    table, position = model.table(), model.best_
    start = int(table["start"][position])
    score = model.fitted_.settings.score
    validation = table.get(f"validation_{score}")
    return BestStart(
        setting=study.names[study.best],
        count=int(np.isfinite(values).sum()),
        failed=int(failed.sum()),
        start=start,
        split=int(table["split"][position]),
        mean=float(values[start]),
        loss=float(table["loss"][position]),
        training=float(table[f"training_{score}"][position]),
        validation=None if validation is None else float(validation[position]),
        epochs=int(table.get("best_epoch", table["epochs"])[position]),
    )


def _warnings(given: Prepared, options: Options, study: SweepResult) -> list[str]:
    found = []
    if given.without_target:
        were = "was" if given.without_target == 1 else "were"
        found.append(
            f"{counted(given.without_target, 'row')} without a target {were} left out"
        )
    if given.single:
        count = counted(len(given.single), "class", "classes")
        found.append(
            f"{count} of one row alone ({', '.join(given.single)}): what is learned from "
            "such a row is not tested on another row"
        )
    found += _cautions(given, study)
    if "lbfgs" in options.optimizers:
        unused = [
            f"--{name}"
            for name, used in (
                ("batch-size", isinstance(options.batch_size, int)),
                ("dropout", options.dropout > 0),
            )
            if used
        ]
        if unused:
            found.append(
                f"lbfgs uses all rows and units at every step, so it ignored "
                f"{' and '.join(unused)}"
            )
    found += [*_undefined(study, options), *study.warnings()]
    return [*found, *_few_starts(study)]


def _hopeless(options: Options) -> str:
    """Return the message for the case that every start of every setting failed."""
    failure = "the loss of every start became infinite or NaN"
    if set(options.optimizers) == {"lbfgs"}:
        return f"{failure}; give another --init or another --optimizer"
    rates = ", ".join(f"{rate:g}" for rate in options.learning_rates)
    return f"{failure} with --learning-rate {rates}; give a smaller one"


def _undefined(study: SweepResult, options: Options) -> list[str]:
    """Return warnings about undefined scores, and what ranks the settings instead."""
    model, warnings = study.best_model, []
    judge = "validation_loss" if options.validation != "none" else "loss"
    score = model.fitted_.settings.score
    names = [f"validation_{score}", f"training_{score}", options.metric]
    for name in dict.fromkeys(name for name in names if name is not None):
        if name not in model.metric_names():
            continue
        missing = model.undefined_splits(name)
        remedy = ""
        if missing == model.splits_ and name == (options.metric or model.metric_):
            remedy = (
                f"; settings are ranked by {judge} instead. Hold out more rows, or give "
                f"--metric {judge}"
            )
        sentences = undefined_sentences(name, missing, model.splits_)
        warnings += [sentence + remedy for sentence in sentences]
    return warnings


def _few_starts(study: SweepResult) -> list[str]:
    """Warn if settings are compared over too few starts."""
    counts = [found.first_count for _, found, _ in study.compared()]
    if not counts or min(counts) >= FEWEST_FLIPPED:
        return []
    fewest = min(counts)
    return [
        f"settings are compared over {counted(fewest, 'start')}: with fewer than "
        f"{FEWEST_FLIPPED} the intervals of their differences cover less often than 95%, "
        "about 92% if the spreads of settings differ, and no p-value can be below "
        f"{min(1.0, 2.0 ** (1 - fewest)):.2g}; give --starts {FEWEST_FLIPPED} or more"
    ]


def success_threshold(values: np.ndarray, higher: bool, constant: float = 0.0) -> float:
    """Return the value that counts as near the best; NaN if no start has a value.

    Parameters
    ----------
    values : ndarray
    higher : bool
        Whether larger values are better.
    constant : float
        The loss of the best constant answer. The distance from the best loss is measured
        relative to it, because a share of the best loss itself means nothing if that is
        near 0. In regression, the loss and R^2 then count the same starts. For metrics
        that are not a loss, give 0; the distance is then relative to the best value.

    Examples
    --------
    >>> round(success_threshold(np.array([0.9, 0.5]), True), 3)
    0.88
    >>> round(success_threshold(np.array([1e-6, 0.5]), False, 0.7), 4)
    0.014
    """
    if not np.isfinite(values).any():
        return float("nan")
    best = float(np.nanmax(values) if higher else np.nanmin(values))
    return best - NEAR_BEST if higher else best + NEAR_BEST * (constant or abs(best))


def _cautions(given: Prepared, study: SweepResult) -> list[str]:
    """Warn about classes that are not tested, and if no setting beats a constant."""
    fits = [model.fitted_ for model in study.models if model.fitted_.usable]
    names = [str(name) for name in given.target.classes or ()]
    lone = [names[code] for code in lone_classes(fits[0].problem)]
    warnings = [lone_sentence(lone)] if set(lone) - set(given.single) else []
    records = [record for one in fits if (record := one.unbeaten()) is not None]
    if len(records) == len(fits):
        best = max(records, key=lambda record: record.margin)
        answer, remedy = "the mean", "give more --epochs, or another --learning-rate"
        if best.answer is not None:
            answer = f"{names[best.answer]!r}, the most frequent class"
            if not best.balanced:
                remedy = (
                    "give more --epochs or another --learning-rate; for rare classes, try "
                    "--class-weight balanced and --metric "
                    f"{best.rows}_balanced_accuracy or roc_auc"
                )
        warnings.append(best.sentence(answer, remedy))
    return warnings


def _ends(
    fitted: Fitted,
    folder: RunFolder | None,
    name: str,
    most: int,
    seconds: float | None,
    threads: int,
) -> tuple[Fitted, Ends]:
    """Return a fit with its verdicts, how many starts have each, and an example of each.

    A start on several splits counts once per split. Of the starts below the threshold,
    the first `most` are diagnosed; each is trained for ten times its epochs. The result
    is stored with the finished chunks.
    """
    stage = None if folder is None else folder.stage(f"{name}-verdicts.json")
    if stage is not None and stage.exists():
        try:
            stored = storage.read_json(stage)
            judged = fitted.with_verdicts(stored["starts"], stored["words"])
            return judged, of_json(Ends, stored["facts"])
        except (RunFolderError, KeyError, ValueError, TypeError):
            pass  # the file is damaged: diagnose again
    runs, splits = fitted.runs, fitted.splits
    metric = f"training_{fitted.settings.score}"
    threshold = reached_by_the_best(fitted.problem, runs, metric)
    finite = np.isfinite(runs.losses)
    short = (runs.metrics[metric] < threshold) | ~finite
    ends = Ends(
        verdicts={},
        short=int(short.sum()),
        diagnosed=int(min(short.sum(), most)),
        # The threshold is lowered by rounding to count starts; show ten digits of it.
        reached=float(f"{threshold:.10g}"),
        baseline=float(fitted.problem.baseline(metric)),
        most=float(np.max(runs.metrics[metric][finite])) if finite.any() else None,
        examples={},
    )
    if not most:
        return fitted, ends
    diagnosed = ~short
    diagnosed[np.flatnonzero(short)[:most]] = True
    chosen = np.flatnonzero(diagnosed)
    diagnosis = fitted.diagnose(
        runs.starts[chosen].tolist(),
        multiples=[LONGER],
        seconds=seconds,
        threads=threads,
    )
    words = [verdict.word for verdict in diagnosis.verdicts]
    examples = {}
    for row, verdict in enumerate(diagnosis.verdicts):
        if verdict.word not in examples:
            examples[verdict.word] = Example(
                start=int(runs.starts[chosen[row]]) // splits,
                split=int(runs.starts[chosen[row]]) % splits,
                says=verdict.value,
                training=float(diagnosis.metric[0, row]),
                gradient_ratio=float(diagnosis.gradient_ratio[row]),
                dead_share=float(diagnosis.dead_share[row]),
            )
    verdicts = {word: count for word, count in diagnosis.counts().items() if count}
    ends = replace(ends, verdicts=verdicts, examples=examples)
    if stage is not None:
        stored = {"starts": diagnosis.starts, "words": words, "facts": ends}
        storage.write_bytes(stage, storage.json_text(stored).encode())
    return fitted.with_verdicts(diagnosis.starts, words), ends


def _weak_verdicts(settings: Sequence[SettingResult]) -> list[str]:
    """Warn if the best start learned too little for the verdicts to mean much."""
    return [
        f"the best start of {s.name} has a training score of {s.most:.3f}, and a "
        f"constant prediction has {s.baseline:.3f}: with so little between them, the "
        "verdicts mean little"
        for s in settings
        if s.verdicts
        and s.most is not None
        and s.most - s.baseline < WORTH_A_VERDICT * (1 - s.baseline)
    ]


def _settings(
    study: SweepResult, settings: Sequence[Setting], threshold: float
) -> list[StartsOfSetting]:
    """Return the statistics of the starts of each setting."""
    values, failed = study.values(), study.failed()
    # A failed start counts, and is not near the best.
    worst = -np.inf if study.higher_is_better else np.inf
    near_best = statistics.reaches(
        np.where(np.isfinite(values), values, worst),
        threshold,
        higher_is_better=study.higher_is_better,
    )
    counted_means = study.counted_values().mean(1)
    found = []
    for place, summary in enumerate(study.summaries()):
        words = [status.word for status in study.models[place].runs_.statuses]
        count, starts = int(near_best[place].sum()), values.shape[1]
        success = Success(share=None, interval=[None, None])
        if np.isfinite(threshold):
            ends = confidence.wilson_interval(count, starts)
            success = Success(share=count / starts, interval=list(ends))
        metric = MetricOfStarts(
            count=0 if summary is None else summary.count,
            failed=int(failed[place].sum()),
            **_summary(summary),
            mean_with_failures=float(counted_means[place]),
            success=success,
        )
        found.append(
            StartsOfSetting(
                **vars(settings[place]),
                metric=metric,
                statuses={
                    s.word: words.count(s.word) for s in Status if s.word in words
                },
            )
        )
    return found


def _summary(summary: statistics.Summary | None) -> dict[str, Any]:
    """Return the statistics of `MetricOfStarts`; none if no start has a value."""
    if summary is None:
        return {}
    return {
        "mean": summary.mean,
        "interval": [summary.low, summary.high],
        "standard_deviation": summary.standard_deviation,
        "minimum": summary.minimum,
        "quartiles": [summary.lower_quartile, summary.median, summary.upper_quartile],
        "quartile_intervals": summary.quartile_intervals,
        "maximum": summary.maximum,
    }


def _compared(study: SweepResult) -> list[ComparedSettings]:
    """Compare the best setting with the others start by start, with simultaneous intervals."""
    return [
        ComparedSettings(
            setting=study.names[study.best],
            against=study.names[other],
            **facts_of(comparison),
            p_adjusted=adjusted,
        )
        for other, comparison, adjusted in study.compared()
    ]


def _effects(study: SweepResult) -> tuple[list[OptionEffect], list[str]]:
    """Return the effects of the options, or a warning that they cannot be estimated."""
    try:
        effects = study.effects()
    except InvalidValueError as error:
        several = len(study.names) > 1
        warning = f"the effects of the options cannot be estimated: {error}"
        return [], [warning] if several else []
    found = [
        OptionEffect(
            parameter=effect.parameter,
            share=effect.share,
            p_value=effect.p_value,
            p_adjusted=effect.p_adjusted,
            count=effect.count,
            levels=[
                LevelOfOption(
                    value=value, mean=mean, difference=gap, interval=list(ends)
                )
                for value, mean, gap, ends in zip(
                    effect.levels,
                    effect.means,
                    effect.differences,
                    effect.intervals,
                    strict=True,
                )
            ],
        )
        for effect in effects
    ]
    return found, []


def _profile(study: SweepResult) -> Profile:
    """Return the share of starts of each setting that reach each threshold."""
    values = study.values()
    if not np.isfinite(values).any():
        empty = Curve(shares=[], low=[], high=[])
        return Profile(thresholds=[], settings=dict.fromkeys(study.names, empty))
    ends = float(np.nanmin(values)), float(np.nanmax(values))
    thresholds = (
        np.linspace(*ends, PROFILE) if ends[0] < ends[1] else np.array(ends[:1])
    )
    # A failed start counts, and gets a value worse than any threshold.
    margin = 1 + max(abs(ends[0]), abs(ends[1]))
    worst = ends[0] - margin if study.higher_is_better else ends[1] + margin
    # A value that equals a threshold up to rounding reaches it.
    rounding = statistics.ROUNDING * max(abs(ends[0]), abs(ends[1]))
    reached = thresholds - rounding if study.higher_is_better else thresholds + rounding
    profiles = {}
    for name, row in zip(study.names, values, strict=True):
        shares, low, high = statistics.performance_profile(
            np.where(np.isfinite(row), row, worst),
            reached,
            higher_is_better=study.higher_is_better,
        )
        profiles[name] = Curve(
            shares=shares.tolist(), low=low.tolist(), high=high.tolist()
        )
    return Profile(thresholds=thresholds.tolist(), settings=profiles)


def _expected_best(values: np.ndarray, higher: bool) -> ExpectedBest:
    """Return the expected best of k starts, with failed starts as the worst."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ExpectedBest(draws=[], best=[], low=[], high=[])
    # With nearly as many draws as starts, the variance of the best is poorly estimated.
    most = min(MOST_DRAWS, max(1, len(finite) // 2))
    draws = np.unique(np.geomspace(1, most, 30).astype(int))
    best, low, high = planning.expected_best_interval(
        finite, draws, higher_is_better=higher
    )
    return ExpectedBest(
        draws=draws.tolist(), best=best.tolist(), low=low.tolist(), high=high.tolist()
    )


def _needed(values: np.ndarray, failed: np.ndarray) -> StartsNeeded:
    """Return the number of starts, failing ones included, that the precision needs."""
    finite = values[np.isfinite(values)]
    count = None
    if len(finite) > 1:
        share = 1 - float(failed.mean())
        count = int(np.ceil(planning.starts_needed(finite, PRECISION) / share))
    return StartsNeeded(precision=PRECISION, count=count)


def _tensors(study: SweepResult, marks: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays that the figures are drawn from."""
    runs = study.best_model.runs_
    values = zip(study.names, study.values(), strict=True)
    return {
        "epochs": marks,
        "history_loss": runs.histories["loss"],
        "failed": ~np.isfinite(runs.losses),
        **{f"values/{name}": row for name, row in values},
    }
