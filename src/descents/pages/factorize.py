"""Pictures for the page of `descents factorize`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from descents.pages import figures
from descents.pages.figures import Picture, Stored
from descents.runs.factorize_result import LowRankResult

Run = Stored[LowRankResult]

MOST_BARS = 40
"""Maximum number of columns in the figure of explained shares."""

MOST_ABREAST = 10
"""Maximum number of components side by side in a row of pictures."""


def _pattern(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.2, 4.4)
    figures.pattern(ax, run.tensors["pattern"], run.result.shape)
    return figure


def _losses(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.8)
    tensors = run.tensors
    figures.start_losses(
        ax,
        tensors["recorded"],
        tensors["history_loss"],
        tensors["losses"],
        int(tensors["best"].reshape(-1)[0]),
    )
    return figure


def _biplot(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(6.4, 5.6)
    names = run.result.strongest
    figures.biplot(ax, run.tensors["scores"], run.tensors["loadings"], names)
    return figure


def _images(run: Run) -> Figure:
    values = run.tensors["images"]
    count, high, wide = values.shape[:3]
    columns = min(count, MOST_ABREAST)
    lines = -(-count // columns)
    inches = min(1.0, 2.0 * wide / high)  # the width of a picture; tall ones are narrow
    figure, (ax,) = figures.new_figure(
        inches * max(columns, 3), inches * lines * (high / wide + 0.3)
    )
    figures.images(ax, values, columns)
    return figure


def _reconstruction(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(4.8, 4.6)
    figures.reconstruction(ax, run.tensors["observed"], run.tensors["predicted"])
    scaled = "" if run.result.stored else ", standardized by column"
    ax.set(xlabel=f"observed{scaled}", ylabel=f"predicted{scaled}")
    return figure


def _explained(run: Run) -> Figure:
    columns = sorted(run.result.columns, key=lambda column: -(column.explained or 0.0))
    if len(columns) > MOST_BARS:
        columns = columns[: MOST_BARS // 2] + columns[-MOST_BARS // 2 :]
    figure, (ax,) = figures.new_figure(6.2, 1.1 + 0.24 * len(columns))
    figures.explained(ax, [c.name for c in columns], [c.explained for c in columns])
    return figure


def _selection(run: Run) -> Figure:
    """Draw held-out losses over the ranks and, at the chosen rank, over the penalties."""
    selection = run.result.selection
    assert selection is not None  # noqa: S101 - the picture needs it
    if selection.how != "cells":
        figure, (ax,) = figures.new_figure(5.6, 3.8)
        threshold = selection.threshold or 0.0
        figures.threshold(ax, np.array(selection.values), threshold)
        return figure
    ranks, penalties = selection.ranks, selection.penalties
    mean, error = (
        np.array(part, dtype=np.float64) for part in (selection.mean, selection.error)
    )
    best = np.unravel_index(int(np.nanargmin(mean)), mean.shape)
    most = float(mean[best] + error[best])
    rank = ranks.index(selection.rank)
    both = len(ranks) > 1 and bool(penalties)
    figure, axes = figures.new_figure(9.6 if both else 5.6, 3.8, 2 if both else 1)
    penalty, name = selection.penalty, selection.name or ""
    place = 0 if penalty is None else penalties.index(penalty)
    if len(ranks) > 1 or not penalties:
        ax = axes[0]
        figures.held_out(ax, ranks, mean[:, place], error[:, place], rank, most)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("rank" + (f", at the chosen {name}" if both else ""))
    if penalties:
        ax = axes[-1]
        figures.held_out(ax, penalties, mean[rank], error[rank], place, most)
        ax.set_xscale("log" if min(penalties) > 0 else "symlog")
        ax.set_xlabel(name + (f", at rank {selection.rank}" if both else ""))
    return figure


PICTURES: Mapping[str, Picture[LowRankResult]] = {
    "figure-selection": Picture(
        _selection,
        "Held-out losses or singular values, with the choice marked.",
        needs="selection",
    ),
    "figure-pattern": Picture(
        _pattern, "Map of the table, darker where more cells are observed."
    ),
    "figure-losses": Picture(
        _losses, "Curves of the loss of every start over its steps, the best in blue."
    ),
    "figure-biplot": Picture(
        _biplot,
        "Rows as points and columns as arrows in the first two components.",
        wide=True,
    ),
    "figure-images": Picture(
        _images,
        "Each component as a picture, with its numbers line by line.",
        wide=True,
        needs="images",
    ),
    "figure-reconstruction": Picture(
        _reconstruction, "Predicted values against observed ones."
    ),
    "figure-explained": Picture(
        _explained, "Bar chart of the share of each column's loss that is explained."
    ),
}
