"""Layouts of cells: the same numbers from each, and the gradient by two routes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import descents
from descents import Alternating, Factorization, GradientDescent, Problem, Runs, Stop
from descents.cells.base import Cells
from descents.cells.complete import Complete
from descents.cells.dense import Dense
from descents.cells.observed import cells
from descents.cells.sparse import Sparse
from descents.errors import InvalidValueError
from descents.losses import Huber, Squared, get_loss


def descend(problem: Problem, starts, **options) -> Runs:
    """Descend in chunks no wider than asked for: a whole one is 256 starts."""
    count = starts if isinstance(starts, int) else len(starts)
    return descents.descend(problem, starts, **{"width": count, **options})


def made(name: str, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Return values of a loss's domain, none of them zero but for labels."""
    generator = np.random.default_rng(seed)
    if name == "logistic":
        return (generator.random((rows, columns)) < 0.5).astype(float)
    if name in ("poisson", "kl"):
        return generator.poisson(2.0, (rows, columns)) + 1.0
    if name in ("categorical", "ordinal"):
        return generator.integers(0, 3, (rows, columns)).astype(float)
    return generator.normal(size=(rows, columns)) + 0.5


def stored(table: np.ndarray, mask: np.ndarray) -> scipy.sparse.csr_array:
    """Return a sparse table of the cells in a mask, zeros among them stored too."""
    rows, columns = np.nonzero(mask)
    return scipy.sparse.csr_array(
        (table[rows, columns], (rows, columns)), shape=table.shape
    )


def factors(
    found: Cells, rank: int, starts: int = 2, seed: int = 1, *, positive: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    left = generator.normal(size=(starts, found.shape[0], rank))
    right = generator.normal(size=(starts, found.coordinates, rank))
    cuts = found.cuts + 0.1 * generator.normal(size=(starts, found.cut_count))
    if positive:
        left, right = np.abs(left) + 0.1, np.abs(right) + 0.1
    return torch.tensor(left), torch.tensor(right), torch.tensor(cuts)


def dense(value) -> np.ndarray:
    return value.toarray() if hasattr(value, "toarray") else value


def all_the_same(
    one: Cells, other: Cells, rank: int = 2, *, positive: bool = False
) -> None:
    """Assert that two layouts answer all that is asked of them alike."""
    left, right, cuts = factors(one, rank, positive=positive)
    near = {"rtol": 1e-10, "atol": 1e-10}
    assert one.observed == other.observed
    np.testing.assert_array_equal(one.row_counts, other.row_counts)
    np.testing.assert_array_equal(one.column_counts, other.column_counts)
    # A best constant need not be the only one: of two far values, Huber's loss is the
    # same anywhere between.
    np.testing.assert_allclose(
        one.constants_loss(), other.constants_loss(), rtol=1e-9, atol=1e-9
    )
    losses = [found.losses(left, right, cuts) for found in (one, other)]
    torch.testing.assert_close(*losses, **near)
    if one.majorized:
        looks = [found.look(left, right, cuts, 0) for found in (one, other)]
        torch.testing.assert_close(looks[0].losses, losses[0], **near)
        torch.testing.assert_close(looks[1].losses, losses[0], **near)
        for side, factor in (("rows", right), ("columns", left)):
            pairs = [
                found.normal(look, side, factor)
                for found, look in zip((one, other), looks, strict=True)
            ]
            length = one.shape[0] if side == "rows" else one.coordinates
            grams = [gram.expand(-1, length, -1, -1) for gram, _ in pairs]
            torch.testing.assert_close(*grams, **near)
            torch.testing.assert_close(pairs[0][1], pairs[1][1], **near)
        moved = [
            found.descent(look, left, right)
            for found, look in zip((one, other), looks, strict=True)
        ]
        torch.testing.assert_close(*moved, **near)
    if one.blocks[0].loss.name == "kl":
        for side in ("rows", "columns"):
            first, second = (f.ratios(side, left, right) for f in (one, other))
            for a, b in zip(first, second, strict=True):
                torch.testing.assert_close(a, b, **near)
    slopes = [found.slopes(left[0], right[0], cuts[0]) for found in (one, other)]
    np.testing.assert_allclose(dense(slopes[0]), dense(slopes[1]), **near)
    if one.blocks[0].loss.has_conjugate:
        small = [slope * 1e-3 for slope in slopes]
        values = [f.conjugates(s) for f, s in zip((one, other), small, strict=True)]
        assert values[0] == pytest.approx(values[1], rel=1e-10)


SPARSE = {
    "squared": Squared(),
    "huber": Huber(0.6),
    "logistic": get_loss("logistic"),
    "poisson": get_loss("poisson"),
    "kl": get_loss("kl"),
}


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("weighted", [False, True])
@settings(deadline=None, max_examples=8)
@given(rows=st.integers(1, 8), columns=st.integers(1, 7), seed=st.integers(0, 999))
def test_holes_are_as_entries_that_are_not_stored(
    name, weighted, rows, columns, seed
) -> None:
    generator = np.random.default_rng(seed)
    table = made(name, rows, columns, seed)
    mask = generator.random(table.shape) < 0.6
    mask[0, 0] = True
    weights = heavy = None
    if weighted:
        weights = generator.uniform(0.2, 2, table.shape)
        heavy = stored(weights, mask)
    holed = cells(np.where(mask, table, np.nan), SPARSE[name], weights=weights)
    sparse = cells(stored(table, mask), SPARSE[name], weights=heavy)
    assert isinstance(sparse, Sparse)
    if isinstance(holed, Complete):  # no hole was drawn
        assert mask.all()
        return
    assert isinstance(holed, Dense)
    all_the_same(holed, sparse, positive=name == "kl")
    # A weight of zero is a hole too.
    zeros = np.where(mask, 1.0 if weights is None else weights, 0.0)
    zeroed = cells(table, SPARSE[name], weights=zeros)
    if isinstance(zeroed, Dense):
        all_the_same(holed, zeroed, positive=name == "kl")


def test_absolute_of_holes_is_as_that_of_entries() -> None:
    table = made("absolute", 9, 5)
    mask = np.random.default_rng(2).random(table.shape) < 0.7
    holed = cells(np.where(mask, table, np.nan), "absolute")
    sparse = cells(stored(table, mask), "absolute")
    left, right, cuts = factors(holed, 2)
    torch.testing.assert_close(
        holed.losses(left, right, cuts), sparse.losses(left, right, cuts)
    )
    slopes = [dense(f.slopes(left[0], right[0], cuts[0])) for f in (holed, sparse)]
    np.testing.assert_array_equal(*slopes)
    np.testing.assert_array_equal(holed.offsets, sparse.offsets)


def test_stored_nan_and_weights_of_zero_are_holes_in_a_sparse_table() -> None:
    table = made("squared", 6, 4)
    mask = np.random.default_rng(3).random(table.shape) < 0.7
    entries = stored(np.where(np.arange(4) == 1, np.nan, table), mask)
    weights = stored(np.where(np.arange(4) == 2, 0.0, 1.5) * np.ones((6, 1)), mask)
    found = cells(entries, weights=weights)
    kept = mask & ~np.isin(np.arange(4), [1, 2])
    assert found.observed == kept.sum()
    all_the_same(
        found, cells(np.where(kept, table, np.nan), weights=np.full((6, 4), 1.5))
    )


@settings(deadline=None, max_examples=15)
@given(rows=st.integers(1, 8), columns=st.integers(1, 7), seed=st.integers(0, 999))
def test_a_complete_table_is_as_one_of_weights_of_one(rows, columns, seed) -> None:
    table = made("squared", rows, columns, seed)
    whole = cells(table)
    assert isinstance(whole, Complete)
    weighted = Dense(table, np.ones(table.shape), whole.blocks)
    all_the_same(whole, weighted)


@pytest.mark.parametrize("name", ["squared", "kl"])
@settings(deadline=None, max_examples=15)
@given(rows=st.integers(1, 8), columns=st.integers(1, 7), seed=st.integers(0, 999))
def test_entries_that_are_zeros_are_as_the_dense_table(
    name, rows, columns, seed
) -> None:
    table = made(name, rows, columns, seed)
    table *= np.random.default_rng(seed).random(table.shape) < 0.5
    positive = name == "kl"
    zeros = cells(scipy.sparse.csr_array(table), name, sparse="zero")
    whole = cells(table, name)
    assert isinstance(zeros, Complete)
    left, right, cuts = factors(whole, 2, positive=positive)
    near = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(
        zeros.losses(left, right, cuts), whole.losses(left, right, cuts), **near
    )
    np.testing.assert_allclose(zeros.offsets, whole.offsets, atol=1e-12)
    assert zeros.observed == whole.observed
    assert zeros.constants_loss() == pytest.approx(whole.constants_loss(), abs=1e-9)
    for offsets in ("none", "columns"):
        if positive and offsets == "columns":
            continue
        constraint = "nonnegative" if positive else None
        spreads = [
            Factorization(f, 1, offsets=offsets, constraint=constraint).spread()
            for f in (zeros, whole)
        ]
        np.testing.assert_allclose(*spreads, rtol=1e-9, atol=1e-12)
    if positive:
        for side in ("rows", "columns"):
            first, second = (f.ratios(side, left, right) for f in (zeros, whole))
            for a, b in zip(first, second, strict=True):
                torch.testing.assert_close(a, b, **near)
        return
    looks = [found.look(left, right, cuts, 0) for found in (zeros, whole)]
    torch.testing.assert_close(looks[0].losses, looks[1].losses, **near)
    for side, factor in (("rows", right), ("columns", left)):
        pairs = [
            f.normal(k, side, factor)
            for f, k in zip((zeros, whole), looks, strict=True)
        ]
        torch.testing.assert_close(*[gram for gram, _ in pairs], **near)
        torch.testing.assert_close(*[wanted for _, wanted in pairs], **near)
    torch.testing.assert_close(
        *[
            f.descent(k, left, right)
            for f, k in zip((zeros, whole), looks, strict=True)
        ],
        **near,
    )


MIXED = ["squared", "categorical", "absolute", "logistic", Huber(0.5), "squared"]


def mixed(rows: int, seed: int) -> np.ndarray:
    names = ["squared", "categorical", "absolute", "logistic", "huber", "squared"]
    return np.concatenate(
        [made(name, rows, 1, seed + k) for k, name in enumerate(names)], 1
    )


@pytest.mark.parametrize(
    "kind", ["squared", "huber", "logistic", "categorical", "mixed"]
)
@settings(deadline=None, max_examples=10)
@given(
    rows=st.integers(2, 8),
    share=st.floats(0.3, 1),
    weighted=st.booleans(),
    scaled=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_gradient_by_autograd_is_that_of_the_quadratic(
    kind, rows, share, weighted, scaled, seed
) -> None:
    generator = np.random.default_rng(seed)
    loss = {"huber": Huber(0.6), "mixed": MIXED}.get(kind, kind)
    table = mixed(rows, seed) if kind == "mixed" else made(kind, rows, 6, seed)
    mask = generator.random(table.shape) < share
    mask[0] = True
    weights = generator.uniform(0.2, 2, table.shape) if weighted else None
    found = cells(
        np.where(mask, table, np.nan),
        loss,
        weights=weights,
        scales=scaled,
        levels=[3] * 6,
    )
    left, right, cuts = factors(found, 2, seed=seed)
    step = 10**4  # the quadratic of absolute loss is smoothed by next to nothing
    look = found.look(left, right, cuts, step)
    leaves = left.clone().requires_grad_(), right.clone().requires_grad_()
    losses = found.losses(*leaves, cuts)
    torch.testing.assert_close(look.losses, losses.detach(), rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(losses.sum(), leaves)
    size = float(torch.cat([g.abs().flatten() for g in expected]).max())
    near = {"rtol": 1e-8, "atol": (1e-4 if kind == "mixed" else 1e-9) * size}
    for side, this, other, gradient in (
        ("rows", left, right, expected[0]),
        ("columns", right, left, expected[1]),
    ):
        gram, wanted = found.normal(look, side, other)
        implied = 2 * ((gram @ this[..., None])[..., 0] - wanted)
        torch.testing.assert_close(implied, gradient, **near)
    downhill = found.descent(look, left, right)
    torch.testing.assert_close(-downhill, expected[1], **near)
    slopes = found.slopes(left[0], right[0], cuts[0])
    by_slopes = torch.tensor(slopes) @ right[0]
    torch.testing.assert_close(by_slopes, expected[0][0], rtol=1e-9, atol=1e-11 * size)
    assert (slopes[~mask[:, found.coordinate_columns]] == 0).all()


def test_losses_are_those_of_a_double_loop() -> None:
    table = np.concatenate([mixed(7, 0), made("ordinal", 7, 2, 9)], 1)
    each = [*MIXED, "ordinal", "poisson"]
    generator = np.random.default_rng(4)
    mask, weights = generator.random((7, 8)) < 0.7, generator.uniform(0.1, 2, (7, 8))
    found = cells(np.where(mask, table, np.nan), each, weights=weights)
    left, right, cuts = factors(found, 3)
    predictions = left @ right.mT
    expected, places = np.zeros(2), found.coordinate_columns
    for s in range(2):
        for i in range(7):
            for j in range(8):
                if not mask[i, j]:
                    continue
                loss, z = get_loss(each[j]), predictions[s, i, places == j]
                x = torch.tensor(table[i, j])
                if loss.name == "categorical":
                    value = loss(z[None], x[None])[0]
                elif loss.name == "ordinal":
                    value = loss(z[:, None], x[None, None], cuts=cuts[s, None])[0, 0]
                else:
                    value = loss(z, x[None])[0]
                expected[s] += weights[i, j] * float(value)
    np.testing.assert_allclose(found.losses(left, right, cuts), expected, rtol=1e-12)
    one_by_one = found.each(left[0], right[0], cuts[0])
    np.testing.assert_array_equal(np.isnan(one_by_one), ~mask)
    assert np.nansum(one_by_one * weights) == pytest.approx(expected[0], rel=1e-12)
    names = [loss.name for loss in found.losses_of_columns]
    assert names == [get_loss(loss).name for loss in each]


@pytest.mark.parametrize("name", ["squared", "huber", "logistic", "poisson"])
def test_the_conjugates_and_the_loss_meet_at_the_slopes(name) -> None:
    # Fenchel: f(z) + f*(f'(z)) = z f'(z), with weights and holes.
    generator = np.random.default_rng(5)
    table = made(name, 8, 5)
    mask = generator.random(table.shape) < 0.7
    weights = generator.uniform(0.2, 2, table.shape)
    loss = SPARSE[name]
    for found in (
        cells(np.where(mask, table, np.nan), loss, weights=weights),
        cells(stored(table, mask), loss, weights=stored(weights, mask)),
    ):
        left, right, cuts = factors(found, 2)
        slopes = found.slopes(left[0], right[0], cuts[0])
        product = float((dense(slopes) * (left[0] @ right[0].mT).numpy()).sum())
        total = float(found.losses(left, right, cuts)[0]) + found.conjugates(slopes)
        assert total == pytest.approx(product, rel=1e-10)
        other, another, _ = factors(found, 2, seed=99)
        away = float((dense(slopes) * (other[0] @ another[0].mT).numpy()).sum())
        value = float(found.losses(other, another, cuts)[0]) + found.conjugates(slopes)
        assert value >= away - 1e-9


def test_scaled_columns_cost_as_much_as_they_have_cells() -> None:
    table = mixed(40, 0) * np.array([100.0, 1, 0.01, 1, 5, 1])
    table[::3, 0] = np.nan
    found = cells(table, MIXED, scales=True)
    left = torch.ones(40, 1, dtype=torch.float64)
    right = torch.tensor(found.offsets)[:, None]
    each = found.each(left, right, torch.zeros(0))
    np.testing.assert_allclose(
        np.nansum(each * found.scales, 0), found.column_counts, rtol=1e-9
    )
    again = cells(table, MIXED, scales=found.scales, units=found.units)
    np.testing.assert_array_equal(again.weights, found.weights)


def test_constants_are_the_best_ones() -> None:
    table = np.concatenate([mixed(30, 1), made("ordinal", 30, 1, 9)], 1)
    found = cells(table, [*MIXED, "ordinal"])
    best = found.constants_loss()
    generator = np.random.default_rng(6)
    left = torch.ones(1, 30, 1, dtype=torch.float64)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(20):
            moved = found.offsets + size * generator.normal(size=found.coordinates)
            cuts = found.cuts + size * generator.normal(size=found.cut_count)
            value = found.losses(
                left, torch.tensor(moved)[None, :, None], torch.tensor(cuts)[None]
            )
            assert float(value) >= best * (1 - 1e-6)


@pytest.mark.parametrize("loss", ["squared", Huber(1.0)])
def test_a_large_sparse_table_is_never_made_dense(loss) -> None:
    generator = np.random.default_rng(7)
    rows, columns, count = 20_000, 10_000, 50_000
    places = generator.integers(0, rows, count), generator.integers(0, columns, count)
    values = generator.normal(size=count)
    table = scipy.sparse.coo_array((values, places), shape=(rows, columns)).tocsr()
    tracemalloc.start()
    problem = Factorization(cells(table, loss), 3, initialization="normal")
    runs = descend(problem, 1, steps=Alternating(), stop=Stop(3))
    slower = descend(problem, 1, steps=GradientDescent(1e-3), stop=Stop(2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6  # numpy's share; one byte a cell would be 200 MB
    before = descend(problem, 1, stop=Stop(0)).losses[0]
    assert runs.losses[0] < slower.losses[0] < before


def test_a_large_sparse_table_of_zeros_is_never_made_dense() -> None:
    import resource

    generator = np.random.default_rng(8)
    rows, columns, count = 20_000, 10_000, 50_000
    places = generator.integers(0, rows, count), generator.integers(0, columns, count)
    values = np.ones(count)
    table = scipy.sparse.coo_array((values, places), shape=(rows, columns)).tocsr()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problem = Factorization(
        cells(table, sparse="zero"), 3, offsets="columns", initialization="spectral"
    )
    runs = descend(problem, 1, steps=Alternating(), stop=Stop(3))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
    assert grown < 600_000  # kB, of tensors too; the table would be 1.6 GB
    assert runs.losses[0] < problem.cells.constants_loss()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cells([[0.5]], "logistic"), "column 0 holds 0.5"),
        (lambda: cells([[1.0, -1.0]], "poisson"), "column 1 holds -1"),
        (lambda: cells([[0.5]], "categorical"), "takes the codes 0, 1, 2"),
        (lambda: cells([[np.nan]]), "no observed cell"),
        (lambda: cells([[1.0]], weights=[[-1.0]]), "weights hold a negative"),
        (lambda: cells([[1.0]], weights=[[1.0, 1.0]]), r"weights have shape \(1, 2\)"),
        (lambda: cells([[1.0]], ["squared"] * 2), "2 losses are given for 1 column"),
        (
            lambda: cells(scipy.sparse.csr_array(np.eye(2)), "categorical"),
            "a sparse table takes one loss",
        ),
        (
            lambda: cells(scipy.sparse.csr_array(np.eye(2)), "huber", sparse="zero"),
            "sparse='zero' counts every cell",
        ),
        (
            lambda: cells(
                scipy.sparse.csr_array(np.eye(2)),
                weights=scipy.sparse.csr_array(np.ones((2, 2))),
            ),
            "weights store other entries",
        ),
    ],
)
def test_wrong_cells_are_refused(make, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()
