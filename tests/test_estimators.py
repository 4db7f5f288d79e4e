"""LowRankModel: against PCA, plain computations, and all the ways to say a hole."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from conftest import slow, some
from descents import LowRankModel
from descents.bounds.subspaces import principal_angles
from descents.errors import DescentsError, InvalidValueError, RunFolderError
from descents.tables import files
from descents.tables.datasets import planted_table, uci_iris

IRIS = uci_iris().values
PLANTED = planted_table(60, 10, 2, noise=0.3, seed=0)[0]
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BLANKS = pytest.mark.filterwarnings("ignore:.*no observed cell:UserWarning")


def with_holes(table: np.ndarray, share: float = 0.3, seed: int = 0) -> np.ndarray:
    """Return a table of which a share is missing, no row or column wholly."""
    hidden = np.random.default_rng(seed).random(table.shape) < share
    spared = np.arange(len(table)) % table.shape[1]
    hidden[np.arange(len(table)), spared] = False
    return np.where(hidden, np.nan, table)


def two_by_two(loss: str, rows: int = 40, seed: int = 0) -> np.ndarray:
    """Return a table of six columns that a loss can take, with holes."""
    noisy, _ = planted_table(rows, 6, 2, noise=0.3, seed=seed)
    table = noisy
    if loss == "logistic":
        table = (noisy > 0).astype(float)
    elif loss in ("categorical", "ordinal"):
        table = np.digitize(noisy, [-0.5, 0.5]).astype(float)
    elif loss in ("poisson", "kl"):
        table = np.random.default_rng(seed).poisson(np.exp(0.5 * noisy)).astype(float)
    elif loss == "nonnegative":
        table = np.abs(noisy)
    return with_holes(table, 0.15, seed)


def settings_for(loss: str) -> dict[str, object]:
    """Return the settings under which a loss has a minimum and is followed to it."""
    given: dict[str, object] = {"loss": loss, "penalty": 0.5, "held_out": 0}
    if loss in ("kl", "nonnegative"):
        given["constraint"] = "nonnegative"
    if loss == "nonnegative":
        given["loss"] = "squared"
    return given | {"random_state": 0, "tol": 1e-12, "max_iter": 20_000}


LOSSES = (
    "squared",
    "absolute",
    "huber",
    "logistic",
    "poisson",
    "kl",
    "categorical",
    "ordinal",
)
SOME_LOSSES = [
    loss if loss in ("squared", "logistic", "ordinal") else slow(loss)
    for loss in LOSSES
]


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


# Holes


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


def mixed_frame(rows: int = 60) -> pd.DataFrame:
    """Return numbers and levels of rank two, complete."""
    noisy, _ = planted_table(rows, 8, 2, noise=0.2, seed=3)
    three = np.digitize(noisy, [-0.5, 0.5])
    return pd.DataFrame(
        {
            "height": noisy[:, 0],
            "single": noisy[:, 1].astype(np.float32),
            "count": np.rint(10 * noisy[:, 2]).astype(int),
            "colour": np.array(["red", "green", "blue"])[three[:, 3]],
            "member": noisy[:, 4] > 0,
            "size": pd.Categorical(
                np.array(["S", "M", "L"])[three[:, 5]], ["S", "M", "L"], ordered=True
            ),
            "kind": pd.Categorical(np.array(["x", "y", "z"])[three[:, 6]]),
            "yes": pd.Categorical(np.array(["no", "yes"])[(noisy[:, 7] > 0) * 1]),
        },
        index=[f"row {i}" for i in range(100, 100 + rows)],
    )


def frame_with_holes(rows: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    frame = mixed_frame(rows)
    hole = np.isnan(with_holes(np.zeros(frame.shape), 0.2, seed=4))
    frame = frame.astype({"count": "Int64", "member": "boolean", "colour": "string"})
    return frame.mask(hole), hole


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


def own_squared(prediction, target):
    return (prediction - target) ** 2


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


# Storing


@pytest.mark.parametrize("loss", SOME_LOSSES)
@UNFINISHED
@pytest.mark.parametrize("holes", [slow(False), True])
def test_a_stored_model_is_the_same_to_the_bit(loss, holes, tmp_path) -> None:
    table = two_by_two(loss)
    table = table if holes else np.nan_to_num(table)
    model = LowRankModel(2, **(settings_for(loss) | {"max_iter": 20, "tol": 1e-6}))
    model.fit(table).save(tmp_path / "model.safetensors")
    other = LowRankModel.load(tmp_path / "model.safetensors")
    same = np.testing.assert_array_equal
    same(other.components_, model.components_)
    same(other.embedding_, model.embedding_)
    same(other.offsets_, model.offsets_)
    same(other.transform(table), model.transform(table))
    same(other.impute(table), model.impute(table))
    scores = model.transform(table)
    same(other.inverse_transform(scores), model.inverse_transform(scores))
    assert other.score(table) == model.score(table)
    assert other.loss_ == model.loss_
    np.testing.assert_equal(other.gap_, model.gap_)
    assert other.reference_ == model.reference_
    assert other.columns_ == model.columns_
    assert other.n_iter_ == model.n_iter_
    assert other.solver_ == model.solver_
    assert other.get_params() == model.get_params()
    other.save(tmp_path / "again.safetensors")
    first = (tmp_path / "model.safetensors").read_bytes()
    assert first == (tmp_path / "again.safetensors").read_bytes()


@pytest.mark.parametrize(
    "settings",
    some(
        [
            {"combine": "mean", "n_starts": 3},
            {"offsets": "both", "penalty": {"l2": 0.1, "l2_biases": 0.2}},
            {"offsets": "rows"},
            {"constraint": (None, "nonnegative"), "penalty": {"l1_rows": 0.1}},
            {"scales": True},
            {"random_state": np.random.RandomState(0)},
            {"loss": ["squared", "huber", "squared", "absolute"]},
            {"initialization": (np.ones((1, 150, 2)), np.eye(4)[None, :, :2])},
        ],
        4,
    ),
)
@UNFINISHED
def test_stored_with_other_settings(settings, tmp_path) -> None:
    table = with_holes(IRIS)
    model = LowRankModel(
        2, **({"random_state": 0, "max_iter": 10, "held_out": 0} | settings)
    )
    model.fit(table).save(tmp_path / "model")
    other = LowRankModel.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(other.impute(table), model.impute(table))
    np.testing.assert_array_equal(other.transform(table), model.transform(table))
    assert other.score(table) == model.score(table)


def test_a_stored_model_of_a_frame(mixed, tmp_path) -> None:
    frame, _ = frame_with_holes()
    mixed.save(tmp_path / "model")
    other = LowRankModel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(other.impute(frame), mixed.impute(frame))
    assert other.columns_ == mixed.columns_
    assert list(other.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        other.transform(frame.rename(columns={"height": "width"}))


@pytest.mark.filterwarnings("ignore:.*far outside")
def test_a_stored_float32_model(tmp_path) -> None:
    table = with_holes(IRIS).astype(np.float32)
    model = LowRankModel(2, random_state=0).fit(table)
    model.save(tmp_path / "model")
    other = LowRankModel.load(tmp_path / "model")
    assert other.components_.dtype == np.float32
    np.testing.assert_array_equal(other.impute(table), model.impute(table))


def test_a_stored_sparse_model(tmp_path) -> None:
    table = scipy.sparse.csr_array(np.nan_to_num(with_holes(PLANTED)))
    model = LowRankModel(2, penalty=0.5, random_state=0).fit(table)
    model.save(tmp_path / "model")
    other = LowRankModel.load(tmp_path / "model")
    np.testing.assert_array_equal(other.transform(table), model.transform(table))
    assert other.score(table) == model.score(table)
    i, j = np.indices(table.shape).reshape(2, -1)
    np.testing.assert_array_equal(other.predict_cells(i, j), model.predict_cells(i, j))


def test_a_function_cannot_be_stored(tmp_path) -> None:
    frame = pd.DataFrame(IRIS[:30], columns=list("abcd"))
    model = LowRankModel(2, penalty=1, loss={"c": own_squared}, random_state=0).fit(
        frame
    )
    with pytest.raises(InvalidValueError, match="column 'c' has a loss of your own"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_damaged_or_foreign_file_is_one_sentence(tmp_path) -> None:
    model = LowRankModel(2, random_state=0).fit(IRIS)
    path = tmp_path / "model"
    model.save(path)
    content = path.read_bytes()
    assert b"pickle" not in content
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    facts = json.loads(header["__metadata__"]["facts"])
    assert facts["model"] == "LowRankModel"

    def with_facts(facts: object) -> bytes:
        head = header | {"__metadata__": {"facts": json.dumps(facts)}}
        text = json.dumps(head).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size :]

    model.runs_.save(tmp_path / "runs")
    damaged = {
        "empty": b"",
        "cut": content[:-20],
        "cut in the header": content[:100],
        "text": b"a,b\n1,2\n",
        "pickle": pickle.dumps([1, 2]),
        "runs": (tmp_path / "runs").read_bytes(),
        "no facts": with_facts({}),
        "a list": with_facts([1]),
        "a number": with_facts(3),
        "without columns": with_facts(
            {k: v for k, v in facts.items() if k != "columns"}
        ),
        "unknown setting": with_facts(facts | {"settings": {"colour": 3}}),
        "unknown loss": with_facts(
            facts | {"columns": [facts["columns"][0] | {"loss": "cubic"}] * 4}
        ),
        "fewer columns": with_facts(facts | {"columns": facts["columns"][:2]}),
        "other format": with_facts(facts | {"format": 99}),
        "another model": with_facts(facts | {"model": "Other"}),
    }
    assert LowRankModel.load(path).loss_ == model.loss_
    for name, wrong in damaged.items():
        path.write_bytes(wrong)
        with pytest.raises(RunFolderError) as caught:
            LowRankModel.load(path)
        assert str(path) in str(caught.value), name
    with pytest.raises(RunFolderError, match="absent"):
        LowRankModel.load(tmp_path / "absent")
    with pytest.raises(RunFolderError):
        model.save(tmp_path / "no" / "model")


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
