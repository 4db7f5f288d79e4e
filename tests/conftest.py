"""What the tests share."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from sklearn.datasets import load_iris

from browsing import Browser

# `make test` tries the same examples each time; `make test-all` tries others.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

ROOT = Path(__file__).parents[1]
FEW = ("--starts", "7", "--seed", str(5 + 2**40))
"""Of a short run of `descents reproduce`, with a seed that needs more than 32 bits."""
MIXED = """name,size,weight,color,grade
a,1.50,10,red,yes
b,,12,blue,no
c,2.25,15,red,
d,2.75,,blue,yes
e,3.5,19,,no
f,4.0,22,red,yes
g,4.25,24,blue,no
"""


def slow(value: Any) -> Any:
    """Return a value of a parameter that is left to `make test-all`."""
    return pytest.param(value, marks=pytest.mark.slow)


def some(values: Iterable[Any], count: int) -> list[Any]:
    """Return values of a parameter: so many for `make test`, the others are slow."""
    return [
        value if place < count else slow(value) for place, value in enumerate(values)
    ]


def run_descents(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "descents", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        **options,
    )


def error_of(printed: str) -> str:
    """Return the one line of an error on standard error."""
    (says,) = printed.splitlines()
    assert says.startswith("descents: "), printed
    return says


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """Return a folder that `make` fills, once for all processes of a test run."""
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    folder, done = place / name, place / f"{name}.done"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process waits, and finds it done
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is left to `make test-all`, and put the tests of one long run first.

    Of a test with the mark ``sampled(n)``, n cases that are evenly spread among its
    parameters run in `make test`. Tests of the whole `descents reproduce` come first: the
    first of two processes gets the first half of the tests, so the other process does not
    wait for that run.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for each in cases.values():
        (count,) = each[0].get_closest_marker("sampled").args
        kept = {round(k * (len(each) - 1) / max(1, count - 1)) for k in range(count)}
        for place, item in enumerate(each):
            if place not in kept:
                item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: "whole" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one whole `descents reproduce` at its defaults."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}

    def make(folder: Path) -> None:
        out = folder / "run"
        done = run_descents("reproduce", "--out", str(out), "--strict", env=environment)
        assert done.returncode == 0, done.stderr
        (out / "printed.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "reproduce", make) / "run"


@pytest.fixture(scope="session")
def result(whole: Path) -> dict[str, Any]:
    """Return what that run found."""
    return dict(json.loads((whole / "result.json").read_text()))


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a `descents reproduce` of few starts, never interrupted."""

    def make(folder: Path) -> None:
        done = run_descents("reproduce", *FEW, "--out", str(folder / "run"))
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "unbroken", make) / "run"


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small mixed table, its run, and the table filled."""

    def make(place: Path) -> None:
        (place / "table.csv").write_text(MIXED)
        done = run_descents(
            "factorize", str(place / "table.csv"), "--rank", "1", "--id", "name",
            "--starts", "3", "--out", str(place / "run"), "--impute",
            str(place / "filled.csv"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (place / "printed.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "mixed", make)


TRAINED_STARTS = 40
"""The number of starts of each of the four settings of `trained`."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a small network in four settings, two of them with bad starts."""

    def make(folder: Path) -> None:
        iris = load_iris(as_frame=True)
        table = iris.frame
        table["target"] = iris.target_names[table["target"]]
        table.to_csv(folder / "iris.csv", index=False)
        done = run_descents(
            "train", str(folder / "iris.csv"), "--target", "target", "--hidden", "6",
            "--starts", str(TRAINED_STARTS), "--epochs", "15", "--diagnose", "3",
            "--init", "kaiming", "--init", "uniform01", "--learning-rate", "0.01",
            "--learning-rate", "3.0", "--out", str(folder / "run"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "trained", make) / "run"


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """Return the run of a comparison of two settings of `trained`."""

    def make(folder: Path) -> None:
        done = run_descents(
            "compare", str(trained), "--setting", "kaiming with learning rate 0.01",
            "--setting", "uniform01 with learning rate 0.01", "--margin", "0.05",
            "--out", str(folder / "run"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "compared", make) / "run"


@pytest.fixture(scope="session")
def imputed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of an imputation of a table with numbers and levels."""

    def make(folder: Path) -> None:
        generator = np.random.default_rng(0)
        u = generator.normal(size=(120, 2))
        table = pd.DataFrame(
            u @ generator.normal(size=(2, 5)) + 0.4 * generator.normal(size=(120, 5)),
            columns=[f"x{k}" for k in range(5)],
        )
        table["kind"] = np.where(u[:, 0] > 0, "high", "low")
        table["noise"] = generator.normal(size=120)
        table = table.mask(generator.random(table.shape) < 0.15)
        table.to_csv(folder / "table.csv", index=False)
        done = run_descents(
            "impute", str(folder / "table.csv"), str(folder / "filled.csv"),
            "--out", str(folder / "run"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "imputed", make) / "run"


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Return browser and driver; absent, a test is skipped, but never in CI."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(found):
        if os.environ.get("CI"):
            pytest.fail("chromium and chromedriver are missing; .ci/run installs them")
        pytest.skip("chromium and chromedriver are not installed")
    return str(found[0]), str(found[1])


@pytest.fixture(scope="session")
def browser(
    chromium: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """Return a browser that the tests of a process share."""
    found = Browser(chromium, tmp_path_factory.mktemp("browser"))
    yield found
    found.driver.quit()
