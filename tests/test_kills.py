"""A small part of `make faults`: one trial of each kind, and how counts are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults import fuzz
from faults.kills import (
    COUNTS,
    KINDS,
    SHARED,
    Place,
    add,
    prepared,
    table_of,
    tried,
)
from faults.stored import in_document


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return prepared(tmp_path_factory.mktemp("kills"))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="processes are found in /proc")
@pytest.mark.parametrize("kind", KINDS[::2], ids=", ".join)
def test_a_command_that_is_ended_goes_on(kind: tuple[str, str], place: Place) -> None:
    outcome = tried(place, *kind, number=10**6, seed=0)
    assert outcome in ("resumed equal", "answered so far", "ended before")


def test_counts_are_added_up(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    add(path, "train, SIGKILL", 0, "resumed equal", "")
    add(path, "train, SIGKILL", 1, "ended before", "")
    add(path, "factorize, SIGINT", 0, "answered so far", "")
    add(path, "train, SIGKILL", 2, "fault", "still there")
    stored = json.loads(path.read_text())
    assert stored["faults"] == [
        {"kind": "train, SIGKILL", "number": 2, "says": "still there"}
    ]
    lines = table_of(stored).splitlines()
    assert "| `train`, SIGKILL | 2 | 1 | 0 | 1 |" in lines
    assert "| `factorize`, SIGINT | 1 | 0 | 1 | 0 |" in lines
    assert lines[-1] == "| all | 3 | 1 | 1 | 1 |"
    assert [path.name for path in tmp_path.iterdir()] == ["counts.json"]


def test_the_document_has_the_stored_counts() -> None:
    assert in_document("kills") == table_of(json.loads(COUNTS.read_text()))
    stored = json.loads(fuzz.COUNTS.read_text())
    assert in_document("inputs") == fuzz.table_of(stored)
    assert stored["inputs"] == sum(
        sum(counts.values()) for counts in stored["counts"].values()
    )
