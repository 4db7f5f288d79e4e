"""Rows and columns without an observed cell are predicted by means, whatever is asked."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse

from descents import Fixed, LowRankModel

OFFSETS = ["none", "columns", "rows", "both"]
CONSTRAINTS = [
    None,
    "nonnegative",
    ("nonnegative", None),
    (None, "nonnegative"),
    ("simplex", None),
    (None, "simplex"),
    ("one_hot", None),
    ("one_sparse", None),
    ("sparse:2", "sparse:2"),
    ("unit_norm", None),
    (None, "unit_norm"),
]


def with_gaps() -> np.ndarray:
    draw = np.random.default_rng(0)
    table = draw.gamma(2, 1, (40, 3)) @ draw.gamma(2, 1, (3, 12))
    table *= draw.gamma(50, 1 / 50, table.shape)
    table[draw.random(table.shape) < 0.1] = np.nan
    table[5], table[:, 7] = np.nan, np.nan
    return table


def fitted(table: np.ndarray, **settings) -> LowRankModel:
    """Fit without the warnings that name what has no cell, or is not yet stationary."""
    settings = {"random_state": 0, "max_iter": 100, "held_out": 0, **settings}
    rank = settings.pop("rank", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LowRankModel(rank, **settings).fit(table)


def means(table: np.ndarray, axis: int) -> np.ndarray:
    return np.array([np.mean(x[~np.isnan(x)]) for x in np.moveaxis(table, axis, -1)])


ROWS, COLUMNS = np.arange(40) != 5, np.arange(12) != 7


@pytest.mark.filterwarnings("ignore:.*predicted far outside")
@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.sampled(12)
def test_means_fill_what_is_blank(constraint, offsets, tmp_path) -> None:
    table = with_gaps()
    model = fitted(table, constraint=constraint, offsets=offsets)
    filled = model.impute(table)
    of_columns = means(table[:, COLUMNS], 0)
    of_rows = means(table[ROWS], 1)
    # One cluster of three is all that such a row can be.
    few = constraint == ("one_hot", None) or "sparse" in str(constraint)
    most = 0.15 if few else 0.05
    away = np.abs(filled[5, COLUMNS] / of_columns - 1)
    assert np.median(away) < most
    away = np.abs(filled[ROWS, 7] / of_rows - 1)
    assert np.median(away) < most
    model.save(tmp_path / "model.safetensors")
    again = LowRankModel.load(tmp_path / "model.safetensors")
    blank = np.full((2, 12), np.nan)
    blank[1] = table[3]
    for one in (model, again):
        new = one.inverse_transform(one.transform(blank))
        assert new[0] == pytest.approx(filled[5], rel=1e-9)
        assert one.impute(blank)[0] == pytest.approx(filled[5], rel=1e-9)
        assert one.inverse_transform(one.embedding_)[5] == pytest.approx(filled[5])


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("penalty", [None, 0.5])
def test_they_are_the_nearest_by_least_squares(offsets, penalty) -> None:
    table = with_gaps()
    weights = np.random.default_rng(1).uniform(0.5, 2, table.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LowRankModel(2, offsets=offsets, penalty=penalty, random_state=0)
        model.fit(table, weights=weights)
    seen = ~np.isnan(table)
    wide = (weights * seen)[:, COLUMNS]
    of_columns = (wide * np.nan_to_num(table[:, COLUMNS])).sum(0) / wide.sum(0)
    all_rows = np.arange(40)
    predicted = np.column_stack(
        [model.predict_cells(all_rows, np.full(40, j)) for j in range(12)]
    )
    # A column by the mean of what is predicted of the others.
    counts = seen[:, COLUMNS].sum(0)
    mean = np.average(predicted[:, COLUMNS], axis=1, weights=counts)
    np.testing.assert_allclose(predicted[ROWS, 7], mean[ROWS], rtol=1e-8)
    # A row by the affine space of the model.
    point = model.fitted_.points[0]
    space = point["V"][COLUMNS]
    if offsets in ("rows", "both"):
        space = np.hstack([space, np.ones((11, 1))])
    shift = np.broadcast_to(model.fitted_.problem.base, 12)[COLUMNS]
    shift = shift + point.get("offsets", np.zeros(12))[COLUMNS]
    root = np.sqrt(wide.sum(0))[:, None]
    x = np.linalg.lstsq(root * space, root[:, 0] * (of_columns - shift), rcond=None)[0]
    np.testing.assert_allclose(predicted[5, COLUMNS], space @ x + shift, rtol=1e-7)


COUNTS = ["kl", "itakura_saito", "beta:1.5"]
NUMBERS = ["poisson", "absolute", "huber", "quantile:0.5", "squared"]
LEVELS = ["logistic", "hinge", "categorical", "one_vs_all", "ordinal", "ordinal_hinge"]


@pytest.mark.filterwarnings("ignore:.*predicted far outside")
@pytest.mark.parametrize(
    ("loss", "offsets"),
    [
        *((loss, "none") for loss in COUNTS + NUMBERS),
        *((loss, offsets) for loss in NUMBERS for offsets in ("columns", "both")),
    ],
)
@pytest.mark.sampled(6)
def test_best_constants_of_losses_of_numbers(loss, offsets) -> None:
    within = loss in ("kl", "itakura_saito", "beta:1.5")
    draw = np.random.default_rng(2)
    table = np.exp(0.2 * draw.normal(size=(80, 1)) + draw.uniform(0, 2, size=12))
    table = table * draw.gamma(20, 1 / 20, table.shape)
    table = np.rint(5 * table) if loss == "poisson" else table
    table[draw.random(table.shape) < 0.1] = np.nan
    table[5], table[:, 7] = np.nan, np.nan
    model = fitted(
        table,
        loss=loss,
        offsets=offsets,
        rank=1,
        constraint="nonnegative" if within else None,
    )
    filled = model.impute(table)
    middles = [
        means(table[:, COLUMNS], 0),
        means(np.delete(table, 5, 0)[:, COLUMNS], 1),
    ]
    if loss in ("absolute", "quantile:0.5", "huber"):
        middles[0] = np.nanmedian(table[:, COLUMNS], 0)
    assert np.median(np.abs(filled[5, COLUMNS] / middles[0] - 1)) < 0.05
    rows = np.delete(np.arange(80), 5)
    assert np.median(np.abs(filled[rows, 7] / middles[1] - 1)) < 0.15


@pytest.mark.parametrize("offsets", ["none", "columns", "both"])
@pytest.mark.parametrize("loss", LEVELS)
@pytest.mark.sampled(6)
def test_modes_of_losses_of_levels(loss, offsets) -> None:
    draw = np.random.default_rng(3)
    two = loss in ("logistic", "hinge")
    middle = np.tile([0, 1] if two else [0, 1, 2], 6 if two else 4)
    table = np.where(
        draw.random((80, 12)) < 0.75,
        middle,
        draw.integers(0, 2 if two else 3, (80, 12)),
    ).astype(float)
    table[5] = np.nan
    model = fitted(table, loss=loss, offsets=offsets, rank=2)
    assert np.mean(model.impute(table)[5] == middle) > 0.8


def test_units_of_columns_do_not_count_where_they_are_scaled() -> None:
    table = with_gaps()
    units = np.geomspace(1e-3, 1e6, 12)
    plain = fitted(table, scales=True, offsets="columns")
    other = fitted(table * units, scales=True, offsets="columns")
    filled = other.impute(table * units)
    expected = plain.impute(table)[5] * units
    np.testing.assert_allclose(filled[5, COLUMNS], expected[COLUMNS], rtol=1e-5)
    # In the units of the data: the mean of the numbers, not of multiples of spreads.
    rows = means(plain.impute(table)[ROWS][:, COLUMNS], 1)
    assert np.median(np.abs(plain.impute(table)[ROWS, 7] / rows - 1)) < 0.1


def test_given_entries_of_a_blank_row_stay() -> None:
    table = with_gaps()
    U = np.random.default_rng(4).gamma(2, 1, (40, 3))
    U[:, 2] = np.nan
    model = fitted(table, constraint=(Fixed(U), None), offsets="none")
    assert (model.fitted_.points[0]["U"][5, :2] == U[5, :2]).all()
    V = np.random.default_rng(4).gamma(2, 1, (12, 3))
    model = fitted(table, constraint=(None, Fixed(V)), offsets="columns")
    assert (model.fitted_.points[0]["V"] == V).all()


def test_a_new_row_between_smooth_ones_is_known_from_them() -> None:
    table = with_gaps()
    model = fitted(table, penalty={"smooth_rows": 1.0, "l2": 0.1}, offsets="none")
    blank = np.full((1, 12), np.nan)
    of_columns = means(table[:, COLUMNS], 0)
    alone = model.impute(blank)[0, COLUMNS]
    assert np.median(np.abs(alone / of_columns - 1)) < 0.05
    among = model.impute(np.vstack([table[3], blank, table[4]]))[1, COLUMNS]
    assert np.abs(among - alone).max() > 1e-3


@pytest.mark.parametrize("offsets", OFFSETS)
def test_what_is_said_is_what_was_done(offsets) -> None:
    table = with_gaps()
    model = LowRankModel(
        1, constraint="nonnegative", offsets=offsets, penalty=0.5, random_state=0
    )
    with pytest.warns(UserWarning, match="no observed cell") as told:
        model.fit(table)
    says = [str(one.message) for one in told]
    assert any(
        "1 row has no observed cell (5, 0-based); it is predicted by what is nearest to "
        "the best constants of the columns" in one
        for one in says
    )
    assert any(
        "it is predicted by the mean of the other columns" in one for one in says
    )
    assert not any("offsets" in one for one in says)


def test_a_column_of_no_other_loss_is_said_to_be_zero() -> None:
    table = with_gaps()
    losses = ["squared"] * 12
    losses[7] = "absolute"
    model = LowRankModel(2, loss=losses, scales=False, penalty=1.0, random_state=0)
    with pytest.warns(UserWarning, match="no observed cell") as told:
        model.fit(table)
    assert "by 0, as no other column has its loss" in str(told[-1].message)
    assert (model.impute(table)[:, 7] == 0).all()


def test_sparse_tables_too() -> None:
    table = with_gaps()
    i, j = np.nonzero(~np.isnan(table))
    stored = scipy.sparse.csr_array((table[i, j], (i, j)), shape=table.shape)
    for offsets in OFFSETS:
        settings = {"offsets": offsets, "constraint": "nonnegative"}
        dense, sparse = fitted(table, **settings), fitted(stored, **settings)
        row = sparse.predict_cells(np.full(12, 5), np.arange(12))
        expected = dense.impute(table)[5]
        assert np.median(np.abs(row / expected - 1)[COLUMNS]) < 0.02
