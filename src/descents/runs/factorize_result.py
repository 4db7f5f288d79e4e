"""The result of `descents factorize`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from descents.runs.results import Calibration, Distribution, Environment, Formats, Run
from descents.storage.results import (
    OMITTED,
    SCHEMA_VERSION,
    Count,
    Number,
    Result,
    SchemaVersion,
)

SAME = 0.95
"""Components whose absolute cosine is at least this are called the same."""
CLOSED = 1e-9
"""A gap that is nothing but rounding."""
Value = str | float | bool | None
"""A cell of a table."""


@dataclass(frozen=True, kw_only=True)
class ColumnOfFit(Result):
    """A column of the table and how well it is fitted."""

    name: str
    loss: Annotated[str, "The name of its loss."]
    why: Annotated[str, "Why it has this loss."]
    observed: Annotated[Count, "The number of its observed cells."]
    explained: Annotated[
        Number, "The share of the loss of its best constant that the model explains."
    ]
    unseen: Annotated[
        Number,
        "The share of the loss of its best constant that is predicted, on held-out "
        "cells; for levels the share of the wrong levels.",
    ] = None
    seen: Annotated[
        Number, "The same as `unseen`, on the cells of the fit; null if not known."
    ] = None
    held_out: Annotated[Count | None, "The number of its held-out cells."] = None
    kind: Annotated[
        str | None, "What it holds.", ("enum", ("numbers", "levels", "dates", None))
    ] = None
    spread: Annotated[
        Number,
        "The standard deviation of its numbers, in days for dates; null for sparse "
        "tables and for those in blocks.",
    ] = None
    distribution: Annotated[
        Distribution | None,
        "How often its values occur; null for tables of more than 200 columns, for sparse "
        "tables and for those in blocks.",
    ] = None
    calibration: Annotated[
        Calibration | None,
        "How often probable levels are right, on held-out cells; null for numbers and for "
        "losses that are no likelihood.",
    ] = None
    filled_by: Annotated[
        str, "What fills its missing cells.", ("enum", ("model", "constant"))
    ] = "model"


@dataclass(frozen=True, kw_only=True)
class SharesOfFit(Result):
    """How much of the table the model explains: of seen cells, and of hidden ones."""

    measure: Annotated[
        str,
        "Shares of the variance around the best constants, if all columns have squared "
        "loss, or of the mean error of the columns relative to constants.",
        ("enum", ("variance", "error")),
    ]
    seen: Annotated[Number, "On the cells of the fit."]
    hidden: Annotated[
        Number,
        "On held-out cells, by the model in all columns; null if no cell was held out.",
    ]
    standard_error: Annotated[Number, "Of `hidden`, by the jackknife."]
    cells: Annotated[Count, "The number of held-out cells."]


@dataclass(frozen=True, kw_only=True)
class HeldOutCells(Result):
    """How well held-out cells are predicted by fits without them."""

    cells: Annotated[Count, "The number of held-out cells."]
    relative_error: Annotated[
        Number,
        "The mean error of the columns as filled, divided by that of the best constants. "
        "The error of numbers is the root mean squared error over that of the constant, "
        "the error of levels the share of wrong ones.",
    ]
    standard_error: Annotated[Number, "The standard error of `relative_error`."]
    says: Annotated[str, "The error in a sentence."]
    rounds: Annotated[
        Count,
        "The number of fits, each without other cells; 0 in runs of earlier versions.",
    ] = 0


@dataclass(frozen=True, kw_only=True)
class ColumnOfIntervals(Result):
    """The calibration of the prediction intervals of a column."""

    name: str
    kind: Annotated[
        str,
        "How its cells are scored.",
        ("enum", ("number", "period", "count", "labels")),
    ]
    held: Annotated[Count, "The number of its held-out cells."]
    quantile: Annotated[Number, "The quantile of the scores."]
    width: Annotated[Number, "The width of intervals over the spread of the column."]


@dataclass(frozen=True, kw_only=True)
class IntervalsOfFit(Result):
    """The calibration of the prediction intervals for imputed cells."""

    coverage: Annotated[float, "The probability of an interval to contain its cell."]
    held: Annotated[Count, "The number of held-out cells, which a second fit predicts."]
    columns: list[ColumnOfIntervals]


@dataclass(frozen=True, kw_only=True)
class MemoryUse(Result):
    """The use of memory for a table that is read in blocks of rows, in bytes."""

    asked: Annotated[int, "The limit."]
    needed: Annotated[int, "The estimated need."]
    before: Annotated[int | None, "The peak of the process before the fit."]
    peak: Annotated[int | None, "The peak after the fit minus that before it."]
    process_peak: Annotated[int | None, "The peak of the process after the fit."] = None
    passes: Annotated[int, "How many times the table was read."]
    block_rows: Annotated[int, "The number of rows in a block."]
    says: Annotated[str, "The use of memory in a sentence."]


@dataclass(frozen=True, kw_only=True)
class ReferenceOfFit(Result):
    """The best known answer."""

    value: Number
    kind: Annotated[str, ("enum", ("exact", "bound", "best found"))]
    says: Annotated[str, "What it is."]


@dataclass(frozen=True, kw_only=True)
class SelectionOfFit(Result):
    """How a rank or a penalty was chosen."""

    how: Annotated[str, ("enum", ("cells", "singular values"))]
    rank: Annotated[Count, "The chosen rank; 0 if nothing is above the noise."]
    penalty: Annotated[Number, "The chosen penalty; null if it was given."]
    name: Annotated[
        str | None, "Which penalty was chosen.", ("enum", ("l1", "l2", None))
    ]
    ranks: Annotated[list[int], "The ranks to choose from."]
    penalties: Annotated[list[float], "The penalties to choose from."]
    losses: Annotated[
        list[list[list[Number]]],
        "By rank, penalty and fold: the loss of held-out cells over that of the best "
        "constants.",
    ]
    mean: Annotated[list[list[Number]], "The mean over the folds."]
    error: Annotated[list[list[Number]], "The standard error of the mean."]
    held: Annotated[Count, "The number of held-out cells."]
    values: Annotated[list[Number], "The singular values."]
    threshold: Annotated[Number, "The threshold for singular values."]
    most: Annotated[
        int | None, "The largest rank that the table allows; null if it is not known."
    ] = None
    says: Annotated[str, "The choice in a sentence."]


@dataclass(frozen=True, kw_only=True)
class StartsOfFit(Result):
    """The losses of the starts."""

    count: Annotated[Count, "The number of starts."]
    best: Annotated[Count, "The number of the best start."]
    loss_median: Number
    loss_max: Number
    subspace_agreement: Annotated[
        Number,
        "The median over the other starts of the mean squared cosine of the angles "
        "between their space of columns and that of the best; null for one start.",
    ]
    same_components: Annotated[
        Count | None,
        "How many starts, the best included, have the components of the best: each "
        "matched component has an absolute cosine of at least 0.95; null for one start.",
    ] = None
    cosines: Annotated[
        list[Number],
        "For each component of the best start, the median over the other starts of the "
        "absolute cosine of the matched component; empty for one start.",
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class WorstCell(Result):
    """A cell that the model fits worst."""

    row: Annotated[str, "The name of its row."]
    column: Annotated[str, "The name of its column."]
    value: Annotated[Value, "The observed value."]
    predicted: Value
    probability: Annotated[
        Number,
        "The probability that the model gives the observed level; null for numbers.",
    ] = None


@dataclass(frozen=True, kw_only=True)
class WorstRow(Result):
    """A row that the model fits worst."""

    row: Annotated[str, "The name of the row."]
    loss: Annotated[Number, "The mean loss of its observed cells."]
    observed: Annotated[Count, "The number of its observed cells."]
    times_typical: Annotated[Number, "The loss over that of the median row."]


@dataclass(frozen=True, kw_only=True)
class LowRankResult(Result):
    """The result of `descents factorize`."""

    run: Run
    schema_version: SchemaVersion = SCHEMA_VERSION
    quote: Annotated[
        str | None, "A sentence for a paper; null in runs of earlier versions."
    ] = None
    read: Annotated[list[str], "How the columns were read."]
    formats: Annotated[
        Formats | None, "How a text file writes numbers; null for other files."
    ] = None
    warnings: list[str]
    shape: Annotated[
        list[int],
        "The numbers of rows and columns.",
        ("minItems", 2),
        ("maxItems", 2),
    ]
    observed: Annotated[Count, "The number of observed cells."]
    rank: Annotated[int, "The rank, given or chosen.", ("minimum", 1)]
    selection: Annotated[
        SelectionOfFit | None,
        "How a rank or a penalty was chosen; null if both were given.",
    ] = None
    intervals: Annotated[
        IntervalsOfFit | None, "Prediction intervals; null without --intervals."
    ] = None
    losses: Annotated[dict[str, str], "The loss of each column."]
    chosen: Annotated[list[str], "Which columns have which loss, and why."]
    defaults: Annotated[
        list[str], "Which penalty and scales follow from the data, and why."
    ] = field(default_factory=list)
    offsets: Annotated[str, ("enum", ("none", "columns", "rows", "both"))]
    penalty: dict[str, float]
    steps: Annotated[
        str, "The update rule.", ("enum", ("alternating", "lbfgs", "gd", "adam"))
    ]
    loss: Annotated[Number, "The loss of the best start, with penalties."]
    constants_loss: Annotated[Number, "The loss of the best constant of each column."]
    reference: ReferenceOfFit
    gap: Annotated[
        Number,
        "The distance of the loss from the reference, relative to it; null if nothing "
        "better is known.",
    ]
    gap_says: Annotated[str, "The gap in a sentence."]
    held_out: Annotated[
        HeldOutCells | None,
        "How well held-out cells are predicted; null if no cells were held out.",
    ] = None
    shares: Annotated[
        SharesOfFit | None, "How much of the table the model explains."
    ] = None
    starts: StartsOfFit
    statuses: Annotated[dict[str, int], "How many starts ended how."]
    iterations: Annotated[Count, "The number of steps of the best start."]
    columns: list[ColumnOfFit]
    worst_rows: list[WorstRow]
    worst_cells: list[WorstCell]
    strongest: Annotated[
        list[str], "The coordinates with the largest loadings, the largest first."
    ]
    stored: Annotated[bool, "Whether the table is a sparse one."]
    command: Annotated[str, "A command that repeats the run."] = ""
    environment: Environment
    seconds: Number
    memory: Annotated[
        MemoryUse | None, "The use of memory, for a table that is read in blocks."
    ] = field(default=None, metadata=OMITTED)
