"""The best known answer to a problem: what it is, when it applies, and how sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from descents.checks import Complaints
from descents.descent.runs import Runs
from descents.problems.factorization import Factorization
from descents.problems.layouts import Complete
from descents.problems.spectra import leading_triples, shifted
from descents.problems.streamed import Streamed

Kind = Literal["exact", "bound", "best found"]

WHOLE_SIDE = 1000
"""Up to this many rows or columns a spectral norm is computed whole, beyond by Lanczos."""
CLOSED = 1e-3
"""A relative gap to a bound below this counts as closed."""


@dataclass(frozen=True)
class Reference:
    """A loss that results are held against.

    Attributes
    ----------
    value : float
    kind : {"exact", "bound", "best found"}
        Whether it is the minimum; a bound that no loss can be below; or only the best
        loss that was found.
    says : str
        In a sentence, where it comes from.
    """

    value: float
    kind: Kind
    says: str


@dataclass(frozen=True)
class SVDAnswer:
    """A table cut to its leading singular triples: the exact answer of its rank.

    Attributes
    ----------
    left : ndarray of shape (rows, rank)
        Left singular vectors, orthonormal columns.
    values : ndarray of shape (min(rows, columns),)
        All singular values, falling.
    right : ndarray of shape (columns, rank)
        Right singular vectors, orthonormal columns.
    loss : float
        Squared error of the product, summed entry by entry.
    reference : Reference
        Its value is the sum of the squares of the trailing singular values, the second
        route to the same number.
    """

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray
    loss: float
    reference: Reference


def truncated_svd(table: Any, rank: int) -> SVDAnswer:
    r"""Minimise :math:`\|A - U V^\top\|_F^2` over all products of a rank, exactly.

    The minimum is :math:`\sum_{i > r} \sigma_i^2` (Eckart and Young [1]_), in float64.

    Parameters
    ----------
    table : array-like of shape (rows, columns)
        Complete; it is not centred here.
    rank : int
        From 1 to min(rows, columns).

    Returns
    -------
    SVDAnswer

    Raises
    ------
    InvalidValueError
        When the table is not finite or the rank does not fit.

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
    array, rank = complaints.table_and_rank("table", table, rank)
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

    Maximises v' C v over unit vectors v, each orthogonal to those before, where C is
    the covariance of the columns: the other road to what `truncated_svd` finds.

    Parameters
    ----------
    table : array-like of shape (rows, columns)
        At least two rows; its columns are centred here.
    rank : int

    Returns
    -------
    components : ndarray of shape (columns, rank)
        Orthonormal columns.
    variances : ndarray of shape (rank,)
        The variance along each, with rows - 1 as the divisor.

    Examples
    --------
    >>> components, variances = principal_components([[0.0, 1], [2, 1], [4, 1]], 1)
    >>> abs(components[:, 0]), variances
    (array([1., 0.]), array([4.]))
    """
    complaints = Complaints()
    array, rank = complaints.table_and_rank("table", table, rank)
    if array is not None:
        complaints.require(len(array) > 1, "table has one row; a variance needs two")
    complaints.raise_any()
    covariance = np.atleast_2d(np.cov(array.astype(np.float64), rowvar=False))
    variances, components = np.linalg.eigh(covariance)
    return components[:, ::-1][:, :rank], variances[::-1][:rank]


def reference(problem: Factorization, runs: Runs) -> Reference:
    """Return the best known answer to a factorization, the surest kind that applies.

    - complete squared loss: the exact minimum by the singular values of the table, cut
      to the rank (Eckart and Young, 1936) and, under l2 on both factors, shrunk [1]_;
      under constraints, l1 or smoothness, which only raise the loss of the same
      product, the same number is a bound, where the rank is below the table's;
    - holes, weights, Huber or logistic loss with l2 on both factors: the dual bound of
      the nuclear-norm problem, from the best start (see `dual_bound`);
    - else the best loss that was found.

    Parameters
    ----------
    problem : Factorization
    runs : Runs
        Of that problem.

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
    found = shrunk_svd(problem) or dual_bound(problem, runs)
    return found or best_found(runs)


def shrunk_svd(problem: Factorization) -> Reference | None:  # noqa: PLR0912
    r"""Return the minimum of complete squared loss, or None where it is not known.

    With singular values s of the centered table and t the geometric mean of the two l2
    penalties, :math:`\sum_i s_i^2 - \sum_{i \le r} (s_i - t)_+^2`.

    Examples
    --------
    >>> found = shrunk_svd(Factorization([[3.0, 0.0], [0.0, 2.0]], 1, penalty=1.0))
    >>> round(found.value, 9)
    9.0
    """
    cells, rank = problem.cells, problem.rank
    sides = (problem.row_regularizer, problem.column_regularizer)
    # Of sets, where the rank is that of the table, the answer is zero, which says nothing.
    within = any(side.inside is not None for side in sides)
    empty = within and rank >= min(cells.shape)
    weights = _column_weights(problem)
    free = not (problem.has_offsets or problem.has_row_biases) or not problem.l2_biases
    if weights is None or not free or problem.count_power or empty:
        return None
    table: Any = cells.table
    if (weights != 1).any():
        table = table * np.sqrt(weights)
    dense = isinstance(table, np.ndarray)
    if isinstance(cells, Streamed):
        table, dense = _triangle(problem, cells), True
    elif problem.has_row_biases:
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
    # The penalty is of V, the singular values are those of the weighted table.
    unit = float(np.sqrt(weights[0]))
    threshold = float(np.sqrt(rows.l2 * columns.l2)) / unit
    whole = dense and min(table.shape) <= WHOLE_SIDE
    if whole:
        values = np.linalg.svd(table, compute_uv=False)
        # Of small numbers alone: no cancellation where the tail is tiny.
        tail = float(np.square(values[rank:]).sum())
    else:
        values = leading_triples(table, rank)[1]
        tail = square - float(np.square(values).sum())
    head = values[:rank]
    kept = np.square(head) - np.square(np.maximum(head - threshold, 0))
    value = tail + float(kept.sum()) if threshold else tail
    one_sided = (rows.l2 > 0) != (columns.l2 > 0)
    smoothed = any(side.smoothness > 0 for side in sides)
    if problem.constrained or one_sided or smoothed:
        return Reference(
            value=value,
            kind="bound",
            says=(
                f"a lower bound: no product of rank {rank} is below it, constrained or "
                "not (Eckart and Young, 1936); the constrained minimum is above it by "
                "an unknown amount"
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

    None where there are holes, other losses, or weights for which no answer is known.
    """
    cells = problem.cells
    if len(cells.blocks) > 1 or not cells.blocks[0].loss.quadratic:
        return None
    if isinstance(cells, Streamed):
        known = cells.complete and cells.has_triangle
        return np.ones(cells.shape[1]) if known else None
    if isinstance(cells, Complete):
        return np.ones(cells.shape[1])
    if (
        hasattr(cells.table, "tocsr")
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

    The penalties of both factors together are at least
    :math:`\tau \|X\|_*`, :math:`\tau = 2 \sqrt{\lambda_U \lambda_V}`, of
    X = U V^T (weighted by rows and columns where penalties are) [1]_. So for every
    matrix G on the observed cells with spectral norm at most tau,
    :math:`-f^*(G)` is below every loss, f the loss of the observed cells; unpenalised
    offsets ask that G sum to zero over each column, penalised ones cost
    :math:`(\sum_i G_{ij})^2 / (4 \lambda)`. G is the gradient of the loss at the best
    start, scaled into the ball, by whichever scale makes the bound largest.

    Parameters
    ----------
    problem : Factorization
        With l2 on both factors, and losses whose conjugate is known.
    runs : Runs

    References
    ----------
    .. [1] Srebro, Rennie and Jaakkola (2005), "Maximum-margin matrix factorization",
       NIPS.

    Examples
    --------
    >>> from descents import Factorization, Stop, descend
    >>> from descents.problems.alternating import Alternating
    >>> table = [[3.0, float("nan"), 1.0], [0.0, 2.0, 1.0]]
    >>> problem = Factorization(table, 2, penalty=0.5)
    >>> runs = descend(problem, 1, steps=Alternating(), stop=Stop(200))
    >>> found = dual_bound(problem, runs)
    >>> bool(abs(runs.losses[0] / found.value - 1) < 1e-9)
    True
    """
    import torch

    cells = problem.cells
    l2 = problem.row_regularizer.l2 * problem.column_regularizer.l2
    known = all(b.each == 1 and b.loss.has_conjugate for b in cells.blocks)
    sparse_zeros = isinstance(cells, Complete) and hasattr(cells.table, "tocsr")
    if not l2 or not known or sparse_zeros or isinstance(cells, Streamed):
        return None
    best = {
        name: torch.as_tensor(value[runs.best : runs.best + 1]).double()
        for name, value in runs.parameters.items()
    }
    left, right = problem.extended(best)
    slopes = cells.slopes(left[0], right[0], problem.cut_parameters(best)[0])
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
    # That no loss is negative is known without: slopes of a hinge, which are nothing for
    # most cells, may leave the domain with any offset. Smooth losses have a bound of 0
    # where that is the infimum, as of classes that a bias parts.
    empty = not cells.smooth and value <= 0 < runs.losses[runs.best]
    if not np.isfinite(value) or empty:
        return None
    gap = (float(runs.losses[runs.best]) - value) / max(abs(value), 1e-300)
    says = (
        "a lower bound on the loss of every rank, from the dual of the nuclear-norm "
        "problem at the best start"
    )
    if gap <= CLOSED:
        says += "; the gap is closed: no factors of any rank are better by more than it"
    else:
        says += (
            "; the gap is open, which does not say that the fit is bad: the bound meets "
            "the minimum only where the rank is at least that of the convex solution "
            "and the penalty above the spectral norm of the noise"
        )
    return Reference(value=value, kind="bound", says=says)


def _dual_value(problem: Factorization, slopes: Any, scale: float) -> float:
    """Return the dual function at the scaled slopes."""
    scaled = slopes * scale
    value = -problem.cells.conjugates(scaled)
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
        # Outside its domain the function is minus infinity, to the right of the rest.
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
    """Return slopes that sum to zero wherever an offset is free, or None."""
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
    """Return slopes over the roots of the penalties of their row and column."""
    if hasattr(slopes, "tocsr"):
        import scipy.sparse

        return (
            scipy.sparse.diags_array(1 / np.sqrt(rows))
            @ slopes
            @ scipy.sparse.diags_array(1 / np.sqrt(columns))
        ).tocsr()
    return slopes / np.sqrt(rows)[:, None] / np.sqrt(columns)


def _spectral_norm(matrix: Any) -> float:
    """Return the largest singular value; by Lanczos with its error added, if large."""
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
    """Return the lowest loss of some starts, for want of a better answer.

    Examples
    --------
    >>> from descents import Problem, descend, Stop
    >>> bowl = Problem.from_losses(
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
            else "that of the only start"
        )
        + "; no exact answer is known",
    )
