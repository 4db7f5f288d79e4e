"""How an estimator takes a table in: arrays, sparse arrays and data frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from descents.checks import Complaints, InvalidValueError
from descents.data.blocks import TableOnDisk
from descents.data.tables import Table, from_frame
from descents.losses import named
from descents.problems import columns
from descents.problems.cells import Cells
from descents.problems.columns import ColumnModel
from descents.problems.observed import named_all


class ReadsTables:
    """What an estimator has that takes a table with a loss for each column.

    Attributes
    ----------
    loss
        As `descents.LowRankModel` takes it.
    columns_ : list of ColumnModel
        The loss of each column and why, and the levels that its codes stand for.
    """

    loss: Any
    columns_: list[ColumnModel]
    n_features_in_: int
    feature_names_in_: np.ndarray
    _row_names: Sequence[str] | None = None
    """What a warning calls the rows of the table of the fit."""

    def _validated(self, X: Any, *, reset: bool, **settings: Any) -> Any:
        """Return an array as it is taken; here one that was read, and so is clean."""
        if reset:
            self.n_features_in_ = X.shape[1]
        return X

    def _check_fitted(self) -> None:
        if not hasattr(self, "fitted_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet; call fit with a table "
                "first"
            )

    def _read(  # noqa: PLR0912
        self, X: Any, *, reset: bool, weights: Any = None
    ) -> tuple[Table | None, Any]:
        """Return the table of a data frame, and its values as numbers and codes."""
        if isinstance(X, TableOnDisk):
            return None, self._read_from_disk(X, reset=reset)
        if isinstance(X, Table) or _is_frame(X):
            table = X if isinstance(X, Table) else from_frame(X)
            if not isinstance(X, Table):
                self._validated(X, reset=reset, skip_check_array=True)
            elif reset:
                names = [column.name for column in X.columns]
                self.feature_names_in_ = np.array(names, dtype=object)
                self.n_features_in_ = len(names)
            if reset:
                if hasattr(weights, "toarray"):
                    weights = weights.toarray()
                self.columns_ = columns.of_table(table, self.loss, weights)
                if not self.columns_ or not table.rows:
                    raise InvalidValueError(
                        f"the table has {table.rows} rows and {len(table.columns)} "
                        "columns, none of which can be used; give one that has some"
                    )
            return table, self._codes_of_table(table)
        if np.ma.isMaskedArray(X) and X.dtype.kind in "biuf":
            kind = np.float32 if X.dtype == np.float32 else np.float64
            X = np.ma.filled(X.astype(kind), np.nan)
        if getattr(X, "dtype", np.dtype(float)).kind == "O" and any(
            isinstance(cell, str) for cell in np.ravel(X)
        ):
            raise InvalidValueError(
                "X is an array of objects with text in it; give a pandas or polars data "
                "frame, whose columns have types of their own"
            )
        X = self._validated(
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            accept_sparse="csr",
            ensure_all_finite="allow-nan",
        )
        if hasattr(X, "tocsr"):
            if reset:
                loss = "squared" if isinstance(self.loss, str | dict) else self.loss
                if isinstance(self.loss, str) and self.loss != "auto":
                    loss = self.loss
                losses = named_all(loss, X.shape[1])
                losses = [one.of_values(X.data) for one in losses]
                names = self._names(X.shape[1])
                self.columns_ = [
                    ColumnModel(name, one, (), "stored numbers")
                    for name, one in zip(names, losses, strict=True)
                ]
            return None, X
        if reset:
            names = self._names(X.shape[1])
            X = _without_weightless(X, weights)
            self.columns_ = columns.of_matrix(X, self._losses(names), names)
        if not any(column.levels for column in self.columns_):
            return None, X
        complaints = Complaints()
        parts = [
            complaints.attempt(columns.coded, column, X[:, j])
            for j, column in enumerate(self.columns_)
        ]
        coded = [
            part if column.levels else X[:, j]
            for j, (column, part) in enumerate(zip(self.columns_, parts, strict=True))
        ]
        complaints.raise_any()
        return None, np.column_stack(coded)

    def _read_from_disk(self, X: TableOnDisk, *, reset: bool) -> TableOnDisk:
        """Return a table on disk with the columns that the model has."""
        if reset:
            vars(self).pop("feature_names_in_", None)
            if X.named:
                self.feature_names_in_ = np.array(X.names, dtype=object)
            self.n_features_in_ = X.shape[1]
            self.columns_ = [
                ColumnModel(name, named("squared"), (), "numbers")
                for name in self._names(X.shape[1])
            ]
        elif X.named and hasattr(self, "feature_names_in_"):
            return X.of_columns([column.name for column in self.columns_])
        elif X.shape[1] != self.n_features_in_:
            raise InvalidValueError(
                f"the table has {X.shape[1]} columns, but the model was fitted with "
                f"{self.n_features_in_}; give a table of the same columns"
            )
        return X

    def _weights_of_table(self, table: Table, weights: Any) -> Any:
        """Return the weights of the columns that have any data, and name the others."""
        names = [column.name for column in table.columns]
        kept = [names.index(column.name) for column in self.columns_]
        blank = [name for j, name in enumerate(names) if j not in kept]
        if blank:
            listed = ", ".join(blank[:5])
            warnings.warn(
                f"{len(blank)} column(s) have no observed cell ({listed}"
                f"{', ...' if len(blank) > 5 else ''}); they are left out, and stay "
                "missing",
                UserWarning,
                stacklevel=3,
            )
        if weights is None:
            return None
        given = weights.toarray() if hasattr(weights, "toarray") else weights
        if given.shape != (table.rows, len(names)):
            raise InvalidValueError(
                f"weights have shape {given.shape}; give the table's, "
                f"{(table.rows, len(names))}"
            )
        return given[:, kept]

    def _names(self, count: int) -> list[str]:
        given = getattr(self, "feature_names_in_", None)
        return [f"x{j}" for j in range(count)] if given is None else list(given)

    def _losses(self, names: Sequence[str]) -> list[Any]:
        if isinstance(self.loss, str) and self.loss == "auto":
            return named_all("squared", len(names))
        if not isinstance(self.loss, dict):
            return named_all(self.loss, len(names))
        unknown = [name for name in self.loss if name not in names]
        if unknown:
            raise InvalidValueError(
                f"loss names column {unknown[0]!r}, but the columns are "
                f"{', '.join(list(names)[:10])}; name those"
            )
        return [named(self.loss.get(name, "squared")) for name in names]

    def _codes_of_table(self, table: Table) -> np.ndarray:
        complaints = Complaints()
        parts = [
            complaints.attempt(columns.encoded, model, table.column(model.name))
            for model in self.columns_
        ]
        complaints.raise_any()
        return np.column_stack(parts)

    def _warn_of_blanks(
        self, found: Cells, offsets: str, smooth: tuple[bool, bool] = (False, False)
    ) -> None:
        """Name rows and columns without a cell, save those known from their neighbors."""
        by = {
            "rows": "by the biases of the rows",
            "both": "by the mean and the biases of the rows",
            "means": "by the mean of the other columns",
        }.get(offsets, "as 0")
        of_rows = "means" if offsets == "means" else "offsets"
        blank = np.flatnonzero(found.row_counts == 0)
        if len(blank) and not smooth[0]:
            names = self._row_names
            listed = ", ".join(str(i) if names is None else names[i] for i in blank[:5])
            warnings.warn(
                f"{len(blank)} row(s) have no observed cell ({listed}"
                f"{', ...' if len(blank) > 5 else ''}"
                f"{', 0-based' if names is None else ''}); nothing is known of them, and "
                f"they are predicted by the {of_rows} of the columns",
                UserWarning,
                stacklevel=3,
            )
        blank = np.flatnonzero(found.column_counts == 0)
        if len(blank) and not smooth[1]:
            listed = ", ".join(self.columns_[j].name for j in blank[:5])
            warnings.warn(
                f"{len(blank)} column(s) have no observed cell ({listed}"
                f"{', ...' if len(blank) > 5 else ''}); nothing is known of them, and "
                f"they are predicted {by}",
                UserWarning,
                stacklevel=3,
            )


def seed_of(random_state: Any) -> int:
    """Return a seed; without one, a fresh one, and not from numpy's global stream."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, int) and random_state >= 0:
        return random_state
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))


def convergence_warning() -> type[Warning]:
    """Return scikit-learn's class, which is imported when somebody is to be warned."""
    from sklearn.exceptions import ConvergenceWarning

    return ConvergenceWarning


def checked_weights(given: Any) -> Any:
    """Return weights as float64, or sparse as they are."""
    if given is None or hasattr(given, "tocsr"):
        return given
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"weights hold other than numbers ({error}); give numbers of at least 0"
        ) from None


def _without_weightless(X: np.ndarray, weights: Any) -> np.ndarray:
    """Return a matrix with NaN where the weight is zero: no level is known from there."""
    if weights is None:
        return X
    weights = weights.toarray() if hasattr(weights, "toarray") else weights
    # Weights of another shape are refused where all of them are looked at.
    return np.where(weights == 0, np.nan, X) if weights.shape == X.shape else X


def _is_frame(X: Any) -> bool:
    if isinstance(X, np.ndarray | list | tuple) or hasattr(X, "tocsr"):
        return False
    import narwhals

    return bool(narwhals.dependencies.is_into_dataframe(X))
