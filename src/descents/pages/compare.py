"""The page of `descents compare`: what it says first, its figures and its starts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from descents.pages import figures, marks
from descents.pages.answers import Alert, Answer, Tile
from descents.pages.figures import Picture, Stored
from descents.pages.kinds import Kind
from descents.pages.starts import StartsTable
from descents.plots.axes import BLUE, FAINT, INK, RED
from descents.runs.command_line import command_line
from descents.runs.train_result import ComparisonResult
from descents.statistics.metrics import metric_words
from descents.text import counted, decimals_of, joined, small

Run = Stored[ComparisonResult]

MOST_PAIRS = 3
"""The largest number of sides that are drawn start by start."""
LONGEST = 60
"""Names of sides that are longer are cut at their beginning."""


def _short(name: str) -> str:
    return figures.in_lines(name if len(name) <= LONGEST else "…" + name[1 - LONGEST :])


def _rows(run: Run, side: str) -> np.ndarray:
    """Return the rows of the starts of a side, by their number."""
    chosen = np.flatnonzero(run.rows["side"] == side)
    return chosen[np.argsort(run.rows["start"][chosen], kind="stable")]


def _sides(run: Run) -> Figure:
    """Draw the starts of all sides on one axis, with their means and intervals."""
    sides = run.result.sides
    figure, (ax,) = figures.new_figure(6.8, 1.3 + 0.75 * len(sides))
    rows = [_rows(run, side.name) for side in sides]
    figures.stacks(
        ax,
        [_short(side.name) for side in sides],
        [(chosen, run.rows["value"][chosen].astype(np.float64)) for chosen in rows],
        [side.mean for side in sides],
        [side.interval for side in sides],
    )
    ax.set_xlabel(f"{metric_words(run.result.metric)} of a start")
    return figure


def _sides_says(run: Run) -> str:
    result = run.result
    means = [
        f"{side.name} {small(side.mean, decimals_of(side.interval, result.resolution))}"
        for side in result.sides
    ]
    return (
        f"Mean {metric_words(result.metric)}: {', '.join(means)}. Each dot is a start that "
        "did not fail; starts with about the same value are stacked. The diamond is the "
        "mean, with its 95% interval."
    )


def _pairs(run: Run) -> Figure:
    """Draw each start on a side and on the reference, at equal aspect."""
    result = run.result
    paired = [one for one in result.differences if one.paired][:MOST_PAIRS]
    figure, axes = figures.new_figure(4.4 * len(paired), 4.4, len(paired))
    what = metric_words(result.metric)
    for ax, one in zip(axes, paired, strict=True):
        sides = [_rows(run, name) for name in (one.reference, one.side)]
        _scatter(ax, run, sides, result.higher_is_better)
        ax.set(
            xlabel=f"{what}, {_short(one.reference)}",
            ylabel=f"{what}, {_short(one.side)}",
        )
    return figure


def _scatter(ax: Axes, run: Run, sides: list[np.ndarray], higher: bool) -> Axes:
    """Draw pairs of values at equal aspect, with the diagonal; all pairs are drawn.

    A pair is the same start on both sides, so its dot belongs to two rows. Equal values
    are slightly spread.
    """
    x, y = (run.rows["value"][rows].astype(np.float64) for rows in sides)
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no start has both values", ha="center", va="center")
        return ax
    both = np.concatenate([x[known], y[known]])
    low, high = float(both.min()), float(both.max())
    levels = np.unique(both)
    step = float(np.diff(levels).min()) if 1 < len(levels) <= 60 else None
    pad = (0.06 * (high - low) or max(0.01 * abs(high), 1e-9)) + (step or 0.0) / 3
    ends = (low - pad, high + pad)
    ax.plot(ends, ends, color=FAINT, lw=1)
    gap = (y - x) if higher else (x - y)
    moved = figures.shaken(x, 0, step), figures.shaken(y, 1, step)
    for chosen, color in ((gap == 0, FAINT), (gap > 0, BLUE), (gap < 0, RED)):
        for rows in sides:
            marks.dots(
                ax,
                moved[0][known & chosen],
                moved[1][known & chosen],
                rows[known & chosen],
                color,
                4.5,
                0.5,
            )
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    better, worse = int((gap[known] > 0).sum()), int((gap[known] < 0).sum())
    equal = int(known.sum()) - better - worse
    ax.set_title(f"{counted(better, 'start')} better, {worse} worse, {equal} equal")
    return ax


def _pairs_says(run: Run) -> str:
    paired = [one for one in run.result.differences if one.paired]
    some = f", for the first {MOST_PAIRS} sides" if len(paired) > MOST_PAIRS else ""
    return (
        f"Each start that failed on neither side{some}. On the diagonal, both have the same "
        f"{metric_words(run.result.metric)}. Blue starts are better on the side than on "
        "the reference, red ones worse; equal values are slightly spread."
    )


def _forest(run: Run) -> Figure:
    """Draw the differences with their intervals, the zero line and the margin."""
    result = run.result
    known = [
        (one, one.difference)
        for one in result.differences
        if one.difference is not None
    ]
    figure, (ax,) = figures.new_figure(6.4, 1.7 + 0.7 * max(1, len(known)))
    if result.margin is not None:
        ax.axvspan(-result.margin, result.margin, color=BLUE, alpha=0.1, lw=0)
    names = [f"{_short(one.side)} minus\n{_short(one.reference)}" for one, _ in known]
    values, intervals = [d for _, d in known], [one.interval for one, _ in known]
    figures.forest(ax, names, values, intervals, {"fmt": "none", "elinewidth": 1.5})
    for place, (one, difference) in enumerate(known):
        if one.equivalence is not None:
            line = np.asarray(one.equivalence.interval, dtype=np.float64)
            ax.plot(line, np.full(2, place), color=INK, lw=4)
        color = {"better": BLUE, "worse": RED}.get(one.verdict, INK)
        ax.plot([difference], [place], "o", color=color, ms=7, mec="white")
    ax.set_yticks(range(len(known)), names)
    ax.set_ylim(max(len(known), 1) - 0.4, -0.6)
    better = "higher" if result.higher_is_better else "lower"
    ax.set_xlabel(f"difference in {metric_words(result.metric)}\n({better} is better)")
    return figure


def _forest_says(run: Run) -> str:
    result = run.result
    many = "simultaneous " if len(result.sides) > 2 else ""
    says = ". ".join(f"{one.says}" for one in result.differences)
    if result.margin is None:
        margin = (
            "Where it crosses 0, the sides cannot be distinguished, which does not show "
            "that they are equivalent; --margin tests that."
        )
    else:
        margin = (
            "The thick line is that of the test of equivalence; sides whose thick line is "
            f"inside of the shaded band are equivalent within {result.margin}."
        )
    return (
        f"{says}. The thin line is the {many}95% interval of the difference. {margin}"
    )


PICTURES: Mapping[str, Picture[ComparisonResult]] = {
    "figure-sides": Picture(_sides, _sides_says, wide=True),
    "figure-differences": Picture(_forest, _forest_says, wide=True),
    "figure-pairs": Picture(_pairs, _pairs_says, needs="paired"),
}


def has(run: Run, need: str) -> bool:
    """Return whether any difference is of paired starts, which one picture needs."""
    return any(one.paired for one in run.result.differences)


# What the page says first


def answer(run: Run) -> Answer:
    """Return the answer: which side is better, by how much, and how sure that is."""
    result = run.result
    names = [side.name for side in result.sides]
    sections = {
        "sides": "How do the starts of the sides differ?",
        "differences": "How large is the difference, and how sure is it?",
    }
    if has(run, "paired"):
        sections["pairs"] = "Start by start"
    sections |= {
        "starts": "All starts",
        "options": "In which options do the sides differ?",
        "paper": "For your paper",
        "again": "Run it again",
    }
    title = f"{joined(names)}: {metric_words(result.metric)} compared"
    alerts = [
        Alert(f"{line}.", "options", sections["options"]) for line in result.warnings
    ]
    return Answer(title, result.answer, _tiles(result), alerts, sections, _command(run))


def _tiles(result: ComparisonResult) -> list[Tile]:
    tiles = []
    for one in result.differences[:3]:
        places = decimals_of(one.interval, result.resolution)
        low, high = (small(end, places, sign=True) for end in one.interval)
        tiles.append(
            Tile(
                one.verdict,
                f"{one.side} against {one.reference}: difference "
                f"{small(one.difference, places, sign=True)} (95% interval {low} to "
                f"{high})",
            )
        )
    return tiles


def _command(run: Run) -> str:
    """Return the command that repeats the comparison."""
    options = {
        name: value
        for name, value in run.result.run.options.items()
        if value and name != "runs"
    }
    return command_line(
        ["descents", "compare", *dict.fromkeys(run.result.runs)], options, {}
    )


def starts(run: Run) -> StartsTable:
    """Return the table of the starts of all sides."""
    rows, result = run.rows, run.result
    metric = "value"
    table = StartsTable(
        len(rows["start"]), metric=metric, higher=result.higher_is_better
    )
    table.add("side", "side", rows["side"], filtered=True)
    table.add("start", "start", rows["start"])
    table.add(metric, metric_words(result.metric), rows[metric].astype(np.float64))
    table.add("failed", "failed", rows["failed"].astype(str), filtered=True)
    table.tip = ["side", "start", metric]
    return table


KIND = Kind(ComparisonResult, PICTURES, answer, starts, has=has)
