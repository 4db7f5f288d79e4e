"""The figures of the page of `descents factorize`, and what each of them shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from descents.pages import figures, lowrank_figures, marks
from descents.pages.figures import Picture, Stored
from descents.pages.lowrank_figures import FLOOR
from descents.pages.numbers import number
from descents.plots.axes import BLUE, FAINT
from descents.runs.curves import drawn_starts
from descents.runs.factorize_result import SAME, ColumnOfFit, LowRankResult
from descents.text import counted, joined

Run = Stored[LowRankResult]

MOST_DRAWN = 100
"""Maximum number of columns in the figure of shares: the best and the worst ones."""
MOST_ABREAST = 10
"""Maximum number of components side by side in a row of pictures."""
NOTHING = 1e-6
"""A share below this is rounding."""
EQUAL = 1e-6
"""Starts whose loss is above the best by a smaller share of the constants' loss reach it."""


def percent(share: float | None, whole: bool = False) -> str:
    """Return a share as a percentage, in whole percent unless it is nearly all or nothing.

    Examples
    --------
    >>> percent(0.123), percent(0.9997), percent(-42.0), percent(None), percent(-1e-12)
    ('12%', '99.97%', '-4200%', 'not known', '0%')
    """
    if share is None:
        return "not known"
    if not whole and 0.99 < share < 1:
        # As many nines as there are, and one digit more.
        places = min(max(0, int(-np.log10(1 - share)) - 1), 6)
        return f"{100 * share:.{places}f}%"
    text = f"{100 * share:.0f}%"
    return "0%" if text == "-0%" else text


def by_hidden(result: LowRankResult) -> list[ColumnOfFit]:
    """Return the columns by their hidden share, the best first, unknown ones last.

    Without any hidden cell they are ordered by their seen share.
    """
    judged = any(column.unseen is not None for column in result.columns)

    def key(column: ColumnOfFit) -> tuple[bool, float]:
        share = column.unseen if judged else seen_share(column)
        return share is None, -(share or 0.0)

    return sorted(result.columns, key=key)


def seen_share(column: ColumnOfFit) -> float | None:
    """Return the share of seen cells; runs of version 0.1 only know that of the loss."""
    return column.explained if column.seen is None else column.seen


def _drawn(result: LowRankResult) -> list[ColumnOfFit]:
    return figures.ends(by_hidden(result), MOST_DRAWN)


def _trust(run: Run) -> Figure:
    columns = _drawn(run.result)
    figure, (ax,) = figures.new_figure(6.4, 1.0 + 0.23 * len(columns))
    lowrank_figures.shares(
        ax,
        [column.name for column in columns],
        [seen_share(column) for column in columns],
        [column.unseen for column in columns],
    )
    verb = "predicted" if run.result.held_out else "explained of seen cells"
    ax.set_xlabel(f"share that is {verb}; 0 is the best constant")
    if len(run.result.columns) > len(columns):
        ax.axhline(MOST_DRAWN // 2 - 0.5, color=FAINT, lw=1, ls=":")
    return figure


def _trust_says(run: Run) -> str:
    columns = by_hidden(run.result)
    known = [column for column in columns if column.unseen is not None]
    which = ""
    if len(columns) > MOST_DRAWN:
        half = MOST_DRAWN // 2
        which = (
            f" The {half} columns that are predicted best and the {half} worst are drawn, "
            f"with a dotted line between them; all {len(columns)} are listed below."
        )
    if not known:
        seen = [column for column in columns if seen_share(column) is not None]
        if not seen:
            return f"No column varies, so nothing can be explained.{which}"
        most, least = (percent(seen_share(seen[k])) for k in (0, -1))
        finding = f"{seen[0].name} is fitted best ({most}) and {seen[-1].name} worst ({least})"
        if most == least:
            finding = f"{most} of each column is explained"
        return (
            f"Of seen cells only, {finding}. No cell was hidden to measure how well others "
            f"are predicted.{which}"
        )
    best, worst = known[0], known[-1]
    low = [column for column in known if (column.unseen or 0.0) <= NOTHING]
    finding = f"Of hidden cells, {best.name} is predicted best ({percent(best.unseen)})"
    if len(known) > 1:
        finding += f" and {worst.name} worst ({percent(worst.unseen)})"
    none = (
        f"; {len(low)} of {counted(len(known), 'column')} "
        f"{'is' if len(low) == 1 else 'are'} predicted no better than by a constant"
        if low
        else "; every column is predicted better than by its constant"
    )
    unknown = len(columns) - len(known)
    dots = " Filled dots are hidden cells, hollow ones seen cells, red is the constant."
    if unknown:
        dots += f" {counted(unknown, 'column')} could not be measured on hidden cells."
    return f"{finding}{none}.{dots}{which}"


def _selection(run: Run) -> Figure:
    """Draw held-out losses over the ranks and, at the chosen rank, over the penalties."""
    selection = run.result.selection
    assert selection is not None  # noqa: S101 - the picture needs it
    if selection.how != "cells":
        figure, (ax,) = figures.new_figure(5.6, 3.6)
        threshold = selection.threshold or 0.0
        lowrank_figures.threshold(ax, np.array(selection.values), threshold)
        return figure
    ranks, penalties = selection.ranks, selection.penalties
    mean, error = (
        np.array(part, dtype=np.float64) for part in (selection.mean, selection.error)
    )
    best = np.unravel_index(int(np.nanargmin(mean)), mean.shape)
    most = float(mean[best] + error[best])
    rank = ranks.index(selection.rank)
    both = len(ranks) > 1 and bool(penalties)
    figure, axes = figures.new_figure(9.6 if both else 5.6, 3.6, 2 if both else 1)
    penalty, name = selection.penalty, selection.name or ""
    place = 0 if penalty is None else penalties.index(penalty)
    if len(ranks) > 1 or not penalties:
        ax = axes[0]
        lowrank_figures.held_out(ax, ranks, mean[:, place], error[:, place], rank, most)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("rank" + (f", at the chosen {name}" if both else ""))
    if penalties:
        ax = axes[-1]
        lowrank_figures.held_out(ax, penalties, mean[rank], error[rank], place, most)
        ax.set_xscale("log" if min(penalties) > 0 else "symlog")
        ax.set_xlabel(name + (f", at rank {selection.rank}" if both else ""))
    return figure


def _selection_says(run: Run) -> str:
    selection = run.result.selection
    if selection is None:
        return ""
    if selection.how != "cells":
        above = sum((v or 0) > (selection.threshold or 0) for v in selection.values)
        are = "is" if above == 1 else "are"
        return (
            f"{above} of {counted(len(selection.values), 'singular value')} {are} above "
            f"the threshold {number(selection.threshold)}, which noise alone does not reach."
        )
    mean = np.array(selection.mean, dtype=np.float64)
    place = (
        0 if selection.penalty is None else selection.penalties.index(selection.penalty)
    )
    here = float(mean[selection.ranks.index(selection.rank), place])
    least = float(np.nanmin(mean))
    chosen = f"rank {selection.rank}"
    if selection.penalty is not None:
        chosen += f" with {selection.name} {number(selection.penalty)}"
    text = (
        f"The chosen model, {chosen}, has {here:.3f} of the constants' loss on held-out "
        f"cells; the least is {least:.3f}"
    )
    worse = int((mean > 1).sum())
    if worse:
        text += f", and {worse} of {mean.size} are worse than constants (the red line)"
    return (
        f"{text}. Dots are means over folds with one standard error; the simplest model "
        "within one standard error of the least is chosen."
    )


def above_best(run: Run) -> np.ndarray:
    """Return the loss of each start minus that of the best, over the constants' loss."""
    losses = run.rows["loss"].astype(np.float64)
    finite = losses[np.isfinite(losses)]
    unit = run.result.constants_loss or 0.0
    unit = unit if unit > 0 else max(float(np.abs(finite).max(initial=0.0)), 1e-300)
    found: np.ndarray = (losses - finite.min(initial=np.inf)) / unit
    return found


def _start_losses(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.2, 3.6)
    lowrank_figures.distances(ax, above_best(run))
    ax.set_ylabel("(loss - best loss) / constants")
    return figure


def _start_losses_says(run: Run) -> str:
    distance = above_best(run)
    finite = distance[np.isfinite(distance)]
    near = int((finite <= EQUAL).sum())
    failed = len(distance) - len(finite)
    worst = float(finite.max(initial=0.0))
    text = f"{near} of {counted(len(distance), 'start')} reach the loss of the best"
    if near < len(finite):
        text += f"; the worst is {100 * worst:.2g}% of the constants' loss above it"
    lost = f" {counted(failed, 'start')} failed and {'has' if failed == 1 else 'have'} no dot."
    return (
        f"{text}. Each dot is a start; those within {FLOOR:g} of the best are drawn at "
        f"that distance.{lost if failed else ''}"
    )


def _components(run: Run) -> Figure:
    """Draw the cosine of each matched component of every other start."""
    cosines = run.tensors["cosines"]
    figure, (ax,) = figures.new_figure(5.2, 3.6)
    others = np.flatnonzero(np.arange(len(cosines)) != _best(run))
    count = cosines.shape[1]
    spread = np.linspace(-0.3, 0.3, len(others)) if len(others) > 1 else np.zeros(1)
    x = np.arange(1, count + 1)[None] + spread[:, None]
    rows = np.repeat(others, count)
    ax.axhline(SAME, color=FAINT, lw=1, ls="--")
    marks.dots(ax, x.ravel(), cosines[others].ravel(), rows, BLUE, 4, 0.6)
    ax.set(xlabel="component of the best start", ylabel="cosine of its match")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlim(0.4, count + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _best(run: Run) -> int:
    """Return the row of the best start."""
    return int(np.nanargmin(run.rows["loss"].astype(np.float64)))


def _components_says(run: Run) -> str:
    cosines = run.tensors["cosines"]
    others = np.delete(cosines, _best(run), 0)
    known = others[np.isfinite(others).any(1)]
    if not len(known):
        return "No component of another start can be compared."
    shares = [
        f"component {k} in {int((column >= SAME).sum())}"
        for k, column in enumerate(known.T[:6], 1)
    ]
    more = f" (the first 6 of {known.shape[1]})" if known.shape[1] > 6 else ""
    return (
        f"Of {counted(len(known), 'other start')}, this many have a match with a cosine of "
        f"at least {SAME:g} (dashed): {joined(shares)}{more}. Each dot is a component of "
        "another start, matched one to one with those of the best."
    )


def _curves(run: Run) -> Figure:
    tensors = run.tensors
    losses = tensors["history_loss"].astype(np.float64)
    steps = tensors["recorded"].astype(np.float64) + 1
    ends = run.rows["loss"].astype(np.float64)
    drawn = drawn_starts(~np.isfinite(ends))
    best = _best(run)
    others = drawn[drawn != best]
    figure, (ax,) = figures.new_figure(5.2, 3.6)
    marks.curves(ax, steps, losses[:, others], others, FAINT, 0.6)
    marks.curves(ax, steps, losses[:, [best]], np.array([best]), BLUE, 1.0)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    figures.loss_axes(ax, losses[:, drawn])
    ax.set(xlabel="steps + 1", ylabel="loss with penalties")
    return figure


def _curves_says(run: Run) -> str:
    ends = run.rows["loss"].astype(np.float64)
    drawn = drawn_starts(~np.isfinite(ends))
    steps = run.rows["steps_taken"]
    best = _best(run)
    which = f"All {len(ends)} curves are drawn"
    if len(drawn) < len(ends):
        failed = int((~np.isfinite(ends)).sum())
        lost = f", with every one of the {failed} that failed" if failed else ""
        which = f"{len(drawn)} of {len(ends)} curves are drawn, evenly chosen{lost}"
    return (
        f"The best start (blue) took {counted(int(steps[best]), 'step')}, the median "
        f"start {float(np.median(steps)):.0f}. {which}, at most 32 points each."
    )


def _images(run: Run) -> Figure:
    values = run.tensors["images"]
    count, high, wide = values.shape[:3]
    columns = min(count, MOST_ABREAST)
    lines = -(-count // columns)
    inches = min(1.0, 2.0 * wide / high)  # the width of a picture; tall ones are narrow
    figure, (ax,) = figures.new_figure(
        inches * max(columns, 3), inches * lines * (high / wide + 0.3)
    )
    lowrank_figures.images(ax, values, columns)
    return figure


def _images_says(run: Run) -> str:
    count, rank = len(run.tensors["images"]), run.result.rank
    first = (
        f"The first {count} of {rank} components" if count < rank else "The components"
    )
    signed = bool((run.tensors["images"] < 0).any())
    gray = run.tensors["images"].ndim == 3
    colors = ""
    if gray:
        colors = (
            " Red is positive, blue negative, white 0."
            if signed
            else " Black is 0, white the largest value."
        )
    return f"{first} as pictures, numbered, each with its own scale.{colors}"


def _pattern(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.2, 4.0)
    lowrank_figures.pattern(ax, run.tensors["pattern"], run.result.shape)
    return figure


def _pattern_says(run: Run) -> str:
    result, pattern = run.result, run.tensors["pattern"]
    cells = result.shape[0] * result.shape[1]
    lacking = cells - result.observed
    empty = int((pattern == 0).sum())
    single = list(pattern.shape) == list(result.shape)
    what = "cell" if single else "square of cells"
    text = f"{lacking} of {cells} cells are missing ({percent(lacking / cells)})."
    if single:
        return f"{text} Missing cells are white, and have no part in the fit."
    white = (
        f" {counted(empty, 'square')} without observed cells {'is' if empty == 1 else 'are'} "
        "white."
        if empty
        else ""
    )
    return f"{text} The darker a {what}, the more of it is observed.{white}"


PICTURES: Mapping[str, Picture[LowRankResult]] = {
    "figure-trust": Picture(_trust, _trust_says, wide=True),
    "figure-selection": Picture(_selection, _selection_says, needs="selection"),
    "figure-images": Picture(_images, _images_says, wide=True, needs="images"),
    "figure-starts": Picture(_start_losses, _start_losses_says, needs="several"),
    "figure-components": Picture(_components, _components_says, needs="cosines"),
    "figure-curves": Picture(_curves, _curves_says, needs="curves"),
    "figure-pattern": Picture(_pattern, _pattern_says, needs="holes"),
}


def has(run: Run, need: str) -> bool:
    """Return whether the run has what a picture needs."""
    result, several = run.result, run.result.starts.count > 1
    if need == "several":
        return several
    if need == "curves":
        return several and len(run.tensors["recorded"]) > 1
    if need == "holes":
        return result.observed < result.shape[0] * result.shape[1]
    if need == "selection":
        return result.selection is not None
    if need == "cosines" and need in run.tensors:
        return bool(np.isfinite(run.tensors[need]).any())
    return need in run.tensors
