"""The numbers of pages, computed again from the stored starts, and equal everywhere."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from conftest import MIXED, TRAINED_STARTS
from descents.cli import main as cli
from descents.pages import page as pages
from descents.pages.numbers import Digits, digits_of
from descents.pages.page import html, read_run
from descents.pages.train_figures import PICTURES, distinguished
from descents.runs.curves import drawn_starts
from descents.runs.network_summary import success_threshold
from descents.text import decimals_of, rounded


def stored(folder: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(folder / "starts.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def words(folder: Path) -> str:
    """Return the text of a page, without its tags, scripts and pictures."""
    text = (folder / "report.html").read_text()
    text = re.sub(r"<(script|style|svg).*?</\1>", " ", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", text)
    for entity, character in (
        ("&#39;", "'"),
        ("&#34;", '"'),
        ("&lt;", "<"),
        ("&amp;", "&"),
    ):
        text = text.replace(entity, character)
    return re.sub(r"\s+", " ", text)


def by_setting(
    folder: Path, metric: str = "validation_accuracy"
) -> dict[str, np.ndarray]:
    table = stored(folder)
    values = np.where(np.isfinite(table["loss"]), table[metric], np.nan)
    return {
        str(name): values[table["setting"] == name]
        for name in np.unique(table["setting"])
    }


# train


def test_the_answer_is_the_mean_of_the_stored_starts(trained) -> None:
    means = {n: np.nanmean(v) for n, v in by_setting(trained).items()}
    best = max(means, key=lambda name: means[name])
    result = json.loads((trained / "result.json").read_text())
    setting = next(s for s in result["settings"] if s["name"] == best)
    assert result["best"]["setting"] == best
    assert setting["metric"]["mean"] == pytest.approx(means[best], rel=1e-12)
    text = words(trained)
    form = digits_of(read_run(trained).result)
    low, high = setting["metric"]["interval"]
    expected = (
        f"{best} is the best of 4 settings: its mean validation accuracy is "
        f"{means[best]:.3f} (95% interval {form(low)} to {form(high)}, over "
        f"{TRAINED_STARTS} starts), on 49 held-out rows"
    )
    assert expected in text


def test_page_terminal_and_result_agree(trained) -> None:
    """A reader finds the same mean, interval and constant in all three."""
    result = json.loads((trained / "result.json").read_text())
    printed = (trained.parent / "printed.txt").read_text()
    text = words(trained)
    for setting in result["settings"]:
        metric = setting["metric"]
        row = next(
            line for line in printed.splitlines() if f"│ {setting['name']} " in line
        )
        cells = [cell.strip() for cell in row.split("│")[1:-1]]
        mean, interval, failed = cells[1], cells[2], cells[-1]
        assert float(mean) == pytest.approx(metric["mean"], abs=0.00051)
        assert f"{setting['name']} {mean} {interval}" in text
        assert failed == f"{metric['failed']} of {TRAINED_STARTS}"
    quote = result["quote"]
    assert quote in text
    (quoted,) = re.findall(r"of (0\.\d+) \(95% CI (0\.\d+ to 0\.\d+)", quote)
    best = next(s for s in result["settings"] if s["name"] == result["best"]["setting"])
    assert f"{best['name']} {quoted[0]} {quoted[1]}" in text


def test_comparisons_agree_in_page_terminal_and_result(compared) -> None:
    result = json.loads((compared / "result.json").read_text())
    printed = (compared.parent / "printed.txt").read_text()
    text = words(compared)
    assert result["answer"] in printed
    assert result["answer"] in text
    table = stored(compared)
    for side in result["sides"]:
        values = table["value"][(table["side"] == side["name"]) & ~table["failed"]]
        assert side["mean"] == pytest.approx(np.nanmean(values), rel=1e-12)
        places = decimals_of(side["interval"], result["resolution"])
        assert rounded(side["mean"], places) in text
    (one,) = result["differences"]
    gap = result["sides"][0]["mean"] - result["sides"][1]["mean"]
    assert one["difference"] == pytest.approx(gap, abs=1e-12)


def test_rows_that_were_trained_on_and_held_out(trained) -> None:
    """150 rows, of which a third of each class is held out: not 'trained on 150 rows'."""
    text = words(trained)
    assert "Of 150 rows, 101 were trained on and 49 held out" in text
    assert "trained on 150 rows" not in text
    accuracy = stored(trained)["validation_accuracy"] * 49
    finite = np.isfinite(accuracy)
    np.testing.assert_allclose(accuracy[finite], accuracy[finite].round(), atol=1e-9)


def test_the_shares_of_options_and_interactions_add_up(trained) -> None:
    """By a two-way analysis of variance over shared starts, written out."""
    values = by_setting(trained)
    names = [
        f"{init} with learning rate {rate}"
        for init in ("kaiming", "uniform01")
        for rate in ("0.01", "3")
    ]
    cube = np.stack([values[name] for name in names]).reshape(2, 2, -1)
    cube = cube[:, :, np.isfinite(cube).all((0, 1))]
    grand, count = cube.mean(), cube.shape[2]
    cells = cube.mean(2)
    init, rate = cells.mean(1) - grand, cells.mean(0) - grand
    both = cells - grand - init[:, None] - rate[None, :]
    total = np.square(cube - grand).sum()
    expected = {
        "initialization": 2 * count * np.square(init).sum() / total,
        "learning_rate": 2 * count * np.square(rate).sum() / total,
        "starts": 4 * np.square(cube.mean((0, 1)) - grand).sum() / total,
        "initialization x learning_rate": count * np.square(both).sum() / total,
    }
    result = json.loads((trained / "result.json").read_text())
    found = {one["source"]: one["share"] for one in result["sources"]}
    assert sum(found.values()) == pytest.approx(1)
    for name, share in expected.items():
        assert found[name] == pytest.approx(share, rel=1e-9, abs=1e-12), name
    text = words(trained)
    assert (
        f"initialization x learning rate {expected['initialization x learning_rate']:.1%}"
        in text
    )


def test_one_held_out_row_below_the_best_is_near_it() -> None:
    """0.02 is less than a row of 49: the threshold .9596 left out 47 of 49."""
    values = np.array([48, 47, 46, 40]) / 49
    threshold = success_threshold(values, True, step=1 / 49)
    assert (values >= threshold - 1e-12).tolist() == [True, True, False, False]
    assert success_threshold(values, True) > 47 / 49


def test_near_the_best_is_counted_as_said(trained) -> None:
    result = json.loads((trained / "result.json").read_text())
    best = result["best"]["setting"]
    values = by_setting(trained)[best]
    every = np.concatenate(list(by_setting(trained).values()))
    threshold = np.nanmax(every) - 1 / 49
    share = (np.nan_to_num(values, nan=-1) >= threshold - 1e-9).mean()
    assert f"the share of these starts is {share:.1%}" in words(trained)


def test_a_deviation_is_the_same_number_wherever_it_stands(trained) -> None:
    result = json.loads((trained / "result.json").read_text())
    form = digits_of(read_run(trained).result)
    best = next(s for s in result["settings"] if s["name"] == result["best"]["setting"])
    deviation = by_setting(trained)[best["name"]].std(ddof=1)
    assert best["metric"]["standard_deviation"] == pytest.approx(deviation)
    assert result["variance"]["starts"] ** 0.5 == pytest.approx(deviation)
    assert f"standard deviation {form(deviation)}" in words(trained)


def test_small_numbers_are_not_written_as_zero() -> None:
    form = Digits.of(1 / 49, 0.0005, [0.9781, 0.9783])
    assert form(0.00004) == "4e-05"
    assert form(0.0) == "0.000"
    assert "0.0000" not in form.between([-2e-5, 0.004])


def test_settings_are_distinguished_by_interval_and_test(trained) -> None:
    result = read_run(trained).result
    apart, close = distinguished(result)
    text = words(trained)
    for one in result.compared:
        low, high = one.interval
        clear = (low > 0 or high < 0) and one.p_adjusted < 0.05
        assert (one.against in apart) is clear
        assert (one.against in close) is not clear
    if close:
        assert "cannot be distinguished from" in text


def test_all_starts_have_a_verdict_or_are_said_to_have_none(trained) -> None:
    table, text = stored(trained), words(trained)
    for name in np.unique(table["setting"]):
        chosen = table["verdict"][table["setting"] == name]
        for word, count in zip(*np.unique(chosen, return_counts=True), strict=True):
            assert f"{name} {word} {count} " in text


def test_curves_above_a_thousand_are_a_stated_sample_with_all_that_failed(
    trained,
) -> None:
    failed = np.zeros(5000, dtype=bool)
    failed[[7, 4001]] = True
    rows = drawn_starts(failed)
    assert len(rows) == 1000
    assert {7, 4001} <= set(rows.tolist())
    run = read_run(trained)
    many = {name: np.resize(values, 5000) for name, values in run.rows.items()}
    many["loss"] = np.where(failed, np.nan, 1.0)
    tensors = {**run.tensors, "curve_rows": rows, "curves": np.ones((40, len(rows)))}
    changed = replace(run, rows=many, tensors=tensors)
    says = PICTURES["figure-curves"].says
    assert callable(says)
    assert (
        "1000 of 5000 curves are drawn, evenly chosen, with every one of the 2 that failed"
        in says(changed)
    )


def test_the_command_of_the_page_gives_the_same_run(
    trained, tmp_path, monkeypatch
) -> None:
    text = (trained / "report.html").read_text()
    (shown,) = re.findall(r'<code id="command">(.*?)</code>', text)
    command = shlex.split(shown.replace("&#39;", "'"))
    assert command[:2] == ["descents", "train"]
    assert command[command.index("--seed") + 1] == "0"
    monkeypatch.chdir(trained.parent)
    out = tmp_path / "again"
    assert cli.main([*command[1:], "--out", str(out), "--quiet"]) == 0
    first, second = stored(trained), stored(out)
    for name, values in first.items():
        if not name.startswith("seconds"):
            np.testing.assert_array_equal(values, second[name], err_msg=name)


# reproduce


def test_the_failed_share_is_over_shuffles_with_the_place_of_the_fixed_one(
    whole,
) -> None:
    table, text = stored(whole), words(whole)
    fixed = table["training_accuracy"][table["part"] == "table"]
    share = (fixed < 0.8).mean()
    chosen = (table["part"] == "settings") & (
        table["setting"] == "sum-uniform01-uniform01"
    )
    by_shuffle = [
        (table["training_accuracy"][chosen & (table["split"] == k)] < 0.8).mean()
        for k in np.unique(table["split"][chosen])
    ]
    place = 1 + sum(other < share for other in by_shuffle)
    assert (
        f"number {place} of {len(by_shuffle) + 1} from the easiest, {share:.1%}" in text
    )
    assert f"{np.mean(by_shuffle):.1%} of fresh starts of the network fail" in text


def test_gaps_on_the_page_are_those_of_the_starts(whole) -> None:
    table, text = stored(whole), words(whole)
    gaps = table["gap"][table["part"] == "factorization"]
    assert (
        f"the median gap is {np.median(gaps):.2g} and the largest {gaps.max():.2g}"
        in text
    )


def test_claims_are_linked_to_evidence_that_is_there(whole) -> None:
    text = (whole / "report.html").read_text()
    for number in range(1, 7):
        card = text[text.index(f'id="claim-{number}"') :]
        (link,) = re.findall(r'<p>.*?<a href="#([^"]*)">', card[: card.index("</p>")])
        assert f'id="{link}"' in text


# all


def test_an_error_in_drawing_does_not_lose_the_fit(
    tmp_path, monkeypatch, capsys
) -> None:
    def fail(*_arguments: object) -> str:
        raise KeyError("verdict")

    monkeypatch.setattr(pages, "html", fail)
    (tmp_path / "t.csv").write_text(MIXED)
    out = tmp_path / "run"
    options = ["--rank", "1", "--id", "name", "--out", str(out)]
    assert cli.main(["factorize", str(tmp_path / "t.csv"), *options]) == 0
    assert (out / "result.json").exists()
    assert "could not be drawn (KeyError: 'verdict')" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.main(["report", str(out)]) == 0
    assert (out / "report.html").exists()


def test_runs_of_earlier_versions_are_drawn(trained) -> None:
    """Their results lack fields, and their curves are of the best setting alone."""
    run = read_run(trained)
    result = replace(
        run.result, sources=[], resolution=None, held_out_rows=[], quote=None
    )
    count = TRAINED_STARTS
    tensors = {
        "epochs": run.tensors["epochs"],
        "history_loss": np.ones((len(run.tensors["epochs"]), count)),
    }
    rows = {name: values for name, values in run.rows.items() if name != "verdict"}
    old = replace(run, result=result, tensors=tensors, rows=rows)
    drawn = {name: pages._drawn((old, name)) for name in pages.pictures_of(old)}
    assert "figure-interaction" not in drawn
    assert f"The {count} curves of the best setting" in drawn["figure-curves"].says
    assert "held-out rows" in html(old, drawn)
