"""The command ``descents compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from descents.cli.network_text import between, number
from descents.cli.options import (
    Command,
    in_words,
    printing_options,
    threads,
)
from descents.errors import Complaints, DescentsError
from descents.text import counted
from descents.validation import folder_path

if TYPE_CHECKING:
    from descents.runs.train_result import ComparisonResult


@click.command("compare", cls=Command)
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    help="Metric that compares the best settings of the two runs: a column of both "
    "starts.parquet.  [default: the metric of the runs]",
)
@printing_options
def compare(
    first: Path, second: Path, metric: str | None, quiet: bool, as_json: bool
) -> int:
    """Compare the starts of two runs of 'descents train', and report which is better.

    The difference is the mean of FIRST minus that of SECOND. It is positive where FIRST
    has the larger values: better for accuracy or R2, worse for a loss.
    """
    from descents.storage.files import read_json
    from descents.storage.run_folders import RESULT

    complaints = Complaints()
    for run in (first, second):  # report errors before torch is loaded
        try:
            read_json(folder_path(run) / RESULT)
        except DescentsError as error:
            complaints.require(False, str(error))
    complaints.raise_any()
    threads()
    from descents.runs.compare import compare_runs

    comparison = compare_runs(first, second, metric)
    if in_words(comparison, quiet, as_json):
        for line in comparison.warnings:
            click.echo(f"Warning: {line}.")
        _show_comparison(comparison)
        for line in comparison.notes:
            click.echo(f"Note: {line}.")
    return 0


def _show_comparison(comparison: ComparisonResult) -> None:
    """Print the comparison of two runs."""
    sides = [
        f"{number(mean)} of {total - failed} of {counted(total, 'start')} of {run} "
        f"({setting})"
        if failed
        else f"{number(mean)} of {counted(total, 'start')} of {run} ({setting})"
        for mean, total, failed, run, setting in zip(
            comparison.means,
            comparison.starts,
            comparison.failed,
            comparison.runs,
            comparison.settings,
            strict=True,
        )
    ]
    click.echo(f"Mean {comparison.metric.replace('_', ' ')}: {', '.join(sides)}.")
    constants = dict.fromkeys(number(value) for value in comparison.constants)
    if "-" not in constants:
        click.echo(f"The best constant prediction has {' and '.join(constants)}.")
    how = "start by start" if comparison.paired else "as two samples"
    first, second = comparison.counts
    starts = (
        counted(first, "start") if first == second else f"{first} and {second} starts"
    )
    interval = between(comparison.interval, "+")
    if interval == "-":
        interval = "not known"
    low, high = comparison.improvement_interval
    p_value = number(comparison.p_value)
    click.echo(
        f"Difference, first minus second: {number(comparison.difference, '+.4f')} (95% "
        f"interval {interval}; "
        f"{'higher' if comparison.higher_is_better else 'lower'} is better), "
        f"compared {how} over {starts} that did not fail; "
        f"permutation p {'not known' if p_value == '-' else p_value}."
    )
    if comparison.probability_of_improvement is None:
        return
    note = (
        ", where a failed start counts as the worse" if any(comparison.failed) else ""
    )
    click.echo(
        "A start of the first is better than one of the second with probability "
        f"{number(comparison.probability_of_improvement)}"
        f"{f' ({low:.4f} to {high:.4f})' if low is not None and high is not None else ''}"
        f"{note}."
    )
