"""Ranks and penalties by held-out cells: against separate fits, and planted ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone

import descents
from conftest import slow
from descents import Factorization, LowRankModel, Stop, descend
from descents.cells.observed import cells
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.lowrank import selection
from descents.lowrank.cross_validation import by_cells
from descents.lowrank.folds import dealt, observed
from descents.lowrank.selection import Search, Selection
from descents.lowrank.singular_values import optimal_threshold
from descents.lowrank.update_rules import step_named
from descents.rng import stream
from descents.tables.datasets import planted_table

SCHEMA = Path(__file__).parents[1] / "docs" / "factorize.schema.json"
STOP = Stop(40, gradient_tol=1e-9)


def holed(
    rows: int, columns: int, rank: int, noise: float, seed: int = 0, share: float = 0.2
) -> np.ndarray:
    table, _ = planted_table(rows, columns, rank, noise=noise, seed=seed)
    table[np.random.default_rng([seed, 1]).random(table.shape) < share] = np.nan
    return table


def mixed() -> tuple[np.ndarray, list[str]]:
    """Return a table of five kinds of columns, and their losses."""
    numbers, _ = planted_table(24, 8, 2, noise=0.2, seed=4)
    table = numbers.copy()
    table[:, 2] = numbers[:, 2] > 0
    table[:, 3] = np.digitize(numbers[:, 3], [-0.5, 0.5])
    table[:, 4] = np.digitize(numbers[:, 4], [-0.7, 0.0, 0.7])
    table[:, 5] = np.random.default_rng(0).poisson(np.exp(numbers[:, 5]))
    table[np.random.default_rng(1).random(table.shape) < 0.1] = np.nan
    losses = ["squared", "huber", "logistic", "categorical", "ordinal", "poisson"]
    return table, [*losses, "squared", "absolute"]


def with_width(losses: list[str]) -> list[Any]:
    from descents.losses import Huber

    return [Huber(0.5) if name == "huber" else name for name in losses]


COUNTS = np.random.default_rng(2).poisson(
    np.exp(planted_table(15, 9, 2, seed=3)[0])
) + np.where(np.eye(15, 9) > 0, np.nan, 0.0)
CASES: dict[str, tuple[Any, dict[str, Any], str, tuple[float, ...]]] = {
    "squared": (cells(holed(20, 12, 2, 0.3)), {"offsets": "columns"}, "spectral", ()),
    "penalties": (
        cells(holed(20, 12, 2, 0.3)),
        {
            "offsets": "both",
            "penalty": {"l2_biases": 0.3, "count_power": 0.5},
        },
        "normal",
        (5.0, 0.5),
    ),
    "nonnegative": (
        cells(np.abs(holed(20, 12, 2, 0.3))),
        {"constraint": "nonnegative"},
        "nndsvd",
        (2.0, 0.0),
    ),
    "kl": (cells(COUNTS, "kl"), {"constraint": "nonnegative"}, "nndsvd", ()),
    "itakura_saito": (
        cells(np.exp(holed(20, 12, 2, 0.3)), "itakura_saito"),
        {"constraint": "nonnegative"},
        "nndsvd",
        (0.5, 0.1),
    ),
    "shares": (
        cells(np.abs(holed(20, 12, 3, 0.3))),
        {"constraint": ("simplex", "nonnegative")},
        "centers",
        (0.5, 0.1),
    ),
    "clusters": (
        cells(holed(20, 12, 2, 0.3)),
        {"constraint": ("one_hot", None)},
        "centers",
        (0.5, 0.1),
    ),
    "norms": (
        cells(holed(20, 12, 2, 0.3)),
        {"constraint": (None, "unit_norm"), "penalty": {"l1_rows": 0.3}},
        "normal",
        (),
    ),
    "sparse rows": (
        cells(holed(20, 12, 2, 0.3)),
        {"constraint": ("nonnegative+sparse:1", None), "offsets": "columns"},
        "normal",
        (2.0, 0.5),
    ),
    "smooth": (
        cells(holed(20, 12, 2, 0.3)),
        {"offsets": "columns", "penalty": {"smooth_rows": 2.0}},
        "normal",
        (2.0, 0.5),
    ),
    "smooth and nonnegative": (
        cells(np.abs(holed(20, 12, 2, 0.3))),
        {
            "constraint": "nonnegative",
            "penalty": {"smooth_rows": 0.5, "count_power": 0.5},
        },
        "nndsvd",
        (2.0, 0.5),
    ),
    "absolute": (cells(holed(20, 12, 2, 0.3), "absolute"), {}, "spectral", ()),
    "mixed": (
        cells(mixed()[0], with_width(mixed()[1]), scales=True),
        {"offsets": "columns"},
        "normal",
        (3.0, 0.6),
    ),
    "stored": (
        cells(
            scipy.sparse.csr_array(
                (
                    observed(cells(holed(20, 12, 2, 0.3)))[2],
                    observed(cells(holed(20, 12, 2, 0.3)))[:2],
                ),
                shape=(20, 12),
            )
        ),
        {"offsets": "columns"},
        "normal",
        (1.0, 0.1),
    ),
}


LEFT_TO_ALL = {
    "penalties",
    "stored",
    "smooth and nonnegative",
    "smooth",
    "nonnegative",
    "itakura_saito",
    "shares",
    "norms",
    "absolute",
}


@pytest.mark.parametrize(
    "name", [slow(name) if name in LEFT_TO_ALL else name for name in CASES]
)
@pytest.mark.sampled(3)
def test_one_batch_equals_separate_fits(name: str) -> None:
    known, given, initialization, penalties = CASES[name]
    rest = given.get("penalty", {})
    others = {**given, "initialization": initialization}
    ranks = (1, 3)
    search = Search(ranks, "l2" if penalties else None, penalties or None, rest)

    def settings(penalty: Any) -> dict[str, Any]:
        return {**others, "penalty": penalty}

    def step(problem: Factorization) -> Any:
        return step_named("auto", problem)

    found = by_cells(known, search, settings, step, folds=3, seed=5, stop=STOP)
    assert found.losses.shape == (2, max(1, len(penalties)), 3)
    folds = dealt(known, 3, stream(5, "split", 0))
    scale = known.scales
    for fold in range(3):
        part = known.part(folds != fold)
        for r, rank in enumerate(ranks):
            for p, value in enumerate(penalties or (None,)):
                penalty = rest if value is None else {**rest, "l2": value}
                problem = Factorization(part, rank, **settings(penalty))
                alone = descend(problem, 1, seed=5, steps=step(problem), stop=STOP)
                tensors = {
                    n: torch.as_tensor(v).double() for n, v in alone.parameters.items()
                }
                left, right = problem.extended(tensors)
                cuts = problem.cut_parameters(tensors)
                each = known.each(left[0], right[0], cuts[0])
                ones = np.ones((known.shape[0], 1))
                constant = known.each(
                    *map(
                        torch.as_tensor,
                        (ones, known.offsets[:, None], known.cuts),
                    )
                )
                held = folds == fold
                if scale is None:
                    expected = each[held].mean() / np.nanmean(constant)
                else:
                    over = each / np.nanmean(constant, 0)
                    expected = over[held].mean()
                assert found.losses[r, p, fold] == pytest.approx(expected, rel=1e-8)


def test_a_candidate_does_not_depend_on_the_others() -> None:
    known = cells(holed(30, 15, 2, 0.3))

    def run(ranks: tuple[int, ...], penalties: tuple[float, ...]) -> np.ndarray:
        return by_cells(
            known,
            Search(ranks, "l2", penalties, {}),
            lambda penalty: {"penalty": penalty, "initialization": "normal"},
            lambda problem: step_named("auto", problem),
            stop=STOP,
        ).losses

    whole, part = run((1, 2, 5), (4.0, 1.0, 0.2)), run((2,), (1.0,))
    np.testing.assert_allclose(whole[1, 1], part[0, 0], rtol=1e-9)


def test_clusters_may_be_more_than_columns() -> None:
    generator = np.random.default_rng(0)
    # Of which any two columns tell the third.
    centers = np.array([[0, 0, 0], [8, 8, 0], [8, 0, 8], [0, 8, 8]])
    table = centers[np.arange(80) % 4] + 0.2 * generator.normal(size=(80, 3))
    model = LowRankModel(
        [1, 2, 4], constraint=("one_hot", None), offsets="none", random_state=0
    ).fit(table)
    assert model.n_components_ == 4
    with pytest.raises(InvalidValueError, match="give ranks from 1 to 80"):
        LowRankModel([1, 90], constraint=("simplex", None)).fit(table)
    with pytest.raises(InvalidValueError, match="no scale where a factor has to lie"):
        LowRankModel(1, penalty="auto", constraint=("simplex", None)).fit(table)
    with pytest.raises(
        InvalidValueError, match="is for fits without constraint and penalty"
    ):
        LowRankModel("gavish-donoho", penalty={"smooth_rows": 1.0}).fit(table)


def test_the_command_chooses_nothing_of_a_table_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "table.npy", planted_table(30, 6, 2)[0])
    begin = ["factorize", str(tmp_path / "table.npy"), "--memory", "60MB", "--rank"]
    out = ["--out", str(tmp_path / "run")]
    assert main([*begin, "auto", *out]) == 2
    assert "has no cells to hold out; give both" in capsys.readouterr().err
    assert main([*begin, "2", "--intervals", "0.9", *out]) == 2
    assert "a table that --memory keeps out of memory is not" in capsys.readouterr().err


def test_the_rule_takes_the_simplest_within_one_standard_error() -> None:
    # Means 1, .55, .5, .52; the least has folds .4, .5, .6: an error of .1 / sqrt(3).
    folds = np.array([-0.1, 0.0, 0.1])
    losses = np.array([1.0, 0.55, 0.5, 0.52])[:, None, None] + folds
    found = Selection("cells", 0, None, None, (1, 2, 3, 4), (), losses, 30)
    assert found.error[2, 0] == pytest.approx(0.1 / np.sqrt(3))
    assert (found.best, found.chosen) == ((2, 0), (1, 0))
    tight = Selection("cells", 0, None, None, (1, 2, 3, 4), (), losses / 1, 30)
    tight.losses[2, 0] = 0.5  # no error at all
    assert tight.chosen == (2, 0)
    # The smallest rank first, then its largest penalty.
    both = np.array([[9.0, 1.02, 1.0], [1.01, 0.99, 5.0]])[:, :, None] + folds
    pair = Selection("cells", 0, None, "l2", (1, 2), (3.0, 2.0, 1.0), both, 30)
    assert (pair.best, pair.chosen) == ((1, 1), (0, 1))
    failed = np.full((2, 1, 3), np.nan)
    failed[1] = 0.5
    assert Selection("cells", 0, None, None, (1, 2), (), failed, 9).chosen == (1, 0)


def test_folds_leave_something_of_every_row_column_and_level() -> None:
    table = holed(40, 7, 2, 0.3, share=0.5)
    table[:, 3] = np.digitize(table[:, 3], [0.0, 1.5]) + np.where(
        np.isnan(table[:, 3]), np.nan, 0
    )
    table[5], table[5, 2] = np.nan, 1.0  # a row of one cell
    table[6, :5], table[6, 5:] = np.nan, 1.0  # and one of two
    known = cells(table, ["squared"] * 3 + ["categorical"] + ["squared"] * 3)
    for seed in range(20):
        folds = dealt(known, 3, np.random.default_rng(seed))
        data = ~np.isnan(table)
        assert (folds[~data] == -1).all()
        assert folds[5, 2] == -1
        for fold in range(3):
            left = data & (folds != fold)
            assert left.any(1)[data.any(1)].all()
            assert left.any(0).all()
            for level in range(3):
                assert left[table[:, 3] == level, 3].any()
        counts = np.array([(folds == fold).sum(0) for fold in range(3)])
        assert np.ptp(counts, 0).max() <= 6  # of about 20; rows of few cells repaired
        assert np.median(np.ptp(counts, 0)) <= 2


def test_thresholds_are_the_published_ones() -> None:
    # Gavish and Donoho (2014), table IV, and the value of square tables in the abstract.
    published = {0.05: 1.5194, 0.1: 1.6089, 0.25: 1.8371, 0.5: 2.1711, 1.0: 2.858}
    for ratio, value in published.items():
        assert optimal_threshold(ratio) == pytest.approx(value, abs=4e-4)
    # Known noise: omega times the root of the median is 4 / sqrt(3) for square tables.
    singular = np.linalg.svd(
        np.random.default_rng(0).normal(size=(400, 400)), compute_uv=False
    )
    over = optimal_threshold(1.0) * np.median(singular) / 20
    assert over == pytest.approx(4 / np.sqrt(3), rel=0.01)
    with pytest.raises(InvalidValueError, match="shorter over the longer"):
        optimal_threshold(2.0)


@pytest.mark.parametrize("offsets", ["none", "columns", "both"])
def test_singular_values_count_the_planted_rank(offsets: str) -> None:
    table, _ = planted_table(80, 50, 4, noise=0.4, seed=1)
    model = LowRankModel("gavish-donoho", offsets=offsets, random_state=0)
    model.fit(table + 3 * (offsets != "none"))
    assert model.n_components_ == 4
    assert model.selection_ is not None
    assert "Rank 4 is chosen" in model.selection_.says
    assert "n_components is 'gavish-donoho'" in _message(
        lambda: model.fit(holed(20, 10, 2, 0.1))
    )


def test_noise_alone_has_rank_one_with_a_warning() -> None:
    noise = np.random.default_rng(3).normal(size=(60, 40))
    with pytest.warns(UserWarning, match="nothing stands out"):
        model = LowRankModel("gavish-donoho", random_state=0).fit(noise)
    assert model.n_components_ == 1
    with pytest.warns(UserWarning, match="better than the best constants"):
        LowRankModel([1, 2], random_state=0).fit(noise)


@pytest.mark.parametrize("rank", [1, 3])
def test_planted_ranks_are_chosen(rank: int) -> None:
    table = holed(50, 25, rank, 0.3, seed=rank)
    model = LowRankModel("auto", held_out=0, random_state=0).fit(table)
    assert model.n_components_ == rank == len(model.components_)
    chosen = model.selection_
    assert chosen is not None
    assert chosen.ranks == (1, 2, 3, 4, 5, 6)
    assert chosen.held == (~np.isnan(table)).sum()
    # Noise of variance .09 beside a signal of variance 1.
    assert 0.05 < chosen.mean[chosen.chosen] < 0.2
    again = LowRankModel("auto", held_out=0, random_state=0).fit(table)
    assert again.loss_ == model.loss_


def test_the_search_goes_on_while_the_last_rank_is_the_best() -> None:
    known = cells(holed(40, 30, 7, 0.1, seed=2, share=0.1))
    found = by_cells(
        known,
        Search(None),
        lambda penalty: {"penalty": penalty, "initialization": "spectral"},
        lambda problem: step_named("auto", problem),
    )
    assert found.rank == 7
    assert found.ranks == tuple(range(1, 13))


def test_the_largest_penalty_leaves_nothing() -> None:
    known = cells(holed(20, 12, 2, 0.3))
    for power in (0.0, 0.5):
        penalty = {"l2": 1.0, "count_power": power}
        top = Factorization(known, 2, offsets="columns", penalty=penalty).vanishing_l2()
        for factor, vanishes in ((1.05, True), (0.95, False)):
            problem = Factorization(
                known,
                2,
                offsets="columns",
                initialization="normal",
                penalty={**penalty, "l2": factor * top},
            )
            steps = step_named("auto", problem)
            runs = descend(problem, 1, steps=steps, stop=Stop(200), width=1)
            size = np.abs(runs.parameters["U"]).max()
            assert (size < 1e-3) == vanishes


def test_penalties_are_chosen_and_kept(tmp_path: Path) -> None:
    table = holed(40, 20, 2, 0.8, seed=1)
    model = LowRankModel(6, penalty="auto", held_out=0, random_state=0).fit(table)
    chosen = model.selection_
    assert chosen is not None
    assert len(chosen.penalties) == 10
    assert chosen.name == "l2"
    assert model.fitted_.penalty["l2_rows"] == chosen.penalty
    assert chosen.mean[0, -1] > chosen.mean[chosen.chosen]  # a smaller one overfits
    both = LowRankModel(
        [1, 2, 3],
        penalty={"l2": [9.0, 1.0], "l2_biases": 2.0},
        held_out=0,
        random_state=0,
    )
    both = clone(both).fit(table)
    assert both.fitted_.penalty["l2_biases"] == 2.0
    both.save(tmp_path / "model.safetensors")
    back = descents.load(tmp_path / "model.safetensors")
    assert back.selection_.says == both.selection_.says
    np.testing.assert_array_equal(back.selection_.losses, both.selection_.losses)
    assert back.get_params()["n_components"] == [1, 2, 3]
    assert LowRankModel(2, held_out=0).fit(table).selection_ is None


def test_sparse_tables_are_held_out_too() -> None:
    table = holed(80, 40, 2, 0.2, share=0.5)
    i, j = np.nonzero(~np.isnan(table))
    stored = scipy.sparse.csr_array((table[i, j], (i, j)), shape=table.shape)
    model = LowRankModel([1, 2, 3], penalty=0.5, random_state=0).fit(stored)
    dense = LowRankModel([1, 2, 3], penalty=0.5, random_state=0).fit(table)
    assert model.n_components_ == dense.n_components_ == 2
    np.testing.assert_allclose(
        model.selection_.losses, dense.selection_.losses, rtol=1e-7
    )
    zeros = scipy.sparse.csr_array(np.where(np.isnan(table), 0, table))
    assert LowRankModel([1, 2], sparse="zero").fit(zeros).selection_.held == 3200


def _message(call: Any) -> str:
    with pytest.raises(InvalidValueError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_components": [2, 40]}, "n_components holds 40.*ranks from 1 to 8"),
        ({"n_components": "many"}, "n_components is 'many'.*'auto', 'gavish-donoho'"),
        ({"n_components": []}, "holds no rank"),
        ({"n_components": [0]}, "a rank in n_components is 0"),
        ({"penalty": {"l1": "auto"}}, "no scale"),
        ({"penalty": {"l2": "auto", "l1": 1.0}}, "'l2' or 'l1' alone"),
        ({"penalty": {"l2_rows": [1.0]}}, "'l2' or 'l1' alone"),
        ({"penalty": {"l2": [0.0]}}, "nothing above 0"),
        ({"penalty": "lots"}, "penalty"),
        ({"n_components": "auto", "cv": 1}, "cv is 1"),
        (
            {
                "n_components": "auto",
                "initialization": (np.ones((1, 20, 2)), np.ones((1, 8, 2))),
            },
            "two arrays",
        ),
        (
            {"n_components": "gavish-donoho", "constraint": "nonnegative"},
            "is for fits without constraint and penalty",
        ),
    ],
)
def test_what_cannot_be_chosen_is_said(settings: dict[str, Any], says: str) -> None:
    table, _ = planted_table(20, 8, 2, noise=0.3)
    with pytest.raises(InvalidValueError, match=says):
        LowRankModel(**settings).fit(table)


def test_too_few_cells_are_said() -> None:
    with pytest.raises(
        InvalidValueError, match="only 6 cells can be held out.*need 10"
    ):
        LowRankModel("auto").fit(np.arange(6.0).reshape(3, 2))
    with pytest.raises(InvalidValueError, match="every column is constant"):
        LowRankModel("auto").fit(np.ones((10, 4)))
    lone = np.where(np.eye(12) > 0, 1.0, np.nan)
    with pytest.raises(InvalidValueError, match="only 0 cells"):
        LowRankModel("auto", offsets="none").fit(lone)


def test_the_command_says_what_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = holed(40, 12, 2, 0.3)
    path = tmp_path / "table.csv"
    np.savetxt(path, table, delimiter=",", header=",".join("abcdefghijkl"), comments="")
    out = tmp_path / "run"
    arguments = ["factorize", str(path), "--missing", "nan", "--out", str(out)]
    assert main([*arguments, "--rank", "auto:1-3", "--penalty", "l2=auto:2,0.2"]) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    told = result["selection"]
    assert told["says"] in printed
    assert (result["rank"], told["rank"]) == (2, 2)
    assert np.shape(told["losses"]) == (3, 2, 5)
    page = (out / "report.html").read_text()
    assert "How many components?" in page
    assert 'id="figure-selection-svg"' in page
    whole = tmp_path / "whole.csv"
    np.savetxt(whole, planted_table(40, 12, 2, noise=0.3)[0], delimiter=",")
    other = [
        "factorize",
        str(whole),
        "--no-header",
        "--rank",
        "gavish-donoho",
        "--json",
    ]
    assert main([*other, "--out", str(tmp_path / "other")]) == 0
    result = json.loads(capsys.readouterr().out)
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert result["selection"]["how"] == "singular values"
    assert result["rank"] == 2
    assert main([*arguments[:2], "--rank", "best"]) == 2
    assert "--rank is 'best'; give a whole number" in capsys.readouterr().err
    assert main([*arguments[:2], "--rank", "auto:1-30", "--out", str(out) + "2"]) == 2
    assert "--rank tries 30" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_planted_ranks_are_chosen_95_times_of_100() -> None:
    # The least singular value is half again as large as the threshold of its noise.
    right = 0
    for seed in range(10):
        for rank in range(1, 11):
            _, clean = planted_table(200, 100, rank, seed=1000 * seed + rank)
            least = np.linalg.svd(clean, compute_uv=False)[rank - 1]
            known = 1.979 * np.sqrt(200 / 0.8)  # sides of ratio 1/2, a fifth of holes
            generator = np.random.default_rng([seed, rank])
            noise = least / (1.5 * known) * generator.standard_normal(clean.shape)
            table = clean + noise
            table[generator.random(table.shape) < 0.2] = np.nan
            model = LowRankModel("auto", held_out=0, random_state=0, max_iter=200)
            right += model.fit(table).n_components_ == rank
    assert right >= 95


def test_what_is_asked_is_read_once() -> None:
    assert selection.asked("auto", None) == Search(None)
    assert selection.asked(range(2, 4), 0.5) == Search((2, 3), rest=0.5)
    assert selection.asked([3], None) == Search((3,))
    assert selection.asked(3, {"l2": 0.5}) is None
