"""`descents factorize` and `descents apply`, as a user runs them."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pyarrow.parquet
import pytest
from sklearn.datasets import load_iris

import descents
from conftest import MIXED, error_of, slow
from descents import load
from descents.cli.main import main
from descents.pages import figures, lowrank_figures, page
from descents.runs import factorize_options
from descents.runs import request as asked
from descents.tables.datasets import planted_table
from test_workers import all_same

SCHEMA = Path(__file__).parents[1] / "docs" / "factorize.schema.json"


class Done(NamedTuple):
    """What a command did, as `subprocess.run` has it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return what runs a command in this process, which has torch loaded already."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = main(arguments)
        return Done(code, *capsys.readouterr())

    return run


def write_csv(path: Path, table: np.ndarray) -> Path:
    header = ",".join(f"c{j}" for j in range(table.shape[1]))
    lines = [
        ",".join("" if np.isnan(x) else repr(float(x)) for x in row) for row in table
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def result_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def test_what_was_read_and_chosen_is_said(mixed: Path) -> None:
    said = (mixed / "printed.txt").read_text()
    assert "size: numbers 1.5 to 4.25, 1 missing" in said
    assert "categorical loss" not in said  # two colors are two values
    assert "logistic loss (two values): color, grade" in said
    assert "squared loss (numbers): size, weight" in said
    assert "3 starts: median loss" in said
    assert "dual of the nuclear-norm problem" in said


def test_the_result_follows_its_schema(mixed: Path) -> None:
    result = result_of(mixed / "run")
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert result["shape"] == [7, 4]
    assert result["observed"] == 24
    assert result["losses"]["grade"] == "logistic"
    assert sum(result["statuses"].values()) == result["starts"]["count"] == 3


def test_only_holes_are_filled_and_the_rest_is_the_same_text(mixed: Path) -> None:
    before = [line.split(",") for line in MIXED.splitlines()]
    after = [
        line.split(",") for line in (mixed / "filled.csv").read_text().splitlines()
    ]
    for old, new in zip(before, after, strict=True):
        for x, y in zip(old, new, strict=True):
            assert y == x if x else y
    assert after[5][3] in ("red", "blue")
    assert after[3][4] in ("yes", "no")
    assert 1.5 <= float(after[2][1]) <= 4.25
    assert after[4][2] == str(int(after[4][2]))  # whole numbers stay whole


def test_stored_model_does_what_the_run_did(run_here, mixed: Path) -> None:
    done = run_here(
        "apply", str(mixed / "run"), str(mixed / "table.csv"), "--id", "name",
        "--out", str(mixed / "applied"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["holes"] == 4
    imputed = (mixed / "applied" / "imputed.csv").read_text()
    assert imputed == (mixed / "filled.csv").read_text()
    fitted = pyarrow.parquet.read_table(mixed / "run" / "rows.parquet").to_pydict()
    again = pyarrow.parquet.read_table(mixed / "applied" / "rows.parquet").to_pydict()
    assert fitted["row"] == again["row"] == list("abcdefg")
    np.testing.assert_allclose(
        fitted["component_1"], again["component_1"], rtol=0, atol=1e-5
    )
    model = descents.load(mixed / "run")
    assert model.loss_ == result_of(mixed / "run")["loss"]


def test_report_draws_the_same_page_again(run_here, mixed: Path) -> None:
    page = (mixed / "run" / "report.html").read_text()
    assert run_here("report", str(mixed / "run")).returncode == 0
    assert (mixed / "run" / "report.html").read_text() == page
    assert "dual of the nuclear-norm problem" in page


def test_complete_iris_equals_the_exact_answer(run_here, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "iris.csv", load_iris().data)
    options = ("factorize", str(path), "--rank", "2", "--init", "normal", "--json")
    done = run_here(*options, "--out", str(tmp_path / "run"))
    result = json.loads(done.stdout)
    values = load_iris().data - load_iris().data.mean(0)
    tail = np.square(np.linalg.svd(values, compute_uv=False)[2:]).sum()
    assert result["reference"]["kind"] == "exact"
    np.testing.assert_allclose(result["reference"]["value"], tail, rtol=1e-12)
    assert abs(result["gap"]) < 1e-9
    assert result["steps"] == "alternating"
    again = run_here(*options, "--out", str(tmp_path / "run"), "--resume")
    assert json.loads(again.stdout) == result  # complete: returned at once
    other = run_here(*options, "--out", str(tmp_path / "run"))
    assert other.returncode == 2
    assert "not empty" in other.stderr


@pytest.mark.parametrize("options", [(), ("--intervals", "0.9")])
def test_another_imputed_table_of_a_complete_run_is_written(
    run_here, tmp_path: Path, options: tuple[str, ...]
) -> None:
    values = load_iris().data.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    path = write_csv(tmp_path / "iris.csv", values)
    common = ("factorize", str(path), "--rank", "1", "--out", str(tmp_path / "run"))
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    done = run_here(*common, *options, "--impute", str(first))
    assert done.returncode == 0, done.stderr
    second.write_text("something else")
    again = run_here(*common, *options, "--impute", str(second), "--resume")
    assert again.returncode == 0, again.stderr
    assert str(second) in again.stdout
    assert second.read_bytes() == first.read_bytes()


def test_triples_equal_the_same_table_with_holes(run_here, tmp_path: Path) -> None:
    noisy, _ = planted_table(30, 12, 2, noise=0.1, seed=3)
    keep = np.random.default_rng(4).random(noisy.shape) < 0.6
    dense = write_csv(tmp_path / "dense.csv", np.where(keep, noisy, np.nan))
    lines = [f"r{i:02d},c{j:02d},{float(noisy[i, j])!r}" for i, j in np.argwhere(keep)]
    triples = tmp_path / "triples.csv.gz"
    triples.write_bytes(gzip.compress(("row,column,x\n" + "\n".join(lines)).encode()))
    common = ("--rank", "2", "--penalty", "l2=0.5", "--scales", "no", "--json", "--out")
    a = run_here("factorize", str(dense), *common, str(tmp_path / "a"))
    b = run_here("factorize", str(triples), "--triples", *common, str(tmp_path / "b"))
    first, second = json.loads(a.stdout), json.loads(b.stdout)
    assert second["columns"][0]["name"] == "c00"
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-9)
    np.testing.assert_allclose(
        first["reference"]["value"], second["reference"]["value"], rtol=1e-9
    )
    assert first["reference"]["kind"] == "bound"
    refused = run_here(
        "factorize", str(triples), "--triples", *common[:-1], "--impute", "x.csv"
    )
    assert refused.returncode == 2
    assert "triples have no missing cells" in refused.stderr


def test_seeds_make_equal_bits(run_here, tmp_path: Path) -> None:
    noisy, _ = planted_table(40, 9, 2, noise=0.3, seed=5)
    noisy[::7, 2] = np.nan
    path = write_csv(tmp_path / "table.csv", noisy)
    printed = []
    for out in "ab":
        done = run_here(
            "factorize", str(path), "--rank", "2", "--starts", "4", "--seed", "9",
            "--json", "--out", str(tmp_path / out),
        )  # fmt: skip
        result = json.loads(done.stdout)
        result.pop("seconds")
        printed.append(result)
    assert printed[0] == printed[1]
    models = [(tmp_path / out / "model.safetensors").read_bytes() for out in "ab"]
    loaded = [descents.load(tmp_path / out) for out in "ab"]
    assert (loaded[0].components_ == loaded[1].components_).all()
    assert len(models[0]) == len(models[1])


@pytest.mark.parametrize(
    "steps",
    [
        slow("alternating"),
        slow("lbfgs"),
        slow("gd"),
        slow("adam"),
    ],
)
def test_two_processes_give_the_same_bits(
    run_here, tmp_path: Path, monkeypatch, steps: str
) -> None:
    monkeypatch.setattr(descents.Factorization, "width", 2)
    noisy, _ = planted_table(20, 6, 2, noise=0.3, seed=5)
    noisy[::7, 2] = np.nan
    path = write_csv(tmp_path / "table.csv", noisy)
    for workers in "12":
        done = run_here(
            "factorize", str(path), "--rank", "2", "--starts", "5", "--seed", "9",
            "--solver", steps, "--max-iter", "60", "--quiet", "--workers", workers,
            "--out", str(tmp_path / workers),
        )  # fmt: skip
        assert done.returncode == 0
    one, two = (descents.load(tmp_path / workers) for workers in "12")
    all_same(one.runs_, two.runs_)
    assert one.runs_.settings == two.runs_.settings
    assert (one.components_ == two.components_).all()


BAD = [
    (("--rank", "9"), "--rank is 9, but the table has 4 rows and 3 columns"),
    (("--rank", "1", "--loss", "best"), "--loss is 'best'"),
    (("--rank", "1", "--loss-of", "zz=huber"), "no column 'zz'"),
    (("--rank", "1", "--loss-of", "a"), "NAME=VALUE"),
    (("--rank", "1", "--penalty", "l3=1"), "l3"),
    (("--rank", "1", "--penalty", "l2=-1"), "at least 0"),
    (("--rank", "1", "--loss", "poisson"), "column 'a' holds -1"),
    (("--rank", "1", "--loss", "kl"), "column 'a' holds -1"),
    (("--rank", "1", "--learning-rate", "0.1"), "--solver is auto"),
    (
        ("--rank", "1", "--solver", "gd", "--learning-rate", "1e9"),
        "a --learning-rate below",
    ),
    (("--rank", "1", "--ignore", "zz"), "no column 'zz'"),
    (
        ("--rank", "1", "--ignore", "a", "--ignore", "b", "--ignore", "c"),
        "no column is",
    ),
    (("--rank", "1", "--id", "zz"), "no column 'zz'"),
    (("--rank", "1", "--impute", "no/such/place.csv"), "no folder"),
    (("--rank", "1", "--device", "cuda:99"), "not usable here"),
    (("--rank", "0"), "give a whole number of at least 1, auto"),
    ((), "--rank"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_options_are_one_sentence(
    run_here, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b,c\n-1,2,1\n3,4,0\n5,6,1\n2,2,0\n")
    done = run_here("factorize", str(table), *options, "--out", str(tmp_path / "o"))
    assert done.returncode == 2
    assert words in done.stderr
    assert error_of(done.stderr)
    assert not (tmp_path / "o").exists()


def test_all_that_is_wrong_is_told_together(run_here, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n3,4\n")
    done = run_here(
        "factorize", str(table), "--rank", "1", "--penalty", "l2=x", "--loss-of", "a",
        "--out", str(tmp_path / "o"),
    )  # fmt: skip
    assert "--penalty l2=x is refused" in done.stderr
    assert "--loss-of is 'a'" in done.stderr


def test_a_text_column_is_refused_with_its_remedies(run_here, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("who,a,b\nx,1,2\ny,3,4\nz,5,7\n")
    done = run_here(
        "factorize", str(table), "--rank", "1", "--out", str(tmp_path / "o")
    )
    assert done.returncode == 2
    for word in ("'who'", "--id", "--ignore", "--loss-of"):
        assert word in done.stderr
    for remedy in (("--id", "who"), ("--ignore", "who")):
        out = str(tmp_path / remedy[0].strip("-"))
        done = run_here("factorize", str(table), "--rank", "1", *remedy, "--out", out)
        assert done.returncode == 0


def test_apply_refuses_other_columns_and_other_levels(
    run_here, mixed: Path, tmp_path: Path
) -> None:
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("name,size,weight\na,1,2\n")
    done = run_here(
        "apply", str(mixed / "run"), str(fewer), "--out", str(tmp_path / "o")
    )
    assert done.returncode == 2
    assert "lacks 2 of the 4 columns" in done.stderr
    assert "'color', 'grade'" in done.stderr
    other = tmp_path / "other.csv"
    other.write_text(MIXED.replace("red", "green"))
    done = run_here(
        "apply",
        str(mixed / "run"),
        str(other),
        "--id",
        "name",
        "--out",
        str(tmp_path / "o"),
    )
    assert done.returncode == 2
    assert "'green'" in done.stderr
    done = run_here("apply", str(tmp_path), str(fewer))
    assert done.returncode == 2


def test_out_of_time_keeps_what_was_reached(run_here, tmp_path: Path) -> None:
    noisy, _ = planted_table(60, 20, 3, noise=0.5, seed=6)
    noisy[np.random.default_rng(7).random(noisy.shape) < 0.3] = np.nan
    path = write_csv(tmp_path / "table.csv", noisy)
    done = run_here(
        "factorize", str(path), "--rank", "3", "--max-seconds", "0.001",
        "--out", str(tmp_path / "run"), "--quiet",
    )  # fmt: skip
    assert done.returncode == 3
    assert "the descent was stopped after 0.001 s" in done.stderr
    assert "their results are kept" in done.stderr
    result = result_of(tmp_path / "run")
    assert result["statuses"] == {"interrupted": 1}
    assert (tmp_path / "run" / "report.html").exists()


def test_standard_input_and_json_alone(tmp_path: Path, monkeypatch, capsys) -> None:
    losses = []
    for options in ((), ("--decimal", ",")):  # recognized, or said
        stream = io.TextIOWrapper(io.BytesIO(b"a;b\n1,5;2\n3;4\n5;7,25\n"))
        monkeypatch.setattr(sys, "stdin", stream)
        run = str(tmp_path / f"run{len(options)}")
        assert (
            main(("factorize", "-", "--rank", "1", "--json", *options, "--out", run))
            == 0
        )
        found = json.loads(capsys.readouterr().out)
        assert found["shape"] == [3, 2]
        losses.append(found["loss"])
    assert losses[0] == losses[1]


def test_penalties_and_pairs() -> None:
    assert factorize_options.penalties(["3"]) == {"l2": 3.0}
    with pytest.raises(descents.DescentsError, match="twice"):
        asked.named_pairs("--loss-of", ["a=x", "a=y"])
    assert asked.named_pairs("--loss-of", ["a=b=huber"]) == {"a=b": "huber"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("25", "--image is '25'; give HEIGHTxWIDTH, such as 25x20"),
        ("2x-3", "give HEIGHTxWIDTH"),
        ("0x4", "give HEIGHTxWIDTH"),
        ("2x2x4", "with 4 numbers per pixel; give HEIGHTxWIDTH for gray"),
    ],
)
def test_an_image_has_two_sizes_or_colors(given, words) -> None:
    with pytest.raises(descents.DescentsError, match=words):
        factorize_options.image_shape(given)


def test_components_are_drawn_as_pictures(run_here, tmp_path: Path) -> None:
    table = np.random.default_rng(0).random((20, 12))
    np.save(tmp_path / "t.npy", table)
    given = ["factorize", str(tmp_path / "t.npy"), "--rank", "2", "--max-iter", "20"]
    given += ["--constraint", "nonnegative"]
    for sizes, shape in (("3x4", (2, 3, 4)), ("2x2x3", (2, 2, 2, 3))):
        out = tmp_path / sizes
        done = run_here(*given, "--image", sizes, "--out", str(out))
        assert done.returncode == 0, done.stderr
        run = page.read_run(out)
        assert run.tensors["images"].shape == shape
        components = load(out).components_
        np.testing.assert_array_equal(run.tensors["images"].reshape(2, 12), components)
        assert "as pictures, numbered" in (out / "report.html").read_text()
        assert "figure-images-svg" in (out / "report.html").read_text()
    done = run_here(*given, "--image", "5x3", "--out", str(tmp_path / "wrong"))
    assert done.returncode == 2
    assert "5x3, which is 15 numbers, but the table has 12 columns" in done.stderr
    assert "such as 3x4" in done.stderr
    assert not (tmp_path / "wrong").exists()
    done = run_here(*given, "--out", str(tmp_path / "plain"))
    assert done.returncode == 0
    assert "figure-images" not in (tmp_path / "plain" / "report.html").read_text()
    assert not [*tmp_path.glob("*/figure-*")]  # files are for `descents report`


def test_a_column_of_classes_is_no_point_of_a_picture(run_here, tmp_path: Path) -> None:
    lines = [f"{k % 5},{k * k % 7},{'rgb'[k % 3]},{k % 4}" for k in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d", *lines]) + "\n")
    done = run_here(
        "factorize", str(tmp_path / "t.csv"), "--rank", "1", "--image", "2x2",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "column 'c' of categorical loss has several" in done.stderr


def test_pictures_keep_their_places_and_colors() -> None:
    values = np.zeros((3, 2, 2))
    values[0, 0, 1], values[1, 1, 0], values[2] = 5.0, 0.1, 0.0
    _, (ax,) = figures.new_figure(4, 4)
    lowrank_figures.images(ax, values, 2)
    drawn = [image.get_array() for image in ax.images]
    assert len(drawn) == 3
    for k, (i, j) in enumerate([(0, 1), (1, 0)]):  # white, on a scale of their own
        assert drawn[k][i, j].tolist() == [1, 1, 1]
        assert drawn[k].sum() == 3
    assert drawn[2].sum() == 0
    _, (ax,) = figures.new_figure(4, 4)
    values[0, 0, 0] = -5.0
    lowrank_figures.images(ax, values, 3)
    red, blue = ax.images[0].get_array()[0, ::-1]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_impute_goes_neither_over_the_table_nor_into_another_format(
    run_here, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,2\n,3\n4,5\n")
    for place, words in (
        (table, "TABLE itself"),
        (tmp_path / "o.parquet", "CSV text"),
        (tmp_path / "no" / "o.csv", "no folder"),
    ):
        done = run_here("factorize", str(table), "--rank", "1", "--impute", str(place))
        assert done.returncode == 2
        assert words in done.stderr
    assert table.read_text() == "a,b\n1,2\n,3\n4,5\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_what_is_filled_is_written_as_it_was_read(
    run_here, tmp_path: Path, encoding: str
) -> None:
    table, filled = tmp_path / "t.csv", tmp_path / "filled.csv"
    table.write_text("a,größe\n1,ä\n,ö\n4,ä\n2,\n", encoding=encoding)
    options = () if encoding == "utf-8-sig" else ("--encoding", encoding)
    done = run_here(
        "factorize", str(table), "--rank", "1", *options, "--impute", str(filled),
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0
    text = filled.read_bytes().decode(encoding)
    assert text.startswith("a,größe\n1,ä\n")  # a mark that is left over would show
    assert filled.read_bytes().startswith(table.read_bytes()[:8])
    done = run_here(
        "apply", str(tmp_path / "run"), str(table), "--out", str(tmp_path / "applied")
    )
    assert done.returncode == 0
    assert (tmp_path / "applied" / "imputed.csv").read_bytes() == filled.read_bytes()


def test_rows_are_called_as_on_the_page(run_here, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("who,a,b\nx,1,2\ny,,\nz,5,7\nu,2,1\n")
    for out, options, name in (
        ("named", ("--id", "who"), "y"),
        ("counted", ("--ignore", "who"), "2"),
    ):
        run_here(
            "factorize", str(table), "--rank", "1", *options, "--out",
            str(tmp_path / out),
        )  # fmt: skip
        said = result_of(tmp_path / out)["warnings"]
        assert any(f"1 row has no observed cell ({name});" in t for t in said)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.txt", "t.dat", "t.npy"])
def test_sparse_zero_is_for_what_is_read_as_sparse(
    run_here, tmp_path: Path, name: str
) -> None:
    path, text = tmp_path / name, "a,b,c\n1,2,3\n4,5,6\n7,8,1\n"
    if name.endswith("npy"):
        np.save(path, np.arange(12.0).reshape(4, 3))
    else:
        path.write_bytes(
            gzip.compress(text.encode()) if "gz" in name else text.encode()
        )
    options = ("factorize", str(path), "--rank", "1", "--sparse", "zero")
    done = run_here(*options, "--out", str(tmp_path / "o"))
    assert done.returncode == 2
    assert "--sparse zero is for triples and sparse tables, but" in done.stderr
    assert not (tmp_path / "o").exists()
    if name == "t.dat":
        done = run_here(*options, "--triples", "--out", str(tmp_path / "o"))
        assert done.returncode == 0


def test_apply_reads_as_the_fit_did(tmp_path: Path) -> None:
    before = {
        "identifier": "name",
        "missing": ["?"],
        "decimal": ",",
        "encoding": "utf-8",
    }
    reading = asked.Reading().after(before)
    assert (reading.identifier, reading.missing, reading.decimal) == (
        "name",
        ("?",),
        ",",
    )
    back = asked.Reading(decimal=".", encoding="utf-8")  # said, and so it holds
    back = back.after(before | {"encoding": "latin-1"})
    assert (back.decimal, back.encoding) == (".", "utf-8")
    table = tmp_path / "t.csv"
    table.write_text("a;b\n1,5;?\n2;3\n")
    assert reading.read(str(table)).row_names == ("1", "2")  # there is no such column
    assert asked.Reading(identifier="b").after(before).identifier == "b"
    with pytest.raises(descents.DescentsError, match="--id and to --ignore"):
        asked.Reading(identifier="a", ignore=("a",)).read(str(table))
