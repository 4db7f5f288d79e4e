"""Any torch module from many initial points, stacked and lifted by vmap."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from descents.errors import InvalidValueError
from descents.networks import fused
from descents.networks.bound_supervised import BoundSupervised
from descents.networks.fused import Shape
from descents.networks.module_calls import KINDS, Caller, seeded
from descents.networks.module_layers import chain, constants, hooked
from descents.networks.supervised import Supervised
from descents.optim.problem import Bound, Parameters, Problem
from descents.rng import stream
from descents.text import counted

RANDOM = (
    torch.nn.modules.dropout._DropoutNd,
    torch.nn.RReLU,
    torch.nn.FractionalMaxPool2d,
    torch.nn.FractionalMaxPool3d,
)
"""Layers that draw random numbers while training."""
BATCH = torch.nn.modules.batchnorm._BatchNorm
"""Layers that look at other rows while training, and remember them."""


Layers = tuple[tuple[str, str], ...]
"""The names of the weight and the bias of each layer."""


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
        As `descents.networks.supervised.Supervised` takes them.
    batched : bool
        False calls the module start by start: slower, for modules with layers that
        vmap cannot take; each call while training is under a seed of (start, step).

    Raises
    ------
    InvalidValueError
        When a batched module has layers that are random or look at other rows while
        training, or constants, which would not be each start's own; when it cannot take
        the rows, or what it returns has another shape.

    Notes
    -----
    Final and recorded losses are without randomness: where steps look at some of the
    rows or call random layers, they are those of the module in evaluation mode. Weight
    decay acts on what is not named ``bias``.

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
        if not callable(make_module) or isinstance(make_module, torch.nn.Module):
            raise InvalidValueError(
                f"make_module is a {type(make_module).__name__}; give a function without "
                "arguments that makes the module, each time with new parameters"
            )
        super().__init__(X, y, seed=seed, **options)
        self._make, self.batched, self.seed = make_module, batched, seed
        module = self._made(stream(seed, "start", 0))
        self._check(module)
        self._caller = Caller(module.to(self.device, self.dtype), batched)
        self.in_training = True
        self.random = self.remembers = False
        shapes = self._probe()
        self._probe_training()
        self._has_layers_of(max([self.X.shape[1], self.outputs, *shapes]))
        self.rows_apart = batched
        self.perceptron = self._as_perceptron()

    @property
    def _module(self) -> torch.nn.Module:
        return self._caller.module

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this problem bound to the starts of a chunk, with a module of its own.

        Chunks may run in parallel, and a module that is called start by start may
        remember what it saw: it begins as the first of the starts does.
        """
        if self.batched:
            module = copy.deepcopy(self._module)
        else:
            module = self._made(stream(seed, "start", int(starts[0])))
            module = module.to(self.device, self.dtype)
        return BoundModules(self, starts, Caller(module, self.batched))

    def view(self, starts: torch.Tensor) -> BoundSupervised:
        """Return this problem bound to starts for one evaluation, with its module."""
        return BoundModules(self, starts, self._caller)

    @property
    def width(self) -> int:
        """The maximum number of starts in a chunk: 1, where they are not batched."""
        return super().width if self.batched else 1

    # Multilayer perceptrons, which are faster by compiled code

    def _as_perceptron(self) -> tuple[Shape, Layers] | None:
        """Return the shape of a chain of linear layers with one kind of activation.

        None for every other module, and for those that are called start by start.
        """
        named = chain("", self._module) if self.batched else None
        if named is None or len(named) < 3 or len(named) % 2 == 0:
            return None
        linear, between = named[::2], named[1::2]
        kinds = {type(part) for _, part in between}
        whole = all(
            type(part) is torch.nn.Linear
            and part.bias is not None
            and part.weight.requires_grad
            and part.bias.requires_grad
            and not hooked(part)
            for _, part in linear
        )
        if not whole or len(kinds) != 1 or not kinds <= set(KINDS):
            return None
        if any(getattr(part, "approximate", "none") != "none" for _, part in between):
            return None
        parts = [value for _, part in linear for value in part.parameters()]
        if len({id(value) for value in parts}) < len(parts):  # shared by two layers
            return None
        if any(hooked(part) for part in self._module.modules()):
            return None
        layers: list[Any] = [part for _, part in linear]
        widths = (layers[0].in_features, *(part.out_features for part in layers))
        shape = Shape(widths, KINDS[kinds.pop()], False, self.classifies)
        names = tuple((f"{name}weight", f"{name}bias") for name, _ in linear)
        return (shape, names) if shape.applies else None

    @property
    def shape(self) -> Shape | None:
        """The shape of a multilayer perceptron that compiled code is for."""
        if type(self) is not Modules or self.perceptron is None:
            return None
        return self.perceptron[0] if self.device.type == "cpu" else None

    @property
    def stochastic(self) -> bool:
        """Whether a step looks at some of the rows, or calls random layers."""
        return super().stochastic or self.random

    @property
    def whole(self) -> Problem:
        """The problem with every row at every step, and no layer random."""
        whole = super().whole
        if isinstance(whole, Modules) and whole is not self:
            whole.random = whole.in_training = False
        return whole

    def decays(self, name: str) -> bool:
        """Return whether a parameter is a weight, not a bias."""
        return name.rsplit(".", 1)[-1] != "bias"

    def _made(self, generator: np.random.Generator) -> torch.nn.Module:
        """Make a module with torch's generator seeded from that of a start."""
        with seeded(generator):
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
        except Exception as error:
            raise InvalidValueError(
                f"the module cannot take rows of shape {tuple(rows.shape)} "
                f"({_first_line(error)}); give one that takes (rows, features)"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        expected = (len(rows), self.outputs)
        if not isinstance(found, torch.Tensor) or found.shape != expected:
            got = getattr(found, "shape", type(found).__name__)
            got = tuple(got) if isinstance(got, torch.Size) else got
            raise InvalidValueError(
                f"the module returned {got} for {counted(len(rows), 'row')}; return a tensor of "
                f"shape {expected}, (rows, outputs)"
            )
        return widths

    def _probe_training(self) -> None:
        """See whether the module can be trained as it is asked to be."""
        fewest = min(2, self.batches.fewest)
        rows = torch.tensor(self.X[:fewest], dtype=self.dtype, device=self.device)
        trained = Caller(copy.deepcopy(self._module).train(), self.batched)
        buffers = {n: v.clone() for n, v in trained.module.named_buffers()}
        try:
            with seeded(np.random.default_rng(0)), torch.no_grad():
                before = torch.get_rng_state()
                trained(
                    {
                        name: torch.stack([value, value])
                        for name, value in trained.module.named_parameters()
                        if value.requires_grad
                    },
                    torch.stack([rows, rows]),
                )
                self.random = not torch.equal(before, torch.get_rng_state())
        except Exception as error:
            raise InvalidValueError(
                f"the module cannot be trained on rows of shape {tuple(rows.shape)}"
                f"{', many starts at once' if self.batched else ''} "
                f"({_first_line(error)}); give another module"
                f"{', or batched=False' if self.batched else ''}"
            ) from error
        self.remembers = any(
            not torch.equal(value, buffers[name])
            for name, value in trained.module.named_buffers()
        )

    def _check_constants(self, module: torch.nn.Module, start: int) -> None:
        """Refuse what is not learned but differs between starts that are batched."""
        own = constants(self._module)
        for name, value in constants(module).items():
            if not torch.equal(value.to(own[name]), own[name]):
                raise InvalidValueError(
                    f"{name} of the module is not learned, but is another in start "
                    f"{start}; make it the same each time, or give batched=False"
                )

    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, np.ndarray]:
        """Make the module of one start, and return its parameters."""
        module = self._made(generator)
        if self.batched:
            self._check_constants(module, start)
        return {
            name: value.detach().double().cpu().numpy()
            for name, value in module.named_parameters()
            if value.requires_grad
        }

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return logits or numbers, shape (S, rows, outputs), of features (S, rows, d)."""
        return self._caller.predict(parameters, features)

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on each row, bool (S, rows, units)."""
        return self._caller.units(parameters, features, "off")

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on each row, bool (S, rows, units)."""
        return self._caller.units(parameters, features, "flat")


class BoundModules(BoundSupervised):
    """Starts of a torch module, with the module that is called for them."""

    problem: Modules

    def __init__(self, problem: Modules, starts: torch.Tensor, caller: Caller) -> None:
        super().__init__(problem, starts)
        self.caller = caller

    @property
    def whole(self) -> Bound:
        """The same starts and module with every row, and no layer random."""
        if not self.stochastic:
            return self
        whole = self.problem.whole
        assert isinstance(whole, Modules)  # noqa: S101
        return BoundModules(whole, self.starts, self.caller)

    def part(self, places: torch.Tensor | slice) -> Bound:
        """Return some of the starts, with the same module."""
        return BoundModules(self.problem, self.starts[places], self.caller)

    def compiled(
        self, parameters: Parameters, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients by compiled code, None where it is not for this."""
        if self.shape is None:
            return None
        assert self.problem.perceptron is not None  # noqa: S101
        names = self.problem.perceptron[1]
        dtype = parameters[names[0][0]].dtype
        if fused.compiled(dtype) is None:
            return None
        # A linear layer of torch keeps its weights as (outputs, inputs).
        given: Parameters = {}
        for layer, (weight, bias) in enumerate(names, 1):
            given[f"weight{layer}"] = parameters[weight].mT
            given[f"bias{layer}"] = parameters[bias].unsqueeze(1)
        rows = self.compiled_rows(step, dtype)
        found = fused.losses_and_gradients(self.shape, rows, given)
        if found is None:
            return None
        slopes: Parameters = {}
        for layer, (weight, bias) in enumerate(names, 1):
            slopes[weight] = found[1][f"weight{layer}"].mT
            slopes[bias] = found[1][f"bias{layer}"].squeeze(1)
        return found[0], {name: slopes[name] for name in parameters}

    def predict(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the module in evaluation mode."""
        return self.caller.predict(parameters, features)

    def predict_in_training(
        self, parameters: Parameters, features: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the outputs of the module in training mode."""
        problem, caller = self.problem, self.caller
        if not problem.in_training:
            return self.predict(parameters, features)
        if problem.remembers and len(features) > 1:
            raise InvalidValueError(
                f"{counted(len(features), 'start')} share a module that remembers what it saw; "
                "leave the width at 1"
            )
        caller.module.to(features.dtype)
        caller.module.train()
        if not problem.random:
            return caller(parameters, features)
        found = []
        for place, number in enumerate(self.starts.tolist()):
            with seeded(stream(problem.seed, "dropout", number, step)):
                one = {name: value[place] for name, value in parameters.items()}
                found.append(caller.of_one(one, features[place]))
        return torch.stack(found)

    def off(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are off on each row, bool (S, rows, units)."""
        return self.caller.units(parameters, features, "off")

    def flat(self, parameters: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return which hidden units are saturated on each row, bool (S, rows, units)."""
        return self.caller.units(parameters, features, "flat")

    def buffers(self) -> Parameters:
        """Return the buffers of the module, such as running means, of each start."""
        if self.problem.batched:
            return {}
        return {
            name: value.detach().clone().expand(len(self.starts), *value.shape)
            for name, value in self.caller.module.named_buffers()
        }

    def load_buffers(self, buffers: Parameters) -> None:
        """Put the buffers back into the module."""
        for name, value in self.caller.module.named_buffers():
            if name in buffers:
                value.copy_(buffers[name][0])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
