"""A model of sparse ratings without settings, which predicts any cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse

from descents.errors import Complaints, InvalidValueError
from descents.marginal.both_parameters import Gamma, Sides, each, moments, narrowed
from descents.marginal.both_rows import Block, Posterior, View, csr
from descents.marginal.both_sides import BothSides
from descents.marginal.both_steps import CoordinateAscent
from descents.marginal.sightings import Sightings
from descents.marginal.stored import Arrays, of_prefix, put, taken
from descents.optim.loop import descend
from descents.optim.runs import RunFacts, Runs
from descents.optim.stopping import Stop

STEPS = Stop(200, gradient_tol=0.03)
"""When it stops, the loss can fall by 1e-3 nats per cell: a thousandth of the noise."""
ROUNDS = 20
"""Number of rounds in which the factors of a new row and its noise are updated in turn."""
PIECE = 2**14
"""Number of cells that are predicted together."""
FORMAT = 1
"""The version of the stored form."""


class RatingsFacts(TypedDict):
    """What a file of a `RatingsModel` contains beside arrays."""

    format: int
    runs: RunFacts
    sightings: dict[str, object]
    rank: int
    columns: int
    scale: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions of some cells.

    Attributes
    ----------
    values : float64 ndarray
        Expectations.
    deviations : float64 ndarray
        Standard deviations of observations, including the noise.
    """

    values: np.ndarray
    deviations: np.ndarray


@dataclass(frozen=True, eq=False)
class Start:
    """The part of one start that predictions depend on.

    Attributes
    ----------
    one : Sides
    view : View
        The moments of the columns.
    means, second : Tensor
        As in the view, with one more column, which has no observed cell.
    kappa : Tensor of shape (d + 1,)
    """

    one: Sides
    view: View
    means: torch.Tensor
    second: torch.Tensor
    kappa: torch.Tensor

    @classmethod
    def of(cls, problem: BothSides, parameters: Sides) -> Start:
        """Return it from the parameters of the start."""
        one = narrowed(parameters)
        view = View.of(one, problem.precisions(one)[1].mean)
        prior = problem.column_prior(one, problem.sightings.of_blank()[1])
        blank = moments(one._replace(factors=prior), torch.eye(prior.shape[1])[None])
        return cls(
            one,
            view,
            torch.cat([view.means, blank[0]]),
            torch.cat([view.second, blank[1]]),
            torch.cat([view.kappa, view.kappa.new_ones(1)]),
        )


@dataclass(frozen=True, eq=False)
class RatingsModel:
    """A fitted model of sparse ratings.

    Attributes
    ----------
    problem : BothSides
    runs : Runs
        The starts, whose predictions are averaged.
    """

    problem: BothSides
    runs: Runs

    @property
    def ranks(self) -> np.ndarray:
        """Number of components of each start that were not removed, shape (S,)."""
        scales = self.runs.parameters["scales"][:, : self.problem.rank]
        return np.count_nonzero(scales, axis=1)

    @cached_property
    def starts(self) -> list[Start]:
        """The part of each start that predictions depend on."""
        parameters = self.runs.parameters
        found = each({n: torch.from_numpy(parameters[n]) for n in Sides._fields})
        return [Start.of(self.problem, one) for one in found]

    def predicted(
        self, rows: ArrayLike, columns: ArrayLike, *, unseen: bool = False
    ) -> Predicted:
        """Return predictions of cells of the table of the fit.

        Parameters
        ----------
        rows, columns : array-like of int
            The positions of the cells, of equal length.
        unseen : bool
            Whether positions after the last row or column are allowed; they stand for a row
            or column without observed cells.
        """
        problem = self.problem
        i, j = _places(rows, columns, problem.cells.shape, (unseen, unseen))
        cells, features = problem.cells, problem.sightings.rows
        lacking = bool((i >= problem.rows).any())
        if lacking:  # one more row, without any cell
            i = np.minimum(i, problem.rows)
            ends = np.append(cells.indptr, cells.indptr[-1])
            cells = csr(cells.data, cells.indices, ends, problem.columns)
            features = torch.cat([features, problem.sightings.of_blank()[0]])
        rates = []
        for start in self.starts:
            prior = start.one.degrees[:1] - np.log(2.0)
            both = [start.one.row_rates, *[prior] * lacking]
            rates.append(torch.cat(both).exp())
        return self._predicted(cells, features, i, j, rates)

    def predicted_new(
        self,
        table: sparse.sparray,
        rows: ArrayLike,
        columns: ArrayLike,
        *,
        unseen: bool = False,
    ) -> Predicted:
        """Return predictions of cells of new rows, given their observed cells.

        The model is not fitted again: the factors of a new row follow from those of the
        columns.

        Parameters
        ----------
        table : scipy sparse array of shape (rows, d)
            The observed cells of new rows.
        rows, columns : array-like of int
            The positions of the cells in this table.
        unseen : bool
            Whether places after the last column are allowed.
        """
        problem = self.problem
        if not sparse.issparse(table) or table.shape[1:] != (problem.columns,):
            raise InvalidValueError(
                f"table is {type(table).__name__} of shape {np.shape(table)}; give a "
                f"sparse matrix of scipy with {problem.columns} columns, as in the fit"
            )
        cells = sparse.csr_array(table)
        if not cells.has_canonical_format:
            cells = cells.copy()
            cells.sum_duplicates()
        values = (cells.data.astype(np.float64) - problem.center) / problem.unit
        if not np.isfinite(values).all():
            raise InvalidValueError(
                "table has stored entries that are not finite; leave missing cells out"
            )
        i, j = _places(rows, columns, cells.shape, (False, unseen))
        cells = csr(values, cells.indices, cells.indptr, problem.columns)
        pattern = csr(None, cells.indices, cells.indptr, problem.columns)
        features = problem.sightings.of_rows(pattern)
        return self._predicted(cells, features, i, j, [None] * len(self.starts))

    def _predicted(
        self,
        cells: sparse.csr_array,
        features: torch.Tensor,
        i: np.ndarray,
        j: np.ndarray,
        rates: Sequence[torch.Tensor | None],
    ) -> Predicted:
        known, at = np.unique(i, return_inverse=True)
        some = sparse.csr_array(cells[known]) if len(known) else cells[:0]
        values, squares = np.zeros(len(i)), np.zeros(len(i))
        columns = torch.from_numpy(np.minimum(j, self.problem.columns))
        order = np.argsort(at, kind="stable")
        for start, rate in zip(self.starts, rates, strict=True):
            for place, block in start.view.blocks(some):
                begin, end = np.searchsorted(at[order], [place.start, place.stop])
                here = known[place]
                found, rho = _rows(
                    start, block, features[here], None if rate is None else rate[here]
                )
                for first in range(begin, end, PIECE):
                    part = order[first : min(first + PIECE, end)]
                    of_rows = torch.from_numpy(at[part] - place.start)
                    mean, square = _cells(start, found, rho, of_rows, columns[part])
                    values[part] += mean / len(self.starts)
                    squares[part] += square / len(self.starts)
        std = np.sqrt(np.maximum(squares - values**2, 0)) * self.problem.unit
        return Predicted(values * self.problem.unit + self.problem.center, std)

    def stored(self) -> tuple[Arrays, RatingsFacts]:
        """Return the model as named arrays and plain values."""
        arrays, runs = self.runs.stored()
        arrays = {f"runs/{name}": array for name, array in arrays.items()}
        problem = self.problem
        for name in ("data", "indices", "indptr"):
            arrays[f"cells/{name}"] = getattr(problem.cells, name)
        facts = put(arrays, "sightings", problem.sightings)
        return arrays, {
            "format": FORMAT,
            "runs": runs,
            "sightings": facts,
            "rank": problem.rank,
            "columns": problem.columns,
            "scale": (problem.center, problem.unit),
        }

    @classmethod
    def restored(
        cls, arrays: Mapping[str, np.ndarray], facts: RatingsFacts
    ) -> RatingsModel:
        """Return the model that `stored` gave."""
        runs = of_prefix(arrays, "runs/")
        data, places, ends = (
            arrays[f"cells/{name}"] for name in ("data", "indices", "indptr")
        )
        features = taken(Sightings, arrays, "sightings", facts["sightings"])
        center, unit = facts["scale"]
        cells = csr(data, places, ends, facts["columns"])
        problem = BothSides.of_parts(cells, facts["rank"], (center, unit), features)
        return cls(problem, Runs.restored(runs, facts["runs"]))


def fit_ratings(
    table: sparse.sparray,
    rank: int | None = None,
    *,
    starts: int = 1,
    seed: int = 0,
    stop: Stop = STEPS,
) -> RatingsModel:
    """Fit a low-rank model with biases to sparse ratings; there is nothing to tune.

    Factors and biases of rows and columns are integrated out by variational Bayes
    (`BothSides`); components that are not needed are removed.

    Parameters
    ----------
    table : scipy sparse array of shape (n, d)
        Stored entries are ratings, including zeros; all other cells are missing.
    rank : int, optional
        The number of components at the beginning, by default
        `descents.marginal.both_sides.default_rank`.
    starts : int
        The number of starts, whose predictions are averaged; each takes the same time.
    seed : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(60, 1)) * rng.normal(size=40) + 3
    >>> values += 0.1 * rng.normal(size=(60, 40))
    >>> table = sparse.coo_array(values * (rng.random((60, 40)) < 0.5))
    >>> model = fit_ratings(table)
    >>> model.ranks
    array([1])
    >>> cells = model.predicted([0, 1], [2, 3])
    >>> bool((abs(cells.values - values[[0, 1], [2, 3]]) < 4 * cells.deviations).all())
    True
    """
    problem = BothSides(table, rank)
    steps = CoordinateAscent(single=True, gradients=False)
    runs = descend(problem, starts, seed, steps=steps, stop=stop)
    return RatingsModel(problem, runs)


def _places(
    rows: ArrayLike,
    columns: ArrayLike,
    shape: tuple[int, int],
    unseen: tuple[bool, bool],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of cells as arrays, or raise an error if they are not in a table.

    Positions after the end are allowed where `unseen` is true.
    """
    complaints = Complaints()
    found = []
    for name, given, size, open_ended in zip(
        ("rows", "columns"), (rows, columns), shape, unseen, strict=True
    ):
        array = np.asarray(given)
        whole = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
        complaints.require(
            whole,
            f"{name} have dtype {array.dtype} and {array.ndim} axes; give a list of int",
        )
        if whole and array.size:
            complaints.require(
                bool(array.min() >= 0 and (open_ended or array.max() < size)),
                f"{name} go from {array.min()} to {array.max()}; give places from 0 "
                + ("on" if open_ended else f"to {size - 1}"),
            )
        found.append(array.astype(np.int64) if whole else array)
    complaints.require(
        found[0].shape == found[1].shape,
        f"there are {found[0].size} rows and {found[1].size} columns; give one of each "
        "for every cell",
    )
    complaints.raise_any()
    return found[0], found[1]


def _rows(
    start: Start, block: Block, features: torch.Tensor, rates: torch.Tensor | None
) -> tuple[Posterior, torch.Tensor]:
    """Return q(w) and E[rho] of rows; without rates, q(rho) is also fitted to their cells."""
    view, half = start.view, start.one.degrees[0].exp() / 2
    counts = torch.from_numpy(np.diff(block.values.indptr).astype(float))
    shapes = half + counts / 2
    if rates is not None:
        rho = Gamma(shapes, rates).mean
        return view.rows(block, features, rho), rho
    rho = torch.ones_like(shapes)
    for _ in range(ROUNDS):
        found = view.rows(block, features, rho)
        rho = Gamma(shapes, half + found.squares / (2 * view.noise)).mean
    return view.rows(block, features, rho), rho


def _cells(
    start: Start, found: Posterior, rho: torch.Tensor, i: torch.Tensor, j: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return E[x] and E[x^2] of cells, including the noise.

    With x = h_i^T c_j + e, E[x] = E[h_i]^T E[c_j], and E[x^2] = tr(E[h_i h_i^T]
    E[c_j c_j^T]) + sigma^2 / (E[rho_i] E[kappa_j]).
    """
    means, second = found.lifted
    mean = (means[i] * start.means[j]).sum(1)
    square = (second[i] * start.second[j]).sum((1, 2))
    square = square + start.view.noise / (rho[i] * start.kappa[j])
    return mean.numpy(), square.numpy()
