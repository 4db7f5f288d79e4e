"""Figures: axes in, axes out. Nothing here computes a result or writes a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogFormatterMathtext, MaxNLocator

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
    "text.parse_math": False,  # a column may be called "cost ($) of $1"
    "xtick.color": INK,
    "ytick.color": INK,
}


class Stored(NamedTuple):
    """What is read of a run's folder."""

    result: dict[str, Any]
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]


class Picture(NamedTuple):
    """One figure: how it is drawn, and what it says to who cannot see it."""

    draw: Callable[[Stored], Figure]
    says: str
    wide: bool = False
    needs: str | None = None
    """The tensor, or the part of the result, without which there is no such picture."""


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib has our style, put back afterwards."""
    return mpl.rc_context(rc=dict(STYLE))  # type: ignore[arg-type]


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure of some inches and its axes, without touching any global state."""
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, axes


class PlainLogFormatter(LogFormatter):
    """Labels the ticks of a logarithmic axis that matplotlib would, by plain numbers.

    Examples
    --------
    >>> figure, (ax,) = new_figure(3, 2)
    >>> ax.set(yscale="log", ylim=(1, 100)) and plain_logarithms(figure)
    >>> [label.get_text() for label in ax.get_yticklabels()][1:-1]
    ['1', '10', '100']
    """

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick, empty for one without."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def plain_logarithms(figure: Figure) -> None:
    """Let all logarithmic axes of a figure have plain numbers."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatterMathtext):
                axis.set_major_formatter(PlainLogFormatter())
            if isinstance(axis.get_minor_formatter(), LogFormatterMathtext):
                axis.set_minor_formatter(PlainLogFormatter())


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


def runs_over_shuffles(
    ax: Axes, values: np.ndarray, published: Sequence[float], witness: Sequence[float]
) -> Axes:
    """Draw where each run ends over shuffles, beside its published value.

    Parameters
    ----------
    ax : Axes
    values : ndarray of shape (shuffles, runs)
    published, witness : sequence of float, one for each run
        The witness is drawn where it differs.
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
    """Draw the loss of each of a few starts, with numbers at those that are marked."""
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
    for end, run in sorted(ends):  # names of curves that end together stand apart
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
    """Draw the share of failed starts of each shuffle, in order, the fixed one marked."""
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


def pattern(ax: Axes, shares: np.ndarray, shape: Sequence[int]) -> Axes:
    """Draw which share of the cells of each square of a table is observed."""
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
    """Draw the loss of every start over the steps, the best in color."""
    shown = np.isfinite(losses)
    floor = losses[shown].min()
    span = max(float(losses[shown].max() - floor), 1e-300)
    kept = np.isfinite(histories[:, best]) if len(steps) else np.zeros(0, dtype=bool)
    steps, histories = steps[kept], histories[kept]
    if len(steps):
        _many_lines(ax, steps + 1, histories[:, shown], FAINT, 0.6)
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

    Along each component the arrows are drawn to the scale of the points, so that
    lengths may be compared along one component alone. Arrows that would hide a longer
    one's name are faint, and have none.
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
    # Names of arrows that end side by side would hide each other: the longer is kept.
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
    # Room for names beyond the ends of the arrows.
    low, high = ax.get_xlim()
    room = 0.22 * (high - low)
    ends = [place[0] for place in taken]
    ax.set_xlim(
        low - room * any(end < 0.6 * low for end in ends),
        high + room * any(end > 0.6 * high for end in ends),
    )
    return ax


def reconstruction(ax: Axes, observed: np.ndarray, predicted: np.ndarray) -> Axes:
    """Draw what is predicted against what is observed; a perfect fit lies on the line."""
    if not len(observed):
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no column holds numbers", ha="center", va="center")
        return ax
    low, high = np.quantile(np.concatenate([observed, predicted]), [0.002, 0.998])
    ax.plot([low, high], [low, high], color=FAINT, lw=1)
    ax.plot(observed, predicted, ".", color=BLUE, ms=3, alpha=0.4)
    pad = 0.05 * (high - low) or 1.0
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
    return ax


def explained(ax: Axes, names: Sequence[str], shares: Sequence[float | None]) -> Axes:
    """Draw the share of each column's loss that the model takes away."""
    known = [0.0 if share is None else share for share in shares]
    places = np.arange(len(known))
    ax.barh(places, known, color=BLUE, height=0.7)
    ax.set_yticks(places, [n if len(n) <= 22 else n[:21] + "…" for n in names])
    ax.invert_yaxis()
    ax.set(xlabel="share of the loss of the column's best constant that is gone")
    ax.set_xlim(min([0.0, *known]), 1.0)
    return ax


def images(ax: Axes, values: np.ndarray, columns: int) -> Axes:
    """Draw small pictures in lines of so many, each numbered, on a scale of its own.

    Parameters
    ----------
    values : ndarray of shape (pictures, height, width) or (pictures, height, width, 3)
        From black for 0 to white for the largest of a picture; where any picture has
        negative numbers, blue for those, red for positive ones and white for 0. In
        color, 0 is then gray.
    columns : int
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
    # In the units of a picture's side: the ways between, with room for a number above.
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
    """Draw each start as a dot, a line of dots for each name, quartiles in ink."""
    generator = np.random.Generator(np.random.Philox(0))
    for place, each in enumerate(values):
        finite = each[np.isfinite(each)]
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
    """Draw held-out losses with standard errors, and the one that was chosen.

    Those far above the best, which would press the others flat, leave the axes.
    """
    kept = np.isfinite(mean)
    at = np.asarray(x, dtype=np.float64)
    ax.axhline(most, color=FAINT, lw=1, ls="--", label="least + one standard error")
    ax.errorbar(
        at[kept], mean[kept], error[kept], color=BLUE, fmt="o-", ms=4, lw=1, capsize=3
    )
    ax.plot(at[chosen], mean[chosen], "o", color=RED, ms=9, mfc="none", label="chosen")
    least = mean[kept].min()
    high = max(1.0, 1.5 * float(mean[kept][0]), most + (most - least))
    if (mean[kept] > high).any():
        ax.set_ylim(max(0.0, least - 0.1 * (high - least)), 1.05 * high)
    ax.set_ylabel("held-out loss (1: constants)")
    ax.legend()
    return ax


def threshold(ax: Axes, values: np.ndarray, least: float) -> Axes:
    """Draw singular values, and the threshold above which they are counted."""
    places = np.arange(1, len(values) + 1)
    above = values > least
    ax.plot(places[above], values[above], "o", color=BLUE, ms=5, label="counted")
    ax.plot(places[~above], values[~above], "o", color=FAINT, ms=4, label="noise")
    ax.axhline(least, color=RED, lw=1, ls="--", label="optimal hard threshold")
    ax.set(xlabel="place", ylabel="singular value", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def histogram(ax: Axes, values: np.ndarray) -> Axes:
    """Draw how many starts have which value."""
    ax.hist(values, bins=30, color=BLUE, alpha=0.8)
    return ax


def against(ax: Axes, training: np.ndarray, held_out: np.ndarray) -> Axes:
    """Draw validation against training, a dot a start, and the line of equality.

    Starts of which one of both is not defined have no dot.
    """
    known = np.isfinite(training) & np.isfinite(held_out)
    training, held_out = training[known], held_out[known]
    if not len(training):
        ax.set_axis_off()
        ax.text(0.5, 0.5, "not defined of any start", ha="center", va="center")
        return ax
    both = np.concatenate([training, held_out])
    low, high = np.quantile(both, [0.01, 1.0])
    pad = 0.05 * (high - low) or 0.01
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=FAINT, lw=1)
    # Accuracies are few values: a little noise shows how many starts share one.
    generator = np.random.Generator(np.random.Philox(0))
    noise = generator.normal(0, 0.006 * (high - low + 1e-12), (2, len(training)))
    ax.plot(training + noise[0], held_out + noise[1], ".", color=BLUE, ms=4, alpha=0.4)
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
    return ax


def training_curves(
    ax: Axes, epochs: np.ndarray, losses: np.ndarray, failed: np.ndarray
) -> Axes:
    """Draw the loss of each start over the epochs, those that failed in red."""
    for chosen, color in ((~failed, BLUE), (failed, RED)):
        places = np.flatnonzero(chosen)[:500]
        lines = [
            np.column_stack([epochs, losses[:, k]])[np.isfinite(losses[:, k])]
            for k in places
        ]
        kept = [line for line in lines if len(line) > 1]
        ax.add_collection(
            LineCollection(kept, colors=color, linewidths=0.6, alpha=0.35)
        )
    finite = losses[np.isfinite(losses) & (losses > 0)]
    if len(finite):
        low, high = np.quantile(finite, [0.0, 0.995])
        ax.set_yscale("log")
        ax.set_ylim(0.8 * low, 1.25 * high)
    ax.set_xlim(float(epochs[0]), float(max(epochs[-1], epochs[0] + 1)))
    ax.set(xlabel="epochs", ylabel="training loss (log scale)")
    return ax


def band(ax: Axes, x: Sequence[float], middle: Any, low: Any, high: Any) -> Axes:
    """Draw a line and its interval."""
    ax.fill_between(x, low, high, color=BLUE, alpha=0.2, lw=0)
    ax.plot(x, middle, color=BLUE)
    if len(x) > 1:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    return ax


def profile(
    ax: Axes,
    thresholds: Sequence[float],
    curves: Mapping[str, Mapping[str, Any]],
    best: str,
) -> Axes:
    """Draw the share of starts that reach each threshold: the best in color."""
    for name, curve in curves.items():
        if name != best:
            ax.plot(thresholds, curve["shares"], color=FAINT, lw=0.9)
    if len(curves) > 1:
        ax.plot([], [], color=FAINT, label="other settings")
    told = curves[best]
    ax.fill_between(thresholds, told["low"], told["high"], color=BLUE, alpha=0.2, lw=0)
    ax.plot(thresholds, told["shares"], color=BLUE, label=best)
    if len(curves) > 1:
        ax.legend()
    ax.set_ylim(-0.02, 1.02)
    return ax
