"""descents train and descents compare."""

from __future__ import annotations

import itertools
import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descents.checks import MOST_STARTS, InterruptedRunError, counted, folder_path
from descents.commands.shared import (
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
from descents.report.drawing import drawing

if TYPE_CHECKING:
    from rich.console import Console


class _Widths(click.ParamType[tuple[int, ...]]):
    """Widths of hidden layers, such as 64,64."""

    name = "widths"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the widths, or end the command with a sentence."""
        if isinstance(value, tuple):
            return value
        try:
            widths = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            widths = (0,)
        if min(widths) < 1:
            self.fail(
                f"{value!r} is not a list of widths; give whole numbers of at least 1, "
                "such as 64 or 64,64.",
                param,
                ctx,
            )
        return widths


class _BatchSize(click.ParamType[Any]):
    """A number of rows, all, or auto."""

    name = "rows"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return it, None for all, or end the command with a sentence."""
        if value in ("auto", "all"):
            return value
        try:
            rows = int(value)
        except ValueError:
            rows = 0
        if rows < 1:
            self.fail(
                f"{value!r} is not a number of rows; give one of at least 1, all, or "
                "auto.",
                param,
                ctx,
            )
        return rows


@click.command()
@click.argument("table")
@click.option("--target", required=True, metavar="COLUMN", help="What to foretell.")
@click.option(
    "--task",
    type=click.Choice(["auto", "classification", "regression"]),
    default="auto",
    show_default=True,
    help="auto: levels and few whole numbers are classes.",
)
@click.option(
    "--starts", type=click.IntRange(1, MOST_STARTS), default=1000, show_default=True,
    help="Initial points of each setting.",
)  # fmt: skip
@click.option(
    "--hidden", type=_Widths(), default="64", show_default=True,
    help="Widths of the hidden layers, such as 64,64.",
)  # fmt: skip
@click.option(
    "--activation",
    type=click.Choice(["relu", "tanh", "logistic", "gelu"]),
    default="relu",
    show_default=True,
)
@click.option(
    "--init", "initializations", multiple=True, default=("kaiming",), metavar="NAME",
    help="kaiming, xavier, normal, orthogonal, uniform01 or zero; repeat to compare.  "
    "[default: kaiming]",
)  # fmt: skip
@click.option(
    "--optimizer", "optimizers", multiple=True, default=("adam",), metavar="NAME",
    help="adam, adamw, gd, momentum or lbfgs; repeat to compare.  [default: adam]",
)  # fmt: skip
@click.option(
    "--learning-rate", "learning_rates", multiple=True, default=(0.01,),
    type=click.FloatRange(0, min_open=True),
    help="Repeat to compare.  [default: 0.01]",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=100, show_default=True)
@click.option(
    "--batch-size",
    type=_BatchSize(),
    default="auto",
    show_default=True,
    help="Rows of a step: a number, all, or auto (a tenth of the rows, 16 to 128).",
)
@click.option("--weight-decay", type=click.FloatRange(0), default=0.0)
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.0)
@click.option(
    "--validation", default="0.33", show_default=True,
    help="Rows held out: a share, a share and how often (0.33x5), folds=5, or none.",
)  # fmt: skip
@click.option(
    "--early-stopping", type=click.IntRange(1), metavar="EPOCHS",
    help="End a start after this many epochs without a lower loss on the held-out rows, "
    "and keep its best epoch. The scores on these rows are then somewhat too good.",
)  # fmt: skip
@click.option(
    "--tol", type=click.FloatRange(0), metavar="LOSS",
    help="End a start once its training loss has not fallen by more than this for more "
    "than --n-iter-no-change epochs in a row. Losses of numbers are those of the target "
    "scaled to standard deviation 1.  [default: train for all --epochs]",
)  # fmt: skip
@click.option(
    "--n-iter-no-change", type=click.IntRange(1), default=10, show_default=True,
    metavar="EPOCHS", help="Needs --tol.",
)  # fmt: skip
@click.option(
    "--class-weight", multiple=True, metavar="balanced|LEVEL=WEIGHT",
    help="Weight the rows of rare classes in the loss: balanced gives every class the "
    "same total weight; or repeat LEVEL=WEIGHT (1 where a level is not given).",
)  # fmt: skip
@click.option(
    "--weights", metavar="COLUMN",
    help="The column with the weight of each row, at least 0: the row counts as if it were "
    "repeated so often, in all losses and metrics. It is not used as a feature.",
)  # fmt: skip
@click.option(
    "--diagnose", "diagnosed", type=click.IntRange(0), default=40, show_default=True,
    metavar="STARTS",
    help="Of how many starts that fall short, in each setting, it is told why; each is "
    "trained on for ten times the epochs. 0: no verdicts.",
)  # fmt: skip
@click.option(
    "--metric",
    help="What starts and settings are compared by, a column of starts.parquet, such as "
    "validation_balanced_accuracy, _f1, _roc_auc or _log_loss. It chooses the best setting, "
    "but not the start of it that 'descents apply' uses: that is always the start of least "
    "loss on the held-out rows (of least training loss with --validation none).  "
    "[default: accuracy or R2 on the held-out rows]",
)
@column_options
@reading_options
@run_options(
    "train",
    resume="Go on with what is in --out.",
    max_seconds="Stop after so long; what is finished is kept for --resume.",
)
@printing_options
def train(table: str, **given: Any) -> int:
    """Train one network on TABLE from many starts, and say how far they differ.

    TABLE is a CSV or TSV file (.gz too), Parquet, .npy, .npz, or - for standard input.
    """
    from descents.data.storage import RESULT, RunFolder, read_json

    names = ("resume", "out", "max_seconds", "quiet", "as_json", "workers")
    resume, out, max_seconds, quiet, as_json, workers = (given.pop(n) for n in names)
    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder to go on with.")
    if out is None:
        out = Path("runs") / f"train-{time.strftime('%Y%m%d-%H%M%S')}"
    again = resume and (out / RESULT).exists()  # and nothing to be drawn
    draw = click.get_current_context().with_resource(drawing(ahead=not again))
    side_by_side = threads()
    from descents.studies import asked
    from descents.studies import train as study

    reading = reading_of(given)
    for name in ("target", "weights"):
        if given[name] is not None:
            given[name] = reading.name_in(table, given[name])
    _check_options(given, reading)
    if given["batch_size"] == "all":
        given["batch_size"] = None
    options = study.Options(**given)
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
                    found = study.train(
                        data,
                        options,
                        run,
                        folder=folder,
                        threads=side_by_side if workers == 1 else 1,
                        workers=workers,
                        max_seconds=max_seconds,
                        progress=progress,
                    )
                    found.write(folder)
                    progress("drawing", 0.97)
                    draw(folder.work)
                folder.finish()
    except (InterruptedRunError, KeyboardInterrupt):
        late = max_seconds is not None and time.monotonic() - begun >= max_seconds
        why = f"Stopped after {max_seconds:g} s" if late else "Interrupted"
        say_error(
            f"{why}; {folder.stages} finished parts are kept: go on with "
            f"--resume --out {shlex.quote(str(folder.path))} and the same options."
        )
        return OUT_OF_TIME if late else CTRL_C
    result = read_json(folder.path / RESULT)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif not quiet:
        _show(terminal(soft_wrap=True), result, folder.path)
    return 0


def _check_options(given: dict[str, Any], reading: Any) -> None:
    """End the command where a column has two uses, or an option has no effect."""
    waits = click.get_current_context().get_parameter_source("n_iter_no_change")
    if given["tol"] is None and waits is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(
            "--n-iter-no-change says how long --tol waits, but --tol is not given; give "
            "--tol, such as 0.0001, or leave --n-iter-no-change out."
        )
    uses = {
        "--target": (given["target"],),
        "--weights": (given["weights"],),
        "--id": (reading.identifier,),
        "--ignore": reading.ignore,
    }
    for (one, first), (other, second) in itertools.combinations(uses.items(), 2):
        both = (set(first) & set(second)) - {None}
        if both and one in ("--target", "--weights"):
            raise click.UsageError(
                f"{both.pop()!r} is given to {one} and to {other}; give it to one."
            )


def _show(console: Console, result: dict[str, Any], out: Path) -> None:
    """Print what was trained, and how far it depends on the start."""
    from rich.table import Table

    what = (
        f"{counted(len(result['classes']), 'class', 'classes')}"
        if result["classes"]
        else "numbers"
    )
    weights = result["run"]["options"].get("weights")
    console.print(
        f"{result['target']['name']}: {what} ({result['why']}), "
        f"{counted(result['rows'], 'row')}"
        f"{f' weighted by {weights}' if weights else ''}, "
        f"{len(result['features'])} features.",
        markup=False,
    )
    for line in [*result["warnings"]]:
        console.print(f"Warning: {line}.", style="yellow", markup=False)
    metric = result["metric"].replace("_", " ")
    starts = counted(result["starts"], "start")
    shown = Table(title=f"{metric}, {starts}", title_justify="left")
    longest = max(len(setting["name"]) for setting in result["settings"])
    shown.add_column("setting", overflow="fold", min_width=min(longest, 30))
    for name in ("mean", "95% interval", "deviation", "median", "failed"):
        shown.add_column(name, justify="right", no_wrap=True)
    for setting in result["settings"]:
        m = setting["metric"]
        shown.add_row(
            setting["name"],
            _form(m["mean"]),
            _between(m["interval"]),
            _form(m["standard_deviation"]),
            _form(m["quartiles"] and m["quartiles"][1]),
            f"{m['failed']} of {result['starts']}",
        )
    console.print(shown)
    for line in _caveats(result):
        console.print(line)
    for setting in result["settings"]:
        counts = ", ".join(f"{n} {word}" for word, n in setting["verdicts"].items())
        rest = setting["short"] - setting["diagnosed"]
        more = f"{', ' if counts else ''}{rest} {'more ' if counts else ''}below what "
        more = f"{more}the best reach, not diagnosed" if rest else ""
        if counts or more:
            each = " (each on each division)" if result["splits"] > 1 else ""
            console.print(f"{setting['name']}{each}: {counts}{more}.", markup=False)
    if result["effects"]:
        console.print(_effects(result["effects"]))
    if result["compared"]:
        console.print(
            "The best setting against each other (95% simultaneous intervals):"
        )
    for each in result["compared"]:
        console.print(
            f"{each['setting']} against {each['against']}: "
            f"{_form(each['difference'], '+.4f')} ({_between(each['interval'])}), adjusted "
            f"p {_form(each['p_adjusted'], '.2g')}"
            f"{_of_how_many(each['counts'][0], result['starts'])}.",
            markup=False,
        )
    variance = result["variance"]
    if variance["splits"] is not None and variance["starts"] is not None:
        console.print(
            f"The interval is over starts, on these {result['splits']} divisions of the "
            f"rows: the deviation between starts is {variance['starts'] ** 0.5:.4f}, "
            f"between divisions {variance['splits'] ** 0.5:.4f}."
        )
    best = result["best"]
    # Without held-out rows there is no score of them; one that is there may be undefined.
    splits = result["run"]["options"]["validation"] != "none"
    score = "accuracy" if result["classes"] else "R2"
    held = f", {_form(best['validation'])} on the held-out rows" if splits else ""
    if result["starts"] > 1 and splits:
        held += " (somewhat too good, as these rows chose the start)"
    which = "held-out" if splits else "training"
    where = f" on division {best['split']}" if result["splits"] > 1 else ""
    console.print(
        f"'descents apply' uses the start of least {which} loss, {best['start']} of "
        f"{best['setting']}{where}: {score} {_form(best['training'])} in training{held}. "
        f"{result['seconds']:.1f} s.",
        markup=False,
    )
    console.print(f"The page: {out / 'report.html'}")


def _caveats(result: dict[str, Any]) -> list[str]:
    """Return why the scores in the table may be better than those on new rows."""
    options = result["run"]["options"]
    if options["validation"] == "none":
        return ["No rows were held out: these values are of the rows trained on."]
    if options["early_stopping"] is not None:
        return [
            "--early-stopping chose the epoch of each start by the held-out rows, so the "
            "values on these rows are somewhat too good."
        ]
    return []


def _effects(effects: list[dict[str, Any]]) -> Any:
    """Return a table of what each option does."""
    from rich.table import Table

    count = effects[0]["count"]
    title = f"which option matters, from {counted(count, 'start')} of each setting"
    shown = Table(title=title, title_justify="left")
    for name in ("option", "value"):
        shown.add_column(name, overflow="fold")
    for name in ("share", "p", "mean", "less the mean of all"):
        shown.add_column(name, justify="right", no_wrap=True)
    for each in effects:
        for place, level in enumerate(each["levels"]):
            first = place == 0
            shown.add_row(
                each["parameter"].replace("_", " ") if first else "",
                str(level["value"]),
                f"{each['share']:.1%}" if first else "",
                f"{each['p_adjusted']:.2g}" if first else "",
                f"{level['mean']:.4f}",
                _between(level["interval"], "+"),
            )
    return shown


def _between(ends: list[float | None] | None, sign: str = "") -> str:
    if ends is None or None in ends:
        return "-"
    return f"{ends[0]:{sign}.4f} to {ends[1]:{sign}.4f}"


def _form(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _of_how_many(count: int, total: int) -> str:
    """Return from how many starts a number is, where those are not all."""
    return "" if count == total else f", from {count} of {total} starts"


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    help="A column of both starts.parquet, by which the best settings of the two runs are "
    "compared.  [default: that of the runs]",
)
@printing_options
def compare(
    first: Path, second: Path, metric: str | None, quiet: bool, as_json: bool
) -> int:
    """Say whether the starts of one train RUN are better than those of another.

    The difference is the mean of FIRST minus that of SECOND. It is positive where FIRST
    has the larger values: better for accuracy or R2, worse for a loss.
    """
    from descents.data.storage import RESULT, read_json

    for run in (first, second):
        read_json(folder_path(run) / RESULT)  # before anything heavy is loaded
    threads()
    from descents.studies import trained as study

    found = study.compare_runs(first, second, metric)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not quiet:
        for line in found["warnings"]:
            click.echo(f"Warning: {line}.")
        _show_comparison(found)
        for line in found["notes"]:
            click.echo(f"Note: {line}.")
    return 0


def _show_comparison(found: dict[str, Any]) -> None:
    """Print what two runs say about each other."""
    sides = [
        f"{_form(mean)} of {total - failed} of {counted(total, 'start')} of {run} "
        f"({setting})"
        if failed
        else f"{_form(mean)} of {counted(total, 'start')} of {run} ({setting})"
        for mean, total, failed, run, setting in zip(
            found["means"],
            found["starts"],
            found["failed"],
            found["runs"],
            found["settings"],
            strict=True,
        )
    ]
    click.echo(f"Mean {found['metric'].replace('_', ' ')}: {', '.join(sides)}.")
    how = "start by start" if found["paired"] else "as two samples"
    one, two = found["counts"]
    each = counted(one, "start") if one == two else f"{one} and {two} starts"
    click.echo(
        f"Difference, first minus second: {_form(found['difference'], '+.4f')} (95% "
        f"interval {_between(found['interval'], '+')}; "
        f"{'higher' if found['higher_is_better'] else 'lower'} is better), "
        f"compared {how} over {each} that did not fail; "
        f"permutation p {_form(found['p_value'])}."
    )
    low, high = found["improvement_interval"]
    counted_too = ", where a failed start is the worse" if any(found["failed"]) else ""
    click.echo(
        "A start of the first is better than one of the second with probability "
        f"{_form(found['probability_of_improvement'])} ({_form(low)} to {_form(high)})"
        f"{counted_too}."
    )
