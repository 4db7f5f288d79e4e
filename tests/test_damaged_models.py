"""Stored models and results whose parts do not belong together are refused when opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import descents
from descents.cli.main import main
from descents.errors import RunFolderError
from descents.runs.impute_result import ImputationResult
from descents.storage.files import read_tensors, write_tensors
from descents.storage.results import read_result

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(60, 3)), columns=list("abc"))
    frame["d"] = np.where(generator.random(60) < 0.5, "x", "y")
    frame = frame.mask(generator.random(frame.shape) < 0.1)
    frame.to_csv(place / "t.csv", index=False)
    table, filled = str(place / "t.csv"), str(place / "f.csv")
    words = ["--quiet", "--out"]
    assert main(["impute", table, filled, *words, str(place / "impute")]) == 0
    options = ["--rank", "1", "--starts", "2"]
    assert main(["factorize", table, *options, *words, str(place / "factorize")]) == 0
    return place


def _twice(facts: Facts) -> None:
    facts["columns"][1] = facts["columns"][0]


def _turned(facts: Facts) -> None:
    facts["columns"].reverse()


def _shorter(facts: Facts) -> None:
    facts["runs"]["order"].remove("parameters/offsets")


def _longer(facts: Facts) -> None:
    facts["runs"]["order"].append("parameters/V")


@pytest.mark.parametrize(
    ("command", "damage", "says"),
    [
        ("impute", _twice, "two columns have the name 'a'"),
        ("impute", _turned, "other levels than their features"),
        ("factorize", _twice, "two columns have the name 'a'"),
        ("factorize", _shorter, "its order of arrays is"),
        ("factorize", _longer, "its order of arrays is"),
    ],
)
def test_columns_and_arrays_that_do_not_belong_together(
    folder: Path, command: str, damage: Callable[[Facts], None], says: str
) -> None:
    path = folder / command / "model.safetensors"
    whole = path.read_bytes()
    arrays, facts = read_tensors(path)
    damage(facts)
    try:
        write_tensors(path, arrays, facts)
        with pytest.raises(RunFolderError, match=says):
            descents.load(folder / command)
    finally:
        path.write_bytes(whole)
    descents.load(folder / command)


def test_a_strange_schema_version_is_cut(folder: Path, tmp_path: Path) -> None:
    result = json.loads((folder / "impute" / "result.json").read_text())
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**result, "schema_version": "a" * 5000}))
    with pytest.raises(RunFolderError) as raised:
        read_result(ImputationResult, path)
    assert "has the schema version 'aaaa" in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(path))
