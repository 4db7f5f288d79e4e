"""A constant times the weights of a low-rank model changes no prediction."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from descents import LowRankImputer, LowRankModel

RANDOM = np.random.default_rng(3)
WHOLE = RANDOM.normal(size=(30, 2)) @ RANDOM.normal(size=(2, 6))
WHOLE += 0.1 * RANDOM.normal(size=WHOLE.shape)
HIDDEN = RANDOM.random(WHOLE.shape) < 0.3
TABLE = np.where(HIDDEN, np.nan, WHOLE)
COUNTS = np.where(HIDDEN, np.nan, np.round(np.abs(2 * WHOLE)))
BITS = np.where(HIDDEN, np.nan, WHOLE > 0)
SIZES = (1e-9, 400.0)


def predictions(table: object, size: float | None, **options: object) -> pd.DataFrame:
    """Return the fills of a table whose cells all have one weight."""
    model = LowRankModel(2, random_state=0, n_starts=2, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = None if size is None else np.full(np.shape(table), size)
        return pd.DataFrame(model.fit(table, weights=weights).impute(table))


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (TABLE, {}),
        (TABLE, {"scales": True}),
        (np.abs(TABLE), {"constraint": "nonnegative"}),
        (TABLE, {"loss": "huber"}),
        pytest.param(TABLE, {"loss": "absolute"}, marks=pytest.mark.slow),
        (TABLE, {"offsets": "both"}),
        (BITS, {"loss": "logistic"}),
        (COUNTS, {"loss": "poisson"}),
        (np.clip(COUNTS, 0, 3), {"loss": "ordinal"}),
        (np.clip(COUNTS, 0, 3), {"loss": "ordistic"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sampled(6)
def test_a_constant_times_the_weights_changes_no_fill(
    table: np.ndarray, options: dict[str, object], size: float
) -> None:
    plain = predictions(table, None, **options).to_numpy(dtype=float)
    heavy = predictions(table, size, **options).to_numpy(dtype=float)
    np.testing.assert_allclose(heavy, plain, rtol=1e-6, atol=1e-6 * np.nanstd(table))


@pytest.mark.parametrize("size", SIZES)
def test_nor_of_a_frame_with_text(size: float) -> None:
    frame = pd.DataFrame(TABLE[:, :4], columns=list("abcd"))
    frame["e"] = np.where(HIDDEN[:, 4], None, np.where(WHOLE[:, 4] > 0, "up", "down"))
    plain, heavy = predictions(frame, None), predictions(frame, size)
    np.testing.assert_allclose(
        heavy[list("abcd")].to_numpy(float),
        plain[list("abcd")].to_numpy(float),
        rtol=1e-6,
        atol=1e-6,
    )
    assert (heavy["e"] == plain["e"]).all()


def test_a_given_penalty_is_on_the_loss_with_weights() -> None:
    plain = predictions(TABLE, None, penalty=2.0)
    heavy = predictions(TABLE, 400.0, penalty=800.0)
    np.testing.assert_allclose(heavy, plain, rtol=1e-6)
    lighter = predictions(TABLE, 400.0, penalty=2.0)
    assert np.abs(lighter - plain).to_numpy().max() > 0.01


def test_new_rows_of_a_stored_or_sparse_model_count_as_those_of_the_fit(
    tmp_path: Path,
) -> None:
    weights = np.full(TABLE.shape, 400.0)
    model = LowRankModel(2, random_state=0).fit(TABLE, weights=weights)
    plain = LowRankModel(2, random_state=0).fit(TABLE)
    np.testing.assert_allclose(
        model.transform(TABLE), plain.transform(TABLE), rtol=1e-6
    )
    model.save(tmp_path / "model.npz")
    loaded = LowRankModel.load(tmp_path / "model.npz")
    np.testing.assert_allclose(loaded.impute(TABLE), model.impute(TABLE), rtol=1e-9)
    i, j = np.nonzero(~HIDDEN)
    entries = scipy.sparse.csr_array((TABLE[i, j], (i, j)), shape=TABLE.shape)
    heavy = scipy.sparse.csr_array((np.full(len(i), 400.0), (i, j)), shape=TABLE.shape)
    fits = [
        LowRankModel(2, sparse="missing", random_state=0).fit(entries, weights=given)
        for given in (None, heavy)
    ]
    np.testing.assert_allclose(*(m.transform(entries) for m in fits), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-7, 1e-3, 10.0, 1e6])
def test_the_size_of_row_weights_changes_no_fill_of_the_imputer(size: float) -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(200, 1)) + rng.normal(size=(200, 4))
    table = np.where(rng.random(whole.shape) < 0.2, np.nan, whole)
    weights = rng.integers(0, 3, 200)
    imputer = LowRankImputer(random_state=0, held_out=0)
    plain = imputer.fit(table, sample_weight=weights).transform(table)
    heavy = imputer.fit(table, sample_weight=weights * size).transform(table)
    np.testing.assert_allclose(heavy, plain, atol=1e-9)
