"""The same command gives the same result: again, on several processes, without compiled code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from descents.cli.main import main
from descents.storage.files import read_tensors

REPEATS = 100


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(50, 2))
    frame = pd.DataFrame(
        factor @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(50, 4)),
        columns=list("abcd"),
    )
    frame["kind"] = np.where(factor[:, 0] > 0, "p", "q")
    frame["a"] = frame["a"].mask(rng.random(50) < 0.2)
    path = tmp_path_factory.mktemp("determinism") / "t.csv"
    frame.to_csv(path, index=False)
    return path


def words_of(command: str, table: Path, out: Path) -> list[str]:
    """Return a small command of each kind."""
    options = {
        "train": [
            "--target",
            "kind",
            "--starts",
            "12",
            "--epochs",
            "4",
            "--hidden",
            "4",
        ],
        "factorize": ["--rank", "2", "--starts", "4", "--max-iter", "40"],
        "impute": [str(out) + ".csv", "--starts", "2"],
    }[command]
    return [command, str(table), *options, "--out", str(out), "--quiet"]


Contents = tuple[dict, pd.DataFrame, dict[str, np.ndarray]]


def contents(out: Path) -> Contents:
    """Return what a run stored, without times."""
    result = json.loads((out / "result.json").read_text())
    del result["seconds"]
    rows = pd.read_parquet(out / "starts.parquet")
    model, _ = read_tensors(out / "model.safetensors")
    timeless = {name: x for name, x in model.items() if "seconds" not in name}
    return result, rows[[n for n in rows if not n.startswith("seconds")]], timeless


def assert_equal(first: Contents, second: Contents) -> None:
    assert first[0] == second[0]
    pd.testing.assert_frame_equal(first[1], second[1])
    assert first[2].keys() == second[2].keys()
    for name, value in first[2].items():
        np.testing.assert_array_equal(value, second[2][name], err_msg=name)


@pytest.mark.parametrize("command", ["train", "factorize", "impute"])
def test_again_is_equal(command: str, table: Path, tmp_path: Path) -> None:
    """Bit for bit, in one process; `make test-all` does it a hundred times."""
    for name in ("first", "second"):
        assert main(words_of(command, table, tmp_path / name)) == 0
    assert_equal(contents(tmp_path / "first"), contents(tmp_path / "second"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "factorize", "impute"])
def test_a_hundred_times_is_equal(command: str, table: Path, tmp_path: Path) -> None:
    first = None
    for number in range(REPEATS):
        assert main(words_of(command, table, tmp_path / str(number))) == 0
        found = contents(tmp_path / str(number))
        if first is None:
            first = found
        assert_equal(first, found)


def run(words: list[str], **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "descents", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "factorize"])
def test_two_workers_are_equal_to_one(
    command: str, table: Path, tmp_path: Path
) -> None:
    one, two = (words_of(command, table, tmp_path / name) for name in ("one", "two"))
    run(one)
    run([*two, "--workers", "2"])
    assert_equal(contents(tmp_path / "one"), contents(tmp_path / "two"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "factorize", "impute"])
def test_without_compiled_code_the_losses_are_equal_but_for_rounding(
    command: str, table: Path, tmp_path: Path
) -> None:
    run(words_of(command, table, tmp_path / "compiled"))
    run(words_of(command, table, tmp_path / "plain"), DESCENTS_COMPILE="0")
    rows = [contents(tmp_path / name)[1] for name in ("compiled", "plain")]
    # networks are trained in float32
    tolerance = 1e-4 if command == "train" else 1e-6
    np.testing.assert_allclose(rows[0]["loss"], rows[1]["loss"], rtol=tolerance)
