"""descents factorize."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.cli.checks import (
    check_device,
    check_impute,
    check_memory,
    check_resume,
)
from descents.cli.options import (
    CTRL_C,
    MOST_STARTS,
    OUT_OF_TIME,
    Command,
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
    share_products,
    threads,
)
from descents.cli.printing import announce_reading, draw_page, say, say_error, warn_of
from descents.cli.processes import check_shared, started
from descents.cli.progress import bar
from descents.errors import Complaints
from descents.pages.drawing import drawing
from descents.text import counted

if TYPE_CHECKING:
    from descents.optim.collective import Collective
    from descents.runs.factorize_options import Options
    from descents.runs.factorize_result import LowRankResult
    from descents.runs.request import Data, Identity, Reading
    from descents.storage.run_folders import RunFolder

MOST_SHOWN = 12
"""The number of columns for which it is printed how well they are predicted."""
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
@run_options(
    "factorize",
    resume="If --out contains this run, do not fit it again; --impute is written by its model.",
    max_seconds="Time limit of the descent: starts that have not ended then are interrupted "
    "and judged as they are.",
)
@printing_options
def factorize(table: str, **given: Any) -> int:
    """Fit a low-rank model to TABLE, with columns of any types and missing cells.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    """
    names = ("resume", "out", "max_seconds", "workers", "memory", "impute")
    resume, out, max_seconds, workers, memory, impute = map(given.pop, names)
    quiet, as_json = given.pop("quiet"), given.pop("as_json")
    announce_reading(table, quiet or as_json)
    complaints = Complaints()
    check_resume(complaints, resume, out)
    check_impute(complaints, impute, table, triples=given["triples"])
    check_memory(complaints, memory, impute, given["intervals"], workers)
    check_shared(complaints, memory, workers, impute, given["intervals"])
    if out is None:
        out = default_folder("factorize")
    from descents.storage.run_folders import RESULT, RunFolder

    again = resume and (out / RESULT).exists()  # then nothing is drawn
    draw = click.get_current_context().with_resource(
        drawing("factorize", ahead=not again and started()[1] == 1)
    )
    limits = Limits(threads() if workers == 1 else 1, workers, max_seconds)
    load_torch()
    if memory is not None:
        free_at_once()
    from descents.runs import request as asked
    from descents.runs.apply import write_filled
    from descents.runs.factorize_result import LowRankResult
    from descents.storage.results import read_result

    reading, options = _parsed(table, given, memory, complaints)
    together = _joined(options.device, out)
    settings = vars(options) | ({} if memory is None else {"memory": memory})
    if together.rank:
        return _take_part(table, reading, options, together, max_seconds)
    run = asked.identity(table, {"options": settings, "reading": vars(reading)})
    notes: list[str] = []
    with RunFolder(out, run, resume=resume) as folder:
        together.from_first(None if folder.complete else run)
        if folder.complete:
            result = read_result(LowRankResult, folder.path / RESULT)
            if impute is not None:
                data = reading.read(table, named=options.columns)
                coverage = options.intervals
                notes = write_filled(folder.path, data, impute, coverage)
        else:
            data = reading.read(table, memory, options.columns, together)
            result, notes = _fitted(
                data, options, run, folder, limits, quiet or as_json, draw, impute
            )
            folder.finish()
    if in_words(result, quiet, as_json):
        _show(result, folder.path)
        if impute is not None:
            say(f"The table with its missing cells filled: {impute}")
            for line in notes:
                say(f"Note: {line}.")
    return _code_of(result.statuses, max_seconds)


@dataclass(frozen=True)
class Limits:
    """The threads for matrix products, the processes, and the time limit in seconds."""

    threads: int
    workers: int
    seconds: float | None


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


def _joined(device: str, out: Path) -> Collective:
    """Return the processes that torchrun has started, or this one alone."""
    from descents.optim.collective import ALONE, joined, leave

    if started()[1] == 1:
        return ALONE
    click.get_current_context().call_on_close(leave)
    place = shlex.quote(str(out))
    again = f"start all of them again with --resume --out {place} and the same options"
    return joined(device, again)


def _take_part(
    table: str,
    reading: Reading,
    options: Options,
    together: Collective,
    max_seconds: float | None,
) -> int:
    """Fit the rows of a process that is not the first one, which writes the result."""
    from descents.runs.factorize import factorize as fit

    run: Identity | None = together.from_first(None)
    if run is not None:  # else the run is complete
        data = reading.read(table, None, options.columns, together)
        fit(data, options, run, max_seconds=max_seconds)
    return 0


def _fitted(
    data: Data,
    options: Options,
    run: Identity,
    folder: RunFolder,
    limits: Limits,
    silent: bool,
    draw: Callable[..., None],
    impute: Path | None,
) -> tuple[LowRankResult, list[str]]:
    """Fit, store and draw; return the result, and notes about the table that is filled."""
    from descents.runs.apply import write_imputed
    from descents.runs.factorize import factorize as fit

    if not silent:
        for note in data.notes:
            say(note)
    single = options.starts == 1 and isinstance(options.rank, int)
    single = single and "auto" not in (options.penalty or {}).values()
    if single and limits.threads > 1 and data.entries >= LARGE_TABLE:
        share_products(limits.threads)
    with bar(silent) as progress:
        made = fit(
            data,
            options,
            run,
            workers=limits.workers,
            max_seconds=limits.seconds,
            progress=progress,
        )
        assert made is not None  # noqa: S101  this is the first process
        result = made.write(folder)
        progress("drawing", 0.97)
        draw_page(draw, folder.work, (result, made.rows, made.tensors))
    if impute is None:
        return result, []
    return result, write_imputed(made, impute, options.intervals)


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


def _show(result: LowRankResult, out: Path) -> None:
    """Print what was fitted, how good it is, and how sure that is."""
    warn_of(result.warnings)
    for line in [*result.chosen, *result.defaults]:
        say(line)
    if result.selection is not None:
        say(result.selection.says)
    rows, wide = result.shape
    penalized = any(v for name, v in result.penalty.items() if name != "count_power")
    with_penalty = " with its penalty" if penalized else ""
    say()
    say(
        f"Rank {result.rank} on {counted(result.observed, 'cell')} of {rows} x {wide}, "
        f"by {result.steps} steps: loss {_form(result.loss, '.8g')}"
        f"{with_penalty}, where the best constants have "
        f"{_form(result.constants_loss, '.6g')}."
    )
    say(result.gap_says)
    _show_held_out(result)
    starts = result.starts
    if starts.count > 1:
        say(
            f"{counted(starts.count, 'start')}: median loss "
            f"{_form(starts.loss_median, '.8g')}, largest "
            f"{_form(starts.loss_max, '.8g')}; their column spaces agree to "
            f"{_form(starts.subspace_agreement, '.3g')} (1 is the same space)."
        )
    if result.intervals is not None:
        say(
            f"{100 * result.intervals.coverage:g}% prediction intervals for imputed "
            f"cells, calibrated on {counted(result.intervals.held, 'held-out cell')}."
        )
    statuses = ", ".join(f"{n} {word}" for word, n in result.statuses.items())
    say(f"Starts: {statuses}. {_form(result.seconds, '.1f')} s.")
    if result.memory is not None:
        say(result.memory.says)
    say(f"The page: {out / 'report.html'}")


def _form(value: float | None, form: str) -> str:
    """Return a number in a format, or "not known" for None."""
    return "not known" if value is None else format(value, form)


def _show_held_out(result: LowRankResult) -> None:
    """Print how well held-out cells are predicted."""
    from descents.tables.frames import short
    from descents.tables.spelling import listed

    if result.held_out is None:
        return
    say(result.held_out.says)
    known = {c.name: c.unseen for c in result.columns if c.unseen is not None}
    names = sorted(known, key=lambda name: -known[name])
    each = [
        f"{short(name)} {round(100 * known[name])}%"
        if known[name] >= -1
        else f"{short(name)} below -100%"
        for name in names
    ]
    if len(each) > MOST_SHOWN:
        each = [*each[: MOST_SHOWN // 2], "...", *each[-MOST_SHOWN // 2 :]]
    if each:
        say(f"Predicted of each column, of such cells: {', '.join(each)}")
    flat = [c.name for c in result.columns if c.filled_by == "constant"]
    better = [name for name in flat if known.get(name, 0) > 0]
    worse = [name for name in flat if name not in better]
    unsure = [name for name, share in known.items() if share <= 0 and name not in flat]
    for says, some in (
        ("Not predicted better than by a constant, and filled with it", worse),
        ("Not clearly predicted better, and filled with a constant too", better),
        ("Not predicted better than by a constant, but filled by the model", unsure),
    ):
        if some:
            say(f"{says}: {listed(some)}")
