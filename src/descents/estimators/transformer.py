"""The low-rank model as a scikit-learn transformer.

The model itself does without scikit-learn, whose import takes as long as torch's: a
command that fits a table does not wait for it.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import validate_data

from descents.estimators.lowrank import LowRank


class LowRankModel(
    LowRank, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """As its core: what follows is for scikit-learn alone."""

    __doc__ = LowRank.__doc__

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks: holes and sparse tables are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validated(self, X: Any, **settings: Any) -> Any:
        return validate_data(self, X, **settings)

    # scikit-learn's set_output wraps what the class itself defines.

    def fit_transform(self, X: Any, y: Any = None, *, weights: Any = None) -> Any:
        """Fit, and return the rows of the table in the space of the components.

        Parameters
        ----------
        X, y, weights
            As `fit` takes them.

        Returns
        -------
        ndarray of shape (rows, n_components)
        """
        found = self.fit(X, y, weights=weights).embedding_
        return found if self._kind is None else found.astype(self._kind, copy=False)

    def transform(self, X: Any) -> Any:
        """Return new rows in the space of the components.

        Minimises the loss and the row penalty over the rows alone, with all that
        belongs to the columns held fixed; a row without observed cells is put where
        the penalty is least. The constraint of U holds for new rows too, save that of
        columns of norm 1, which is of the rows of the fit. Rows that are smooth are so
        among themselves, in the order given. Fixed values are those of the fit for a
        table of as many rows; for others they have to be the same in all rows.

        Parameters
        ----------
        X : array-like, sparse array, data frame or TableOnDisk, (rows, columns)
            Holes are allowed.

        Returns
        -------
        ndarray of shape (rows, n_components)
        """
        return super().transform(X)
