"""The command ``descents impute``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.cli.checks import check_resume
from descents.cli.filled_files import filled_table, notice_file
from descents.cli.options import (
    MOST_STARTS,
    Command,
    Decorator,
    column_options,
    default_folder,
    in_words,
    levels_option,
    load_torch,
    printing_options,
    range_option,
    reading_of,
    safe_csv_option,
    text_options,
    threads,
)
from descents.cli.printing import (
    Column,
    announce_reading,
    draw_page,
    say,
    show_table,
    warn_of,
)
from descents.cli.processes import check_shared_imputation, joined_by, started
from descents.cli.progress import bar
from descents.cli.stored_runs import stored_result, to_draw
from descents.errors import Complaints
from descents.pages.drawing import drawing
from descents.text import visible

if TYPE_CHECKING:
    from descents.optim.collective import Collective
    from descents.runs.filling import Filling, Options
    from descents.runs.impute_result import ImputationResult, ImputedColumn
    from descents.runs.request import Data, Reading
    from descents.tables.sources import TableSource
    from descents.tables.tables import Table

MOST_IMPUTATIONS = 1000


def imputations_option(says: str) -> Decorator:
    """Return the option for several imputations."""
    return click.option(
        "--imputations",
        type=click.IntRange(2, MOST_IMPUTATIONS),
        metavar="M",
        help=says,
    )


@click.command(cls=Command)
@click.argument("table")
@click.argument("filled", type=click.Path(path_type=Path))
@click.option(
    "--intervals",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="COVERAGE",
    help="Write COLUMN_low and COLUMN_high, or COLUMN_set of levels, which contain a "
    "missing cell with this probability.",
)
@imputations_option(
    "Write M imputed tables instead of one, below each other, with their number in a "
    "first column. Missing cells are drawn, each time from a model of resampled rows."
)
@range_option
@click.option(
    "--rank",
    type=click.IntRange(0),
    metavar="R",
    help="Number of components of the covariance.  [default: no limit]",
)
@click.option(
    "--starts",
    type=click.IntRange(1, MOST_STARTS),
    default=1,
    show_default=True,
    help="Number of starts; the best one fills the cells.",
)
@click.option(
    "--refine",
    is_flag=True,
    help="Improve the model with a forest for each column with missing cells. This takes "
    "several times as long.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N"
)
@levels_option
@column_options
@text_options
@safe_csv_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new folder for the results.  [default: runs/impute-<time>]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="If --out contains this run, write FILLED by its model, without another fit.",
)
@printing_options
def impute(table: str, filled: Path, **given: Any) -> int:
    """Fill the missing cells of TABLE, and write the result to FILLED.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    FILLED has the same format; a name that ends in .csv always gets text. No option is
    needed: columns are modeled by their type, and how well each is predicted is tested
    on observed cells that are hidden from the fit.
    """
    resume, out, quiet, as_json, safe = (
        given.pop(name) for name in ("resume", "out", "quiet", "as_json", "safe_csv")
    )
    announce_reading(table, quiet or as_json)
    complaints = Complaints()
    check_resume(complaints, resume, out)
    if out is None:
        out = default_folder("impute")
    draw = click.get_current_context().with_resource(
        drawing("impute", ahead=to_draw(out, resume) and started()[1] == 1)
    )
    threads()
    load_torch()
    from descents.runs import request as asked
    from descents.runs.filling import Options
    from descents.tables.written import check_target

    complaints.attempt(check_target, table, filled)
    notice_file(filled)
    complaints.attempt(asked.level_lists, given["levels"])
    reading = reading_of(given)
    options = Options(**given)
    complaints.attempt(options.check)
    check_shared_imputation(complaints, table, filled, options)
    if complaints.messages and started()[1] == 1:  # report what does not fit the table
        complaints.attempt(reading.read, table)
    complaints.raise_any()
    work = _Work(table, filled, reading, options, safe, joined_by())
    if work.together.rank:
        work.take_part()
        return 0
    result, place = work.stored(out, resume, draw, quiet or as_json)
    if in_words(result, quiet, as_json):
        _show(result, filled, place)
    return 0


@dataclass(frozen=True)
class _Work:
    """What a command fills, how, and the processes that share the rows of the table."""

    table: str
    filled: Path
    reading: Reading
    options: Options
    safe: bool
    together: Collective

    def stored(
        self, out: Path, resume: bool, draw: Callable[..., None], silent: bool
    ) -> tuple[ImputationResult, Path]:
        """Fit the model and store it, unless it is stored, and write FILLED."""
        from descents.runs import impute as study
        from descents.runs.identities import identity
        from descents.runs.impute_result import ImputationResult
        from descents.runs.results import Run
        from descents.storage.run_folders import RunFolder
        from descents.tables.sources import TableSource

        source, asked_for = TableSource(self.table), {"options": vars(self.options)}
        asked_for |= {"reading": vars(self.reading)}
        run = Run(**identity(source, asked_for, "impute"))
        with RunFolder(out, vars(run), resume=resume) as folder:
            result = stored_result(folder, ImputationResult, draw)
            if (
                result is not None
            ):  # FILLED may be absent, or another file: write it again
                model = study.StoredImputer.load(folder.path)
                self.together.from_first((run, model))
                self._write(model.filling(self._table(source), self.options))
                return result, folder.path
            self.together.from_first((run, None))
            data = self._data(source)
            with bar(silent) as progress:
                found = study.impute(data, self.options, run, progress, self.together)
                found.write(folder)
                progress("drawing", 0.97)
                draw_page(draw, folder.work, (found.result, found.rows, found.tensors))
            source.check_unchanged()
            folder.finish()
            # The run is complete, so that a full disk loses nothing of it.
            self._write(found.filling)
            return found.result, folder.path

    def take_part(self) -> None:
        """Fill the rows of a process that is not the first one, which writes the result."""
        from descents.runs import impute as study

        run, model = self.together.from_first((None, None))
        if run is None:  # this is the first process
            return
        if model is not None:
            filling = model.filling(self._table(self.table), self.options)
        else:
            data = self._data(self.table)
            filling = study.impute(data, self.options, run, None, self.together).filling
        self._write(filling)

    def _data(self, source: str | TableSource) -> Data:
        """Return the table, or the rows of it that this process has."""
        if self.together.size > 1:
            return self.reading.read_rows(source, self.together)
        return self.reading.read(source, safe=self.safe)

    def _table(self, source: str | TableSource) -> Table:
        from descents.runs.impute import table_of

        return table_of(self._data(source))

    def _write(self, filling: Filling) -> None:
        """Write FILLED, of which other processes send their rows."""
        if self.together.size == 1:
            from descents.runs.impute import write

            write(filling, self.table, self.filled)
            return
        from descents.runs.shared_filling import write_shared

        model = replace(filling.model, together=self.together)
        write_shared(replace(filling, model=model), self.filled)


def _show(result: ImputationResult, filled: Path, out: Path) -> None:
    """Print warnings, how much was filled and how well, then the columns left alone."""
    warn_of(result.warnings)
    say(result.says)
    if result.filled.cells:
        say(result.quality)
        if result.refinement is not None:
            say(result.refinement.says)
        _show_columns(result.columns)
    _show_left(result)
    if result.added:
        say(f"Added columns: {names_listed(result.added)}")
    say("Read as:")
    for note in result.read:
        say(f"  {note}")
    say()
    say(filled_table(filled))
    say(f"Page: {out / 'report.html'}  ({result.seconds:.1f} s)")


def _show_columns(columns: list[ImputedColumn]) -> None:
    """Print a line for each column with missing cells: its error on held-out cells."""
    from descents.tables.frames import short

    lacking = [column for column in columns if column.missing]
    shown = sorted(lacking, key=lambda column: -column.missing)[:MOST_LINES]
    names = [visible(short(column.name)).replace("\n", "\\n") for column in shown]
    say()
    show_table(
        [
            Column("column", names),
            Column("missing", [str(one.missing) for one in shown], 3, right=True),
            Column("error*", [one.error_says for one in shown], 1, right=True),
            Column(
                "by its mean or mode",
                [one.constant_says for one in shown],
                4,
                right=True,
            ),
            Column("better?", [one.verdict for one in shown], 2),
        ],
        framed=False,
    )
    if len(lacking) > len(shown):
        say(f"and {len(lacking) - len(shown)} more, which the page lists")
    say(
        "* of held-out cells: the root mean squared error, or the share of wrong levels."
    )
    say()


MOST_LINES = 30
"""So many columns have a line in what is printed."""


def _show_left(result: ImputationResult) -> None:
    """Print which columns are not modeled, and why."""
    from descents.tables.frames import short

    for one in result.passed:
        say(f"Left as it is: {short(one.name)}, which {one.why}")
    if result.ignored:
        say(f"Left as they are by --ignore and --id: {names_listed(result.ignored)}")


def names_listed(names: list[str]) -> str:
    """Return some names, at most ten of them."""
    from descents.tables.frames import short

    shown = ", ".join(map(short, names[:10]))
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
