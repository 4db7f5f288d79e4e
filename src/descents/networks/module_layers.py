"""The layers of a torch module: chains of linear layers, hooks and constants."""

from __future__ import annotations

import torch

from descents.networks.fused import Shape
from descents.networks.module_calls import KINDS

Layers = tuple[tuple[str, str], ...]
"""The names of the weight and the bias of each layer."""


def perceptron(
    module: torch.nn.Module, classifies: bool
) -> tuple[Shape, Layers] | None:
    """Return the shape of a multilayer perceptron that compiled code can compute.

    Returns
    -------
    (Shape, Layers) or None
        None unless the module is a chain of linear layers with one kind of activation
        between them, with biases, without hooks and without shared parameters.

    Examples
    --------
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
    ... )
    >>> shape, names = perceptron(module, classifies=False)
    >>> shape.widths, names
    ((2, 3, 1), (('0.weight', '0.bias'), ('2.weight', '2.bias')))
    """
    named = _chain("", module)
    if named is None or len(named) < 3 or len(named) % 2 == 0:
        return None
    linear = [(name, part) for name, part in named[::2] if _plain_linear(part)]
    between = [part for _, part in named[1::2]]
    kinds = {type(part) for part in between}
    if 2 * len(linear) != len(named) + 1 or len(kinds) != 1 or not kinds <= set(KINDS):
        return None
    if any(getattr(part, "approximate", "none") != "none" for part in between):
        return None
    parts = [value for _, part in linear for value in part.parameters()]
    if len({id(value) for value in parts}) < len(parts):  # shared by two layers
        return None
    if any(_hooked(part) for part in module.modules()):
        return None
    # The weight of torch's linear layers has shape (outputs, inputs).
    shapes = [tuple(part.get_parameter("weight").shape) for _, part in linear]
    widths = (shapes[0][1], *(outputs for outputs, _ in shapes))
    shape = Shape(widths, KINDS[kinds.pop()], False, classifies)
    names = tuple((f"{name}weight", f"{name}bias") for name, _ in linear)
    return (shape, names) if shape.applies else None


def _plain_linear(part: torch.nn.Module) -> bool:
    """Return whether a layer is linear, with a weight and a bias that are learned."""
    return (
        type(part) is torch.nn.Linear
        and part.bias is not None
        and part.weight.requires_grad
        and part.bias.requires_grad
        and not _hooked(part)
    )


def _chain(
    prefix: str, module: torch.nn.Module
) -> list[tuple[str, torch.nn.Module]] | None:
    """Return the layers of nested `torch.nn.Sequential` in order, else None."""
    if type(module) is not torch.nn.Sequential:
        return None
    layers: list[tuple[str, torch.nn.Module]] = []
    for name, part in module._modules.items():  # a layer may occur twice
        inner = _chain(f"{prefix}{name}.", part)
        layers += [(f"{prefix}{name}.", part)] if inner is None else inner
    return layers


def _hooked(part: torch.nn.Module) -> bool:
    """Return whether calling a layer does more than its own `forward`."""
    return bool(
        part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or part._backward_pre_hooks
        or "forward" in vars(part)
    )


def constants(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return buffers and parameters that are not learned."""
    frozen = {n: v for n, v in module.named_parameters() if not v.requires_grad}
    return {**frozen, **dict(module.named_buffers())}
