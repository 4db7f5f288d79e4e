"""The command ``descents reproduce``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from descents.cli.checks import check_device, check_resume
from descents.cli.connecting import connected_workers
from descents.cli.options import (
    MOST_STARTS,
    NOT_MET,
    Command,
    default_folder,
    in_words,
    load_torch,
    printing_options,
    run_options,
    threads,
)
from descents.cli.printing import (
    Column,
    announce,
    draw_page,
    say,
    say_error,
    show_table,
)
from descents.cli.progress import bar
from descents.cli.stored_runs import resumed, stopped, stored_result
from descents.errors import Complaints, InterruptedRunError
from descents.pages.drawing import drawing
from descents.text import counted

if TYPE_CHECKING:
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
    workers: int | str,
    out: Path | None,
    resume: bool,
    max_seconds: float | None,
    strict: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run the published report again on its data, and judge its claims."""
    from descents.reproduction.result import ReproductionResult, identity
    from descents.storage.run_folders import RunFolder

    complaints = Complaints()
    check_resume(complaints, resume, out)
    check_device(complaints, device)
    complaints.raise_any()
    if out is None:
        out = default_folder("reproduce")
    context = click.get_current_context()
    draw = context.with_resource(drawing("reproduce", ahead=False))
    begun = time.monotonic()
    folder = RunFolder(out, vars(identity(starts, seed, device)), resume=resume)
    try:
        with folder:
            stored = stored_result(folder, ReproductionResult, draw)
            if stored is not None:
                result = stored
            else:
                result = _reproduce(
                    folder, starts, seed, device, workers, max_seconds, quiet or as_json
                )
    except (InterruptedRunError, KeyboardInterrupt):
        return stopped(folder, begun, max_seconds, resumed(folder))
    if in_words(result, quiet, as_json):
        _show(result, folder.path)
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
    workers: int | str,
    max_seconds: float | None,
    silent: bool,
) -> ReproductionResult:
    """Run the study and draw its page, with a progress bar."""
    announce(f"Repeating the report with {counted(starts, 'start')}", silent)
    draw = click.get_current_context().with_resource(drawing("reproduce"))
    with bar(silent) as progress:
        side_by_side = threads()
        load_torch()
        from descents.reproduction.report import reproduce as study

        with connected_workers(workers, silent) as processes:
            outcome = study(
                starts,
                seed,
                device=device,
                threads=side_by_side,
                workers=processes,
                max_seconds=max_seconds,
                folder=folder,
                progress=progress,
            )
        progress("drawing", 0.97)
        outcome.write(folder)
        draw_page(draw, folder.work, (outcome.result, outcome.rows, outcome.tensors))
        folder.finish()
    return outcome.result


def _show(result: ReproductionResult, out: Path) -> None:
    """Print published and obtained figures side by side, and the verdicts on the claims."""
    from rich.text import Text

    checks = result.checks
    show_table(
        [
            Column("figure", [check.figure for check in checks]),
            Column("published", [f"{one.published:.9g}" for one in checks], 3, True),
            Column(
                "obtained",
                [
                    "not known" if one.obtained is None else f"{one.obtained:.9g}"
                    for one in checks
                ],
                2,
                True,
            ),
            Column(
                "met",
                ["yes" if one.met else Text("no", "bold red") for one in checks],
                1,
            ),
        ],
        "Published and obtained figures",
    )
    _show_table_1(result.training)
    _show_failures(result)
    colors = {"supported": "green", "supported with a correction": "yellow"}
    claims = result.claims
    show_table(
        [
            Column("#", [str(one.number) for one in claims]),
            Column("claim", [one.claim for one in claims]),
            Column(
                "verdict",
                [Text(one.verdict, colors.get(one.verdict, "red")) for one in claims],
            ),
        ],
        "The report's claims",
        lines=True,
    )
    say(f"{result.seconds:.0f} s. The page: {out / 'report.html'}")


def _show_table_1(training: TrainingResult) -> None:
    """Print Table 1: as published, on the witness shuffle, and over all shuffles."""
    ten = training.ten_starts

    def pair(training: float, validation: float) -> str:
        return f"{training:.2f}  {validation:.2f}"

    published = [
        pair(row.training_accuracy, row.validation_accuracy)
        for row in training.published
    ]
    witness = [
        pair(row.training_accuracy, row.validation_accuracy)
        for row in ten.witness.table
    ]
    medians = [
        pair(run.training_accuracy_quantiles[2], run.validation_accuracy_quantiles[2])
        for run in ten.runs
    ]
    failed = [f"{100 * run.failed_share:.1f}%" for run in ten.runs]
    starts = [str(row.start) for row in training.published]
    show_table(
        [
            Column("run", starts, right=True),
            Column("published", published, 1, right=True),
            Column("on the witness", witness, 3, right=True),
            Column("median", medians, 2, right=True),
            Column("failed", failed, 4, right=True),
        ],
        "Table 1 and its ten starts: training and validation accuracy; medians and "
        f"failures over {counted(ten.shuffles, 'shuffle')}",
    )
    shares = ten.variance.training.shares
    parts = [
        "not known" if share is None else f"{share:.0%}"
        for share in (shares.starts, shares.shuffles, shares.both)
    ]
    tests = ten.tests
    not_rejected = sum(not row.rejected for row in ten.settings)
    say(
        f"p-values of Table 1 given these starts: {tests.joint.p_value:.3f} for the "
        f"whole table, {tests.pattern.p_value:.3f} for which runs fail, "
        f"{tests.shortfall.p_value:.3f} for how far they fail. {not_rejected} of "
        f"{len(ten.settings)} settings are not rejected."
    )
    say(
        f"Variance of training accuracy: {parts[0]} start, {parts[1]} shuffle, {parts[2]} "
        f"interaction. The witness is {ten.witness.distance:.0f} percentage points "
        "from Table 1, summed over its twenty numbers"
        + (
            "."
            if ten.witness.replayed_as_stored
            else "; the accuracies differ from the stored ones on this machine."
        )
    )


def _show_failures(result: ReproductionResult) -> None:
    """Print how many fresh starts fail, over all shuffles and on the fixed one."""
    training, diagnosis = result.training, result.diagnosis
    failures = training.failures
    fixed = failures.fixed
    verdicts = ", ".join(f"{n} {word}" for word, n in diagnosis.verdicts.items() if n)
    say(
        f"Fresh starts below {diagnosis.threshold} training accuracy: "
        f"{failures.share:.1%} over {counted(len(failures.by_shuffle), 'shuffle')} "
        f"({failures.low:.1%} to {failures.high:.1%}). On the fixed shuffle, number "
        f"{fixed.place} of {fixed.of} from the easiest: {diagnosis.failed} of "
        f"{diagnosis.of}" + (f" ({verdicts})." if verdicts else ".")
    )
    say(
        f"With fresh starts, Table 1 does not reject {len(training.chosen)} of "
        f"{len(training.settings)} settings."
    )
