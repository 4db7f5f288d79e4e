"""The command ``descents compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from descents.cli.options import (
    Command,
    default_folder,
    in_words,
    load_torch,
    printing_options,
    threads,
)
from descents.cli.printing import draw_page, say
from descents.errors import Complaints, DescentsError
from descents.pages.drawing import drawing
from descents.text import counted, decimals_of, small
from descents.validation import folder_path

if TYPE_CHECKING:
    from descents.runs.train_result import ComparisonResult, SideOfComparison


@click.command("compare", cls=Command)
@click.argument("runs", metavar="RUN [RUN ...]", nargs=-1, required=True)
@click.option(
    "--setting", "settings", multiple=True, metavar="[RUN:]SETTING",
    help="The setting of RUN, or of every run, that is compared. Repeat the option to "
    "compare several settings of a run.  [default: the best setting of each run]",
)  # fmt: skip
@click.option(
    "--against", metavar="SIDE",
    help="The run, or RUN:SETTING, with which all others are compared.  [default: the "
    "second of two; the best of several]",
)  # fmt: skip
@click.option(
    "--margin", type=click.FloatRange(0, min_open=True), metavar="DIFFERENCE",
    help="The smallest difference that matters. Two one-sided tests then show whether "
    "sides are equivalent: whether they differ by less than this.",
)  # fmt: skip
@click.option(
    "--metric",
    help="Metric that compares the starts: a column of starts.parquet of all runs.  "
    "[default: the metric of the runs]",
)
@click.option(
    "--out", type=click.Path(path_type=Path),
    help="New folder for the results.  [default: runs/compare-<time>]",
)  # fmt: skip
@printing_options
def compare(
    runs: tuple[str, ...],
    settings: tuple[str, ...],
    against: str | None,
    margin: float | None,
    metric: str | None,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Compare the starts of runs of 'descents train', and report which is better.

    Each RUN is the folder of a run. Its best setting is compared, or those of --setting.
    """
    from descents.storage.files import read_json
    from descents.storage.run_folders import RESULT, RunFolder

    complaints = Complaints()
    for run in dict.fromkeys(runs):  # report errors before torch is loaded
        try:
            read_json(folder_path(run) / RESULT)
        except DescentsError as error:
            complaints.require(False, str(error))
    complaints.raise_any()
    draw = click.get_current_context().with_resource(drawing("compare"))
    threads()
    load_torch()
    from descents.runs.compare import ComparisonOptions
    from descents.runs.compare import compare as compare_sides

    compared = compare_sides(runs, ComparisonOptions(metric, settings, against, margin))
    result = compared.result
    place = out or default_folder("compare")
    folder = RunFolder(place, vars(result.run), resumable=False)
    with folder:
        compared.write(folder)
        draw_page(draw, folder.work, (result, compared.rows, {}))
        folder.finish()
    if in_words(result, quiet, as_json):
        _show(result, folder.path)
    return 0


def _show(result: ComparisonResult, folder: Path) -> None:
    """Print the comparison, its answer first."""
    say(result.answer)
    for line in result.warnings:
        say(f"Warning: {line}.")
    if len(result.differences) > 1:
        for one in result.differences:
            say(f"{one.says}.")
    sides = ", ".join(_mean(side, result.resolution) for side in result.sides)
    say(f"Mean {result.metric.replace('_', ' ')}: {sides}.")
    constants = [small(value, None) for value in dict.fromkeys(result.constants)]
    if None not in result.constants:
        say(f"The best constant prediction has {' and '.join(constants)}.")
    say(result.how)
    for one in result.differences:
        share = one.probability_of_improvement
        if share is None:
            continue
        ends = one.improvement_interval
        known = None not in ends
        note = ", where a failed start counts as the worse" if any(one.failed) else ""
        places = decimals_of(ends)
        say(
            f"A start of {one.side} is better than one of {one.reference} with probability "
            f"{small(share, places)}"
            + (
                f" ({small(ends[0], places)} to {small(ends[1], places)})"
                if known
                else ""
            )
            + f"{note}."
        )
    if result.options:
        names = ", ".join(one.option for one in result.options)
        say(f"The sides differ in {names}.")
    for line in result.notes:
        say(f"Note: {line}.")
    say(f"The page: {folder / 'report.html'}")


def _mean(side: SideOfComparison, resolution: float | None) -> str:
    """Return the mean of a side, and of how many of its starts it is."""
    places = decimals_of(side.interval, resolution)
    failed = side.starts - side.failed
    of = f"{failed} of " if side.failed else ""
    return (
        f"{small(side.mean, places)} of {of}{counted(side.starts, 'start')} of "
        f"{side.run} ({side.setting})"
    )
