"""The best known answer to a problem: an exact minimum, a bound, or the best loss found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from descents.cells.complete import Complete
from descents.cells.streamed import Streamed
from descents.errors import Complaints
from descents.factorization.factorization import Factorization
from descents.linalg.spectra import leading_triples, shifted
from descents.optim.runs import Runs
from descents.validation import table_and_rank

Kind = Literal["exact", "bound", "best found"]

WHOLE_SIDE = 1000
"""With more rows and columns than this, singular values are computed by Lanczos."""
CLOSED = 1e-3
"""A gap relative to a bound counts as closed if it is at most this."""


@dataclass(frozen=True)
class Reference:
    """A loss with which results are compared.

    Attributes
    ----------
    value : float
    kind : {"exact", "bound", "best found"}
        The exact minimum, a lower bound on every loss, or only the best loss found.
    says : str
        A phrase on where the value comes from.
    """

    value: float
    kind: Kind
    says: str


@dataclass(frozen=True)
class SVDAnswer:
    """The truncated SVD of a table: the exact minimizer among products of its rank.

    Attributes
    ----------
    left : ndarray of shape (rows, rank)
        Left singular vectors, orthonormal columns.
    values : ndarray of shape (min(rows, columns),)
        All singular values, in decreasing order.
    right : ndarray of shape (columns, rank)
        Right singular vectors, orthonormal columns.
    loss : float
        The squared error of the product, summed over the entries.
    reference : Reference
        Its value is the sum of the squares of the trailing singular values, an
        independent computation of the same number.
    """

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray
    loss: float
    reference: Reference


def truncated_svd(table: Any, rank: int) -> SVDAnswer:
    r"""Minimize :math:`\|A - U V^\top\|_F^2` exactly over all products of a given rank.

    The minimum is :math:`\sum_{i > r} \sigma_i^2` (Eckart and Young [1]_). It is computed
    in float64.

    Parameters
    ----------
    table : array-like of shape (rows, columns)
        A table without missing cells; the function does not center it.
    rank : int
        From 1 to min(rows, columns).

    Returns
    -------
    SVDAnswer

    Raises
    ------
    InvalidValueError
        If the table is not finite or the rank is invalid.

    References
    ----------
    .. [1] Eckart and Young (1936), "The approximation of one matrix by another of lower
       rank", Psychometrika 1.

    Examples
    --------
    >>> answer = truncated_svd([[3.0, 0.0], [0.0, 2.0]], rank=1)
    >>> answer.loss, answer.reference.value, answer.reference.kind
    (4.0, 4.0, 'exact')
    """
    complaints = Complaints()
    array, rank = table_and_rank(complaints, "table", table, rank)
    complaints.raise_any()
    array = array.astype(np.float64)
    left, values, right = np.linalg.svd(array, full_matrices=False)
    product = (left[:, :rank] * values[:rank]) @ right[:rank]
    reference = Reference(
        value=float(np.square(values[rank:]).sum()),
        kind="exact",
        says=(
            f"the exact minimum over all products of rank {rank}: the sum of the "
            "squares of the trailing singular values (Eckart and Young, 1936)"
        ),
    )
    loss = float(np.square(array - product).sum())
    return SVDAnswer(left[:, :rank], values, right[:rank].T, loss, reference)


def principal_components(table: Any, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions of largest variance, from the covariance matrix.

    They maximize v' C v over unit vectors v, each orthogonal to those before, where C is
    the covariance matrix of the columns. This is an independent computation of the
    singular vectors of `truncated_svd`.

    Parameters
    ----------
    table : array-like of shape (rows, columns)
        At least two rows; the function centers the columns.
    rank : int

    Returns
    -------
    components : ndarray of shape (columns, rank)
        Orthonormal columns.
    variances : ndarray of shape (rank,)
        The variance along each component, with divisor rows - 1.

    Examples
    --------
    >>> components, variances = principal_components([[0.0, 1], [2, 1], [4, 1]], 1)
    >>> abs(components[:, 0]), variances
    (array([1., 0.]), array([4.]))
    """
    complaints = Complaints()
    array, rank = table_and_rank(complaints, "table", table, rank)
    if array is not None:
        complaints.require(len(array) > 1, "table has one row; a variance needs two")
    complaints.raise_any()
    covariance = np.atleast_2d(np.cov(array.astype(np.float64), rowvar=False))
    variances, components = np.linalg.eigh(covariance)
    return components[:, ::-1][:, :rank], variances[::-1][:rank]


def reference(problem: Factorization, runs: Runs) -> Reference:
    """Return the best known answer to a factorization, of the strongest kind available.

    - Squared loss without missing cells: the exact minimum from the singular values of
      the table, truncated to the rank (Eckart and Young, 1936) and, with l2 on both
      factors, shrunk [1]_. Constraints, l1 and smoothness only raise the loss of a
      product, so with them the same number is a lower bound; under constraints to a set,
      only if the rank is below that of the table.
    - Missing cells, weights, Huber or logistic loss, with l2 on both factors: the dual
      bound of the nuclear-norm problem, from the best start (see `dual_bound`).
    - Otherwise: the best loss found.

    Parameters
    ----------
    problem : Factorization
    runs : Runs
        Runs of this problem.

    References
    ----------
    .. [1] Mazumder, Hastie and Tibshirani (2010), "Spectral regularization algorithms
       for learning large incomplete matrices", JMLR 11.

    Examples
    --------
    >>> from descents import Factorization, descend
    >>> problem = Factorization([[3.0, 0.0], [0.0, 2.0]], 1)
    >>> reference(problem, descend(problem, 1)).kind
    'exact'
    """
    return shrunk_svd(problem) or dual_bound(problem, runs) or best_found(runs)


def shrunk_svd(problem: Factorization) -> Reference | None:  # noqa: PLR0912
    r"""Return the minimum of squared loss without missing cells, None if it is unknown.

    With singular values s of the centered table and t the geometric mean of the two l2
    penalties, :math:`\sum_i s_i^2 - \sum_{i \le r} (s_i - t)_+^2`.

    Examples
    --------
    >>> exact = shrunk_svd(Factorization([[3.0, 0.0], [0.0, 2.0]], 1, penalty=1.0))
    >>> round(exact.value, 9)
    9.0
    """
    cells, rank = problem.cells, problem.rank
    sides = (problem.row_regularizer, problem.column_regularizer)
    # For constraint sets, with the rank of the table, the bound is zero, which is useless.
    within = any(side.inside is not None for side in sides)
    empty = within and rank >= min(cells.shape)
    weights = _column_weights(problem)
    free = not (problem.has_offsets or problem.has_row_biases) or not problem.l2_biases
    if weights is None or not free or problem.count_power or empty:
        return None
    table: Any = None
    if isinstance(cells, Streamed):
        table = _triangle(problem, cells)
    else:
        table = cells.in_memory.table
        if (weights != 1).any():
            table = table * np.sqrt(weights)
    dense = isinstance(table, np.ndarray)
    if problem.has_row_biases and not isinstance(cells, Streamed):
        if not dense:
            return None
        table = table - table.mean(1, keepdims=True, dtype=np.float64)
    if dense and problem.has_offsets and not isinstance(cells, Streamed):
        table = table - table.mean(0, dtype=np.float64)
    if dense:
        table = table.astype(np.float64)
        square = float(np.square(table).sum())
    else:
        square = float(np.square(table.data.astype(np.float64)).sum())
        if problem.has_offsets:
            square -= float(np.square(cells.offsets).sum()) * cells.shape[0]
            table = shifted(table, cells.offsets)
    rows, columns = problem.row_regularizer, problem.column_regularizer
    # The penalty is on V, but the singular values are those of the weighted table.
    unit = float(np.sqrt(weights[0]))
    threshold = float(np.sqrt(rows.l2 * columns.l2)) / unit
    whole = dense and min(table.shape) <= WHOLE_SIDE
    if whole:
        values = np.linalg.svd(table, compute_uv=False)
        # A sum of small squares has no cancellation if the tail is tiny.
        tail = float(np.square(values[rank:]).sum())
    else:
        values = leading_triples(table, rank)[1]
        tail = square - float(np.square(values).sum())
    # The sum over the rest, plus s^2 - (s - t)_+^2 for the leading singular values.
    head = values[:rank]
    shrunk = np.square(head) - np.square(np.maximum(head - threshold, 0))
    value = tail + float(shrunk.sum()) if threshold else tail
    one_sided = (rows.l2 > 0) != (columns.l2 > 0)
    smoothed = any(side.smoothness > 0 for side in sides)
    if problem.constrained or one_sided or smoothed:
        return Reference(
            value=value,
            kind="bound",
            says=(
                f"a lower bound: no product of rank {rank} has a lower loss, with or "
                "without constraints (Eckart and Young, 1936); the constrained minimum is "
                "above it by an unknown amount"
            ),
        )
    says = (
        f"the exact minimum over all products of rank {rank}: the sum of the squares of "
        "the trailing singular values (Eckart and Young, 1936)"
    )
    if threshold:
        says = (
            f"the exact minimum over all factors of rank {rank}, by shrinking the "
            "singular values (Mazumder, Hastie and Tibshirani, 2010)"
        )
    return Reference(value=value, kind="exact", says=says)


def _triangle(problem: Factorization, cells: Streamed) -> np.ndarray:
    """Return a small matrix with the singular values of a centered table on disk."""
    constant = cells.offsets if problem.has_offsets else np.zeros(cells.shape[1])
    if problem.has_row_biases:
        constant = constant - constant.mean()
    return cells.triangle(constant, level=problem.has_row_biases)


def _column_weights(problem: Factorization) -> np.ndarray | None:
    """Return the weight of each column of a complete table under squared loss.

    Return None if there are missing cells, other losses, or weights for which no exact
    answer is known.
    """
    cells = problem.cells
    if len(cells.blocks) > 1 or not cells.blocks[0].loss.quadratic:
        return None
    if isinstance(cells, Streamed):
        usable = cells.complete and cells.has_triangle
        return np.ones(cells.shape[1]) if usable else None
    if isinstance(cells, Complete):
        return np.ones(cells.shape[1])
    if (
        hasattr(cells.in_memory.table, "tocsr")
        or cells.observed < cells.shape[0] * cells.shape[1]
    ):
        return None
    weights: np.ndarray = cells.weights[0]
    penalized = problem.row_regularizer.l2 * problem.column_regularizer.l2 > 0
    uneven = penalized and np.ptp(weights) > 2e-12 * weights.max()
    if problem.has_row_biases or uneven or (cells.weights != weights).any():
        return None
    return weights


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
    import torch

    cells = problem.cells
    l2 = problem.row_regularizer.l2 * problem.column_regularizer.l2
    conjugate = all(b.each == 1 and b.loss.has_conjugate for b in cells.blocks)
    sparse_zeros = isinstance(cells, Complete) and hasattr(cells.table, "tocsr")
    if not l2 or not conjugate or sparse_zeros or isinstance(cells, Streamed):
        return None
    best = {
        name: torch.as_tensor(value[runs.best : runs.best + 1]).double()
        for name, value in runs.parameters.items()
    }
    left, right = problem.extended(best)
    slopes = cells.in_memory.slopes(left[0], right[0], problem.cut_parameters(best)[0])
    if not problem.l2_biases:
        slopes = _balanced(problem, slopes)
        if slopes is None:
            return None
    norm = _spectral_norm(
        _scaled(slopes, problem.row_penalties, problem.coordinate_counts)
    )
    most = 2 * np.sqrt(l2) / norm if norm > 0 else 1.0
    search = _best_scale
    if all(block.loss.quadratic for block in cells.blocks):
        search = _top_of_parabola
    value = search(lambda c: _dual_value(problem, slopes, c), min(most, 4.0))
    # No loss is negative, so a bound of at most 0 adds nothing. A hinge, whose slopes are
    # 0 in most cells, may have no better one if there are offsets. For smooth losses 0
    # can be the infimum, for example if a bias separates the classes.
    empty = not cells.smooth and value <= 0 < runs.losses[runs.best]
    if not np.isfinite(value) or empty:
        return None
    gap = (float(runs.losses[runs.best]) - value) / max(abs(value), 1e-300)
    says = (
        "a lower bound on the loss of every rank, from the dual of the nuclear-norm "
        "problem at the best start"
    )
    if gap <= CLOSED:
        says += "; the gap is closed: no factors of any rank improve the loss by more"
    else:
        says += (
            "; the gap is open, which does not mean that the fit is bad: the bound equals "
            "the minimum only if the rank is at least that of the convex solution and the "
            "penalty is above the spectral norm of the noise"
        )
    return Reference(value=value, kind="bound", says=says)


def _dual_value(problem: Factorization, slopes: Any, scale: float) -> float:
    """Return the dual function at the scaled slopes."""
    scaled = slopes * scale
    value = -problem.cells.in_memory.conjugates(scaled)
    if problem.l2_biases:
        for has, axis, counts in (
            (problem.has_row_biases, 1, problem.row_penalties),
            (problem.has_offsets, 0, problem.coordinate_counts),
        ):
            if has:
                sums = np.asarray(scaled.sum(axis=axis)).reshape(-1)
                value -= float((np.square(sums) / counts).sum() / 4 / problem.l2_biases)
    base = problem.base
    if base.any():
        value += float(np.asarray(scaled.sum(axis=0)).reshape(-1) @ base)
    return value


def _best_scale(function: Any, most: float) -> float:
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


def _top_of_parabola(function: Any, most: float) -> float:
    """Return the maximum of a quadratic function over [0, most], from three values."""
    low, middle, high = (float(function(share * most)) for share in (0, 0.5, 1))
    bend = low - 2 * middle + high
    top = most * (0.75 * low - middle + 0.25 * high) / bend if bend < 0 else most
    return max(low, middle, high, float(function(min(max(top, 0.0), most))))


def _balanced(problem: Factorization, slopes: Any) -> Any:
    """Return slopes that sum to zero over each free offset, None if that fails.

    The means over rows and over columns are subtracted in turn.
    """
    cells = problem.cells
    sides = [
        (has, axis, counts)
        for has, axis, counts in (
            (problem.has_row_biases, 1, cells.row_counts),
            (problem.has_offsets, 0, cells.column_counts[cells.coordinate_columns]),
        )
        if has
    ]
    sparse = hasattr(slopes, "tocsr")
    if sparse:
        slopes = slopes.copy()
        rows = np.repeat(np.arange(slopes.shape[0]), np.diff(slopes.indptr))
    else:
        mask = np.ones(cells.shape) if cells.weights is None else cells.weights > 0
        mask = mask[:, cells.coordinate_columns]
    size = np.abs(slopes).max()
    for _ in range(1 if len(sides) < 2 else 500):
        for _, axis, counts in sides:
            sums = np.asarray(slopes.sum(axis=axis)).reshape(-1)
            mean = sums / np.maximum(counts, 1)
            if sparse:
                slopes.data -= mean[rows if axis == 1 else slopes.indices]
            else:
                slopes = slopes - mask * np.expand_dims(mean, axis)
    worst = [np.abs(np.asarray(slopes.sum(axis=axis))).max() for _, axis, _ in sides]
    return slopes if max(worst, default=0.0) <= 1e-9 * max(size, 1e-300) else None


def _scaled(slopes: Any, rows: np.ndarray, columns: np.ndarray) -> Any:
    """Divide slopes by the square roots of the penalties of their row and column."""
    if hasattr(slopes, "tocsr"):
        import scipy.sparse

        return (
            scipy.sparse.diags_array(1 / np.sqrt(rows))
            @ slopes
            @ scipy.sparse.diags_array(1 / np.sqrt(columns))
        ).tocsr()
    return slopes / np.sqrt(rows)[:, None] / np.sqrt(columns)


def _spectral_norm(matrix: Any) -> float:
    """Return an upper bound of the largest singular value, accurate to rounding.

    For large matrices it is the value of Lanczos plus its residual.
    """
    if min(matrix.shape) <= WHOLE_SIDE:
        dense = matrix if isinstance(matrix, np.ndarray) else None
        wide = matrix.shape[0] < matrix.shape[1]
        gram = matrix @ matrix.T if wide else matrix.T @ matrix
        gram = gram if dense is not None else gram.toarray()
        return float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0)) * (1 + 1e-14))
    left, values, right = leading_triples(matrix, 1)
    error = np.linalg.norm(matrix @ right[:, 0] - values[0] * left[:, 0])
    error += np.linalg.norm(matrix.T @ left[:, 0] - values[0] * right[:, 0])
    return float(values[0] + error)


def best_found(runs: Runs) -> Reference:
    """Return the lowest loss of the starts as reference, if nothing better is known.

    Examples
    --------
    >>> from descents import Problem, descend, Stop
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: parameters["x"].square(),
    ...     lambda generator: {"x": generator.random()},
    ... )
    >>> best_found(descend(bowl, 3, stop=Stop(0))).kind
    'best found'
    """
    return Reference(
        value=float(runs.losses[runs.best]),
        kind="best found",
        says=(
            f"the best of {len(runs)} starts"
            if len(runs) > 1
            else "the loss of the only start"
        )
        + "; no exact answer is known",
    )
