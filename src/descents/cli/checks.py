"""Checks of options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path

from descents.cli.filled_files import notice_file
from descents.errors import Complaints
from descents.tables.formats import OTHER_PROGRAMS, refusal


def check_resume(complaints: Complaints, resume: bool, out: Path | None) -> None:
    """Report a run to continue that is not named."""
    complaints.require(
        not resume or out is not None,
        "--resume needs --out, the folder of the run to continue",
    )


def check_device(complaints: Complaints, device: str) -> None:
    """Report a device that this machine does not have."""
    if device == "cpu":  # then torch need not be loaded yet
        return
    from descents.devices import torch_device

    complaints.attempt(torch_device, device)


def check_memory(
    complaints: Complaints,
    memory: int | None,
    impute: Path | None,
    coverage: float | None,
    workers: int | str = 1,
    table: str = "",
) -> None:
    """Report options that are not for a table that is read in blocks."""
    from descents.validation import is_special

    if memory is None:
        return
    piped = table == "-" or is_special(Path(table))
    complaints.require(
        not piped,
        "--memory reads a table more than once, but "
        f"{'standard input' if table == '-' else table} can be read only once; give a "
        ".npy or .parquet file",
    )
    if piped:  # which is not read to find other problems
        complaints.raise_any()
    complaints.require(
        impute is None,
        "--impute writes a whole table, which --memory keeps out of memory; leave one of "
        "them out",
    )
    complaints.require(
        coverage is None,
        "--intervals is for cells that are filled in, and a table that --memory keeps out "
        "of memory is not filled; leave one of them out",
    )
    complaints.require(
        workers == 1,
        "--memory is for one process, where all starts go together, but --workers is "
        f"{workers}; leave one of them out",
    )


def check_impute(
    complaints: Complaints,
    impute: Path | None,
    table: str,
    *,
    triples: bool = False,
    safe: bool = False,
) -> None:
    """Report a place that a filled table cannot be written to, and what needs one.

    Whether a file is there now is remembered for `filled_table`.
    """
    from descents.validation import is_special

    if impute is None:
        complaints.require(
            not safe,
            "--safe-csv is for the table of --impute; leave it out, or give --impute",
        )
        return
    notice_file(impute)
    place, given = impute.expanduser(), Path(table).expanduser()
    complaints.require(
        not triples,
        "--impute writes a table with its missing cells filled, but triples have no "
        "missing cells; leave it out",
    )
    complaints.require(
        os.path.isdir(place.parent),
        f"--impute is {impute}, but there is no folder {impute.parent}; make it, or give "
        "another place",
    )
    complaints.require(
        place.suffix.lower() not in (".parquet", ".npy", ".npz", ".gz"),
        f"--impute is {impute}, but CSV text is written; give a name that ends in .csv",
    )
    complaints.require(
        not is_special(place),
        f"--impute is {impute}, which is a device or a pipe; give the name of a file",
    )
    complaints.require(
        place.suffix.lower() not in OTHER_PROGRAMS, f"--impute {refusal(impute)}"
    )
    same = (
        table != "-"
        and os.path.exists(given)
        and os.path.exists(place)
        and place.samefile(given)
    )
    complaints.require(
        not same, f"--impute is {impute}, which is TABLE itself; give another name"
    )
