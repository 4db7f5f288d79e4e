"""What a caller gives is never changed, and its type does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from sklearn.exceptions import ConvergenceWarning

from descents import (
    LowRankModel,
    MLPStartsClassifier,
    MLPStartsRegressor,
    TableOnDisk,
)
from descents.cells.observed import cells

GENERATOR = np.random.default_rng(0)
DENSE = GENERATOR.normal(size=(30, 6))
MASK = GENERATOR.random((30, 6)) < 0.6
HOLES = np.where(MASK, DENSE, np.nan)
FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
PARTS = ("data", "indices", "indptr", "row", "col", "offsets")
FEW_EPOCHS = pytest.mark.filterwarnings("ignore:no start of .* is better than always")
"""What few epochs learn is not the subject here."""


def parts(table: Any) -> dict[str, np.ndarray]:
    """Return the arrays that a sparse table is made of, where it is made of some."""
    if table.format in ("lil", "dok"):
        return {}
    found = {name: getattr(table, name, None) for name in PARTS}
    return {name: one for name, one in found.items() if isinstance(one, np.ndarray)}


def frozen(table: Any) -> Any:
    for part in parts(table).values():
        part.flags.writeable = False
    return table


def disordered(repeats: int = 1, kind: Any = sp.csr_array) -> Any:
    """Return `HOLES` as CSR, its indices not in order and each given several times."""
    ends = np.concatenate([[0], repeats * MASK.sum(1).cumsum()])
    columns = [np.tile(np.flatnonzero(row)[::-1], repeats) for row in MASK]
    data = [DENSE[i, j] / repeats for i, j in enumerate(columns)]
    return kind((np.concatenate(data), np.concatenate(columns), ends), shape=MASK.shape)


def fitted(table: Any, **given: Any) -> LowRankModel:
    model = LowRankModel(2, penalty=1.0, held_out=0, max_iter=300, random_state=0)
    return model.fit(table, **given)


# Sparse tables


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize("repeats", [1, 2])
def test_indices_in_any_order_are_sorted_in_a_copy(kind: Any, repeats: int) -> None:
    table = disordered(repeats, kind)
    before = {name: part.copy() for name, part in parts(table).items()}
    model = fitted(table)
    model.transform(table)
    model.score(table)
    for name, part in parts(table).items():
        np.testing.assert_array_equal(part, before[name])
    np.testing.assert_allclose(model.loss_, fitted(HOLES).loss_, rtol=1e-7)
    again = fitted(frozen(disordered(repeats, kind)))
    assert again.loss_ == model.loss_
    again.transform(frozen(disordered(repeats, kind)))


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("form", FORMATS)
def test_every_sparse_format_is_the_table_that_it_stands_for(
    form: str, kind: str
) -> None:
    numbers = np.where(MASK, np.round(10 * DENSE) + 40.0, 0.0)
    wanted = cells(np.where(MASK, numbers, np.nan))
    for dtype in (np.float64, np.int64, np.int32):
        table = getattr(sp, f"{form}_{kind}")(numbers.astype(dtype))
        if form == "bsr":  # whose blocks would store zeros, which are data
            table = sp.csr_array(numbers.astype(dtype)).tobsr((1, 1))
        before = {name: part.copy() for name, part in parts(table).items()}
        found = cells(frozen(table))
        np.testing.assert_array_equal(found.table.toarray(), np.where(MASK, numbers, 0))
        np.testing.assert_array_equal(found.row_counts, wanted.row_counts)
        np.testing.assert_array_equal(found.column_counts, wanted.column_counts)
        for name, part in parts(table).items():
            np.testing.assert_array_equal(part, before[name])


def test_weights_in_any_order_are_sorted_in_a_copy() -> None:
    table, weights = disordered(), disordered()
    weights.data = np.abs(weights.data) + 0.1
    weights.sort_indices()
    wanted = fitted(table, weights=weights).loss_
    other = disordered()
    other.data = np.abs(other.data) + 0.1
    before = other.data.copy()
    assert fitted(table, weights=frozen(other)).loss_ == wanted
    np.testing.assert_array_equal(other.data, before)


def test_explicit_zeros_and_wide_indices() -> None:
    table = sp.csr_array(np.where(MASK, DENSE, 0))
    table.data[3] = 0.0
    wide = sp.csr_array(
        (table.data, table.indices.astype(np.int64), table.indptr.astype(np.int64)),
        shape=table.shape,
    )
    assert cells(frozen(wide)).observed == MASK.sum()
    assert fitted(wide).loss_ == fitted(table).loss_


# Dense arrays and tensors


def views() -> dict[str, np.ndarray]:
    """Return `DENSE` as arrays of other memory, all read-only."""
    found = {
        "columns first": np.asfortranarray(DENSE),
        "rows turned": DENSE[::-1].copy()[::-1],
        "columns turned": DENSE[:, ::-1].copy()[:, ::-1],
        "every second row": np.repeat(DENSE, 2, 0)[::2],
        "other byte order": DENSE.astype(">f8"),
        "plain": DENSE.copy(),
    }
    for array in found.values():
        array.flags.writeable = False
    return found


@FEW_EPOCHS
@pytest.mark.parametrize("name", views())
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.sampled(4)
def test_how_an_array_lies_in_memory_does_not_matter(name: str, dtype: Any) -> None:
    array = views()[name]
    if dtype is np.float32:
        array = array.astype(dtype, order="K")[::1]
        if name == "rows turned":
            array = DENSE.astype(dtype)[::-1].copy()[::-1]
    plain = DENSE.astype(dtype)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    loss = LowRankModel(2, random_state=0).fit(plain).loss_
    assert LowRankModel(2, random_state=0).fit(array).loss_ == pytest.approx(
        loss, rel=tolerance
    )
    y, weight = (DENSE[:, 0] > 0).astype(int), np.abs(DENSE[:, 1])
    settings: dict[str, Any] = {"n_starts": 2, "max_epochs": 3, "random_state": 0}
    for batch in (None, 7):
        one = MLPStartsClassifier(batch_size=batch, **settings)
        two = MLPStartsClassifier(batch_size=batch, **settings)
        one.fit(plain, y, sample_weight=weight)
        two.fit(array, y[::-1].copy()[::-1], sample_weight=weight[::-1].copy()[::-1])
        assert two.loss_ == one.loss_
        np.testing.assert_array_equal(
            two.predict_proba(array), one.predict_proba(plain)
        )
        targets = MLPStartsRegressor(batch_size=batch, **settings)
        found = targets.fit(array, np.asfortranarray(DENSE[:, :2]))
        same = MLPStartsRegressor(batch_size=batch, **settings).fit(plain, DENSE[:, :2])
        assert found.loss_ == same.loss_


@FEW_EPOCHS
def test_tensors_are_taken_as_arrays() -> None:
    model = fitted(HOLES)
    for tensor in (
        torch.tensor(HOLES),
        torch.tensor(HOLES, requires_grad=True),
        torch.tensor(HOLES.T.copy()).mT,
    ):
        found = fitted(tensor, weights=torch.ones(MASK.shape, dtype=torch.float64))
        assert found.loss_ == pytest.approx(model.loss_, rel=1e-12)
        np.testing.assert_array_equal(found.transform(tensor), found.transform(HOLES))
        np.testing.assert_array_equal(found.impute(tensor), found.impute(HOLES))
        assert found.score(tensor) == found.score(HOLES)
        found.calibrate(tensor)
    scores = torch.tensor(model.embedding_, requires_grad=True)
    np.testing.assert_array_equal(
        model.inverse_transform(scores), model.inverse_transform(model.embedding_)
    )
    single = fitted(torch.tensor(HOLES).float())
    assert single.embedding_.dtype == np.float32
    assert fitted(torch.tensor(HOLES).bfloat16()).loss_ > 0
    stored = torch.tensor(np.where(MASK, DENSE, 0)).to_sparse()
    assert fitted(stored).loss_ == pytest.approx(model.loss_, rel=1e-7)
    y = torch.tensor(DENSE[:, 0] > 0).long()
    settings: dict[str, Any] = {"n_starts": 1, "max_epochs": 2, "random_state": 0}
    tensor = torch.tensor(DENSE, requires_grad=True)
    one = MLPStartsClassifier(**settings).fit(tensor, y)
    two = MLPStartsClassifier(**settings).fit(DENSE, y.numpy())
    np.testing.assert_array_equal(one.predict_proba(tensor), two.predict_proba(DENSE))


@pytest.mark.filterwarnings("ignore:.*predicted far outside")
@pytest.mark.filterwarnings("ignore:the loss with its penalty")
@pytest.mark.parametrize("steps", ["alternating", "gd", "adam"])
def test_nothing_that_is_given_is_changed(steps: str) -> None:
    table, weights = np.abs(HOLES), np.where(MASK, 0.5, 1.0)
    factors = np.abs(DENSE[None, :, :2]).copy(), np.abs(DENSE[None, :6, :2]).copy()
    for array in (table, weights, *factors):
        array.flags.writeable = False
    before = [array.copy() for array in (table, weights, *factors)]
    model = LowRankModel(
        2,
        constraint="nonnegative",
        initialization=factors,
        solver=steps,
        held_out=0,
        max_iter=5,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning):
        model.fit(table, weights=weights)
    model.transform(table)
    model.impute(table)
    for array, same in zip((table, weights, *factors), before, strict=True):
        np.testing.assert_array_equal(array, same)


# Types of what is returned


@FEW_EPOCHS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_come_back_with_as_many_digits(dtype: Any) -> None:
    array = HOLES.astype(dtype)
    frames = (
        pd.DataFrame(array, columns=list("abcdef")),
        pl.DataFrame(array, schema=list("abcdef")),
    )
    for given in (array, torch.tensor(array), np.ma.masked_invalid(array), *frames):
        model = LowRankModel(2, penalty=1.0, random_state=0)
        assert model.fit_transform(given).dtype == dtype
        scores = model.transform(given)
        assert scores.dtype == dtype
        assert model.inverse_transform(scores).dtype == dtype
    assert model.inverse_transform(scores.tolist()).dtype == np.float64
    assert fitted(array).impute(array).dtype == dtype
    # It is the table that is given which counts, not that of the fit.
    assert fitted(HOLES).transform(array).dtype == dtype
    for y in (DENSE[:, 0], DENSE[:, :2]):
        for own in (np.float32, np.float64):
            model = MLPStartsRegressor(n_starts=1, max_epochs=1, random_state=0)
            model.fit(DENSE.astype(own), y)
            assert model.predict(DENSE.astype(dtype)).dtype == dtype
            tensor = torch.tensor(DENSE.astype(dtype))
            assert model.predict(tensor).dtype == dtype
    named = pd.DataFrame(DENSE.astype(dtype), columns=list("abcdef"))
    model = MLPStartsRegressor(n_starts=1, max_epochs=1, random_state=0)
    assert model.fit(named, DENSE[:, 0]).predict(named).dtype == dtype


# Columns without any data


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("names", [list("abcdef"), list(range(6))])
def test_an_array_has_the_place_of_an_empty_column_too(
    names: list[Any], tmp_path: Path
) -> None:
    frame = pd.DataFrame(HOLES, columns=names)
    frame[names[1]] = np.nan
    with pytest.warns(UserWarning, match="left out, and stay"):
        model = fitted(frame)
    model.save(tmp_path / "model")
    rows = frame.to_numpy()
    other = rows.copy()
    other[:, 1] = 7.0  # as in a frame, it has no part in the model
    scores = fitted(np.delete(rows, 1, 1)).transform(np.delete(rows, 1, 1))
    for used in (model, LowRankModel.load(tmp_path / "model")):
        np.testing.assert_allclose(used.transform(rows), scores, atol=1e-6)
        np.testing.assert_array_equal(used.transform(other), used.transform(rows))
        assert used.score(rows) == used.score(frame)
        filled = used.impute(rows)
        assert np.isnan(filled[:, 1]).all()
        assert np.isnan(filled).sum() == len(rows)
        kept = [0, 2, 3, 4, 5]
        np.testing.assert_array_equal(
            filled[:, kept], used.impute(frame).to_numpy()[:, kept]
        )
        inverse = used.inverse_transform(scores)
        assert inverse.shape == rows.shape
        assert np.isnan(inverse).all(0).tolist() == [j == 1 for j in range(6)]
        np.save(tmp_path / "rows.npy", rows)
        disk = TableOnDisk(tmp_path / "rows.npy", "10MB")
        np.testing.assert_allclose(used.transform(disk), used.transform(rows))
        stored = sp.csr_array(np.where(MASK, DENSE, 0))
        np.testing.assert_allclose(used.transform(stored), scores, atol=1e-6)
        used.calibrate(rows, weights=np.ones(rows.shape))
        _, found = used.impute(rows, return_interval=True)
        assert found.lower.shape == (30, 5)
        with pytest.raises(ValueError, match="5 features"):
            used.transform(rows[:, :5])


def test_empty_columns_of_new_rows_are_missing() -> None:
    frame = pd.DataFrame(
        {"a": DENSE[:, 0], "b": DENSE[:, 1], "c": ["x", "y", "z"] * 10}
    )
    model = LowRankModel(1, random_state=0, penalty=0.1).fit(frame)
    for column in ("a", "c"):
        blank = frame.assign(**{column: None})
        scores = model.transform(blank)
        assert np.isfinite(scores).all()
        assert model.impute(blank)[column].notna().all()
        typed = frame.assign(**{column: pd.Series([pd.NA] * 30, dtype="string")})
        np.testing.assert_array_equal(model.transform(typed), scores)


@pytest.mark.parametrize(
    "kind",
    ["Int64", "UInt64", "int64[pyarrow]", "Int8", "boolean", "bool[pyarrow]"],
)
@FEW_EPOCHS
def test_nullable_and_arrow_classes_keep_their_values_and_types(kind: str) -> None:
    largest = 2**53 if "64" in kind else 0
    labels = [largest + k % (2 if "bool" in kind else 3) for k in range(30)]
    y = pd.Series(labels, dtype="Int64").astype(kind)
    model = MLPStartsClassifier(n_starts=1, max_epochs=1, random_state=0).fit(DENSE, y)
    assert model.classes_.tolist() == sorted(set(labels))
    assert model.classes_.dtype == y.dtype.numpy_dtype
    right = model.predict(DENSE) == np.array(labels, dtype=model.classes_.dtype)
    assert model.score(DENSE, y) == right.mean()
    other = MLPStartsClassifier(n_starts=1, max_epochs=1).fit(DENSE, y.array)
    assert other.classes_.tolist() == model.classes_.tolist()


def test_a_missing_class_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        MLPStartsClassifier().fit(DENSE, pd.Series([None, 1, 2] * 10, dtype="Int64"))
