"""Factorizations in a common unit, so that results do not depend on the size of numbers.

Learning rates, line searches and L-BFGS take other paths on numbers that are a billion
times as large, and end in other local minima. Therefore a table is divided by its spread,
and its weights by their mean, before the descent. The factors are scaled back after it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from descents.cells.complete import Complete
from descents.cells.dense import Dense
from descents.cells.distributed import Distributed
from descents.cells.in_memory import CellsInMemory
from descents.cells.sparse import Sparse
from descents.constraints.constraints import Regularizer
from descents.factorization.factorization import Factorization


@dataclass(frozen=True)
class Rescaled:
    """A problem in a common unit, and the factors to scale its results back.

    Let X = u X', and let the losses be homogeneous of degree d. Then loss(X) = f
    loss'(X') with f = u^d times the mean weight. The factors are U = a U' and V = b V'
    with a b = u. Here a is the root of u, or 1 or u if a constraint sets the size of a
    factor. The penalties become l2 ||U||^2 = f (l2 a^2 / f) ||U'||^2.

    Attributes
    ----------
    problem : Factorization
        The problem of X', U' and V'.
    unit, of_rows, of_columns : float
        u, a and b.
    factor : float
        f.
    """

    problem: Factorization
    unit: float
    of_rows: float
    of_columns: float
    factor: float

    def parameters(self, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the parameters in the units of the data."""
        sizes = {"U": self.of_rows, "V": self.of_columns}
        return {
            name: (value * sizes.get(name, self.unit)).astype(value.dtype)
            for name, value in parameters.items()
        }


def rescaled(problem: Factorization) -> Rescaled | None:
    """Return a problem in a common unit, or None if there is nothing to divide by.

    There is no unit if some columns have levels or are modeled by log-odds or logarithms,
    if constraints fix the sizes of both factors, and for a table on disk. Then only the
    weights are divided by their mean, if it is not 1.

    Examples
    --------
    >>> table = 1e9 * np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 7.0]])
    >>> found = rescaled(Factorization(table, 1))
    >>> float(f"{found.unit:.3g}")  # the root of the mean of variances 2/3 and 38/9
    1560000000.0
    """
    found = problem.cells
    losses = found.losses_of_columns
    sides = (problem.row_regularizer, problem.column_regularizer)
    sized = [side.sized for side in sides]
    if (
        not isinstance(found, Complete | Dense | Sparse | Distributed)
        or found.units is not None
        or found.cut_count
        or all(sized)
        or not all(loss.has_units for loss in losses)
    ):
        return _reweighted(problem)
    spread = _spread(found)
    units = {loss.unit(spread) for loss in losses}
    if len(units) > 1:  # columns with different periods
        return _reweighted(problem)
    unit = units.pop()
    sizes = {loss: loss.size_in(unit) for loss in set(losses)}
    ratios = np.array([sizes[loss] for loss in losses])
    if not (np.isfinite(ratios) & (ratios > 0)).all():
        return _reweighted(problem)
    # Column j has the weight of its own u^d, relative to the first column.
    mean = found.mean_weight
    scales = ratios / ratios[0] / mean
    factor = float(ratios[0]) * mean
    over = _over(found, unit, scales)
    if any(loss.name == "own" for loss in losses):  # the degree d is unknown
        size = over.constants_loss() / max(over.observed, 1)
        if size > 0:
            factor, over = factor * size, _over(found, unit, scales / size)
    # a and b of `Rescaled`.
    of_rows = 1.0 if sized[0] else unit if sized[1] else float(np.sqrt(unit))
    of_columns = unit / of_rows
    other = copy.copy(problem)
    other.cells = over
    other._base = problem.base / unit
    other.row_regularizer = charged(sides[0], of_rows, factor)
    other.column_regularizer = charged(sides[1], of_columns, factor)
    other.l2_biases = problem.l2_biases * unit**2 / factor
    other._spectra, other.turns = {}, {}
    if not isinstance(problem.initialization, str):
        given = problem.initial_factors
        other.initial_factors = {
            "U": given["U"] / of_rows,
            "V": given["V"] / of_columns,
        }
    return Rescaled(other, unit, of_rows, of_columns, factor)


def _reweighted(problem: Factorization) -> Rescaled | None:
    """Return the problem with weights of mean 1; None if they have it."""
    found = problem.cells
    mean = found.mean_weight
    if mean == 1 or not isinstance(found, Dense | Sparse):
        return None
    other = copy.copy(problem)
    other.cells = found.with_weights_over(mean)
    other.row_regularizer = charged(problem.row_regularizer, 1.0, mean)
    other.column_regularizer = charged(problem.column_regularizer, 1.0, mean)
    other.l2_biases = problem.l2_biases / mean
    other._spectra, other.turns = {}, {}
    return Rescaled(other, 1.0, 1.0, 1.0, mean)


def charged(side: Regularizer, size: float, factor: float) -> Regularizer:
    """Return the penalties of a factor divided by `size`, themselves divided by `factor`.

    Examples
    --------
    >>> charged(Regularizer(l1=1.0, l2=1.0), 2.0, 10.0).l2
    0.4
    """
    return replace(
        side,
        l1=side.l1 * size / factor,
        l2=side.l2 * size**2 / factor,
        smoothness=side.smoothness * size**2 / factor,
    )


def _spread(found: CellsInMemory | Distributed) -> float:
    """Return the root mean square of the data about their column means.

    Data are divided by the largest one first, so that squares do not overflow.
    """
    if isinstance(found, Distributed):
        largest = (
            float(np.nanmax(np.abs([found.least, found.most]), initial=0.0)) or 1.0
        )
        mean_square = found.constants_loss() / found.observed
        small = mean_square <= 1e-24 * largest**2
        return largest if small else float(np.sqrt(mean_square))
    values, mask = found.table, None
    if not isinstance(values, np.ndarray):
        columns = found.shape[1]
        count = np.maximum(np.bincount(values.indices, minlength=columns), 1)
        data = values.data.astype(np.float64)
        largest = float(np.abs(data).max(initial=0.0)) or 1.0
        mean = np.bincount(values.indices, data / largest, columns) / count
        rest = data / largest - mean[values.indices]
        total = float(np.square(rest).sum()) / max(len(data), 1)
    else:
        largest = float(np.abs(values).max(initial=0.0)) or 1.0
        mask = np.ones(found.shape) if found.weights is None else found.weights > 0
        over = values.astype(np.float64) / largest
        mean = (over * mask).sum(0) / np.maximum(mask.sum(0), 1)
        total = float((np.square(over - mean) * mask).sum() / max(mask.sum(), 1))
    # If all columns are constant, the unit is the largest value.
    return largest * float(np.sqrt(total)) if total > 1e-24 else largest


def _over(found: Any, unit: float, scales: np.ndarray) -> CellsInMemory | Distributed:
    """Return cells divided by a unit, with their weights times the scale per column."""
    if isinstance(found, Distributed):
        return found.over(unit)
    if isinstance(found, Sparse):
        return found.over(unit, float(scales[0]))
    if isinstance(found, Complete):
        if not isinstance(found.table, np.ndarray):
            return Complete(found.table / unit, found.blocks[0])
        ones = np.ones(found.shape)
        found = Dense(found.table.astype(np.float64), ones, found.blocks)
    units = np.full(found.shape[1], unit)
    other: CellsInMemory = found.standardized(scales, units)
    # The parameters are scaled back by `Rescaled`, so these cells have no units.
    return other.without_units()
