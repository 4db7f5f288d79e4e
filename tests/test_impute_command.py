"""`descents impute` and `descents apply` of its runs, as a user runs them."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import html
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import descents
from conftest import error_of
from descents.cli.main import main
from descents.marginal.em import EM

SCHEMA = Path(__file__).parents[1] / "docs" / "impute.schema.json"
SCALE = ("never", "sometimes", "often")
ODD = "<script>alert(1)</script>"


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return what runs a command in this process."""

    def call(*arguments: Any) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return call


def planted(rows: int = 90, seed: int = 0) -> dict[str, list[Any]]:
    """Return columns of which all but `noise` depend on one factor, without a hole."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=rows)

    def near(spread: float = 0.3) -> np.ndarray:
        return factor + spread * rng.normal(size=rows)

    return {
        "person": [f"p{i:03d}" for i in range(rows)],
        "age": np.rint(40 + 9 * near()).astype(int).tolist(),
        "answer": [SCALE[k] for k in np.digitize(near(), [-0.5, 0.5])],
        ODD: np.round(100 * near(), 1).tolist(),
        "day": [dt.date(2021, 3, 1) + dt.timedelta(int(200 + 50 * x)) for x in near()],
        "noise": np.round(rng.normal(size=rows), 2).tolist(),
        "same": [7] * rows,
        "note": [f"text {k}, {rng.random():.6f}" for k in range(rows)],
        "nothing": [None] * rows,
    }


def with_holes(columns: dict[str, list[Any]], seed: int = 1) -> dict[str, list[Any]]:
    """Return columns with a fifth of their cells missing, and a row without any."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, cells in columns.items():
        lacking = rng.random(len(cells)) < 0.2
        lacking[5] = True
        lacking &= name != "person"
        pairs = zip(cells, lacking, strict=True)
        found[name] = [None if hole else cell for cell, hole in pairs]
    return found


def text_of(columns: dict[str, list[Any]]) -> str:
    """Return columns as CSV text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue()


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table, its run with intervals, and the filled table."""
    place = tmp_path_factory.mktemp("impute")
    (place / "table.csv").write_text(text_of(with_holes(planted())))
    arguments = [
        "impute", str(place / "table.csv"), str(place / "filled.csv"), "--id", "person",
        "--levels", f"answer={','.join(SCALE)}", "--intervals", "0.8",
        "--out", str(place / "run"),
    ]  # fmt: skip
    assert main(arguments) == 0
    return place


def result_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def test_only_missing_cells_are_filled_and_the_rest_is_the_same_text(made) -> None:
    whole = planted()
    days = [str(day) for day in whole["day"]]
    for old, new in zip(
        read(made / "table.csv"), read(made / "filled.csv"), strict=True
    ):
        for name, cell in old.items():
            if cell or name in ("note", "nothing", "person"):
                assert new[name] == cell
            elif name == "day":
                assert min(days) <= new[name] <= max(days)
                dt.date.fromisoformat(new[name])
            elif name == "answer":
                assert new[name] in SCALE
            elif name in ("age", "same"):
                assert min(whole[name]) <= int(new[name]) <= max(whole[name])
            else:
                assert min(whole[name]) <= float(new[name]) <= max(whole[name])
            if name in ("age", ODD, "day"):
                ends = new[f"{name}_low"], new[f"{name}_high"]
                assert all(ends) != bool(cell)
                if not cell and name == "day":
                    assert ends[0] <= new[name] <= ends[1]
                elif not cell:  # whole numbers are rounded
                    assert float(ends[0]) - 0.5 <= float(new[name])
                    assert float(new[name]) <= float(ends[1]) + 0.5
            if name == "answer" and not cell:
                assert new[name] in new["answer_set"].split("|")


def test_the_result_follows_its_schema_and_names_what_is_left_alone(made) -> None:
    result, table = result_of(made / "run"), read(made / "table.csv")
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    modeled = ["age", "answer", ODD, "day", "noise", "same"]
    assert [column["name"] for column in result["columns"]] == modeled
    assert [one["name"] for one in result["passed"]] == ["note", "nothing"]
    assert result["ignored"] == ["person"]
    lacking = sum(not row[name] for row in table for name in modeled)
    assert result["filled"]["cells"] == lacking
    assert result["filled"]["rows_without_cells"] == 1
    assert result["filled"]["by_constant"] == ["noise"]
    assert "1 row has no observed cell" in " ".join(result["warnings"])
    assert "filled by it: noise" in " ".join(result["warnings"])
    # Rows without cells, and a column that is not predicted: the mean.
    filled = read(made / "filled.csv")
    means = {
        float(new["noise"])
        for old, new in zip(table, filled, strict=True)
        if not old["noise"]
    }
    assert len(means) == 1
    seen = [float(row["noise"]) for row in table if row["noise"]]
    assert abs(means.pop() - np.mean(seen)) < 1e-9
    ages = [int(row["age"]) for row in table if row["age"]]
    assert abs(int(filled[5]["age"]) - np.mean(ages)) < 1.5


def test_reported_errors_are_those_of_cells_that_nobody_saw(made) -> None:
    whole, table, filled = (
        planted(),
        read(made / "table.csv"),
        read(made / "filled.csv"),
    )
    columns = {column["name"]: column for column in result_of(made / "run")["columns"]}
    for name in ("age", ODD):
        pairs = zip(table, filled, whole[name], strict=True)
        off = [float(new[name]) - true for old, new, true in pairs if not old[name]]
        column, spread = columns[name], np.std(whole[name])
        error = np.sqrt(np.mean(np.square(off)))
        # A few dozen cells on either side.
        assert abs(np.log(error / column["error"])) < 0.5
        assert abs(np.log(column["constant_error"] / spread)) < 0.3
        assert column["verdict"] == "yes"
    assert columns["same"]["verdict"] == "the same"
    assert columns["noise"]["verdict"] == "no"


def test_the_answer_is_printed_first_and_is_that_of_the_result(
    run, made, tmp_path
) -> None:
    done = run(
        "impute", made / "table.csv", tmp_path / "f.csv", "--id", "person",
        "--out", tmp_path / "run", "--ignore", "note",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines, result = done.out.splitlines(), result_of(tmp_path / "run")
    warned = len(result["warnings"])
    assert [line[:9] for line in lines[:warned]] == ["Warning: "] * warned
    assert lines[warned : warned + 2] == [result["says"], result["quality"]]
    for column in result["columns"]:
        line = next(x for x in lines if x.startswith(column["name"]) and "  " in x)
        assert column["error_says"] in line
    assert "Left as it is: nothing, which has no observed cell" in done.out
    assert "Left as they are by --ignore and --id: person, note" in done.out


def test_the_page_has_the_numbers_and_escapes_what_users_write(made) -> None:
    page, result = (made / "run" / "report.html").read_text(), result_of(made / "run")
    assert ODD not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for text in (result["says"], result["quality"], result["held_out"]["says"]):
        assert text in page
    rounds = result["held_out"]["rounds"]  # the table is small
    assert rounds > 1
    assert f"held out from the fit in {rounds} rounds, the error" in result["quality"]
    assert f"held-out cells in {rounds} rounds" in page
    assert result["run"]["sha256"] in page
    for column in result["columns"]:
        assert column["error_says"] in page
    assert 'id="figure-predicted-svg"' in page
    assert f'aria-label="{html.escape(result["caption"][:10])}' in page
    assert not [*(made / "run").glob("figure-*")]  # files are for `descents report`


def test_imputations_are_numbered_tables_that_differ(run, made, tmp_path) -> None:
    target = tmp_path / "draws.csv"
    done = run(
        "impute", made / "table.csv", target, "--id", "person", "--imputations", 3,
        "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert done == (0, "", "")
    old, rows = read(made / "table.csv"), read(target)
    assert next(iter(rows[0])) == "imputation"
    assert [row["imputation"] for row in rows] == [k for k in "123" for _ in old]
    each = [rows[k * len(old) : (k + 1) * len(old)] for k in range(3)]
    for one in each:
        for before, after in zip(old, one, strict=True):
            for name, cell in before.items():
                if cell or name in ("note", "nothing"):
                    assert after[name] == cell
                else:
                    assert after[name]
            int(after["age"])
            dt.date.fromisoformat(after["day"])
    lacking = [k for k, row in enumerate(old) if not row[ODD]]
    draws = np.array([[float(one[k][ODD]) for k in lacking] for one in each])
    assert (draws.std(0) > 0).all()
    assert result_of(tmp_path / "run")["how"]["range"] == "free"
    # New rows by the same models: those of the table itself are the same draws.
    again = tmp_path / "again.csv"
    done = run(
        "apply", tmp_path / "run", made / "table.csv", again, "--imputations", 3,
        "--out", tmp_path / "applied",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert again.read_text() == target.read_text()


def test_draws_and_fills_keep_to_the_range_if_told_so(run, tmp_path) -> None:
    rng = np.random.default_rng(3)
    x = rng.exponential(size=80)
    counts = np.minimum(np.rint(3 * x), 8)
    frame = {"x": pa.array(x), "n": pa.array(counts.astype(np.uint8))}
    lacking = pa.array(rng.random(80) < 0.4)
    frame["n"] = pa.compute.if_else(lacking, None, frame["n"])
    pq.write_table(pa.table(frame), tmp_path / "t.parquet")
    drawn = {}
    for name in ("free", "observed"):
        done = run(
            "impute", tmp_path / "t.parquet", tmp_path / "f.parquet", "--imputations", 4,
            "--range", name, "--out", tmp_path / name, "--quiet",
        )  # fmt: skip
        assert done.code == 0, done.err
        table = pq.read_table(tmp_path / "f.parquet")
        assert table.schema.field("n").type == pa.uint8()  # which holds nothing below 0
        drawn[name] = table.column("n").to_numpy()
    assert drawn["observed"].max() <= 8 < drawn["free"].max()


def test_each_format_keeps_its_types(run, tmp_path) -> None:
    rng = np.random.default_rng(4)
    array = (rng.normal(size=(60, 1)) + 0.3 * rng.normal(size=(60, 3))).astype("f4")
    array[rng.random(array.shape) < 0.2] = np.nan
    np.save(tmp_path / "t.npy", array)
    np.savez(tmp_path / "t.npz", data=array)
    for name, target in (("t.npy", "f.npy"), ("t.npz", "f.npz"), ("t.npy", "g.npz")):
        done = run(
            "impute", tmp_path / name, tmp_path / target, "--intervals", "0.5",
            "--out", tmp_path / f"run-{target}", "--quiet",
        )  # fmt: skip
        assert done.code == 0, done.err
        found = np.load(tmp_path / target)
        if target.endswith("z"):
            found = found["data" if name == "t.npz" else "X"]
        assert found.dtype == np.float32
        assert found.shape == (60, 9)  # low and high of three columns
        seen = ~np.isnan(array)
        np.testing.assert_array_equal(found[:, :3][seen], array[seen])
        assert np.isfinite(found[:, :3]).all()
        assert (np.isnan(found[:, 3::2]) == seen).all()


def test_typed_columns_and_their_intervals_in_parquet(run, tmp_path) -> None:
    columns = with_holes(planted(40))
    table = pa.table(
        {
            "age": pa.array(columns["age"], pa.int16()),
            "answer": pa.array(columns["answer"]).dictionary_encode(),
            "day": pa.array(columns["day"], pa.date32()),
            "note": pa.array(columns["note"]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    done = run(
        "impute", tmp_path / "t.parquet", tmp_path / "f.parquet", "--intervals", "0.8",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = pq.read_table(tmp_path / "f.parquet")
    added = ["age_low", "age_high", "answer_set", "day_low", "day_high"]
    assert found.schema.names == [*table.schema.names, *added]
    assert [found.schema.field(name) for name in table.schema.names] == list(
        table.schema
    )
    assert found.schema.field("day_low").type == pa.date32()
    assert found.column("note").null_count > 0 == found.column("day").null_count
    # The same as text.
    done = run(
        "apply", tmp_path / "run", tmp_path / "t.parquet", tmp_path / "f.csv", "--out",
        tmp_path / "text",
    )  # fmt: skip
    assert read(tmp_path / "f.csv")[3]["day"] == str(found.column("day")[3].as_py())


def test_text_keeps_its_dialect_and_encoding(run, tmp_path) -> None:
    rng = np.random.default_rng(5)
    factor = rng.normal(size=60)
    lines = ["Größe;Miete"]
    for k, x in enumerate(factor):
        size = "" if k % 7 == 0 else ("groß" if x > 0 else "klein")
        rent = (
            "" if k % 5 == 1 else f"{1500 + 300 * x:,.2f}".translate({44: 46, 46: 44})
        )
        lines.append(f"{size};{rent + ' €' if rent else ''}")
    text = "\r\n".join(lines) + "\r\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode("cp1252")))
    done = run(
        "impute", tmp_path / "t.csv.gz", tmp_path / "f.csv.gz", "--encoding", "cp1252",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert re.search(r"Miete +12 +\d+ € ", done.out)  # an error in its unit
    found = gzip.decompress((tmp_path / "f.csv.gz").read_bytes()).decode("cp1252")
    for old, new in zip(lines, found.split("\r\n"), strict=False):
        for before, after in zip(old.split(";"), new.split(";"), strict=True):
            if before:
                assert after == before
            else:
                assert re.fullmatch(r"groß|klein|[\d.]+,\d\d €", after)


def test_apply_fills_the_table_of_the_run_as_the_run_did(run, made, tmp_path) -> None:
    done = run(
        "apply", made / "run", made / "table.csv", tmp_path / "f.csv", "--intervals",
        "0.8", "--out", tmp_path / "applied",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "f.csv").read_text() == (made / "filled.csv").read_text()
    frame = pd.read_csv(made / "table.csv", parse_dates=["day"])
    filled = descents.load(made / "run").impute(frame)
    expected = read(made / "filled.csv")
    assert filled["answer"].tolist() == [row["answer"] for row in expected]
    assert filled["day"].dt.strftime("%Y-%m-%d").tolist() == [
        r["day"] for r in expected
    ]
    assert filled["note"].isna().sum() == sum(not row["note"] for row in expected)


def test_new_rows_with_few_and_unknown_levels(run, made, tmp_path) -> None:
    new = tmp_path / "new.csv"
    new.write_text(
        f"person,age,answer,{ODD},day,noise,same,more\n"
        "a,58,,180,,,,x\nb,22,,-180,,,7,y\nc,41,perhaps,5,,,,z\nd,,often,,,,,\n"
    )
    done = run("apply", made / "run", new, tmp_path / "f.csv", "--out", tmp_path / "a")
    assert done.code == 0, done.err
    assert "answer: 1 cell read as missing" in done.out
    assert "Not in the model, left as they are: more" in done.out
    rows = read(tmp_path / "f.csv")
    # The only level in these rows has another code there than in the model.
    assert [row["answer"] for row in rows[:2]] == ["often", "never"]
    assert rows[2]["answer"] in SCALE
    assert rows[3]["answer"] == "often"
    assert rows[0]["day"] > rows[2]["day"] > rows[1]["day"]
    assert all(row["same"] == "7" for row in rows)
    assert int(rows[3]["age"]) > 40
    refused = run(
        "apply", made / "run", new, tmp_path / "f.csv", "--unseen", "error",
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert refused.code == 2
    assert "holds 'perhaps'" in refused.err


def test_bad_input_is_refused_in_one_sentence_before_the_fit(
    run, made, tmp_path
) -> None:
    table = made / "table.csv"
    done = run(
        "impute", table, "nowhere/f.parquet", "--levels", "answer", "--imputations", 3,
        "--intervals", "0.9",
    )  # fmt: skip
    assert done.code == 2
    assert error_of(done.err)
    for words in ("no folder nowhere", "is text; give", "--levels is", "leave one out"):
        assert words in done.err
    cases = {
        "TABLE itself": ("impute", table, table),
        "--resume needs --out": ("impute", table, tmp_path / "f.csv", "--resume"),
        "did you mean 'noise'": ("impute", table, tmp_path / "f.csv", "--ignore", "nois"),
        "'b_low', but the table has one of that name": (
            "impute", tmp_path / "twice.csv", tmp_path / "f.csv", "--intervals", "0.8",
            "--out", tmp_path / "r1",
        ),
        "--intervals: a coverage of 0.9999 needs": (
            "impute", tmp_path / "short.csv", tmp_path / "f.csv", "--intervals",
            "0.9999", "--out", tmp_path / "r2",
        ),
        "the run has none": (
            "apply", made / "run", table, tmp_path / "f.csv", "--imputations", 2,
            "--out", tmp_path / "r3",
        ),
        "give the file to write": ("apply", made / "run", table),
        "FILLED after TABLE": (
            "apply", made / "run", table, tmp_path / "f.csv", "--impute", "x.csv",
        ),
        "lacks 5 of the 6 columns": (
            "apply", made / "run", tmp_path / "short.csv", tmp_path / "f.csv",
            "--out", tmp_path / "r4",
        ),
    }  # fmt: skip
    (tmp_path / "short.csv").write_text("age,b\n1,2\n3,\n5,6\n7,9\n")
    (tmp_path / "twice.csv").write_text("b,b_low\n1,2\n,4\n")
    for words, arguments in cases.items():
        done = run(*arguments)
        assert (done.code, done.out) == (2, ""), words
        assert words in done.err
        assert error_of(done.err)
    assert not (tmp_path / "f.csv").exists()
    assert not list(tmp_path.glob("r?"))


def test_runs_of_other_commands_take_no_filled(run, tmp_path) -> None:
    (tmp_path / "result.json").write_text('{"run": {"command": "factorize"}}')
    done = run("apply", tmp_path, "t.csv", tmp_path / "f.csv", "--range", "free")
    assert done.code == 2
    assert "--range and FILLED are only for the model of a run of" in done.err
    assert "contains a run of 'descents factorize'; leave them out" in done.err


def test_a_complete_run_is_returned_and_a_complete_table_written(run, tmp_path) -> None:
    columns = {name: planted(30)[name] for name in ("age", "noise")}
    (tmp_path / "t.csv").write_text(text_of(columns))
    arguments = (
        "impute", tmp_path / "t.csv", tmp_path / "f.csv", "--out", tmp_path / "run",
    )  # fmt: skip
    done = run(*arguments, "--json")
    assert json.loads(done.out)["says"].startswith("No cell of 30 rows")
    assert (tmp_path / "f.csv").read_text() == (tmp_path / "t.csv").read_text()
    again = run(*arguments, "--json", "--resume")
    assert again == done
    other = run(*arguments, "--resume", "--seed", "1")
    assert other.code == 2
    assert "seed 0, not 1" in other.err
    (tmp_path / "f.csv").unlink()
    assert run(*arguments, "--json", "--resume") == done
    assert (tmp_path / "f.csv").read_text() == (tmp_path / "t.csv").read_text()


@pytest.mark.parametrize(
    "options", [(), ("--intervals", "0.9"), ("--imputations", "2"), ("--refine",)]
)
@pytest.mark.sampled(2)
def test_another_filled_of_a_complete_run_is_written(run, tmp_path, options) -> None:
    (tmp_path / "t.csv").write_text(text_of(planted(60)))
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    common = ("--out", tmp_path / "run", *options)
    done = run("impute", tmp_path / "t.csv", first, *common)
    assert done.code == 0, done.err
    for there in (False, True):  # absent, or a file of something else
        if there:
            second.write_text("something else")
        again = run("impute", tmp_path / "t.csv", second, *common, "--resume")
        assert again.code == 0, again.err
        replaced = " (replaced)" if there else ""  # scripts run a command again
        assert f"Filled table: {second}{replaced}\n" in again.out
        assert second.read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        'a\n1\n2\n""\n',
        "a,b\n1,x\n,\n2,x\n",
        "a,b\n5,x\n5,\n,x\n5,x\n",
        "a,b\n" + "".join(f"7,{k % 2 * (k == 3)}\n" for k in range(20)) + ",\n",
        'day\n2021-03-01\n""\n2021-03-05\n',
    ],
)
def test_tiny_and_odd_tables_are_filled(run, tmp_path, text) -> None:
    (tmp_path / "t.csv").write_text(text)
    done = run(
        "impute", tmp_path / "t.csv", tmp_path / "f.csv", "--out", tmp_path / "run"
    )
    assert done.code == 0, done.err
    jsonschema.validate(result_of(tmp_path / "run"), json.loads(SCHEMA.read_text()))
    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert all(cell not in ("", '""') for line in lines for cell in line.split(","))
    assert "nan" not in done.out.lower()


def test_ctrl_c_ends_the_command(run, made, tmp_path, monkeypatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(EM, "update", interrupted)
    done = run(
        "impute", made / "table.csv", tmp_path / "f.csv", "--out", tmp_path / "run"
    )
    assert done.code == 130
    assert not (tmp_path / "f.csv").exists()


def test_the_page_is_drawn_again_and_a_moved_run_opens(run, made, tmp_path) -> None:
    shutil.copytree(made / "run", tmp_path / "moved")
    page = (made / "run" / "report.html").read_text()
    assert run("report", tmp_path / "moved").code == 0
    assert (tmp_path / "moved" / "report.html").read_text() == page
