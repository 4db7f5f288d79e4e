"""Which rows a start trains on, and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from descents import Network
from descents.errors import InvalidValueError
from descents.networks.batches import Batches
from descents.networks.splits import random_splits, stratified_folds, stratified_splits
from descents.optim.problem import losses_and_gradients

shapes = st.integers(2, 30).flatmap(
    lambda rows: st.tuples(
        st.just(rows),
        st.lists(st.sets(st.integers(0, rows - 1), min_size=1), min_size=1, max_size=4),
        st.integers(1, rows + 3),
    )
)


@settings(deadline=None, max_examples=60)
@given(shapes, st.integers(0, 2**70), st.integers(0, 3))
def test_every_epoch_goes_through_the_rows_of_the_split(shape, seed, epoch) -> None:
    rows, splits, batch_size = shape
    splits = [sorted(split) for split in splits]
    batches = Batches(rows, splits=splits, batch_size=batch_size, seed=seed)
    starts = torch.arange(5)
    longest = max(len(split) for split in splits)
    size = min(batch_size, longest)
    count = int(np.ceil(longest / size))
    assert batches.steps_in_epoch == count
    ragged = len({len(split) for split in splits}) > 1
    width = int(np.ceil(longest / count)) if ragged else size
    fewest = []
    seen: list[list[int]] = [[] for _ in range(5)]
    for place in range(batches.steps_in_epoch):
        step = epoch * batches.steps_in_epoch + place
        found, weights = batches.at(starts, step)
        last = place == count - 1 and not ragged
        assert found.shape == (5, longest - place * size if last else width)
        for k in range(5):
            counted = slice(None) if weights is None else weights[k] > 0
            if weights is not None:
                assert set(weights[k].tolist()) <= {0.0, 1.0}
            share = len(splits[k % len(splits)]) / count
            in_batch = len(found[k][counted])
            if ragged:
                assert in_batch in {1, int(share), int(np.ceil(share))} - {0}
            fewest.append(in_batch)
            seen[k] += found[k][counted].tolist()
    assert min(fewest) == batches.fewest
    for k in range(5):
        own = splits[k % len(splits)]
        assert sorted(set(seen[k])) == own
        assert len(seen[k]) == max(len(own), count if ragged else 0)
        # The order is the start's own, whoever else is asked about.
        alone = Batches(rows, splits=splits, batch_size=batch_size, seed=seed)
        first, weights = alone.at(torch.tensor([k]), epoch * count)
        mine = first[0] if weights is None else first[0][weights[0] > 0]
        assert seen[k][: len(mine)] == mine.tolist()


def test_orders_differ_between_starts_epochs_and_seeds() -> None:
    orders = set()
    for seed in (0, 1):
        batches = Batches(40, batch_size=40, seed=seed)
        for epoch in range(3):
            rows, _ = batches.at(torch.arange(4), epoch)
            orders |= {tuple(order) for order in rows.tolist()}
    assert len(orders) == 2 * 3 * 4


def test_every_row_is_as_often_first() -> None:
    batches = Batches(5, batch_size=2, seed=3)
    first = batches.at(torch.arange(5000), 0)[0][:, 0]
    counts = np.bincount(first.numpy(), minlength=5)
    # Four standard deviations of a binomial of 5000 and 1/5.
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(5000 * 0.2 * 0.8)


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    batches = Batches(11, splits=[range(7), range(3, 11)], batch_size=3, seed=1)
    starts = torch.arange(6)
    there = [batches.at(starts, step)[0] for step in range(9)]
    for step in (8, 0, 4, 4, 7):
        assert torch.equal(batches.at(starts.clone(), step)[0], there[step])


def test_weights_go_with_their_rows() -> None:
    weights = np.array([0.5, 2.0, 3.0, 0.0, 7.0])
    batches = Batches(5, splits=[[0, 2, 4], [1, 3]], weights=weights, batch_size=2)
    for step in range(6):
        rows, counts = batches.at(torch.arange(4), step)
        for k in (0, 2):  # two of its three rows, or one
            here = [1.0, float(step % 2)]
            np.testing.assert_array_equal(counts[k], weights[rows[k]] * here)
        for k in (1, 3):  # one of its two rows, and what fills up
            np.testing.assert_array_equal(counts[k], weights[rows[k]] * [1.0, 0.0])
    assert torch.equal(
        batches.counted(torch.tensor([1])), torch.tensor([[1.0, 1.0, 0.0]]).double()
    )


def test_every_step_has_a_gradient_for_the_shorter_split() -> None:
    X = np.random.default_rng(0).normal(size=(12, 2))
    splits = [range(12), range(3), range(1)]
    network = Network(X, np.arange(12) % 2, [4], splits=splits, batch_size=2)
    points, starts = network.points(range(3), 0), torch.arange(3)
    for step in range(6):
        losses, gradients = losses_and_gradients(network, points, starts, step)
        assert (losses > 0).all()
        assert (gradients["bias2"].norm(dim=1) > 0).all()


def test_held_out_rows_are_the_others() -> None:
    batches = Batches(6, splits=[[5, 0], [1, 2, 3], range(6)])
    rows, counted = batches.held_out(torch.arange(4))
    found = [sorted(r[c > 0].tolist()) for r, c in zip(rows, counted, strict=True)]
    assert found == [[1, 2, 3, 4], [0, 4, 5], [], [1, 2, 3, 4]]
    assert batches.any_held_out
    assert not Batches(6).any_held_out


groups = st.lists(st.integers(0, 4), min_size=2, max_size=80).map(np.array)


@settings(deadline=None, max_examples=100)
@given(groups, st.floats(0.05, 0.9), st.integers(0, 50))
def test_stratified_splits_keep_the_shares(labels, share, split) -> None:
    (training,) = stratified_splits(labels, share, [split], seed=2)
    assert (np.diff(training) > 0).all()
    out = np.setdiff1d(np.arange(len(labels)), training)
    for label in np.unique(labels):
        count = (labels == label).sum()
        held = (labels[out] == label).sum()
        assert held < count
        assert held <= np.ceil(share * count)
        if count > 1 / (1 - share):  # else one row must stay for training
            assert held >= np.floor(share * count) - 1
    assert len(out) <= share * len(labels) + 0.5 + 1e-9
    again = stratified_splits(labels, share, [7, split], seed=2)[1]
    np.testing.assert_array_equal(training, again)


def test_stratified_shares_add_up_in_a_balanced_table() -> None:
    labels = np.repeat(np.arange(3), [50, 30, 20])
    for training in stratified_splits(labels, 0.25, range(20), seed=0):
        assert len(training) == 75
        counts = np.bincount(labels[training])
        assert np.abs(counts - [37.5, 22.5, 15]).max() <= 1


def test_many_small_groups_take_nothing_from_a_large_one() -> None:
    labels = np.array([*range(10), *[10] * 10])
    (training,) = stratified_splits(labels, 0.5, [0], seed=0)
    assert (labels[training] == 10).sum() == 5


@settings(deadline=None, max_examples=100)
@given(groups, st.integers(2, 6))
def test_stratified_folds_hold_every_row_out_once(labels, count) -> None:
    if count > len(labels):
        return
    folds = stratified_folds(labels, count, seed=9)
    out = [np.setdiff1d(np.arange(len(labels)), fold) for fold in folds]
    np.testing.assert_array_equal(np.sort(np.concatenate(out)), np.arange(len(labels)))
    sizes = [len(part) for part in out]
    assert max(sizes) - min(sizes) <= 1
    for label in np.unique(labels):
        held = [(labels[part] == label).sum() for part in out]
        assert max(held) - min(held) <= 1


def test_random_splits_are_each_a_function_of_their_number() -> None:
    many = random_splits(50, 30, range(10), seed=4)
    assert all(len(set(split)) == 30 for split in many.tolist())
    np.testing.assert_array_equal(random_splits(50, 30, [7], seed=4)[0], many[7])
    assert len({tuple(split) for split in many.tolist()}) == 10


@pytest.mark.parametrize(
    "splits", [3, [], [[]], [[0, [1]]], [["a"]], [[0.5]], [[True]]]
)
def test_wrong_splits_are_refused(splits) -> None:
    with pytest.raises(InvalidValueError, match="splits are not lists of whole numb"):
        Batches(4, splits=splits)
    with pytest.raises(InvalidValueError, match="a row twice or outside 0 to 3"):
        Batches(4, splits=[[0, -1]])
