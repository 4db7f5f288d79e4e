"""Features of rows and columns that describe which cells are observed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST_VECTORS = 20
"""Most singular vectors of the pattern that are features."""
BLOCK = 20
"""Number of vectors that the pattern and its transpose are multiplied by together."""
ITERATIONS = 6
"""Number of such products. The vectors are exact if all blocks together span all columns."""
LEAST_NORM = 1e-6
"""A feature is left out if its part that is orthogonal to those before it is smaller than
this share of its norm."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """Features of each row and column that describe which cells are observed.

    The first feature is constant, the second the logarithm of one more than the number of
    cells; the others are singular vectors of the matrix of ones at observed cells, its
    rows and columns divided by the roots of their numbers of cells plus the mean number
    [1]_. The features of a side have mean square 1, and are orthogonal.

    Attributes
    ----------
    rows : float64 Tensor of shape (n, p)
    columns : float64 Tensor of shape (d, p)
    vectors, column_roots, mean_count, mixing, column_mixing, row_ends, column_ends
        Determine the features of other rows: the singular vectors, the scale of the
        pattern, the matrices that make features orthogonal, and the ranges of the fit.

    References
    ----------
    .. [1] Qin and Rohe (2013), "Regularized spectral clustering under the
       degree-corrected stochastic blockmodel", NeurIPS.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    vectors: np.ndarray
    column_roots: np.ndarray
    mean_count: float
    mixing: np.ndarray
    column_mixing: np.ndarray
    row_ends: np.ndarray
    column_ends: np.ndarray

    @property
    def count(self) -> int:
        """p, the number of features of each side."""
        return self.rows.shape[1]

    def of_rows(self, pattern: csr_array) -> torch.Tensor:
        """Return the features of other rows, from ones at their observed cells.

        They are clipped to the range of the fit, because the model is not fitted beyond it.
        """
        raw = _raw(pattern, self.vectors, self.column_roots, self.mean_count)
        return torch.from_numpy(raw.clip(*self.row_ends) @ self.mixing)

    def of_blank(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of a row, and of a column, without observed cells."""
        raw = np.zeros((1, self.row_ends.shape[1]))
        raw[:, 0] = 1.0
        return (
            torch.from_numpy(raw.clip(*self.row_ends) @ self.mixing),
            torch.from_numpy(raw.clip(*self.column_ends) @ self.column_mixing),
        )


def sightings(pattern: csr_array) -> Sightings:
    """Return features of rows and columns.

    Parameters
    ----------
    pattern : scipy csr_array of shape (n, d)
        Ones at the observed cells.

    Examples
    --------
    >>> from scipy import sparse
    >>> there = np.random.default_rng(0).random((60, 40)) < 0.3
    >>> found = sightings(sparse.csr_array(there.astype(float)))
    >>> found.rows.shape, found.columns.shape
    (torch.Size([60, 11]), torch.Size([40, 11]))
    """
    columns = pattern.shape[1]
    counts = pattern.sum(1), pattern.sum(0)
    means = counts[0].mean(), counts[1].mean()
    roots = [np.sqrt(c + m) for c, m in zip(counts, means, strict=True)]
    count = min(MOST_VECTORS, columns // 4 - 1)
    vectors = np.zeros((columns, 0))
    if count > 0:
        vectors = _singular_vectors(pattern, roots, count)
    of_rows = _raw(pattern, vectors, roots[1], means[0])
    of_columns = _raw(pattern.T, of_rows[:, 2:], roots[0], means[1])
    one, other = _orthogonal(of_rows), _orthogonal(of_columns)
    both = one[1] & other[1]
    return Sightings(
        torch.from_numpy(_mixed(of_rows, one, both)),
        torch.from_numpy(_mixed(of_columns, other, both)),
        vectors,
        roots[1],
        float(means[0]),
        np.ascontiguousarray(one[0][:, both]),
        np.ascontiguousarray(other[0][:, both]),
        np.stack([of_rows.min(0), of_rows.max(0)]),
        np.stack([of_columns.min(0), of_columns.max(0)]),
    )


def _raw(
    pattern: csr_array, vectors: np.ndarray, roots: np.ndarray, mean: float
) -> np.ndarray:
    """Return ones, log counts and products with scaled vectors, as columns."""
    counts = pattern.sum(1)
    products = pattern @ (vectors / roots[:, None]) / np.sqrt(counts + mean)[:, None]
    return np.column_stack([np.ones(len(counts)), np.log1p(counts), products])


def _singular_vectors(
    pattern: csr_array, roots: list[np.ndarray], count: int
) -> np.ndarray:
    """Return the first right singular vectors of the scaled pattern, by block Lanczos.

    Products are in single precision, which is enough for features.
    """
    columns = pattern.shape[1]
    whole = columns <= BLOCK * ITERATIONS
    normal = np.random.default_rng(0).normal(size=(columns, BLOCK))
    block = np.eye(columns) if whole else np.linalg.qr(normal)[0]
    single = pattern.astype(np.float32)
    weights = [(1 / root).astype(np.float32)[:, None] for root in roots]
    basis, images = block[:, :0], block[:, :0]
    for _ in range(1 if whole else ITERATIONS):
        left = weights[0] ** 2 * (single @ (weights[1] * block.astype(np.float32)))
        image = (weights[1] * (single.T @ left)).astype(np.float64)
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        for _ in range(2):  # the second pass removes rounding errors
            image = image - basis @ (basis.T @ image)
        block = np.linalg.qr(image)[0]
    products = basis.T @ images
    vectors = np.linalg.eigh(products + products.T)[1]
    return np.ascontiguousarray(basis @ vectors[:, : -count - 1 : -1])


def _orthogonal(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix that makes features orthogonal, and which features it keeps.

    The mean square of raw @ matrix is 1.
    """
    sizes = np.sqrt(np.square(raw).mean(0)) + np.finfo(float).tiny
    matrix = np.zeros((raw.shape[1], raw.shape[1]))
    free = np.zeros(raw.shape[1], dtype=bool)
    found = np.zeros_like(raw)
    for k in range(raw.shape[1]):
        mix = np.zeros(raw.shape[1])
        mix[k] = 1.0
        for _ in range(2):  # the second pass removes rounding errors
            mix -= matrix @ (found.T @ (raw @ mix)) / len(raw)
        vector = raw @ mix
        size = np.sqrt(np.square(vector).mean())
        free[k] = size > LEAST_NORM * sizes[k]
        if free[k]:
            matrix[:, k], found[:, k] = mix / size, vector / size
    return matrix, free


def _mixed(
    raw: np.ndarray, how: tuple[np.ndarray, ...], both: np.ndarray
) -> np.ndarray:
    return raw @ how[0][:, both]
