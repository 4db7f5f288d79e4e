"""Fits under each loss: planted tables that are recovered, exact answers, bad input."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.decomposition import NMF

from conftest import some
from descents import Alternating, Factorization, LowRankModel, Stop, descend, load
from descents.cells.columns import ColumnModel
from descents.cells.observed import cells
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.factorization import multiplicative
from descents.losses import (
    BetaDivergence,
    Hinge,
    ItakuraSaito,
    OrdinalHinge,
    Periodic,
    Quantile,
    get_loss,
)
from descents.lowrank.update_rules import automatic_steps

cvxpy = pytest.importorskip("cvxpy")
pytestmark = pytest.mark.filterwarnings(
    "ignore:(none of .* starts is|the start is not) stationary"
)


def planted(rows: int, columns: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    U, V = generator.normal(size=(rows, 2)), generator.normal(size=(columns, 2))
    return generator, U, V


def fit(table, loss, starts: int = 1, steps: int = 1000, **more) -> LowRankModel:
    model = LowRankModel(
        2, loss=loss, n_starts=starts, max_iter=steps, random_state=0, **more
    )
    return model.fit(table)


def predicted(model: LowRankModel) -> np.ndarray:
    return model.fitted_.natural(model.embedding_)


# Numbers


def test_quantiles_have_their_share_of_cells_below() -> None:
    generator, U, V = planted(60, 50)
    table = U[:, :1] @ V[:, :1].T + 0.5 * generator.normal(size=(60, 50))
    fits = {}
    for q in (0.1, 0.9):
        model = LowRankModel(1, loss=f"quantile:{q}", max_iter=1000, random_state=0)
        fits[q] = found = predicted(model.fit(table))
        assert (table <= found).mean() == pytest.approx(q, abs=0.02)
        # A cell for each parameter is fitted exactly, and counts on either side.
        exact = np.abs(table - found) < 1e-3
        assert (
            ((table < found) & ~exact).mean() <= q <= ((table < found) | exact).mean()
        )
    assert (fits[0.1] < fits[0.9]).mean() > 0.95


def test_starts_of_a_quantile_find_one_minimum() -> None:
    generator, U, V = planted(40, 10)
    table = U @ V.T + 0.5 * generator.normal(size=(40, 10))
    model = fit(table, "quantile:0.9", starts=6)
    assert model.solver_ == "alternating"
    assert np.ptp(model.runs_.losses) < 2e-3 * model.loss_


def test_half_is_half_the_absolute_error() -> None:
    generator, U, V = planted(40, 8)
    table = U @ V.T + generator.laplace(size=(40, 8))
    half, absolute = fit(table, "quantile", starts=3), fit(table, "absolute", starts=3)
    assert 2 * half.loss_ == pytest.approx(absolute.loss_, rel=5e-3)


def test_angles_are_recovered_modulo_the_period() -> None:
    generator, U, V = planted(60, 12, seed=1)
    angles = 1.5 * U @ V.T + generator.uniform(0, 24, 12)
    table = np.mod(angles, 24)
    holes = generator.random(table.shape) < 0.1
    given = np.where(holes, np.nan, table)
    model = fit(given, "periodic:24", starts=3, steps=400)
    assert model.columns_[0].loss == Periodic(24.0, 0.0)
    assert model.loss_ < 1e-8
    off = np.mod(model.impute(given)[holes] - table[holes] + 12, 24) - 12
    assert np.abs(off).max() < 1e-3
    filled = model.impute(given)
    assert filled.min() >= 0
    assert filled.max() < 24


def test_starts_of_angles_are_near_the_constants() -> None:
    """From 4 times as far, 5 of these 10 starts end at copies that do not fit."""
    generator = np.random.default_rng(0)
    angles = generator.normal(size=(20, 2)) @ generator.normal(size=(2, 6))
    model = LowRankModel(
        2,
        loss="periodic:24",
        n_starts=10,
        random_state=0,
        penalty=1e-9,
        max_iter=400,
    )
    model.fit((2 * angles + 12) % 24)
    assert (model.runs_.losses < 1e-6).all()


# Beta-divergences


@pytest.mark.parametrize("beta", some([0.0, 0.5, 1.0, 3.0, -1.0, 1.5, 2.0], 4))
@pytest.mark.parametrize(
    "penalty", [None, {"l1": 0.3}, {"l2": 0.2}, {"l1": 0.2, "l2": 0.3}]
)
@pytest.mark.parametrize("layout", ["holes", "scaled"])
def test_no_multiplicative_step_raises_the_loss(beta, penalty, layout) -> None:
    generator = np.random.default_rng(1)
    table = generator.gamma(2.0, 1.0, (9, 7)) + 0.1
    table[generator.random(table.shape) < 0.2] = np.nan
    loss = get_loss("kl") if beta == 1 else BetaDivergence(beta)
    found = cells(table, loss, scales=layout == "scaled")
    problem = Factorization(
        found, 2, constraint="nonnegative", penalty=penalty, initialization="uniform"
    )
    assert automatic_steps(problem) == "alternating"
    runs = descend(problem, 2, steps=Alternating(), stop=Stop(60), record=range(61))
    curve = runs.histories["loss"]
    assert (np.diff(curve, axis=0) <= 1e-9 * np.abs(curve[0])).all()
    assert (curve[-1] < 0.95 * curve[0]).all()
    # Where they end, half of them at zero, the slopes of the rest are all but nothing.
    assert (runs.gradient_norms < 0.2 * runs.initial_gradient_norms).all()


@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_stored_entries_have_the_steps_of_holes(beta) -> None:
    generator = np.random.default_rng(5)
    table = generator.gamma(2.0, 1.0, (7, 5)) + 0.1
    table[generator.random(table.shape) < 0.3] = np.nan
    ends = []
    for given in (table, scipy.sparse.csr_array(np.nan_to_num(table))):
        problem = Factorization(
            cells(given, BetaDivergence(beta)), 2, constraint="nonnegative"
        )
        runs = descend(problem, 1, steps=Alternating(), stop=Stop(4), width=1)
        ends.append(runs.parameters["U"])
    np.testing.assert_allclose(*ends, rtol=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.5, 3.0])
def test_multiplicative_steps_are_those_of_scikit_learn(beta, monkeypatch) -> None:
    monkeypatch.setattr(
        multiplicative, "EVERY", 1000
    )  # none goes further than the others
    generator = np.random.default_rng(2)
    table = generator.gamma(2.0, 1.0, (12, 8)) + 0.1
    W, H = generator.random((12, 2)) + 0.1, generator.random((2, 8)) + 0.1
    peer = NMF(2, init="custom", solver="mu", beta_loss=beta, max_iter=7, tol=0)
    left = peer.fit_transform(table, W=W.copy(), H=H.copy())
    problem = Factorization(
        table,
        2,
        loss=BetaDivergence(beta),
        constraint="nonnegative",
        initialization=(W[None], H.T[None]),
    )
    runs = descend(problem, 1, steps=Alternating(), stop=Stop(7, gradient_tol=0))
    np.testing.assert_allclose(runs.parameters["U"][0], left, rtol=1e-6)
    np.testing.assert_allclose(runs.parameters["V"][0], peer.components_.T, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["itakura_saito", "beta:-0.5", "beta:0.5", "beta:1.5"])
def test_a_planted_product_is_recovered(loss) -> None:
    generator = np.random.default_rng(3)
    table = generator.gamma(1.0, 1.0, (30, 2)) @ generator.gamma(1.0, 1.0, (2, 12))
    model = fit(table, loss, starts=3, steps=800, constraint="nonnegative")
    assert model.solver_ == "alternating"
    np.testing.assert_allclose(predicted(model), table, rtol=0.05)
    new = model.transform(table[:3])
    np.testing.assert_allclose(model.fitted_.natural(new), table[:3], rtol=0.05)


# Two values, classes, levels


def by_convex_programming(loss, x: np.ndarray, V: np.ndarray) -> float:
    """Return the least loss of one row over its factor, the columns held fixed."""
    u = cvxpy.Variable(V.shape[1])
    z = V @ u
    if isinstance(loss, Hinge):
        weight = np.where(x == 1, loss.weight, 1.0)
        total = weight @ cvxpy.pos(1 - cvxpy.multiply(2 * x - 1, z))
    elif isinstance(loss, Quantile):
        total = cvxpy.sum(
            cvxpy.maximum(loss.level * (x - z), (loss.level - 1) * (x - z))
        )
    else:
        parts = [
            cvxpy.sum(
                cvxpy.pos(0.5 - cvxpy.multiply(np.sign(x - j - 0.5), z - j - 0.5))
            )
            for j in range(4)
        ]
        total = sum(parts)
    program = cvxpy.Problem(cvxpy.Minimize(total))
    return float(program.solve(solver=cvxpy.CLARABEL))


@pytest.mark.parametrize("loss", [Hinge(), Hinge(3.0), Quantile(0.9), OrdinalHinge()])
def test_new_rows_are_at_the_answer_of_a_linear_program(loss) -> None:
    generator, U, V = planted(6, 25)
    table = U @ V.T + generator.normal(size=(6, 25))
    levels = None
    if isinstance(loss, Hinge):
        table = (table > 0) * 1.0
    elif isinstance(loss, OrdinalHinge):
        table, levels = np.clip(np.rint(table) + 2, 0, 4), [5] * 25
    found = cells(table, loss, levels=levels)
    problem = Factorization(found, 2).for_rows(found, {"U": 0 * U, "V": V})
    stop = Stop(500, gradient_tol=1e-14, loss_tol=1e-15)
    runs = descend(problem, 1, steps=Alternating(), stop=stop)
    exact = sum(by_convex_programming(loss, row, V) for row in table)
    assert exact * (1 - 1e-7) <= runs.losses[0] <= exact * (1 + 1e-4)


def held_out_error(table: np.ndarray, holes: np.ndarray, loss: str) -> float:
    model = fit(np.where(holes, np.nan, table), loss, steps=1000)
    found = model.impute(np.where(holes, np.nan, table))
    return float((found[holes] != table[holes]).mean())


def test_hinges_predict_two_values_as_logistic_loss_does() -> None:
    generator, U, V = planted(80, 15)
    table = (U @ V.T + 0.3 * generator.normal(size=(80, 15)) > 0) * 1.0
    holes = generator.random(table.shape) < 0.2
    errors = {x: held_out_error(table, holes, x) for x in ("logistic", "hinge")}
    assert errors["logistic"] < 0.2
    assert errors["hinge"] < errors["logistic"] + 0.08


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_weight_moves_a_hinge_towards_ones() -> None:
    generator, U, V = planted(40, 10)
    table = (U @ V.T + generator.normal(size=(40, 10)) > 0.5) * 1.0
    ones = [
        (predicted(fit(table, loss, steps=1000, penalty=3.0)) > 0).mean()
        for loss in ("hinge:0.25", "hinge", "hinge:4")
    ]
    assert ones[0] < ones[1] < ones[2]


@pytest.mark.slow
def test_sums_over_classes_predict_as_categorical_loss_does() -> None:
    generator, U, _ = planted(80, 1)
    W = 2 * generator.normal(size=(12, 4, 2))
    logits = np.einsum("nr,mcr->nmc", U, W) + 0.3 * generator.gumbel(size=(80, 12, 4))
    table = logits.argmax(-1).astype(float)
    holes = generator.random(table.shape) < 0.2
    errors = {
        x: held_out_error(table, holes, x)
        for x in ("categorical", "one_vs_all", "one_vs_all_hinge")
    }
    assert errors["categorical"] < 0.4
    for name in ("one_vs_all", "one_vs_all_hinge"):
        assert errors[name] < errors["categorical"] + 0.06


@pytest.mark.slow
def test_sums_over_boundaries_predict_as_ordered_logit_does() -> None:
    generator, U, V = planted(80, 12)
    z = 1.5 * U @ V.T + 0.3 * generator.normal(size=(80, 12))
    table = np.digitize(z, [-1.5, 0, 1.5]).astype(float)
    holes = generator.random(table.shape) < 0.2
    names = (
        "ordinal_hinge",
        "bigger_vs_smaller",
        "bigger_vs_smaller_hinge",
        "sequential",
        "ordistic",
    )
    reference = held_out_error(table, holes, "ordinal")
    assert reference < 0.3
    for name in names:
        slack = 0.2 if name == "ordistic" else 0.1
        assert held_out_error(table, holes, name) < reference + slack, name


# Columns, names, files


def mixed_frame() -> pd.DataFrame:
    generator, U, V = planted(40, 6)
    z = U @ V.T
    return pd.DataFrame(
        {
            "price": z[:, 0] + 0.1 * generator.normal(size=40),
            "cost": z[:, 1] + 0.1 * generator.normal(size=40),
            "hour": np.mod(np.rint(4 * z[:, 2]), 24).astype(int),
            "sold": np.where(z[:, 3] > 0, "yes", "no"),
            "kind": np.array(["a", "b", "c"])[np.digitize(z[:, 4], [-0.5, 0.5])],
            "grade": np.digitize(z[:, 5], [-1, 0, 1]) + 1,
        }
    )


LOSSES = {
    "price": "quantile:0.9",
    "cost": Quantile(0.1),
    "hour": "periodic:24",
    "sold": "hinge:2",
    "kind": "one_vs_all",
    "grade": "ordinal_hinge",
}


def test_columns_keep_their_own_parameters_through_a_file(tmp_path) -> None:
    frame = mixed_frame()
    holed = frame.astype({"hour": "Int64", "grade": "Int64"})
    for j in range(6):
        holed.iloc[3 * j : 3 * j + 3, j] = None
    model = fit(holed, LOSSES, steps=1000, held_out=0)
    assert [column.loss_label for column in model.columns_] == [
        "quantile:0.9",
        "quantile:0.1",
        "periodic:24",
        "hinge:2",
        "one_vs_all",
        "ordinal_hinge",
    ]
    each = [column.loss for column in model.columns_]
    assert each[:3] == [Quantile(0.9), Quantile(0.1), Periodic(24.0, 0.0)]
    standardized = model.fitted_.problem.cells.losses_of_columns
    assert standardized[2] == Periodic(2 * np.pi, 0.0)  # in radians
    assert standardized[5] == OrdinalHinge(4)
    assert "kind=b" in model.fitted_.labels
    filled = model.impute(holed)
    assert not filled.isna().any().any()
    assert set(filled["hour"]) <= set(range(24))
    assert set(filled["grade"]) <= {1, 2, 3, 4}
    model.save(tmp_path / "model")
    again = LowRankModel.load(tmp_path / "model")
    assert [c.loss for c in again.columns_] == [c.loss for c in model.columns_]
    pd.testing.assert_frame_equal(again.impute(holed), filled)
    # The slope by the offset is zero between the counts without and with the cells that
    # are fitted exactly.
    natural = predicted(model)
    for j, (name, q) in enumerate((("price", 0.9), ("cost", 0.1))):
        above = natural[:, j] - frame[name] / model.units_[j]
        above = above[holed[name].notna()]
        assert (above > 1e-3).mean() <= q <= (above > -1e-3).mean()


@pytest.mark.parametrize(
    "loss",
    [
        Quantile(0.7),
        Periodic(7.0, 1.0),
        Hinge(2.0),
        ItakuraSaito(),
        BetaDivergence(0.5),
        OrdinalHinge(),
        get_loss("bigger_vs_smaller_hinge"),
    ],
)
def test_described_columns_are_restored(loss) -> None:
    model = ColumnModel("x", loss, (1, 2, 3), "why")
    facts = json.loads(json.dumps(model.described()))
    assert ColumnModel.restored(facts) == model


def test_labels_of_boundaries() -> None:
    model = ColumnModel("x", get_loss("bigger_vs_smaller"), ("low", "mid", "high"), "")
    assert model.labels == ("x>low", "x>mid")
    assert ColumnModel("x", get_loss("ordinal_hinge"), (1, 2, 3), "").labels == ("x",)


@pytest.mark.filterwarnings("ignore:the loss with its penalty")
def test_a_divergence_without_zeros_is_stored(tmp_path) -> None:
    table = np.random.default_rng(4).gamma(2.0, 1.0, (10, 5)) + 0.1
    table[0, 0] = np.nan
    model = fit(table, "itakura_saito", steps=1000, constraint="nonnegative")
    model.save(tmp_path / "model")
    again = LowRankModel.load(tmp_path / "model")
    np.testing.assert_array_equal(again.impute(table), model.impute(table))


@pytest.mark.slow
def test_losses_with_numbers_on_the_command_line(tmp_path, capsys) -> None:
    table, run = str(tmp_path / "table.csv"), str(tmp_path / "run")
    mixed_frame().to_csv(table, index=False)
    options = [f"--loss-of={n}={v}" for n, v in LOSSES.items() if isinstance(v, str)]
    asked = ["factorize", table, "--rank=2", "--max-iter=30", f"--out={run}", "--json"]
    assert main([*asked, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["losses"]["price"] == "quantile:0.9"
    assert result["losses"]["hour"] == "periodic:24"
    assert any(x.startswith("hinge:2 loss (as asked for)") for x in result["chosen"])
    assert load(run).columns_[0].loss == Quantile(0.9)
    assert main(["apply", run, table, f"--out={tmp_path / 'applied'}"]) == 0


NUMBERS = np.array([[1.0, 2.0], [3.0, 0.0], [2.0, 5.0]])


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (NUMBERS, {"loss": "beta:-1"}, "holds 0, but beta:-1 loss is for numbers"),
        (NUMBERS, {"loss": "itakura_saito"}, "holds 0, but itakura_saito loss is for"),
        (-NUMBERS - 1, {"loss": "beta:0.5"}, "holds -.*, but beta:0.5 loss is for"),
        (NUMBERS, {"loss": "hinge"}, "3 different values, but hinge loss is for two"),
        (NUMBERS, {"loss": "quantile:2"}, "the level of quantile is 2"),
        (NUMBERS, {"loss": "periodic:-1"}, "the period of periodic is -1"),
        (NUMBERS, {"loss": "periodic"}, "which needs its period"),
        (NUMBERS, {"loss": "kl:2"}, "kl takes no number"),
        (
            NUMBERS,
            {"loss": "beta:0.5", "constraint": None},
            "beta:0.5 loss needs predictions of at least 0; give constraint=",
        ),
        (
            scipy.sparse.csr_array(NUMBERS),
            {"loss": "beta:0.5", "sparse": "zero"},
            "sparse='zero' counts every cell, which for beta loss",
        ),
        (
            scipy.sparse.csr_array(NUMBERS),
            {"loss": "bigger_vs_smaller"},
            "a sparse table takes one loss of single numbers",
        ),
        (
            np.arange(402.0).reshape(201, 2),
            {"loss": "one_vs_all"},
            "201 different values, too many for one_vs_all loss",
        ),
    ],
)
def test_bad_input_is_one_sentence(table, settings, message) -> None:
    given = {"constraint": "nonnegative", **settings}
    with pytest.raises(InvalidValueError, match=message):
        LowRankModel(1, **given).fit(table)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--loss-of=price=quantile:1.5", "the level of quantile is 1.5"),
        ("--loss-of=price=squared:2", "--loss-of is 'squared:2', but squared takes no"),
        ("--loss=hubber", "--loss is 'hubber'; give one of"),
        ("--loss-of=kind=hinge", "holds 3 different values, but hinge loss is"),
        ("--loss-of=kind=quantile", "quantile loss is for finite numbers"),
    ],
)
def test_bad_losses_on_the_command_line(tmp_path, capsys, option, message) -> None:
    mixed_frame().to_csv(tmp_path / "table.csv", index=False)
    where = [str(tmp_path / "table.csv"), "--rank=1", f"--out={tmp_path / 'run'}"]
    assert main(["factorize", *where, option]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_hinge_has_a_bound_or_none() -> None:
    generator, U, V = planted(20, 8)
    table = (U @ V.T + generator.normal(size=(20, 8)) > 0) * 1.0
    free = fit(table, "hinge", steps=1000, penalty=1.0, offsets="none")
    assert free.reference_.kind == "bound"
    assert 0 < free.reference_.value <= free.loss_
    # With offsets the slopes of most cells, which are nothing, cannot be balanced.
    assert fit(table, "hinge", steps=1000, penalty=1.0).reference_.kind == "best found"


@pytest.mark.parametrize(
    ("loss", "steps"),
    [
        ("quantile", "alternating"),
        ("hinge", "alternating"),
        ("ordinal_hinge", "alternating"),
        ("one_vs_all_hinge", "alternating"),
        ("bigger_vs_smaller_hinge", "alternating"),
        ("one_vs_all", "lbfgs"),
        ("bigger_vs_smaller", "lbfgs"),
        ("sequential", "lbfgs"),
        ("ordistic", "lbfgs"),
        ("periodic:3", "lbfgs"),
    ],
)
def test_which_steps_are_taken(loss, steps) -> None:
    table = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    problem = Factorization(table, 1, loss=loss, dtype=torch.float64)
    assert automatic_steps(problem) == steps
