"""References: the value by two routes, a zero gradient, and no feasible point below."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA, TruncatedSVD

from descents import Factorization, Stop, descend, truncated_svd
from descents.bounds.references import best_found, principal_components
from descents.errors import InvalidValueError
from descents.optim.problem import losses_and_gradients
from descents.tables.datasets import planted_table, uci_iris

IRIS = uci_iris().values - uci_iris().values.mean(0)


def test_the_published_value_of_iris() -> None:
    answer = truncated_svd(IRIS, 2)
    assert answer.loss == pytest.approx(15.22883415, abs=2e-6)
    assert answer.reference.value == pytest.approx(answer.loss, rel=1e-13)
    assert answer.reference.kind == "exact"


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    rank=st.integers(1, 12),
    seed=st.integers(0, 999),
)
def test_two_routes_agree_on_any_shape(rows, columns, rank, seed) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, columns))
    if rank > min(rows, columns):
        with pytest.raises(InvalidValueError, match=f"rank is {rank}; give a whole"):
            truncated_svd(table, rank)
        return
    answer = truncated_svd(table, rank)
    scale = np.square(table).sum()
    assert answer.loss == pytest.approx(answer.reference.value, abs=1e-13 * scale)


def test_scikit_learn_finds_the_same_loss() -> None:
    peer = TruncatedSVD(2, algorithm="arpack", random_state=0)
    product = peer.fit_transform(IRIS) @ peer.components_
    answer = truncated_svd(IRIS, 2)
    assert answer.loss == pytest.approx(np.square(IRIS - product).sum(), rel=1e-12)


def test_the_gradient_at_the_answer_is_zero_and_nothing_is_below() -> None:
    answer = truncated_svd(IRIS, 2)
    problem = Factorization(IRIS, 2)
    at_answer = {
        "U": torch.tensor(answer.left * answer.values[:2])[None],
        "V": torch.tensor(answer.right)[None],
    }
    losses, gradients = losses_and_gradients(problem, at_answer, torch.arange(1), 0)
    assert float(losses) == pytest.approx(answer.reference.value, rel=1e-12)
    for gradient in gradients.values():
        assert float(gradient.abs().max()) < 1e-11
    generator = torch.Generator().manual_seed(0)
    for size in (1e-4, 1e-2, 1.0):
        near = {
            name: value + size * torch.randn(200, *value.shape[1:], generator=generator)
            for name, value in at_answer.items()
        }
        losses = problem.losses(near, torch.arange(200), 0)
        assert float(losses.min()) >= answer.reference.value


@pytest.mark.slow
def test_gradient_descent_reaches_the_answer_and_stays_above() -> None:
    table, _ = planted_table(40, 12, 3, noise=0.2, seed=1)
    answer = truncated_svd(table, 3)
    runs = descend(Factorization(table, 3), 5, stop=Stop(4000))
    assert (runs.losses >= answer.reference.value * (1 - 1e-12)).all()
    assert runs.losses.min() == pytest.approx(answer.reference.value, rel=1e-7)


def test_principal_components_are_those_of_scikit_learn() -> None:
    components, variances = principal_components(IRIS + 5, 3)
    peer = PCA(3).fit(IRIS)
    np.testing.assert_allclose(variances, peer.explained_variance_, rtol=1e-12)
    cosines = np.abs((components * peer.components_.T).sum(0))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-12)


def test_best_found_is_no_promise() -> None:
    runs = descend(Factorization(IRIS, 2), 6, stop=Stop(5))
    reference = best_found(runs)
    assert reference.value == runs.losses.min()
    assert reference.kind == "best found"
    assert reference.says == "the best of 6 starts; no exact answer is known"


def test_the_two_rows_in_which_iris_differs() -> None:
    from sklearn.datasets import load_iris

    different = np.argwhere(uci_iris().values != load_iris().data)
    assert different.tolist() == [[34, 3], [37, 1], [37, 2]]
