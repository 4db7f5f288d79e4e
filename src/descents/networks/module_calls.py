"""Call a torch module with the parameters of many starts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from descents.networks.activations import ACTIVATIONS
from descents.optim.autograd import lifted
from descents.optim.problem import Parameters

GENERATOR = threading.RLock()
"""Held while torch's global generator is seeded, because all threads share it."""
KINDS: dict[type, str] = {
    torch.nn.ReLU: "relu",
    torch.nn.Tanh: "tanh",
    torch.nn.Sigmoid: "logistic",
    torch.nn.GELU: "gelu",
}
"""The layers that are activation functions, and their names in `ACTIVATIONS`."""


Group = dict[str, Any]
"""The parameters of one layer."""


class Caller:
    """A module that is called with the parameters of many starts.

    Parameters
    ----------
    module : torch.nn.Module
    batched : bool
        Whether all starts are computed together, by vmap.

    Examples
    --------
    >>> caller = Caller(torch.nn.Linear(2, 1, bias=False), batched=True)
    >>> caller({"weight": torch.ones(3, 1, 2)}, torch.ones(3, 4, 2)).shape
    torch.Size([3, 4, 1])
    """

    def __init__(self, module: torch.nn.Module, batched: bool) -> None:
        self.module, self.batched = module, batched
        self._places = _places(module)
        self._lifted = lifted(self.of_one)

    def __reduce__(self) -> tuple[type[Caller], tuple[torch.nn.Module, bool]]:
        """Pickle the module alone; the rest is computed from it."""
        return Caller, (self.module, self.batched)

    def __call__(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the module in its present mode."""
        if self.batched:
            found: torch.Tensor = self._lifted(parameters, features)
            return found
        if len(features) == 1:
            one = {name: value.squeeze(0) for name, value in parameters.items()}
            return self.of_one(one, features[0])[None]
        return torch.stack(
            [
                self.of_one({n: v[k] for n, v in parameters.items()}, features[k])
                for k in range(len(features))
            ]
        )

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the module in evaluation mode."""
        self.module.eval()
        self.module.to(features.dtype)
        return self(parameters, features)

    def of_one(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Call the module with other parameters, as `torch.func.functional_call` does.

        The places of the parameters are looked up once, not in every call.
        """
        places = self._places
        own = [(group, name, group[name]) for _, group, name in places]
        try:
            for whole, group, name in places:
                if whole in parameters:
                    group[name] = parameters[whole]
            found: torch.Tensor = self.module(features)
        finally:
            for group, name, value in own:
                group[name] = value
        return found

    def units(
        self, parameters: Parameters, features: torch.Tensor, what: str
    ) -> torch.Tensor:
        """Return whether the units of the activations in `KINDS` are off, or flat.

        `what` is "off" or "flat"; the result has shape (S, rows, units).
        """
        known = [part for part in self.module.modules() if type(part) in KINDS]
        seen: list[torch.Tensor] = []

        def note(part: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            look = getattr(ACTIVATIONS[KINDS[type(part)]], what)
            seen.append(look(given[0]).flatten(1))

        def of_one(one: Parameters, rows: torch.Tensor) -> torch.Tensor:
            seen.clear()
            self.of_one(one, rows)
            return torch.cat(seen, 1) if seen else rows.new_zeros(len(rows), 0).bool()

        if not known:
            return features.new_zeros(*features.shape[:2], 0, dtype=torch.bool)
        self.module.eval()
        self.module.to(features.dtype)
        hooks = [part.register_forward_pre_hook(note) for part in known]
        try:
            if self.batched:
                found: torch.Tensor = torch.func.vmap(of_one)(parameters, features)
                return found
            return torch.stack(
                [
                    of_one({n: v[k] for n, v in parameters.items()}, features[k])
                    for k in range(len(features))
                ]
            )
        finally:
            for hook in hooks:
                hook.remove()


@contextlib.contextmanager
def seeded(generator: np.random.Generator) -> Iterator[None]:
    """Seed torch's global generator from a numpy generator, and restore it afterwards."""
    with GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(generator.integers(2**32)))
        yield


def _places(module: torch.nn.Module) -> list[tuple[str, Group, str]]:
    """Return the name of each parameter, and its place: a dict and a key.

    A parameter that several layers share has its first name in all places.
    """
    names = {id(value): name for name, value in module.named_parameters()}
    return [
        (names[id(value)], part._parameters, name)
        for part in module.modules()
        for name, value in part._parameters.items()
        if value is not None
    ]
