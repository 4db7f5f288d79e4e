"""Measure what descents costs beside its peers, and write RESULTS.md.

    make bench                                         # all of it, a quarter of an hour
    python benchmarks/run.py --quick                   # small versions, a minute or two
    python benchmarks/run.py --only completion         # cases whose name begins so
    python benchmarks/run.py --history                 # what earlier runs found

Whole runs write RESULTS.md, the plots and one line of history.jsonl beside this file;
others print, and write where --out says.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import completion
import factorization
import networks
import nonnegative
import one_start
import startup
from suite import HERE, Case, Curve, Point, Result, Spread, compete, trace

BEFORE = "7a73f20"
"""What `descents reproduce` is compared with: the last version before this suite."""
TURNS, QUICK_TURNS = 5, 2
SUBJECTS = (networks, factorization, completion, nonnegative, one_start)
FAILED_INSTALLS = Path(sys.prefix) / "peers.json"

GROWS = 1.5
"""The ratio of two peaks of memory beyond which memory is said to grow."""
WITHOUT_A_CASE = {
    "implicit": "models which cells were seen, an absent one as a zero: it foretells no "
    "value, so that no held-out error is its aim",
    "pytabkit": "trains its networks with a schedule, preprocessing and ensembles of its "
    "own: nothing here is the same task",
}

Found = list[tuple[Case, list[Result]]]
Traced = list[tuple[Curve, list[Point]]]


# What is known of the machine


def machine() -> str:
    """Return what a reader needs to know of the machine, and no name of it."""
    model = platform.processor() or platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = ""
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal"):
            memory = f", {int(line.split()[1]) / 2**20:.0f} GiB"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{cores or os.cpu_count()} cores ({model}){memory}, {platform.system()}; "
        f"load when the run began: {load}"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def commit() -> str:
    """Return the commit that was measured, with a plus where files differ from it."""

    def git(*words: str) -> str:
        asked = ["git", "-C", str(HERE), *words]
        return subprocess.run(asked, check=False, capture_output=True, text=True).stdout

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../src")
    return (git("rev-parse", "--short", "HEAD").strip() or "unknown") + "+" * bool(
        changed.strip()
    )


def peers() -> dict[str, str]:
    """Return the version of each package of the `peers` extra, or why there is none."""
    declared = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    wanted = declared["project"]["optional-dependencies"]["peers"]
    failed = json.loads("".join(_lines(FAILED_INSTALLS)) or "{}")
    found = {}
    for requirement in ["torch", "numpy", "scikit-learn", *wanted]:
        name = requirement.split(">")[0].split("=")[0].strip()
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed" + (
                f": {failed[requirement]}" if requirement in failed else ""
            )
    return found


# Words and tables


def number(value: float | None) -> str:
    """Return three digits of a number.

    >>> number(1234.5), number(0.012345), number(None)
    ('1230', '0.0123', '')
    """
    if value is None or math.isnan(value):
        return ""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2e}"
    return f"{float(f'{value:.3g}'):.10g}"


def with_range(spread: Spread | None, unit: str = "") -> str:
    """Return a median and its range in words."""
    if spread is None:
        return ""
    if spread.least == spread.largest:
        return f"{number(spread.median)}{unit}"
    least, largest = number(spread.least), number(spread.largest)
    return f"{number(spread.median)}{unit} ({least} to {largest})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def judged(found: Found) -> list[list[str]]:
    """Return case, against, asked, measured and reached of all that is asked for."""
    rows = []
    for case, results in found:
        ours = results[0]
        for result in results[1:]:
            if case.excess is None and result.contender.asked is None:
                continue
            if case.excess is not None:
                asked, unit = f"at most {number(case.excess)} s", " s"
            else:
                asked, unit = f"{number(result.contender.asked)}x", "x"
            spread = result.against(ours, case.excess is not None)
            if spread is None:
                reason = result.left_out or ours.left_out or "did not run"
                measured, reached = reason, "not measured"
            else:
                if case.excess is not None:
                    reached = "yes" if spread.median <= case.excess else "no"
                else:
                    reached = (
                        "yes"
                        if spread.median >= (result.contender.asked or 0)
                        else "no"
                    )
                measured = with_range(spread, unit)
                if not case.good(ours.quality or 0.0):
                    reached = "no: quality"
                elif not case.good(result.quality or 0.0):
                    measured += "; it misses the quality"
            rows.append([case.title, result.contender.name, asked, measured, reached])
    return rows


def detailed(case: Case, results: list[Result]) -> list[str]:
    """Return the section of a case."""
    ours, rows = results[0], []
    for result in results:
        if result.left_out and not result.seconds:
            rows.append(
                [result.contender.name, f"left out: {result.left_out}", *[""] * 6]
            )
            continue
        quality = "" if result.quality is None else f"{result.quality:.4g}"
        if case.quality == "relative excess" and result.quality is not None:
            quality = f"{result.quality:.1e}"
        if case.quality == "loss over the SVD's" and result.quality is not None:
            quality = f"{result.quality:.5f}"
        if not case.good(result.quality if result.quality is not None else 0.0):
            quality += " (missed)"
        rows.append(
            [
                result.contender.name,
                with_range(Spread.of(result.seconds.values())),
                "" if result is ours else with_range(result.against(ours), "x"),
                quality,
                number(result.first),
                number(result.setting_up),
                "" if result.peak is None else f"{result.peak / 2**20:.0f}",
                "; ".join(filter(None, [result.detail, result.left_out])),
            ]
        )
    heads = (
        "contender",
        "seconds",
        "times ours",
        case.quality,
        "first run, s",
        "setting up, s",
        "peak, MiB",
        "",
    )
    return [f"### {case.title}", "", case.note, "", *table(heads, rows), ""]


def traced_section(curve: Curve, points: list[Point]) -> list[str]:
    """Return the table of a curve: seconds, and peak memory, by size."""
    rows = []
    for size in curve.sizes:
        row = [f"{size:,}"]
        for contender in curve.contenders:
            point = next(
                p for p in points if (p.contender, p.size) == (contender.name, size)
            )
            if point.seconds is None or point.peak is None:
                row.append(point.left_out)
            else:
                row.append(f"{number(point.seconds)} s, {point.peak / 2**20:.0f} MiB")
        rows.append(row)
    heads = [curve.axis, *(contender.name for contender in curve.contenders)]
    return [f"### {curve.title}", "", *table(heads, rows), ""]


def memory_rows(traced: Traced) -> list[list[str]]:
    """Return whether the memory of completion follows the entries and not the cells."""
    rows = []
    for curve, points in traced:
        if curve.name not in ("observed", "cells"):
            continue
        own = [p for p in points if p.contender == "descents" and p.peak]
        if len(own) < 2:
            continue
        sizes, peaks = own[-1].size / own[0].size, own[-1].peak / own[0].peak
        with_entries = curve.name == "observed"
        shown = peaks > GROWS if with_entries else peaks < GROWS
        rows.append(
            [
                "Memory of completion",
                f"{number(sizes)} times the {'entries' if with_entries else 'cells'}",
                "grows along" if with_entries else "does not grow along",
                f"{number(peaks)} times the peak",
                "yes" if shown else "no",
            ]
        )
    return rows


def page(found: Found, traced: Traced, facts: dict[str, Any], plot: str) -> str:
    """Return RESULTS.md."""
    versions = ", ".join(
        f"{name} {version}" for name, version in facts["peers"].items()
    )
    lines = [
        "# What it costs, beside its peers",
        "",
        "Written by `make bench`. Every contender runs in a process of its own; they take "
        "turns in an order that moves on. A ratio is a contender's seconds over ours in the "
        "same turn: the median stands first, the range over the turns in brackets, and more "
        "than 1 is faster than it. Imports, and the first run, which may compile, are not "
        "counted, but where a case says that all is included. Peak memory is what the "
        "process held at most above what it held when it had its data.",
        "",
        f"- {facts['date']}, descents {facts['commit']}, Python {facts['python']}, "
        f"{facts['turns']} turns",
        f"- {facts['machine']}",
        f"- {versions}",
        "",
        "## Asked and measured",
        "",
        *table(
            ("case", "against", "asked", "measured", "reached"),
            [*judged(found), *memory_rows(traced)],
        ),
        "",
    ]
    kept_out = [["none", *pair] for pair in WITHOUT_A_CASE.items()]
    left = [
        [case.title, result.contender.name, result.left_out]
        for case, results in found
        for result in results
        if result.left_out
    ]
    heads = ("case", "contender", "why")
    lines += ["## Left out", "", *table(heads, [*left, *kept_out]), ""]
    lines += ["## Every case", ""]
    for case, results in found:
        lines += detailed(case, results)
    if traced:
        lines += ["## Against size", ""]
        if plot:
            lines += [f"![Seconds and peak memory against size]({plot})", ""]
        for curve, points in traced:
            lines += traced_section(curve, points)
    return "\n".join(lines).rstrip() + "\n"


def draw(traced: Traced, path: Path) -> None:
    """Draw seconds of all curves, and the memory of completion."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    panels = [(curve, points, "seconds") for curve, points in traced]
    panels += [
        (curve, points, "peak")
        for curve, points in traced
        if curve.name in ("observed", "cells")
    ]
    wide = 3
    deep = -(-len(panels) // wide)
    figure, axes = plt.subplots(
        deep,
        wide,
        figsize=(4.2 * wide, 3.2 * deep),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (curve, points, what) in zip(axes.flat, panels, strict=False):
        for contender in curve.contenders:
            own = [p for p in points if p.contender == contender.name and p.seconds]
            values = [p.seconds if what == "seconds" else p.peak / 2**20 for p in own]
            ax.plot([p.size for p in own], values, "o-", label=contender.name)
        ax.set(xscale="log", yscale="log", xlabel=curve.axis)
        ax.set_ylabel("seconds" if what == "seconds" else "peak memory, MiB")
        ax.set_xticks(curve.sizes, [EngFormatter(sep="")(n) for n in curve.sizes])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_title("\n".join(textwrap.wrap(curve.title, 48)), fontsize=8)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# Runs kept


def line(found: Found, traced: Traced, facts: dict[str, Any]) -> dict[str, Any]:
    """Return a run as plain values, for history.jsonl."""
    entries = []
    for case, results in found:
        for result in results:
            spread = result.against(results[0], case.excess is not None)
            entries.append(
                {
                    "case": case.name,
                    "contender": result.contender.name,
                    "seconds": list(result.seconds.values()),
                    "against_ours": None if spread is None else list(spread),
                    "quality": result.quality,
                    "first": result.first,
                    "setting_up": result.setting_up,
                    "peak": result.peak,
                    "left_out": result.left_out,
                }
            )
    curves = [
        {"curve": curve.name, **vars(point)}
        for curve, points in traced
        for point in points
    ]
    return {**facts, "cases": entries, "curves": curves}


def history(path: Path) -> str:
    """Return a table of the ratios that the last runs found, the newest last."""
    runs = [json.loads(entry) for entry in _lines(path)][-6:]
    found: dict[tuple[str, str], dict[int, str]] = {}
    for place, run in enumerate(runs):
        for entry in run["cases"]:
            if entry["against_ours"]:
                key = (entry["case"], entry["contender"])
                found.setdefault(key, {})[place] = number(entry["against_ours"][0])
    heads = ["case", "contender", *(f"{run['date']} {run['commit']}" for run in runs)]
    return "\n".join(
        table(
            heads,
            (
                [*key, *(values.get(place, "") for place in range(len(runs)))]
                for key, values in found.items()
            ),
        )
    )


def chosen(names: set[str], asked: Sequence[str]) -> set[str]:
    """Return the names that are asked for, or begin with what is.

    >>> sorted(chosen({"cells", "starts-10", "starts-100"}, ["starts-10", "c"]))
    ['cells', 'starts-10']
    """
    found = set()
    for word in asked:
        begin = {name for name in names if name.startswith(word)}
        found |= {word} if word in names else begin
    return found


def limited(what: Any, threads: int) -> Any:
    """Return a case or curve whose contenders have so many threads at most."""
    contenders = tuple(
        replace(one, threads=min(one.threads, threads)) for one in what.contenders
    )
    return replace(what, contenders=contenders)


def options() -> argparse.ArgumentParser:
    """Return what may be asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", help="cases and curves whose name begins so"
    )
    parser.add_argument("--quick", action="store_true", help="small versions")
    parser.add_argument("--turns", type=int, help=f"by default {TURNS}")
    parser.add_argument("--out", type=Path, help="the folder to write to")
    parser.add_argument(
        "--threads", type=int, help="at most, of numerical libraries; by default 2"
    )
    parser.add_argument("--before", metavar="REV", default=BEFORE)
    parser.add_argument("--history", action="store_true", help="print earlier runs")
    return parser


def main() -> None:
    """Measure, print, and write."""
    parser = options()
    given = parser.parse_args()
    if given.history:
        print(history((given.out or HERE) / "history.jsonl"))
        return
    turns = given.turns or (QUICK_TURNS if given.quick else TURNS)
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "python": platform.python_version(),
        "machine": machine(),
        "turns": turns,
        "peers": peers(),
    }

    cases = [case for subject in SUBJECTS for case in subject.cases(given.quick)]
    cases += startup.cases(given.quick, given.before)
    curves = [
        curve
        for subject in (networks, factorization, completion)
        for curve in subject.curves(given.quick)
    ]
    names = {one.name for one in (*cases, *curves)}
    wanted = names if given.only is None else chosen(names, given.only)
    cases = [case for case in cases if case.name in wanted]
    curves = [curve for curve in curves if curve.name in wanted]
    if given.only or given.quick:
        some = ", ".join(given.only or ["small versions"])
        facts["machine"] += f"\n- not the whole, but {some}"
    if given.threads:
        cases = [limited(case, given.threads) for case in cases]
        curves = [limited(curve, given.threads) for curve in curves]
        facts["machine"] += (
            f"; at most {given.threads} thread(s) of numerical libraries"
        )
    if not cases and not curves:
        parser.error(f"no case begins with {', '.join(given.only)}")

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    found: Found = []
    traced: Traced = []
    whole = given.only is None and not given.quick
    out = given.out or (HERE if whole else None)

    def write() -> str:
        """Write the page of what is known so far: a long run may be cut short."""
        plot = "costs.png" if traced and out is not None else ""
        text = page(found, traced, facts, plot)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "RESULTS.md").write_text(text)
            if plot:
                draw(traced, out / plot)
        return text

    for case in cases:
        found.append((case, compete(case, turns, say)))
        say("\n".join(detailed(*found[-1])))
        write()
    for curve in curves:
        traced.append((curve, trace(curve, say=say)))
        write()
    print(write())
    if out is not None:
        with (out / "history.jsonl").open("a") as lines:
            lines.write(json.dumps(line(found, traced, facts)) + "\n")


if __name__ == "__main__":
    main()
