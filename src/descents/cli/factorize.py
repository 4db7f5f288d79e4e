"""descents factorize and descents apply."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.cli.impute import fill, imputations_option
from descents.cli.options import (
    CTRL_C,
    OUT_OF_TIME,
    bar,
    column_options,
    free_at_once,
    memory_option,
    printing_options,
    range_option,
    reading_of,
    reading_options,
    run_options,
    say,
    say_error,
    share_products,
    terminal,
    threads,
)
from descents.errors import Complaints, InvalidValueError
from descents.pages.drawing import drawing
from descents.tables.frames import short
from descents.tables.spelling import listed
from descents.text import counted
from descents.validation import MOST_STARTS, folder_path

if TYPE_CHECKING:
    from rich.console import Console

MOST_SHOWN = 12
"""Of how many columns it is printed how well they are predicted."""
LARGE_TABLE = 2**20
"""From so many cells on, products are worth to be shared out to several threads: one
that waits for another is nothing beside what it does."""


def intervals_option(says: str) -> Callable[[Any], Any]:
    """Return the option that asks for intervals."""
    return click.option(
        "--intervals",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="COVERAGE",
        help=says,
    )


@click.command()
@click.argument("table")
@click.option(
    "--rank",
    required=True,
    metavar="R",
    help="How many components; auto, auto:1-12 or auto:1,2,4 choose by cells that are "
    "held out, gavish-donoho by singular values.",
)
@click.option(
    "--loss",
    default="auto",
    show_default=True,
    help="Of all columns that it fits: squared, absolute, huber, quantile:0.9, "
    "periodic:24, logistic, hinge, poisson, kl, itakura_saito, beta:0.5, categorical, "
    "one_vs_all, ordinal, ordinal_hinge, bigger_vs_smaller, sequential, ordistic, with a "
    "number of their own behind a colon; auto chooses by type.",
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
    "joined as nonnegative+sparse:2; of one factor as rows=simplex,columns=nonnegative.",
)
@click.option(
    "--penalty",
    multiple=True,
    metavar="NAME=NUMBER",
    help="l2=0.1, l2=auto (chosen as a rank is), l2=auto:0.1,1,10, l1=1, or for one "
    "factor l2_rows, l1_columns, ...; smooth_rows, smooth_columns; l2_biases; "
    "count_power=0.5 lets penalties grow with a row's cells. May be repeated.  [default: "
    "with missing cells what the noise implies; l2=0 for none]",
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
    help="Whether all columns count alike, whatever their units; auto where columns "
    "have different losses, or cells are missing and spreads differ tenfold.",
)
@click.option(
    "--starts",
    type=click.IntRange(1, MOST_STARTS),
    default=1,
    show_default=True,
    help="Starting points.",
)
@click.option(
    "--combine",
    type=click.Choice(["best", "mean"]),
    default="best",
    show_default=True,
    help="What imputes: the best start, or the mean of all.",
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
    help="Of gd and adam.  [default: found by itself]",
)
@click.option(
    "--max-iter",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="The limit of steps.",
)
@click.option(
    "--cv",
    "--folds",
    "folds",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="In how many parts cells are held out to choose by.",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.5),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Of the observed cells, by which the fit is judged where cells are missing or the "
    "rank or the penalty is chosen; 0 does without.",
)
@click.option(
    "--sparse",
    type=click.Choice(["missing", "zero"]),
    default="missing",
    show_default=True,
    help="What a cell is that triples or a sparse table do not hold.",
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
    "Fit once more, without a fifth of the cells, to know what holds a filled cell with "
    "this probability; --impute writes it too."
)
@click.option(
    "--image",
    metavar="HEIGHTxWIDTH",
    help="Draw each component as a picture: each row of TABLE is one, its numbers line by "
    "line; HEIGHTxWIDTHx3 in color.",
)
@memory_option
@run_options(
    "factorize",
    resume="Return at once if --out has this run.",
    max_seconds="For the descent: interrupt starts that have not ended then, and judge "
    "what they reached, which takes its own time.",
)
@printing_options
def factorize(table: str, **given: Any) -> int:
    """Fit a low-rank model to TABLE, whatever its columns hold and with its holes.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    """
    from descents.storage.folders import RESULT, RunFolder, read_json

    resume, out, max_seconds, workers = (
        given.pop(name) for name in ("resume", "out", "max_seconds", "workers")
    )
    quiet, as_json, impute, memory = (
        given.pop(name) for name in ("quiet", "as_json", "impute", "memory")
    )
    _check_memory(memory, impute, given["intervals"], workers)
    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder to go on with.")
    _check_impute(impute, table, triples=given["triples"])
    if given["combine"] == "mean" and given["starts"] == 1:
        raise click.UsageError(
            "--combine mean averages several starts, but --starts is 1; give more."
        )
    if out is None:
        out = Path("runs") / f"factorize-{time.strftime('%Y%m%d-%H%M%S')}"
    again = resume and (out / RESULT).exists()  # and nothing to be drawn
    draw = click.get_current_context().with_resource(drawing(ahead=not again))
    side = threads()
    if memory is not None:
        free_at_once()
    from descents.runs import apply as applied
    from descents.runs import factorize as study
    from descents.runs import request as asked

    # All that is wrong with the options is reported together, before TABLE is read.
    complaints = Complaints()
    loss_of = complaints.attempt(asked.named_pairs, "--loss-of", given.pop("loss_of"))
    penalty = complaints.attempt(asked.penalties, given.pop("penalty"))
    complaints.attempt(asked.constraints, given["constraint"])
    complaints.attempt(asked.level_lists, given["levels"])
    image = complaints.attempt(asked.image_shape, given.pop("image"))
    rank = complaints.attempt(asked.rank, given.pop("rank"))
    complaints.raise_any()
    reading = reading_of(given)
    options = asked.Options(
        rank=rank,
        loss_of={reading.name_in(table, name): loss_of[name] for name in loss_of},
        penalty=penalty,
        image=image,
        **given,
    )
    settings = vars(options) | ({} if memory is None else {"memory": memory})
    run = asked.identity(table, {"options": settings, "reading": vars(reading)})
    folder, said = RunFolder(out, run, resume=resume), list[str]()
    with folder:
        if not folder.complete:
            found = _factorize(
                study,
                folder,
                reading.read(table, memory),
                options,
                run,
                side if workers == 1 else 1,
                workers,
                max_seconds,
                quiet or as_json,
                draw,
            )
            if impute is not None:
                said = applied.write_imputed(found, impute, options.intervals)
            folder.finish()
        elif impute is not None:
            raise InvalidValueError(
                f"{out} already holds this run, which is not fitted again; to fill the "
                f"holes of a table with it, give 'descents apply {out} TABLE'"
            )
    result = read_json(folder.path / RESULT)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif not quiet:
        _show_model(terminal(soft_wrap=True), result, folder.path)
        if impute is not None:
            click.echo(f"The table with its holes filled: {impute}")
            for line in said:
                click.echo(f"Note: {line}.")
    return _code_of(result["statuses"], max_seconds)


def _code_of(statuses: dict[str, int], max_seconds: float | None) -> int:
    """Return the exit code, and say why starts were interrupted."""
    if not statuses.get("interrupted"):
        return 0
    if max_seconds:
        say_error(
            f"the descent was stopped after {max_seconds:g} s, before the starts had "
            "ended; what they reached is kept. Give more seconds for a better answer."
        )
        return OUT_OF_TIME
    say_error("interrupted; what the starts had reached is kept.")
    return CTRL_C


def _check_memory(
    memory: int | None,
    impute: Path | None,
    coverage: float | None,
    workers: int = 1,
) -> None:
    """Refuse what a table that is read by blocks of rows cannot have."""
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


def _check_impute(impute: Path | None, table: str, *, triples: bool = False) -> None:
    """Refuse a place that a table with its holes filled cannot go to."""
    if impute is None:
        return
    if triples:
        raise click.UsageError(
            "--impute writes a table with its holes filled, but triples have no holes; "
            "leave it out."
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


def _factorize(
    study: Any,
    folder: Any,
    data: Any,
    options: Any,
    run: Any,
    processors: int,
    workers: int,
    max_seconds: float | None,
    silent: bool,
    draw: Callable[[Path], None],
) -> Any:
    """Fit, store and draw, with what was read said first and a bar on a terminal."""
    if not silent:
        for note in data.notes:
            say(note)
    single = options.starts == 1 and isinstance(options.rank, int)
    single = single and "auto" not in (options.penalty or {}).values()
    if single and processors > 1 and data.entries >= LARGE_TABLE:
        share_products(processors)
    with bar(silent) as progress:
        found = study.factorize(
            data,
            options,
            run,
            workers=workers,
            max_seconds=max_seconds,
            progress=progress,
        )
        found.write(folder)
        progress("drawing", 0.97)
        draw(folder.work)
    return found


def _show_model(console: Console, result: dict[str, Any], out: Path) -> None:
    """Print what was fitted, how good it is, and how sure that is."""
    for line in result["warnings"]:
        console.print(f"Warning: {line}.", style="yellow", markup=False)
    for line in result["chosen"]:
        console.print(line, markup=False)
    for line in result["defaults"]:
        console.print(line, markup=False)
    if result["selection"] is not None:
        console.print(result["selection"]["says"], markup=False)
    starts = result["starts"]
    rows, wide = result["shape"]
    console.print(
        f"\nRank {result['rank']} on {counted(result['observed'], 'cell')} of {rows} x {wide}, by "
        f"{result['steps']} steps: loss {result['loss']:.8g}, where the best constants "
        f"have {result['constants_loss']:.6g}."
    )
    console.print(result["gap_says"], markup=False)
    _show_held_out(console, result)
    if starts["count"] > 1:
        console.print(
            f"{counted(starts['count'], 'start')}: median loss {starts['loss_median']:.8g}, largest "
            f"{starts['loss_max']:.8g}; their column spaces agree to "
            f"{starts['subspace_agreement']:.3g} (1 is the same space)."
        )
    intervals = result["intervals"]
    if intervals is not None:
        console.print(
            f"A cell that is filled in is held with probability {intervals['coverage']:g}, by the "
            f"residuals of {counted(intervals['held'], 'cell')} that a second fit had not seen."
        )
    statuses = ", ".join(f"{n} {word}" for word, n in result["statuses"].items())
    console.print(f"Starts: {statuses}. {result['seconds']:.1f} s.")
    if "memory" in result:
        console.print(result["memory"]["says"])
    console.print(f"The page: {out / 'report.html'}")


def _show_held_out(console: Console, result: dict[str, Any]) -> None:
    """Print how well cells are predicted that a fit had not seen."""
    if result["held_out"] is None:
        return
    console.print(result["held_out"]["says"], markup=False)
    known = [c for c in result["columns"] if c["unseen"] is not None]
    known.sort(key=lambda column: -column["unseen"])
    shown = known if len(known) <= MOST_SHOWN else known[: MOST_SHOWN // 2]
    if shown is not known:
        shown = shown + known[-MOST_SHOWN // 2 :]
    each = [f"{short(c['name'])} {round(100 * c['unseen'])}%" for c in shown]
    if len(shown) < len(known):
        each.insert(MOST_SHOWN // 2, "...")
    if each:
        console.print(
            f"Predicted of each column, of such cells: {', '.join(each)}", markup=False
        )
    flat = [c for c in result["columns"] if c["filled_by"] == "constant"]
    better = [c["name"] for c in flat if (c["unseen"] or 0) > 0]
    worse = [c["name"] for c in flat if c["name"] not in better]
    for says, names in (
        ("Not predicted better than by a constant", worse),
        ("Not clearly predicted better, and filled with a constant too", better),
    ):
        if names:
            console.print(f"{says}: {listed(names)}", markup=False)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("table")
@click.argument("filled", required=False, type=click.Path(path_type=Path))
@click.option("--id", "identifier", metavar="COLUMN", help="It names the rows.")
@reading_options
@click.option(
    "--impute",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.csv",
    help="Of a run of factorize: write TABLE with its holes filled here too.",
)
@intervals_option(
    "Write what holds a filled cell with this probability, too; a RUN of factorize was "
    "made with --intervals."
)
@imputations_option(
    "Of a run of impute that was made with --imputations: write so many imputed tables "
    "below each other."
)
@range_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Of --imputations.  [default: 0]",
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
    `factorize` transforms and imputes the rows, a network of `train` foretells its
    target.
    """
    from descents.storage.folders import RESULT, RunFolder, read_json

    run = folder_path(run)
    result = read_json(run / RESULT)  # before anything heavy is loaded
    stored = run_of(result)
    names = ("out", "impute", "memory", "intervals", "unseen", "quiet", "as_json")
    out, impute, memory, coverage, unseen, quiet, as_json = map(given.pop, names)
    drawing_of = {name: given.pop(name) for name in ("imputations", "range", "seed")}
    command = stored.get("command")
    _check_apply(command, run, table, filled, impute, memory, drawing_of)
    _check_memory(memory, impute, coverage)
    _check_impute(impute, table)
    if out is None:
        out = Path("runs") / f"apply-{time.strftime('%Y%m%d-%H%M%S')}"
    threads()
    if memory is not None:
        free_at_once()
    from descents.runs import apply as study

    reading = reading_of(given).after(stored.get("reading", {}), result.get("formats"))
    identity = {"command": "apply", "model": str(run), "table": table}
    identity |= {} if coverage is None else {"intervals": coverage}
    if command == "impute":
        assert filled is not None  # noqa: S101  checked above
        given_of = {name: x for name, x in drawing_of.items() if x is not None}
        identity |= {**given_of, "unseen": unseen or "missing"}
        options = {"intervals": coverage, **drawing_of, "seed": drawing_of["seed"] or 0}
        silent = quiet, as_json
        return fill(run, reading, filled, identity, out, options, silent, _show_unseen)
    identity |= {} if unseen in (None, "error") else {"unseen": unseen}
    if stored.get("command") == "train":
        if memory is not None:
            raise InvalidValueError(
                f"{run} holds a network, whose table is read whole; leave --memory out"
            )
        if impute is not None or coverage is not None:
            raise InvalidValueError(
                f"{run} holds a network, which fills no holes; leave --impute and "
                "--intervals out"
            )
        ways = unseen or "error", quiet, as_json
        return _foretell(run, reading, table, identity, out, *ways)
    model = study.load_as(run)
    data = reading.read(table, memory)
    with RunFolder(out, identity) as folder:
        if memory is not None:
            result = study.apply_by_blocks(folder, model, identity, data)
        else:
            applied = study.apply(model, identity, data, coverage, unseen or "error")
            study.write_applied(folder, data, applied, impute)
            result = applied[0]
        folder.finish()
    if as_json:
        click.echo(json.dumps(read_json(folder.path / RESULT), indent=2))
    elif not quiet:
        for line in result["warnings"]:
            click.echo(f"Warning: {line}.")
        for note in data.notes:
            say(note)
        _show_applied(result, len(model.components_), folder.path, memory is None)
    return 0


def run_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of a stored run; empty where the file holds none."""
    stored = result.get("run")
    return stored if isinstance(stored, dict) else {}


def _show_applied(
    result: dict[str, Any], rank: int, place: Path, in_memory: bool
) -> None:
    """Print what a low-rank model was used for."""
    if result["not_used"]:
        click.echo(f"Not in the model, left alone: {', '.join(result['not_used'])}")
    _show_unseen(result["unseen"])
    filled = f"{counted(result['holes'], 'hole')} filled"
    click.echo(
        f"{counted(result['rows'], 'row')} put in {counted(rank, 'dimension')}, "
        f"{filled if in_memory else 'no hole filled'}: {place}"
    )


def _check_apply(
    command: Any,
    run: Path,
    table: str,
    filled: Path | None,
    impute: Path | None,
    memory: int | None,
    drawing_of: dict[str, Any],
) -> None:
    """Refuse what is for runs of another command."""
    from descents.tables.written import check_target

    complaints = Complaints()
    if command != "impute":
        given = [f"--{name}" for name, value in drawing_of.items() if value is not None]
        given += ["FILLED"] if filled is not None else []
        complaints.require(
            not given,
            f"{' and '.join(given)}: for a run of 'descents impute', but {run} holds one "
            f"of 'descents {command}'; leave that out",
        )
    else:
        complaints.require(
            impute is None and memory is None,
            f"{run} holds a run of 'descents impute', which takes FILLED after TABLE, and "
            "reads TABLE whole; leave --impute and --memory out",
        )
        if filled is None:
            complaints.require(
                False,
                f"{run} fills the missing cells of TABLE; give the file to write after it, "
                f"as in 'descents apply {run} {table} FILLED'",
            )
        else:
            complaints.attempt(check_target, table, filled)
    complaints.raise_any()


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
        click.echo(
            f"{short(name)}: {cells} read as missing, of levels that the model was not "
            f"fitted with: {says}"
        )


def _foretell(
    run: Path,
    reading: Any,
    table: str,
    identity: dict[str, Any],
    out: Path,
    unseen: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Write what a stored network foretells of the rows of a table."""
    from descents.runs import apply_network as study
    from descents.storage.folders import RESULT, RunFolder, read_json

    trained = study.load(run)
    data = reading.read(table)
    with RunFolder(out, identity) as folder:
        data, strange = trained.known_only(data, unseen)
        found = trained.apply(data)
        folder.write_table("predictions.parquet", found)
        folder.write_json(
            RESULT,
            {
                "run": identity,
                "read": list(data.notes),
                "target": trained.target["name"],
                "unseen": strange,
                "rows": len(data.row_names),
                "columns": list(found),
            },
        )
        folder.finish()
    if as_json:
        click.echo(json.dumps(read_json(folder.path / RESULT), indent=2))
    elif not quiet:
        for note in data.notes:
            say(note)
        _show_unseen(strange)
        click.echo(
            f"{trained.target['name']} of {counted(len(data.row_names), 'row')} foretold: "
            f"{folder.path / 'predictions.parquet'}"
        )
    return 0
