"""What the commands share: options, the progress bar, messages and exit codes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO, TypeVar

import click

from descents.devices import processors
from descents.errors import InvalidValueError
from descents.text import visible

if TYPE_CHECKING:
    from rich.console import Console

    from descents.runs.request import Reading

NOT_MET, BAD_INPUT, OUT_OF_TIME, LOST_PROCESS, CTRL_C = 1, 2, 3, 4, 130
M_MMAP_THRESHOLD, LARGE = -3, 2**20
"""The glibc parameter for the smallest allocation that is returned to the system as soon
as it is freed, and the value that it gets, in bytes."""
CLOSED_OUTPUT = 141
"""The exit code of a process that SIGPIPE ended, as shells report it."""


class Seconds(click.ParamType[float]):
    """Option type: a number of seconds above zero."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or fail with a message."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = float("nan")
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a number of seconds above 0.", param, ctx)
        return seconds


class Size(click.ParamType[int]):
    """Option type: a size of memory, converted to bytes."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number of bytes, or fail with a message."""
        from descents.tables.memory import size_in_bytes

        try:
            return size_in_bytes(value if isinstance(value, int) else str(value))
        except InvalidValueError as error:
            self.fail(f"{error}.", param, ctx)


class Command(click.Command):
    """A command that reports all options with invalid values together."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; one error reports all options that are invalid."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError:
            options, rest, _ = self.make_parser(ctx).parse_args(args=given)
            problems = []
            for option in self.get_params(ctx):
                try:
                    option.handle_parse_result(ctx, options, rest)
                except click.UsageError as error:
                    problems.append(error.format_message())
            if len(problems) < 2:
                raise
            raise click.UsageError(" ".join(problems), ctx) from None


F = TypeVar("F", bound=Callable[..., object])


class Decorator(Protocol):
    """Adds options to the function of a command."""

    def __call__(self, function: F, /) -> F:
        """Return the function with the options."""


def options(*options: Decorator) -> Decorator:
    """Return one decorator that adds several options, in the order of the help text."""

    def decorated(function: F) -> F:
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
    help="Read a .npy or .parquet TABLE in row blocks, using at most SIZE of memory, "
    "such as 500MB. For tables that are larger than memory.",
)

column_options = options(
    click.option(
        "--ignore",
        multiple=True,
        metavar="COLUMN",
        help="Leave this column out. May be repeated.",
    ),
    click.option(
        "--id",
        "identifier",
        metavar="COLUMN",
        help="The column with the names of the rows.",
    ),
)


def run_options(
    name: str,
    *,
    resume: str,
    max_seconds: str,
    seed: str | None = None,
    device: str | None = None,
) -> Decorator:
    """Return the options that all commands that fit a model share.

    The arguments are help texts, except for `name`, the command in the default folder.
    """
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
            help="Number of parallel processes; the result does not depend on it.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help=f"New folder for the results.  [default: runs/{name}-<time>]",
        ),
        click.option("--resume", is_flag=True, help=resume),
        click.option("--max-seconds", type=Seconds(), help=max_seconds),
    )


text_options = options(
    click.option(
        "--no-header", is_flag=True, help="The first line is data, not column names."
    ),
    click.option(
        "--missing",
        multiple=True,
        metavar="MARK",
        help="Another mark of missing cells, such as '?'. May be repeated.",
    ),
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="Decimal mark.  [default: detected, else .]",
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="Delimiter between cells.  [default: detected in the first lines]",
    ),
    click.option("--encoding", metavar="NAME", help="Text encoding.  [default: utf-8]"),
)

reading_options = options(
    click.option(
        "--triples",
        is_flag=True,
        help="The first three columns of TABLE are row, column and value.",
    ),
    text_options,
)

levels_option = click.option(
    "--levels",
    multiple=True,
    metavar="COLUMN=LOWEST,...,HIGHEST",
    help="Order of the levels of one or several columns: "
    "q1,q2=never,sometimes,always. Quote a level that has a comma. May be repeated.",
)

range_option = click.option(
    "--range",
    type=click.Choice(["observed", "free"]),
    help="Whether imputed numbers are limited to the observed range of their column.  "
    "[default: observed; free with --imputations]",
)


class Visible:
    """Wrapper of a text stream that escapes control characters."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text with its control characters escaped."""
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the wrapped stream."""
        return getattr(self.stream, name)


@contextlib.contextmanager
def visible_streams() -> Iterator[None]:
    """Escape control characters in all output, including warnings and tracebacks."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        stream if stream is None or isinstance(stream, Visible) else Visible(stream)
        for stream in streams
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def terminal(
    *,
    stderr: bool = False,
    soft_wrap: bool = False,
    force_terminal: bool | None = None,
    color_system: Literal["auto", "standard"] = "auto",
    width: int | None = None,
) -> Console:
    """Return a console that prints colors, but escapes control characters in texts."""
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

    return VisibleConsole(
        file=plain,
        highlight=False,
        markup=False,
        soft_wrap=soft_wrap,
        force_terminal=force_terminal,
        color_system=color_system,
        width=width,
    )


@contextlib.contextmanager
def bar(silent: bool) -> Iterator[Callable[[str, float], None]]:
    """Show a progress bar on a terminal; the function that is yielded advances it."""
    if silent:  # do not load the library
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
    """Return how many chunks of starts run in parallel, and set torch to one thread each.

    Two torch threads that share a small matrix product busy-wait for each other, and are
    many times slower than one thread if another process uses the processor. This sets the
    environment of this process, and only before torch is loaded; an ``OMP_NUM_THREADS``
    that the user has set is respected.
    """
    if "OMP_NUM_THREADS" in os.environ or "torch" in sys.modules:
        return 1
    os.environ["OMP_NUM_THREADS"] = "1"
    return processors()


def share_products(count: int) -> None:
    """Let torch use `count` threads for each matrix product, in this process."""
    import torch

    torch.set_num_threads(count)


def free_at_once() -> None:
    """Make glibc return large blocks of memory to the system as soon as they are freed.

    By default it keeps some of them, so that the process holds more memory than it uses.
    With another C library nothing is changed.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def reading_of(given: dict[str, Any]) -> Reading:
    """Remove the reading options from `given`, and return them as an `asked.Reading`."""
    from descents.runs import request as asked

    return asked.Reading(
        triples=given.pop("triples", False),
        header=not given.pop("no_header"),
        **{n: given.pop(n) for n in ("missing", "decimal", "delimiter", "encoding")},
        ignore=given.pop("ignore", ()),
        identifier=given.pop("identifier"),
        levels=given.pop("levels", ()),
    )


def in_words(result: object, quiet: bool, as_json: bool) -> bool:
    """Print a result as JSON if that is requested; return whether to say it in words."""
    from descents.storage.values import json_text

    if as_json:
        click.echo(json_text(result), nl=False)
    return not (quiet or as_json)


def say(note: str) -> None:
    """Print a note on one line, with line ends in names escaped."""
    click.echo(visible(note).replace("\n", "\\n"))


def say_error(sentence: str) -> None:
    """Print an error message as one line on standard error."""
    click.echo(f"descents: {visible(' '.join(sentence.split()))}", err=True)
