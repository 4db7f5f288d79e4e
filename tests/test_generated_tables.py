"""The marginal model over generated tables: of many shapes, units and patterns."""

from __future__ import annotations

import numpy as np
import pytest

from descents.marginal.model import Fitted, Settings, fit

KINDS = ["narrow", "wide", "one cell a row", "blocks", "collinear", "noise", "mixed", "skewed"]  # fmt: skip


def generated(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a table with its truth, which cells are missing, and its levels."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    rows, columns = int(rng.integers(5, 80)), int(rng.integers(1, 12))
    if kind == "wide":
        rows, columns = int(rng.integers(4, 15)), int(rng.integers(20, 80))
    rank = int(rng.integers(1, 4))
    values = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    values += rng.choice([0.01, 0.3, 1.0]) * rng.normal(size=values.shape)
    levels = np.zeros(columns, dtype=int)
    if kind == "noise":
        values = rng.normal(size=values.shape)
    if kind == "collinear":
        values[:] = values[:, :1]
    if kind == "skewed":
        values = np.exp(2 * values)
    missing = rng.random(values.shape) < rng.choice([0.1, 0.3, 0.6])
    if kind == "one cell a row":
        missing = np.arange(columns) != rng.integers(0, columns, rows)[:, None]
    if kind == "blocks":
        missing[: rows // 2, : columns // 2] = True
    values = values * 10.0 ** rng.integers(-9, 10, columns) + rng.choice([0.0, 100.0])
    if kind == "mixed":
        for place in range(0, columns, 2):
            cuts = np.quantile(values[:, place], [0.4, 0.7])
            values[:, place] = np.searchsorted(cuts, values[:, place])
            levels[place] = 3
        values[:, -1] = 7.0 if not levels[-1] else values[:, -1]  # a constant
    # Every column keeps a cell.
    missing[rng.integers(0, rows, columns), np.arange(columns)] = False
    return values, missing, levels


def filled(seed: int) -> tuple[Fitted, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    values, missing, levels = generated(seed)
    codes = np.where(missing, np.nan, values)
    found = fit(codes, levels, Settings(seed=seed))
    return found, found.predicted(codes).values, codes, values, levels


SLOW = [pytest.param(first, 32, marks=pytest.mark.slow) for first in range(8, 200, 32)]


@pytest.mark.parametrize(("first", "count"), [(0, 8), *SLOW])
def test_fills_are_in_the_observed_range_and_no_worse_than_means(
    first: int, count: int
) -> None:
    ratios = []
    for seed in range(first, first + count):
        _, fills, codes, values, levels = filled(seed)
        assert np.isfinite(fills).all()
        seen = ~np.isnan(codes)
        np.testing.assert_array_equal(fills[seen], codes[seen])
        for place, level_count in enumerate(levels):
            own = codes[seen[:, place], place]
            part, truth = (x[~seen[:, place], place] for x in (fills, values))
            if not len(part):
                continue
            assert part.min() >= own.min() or level_count
            assert part.max() <= own.max() or level_count
            if level_count:
                assert set(part) <= set(range(level_count))
                mode = np.bincount(own.astype(int)).argmax()
                errors = np.mean(part != truth), np.mean(mode != truth)
            else:
                off = np.square(part - truth), np.square(own.mean() - truth)
                errors = tuple(float(np.sqrt(np.mean(x))) for x in off)
            if errors[1] > 1e-12 * np.abs(values[:, place]).max():
                ratios.append(min(errors[0] / errors[1], 10.0))
    assert np.mean(ratios) < 1.01
