"""Figures of the published report on given axes; see `figures`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from descents.plots.axes import BLUE, FAINT, INK, RED

SPECIES_COLORS = ("#0072b2", "#e69f00", "#009e73")
SPECIES_MARKERS = ("o", "s", "^")


def scatter_species(
    ax: Axes,
    points: np.ndarray,
    species: np.ndarray,
    names: Sequence[str],
    *,
    hollow: bool = False,
    suffix: str = "",
) -> Axes:
    """Draw points of shape (n, 2), with a color and a marker for each species."""
    for number, name in enumerate(names):
        chosen = points[species == number]
        color = SPECIES_COLORS[number]
        ax.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=34 if hollow else 16,
            marker=SPECIES_MARKERS[number],
            facecolors="none" if hollow else color,
            edgecolors=color if hollow else "none",
            linewidths=0.8,
            alpha=0.9,
            label=f"{name}{suffix}",
        )
    return ax


def gaps(ax: Axes, values: np.ndarray, report: float | None) -> Axes:
    """Draw the share of starts within each gap, and the report's run if it is known."""
    finite = values[np.isfinite(values)]
    ordered = np.sort(np.maximum(finite, 1e-12))
    ax.step(
        ordered, np.arange(1, len(ordered) + 1) / len(values), color=BLUE, where="post"
    )
    if report is not None:
        ax.axvline(max(report, 1e-12), color=RED, linestyle="--", linewidth=1)
        ax.annotate(
            "the report's run",
            (max(report, 1e-12), 0.04),
            xytext=(4, 0),
            textcoords="offset points",
            color=RED,
        )
    ax.set(xscale="log", ylim=(0, 1.02))
    ax.set_xlabel("gap to the exact minimum (log scale)")
    ax.set_ylabel("share of starts within it")
    return ax


def settings(
    ax: Axes,
    names: Sequence[str],
    accuracies: Sequence[np.ndarray],
    compatible: Sequence[bool],
    published: Sequence[float],
) -> Axes:
    """Draw the training accuracies of each setting: range, quartiles and median."""
    for row, (values, possible) in enumerate(zip(accuracies, compatible, strict=True)):
        color = BLUE if possible else FAINT
        low, first, median, third, high = np.quantile(
            values, [0.05, 0.25, 0.5, 0.75, 0.95]
        )
        ax.plot([low, high], [row, row], color=color, linewidth=1.2)
        ax.plot([first, third], [row, row], color=color, linewidth=6, alpha=0.6)
        ax.plot(median, row, "o", color="white", markeredgecolor=color, markersize=5)
    for value in sorted(set(published)):
        ax.axvline(value, color=RED, linewidth=0.7, alpha=0.45, zorder=0)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("training accuracy: 5 to 95%, quartiles, median; red: published")
    return ax


def mark_published(ax: Axes, published: Sequence[float], line: float) -> Axes:
    """Mark the published accuracies below stacked dots, and the line of failed starts."""
    ax.axvline(line, color=FAINT, linestyle="--", linewidth=1)
    for value in published:
        ax.plot(
            value,
            -0.05,
            "|",
            color=INK,
            markersize=12,
            markeredgewidth=1.6,
            clip_on=False,
        )
    ax.set_xlabel("training accuracy")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.08, 1.05)
    return ax


def runs_over_shuffles(
    ax: Axes, values: np.ndarray, published: Sequence[float], witness: Sequence[float]
) -> Axes:
    """Draw the distribution of each run over shuffles, with its published value.

    Parameters
    ----------
    ax : Axes
    values : ndarray of shape (shuffles, runs)
    published, witness : sequence of float, one for each run
        The witness is drawn only where it differs from the published value.
    """
    low, first, median, third, high = np.quantile(
        values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0
    )
    rows = np.arange(values.shape[1])
    ax.hlines(rows, low, high, color=BLUE, linewidth=1.2, label="5% to 95%")
    ax.hlines(rows, first, third, color=BLUE, linewidth=6, alpha=0.6, label="quartiles")
    ax.plot(
        median, rows, "o", color="white", mec=BLUE, ms=5, linestyle="", label="median"
    )
    ax.plot(published, rows, "|", color=RED, ms=17, mew=2.2, label="published")
    other = ~np.isclose(published, witness)
    if other.any():
        ax.plot(
            np.asarray(witness)[other],
            rows[other],
            "x",
            color=INK,
            ms=6,
            label="witness",
        )
    ax.set_yticks(rows, [str(row) for row in rows])
    ax.invert_yaxis()
    return ax


def few_loss_curves(
    ax: Axes, recorded: np.ndarray, losses: np.ndarray, marked: np.ndarray
) -> Axes:
    """Draw the loss curves of a few starts, with labels at those that are marked."""
    ends = []
    for run, (curve, bad) in enumerate(zip(losses.T, marked, strict=True)):
        ax.plot(
            recorded,
            curve,
            color=RED if bad else BLUE,
            lw=1.6 if bad else 1,
            alpha=0.85,
        )
        if bad and np.isfinite(curve[-1]) and curve[-1] > 0:
            ends.append((float(np.log(curve[-1])), run))
    ax.set(yscale="log", xlim=(recorded[0], recorded[-1]))
    low, high = (np.log(limit) for limit in ax.get_ylim())
    place = -np.inf
    for end, run in sorted(ends):  # keep a distance between labels
        place = max(end, place + 0.04 * (high - low))
        ax.annotate(
            f"run {run}",
            (float(recorded[-1]), float(np.exp(place))),
            xytext=(5, 0),
            textcoords="offset points",
            color=RED,
            va="center",
            fontsize=9.5,
        )
    ax.plot([], [], color=RED, label="below the line in the report")
    ax.plot([], [], color=BLUE, label="the other runs")
    ax.legend(loc="upper right")
    ax.set(xlabel="epoch", ylabel="training loss (log scale)")
    return ax


def failures_by_shuffle(
    ax: Axes, shares: Sequence[float], fixed: float, mean: float
) -> Axes:
    """Draw the share of failed starts of each shuffle, sorted, with the fixed one marked."""
    values = np.append(np.asarray(shares), fixed)
    order = np.argsort(values, kind="stable")
    marked = order == len(shares)
    places = np.arange(1, len(values) + 1)
    for chosen, color, name in (
        (~marked, BLUE, "a shuffle"),
        (marked, RED, "the fixed shuffle"),
    ):
        height = values[order][chosen]
        ax.vlines(places[chosen], 0, height, color=color, linewidth=1.4)
        ax.plot(
            places[chosen], height, "o", color=color, ms=6, clip_on=False, label=name
        )
    ax.axhline(mean, color=FAINT, linestyle="--", lw=1, label="mean over the others")
    ax.set(xlabel="shuffles, from the easiest", ylabel="share of failed starts")
    ax.set_ylim(0, max(0.05, 1.1 * float(np.nanmax(values))))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper left")
    return ax


def later_accuracy(
    ax: Axes, epochs: Sequence[int], accuracy: np.ndarray, line: float
) -> Axes:
    """Draw the median accuracy of the failed starts after more epochs."""
    ax.plot(
        epochs, np.median(accuracy, axis=1), color=INK, linewidth=2.2, label="median"
    )
    ax.axhline(line, color=FAINT, linestyle="--", linewidth=1)
    ax.set(xscale="log")
    ax.set_xticks(list(epochs), [f"{epoch:g}" for epoch in epochs])
    ax.minorticks_off()
    ax.set_xlabel("epochs (log scale)")
    ax.set_ylabel("training accuracy")
    ax.legend(loc="lower right")
    return ax
