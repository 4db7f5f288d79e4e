"""Takes the table that an estimator gets: an array, a sparse array or a data frame."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descents.cells import columns, encoding
from descents.cells.columns import ColumnModel
from descents.cells.observed import named_all
from descents.errors import Complaints, InvalidValueError
from descents.losses import Loss, get_loss
from descents.tables.blocks import TableOnDisk
from descents.tables.frames import arrow_cells, library_of
from descents.tables.tables import Table, from_frame
from descents.tables.unseen import Unseen, known_only
from descents.text import counted

if TYPE_CHECKING:
    from numpy.random import RandomState
    from numpy.typing import ArrayLike
    from scipy.sparse import sparray

Precision = type[np.float32] | type[np.float64]


class ReadsTables:
    """Base of estimators that take a table with a loss for each column.

    Attributes
    ----------
    loss, unseen
        As `descents.LowRankModel` takes them.
    columns_ : list of ColumnModel
        The loss of each column and why, and the levels that its codes represent.
    """

    loss: Any
    unseen: str
    columns_: list[ColumnModel]
    n_features_in_: int
    feature_names_in_: np.ndarray
    _places: list[int] | None = None
    """The positions of the columns of the model among those of the table of the fit."""
    _kind: Precision | None = None
    """The type of scores that are returned for the data frame of the fit."""

    def _validated(self, X: Any, *, reset: bool, **settings: object) -> Any:
        """Return an array as scikit-learn validates it.

        Here it is returned unchanged, because a reader has already validated it.
        Estimators override this.
        """
        if reset:
            self.n_features_in_ = X.shape[1]
        return X

    def _check_fitted(self) -> None:
        """Raise scikit-learn's error if there is no fit."""
        if not hasattr(self, "fitted_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet; call fit with a table "
                "first"
            )

    def _read(
        self,
        X: object,
        *,
        reset: bool,
        weights: np.ndarray | sparray | None = None,
    ) -> tuple[Table | None, Any]:
        """Return the table of a data frame, and its values as numbers and codes.

        Parameters
        ----------
        X : array-like, sparse array, data frame, Table or TableOnDisk
        reset : bool
            Whether this is the table of the fit, which determines the columns.
        weights : ndarray or sparse array, optional
            Levels that occur only where the weight is 0 get no code.

        Returns
        -------
        table : Table or None
            None unless X is a data frame or a Table.
        values : ndarray, sparse array or TableOnDisk
        """
        X = plain_array(X)
        if reset:
            self._places, self._kind = None, None
        if isinstance(X, TableOnDisk):
            return None, self._read_from_disk(X, reset=reset)
        if isinstance(X, Table) or is_frame(X):
            table = self._read_frame(X, reset=reset, weights=weights)
            return table, self._codes_of_table(table)
        clean = self._clean(X, reset=reset)
        if not reset:
            clean = self._of_model(clean)
        if hasattr(clean, "tocsr"):
            if reset:
                self._take_sparse_columns(clean)
            return None, clean
        if reset:
            names = self._names(clean.shape[1])
            clean = _without_weightless(clean, weights)
            self.columns_ = columns.of_matrix(clean, self._losses(names), names)
        if not any(column.levels for column in self.columns_):
            return None, clean
        if reset:
            self._check_whole(X)
        return None, self._codes_of_array(clean)

    def _take_sparse_columns(self, X: sparray) -> None:
        """Choose the losses of the columns of a sparse table."""
        loss = "squared" if isinstance(self.loss, str | dict) else self.loss
        if isinstance(self.loss, str) and self.loss != "auto":
            loss = self.loss
        losses = [one.of_values(X.data) for one in named_all(loss, X.shape[1])]
        self.columns_ = [
            ColumnModel(name, one, (), "stored numbers")
            for name, one in zip(self._names(X.shape[1]), losses, strict=True)
        ]

    def _read_frame(
        self, X: object, *, reset: bool, weights: np.ndarray | sparray | None
    ) -> Table:
        """Return the table of a data frame, or a table that was read."""
        table = X if isinstance(X, Table) else from_frame(X)
        if not isinstance(X, Table):
            self._validated(X, reset=reset, skip_check_array=True)
        elif reset:
            names = [column.name for column in X.columns]
            self.feature_names_in_ = np.array(names, dtype=object)
            self.n_features_in_ = len(names)
        if reset:
            dense = None if weights is None else _dense(weights)
            self.columns_ = columns.of_table(table, self.loss, dense)
            if not self.columns_ or not table.rows:
                raise InvalidValueError(
                    f"the table has {counted(table.rows, 'row')} and "
                    f"{counted(len(table.columns), 'column')}, none of which can be used; "
                    "give one that has some"
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
        """Return an array or a sparse array of floats; masked cells are NaN."""
        if np.ma.isMaskedArray(X) and X.dtype.kind in "biuf":
            X = np.ma.filled(X.astype(result_type(X)), np.nan)
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
                part, other = encoding.looked_up(column, part)
            if other is not None:
                unseen.append(other)
                says = f"{other.says}; {encoding.UNSEEN}"
                complaints.require(self.unseen == "missing", says)
            parts.append(part)
        complaints.raise_any()
        self._warn_of_unseen(unseen)
        return np.column_stack(parts)

    def _check_whole(self, X: object) -> None:
        """Raise an error if different levels of an array are equal as float64."""
        if not isinstance(X, np.ndarray) or X.dtype.kind not in "iu":
            return
        names = [
            column.name
            for j, column in enumerate(self.columns_)
            if column.levels and len(column.levels) < len(np.unique(X[:, j]))
        ]
        if names:
            raise InvalidValueError(
                f"{'columns' if len(names) > 1 else 'column'} "
                f"{', '.join(map(repr, names[:5]))} "
                f"{'hold' if len(names) > 1 else 'holds'} whole numbers beyond "
                "2**53 as levels, some of which are the same as floats; give a data frame"
            )

    def _warn_of_unseen(self, unseen: Sequence[Unseen]) -> None:
        for one in unseen:
            warnings.warn(f"{one.says}; read as missing", UserWarning, stacklevel=4)

    def _read_from_disk(self, X: TableOnDisk, *, reset: bool) -> TableOnDisk:
        """Return a table on disk with the columns of the model."""
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
                f"the table has {counted(X.shape[1], 'column')}, but the model was "
                f"fitted with {self.n_features_in_}; give a table of the same columns"
            )
        elif self._has_dropped:
            return X.of_columns([X.names[place] for place in self._places or []])
        return X

    @property
    def _has_dropped(self) -> bool:
        """Whether the model lacks columns of the fit because these had no data."""
        places = self._places
        return places is not None and len(places) < self.n_features_in_

    def _of_model(self, X: Any) -> Any:
        """Return the modeled columns of an array with as many columns as the fit."""
        if self._has_dropped and X.shape[1] == self.n_features_in_:
            return X[:, self._places]
        return X

    def _of_fit(self, filled: np.ndarray) -> np.ndarray:
        """Return modeled columns in their positions in the fit; the others are NaN."""
        if not self._has_dropped:
            return filled
        wide = np.full((len(filled), self.n_features_in_), np.nan, dtype=filled.dtype)
        wide[:, self._places] = filled
        return wide

    @property
    def _modeled(self) -> np.ndarray:
        """Whether each column of the fit had data, and so is modeled."""
        modeled = np.zeros(self.n_features_in_, dtype=bool)
        modeled[self._places if self._has_dropped else slice(None)] = True
        return modeled

    def _names(self, count: int) -> list[str]:
        given = getattr(self, "feature_names_in_", None)
        return [f"x{j}" for j in range(count)] if given is None else list(given)

    def _losses(self, names: Sequence[str]) -> list[Loss]:
        """Return the loss of each column of an array."""
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
        """Return the columns of the model as numbers and codes."""
        complaints = Complaints()
        parts = [
            complaints.attempt(encoding.encoded, model, table.column(model.name))
            for model in self.columns_
        ]
        complaints.raise_any()
        return np.column_stack(parts)


def plain_array(X: object) -> Any:
    """Return a torch tensor as a numpy or scipy.sparse array, other values unchanged.

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


def result_type(X: object, table: Table | None = None) -> Precision:
    """Return float32 if all values are floats of at most 32 bits, else float64.

    Parameters
    ----------
    X : array-like or data frame
    table : Table, optional
        The table of a data frame.

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


def seed_of(random_state: int | RandomState | None) -> int:
    """Return a seed; if there is none, a new one that leaves numpy's global stream alone."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, int) and random_state >= 0:
        return random_state
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))


def convergence_warning() -> type[Warning]:
    """Return scikit-learn's class, which takes long to import, at the first warning."""
    from sklearn.exceptions import ConvergenceWarning

    return ConvergenceWarning


def checked_weights(given: ArrayLike | sparray | None) -> Any:
    """Return weights as a float64 array; sparse weights and None are unchanged."""
    given = plain_array(given)
    if given is None or hasattr(given, "tocsr"):
        return given
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"weights hold other than numbers ({error}); give numbers of at least 0"
        ) from None


def _dense(weights: np.ndarray | sparray) -> np.ndarray:
    """Return weights as a dense array."""
    dense: np.ndarray = weights.toarray() if hasattr(weights, "toarray") else weights
    return dense


def _without_weightless(
    X: np.ndarray, weights: np.ndarray | sparray | None
) -> np.ndarray:
    """Return an array with NaN where the weight is 0, so that no level gets a code there."""
    if weights is None:
        return X
    dense = _dense(weights)
    # Weights of another shape are refused where all weights are checked.
    return np.where(dense == 0, np.nan, X) if dense.shape == X.shape else X


def is_frame(X: object) -> bool:
    """Return whether X is a pandas or polars data frame, or a pyarrow table.

    Examples
    --------
    >>> is_frame(np.zeros((1, 1)))
    False
    """
    return library_of(X) is not None
