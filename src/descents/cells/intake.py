"""How an estimator takes a table in: arrays, sparse arrays and data frames."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from descents.cells import columns
from descents.cells.columns import ColumnModel
from descents.cells.observed import named_all
from descents.errors import Complaints, InvalidValueError
from descents.losses import get_loss
from descents.tables.blocks import TableOnDisk
from descents.tables.frames import arrow_cells
from descents.tables.levels import Unseen, known_only
from descents.tables.tables import Table, from_frame
from descents.text import counted


class ReadsTables:
    """What an estimator has that takes a table with a loss for each column.

    Attributes
    ----------
    loss, unseen
        As `descents.LowRankModel` takes them.
    columns_ : list of ColumnModel
        The loss of each column and why, and the levels that its codes stand for.
    """

    loss: Any
    unseen: str
    columns_: list[ColumnModel]
    n_features_in_: int
    feature_names_in_: np.ndarray
    _places: list[int] | None = None
    """Where the columns of the model are among those of the table of the fit."""
    _kind: Any = None
    """In what the scores of the frame of the fit are returned, float32 or float64."""

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

    def _read(
        self, X: Any, *, reset: bool, weights: Any = None
    ) -> tuple[Table | None, Any]:
        """Return the table of a data frame, and its values as numbers and codes."""
        X = plain_array(X)
        if reset:
            self._places, self._kind = None, None
        if isinstance(X, TableOnDisk):
            return None, self._read_from_disk(X, reset=reset)
        if isinstance(X, Table) or is_frame(X):
            table = self._read_frame(X, reset=reset, weights=weights)
            return table, self._codes_of_table(table)
        given, X = X, self._clean(X, reset=reset)
        if not reset:
            X = self._of_model(X)
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
        if reset:
            self._check_whole(given)
        return None, self._codes_of_array(X)

    def _read_frame(self, X: Any, *, reset: bool, weights: Any) -> Table:
        """Return the columns of a data frame, or of a table that was read."""
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
                    f"the table has {counted(table.rows, 'row')} and {len(table.columns)} "
                    "columns, none of which can be used; give one that has some"
                )
            names = [column.name for column in table.columns]
            self._places = [names.index(column.name) for column in self.columns_]
            self._kind = result_type(X, table)
        elif self.unseen == "missing":
            known = {model.name: model.known for model in self.columns_}
            table, unseen = known_only(table, known, None)
            self._warn_of_unseen(unseen)
        return table

    def _clean(self, X: Any, *, reset: bool) -> Any:
        """Return an array or sparse table of floats; masked cells are NaN."""
        if np.ma.isMaskedArray(X) and X.dtype.kind in "biuf":
            kind = np.float32 if X.dtype == np.float32 else np.float64
            X = np.ma.filled(X.astype(kind), np.nan)
        if getattr(getattr(X, "dtype", None), "kind", "f") == "O" and any(
            isinstance(cell, str) for cell in np.ravel(X)
        ):
            raise InvalidValueError(
                "X is an array with text in it; give a pandas or polars data frame, whose "
                "columns have types of their own"
            )
        try:
            return self._validated(
                X,
                reset=reset,
                dtype=[np.float64, np.float32],
                accept_sparse="csr",
                ensure_all_finite="allow-nan",
            )
        except ValueError as error:
            if not str(error).startswith("could not convert string"):
                raise
            reason = re.sub(r"np\.str_\((.*)\)", r"\1", str(error))
            raise InvalidValueError(
                f"X holds text ({reason}); give a pandas or polars data frame, whose "
                "columns have types of their own"
            ) from None

    def _codes_of_array(self, X: np.ndarray) -> np.ndarray:
        """Return an array with the levels of its columns as codes."""
        complaints, unseen, parts = Complaints(), [], []
        for j, column in enumerate(self.columns_):
            part, other = X[:, j], None
            if column.levels:
                part, other = columns.looked_up(column, part)
            if other is not None:
                unseen.append(other)
                says = f"{other.says}; {columns.UNSEEN}"
                complaints.require(self.unseen == "missing", says)
            parts.append(part)
        complaints.raise_any()
        self._warn_of_unseen(unseen)
        return np.column_stack(parts)

    def _check_whole(self, X: Any) -> None:
        """Refuse levels of an array that float64, which it becomes, cannot separate."""
        if getattr(getattr(X, "dtype", None), "kind", "") not in "iu":
            return
        names = [
            column.name
            for j, column in enumerate(self.columns_)
            if column.levels and len(column.levels) < len(np.unique(X[:, j]))
        ]
        if names:
            raise InvalidValueError(
                f"{'columns' if len(names) > 1 else 'column'} {', '.join(map(repr, names[:5]))} "
                f"{'hold' if len(names) > 1 else 'holds'} whole numbers beyond "
                "2**53 as levels, some of which are the same as floats; give a data frame"
            )

    def _warn_of_unseen(self, unseen: Sequence[Unseen]) -> None:
        for one in unseen:
            warnings.warn(f"{one.says}; read as missing", UserWarning, stacklevel=4)

    def _read_from_disk(self, X: TableOnDisk, *, reset: bool) -> TableOnDisk:
        """Return a table on disk with the columns that the model has."""
        if reset:
            vars(self).pop("feature_names_in_", None)
            if X.named:
                self.feature_names_in_ = np.array(X.names, dtype=object)
            self.n_features_in_ = X.shape[1]
            self.columns_ = [
                ColumnModel(name, get_loss("squared"), (), "numbers")
                for name in self._names(X.shape[1])
            ]
        elif X.named and hasattr(self, "feature_names_in_"):
            return X.of_columns([column.name for column in self.columns_])
        elif X.shape[1] != self.n_features_in_:
            raise InvalidValueError(
                f"the table has {counted(X.shape[1], 'column')}, but the model was fitted with "
                f"{self.n_features_in_}; give a table of the same columns"
            )
        elif self._has_dropped:
            return X.of_columns([X.names[place] for place in self._places or []])
        return X

    @property
    def _has_dropped(self) -> bool:
        """Whether columns of the fit without any data have no part in the model."""
        places = self._places
        return places is not None and len(places) < self.n_features_in_

    def _of_model(self, X: Any) -> Any:
        """Return the columns of an array of as many as the fit had that are modeled."""
        if self._has_dropped and X.shape[1] == self.n_features_in_:
            return X[:, self._places]
        return X

    def _of_fit(self, filled: np.ndarray) -> np.ndarray:
        """Return modeled columns among those of the fit, the others all NaN."""
        if not self._has_dropped:
            return filled
        wide = np.full((len(filled), self.n_features_in_), np.nan, dtype=filled.dtype)
        wide[:, self._places] = filled
        return wide

    @property
    def _modeled(self) -> np.ndarray:
        """Which columns of the table of the fit are modeled, as they had data."""
        modeled = np.zeros(self.n_features_in_, dtype=bool)
        modeled[self._places if self._has_dropped else slice(None)] = True
        return modeled

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
        return [get_loss(self.loss.get(name, "squared")) for name in names]

    def _codes_of_table(self, table: Table) -> np.ndarray:
        complaints = Complaints()
        parts = [
            complaints.attempt(columns.encoded, model, table.column(model.name))
            for model in self.columns_
        ]
        complaints.raise_any()
        return np.column_stack(parts)


def plain_array(X: Any) -> Any:
    """Return a torch tensor as a numpy array or a scipy.sparse one, all else as it is.

    Examples
    --------
    >>> import torch
    >>> plain_array(torch.ones(1, 2, requires_grad=True))
    array([[1., 1.]], dtype=float32)
    """
    if not isinstance(X, torch.Tensor):
        return X
    tensor = X.detach().cpu()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    if tensor.layout == torch.strided:
        return tensor.resolve_conj().resolve_neg().numpy()
    from scipy.sparse import coo_array

    tensor = tensor.to_sparse().coalesce()
    if tensor.ndim != 2:
        raise InvalidValueError(
            f"X is a sparse tensor of shape {tuple(tensor.shape)}; give one of two "
            "dimensions"
        )
    places = tuple(tensor.indices().numpy())
    return coo_array((tensor.values().numpy(), places), shape=tuple(X.shape)).tocsr()


def result_type(X: Any, table: Table | None = None) -> Any:
    """Return float32 where what was given has no more digits, else float64.

    Parameters
    ----------
    X : array-like or data frame
    table : Table, optional
        That of a frame.

    Examples
    --------
    >>> result_type(np.zeros(3, np.float32)), result_type([1.0])
    (<class 'numpy.float32'>, <class 'numpy.float64'>)
    """
    if table is not None:
        from pyarrow import types

        of_frame = table.source.dialect is None
        places = range(len(table.source.names)) if of_frame else ()
        kinds = [arrow_cells(table.source, place)[0].type for place in places]
        small = bool(kinds) and all(
            types.is_float32(kind) or types.is_float16(kind) for kind in kinds
        )
        return np.float32 if small else np.float64
    return np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64


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
    given = plain_array(given)
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


def is_frame(X: Any) -> bool:
    """Return whether X is a data frame of a library that is known.

    Examples
    --------
    >>> is_frame(np.zeros((1, 1)))
    False
    """
    if isinstance(X, np.ndarray | list | tuple) or hasattr(X, "tocsr"):
        return False
    import narwhals

    return bool(narwhals.dependencies.is_into_dataframe(X))
