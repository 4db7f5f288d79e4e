"""The command ``descents reproduce``."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from descents.cli.checks import check_device, check_resume
from descents.cli.options import (
    CTRL_C,
    NOT_MET,
    OUT_OF_TIME,
    Command,
    bar,
    in_words,
    printing_options,
    run_options,
    say_error,
    terminal,
    threads,
)
from descents.errors import Complaints, InterruptedRunError
from descents.pages.drawing import drawing
from descents.text import counted
from descents.validation import MOST_STARTS

if TYPE_CHECKING:
    from rich.console import Console

    from descents.reproduction.result import ReproductionResult, TrainingResult
    from descents.storage.run_folders import RunFolder


@click.command(cls=Command)
@click.option(
    "--starts",
    type=click.IntRange(1, MOST_STARTS),
    default=1000,
    show_default=True,
    help="Number of starts of the factorization and of each network setting.",
)
@run_options(
    "reproduce",
    seed="Seed of the fresh starts; the report's own runs use torch's generator, seeded 0.",
    device="Torch device for the fresh starts.",
    resume="Continue the run in --out.",
    max_seconds="Stop after this time; finished parts are kept for --resume.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with code 1 if a published figure is not reproduced.",
)
@printing_options
def reproduce(
    starts: int,
    seed: int,
    device: str,
    workers: int,
    out: Path | None,
    resume: bool,
    max_seconds: float | None,
    strict: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run the published report again on its data, and judge its claims."""
    from descents.reproduction.result import ReproductionResult, identity
    from descents.storage.results import read_result
    from descents.storage.run_folders import RESULT, RunFolder

    complaints = Complaints()
    check_resume(complaints, resume, out)
    check_device(complaints, device)
    complaints.raise_any()
    if out is None:
        out = Path("runs") / f"reproduce-{time.strftime('%Y%m%d-%H%M%S')}"
    begun = time.monotonic()
    folder = RunFolder(out, vars(identity(starts, seed, device)), resume=resume)
    try:
        with folder:
            if folder.complete:
                result = read_result(ReproductionResult, folder.path / RESULT)
            else:
                result = _reproduce(
                    folder, starts, seed, device, workers, max_seconds, quiet or as_json
                )
    except (InterruptedRunError, KeyboardInterrupt):
        late = max_seconds is not None and time.monotonic() - begun >= max_seconds
        why = f"Stopped after {max_seconds:g} s" if late else "Interrupted"
        kept = f"{folder.stages} finished parts are kept"
        if late and not folder.stages:
            kept = "no part was finished: give more seconds"
        say_error(
            f"{why}; {kept}: continue with --resume --out "
            f"{shlex.quote(str(folder.path))} and the same options."
        )
        return OUT_OF_TIME if late else CTRL_C
    if in_words(result, quiet, as_json):
        _show(terminal(), result, folder.path)
    missed = [check.figure for check in result.checks if not check.met]
    if strict and missed:
        say_error(f"published figures that were not reproduced: {'; '.join(missed)}.")
        return NOT_MET
    return 0


def _reproduce(
    folder: RunFolder,
    starts: int,
    seed: int,
    device: str,
    workers: int,
    max_seconds: float | None,
    silent: bool,
) -> ReproductionResult:
    """Run the study and draw its page, with a progress bar."""
    draw = click.get_current_context().with_resource(drawing())
    with bar(silent) as progress:
        side_by_side = threads()
        from descents.reproduction.report import reproduce as study

        outcome = study(
            starts,
            seed,
            device=device,
            threads=side_by_side,
            workers=workers,
            max_seconds=max_seconds,
            folder=folder,
            progress=progress,
        )
        progress("drawing", 0.97)
        outcome.write(folder)
        draw(folder.work, (outcome.result, outcome.rows, outcome.tensors))
        folder.finish()
    return outcome.result


def _show(console: Console, result: ReproductionResult, out: Path) -> None:
    """Print published and obtained figures side by side, and the verdicts on the claims."""
    from rich.table import Table
    from rich.text import Text

    figures = Table(title="Published and obtained figures", title_justify="left")
    for name in ("figure", "published", "obtained", "met"):
        right = name in ("published", "obtained")
        figures.add_column(name, justify="right" if right else "left")
    for check in result.checks:
        figures.add_row(
            check.figure,
            f"{check.published:.9g}",
            "not known" if check.obtained is None else f"{check.obtained:.9g}",
            "yes" if check.met else Text("no", style="bold red"),
        )
    console.print(figures)
    _show_table_1(console, result.training)
    _show_failures(console, result)
    colors = {"supported": "green", "supported with a correction": "yellow"}
    claims = Table(title="The report's claims", title_justify="left", show_lines=True)
    for name in ("#", "claim", "verdict"):
        claims.add_column(name)
    for claim in result.claims:
        color = colors.get(claim.verdict, "red")
        claims.add_row(str(claim.number), claim.claim, Text(claim.verdict, style=color))
    console.print(claims)
    console.print(
        f"{result.seconds:.0f} s. The page: {out / 'report.html'}", soft_wrap=True
    )


def _show_table_1(console: Console, training: TrainingResult) -> None:
    """Print Table 1: as published, on the witness shuffle, and over all shuffles."""
    from rich.table import Table

    ten = training.ten_starts
    table = Table(
        title="Table 1 and its ten starts: training and validation accuracy; medians and "
        f"failures over {counted(ten.shuffles, 'shuffle')}",
        title_justify="left",
    )
    for name in ("run", "published", "on the witness", "median", "failed"):
        table.add_column(name, justify="right")
    for published, witness, run in zip(
        training.published, ten.witness.table, ten.runs, strict=True
    ):
        pairs = [
            f"{row.training_accuracy:.2f}  {row.validation_accuracy:.2f}"
            for row in (published, witness)
        ]
        median = (
            f"{run.training_accuracy_quantiles[2]:.2f}  "
            f"{run.validation_accuracy_quantiles[2]:.2f}"
        )
        table.add_row(
            str(published.start),
            *pairs,
            median,
            f"{100 * run.failed_share:.1f}%",
        )
    console.print(table)
    shares = ten.variance.training.shares
    parts = [
        "not known" if share is None else f"{share:.0%}"
        for share in (shares.starts, shares.shuffles, shares.both)
    ]
    tests = ten.tests
    not_rejected = sum(not row.rejected for row in ten.settings)
    console.print(
        f"p-values of Table 1 given these starts: {tests.joint.p_value:.3f} for the "
        f"whole table, {tests.pattern.p_value:.3f} for which runs fail, "
        f"{tests.shortfall.p_value:.3f} for how far they fail. {not_rejected} of "
        f"{len(ten.settings)} settings are not rejected.\n"
        f"Variance of training accuracy: {parts[0]} start, {parts[1]} shuffle, {parts[2]} "
        f"interaction. The witness is {ten.witness.distance:.0f} percentage points "
        "from Table 1, summed over its twenty numbers"
        + (
            "."
            if ten.witness.replayed_as_stored
            else "; the accuracies differ from the stored ones on this machine."
        )
    )


def _show_failures(console: Console, result: ReproductionResult) -> None:
    """Print how many fresh starts fail, over all shuffles and on the fixed one."""
    training, diagnosis = result.training, result.diagnosis
    failures = training.failures
    fixed = failures.fixed
    verdicts = ", ".join(f"{n} {word}" for word, n in diagnosis.verdicts.items() if n)
    console.print(
        f"Fresh starts below {diagnosis.threshold} training accuracy: "
        f"{failures.share:.1%} over {counted(len(failures.by_shuffle), 'shuffle')} "
        f"({failures.low:.1%} to {failures.high:.1%}). On the fixed shuffle, number "
        f"{fixed.place} of {fixed.of} from the easiest: {diagnosis.failed} of "
        f"{diagnosis.of}" + (f" ({verdicts})." if verdicts else "."),
        f"With fresh starts, Table 1 does not reject {len(training.chosen)} of "
        f"{len(training.settings)} settings.\n",
    )
