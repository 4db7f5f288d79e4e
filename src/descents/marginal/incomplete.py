"""Tables with missing cells, as an imputer reads them and returns them filled."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import OneToOneFeatureMixin

from descents.cells import encoding
from descents.cells.columns import ColumnModel
from descents.cells.intake import ReadsTables, is_frame, plain_array
from descents.errors import Complaints, InvalidValueError
from descents.marginal.missing_values import (
    is_blank,
    marked_cells,
    none_as_nan,
    with_missing,
)
from descents.marginal.notices import notices, warn_unconverged
from descents.marginal.tables import TableModel
from descents.optim.runs import Runs
from descents.tables.calendar import with_dates
from descents.tables.frames import Frame, given_back
from descents.tables.tables import Table, from_frame
from descents.tables.typed_columns import Column


@dataclass(frozen=True, eq=False)
class Incomplete:
    """A table with missing cells: that of a data frame, or an array.

    Attributes
    ----------
    missing : bool ndarray of shape (rows, columns)
    table : Table or None
        None for an array.
    array : ndarray or None
        NaN where a cell is missing; None for a data frame.
    dtype : dtype or None
        The type of the array that is returned; None for a data frame.
    notes : tuple of str
        Decisions about the types of columns for the user to check.
    """

    missing: np.ndarray
    table: Table | None = None
    array: np.ndarray | None = None
    dtype: np.dtype | None = None
    notes: tuple[str, ...] = ()


class CompletesTables(ReadsTables, OneToOneFeatureMixin):
    """Base of an imputer: it reads tables with missing cells and returns them filled.

    Attributes
    ----------
    missing_values, limits, add_indicator, keep_empty_features, unseen
        As `descents.LowRankImputer` takes them.
    fitted_ : TableModel
    """

    missing_values: object
    limits: str
    add_indicator: bool
    keep_empty_features: bool
    sample_posterior: bool
    max_iter: int
    fitted_: TableModel
    runs_: Runs
    columns_: list[ColumnModel]
    _framed: bool
    """Whether the model was fitted to a data frame."""
    _empty: np.ndarray
    """Which columns of the fit have no observed cell."""
    _indicated: np.ndarray
    """The positions of the columns of the fit that have missing cells."""

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, optional
            By default the names in the fit.

        Returns
        -------
        ndarray of str
        """
        self._check_fitted()
        names: np.ndarray = super().get_feature_names_out(input_features)
        added = [f"missingindicator_{names[place]}" for place in self._indicated]
        returned = names[self._returned_places]
        if not self.add_indicator:
            return returned
        return np.concatenate([returned, np.array(added, dtype=object)])

    def _warn(
        self, table: Incomplete, names: list[str], missing: np.ndarray, level: int
    ) -> None:
        """Warn of how columns were read, are modeled and predicted, and of no convergence.

        Parameters
        ----------
        table : Incomplete
            The table of the fit.
        names : list of str
            Its columns.
        missing : bool ndarray of shape (rows, columns)
            The missing cells of rows that have a weight above 0.
        level : int
            How many calls up from the caller the user's code is.
        """
        treatment = "filled with 0" if self.keep_empty_features else "dropped"
        if self._framed:
            treatment = "kept, still missing"
        drawn = bool(self.sample_posterior)
        about = (self.fitted_, names, missing, self._empty, treatment)
        for sentence in (*table.notes, *notices(*about, drawn=drawn)):
            warnings.warn(sentence, UserWarning, stacklevel=level + 1)
        warn_unconverged(self.runs_, "EM", self.max_iter, level + 2)

    # Reading

    def _incomplete(self, X: object, *, reset: bool) -> Incomplete:
        """Return a table, and where its cells are missing.

        Parameters
        ----------
        X : array-like, masked array, tensor, data frame or Table
        reset : bool
            Whether this is the table of the fit, which determines the columns.
        """
        X = plain_array(X)
        if isinstance(X, Table) or is_frame(X):
            return self._incomplete_frame(X, reset=reset)
        if hasattr(X, "tocsr"):
            raise InvalidValueError(
                "X is sparse, and filling the cells that it does not store would make it "
                "dense; give a dense array with NaN where a cell is missing"
            )
        of_objects = getattr(getattr(X, "dtype", None), "kind", "") == "O"
        mark = self.missing_values
        masked = np.ma.isMaskedArray(X)
        if isinstance(X, list | tuple) or of_objects:
            X = none_as_nan(X)
        marked = None
        if not is_blank(mark):
            marked = marked_cells(X, mark)
            X = (
                X
                if marked is None
                else np.where(marked, 0, np.asarray(X, dtype=object))
            )
        array = self._clean(X, reset=reset)
        if not is_blank(mark):
            if not masked and np.isnan(array).any():
                raise InvalidValueError(
                    f"X contains NaN, but missing_values is {mark!r}; give "
                    "missing_values=np.nan, or no NaN"
                )
            lacking = array == mark if marked is None else marked
            array = np.where(lacking, np.nan, array)
        if reset:
            self._framed = False
        half = getattr(X, "dtype", None) == np.float16
        dtype = np.dtype(np.float16) if half else array.dtype
        return Incomplete(np.isnan(array), array=array, dtype=dtype)

    def _incomplete_frame(self, X: object, *, reset: bool) -> Incomplete:
        """Return the table of a data frame."""
        mark = None if is_blank(self.missing_values) else self.missing_values
        table = X if isinstance(X, Table) else from_frame(X, mark=mark)
        if not isinstance(X, Table):
            self._validated(X, reset=reset, skip_check_array=True)
        elif reset:
            names = [column.name for column in table.columns]
            self.feature_names_in_ = np.array(names, dtype=object)
            self.n_features_in_ = len(names)
        if not is_blank(self.missing_values):
            marked = (with_missing(one, self.missing_values) for one in table.columns)
            table = replace(table, columns=tuple(marked))
        notes: tuple[str, ...] = ()
        if reset:
            known = len(table.notes)
            table = with_dates(table)
            notes = table.notes[known:]
        elif self._framed:
            table = with_dates(table, [one.name for one in self.columns_ if one.dates])
        missing = np.column_stack([np.isnan(column.values) for column in table.columns])
        if reset:
            self._framed = True
        elif not self._framed:
            # A model of an array knows the positions of its columns, not their names.
            array = np.column_stack([_as_numbers(column) for column in table.columns])
            return Incomplete(np.isnan(array), array=array, dtype=array.dtype)
        return Incomplete(missing, table=table, notes=notes)

    def _names_of(self, incomplete: Incomplete) -> list[str]:
        """Return the names of the columns of the table of the fit."""
        if incomplete.table is not None:
            return [column.name for column in incomplete.table.columns]
        return self._names(incomplete.missing.shape[1])

    def _codes(self, incomplete: Incomplete) -> np.ndarray:
        """Return the modeled columns of a table as numbers and codes."""
        if incomplete.table is not None:
            codes, unseen = self.fitted_.codes(incomplete.table)
            if self.unseen == "error":
                complaints = Complaints()
                for one in unseen:
                    complaints.require(False, f"{one.says}; {encoding.UNSEEN}")
                complaints.raise_any()
            for one in unseen:
                warnings.warn(
                    f"{one.says}; these cells are filled as if they were missing",
                    UserWarning,
                    stacklevel=5,
                )
            return codes
        assert incomplete.array is not None  # noqa: S101
        modeled = np.asarray(incomplete.array[:, self._places], dtype=np.float64)
        return self._codes_of_array(modeled)

    # Returning

    def _completed(
        self, incomplete: Incomplete, values: np.ndarray, *, drawn: bool
    ) -> np.ndarray | Frame:
        """Return a table of the type that was given, with its missing cells filled.

        Parameters
        ----------
        incomplete : Incomplete
        values : float64 ndarray of shape (rows, modeled columns)
            Numbers, and codes of levels, for the missing cells.
        drawn : bool
            Whether they are draws, which the limits "auto" do not keep within the
            observed range.
        """
        indicators = incomplete.missing[:, self._indicated]
        if incomplete.table is not None:
            limited = self.limits == "observed" or (self.limits == "auto" and not drawn)
            table = self.fitted_.put(incomplete.table, values, free=not limited)
            frame = given_back(table.source)
            if self.add_indicator:
                names = self.get_feature_names_out()[-len(self._indicated) :]
                frame = _beside(frame, dict(zip(names, indicators.T, strict=True)))
            return self._in_container(frame)
        assert incomplete.array is not None  # noqa: S101
        dtype = incomplete.dtype or incomplete.array.dtype
        filled = np.where(incomplete.missing, 0, incomplete.array)
        fills = np.zeros(filled.shape)
        for place, model, column in zip(
            self._places or [], self.columns_, values.T, strict=True
        ):
            fills[:, place] = encoding.decoded(model, column)
        most = np.finfo(dtype).max
        fills = np.clip(fills, -most, most)  # a free fill may be too large for the type
        filled = np.where(incomplete.missing, fills, filled).astype(dtype)
        filled = filled[:, self._returned_places]
        if self.add_indicator:
            filled = np.hstack([filled, indicators.astype(dtype)])
        return filled

    @property
    def _returned_places(self) -> np.ndarray:
        """The positions of the columns that are returned."""
        if self._framed or self.keep_empty_features:
            return np.arange(self.n_features_in_)
        return np.flatnonzero(~self._empty)

    def _in_container(self, frame: Frame) -> Frame:
        """Return a data frame as one of the library that `set_output` chose."""
        from sklearn.utils._set_output import _get_output_config

        library = _get_output_config("transform", self)["dense"]
        if library == "default" or type(frame).__module__.split(".")[0] == library:
            return frame
        import narwhals

        native = narwhals.from_native(frame)
        return native.to_pandas() if library == "pandas" else native.to_polars()


def _as_numbers(column: Column) -> np.ndarray:
    """Return a column of a frame for a model that was fitted to an array."""
    if column.kind in ("number", "boolean", "empty"):
        return column.values
    raise InvalidValueError(
        f"column {column.name!r} is {column.says}, but the model was fitted to an array; "
        "give numbers, or fit it to a data frame"
    )


def _beside(frame: Frame, added: Mapping[str, np.ndarray]) -> Frame:
    """Return a frame with more columns after its own."""
    import narwhals

    native = narwhals.from_native(frame)
    if native.implementation.is_pandas():
        return frame.assign(**added)
    more = [
        narwhals.new_series(
            name, np.ascontiguousarray(values), backend=native.implementation
        )
        for name, values in added.items()
    ]
    return native.with_columns(*more).to_native()
