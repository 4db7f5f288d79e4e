"""Held-out ratings of MovieLens 100k, where the package that ships them is installed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from descents import LowRankModel
from descents.errors import InvalidValueError
from descents.tables.datasets import Ratings, movielens_100k


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    try:
        return movielens_100k()
    except InvalidValueError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*no observed cell")  # movies rated once
@pytest.mark.parametrize(
    ("starts", "iterations", "most"), [(1, 300, 0.908), (8, 120, 0.906)]
)
def test_five_folds(
    ratings: Ratings, starts: int, iterations: int, most: float
) -> None:
    fold = np.random.default_rng(0).permutation(len(ratings.values)) % 5
    errors = []
    for number in range(5):
        held = fold == number
        places = (ratings.users[~held], ratings.items[~held])
        model = LowRankModel(
            6,
            offsets="both",
            penalty={"l2": 1.2, "l2_biases": 0.6, "count_power": 0.5},
            n_starts=starts,
            combine="mean",
            max_iter=iterations,
            random_state=0,
        ).fit(csr_array((ratings.values[~held], places), shape=ratings.shape))
        said = model.predict_cells(ratings.users[held], ratings.items[held])
        errors.append(np.sqrt(np.square(said - ratings.values[held]).mean()))
    assert np.mean(errors) <= most
