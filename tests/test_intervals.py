"""Conformal intervals: quantiles worked out directly, and coverage counted."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import descents
from descents import LowRankModel
from descents.cells.columns import ColumnModel
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.losses import NAMED, get_loss
from descents.lowrank.prediction_intervals import Calibration, Flat, kind_of
from descents.statistics.quantiles import rank_of
from descents.tables.datasets import planted_table

SCHEMA = Path(__file__).parents[1] / "docs" / "factorize.schema.json"


def hidden(table: np.ndarray, seed: int = 0, share: float = 0.2) -> np.ndarray:
    mask: np.ndarray = np.random.default_rng([seed, 7]).random(table.shape) < share
    return mask


def test_the_quantile_covers_a_new_score_by_counting_all_orders() -> None:
    # Of n + 1 exchangeable scores the last is at most the k-th of the others in
    # exactly k of n + 1 places.
    for n, coverage in itertools.product((4, 5), (0.5, 0.6, 0.8)):
        k = rank_of(coverage, n)
        orders = list(itertools.permutations(range(n + 1)))
        held = np.mean([order[-1] <= sorted(order[:-1])[k - 1] for order in orders])
        assert held == pytest.approx(k / (n + 1))
        assert coverage <= held < coverage + 1 / (n + 1)


def test_quantiles_are_those_of_the_column_or_of_its_like() -> None:
    generator = np.random.default_rng(0)
    losses = ["squared", "absolute", "logistic", "poisson", "ordinal"]
    models = [
        ColumnModel(name, get_loss(name), (0, 1) if "o" in name else (), "")
        for name in losses
    ]
    counts = [40, 12, 25, 35, 33]
    places = np.repeat(np.arange(5), counts)
    scores = generator.random(len(places))
    known = Calibration(models, places, scores, np.ones(5), Flat.none(5))
    found = known.quantiles(0.8)
    for j, members in enumerate([[0], [0, 1], [2, 4], [3], [4]]):
        given = np.sort(scores[np.isin(places, members)])
        place = int(np.ceil(0.8 * (len(given) + 1)))
        assert found[j] == given[place - 1]
        assert (given <= found[j]).sum() / (len(given) + 1) >= 0.8
    with pytest.raises(
        InvalidValueError, match="0.99 needs at least 99 held-out cells.*are 52"
    ):
        known.quantiles(0.99)
    told = known.described(0.8)["columns"]
    assert told[0]["width"] == 2 * found[0]
    assert told[2]["width"] is None


def test_every_named_loss_is_scored_and_no_other() -> None:
    kinds = {
        name: kind_of(get_loss(kind.sample or name)) for name, kind in NAMED.items()
    }
    numbers = ("squared", "absolute", "huber", "quantile", "itakura_saito", "beta")
    assert {kinds.pop(name) for name in numbers} == {"number"}
    assert kinds.pop("periodic") == "period"
    assert kinds.pop("poisson") == kinds.pop("kl") == "count"
    assert set(kinds.values()) == {"labels"}
    assert kind_of(get_loss(lambda z, x: (z - x) ** 2)) is None


def test_hours_are_held_around_the_clock() -> None:
    hours = 24 * np.arange(60)[:, None] / 60 + np.random.default_rng(0).normal(
        scale=0.5, size=(60, 8)
    )
    hours = np.mod(hours, 24)
    mask = hidden(hours)
    shown = np.where(mask, np.nan, hours)
    model = LowRankModel(1, loss="periodic:24", offsets="none", n_starts=4)
    model.set_params(random_state=0).fit(shown).calibrate(shown)
    _, found = model.impute(shown, return_interval=True, coverage=0.8)
    middle, half = (found.lower + found.upper) / 2, (found.upper - found.lower) / 2
    assert half[mask].max() <= 12
    away = np.abs(np.mod(hours - middle + 12, 24) - 12)
    share = (away <= half)[mask].mean()
    assert share == pytest.approx(0.8, abs=0.15)  # of about 100 cells


def test_a_table_on_disk_has_no_intervals(tmp_path: Path) -> None:
    table, _ = planted_table(40, 6, 2, noise=0.1)
    np.save(tmp_path / "table.npy", table)
    disk = descents.TableOnDisk(tmp_path / "table.npy", "60MB")
    model = LowRankModel(2, random_state=0).fit(disk)
    with pytest.raises(InvalidValueError, match="table on disk, and intervals"):
        model.calibrate(disk)
    with pytest.raises(InvalidValueError, match="is to be chosen, but a table"):
        LowRankModel("auto").fit(disk)
    with pytest.raises(InvalidValueError, match="is to be chosen, but a table"):
        LowRankModel("gavish-donoho").fit(disk)
    with pytest.raises(InvalidValueError, match="is to be chosen, but a table"):
        LowRankModel(2, penalty="auto").fit(disk)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_hold_hidden_numbers_as_often_as_asked_for(coverage: float) -> None:
    held = []
    for seed in range(4):
        table, _ = planted_table(150, 20, 2, noise=0.5, seed=seed)
        mask = hidden(table, seed)
        shown = np.where(mask, np.nan, table)
        model = LowRankModel(2, random_state=0).fit(shown)
        before = model.impute(shown)
        loss, components = model.loss_, model.components_.copy()
        filled, found = model.calibrate(shown).impute(
            shown, return_interval=True, coverage=coverage
        )
        assert model.loss_ == loss
        np.testing.assert_array_equal(model.components_, components)
        np.testing.assert_array_equal(filled, before)
        assert np.isnan(found.lower[~mask]).all()
        assert (found.sets == None).all()  # noqa: E711
        assert ((found.lower < filled) & (filled < found.upper))[mask].all()
        held.append(((found.lower <= table) & (table <= found.upper))[mask])
    # 2400 cells: a standard error of 0.6% at 90%, and that of the calibration.
    assert np.concatenate(held).mean() == pytest.approx(coverage, abs=0.03)


def planted_frame(seed: int = 0) -> pd.DataFrame:
    numbers, _ = planted_table(400, 16, 2, noise=0.4, seed=seed)
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(numbers[:, :8], columns=[f"n{j}" for j in range(8)])
    for j in (8, 9, 10):
        cut = np.digitize(numbers[:, j], [-0.6, 0.6])
        frame[f"class{j}"] = pd.Categorical.from_codes(cut, ["a", "b", "c"])
    for j in (11, 12):
        cut = np.digitize(numbers[:, j], [-0.8, 0.0, 0.8])
        frame[f"level{j}"] = pd.Categorical.from_codes(cut, [1, 2, 3, 5], ordered=True)
    frame["yes"] = numbers[:, 13] + 0.5 * generator.normal(size=400) > 0
    frame["yes"] = frame["yes"].astype("boolean")
    for j in (14, 15):
        count = generator.poisson(np.exp(1 + 0.6 * numbers[:, j]))
        frame[f"count{j}"] = pd.array(count, dtype="Int64")
    return frame


LOSSES = {"count14": "poisson", "count15": "poisson"}


@pytest.fixture(scope="module")
def fitted() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame, LowRankModel]:
    frame = planted_frame()
    mask = hidden(frame.to_numpy())
    shown = frame.mask(mask)
    model = LowRankModel(2, loss=LOSSES, random_state=0, max_iter=300)
    return frame, mask, shown, model.fit(shown).calibrate(shown)


@pytest.mark.filterwarnings("ignore:.*is held to the nearest observed number")
def test_intervals_and_sets_hold_hidden_cells_of_every_kind(fitted: Any) -> None:
    frame, mask, shown, model = fitted
    filled, found = model.impute(shown, return_interval=True, coverage=0.9)
    assert found.names == tuple(frame.columns)
    shares: dict[str, list[bool]] = {"n": [], "class": [], "level": [], "count": []}
    for j, name in enumerate(frame):
        for i in np.flatnonzero(mask[:, j]):
            truth, guess = frame[name].iloc[i], filled[name].iloc[i]
            if name.startswith(("n", "count")):
                inside = found.lower[i, j] <= truth <= found.upper[i, j]
                assert found.lower[i, j] <= guess <= found.upper[i, j]
                assert found.sets[i, j] is None
            else:
                inside = truth in found.sets[i, j]
                assert guess in found.sets[i, j]
                assert np.isnan(found.lower[i, j])
            kind = next((k for k in shares if name.startswith(k)), None)
            if kind:
                shares[kind].append(bool(inside))
        assert all(one is None for one in found.sets[~mask[:, j], j])
    for kind, held in shares.items():  # of 3 to 8 quantiles, each of 64 cells
        assert np.mean(held) == pytest.approx(0.9, abs=0.08), kind
    everything = np.concatenate([np.array(held) for held in shares.values()])
    assert 0.87 <= everything.mean() <= 0.93
    assert (found.lower[:, -2:][mask[:, -2:]] >= 0).all()


@pytest.mark.filterwarnings("ignore:.*is held to the nearest observed number")
def test_a_wider_coverage_holds_what_a_narrower_one_does(fitted: Any) -> None:
    _, mask, shown, model = fitted
    narrow, wide = (
        model.impute(shown, return_interval=True, coverage=c)[1] for c in (0.5, 0.95)
    )
    numbers = np.isfinite(narrow.lower)
    assert (wide.lower[numbers] <= narrow.lower[numbers]).all()
    assert (wide.upper[numbers] >= narrow.upper[numbers]).all()
    for one, other in zip(narrow.sets[mask], wide.sets[mask], strict=True):
        assert one is None or set(one) <= set(other)


@pytest.mark.filterwarnings("ignore:.*is held to the nearest observed number")
def test_a_stored_model_has_the_same_intervals(fitted: Any, tmp_path: Path) -> None:
    _, _, shown, model = fitted
    model.save(tmp_path / "model.safetensors")
    back = descents.load(tmp_path / "model.safetensors")
    one = model.impute(shown, return_interval=True)[1]
    other = back.impute(shown, return_interval=True)[1]
    np.testing.assert_array_equal(one.lower, other.lower)
    assert (one.sets == other.sets).all()
    model_without = LowRankModel(1, random_state=0).fit(np.eye(5) + 1)
    model_without.save(tmp_path / "plain.safetensors")
    assert descents.load(tmp_path / "plain.safetensors").calibration_ is None


def test_a_new_fit_forgets_the_calibration() -> None:
    table, _ = planted_table(40, 10, 1, noise=0.3)
    model = LowRankModel(1, random_state=0).fit(table).calibrate(table)
    assert model.calibration_ is not None
    assert model.fit(table).calibration_ is None


def test_a_chosen_penalty_and_rank_are_those_of_the_twin() -> None:
    table, _ = planted_table(60, 15, 2, noise=0.5)
    mask = hidden(table)
    shown = np.where(mask, np.nan, table)
    model = LowRankModel([1, 2, 3], penalty={"l2": [3.0, 1.0]}, random_state=0)
    chosen = model.fit(shown).selection_
    same = LowRankModel(chosen.rank, penalty={"l2": chosen.penalty}, random_state=0)
    one, other = (
        each.fit(shown).calibrate(shown).impute(shown, return_interval=True)[1]
        for each in (model, same)
    )
    np.testing.assert_allclose(one.lower[mask], other.lower[mask], rtol=1e-6)


def test_a_row_of_which_nothing_is_known_has_no_interval() -> None:
    table, _ = planted_table(60, 8, 1, noise=0.3)
    model = LowRankModel(1, random_state=0).fit(table).calibrate(table)
    rows = [[np.nan] * 8, [1.0, *[np.nan] * 7]]
    filled, found = model.impute(rows, return_interval=True)
    assert np.isfinite(filled).all()
    assert np.isnan(found.lower[0]).all()
    assert np.isfinite(found.lower[1, 1:]).all()


@pytest.mark.parametrize("coverage", [0, 1, 90, -0.1, "most", float("nan")])
def test_a_coverage_that_is_none_is_refused(coverage: Any) -> None:
    table, _ = planted_table(30, 8, 1, noise=0.3)
    model = LowRankModel(1, random_state=0).fit(table).calibrate(table)
    with pytest.raises(InvalidValueError, match="coverage is .*above 0 and below 1"):
        model.impute(table, return_interval=True, coverage=coverage)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_has_no_intervals_is_said() -> None:
    table, _ = planted_table(30, 8, 1, noise=0.3)
    model = LowRankModel(1, random_state=0).fit(table)
    with pytest.raises(InvalidValueError, match="call calibrate"):
        model.impute(table, return_interval=True)
    with pytest.raises(InvalidValueError, match="X is sparse, and intervals"):
        model.calibrate(scipy.sparse.csr_array(table))
    with pytest.raises(InvalidValueError, match="7 rows.*fitted to 30"):
        model.calibrate(table[:7])
    model.calibrate(table)
    with pytest.raises(
        InvalidValueError, match="0.99 needs at least 99 held-out cells"
    ):
        model.impute([[1.0, *[np.nan] * 7]], return_interval=True, coverage=0.99)
    own = LowRankModel(1, loss=lambda z, x: (z - x) ** 4, random_state=0, max_iter=5)
    own.fit(table)
    with pytest.raises(InvalidValueError, match="no intervals for the loss.*x0.*own"):
        own.calibrate(table)
    tiny = LowRankModel(1, offsets="none", random_state=0).fit([[2.0]])
    with pytest.raises(InvalidValueError, match="no cell can be held out"):
        tiny.calibrate([[2.0]])


def test_the_command_writes_intervals_and_apply_does_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = planted_frame()[["n0", "n1", "n2", "n3", "n4", "class8", "count14"]]
    mask = hidden(frame.to_numpy(), share=0.1)
    mask[:, 2] = False
    frame.mask(mask).to_csv(tmp_path / "table.csv", index=False)
    run, filled = tmp_path / "run", tmp_path / "filled.csv"
    given = ["--rank", "2", "--loss-of", "count14=poisson", "--intervals", "0.9"]
    table = str(tmp_path / "table.csv")
    done = main(
        ["factorize", table, *given, "--impute", str(filled), "--out", str(run)]
    )
    assert done == 0
    assert (
        "90% prediction intervals for imputed cells, calibrated on"
        in capsys.readouterr().out
    )
    result = json.loads((run / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert result["intervals"]["columns"][5]["kind"] == "labels"
    assert "Prediction intervals for imputed cells" in (run / "report.html").read_text()
    with filled.open() as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0])
    assert names[:7] == list(frame)
    assert "n2_low" not in names  # it has no hole
    assert {"n0_low", "n0_high", "class8_set", "count14_high"} <= set(names)
    for i, row in enumerate(rows):
        if mask[i, 0]:
            assert float(row["n0_low"]) <= float(row["n0"]) <= float(row["n0_high"])
        else:
            assert row["n0_low"] == row["n0_high"] == ""
        if mask[i, 5]:
            assert row["class8"] in row["class8_set"].split("|")
    out = tmp_path / "applied"
    again = ["apply", str(run), table, "--intervals", "0.9", "--out", str(out)]
    assert main(again) == 0
    assert (out / "imputed.csv").read_text() == filled.read_text()
    # A model without them, a coverage beyond, and a name that is taken.
    plain = tmp_path / "plain"
    assert main(["factorize", table, "--rank", "1", "--out", str(plain)]) == 0
    capsys.readouterr()
    assert main(["apply", str(plain), table, "--intervals", "0.9"]) == 2
    assert "without residuals of held-out cells" in capsys.readouterr().err
    assert main(["factorize", table, "--rank", "1", "--intervals", "1.5"]) == 2
    assert "1.5 is not in the range" in capsys.readouterr().err
    taken = frame.mask(mask).rename(columns={"n1": "n0_low"})
    taken.to_csv(tmp_path / "taken.csv", index=False)
    given = ["--rank", "1", "--intervals", "0.9", "--impute", str(tmp_path / "x.csv")]
    where = ["--out", str(tmp_path / "taken")]
    assert main(["factorize", str(tmp_path / "taken.csv"), *given, *where]) == 2
    assert "the table has one of that name; rename it" in capsys.readouterr().err
