"""Contenders take turns, each in a process of its own; ratios are taken turn by turn.

A case names its contenders, ours first. Each is made once, by a function of a case
module that returns what is to be timed: what it imports, loads and compiles until then
is its setting up. Then comes a first run, which is kept apart as it may compile, and
the turns: all contenders run once, in an order that moves on by one from turn to turn,
so that a drift of the machine falls on all of them. A contender that cannot be
imported, fails, or takes too long is left out, with the reason.

As a command this file is the process of one contender: it takes the name of the
function and its options, and answers each line it is sent by one run.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import math
import os
import resource
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

HERE = Path(__file__).parent


class Outcome(NamedTuple):
    """What one run came to.

    Attributes
    ----------
    quality : float
    seconds : float or None
        Where the contender knows better than the clock around it, such as the time of
        its training alone.
    detail : str
        What was done, such as how many sweeps.
    """

    quality: float
    seconds: float | None = None
    detail: str = ""


Run = Callable[[], Outcome]


@dataclass(frozen=True)
class Contender:
    """Who takes part in a case.

    Attributes
    ----------
    name : str
    make : str
        "module:function"; called with the options it returns a `Run`.
    options : mapping
    asked : float or None
        The least ratio of its seconds over ours that is asked for.
    scale : float
        What its seconds are multiplied by, where it does a share of the work.
    turns : int or None
        In how many of the turns it takes part; None is all.
    warms : bool
        Whether there is a first run that does not count.
    threads : int
        Those of its numerical libraries.
    limit : float
        The seconds that setting up, or a run, may take.
    environment : mapping
    """

    name: str
    make: str
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: float | None = None
    scale: float = 1.0
    turns: int | None = None
    warms: bool = True
    threads: int = 1
    limit: float = 180.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """What is measured, and by whom.

    Attributes
    ----------
    name, title : str
    contenders : tuple of Contender
        Ours first.
    quality : str
        What the quality is.
    most, least : float or None
        Quality beyond which a contender has not done the task.
    excess : float or None
        Where given, what counts is not a ratio: ours less the others' seconds, which is
        asked to be at most this.
    note : str
        What a reader must know: data, what is timed, what is scaled.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    quality: str
    most: float | None = None
    least: float | None = None
    excess: float | None = None
    note: str = ""

    def good(self, quality: float) -> bool:
        """Return whether a contender has done the task."""
        return not (
            math.isnan(quality)
            or (self.most is not None and quality > self.most)
            or (self.least is not None and quality < self.least)
        )


class Spread(NamedTuple):
    """A median with the least and the largest."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the spread of some numbers, None where there are none."""
        values = list(values)
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Result:
    """What became of a contender.

    Attributes
    ----------
    contender : Contender
    seconds : dict of float
        By turn, of the whole work.
    quality : float or None
        Of the last run.
    first : float or None
        Seconds of the first run, which does not count, as they were.
    setting_up : float or None
        Seconds of imports, data and compilation before it.
    peak : int or None
        Bytes by which memory rose above what it was before the runs.
    left_out : str
        Why it has no numbers, or not all of them.
    """

    contender: Contender
    seconds: dict[int, float] = field(default_factory=dict)
    quality: float | None = None
    first: float | None = None
    setting_up: float | None = None
    peak: int | None = None
    detail: str = ""
    left_out: str = ""

    def against(self, ours: Result, excess: bool = False) -> Spread | None:
        """Return its seconds over ours, or ours less its, turn by turn."""
        turns = sorted(set(self.seconds) & set(ours.seconds))
        if excess:
            return Spread.of(ours.seconds[t] - self.seconds[t] for t in turns)
        return Spread.of(self.seconds[t] / ours.seconds[t] for t in turns)


class LeftOut(Exception):  # noqa: N818 - not always an error
    """A contender cannot go on; the message says why."""


class Worker:
    """The process of one contender.

    Raises
    ------
    LeftOut
        From every method, when the contender fails or takes too long.
    """

    def __init__(self, contender: Contender) -> None:
        self._limit = contender.limit
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - see close
        threads = str(contender.threads)
        names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
        environment = {
            **os.environ,
            **{f"{name}_NUM_THREADS": threads for name in names},
            "MPLBACKEND": "agg",
            **contender.environment,
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, contender.make, json.dumps(contender.options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,
        )
        try:
            self.setting_up: float = self._answer()["seconds"]
        except LeftOut:
            self.close()
            raise

    def run(self) -> dict[str, Any]:
        """Run once; return the fields of the outcome, and the peak so far."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._kill()
        self._process.stdout.close()
        self._errors.close()

    def _kill(self) -> None:
        """End the process at once, with those that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        pipe = self._process.stdout
        assert pipe is not None
        ready, _, _ = select.select([pipe], [], [], self._limit)
        if not ready:
            self._kill()
            raise LeftOut(f"stopped after {self._limit:g} s")
        line = pipe.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise LeftOut(f"its process ended: {said[-1] if said else 'no message'}")
        answer: dict[str, Any] = json.loads(line)
        if "left_out" in answer:
            raise LeftOut(answer["left_out"])
        return answer


def compete(
    case: Case, turns: int, say: Callable[[str], None] = lambda line: None
) -> list[Result]:
    """Let all contenders of a case take turns.

    Returns
    -------
    list of Result
        In the order of the contenders, with those that were left out.
    """
    results = [Result(contender) for contender in case.contenders]
    workers: dict[int, Worker] = {}
    try:
        for place, result in enumerate(results):
            with _leaving_out(result, workers, place):
                workers[place] = Worker(result.contender)
                result.setting_up = workers[place].setting_up
                if result.contender.warms:
                    taken = _run(result, workers[place])
                    result.first = taken / result.contender.scale
            say(f"{case.name}: {result.contender.name} {result.left_out or 'is ready'}")
        for turn in range(turns):
            for place in _order(len(results), turn):
                result, limit = results[place], results[place].contender.turns
                if place in workers and (limit is None or turn < limit):
                    with _leaving_out(result, workers, place):
                        result.seconds[turn] = _run(result, workers[place])
    finally:
        for worker in workers.values():
            worker.close()
    return results


def _order(count: int, turn: int) -> list[int]:
    """Return who runs when in a turn: each turn begins one place later.

    >>> _order(3, 1)
    [1, 2, 0]
    """
    return [(place + turn) % count for place in range(count)]


def _run(result: Result, worker: Worker) -> float:
    answer = worker.run()
    result.quality, result.detail = answer["quality"], answer["detail"]
    result.peak = answer["peak"]
    return answer["seconds"] * result.contender.scale


@contextlib.contextmanager
def _leaving_out(result: Result, workers: dict[int, Worker], place: int) -> Any:
    try:
        yield
    except LeftOut as reason:
        result.left_out = str(reason)
        if place in workers:
            workers.pop(place).close()


def fewest(good: Callable[[int], bool], most: int = 10_000) -> int:
    """Return the least count from 1 on that is good, where more is never worse.

    Examples
    --------
    >>> fewest(lambda sweeps: sweeps >= 13)
    13
    """
    high = 1
    while not good(high):
        if high >= most:
            raise LeftOut(f"does not reach the quality in {most} steps")
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Curve:
    """What a run costs against one size, a process of its own for each point.

    Attributes
    ----------
    name, title, axis : str
    contenders : tuple of Contender
        Whose `make` takes the size as an option called `axis`.
    sizes : tuple of int
    """

    name: str
    title: str
    axis: str
    contenders: tuple[Contender, ...]
    sizes: tuple[int, ...]


@dataclass
class Point:
    """Seconds and peak bytes at one size, or why there are none."""

    contender: str
    size: int
    seconds: float | None = None
    peak: int | None = None
    left_out: str = ""


def trace(
    curve: Curve, turns: int = 1, say: Callable[[str], None] = lambda line: None
) -> list[Point]:
    """Measure all points of a curve: the median of some runs after a first one."""
    points = []
    for size in curve.sizes:
        for contender in curve.contenders:
            point = Point(contender.name, size)
            options = {**contender.options, curve.axis: size}
            fields = {**vars(contender), "options": options}
            try:
                worker = Worker(Contender(**fields))
            except LeftOut as reason:
                point.left_out = str(reason)
            else:
                try:
                    runs = [worker.run() for _ in range(turns + contender.warms)]
                    seconds = [run["seconds"] for run in runs[contender.warms :]]
                    point.seconds = statistics.median(seconds) * contender.scale
                    point.peak = runs[-1]["peak"]
                except LeftOut as reason:
                    point.left_out = str(reason)
                worker.close()
            points.append(point)
        say(f"{curve.name}: {curve.axis} {size}")
    return points


def serve(make: str, options: Mapping[str, Any], answers: IO[str]) -> None:
    """Be the process of a contender: set up, then run at every line of the input."""

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        begun = time.perf_counter()
        module, function = make.split(":")
        run = getattr(importlib.import_module(module), function)(**options)
        answer(seconds=time.perf_counter() - begun)
        before = _forget_peak()
        for _ in sys.stdin:
            begun = time.perf_counter()
            outcome = run()
            taken = time.perf_counter() - begun
            answer(
                seconds=taken if outcome.seconds is None else outcome.seconds,
                quality=float(outcome.quality),
                detail=outcome.detail,
                peak=_peak() - before,
            )
    except ImportError as error:
        answer(left_out=f"cannot be imported: {error}")
    except Exception as error:  # whatever a peer raises is a reason
        answer(left_out=f"{type(error).__name__}: {error}".strip().splitlines()[0])


def own_threads() -> int:
    """Return how many threads the contender of this process may use."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def _peak() -> int:
    """Return the most bytes that this process has held since `_forget_peak`.

    By the system's own account, where there is one: what `getrusage` says begins with
    what the process held that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def _forget_peak() -> int:
    """Count the peak from what is held now, where the system can; return it.

    What setting up has given back, but the allocator keeps, is given to the system.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints is no answer
    # The classes here and those of a case module are to be the same ones.
    from suite import serve as serve_as_module

    serve_as_module(sys.argv[1], json.loads(sys.argv[2]), kept)
