"""Intervals of imputed cells: how often they have the hidden cell, and how wide they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from descents.errors import InvalidValueError
from descents.marginal.intervals import intervals
from descents.marginal.model import fit
from descents.marginal.settings import Settings
from descents.marginal.stored import restored, stored
from descents.marginal.tables import TableModel

LEVELS = np.array([0, 0, 3, 0, 0])


def table(seed: int, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Return a table with hidden cells, and what they hold; the last column is noise."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(rows, 2))
    numbers = factor @ rng.normal(size=(2, 3)) + 0.5 * rng.standard_t(4, (rows, 3))
    level = np.digitize(factor[:, 0] + 0.5 * rng.normal(size=rows), [-0.5, 0.5])
    whole = np.column_stack(
        [numbers[:, :2], level, numbers[:, 2] * 1e4, rng.exponential(size=rows)]
    )
    codes = np.where(rng.random(whole.shape) < 0.2, np.nan, whole)
    return codes, whole


def test_hidden_cells_are_covered_as_often_as_requested():
    covered, cells, sizes = 0, 0, []
    by_kind = np.zeros((3, 2))
    for seed in range(3):
        codes, whole = table(seed)
        found = fit(codes, LEVELS, Settings())
        lacking = np.isnan(codes)
        these = intervals(found, codes, 0.9)
        inside = (these.lower <= whole) & (whole <= these.upper)
        rows = np.flatnonzero(lacking[:, 2])
        inside[rows, 2] = these.sets[2][rows, whole[rows, 2].astype(int)]
        covered += inside[lacking].sum()
        cells += lacking.sum()
        for kind, places in enumerate(([0, 1, 3], [2], [4])):
            part = lacking[:, places]
            by_kind[kind] += inside[:, places][part].sum(), part.sum()
        sizes.append(these.sets[2][rows].sum(1).mean())
        assert not these.sets[2][~lacking[:, 2]].any()
        assert np.isnan(these.lower[~lacking]).all()
    assert abs(covered / cells - 0.9) < 0.025  # 1500 cells of three fits
    shares = by_kind[:, 0] / by_kind[:, 1]
    assert (abs(shares - 0.9) < 0.05).all(), shares
    assert 1 < np.mean(sizes) < 2.5


def test_rows_of_which_more_is_known_have_narrower_intervals():
    codes, _ = table(3)
    found = fit(codes, LEVELS, Settings())
    most = codes[~np.isnan(codes[:, 1:]).any(1)].copy()
    most[:, 0] = np.nan
    few = np.vstack([most, np.full((1, 5), np.nan)])
    these = intervals(found, few, 0.8)
    widths = these.upper[:, 0] - these.lower[:, 0]
    # They also depend on where in the column the prediction is.
    assert widths[:-1].mean() < 0.8 * widths[-1]
    assert (widths[:-1] < widths[-1]).all()
    wider = intervals(found, few, 0.95)
    assert (wider.upper - wider.lower >= these.upper - these.lower)[:, [0, 1, 3]][
        -1
    ].all()


@pytest.mark.parametrize("limited", [True, False])
def test_what_is_filled_in_is_always_inside(limited):
    codes, _ = table(4, 120)
    codes[0] = np.nan
    codes = np.column_stack([codes, np.full(120, 7.0)])
    codes[:5, 5] = np.nan
    levels = np.append(LEVELS, 0)
    found = fit(codes, levels, Settings())
    these = intervals(found, codes, 0.5, limited=limited)
    values = found.predicted(codes, limited=limited).values
    lacking = np.isnan(codes)
    numbers = lacking & (levels == 0)
    assert (these.lower[numbers] <= values[numbers]).all()
    assert (values[numbers] <= these.upper[numbers]).all()
    rows = np.flatnonzero(lacking[:, 2])
    assert these.sets[2][rows, values[rows, 2].astype(int)].all()
    assert (these.upper[:5, 5] == 7).all()
    assert (these.lower[:5, 5] == 7).all()


def test_too_few_cells_for_a_coverage_are_refused():
    rng = np.random.default_rng(5)
    codes = rng.normal(size=(8, 2))
    codes[0, 0] = np.nan
    with pytest.raises(InvalidValueError, match=r"0\.999 needs 999 held-out cells"):
        intervals(fit(codes, np.zeros(2, int), Settings()), codes, 0.999)


def test_a_stored_model_is_the_same_model():
    codes, _ = table(6, 80)
    found = fit(codes, LEVELS, Settings())
    model = TableModel((), (), found)
    again, resampled = restored(*stored(model, [found.model.gaussian]))
    expected = found.predicted(codes)
    for fitted in (again.fitted, found):
        cells = fitted.predicted(codes)
        np.testing.assert_array_equal(cells.values, expected.values)
        np.testing.assert_array_equal(cells.deviations, expected.deviations)
        np.testing.assert_array_equal(fitted.quantiles(0.9), found.quantiles(0.9))
    np.testing.assert_array_equal(resampled[0].mean, found.model.gaussian.mean)
    assert again.fitted.scores == found.scores
    assert again.fitted.runs.losses == found.runs.losses


def rows_without_cells(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a table, what its holes hold, and the rows whose numbers are all missing."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=300)
    level = np.digitize(z, [-0.45, 0.45])
    whole = np.column_stack([z[:, None] + 0.05 * rng.normal(size=(300, 2)), level])
    blank = rng.random(300) < 0.1
    codes = whole.copy()
    codes[blank, :2] = np.nan
    codes[rng.random(300) < 0.3, 2] = np.nan
    return codes, whole, blank


def test_rows_of_which_less_is_known_than_of_the_held_out_ones_are_covered():
    inside, cells, levels = [], [], []
    for seed in range(3):
        codes, whole, blank = rows_without_cells(seed)
        found = intervals(fit(codes[:, :2], np.zeros(2, int)), codes[:, :2], 0.9)
        part = (found.lower <= whole[:, :2]) & (whole[:, :2] <= found.upper)
        inside += list(part[blank].ravel())
        cells += list((found.upper - found.lower)[blank].ravel())
        sets = intervals(fit(codes, np.array([0, 0, 3])), codes, 0.9).sets[2]
        levels += list(sets[blank & np.isnan(codes[:, 2])].sum(1))
    assert np.mean(inside) > 0.8  # it was 0.5
    assert abs(np.mean(cells) - 3.29) < 0.4
    assert levels == [3] * len(levels)  # three equally frequent levels


def test_models_without_the_deviations_of_held_out_cells_have_intervals():
    codes, _, _ = rows_without_cells(0)
    found = fit(codes, np.array([0, 0, 3]))
    assert found.held_out is not None
    less = replace(
        found.held_out, deviations=np.empty(0), chances=np.empty((0, 0))
    )  # as versions before stored them
    these = intervals(replace(found, held_out=less), codes, 0.9)
    assert np.isfinite(these.upper[np.isnan(codes[:, 0]), 0]).all()
