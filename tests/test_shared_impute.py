"""Processes that share the rows of a table which is filled: they fill it as one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from descents import Stop, descend
from descents.cells.shared_rows import read_rows
from descents.errors import InvalidValueError
from descents.marginal import chosen, features
from descents.marginal.em import EM
from descents.marginal.features import NumberFeatures, features_of
from descents.marginal.gaussian import Marginal
from descents.marginal.held_out import folds_of
from descents.marginal.model import Fitted, fit
from descents.marginal.settings import Settings
from descents.optim.collective import parts
from descents.runs.filling import Options
from descents.runs.impute import Imputed, impute, write
from descents.runs.request import Reading
from descents.runs.results import Run
from descents.runs.shared_filling import write_shared
from descents.storage.values import plain
from processes import Thread, in_processes

RUN = Run(command="impute", table="t", sha256="", options={}, reading={})
LEVELS = np.array([0, 0, 0, 0, 0, 3])


def table_of(rows: int = 700, seed: int = 0) -> np.ndarray:
    """Return numbers, one column of them skewed, and codes of three levels."""
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(rows, 2))
    table = factors @ generator.normal(size=(2, 6))
    table += 0.5 * generator.normal(size=table.shape)
    table[:, 0] = np.exp(table[:, 0])
    table[:, 5] = (table[:, 5] > 0).astype(float) + (table[:, 5] > 1)
    hidden = generator.random(table.shape) < 0.2
    hidden[:, 1] = False
    hidden[: rows // 3, 2] = True  # of which the first of three processes has no cell
    table[hidden] = np.nan
    return table


def part_of(table: np.ndarray, together: Thread) -> np.ndarray:
    return table[parts(len(table), together.size)[together.rank]]


def fitted_by(count: int, table: np.ndarray, **given: Any) -> list[tuple[Fitted, Any]]:
    def work(together: Thread) -> tuple[Fitted, Any]:
        own = part_of(table, together)
        found = fit(own, LEVELS, Settings(**given), together=together)
        return found, found.predicted(own)

    return in_processes(count, work)


# Fits


@pytest.mark.parametrize("keyed", [False, True], ids=["permuted", "by keys"])
@pytest.mark.parametrize("count", [2, 3])
def test_processes_fit_and_fill_as_one(
    count: int, keyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if keyed:
        monkeypatch.setattr(chosen, "MOST_PERMUTED", 1000)
    table = table_of()
    one = fit(table, LEVELS)
    every = fitted_by(count, table)
    for found, _ in every:
        assert found.setting == one.setting
        np.testing.assert_allclose(found.runs.losses, one.runs.losses, rtol=1e-10)
        assert found.held_out is not None
        assert one.held_out is not None
        assert np.array_equal(found.held_out.columns, one.held_out.columns)
        assert np.array_equal(found.held_out.truth, one.held_out.truth)
        np.testing.assert_allclose(
            found.held_out.scores, one.held_out.scores, rtol=1e-8, atol=1e-10
        )
        assert np.array_equal(found.constant, one.constant)
    whole = one.predicted(table)
    values = np.concatenate([cells.values for _, cells in every])
    deviations = np.concatenate([cells.deviations for _, cells in every])
    np.testing.assert_allclose(values, whole.values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(deviations, whole.deviations, rtol=1e-9, atol=1e-9)


def test_several_starts_and_a_rank() -> None:
    table = table_of(200)
    given = {"n_components": 2, "n_starts": 3, "seed": 5}
    one = fit(table, LEVELS, Settings(**given))  # type: ignore[arg-type]
    for found, _ in fitted_by(2, table, **given):
        np.testing.assert_allclose(found.runs.losses, one.runs.losses, rtol=1e-8)


def test_wide_tables_and_forests_are_refused() -> None:
    table = table_of(9)
    with pytest.raises(InvalidValueError, match="twice as many rows as features"):
        fitted_by(2, table)
    with pytest.raises(InvalidValueError, match="fit no forests"):
        fitted_by(2, table_of(300), refine=True)


def test_an_infinite_cell_is_named_by_its_row_in_the_file(tmp_path: Path) -> None:
    table = np.zeros((40, 2))
    table[33, 1] = -np.inf
    np.save(tmp_path / "t.npy", table)
    with pytest.raises(InvalidValueError, match=r"'1' has 1 infinite value.* row 34 "):
        in_processes(3, lambda together: read_rows(tmp_path / "t.npy", together))


def test_messages_of_a_step_do_not_grow_with_the_rows() -> None:
    def sizes(rows: int) -> list[int]:
        generator = np.random.default_rng(0)
        table = generator.normal(size=(rows, 4))
        table[generator.random(table.shape) < 0.2] = np.nan

        def work(together: Thread) -> list[int]:
            problem = Marginal(part_of(table, together), together=together)
            before = len(together.sizes)
            runs = descend(problem, steps=EM(accelerate=False), stop=Stop(3))
            assert runs.steps_taken[0] == 3
            return together.sizes[before:]

        first, second = in_processes(2, work)
        assert first == second
        return first

    few = sizes(40)
    # The logarithms and squares, the second moments and the means of completed rows.
    assert set(few) <= {8 * 2, 8 * (2 + 4 * 4 + 4)}
    assert few == sizes(4000)


# Cells that are chosen


@pytest.mark.parametrize("limit", [0, 2**22])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_processes_hide_the_cells_that_one_hides(
    limit: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "MOST_PERMUTED", limit)
    table = table_of(150)
    one = list(folds_of(table, share, 4))

    def work(together: Thread) -> list[np.ndarray]:
        return list(folds_of(part_of(table, together), share, 4, together))

    every = in_processes(3, work)
    assert {len(found) for found in every} == {len(one)}
    for fold, hidden in enumerate(one):
        joined = np.concatenate([found[fold] for found in every])
        assert np.array_equal(joined, hidden)
    hidden = np.sum(one, axis=0)
    assert hidden.max() == 1  # folds are disjoint
    left = ~np.isnan(table) & ~hidden.astype(bool)
    assert left.any(0).all()
    assert left.any(1).all()
    size = round(share * (~np.isnan(table)).sum())
    assert [int(fold.sum()) for fold in one[:-1]] == [size] * (len(one) - 1)


def test_cells_by_keys_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "MOST_PERMUTED", 0)
    table, counts = np.zeros((40, 25)), np.zeros((40, 25))
    for seed in range(400):
        (fold,) = list(folds_of(table, 0.1, seed))[:1]
        counts += fold
    # 400 draws of 100 of 1000 cells: 40 times each, with a standard deviation of 6.
    assert abs(counts.mean() - 40) < 1e-9
    assert counts.min() > 40 - 5 * 6
    assert counts.max() < 40 + 5 * 6
    assert 0.8 < counts.std() / 6 < 1.2


# Features


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (3.0, 1000.0), (2.0, -1e6)])
def test_nearly_equal_values_share_a_knot(
    monkeypatch: pytest.MonkeyPatch, scale: float, shift: float
) -> None:
    normal = np.random.default_rng(0).normal(size=(50_000, 1))
    values = np.exp(scale * normal) + shift
    (exact,) = features_of(values, np.zeros(1, int)).columns
    monkeypatch.setattr(features, "MOST_KNOTS", 1000)
    (found,) = features_of(values, np.zeros(1, int)).columns
    assert isinstance(exact, NumberFeatures)
    assert isinstance(found, NumberFeatures)
    assert len(exact.knots) > 49_000
    assert len(found.knots) < 15_000
    assert (np.diff(found.knots) > 0).all()
    assert (np.diff(found.scores) > 0).all()
    # Normal scores of lognormal values are the normal numbers that they come from.
    off = exact.encoded(values)[:, 1] - found.encoded(values)[:, 1]
    assert np.sqrt(np.square(off).mean()) < 0.001
    assert np.abs(off).max() < 0.03
    assert np.corrcoef(found.encoded(values)[:, 1], normal[:, 0])[0, 1] > 0.9999

    def work(together: Thread) -> NumberFeatures:
        own = part_of(values, together)
        (one,) = features_of(own, np.zeros(1, int), together=together).columns
        assert isinstance(one, NumberFeatures)
        return one

    for one in in_processes(3, work):
        np.testing.assert_allclose(one.knots, found.knots, rtol=1e-12)
        np.testing.assert_allclose(one.scores, found.scores, rtol=1e-12)


# Tables


@pytest.fixture
def frame() -> pd.DataFrame:
    """A table of all kinds of columns, where the processes see different levels."""
    generator, rows = np.random.default_rng(1), 900
    factors = generator.normal(size=(rows, 2))
    table = factors @ generator.normal(size=(2, 4))
    table += 0.3 * generator.normal(size=table.shape)
    found = pd.DataFrame(table, columns=list("abcd"))
    found = found.mask(generator.random(table.shape) < 0.15)
    found["n"] = pd.array(np.rint(10 + 3 * table[:, 0]), dtype="Int64")
    found.loc[::7, "n"] = pd.NA
    found["flag"] = pd.array(table[:, 1] > 0, dtype="boolean")
    found.loc[3::9, "flag"] = pd.NA
    first, second = factors.T
    found["kind"] = np.where(first > 0.5, "hi", np.where(first < -0.5, "lo", "mid"))
    found.loc[:400, "kind"] = found.loc[:400, "kind"].replace("hi", None)
    found.loc[5::8, "kind"] = None
    found["cat"] = pd.Categorical(found["kind"], ["lo", "mid", "hi", "none"])
    size = np.where(second > 0.3, "L", np.where(second < -0.3, "S", "M"))
    found["size"] = pd.Categorical(size, ["S", "M", "L", "XL"], ordered=True)
    found.loc[4::6, "size"] = None
    found["name"] = [f"r{k}" for k in range(rows)]
    found["row_id"] = np.arange(1000, 1000 + rows)
    found["counter"] = np.arange(rows)
    found["late"] = np.where(np.arange(rows) > 600, table[:, 0], np.nan)
    found["blank"] = np.nan
    return found


def imputed_by(count: int, path: Path, target: Path, **given: Any) -> list[Imputed]:
    def work(together: Thread) -> Imputed:
        data = Reading().read_rows(str(path), together)
        found = impute(data, Options(**given), RUN, together=together)
        write_shared(found.filling, target)
        return found

    return in_processes(count, work)


def assert_alike(one: Any, other: Any, at: str = "") -> None:
    """Check that two results differ only in rounding, time, and how they were read."""
    if isinstance(one, dict):
        assert set(one) - set(other) == set(), at
        for key in set(one) - {"seconds", "read", "why"}:
            assert_alike(one[key], other[key], f"{at}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), at
        for a, b in zip(one, other, strict=True):
            assert_alike(a, b, at)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-8, abs=1e-12), at
    else:
        assert one == other, at


@pytest.mark.parametrize("count", [2, 3])
def test_a_table_of_all_kinds(tmp_path: Path, frame: pd.DataFrame, count: int) -> None:
    path = tmp_path / "t.parquet"
    frame.to_parquet(path, row_group_size=130)
    one = impute(Reading().read(str(path)), Options(intervals=0.8), RUN)
    write(one.filling, str(path), tmp_path / "one.parquet")
    every = imputed_by(count, path, tmp_path / "several.parquet", intervals=0.8)
    for found in every:
        assert_alike(plain(one.result), plain(found.result))
        assert found.filling.model.columns == one.filling.model.columns
    assert every[0].result.environment.processes == count
    whole = pd.read_parquet(tmp_path / "one.parquet")
    joined = pd.read_parquet(tmp_path / "several.parquet")
    pd.testing.assert_frame_equal(joined, whole, rtol=1e-8)
    assert not whole[list("abcdn")].isna().any().any()


@pytest.mark.parametrize("kind", ["<f8", "<f4", ">f8", "F"])
def test_arrays_keep_their_type(tmp_path: Path, kind: str) -> None:
    table = table_of(300)[:, :5]
    order: Any = "F" if kind == "F" else "C"
    array = np.asarray(table, dtype=None if kind == "F" else kind, order=order)
    path = tmp_path / "t.npy"
    np.save(path, array)
    one = impute(Reading().read(str(path)), Options(), RUN)
    write(one.filling, str(path), tmp_path / "one.npy")
    imputed_by(3, path, tmp_path / "several.npy")
    whole, joined = (np.load(tmp_path / f"{n}.npy") for n in ("one", "several"))
    assert joined.dtype == whole.dtype
    np.testing.assert_allclose(joined, whole, rtol=1e-6 if kind == "<f4" else 1e-9)


def test_a_complete_table_has_the_closed_form(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.random.default_rng(0).normal(size=(200, 3)))
    one = impute(Reading().read(str(path)), Options(), RUN).result
    for found in imputed_by(2, path, tmp_path / "filled.npy"):
        assert found.result.reference == one.reference == "the closed form"
        assert found.result.gap == pytest.approx(one.gap, abs=1e-9)


def test_each_process_reads_the_row_groups_of_its_rows(
    tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    frame.to_parquet(path, row_group_size=100)
    read: list[list[int]] = []
    own = pyarrow.parquet.ParquetFile.read_row_groups

    def noted(self: Any, groups: list[int], *rest: Any, **more: Any) -> Any:
        read.append(list(groups))
        return own(self, groups, *rest, **more)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_groups", noted)
    tables = in_processes(3, lambda together: read_rows(path, together))
    assert sorted(read) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [table.rows for table in tables] == [300] * 3
    levels = {table.column("kind").levels for table in tables}
    assert levels == {("hi", "lo", "mid")}
    assert {table.column("cat").says for table in tables} == {
        Reading().read(str(path)).values.column("cat").says
    }


@pytest.mark.parametrize("how", ["dates", "numbers"])
def test_dates_are_refused_by_all(tmp_path: Path, how: str) -> None:
    days = pd.date_range("2021-01-01", periods=60)
    day = days if how == "dates" else days.strftime("%Y%m%d").astype(int)
    path = tmp_path / "t.parquet"
    pd.DataFrame({"day": day, "a": np.arange(60.0)}).to_parquet(path)

    def work(together: Thread) -> str:
        with pytest.raises(InvalidValueError) as raised:
            read_rows(path, together)
        assert read_rows(path, together, ignore=["day"]).rows == 30
        return str(raised.value)

    assert {*in_processes(2, work)} == {
        "column 'day' has dates, which several processes (torchrun) do not fill; give "
        "--ignore day, or start one process"
    }


def test_numbers_that_look_like_dates_in_one_process_are_numbers(
    tmp_path: Path,
) -> None:
    days = pd.date_range("2021-01-01", periods=60).strftime("%Y%m%d").astype(int)
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"a": [*days, *generator.integers(1, 9, 60)]})
    frame["b"] = generator.normal(size=120)
    frame.loc[::9, "b"] = np.nan
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    one = impute(Reading().read(str(path)), Options(), RUN)
    for found in imputed_by(2, path, tmp_path / "filled.parquet"):
        assert_alike(plain(one.result), plain(found.result))
        assert [column.kind for column in found.result.columns] == ["numbers"] * 2


def test_more_processes_than_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.ones((2, 2)))
    with pytest.raises(InvalidValueError, match="2 rows, which 3 processes cannot"):
        in_processes(3, lambda together: read_rows(tmp_path / "t.npy", together))
