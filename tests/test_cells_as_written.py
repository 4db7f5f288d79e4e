"""Filled cells of text files are written like the other cells of their column."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from descents.cli.main import main


def filled(folder: Path, text: str, *options: str) -> str:
    """Return the text of a table as the command fills it."""
    (folder / "t.csv").write_text(text)
    arguments = [str(folder / "t.csv"), str(folder / "f.csv"), *options]
    assert main(["impute", *arguments, "--out", str(folder / "run")]) == 0
    return (folder / "f.csv").read_text()


def lines(decimal: str = ".", rows: int = 60) -> list[list[str]]:
    """Return rows of two numbers with two and three decimals; some are missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    found = []
    for row, (a, b) in enumerate(
        zip(x, 5 + 2 * x + 0.1 * rng.normal(size=rows), strict=True)
    ):
        second = "" if row % 5 == 0 else f"{b:.3f}"
        found.append([f"{a:.2f}".replace(".", decimal), second.replace(".", decimal)])
    return found


@pytest.mark.parametrize(("decimal", "delimiter"), [(".", ","), (",", ";")])
def test_fills_have_as_many_decimals_as_the_cells(decimal, delimiter, tmp_path) -> None:
    text = "\n".join(map(delimiter.join, [["a", "b"], *lines(decimal)])) + "\n"
    found = filled(tmp_path, text, "--intervals", "0.5")
    rows = list(csv.reader(found.splitlines(), delimiter=delimiter))[1:]
    assert all(re.fullmatch(rf"-?\d+{decimal}\d{{3}}", row[1]) for row in rows), found
    for _, fill, low, high in rows[::5]:
        one, two, three = (float(x.replace(",", ".")) for x in (low, fill, high))
        assert one <= two <= three
    new = delimiter.join("ab") + f"\n1{decimal}00{delimiter}\n"
    (tmp_path / "t.csv").write_text(new)
    arguments = [str(tmp_path / name) for name in ("run", "t.csv", "f.csv")]
    assert main(["apply", *arguments, "--out", str(tmp_path / "applied")]) == 0
    fill = (tmp_path / "f.csv").read_text().splitlines()[1].split(delimiter)[1]
    assert re.fullmatch(rf"\d{decimal}\d{{3}}", fill)
