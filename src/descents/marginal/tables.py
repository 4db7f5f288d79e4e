"""A model of a user's table: which columns it has, and the table with its cells filled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from descents.checks import Complaints, InvalidValueError, visible
from descents.data.levels import Unseen, known_only
from descents.data.tables import Column, Table
from descents.losses import named
from descents.marginal.model import Fitted, Settings, fit
from descents.marginal.posterior import Cells
from descents.problems import columns as typed
from descents.problems.columns import MOST_CLASSES, ColumnModel
from descents.problems.problem import stream


@dataclass(frozen=True)
class PassedColumn:
    """A column that is not modeled, and is returned as it was.

    Attributes
    ----------
    name : str
    why : str
    """

    name: str
    why: str


@dataclass(frozen=True, eq=False)
class TableModel:
    """A model of a table.

    Attributes
    ----------
    columns : tuple of ColumnModel
        The columns that are modeled.
    passed : tuple of PassedColumn
        The others.
    fitted : Fitted
    """

    columns: tuple[ColumnModel, ...]
    passed: tuple[PassedColumn, ...]
    fitted: Fitted

    def codes(self, table: Table) -> tuple[np.ndarray, tuple[Unseen, ...]]:
        """Return the modeled columns of a table as numbers and codes of levels.

        Levels that the model does not know are missing; they are returned too.

        Raises
        ------
        InvalidValueError
            When a modeled column is not there, or is of another kind.
        """
        known = {model.name: model.known for model in self.columns}
        table, unseen = known_only(table, known, None)
        complaints = Complaints()
        parts = [
            complaints.attempt(
                lambda model: typed.encoded(model, table.column(model.name)), model
            )
            for model in self.columns
        ]
        complaints.raise_any()
        return np.column_stack(parts), unseen

    def predicted(self, table: Table, *, limited: bool = True) -> Cells:
        """Return what the model says of the missing cells of a table."""
        return self.fitted.predicted(self.codes(table)[0], limited=limited)

    def filled(self, table: Table, *, limited: bool = True) -> Any:
        """Return the table with its missing cells filled, of the type that it had."""
        return self.put(table, self.predicted(table, limited=limited).values)

    def imputations(
        self, table: Table, count: int, seed: int, *, limited: bool = False
    ) -> Iterator[Any]:
        """Give tables whose missing cells are drawn from their distribution."""
        codes, _ = self.codes(table)
        for number in range(count):
            generator = stream(seed, "start", number)
            values = self.fitted.drawn(codes, generator, limited=limited)
            yield self.put(table, values)

    def put(self, table: Table, values: np.ndarray) -> Any:
        """Return the table with the missing cells of its modeled columns from values.

        Parameters
        ----------
        table : Table
        values : float64 ndarray of shape (rows, modeled columns)
        """
        return typed.filled(table, self.columns, list(values.T))


def fit_table(
    table: Table, settings: Settings | None = None, weights: np.ndarray | None = None
) -> TableModel:
    """Fit a model of a table.

    Parameters
    ----------
    table : Table
    settings : Settings, optional
    weights : ndarray of shape (rows,), optional

    Raises
    ------
    InvalidValueError
        When no column can be modeled.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
    >>> frame = pyarrow.table({"a": [1, 2, 3, 4, None], "b": ["x", "x", "y", "y", "y"]})
    >>> found = fit_table(from_frame(frame))
    >>> found.filled(from_frame(frame)).column("a").to_pylist()[:4]
    [1, 2, 3, 4]
    """
    models, passed = modeled(table)
    if not models or not table.rows:
        raise InvalidValueError(
            f"the table has {table.rows} rows and {len(table.columns)} columns, none of "
            "which can be modeled; give one that has some"
        )
    codes = np.column_stack(
        [typed.encoded(model, table.column(model.name)) for model in models]
    )
    levels = np.array([len(model.levels) for model in models])
    return TableModel(models, passed, fit(codes, levels, settings, weights))


def modeled(table: Table) -> tuple[tuple[ColumnModel, ...], tuple[PassedColumn, ...]]:
    """Return the columns of a table that are modeled, and those that are not.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.data.tables import from_frame
    >>> frame = pyarrow.table({"id": [1, 2, 3, 4], "a": [0.5, None, 2.5, 1.0]})
    >>> models, passed = modeled(from_frame(frame))
    >>> models[0].name, passed[0].why
    ('a', 'numbers the rows')
    """
    models, passed = [], []
    for column in table.columns:
        why = _why_not(column, table.rows)
        if why:
            passed.append(PassedColumn(column.name, why))
        elif column.kind == "date":
            model = ColumnModel(column.name, named("squared"), (), "dates", dates=True)
            models.append(model)
        else:
            models += typed.of_table(replace(table, columns=(column,)), "auto")
    return tuple(models), tuple(passed)


def _why_not(column: Column, rows: int) -> str:
    """Return why a column is not modeled; empty if it is."""
    if column.kind == "empty":
        return "has no observed cell"
    if column.kind == "text":
        return f"is {visible(column.says)}"
    if len(column.levels) > MOST_CLASSES:
        return f"has {len(column.levels)} levels, more than {MOST_CLASSES}"
    values = column.values
    whole = column.kind == "number" and column.whole and rows > 2
    if whole and not np.isnan(values).any():
        steps = np.diff(values)
        if (steps == steps[0]).all() and abs(steps[0]) == 1:
            return "numbers the rows"
    return ""
