"""LowRankModel: fits against PCA and plain computations, imputing, scores, new rows."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from conftest import slow, some
from descents import LowRankModel
from descents.bounds.subspaces import principal_angles
from descents.errors import InvalidValueError
from descents.tables.datasets import planted_table
from lowrank_tables import (
    BLANKS,
    IRIS,
    LOSSES,
    PLANTED,
    UNFINISHED,
    frame_with_holes,
    mixed_frame,
    own_squared,
    settings_for,
    two_by_two,
    with_holes,
)

# What scikit-learn asks of an estimator


@UNFINISHED
@BLANKS
@parametrize_with_checks(
    [
        LowRankModel(random_state=0, max_iter=50),
        LowRankModel(random_state=0, max_iter=50, constraint="nonnegative"),
    ]
)
def test_scikit_learn_checks(estimator, check) -> None:
    check(estimator)


@pytest.mark.slow
@UNFINISHED
@BLANKS
@parametrize_with_checks(
    [LowRankModel(random_state=0, max_iter=60, loss="huber", penalty=0.1)]
)
def test_scikit_learn_checks_of_a_robust_loss(estimator, check) -> None:
    check(estimator)


# Against PCA


def standardized() -> np.ndarray:
    return StandardScaler().fit_transform(load_breast_cancer().data)


TABLES = {
    "iris": (lambda: IRIS, 2),
    "digits": (lambda: load_digits().data, 10),
    "cancer": (standardized, 5),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("random_state", [0, slow(1), slow(7)])
def test_complete_squared_loss_is_pca(name, random_state) -> None:
    make, rank = TABLES[name]
    table = make()
    model = LowRankModel(rank, random_state=random_state).fit(table)
    peer = PCA(rank, svd_solver="full").fit(table)
    np.testing.assert_allclose(model.components_, peer.components_, atol=1e-6)
    # What the components are off is multiplied by the length of a row.
    scale = np.linalg.norm(table - peer.mean_, axis=1).max()
    scores = peer.transform(table)
    np.testing.assert_allclose(model.embedding_, scores, atol=1e-6 * scale)
    np.testing.assert_allclose(model.offsets_, peer.mean_, atol=1e-9 * scale)
    assert abs(model.gap_) < 1e-9
    assert model.reference_.kind == "exact"
    assert model.columns_[0].why == "numbers"


@pytest.mark.parametrize("name", TABLES)
def test_float32_stays_float32(name) -> None:
    make, rank = TABLES[name]
    table = make().astype(np.float32)
    model = LowRankModel(rank, random_state=0)
    embedding = model.fit_transform(table)
    assert embedding.dtype == model.components_.dtype == np.float32
    assert model.transform(table).dtype == model.impute(table).dtype == np.float32
    assert abs(model.gap_) < 1e-5
    peer = PCA(rank, svd_solver="full").fit(table)
    np.testing.assert_allclose(model.components_, peer.components_, atol=5e-3)


# Missing cells


def said_in_many_ways() -> dict[str, object]:
    """Return one table, its holes said in all ways; what is under them differs."""
    table = with_holes(np.round(10 * IRIS[:40]), 0.25)
    hole = np.isnan(table)
    under = np.where(hole, 1e6, table)
    names = list("abcd")
    whole = pd.DataFrame({n: under[:, j].astype(int) for j, n in enumerate(names)})
    nullable = whole.astype("Int64").mask(hole)
    return {
        "nan": table,
        "list of None": [
            [None if np.isnan(x) else x for x in row] for row in table.tolist()
        ],
        "objects": np.where(hole, None, table.astype(object)),
        "masked": np.ma.masked_array(under, hole),
        "masked integers": np.ma.masked_array(under.astype(int), hole),
        "masked nan": np.ma.masked_array(np.where(hole, np.nan, table), hole),
        "masked infinity": np.ma.masked_array(np.where(hole, np.inf, table), hole),
        "pandas": pd.DataFrame(table, columns=names),
        "pandas Int64": nullable,
        "pandas Float64": nullable.astype("Float64"),
        "pandas objects": pd.DataFrame(
            np.where(hole, None, table.astype(object)), columns=names
        ),
        "polars": pl.DataFrame(
            {n: pl.Series(table[:, j]).fill_nan(None) for j, n in enumerate(names)}
        ),
        "polars integers": pl.DataFrame(
            {
                n: pl.Series([None if np.isnan(x) else int(x) for x in table[:, j]])
                for j, n in enumerate(names)
            }
        ),
    }


@pytest.mark.parametrize("way", some(list(said_in_many_ways())[:0:-1], 6))
def test_all_ways_to_say_a_hole_are_one_fit(way) -> None:
    tables = said_in_many_ways()
    model = LowRankModel(2, penalty=1.0, random_state=0)
    expected = clone(model).fit(tables["nan"])
    found = clone(model).fit(tables[way])
    assert found.loss_ == pytest.approx(expected.loss_, rel=1e-12)
    np.testing.assert_allclose(found.embedding_, expected.embedding_, atol=1e-10)
    again = found.transform(tables[way])
    np.testing.assert_allclose(again, expected.transform(tables["nan"]), atol=1e-10)


@pytest.mark.parametrize("under", [0.0, -3.0, 1e6, np.nan])
def test_a_weight_of_zero_is_a_hole(under) -> None:
    table = said_in_many_ways()["nan"]
    hole = np.isnan(table)
    model = LowRankModel(2, penalty=1.0, random_state=0)
    expected = clone(model).fit(table)
    found = clone(model).fit(
        np.where(hole, under, table), weights=(~hole).astype(float)
    )
    np.testing.assert_allclose(found.embedding_, expected.embedding_, atol=1e-10)
    np.testing.assert_allclose(found.components_, expected.components_, atol=1e-10)


@pytest.mark.parametrize("loss", ["logistic", "categorical", "ordinal"])
@pytest.mark.parametrize("under", [7.0, -1.0, np.nan])
@pytest.mark.sampled(4)
def test_a_level_under_a_weight_of_zero_is_none(loss, under) -> None:
    table = two_by_two(loss)
    hole = np.isnan(table)
    model = LowRankModel(2, loss=loss, penalty=0.5, random_state=0)
    expected = clone(model).fit(table)
    weights = (~hole).astype(float)
    found = clone(model).fit(np.where(hole, under, table), weights=weights)
    assert found.columns_ == expected.columns_
    np.testing.assert_allclose(found.embedding_, expected.embedding_, atol=1e-10)


def test_whole_weights_count_rows_that_often() -> None:
    table = with_holes(PLANTED[:30], 0.2)
    often = np.random.default_rng(0).integers(1, 4, 30)
    # Without a penalty the problem is flat; one on the columns alone would be scaled away.
    model = LowRankModel(2, penalty=0, random_state=0, solver="lbfgs", max_iter=3000)
    weighted = clone(model).fit(table, weights=np.repeat(often[:, None], 10, 1))
    repeated = clone(model).fit(np.repeat(table, often, axis=0))
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-7)


@pytest.fixture(scope="module")
def mixed() -> LowRankModel:
    frame, _ = frame_with_holes()
    return LowRankModel(2, random_state=0).fit(frame)


def test_missing_levels_are_the_same_in_pandas_and_polars(mixed) -> None:
    frame, _ = frame_with_holes()
    objects = frame.astype({"colour": object, "member": object})
    assert LowRankModel(2, random_state=0).fit(objects).loss_ == mixed.loss_
    other = pl.from_pandas(frame.reset_index(drop=True)).with_columns(
        pl.col("size").cast(pl.String).cast(pl.Enum(["S", "M", "L"]))
    )
    found = LowRankModel(2, random_state=0).fit(other)
    np.testing.assert_allclose(found.embedding_, mixed.embedding_, atol=1e-10)


# Imputing


def test_imputing_pandas_changes_no_observed_cell_and_no_type(mixed) -> None:
    frame, hole = frame_with_holes()
    before = frame.copy(deep=True)
    filled = mixed.impute(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert not filled.isna().to_numpy().any()
    assert (filled.dtypes == frame.dtypes).all()
    assert list(filled.dtypes) == [
        np.float64,
        np.float32,
        pd.Int64Dtype(),
        pd.StringDtype(),
        pd.BooleanDtype(),
        frame["size"].dtype,
        frame["kind"].dtype,
        frame["yes"].dtype,
    ]
    assert filled.index.equals(frame.index)
    assert list(filled.columns) == list(frame.columns)
    pd.testing.assert_frame_equal(filled.mask(hole), frame, check_exact=True)
    truth = mixed_frame()
    for name in ("colour", "member", "size", "kind", "yes"):
        missing = hole[:, frame.columns.get_loc(name)]
        right = filled[name].astype(str)[missing] == truth[name].astype(str)[missing]
        assert right.mean() > 0.4, name


def test_imputing_polars_changes_no_observed_cell_and_no_type() -> None:
    frame = pl.from_pandas(frame_with_holes()[0].reset_index(drop=True))
    filled = LowRankModel(2, random_state=0).fit(frame).impute(frame)
    assert filled.schema == frame.schema
    assert sum(filled.null_count().row(0)) == 0
    for name in frame.columns:
        known = frame[name].is_not_null()
        assert filled[name].filter(known).equals(frame[name].filter(known))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_imputing_an_array_changes_no_observed_cell(dtype) -> None:
    table = with_holes(PLANTED).astype(dtype)
    filled = LowRankModel(2, random_state=0).fit(table).impute(table)
    assert filled.dtype == dtype
    known = ~np.isnan(table)
    assert filled[known].tobytes() == table[known].tobytes()
    assert np.isfinite(filled).all()


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.float32, bool])
def test_imputing_a_masked_array_keeps_its_type(dtype) -> None:
    noisy, _ = planted_table(40, 6, 2, noise=0.1, seed=0)
    values = noisy > 0 if dtype is bool else np.maximum(np.rint(3 * noisy), 0)
    hole = np.isnan(with_holes(noisy))
    table = np.ma.masked_array(values.astype(dtype), hole)
    filled = LowRankModel(2, penalty=1.0, random_state=0).fit(table).impute(table)
    assert filled.dtype == dtype
    assert not np.ma.isMaskedArray(filled)
    assert (filled[~hole] == table.data[~hole]).all()
    # Unsigned numbers do not wrap, and no prediction turns true by not being zero.
    assert (filled.astype(float) <= values.max() + 1).all()
    if dtype is bool:
        assert (filled[hole] == values[hole]).mean() > 0.6


def test_imputing_a_list_of_lists() -> None:
    table = with_holes(PLANTED, 0.2)
    lists = [[None if np.isnan(x) else x for x in row] for row in table.tolist()]
    model = LowRankModel(2, random_state=0).fit(lists)
    np.testing.assert_array_equal(model.impute(lists), model.impute(table))


@pytest.mark.parametrize("seed", [0, 1])
def test_hidden_cells_of_a_planted_table_come_back(seed) -> None:
    noisy, clean = planted_table(300, 100, 4, noise=0.1, seed=seed)
    hidden = np.random.default_rng(seed).random(noisy.shape) < 0.4
    table = np.where(hidden, np.nan, noisy)
    model = LowRankModel(4, offsets="none", random_state=seed).fit(table)
    error = (model.impute(table) - clean)[hidden]
    assert np.sqrt(np.square(error).mean()) < 0.05  # noise alone: 0.1


def test_imputing_new_rows_of_text_may_need_a_level_they_lack() -> None:
    frame = mixed_frame(80)[["height", "single", "colour", "kind", "member"]]
    model = LowRankModel(2, random_state=0, penalty=0.1).fit(frame)
    for name in ("colour", "kind"):
        for lacking in frame[name].unique():
            rows = frame[frame[name] != lacking].copy()
            rows.loc[rows.index[::2], name] = None
            whole = frame[["height", "single", "colour", "kind", "member"]].copy()
            whole.loc[rows.index[::2], name] = None
            expected = model.impute(whole).loc[rows.index, name]
            found = model.impute(rows)[name]
            assert (found.astype(str) == expected.astype(str)).all()


# New rows


@pytest.mark.parametrize(
    "loss", [*(loss for loss in LOSSES if loss != "absolute"), "nonnegative"]
)
@pytest.mark.sampled(4)
def test_transform_of_the_training_table_is_the_embedding(loss) -> None:
    table = two_by_two(loss)
    model = LowRankModel(2, **settings_for(loss))
    embedding = model.fit_transform(table)
    np.testing.assert_array_equal(embedding, model.embedding_)
    found = model.transform(table)
    np.testing.assert_allclose(found, embedding, atol=1e-6)
    # Neither the order of the rows nor what stands beside them matters.
    order = np.random.default_rng(0).permutation(len(table))
    np.testing.assert_allclose(model.transform(table[order]), found[order], atol=1e-8)
    each = np.vstack([model.transform(row[None]) for row in table[:5]])
    np.testing.assert_allclose(each, found[:5], atol=1e-6)


@pytest.mark.parametrize("loss", ["squared", "logistic", "poisson"])
def test_a_new_row_minimises_its_own_objective(loss) -> None:
    table = two_by_two(loss)
    model = LowRankModel(2, **(settings_for(loss) | {"offsets": "none"})).fit(table)
    problem, point = model.fitted_.problem, model.fitted_.points[0]
    row = two_by_two(loss, seed=5)[3]
    row[1] = np.nan
    known = ~np.isnan(row)
    V = point["V"][known]

    def objective(u: np.ndarray) -> float:
        z, x = V @ u + problem.base[known], row[known]
        values = {
            "squared": np.square(z - x),
            "logistic": np.logaddexp(0, z) - x * z,
            "poisson": np.exp(z) - x * z,
        }[loss]
        return float(values.sum() + 0.5 * u @ u)

    best = minimize(objective, np.zeros(2), options={"gtol": 1e-10}, method="BFGS")
    expected = best.x @ point["V"].T
    found = model.transform(row[None]) @ model.components_
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_a_row_without_any_cell_is_the_constant() -> None:
    model = LowRankModel(2, penalty=0.1, held_out=0, random_state=0)
    model.fit(with_holes(IRIS))
    blank = np.full((1, 4), np.nan)
    assert np.isfinite(model.transform(blank)).all()
    np.testing.assert_allclose(
        model.impute(blank),
        model.inverse_transform(model.transform(blank)),
        atol=1e-9,
    )
    both = model.transform(np.vstack([IRIS[:1], blank, IRIS[1:2]]))
    np.testing.assert_allclose(both[1:2], model.transform(blank), atol=1e-12)
    np.testing.assert_allclose(both[::2], model.transform(IRIS[:2]), atol=1e-9)


@pytest.mark.parametrize("loss", [*LOSSES, "nonnegative"])
@UNFINISHED
@pytest.mark.sampled(4)
def test_inverse_transform_is_the_reconstruction(loss) -> None:
    table = two_by_two(loss)
    settings = settings_for(loss) | {"max_iter": 500, "tol": 1e-8}
    model = LowRankModel(2, **settings).fit(table)
    back = model.inverse_transform(model.transform(table))
    hole = np.isnan(table)
    assert back.shape == table.shape
    # float64 numbers all, as the levels of the array are numbers.
    np.testing.assert_allclose(model.impute(table)[hole], back[hole], atol=1e-9)


def test_inverse_transform_of_a_frame_gives_levels(mixed) -> None:
    frame, _ = frame_with_holes()
    back = mixed.inverse_transform(mixed.transform(frame))
    assert back.shape == frame.shape
    assert set(back[:, 3]) <= {"red", "green", "blue"}
    assert set(back[:, 4]) <= {True, False}
    assert set(back[:, 5]) <= {"S", "M", "L"}
    with pytest.raises(InvalidValueError, match=r"shape \(60, 3\); give \(rows, 2\)"):
        mixed.inverse_transform(np.zeros((60, 3)))


@pytest.mark.parametrize("offsets", ["none", "columns", "rows", "both"])
def test_offsets_are_in_the_predictions(offsets) -> None:
    noisy, _ = planted_table(40, 8, 1, noise=0.1, seed=0)
    rows = np.linspace(-5, 5, 40)[:, None]
    columns = np.linspace(10, 20, 8)
    table = with_holes(noisy + rows * (offsets in ("rows", "both")))
    table += columns * (offsets in ("columns", "both"))
    model = LowRankModel(1, offsets=offsets, penalty=0, random_state=0).fit(table)
    again = model.transform(table)
    np.testing.assert_allclose(again, model.embedding_, atol=1e-4)
    # As many parameters as that, and no more: each kept cell is near.
    left, right = model.fitted_.sides(model.fitted_.points[0])
    assert np.nanstd(left @ right.T - table) < 0.12


# Scores, names, pipelines


@pytest.mark.parametrize("holes", [False, True])
def test_score_is_r_squared(holes) -> None:
    table = with_holes(PLANTED) if holes else PLANTED
    model = LowRankModel(2, random_state=0).fit(table)
    rest = model.inverse_transform(model.embedding_) - table
    total = table - np.nanmean(table, axis=0)
    expected = 1 - np.nansum(rest**2) / np.nansum(total**2)
    assert model.score(table) == pytest.approx(expected, abs=1e-9)


def test_names_and_output_formats() -> None:
    frame = pd.DataFrame(IRIS, columns=list("abcd"), index=range(5, 155))
    model = LowRankModel(2, random_state=0).set_output(transform="pandas")
    out = model.fit_transform(frame)
    assert list(model.get_feature_names_out()) == ["lowrankmodel0", "lowrankmodel1"]
    assert list(out.columns) == ["lowrankmodel0", "lowrankmodel1"]
    assert out.index.equals(frame.index)
    np.testing.assert_array_equal(out.to_numpy(), model.embedding_)
    polars = model.set_output(transform="polars").transform(frame)
    assert isinstance(polars, pl.DataFrame)
    assert polars.columns == ["lowrankmodel0", "lowrankmodel1"]
    assert list(model.feature_names_in_) == list("abcd")
    assert model.n_features_in_ == 4
    other = model.set_output(transform="default").inverse_transform(out)
    assert other.shape == IRIS.shape
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match="3 features"):
        LowRankModel(2).fit(IRIS).transform(IRIS[:, :3])


def test_in_a_pipeline_and_a_grid_search() -> None:
    pipeline = make_pipeline(StandardScaler(), LowRankModel(random_state=0))
    search = GridSearchCV(
        pipeline,
        {"lowrankmodel__n_components": [1, 2, 3]},
        cv=3,
        error_score="raise",
    )
    search.fit(with_holes(PLANTED, 0.1))
    assert search.best_params_ == {"lowrankmodel__n_components": 3}
    assert search.transform(PLANTED).shape == (60, 3)
    assert 0.8 < search.best_score_ <= 1


def test_clone_and_pickle(mixed) -> None:
    frame, _ = frame_with_holes()
    twin = clone(mixed)
    assert not hasattr(twin, "components_")
    with pytest.raises(NotFittedError):
        twin.transform(frame)
    assert twin.fit(frame).loss_ == mixed.loss_
    other = pickle.loads(pickle.dumps(mixed))
    np.testing.assert_array_equal(other.transform(frame), mixed.transform(frame))


def test_the_same_random_state_gives_the_same_fit() -> None:
    table = with_holes(PLANTED)
    first, second = (LowRankModel(2, random_state=3).fit(table) for _ in range(2))
    assert first.embedding_.tobytes() == second.embedding_.tobytes()
    state = np.random.RandomState(3)
    assert LowRankModel(2, random_state=state).fit(table).loss_ == first.loss_
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    LowRankModel(2, random_state=0, n_starts=2).fit(table)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


# Several starts


def test_the_mean_of_starts_is_the_mean_of_predictions() -> None:
    table = with_holes(planted_table(30, 8, 3, noise=0.5, seed=2)[0], 0.4)
    shared = {
        "n_components": 3,
        "n_starts": 8,
        "random_state": 0,
        "held_out": 0,
        "penalty": 0.1,
    }
    best = LowRankModel(**shared).fit(table)
    mean = LowRankModel(**shared, combine="mean").fit(table)
    np.testing.assert_array_equal(best.runs_.losses, mean.runs_.losses)
    parameters = mean.runs_.parameters
    predictions = parameters["U"] @ np.swapaxes(parameters["V"], 1, 2)
    predictions = predictions + parameters["offsets"][:, None]
    hole = np.isnan(table)
    expected = predictions.mean(0)[hole]
    np.testing.assert_allclose(mean.impute(table)[hole], expected, atol=1e-5)
    at_best = predictions[best.runs_.best][hole]
    np.testing.assert_allclose(best.impute(table)[hole], at_best, atol=1e-5)
    i, j = np.argwhere(hole).T
    np.testing.assert_allclose(mean.predict_cells(i, j), expected, atol=1e-9)
    assert best.loss_ == best.runs_.losses.min()


def test_what_the_runs_say() -> None:
    noisy, _ = planted_table(60, 10, 2, noise=0.05, seed=0)
    several = LowRankModel(2, n_starts=8, random_state=0).fit(with_holes(noisy, 0.1))
    assert several.subspace_agreement_ == pytest.approx(1, abs=1e-6)
    table = pd.DataFrame(several.runs_.table())
    assert len(table) == 8
    assert {"start", "loss", "status", "steps_taken"} <= set(table.columns)
    assert table["loss"].min() == several.loss_
    assert several.n_iter_ == table["steps_taken"][several.runs_.best]
    assert LowRankModel(2, random_state=0).fit(noisy).subspace_agreement_ is None


def test_starts_of_the_users_own() -> None:
    generator = np.random.default_rng(0)
    U, V = generator.normal(size=(3, 150, 2)), generator.normal(size=(3, 4, 2))
    model = LowRankModel(2, initialization=(U, V), n_starts=3).fit(IRIS)
    assert abs(model.gap_) < 1e-9
    with pytest.raises(InvalidValueError, match="only 3 initial points were given"):
        LowRankModel(2, initialization=(U, V), n_starts=4).fit(IRIS)
    with pytest.raises(InvalidValueError, match=r"initial V has shape \(3, 2, 4\)"):
        LowRankModel(2, initialization=(U, V.transpose(0, 2, 1)), n_starts=3).fit(IRIS)
    for wrong in (None, 3, (U,), (U, V, V), ("U", "V"), (U[0], V[0])):
        with pytest.raises(InvalidValueError, match="initial"):
            LowRankModel(2, initialization=wrong, n_starts=3).fit(IRIS)


@pytest.mark.parametrize(
    "initialization", some(["uniform", "nndsvd", "normal", "spectral"], 2)
)
@pytest.mark.parametrize("steps", ["alternating", "lbfgs", slow("gd")])
def test_all_roads_lead_to_the_minimum(initialization, steps) -> None:
    table = (IRIS - IRIS.mean(0))[:50]
    model = LowRankModel(
        2, initialization=initialization, solver=steps, random_state=0, max_iter=5000
    ).fit(table)
    assert model.solver_ == steps
    assert abs(model.gap_) < 1e-6


# Losses of the user's own


@pytest.mark.parametrize("penalty", [0, 0.5])
def test_a_function_that_is_squared_loss(penalty) -> None:
    table = with_holes(PLANTED, 0.2)
    shared = {"random_state": 0, "tol": 1e-12, "max_iter": 50_000, "penalty": penalty}
    named = LowRankModel(2, loss="squared", **shared).fit(table)
    own = LowRankModel(2, loss=own_squared, **shared).fit(table)
    assert own.loss_ == pytest.approx(named.loss_, rel=1e-8)
    np.testing.assert_allclose(own.impute(table), named.impute(table), atol=1e-5)
    np.testing.assert_allclose(
        own.transform(table) @ own.components_ + own.offsets_,
        named.transform(table) @ named.components_ + named.offsets_,
        atol=1e-5,
    )
    assert own.solver_ == "lbfgs"
    assert own.columns_[0].why == "as asked for"


class BoomError(RuntimeError):
    pass


def boom(prediction, target):
    raise BoomError("mine")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda prediction, target: prediction * float("nan"), "NaN or infinite"),
        (lambda prediction, target: prediction.sum(), r"returns \(\)"),
        (
            lambda prediction, target: prediction.mean(-1),
            "return a tensor of that shape",
        ),
        (lambda prediction, target: 3.0, "returns float"),
        (lambda prediction, target: None, "returns NoneType"),
    ],
)
def test_a_function_that_is_no_loss(function, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        LowRankModel(2, loss=function, random_state=0).fit(with_holes(IRIS))
    with pytest.raises(InvalidValueError, match=message):
        LowRankModel(2, loss=function, random_state=0).fit(IRIS)


def test_an_error_in_a_function_passes_through() -> None:
    with pytest.raises(BoomError, match="mine"):
        LowRankModel(2, loss=boom).fit(IRIS)


# Robust losses, against least squares on the clean cells


def angle(model, right) -> float:
    """Return the largest angle between the found and the planted space of columns."""
    return float(principal_angles(model.components_.T, right)[0])


@pytest.mark.parametrize("noise", [0.0, slow(0.1), 0.5])
@pytest.mark.parametrize("holes", [slow(False), True])
@pytest.mark.parametrize("seed", some(range(6), 1))
@UNFINISHED
def test_gross_outliers_hardly_move_robust_losses(noise, holes, seed) -> None:
    table, clean = planted_table(300, 50, 3, noise=noise, seed=seed)
    right = np.linalg.svd(clean)[2][:3].T
    generator = np.random.default_rng(seed)
    gross = generator.random(table.shape) < 0.05
    spoilt = table + gross * 10 * generator.standard_normal(table.shape)
    if holes:
        hole = generator.random(table.shape) < 0.3
        table, spoilt = np.where(hole, np.nan, table), np.where(hole, np.nan, spoilt)
    shared = {"n_components": 3, "offsets": "none", "random_state": seed}
    ideal = LowRankModel(**shared).fit(np.where(gross, np.nan, table))
    angles = {
        loss: angle(LowRankModel(loss=loss, **shared).fit(spoilt), right)
        for loss in ("huber", "absolute")
    }
    if noise == 0:
        assert angles["absolute"] < 1e-3
        assert angles["huber"] < 1e-3
        return
    assert angles["huber"] <= 1.25 * angle(ideal, right)
    assert angles["absolute"] <= 1.5 * angle(ideal, right)


def test_gross_outliers_move_squared_loss() -> None:
    table, clean = planted_table(300, 50, 3, noise=0.5, seed=0)
    generator = np.random.default_rng(0)
    gross = generator.random(table.shape) < 0.05
    spoilt = table + gross * 10 * generator.standard_normal(table.shape)
    model = LowRankModel(3, offsets="none", random_state=0).fit(spoilt)
    assert angle(model, np.linalg.svd(clean)[2][:3].T) > 0.3
