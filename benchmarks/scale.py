"""Steps of one factorization or imputation over several processes: seconds and messages.

    python benchmarks/scale.py [--quick]

runs itself under torchrun (gloo, loopback, one thread each): seconds per step with 1 and 2
processes, messages and bytes per step with 2, 4 and 8. It fits the model of `docs/scale.md`
to the seconds, prints it beside them, and says what it predicts.

With more processes than cores only messages and bytes mean anything.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descents import Factorization, Stop, descend
from descents.cells.distributed import Distributed, SharedTable
from descents.factorization.alternating import Alternating
from descents.marginal.em import EM
from descents.marginal.gaussian import Marginal
from descents.optim.collective import ALONE, Processes, joined, leave
from descents.optim.first_order import Adam
from descents.optim.lbfgs import LBFGS
from descents.optim.problem import Problem
from descents.optim.rules import UpdateRule
from descents.tables.datasets import uci_iris

RULES: dict[str, UpdateRule] = {
    "alternating": Alternating(),
    "adam": Adam(0.01),
    "lbfgs": LBFGS(),
    "em": EM(accelerate=False),
}
WARM = 4
"""Steps before the clock: the first ones compute what later ones know."""


@dataclass(frozen=True)
class Case:
    """A table and what is fitted to it, for some processes."""

    rule: str
    rows: int
    columns: int = 50
    rank: int = 10
    holes: float = 0.0
    steps: int = 20

    @property
    def flops(self) -> float:
        """Additions and multiplications of a step over all processes."""
        m, n, q = self.rows, self.columns, self.rank + 1
        if self.rule == "em":  # P d, the completed rows, and an inverse for each row
            hidden = n * self.holes
            return 4.0 * m * n * n + m * (2 * hidden**3 + 6 * hidden**2)
        if self.rule != "alternating":  # Z = L R', S R and S' L
            return 6.0 * m * n * q
        if self.holes:  # a Gram matrix for each row and column
            return 4.0 * m * n * q * q + m * q**3 / 3
        return 4.0 * m * n * q + 8.0 * m * q * q

    @property
    def bytes(self) -> float:
        """What each process adds up in a step, in bytes, without penalties."""
        n, q = self.columns, self.rank + 1
        if self.rule == "em":
            return 8.0 * (2 + n * n + n)
        if self.rule != "alternating":
            return 8.0 * (1 + n * q)
        return 8.0 * (2 + q * q * (1 + (n if self.holes else 1)) + n * q)


def table(case: Case, folder: Path) -> Path:
    """Write the table of a case."""
    path = folder / f"{case.rows}-{case.columns}-{case.holes}.npy"
    if not path.exists():
        generator = np.random.default_rng(0)
        left = generator.standard_normal((case.rows, case.rank))
        values = left @ generator.standard_normal((case.rank, case.columns))
        values += generator.standard_normal(values.shape)
        if case.holes:
            values[generator.random(values.shape) < case.holes] = np.nan
        np.save(path, values)
    return path


def measured(case: Case, path: Path) -> dict[str, Any]:
    """Return the seconds, the processor's seconds, the messages and the bytes of a step.

    The seconds are those of the fastest step, which other programs of the machine
    disturbed least.
    """
    together = joined() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ALONE
    shared = SharedTable(path, together)
    if case.rule == "em":
        (block,) = (block for _, block in shared.blocks(shared.shape[0]))
        problem: Problem = Marginal(block, ridge=0.01, together=together)
    else:
        cells = Distributed(shared, case.rank)
        problem = Factorization(
            cells, case.rank, offsets="columns", initialization="normal"
        )
    rule, bound = RULES[case.rule], problem.bind(torch.arange(1))
    point = problem.points([0], 0)
    state, seconds, work = rule.init(bound, point), [], []
    counts = together.messages, together.sent
    for step in range(WARM + case.steps):
        if step == WARM:
            counts = together.messages, together.sent
        begun = time.perf_counter(), time.process_time()
        point, state, *_ = rule.update(bound, point, state, step)
        seconds.append(time.perf_counter() - begun[0])
        work.append(time.process_time() - begun[1])
    found = {
        "seconds": min(seconds[WARM:]),
        "work": float(np.median(work[WARM:])),
        "messages": (together.messages - counts[0]) / case.steps,
        "bytes": (together.sent - counts[1]) / case.steps,
    }
    if isinstance(together, Processes):
        leave()
    return found


def run(case: Case, processes: int, folder: Path) -> dict[str, Any]:
    """Return what the first of some processes measures."""
    arguments = [__file__, "--worker", json.dumps(vars(case)), str(table(case, folder))]
    command = [sys.executable, *arguments]
    if processes > 1:
        module = ["-m", "torch.distributed.run", "--standalone"]
        many = ["--nproc-per-node", str(processes)]
        command = [sys.executable, *module, *many, *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def seconds_of_starts() -> float:
    """Return the seconds of a start of rank 2 on the iris table, of 512."""
    begun, count = time.perf_counter(), 512
    problem = Factorization(uci_iris().values, 2, offsets="columns")
    descend(problem, count, steps=Alternating(), stop=Stop(50), threads=1)
    return (time.perf_counter() - begun) / count


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=2)
    given = parser.parse_args()
    if given.worker:
        found = measured(Case(**json.loads(given.worker[0])), Path(given.worker[1]))
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(found))
        return
    sizes = [1_000, 20_000] if given.quick else [1_000, 50_000, 400_000]
    cases = [Case(rule, rows) for rule in RULES if rule != "em" for rows in sizes]
    cases += [Case("alternating", rows, holes=0.3) for rows in sizes[:2]]
    cases += [Case("em", rows, holes=0.3) for rows in sizes[:2]]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        times = {(case, p): run(case, p, folder) for case in cases for p in (1, 2)}
        counts = {
            (case, p): run(case, p, folder)
            for case in cases
            for p in (4, 8)
            if case.rows == sizes[0] or (case.rows == sizes[1] and p == 8)
        }
    report(cases, times, counts)


def report(cases: list[Case], times: dict[Any, Any], counts: dict[Any, Any]) -> None:
    """Print the measurements, the model and what it predicts."""
    # seconds = flops / (processes * speed) + overhead + messages * latency, with speed and
    # overhead from the processor's seconds of one process
    speeds, overheads = {}, {}
    kinds = sorted({(case.rule, case.holes > 0) for case in cases})
    for kind in kinds:
        own = [case for case in cases if (case.rule, case.holes > 0) == kind]
        few, many = own[0], own[-1]
        rise = times[many, 1]["work"] - times[few, 1]["work"]
        speeds[kind] = (many.flops - few.flops) / rise
        rest = times[few, 1]["work"] - few.flops / speeds[kind]
        overheads[kind] = max(0.0, rest)
    small = [case for case in cases if case.rows == cases[0].rows]
    latency = float(
        np.median(
            [
                (
                    times[c, 2]["seconds"]
                    - c.flops / 2 / speeds[c.rule, c.holes > 0]
                    - overheads[c.rule, c.holes > 0]
                )
                / times[c, 2]["messages"]
                for c in small
            ]
        )
    )
    print("| steps | rows | processes | seconds | model | messages | bytes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (case, p), found in [*times.items(), *counts.items()]:
        kind = case.rule, case.holes > 0
        model = case.flops / p / speeds[kind] + overheads[kind]
        model += found["messages"] * latency * (p > 1)
        shown = (f"{found['seconds']:.4f}", f"{model:.4f}") if p < 4 else ("", "")
        name = f"{case.rule}{', missing cells' if case.holes else ''}"
        print(
            f"| {name} | {case.rows:,} | {p} | {shown[0]} | {shown[1]} | "
            f"{found['messages']:g} | {found['bytes']:,.0f} |"
        )
    for kind, speed in speeds.items():
        print(
            f"{kind}: {speed / 1e9:.2f} GFlop/s, overhead {overheads[kind] * 1e3:.2f} ms"
        )
    print(f"latency {latency * 1e6:.0f} microseconds a message")
    starts = seconds_of_starts()
    predict(speeds, overheads, starts)


def predict(
    speeds: dict[Any, float], overheads: dict[Any, float], starts: float
) -> None:
    """Print predictions for 10^9 rows on 64 machines, and for 10^8 starts."""
    machines, cores, latency, rate = 64, 32, 50e-6, 10e9 / 8
    p = machines * cores
    for case in (
        Case("alternating", 10**9, 100),
        Case("alternating", 10**9, 100, holes=0.3),
        Case("adam", 10**9, 100),
        Case("em", 10**9, 100, holes=0.3),
    ):
        kind = case.rule, case.holes > 0
        work = case.flops / p / speeds[kind]
        sent = 2 * math.log2(p) * latency + 2 * case.bytes / rate
        print(
            f"{kind}: 10^9 rows, 100 columns, rank 10, {p} processes: "
            f"{work:.2f} s of work and {sent * 1e3:.2f} ms of messages a step"
        )
    print(
        f"10^8 starts (iris, rank 2, 50 steps): {starts * 1e3:.2f} ms each, "
        f"{1e8 * starts / p / 3600:.2f} hours on {p} cores"
    )


if __name__ == "__main__":
    main()
