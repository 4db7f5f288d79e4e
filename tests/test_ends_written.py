"""The ends of intervals in the files that commands write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from descents.cli.main import main


def filled(folder: Path, table: pd.DataFrame, kind: str = "csv") -> pd.DataFrame:
    """Return a table as the command fills it, with intervals."""
    source, target = folder / f"t.{kind}", folder / f"f.{kind}"
    if kind == "csv":
        table.to_csv(source, index=False)
    else:
        table.to_parquet(source, index=False)
    code = main(
        ["impute", str(source), str(target), "--intervals", "0.9",
         "--out", str(folder / "run")]
    )  # fmt: skip
    assert code == 0
    return pd.read_csv(target) if kind == "csv" else pd.read_parquet(target)


def line(
    offset: float, size: float, rows: int = 200
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return two columns on a line, far from 0, and the numbers of the second."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    y = offset + size * (x + 0.1 * rng.normal(size=rows))
    holes = rng.random(rows) < 0.2
    return pd.DataFrame({"x": x, "y": np.where(holes, np.nan, y)}), y


@pytest.mark.parametrize(
    ("offset", "size"), [(1e6, 0.1), (1.7e9, 3.0), (-1e6, 0.1), (1.0, 1e-12)]
)
def test_ends_have_as_many_digits_as_the_width_needs(offset, size, tmp_path) -> None:
    table, truth = line(offset, size)
    found = filled(tmp_path, table)
    holes = table["y"].isna().to_numpy()
    low, high, fill = (
        found[name].to_numpy()[holes] for name in ("y_low", "y_high", "y")
    )
    assert ((low <= fill) & (fill <= high)).all()
    assert ((low <= truth[holes]) & (truth[holes] <= high)).mean() > 0.75
    assert (high - low < size).all()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ends_of_whole_numbers_are_whole_numbers(kind, tmp_path) -> None:
    table, _ = line(1e6, 20)
    table["y"] = table["y"].round().astype("Int64")
    holes = table["y"].isna().to_numpy()
    found = filled(tmp_path, table, kind)[holes]
    assert (found["y_low"] % 1 == 0).all()
    assert (found["y_high"] % 1 == 0).all()
    assert (found["y_low"] <= found["y"]).all()
    assert (found["y"] <= found["y_high"]).all()
    assert (found["y_low"] < found["y_high"]).all()


def test_ends_are_written_like_the_cells(tmp_path) -> None:
    table, _ = line(5000, 100)
    holes = table["y"].isna().to_numpy()
    table["y"] = ["" if np.isnan(y) else f"${y:,.2f}" for y in table["y"]]
    found = filled(tmp_path, table)[holes]
    for name in ("y", "y_low", "y_high"):
        assert found[name].str.fullmatch(r"\$\d,\d{3}(\.\d+)?").all(), found[name]


def test_the_range_of_numbers_far_from_zero_is_shown(tmp_path, capsys) -> None:
    table, _ = line(1e9, 0.1)
    filled(tmp_path, table)
    assert "1e+09 to 1e+09" not in capsys.readouterr().out
