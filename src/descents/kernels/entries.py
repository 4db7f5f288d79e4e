"""Sums over the stored entries of a sparse table, by compiled code.

These are the same sums as those of `descents.cells.sparse_products` by torch operations, but faster: the Gram
matrix of each row is summed in one pass over its entries, without intermediate products.
Tests compare the two.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from descents.kernels.compiled import NUMBERS, address, of_precision

SOURCE = Path(__file__).with_name("entries.c")
MOST_COLUMNS = 64
"""The largest number of columns of a factor for which compiled code is used."""
WORTH_A_THREAD = 2**20
"""The smallest number of products that is worth another thread."""


def normal_equations(
    ends: torch.Tensor,
    others: torch.Tensor,
    weights: torch.Tensor | None,
    targets: torch.Tensor,
    factor: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return sum w v v' and sum w t v over the entries of each row, for every start.

    Here w, t and v are the weight, the target and the row of the factor of an entry.

    Parameters
    ----------
    ends : int64 Tensor of shape (rows + 1,)
        The entries of row i are those from ends[i] to ends[i + 1] - 1.
    others : int64 Tensor of shape (entries,)
        The row of the factor that belongs to each entry.
    weights : Tensor of shape (entries,) or (S, entries), or None for ones
    targets : Tensor of shape (entries,) or (S, entries)
    factor : Tensor of shape (S, n, q)

    Returns
    -------
    gram : Tensor of shape (S, rows, q, q)
    wanted : Tensor of shape (S, rows, q)
        None is returned instead of both if there is no compiled code for them.

    Examples
    --------
    >>> ends, others = torch.tensor([0, 2, 2]), torch.tensor([0, 1])
    >>> sums = normal_equations(ends, others, None, torch.ones(2), torch.ones(1, 2, 1))
    >>> sums is None or sums[0].flatten().tolist()
    [2.0, 0.0]
    """
    starts, _, q = factor.shape
    code = _code(factor, q)
    if code is None:
        return None
    rows = len(ends) - 1
    gram = factor.new_empty(starts, rows, q, q)
    wanted = factor.new_empty(starts, rows, q)
    filled = _filled(code, factor)
    if weights is not None:
        weights = weights.expand(starts, -1).contiguous()
    targets = targets.expand(starts, -1).contiguous() if targets.ndim > 1 else targets

    def part(k: int, first: int, last: int) -> None:
        code.normal_equations(
            *_numbers(first, last),
            *_places(ends, others, None if weights is None else weights[k]),
            *_places(targets[k] if targets.ndim > 1 else targets, filled[k]),
            *_numbers(q),
            *_places(gram[k], wanted[k]),
        )

    _shared_out(part, starts, ends.numpy(), q * (q + 3) // 2)
    return gram, wanted


def products(
    rows: torch.Tensor, columns: torch.Tensor, left: torch.Tensor, right: torch.Tensor
) -> torch.Tensor | None:
    """Return the inner products of two factors at the given entries, for every start.

    Parameters
    ----------
    rows, columns : int64 Tensor of shape (entries,)
    left : Tensor of shape (S, m, q)
    right : Tensor of shape (S, n, q)

    Returns
    -------
    Tensor of shape (S, entries), or None if there is no compiled code for it

    Examples
    --------
    >>> at, ones = torch.tensor([0, 0]), torch.ones(1, 1, 3)
    >>> result = products(at, at, ones, ones)
    >>> result is None or result.tolist()
    [[3.0, 3.0]]
    """
    starts, _, q = left.shape
    code = _code(left, q)
    if code is None:
        return None
    result = left.new_empty(starts, len(rows))
    filled = _filled(code, left), _filled(code, right)

    def part(k: int, first: int, last: int) -> None:
        code.products(
            *_numbers(first, last),
            *_places(rows, columns, filled[0][k], filled[1][k]),
            *_numbers(q),
            *_places(result[k]),
        )

    _shared_out(part, starts, np.arange(len(rows) + 1), q)
    return result


def ratios(
    ends: torch.Tensor,
    others: torch.Tensor,
    targets: torch.Tensor,
    own: torch.Tensor,
    factor: torch.Tensor,
    least: float,
) -> torch.Tensor | None:
    """Return sum (t / z) v over the entries of each row, for every start.

    Here z = max(u'v, least) is the prediction of an entry.

    Parameters
    ----------
    ends : int64 Tensor of shape (rows + 1,)
        The entries of row i are those from ends[i] to ends[i + 1] - 1.
    others : int64 Tensor of shape (entries,)
        The row of the factor that belongs to each entry.
    targets : Tensor of shape (entries,) or (S, entries)
    own : Tensor of shape (S, rows, q)
    factor : Tensor of shape (S, n, q)
    least : float

    Returns
    -------
    Tensor of shape (S, rows, q), or None if there is no compiled code for it

    Examples
    --------
    >>> ends, at, ones = torch.tensor([0, 2]), torch.tensor([0, 0]), torch.ones(1, 1, 1)
    >>> result = ratios(ends, at, torch.tensor([1.0, 3.0]), ones, 2 * ones, 1e-9)
    >>> result is None or result.flatten().tolist()
    [4.0]
    """
    starts, _, q = own.shape
    code = _code(own, q)
    if code is None:
        return None
    result = torch.empty_like(own, memory_format=torch.contiguous_format)
    filled = _filled(code, own), _filled(code, factor)
    target_rows = targets.contiguous().expand(starts, -1)

    def part(k: int, first: int, last: int) -> None:
        code.ratios(
            *_numbers(first, last),
            *_places(ends, others, target_rows[k], filled[0][k], filled[1][k]),
            *_numbers(q),
            NUMBERS[own.dtype](least),
            *_places(result[k]),
        )

    _shared_out(part, starts, ends.numpy(), 2 * q)
    return result


def _code(factor: torch.Tensor, q: int) -> ctypes.CDLL | None:
    """Return the compiled code for a factor, or None if there is none for it."""
    if factor.device.type != "cpu" or q > MOST_COLUMNS:
        return None
    code = of_precision(SOURCE, factor.dtype)
    if code is not None:
        code.filled.restype = ctypes.c_int64
    return code


def _filled(code: ctypes.CDLL, factor: torch.Tensor) -> torch.Tensor:
    """Return a factor with its rows padded with zeros to whole vectors."""
    q = factor.shape[-1]
    wide = code.filled(ctypes.c_int64(q))
    return torch.nn.functional.pad(factor, (0, wide - q)).contiguous()


def _numbers(*values: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(value) for value in values]


def _places(*tensors: torch.Tensor | None) -> list[ctypes.c_void_p]:
    return [address(tensor) for tensor in tensors]


def _shared_out(
    part: Callable[[int, int, int], None],
    starts: int,
    ends: np.ndarray | Sequence[int],
    cost: int,
) -> None:
    """Compute the rows of all starts, in at most as many threads as torch has.

    `cost` is the number of products for each entry. Threads get about as many entries.
    """
    rows, entries = len(ends) - 1, int(ends[-1])
    threads = min(torch.get_num_threads(), 1 + entries * cost // WORTH_A_THREAD)
    shares = np.linspace(0, entries, threads + 1)[1:-1]
    cuts = [0, *np.searchsorted(ends, shares).tolist(), rows]
    tasks = [
        (k, first, last)
        for k in range(starts)
        for first, last in itertools.pairwise(cuts)
    ]
    if threads == 1:
        for task in tasks:
            part(*task)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(part, *task) for task in tasks]:
            done.result()
