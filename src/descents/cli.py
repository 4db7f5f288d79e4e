"""The commands. Options are checked here; all else is done by the studies."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents import __version__
from descents.checks import (
    MOST_STARTS,
    DescentsError,
    InterruptedRunError,
    folder_path,
)

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT, NOT_MET, OUT_OF_TIME, CTRL_C = 2, 1, 3, 130


class _Seconds(click.ParamType[float]):
    """A number of seconds above zero."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = float("nan")
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a number of seconds above 0.", param, ctx)
        return seconds


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s", prog_name="descents")
def commands() -> None:
    """Gradient descent by automatic differentiation, from many starting points at once,
    every result held against the best known answer.
    """


@commands.command()
@click.option(
    "--starts",
    type=click.IntRange(1, MOST_STARTS),
    default=1000,
    show_default=True,
    help="Starting points of the factorization and of each network setting.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of our own starts; the report's runs keep torch's, seeded 0.",
)
@click.option("--device", default="cpu", show_default=True, help="For our own starts.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the results.  [default: runs/reproduce-<time>]",
)
@click.option("--resume", is_flag=True, help="Go on with what is in --out.")
@click.option(
    "--max-seconds",
    type=_Seconds(),
    help="Stop after so long; what is finished is kept for --resume.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 when a published figure is not met."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON only.")
def reproduce(
    starts: int,
    seed: int,
    device: str,
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
                _reproduce(folder, starts, seed, device, max_seconds, quiet or as_json)
    except (InterruptedRunError, KeyboardInterrupt):
        late = max_seconds is not None and time.monotonic() - begun >= max_seconds
        why = f"Stopped after {max_seconds:g} s" if late else "Interrupted"
        kept = f"{folder.stages} finished parts are kept"
        if late and not folder.stages:
            kept = "no part was finished: give more seconds"
        _say_error(
            f"{why}; {kept}: go on with --resume --out {shlex.quote(str(folder.path))} and the "
            "same options."
        )
        return OUT_OF_TIME if late else CTRL_C
    result = read_json(folder.path / RESULT)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif not quiet:
        from rich.console import Console

        _show(Console(highlight=False), result, folder.path)
    missed = [check["figure"] for check in result["checks"] if not check["met"]]
    if strict and missed:
        _say_error(f"published figures that are not met: {'; '.join(missed)}.")
        return NOT_MET
    return 0


def _reproduce(
    folder: Any,
    starts: int,
    seed: int,
    device: str,
    max_seconds: float | None,
    silent: bool,
) -> None:
    """Run the study and draw its page, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<26}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal and not silent
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("loading", total=1.0)

        def progress(part: str, share: float) -> None:
            bar.update(task, description=part, completed=share)

        threads = _threads()
        from descents.studies.reproduce import reproduce as study

        found = study(
            starts,
            seed,
            device=device,
            threads=threads,
            max_seconds=max_seconds,
            folder=folder,
            progress=progress,
        )
        progress("drawing", 0.97)
        found.write(folder)
        from descents.report.page import draw

        draw(folder.work)
        folder.finish()


def _threads() -> int:
    """Return how many chunks run side by side, with torch kept to one thread each.

    Two torch threads that share a small product wait for each other busily, and are
    many times slower than one where another process wants the processor. This sets the
    environment of this process, and only before torch is loaded; a user's own
    ``OMP_NUM_THREADS`` stands.
    """
    if "OMP_NUM_THREADS" in os.environ or "torch" in sys.modules:
        return 1
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def report(run: Path, quiet: bool) -> int:
    """Draw the figures and the page of the stored RUN again."""
    from descents.data.storage import RESULT, read_json

    run = folder_path(run)
    read_json(run / RESULT)  # before the drawing library is loaded
    from descents.report.page import PAGE, draw

    draw(run)
    if not quiet:
        click.echo(f"The page: {run / PAGE}")
    return 0


def _say_error(sentence: str) -> None:
    """Print one line on standard error."""
    click.echo(f"descents: {' '.join(sentence.split())}", err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one sentence and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the characters
    try:
        code = commands.main(
            args=None if arguments is None else list(arguments),
            prog_name="descents",
            standalone_mode=False,
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" See '{error.ctx.command_path} --help'."
        _say_error(error.format_message() + hint)
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        _say_error("interrupted.")
        return CTRL_C
    except DescentsError as error:
        _say_error(f"{error}.")
        return BAD_INPUT
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
