"""descents apply."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.cli.checks import check_impute, check_memory
from descents.cli.factorize import intervals_option
from descents.cli.impute import fill, imputations_option
from descents.cli.options import (
    Command,
    default_folder,
    free_at_once,
    in_words,
    load_torch,
    memory_option,
    printing_options,
    range_option,
    reading_of,
    reading_options,
    safe_csv_option,
    threads,
)
from descents.cli.printing import announce_reading, say, warn_of
from descents.errors import Complaints
from descents.text import counted

if TYPE_CHECKING:
    from descents.runs.factorize_result import AppliedResult
    from descents.runs.request import Reading


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("table")
@click.argument("filled", required=False, type=click.Path(path_type=Path))
@click.option(
    "--id",
    "identifier",
    metavar="COLUMN",
    help="The column with the names of the rows.",
)
@reading_options
@click.option(
    "--impute",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.csv",
    help="Of a run of factorize: also write TABLE with its missing cells filled to this file.",
)
@safe_csv_option
@intervals_option(
    "Also write prediction intervals with this coverage for the filled cells. A RUN of "
    "factorize must have been made with --intervals."
)
@imputations_option(
    "For a run of impute that was made with --imputations: write this many imputed tables "
    "below each other."
)
@range_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Seed of --imputations.  [default: 0]",
)
@click.option(
    "--unseen",
    type=click.Choice(["error", "missing"]),
    help="What to do with a level of a column that the model was not fitted with: stop, "
    "or read the cell as missing.  [default: error; missing for a run of impute]",
)
@memory_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the results.  [default: runs/apply-<time>]",
)
@printing_options
def apply(run: Path, table: str, filled: Path | None, **given: Any) -> int:
    """Use the stored model of RUN on the rows of TABLE.

    A model of `impute` writes TABLE with its missing cells filled to FILLED. A model of
    `factorize` transforms and imputes the rows. A network of `train` predicts its target.
    """
    announce_reading(table, given["quiet"] or given["as_json"])
    from descents.storage.damage import undamaged
    from descents.storage.files import read_json
    from descents.storage.run_folders import RESULT
    from descents.validation import folder_path

    run = folder_path(run)
    result = read_json(run / RESULT)  # before anything heavy is loaded
    stored = run_of(result)
    names = ("out", "impute", "memory", "intervals", "unseen", "safe_csv")
    out, impute, memory, coverage, unseen, safe = map(given.pop, names)
    silent = given.pop("quiet"), given.pop("as_json")
    drawing_of = {name: given.pop(name) for name in ("imputations", "range", "seed")}
    command = stored.get("command")
    complaints = Complaints()
    _check_apply(complaints, command, run, table, filled, impute, memory, drawing_of)
    check_memory(complaints, memory, impute, coverage)
    check_impute(complaints, impute, table)
    if command == "train":
        _check_network(complaints, run, memory, impute, coverage)
        complaints.require(
            not safe,
            f"{run} contains a network, whose predictions are written as Parquet; leave "
            "--safe-csv out",
        )
    if out is None:
        out = default_folder("apply")
    threads()
    load_torch()
    if memory is not None:
        free_at_once()
    with undamaged(run):
        before, formats = stored.get("reading", {}), result.get("formats")
        reading = reading_of(given).after(before, formats)
    if complaints.messages:  # report what does not fit the table too
        blocks = memory if command == "factorize" else None
        complaints.attempt(reading.read, table, blocks)
        complaints.raise_any()
    identity = {"command": "apply", "model": str(run), "table": table}
    identity |= {} if coverage is None else {"intervals": coverage}
    if command == "impute":
        assert filled is not None  # noqa: S101  checked above
        given_of = {name: x for name, x in drawing_of.items() if x is not None}
        identity |= {**given_of, "unseen": unseen or "missing"}
        options = {"intervals": coverage, **drawing_of, "seed": drawing_of["seed"] or 0}
        return fill(
            run, reading, filled, identity, out, options, silent, safe, _show_unseen
        )
    identity |= {} if unseen in (None, "error") else {"unseen": unseen}
    if command == "train":
        return _predict(run, reading, identity, out, unseen or "error", silent)
    wanted = Wanted(memory, impute, coverage, unseen or "error", safe)
    return _transform(run, reading, identity, out, wanted, silent)


@dataclass(frozen=True)
class Wanted:
    """What a low-rank model does with a table.

    Attributes
    ----------
    memory : int or None
        The memory for a table that is read in blocks, in bytes.
    impute : Path or None
        The file for the filled table.
    coverage : float or None
        The coverage of prediction intervals.
    unseen : {"error", "missing"}
        What is done with levels that the model was not fitted with.
    safe : bool
        Whether CSV text has no formulas.
    """

    memory: int | None
    impute: Path | None
    coverage: float | None
    unseen: str
    safe: bool


def _transform(
    run: Path,
    reading: Reading,
    identity: dict[str, Any],
    out: Path,
    wanted: Wanted,
    silent: tuple[bool, bool],
) -> int:
    """Transform and impute the rows of a table by a low-rank model."""
    from descents.lowrank.model import LowRank
    from descents.runs import apply as study
    from descents.storage.run_folders import RunFolder

    model = study.load_as(run, LowRank)
    data = reading.read(identity["table"], wanted.memory).safe(wanted.safe)
    with RunFolder(out, identity) as folder:
        if wanted.memory is not None:
            result = study.apply_by_blocks(folder, model, identity, data)
        else:
            applied = study.apply(model, identity, data, wanted.coverage, wanted.unseen)
            applied.write(folder, wanted.impute)
            result = applied.result
        folder.finish()
    quiet, as_json = silent
    if in_words(result, quiet, as_json):
        warn_of(result.warnings)
        for note in data.notes:
            say(note)
        _show_applied(
            result, len(model.components_), folder.path, wanted.memory is None
        )
    return 0


def _check_network(
    complaints: Complaints,
    run: Path,
    memory: int | None,
    impute: Path | None,
    coverage: float | None,
) -> None:
    """Report options that are not for a network."""
    complaints.require(
        memory is None,
        f"{run} contains a network, for which the whole table is read; leave --memory out",
    )
    complaints.require(
        impute is None and coverage is None,
        f"{run} contains a network, which fills no missing cells; leave --impute and "
        "--intervals out",
    )


def run_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of a stored run; empty if the file has none."""
    stored = result.get("run")
    return stored if isinstance(stored, dict) else {}


def _show_applied(
    result: AppliedResult, rank: int, place: Path, in_memory: bool
) -> None:
    """Print what a low-rank model was used for."""
    if result.not_used:
        say(f"Not in the model, left alone: {', '.join(result.not_used)}")
    _show_unseen([vars(one) for one in result.unseen])
    filled = counted(result.holes, "missing cell") if in_memory else "no missing cell"
    say(
        f"{counted(result.rows, 'row')} transformed to {counted(rank, 'dimension')}, "
        f"{filled} filled: {place}"
    )


def _check_apply(
    complaints: Complaints,
    command: str | None,
    run: Path,
    table: str,
    filled: Path | None,
    impute: Path | None,
    memory: int | None,
    drawing_of: dict[str, Any],
) -> None:
    """Report options for runs of another command."""
    from descents.tables.written import check_target

    if command != "impute":
        given = [f"--{name}" for name, value in drawing_of.items() if value is not None]
        given += ["FILLED"] if filled is not None else []
        complaints.require(
            not given,
            f"{' and '.join(given)}: for a run of 'descents impute', but {run} contains "
            f"one of 'descents {command}'; leave that out",
        )
    else:
        complaints.require(
            impute is None and memory is None,
            f"{run} contains a run of 'descents impute', which takes FILLED after TABLE, and "
            "reads the whole TABLE; leave --impute and --memory out",
        )
        if filled is None:
            complaints.require(
                False,
                f"{run} fills the missing cells of TABLE; give the file to write after it, "
                f"as in 'descents apply {run} {table} FILLED'",
            )
        else:
            complaints.attempt(check_target, table, filled)


def _show_unseen(strange: list[dict[str, Any]]) -> None:
    """Print which cells were read as missing, a line for each column."""
    from descents.tables.frames import short
    from descents.tables.spelling import listed

    columns: dict[str, list[dict[str, Any]]] = {}
    for one in strange:
        columns.setdefault(one["column"], []).append(one)
    for name, levels in columns.items():
        cells = counted(sum(level["cells"] for level in levels), "cell")
        says = listed(level["level"] for level in levels)
        say(
            f"{short(name)}: {cells} read as missing, of levels that the model was not "
            f"fitted with: {says}"
        )


def _predict(
    run: Path,
    reading: Reading,
    identity: dict[str, Any],
    out: Path,
    unseen: str,
    silent: tuple[bool, bool],
) -> int:
    """Write the predictions of a stored network for the rows of a table."""
    from descents.runs import apply_network as study
    from descents.storage.run_folders import RESULT, RunFolder
    from descents.storage.values import plain

    trained = study.load(run)
    data = reading.read(identity["table"])
    with RunFolder(out, identity) as folder:
        data, strange = trained.known_only(data, unseen)
        found = trained.apply(data)
        folder.write_table("predictions.parquet", found)
        result = plain(
            {
                "run": identity,
                "read": data.notes,
                "target": trained.target["name"],
                "unseen": strange,
                "rows": len(data.row_names),
                "columns": list(found),
            }
        )
        folder.write_json(RESULT, result)
        folder.finish()
    quiet, as_json = silent
    if in_words(result, quiet, as_json):
        for note in data.notes:
            say(note)
        _show_unseen(strange)
        say(
            f"{trained.target['name']} of {counted(len(data.row_names), 'row')} "
            f"predicted: {folder.path / 'predictions.parquet'}"
        )
    return 0
