"""Initial factors: random, from singular vectors, by NNDSVD, or from distant rows.

Each function returns U of shape (rows, rank) and V of shape (coordinates, rank) of one
start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from descents.cells.in_memory import CellsInMemory
from descents.constraints.sets import OneHot, Sparse
from descents.rng import drawn_in_blocks

if TYPE_CHECKING:
    from descents.factorization.factorization import Factorization

SHAKEN = 0.1
"""The size of the noise in later spectral starts, relative to a normal start."""

INSIDE = 0.1
"""The weight of the mean in initial points that must not predict zero."""


def drawn_rows(
    problem: Factorization, generator: np.random.Generator, *, normal: bool
) -> np.ndarray:
    """Return random numbers for the rows of U that this process has.

    See `descents.rng.drawn_in_blocks`.
    """
    found = problem.cells
    place = slice(found.first_row, found.first_row + found.shape[0])
    return drawn_in_blocks(
        generator, found.all_rows, place, problem.rank, normal=normal
    )


def weighted_table(found: CellsInMemory) -> Any:
    """Return a table times its weights, in the same layout."""
    if isinstance(found.table, np.ndarray):
        return found.table * found.weights
    parts = (found.table.data * found.weights, found.table.indices, found.table.indptr)
    return type(found.table)(parts, found.shape)


def _uniform(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return factors that are uniform on [0, 1)."""
    U = drawn_rows(problem, generator, normal=False)
    return U, generator.random((problem.cells.coordinates, problem.rank))


def _normal(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return normal factors for which U V^T has the spread of the table.

    Of columns whose loss has a `first_size` it has that share of the spread.
    """
    # U V^T sums `rank` products, so entries of size (spread / rank^(1/2))^(1/2) in both
    # factors give it the spread of the table; V then follows the spread of each column.
    spread = problem.spread()
    typical = np.sqrt(np.sqrt(np.square(spread).mean()) / np.sqrt(problem.rank))
    U = drawn_rows(problem, generator, normal=True) * typical
    V = generator.standard_normal((problem.cells.coordinates, problem.rank))
    V *= (spread / np.sqrt(np.square(spread).mean()) * typical)[:, None]
    largest = max(block.loss.first_size for block in problem.cells.blocks)
    U *= np.sqrt(largest)
    for block in problem.cells.blocks:
        V[block.place] *= block.loss.first_size / np.sqrt(largest)
    if problem.row_regularizer.nonnegative:
        U = np.abs(U)
    if problem.column_regularizer.nonnegative:
        V = np.abs(V)
    return U, V


def _spectral(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return singular vectors times roots of singular values; noise from start 1 on."""
    left, values, right = problem.spectrum()
    U, V = left * np.sqrt(values), right * np.sqrt(values)
    if start:
        other = _normal(problem, generator, start)
        U, V = U + SHAKEN * other[0], V + SHAKEN * other[1]
    if problem.row_regularizer.nonnegative:
        U = np.abs(U)
    if problem.column_regularizer.nonnegative:
        V = np.abs(V)
    return U, V


def _spectral_then_normal(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return spectral factors for start 0 and normal ones for the others."""
    return (_normal if start else _spectral)(problem, generator, start)


def _nndsvd(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return NNDSVD factors: a nonnegative part of each pair of singular vectors.

    For x and y with singular value s, let a and b be their positive parts, or the
    positive parts of -x and -y, whichever has the larger |a| |b|. The component is
    (s |a| |b|)^(1/2) times a / |a| in U and b / |b| in V. Multiplicative steps never
    leave zeros. Therefore zeros are filled with the mean, or in later starts with random
    numbers below a hundredth of it.
    """
    left, values, right = problem.spectrum()
    U, V = np.zeros_like(left), np.zeros_like(right)
    for r in range(problem.rank):
        x, y = left[:, r], right[:, r]
        parts = [(np.maximum(s * x, 0), np.maximum(s * y, 0)) for s in (1, -1)]
        tall = [_norm_of_rows(problem, a) for a, _ in parts]
        wide = [np.linalg.norm(b) for _, b in parts]
        sizes = [one * other for one, other in zip(tall, wide, strict=True)]
        larger = int(sizes[1] > sizes[0])
        a, b = parts[larger]
        size = max(sizes)
        if size > 0:
            root = np.sqrt(values[r] * size)
            U[:, r], V[:, r] = root * a / tall[larger], root * b / wide[larger]
    for factor in (U, V):
        mean = factor.mean()
        if factor is U and problem.together.size > 1:
            (total,) = problem.together.sum_arrays(np.asarray(factor.sum()))
            mean = float(total) / (problem.cells.all_rows * problem.rank)
        fill = np.full(factor.shape, mean)
        if start and factor is U:
            fill = mean / 100 * drawn_rows(problem, generator, normal=False)
        elif start:
            fill = mean / 100 * generator.random(factor.shape)
        np.copyto(factor, fill, where=factor <= 1e-6 * mean)
    return U, V


def _norm_of_rows(problem: Factorization, column: np.ndarray) -> float:
    """Return the norm of a column of U, of which this process has some rows."""
    if problem.together.size == 1:
        return float(np.linalg.norm(column))
    (square,) = problem.together.sum_arrays(np.asarray(np.square(column).sum()))
    return float(np.sqrt(square))


def _nndsvd_then_normal(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return NNDSVD factors for starts 0 and 1 and normal ones for the others."""
    # Starts 0 and 1 fill zeros differently. More NNDSVD starts with noise would all
    # converge to the same point, so the others are normal.
    return (_normal if start > 1 else _nndsvd)(problem, generator, start)


def _centers(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return distant rows of the table as V, and the nearest of them per row as U.

    This is k-means++: each center is the best of a few rows, drawn with probability
    proportional to the squared distance from the centers before. Rows are residuals of
    the best constants (minus half the slopes there), with missing cells at the best
    constant of their column. Where columns are clusters and rows are not, the centers are
    distant columns.
    """
    if problem.row_candidates() is None:
        return _normal(problem, generator, start)
    of_columns = clusters(problem.column_regularizer.inside) and not clusters(
        problem.row_regularizer.inside
    )
    centers, nearest = _distant(problem, generator, of_columns)
    members = np.eye(problem.rank)[nearest]
    if problem.diverges:
        members, centers = moved_inside(members), moved_inside(centers)
    else:
        root = _shared_size(problem)
        members, centers = members * root, centers / root
    return (centers, members) if of_columns else (members, centers)


def clusters(inside: object) -> bool:
    """Return whether each row of a factor has one entry that is not zero."""
    return isinstance(inside, OneHot) or inside == Sparse(1)


def _is_sparse(table: object) -> bool:
    return hasattr(table, "tocsr")


def _distant(
    problem: Factorization, generator: np.random.Generator, of_columns: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, or columns, that are distant from each other, and the nearest of each.

    Returns
    -------
    centers : float64 ndarray of shape (coordinates or rows, rank)
    nearest : int64 ndarray of shape (rows or coordinates,)
    """
    table, rank = problem.row_candidates(), problem.rank
    far, seen = _evenly_spread(problem, table), problem.cells.row_counts > 0
    if of_columns:
        table, far = table.T, far.T
        if _is_sparse(table):
            table, far = table.tocsr(), far.tocsr()
        seen = problem.cells.column_counts[problem.cells.coordinate_columns] > 0
    squares = far.multiply(far) if _is_sparse(far) else np.square(far)
    square = np.asarray(squares.sum(1), dtype=np.float64).reshape(-1)

    def dense(rows: Any) -> np.ndarray:
        return np.asarray(
            rows.toarray() if _is_sparse(rows) else rows, dtype=np.float64
        )

    def distances(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centers = dense(far[places])
        inner = np.asarray(far @ centers.T)
        away = square[:, None] - 2 * inner + np.square(centers).sum(1)
        return dense(table[places]), np.maximum(away, 0)

    few = 2 + int(np.log(rank))
    # `away` is the squared distance of each row from the nearest center so far.
    away: np.ndarray = np.full(len(seen), np.inf)
    V, nearest = np.empty((table.shape[1], rank)), np.zeros(len(seen), dtype=np.int64)
    for r in range(rank):
        weight = np.where(seen, away if r else 1.0, 0.0)
        total = weight.sum()
        drawn = generator.choice(
            len(seen), few if r else 1, p=weight / total if total > 0 else None
        )
        centers, found = distances(drawn)
        nearer = np.minimum(found, away[:, None])
        best = int((nearer * seen[:, None]).sum(0).argmin())
        nearest[found[:, best] < away] = r
        away = nearer[:, best]
        V[:, r] = centers[best]
    return V, nearest


def _shared_size(problem: Factorization) -> float:
    """Return the size of U with which U and V have the same size.

    It is the root of the typical prediction, or 1 if a constraint sets the size of a
    factor. Penalties then have the same effect on a start in any unit of the table.
    """
    sides = (problem.row_regularizer, problem.column_regularizer)
    if any(side.sized for side in sides):
        return 1.0
    return float(np.square(problem.spread()).mean() ** 0.25)


def _centers_and_normal(
    problem: Factorization, generator: np.random.Generator, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return centers for even starts and normal factors for odd ones.

    Which of them reach the lower loss depends on the loss function.
    """
    return (_normal if start % 2 else _centers)(problem, generator, start)


def _evenly_spread(problem: Factorization, table: Any) -> Any:
    """Return a table whose squared distances between rows resemble the loss.

    For a beta-divergence this is the table to the power of beta / 2, or its logarithm if
    beta is 0, so that small and large numbers have about the same weight.
    """
    loss = problem.cells.blocks[0].loss
    beta = getattr(loss, "beta", 2.0) if loss.divergence else 2.0
    if beta == 2:
        return table
    if _is_sparse(table):
        return table.power(beta / 2) if beta > 0 else table
    typical = float(np.abs(table).mean()) or 1.0
    held = np.maximum(table, 1e-3 * typical if beta <= 0 else 0.0)
    return np.log(held) if beta == 0 else np.power(held, beta / 2)


def moved_inside(factor: np.ndarray) -> np.ndarray:
    """Return rows moved towards their means, so that nonnegative entries are above 0."""
    return (1 - INSIDE) * factor + INSIDE * factor.mean(1, keepdims=True)


INITIALIZATIONS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "uniform": _uniform,
    "normal": _normal,
    "spectral": _spectral,
    "spectral_then_normal": _spectral_then_normal,
    "nndsvd": _nndsvd,
    "nndsvd_then_normal": _nndsvd_then_normal,
    "centers": _centers,
    "centers_and_normal": _centers_and_normal,
}
"""The initializations by name: see `Factorization`."""

SPECTRAL = ("spectral", "spectral_then_normal", "nndsvd", "nndsvd_then_normal")
"""The initializations that use singular vectors."""
