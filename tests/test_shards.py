"""Shards of a run, and the run that they are joined to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import made_once
from descents import Stop
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.networks import Network
from descents.optim.spans import Shard, chunked

OPTIONS = ["--target", "kind", "--starts", "90", "--epochs", "6", "--hidden", "4"]
OPTIONS += ["--learning-rate", "0.01", "--learning-rate", "0.1", "--diagnose", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with a table, a run in one piece, and one in three shards."""

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
        frame["kind"] = np.where(frame["a"] + frame["b"] > 0, "p", "q")
        frame.to_csv(folder / "t.csv", index=False)
        words = ["train", str(folder / "t.csv"), *OPTIONS, "--quiet", "--out"]
        assert main([*words, str(folder / "whole")]) == 0
        for k in (1, 2, 3):
            place = str(folder / "shards")
            assert main([*words, place, "--shard", f"{k}/3"]) == 0

    return made_once(tmp_path_factory, "shards", make)


def results(run: Path) -> tuple[dict, pd.DataFrame]:
    result = json.loads((run / "result.json").read_text())
    del result["seconds"]
    rows = pd.read_parquet(run / "starts.parquet")
    return result, rows[[n for n in rows if not n.startswith("seconds")]]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("starts", [1, 2, 65, 200])
def test_shards_have_every_chunk_once(count: int, starts: int) -> None:
    width, edges = 16, (0, 1, 8)
    parts = [Shard(k, count).starts(starts, width, edges) for k in range(1, count + 1)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(starts))
    whole = {tuple(chunk) for chunk in chunked(np.arange(starts), width, edges)}
    found = [
        tuple(c) for part in parts if len(part) for c in chunked(part, width, edges)
    ]
    assert set(found) == whole
    assert len(found) == len(whole)
    sizes = [len(chunked(p, width, edges)) if len(p) else 0 for p in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_shard_has_a_number_from_one_to_the_count() -> None:
    for number, count in ((0, 2), (3, 2), (-1, 1)):
        with pytest.raises(InvalidValueError, match=r"give K/N with K from 1 to N"):
            Shard(number, count)


def test_joined_shards_are_the_run_in_one_piece(made: Path, tmp_path: Path) -> None:
    files = sorted(path.name for path in (made / "shards").iterdir())
    assert files == [f"shard-{k}-of-3.zip" for k in (1, 2, 3)]
    joined = tmp_path / "joined"
    # the order of the files does not matter, nor whether one is given twice
    places = [str(made / "shards" / name) for name in reversed(files)]
    assert main(["merge", *places, places[0], "--out", str(joined), "--quiet"]) == 0
    first, second = results(made / "whole"), results(joined)
    assert first[0] == second[0]
    pd.testing.assert_frame_equal(first[1], second[1])
    assert sorted(p.name for p in joined.iterdir()) == sorted(
        p.name for p in (made / "whole").iterdir()
    )


def test_a_finished_shard_is_not_trained_again(made: Path, capsys) -> None:
    path = made / "shards" / "shard-2-of-3.zip"
    before = path.read_bytes(), path.stat().st_mtime_ns
    words = ["train", str(made / "t.csv"), *OPTIONS, "--shard", "2/3"]
    assert main([*words, "--out", str(made / "shards"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"shard": "2/3", "file": str(path)}
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert main([*words, "--seed", "5", "--out", str(made / "shards")]) == 2
    assert "of another run" in capsys.readouterr().err


def refused(capsys, *words: str) -> str:
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    return str(said.err)


def test_what_cannot_be_joined_is_refused(made: Path, tmp_path: Path, capsys) -> None:
    shards, out = made / "shards", ["--out", str(tmp_path / "out")]
    one, two = str(shards / "shard-1-of-3.zip"), str(shards / "shard-2-of-3.zip")
    assert "of 3 shards, 3 is missing" in refused(capsys, "merge", one, two, *out)
    empty = tmp_path / "empty"
    empty.mkdir()
    says = refused(capsys, "merge", str(empty), str(tmp_path / "nowhere"), *out)
    assert "has no shards" in says
    assert "nowhere does not exist" in says
    other = tmp_path / "other"
    words = ["train", str(made / "t.csv"), *OPTIONS, "--seed", "1", "--quiet"]
    assert main([*words, "--shard", "1/3", "--out", str(other)]) == 0
    says = refused(capsys, "merge", str(shards), str(other), *out)
    assert "of another run than" in says
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("")
    says = refused(capsys, "merge", str(shards), "--out", str(full))
    assert "is not empty" in says
    assert not (tmp_path / "out").exists()
    changed = tmp_path / "t.csv"
    changed.write_text((made / "t.csv").read_text().replace("p", "r"))
    says = refused(capsys, "merge", str(shards), "--table", str(changed), *out)
    assert "is not the table of the shards" in says
    assert not (tmp_path / "out").exists()
    absent = str(tmp_path / "absent.csv")
    says = refused(capsys, "merge", str(shards), "--table", absent, *out)
    assert "there is no file" in says
    assert not (tmp_path / "out").exists()
    # a shard of another run is refused before it is trained
    words = ["train", str(made / "t.csv"), *OPTIONS, "--quiet"]
    place = ["--out", str(other)]
    assert "is shard 1/3 of another run" in refused(
        capsys, *words, "--shard", "2/3", *place
    )
    words += ["--seed", "1"]
    assert "is shard 1/3 of another run" in refused(
        capsys, *words, "--shard", "2/4", *place
    )


@pytest.mark.parametrize("damage", ["cut", "text", "facts", "chunk", "name", "packed"])
def test_a_damaged_shard_is_refused(made: Path, tmp_path: Path, capsys, damage) -> None:
    good = made / "shards" / "shard-1-of-3.zip"
    bad = tmp_path / "shard-1-of-3.zip"
    content = good.read_bytes()
    if damage == "cut":
        bad.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        bad.write_text("no zip file")
    else:
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w") as new:
            names = old.namelist()
            facts = json.loads(old.read("shard.json"))
            for place, name in enumerate(n for n in names if n != "shard.json"):
                data, kind = old.read(name), zipfile.ZIP_STORED
                if damage == "chunk" and place == 0:
                    data = data[:-8] + bytes(8)
                if damage == "packed":
                    kind = zipfile.ZIP_DEFLATED
                if damage == "name" and place == 0:
                    facts["chunks"]["../x.safetensors"] = facts["chunks"].pop(name)
                listed = "../x.safetensors" if damage == "name" and place == 0 else name
                new.writestr(zipfile.ZipInfo(listed), data, kind)
            if damage == "facts":
                facts["chunks"] = 3
            new.writestr("shard.json", json.dumps(facts))
    others = [str(made / "shards" / f"shard-{k}-of-3.zip") for k in (2, 3)]
    out = tmp_path / "out"
    says = refused(capsys, "merge", str(bad), *others, "--out", str(out))
    assert re.search(r"damaged", says)
    assert not out.exists()
    assert not (tmp_path / "x.safetensors").exists()


def test_options_that_shards_need(made: Path, tmp_path: Path, capsys) -> None:
    table = str(made / "t.csv")
    says = refused(capsys, "train", table, *OPTIONS, "--shard", "1/3")
    assert "--shard needs --out" in says
    out = ["--out", str(tmp_path / "x")]
    for wrong in ("0/3", "4/3", "3", "a/b", "1/0"):
        says = refused(capsys, "train", table, *OPTIONS, "--shard", wrong, *out)
        assert "is no shard; give K/N with K from 1 to N" in says
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    says = refused(capsys, "train", str(pipe), "--target", "1", "--shard", "1/3", *out)
    assert "a pipe can be read only once" in says


def test_shards_of_a_factorization(made: Path, tmp_path: Path, capsys) -> None:
    """The starts are those of one command, and so is everything else."""
    rng = np.random.default_rng(3)
    table = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 6))
    table[rng.random(table.shape) < 0.1] = np.nan
    path = tmp_path / "holes.csv"
    pd.DataFrame(table, columns=list("abcdef")).to_csv(path, index=False)
    words = ["factorize", str(path), "--rank", "2", "--starts", "40", "--loss", "huber"]
    words += ["--max-iter", "30", "--quiet"]
    for k in (1, 2, 3):
        assert main([*words, "--shard", f"{k}/3", "--out", str(tmp_path / "s")]) == 0
    files = sorted(one.name for one in (tmp_path / "s").iterdir())
    assert files == [f"shard-{k}-of-3.zip" for k in (1, 2, 3)]
    again = [*words[:-1], "--shard", "2/3", "--out", str(tmp_path / "s"), "--json"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["shard"] == "2/3"
    out = ["--out", str(tmp_path / "joined"), "--quiet"]
    assert main(["merge", str(tmp_path / "s"), *out]) == 0
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    first, second = results(tmp_path / "whole"), results(tmp_path / "joined")
    assert first[0] == second[0]
    pd.testing.assert_frame_equal(first[1], second[1])
    for option in (["--memory", "1GB"], ["--impute", str(tmp_path / "f.csv")]):
        says = refused(
            capsys, *words, *option, "--shard", "1/3", "--out", str(tmp_path / "x")
        )
        assert f"{option[0]} is for a whole run" in says


def test_more_shards_than_chunks(made: Path, tmp_path: Path) -> None:
    words = ["train", str(made / "t.csv"), "--target", "kind", "--starts", "2"]
    words += ["--epochs", "3", "--hidden", "3", "--diagnose", "0", "--quiet"]
    for k in range(1, 6):
        assert main([*words, "--shard", f"{k}/5", "--out", str(tmp_path / "s")]) == 0
    out = ["--out", str(tmp_path / "joined"), "--quiet"]
    assert main(["merge", str(tmp_path / "s"), *out]) == 0
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    first, second = results(tmp_path / "whole"), results(tmp_path / "joined")
    assert first[0] == second[0]
    pd.testing.assert_frame_equal(first[1], second[1])


@pytest.mark.slow
def test_a_killed_shard_is_continued(made: Path, tmp_path: Path) -> None:
    """What was finished before is not trained again, and the file is the same."""
    words = ["train", str(made / "t.csv"), *OPTIONS, "--shard", "1/3", "--quiet"]
    words[words.index("--epochs") + 1] = "400"
    place = tmp_path / "shards"
    command = [sys.executable, "-m", "descents", *words, "--out", str(place)]
    process = subprocess.Popen(command)
    stages = place / ".shard-1-of-3" / ".partial" / "stages"
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(stages.glob("[!.]*.safetensors")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (place / "shard-1-of-3.zip").exists():  # else it was too quick
        kept = {path.name: path.stat().st_mtime_ns for path in stages.iterdir()}
        assert kept
    assert main([*words, "--out", str(place)]) == 0
    assert [path.name for path in place.iterdir()] == ["shard-1-of-3.zip"]
    other = tmp_path / "other"
    assert main([*words, "--out", str(other)]) == 0

    def chunks(path: Path) -> list[str]:
        with zipfile.ZipFile(path) as archive:
            return sorted(json.loads(archive.read("shard.json"))["chunks"])

    assert chunks(place / "shard-1-of-3.zip") == chunks(other / "shard-1-of-3.zip")


def test_a_shard_in_python_leaves_its_starts_in_the_store() -> None:
    """`descend` of the starts of a shard saves the chunks that all starts would have."""
    from descents import descend

    rng = np.random.default_rng(1)
    problem = Network(rng.normal(size=(20, 3)), np.arange(20) % 2, [3])
    stored: dict[str, object] = {}

    class Store:
        def get(self, name: str):
            return stored.get(name)

        def put(self, name: str, runs) -> None:
            stored[name] = runs

    whole = descend(problem, 150, stop=Stop(4))
    for k in (1, 2, 3):
        numbers = Shard(k, 3).starts(150, problem.width, problem.edges)
        descend(problem, numbers, stop=Stop(4), store=Store())
    calls = dict(stored)
    joined = descend(problem, 150, stop=Stop(4), store=Store())
    assert stored == calls  # nothing was computed again
    np.testing.assert_array_equal(joined.losses, whole.losses)
