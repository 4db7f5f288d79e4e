"""The part of a stored estimator that all estimators of this room have in common."""

from __future__ import annotations

from typing import NotRequired, TypedDict, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from descents.marginal.ratings import RatingsFacts
from descents.storage.values import of_typed, typed

E = TypeVar("E", bound=BaseEstimator)


class EstimatorFacts(TypedDict):
    """The parameters and columns of a fitted estimator, as plain values."""

    model: str
    settings: object
    names: list[str]
    features_in: int


class ImputerFacts(EstimatorFacts):
    """What a file of an imputer contains beside arrays and the facts of its `TableModel`."""

    gap: float | None
    seed: int
    framed: bool
    empty: list[bool]
    indicated: list[int]
    places: list[int]
    reference: NotRequired[str | None]


class RatingsEstimatorFacts(EstimatorFacts, RatingsFacts):
    """What a file of `descents.LowRankRatings` contains beside arrays."""


def check_columns(facts: ImputerFacts) -> None:
    """Raise a ValueError if facts are of different numbers of columns."""
    columns = facts["features_in"]
    inside = all(0 <= place < columns for place in facts["indicated"])
    named = not facts["names"] or len(facts["names"]) == columns
    if not (inside and named and len(facts["empty"]) == columns):
        raise ValueError(f"its parts are not all of {columns} columns")


def facts_of(estimator: BaseEstimator, model: str, **changed: object) -> EstimatorFacts:
    """Return the parameters and the column names of a fitted estimator.

    Parameters
    ----------
    estimator : object
        A fitted estimator with a parameter ``random_state``. A generator as
        ``random_state`` is not stored.
    model : str
        The name of its class.
    **changed
        Parameters that are stored with another value than the estimator has.
    """
    settings = {**estimator.get_params(deep=False), **changed}
    if not isinstance(settings["random_state"], int | None):
        settings["random_state"] = None
    return {
        "model": model,
        "settings": typed(settings),
        "names": list(getattr(estimator, "feature_names_in_", [])),
        "features_in": estimator.n_features_in_,
    }


def unfitted(kind: type[E], facts: EstimatorFacts) -> E:
    """Return an estimator with the parameters and columns that `facts_of` returned."""
    estimator = kind(**of_typed(facts["settings"]))
    if facts["names"]:
        estimator.feature_names_in_ = np.array(facts["names"], dtype=object)
    estimator.n_features_in_ = facts["features_in"]
    return estimator
