"""What only some kinds of problems can do, declared as protocols.

`descents.optim.problem.Accelerated` is another one.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from descents.optim.problem import Parameters


@runtime_checkable
class Parallel(Protocol):
    """A problem whose chunks may run in parallel threads by default."""

    @property
    def side_by_side(self) -> bool:
        """Whether chunks may run in parallel: they share no mutable data."""

    @property
    def one_threaded(self) -> bool:
        """Whether a step is computed by compiled code that uses one thread."""


@runtime_checkable
class Diagnosable(Protocol):
    """A problem with a baseline and with layers, which a diagnosis can use."""

    def baseline(self, metric: str) -> float:
        """Return the value of a metric for a model that learns nothing."""

    def layers(self, parameters: Parameters) -> dict[str, tuple[str, ...]]:
        """Return the names of the parameters of each layer, from the first layer on."""


@runtime_checkable
class HasUnits(Protocol):
    """A bound problem whose model has hidden units."""

    def dead_units(self, parameters: Parameters) -> torch.Tensor:
        """Return which units are zero on every row: bool, shape (S, units)."""

    def saturated_units(self, parameters: Parameters) -> torch.Tensor:
        """Return which units are saturated on every row: bool, shape (S, units)."""
