"""Dates that are filled as the other dates of their column are."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from descents.tables import files
from descents.tables.tables import from_frame

DAY = dt.date(2021, 3, 4)
NOON = dt.datetime(2021, 3, 4, 12)
ZONED = dt.datetime(2021, 3, 4, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("kind", "values", "filled"),
    [
        (pa.date32(), [DAY, None, dt.date(2021, 3, 9)], dt.date(2021, 3, 6)),
        (pa.date64(), [DAY, None, dt.date(2021, 3, 9)], dt.date(2021, 3, 6)),
        (
            pa.timestamp("us"),
            [NOON, None, NOON + dt.timedelta(hours=5)],
            dt.datetime(2021, 3, 4, 14),
        ),
        (
            pa.timestamp("ns", tz="UTC"),
            [ZONED, None, ZONED + dt.timedelta(minutes=5)],
            ZONED + dt.timedelta(minutes=2),
        ),
        (pa.timestamp("s"), [NOON, None, NOON], NOON),
        (pa.time64("us"), [dt.time(1), None, dt.time(5)], dt.time(3)),
        (pa.time32("s"), [dt.time(1, 1), None, dt.time(1, 5)], dt.time(1, 3)),
        (
            pa.duration("us"),
            [dt.timedelta(1), None, dt.timedelta(4)],
            dt.timedelta(2),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("library", ["pyarrow", "pandas", "polars"])
def test_a_date_between_two_is_of_their_type(library, kind, values, filled) -> None:
    frame = pa.table({"a": pa.array(values, type=kind)})
    if library == "pandas":
        frame = frame.to_pandas(types_mapper=pd.ArrowDtype)
    if library == "polars":
        frame = pl.from_arrow(frame)
    table = from_frame(frame)
    low, _, high = table.column("a").values
    middle = np.full(3, low + 0.45 * (high - low))
    found = table.filled({"a": middle})
    if library == "pandas":
        assert found.dtypes.equals(frame.dtypes)
        cell = found["a"].iloc[1]
        cell = cell.to_pydatetime() if isinstance(cell, pd.Timestamp) else cell
    elif library == "polars":
        assert found.schema == frame.schema
        cell = found["a"][1]
        if kind == pa.date64():  # for which polars has times
            cell = cell.date()
    else:
        assert found.schema == frame.schema
        cell = found.column("a")[1].as_py()
    assert cell == filled
    assert from_frame(found).column("a").values[[0, 2]].tolist() == [low, high]


@pytest.mark.parametrize("kind", ["datetime64[ns]", "datetime64[ns, Europe/Paris]"])
def test_pandas_own_dates(kind) -> None:
    frame = pd.DataFrame({"a": pd.Series([NOON, None, NOON], dtype=kind)})
    table = from_frame(frame)
    found = table.filled({"a": table.column("a").values[[0, 0, 0]] + 1e-4})
    assert str(found["a"].dtype) == kind
    assert found["a"].iloc[1] == frame["a"].iloc[0]


@pytest.mark.parametrize(
    ("first", "last", "filled"),
    [
        ("2021-03-04", "2021-03-09", "2021-03-06"),
        ("2021-03-04T12:30", "2021-03-09T12:31", "2021-03-06T02:54"),
        ("2021-03-04T12:30", "2021-03-09T12:30", "2021-03-06T12:30"),  # always then
        ("2021-03-04 12:30:00", "2021-03-09 12:30:01", "2021-03-06 02:54:00"),
        (
            "2021-03-04T12:30:00.25Z",
            "2021-03-05T12:30:00.50Z",
            "2021-03-06T02:54:00.25Z",
        ),
    ],
)
def test_text_is_written_as_the_other_cells(
    tmp_path: Path, first, last, filled
) -> None:
    path = tmp_path / "dates.csv"
    path.write_text(f"when,x\n{first},1\n,2\n{last},3\n")
    table = files.read(path)
    days = table.column("when").values[[0, 0, 2]] + 1.6
    lines = table.filled({"when": days}).splitlines()
    assert [lines[1], lines[3]] == [f"{first},1", f"{last},3"]
    got, wanted = (dt.datetime.fromisoformat(x) for x in (lines[2][:-2], filled))
    assert len(lines[2][:-2]) == len(filled)
    assert abs(got - wanted) <= dt.timedelta(milliseconds=10)


def test_dates_far_away_stay_within_the_calendar() -> None:
    table = from_frame(pa.table({"a": pa.array([DAY, None], pa.date32())}))
    for far in (-1e9, 1e9):
        found = table.filled({"a": np.array([0, far])}).column("a")[1].as_py()
        assert found.year in (1, 9999)
