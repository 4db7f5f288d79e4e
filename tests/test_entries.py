"""Sums over stored entries: compiled code against sparse products, and where it rests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from descents import Alternating, Factorization, Stop, descend
from descents.kernels import entries
from descents.kernels.compiled import of_precision

DOUBLE = torch.float64
needs_compiler = pytest.mark.skipif(
    of_precision(entries.SOURCE, DOUBLE) is None,
    reason="there is no C compiler",
)


def drawn(rows: int, n: int, q: int, starts: int, seed: int = 0) -> tuple:
    """Return ends, others, weights, targets and a factor; some rows have no entry."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 140, rows) * rng.integers(0, 2, rows)
    ends = torch.as_tensor(np.concatenate([[0], counts.cumsum()]))
    others = torch.as_tensor(rng.integers(0, n, counts.sum()))
    weights = torch.as_tensor(rng.random((starts, counts.sum())))
    targets = torch.as_tensor(rng.normal(size=counts.sum()))
    return (
        ends,
        others,
        weights,
        targets,
        torch.as_tensor(rng.normal(size=(starts, n, q))),
    )


def plainly(
    ends, others, weights, targets, factor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same sums, a row at a time."""
    starts, _, q = factor.shape
    gram = factor.new_zeros(starts, len(ends) - 1, q, q)
    wanted = factor.new_zeros(starts, len(ends) - 1, q)
    for k in range(starts):
        for i, (a, b) in enumerate(itertools.pairwise(ends.tolist())):
            v = factor[k][others[a:b]]
            w = (
                torch.ones(len(v), dtype=v.dtype)
                if weights is None
                else weights[k, a:b]
            )
            gram[k, i] = (v * w[:, None]).T @ v
            wanted[k, i] = v.T @ (w * targets[a:b])
    return gram, wanted


@needs_compiler
@settings(deadline=None, max_examples=25)
@given(
    q=st.integers(1, entries.MOST_COLUMNS),
    starts=st.integers(1, 3),
    n=st.integers(1, 30),
)
def test_normal_equations_are_those_of_a_plain_loop(
    q: int, starts: int, n: int
) -> None:
    ends, others, weights, targets, factor = drawn(12, n, q, starts, seed=q)
    for given_weights in (None, weights, weights[:1]):
        found = entries.normal_equations(ends, others, given_weights, targets, factor)
        weight = None if given_weights is None else given_weights.expand(starts, -1)
        expected = plainly(ends, others, weight, targets, factor)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)


@needs_compiler
def test_single_precision_and_targets_of_each_start() -> None:
    ends, others, weights, targets, factor = (
        x.float() if x.is_floating_point() else x for x in drawn(9, 20, 10, 2)
    )
    apart = torch.stack([targets, -targets])
    found = entries.normal_equations(ends, others, weights, apart, factor)
    for k in range(2):
        expected = plainly(
            ends, others, weights[k : k + 1], apart[k], factor[k : k + 1]
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one[k], other[0], rtol=1e-5, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("q", [1, 3, 8, 17])
def test_products_are_those_of_the_factors(q: int) -> None:
    rng = np.random.default_rng(q)
    rows, columns = (torch.as_tensor(rng.integers(0, 7, 50)) for _ in range(2))
    left, right = (torch.as_tensor(rng.normal(size=(3, 7, q))) for _ in range(2))
    found = entries.products(rows, columns, left, right)
    expected = (left[:, rows] * right[:, columns]).sum(-1)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@needs_compiler
def test_threads_and_starts_do_not_change_the_bits(monkeypatch) -> None:
    ends, others, weights, targets, factor = drawn(60, 30, 10, 2)
    alone = entries.normal_equations(ends, others, weights[:1], targets, factor[:1])
    monkeypatch.setattr(entries, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    shared = entries.normal_equations(ends, others, weights, targets, factor)
    for one, both in zip(alone, shared, strict=True):
        assert torch.equal(one[0], both[0])


@needs_compiler
@pytest.mark.parametrize("loss", ["squared", "absolute"])
@pytest.mark.parametrize("offsets", ["none", "both"])
def test_a_descent_is_that_of_sparse_products(loss, offsets, monkeypatch) -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 25))
    table[rng.random(table.shape) < 0.5] = 0
    problem = {"loss": loss, "offsets": offsets, "dtype": DOUBLE}
    runs = {}
    for compiled in ("1", "0"):
        monkeypatch.setenv("DESCENTS_COMPILE", compiled)
        sparse = scipy.sparse.csr_array(table)
        runs[compiled] = descend(
            Factorization(sparse, 3, **problem), 2, steps=Alternating(), stop=Stop(12)
        )
    np.testing.assert_allclose(runs["1"].losses, runs["0"].losses, rtol=1e-9)


def test_where_there_is_no_code_for_it() -> None:
    ends, others, weights, targets, factor = drawn(3, 5, entries.MOST_COLUMNS + 1, 1)
    assert entries.normal_equations(ends, others, weights, targets, factor) is None
    half = factor[..., :4].half()
    assert entries.products(others, others, half, half) is None


@needs_compiler
@pytest.mark.parametrize("q", [1, 5, 17, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_ratios_are_those_added_up_a_row_at_a_time(q, threads, monkeypatch) -> None:
    monkeypatch.setattr(entries, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ends, others, _, targets, factor = drawn(12, 9, q, 2)
    own = torch.as_tensor(np.random.default_rng(1).random((2, 12, q)))
    own[:, 3] = 0  # a prediction of zero is held above it
    targets, factor, least = targets.abs(), factor.abs(), 1e-3
    found = entries.ratios(ends, others, targets, own, factor, least)
    assert found is not None
    for k in range(2):
        for i, (a, b) in enumerate(itertools.pairwise(ends.tolist())):
            v = factor[k][others[a:b]]
            z = (v @ own[k, i]).clamp_min(least)
            torch.testing.assert_close(found[k, i], v.T @ (targets[a:b] / z))
    assert (
        entries.ratios(ends, others, targets, own.repeat(1, 1, 65), factor, 1.0) is None
    )
