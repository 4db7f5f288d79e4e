"""Predictions of a Gaussian model: expectations, variances and draws of missing features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from descents.marginal.features import Features, NumberFeatures
from descents.marginal.gaussian import Marginal, Point, conditional, covariance
from descents.marginal.patterns import Batch, Patterns, grouped

LEAST_LEFT = 0.5
"""The smallest share of a variance that is assumed to be left by an explanation."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian distribution of the features of a row.

    Attributes
    ----------
    mean : float64 Tensor of shape (d,)
    inverse : float64 Tensor of shape (d, d)
        The inverse of the covariance.
    size : float64 Tensor of shape ()
        For a model of resampled rows, the mean number of observed cells of a column of the
        table; otherwise infinite.
    """

    mean: torch.Tensor
    inverse: torch.Tensor
    size: torch.Tensor = field(
        default_factory=lambda: torch.tensor(torch.inf, dtype=torch.float64)
    )

    @classmethod
    def of(cls, problem: Marginal, point: Point) -> Gaussian:
        """Return the distribution with the parameters of a start."""
        variances = problem.variances(point["noise"])
        factor = torch.linalg.cholesky(covariance(point["loadings"], variances))
        # Row by row, as a stored model has it: products of other orders differ in bits.
        return cls(point["mean"], torch.cholesky_inverse(factor).contiguous())


@dataclass(frozen=True, eq=False)
class Cells:
    """Predictions of the missing cells of a table.

    Attributes
    ----------
    values : float64 ndarray of shape (n, p)
        The expectation of a missing number, the code of the most probable level of a
        missing level, and observed cells unchanged.
    deviations : float64 ndarray of shape (n, p)
        The standard deviation of a missing number; 0 elsewhere.
    probabilities : dict
        For each column of levels with missing cells, an array of shape (n, levels) with
        the probabilities of the missing cells, and NaN in other rows.
    """

    values: np.ndarray
    deviations: np.ndarray
    probabilities: dict[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class RowsModel:
    """A model in which the rows are the sample.

    Attributes
    ----------
    gaussian : Gaussian
        The distribution of the features of a row.
    features : Features
    """

    gaussian: Gaussian
    features: Features

    def predicted(self, codes: np.ndarray) -> Cells:
        """Return predictions of the missing cells of a table."""
        return predicted(self.gaussian, self.features, codes)

    def drawn(self, codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a table whose missing cells are drawn from their distribution."""
        return drawn(self.gaussian, self.features, codes, generator)


def predicted(model: Gaussian, features: Features, codes: np.ndarray) -> Cells:
    """Return the predictions of a model for the missing cells of a table.

    Parameters
    ----------
    model : Gaussian
    features : Features
    codes : float64 ndarray of shape (n, p)
        Numbers, and codes of levels; NaN where missing.
    """
    means, variances, _ = expected(model, features.encoded(codes))
    return cells_of(features, features.places, codes, means, variances)


def expected(
    model: Gaussian, sample: np.ndarray, generator: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the conditional moments of the missing features of a sample.

    Parameters
    ----------
    model : Gaussian
    sample : float64 ndarray of shape (members, d)
        NaN where missing.
    generator : Generator, optional
        Draws the normal numbers.

    Returns
    -------
    means, variances : ndarray of shape (members, d)
        0 at observed features.
    normals : ndarray of shape (members, d)
        Normal numbers of variance 1, which are correlated within each member as its
        missing features are; 0 at observed features, and 0 without a generator.
    """
    found = [np.zeros_like(sample) for _ in range(3)]
    noise = None if generator is None else generator.standard_normal(sample.shape)
    if not len(sample):
        return found[0], found[1], found[2]
    patterns = grouped(sample, compress=False)
    slopes = along(model, patterns)
    for batch in patterns.batches:
        if not batch.missing.shape[1]:
            continue
        order = patterns.order[batch.rows]
        factors, guess, _ = conditional(batch, model.inverse, slopes[batch.rows])
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=1, dim2=2)[batch.pattern]
        found[0][order] = spread(batch, guess, model.mean)
        found[1][order] = spread(batch, variances, model.mean, add=False)
        if noise is not None:
            raw = batch.entries(torch.from_numpy(noise[order]))
            lower = torch.linalg.cholesky(covariances)[batch.pattern]
            moved = (lower @ raw[:, :, None])[:, :, 0] / variances.sqrt()
            found[2][order] = spread(batch, moved, model.mean, add=False)
    return found[0], found[1], found[2]


def cells_of(
    features: Features,
    places: Sequence[slice],
    codes: np.ndarray,
    means: np.ndarray,
    variances: np.ndarray,
) -> Cells:
    """Return predictions of the missing cells of a table, in the units of its columns.

    Parameters
    ----------
    features : Features
    places : sequence of slice
        The positions of the features of each column in the means and the variances.
    codes : float64 ndarray of shape (n, p)
    means, variances : ndarray of shape (n, d)
        Those of standardized numbers and of indicators.
    """
    values, std = codes.copy(), np.zeros_like(codes)
    probabilities = {}
    for place, (column, here) in enumerate(zip(features.columns, places, strict=True)):
        lacking = np.isnan(codes[:, place])
        if not lacking.any():
            continue
        part = means[lacking, here]
        if isinstance(column, NumberFeatures):
            values[lacking, place] = column.numbers(part)
            left = variances[lacking, here.start]
            relative = column.relative_at(values[lacking, place], left)
            std[lacking, place] = np.sqrt(left) * column.spread * relative
        else:
            found = np.full((len(codes), column.width), np.nan)
            found[lacking] = column.probabilities(part)
            probabilities[place] = found
            values[lacking, place] = found[lacking].argmax(1)
    return Cells(values, std, probabilities)


def drawn(
    model: Gaussian,
    features: Features,
    codes: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return a table whose missing cells are drawn from their distribution.

    The missing features of a row are drawn jointly. The normal numbers of the indicators
    of a column, made independent of each other, then choose its level: number k decides
    between level k and those after it (`levels_of`). So levels have their probabilities,
    and the cells of a row have the dependence that the model has estimated.

    If the model was fitted to resampled rows, conditional covariances are divided by
    (1 - p / n)^2, with n observed cells in a column of the table. In a fit of p parameters
    to n rows, residuals have the share 1 - p / n of the variance of the noise, and the
    resampling has the same effect once more.
    """
    encoded = features.encoded(codes)
    patterns = grouped(encoded, compress=False)
    slopes = along(model, patterns)
    values = codes.copy()
    # By row, so that what is drawn does not depend on the order of patterns.
    noise = generator.standard_normal(encoded.shape)
    for batch in patterns.batches:
        if not batch.missing.shape[1]:
            continue
        order = patterns.order[batch.rows]
        factors, guess, _ = conditional(batch, model.inverse, slopes[batch.rows])
        covariances = torch.cholesky_inverse(factors)
        explaining = encoded.shape[1] - batch.real.sum(1) + 1
        left = (1 - explaining / model.size).clamp(min=LEAST_LEFT)
        covariances = covariances / left.square()[:, None, None]
        # With the lower factor, the first m features depend on the first m numbers alone.
        lower = torch.linalg.cholesky(covariances)
        raw = batch.entries(torch.from_numpy(noise[order]))
        shift = (lower[batch.pattern] @ raw[:, :, None])[:, :, 0]
        means = spread(batch, guess, model.mean)
        away = spread(batch, shift, model.mean, add=False)
        real = batch.real[batch.pattern]
        left = covariances.diagonal(dim1=1, dim2=2)[batch.pattern] * real
        variances = spread(batch, left, model.mean, add=False)
        for place, (column, here) in enumerate(
            zip(features.columns, features.places, strict=True)
        ):
            lacking = np.isnan(codes[order, place])
            if not lacking.any():
                continue
            rows = order[lacking]
            if isinstance(column, NumberFeatures):
                center = column.numbers(means[lacking, here])
                relative = column.relative_at(center, variances[lacking, here.start])
                off = away[lacking, here.start] * column.spread
                values[rows, place] = center + relative * off
                continue
            chances = column.probabilities(means[lacking, here])
            if column.width == 1:
                values[rows, place] = 0.0
                continue
            some = np.flatnonzero(lacking)
            normals = _own_normals(batch, covariances, shift, some, here)
            values[rows, place] = levels_of(chances, normals)
    return values


def along(model: Gaussian, patterns: Patterns) -> torch.Tensor:
    """Return P d for each row, with d = x - m, or 0 at missing features."""
    off = patterns.values - patterns.constants[:, None] * (
        patterns.observed * model.mean
    )
    return off @ model.inverse


def spread(
    batch: Batch, entries: torch.Tensor, base: torch.Tensor, *, add: bool = True
) -> np.ndarray:
    """Return entries at missing features as rows of all features, with 0 elsewhere.

    If `add` is true, the entries of `base`, of shape (d,), are added to them.
    """
    places = batch.missing[batch.pattern]
    if add:
        entries = entries + base[places]
    rows = torch.zeros(len(places), len(base), dtype=torch.float64)
    return rows.scatter_add(1, places, entries * batch.real[batch.pattern]).numpy()


def _own_normals(
    batch: Batch,
    covariances: torch.Tensor,
    shift: torch.Tensor,
    rows: np.ndarray,
    here: slice,
) -> np.ndarray:
    """Return the independent normal numbers behind the drawn indicators of a column.

    They are L^{-1} times the differences of the first K - 1 of K indicators from their
    means, where L is the Cholesky factor of their covariance. The shape is (rows, K - 1).
    """
    mine = batch.pattern[torch.from_numpy(rows)]
    before = ((batch.missing < here.start) & batch.real).sum(1)[mine]
    places = before[:, None] + torch.arange(here.stop - here.start - 1)
    blocks = covariances[mine[:, None, None], places[:, :, None], places[:, None, :]]
    factors = torch.linalg.cholesky(blocks)
    part = torch.gather(shift[torch.from_numpy(rows)], 1, places)
    found = torch.linalg.solve_triangular(factors, part[:, :, None], upper=False)
    return found[:, :, 0].numpy()


def levels_of(chances: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return the code of a drawn level for each row, given its probabilities.

    Level k is taken, unless one before it was, if normal number k is in the upper tail that
    has the probability p_k / (p_k + p_{k+1} + ...).
    """
    from scipy.special import ndtr

    left = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1]
    taken = ndtr(normals) > 1 - chances[:, :-1] / left[:, :-1]
    last = np.full(len(chances), chances.shape[1] - 1)
    return np.where(taken.any(1), taken.argmax(1), last).astype(np.float64)
