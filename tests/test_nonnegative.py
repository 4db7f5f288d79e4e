"""Nonnegative factorization of real tables, as good as scikit-learn's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF

from descents import LowRankModel
from descents.errors import InvalidValueError
from descents.tables import datasets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def table_named(name: str) -> Any:
    """Return a table, or skip where no package here ships it."""
    try:
        if name == "digits":
            return load_digits().data
        found = datasets.faces() if name == "faces" else datasets.reuters_counts()
        return found.astype(np.float64)
    except InvalidValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("rank", [10, 20])
@pytest.mark.parametrize("name", ["faces", "digits", "reuters"])
def test_squared_loss_is_within_a_thousandth_of_coordinate_descent(name, rank) -> None:
    table = table_named(name)
    # Both find local minima that differ by a percent: the best of some of each.
    peers = [
        NMF(rank, init="nndsvda", tol=1e-6, max_iter=3000, random_state=seed)
        for seed in range(5)
    ]
    least = min(peer.fit(table).reconstruction_err_ ** 2 for peer in peers)
    model = LowRankModel(
        rank, constraint="nonnegative", sparse="zero", n_starts=10, random_state=0
    ).fit(table)
    assert model.loss_ <= 1.001 * least


@pytest.mark.parametrize(("rank", "least"), [(10, 173_673), (20, 145_943)])
def test_counts_are_fitted_better_than_by_plain_multiplicative_steps(
    rank, least
) -> None:
    # Those of scikit-learn 1.9.1 from NNDSVDa, 1000 steps allowed, tol 1e-6. The best of
    # ten of its random starts has 176,005 and 150,048.
    counts = table_named("reuters")
    model = LowRankModel(
        rank,
        loss="kl",
        constraint="nonnegative",
        sparse="zero",
        max_iter=120,
        random_state=0,
    ).fit(counts)
    assert model.loss_ < least
    # The loss by another route, over the whole table.
    fitted = np.asarray(model.embedding_ @ model.components_)
    seen = counts.toarray()
    logs = np.where(seen > 0, seen * np.log(np.maximum(seen, 1) / fitted), 0.0)
    assert model.loss_ == pytest.approx((logs - seen + fitted).sum(), rel=1e-9)
