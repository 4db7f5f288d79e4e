"""True and false in new rows: however they are written, and filled as they are there."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from descents import LowRankModel
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.tables.files import read
from descents.tables.spelling import truth_among

SPELLINGS = [
    ("FALSE", "TRUE"),
    ("false", "true"),
    ("no", "yes"),
    ("No", "Yes"),
    ("F", "T"),
    ("n", "y"),
    ("0", "1"),
    ("0.0", "1.0"),
]
ROWS = 40


def truths() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=ROWS)
    return x, (x + 0.1 * generator.normal(size=ROWS) > 0).astype(int)


def table_of(path: Path, words: tuple[str, str], *, holes: bool = False) -> Path:
    x, bits = truths()
    words = ["" if holes and k % 4 == 0 else words[bit] for k, bit in enumerate(bits)]
    lines = [f"{a},{2 * a},{c}" for a, c in zip(x.round(6), words, strict=True)]
    path.write_text("\n".join(["x,y,c", *lines, ""]))
    return path


@pytest.mark.parametrize("fit", SPELLINGS)
@pytest.mark.sampled(3)
def test_a_fit_knows_true_and_false_in_every_spelling(tmp_path, fit) -> None:
    """The embedding of new rows does not depend on how they spell it."""
    table = read(table_of(tmp_path / "fit.csv", fit))
    loss = {"c": "logistic"}
    model = LowRankModel(1, loss=loss, random_state=0, max_iter=50).fit(table)
    expected = model.transform(table)
    for new in SPELLINGS:
        other = read(table_of(tmp_path / "new.csv", new))
        np.testing.assert_array_equal(model.transform(other), expected)
        holes = read(table_of(tmp_path / "new.csv", new, holes=True))
        filled = model.impute(holes).splitlines()[1:]
        cells = [line.split(",")[2] for line in filled]
        assert {float(x) if x[0] in "01" else x for x in cells} == {
            float(x) if x[0] in "01" else x for x in new
        }
        for k, bit in enumerate(truths()[1]):
            if k % 4:
                assert cells[k] == new[bit]
    for frame in (
        pd.DataFrame({"c": truths()[1].astype(bool)}),
        pd.DataFrame({"c": truths()[1]}),
        pd.DataFrame({"c": truths()[1].astype(float)}),
        pd.DataFrame({"c": truths()[1]}).astype("boolean"),
    ):
        x = truths()[0].round(6)
        new = frame.assign(x=x, y=2 * x)[["x", "y", "c"]]
        np.testing.assert_allclose(model.transform(new), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*is held to the nearest observed number")
def test_numbers_of_0_and_1_may_be_written_in_words(tmp_path) -> None:
    table = read(table_of(tmp_path / "fit.csv", ("0", "1")))
    model = LowRankModel(1, random_state=0, max_iter=50).fit(table)
    assert model.columns_[2].loss.name == "squared"
    expected = model.transform(table)
    for new in SPELLINGS:
        other = read(table_of(tmp_path / "new.csv", new))
        np.testing.assert_array_equal(model.transform(other), expected)
        holes = read(table_of(tmp_path / "new.csv", new, holes=True))
        cells = [x.split(",")[2] for x in model.impute(holes).splitlines()[1:]]
        if new[0] != "0.0":  # which is no whole number
            assert set(cells) == set(new)
    path = table_of(tmp_path / "new.csv", ("no", "maybe"))
    with pytest.raises(InvalidValueError, match="the model has numbers there"):
        model.transform(read(path))


def test_one_of_both_is_filled_beside_the_other() -> None:
    cases = [("T", "F"), ("YES", "NO"), ("y", "n"), ("True", "False"), (1, 0), ("1", 0)]
    for seen, filled in cases:
        assert truth_among("no", [seen]) == filled
    for others in (["x"], ["T", "x"], [2], [5, 0]):
        assert truth_among(False, others) is None
    assert truth_among("maybe", ["T"]) is None


def test_what_is_no_truth_is_unseen(tmp_path) -> None:
    table = read(table_of(tmp_path / "fit.csv", ("no", "yes")))
    model = LowRankModel(1, random_state=0, max_iter=500).fit(table)
    for word in ("2", "maybe", "-1", "0.5"):
        path = table_of(tmp_path / "new.csv", ("no", word))
        with pytest.raises(InvalidValueError, match="was not fitted with"):
            model.transform(read(path))
    table = read(table_of(tmp_path / "fit.csv", ("F", "M")))
    model = LowRankModel(1, random_state=0, max_iter=500).fit(table)
    with pytest.raises(InvalidValueError, match="holds '0', '1'"):
        model.transform(read(table_of(tmp_path / "new.csv", ("0", "1"))))


@pytest.mark.parametrize("fit", [("FALSE", "TRUE"), ("F", "T"), ("0", "1")])
def test_networks_know_them_too(tmp_path, fit) -> None:
    table = table_of(tmp_path / "fit.csv", fit)
    run, found = tmp_path / "run", {}
    training = ["train", str(table), "--target", "y", "--starts", "2", "--quiet"]
    training += ["--epochs", "2", "--diagnose", "0", "--out", str(run)]
    assert main(training) == 0
    for k, new in enumerate(SPELLINGS):
        out = tmp_path / f"out{k}"
        path = table_of(tmp_path / "new.csv", new)
        assert main(["apply", str(run), str(path), "--out", str(out), "--quiet"]) == 0
        rows = pyarrow.parquet.read_table(out / "predictions.parquet")
        found[new] = rows.column("y").to_pylist()
    for one, other in itertools.pairwise(found.values()):
        assert one == other
