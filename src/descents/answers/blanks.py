"""Rows and columns without an observed cell, which are predicted by means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from descents.losses import Logistic, Poisson
from descents.problems.cells import Block
from descents.problems.constraints import Regularizer
from descents.problems.factorization import Factorization
from descents.problems.layouts import Dense, Stored
from descents.problems.sets import Fixed, UnitNorm

ROUNDS = 100
"""How often the quadratic of one row is gone down, which is exact without a constraint."""
LEAST_CURVATURE = 1e-6
"""The least weight of a column, over the largest: where a loss is all but flat."""
NEAREST_SHARE = 1e-12
"""How near to 0 or 1 a mean probability is taken to be."""


@dataclass(frozen=True)
class Known:
    """What predicts a row or a column of which no cell is observed.

    A row is predicted by the row of the model that is nearest to the best constants of
    the columns; a column by the column of the model that is nearest to the mean of the
    other columns of its loss. Nearest is by least squares, under what is asked of the
    factor but without penalties.

    Attributes
    ----------
    constants : ndarray of shape (coordinates,)
        The natural parameters of the best constants, in the units of the cells.
    curvatures : ndarray of shape (coordinates,)
        How much each counts: the curvature of the loss there, summed over the cells.
    blank_rows : ndarray of int
    column_counts : ndarray of shape (columns,)
        How many cells of each column are data.
    """

    constants: np.ndarray
    curvatures: np.ndarray
    blank_rows: np.ndarray
    column_counts: np.ndarray

    @classmethod
    def of(cls, problem: Factorization) -> Known:
        """Return what the table of a problem tells.

        Examples
        --------
        >>> table = [[1.0, 2.0], [3.0, 5.0], [np.nan, np.nan]]
        >>> known = Known.of(Factorization(table, 1))
        >>> known.constants, known.blank_rows
        (array([2. , 3.5]), array([2]))
        """
        found = problem.cells
        return cls(
            np.asarray(found.offsets, dtype=np.float64),
            _curvatures(problem),
            np.flatnonzero(found.row_counts == 0),
            np.asarray(found.column_counts, dtype=np.float64),
        )

    def stored(self) -> dict[str, np.ndarray]:
        """Return it as arrays."""
        return {f"blanks/{name}": value for name, value in vars(self).items()}

    @classmethod
    def restored(cls, arrays: dict[str, np.ndarray], offsets: np.ndarray) -> Known:
        """Return what `stored` gave.

        Parameters
        ----------
        arrays : dict of ndarray
        offsets : ndarray of shape (coordinates,)
            What predicts blank rows of a model of an earlier version, which has none
            of it.
        """
        names = list(cls.__dataclass_fields__)
        if all(f"blanks/{name}" in arrays for name in names):
            return cls(**{name: arrays[f"blanks/{name}"] for name in names})
        ones = np.ones(len(offsets))
        return cls(offsets, ones, np.zeros(0, dtype=np.int64), ones)

    def filled(
        self, problem: Factorization, point: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the parameters of one start with those of blank rows and columns."""
        point = self._with_columns(problem, point)
        rows = self.blank_rows
        if not len(rows) or problem.row_regularizer.smoothness:
            return point
        inside = problem.row_regularizer.inside
        asked = problem.row_regularizer
        if isinstance(inside, Fixed):
            asked = replace(asked, inside=Fixed(inside.values[rows]))
        return self.with_rows(problem, point, rows, asked)

    def with_rows(
        self,
        problem: Factorization,
        point: dict[str, np.ndarray],
        rows: np.ndarray,
        asked: Regularizer,
    ) -> dict[str, np.ndarray]:
        """Return parameters with some rows predicted by the constants of the columns.

        Parameters
        ----------
        rows : ndarray of int
        asked : Regularizer
            What is asked of these rows of U.
        """
        _, right = sides(problem, point)
        free = problem.rank + problem.has_row_biases
        target = self.constants - right[:, free:].sum(1)
        weighted = self.curvatures[:, None] * right[:, :free]
        count = len(rows) if isinstance(asked.inside, Fixed) else 1
        start = np.zeros((count, free))
        asked = _of_blanks(asked)
        if asked.inside is not None or asked.nonnegative:
            start[:, : problem.rank] = 1 / problem.rank
        found = _nearest(
            asked,
            right[:, :free].T @ weighted,
            np.repeat((target @ weighted)[None], count, 0),
            start,
            problem.rank,
        )
        point = dict(point)
        for name, part in (
            ("U", found[:, : problem.rank]),
            ("row_biases", found[:, problem.rank :].sum(1)),
        ):
            if name in point:
                point[name] = point[name].copy()
                point[name][rows] = part
        return point

    def _with_columns(
        self, problem: Factorization, point: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        found = problem.cells
        asked = problem.column_regularizer
        counts = self.column_counts[found.coordinate_columns]
        if counts.all() or asked.smoothness:
            return point
        left, right = sides(problem, point)
        seen_rows = np.ones(len(left), dtype=bool)
        seen_rows[self.blank_rows] = False
        left, rank = left[seen_rows], problem.rank
        free = [*range(rank), *([left.shape[1] - 1] * problem.has_offsets)]
        held = [c for c in range(left.shape[1]) if c not in free]
        V = point["V"].copy()
        offsets = point["offsets"].copy() if problem.has_offsets else None
        for block, like in _like_coordinates(found.blocks):
            seen, blank = like[counts[like] > 0], like[counts[like] == 0]
            if not len(seen) or not len(blank):
                continue
            units = problem.units
            target = _mean_natural(
                block, left @ (right[seen] * units[seen, None]).T, counts[seen]
            )
            mean = np.average(right[seen] * units[seen, None], 0, counts[seen])
            start = mean[free] / units[blank, None]
            part = left[:, free]
            wanted = (
                target[:, None] / units[blank] - left[:, held] @ right[blank][:, held].T
            )
            own = asked
            if isinstance(asked.inside, Fixed):
                own = replace(asked, inside=Fixed(asked.inside.values[blank]))
            solved = _nearest(
                _of_blanks(own), part.T @ part, wanted.T @ part, start, rank
            )
            V[blank] = solved[:, :rank]
            if offsets is not None:
                offsets[blank] = solved[:, -1] - problem.base[blank]
        point = {**point, "V": V}
        return point if offsets is None else {**point, "offsets": offsets}


def sides(
    problem: Factorization, point: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return L and R of one start in float64, of which L R^T is the prediction.

    In the units of the cells.
    """
    tensors = {n: torch.as_tensor(v)[None].double() for n, v in point.items()}
    left, right = problem.extended(tensors)
    return left[0].cpu().numpy(), right[0].cpu().numpy()


def alone(problem: Factorization) -> np.ndarray:
    """Return which blank columns have no other column of their loss to be like.

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
    """Return the coordinates of a block that mean the same, once for each meaning."""
    return [
        (block, np.arange(block.place.start + k, block.place.stop, block.each))
        for block in blocks
        for k in range(block.each)
    ]


def _mean_natural(block: Block, natural: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the natural parameter of the mean of each row's predictions."""
    from scipy.special import expit, logit, logsumexp

    if isinstance(block.loss, Poisson):
        return np.asarray(logsumexp(natural, 1, b=weights / weights.sum()))
    if isinstance(block.loss, Logistic):
        share = np.average(expit(natural), 1, weights)
        return np.asarray(logit(share.clip(NEAREST_SHARE, 1 - NEAREST_SHARE)))
    return np.asarray(np.average(natural, 1, weights))


def _of_blanks(asked: Regularizer) -> Regularizer:
    """Return what is asked of single rows of a factor, without penalties.

    The norm of columns is that of the rows that have cells.
    """
    asked = replace(asked, l1=0.0, l2=0.0, smoothness=0.0)
    if isinstance(asked.inside, UnitNorm):
        return replace(asked, inside=None)
    return asked


def _nearest(
    asked: Regularizer,
    gram: np.ndarray,
    right: np.ndarray,
    start: np.ndarray,
    rank: int,
) -> np.ndarray:
    """Minimize x' G x - 2 x' r over rows of what a factor has to be, and biases."""
    of_all = torch.as_tensor(gram)[None, None], torch.as_tensor(right)[None]
    point = torch.as_tensor(start)[None].clone()
    point[..., :rank] = asked.nearest(point[..., :rank])
    zero = torch.zeros(right.shape, dtype=torch.float64)
    for _ in range(1 if asked.smooth else ROUNDS):
        point = asked.solve(*of_all, point, zero, zero, rank)
    return np.asarray(point[0].numpy())


def _curvatures(problem: Factorization) -> np.ndarray:
    """Return the curvature of the loss of each column about its best constant.

    From the slopes on both sides, about half a standard deviation away: a loss with a
    corner has one too. Every other class of a column goes the other way, as a step that
    all take together changes no probability. For squared loss it is the sum of the
    weights.
    """
    found, wide = problem.cells, problem.cells.shape[1]
    counts = np.asarray(found.column_counts[found.coordinate_columns], dtype=float)
    if not isinstance(found, Dense | Stored):
        return counts
    if all(block.loss.quadratic for block in found.blocks):
        if found.weights is None:
            return counts
        if isinstance(found, Dense):
            return np.asarray(found.weights.sum(0), dtype=np.float64)
        return np.bincount(found.table.indices, found.weights, wide)
    step = 0.5 * problem.deviations()
    for block in found.blocks:
        if block.loss.divergence:  # predictions stay above 0
            step[block.place] = np.minimum(
                step[block.place], 0.5 * found.offsets[block.place]
            )
    step = np.where(step > 0, step, 1e-3)
    for block in found.blocks:
        step[block.place] *= np.where(
            np.arange(len(step[block.place])) % block.each % 2, -1, 1
        )
    ones = torch.ones(found.shape[0], 1, dtype=torch.float64)
    cuts = torch.as_tensor(found.cuts)

    def slopes(natural: np.ndarray) -> np.ndarray:
        each = found.slopes(ones, torch.as_tensor(natural)[:, None], cuts)
        return np.asarray(each.sum(0), dtype=np.float64).ravel()

    bent = (slopes(found.offsets + step) - slopes(found.offsets - step)) / step / 4
    bent = np.where(np.isfinite(bent), bent, 0)
    floor = LEAST_CURVATURE * max(float(bent.max(initial=0.0)), 1e-300)
    return np.where(counts > 0, bent.clip(floor), 0)
