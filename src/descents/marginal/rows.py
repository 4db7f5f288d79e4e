"""The rows of a table that models are fitted to, which processes may share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from descents.marginal.features import Features, features_of
from descents.marginal.held_out import HeldOut, of_hidden
from descents.marginal.posterior import RowsModel
from descents.marginal.refinement import RefinedModel
from descents.marginal.wide import ColumnsModel
from descents.optim.collective import ALONE, Collective

Model = RowsModel | ColumnsModel | RefinedModel


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table that models are fitted to.

    Attributes
    ----------
    codes : float64 ndarray of shape (n, p)
        Numbers, and codes of levels; NaN where missing.
    levels : int64 ndarray of shape (p,)
        Number of levels of each column; 0 for numbers.
    weights : ndarray of shape (n,) or None
        Weights of the rows.
    together : Collective
        Processes that share the table, of which each has some rows.
    """

    codes: np.ndarray
    levels: np.ndarray
    weights: np.ndarray | None = None
    together: Collective = ALONE

    def without(self, hidden: np.ndarray) -> Rows:
        """Return the rows without the cells in a mask."""
        return replace(self, codes=np.where(hidden, np.nan, self.codes))

    def features(self, *, plain: bool) -> Features:
        """Return the features of the columns, as `features_of` chooses them."""
        return features_of(
            self.codes, self.levels, self.weights, plain=plain, together=self.together
        )

    def of_hidden(
        self, model: Model, features: Features, hidden: np.ndarray, whole: Features
    ) -> HeldOut:
        """Return the predictions of a model of the other cells for those in a mask."""
        shown = self.without(hidden).codes
        found = of_hidden(model, features, self.codes, shown, hidden, whole)
        return HeldOut.joined(self.together.each(found))
