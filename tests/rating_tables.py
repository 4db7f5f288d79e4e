"""Sparse tables of ratings that several tests share."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def planted(
    rows: int = 60,
    columns: int = 40,
    rank: int = 2,
    noise: float = 0.3,
    share: float = 0.4,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of low rank with biases and noise, and which cells are observed."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    values += rng.normal(size=(rows, 1)) + rng.normal(size=columns) + 3
    values += noise * rng.normal(size=values.shape)
    return values, rng.random(values.shape) < share


def stored(values: np.ndarray, observed: np.ndarray) -> sparse.coo_array:
    """Return the observed cells as a sparse table."""
    i, j = np.nonzero(observed)
    return sparse.coo_array((values[i, j], (i, j)), shape=values.shape)
