"""Join the shards of a run of `descents train` or `descents factorize`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from descents import __version__
from descents.errors import (
    Complaints,
    InvalidValueError,
    RunFolderError,
    for_caller,
)
from descents.optim.spans import Shard
from descents.runs import factorize_facts
from descents.runs.network_summary import rerun
from descents.runs.results import Run
from descents.storage.results import of_json
from descents.storage.shards import ShardFile, read_shard, shard_files, unpack
from descents.tables.sources import TableSource
from descents.text import joined
from descents.validation import check_file

FEW = 10
"""How many numbers of missing shards are listed."""


def facts_of(run: Mapping[str, object], shard: Shard, table: str) -> dict[str, object]:
    """Return what the file of a shard says of itself.

    Examples
    --------
    >>> facts_of({"command": "train"}, Shard(1, 2), "t.csv")["count"]
    2
    """
    return {
        "run": run,
        "number": shard.number,
        "count": shard.count,
        "table": str(Path(table).expanduser().absolute()),
        "version": __version__,
    }


def shards_of_a_run(places: Sequence[Path]) -> list[ShardFile]:
    """Return all shards of a run, by their numbers.

    Parameters
    ----------
    places : sequence of Path
        Files of shards, and folders with such files.

    Raises
    ------
    InvalidValueError
        If shards are missing, or are of different runs or versions. One message lists all
        problems.
    RunFolderError
        If a file is damaged.
    """
    found = [read_shard(path) for path in shard_files(places)]
    first, complaints = found[0], Complaints()
    for one in found[1:]:
        same = (one.run, one.count) == (first.run, first.count)
        complaints.require(
            same,
            f"{one.path} is shard {one.number}/{one.count} of another run than {first.path}; "
            "give the shards of one run",
        )
        complaints.require(
            not same or one.version == first.version,
            f"{one.path} was written by descents {one.version}, and {first.path} by "
            f"{first.version}; run all shards with one version",
        )
    by_number = {one.number: one for one in found}
    missing = [str(k) for k in range(1, first.count + 1) if k not in by_number]
    if missing:
        listed = missing[:FEW] if len(missing) <= FEW else [*missing[:FEW], "others"]
        complaints.require(
            False,
            f"of {first.count} shards, {joined(listed)} {_are(len(missing))} missing; run "
            f"them with --shard K/{first.count}, and give their files too",
        )
    complaints.raise_any()
    return [by_number[number] for number in sorted(by_number)]


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def begun(shards: Sequence[ShardFile], table: str | None, out: Path) -> list[str]:
    """Put the chunks of all shards into a new run folder.

    Parameters
    ----------
    shards : sequence of ShardFile
        What `shards_of_a_run` returned.
    table : str or None
        The file with the table; by default where it was for the first shard.
    out : Path

    Returns
    -------
    list of str
        The arguments of `descents` that finish the run: it computes what is not a start.

    Raises
    ------
    InvalidValueError
        If the table is not that of the shards.
    RunFolderError
        If a file is damaged, or the folder is not empty or cannot be written.
    """
    run = replace(of_json(Run, shards[0].run), table=table or shards[0].table)
    _check_table(run)
    again = {"factorize": _factorize_again, "train": rerun}.get(run.command)
    if again is None:
        raise RunFolderError(
            f"{shards[0].path} is a shard of 'descents {run.command}', which has no shards; "
            "give shards of train or factorize"
        )
    unpack(shards, out)
    return [*shlex.split(again(run))[1:], "--resume", "--out", str(out)]


def _check_table(run: Run) -> None:
    """Raise an error if the table of a run is not there, or is another one now."""
    path = Path(run.table).expanduser()
    check_file(run.table, path)
    if TableSource(run.table).sha256 != run.sha256:
        raise InvalidValueError(
            f"{run.table} is not the table of the shards, or was changed (its sha256 "
            f"differs); give {for_caller('--table', 'table')} the one that they were made of"
        )


def _factorize_again(run: Run) -> str:
    """Return a command that repeats a run of `descents factorize`."""
    return factorize_facts.rerun(
        {
            "command": run.command,
            "table": run.table,
            "sha256": run.sha256,
            "options": run.options,
            "reading": run.reading,
        }
    )
