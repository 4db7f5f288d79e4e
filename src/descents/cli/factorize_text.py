"""What `descents factorize` prints about a fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from descents.cli.printing import say, warn_of
from descents.text import counted

if TYPE_CHECKING:
    from descents.runs.factorize_result import LowRankResult

MOST_SHOWN = 12
"""The number of columns for which it is printed how well they are predicted."""


def show(result: LowRankResult, out: Path) -> None:
    """Print what was fitted, how good it is, and how sure that is."""
    warn_of(result.warnings)
    for line in [*result.chosen, *result.defaults]:
        say(line)
    if result.selection is not None:
        say(result.selection.says)
    rows, wide = result.shape
    penalized = any(v for name, v in result.penalty.items() if name != "count_power")
    with_penalty = " with its penalty" if penalized else ""
    say()
    say(
        f"Rank {result.rank} on {counted(result.observed, 'cell')} of {rows} x {wide}, "
        f"by {result.steps} steps: loss {_form(result.loss, '.8g')}"
        f"{with_penalty}, where the best constants have "
        f"{_form(result.constants_loss, '.6g')}."
    )
    say(result.gap_says)
    _show_held_out(result)
    starts = result.starts
    if starts.count > 1:
        say(
            f"{counted(starts.count, 'start')}: median loss "
            f"{_form(starts.loss_median, '.8g')}, largest "
            f"{_form(starts.loss_max, '.8g')}; their column spaces agree to "
            f"{_form(starts.subspace_agreement, '.3g')} (1 is the same space)."
        )
    if result.intervals is not None:
        say(
            f"{100 * result.intervals.coverage:g}% prediction intervals for imputed "
            f"cells, calibrated on {counted(result.intervals.held, 'held-out cell')}."
        )
    statuses = ", ".join(f"{n} {word}" for word, n in result.statuses.items())
    say(f"Starts: {statuses}. {_form(result.seconds, '.1f')} s.")
    if result.memory is not None:
        say(result.memory.says)
    say(f"The page: {out / 'report.html'}")


def _form(value: float | None, form: str) -> str:
    """Return a number in a format, or "not known" for None."""
    return "not known" if value is None else format(value, form)


def _show_held_out(result: LowRankResult) -> None:
    """Print how well held-out cells are predicted."""
    from descents.tables.frames import short
    from descents.tables.spelling import listed

    if result.held_out is None:
        return
    say(result.held_out.says)
    known = {c.name: c.unseen for c in result.columns if c.unseen is not None}
    names = sorted(known, key=lambda name: -known[name])
    each = [
        f"{short(name)} {round(100 * known[name])}%"
        if known[name] >= -1
        else f"{short(name)} below -100%"
        for name in names
    ]
    if len(each) > MOST_SHOWN:
        each = [*each[: MOST_SHOWN // 2], "...", *each[-MOST_SHOWN // 2 :]]
    if each:
        say(f"Predicted of each column, of such cells: {', '.join(each)}")
    flat = [c.name for c in result.columns if c.filled_by == "constant"]
    better = [name for name in flat if known.get(name, 0) > 0]
    worse = [name for name in flat if name not in better]
    unsure = [name for name, share in known.items() if share <= 0 and name not in flat]
    for says, some in (
        ("Not predicted better than by a constant, and filled with it", worse),
        ("Not clearly predicted better, and filled with a constant too", better),
        ("Not predicted better than by a constant, but filled by the model", unsure),
    ):
        if some:
            say(f"{says}: {listed(some)}")
