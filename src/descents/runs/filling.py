"""A model of a table, and the rows whose missing cells it fills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np

from descents.cells.columns import ColumnModel
from descents.cells.filling import is_rounded
from descents.errors import Complaints, InvalidValueError
from descents.marginal.draws import draws_of, with_gaussian
from descents.marginal.intervals import CellIntervals, intervals
from descents.marginal.posterior import Gaussian
from descents.marginal.settings import Settings
from descents.marginal.tables import TableModel
from descents.optim.collective import Collective
from descents.tables.dates import of_days
from descents.tables.frames import short, stacked
from descents.tables.limits import outward
from descents.tables.numerals import Written
from descents.tables.spelling import text_of
from descents.tables.tables import Table
from descents.tables.typed_columns import Column

NUMBER = "imputation"
"""The column that numbers imputations."""


@dataclass(frozen=True)
class Options:
    """How a table is filled.

    Attributes
    ----------
    rank : int or None
        The number of components; None allows every covariance.
    starts, seed : int
    intervals : float or None
        The coverage of prediction intervals.
    imputations : int or None
        The number of completed tables that are drawn, instead of one that is filled.
    range : {"observed", "free"} or None
        Whether numbers are limited to the observed range. By default single fills are,
        and draws are not.
    refine : bool
        Whether forests improve the model.
    """

    rank: int | None = None
    starts: int = 1
    seed: int = 0
    intervals: float | None = None
    imputations: int | None = None
    range: str | None = None
    refine: bool = False

    @property
    def limited(self) -> bool:
        """Whether numbers are limited to the observed range."""
        if self.range is None:
            return self.imputations is None
        return self.range == "observed"

    def check(self) -> None:
        """Refuse options that exclude each other."""
        complaints = Complaints()
        drawn = self.imputations is not None
        complaints.require(
            not (self.refine and drawn),
            "--refine improves single values, but --imputations draws from the model "
            "without forests; leave one out",
        )
        complaints.require(
            self.intervals is None or not drawn,
            "--intervals gives the uncertainty in columns beside single values, but "
            "--imputations by drawing each value several times; leave one out",
        )
        complaints.raise_any()

    @property
    def settings(self) -> Settings:
        """The settings of the fit."""
        return Settings(
            self.rank, n_starts=self.starts, seed=self.seed, refine=self.refine
        )


@dataclass(frozen=True, eq=False)
class Filling:
    """A model, and a table whose missing cells it fills.

    Attributes
    ----------
    model : TableModel
    resampled : tuple of Gaussian
        Models of resampled rows, one for each imputation.
    table : Table
    options : Options
    """

    model: TableModel
    resampled: tuple[Gaussian, ...]
    table: Table
    options: Options

    @property
    def together(self) -> Collective:
        """Processes that share the table, of which each has some rows."""
        return self.model.together

    @property
    def counts(self) -> tuple[int, np.ndarray]:
        """The number of rows, and of missing cells of each column, of all processes."""
        # A cached_property has a lock, in which threads would wait for each other.
        if "_counts" not in vars(self):
            lacking = np.isnan(self.codes)
            own = np.append(float(len(lacking)), lacking.sum(0).astype(np.float64))
            (found,) = self.together.sum_arrays(own)
            vars(self)["_counts"] = int(found[0]), found[1:].astype(np.int64)
        return cast("tuple[int, np.ndarray]", vars(self)["_counts"])

    @cached_property
    def codes(self) -> np.ndarray:
        """The modeled columns as numbers and codes of levels."""
        return self.model.codes(self.table)[0]

    @cached_property
    def intervals(self) -> CellIntervals | None:
        """The intervals of the missing cells, if they were requested."""
        coverage = self.options.intervals
        if coverage is None:
            return None
        limited = self.options.limited
        try:
            return intervals(self.model.fitted, self.codes, coverage, limited=limited)
        except InvalidValueError as error:
            raise InvalidValueError(f"--intervals: {error}") from None

    @property
    def added(self) -> list[str]:
        """The names of the columns that are added to those of the table."""
        return added_names(self.model.columns, self.table, self.options)

    def filled(self) -> Table:
        """Return the table with the missing cells of its source filled."""
        if self.options.imputations is not None:
            sources = [
                self.model.put(self.table, values, free=not self.options.limited).source
                for values in self.draws()
            ]
            return replace(self.table, source=stacked(sources, NUMBER))
        fitted = self.model.fitted
        values = fitted.predicted(self.codes, limited=self.options.limited).values
        table = self.model.put(self.table, values, free=not self.options.limited)
        return table if self.intervals is None else table.beside(self._beside(values))

    def draws(self) -> Iterator[np.ndarray]:
        """Yield numbers and codes with missing ones drawn, one table at a time."""
        models = (with_gaussian(self.model.fitted, one) for one in self.resampled)
        options = self.options
        return draws_of(models, self.codes, options.seed, limited=options.limited)

    def _beside(self, values: np.ndarray) -> dict[str, list[object]]:
        """Return the columns of intervals and sets, given the numbers of the fills."""
        found = self.intervals
        cells: dict[str, list[object]] = {}
        if found is None:
            return {}
        lacking = np.isnan(self.codes)
        for place, model in enumerate(self.model.columns):
            rows = np.flatnonzero(lacking[:, place])
            if not self.counts[1][place]:
                continue
            column = self.table.column(model.name)
            if model.levels:
                names = level_names(model)
                each = [
                    "|".join(names[code] for code in np.flatnonzero(part))
                    for part in found.sets[place][rows]
                ]
                cells[f"{model.name}_set"] = _among(each, rows, len(lacking))
                continue
            fills = values[rows, place]
            written, places = column.written, model.places
            if isinstance(written, Written) and written.places is not None:
                places = written.places
            if places is not None:  # fills are rounded to these
                fills = np.array([float(f"{fill:.{places}f}") for fill in fills])
            limits = (
                np.minimum(found.lower[rows, place], fills),
                np.maximum(found.upper[rows, place], fills),
            )
            for end, these in zip(
                ("low", "high"), self._ends(model, column, *limits), strict=True
            ):
                cells[f"{model.name}_{end}"] = _among(these, rows, len(lacking))
        return cells

    def _ends(
        self, model: ColumnModel, column: Column, lower: np.ndarray, upper: np.ndarray
    ) -> tuple[list[object], list[object]]:
        """Return the ends of the intervals of some cells of a column of numbers or dates."""
        if model.dates and column.cells is not None:
            return (
                of_days(lower, column.cells, column.values, np.floor),
                of_days(upper, column.cells, column.values, np.ceil),
            )
        whole = is_rounded(model, column, self.table.textual)
        return outward(lower, upper, whole=whole, written=column.written)


def added_names(
    models: Sequence[ColumnModel], table: Table, options: Options
) -> list[str]:
    """Return the names of the columns that are added to those of a table.

    Raises
    ------
    InvalidValueError
        If the table already has one of these columns.
    """
    found, option = [], "--intervals"
    if options.imputations is not None:
        found, option = [NUMBER], "--imputations"
    elif options.intervals is not None:
        for model in models:
            if table.column(model.name).extent.missing:
                ends = ("set",) if model.levels else ("low", "high")
                found += [f"{model.name}_{end}" for end in ends]
    complaints = Complaints()
    for name in found:
        complaints.require(
            name not in table.source.names,
            f"{option} writes a column {short(name)!r}, but the table has one of that "
            "name; rename it",
        )
    complaints.raise_any()
    return found


def _among(values: Sequence[object], rows: np.ndarray, count: int) -> list[object]:
    """Return values at some rows of a column, None at the others."""
    cells: list[object] = [None] * count
    for row, value in zip(rows, values, strict=True):
        cells[row] = value
    return cells


def level_names(model: ColumnModel) -> list[str]:
    """Return the levels of a column as text."""
    return [text_of(level) for level in model.levels]
