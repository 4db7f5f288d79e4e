"""Blank rows and columns: those without an observed cell, which are predicted by means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from descents.cells.base import Block
from descents.cells.dense import Dense
from descents.cells.sparse import Sparse
from descents.constraints.constraints import Regularizer
from descents.constraints.sets import Fixed
from descents.constraints.unit_norm import UnitNorm
from descents.factorization.factorization import Factorization
from descents.losses import Logistic, Poisson

ROUNDS = 100
"""The number of steps on the quadratic of a row; without a constraint one step is exact."""
LEAST_CURVATURE = 1e-6
"""The smallest weight of a column, relative to the largest, for losses that are nearly
flat."""
NEAREST_SHARE = 1e-12
"""Mean probabilities are clipped to this distance from 0 and 1."""


@dataclass(frozen=True)
class Known:
    """Predicts rows and columns without observed cells.

    A blank row is predicted by the row in the model's space that is nearest to the best
    constants of the columns. A blank column is predicted by the column in the model's
    space that is nearest to the mean of the other columns with its loss. Nearest means
    least squares under the constraint on the factor, without penalties.

    Attributes
    ----------
    constants : ndarray of shape (coordinates,)
        The natural parameters of the best constants, in the units of the cells.
    curvatures : ndarray of shape (coordinates,)
        The least-squares weights: the curvature of the loss at the constants, summed over
        the cells.
    blank_rows : ndarray of int
    column_counts : ndarray of shape (columns,)
        The number of observed cells of each column.
    """

    constants: np.ndarray
    curvatures: np.ndarray
    blank_rows: np.ndarray
    column_counts: np.ndarray

    @classmethod
    def of(cls, problem: Factorization) -> Known:
        """Return the predictor of blank rows and columns for a problem.

        Examples
        --------
        >>> table = [[1.0, 2.0], [3.0, 5.0], [np.nan, np.nan]]
        >>> blanks = Known.of(Factorization(table, 1))
        >>> blanks.constants, blanks.blank_rows
        (array([2. , 3.5]), array([2]))
        """
        cells = problem.cells
        return cls(
            np.asarray(cells.offsets, dtype=np.float64),
            _curvatures(problem),
            np.flatnonzero(cells.row_counts == 0),
            np.asarray(cells.column_counts, dtype=np.float64),
        )

    def stored(self) -> dict[str, np.ndarray]:
        """Return the attributes as named arrays."""
        return {f"blanks/{name}": value for name, value in vars(self).items()}

    @classmethod
    def restored(cls, arrays: dict[str, np.ndarray], offsets: np.ndarray) -> Known:
        """Return the predictor from the arrays of `stored`.

        Parameters
        ----------
        arrays : dict of ndarray
        offsets : ndarray of shape (coordinates,)
            The prediction of blank rows for models stored by an earlier version, which
            have no such arrays.
        """
        names = list(cls.__dataclass_fields__)
        if all(f"blanks/{name}" in arrays for name in names):
            return cls(**{name: arrays[f"blanks/{name}"] for name in names})
        ones = np.ones(len(offsets))
        return cls(offsets, ones, np.zeros(0, dtype=np.int64), ones)

    def filled(
        self, problem: Factorization, point: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the parameters of a start with those of blank rows and columns set."""
        point = self._with_columns(problem, point)
        rows = self.blank_rows
        if not len(rows) or problem.row_regularizer.smoothness:
            return point
        inside = problem.row_regularizer.inside
        regularizer = problem.row_regularizer
        if isinstance(inside, Fixed):
            regularizer = replace(regularizer, inside=Fixed(inside.values[rows]))
        return self.with_rows(problem, point, rows, regularizer)

    def with_rows(
        self,
        problem: Factorization,
        point: dict[str, np.ndarray],
        rows: np.ndarray,
        asked: Regularizer,
    ) -> dict[str, np.ndarray]:
        """Return parameters with some rows set to predict the constants of the columns.

        Parameters
        ----------
        rows : ndarray of int
        asked : Regularizer
            The constraint on these rows of U.
        """
        _, right = sides(problem, point)
        # Weighted least squares for U and row biases; the other terms are fixed.
        free = problem.rank + problem.has_row_biases
        target = self.constants - right[:, free:].sum(1)
        weighted = self.curvatures[:, None] * right[:, :free]
        count = len(rows) if isinstance(asked.inside, Fixed) else 1
        start = np.zeros((count, free))
        asked = _of_blanks(asked)
        if asked.inside is not None or asked.nonnegative:
            start[:, : problem.rank] = 1 / problem.rank
        solution = _nearest(
            asked,
            right[:, :free].T @ weighted,
            np.repeat((target @ weighted)[None], count, 0),
            start,
            problem.rank,
        )
        point = dict(point)
        for name, part in (
            ("U", solution[:, : problem.rank]),
            ("row_biases", solution[:, problem.rank :].sum(1)),
        ):
            if name in point:
                point[name] = point[name].copy()
                point[name][rows] = part
        return point

    def _with_columns(
        self, problem: Factorization, point: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the parameters with those of blank columns set."""
        cells = problem.cells
        regularizer = problem.column_regularizer
        counts = self.column_counts[cells.coordinate_columns]
        if counts.all() or regularizer.smoothness:
            return point
        left, right = sides(problem, point)
        observed_rows = np.ones(len(left), dtype=bool)
        observed_rows[self.blank_rows] = False
        left, rank = left[observed_rows], problem.rank
        free = [*range(rank), *([left.shape[1] - 1] * problem.has_offsets)]
        fixed = [c for c in range(left.shape[1]) if c not in free]
        V = point["V"].copy()
        offsets = point["offsets"].copy() if problem.has_offsets else None
        for block, like in _like_coordinates(cells.blocks):
            observed, blank = like[counts[like] > 0], like[counts[like] == 0]
            if not len(observed) or not len(blank):
                continue
            units = problem.units
            scaled = right[observed] * units[observed, None]
            target = _mean_natural(block, left @ scaled.T, counts[observed])
            start = np.average(scaled, 0, counts[observed])[free] / units[blank, None]
            part = left[:, free]
            # Least squares on the target of each row, less the terms that are fixed.
            wanted = (
                target[:, None] / units[blank]
                - left[:, fixed] @ right[blank][:, fixed].T
            )
            own = regularizer
            if isinstance(own.inside, Fixed):
                own = replace(own, inside=Fixed(own.inside.values[blank]))
            solution = _nearest(
                _of_blanks(own), part.T @ part, wanted.T @ part, start, rank
            )
            V[blank] = solution[:, :rank]
            if offsets is not None:
                offsets[blank] = solution[:, -1] - problem.base[blank]
        point = {**point, "V": V}
        return point if offsets is None else {**point, "offsets": offsets}


def sides(
    problem: Factorization, point: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return L and R of one start in float64; L R^T predicts in the units of the cells."""
    tensors = {n: torch.as_tensor(v)[None].double() for n, v in point.items()}
    left, right = problem.extended(tensors)
    return left[0].cpu().numpy(), right[0].cpu().numpy()


def alone(problem: Factorization) -> np.ndarray:
    """Return the blank columns whose loss has no column with observed cells.

    Examples
    --------
    >>> table = [[1.0, np.nan, np.nan], [3.0, np.nan, np.nan]]
    >>> alone(Factorization(table, 1, loss=["squared", "squared", "absolute"]))
    array([2])
    """
    counts = problem.cells.column_counts
    lone = [
        block.columns
        for block in problem.cells.blocks
        if not counts[block.columns].any()
    ]
    return np.sort(np.concatenate(lone)) if lone else np.zeros(0, dtype=np.int64)


def _like_coordinates(blocks: tuple[Block, ...]) -> list[tuple[Block, np.ndarray]]:
    """Group the coordinates of each block by meaning, such as the same class or cut."""
    return [
        (block, np.arange(block.place.start + k, block.place.stop, block.each))
        for block in blocks
        for k in range(block.each)
    ]


def _mean_natural(block: Block, natural: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the natural parameter of each row's mean prediction."""
    from scipy.special import expit, logit, logsumexp

    if isinstance(block.loss, Poisson):
        return np.asarray(logsumexp(natural, 1, b=weights / weights.sum()))
    if isinstance(block.loss, Logistic):
        share = np.average(expit(natural), 1, weights)
        return np.asarray(logit(share.clip(NEAREST_SHARE, 1 - NEAREST_SHARE)))
    return np.asarray(np.average(natural, 1, weights))


def _of_blanks(regularizer: Regularizer) -> Regularizer:
    """Return the constraint on blank rows of a factor, without penalties.

    A unit norm of columns is dropped, because it is a constraint on the other rows.
    """
    regularizer = replace(regularizer, l1=0.0, l2=0.0, smoothness=0.0)
    if isinstance(regularizer.inside, UnitNorm):
        return replace(regularizer, inside=None)
    return regularizer


def _nearest(
    regularizer: Regularizer,
    gram: np.ndarray,
    right: np.ndarray,
    start: np.ndarray,
    rank: int,
) -> np.ndarray:
    """Minimize x' G x - 2 x' r over constrained rows of a factor, and free biases."""
    quadratic = torch.as_tensor(gram)[None, None], torch.as_tensor(right)[None]
    point = torch.as_tensor(start)[None].clone()
    point[..., :rank] = regularizer.nearest(point[..., :rank])
    zero = torch.zeros(right.shape, dtype=torch.float64)
    for _ in range(1 if regularizer.smooth else ROUNDS):
        point = regularizer.solve(*quadratic, point, zero, zero, rank)
    return np.asarray(point[0].numpy())


def _curvatures(problem: Factorization) -> np.ndarray:
    """Return the curvature of the loss of each column around its best constant.

    It is the difference quotient of the slopes about half a standard deviation away on
    both sides, so a loss with a corner has a curvature too. Alternate classes of a column
    step in opposite directions, because a common step of all classes changes no
    probability. For squared loss, it is the sum of the weights.
    """
    cells, wide = problem.cells, problem.cells.shape[1]
    counts = np.asarray(cells.column_counts[cells.coordinate_columns], dtype=float)
    if not isinstance(cells, Dense | Sparse):
        return counts
    if all(block.loss.quadratic for block in cells.blocks):
        if cells.weights is None:
            return counts
        if isinstance(cells, Dense):
            return np.asarray(cells.weights.sum(0), dtype=np.float64)
        return np.bincount(cells.table.indices, cells.weights, wide)
    step = 0.5 * problem.root_mean_squares()
    for block in cells.blocks:
        if block.loss.divergence:  # predictions stay above 0
            step[block.place] = np.minimum(
                step[block.place], 0.5 * cells.offsets[block.place]
            )
    step = np.where(step > 0, step, 1e-3)
    for block in cells.blocks:
        step[block.place] *= np.where(
            np.arange(len(step[block.place])) % block.each % 2, -1, 1
        )
    ones = torch.ones(cells.shape[0], 1, dtype=torch.float64)
    cuts = torch.as_tensor(cells.cuts)

    def slopes(natural: np.ndarray) -> np.ndarray:
        cellwise = cells.slopes(ones, torch.as_tensor(natural)[:, None], cuts)
        return np.asarray(cellwise.sum(0), dtype=np.float64).ravel()

    change = slopes(cells.offsets + step) - slopes(cells.offsets - step)
    # Squared loss has the slope 2 w (x - m), so this is its weight w.
    curvatures = change / step / 4
    curvatures = np.where(np.isfinite(curvatures), curvatures, 0)
    floor = LEAST_CURVATURE * max(float(curvatures.max(initial=0.0)), 1e-300)
    return np.where(counts > 0, curvatures.clip(floor), 0)
