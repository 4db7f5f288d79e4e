"""The option ``--shard``: one share of the starts of a run, in one file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from descents.cli.connecting import connected_workers
from descents.cli.printing import say
from descents.cli.processes import started
from descents.cli.progress import bar
from descents.cli.stored_runs import stopped
from descents.errors import Complaints, InterruptedRunError, RunFolderError

if TYPE_CHECKING:
    from descents.cli.factorize import Limits
    from descents.optim.executors import Workers
    from descents.optim.spans import Shard
    from descents.runs.factorize_options import Options
    from descents.runs.network_options import NetworkOptions
    from descents.runs.request import Data
    from descents.storage.run_folders import RunFolder

    Progress = Callable[[str, float], None]


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


@dataclass(frozen=True)
class ShardOfRun:
    """A share of the starts of a run, which is computed into one file.

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

    def made(
        self,
        read: Callable[[], Data],
        compute: Callable[[Data, Workers, Progress], None],
        workers: int | str,
        seconds: float | None,
        printing: tuple[bool, bool],
    ) -> int:
        """Compute the share, unless its file is there, and write the file.

        Parameters
        ----------
        read : callable
            Reads the table.
        compute : callable
            Leaves the starts of the share in the folder.
        workers : int or str
            The processes, or their address.
        seconds : float or None
            The time limit.
        printing : tuple of bool
            The options --quiet and --json.

        Returns
        -------
        int
            The exit code.
        """
        from descents.runs.merging import facts_of
        from descents.storage.shards import write_shard

        if self.is_done():
            return self.say(*printing)
        begun = time.monotonic()
        try:
            with self.folder:
                data = read()
                with (
                    connected_workers(workers, any(printing)) as processes,
                    bar(any(printing)) as progress,
                ):
                    compute(data, processes, progress)
                facts = facts_of(self.run, self.shard, self.table)
                write_shard(self.folder, self.path, facts)
        except (InterruptedRunError, KeyboardInterrupt):
            return stopped(self.folder, begun, seconds, "run the same command again")
        return self.say(*printing)

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


def train_part(
    part: ShardOfRun,
    read: Callable[[], Data],
    options: NetworkOptions,
    threads: int,
    workers: int | str,
    seconds: float | None,
    printing: tuple[bool, bool],
) -> int:
    """Train one share of the starts; return the exit code."""
    from descents.runs.train import train_shard

    def compute(data: Data, processes: Workers, progress: Progress) -> None:
        train_shard(
            data,
            options,
            part.folder,
            part.shard,
            threads=threads,
            workers=processes,
            max_seconds=seconds,
            progress=progress,
        )

    return part.made(read, compute, workers, seconds, printing)


def factorize_part(
    part: ShardOfRun,
    read: Callable[[], Data],
    options: Options,
    limits: Limits,
    printing: tuple[bool, bool],
) -> int:
    """Descend from one share of the starts; return the exit code."""
    from descents.optim.collective import ALONE
    from descents.runs.factorize import factorize_shard
    from descents.runs.kept_descents import KeptDescents

    def compute(data: Data, processes: Workers, progress: Progress) -> None:
        factorize_shard(
            data,
            options,
            KeptDescents(part.folder, ALONE, limits.checkpoint, every=True),
            part.shard,
            workers=processes,
            max_seconds=limits.seconds,
            progress=progress,
        )

    return part.made(read, compute, limits.workers, limits.seconds, printing)
