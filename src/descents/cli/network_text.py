"""Results of networks, as text on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from descents.cli.printing import Column, say, show_table, warn_of
from descents.pages.numbers import digits_of
from descents.text import counted, p_text

if TYPE_CHECKING:
    from descents.pages.numbers import Digits
    from descents.runs.train_result import NetworkResult, OptionEffect


def show(result: NetworkResult, out: Path) -> None:
    """Print what was trained, and how much the result depends on the start."""
    form = digits_of(result)
    what = (
        f"{counted(len(result.classes), 'class', 'classes')}"
        if result.classes
        else "numbers"
    )
    weights = result.run.options.get("weights")
    say(
        f"{result.target.name}: {what}{f' ({result.why})' if result.why != what else ''}, "
        f"{counted(result.rows, 'row')}"
        f"{f' weighted by {weights}' if weights else ''}, "
        f"{len(result.features)} features.",
    )
    warn_of(result.warnings)
    _show_settings(result)
    for line in _caveats(result):
        say(line)
    for line in _verdicts(result):
        say(line)
    if result.effects:
        _show_effects(result.effects, form)
    for source in result.sources:
        if len(source.parameters) > 1 and source.share is not None:
            say(
                f"Interaction {source.source.replace('_', ' ')}: {source.share:.1%} of the "
                f"sum of squares, {p_text(source.p_value)}."
            )
    if result.compared:
        say(
            "The best setting compared with each other one (95% simultaneous intervals):"
        )
    for pair in result.compared:
        say(
            f"{pair.setting} against {pair.against}: "
            f"{form(pair.difference, sign=True)} ({form.between(pair.interval)}), "
            f"adjusted {p_text(pair.p_adjusted)}"
            f"{_of_how_many(pair.counts[0], result.starts)}.",
        )
    variance = result.variance
    if variance.splits is not None and variance.starts is not None:
        say(
            f"The interval is over starts, on these {result.splits} splits of the "
            "rows: the standard deviation is "
            f"{form.one(variance.starts**0.5)} between starts and "
            f"{form.one(variance.splits**0.5)} between splits."
        )
    say(_best_start(result))
    say(f"The page: {out / 'report.html'}")


def _show_settings(result: NetworkResult) -> None:
    """Print the table of the metric in each setting."""
    form = digits_of(result)
    names = [result.called(setting.name) for setting in result.settings]
    metrics = [setting.metric for setting in result.settings]
    medians = [form.one(m.quartiles[1] if m.quartiles else None) for m in metrics]
    columns = {
        "mean": [form(m.mean) for m in metrics],
        "95% interval": [form.between(m.interval) for m in metrics],
        "std. dev.": [form(m.standard_deviation) for m in metrics],
        "median": medians,
        "failed": [f"{m.failed} of {result.starts}" for m in metrics],
    }
    if result.constant is not None:
        names.append("always " + _constant_answer(result))
        for title, cells in columns.items():
            cells.append(form(result.constant) if title == "mean" else "")
    order = {"mean": 1, "95% interval": 2, "failed": 3, "std. dev.": 4, "median": 5}
    show_table(
        [
            Column("setting", names),
            *(Column(t, c, order[t], right=True) for t, c in columns.items()),
        ],
        f"{result.metric.replace('_', ' ')}, {counted(result.starts, 'start')}",
    )


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
            lines.append(f"{result.called(setting.name)}{each}: {counts}{more}.")
    return lines


def _best_start(result: NetworkResult) -> str:
    """Return which start `descents apply` uses, and its scores."""
    best, form = result.best, digits_of(result)
    # A score on held-out rows may be undefined, which is not the same as no such rows.
    validated = result.run.options["validation"] != "none"
    score = "accuracy" if result.classes else "R2"
    held_out = (
        f", {form.one(best.validation)} on the held-out rows" if validated else ""
    )
    if best.constant is not None:
        constant = f"{_constant_answer(result)} has {form.one(best.constant)}"
        held_out += f", where always predicting {constant}"
    if result.starts > 1 and validated:
        held_out += " (the start's score is somewhat too good, because these rows chose the start)"
    which = "held-out" if validated else "training"
    where = f" on split {best.split}" if result.splits > 1 else ""
    return (
        f"'descents apply' uses the start with the least {which} loss, start "
        f"{best.start} of {result.called(best.setting)}{where}: {score} {form.one(best.training)} "
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


def _show_effects(effects: list[OptionEffect], form: Digits) -> None:
    """Print a table of the main effect of each option."""
    levels = [
        (effect, level, place == 0)
        for effect in effects
        for place, level in enumerate(effect.levels)
    ]
    show_table(
        [
            Column(
                "option",
                [
                    e.parameter.replace("_", " ") if first else ""
                    for e, _, first in levels
                ],
            ),
            Column("value", [str(level.value) for _, level, _ in levels]),
            Column(
                "share", [f"{e.share:.1%}" * first for e, _, first in levels], 1, True
            ),
            Column(
                "p", [f"{e.p_adjusted:.2g}" * first for e, _, first in levels], 3, True
            ),
            Column("mean", [form(level.mean) for _, level, _ in levels], 2, True),
            Column(
                "minus overall mean",
                [form.between(level.interval, sign=True) for _, level, _ in levels],
                4,
                True,
            ),
        ],
        f"which option matters, from {counted(effects[0].count, 'start')} per setting",
    )


def _of_how_many(count: int, total: int) -> str:
    """Return the number of starts that a figure is based on, unless it is all starts."""
    return "" if count == total else f", from {count} of {total} starts"
