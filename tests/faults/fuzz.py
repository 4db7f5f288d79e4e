"""Reads damaged inputs in processes with limits, and counts how they end.

``python -m faults.fuzz --count 10000`` makes inputs from a seed and their numbers, and adds
to the counts in ``counts.json``, from where the last call stopped. ``--shard 3/10`` takes
every tenth input. Each input may use 5 s of processor time and 1 GiB of memory more than
the libraries need. An input that ends otherwise than by being read or refused in a
sentence is kept in ``found/``.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from faults.stored import alone, replace_json, write_document

HERE = Path(__file__).parent
COUNTS = HERE / "counts.json"
FOUND = HERE / "found"
SECONDS, MEMORY = 5.0, 2**30
BATCH = 2000
"""Inputs that one process reads."""
LONGEST_WAIT = 120
"""Seconds after which an input that uses no processor counts as a timeout."""
FAULTS = ("traceback", "wrong value", "wrong message", "timeout", "memory", "abort")
OUTCOMES = ("read", "refused", *FAULTS)
KINDS = {
    "csv": "CSV",
    "tsv": "TSV",
    "csv.gz": "CSV in gzip",
    "npy": "`.npy`",
    "npz": "`.npz`, dense and sparse",
    "parquet": "Parquet",
}
"""How the document calls the tables; all other kinds are stored runs."""


@dataclass
class Tally:
    """How many inputs of each kind ended in which way, and the inputs that failed."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return sum(self.counts.values())

    @property
    def faults(self) -> int:
        """Number of inputs that were neither read nor refused in a sentence."""
        return sum(n for (_, outcome), n in self.counts.items() if outcome in FAULTS)


def generators(seed: int, number: int) -> tuple[Random, Random]:
    """Return the random numbers that make an input, and those that read it."""
    return Random(f"{seed}/{number}"), Random(f"{seed}/{number}/read")


def outcome_of(cases: Any, case: Any, rng: Random) -> tuple[str, str]:
    """Read an input in this process; return how it ended, and where."""
    from descents.errors import DescentsError
    from faults.readers import WrongMessageError, WrongValueError, refused_well

    try:
        try:
            cases.read(case, rng)
        except DescentsError as error:
            refused_well(error)
            return "refused", ""
    except WrongValueError as error:
        return "wrong value", _place(error)
    except WrongMessageError as error:
        return "wrong message", _place(error)
    except MemoryError as error:
        return "memory", _place(error)
    except (Exception, SystemExit) as error:
        return "traceback", _place(error)
    return "read", ""


def _place(error: BaseException) -> str:
    """Return an error with the last lines of the package that it passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [x for x in frames if "/descents/" in x.filename] or list(frames)
    where = " < ".join(f"{Path(x.filename).name}:{x.lineno}" for x in own[:-5:-1])
    return f"{type(error).__name__}: {str(error)[:300]} @ {where}"


class Shared:
    """Memory that a process shares with the one that it was forked from."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 16)

    @property
    def number(self) -> int:
        """The input that is being read."""
        return int.from_bytes(self._map[:8], "little")

    @number.setter
    def number(self, value: int) -> None:
        self._map[:8] = value.to_bytes(8, "little")


def _limited(memory: int) -> None:
    """Limit the memory of this process to so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read_batch(
    cases: Any, seed: int, numbers: range, shared: Shared, pipe: int
) -> None:
    """Read inputs in this process, which was forked for it, and report at the end."""
    from descents.tables.memory import peak_memory

    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warnings.simplefilter("error")
    faulthandler.disable()  # which pytest enables
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    # Half of the processes cannot have more memory; of the others it is measured.
    tight = generators(seed, numbers.start)[1].random() < 0.5
    _limited(MEMORY if tight else 6 * MEMORY)
    peak = peak_memory() or 0
    with os.fdopen(pipe, "w") as report:
        for number in numbers:
            making, reading = generators(seed, number)
            case = cases.case(making)
            shared.number = number
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            outcome, place = outcome_of(cases, case, reading)
            signal.setitimer(signal.ITIMER_PROF, 0)
            grown = 0 if tight else (peak_memory() or 0) - peak
            if grown > MEMORY:
                outcome, place = "memory", f"{grown} bytes"
                peak += grown
            report.write(json.dumps([number, case.kind, outcome, place]) + "\n")
            if number % 64 == 0:
                report.flush()


def _ended(process: int, shared: Shared) -> int:
    """Wait for a process and return its status; kill it if it hangs."""
    last, since = -1, time.monotonic()
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return status
        if shared.number != last:
            last, since = shared.number, time.monotonic()
        if time.monotonic() - since > LONGEST_WAIT:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return int(signal.SIGPROF)
        time.sleep(0.02)


def run_batch(cases: Any, seed: int, numbers: range, tally: Tally) -> range:
    """Read inputs in a process, and return those that are left if it did not end well."""
    shared = Shared()
    shared.number = numbers.start
    with tempfile.TemporaryFile("w+") as report:
        process = os.fork()
        if not process:
            code = 1
            try:
                _read_batch(cases, seed, numbers, shared, os.dup(report.fileno()))
                code = 0
            finally:
                os._exit(code)
        status = _ended(process, shared)
        report.seek(0)
        lines = report.read().splitlines()
    done = 0
    for line in lines:
        try:
            number, kind, outcome, place = json.loads(line)
        except ValueError:  # the last line of a process that ended
            break
        done += 1
        _count(tally, cases, seed, number, kind, outcome, place)
    if status == 0:
        return numbers[len(numbers) :]
    place = numbers.index(shared.number)
    if place > done:  # lines that were not written: read again
        again = numbers[done:place]
        run_batch(cases, seed, again, tally)
    signals = {signal.SIGPROF: "timeout", signal.SIGKILL: "memory"}
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    outcome = signals.get(ended, "abort")  # type: ignore[call-overload]
    kind = cases.case(generators(seed, shared.number)[0]).kind
    _count(tally, cases, seed, shared.number, kind, outcome, f"status {status}")
    return numbers[place + 1 :]


def _count(
    tally: Tally,
    cases: Any,
    seed: int,
    number: int,
    kind: str,
    outcome: str,
    place: str,
) -> None:
    tally.counts[kind, outcome] += 1
    if outcome in FAULTS:
        tally.failures.append(
            {
                "seed": seed,
                "number": number,
                "kind": kind,
                "outcome": outcome,
                "place": place,
            }
        )


def keep(
    cases: Any, failures: list[dict[str, Any]], folder: Path, most: int = 3
) -> None:
    """Write failed inputs to files, at most `most` of those that failed alike."""
    folder.mkdir(exist_ok=True)
    alike: Counter[str] = Counter()
    for one in failures:
        what = f"{one['kind']} {one['outcome']} {one['place'].rpartition('@')[2]}"
        alike[what] += 1
        if alike[what] > most:
            continue
        case = cases.case(generators(one["seed"], one["number"])[0])
        stem = f"{one['seed']}-{one['number']}"
        (folder / f"{stem}.bin").write_bytes(case.content)
        facts = {**one, "name": case.name}
        (folder / f"{stem}.json").write_text(json.dumps(facts, indent=2) + "\n")


def again(cases: Any, path: Path) -> tuple[str, str]:
    """Read an input that `keep` wrote, in this process; return how it ended, and where.

    Parameters
    ----------
    cases : Cases
        With stored runs, if the input is a part of one.
    path : Path
        Its .json file.
    """
    from faults.readers import Case

    facts = json.loads(path.read_text())
    case = Case(facts["kind"], facts["name"], path.with_suffix(".bin").read_bytes())
    return outcome_of(cases, case, generators(facts["seed"], facts["number"])[1])


def add(path: Path, tally: Tally, shard: str, following: int, seed: int) -> None:
    """Add counts to those in a file, and note where a shard continues."""
    with alone(path):
        _add(path, tally, shard, following, seed)


def _add(path: Path, tally: Tally, shard: str, following: int, seed: int) -> None:
    stored = stored_counts(path, seed)
    for (kind, outcome), count in tally.counts.items():
        of_kind = stored["counts"].setdefault(kind, {})
        of_kind[outcome] = of_kind.get(outcome, 0) + count
    stored["next"][shard] = following
    stored["inputs"] += tally.inputs
    stored["counts"] = {
        kind: {name: found[name] for name in OUTCOMES if name in found}
        for kind, found in sorted(stored["counts"].items())
    }
    replace_json(path, stored, 2)


def stored_counts(path: Path, seed: int | None) -> dict[str, Any]:
    """Return the counts in a file, new ones if it is absent.

    Raises
    ------
    ValueError
        If they are of another seed.
    """
    if not path.exists():
        return {"seed": seed or 0, "inputs": 0, "next": {}, "counts": {}}
    stored: dict[str, Any] = json.loads(path.read_text())
    if seed not in (None, stored["seed"]):
        raise ValueError(
            f"{path} has counts of seed {stored['seed']}; give this --seed, or other --counts"
        )
    return stored


def table_of(stored: dict[str, Any]) -> str:
    """Return the counts as a table in Markdown."""
    lines = [
        "| inputs | read | refused in a sentence | traceback, wrong value, timeout, "
        "memory, abort |",
        "| --- | --- | --- | --- |",
    ]
    total = Counter[str]()
    of_runs = Counter[str]()
    for kind, counts in stored["counts"].items():
        if kind not in KINDS:
            of_runs.update(counts)
    rows = {
        name: Counter(stored["counts"].get(kind, {})) for kind, name in KINDS.items()
    }
    for name, counts in {**rows, "stored runs and models": of_runs}.items():
        total.update(counts)
        lines.append(_row(name, counts))
    return "\n".join([*lines, _row("all", total)])


def _row(name: str, counts: Counter[str]) -> str:
    numbers = counts["read"], counts["refused"], sum(counts[one] for one in FAULTS)
    return f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |"


def fuzz(
    cases: Any, seed: int, numbers: range, seconds: float, after: Any = None
) -> Tally:
    """Read inputs, and return how they ended; stop after some seconds.

    Parameters
    ----------
    after : callable, optional
        Called with the tally of each batch and the number of the next input.
    """
    whole, end = Tally(), time.monotonic() + seconds
    while numbers and time.monotonic() < end:
        batch, rest = numbers[:BATCH], numbers[BATCH:]
        tally = Tally()
        while batch:
            batch = run_batch(cases, seed, batch, tally)
        numbers = rest
        whole.counts += tally.counts
        whole.failures += tally.failures
        if after is not None:
            after(tally, rest.start)
    return whole


def main() -> int:
    """Run from the command line; the exit code is 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="inputs of this call")
    parser.add_argument(
        "--shard", default="1/1", help="such as 3/10: every tenth input"
    )
    parser.add_argument("--seed", type=int, help="by default that of the counts, or 0")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="stop after this time"
    )
    parser.add_argument("--no-runs", action="store_true", help="only tables")
    parser.add_argument("--only", default="", help="kinds of inputs, with commas")
    parser.add_argument("--counts", type=Path, default=COUNTS)
    parser.add_argument("--found", type=Path, default=FOUND)
    given = parser.parse_args()
    shard, shards = map(int, given.shard.split("/"))
    from descents.cli.main import MODULES
    from faults.readers import Cases
    from faults.wholes import make_runs

    for command in MODULES:  # before the processes are forked
        importlib.import_module(f"descents.cli.{command}")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        folder = Path(scratch)
        if not given.no_runs:
            make_runs(folder)
        cases = Cases(folder, None if given.no_runs else folder)
        if given.only:
            kept = given.only.split(",")
            cases.kinds = {k: w for k, w in cases.kinds.items() if k in kept}
        stored = stored_counts(given.counts, given.seed)
        seed = stored["seed"]
        # Without runs, the inputs of the same numbers are others.
        name = f"{given.shard} of tables" if given.no_runs else given.shard
        first = stored["next"].get(name, shard - 1)
        numbers = range(first, first + shards * given.count, shards)
        begun = time.monotonic()

        def after(tally: Tally, following: int) -> None:
            add(given.counts, tally, name, following, seed)
            keep(cases, tally.failures, given.found)
            for one in tally.failures:
                print(
                    f"{one['number']} {one['kind']} {one['outcome']}: {one['place']}",
                    flush=True,
                )

        tally = fuzz(cases, seed, numbers, given.seconds, after)
        if given.counts == COUNTS:
            write_document("inputs", table_of(stored_counts(COUNTS, seed)))
        rate = tally.inputs / (time.monotonic() - begun)
        print(f"{tally.inputs} inputs, {rate:.0f} a second, {tally.faults} faults")
        return int(tally.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
