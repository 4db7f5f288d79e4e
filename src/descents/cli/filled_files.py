"""Files for filled tables: a command replaces one that exists, and says so."""

from __future__ import annotations

from pathlib import Path

import click

from descents.validation import folder_path, is_special

_REPLACED = "descents.cli.filled_files"


def notice_file(path: Path | None) -> None:
    """Remember whether a file exists, before the command replaces it.

    A device or a pipe is written to, not replaced.
    """
    if path is not None:
        found = folder_path(path)
        replaced = found.is_file() and not is_special(found)
        click.get_current_context().meta[_REPLACED] = replaced


def filled_table(path: Path) -> str:
    """Return the line that names the file, after `notice_file`."""
    replaced = click.get_current_context().meta.get(_REPLACED, False)
    return f"Filled table: {path}{' (replaced)' * replaced}"
