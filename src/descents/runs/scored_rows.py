"""The score of predictions on new rows whose target is in their table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descents.runs.apply_result import PredictionScore
from descents.statistics.confidence import wilson_interval
from descents.tables.levels import KnownLevels, coded, numbers_in
from descents.tables.typed_columns import Column

Scored = tuple[int, list[PredictionScore]]
"""The number of rows with a target, and the scores on them."""
UNSCORED: Scored = (0, [])


def score_classes(
    column: Column,
    predicted: np.ndarray,
    classes: Sequence[object],
    majority: int | None,
    *,
    balanced: bool,
) -> Scored:
    """Score predicted classes, each row counting once.

    Parameters
    ----------
    column : Column
        The target of the rows. A class that the network does not know is as good as a
        wrong one.
    predicted : int ndarray of shape (rows,)
        Positions in `classes`.
    classes : sequence
    majority : int or None
        The most frequent class of the fit; None if it is not known.
    balanced : bool
        Whether balanced accuracy is scored too.
    """
    if column.kind == "empty":
        return UNSCORED
    codes, unseen = coded(column, KnownLevels(tuple(classes)))
    if unseen:
        codes = np.where(
            np.isnan(codes) & ~np.isnan(column.values), len(classes), codes
        )
    rows = np.flatnonzero(~np.isnan(codes))
    if not len(rows):
        return UNSCORED
    true, own = codes[rows].astype(np.int64), predicted[rows]
    right = int((true == own).sum())
    scores = [
        PredictionScore(
            metric="accuracy",
            value=right / len(rows),
            interval=list(wilson_interval(right, len(rows))),
            constant=None if majority is None else float((true == majority).mean()),
        )
    ]
    if balanced:
        seen = np.unique(true)
        recalls = [float((own[true == one] == one).mean()) for one in seen]
        constant = None if majority is None else float(majority in seen) / len(seen)
        scores.append(
            PredictionScore(
                metric="balanced_accuracy",
                value=float(np.mean(recalls)),
                constant=constant,
            )
        )
    return len(rows), scores


def score_numbers(column: Column, predicted: np.ndarray, mean: float) -> Scored | None:
    """Score predicted numbers by R² and RMSE; None if the column has no numbers.

    Parameters
    ----------
    column : Column
        The target of the rows.
    predicted : ndarray of shape (rows,)
    mean : float
        The mean of the target in the fit, which is the constant prediction.
    """
    numbers = (
        column.values if column.kind in ("number", "empty") else numbers_in(column)
    )
    if numbers is None:
        return None
    rows = np.flatnonzero(~np.isnan(numbers))
    if not len(rows):
        return UNSCORED
    true = np.asarray(numbers[rows], np.float64)
    squares = [
        float(np.square(true - each).mean())
        for each in (np.asarray(predicted[rows], np.float64), mean)
    ]
    scores = []
    variance = float(true.var())
    if np.ptp(true) > 0:  # R² is a share of the variance
        value, constant = (1 - square / variance for square in squares)
        scores.append(PredictionScore(metric="r2", value=value, constant=constant))
    value, constant = (square**0.5 for square in squares)
    scores.append(PredictionScore(metric="rmse", value=value, constant=constant))
    return len(rows), scores
