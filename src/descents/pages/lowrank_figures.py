"""Figures of low-rank models: shares of columns, ranks, observed cells, pictures."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from descents.pages import marks
from descents.pages.figures import shortened
from descents.plots.axes import BLUE, FAINT, INK, RED, held_out_losses

FLOOR = 1e-12
"""Starts whose loss is nearer to the best are drawn at this distance."""
MOST_RATIO = 3.0
"""Relative errors above this are drawn at this place, with their number."""
LEAST = -1.0
"""Shares below this are drawn at this place, with their number."""


def shares(
    ax: Axes,
    names: Sequence[str],
    seen: Sequence[float | None],
    hidden: Sequence[float | None],
) -> Axes:
    """Draw the shares of seen and of hidden cells of each column, with a line at 0.

    A share that is not known is written so. One that is far below 0 stands at the edge,
    with its number.
    """
    places = np.arange(len(names))
    one, other = (np.array(part, dtype=np.float64) for part in (seen, hidden))
    both = np.isfinite(one) & np.isfinite(other)
    ends = np.maximum(one, LEAST), np.maximum(other, LEAST)
    ax.hlines(places[both], ends[0][both], ends[1][both], color=FAINT, lw=1.5, zorder=1)
    for share, end, color, fill in (
        (one, ends[0], FAINT, "#ffffff"),
        (other, ends[1], BLUE, BLUE),
    ):
        for inside, mark in ((share >= LEAST, "o"), (share < LEAST, "<")):
            if inside.any():
                ax.plot(end[inside], places[inside], mark, color=color, mfc=fill, ms=6)
    for place in np.flatnonzero(np.isnan(one) & np.isnan(other)).tolist():
        ax.text(0.02, place, "not known", color=INK, fontsize=8.5, va="center")
    for place in np.flatnonzero(other < LEAST).tolist():
        text = f"{100 * other[place]:.0f}%"
        ax.text(LEAST + 0.04, place, text, color=INK, fontsize=8.5, va="center")
    ax.axvline(0, color=RED, lw=1)
    low = min(0.0, float(np.nanmin(np.concatenate([*ends, [0.0]]))))
    ax.set_xlim(low - 0.03, 1.03)
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f}%")
    ax.set_yticks(range(len(names)), [shortened(name, 24) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    return ax


def held_out(
    ax: Axes,
    x: Sequence[float],
    mean: np.ndarray,
    error: np.ndarray,
    chosen: int,
    most: float,
) -> Axes:
    """Draw held-out losses with standard errors, and mark the chosen one.

    All of them are inside of the axes, which are logarithmic if the losses differ much. A
    line is at 1, the loss of the best constants.
    """
    ax.axhline(most, color=INK, lw=1, ls=":", label="minimum + one standard error")
    held_out_losses(ax, x, mean, error, chosen, {})
    finite = np.isfinite(mean)
    least, largest = float(mean[finite].min()), float(mean[finite].max())
    if least > 0 and max(largest, 1.0) > 5 * least:
        ax.set_yscale("log")
    ax.set_ylabel("loss of held-out cells / constants")
    return ax


def distances(ax: Axes, distance: np.ndarray) -> Axes:
    """Draw how far the loss of each start is above the best, by rank, on a log axis.

    Parameters
    ----------
    ax : Axes
    distance : ndarray of shape (starts,)
        Starts without a finite distance have no dot.
    """
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    height = np.maximum(distance[order], FLOOR)
    marks.dots(ax, np.arange(1, len(order) + 1), height, order, BLUE, 5, 0.7)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.yaxis.set_minor_locator(NullLocator())  # minor ticks take most of the time
    ax.set_ylim(FLOOR / 3, max(1e-6, 3 * float(height.max(initial=0.0))))
    ax.set_xlim(0, len(order) + 1)
    ax.set_xlabel("starts, by their loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def relative_errors(
    ax: Axes,
    names: Sequence[str],
    ratios: Sequence[float | None],
    errors: Sequence[float | None],
    clear: Sequence[bool],
) -> Axes:
    """Draw the error of each column over that of its constant, with a line at 1.

    Parameters
    ----------
    ax : Axes
    names : sequence of str
    ratios, errors : sequence of float or None
        The relative error and its standard error. One that is not known is written so.
        Above `MOST_RATIO` it stands at the edge, with its number.
    clear : sequence of bool
        Which columns are clearly better than their constant: their dots are filled.
    """
    places = np.arange(len(names))
    ratio, error = (np.array(part, dtype=np.float64) for part in (ratios, errors))
    end = np.minimum(ratio, MOST_RATIO)
    error = np.where(np.isfinite(error) & (ratio <= MOST_RATIO), error, 0.0)
    known = np.isfinite(ratio)
    ax.hlines(
        places[known], (end - error)[known], (end + error)[known], color=FAINT, lw=1.5
    )
    filled = np.array(clear, dtype=bool)
    for some, fill in ((known & filled, BLUE), (known & ~filled, "#ffffff")):
        ax.plot(end[some], places[some], "o", color=BLUE, mfc=fill, ms=6)
    for place in np.flatnonzero(~known).tolist():
        ax.text(0.02, place, "not known", color=INK, fontsize=8.5, va="center")
    for place in np.flatnonzero(ratio > MOST_RATIO).tolist():
        text = f"{ratio[place]:.3g} "
        ax.text(
            MOST_RATIO - 0.05,
            place,
            text,
            color=INK,
            fontsize=8.5,
            va="center",
            ha="right",
        )
    ax.axvline(1, color=RED, lw=1)
    most = float(np.nanmax(np.append(end + error, 1.0)))
    ax.set_xlim(0, 1.05 * most)
    ax.set_yticks(places, [shortened(name, 24) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    return ax


def threshold(ax: Axes, values: np.ndarray, least: float) -> Axes:
    """Draw singular values, and the threshold above which they count."""
    places = np.arange(1, len(values) + 1)
    above = values > least
    ax.plot(places[above], values[above], "o", color=BLUE, ms=5, label="counted")
    ax.plot(places[~above], values[~above], "o", color=FAINT, ms=4, label="noise")
    ax.axhline(least, color=RED, lw=1, ls="--", label="optimal hard threshold")
    ax.set(xlabel="index", ylabel="singular value", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def pattern(ax: Axes, shares: np.ndarray, shape: Sequence[int]) -> Axes:
    """Draw the share of observed cells in each square of a table."""
    ax.imshow(
        shares,
        cmap="Blues",
        vmin=0,
        vmax=max(1.0 if shares.max() > 0.5 else shares.max(), 1e-12),
        aspect="auto",
        interpolation="nearest",
        extent=(0.5, shape[1] + 0.5, shape[0] + 0.5, 0.5),
    )
    ax.set(xlabel="column", ylabel="row")
    for axis, count in ((ax.xaxis, shape[1]), (ax.yaxis, shape[0])):
        axis.set_major_locator(MaxNLocator(integer=True))
        if count <= 12:
            axis.set_ticks(range(1, count + 1))
    return ax


def images(ax: Axes, values: np.ndarray, columns: int) -> Axes:
    """Draw numbered small pictures in a grid, each with its own scale.

    Parameters
    ----------
    values : ndarray of shape (pictures, height, width) or (pictures, height, width, 3)
        0 is black, and the largest value of a picture white. If any picture has negative
        numbers, these are blue, positive numbers red and 0 white. In color pictures, 0 is
        then gray.
    columns : int
        Number of pictures in a row of the grid.
    """
    count, high, wide = values.shape[:3]
    signed = bool((values < 0).any())
    size = np.abs(values).reshape(count, -1).max(1)
    scaled = values / np.where(size > 0, size, 1).reshape(-1, *[1] * (values.ndim - 1))
    if values.ndim == 4:
        painted = scaled / 2 + 0.5 if signed else scaled
    elif signed:
        painted = mpl.colormaps["RdBu_r"](scaled / 2 + 0.5)[..., :3]
    else:
        painted = mpl.colormaps["gray"](scaled)[..., :3]
    lines = -(-count // columns)
    # In units of the width of a picture: the gap between pictures, and room for numbers.
    between, above = 0.08, 0.2
    for k in range(count):
        line, place = divmod(k, columns)
        left, top = place * (1 + between), line * (high / wide + above + between)
        bottom = top + above + high / wide
        ax.imshow(
            painted[k],
            extent=(left, left + 1, bottom, top + above),
            interpolation="nearest",
        )
        ax.text(
            left, top + 0.8 * above, str(k + 1), color=FAINT, fontsize=9, va="bottom"
        )
    ax.set_xlim(0, columns * (1 + between) - between)
    ax.set_ylim(lines * (high / wide + above + between), 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax
