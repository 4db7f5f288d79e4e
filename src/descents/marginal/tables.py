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
from descents.optim.collective import ALONE, Collective
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
    together : Collective
        Processes that share the table, of which each has some rows.
    """

    columns: tuple[ColumnModel, ...]
    passed: tuple[PassedColumn, ...]
    fitted: Fitted
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None
    models: tuple[Fitted, ...] = ()
    together: Collective = ALONE

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
        if self.rows is None or not plain or self._has_missing():
            losses = fitted.runs.losses[np.isfinite(fitted.runs.losses)]
            several = len(losses) > 1
            return Reference(float(losses.min()), BEST) if several else NO_REFERENCE
        best = self._covariance() + np.diag(fitted.features.ridge)
        least = (1 + np.log(2 * np.pi) + np.linalg.slogdet(best)[1] / width) / 2
        return Reference(float(least), CLOSED_FORM)

    def _has_missing(self) -> bool:
        assert self.rows is not None  # noqa: S101
        return self.together.agreed(bool(np.isnan(self.rows).any()))

    def _covariance(self) -> np.ndarray:
        """Return the covariance of the features of the rows of all processes."""
        assert self.rows is not None  # noqa: S101
        encoded = self.fitted.features.encoded(self.rows)
        weights = np.ones(len(encoded)) if self.weights is None else self.weights
        count, sums = self.together.sum_arrays(
            np.asarray(weights.sum()), weights @ encoded
        )
        off = encoded - sums / count
        (squares,) = self.together.sum_arrays((weights * off.T) @ off)
        return np.asarray(squares / count)

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
        if self.together.size > 1:
            raise InvalidValueError(
                "models of resampled rows are not fitted by several processes; start one"
            )
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
    together: Collective = ALONE,
) -> TableModel:
    """Fit a model of a table.

    Parameters
    ----------
    table : Table
    settings : Settings, optional
    weights : ndarray of shape (rows,), optional
    watch : callable, optional
        ``watch(done, count)`` is called after each column that is refined.
    together : Collective
        Processes that share the table, of which each has some rows.

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
    models, passed = modeled(table, together)
    if not models or not table.rows:
        raise InvalidValueError(
            f"the table has {counted(table.rows, 'row')} and "
            f"{counted(len(table.columns), 'column')} of which none can be modeled; give "
            "one with columns of numbers, dates or levels"
        )
    codes = np.column_stack(
        [encoding.encoded(model, table.column(model.name)) for model in models]
    )
    return fit_codes(codes, models, settings, weights, passed, watch, together)


def fit_codes(
    codes: np.ndarray,
    models: tuple[ColumnModel, ...],
    settings: Settings | None = None,
    weights: np.ndarray | None = None,
    passed: tuple[PassedColumn, ...] = (),
    watch: Watch | None = None,
    together: Collective = ALONE,
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
    together : Collective
        As `fit_table` takes them.
    """
    if weights is not None:
        codes, weights = codes[weights > 0], weights[weights > 0]
    levels = np.array([len(model.levels) for model in models])
    found = fit(codes, levels, settings, weights, watch, together)
    return TableModel(models, passed, found, codes, weights, together=together)


def modeled(
    table: Table, together: Collective = ALONE
) -> tuple[tuple[ColumnModel, ...], tuple[PassedColumn, ...]]:
    """Return the columns of a table that are modeled, and those that are not.

    Processes that share the table each have some of its rows.

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
    for own in map(_with_levels, table.columns):
        column, declared = _of_all(own, together)
        why = _why_not(column, together)
        if why:
            passed.append(PassedColumn(column.name, why))
        elif column.kind == "date":
            loss = get_loss("squared")
            models.append(ColumnModel(column.name, loss, (), "dates", dates=True))
        else:
            (model,) = of_table(replace(table, columns=(column,)), "auto")
            more = tuple(level for level in declared if level not in model.levels)
            models.append(replace(model, never=more) if more else model)
    if table.textual:
        return tuple(models), tuple(passed)
    return tuple(_typed(one, table.column(one.name)) for one in models), tuple(passed)


def _typed(model: ColumnModel, column: Column) -> ColumnModel:
    """Return a column of a model with the type of its cells."""
    if column.cells is None:
        return model
    return replace(model, cell_type=name_of(column.cells.type, column.kind == "order"))


def _of_all(column: Column, together: Collective) -> tuple[Column, tuple[object, ...]]:
    """Return a column with the codes that occur in the rows of any process.

    The levels that its categories declare are returned too, unless they are in order.
    """
    if together.size == 1 or not column.levels:
        return column, ()
    own = np.unique(column.values[~np.isnan(column.values)])
    codes = np.unique(np.concatenate(together.each(own)))
    declared: tuple[object, ...] = ()
    if column.kind == "category" and hasattr(column.cells, "dictionary"):
        parts = together.each(column.cells.dictionary.to_pylist())
        declared = tuple(dict.fromkeys(one for part in parts for one in part))
    return replace(column, values=codes, cells=None), declared


def _with_levels(column: Column) -> Column:
    """Return text whose values repeat often enough as a category."""
    count = len(column.levels)
    often = column.extent.observed >= CELLS_OF_LEVEL * count
    if column.kind == "text" and often and count <= MOST_CLASSES:
        return replace(column, kind="category")
    return column


def _why_not(column: Column, together: Collective) -> str:
    """Return why a column is not modeled; "" if it is modeled."""
    if column.kind == "empty":
        return "has no observed cell"
    if column.kind == "text":
        return f"is {visible(column.says)}"
    if len(column.levels) > MOST_CLASSES:
        return f"has {len(column.levels)} levels, more than {MOST_CLASSES}"
    if column.kind == "number" and _IS_ID.search(column.name):
        own = column.values[~np.isnan(column.values)]
        seen = np.concatenate(together.each(own))
        digits = {len(f"{value:.0f}") for value in seen}
        different = len(seen) > 2 and len(np.unique(seen)) == len(seen)
        if different and len(digits) == 1 and not (seen % 1).any() and seen.min() > 0:
            return f"is an id, all {len(seen)} numbers different"
    whole = column.kind == "number" and column.whole and column.extent.observed > 2
    if whole and not column.extent.missing:
        first = together.offset(len(column.values))
        rows = np.arange(first, first + len(column.values))
        for steps in (rows, -rows):
            off = column.values - steps
            low = together.least(off.min(keepdims=True))
            if low == together.most(off.max(keepdims=True)):
                return "numbers the rows"
    return ""
