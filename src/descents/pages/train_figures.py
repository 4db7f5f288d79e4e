"""Figures for the page of `descents train`, each with what it shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from descents.pages import figures, marks
from descents.pages.figures import Picture, Stored
from descents.pages.numbers import digits_of
from descents.plots.axes import BLUE, FAINT
from descents.runs.train_result import NetworkResult, SettingResult, VarianceSource
from descents.statistics.metrics import metric_words
from descents.statistics.summaries import start_means
from descents.text import counted, joined

Run = Stored[NetworkResult]

CONVERGED = "converged"
LEVEL = 0.05
"""The level of tests."""
PALETTE = ("#c0392b", "#8e5bb5", "#b7791f", "#3a8f6f", "#c2578b", "#6b7280")
"""The colors of verdicts other than converged."""


def best_setting(run: Run) -> SettingResult:
    """Return the best setting."""
    result = run.result
    return next(s for s in result.settings if s.name == result.best.setting)


def is_judged(run: Run) -> bool:
    """Return whether the starts have verdicts."""
    return "verdict" in run.rows and bool((run.rows["verdict"] != "").any())


def score_names(run: Run) -> list[str]:
    """Return the names of the training and of the held-out score."""
    score = "accuracy" if run.result.classes else "r2"
    return [f"training_{score}", f"validation_{score}"]


def _means(run: Run, setting: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a setting, and the metric of the start of each row."""
    result = run.result
    rows = np.flatnonzero(run.rows["setting"] == setting)
    values, lost = (
        column[rows].reshape(-1, result.splits)
        for column in (
            run.rows[result.metric].astype(np.float64),
            ~np.isfinite(run.rows["loss"]),
        )
    )
    return rows, np.repeat(start_means(values, lost)[0], result.splits)


def _distribution(run: Run) -> Figure:
    """Draw the metric of every start, stacked where values are equal or close."""
    result = run.result
    names = [setting.name for setting in result.settings]
    figure, (ax,) = figures.new_figure(6.8, 1.3 + 0.75 * len(names))
    figures.stacks(
        ax,
        [figures.in_lines(result.called(name)) for name in names],
        [_means(run, name) for name in names],
        [setting.metric.mean for setting in result.settings],
        [setting.metric.interval for setting in result.settings],
    )
    if result.constant is not None and _constant_is_near(run):
        ax.axvline(result.constant, color=FAINT, lw=1, ls="--")
    ax.set_xlabel(f"{metric_words(result.metric)} of a start")
    return figure


def _constant_is_near(run: Run) -> bool:
    """Return whether the constant prediction is close enough to be drawn."""
    constant = run.result.constant
    found = [s.metric for s in run.result.settings if s.metric.minimum is not None]
    if constant is None or not found:
        return False
    low = min(one.minimum or 0.0 for one in found)
    high = max(one.maximum or 0.0 for one in found)
    return low - (high - low) <= constant <= high + (high - low)


def _distribution_says(run: Run) -> str:
    result, form = run.result, digits_of(run.result)
    best = best_setting(run)
    metric = best.metric
    many = len(result.settings) > 1
    over = f", the mean over its {result.splits} splits" if result.splits > 1 else ""
    constant = ""
    if result.constant is not None:
        line = f"{always(result)} ({form(result.constant)})"
        constant = (
            f" The dashed line is {line}."
            if _constant_is_near(run)
            else f" {line[0].upper()}{line[1:]} is outside of the axis."
        )
    first = (
        f"{best.name} has the highest mean" if result.higher_is_better else
        f"{best.name} has the lowest mean"
    ) if many else "The starts have the mean"  # fmt: skip
    return (
        f"{first}, {form(metric.mean)}, and its starts reach from {form(metric.minimum)} "
        f"to {form(metric.maximum)}. Each dot is a start{over}; a start with about the "
        "same value is stacked on it. The diamond is the mean, with its 95% interval."
        f"{constant}"
    )


def always(result: NetworkResult) -> str:
    """Return what the best constant prediction is, in words."""
    what = "most frequent class" if result.classes else "mean"
    return f"always predicting the {what} of the training rows"


def _forest(run: Run) -> Figure:
    """Draw the difference of the best setting from each other one."""
    result = run.result
    figure, (ax,) = figures.new_figure(6.8, 1.4 + 0.5 * len(result.compared))
    figures.forest(
        ax,
        [one.against for one in result.compared],
        [one.difference for one in result.compared],
        [one.interval for one in result.compared],
    )
    better = "higher" if result.higher_is_better else "lower"
    ax.set_xlabel(
        f"difference in {metric_words(result.metric)}, best setting minus the other\n"
        f"({better} is better)"
    )
    return figure


def _forest_says(run: Run) -> str:
    apart, close = distinguished(run.result)
    best = run.result.best.setting
    says = []
    if apart:
        says.append(f"{best} is better than {joined(apart)}")
    if close:
        says.append(f"it cannot be distinguished from {joined(close)}" if apart else
                    f"{best} cannot be distinguished from {joined(close)}")  # fmt: skip
    return (
        f"{'; '.join(says)}. Differences with simultaneous 95% intervals, start by start; "
        "an interval that contains 0 leaves open which setting is better."
    )


def distinguished(result: NetworkResult) -> tuple[list[str], list[str]]:
    """Return the settings that are worse than the best, and those that may not be."""
    apart: list[str] = []
    close: list[str] = []
    for one in result.compared:
        low, high = one.interval
        clear = (
            low is not None
            and high is not None
            and (low > 0 or high < 0)
            and (one.p_adjusted is None or one.p_adjusted < LEVEL)
        )
        (apart if clear else close).append(one.against)
    return apart, close


def _interaction(run: Run) -> Figure:
    """Draw the means of the pair of options that share most of the variance."""
    source = strongest_pair(run.result)
    assert source is not None  # noqa: S101 - the picture needs it
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    figures.interaction(
        ax,
        source.parameters,
        {tuple(cell.values): cell.mean for cell in source.means},
    )
    ax.set_ylabel(f"mean {metric_words(run.result.metric)}")
    return figure


def strongest_pair(result: NetworkResult) -> VarianceSource | None:
    """Return the interaction of two options that has the largest share, if any."""
    pairs = [s for s in result.sources if len(s.parameters) == 2]
    return pairs[0] if pairs else None


def _interaction_says(run: Run) -> str:
    source = strongest_pair(run.result)
    assert source is not None  # noqa: S101 - the picture needs it
    first, second = (spelled(name) for name in source.parameters)
    if source.p_value is not None and source.p_value < LEVEL:
        finding = f"The effect of the {first} depends on the {second}"
    else:
        finding = f"The effect of the {first} does not clearly depend on the {second}"
    return (
        f"{finding}: their interaction has {100 * (source.share or 0):.1f}% of the sum of "
        f"squares (p {source.p_value:.2g}). Lines that are parallel mean no interaction."
    )


def spelled(option: str) -> str:
    """Return the name of an option in words."""
    return option.replace("_", " ")


def _against(run: Run) -> Figure:
    """Draw training against held-out scores, in the color of the verdict."""
    training, held_out = score_names(run)
    rows = run.rows
    figure, (ax,) = figures.new_figure(5.2, 4.8)
    if held_out not in rows:
        figures.histogram(ax, rows[training][np.isfinite(rows[training])])
        ax.set(xlabel=metric_words(training), ylabel="starts")
        return figure
    x, y = (rows[name].astype(np.float64) for name in (training, held_out))
    x, y = (np.where(np.isfinite(rows["loss"]), one, np.nan) for one in (x, y))
    step = run.result.resolution
    figures.against(
        ax, figures.shaken(x, 0, step), figures.shaken(y, 1, step), _colors(run)
    )
    ax.set(xlabel=metric_words(training), ylabel=metric_words(held_out))
    return figure


def _colors(run: Run) -> dict[str, tuple[np.ndarray, str]]:
    """Return the rows and the color of each verdict, converged last."""
    if not is_judged(run):
        return {"": (np.arange(len(run.rows["start"])), BLUE)}
    words = run.rows["verdict"]
    others = [str(word) for word in np.unique(words) if word != CONVERGED]
    found = {
        word: (np.flatnonzero(words == word), PALETTE[k % len(PALETTE)])
        for k, word in enumerate(others)
    }
    if (words == CONVERGED).any():
        found = {CONVERGED: (np.flatnonzero(words == CONVERGED), BLUE), **found}
    return found


def _against_says(run: Run) -> str:
    training, held_out = score_names(run)
    rows = run.rows
    lost = int((~np.isfinite(rows["loss"])).sum())
    failed = (
        f" {counted(lost, 'failed start')} {'has' if lost == 1 else 'have'} no score."
        if lost
        else ""
    )
    unit = "start on a split" if run.result.splits > 1 else "start"
    if held_out not in rows:
        return f"Training scores of all starts; no rows were held out.{failed}"
    x, y = rows[training].astype(np.float64), rows[held_out].astype(np.float64)
    defined = np.isfinite(x) & np.isfinite(y) & np.isfinite(rows["loss"])
    if not defined.any():
        return "The scores are not defined for any start."
    gap = float(np.median(x[defined] - y[defined]))
    form = digits_of(run.result)
    size = form(abs(gap))
    finding = (
        f"In the median, held-out rows score {size} {'below' if gap > 0 else 'above'} training rows"
        if form(gap) not in (form(0.0), "0")
        else "In the median, held-out rows score as well as training rows"
    )
    verdicts = "; the color is its verdict" if is_judged(run) else ""
    return (
        f"{finding}. Each dot is a {unit} of any setting{verdicts}. Equal values are "
        f"slightly spread so that all can be seen.{failed}"
    )


def _curves(run: Run) -> Figure:
    """Draw the training losses of starts over the epochs."""
    figure, (ax,) = figures.new_figure(5.2, 4.6)
    owners, losses = _curve_rows(run)
    epochs = run.tensors["epochs"]
    for rows, color in _colors(run).values():
        chosen = np.isin(owners, rows)
        if chosen.any():
            marks.curves(ax, epochs, losses[:, chosen], owners[chosen], color)
    figures.loss_axes(ax, losses)
    ax.set_xlim(float(epochs[0]), float(max(epochs[-1], epochs[0] + 1)))
    ax.set(xlabel="epochs", ylabel="training loss")
    return figure


def _curve_rows(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose curves are stored, and the curves."""
    tensors = run.tensors
    if "curves" in tensors:
        return tensors["curve_rows"], tensors["curves"]
    # Runs of version 0.1 and early runs of 0.2 store those of the best setting.
    rows = np.flatnonzero(run.rows["setting"] == run.result.best.setting)
    return rows, tensors["history_loss"]


def _curves_says(run: Run) -> str:
    owners, losses = _curve_rows(run)
    rows = run.rows
    all_rows = len(rows["start"])
    failed = int((~np.isfinite(rows["loss"])).sum())
    if len(owners) == all_rows:
        which = f"All {all_rows} curves are drawn"
    elif "curves" in run.tensors:
        lost = f", with every one of the {failed} that failed" if failed else ""
        which = f"{len(owners)} of {all_rows} curves are drawn, evenly chosen{lost}"
    else:
        which = f"The {len(owners)} curves of the best setting are stored and drawn"
    ends = losses[-1][np.isfinite(losses[-1])]
    begins = losses[0][np.isfinite(losses[0])]
    finding = ""
    if len(ends) and len(begins):
        finding = (
            f"The median training loss falls from {np.median(begins):.2g} to "
            f"{np.median(ends):.2g}. "
        )
    return f"{finding}{which}, at most 32 points each, in the color of the verdict."


def _expected_best(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    expected = run.result.expected_best
    figures.band(ax, expected.draws, expected.best, expected.low, expected.high)
    ax.set(
        xlabel="number of starts",
        ylabel=f"expected best {metric_words(run.result.metric)}",
    )
    return figure


def _expected_best_says(run: Run) -> str:
    result, form = run.result, digits_of(run.result)
    expected = result.expected_best
    if not expected.draws:
        return "No start has a value."
    last = len(expected.draws) - 1
    lost = (
        "; a failed start counts as the worst"
        if best_setting(run).metric.failed
        else ""
    )
    return (
        f"One start of {result.called(result.best.setting)} reaches {form(expected.best[0])} on average, "
        f"and the best of {expected.draws[last]} reaches {form(expected.best[last])}, with "
        f"95% interval, up to half of the starts{lost}. The rows that choose the best "
        "start also score it, so the best of many starts looks somewhat too good."
    )


PICTURES: Mapping[str, Picture[NetworkResult]] = {
    "figure-distribution": Picture(_distribution, _distribution_says, wide=True),
    "figure-forest": Picture(_forest, _forest_says, wide=True, needs="compared"),
    "figure-interaction": Picture(_interaction, _interaction_says, needs="pairs"),
    "figure-training-validation": Picture(_against, _against_says),
    "figure-curves": Picture(_curves, _curves_says),
    "figure-expected-best": Picture(_expected_best, _expected_best_says),
}


def has(run: Run, need: str) -> bool:
    """Return whether the run has what a picture needs."""
    if need == "pairs":
        return strongest_pair(run.result) is not None
    return bool(getattr(run.result, need))
