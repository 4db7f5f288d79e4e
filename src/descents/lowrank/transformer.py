"""The low-rank model as a scikit-learn transformer.

The model itself does not use scikit-learn, because importing scikit-learn takes as long as
importing torch. A command that fits a table does not have to wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import validate_data

from descents.lowrank.matrices import Values
from descents.lowrank.model import LowRank
from descents.lowrank.shown import block_of
from descents.plots.estimators import ShownEstimator

if TYPE_CHECKING:
    from sklearn.utils import Tags


class LowRankModel(
    LowRank, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ShownEstimator
):
    """`LowRank` with the methods that scikit-learn requires."""

    __doc__ = LowRank.__doc__

    def __sklearn_tags__(self) -> Tags:
        """Return the scikit-learn tags: missing cells and sparse tables are supported."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _shown(self) -> str:
        """Return the HTML that a notebook shows of a fitted model."""
        return block_of(self.fitted_) if hasattr(self, "fitted_") else ""

    def _validated(self, X: object, *, reset: bool, **settings: object) -> Values:
        found: Values = validate_data(self, X, reset=reset, **settings)
        return found

    # scikit-learn's set_output wraps only methods that the class itself defines.

    def fit_transform(
        self, X: object, y: object = None, *, weights: object = None
    ) -> np.ndarray:
        """Fit the model and return the rows of the table in the space of the components.

        Parameters
        ----------
        X, y, weights
            See `fit`.

        Returns
        -------
        ndarray of shape (rows, n_components)
        """
        points = self.fit(X, y, weights=weights).embedding_
        return points if self._kind is None else points.astype(self._kind, copy=False)

    def transform(self, X: object) -> np.ndarray:
        """Return new rows in the space of the components.

        It minimizes the loss and the row penalty over the rows, with the parameters of
        the columns fixed. A row without observed cells is placed where the penalty is
        lowest. The constraint on U also applies to new rows, except that of columns of
        norm 1, which is a constraint on the rows of the fit. A smoothness penalty applies
        among the new rows, in the given order. If U has fixed values, a table with as
        many rows as that of the fit uses the same values; for other tables the fixed
        values must be equal in all rows.

        Parameters
        ----------
        X : array-like, sparse array, data frame or TableOnDisk, (rows, columns)
            Missing cells are allowed.

        Returns
        -------
        ndarray of shape (rows, n_components)
        """
        return super().transform(X)
