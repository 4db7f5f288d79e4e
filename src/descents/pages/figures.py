"""Functions that draw figures on given axes; they compute no results, write no files.

Those of `descents reproduce` alone are in `report_figures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogFormatterMathtext, MaxNLocator

from descents.runs.train_result import Curve
from descents.text import counted

INK, FAINT, RED, BLUE = "#222222", "#9aa0a6", "#c0392b", "#1f5fa8"
FARTHEST_SHOWN = 10.0
"""Scores further below the others than this many times their range are not drawn."""
R = TypeVar("R")
"""The type of the result of a command."""
STYLE: Mapping[str, str | float | bool] = {
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
    "text.parse_math": False,  # a column may be called "cost ($) of $1"
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Stored(Generic[R]):
    """The result, the rows and the tensors of a stored run."""

    result: R
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]


@dataclass(frozen=True)
class Picture(Generic[R]):
    """A figure: the function that draws it, and its alternative text `says`."""

    draw: Callable[[Stored[R]], Figure]
    says: str
    wide: bool = False
    needs: str | None = None
    """The tensor or the key of the result that this picture needs, if any."""


def style() -> AbstractContextManager[None]:
    """Return a context manager that sets our style of matplotlib temporarily."""
    return mpl.rc_context(rc=dict(STYLE))  # type: ignore[arg-type]


def new_figure(
    width: float, height: float, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure of a size in inches and its axes, without changing global state."""
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(1, columns, squeeze=False)[0])
    return figure, axes


class PlainLogFormatter(LogFormatter):
    """Labels the ticks of a logarithmic axis with plain numbers instead of powers.

    Examples
    --------
    >>> figure, (ax,) = new_figure(3, 2)
    >>> ax.set(yscale="log", ylim=(1, 100)) and plain_logarithms(figure)
    >>> [label.get_text() for label in ax.get_yticklabels()][1:-1]
    ['1', '10', '100']
    """

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick, or "" if matplotlib would not label it."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def plain_logarithms(figure: Figure) -> None:
    """Use plain numbers on all logarithmic axes of a figure."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatterMathtext):
                axis.set_major_formatter(PlainLogFormatter())
            if isinstance(axis.get_minor_formatter(), LogFormatterMathtext):
                axis.set_minor_formatter(PlainLogFormatter())


def many_lines(
    ax: Axes, x: np.ndarray, y: np.ndarray, color: str, alpha: float
) -> None:
    """Draw the columns of y over x as thin lines, rasterized as one image."""
    lines = np.stack([np.broadcast_to(x[:, None], y.shape), y], -1).transpose(1, 0, 2)
    collection = LineCollection(
        list(lines), colors=color, linewidths=0.5, alpha=alpha, rasterized=True
    )
    ax.add_collection(collection)
    ax.autoscale_view()


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


def start_losses(
    ax: Axes, steps: np.ndarray, histories: np.ndarray, losses: np.ndarray, best: int
) -> Axes:
    """Draw the loss of every start over the steps, with the best in color."""
    shown = np.isfinite(losses)
    floor = losses[shown].min()
    span = max(float(losses[shown].max() - floor), 1e-300)
    recorded = (
        np.isfinite(histories[:, best]) if len(steps) else np.zeros(0, dtype=bool)
    )
    steps, histories = steps[recorded], histories[recorded]
    if len(steps):
        many_lines(ax, steps + 1, histories[:, shown], FAINT, 0.6)
        ax.plot(steps + 1, histories[:, best], color=BLUE, lw=2, label="best start")
        ax.set_xscale("log")
        ax.legend(loc="upper right")
    first = histories[0, shown].max() if len(steps) else floor + span
    if floor > 0 and first / floor > 20:
        ax.set_yscale("log")
    ax.set(xlabel="steps + 1", ylabel="loss with penalties")
    return ax


def biplot(
    ax: Axes, scores: np.ndarray, loadings: np.ndarray, names: Sequence[str]
) -> Axes:
    """Draw rows as points and columns as arrows, in the first two components.

    Along each component the arrows are scaled to the points, so lengths can be compared
    only along one component. An arrow is faint and has no name if its name would overlap
    with that of a longer arrow.
    """
    if scores.shape[1] == 1:
        order = np.argsort(scores[:, 0])
        ax.plot(np.arange(1, len(order) + 1), scores[order, 0], ".", color=BLUE, ms=3)
        ax.set(xlabel="rows, by their score", ylabel="component 1")
        return ax
    ax.axhline(0, color=FAINT, lw=0.6)
    ax.axvline(0, color=FAINT, lw=0.6)
    ax.plot(scores[:, 0], scores[:, 1], ".", color=BLUE, ms=3.5, alpha=0.5)
    reach = np.maximum(np.abs(scores).max(0), 1e-300)
    size = np.maximum(np.abs(loadings).max(0), 1e-300)
    # Arrows come in order of length, so the longer of two close ones keeps its name.
    taken: list[np.ndarray] = []
    for arrow, name in zip(loadings / size * reach * 0.9, names, strict=True):
        place = arrow * 1.06
        near = np.array([0.5, 0.09]) * reach
        hidden = any((np.abs(place - other) < near).all() for other in taken)
        ax.annotate(
            "",
            xy=tuple(arrow),
            xytext=(0, 0),
            arrowprops={
                "arrowstyle": "-|>",
                "color": RED,
                "lw": 1,
                "alpha": 0.2 if hidden else 0.85,
            },
            in_layout=False,
        )
        if hidden:
            continue
        taken.append(place)
        ax.text(
            float(place[0]),
            float(place[1]),
            name if len(name) <= 18 else name[:17] + "…",
            color=RED,
            fontsize=9,
            ha="left" if arrow[0] >= 0 else "right",
            va="center",
            in_layout=False,
        )
    ax.margins(0.2)
    ax.set(xlabel="component 1", ylabel="component 2")
    # Make room for names beyond the ends of the arrows.
    low, high = ax.get_xlim()
    room = 0.22 * (high - low)
    ends = [place[0] for place in taken]
    ax.set_xlim(
        low - room * any(end < 0.6 * low for end in ends),
        high + room * any(end > 0.6 * high for end in ends),
    )
    return ax


def reconstruction(ax: Axes, observed: np.ndarray, predicted: np.ndarray) -> Axes:
    """Draw predicted against observed values; a perfect fit lies on the line."""
    if not len(observed):
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no column has numbers", ha="center", va="center")
        return ax
    low, high = np.quantile(np.concatenate([observed, predicted]), [0.002, 0.998])
    ax.plot([low, high], [low, high], color=FAINT, lw=1)
    ax.plot(observed, predicted, ".", color=BLUE, ms=3, alpha=0.4)
    pad = 0.05 * (high - low) or 1.0
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
    return ax


def explained(ax: Axes, names: Sequence[str], shares: Sequence[float | None]) -> Axes:
    """Draw the share of each column's loss that the model explains."""
    widths = [0.0 if share is None else share for share in shares]
    places = np.arange(len(widths))
    ax.barh(places, widths, color=BLUE, height=0.7)
    ax.set_yticks(places, [n if len(n) <= 22 else n[:21] + "…" for n in names])
    ax.invert_yaxis()
    ax.set(xlabel="explained share of the loss of the column's best constant")
    ax.set_xlim(min([0.0, *widths]), 1.0)
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


def distributions(ax: Axes, names: Sequence[str], values: Sequence[np.ndarray]) -> Axes:
    """Draw each start as a dot, one line per name, with quartiles and median."""
    generator = np.random.Generator(np.random.Philox(0))
    for place, numbers in enumerate(values):
        finite = numbers[np.isfinite(numbers)]
        shift = generator.uniform(-0.28, 0.28, len(finite))
        ax.plot(finite, place + shift, ".", color=BLUE, ms=3.5, alpha=0.35)
        if len(finite):
            low, middle, high = np.quantile(finite, [0.25, 0.5, 0.75])
            ax.plot([low, high], [place, place], color=INK, lw=2.5)
            ax.plot([middle], [place], "o", color=INK, ms=6, mec="white")
    ax.set_yticks(range(len(names)), names)
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

    Losses far above the best are outside of the axes, because the others would be hard to
    distinguish.
    """
    finite = np.isfinite(mean)
    at = np.asarray(x, dtype=np.float64)
    ax.axhline(most, color=FAINT, lw=1, ls="--", label="minimum + one standard error")
    ax.errorbar(
        at[finite],
        mean[finite],
        error[finite],
        color=BLUE,
        fmt="o-",
        ms=4,
        lw=1,
        capsize=3,
    )
    ax.plot(at[chosen], mean[chosen], "o", color=RED, ms=9, mfc="none", label="chosen")
    least = mean[finite].min()
    high = max(1.0, 1.5 * float(mean[finite][0]), most + (most - least))
    if (mean[finite] > high).any():
        ax.set_ylim(max(0.0, least - 0.1 * (high - least)), 1.05 * high)
    ax.set_ylabel("held-out loss (1: constants)")
    ax.legend()
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


def histogram(ax: Axes, values: np.ndarray) -> Axes:
    """Draw a histogram of the values of starts."""
    ax.hist(values, bins=30, color=BLUE, alpha=0.8)
    return ax


def against(ax: Axes, training: np.ndarray, held_out: np.ndarray) -> Axes:
    """Draw validation against training scores, one dot per start, and the diagonal.

    Starts without one of the scores have no dot. If the worst scores are so low that the
    others could not be distinguished, the axes end above them, and a line says how many
    starts are below.
    """
    defined = np.isfinite(training) & np.isfinite(held_out)
    training, held_out = training[defined], held_out[defined]
    if not len(training):
        ax.set_axis_off()
        ax.text(0.5, 0.5, "not defined for any start", ha="center", va="center")
        return ax
    both = np.concatenate([training, held_out])
    low, usual, high = np.quantile(both, [0.0, 0.01, 1.0])
    if usual < high and usual - low > FARTHEST_SHOWN * (high - usual):
        end = usual - 0.05 * (high - usual)
        below = int(((training < end) | (held_out < end)).sum())
        what = f"{counted(below, 'start')} below, down to {low:.3g}"
        ax.text(0.98, 0.02, what, ha="right", va="bottom", transform=ax.transAxes)
        low = usual
    pad = 0.05 * (high - low) or 0.01
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=FAINT, lw=1)
    # Many starts have the same accuracy; a little noise shows how many.
    generator = np.random.Generator(np.random.Philox(0))
    noise = generator.normal(0, 0.006 * (high - low + 1e-12), (2, len(training)))
    ax.plot(training + noise[0], held_out + noise[1], ".", color=BLUE, ms=4, alpha=0.4)
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
    return ax


def training_curves(
    ax: Axes, epochs: np.ndarray, losses: np.ndarray, failed: np.ndarray
) -> Axes:
    """Draw the loss of starts over the epochs, at most 500 of each color, failed in red."""
    for chosen, color in ((~failed, BLUE), (failed, RED)):
        places = np.flatnonzero(chosen)[:500]
        lines = [
            np.column_stack([epochs, losses[:, k]])[np.isfinite(losses[:, k])]
            for k in places
        ]
        curves = [line for line in lines if len(line) > 1]
        ax.add_collection(
            LineCollection(curves, colors=color, linewidths=0.6, alpha=0.35)
        )
    finite = losses[np.isfinite(losses) & (losses > 0)]
    if len(finite):
        low, high = np.quantile(finite, [0.0, 0.995])
        ax.set_yscale("log")
        ax.set_ylim(0.8 * low, 1.25 * high)
    ax.set_xlim(float(epochs[0]), float(max(epochs[-1], epochs[0] + 1)))
    ax.set(xlabel="epochs", ylabel="training loss (log scale)")
    return ax


def band(
    ax: Axes,
    x: Sequence[float],
    middle: Sequence[float | None],
    low: Sequence[float | None],
    high: Sequence[float | None],
) -> Axes:
    """Draw a line and its interval, except where they are not known."""
    line, least, most = (np.asarray(y, dtype=np.float64) for y in (middle, low, high))
    ax.fill_between(x, least, most, color=BLUE, alpha=0.2, lw=0)
    ax.plot(x, line, color=BLUE)
    if len(x) > 1:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    return ax


def profile(
    ax: Axes,
    thresholds: Sequence[float],
    curves: Mapping[str, Curve],
    best: str,
) -> Axes:
    """Draw the share of starts that reach each threshold, with the best setting in color."""
    for name, curve in curves.items():
        if name != best:
            ax.plot(thresholds, curve.shares, color=FAINT, lw=0.9)
    if len(curves) > 1:
        ax.plot([], [], color=FAINT, label="other settings")
    curve = curves[best]
    ax.fill_between(thresholds, curve.low, curve.high, color=BLUE, alpha=0.2, lw=0)
    ax.plot(thresholds, curve.shares, color=BLUE, label=best)
    if len(curves) > 1:
        ax.legend()
    ax.set_ylim(-0.02, 1.02)
    return ax
