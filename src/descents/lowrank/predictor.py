"""What a fitted factorization predicts of cells and of new rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from descents.bounds import gaps, subspaces
from descents.bounds.gaps import Reference
from descents.bounds.references import reference
from descents.cells import encoding
from descents.cells.base import Cells
from descents.cells.columns import ColumnModel
from descents.cells.observed import cells
from descents.constraints.sets import Fixed
from descents.devices import numpy_dtype
from descents.factorization.factorization import Factorization
from descents.factorization.rescaled import charged
from descents.linalg.spectra import singular_form
from descents.lowrank.blanks import Known, sides
from descents.lowrank.fills import Far, far_outside, ranges
from descents.lowrank.matrices import Matrix, is_sparse
from descents.lowrank.update_rules import automatic_steps, step_named
from descents.optim.lbfgs import LineDescent
from descents.optim.loop import descend
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs
from descents.optim.stopping import Stop
from descents.text import OneLine

NOTHING = 1e-6
"""A component whose size is a smaller share of that of the table is zero."""
Point = dict[str, np.ndarray]
"""The parameters of one start."""


@dataclass(frozen=True, eq=False)
class Predictor(OneLine):
    """A fitted factorization, and what it predicts.

    Attributes
    ----------
    models : list of ColumnModel
    problem : Factorization
    runs : Runs
        The starts of that problem.
    combine : {"best", "mean"}
        Whether the best start predicts, or the mean of all that are finite.
    known : Known
        Predicts rows and columns without observed cells.
    limits : ndarray of shape (2, columns)
        The least and the largest observed number of each column.
    points : list of dict of ndarray
        The parameters of the starts that predict, the best first.
    scores, components, offsets : ndarray
        Of the best start, in SVD form if a rotation is allowed. Components are in the
        units of their columns, offsets in those of the data.

    Examples
    --------
    >>> from descents import Alternating, Factorization, Stop, descend
    >>> from descents.cells.columns import of_matrix
    >>> from descents.losses import get_loss
    >>> table = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    >>> problem = Factorization(table, 1)
    >>> runs = descend(problem, 1, steps=Alternating(), stop=Stop(20))
    >>> models = of_matrix(table, [get_loss("squared")] * 2, ["a", "b"])
    >>> fit = Predictor.of(models, problem, runs, "best")
    >>> natural, cuts = fit.predictions(fit.points)
    >>> fit.decoded(natural, cuts)[1].round(6)
    array([2., 4., 6.])
    """

    models: list[ColumnModel]
    problem: Factorization
    runs: Runs
    combine: str
    known: Known
    limits: np.ndarray

    @classmethod
    def of(
        cls, models: list[ColumnModel], problem: Factorization, runs: Runs, combine: str
    ) -> Predictor:
        """Return the predictor of a problem that has its table."""
        limits = ranges(problem.cells, models)
        return Predictor(models, problem, runs, combine, Known.of(problem), limits)

    @cached_property
    def points(self) -> list[Point]:  # noqa: D102 - among the attributes
        kept = [self.runs.best]
        if self.combine == "mean":
            finite = np.flatnonzero(np.isfinite(self.runs.losses)).tolist()
            kept += [k for k in finite if k != self.runs.best]
        points = [
            {name: value[k] for name, value in self.runs.parameters.items()}
            for k in kept
        ]
        return [self.known.filled(self.problem, point) for point in points]

    @cached_property
    def _singular_form(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The scores, the components, the rotation and the mean that give them."""
        return self._in_singular_form(self.points[0])

    def _in_singular_form(
        self, point: Point
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        problem, free = self.problem, not self.problem.constrained
        return singular_form(
            point["U"],
            point["V"],
            center=problem.has_offsets and free and not problem.l2_biases,
            rotate=free,
        )

    @property
    def loss(self) -> float:
        """The loss of the best start, with penalties."""
        return float(self.runs.losses[self.runs.best])

    @property
    def scores(self) -> np.ndarray:  # noqa: D102 - among the attributes
        return self._singular_form[0]

    @property
    def components(self) -> np.ndarray:  # noqa: D102 - among the attributes
        return self._singular_form[1]

    @cached_property
    def _shift(self) -> np.ndarray:
        """The natural parameters at scores of zero, in the units of the cells."""
        best = self.points[0]
        shift = np.asarray(self.problem.base, dtype=np.float64)
        if "offsets" in best:
            shift = shift + best["offsets"]
        return shift + self._singular_form[3] @ best["V"].T

    @property
    def offsets(self) -> np.ndarray:  # noqa: D102 - among the attributes
        units = self.problem.units
        return np.asarray((self._shift * units).astype(self.points[0]["U"].dtype))

    def natural(
        self, scores: np.ndarray, biases: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Return the natural parameters of points in the space of the components.

        They are (offsets + units * (scores @ components)) / units of the best start, plus
        the bias of each row: in the units of the cells, as `predictions` returns them.

        Parameters
        ----------
        scores : ndarray of shape (rows, rank)
        biases : ndarray of shape (rows, 1), optional
        """
        return self._shift + scores @ self.components + biases

    @property
    def labels(self) -> list[str]:
        """The names of the coordinates, in the order of `components`."""
        return [
            label
            for block in self.problem.cells.blocks
            for column in block.columns
            for label in self.models[column].labels
        ]

    @property
    def penalty(self) -> dict[str, float]:
        """The penalties, in the form that `regularizers` takes."""
        rows, wide = self.problem.row_regularizer, self.problem.column_regularizer
        return {
            "l1_rows": rows.l1,
            "l2_rows": rows.l2,
            "l1_columns": wide.l1,
            "l2_columns": wide.l2,
            "smooth_rows": rows.smoothness,
            "smooth_columns": wide.smoothness,
            "l2_biases": self.problem.l2_biases,
            "count_power": self.problem.count_power,
        }

    @property
    def constraint(
        self,
    ) -> tuple[list[str | Fixed], list[str | Fixed]]:
        """The constraints, in the form that `regularizers` takes."""
        problem = self.problem
        return problem.row_regularizer.constraint, problem.column_regularizer.constraint

    def compared(self) -> tuple[Reference, float, float]:
        """Return the reference of the best start, its gap, and the constants' loss."""
        found = reference(self.problem, self.runs)
        # For a constant table the best constants have no loss. The gap is then relative to
        # a hundred millionth of the size of the table.
        constants = self.problem.cells.constants_loss()
        floor = max(constants, 1e-8 * self.problem.cells.square)
        dtype = numpy_dtype(self.problem.dtype)
        gap = gaps.gap([self.loss], found, floor, dtype)[0]
        if found.kind == "best found":  # the reference is the best start itself
            gap = np.nan
        return found, float(gap), constants

    def agreement(self) -> float | None:
        """Return how far the finite starts find the same space of columns."""
        finite = np.isfinite(self.runs.losses)
        place = int(finite[: self.runs.best].sum())
        return subspaces.subspace_agreement(self.runs.parameters["V"][finite], place)

    def matched(self) -> np.ndarray:
        """Return the cosines of the components of every start with those of the best.

        Returns
        -------
        ndarray of shape (starts, rank)
            See `descents.bounds.subspaces.matched_cosines`. Where a rotation is allowed,
            components are those of the SVD form. NaN for components of the best start
            that are zero.
        """
        parameters, losses = self.runs.parameters, self.runs.losses
        shape = len(losses), self.problem.rank, parameters["V"].shape[1]
        found = np.full(shape, np.nan)
        for k in np.flatnonzero(np.isfinite(losses)).tolist():
            point = {name: parameters[name][k] for name in ("U", "V")}
            found[k] = self._in_singular_form(point)[1]
        cosines = subspaces.matched_cosines(found, self.runs.best)
        sizes = np.linalg.norm(self.scores, axis=0) * np.linalg.norm(
            self.components, axis=1
        )
        least = NOTHING * np.sqrt(max(self.problem.cells.square, 0.0))
        cosines[:, sizes <= least] = np.nan
        return cosines

    def cells_of(self, values: Matrix, sparse: str = "missing") -> Cells:
        """Return the cells of new rows; there may be no rows."""
        losses = [model.loss for model in self.models]
        if is_sparse(values):
            return cells(values, losses, sparse=sparse, blank=True)
        known = self.problem.cells
        return cells(
            values,
            losses,
            levels=[len(model.levels) for model in self.models],
            scales=False if known.scales is None else known.scales,
            units=known.units,
            blank=True,
        )

    def solved(self, rows: Cells, point: Point) -> Point:
        """Return the parameters of new rows, with the columns of one start fixed.

        Cells of new rows have no weights: they count as those of the fit do on average.
        """
        problem = self.problem.for_rows(rows, point)
        heavy = self.problem.cells.mean_weight / rows.mean_weight
        problem.row_regularizer = charged(problem.row_regularizer, 1.0, heavy)
        problem.l2_biases /= heavy
        name = automatic_steps(problem)
        steps: UpdateRule = LineDescent()
        if name != "adam":
            steps = step_named(name, problem, fitted=self.problem)
        unit = float(np.finfo(point["U"].dtype).eps)
        # Near a solution of zero, no gradient decreases to a share of the first.
        stop = Stop(500, gradient_tol=100 * unit, loss_tol=unit)
        runs = descend(problem, 1, steps=steps, stop=stop, width=1)
        solved = {**point, **{n: v[0] for n, v in runs.parameters.items()}}
        blank = np.flatnonzero(rows.row_counts == 0)
        asked = problem.row_regularizer
        if not len(blank) or (asked.smoothness and len(blank) < len(solved["U"])):
            return solved
        if isinstance(asked.inside, Fixed):
            asked = replace(asked, inside=Fixed(asked.inside.values[blank]))
        return self.known.with_rows(self.problem, solved, blank, asked)

    def embedded(self, U: np.ndarray) -> np.ndarray:
        """Return rows of U in the space of the components."""
        _, _, turn, mean = self._singular_form
        return np.asarray((U - mean) @ turn, dtype=U.dtype)

    def sides(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        """Return L and R of one start in float64; L R^T predicts in the units of the cells."""
        return sides(self.problem, point)

    def predictions(self, points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean natural parameters and cut points of some starts.

        They are in the units of the cells.
        """
        natural, cuts = np.zeros(()), np.zeros(())
        for point in points:
            left, right = self.sides(point)
            natural = natural + left @ right.T
            cuts = cuts + np.asarray(point.get("cuts", np.zeros(0)), dtype=np.float64)
        return natural / len(points), cuts / len(points)

    def decoded(self, natural: np.ndarray, cuts: np.ndarray) -> list[np.ndarray]:
        """Return the predicted numbers or codes of each column.

        Natural parameters are in the units of the cells, numbers in those of the data.
        """
        return decoded(self.problem.cells, natural, cuts)

    def far_fills(self, fills: Sequence[np.ndarray], holes: np.ndarray) -> Far | None:
        """Return filled values that are far outside the observed range, None if there are none.

        Parameters
        ----------
        fills : sequence of ndarray
            What `decoded` returned.
        holes : bool ndarray of shape (rows, columns)
        """
        return far_outside(self.models, self.limits, fills, holes)

    @property
    def penalized(self) -> bool:
        """Whether a factor has a penalty on its size."""
        sides = self.problem.row_regularizer, self.problem.column_regularizer
        return any(side.l1 or side.l2 for side in sides)

    def codes_of(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the numbers or codes predicted for rows of the fitted table."""
        points = [self.of_rows(point, rows) for point in self.points]
        return self.decoded(*self.predictions(points))

    def cells_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the numbers or codes predicted for some cells of the fitted table.

        Parameters
        ----------
        rows, columns : int64 ndarray of shape (cells,)
            All columns have one loss with one coordinate.
        """
        total = np.zeros(len(rows))
        for point in self.points:
            left, right = self.sides(point)
            total += (left[rows] * right[columns]).sum(1)
        (block,) = self.problem.cells.blocks
        return np.asarray(block.loss.impute(total / len(self.points)))

    def of_rows(self, point: Point, rows: np.ndarray | slice) -> Point:
        """Return the parameters of one start for some rows of the fitted table."""
        return {
            name: value[rows] if name in ("U", "row_biases") else value
            for name, value in point.items()
        }

    def cell_losses(self, *, constants: bool = False) -> np.ndarray:
        """Return the loss of each cell under the best start, or the best constants.

        Returns
        -------
        ndarray of shape (rows, columns), NaN for missing cells; for a sparse table, of
        shape (entries,)
        """
        found, best = self.problem.cells.in_memory, self.points[0]
        left, right = self.sides(best)
        cuts = np.asarray(best.get("cuts", np.zeros(0)), dtype=np.float64)
        if constants:
            left, right = np.ones((found.shape[0], 1)), found.offsets[:, None]
            cuts = found.cuts
        return np.asarray(
            found.each(*(torch.as_tensor(part) for part in (left, right, cuts)))
        )

    def stacked(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return columns as one array: of numbers, or of objects if there are levels."""
        parts = [
            encoding.decoded(model, code)
            for model, code in zip(self.models, codes, strict=True)
        ]
        kind = object if any(part.dtype == object for part in parts) else np.float64
        table = np.empty((len(parts[0]), len(parts)), dtype=kind)
        for j, part in enumerate(parts):
            table[:, j] = part
        return table

    def loss_of(self, rows: Cells) -> float:
        """Return the loss of new rows without penalties, the mean over the starts."""
        total = 0.0
        for point in self.points:
            left, right = self.sides(self.solved(rows, point))
            cuts = np.asarray(point.get("cuts", np.zeros(0)), dtype=np.float64)
            loss = rows.losses(
                *(torch.as_tensor(part)[None] for part in (left, right, cuts))
            )
            total += float(loss)
        return total / len(self.points)


def decoded(found: Cells, natural: np.ndarray, cuts: np.ndarray) -> list[np.ndarray]:
    """Return the predicted numbers or codes of each column.

    Parameters
    ----------
    found : Cells
    natural : ndarray of shape (rows, coordinates)
        In the units of the cells; numbers are returned in those of the data.
    cuts : ndarray of shape (cut_count,)
    """
    codes: list[np.ndarray] = [np.zeros(0)] * found.shape[1]
    for block in found.blocks:
        values = block.loss.impute(block.predictions(natural), **block.cuts(cuts))
        for place, column in enumerate(block.columns):
            codes[column] = values[:, place]
            if found.units is not None and block.loss.has_units:
                codes[column] = codes[column] * found.units[column]
    return codes


def probabilities(
    found: Cells, natural: np.ndarray, cuts: np.ndarray
) -> list[np.ndarray | None]:
    """Return the probabilities of the levels of each column; None for columns of numbers.

    Those of a loss that is no likelihood only compare the levels.

    Parameters
    ----------
    found : Cells
    natural : ndarray of shape (rows, coordinates)
        In the units of the cells.
    cuts : ndarray of shape (cut_count,)
    """
    chances: list[np.ndarray | None] = [None] * found.shape[1]
    for block in found.blocks:
        if not block.loss.has_levels:
            continue
        values = block.loss.probabilities(
            block.predictions(natural), block.levels, **block.cuts(cuts)
        )
        for place, column in enumerate(block.columns):
            chances[column] = values[:, place]
    return chances
