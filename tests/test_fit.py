"""`descents.lowrank.fit`: the estimator and the command are shells around it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from descents import LowRankModel
from descents.cli.main import main
from descents.errors import InvalidValueError
from descents.lowrank import RunControl, Settings, calibrated, fit, read
from descents.pages.page import read_run
from descents.runs.factorize_result import LowRankResult
from descents.storage.values import plain
from descents.tables.datasets import planted_table


def table(missing: float = 0.2) -> np.ndarray:
    found = planted_table(40, 8, 2, noise=0.3, seed=1)[0]
    found[np.random.default_rng(0).random(found.shape) < missing] = np.nan
    return found


def test_a_complete_table_has_the_loss_of_its_singular_values() -> None:
    full = table(0)
    found = fit(full, Settings(n_components=2, random_state=0))
    values = np.linalg.svd(full - full.mean(0), compute_uv=False)
    assert found.loss == pytest.approx(np.square(values[2:]).sum(), rel=1e-9)
    assert found.reference.kind == "exact"
    assert abs(found.gap) < 1e-9


def test_the_estimator_has_the_bits_of_the_function() -> None:
    X = table()
    settings = {"n_components": 2, "n_starts": 3, "offsets": "both", "random_state": 3}
    found = fit(X, Settings(**settings), RunControl(workers=1))
    model = LowRankModel(**settings).fit(X)
    np.testing.assert_array_equal(found.runs.losses, model.runs_.losses)
    np.testing.assert_array_equal(found.scores, model.embedding_)
    assert found.noise == model.noise_
    assert found.judged is not None
    assert model.judged_ is not None
    assert found.judged.overall() == model.judged_.overall()
    coded = read(X, found.settings)
    one, other = calibrated(found, coded), model.calibrate(X).calibration_
    assert other is not None
    np.testing.assert_array_equal(one.scores, other.scores)
    assert model.fitted_.calibration is other


def test_the_control_records_watches_and_interrupts() -> None:
    watched: list[int] = []
    control = RunControl(
        (0, 2, 9999), lambda starts, step, losses: watched.append(step)
    )
    found = fit(table(), Settings(n_components=2, max_iter=50), control)
    assert found.runs.recorded.tolist() == [0, 2]  # no step after the last
    assert watched
    with pytest.warns(UserWarning, match="not stationary"):
        stopped = fit(table(), Settings(n_components=2), RunControl(seconds=0.0))
    assert stopped.runs.interrupted
    assert stopped.judged is None


def test_settings_are_checked_once_and_frozen() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Settings(n_components=0, tol=-1, scales="no", constraint="round")
    for word in ("n_components", "tol", "scales", "constraint"):
        assert word in str(caught.value)
    settings = Settings(constraint=("nonnegative", None))
    assert settings.sides[0].nonnegative
    assert not settings.sides[1].nonnegative
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.tol = 1.0  # type: ignore[misc]
    found = fit(table(), Settings(n_components=1, random_state=0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.gap = 0.0  # type: ignore[misc]


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("a result was read back")


def test_the_command_prints_and_draws_the_result_that_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "t.csv", tmp_path / "run"
    np.savetxt(path, table(), delimiter=",", header="a,b,c,d,e,f,g,h", comments="")
    command = ["factorize", str(path), "--rank", "1", "--intervals", "0.8"]
    for name in (
        *("storage.results.read_json", "storage.run_folders.read_json"),
        *("pages.page.read_run", "pages.page.read_json", "pages.page.read_table"),
    ):
        monkeypatch.setattr(f"descents.{name}", forbidden)
    assert main([*command, "--out", str(out), "--json"]) == 0
    monkeypatch.undo()
    text = (out / "result.json").read_text()
    assert capsys.readouterr().out == text
    found = read_run(out).result
    assert isinstance(found, LowRankResult)
    assert plain(found) == json.loads(text)
    assert found.memory is None
    assert "memory" not in json.loads(text)
    assert found.intervals is not None
    assert len(found.intervals.columns) == found.shape[1]
    pages = {path.name: path.read_bytes() for path in out.glob("*.*")}
    assert main(["report", str(out)]) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.*")} == pages
    capsys.readouterr()
    assert main([*command, "--out", str(out), "--resume"]) == 0
    assert "80% prediction intervals" in capsys.readouterr().out


def test_a_stored_run_of_an_earlier_version_is_drawn(tmp_path: Path) -> None:
    path, out = tmp_path / "t.csv", tmp_path / "run"
    np.savetxt(path, table(), delimiter=",", header="a,b,c,d,e,f,g,h", comments="")
    assert main(["factorize", str(path), "--rank", "1", "--out", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    for name in ("defaults", "held_out", "intervals", "selection", "formats"):
        del result[name]
    for column in result["columns"]:
        del column["unseen"], column["filled_by"]
    (out / "result.json").write_text(json.dumps(result))
    assert main(["report", str(out)]) == 0
