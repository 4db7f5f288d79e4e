"""The command ``descents merge``."""

from __future__ import annotations

from pathlib import Path

import click

from descents.cli.options import Command, default_folder, printing_options
from descents.cli.printing import say


@click.command(cls=Command)
@click.argument("shards", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--table",
    metavar="TABLE",
    help="The table of the run.  [default: where it was for the first shard]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the run.  [default: runs/merge-<time>]",
)
@printing_options
def merge(
    shards: tuple[Path, ...],
    table: str | None,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Join the SHARDS of a run into the run that one command without --shard makes.

    SHARDS are files that 'descents train --shard K/N' or 'descents factorize --shard K/N'
    wrote, or folders of such files.
    """
    from descents.cli.factorize import factorize
    from descents.cli.train import train
    from descents.runs.merging import begun, shards_of_a_run

    found = shards_of_a_run(shards)
    place = out or default_folder("merge")
    name, *arguments = begun(found, table, place)
    arguments += ["--quiet"] * quiet + ["--json"] * as_json
    if not (quiet or as_json):
        say(f"Shards joined: {found[0].count}")
    command = train if name == "train" else factorize
    code: int = command.main(arguments, standalone_mode=False)
    return code
