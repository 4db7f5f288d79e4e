"""The command line: checks options, calls `descents.runs`, and maps errors to codes."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from descents import __version__
from descents.cli.options import (
    BAD_INPUT,
    CLOSED_OUTPUT,
    CTRL_C,
    LOST_PROCESS,
    OPTIONS,
)
from descents.cli.printing import say_error, visible_streams
from descents.errors import DescentsError, LostProcessError, by_command, called

MODULES = ("apply", "compare", "factorize", "impute", "report", "reproduce", "train")
"""The commands that have modules of their own, in which they have the same name."""


class Commands(click.Group):
    """A group that loads the module of a command when the command is run.

    So the first line is printed before the libraries of other commands are loaded.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with a name, None if there is none."""
        if cmd_name not in MODULES:
            return super().get_command(ctx, cmd_name)
        try:
            module = importlib.import_module(f"descents.cli.{cmd_name}")
        except KeyboardInterrupt:  # click would print an empty line
            raise click.Abort from None
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s", prog_name="descents")
def commands() -> None:
    """Fit low-rank models and small networks by gradient descent from many starting
    points, and compare every result with the best known answer.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends with a one-line message and exit code 2.

    If the output is closed early, as in ``descents ... | head -1``, it ends silently.
    """
    _prepare_for_limit()
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="replace")  # the terminal may lack some characters
    try:
        with visible_streams(), by_command(), called(**OPTIONS):
            return _run(arguments)
    except (BrokenPipeError, SystemExit):  # what click and rich raise at a closed pipe
        # The interpreter flushes stdout at exit, which would fail at the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return CLOSED_OUTPUT


def _prepare_for_limit() -> None:
    """Let pyarrow not reserve 1 GiB of addresses if these are limited (``ulimit -v``).

    Other libraries would find none left, and end the process.
    """
    try:
        import resource
    except ImportError:
        return
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def _of_memory(error: Exception) -> bool:
    """Return whether an error is a lack of memory; torch has none of its own for it."""
    texts = [
        *("can't allocate memory", "out of memory", "bad_alloc", "bad allocation"),
        # Of libraries that cannot be loaded, and of threads:
        *("failed to map segment", "cannot allocate memory", "can't start new thread"),
    ]
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(text in said for text in texts)


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
    except (MemoryError, RuntimeError, ImportError) as error:
        if not _of_memory(error):
            raise
        say_error(
            "there is not enough memory; free some, raise its limit, or give a smaller "
            "table, a lower rank or fewer starts."
        )
        return BAD_INPUT
    except DescentsError as error:
        notes = getattr(error, "__notes__", [])
        say_error(f"{'; '.join([str(error), *notes])}.")
        return LOST_PROCESS if isinstance(error, LostProcessError) else BAD_INPUT
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
