"""descents apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.cli.checks import check_impute, check_memory
from descents.cli.factorize import intervals_option
from descents.cli.filled_files import filled_table, notice_file
from descents.cli.impute import imputations_option, names_listed
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
from descents.cli.printing import announce_reading, draw_page, say, warn_of
from descents.errors import Complaints
from descents.pages.drawing import drawing
from descents.text import counted, joined

if TYPE_CHECKING:
    from descents.runs.apply_facts import Arguments
    from descents.runs.apply_result import (
        AppliedResult,
        AppliedRun,
        UnseenLevel,
        UseOfModel,
    )
    from descents.runs.request import Reading
    from descents.tables.sources import TableSource


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
    help="Also write TABLE with its missing cells filled to this file. Only for a RUN of "
    "factorize; for one of impute, give FILLED.",
)
@safe_csv_option
@intervals_option(
    "Also write prediction intervals with this coverage for the filled cells. A RUN of "
    "factorize must have been made with --intervals."
)
@imputations_option(
    "Write this many imputed tables below each other. Only for a RUN of impute that was "
    "made with --imputations."
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
    from descents.tables.sources import TableSource
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
    check_memory(complaints, memory, impute, coverage, table=table)
    check_impute(complaints, impute, table)
    notice_file(filled)
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
    requested = reading_of(given)
    with undamaged(run):
        before, formats = stored.get("reading", {}), result.get("formats")
        reading = requested.after(before, formats)
    if complaints.messages:  # report what does not fit the table too
        blocks = memory if command == "factorize" else None
        complaints.attempt(reading.read, table, blocks)
        complaints.raise_any()
    options: dict[str, Any] = {} if coverage is None else {"intervals": coverage}
    if command == "impute":
        options |= {name: x for name, x in drawing_of.items() if x is not None}
        options["unseen"] = unseen or "missing"
    elif unseen not in (None, "error"):
        options["unseen"] = unseen
    source = TableSource(table)
    use = Use.of(run, source, options, requested, {"": filled, "impute": impute})
    if command == "impute":
        assert filled is not None  # noqa: S101  checked above
        filling = {"intervals": coverage, **drawing_of, "seed": drawing_of["seed"] or 0}
        return _fill(run, reading, filled, use, out, filling, silent, safe)
    if command == "train":
        return _predict(run, reading, use, out, unseen or "error", silent)
    wanted = Wanted(memory, impute, coverage, unseen or "error", safe)
    return _transform(run, reading, use, out, wanted, silent)


@dataclass(frozen=True)
class Use:
    """One use of a stored model.

    Attributes
    ----------
    run : AppliedRun
        The identity of the run of `descents apply`.
    said : Arguments
        What the result says of the run of the model, and the command that repeats this.
    source : TableSource
        The rows.
    draw : callable
        Draws the page.
    """

    run: AppliedRun
    said: Arguments
    source: TableSource
    draw: Callable[..., None]

    @classmethod
    def of(
        cls,
        model: Path,
        source: TableSource,
        options: dict[str, Any],
        reading: Reading,
        written: dict[str, Path | None],
    ) -> Use:
        """Return the use of a model, with a process that prepares to draw its page."""
        from descents.runs.apply_facts import arguments, run_of_table

        found = run_of_table(model, source, options)
        draw = click.get_current_context().with_resource(drawing("apply"))
        return cls(found, arguments(found, reading, written), source, draw)


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
    use: Use,
    out: Path,
    wanted: Wanted,
    silent: tuple[bool, bool],
) -> int:
    """Transform and impute the rows of a table by a low-rank model."""
    from descents.lowrank.model import LowRank
    from descents.runs import apply as study
    from descents.storage.run_folders import RunFolder

    model = study.load_as(run, LowRank)
    data = reading.read(use.source, wanted.memory, safe=wanted.safe)
    with RunFolder(out, vars(use.run), resumable=False) as folder:
        if wanted.memory is not None:
            result = study.apply_by_blocks(folder, model, use.run, data, use.said)
        else:
            options = wanted.coverage, wanted.unseen
            applied = study.apply(model, use.run, data, *options, use.said)
            applied.write(folder, wanted.impute)
            result = applied.result
        use.source.check_unchanged()  # a table on disk is read by blocks
        draw_page(use.draw, folder.work, (result, {}, {}))
        folder.finish()
    quiet, as_json = silent
    if in_words(result, quiet, as_json):
        warn_of(result.warnings)
        _say_fitted(result)
        for note in data.notes:
            say(note)
        _show_applied(
            result, len(model.components_), folder.path, wanted.memory is None
        )
        if wanted.impute is not None:
            say(filled_table(wanted.impute))
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


def _say_fitted(result: UseOfModel) -> None:
    """Print that the table is that of the fit, if it is."""
    from descents.runs.apply_result import ROWS_OF_THE_FIT

    if result.fitted_rows:
        say(ROWS_OF_THE_FIT)


def _show_applied(
    result: AppliedResult, rank: int, place: Path, in_memory: bool
) -> None:
    """Print what a low-rank model was used for."""
    if result.not_used:
        say(f"Not in the model, left alone: {', '.join(result.not_used)}")
    _show_unseen(result.unseen)
    filled = counted(result.holes, "missing cell") if in_memory else "no missing cell"
    say(
        f"{counted(result.rows, 'row')} transformed to {counted(rank, 'dimension')}, "
        f"{filled} filled: {place}"
    )
    say(f"Page: {place / 'report.html'}")


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
        if given:
            are, them = ("is", "it") if len(given) == 1 else ("are", "them")
            complaints.require(
                False,
                f"{joined(given)} {are} only for the model of a run of 'descents impute', "
                f"and {run} contains a run of 'descents {command}'; leave {them} out",
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


def _show_unseen(strange: Sequence[UnseenLevel]) -> None:
    """Print which cells were read as missing, a line for each column."""
    from descents.tables.frames import short
    from descents.tables.spelling import listed

    columns: dict[str, list[UnseenLevel]] = {}
    for one in strange:
        columns.setdefault(one.column, []).append(one)
    for name, levels in columns.items():
        cells = counted(sum(level.cells for level in levels), "cell")
        says = listed(level.level for level in levels)
        say(
            f"{short(name)}: {cells} read as missing, of levels that the model was not "
            f"fitted with: {says}"
        )


def _predict(
    run: Path,
    reading: Reading,
    use: Use,
    out: Path,
    unseen: str,
    silent: tuple[bool, bool],
) -> int:
    """Write the predictions of a stored network for the rows of a table."""
    from descents.runs import apply_network as study
    from descents.runs.apply_network import PREDICTIONS
    from descents.runs.score_sentences import sentence_of
    from descents.storage.run_folders import RESULT, RunFolder

    trained = study.load(run)
    data = reading.read(use.source)
    with RunFolder(out, vars(use.run), resumable=False) as folder:
        result, found = trained.predicted(use.run, data, unseen, use.said)
        folder.write_table(PREDICTIONS, found)
        folder.write_json(RESULT, result)
        draw_page(use.draw, folder.work, (result, {}, {}))
        folder.finish()
    quiet, as_json = silent
    if in_words(result, quiet, as_json):
        for note in result.read:
            say(note)
        _say_fitted(result)
        _show_unseen(result.unseen)
        if scores := sentence_of(result):
            say(scores)
        say(
            f"{result.target} of {counted(result.rows, 'row')} "
            f"predicted: {folder.path / PREDICTIONS}"
        )
        say(f"Page: {folder.path / 'report.html'}")
    return 0


def _fill(
    run: Path,
    reading: Reading,
    filled: Path,
    use: Use,
    out: Path,
    options: dict[str, Any],
    silent: tuple[bool, bool],
    safe: bool,
) -> int:
    """Fill the missing cells of new rows by the model of a run of impute."""
    from descents.runs import impute as study
    from descents.runs.filling import Options
    from descents.storage.run_folders import RESULT, RunFolder

    unseen = str(use.run.unseen)
    model = study.StoredImputer.load(run)
    wanted = Options(**options)
    data = reading.read(use.source, safe=safe)
    with RunFolder(out, vars(use.run), resumable=False) as folder:
        result, found = study.apply(model, use.run, data, wanted, unseen, use.said)
        study.write(found, use.run.table, filled)
        folder.write_json(RESULT, result)
        draw_page(use.draw, folder.work, (result, {}, {}))
        folder.finish()
    quiet, as_json = silent
    if in_words(result, quiet, as_json):
        _say_fitted(result)
        _show_unseen(result.unseen)
        without = result.filled.rows_without_cells
        if without:
            say(
                f"Warning: {counted(without, 'row')} without an observed cell in a modeled "
                "column, filled by the means and the most probable levels of the model."
            )
        say(result.says)
        if result.by_constant:
            say(
                "Filled with the mean or the most frequent level, as in the run: "
                f"{names_listed(result.by_constant)}"
            )
        if result.not_used:
            say(f"Not in the model, left as they are: {names_listed(result.not_used)}")
        for note in data.notes:
            say(note)
        say(filled_table(filled))
        say(f"Page: {folder.path / 'report.html'}")
    return 0
