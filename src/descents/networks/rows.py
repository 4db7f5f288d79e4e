"""The rows that a network learns from, validated as scikit-learn does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from descents.cells.intake import plain_array
from descents.errors import InvalidValueError
from descents.networks.labeled import of_mean_one
from descents.storage.values import plain


@dataclass(frozen=True)
class LabeledRows:
    """Rows with a class or with numbers to predict.

    Attributes
    ----------
    X : float32 or float64 ndarray of shape (rows, features)
    y : ndarray of shape (rows,) or (rows, outputs)
        Classes as indices of `classes`, or numbers.
    classes : ndarray of shape (classes,) or None
        The classes in rising order; None for numbers.
    weights : ndarray of shape (rows,) or None
    names : tuple of str
        The names of the features; empty if X had none.
    """

    X: np.ndarray
    y: np.ndarray
    classes: np.ndarray | None = None
    weights: np.ndarray | None = None
    names: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """Whether there is one class or number per row, in one dimension."""
        return self.y.ndim == 1


def labeled_rows(
    X: object,
    y: object,
    task: str = "classification",
    sample_weight: object = None,
    *,
    estimator: BaseEstimator | None = None,
) -> LabeledRows:
    """Validate rows, targets and weights.

    Parameters
    ----------
    X : array-like or data frame of shape (rows, features)
    y : array-like of shape (rows,), for regression also (rows, outputs)
    task : {"classification", "regression"}
    sample_weight : array-like of shape (rows,), optional
    estimator : BaseEstimator, optional
        The estimator that is fitted. It gets ``n_features_in_`` and, if X has column
        names, ``feature_names_in_``; messages name its class.

    Raises
    ------
    InvalidValueError
        If labels cannot be sorted, or y has only one class.
    ValueError
        Of scikit-learn, if X, y or the weights are invalid.

    Examples
    --------
    >>> rows = labeled_rows([[0.0], [1.0]], ["no", "yes"])
    >>> rows.y, rows.classes
    (array([0, 1]), array(['no', 'yes'], dtype='<U3'))
    """
    reader = _Reader() if estimator is None else estimator
    X, y, sample_weight = (plain_array(part) for part in (X, y, sample_weight))
    y = exact_target(y)
    numbers = (
        {} if task == "classification" else {"multi_output": True, "y_numeric": True}
    )
    features, target = validate_data(
        reader, X, y, dtype=[np.float64, np.float32], **numbers
    )
    classes = weights = None
    if task == "classification":
        classes, target = _coded(target)
    if sample_weight is not None:
        weights = _check_sample_weight(
            sample_weight, features, ensure_non_negative=True
        )
        weights = of_mean_one(weights)
    names = tuple(getattr(reader, "feature_names_in_", ()))
    return LabeledRows(features, target, classes, weights, names)


class _Nullable(Protocol):
    """What of a pandas series, index, array or frame is used."""

    def isna(self) -> np.ndarray: ...

    def to_numpy(self, dtype: np.dtype) -> np.ndarray: ...


def exact_target(y: object) -> object:
    """Return nullable and arrow integers and booleans of pandas as plain arrays.

    scikit-learn converts them to float64, in which large integers are no longer distinct.
    A target with missing values, or of another type, is returned unchanged.

    Examples
    --------
    >>> import pandas as pd
    >>> exact_target(pd.Series([2**53, 2**53 + 1], dtype="Int64"))
    array([9007199254740992, 9007199254740993])
    """
    kinds = getattr(y, "dtypes", None) if getattr(y, "ndim", 0) == 2 else None
    kinds = [getattr(y, "dtype", None)] if kinds is None else list(kinds)
    found = {getattr(kind, "kind", "") for kind in kinds}
    extended = any(hasattr(kind, "na_value") for kind in kinds)
    if not extended or not found or not found <= set("iub") or len(found) > 1:
        return y
    table = cast(_Nullable, y)
    if np.any(table.isna()):
        return y
    return table.to_numpy(dtype=np.result_type(*(kind.numpy_dtype for kind in kinds)))


def _coded(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes in rising order, and each row's class as an index of them."""
    try:
        check_classification_targets(y)
        classes, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
    except TypeError:
        kinds = sorted({type(label).__name__ for label in np.ravel(y)})
        raise InvalidValueError(
            f"y contains labels that cannot be sorted, of types {', '.join(kinds)}; "
            "give labels of one type, and leave out rows without a label"
        ) from None
    if len(classes) < 2:
        raise InvalidValueError(
            f"y contains only one class, {plain(classes[0])!r}; give at "
            "least two classes"
        )
    return classes, codes


class _Reader(BaseEstimator):
    """The estimator of rows that are read for no estimator."""
