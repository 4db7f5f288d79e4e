"""How the initial weights and biases of a layer are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from descents.validation import one_of

Initialization = Callable[[np.random.Generator, int, int], np.ndarray]


def _orthogonal(
    generator: np.random.Generator, inputs: int, outputs: int
) -> np.ndarray:
    """Draw a matrix with orthonormal rows or columns, uniformly (Haar)."""
    tall = generator.standard_normal((max(inputs, outputs), min(inputs, outputs)))
    basis: np.ndarray
    basis, upper = np.linalg.qr(tall)
    basis = basis * np.sign(np.diag(upper))
    return basis if inputs >= outputs else basis.T


Draw = Callable[[np.random.Generator, int | tuple[int, ...]], np.ndarray]


Scale = Callable[[int, int], float]


SCALED: dict[str, tuple[Draw, Scale]] = {
    "uniform01": (
        lambda generator, shape: generator.random(shape),
        lambda inputs, outputs: 1.0,
    ),
    "normal": (
        lambda generator, shape: generator.standard_normal(shape),
        lambda inputs, outputs: 1.0,
    ),
    "kaiming": (
        lambda generator, shape: generator.standard_normal(shape),
        lambda inputs, outputs: np.sqrt(2 / inputs),
    ),
    "xavier": (
        lambda generator, shape: generator.uniform(-1, 1, shape),
        lambda inputs, outputs: np.sqrt(6 / (inputs + outputs)),
    ),
}
"""Weights that are drawn one by one, and the factor by which a layer's are multiplied."""


def _scaled(draw: Draw, scale: Scale) -> Initialization:
    def weights(
        generator: np.random.Generator, inputs: int, outputs: int
    ) -> np.ndarray:
        drawn: np.ndarray = draw(generator, (inputs, outputs))
        return drawn * scale(inputs, outputs)

    return weights


WEIGHTS: dict[str, Initialization] = {
    **{name: _scaled(*rule) for name, rule in SCALED.items()},
    "orthogonal": _orthogonal,
    "zero": lambda generator, inputs, outputs: np.zeros((inputs, outputs)),
}
"""The initial weights of a layer: uniform on [0, 1); standard normal; normal of
variance 2 / inputs (He et al., 2015, ICCV); uniform of variance 2 / (inputs + outputs)
(Glorot and Bengio, 2010, AISTATS); orthonormal rows or columns (Saxe et al., 2014,
ICLR); all zero."""


BIASES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "zero": lambda generator, outputs: np.zeros((1, outputs)),
    "uniform01": lambda generator, outputs: generator.random((1, outputs)),
}
"""The initial biases of a layer: all zero, or uniform on [0, 1)."""


def initialization_named(name: str, value: object) -> str | Initialization:
    """Return a name in `WEIGHTS`, or a callable as it is."""
    return value if callable(value) else one_of(name, value, WEIGHTS)
