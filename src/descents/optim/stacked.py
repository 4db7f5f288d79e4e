"""Parameters of many starts: as one matrix, selected per start, or computed on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch

from descents.optim.problem import Parameters


class LazyParameters(Mapping[str, torch.Tensor]):
    """Parameters that are computed when they are first used.

    Parameters
    ----------
    make : callable
        Takes nothing and returns the parameters.

    Examples
    --------
    >>> lazy = LazyParameters(lambda: {"U": torch.zeros(2)})
    >>> list(lazy), len(lazy["U"])
    (['U'], 2)
    """

    def __init__(self, make: Callable[[], Parameters]) -> None:
        self._make: Callable[[], Parameters] | None = make
        self._made: Parameters = {}

    @classmethod
    def both(
        cls, one: LazyParameters, other: LazyParameters, names: Iterable[str]
    ) -> LazyParameters:
        """Return the parameters of both, in the order of `names`."""
        order = tuple(names)

        def made() -> Parameters:
            whole = {**one.now()._made, **other.now()._made}
            return {name: whole[name] for name in order}

        return cls(made)

    def now(self) -> LazyParameters:
        """Compute the parameters, release the inputs of the computation, return self."""
        if self._make is not None:
            with torch.no_grad():
                self._made, self._make = self._make(), None
        return self

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.now()._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.now()._made)

    def __len__(self) -> int:
        return len(self.now()._made)


def flat(parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the parameters as one matrix of shape (S, P), in the order of the dict.

    Examples
    --------
    >>> flat({"a": torch.zeros(2), "b": torch.ones(2, 1, 2)})
    tensor([[0., 1., 1.],
            [0., 1., 1.]])
    """
    return torch.cat(
        [value.reshape(len(value), -1) for value in parameters.values()], 1
    )


def shaped(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return one value for each start, shaped to multiply a parameter."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def chosen(mask: torch.Tensor, moved: Parameters, rest: Parameters) -> Parameters:
    """Return the moved parameters where the mask is true, else the old ones.

    Examples
    --------
    >>> mask = torch.tensor([True, False])
    >>> chosen(mask, {"x": torch.ones(2, 1)}, {"x": torch.zeros(2, 1)})["x"].T
    tensor([[1., 0.]])
    """
    return {
        name: torch.where(shaped(mask, value), value, rest[name])
        for name, value in moved.items()
    }


def unflat(values: torch.Tensor, like: Parameters) -> Parameters:
    """Return flat values as parameters again: the inverse of `flat`."""
    sizes = [value[0].numel() for value in like.values()]
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(
            like.items(), values.split_with_sizes(sizes, 1), strict=True
        )
    }


def kept_where(active: np.ndarray, moved: Parameters, rest: Parameters) -> Parameters:
    """Return the moved parameters of active starts, and the old ones of the others."""
    if active.all() or not moved:
        return moved
    first = next(iter(moved.values()))
    return chosen(torch.as_tensor(active, device=first.device), moved, rest)
