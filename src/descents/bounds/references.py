"""The best known answer to a problem: an exact minimum, a bound, or the best loss found.

By Eckart and Young, no product of rank r has a squared error below the sum of the squares
of the singular values after the r-th. `truncated_svd` and `shrunk_svd` compute this
minimum; `descents.bounds.dual` bounds losses for which no minimum is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from descents.bounds.dual import dual_bound
from descents.bounds.gaps import Reference
from descents.cells.complete import Complete
from descents.cells.distributed import Distributed
from descents.cells.streamed import Streamed
from descents.errors import Complaints
from descents.factorization.factorization import Factorization
from descents.linalg.spectra import WHOLE_SIDE, leading_triples, shifted
from descents.optim.runs import Runs
from descents.validation import table_and_rank

if TYPE_CHECKING:
    from descents.linalg.spectra import Matrix


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


def truncated_svd(table: ArrayLike, rank: int) -> SVDAnswer:
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


def principal_components(table: ArrayLike, rank: int) -> tuple[np.ndarray, np.ndarray]:
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


def shrunk_svd(problem: Factorization) -> Reference | None:
    r"""Return the minimum of squared loss without missing cells, None if it is unknown.

    Let s be the singular values of the table after centering and weighting, r the rank,
    and t the geometric mean of the two l2 penalties. The minimum is
    :math:`\sum_i s_i^2 - \sum_{i \le r} (s_i - t)_+^2`. Constraints, an l2 penalty on one
    factor alone, and smoothness can only raise it; with these it is a lower bound.

    Examples
    --------
    >>> exact = shrunk_svd(Factorization([[3.0, 0.0], [0.0, 2.0]], 1, penalty=1.0))
    >>> round(exact.value, 9)
    9.0
    """
    weights = _column_weights(problem)
    free = not (problem.has_offsets or problem.has_row_biases) or not problem.l2_biases
    if weights is None or not free or problem.count_power:
        return None
    sides = (problem.row_regularizer, problem.column_regularizer)
    within = any(side.inside is not None for side in sides)
    if within and problem.rank >= min(problem.cells.whole_shape):
        return None  # the bound is 0, which says nothing about the members of the sets
    # t: the penalty is on V, but the singular values are those of the weighted table.
    threshold = float(np.sqrt(sides[0].l2 * sides[1].l2)) / float(np.sqrt(weights[0]))
    found = _values_and_tail(problem, weights)
    if found is None:
        return None
    values, tail = found
    # The sum of s_i^2 - (s_i - t)_+^2 over i <= r.
    head = values[: problem.rank]
    shrunk = np.square(head) - np.square(np.maximum(head - threshold, 0))
    value = tail + float(shrunk.sum()) if threshold else tail
    return _described(problem, value, threshold)


def _values_and_tail(
    problem: Factorization, weights: np.ndarray
) -> tuple[np.ndarray, float] | None:
    """Return the singular values s, and the sum of s_i^2 over i > r; None if unknown."""
    cells = problem.cells
    if isinstance(cells, Distributed) and not cells.has_triangle:
        constant, level = _constant(problem, cells), problem.has_row_biases
        values, _, square = cells.leading(constant, problem.rank, level=level)
        return values, square - float(np.square(values).sum())
    centered = _centered(problem, weights)
    if centered is None:
        return None
    table, square = centered
    if isinstance(table, np.ndarray) and min(table.shape) <= WHOLE_SIDE:
        values = np.linalg.svd(table, compute_uv=False)
        # A sum of small squares has no cancellation if the tail is tiny.
        tail = float(np.square(values[problem.rank :]).sum())
    else:
        values = leading_triples(table, problem.rank)[1]
        tail = square - float(np.square(values).sum())
    return values, tail


def _described(problem: Factorization, value: float, threshold: float) -> Reference:
    """Return whether a value of `shrunk_svd` is exact or a bound, and why."""
    rank, sides = problem.rank, (problem.row_regularizer, problem.column_regularizer)
    one_sided = (sides[0].l2 > 0) != (sides[1].l2 > 0)
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


def _centered(
    problem: Factorization, weights: np.ndarray
) -> tuple[Matrix, float] | None:
    """Return the table whose singular values count, and the sum of its squared cells.

    Free offsets fit the column means, and free row biases the row means, whatever the
    factors are. So these means are subtracted, and the rest is fitted by the factors.
    Columns are multiplied by the square roots of their weights. Return None for row
    biases of a sparse table, whose centered form is dense.
    """
    cells = problem.cells
    if isinstance(cells, Streamed):
        table = _triangle(problem, cells).astype(np.float64)
        return table, float(np.square(table).sum())
    table = cells.in_memory.table
    if (weights != 1).any():
        table = table * np.sqrt(weights)
    if isinstance(table, np.ndarray):
        if problem.has_row_biases:
            table = table - table.mean(1, keepdims=True, dtype=np.float64)
        if problem.has_offsets:
            table = table - table.mean(0, dtype=np.float64)
        table = table.astype(np.float64)
        return table, float(np.square(table).sum())
    if problem.has_row_biases:
        return None
    square = float(np.square(table.data.astype(np.float64)).sum())
    if problem.has_offsets:
        # sum (a - m)^2 = sum a^2 - rows m^2 for each column with mean m
        square -= float(np.square(cells.offsets).sum()) * cells.shape[0]
        table = shifted(table, cells.offsets)
    return table, square


def _triangle(problem: Factorization, cells: Streamed) -> np.ndarray:
    """Return a small matrix with the singular values of a centered table on disk."""
    constant = _constant(problem, cells)
    return cells.triangle(constant, level=problem.has_row_biases)


def _constant(problem: Factorization, cells: Streamed) -> np.ndarray:
    """Return what is subtracted from the columns, after the row means if there are any."""
    constant = cells.offsets if problem.has_offsets else np.zeros(cells.shape[1])
    if problem.has_row_biases:
        constant = constant - constant.mean()
    return constant


def _column_weights(problem: Factorization) -> np.ndarray | None:
    """Return the weight of each column of a complete table under squared loss.

    Return None if there are missing cells, other losses, or weights for which no exact
    answer is known.
    """
    cells = problem.cells
    if len(cells.blocks) > 1 or not cells.blocks[0].loss.quadratic:
        return None
    if isinstance(cells, Streamed):
        usable = cells.has_triangle or isinstance(cells, Distributed)
        usable = usable and cells.complete
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
