"""Curvature of the losses: the Hessian, or its two ends by Lanczos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from descents.problems.problem import Bound, Parameters, flat

EXACT_PARAMETERS = 500
"""Up to so many parameters of a start, all eigenvalues are computed."""
LANCZOS_STEPS = 150
"""How many products with the Hessian Lanczos takes at most."""
LANCZOS_ACCURACY = 1e-8
"""Lanczos ends when the residuals of both ends are at most this times the largest
eigenvalue in magnitude."""
CHECK_EVERY = 10
BASIS_ENTRIES = 2**24
"""How many numbers are kept at once for Lanczos vectors; starts are grouped so."""


@dataclass(frozen=True)
class Curvature:
    """The two ends of the spectrum of S Hessians; NaN where a Hessian is not finite.

    Attributes
    ----------
    smallest, largest : float64 ndarray of shape (S,)
        The least and the greatest eigenvalue. From Lanczos, these are values that the
        curvature takes along some direction: never below the least or above the
        greatest eigenvalue.
    residuals : float64 ndarray of shape (S,)
        An eigenvalue lies within so much of each of the two; 0 where all eigenvalues
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
    """Return the least and the greatest eigenvalue of the Hessian of each start's loss.

    All eigenvalues are computed for up to `EXACT_PARAMETERS` parameters; above that,
    the ends by Lanczos.

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
    >>> saddle = Problem.from_losses(
    ...     lambda parameters, starts, step: (
    ...         parameters["x"][:, 0] ** 2 - 3 * parameters["x"][:, 1] ** 2
    ...     ),
    ...     lambda generator: {"x": generator.random(2)},
    ... )
    >>> found = curvature(saddle.bind(torch.arange(1)), {"x": torch.zeros(1, 2)})
    >>> found.smallest, found.largest
    (array([-6.]), array([2.]))
    """
    if sum(value[0].numel() for value in parameters.values()) > EXACT_PARAMETERS:
        return lanczos(bound, parameters, step)
    matrices = hessians(bound, parameters, step).cpu().numpy()
    smallest, largest = np.full((2, len(bound.starts)), np.nan)
    sound = np.isfinite(matrices).all((1, 2))
    if sound.any():
        symmetric = (matrices + matrices.transpose(0, 2, 1))[sound] / 2
        values = np.linalg.eigvalsh(symmetric)
        smallest[sound], largest[sound] = values[:, 0], values[:, -1]
    return Curvature(smallest, largest, np.where(sound, 0.0, np.nan))


def hessians(bound: Bound, parameters: Parameters, step: int = 0) -> torch.Tensor:
    """Return the Hessian of each start's loss, exact by autograd, in float64.

    The gradient is differentiated entry by entry, all starts at once; parameters are
    flattened and joined in the order of the dict.

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
    >>> saddle = Problem.from_losses(
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
    """Return the ends of the spectrum from products of the Hessian with vectors.

    Lanczos [1]_ in float64 with full reorthogonalization, all starts at once from the
    same first vector. The residual of a value is the norm of H v - value * v, with v
    the unit vector that the value belongs to.

    Parameters
    ----------
    bound : Bound
    parameters : dict of Tensor, each of shape (S, ...)
    step : int
    max_steps : int
        How many products with the Hessian are taken at most.

    Returns
    -------
    Curvature

    References
    ----------
    .. [1] Parlett (1998), "The symmetric eigenvalue problem", SIAM, chapter 13.

    Examples
    --------
    >>> from descents import Problem
    >>> valley = Problem.from_losses(
    ...     lambda parameters, starts, step: (
    ...         (0.9 ** torch.arange(1000) * parameters["x"] ** 2).sum(1) / 2
    ...     ),
    ...     lambda generator: {"x": generator.random(1000)},
    ... )
    >>> found = lanczos(valley.bind(torch.arange(1)), valley.points([0], 0))
    >>> found.largest.round(6), bool(found.residuals < 1e-3)
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
    """Return the product of each start's Hessian with a vector of its own, (S, P).

    The gradient's graph is built once and differentiated again for every product.
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
            found = derivative(gradient, vectors.to(precise), keep=False)
        return found.double().detach()

    return product, gradient.shape


def _ends(
    product: Product, count: int, size: int, max_steps: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two ends of the spectrum and their residuals, by Lanczos."""
    limit = min(max_steps, size)
    generator = np.random.Generator(np.random.Philox(0))
    draws = torch.tensor(generator.standard_normal((limit, size)), device=device)
    basis = torch.zeros(count, limit, size, dtype=torch.float64, device=device)
    diagonal, beside = np.zeros((2, count, limit))
    vectors = (draws[0] / draws[0].norm()).expand(count, size)
    found = (np.full(count, np.nan),) * 3
    for j in range(limit):
        basis[:, j] = vectors
        image = product(vectors)
        diagonal[:, j] = (image * vectors).sum(1).cpu().numpy()
        rest = _orthogonal(image, basis[:, : j + 1])
        norms = rest.norm(dim=1)
        scale = np.abs(diagonal).max(1) + beside.max(1)
        # Of an exhausted subspace, rounding is all that is left.
        bare = norms <= torch.tensor(1e-12 * scale, device=device)
        beside[:, j] = torch.where(bare, 0.0, norms).cpu().numpy()
        last = j + 1 == limit
        if last or (j + 1) % CHECK_EVERY == 0:
            found = _ritz(diagonal[:, : j + 1], beside[:, : j + 1])
            largest = np.fmax(np.abs(found[0]), np.abs(found[1]))
            if last or not (found[2] > LANCZOS_ACCURACY * largest).any():
                break
        if bool(bare.any()):  # go on in a direction not seen yet
            fresh = _orthogonal(draws[j + 1].expand(count, size), basis[:, : j + 1])
            rest = torch.where(bare[:, None], fresh, rest)
            norms = rest.norm(dim=1)
        vectors = rest / norms[:, None]
    return found


def _orthogonal(vectors: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return what is orthogonal to the basis; twice is enough (Parlett)."""
    for _ in range(2):
        shares = torch.einsum("sjp,sp->sj", basis, vectors)
        vectors = vectors - torch.einsum("sjp,sj->sp", basis, shares)
    return vectors


def _ritz(
    diagonal: np.ndarray, beside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ends of tridiagonal matrices, and the larger of their residuals."""
    count, size = diagonal.shape
    smallest, largest, residuals = np.full((3, count), np.nan)
    sound = np.isfinite(diagonal).all(1) & np.isfinite(beside).all(1)
    if sound.any():
        places = np.arange(size)
        matrices = np.zeros((int(sound.sum()), size, size))
        matrices[:, places, places] = diagonal[sound]
        matrices[:, places[1:], places[:-1]] = beside[sound, :-1]
        values, vectors = np.linalg.eigh(matrices)  # reads the lower triangle
        smallest[sound], largest[sound] = values[:, 0], values[:, -1]
        ends = np.abs(vectors[:, -1][:, [0, -1]]).max(1)
        residuals[sound] = beside[sound, -1] * ends
    return smallest, largest, residuals
