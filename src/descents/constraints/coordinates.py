"""Minimization over one coordinate of each row at a time, by torch or by compiled code."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from descents.constraints.quadratics import change
from descents.kernels.compiled import NUMBERS, address, of_precision

SOURCE = Path(__file__).parents[1] / "kernels" / "rounds.c"
MOST_COORDINATES = 64
"""The largest number of coordinates of a row for which compiled code is used."""
PASSES = 4
"""The number of rounds over the coordinates of a constrained quadratic at each step."""


def coordinate_rounds(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    penalties: list[torch.Tensor],
    damping: torch.Tensor,
    bound: int,
    nonnegative: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower x' G x - 2 x' r + sum_q l2_q x_q^2 + l1_q |x_q| of each row, by some rounds.

    Parameters
    ----------
    gram : Tensor of shape (S, rows, q, q) or (S, 1, q, q)
    right, point : Tensor of shape (S, rows, q)
    penalties : list of two Tensors
        l2 and l1, of shape (rows, q) or (S, rows, q).
    damping : Tensor of shape (S, rows) or (S, 1)
    bound : int
        The number of leading coordinates with a constraint and l1.
    nonnegative : bool

    Returns
    -------
    solution : Tensor of shape (S, rows, q)
    change : float64 Tensor of shape (S,)
        The change of x' G x - 2 x' r over all rows.
    """
    arguments = (gram, right, point, penalties, damping, bound, nonnegative)
    compiled = compiled_rounds(*arguments)
    if compiled is not None:
        return compiled
    solution = _rounds(*arguments)
    return solution, change(gram, right, point, solution)


def _rounds(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    penalties: list[torch.Tensor],
    damping: torch.Tensor,
    bound: int,
    nonnegative: bool,
) -> torch.Tensor:
    """Minimize over one coordinate at a time, for all rows together.

    With the slope s_c = (G x)_c - r_c, coordinate c goes to prox((G_cc + d) x_c -
    s_c) / (G_cc + l2_c + d), where d is the damping and the prox that of l1_c / 2.
    """
    l2, l1 = penalties
    # Coordinates first, so that each coordinate of all rows is contiguous.
    moved = point.mT.clone(memory_format=torch.contiguous_format)
    target = right.mT.contiguous()
    for _ in range(PASSES):
        for c in range(right.shape[-1]):
            row = gram[..., c, :]
            if gram.shape[1] == 1:
                inner = torch.bmm(row, moved)[:, 0]  # (G x)_c
            else:
                inner = (row.mT * moved).sum(1)
            x, own = moved[:, c], gram[..., c, c]
            free = target[:, c] - inner + (own + damping) * x
            half = l1[..., c] / 2
            if c >= bound:  # the bias
                pass
            elif nonnegative:
                free = (free - half).clamp_min(0)
            else:
                free = free.sign() * (free.abs() - half).clamp_min(0)
            moved[:, c] = free / (own + l2[..., c] + damping)
    return moved.mT.contiguous()


def compiled_rounds(
    gram: torch.Tensor,
    right: torch.Tensor,
    point: torch.Tensor,
    penalties: list[torch.Tensor],
    damping: torch.Tensor,
    bound: int,
    nonnegative: bool,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Take the rounds of `_rounds` by compiled code; None if it is not available."""
    starts, rows, q = right.shape
    if right.device.type != "cpu" or q > MOST_COORDINATES:
        return None
    code = of_precision(SOURCE, right.dtype)
    if code is None:
        return None
    counts = [ctypes.c_int64(n) for n in (rows, q, PASSES, bound, nonnegative)]
    gram = gram.contiguous()
    changes = []
    if gram.shape[1] > 1 or rows == 1:  # each row has its own G
        code.rounds_apart.restype = ctypes.c_double
        solution = point.clone(memory_format=torch.contiguous_format)
        penalties_in_one_piece = [penalty.contiguous() for penalty in penalties]
        arrays = [damping.contiguous(), gram, right.contiguous()]
        for k in range(starts):
            own = [_of_start(penalty, k) for penalty in penalties_in_one_piece]
            arguments = (*(tensor[k] for tensor in arrays), *own, solution[k])
            changes.append(code.rounds_apart(*counts, *map(address, arguments)))
    else:
        code.rounds_shared.restype = ctypes.c_double
        solution = torch.empty_like(point, memory_format=torch.contiguous_format)
        for k, scale in enumerate(damping[:, 0].tolist()):
            places: list[object] = [NUMBERS[right.dtype](scale), address(gram[k])]
            own = [_of_start(penalty, k) for penalty in penalties]
            for tensor in (right[k], *own, point[k]):
                places += [address(tensor), *map(ctypes.c_int64, tensor.stride())]
            changes.append(code.rounds_shared(*counts, *places, address(solution[k])))
    return solution, torch.tensor(changes, dtype=torch.float64)


def _of_start(penalty: torch.Tensor, start: int) -> torch.Tensor:
    """Return the penalties of one start; all starts may share them."""
    return penalty[start] if penalty.ndim == 3 else penalty
