"""Commands that torchrun starts in several processes: which take part, and who speaks."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from descents.errors import Complaints, InvalidValueError

if TYPE_CHECKING:
    from descents.optim.collective import Collective
    from descents.runs.filling import Options

SHARED = ("factorize", "impute")
"""The commands that several processes can share."""
PATIENCE = 30.0
"""How many seconds a process that was refused waits for the first one to say why. Once that
one has ended, torchrun ends the others."""


def started() -> tuple[int, int]:
    """Return the number of this process and how many torchrun has started.

    It is 0 of 1 if torchrun has not started this process.

    Examples
    --------
    >>> started()
    (0, 1)
    """
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    given = [os.environ.get(name, "") for name in names]
    if not all(given) or not (given[0].isdigit() and given[1].isdigit()):
        return 0, 1
    return int(given[0]), int(given[1])


class Voice:
    """Whether a process prints; of several processes only the first one does."""

    def __init__(self) -> None:
        self.rank, self.size = started()
        self._errors = io.StringIO()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Hold back what other processes than the first one print."""
        if self.size > 1:
            # End at once after Ctrl-C: a process that waits for the others would not see
            # an exception. The state that was kept stays.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.rank == 0:
            yield
            return
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(self._errors),
        ):
            yield

    def ended(self, code: int) -> int:
        """Return the exit code; print an error that the first process does not have."""
        if self.rank and code:
            time.sleep(PATIENCE)
            sys.stderr.write(self._errors.getvalue())
        return code


def check_command(name: str) -> None:
    """Raise an error if several processes cannot share a command."""
    size = started()[1]
    if size > 1 and name not in SHARED:
        raise InvalidValueError(
            f"torchrun started {size} processes, but 'descents {name}' runs in one; start "
            "it without torchrun (several processes can share 'descents factorize' and "
            "'descents impute')"
        )


def joined_by(device: str = "cpu") -> Collective:
    """Return the processes that torchrun has started, or this one alone."""
    from descents.optim.collective import ALONE, joined, leave

    if started()[1] == 1:
        return ALONE
    click.get_current_context().call_on_close(leave)
    return joined(device)


def check_shared_imputation(
    complaints: Complaints, table: str, filled: Path, options: Options
) -> None:
    """Report options of ``descents impute`` that are not for several processes."""
    from descents.cells.shared_rows import check_filled

    size = started()[1]
    if size == 1:
        return
    many = f"but torchrun started {size}; leave it out, or start one process"
    complaints.require(
        options.imputations is None, f"--imputations draws in one process, {many}"
    )
    complaints.require(not options.refine, f"--refine is for one process, {many}")
    complaints.attempt(check_filled, table, filled)


def check_shared(
    complaints: Complaints,
    memory: int | None,
    workers: int | str,
    impute: Path | None,
    coverage: float | None,
) -> None:
    """Report options that are not for processes that share a table."""
    size = started()[1]
    if size == 1:
        return
    many = f"but torchrun started {size}"
    for holds, problem in (
        (memory is None, f"--memory is for one process, {many}"),
        (workers == 1, f"--workers divides the starts of one process, {many}"),
        (impute is None, f"--impute fills a table in one process, {many}"),
        (coverage is None, f"--intervals fits twice in one process, {many}"),
    ):
        complaints.require(holds, f"{problem}; leave it out, or start one process")
