"""The best known answer to a problem: what it is, when it applies, and how sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from descents.checks import Complaints
from descents.descent.runs import Runs

Kind = Literal["exact", "bound", "best found"]


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
        says=f"the best of {len(runs)} starts; no exact answer is known",
    )
