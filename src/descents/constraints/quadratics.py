"""The minimization of quadratics x' G x - 2 x' r of rows, without a constraint set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from descents.devices import numpy_dtype

Solve = Callable[..., torch.Tensor]
"""A function that minimizes such quadratics."""


def entrywise(
    point: torch.Tensor, thresholds: torch.Tensor | float, *, nonnegative: bool
) -> torch.Tensor:
    """Minimize t |x| + (x - p)^2 / 2, entry by entry, over x >= 0 if `nonnegative`.

    Examples
    --------
    >>> entrywise(torch.tensor([-3.0, 0.5, 3.0]), 1.0, nonnegative=False)
    tensor([-2., 0., 2.])
    """
    bare = isinstance(thresholds, float) and thresholds == 0
    if nonnegative:
        return (point if bare else point - thresholds).clamp_min(0)
    if bare:
        return point
    return point.sign() * (point.abs() - thresholds).clamp_min(0)


def products(gram: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return G x for every row; all rows may share one G.

    Examples
    --------
    >>> products(2 * torch.eye(2)[None, None], torch.ones(1, 3, 2)).sum()
    tensor(12.)
    """
    if gram.shape[1] == 1:
        return points @ gram[:, 0]
    return (gram @ points[..., None])[..., 0]


def differences(points: torch.Tensor) -> torch.Tensor:
    """Return half the derivative of sum_i ||x_{i+1} - x_i||^2 over neighboring rows.

    Examples
    --------
    >>> differences(torch.tensor([[0.0], [1.0], [3.0]])).T
    tensor([[-1., -1.,  2.]])
    """
    steps = points.diff(dim=-2)
    result = torch.zeros_like(points)
    result[..., :-1, :] -= steps
    result[..., 1:, :] += steps
    return result


def solve_free(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    l2: torch.Tensor,
    l1: torch.Tensor,
    fixed: torch.Tensor,
    plain: Solve,
) -> torch.Tensor:
    """Minimize over the free entries of each row, with the others fixed at the point.

    With values v of the fixed entries, the free entries have the same G, and r - G v. To
    keep one matrix of full size, the rows and columns of fixed entries become those of a
    multiple of the identity.

    Parameters
    ----------
    fixed : bool Tensor of shape (..., rows, q)
        Fixed entries other than 0 must have no penalty.
    """
    pattern = fixed
    if gram.shape[1] == 1 and bool((fixed == fixed[..., :1, :]).all()):
        pattern = fixed[..., :1, :]  # all rows still share one matrix
    free = (~pattern).to(gram)
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True) + 1
    inner = gram * free[..., :, None] * free[..., None, :]
    inner = inner + torch.diag_embed((1 - free) * size)
    values = torch.where(fixed, point, torch.zeros_like(point))
    wanted = torch.where(fixed, size * values, right - products(gram, values))
    solution = plain(inner, wanted, point, l2, l1, point.shape[-1])
    return torch.where(fixed, point, solution)


def change(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    solution: torch.Tensor,
) -> torch.Tensor:
    """Return the change of x' G x - 2 x' r, over all rows.

    With d = x_new - x it is d' (G d + 2 (G x - r)).
    """
    moved = solution - point
    twice = products(gram, moved) + 2 * (products(gram, point) - right)
    return (moved * twice).double().sum((1, 2))


def solve_chain(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    l2: torch.Tensor,
    smoothness: float,
    bound: int,
) -> torch.Tensor:
    """Minimize the quadratics of all rows together, with smoothness between neighbors.

    It uses the Cholesky factor of the matrix of all rows, which is block tridiagonal:
    blocks G_i + l2_i on the diagonal, and -s I beside it. The damping is that of
    `Regularizer.solve`.
    """
    from scipy.linalg import LinAlgError, solveh_banded

    starts, rows, q = right.shape
    size = gram.diagonal(dim1=-2, dim2=-1).mean((-1, -2)) + l2.mean((-1, -2))
    damping = (30 * torch.finfo(right.dtype).eps * size + 1e-30)[:, None, None]
    whole = gram + torch.diag_embed(l2 + damping)
    wanted = right + damping * point
    solution = np.full(right.shape, np.nan, dtype=numpy_dtype(right.dtype))
    for k in range(starts):
        matrix = whole[k].cpu().numpy()
        # Lower band storage: row d has the d-th subdiagonal of the matrix of all rows.
        # Subdiagonals 1 to q - 1 are within the blocks, and number q is -s.
        band = np.zeros((q + 1, rows, q), dtype=matrix.dtype)
        for below in range(q):
            band[below, :, : q - below] = matrix.diagonal(-below, 1, 2)
        band[q, :-1, :bound] = -smoothness
        try:
            solved = solveh_banded(
                band.reshape(q + 1, rows * q),
                wanted[k].reshape(-1).cpu().numpy(),
                lower=True,
                check_finite=False,
            )
        except LinAlgError:  # numbers that are not finite; the start is marked by them
            continue
        solution[k] = solved.reshape(rows, q)
    return torch.as_tensor(solution).to(right)


def solve_exactly(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    l2: torch.Tensor,
    damping: torch.Tensor,
) -> torch.Tensor:
    """Minimize x' G x - 2 x' r + sum l2 x^2 by Cholesky, damped towards the point."""
    # Rows that share a Gram matrix have equal counts of cells, and so equal penalties.
    added = l2[..., : gram.shape[1], :] + damping
    diagonal = added.expand(len(gram), gram.shape[1], right.shape[-1])
    whole = gram + torch.diag_embed(diagonal)
    target = (right + damping * point)[..., None]
    factor, _ = torch.linalg.cholesky_ex(whole)
    if whole.shape[1] == 1 and right.shape[1] > 1:  # one Gram for all rows
        wide = torch.cholesky_solve(target[..., 0].mT, factor[:, 0])
        return wide.mT
    return torch.cholesky_solve(target, factor)[..., 0]
