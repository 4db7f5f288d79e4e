"""Losses and gradients of a multilayer perceptron by compiled code.

The mathematics is that of `network` and `supervised`, which use torch operations. For
speed, the starts are the lanes of the processor's vectors. Tests compare the gradients
with those of autograd.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from descents.kernels.compiled import NUMBERS, address, of_precision
from descents.optim.problem import WIDEST_CHUNK, Parameters

SOURCE = Path(__file__).parents[1] / "kernels" / "network.c"
ACTIVATIONS = {"relu": 0, "tanh": 1, "logistic": 2, "gelu": 3}
MOST_PARAMETERS = 2**16
"""Larger networks are computed by matrix products, because a group of starts no longer fits
into the second-level cache of a core."""


MOST_OF_ONE = 2**19
"""Up to this many rows times parameters, compiled code is faster for one start alone."""


@dataclass(frozen=True)
class Shape:
    """The shape of a multilayer perceptron.

    Attributes
    ----------
    widths : tuple of int
        The widths of the features, the hidden layers and the outputs.
    activation : str
    scalar_biases, classifies : bool
    """

    widths: tuple[int, ...]
    activation: str
    scalar_biases: bool
    classifies: bool

    @property
    def parameters(self) -> int:
        """The number of weights and biases of a start."""
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        return sum((inputs + 1) * outputs for inputs, outputs in pairs)

    def steps_at_once(self, rows: int, starts: int) -> int:
        """Return how many steps take about a tenth of a second, at least one.

        Interrupts and time limits are checked only between such groups of steps.
        """
        return max(1, 2**28 // (rows * self.parameters * starts))

    @property
    def applies(self) -> bool:
        """Whether compiled code is faster than torch operations."""
        return self.activation in ACTIVATIONS and self.parameters <= MOST_PARAMETERS

    def worthwhile(self, rows: int, starts: int) -> bool:
        """Return whether compiled code is faster for a chunk with this number of starts.

        One start fills one lane of each vector. If there is much to compute for it, the
        matrix products of torch are faster.
        """
        return starts > 1 or rows * self.parameters <= MOST_OF_ONE

    def width(self, rows: int) -> int:
        """Return how many starts to compute together, from 16 to 256.

        Chunks of a large network have few starts, so that the processors share them
        evenly. Those of a small network have many, which share the overhead of a step.
        """
        fitting = 2**22 // (rows * self.parameters)
        return min(WIDEST_CHUNK, max(16, fitting // 16 * 16))


@dataclass(frozen=True)
class Rows:
    """The rows that each start uses in a step, and their weights.

    Attributes
    ----------
    features : Tensor of shape (n, d)
        All rows of the table.
    target : Tensor of shape (n,) or (n, outputs)
    chosen : int64 Tensor of shape (S, rows)
        The indices of the rows; of shape (1, rows) if all starts use the same.
    weights : Tensor of the shape of `chosen`, or None
    scale : float
        The weight of every row if there are no weights.
    decay : Tensor of shape (S,) or None
        The weight decay of each start.
    """

    features: torch.Tensor
    target: torch.Tensor
    chosen: torch.Tensor
    weights: torch.Tensor | None
    scale: float
    decay: torch.Tensor | None
    _structures: dict[Shape, ctypes.Structure] = field(default_factory=dict)

    def structure(self, shape: Shape) -> ctypes.Structure:
        """Return the argument of the compiled code; it points into memory of these rows."""
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
    """Return the compiled code for a precision, None without a compiler."""
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
    gradients : dict of Tensor, of the shapes of the parameters
    """
    found = _called(shape, rows, parameters)
    return None if found is None else found[:2]


def plain_steps(
    shape: Shape, rows: Rows, parameters: Parameters, rates: torch.Tensor, steps: int
) -> tuple[torch.Tensor, Parameters, Parameters] | None:
    """Take steps of gradient descent; return None if a loss is not finite on the way.

    The results have the same bits as single steps p - rate * g with the gradients of
    `losses_and_gradients`.

    Parameters
    ----------
    shape, rows, parameters
        See `losses_and_gradients`.
    rates : Tensor of shape (S,)
    steps : int

    Returns
    -------
    losses : Tensor of shape (S,)
        At the beginning of the last step, as the gradients.
    gradients, moved : dict of Tensor, of the shapes of the parameters
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


def _pointers(tensors: Sequence[torch.Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])


@functools.cache
def _structure(
    number: type[ctypes.c_float] | type[ctypes.c_double],
) -> type[ctypes.Structure]:
    """Return the C structure for a precision, `struct network` in network.c."""

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
