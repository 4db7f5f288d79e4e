"""descents factorize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.cli.checks import (
    check_device,
    check_impute,
    check_memory,
    check_resume,
)
from descents.cli.connecting import connected_workers
from descents.cli.factorize_text import show
from descents.cli.filled_files import filled_table
from descents.cli.options import (
    CTRL_C,
    MOST_STARTS,
    OUT_OF_TIME,
    Command,
    Seconds,
    column_options,
    default_folder,
    free_at_once,
    in_words,
    load_torch,
    memory_option,
    printing_options,
    reading_of,
    reading_options,
    run_options,
    safe_csv_option,
    shard_option,
    share_products,
    threads,
)
from descents.cli.printing import announce_reading, draw_page, say, say_error
from descents.cli.processes import check_shared, joined_by, started
from descents.cli.progress import bar
from descents.cli.shards import ShardOfRun, check_shard_of_table, factorize_part
from descents.cli.stored_runs import stored_result, to_draw
from descents.errors import Complaints
from descents.pages.drawing import drawing

if TYPE_CHECKING:
    from descents.optim.collective import Collective
    from descents.runs.factorize import FactorizeRun
    from descents.runs.factorize_options import Options
    from descents.runs.factorize_result import LowRankResult
    from descents.runs.identities import Identity
    from descents.runs.request import Data, Reading
    from descents.storage.run_folders import RunFolder

LARGE_TABLE = 2**20
"""For tables with this many cells, matrix products are shared by several threads; the time
in which threads wait for each other is then negligible."""


def intervals_option(says: str) -> Callable[[Any], Any]:
    """Return the option for prediction intervals."""
    return click.option(
        "--intervals",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="COVERAGE",
        help=says,
    )


@click.command(cls=Command)
@click.argument("table")
@click.option(
    "--rank",
    required=True,
    metavar="R",
    help="Number of components. auto, auto:1-12 or auto:1,2,4 choose it by held-out cells, "
    "gavish-donoho by singular values.",
)
@click.option(
    "--loss",
    default="auto",
    show_default=True,
    help="The loss of all columns that it suits: squared, absolute, huber, quantile:0.9, "
    "periodic:24, logistic, hinge, poisson, kl, itakura_saito, beta:0.5, categorical, "
    "one_vs_all, ordinal, ordinal_hinge, bigger_vs_smaller, sequential, ordistic. Some "
    "have a parameter after a colon. auto chooses by type.",
)
@click.option(
    "--loss-of",
    multiple=True,
    metavar="COLUMN=LOSS",
    help="The loss of one column. May be repeated.",
)
@click.option(
    "--levels",
    multiple=True,
    metavar="COLUMN=LOWEST,...,HIGHEST",
    help="The order of the levels of a column, or of several: "
    "q1,q2=never,sometimes,always. Quote a level that has a comma. The column gets "
    "ordinal loss unless --loss or --loss-of gives it another. May be repeated.",
)
@click.option(
    "--constraint",
    default="none",
    show_default=True,
    metavar="NAME",
    help="none, nonnegative, simplex, unit_norm, sparse:K, one_sparse or one_hot; "
    "combine them as nonnegative+sparse:2; for one factor, give "
    "rows=simplex,columns=nonnegative.",
)
@click.option(
    "--penalty",
    multiple=True,
    metavar="NAME=NUMBER",
    help="l2=0.1, l2=auto (chosen by held-out cells), l2=auto:0.1,1,10, l1=1, or for one "
    "factor l2_rows, l1_columns, ...; smooth_rows, smooth_columns; l2_biases; "
    "count_power=0.5 lets penalties grow with a row's cells. May be repeated.  [default: "
    "from the noise if cells are missing; l2=0 for none]",
)
@click.option(
    "--offsets",
    type=click.Choice(["auto", "none", "columns", "rows", "both"]),
    default="auto",
    show_default=True,
    help="Offsets of columns, biases of rows, or both.",
)
@click.option(
    "--scales",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Whether to scale the columns, so that their units have no effect; auto does if "
    "columns have different losses, or if cells are missing and the spreads differ by a "
    "factor of ten.",
)
@click.option(
    "--starts",
    type=click.IntRange(1, MOST_STARTS),
    default=1,
    show_default=True,
    help="Number of starts.",
)
@click.option(
    "--combine",
    type=click.Choice(["best", "mean"]),
    default="best",
    show_default=True,
    help="Whether the best start imputes, or the mean of all.",
)
@click.option(
    "--init",
    "initialization",
    type=click.Choice(["auto", "uniform", "normal", "spectral", "nndsvd", "centers"]),
    default="auto",
    show_default=True,
)
@click.option(
    "--solver",
    "--steps",
    "steps",
    type=click.Choice(["auto", "alternating", "lbfgs", "gd", "adam"]),
    default="auto",
    show_default=True,
    help="The update rule.",
)
@click.option(
    "--learning-rate",
    type=float,
    help="Learning rate of gd and adam.  [default: gd searches it, adam has 0.05]",
)
@click.option(
    "--max-iter",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="Maximum number of steps.",
)
@click.option(
    "--cv",
    "--folds",
    "folds",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Number of folds of held-out cells, if something is chosen.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.5),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Share of the observed cells that are held out to judge the fit, if cells are "
    "missing or something is chosen; 0 for none.",
)
@click.option(
    "--sparse",
    type=click.Choice(["missing", "zero"]),
    default="missing",
    show_default=True,
    help="What an absent cell of triples or of a sparse table is.",
)
@column_options
@reading_options
@click.option(
    "--impute",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.csv",
    help="Write TABLE with its missing cells filled by the point estimate of this model. "
    "To fill a table, 'descents impute' is better: it needs no rank, and says how well "
    "each column is predicted.",
)
@safe_csv_option
@intervals_option(
    "Fit a second model without a fifth of the cells, to calibrate prediction intervals "
    "with this coverage for imputed cells; --impute also writes them."
)
@click.option(
    "--image",
    metavar="HEIGHTxWIDTH",
    help="Draw each component as a picture, if each row of TABLE is a picture with its "
    "numbers line by line; HEIGHTxWIDTHx3 for color.",
)
@memory_option
@click.option(
    "--checkpoint",
    type=Seconds(),
    default=60,
    show_default=True,
    help="Keep the state of the descent in --out, at most this often, so that --resume goes "
    "on from there.",
)
@run_options(
    "factorize",
    resume="If --out contains this run, go on with its descent, or do not fit it again if it "
    "is complete; --impute is written by its model.",
    max_seconds="Time limit of the descent: starts that have not ended then are interrupted "
    "and judged as they are.",
)
@shard_option
@printing_options
def factorize(table: str, **given: Any) -> int:
    """Fit a low-rank model to TABLE, with columns of any types and missing cells.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    """
    names = ("resume", "out", "max_seconds", "workers", "memory", "impute", "safe_csv")
    resume, out, max_seconds, workers, memory, impute, safe = map(given.pop, names)
    checkpoint, shard = given.pop("checkpoint"), given.pop("shard")
    quiet, as_json = given.pop("quiet"), given.pop("as_json")
    announce_reading(table, quiet or as_json)
    complaints = Complaints()
    check_resume(complaints, resume, out)
    check_impute(complaints, impute, table, triples=given["triples"], safe=safe)
    check_memory(complaints, memory, impute, given["intervals"], workers, table)
    check_shared(complaints, memory, workers, impute, given["intervals"])
    if shard is not None:
        check_shard_of_table(complaints, table, out, memory, impute)
    out = out or default_folder("factorize")
    draw = click.get_current_context().with_resource(
        drawing(
            "factorize",
            ahead=shard is None and to_draw(out, resume) and started()[1] == 1,
        )
    )
    shared_by = threads() if workers == 1 else 1
    load_torch()
    if memory is not None:
        free_at_once()
    from descents.runs.apply import write_filled, write_imputed
    from descents.runs.factorize_result import LowRankResult
    from descents.runs.identities import identity
    from descents.storage.run_folders import RunFolder
    from descents.tables.sources import TableSource

    reading, options = _parsed(table, given, memory, complaints)
    together = joined_by(options.device)
    limits = Limits(shared_by, workers, max_seconds, checkpoint, together)
    if together.rank:
        return _take_part(table, reading, options, limits)
    settings = vars(options) | ({} if memory is None else {"memory": memory})
    source, coverage, notes = TableSource(table), options.intervals, list[str]()
    run = identity(source, {"options": settings, "reading": vars(reading)})
    if shard is not None:
        read = partial(reading.read, source, named=options.columns)
        return factorize_part(
            ShardOfRun(shard, out, run, table), read, options, limits, (quiet, as_json)
        )
    with RunFolder(out, run, resume=resume) as folder:
        result = stored_result(folder, LowRankResult, draw)
        together.from_first(run if result is None else None)
        if result is None:
            data = reading.read(source, memory, options.columns, together, safe)
            made = _fitted(data, options, run, folder, limits, quiet or as_json)
            result = _stored(made, folder, quiet or as_json, draw)
            source.check_unchanged()  # a table on disk is read until here
            folder.finish()
            if impute is not None:  # the run is complete, and cannot be lost by it
                notes = write_imputed(made, impute, coverage)
        elif impute is not None:
            data = reading.read(source, named=options.columns, safe=safe)
            notes = write_filled(folder.path, data, impute, coverage)
    if in_words(result, quiet, as_json):
        _show(result, folder.path, impute, notes)
    return _code_of(result.statuses, max_seconds)


def _show(
    result: LowRankResult, place: Path, impute: Path | None, notes: Sequence[str]
) -> None:
    """Print the result, and where the filled table is."""
    show(result, place)
    if impute is None:
        return
    say(filled_table(impute))
    for line in notes:
        say(f"Note: {line}.")


@dataclass(frozen=True)
class Limits:
    """The threads for matrix products, the workers, and the limits of time in seconds.

    `checkpoint` is the least time between two states of the descent that are kept, and
    `together` are the processes that share the table.
    """

    threads: int
    workers: int | str
    seconds: float | None
    checkpoint: float
    together: Collective


def _parsed(
    table: str, given: dict[str, Any], memory: int | None, complaints: Complaints
) -> tuple[Reading, Options]:
    """Parse the options before TABLE is read; one error reports all problems.

    If an option is invalid, the table is read too, to report what does not fit it.
    """
    from descents.runs import factorize_options as parse
    from descents.runs import request as asked

    complaints.require(
        given["combine"] != "mean" or given["starts"] > 1,
        "--combine mean averages several starts, but --starts is 1; give more",
    )
    check_device(complaints, given["device"])
    loss_of = complaints.attempt(asked.named_pairs, "--loss-of", given.pop("loss_of"))
    penalty = complaints.attempt(parse.penalties, given.pop("penalty"))
    complaints.attempt(parse.constraints, given["constraint"])
    complaints.attempt(asked.level_lists, given["levels"])
    image = complaints.attempt(parse.image_shape, given.pop("image"))
    rank = complaints.attempt(parse.rank, given.pop("rank"))
    reading, loss_of = reading_of(given), loss_of or {}
    options = parse.Options(
        rank=rank or 1,
        loss_of={reading.name_in(table, name): loss_of[name] for name in loss_of},
        penalty=penalty,
        image=image,
        **given,
    )
    complaints.attempt(options.model)
    if complaints.messages and started()[1] == 1:
        data = complaints.attempt(reading.read, table, memory, options.columns)
        if data is not None:
            complaints.attempt(options.settings, data)
    complaints.raise_any()
    return reading, options


def _take_part(
    table: str,
    reading: Reading,
    options: Options,
    limits: Limits,
) -> int:
    """Fit the rows of a process that is not the first one, which writes the result."""
    from descents.runs.factorize import factorize as fit
    from descents.runs.kept_descents import KeptDescents

    together = limits.together
    run: Identity | None = together.from_first(None)
    if run is not None:  # else the run is complete
        data = reading.read(table, None, options.columns, together)
        store = KeptDescents(None, together, limits.checkpoint)
        fit(data, options, run, max_seconds=limits.seconds, store=store)
    return 0


def _fitted(
    data: Data,
    options: Options,
    run: Identity,
    folder: RunFolder,
    limits: Limits,
    silent: bool,
) -> FactorizeRun:
    """Fit the model and judge it."""
    from descents.runs.factorize import factorize as fit
    from descents.runs.kept_descents import KeptDescents

    if not silent:
        for note in data.notes:
            say(note)
    single = options.starts == 1 and isinstance(options.rank, int)
    single = single and "auto" not in (options.penalty or {}).values()
    if single and limits.threads > 1 and data.entries >= LARGE_TABLE:
        share_products(limits.threads)
    with connected_workers(limits.workers, silent) as workers, bar(silent) as progress:
        made = fit(
            data,
            options,
            run,
            workers=workers,
            max_seconds=limits.seconds,
            store=KeptDescents(folder, limits.together, limits.checkpoint),
            progress=progress,
        )
    assert made is not None  # noqa: S101  this is the first process
    return made


def _stored(
    made: FactorizeRun, folder: RunFolder, silent: bool, draw: Callable[..., None]
) -> LowRankResult:
    """Store a fit, draw its page, and return its result."""
    with bar(silent) as progress:
        result = made.write(folder)
        progress("drawing", 0.97)
        draw_page(draw, folder.work, (result, made.rows, made.tensors))
    return result


def _code_of(statuses: dict[str, int], max_seconds: float | None) -> int:
    """Return the exit code, and print why starts were interrupted."""
    if not statuses.get("interrupted"):
        return 0
    if max_seconds:
        say_error(
            f"the descent was stopped after {max_seconds:g} s, before the starts had "
            "ended; their results are kept. Give more seconds for a better answer."
        )
        return OUT_OF_TIME
    say_error("interrupted; the results of the starts are kept.")
    return CTRL_C
