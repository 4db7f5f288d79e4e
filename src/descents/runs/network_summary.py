"""The starts of `descents train`, summarized: statistics, comparisons and curves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from descents.errors import InvalidValueError
from descents.networks.fitted import Fitted
from descents.networks.sweep_result import SweepResult, constant_loss
from descents.optim.runs import Status
from descents.runs.command_line import command_line, defaults
from descents.runs.curves import drawn_starts
from descents.runs.network_options import NetworkOptions, NetworkSetting
from descents.runs.network_rows import Prepared
from descents.runs.network_verdicts import weak_verdicts
from descents.runs.network_warnings import warnings_of
from descents.runs.quotes import quote_of_network
from descents.runs.request import Data, Reading, environment, formats_of
from descents.runs.results import Run
from descents.runs.train_result import (
    BestStart,
    CellMean,
    ComparedSettings,
    Curve,
    Encoding,
    Ends,
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
    VarianceSource,
    facts_of,
)
from descents.statistics import confidence, planning
from descents.statistics import summaries as statistics
from descents.statistics.metrics import metric_kind, metric_rows
from descents.storage.results import Interval

NEAR_BEST = 0.02
"""The distance from the best start's metric within which a start counts as near the best.
For a loss, it is a share of the loss of the best constant answer."""


PRECISION = 0.005
"""The half width of the mean's interval for which the number of starts is computed."""


Value = str | float
"""The value of an option."""


PROFILE = 60
"""The number of thresholds in a performance profile."""


MOST_DRAWS = 100
"""The largest number of draws for which the expected best is computed."""


def summarized(
    given: Prepared,
    data: Data,
    options: NetworkOptions,
    run: Mapping[str, Any],
    study: SweepResult,
    ends: Sequence[Ends],
    begun: float,
) -> NetworkResult:
    """Return the result of `descents train`.

    Parameters
    ----------
    given : Prepared
    data : Data
    options : NetworkOptions
    run : mapping
        The identity of the run.
    study : SweepResult
    ends : sequence of Ends
        How the starts of each setting ended.
    begun : float
        When the run began, of `time.perf_counter`.
    """
    metric, higher = study.metric, study.higher_is_better
    values, failed = study.values(), study.failed()
    effects, why_not = _effects(study)
    constant = max(constant_loss(one, metric) for one in study.models)
    step = resolution(study.best_model.fitted_, metric)
    threshold = success_threshold(values, higher, constant, step)
    best, model = study.best, study.best_model
    settings = [
        SettingResult(**vars(starts), **vars(end))
        for starts, end in zip(
            _settings(study, options.settings(), threshold), ends, strict=True
        )
    ]
    warnings = [*warnings_of(given, options, study), *why_not, *weak_verdicts(settings)]
    result = NetworkResult(
        run=Run(**run),
        read=[*data.notes, *given.features.notes],
        formats=formats_of(data),
        warnings=warnings,
        task=given.target.task,
        why=given.target.why,
        target=_target(given),
        rows=len(given.y),
        rows_without_target=given.without_target,
        classes=list(given.target.classes) or None,
        features=given.features.labels,
        encoding=[Encoding(**facts) for facts in given.features.described()],
        hidden=list(options.hidden),
        starts=options.starts,
        splits=model.splits_,
        held_out_rows=_held_out_rows(model.fitted_),
        epochs=options.epochs,
        batch_size=model.batch_size,
        metric=metric,
        higher_is_better=higher,
        success_threshold=threshold,
        resolution=step,
        constant=_constant(model.fitted_, metric),
        settings=settings,
        compared=_compared(study),
        effects=effects,
        sources=_sources(study) if effects else [],
        profile=_profile(study),
        variance=Variance(**model.variance(metric)),
        expected_best=_expected_best(study.counted_values()[best], higher),
        starts_needed=_needed(values[best], failed[best]),
        best=_best_start(study, values[best], failed[best]),
        environment=environment(),
        seconds=time.perf_counter() - begun,
    )
    return replace(result, quote=quote_of_network(result), command=rerun(result.run))


def rerun(run: Run) -> str:
    """Return a command that repeats the run."""
    return command_line(
        ["descents", "train", run.table],
        {**run.options, **run.reading},
        {**defaults(NetworkOptions), **defaults(Reading)},
    )


def _target(given: Prepared) -> TargetColumn:
    """Return the column that is predicted."""
    found, majority = given.target, None
    if found.classes:
        majority = int(np.bincount(given.y, given.weights).argmax())
    return TargetColumn(
        name=found.name, center=found.center, spread=found.spread, majority=majority
    )


def _held_out_rows(fitted: Fitted) -> list[int]:
    """Return the number of held-out rows of each split; empty if no rows are held out."""
    batches = fitted.problem.batches
    rows = len(fitted.problem.y)
    return [rows - len(s) for s in batches.splits] if batches.any_held_out else []


def _best_start(
    study: SweepResult, values: np.ndarray, failed: np.ndarray
) -> BestStart:
    """Return the best start of the best setting, whose values are given."""
    model = study.best_model
    table, position = model.fitted_.columns(), model.best_
    start = int(table["start"][position])
    score = model.fitted_.settings.score
    validation = table.get(f"validation_{score}")
    constant = None
    if validation is not None:
        problem = model.fitted_.problem
        constants = problem.constant_scores(f"validation_{score}")
        constant = float(constants[int(table["split"][position])])
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
        constant=constant,
        epochs=int(table.get("best_epoch", table["epochs"])[position]),
    )


def _constant(fitted: Fitted, metric: str) -> float | None:
    """Return the metric of the best constant prediction, the mean over the splits."""
    if metric != "loss" and metric_rows(metric) is None:
        return None
    found = fitted.problem.constant_scores(metric)
    found = found[np.isfinite(found)]
    return float(found.mean()) if len(found) else None


def success_distance(
    values: np.ndarray, higher: bool, constant: float = 0.0, step: float | None = None
) -> float:
    """Return how far from the best a start may be to count as near it.

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
    step : float, optional
        The smallest difference that the metric of a start can have, such as one of the
        held-out rows. The distance is at least this.

    Examples
    --------
    >>> success_distance(np.array([0.9, 0.5]), True)
    0.02
    >>> round(success_distance(np.array([48 / 49]), True, step=1 / 49), 4)
    0.0204
    >>> round(success_distance(np.array([1e-6, 0.5]), False, 0.7), 4)
    0.014
    """
    best = abs(float(np.nanmax(values) if higher else np.nanmin(values)))
    distance = NEAR_BEST if higher else NEAR_BEST * (constant or best)
    return max(distance, step or 0.0)


def success_threshold(
    values: np.ndarray, higher: bool, constant: float = 0.0, step: float | None = None
) -> float:
    """Return the value that counts as near the best; NaN if no start has a value.

    The parameters are those of `success_distance`.

    Examples
    --------
    >>> round(success_threshold(np.array([0.9, 0.5]), True), 3)
    0.88
    >>> round(success_threshold(np.array([1e-6, 0.5]), False, 0.7), 4)
    0.014
    """
    if not np.isfinite(values).any():
        return float("nan")
    distance = success_distance(values, higher, constant, step)
    if higher:
        return float(np.nanmax(values)) - distance
    return float(np.nanmin(values)) + distance


def resolution(fitted: Fitted, metric: str) -> float | None:
    """Return the smallest difference that the metric of a start can have, or None.

    It is one row of those that accuracy is computed on, over the splits. Weighted rows and
    other metrics have no such step.
    """
    problem, rows = fitted.problem, metric_rows(metric)
    if metric_kind(metric) != "accuracy" or rows is None:
        return None
    if problem.row_weights is not None:
        return None
    held_out = _held_out_rows(fitted) or [0]
    judged = sum(held_out)
    if rows == "training":
        judged = len(held_out) * len(problem.y) - judged
    return 1 / judged if judged else None


def _settings(
    study: SweepResult, settings: Sequence[NetworkSetting], threshold: float
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
            count=0,
            failed=int(failed[place].sum()),
            mean_with_failures=float(counted_means[place]),
            success=success,
        )
        if summary is not None:
            metric = _summarized(metric, summary)
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


def _summarized(metric: MetricOfStarts, summary: statistics.Summary) -> MetricOfStarts:
    """Return the metric with the statistics of the starts that have a value."""
    intervals: list[Interval] = [list(ends) for ends in summary.quartile_intervals]
    return replace(
        metric,
        count=summary.count,
        mean=summary.mean,
        interval=[summary.low, summary.high],
        standard_deviation=summary.standard_deviation,
        minimum=summary.minimum,
        quartiles=[summary.lower_quartile, summary.median, summary.upper_quartile],
        quartile_intervals=intervals,
        maximum=summary.maximum,
    )


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


def _sources(study: SweepResult) -> list[VarianceSource]:
    """Return how the options share the variance, with the means of pairs of options."""
    values = np.nanmean(
        np.where(np.isfinite(study.values()), study.values(), np.nan), 1
    )
    found = []
    for source in study.sources():
        means: dict[tuple[Value, ...], list[float]] = {}
        if len(source.parameters) == 2:
            for setting, value in zip(study.settings, values, strict=True):
                cell = tuple(cast("Value", setting[name]) for name in source.parameters)
                means.setdefault(cell, []).append(float(value))
        found.append(
            VarianceSource(
                source=source.name,
                parameters=list(source.parameters),
                share=source.share,
                p_value=source.p_value,
                means=[
                    CellMean(values=list(cell), mean=float(np.mean(one)))
                    for cell, one in means.items()
                ],
            )
        )
    return found


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


def tensors_of(study: SweepResult, marks: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays that the figures are drawn from: loss curves of starts.

    ``curve_rows`` are the rows of ``starts.parquet`` whose curves are stored: all, or of
    many starts a sample with every failed start.
    """
    runs = [model.runs_ for model in study.models]
    losses = np.concatenate([one.losses for one in runs])
    rows = drawn_starts(~np.isfinite(losses))
    histories = np.concatenate([one.histories["loss"] for one in runs], axis=1)
    return {"epochs": marks, "curve_rows": rows, "curves": histories[:, rows]}
