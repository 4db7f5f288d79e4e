"""The marginal model over generated tables: of many shapes, units and patterns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from descents import LowRankImputer
from descents.marginal.model import Fitted, fit
from descents.marginal.settings import Settings

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
    ratios, tables = [], []
    for seed in range(first, first + count):
        sums = np.zeros(2)
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
                spread = 1.0 if level_count else values[:, place].std()
                sums += np.array(errors) / spread
        if sums[1]:
            tables.append(sums[0] / sums[1])
    assert np.mean(ratios) < 1.01
    # The error of a table is the mean over its columns, of numbers in standard deviations.
    # A single column is no measure: its only hidden cell may be close to the mean.
    assert np.mean(tables) < 1.01
    assert max(tables) < 1.02


@st.composite
def drawn_tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return a table with missing cells, in any of many units, and its levels."""
    kind = draw(st.sampled_from(["narrow", "wide", "one cell a row", "blocks"]))
    rows = draw(st.integers(1, 8 if kind == "wide" else 30))
    columns = draw(st.integers(10, 25) if kind == "wide" else st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, columns))
    values += draw(st.sampled_from([0.0, 0.3, 3.0])) * rng.normal(size=values.shape)
    levels = np.zeros(columns, dtype=int)
    for place in range(columns):
        unit = 10.0 ** draw(st.integers(-9, 9))
        match draw(st.sampled_from(["number", "constant", "copy", "skewed", "levels"])):
            case "constant":
                values[:, place] = unit
            case "copy":  # of the first column, in another unit
                values[:, place] = unit * values[:, 0]
            case "skewed":
                values[:, place] = unit * np.exp(3 * rng.normal(size=rows))
            case "levels":
                levels[place] = draw(st.integers(1, 4))
                values[:, place] = rng.integers(0, levels[place], rows)
            case _:
                values[:, place] *= unit
    missing = rng.random(values.shape) < draw(st.sampled_from([0.0, 0.2, 0.6, 0.95]))
    if kind == "one cell a row":
        missing = np.arange(columns) != rng.integers(0, columns, rows)[:, None]
    if kind == "blocks":
        missing[: rows // 2, : columns // 2] = True
    # A column without any observed cell is not modeled.
    missing[rng.integers(0, rows, columns), np.arange(columns)] = False
    return np.where(missing, np.nan, values), levels


def few(count: int):
    """Return what runs a test on so many drawn tables."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


@few(15)
@given(drawn_tables())
def test_fills_are_finite_and_in_the_observed_range(
    drawn: tuple[np.ndarray, np.ndarray],
) -> None:
    codes, levels = drawn
    found = fit(codes, levels, Settings())
    cells = found.predicted(codes)
    fills, seen = cells.values, ~np.isnan(codes)
    np.testing.assert_array_equal(fills[seen], codes[seen])
    assert np.isfinite(fills).all()
    assert np.isfinite(cells.deviations).all()
    assert (cells.deviations >= 0).all()
    for place, count in enumerate(levels):
        part, own = fills[:, place], codes[seen[:, place], place]
        if count:
            assert set(part) <= set(range(count))
            if place in cells.probabilities:
                chances = cells.probabilities[place][~seen[:, place]]
                np.testing.assert_allclose(chances.sum(1), 1)
                assert (chances >= 0).all()
        else:
            assert part.min() >= own.min()
            assert part.max() <= own.max()


@few(8)
@given(drawn_tables(), st.data())
def test_fills_change_with_the_units_of_columns(
    drawn: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    codes, levels = drawn
    powers = data.draw(
        st.lists(st.integers(-30, 30), min_size=len(levels), max_size=len(levels))
    )
    # Powers of 2, with which nothing is rounded, so that EM takes the same steps.
    units = np.where(levels > 0, 1.0, 2.0 ** np.array(powers))
    before, after = (
        fit(table, levels, Settings()).predicted(table).values
        for table in (codes, codes * units)
    )
    np.testing.assert_allclose(after, before * units, rtol=1e-9)


@few(8)
@given(drawn_tables())
def test_draws_are_finite_and_keep_what_was_observed(
    drawn: tuple[np.ndarray, np.ndarray],
) -> None:
    codes, _ = drawn
    imputer = LowRankImputer(random_state=0, held_out=0).fit(codes)
    seen = ~np.isnan(codes)
    for table in imputer.sample(codes, 2):
        assert np.isfinite(table).all()
        np.testing.assert_array_equal(table[seen], codes[seen])
