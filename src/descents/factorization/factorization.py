"""Factorization: the natural parameters of a table as U V^T of two thin factors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.complete import Complete
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
from descents.factorization.checks import check_divergences, check_sets, checked_factors
from descents.factorization.initialization import (
    INITIALIZATIONS,
    moved_inside,
)
from descents.factorization.regularized import Regularized
from descents.losses import CustomLoss
from descents.optim.functions import several_plain_steps
from descents.optim.problem import CHUNK_ENTRIES, Bound, Parameters
from descents.validation import finite_matrix, one_of, whole_number

OFFSETS = ("none", "columns", "rows", "both")


class Factorization(Regularized):
    r"""Losses of the observed cells of a table under U V^T, with penalties.

    Minimises :math:`\sum_{ij} w_{ij}\, \ell_j(a_i + b_j + u_i^\top v_j,\; x_{ij})
    + \sum_i c_i r_U(u_i) + \sum_j c_j r_V(v_j)` over U of shape (rows, rank) and V of
    shape (coordinates, rank); by default :math:`\|A - U V^\top\|_F^2`. Each column has
    one coordinate, save those of categorical loss, which have one for each class. r is
    l1 abs(x) + l2 x^2, on 0 or more where nonnegative; c is 1, or the number of observed
    cells to the power ``count_power``. A factor may be smooth from row to row, and lie in
    one of `descents.constraints.sets`.

    Parameters
    ----------
    table : array-like or sparse array of shape (rows, columns), or Cells
        What is NaN is left out of the loss. It is not centred here. `Cells`, made by
        `descents.cells.observed.cells`, also have weights, scales and levels.
    rank : int
        From 1 to min(rows, columns); up to the number of rows of a factor whose rows
        are shares or sparse.
    loss : str, Loss, callable, or a sequence of one for each column
        Only of a table; Cells have their own.
    offsets : {"none", "columns", "rows", "both"}
        Whether the columns have offsets b and the rows biases a.
    constraint, penalty
        As `descents.constraints.constraints.regularizers` takes them.
    initialization : {"uniform", "normal", "spectral", "nndsvd", "centers"} or arrays
        Uniform on [0, 1); normal, of such a size that U V^T has the spread of the
        table; from the leading singular vectors of what the best constants leave
        (later starts shaken); its nonnegative form [1]_; V of rows of the table that
        lie apart, as k-means++ chooses them [2]_, and U of ones where they are the
        nearest; or a pair of U of shape (starts, rows, rank) and V of shape (starts,
        coordinates, rank), of which start k takes the k-th. Where a factor has to lie
        in a set, it begins at the nearest point of that.
    dtype : torch.dtype, optional
        float32 or float64, by default that of the table.
    device : str or torch.device

    Attributes
    ----------
    cells : Cells
    strength : ndarray of shape (1,), or (S, 1) where starts differ in it
        What the penalties of the factors, not those of biases, are multiplied by.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.

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
        most = None if found is None else min(found.shape)
        if found is not None and asked is not None:
            most = most_components(found.shape, *asked[:2])
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
        """Return a problem on the same cells that keeps its tensors for itself."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._base, other._kept = self.base, {}
        return other

    def _largest(self) -> int:
        if isinstance(self.cells, Complete | Streamed):
            return self.cells.size
        q = self.rank + 2
        return max(self.cells.size, sum(self.cells.shape) * q * (q + 1) // 2)

    @property
    def units(self) -> np.ndarray:
        """What predictions are multiplied by, to be in the units of the data."""
        return self.cells.coordinate_units

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Draw U, then V, of one start; offsets and cut points begin at the best ones.

        Rows and columns without a cell begin, and stay, at zero.
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
                # As with the least of penalties: what is like other columns but for
                # its cells is their mean.
                mean = self._mean_offset - self.base
                point["offsets"] = np.where(blank, mean, point["offsets"])
        if self.cells.cut_count:
            point["cuts"] = self.cells.cuts
        return point

    def _member(self, asked: Regularizer, drawn: np.ndarray) -> np.ndarray:
        """Return the nearest factor that meets its constraint, and is no cause of zeros."""
        # A copy: what was given may be read-only.
        point = torch.from_numpy(np.array(drawn, dtype=np.float64))
        nearest = asked.nearest(point).numpy()
        if isinstance(asked.inside, Simplex) and self.diverges:
            nearest = moved_inside(nearest)
        return np.asarray(nearest)

    @property
    def diverges(self) -> bool:
        """Whether a loss is infinite, and without a slope, where zero is predicted."""
        return any(block.loss.divergence for block in self.cells.blocks)

    def _row_point(self) -> dict[str, np.ndarray]:
        """Return zeros; multiplicative steps, which would stay there, get ones."""
        U = np.full((self.cells.shape[0], self.rank), 1.0 if self.diverges else 0.0)
        U[self.cells.row_counts == 0] = 0
        if self.row_regularizer.inside is not None:
            U = self.row_regularizer.nearest(torch.as_tensor(U)).numpy()
        point: dict[str, np.ndarray] = {"U": U}
        if self.has_row_biases:
            point["row_biases"] = np.zeros(len(U))
        return point

    def for_rows(self, rows: Cells, parameters: Mapping[str, np.ndarray]) -> Any:
        """Return the problem of new rows, all that belongs to the columns held fixed.

        Parameters
        ----------
        rows : Cells
            Of other rows, with the same columns.
        parameters : mapping of ndarray
            Of one start of this problem, without a start axis.

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

    def of_rows(self, place: slice, rows: Cells) -> Factorization:
        """Return the problem of some rows of a table that is read by blocks of them.

        Parameters
        ----------
        place : slice
            Where they are in the table.
        rows : Cells
            Theirs.
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
        """Return a problem that knows columns alone, for `for_rows`: a stored model's.

        Parameters
        ----------
        columns : Cells
            Any rows with the columns of the model.
        parameters : mapping of ndarray
            Of one start, without a start axis.
        base : ndarray of shape (coordinates,)
            What penalised offsets deviate from.
        """
        asked = regularizers(constraint, penalty)
        problem = cls(
            columns,
            1,
            offsets=offsets,
            # What else is asked is of factors of another shape.
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
        """Return the parameters with those that are held fixed, for every start."""
        if not self._fixed:
            return parameters
        some = next(iter(parameters.values()))
        fixed = {
            name: value.to(some).expand(len(some), *value.shape)
            for name, value in self._fixed.items()
        }
        return {**parameters, **fixed}

    def extended(self, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Return L = [U, a, 1] and R = [V, 1, b], of which L R^T is the prediction.

        All in the units of the cells. Columns that the problem does not need are left
        out.
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
        """Return 1 for each row that has a cell, 0 for the others."""
        return self._held("seen rows", like, self.cells.row_counts).sign()

    def seen_coordinates(self, like: torch.Tensor) -> torch.Tensor:
        """Return 1 for each coordinate whose column has a cell, 0 for the others."""
        counts = self.cells.column_counts[self.cells.coordinate_columns]
        return self._held("seen columns", like, counts).sign()

    def cut_parameters(self, parameters: Parameters) -> torch.Tensor:
        """Return the parameters of the cut points, shape (S, cut_count)."""
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
        """Return the losses and gradients of a small table of squared losses directly.

        With S the slopes of the losses by the predictions L R^T, the gradients by L and
        R are S R and S^T L. Of few numbers, autograd takes several times as long.
        """
        found = self.cells
        small = found.shape[0] * found.coordinates <= CHUNK_ENTRIES
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
        """Return the squared losses of the cells alone, and their gradients."""
        left, right = self.extended(parameters)
        looked = self.cells.squares(torch.bmm(left, right.mT))
        if looked is None:
            return None
        losses, slopes = looked
        by_left, by_right = torch.bmm(slopes, right), torch.bmm(left.mT, slopes).mT
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
        """The loss of the best constants, or what rounding leaves of the data."""
        if self._fixed or isinstance(self.cells, Streamed):
            return None
        rounded = float(np.finfo(np.float64).eps) * self.cells.loss_of_zero
        return max(self.cells.constants_loss(), rounded)

    @property
    def side_by_side(self) -> bool:
        """Whether chunks may go side by side: not where blocks are read from a disk."""
        return type(self) is Factorization and not isinstance(self.cells, Streamed)

    @property
    def one_threaded(self) -> bool:
        """False: torch computes the steps."""
        return False

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this problem bound to starts; a derived kind has the plain way."""
        if type(self) is not Factorization:
            return Bound(self, starts)
        return BoundFactorization(self, starts)

    def predict(self, parameters: Parameters) -> torch.Tensor:
        """Return the natural parameters of each start, (S, rows, coordinates)."""
        left, right = self.extended(parameters)
        return torch.bmm(left, right.mT)


class BoundFactorization(Bound):
    """A factorization bound to starts."""

    def __init__(self, problem: Factorization, starts: torch.Tensor) -> None:
        super().__init__(problem, starts)
        cells = problem.cells
        own = any(isinstance(block.loss, CustomLoss) for block in cells.blocks)
        self._capturable = not isinstance(cells, Streamed) and not own

    def plain_steps(
        self, parameters: Parameters, step: int, rates: torch.Tensor, count: int
    ) -> tuple[int, Parameters, Parameters] | None:
        """Take some steps of gradient descent, where they take no autograd."""
        if self.fused(parameters, step) is None:
            return None
        return several_plain_steps(self, parameters, step, rates, count)

    def graph_inputs(self, step: int) -> Parameters | None:
        """Return no inputs, where all cells are in memory: every step is the same."""
        return {} if self._capturable else None


def _cells_of(table: Any, loss: Any) -> Cells:
    if hasattr(table, "tocsr"):
        return cells(table, loss)
    array = finite_matrix("table", table, holes=True)
    return cells(array, loss)
