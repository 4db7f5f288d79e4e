"""The commands. Options are checked here; all else is done by the studies."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents import __version__
from descents.checks import (
    MOST_STARTS,
    Complaints,
    DescentsError,
    InterruptedRunError,
    InvalidValueError,
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


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator of several options, in the order in which help has them."""

    def decorated(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


_printing = _options(
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON only."
    ),
)

_reading = _options(
    click.option(
        "--triples",
        is_flag=True,
        help="TABLE has row, column and value in its first three columns.",
    ),
    click.option("--no-header", is_flag=True, help="The first line is data."),
    click.option(
        "--missing",
        multiple=True,
        metavar="MARK",
        help="One more mark of a missing cell, such as '?'. May be repeated.",
    ),
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        default=".",
        help="The decimal mark.  [default: .]",
    ),
    click.option(
        "--delimiter", metavar="CHARACTER", help="By default found in the first lines."
    ),
    click.option("--encoding", default="utf-8", show_default=True),
)


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
    with _bar(silent) as progress:
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


@contextlib.contextmanager
def _bar(silent: bool) -> Iterator[Callable[[str, float], None]]:
    """Show a progress bar on a terminal; what is returned moves it."""
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

        yield progress


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
@click.argument("table")
@click.option(
    "--rank", type=click.IntRange(1), required=True, help="How many components."
)
@click.option(
    "--loss",
    default="auto",
    show_default=True,
    help="Of all columns that it fits: squared, absolute, huber, logistic, poisson, kl, "
    "categorical or ordinal; auto chooses by type.",
)
@click.option(
    "--loss-of",
    multiple=True,
    metavar="COLUMN=LOSS",
    help="The loss of one column. May be repeated.",
)
@click.option(
    "--constraint",
    type=click.Choice(
        ["none", "nonnegative", "nonnegative-rows", "nonnegative-columns"]
    ),
    default="none",
    show_default=True,
)
@click.option(
    "--penalty",
    multiple=True,
    metavar="NAME=NUMBER",
    help="l2=0.1, l1=1, or for one factor l2_rows, l1_columns, ...; l2_biases; "
    "count_power=0.5 lets penalties grow with a row's cells. May be repeated.",
)
@click.option(
    "--offsets",
    type=click.Choice(["auto", "none", "columns", "rows", "both"]),
    default="auto",
    show_default=True,
    help="Offsets of columns, biases of rows, or both.",
)
@click.option(
    "--scales",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Whether all columns count alike, whatever their units; auto where columns "
    "have different losses.",
)
@click.option(
    "--starts",
    type=click.IntRange(1, MOST_STARTS),
    default=1,
    show_default=True,
    help="Starting points.",
)
@click.option(
    "--combine",
    type=click.Choice(["best", "mean"]),
    default="best",
    show_default=True,
    help="What imputes: the best start, or the mean of all.",
)
@click.option(
    "--init",
    "initialization",
    type=click.Choice(["auto", "uniform", "normal", "spectral", "nndsvd"]),
    default="auto",
    show_default=True,
)
@click.option(
    "--steps",
    type=click.Choice(["auto", "alternating", "lbfgs", "gd", "adam"]),
    default="auto",
    show_default=True,
    help="The update rule.",
)
@click.option(
    "--learning-rate",
    type=float,
    help="Of gd and adam.  [default: found by itself]",
)
@click.option(
    "--max-iter",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="The limit of steps.",
)
@click.option(
    "--sparse",
    type=click.Choice(["missing", "zero"]),
    default="missing",
    show_default=True,
    help="What a cell is that triples or a sparse table do not hold.",
)
@click.option(
    "--ignore", multiple=True, metavar="COLUMN", help="Leave a column out. Repeatable."
)
@click.option("--id", "identifier", metavar="COLUMN", help="It names the rows.")
@_reading
@click.option(
    "--impute",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.csv",
    help="Write TABLE with its holes filled.",
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True
)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the results.  [default: runs/factorize-<time>]",
)
@click.option("--resume", is_flag=True, help="Return at once if --out has this run.")
@click.option(
    "--max-seconds",
    type=_Seconds(),
    help="Interrupt what has not ended then, and keep what it reached.",
)
@_printing
def factorize(table: str, **given: Any) -> int:
    """Fit a low-rank model to TABLE, whatever its columns hold and with its holes.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    """
    from descents.data.storage import RESULT, RunFolder, read_json

    resume, out, max_seconds = (
        given.pop(name) for name in ("resume", "out", "max_seconds")
    )
    quiet, as_json, impute = (given.pop(n) for n in ("quiet", "as_json", "impute"))
    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder to go on with.")
    if impute is not None and given["triples"]:
        raise click.UsageError(
            "--impute writes a table with its holes filled, but triples have no holes; "
            "leave it out."
        )
    if impute is not None and not impute.expanduser().parent.is_dir():
        raise click.UsageError(
            f"--impute is {impute}, but there is no folder {impute.parent}; make it, or "
            "give another place."
        )
    if out is None:
        out = Path("runs") / f"factorize-{time.strftime('%Y%m%d-%H%M%S')}"
    _threads()
    from descents.studies import asked
    from descents.studies import factorize as study

    # All that is wrong with the options is told together, before the table is read.
    complaints = Complaints()
    loss_of = complaints.attempt(asked.named_pairs, "--loss-of", given.pop("loss_of"))
    penalty = complaints.attempt(asked.penalties, given.pop("penalty"))
    complaints.raise_any()
    reading = asked.Reading(
        triples=given.pop("triples"),
        header=not given.pop("no_header"),
        **{n: given.pop(n) for n in ("missing", "decimal", "delimiter", "encoding")},
        ignore=given.pop("ignore"),
        identifier=given.pop("identifier"),
    )
    options = asked.Options(loss_of=loss_of, penalty=penalty, **given)
    run = asked.identity(table, {"options": vars(options), "reading": vars(reading)})
    folder = RunFolder(out, run, resume=resume)
    with folder:
        if not folder.complete:
            found = _factorize(
                study,
                folder,
                reading.read(table),
                options,
                run,
                max_seconds,
                quiet or as_json,
            )
            if impute is not None:
                study.write_imputed(found, impute)
            folder.finish()
        elif impute is not None:
            raise InvalidValueError(
                f"{out} already holds this run, which is not fitted again; to fill the "
                f"holes of a table with it, give 'descents apply {out} TABLE'"
            )
    result = read_json(folder.path / RESULT)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif not quiet:
        from rich.console import Console

        _show_model(Console(highlight=False, soft_wrap=True), result, folder.path)
        if impute is not None:
            click.echo(f"The table with its holes filled: {impute}")
    if result["statuses"].get("interrupted"):
        _say_error(
            f"stopped after {max_seconds:g} s, before the starts had ended; what they "
            "reached is kept. Give more seconds for a better answer."
            if max_seconds
            else "interrupted; what the starts had reached is kept."
        )
        return OUT_OF_TIME if max_seconds else CTRL_C
    return 0


def _factorize(
    study: Any,
    folder: Any,
    data: Any,
    options: Any,
    run: Any,
    max_seconds: float | None,
    silent: bool,
) -> Any:
    """Fit, store and draw, with what was read said first and a bar on a terminal."""
    if not silent:
        for note in data.notes:
            click.echo(note)
    with _bar(silent) as progress:
        found = study.factorize(
            data, options, run, max_seconds=max_seconds, progress=progress
        )
        found.write(folder)
        progress("drawing", 0.97)
        from descents.report.page import draw

        draw(folder.work)
    return found


def _show_model(console: Console, result: dict[str, Any], out: Path) -> None:
    """Print what was fitted, how good it is, and how sure that is."""
    for line in result["chosen"]:
        console.print(line, markup=False)
    for line in result["warnings"]:
        console.print(f"Warning: {line}.", style="yellow", markup=False)
    starts = result["starts"]
    rows, wide = result["shape"]
    console.print(
        f"\nRank {result['rank']} on {result['observed']} cells of {rows} x {wide}, by "
        f"{result['steps']} steps: loss {result['loss']:.8g}, where the best constants "
        f"have {result['constants_loss']:.6g}."
    )
    console.print(result["gap_says"], markup=False)
    if starts["count"] > 1:
        console.print(
            f"{starts['count']} starts: median loss {starts['loss_median']:.8g}, largest "
            f"{starts['loss_max']:.8g}; their column spaces agree to "
            f"{starts['subspace_agreement']:.3g} (1 is the same space)."
        )
    statuses = ", ".join(f"{n} {word}" for word, n in result["statuses"].items())
    console.print(f"Starts: {statuses}. {result['seconds']:.1f} s.")
    console.print(f"The page: {out / 'report.html'}")


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("table")
@click.option("--id", "identifier", metavar="COLUMN", help="It names the rows.")
@_reading
@click.option(
    "--impute",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.csv",
    help="Write TABLE with its holes filled here too.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the results.  [default: runs/apply-<time>]",
)
@_printing
def apply(run: Path, table: str, **given: Any) -> int:
    """Transform and impute the rows of TABLE with the stored model of RUN."""
    from descents.data.storage import RESULT, RunFolder, read_json

    run = folder_path(run)
    read_json(run / RESULT)  # before anything heavy is loaded
    out, impute = given.pop("out"), given.pop("impute")
    quiet, as_json = given.pop("quiet"), given.pop("as_json")
    if out is None:
        out = Path("runs") / f"apply-{time.strftime('%Y%m%d-%H%M%S')}"
    _threads()
    from descents.studies import asked
    from descents.studies import factorize as study

    model = study.load(run)
    reading = asked.Reading(
        triples=given.pop("triples"),
        header=not given.pop("no_header"),
        **given,
    )
    data = reading.read(table)
    identity = {"command": "apply", "model": str(run), "table": table}
    with RunFolder(out, identity) as folder:
        applied = study.apply(model, identity, data)
        study.write_applied(folder, data, applied, impute)
        folder.finish()
    result = applied[0]
    if as_json:
        click.echo(json.dumps(read_json(folder.path / RESULT), indent=2))
    elif not quiet:
        for note in data.notes:
            click.echo(note)
        if result["not_used"]:
            click.echo(f"Not in the model, left alone: {', '.join(result['not_used'])}")
        click.echo(
            f"{result['rows']} rows put in {len(model.components_)} dimensions, "
            f"{result['holes']} holes filled: {folder.path}"
        )
    return 0


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
