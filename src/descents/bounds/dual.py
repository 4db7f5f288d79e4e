"""A lower bound on every loss of a factorization, from the dual of a convex problem.

For factors with l2 penalties, the penalty of a product X = U V^T is at least tau times its
nuclear norm. So every loss is at least the minimum over X of f(X) + tau ||X||_*, where f
is the loss of the observed cells. That is a convex problem, and every feasible point of
its dual bounds its minimum from below (`dual_bound`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from descents.bounds.gaps import Reference
from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.cells.distributed import Distributed
from descents.cells.in_memory import CellsInMemory
from descents.cells.streamed import Streamed
from descents.factorization.factorization import Factorization
from descents.linalg.spectra import WHOLE_SIDE, spectral_norm
from descents.optim.runs import Runs

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    Slopes: TypeAlias = np.ndarray | csr_array

CLOSED = 1e-3
"""A gap relative to a bound counts as closed if it is at most this."""


def dual_bound(problem: Factorization, runs: Runs) -> Reference | None:
    r"""Return a lower bound from the dual of the nuclear-norm problem, or None.

    The penalties on both factors together are at least :math:`\tau \|X\|_*` with
    :math:`\tau = 2 \sqrt{\lambda_U \lambda_V}` and X = U V^T, weighted per row and column
    if the penalties are [1]_. Let f be the loss of the observed cells. Then for every
    matrix G on the observed cells with spectral norm at most tau, :math:`-f^*(G)` is a
    lower bound on every loss. With unpenalized offsets, G must sum to zero over each
    column; penalized offsets reduce the bound by
    :math:`(\sum_i G_{ij})^2 / (4 \lambda)`. G is the gradient of the loss at the best
    start, scaled into the ball, with the scale that maximizes the bound.

    Parameters
    ----------
    problem : Factorization
        A problem with l2 on both factors, and losses with a known conjugate.
    runs : Runs

    References
    ----------
    .. [1] Srebro, Rennie and Jaakkola (2005), "Maximum-margin matrix factorization",
       NIPS.

    Examples
    --------
    >>> from descents import Factorization, Stop, descend
    >>> from descents.factorization.alternating import Alternating
    >>> table = [[3.0, float("nan"), 1.0], [0.0, 2.0, 1.0]]
    >>> problem = Factorization(table, 2, penalty=0.5)
    >>> runs = descend(problem, 1, steps=Alternating(), stop=Stop(200))
    >>> bound = dual_bound(problem, runs)
    >>> bool(abs(runs.losses[0] / bound.value - 1) < 1e-9)
    True
    """
    cells = problem.cells
    l2 = problem.row_regularizer.l2 * problem.column_regularizer.l2
    conjugate = all(b.each == 1 and b.loss.has_conjugate for b in cells.blocks)
    sparse_zeros = isinstance(cells, Complete) and hasattr(cells.table, "tocsr")
    if not l2 or not conjugate or sparse_zeros or not _is_near(cells):
        return None
    # Of a table that several processes share, each has the slopes of its rows.
    near = cells.own_rows if isinstance(cells, Distributed) else cells.in_memory
    slopes = _slopes(problem, near, runs)  # G, before scaling
    if slopes is None:
        return None
    # The largest c with ||c G|| <= tau, where the norm is weighted by the penalties.
    norm = _norm(
        problem, _scaled(slopes, problem.row_penalties, problem.coordinate_counts)
    )
    most = 2 * np.sqrt(l2) / norm if norm > 0 else 1.0
    # The dual function is concave in c, and a parabola if f is quadratic.
    search = _best_scale
    if all(block.loss.quadratic for block in cells.blocks):
        search = _top_of_parabola
    value = search(lambda c: _dual_value(problem, near, slopes, c), min(most, 4.0))
    # No loss is negative, so a bound of at most 0 adds nothing. A hinge, whose slopes are
    # 0 in most cells, may have no better one if there are offsets. For smooth losses 0
    # can be the infimum, for example if a bias separates the classes.
    best_loss = float(runs.losses[runs.best])
    empty = not cells.smooth and value <= 0 < best_loss
    if not np.isfinite(value) or empty:
        return None
    says = (
        "a lower bound on the loss of every rank, from the dual of the nuclear-norm "
        "problem at the best start"
    )
    if (best_loss - value) / max(abs(value), 1e-300) <= CLOSED:
        says += "; the gap is closed: no factors of any rank improve the loss by more"
    else:
        says += (
            "; the gap is open, which does not mean that the fit is bad: the bound equals "
            "the minimum only if the rank is at least that of the convex solution and the "
            "penalty is above the spectral norm of the noise"
        )
    return Reference(value=value, kind="bound", says=says)


def _is_near(cells: Cells) -> bool:
    """Return whether all cells are in memory, perhaps that of several processes."""
    if isinstance(cells, Distributed):
        return cells.shape[1] <= WHOLE_SIDE
    return not isinstance(cells, Streamed)


def _norm(problem: Factorization, slopes: Slopes) -> float:
    """Return the spectral norm of slopes, of which each process has some rows."""
    together = problem.together
    if together.size == 1:
        return spectral_norm(slopes)
    (gram,) = together.sum_arrays(slopes.T @ slopes)
    return float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0)) * (1 + 1e-14))


def _slopes(problem: Factorization, near: CellsInMemory, runs: Runs) -> Slopes | None:
    """Return the gradient of f at the best start, balanced; None if that fails."""
    best = {
        name: torch.as_tensor(value[runs.best : runs.best + 1]).double()
        for name, value in runs.parameters.items()
    }
    left, right = problem.extended(best)
    cuts = problem.cut_parameters(best)[0]
    slopes: Slopes = near.slopes(left[0], right[0], cuts)
    return slopes if problem.l2_biases else _balanced(problem, near, slopes)


def _dual_value(
    problem: Factorization, near: CellsInMemory, slopes: Slopes, scale: float
) -> float:
    """Return the dual function at the scaled slopes c G.

    It is -f*(c G), minus sum_j (sum_i c G_ij)^2 / (4 lambda n_j) for penalized offsets,
    where n_j is the factor of the penalty of offset j. A constant `base` that is added to
    each column of X adds the inner product of c G with it.
    """
    scaled = slopes * scale
    value = -near.conjugates(scaled)
    if problem.l2_biases and problem.has_row_biases:
        squares = np.square(_sums(problem, scaled, 1)) / problem.row_penalties
        value -= float(squares.sum() / 4 / problem.l2_biases)
    value = float(problem.together.sum_arrays(np.asarray(value))[0])
    if problem.l2_biases and problem.has_offsets:
        squares = np.square(_sums(problem, scaled, 0)) / problem.coordinate_counts
        value -= float(squares.sum() / 4 / problem.l2_biases)
    base = problem.base
    if base.any():
        value += float(_sums(problem, scaled, 0) @ base)
    return value


def _sums(problem: Factorization, slopes: Slopes, axis: int) -> np.ndarray:
    """Return the sums over all rows (axis 0), or over the columns of rows here (axis 1)."""
    found: np.ndarray = np.asarray(slopes.sum(axis=axis)).reshape(-1)
    return problem.together.sum_arrays(found)[0] if axis == 0 else found


def _best_scale(function: Callable[[float], float], most: float) -> float:
    """Return the maximum of a concave function over [0, most], by golden section."""
    ratio = (np.sqrt(5) - 1) / 2
    low, high = 0.0, most
    best = max(function(most), function(0.0))
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        first, second = function(left), function(right)
        best = max(best, first, second)
        # Outside its domain, which is an interval from 0, the function is -infinity.
        if not np.isfinite(second) or first >= second:
            high = right
        else:
            low = left
    return float(best)


def _top_of_parabola(function: Callable[[float], float], most: float) -> float:
    """Return the maximum of a quadratic function over [0, most], from three values."""
    low, middle, high = (float(function(share * most)) for share in (0, 0.5, 1))
    bend = low - 2 * middle + high
    top = most * (0.75 * low - middle + 0.25 * high) / bend if bend < 0 else most
    return max(low, middle, high, float(function(min(max(top, 0.0), most))))


def _balanced(
    problem: Factorization, near: CellsInMemory, slopes: Slopes
) -> Slopes | None:
    """Return slopes that sum to zero over each free offset, None if that fails.

    The means over rows and over columns are subtracted in turn, from observed cells only.
    """
    cells = problem.cells
    sides = [
        (axis, np.maximum(counts, 1))
        for has, axis, counts in (
            (problem.has_row_biases, 1, cells.row_counts),
            (problem.has_offsets, 0, cells.column_counts[cells.coordinate_columns]),
        )
        if has
    ]
    if isinstance(slopes, np.ndarray):
        mask = np.ones(near.shape) if near.weights is None else near.weights > 0
        mask = mask[:, cells.coordinate_columns]
    else:
        slopes = slopes.copy()
        rows = np.repeat(np.arange(slopes.shape[0]), np.diff(slopes.indptr))
        places = (slopes.indices, rows)  # of each stored cell: its column, its row
    together = problem.together
    size = float(together.most(np.asarray(np.abs(slopes).max())))
    for _ in range(1 if len(sides) < 2 else 500):
        for axis, counts in sides:
            mean = _sums(problem, slopes, axis) / counts
            if isinstance(slopes, np.ndarray):
                slopes = slopes - mask * np.expand_dims(mean, axis)
            else:
                slopes.data -= mean[places[axis]]
    worst = max(
        (np.abs(_sums(problem, slopes, axis)).max() for axis, _ in sides), default=0.0
    )
    worst = float(together.most(np.asarray(worst)))
    return slopes if worst <= 1e-9 * max(size, 1e-300) else None


def _scaled(slopes: Slopes, rows: np.ndarray, columns: np.ndarray) -> Slopes:
    """Divide slopes by the square roots of the penalties of their row and column."""
    if isinstance(slopes, np.ndarray):
        return slopes / np.sqrt(rows)[:, None] / np.sqrt(columns)
    import scipy.sparse

    return (
        scipy.sparse.diags_array(1 / np.sqrt(rows))
        @ slopes
        @ scipy.sparse.diags_array(1 / np.sqrt(columns))
    ).tocsr()
