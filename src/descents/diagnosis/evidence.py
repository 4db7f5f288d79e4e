"""Evidence of starts at one point each: gradient, units and curvature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from descents.diagnosis.hessian import curvature
from descents.optim.abilities import Diagnosable, HasUnits
from descents.optim.problem import Bound, Parameters, Problem
from descents.optim.stacked import flat


@dataclass(frozen=True)
class Look:
    """Evidence of S starts at one point each, computed in float64.

    Attributes
    ----------
    gradient_norm : ndarray of shape (S,)
    layers : dict of ndarray of shape (S,)
        The gradient norm of each layer, from the first to the last.
    dead_share, saturated_share : ndarray of shape (S,)
        The share of hidden units with output zero, and of saturated ones, on every
        training row; 0 if the problem has no units.
    smallest_eigenvalue : ndarray of shape (S,)
        The smallest eigenvalue of the Hessian; NaN if it was not computed, or is not
        finite.
    largest_eigenvalue : ndarray of shape (S,)
        The largest eigenvalue in magnitude.
    eigenvalue_residual : ndarray of shape (S,)
        The error bound of both: 0 if all eigenvalues were computed, else the residual of
        Lanczos.
    """

    gradient_norm: np.ndarray
    layers: dict[str, np.ndarray]
    dead_share: np.ndarray
    saturated_share: np.ndarray
    smallest_eigenvalue: np.ndarray
    largest_eigenvalue: np.ndarray
    eigenvalue_residual: np.ndarray

    @property
    def first_layer(self) -> np.ndarray:
        """The gradient norm of the first layer."""
        return next(iter(self.layers.values()))

    @property
    def last_layer(self) -> np.ndarray:
        """The gradient norm of the last layer."""
        return next(reversed(self.layers.values()))

    def placed(self, rows: np.ndarray, count: int) -> Look:
        """Return the evidence of `count` starts: this one at some rows, NaN elsewhere."""

        def padded(values: np.ndarray) -> np.ndarray:
            wide = np.full(count, np.nan)
            wide[rows] = values
            return wide

        layers = {name: padded(values) for name, values in self.layers.items()}
        per_start = {name: padded(getattr(self, name)) for name in _PER_START}
        return Look(layers=layers, **per_start)


_PER_START = (
    "gradient_norm",
    "dead_share",
    "saturated_share",
    "smallest_eigenvalue",
    "largest_eigenvalue",
    "eigenvalue_residual",
)


def look(
    problem: Problem,
    numbers: np.ndarray,
    parameters: Parameters,
    width: int,
    curved: np.ndarray | None = None,
) -> Look:
    """Compute the evidence of some starts at given parameters.

    Parameters
    ----------
    problem : Problem
    numbers : int64 ndarray of shape (S,)
        The numbers of the starts.
    parameters : dict of Tensor, each of shape (S, ...)
        May include buffers of the problem, such as the running means of batch
        normalization; they are restored for each start.
    width : int
        The number of starts that are computed together.
    curved : bool ndarray of shape (S,), optional
        The starts whose curvature is computed; by default all.

    Returns
    -------
    Look

    Examples
    --------
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: 2 * parameters["x"].square().sum(1),
    ...     lambda generator: {"x": generator.random(2)},
    ... )
    >>> evidence = look(bowl, np.arange(1), {"x": torch.tensor([[3.0, 4.0]])}, 1)
    >>> evidence.gradient_norm, evidence.largest_eigenvalue
    (array([20.]), array([4.]))
    """
    if not len(numbers):
        names = layers_of(problem, parameters)
        empty = np.zeros(0)
        layers = dict.fromkeys(names, empty)
        return Look(empty, layers, empty, empty, empty, empty, empty)
    parts = []
    first_start = torch.as_tensor(numbers[:1], device=problem.device)
    buffers = problem.bind(first_start).buffers()
    width = 1 if buffers else width  # a module has the buffers of one start
    for first in range(0, len(numbers), width):
        chosen = slice(first, first + width)
        part = {
            n: p[chosen].to(problem.evaluation_dtype)
            for n, p in parameters.items()
            if n not in buffers
        }
        bound = problem.bind(torch.as_tensor(numbers[chosen], device=problem.device))
        bound.load_buffers(
            {n: p[chosen] for n, p in parameters.items() if n in buffers}
        )
        with_curvature = (
            np.ones(len(bound.starts), bool) if curved is None else curved[chosen]
        )
        parts.append(_look(bound.whole, part, with_curvature))
    layers = {
        name: np.concatenate([part.layers[name] for part in parts])
        for name in parts[0].layers
    }
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _PER_START
    }
    return Look(layers=layers, **joined)


def _look(bound: Bound, parameters: Parameters, curved: np.ndarray) -> Look:
    """Return the evidence of the starts of one chunk, with curvature where `curved`."""
    problem, starts = bound.problem, bound.starts
    # Count units first, because evaluating losses may change the buffers of the module.
    with torch.no_grad():
        none = torch.zeros(len(starts), 0, dtype=torch.bool, device=starts.device)
        dead = saturated = none
        if isinstance(bound, HasUnits):
            dead = bound.dead_units(parameters)
            saturated = bound.saturated_units(parameters)
    _, gradients = bound.losses_and_gradients(parameters, 0)
    layers = {
        layer: flat({name: gradients[name] for name in names}).norm(dim=1).cpu().numpy()
        for layer, names in layers_of(problem, parameters).items()
    }
    smallest, largest, residual = np.full((3, len(starts)), np.nan)
    if curved.any():
        rows = torch.as_tensor(curved, device=starts.device)
        some = {name: value[rows] for name, value in parameters.items()}
        here = bound if curved.all() else bound.part(rows)
        ends = curvature(here, some)
        smallest[curved], largest[curved] = ends.smallest, ends.magnitude
        residual[curved] = ends.residuals
    with np.errstate(over="ignore"):  # gradients of exploded starts may overflow
        total = np.sqrt(sum(np.square(norms) for norms in layers.values()))
    return Look(
        gradient_norm=total,
        layers=layers,
        dead_share=_share(dead),
        saturated_share=_share(saturated),
        smallest_eigenvalue=smallest,
        largest_eigenvalue=largest,
        eigenvalue_residual=residual,
    )


def layers_of(problem: Problem, parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """Return which parameters belong together; by default, each is alone.

    Examples
    --------
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: parameters["x"].square(),
    ...     lambda generator: {"x": generator.random()},
    ... )
    >>> layers_of(bowl, {"x": torch.zeros(1)})
    {'x': ('x',)}
    """
    if isinstance(problem, Diagnosable):
        return problem.layers(parameters)
    return {name: (name,) for name in parameters}


def _share(units: torch.Tensor) -> np.ndarray:
    """Return the share of units that are True, 0 if there are no units."""
    whole = units.double()
    share = whole.mean(1) if units.shape[1] else whole.sum(1)
    return share.cpu().numpy()


def norms(parameters: Parameters) -> np.ndarray:
    """Return the norm of all parameters of each start, shape (S,), in float64.

    Examples
    --------
    >>> norms({"a": torch.tensor([[3.0], [0.0]]), "b": torch.tensor([4.0, 1.0])})
    array([5., 1.])
    """
    if not len(next(iter(parameters.values()))):
        return np.zeros(0)
    lengths: np.ndarray = flat(parameters).double().norm(dim=1).cpu().numpy()
    return lengths
