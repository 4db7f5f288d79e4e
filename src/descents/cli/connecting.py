"""Workers of a command, which may be at an address where nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from descents.cli.printing import line_width, wrapped
from descents.text import visible

if TYPE_CHECKING:
    from descents.optim.executors import Workers


@contextmanager
def connected_workers(workers: int | str, silent: bool) -> Iterator[Workers]:
    """Connect to workers, as `descents.optim.connected` does, and print what is waited for.

    An address where nobody answers is an error only after the time that is printed.
    """
    from descents.optim.executors import connected, longest_wait

    seconds = longest_wait(workers)
    if seconds is not None and not silent:
        says = f"Waiting for the workers at {visible(str(workers))}, at most {seconds} s ..."
        click.echo(wrapped(says, line_width()), err=True)
    with connected(workers) as found:
        yield found
