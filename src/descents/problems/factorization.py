"""Factorization: a table as the product U V^T of two thin factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from descents.checks import (
    Complaints,
    InvalidValueError,
    one_of,
    torch_device,
    torch_dtype,
)
from descents.problems import losses
from descents.problems.problem import Parameters, Problem

INITIALIZATIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Any]] = {
    "uniform": lambda generator, shape: generator.random(shape),
    "normal": lambda generator, shape: generator.standard_normal(shape),
}
"""How the entries of U and V are drawn: uniform on [0, 1), or standard normal."""


class Factorization(Problem):
    r"""Squared error of a complete table against U V^T.

    Minimises :math:`\|A - U V^\top\|_F^2` over U of shape (rows, rank) and V of shape
    (columns, rank).

    Parameters
    ----------
    table : array-like of shape (rows, columns)
        Finite numbers. It is not centred here.
    rank : int
        From 1 to min(rows, columns).
    initialization : {"uniform", "normal"} or pair of arrays
        How each start is drawn; or U of shape (starts, rows, rank) and V of shape
        (starts, columns, rank), of which start k takes the k-th.
    dtype : torch.dtype, optional
        float32 or float64, by default that of the table.
    device : str or torch.device

    Attributes
    ----------
    table : ndarray of shape (rows, columns)
        As given; final losses compare with it in float64.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.

    Examples
    --------
    >>> from descents import descend, GradientDescent, Stop
    >>> table = [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]  # of rank one
    >>> runs = descend(Factorization(table, rank=1), starts=3,
    ...                steps=GradientDescent(0.01), stop=Stop(500))
    >>> bool((runs.losses < 1e-12).all())
    True
    """

    def __init__(
        self,
        table: Any,
        rank: int,
        *,
        initialization: str | tuple[Any, Any] = "uniform",
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        complaints = Complaints()
        array, given_rank = complaints.table_and_rank("table", table, rank)
        given_device = complaints.attempt(torch_device, device)
        given_dtype: Any = None
        if array is not None:
            given_dtype = complaints.attempt(torch_dtype, dtype, array)
        if isinstance(initialization, str):
            complaints.attempt(
                one_of, "initialization", initialization, INITIALIZATIONS
            )
        complaints.raise_any()
        self.table: np.ndarray = array
        self.rank: int = given_rank
        self.dtype, self.device = given_dtype, given_device
        self.size = self.table.size
        self.initialization = initialization
        if not isinstance(initialization, str):
            self._given = self._check_given(initialization)
            self.available = len(self._given["U"])
        self._tables: dict[torch.dtype, torch.Tensor] = {}

    def _check_given(self, factors: tuple[Any, Any]) -> dict[str, np.ndarray]:
        rows, columns = self.table.shape
        given = {name: np.asarray(f) for name, f in zip("UV", factors, strict=True)}
        count = len(given["U"])
        for name, length in (("U", rows), ("V", columns)):
            expected = (count, length, self.rank)
            if given[name].shape != expected:
                raise InvalidValueError(
                    f"the initial {name} has shape {given[name].shape}; give "
                    f"(starts, {length}, {self.rank}), here {expected}"
                )
        return given

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Draw U, then V, of one start."""
        if not isinstance(self.initialization, str):
            return {name: value[start] for name, value in self._given.items()}
        draw = INITIALIZATIONS[self.initialization]
        rows, columns = self.table.shape
        return {
            "U": draw(generator, (rows, self.rank)),
            "V": draw(generator, (columns, self.rank)),
        }

    def _table_as(self, dtype: torch.dtype) -> torch.Tensor:
        if dtype not in self._tables:
            self._tables[dtype] = torch.as_tensor(
                self.table, dtype=dtype, device=self.device
            )
        return self._tables[dtype]

    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the summed squared error of each start, shape (S,)."""
        product = self.predict(parameters)
        return losses.squared(product, self._table_as(product.dtype)).sum((1, 2))

    def predict(self, parameters: Parameters) -> torch.Tensor:
        """Return U V^T of each start, shape (S, rows, columns)."""
        return torch.bmm(parameters["U"], parameters["V"].mT)
