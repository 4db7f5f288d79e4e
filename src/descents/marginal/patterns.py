"""Rows grouped by which of their features are missing.

Rows with the same missing features have the same conditional covariance, and patterns with
similar numbers of missing features are computed in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

BATCH_ENTRIES = 2**21
"""Most entries of the covariances of missing features in a batch."""

CHEAP_ENTRIES = 2**15
"""A batch of fewer entries costs the same, so that its padding does not matter."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Patterns that are padded to one number of missing features.

    Attributes
    ----------
    missing : int64 Tensor of shape (patterns, m)
        The missing features of each pattern, then padding.
    real : bool Tensor of shape (patterns, m)
        Which of these are not padding.
    rows : slice
        The rows of the batch among those of `Patterns`.
    pattern : int64 Tensor of shape (rows,)
        The pattern of each row.
    weights : float64 Tensor of shape (patterns,)
        The sum of the weights of the rows of each pattern.
    width : int
        How many features there are.
    """

    missing: torch.Tensor
    real: torch.Tensor
    rows: slice
    pattern: torch.Tensor
    weights: torch.Tensor
    width: int

    @cached_property
    def flat(self) -> torch.Tensor:
        """Positions of the pairs of missing features in a matrix of (width + 1)^2 entries.

        Padding is in the last row and column, which belong to no feature. The shape is
        (patterns, m, m).
        """
        places = torch.where(self.real, self.missing, self.width)
        return places[:, :, None] * (self.width + 1) + places[:, None, :]

    def blocks(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the submatrix of each pattern's missing features, shape (patterns, m, m).

        The padding is that of an identity matrix.
        """
        wider = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
        found = wider.reshape(-1)[self.flat]
        if bool(self.real.all()):
            return found
        return found + torch.diag_embed((~self.real).to(found))

    def add(self, total: torch.Tensor, covariances: torch.Tensor) -> None:
        """Add the covariance of each pattern, times its weight, to a matrix.

        Parameters
        ----------
        total : Tensor of shape (width + 1, width + 1)
            Its last row and column receive the padding.
        covariances : Tensor of shape (patterns, m, m)
        """
        part = covariances * self.weights[:, None, None]
        total.view(-1).index_add_(0, self.flat.reshape(-1), part.reshape(-1))

    def entries(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the missing features of rows, shape (rows, m); 0 where there is padding."""
        places = self.missing[self.pattern]
        return torch.gather(rows, 1, places) * self.real[self.pattern]


@dataclass(frozen=True, eq=False)
class Patterns:
    """The rows of a table of features, sorted by which of them are missing.

    A Gaussian likelihood depends on the rows of one pattern only through their second
    moments. If a pattern has more rows than features, they are therefore replaced by the
    triangular factor R of a QR decomposition of [1, X], because R^T R = [1, X]^T [1, X].
    The first column of R becomes `constants`. A row of weight w is multiplied by the root
    of w.

    Attributes
    ----------
    values : float64 Tensor of shape (rows, d)
        0 where missing.
    observed : bool Tensor of shape (rows, d)
    constants : float64 Tensor of shape (rows,)
    batches : tuple of Batch
        They contain all rows, in order.
    order : int64 ndarray
        The position of each row in the table; empty if rows were compressed.
    weight : float
        The sum of the weights of all rows.
    cells : float
        The sum of the weights of all observed features.
    """

    values: torch.Tensor
    observed: torch.Tensor
    constants: torch.Tensor
    batches: tuple[Batch, ...]
    order: np.ndarray
    weight: float
    cells: float


def grouped(
    features: np.ndarray, weights: np.ndarray | None = None, *, compress: bool = True
) -> Patterns:
    """Group the rows of a table of features by which of them are missing.

    Parameters
    ----------
    features : float64 ndarray of shape (n, d)
        NaN where missing.
    weights : ndarray of shape (n,), optional
        Weights of the rows, by default 1; rows of weight 0 are left out.
    compress : bool
        Whether rows of one pattern may be replaced by fewer with the same moments.

    Examples
    --------
    >>> table = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0], [np.nan, 1.0]])
    >>> found = grouped(table)
    >>> [batch.missing.tolist() for batch in found.batches], found.order.tolist()
    ([[[]], [[0], [1]]], [0, 2, 3, 1])
    """
    features = np.asarray(features, dtype=np.float64)
    count = len(features)
    kept = np.arange(count) if weights is None else np.flatnonzero(weights > 0)
    if len(kept) < count:
        features = features[kept]
    rows = np.ones(len(kept)) if weights is None else np.asarray(weights, float)[kept]
    observed = ~np.isnan(features)
    keys = np.packbits(observed, axis=1)
    _, first, pattern = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    pattern = pattern.ravel()
    masks = observed[first]
    # Patterns are sorted by their number of missing features, so that batches need little
    # padding.
    rank = np.argsort((~masks).sum(1), kind="stable")
    places = np.empty_like(rank)
    places[rank] = np.arange(len(rank))
    pattern, masks = places[pattern], masks[rank]
    order = np.argsort(pattern, kind="stable")
    pattern, roots = pattern[order], np.sqrt(rows[order])
    values = np.where(observed, features, 0.0)[order] * roots[:, None]
    counts = np.bincount(pattern, minlength=len(masks))
    sums = np.bincount(pattern, weights=rows[order], minlength=len(masks))
    cells = float(sums @ masks.sum(1))
    if compress and (counts > masks.sum(1) + 1).any():
        values, roots, counts = _compressed(values, roots, counts, masks)
        order = np.empty(0, dtype=np.int64)
    else:
        order = kept[order]
    pattern = np.repeat(np.arange(len(masks)), counts)
    return Patterns(
        torch.from_numpy(np.ascontiguousarray(values)),
        torch.from_numpy(masks)[torch.from_numpy(pattern)],
        torch.from_numpy(roots),
        tuple(_batches(masks, counts, sums)),
        order,
        float(sums.sum()),
        cells,
    )


def _compressed(
    values: np.ndarray, roots: np.ndarray, counts: np.ndarray, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return fewer rows with the same second moments, by a QR decomposition per pattern."""
    parts, constants, fewer, begun = [], [], counts.copy(), 0
    for place, count in enumerate(counts):
        rows = slice(begun, begun + count)
        begun += count
        there = np.flatnonzero(masks[place])
        part, ones = values[rows], roots[rows]
        if count > len(there) + 1:
            whole = np.column_stack([ones, part[:, there]])
            factor: np.ndarray = np.asarray(np.linalg.qr(whole, mode="r"))
            ones = np.ascontiguousarray(factor[:, 0])
            part = np.zeros((len(factor), values.shape[1]))
            part[:, there] = factor[:, 1:]
            fewer[place] = len(factor)
        parts.append(part)
        constants.append(ones)
    return np.concatenate(parts), np.concatenate(constants), fewer


def _batches(
    masks: np.ndarray, counts: np.ndarray, sums: np.ndarray
) -> Iterator[Batch]:
    """Yield batches of patterns, which are sorted by their number of missing features."""
    lacking = (~masks).sum(1)
    ends = np.cumsum(counts)
    first = 0
    while first < len(masks):
        last = first + 1
        # A pattern joins the batch if that has room for it, and if the padding is at most an
        # eighth of the width; in small batches more padding is allowed.
        while last < len(masks):
            entries = (last + 1 - first) * int(lacking[last]) ** 2
            wider = lacking[last] > lacking[first] * 9 // 8 + 1
            if entries > (CHEAP_ENTRIES if wider else BATCH_ENTRIES):
                break
            if lacking[first] == 0 < lacking[last]:
                break
            last += 1
        here = slice(first, last)
        width = int(lacking[last - 1])
        missing = np.argsort(masks[here], axis=1, kind="stable")[:, :width]
        real = np.arange(width) < lacking[here][:, None]
        begin = int(ends[first - 1]) if first else 0
        yield Batch(
            torch.from_numpy(np.ascontiguousarray(missing)),
            torch.from_numpy(real),
            slice(begin, int(ends[last - 1])),
            torch.from_numpy(np.repeat(np.arange(last - first), counts[here])),
            torch.from_numpy(sums[here].astype(np.float64)),
            masks.shape[1],
        )
        first = last
