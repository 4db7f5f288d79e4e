"""Nothing that was computed is lost: full disks, closed streams, names, limits."""

from __future__ import annotations

import builtins
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pandas as pd
import pytest

from conftest import FEW, error_of, some
from descents.cli.main import main
from descents.errors import RunFolderError
from descents.storage import files
from descents.storage.files import check_space, read_json, read_table, write_bytes
from descents.storage.run_folders import RESULT


class FullDisk:
    """Fails with ENOSPC at one point where files are written, and counts the points."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, below: Path) -> None:
        self.below, self.at, self.count = below, -1, 0
        for module, name in ((os, "fsync"), (os, "replace"), (os, "mkdir")):
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))
        opened = builtins.open

        def counting_open(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            writes = isinstance(path, Path) and "w" in mode and self.mine(path)
            if not writes:
                return opened(path, mode, *rest, **more)
            self.pass_by()
            return Counted(opened(path, mode, *rest, **more), self)

        monkeypatch.setattr(builtins, "open", counting_open)

    def mine(self, path: Any) -> bool:
        return str(path).startswith(str(self.below))

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(first: Any, *rest: Any, **more: Any) -> Any:
            made = function.__name__ == "mkdir" and os.path.isdir(first)
            if isinstance(first, int) or (self.mine(first) and not made):
                self.pass_by()
            return function(first, *rest, **more)

        return counting

    def pass_by(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_at(self, point: int) -> None:
        self.at, self.count = point, 0


class Counted:
    """A file whose writes are counted."""

    def __init__(self, file: IO[bytes], disk: FullDisk) -> None:
        self.file, self.disk = file, disk

    def write(self, content: bytes) -> int:
        self.disk.pass_by()
        return self.file.write(content)

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table, and a run of each command on it."""
    # If torch is loaded, pages are drawn in this process, whose writes fail.
    import torch  # noqa: F401

    place = tmp_path_factory.mktemp("full")
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(16, 3)), columns=["a", "b", "c"])
    frame["y"] = np.where(frame["a"] > 0, "yes", "no")
    frame.to_csv(place / "table.csv", index=False)
    holes = frame.drop(columns="y").mask(generator.random((16, 3)) < 0.15)
    holes.to_csv(place / "holes.csv", index=False)
    return place


COMMANDS = {
    "factorize": ("factorize", "{holes}", "--rank", "1", "--impute", "{filled}"),
    "impute": ("impute", "{holes}", "{filled}"),
    "train": ("train", "{table}", "--target", "y", "--starts", "3", "--hidden", "2",
              "--epochs", "2"),
    "reproduce": ("reproduce", *FEW),
}  # fmt: skip
POINTS = 64
"""More than the points at which a command with a small run writes."""


def words_of(command: str, place: Path, out: Path) -> list[str]:
    places = {"table": place / "table.csv", "holes": place / "holes.csv"}
    places["filled"] = out.with_suffix(".csv")
    words = [word.format(**places) for word in COMMANDS[command]]
    return [*words, "--out", str(out), "--quiet"]


@pytest.fixture(scope="module")
def whole(place: Path) -> Callable[[str], Path]:
    """Return a function that returns an undisturbed run of a command."""

    def made(command: str) -> Path:
        out = place / command
        if not out.exists():
            assert main(words_of(command, place, out)) == 0
        return out

    return made


def same(one: Path, two: Path) -> bool:
    """Return whether two runs and their filled tables are equal, but for their time."""
    results = [read_json(place / RESULT) for place in (one, two)]
    rows = [read_table(place / "starts.parquet") for place in (one, two)]
    for found in (*results, *rows):
        found.pop("seconds", None)
    filled = [place.with_suffix(".csv") for place in (one, two)]
    texts = [path.read_bytes() for path in filled if path.exists()]
    names = [sorted(path.name for path in place.iterdir()) for place in (one, two)]
    return (
        json.dumps(results[0]) == json.dumps(results[1])
        and all(
            (rows[0][n].astype(str) == rows[1][n].astype(str)).all() for n in rows[0]
        )
        and len(texts) in (0, 2)
        and len(set(texts)) == len(texts) // 2
        and names[0] == names[1]
    )


def temporaries(place: Path) -> list[Path]:
    return [path for path in place.rglob(".*") if path.name != ".partial"]


def tried(
    command: str, points: range, place: Path, whole: Any, tmp_path: Path, capsys: Any
) -> Iterator[int]:
    """Run a command on a disk that is full at one point; yield the points it reached."""
    expected = whole(command)
    for point in points:
        out = tmp_path / f"run{point}"
        with pytest.MonkeyPatch.context() as patch:
            disk = FullDisk(patch, tmp_path)
            disk.full_at(point)
            capsys.readouterr()
            code = main(words_of(command, place, out))
            says = capsys.readouterr().err
        if disk.count < point:
            assert code == 0
            return
        yield point
        assert code == 2, (point, says)
        assert "No space left on device" in error_of(says), point
        assert not temporaries(tmp_path), point
        if out.exists():  # else not even the folder could be made
            assert "--resume --out" in says, (point, says)
        assert main([*words_of(command, place, out), "--resume"]) == 0, point
        assert same(out, expected), point


@pytest.mark.parametrize("command", some(["factorize", "impute", "train"], 0))
def test_no_point_where_a_full_disk_loses_the_fit(
    command: str, place: Path, whole: Any, tmp_path: Path, capsys: Any
) -> None:
    points = range(1, POINTS)
    reached = list(tried(command, points, place, whole, tmp_path, capsys))
    assert 20 < len(reached) < POINTS - 1


@pytest.mark.parametrize("command", ["factorize", "impute", "train"])
@pytest.mark.parametrize("point", [3, 9, 25])
def test_a_full_disk_loses_nothing(
    command: str, point: int, place: Path, whole: Any, tmp_path: Path, capsys: Any
) -> None:
    points = range(point, point + 1)
    assert list(tried(command, points, place, whole, tmp_path, capsys)) == [point]


@pytest.mark.slow
@pytest.mark.parametrize("point", [5, 40, 75, 110])
def test_a_full_disk_loses_nothing_of_a_report(
    point: int, place: Path, whole: Any, tmp_path: Path, capsys: Any
) -> None:
    points = range(point, point + 1)
    assert list(tried("reproduce", points, place, whole, tmp_path, capsys)) == [point]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compare", "apply", "report"])
def test_a_full_disk_leaves_nothing_of_commands_without_resume(
    command: str, place: Path, whole: Any, tmp_path: Path, capsys: Any
) -> None:
    run, out = str(whole("train")), str(tmp_path / "new")
    words = {
        "compare": ["compare", run, run, "--out", out],
        "apply": ["apply", run, str(place / "table.csv"), "--out", out],
        "report": ["report", run, "--out", out, "--figures", "png"],
    }[command]
    for point in range(1, POINTS):
        with pytest.MonkeyPatch.context() as patch:
            disk = FullDisk(patch, tmp_path)
            disk.full_at(point)
            code = main([*words, "--quiet"])
            says = capsys.readouterr().err
        if disk.count < point:
            assert code == 0
            assert point > 4
            return
        assert code == 2, (point, says)
        assert "No space left on device" in error_of(says)
        assert not temporaries(tmp_path), point
        assert command == "report" or not Path(out).exists(), point


STREAMS = {
    "a full disk": "> /dev/full",
    "a closed output": ">&-",
    "closed output and errors": ">&- 2>&-",
    "everything closed": "<&- >&- 2>&-",
    "full disks": "> /dev/full 2> /dev/full",
}


def shell(line: str, *words: str, **environment: str) -> Any:
    return subprocess.run(
        ["sh", "-c", f'"$0" -m descents "$@" {line}', sys.executable, *words],
        capture_output=True, timeout=120, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("line", some(STREAMS.values(), 1))
def test_output_that_cannot_be_written_loses_no_fit(
    line: str, place: Path, whole: Any, tmp_path: Path
) -> None:
    words = words_of("train", place, tmp_path / "run")[:-1]
    done = shell(line, *words)
    assert done.returncode == 2
    if "2>" not in line:
        *_, says = done.stderr.decode().splitlines()
        assert says.startswith("descents: standard output could not be written (")
        assert b"Traceback" not in done.stderr
    assert same(tmp_path / "run", whole("train"))


@pytest.mark.slow
def test_errors_that_nobody_reads_end_nothing(
    place: Path, whole: Any, tmp_path: Path
) -> None:
    words = words_of("train", place, tmp_path / "run")[:-1]
    assert shell("2> /dev/full > /dev/null", *words).returncode == 0
    assert same(tmp_path / "run", whole("train"))


@pytest.mark.parametrize("language", some([
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LANG": "C"},
], 1))  # fmt: skip
def test_any_language_and_any_name(language: dict[str, str], tmp_path: Path) -> None:
    """Neither the table nor the places for results have names in UTF-8."""
    names = [
        os.fsdecode(name) for name in (b"t\xff.csv", b"f\xff.csv", b"r\xff\xc3\xa9")
    ]
    table, filled, out = (tmp_path / name for name in names)
    table.write_text("é,b\n1,2\n2,\n3,6\n4,8\n,10\n6,12\n", encoding="utf-8")
    done = shell("", "impute", str(table), str(filled), "--out", str(out), **language)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    assert len(pd.read_csv(filled).dropna()) == 6
    again = shell("", "report", str(out), **language)
    assert again.returncode == 0, again.stderr


def test_names_of_every_length_that_a_folder_can_hold(tmp_path: Path) -> None:
    for length in (1, 199, 200, 245, 255):
        path = tmp_path / ("n" * length)
        write_bytes(path, b"x", alone=True)
        assert path.read_bytes() == b"x"
    assert not temporaries(tmp_path)


def test_what_a_killed_process_left_of_a_file_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".f.csv.{ended.pid}"
    others = [tmp_path / f".f.csv.{os.getppid()}", tmp_path / ".f.csv.backup"]
    for path in (left, *others):
        path.touch()
    write_bytes(tmp_path / "f.csv", b"x", alone=True)
    assert sorted(path.name for path in temporaries(tmp_path)) == sorted(
        path.name for path in others
    )


def test_a_disk_without_space_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n2,5\n3,5\n")
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000)
    )
    import descents.lowrank.fitting

    monkeypatch.setattr(descents.lowrank.fitting, "fit", None)  # not called
    words = ["factorize", str(tmp_path / "t.csv"), "--rank", "1", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "has 1000 bytes left, but a run takes" in error_of(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_space_that_cannot_be_measured_is_not_refused(monkeypatch: Any) -> None:
    def unknown(_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(files.shutil, "disk_usage", unknown)
    check_space(Path("/"))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(RunFolderError, match="has 0 bytes left"):
        check_space(Path("/"))


# Memory


def limited(kilobytes: int, *words: str) -> Any:
    return subprocess.run(
        ["sh", "-c", f'ulimit -v {kilobytes}; exec "$0" -m descents "$@"',
         sys.executable, *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("megabytes", some([500, 200, 800, 950, 1100], 1))
def test_a_limit_on_memory_is_said_to_be_one(
    megabytes: int, place: Path, tmp_path: Path
) -> None:
    done = limited(
        1000 * megabytes, *words_of("train", place, tmp_path / "run"), "--workers", "1"
    )
    if done.returncode == 0:  # it is enough on this machine
        return
    assert "Traceback" not in done.stderr
    assert "delimiter" not in done.stderr
    ended = "OpenBLAS" in done.stderr or "bad_alloc" in done.stderr  # by a library
    says = error_of(done.stderr)
    if (
        not ended and done.returncode == 2
    ):  # it is clear before the libraries are loaded
        assert says.startswith("descents: the limit of memory leaves ")
    elif not ended:
        assert done.returncode == 4
        assert says.startswith("descents: memory ran out; give fewer")


def test_threads_that_cannot_be_started_are_no_missing_delimiter(
    place: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    import pyarrow.csv

    def failing(*_: Any, **__: Any) -> None:
        says = "Failed to launch worker thread: Resource temporarily unavailable"
        raise OSError("Unknown error: " + says)

    monkeypatch.setattr(pyarrow.csv, "read_csv", failing)
    assert main(words_of("train", place, tmp_path / "run")) == 2
    says = error_of(capsys.readouterr().err)
    assert says.startswith("descents: there is not enough memory to read")
    assert "delimiter" not in says


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((10**12,), np.dtype(float)),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: 4 bytes"
        ),
        RuntimeError("can't start new thread"),
        ImportError("lib.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_runs_out_is_one_sentence(
    error: Exception, place: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("descents.runs.train.diagnosed", failing)
    out = tmp_path / "run"
    assert main(words_of("train", place, out)) == 4
    says = error_of(capsys.readouterr().err)
    assert says.startswith("descents: memory ran out")
    assert f"parts are kept: continue with --resume --out {out}" in says
    monkeypatch.undo()
    assert main([*words_of("train", place, out), "--resume"]) == 0


def test_a_network_that_is_too_large_names_its_option(
    place: Path, tmp_path: Path, capsys: Any
) -> None:
    words = words_of("train", place, tmp_path / "run")
    words[words.index("--hidden") + 1] = "100000,100000,100000"
    assert main(words) == 2
    says = error_of(capsys.readouterr().err)
    # 3 inputs and 2 classes: 4 * 1e5 + 2 * 100001 * 1e5 + 100001 * 2 weights
    assert "--hidden is 100000,100000,100000, which makes 20000800002 weights" in says
    assert "give fewer or smaller layers" in says
    assert not (tmp_path / "run").exists()


# Files that are none


@pytest.mark.parametrize("command", ["impute", "factorize"])
def test_a_pipe_is_not_replaced_by_a_filled_table(
    command: str, tmp_path: Path, capsys: Any
) -> None:
    table, pipe = tmp_path / "t.csv", tmp_path / "pipe.csv"
    rows = "".join(f"{k},{k % 7}.5\n" for k in range(60))
    table.write_text(f"a,b\n,1.5\n{rows}")
    os.mkfifo(pipe)
    words = [command, str(table), "--out", str(tmp_path / "run"), "--quiet"]
    words += [str(pipe)] if command == "impute" else ["--rank", "1"]
    words += [] if command == "impute" else ["--impute", str(pipe)]
    assert main(words) == 2
    assert "a device or a pipe; give the name of a file" in capsys.readouterr().err
    assert pipe.is_fifo()
    assert not (tmp_path / "run").exists()


def test_a_link_is_followed(tmp_path: Path) -> None:
    table, real, link = (tmp_path / name for name in ("t.csv", "real.csv", "link.csv"))
    rows = "".join(f"{k},{k % 7}.5\n" for k in range(60))
    table.write_text(f"a,b\n,1.5\n{rows}")
    real.write_text("old")
    link.symlink_to(real)
    words = ["impute", str(table), str(link), "--out", str(tmp_path / "r"), "--quiet"]
    assert main(words) == 0
    assert link.is_symlink()
    assert real.read_text().startswith("a,b\n")
