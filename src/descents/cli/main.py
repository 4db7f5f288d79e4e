"""The command line: checks options, calls `descents.runs`, and maps errors to codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

import click

from descents import __version__, signals
from descents.cli.options import (
    BAD_INPUT,
    CLOSED_OUTPUT,
    CTRL_C,
    LOST_PROCESS,
    OPTIONS,
)
from descents.cli.printing import say_error
from descents.cli.processes import Voice, check_command
from descents.cli.resources import shortage
from descents.cli.streams import discard, standard_streams
from descents.errors import DescentsError, LostProcessError, by_command, called
from descents.text import visible

MODULES = (
    "apply",
    "compare",
    "factorize",
    "impute",
    "merge",
    "report",
    "reproduce",
    "train",
    "verify",
)
"""The commands that have modules of their own, in which they have the same name."""
NOTHING_KEPT = "; nothing was kept yet, and the same command starts again"
"""What an interrupted command leaves behind if it has not opened its run folder."""


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
        check_command(cmd_name)
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
    voice = Voice()
    try:
        with (
            voice.used(),
            standard_streams() as output,
            by_command(),
            called(**OPTIONS),
            signals.raised(_end, last=arguments is None),
        ):
            signals.hints()  # forget those of an earlier command in this process
            code = _run(arguments)
            signals.hints()  # the command has ended
            output.flush()
            if output.lost is not None:
                say_error(
                    f"standard output could not be written ({output.lost}), so what was "
                    "printed is lost; what was stored is not."
                )
                code = code or BAD_INPUT
        return voice.ended(code)
    except (BrokenPipeError, SystemExit):  # what click and rich raise at a closed pipe
        discard(sys.stdout)  # the interpreter flushes it at exit, which would fail
        return CLOSED_OUTPUT
    except signals.StoppedBySignalError as error:  # while the streams were set up
        return error.code


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


def _end(number: int) -> None:
    """End this process, which a signal has not ended so far; no clean-up is needed."""
    signals.end_children()
    error = signals.StoppedBySignalError(number)
    with contextlib.suppress(OSError):
        os.write(2, f"descents: {visible(f'{error}{signals.hints()}')}.\n".encode())
    os._exit(error.code)


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
    except (Exception, KeyboardInterrupt, signals.StoppedBySignalError) as error:
        if (found := _said(signals.cause_of(error))) is None:
            raise
        says, code = found
        say_error(says)
    return code if isinstance(code, int) else 0


def _said(error: BaseException) -> tuple[str, int] | None:
    """Return what a command says of an error, and its exit code; None for a bug."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return f"interrupted{signals.hints() or NOTHING_KEPT}.", CTRL_C
    if isinstance(error, signals.StoppedBySignalError):
        signals.end_children()
        return f"{error}{signals.hints()}.", error.code
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f" See '{error.ctx.command_path} --help'."
        return error.format_message() + hint, BAD_INPUT
    if isinstance(error, click.ClickException):
        return error.format_message(), BAD_INPUT
    if isinstance(error, DescentsError):
        lost = isinstance(error, LostProcessError)
        found = str(error), LOST_PROCESS if lost else BAD_INPUT
    elif (short := shortage(error)) is not None:
        found = short
    else:
        return None
    says, code = found
    return f"{'; '.join([says, *getattr(error, '__notes__', [])])}.", code


if __name__ == "__main__":
    sys.exit(main())
