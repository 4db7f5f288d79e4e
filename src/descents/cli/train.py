"""The commands ``descents train`` and ``descents compare``."""

from __future__ import annotations

import itertools
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.cli.options import (
    CTRL_C,
    OUT_OF_TIME,
    bar,
    column_options,
    printing_options,
    reading_of,
    reading_options,
    run_options,
    say,
    say_error,
    terminal,
    threads,
)
from descents.errors import InterruptedRunError
from descents.pages.drawing import drawing
from descents.text import counted
from descents.validation import MOST_STARTS, folder_path

if TYPE_CHECKING:
    from rich.console import Console

    from descents.runs.network_result import (
        ComparisonResult,
        NetworkResult,
        OptionEffect,
    )


class _Widths(click.ParamType[tuple[int, ...]]):
    """Option type: widths of hidden layers, such as 64,64."""

    name = "widths"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
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


class _BatchSize(click.ParamType[Any]):
    """Option type: a number of rows, all, or auto."""

    name = "rows"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
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


@click.command()
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
@printing_options
def train(table: str, **arguments: Any) -> int:
    """Train a network on TABLE from many starts, and report how much they differ.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    """
    from descents.runs.network_result import NetworkResult
    from descents.storage.folders import RESULT, RunFolder, json_text
    from descents.storage.results import read_result

    names = ("resume", "out", "max_seconds", "quiet", "as_json", "workers")
    resume, out, max_seconds, quiet, as_json, workers = (
        arguments.pop(n) for n in names
    )
    if resume and out is None:
        raise click.UsageError(
            "--resume needs --out, the folder of the run to continue."
        )
    if out is None:
        out = Path("runs") / f"train-{time.strftime('%Y%m%d-%H%M%S')}"
    finished = resume and (out / RESULT).exists()  # then nothing is drawn
    draw = click.get_current_context().with_resource(drawing(ahead=not finished))
    side_by_side = threads()
    from descents.runs import request as asked
    from descents.runs import train as study

    reading = reading_of(arguments)
    for name in ("target", "weights"):
        if arguments[name] is not None:
            arguments[name] = reading.name_in(table, arguments[name])
    _check_options(arguments, reading)
    if arguments["batch_size"] == "all":
        arguments["batch_size"] = None
    options = study.Options(**arguments)
    options.settings()
    options.held_out()
    run = asked.identity(
        table, {"options": vars(options), "reading": vars(reading)}, command="train"
    )
    folder = RunFolder(out, run, resume=resume)
    begun = time.monotonic()
    try:
        with folder:
            if not folder.complete:
                data = reading.read(table)
                if not (quiet or as_json):
                    for note in data.notes:
                        say(note)
                with bar(quiet or as_json) as progress:
                    trained = study.train(
                        data,
                        options,
                        run,
                        folder=folder,
                        threads=side_by_side if workers == 1 else 1,
                        workers=workers,
                        max_seconds=max_seconds,
                        progress=progress,
                    )
                    trained.write(folder)
                    progress("drawing", 0.97)
                    draw(folder.work, (trained.result, trained.rows, trained.tensors))
                folder.finish()
                result = trained.result
            else:
                result = read_result(NetworkResult, folder.path / RESULT)
    except (InterruptedRunError, KeyboardInterrupt):
        late = max_seconds is not None and time.monotonic() - begun >= max_seconds
        why = f"Stopped after {max_seconds:g} s" if late else "Interrupted"
        say_error(
            f"{why}; {folder.stages} finished parts are kept: continue with "
            f"--resume --out {shlex.quote(str(folder.path))} and the same options."
        )
        return OUT_OF_TIME if late else CTRL_C
    if as_json:
        click.echo(json_text(result), nl=False)
    elif not quiet:
        _show(terminal(soft_wrap=True), result, folder.path)
    return 0


def _check_options(arguments: dict[str, Any], reading: Any) -> None:
    """Fail if one column has two uses, or if an option has no effect."""
    source = click.get_current_context().get_parameter_source("n_iter_no_change")
    if arguments["tol"] is None and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(
            "--n-iter-no-change has no effect without --tol; give --tol, such as 0.0001, "
            "or leave --n-iter-no-change out."
        )
    uses = {
        "--target": (arguments["target"],),
        "--weights": (arguments["weights"],),
        "--id": (reading.identifier,),
        "--ignore": reading.ignore,
    }
    for (option, first), (other, second) in itertools.combinations(uses.items(), 2):
        both = (set(first) & set(second)) - {None}
        if both and option in ("--target", "--weights"):
            raise click.UsageError(
                f"{both.pop()!r} is given to {option} and to {other}; give it to only one."
            )


def _show(console: Console, result: NetworkResult, out: Path) -> None:
    """Print what was trained, and how much the result depends on the start."""
    what = (
        f"{counted(len(result.classes), 'class', 'classes')}"
        if result.classes
        else "numbers"
    )
    weights = result.run.options.get("weights")
    console.print(
        f"{result.target.name}: {what} ({result.why}), "
        f"{counted(result.rows, 'row')}"
        f"{f' weighted by {weights}' if weights else ''}, "
        f"{len(result.features)} features.",
        markup=False,
    )
    for line in result.warnings:
        console.print(f"Warning: {line}.", style="yellow", markup=False)
    console.print(_settings(result))
    for line in _caveats(result):
        console.print(line)
    for line in _verdicts(result):
        console.print(line, markup=False)
    if result.effects:
        console.print(_effects(result.effects))
    if result.compared:
        console.print(
            "The best setting compared with each other one (95% simultaneous intervals):"
        )
    for pair in result.compared:
        console.print(
            f"{pair.setting} against {pair.against}: "
            f"{_form(pair.difference, '+.4f')} ({_between(pair.interval)}), adjusted "
            f"p {_form(pair.p_adjusted, '.2g')}"
            f"{_of_how_many(pair.counts[0], result.starts)}.",
            markup=False,
        )
    variance = result.variance
    if variance.splits is not None and variance.starts is not None:
        console.print(
            f"The interval is over starts, on these {result.splits} splits of the "
            "rows: the standard deviation is "
            f"{variance.starts**0.5:.4f} between starts and "
            f"{variance.splits**0.5:.4f} between splits."
        )
    console.print(_best_start(result), markup=False)
    console.print(f"The page: {out / 'report.html'}")


def _settings(result: NetworkResult) -> Any:
    """Return the table of the metric in each setting."""
    from rich.table import Table

    metric = result.metric.replace("_", " ")
    starts = counted(result.starts, "start")
    shown = Table(title=f"{metric}, {starts}", title_justify="left")
    longest = max(len(setting.name) for setting in result.settings)
    shown.add_column("setting", overflow="fold", min_width=min(longest, 30))
    for name in ("mean", "95% interval", "std. dev.", "median", "failed"):
        shown.add_column(name, justify="right", no_wrap=True)
    for setting in result.settings:
        m = setting.metric
        shown.add_row(
            setting.name,
            _form(m.mean),
            _between(m.interval),
            _form(m.standard_deviation),
            _form(m.quartiles[1] if m.quartiles else None),
            f"{m.failed} of {result.starts}",
        )
    return shown


def _verdicts(result: NetworkResult) -> list[str]:
    """Return how the starts of each setting ended."""
    lines = []
    for setting in result.settings:
        counts = ", ".join(f"{n} {word}" for word, n in setting.verdicts.items())
        rest = setting.short - setting.diagnosed
        more = f"{', ' if counts else ''}{rest} {'more ' if counts else ''}below what "
        more = f"{more}the best reach, not diagnosed" if rest else ""
        if counts or more:
            each = " (each start on each split)" if result.splits > 1 else ""
            lines.append(f"{setting.name}{each}: {counts}{more}.")
    return lines


def _best_start(result: NetworkResult) -> str:
    """Return which start `descents apply` uses, and its scores."""
    best = result.best
    # A score on held-out rows may be undefined, which is not the same as no such rows.
    validated = result.run.options["validation"] != "none"
    score = "accuracy" if result.classes else "R2"
    held_out = f", {_form(best.validation)} on the held-out rows" if validated else ""
    if result.starts > 1 and validated:
        held_out += " (somewhat too good, because these rows chose the start)"
    which = "held-out" if validated else "training"
    where = f" on split {best.split}" if result.splits > 1 else ""
    return (
        f"'descents apply' uses the start with the least {which} loss, start "
        f"{best.start} of {best.setting}{where}: {score} {_form(best.training)} "
        f"in training{held_out}. {result.seconds:.1f} s."
    )


def _caveats(result: NetworkResult) -> list[str]:
    """Return the reasons why the scores may be better than those on new rows."""
    options = result.run.options
    if options["validation"] == "none":
        return ["No rows were held out: these values are of the training rows."]
    if options["early_stopping"] is not None:
        return [
            "--early-stopping used the held-out rows to choose the epoch of each start, so "
            "the values on these rows are somewhat too good."
        ]
    return []


def _effects(effects: list[OptionEffect]) -> Any:
    """Return a table of the main effect of each option."""
    from rich.table import Table

    count = effects[0].count
    title = f"which option matters, from {counted(count, 'start')} per setting"
    shown = Table(title=title, title_justify="left")
    for name in ("option", "value"):
        shown.add_column(name, overflow="fold")
    for name in ("share", "p", "mean", "minus overall mean"):
        shown.add_column(name, justify="right", no_wrap=True)
    for effect in effects:
        for position, level in enumerate(effect.levels):
            first = position == 0
            shown.add_row(
                effect.parameter.replace("_", " ") if first else "",
                str(level.value),
                f"{effect.share:.1%}" if first else "",
                f"{effect.p_adjusted:.2g}" if first else "",
                f"{level.mean:.4f}",
                _between(level.interval, "+"),
            )
    return shown


def _between(ends: list[float | None] | None, sign: str = "") -> str:
    if ends is None or None in ends:
        return "-"
    return f"{ends[0]:{sign}.4f} to {ends[1]:{sign}.4f}"


def _form(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _of_how_many(count: int, total: int) -> str:
    """Return the number of starts that a figure is based on, unless it is all starts."""
    return "" if count == total else f", from {count} of {total} starts"


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    help="Metric that compares the best settings of the two runs: a column of both "
    "starts.parquet.  [default: the metric of the runs]",
)
@printing_options
def compare(
    first: Path, second: Path, metric: str | None, quiet: bool, as_json: bool
) -> int:
    """Compare the starts of two runs of 'descents train', and report which is better.

    The difference is the mean of FIRST minus that of SECOND. It is positive where FIRST
    has the larger values: better for accuracy or R2, worse for a loss.
    """
    from descents.storage.folders import RESULT, json_text, read_json

    for run in (first, second):
        read_json(folder_path(run) / RESULT)  # report errors before torch is loaded
    threads()
    from descents.runs import apply_network as study

    comparison = study.compare_runs(first, second, metric)
    if as_json:
        click.echo(json_text(comparison), nl=False)
    elif not quiet:
        for line in comparison.warnings:
            click.echo(f"Warning: {line}.")
        _show_comparison(comparison)
        for line in comparison.notes:
            click.echo(f"Note: {line}.")
    return 0


def _show_comparison(comparison: ComparisonResult) -> None:
    """Print the comparison of two runs."""
    sides = [
        f"{_form(mean)} of {total - failed} of {counted(total, 'start')} of {run} "
        f"({setting})"
        if failed
        else f"{_form(mean)} of {counted(total, 'start')} of {run} ({setting})"
        for mean, total, failed, run, setting in zip(
            comparison.means,
            comparison.starts,
            comparison.failed,
            comparison.runs,
            comparison.settings,
            strict=True,
        )
    ]
    click.echo(f"Mean {comparison.metric.replace('_', ' ')}: {', '.join(sides)}.")
    how = "start by start" if comparison.paired else "as two samples"
    first, second = comparison.counts
    starts = (
        counted(first, "start") if first == second else f"{first} and {second} starts"
    )
    click.echo(
        f"Difference, first minus second: {_form(comparison.difference, '+.4f')} (95% "
        f"interval {_between(comparison.interval, '+')}; "
        f"{'higher' if comparison.higher_is_better else 'lower'} is better), "
        f"compared {how} over {starts} that did not fail; "
        f"permutation p {_form(comparison.p_value)}."
    )
    low, high = comparison.improvement_interval
    note = (
        ", where a failed start counts as the worse" if any(comparison.failed) else ""
    )
    click.echo(
        "A start of the first is better than one of the second with probability "
        f"{_form(comparison.probability_of_improvement)} ({_form(low)} to {_form(high)})"
        f"{note}."
    )
