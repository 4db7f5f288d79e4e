"""Any torch module from many initial points, vectorized by vmap."""

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
from descents.networks.module_calls import Caller, seeded
from descents.networks.module_layers import constants, perceptron
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
"""Layers that use other rows in training, and remember statistics of them."""


class Modules(Supervised):
    """A torch module of the user with cross-entropy or squared error.

    The module is made once for each start, with the seed of that start. The parameters
    are stacked, and all starts are computed at once by `torch.func.vmap`.

    Parameters
    ----------
    make_module : callable
        ``make_module()`` returns a `torch.nn.Module` whose parameters are drawn from
        torch's global generator, which is seeded for each start and then restored. The
        module takes rows of features, shape (rows, features), and returns logits or
        predicted numbers, shape (rows, outputs).
    X, y, **options
        See `descents.Network`.
    batched : bool
        False calls the module for one start after the other. This is slower, and for
        modules with layers that vmap does not support. In training, each call has a seed
        that depends on (start, step).

    Raises
    ------
    InvalidValueError
        If a batched module has layers that are random or use other rows in training, or
        constants that differ between starts; if it does not accept the rows, or its
        output has another shape.

    Notes
    -----
    Final and recorded losses are not random: if steps use mini-batches or random layers,
    they are those of the module in evaluation mode. Weight decay applies to all parameters
    that are not named ``bias``.

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
        X: object,
        y: object,
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
        self.perceptron = perceptron(module, self.classifies) if batched else None

    @property
    def _module(self) -> torch.nn.Module:
        return self._caller.module

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this problem bound to the starts of a chunk, with its own module.

        Chunks may run in parallel. A module that is not batched may remember rows, so it
        begins in the state of the first start.
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

    @property
    def shape(self) -> Shape | None:
        """The shape of a multilayer perceptron that compiled code computes, or None."""
        if type(self) is not Modules or self.perceptron is None:
            return None
        return self.perceptron[0] if self.device.type == "cpu" else None

    @property
    def stochastic(self) -> bool:
        """Whether a step uses only some of the rows, or random layers."""
        return super().stochastic or self.random

    @property
    def whole(self) -> Problem:
        """The problem with all rows at every step, without random layers."""
        whole = super().whole
        if isinstance(whole, Modules) and whole is not self:
            whole.random = whole.in_training = False
        return whole

    def decays(self, name: str) -> bool:
        """Return whether a parameter is a weight, not a bias."""
        return name.rsplit(".", 1)[-1] != "bias"

    def _made(self, generator: np.random.Generator) -> torch.nn.Module:
        """Make a module, with torch's generator seeded from that of a start."""
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
                f"the module has {', '.join(sorted(names))} layers, which in "
                "training are random or use other rows, so that a start would depend on "
                "the others in its batch; leave them out, or give batched=False"
            )
        if not any(value.requires_grad for value in module.parameters()):
            raise InvalidValueError(
                "the module has no parameter that requires a gradient; give it one"
            )

    def _probe(self) -> list[int]:
        """Check the outputs of the module, and return the widths of its layers' outputs."""
        widths: list[int] = []

        def note(part: torch.nn.Module, given: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.ndim > 1:
                widths.append(int(np.prod(output.shape[1:])))

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
        """Check that the module can be trained, and whether it is random or remembers rows."""
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
        """Raise if values that are not learned differ between starts in a batch."""
        own = constants(self._module)
        for name, value in constants(module).items():
            if not torch.equal(value.to(own[name]), own[name]):
                raise InvalidValueError(
                    f"{name} of the module is not learned, but differs in start "
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
        """The same starts and module with all rows, without random layers."""
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
        # The weight of torch's linear layers has shape (outputs, inputs).
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
                f"{counted(len(features), 'start')} share a module that remembers rows; "
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
        """Return the buffers of the module, such as running means, stacked over the starts."""
        if self.problem.batched:
            return {}
        return {
            name: value.detach().clone().expand(len(self.starts), *value.shape)
            for name, value in self.caller.module.named_buffers()
        }

    def load_buffers(self, buffers: Parameters) -> None:
        """Set the buffers of the module."""
        for name, value in self.caller.module.named_buffers():
            if name in buffers:
                value.copy_(buffers[name][0])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
