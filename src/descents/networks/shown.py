"""What a notebook shows of the starts of a network, and of several settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from descents.networks.fitted import Fitted
from descents.plots import axes, notebook
from descents.statistics.differences import Comparison
from descents.statistics.metrics import higher_is_better
from descents.statistics.summaries import Summary
from descents.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def rows_of(fitted: Fitted, metric: str) -> str:
    """Return which rows a metric is of: those held out, or those that were seen."""
    if not metric.startswith("validation"):
        return "on rows that the starts have seen"
    if fitted.settings.early_stopping is not None:
        return "on held-out rows, which chose the epoch of each start"
    return "on held-out rows, which the starts have not seen"


def interval_of(summary: Summary | None) -> str:
    """Return the interval of a mean, "-" if it is not known."""
    if summary is None or not np.isfinite(summary.low):
        return "-"
    return f"{summary.low:.4g} to {summary.high:.4g}"


def mean_of(summary: Summary | None) -> str:
    """Return a mean with its interval, as far as they are known."""
    if summary is None or not np.isfinite(summary.mean):
        return "not defined"
    ends = interval_of(summary)
    return f"{summary.mean:.4g}" + (f" ({ends})" if ends != "-" else "")


def block_of_starts(fitted: Fitted) -> str:
    """Return the HTML of the starts of one setting: the best five, and all as a picture."""
    metric, table = fitted.metric, fitted.columns()
    summary, lost = fitted.interval(), int(fitted.failed().sum())
    name = metric.replace("_", " ")
    starts = len(fitted.failed())
    failed = f"; {lost} of {starts} failed" if lost else ""
    sentence = (
        f"The mean {name} of {counted(starts - lost, 'start')} is {mean_of(summary)}, "
        f"{rows_of(fitted, metric)}{failed}."
    )
    sign = -1 if higher_is_better(metric) else 1
    order = np.argsort(sign * table[metric], kind="stable")[: notebook.ROWS]
    wanted = ["start", "split", metric, "loss", "epochs", "status", "verdict"]
    if fitted.splits == 1:
        wanted.remove("split")
    return notebook.block(
        sentence,
        {n.replace("_", " "): table[n][order] for n in wanted if n in table},
        lambda ax: axes.sorted_values(ax, fitted.values(), "starts", name),
        rows=len(table["start"]),
    )


def block_of_settings(
    fits: Sequence[Fitted],
    names: Sequence[str],
    metric: str,
    ranked: Sequence[int],
    summaries: Sequence[Summary | None],
    compared: Sequence[tuple[int, Comparison, float]],
) -> str:
    """Return the HTML of several settings: the best five, and differences as a picture.

    The arguments are those of a `SweepResult`.
    """
    best, name = ranked[0], metric.replace("_", " ")
    alike = sum(not (one.low > 0 or one.high < 0) for _, one, _ in compared)
    others = f"{alike} of {counted(len(names) - 1, 'other setting')}"
    cannot = f"; {others} cannot be distinguished from it" if compared else ""
    sentence = (
        f"{names[best]} has the best {name}, {mean_of(summaries[best])} in the mean of "
        f"{counted(len(fits[best].failed()), 'start')}, {rows_of(fits[best], metric)}"
        f"{cannot}."
    )

    def draw(ax: Axes) -> None:
        low, middle, high = np.array(
            [(one.low, one.difference, one.high) for _, one, _ in compared]
        ).T
        axes.differences(ax, [names[k] for k, _, _ in compared], middle, low, high, {})
        ax.set_xlabel(f"{name} of the best setting minus this one")

    means = [summaries[k].mean if summaries[k] else None for k in ranked]  # type: ignore[union-attr]
    return notebook.block(
        sentence,
        {
            "setting": [names[k] for k in ranked],
            f"mean {name}": means,
            "95% interval": [interval_of(summaries[k]) for k in ranked],
            "failed": [int(fits[k].failed().sum()) for k in ranked],
        },
        draw if compared else None,
    )
