"""The losses and gradients of a network in one pass of compiled code.

The same mathematics as `network` and `supervised` state by torch operations, restated
for speed: the starts are the lanes of the processor's vectors. Tests hold the gradients
against those of autograd.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from descents.kernels.compiled import NUMBERS, address, of_precision
from descents.optim.problem import WIDEST_CHUNK, Parameters

SOURCE = Path(__file__).parents[1] / "kernels" / "network.c"
ACTIVATIONS = {"relu": 0, "tanh": 1, "logistic": 2, "gelu": 3}
MOST_PARAMETERS = 2**16
"""Larger networks are left to matrix products: a group of starts no longer fits into the
second-level cache of a core."""


MOST_OF_ONE = 2**19
"""Up to so many rows times parameters, one start alone is faster by compiled code."""


@dataclass(frozen=True)
class Shape:
    """What of a network is the same at every step.

    Attributes
    ----------
    widths : tuple of int
        Of features, hidden layers and outputs.
    activation : str
    scalar_biases, classifies : bool
    """

    widths: tuple[int, ...]
    activation: str
    scalar_biases: bool
    classifies: bool

    @property
    def parameters(self) -> int:
        """How many weights and biases a start has."""
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        return sum((inputs + 1) * outputs for inputs, outputs in pairs)

    def steps_at_once(self, rows: int, starts: int) -> int:
        """Return how many steps take about a tenth of a second, at least one.

        An interrupt, or the end of the time, is seen between them only.
        """
        return max(1, 2**28 // (rows * self.parameters * starts))

    @property
    def applies(self) -> bool:
        """Whether compiled code is the faster way."""
        return self.activation in ACTIVATIONS and self.parameters <= MOST_PARAMETERS

    def worthwhile(self, rows: int, starts: int) -> bool:
        """Return whether it is the faster way for a chunk of so many starts.

        One start fills one lane of each vector; where there is much to compute for it,
        the matrix products of torch are faster.
        """
        return starts > 1 or rows * self.parameters <= MOST_OF_ONE

    def width(self, rows: int) -> int:
        """Return how many starts to compute together, from 16 to 256.

        Few enough that the processors share the starts of a large network evenly;
        many, of a small one, so that what a step costs beside is shared by many.
        """
        fitting = 2**22 // (rows * self.parameters)
        return min(WIDEST_CHUNK, max(16, fitting // 16 * 16))


@dataclass(frozen=True)
class Rows:
    """Which rows each start looks at, and what they count.

    Attributes
    ----------
    features : Tensor of shape (n, d)
        The whole table.
    target : Tensor of shape (n,) or (n, outputs)
    chosen : int64 Tensor of shape (S, rows)
        Or (1, rows), where all starts have the same.
    weights : Tensor, shaped as `chosen`, or None
    scale : float
        What every row counts where there are no weights.
    decay : Tensor of shape (S,) or None
        The weight decay of each start.
    """

    features: torch.Tensor
    target: torch.Tensor
    chosen: torch.Tensor
    weights: torch.Tensor | None
    scale: float
    decay: torch.Tensor | None
    _structures: dict[Shape, Any] = field(default_factory=dict)

    def structure(self, shape: Shape) -> Any:
        """Return what the compiled code is told, of memory that these rows own."""
        if shape not in self._structures:
            number = NUMBERS[self.features.dtype]
            widths = (ctypes.c_int64 * len(shape.widths))(*shape.widths)
            self._structures[shape] = _structure(number)(
                len(shape.widths) - 1,
                widths,
                shape.scalar_biases,
                ACTIVATIONS[shape.activation],
                shape.classifies,
                self.features.data_ptr(),
                self.target.data_ptr(),
                self.chosen.shape[1],
                self.chosen.shape[1] if len(self.chosen) > 1 else 0,
                self.chosen.data_ptr(),
                None if self.weights is None else self.weights.data_ptr(),
                self.scale,
                None if self.decay is None else self.decay.data_ptr(),
            )
        return self._structures[shape]


def compiled(dtype: torch.dtype) -> ctypes.CDLL | None:
    """Return the compiled code of a precision, None without a compiler."""
    return of_precision(SOURCE, dtype)


def losses_and_gradients(
    shape: Shape, rows: Rows, parameters: Parameters
) -> tuple[torch.Tensor, Parameters] | None:
    """Return the losses of all starts and their gradients; None without a compiler.

    Parameters
    ----------
    shape : Shape
    rows : Rows
    parameters : dict of Tensor
        ``weight1``, ``bias1`` and so on, each with the start axis first.

    Returns
    -------
    losses : Tensor of shape (S,)
    gradients : dict of Tensor, shaped as the parameters
    """
    found = _called(shape, rows, parameters)
    return None if found is None else found[:2]


def plain_steps(
    shape: Shape, rows: Rows, parameters: Parameters, rates: torch.Tensor, steps: int
) -> tuple[torch.Tensor, Parameters, Parameters] | None:
    """Take steps of gradient descent; None where a loss is not finite on the way.

    The same bits as by `losses_and_gradients` and p - rate * g, one step at a time.

    Parameters
    ----------
    shape, rows, parameters
        As in `losses_and_gradients`.
    rates : Tensor of shape (S,)
    steps : int

    Returns
    -------
    losses : Tensor of shape (S,)
        Where the last step began; so are the gradients.
    gradients, moved : dict of Tensor, shaped as the parameters
    """
    return _called(shape, rows, parameters, rates, steps)


def _called(
    shape: Shape,
    rows: Rows,
    parameters: Parameters,
    rates: torch.Tensor | None = None,
    steps: int = 1,
) -> tuple[torch.Tensor, Parameters, Parameters] | None:
    code = compiled(rows.features.dtype)
    if code is None:
        return None
    layers = range(1, len(shape.widths))
    names = [f"{kind}{layer}" for kind in ("weight", "bias") for layer in layers]
    given = [parameters[name].contiguous() for name in names]
    slopes = [torch.empty_like(value) for value in given]
    moved = [] if rates is None else [torch.empty_like(value) for value in given]
    losses = torch.empty(len(given[0]), dtype=rows.features.dtype)
    failed = code.losses_and_gradients(
        ctypes.byref(rows.structure(shape)),
        ctypes.c_int64(len(losses)),
        _pointers(given),
        address(losses),
        _pointers(slopes),
        ctypes.c_int64(steps),
        address(rates),
        _pointers(moved),
    )
    if failed:
        return None
    found = dict(zip(names, slopes, strict=True))
    gradients = {name: found[name] for name in parameters}
    ends = dict(zip(names, moved, strict=False))
    return losses, gradients, {name: ends[name] for name in parameters if ends}


def _pointers(tensors: Sequence[torch.Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])


@functools.cache
def _structure(number: Any) -> Any:
    """Return the C structure of a precision, `struct network` in the source."""

    class Network(ctypes.Structure):
        _fields_ = (
            ("layers", ctypes.c_int64),
            ("widths", ctypes.POINTER(ctypes.c_int64)),
            ("scalar_biases", ctypes.c_int64),
            ("activation", ctypes.c_int64),
            ("classifies", ctypes.c_int64),
            ("features", ctypes.c_void_p),
            ("target", ctypes.c_void_p),
            ("rows", ctypes.c_int64),
            ("stride", ctypes.c_int64),
            ("chosen", ctypes.c_void_p),
            ("weights", ctypes.c_void_p),
            ("scale", number),
            ("decay", ctypes.c_void_p),
        )

    return Network
