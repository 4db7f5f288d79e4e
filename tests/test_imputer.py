"""LowRankImputer in scikit-learn's places: arrays, data frames, draws, warnings."""

from __future__ import annotations

import datetime
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from descents import LowRankImputer, load
from descents.errors import InvalidValueError, RunFolderError

LIBRARIES = ["pandas", "polars", "pyarrow"]
QUIET = pytest.mark.filterwarnings("ignore::UserWarning")


def array(rows: int = 150, missing: float = 0.2, seed: int = 0) -> np.ndarray:
    """Return a table of one factor and noise with missing cells."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 1)) * [1.0, 2.0, -1.0, 0.5]
    values += 0.3 * rng.normal(size=values.shape) + [0.0, 5.0, 0.0, 100.0]
    values[rng.random(values.shape) < missing] = np.nan
    return values


def columns(rows: int = 90, seed: int = 0) -> dict[str, list]:
    """Return columns of every type that depend on one factor, a fifth missing."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=rows)
    day = datetime.datetime(2024, 1, 1)
    found = {
        "number": (factor + 0.1 * rng.normal(size=rows)).tolist(),
        "count": np.rint(10 + 3 * factor).astype(int).tolist(),
        "truth": (factor > 0).tolist(),
        "size": np.select([factor > 0.5, factor < -0.5], ["L", "S"], "M").tolist(),
        "time": [day + datetime.timedelta(hours=int(x * 50)) for x in factor],
        "date": [(day + datetime.timedelta(int(x * 20))).date() for x in factor],
    }
    for cells in found.values():
        for place in rng.choice(rows, rows // 5, replace=False):
            cells[place] = None
    return found


def framed(library: str, found: dict[str, list], *, arrow: bool = True):
    """Return columns as a data frame with types that a user may have."""
    if library == "polars":
        return pl.DataFrame(found)
    if library == "pyarrow":
        return pa.table(found)
    index = np.arange(len(found["number"]))[::-1]
    frame = pd.DataFrame(
        {
            "number": np.array(found["number"], dtype=np.float32),
            "count": pd.array(found["count"], dtype="Int16"),
            "truth": pd.array(found["truth"], dtype="boolean"),
            "size": pd.Categorical(found["size"], ["S", "M", "L"], ordered=True),
            "time": pd.to_datetime(found["time"]).tz_localize("Europe/Berlin"),
            "date": pd.array(found["date"], dtype=pd.ArrowDtype(pa.date32())),
        },
        index=index,
    )
    return frame if arrow else frame.drop(columns="date")


def cells(frame) -> dict[str, list]:
    """Return the cells of a frame as Python's values, None where missing."""
    table = frame if isinstance(frame, pa.Table) else None
    if isinstance(frame, pl.DataFrame):
        table = frame.to_arrow()
    if isinstance(frame, pd.DataFrame):
        table = pa.Table.from_pandas(frame, preserve_index=False)
    return table.to_pydict()


def types(frame) -> list:
    return list(frame.schema if isinstance(frame, pa.Table) else frame.dtypes)


@QUIET
@parametrize_with_checks([LowRankImputer(random_state=0, held_out=0)])
def test_scikit_learn_checks(estimator, check) -> None:
    check(estimator)


@pytest.mark.slow
@QUIET
@parametrize_with_checks([LowRankImputer(random_state=0, add_indicator=True)])
def test_scikit_learn_checks_of_more(estimator, check) -> None:
    check(estimator)


# Arrays


def test_arrays_are_filled_and_observed_cells_stay():
    table = array()
    lacking = np.isnan(table)
    for kind in (np.float64, np.float32):
        given = table.astype(kind)
        before = given.copy()
        filled = LowRankImputer(random_state=0).fit_transform(given)
        np.testing.assert_array_equal(given, before)
        assert filled.dtype == kind
        assert np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[~lacking], given[~lacking])


def test_fills_are_those_of_the_regression_that_is_the_best():
    # Where one column alone has missing cells, maximum likelihood is least squares.
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4000, 2))
    y = 1 + x @ [2.0, -1.0] + 0.5 * rng.normal(size=4000)
    table = np.column_stack([x, y])
    table[:1500, 2] = np.nan
    filled = LowRankImputer(held_out=0, random_state=0).fit_transform(table)
    design = np.column_stack([np.ones(4000), x])
    line = np.linalg.lstsq(design[1500:], y[1500:], rcond=None)[0]
    off = filled[:1500, 2] - np.clip(design[:1500] @ line, y[1500:].min(), None)
    assert np.sqrt(np.mean(off**2)) < 0.05
    new = LowRankImputer(held_out=0, random_state=0).fit(table)
    assert abs(new.transform([[0.5, 0.5, np.nan]])[0, 2] - line @ [1, 0.5, 0.5]) < 0.05


def test_other_arrays_are_read_as_numpy_ones():
    table = array(60)
    expected = LowRankImputer(random_state=0, held_out=0).fit_transform(table)
    lacking = np.isnan(table)
    masked = np.ma.array(np.where(lacking, 7.0, table), mask=lacking)
    objects = np.where(lacking, None, table.astype(object))
    for given in (torch.tensor(table), masked, objects, objects.tolist()):
        found = LowRankImputer(random_state=0, held_out=0).fit_transform(given)
        np.testing.assert_array_equal(found, expected)
    marked = np.where(lacking, -99.0, table)
    marker = LowRankImputer(missing_values=-99, random_state=0, held_out=0)
    np.testing.assert_array_equal(marker.fit_transform(marked), expected)
    with pytest.raises(ValueError, match="NaN"):
        marker.fit(table)
    with pytest.raises(InvalidValueError, match="X is sparse"):
        LowRankImputer().fit(sparse.csr_array(np.eye(3)))


@pytest.mark.parametrize("keep", [False, True])
def test_empty_columns_of_arrays(keep):
    table = array(40)
    table[:, 1] = np.nan
    imputer = LowRankImputer(
        keep_empty_features=keep, add_indicator=True, random_state=0, held_out=0
    )
    with pytest.warns(UserWarning, match="1 column without any observed cell.*'x1'"):
        filled = imputer.fit_transform(table)
    assert filled.shape == (40, 7 + keep)
    names = imputer.get_feature_names_out()
    assert list(names[:3]) == (["x0", "x1", "x2"] if keep else ["x0", "x2", "x3"])
    assert names[-1] == "missingindicator_x3"
    np.testing.assert_array_equal(filled[:, -4:], np.isnan(table))
    if keep:
        assert (filled[:, 1] == 0).all()
    new = np.ones((1, 4))
    assert imputer.transform(new)[0, :4][1] == 1.0


def test_rows_without_any_cell_are_filled_with_means_and_modes():
    table = np.vstack([array(400, 0.0), np.full((2, 4), np.nan)])
    filled = LowRankImputer(random_state=0, held_out=0).fit_transform(table)
    means = np.nanmean(table, 0)
    np.testing.assert_allclose(filled[-1], means, atol=0.01)
    frame = pd.DataFrame({"a": ["x", "y", "x", None], "b": [1.0, 2.0, 3.0, None]})
    found = LowRankImputer(random_state=0, held_out=0).fit_transform(frame)
    assert found["a"][3] == "x"
    assert abs(found["b"][3] - 2) < 0.05


def test_bounds_and_limits():
    table = array(200)
    new = np.array([[9.0, np.nan, -9.0, np.nan]])
    high = np.nanmax(table, 0)
    fit = LowRankImputer(random_state=0, held_out=0).fit(table).transform(new)
    assert fit[0, 1] == high[1]
    free = LowRankImputer(limits="free", random_state=0, held_out=0).fit(table)
    assert free.transform(new)[0, 1] > high[1] + 3
    bounds = np.array([np.inf, 6.0, np.inf, 100.1])
    bounded = LowRankImputer(max_value=bounds, random_state=0, held_out=0).fit(table)
    np.testing.assert_array_equal(bounded.transform(new)[0, [1, 3]], [6.0, 100.1])
    drawn = np.array(free.sample(new, 10))[:, 0, 1]
    assert drawn.max() > high[1]
    kept = LowRankImputer(limits="observed", random_state=0, held_out=0).fit(table)
    assert np.array(kept.sample(new, 10))[:, 0, 1].max() <= high[1]
    frame = pd.DataFrame(table, columns=list("abcd"))
    named = LowRankImputer(min_value={"b": 5.5}, random_state=0, held_out=0)
    filled = named.fit_transform(frame)["b"].to_numpy()
    assert filled[np.isnan(table[:, 1])].min() == 5.5


def test_rows_of_weight_zero_have_no_part():
    table = array(80)
    weights = np.ones(80)
    weights[60:] = 0
    table[60:] *= 50
    imputer = LowRankImputer(random_state=0, strength=0.0)
    found = imputer.fit(table, sample_weight=weights).transform(table[:60])
    expected = imputer.fit(table[:60]).transform(table[:60])
    np.testing.assert_array_equal(found, expected)
    for bad in (-weights, weights[:5], np.zeros(80), ["a"] * 80):
        with pytest.raises(InvalidValueError, match="weight"):
            imputer.fit(table, sample_weight=bad)


def test_the_gap_is_that_of_the_closed_form():
    table = np.random.default_rng(1).normal(size=(60, 3))
    imputer = LowRankImputer(random_state=0, strength=0.0, held_out=0).fit(table)
    assert 0 <= imputer.gap_ + 1e-12 < 1e-6
    held = imputer.fitted_
    encoded = held.fitted.features.encoded(table)
    best = np.cov(encoded.T, bias=True) + np.diag(held.fitted.features.ridge)
    from scipy.stats import multivariate_normal

    normal = multivariate_normal(encoded.mean(0), best)
    least = -normal.logpdf(encoded).sum() / encoded.size
    least += np.trace(np.linalg.solve(best, np.diag(held.fitted.features.ridge))) / (
        2 * encoded.shape[1]
    )
    assert abs(imputer.loss_ - imputer.gap_ - least) < 1e-9
    assert imputer.reference_ == "the closed form"
    alone = LowRankImputer(random_state=0).fit(array())
    assert np.isnan(alone.gap_)
    assert alone.reference_ is None


def test_several_starts_are_compared_with_their_best(tmp_path):
    imputer = LowRankImputer(n_starts=3, n_components=2, random_state=0).fit(array())
    assert imputer.reference_ == "the best of the starts"
    assert imputer.gap_ == 0
    losses = imputer.runs_.losses
    np.testing.assert_allclose(imputer.gaps_, losses - losses.min(), atol=1e-15)
    imputer.save(tmp_path / "imputer.safetensors")
    again = LowRankImputer.load(tmp_path / "imputer.safetensors")
    assert again.gap_ == 0
    assert again.reference_ == imputer.reference_
    np.testing.assert_allclose(again.gaps_, imputer.gaps_, atol=1e-12)


# Data frames


@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_keep_their_types_and_their_observed_cells(library):
    frame = framed(library, columns())
    before = cells(frame)
    imputer = LowRankImputer(random_state=0)
    filled = imputer.fit_transform(frame)
    assert type(filled) is type(frame)
    assert types(filled) == types(frame)
    assert cells(frame) == before
    after = cells(filled)
    for name, given in before.items():
        assert None not in after[name]
        for old, new in zip(given, after[name], strict=True):
            assert old == new or old is None or pd.isna(old)
    assert all(isinstance(x, int) for x in after["count"])
    assert imputer.scores_["size"].error < 0.6 * imputer.scores_["size"].constant_error
    if library == "pandas":
        assert (filled.index == frame.index).all()
    # Draws have the same types, and new rows may lack whole columns.
    for one in imputer.sample(frame, 2):
        assert types(one) == types(frame)
    head = framed(library, {n: [None] * 3 + c[3:9] for n, c in columns().items()})
    assert types(imputer.transform(head)) == types(head)


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_that_cannot_be_modeled_are_named_and_returned(library):
    found = columns(60)
    extra = {
        "id": list(range(60)),
        "note": [f"text {i}" if i % 9 else None for i in range(60)],
        "blank": [None] * 60,
    }
    make = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    frame = make[library](found | extra)
    imputer = LowRankImputer(random_state=0, held_out=0)
    with pytest.warns(UserWarning, match="column") as seen:
        filled = imputer.fit_transform(frame)
    texts = " ".join(str(one.message) for one in seen)
    assert "2 columns cannot be modeled" in texts
    assert "'id' numbers the rows" in texts
    assert "1 column without any observed cell is kept, still missing: 'blank'" in texts
    before, after = cells(frame), cells(filled)
    assert all(before[name] == after[name] for name in extra)
    assert set(imputer.passed_columns_) == set(extra)
    assert None not in after["number"]


def test_unseen_levels_are_filled_with_a_warning_or_refused():
    frame = framed("polars", columns())
    imputer = LowRankImputer(random_state=0, held_out=0).fit(frame)
    new = frame.head(3).with_columns(pl.Series("size", ["XL", "S", None]))
    with pytest.warns(UserWarning, match="'size' holds 'XL'.*as if they were missing"):
        filled = imputer.transform(new)
    assert filled["size"][0] in ("S", "M", "L")
    imputer.unseen = "error"
    with pytest.raises(InvalidValueError, match="XL"):
        imputer.transform(new)


def test_marks_of_missing_cells_in_frames():
    found = columns(60)
    plain = pd.DataFrame({n: found[n] for n in ("number", "count")})
    marked = plain.fillna(-9.0)
    imputer = LowRankImputer(random_state=0, held_out=0)
    expected = imputer.fit_transform(plain)
    imputer.set_params(missing_values=-9)
    pd.testing.assert_frame_equal(imputer.fit_transform(marked), expected)
    texts = pl.DataFrame({"size": [x or "?" for x in found["size"]]})
    imputer.set_params(missing_values="?")
    assert set(imputer.fit_transform(texts)["size"]) == {"S", "M", "L"}


def test_draws_of_whole_numbers_leave_the_observed_range_within_their_type():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 128, 60)
    frame = pd.DataFrame(
        {"a": pd.array(values, dtype="Int8"), "b": rng.normal(size=60)}
    )
    frame.loc[:20, "a"] = pd.NA
    imputer = LowRankImputer(random_state=0, held_out=0).fit(frame)
    drawn = np.concatenate([t["a"].to_numpy(int) for t in imputer.sample(frame, 8)])
    assert drawn.min() < 0
    assert drawn.max() <= 127


# Draws


def test_draws_are_the_same_whatever_their_number():
    table = array()
    imputer = LowRankImputer(random_state=0, held_out=0).fit(table)
    two, five = imputer.sample(table, 2), imputer.sample(table)
    assert len(five) == 5
    np.testing.assert_array_equal(two, five[:2])
    lacking = np.isnan(table)
    assert (five[0][lacking] != five[1][lacking]).all()
    np.testing.assert_array_equal(five[3][~lacking], table[~lacking])
    posterior = clone(imputer).set_params(sample_posterior=True)
    np.testing.assert_array_equal(posterior.fit_transform(table), five[0])
    mean = np.mean(imputer.sample(table, 25), 0)
    filled = LowRankImputer(random_state=0, held_out=0, limits="free")
    off = mean[lacking] - filled.fit_transform(table)[lacking]
    assert np.sqrt(np.mean(off**2)) < 0.2


# Places of scikit-learn


@QUIET
def test_pipelines_searches_clones_and_pickles():
    table = array()
    target = np.nan_to_num(table[:, 0])
    pipe = make_pipeline(LowRankImputer(random_state=0, held_out=0), LinearRegression())
    grid = GridSearchCV(
        pipe, {"lowrankimputer__n_components": [None, 1]}, cv=2, error_score="raise"
    )
    assert grid.fit(table[:, 1:], target).best_score_ > 0.5
    both = ColumnTransformer(
        [("fill", LowRankImputer(random_state=0, held_out=0), [0, 1, 2])],
        remainder="passthrough",
    )
    assert both.fit_transform(table).shape == table.shape
    frame = framed("pandas", columns())
    names = ["number", "count", "size"]
    some = ColumnTransformer([("fill", LowRankImputer(random_state=0), names)])
    found = some.set_output(transform="pandas").fit_transform(frame)
    assert not found.isna().any().any()
    assert list(found.columns) == [f"fill__{name}" for name in names]
    imputer = LowRankImputer(random_state=0, held_out=0).fit(frame)
    again = pickle.loads(pickle.dumps(imputer))
    pd.testing.assert_frame_equal(again.transform(frame), imputer.transform(frame))
    assert clone(imputer).get_params() == imputer.get_params()


@QUIET
def test_what_is_saved_fills_and_draws_the_same(tmp_path):
    framed_table = framed("polars", columns())
    wide = array(12, 0.1).T  # four rows, of which the columns are the sample
    for given in (framed_table, array(60), wide):
        imputer = LowRankImputer(
            random_state=0,
            strength=0.0,
            n_imputations=2,
            max_value=200,
            add_indicator=True,
        ).fit(given)
        imputer.save(tmp_path / "imputer.safetensors")
        again = load(tmp_path / "imputer.safetensors")
        assert isinstance(again, LowRankImputer)
        assert repr(again) == repr(imputer)
        pairs = [(imputer.transform(given), again.transform(given))]
        pairs += zip(imputer.sample(given), again.sample(given), strict=True)
        for one, other in pairs:
            if isinstance(given, pl.DataFrame):
                assert one.equals(other)
            else:
                np.testing.assert_array_equal(one, other)
        assert again.scores_ == imputer.scores_
        names = imputer.get_feature_names_out()
        assert list(again.get_feature_names_out()) == list(names)
        with pytest.raises(InvalidValueError, match="stored with 2"):
            again.sample(given, 3)
    with pytest.raises(RunFolderError):
        LowRankImputer.load(tmp_path / "nothing")
    with pytest.raises(RunFolderError, match="is a folder"):
        LowRankImputer.load(tmp_path)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_set_output_chooses_the_library(output):
    made = {"pandas": pd.DataFrame, "polars": pl.DataFrame}[output]
    imputer = LowRankImputer(random_state=0, held_out=0, add_indicator=True)
    imputer.set_output(transform=output)
    found = imputer.fit_transform(array(50))
    assert isinstance(found, made)
    assert list(found.columns) == list(imputer.get_feature_names_out())
    for library in ("pandas", "polars"):
        frame = framed(library, columns(), arrow=False)
        found = imputer.fit_transform(frame)
        assert isinstance(found, made)
        assert list(found.columns) == list(imputer.get_feature_names_out())


# What it says


def test_columns_that_are_filled_with_constants_are_named():
    rng = np.random.default_rng(2)
    table = array(200)
    table = np.column_stack([table, rng.normal(size=(200, 6))])
    table[rng.random(table.shape) < 0.1] = np.nan
    imputer = LowRankImputer(random_state=0, strength=0.0)
    with pytest.warns(UserWarning, match="filled with the mean.*'x"):
        imputer.fit(table)
    assert not {"x0", "x1", "x2", "x3"} & set(imputer.constant_columns_)
    mean = np.nanmean(table, 0)
    filled = imputer.transform(table)
    for name in imputer.constant_columns_:
        place = int(name[1:])
        rows = np.isnan(table[:, place])
        np.testing.assert_allclose(filled[rows, place], mean[place], rtol=1e-12)


def test_a_table_of_which_nothing_can_be_predicted_is_named_as_such():
    noise = np.random.default_rng(2).normal(size=(40, 2))
    noise[::4, 0] = np.nan
    imputer = LowRankImputer(random_state=0, strength=0.0)
    with pytest.warns(UserWarning, match="held-out cells of no column") as seen:
        filled = imputer.fit_transform(noise)
    assert len(seen) == 1
    assert np.isfinite(filled).all()
    assert all(one.difference >= 0 for one in imputer.scores_.values())


def test_wrong_parameters_are_refused_together():
    imputer = LowRankImputer(limits="no", max_iter=0, n_starts=0, held_out=1)
    with pytest.raises(InvalidValueError, match="limits.*max_iter.*n_starts.*held_out"):
        imputer.fit(array(20))
    table = array(20)
    for bad, match in (
        ({"min_value": 3, "max_value": 3}, "not below"),
        ({"min_value": [1, 2]}, "one for each of the 4 columns"),
        ({"min_value": {"q": 1}}, "'q'"),
    ):
        with pytest.raises(InvalidValueError, match=match):
            LowRankImputer(held_out=0, **bad).fit(table)
    with pytest.raises(InvalidValueError, match="no column of X"):
        LowRankImputer().fit(np.full((3, 2), np.nan))
    with pytest.raises(InvalidValueError, match="m is 0"):
        LowRankImputer(held_out=0).fit(table).sample(table, 0)


def test_fitted_things_have_a_repr_of_a_line():
    imputer = LowRankImputer(random_state=0, strength=0.0).fit(array(60))
    shown = repr(imputer.fitted_)
    assert shown.startswith("TableModel(4 columns modeled")
    assert "\n" not in shown
    assert "\n" not in repr(imputer.held_out_)


def test_weights_count_as_equal_rows() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 1)) + rng.normal(size=(60, 3))
    table[::6, 0] = np.nan
    weights = rng.integers(1, 4, 60)
    options = {"held_out": 0, "strength": 0.0, "tol": 1e-6, "max_iter": 3000}
    weighted = LowRankImputer(**options).fit(table, sample_weight=weights)
    repeated = LowRankImputer(**options).fit(np.repeat(table, weights, 0))
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-9)
    np.testing.assert_allclose(
        weighted.transform(table), repeated.transform(table), rtol=1e-5
    )


def test_numbers_that_are_read_as_dates_are_warned_of() -> None:
    days = pd.date_range("2021-01-01", periods=40).strftime("%Y%m%d").astype(float)
    frame = pd.DataFrame({"day": days, "x": np.arange(40.0)})
    frame.loc[3, "day"] = np.nan
    says = "column 'day' is read as dates: all its numbers have the form YYYYMMDD"
    with pytest.warns(UserWarning, match=says) as caught:
        LowRankImputer(held_out=0).fit(frame)
    assert caught[0].filename == __file__


def test_columns_that_are_not_predicted_are_said_to_be_drawn_if_they_are() -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(200, 1)) + 0.2 * rng.normal(size=(200, 4))
    table[:, 3] = rng.normal(size=200)
    table[rng.random(table.shape) < 0.1] = np.nan
    with pytest.warns(UserWarning, match="is filled with the mean"):
        LowRankImputer(random_state=0).fit(table)
    with pytest.warns(UserWarning, match="draws of 1 column contain little"):
        LowRankImputer(random_state=0, sample_posterior=True).fit(table)
