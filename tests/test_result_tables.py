"""Tests of one table against simulated ones: by plain loops, and by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from descents.reproduction.tables import (
    alignment_test,
    mean_distances,
    monte_carlo_error,
    rejected_share,
    table_test,
    tail_share,
)


def some_tables(count: int, seed: int = 0) -> np.ndarray:
    """Return accuracies on a lattice, so that many tie."""
    rng = np.random.default_rng(seed)
    return rng.integers(30, 50, (count, 4, 2)) / 50


def test_mean_distances_are_those_of_a_plain_loop() -> None:
    tables, others = some_tables(30), some_tables(20, 1)
    for n, found in enumerate(mean_distances(tables)):
        far = [np.linalg.norm(tables[n] - t) for k, t in enumerate(tables) if k != n]
        assert found == pytest.approx(np.mean(far), rel=1e-12)
    for n, found in enumerate(mean_distances(tables, others)):
        far = [np.linalg.norm(tables[n] - t) for t in others]
        assert found == pytest.approx(np.mean(far), rel=1e-12)


def test_mean_distances_in_chunks_are_the_same(monkeypatch) -> None:
    tables = some_tables(50)
    whole = mean_distances(tables)
    monkeypatch.setattr("descents.statistics.samples.CELLS", 300)
    np.testing.assert_allclose(mean_distances(tables), whole, rtol=1e-14)


def plain_p_values(published, simulated, line):
    """Return the three p-values as their definitions have them, number by number."""
    tables = [published, *simulated]
    count = len(tables)
    failed = [[pair[0] < line for pair in table] for table in tables]
    surprise, short, far = [], [], []
    for table, bad in zip(tables, failed, strict=True):
        total = 0.0
        for k, fails in enumerate(bad):
            same = sum(other[k] == fails for other in failed)
            total -= np.log((same + 0.5) / (count + 1))
        surprise.append(total)
        short.append(sum(max(line - pair[0], 0.0) for pair in table))
        far.append(
            sum(np.sqrt(np.sum((table - other) ** 2)) for other in tables) / (count - 1)
        )

    def upper(values):
        return sum(value >= values[0] - 1e-9 for value in values) / count

    both = min(upper(short), upper([-value for value in short]))
    return upper(far), upper(surprise), min(1.0, 2 * both)


@pytest.mark.parametrize("seed", range(4))
def test_the_p_values_are_those_of_a_plain_loop(seed) -> None:
    published, *simulated = some_tables(60, seed)
    found = table_test(published, np.array(simulated), 0.7)
    expected = plain_p_values(published, simulated, 0.7)
    assert (found.joint, found.pattern, found.shortfall) == pytest.approx(expected)
    assert found.simulated == 59


def test_a_table_of_the_same_kind_is_rejected_as_rarely_as_it_should_be() -> None:
    """Runs share a shuffle's difficulty, as those of one table do."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> np.ndarray:
        hard = rng.normal(0, 0.1, (count, 1, 1))
        return (0.85 + hard + rng.normal(0, 0.1, (count, 5, 2))).clip(0, 1).round(2)

    found = []
    for _ in range(600):
        published, *simulated = draw(100)
        test = table_test(published, np.array(simulated), 0.8)
        found.append((test.joint, test.pattern, test.shortfall))
    for level in (0.05, 0.2):
        share = np.mean(np.array(found) <= level, axis=0)
        error = np.sqrt(level * (1 - level) / 600)
        assert (share <= level + 3 * error).all(), share
        assert share[0] >= level - 3 * error  # the joint test has hardly any ties


def test_power_counts_the_tables_that_the_joint_test_rejects() -> None:
    simulated, other = some_tables(80), some_tables(25, 1) - 0.12
    null = mean_distances(simulated)
    p_values = [
        (1 + sum(null >= np.mean([np.linalg.norm(t - s) for s in simulated]) - 1e-9))
        / 81
        for t in other
    ]
    share = np.mean(np.array(p_values) <= 0.05)
    assert 0 < share < 1
    assert rejected_share(simulated, other) == pytest.approx(share)


def test_alignment_by_all_permutations() -> None:
    rng = np.random.default_rng(3)
    simulated = rng.normal(size=(7, 5, 1)) + np.arange(5.0)[:, None]
    published = rng.normal(size=(5, 1)) + np.array([[0.0], [2], [1], [3], [4]])
    mean = simulated[..., 0].mean(0)
    correlation, p_value = alignment_test(published, simulated, rng, 20_000)
    assert correlation == pytest.approx(np.corrcoef(published[:, 0], mean)[0, 1])
    all_orders = [
        np.corrcoef(order, mean)[0, 1]
        for order in itertools.permutations(published[:, 0])
    ]
    exact = np.mean(np.array(all_orders) >= correlation - 1e-9)
    assert p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))


def test_rows_that_are_all_equal_line_up_with_nothing() -> None:
    found = alignment_test(np.ones((4, 2)), some_tables(9), np.random.default_rng(0))
    assert np.isnan(found[0])
    assert found[1] == 1.0


def test_the_error_of_a_p_value_is_what_repetition_shows() -> None:
    rng = np.random.default_rng(0)
    found = [tail_share(1.0, rng.normal(size=400)) for _ in range(2000)]
    assert monte_carlo_error(float(np.mean(found)), 400) == pytest.approx(
        np.std(found), rel=0.1
    )
