"""`descents verify`: a stored result is computed again, and holds or does not."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from conftest import FEW, error_of, run_python
from descents.cli.main import main
from descents.runs.verify import NotVerifiableError, verify


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two tables and a run of each command on them."""
    place = tmp_path_factory.mktemp("verify")
    generator = np.random.default_rng(3)
    frame = pd.DataFrame(generator.normal(size=(30, 4)), columns=list("abcd"))
    frame["y"] = np.where(frame["a"] + frame["b"] > 0, "yes", "no")
    frame.to_csv(place / "whole.csv", index=False)
    frame.mask(generator.random(frame.shape) < 0.1).to_csv(
        place / "holes.csv", index=False
    )
    np.save(place / "numbers.npy", frame[list("abcd")].to_numpy())
    holes, whole, npy = (
        str(place / n) for n in ("holes.csv", "whole.csv", "numbers.npy")
    )
    for words in (
        ("factorize", holes, "--rank", "1", "--starts", "3", "--penalty", "l2=0.5",
         "--loss-of", "a=absolute", "--missing", "?"),
        ("impute", holes, str(place / "filled.csv"), "--intervals", "0.9"),
        ("train", whole, "--target", "y", "--starts", "4", "--hidden", "3,3", "--epochs",
         "3", "--optimizer", "adam", "--optimizer", "gd", "--learning-rate", "0.1"),
    ):  # fmt: skip
        assert main([*words, "--out", str(place / words[0]), "--quiet"]) == 0
    blocks = ["factorize", npy, "--rank", "1", "--memory", "20MB", "--held-out", "0"]
    assert main([*blocks, "--out", str(place / "blocks"), "--quiet"]) == 0
    return place


@pytest.mark.parametrize("name", ["factorize", "impute", "train", "blocks"])
def test_what_nobody_touched_holds_bit_for_bit(name: str, place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    found = verify(place / name)
    assert found.holds
    assert found.exact
    assert found.tolerance is None
    assert found.equal == found.starts == len(rows_of(place / name))
    assert found.difference == 0
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.slow
def test_a_report_holds(unbroken: Path) -> None:
    assert FEW
    found = verify(unbroken, workers=2)
    assert found.holds
    assert found.starts > 1000


def rows_of(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "starts.parquet")


def copied(place: Path, name: str, tmp_path: Path) -> Path:
    """Return a copy of a run, beside copies of the tables."""
    for path in place.glob("*.csv"):
        shutil.copy(path, tmp_path)
    return Path(shutil.copytree(place / name, tmp_path / name))


@pytest.mark.parametrize(("change", "holds"), [(0.0, True), (2.0**-20, False)])
def test_one_changed_bit_is_found(
    change: float, holds: bool, place: Path, tmp_path: Path, capsys: Any
) -> None:
    run = copied(place, "train", tmp_path)
    table = pyarrow.parquet.read_table(run / "starts.parquet")
    losses = table["loss"].to_numpy().copy()
    losses[2] *= 1 + change
    at = table.column_names.index("loss")
    column = pyarrow.array(losses, type=table["loss"].type)
    pyarrow.parquet.write_table(
        table.set_column(at, "loss", column), run / "starts.parquet"
    )
    code = main(["verify", str(run), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if holds else 1)
    assert found["holds"] == holds
    assert found["columns"] == ([] if holds else ["loss"])
    assert found["equal"] == found["starts"] - (not holds)


def environment_of(run: Path, **changes: object) -> None:
    path = run / "result.json"
    stored = json.loads(path.read_text())
    stored["environment"] |= changes
    path.write_text(json.dumps(stored))


@pytest.mark.slow
def test_another_machine_may_differ_by_a_tolerance(place: Path, tmp_path: Path) -> None:
    run = copied(place, "factorize", tmp_path)
    environment_of(run, torch="1.0", processor="another")
    path = run / "starts.parquet"
    rows = rows_of(run)
    for factor, holds in ((1 + 1e-8, True), (1 + 1e-4, False)):
        changed = rows.assign(loss=rows["loss"] * factor)
        changed.to_parquet(path, index=False)
        found = verify(run)
        assert found.holds == holds
        assert not found.exact
        assert found.tolerance == 1e-6
        assert found.difference == pytest.approx(factor - 1, rel=1e-3)
        assert [one.split(":")[0] for one in found.differs] == ["processor", "torch"]
        assert "torch: 1.0, now" in found.says


def test_without_compiled_code_it_holds_to_the_tolerance(
    place: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("DESCENTS_COMPILE", "0")
    found = verify(place / "train")
    assert found.holds
    assert found.differs in (["compiled: True, now False"], [])  # [] without a compiler


def test_a_table_that_is_gone_or_another_cannot_be_checked(
    place: Path, tmp_path: Path, capsys: Any
) -> None:
    run = copied(place, "train", tmp_path)
    (tmp_path / "whole.csv").write_text("a,y\n1,x\n")
    assert main(["verify", str(run)]) == 2
    assert "whole.csv has another one; give the table" in error_of(
        capsys.readouterr().err
    )
    (tmp_path / "whole.csv").unlink()
    assert main(["verify", str(run)]) == 2
    assert "no file whole.csv was found" in error_of(capsys.readouterr().err)
    assert main(["verify", str(run), str(place / "holes.csv")]) == 2
    assert "give the table of the run" in error_of(capsys.readouterr().err)
    assert main(["verify", str(run), "nowhere.csv"]) == 2
    assert "there is no file nowhere.csv" in error_of(capsys.readouterr().err)
    assert main(["verify", str(run), str(place / "whole.csv"), "--quiet"]) == 0


def test_a_run_of_a_pipe_needs_the_bytes_again(
    place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    content = (place / "holes.csv").read_bytes()

    def give() -> None:
        stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stream)

    give()
    run = tmp_path / "run"
    words = ["factorize", "-", "--rank", "1", "--quiet", "--out", str(run)]
    assert main(words) == 0
    with pytest.raises(NotVerifiableError, match="was computed from a pipe"):
        verify(run)
    assert verify(run, str(place / "holes.csv")).holds
    give()
    assert verify(run, "-").holds


def test_what_cannot_be_verified_is_said(place: Path, tmp_path: Path) -> None:
    run = copied(place, "factorize", tmp_path)
    result = json.loads((run / "result.json").read_text())

    def stored(**changes: object) -> None:
        changed = result | {"run": result["run"] | changes}
        (run / "result.json").write_text(json.dumps(changed))

    stored(command="compare")
    with pytest.raises(NotVerifiableError, match="a run of 'compare'; give the folder"):
        verify(run)
    stored(sha256="")
    with pytest.raises(NotVerifiableError, match="does not say which bytes"):
        verify(run)
    stored(options={"rank": 1, "of_the_future": 1})
    with pytest.raises(NotVerifiableError, match="does not know .of_the_future."):
        verify(run)
    stored()
    rows = rows_of(run).assign(status="interrupted")
    rows.to_parquet(run / "starts.parquet", index=False)
    with pytest.raises(NotVerifiableError, match="were interrupted"):
        verify(run)


def test_modules_can_be_loaded_alone() -> None:
    """`descents verify` loads them in another order than the other commands do."""
    done = run_python("import descents.runs.verify")
    assert done.returncode == 0, done.stderr
