"""The page of `descents train`: what it says first, and its starts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from descents.pages.answers import Alert, Answer, Tile
from descents.pages.kinds import Kind
from descents.pages.numbers import digits_of
from descents.pages.starts import StartsTable
from descents.pages.train_figures import (
    PICTURES,
    Run,
    always,
    best_setting,
    distinguished,
    has,
    is_judged,
    score_names,
    spelled,
    strongest_pair,
)
from descents.runs.train_result import Example, NetworkResult
from descents.statistics.metrics import metric_rows, metric_words
from descents.text import UNJUDGED, counted, joined


def starts(run: Run) -> StartsTable:
    """Return the table of all starts, a row for each setting, start and split."""
    rows, result = run.rows, run.result
    table = StartsTable(
        len(rows["start"]),
        metric=result.metric,
        higher=result.higher_is_better,
        unit="starts" if result.splits == 1 else "starts on splits",
    )
    if len(result.settings) > 1:
        table.add("setting", "setting", rows["setting"], filtered=True)
    table.add("start", "start", rows["start"])
    if result.splits > 1:
        table.add("split", "split", rows["split"], filtered=True)
    shown = [result.metric, *score_names(run), "loss"]
    for name in dict.fromkeys(shown):
        if name in rows:
            label = "training loss" if name == "loss" else metric_words(name)
            step = digits_of(result).single
            places = None if "loss" in name or step is None else step + 1
            table.add(name, label, rows[name], places=places)
    if is_judged(run):
        table.add("verdict", "verdict", rows["verdict"], filtered=True)
    table.add("status", "end", rows["status"], filtered=True)
    for name in ("epochs", "best_epoch", "dead_units", "gradient_norm"):
        if name in rows:
            table.add(name, name.replace("_", " "), rows[name], shown=name == "epochs")
    if "validation_loss" in rows:
        table.add("validation_loss", "held-out loss", rows["validation_loss"])
    table.ties = ["validation_loss", "loss"]
    table.tip = [n for n in ("setting", "start", "split") if n in table.columns]
    table.tip += [result.metric, *(["verdict"] if is_judged(run) else [])]
    return table


# What the page says first


def answer(run: Run) -> Answer:
    """Return the answer of the page: which setting is best, and how sure that is."""
    result = run.result
    table = "standard input" if result.run.table == "-" else result.run.table
    title = f"{result.target.name} of {table}, from {counted(result.starts, 'start')}"
    sections = {"settings": "How much does it depend on the start?"}
    if result.compared:
        sections["differences"] = "Which settings can be distinguished?"
    if result.effects:
        sections["options"] = "Which option matters?"
    sections |= {"starts": "All starts"}
    if is_judged(run) or any(setting.short for setting in result.settings):
        sections["verdicts"] = "How did the starts end?"
    sections |= {
        "more": "How much do more starts improve the best?",
        "splits": "Which rows were held out?",
        "read": "How the columns were read",
        "paper": "For your paper",
        "again": "Run it again",
    }
    return Answer(
        title,
        _sentence(run),
        _tiles(run),
        [_alert(line, sections) for line in result.warnings],
        sections,
        result.command,
    )


def _sentence(run: Run) -> str:
    result, form = run.result, digits_of(run.result)
    metric = best_setting(run).metric
    what = metric_words(result.metric)
    rows = _rows_says(result)
    over = (
        f"the {metric.count} of {counted(result.starts, 'start')} that did not fail"
        if metric.failed
        else counted(metric.count, "start")
    )
    mean = f"{form(metric.mean)} (95% interval {form.between(metric.interval)}, over {over})"
    several = len(result.settings) > 1
    says = [
        f"{result.best.setting} is the best of {len(result.settings)} settings: its mean "
        f"{what} is {mean}, {rows}"
        if several
        else f"The mean {what} is {mean}, {rows}"
    ]
    apart, close = distinguished(result)
    if several and result.compared:
        if close:
            says.append(f"It cannot be distinguished from {joined(close)}")
        if apart:
            says.append(
                f"It is better than {'all others' if not close else joined(apart)}"
            )
    if result.constant is not None:
        says.append(f"For {always(result)} it is {form(result.constant)}")
    if several:
        says.append(
            "The same starts chose this setting, so its mean is somewhat too good"
        )
    if result.run.options.get("early_stopping") is not None:
        says.append(
            "--early-stopping used the held-out rows to choose the epoch of each start, "
            "so the values on these rows are somewhat too good"
        )
    return ". ".join(says) + "."


def _rows_says(result: NetworkResult) -> str:
    """Return on which rows the metric was computed."""
    if metric_rows(result.metric) == "training":
        return "on the training rows; no row was held out"
    if not result.held_out_rows:
        return "on held-out rows"
    low, high = min(result.held_out_rows), max(result.held_out_rows)
    rows = (
        counted(low, "held-out row")
        if low == high
        else f"{low} to {high} held-out rows"
    )
    if result.splits > 1:
        return f"on {rows} in each of {result.splits} splits"
    return f"on {rows}"


def _trained_and_held_out(result: NetworkResult) -> str:
    """Return how many rows were trained on and held out, or "" if it is not known."""
    if not result.held_out_rows:
        return ""
    held_out = sorted({min(result.held_out_rows), max(result.held_out_rows)})
    trained = [result.rows - count for count in reversed(held_out)]
    each = " in each split" if result.splits > 1 else ""
    return (
        f"Of {counted(result.rows, 'row')}, {' to '.join(map(str, trained))} were trained on "
        f"and {' to '.join(map(str, held_out))} held out{each}. "
    )


def _tiles(run: Run) -> list[Tile]:
    result, form = run.result, digits_of(run.result)
    metric = best_setting(run).metric
    best = f" in {result.best.setting}" if len(result.settings) > 1 else ""
    tiles = [
        Tile(
            form(metric.mean),
            f"mean {metric_words(result.metric)}{best}, {_rows_says(result)}; 95% interval "
            f"{form.between(metric.interval)}",
        )
    ]
    if metric.minimum is not None:
        tiles.append(
            Tile(
                f"{form(metric.minimum)} to {form(metric.maximum)}",
                f"from the worst to the best of {counted(metric.count, 'start')}; standard "
                f"deviation {form(metric.standard_deviation)}"
                + (f"; {metric.failed} failed" if metric.failed else "; none failed"),
            )
        )
    if result.compared:
        apart = distinguished(result)[0]
        tiles.append(
            Tile(
                f"{len(apart)} of {len(result.compared)}",
                "other settings are clearly worse (simultaneous 95% intervals)",
            )
        )
    else:
        success = metric.success
        if success.share is not None:
            tiles.append(
                Tile(
                    f"{100 * success.share:.0f}%",
                    f"of the starts are near the best ({near(result)})",
                )
            )
    return tiles


def near(result: NetworkResult) -> str:
    """Return which starts count as near the best."""
    form = digits_of(result)
    bound = form(result.success_threshold)
    return f"at {'least' if result.higher_is_better else 'most'} {bound}"


def _alert(line: str, sections: Mapping[str, str]) -> Alert:
    """Return a warning with a link to the section that explains it."""
    words = {
        "fail": "settings",
        "verdict": "verdicts",
        "effect": "options",
        "interval": "differences",
        "class": "read",
        "split": "splits",
        "held-out": "splits",
    }
    section = next(
        (s for word, s in words.items() if word in line and s in sections), ""
    )
    section = section or "settings"
    return Alert(f"{line}.", section, sections[section])


def _verdicts(run: Run) -> list[dict[str, object]]:
    """Return each verdict of each setting, with its count, an example, and a link to it."""
    result, rows = run.result, run.rows
    if not is_judged(run):
        return []
    found = []
    for setting in result.settings:
        counts, examples = dict(setting.verdicts), dict(setting.examples)
        left = np.flatnonzero(
            (rows["setting"] == setting.name) & (rows["verdict"] == UNJUDGED)
        )
        if len(left):
            counts[UNJUDGED] = len(left)
            examples[UNJUDGED] = Example(
                start=int(rows["start"][left[0]]),
                split=int(rows["split"][left[0]]),
                says="below that level; a larger --diagnose would explain why",
                training=float(rows[score_names(run)[0]][left[0]]),
                gradient_ratio=None,
                dead_share=None,
            )
        chosen = {"setting": setting.name} if len(result.settings) > 1 else {}
        found += [
            {
                "setting": result.called(setting.name),
                "word": word,
                "count": count,
                "example": examples[word],
                "hash": StartsTable.link({**chosen, "verdict": word}),
            }
            for word, count in counts.items()
        ]
    return found


def facts(run: Run) -> dict[str, object]:
    """Return what the template needs besides the result."""
    result = run.result
    rows = run.rows
    return {
        "form": digits_of(result),
        "metric": metric_words(result.metric),
        "always": always(result),
        "near": near(result),
        "trained_and_held_out": _trained_and_held_out(result),
        "best": best_setting(run),
        "verdicts": _verdicts(run),
        "with_verdicts": is_judged(run),
        "spelled": spelled,
        "pair": strongest_pair(result),
        "best_hash": StartsTable.link(
            {"setting": result.best.setting} if len(result.settings) > 1 else {}, top=10
        ),
        "all_rows": len(rows["start"]),
    }


KIND = Kind(NetworkResult, PICTURES, answer, starts, facts, has)
