"""The model of a table with more columns than rows: the columns are the sample.

Each standardized column is one draw from a Gaussian distribution over the rows. The factors
of the columns are integrated out, and the covariance has the size of the shorter side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from descents.marginal.features import Features, NumberFeatures
from descents.marginal.posterior import (
    Cells,
    Gaussian,
    cells_of,
    expected,
    levels_of,
)

RIDGE = 0.05
"""The variance that is added to standardized columns."""


@dataclass(frozen=True, eq=False)
class Standard:
    """The columns of a table, standardized: values, and indicators of levels.

    Attributes
    ----------
    features : Features
        Only the centers, spreads and shares are used.
    """

    features: Features

    @property
    def scales(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the means and the standard deviations of values and indicators."""
        means, std = [], []
        for column in self.features.columns:
            if isinstance(column, NumberFeatures):
                means.append(np.array([column.center]))
                std.append(np.array([column.spread]))
            else:
                means.append(column.shares)
                spread_of = np.sqrt(column.shares * (1 - column.shares))
                std.append(np.where(spread_of > 0, spread_of, 1.0))
        return np.concatenate(means), np.concatenate(std)

    @property
    def places(self) -> tuple[slice, ...]:
        """The positions of the values or the indicators of each column."""
        widths = [
            1 if isinstance(column, NumberFeatures) else column.width
            for column in self.features.columns
        ]
        ends = np.cumsum(widths).tolist()
        return tuple(map(slice, [0, *ends[:-1]], ends))

    def encoded(self, codes: np.ndarray) -> np.ndarray:
        """Return standardized values and indicators, NaN where missing."""
        parts = [
            codes[:, [place]]
            if isinstance(column, NumberFeatures)
            else column.encoded(codes[:, place])
            for place, column in enumerate(self.features.columns)
        ]
        means, std = self.scales
        return (np.concatenate(parts, axis=1) - means) / std


def sample_of(
    side: str, features: Features, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the members of a sample, and the variance that is added to each feature.

    Parameters
    ----------
    side : {"rows", "columns"}
        The side of the table that is the sample.
    features : Features
    codes : float64 ndarray of shape (n, p)
    """
    if side == "columns":
        return Standard(features).encoded(codes).T, np.array(RIDGE)
    return features.encoded(codes), features.ridge


@dataclass(frozen=True, eq=False)
class ColumnsModel:
    """A model in which the columns are the sample.

    Attributes
    ----------
    gaussian : Gaussian
        The distribution of a standardized column, over the rows of the fit.
    features : Features
    codes : float64 ndarray of shape (n, p)
        The table of the fit.
    """

    gaussian: Gaussian
    features: Features
    codes: np.ndarray

    def predicted(self, codes: np.ndarray) -> Cells:
        """Return predictions of the missing cells of a table."""
        means, variances, _ = self._expected(codes)
        return self._cells(codes, means, variances)

    def drawn(self, codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a table whose missing cells are drawn from their distribution."""
        means, variances, normals = self._expected(codes, generator)
        found = self._cells(codes, means, variances)
        standard = Standard(self.features)
        for place, (column, here) in enumerate(
            zip(self.features.columns, standard.places, strict=True)
        ):
            lacking = np.isnan(codes[:, place])
            if not lacking.any():
                continue
            mine = normals[lacking, here]
            if isinstance(column, NumberFeatures):
                std = found.deviations[lacking, place]
                found.values[lacking, place] += std * mine[:, 0]
            elif column.width > 1:
                chances = found.probabilities[place][lacking]
                found.values[lacking, place] = levels_of(chances, mine[:, :-1])
        return found.values

    def _cells(
        self, codes: np.ndarray, means: np.ndarray, variances: np.ndarray
    ) -> Cells:
        """Return predictions in the units of the columns."""
        standard = Standard(self.features)
        centers, scales = standard.scales
        means = means.copy()
        for column, here in zip(self.features.columns, standard.places, strict=True):
            if not isinstance(column, NumberFeatures):
                means[:, here] = means[:, here] * scales[here] + centers[here]
        return cells_of(self.features, standard.places, codes, means, variances)

    def _expected(
        self, codes: np.ndarray, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return expectations, variances and, with a generator, correlated normals.

        Each has shape (rows, standardized columns), with 0 at observed cells.
        """
        same = codes.shape == self.codes.shape and np.array_equal(
            codes, self.codes, equal_nan=True
        )
        if same:
            sample = Standard(self.features).encoded(codes).T
            means, variances, normals = expected(self.gaussian, sample, generator)
            return means.T, variances.T, normals.T
        return self._of_new_rows(codes, generator)

    def _of_new_rows(
        self, codes: np.ndarray, generator: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""Return the conditional moments of rows that were not in the fit.

        Given the other rows, a row of the fit is x_i = m_i + sum_j w_ij (x_j - m_j) + e_i
        with w_ij = -P_ij / P_ii, and e_i has the variance 1 / P_ii. A new row has the same
        form: its weights are normal, with the mean square of the w_ij, and its noise has the
        mean of the variances. The weights are integrated out, so that the row is Gaussian.
        """
        standard = Standard(self.features)
        sample = standard.encoded(self.codes).T
        filled, _, _ = expected(self.gaussian, sample)
        mean = self.gaussian.mean.numpy()[:, None]
        centered = np.where(np.isnan(sample), filled, sample).T - mean
        inverse = self.gaussian.inverse.numpy()
        weights = -inverse / np.diag(inverse)[:, None]
        np.fill_diagonal(weights, 0.0)
        square = np.square(weights).sum() / max(len(weights) * (len(weights) - 1), 1)
        noise = float((1 / np.diag(inverse)).mean())
        level = float(mean.mean())
        loadings = torch.from_numpy(np.sqrt(max(square, 1e-12)) * centered)
        return _of_loadings(
            standard.encoded(codes) - level, loadings, noise, level, generator
        )


def _of_loadings(
    rows: np.ndarray,
    loadings: torch.Tensor,
    noise: float,
    level: float,
    generator: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the conditional moments of rows x = L^T w + e, given their observed features.

    With L_o the loadings of the observed features and A = I + L_o L_o^T / noise, the
    weights w are N(A^{-1} L_o x_o / noise, A^{-1}), by Woodbury's identity. A missing
    feature then has the variance l^T A^{-1} l + noise.

    Parameters
    ----------
    rows : ndarray of shape (rows, d)
        NaN where missing.
    loadings : Tensor of shape (q, d)
    noise : float
        The variance of e.
    level : float
        This is added to expectations.
    """
    means, variances, normals = (np.zeros_like(rows) for _ in range(3))
    eye = torch.eye(len(loadings), dtype=torch.float64)
    for place, row in enumerate(rows):
        there = ~np.isnan(row)
        seen = loadings[:, torch.from_numpy(there)]
        factor = torch.linalg.cholesky(seen @ seen.T / noise + eye)
        value = torch.from_numpy(row[there])
        weight = torch.cholesky_solve((seen @ value / noise)[:, None], factor)[:, 0]
        missing = loadings[:, torch.from_numpy(~there)]
        means[place, ~there] = (missing.T @ weight).numpy() + level
        half = torch.linalg.solve_triangular(factor, missing, upper=False)
        total = half.square().sum(0) + noise
        variances[place, ~there] = total.numpy()
        if generator is not None:
            shared = torch.from_numpy(generator.standard_normal(len(loadings)))
            own = torch.from_numpy(generator.standard_normal(row.shape))
            moved = half.T @ shared + np.sqrt(noise) * own[torch.from_numpy(~there)]
            normals[place, ~there] = (moved / total.sqrt()).numpy()
    return means, variances, normals
