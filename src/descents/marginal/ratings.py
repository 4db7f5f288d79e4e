"""A model of sparse ratings: fitted without settings, with predictions of any cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse

from descents.checks import Complaints, InvalidValueError
from descents.descent.loop import descend
from descents.descent.runs import Runs
from descents.descent.stopping import Stop
from descents.marginal.both_sides import (
    BothSides,
    Gamma,
    Posterior,
    Sides,
    View,
    blocks,
    csr,
    each,
    narrowed,
)
from descents.marginal.both_steps import CoordinateAscent

STEPS = Stop(200, tolerance=1e-2)
"""The loss then changes by at most 1e-4 of itself, which no prediction shows."""
ROUNDS = 20
"""How often the factors of a new row and its noise take turns."""
PIECE = 2**14
"""So many cells are predicted together."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """What is predicted of some cells.

    Attributes
    ----------
    values : float64 ndarray
        Expectations.
    deviations : float64 ndarray
        Standard deviations of what would be observed, noise included.
    """

    values: np.ndarray
    deviations: np.ndarray


@dataclass(frozen=True, eq=False)
class RatingsModel:
    """A fitted model of sparse ratings.

    Attributes
    ----------
    problem : BothSides
    runs : Runs
        The starts, of which predictions are averaged.
    """

    problem: BothSides
    runs: Runs

    @property
    def ranks(self) -> np.ndarray:
        """How many components each start has kept, shape (S,)."""
        scales = self.runs.parameters["scales"][:, : self.problem.rank]
        return np.count_nonzero(scales, axis=1)

    def predicted(self, rows: ArrayLike, columns: ArrayLike) -> Predicted:
        """Return what is predicted of cells of the table that the model was fitted to.

        Parameters
        ----------
        rows, columns : array-like of int
            The places of the cells, of equal length.
        """
        problem = self.problem
        return self._predicted(
            problem.cells, problem.sightings.rows, rows, columns, False
        )

    def predicted_new(
        self, table: Any, rows: ArrayLike, columns: ArrayLike
    ) -> Predicted:
        """Return what is predicted of cells of new rows, given their observed cells.

        Nothing is fitted again: the factors of a new row are found given those of the
        columns.

        Parameters
        ----------
        table : scipy sparse array of shape (rows, d)
            The observed cells of new rows; a row may have none.
        rows, columns : array-like of int
            The places of the cells in this table.
        """
        problem = self.problem
        if not sparse.issparse(table) or table.shape[1:] != (problem.columns,):
            raise InvalidValueError(
                f"table is {type(table).__name__} of shape {np.shape(table)}; give a "
                f"sparse matrix of scipy with {problem.columns} columns, as in the fit"
            )
        cells = sparse.csr_array(table)
        cells.sum_duplicates()
        values = (cells.data.astype(np.float64) - problem.center) / problem.unit
        if not np.isfinite(values).all():
            raise InvalidValueError(
                "table has stored entries that are not finite; leave missing cells out"
            )
        cells = csr(values, cells.indices, cells.indptr, problem.columns)
        pattern = csr(None, cells.indices, cells.indptr, problem.columns)
        features = problem.sightings.of_rows(pattern)
        return self._predicted(cells, features, rows, columns, True)

    def _predicted(
        self,
        cells: Any,
        features: torch.Tensor,
        rows: ArrayLike,
        columns: ArrayLike,
        new: bool,
    ) -> Predicted:
        i, j = _places(rows, columns, cells.shape)
        known, at = np.unique(i, return_inverse=True)
        some = sparse.csr_array(cells[known]) if len(known) else cells[:0]
        values, squares = np.zeros(len(i)), np.zeros(len(i))
        names = Sides._fields
        starts = each({n: torch.from_numpy(self.runs.parameters[n]) for n in names})
        order = np.argsort(at, kind="stable")
        for whole in starts:
            one = narrowed(whole)
            view = View.of(self.problem, one)
            rates = None if new else one.row_rates[known]
            for place, block in blocks(some, view.packed.shape[1]):
                begin, end = np.searchsorted(at[order], [place.start, place.stop])
                if begin == end:
                    continue
                counts = torch.from_numpy(np.diff(block.values.indptr).astype(float))
                own = None if rates is None else rates[place].exp()
                found, rho = _rows(
                    view, block, features[known[place]], one, counts, own
                )
                for first in range(begin, end, PIECE):
                    here = order[first : min(first + PIECE, end)]
                    of_rows = torch.from_numpy(at[here] - place.start)
                    mean, square = _cells(
                        view, found, rho, of_rows, torch.from_numpy(j[here])
                    )
                    values[here] += mean / len(starts)
                    squares[here] += square / len(starts)
        deviations = np.sqrt(np.maximum(squares - values**2, 0)) * self.problem.unit
        return Predicted(values * self.problem.unit + self.problem.center, deviations)


def fit_ratings(
    table: Any, rank: int | None = None, *, starts: int = 1, seed: int = 0
) -> RatingsModel:
    """Fit a low-rank model with biases to sparse ratings; nothing has to be tuned.

    Factors and biases of rows and columns are integrated out by variational Bayes
    (`BothSides`); components that are not needed are removed.

    Parameters
    ----------
    table : scipy sparse array of shape (n, d)
        Stored entries are ratings, zeros too; what is not stored is missing.
    rank : int, optional
        How many components to begin with, by default 20.
    starts : int
        Of how many starts predictions are averaged; each costs the same.
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
    runs = descend(problem, starts, seed, steps=CoordinateAscent(), stop=STEPS)
    return RatingsModel(problem, runs)


def _places(
    rows: ArrayLike, columns: ArrayLike, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of cells as arrays, or raise where they are not in a table."""
    complaints = Complaints()
    found = []
    for name, given, size in zip(
        ("rows", "columns"), (rows, columns), shape, strict=True
    ):
        array = np.asarray(given)
        whole = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
        complaints.require(
            whole,
            f"{name} have dtype {array.dtype} and {array.ndim} axes; give a list of int",
        )
        if whole and array.size:
            complaints.require(
                bool(array.min() >= 0 and array.max() < size),
                f"{name} go from {array.min()} to {array.max()}; give places from 0 to "
                f"{size - 1}",
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
    view: View,
    block: Any,
    features: torch.Tensor,
    one: Sides,
    counts: torch.Tensor,
    rates: torch.Tensor | None,
) -> tuple[Posterior, torch.Tensor]:
    """Return q(w) and E[rho] of rows; their noise is found too where there are no rates."""
    half = one.degrees[0].exp() / 2
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
    view: View, found: Posterior, rho: torch.Tensor, i: torch.Tensor, j: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return E[x] and E[x^2] of cells, noise included."""
    means, second = found.lifted()
    mean = (means[i] * view.means[j]).sum(1)
    square = (second[i] * view.second[j]).sum((1, 2)) + view.noise / (
        rho[i] * view.kappa[j]
    )
    return mean.numpy(), square.numpy()
