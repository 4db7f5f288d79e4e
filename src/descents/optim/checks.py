"""Check the shapes of what a problem returns."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from descents.errors import InvalidValueError
from descents.text import counted


def check_points(points: object, count: int) -> None:
    """Raise unless `points` maps names to tensors with one row for each of the starts."""
    if not isinstance(points, Mapping) or not points:
        raise InvalidValueError(
            f"the initial points of {counted(count, 'start')} are {type(points).__name__}; "
            "return a dict of tensors by name, stacked over the starts"
        )
    for name, value in points.items():
        shape = tuple(getattr(value, "shape", ()))
        if not isinstance(value, torch.Tensor) or shape[:1] != (count,):
            got = shape if isinstance(value, torch.Tensor) else type(value).__name__
            raise InvalidValueError(
                f"the initial points of {counted(count, 'start')} have {got} for "
                f"{name!r}; return a tensor whose first axis has length {count}, one row "
                "for each requested start"
            )


def check_losses(losses: object, count: int) -> None:
    """Raise unless `losses` is a tensor with one number for each of the starts."""
    if not isinstance(losses, torch.Tensor) or losses.shape != (count,):
        got = getattr(losses, "shape", type(losses).__name__)
        got = tuple(got) if isinstance(got, torch.Size) else got
        raise InvalidValueError(
            f"the losses of {counted(count, 'start')} are {got}; "
            f"return a tensor of shape ({count},), one loss for each start"
        )
