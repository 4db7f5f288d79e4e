"""Forests that improve the predictions of a Gaussian model.

The Gaussian model is linear in its features. Here a forest for each column with missing
cells predicts the residuals of the observed cells, which the model predicts from the other
cells of their rows. Out-of-bag predictions determine how both are combined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from descents.marginal.features import Features, LevelFeatures
from descents.marginal.forests import Forest
from descents.marginal.posterior import Cells, Gaussian, RowsModel
from descents.marginal.wide import ColumnsModel

TREES = 100
LEAST_LEAF = 2
SHARE_OF_FEATURES = 0.5
"""Number of trees of each forest, fewest rows of a leaf, and share of the features that are
tried at each split."""
LEAST_ROWS = 20
"""Fewest observed cells of a column that has a forest."""
LEAST_PROBABILITY = 1e-3
"""The smallest probability whose logarithm is taken when combinations are compared."""
BLENDS = np.linspace(0, 1, 11)
"""Candidates for the share of the forest in the probabilities of levels."""

Watch = Callable[[int, int], None]
"""Called with the number of columns that are finished, and that of all columns."""


@dataclass(frozen=True, eq=False)
class Readout:
    """The forest of a column, and its share of the prediction.

    Attributes
    ----------
    forest : Forest
        It predicts residuals of numbers over the spread of their column, or levels.
    share : float
        For numbers, the factor of its prediction of the residual; for levels, the weight
        of its probabilities.
    left : float
        The variance after the refinement over the variance of the residuals; 1 for levels.
    """

    forest: Forest
    share: float
    left: float


@dataclass(frozen=True, eq=False)
class RefinedModel:
    """A Gaussian model with readouts of columns.

    Attributes
    ----------
    model : RowsModel or ColumnsModel
    readouts : dict
        The forests by the position of their column; other columns have only the model.
    """

    model: RowsModel | ColumnsModel
    readouts: dict[int, Readout]

    @property
    def features(self) -> Features:
        """The features of the Gaussian model."""
        return self.model.features

    @property
    def gaussian(self) -> Gaussian:
        """The distribution of the Gaussian model."""
        return self.model.gaussian

    def drawn(self, codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a table with missing cells drawn from the Gaussian model alone."""
        return self.model.drawn(codes, generator)

    def without(self, columns: np.ndarray) -> RefinedModel:
        """Return the model without the forests of some columns, given as a mask."""
        kept = {p: one for p, one in self.readouts.items() if not columns[p]}
        return replace(self, readouts=kept)

    def predicted(self, codes: np.ndarray) -> Cells:
        """Return the predictions of the model and the forests for the missing cells."""
        found = self.model.predicted(codes)
        values, std = found.values.copy(), found.deviations.copy()
        probabilities = dict(found.probabilities)
        for place, readout in self.readouts.items():
            rows = np.flatnonzero(np.isnan(codes[:, place]))
            if not len(rows):
                continue
            column = self.features.columns[place]
            design = _design(found, codes, self.features, place)[rows]
            if isinstance(column, LevelFeatures):
                chances = found.probabilities[place].copy()
                chances[rows] = _blended(
                    chances[rows], readout.forest.predict(design), readout.share
                )
                probabilities[place] = chances
                values[rows, place] = chances[rows].argmax(1)
            else:
                residuals = column.spread * readout.forest.predict(design)[:, 0]
                values[rows, place] += readout.share * residuals
                std[rows, place] *= np.sqrt(readout.left)
        return replace(
            found, values=values, deviations=std, probabilities=probabilities
        )


def refined(
    model: RowsModel | ColumnsModel,
    codes: np.ndarray,
    seed: int,
    wanted: np.ndarray | None = None,
    watch: Watch | None = None,
) -> RefinedModel:
    """Return a model with readouts of the columns that have missing cells.

    The training rows of a column are those where it is observed. The model predicts the
    column, and the other missing cells of these rows, from the other observed cells. These
    cells and predictions are the features of a forest of extremely randomized trees [1]_.

    Parameters
    ----------
    model : RowsModel or ColumnsModel
    codes : float64 ndarray of shape (n, p)
        The table of the fit.
    seed : int
    wanted : bool ndarray of shape (p,), optional
        The columns, by default those with missing cells.
    watch : callable, optional
        ``watch(done, count)`` is called after each column.

    References
    ----------
    .. [1] Geurts, Ernst and Wehenkel (2006), "Extremely randomized trees", Machine
       Learning 63.

    Examples
    --------
    >>> from descents.marginal.model import fit
    >>> x = np.random.default_rng(0).uniform(-3, 3, 400)
    >>> codes = np.column_stack([x, np.abs(np.sin(2 * x))])
    >>> truth = codes[:100, 1].copy()
    >>> codes[:100, 1] = np.nan
    >>> found = fit(codes, np.zeros(2, int))
    >>> better = refined(found.model, codes, seed=0)
    >>> off = [np.std(m.predicted(codes).values[:100, 1] - truth) for m in (found, better)]
    >>> bool(off[1] < 0.5 * off[0])
    True
    """
    lacking = np.isnan(codes)
    some = lacking.any(0) if wanted is None else wanted
    places = [
        int(place)
        for place in np.flatnonzero(some)
        if (~lacking[:, place]).sum() >= LEAST_ROWS
    ]
    readouts = {}
    for done, place in enumerate(places):
        readout = _readout(model, codes, place, seed)
        if readout is not None:
            readouts[place] = readout
        if watch is not None:
            watch(done + 1, len(places))
    return RefinedModel(model, readouts)


def _readout(
    model: RowsModel | ColumnsModel, codes: np.ndarray, place: int, seed: int
) -> Readout | None:
    """Return the readout of a column, or None if it does not improve predictions."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    rows = np.flatnonzero(~np.isnan(codes[:, place]))
    truth = codes[rows, place]
    if len(np.unique(truth)) < 2:
        return None
    without = codes.copy()
    without[:, place] = np.nan
    found = model.predicted(without)
    design = _design(found, without, model.features, place)[rows]
    options = {
        "n_estimators": TREES,
        "min_samples_leaf": LEAST_LEAF,
        "max_features": SHARE_OF_FEATURES,
        "bootstrap": True,
        "oob_score": True,
        "random_state": (seed + place) % 2**32,
    }
    column = model.features.columns[place]
    if isinstance(column, LevelFeatures):
        classifier = ExtraTreesClassifier(**options).fit(design, truth.astype(np.int64))
        chances = np.zeros((len(rows), column.width))
        chances[:, classifier.classes_] = classifier.oob_decision_function_
        seen = np.isfinite(chances).all(1)
        own, true = found.probabilities[place][rows][seen], truth[seen].astype(np.int64)
        losses = [
            -np.log(
                np.maximum(
                    _blended(own, chances[seen], share)[np.arange(len(true)), true],
                    LEAST_PROBABILITY,
                )
            ).mean()
            for share in BLENDS
        ]
        share = float(BLENDS[int(np.argmin(losses))])
        forest = Forest.of(classifier, column.width)
        return Readout(forest, share, 1.0) if share else None
    # Features and targets are in units of the spread of their column, because scikit-learn
    # does not split those that vary too little.
    residuals = (truth - found.values[rows, place]) / column.spread
    regressor = ExtraTreesRegressor(**options).fit(design, residuals)
    guess = regressor.oob_prediction_
    seen = np.isfinite(guess)
    square = float(guess[seen] @ guess[seen])
    if square <= 0:
        return None
    # The least-squares coefficient of the prediction, clipped to [0, 1].
    share = float(np.clip(guess[seen] @ residuals[seen] / square, 0, 1))
    after = residuals[seen] - share * guess[seen]
    total = float(np.square(residuals[seen]).sum())
    left = float(np.square(after).sum()) / total if total > 0 else 1.0
    return Readout(Forest.of(regressor), share, min(left, 1.0)) if share else None


def _design(
    found: Cells, codes: np.ndarray, features: Features, place: int
) -> np.ndarray:
    """Return the features of each row for the forest of a column.

    These are numbers, observed or predicted, and the indicators or the probabilities of
    levels. The column itself is always predicted.
    """
    parts = []
    for other, column in enumerate(features.columns):
        if isinstance(column, LevelFeatures) and other in found.probabilities:
            known = column.encoded(codes[:, other])
            mine = found.probabilities[other]
            parts.append(np.where(np.isnan(known), mine, known))
        elif isinstance(column, LevelFeatures):
            parts.append(column.encoded(codes[:, other]))
        else:
            parts.append((found.values[:, [other]] - column.center) / column.spread)
    return np.nan_to_num(np.concatenate(parts, axis=1))


def _blended(own: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """Return the weighted mean of probabilities, with a weight for `others`."""
    return (1 - share) * own + share * others
