"""Singular values and vectors of tables and of products, with fixed signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator

    Matrix: TypeAlias = np.ndarray | csr_array | LinearOperator

SMALL_SIDE = 300
"""If the smaller side is at most this, a full SVD is cheaper than a partial one."""


def singular_form(
    U: np.ndarray, V: np.ndarray, *, center: bool, rotate: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return factors of the product (U - mean) V^T in SVD form.

    Parameters
    ----------
    U : ndarray of shape (rows, rank)
    V : ndarray of shape (columns, rank)
    center : bool
        Whether to subtract the column means of U; otherwise the mean is zero.
    rotate : bool
        If False, return the factors as they are.

    Returns
    -------
    scores : ndarray of shape (rows, rank)
        Orthogonal columns in order of decreasing norm.
    components : ndarray of shape (rank, columns)
        Orthonormal rows; the entry of largest magnitude of each is positive.
    turn : ndarray of shape (rank, rank)
        scores = (U - mean) @ turn.
    mean : ndarray of shape (rank,)

    Examples
    --------
    >>> scores, components, _, _ = singular_form(
    ...     np.array([[1.0], [-1.0]]), np.array([[3.0], [4.0]]), center=True)
    >>> components.round(6)
    array([[0.6, 0.8]])
    """
    dtype, rank = U.dtype, U.shape[1]
    V = V.astype(np.float64)
    mean = U.mean(0, dtype=np.float64) if center else np.zeros(rank)
    if not rotate:
        return U.copy(), V.T.astype(dtype), np.eye(rank), mean
    centered = U - mean
    # With U - mean = Q1 R1 and V = Q2 R2, the SVD of R1 R2' gives that of the product.
    left, right = np.linalg.qr(centered, mode="r"), np.linalg.qr(V)
    _, _, inner = np.linalg.svd(left @ right[1].T)
    components = inner @ right[0].T
    largest = np.abs(components).argmax(1)
    signs = np.where(components[np.arange(rank), largest] < 0, -1.0, 1.0)
    components = components * signs[:, None]
    turn = V.T @ components.T
    scores = (centered @ turn).astype(dtype, copy=False)
    return scores, components.astype(dtype), turn, mean


def shifted(table: csr_array, constant: np.ndarray) -> LinearOperator:
    """Return a sparse table minus a constant for each column, as a linear operator."""
    from scipy.sparse.linalg import LinearOperator

    return LinearOperator(
        table.shape,
        matvec=lambda v: table @ v.ravel() - constant @ v.ravel(),
        rmatvec=lambda u: table.T @ u.ravel() - constant * u.sum(),
        dtype=np.float64,
    )


def leading_triples(
    matrix: Matrix, rank: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the leading singular triples, the largest first, with fixed signs.

    Parameters
    ----------
    matrix : ndarray, sparse array or LinearOperator of shape (rows, columns)
    rank : int

    Returns
    -------
    left : ndarray of shape (rows, rank)
    values : ndarray of shape (rank,)
    right : ndarray of shape (columns, rank)
        The entry of largest magnitude of each column is positive.

    Examples
    --------
    >>> leading_triples(np.diag([1.0, -3.0]), 1)[1]
    array([3.])
    """
    least = min(matrix.shape)
    if isinstance(matrix, np.ndarray) and (least <= SMALL_SIDE or rank > least // 3):
        left, values, right = np.linalg.svd(
            matrix.astype(np.float64), full_matrices=False
        )
        right = right.T
    elif rank >= least - 1:
        dense = matrix @ np.eye(matrix.shape[1])
        return leading_triples(np.asarray(dense), rank)
    else:
        from scipy.sparse.linalg import svds

        generator = np.random.Generator(np.random.Philox(0))
        first = generator.standard_normal(least)
        wide = matrix.shape[1] > matrix.shape[0]
        if not np.any(matrix.T @ first if wide else matrix @ first):  # all zero
            rows, columns = (np.eye(side, rank) for side in matrix.shape)
            return rows, np.zeros(rank), columns
        left, values, right = svds(
            matrix.astype(np.float64) if hasattr(matrix, "astype") else matrix,
            rank,
            v0=first,
        )
        order = np.argsort(values)[::-1]
        left, values, right = left[:, order], values[order], right[order].T
    left, values, right = left[:, :rank], values[:rank], right[:, :rank]
    largest = np.abs(right).argmax(0)
    signs = np.where(right[largest, np.arange(rank)] < 0, -1.0, 1.0)
    return left * signs, values, right * signs


WHOLE_SIDE = 1000
"""With more rows and columns than this, singular values are computed by Lanczos."""


def spectral_norm(matrix: np.ndarray | csr_array) -> float:
    """Return an upper bound of the largest singular value, accurate to rounding.

    Of a small matrix A it is the root of the largest eigenvalue of A'A or AA'. Of a large
    one it is the singular value s of Lanczos plus its residuals ||A v - s u|| and
    ||A'u - s v||.

    Examples
    --------
    >>> round(spectral_norm(np.diag([1.0, -3.0])), 9)
    3.0
    """
    if min(matrix.shape) <= WHOLE_SIDE:
        wide = matrix.shape[0] < matrix.shape[1]
        gram = matrix @ matrix.T if wide else matrix.T @ matrix
        if not isinstance(gram, np.ndarray):
            gram = gram.toarray()
        return float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0)) * (1 + 1e-14))
    left, values, right = leading_triples(matrix, 1)
    error = np.linalg.norm(matrix @ right[:, 0] - values[0] * left[:, 0])
    error += np.linalg.norm(matrix.T @ left[:, 0] - values[0] * right[:, 0])
    return float(values[0] + error)
