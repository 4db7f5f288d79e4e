"""Factorization: models the natural parameters of a table as U V^T of two thin factors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.cells.distributed import Distributed
from descents.cells.observed import cells
from descents.cells.streamed import Streamed
from descents.constraints.constraints import (
    Regularizer,
    most_components,
    regularizers,
)
from descents.constraints.sets import Simplex
from descents.devices import torch_device, torch_dtype
from descents.errors import Complaints
from descents.factorization.bound import BoundFactorization
from descents.factorization.checks import check_divergences, check_sets, checked_factors
from descents.factorization.initialization import (
    INITIALIZATIONS,
    moved_inside,
)
from descents.factorization.regularized import Regularized
from descents.optim.problem import CHUNK_ENTRIES, Bound, Parameters
from descents.validation import finite_matrix, one_of, whole_number

OFFSETS = ("none", "columns", "rows", "both")


class Factorization(Regularized):
    r"""Losses of the observed cells of a table under U V^T, with penalties.

    Minimizes :math:`\sum_{ij} w_{ij}\, \ell_j(a_i + b_j + u_i^\top v_j,\; x_{ij})
    + \sum_i c_i r_U(u_i) + \sum_j c_j r_V(v_j)` over U of shape (rows, rank) and V of
    shape (coordinates, rank). By default this is :math:`\|A - U V^\top\|_F^2`. A column
    has one coordinate, or one per class if its loss is categorical. r is the penalty
    l1 abs(x) + l2 x^2, restricted to x >= 0 if the factor is nonnegative. c is the number
    of observed cells of the row or column to the power ``count_power``, which is 0 by
    default. A smoothness penalty on differences of successive rows may be added. A factor
    may be constrained to a set of `descents.constraints.sets`.

    Parameters
    ----------
    table : array-like or sparse array of shape (rows, columns), or Cells
        NaN cells have no loss. The table is not centered. `Cells`, made by
        `descents.cells.observed.cells`, also have weights, scales and levels.
    rank : int
        From 1 to min(rows, columns). If the rows of a factor are shares or sparse, up to
        the number of rows of that factor.
    loss : str, Loss, callable, or a sequence of one for each column
        The loss of a table. Ignored for `Cells`, which have losses of their own.
    offsets : {"none", "columns", "rows", "both"}
        Whether the columns have offsets b and the rows biases a.
    constraint, penalty
        As `descents.constraints.constraints.regularizers` takes them.
    initialization : str or pair of array-like
        "uniform" draws on [0, 1). "normal" draws with a standard deviation such that
        U V^T has the spread of the table. "spectral" takes the leading singular vectors
        of the residuals of the best constants, with noise added from the second start
        on. "nndsvd" is their nonnegative form [1]_. "centers" takes V from rows of the
        table that k-means++ chooses far apart [2]_; U is nonzero at the nearest center.
        A pair of arrays U of shape (starts, rows, rank) and V of shape (starts,
        coordinates, rank) gives the initial factors of each start. Factors with a
        constraint set begin at the nearest point of the set.
    dtype : torch.dtype, optional
        float32 or float64; by default the dtype of the table.
    device : str or torch.device

    Attributes
    ----------
    cells : Cells
    strength : ndarray of shape (1,), or (S, 1) where starts differ in it
        Multiplies the penalties of the factors, but not those of biases and offsets.

    Raises
    ------
    InvalidValueError
        If parameters are invalid. One message lists all problems.

    References
    ----------
    .. [1] Boutsidis and Gallopoulos (2008), "SVD based initialization: a head start for
       nonnegative matrix factorization", Pattern Recognition 41.
    .. [2] Arthur and Vassilvitskii (2007), "k-means++: the advantages of careful
       seeding", SODA.

    Examples
    --------
    >>> from descents import descend, GradientDescent, Stop
    >>> table = [[1.0, 2.0], [2.0, 4.0], [3.0, float("nan")]]  # of rank one
    >>> runs = descend(Factorization(table, rank=1), starts=3,
    ...                steps=GradientDescent(0.02), stop=Stop(2000))
    >>> bool((runs.losses < 1e-12).all())
    True
    """

    def __init__(
        self,
        table: Any,
        rank: int,
        *,
        loss: Any = "squared",
        offsets: str = "none",
        constraint: Any = None,
        penalty: Any = None,
        initialization: str | tuple[Any, Any] = "uniform",
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        complaints = Complaints()
        found: Any = table
        if not isinstance(table, Cells):
            found = complaints.attempt(_cells_of, table, loss)
        asked = complaints.attempt(regularizers, constraint, penalty)
        most = None if found is None else min(found.whole_shape)
        if found is not None and asked is not None:
            most = most_components(found.whole_shape, *asked[:2])
        given_rank = complaints.attempt(whole_number, "rank", rank, 1, most)
        given_device = complaints.attempt(torch_device, device)
        given_dtype: Any = None
        if found is not None:
            given_dtype = complaints.attempt(torch_dtype, dtype, found.table)
        if isinstance(initialization, str):
            complaints.attempt(
                one_of, "initialization", initialization, INITIALIZATIONS
            )
        complaints.attempt(one_of, "offsets", offsets, OFFSETS)
        complaints.raise_any()
        self.cells: Cells = found
        self.together = found.together
        self.rank: int = given_rank
        self.row_regularizer, self.column_regularizer = asked[:2]
        self.l2_biases, self.count_power = asked[2:]
        self.dtype, self.device = given_dtype, given_device
        self.offsets = offsets
        self.constrained = not (
            self.row_regularizer.smooth and self.column_regularizer.smooth
        )
        check_sets(self, initialization)
        check_divergences(self)
        self.size = self._largest()
        self.row_penalties, self.coordinate_counts = self._counted()
        self.initialization = initialization
        if not isinstance(initialization, str):
            self.initial_factors = checked_factors(self, initialization)
            self.available = len(self.initial_factors["U"])
        self.strength: np.ndarray = np.ones(1)
        self._spectra: dict[str, Any] = {}
        self.turns: dict[Any, Any] = {}
        self._fixed: Parameters = {}
        self._base: np.ndarray | None = None
        self._kept: dict[Any, tuple[tuple[np.ndarray, ...], torch.Tensor]] = {}

    def __copy__(self) -> Self:
        """Return a problem on the same cells with a tensor cache of its own."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._base, other._kept = self.base, {}
        return other

    def _largest(self) -> int:
        found = self.cells
        whole = isinstance(found, Complete) or found.complete
        if whole or (isinstance(found, Streamed) and found.size == 1):
            return found.size
        q = self.rank + 2
        return max(found.size, sum(found.whole_shape) * q * (q + 1) // 2)

    @property
    def units(self) -> np.ndarray:
        """Factors from predictions to the units of the data, shape (coordinates,)."""
        return self.cells.coordinate_units

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Return the initial parameters of one start, without a start axis.

        U is drawn before V. Row biases begin at 0, offsets and cut points at the values
        that are best without factors. Rows and columns without observed cells begin,
        and stay, at zero.
        """
        if self._fixed:
            return self._row_point()
        if isinstance(self.initialization, str):
            U, V = INITIALIZATIONS[self.initialization](self, generator, start)
        else:
            U, V = self.initial_factors["U"][start], self.initial_factors["V"][start]
        blank = self.cells.column_counts[self.cells.coordinate_columns] == 0
        if blank.any():
            V = np.where(blank[:, None], 0, V)
        if not self.cells.row_counts.all():
            U = np.where((self.cells.row_counts == 0)[:, None], 0, U)
        point = {"U": U, "V": V}
        for name, _, asked in self._sides():
            if asked.constraint:
                point[name] = self._member(asked, point[name])
        if self.has_row_biases:
            point["row_biases"] = np.zeros(self.cells.shape[0])
        if self.has_offsets:
            point["offsets"] = self.cells.offsets - self.base
            if self.l2_biases > 0:
                point["offsets"] = np.where(blank, 0, point["offsets"])
            elif self.has_row_biases and self._one_scale:
                # This is the limit of a vanishing penalty: a column without observed
                # cells gets the mean offset of the other columns.
                mean = self._mean_offset - self.base
                point["offsets"] = np.where(blank, mean, point["offsets"])
        if self.cells.cut_count:
            point["cuts"] = self.cells.cuts
        return point

    def _member(self, asked: Regularizer, drawn: np.ndarray) -> np.ndarray:
        """Return the nearest factor that meets its constraint.

        For divergences it is moved inside a simplex, so that no prediction is 0.
        """
        # A copy, because the array of the user may be read-only.
        point = torch.from_numpy(np.array(drawn, dtype=np.float64))
        nearest = asked.nearest(point).numpy()
        if isinstance(asked.inside, Simplex) and self.diverges:
            nearest = moved_inside(nearest)
        return np.asarray(nearest)

    @property
    def diverges(self) -> bool:
        """Whether a loss is infinite, without a gradient, at predictions of zero."""
        return any(block.loss.divergence for block in self.cells.blocks)

    def _row_point(self) -> dict[str, np.ndarray]:
        """Return initial rows of zeros, or of ones for multiplicative steps.

        Multiplicative steps never leave zero.
        """
        U = np.full((self.cells.shape[0], self.rank), 1.0 if self.diverges else 0.0)
        U[self.cells.row_counts == 0] = 0
        if self.row_regularizer.inside is not None:
            U = self.row_regularizer.nearest(torch.as_tensor(U)).numpy()
        point: dict[str, np.ndarray] = {"U": U}
        if self.has_row_biases:
            point["row_biases"] = np.zeros(len(U))
        return point

    def for_rows(self, rows: Cells, parameters: Mapping[str, np.ndarray]) -> Any:
        """Return the problem of fitting new rows with V, offsets and cut points fixed.

        Parameters
        ----------
        rows : Cells
            The cells of the new rows, with the same columns.
        parameters : mapping of ndarray
            The parameters of one start of this problem, without a start axis.

        Examples
        --------
        >>> from descents.cells.observed import cells
        >>> problem = Factorization([[1.0, 2.0], [2.0, 4.0]], 1)
        >>> fixed = {"U": np.ones((2, 1)), "V": np.array([[1.0], [2.0]])}
        >>> list(problem.for_rows(cells([[3.0, float("nan")]]), fixed).points([0], 0))
        ['U']
        """
        other = copy.copy(self)
        other._base = self.base
        other.cells = rows
        other.row_regularizer = self.row_regularizer.of_other_rows(rows.shape[0])
        other.row_penalties, other.coordinate_counts = other._counted()
        other.size = other._largest()
        other._spectra, other.turns = {}, {}
        other.available = None
        other.initialization = "rows"
        other._fixed = {
            name: torch.as_tensor(value, dtype=self.dtype, device=self.device)
            for name, value in parameters.items()
            if name in ("V", "offsets", "cuts")
        }
        return other

    def on_whole(self, cells: Cells) -> Factorization:
        """Return the problem of all rows of a table that several processes shared."""
        other = copy.copy(self)
        other.cells, other.together = cells, cells.together
        other.row_penalties, other.coordinate_counts = other._counted()
        other._spectra, other.turns = {}, {}
        return other

    def of_rows(self, place: slice, rows: Cells) -> Factorization:
        """Return the problem of one block of rows of a table that is read in blocks.

        Parameters
        ----------
        place : slice
            The positions of the rows in the table.
        rows : Cells
            The cells of these rows.
        """
        other = copy.copy(self)
        other._base = self.base
        other.cells, other.row_penalties = rows, self.row_penalties[place]
        other.turns = {}
        return other

    @classmethod
    def of_columns(
        cls,
        columns: Cells,
        parameters: Mapping[str, np.ndarray],
        *,
        offsets: str,
        constraint: Any,
        penalty: Any,
        base: np.ndarray,
        device: str | torch.device = "cpu",
    ) -> Factorization:
        """Return the problem of a stored model, on which `for_rows` can be called.

        Parameters
        ----------
        columns : Cells
            Any rows with the columns of the model.
        parameters : mapping of ndarray
            The parameters of one start, without a start axis.
        base : ndarray of shape (coordinates,)
            The point from which the penalty of offsets measures.
        """
        asked = regularizers(constraint, penalty)
        problem = cls(
            columns,
            1,
            offsets=offsets,
            # Other constraints may have the shapes of the factors of the fitted table.
            constraint=tuple(
                "nonnegative" if side.positive else None for side in asked[:2]
            ),
            penalty=penalty,
            dtype=torch.float32
            if parameters["V"].dtype == np.float32
            else torch.float64,
            device=device,
        )
        problem.row_regularizer, problem.column_regularizer = asked[:2]
        problem.constrained = not all(side.smooth for side in asked[:2])
        problem.rank = parameters["V"].shape[1]
        problem._base = np.asarray(base)
        return problem

    def _with_fixed(self, parameters: Parameters) -> Parameters:
        """Return the parameters, with the fixed ones repeated for every start."""
        if not self._fixed:
            return parameters
        some = next(iter(parameters.values()))
        fixed = {
            name: value.to(some).expand(len(some), *value.shape)
            for name, value in self._fixed.items()
        }
        return {**parameters, **fixed}

    def extended(self, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Return L = [U, a, 1] and R = [V, 1, b], with which the prediction is L R^T.

        Shapes (S, rows, q) and (S, coordinates, q), in the units of the cells. Without
        biases or offsets, the columns for them are left out.
        """
        parameters = self._with_fixed(parameters)
        left, right = [parameters["U"]], [parameters["V"]]
        if not (self.has_row_biases or self.has_offsets):
            return left[0], right[0]
        if self.has_row_biases:
            left.append(parameters["row_biases"][..., None])
            right.append(torch.ones_like(parameters["V"][..., :1]))
        base = self._held("base", parameters["V"], self.base)
        offsets = base.expand(parameters["V"].shape[:-1])
        if self.has_offsets:
            offsets = offsets + parameters["offsets"]
        left.append(torch.ones_like(parameters["U"][..., :1]))
        right.append(offsets[..., None])
        return torch.cat(left, -1), torch.cat(right, -1)

    def seen_rows(self, like: torch.Tensor) -> torch.Tensor:
        """Return 1 for each row with observed cells, and 0 for the others, (rows,)."""
        return self._held("seen rows", like, self.cells.row_counts).sign()

    def seen_coordinates(self, like: torch.Tensor) -> torch.Tensor:
        """Return 1 for each coordinate of a column with observed cells, 0 for others."""
        counts = self.cells.column_counts[self.cells.coordinate_columns]
        return self._held("seen columns", like, counts).sign()

    def cut_parameters(self, parameters: Parameters) -> torch.Tensor:
        """Return the parameters of the cut points of ordinal losses, (S, cut_count)."""
        parameters = self._with_fixed(parameters)
        if "cuts" in parameters:
            return parameters["cuts"]
        U = parameters["U"]
        return U.new_zeros(len(U), 0)

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the summed loss and penalties of each start, shape (S,)."""
        left, right = self.extended(parameters)
        losses = self.cells.losses(left, right, self.cut_parameters(parameters))
        return self.penalized(losses, parameters)

    def fused(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients of a small table in closed form, or None.

        If S is the derivative of the squared losses by the predictions L R^T, the
        gradients by L and R are S R and S^T L. On small tables this is several times as
        fast as autograd. None if the table is large or has other losses. The cells of a
        table that several processes share compute both in any case.
        """
        found = self.cells
        small = found.shape[0] * found.coordinates <= CHUNK_ENTRIES
        small = small or isinstance(found, Distributed)
        if type(self) is not Factorization or not small or found.cut_count:
            return None
        if self.row_regularizer.smoothness or self.column_regularizer.smoothness:
            return None
        with torch.no_grad():
            looked = self._slopes(parameters)
            if looked is None:
                return None
            losses, gradients = looked
            self._add_penalty_slopes(gradients, parameters)
            return self.penalized(losses, parameters), gradients

    def _slopes(self, parameters: Parameters) -> tuple[torch.Tensor, Parameters] | None:
        """Return the squared losses without penalties and their gradients, or None."""
        left, right = self.extended(parameters)
        looked = self.cells.gradients(left, right)
        if looked is None:
            return None
        losses, by_left, by_right = looked
        if left is parameters["U"]:  # there are neither biases nor offsets
            gradients = {"U": by_left, "V": by_right}
        else:
            gradients = {
                "U": by_left[..., : self.rank],
                "V": by_right[..., : self.rank],
            }
        if self.has_row_biases:
            gradients["row_biases"] = by_left[..., self.rank]
        if self.has_offsets:
            gradients["offsets"] = by_right[..., -1]
        return losses, {name: gradients[name] for name in parameters}

    @property
    def loss_scale(self) -> float | None:
        """The loss of the best constants, and at least the rounding error of the data."""
        found = self.cells
        if self._fixed or (isinstance(found, Streamed) and found.together.size == 1):
            return None
        rounded = float(np.finfo(np.float64).eps) * self.cells.loss_of_zero
        return max(self.cells.constants_loss(), rounded)

    @property
    def side_by_side(self) -> bool:
        """Whether chunks may run in parallel; not if the table is read from a disk."""
        return type(self) is Factorization and not isinstance(self.cells, Streamed)

    @property
    def one_threaded(self) -> bool:
        """False, because torch computes the steps with its own threads."""
        return False

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this problem bound to starts; a subclass is bound without fast paths."""
        if type(self) is not Factorization:
            return Bound(self, starts)
        return BoundFactorization(self, starts)

    def predict(self, parameters: Parameters) -> torch.Tensor:
        """Return predictions as natural parameters, shape (S, rows, coordinates)."""
        left, right = self.extended(parameters)
        return torch.bmm(left, right.mT)


def _cells_of(table: Any, loss: Any) -> Cells:
    if hasattr(table, "tocsr"):
        return cells(table, loss)
    array = finite_matrix("table", table, holes=True)
    return cells(array, loss)
