"""descents reproduce."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.checks import MOST_STARTS, InterruptedRunError
from descents.commands.shared import (
    CTRL_C,
    NOT_MET,
    OUT_OF_TIME,
    bar,
    printing_options,
    run_options,
    say_error,
    terminal,
    threads,
)
from descents.report.drawing import drawing

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.option(
    "--starts",
    type=click.IntRange(1, MOST_STARTS),
    default=1000,
    show_default=True,
    help="Starting points of the factorization and of each network setting.",
)
@run_options(
    "reproduce",
    seed="Seed of our own starts; the report's runs keep torch's, seeded 0.",
    device="For our own starts.",
    resume="Go on with what is in --out.",
    max_seconds="Stop after so long; what is finished is kept for --resume.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 when a published figure is not met."
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
    """Re-run the published report on its data and judge its claims."""
    from descents.data.storage import RESULT, RunFolder, read_json
    from descents.studies.claims import identity

    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder to go on with.")
    if out is None:
        out = Path("runs") / f"reproduce-{time.strftime('%Y%m%d-%H%M%S')}"
    begun = time.monotonic()
    folder = RunFolder(out, identity(starts, seed, device), resume=resume)
    try:
        with folder:
            if not folder.complete:
                _reproduce(
                    folder, starts, seed, device, workers, max_seconds, quiet or as_json
                )
    except (InterruptedRunError, KeyboardInterrupt):
        late = max_seconds is not None and time.monotonic() - begun >= max_seconds
        why = f"Stopped after {max_seconds:g} s" if late else "Interrupted"
        kept = f"{folder.stages} finished parts are kept"
        if late and not folder.stages:
            kept = "no part was finished: give more seconds"
        say_error(
            f"{why}; {kept}: go on with --resume --out {shlex.quote(str(folder.path))} and the "
            "same options."
        )
        return OUT_OF_TIME if late else CTRL_C
    result = read_json(folder.path / RESULT)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif not quiet:
        _show(terminal(), result, folder.path)
    missed = [check["figure"] for check in result["checks"] if not check["met"]]
    if strict and missed:
        say_error(f"published figures that are not met: {'; '.join(missed)}.")
        return NOT_MET
    return 0


def _reproduce(
    folder: Any,
    starts: int,
    seed: int,
    device: str,
    workers: int,
    max_seconds: float | None,
    silent: bool,
) -> None:
    """Run the study and draw its page, with a bar on a terminal."""
    draw = click.get_current_context().with_resource(drawing())
    with bar(silent) as progress:
        side_by_side = threads()
        from descents.studies.reproduce import reproduce as study

        found = study(
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
        found.write(folder)
        draw(folder.work)
        folder.finish()


def _show(console: Console, result: dict[str, Any], out: Path) -> None:
    """Print the published figures beside the obtained ones, and the claims."""
    from rich.table import Table

    figures = Table(title="Published beside obtained", title_justify="left")
    for name in ("figure", "published", "obtained", "met"):
        right = name in ("published", "obtained")
        figures.add_column(name, justify="right" if right else "left")
    for check in result["checks"]:
        figures.add_row(
            check["figure"],
            f"{check['published']:.9g}",
            f"{check['obtained']:.9g}",
            "yes" if check["met"] else "[bold red]no[/]",
        )
    console.print(figures)
    training = result["training"]
    setting = ", ".join(training["table_setting"].values())
    accuracies = Table(
        title=f"Table 1, and ours from {setting}: training, validation",
        title_justify="left",
    )
    for name in ("run", "published", "obtained"):
        accuracies.add_column(name, justify="right")
    ours = {row["start"]: row for row in training["table"]}
    for row in training["published"]:
        pairs = [
            f"{r['training_accuracy']:.2f}  {r['validation_accuracy']:.2f}"
            if r
            else "-"
            for r in (row, ours.get(row["start"]))
        ]
        accuracies.add_row(str(row["start"]), *pairs)
    console.print(accuracies)
    diagnosis = result["diagnosis"]
    verdicts = ", ".join(
        f"{n} {word}" for word, n in diagnosis["verdicts"].items() if n
    )
    console.print(
        f"{diagnosis['failed']} of {diagnosis['of']} starts end below "
        f"{diagnosis['threshold']} training accuracy"
        + (f": {verdicts}." if verdicts else "."),
        f"{len(training['chosen'])} of {len(training['settings'])} settings are not "
        f"rejected by Table 1.\n",
    )
    colors = {"supported": "green", "supported with a correction": "yellow"}
    claims = Table(title="The report's claims", title_justify="left", show_lines=True)
    for name in ("#", "claim", "judged"):
        claims.add_column(name)
    for claim in result["claims"]:
        color = colors.get(claim["verdict"], "red")
        claims.add_row(
            str(claim["number"]), claim["claim"], f"[{color}]{claim['verdict']}[/]"
        )
    console.print(claims)
    console.print(
        f"{result['seconds']:.0f} s. The page: {out / 'report.html'}", soft_wrap=True
    )
