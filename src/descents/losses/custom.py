"""A loss that is any function of predictions and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.devices import constant
from descents.errors import InvalidValueError
from descents.losses.base import Loss


@dataclass(frozen=True)
class CustomLoss(Loss):
    """A custom loss: any function of prediction and target, cell by cell.

    Parameters
    ----------
    function : callable
        ``function(prediction, target)`` takes two tensors of one shape and returns a
        tensor of that shape. It uses torch operations, and autograd differentiates it.
        It always gets numbers in the units of the data.
    units : tuple of float, optional
        The units of the columns, if the table was divided by them. Predictions and
        targets are multiplied by them before the call.

    Examples
    --------
    >>> loss = CustomLoss(lambda prediction, target: (prediction - target) ** 4)
    >>> loss(torch.tensor([2.0]), torch.tensor([0.0]))
    tensor([16.])
    """

    # What it returns is checked at every call.
    function: Callable[[torch.Tensor, torch.Tensor], object]
    units: tuple[float, ...] | None = None

    name: ClassVar[str] = "own"

    def column(self, place: int) -> Loss:
        """Return the loss of one of its columns."""
        return (
            self
            if self.units is None
            else CustomLoss(self.function, (self.units[place],))
        )

    def in_units(self, units: np.ndarray) -> Loss:
        """Return a loss that calls the function with numbers in the units of the data."""
        return CustomLoss(self.function, tuple(units.tolist()))

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, **cuts: torch.Tensor
    ) -> torch.Tensor:
        """Return the result of the function, after a check of its shape."""
        if self.units is not None:
            unit = constant(self.units, prediction.dtype, prediction.device)
            prediction, target = prediction * unit, target * unit
        try:
            value = self.function(prediction, target)
        except TypeError as error:
            raise InvalidValueError(
                f"the given loss cannot be called with prediction and target ({error}); "
                "give a function of two tensors of one shape"
            ) from error
        expected = prediction.shape
        if not isinstance(value, torch.Tensor) or value.shape != expected:
            got = getattr(value, "shape", None)
            got = type(value).__name__ if got is None else tuple(got)
            raise InvalidValueError(
                f"the given loss returns {got} for predictions of shape "
                f"{tuple(expected)}; return a tensor of that shape, one loss for each cell"
            )
        return value
