"""A table as a fit takes it: numbers and codes of levels, and what its columns are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from descents.cells.columns import ColumnModel
from descents.cells.distributed import SharedTable
from descents.cells.intake import ReadsTables, checked_weights
from descents.errors import InvalidValueError
from descents.lowrank.matrices import Matrix, Values, is_sparse
from descents.lowrank.notices import warn_of_dropped
from descents.lowrank.settings import Settings
from descents.tables.blocks import TableOnDisk
from descents.tables.tables import Table


@dataclass(frozen=True)
class Header:
    """The columns of the table of a fit.

    Attributes
    ----------
    features : int
        The number of its columns.
    names : list of str or None
        Their names, if they have any.
    places : list of int or None
        The places of the columns that are modeled; None for all.
    kind : type or None
        The type of the scores of a data frame, float32 or float64.
    """

    features: int
    names: list[str] | None = None
    places: list[int] | None = None
    kind: type | None = None


@dataclass(frozen=True, eq=False)
class CodedTable:
    """A table as numbers and codes of levels.

    Attributes
    ----------
    values : ndarray, sparse array or TableOnDisk, (rows, columns)
    columns : list of ColumnModel
        The loss of each column, and the levels that its codes stand for.
    header : Header
    weights : ndarray or sparse array, optional
    row_names : sequence of str, optional
        The names of the rows in warnings.
    """

    values: Values
    columns: list[ColumnModel]
    header: Header
    weights: Matrix | None = None
    row_names: Sequence[str] | None = None

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers."""
        return np.dtype(self.values.dtype)


class CodesTables(ReadsTables):
    """Mixin of classes that read tables: it returns what was read as a `CodedTable`."""

    def _coded(self, X: object, weights: object, *, reset: bool = True) -> CodedTable:
        """Read a table.

        Parameters
        ----------
        X, weights
            See `descents.LowRankModel.fit`.
        reset : bool
            Whether it is the table of a fit, of which the columns are kept.
        """
        given: Matrix | None = checked_weights(weights)
        table, values = self._read(X, reset=reset, weights=given if reset else None)
        if table is not None and (reset or given is not None):
            given = _weights_of(table, given, self.columns_)
        elif not reset and given is not None:
            given = self._of_model(given)
        return CodedTable(values, self.columns_, self._header(), given)

    def _header(self) -> Header:
        names = getattr(self, "feature_names_in_", None)
        return Header(
            self.n_features_in_,
            None if names is None else list(names),
            self._places,
            self._kind,
        )

    def _take_header(self, header: Header) -> None:
        """Read further tables with the columns of a header."""
        self.n_features_in_ = header.features
        if header.names:
            self.feature_names_in_ = np.array(header.names, dtype=object)
        self._places, self._kind = header.places, header.kind


class TableReader(CodesTables):
    """Reads tables without scikit-learn."""

    def __init__(self, settings: Settings) -> None:
        self.loss, self.unseen = settings.loss, settings.unseen

    def coded(self, X: object, weights: object = None) -> CodedTable:
        """Return a table as numbers and codes."""
        return self._coded(X, weights)


def _weights_of(
    table: Table, weights: Matrix | None, columns: Sequence[ColumnModel]
) -> np.ndarray | None:
    """Return the weights of the columns that have observed cells, and name the others."""
    names = [column.name for column in table.columns]
    kept = [names.index(column.name) for column in columns]
    warn_of_dropped([name for j, name in enumerate(names) if j not in kept])
    if weights is None:
        return None
    given = weights.toarray() if is_sparse(weights) else np.asarray(weights)
    if given.shape != (table.rows, len(names)):
        raise InvalidValueError(
            f"weights have shape {given.shape}; give the table's, "
            f"{(table.rows, len(names))}"
        )
    return given[:, kept]


def read(
    X: object,
    settings: Settings,
    *,
    weights: object = None,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
) -> CodedTable:
    """Read a table for `descents.lowrank.fit`.

    Parameters
    ----------
    X : ndarray, sparse array, data frame, Table or TableOnDisk, (rows, columns)
    settings : Settings
    weights : array-like, optional
        See `descents.LowRankModel.fit`.
    row_names, column_names : sequence of str, optional
        The names of rows and columns in messages and results, for a table without.

    Raises
    ------
    InvalidValueError
        If the table has columns that cannot be used with the losses.

    Examples
    --------
    >>> read(np.eye(2), Settings(), column_names=["a", "b"]).columns[1].name
    'b'
    """
    if isinstance(X, TableOnDisk):
        shared = isinstance(X, SharedTable)
        settings.check_on_disk(weights is not None, shared=shared)
    table = TableReader(settings).coded(X, weights)
    columns = table.columns
    if column_names is not None:
        columns = [
            replace(column, name=name)
            for column, name in zip(columns, column_names, strict=True)
        ]
    return replace(table, columns=columns, row_names=row_names)
