"""The option ``--shard``: one share of the starts of a run, in one file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from descents.cli.printing import say
from descents.cli.processes import started
from descents.cli.progress import bar
from descents.cli.stored_runs import stopped
from descents.errors import Complaints, InterruptedRunError, RunFolderError

if TYPE_CHECKING:
    from descents.optim.spans import Shard
    from descents.runs.factorize_options import Options
    from descents.runs.network_options import NetworkOptions
    from descents.runs.request import Data, Reading
    from descents.storage.run_folders import RunFolder
    from descents.tables.sources import TableSource


def check_shard(complaints: Complaints, table: str, out: Path | None) -> None:
    """Report what all shards of a run need."""
    from descents.validation import is_special

    complaints.require(
        out is not None, "--shard needs --out, the folder of the files of all shards"
    )
    complaints.require(
        table != "-" and not is_special(Path(table)),
        "--shard and 'descents merge' read the same table, but a pipe can be read only "
        "once; give a file",
    )
    if is_special(Path(table)):  # which is not read to find other problems
        complaints.raise_any()


class PartLimits(Protocol):
    """The limits of a command, of which a share of its starts has these."""

    @property
    def workers(self) -> int | str:
        """The processes, or their address."""

    @property
    def seconds(self) -> float | None:
        """The time limit."""

    @property
    def checkpoint(self) -> float:
        """The least time between two states of the descent that are kept."""


@dataclass(frozen=True)
class ShardOfRun:
    """A share of the starts of a run, which is trained into one file.

    Attributes
    ----------
    shard : Shard
    out : Path
        The folder of the files of all shards.
    run : mapping
        The identity of the run.
    table : str
    """

    shard: Shard
    out: Path
    run: Mapping[str, object]
    table: str

    @property
    def path(self) -> Path:
        """The file."""
        from descents.storage.shards import shard_name

        return self.out / shard_name(self.shard.number, self.shard.count)

    @cached_property
    def folder(self) -> RunFolder:
        """The folder of its chunks until the file is written; it is continued by itself."""
        from descents.storage.run_folders import RunFolder

        return RunFolder(self.out / f".{self.path.stem}", self.run, resume=True)

    def is_done(self) -> bool:
        """Return whether the file is there.

        Raises
        ------
        RunFolderError
            If the folder has shards of another run.
        """
        from descents.storage.shards import read_shard, shard_files
        from descents.storage.values import plain

        present = self.out.is_dir() and any(self.out.glob("shard-*-of-*.zip"))
        for path in shard_files([self.out]) if present else []:
            other = read_shard(path)
            if other.run != plain(self.run) or other.count != self.shard.count:
                raise RunFolderError(
                    f"{path} is shard {other.number}/{other.count} of another run; give the "
                    "same table and options, or another --out, or remove that file"
                )
        return self.path.exists()

    def train(
        self,
        data: Data,
        options: NetworkOptions,
        *,
        silent: bool,
        threads: int,
        workers: int | str,
        max_seconds: float | None,
    ) -> None:
        """Train the starts in the open folder, and write the file."""
        from descents.optim.executors import connected
        from descents.runs.merging import facts_of
        from descents.runs.train import train_shard
        from descents.storage.shards import write_shard

        with connected(workers) as processes, bar(silent) as progress:
            train_shard(
                data,
                options,
                self.folder,
                self.shard,
                threads=threads,
                workers=processes,
                max_seconds=max_seconds,
                progress=progress,
            )
        write_shard(self.folder, self.path, facts_of(self.run, self.shard, self.table))

    def factorize(
        self,
        data: Data,
        options: Options,
        *,
        silent: bool,
        workers: int | str,
        max_seconds: float | None,
        checkpoint: float,
    ) -> None:
        """Descend from the starts in the open folder, and write the file."""
        from descents.optim.collective import ALONE
        from descents.optim.executors import connected
        from descents.runs.factorize import factorize_shard
        from descents.runs.kept_descents import KeptDescents
        from descents.runs.merging import facts_of
        from descents.storage.shards import write_shard

        with connected(workers) as processes, bar(silent) as progress:
            factorize_shard(
                data,
                options,
                KeptDescents(self.folder, ALONE, checkpoint, every=True),
                self.shard,
                workers=processes,
                max_seconds=max_seconds,
                progress=progress,
            )
        write_shard(self.folder, self.path, facts_of(self.run, self.shard, self.table))

    def say(self, quiet: bool, as_json: bool) -> int:
        """Print where the file is; return the exit code."""
        if as_json:
            click.echo(json.dumps({"shard": str(self.shard), "file": str(self.path)}))
        elif not quiet:
            say(f"Shard {self.shard}: {self.path}")
            say(f"'descents merge {self.out}' joins all {self.shard.count} shards.")
        return 0


def check_shard_of_table(
    complaints: Complaints,
    table: str,
    out: Path | None,
    memory: int | None,
    impute: Path | None,
) -> None:
    """Report what is not for one share of the starts."""
    check_shard(complaints, table, out)
    for holds, option in ((memory is None, "--memory"), (impute is None, "--impute")):
        complaints.require(
            holds,
            f"{option} is for a whole run, but --shard makes one share of its starts; leave "
            "one of them out",
        )
    complaints.require(
        started()[1] == 1,
        "--shard divides the starts, but processes of torchrun share the rows; leave one "
        "of them out",
    )


def factorize_part(
    part: ShardOfRun,
    source: TableSource,
    reading: Reading,
    options: Options,
    limits: PartLimits,
    printing: tuple[bool, bool],
) -> int:
    """Descend from one share of the starts, and write its file; return the exit code."""
    if part.is_done():
        return part.say(*printing)
    begun = time.monotonic()
    try:
        with part.folder:
            data = reading.read(source, named=options.columns)
            part.factorize(
                data,
                options,
                silent=any(printing),
                workers=limits.workers,
                max_seconds=limits.seconds,
                checkpoint=limits.checkpoint,
            )
    except (InterruptedRunError, KeyboardInterrupt):
        again = "run the same command again"
        return stopped(part.folder, begun, limits.seconds, again)
    return part.say(*printing)
