"""Products of a table with the factors of all starts, and packed Gram matrices."""

from __future__ import annotations

import torch


def pairs(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions (a, b), a <= b, of the distinct entries of a Gram matrix."""
    places = torch.triu_indices(rank, rank)
    return places[0], places[1]


def outer(factor: torch.Tensor) -> torch.Tensor:
    """Return the distinct products v_a v_b, a <= b, of the entries of each row v.

    Parameters
    ----------
    factor : Tensor of shape (..., q)

    Returns
    -------
    Tensor of shape (..., q (q + 1) / 2)
    """
    a, b = pairs(factor.shape[-1])
    return factor[..., a.to(factor.device)] * factor[..., b.to(factor.device)]


def unpacked(packed: torch.Tensor, rank: int) -> torch.Tensor:
    """Return symmetric matrices, given their distinct entries in the order of `pairs`.

    Examples
    --------
    >>> unpacked(outer(torch.tensor([1.0, 2.0])), 2).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    where = torch.empty(rank, rank, dtype=torch.int64)
    a, b = pairs(rank)
    where[a, b] = where[b, a] = torch.arange(len(a))
    return packed[..., where.reshape(-1).to(packed.device)].reshape(
        *packed.shape[:-1], rank, rank
    )


def times(table: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return one table times the factors of all starts, as a single product.

    Parameters
    ----------
    table : Tensor of shape (m, n)
        Dense, or sparse in CSR format.
    factor : Tensor of shape (S, n, q)

    Returns
    -------
    Tensor of shape (S, m, q)
    """
    starts, _, q = factor.shape
    if table.layout == torch.strided and not (starts == 1 and table.is_contiguous()):
        # (F^T A^T)^T: libraries are slow at products with few columns, but not at
        # products with few rows.
        flat = factor.mT.reshape(starts * q, -1)
        return (flat @ table.mT).reshape(starts, q, -1).mT
    flat = factor.permute(1, 0, 2).reshape(factor.shape[1], starts * q)
    return (table @ flat).reshape(-1, starts, q).permute(1, 0, 2)
