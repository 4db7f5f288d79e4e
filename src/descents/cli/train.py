"""The command ``descents train``."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from descents.cli.checks import check_device, check_resume
from descents.cli.connecting import connected_workers
from descents.cli.network_text import show
from descents.cli.options import (
    MOST_STARTS,
    Command,
    column_options,
    default_folder,
    in_words,
    load_torch,
    printing_options,
    reading_of,
    reading_options,
    run_options,
    shard_option,
    threads,
)
from descents.cli.printing import announce_reading, draw_page, say
from descents.cli.progress import bar
from descents.cli.shards import ShardOfRun, check_shard, train_part
from descents.cli.stored_runs import resumed, stopped, stored_result, to_draw
from descents.errors import Complaints, InterruptedRunError
from descents.pages.drawing import drawing

if TYPE_CHECKING:
    from descents.runs.network_options import NetworkOptions
    from descents.runs.request import Data, Reading
    from descents.runs.train_result import NetworkResult
    from descents.storage.run_folders import RunFolder
    from descents.tables.sources import TableSource


class _Widths(click.ParamType[tuple[int, ...]]):
    """Option type: widths of hidden layers, such as 64,64."""

    name = "widths"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the widths, or fail with a message."""
        if isinstance(value, tuple):
            return value
        try:
            widths = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            widths = (0,)
        if min(widths) < 1:
            self.fail(
                f"{value!r} is not a list of widths; give whole numbers of at least 1, "
                "separated by commas, such as 64 or 64,64.",
                param,
                ctx,
            )
        return widths


class _BatchSize(click.ParamType[int | str]):
    """Option type: a number of rows, all, or auto."""

    name = "rows"

    def convert(
        self, value: int | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return the number or the word, or fail with a message."""
        if value in ("auto", "all"):
            return value
        try:
            rows = int(value)
        except ValueError:
            rows = 0
        if rows < 1:
            self.fail(
                f"{value!r} is not a batch size; give a number of rows of at least 1, "
                "all, or auto.",
                param,
                ctx,
            )
        return rows


@click.command(cls=Command)
@click.argument("table")
@click.option(
    "--target", required=True, metavar="COLUMN", help="The column to predict."
)
@click.option(
    "--task",
    type=click.Choice(["auto", "classification", "regression"]),
    default="auto",
    show_default=True,
    help="auto classifies levels, booleans, and at most 20 different whole numbers.",
)
@click.option(
    "--starts", type=click.IntRange(1, MOST_STARTS), default=1000, show_default=True,
    help="Number of initial points of each setting.",
)  # fmt: skip
@click.option(
    "--hidden", type=_Widths(), default="64", show_default=True,
    help="Numbers of units of the hidden layers, such as 64,64.",
)  # fmt: skip
@click.option(
    "--activation",
    type=click.Choice(["relu", "tanh", "logistic", "gelu"]),
    default="relu",
    show_default=True,
    help="Activation function of the hidden layers.",
)
@click.option(
    "--init", "initializations", multiple=True, default=("kaiming",), metavar="NAME",
    help="Initial weights: kaiming, xavier, normal, orthogonal, uniform01 or zero. Repeat "
    "the option to compare several.  [default: kaiming]",
)  # fmt: skip
@click.option(
    "--optimizer", "optimizers", multiple=True, default=("adam",), metavar="NAME",
    help="adam, adamw, gd, momentum or lbfgs. Repeat the option to compare several.  "
    "[default: adam]",
)  # fmt: skip
@click.option(
    "--learning-rate", "learning_rates", multiple=True, default=(0.01,),
    type=click.FloatRange(0, min_open=True),
    help="Repeat the option to compare several.  [default: 0.01]",
)  # fmt: skip
@click.option(
    "--epochs", type=click.IntRange(1), default=100, show_default=True,
    help="Number of passes over the training rows.",
)  # fmt: skip
@click.option(
    "--batch-size",
    type=_BatchSize(),
    default="auto",
    show_default=True,
    help="Rows per step: a number, all, or auto (a tenth of the rows, 16 to 128).",
)
@click.option(
    "--weight-decay", type=click.FloatRange(0), default=0.0,
    help="Weight decay.  [default: none]",
)  # fmt: skip
@click.option(
    "--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.0,
    help="Dropout probability of hidden units.  [default: none]",
)  # fmt: skip
@click.option(
    "--validation", default="0.33", show_default=True,
    help="Rows to hold out: a share (0.33), a share and a number of random splits "
    "(0.33x5), folds=5, or none.",
)  # fmt: skip
@click.option(
    "--early-stopping", type=click.IntRange(1), metavar="EPOCHS",
    help="Stop a start after this many epochs without a lower loss on the held-out rows, "
    "and keep its best epoch. The scores on these rows are then somewhat too good.",
)  # fmt: skip
@click.option(
    "--tol", type=click.FloatRange(0), metavar="LOSS",
    help="Stop a start if its training loss has not decreased by more than LOSS for more "
    "than --n-iter-no-change epochs in a row. In regression, the loss is that of the "
    "target scaled to standard deviation 1.  [default: train for all --epochs]",
)  # fmt: skip
@click.option(
    "--n-iter-no-change", type=click.IntRange(1), default=10, show_default=True,
    metavar="EPOCHS", help="Number of epochs for --tol.",
)  # fmt: skip
@click.option(
    "--class-weight", multiple=True, metavar="balanced|LEVEL=WEIGHT",
    help="Class weights in the loss: balanced gives every class the same total weight; "
    "LEVEL=WEIGHT sets the weight of one class (default 1), and may be repeated.",
)  # fmt: skip
@click.option(
    "--weights", metavar="COLUMN",
    help="The column with the weights of the rows, at least 0. A row of weight 2 counts as "
    "two rows in all losses and metrics. The column is not used as a feature.",
)  # fmt: skip
@click.option(
    "--diagnose", "diagnosed", type=click.IntRange(0), default=40, show_default=True,
    metavar="STARTS",
    help="Diagnose at most this many starts per setting that did not reach what the best "
    "reach; each is trained for another ten times the epochs. 0: no verdicts.",
)  # fmt: skip
@click.option(
    "--metric",
    help="Metric that compares starts and settings: a column of starts.parquet, such as "
    "validation_balanced_accuracy, _f1, _roc_auc or _log_loss. It chooses the best setting, "
    "but not its start that 'descents apply' uses: that is always the start with the least "
    "loss on the held-out rows (with --validation none, the least training loss).  "
    "[default: accuracy or R2 on the held-out rows]",
)
@column_options
@reading_options
@run_options(
    "train",
    resume="Continue the run in --out.",
    max_seconds="Stop after this time; finished parts are kept for --resume.",
)
@shard_option
@printing_options
def train(table: str, **arguments: Any) -> int:
    """Train a network on TABLE from many starts, and report how much they differ.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    """
    names = ("resume", "out", "max_seconds", "quiet", "as_json", "workers", "shard")
    resume, out, max_seconds, quiet, as_json, workers, shard = (
        arguments.pop(n) for n in names
    )
    announce_reading(table, quiet or as_json)
    complaints = Complaints()
    check_resume(complaints, resume, out)
    if shard is not None:
        check_shard(complaints, table, out)
    if out is None:
        out = default_folder("train")
    draw = click.get_current_context().with_resource(
        drawing("train", ahead=shard is None and to_draw(out, resume))
    )
    side_by_side = threads()
    load_torch()
    from descents.runs.identities import identity
    from descents.runs.train_result import NetworkResult
    from descents.storage.run_folders import RunFolder
    from descents.tables.sources import TableSource

    options, reading = _options_of(table, arguments, complaints)
    source = TableSource(table)
    run = identity(
        source, {"options": vars(options), "reading": vars(reading)}, command="train"
    )
    silent, count = quiet or as_json, side_by_side if workers == 1 else 1
    if shard is not None:
        return train_part(
            ShardOfRun(shard, out, run, table),
            lambda: _table_of(source, reading, options, silent),
            options,
            count,
            workers,
            max_seconds,
            (quiet, as_json),
        )
    folder = RunFolder(out, run, resume=resume)
    begun = time.monotonic()
    try:
        with folder:
            result = stored_result(folder, NetworkResult, draw) or _trained(
                folder,
                _table_of(source, reading, options, silent),
                options,
                run,
                silent=silent,
                threads=count,
                workers=workers,
                max_seconds=max_seconds,
                draw=draw,
            )
    except (InterruptedRunError, KeyboardInterrupt):
        return stopped(folder, begun, max_seconds, resumed(folder))
    if in_words(result, quiet, as_json):
        show(result, folder.path)
    return 0


def _options_of(
    table: str, arguments: dict[str, Any], complaints: Complaints
) -> tuple[NetworkOptions, Reading]:
    """Return the options of the network, and those for reading its table.

    If an option is invalid, the table is read too, so that one error reports all problems.
    """
    from descents.runs.network_options import NetworkOptions
    from descents.runs.network_rows import prepared

    reading = reading_of(arguments)
    for name in ("target", "weights"):
        if arguments[name] is not None:
            arguments[name] = reading.name_in(table, arguments[name])
    _check_options(arguments, reading, complaints)
    check_device(complaints, arguments["device"])
    if arguments["batch_size"] == "all":
        arguments["batch_size"] = None
    options = NetworkOptions(**arguments)
    complaints.attempt(options.settings)
    if complaints.messages:
        data = complaints.attempt(reading.read, table, named=options.columns)
        if data is not None:
            complaints.attempt(prepared, data, options)
        complaints.raise_any()
    return options, reading


def _table_of(
    table: TableSource, reading: Reading, options: NetworkOptions, silent: bool
) -> Data:
    """Read the table, and print how its columns were read."""
    data = reading.read(table, named=options.columns)
    if not silent:
        for note in data.notes:
            say(note)
    return data


def _trained(
    folder: RunFolder,
    data: Data,
    options: NetworkOptions,
    run: Mapping[str, object],
    *,
    silent: bool,
    threads: int,
    workers: int | str,
    max_seconds: float | None,
    draw: Callable[..., None],
) -> NetworkResult:
    """Train into a folder, draw the page, and return the result."""
    from descents.runs.train import train as train_network

    with connected_workers(workers, silent) as processes, bar(silent) as progress:
        trained = train_network(
            data,
            options,
            run,
            folder=folder,
            threads=threads,
            workers=processes,
            max_seconds=max_seconds,
            progress=progress,
        )
        trained.write(folder)
        progress("drawing", 0.97)
        draw_page(draw, folder.work, (trained.result, trained.rows, trained.tensors))
    folder.finish()
    return trained.result


def _check_options(
    arguments: dict[str, Any], reading: Reading, complaints: Complaints
) -> None:
    """Report a column that has two uses, and an option that has no effect."""
    source = click.get_current_context().get_parameter_source("n_iter_no_change")
    complaints.require(
        arguments["tol"] is not None
        or source is not click.core.ParameterSource.COMMANDLINE,
        "--n-iter-no-change has no effect without --tol; give --tol, such as 0.0001, or "
        "leave --n-iter-no-change out",
    )
    uses = {
        "--target": (arguments["target"],),
        "--weights": (arguments["weights"],),
        "--id": (reading.identifier,),
        "--ignore": reading.ignore,
    }
    for (option, first), (other, second) in itertools.combinations(uses.items(), 2):
        both = (set(first) & set(second)) - {None}
        if option in ("--target", "--weights"):
            for name in sorted(both):
                complaints.require(
                    False,
                    f"{name!r} is given to {option} and to {other}; give it to only one",
                )
