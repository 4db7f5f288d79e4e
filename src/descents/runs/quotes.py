"""Sentences to quote in a paper: a figure, its interval, n and how it was measured.

Every number is one of the result, with the decimals that its interval supports.
"""

from __future__ import annotations

from descents.runs.train_result import (
    ComparedSides,
    ComparisonResult,
    NetworkResult,
    SettingResult,
    SideOfComparison,
)
from descents.statistics.metrics import metric_rows, metric_words
from descents.storage.results import Interval, Number
from descents.text import counted, decimals_of, joined, rounded, small


def quote_of_comparison(result: ComparisonResult) -> str:
    """Return the sentences of a comparison."""
    what = metric_words(result.metric)
    sides = "; ".join(
        f"{side.name}, {figure(side.mean, side.interval, side.standard_deviation, result.resolution)}, "
        f"n = {side.count}{_failures(side)}"
        for side in result.sides
    )
    several = len(result.sides) > 2
    differences = " ".join(_difference(one, several) for one in result.differences)
    return f"Mean {what} over random initializations: {sides}. {differences}"


def figure(
    mean: Number,
    interval: Interval | None,
    spread: Number,
    resolution: float | None = None,
) -> str:
    """Return a mean with its interval and the standard deviation between starts.

    Examples
    --------
    >>> figure(0.9531, [0.9482, 0.9581], 0.0254)
    '0.953 (95% CI 0.948 to 0.958; SD between starts 0.025)'
    >>> figure(0.5, None, None)
    '0.5'
    """
    places = decimals_of(interval, resolution)
    text = rounded(mean, places)
    if interval is None or None in interval:
        return text
    low, high = (small(end, places) for end in interval)
    return f"{text} (95% CI {low} to {high}; SD between starts {small(spread, places)})"


def _failures(side: SideOfComparison) -> str:
    return f", {side.failed} failed" if side.failed else ""


def _difference(one: ComparedSides, several: bool) -> str:
    """Return the sentence of a difference, and how the sides were compared."""
    counts = joined([str(count) for count in dict.fromkeys(one.counts)])
    how = "paired by start" if one.paired else "two samples"
    rule = "; simultaneous intervals, adjusted p-values" if several else ""
    return f"{one.says} ({how}, n = {counts}{rule})."


def quote_of_network(result: NetworkResult) -> str:
    """Return the sentences of a run of `descents train`."""
    best = next(one for one in result.settings if one.name == result.best.setting)
    metric, what = best.metric, metric_words(result.metric)
    rows = metric_rows(result.metric)
    if result.metric == "loss":  # that of the training rows
        what, rows = "training loss", "training"
    figures = figure(
        metric.mean, metric.interval, metric.standard_deviation, result.resolution
    )
    if metric.mean is None:
        figures = "that is not defined"
    elif None in (metric.interval or [None]):
        figures = rounded(metric.mean, decimals_of(None, result.resolution))
    return (
        f"Over {counted(result.starts, 'random initialization')} {_rows(result, rows)}, "
        f"{_network(result)}{_setting(result, best)} reached a "
        f"{'mean ' if metric.count > 1 else ''}{what} of {figures}"
        f"{_constant(result, metric.interval)}{_failed(best, result.starts)}."
        f"{_caveats(result)}"
    )


def _network(result: NetworkResult) -> str:
    """Return what was trained."""
    widths = result.hidden
    units = joined([str(width) for width in widths])
    if len(widths) == 1:
        return f"a network with one hidden layer of {counted(widths[0], 'unit')}"
    return f"a network with {len(widths)} hidden layers of {units} units"


def _setting(result: NetworkResult, best: SettingResult) -> str:
    if len(result.settings) == 1:
        return ""
    return f" (setting {best.name}, the best of {len(result.settings)} settings by these starts)"


def _rows(result: NetworkResult, rows: str | None) -> str:
    """Return on which rows the metric was measured."""
    options, held_out = result.run.options, result.held_out_rows
    if options["validation"] == "none":
        return f"on all {counted(result.rows, 'row')}, none of them held out"
    sizes = [str(n) for n in sorted({min(held_out), max(held_out)})] if held_out else []
    of = f"{' to '.join(sizes)} " if sizes else ""
    folds = str(options["validation"]).strip().lower().startswith("folds")
    kind = "folds" if folds else "random splits"
    if result.splits == 1:
        where = f"on one random split of {counted(result.rows, 'row')}"
        held = f"{of}held-out rows"
    else:
        where = f"on each of {result.splits} {kind} of {counted(result.rows, 'row')}"
        held = f"{of}held-out rows each"
    return f"{where} ({held})" if rows != "training" else where


def _constant(result: NetworkResult, interval: Interval | None) -> str:
    """Return the metric of the best constant prediction, with as many decimals."""
    if result.constant is None:
        return ""
    what = "the most frequent class" if result.classes else "the mean"
    places = decimals_of(interval, result.resolution)
    return f", where always predicting {what} has {rounded(result.constant, places)}"


def _failed(best: SettingResult, starts: int) -> str:
    if not best.metric.failed:
        return ""
    return (
        f"; {best.metric.failed} of {counted(starts, 'start')} failed and are left out"
    )


def _caveats(result: NetworkResult) -> str:
    """Return the reasons why the figure may be better than that on new rows."""
    if result.run.options.get("early_stopping") is not None:
        return " The held-out rows also chose the epoch of each start."
    return ""
