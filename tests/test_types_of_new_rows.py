"""New rows whose columns have other types than in the table of the fit."""

from __future__ import annotations

import datetime as dt
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from descents import LowRankImputer

Z = np.random.default_rng(0).normal(size=80)
COLUMNS = {
    "x": Z,
    "y": 2 * Z,
    "text": np.where(Z > 0, "hi", "lo"),
    "count": np.round(10 * Z).astype(int),
    "day": [dt.date(2020, 1, 1) + dt.timedelta(days=int(10 * z)) for z in Z],
    "is_high": Z > 0,
}
NEW = {name: [None, None] for name in COLUMNS} | {"x": [1.0, 2.0]}
NAN = {name: [np.nan, np.nan] for name in COLUMNS} | {"x": [1.0, 2.0]}
TEXT = {name: pl.Series([None, None], dtype=pl.String) for name in COLUMNS} | {
    "x": [1.0, 2.0]
}


def imputer(frame: object) -> LowRankImputer:
    """Return a fitted imputer."""
    return LowRankImputer(random_state=0).fit(frame)


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["lo", "hi"])])
@pytest.mark.parametrize("new", [NEW, NAN, TEXT])
@pytest.mark.sampled(4)
def test_columns_without_a_cell_get_the_type_of_the_fit(kind, new, tmp_path) -> None:
    frame = pl.DataFrame(COLUMNS).with_columns(pl.col("text").cast(kind))
    found = imputer(frame)
    found.save(tmp_path / "imputer")
    for one in (found, LowRankImputer.load(tmp_path / "imputer")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows = one.transform(pl.DataFrame(new, strict=False))
        assert rows.schema == frame.schema
        assert not rows.null_count().to_numpy().any()
        assert rows["text"].cast(pl.String).to_list() == ["hi", "hi"]
        assert abs(rows["y"][0] - 2) < 0.1


@pytest.mark.parametrize("new", [NEW, NAN])
def test_pandas_columns_without_a_cell_get_the_type_of_the_fit(new) -> None:
    frame = pd.DataFrame(COLUMNS).assign(
        day=pd.to_datetime(COLUMNS["day"]), group=pd.Categorical(COLUMNS["text"])
    )
    one = pd.DataFrame(new | {"group": new["y"]}, index=[7, 3])
    rows = imputer(frame).transform(one)
    assert rows.index.tolist() == [7, 3]
    assert rows.notna().all(axis=None)
    assert (rows.dtypes == frame.dtypes).all()


def test_arrow_columns_of_nulls_get_the_type_of_the_fit() -> None:
    frame = pa.table(COLUMNS)
    new = pa.table({name: pa.nulls(2) for name in COLUMNS} | {"x": [1.0, 2.0]})
    rows = imputer(frame).transform(new)
    assert rows.schema == frame.schema
    assert rows.column("text").to_pylist() == ["hi", "hi"]


@pytest.mark.parametrize("ordered", [False, True])
def test_categories_that_lack_levels_are_filled_with_them(ordered) -> None:
    levels = ["lo", "hi"]
    group = pd.Categorical(COLUMNS["text"], levels, ordered=ordered)
    found = imputer(pd.DataFrame({"x": Z, "group": group}))
    new = pd.DataFrame(
        {
            "x": [-2.0, 2.0],
            "group": pd.Categorical(["lo", None], ["lo"], ordered=ordered),
        }
    )
    rows = found.transform(new)
    assert rows["group"].tolist() == ["lo", "hi"]
    assert rows["group"].dtype == group.dtype
    arrow = pa.table(
        {"x": [-2.0, 2.0], "group": pa.array(["lo", None]).dictionary_encode()}
    )
    assert found.transform(arrow).column("group").to_pylist() == ["lo", "hi"]


def test_unknown_categories_are_filled_with_a_warning() -> None:
    found = imputer(pd.DataFrame({"x": Z, "group": pd.Categorical(COLUMNS["text"])}))
    new = pd.DataFrame({"x": [-2.0, 2.0], "group": pd.Categorical(["other", None])})
    with pytest.warns(UserWarning, match="'other', which the model was not fitted"):
        rows = found.transform(new)
    assert rows["group"].tolist() == ["lo", "hi"]
