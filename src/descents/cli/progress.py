"""How far a command is: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import click

from descents.cli.printing import line_width, terminal

Progress = Callable[[str, float], None]
"""Called with what is done, and with the share of the work that is done."""
WITH_BAR = 70
"""The width from which there is room for a bar beside the numbers."""


@contextlib.contextmanager
def bar(silent: bool) -> Iterator[Progress]:
    """Show how far the work is, on standard error; the function that is yielded advances it."""
    if silent:  # do not load the library
        yield lambda part, share: None
    elif not sys.stderr.isatty():
        yield Tenths()
    else:
        with _bar() as progress:
            yield progress


class Tenths:
    """Prints a line for each tenth of the work, with the time that is left.

    Parameters
    ----------
    clock : callable
        Returns the time in seconds.

    Examples
    --------
    >>> times = iter([0.0, 30.0, 31.0, 60.0])
    >>> tenths = Tenths(clock=lambda: next(times), say=print)
    >>> for share in (0.25, 0.27, 0.5):
    ...     tenths("descending", share)
    20% descending, 1:30 left
    50% descending, 1:00 left
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._clock, self._begun = clock, clock()
        self._say = _on_standard_error if say is None else say
        self._said = 0

    def __call__(self, part: str, share: float) -> None:
        """Print a line if another tenth is done; tenths that pass at once have one line."""
        seconds = self._clock() - self._begun
        tenths = int(10 * share + 1e-9)
        if tenths <= self._said or not 0 < share < 1:
            return
        self._said = tenths
        self._say(
            f"{10 * tenths}% {part}, {clock_time(seconds / share - seconds)} left"
        )


def clock_time(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if there are any.

    Examples
    --------
    >>> clock_time(9.6), clock_time(75), clock_time(3661)
    ('0:10', '1:15', '1:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _on_standard_error(line: str) -> None:
    click.echo(line, err=True)


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """Show a bar that disappears at the end."""
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    wide = (line_width(sys.stderr) or WITH_BAR) >= WITH_BAR
    columns: list[ProgressColumn] = [SpinnerColumn()]
    if wide:
        columns += [TextColumn("{task.description:<26}"), BarColumn()]
    columns += [TextColumn("{task.percentage:>3.0f}%")]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=terminal(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=1.0)

        def progress(part: str, share: float) -> None:
            bar.update(task, description=part, completed=share)

        yield progress
