"""Starts that an executor computes: the same bits whoever computes them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from descents import Factorization, Stop, descend
from descents.cli.main import main
from descents.errors import InvalidValueError, LostProcessError
from descents.optim import SharingExecutor, connected

TABLE = np.random.default_rng(0).normal(size=(12, 5))
STOP = Stop(30)


def problem() -> Factorization:
    return Factorization(TABLE, rank=2)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_executors_give_the_same_bits() -> None:
    alone = descend(problem(), 200, stop=STOP)
    before = torch.get_num_threads()
    with ThreadPoolExecutor(3) as threads:
        first = descend(problem(), 200, stop=STOP, workers=threads)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        second = descend(problem(), 200, stop=STOP, workers=processes)
    for runs in (first, second):
        np.testing.assert_array_equal(runs.losses, alone.losses)
        for name, value in alone.parameters.items():
            np.testing.assert_array_equal(runs.parameters[name], value)
    assert torch.get_num_threads() == before


class Fails(Executor):
    """An executor whose workers die after some tasks."""

    def __init__(self, alive: int) -> None:
        self.alive = alive

    def submit(self, fn, /, *args, **kwargs):
        task: Future = Future()
        if self.alive:
            self.alive -= 1
            task.set_result(fn(*args, **kwargs))
        else:
            task.set_exception(BrokenExecutor("gone"))
        return task


def test_a_lost_worker_leaves_what_was_finished_in_the_store() -> None:
    stored: dict[str, object] = {}

    class Store:
        def get(self, name: str):
            return stored.get(name)

        def put(self, name: str, runs) -> None:
            stored[name] = runs

    with pytest.raises(LostProcessError, match=r"a worker of Fails was lost .* saved"):
        descend(problem(), 400, stop=STOP, workers=Fails(2), store=Store())
    kept = dict(stored)
    whole = descend(problem(), 400, stop=STOP, workers=Fails(99), store=Store())
    assert kept.items() <= stored.items()
    np.testing.assert_array_equal(
        whole.losses, descend(problem(), 400, stop=STOP).losses
    )


def test_an_object_is_shared_once() -> None:
    class Shares(SharingExecutor):
        shared = 0

        def share(self, value):
            self.shared += 1
            return value

        def submit(self, fn, /, *args, **kwargs):
            return Fails(1).submit(fn, *args, **kwargs)

    executor = Shares()
    descend(problem(), 400, stop=STOP, workers=executor)
    assert executor.shared == 1


def test_what_is_no_address_is_refused(monkeypatch, capsys, tmp_path: Path) -> None:
    for wrong in ("host:1", "http://host:1", "dask://", "2.5"):
        with pytest.raises(InvalidValueError, match="give a number of processes"):
            connected(wrong).__enter__()
    for scheme, package in (("dask", "distributed"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InvalidValueError, match=rf"descents\[{scheme}\]"):
            connected(f"{scheme}://localhost:1").__enter__()
    table = tmp_path / "t.csv"
    table.write_text("a,y\n" + "".join(f"{k},{k % 2}\n" for k in range(20)))
    for wrong in ("0", "-1", "two", "ftp://x:1", "dask://x"):
        words = ["train", str(table), "--target", "y", "--workers", wrong]
        assert main(words) == 2
        assert "is neither a number of processes nor" in capsys.readouterr().err


def test_no_scheduler_is_one_sentence(monkeypatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("descents.optim.executors.SECONDS", 1)
    with pytest.raises(InvalidValueError, match="no workers were reached at dask://"):
        connected(f"dask://127.0.0.1:{free_port()}").__enter__()


@pytest.mark.parametrize("scheme", ["dask", "ray"])
def test_a_command_says_at_once_what_it_waits_for(
    scheme: str, monkeypatch, capsys, tmp_path: Path
) -> None:
    def nobody(address: str) -> None:
        says = capsys.readouterr().err  # so far
        assert bool(says) != quiet
        assert (
            quiet or f"Waiting for the workers at {scheme}://{address}, at most" in says
        )
        raise InvalidValueError(f"nobody is at {address}; start it")

    monkeypatch.setattr(f"descents.optim.executors._{scheme}", nobody)
    table = tmp_path / "t.csv"
    table.write_text("a,y\n" + "".join(f"{k},{k % 2}\n" for k in range(20)))
    words = ["train", str(table), "--target", "y", "--workers", f"{scheme}://here:1"]
    for quiet in (False, True):
        capsys.readouterr()
        out = ["--out", str(tmp_path / "run")]
        assert main([*words, *out, *["--quiet"] * quiet]) == 2


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def runs_of(table: Path, out: Path, workers: str) -> pd.DataFrame:
    """Train with the command, and return the columns that do not depend on time."""
    words = ["train", str(table), "--target", "y", "--starts", "200", "--epochs", "5"]
    words += ["--hidden", "4", "--diagnose", "0", "--quiet", "--out", str(out)]
    command = [sys.executable, "-m", "descents", *words, "--workers", workers]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = pd.read_parquet(out / "starts.parquet")
    return rows[[name for name in rows if not name.startswith("seconds")]]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
    frame["y"] = np.where(frame["a"] > 0, "p", "q")
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.mark.slow
def test_a_dask_cluster(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    port = free_port()
    base = [shutil.which("dask", path=str(Path(sys.executable).parent)) or "dask"]
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    logs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*base, "scheduler", *options], **logs)
    address = f"tcp://127.0.0.1:{port}"
    options = ["--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
    worker = subprocess.Popen([*base, "worker", address, *options], **logs)
    try:
        here = runs_of(table, tmp_path / "here", "1")
        there = runs_of(table, tmp_path / "there", f"dask://127.0.0.1:{port}")
        pd.testing.assert_frame_equal(here, there)
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.slow
def test_a_ray_cluster(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    ray = shutil.which("ray", path=str(Path(sys.executable).parent)) or "ray"
    port, client = free_port(), free_port()
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    start = [ray, "start", "--head", "--num-cpus=2", f"--port={port}"]
    start += [f"--ray-client-server-port={client}", "--include-dashboard=false"]
    start += ["--disable-usage-stats", "--object-store-memory=100000000"]
    logs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(start, check=True, env=environment, timeout=120, **logs)
    try:
        time.sleep(2)
        here = runs_of(table, tmp_path / "here", "1")
        there = runs_of(table, tmp_path / "there", f"ray://127.0.0.1:{client}")
        pd.testing.assert_frame_equal(here, there)
    finally:
        subprocess.run([ray, "stop", "--force"], timeout=60, check=False, **logs)
