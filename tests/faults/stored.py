"""Counts in files that several processes write, and their tables in the document."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process changes the file, and let none change it meanwhile."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def replace_json(path: Path, content: dict[str, Any], indent: int = 1) -> None:
    """Write a file as JSON under another name, and rename it."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content, indent=indent) + "\n")
    os.replace(beside, path)


def marks(name: str) -> tuple[str, str]:
    """Return the lines of the document between which a table stands."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def in_document(name: str, path: Path = DOCUMENT) -> str:
    """Return the table that stands between two marks of the document."""
    begin, end = marks(name)
    return (
        path.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].strip()
    )


def write_document(name: str, table: str, path: Path = DOCUMENT) -> None:
    """Write a table into the document, between its marks."""
    begin, end = marks(name)
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
