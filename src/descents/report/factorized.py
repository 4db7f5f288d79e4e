"""The pictures of `descents factorize`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from descents.report import figures
from descents.report.figures import Picture, Stored

MOST_BARS = 40
"""How many columns the picture of their shares shows at most."""

MOST_ABREAST = 10
"""How many components stand side by side as pictures at most."""


def _pattern(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(5.2, 4.4)
    figures.pattern(ax, run.tensors["pattern"], run.result["shape"])
    return figure


def _losses(run: Stored) -> Figure:
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


def _biplot(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(6.4, 5.6)
    names = run.result["strongest"]
    figures.biplot(ax, run.tensors["scores"], run.tensors["loadings"], names)
    return figure


def _images(run: Stored) -> Figure:
    values = run.tensors["images"]
    count, high, wide = values.shape[:3]
    columns = min(count, MOST_ABREAST)
    lines = -(-count // columns)
    each = min(1.0, 2.0 * wide / high)  # inches; pictures that are tall are narrow
    figure, (ax,) = figures.new_figure(
        each * max(columns, 3), each * lines * (high / wide + 0.3)
    )
    figures.images(ax, values, columns)
    return figure


def _reconstruction(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(4.8, 4.6)
    figures.reconstruction(ax, run.tensors["observed"], run.tensors["predicted"])
    scaled = "" if run.result["stored"] else ", standardised by column"
    ax.set(xlabel=f"observed{scaled}", ylabel=f"predicted{scaled}")
    return figure


def _explained(run: Stored) -> Figure:
    columns = sorted(
        run.result["columns"], key=lambda column: -(column["explained"] or 0.0)
    )
    if len(columns) > MOST_BARS:
        columns = columns[: MOST_BARS // 2] + columns[-MOST_BARS // 2 :]
    figure, (ax,) = figures.new_figure(6.2, 1.1 + 0.24 * len(columns))
    figures.explained(
        ax, [c["name"] for c in columns], [c["explained"] for c in columns]
    )
    return figure


def _selection(run: Stored) -> Figure:
    """Return the held-out losses: over the ranks, then over the chosen's penalties."""
    told = run.result["selection"]
    if told["how"] != "cells":
        figure, (ax,) = figures.new_figure(5.6, 3.8)
        figures.threshold(ax, np.array(told["values"]), told["threshold"])
        return figure
    mean, error = (np.array(told[n], dtype=np.float64) for n in ("mean", "error"))
    best = np.unravel_index(int(np.nanargmin(mean)), mean.shape)
    most = float(mean[best] + error[best])
    rank = told["ranks"].index(told["rank"])
    both = len(told["ranks"]) > 1 and bool(told["penalties"])
    figure, axes = figures.new_figure(9.6 if both else 5.6, 3.8, 2 if both else 1)
    place = told["penalties"].index(told["penalty"]) if told["penalties"] else 0
    if len(told["ranks"]) > 1 or not told["penalties"]:
        ax = axes[0]
        lines = mean[:, place], error[:, place]
        figures.held_out(ax, told["ranks"], *lines, rank, most)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("rank" + (f", at the chosen {told['name']}" if both else ""))
    if told["penalties"]:
        ax = axes[-1]
        lines = mean[rank], error[rank]
        figures.held_out(ax, told["penalties"], *lines, place, most)
        ax.set_xscale("log" if min(told["penalties"]) > 0 else "symlog")
        ax.set_xlabel(told["name"] + (f", at rank {told['rank']}" if both else ""))
    return figure


PICTURES: Mapping[str, Picture] = {
    "figure-selection": Picture(
        _selection,
        "Held-out losses, or singular values, with what was chosen marked.",
        needs="selection",
    ),
    "figure-pattern": Picture(
        _pattern, "Map of the table, dark where cells are observed."
    ),
    "figure-losses": Picture(
        _losses, "The loss of every start over its steps, the best start in blue."
    ),
    "figure-biplot": Picture(
        _biplot,
        "Rows as points and columns as arrows in the first two components.",
        wide=True,
    ),
    "figure-images": Picture(
        _images,
        "Each component as a picture, its numbers line by line.",
        wide=True,
        needs="images",
    ),
    "figure-reconstruction": Picture(
        _reconstruction, "Predicted values against observed ones."
    ),
    "figure-explained": Picture(
        _explained, "Bars: the share of each column's loss that the model explains."
    ),
}
