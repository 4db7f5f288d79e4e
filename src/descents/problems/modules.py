"""Any torch module from many initial points, stacked and lifted by vmap."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from descents.checks import InvalidValueError
from descents.problems.network import ACTIVATIONS
from descents.problems.problem import Parameters, stream
from descents.problems.supervised import Supervised

RANDOM = (
    torch.nn.modules.dropout._DropoutNd,
    torch.nn.RReLU,
    torch.nn.FractionalMaxPool2d,
    torch.nn.FractionalMaxPool3d,
)
"""Layers that draw random numbers while training."""
BATCH = torch.nn.modules.batchnorm._BatchNorm
"""Layers that look at other rows while training, and remember them."""
KINDS: dict[type, str] = {
    torch.nn.ReLU: "relu",
    torch.nn.Tanh: "tanh",
    torch.nn.Sigmoid: "logistic",
    torch.nn.GELU: "gelu",
}


class Modules(Supervised):
    """Cross-entropy, or squared error, of a torch module of the user's.

    The module is made once for each start, under the seed of that start; parameters are
    stacked, and the module is called by `torch.func.functional_call` under
    `torch.func.vmap`, all starts at once.

    Parameters
    ----------
    make_module : callable
        ``make_module()`` returns a `torch.nn.Module` with its parameters drawn, as
        torch does, from torch's global generator, which is seeded for each start and
        then put back. The module takes rows of features, shape (rows, features), and
        returns logits, or numbers to foretell, shape (rows, outputs).
    X, y, **options
        As `descents.problems.supervised.Supervised` takes them.
    batched : bool
        False calls the module start by start: slower, for modules with layers that
        vmap cannot take; each call while training is under a seed of (start, step).

    Raises
    ------
    InvalidValueError
        When a batched module has layers that are random or look at other rows while
        training, which would not be each start's own; when what it returns has another
        shape.

    Examples
    --------
    >>> from descents import Adam, Stop, descend
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> make = lambda: torch.nn.Sequential(
    ...     torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
    ... )
    >>> runs = descend(Modules(make, X, y), 3, steps=Adam(0.05), stop=Stop(200))
    >>> runs.metrics["training_accuracy"]
    array([1., 1., 1.])
    """

    def __init__(
        self,
        make_module: Callable[[], torch.nn.Module],
        X: Any,
        y: Any,
        *,
        batched: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(X, y, seed=seed, **options)
        self._make, self.batched, self.seed = make_module, batched, seed
        module = self._made(stream(seed, "start", 0))
        self._check(module)
        self._module = module.to(self.device, self.dtype)
        shapes = self._probe()
        self._has_layers_of(max([self.X.shape[1], self.outputs, *shapes]))
        self._random = any(isinstance(part, RANDOM) for part in module.modules())

    @property
    def width(self) -> int:
        """How many starts are computed together: one, where not batched."""
        return super().width if self.batched else 1

    def points(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
        """Return the initial points, stacked; a module that remembers begins anew."""
        if not self.batched:
            self._module = copy.deepcopy(self._module)
            fresh = self._made(stream(seed, "start", int(starts[0])))
            self._module.load_state_dict(fresh.state_dict())
        return super().points(starts, seed)

    def remembered(self, starts: torch.Tensor) -> Parameters:
        """Return the buffers of the module, such as running means, of each start."""
        return {
            name: value.detach().clone().expand(len(starts), *value.shape)
            for name, value in self._module.named_buffers()
            if not self.batched
        }

    @property
    def stochastic(self) -> bool:
        """Whether a step looks at some of the rows, or calls random layers."""
        return super().stochastic or self._random

    def _made(self, generator: np.random.Generator) -> torch.nn.Module:
        """Make a module with torch's generator seeded from that of a start."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(generator.integers(2**32)))
            module = self._make()
        if not isinstance(module, torch.nn.Module):
            raise InvalidValueError(
                f"make_module returned {type(module).__name__}; return a torch.nn.Module"
            )
        return module

    def _check(self, module: torch.nn.Module) -> None:
        names = {
            type(part).__name__
            for part in module.modules()
            if isinstance(part, BATCH)
            or (isinstance(part, RANDOM) and getattr(part, "p", 1) > 0)
        }
        if self.batched and names:
            raise InvalidValueError(
                f"the module has {', '.join(sorted(names))} layers, which while "
                "training are random or look at other rows, so that a start would "
                "depend on its company; leave them out, or give batched=False"
            )
        if not any(value.requires_grad for value in module.parameters()):
            raise InvalidValueError(
                "the module has no parameter that requires a gradient; give it one"
            )

    def _probe(self) -> list[int]:
        """Return the widths of the parts' outputs; check that of the whole."""
        widths: list[int] = []

        def note(part: Any, given: Any, found: Any) -> None:
            if isinstance(found, torch.Tensor) and found.ndim > 1:
                widths.append(int(np.prod(found.shape[1:])))

        hooks = [part.register_forward_hook(note) for part in self._module.modules()]
        rows = torch.tensor(self.X[:2], dtype=self.dtype, device=self.device)
        self._module.eval()
        try:
            with torch.no_grad():
                found = self._module(rows)
        finally:
            for hook in hooks:
                hook.remove()
        expected = (len(rows), self.outputs)
        if not isinstance(found, torch.Tensor) or found.shape != expected:
            got = getattr(found, "shape", type(found).__name__)
            got = tuple(got) if isinstance(got, torch.Size) else got
            raise InvalidValueError(
                f"the module returned {got} for {len(rows)} rows; return a tensor of "
                f"shape {expected}, (rows, outputs)"
            )
        return widths

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Make the module of one start, and return its parameters."""
        named = self._made(generator).named_parameters()
        return {
            name: value.detach().double().cpu().numpy()
            for name, value in named
            if value.requires_grad
        }

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return logits or numbers, shape (S, rows, outputs), of features (S, rows, d)."""
        self._module.eval()
        self._module.to(features.dtype)
        return self._called(parameters, features)

    def _called(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        if self.batched:
            found: torch.Tensor = torch.func.vmap(self._of_one)(parameters, features)
            return found
        return torch.stack(
            [
                self._of_one({n: v[k] for n, v in parameters.items()}, features[k])
                for k in range(len(features))
            ]
        )

    def _of_one(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(
            self._module, parameters, (features,)
        )
        return found

    def _predict_in_training(
        self,
        parameters: Parameters,
        features: torch.Tensor,
        starts: torch.Tensor,
        step: int,
    ) -> torch.Tensor:
        self._module.to(features.dtype)
        if self.batched or not self.stochastic:
            self._module.train()
            return self._called(parameters, features)
        self._module.train()
        found = []
        for place, number in enumerate(starts.tolist()):
            generator = stream(self.seed, "dropout", number, step)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(generator.integers(2**32)))
                one = {name: value[place] for name, value in parameters.items()}
                found.append(self._of_one(one, features[place]))
        return torch.stack(found)

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units give nothing on some rows, (S, rows, units)."""
        return self._units(parameters, features, "off")

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on some rows, (S, rows, units)."""
        return self._units(parameters, features, "flat")

    def _units(
        self, parameters: Parameters, features: torch.Tensor, what: str
    ) -> torch.Tensor:
        """Look at what goes into the activations that are known."""
        known = [part for part in self._module.modules() if type(part) in KINDS]
        seen: list[torch.Tensor] = []

        def note(part: Any, given: Any) -> None:
            look = getattr(ACTIVATIONS[KINDS[type(part)]], what)
            seen.append(look(given[0]).flatten(1))

        def of_one(one: Parameters, rows: torch.Tensor) -> torch.Tensor:
            seen.clear()
            self._of_one(one, rows)
            return torch.cat(seen, 1) if seen else rows.new_zeros(len(rows), 0).bool()

        if not known:
            return super().off(parameters, features)
        self._module.eval()
        self._module.to(features.dtype)
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
