"""Which modules a table passes, followed call by call, in commands that fit a model."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from descents.cli.main import main
from descents.lowrank.table import CodedTable
from descents.networks.rows import LabeledRows
from descents.runs.network_rows import Prepared
from descents.runs.request import Data
from descents.tables.tables import Table
from test_house import LAYERS, PACKAGE

FORMS = Table, Data, CodedTable, LabeledRows, Prepared
"""A table as it is read, and in the forms that it takes on its way."""
MOST_MODULES, MOST_CLIMBS = 12, 5
FLOORS = {
    room: -place for place, layer in enumerate(LAYERS) for room in layer.split(" | ")
}


@contextmanager
def followed() -> Iterator[list[str]]:
    """Follow tables: each call with one adds its module, unless that is the last one."""
    stays: list[str] = []
    inside = str(PACKAGE)

    def notice(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(inside):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(isinstance(frame.f_locals.get(name), FORMS) for name in names):
            path = Path(code.co_filename).relative_to(PACKAGE)
            module = str(path.with_suffix(""))
            if stays[-1:] != [module]:
                stays.append(module)

    sys.setprofile(notice)
    try:
        yield stays
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("factorize", "--rank", "2", "--id", "id"),
        ("train", "--target", "y", "--id", "id", "--starts", "3", "--epochs", "5"),
    ],
)
def test_a_table_passes_few_modules_and_seldom_climbs(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """A climb is a step from a room to one above it."""
    rng = np.random.default_rng(0)
    lines = ["id,a,b,c,y"]
    for k, row in enumerate(rng.normal(size=(60, 3)).round(3)):
        cells = [str(x) if rng.random() > 0.1 else "" for x in row]
        lines.append(",".join([f"r{k}", *cells, "yes" if row[0] > 0 else "no"]))
    (tmp_path / "table.csv").write_text("\n".join([*lines, ""]))
    command, *options = arguments
    table, run = str(tmp_path / "table.csv"), str(tmp_path / "run")
    with followed() as stays:
        assert main((command, table, *options, "--out", run, "--quiet")) == 0
    floors = [FLOORS[stay.split("/")[0]] for stay in stays]
    assert len(set(stays)) <= MOST_MODULES, stays
    assert sum(b > a for a, b in itertools.pairwise(floors)) <= MOST_CLIMBS, stays
    # The table did pass from reading to the fit.
    assert {"tables/tables", "runs/request", f"runs/{command}"} <= set(stays)
    assert any(stay.startswith(("lowrank/fit", "networks/fit")) for stay in stays)
