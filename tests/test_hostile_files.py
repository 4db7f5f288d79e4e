"""Small files that ask for much: refused in a sentence, in little time and memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import descents
from descents import TableOnDisk
from descents.cli.main import main
from descents.errors import DescentsError, InvalidValueError, RunFolderError
from descents.storage.damage import check_facts
from descents.storage.files import of_json_text, read_table, write_table
from descents.tables.files import read
from descents.text import without_formula
from faults import fuzz, mutations, readers, thrift
from faults.wholes import table_text
from test_damaged import head, packed
from test_tables import refused

READ = """
import json, resource, sys, time
from descents.errors import DescentsError
from descents.tables.blocks import TableOnDisk
from descents.tables.files import read
import pyarrow, pyarrow.parquet, pyarrow.csv, scipy.sparse, numpy.lib.npyio
pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), pyarrow.BufferOutputStream())
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (most, most))
from descents.tables.memory import peak_memory
before = peak_memory()
for path in sys.argv[1:]:
    begun = time.process_time()
    try:
        if path.startswith("blocks:"):
            TableOnDisk(path[7:], "100MB")
        else:
            read(path)
        said = ""
    except DescentsError as error:
        said = str(error)
    grown = peak_memory() - before
    print(json.dumps([said, time.process_time() - begun, grown]), flush=True)
"""


def limited(*paths: object, most: int = 2**30) -> list[str]:
    """Read files in a process of 1 GiB; return what refused each, within 5 s.

    Each may take at most `most` bytes more than there were before the first.
    """
    command = [sys.executable, "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(paths)
    for path, (said, seconds, grown) in zip(paths, found, strict=True):
        assert seconds < 5, (path, said)
        assert grown < most, (path, grown, said)
        assert "\n" not in said
    return [said for said, _, _ in found]


def sparse_file(path: Path, rows: int, columns: int, stored: int) -> Path:
    """Write a sparse matrix in the form of its coordinates."""
    places = np.arange(stored, dtype=np.int64)
    content: dict[str, Any] = {
        "row": places,
        "col": places % columns,
        "format": np.array(b"coo"),
        "shape": np.array([rows, columns]),
        "data": np.ones(stored),
        "_is_array": np.array(True),
    }
    np.savez_compressed(path, **content)
    return path


def test_small_files_of_huge_tables(tmp_path: Path) -> None:
    def array(name: str, shape: str, kind: str = "<f8", data: bytes = b"") -> Path:
        path = tmp_path / name
        path.write_bytes(head(shape, kind, data))
        return path

    wide, tall = "(0, 1000000000000)", "(1000000000000, 0)"
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("X.npy", head("(1, 400000000)", "|i1", bytes(4 * 10**8)))
    other = tmp_path / "bzip2.npz"
    with zipfile.ZipFile(other, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("X.npy", head("(1, 400000000)", "|i1", bytes(4 * 10**8)))
    many = tmp_path / "many.npz"
    with zipfile.ZipFile(many, "w", zipfile.ZIP_DEFLATED) as file:
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as nested:
            nested.writestr("X.npy", bytes(10**8))
        file.writestr("X.npy", inner.getvalue())
    cases = {
        array("wide.npy", wide): "shape (0, 1000000000000)",
        array("tall.npy", tall): "no rows or no columns",
        f"blocks:{array('w.npy', wide)}": "0 rows and 1000000000000 columns",
        f"blocks:{array('t.npy', tall)}": "0 columns",
        array("int8.npy", "(1, 2000000)", "|i1", bytes(2 * 10**6)): "more than 100000",
        array("void.npy", "(1000000000000, 3)", "|V0"): "but the file has only",
        sparse_file(tmp_path / "rows.npz", 10**12, 3, 3): "1000000000000 rows",
        sparse_file(tmp_path / "blank.npz", 9 * 10**7, 2, 10**5): "64 KB|takes 5.8 GB",
        bomb: "takes 7.2 GB, but the file has only",
        other: "a method that numpy does not use",
        many: "'X.npy'",
    }
    for said, words in zip(limited(*cases), cases.values(), strict=True):
        assert any(word in said for word in words.split("|")), said


@pytest.mark.parametrize(
    "pointers",
    [
        # In 32 bits, the differences of the first ones overflow and are positive.
        [0, 1499970819, -1922671520, 171360088, 1428122572, -2059842727],
        [0, 3, 2, 4, 5, 12],
        [0, 3, 5, 7, 9, 13],
        [1, 3, 5, 7, 9, 12],
        [],
    ],
)
def test_pointers_of_sparse_matrices_that_fall_or_leave_the_cells(
    tmp_path: Path, pointers: list[int]
) -> None:
    path = tmp_path / "falls.npz"
    np.savez(
        path,
        format=np.bytes_(b"csc"),
        shape=np.array([6, 5]),
        data=np.arange(12.0),
        indices=np.arange(12, dtype=np.int32) % 6,
        indptr=np.array(pointers, dtype=np.int32),
    )
    with pytest.raises(InvalidValueError, match="cannot be read as a numpy file"):
        read(path)


def test_sparse_matrices_of_very_many_equal_cells(tmp_path: Path) -> None:
    blocks = tmp_path / "blocks.npz"
    content: dict[str, Any] = {
        "indptr": np.array([0, 1]),
        "indices": np.array([0]),
        "format": np.array(b"bsr"),
        "shape": np.array([20_000, 1000]),
        "data": np.ones((1, 20_000, 1000), np.int8),
    }
    np.savez_compressed(blocks, **content)
    path = sparse_file(tmp_path / "cells.npz", 10, 10, 1)
    with np.load(path) as loaded:
        other = dict(loaded)
    other["data"] = np.ones(2 * 10**7, np.float32)
    other["row"] = other["col"] = np.zeros(2 * 10**7, np.int8)
    np.savez_compressed(path, **other)
    for said in limited(blocks, path):
        assert "its table of 20000000 stored cells takes 2.0 GB" in said


def test_archives_that_lie_about_their_members(tmp_path: Path) -> None:
    whole = packed(X=np.ones((3, 2)))
    places = {"stored": 24, "packed": 20, "method": 10, "offset": 42}
    for name, place in places.items():
        for number in (0, 1, 2**31 - 1, 2**32 - 2):
            data = bytearray(whole)
            at = data.index(b"PK\x01\x02") + place
            data[at : at + 4] = number.to_bytes(4, "little")
            path = tmp_path / f"{name}.npz"
            path.write_bytes(data)
            try:
                assert read(path).rows == 3
            except InvalidValueError as error:
                assert "\n" not in str(error)  # noqa: PT017


def test_compressed_text_that_expands(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"a,b\n")
        for _ in range(100):
            file.write(b"1,2\n" * 2**18)
    assert path.stat().st_size < 2**20
    line = tmp_path / "line.csv"
    with line.open("wb") as file:
        file.truncate(2**30)  # one line of zero bytes, which take no place on the disk
    found = limited(path, line)
    assert "times its size" in found[0]
    assert "decompress it" in found[0]
    assert "a line of over 64 MiB" in found[1]


def test_repetitive_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 10**5))
    assert read(path).rows == 10**5


def test_text_of_very_many_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(",".join(["a"] * 2_000_000) + "\n1\n")
    wide = tmp_path / "wide.csv"
    names = [f"column number {k}" for k in range(8_000)]  # a line over 128 KiB
    wide.write_text("\n".join([",".join(names), ",".join(["1"] * len(names)), ""]))
    assert "2000000 columns, more than 100000" in limited(path)[0]
    path.write_text("\n".join(",".join([f"{k}"] * 40_000) for k in range(3)))
    assert "has two columns named '0'" in limited(path)[0]
    lines = [",".join(f"{x}{k}" for k in range(40_000)) for x in ("a", "1", "2")]
    path.write_text("\n".join(lines))
    assert limited(path, most=250 * 2**20) == [""]
    assert len(read(wide).columns) == 8_000


def footer(content: bytes) -> tuple[bytes, list[Any]]:
    """Return a Parquet file without its footer, and the footer as a tree."""
    size = int.from_bytes(content[-8:-4], "little")
    return content[: -8 - size], thrift.parsed(content[-8 - size : -8])


def with_footer(data: bytes, tree: list[Any]) -> bytes:
    """Return a Parquet file with a footer."""
    written = thrift.written(tree)
    return data + written + len(written).to_bytes(4, "little") + b"PAR1"


def of_field(fields: list[Any], number: int) -> list[Any]:
    """Return the field of a struct with a number."""
    return next(field for field in fields if field[0] == number)


def test_thrift_is_written_as_it_was_read() -> None:
    for content in readers.wholes.parquets():
        data, tree = footer(content)
        assert with_footer(data, tree) == content


@pytest.mark.parametrize(
    ("rows", "words"),
    [(10**12, "cannot be read|not enough memory"), (-1, "declares -1 rows")],
)
def test_parquet_of_huge_declared_sizes(tmp_path: Path, rows: int, words: str) -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": [3, 4]}), stream)
    data, tree = footer(stream.getvalue())
    of_field(tree, 3)[2] = rows
    path = tmp_path / "t.parquet"
    path.write_bytes(with_footer(data, tree))
    (said,) = limited(path)
    assert any(word in said for word in words.split("|")), said


def test_repeated_values_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    cells = pa.array(np.zeros(2 * 10**7), pa.float64())
    pq.write_table(pa.table({str(k): cells for k in range(3)}), path)
    assert path.stat().st_size < 2**20
    assert "but the file has only" in limited(path)[0]
    pq.write_table(pa.table({"a": cells.slice(0, 10**5)}), path)
    assert read(path).rows == 10**5


def test_text_of_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(
        pa.string(),
        2,
        [
            None,
            pa.py_buffer(np.array([0, 2, 4], np.int32)),
            pa.py_buffer(b"\xff\xfeab"),
        ],
    )
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": bad, "b": [1, 2]}), path)
    refused(lambda: read(path), "cannot be read as Parquet", "UTF8")
    with pytest.raises(RunFolderError, match="UTF8"):
        read_table(path)


# Places


def test_places_that_are_no_files(tmp_path: Path, monkeypatch) -> None:
    refused(lambda: read(tmp_path), "is a folder")
    for name in ("x" * 300, "a\0b", "\ud800.csv", "a/b/c.csv"):
        refused(lambda name=name: read(tmp_path / name), "there is no file")
        refused(
            lambda name=name: TableOnDisk(tmp_path / f"{name}.npy", "1MB"), "no file"
        )
        with pytest.raises(DescentsError):
            descents.load(tmp_path / name)
        with pytest.raises(DescentsError):
            descents.Runs.load(tmp_path / name)
    monkeypatch.setattr(sys, "stdin", None)
    refused(lambda: read("-"), "standard input is closed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_places_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    path = folder / "t.csv"
    path.write_text("a\n1\n")
    path.chmod(0)
    refused(lambda: read(path), "cannot be read (Permission denied)")
    folder.chmod(0)
    refused(lambda: read(path), "cannot be read (Permission denied)")
    with pytest.raises(DescentsError, match="ermission"):
        descents.load(folder)
    folder.chmod(0o700)


@pytest.mark.parametrize("command", ["factorize", "impute", "train"])
def test_a_table_without_permission(
    tmp_path: Path, monkeypatch, capsys, command: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table_text())
    opened = Path.open

    def denied(self: Path, *given: Any, **more: Any) -> Any:
        if self.name == "t.csv":
            raise PermissionError(13, "Permission denied")
        return opened(self, *given, **more)

    monkeypatch.setattr(Path, "open", denied)
    options = {
        "factorize": ["--rank", "1"],
        "impute": [str(tmp_path / "f.csv")],
        "train": ["--target", "c"],
    }
    out = tmp_path / "out"
    assert main([command, str(path), *options[command], "--out", str(out)]) == 2
    errors = capsys.readouterr().err
    assert "t.csv cannot be read (Permission denied)" in errors
    assert not out.exists()


def test_permission_that_is_denied(tmp_path: Path, monkeypatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "t.npy"
    np.save(path, np.ones((2, 2)))
    monkeypatch.setattr(os, "stat", denied)
    refused(lambda: read(path), "cannot be read (Permission denied)")
    refused(lambda: TableOnDisk(path, "1MB"), "cannot be read (Permission denied)")


def test_names_with_line_ends_are_one_line_of_a_message(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('"a\nb\x1b[2J","a\nb\x1b[2J"\n1,2\n')
    with pytest.raises(InvalidValueError) as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_too_little_memory_is_said_to_be_that(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1;2\n2;3\n")

    def full(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    with monkeypatch.context() as patched:
        patched.setattr("pyarrow.csv.read_csv", full)
        refused(lambda: read(path), "not enough memory to read", "malloc of size 64")
    with monkeypatch.context() as patched:
        patched.setattr("descents.tables.frames.Source", full)
        patched.setattr("descents.tables.csv_text.Source", full)
        arguments = [
            "factorize",
            str(path),
            "--rank",
            "1",
            "--out",
            str(tmp_path / "o"),
        ]
        assert main(arguments) == 2
    assert "not enough memory" in capsys.readouterr().err
    monkeypatch.setattr("descents.runs.factorize.factorize", full)
    assert main(arguments) == 4
    assert "memory ran out; give fewer" in capsys.readouterr().err


def test_a_limit_of_memory_counts(monkeypatch) -> None:
    from descents.tables import memory

    free = memory.memory_of_machine()
    most = 2**40
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))
    assert memory.memory_of_machine() == free
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 2**20
    assert memory.memory_of_machine() <= 2**20


def test_a_limit_that_is_too_low_for_the_libraries(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("descents.tables.memory.left_of_limit", lambda: 5 * 10**8)
    assert main(["factorize", str(tmp_path / "t.csv"), "--rank", "1"]) == 2
    assert "the limit of memory leaves 500 MB" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("limit", [400, 700, 1200, 2000])
def test_any_limit_of_addresses_ends_in_a_sentence(tmp_path: Path, limit: int) -> None:
    table = tmp_path / "t.csv"
    table.write_text(table_text())
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit} * 2**20,) * 2);"
        "import sys; from descents.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "factorize", str(table), "--rank", "1"]
    done = subprocess.run(
        [*command, "--id", "id", "--out", str(tmp_path / "out"), "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if limit >= 1200 else 2), done.stderr
    assert done.stderr.count("\n") == (limit < 1200)


# Stored runs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": ' * 100 + "1" + "}" * 100, "nested too deeply"),
        ("[" * 10**5, "nested too deeply"),
        ('{"a": NaN}', "contains NaN"),
        ('{"a": "\\ud800"}', "surrogates"),
        ("[1]", "not a JSON object"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
    ],
)
def test_json_that_no_run_has(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        of_json_text(text)


def test_facts_are_checked_by_their_types() -> None:
    check_facts(dict[str, tuple[float, float]], {"a": [1, 0.5]})
    check_facts(list[str | None], ["a", None])
    check_facts(tuple[int, ...], [1, 2, 3])
    for kind, value in (
        (int, True),
        (int, 2**63),
        (float, "1"),
        (float, True),
        (list[int], {"a": 1}),
        (dict[str, int], [1]),
        (tuple[int, int], [1]),
        (str | None, 1),
        (bool, 1),
    ):
        with pytest.raises(TypeError, match="not of the type"):
            check_facts(kind, value)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return the folder of a small run of factorize."""
    folder = tmp_path_factory.mktemp("stored")
    table = folder / "t.csv"
    table.write_text(table_text())
    out = folder / "run"
    arguments = ["factorize", str(table), "--id", "id", "--rank", "1", "--starts", "2"]
    assert main([*arguments, "--out", str(out), "--quiet"]) == 0
    return out


def damaged(run: Path, folder: Path, name: str, content: bytes) -> Path:
    """Return a copy of a run with another file in it."""
    out = folder / "damaged"
    out.mkdir()
    for path in run.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    (out / name).write_bytes(content)
    return out


def test_rows_of_another_run(run: Path, tmp_path: Path, capsys) -> None:
    rows = tmp_path / "starts.parquet"
    write_table(rows, {"start": np.arange(2), "loss": ["a", "b"]})
    out = damaged(run, tmp_path, "starts.parquet", rows.read_bytes())
    assert main(["report", str(out)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "damaged" in errors


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["run", "options"], []),
        (["run", "reading", "delimiter"], 5),
        (["run", "reading", "missing"], [1]),
        (["formats"], {"decimal": 1}),
        (["formats", "columns"], {"a": {"kind": "x"}}),
        (["columns"], "x"),
        (["shape"], None),
    ],
)
def test_results_that_were_edited(
    run: Path, tmp_path: Path, capsys, path, value
) -> None:
    result = json.loads((run / "result.json").read_text())
    part = result
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    out = damaged(run, tmp_path, "result.json", json.dumps(result).encode())
    table = str(run.parent / "t.csv")
    for arguments in (
        ["report", str(out), "--table", "csv"],
        [
            "apply",
            str(out),
            table,
            "--id",
            "id",
            "--out",
            str(tmp_path / "new"),
            "--quiet",
        ],
    ):
        code = main(arguments)
        errors = capsys.readouterr().err
        assert code in (0, 2)
        assert errors.count("\n") == (code == 2)


def test_models_whose_arrays_do_not_belong_together(run: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    content = (run / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    facts = json.loads(content[8 : 8 + size])["__metadata__"]
    arrays = load(content)
    out = damaged(run, tmp_path, "model.safetensors", content)
    for name, array in arrays.items():
        if name.startswith("levels") or not array.size:
            continue
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.int32)
        for changed in (array[..., None], whole, array[:0]):
            part = {**arrays, name: np.ascontiguousarray(changed)}
            (out / "model.safetensors").write_bytes(save(part, metadata=facts))
            try:
                descents.load(out)
            except DescentsError as error:
                assert "\n" not in str(error)  # noqa: PT017


# CSV for spreadsheets


@pytest.mark.parametrize(
    "cell", ["=1", "+x", "-x", "@x", "\tx", "\rx", "=cmd|' /C'!A0", "-"]
)
def test_formulas_get_a_quote(cell: str) -> None:
    assert without_formula(cell) == f"'{cell}"


@pytest.mark.parametrize(
    "cell",
    ["-1", "+1.5", "-1,5", "-$3", "-5%", "-1e-5", "+1 000", "-.5", "", "x=1", "1-2"],
)
def test_numbers_and_other_text_do_not(cell: str) -> None:
    assert without_formula(cell) == cell


def test_safe_csv_of_commands(tmp_path: Path, capsys) -> None:
    table, filled = tmp_path / "t.csv", tmp_path / "f.csv"
    rows = [
        ["=name", "a", "b"],
        *[[f"=x{k % 2}", f"-{k}", f"{-k / 2}"] for k in range(12)],
    ]
    rows[5][1] = ""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    table.write_text(text.getvalue())
    run = str(tmp_path / "run")
    assert (
        main(["impute", str(table), str(filled), "--out", run, "--quiet", "--safe-csv"])
        == 0
    )
    safe = list(csv.reader(filled.read_text().splitlines()))
    assert [row[0] for row in safe] == [f"'{row[0]}" for row in rows]
    assert [row[2] for row in safe] == [row[2] for row in rows]
    plain = tmp_path / "p.csv"
    arguments = ["apply", run, str(table), str(plain), "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert [row[0] for row in csv.reader(plain.read_text().splitlines())] == [
        row[0] for row in rows
    ]
    assert main([*arguments, "--safe-csv", "--out", str(tmp_path / "b")]) == 0
    assert [row[0] for row in csv.reader(plain.read_text().splitlines())] == [
        row[0] for row in safe
    ]
    capsys.readouterr()
    assert main(["report", run, "--table", "csv", "--safe-csv"]) == 0
    assert "\n'=name,level" in capsys.readouterr().out
    assert main(["report", run, "--table", "csv"]) == 0
    assert "\n=name,level" in capsys.readouterr().out
    assert main(["report", run, "--safe-csv"]) == 2
    assert "give --table csv" in capsys.readouterr().err
    # The written table has other names than the model, and why is said.
    words = ["apply", run, str(plain), str(tmp_path / "again.csv")]
    assert main([*words, "--out", str(tmp_path / "c")]) == 2
    says = capsys.readouterr().err
    assert 'it has "\'=name", as --safe-csv writes that name: remove' in says


# Fuzzing


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Return a folder of stored runs of every command."""
    folder = tmp_path_factory.mktemp("runs")
    readers.wholes.make_runs(folder)
    return folder


@pytest.mark.parametrize(
    "path", sorted(fuzz.FOUND.glob("*.json")), ids=lambda p: p.stem
)
def test_inputs_that_failed_once(tmp_path: Path, path: Path, request) -> None:
    of_table = json.loads(path.read_text())["kind"] in readers.TABLES
    if of_table:
        cases = readers.Cases(tmp_path, None)
    else:  # which takes a while
        folder = request.getfixturevalue("runs")
        cases = readers.Cases(folder, folder)
    outcome, place = fuzz.again(cases, path)
    assert outcome in ("read", "refused"), place


@pytest.mark.slow
def test_inputs_of_stored_runs_are_read_again(
    tmp_path: Path, runs: Path, monkeypatch
) -> None:
    cases = readers.Cases(runs, runs)
    found = tmp_path / "found"
    name = "factorize/result.json"
    damaged = readers.Case("factorize", name, b'{"command": "factorize"}')
    failure = {"seed": 0, "number": 5, "kind": "factorize", "outcome": "traceback"}
    with monkeypatch.context() as patched:
        patched.setattr(cases, "case", lambda rng: damaged)
        fuzz.keep(cases, [{**failure, "place": "x @ y"}], found)
    assert fuzz.again(cases, found / "0-5.json") == ("refused", "")
    assert (runs / name).read_bytes() == cases.contents[name]

    def failing(rng: Any, run: Path) -> None:
        raise KeyError((run / "result.json").read_text())

    monkeypatch.setitem(readers.RUNS, "factorize", failing)
    outcome, place = fuzz.again(cases, found / "0-5.json")
    assert outcome == "traceback"
    assert '{"command": "factorize"}' in place


def test_inputs_are_the_same_in_every_shard(tmp_path: Path) -> None:
    cases = readers.Cases(tmp_path, None)

    def made(number: int) -> bytes:
        return cases.case(fuzz.generators(5, number)[0]).content

    assert [made(k) for k in (3, 7)] == [made(k) for k in range(8) if k in (3, 7)]
    assert len({made(k) for k in range(50)}) > 40


def test_faults_are_counted_as_what_they_are(tmp_path: Path, monkeypatch) -> None:
    def bad(rng: Any, path: Path) -> None:
        kind = path.read_bytes()[:1]
        if kind == b"A":
            os.abort()
        if kind == b"T":
            raise KeyError("x")
        if kind == b"M":
            raise MemoryError
        if kind == b"E":
            raise InvalidValueError("one; two")
        while kind == b"H":
            pass

    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    monkeypatch.setitem(readers.TABLES, "csv", bad)
    cases = readers.Cases(tmp_path, None)
    letters = b"ATMEHR"
    monkeypatch.setattr(
        cases,
        "case",
        lambda rng: readers.Case("csv", "t.csv", bytes([letters[rng.randrange(6)]])),
    )
    tally = fuzz.fuzz(cases, 0, range(16), 60)
    expected = dict.fromkeys(
        ("abort", "traceback", "memory", "refused", "timeout", "read"), 0
    )
    for number in range(16):
        expected[list(expected)[fuzz.generators(0, number)[0].randrange(6)]] += 1
    assert {outcome: count for (_, outcome), count in tally.counts.items()} == expected
    counts = tmp_path / "counts.json"
    fuzz.add(counts, tally, "1/1", 16, 0)
    fuzz.add(counts, tally, "1/1", 32, 0)
    stored = fuzz.stored_counts(counts, None)
    with pytest.raises(ValueError, match="counts of seed 0"):
        fuzz.stored_counts(counts, 1)
    assert stored["inputs"] == 32
    assert stored["next"] == {"1/1": 32}
    assert stored["counts"]["csv"]["abort"] == 2 * expected["abort"]


def test_some_damaged_tables(tmp_path: Path) -> None:
    tally = fuzz.fuzz(readers.Cases(tmp_path, None), 7, range(200), 60)
    assert tally.inputs == 200
    assert not tally.failures


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_damaged_inputs(tmp_path: Path) -> None:
    from faults.wholes import make_runs

    make_runs(tmp_path)
    tally = fuzz.fuzz(readers.Cases(tmp_path, tmp_path), 8, range(10_000), 1500)
    assert not tally.failures
    assert tally.inputs == 10_000


def test_mutations_change_something() -> None:
    rng, _ = fuzz.generators(0, 0)
    whole = readers.wholes
    for content, change in (
        (whole.texts()[0], mutations.of_text),
        (whole.arrays()[0], mutations.of_array),
        (whole.archives()[0], mutations.of_archive),
        (whole.parquets()[0], mutations.of_parquet),
    ):
        assert sum(change(rng, content) != content for _ in range(50)) > 35
