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


def test_quotes_around_all_cells_are_kept(tmp_path) -> None:
    rows = [",".join(f'"{cell}"' for cell in row) for row in [["a", "b"], *lines()]]
    found = filled(tmp_path, "\n".join(rows) + "\n", "--intervals", "0.5")
    for row in found.splitlines():
        assert re.fullmatch(r'("[^"]*",){3}"[^"]*"', row), row
    before = [row.split(",")[0] for row in rows]
    assert [row.split(",")[0] for row in found.splitlines()] == before


def test_quotes_around_the_cells_of_a_column_are_kept(tmp_path) -> None:
    rows = [["a", "b", '"word"']]
    for place, row in enumerate(lines()):
        rows.append([*row, "NA" if place % 7 == 0 else f'"{"xy"[place % 2]}"'])
    found = filled(tmp_path, "\n".join(map(",".join, rows)) + "\n").splitlines()
    assert found[0] == "a,b,word"
    for row in found[1:]:
        assert re.fullmatch(r'[-.0-9]+,[-.0-9]+,"[xy]"', row), row


def test_a_blank_line_of_one_column_is_a_missing_cell(tmp_path) -> None:
    found = filled(tmp_path, "a\n1.0\n\n3.0\n2.5\n1.5\n\n")
    cells = found.splitlines()
    assert len(cells) == 6
    assert cells[:2] + cells[3:] == ["a", "1.0", "3.0", "2.5", "1.5"]
    assert float(cells[2]) == 2.0
