"""Results of networks, as text on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from descents.text import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from descents.runs.train_result import NetworkResult, OptionEffect


def show(console: Console, result: NetworkResult, out: Path) -> None:
    """Print what was trained, and how much the result depends on the start."""
    what = (
        f"{counted(len(result.classes), 'class', 'classes')}"
        if result.classes
        else "numbers"
    )
    weights = result.run.options.get("weights")
    console.print(
        f"{result.target.name}: {what}{f' ({result.why})' if result.why != what else ''}, "
        f"{counted(result.rows, 'row')}"
        f"{f' weighted by {weights}' if weights else ''}, "
        f"{len(result.features)} features.",
        markup=False,
    )
    for line in result.warnings:
        console.print(f"Warning: {line}.", style="yellow", markup=False)
    console.print(_settings(result))
    for line in _caveats(result):
        console.print(line)
    for line in _verdicts(result):
        console.print(line, markup=False)
    if result.effects:
        console.print(_effects(result.effects))
    if result.compared:
        console.print(
            "The best setting compared with each other one (95% simultaneous intervals):"
        )
    for pair in result.compared:
        console.print(
            f"{pair.setting} against {pair.against}: "
            f"{number(pair.difference, '+.4f')} ({between(pair.interval)}), adjusted "
            f"p {number(pair.p_adjusted, '.2g')}"
            f"{_of_how_many(pair.counts[0], result.starts)}.",
            markup=False,
        )
    variance = result.variance
    if variance.splits is not None and variance.starts is not None:
        console.print(
            f"The interval is over starts, on these {result.splits} splits of the "
            "rows: the standard deviation is "
            f"{variance.starts**0.5:.4f} between starts and "
            f"{variance.splits**0.5:.4f} between splits."
        )
    console.print(_best_start(result), markup=False)
    console.print(f"The page: {out / 'report.html'}")


def _settings(result: NetworkResult) -> Table:
    """Return the table of the metric in each setting."""
    from rich import table

    metric = result.metric.replace("_", " ")
    starts = counted(result.starts, "start")
    shown = table.Table(title=f"{metric}, {starts}", title_justify="left")
    longest = max(len(setting.name) for setting in result.settings)
    shown.add_column("setting", overflow="fold", min_width=min(longest, 30))
    for name in ("mean", "95% interval", "std. dev.", "median", "failed"):
        shown.add_column(name, justify="right", no_wrap=True)
    for setting in result.settings:
        m = setting.metric
        shown.add_row(
            setting.name,
            number(m.mean),
            between(m.interval),
            number(m.standard_deviation),
            number(m.quartiles[1] if m.quartiles else None),
            f"{m.failed} of {result.starts}",
        )
    if result.constant is not None:
        shown.add_row("always " + _constant_answer(result), number(result.constant))
    return shown


def _constant_answer(result: NetworkResult) -> str:
    """Return what the constant prediction answers."""
    return "the most frequent class" if result.classes else "the mean"


def _verdicts(result: NetworkResult) -> list[str]:
    """Return how the starts of each setting ended."""
    lines = []
    for setting in result.settings:
        counts = ", ".join(f"{n} {word}" for word, n in setting.verdicts.items())
        rest = setting.short - setting.diagnosed
        more = f"{', ' if counts else ''}{rest} {'more ' if counts else ''}below what "
        more = f"{more}the best reach, not diagnosed" if rest else ""
        if counts or more:
            each = " (each start on each split)" if result.splits > 1 else ""
            lines.append(f"{setting.name}{each}: {counts}{more}.")
    return lines


def _best_start(result: NetworkResult) -> str:
    """Return which start `descents apply` uses, and its scores."""
    best = result.best
    # A score on held-out rows may be undefined, which is not the same as no such rows.
    validated = result.run.options["validation"] != "none"
    score = "accuracy" if result.classes else "R2"
    held_out = f", {number(best.validation)} on the held-out rows" if validated else ""
    if best.constant is not None:
        constant = f"{_constant_answer(result)} has {number(best.constant)}"
        held_out += f", where always predicting {constant}"
    if result.starts > 1 and validated:
        held_out += " (the start's score is somewhat too good, because these rows chose the start)"
    which = "held-out" if validated else "training"
    where = f" on split {best.split}" if result.splits > 1 else ""
    return (
        f"'descents apply' uses the start with the least {which} loss, start "
        f"{best.start} of {best.setting}{where}: {score} {number(best.training)} "
        f"in training{held_out}. {result.seconds:.1f} s."
    )


def _caveats(result: NetworkResult) -> list[str]:
    """Return the reasons why the scores may be better than those on new rows."""
    options = result.run.options
    if options["validation"] == "none":
        return ["No rows were held out: these values are of the training rows."]
    if options["early_stopping"] is not None:
        return [
            "--early-stopping used the held-out rows to choose the epoch of each start, so "
            "the values on these rows are somewhat too good."
        ]
    return []


def _effects(effects: list[OptionEffect]) -> Table:
    """Return a table of the main effect of each option."""
    from rich import table

    count = effects[0].count
    title = f"which option matters, from {counted(count, 'start')} per setting"
    shown = table.Table(title=title, title_justify="left")
    for name in ("option", "value"):
        shown.add_column(name, overflow="fold")
    for name in ("share", "p", "mean", "minus overall mean"):
        shown.add_column(name, justify="right", no_wrap=True)
    for effect in effects:
        for position, level in enumerate(effect.levels):
            first = position == 0
            shown.add_row(
                effect.parameter.replace("_", " ") if first else "",
                str(level.value),
                f"{effect.share:.1%}" if first else "",
                f"{effect.p_adjusted:.2g}" if first else "",
                f"{level.mean:.4f}",
                between(level.interval, "+"),
            )
    return shown


def between(ends: list[float | None] | None, sign: str = "") -> str:
    """Return an interval as text, "-" if there is none.

    Examples
    --------
    >>> between([0.5, 1.0]), between(None)
    ('0.5000 to 1.0000', '-')
    """
    if ends is None or None in ends:
        return "-"
    return f"{ends[0]:{sign}.4f} to {ends[1]:{sign}.4f}"


def number(value: float | None, form: str = ".4f") -> str:
    """Return a number as text, "-" if there is none.

    Examples
    --------
    >>> number(0.5), number(None)
    ('0.5000', '-')
    """
    return "-" if value is None else format(value, form)


def _of_how_many(count: int, total: int) -> str:
    """Return the number of starts that a figure is based on, unless it is all starts."""
    return "" if count == total else f", from {count} of {total} starts"
