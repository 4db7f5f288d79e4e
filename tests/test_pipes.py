"""Tables from pipes: a run knows the bytes that were read, not the name they had."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import error_of
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.runs.request import Reading
from descents.tables.sources import TableSource


def table(seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(generator.normal(size=(24, 3)), columns=["a", "b", "c"])
    frame["y"] = np.where(frame["a"] > 0, "yes", "no")
    return frame.to_csv(index=False).encode()


ONE, OTHER = table(1), table(2)
TRAIN = ("--target", "y", "--starts", "3", "--hidden", "3", "--epochs", "2")


def piped(content: bytes, name: Path) -> threading.Thread:
    """Write bytes into a FIFO as soon as somebody reads it."""
    if not name.exists():
        os.mkfifo(name)
    writer = threading.Thread(target=lambda: name.write_bytes(content), daemon=True)
    writer.start()
    return writer


def with_input(content: bytes, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stream)
    return main([*words, "--quiet"])


def sha256_of(run: Path) -> str:
    return str(json.loads((run / "result.json").read_text())["run"]["sha256"])


@pytest.mark.parametrize(
    "words",
    [
        ("train", "-", *TRAIN),
        ("factorize", "-", "--rank", "1"),
        ("impute", "-", "{filled}"),
    ],
    ids=lambda words: words[0],
)
def test_another_table_on_standard_input_is_not_a_run_to_resume(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out, filled = tmp_path / "run", tmp_path / "filled.csv"
    words = (*(word.format(filled=filled) for word in words), "--out", str(out))
    assert with_input(ONE, monkeypatch, *words) == 0
    assert sha256_of(out) == hashlib.sha256(ONE).hexdigest()
    before = (out / "result.json").read_bytes()
    assert with_input(ONE, monkeypatch, *words, "--resume") == 0
    capsys.readouterr()
    assert with_input(OTHER, monkeypatch, *words, "--resume") == 2
    says = error_of(capsys.readouterr().err)
    assert "contains another run" in says
    for table in (ONE, OTHER):  # of a hash, the first digits are enough
        digest = hashlib.sha256(table).hexdigest()
        assert f"{digest[:12]}..." in says
        assert digest[:13] not in says
    assert (out / "result.json").read_bytes() == before


def test_parts_of_two_tables_are_not_mixed(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out = tmp_path / "run"
    words = ("train", "-", *TRAIN, "--out", str(out))

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("descents.runs.train.diagnosed", interrupted)
    assert with_input(ONE, monkeypatch, *words) == 130
    assert "2 finished parts are kept" in capsys.readouterr().err
    assert with_input(OTHER, monkeypatch, *words, "--resume") == 2
    assert "contains another run" in error_of(capsys.readouterr().err)


def test_a_shell_may_give_the_same_bytes_another_name(
    tmp_path: Path, capsys: Any
) -> None:
    """`<(...)` is /dev/fd/63 in one run and /dev/fd/62 in the next."""
    out = tmp_path / "run"
    codes = []
    for content, more in ((ONE, ()), (ONE, ("--resume",)), (OTHER, ("--resume",))):
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        name = f"/dev/fd/{os.dup(reading)}"
        words = ["train", name, *TRAIN, "--out", str(out), "--quiet", *more]
        codes.append(main(words))
        os.close(reading)
        os.close(int(name.rpartition("/")[2]))
    assert codes == [0, 0, 2]
    assert "contains another run" in error_of(capsys.readouterr().err)
    assert sha256_of(out) == hashlib.sha256(ONE).hexdigest()


@pytest.mark.parametrize("name", ["table.fifo", "table.csv.gz"])
def test_a_named_pipe_is_read_once(name: str, tmp_path: Path) -> None:
    content = gzip.compress(ONE, mtime=0) if name.endswith(".gz") else ONE
    writer = piped(content, tmp_path / name)
    source = TableSource(str(tmp_path / name))
    data = Reading().read(source)
    writer.join(5)
    assert source.sha256 == hashlib.sha256(content).hexdigest()
    assert data.column_names == ("a", "b", "c", "y")
    first = np.asarray(data.values.columns[0].values)
    np.testing.assert_array_equal(first, pd.read_csv(io.BytesIO(ONE))["a"])


@pytest.mark.parametrize("kind", ["parquet", "npy", "npz"])
def test_a_pipe_of_a_format_that_is_not_text_is_refused(
    kind: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / f"t.{kind}")
    with pytest.raises(InvalidValueError, match=rf"is a pipe, but a \.{kind} file"):
        TableSource(str(tmp_path / f"t.{kind}"))


def test_memory_refuses_a_pipe(tmp_path: Path) -> None:
    writer = piped(ONE, tmp_path / "t")
    with pytest.raises(InvalidValueError, match="can be read only once"):
        Reading().read(str(tmp_path / "t"), memory=10**6)
    writer.join(5)


def test_an_endless_pipe_ends_with_a_sentence() -> None:
    with pytest.raises(InvalidValueError, match="/dev/zero has a line of over 64 MiB"):
        TableSource("/dev/zero")


def test_closed_standard_input_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m descents train - --target y --out "$1" <&-',
         sys.executable, str(tmp_path / "run")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert error_of(done.stderr) == "descents: standard input is closed; give a file."
    assert not (tmp_path / "run").exists()


def content_of(path: Path) -> bytes:
    return ONE if path.name.startswith("one.") else OTHER


def csv(path: Path) -> None:
    path.write_bytes(content_of(path))


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(content_of(path), mtime=0))


def frame_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content_of(path)))


def npz(path: Path) -> None:
    np.savez(path, X=frame_of(path)[["a", "b", "c"]].to_numpy())


def npy(path: Path) -> None:
    np.save(path, frame_of(path)[["a", "b", "c"]].to_numpy())


def parquet(path: Path) -> None:
    frame_of(path)[["a", "b", "c"]].to_parquet(path)


@pytest.mark.parametrize(
    ("ending", "write"),
    [
        ("csv", csv),
        ("csv.gz", packed),
        ("npz", npz),
        ("npy", npy),
        ("parquet", parquet),
    ],
)
def test_a_file_that_changed_between_runs_is_refused(
    ending: str, write: Callable[[Path], None], tmp_path: Path, capsys: Any
) -> None:
    one, other = (tmp_path / f"{name}.{ending}" for name in ("one", "other"))
    write(one)
    write(other)
    renamed, out = tmp_path / f"renamed.{ending}", str(tmp_path / "run")
    words = ["--rank", "1", "--out", out, "--quiet"]
    assert main(["factorize", str(one), *words]) == 0
    os.link(one, renamed)  # another name of the same bytes is the same table
    assert main(["factorize", str(renamed), *words, "--resume"]) == 0
    capsys.readouterr()
    os.replace(other, one)
    assert main(["factorize", str(one), *words, "--resume"]) == 2
    assert "contains another run" in error_of(capsys.readouterr().err)


def test_the_end_of_a_name_decides_how_it_is_read(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "t.csv").write_bytes(ONE)
    (tmp_path / "t.tsv").write_bytes(ONE)
    words = ["--rank", "1", "--out", str(tmp_path / "run"), "--quiet"]
    assert main(["factorize", str(tmp_path / "t.csv"), *words]) == 0
    assert main(["factorize", str(tmp_path / "t.tsv"), *words, "--resume"]) == 2
    assert "table 't.csv', not 't.tsv'" in error_of(capsys.readouterr().err)


@pytest.mark.parametrize("memory", [None, 10**6])
def test_a_file_that_changes_while_it_is_read_is_refused(
    memory: int | None, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    path = tmp_path / "one.npy"
    npy(path)
    from descents.tables import arrays, blocks

    name = "read_arrays" if memory is None else "TableOnDisk"
    room = "descents.tables.files" if memory is None else "descents.runs.request"
    read = getattr(arrays if memory is None else blocks, name)

    def changed(*given: Any, **options: Any) -> Any:
        os.utime(path, ns=(1, 1))  # as a program that writes it would
        return read(*given, **options)

    monkeypatch.setattr(f"{room}.{name}", changed)
    words = ["--rank", "1", "--out", str(tmp_path / "run")]
    words += [] if memory is None else ["--memory", "1MB", "--held-out", "0"]
    assert main(["factorize", str(path), *words, "--quiet"]) == 2
    assert "one.npy changed while it was read" in error_of(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_compare_says_that_tables_of_pipes_differ(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    for name, content in (("a", ONE), ("b", OTHER), ("c", ONE)):
        words = ("train", "-", *TRAIN, "--out", str(tmp_path / name))
        more = ("--seed", "0") if name != "c" else ("--learning-rate", "0.1")
        assert with_input(content, monkeypatch, *words, *more) == 0
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json",
                 "--out", str(tmp_path / "ab")]) == 0  # fmt: skip
    differing = json.loads(capsys.readouterr().out)
    assert any("different tables or targets" in one for one in differing["warnings"])
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "c"), "--json",
                 "--out", str(tmp_path / "ac")]) == 0  # fmt: skip
    same = json.loads(capsys.readouterr().out)
    assert not any("different tables" in one for one in same["warnings"])
    assert "start by start" in same["how"]
    assert "start by start" not in differing["how"]


def test_compare_does_not_pair_runs_that_stored_no_hash(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    for name, content in (("a", ONE), ("b", OTHER)):
        words = ("train", "-", *TRAIN, "--out", str(tmp_path / name))
        assert with_input(content, monkeypatch, *words) == 0
        path = tmp_path / name / "result.json"  # as an earlier version left it
        stored = json.loads(path.read_text())
        stored["run"]["sha256"] = ""
        path.write_text(json.dumps(stored))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json",
                 "--out", str(tmp_path / "ab")]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert any("not known whether the tables are" in one for one in found["warnings"])
    assert "start by start" not in found["how"]


def test_apply_stores_the_hash_of_what_it_read(
    tmp_path: Path, monkeypatch: Any
) -> None:
    assert with_input(ONE, monkeypatch, "factorize", "-", "--rank", "1", "--out",
                      str(tmp_path / "run")) == 0  # fmt: skip
    words = ("apply", str(tmp_path / "run"), "-", "--out", str(tmp_path / "new"))
    assert with_input(OTHER, monkeypatch, *words, "--unseen", "missing") == 0
    assert sha256_of(tmp_path / "new") == hashlib.sha256(OTHER).hexdigest()
