"""What the model says of its own certainty, against known distributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from descents.marginal.calibration import (
    RIDGE,
    _logit,
    calibrated,
    calibrated_as,
    with_readout,
)
from descents.marginal.features import (
    LINEAR,
    Features,
    LevelFeatures,
    NumberFeatures,
    features_of,
    readout_terms,
    softmax,
)
from descents.marginal.held_out import HeldOut
from descents.marginal.intervals import intervals
from descents.marginal.model import Fitted, fit
from descents.marginal.settings import Settings
from descents.marginal.stored import restored, stored
from descents.marginal.tables import TableModel


def growing(seed: int, rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Return a table whose second column varies as the first is large, and the spread."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 4, rows)
    spread = 0.15 * x**2
    return np.column_stack([x, 3 * x + spread * rng.normal(size=rows)]), spread


def test_deviations_follow_the_spread_along_a_column():
    codes, _ = growing(0)
    grid = np.column_stack([np.linspace(1.8, 3.6, 9), np.full(9, np.nan)])
    deviations = fit(codes, np.zeros(2, int)).predicted(grid).deviations[:, 1]
    # A mean over the nearest cells, hence not at the ends.
    relative = deviations / (0.15 * grid[:, 0] ** 2)
    assert (np.abs(relative / np.median(relative) - 1) < 0.25).all(), relative
    assert deviations[-1] > 3 * deviations[0]


def test_intervals_cover_alike_where_little_and_where_much_varies():
    codes, _ = growing(1)
    whole = codes.copy()
    codes[::3, 1] = np.nan
    found = fit(codes, np.zeros(2, int))
    these = intervals(found, codes, 0.9)
    rows = np.flatnonzero(np.isnan(codes[:, 1]))
    held = (these.lower <= whole) & (whole <= these.upper)
    for part in np.array_split(rows[np.argsort(codes[rows, 0])], 3):
        assert abs(held[part, 1].mean() - 0.9) < 0.07  # 3 standard errors
    off = np.abs(found.held_out.truth - found.held_out.values)
    one = 2 * np.quantile(off[found.held_out.columns == 1], 0.9)
    assert np.mean((these.upper - these.lower)[rows, 1]) < 0.85 * one


def test_a_row_of_which_nothing_is_known_has_the_spread_of_the_column():
    codes, _ = growing(2)
    found = fit(codes, np.zeros(2, int))
    column = found.features.columns[1]
    assert column.relative.min() < 0.6
    assert column.relative.max() > 1.4
    empty = found.predicted(np.full((1, 2), np.nan))
    assert empty.deviations[0, 1] == pytest.approx(codes[:, 1].std(), rel=0.02)
    # Halfway, the power of the profile is a half.
    half = 1 - column.explained / 2
    ends = column.at[[0, -1]]
    np.testing.assert_allclose(
        column.relative_at(ends, np.full(2, half)), column.relative[[0, -1]] ** 0.5
    )


def test_short_columns_and_constants_keep_one_deviation():
    rng = np.random.default_rng(3)
    codes = np.column_stack([rng.normal(size=50), np.full(50, 7.0)])
    features = fit(codes, np.zeros(2, int)).features
    assert [len(column.at) for column in features.columns] == [0, 0]


def levels_table(seed: int, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return two numbers and a level by a logit, and the probabilities of the levels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    logits = np.column_stack([2.5 * x[:, 0], 2 * x[:, 1] - 1, np.zeros(rows)])
    chances = softmax(logits)
    level = (rng.random((rows, 1)) > np.cumsum(chances, 1)).sum(1)
    return np.column_stack([x, level]).astype(float), chances


def test_probabilities_of_levels_are_nearer_to_the_truth_than_linear_ones():
    codes, chances = levels_table(0)
    hidden = codes.copy()
    hidden[::4, 2] = np.nan
    found = fit(hidden, np.array([0, 0, 3]))
    linear = tuple(
        replace(one, readout=LINEAR) if isinstance(one, LevelFeatures) else one
        for one in found.features.columns
    )
    plain = replace(found, model=replace(found.model, features=Features(linear)))
    off, errors = [], []
    truth = codes[::4, 2].astype(int)
    for one in (found, plain):
        mine = one.predicted(hidden).probabilities[2][::4]
        np.testing.assert_allclose(mine.sum(1), 1)
        off.append(np.abs(mine - chances[::4]).mean())
        errors.append(np.mean(mine.argmax(1) != truth))
        parts = np.array_split(np.argsort(mine[:, 0]), 5)
        bias = [(mine - chances[::4])[some, 0].mean() for some in parts]
        off.append(np.abs(bias).max())
    assert off[0] < 0.6 * off[2], off
    assert off[1] < 0.7 * off[3], off
    assert errors[0] <= errors[1] + 0.01


def test_the_readout_is_the_best_one():
    rng = np.random.default_rng(1)
    chances = rng.dirichlet([1.0, 2.0, 3.0], 300)
    terms = readout_terms(chances, np.array([0.2, 0.3, 0.5]))
    wanted = softmax(terms @ [0.4, 0.5, 0.3, 1.0])
    truth = (rng.random((300, 1)) > np.cumsum(wanted, 1)).sum(1)
    parts = [(terms[:100], truth[:100]), (terms[100:], truth[100:])]
    found = _logit(parts)

    def loss(readout: np.ndarray) -> float:
        own = softmax(terms @ readout)[np.arange(300), truth]
        return RIDGE / 2 * np.sum((readout - LINEAR) ** 2) - np.log(own).sum()

    best = minimize(loss, LINEAR, tol=1e-10)
    np.testing.assert_allclose(found, best.x, atol=1e-3)
    flat = check_grad(loss, lambda _: np.zeros(4), found, epsilon=1e-5)
    assert flat < 1e-2


def test_without_levels_that_were_held_out_probabilities_stay_linear():
    features = features_of(np.array([[0.0], [1.0], [1.0]]), np.array([2]))
    none = HeldOut(*(np.empty(0, int), *(np.empty(0) for _ in range(5))))
    none = replace(none, chances=np.empty((0, 2)))
    assert with_readout(features, none) is features
    column = features.columns[0]
    assert isinstance(column, LevelFeatures)
    means = np.array([[0.3, 0.7], [-0.2, 1.2]])
    least = np.maximum(means, [1 / 300, 2 / 300])
    np.testing.assert_allclose(
        column.probabilities(means), least / least.sum(1, keepdims=True)
    )


def fitted(**settings: bool) -> tuple[Fitted, np.ndarray]:
    rng = np.random.default_rng(4)
    codes, _ = levels_table(4, 500)
    codes[:, 1] = np.exp(codes[:, 1] + codes[:, 0])
    codes[rng.random(codes.shape) < 0.1] = np.nan
    return fit(codes, np.array([0, 0, 3]), Settings(**settings)), codes


def test_held_out_cells_are_those_of_the_calibrated_model():
    found, _ = fitted()
    held_out = found.held_out
    mine = held_out.columns == 2
    chances, truth = held_out.chances[mine], held_out.truth[mine].astype(int)
    np.testing.assert_array_equal(held_out.values[mine], chances.argmax(1))
    own = chances[np.arange(len(truth)), truth]
    np.testing.assert_allclose(held_out.scores[mine], 1 - own)
    numbers = held_out.columns == 1
    off = np.abs(held_out.truth - held_out.values)[numbers]
    column = found.features.columns[1]
    inside = held_out.values[numbers] > column.low + 0.2 * column.spread
    np.testing.assert_allclose(
        (off / held_out.deviations[numbers])[inside], held_out.scores[numbers][inside]
    )
    # Nothing is calibrated twice.
    plain = features_like(found.features)
    same = calibrated(held_out, plain)
    np.testing.assert_array_equal(same.scores, held_out.scores)
    again = calibrated_as(plain, found.features)
    for one, other in zip(again.columns, found.features.columns, strict=True):
        if isinstance(one, NumberFeatures):
            np.testing.assert_array_equal(one.at, other.at)
            assert one.explained == other.explained
        else:
            np.testing.assert_array_equal(one.readout, other.readout)


def features_like(features: Features) -> Features:
    """Return the features without what calibrates them."""
    return Features(
        tuple(
            LevelFeatures(one.shares)
            if isinstance(one, LevelFeatures)
            else replace(one, at=np.empty(0), relative=np.empty(0), explained=1.0)
            for one in features.columns
        )
    )


def test_a_stored_model_is_calibrated_and_an_earlier_file_opens():
    found, codes = fitted()
    arrays, facts = stored(TableModel((), (), found))
    again = restored(arrays, facts)[0].fitted
    expected = found.predicted(codes)
    for place, chances in again.predicted(codes).probabilities.items():
        np.testing.assert_array_equal(chances, expected.probabilities[place])
    np.testing.assert_array_equal(again.held_out.chances, found.held_out.chances)
    new = ("readout", "at", "relative", "deviations", "chances")
    before = {k: a for k, a in arrays.items() if k.split("/")[-1] not in new}
    for one in facts["features"]:
        one.pop("explained", None)
    earlier = restored(before, facts)[0].fitted
    plain = replace(found.model, features=features_like(found.features))
    wanted = plain.predicted(codes)
    found_now = earlier.model.predicted(codes)
    np.testing.assert_array_equal(found_now.deviations, wanted.deviations)
    np.testing.assert_array_equal(found_now.values, wanted.values)


def test_the_error_of_the_mode_is_not_overstated_for_levels_alike_in_number():
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(20):
        codes = np.column_stack(
            [rng.permutation(np.repeat([0.0, 1.0], 30)) for _ in "ab"]
        )
        score = fit(codes, np.array([2, 2])).scores[0]
        shares.append(score.constant_error)
    # All cells are held out once; by the mode of the others 60% or more were wrong.
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


def test_a_column_that_is_filled_by_constants_has_the_probabilities_of_its_levels():
    rng = np.random.default_rng(6)
    codes = np.column_stack([rng.normal(size=300), rng.integers(0, 3, 300) % 2])
    codes[:9, 1] = codes[9:12, 0] = np.nan
    found = fit(codes, np.array([0, 2]))
    assert found.constant.all()
    cells = found.predicted(codes)
    shares = found.features.columns[1].shares
    np.testing.assert_array_equal(cells.probabilities[1][:9], np.tile(shares, (9, 1)))
    assert (cells.values[:9, 1] == shares.argmax()).all()
    np.testing.assert_allclose(cells.deviations[9:12, 0], np.nanstd(codes[:, 0]))
