"""What a torch module consists of: linear layers in a chain, hooks and constants."""

from __future__ import annotations

import torch


def chain(
    prefix: str, module: torch.nn.Module
) -> list[tuple[str, torch.nn.Module]] | None:
    """Return the layers of nested `torch.nn.Sequential` in order, None of another kind."""
    if type(module) is not torch.nn.Sequential:
        return None
    found: list[tuple[str, torch.nn.Module]] = []
    for name, part in module._modules.items():  # one may stand there twice
        inner = chain(f"{prefix}{name}.", part)
        found += [(f"{prefix}{name}.", part)] if inner is None else inner
    return found


def hooked(part: torch.nn.Module) -> bool:
    """Return whether something else happens when a layer is called."""
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
