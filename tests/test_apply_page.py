"""The page of `descents apply`: its numbers are those of the table and of its files."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from conftest import made_once, run_python
from descents.cli.main import main
from descents.runs.apply_result import AppliedResult, FilledRows, PredictedRows
from descents.storage.results import read_result

DOCS = Path(__file__).parents[1] / "docs"
KINDS = {"impute": FilledRows, "factorize": AppliedResult, "train": PredictedRows}


@pytest.fixture(scope="module")
def applied(tmp_path_factory) -> Path:
    """Return a folder with a model of each kind, applied to new rows."""

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        factor = rng.normal(size=(90, 2))
        frame = pd.DataFrame(
            factor @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(90, 4)),
            columns=["a", "b<i>", "c", "d"],
        )
        frame["kind"] = np.where(factor[:, 0] > 0, "p", "q")
        holes = frame.mask(rng.random(frame.shape) < 0.1)
        holes.loc[0, "kind"] = "p"
        holes[:60].to_csv(folder / "old.csv", index=False)
        new = holes[60:].reset_index(drop=True)
        new.loc[3, "a"] = 1e3  # far outside the range of the fit
        new.loc[4, "kind"] = "<b>odd"
        new.loc[5] = np.nan
        new["more"] = 7
        new.to_csv(folder / "new.csv", index=False)
        frame[:60].to_csv(folder / "labeled.csv", index=False)
        old, out = str(folder / "old.csv"), str(folder)
        quiet = ["--quiet", "--out"]
        filled = f"{out}/filled.csv"
        labeled = f"{out}/labeled.csv"
        target = ["--target", "kind", "--starts", "3", "--epochs", "5", "--hidden", "4"]
        assert main(["impute", old, filled, *quiet, f"{out}/impute-run"]) == 0
        assert (
            main(["factorize", old, "--rank", "2", *quiet, f"{out}/factorize-run"]) == 0
        )
        assert main(["train", labeled, *target, *quiet, f"{out}/train-run"]) == 0
        for kind in KINDS:
            words = ["apply", f"{out}/{kind}-run", f"{out}/new.csv"]
            words += (
                [f"{out}/new-filled.csv"]
                if kind == "impute"
                else ["--unseen", "missing"]
            )
            assert main([*words, *quiet, f"{out}/{kind}"]) == 0

    return made_once(tmp_path_factory, "apply-page", make)


def text_of(page: Path) -> str:
    """Return the words of a page."""
    found = re.sub(r"<(script|style|svg).*?</\1>", " ", page.read_text(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found)).split())


@pytest.mark.parametrize("kind", KINDS)
def test_its_numbers_are_those_of_the_table(applied: Path, kind: str) -> None:
    new, old = (pd.read_csv(applied / f"{name}.csv") for name in ("new", "old"))
    result = read_result(KINDS[kind], applied / kind / "result.json")
    assert result.rows == len(new) == 30
    text = text_of(applied / kind / "report.html")
    for column in result.table_columns:
        values = new[column.name].where(new[column.name] != "<b>odd")
        if kind == "train":  # the target is no feature
            assert column.name != "kind"
        assert column.missing == values.isna().sum()
        if column.outside is not None:
            low, high = old[column.name].min(), old[column.name].max()
            assert column.outside == ((values < low) | (values > high)).sum()
    columns = {column.name: column for column in result.table_columns}
    if kind != "train":
        assert columns["a"].outside >= 1
        assert columns["kind"].outside is None
        assert (
            sum(columns["kind"].distribution.observed) == 30 - columns["kind"].missing
        )
        assert [one.level for one in result.unseen] == ["<b>odd"]
        # The cell of this level is missing for the model, but not in the file.
        missing = new["kind"].isna().sum()
        assert columns["kind"].missing == missing + 1
        assert f"kind: category of 3 levels, {missing} missing" in text
        assert "Missing cells include 1 cell of levels that the model does not" in text
    assert result.not_used == ["more"]


@pytest.mark.parametrize("kind", KINDS)
def test_page_terminal_and_result_agree(applied: Path, kind: str, capsys) -> None:
    result = json.loads((applied / kind / "result.json").read_text())
    text = text_of(applied / kind / "report.html")
    assert f"{result['rows']} new rows" in text
    model = json.loads((applied / f"{kind}-run" / "result.json").read_text())
    assert result["model_quote"] == model["quote"]
    assert " ".join(model["quote"].split()) in text
    assert result["run"]["sha256"] in text
    page = (applied / kind / "report.html").read_text()
    facts = re.search(r"<dl>(?:(?!</dl>).)*<dt>table.*?</dl>", page, re.DOTALL)
    assert f"<dt>model</dt><dd>{applied}/{kind}-run</dd>" in facts[0]
    command = shlex.split(result["command"])
    assert command[:2] == ["descents", "apply"]
    out = ["--out", str(applied / f"{kind}-again-{id(capsys)}")]
    assert main([*command[1:], *out]) == 0
    printed = capsys.readouterr().out
    again = json.loads((Path(out[1]) / "result.json").read_text())
    assert again == result
    if kind == "impute":
        cells = result["filled"]["cells"]
        new = pd.read_csv(applied / "new.csv").replace("<b>odd", np.nan)
        assert cells == new[["a", "b<i>", "c", "d", "kind"]].isna().sum().sum()
        assert f"{cells} cells filled in 5 columns" in text
        assert f"Filled {cells} missing cells" in printed
        assert "1 row without an observed cell" in text
    elif kind == "factorize":
        assert f"{result['holes']} missing cells filled" in text
        assert f"{result['holes']} missing cells filled" in printed
    else:
        predicted = pd.read_parquet(applied / kind / "predictions.parquet")["kind"]
        counts = dict(
            zip(
                result["predicted"]["levels"],
                result["predicted"]["observed"],
                strict=True,
            )
        )
        assert counts == {x: int((predicted == x).sum()) for x in ("p", "q")}
        for level, count in counts.items():
            assert f"{level} {count} " in text
    assert f"{out[1]}/report.html" in printed


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_drawn_again_and_its_schema_holds(
    applied: Path, kind: str, tmp_path: Path
) -> None:
    path = applied / kind / "result.json"
    schema = json.loads((DOCS / f"apply-{kind}.schema.json").read_text())
    jsonschema.validate(json.loads(path.read_text()), schema)
    assert main(["report", str(applied / kind), "--out", str(tmp_path), "--quiet"]) == 0
    page = (applied / kind / "report.html").read_bytes()
    assert (tmp_path / "report.html").read_bytes() == page


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_in_a_browser(browser, applied: Path, kind: str) -> None:
    page = applied / kind / "report.html"
    assert "<b>odd" not in page.read_text()
    for width, scheme in ((390, "light"), (1024, "dark")):
        browser.open(page, width, scheme)
        assert browser.findings() == []
        scroll, inner = browser.run(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert scroll <= inner == width
    browser.open(page)
    assert browser.requests() == ["file"]
    assert browser.driver.get_log("browser") == []


def test_a_run_of_an_earlier_version_is_drawn(applied: Path, tmp_path: Path) -> None:
    """Such a run has none of the fields that the page needs besides the counts."""
    later = {"table_columns", "model_quote", "command", "environment", "schema_version"}
    later |= {"predicted", "dimensions", "fitted_rows", "scored_rows", "scores"}
    later |= {"constant"}
    for kind in KINDS:
        result = json.loads((applied / kind / "result.json").read_text())
        kept = {name: x for name, x in result.items() if name not in later}
        del kept["run"]["sha256"]
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(kept))
        assert main(["report", str(folder), "--quiet"]) == 0
        assert f"{result['rows']} new rows" in text_of(folder / "report.html")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_the_fit_are_named(
    applied: Path, kind: str, tmp_path: Path, capsys
) -> None:
    """Figures on the table of the fit are not those of new rows."""
    table = "labeled.csv" if kind == "train" else "old.csv"
    words = ["apply", f"{applied}/{kind}-run", f"{applied}/{table}"]
    words += [f"{tmp_path}/filled.csv"] if kind == "impute" else []
    assert main([*words, "--out", f"{tmp_path}/out"]) == 0
    says = "This is the table of the fit: the model was fitted to rows of it"
    assert says in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["fitted_rows"]
    text = text_of(tmp_path / "out" / "report.html")
    assert says in text
    assert "new rows" not in text
    assert "60 rows of the fit" in text
    if kind == "train":  # a score on them would be one of training
        assert (result["scored_rows"], result["scores"]) == (0, [])
    new = json.loads((applied / kind / "result.json").read_text())
    assert not new["fitted_rows"]
    assert says not in text_of(applied / kind / "report.html")


def test_predictions_of_rows_with_a_target_are_scored(applied: Path) -> None:
    """A class that the network does not know is wrong, a missing one is left out."""
    result = json.loads((applied / "train" / "result.json").read_text())
    true = pd.read_csv(applied / "new.csv")["kind"]
    predicted = pd.read_parquet(applied / "train" / "predictions.parquet")["kind"]
    known = true.notna()
    majority = pd.read_csv(applied / "labeled.csv")["kind"].mode()[0]
    (score,) = result["scores"]
    assert result["scored_rows"] == known.sum() < 30
    assert score["metric"] == "accuracy"
    assert score["value"] == pytest.approx((true == predicted)[known].mean())
    assert score["constant"] == pytest.approx((true == majority)[known].mean())
    assert result["constant"] == majority
    text = text_of(applied / "train" / "report.html")
    assert f"On {known.sum()} rows with a known kind, the predictions have" in text
    assert "always predicting p, the most frequent class of the fit, has" in text
    assert "not known" not in text


def test_predicted_numbers_are_scored(applied: Path, tmp_path: Path, capsys) -> None:
    run, out = str(tmp_path / "run"), tmp_path / "out"
    words = ["--target", "a", "--starts", "2", "--epochs", "5", "--hidden", "4"]
    assert main(["train", f"{applied}/labeled.csv", *words, "--out", run]) == 0
    words = ["--unseen", "missing", "--out", str(out)]
    assert main(["apply", run, f"{applied}/new.csv", *words]) == 0
    result = json.loads((out / "result.json").read_text())
    true = pd.read_csv(applied / "new.csv")["a"]
    predicted = pd.read_parquet(out / "predictions.parquet")["a"]
    mean = pd.read_csv(applied / "labeled.csv")["a"].mean()
    known = true.notna()
    scores = {one["metric"]: one for one in result["scores"]}
    for name, values in (("value", predicted), ("constant", mean)):
        square = np.square(true - values)[known].mean()
        assert scores["rmse"][name] == pytest.approx(square**0.5)
        assert scores["r2"][name] == pytest.approx(1 - square / true.var(ddof=0))
    printed = " ".join(capsys.readouterr().out.split())
    assert "always predicting the mean of the fit has R²" in printed
    unknown = pd.read_csv(applied / "new.csv").assign(a="x" * 3)
    unknown.to_csv(tmp_path / "text.csv", index=False)
    words = ["--unseen", "missing", "--out", f"{out}-text"]
    assert main(["apply", run, f"{tmp_path}/text.csv", *words]) == 0
    assert "the predictions are not scored" in capsys.readouterr().out


def test_a_run_without_the_most_frequent_class_has_no_constant(
    applied: Path, tmp_path: Path
) -> None:
    """Runs of earlier versions do not store it."""
    shutil.copytree(applied / "train-run", tmp_path / "run")
    path = tmp_path / "run" / "result.json"
    stored = json.loads(path.read_text())
    stored["metric"] = "validation_balanced_accuracy"
    del stored["target"]["majority"]
    path.write_text(json.dumps(stored))
    words = ["--unseen", "missing", "--quiet", "--out", f"{tmp_path}/out"]
    assert main(["apply", f"{tmp_path}/run", f"{applied}/new.csv", *words]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    true = pd.read_csv(applied / "new.csv")["kind"]
    predicted = pd.read_parquet(tmp_path / "out" / "predictions.parquet")["kind"]
    recalls = (true == predicted)[true.notna()].groupby(true.dropna()).mean()
    assert [one["metric"] for one in result["scores"]] == [
        "accuracy",
        "balanced_accuracy",
    ]
    assert result["scores"][1]["value"] == pytest.approx(recalls.mean())
    assert (
        {one["constant"] for one in result["scores"]} == {result["constant"]} == {None}
    )


def test_a_filled_table_that_is_replaced_is_named(
    applied: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "f.csv"
    old = ["factorize", f"{applied}/old.csv", "--rank", "1", "--impute", str(out)]
    new = ["apply", f"{applied}/factorize-run", f"{applied}/old.csv", *old[-2:]]
    filled = ["apply", f"{applied}/impute-run", f"{applied}/old.csv", str(out)]
    for place, words in enumerate((old, new, filled)):
        assert main([*words, "--out", f"{tmp_path}/{place}"]) == 0
        says = f"Filled table: {out}{' (replaced)' if place else ''}\n"
        assert says in capsys.readouterr().out


def test_the_tables_of_new_rows(applied: Path, capsys) -> None:
    capsys.readouterr()
    assert main(["report", str(applied / "train"), "--table", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "kind,rows,share of rows"
    assert sum(int(line.split(",")[1]) for line in lines[1:]) == 30
    assert main(["report", str(applied / "impute"), "--table", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "column,missing cells,cells outside the range of the fit"
    assert len(lines) == 6
    assert main(["report", str(applied / "impute"), "--figures", "pdf"]) == 2
    assert "has no figures; leave --figures out" in capsys.readouterr().err


def test_a_table_in_blocks_has_a_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6))
    np.save(tmp_path / "t.npy", table)
    path, run, out = (str(tmp_path / name) for name in ("t.npy", "run", "out"))
    assert main(["factorize", path, "--rank", "2", "--out", run, "--quiet"]) == 0
    words = ["apply", run, path, "--memory", "500MB", "--out", out, "--quiet"]
    code = f"import sys; from descents.cli.main import main; sys.exit(main({words!r}))"
    run_python(code)
    text = text_of(tmp_path / "out" / "report.html")
    assert "200 rows transformed to 2 dimensions" in text
    assert sys.executable not in text
