"""A model of a user's table: which columns it has, and the table with its cells filled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from descents.cells import encoding, filling
from descents.cells.columns import MOST_CLASSES, ColumnModel, of_table
from descents.errors import Complaints, InvalidValueError
from descents.losses import get_loss
from descents.marginal.draws import bootstrapped, draws_of
from descents.marginal.model import Fitted, Setting, Settings, fit
from descents.marginal.posterior import Cells
from descents.marginal.refinement import Watch
from descents.tables.frames import Frame, given_back
from descents.tables.tables import Table
from descents.tables.typed_columns import Column
from descents.tables.unseen import Unseen, known_only
from descents.text import counted, visible


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


CLOSED_FORM = "the closed form"
BEST = "the best of the starts"


class Reference(NamedTuple):
    """The loss that those of the starts are compared with, in nats per observed cell.

    Attributes
    ----------
    loss : float
        NaN where there is none.
    name : str or None
        "the closed form", which no loss is below, or "the best of the starts".
    """

    loss: float
    name: str | None


NO_REFERENCE = Reference(np.nan, None)


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
    rows : float64 ndarray of shape (n, modeled columns) or None
        The table that was fitted, as codes: `draws` resamples its rows.
    weights : ndarray of shape (n,) or None
        Of these rows.
    models : tuple of Fitted
        Where a stored model has no rows: what was fitted to resampled ones.
    """

    columns: tuple[ColumnModel, ...]
    passed: tuple[PassedColumn, ...]
    fitted: Fitted
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None
    models: tuple[Fitted, ...] = ()

    def __repr__(self) -> str:
        """Return in a line what is modeled."""
        return (
            f"TableModel({counted(len(self.columns), 'column')} modeled, "
            f"{len(self.passed)} passed through, "
            f"{counted(self.fitted.n_components, 'component')})"
        )

    def codes(self, table: Table) -> tuple[np.ndarray, tuple[Unseen, ...]]:
        """Return the modeled columns of a table as numbers and codes of levels.

        Levels that the model does not know are missing; they are returned too.

        Raises
        ------
        InvalidValueError
            When a modeled column is not there, or is of another kind.
        """
        table, unseen = self.known(table)
        complaints = Complaints()
        parts = [
            complaints.attempt(
                lambda model: encoding.encoded(model, table.column(model.name)), model
            )
            for model in self.columns
        ]
        complaints.raise_any()
        return np.column_stack(parts), unseen

    def known(self, table: Table) -> tuple[Table, tuple[Unseen, ...]]:
        """Return a table in which cells of unknown levels are missing, and what they held."""
        return known_only(
            table, {model.name: model.known for model in self.columns}, None
        )

    @property
    def reference(self) -> Reference:
        """The loss that those of the starts are compared with.

        Of a complete table, where every covariance is possible and none is shrunk, the
        best covariance is S + Lambda: that of the features, plus the ridge. Else it is
        the smallest loss of the starts, where there are several.
        """
        fitted = self.fitted
        width = fitted.features.width
        full = fitted.runs.parameters["loadings"].shape[1:] == (width, width)
        plain = full and fitted.setting == Setting("rows", 0.0)
        if self.rows is None or np.isnan(self.rows).any() or not plain:
            losses = fitted.runs.losses[np.isfinite(fitted.runs.losses)]
            several = len(losses) > 1
            return Reference(float(losses.min()), BEST) if several else NO_REFERENCE
        encoded = fitted.features.encoded(self.rows)
        best = np.cov(encoded.T, bias=True, aweights=self.weights).reshape(width, -1)
        best = best + np.diag(fitted.features.ridge)
        least = (1 + np.log(2 * np.pi) + np.linalg.slogdet(best)[1] / width) / 2
        return Reference(float(least), CLOSED_FORM)

    def predicted(self, table: Table, *, limited: bool = True) -> Cells:
        """Return what the model says of the missing cells of a table."""
        return self.fitted.predicted(self.codes(table)[0], limited=limited)

    def filled(self, table: Table, *, limited: bool = True) -> Frame | str:
        """Return the table with its missing cells filled, of the type that it had."""
        values = self.predicted(table, limited=limited).values
        return given_back(self.put(table, values, free=not limited).source)

    def draws(
        self, codes: np.ndarray, count: int, seed: int, *, limited: bool = False
    ) -> Iterator[np.ndarray]:
        """Give completed rows: missing cells are drawn from models of resampled rows.

        Parameters
        ----------
        codes : float64 ndarray of shape (rows, modeled columns)
            Of the table of the fit, or of others.
        count : int
        seed : int
            Number k of the draws depends on it and on k alone.
        limited : bool
            Whether numbers are kept within the observed range of their column.
        """
        models = self.resampled(count, seed)
        return draws_of(models, codes, seed, limited=limited)

    def resampled(self, count: int, seed: int) -> Iterator[Fitted]:
        """Give models of the resampled rows of the table of the fit.

        Raises
        ------
        InvalidValueError
            When the model was stored with fewer.
        """
        if self.rows is not None:
            return bootstrapped(self.fitted, self.rows, count, seed, self.weights)
        if count > len(self.models):
            raise InvalidValueError(
                f"{counted(count, 'imputation')} are requested, but the model was stored "
                f"with {len(self.models)}; request at most so many, or fit it again"
            )
        return iter(self.models[:count])

    def imputations(
        self, table: Table, count: int, seed: int, *, limited: bool = False
    ) -> Iterator[Frame | str]:
        """Give tables whose missing cells are drawn, as `draws` gives them."""
        codes, _ = self.codes(table)
        for values in self.draws(codes, count, seed, limited=limited):
            yield given_back(self.put(table, values, free=not limited).source)

    def put(self, table: Table, values: np.ndarray, *, free: bool = False) -> Table:
        """Return the table with the missing cells of its modeled columns from values.

        They are in the source of what is returned; levels that the model does not know
        are filled as missing cells are.

        Parameters
        ----------
        table : Table
        values : float64 ndarray of shape (rows, modeled columns)
            Numbers, and codes of the model's levels.
        free : bool
            Whether whole numbers may leave the observed range.
        """
        table, _ = self.known(table)
        return filling.completed(table, self.columns, list(values.T), free=free)


def fit_table(
    table: Table,
    settings: Settings | None = None,
    weights: np.ndarray | None = None,
    watch: Watch | None = None,
) -> TableModel:
    """Fit a model of a table.

    Parameters
    ----------
    table : Table
    settings : Settings, optional
    weights : ndarray of shape (rows,), optional
    watch : callable, optional
        ``watch(done, count)`` is called after each column that is refined.

    Raises
    ------
    InvalidValueError
        When no column can be modeled.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
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
        [encoding.encoded(model, table.column(model.name)) for model in models]
    )
    return fit_codes(codes, models, settings, weights, passed, watch)


def fit_codes(
    codes: np.ndarray,
    models: tuple[ColumnModel, ...],
    settings: Settings | None = None,
    weights: np.ndarray | None = None,
    passed: tuple[PassedColumn, ...] = (),
    watch: Watch | None = None,
) -> TableModel:
    """Fit a model of a table that is given as numbers and codes of levels.

    Parameters
    ----------
    codes : float64 ndarray of shape (n, p)
        NaN where missing.
    models : tuple of ColumnModel, length p
    settings : Settings, optional
    weights : ndarray of shape (n,), optional
        Rows of weight 0 are left out.
    passed : tuple of PassedColumn
        The columns that are not modeled.
    watch : callable, optional
        As `fit_table` takes it.
    """
    if weights is not None:
        codes, weights = codes[weights > 0], weights[weights > 0]
    levels = np.array([len(model.levels) for model in models])
    found = fit(codes, levels, settings, weights, watch)
    return TableModel(models, passed, found, codes, weights)


def modeled(table: Table) -> tuple[tuple[ColumnModel, ...], tuple[PassedColumn, ...]]:
    """Return the columns of a table that are modeled, and those that are not.

    Examples
    --------
    >>> import pyarrow
    >>> from descents.tables.tables import from_frame
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
            loss = get_loss("squared")
            models.append(ColumnModel(column.name, loss, (), "dates", dates=True))
        else:
            models += of_table(replace(table, columns=(column,)), "auto")
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
