"""Models of a user's table: choose the columns, fit them, and fill the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from descents.cells import encoding, filling
from descents.cells.columns import MOST_CLASSES, ColumnModel, of_table
from descents.errors import Complaints, InvalidValueError
from descents.losses import get_loss
from descents.marginal.draws import bootstrapped, draws_of
from descents.marginal.model import Fitted, fit
from descents.marginal.posterior import Cells
from descents.marginal.refinement import Watch
from descents.marginal.settings import Setting, Settings
from descents.tables.fitted_types import name_of
from descents.tables.frames import Frame, given_back
from descents.tables.tables import Table
from descents.tables.typed_columns import Column
from descents.tables.unseen import Unseen, known_only
from descents.text import OneLine, counted, visible

CELLS_OF_LEVEL = 5
"""Text is a category if each of its values stands in at least so many cells on average."""


@dataclass(frozen=True)
class PassedColumn:
    """A column that is not modeled, and is returned unchanged.

    Attributes
    ----------
    name : str
    why : str
        The reason, for messages, such as "has no observed cell".
    """

    name: str
    why: str


_IS_ID = re.compile(r"(?:^|[\W_])(?:id|ID|Id)$|[a-z](?:Id|ID)$")
"""The names of columns that identify their rows."""
CLOSED_FORM = "the closed form"
BEST = "the best of the starts"


class Reference(NamedTuple):
    """The loss that the losses of the starts are compared with, in nats per observed cell.

    Attributes
    ----------
    loss : float
        NaN if there is no reference.
    name : str or None
        "the closed form", which is a minimum, or "the best of the starts".
    """

    loss: float
    name: str | None


NO_REFERENCE = Reference(np.nan, None)


@dataclass(frozen=True, eq=False)
class TableModel(OneLine):
    """A model of a table.

    Attributes
    ----------
    columns : tuple of ColumnModel
        The columns that are modeled.
    passed : tuple of PassedColumn
        The others.
    fitted : Fitted
    rows : float64 ndarray of shape (n, modeled columns) or None
        The table of the fit, as codes: `draws` resamples its rows.
    weights : ndarray of shape (n,) or None
        Weights of these rows.
    models : tuple of Fitted
        For a stored model, which has no rows: the models of resampled rows.
    """

    columns: tuple[ColumnModel, ...]
    passed: tuple[PassedColumn, ...]
    fitted: Fitted
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None
    models: tuple[Fitted, ...] = ()

    def __repr__(self) -> str:
        """Return the numbers of columns and components, in one line."""
        return (
            f"TableModel({counted(len(self.columns), 'column')} modeled, "
            f"{len(self.passed)} passed through, "
            f"{counted(self.fitted.n_components, 'component')})"
        )

    def codes(self, table: Table) -> tuple[np.ndarray, tuple[Unseen, ...]]:
        """Return the modeled columns of a table as numbers and codes of levels.

        Levels that the model does not know are missing, and are also returned.

        Raises
        ------
        InvalidValueError
            If a modeled column is absent or of another kind.
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
        """Return a table in which cells of unknown levels are missing, and these levels."""
        return known_only(
            table, {model.name: model.known for model in self.columns}, None
        )

    @property
    def reference(self) -> Reference:
        """The loss that the losses of the starts are compared with.

        For a complete table, if every covariance is possible and the covariance is not
        shrunk, the minimum is known: C = S + Lambda, the covariance of the features plus
        the ridge. There the loss is (1 + log 2 pi + log|C| / d) / 2. Otherwise the reference
        is the smallest loss of several starts.
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
        """Return predictions of the missing cells of a table."""
        return self.fitted.predicted(self.codes(table)[0], limited=limited)

    def filled(self, table: Table, *, limited: bool = True) -> Frame | str:
        """Return the table with its missing cells filled, as a frame of the original type."""
        values = self.predicted(table, limited=limited).values
        return given_back(self.put(table, values, free=not limited).source)

    def draws(
        self, codes: np.ndarray, count: int, seed: int, *, limited: bool = False
    ) -> Iterator[np.ndarray]:
        """Yield completed rows, with missing cells drawn from models of resampled rows.

        Parameters
        ----------
        codes : float64 ndarray of shape (rows, modeled columns)
            Rows of the table of the fit, or others.
        count : int
        seed : int
            Draw k depends on the seed and on k alone.
        limited : bool
            Whether numbers are kept within the observed range of their column.
        """
        models = self.resampled(count, seed)
        return draws_of(models, codes, seed, limited=limited)

    def resampled(self, count: int, seed: int) -> Iterator[Fitted]:
        """Yield models of the resampled rows of the table of the fit.

        Raises
        ------
        InvalidValueError
            If the model was stored with fewer.
        """
        if self.rows is not None:
            return bootstrapped(self.fitted, self.rows, count, seed, self.weights)
        if count > len(self.models):
            raise InvalidValueError(
                f"{counted(count, 'imputation')} are requested, but the model was stored "
                f"with {len(self.models)}; request at most {len(self.models)}, or fit it again"
            )
        return iter(self.models[:count])

    def imputations(
        self, table: Table, count: int, seed: int, *, limited: bool = False
    ) -> Iterator[Frame | str]:
        """Yield completed tables, with the missing cells that `draws` yields."""
        codes, _ = self.codes(table)
        for values in self.draws(codes, count, seed, limited=limited):
            yield given_back(self.put(table, values, free=not limited).source)

    def put(self, table: Table, values: np.ndarray, *, free: bool = False) -> Table:
        """Return the table with the missing cells of its modeled columns filled with values.

        The source of the returned table contains them. Levels that the model does not know
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
        If no column can be modeled.

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
            f"the table has {counted(table.rows, 'row')} and "
            f"{counted(len(table.columns), 'column')} of which none can be modeled; give "
            "one with columns of numbers, dates or levels"
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
    """Fit a model to a table of numbers and codes of levels.

    Parameters
    ----------
    codes : float64 ndarray of shape (n, p)
        NaN where missing.
    models : tuple of ColumnModel, length p
    settings : Settings, optional
    weights : ndarray of shape (n,), optional
        Weights of the rows; those of weight 0 are left out.
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
    ('a', 'is an id, all 4 numbers different')
    """
    models, passed = [], []
    for column in map(_with_levels, table.columns):
        why = _why_not(column, table.rows)
        if why:
            passed.append(PassedColumn(column.name, why))
        elif column.kind == "date":
            loss = get_loss("squared")
            models.append(ColumnModel(column.name, loss, (), "dates", dates=True))
        else:
            models += of_table(replace(table, columns=(column,)), "auto")
    if table.textual:
        return tuple(models), tuple(passed)
    return tuple(_typed(one, table.column(one.name)) for one in models), tuple(passed)


def _typed(model: ColumnModel, column: Column) -> ColumnModel:
    """Return a column of a model with the type of its cells."""
    if column.cells is None:
        return model
    return replace(model, cell_type=name_of(column.cells.type, column.kind == "order"))


def _with_levels(column: Column) -> Column:
    """Return text whose values repeat often enough as a category."""
    count = len(column.levels)
    often = np.count_nonzero(~np.isnan(column.values)) >= CELLS_OF_LEVEL * count
    if column.kind == "text" and often and count <= MOST_CLASSES:
        return replace(column, kind="category")
    return column


def _why_not(column: Column, rows: int) -> str:
    """Return why a column is not modeled; "" if it is modeled."""
    if column.kind == "empty":
        return "has no observed cell"
    if column.kind == "text":
        return f"is {visible(column.says)}"
    if len(column.levels) > MOST_CLASSES:
        return f"has {len(column.levels)} levels, more than {MOST_CLASSES}"
    values = column.values
    if column.kind == "number" and _IS_ID.search(column.name):
        seen = values[~np.isnan(values)]
        digits = {len(f"{value:.0f}") for value in seen}
        different = len(seen) > 2 and len(np.unique(seen)) == len(seen)
        if different and len(digits) == 1 and not (seen % 1).any() and seen.min() > 0:
            return f"is an id, all {len(seen)} numbers different"
    whole = column.kind == "number" and column.whole and rows > 2
    if whole and not np.isnan(values).any():
        steps = np.diff(values)
        if (steps == steps[0]).all() and abs(steps[0]) == 1:
            return "numbers the rows"
    return ""
