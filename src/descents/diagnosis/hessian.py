"""Curvature of the losses: eigenvalues of the Hessian, exact or by Lanczos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from descents.optim.problem import Bound, Parameters
from descents.optim.stacked import flat

EXACT_PARAMETERS = 500
"""With at most this many parameters per start, all eigenvalues are computed."""
LANCZOS_STEPS = 150
"""The largest number of products with the Hessian in Lanczos."""
LANCZOS_ACCURACY = 1e-8
"""Lanczos stops when the residuals of both extreme eigenvalues are at most this times the
largest eigenvalue in magnitude."""
CHECK_EVERY = 10
"""The number of Lanczos steps between two checks for convergence."""
BASIS_ENTRIES = 2**24
"""The largest number of entries of Lanczos vectors in memory; starts are grouped to fit."""


@dataclass(frozen=True)
class Curvature:
    """The extreme eigenvalues of S Hessians; NaN if a Hessian is not finite.

    Attributes
    ----------
    smallest, largest : float64 ndarray of shape (S,)
        The smallest and the largest eigenvalue. With Lanczos, these are curvatures along
        some direction, so they are never below the smallest or above the largest
        eigenvalue.
    residuals : float64 ndarray of shape (S,)
        An eigenvalue lies within this distance of each of the two; 0 if all eigenvalues
        were computed.
    """

    smallest: np.ndarray
    largest: np.ndarray
    residuals: np.ndarray

    @property
    def magnitude(self) -> np.ndarray:
        """The largest eigenvalue in magnitude."""
        return np.fmax(np.abs(self.smallest), np.abs(self.largest))


def curvature(bound: Bound, parameters: Parameters, step: int = 0) -> Curvature:
    """Return the extreme eigenvalues of the Hessian of each start's loss.

    With at most `EXACT_PARAMETERS` parameters, all eigenvalues are computed; with more,
    Lanczos computes the two extreme ones.

    Parameters
    ----------
    bound : Bound
    parameters : dict of Tensor, each of shape (S, ...)
    step : int

    Returns
    -------
    Curvature

    Examples
    --------
    >>> from descents import Problem
    >>> saddle = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: (
    ...         parameters["x"][:, 0] ** 2 - 3 * parameters["x"][:, 1] ** 2
    ...     ),
    ...     lambda generator: {"x": generator.random(2)},
    ... )
    >>> ends = curvature(saddle.bind(torch.arange(1)), {"x": torch.zeros(1, 2)})
    >>> ends.smallest, ends.largest
    (array([-6.]), array([2.]))
    """
    if sum(value[0].numel() for value in parameters.values()) > EXACT_PARAMETERS:
        return lanczos(bound, parameters, step)
    matrices = hessians(bound, parameters, step).cpu().numpy()
    smallest, largest = np.full((2, len(bound.starts)), np.nan)
    finite = np.isfinite(matrices).all((1, 2))
    if finite.any():
        symmetric = (matrices + matrices.transpose(0, 2, 1))[finite] / 2
        values = np.linalg.eigvalsh(symmetric)
        smallest[finite], largest[finite] = values[:, 0], values[:, -1]
    return Curvature(smallest, largest, np.where(finite, 0.0, np.nan))


def hessians(bound: Bound, parameters: Parameters, step: int = 0) -> torch.Tensor:
    """Return the exact Hessian of each start's loss by autograd, in float64.

    The gradient is differentiated entry by entry, for all starts at once. Parameters are
    flattened and concatenated in the order of the dict.

    Parameters
    ----------
    bound : Bound
    parameters : dict of Tensor, each of shape (S, ...)
    step : int

    Returns
    -------
    Tensor of shape (S, P, P)

    Examples
    --------
    >>> from descents import Problem
    >>> saddle = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: (
    ...         parameters["x"][:, 0] ** 2 - 3 * parameters["x"][:, 1] ** 2
    ...     ),
    ...     lambda generator: {"x": generator.random(2)},
    ... )
    >>> hessians(saddle.bind(torch.arange(1)), {"x": torch.zeros(1, 2)})
    tensor([[[ 2.,  0.],
             [ 0., -6.]]], dtype=torch.float64)
    """
    product, (count, size) = _products(bound, parameters, step)
    device = next(iter(parameters.values())).device
    units = torch.eye(size, dtype=torch.float64, device=device)
    rows = [product(unit.expand(count, size)) for unit in units]
    return torch.stack(rows, 1)


def lanczos(
    bound: Bound,
    parameters: Parameters,
    step: int = 0,
    *,
    max_steps: int = LANCZOS_STEPS,
) -> Curvature:
    """Return the extreme eigenvalues from products of the Hessian with vectors.

    It runs Lanczos [1]_ in float64 with full reorthogonalization, for all starts at once
    from the same first vector. The residual of a value is the norm of H v - value * v,
    where v is the unit vector of the value.

    Parameters
    ----------
    bound : Bound
    parameters : dict of Tensor, each of shape (S, ...)
    step : int
    max_steps : int
        The largest number of products with the Hessian.

    Returns
    -------
    Curvature

    References
    ----------
    .. [1] Parlett (1998), "The symmetric eigenvalue problem", SIAM, chapter 13.

    Examples
    --------
    >>> from descents import Problem
    >>> valley = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: (
    ...         (0.9 ** torch.arange(1000) * parameters["x"] ** 2).sum(1) / 2
    ...     ),
    ...     lambda generator: {"x": generator.random(1000)},
    ... )
    >>> ends = lanczos(valley.bind(torch.arange(1)), valley.points([0], 0))
    >>> ends.largest.round(6), bool(ends.residuals < 1e-3)
    (array([1.]), True)
    """
    size = sum(value[0].numel() for value in parameters.values())
    together = max(1, BASIS_ENTRIES // (size * min(max_steps, size)))
    parts = []
    for first in range(0, len(bound.starts), together):
        chosen = slice(first, first + together)
        part = {name: value[chosen] for name, value in parameters.items()}
        here = bound.part(chosen)
        product, _ = _products(here, part, step)
        parts.append(_ends(product, len(here.starts), size, max_steps, bound.device))
    return Curvature(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))


Product = Callable[[torch.Tensor], torch.Tensor]


def _products(
    bound: Bound, parameters: Parameters, step: int
) -> tuple[Product, torch.Size]:
    """Return a function that multiplies each start's Hessian by a vector, (S, P).

    The graph of the gradient is built once and differentiated again for every product.
    """
    precise = bound.problem.evaluation_dtype
    leaves = {n: p.detach().to(precise).requires_grad_() for n, p in parameters.items()}

    def derivative(
        of: torch.Tensor, along: torch.Tensor | None, keep: bool
    ) -> torch.Tensor:
        if not of.requires_grad:  # a loss that is linear in the parameters
            return torch.zeros_like(flat(leaves))
        entries = torch.autograd.grad(
            of,
            list(leaves.values()),
            along,
            create_graph=keep,
            retain_graph=True,
            materialize_grads=True,
        )
        return flat(dict(zip(leaves, entries, strict=True)))

    with torch.enable_grad():
        losses = bound.losses(leaves, step)
        gradient = derivative(losses, torch.ones_like(losses), keep=True)

    def product(vectors: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            image = derivative(gradient, vectors.to(precise), keep=False)
        return image.double().detach()

    return product, gradient.shape


def _ends(
    product: Product, count: int, size: int, max_steps: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the extreme eigenvalues and their residuals, by Lanczos.

    Step j multiplies H by v_j and subtracts the parts along v_0 to v_j, which leaves r_j:
    H v_j = b_{j-1} v_{j-1} + a_j v_j + r_j, with a_j = v_j' H v_j and b_j = ||r_j||. Then
    v_{j+1} = r_j / b_j. The a and b form a tridiagonal matrix whose extreme eigenvalues
    approach those of H.
    """
    limit = min(max_steps, size)
    generator = np.random.Generator(np.random.Philox(0))
    draws = torch.tensor(generator.standard_normal((limit, size)), device=device)
    basis = torch.zeros(count, limit, size, dtype=torch.float64, device=device)
    # The tridiagonal matrix of each start: its diagonal a and its subdiagonal b.
    diagonal, subdiagonal = np.zeros((2, count, limit))
    vectors = (draws[0] / draws[0].norm()).expand(count, size)
    ends = (np.full(count, np.nan),) * 3
    for j in range(limit):
        basis[:, j] = vectors
        image = product(vectors)
        diagonal[:, j] = (image * vectors).sum(1).cpu().numpy()
        rest = _orthogonal(image, basis[:, : j + 1])
        norms = rest.norm(dim=1)
        scale = np.abs(diagonal).max(1) + subdiagonal.max(1)
        # If the basis spans an invariant subspace, only rounding is left.
        exhausted = norms <= torch.tensor(1e-12 * scale, device=device)
        subdiagonal[:, j] = torch.where(exhausted, 0.0, norms).cpu().numpy()
        last = j + 1 == limit
        if last or (j + 1) % CHECK_EVERY == 0:
            ends = _ritz(diagonal[:, : j + 1], subdiagonal[:, : j + 1])
            largest = np.fmax(np.abs(ends[0]), np.abs(ends[1]))
            if last or not (ends[2] > LANCZOS_ACCURACY * largest).any():
                break
        if bool(exhausted.any()):  # continue in a random direction
            fresh = _orthogonal(draws[j + 1].expand(count, size), basis[:, : j + 1])
            rest = torch.where(exhausted[:, None], fresh, rest)
            norms = rest.norm(dim=1)
        vectors = rest / norms[:, None]
    return ends


def _orthogonal(vectors: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return the part orthogonal to the basis; two passes are enough (Parlett)."""
    for _ in range(2):
        coefficients = torch.einsum("sjp,sp->sj", basis, vectors)
        vectors = vectors - torch.einsum("sjp,sj->sp", basis, coefficients)
    return vectors


def _ritz(
    diagonal: np.ndarray, subdiagonal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return extreme eigenvalues of tridiagonal matrices, and the larger residual.

    The residual of a Ritz value is the last subdiagonal entry times the last component of
    its eigenvector.
    """
    count, size = diagonal.shape
    smallest, largest, residuals = np.full((3, count), np.nan)
    finite = np.isfinite(diagonal).all(1) & np.isfinite(subdiagonal).all(1)
    if finite.any():
        places = np.arange(size)
        matrices = np.zeros((int(finite.sum()), size, size))
        matrices[:, places, places] = diagonal[finite]
        matrices[:, places[1:], places[:-1]] = subdiagonal[finite, :-1]
        values, vectors = np.linalg.eigh(matrices)  # reads the lower triangle
        smallest[finite], largest[finite] = values[:, 0], values[:, -1]
        last = np.abs(vectors[:, -1][:, [0, -1]]).max(1)
        residuals[finite] = subdiagonal[finite, -1] * last
    return smallest, largest, residuals
