"""The results of `descents apply`, one for each kind of model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from descents.runs.factorize_result import MemoryUse
from descents.runs.impute_result import FilledCells, FillIntervals, Fills, Shape
from descents.runs.results import Distribution, Environment
from descents.storage.results import (
    OMITTED,
    SCHEMA_VERSION,
    Count,
    Interval,
    Number,
    Result,
    SchemaVersion,
)

ROWS_OF_THE_FIT = (
    "This is the table of the fit: the model was fitted to rows of it, so that figures on "
    "them would not be out of sample, and are not given."
)
"""What is reported of a table with the hash of that of the fit."""


@dataclass(frozen=True, kw_only=True)
class UnseenLevel(Result):
    """A level that the model was not fitted with."""

    column: Annotated[str, "The name of the column."]
    level: str
    cells: Annotated[Count, "The number of cells with this level, read as missing."]


@dataclass(frozen=True, kw_only=True)
class AppliedRun(Result):
    """The identity of a run of `descents apply`."""

    command: str
    model: Annotated[str, "The folder of the run with the model."]
    table: str
    sha256: Annotated[str, "The hash of the bytes of the table."] = ""
    intervals: Annotated[float | None, "The coverage of the intervals."] = field(
        default=None, metadata=OMITTED
    )
    imputations: Annotated[int | None, "The number of completed tables."] = field(
        default=None, metadata=OMITTED
    )
    range: Annotated[str | None, "The range of filled numbers."] = field(
        default=None, metadata=OMITTED
    )
    seed: int | None = field(default=None, metadata=OMITTED)
    unseen: Annotated[str | None, "What was done with unseen levels."] = field(
        default=None, metadata=OMITTED
    )


@dataclass(frozen=True, kw_only=True)
class NewColumn(Result):
    """A column of the model in the new rows."""

    name: str
    missing: Annotated[Count, "The number of its missing cells, or of unseen levels."]
    outside: Annotated[
        Count | None,
        "The number of its cells outside the range of the rows of the fit; null for levels "
        "and where this range is not stored.",
    ] = None
    distribution: Annotated[
        Distribution | None,
        "How often its values occur; null if there are many columns or levels.",
    ] = None


@dataclass(frozen=True, kw_only=True)
class UseOfModel(Result):
    """What all results of `descents apply` have."""

    run: AppliedRun
    read: Annotated[list[str], "How the columns were read."]
    not_used: Annotated[list[str], "Columns that the model does not have."] = field(
        default_factory=list
    )
    unseen: Annotated[list[UnseenLevel], "Levels that were read as missing cells."]
    rows: Annotated[Count, "The number of rows."]
    table_columns: Annotated[
        list[NewColumn], "The columns of the model in the new rows."
    ] = field(default_factory=list)
    model_quote: Annotated[
        str,
        "What the run of the model measured of it, on held-out cells or rows of its own "
        "table.",
    ] = ""
    fitted_rows: Annotated[
        bool,
        "Whether the table is that of the fit, by its hash: figures on its rows are not "
        "out of sample.",
    ] = False
    command: Annotated[str, "A command that repeats the run."] = ""
    environment: Environment | None = None
    schema_version: SchemaVersion = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class AppliedResult(UseOfModel):
    """The result of `descents apply` with a model of `descents factorize`."""

    warnings: list[str]
    observed: Annotated[Count, "The number of observed cells."]
    holes: Annotated[Count, "The number of missing cells that were filled."]
    dimensions: Annotated[
        Count | None, "The number of columns that rows are transformed to."
    ] = None
    score: Annotated[
        Number,
        "The share of the loss of the best constants that the model explains, on the "
        "observed cells, to which the scores of the rows are fitted; null without "
        "observed cells.",
    ]
    memory: Annotated[
        MemoryUse | None, "The use of memory, for a table that is read in blocks."
    ] = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, kw_only=True)
class FilledRows(UseOfModel):
    """The result of `descents apply` with a run of `descents impute`."""

    shape: Shape
    filled: FilledCells
    how: Fills
    by_constant: Annotated[
        list[str],
        "Columns with missing cells that are filled with their mean or most frequent "
        "level, as those of the run are.",
    ] = field(default_factory=list)
    added: Annotated[list[str], "Columns that FILLED has and TABLE has not."]
    intervals: FillIntervals | None
    says: str


@dataclass(frozen=True, kw_only=True)
class PredictionScore(Result):
    """A score of predictions on the new rows with a target, each of which counts once."""

    metric: Annotated[str, ("enum", ("accuracy", "balanced_accuracy", "r2", "rmse"))]
    value: Number
    interval: Annotated[
        Interval | None, "Wilson's 95% interval of an accuracy; null for others."
    ] = None
    constant: Annotated[
        Number,
        "That of the constant prediction of the fit, the most frequent class or the mean; "
        "null if the run does not store it.",
    ] = None


@dataclass(frozen=True, kw_only=True)
class PredictedRows(UseOfModel):
    """The result of `descents apply` with a network of `descents train`."""

    target: str
    columns: Annotated[list[str], "The columns of predictions.parquet."]
    predicted: Annotated[
        Distribution | None, "How often values are predicted; null for many classes."
    ] = None
    scored_rows: Annotated[
        Count, "The rows with a target, on which the predictions are scored."
    ] = 0
    scores: Annotated[
        list[PredictionScore],
        "The scores on these rows; empty without the target, and for the table of the fit.",
    ] = field(default_factory=list)
    constant: Annotated[
        str | None, "The most frequent class of the fit; null for numbers."
    ] = None
