"""Corrects the uncertainty of predictions by cells that the model has not seen.

A Gaussian model gives numbers of a row the same standard deviation whatever their
expectation is, and its means of indicators are no more than linear approximations of the
probabilities of levels. Both are corrected by a few numbers that are learned from cells:
how far predictions are off along the range of a column, and how probabilities depend on
the means of indicators.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from descents.marginal.chosen import chosen_rows
from descents.marginal.features import (
    LINEAR,
    ColumnFeatures,
    Features,
    LevelFeatures,
    NumberFeatures,
    readout_terms,
    softmax,
)
from descents.marginal.held_out import HeldOut
from descents.marginal.posterior import RowsModel
from descents.optim.collective import ALONE, Collective

LEAST_CELLS = 60
"""Fewest observed cells of a column for which a profile is learned."""
MOST_CELLS = 400
"""Most cells of a column that are predicted to learn its profile."""
SWEEPS = 10
"""Most rows that are predicted for all profiles together, as a multiple of the table's."""
NEIGHBORS = 0.15
"""Share of the cells that are averaged for each point of a profile."""
PRIOR_CELLS = 5
"""Weight of the mean over all cells, as a number of neighbors."""
LEAST_EXPLAINED = 0.05
"""Smallest share of the variance that counts as explained where a profile was learned."""
KNOTS = 33
"""Most points of a profile."""
MOST_OF_READOUT = 10_000
"""Most cells that the readout is learned from."""
RIDGE = 1.0
"""The penalty on the distance of the readout from the linear one."""


def with_profiles(
    model: RowsModel, codes: np.ndarray, seed: int, together: Collective = ALONE
) -> RowsModel:
    """Return a model whose standard deviations vary along the range of each column.

    Observed cells are predicted from the other cells of their rows. Their absolute errors
    over the standard deviations of the model are averaged over the cells with the nearest
    predictions, and divided by the mean over all cells.

    Parameters
    ----------
    model : RowsModel
    codes : float64 ndarray of shape (n, p)
        The table of the fit.
    seed : int
        For the choice of cells.
    together : Collective
        Processes that share the table, of which each has some rows.

    Examples
    --------
    >>> from descents.marginal.model import fit
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(1, 3, 400)
    >>> codes = np.column_stack([x, x + 0.1 * x**2 * rng.normal(size=400)])
    >>> codes[:2] = [[1, np.nan], [3, np.nan]]
    >>> std = fit(codes, np.zeros(2, int)).predicted(codes).deviations[:2, 1]
    >>> bool(2 < std[1] / std[0] < 10)
    True
    """
    columns = list(model.features.columns)
    numbers = sum(isinstance(column, NumberFeatures) for column in columns)
    observed = ~np.isnan(codes)
    rows, *counts = together.sum_arrays(
        np.append(float(len(codes)), observed.sum(0).astype(np.float64))
    )[0].tolist()
    most = min(MOST_CELLS, int(SWEEPS * rows) // max(numbers, 1))
    for place, column in enumerate(columns):
        if not isinstance(column, NumberFeatures):
            continue
        if min(counts[place], most) < LEAST_CELLS or column.low == column.high:
            continue
        chosen, order = chosen_rows(observed[:, place], most, seed, 1 + place, together)
        without = codes[chosen]
        without[:, place] = np.nan
        found = model.predicted(without)
        values, std = found.values[:, place], found.deviations[:, place]
        off = np.abs(codes[chosen, place] - values) / std
        parts = together.each(np.column_stack([order, values, std, off]))
        every = np.concatenate(parts)
        _, values, std, off = every[np.argsort(every[:, 0])].T
        at, relative = _profile(values, off)
        left = np.square(std / column.spread)
        columns[place] = replace(
            column,
            at=at,
            relative=relative,
            explained=float(np.clip(1 - np.median(left), LEAST_EXPLAINED, 1)),
        )
    return replace(model, features=Features(tuple(columns)))


def _profile(predictions: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some predictions, and how large errors near them are relative to the mean."""
    order = np.argsort(predictions, kind="stable")
    count, mean = len(order), off.mean()
    if not mean > 0:
        return np.empty(0), np.empty(0)
    near = max(int(NEIGHBORS * count), LEAST_CELLS * 2 // 3)
    sums = np.concatenate([[0.0], np.cumsum(off[order])])
    first = np.clip(np.arange(count) - near // 2, 0, count - near)
    local = sums[first + near] - sums[first]
    relative = (local / mean + PRIOR_CELLS) / (near + PRIOR_CELLS)
    some = np.unique(np.linspace(0, count - 1, KNOTS).astype(int))
    at, which = np.unique(predictions[order][some], return_index=True)
    return at, relative[some][which]


def with_readout(features: Features, held_out: HeldOut) -> Features:
    """Return features that turn means of indicators into calibrated probabilities.

    The logarithms of the probabilities are, up to a constant in each cell, a linear
    combination of `readout_terms`. All columns of levels share its four coefficients,
    which maximize the likelihood of the held-out levels less a ridge penalty toward the
    linear probabilities.

    Parameters
    ----------
    features : Features
    held_out : HeldOut
        With linear probabilities.
    """
    parts = []
    for place, column in enumerate(features.columns):
        if isinstance(column, LevelFeatures) and column.width > 1:
            mine = np.flatnonzero(held_out.columns == place)
            chances = held_out.chances[mine, : column.width]
            truth = held_out.truth[mine].astype(np.int64)
            parts.append((readout_terms(chances, column.shares), truth))
    cells = sum(len(truth) for _, truth in parts)
    if not cells:
        return features
    step = -(-cells // MOST_OF_READOUT)
    readout = _logit([(terms[::step], truth[::step]) for terms, truth in parts])
    return Features(
        tuple(
            replace(column, readout=readout)
            if isinstance(column, LevelFeatures)
            else column
            for column in features.columns
        )
    )


def _logit(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the coefficients of a conditional logit, by Newton's method.

    Each part is a pair: the terms of cells, of shape (cells, levels, 4), and their levels.
    """

    def loss(readout: np.ndarray) -> float:
        total = RIDGE / 2 * float(np.square(readout - LINEAR).sum())
        for terms, truth in parts:
            chances = softmax(terms @ readout)[np.arange(len(truth)), truth]
            total -= float(np.log(np.maximum(chances, 1e-300)).sum())
        return total

    readout, last = LINEAR.copy(), loss(LINEAR)
    for _ in range(30):
        gradient = RIDGE * (readout - LINEAR)
        curvature = RIDGE * np.eye(len(LINEAR))
        for terms, truth in parts:
            chances = softmax(terms @ readout)
            expected = np.einsum("nk,nkf->nf", chances, terms)
            gradient += (expected - terms[np.arange(len(truth)), truth]).sum(0)
            curvature += np.einsum("nk,nkf,nkg->fg", chances, terms, terms)
            curvature -= expected.T @ expected
        step = np.linalg.solve(curvature, gradient)
        while (now := loss(readout - step)) > last and np.abs(step).max() > 1e-9:
            step /= 2
        if now > last - 1e-9 * abs(last):
            break
        readout, last = readout - step, now
    return readout


def calibrated_as(features: Features, other: Features) -> Features:
    """Return features of the same columns with the profiles and the readout of others."""
    columns: list[ColumnFeatures] = []
    for mine, theirs in zip(features.columns, other.columns, strict=True):
        if isinstance(mine, NumberFeatures) and isinstance(theirs, NumberFeatures):
            columns.append(
                replace(
                    mine,
                    at=theirs.at,
                    relative=theirs.relative,
                    explained=theirs.explained,
                )
            )
        elif isinstance(mine, LevelFeatures) and isinstance(theirs, LevelFeatures):
            columns.append(replace(mine, readout=theirs.readout))
    return Features(tuple(columns))


def calibrated(held_out: HeldOut, features: Features) -> HeldOut:
    """Return held-out cells with the predictions of calibrated features.

    Parameters
    ----------
    held_out : HeldOut
        With the predictions of the linear model.
    features : Features
    """
    values, scores = held_out.values.copy(), held_out.scores.copy()
    std, chances = held_out.deviations.copy(), held_out.chances.copy()
    for place, column in enumerate(features.columns):
        mine = np.flatnonzero(held_out.columns == place)
        if isinstance(column, NumberFeatures):
            left = np.square(std[mine] / column.spread)
            relative = column.relative_at(values[mine], left)
            scores[mine] /= relative
            std[mine] *= relative
        elif len(mine):
            part = column.read(chances[mine, : column.width])
            truth = held_out.truth[mine].astype(np.int64)
            chances[mine, : column.width] = part
            values[mine] = part.argmax(1)
            scores[mine] = 1 - part[np.arange(len(mine)), truth]
    return replace(
        held_out, values=values, scores=scores, deviations=std, chances=chances
    )
