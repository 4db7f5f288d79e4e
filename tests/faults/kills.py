"""Ends commands at random moments, resumes them, and counts how that ends.

``python -m faults.kills --count 50`` ends each command 50 times by each signal, at moments
that follow from the seed and the number of the trial. Counts are added to ``kills.json``,
and trials that are in it are not repeated. ``--shard 3/10`` takes every tenth trial. After
each one it is checked that no process and no shared memory is left, that nothing is
half-written, and that ``--resume`` gives what an undisturbed run gives. At the end, the
table in ``docs/reliability.md`` is written from the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd

from descents.storage.files import read_json, read_table, read_tensors
from descents.storage.run_folders import RESULT
from faults.stored import alone, replace_json, write_document

HERE = Path(__file__).parent
COUNTS = HERE / "kills.json"
SHARED = Path("/dev/shm")
MARK = "DESCENTS_TRIAL"
GONE = 10.0
"""Seconds within which all processes and all shared memory must be gone."""
TABLE = ("{place}/table.csv", "--target", "y", "--starts", "600", "--hidden", "8",
         "--epochs", "3", "--diagnose", "4")  # fmt: skip
COMMANDS = {
    "train": ("train", *TABLE),
    "train --workers 2": ("train", *TABLE, "--workers", "2"),
    "factorize": ("factorize", "{place}/holes.csv", "--rank", "2", "--starts", "20",
                  "--impute", "{out}.csv"),
    "impute": ("impute", "{place}/holes.csv", "{out}.csv"),
    "reproduce": ("reproduce", "--starts", "5"),
    "torchrun factorize": ("factorize", "{place}/table.npy", "--rank", "3", "--solver",
                           "adam", "--max-iter", "300", "--checkpoint", "0.2"),
}  # fmt: skip
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
KINDS = [
    *(
        (command, how)
        for how in ("SIGKILL", "SIGTERM", "SIGINT")
        for command in COMMANDS
        if (command, how) != ("torchrun factorize", "SIGKILL")
    ),
    ("train --workers 2", "SIGKILL of a worker"),
    ("torchrun factorize", "SIGKILL of a rank"),
]
CHILDREN = {"SIGKILL of a worker": b"popen_loky", "SIGKILL of a rank": b"factorize"}
"""What the command line of a child contains that is to be ended."""
OUTCOMES = ("resumed equal", "answered so far", "ended before", "fault")
EXPECTED = {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": -9, "SIGKILL of a worker": 4}
EXPECTED_OF_TORCHRUN = 1


class FaultError(Exception):
    """Something that must not be left by a command that ended early."""


@dataclass(frozen=True)
class Place:
    """A folder with the tables, and an undisturbed run of each command."""

    folder: Path

    def words(self, command: str, out: Path) -> list[str]:
        """Return a command line with a folder for its results."""
        words = [w.format(place=self.folder, out=out) for w in COMMANDS[command]]
        launcher = TORCHRUN if command.startswith("torchrun") else ()
        begin = [sys.executable, *launcher, "-m", "descents"]
        return [*begin, *words, "--quiet", "--out", str(out)]

    def whole(self, command: str) -> tuple[Path, float]:
        """Return an undisturbed run, and the seconds that it took."""
        out = self.folder / command.replace(" ", "")
        took = out.with_suffix(".seconds")
        if not took.exists():
            shutil.rmtree(out, ignore_errors=True)
            begun = time.monotonic()
            done = run(self.words(command, out))
            if done.returncode:
                raise RuntimeError(done.stderr)
            took.write_text(str(time.monotonic() - begun))
        return out, float(took.read_text())


def prepared(folder: Path) -> Place:
    """Write the tables that commands read."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        generator.normal(size=(600, 8)), columns=[f"x{k}" for k in range(8)]
    )
    holes = frame.mask(generator.random(frame.shape) < 0.1)
    frame["y"] = np.where(frame.sum(axis=1) > 0, "yes", "no")
    frame.to_csv(folder / "table.csv", index=False)
    np.save(folder / "table.npy", generator.normal(size=(20_000, 20)))
    holes.to_csv(folder / "holes.csv", index=False)
    return Place(folder)


def run(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        words, capture_output=True, text=True, timeout=600, check=False, **more
    )  # fmt: skip


def processes(mark: str, of: bytes = b"") -> list[int]:
    """Return the living processes of a trial whose command line contains some bytes."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            mine = f"{MARK}={mark}".encode() in (place / "environ").read_bytes()
            if mine and state != "Z" and of in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def tried(place: Place, command: str, how: str, number: int, seed: int) -> str:
    """Run one trial; return its outcome, or raise `FaultError`."""
    whole, seconds = place.whole(command)
    random = Random(f"{seed}/{command}/{how}/{number}")
    folder = Path(tempfile.mkdtemp(prefix="trial-", dir=place.folder))
    out, mark = folder / "run", uuid.uuid4().hex
    try:
        code, errors, pid = _ended(place, command, how, random, seconds, out, mark)
        _check_gone(mark, pid)
        if code == 0:
            return "ended before"
        if command.startswith("torchrun"):
            _check_left_by_torchrun(out, code)
        else:
            _check_left(folder, out, how, code, errors)
        done = run([*place.words(command, out), "--resume"])
        if done.returncode == EXPECTED["SIGINT"] and how == "SIGINT":
            if not read_json(out / RESULT)["statuses"].get("interrupted"):
                raise FaultError("exit code 130 of a resumed run")
            return "answered so far"  # as documented, of the starts at Ctrl-C
        if done.returncode:
            raise FaultError(f"--resume: {done.returncode} {done.stderr[-500:]}")
        _check_same(whole, out)
        left = {path.name for path in folder.iterdir()} - {"run", "run.csv"}
        if left:
            raise FaultError(f"left: {sorted(left)}")
        return "resumed equal"
    finally:
        for process in processes(mark):
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _ended(
    place: Place, command: str, how: str, random: Random, seconds: float, out: Path,
    mark: str,
) -> tuple[int, str, int]:  # fmt: skip
    """Start a command, end it at a random moment; return code, errors and process."""
    process = subprocess.Popen(
        place.words(command, out),
        env={**os.environ, MARK: mark}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if how in CHILDREN:
        children: list[int] = []
        while process.poll() is None and len(children) < 2:
            found = processes(mark, CHILDREN[how])
            children = [one for one in found if one != process.pid]
            time.sleep(0.01)
        _wait(process, random.uniform(0, seconds * 0.6))
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(children[random.randrange(2)], signal.SIGKILL)
    else:
        _wait(process, random.uniform(0, seconds))
        together = how != "SIGKILL" and random.random() < 0.5
        with contextlib.suppress(ProcessLookupError):
            send = os.killpg if together else os.kill
            send(process.pid, getattr(signal, how))
    try:
        _, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        raise FaultError("it did not end within 120 s") from None
    return process.returncode, errors, process.pid


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _check_gone(mark: str, pid: int) -> None:
    """Check that no process and no shared memory is left."""
    end = time.monotonic() + GONE
    while True:
        left = [name for name in os.listdir(SHARED) if str(pid) in name]
        living = processes(mark)
        if not left and not living:
            return
        if time.monotonic() > end:
            raise FaultError(f"still there after {GONE} s: {living} {left}")
        time.sleep(0.1)


def _check_left(folder: Path, out: Path, how: str, code: int, errors: str) -> None:
    """Check what a command left that was ended: code, sentence and files."""
    begun = out.exists()
    number = -getattr(signal, how, 0)
    early = code == number and not begun  # before the command could handle signals
    # At its very end the interpreter gives signals back to the system.
    late = (
        code == number and (out / RESULT).exists() and not (out / ".partial").exists()
    )
    if code != EXPECTED[how] and not early and not late:
        raise FaultError(f"exit code {code}: {errors[-500:]}")
    if "Traceback" in errors and not early:
        raise FaultError(errors[-1000:])
    kept = how in ("SIGTERM", "SIGINT") and (out / ".partial").exists()
    if kept and "--resume --out" not in errors:
        raise FaultError(f"it does not say how to go on: {errors!r}")
    if (out / RESULT).exists():
        read_json(out / RESULT)
    others = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    if others and how != "SIGKILL":
        raise FaultError(f"half-written: {others}")


def _check_left_by_torchrun(out: Path, code: int) -> None:
    """Check what torchrun left, whose own code and messages say little."""
    if code != EXPECTED_OF_TORCHRUN and out.exists():
        raise FaultError(f"exit code {code}")
    if (out / RESULT).exists():
        read_json(out / RESULT)


def _check_same(whole: Path, out: Path) -> None:
    """Check that a run is that which nothing disturbed, but for its time."""
    names = [sorted(path.name for path in place.iterdir()) for place in (whole, out)]
    if names[0] != names[1]:
        raise FaultError(f"files {names[1]}, not {names[0]}")
    results = [read_json(place / RESULT) for place in (whole, out)]
    rows = [read_table(place / "starts.parquet") for place in (whole, out)]
    for found in (*results, *rows):
        found.pop("seconds", None)
    if results[0] != results[1]:
        keys = [n for n in results[0] if results[0][n] != results[1].get(n)]
        raise FaultError(f"another result: {keys}")
    for name, values in rows[0].items():
        if not np.array_equal(values.astype(str), rows[1][name].astype(str)):
            raise FaultError(f"other starts: {name}")
    if (whole / "model.safetensors").exists():
        models = [
            read_tensors(place / "model.safetensors")[0] for place in (whole, out)
        ]
        for name, array in models[0].items():
            timed = name.rpartition("/")[2] == "seconds"
            if not timed and not np.array_equal(array, models[1][name], True):
                raise FaultError(f"another model: {name}")
    filled = [place.with_name(f"{place.name}.csv") for place in (whole, out)]
    if filled[0].exists() and filled[0].read_bytes() != filled[1].read_bytes():
        raise FaultError("another filled table")


# Counts


@contextlib.contextmanager
def counts(path: Path) -> Iterator[dict[str, Any]]:
    """Read the stored counts and write them again, while no other process does."""
    with alone(path):
        stored = {"seed": 0, "trials": {}, "faults": []}
        if path.exists():
            stored = json.loads(path.read_text())
        yield stored
        replace_json(path, stored)


def add(path: Path, kind: str, number: int, outcome: str, fault: str) -> None:
    """Add one trial to the stored counts."""
    with counts(path) as stored:
        stored["trials"].setdefault(kind, {})[str(number)] = outcome
        if fault:
            stored["faults"].append({"kind": kind, "number": number, "says": fault})


def table_of(stored: dict[str, Any]) -> str:
    """Return the counts as a table in Markdown."""
    lines = ["| command, ended by | trials | resumed equal | answered so far | faults |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    total = [0] * 4
    for command, how in KINDS:
        found = list(stored["trials"].get(f"{command}, {how}", {}).values())
        kept = [one for one in found if one != "ended before"]
        numbers = [len(kept), *(kept.count(o) for o in OUTCOMES if o != "ended before")]
        total = [one + two for one, two in zip(total, numbers, strict=True)]
        lines.append(f"| `{command}`, {how} | {' | '.join(map(str, numbers))} |")
    lines.append(f"| all | {' | '.join(map(str, total))} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run trials until all are there, or the time is up; return 1 if one found a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=1, help="trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default="1/1", help="K/N: every N-th trial")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--counts", type=Path, default=COUNTS)
    parser.add_argument("--no-document", action="store_true")
    given = parser.parse_args(arguments)
    shard, of = map(int, given.shard.split("/"))
    until, faults = time.monotonic() + given.seconds, 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="descents-kills-") as folder:
        place = prepared(Path(folder))
        jobs = [(n, kind) for n in range(given.count) for kind in enumerate(KINDS)]
        for number, (at, (command, how)) in jobs:
            if (number * len(KINDS) + at) % of != shard - 1 or time.monotonic() > until:
                continue
            kind, fault = f"{command}, {how}", ""
            with counts(given.counts) as stored:
                if str(number) in stored["trials"].get(kind, {}):
                    continue
            try:
                outcome = tried(place, command, how, number, given.seed)
            except FaultError as error:
                outcome, fault = "fault", str(error)
                faults += 1
            add(given.counts, kind, number, outcome, fault)
            print(f"{kind}, {number}: {outcome} {fault}", flush=True)
    if not given.no_document:
        with counts(given.counts) as stored:
            write_document("kills", table_of(stored))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
