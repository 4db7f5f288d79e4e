"""A table as the arrays that `descents train` learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from descents.errors import Complaints, InvalidValueError
from descents.networks.features import Features, Target
from descents.runs.network_options import NetworkOptions, class_weights
from descents.runs.request import Data
from descents.tables.tables import Table
from descents.tables.typed_columns import Column
from descents.text import counted


@dataclass(frozen=True)
class Prepared:
    """A table as arrays for a network.

    Attributes
    ----------
    X : float32 ndarray of shape (rows, features)
    y : ndarray of shape (rows,)
    features : Features
    target : Target
    without_target : int
        The number of rows that were left out because their target is missing.
    single : tuple of str
        The classes that have only one row.
    weights : ndarray of shape (rows,) or None
    """

    X: np.ndarray
    y: np.ndarray
    features: Features
    target: Target
    without_target: int
    single: tuple[str, ...] = ()
    weights: np.ndarray | None = None


def prepared(data: Data, options: NetworkOptions) -> Prepared:
    """Return features and target of a table.

    Raises
    ------
    InvalidValueError
        If the target column is missing or cannot be predicted, if no rows or features
        remain, or if the weight column contains invalid weights.
    """
    table = data.values
    if not isinstance(table, Table):
        raise InvalidValueError(
            "train needs a table with column names, but this one is sparse; give CSV, TSV "
            "or Parquet"
        )
    complaints = Complaints()
    column = complaints.attempt(table.column, options.target)
    weighted = None
    if options.weights is not None:
        weighted = complaints.attempt(table.column, options.weights)
        rest = (c for c in table.columns if c.name != options.weights)
        table = replace(table, columns=tuple(rest))
    has_target = np.ones(table.rows, dtype=bool)
    target, values = None, np.empty(0)
    if column is not None:
        found = complaints.attempt(Target.of_column, column, options.task)
        target, values = found or (None, column.values)
        has_target = ~np.isnan(values)
    weights = None
    if weighted is not None:
        weights = complaints.attempt(row_weights, weighted, has_target)
    training = _rows(table, has_target)
    features = complaints.attempt(Features.of_table, training, options.target)
    if target is not None:
        complaints.attempt(class_weights, options.class_weight, target)
    task = options.task if target is None else target.task
    complaints.attempt(options.check_metric, task)
    complaints.raise_any()
    assert target is not None  # noqa: S101  otherwise an error was raised
    X = features.encoded(training).astype(np.float32)
    single: tuple[str, ...] = ()
    if target.classes:
        y = values[has_target].astype(np.int64)
        counts = np.bincount(y)
        if len(y) < 2 * len(counts):
            raise InvalidValueError(
                f"there are {counted(len(y), 'row')} for "
                f"{counted(len(counts), 'class', 'classes')}; give at least two rows of "
                "each class, or --task regression"
            )
        single = tuple(str(target.classes[code]) for code in np.flatnonzero(counts < 2))
    else:
        y = ((values[has_target] - target.center) / target.spread).astype(np.float32)
    missing = int((~has_target).sum())
    return Prepared(X, y, features, target, missing, single, weights)


def row_weights(column: Column, kept: np.ndarray) -> np.ndarray:
    """Return the weights of the kept rows from the weight column.

    Raises
    ------
    InvalidValueError
        If the weight of a kept row is not a number of at least 0, or all weights are 0.
    """
    name = f"column {column.name!r} (--weights)"
    if column.kind != "number":
        raise InvalidValueError(
            f"{name} is {column.says}; give a column of numbers of at least 0"
        )
    weights = np.asarray(column.values, np.float64)
    wrong = np.flatnonzero(kept & ~(weights >= 0))
    if len(wrong):
        first = weights[wrong[0]]
        cell = "a missing cell" if np.isnan(first) else f"{first:g}"
        raise InvalidValueError(
            f"{name} has {cell} in row {wrong[0] + 1} (1-based), and in total "
            f"{counted(len(wrong), 'row')} without a weight of at least 0; give every row "
            "with a target a weight, 0 to leave it out"
        )
    if not weights[kept].any():
        raise InvalidValueError(
            f"{name} is 0 in all rows with a target; give some of them a weight above 0"
        )
    return weights[kept]


def _rows(table: Table, kept: np.ndarray) -> Table:
    """Return some rows of a table; the result must not be changed."""
    places = np.flatnonzero(kept)
    columns = tuple(
        replace(
            column,
            values=column.values[kept],
            cells=None if column.cells is None else column.cells.take(places),
        )
        for column in table.columns
    )
    return replace(table, columns=columns)
