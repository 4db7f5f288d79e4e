"""What the results of several commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from descents.storage.results import OMITTED, Count, Result


@dataclass(frozen=True, kw_only=True)
class Run(Result):
    """The identity of a run: its command, its table and its options."""

    command: Annotated[str, "The command."]
    table: Annotated[str, "The name of the file; - for standard input and for a pipe."]
    sha256: Annotated[str, "The hash of the bytes that were read."]
    options: Annotated[dict[str, Any], "The options of the command."]
    reading: Annotated[dict[str, Any], "The options for reading the table."]


@dataclass(frozen=True, kw_only=True)
class Formats(Result):
    """How a text file writes numbers, so that new rows are read in the same way."""

    decimal: Annotated[str, "The decimal mark.", ("enum", (".", ","))]
    delimiter: Annotated[str | None, "What separates cells."] = None
    columns: Annotated[
        dict[str, dict[str, Any]], "Columns that write numbers in another way."
    ]
    numbers: Annotated[list[str], "Columns of plain numbers."] = field(
        default_factory=list
    )


@dataclass(frozen=True, kw_only=True)
class Environment(Result):
    """What computed a result: the versions of the libraries, and the machine."""

    descents: str
    torch: str
    numpy: str
    processor: Annotated[
        str | None, "The kind of processor; null in runs of earlier versions."
    ] = None
    threads: Annotated[int | None, "The threads that share a matrix product."] = None
    compiled: Annotated[
        bool | None, "Whether code in C was used, where there is some."
    ] = None
    processes: Annotated[
        int | None, "The processes that shared the table, if there were several."
    ] = field(default=None, metadata=OMITTED)

    @property
    def versions(self) -> dict[str, str]:
        """The versions alone, by the name of the library."""
        return {n: getattr(self, n) for n in ("descents", "torch", "numpy")}


@dataclass(frozen=True, kw_only=True)
class Distribution(Result):
    """How often the values of a column occur: in equal bins, or by level."""

    low: Annotated[
        float | str | None, "The lower end of the first bin; null for levels."
    ] = None
    high: Annotated[
        float | str | None, "The upper end of the last bin; null for levels."
    ] = None
    levels: Annotated[list[str], "The levels; empty for numbers and dates."]
    observed: Annotated[list[int], "Observed cells in each bin or level."]
    filled: Annotated[list[int], "Filled cells in each; empty without missing cells."]


@dataclass(frozen=True, kw_only=True)
class Calibration(Result):
    """Held-out cells of levels by the probability of the predicted level."""

    cells: Annotated[list[Count], "Held-out cells in each tenth of the probability."]
    predicted: Annotated[
        list[float | None], "The mean probability of the predicted level in each."
    ]
    right: Annotated[list[float | None], "The share of right predictions in each."]
