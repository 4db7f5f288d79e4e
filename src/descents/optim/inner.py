"""Inner products of parameters, of which each process may have some rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch

from descents.optim.collective import ALONE, Collective


@runtime_checkable
class Divided(Protocol):
    """A problem that several processes may share.

    Attributes
    ----------
    together : Collective
        The processes.
    divided : tuple of str
        The parameters of which each process has some rows. The others are replicated.
    """

    together: Collective
    divided: tuple[str, ...]

    def own_losses(self, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return losses that sum up to those of the problem over all processes.

        Autograd can differentiate them.
        """


class Inner:
    """Inner products over all parameters of a start, those of all processes.

    Parameters
    ----------
    together : Collective
    divided : tuple of str
        The parameters of which each process has some rows. The others are replicated,
        and the first process counts them.

    Examples
    --------
    >>> from descents.optim.collective import ALONE
    >>> x = {"x": torch.tensor([[3.0, 4.0]])}
    >>> Inner(ALONE, ()).norm(x["x"], x)
    tensor([5.])
    """

    def __init__(self, together: Collective, divided: tuple[str, ...]) -> None:
        self.together, self.divided = together, divided

    @classmethod
    def of(cls, problem: object) -> Inner:
        """Return the inner products of the parameters of a problem."""
        if isinstance(problem, Divided):
            return cls(problem.together, problem.divided)
        return cls(ALONE, ())

    def counted(
        self, values: torch.Tensor, like: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return values of shape (..., P), with 0 for those that another process counts."""
        if self.together.rank == 0:
            return values
        each = [
            values.new_full((value[0].numel(),), float(name in self.divided))
            for name, value in like.items()
        ]
        return values * torch.cat(each)

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        return self.together.sum(part)

    def totals(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the sums of several tensors over all processes, from one message."""
        if self.together.size == 1:
            return parts
        named = {str(place): part for place, part in enumerate(parts)}
        return tuple(self.together.sums(named).values())

    def dot(
        self, x: torch.Tensor, y: torch.Tensor, like: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the inner product of each start, shape (S,).

        Parameters
        ----------
        x, y : Tensor of shape (S, P)
            In the order of `flat`.
        like : mapping of Tensor
            The parameters that they belong to.
        """
        return self.total((self.counted(x, like) * y).sum(1))

    def norm(self, x: torch.Tensor, like: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the norm of each start, shape (S,)."""
        if self.together.size == 1:
            return torch.linalg.vector_norm(x, dim=1)
        return self.dot(x, x, like).sqrt()

    def norms_and_product(
        self, x: torch.Tensor, y: torch.Tensor, like: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the norms of x and of y and their product, each of shape (S,)."""
        if self.together.size == 1:
            norm = torch.linalg.vector_norm
            return norm(x, dim=1), norm(y, dim=1), (x * y).sum(1)
        own, other = self.counted(x, like), self.counted(y, like)
        squares = (own * x).sum(1), (other * y).sum(1), (own * y).sum(1)
        first, second, product = self.totals(*squares)
        return first.sqrt(), second.sqrt(), product

    def every(self, mask: torch.Tensor) -> torch.Tensor:
        """Return whether something holds for a start in all processes, shape (S,)."""
        if self.together.size == 1:
            return mask
        return self.total((~mask).double()) == 0
