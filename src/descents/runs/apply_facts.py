"""What `descents apply` finds out about new rows: their columns, and the model's quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from descents.cells.columns import ColumnModel
from descents.runs.apply_result import AppliedRun, NewColumn
from descents.runs.command_line import command_line, defaults
from descents.runs.distributions import MOST_COLUMNS, distribution
from descents.runs.request import Reading
from descents.storage.files import read_json
from descents.storage.run_folders import RESULT
from descents.tables.sources import TableSource

OPTIONS = ("intervals", "imputations", "range", "seed", "unseen")
"""The fields of a run that are options of the command."""


class Arguments(TypedDict):
    """What a result says of the run of its model, and how it is repeated."""

    model_quote: str
    fitted_rows: bool
    command: str


NOT_SAID: Arguments = {"model_quote": "", "fitted_rows": False, "command": ""}


def run_of_table(
    model: Path, source: TableSource, options: Mapping[str, Any]
) -> AppliedRun:
    """Return the identity of a run: the model, the table with its hash, the options."""
    return AppliedRun(
        command="apply",
        model=str(model),
        table=source.given,
        sha256=source.sha256,
        **options,
    )


def arguments(
    run: AppliedRun, reading: Reading, written: Mapping[str, Path | None]
) -> Arguments:
    """Return the sentence of the model's run on its quality, and the command.

    Parameters
    ----------
    run : AppliedRun
        What `run_of_table` returned.
    reading : Reading
        The options for reading the table that the command was given.
    written : mapping from option to path
        The files that the command writes beside its folder; "" is its argument FILLED.
    """
    filled = written.get("")
    words = ["descents", "apply", run.model, run.table]
    words += [] if filled is None else [str(filled)]
    options = {name: getattr(run, name) for name in OPTIONS} | {
        name: None if path is None else str(path)
        for name, path in written.items()
        if name
    }
    usual = {"unseen": "error" if filled is None else "missing"}
    model = read_json(Path(run.model) / RESULT)
    quote, fitted = model.get("quote", ""), model.get("run", {})
    return {
        "model_quote": quote if isinstance(quote, str) else "",
        "fitted_rows": bool(run.sha256) and run.sha256 == fitted.get("sha256"),
        "command": command_line(
            words, {**asdict(reading), **options}, {**defaults(Reading), **usual}
        ),
    }


def new_columns(
    models: Sequence[ColumnModel],
    codes: Sequence[np.ndarray],
    ranges: np.ndarray | None = None,
    filled: Sequence[np.ndarray] | None = None,
) -> list[NewColumn]:
    """Return what the columns of the model have in new rows.

    Parameters
    ----------
    models : sequence of ColumnModel
    codes : sequence of ndarray
        The numbers of each column, or codes of its levels; NaN for missing cells.
    ranges : ndarray of shape (2, columns), optional
        The least and the largest number of each column in the rows of the fit; NaN for
        levels.
    filled : sequence of ndarray, optional
        What the missing cells of each column are filled with.
    """
    found = []
    for place, (model, values) in enumerate(zip(models, codes, strict=True)):
        lacking = np.isnan(values)
        observed = values[~lacking]
        outside = None
        if ranges is not None and np.isfinite(ranges[:, place]).all():
            low, high = ranges[:, place]
            outside = int(((observed < low) | (observed > high)).sum())
        shown = len(models) <= MOST_COLUMNS
        fills = np.zeros(0) if filled is None else filled[place]
        found.append(
            NewColumn(
                name=model.name,
                missing=int(lacking.sum()),
                outside=outside,
                distribution=distribution(model, observed, fills) if shown else None,
            )
        )
    return found
