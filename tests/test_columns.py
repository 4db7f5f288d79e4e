"""Columns of a table: which loss each gets and why, and its levels as codes."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from descents import LowRankModel
from descents.cells.columns import ColumnModel, of_matrix, of_table
from descents.cells.encoding import coded, decoded, encoded
from descents.cells.filling import filled
from descents.errors import InvalidValueError
from descents.losses import Huber, get_loss
from descents.tables.tables import from_frame

ROWS = 24


def mixed_frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    whole = generator.integers(0, 3, ROWS)
    return pd.DataFrame(
        {
            "height": generator.normal(size=ROWS),
            "count": generator.integers(1, 6, ROWS),
            "member": generator.random(ROWS) > 0.5,
            "two": pd.Categorical(np.array(["no", "yes"])[whole % 2]),
            "size": pd.Categorical(
                np.array(["S", "M", "L"])[whole], ["S", "M", "L", "XL"], ordered=True
            ),
            "colour": np.array(["red", "green", "blue"])[whole],
        }
    )


def losses(model: LowRankModel) -> dict[str, str]:
    return {column.name: column.loss.name for column in model.columns_}


def fitted(frame: object, **settings: object) -> LowRankModel:
    model = LowRankModel(1, penalty=1.0, random_state=0, max_iter=300, tol=1e-4)
    return model.set_params(**settings).fit(frame)


def test_losses_follow_from_types() -> None:
    model = fitted(mixed_frame())
    assert [(c.name, c.loss.name, c.why) for c in model.columns_] == [
        ("height", "squared", "numbers"),
        ("count", "squared", "numbers"),
        ("member", "logistic", "two values"),
        ("two", "logistic", "two values"),
        ("size", "ordinal", "4 levels with an order"),
        ("colour", "categorical", "3 levels without an order"),
    ]
    assert [c.levels for c in model.columns_] == [
        (),
        (),
        (False, True),
        ("no", "yes"),
        ("S", "M", "L"),
        ("blue", "green", "red"),
    ]
    assert [c.whole for c in model.columns_][:2] == [False, True]
    assert model.columns_[5].labels == ("colour=blue", "colour=green", "colour=red")
    # A coordinate for each column, and for each class.
    assert model.components_.shape == (1, 8)


@pytest.mark.parametrize("library", [pl.from_pandas, pa.Table.from_pandas])
def test_other_libraries_have_the_same_losses(library) -> None:
    frame = mixed_frame()
    other = library(frame)
    if isinstance(other, pl.DataFrame):
        enum = pl.Enum(["S", "M", "L", "XL"])
        other = other.with_columns(pl.col("size").cast(pl.String).cast(enum))
    assert fitted(other).columns_ == fitted(frame).columns_


def test_a_dict_overrules_the_types() -> None:
    model = fitted(mixed_frame(), loss={"count": "ordinal", "height": "huber"})
    assert losses(model) == {
        "height": "huber",
        "count": "ordinal",
        "member": "logistic",
        "two": "logistic",
        "size": "ordinal",
        "colour": "categorical",
    }
    why = {column.name: column.why for column in model.columns_}
    assert why["count"] == "as asked for"
    assert why["height"].startswith("as asked for; width ")
    assert dict(zip(why, model.columns_, strict=True))["count"].levels == (
        1,
        2,
        3,
        4,
        5,
    )


def test_a_sequence_is_a_loss_for_each() -> None:
    frame = mixed_frame()[["height", "count", "two"]]
    model = fitted(frame, loss=["absolute", "squared", "categorical"])
    assert list(losses(model).values()) == ["absolute", "squared", "categorical"]
    with pytest.raises(InvalidValueError, match="2 losses are given for 3 columns"):
        fitted(frame, loss=["absolute", "squared"])


@pytest.mark.parametrize("loss", ["huber", "squared", "absolute", Huber(2.0)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.sampled(2)
def test_a_loss_of_numbers_for_all_leaves_levels_alone(loss) -> None:
    found = losses(fitted(mixed_frame(), loss=loss))
    name = getattr(loss, "name", loss)
    assert [found["height"], found["count"]] == [name, name]
    assert [found["member"], found["size"], found["colour"]] == [
        "logistic",
        "ordinal",
        "categorical",
    ]


def test_a_width_that_is_given_stays() -> None:
    model = fitted(mixed_frame(), loss=Huber(2.0))
    assert model.columns_[0].loss.width == 2.0
    assert model.columns_[0].why == "as asked for"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"colour": "squared"},
            "'colour' is category of 3 levels.*squared loss is for",
        ),
        ({"member": "huber"}, "'member' is boolean, but huber loss is for"),
        ({"size": "logistic"}, "'size' holds 4 different values, but logistic"),
        ({"hieght": "huber"}, "no column 'hieght'; did you mean 'height'"),
        ({"height": "cubic"}, "loss is 'cubic'"),
        ("logistic", "'height' holds 24 different values, but logistic loss"),
        ("cubic", "loss is 'cubic'"),
        ({"height": "cubic", "q": "huber"}, "'cubic'.*no column 'q'"),
        ({"height": "logistic", "size": "logistic"}, "'height' holds.*'size' holds"),
    ],
)
def test_losses_that_do_not_fit(loss, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        fitted(mixed_frame(), loss=loss)


def text_of(levels: int) -> pd.DataFrame:
    values = [f"level {i % levels:02d}" for i in range(2 * levels)]
    return pd.DataFrame({"a": np.arange(2.0 * levels), "t": values})


def test_text_of_twenty_levels_is_a_category() -> None:
    model = fitted(text_of(20))
    assert len(model.columns_[1].levels) == 20
    assert model.components_.shape == (1, 21)


def test_text_of_more_levels_is_refused_with_remedies() -> None:
    with pytest.raises(InvalidValueError) as caught:
        fitted(text_of(21))
    message = str(caught.value)
    assert "column 't' is text of 21 different values" in message
    for remedy in (
        "leave the column out of the table",
        "loss={'t': ...}",
    ):
        assert remedy in message
    # One of the remedies.
    assert losses(fitted(text_of(21), loss={"t": "categorical"}))["t"] == "categorical"
    with pytest.raises(InvalidValueError, match=r"201 different .* \(at most 200\)"):
        fitted(text_of(201), loss={"t": "categorical"})


def test_text_that_never_repeats_is_refused() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "id": ["x", "y", "z"]})
    with pytest.raises(InvalidValueError, match="'id' is text, all 3 values different"):
        fitted(frame)
    frame["other"] = ["p", "q", "r"]
    with pytest.raises(InvalidValueError, match="'id' is text.*'other' is text"):
        fitted(frame)


@pytest.mark.parametrize(
    "values",
    [
        pd.date_range("2024-01-01", periods=4),
        [datetime.date(2024, 1, i) for i in (1, 2, 3, 3)],
        pd.to_timedelta([1, 2, 3, 4], "D"),
    ],
)
def test_dates_are_refused(values) -> None:
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4], "when": values})
    with pytest.raises(InvalidValueError, match="'when' is dates or times"):
        fitted(frame)
    assert losses(fitted(frame, loss={"when": "squared"}))["when"] == "squared"


# New tables


def test_levels_unseen_in_the_fit_are_refused_by_name() -> None:
    frame = mixed_frame()
    model = fitted(frame)
    other = frame.head(4).copy()
    other["colour"] = ["red", "mauve", None, "blue"]
    with pytest.raises(InvalidValueError) as caught:
        model.transform(other)
    assert "column 'colour' holds 'mauve'" in str(caught.value)
    assert "'blue', 'green', 'red'" in str(caught.value)
    other["two"] = ["no", "maybe", "no", "no"]
    for method in (model.transform, model.impute, model.score):
        with pytest.raises(InvalidValueError, match="'maybe'.*'mauve'"):
            method(other)
    other["two"] = "no"
    other["colour"] = ["red", None, None, "blue"]
    assert np.isfinite(model.transform(other)).all()


def test_levels_where_the_model_has_numbers_are_refused() -> None:
    frame = mixed_frame()
    model = fitted(frame)
    other = frame.head(4).assign(height=["a", "b", "a", "b"])
    with pytest.raises(
        InvalidValueError, match="'height' must hold numbers.*category.*give numbers"
    ):
        model.transform(other)


def test_a_level_unseen_in_an_array_is_refused() -> None:
    table = np.tile([[0.0, 1], [1, 2], [2, 3]], (4, 1))
    model = fitted(table, loss="categorical")
    with pytest.raises(InvalidValueError, match="column 'x1' holds .*7.*not fitted"):
        model.transform([[0.0, 7.0]])


@pytest.mark.parametrize(
    ("loss", "levels"),
    [
        ("ordinal", [1, 2, 5, 10]),
        ("ordinal", [-1.5, 0.25, 3.0]),
        ("categorical", [10, 20, 70]),
        ("logistic", [1, 2]),
        ("logistic", [-1, 1]),
    ],
)
@pytest.mark.parametrize("kind", ["array", "pandas", "nullable", "polars"])
@pytest.mark.sampled(8)
def test_numbers_under_a_loss_of_levels_keep_their_own_numbers(
    loss, levels, kind
) -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(size=40)[:, None] + 0.3 * generator.normal(size=(40, 4))
    edges = np.quantile(scores, np.linspace(0, 1, len(levels) + 1)[1:-1])
    table = np.array(levels, dtype=float)[np.digitize(scores, edges)]
    hole = generator.random(table.shape) < 0.2
    frame: object = np.where(hole, np.nan, table)
    if kind != "array":
        frame = pd.DataFrame(frame, columns=list("abcd"))
        if kind == "nullable":
            frame = frame.astype("Float64" if 0.25 in levels else "Int64")
        if kind == "polars":
            frame = pl.from_pandas(frame)
    model = fitted(frame, loss=loss)
    answer = model.impute(frame)
    if kind != "array":
        assert type(answer) is type(frame)
    values = np.asarray(answer, dtype=float)
    assert (values[~hole] == table[~hole]).all()
    assert set(values[hole].tolist()) <= {float(level) for level in levels}
    assert (values[hole] == table[hole]).mean() > 1 / len(levels)
    back = np.asarray(model.inverse_transform(model.embedding_), dtype=float)
    assert set(back.ravel().tolist()) <= {float(level) for level in levels}


@pytest.mark.parametrize("maker", [lambda x: x, pl.from_pandas, pa.Table.from_pandas])
def test_one_row_is_filled_though_its_columns_are_blank(maker) -> None:
    frame = mixed_frame().drop(columns=["two", "size"])
    frame = frame.astype({"count": "Int64", "member": "boolean"})
    model = fitted(maker(frame))
    for name in frame.columns:
        row = frame.head(1).copy()
        row[name] = row[name].mask([True])
        expected = frame.copy()
        expected.loc[0, name] = None
        given = maker(row)
        answer = model.impute(given)
        assert type(answer) is type(given)
        found = answer if isinstance(answer, pd.DataFrame) else answer.to_pandas()
        assert not found[name].isna().any(), name
        whole = model.impute(maker(expected))
        whole = whole if isinstance(whole, pd.DataFrame) else whole.to_pandas()
        assert str(found[name].iloc[0]) == str(whole[name].iloc[0]) or name == "height"


def test_a_category_that_lacks_the_level_is_filled_with_it() -> None:
    frame = pd.DataFrame({"a": np.arange(12.0), "k": pd.Categorical(list("xyz") * 4)})
    model = fitted(frame)
    column = from_frame(pd.DataFrame({"k": pd.Categorical(["x", None])}))
    models = [one for one in model.columns_ if one.name == "k"]
    rows = filled(column, models, [np.array([0.0, 2.0])])
    assert rows["k"].tolist() == ["x", "z"]
    assert rows["k"].dtype == frame["k"].dtype


# The parts


def test_codes_and_levels_are_inverse() -> None:
    model = ColumnModel("x", get_loss("ordinal"), (1, 2, 5), "as asked for")
    values = np.array([5.0, 1.0, np.nan, 2.0])
    codes = coded(model, values)
    np.testing.assert_array_equal(codes, [2, 0, np.nan, 1])
    np.testing.assert_array_equal(decoded(model, codes[[0, 1, 3]]), [5.0, 1.0, 2.0])
    text = ColumnModel("x", get_loss("categorical"), ("a", "b", "c"), "")
    column = from_frame(pd.DataFrame({"x": ["c", "a", "c", None]})).column("x")
    np.testing.assert_array_equal(encoded(text, column), [2, 0, 2, np.nan])
    assert decoded(text, np.array([2.0, 0.0])).tolist() == ["c", "a"]
    numbers = ColumnModel("x", get_loss("squared"), (), "")
    assert decoded(numbers, values) is values


def test_described_columns_are_restored() -> None:
    for loss in (
        "squared",
        "absolute",
        "logistic",
        "poisson",
        "kl",
        "categorical",
        "ordinal",
    ):
        model = ColumnModel(
            "x", get_loss(loss), (np.int64(1), "b", 2.5, True), "why", True
        )
        assert ColumnModel.restored(model.described()) == model
    huber = ColumnModel("x", Huber(0.3), (), "why")
    assert ColumnModel.restored(huber.described()) == huber


def test_levels_of_a_matrix() -> None:
    X = np.array([[0.0, 3.0, 1.0], [0.0, 4.0, np.nan], [np.nan, 3.0, 2.0]])
    losses = [get_loss("logistic"), get_loss("logistic"), get_loss("squared")]
    found = of_matrix(X, losses, ["a", "b", "c"])
    # One of 0 and 1 is known by the other.
    assert [column.levels for column in found] == [(0.0, 1.0), (3.0, 4.0), ()]
    with pytest.raises(InvalidValueError, match="'b' holds 3 different values"):
        of_matrix(np.vstack([X, [1, 5, 1]]), losses, ["a", "b", "c"])


def test_empty_columns_are_left_out() -> None:
    table = from_frame(pd.DataFrame({"a": [1.0, 2.0], "b": [None, None]}))
    assert [column.name for column in of_table(table, "auto")] == ["a"]


def test_numbers_as_text_of_a_category_are_found_again() -> None:
    frame = pd.DataFrame({"a": np.arange(9.0), "k": pd.Categorical([1, 2, 3] * 3)})
    model = fitted(frame)
    assert model.columns_[1].levels == (1, 2, 3)
    text = frame.assign(k=pd.Categorical(["1", "2", "3"] * 3))
    np.testing.assert_array_equal(model.transform(text), model.transform(frame))
