"""A fitted factorization: what it says of cells, of new rows, and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from descents.bounds import gaps, subspaces
from descents.bounds.gaps import Reference
from descents.bounds.references import reference
from descents.cells import encoding
from descents.cells.base import Cells
from descents.cells.columns import ColumnModel
from descents.cells.observed import cells
from descents.constraints.names import renamed_sets
from descents.constraints.sets import Fixed, OneHot
from descents.devices import numpy_dtype
from descents.errors import InvalidValueError
from descents.factorization import alternating, guarded
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import Factorization
from descents.factorization.guarded import Guarded
from descents.factorization.rescaled import charged, rescaled
from descents.linalg.spectra import singular_form
from descents.losses import Huber
from descents.lowrank.blanks import Known, sides
from descents.lowrank.fills import Far, far_outside, ranges
from descents.optim.first_order import Adam, GradientDescent
from descents.optim.line_search import LBFGS, LineDescent
from descents.optim.loop import descend
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs
from descents.optim.stopping import Stop

STEPS = ("auto", "alternating", "lbfgs", "gd", "adam")
ADAM_RATE = 0.05
"""The rate of Adam where none is given: it is only taken where nothing else applies."""
HUBER_EFFICIENCY = 1.345
"""The width of Huber's loss over the noise's standard deviation, at which 95% of the
efficiency of least squares remains under normal noise (Huber, 1964)."""
NORMAL_MEDIAN = 0.6745
"""The median of the absolute value of a standard normal number."""


class Fitted:
    """The columns of a table, the problem that was descended, and what was found.

    Parameters
    ----------
    models : list of ColumnModel
    problem : Factorization
    runs : Runs
        Of that problem.
    combine : {"best", "mean"}
        Whether the best start predicts, or the mean of all that are finite.
    known : Known, optional
        What predicts rows and columns without a cell; by default what the table of the
        problem tells.
    limits : ndarray of shape (2, columns), optional
        The least and the largest observed number of each column; by default those of
        the table of the problem.

    Attributes
    ----------
    points : list of dict of ndarray
        The parameters of the starts that predict, the best first.
    scores, components, offsets : ndarray
        Of the best start, in SVD form where a rotation is allowed; components are
        counted in the units of their columns, offsets in those of the data.

    Examples
    --------
    >>> from descents import Alternating, Factorization, Stop, descend
    >>> from descents.cells.columns import of_matrix
    >>> from descents.losses import get_loss
    >>> table = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    >>> problem = Factorization(table, 1)
    >>> runs = descend(problem, 1, steps=Alternating(), stop=Stop(20))
    >>> models = of_matrix(table, [get_loss("squared")] * 2, ["a", "b"])
    >>> fitted = Fitted(models, problem, runs, "best")
    >>> natural, cuts = fitted.predictions(fitted.points)
    >>> fitted.decoded(natural, cuts)[1].round(6)
    array([2., 4., 6.])
    """

    def __init__(
        self,
        models: list[ColumnModel],
        problem: Factorization,
        runs: Runs,
        combine: str,
        known: Known | None = None,
        limits: np.ndarray | None = None,
    ) -> None:
        self.models, self.problem, self.runs = models, problem, runs
        kept = [runs.best]
        if combine == "mean":
            finite = np.flatnonzero(np.isfinite(runs.losses)).tolist()
            kept += [k for k in finite if k != runs.best]
        self.points = [
            {name: value[k] for name, value in runs.parameters.items()} for k in kept
        ]
        self.known = Known.of(problem) if known is None else known
        self.limits = ranges(problem.cells, models) if limits is None else limits
        self.points = [self.known.filled(problem, point) for point in self.points]
        best = self.points[0]
        dtype = best["U"].dtype
        shift = np.asarray(problem.base, dtype=np.float64)
        if "offsets" in best:
            shift = shift + best["offsets"]
        free = not problem.constrained
        self.scores, self.components, self._turn, self._mean = singular_form(
            best["U"],
            best["V"],
            center=problem.has_offsets and free and not problem.l2_biases,
            rotate=free,
        )
        shift = shift + self._mean @ best["V"].T
        self._shift = shift
        self.offsets = (shift * problem.units).astype(dtype)

    def natural(self, scores: np.ndarray, biases: Any = 0.0) -> np.ndarray:
        """Return the natural parameters that points in the components' space stand for.

        (offsets + units * (scores @ components)) / units, of the best start, and the
        bias of each row where there is one: in the units of the cells, as `predictions`
        returns them.

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
        """The penalties, as `descents.constraints.constraints.regularizers` takes them."""
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
    def constraint(self) -> tuple[list[Any], list[Any]]:
        """The constraints, as `descents.constraints.constraints.regularizers` takes them."""
        problem = self.problem
        return problem.row_regularizer.constraint, problem.column_regularizer.constraint

    def judged(self) -> tuple[Reference, float, float]:
        """Return the reference of the best start, its gap, and the constants' loss."""
        best = float(self.runs.losses[self.runs.best])
        found = reference(self.problem, self.runs)
        # Of a constant table the best constants leave nothing: what a gap is over is
        # then the size of the table, a hundred millionth of it.
        constants = self.problem.cells.constants_loss()
        floor = max(constants, 1e-8 * self.problem.cells.square)
        dtype = numpy_dtype(self.problem.dtype)
        gap = gaps.gap([best], found, floor, dtype)[0]
        if found.kind == "best found":  # the best start beside itself: nothing is known
            gap = np.nan
        return found, float(gap), constants

    def agreement(self) -> float | None:
        """Return how far the finite starts find one space of columns."""
        finite = np.isfinite(self.runs.losses)
        place = int(finite[: self.runs.best].sum())
        return subspaces.subspace_agreement(self.runs.parameters["V"][finite], place)

    def cells_of(self, values: Any, sparse: str = "missing") -> Cells:
        """Return the cells of new rows; there may be none."""
        losses = [model.loss for model in self.models]
        if hasattr(values, "tocsr"):
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

    def solved(
        self, rows: Cells, point: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the parameters of new rows, with the columns of one start fixed."""
        problem = self.problem.for_rows(rows, point)
        name = automatic_steps(problem)
        steps = LineDescent() if name == "adam" else step_named(name, problem)
        unit = float(np.finfo(point["U"].dtype).eps)
        # Where zero is all but the answer, no gradient falls to a share of the first.
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
        return np.asarray((U - self._mean) @ self._turn, dtype=U.dtype)

    def sides(self, point: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return L and R of one start in float64, of which L R^T is the prediction.

        In the units of the cells.
        """
        return sides(self.problem, point)

    def predictions(self, points: Sequence[dict[str, np.ndarray]]) -> tuple[Any, Any]:
        """Return natural parameters and cut points, the mean over some starts.

        In the units of the cells.
        """
        natural: Any = 0.0
        cuts: Any = 0.0
        for point in points:
            left, right = self.sides(point)
            natural = natural + left @ right.T
            cuts = cuts + np.asarray(point.get("cuts", np.zeros(0)), dtype=np.float64)
        return natural / len(points), cuts / len(points)

    def decoded(self, natural: np.ndarray, cuts: np.ndarray) -> list[np.ndarray]:
        """Return the numbers or codes that natural parameters stand for, by column.

        Natural parameters are in the units of the cells, numbers in those of the data.
        """
        return decoded(self.problem.cells, natural, cuts)

    def far_fills(self, fills: Sequence[np.ndarray], holes: np.ndarray) -> Far | None:
        """Return what is to be said of fills far outside what their column holds.

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

    def of_rows(
        self, point: dict[str, np.ndarray], rows: np.ndarray | slice
    ) -> dict[str, np.ndarray]:
        """Return the parameters of one start for some rows of the fitted table."""
        return {
            name: value[rows] if name in ("U", "row_biases") else value
            for name, value in point.items()
        }

    def cell_losses(self, *, constants: bool = False) -> np.ndarray:
        """Return the loss of each cell under the best start, or the best constants.

        Returns
        -------
        ndarray of shape (rows, columns), NaN at holes; of a sparse table, of shape
        (entries,)
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
        """Return columns as one array: of numbers, or of objects where there are levels."""
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

    def stored(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything as arrays and plain values.

        Raises
        ------
        InvalidValueError
            When a loss is a function of the user's.
        """
        arrays, runs = self.runs.stored()
        arrays["base"] = np.asarray(self.problem.base)
        if self.problem.cells.scales is not None:
            arrays["scales"] = self.problem.cells.scales
        if self.problem.cells.units is not None:
            arrays["column_units"] = self.problem.cells.units
        arrays |= self.known.stored()
        arrays["limits"] = self.limits
        named: list[list[Any]] = []
        for of, asked in zip(("rows", "columns"), self.constraint, strict=True):
            fixed = [one for one in asked if isinstance(one, Fixed)]
            if fixed:
                arrays[f"fixed_{of}"] = fixed[0].values
            named.append([one for one in asked if one not in fixed])
        facts: dict[str, Any] = {
            "columns": [model.described() for model in self.models],
            "offsets": self.problem.offsets,
            "constraint": named,
            "penalty": self.penalty,
            "runs": runs,
        }
        return arrays, facts

    @classmethod
    def restored(
        cls, arrays: dict[str, np.ndarray], facts: dict[str, Any], combine: str
    ) -> Fitted:
        """Return the model that `stored` gave; it knows the columns, not the table."""
        models = [ColumnModel.restored(column) for column in facts["columns"]]
        if "units" in arrays:
            arrays = _standardized(arrays, models)
        runs = Runs.restored(arrays, facts["runs"])
        known = cells(
            np.ones((1, len(models))),  # a value that every loss is for
            [model.loss for model in models],
            levels=[len(model.levels) for model in models],
            scales=arrays.get("scales", False),
            units=arrays.get("column_units"),
        )
        problem = Factorization.of_columns(
            known,
            {name: value[runs.best] for name, value in runs.parameters.items()},
            offsets=facts["offsets"],
            constraint=_restored_constraint(arrays, facts["constraint"]),
            penalty=facts["penalty"],
            base=arrays["base"],
        )
        if len(runs.parameters["V"][0]) != known.coordinates:
            raise InvalidValueError(
                f"it has {known.coordinates} coordinates, but factors of "
                f"{len(runs.parameters['V'][0])}"
            )
        offsets = arrays["base"]
        if "offsets" in runs.parameters:
            offsets = offsets + runs.parameters["offsets"][runs.best]
        known_means = Known.restored(arrays, offsets)
        limits = arrays.get("limits", np.full((2, len(models)), np.nan))
        return cls(models, problem, runs, combine, known_means, limits)


def decoded(found: Cells, natural: np.ndarray, cuts: np.ndarray) -> list[np.ndarray]:
    """Return the numbers or codes that natural parameters stand for, by column.

    Parameters
    ----------
    found : Cells
    natural : ndarray of shape (rows, coordinates)
        In the units of the cells; numbers are returned in those of the data.
    cuts : ndarray of shape (cut_count,)
    """
    codes: list[Any] = [None] * found.shape[1]
    for block in found.blocks:
        values = block.loss.impute(block.predictions(natural), **block.cuts(cuts))
        for place, column in enumerate(block.columns):
            codes[column] = values[:, place]
            if found.units is not None and block.loss.has_units:
                codes[column] = codes[column] * found.units[column]
    return codes


def _standardized(
    arrays: dict[str, np.ndarray], models: list[ColumnModel]
) -> dict[str, np.ndarray]:
    """Return the arrays of a model that an earlier version stored, in today's units.

    There, V and offsets were in the units of their coordinates, as they are here, but
    the weights of columns, what penalized offsets deviate from, and row biases were in
    those of the data.

    Raises
    ------
    InvalidValueError
        When it has scaled columns and row biases, which have no counterpart.
    """
    arrays = dict(arrays)
    old = arrays.pop("units")
    if "scales" not in arrays:
        return arrays
    if "parameters/row_biases" in arrays:
        raise InvalidValueError(
            "it was stored by an earlier version with scaled columns and row biases, "
            "which this version cannot apply; fit it again"
        )
    known = cells(
        np.ones((1, len(models))),
        [model.loss for model in models],
        levels=[len(model.levels) for model in models],
    )
    places, units, ratios = known.coordinate_columns, *np.ones((2, len(models)))
    for unit, column in zip(old, places, strict=True):
        loss = models[column].loss
        if loss.has_units:
            units[column] = loss.unit(float(unit))
            ratios[column] = loss.size_in(units[column])
    factor = old / units[places]
    arrays["base"] = arrays["base"] / units[places]
    arrays["scales"] = arrays["scales"] * ratios
    arrays["column_units"] = units
    arrays["parameters/V"] = arrays["parameters/V"] * factor[:, None]
    if "parameters/offsets" in arrays:
        arrays["parameters/offsets"] = arrays["parameters/offsets"] * factor
    return arrays


def _restored_constraint(arrays: dict[str, np.ndarray], named: Any) -> list[list[Any]]:
    """Return the constraints of both factors, with fixed values that lie apart."""
    found = []
    for of, names in zip(("rows", "columns"), renamed_sets(named), strict=True):
        asked = list(names) if isinstance(names, list) else [names]
        if f"fixed_{of}" in arrays:
            asked.append(Fixed(arrays[f"fixed_{of}"]))
        found.append(asked)
    return found


def automatic_steps(problem: Factorization) -> str:
    """Return the name of the steps that fit a problem.

    Alternating where every loss is squared, where one is robust or there is a
    constraint and all have a quadratic above them, and for one divergence; L-BFGS for
    other smooth losses; under constraints gradient descent that finds its own rate, or
    Adam for a function of the user's, of which nothing is known, and which has no
    columns of norm one.

    Examples
    --------
    >>> automatic_steps(Factorization([[1.0, 1.0], [0.0, 1.0]], 1, loss="logistic"))
    'lbfgs'
    """
    found = problem.cells
    quadratic = all(block.loss.quadratic for block in found.blocks)
    robust = any(block.loss.robust for block in found.blocks)
    wanted = quadratic or robust or problem.constrained
    applies = alternating.applies(problem) or guarded.applies(problem)
    if applies and wanted:
        return "alternating"
    if found.smooth and not problem.constrained:
        return "lbfgs"
    own = any(block.loss.name == "own" for block in found.blocks)
    coupled = any(
        side.inside is not None and side.inside.couples
        for side in (problem.row_regularizer, problem.column_regularizer)
    )  # which asks for one rate
    return "adam" if not coupled and (own or not found.smooth) else "gd"


def step_named(
    name: str, problem: Factorization, rate: float | None = None
) -> UpdateRule:
    """Return the update rule of a name; "auto" is the one that fits.

    Examples
    --------
    >>> step_named("gd", Factorization([[1.0]], 1))
    LineDescent()
    """
    name = automatic_steps(problem) if name == "auto" else name
    if name == "alternating":
        checked = guarded.applies(problem) and (
            not alternating.applies(problem) or _clusters_by_losses(problem)
        )
        return Guarded() if checked else Alternating()
    if name == "lbfgs":
        return LBFGS()
    if name == "gd":
        return LineDescent() if rate is None else GradientDescent(rate)
    return Adam(ADAM_RATE if rate is None else rate)


def _clusters_by_losses(problem: Factorization) -> bool:
    """Return whether rows choose among clusters under losses that are not quadratic.

    A quadratic above such a loss is steepest where a row is, and would hold it there.
    """
    sides = (problem.row_regularizer, problem.column_regularizer)
    clusters = any(isinstance(side.inside, OneHot) for side in sides)
    return clusters and not all(block.loss.quadratic for block in problem.cells.blocks)


def name_of(step: UpdateRule) -> str:
    """Return the name of an update rule, as `step_named` takes it where it can.

    Examples
    --------
    >>> name_of(LBFGS())
    'lbfgs'
    """
    names = {"LineDescent": "gd", "GradientDescent": "gd", "Guarded": "alternating"}
    kind = type(step).__name__
    return names.get(kind, kind.lower())


def with_widths(models: list[ColumnModel], problem: Factorization) -> list[ColumnModel]:
    """Give Huber's loss the width 1.345 times a robust estimate of the noise.

    The noise of a column is judged from a fit by absolute loss: the median size of its
    residuals over 0.6745, among the largest N - p of N, as the fit itself makes as many
    as its parameters, p, vanish [1]_.

    Parameters
    ----------
    models : list of ColumnModel
    problem : Factorization
        With absolute loss in place of Huber's.

    References
    ----------
    .. [1] Maronna, Martin and Yohai (2006), "Robust Statistics", section 4.4.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(400, 40))
    >>> models = [ColumnModel(str(j), Huber(), (), "") for j in range(40)]
    >>> problem = Factorization(noise, 1, loss="absolute")
    >>> widths = [m.loss.width for m in with_widths(models, problem)]
    >>> bool(np.allclose(widths, 1.345, rtol=0.25))
    True
    """
    # In one unit for the whole table, if not in one for each column.
    over, unit = rescaled(problem), 1.0
    if over is not None:
        problem, unit = over.problem, over.unit
        # Penalties are those of Huber's loss, which is of one degree more in the unit.
        problem.row_regularizer = charged(problem.row_regularizer, 1.0, unit)
        problem.column_regularizer = charged(problem.column_regularizer, 1.0, unit)
        problem.l2_biases /= unit
    applies = alternating.applies(problem)
    steps: UpdateRule = Alternating() if applies else step_named("auto", problem)
    runs = descend(problem, 1, steps=steps, stop=Stop(100), width=1)
    tensors = {n: torch.as_tensor(v).double() for n, v in runs.parameters.items()}
    left, right = (side[0].numpy() for side in problem.extended(tensors))
    found, given = problem.cells.in_memory, list(models)
    scale = float(np.abs(found.table).max()) or 1.0
    rows, wide = found.shape
    if hasattr(found.table, "tocsr"):
        places = np.repeat(np.arange(rows), np.diff(found.table.indptr))
        rest = found.table.data - (left[places] * right[found.table.indices]).sum(1)
        noise = _noise(np.abs(rest), problem.rank * (rows + wide))
        width = HUBER_EFFICIENCY * max(noise, 1e-9 * scale)
        return [_with_loss(model, Huber(width * unit)) for model in models]
    noises = {}
    for block in found.blocks:
        for place, column in enumerate(block.columns):
            if not isinstance(models[column].loss, Huber):
                continue
            kept = np.ones(rows, dtype=bool)
            if found.weights is not None:
                kept = found.weights[:, column] > 0
            line = right[block.first + place]
            rest = np.abs(found.table[kept, column] - left[kept] @ line)
            spent = problem.rank * (1 + rows / wide) * kept.sum() / rows
            noises[int(column)] = _noise(rest, spent)
    # A column that is fitted exactly by chance is not to become all but absolute. They
    # are compared in the units of the cells.
    units = np.full(wide, unit) if found.units is None else found.units
    typical = np.median(list(noises.values()))
    for column, noise in noises.items():
        floor = max(noise, 0.1 * typical, 1e-9 * scale)
        loss = Huber(float(HUBER_EFFICIENCY * floor * units[column]))
        given[column] = _with_loss(given[column], loss)
    return given


def _noise(sizes: np.ndarray, parameters: float) -> float:
    spent = min(int(np.ceil(parameters)), len(sizes) // 2)
    largest = np.sort(sizes)[spent:]
    return float(np.median(largest) / NORMAL_MEDIAN) if len(largest) else 0.0


def _with_loss(model: ColumnModel, loss: Huber) -> ColumnModel:
    return replace(model, loss=loss, width_from_noise=True)
