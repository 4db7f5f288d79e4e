"""Settings and tables that are refused, and tables at the edge of what is allowed."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from conftest import some
from descents import LowRankModel
from descents.errors import DescentsError, InvalidValueError
from descents.tables import files
from descents.tables.datasets import planted_table
from lowrank_tables import (
    BLANKS,
    IRIS,
    PLANTED,
    SOME_LOSSES,
    UNFINISHED,
    two_by_two,
    with_holes,
)

# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "n_components is 0; give a whole number of at least 1"),
        ({"n_components": 2.5}, "n_components is 2.5; give a whole number"),
        ({"n_components": 5}, "n_components is 5.*from 1 to 4"),
        ({"n_starts": 0}, "n_starts is 0"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"tol": -1.0}, "tol is -1.0"),
        ({"loss": "cubic"}, "loss is 'cubic'; give one of 'squared'"),
        ({"loss": 3}, "loss is 3"),
        ({"loss": ["squared"] * 3}, "3 losses are given for 4 columns"),
        ({"loss": {"q": "huber"}}, "loss names column 'q'"),
        ({"solver": "newton"}, "solver is 'newton'; give one of 'auto'"),
        ({"solver": 3}, "solver is 3"),
        ({"constraint": "positive"}, "constraint is 'positive'"),
        ({"penalty": {"l3": 1.0}}, "penalty has 'l3'; give some of l1"),
        ({"penalty": -1}, "penalty is -1"),
        ({"penalty": {"l2": float("nan")}}, "l2 is nan"),
        ({"initialization": "zeros"}, "initialization is 'zeros'"),
        ({"offsets": "some"}, "offsets is 'some'"),
        ({"scales": "some"}, "scales is 'some'"),
        ({"combine": "median"}, "combine is 'median'"),
        ({"sparse": "one"}, "sparse is 'one'"),
        (
            {"solver": "lbfgs", "learning_rate": 0.1},
            "solver is 'lbfgs', which has none",
        ),
        ({"learning_rate": 0.1}, "solver is 'auto', which has none"),
        ({"solver": "gd", "learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"loss": "kl"}, "kl loss needs .* constraint='nonnegative'"),
        (
            {"loss": "kl", "constraint": "nonnegative", "offsets": "columns"},
            "no offsets",
        ),
        ({"loss": "logistic"}, "column 'x0' holds .* logistic loss is for two values"),
        ({"device": "abacus"}, "device is 'abacus'"),
        (
            {"solver": "alternating", "loss": lambda z, x: (z - x) ** 4},
            "alternating steps are for",
        ),
    ],
)
def test_settings_that_are_refused(settings, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        LowRankModel(**settings).fit(IRIS)


def test_several_problems_are_told_together() -> None:
    model = LowRankModel(0, n_starts=-1, combine="sum", penalty={"l9": 1}, solver="no")
    with pytest.raises(InvalidValueError) as caught:
        model.fit(IRIS)
    for word in ("n_components is 0", "n_starts is -1", "'sum'", "'l9'", "'no'"):
        assert word in str(caught.value)


def test_wild_learning_rates_are_named() -> None:
    model = LowRankModel(2, solver="gd", learning_rate=50.0, n_starts=3, random_state=0)
    with pytest.raises(
        InvalidValueError, match="every start .* learning_rate below 50"
    ):
        model.fit(IRIS)


def sparse_objects() -> object:
    table = scipy.sparse.csr_array(IRIS)
    table.data = np.array(["a"] * table.nnz, dtype=object)  # as older scipy makes it
    return table


BAD_TABLES = {
    "infinity": (np.where(IRIS > 7, np.inf, IRIS), "infinity"),
    "complex": (IRIS + 1j, "Complex data not supported"),
    "text": (np.array([["a", "b"], ["c", "d"]]), "could not convert string"),
    "objects": (np.array([[1, "b"], [2, 3]], dtype=object), "data frame"),
    "no rows": (np.zeros((0, 3)), "0 sample"),
    "no columns": (np.zeros((3, 0)), "0 feature"),
    "one dimension": (np.zeros(3), "Expected 2D array"),
    "three dimensions": (np.zeros((3, 3, 3)), "dim 3"),
    "only holes": (np.full((4, 3), np.nan), "no observed cell"),
    "empty frame": (pd.DataFrame({"a": [], "b": []}), "no rows or no columns"),
    "frame of holes": (pd.DataFrame({"a": [None, None]}), "none of which can be used"),
    "infinite frame": (pd.DataFrame({"a": [1.0, np.inf]}), "'a' has 1 infinite"),
    "complex frame": (pd.DataFrame({"a": [1j, 2]}), "'a' .*complex"),
    "names twice": (pd.DataFrame(IRIS, columns=list("abca")), "two columns named 'a'"),
    "lists in cells": (
        pd.DataFrame({"a": [[1], [2]]}),
        "column 'a' has values of type",
    ),
    "masked text": (np.ma.masked_array([["a", "b"]], [[True, False]]), "string"),
    "sparse objects": (sparse_objects(), "could not convert string"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_that_are_refused(name) -> None:
    table, message = BAD_TABLES[name]
    with pytest.raises(ValueError, match=message):
        LowRankModel(1).fit(table)


@UNFINISHED
@pytest.mark.parametrize("loss", ["poisson", "kl"])
def test_negative_counts_are_refused(loss) -> None:
    constraint = "nonnegative" if loss == "kl" else None
    model = LowRankModel(2, loss=loss, constraint=constraint)
    table = with_holes(IRIS)
    table[3, 1] = -2
    with pytest.raises(InvalidValueError, match=f"-2, but {loss} loss is for counts"):
        model.fit(table)
    model.set_params(random_state=0, max_iter=20, tol=1)
    model.fit(np.abs(IRIS))
    with pytest.raises(InvalidValueError, match=f"-2, but {loss} loss is for counts"):
        model.transform(table)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((4, 150)), r"weights have shape \(4, 150\); give the table's"),
        (np.ones(150), "weights have shape"),
        (-np.ones((150, 4)), "negative"),
        (np.full((150, 4), np.nan), "NaN"),
        (np.full((150, 4), np.inf), "infinite"),
        (np.zeros((150, 4)), "no observed cell"),
        (3.0, "weights have shape"),
    ],
)
@pytest.mark.parametrize("make", [np.asarray, pd.DataFrame])
def test_weights_that_are_refused(weights, message, make) -> None:
    table = make(IRIS)
    with pytest.raises(InvalidValueError, match=message):
        LowRankModel(2).fit(table, weights=weights)


@pytest.mark.parametrize("weights", ["heavy", [["a"] * 4] * 150])
def test_weights_of_text_are_refused(weights) -> None:
    with pytest.raises(InvalidValueError, match="weights"):
        LowRankModel(2).fit(IRIS, weights=weights)


# Tables at the edge of what is one


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber"])
@UNFINISHED
@pytest.mark.sampled(1)
def test_a_constant_column_is_predicted_as_constant(loss) -> None:
    table = planted_table(40, 6, 2, noise=0.1, seed=0)[0]
    table[:, 2] = 3.5
    table = with_holes(table, 0.2)
    for scales in (False, True):
        model = LowRankModel(
            2, loss=loss, scales=scales, max_iter=200, random_state=0
        ).fit(table)
        filled = model.impute(table)
        assert np.isfinite(filled).all()
        np.testing.assert_allclose(filled[:, 2], 3.5, atol=1e-3)


@pytest.mark.parametrize("loss", SOME_LOSSES)
@UNFINISHED
def test_a_constant_table(loss) -> None:
    table = np.ones((8, 4))
    table[2, 1] = np.nan
    constraint = "nonnegative" if loss == "kl" else None
    model = LowRankModel(
        1, loss=loss, constraint=constraint, max_iter=100, random_state=0
    ).fit(table)
    assert np.isfinite(model.loss_)
    assert np.isfinite(model.gap_) or model.reference_.kind == "best found"
    np.testing.assert_allclose(model.impute(table), 1.0, atol=1e-3)
    assert np.isfinite(model.transform(table)).all()
    assert np.isfinite(model.score(table))


def test_a_complete_constant_table() -> None:
    model = LowRankModel(1, random_state=0).fit(np.full((5, 3), 2.0))
    assert model.loss_ == pytest.approx(0, abs=1e-20)
    assert abs(model.gap_) < 1e-6
    np.testing.assert_allclose(model.offsets_, 2.0, atol=1e-9)
    zeros = LowRankModel(1, random_state=0).fit(np.zeros((5, 3)))
    assert zeros.loss_ == pytest.approx(0, abs=1e-20)
    assert np.isfinite(zeros.components_).all()


def test_a_table_of_one_row() -> None:
    model = LowRankModel(1, random_state=0).fit(np.array([[1.0, 2.0, 4.0]]))
    assert model.loss_ == pytest.approx(0, abs=1e-12)
    assert model.embedding_.shape == (1, 1)
    with pytest.raises(InvalidValueError, match="n_samples=1"):
        LowRankModel(2).fit(np.array([[1.0, 2.0, 3.0]]))


def test_a_table_of_one_column() -> None:
    model = LowRankModel(1, random_state=0).fit(np.arange(5.0)[:, None])
    assert model.loss_ == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", SOME_LOSSES)
@UNFINISHED
def test_a_blank_row_and_a_blank_column(loss) -> None:
    table = two_by_two(loss)
    table[4] = np.nan
    table[:, 1] = np.nan
    constraint = "nonnegative" if loss == "kl" else None
    model = LowRankModel(
        2, loss=loss, constraint=constraint, penalty=0.5, max_iter=300, random_state=0
    )
    with pytest.warns(UserWarning, match="no observed cell") as told:
        model.fit(table)
    texts = [str(one.message) for one in told]
    assert any("1 row has no observed cell (4, 0-based); it is" in t for t in texts)
    assert any("1 column has no observed cell (x1); it is" in t for t in texts)
    assert np.isfinite(model.loss_)
    assert np.isfinite(model.impute(table)).all()
    assert np.isfinite(model.transform(table)).all()


@pytest.mark.parametrize("offsets", ["none", "columns", "rows", "both"])
def test_a_blank_column_is_predicted_as_the_warning_says(offsets) -> None:
    rng = np.random.default_rng(0)
    table = 3 + rng.normal(size=(12, 1)) + rng.normal(size=(12, 6)) / 5
    table[:, 2] = np.nan
    model = LowRankModel(1, offsets=offsets, penalty=0.1, random_state=0)
    words = "it is predicted by the mean of the other columns"
    with pytest.warns(UserWarning, match=words):
        model.fit(table)
    said = model.predict_cells(np.arange(12), np.full(12, 2))
    expected = np.nanmean(np.delete(table, 2, 1), axis=1)
    np.testing.assert_allclose(said, expected, atol=0.25)


def test_a_blank_column_of_a_frame_stays_so() -> None:
    frame = pd.DataFrame(with_holes(PLANTED), columns=list("abcdefghij"))
    frame["c"] = np.nan
    weights = np.random.default_rng(0).random(frame.shape)
    model = LowRankModel(2, penalty=1.0, random_state=0)
    with pytest.warns(UserWarning, match=r"1 column has no observed cell \(c\)"):
        model.fit(frame, weights=weights)
    filled = model.impute(frame)
    assert filled["c"].isna().all()
    assert not filled.drop(columns="c").isna().to_numpy().any()
    rest = np.delete(frame.to_numpy(), 2, 1), np.delete(weights, 2, 1)
    other = clone(model).fit(rest[0], weights=rest[1])
    assert other.loss_ == pytest.approx(model.loss_, rel=1e-12)


# Sparse tables


@pytest.mark.parametrize("form", ["csr_array", "csc_array", "coo_matrix"])
def test_sparse_tables_are_the_dense_ones(form) -> None:
    table = with_holes(planted_table(40, 12, 2, noise=0.2, seed=0)[0], 0.5)
    hole = np.isnan(table)
    container = getattr(scipy.sparse, form)
    stored = container(np.nan_to_num(table))
    for sparse, dense in (("missing", table), ("zero", np.nan_to_num(table))):
        model = LowRankModel(2, sparse=sparse, penalty=1.0, random_state=0, tol=1e-10)
        expected = clone(model).fit(dense)
        found = clone(model).fit(stored)
        assert found.loss_ == pytest.approx(expected.loss_, rel=1e-8)
        assert found.reference_.kind == expected.reference_.kind
        assert found.score(stored) == pytest.approx(expected.score(dense), abs=1e-8)
        np.testing.assert_allclose(
            found.transform(stored), expected.transform(dense), atol=1e-4
        )
        i, j = np.argwhere(hole).T
        back = found.inverse_transform(found.embedding_)
        np.testing.assert_allclose(found.predict_cells(i, j), back[i, j], atol=1e-8)
        with pytest.raises(InvalidValueError, match="ask predict_cells"):
            found.impute(stored)


@pytest.mark.parametrize("loss", some(["poisson", "absolute", "squared", "huber"], 2))
@UNFINISHED
def test_other_losses_of_sparse_tables(loss) -> None:
    table = two_by_two("poisson" if loss == "poisson" else "squared")
    i, j = np.argwhere(~np.isnan(table)).T
    stored = scipy.sparse.coo_array((table[i, j], (i, j)), shape=table.shape)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(i))
    heavy = scipy.sparse.coo_array((weights, (i, j)), shape=table.shape)
    model = LowRankModel(2, loss=loss, penalty=0.5, random_state=0, max_iter=500)
    found = clone(model).fit(stored, weights=heavy)
    expected = clone(model).fit(table, weights=heavy.toarray())
    if loss == "huber":  # one width for all, not one for each column
        width = found.columns_[0].loss.width
        assert {column.loss.width for column in found.columns_} == {width}
        return
    # Absolute loss has more than one place to settle at.
    near = 0.01 if loss == "absolute" else 1e-6
    assert found.loss_ == pytest.approx(expected.loss_, rel=near)


def test_predicting_cells_beyond_the_table_is_refused() -> None:
    model = LowRankModel(2, random_state=0).fit(IRIS)
    np.testing.assert_allclose(
        model.predict_cells([0, 149], [3, 0]),
        model.inverse_transform(model.embedding_)[[0, 149], [3, 0]],
        atol=1e-9,
    )
    for rows, columns in (([150], [0]), ([0], [4]), ([-1], [0]), ([0, 1], [0])):
        with pytest.raises(InvalidValueError, match="rows"):
            model.predict_cells(rows, columns)
    with pytest.raises(InvalidValueError, match="whole numbers"):
        model.predict_cells([0.5], [0])


# Whatever comes


TYPES = [np.float32, np.float64, np.int64, np.int8, bool]


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 6)),
    dtype=st.sampled_from(TYPES),
    loss=st.sampled_from(["squared", "absolute", "huber", "auto"]),
    rank=st.integers(1, 3),
    penalty=st.sampled_from([None, 0.1, {"l1": 0.1}]),
    constraint=st.sampled_from([None, "nonnegative"]),
    offsets=st.sampled_from(["auto", "none", "rows", "both"]),
)
@UNFINISHED
@BLANKS
@pytest.mark.filterwarnings("ignore:the loss with its penalty:UserWarning")
def test_any_table_is_fitted_or_refused(
    data, shape, dtype, loss, rank, penalty, constraint, offsets
) -> None:
    elements = None
    if np.dtype(dtype).kind == "f":
        elements = st.floats(-1e6, 1e6, width=32)
    values = data.draw(hnp.arrays(dtype, shape, elements=elements))
    hole = data.draw(hnp.arrays(bool, shape))
    table = values
    if hole.any():
        kind = dtype if np.dtype(dtype).kind == "f" else np.float64
        table = np.where(hole, np.nan, values.astype(kind)).astype(kind)
    model = LowRankModel(
        rank,
        loss=loss,
        penalty=penalty,
        constraint=constraint,
        offsets=offsets,
        max_iter=30,
        random_state=0,
    )
    try:
        model.fit(table)
    except DescentsError:
        assert rank > min(shape) or hole.all()
        return
    assert np.isfinite(model.loss_)
    if model.reference_.kind != "best found" and table.dtype != np.float32:
        assert model.gap_ >= -1e-9
    assert np.isfinite(model.impute(table)).all()
    assert np.isfinite(model.transform(table)).all()


def test_only_a_column_that_varies_loses_digits() -> None:
    table = np.random.default_rng(0).normal(size=(20, 4))
    table[:, 1] = 5e6
    LowRankModel(1, random_state=0).fit(table)  # a warning would be an error
    table[:, 1] += np.arange(20) / 100
    with pytest.warns(UserWarning, match="'x1' varies by less than 1e-07"):
        LowRankModel(1, random_state=0).fit(table)


def frame_in_units(unit: float) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    u = generator.normal(size=(60, 2))

    def column() -> np.ndarray:
        return u @ generator.normal(size=2) + 0.2 * generator.normal(size=60)

    numbers = {name: column() for name in "abc"}
    words = np.where(column() > 0, "yes", "no")
    return pd.DataFrame({**numbers, "word": words, "large": column() * unit})


@pytest.mark.parametrize("unit", [1e-12, 1e6, 1e12])
def test_a_mixed_fit_does_not_depend_on_units(unit) -> None:
    model = LowRankModel(2, random_state=0).fit(frame_in_units(unit))
    plain = LowRankModel(2, random_state=0).fit(frame_in_units(1.0))
    assert model.constants_loss_ == pytest.approx(300.0, rel=1e-9)  # one for each cell
    assert model.loss_ == pytest.approx(plain.loss_, rel=1e-9)


def test_what_fills_a_row_does_not_depend_on_the_other_rows() -> None:
    table, _ = planted_table(40, 5, 2, noise=0.1, seed=0)
    frame = pd.DataFrame(table, columns=list("abcde"))
    model = LowRankModel(2, random_state=0).fit(frame)
    expected = model.impute(pd.DataFrame([[np.nan] * 5], columns=frame.columns))
    # A table whose numbers happen to be whole, as text and as a type.
    rows = "a,b,c,d,e\n,,,,\n8,7,6,5,4\n"
    filled = pd.read_csv(io.StringIO(model.impute(files.read(io_file(rows)))))
    np.testing.assert_allclose(filled.to_numpy()[0], expected.to_numpy()[0], rtol=1e-12)
    typed = pd.DataFrame([[pd.NA] * 5, [8, 7, 6, 5, 4]], columns=frame.columns)
    whole = model.impute(typed.astype("Int64"))
    assert whole.iloc[0].tolist() == np.rint(expected.to_numpy()[0]).tolist()


def io_file(text: str) -> str:
    path = Path(tempfile.mkdtemp()) / "table.csv"
    path.write_text(text)
    return str(path)


def test_a_gap_is_not_claimed_where_nothing_better_is_known() -> None:
    table, _ = planted_table(20, 6, 2, noise=0.1, seed=0)
    table[0, 0] = np.nan
    model = LowRankModel(2, n_starts=3, penalty=0, random_state=0).fit(table)
    assert model.reference_.kind == "best found"
    assert np.isnan(model.gap_)


def test_with_holes_the_first_of_the_default_starts_is_spectral() -> None:
    table, _ = planted_table(60, 8, 2, noise=0.1, seed=0)
    hidden = np.random.default_rng(0).random(table.shape) < 0.25
    holed = np.where(hidden, np.nan, table)
    model = LowRankModel(2, n_starts=2, random_state=0, max_iter=1)
    with pytest.warns(ConvergenceWarning):
        model.fit(holed)
    for start, name in enumerate(["spectral", "normal"]):
        named = LowRankModel(
            2, n_starts=2, random_state=0, max_iter=1, initialization=name
        )
        with pytest.warns(ConvergenceWarning):
            named.fit(holed)
        assert model.runs_.losses[start] == named.runs_.losses[start]


def test_a_column_far_from_zero_is_pointed_at() -> None:
    table, _ = planted_table(30, 4, 1, noise=0.1, seed=0)
    with pytest.warns(UserWarning, match="'x2' varies by less than 1e-07"):
        LowRankModel(1, random_state=0).fit(table + np.array([0, 0, 1e9, 0]))


def test_python_mistakes_end_in_a_sentence() -> None:
    table = np.eye(4)
    for X, loss, words in (
        (np.array([["a", 1], ["b", 2]], dtype=object), "auto", "data frame"),
        (pd.DataFrame(table[:, :2], columns=["a", "a"]), "auto", "named 'a'"),
        (table, lambda prediction: prediction, "two tensors"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            LowRankModel(1, loss=loss).fit(X)
    model = LowRankModel(1, random_state=0).fit(table)
    with pytest.raises(InvalidValueError, match="NaN"):
        model.inverse_transform([[np.nan]])
