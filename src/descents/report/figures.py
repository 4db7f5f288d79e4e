"""Figures: axes in, axes out. Nothing here computes a result or writes a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

INK, FAINT, RED, BLUE = "#222222", "#9aa0a6", "#c0392b", "#1f5fa8"
SPECIES_COLORS = ("#0072b2", "#e69f00", "#009e73")
SPECIES_MARKERS = ("o", "s", "^")
STYLE: Mapping[str, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.dpi": 100,
    "font.size": 10.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "savefig.dpi": 160,
    "svg.hashsalt": "descents",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib has our style, put back afterwards."""
    return mpl.rc_context(rc=dict(STYLE))  # type: ignore[arg-type]


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure of some inches and its axes, without touching any global state."""
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, axes


def scatter_species(
    ax: Axes,
    points: np.ndarray,
    species: np.ndarray,
    names: Sequence[str],
    *,
    hollow: bool = False,
    suffix: str = "",
) -> Axes:
    """Draw the rows of (n, 2) points, a color and a marker for each species."""
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


def gaps(ax: Axes, values: np.ndarray, report: float) -> Axes:
    """Draw the share of starts within each gap, and the report's own run."""
    finite = values[np.isfinite(values)]
    ordered = np.sort(np.maximum(finite, 1e-12))
    ax.step(
        ordered, np.arange(1, len(ordered) + 1) / len(values), color=BLUE, where="post"
    )
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


def accuracy_histogram(
    ax: Axes, values: np.ndarray, published: Sequence[float], line: float
) -> Axes:
    """Draw how many starts reach each accuracy, over marks of the published ones."""
    # Edges between the hundredths that accuracies are multiples of.
    bins = (np.arange(np.floor(values.min() * 100), 102, 2) - 0.5) / 100
    failed = values < line
    ax.hist(
        [values[failed], values[~failed]],
        bins=list(bins),
        stacked=True,
        color=[RED, BLUE],
        label=[f"below {line:g}", f"{line:g} and above"],
    )
    for value in published:
        ax.plot(
            value, 0, "|", color=INK, markersize=16, markeredgewidth=1.6, clip_on=False
        )
    ax.plot([], [], "|", color=INK, markersize=10, label="published runs")
    ax.set_xlabel("training accuracy")
    ax.set_ylabel("starts")
    ax.legend(loc="upper center")
    return ax


def _many_lines(
    ax: Axes, x: np.ndarray, y: np.ndarray, color: str, alpha: float
) -> None:
    """Draw the columns of y over x as one picture of thin lines."""
    lines = np.stack([np.broadcast_to(x[:, None], y.shape), y], -1).transpose(1, 0, 2)
    collection = LineCollection(
        list(lines), colors=color, linewidths=0.5, alpha=alpha, rasterized=True
    )
    ax.add_collection(collection)
    ax.autoscale_view()


def loss_curves(
    ax: Axes, recorded: np.ndarray, losses: np.ndarray, failed: np.ndarray
) -> Axes:
    """Draw the loss of every start, failed ones apart, with both medians."""
    for members, color, name in ((~failed, BLUE, "others"), (failed, RED, "failed")):
        chosen = members & np.isfinite(losses).all(0)  # what is not has no place here
        if not chosen.any():
            continue
        _many_lines(ax, recorded, losses[:, chosen], color, 0.12)
        median = np.median(losses[:, chosen], axis=1)
        label = f"{name} ({int(chosen.sum())}), median"
        ax.plot(recorded, median, color=color, linewidth=2.2, label=label)
    if ax.lines:
        ax.set(yscale="log")
        ax.legend(loc="upper right")
    ax.set_xlabel("epoch")
    ax.set_ylabel("training loss (log scale)")
    return ax


def later_accuracy(
    ax: Axes, epochs: Sequence[int], accuracy: np.ndarray, line: float
) -> Axes:
    """Draw what more epochs do to the failed starts: every start, and the median."""
    _many_lines(ax, np.asarray(epochs), accuracy, RED, 0.15)
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
