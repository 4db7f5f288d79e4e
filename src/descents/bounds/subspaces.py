"""Angles between subspaces, and the best map from one set of factors to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


def principal_angles(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return the angles between two column spaces in radians, largest first.

    Small angles are computed from sines (Björck and Golub [1]_), which distinguishes 1e-10
    from 0.

    Parameters
    ----------
    first, second : array-like of shape (rows, k) and (rows, l)

    References
    ----------
    .. [1] Björck and Golub (1973), "Numerical methods for computing angles between
       linear subspaces", Mathematics of Computation 27.

    Examples
    --------
    >>> principal_angles([[1.0], [0.0]], [[1.0], [1.0]]).round(4)
    array([0.7854])
    """
    from scipy.linalg import subspace_angles

    angles: np.ndarray = subspace_angles(
        np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    )
    return angles


def subspace_agreement(factors: ArrayLike, best: int) -> float | None:
    """Return how well column spaces agree with that of the best start.

    It is the median over the other starts of the mean squared cosine of the principal
    angles: 1 for equal spaces, 0 for orthogonal ones.

    Parameters
    ----------
    factors : array-like of shape (S, columns, rank)
    best : int

    Returns
    -------
    float or None
        None if there is only one start.

    Examples
    --------
    >>> subspace_agreement([[[1.0], [0.0]], [[2.0], [0.0]], [[1.0], [1.0]]], 0)
    0.75
    """
    factors = np.asarray(factors, dtype=np.float64)
    if len(factors) < 2:
        return None
    bases = np.linalg.qr(factors)[0]
    cosines = np.linalg.svd(bases[best].T @ bases, compute_uv=False)
    means = np.delete(np.square(cosines).mean(1), best)
    return float(np.median(means).round(12))


def matched_cosines(components: ArrayLike, best: int) -> np.ndarray:
    """Return how well the components of starts match those of the best start.

    Each component of the best start is matched with one component of a start such that the
    sum of the absolute cosines is as large as possible (the Hungarian algorithm [1]_).

    Parameters
    ----------
    components : array-like of shape (S, rank, columns)
        NaN for starts that failed.
    best : int

    Returns
    -------
    ndarray of shape (S, rank)
        The absolute cosine of the match of each component of the best start; NaN for
        starts that failed, and 0 for a component that is zero.

    References
    ----------
    .. [1] Kuhn (1955), "The Hungarian method for the assignment problem", Naval Research
       Logistics Quarterly 2.

    Examples
    --------
    >>> first, second = [[1.0, 0.0], [0.0, 1.0]], [[0.0, -2.0], [3.0, 4.0]]
    >>> matched_cosines([first, second], 0)
    array([[1. , 1. ],
           [0.6, 1. ]])
    """
    from scipy.optimize import linear_sum_assignment

    components = np.asarray(components, dtype=np.float64)
    size = np.linalg.norm(components, axis=2, keepdims=True)
    unit = components / np.where(size > 0, size, 1.0)
    found = np.full(components.shape[:2], np.nan)
    for start, cosines in enumerate(np.abs(unit[best] @ unit.transpose(0, 2, 1))):
        if np.isfinite(cosines).all():
            rows, match = linear_sum_assignment(cosines, maximize=True)
            found[start, rows] = np.minimum(cosines[rows, match], 1.0)
    return found


def _r_squared(target: np.ndarray, fitted: np.ndarray) -> float:
    return 1.0 - float(np.square(target - fitted).sum() / np.square(target).sum())


@dataclass(frozen=True)
class Alignment:
    """A map from one factor to another.

    Attributes
    ----------
    aligned : ndarray of shape (rows, rank)
        The source mapped onto the target.
    r_squared : float
        1 - ‖target - aligned‖^2 / ‖target‖^2.
    matrix : ndarray of shape (rank, rank)
        aligned = source @ matrix.
    singular_values : ndarray of shape (rank,)
        The singular values of the matrix; all are equal for a rotation with one scale.
    """

    aligned: np.ndarray
    r_squared: float
    matrix: np.ndarray
    singular_values: np.ndarray


def best_similarity(source: ArrayLike, target: ArrayLike) -> Alignment:
    """Minimize ‖target - c source R‖^2 over a scale c and an orthogonal R.

    R may include a reflection, because the signs of singular vectors are arbitrary. The
    solution is due to Schönemann [1]_.

    Parameters
    ----------
    source, target : array-like of shape (rows, rank)

    References
    ----------
    .. [1] Schönemann (1966), "A generalized solution of the orthogonal Procrustes
       problem", Psychometrika 31.

    Examples
    --------
    >>> turned = best_similarity([[1.0, 0], [0, 1]], [[0.0, 2], [-2, 0]])
    >>> round(turned.r_squared, 12), turned.singular_values.round(12)
    (1.0, array([2., 2.]))
    """
    from scipy.linalg import orthogonal_procrustes

    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    rotation, total = orthogonal_procrustes(source, target)
    matrix = rotation * (total / np.square(source).sum())
    return _alignment(source, target, matrix)


def best_linear_map(source: ArrayLike, target: ArrayLike) -> Alignment:
    """Minimize ‖target - source M‖^2 over all square matrices M.

    Parameters
    ----------
    source, target : array-like of shape (rows, rank)

    Examples
    --------
    >>> sheared = best_linear_map([[1.0, 0], [0, 1]], [[1.0, 1], [0, 1]])
    >>> round(sheared.r_squared, 12)
    1.0
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    matrix = np.linalg.lstsq(source, target, rcond=None)[0]
    return _alignment(source, target, matrix)


def _alignment(source: np.ndarray, target: np.ndarray, matrix: np.ndarray) -> Alignment:
    aligned = source @ matrix
    values = np.linalg.svd(matrix, compute_uv=False)
    return Alignment(aligned, _r_squared(target, aligned), matrix, values)
