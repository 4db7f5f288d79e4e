"""The pages of factorize and impute: every number again, from the table and the starts."""

from __future__ import annotations

import html
import json
import re
import shlex
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conftest import made_once
from descents.bounds.gaps import Reference
from descents.bounds.subspaces import matched_cosines
from descents.cli.main import main
from descents.pages import factorize, impute, lowrank_figures, small
from descents.pages.factorize_figures import by_hidden, percent
from descents.pages.figures import new_figure
from descents.pages.page import draw, read_run
from descents.runs.factorize_facts import gap_sentence
from descents.runs.results import Distribution


def planted(rows: int, columns: int, noise: float, holes: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, columns))
    table += noise * rng.normal(size=table.shape)
    table[rng.random(table.shape) < holes] = np.nan
    return table


def text_of(page: Path) -> str:
    """Return the words of a page, without pictures, scripts and marks."""
    found = re.sub(r"<(script|style|svg).*?</\1>", " ", page.read_text(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found)).split())


def factorized(place: Path, table: np.ndarray, *options: str) -> Path:
    names = [f"c{k}" for k in range(table.shape[1])]
    place.mkdir(exist_ok=True)
    pd.DataFrame(table, columns=names).to_csv(place / "t.csv", index=False)
    path, run = str(place / "t.csv"), str(place / "run")
    assert main(["factorize", path, *options, "--out", run, "--quiet"]) == 0
    return place / "run"


@pytest.fixture(scope="module")
def holed(tmp_path_factory) -> Path:
    """Return a run of 6 starts on a table with holes, one column of which is noise."""

    def make(folder: Path) -> None:
        table = planted(80, 6, 0.4, 0.1)
        table[:, 5] = np.random.default_rng(1).normal(size=80)
        table[::9, 5] = np.nan
        factorized(folder / "a", table, "--rank", "2", "--starts", "6")

    return made_once(tmp_path_factory, "holed-page", make) / "a" / "run"


def test_components_are_matched_as_well_as_any_permutation_does() -> None:
    rng = np.random.default_rng(0)
    components = rng.normal(size=(4, 3, 5))
    components[2] = np.nan
    found = matched_cosines(components, 1)
    unit = components / np.linalg.norm(components, axis=2, keepdims=True)
    for start in (0, 3):
        cosines = np.abs(unit[1] @ unit[start].T)
        best = max(
            permutations(range(3)),
            key=lambda p: sum(cosines[k, p[k]] for k in range(3)),
        )
        expected = [cosines[k, best[k]] for k in range(3)]
        np.testing.assert_allclose(found[start], expected, atol=1e-12)
    np.testing.assert_allclose(found[1], 1, atol=1e-12)
    assert np.isnan(found[2]).all()
    # neither the order, nor the signs, nor the sizes of components matter
    turned = components[1][[2, 0, 1]] * np.array([[-3.0], [0.5], [2.0]])
    np.testing.assert_allclose(matched_cosines([components[1], turned], 0)[1], 1)


def test_hidden_cells_have_the_first_number_not_the_cells_of_the_fit(holed) -> None:
    run = read_run(holed)
    result = run.result
    table = pd.read_csv(holed.parent / "t.csv").to_numpy()
    shares = result.shares
    centered = table - np.nanmean(table, 0)
    residual = _residual(holed, table)
    seen = 1 - np.nansum(residual**2) / np.nansum(centered**2)
    assert shares.seen == pytest.approx(seen, abs=1e-6)
    assert shares.hidden < shares.seen
    assert shares.cells == result.held_out.cells
    sentence = factorize.answer(run).sentence
    assert f"explains {percent(seen)} of the variance of seen cells" in sentence
    assert f"{shares.hidden:.0%} of hidden ones ({shares.cells} held-out" in sentence
    tile = factorize.answer(run).tiles[0]
    assert tile.value == f"{shares.hidden:.0%}"
    # of the columns too: recomputed from the stored held-out cells
    tensors = run.tensors
    for place, column in enumerate(result.columns):
        mine = tensors["hidden/column"] == place
        assert mine.sum() == column.held_out
        off = tensors["hidden/truth"][mine] - tensors["hidden/predicted"][mine]
        assert np.square(off).mean() / np.nanvar(table[:, place]) == pytest.approx(
            1 - column.unseen, rel=0.15
        )  # the constants of the folds are nearly the mean


def _residual(run: Path, table: np.ndarray) -> np.ndarray:
    scores = pd.read_parquet(run / "rows.parquet").to_numpy()[:, 1:].astype(float)
    parts = pd.read_parquet(run / "components.parquet")
    loadings = (
        parts[["component_1", "component_2"]].to_numpy() * parts[["unit"]].to_numpy()
    )
    return table - parts["offset"].to_numpy() - scores @ loadings.T


def test_a_complete_table_is_said_to_be_judged_on_seen_cells(tmp_path) -> None:
    run = factorized(tmp_path / "a", planted(40, 4, 0.5, 0.0), "--rank", "2")
    page = text_of(run / "report.html")
    assert "no cell was hidden to measure how well others are predicted" in page
    assert "not known for cells that the fit has not seen" in page
    assert "--rank auto:2 would hide some cells" in page
    assert "held-out" not in factorize.answer(read_run(run)).sentence
    assert "missing cells are white" not in page.lower()
    assert "figure-pattern" not in (run / "report.html").read_text()
    judged = factorized(tmp_path / "b", planted(40, 4, 0.5, 0.0), "--rank", "auto:2")
    assert read_run(judged).result.shares.cells >= 50


def test_starts_agree_only_if_their_components_do(tmp_path) -> None:
    # Nonnegative components of a table without structure differ between starts.
    table = np.random.default_rng(0).random((30, 10))
    options = ("--rank", "4", "--starts", "8", "--constraint", "nonnegative")
    run = factorized(tmp_path / "a", table, *options, "--init", "uniform")
    stored = read_run(run)
    cosines, rows = stored.tensors["cosines"], stored.rows
    same = int((cosines >= 0.95).all(1).sum())
    assert stored.result.starts.same_components == same
    np.testing.assert_allclose(rows["least_cosine"], cosines.min(1))
    best = int(rows["loss"].argmin())
    np.testing.assert_allclose(
        stored.result.starts.cosines, np.median(np.delete(cosines, best, 0), 0)
    )
    says = factorize.starts_say(stored)
    assert same < 8
    assert f"{same} of 8 starts have the same components" in says
    assert "can be interpreted" not in says
    assert factorize.answer(stored).tiles[1].value == f"{same} of 8"
    assert any(a.section == "starts" for a in factorize.answer(stored).alerts)
    page = text_of(run / "report.html")
    assert "nearly the same" not in page
    assert "find the same components" not in page


def test_one_start_is_not_compared_with_itself(tmp_path) -> None:
    run = factorized(tmp_path / "a", planted(40, 5, 0.5, 0.1), "--rank", "2")
    page = text_of(run / "report.html")
    assert "whether starts agree cannot be judged" in page
    assert "1 starts" not in page
    assert "best of 1" not in page
    assert "figure-curves" not in (run / "report.html").read_text()
    assert factorize.starts(read_run(run)) is None


def test_every_start_is_in_every_picture_of_starts(holed) -> None:
    page = (holed / "report.html").read_text()
    rows = [
        json.loads(html.unescape(x)) for x in re.findall(r'data-rows="([^"]*)"', page)
    ]
    drawn = [
        range(r["first"], r["first"] + r["count"]) if isinstance(r, dict) else r
        for r in rows
    ]
    run = read_run(holed)
    losses = run.rows["loss"]
    distance = (losses - losses.min()) / run.result.constants_loss
    near = int((distance <= 1e-6).sum())
    assert f"{near} of 6 starts reach the loss of the best" in page
    assert sorted(drawn[0]) == list(range(6))  # losses
    assert set(drawn[1]) == set(range(6)) - {int(losses.argmin())}  # components
    assert sorted([*drawn[2], *drawn[3]]) == list(range(6))  # curves


def test_all_columns_are_in_the_list_best_first_unknown_last() -> None:
    _, (ax,) = new_figure(4, 3)
    names = ["good", "bad", "worst", "unknown"]
    seen, hidden = [0.9, 0.2, 0.5, None], [0.8, -0.3, -42.0, None]
    lowrank_figures.shares(ax, names, seen, hidden)
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["not known", "-4200%"]
    low, high = ax.get_xlim()
    points = np.concatenate([line.get_xdata() for line in ax.lines[:-1]])
    assert len(points) == 6  # nothing is drawn for the unknown column
    assert ((points[np.isfinite(points)] >= low) & (points <= high)).all()
    assert [t.get_text() for t in ax.get_yticklabels()] == names


def test_more_columns_than_are_drawn_are_listed(tmp_path) -> None:
    table = planted(60, 110, 0.5, 0.05)
    run = factorized(tmp_path / "a", table, "--rank", "2")
    page = text_of(run / "report.html")
    assert "The 50 columns that are predicted best and the 50 worst are drawn" in page
    assert "Each of the 110 columns" in page
    for column in by_hidden(read_run(run).result):
        assert f"{column.name} hidden: {percent(column.unseen)}" in page


def test_held_out_losses_of_all_ranks_are_inside_of_the_frame() -> None:
    _, (ax,) = new_figure(4, 3)
    mean, error = np.array([0.5, 0.4, 90.0, 4000.0]), np.array([0.01, 0.02, 5, 900.0])
    lowrank_figures.held_out(ax, [1, 2, 3, 4], mean, error, 1, 0.42)
    low, high = ax.get_ylim()
    assert low < 0.4
    assert high > 4000
    assert low < 1 < high
    assert "best constants" in [t.get_text() for t in ax.get_legend().get_texts()]


@pytest.mark.parametrize("gap", [15.86, 0.5])
def test_a_bound_far_below_the_loss_is_not_reported_as_a_percentage(gap: float) -> None:
    says = "a lower bound on the loss; the gap is open"
    fitted = SimpleNamespace(
        reference=Reference(value=1.0, kind="bound", says=says),
        gap=gap,
        loss=1 + gap,
        constants_loss=30.0,
        problem=SimpleNamespace(cells=SimpleNamespace(square=30.0)),
    )
    sentence = gap_sentence(fitted)
    assert sentence.endswith(f"{says}.")
    if gap > 1:
        assert sentence.startswith("No useful bound is known: the loss is far above")
        assert "%" not in sentence
    else:
        assert sentence.startswith("The loss is at most 50% above a proven bound: ")


@pytest.mark.parametrize(("gap", "says"), [(5.6, "560%"), (0.0123, "1.2%")])
def test_how_far_a_bound_is(holed, gap, says) -> None:
    run = read_run(holed)
    object.__setattr__(run.result, "gap", gap)
    object.__setattr__(run.result.reference, "kind", "bound")
    sentence = factorize.answer(run).sentence
    assert f"at most {says} above a proven bound" in sentence
    assert ("is open" in sentence) is (gap > factorize.LOOSE)
    value = factorize.answer(run).tiles[2].value
    assert value == ("open" if gap > factorize.LOOSE else says)


@pytest.mark.parametrize(
    "options",
    [
        ("--rank", "auto:1-2", "--starts", "2", "--seed", "3"),
        ("--rank", "2", "--loss-of", "c0=huber", "--penalty", "l2=0.5", "--scales", "yes"),
        ("--rank", "1", "--penalty", "l2=auto:0.1,1", "--held-out", "0.2", "--cv", "3"),
        ("--rank", "2", "--starts", "3", "--combine", "mean", "--solver", "lbfgs",
         "--ignore", "c4", "--init", "normal", "--offsets", "both"),
    ],
)  # fmt: skip
def test_the_command_of_the_page_gives_the_same_result(
    tmp_path, monkeypatch, options
) -> None:
    run = factorized(tmp_path / "a", planted(40, 5, 0.4, 0.1), *options)
    command = read_run(run).result.command
    assert html.escape(command) in (run / "report.html").read_text().replace(
        "&#39;", "'"
    )
    monkeypatch.chdir(tmp_path / "a")
    words = shlex.split(command)
    assert words[:2] == ["descents", "factorize"]
    assert main([*words[1:], "--out", "again", "--quiet"]) == 0
    first, again = (
        json.loads((tmp_path / "a" / name / "result.json").read_text())
        for name in ("run", "again")
    )
    for name in ("seconds",):
        del first[name], again[name]
    assert first == again
    assert "<dt>seed</dt>" in (run / "report.html").read_text()


def test_the_command_of_an_imputation_gives_the_same_table(
    tmp_path, monkeypatch
) -> None:
    table = pd.DataFrame(planted(60, 4, 0.4, 0.15), columns=list("abcd"))
    table.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.chdir(tmp_path)
    given = [
        "impute",
        "t.csv",
        "f.csv",
        "--rank",
        "1",
        "--starts",
        "2",
        "--ignore",
        "d",
    ]
    assert main([*given, "--out", "run", "--quiet"]) == 0
    run = read_run(tmp_path / "run")
    words = shlex.split(impute.answer(run).command)
    assert words[:3] == ["descents", "impute", "t.csv"]
    assert main([*words[1:], "--out", "again", "--quiet"]) == 0
    assert (tmp_path / words[3]).read_text() == (tmp_path / "f.csv").read_text()
    page = text_of(tmp_path / "run" / "report.html")
    losses = run.rows["loss"]
    near = int((losses - losses.min() <= 1e-6).sum())
    assert f"{near} of 2 starts reach the loss of the best within 1e-06" in page
    for column in run.result.columns:
        share = table[column.name].isna().mean()
        spread = table[column.name].std(ddof=0)
        assert f"{column.name} numbers {share:.0%} {spread:.4g}" in page
        mine = run.tensors["hidden/column"] == run.result.columns.index(column)
        off = run.tensors["hidden/truth"][mine] - run.tensors["hidden/predicted"][mine]
        assert np.sqrt(np.square(off).mean()) == pytest.approx(column.error)


def test_probabilities_of_levels_are_calibrated_as_the_cells_say(tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    frame = pd.DataFrame({"x": x, "y": x + rng.normal(size=300)})
    frame["kind"] = np.where(x + 0.5 * rng.normal(size=300) > 0, "up", "down")
    frame = frame.mask(rng.random(frame.shape) < 0.1)
    frame.to_csv(tmp_path / "t.csv", index=False)
    paths = [str(tmp_path / name) for name in ("t.csv", "f.csv", "run")]
    assert main(["impute", *paths[:2], "--out", paths[2], "--quiet"]) == 0
    column = read_run(tmp_path / "run").result.columns[2]
    found = column.calibration
    assert sum(found.cells) == column.held_out
    right = sum(
        c * s for c, s in zip(found.cells, found.right, strict=True) if s is not None
    )
    assert right / column.held_out == pytest.approx(1 - column.error, abs=1e-9)
    assert column.distribution.levels == ["down", "up"]
    assert (
        column.distribution.observed
        == frame["kind"].value_counts()[["down", "up"]].tolist()
    )
    filled = pd.read_csv(tmp_path / "f.csv")["kind"][frame["kind"].isna()]
    assert column.distribution.filled == [
        (filled == one).sum() for one in ("down", "up")
    ]
    assert "Probability of the predicted level" in text_of(tmp_path / "run/report.html")


def test_runs_of_earlier_versions_have_a_page(holed, tmp_path) -> None:
    """Fields and tensors that they lack are not known, and no picture is made up."""
    run = read_run(holed)
    old = json.loads((holed / "result.json").read_text())
    for name in ("shares", "command"):
        del old[name]
    for name in ("same_components", "cosines"):
        del old["starts"][name]
    for column in old["columns"]:
        for name in ("seen", "held_out", "kind", "spread", "distribution"):
            del column[name]
    from descents.runs.factorize_result import LowRankResult
    from descents.storage.results import of_json

    kept = ("pattern", "recorded", "history_loss", "losses", "best", "sizes")
    tensors = {name: run.tensors[name] for name in kept}
    tensors["scores"] = run.tensors["scores"][:, :2]
    tensors["loadings"] = run.tensors["loadings"][:16, :2]
    rows = {n: v for n, v in run.rows.items() if n != "least_cosine"}
    draw(tmp_path, (of_json(LowRankResult, old), rows, tensors))
    page = text_of(tmp_path / "report.html")
    assert "did not match their components" in page
    assert old["held_out"]["says"] in page


def test_small_pictures_name_what_they_show_and_escape_it() -> None:
    levels = Distribution(levels=["<b>", "n"], observed=[1, 3], filled=[1, 0])
    for picture in (small.histogram(levels), small.both_histograms(levels)):
        assert "<b>" not in picture
        assert "&lt;b&gt;" in picture
        assert 'role="img"' in picture
    text = small.biplot(np.eye(2), np.eye(2), ["a<", "b"], "x")
    assert text.count('class="arrow ') == 2
    assert "a&lt;" in text


def test_a_filter_selects_starts_in_each_picture_of_factorize(browser, holed) -> None:
    best = int(np.argmin(read_run(holed).rows["loss"]))
    browser.open(holed / "report.html")
    browser.run("location.hash = '#starts&rows=' + arguments[0]", (best + 1) % 6)
    chosen = browser.run(
        "return [...document.querySelectorAll('svg.plot')]"
        ".filter(s => s.querySelector('path.marks'))"
        ".map(s => [...s.querySelectorAll('path.over')]"
        ".map(p => p.getAttribute('d')).join('').split('M').length - 1)"
    )
    assert chosen == [1, 2, 1]  # its loss, its two components, its curve
    status = browser.run("return document.querySelector('.status').textContent")
    assert status.startswith("1 of 6 starts selected")


def test_pairs_of_components_are_chosen_without_a_script(browser, tmp_path) -> None:
    run = factorized(tmp_path / "a", planted(60, 6, 0.5, 0.0), "--rank", "3")
    browser.open(run / "report.html")
    shown = (
        "return [...document.querySelectorAll('.pick')]"
        ".filter(e => e.offsetHeight > 0).map(e => e.id)"
    )
    assert browser.run(shown) == ["biplot-12"]
    browser.run("document.getElementById('pair-23').click()")
    assert browser.run(shown) == ["biplot-23"]
    assert browser.run("return document.querySelectorAll('.pick').length") == 3


def test_components_that_a_penalty_shrinks_to_nothing_are_not_described(
    tmp_path,
) -> None:
    table = np.random.default_rng(0).normal(size=(60, 5))
    table[::7, 1] = np.nan
    options = ("--rank", "2", "--starts", "2", "--penalty", "l2=1e6")
    run = factorized(tmp_path / "a", table, *options)
    page = text_of(run / "report.html")
    assert "No component remains" in page
    assert "is mostly" not in page
    assert "same components" not in page.replace("find the same components, as no", "")
    assert factorize.answer(read_run(run)).tiles[1].value == "not known"


def test_columns_that_do_not_vary_are_not_counted_as_predicted(tmp_path) -> None:
    table = planted(120, 5, 0.3, 0.1)
    table[:, 4] = np.where(np.isnan(table[:, 4]), np.nan, 3.0)
    run = factorized(tmp_path, table, "--rank", "2", "--starts", "2")
    result = json.loads((run / "result.json").read_text())
    held = {column["name"]: column["held_out"] for column in result["columns"]}
    assert held["c4"] > 0
    assert result["held_out"]["cells"] == sum(held.values()) - held["c4"]
    out = str(tmp_path / "imputed")
    filled = str(tmp_path / "filled.csv")
    words = ["impute", str(tmp_path / "t.csv"), filled, "--out", out, "--quiet"]
    assert main(words) == 0
    result = json.loads((tmp_path / "imputed" / "result.json").read_text())
    held = {column["name"]: column["held_out"] for column in result["columns"]}
    assert held["c4"] > 0
    assert result["held_out"]["cells"] == sum(held.values()) - held["c4"]
    assert result["held_out"]["columns"] == 4


def test_cells_of_columns_filled_by_constants_are_not_listed_as_worst(tmp_path) -> None:
    table = planted(300, 6, 0.1, 0.1)
    table[:, 5] = np.random.default_rng(1).standard_t(2, size=300)
    table[::9, 5] = np.nan
    run = factorized(tmp_path, table, "--rank", "2", "--starts", "2")
    result = json.loads((run / "result.json").read_text())
    flat = {c["name"] for c in result["columns"] if c["filled_by"] == "constant"}
    assert flat == {"c5"}
    left_out = sum(cell["column"] in flat for cell in result["worst_cells"])
    assert left_out > 0
    text = text_of(run / "report.html")
    cells = "cell of" if left_out == 1 else "cells of"
    assert f"{left_out} {cells} columns whose missing cells are filled" in text
    assert "probability of the observed level" not in text  # numbers have none


def test_probabilities_of_held_out_levels_are_calibrated_on_the_page(tmp_path) -> None:
    """The loss is the right one, so probable levels are right as often as they should be."""
    rng = np.random.default_rng(4)
    factor = rng.normal(size=(2000, 1))
    frame = pd.DataFrame(factor + 0.1 * rng.normal(size=(2000, 3)), columns=list("abc"))
    chance = 1 / (1 + np.exp(-2 * factor[:, 0]))
    frame["yes"] = np.where(rng.random(2000) < chance, "yes", "no")
    frame = frame.mask(rng.random((2000, 4)) < 0.05)
    frame.to_csv(tmp_path / "t.csv", index=False)
    for loss, known in (("logistic", True), ("hinge", False)):
        out = tmp_path / loss
        words = ["factorize", str(tmp_path / "t.csv"), "--rank", "1", "--quiet"]
        words += ["--loss-of", f"yes={loss}", "--out", str(out)]
        assert main(words) == 0
        columns = json.loads((out / "result.json").read_text())["columns"]
        (yes,) = (column for column in columns if column["name"] == "yes")
        assert all(c["calibration"] is None for c in columns if c["name"] != "yes")
        assert ("how often it is right" in text_of(out / "report.html")) is known
        if not known:  # a hinge has no probabilities
            assert yes["calibration"] is None
            continue
        found = yes["calibration"]
        assert sum(found["cells"]) == yes["held_out"]
        cells = np.array(found["cells"])
        some = cells >= 20
        assert some.sum() >= 3
        predicted, right = (
            np.array(found[name], dtype=float)[some] for name in ("predicted", "right")
        )
        deviation = np.sqrt(predicted * (1 - predicted) / cells[some])
        assert (np.abs(right - predicted) < 4 * deviation + 0.05).all()
