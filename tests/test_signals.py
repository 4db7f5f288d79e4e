"""Signals: a command ends its children, keeps what it has, and says how to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import FEW, error_of, run_descents
from descents import signals
from descents.cli.main import main
from descents.storage.files import read_json, read_table
from descents.storage.run_folders import RESULT, RunFolder

ME = {"command": "test"}
CODES = {"SIGTERM": 143, "SIGHUP": 129}
SHARED = Path("/dev/shm")
MARK = "DESCENTS_TEST"
linux = pytest.mark.skipif(
    not SHARED.is_dir(), reason="processes are found in /proc, memory in /dev/shm"
)


class Running:
    """A command with a process group of its own, whose processes can be found."""

    def __init__(self, *words: str, code: str = "", **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.before = set(os.listdir(SHARED)) if SHARED.is_dir() else set()
        run = ("-c", code) if code else ("-m", "descents")
        self.process = subprocess.Popen(
            [sys.executable, *run, *words],
            env={**os.environ, MARK: self.mark, **environment},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, holds: Any, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it did not come"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def processes(self) -> list[int]:
        """Return the processes of the command that live."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environment = (place / "environ").read_bytes()
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in environment and state != "Z":
                found.append(int(place.name))
        return found

    def shared(self) -> set[str]:
        """Return what the command has in shared memory."""
        there = set(os.listdir(SHARED)) - self.before
        return {name for name in there if str(self.process.pid) in name}

    def workers(self) -> list[int]:
        found = []
        for number in self.processes():
            try:
                line = Path(f"/proc/{number}/cmdline").read_bytes()
            except OSError:
                continue
            if b"popen_loky" in line:
                found.append(number)
        return found

    def ended(self, seconds: float = 10) -> tuple[int, str]:
        """Return code and errors, after all processes and shared memory are gone."""
        _, errors = self.process.communicate(timeout=60)
        end = time.monotonic() + seconds
        while self.processes() or self.shared():
            assert time.monotonic() < end, (self.processes(), self.shared())
            time.sleep(0.05)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        generator.normal(size=(600, 8)), columns=[f"x{k}" for k in range(8)]
    )
    frame["y"] = np.where(frame.sum(axis=1) > 0, "yes", "no")
    place = tmp_path_factory.mktemp("signals")
    frame.to_csv(place / "table.csv", index=False)
    numbers = frame.drop(columns="y")
    numbers.mask(generator.random(numbers.shape) < 0.1).to_csv(
        place / "missing.csv", index=False
    )
    return place / "table.csv"


TRAIN = ("--target", "y", "--starts", "600", "--hidden", "8", "--epochs", "4",
         "--diagnose", "0")  # fmt: skip


def same_result(one: Path, two: Path) -> bool:
    """Return whether two runs are equal, but for the time that they took."""
    first, second = (read_json(place / RESULT) for place in (one, two))
    rows = [read_table(place / "starts.parquet") for place in (one, two)]
    for found in (first, second, *rows):
        found.pop("seconds", None)
    same = json.dumps(first) == json.dumps(second) and rows[0].keys() == rows[1].keys()
    return same and all(
        np.array_equal(rows[0][n].astype(str), rows[1][n].astype(str)) for n in rows[0]
    )


@pytest.fixture(scope="module")
def whole(table: Path) -> Callable[..., Path]:
    """Return a function that returns an undisturbed run of a command, made once."""

    def made(*words: str) -> Path:
        out = table.parent / words[0]
        if not out.exists():
            filled = str(table.parent / "filled.csv")
            given = [word.format(out=out, filled=filled) for word in words]
            assert run_descents(*given).returncode == 0
        return out

    return made


@linux
@pytest.mark.parametrize("name", [*CODES, pytest.param("SIGKILL")])
@pytest.mark.parametrize("group", [False, True], ids=["leader", "group"])
@pytest.mark.slow
def test_workers_end_and_the_run_goes_on(
    name: str, group: bool, table: Path, whole: Any, tmp_path: Path
) -> None:
    if name == "SIGKILL" and group:
        pytest.skip("nothing is left that could clean up")
    out = tmp_path / "run"
    words = ("train", str(table), *TRAIN, "--workers", "2", "--quiet", "--out")
    running = Running(*words, str(out))
    stages = out / ".partial" / "stages"
    running.wait_for(lambda: list(stages.glob("[!.]*")) and running.workers())
    number = getattr(signal, name)
    (os.killpg if group else os.kill)(running.process.pid, number)
    code, errors = running.ended()
    assert code == CODES.get(name, -signal.SIGKILL)
    assert not (out / RESULT).exists()
    if name != "SIGKILL":
        says = error_of(errors)
        assert says.startswith(f"descents: stopped by {name}; ")
        assert f"kept: continue with --resume --out {out} and the same" in says
    assert run_descents(*words, str(out), "--resume").returncode == 0
    assert same_result(out, whole("train", str(table), *TRAIN, "--out", "{out}"))
    assert not (out / ".partial").exists()


@linux
@pytest.mark.slow
def test_a_worker_that_waits_for_work_ends_too(table: Path, tmp_path: Path) -> None:
    """Of three workers one gets no chunk; it is not the work that watches."""
    out = tmp_path / "run"
    words = ["train", str(table), "--target", "y", "--starts", "600", "--hidden", "64,64",
             "--epochs", "2000", "--quiet", "--workers", "5", "--out", str(out)]  # fmt: skip
    running = Running(*words)
    running.wait_for(lambda: len(running.workers()) == 5)
    os.kill(running.process.pid, signal.SIGKILL)
    assert running.ended()[0] == -signal.SIGKILL


COMMANDS = {
    "train": ("train", "{table}", *TRAIN, "--out", "{out}"),
    "factorize": ("factorize", "{missing}", "--rank", "3", "--starts", "20", "--out",
                  "{out}"),
    "impute": ("impute", "{missing}", "{filled}", "--out", "{out}"),
    "reproduce": ("reproduce", *FEW, "--out", "{out}"),
}  # fmt: skip


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_fits_can_be_stopped(
    command: str, name: str, table: Path, whole: Any, tmp_path: Path
) -> None:
    out, filled = tmp_path / "run", tmp_path / "filled.csv"
    places = {"table": table, "missing": table.with_name("missing.csv")}
    places |= {"filled": "{filled}", "out": "{out}"}
    words = [*(word.format(**places) for word in COMMANDS[command]), "--quiet"]
    mine = [word.format(out=out, filled=filled) for word in words]
    running = Running(*mine)
    running.wait_for((out / ".partial" / "run.json").exists)
    time.sleep(0.2)
    for _ in range(2):  # the second one must not break off what the first began
        running.process.send_signal(getattr(signal, name))
        time.sleep(0.02)
    code, errors = running.ended()
    assert code == CODES[name]
    assert f"continue with --resume --out {out} and the same" in error_of(errors)
    assert not [path.name for path in tmp_path.iterdir() if path.name != "run"]
    assert run_descents(*mine, "--resume").returncode == 0
    assert same_result(out, whole(*words))
    if command == "impute":
        assert filled.read_bytes() == (table.parent / "filled.csv").read_bytes()


@linux
@pytest.mark.slow
def test_a_signal_while_the_kernel_is_built_ends_the_compiler(
    table: Path, tmp_path: Path
) -> None:
    compiler = tmp_path / "slow-cc"
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || {{ touch {tmp_path}/begun; sleep 100; }}\n'
    )
    compiler.chmod(0o755)
    running = Running("train", str(table), *TRAIN, "--out", str(tmp_path / "run"),
                      CC=str(compiler), XDG_CACHE_HOME=str(tmp_path / "cache"),
                      TMPDIR=str(tmp_path))  # fmt: skip
    running.wait_for((tmp_path / "begun").exists)
    running.process.send_signal(signal.SIGTERM)
    code, errors = running.ended()
    assert code == 143
    assert "continue with --resume" in error_of(errors)
    assert not list(tmp_path.glob("tmp*"))


def test_the_first_signal_is_raised_and_others_are_not() -> None:
    def twice() -> None:
        with signals.raised(lambda _: None):
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGHUP)  # while the first one is handled

    with pytest.raises(signals.StoppedBySignalError) as caught:
        twice()
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_is_ignored_remains_ignored() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised(lambda _: None):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_process_that_does_not_end_is_ended() -> None:
    """The main thread never returns to Python, as in a long step of a library."""
    code = (
        "import ctypes, os, signal, threading\n"
        "from descents import signals\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "with signals.raised(lambda number: os._exit(128 + number), grace=0.3):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "    ctypes.CDLL(None).sleep(30)\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], timeout=25, check=False)
    assert done.returncode == 143
    assert time.monotonic() - begun < 20


def test_signals_wait_until_a_run_is_moved(tmp_path: Path, monkeypatch: Any) -> None:
    """Ctrl-C and SIGTERM between two files that are moved leave the whole run."""
    place, replace = tmp_path / "run", os.replace

    def interrupted(source: Any, target: Any) -> None:
        replace(source, target)
        if ".partial" in str(source) and ".partial" not in str(target):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)

    def run() -> None:
        with signals.raised(lambda _: None), RunFolder(place, ME) as folder:
            folder.write_json("a.json", {})
            folder.write_json(RESULT, {"run": ME})
            monkeypatch.setattr(os, "replace", interrupted)
            folder.finish()

    with pytest.raises((signals.StoppedBySignalError, KeyboardInterrupt)):
        run()
    monkeypatch.undo()
    assert sorted(path.name for path in place.iterdir()) == ["a.json", RESULT]
    assert "is complete" in signals.hints()


def test_what_a_kill_left_in_the_last_clean_up_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with RunFolder(place, ME) as folder:
        folder.write_json(RESULT, {"run": ME})
        folder.finish()
    (place / ".partial" / "stages").mkdir(parents=True)
    (place / ".partial" / "run.json").write_text(json.dumps(ME))
    with RunFolder(place, ME, resume=True) as folder:
        assert folder.complete
    assert [path.name for path in place.iterdir()] == [RESULT]


def test_a_fit_that_lacks_only_its_page_is_not_fitted_again(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from descents.cli.main import main

    (tmp_path / "t.csv").write_text("a,b\n1,2\n2,5\n3,5\n5,9\n")
    words = ["factorize", str(tmp_path / "t.csv"), "--rank", "1", "--quiet", "--out"]
    out = tmp_path / "run"

    def stopped(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("descents.cli.factorize.draw_page", stopped)
    assert main([*words, str(out)]) == 143
    says = error_of(capsys.readouterr().err)
    assert "stopped by SIGTERM; the fit is kept: continue with --resume" in says
    monkeypatch.undo()
    monkeypatch.setattr("descents.runs.factorize.factorize", None)  # not called again
    assert main([*words, str(out), "--resume"]) == 0
    monkeypatch.undo()
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert same_result(out, tmp_path / "whole")
    assert (out / "report.html").exists()
    assert not (out / ".partial").exists()


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Running]:
    """A process with a child and a grandchild, which all sleep."""
    child = "import os, time; os.fork(); time.sleep(60)"
    code = (
        "import subprocess, sys, time, pathlib\n"
        "from descents import signals\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "time.sleep(0.5)\n"
        f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)\n"
        "signals.end_children()\n"
    )
    running = Running(code=code)
    yield running
    running.process.kill()
    running.process.communicate()


@linux
def test_children_and_their_children_are_ended(family: Running, tmp_path: Path) -> None:
    family.wait_for(lambda: len(family.processes()) == 3)
    (tmp_path / "go").touch()
    assert family.ended(5)[0] == 0


@linux
def test_a_child_ends_after_its_parent() -> None:
    child = (
        "import sys, time; from descents.signals import exit_with\n"
        "exit_with(int(sys.argv[1]), seconds=0.1); time.sleep(60)"
    )
    code = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())])\n"
        "time.sleep(60)"
    )
    running = Running(code=code)
    running.wait_for(lambda: len(running.processes()) == 2)
    time.sleep(0.3)
    running.process.kill()
    assert running.ended(5)[0] == -signal.SIGKILL


@pytest.mark.parametrize("command", ["compare", "apply"])
def test_a_command_that_cannot_be_continued_keeps_nothing(
    command: str, tmp_path: Path
) -> None:
    def run() -> None:
        identity = {"command": command}
        run = RunFolder(tmp_path / "run", identity, resumable=False)
        with signals.raised(lambda _: None), run as folder:
            folder.write_json("some.json", {})
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(signals.StoppedBySignalError):
        run()
    assert signals.hints() == "; nothing is kept"
    assert list(tmp_path.iterdir()) == []


@linux
def test_a_command_within_a_program_ends_only_its_own_processes(
    monkeypatch: Any,
) -> None:
    """The program had started a process before, which is none of the command's."""
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    before = subprocess.Popen(program)
    own: list[subprocess.Popen[bytes]] = []

    def stopped(*_: Any, **__: Any) -> None:
        own.append(subprocess.Popen(program))
        raise signals.StoppedBySignalError(signal.SIGTERM)

    monkeypatch.setattr("descents.cli.main.commands.main", stopped)
    try:
        assert main(["report", "nowhere"]) == 143
        assert own[0].wait(10) == -signal.SIGKILL
        assert before.poll() is None
    finally:
        for process in (before, *own):
            process.kill()
            process.wait()


def test_ctrl_c_does_not_reach_a_process_that_starts() -> None:
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    command = [sys.executable, "-c", code]
    before = subprocess.run(command, capture_output=True, text=True, check=True)
    with signals.unreached_by_interrupts():
        inside = subprocess.run(command, capture_output=True, text=True, check=True)
    after = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [one.stdout.strip() for one in (before, inside, after)]
    assert answers == ["False", "True", "False"]
    # A shell starts what runs in the background with Ctrl-C ignored.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), signals.unreached_by_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)
