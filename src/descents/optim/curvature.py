"""Curvature along one direction, and the step lengths and gains that follow from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from descents.optim.inner import Divided
from descents.optim.problem import Bound, Parameters
from descents.optim.stacked import flat


def curvature_along(
    bound: Bound,
    parameters: Parameters,
    direction: torch.Tensor,
    step: int,
) -> torch.Tensor:
    """Return d' H d for each start, by differentiating the gradient along d.

    Parameters
    ----------
    bound : Bound
    parameters : dict of Tensor, each of shape (S, ...)
    direction : Tensor of shape (S, P)
        d, in the order of `flat`.
    step : int

    Returns
    -------
    Tensor of shape (S,)

    Examples
    --------
    >>> from descents import Problem
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: 3 * parameters["x"].square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> x = {"x": torch.zeros(2)}
    >>> bound = bowl.bind(torch.arange(2))
    >>> curvature_along(bound, x, torch.tensor([[1.0], [2.0]]), 0)
    tensor([ 6., 24.])
    """
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.inference_mode(False), torch.enable_grad():
        losses = _own_losses(bound, leaves, step)
        gradients = torch.autograd.grad(
            losses.sum(), list(leaves.values()), create_graph=True, allow_unused=True
        )
        slopes = {
            name: torch.zeros_like(leaf) if g is None else g
            for (name, leaf), g in zip(leaves.items(), gradients, strict=True)
        }
        along = (flat(slopes) * direction).sum()  # g'd
        if not along.requires_grad:  # the loss is linear here
            return bound.inner.total(direction.new_zeros(len(direction)))
        # The gradient of g'd is H d.
        bent = torch.autograd.grad(along, list(leaves.values()), materialize_grads=True)
    product = (flat(dict(zip(leaves, bent, strict=True))) * direction).sum(1)
    return bound.inner.total(product)  # over the losses of all processes


def _own_losses(bound: Bound, parameters: Parameters, step: int) -> torch.Tensor:
    """Return the losses, or the part of them that is this process's."""
    problem = bound.problem
    if bound.inner.together.size > 1 and isinstance(problem, Divided):
        return problem.own_losses(parameters)
    return bound.losses(parameters, step)


def first_length(
    bound: Bound,
    parameters: Parameters,
    gradient: torch.Tensor,
    step: int,
) -> torch.Tensor:
    """Return the length t of a first step x - t g, shape (S,).

    The step leads to the minimum of the quadratic with the same slope and curvature, t =
    g'g / |g'Hg|, but is not longer than the point itself, ||t g|| <= ||x||. It does not
    depend on the units of the parameters or of the loss.
    """
    inner = bound.inner
    square = inner.dot(gradient, gradient, parameters)
    norm = square.sqrt().clamp_min(torch.finfo(gradient.dtype).tiny)
    bent = curvature_along(bound, parameters, gradient, step).abs()
    size = inner.norm(flat(parameters), parameters)
    # Without curvature, go 1% of ||x||. At x = 0 only the curvature gives a scale.
    least = torch.where(size > 0, 0.01 * size, 1e-5)
    most = torch.where(size > 0, size, torch.inf)
    length = torch.where(bent > 0, square / bent, least / norm)
    length = torch.minimum(length, most / norm)
    return torch.where(torch.isfinite(length), length, least / norm)


def gains(
    bound: Bound,
    parameters: Parameters,
    mapping: Mapping[str, torch.Tensor],
    step: int,
) -> torch.Tensor:
    """Return how much the best step along the prox-gradient mapping m lowers each loss.

    To second order this is (m'm)^2 / (2 |m'Hm|). It does not depend on the units of the
    parameters, if all have the same, nor on a learning rate.

    Returns
    -------
    float64 Tensor of shape (S,)
        Infinite where the loss has a slope but no curvature along it.

    Examples
    --------
    >>> from descents import Problem
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: 3 * parameters["x"].square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> x = {"x": torch.tensor([2.0])}
    >>> gains(bowl.bind(torch.arange(1)), x, {"x": 6 * x["x"]}, 0)  # all of the loss
    tensor([12.], dtype=torch.float64)
    """
    along = flat(mapping)
    square = bound.inner.dot(along.double(), along.double(), parameters)
    bent = curvature_along(bound, parameters, along, step).double().abs()
    gain = torch.where(bent > 0, square.square() / (2 * bent), torch.inf)
    return torch.where(square > 0, gain, square)
