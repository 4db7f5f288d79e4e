"""Comparisons against closed forms and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import energy_distance

from descents.bounds import gaps, subspaces
from descents.bounds.gaps import Reference
from descents.errors import InvalidValueError
from descents.reproduction import agreement
from descents.statistics import confidence, variance

RNG = np.random.default_rng


def test_gap_is_relative_to_the_reference_or_to_rounding() -> None:
    exact = Reference(4.0, "exact", "")
    np.testing.assert_allclose(gaps.gap([4, 5], exact, 100, np.float32), [0, 0.25])
    zero = Reference(0.0, "exact", "")
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(gaps.gap([eps], zero, 2.0, np.float32), [0.5])


def test_a_loss_below_a_promise_is_a_defect() -> None:
    losses = [1.0, 1.0 - 1e-10, 0.5]
    for kind, expected in (
        ("exact", [False, True, True]),
        ("bound", [False, True, True]),
        ("best found", [False, False, False]),
    ):
        found = gaps.below_reference(losses, Reference(1.0, kind, ""), 10.0)
        assert found.tolist() == expected


def test_principal_angles_of_a_planted_turn() -> None:
    for angle in (1e-9, 1e-3, 0.7):
        first = np.eye(5)[:, :2]
        second = first.copy()
        second[:, 0] = np.cos(angle) * np.eye(5)[0] + np.sin(angle) * np.eye(5)[3]
        mixed = second @ RNG(0).normal(size=(2, 2))
        found = subspaces.principal_angles(first, mixed)
        np.testing.assert_allclose(found, [angle, 0], rtol=1e-6, atol=1e-15)


def test_similarity_and_linear_map_recover_what_was_planted() -> None:
    source = RNG(0).normal(size=(40, 3))
    rotation = Rotation.random(random_state=1).as_matrix()
    turned = 2.5 * source @ rotation
    found = subspaces.best_similarity(source, turned)
    np.testing.assert_allclose(found.matrix, 2.5 * rotation, atol=1e-12)
    np.testing.assert_allclose(found.singular_values, 2.5)
    assert found.r_squared == pytest.approx(1, abs=1e-14)
    sheared = source @ np.diag([1.0, 2.0, 4.0])
    linear = subspaces.best_linear_map(source, sheared)
    np.testing.assert_allclose(linear.singular_values, [4, 2, 1])
    assert linear.r_squared == pytest.approx(1, abs=1e-14)
    assert subspaces.best_similarity(source, sheared).r_squared < 0.95


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10))
def test_no_other_rotation_and_scale_fits_better(seed, scale) -> None:
    rng = RNG(seed)
    source, target = rng.normal(size=(2, 15, 3))
    best = subspaces.best_similarity(source, target)
    other = scale * source @ Rotation.random(random_state=seed).as_matrix()
    error = np.square(target - best.aligned).sum()
    assert error <= np.square(target - other).sum() + 1e-12
    assert best.r_squared <= subspaces.best_linear_map(source, target).r_squared + 1e-12


def test_wilson_by_its_formula() -> None:
    z, n, p = 1.959963984540054, 50, 0.2
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = confidence.wilson_interval(10, 50)
    np.testing.assert_allclose(found, [center - half, center + half], rtol=1e-6)


def test_paired_interval_over_groups_covers_as_often_as_it_says() -> None:
    rng = RNG(0)
    covered = 0
    for _ in range(1000):
        groups = np.arange(200) % 10
        first, second = rng.normal(size=(2, 200)) + rng.normal(size=(2, 10))[:, groups]
        _, low, high = confidence.paired_difference_interval(
            first + 0.3, second, groups
        )
        covered += low <= 0.3 <= high
    assert 0.93 <= covered / 1000 <= 0.97


@pytest.mark.parametrize("unbalanced", [False, True])
def test_variance_components_recover_what_was_planted(unbalanced) -> None:
    rng = RNG(4)
    sizes = np.full(400, 20) + (rng.integers(-10, 30, 400) if unbalanced else 0)
    groups = np.repeat(np.arange(400), sizes)
    values = rng.normal(0, 3, 400)[groups] + rng.normal(0, 2, len(groups))
    within, between = variance.variance_components(values, groups)
    assert within == pytest.approx(4, rel=0.05)
    assert between == pytest.approx(9, rel=0.2)


def test_variance_components_of_one_group_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="3 values in 1 groups"):
        variance.variance_components([1.0, 2, 3], [0, 0, 0])


def test_holm_step_by_step() -> None:
    # 0.01 x 4; then max(0.04, 0.02 x 3); then max(0.06, 0.03 x 2); then 0.04 x 1.
    found = confidence.holm([0.04, 0.01, 0.03, 0.02])
    np.testing.assert_allclose(found, [0.06, 0.04, 0.06, 0.06])
    assert confidence.holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def lattice(rng, center, count):
    return (rng.normal(center, 3, (count, 2)).round() + 50) / 100


def test_compatibility_finds_the_setting_and_rejects_the_others() -> None:
    rng = RNG(0)
    groups = np.arange(600) % 20
    points = [lattice(rng, center, 600) for center in (0, 1, 10)]
    found = agreement.compatibility(points[0][:10], points, [groups] * 3, rng)
    assert found.adjusted[0] > 0.05
    assert found.adjusted[2] < 0.01
    assert found.power[2, 0] > 0.99
    assert found.power[0, 1] < 0.6


def test_its_distance_is_the_energy_distance() -> None:
    rng = RNG(1)
    points = np.stack([rng.integers(0, 20, 300) / 20, np.zeros(300)], 1)
    table = points[:10] + np.array([0.1, 0])
    found = agreement.compatibility(
        table, [points], [np.arange(300) % 3], rng, draws=10
    )
    # scipy's is the square root of the same, in one dimension.
    expected = energy_distance(table[:, 0], points[:, 0]) ** 2
    assert found.distances[0] == pytest.approx(expected, rel=1e-9)


def test_its_level_holds_for_a_table_of_a_new_group() -> None:
    """Tables of new points of new groups are rejected no more often than they should."""
    rng = RNG(2)

    def draw(shifts):
        return (rng.normal(shifts[:, None], 3, (len(shifts), 2)).round() + 50) / 100

    rejected = np.zeros(2)
    groups = np.arange(1000) % 20
    for trial in range(300):
        points = draw(rng.normal(0, 1, 20)[groups])
        table = draw(np.full(10, rng.normal(0, 1)))
        found = agreement.compatibility(
            table, [points], [groups], RNG(trial), draws=400
        )
        rejected += found.p_values[0] <= np.array([0.05, 0.01])
    for share, level in zip(rejected / 300, (0.05, 0.01), strict=True):
        assert 0 < share <= level + 3 * np.sqrt(level * (1 - level) / 300)


def test_small_groups_are_drawn_from_with_replacement() -> None:
    rng = RNG(3)
    points = lattice(rng, 0, 40)
    found = agreement.compatibility(points[:10], [points], [np.arange(40) % 20], rng)
    assert 0 < found.p_values[0] <= 1
