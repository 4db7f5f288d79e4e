"""What the commands share: options, a bar, words on standard error."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.checks import InvalidValueError, processors, visible

if TYPE_CHECKING:
    from rich.console import Console

NOT_MET, BAD_INPUT, OUT_OF_TIME, LOST_PROCESS, CTRL_C = 1, 2, 3, 4, 130
M_MMAP_THRESHOLD, LARGE = -3, 2**20
"""What glibc calls the size from which on memory is given back, and what it is to be."""
CLOSED_OUTPUT = 141
"""What a shell says of a process that the signal of a closed pipe ended."""


class Seconds(click.ParamType[float]):
    """A number of seconds above zero."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or end the command with a sentence."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = float("nan")
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a number of seconds above 0.", param, ctx)
        return seconds


class Size(click.ParamType[int]):
    """A size of memory, in bytes."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number of bytes, or end the command with a sentence."""
        from descents.data.blocks import size_in_bytes

        try:
            return size_in_bytes(value)
        except InvalidValueError as error:
            self.fail(f"{error}.", param, ctx)


def options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator of several options, in the order in which help has them."""

    def decorated(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


printing_options = options(
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON only."
    ),
)

memory_option = click.option(
    "--memory",
    type=Size(),
    metavar="SIZE",
    help="Of a .npy or .parquet TABLE that is larger: read it by blocks of rows, and "
    "take at most so much memory, as 500MB.",
)

column_options = options(
    click.option(
        "--ignore",
        multiple=True,
        metavar="COLUMN",
        help="Leave a column out. Repeatable.",
    ),
    click.option("--id", "identifier", metavar="COLUMN", help="It names the rows."),
)


def run_options(
    name: str,
    *,
    resume: str,
    max_seconds: str,
    seed: str | None = None,
    device: str | None = None,
) -> Callable[[Any], Any]:
    """Return the options of every command that descends, with what two of them do."""
    return options(
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help=seed,
        ),
        click.option("--device", default="cpu", show_default=True, help=device),
        click.option(
            "--workers",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Processes that descend side by side; the result is the same.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help=f"A new folder for the results.  [default: runs/{name}-<time>]",
        ),
        click.option("--resume", is_flag=True, help=resume),
        click.option("--max-seconds", type=Seconds(), help=max_seconds),
    )


text_options = options(
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
        help="The decimal mark.  [default: recognized, else .]",
    ),
    click.option(
        "--delimiter", metavar="CHARACTER", help="By default found in the first lines."
    ),
    click.option("--encoding", metavar="NAME", help="[default: utf-8]"),
)

reading_options = options(
    click.option(
        "--triples",
        is_flag=True,
        help="TABLE has row, column and value in its first three columns.",
    ),
    text_options,
)

levels_option = click.option(
    "--levels",
    multiple=True,
    metavar="COLUMN=LOWEST,...,HIGHEST",
    help="The order of the levels of a column, or of several: "
    "q1,q2=never,sometimes,always. Quote a level that has a comma. May be repeated.",
)

range_option = click.option(
    "--range",
    type=click.Choice(["observed", "free"]),
    help="Whether numbers that are filled in stay within the observed range of their "
    "column.  [default: observed; free with --imputations]",
)


class Visible:
    """A stream to a terminal, to which no control characters of a text are sent."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text with its control characters written out."""
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Return what the stream has."""
        return getattr(self.stream, name)


@contextlib.contextmanager
def visible_streams() -> Iterator[None]:
    """Send whatever is printed, also warnings and tracebacks, through `visible`."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        one if one is None or isinstance(one, Visible) else Visible(one)
        for one in streams
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def terminal(*, stderr: bool = False, **settings: Any) -> Console:
    """Return a console whose colors reach the terminal, but no control characters."""
    from rich.console import Console
    from rich.segment import Segment

    stream = sys.stderr if stderr else sys.stdout
    plain = stream.stream if isinstance(stream, Visible) else stream

    class VisibleConsole(Console):
        def _render_buffer(self, buffer: Iterable[Segment]) -> str:
            return super()._render_buffer(
                part if part.control else Segment(visible(part.text), part.style)
                for part in buffer
            )

    return VisibleConsole(file=plain, highlight=False, markup=False, **settings)


@contextlib.contextmanager
def bar(silent: bool) -> Iterator[Callable[[str, float], None]]:
    """Show a progress bar on a terminal; what is returned moves it."""
    if silent:  # and its library is not loaded
        yield lambda part, share: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = terminal(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<26}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("loading", total=1.0)

        def progress(part: str, share: float) -> None:
            bar.update(task, description=part, completed=share)

        yield progress


def threads() -> int:
    """Return how many chunks run side by side, with torch kept to one thread each.

    Two torch threads that share a small product wait for each other busily, and are
    many times slower than one where another process wants the processor. This sets the
    environment of this process, and only before torch is loaded; a user's own
    ``OMP_NUM_THREADS`` stands.
    """
    if "OMP_NUM_THREADS" in os.environ or "torch" in sys.modules:
        return 1
    os.environ["OMP_NUM_THREADS"] = "1"
    return processors()


def share_products(count: int) -> None:
    """Let torch share each product out to so many threads, in this process."""
    import torch

    torch.set_num_threads(count)


def free_at_once() -> None:
    """Ask the C library to give large pieces of memory back as soon as they are free.

    Else it keeps some for later, so that more is taken than is used. Where it is not
    glibc, nothing is asked.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def reading_of(given: dict[str, Any]) -> Any:
    """Take out of the options how TABLE is to be read, a `descents.studies.asked.Reading`."""
    from descents.studies import asked

    return asked.Reading(
        triples=given.pop("triples", False),
        header=not given.pop("no_header"),
        **{n: given.pop(n) for n in ("missing", "decimal", "delimiter", "encoding")},
        ignore=given.pop("ignore", ()),
        identifier=given.pop("identifier"),
        levels=given.pop("levels", ()),
    )


def say(note: str) -> None:
    """Print a note on one line, whatever line ends a name in it has."""
    click.echo(visible(note).replace("\n", "\\n"))


def say_error(sentence: str) -> None:
    """Print one line on standard error."""
    click.echo(f"descents: {visible(' '.join(sentence.split()))}", err=True)
