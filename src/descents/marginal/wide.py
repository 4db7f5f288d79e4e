"""The model of a table with more columns than rows: the columns are the sample.

Each standardized column is one draw from a Gaussian distribution over the rows, so that
the factors of the columns are integrated out, and what is estimated has the size of the
shorter side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from descents.marginal.features import Features, NumberFeatures
from descents.marginal.gaussian import conditional
from descents.marginal.patterns import grouped
from descents.marginal.posterior import Cells, Gaussian, along, levels_of, spread

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
        means, deviations = [], []
        for column in self.features.columns:
            if isinstance(column, NumberFeatures):
                means.append(np.array([column.center]))
                deviations.append(np.array([column.spread]))
            else:
                means.append(column.shares)
                spread_of = np.sqrt(column.shares * (1 - column.shares))
                deviations.append(np.where(spread_of > 0, spread_of, 1.0))
        return np.concatenate(means), np.concatenate(deviations)

    @property
    def places(self) -> tuple[slice, ...]:
        """Where the values or the indicators of each column are."""
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
        means, deviations = self.scales
        return (np.concatenate(parts, axis=1) - means) / deviations


@dataclass(frozen=True, eq=False)
class ColumnsModel:
    """What a model of columns says of missing cells.

    Attributes
    ----------
    gaussian : Gaussian
        The distribution over the rows of the fit of a standardized column.
    features : Features
    codes : float64 ndarray of shape (n, p)
        The table of the fit.
    """

    gaussian: Gaussian
    features: Features
    codes: np.ndarray

    def predicted(self, codes: np.ndarray) -> Cells:
        """Return what the model says of the missing cells of a table."""
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
                deviations = found.deviations[lacking, place]
                found.values[lacking, place] += deviations * mine[:, 0]
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
        values, deviations = codes.copy(), np.zeros_like(codes)
        probabilities = {}
        for place, (column, here) in enumerate(
            zip(self.features.columns, standard.places, strict=True)
        ):
            lacking = np.isnan(codes[:, place])
            if not lacking.any():
                continue
            part = means[lacking, here] * scales[here] + centers[here]
            if isinstance(column, NumberFeatures):
                values[lacking, place] = part[:, 0]
                roots = np.sqrt(variances[lacking, here.start])
                deviations[lacking, place] = roots * column.spread
            else:
                found = np.full((len(codes), column.width), np.nan)
                found[lacking] = column.probabilities(part)
                probabilities[place] = found
                values[lacking, place] = found[lacking].argmax(1)
        return Cells(values, deviations, probabilities)

    def _expected(
        self, codes: np.ndarray, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return expectations, variances and, with a generator, correlated normals.

        Each of shape (rows, standardized columns); 0 at observed cells.
        """
        same = codes.shape == self.codes.shape and np.array_equal(
            codes, self.codes, equal_nan=True
        )
        if same:
            return _of_sample(
                self.gaussian, Standard(self.features).encoded(codes).T, generator
            )
        return self._of_new_rows(codes, generator)

    def _of_new_rows(
        self, codes: np.ndarray, generator: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""Return what is expected of rows that the fit did not have.

        A row of the fit is, given the others, x_i = m_i + sum_j w_ij (x_j - m_j) + e_i
        with w_ij = -P_ij / P_ii and a variance of e_i of 1 / P_ii. A new row is modeled
        the same way: its weights are normal with the mean square of those w, its noise has
        the mean of these variances, and the weights are integrated out, which makes it a
        Gaussian over the columns.
        """
        standard = Standard(self.features)
        sample = standard.encoded(self.codes).T
        filled, _, _ = _of_sample(self.gaussian, sample, None)
        seen = ~np.isnan(sample.T)
        mean = self.gaussian.mean.numpy()[:, None]
        centered = np.where(seen, sample.T, filled) - mean
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


def _of_sample(
    gaussian: Gaussian, sample: np.ndarray, generator: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is expected of the missing features of a sample, transposed."""
    found = [np.zeros_like(sample) for _ in range(3)]
    noise = (
        np.zeros_like(sample)
        if generator is None
        else generator.standard_normal(sample.shape)
    )
    patterns = grouped(sample, compress=False)
    slopes = along(gaussian, patterns)
    for batch in patterns.batches:
        if not batch.missing.shape[1]:
            continue
        order = patterns.order[batch.rows]
        factors, guess, _ = conditional(batch, gaussian.inverse, slopes[batch.rows])
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=1, dim2=2)[batch.pattern]
        found[0][order] = spread(batch, guess, gaussian.mean)
        found[1][order] = spread(batch, variances, gaussian.mean, add=False)
        if generator is not None:
            raw = batch.entries(torch.from_numpy(noise[order]))
            lower = torch.linalg.cholesky(covariances)[batch.pattern]
            moved = (lower @ raw[:, :, None])[:, :, 0] / variances.sqrt()
            found[2][order] = spread(batch, moved, gaussian.mean, add=False)
    return found[0].T, found[1].T, found[2].T


def _of_loadings(
    rows: np.ndarray,
    loadings: torch.Tensor,
    noise: float,
    level: float,
    generator: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is expected of rows x = L^T w + e, given their observed features.

    Parameters
    ----------
    rows : ndarray of shape (rows, d)
        NaN where missing.
    loadings : Tensor of shape (q, d)
    noise : float
        The variance of e.
    level : float
        Added to expectations.
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
