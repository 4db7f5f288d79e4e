"""Runs that are in their folder already, whole or but for the page."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from descents.cli.options import CTRL_C, OUT_OF_TIME
from descents.cli.printing import draw_page, say_error
from descents.signals import hints
from descents.text import counted

if TYPE_CHECKING:
    from descents.storage.results import Result
    from descents.storage.run_folders import RunFolder

    R = TypeVar("R", bound=Result)


def to_draw(out: Path, resume: bool) -> bool:
    """Return whether a page will be drawn: not for a run that is complete."""
    from descents.storage.run_folders import RESULT

    return not (resume and (out / RESULT).exists())


def stopped(folder: RunFolder, begun: float, seconds: float | None, again: str) -> int:
    """Print what an interrupted command leaves behind; return the exit code.

    Parameters
    ----------
    folder : RunFolder
    begun : float
        When it began (`time.monotonic`).
    seconds : float or None
        Its time limit.
    again : str
        How to go on.
    """
    late = seconds is not None and time.monotonic() - begun >= seconds
    why = f"Stopped after {seconds:g} s" if late else "Interrupted"
    parts = folder.stages
    are = "is" if parts == 1 else "are"
    kept = f"{counted(parts, 'finished part')} {are} kept"
    if not parts:
        kept = f"no part was finished{': give more seconds' if late else ' yet'}"
    say_error(f"{why}; {kept}: {again}.")
    hints()  # they say the same
    return OUT_OF_TIME if late else CTRL_C


def resumed(folder: RunFolder) -> str:
    """Return how a run is continued."""
    place = shlex.quote(str(folder.path))
    return f"continue with --resume --out {place} and the same options"


def stored_result(
    folder: RunFolder, kind: type[R], draw: Callable[..., None]
) -> R | None:
    """Return the result of a run that is stored, None if it must be computed.

    If a command was ended while it drew the page, or while it moved its files, the rest is
    done now.
    """
    from descents.storage.results import read_result
    from descents.storage.run_folders import RESULT

    if folder.fitted:
        draw_page(draw, folder.work, None)
        folder.finish()
    return read_result(kind, folder.path / RESULT) if folder.complete else None
