"""The result of `descents impute`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from descents.runs.results import (
    Calibration,
    Distribution,
    Environment,
    Formats,
    Run,
)
from descents.storage.results import (
    SCHEMA_VERSION,
    Count,
    Number,
    Result,
    SchemaVersion,
)

Level = bool | int | float | str | None
"""A cell of a table, as its JSON has it."""
Shape = Annotated[
    list[int], ("minItems", 2), ("maxItems", 2), "The rows and the modeled columns."
]


@dataclass(frozen=True, kw_only=True)
class FilledCells(Result):
    """How many cells are filled, all of modeled columns."""

    cells: Count
    columns: Count
    rows: Count
    rows_without_cells: Annotated[
        Count, "Rows without an observed cell in a modeled column."
    ]
    outside_range: Annotated[
        Count,
        "Values outside the observed range of their column; 0 with several imputations.",
    ]


@dataclass(frozen=True, kw_only=True)
class FilledTable(FilledCells):
    """How many cells of the table of the fit are filled, and which are not."""

    left_missing: Annotated[Count, "Missing cells of columns that are not modeled."]
    by_constant: Annotated[
        list[str],
        "Columns that are filled with their mean or most frequent level, because the "
        "model predicts held-out cells no better; none with several imputations.",
    ]
    not_judged: Annotated[
        list[str],
        "Columns with missing cells of which too few cells could be held out to judge "
        "them.",
    ] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Fills(Result):
    """What the missing cells are filled with."""

    imputations: Annotated[
        int | None, ("minimum", 2), "The number of completed tables; null for one."
    ]
    range: Annotated[str, ("enum", ("observed", "free"))]
    says: str


@dataclass(frozen=True, kw_only=True)
class HeldOutError(Result):
    """How well held-out cells, which the fit has not seen, are predicted."""

    cells: Count
    columns: Annotated[Count, "The number of columns that the mean is over."]
    relative_error: Annotated[
        Number,
        "The mean error of the columns as filled, divided by that of means and most "
        "frequent levels. The error of numbers is the root mean squared error over the "
        "standard deviation, the error of levels the share of wrong ones.",
    ]
    standard_error: Annotated[Number, "Of the relative error, by the jackknife."]
    says: str
    rounds: Annotated[
        Count,
        "The number of fits, each without other cells; 0 in runs of earlier versions.",
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Refinement(Result):
    """Whether forests improved the predictions of held-out cells."""

    before: Annotated[float, "The relative error of the model, over all columns."]
    after: Annotated[float, "That of the model with forests, on the same cells."]
    standard_error: Annotated[float, "Of the difference, by the jackknife."]
    cells: Count
    verdict: Annotated[str, ("enum", ("better", "no clear difference", "worse"))]
    says: str


@dataclass(frozen=True, kw_only=True)
class ImputedColumn(Result):
    """A modeled column, and how well its held-out cells are predicted."""

    name: str
    kind: Annotated[str, ("enum", ("numbers", "levels", "dates"))]
    levels: Annotated[Count, "The number of levels; 0 for numbers and dates."]
    observed: Count
    missing: Count
    filled_by: Annotated[str, ("enum", ("model", "mean", "most frequent level"))]
    verdict: Annotated[
        str,
        ("enum", ("yes", "not clearly", "no", "the same", "not judged", "not known")),
        "Whether held-out cells are predicted better than by the mean or the most "
        "frequent level; yes is by more than two standard errors of the difference. Not "
        "judged with fewer than 20 held-out cells; not known is that of earlier versions.",
    ]
    held_out: Annotated[Count, "The number of observed cells that were held out."]
    error: Annotated[Number, "Of held-out cells, by the model."]
    standard_error: Annotated[Number, "Of that error."]
    constant_error: Annotated[
        Number,
        "Of held-out cells, by the mean or the most frequent level of the others.",
    ]
    measure: Annotated[
        str, ("enum", ("share of wrong levels", "root mean squared error"))
    ]
    error_says: str
    constant_says: str
    constant: Annotated[Level, "The mean or the most frequent level, as in the column."]
    interval: Annotated[str | None, "The width of its intervals; null without them."]
    spread: Annotated[
        Number, "The standard deviation of its numbers, in days for dates."
    ] = None
    distribution: Annotated[
        Distribution | None,
        "How often its values occur; null for tables of more than 200 columns.",
    ] = None
    calibration: Annotated[
        Calibration | None, "How often probable levels are right; null for numbers."
    ] = None


@dataclass(frozen=True, kw_only=True)
class UnmodeledColumn(Result):
    """A column that is not modeled."""

    name: str
    why: str
    missing: Count


@dataclass(frozen=True, kw_only=True)
class ColumnIntervals(Result):
    """The prediction intervals of a column, or its prediction sets of levels."""

    width: Annotated[Number, "The median width."]
    levels: Annotated[Number, "The mean number of levels in a set."]
    says: str


@dataclass(frozen=True, kw_only=True)
class FillIntervals(Result):
    """The prediction intervals of the missing cells."""

    coverage: float
    cells: Annotated[Count, "Held-out cells that intervals are calibrated on."]
    columns: dict[str, ColumnIntervals]


@dataclass(frozen=True, kw_only=True)
class PicturedColumn(Result):
    """A column in the picture of held-out cells."""

    name: str
    which: Annotated[str, ("enum", ("best", "worst"))]
    levels: list[str]
    cells: Count
    drawn: Count
    error_says: str
    constant_says: str


@dataclass(frozen=True, kw_only=True)
class ImputationModel(Result):
    """The fitted model."""

    features: Count
    components: Count
    strength: Annotated[float, "How much the covariance is shrunk."]
    sample: Annotated[
        str,
        ("enum", ("rows", "columns")),
        "The side whose factors are integrated out.",
    ]


@dataclass(frozen=True, kw_only=True)
class ImputationStarts(Result):
    """The starts of the fit."""

    count: Count
    best: Count
    loss_max: float


@dataclass(frozen=True, kw_only=True)
class ImputationResult(Result):
    """The result of `descents impute`."""

    run: Run
    schema_version: SchemaVersion = SCHEMA_VERSION
    quote: Annotated[
        str | None, "A sentence for a paper; null in runs of earlier versions."
    ] = None
    read: Annotated[list[str], "How the columns were read."]
    formats: Annotated[
        Formats | None, "How a text file writes numbers; null for other files."
    ]
    warnings: list[str]
    shape: Shape
    observed: Annotated[Count, "Observed cells of modeled columns."]
    filled: FilledTable
    how: Fills
    added: Annotated[list[str], "Columns that FILLED has and TABLE has not."]
    held_out: Annotated[
        HeldOutError | None, "Null if there are too few cells to hold some out."
    ]
    refinement: Annotated[
        Refinement | None, "Null without --refine, or without held-out cells."
    ] = None
    columns: list[ImputedColumn]
    passed: Annotated[list[UnmodeledColumn], "Columns that are not modeled."]
    ignored: Annotated[list[str], "Columns of --ignore and --id."]
    intervals: FillIntervals | None
    says: str
    quality: str
    pictures: Annotated[
        list[PicturedColumn], "The columns in the picture of held-out cells."
    ]
    caption: str
    command: Annotated[str, "A command that repeats the run."]
    model: ImputationModel
    loss: Annotated[
        float, "Penalized negative log likelihood per observed feature; of seen cells."
    ]
    gap: Annotated[
        Number, "The loss minus that of the reference; null without a reference."
    ] = None
    reference: Annotated[
        str | None, ("enum", ("the closed form", "the best of the starts", None))
    ] = None
    starts: ImputationStarts
    statuses: Annotated[dict[str, int], "How many starts ended how."]
    iterations: Count
    environment: Environment
    seconds: float
