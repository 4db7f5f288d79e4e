"""The posterior of the factors of rows, given their cells and the distribution of columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse

from descents.marginal.both_parameters import Sides, moments

BLOCK_ENTRIES = 2**19
"""Number of entries of the second moments of a block of rows."""
FEWEST_ROWS = 8
"""A block has at least one row for each 8 columns, because its sums are added to arrays of
all columns."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The distribution q(w) of the factors of rows, given that of the columns.

    Attributes
    ----------
    means : Tensor of shape (rows, q)
    covariances : Tensor of shape (rows, q, q)
    terms : Tensor of shape (rows,)
        The part of the loss that depends on the factors and squared errors of each row.
    seen : tuple of Tensor
        The sums over the cells of each row: `gram`, `along` and `squares` of `posterior`.
    """

    means: torch.Tensor
    covariances: torch.Tensor
    terms: torch.Tensor
    seen: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @cached_property
    def lifted(self) -> tuple[torch.Tensor, torch.Tensor]:
        """E[h] and E[h h^T], h = (w, 1)."""
        q = self.means.shape[1]
        means = torch.nn.functional.pad(self.means, (0, 1), value=1.0)
        second = means[:, :, None] * means[:, None, :]
        second[:, :q, :q] += self.covariances
        return means, second

    @cached_property
    def squares(self) -> torch.Tensor:
        """Expected squared errors of each row, summed over cells with the weights kappa_j."""
        return expected_squares(*self.lifted, *self.seen)


@dataclass(frozen=True, eq=False)
class View:
    """The moments of the columns, which determine q(w) of the rows.

    Attributes
    ----------
    means, second : Tensor
        E[c_j] and E[c_j c_j^T].
    kappa : Tensor of shape (d,)
        E[kappa_j].
    noise : Tensor of shape (1,)
        sigma^2.
    gains : Tensor of shape (p, q)
        E[B].
    packed, weighted, levels : ndarray
        The factors that cells are multiplied by: kappa_j times the upper triangles of
        second moments, kappa_j times the means, and kappa_j.
    """

    means: torch.Tensor
    second: torch.Tensor
    kappa: torch.Tensor
    noise: torch.Tensor
    gains: torch.Tensor
    packed: np.ndarray
    weighted: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(
        cls, one: Sides, kappa: torch.Tensor, dtype: torch.dtype = torch.float64
    ) -> View:
        """Return the moments at parameters without removed components.

        Parameters
        ----------
        one : Sides
        kappa : Tensor of shape (d,)
        dtype : torch.dtype
            The precision of sums over cells.
        """
        means, second = moments(one)
        upper = torch.triu_indices(*second.shape[1:])
        level = kappa.to(dtype)
        return cls(
            means,
            second,
            kappa,
            one.noise.exp(),
            one.row_gains[:, None] * one.weights,
            (level[:, None] * second[:, upper[0], upper[1]].to(dtype)).numpy(),
            (level[:, None] * means.to(dtype)).numpy(),
            level.numpy(),
        )

    def blocks(self, cells: sparse.csr_array) -> Iterator[tuple[slice, Block]]:
        """Yield blocks of rows of a sparse array, in the precision of the sums."""
        return blocks(cells, self.packed.shape[1], self.packed.dtype)

    def rows(
        self, block: Block, features: torch.Tensor, rho: torch.Tensor
    ) -> Posterior:
        """Return q(w) of some rows, given their features and E[rho]."""
        upper = torch.from_numpy(block.pattern @ self.packed)
        return posterior(
            unpacked(upper, self.means.shape[1]).double(),
            torch.from_numpy(block.values @ self.weighted).double(),
            torch.from_numpy(block.squares @ self.levels).double(),
            rho,
            self.noise,
            features @ self.gains,
        )


def posterior(
    gram: torch.Tensor,
    along: torch.Tensor,
    squares: torch.Tensor,
    rho: torch.Tensor,
    noise: torch.Tensor,
    prior: torch.Tensor,
) -> Posterior:
    """Return q(w) of rows from sums over their cells.

    Parameters
    ----------
    gram : Tensor of shape (rows, q + 1, q + 1)
        sum_j kappa_j E[c_j c_j^T].
    along : Tensor of shape (rows, q + 1)
        sum_j kappa_j x_ij E[c_j].
    squares : Tensor of shape (rows,)
        sum_j kappa_j x_ij^2.
    rho : Tensor of shape (rows,)
    noise : Tensor of shape (1,)
    prior : Tensor of shape (rows, q)
    """
    q = prior.shape[1]
    # The posterior is N(P^{-1} r, P^{-1}) with P = I + rho / sigma^2 sum_j kappa_j E[c c^T]
    # and r = B^T f + rho / sigma^2 sum_j kappa_j E[c (x - last)], where c is without its
    # last entry; `inner` is P and `right` is r.
    weight = rho / noise
    inner = weight[:, None, None] * gram[:, :q, :q]
    inner = inner + torch.eye(q, dtype=gram.dtype)
    factors, failed = torch.linalg.cholesky_ex(inner)
    if bool(failed.any()):  # P has numbers that are not finite
        factors = torch.where(failed[:, None, None] == 0, factors, torch.nan)
    right = prior + weight[:, None] * (along[:, :q] - gram[:, :q, q])
    covariances = torch.cholesky_inverse(factors)
    means = (covariances @ right[:, :, None])[:, :, 0]
    # log|P| / 2 + (|B^T f|^2 - r^T P^{-1} r) / 2 + rho / (2 sigma^2) sum_j kappa_j
    # E[(x - last)^2]
    logs = factors.diagonal(dim1=1, dim2=2).log().sum(1)
    fits = prior.square().sum(1) - (right * means).sum(1)
    rest = squares - 2 * along[:, q] + gram[:, q, q]
    terms = logs + (fits + weight * rest) / 2
    return Posterior(means, covariances, terms, (gram, along, squares))


def expected_squares(
    means: torch.Tensor,
    second: torch.Tensor,
    gram: torch.Tensor,
    along: torch.Tensor,
    squares: torch.Tensor,
) -> torch.Tensor:
    """Return sums of E[(x - h^T c)^2] from the moments of one side and sums of the other.

    E[(x - h^T c)^2] = x^2 - 2 x E[h]^T E[c] + tr(E[h h^T] E[c c^T]), summed over cells.
    """
    off = squares - 2 * (means * along).sum(1) + (second * gram).sum((1, 2))
    return off.clamp(min=0)  # rounding errors may make it negative


def unpacked(upper: torch.Tensor, size: int) -> torch.Tensor:
    """Return symmetric matrices from the entries of their upper triangles.

    Examples
    --------
    >>> unpacked(torch.tensor([[1.0, 2.0, 3.0]]), 2)
    tensor([[[1., 2.],
             [2., 3.]]])
    """
    rows, columns = torch.triu_indices(size, size)
    places = torch.empty(size, size, dtype=torch.int64)
    places[rows, columns] = places[columns, rows] = torch.arange(len(rows))
    return upper[:, places]


@dataclass(frozen=True, eq=False)
class Block:
    """The cells of some rows as sparse arrays: their values, squared values, and ones."""

    values: sparse.csr_array
    squares: sparse.csr_array
    pattern: sparse.csr_array


def blocks(
    cells: sparse.csr_array, width: int, dtype: np.dtype
) -> Iterator[tuple[slice, Block]]:
    """Yield blocks of about ``BLOCK_ENTRIES / width`` rows of a sparse array."""
    rows, columns = cells.shape
    count = max(1, BLOCK_ENTRIES // width, columns // FEWEST_ROWS)
    for first in range(0, rows, count):
        last = min(first + count, rows)
        ends = cells.indptr[first : last + 1]
        entries = slice(ends[0], ends[-1])
        values, indices = cells.data[entries].astype(dtype), cells.indices[entries]
        ends = ends - ends[0]
        yield (
            slice(first, last),
            Block(
                csr(values, indices, ends, columns),
                csr(values**2, indices, ends, columns),
                csr(np.ones_like(values), indices, ends, columns),
            ),
        )


def csr(
    values: np.ndarray | None, indices: np.ndarray, ends: np.ndarray, columns: int
) -> sparse.csr_array:
    """Return a sparse array of rows; its entries are ones if `values` is None."""
    values = np.ones(len(indices)) if values is None else values
    ends = ends.astype(np.int32) if ends[-1] < 2**31 else ends
    return sparse.csr_array((values, indices, ends), shape=(len(ends) - 1, columns))
