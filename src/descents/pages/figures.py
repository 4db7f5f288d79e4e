"""Functions that draw figures on given axes; they compute no results, write no files.

Those of `descents reproduce` alone are in `report_figures`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogFormatterMathtext

from descents.pages import marks
from descents.plots.axes import BLUE, FAINT, INK, RED, Style, differences

LINES = (BLUE, "#b7791f", "#3a8f6f", "#c2578b", "#8e5bb5", RED, FAINT)
"""Colors of lines that are seen on light and on dark paper."""
MOST_COLUMNS = 12
"""The most columns of a stack of dots."""
STACK = 20
"""Dots in a stack before a second column begins, and in the lowest full height."""
T = TypeVar("T")
"""The type of what is drawn."""
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
    "svg.fonttype": "none",
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
    """A figure: the function that draws it, and what it shows.

    The text `says` is the caption and the alternative text: what the reader is to see.
    """

    draw: Callable[[Stored[R]], Figure]
    says: str | Callable[[Stored[R]], str]
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


def stacked(values: np.ndarray, bins: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Return where dots are drawn so that those of about one value do not overlap.

    Dots of one value are stacked. If there are few different values, such as accuracies on
    few rows, high stacks get several columns in the room between the values.

    Returns
    -------
    x, height : ndarray of shape (starts,)
        The height is from 0 to 1; NaN stays NaN.

    Examples
    --------
    >>> x, height = stacked(np.array([1.0, 1.0, 2.0, 1.0, np.nan]))
    >>> x, height.round(2)
    (array([ 1.,  1.,  2.,  1., nan]), array([0.  , 0.05, 0.  , 0.1 ,  nan]))
    """
    x, height = values.astype(np.float64), np.full(len(values), np.nan)
    finite = np.flatnonzero(np.isfinite(x))
    if not len(finite):
        return x, height
    numbers = x[finite]
    levels = np.unique(numbers)
    few = len(levels) <= bins // 2
    width = (levels[-1] - levels[0]) / bins
    places = (
        np.searchsorted(levels, numbers)
        if few or not width
        else np.floor((numbers - levels[0]) / width)
    )
    order = np.argsort(places, kind="stable")
    _, first, count = np.unique(places[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    columns = 1
    if few and len(levels) > 1:
        columns = min(-(-int(count.max()) // STACK), MOST_COLUMNS)
        step = 0.6 * float(np.diff(levels).min()) / MOST_COLUMNS
        used = np.minimum(np.repeat(count, count), columns)
        x[finite[order]] += (rank % columns - (used - 1) / 2) * step
    height[finite[order]] = (
        rank // columns / max(-(-int(count.max()) // columns) - 1, STACK)
    )
    return x, height


def stacks(
    ax: Axes,
    names: Sequence[str],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    means: Sequence[float | None],
    intervals: Sequence[Sequence[float | None] | None],
) -> Axes:
    """Draw the values of all starts as stacked dots, one line per name, with the means.

    Parameters
    ----------
    ax : Axes
    names : sequence of str
    parts : sequence of (ndarray, ndarray)
        The rows of the starts of each name in the table of starts, and their values.
    means : sequence of float or None
    intervals : sequence of (float or None, float or None) or None
        The 95% intervals of the means.
    """
    for place, (rows, values) in enumerate(parts):
        x, height = stacked(values)
        marks.dots(ax, x, place - 0.12 - 0.62 * height, rows, BLUE, 3.2, 0.6)
    for place, (mean, ends) in enumerate(zip(means, intervals, strict=True)):
        if mean is None:
            continue
        if ends and ends[0] is not None:
            line = np.asarray(ends, dtype=np.float64)
            ax.plot(line, [place + 0.08] * 2, color=INK, lw=2.5)
        ax.plot([mean], [place + 0.08], "D", color=INK, ms=4.5)
    ax.set_yticks(range(len(names)), list(names))
    ax.set_ylim(len(names) - 0.6, -0.95)
    return ax


def shortened(name: str, most: int = 28) -> str:
    """Return a name for an axis, shortened if it is long.

    Examples
    --------
    >>> shortened("kaiming"), shortened("a" * 40, 5)
    ('kaiming', 'aaaa…')
    """
    return name if len(name) <= most else name[: most - 1] + "…"


def in_lines(name: str, width: int = 24) -> str:
    r"""Return a name for an axis in at most three lines, shortened if it is longer.

    Examples
    --------
    >>> in_lines("kaiming with learning rate 0.01", 20)
    'kaiming with\nlearning rate 0.01'
    """
    lines = textwrap.wrap(name, width, max_lines=3, placeholder="…")
    return "\n".join(lines)


def ends(items: list[T], most: int) -> list[T]:
    """Return all items, or of more than `most` the first and the last ones.

    Examples
    --------
    >>> ends([1, 2, 3, 4, 5], 4), ends([1, 2], 4)
    ([1, 2, 4, 5], [1, 2])
    """
    if len(items) <= most:
        return items
    return items[: most // 2] + items[-most // 2 :]


def shaken(values: np.ndarray, stream: int, step: float | None) -> np.ndarray:
    """Return values moved by less than a third of the step between them.

    Without a step, values are as they are. The same values are moved by the same amounts
    in every picture.
    """
    if step is None:
        return values
    generator = np.random.Generator(np.random.Philox(stream))
    moved: np.ndarray = values + generator.uniform(-0.3, 0.3, len(values)) * step
    return moved


def forest(
    ax: Axes,
    names: Sequence[str],
    values: Sequence[float | None],
    intervals: Sequence[Sequence[float | None]],
    style: Style | None = None,
) -> Axes:
    """Draw differences with their intervals, one line per name, and a line at 0.

    Parameters
    ----------
    ax : Axes
    names : sequence of str
    values : sequence of float or None
    intervals : sequence of (float or None, float or None)
    style : mapping, optional
        As `Axes.errorbar` takes it.
    """
    # What is not known is NaN, and not drawn.
    low, high = np.array(intervals, dtype=np.float64).reshape(-1, 2).T
    middle = np.array(values, dtype=np.float64)
    drawn = {"ms": 6, "ecolor": INK, "elinewidth": 2, "capsize": 0} | dict(style or {})
    differences(ax, names, middle, low, high, drawn)
    ax.set_yticks(range(len(names)), [in_lines(name) for name in names])
    return ax


def interaction(
    ax: Axes,
    options: Sequence[str],
    means: Mapping[tuple[str | float, ...], float | None],
) -> Axes:
    """Draw the mean at each value of an option, one line per value of another option."""
    first, second = (list(dict.fromkeys(cell[k] for cell in means)) for k in (0, 1))
    if len(second) > len(first):  # the longer option is on the axis
        means = {(b, a): value for (a, b), value in means.items()}
        first, second, options = second, first, [options[1], options[0]]
    for place, value in enumerate(second):
        color = LINES[place % len(LINES)]
        line = [means[one, value] for one in first]
        ys = np.array([np.nan if y is None else y for y in line])
        ax.plot(
            range(len(first)),
            ys,
            "o-",
            color=color,
            label=str(value),
        )
    ax.set_xticks(range(len(first)), [shortened(str(one), 14) for one in first])
    ax.margins(x=0.1)
    names = [option.replace("_", " ") for option in options]
    ax.set_xlabel(names[0])
    ax.legend(title=names[1])
    return ax


def loss_axes(ax: Axes, losses: np.ndarray) -> None:
    """Use a logarithmic axis for losses of very different sizes, if all are positive."""
    finite = losses[np.isfinite(losses)]
    if len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min():
        ax.set_yscale("log")


def histogram(ax: Axes, values: np.ndarray) -> Axes:
    """Draw a histogram of the values of starts."""
    ax.hist(values, bins=30, color=BLUE, alpha=0.8)
    return ax


def against(
    ax: Axes,
    training: np.ndarray,
    held_out: np.ndarray,
    colors: Mapping[str, tuple[np.ndarray, str]],
) -> Axes:
    """Draw held-out against training scores, one dot per start, and the diagonal.

    Parameters
    ----------
    ax : Axes
    training, held_out : ndarray of shape (starts,)
        Starts without one of the scores have no dot.
    colors : mapping of str to (ndarray, str)
        The starts that have each label, and their color.
    """
    defined = np.isfinite(training) & np.isfinite(held_out)
    if not defined.any():
        ax.set_axis_off()
        ax.text(0.5, 0.5, "not defined for any start", ha="center", va="center")
        return ax
    both = np.concatenate([training[defined], held_out[defined]])
    low, high = float(both.min()), float(both.max())
    pad = 0.05 * (high - low) or 0.01
    ends = low - pad, high + pad
    ax.plot(ends, ends, color=FAINT, lw=1)
    for label, (rows, color) in colors.items():
        chosen = rows[defined[rows]]
        if len(chosen):
            marks.dots(ax, training[chosen], held_out[chosen], chosen, color, 4.5, 0.5)
            if len(colors) > 1:
                ax.plot([], [], "o", color=color, ms=5, label=label)
    if len(colors) > 1:
        ax.legend(fontsize=8.5)
    ax.set(xlim=ends, ylim=ends)
    ax.set_aspect("equal", adjustable="box")
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
