"""Activation functions of hidden units, and when a unit is dead or saturated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Activation:
    """A function of the sum z of a hidden unit.

    Attributes
    ----------
    name : str
    function : callable
    off, flat : callable
        Whether the unit is off at z: its output and its gradient are 0. Whether it is
        saturated at z: the slope is below a hundredth of the largest slope.
    """

    name: str
    function: Callable[[torch.Tensor], torch.Tensor]
    off: Callable[[torch.Tensor], torch.Tensor]
    flat: Callable[[torch.Tensor], torch.Tensor]


def _never(values: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(values, dtype=torch.bool)


def _negative(values: torch.Tensor) -> torch.Tensor:
    return values <= 0


def _far_below(values: torch.Tensor) -> torch.Tensor:
    # The slope of z Phi(z) is within 0.01 of 0 below -3.0674.
    return values < -3.0674


def _tanh_flat(values: torch.Tensor) -> torch.Tensor:
    # tanh' = 1 - tanh^2 is 0.01 at z = 2.993, and the logistic's slope at twice that is
    # 0.01 of its largest.
    return values.abs() > TANH_FLAT


def _logistic_flat(values: torch.Tensor) -> torch.Tensor:
    return values.abs() > 2 * TANH_FLAT


TANH_FLAT = 2.9932


ACTIVATIONS = {
    found.name: found
    for found in (
        Activation("relu", torch.relu, _negative, _never),
        Activation("tanh", torch.tanh, _never, _tanh_flat),
        Activation("logistic", torch.sigmoid, _never, _logistic_flat),
        Activation("gelu", torch.nn.functional.gelu, _far_below, _never),
    )
}
