"""The command line: checks options, calls `descents.runs`, and maps errors to codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from descents import __version__
from descents.cli.apply import apply
from descents.cli.compare import compare
from descents.cli.factorize import factorize
from descents.cli.impute import impute
from descents.cli.options import (
    BAD_INPUT,
    CLOSED_OUTPUT,
    CTRL_C,
    LOST_PROCESS,
    say_error,
    visible_streams,
)
from descents.cli.reproduce import reproduce
from descents.cli.train import train
from descents.errors import DescentsError, LostProcessError, by_command
from descents.validation import folder_path


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s", prog_name="descents")
def commands() -> None:
    """Fit low-rank models and small networks by gradient descent from many starting
    points, and compare every result with the best known answer.
    """


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def report(run: Path, quiet: bool) -> int:
    """Redraw the figures and the page of a stored RUN."""
    from descents.storage.files import read_json
    from descents.storage.run_folders import RESULT

    run = folder_path(run)
    read_json(run / RESULT)  # report errors before the drawing library is loaded
    from descents.pages.page import PAGE, draw

    draw(run)
    if not quiet:
        click.echo(f"The page: {run / PAGE}")
    return 0


for command in (reproduce, factorize, impute, train, compare, apply):
    commands.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends with a one-line message and exit code 2.

    If the output is closed early, as in ``descents ... | head -1``, it ends silently.
    """
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="replace")  # the terminal may lack some characters
    try:
        with visible_streams(), by_command():
            return _run(arguments)
    except (BrokenPipeError, SystemExit):  # what click and rich raise at a closed pipe
        # The interpreter flushes stdout at exit, which would fail at the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return CLOSED_OUTPUT


def _run(arguments: Sequence[str] | None) -> int:
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
        say_error(error.format_message() + hint)
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        say_error("interrupted.")
        return CTRL_C
    except DescentsError as error:
        notes = getattr(error, "__notes__", [])
        say_error(f"{'; '.join([str(error), *notes])}.")
        return LOST_PROCESS if isinstance(error, LostProcessError) else BAD_INPUT
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
