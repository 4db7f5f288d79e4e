"""Whole numbers that are dates, or identify rows, in tables that are filled."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from descents import LowRankImputer
from descents.cli.main import main
from descents.errors import InvalidValueError


def dated(rows: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table with a column of dates as numbers, and where it has holes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    days = pd.Timestamp("2021-01-01") + pd.to_timedelta(np.round(300 * x), unit="D")
    number = days.strftime("%Y%m%d").astype(float)
    holes = rng.random(rows) < 0.3
    return pd.DataFrame({"x": x, "day": np.where(holes, np.nan, number)}), holes


def test_dates_as_numbers_are_filled_with_dates(tmp_path: Path, capsys) -> None:
    table, holes = dated()
    source, target, out = (tmp_path / name for name in ("t.csv", "f.csv", "run"))
    table.astype({"day": "Int64"}).to_csv(source, index=False)
    arguments = [str(source), str(target), "--intervals", "0.8"]
    assert main(["impute", *arguments, "--out", str(out)]) == 0
    assert "YYYYMMDD" in capsys.readouterr().out
    for run in ("a", "b"):
        found = pd.read_csv(target)[holes]
        for name in ("day", "day_low", "day_high"):
            pd.to_datetime(found[name].astype(int).astype(str), format="%Y%m%d")
        assert (found["day_low"] <= found["day"]).all()
        assert (found["day"] <= found["day_high"]).all()
        target.unlink()
        assert main(["apply", str(out), *arguments, "--out", str(tmp_path / run)]) == 0


def test_imputers_fill_numbers_that_are_dates_with_dates() -> None:
    table, holes = dated()
    with pytest.warns(UserWarning, match="'day' is read as dates"):
        imputer = LowRankImputer(random_state=0).fit(table)
    found = imputer.transform(table)["day"]
    pd.to_datetime(found.astype(int).astype(str), format="%Y%m%d")
    assert (found[~holes] == table["day"][~holes]).all()
    with pytest.raises(InvalidValueError, match="YYYYMMDD"):
        imputer.transform(pd.DataFrame({"x": [0.0], "day": [20211399]}))


def test_numbers_that_identify_rows_pass_through() -> None:
    table, _ = dated()
    rng = np.random.default_rng(1)
    ids = rng.permutation(np.arange(10_000, 99_999))[:120].astype(float)
    ids[:3] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        imputer = LowRankImputer(random_state=0).fit(
            table.assign(customer_id=ids, fluid=table["x"] + 5)
        )
    dates, passed = (str(warning.message) for warning in caught)
    assert "'day' is read as dates" in dates
    assert "customer_id" in passed
    assert list(imputer.passed_columns_) == ["customer_id"]
