"""Gradients and vmap, without checks that take longer than a small loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import torch

Argument = torch.Tensor | dict[str, torch.Tensor]
"""What a function of one start takes: a tensor, or tensors by name."""


def gradients_of(
    losses: torch.Tensor, leaves: tuple[torch.Tensor, ...]
) -> Sequence[torch.Tensor]:
    """Return the gradient of the summed losses; zero for a leaf they do not depend on.

    It calls the engine as `torch.autograd.grad` does, but without the checks of that
    function, which take as long as the gradient of a small loss.
    """
    engine = getattr(torch.autograd.Variable, "_execution_engine", None)
    if engine is None:
        return torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
    gradients = engine.run_backward(
        (losses,),
        (torch.ones_like(losses),),
        False,  # the graph is used once
        False,  # no gradients of gradients
        leaves,
        True,  # the losses need not depend on every leaf
        accumulate_grad=False,
    )
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def lifted(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return a function of one start as a function of all starts of a chunk.

    It does what `torch.func.vmap` does, whose checks of the arguments take longer than a
    small loss. The first call goes through `vmap` with all its checks; later calls apply
    the same transform without them. A chunk of one start needs no transform.

    Parameters
    ----------
    function : callable
        Takes tensors, or dicts of tensors, of one start; returns a tensor.

    Examples
    --------
    >>> double = lifted(lambda parameters: 2 * parameters["x"].sum())
    >>> double({"x": torch.ones(3, 2)})
    tensor([4., 4., 4.])
    """
    whole = torch.func.vmap(function)
    seen: set[bool] = set()

    def of_all(*arguments: Argument) -> torch.Tensor:
        leading = arguments[0]
        first = next(iter(leading.values())) if isinstance(leading, dict) else leading
        count = first.shape[0]
        if not seen:
            with torch.no_grad():  # for its errors alone
                whole(*arguments)
            seen.add(True)
        if count == 1:
            value = function(*_changed(arguments, lambda tensor: tensor.squeeze(0)))
            return value[None] if isinstance(value, torch.Tensor) else value
        code = _FUNCTORCH
        if code is None:
            return whole(*arguments)
        level = code._vmap_increment_nesting(count, "error")
        try:
            inside = _changed(
                arguments, lambda value: code._add_batch_dim(value, 0, level)
            )
            return code._remove_batch_dim(function(*inside), level, count, 0)
        finally:
            code._vmap_decrement_nesting()

    return of_all


def _changed(
    arguments: Sequence[Argument], change: Callable[[torch.Tensor], torch.Tensor]
) -> list[Argument]:
    """Return the arguments with `change` applied to each tensor, also within dicts."""
    return [
        {name: change(value) for name, value in argument.items()}
        if isinstance(argument, dict)
        else change(argument)
        for argument in arguments
    ]


def _functorch() -> ModuleType | None:
    """Return the module behind `torch.func.vmap`, or None if this torch has another."""
    needed = (
        "_vmap_increment_nesting",
        "_vmap_decrement_nesting",
        "_add_batch_dim",
        "_remove_batch_dim",
    )
    module = getattr(torch._C, "_functorch", None)
    return module if all(hasattr(module, name) for name in needed) else None


_FUNCTORCH = _functorch()
