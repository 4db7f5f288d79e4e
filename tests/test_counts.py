"""Counts of one are singular wherever a command or an estimator prints them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from descents import LowRankModel
from descents.cli.main import main

PLURALS = re.compile(
    r"(?<![\d.,:/x-])(?<! x )1 (starts|rows|cells|columns|holes|components|iterations|"
    r"shuffles|settings|folds|dimensions|levels|classes|values|steps|times|processes|"
    r"epochs|seeds|losses|points)\b|\(s\)"
)


def singular(text: str) -> None:
    found = [
        text[max(0, m.start() - 40) : m.end() + 20] for m in PLURALS.finditer(text)
    ]
    assert not found


def test_the_pattern_finds_them() -> None:
    assert PLURALS.search("the best of 1 starts")
    assert PLURALS.search("1 row(s) have")
    assert not PLURALS.search("11 starts, 0.1 rows, 1 start")


TABLE = "a,b\n1.5,2\n2.5,\n3,7\n1,4.5\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (TABLE, ()),
        (TABLE, ("--constraint", "nonnegative")),
        (TABLE, ("--loss", "absolute")),
        (TABLE, ("--max-iter", "1")),
        ("a,b\n1.5,2\n,\n3,7\n1,4.5\n", ()),
        ("a,b\n1.5,2\n", ()),
        ("a\n1\n", ()),
        ("r,c,v\nx,y,1\n", ("--triples",)),
    ],
)
@pytest.mark.sampled(4)
def test_a_table_of_one(
    text: str, options: tuple[str, ...], tmp_path: Path, capsys
) -> None:
    path, run = tmp_path / "t.csv", str(tmp_path / "run")
    path.write_text(text)
    main(("factorize", str(path), "--rank", "1", *options, "--out", run))
    out = capsys.readouterr()
    singular(out.out + out.err)
    if (tmp_path / "run" / "report.html").exists():
        page = (tmp_path / "run" / "report.html").read_text()
        singular(re.sub(r"<svg.*?</svg>|base64,[^\"]*|<[^>]*>", " ", page, flags=re.S))
        main(("apply", run, str(path), "--out", str(tmp_path / "new")))
        out = capsys.readouterr()
        singular(out.out + out.err)


def test_a_network_of_one_start(tmp_path: Path, capsys) -> None:
    draw = np.random.default_rng(0)
    rows = "\n".join(f"{x:.3f},{'yn'[int(x > 0)]}" for x in draw.normal(size=12))
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + rows + "\n0.3,\n")
    main(
        ("train", str(path), "--target", "y", "--starts", "1", "--epochs", "1",
         "--hidden", "1", "--out", str(tmp_path / "run"))
    )  # fmt: skip
    out = capsys.readouterr()
    singular(out.out + out.err)
    page = (tmp_path / "run" / "report.html").read_text()
    singular(re.sub(r"<svg.*?</svg>|base64,[^\"]*|<[^>]*>", " ", page, flags=re.S))


def test_warnings_and_errors_of_one() -> None:
    table = np.array([[1.0, 2.0, 3.0], [np.nan] * 3, [2.0, 4.0, 1.0], [0.0, 1.0, 5.0]])
    for settings in ({}, {"max_iter": 1}, {"constraint": "nonnegative", "loss": "kl"}):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            LowRankModel(1, random_state=0, **settings).fit(table)
        singular("\n".join(str(one.message) for one in told))
