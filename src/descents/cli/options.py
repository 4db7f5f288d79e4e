"""What the commands share: options, checks of their texts, and exit codes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from descents.devices import processors
from descents.errors import InvalidValueError

if TYPE_CHECKING:
    from descents.optim.spans import Shard
    from descents.runs.request import Reading

NOT_MET, BAD_INPUT, OUT_OF_TIME, LOST_PROCESS, CTRL_C = 1, 2, 3, 4, 130
MOST_STARTS = 10**6
"""`descents.validation.MOST_STARTS`, without the libraries that it loads."""
OPTIONS = {
    "batch_size": "--batch-size",
    "class_weight": "--class-weight",
    "combine": "--combine",
    "cv": "--cv",
    "device": "--device",
    "dropout": "--dropout",
    "early_stopping": "--early-stopping",
    "held_out": "--held-out",
    "hidden_layer_sizes": "--hidden",
    "initialization": "--init",
    "learning_rate": "--learning-rate",
    "loss": "--loss",
    "max_epochs": "--epochs",
    "max_iter": "--max-iter",
    "memory": "--memory",
    "metric": "--metric",
    "n_components": "--rank",
    "n_iter_no_change": "--n-iter-no-change",
    "n_starts": "--starts",
    "offsets": "--offsets",
    "optimizer": "--optimizer",
    "random_state": "--seed",
    "scales": "--scales",
    "seed": "--seed",
    "solver": "--solver",
    "sparse": "--sparse",
    "starts": "--starts",
    "tol": "--tol",
    "unseen": "--unseen",
    "validation": "--validation",
    "weight_decay": "--weight-decay",
}
"""The options for parameters of Python, which messages of a command name."""
M_MMAP_THRESHOLD, LARGE = -3, 2**20
"""The glibc parameter for the smallest allocation that is returned to the system as soon
as it is freed, and the value that it gets, in bytes."""
CLOSED_OUTPUT = 141
"""The exit code of a process that SIGPIPE ended, as shells report it."""


class Seconds(click.ParamType[float]):
    """Option type: a number of seconds above zero."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or fail with a message."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = float("nan")
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a number of seconds above 0.", param, ctx)
        return seconds


class Workers(click.ParamType[int | str]):
    """Option type: a number of processes, or the address of workers."""

    name = "workers"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return the number or the address, or fail with a message."""
        text = str(value)
        if re.fullmatch(r"[0-9]{1,9}", text) and int(text) >= 1:
            return int(text)
        if not re.fullmatch(r"(dask|ray)://[^\s/]+:[0-9]{1,5}", text):
            self.fail(
                f"{text!r} is neither a number of processes nor the address of workers; "
                "give 1 or more, dask://HOST:PORT or ray://HOST:PORT.",
                param,
                ctx,
            )
        return text


class ShardOption(click.ParamType["Shard"]):
    """Option type: a shard K/N."""

    name = "shard"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Return the shard, or fail with a message."""
        from descents.optim.spans import Shard

        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(value))
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            self.fail(
                f"{value!r} is no shard; give K/N with K from 1 to N, such as 3/10.",
                param,
                ctx,
            )
        return Shard(int(found[1]), int(found[2]))


class Size(click.ParamType[int]):
    """Option type: a size of memory, converted to bytes."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number of bytes, or fail with a message."""
        from descents.tables.memory import size_in_bytes

        try:
            return size_in_bytes(value if isinstance(value, int) else str(value))
        except InvalidValueError as error:
            self.fail(f"{error}.", param, ctx)


class Command(click.Command):
    """A command that reports all options with invalid values together."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; one error reports all options that are invalid."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError:
            options, rest, _ = self.make_parser(ctx).parse_args(args=given)
            problems = []
            for option in self.get_params(ctx):
                try:
                    option.handle_parse_result(ctx, options, rest)
                except click.UsageError as error:
                    problems.append(error.format_message())
            if len(problems) < 2:
                raise
            raise click.UsageError(" ".join(problems), ctx) from None

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, unless too little memory is left for its libraries."""
        from descents.tables.memory import left_of_limit, said

        free = left_of_limit()
        if free < LEAST_MEMORY:
            raise InvalidValueError(
                f"the limit of memory leaves {said(free)}, which is too little for the "
                f"libraries; raise it (ulimit -v), so that {said(LEAST_MEMORY)} are left"
            )
        return super().invoke(ctx)


LEAST_MEMORY = 900 * 10**6
"""The addresses that the libraries of a command take. With less, some of them end the
process without a message."""
F = TypeVar("F", bound=Callable[..., object])


class Decorator(Protocol):
    """Adds options to the function of a command."""

    def __call__(self, function: F, /) -> F:
        """Return the function with the options."""


def options(*options: Decorator) -> Decorator:
    """Return one decorator that adds several options, in the order of the help text."""

    def decorated(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


printing_options = options(
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON only."
    ),
)

memory_option = click.option(
    "--memory",
    type=Size(),
    metavar="SIZE",
    help="Read a .npy or .parquet TABLE in row blocks, using at most SIZE of memory, "
    "such as 500MB. For tables that are larger than memory.",
)

column_options = options(
    click.option(
        "--ignore",
        multiple=True,
        metavar="COLUMN",
        help="Leave this column out. May be repeated.",
    ),
    click.option(
        "--id",
        "identifier",
        metavar="COLUMN",
        help="The column with the names of the rows.",
    ),
)


def run_options(
    name: str,
    *,
    resume: str,
    max_seconds: str,
    seed: str | None = None,
    device: str | None = None,
) -> Decorator:
    """Return the options that all commands that fit a model share.

    The arguments are help texts, except for `name`, the command in the default folder.
    """
    return options(
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help=seed,
        ),
        click.option("--device", default="cpu", show_default=True, help=device),
        click.option(
            "--workers",
            type=Workers(),
            default=1,
            show_default=True,
            metavar="N|ADDRESS",
            help="Number of parallel processes, or the address of workers: "
            "dask://HOST:PORT of a dask scheduler, ray://HOST:PORT of a Ray cluster. The "
            "result does not depend on it.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help=f"New folder for the results.  [default: runs/{name}-<time>]",
        ),
        click.option("--resume", is_flag=True, help=resume),
        click.option("--max-seconds", type=Seconds(), help=max_seconds),
    )


text_options = options(
    click.option(
        "--no-header", is_flag=True, help="The first line is data, not column names."
    ),
    click.option(
        "--missing",
        multiple=True,
        metavar="MARK",
        help="Another mark of missing cells, such as '?'. May be repeated.",
    ),
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="Decimal mark.  [default: detected, else .]",
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="Delimiter between cells.  [default: detected in the first lines]",
    ),
    click.option("--encoding", metavar="NAME", help="Text encoding.  [default: utf-8]"),
)

reading_options = options(
    click.option(
        "--triples",
        is_flag=True,
        help="The first three columns of TABLE are row, column and value.",
    ),
    text_options,
)

levels_option = click.option(
    "--levels",
    multiple=True,
    metavar="COLUMN=LOWEST,...,HIGHEST",
    help="Order of the levels of one or several columns: "
    "q1,q2=never,sometimes,always. Quote a level that has a comma. May be repeated.",
)

range_option = click.option(
    "--range",
    type=click.Choice(["observed", "free"]),
    help="Whether imputed numbers are limited to the observed range of their column.  "
    "[default: observed; free with --imputations]",
)


def threads() -> int:
    """Return how many chunks of starts run in parallel, and set torch to one thread each.

    Two torch threads that share a small matrix product busy-wait for each other, and are
    many times slower than one thread if another process uses the processor. This sets the
    environment of this process, and only before torch is loaded; an ``OMP_NUM_THREADS``
    that the user has set is respected.
    """
    if "OMP_NUM_THREADS" in os.environ or "torch" in sys.modules:
        return 1
    os.environ["OMP_NUM_THREADS"] = "1"
    return processors()


def load_torch() -> None:
    """Load torch, whose objects the garbage collector then leaves alone.

    They live until the process ends. Each full collection would look through all of them,
    and so would the one at exit: together that takes a quarter of the time to load torch.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def share_products(count: int) -> None:
    """Let torch use `count` threads for each matrix product, in this process."""
    import torch

    torch.set_num_threads(count)


def free_at_once() -> None:
    """Make glibc return large blocks of memory to the system as soon as they are freed.

    By default it keeps some of them, so that the process holds more memory than it uses.
    With another C library nothing is changed.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


shard_option = click.option(
    "--shard",
    type=ShardOption(),
    metavar="K/N",
    help="Compute only share K of N of the starts, and write one file for it into the "
    "folder --out, which all N commands share. A share that is there is not computed again. "
    "'descents merge' joins them.",
)
safe_csv_option = click.option(
    "--safe-csv",
    is_flag=True,
    help="In CSV text that is written, put a single quote before text that begins with "
    "= + - @, a tab or a carriage return, so that no spreadsheet takes it for a formula. "
    "Numbers are left alone.",
)


def reading_of(given: dict[str, Any]) -> Reading:
    """Remove the reading options from `given`, and return them as an `asked.Reading`."""
    from descents.runs import request as asked

    return asked.Reading(
        triples=given.pop("triples", False),
        header=not given.pop("no_header"),
        **{n: given.pop(n) for n in ("missing", "decimal", "delimiter", "encoding")},
        ignore=given.pop("ignore", ()),
        identifier=given.pop("identifier"),
        levels=given.pop("levels", ()),
    )


def in_words(result: object, quiet: bool, as_json: bool) -> bool:
    """Print a result as JSON if that is requested; return whether to say it in words."""
    from descents.storage.values import json_text

    if as_json:
        click.echo(json_text(result), nl=False)
    return not (quiet or as_json)


def default_folder(command: str) -> Path:
    """Return a new folder for the results of a command, named by the time."""
    name = f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return next(path for path in (Path("runs") / n for n in names) if not path.exists())
