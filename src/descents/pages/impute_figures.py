"""The figures of the page of `descents impute`, and what each of them shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from descents.pages import figures, lowrank_figures
from descents.pages.figures import Picture, Stored, shortened
from descents.pages.lowrank_figures import FLOOR
from descents.plots.axes import BLUE, FAINT
from descents.runs.impute_result import ImputationResult, ImputedColumn
from descents.text import counted

Run = Stored[ImputationResult]

MOST_DRAWN = 100
"""Maximum number of columns in the figure of errors: the best and the worst ones."""
EQUAL = 1e-6
"""Starts whose loss is above the best by less than this reach it."""


def ratio(column: ImputedColumn) -> float | None:
    """Return the error of a column over that of its constant; None if it is not known."""
    if column.error is None or not column.constant_error:
        return None
    return column.error / column.constant_error


def by_error(result: ImputationResult) -> list[ImputedColumn]:
    """Return the columns by their relative error, unknown ones last."""

    def key(column: ImputedColumn) -> tuple[bool, float]:
        size = ratio(column)
        return size is None, size or 0.0

    return sorted(result.columns, key=key)


def _drawn(result: ImputationResult) -> list[ImputedColumn]:
    return figures.ends(by_error(result), MOST_DRAWN)


def _trust(run: Run) -> Figure:
    columns = _drawn(run.result)
    figure, (ax,) = figures.new_figure(6.4, 1.0 + 0.23 * len(columns))
    lowrank_figures.relative_errors(
        ax,
        [column.name for column in columns],
        [ratio(column) for column in columns],
        [
            column.standard_error / column.constant_error
            if column.standard_error and column.constant_error
            else None
            for column in columns
        ],
        [column.verdict == "yes" for column in columns],
    )
    ax.set_xlabel("error of held-out cells / that of the mean or most frequent level")
    if len(run.result.columns) > len(columns):
        ax.axhline(MOST_DRAWN // 2 - 0.5, color=FAINT, lw=1, ls=":")
    return figure


def _trust_says(run: Run) -> str:
    columns = by_error(run.result)
    known = [column for column in columns if ratio(column) is not None]
    which = ""
    if len(columns) > MOST_DRAWN:
        half = MOST_DRAWN // 2
        which = (
            f" The {half} columns that are predicted best and the {half} worst are drawn, "
            f"with a dotted line between them; all {len(columns)} are listed below."
        )
    if not known:
        return f"The error of no column is known, because no cell was held out.{which}"
    clear = sum(column.verdict == "yes" for column in known)
    best, worst = known[0], known[-1]
    finding = f"{best.name} is predicted best ({ratio(best):.2g} of the error of its constant)"
    if len(known) > 1:
        finding += f" and {worst.name} worst ({ratio(worst):.2g})"
    unknown = len(columns) - len(known)
    text = (
        f"{finding}; {clear} of {counted(len(known), 'column')} "
        f"{'is' if clear == 1 else 'are'} clearly better than the constant (filled dots). "
        "Bars are standard errors; the red line is the constant."
    )
    if unknown:
        text += f" The error of {counted(unknown, 'column')} is not known."
    return text + which


def _predicted(run: Run) -> Figure:
    shown = run.result.pictures
    figure, axes = figures.new_figure(0.6 + 3.7 * len(shown), 3.8, len(shown))
    for ax, column in zip(axes, shown, strict=True):
        which = column.which
        truth, predicted = (
            run.tensors[f"{which}/{name}"].astype(np.float64)
            for name in ("truth", "predicted")
        )
        if column.levels:
            _levels(ax, truth, predicted, column.levels)
        else:
            _numbers(ax, truth, predicted)
        ax.set_title(f"{which} predicted: {shortened(column.name, 24)}")
        ax.set(xlabel="true", ylabel="predicted")
    return figure


def _numbers(ax: Axes, truth: np.ndarray, predicted: np.ndarray) -> None:
    """Draw predicted against true numbers, with the diagonal; all of them are inside."""
    both = np.concatenate([truth, predicted])
    pad = 0.05 * (both.max() - both.min()) or 1.0
    ends = both.min() - pad, both.max() + pad
    ax.plot(ends, ends, color=FAINT, lw=1)
    ax.plot(truth, predicted, ".", color=BLUE, ms=3, alpha=0.4)
    ax.set(xlim=ends, ylim=ends)
    ax.set_aspect("equal")


def _levels(
    ax: Axes, truth: np.ndarray, predicted: np.ndarray, levels: list[str]
) -> None:
    """Draw the confusion matrix of levels, colored by shares of each true level."""
    count = len(levels)
    table = np.zeros((count, count))
    np.add.at(table, (predicted.astype(int), truth.astype(int)), 1)
    shares = table / np.maximum(table.sum(0), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="lower", aspect="equal")
    for i, j in np.argwhere(table > 0):
        # These colors do not follow those of the page, as the squares do not either.
        color = "#fefefe" if shares[i, j] > 0.6 else "#212121"
        ax.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center", color=color)
    names = [shortened(level, 12) for level in levels]
    ax.set_xticks(range(count), names, rotation=40 if count > 3 else 0, ha="right")
    ax.set_yticks(range(count), names)


def above_best(run: Run) -> np.ndarray:
    """Return the loss of each start minus that of the best."""
    losses = run.rows["loss"].astype(np.float64)
    finite = losses[np.isfinite(losses)]
    found: np.ndarray = losses - finite.min(initial=np.inf)
    return found


def _start_losses(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.2, 3.6)
    lowrank_figures.distances(ax, above_best(run))
    ax.set_ylabel("loss - best loss")
    return figure


def _start_losses_says(run: Run) -> str:
    distance = above_best(run)
    finite = distance[np.isfinite(distance)]
    near = int((finite <= EQUAL).sum())
    text = (
        f"{near} of {counted(len(distance), 'start')} reach the loss of the best within "
        f"{EQUAL:g}"
    )
    if near < len(finite):
        text += f"; the worst is {float(finite.max()):.2g} above it"
    failed = len(distance) - len(finite)
    lost = f" {counted(failed, 'start')} failed and have no dot." if failed else ""
    return (
        f"{text}. Each dot is a start; those within {FLOOR:g} of the best are drawn at "
        f"that distance.{lost}"
    )


PICTURES: Mapping[str, Picture[ImputationResult]] = {
    "figure-trust": Picture(_trust, _trust_says, wide=True),
    "figure-predicted": Picture(
        _predicted, lambda run: run.result.caption, wide=True, needs="best/truth"
    ),
    "figure-starts": Picture(_start_losses, _start_losses_says, needs="several"),
}


def has(run: Run, need: str) -> bool:
    """Return whether the run has what a picture needs."""
    if need == "several":
        return run.result.starts.count > 1
    return need in run.tensors
