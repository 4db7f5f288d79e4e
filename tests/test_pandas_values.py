"""Columns of pandas with marks of missing cells, intervals, periods and odd categories."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from descents import LowRankImputer, LowRankModel
from descents.errors import InvalidValueError
from descents.tables.tables import from_frame

A = np.random.default_rng(0).normal(size=40).round(2)
LACKS = np.arange(40) % 5 == 0


def table(column: object) -> pd.DataFrame:
    return pd.DataFrame({"a": column, "b": 2 * A + 0.5})


def marked(mark: object, values: np.ndarray = A) -> pd.Series:
    """Return a column of objects in which every fifth value is a mark."""
    cells = [
        mark if lack else x for x, lack in zip(values.tolist(), LACKS, strict=True)
    ]
    return pd.Series(cells, dtype=object)


def filled(frame: object, **parameters: object):
    imputer = LowRankImputer(held_out=0, random_state=0, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return imputer.fit_transform(frame)


NUMBERS = filled(np.column_stack([np.where(LACKS, np.nan, A), 2 * A + 0.5]))


@pytest.mark.parametrize("mark", ["?", "", -999, True, None, np.nan, pd.NA, pd.NaT])
def test_marks_among_numbers_in_a_column_of_objects_are_missing_cells(mark) -> None:
    found = filled(table(marked(mark)), missing_values=mark)
    assert found["a"].dtype == object
    np.testing.assert_allclose(found["a"].to_numpy(float), NUMBERS[:, 0], rtol=1e-6)
    assert found["a"][1] == A[1]


@pytest.mark.parametrize("mark", ["?", "", -999])
def test_marks_in_arrays_of_objects_and_lists_are_missing_cells(mark) -> None:
    cells = table(marked(mark)).to_numpy(dtype=object)
    for given in (cells, cells.tolist()):
        np.testing.assert_allclose(filled(given, missing_values=mark), NUMBERS)


def test_marks_of_new_rows_are_missing_cells_and_other_text_is_refused() -> None:
    imputer = LowRankImputer(missing_values="?", held_out=0, random_state=0)
    imputer.fit(table(marked("?")))
    found = imputer.transform(table(marked("?")).iloc[:3])
    np.testing.assert_allclose(found["a"].to_numpy(float), NUMBERS[:3, 0], rtol=1e-6)
    with pytest.raises(InvalidValueError, match=r"several types \(float, str\)"):
        imputer.transform(table(marked("-")))
    with pytest.raises(InvalidValueError, match="missing_values is"):
        filled(table(A), missing_values=[1])


def test_intervals_of_cut_are_ordered_levels() -> None:
    edges = [-9, -0.5, 0.0, 0.5, 9]
    bins = pd.cut(pd.Series(A), edges)
    column = from_frame(table(bins)).column("a")
    assert column.kind == "order"
    assert column.levels == ("(-9.0, -0.5]", "(-0.5, 0.0]", "(0.0, 0.5]", "(0.5, 9.0]")
    np.testing.assert_array_equal(column.values, np.searchsorted(edges, A) - 1)
    given = table(bins.mask(LACKS))
    found = filled(given)
    assert found.dtypes["a"] == given.dtypes["a"]
    assert (found["a"] == bins)[LACKS].mean() > 0.3
    dense = LowRankModel(1, random_state=0, held_out=0).fit(given).impute(given)
    assert dense.dtypes["a"] == given.dtypes["a"]


DAYS = pd.Series(pd.date_range("2020-01-31", periods=40))
KINDS = {
    "intervals": pd.Series(pd.interval_range(0, 40)).astype("interval"),
    "intervals in objects": pd.Series(pd.interval_range(0, 40)).astype(object),
    "months": pd.Series(pd.period_range("2020-01", periods=40, freq="M")),
    "months in objects": pd.Series(
        pd.period_range("2020-01", periods=40, freq="M")
    ).astype(object),
    "durations": pd.Series(pd.to_timedelta(np.arange(40), "h")),
    "decimals": pd.Series([Decimal(k) / 2 for k in range(40)], dtype=object),
    "categories of dates": DAYS.where(np.arange(40) % 2 == 0, DAYS[1]).astype("category"),
    "categories of tuples": pd.Series(pd.Categorical([(k % 3, 1) for k in range(40)])),
    "categories of large numbers": pd.Series(
        pd.Categorical([2**70 + k % 3 for k in range(40)])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_values_of_other_types_are_filled_with_their_own_type(name: str) -> None:
    column = KINDS[name]
    given = table(column.where(~LACKS))
    found = filled(given)
    assert found.dtypes["a"] == given.dtypes["a"]
    assert found["a"].notna().all()
    assert {type(value) for value in found["a"]} == {type(column[1])}
    assert (found["a"] == column)[~LACKS].all()


def test_new_rows_without_some_of_the_intervals_are_filled() -> None:
    bins = pd.cut(pd.Series(A), [-9, -0.5, 0.5, 9]).mask(LACKS)
    imputer = LowRankImputer(held_out=0, random_state=0).fit(table(bins))
    few = table(bins).iloc[:4].copy()
    few["a"] = few["a"].cat.remove_unused_categories()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = imputer.transform(few)
        expected = imputer.transform(table(bins).iloc[:4])
    assert found["a"].astype(str).tolist() == expected["a"].astype(str).tolist()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("framed", [True, False])
def test_fills_have_the_floating_type_of_the_table(kind: type, framed: bool) -> None:
    large = np.column_stack([np.where(LACKS, np.nan, A), 2 * A]) * 2**12
    given = large.astype(kind)
    given[3, 1] = np.finfo(kind).max
    found = filled(pd.DataFrame(given) if framed else given, limits="free")
    array = found.to_numpy() if framed else found
    assert array.dtype == kind
    assert np.isfinite(array).all()
    np.testing.assert_array_equal(array[~LACKS], given[~LACKS])
