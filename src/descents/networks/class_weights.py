"""The weights of classes: a dict, or "balanced"."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from descents.errors import Complaints, InvalidValueError
from descents.storage.values import plain
from descents.validation import real_number

ClassWeight = Mapping[object, float] | str | None
"""Weights of the classes whose weight is not 1, "balanced", or None."""


def check_class_weight(class_weight: object) -> None:
    """Raise unless class_weight is a dict of weights, "balanced" or None.

    Examples
    --------
    >>> check_class_weight({"yes": 2.0})
    >>> check_class_weight("balanced")
    """
    complaints = Complaints()
    if isinstance(class_weight, Mapping):
        for name, weight in class_weight.items():
            what = f"class_weight of {plain(name)!r}"
            complaints.attempt(real_number, what, weight, 0)
    else:
        complaints.require(
            class_weight is None
            or (isinstance(class_weight, str) and class_weight == "balanced"),
            f"class_weight is {class_weight!r}; give None, 'balanced', or a dict with the "
            "weight of each class whose weight is not 1",
        )
    complaints.raise_any()


def weights_of_classes(
    class_weight: ClassWeight,
    classes: np.ndarray,
    codes: np.ndarray,
    row_weights: np.ndarray | None = None,
) -> np.ndarray | None:
    """Return the weight of each class, None if classes are not weighted.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        "balanced" counts rows by their weights.
    classes : ndarray of shape (classes,)
    codes : int ndarray of shape (rows,)
        The class of each row, as an index of `classes`.
    row_weights : ndarray of shape (rows,), optional

    Raises
    ------
    InvalidValueError
        If `class_weight` names a class that does not occur, and leaves one out that does.

    Examples
    --------
    >>> weights_of_classes("balanced", np.array(["a", "b"]), np.array([0, 0, 0, 1]))
    array([0.66666667, 2.        ])
    """
    if class_weight is None:
        return None
    balanced = isinstance(class_weight, str)
    if not isinstance(class_weight, str):
        unknown = [repr(name) for name in class_weight if name not in list(classes)]
        if unknown and any(name not in class_weight for name in classes):
            names = ", ".join(repr(plain(name)) for name in classes)
            raise InvalidValueError(
                f"class_weight names {', '.join(unknown)}, which y does not contain; "
                f"its classes are {names}"
            )
    totals = np.bincount(codes, row_weights, minlength=len(classes))
    if balanced and not totals.all():  # every row of some class has weight 0
        weights = np.ones(len(totals))
        positive = totals > 0
        weights[positive] = totals.sum() / (positive.sum() * totals[positive])
        return weights
    weights = compute_class_weight(
        class_weight, classes=classes, y=classes[codes], sample_weight=row_weights
    )
    return np.asarray(weights, np.float64)
