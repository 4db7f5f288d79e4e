"""`descents factorize` under torchrun: processes that talk by gloo over loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from conftest import made_once
from descents.cli.main import main
from descents.cli.processes import Voice, started

SECONDS = 240


def command(processes: int, *arguments: str) -> list[str]:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*run, "--nproc-per-node", str(processes), "-m", "descents", *arguments]


def torchrun(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(processes, *arguments),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what the processes say, without what torchrun says."""
    return [line for line in done.stderr.splitlines() if line.startswith("descents: ")]


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        generator = np.random.default_rng(3)
        table = generator.normal(size=(500, 3)) @ generator.normal(size=(3, 15))
        table += 0.4 * generator.normal(size=table.shape) + 1.0
        np.save(folder / "complete.npy", table)
        table[generator.random(table.shape) < 0.25] = np.nan
        np.save(folder / "holes.npy", table)
        frame = pd.DataFrame(table, columns=[f"c{j}" for j in range(15)])
        frame.to_parquet(folder / "holes.parquet", row_group_size=90)

    return made_once(tmp_path_factory, "distributed", make)


def test_two_processes_factorize_as_one_does(tables: Path, tmp_path: Path) -> None:
    table = str(tables / "complete.npy")
    one, two = tmp_path / "one", tmp_path / "two"
    options = [table, "--rank", "3", "--starts", "2", "--out"]
    assert main(["factorize", *options, str(one), "--quiet"]) == 0
    done = torchrun(2, "factorize", *options, str(two), "--json")
    assert done.returncode == 0, done.stderr
    assert said(done) == []
    assert json.loads(done.stdout) == result_of(two)  # only one process prints
    first, second = result_of(one), result_of(two)
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-6)
    assert second["reference"]["value"] == pytest.approx(first["reference"]["value"])
    for name in ("shape", "observed", "statuses", "iterations", "run", "strongest"):
        assert second[name] == first[name], name
    for part in ("worst_rows", "worst_cells"):
        assert [row["row"] for row in second[part]] == [
            row["row"] for row in first[part]
        ]
    assert {path.name for path in two.iterdir()} == {p.name for p in one.iterdir()}
    scores = [pd.read_parquet(folder / "rows.parquet") for folder in (one, two)]
    pd.testing.assert_frame_equal(*scores, rtol=1e-6, atol=1e-8)
    drawn = [load_file(folder / "tensors.safetensors") for folder in (one, two)]
    for name in ("scores", "observed", "predicted", "pattern", "history_loss"):
        np.testing.assert_allclose(drawn[1][name], drawn[0][name], atol=1e-7, rtol=1e-6)
    assert second["environment"]["processes"] == 2
    assert "processes" not in first["environment"]
    # one process sums in another order, so the same bits are not expected
    assert main(["verify", str(two), table, "--quiet"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "parquet"])
@pytest.mark.parametrize("solver", ["alternating", "adam", "lbfgs"])
def test_three_processes_with_missing_cells(
    tables: Path, tmp_path: Path, kind: str, solver: str
) -> None:
    options = [str(tables / f"holes.{kind}"), "--rank", "3", "--solver", solver]
    options += ["--max-iter", "300"]
    alone = ["--held-out", "0", "--quiet", "--out", str(tmp_path / "one")]
    assert main(["factorize", *options, *alone]) == 0
    done = torchrun(3, "factorize", *options, "--out", str(tmp_path / "three"))
    assert done.returncode == 0, done.stderr
    first, second = result_of(tmp_path / "one"), result_of(tmp_path / "three")
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-6)
    assert second["penalty"] == pytest.approx(first["penalty"], rel=1e-9)
    assert second["reference"]["kind"] == first["reference"]["kind"] == "bound"
    value = pytest.approx(first["reference"]["value"], rel=1e-6)
    assert second["reference"]["value"] == value
    assert "shared by 3 processes, which do not hide cells" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--memory", "5MB"), id="memory"),
        pytest.param(("--rank", "auto"), id="rank", marks=pytest.mark.slow),
        pytest.param(("--intervals", "0.9"), id="intervals", marks=pytest.mark.slow),
    ],
)
def test_a_refusal_is_one_sentence(
    tables: Path, tmp_path: Path, options: tuple[str, str]
) -> None:
    begun, out = time.monotonic(), tmp_path / "run"
    table = str(tables / "complete.npy")
    done = torchrun(2, "factorize", table, "--rank", "2", "--out", str(out), *options)
    (says,) = said(done)
    assert "start one process" in says
    named = "a rank or a penalty is to be chosen" if "--rank" in options else options[0]
    assert named in says
    assert "exitcode  : 2 " in done.stderr  # of the first process, by torchrun
    assert not out.exists()
    assert time.monotonic() - begun < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "apply"])
def test_other_commands_run_in_one_process(tables: Path, name: str) -> None:
    done = torchrun(2, name, str(tables / "complete.npy"), "--target", "0")
    (says,) = said(done)
    assert f"'descents {name}' runs in one; start it without torchrun" in says


@pytest.mark.slow
def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    out = str(tmp_path / "run")
    done = torchrun(2, "factorize", str(path), "--rank", "1", "--out", out)
    (says,) = said(done)
    assert "neither a .npy nor a .parquet file" in says
    assert "leave torchrun out to read it whole" in says


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_processes_impute_as_one_does(tmp_path: Path, kind: str) -> None:
    generator = np.random.default_rng(5)
    table = generator.normal(size=(3000, 2)) @ generator.normal(size=(2, 8))
    table += 0.3 * generator.normal(size=table.shape)
    table[generator.random(table.shape) < 0.2] = np.nan
    source = tmp_path / f"table.{kind}"
    if kind == "npy":
        np.save(source, table)
    else:
        frame = pd.DataFrame(table, columns=list("abcdefgh"))
        frame["level"] = np.where(np.nan_to_num(table[:, 0]) > 0, "up", "down")
        frame.loc[::5, "level"] = None
        frame.to_parquet(source, row_group_size=500)
    filled = {k: tmp_path / f"filled-{k}.{kind}" for k in (1, 2, 3)}
    words = ["impute", str(source), str(filled[1]), "--out", str(tmp_path / "1")]
    assert main(words) == 0
    for count in (2, 3):
        out = str(tmp_path / str(count))
        words = ["impute", str(source), str(filled[count]), "--out", out]
        done = torchrun(count, *words)
        assert done.returncode == 0, done.stderr
        assert result_of(tmp_path / str(count))["loss"] == pytest.approx(
            result_of(tmp_path / "1")["loss"], rel=1e-10
        )
        once = filled[count].read_bytes()
        filled[count].unlink()
        done = torchrun(count, *words, "--resume")  # another number could go on too
        assert done.returncode == 0, done.stderr
        assert filled[count].read_bytes() == once
    if kind == "npy":
        whole, *others = (np.load(path) for path in filled.values())
        for other in others:
            np.testing.assert_allclose(other, whole, rtol=1e-9, atol=1e-9)
    else:
        whole, *others = (pd.read_parquet(path) for path in filled.values())
        for other in others:
            pd.testing.assert_frame_equal(other, whole, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("after", [2, 3])
def test_a_killed_process_ends_all_and_resume_finishes(
    tmp_path: Path, victim: int, after: int
) -> None:
    run, options, out = begun(tmp_path)
    state = out / ".partial" / "stages" / "descent-0-1.safetensors"
    ranks = ranks_of(run.pid)
    os.kill(ranks[victim], signal.SIGKILL)
    _, stderr = run.communicate(timeout=SECONDS)
    assert run.returncode != 0
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks.values()))
    assert not (out / "result.json").exists()
    assert state.exists(), stderr
    done = torchrun(after, *options, str(out), "--resume")
    assert done.returncode == 0, done.stderr
    whole = torchrun(2, *options, str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    first, second = result_of(tmp_path / "whole"), result_of(out)
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-9)
    assert second["iterations"] == first["iterations"] == 400
    assert not (out / ".partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_keeps_the_state(tmp_path: Path, number: int) -> None:
    run, _, out = begun(tmp_path)
    ranks, since = ranks_of(run.pid), time.monotonic()
    run.send_signal(number)
    run.communicate(timeout=SECONDS)
    assert time.monotonic() - since < 25  # torchrun kills after 30 s
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks.values())
    assert [path.name for path in out.iterdir()] == [".partial"]
    assert list((out / ".partial" / "stages").glob("descent-*.safetensors"))


def begun(folder: Path) -> tuple[subprocess.Popen[str], list[str], Path]:
    """Return two processes that have kept a state, their options and their folder."""
    generator = np.random.default_rng(0)
    np.save(folder / "table.npy", generator.normal(size=(40_000, 30)))
    out = folder / "run"
    options = ["factorize", str(folder / "table.npy"), "--rank", "5", "--solver"]
    options += ["adam", "--max-iter", "400", "--checkpoint", "0.2", "--out"]
    run = subprocess.Popen(
        command(2, *options, str(out)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_for((out / ".partial" / "stages" / "descent-0-1.safetensors").exists)
    return run, options, out


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def ranks_of(parent: int) -> dict[int, int]:
    """Return the processes that torchrun has started, by their rank."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = {}
    for child in map(int, children):
        given = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks = [int(x[5:]) for x in given if x.startswith(b"RANK=")]
        if ranks:
            found[ranks[0]] = child
    return found


COLLECTIVE = """
import numpy as np, torch
from descents.errors import InvalidValueError
from descents.optim import joined
one = joined()
rank, size = one.rank, one.size
x = torch.arange(6.0).reshape(2, 3) * (rank + 1)
assert one.sum(x).equal(torch.arange(6.0).reshape(2, 3) * 6)
single = one.sums({"a": x.float(), "b": torch.ones(2, dtype=torch.float64)})
assert single["a"].dtype == torch.float32 and single["b"].tolist() == [3.0, 3.0]
assert one.sum_arrays(np.ones(2) * rank)[0].tolist() == [3.0, 3.0]
assert one.least(np.array([rank]))[0] == 0 and one.most(np.array([rank]))[0] == 2
assert one.agreed(rank == 1) and not one.agreed(False)
assert one.from_first({"rank": rank}) == {"rank": 0}
assert one.each(rank) == [0, 1, 2] and one.offset(10) == 10 * rank
shared = [a.tolist() for a in one.arrays(np.full((rank, 2), float(rank)))]
assert shared == [[], [[1.0, 1.0]], [[2.0, 2.0]] * 2]
import descents.optim.collective as collective
collective.ROWS_AT_ONCE = 4
mine = np.arange(9.0 + rank)[:, None] + 100 * rank
whole = one.rows(mine)
assert (whole is None) == (rank > 0)
if rank == 0:
    assert whole.shape == (30, 1) and whole[[0, 9, 19], 0].tolist() == [0, 100, 200]
assert np.array_equal(one.dealt(whole, mine), mine)
own = [b"", bytes([rank]) * 5, b"last"][: rank + 1]
blocks = list(one.in_turn(own))
assert blocks == ([b"", bytes([1]) * 5, bytes([2]) * 5, b"last"] if rank == 0 else [])
before = one.messages, one.sent
one.sum(x)
assert (one.messages, one.sent) == (before[0] + 1, before[1] + 48)
def work():
    if rank == 2:
        raise InvalidValueError("the third refuses")
    return rank
try:
    one.attempt(work)
except InvalidValueError as error:
    assert str(error) == "the third refuses"
else:
    raise AssertionError
print(f"process {rank} is done")
collective.leave()
"""


@pytest.mark.slow
def test_what_processes_exchange(tmp_path: Path) -> None:
    script = tmp_path / "exchange.py"
    script.write_text(COLLECTIVE)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*run, "--nproc-per-node", "3", str(script)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"process {k} is done" for k in range(3)
    ]


LOST = """
import os, signal
from descents.errors import LostProcessError
from descents.optim import joined
one = joined()
if one.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    one.agreed(True)
except LostProcessError as error:
    print(error, flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_a_lost_process_is_named(tmp_path: Path) -> None:
    script = tmp_path / "lost.py"
    script.write_text(LOST)
    store = {"MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    runs = [
        subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **store, "RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    (says, _), _ = (run.communicate(timeout=SECONDS) for run in runs)
    assert "process 0 has lost another one of 2" in says


def free_port() -> str:
    import socket

    with socket.socket() as one:
        one.bind(("localhost", 0))
        return str(one.getsockname()[1])


def test_a_process_that_is_refused_alone_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("descents.cli.processes.PATIENCE", 0.0)
    monkeypatch.setattr(signal, "signal", lambda *given: None)
    assert started() == (1, 2)
    assert main(["train", "table.csv", "--target", "a"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "'descents train' runs in one" in printed.err
    voice = Voice()
    with voice.used():
        sys.stdout.write("nothing of this is printed")
    assert voice.ended(0) == 0
    assert capsys.readouterr() == ("", "")
