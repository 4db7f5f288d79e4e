"""Run folders: whole or absent, locked, resumed, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import run_python
from descents.errors import InterruptedRunError, RunFolderError
from descents.storage import run_folders as storage
from descents.storage.files import read_json, read_table, read_tensors, write_bytes
from descents.storage.run_folders import RESULT, RunFolder
from descents.storage.values import json_text

ME = {"command": "test", "starts": 3}


def finished(path: Path) -> None:
    with RunFolder(path, ME) as folder:
        folder.write_json(RESULT, {"run": ME})
        folder.finish()


def test_a_finished_folder_holds_only_what_was_written(tmp_path) -> None:
    place = tmp_path / "deep" / "run"
    with RunFolder(place, ME) as folder:
        folder.stage("part").write_text("dropped")
        folder.write_table(
            "rows.parquet", {"a": np.arange(3), "b": np.array(list("xyz"))}
        )
        folder.write_tensors("t.safetensors", {"x": np.eye(2)}, {"n": 1})
        assert not (place / "rows.parquet").exists()
        folder.write_json(RESULT, {"run": ME, "nan": float("nan")})
        folder.finish()
    assert sorted(p.name for p in place.iterdir()) == [
        RESULT,
        "rows.parquet",
        "t.safetensors",
    ]
    assert read_json(place / RESULT) == {"run": ME, "nan": None}
    assert read_table(place / "rows.parquet")["b"].tolist() == ["x", "y", "z"]
    arrays, facts = read_tensors(place / "t.safetensors")
    np.testing.assert_array_equal(arrays["x"], np.eye(2))
    assert facts == {"n": 1}


def test_an_error_leaves_nothing_behind(tmp_path) -> None:
    place = tmp_path / "deep" / "run"

    def fail() -> None:
        with RunFolder(place, ME) as folder:
            folder.write_json("some.json", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_keeps_the_work_for_a_resume(tmp_path) -> None:
    place = tmp_path / "run"

    def interrupt() -> None:
        with RunFolder(place, ME) as folder:
            folder.stage("part").write_text("kept")
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        interrupt()
    with pytest.raises(RunFolderError, match="not finished; continue it with --resume"):
        RunFolder(place, ME).__enter__()
    with pytest.raises(RunFolderError, match="contains another run .starts 3, not 4"):
        RunFolder(place, {**ME, "starts": 4}, resume=True).__enter__()
    nested = {**ME, "options": {"rate": 1}}
    with pytest.raises(
        RunFolderError, match=r"run \(rate None, not 1\); give the same"
    ):
        RunFolder(place, nested, resume=True).__enter__()
    with RunFolder(place, ME, resume=True) as folder:
        assert not folder.complete
        assert folder.stage("part").read_text() == "kept"
        folder.write_json(RESULT, {"run": ME})
        folder.finish()
    assert [p.name for p in place.iterdir()] == [RESULT]


def test_a_complete_run_is_returned_at_once_by_resume_only(tmp_path) -> None:
    place = tmp_path / "run"
    finished(place)
    with RunFolder(place, ME, resume=True) as folder:
        assert folder.complete
    with pytest.raises(RunFolderError, match="is not empty .it contains result.json"):
        RunFolder(place, ME).__enter__()
    with pytest.raises(RunFolderError, match="contains another run"):
        RunFolder(place, {**ME, "starts": 4}, resume=True).__enter__()
    assert read_json(place / RESULT) == {"run": ME}


def test_resume_of_nothing_begins_afresh(tmp_path) -> None:
    with RunFolder(tmp_path / "run", ME, resume=True) as folder:
        assert not folder.complete
        folder.write_json(RESULT, {})
        folder.finish()
    assert (tmp_path / "run" / RESULT).exists()


@pytest.mark.parametrize("inside", ["notes.txt", "starts.parquet"])
def test_a_folder_with_anything_else_is_refused_and_left_alone(
    tmp_path, inside
) -> None:
    (tmp_path / inside).write_text("mine")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match=f"not empty .it contains {inside}"):
            RunFolder(tmp_path, ME, resume=resume).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == [inside]


def test_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match="is a file; give --out a folder"):
        RunFolder(tmp_path / "file", ME).__enter__()
    with pytest.raises(RunFolderError, match="cannot be written: Not a directory"):
        RunFolder(tmp_path / "file" / "run", ME).__enter__()


def test_two_at_once_are_refused(tmp_path) -> None:
    place = tmp_path / "run"
    with RunFolder(place, ME) as folder:
        code = (
            "from descents.storage.run_folders import RunFolder\n"
            "from descents.errors import RunFolderError\n"
            f"try: RunFolder({str(place)!r}, {ME!r}, resume=True).__enter__()\n"
            "except RunFolderError as error: print(error)\n"
        )
        other = run_python(code)
        assert "another process is working in" in other.stdout
        assert (folder.work / storage.IDENTITY).exists()
        folder.write_json(RESULT, {})
        folder.finish()


def test_advice_on_a_file_that_cannot_be_written_fits_the_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for path, advice in (
        (tmp_path / "absent" / "a", "its folder does not exist or takes no new files"),
        (tmp_path / "file" / "a", "its folder does not exist or takes no new files"),
        (tmp_path / ("a" * 300), "give a shorter name"),
    ):
        with pytest.raises(RunFolderError, match=advice) as caught:
            write_bytes(path, b"x")
        assert "free some space" not in str(caught.value)


def test_a_full_disk_is_one_sentence_and_keeps_what_was_written(tmp_path) -> None:
    """A limit on file size stands for a full disk: the write fails in the middle."""
    code = (
        "import resource, sys\n"
        "from descents.storage.run_folders import RunFolder, write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        f"with RunFolder({str(tmp_path / 'run')!r}, {ME!r}) as folder:\n"
        "    write_bytes(folder.work / 'small', b'x' * 100)\n"
        "    write_bytes(folder.work / 'large', b'x' * 400_000)\n"
    )
    done = run_python(code)
    assert "RunFolderError: could not write" in done.stderr
    assert "File too large; raise the limit on the size of files" in done.stderr
    assert "continue with --resume --out" in done.stderr
    there = sorted(path.name for path in (tmp_path / "run" / ".partial").iterdir())
    assert there == ["run.json", "small", "stages"]
    with RunFolder(tmp_path / "run", ME, resume=True) as folder:
        folder.write_json(RESULT, {"run": ME})
        folder.finish()
    assert read_json(tmp_path / "run" / RESULT) == {"run": ME}


def test_an_end_while_files_are_moved_up_is_resumed(tmp_path) -> None:
    place = tmp_path / "run"
    folder = RunFolder(place, ME)
    folder.__enter__()
    folder.write_json("a.json", {})
    folder.write_json(RESULT, {"run": ME})
    (folder.work / ".half.json.123").write_text("half")
    (folder.work / "a.json").rename(place / "a.json")
    folder.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with RunFolder(place, ME, resume=True) as again:
        again.write_json("a.json", {"new": 1})
        again.finish()
    assert sorted(p.name for p in place.iterdir()) == ["a.json", RESULT]
    assert read_json(place / "a.json") == {"new": 1}


def test_a_disk_that_is_full_from_the_start_leaves_nothing(tmp_path) -> None:
    code = (
        "import resource\n"
        "from descents.storage.run_folders import RunFolder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))\n"
        f"RunFolder({str(tmp_path / 'run')!r}, {ME!r}).__enter__()\n"
    )
    done = run_python(code)
    assert "RunFolderError: a process may write files of 4 bytes here" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_resumed_run_keeps_what_was_finished(tmp_path) -> None:
    place = tmp_path / "run"

    def end(error: Exception, *, resume: bool) -> None:
        with RunFolder(place, ME, resume=resume) as folder:
            folder.stage("part").write_text("kept")
            raise error

    with pytest.raises(InterruptedRunError):
        end(InterruptedRunError(), resume=False)
    with pytest.raises(RunFolderError):
        end(RunFolderError("the disk is full"), resume=True)
    with RunFolder(place, ME, resume=True) as folder:
        assert folder.stages == 1
        folder.write_json(RESULT, {})
        folder.finish()


def test_a_pipe_that_nobody_reads_keeps_only_finished_parts(tmp_path) -> None:
    def end(place: Path, *parts: str) -> None:
        with RunFolder(place, ME) as folder:
            for part in parts:
                folder.stage(part).write_text("kept")
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        end(tmp_path / "without")
    with pytest.raises(BrokenPipeError):
        end(tmp_path / "with", "part")
    assert [path.name for path in tmp_path.iterdir()] == ["with"]


def test_files_that_were_moved_up_are_moved_again(tmp_path) -> None:
    """A fit whose page was drawn is complete wherever its files are."""
    place = tmp_path / "run"
    folder = RunFolder(place, ME)
    folder.__enter__()
    for name in ("a.json", "b.json", RESULT):
        folder.write_json(name, {"run": ME})
    (folder.work / "a.json").rename(place / "a.json")
    folder.__exit__(OSError, OSError(28, "No space left on device"), None)
    with RunFolder(place, ME, resume=True) as again:
        assert again.fitted
        assert (again.work / "a.json").exists()
        again.finish()
    assert sorted(p.name for p in place.iterdir()) == ["a.json", "b.json", RESULT]


def test_plain_is_json() -> None:
    value = {"a": (np.int64(1), np.float32("inf")), 2: np.array([[True]])}
    assert json.loads(json_text(value)) == {"a": [1, None], "2": [[True]]}


def test_damaged_files_are_refused(tmp_path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(RunFolderError, match="not a JSON object"):
        read_json(tmp_path / "list.json")
    (tmp_path / "rows.parquet").write_text("no table")
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_table(tmp_path / "rows.parquet")
