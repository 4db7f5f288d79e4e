"""Pictures for the page of `descents impute`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from descents.pages import figures
from descents.pages.figures import FAINT, INK, Picture, Stored
from descents.runs.impute_result import ImputationResult

Run = Stored[ImputationResult]

LONGEST = 28
"""Maximum number of characters of a name in a picture."""


def _predicted(run: Run) -> Figure:
    shown = run.result.pictures
    figure, axes = figures.new_figure(0.6 + 4.2 * len(shown), 4.3, len(shown))
    for ax, column in zip(axes, shown, strict=True):
        which = column.which
        truth, predicted = (
            run.tensors[f"{which}/{name}"] for name in ("truth", "predicted")
        )
        if column.levels:
            _levels(ax, truth, predicted, column.levels)
        else:
            figures.reconstruction(ax, truth, predicted)
            both = np.concatenate([truth, predicted])
            pad = 0.05 * (both.max() - both.min()) or 1.0
            ends = both.min() - pad, both.max() + pad
            ax.set(xlim=ends, ylim=ends)
            ax.set_aspect("equal")
        ax.set_title(f"{which} predicted: {_short(column.name)}")
        ax.set(xlabel="true", ylabel="predicted")
    return figure


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
        color = "white" if shares[i, j] > 0.6 else INK
        ax.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center", color=color)
    names = [_short(level, 12) for level in levels]
    ax.set_xticks(range(count), names, rotation=40 if count > 3 else 0, ha="right")
    ax.set_yticks(range(count), names)
    for side in ax.spines.values():
        side.set_color(FAINT)


def _short(name: str, longest: int = LONGEST) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


PICTURES: Mapping[str, Picture[ImputationResult]] = {
    "figure-predicted": Picture(
        _predicted,
        "Predicted against true values of held-out cells, for the best and the worst "
        "predicted column.",
        wide=True,
        needs="best/truth",
    )
}
