"""Counts in files that several processes write."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
