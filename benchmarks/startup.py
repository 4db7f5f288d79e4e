"""Whole commands: how long one waits for the first of them, and for the report."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from suite import Case, Contender, Outcome, Run

REPOSITORY = Path(__file__).parent.parent
MOST_SECONDS = 1.0


def command(arguments: list[str], source: str | None = None) -> Run:
    """Run `python` with some arguments; {out} and {table} stand for files."""
    folder = Path(tempfile.mkdtemp(prefix="descents-bench-"))
    values = np.random.default_rng(0).normal(size=(100, 5))
    np.savetxt(
        folder / "table.csv", values, "%.4f", ",", header="a,b,c,d,e", comments=""
    )
    # What a user has: the libraries' own numbers of threads,
    # and what is compiled once is kept.
    own = ("_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")
    environment = {
        k: v for k, v in os.environ.items() if not any(name in k for name in own)
    }
    if source is not None:
        environment["PYTHONPATH"] = source
    done = 0

    def run() -> Outcome:
        nonlocal done
        done += 1
        places = {
            "out": str(folder / f"out-{done}"),
            "table": str(folder / "table.csv"),
        }
        ready = [argument.format(**places) for argument in arguments]
        subprocess.run(
            [sys.executable, *ready],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
            cwd=folder,
        )
        return Outcome(1.0)

    return run


def before(revision: str) -> Run:
    """Run the report with the package as it was, in a working tree for a while."""
    folder = Path(tempfile.mkdtemp(prefix="descents-before-"))
    with tempfile.TemporaryFile() as archive:
        packed = ["git", "archive", "--format=tar", revision, "src"]
        try:
            subprocess.run(packed, check=True, cwd=REPOSITORY, stdout=archive)
        except subprocess.CalledProcessError:
            raise ImportError(f"there is no revision {revision} here") from None
        archive.seek(0)
        subprocess.run(["tar", "-x", "-C", str(folder)], check=True, stdin=archive)
    return command(REPRODUCE, str(folder / "src"))


REPRODUCE = ["-m", "descents", "reproduce", "--quiet", "--out", "{out}"]
FACTORIZE = [
    "-m",
    "descents",
    "factorize",
    "{table}",
    "--rank",
    "2",
    "--quiet",
    "--out",
    "{out}",
]


def cases(quick: bool, revision: str | None = None) -> list[Case]:
    """Return the cases of this subject."""
    found = [
        Case(
            "start-up",
            "descents factorize on 100 rows, less what loading torch takes",
            (
                Contender(
                    "descents factorize", "startup:command", {"arguments": FACTORIZE}
                ),
                Contender(
                    "python -c 'import torch'",
                    "startup:command",
                    {"arguments": ["-c", "import torch"]},
                ),
            ),
            "ended well",
            excess=MOST_SECONDS,
            note="A table of 100 x 5 as CSV, rank 2; with the page and the pictures.",
        )
    ]
    if quick:
        return found
    contenders = [
        Contender(
            "descents reproduce",
            "startup:command",
            {"arguments": REPRODUCE},
            turns=1,
            warms=False,
            limit=600,
        )
    ]
    if revision is not None:
        contenders.append(
            Contender(
                f"itself at {revision}",
                "startup:before",
                {"revision": revision},
                asked=2,
                turns=1,
                warms=False,
                limit=600,
            )
        )
    found.append(
        Case(
            "reproduce",
            "descents reproduce, whole",
            tuple(contenders),
            "ended well",
            note="1000 starts of each setting, one run each.",
        )
    )
    return found
