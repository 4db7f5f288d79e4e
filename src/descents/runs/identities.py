"""The identity of a run: what decides whether a stored run is the one that is requested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from descents.storage.values import plain
from descents.tables.sources import TableSource


class Identity(TypedDict):
    """The identity of a run; runs with the same identity have the same result.

    Its values are those of `descents.runs.results.Run`.
    """

    command: str
    table: str
    sha256: str
    options: dict[str, object]
    reading: dict[str, object]


def identity(
    table: TableSource, options: Mapping[str, Any], command: str = "factorize"
) -> Identity:
    """Return the identity of a run: the hash of its table, and its options.

    Parameters
    ----------
    table : TableSource
    options : mapping
        The ``"options"`` of the command, and those for ``"reading"`` the table.
    command : str
    """
    return {
        "command": command,
        "table": table.name,
        "sha256": table.sha256,
        "options": plain(options["options"]),
        "reading": plain(options["reading"]),
    }
