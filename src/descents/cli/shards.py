"""The option ``--shard``: one share of the starts of a run, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from descents.cli.printing import say
from descents.cli.progress import bar
from descents.errors import Complaints, RunFolderError

if TYPE_CHECKING:
    from descents.optim.spans import Shard
    from descents.runs.network_options import NetworkOptions
    from descents.runs.request import Data
    from descents.storage.run_folders import RunFolder


def check_shard(complaints: Complaints, table: str, out: Path | None) -> None:
    """Report what all shards of a run need."""
    from descents.tables.sources import is_pipe

    complaints.require(
        out is not None, "--shard needs --out, the folder of the files of all shards"
    )
    complaints.require(
        table != "-" and not is_pipe(Path(table)),
        "--shard and 'descents merge' read the same table, but a pipe can be read only "
        "once; give a file",
    )
    if is_pipe(Path(table)):  # which is not read to find other problems
        complaints.raise_any()


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
            If it is that of another run.
        """
        from descents.storage.shards import read_shard
        from descents.storage.values import plain

        if not self.path.exists():
            return False
        if read_shard(self.path).run != plain(self.run):
            raise RunFolderError(
                f"{self.path} is the shard of another run; give the same table and options, "
                "or another --out"
            )
        return True

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

    def say(self, quiet: bool, as_json: bool) -> int:
        """Print where the file is; return the exit code."""
        if as_json:
            click.echo(json.dumps({"shard": str(self.shard), "file": str(self.path)}))
        elif not quiet:
            say(f"Shard {self.shard}: {self.path}")
            say(f"'descents merge {self.out}' joins all {self.shard.count} shards.")
        return 0
