"""The command ``descents verify``."""

from __future__ import annotations

from pathlib import Path

import click

from descents.cli.options import (
    BAD_INPUT,
    NOT_MET,
    Command,
    in_words,
    load_torch,
    printing_options,
    share_products,
    threads,
)
from descents.cli.printing import announce, say, say_error
from descents.cli.progress import bar
from descents.devices import processors


@click.command("verify", cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("table", required=False)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of parallel processes; the answer does not depend on it.",
)
@printing_options
def verify(
    run: Path, table: str | None, workers: int, quiet: bool, as_json: bool
) -> int:
    """Run the stored RUN again, and say whether its result holds.

    RUN is the folder of a run of factorize, impute, train or reproduce. TABLE is its table;
    without it, a file with the name and the hash of the table is looked for in the current
    folder and above RUN. Nothing is written.

    The exit code is 0 if the result holds, 1 if it does not, and 2 if it cannot be checked.
    """
    from descents.storage.files import read_json
    from descents.storage.run_folders import RESULT
    from descents.validation import folder_path

    # Errors are reported before anything is loaded.
    before = read_json(folder_path(run) / RESULT).get("environment")
    announce(f"Verifying {run}", quiet or as_json)
    side_by_side = threads()
    load_torch()
    shared = before.get("threads") if isinstance(before, dict) else None
    if isinstance(shared, int) and 1 < shared <= processors():
        share_products(shared)  # as the run did, which decides about its bits
    from descents.runs.verify import NotVerifiableError
    from descents.runs.verify import verify as verified

    try:
        with bar(quiet or as_json) as progress:
            found = verified(
                run,
                table,
                workers=workers,
                threads=side_by_side,
                progress=progress,
            )
    except NotVerifiableError as error:
        say_error(f"{error}.")
        return BAD_INPUT
    if in_words(found, quiet, as_json):
        say(found.says)
        say(f"{found.seconds:.1f} s.")
    return 0 if found.holds else NOT_MET
