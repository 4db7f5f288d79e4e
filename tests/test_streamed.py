"""Tables on disk: read by blocks of rows, to the answer that they have in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from conftest import slow
from descents import (
    Adam,
    Alternating,
    Factorization,
    LowRankModel,
    Stop,
    TableOnDisk,
    descend,
    load,
    truncated_svd,
)
from descents.cells.streamed import Streamed
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.tables.memory import peak_memory, size_in_bytes

SCHEMA = Path(__file__).parents[1] / "docs" / "factorize.schema.json"
ROWS, COLUMNS, RANK = 300, 12, 3
ROOM = 250_000
"""Enough for a part of the rows at a time."""


def table_of(holes: float = 0.0, dtype: Any = np.float64) -> np.ndarray:
    generator = np.random.default_rng(0)
    product = generator.normal(size=(ROWS, RANK)) @ generator.normal(
        size=(RANK, COLUMNS)
    )
    table = product + 0.3 * generator.normal(size=(ROWS, COLUMNS)) + 2.0
    table[generator.random(table.shape) < holes] = np.nan
    return table.astype(dtype)


def write(folder: Path, table: np.ndarray, kind: str = "npy") -> Path:
    path = folder / f"table.{kind}"
    if kind == "npy":
        np.save(path, table)
    else:
        columns = {f"c{j}": pyarrow.array(c) for j, c in enumerate(table.T)}
        frame = pyarrow.table(columns)
        pyarrow.parquet.write_table(frame, path, row_group_size=70)
    return path


# Reading


@pytest.mark.parametrize("kind", ["npy", "parquet"])
@pytest.mark.parametrize("rows", [1, 7, 70, 100, 1000])
def test_blocks_are_the_rows_of_the_file(tmp_path: Path, kind: str, rows: int) -> None:
    table = table_of(0.2)
    disk = TableOnDisk(write(tmp_path, table, kind), "1MB")
    places, blocks = zip(*disk.blocks(rows), strict=True)
    assert np.array_equal(np.concatenate(blocks), table, equal_nan=True)
    assert [p.start for p in places[1:]] == [p.stop for p in places[:-1]]
    assert max(map(len, blocks)) <= rows


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_memory_map_and_either_order_are_read(tmp_path: Path, order: Any) -> None:
    table = np.asarray(table_of(), order=order)
    mapped = np.load(write(tmp_path, table), mmap_mode="r")
    (_, block), *_ = TableOnDisk(mapped, "1MB").blocks(1000)
    assert np.array_equal(block, table)
    with pytest.raises(InvalidValueError, match="part of another"):
        TableOnDisk(mapped[3:], "1MB")


def test_whole_numbers_nulls_and_the_choice_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pyarrow.table({"a": [1, None, 3], "b": ["x", "y", "z"], "c": [0.5, 1, 2]})
    pyarrow.parquet.write_table(frame, path)
    with pytest.raises(InvalidValueError, match=r"'b' \(string\)"):
        TableOnDisk(path, "1MB")
    disk = TableOnDisk(path, "1MB", ignore=["b"])
    (_, block), *_ = disk.of_columns(["c", "a"]).blocks(10)
    expected = [[0.5, 1.0], [1.0, np.nan], [2.0, 3.0]]
    assert np.array_equal(block, expected, equal_nan=True)
    with pytest.raises(InvalidValueError, match="lacks 1 of the 1 column"):
        disk.of_columns(["b"])


@pytest.mark.parametrize("size", ["lots", "0", "-5MB", "1 parsec", "", True, "nan"])
def test_nonsense_sizes_are_refused(size: Any) -> None:
    with pytest.raises(InvalidValueError, match="give a size above 0"):
        size_in_bytes(size)


def test_a_file_that_changes_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, table_of())
    disk = TableOnDisk(path, ROOM)
    os.truncate(path, path.stat().st_size - 96)
    with pytest.raises(InvalidValueError, match="has changed since it was opened"):
        LowRankModel(2).fit(disk)
    with pytest.raises(InvalidValueError, match="96 bytes too short"):
        TableOnDisk(path, ROOM)


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_an_infinite_cell_is_named(tmp_path: Path, kind: str) -> None:
    table = table_of()
    table[200, 4] = -np.inf
    disk = TableOnDisk(write(tmp_path, table, kind), ROOM)
    with pytest.raises(InvalidValueError, match=r"-inf in row 201 .* column 'c?4'"):
        LowRankModel(2).fit(disk)


# The same answer


@pytest.mark.parametrize("kind", ["npy", "parquet"])
@pytest.mark.parametrize("holes", [0.0, 0.2])
@pytest.mark.parametrize(
    "settings",
    [
        {"offsets": "columns"},
        {"offsets": "both", "penalty": {"l2": 0.5, "l2_biases": 0.3}},
        {"constraint": "nonnegative"},
        {"penalty": {"l1": 0.3, "count_power": 0.5}},
    ],
)
@pytest.mark.sampled(6)
def test_steps_are_those_in_memory(
    tmp_path: Path, kind: str, holes: float, settings: dict[str, Any]
) -> None:
    table = table_of(holes)
    disk = TableOnDisk(write(tmp_path, table, kind), ROOM)
    streamed = Streamed(disk, RANK, 2)
    assert streamed.block_rows < ROWS
    options: dict[str, Any] = {"initialization": "normal", **settings}
    rule: dict[str, Any] = {"steps": Alternating(), "stop": Stop(12), "width": 2}
    rule["record"] = [0, 1, 2, 6]
    whole = descend(Factorization(table, RANK, **options), 2, **rule)
    before = disk.passes
    found = descend(Factorization(streamed, RANK, **options), 2, **rule)
    # One reading a step, and two for the final losses and gradients.
    assert disk.passes - before == 12 + 2
    np.testing.assert_allclose(found.losses, whole.losses, rtol=1e-11)
    for name, values in whole.histories.items():
        np.testing.assert_allclose(found.histories[name], values, rtol=1e-10)
    for name, values in whole.parameters.items():
        np.testing.assert_allclose(found.parameters[name], values, atol=1e-8)


@pytest.mark.parametrize("offsets", ["none", "columns", "rows", "both"])
def test_the_reference_is_that_of_the_svd(tmp_path: Path, offsets: str) -> None:
    table = table_of()
    disk = TableOnDisk(write(tmp_path, table), ROOM)
    model = LowRankModel(RANK, offsets=offsets, random_state=0).fit(disk)
    centered = table
    if offsets in ("rows", "both"):
        centered = centered - centered.mean(1, keepdims=True)
    if offsets in ("columns", "both"):
        centered = centered - centered.mean(0)
    assert model.reference_.kind == "exact"
    expected = truncated_svd(centered, RANK).loss
    np.testing.assert_allclose(model.reference_.value, expected, rtol=1e-12)
    np.testing.assert_allclose(model.loss_, expected, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("holes", [0.0, 0.1])
@pytest.mark.parametrize("rule", ["auto", "spectral", "nndsvd"])
def test_the_estimator_is_that_in_memory(
    tmp_path: Path, dtype: Any, holes: float, rule: str
) -> None:
    table = table_of(holes, dtype)
    disk = TableOnDisk(write(tmp_path, table), ROOM)
    options: dict[str, Any] = {"initialization": rule, "random_state": 1, "penalty": 0}
    if rule == "nndsvd":
        options |= {"constraint": "nonnegative", "tol": 1e-3}
    whole = LowRankModel(RANK, **options).fit(table)
    found = LowRankModel(RANK, **options).fit(disk)
    close = 1e-10 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose(found.loss_, whole.loss_, rtol=close)
    np.testing.assert_allclose(found.score(disk), whole.score(table), rtol=close)
    if rule != "nndsvd":
        product, expected = (m.embedding_ @ m.components_ for m in (found, whole))
        np.testing.assert_allclose(product, expected, atol=1e3 * close)
    scores = found.transform(disk)
    np.testing.assert_allclose(scores, found.transform(table), atol=1e3 * close)


def test_a_small_tail_is_not_lost(tmp_path: Path) -> None:
    table = table_of()
    left, values, right = np.linalg.svd(table, full_matrices=False)
    values[RANK:] *= 1e-7  # their squares are 1e-16 of the largest one
    table = (left * values) @ right
    disk = TableOnDisk(write(tmp_path, table), ROOM)
    triangle = Streamed(disk).triangle(np.zeros(COLUMNS))
    tail = np.linalg.svd(triangle, compute_uv=False)[RANK:]
    np.testing.assert_allclose(
        np.square(tail).sum(), np.square(values[RANK:]).sum(), rtol=1e-6
    )


def test_many_columns_have_no_exact_reference(tmp_path: Path) -> None:
    disk = TableOnDisk(write(tmp_path, table_of().T.copy()), 250_000)
    assert not Streamed(disk).has_triangle
    model = LowRankModel(2, random_state=0).fit(disk)
    assert model.reference_.kind == "best found"
    whole = LowRankModel(2, random_state=0).fit(table_of().T.copy())
    np.testing.assert_allclose(model.loss_, whole.loss_, rtol=1e-10)
    with pytest.raises(InvalidValueError, match="initialization='normal'"):
        LowRankModel(2, initialization="spectral").fit(disk)


def test_what_cannot_be_streamed_is_told_together(tmp_path: Path) -> None:
    disk = TableOnDisk(write(tmp_path, table_of()), ROOM)
    model = LowRankModel(2, loss="huber", solver="lbfgs", scales=True)
    with pytest.raises(InvalidValueError, match="(?s)loss is 'huber'.*steps.*scales"):
        model.fit(disk)
    with pytest.raises(
        InvalidValueError, match="takes squared loss, alternating steps"
    ):
        descend(Factorization(Streamed(disk), 1), 1, steps=Adam())
    fitted = LowRankModel(2, random_state=0).fit(disk)
    with pytest.raises(InvalidValueError, match="filling its missing cells"):
        fitted.impute(disk)


def test_too_little_memory_says_how_much_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path, table_of())
    with pytest.raises(InvalidValueError, match=r"give at least (\d+) KB") as caught:
        LowRankModel(2).fit(TableOnDisk(path, "20KB"))
    enough = str(caught.value).partition("give at least ")[2].partition(" KB")[0]
    model = LowRankModel(2, random_state=0).fit(TableOnDisk(path, f"{enough}KB"))
    assert model.gap_ < 1e-9


# The command


@pytest.mark.parametrize("kind", ["npy", "parquet"])
@pytest.mark.parametrize("holes", [slow(0.0), 0.2])
def test_the_command_writes_what_it_writes_in_memory(
    tmp_path: Path, kind: str, holes: float
) -> None:
    path = write(tmp_path, table_of(holes), kind)
    whole, found, applied = (tmp_path / name for name in ("whole", "found", "applied"))
    fit = ["factorize", str(path), "--rank", "3", "--starts", "2", "--quiet"]
    fit += ["--penalty", "l2=0", "--held-out", "0", "--out"]
    assert main([*fit, str(whole)]) == 0
    assert main([*fit, str(found), "--memory", "250kB"]) == 0
    assert main([*fit, str(found), "--memory", "250kB", "--resume"]) == 0
    assert main([*fit, str(found), "--memory", "600kB", "--resume"]) == 2
    results = [json.loads((out / "result.json").read_text()) for out in (whole, found)]
    jsonschema.validate(results[1], json.loads(SCHEMA.read_text()))
    memory = results[1].pop("memory")
    assert memory["asked"] == 250_000
    assert memory["block_rows"] < ROWS
    assert memory["needed"] <= memory["asked"]
    assert memory["says"] in (found / "report.html").read_text()
    assert "--memory 250000" in results[1]["command"]
    for name in ("run", "read", "command", "environment", "seconds"):
        for result in results:
            result.pop(name)
    for column in (column for result in results for column in result["columns"]):
        del column["spread"], column["distribution"]  # of tables in memory alone
    for result in results:
        # Both starts end at the optimum: which of them is lower is rounding.
        assert result["starts"].pop("best") in (0, 1)
    _same(*results)
    tables = [
        pyarrow.parquet.read_table(out / "rows.parquet") for out in (whole, found)
    ]
    assert tables[0].column("row").to_pylist() == tables[1].column("row").to_pylist()
    for name in tables[0].column_names[1:]:
        one, other = (table.column(name).to_numpy() for table in tables)
        np.testing.assert_allclose(other, one, atol=1e-7)
    tensors = [load(out).fitted_.runs.losses for out in (whole, found)]
    np.testing.assert_allclose(tensors[1], tensors[0], rtol=1e-10)
    use = ["apply", str(found), str(path), "--memory", "250kB", "--quiet", "--out"]
    assert main([*use, str(applied)]) == 0
    new = pyarrow.parquet.read_table(applied / "rows.parquet")
    np.testing.assert_allclose(
        new.column("component_1").to_numpy(),
        tables[1].column("component_1").to_numpy(),
        atol=1e-5,
    )


def _same(one: Any, other: Any) -> None:
    """Hold two results beside each other, numbers to 1e-6."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            _same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _same(a, b)
    elif isinstance(one, float):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-8)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["t.csv", "--memory", "1MB"], "convert it to one of them"),
        (["t.npy", "--memory", "lots"], "give a size above 0"),
        (["t.npy", "--memory", "-5MB"], "give a size above 0"),
        (["t.npy", "--memory", "1MB", "--id", "0"], "give --ignore 0"),
        (["t.npy", "--memory", "1MB", "--impute", "x.csv"], "keeps out of memory"),
        (["t.npy", "--memory", "1MB", "--workers", "2"], "--workers is 2"),
        (["t.npy", "--memory", "1MB", "--loss", "huber"], "squared loss"),
        (["t.npy", "--memory", "1MB", "--loss-of", "0=huber"], "squared loss"),
        (["-", "--memory", "1MB"], "can be read only once"),
        (["t.npy", "--memory", "1MB", "--triples"], "leave one of them out"),
    ],
)
def test_bad_input_is_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", table_of())
    Path("t.csv").write_text("a,b\n1,2\n3,4\n")
    assert main(["factorize", *arguments, "--rank", "1"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(peak_memory() is None, reason="the system does not tell")
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_the_peak_is_within_what_was_asked(tmp_path: Path, kind: str) -> None:
    generator = np.random.default_rng(0)
    big = generator.normal(size=(100_000, 100)).astype(np.float32)  # 40 MB
    peaks = {}
    for name, table in (("big", big), ("tiny", big[:500])):
        path = tmp_path / f"{name}.{kind}"
        if kind == "npy":
            np.save(path, table)
        else:
            frame = pyarrow.table({f"c{j}": c for j, c in enumerate(table.T)})
            pyarrow.parquet.write_table(frame, path, row_group_size=5000)
        asked = ["factorize", str(path), "--rank", "2", "--memory", "30MB"]
        asked += ["--max-iter", "5", "--json", "--out", str(tmp_path / f"out-{name}")]
        command = [sys.executable, "-m", "descents", *asked]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[name] = json.loads(done.stdout)["memory"]
    assert peaks["big"]["peak"] <= 30e6
    assert peaks["big"]["process_peak"] - peaks["tiny"]["process_peak"] <= 30e6


def test_apply_takes_columns_by_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_of()
    kept = write(tmp_path, table, "parquet")
    turned = tmp_path / "turned.parquet"
    whole = pyarrow.parquet.read_table(kept)
    pyarrow.parquet.write_table(whole.select(whole.column_names[::-1]), turned)
    np.save(tmp_path / "t.npy", table)
    fit = ["factorize", str(kept), "--rank", "2", "--memory", "1MB", "--quiet", "--out"]
    assert main([*fit, str(tmp_path / "run")]) == 0
    found = []
    for place, given in enumerate((kept, turned)):
        out = tmp_path / str(place)
        use = ["apply", str(tmp_path / "run"), str(given), "--memory", "1MB", "--out"]
        assert main([*use, str(out)]) == 0
        found.append(pyarrow.parquet.read_table(out / "rows.parquet").to_pandas())
    assert "no missing cell filled" in capsys.readouterr().out
    np.testing.assert_allclose(
        found[1].iloc[:, 1:].to_numpy(), found[0].iloc[:, 1:].to_numpy(), atol=1e-5
    )
    use = ["apply", str(tmp_path / "run"), str(tmp_path / "t.npy"), "--memory", "1MB"]
    assert main([*use, "--out", str(tmp_path / "no")]) == 2
    assert "the table lacks 12 of the 12 columns" in capsys.readouterr().err
