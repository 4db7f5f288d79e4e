"""Runs that are in their folder already, whole or but for the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from descents.cli.printing import draw_page

if TYPE_CHECKING:
    from descents.storage.results import Result
    from descents.storage.run_folders import RunFolder

    R = TypeVar("R", bound=Result)


def to_draw(out: Path, resume: bool) -> bool:
    """Return whether a page will be drawn: not for a run that is complete."""
    from descents.storage.run_folders import RESULT

    return not (resume and (out / RESULT).exists())


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
