"""What a table does not hold: rows, columns and levels that are not seen, and no noise."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.decomposition import PCA

from descents import LowRankModel, load
from descents.cells.observed import cells
from descents.cli.main import main
from descents.lowrank.singular_values import by_singular_values


def fitted(model: LowRankModel, table) -> LowRankModel:
    """Fit without the warnings that name what is not seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(table)


# Rows and columns without a cell


def with_gaps() -> np.ndarray:
    draw = np.random.default_rng(0)
    table = draw.gamma(2, 1, (40, 3)) @ draw.gamma(2, 1, (3, 12))
    table *= draw.gamma(50, 1 / 50, table.shape)
    table[5], table[:, 7] = np.nan, np.nan
    return table


def stored(table: np.ndarray) -> scipy.sparse.csr_array:
    rows, columns = np.nonzero(~np.isnan(table))
    values = (table[rows, columns], (rows, columns))
    return scipy.sparse.csr_array(values, shape=table.shape)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("loss", "constraint"),
    [
        ("squared", "nonnegative"),
        ("kl", "nonnegative"),
        ("itakura_saito", "nonnegative"),
        ("kl", ("simplex", "nonnegative")),
        ("squared", ("simplex", None)),
        ("squared", ("nonnegative", "sparse:2")),
    ],
)
@pytest.mark.sampled(4)
def test_what_is_not_seen_is_predicted_by_means(
    loss, constraint, sparse, tmp_path
) -> None:
    table = with_gaps()
    model = LowRankModel(
        3, loss=loss, constraint=constraint, random_state=0, max_iter=200
    )
    fitted(model, stored(table) if sparse else table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a row and a column without numbers
        of_columns, of_rows = np.nanmean(table, 0), np.nanmean(table, 1)
    seen = np.arange(12) != 7
    row = model.predict_cells(np.full(12, 5), np.arange(12))
    assert row[seen] == pytest.approx(of_columns[seen], rel=0.1)
    column = model.predict_cells(np.arange(40), np.full(40, 7))
    away = np.abs(column / of_rows - 1)[np.arange(40) != 5]
    assert np.median(away) < 0.1
    model.save(tmp_path / "model.safetensors")
    again = LowRankModel.load(tmp_path / "model.safetensors")
    blank = scipy.sparse.csr_array((1, 12)) if sparse else np.full((1, 12), np.nan)
    for one in (model, again):
        new = one.inverse_transform(one.transform(blank))[0]
        assert new == pytest.approx(row)


# Row biases


def ratings() -> np.ndarray:
    draw = np.random.default_rng(1)
    table = 3 + 5 * draw.normal(size=(50, 1)) + draw.normal(size=(1, 9))
    table = table + draw.normal(size=(50, 2)) @ draw.normal(size=(2, 9))
    table[draw.random(table.shape) < 0.2] = np.nan
    return table


@pytest.mark.parametrize("offsets", ["rows", "both"])
def test_points_of_known_rows_keep_their_biases(offsets, tmp_path) -> None:
    table = ratings()
    penalty = {"l2": 0.5, "l2_biases": 0.1}
    model = LowRankModel(2, offsets=offsets, penalty=penalty, random_state=0)
    fitted(model, table[:40])
    holes = np.isnan(table[:40])
    back = model.inverse_transform(model.embedding_)
    assert np.std((table[:40] - back)[~holes]) < 0.25 * np.nanstd(table)
    rows, columns = np.nonzero(~holes)
    assert back[~holes] == pytest.approx(model.predict_cells(rows, columns))
    new = model.transform(table[40:])
    predicted = model.inverse_transform(new)
    holes = np.isnan(table[40:])
    assert predicted[holes] == pytest.approx(model.impute(table[40:])[holes])
    assert model.inverse_transform(new[[3, 1]]) == pytest.approx(predicted[[3, 1]])
    given = model.inverse_transform(model.embedding_, row_biases=model.row_biases_)
    assert given == pytest.approx(back)
    model.save(tmp_path / "model.safetensors")
    again = LowRankModel.load(tmp_path / "model.safetensors")
    assert again.inverse_transform(again.embedding_) == pytest.approx(back)


def test_wrong_row_biases_are_refused() -> None:
    model = fitted(LowRankModel(2, random_state=0), ratings())
    with pytest.raises(
        ValueError, match="row_biases are given, but the model has none"
    ):
        model.inverse_transform(model.embedding_, row_biases=np.zeros(50))
    model = fitted(LowRankModel(2, offsets="both", random_state=0), ratings())
    with pytest.raises(ValueError, match=r"row_biases have shape \(3,\)"):
        model.inverse_transform(model.embedding_, row_biases=np.zeros(3))


# Levels of a category that do not occur


UNUSED = (
    ["low", "mid", "high", "extreme"],
    ["none", "low", "mid", "high"],
    ["low", "x", "mid", "high"],
    ["a", "b", "low", "c", "d", "mid", "high", "e"],
)


def of_levels(levels: list[str], *, ordered: bool) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    z = draw.normal(size=60)
    codes = np.where(z > 0.5, "high", np.where(z > -0.5, "mid", "low"))
    frame = pd.DataFrame({"z": z + 0.1 * draw.normal(size=60), "y": z * 2})
    frame["c"] = pd.Categorical(codes, categories=levels, ordered=ordered)
    frame.loc[3:6, "c"] = None
    return frame


OF_LEVELS = (
    "ordinal",
    "ordinal_hinge",
    "bigger_vs_smaller",
    "sequential",
    "ordistic",
    "categorical",
    "one_vs_all",
)
# Quick tests take one choice of levels for each loss, in turn.
UNUSED_OF = [
    pytest.param(loss, levels, marks=[] if i % 4 == k else pytest.mark.slow)
    for i, loss in enumerate(OF_LEVELS)
    for k, levels in enumerate(UNUSED)
]


@pytest.mark.parametrize(("loss", "levels"), UNUSED_OF)
@pytest.mark.sampled(3)
def test_levels_that_do_not_occur_change_nothing(loss, levels, tmp_path) -> None:
    ordered = loss not in ("categorical", "one_vs_all")
    plain = of_levels(["low", "mid", "high"], ordered=ordered)
    settings = {"loss": {"c": loss}, "random_state": 0, "max_iter": 100}
    expected = fitted(LowRankModel(1, **settings), plain)
    frame = of_levels(levels, ordered=ordered)
    model = fitted(LowRankModel(1, **settings), frame)
    assert model.loss_ == expected.loss_
    assert set(model.columns_[2].levels) == {"low", "mid", "high"}
    filled = model.impute(frame)["c"]
    assert list(filled.cat.categories) == levels
    assert (filled == expected.impute(plain)["c"].astype(filled.dtype)).all()
    model.save(tmp_path / "model.safetensors")
    again = LowRankModel.load(tmp_path / "model.safetensors")
    if not ordered:  # a class that the model does not know
        return
    # A row that holds such a level is still a row.
    frame.loc[0, "c"] = next(x for x in levels if x not in ("low", "mid", "high"))
    assert again.transform(frame) == pytest.approx(model.transform(frame))


def test_an_unused_level_stands_for_its_neighbor() -> None:
    frame = of_levels(["none", "low", "mid", "high"], ordered=True)
    model = fitted(LowRankModel(1, random_state=0), frame)
    lowest, unused = frame.iloc[:1].copy(), frame.iloc[:1].copy()
    lowest["c"] = pd.Categorical(["low"], frame["c"].cat.categories, ordered=True)
    unused["c"] = pd.Categorical(["none"], frame["c"].cat.categories, ordered=True)
    assert model.transform(unused) == pytest.approx(model.transform(lowest))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("loss", ["categorical", "one_vs_all"])
def test_a_class_that_is_only_declared_is_refused_and_why(
    ordered, loss, tmp_path
) -> None:
    frame = of_levels(["low", "mid", "high", "extreme"], ordered=ordered)
    settings = {"loss": {"c": loss}, "random_state": 0, "max_iter": 100}
    model = fitted(LowRankModel(1, **settings), frame)
    model.save(tmp_path / "model.safetensors")
    again = LowRankModel.load(tmp_path / "model.safetensors")
    new, blank = frame.head(3).copy(), frame.head(3).copy()
    new.loc[0, "c"] = "extreme"
    blank.loc[0, "c"] = None
    for one in (model, again):
        with pytest.raises(
            ValueError, match="'extreme' was declared as a category there, but never"
        ):
            one.transform(new)
    other = new.assign(c=["wrong", "mid", "extreme"])
    with pytest.raises(
        ValueError, match="'extreme', 'wrong' in 2 cells.*; 'extreme' was"
    ):
        model.transform(other)
    lenient = fitted(LowRankModel(1, unseen="missing", **settings), frame)
    with pytest.warns(UserWarning, match="declared as a category .* read as missing"):
        found = lenient.transform(new)
    np.testing.assert_array_equal(found, model.transform(blank))


def test_a_network_says_so_too(tmp_path, capsys) -> None:
    frame = of_levels(["low", "mid", "high", "extreme"], ordered=False)
    new = frame.head(3).copy()
    new.loc[0, "c"] = "extreme"
    for name, one in (("fit", frame), ("new", new)):
        one.to_parquet(tmp_path / f"{name}.parquet")
    run, rows = str(tmp_path / "run"), str(tmp_path / "new.parquet")
    training = ["train", str(tmp_path / "fit.parquet"), "--target", "y", "--quiet"]
    training += ["--starts", "2", "--epochs", "2", "--diagnose", "0", "--out", run]
    assert main(training) == 0
    applied = ["apply", run, rows, "--quiet", "--out"]
    assert main([*applied, str(tmp_path / "one")]) == 2
    said = capsys.readouterr().err
    assert "'extreme' was declared as a category there, but never observed" in said
    assert "--unseen missing" in said
    assert main([*applied, str(tmp_path / "two"), "--unseen", "missing"]) == 0
    with pytest.raises(ValueError, match="never observed") as caught:
        load(run).predict(new)
    assert "--" not in str(caught.value)


def test_a_level_of_no_weight_does_not_occur() -> None:
    frame = of_levels(["low", "mid", "high"], ordered=True)
    weights = np.ones(frame.shape)
    weights[(frame["c"] == "low").to_numpy(), 2] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LowRankModel(1, random_state=0).fit(frame, weights=weights)
    assert model.columns_[2].levels == ("mid", "high")


# No noise


@pytest.mark.parametrize("offsets", ["none", "columns", "rows", "both"])
@pytest.mark.parametrize(("rows", "columns", "rank"), [(40, 15, 3), (15, 40, 2)])
def test_roundings_are_no_components(rows, columns, rank, offsets) -> None:
    draw = np.random.default_rng(rows)
    table = draw.normal(size=(rows, rank)) @ draw.normal(size=(rank, columns))
    constant = np.full((rows, columns), 7.0)

    def count(one: np.ndarray) -> int:
        return by_singular_values(cells(one), offsets).rank

    more = int(offsets == "none")  # a constant is a component of its own
    assert count(table) == rank
    assert count(table.astype(np.float32)) == rank
    assert count(table * 1e12) == rank
    assert count(table + 1e6) == rank + more
    assert count((table + 1e4).astype(np.float32)) == rank + more
    assert count(constant / 3) == more
    widened = rank + int(offsets in ("none", "rows"))
    assert count(np.hstack([table, constant])) == widened
    noisy = table + 0.1 * draw.normal(size=table.shape)
    assert count(noisy) == rank
    assert count(np.hstack([noisy, constant, constant])) == widened


# Nonnegative starts


@pytest.mark.parametrize("loss", ["squared", "kl"])
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_one_start_finds_disjoint_parts(loss, holes) -> None:
    draw = np.random.default_rng(7)
    W, H = np.zeros((60, 6)), np.zeros((6, 30))
    W[np.arange(60), draw.integers(0, 6, 60)] = draw.gamma(2, 1, 60)
    H[draw.integers(0, 6, 30), np.arange(30)] = draw.gamma(2, 1, 30)
    table = W @ H
    table[draw.random(table.shape) < holes] = np.nan
    model = LowRankModel(6, loss=loss, constraint="nonnegative", random_state=0)
    fitted(model, table)
    assert model.loss_ < 1e-6 * model.constants_loss_


# float32 far from zero


@pytest.mark.parametrize("middle", [1e5, 1e6])
@pytest.mark.parametrize("holes", [False, True])
def test_float32_far_from_zero_is_as_good_as_pca(middle, holes) -> None:
    draw = np.random.default_rng(2)
    plain = draw.normal(size=(80, 2)) @ (3 * draw.normal(size=(2, 9)))
    plain = plain + draw.normal(size=plain.shape)
    table = (plain + middle).astype(np.float32)
    pca = PCA(2, svd_solver="full").fit(table.astype(np.float64)).components_
    if holes:  # one, which moves the space by little
        table[0, 0] = np.nan
    model = fitted(LowRankModel(2, random_state=0), table)
    cosines = np.linalg.svd(model.components_ @ pca.T, compute_uv=False)
    assert cosines.min() > (0.99 if holes else 1 - 1e-9)
