"""Checks of options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click


def check_memory(
    memory: int | None,
    impute: Path | None,
    coverage: float | None,
    workers: int = 1,
) -> None:
    """Raise if there are options that are not for a table that is read in blocks."""
    if memory is not None and impute is not None:
        raise click.UsageError(
            "--impute writes a whole table, which --memory keeps out of memory; leave "
            "one of them out."
        )
    if memory is not None and coverage is not None:
        raise click.UsageError(
            "--intervals is for cells that are filled in, and a table that --memory "
            "keeps out of memory is not filled; leave one of them out."
        )
    if memory is not None and workers > 1:
        raise click.UsageError(
            "--memory is for one process, where all starts go together, but --workers "
            f"is {workers}; leave one of them out."
        )


def check_impute(impute: Path | None, table: str, *, triples: bool = False) -> None:
    """Raise if a filled table cannot be written to a place."""
    if impute is None:
        return
    if triples:
        raise click.UsageError(
            "--impute writes a table with its missing cells filled, but triples have no "
            "missing cells; leave it out."
        )
    place = impute.expanduser()
    if not place.parent.is_dir():
        raise click.UsageError(
            f"--impute is {impute}, but there is no folder {impute.parent}; make it, or "
            "give another place."
        )
    if place.suffix.lower() in (".parquet", ".npy", ".npz", ".gz"):
        raise click.UsageError(
            f"--impute is {impute}, but CSV text is written; give a name that ends in "
            ".csv."
        )
    given = Path(table).expanduser()
    if table != "-" and given.exists() and place.exists() and place.samefile(given):
        raise click.UsageError(
            f"--impute is {impute}, which is TABLE itself; give another name."
        )
