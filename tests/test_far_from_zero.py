"""Tables without offsets whose columns vary little about a mean far from zero."""

from __future__ import annotations

import html
import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import some
from descents import LowRankModel
from descents.cells.observed import cells
from descents.cli.main import main
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import Factorization
from descents.factorization.guarded import Guarded
from descents.lowrank.noise import implied
from descents.lowrank.update_rules import step_named

LOSSES = ("kl", "itakura_saito", "beta:0.5", "beta:1.5", "squared")


def far(seed: int = 0, rows: int = 80, columns: int = 6) -> np.ndarray:
    """Return columns with spreads of 1% to 100% of their means, in very different units."""
    generator = np.random.default_rng([seed, 1])
    left, right = generator.normal(size=(rows, 2)), generator.normal(size=(2, columns))
    parts = left @ right / 1.4 + 0.5 * generator.normal(size=(rows, columns))
    table = np.exp(0.8 * parts * 10.0 ** generator.uniform(-2, 0, columns))
    table *= 10.0 ** generator.uniform(-1, 3, columns)
    table[generator.random(table.shape) < 0.15] = np.nan
    return table


def fitted(table: np.ndarray, loss: str, **settings: Any) -> LowRankModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LowRankModel(
            2,
            loss=loss,
            constraint="nonnegative",
            random_state=0,
            held_out=0,
            **settings,
        )
        return model.fit(table)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", some(range(4), 1))
@pytest.mark.sampled(3)
def test_default_penalties_leave_room_for_constants(loss: str, seed: int) -> None:
    """Constants as factors of one component, of the least size by their norms."""
    table = far(seed)
    table /= np.nanstd(table, 0)
    found = cells(table, loss)
    problem = Factorization(found, 2, constraint="nonnegative", initialization="normal")
    noise = implied(problem)
    assert noise is not None
    size = np.sqrt(len(table)) * np.linalg.norm(np.nanmean(table, 0))
    assert 0 < noise.l2 * 2 * size <= found.constants_loss() * (1 + 1e-4)


@pytest.mark.parametrize("loss", ["kl", "itakura_saito", "beta:0.5"])
def test_guarded_steps_are_taken_and_end_lower(loss: str) -> None:
    table = far()
    runs = [
        fitted(table, loss, solver=solver, max_iter=150).runs_
        for solver in ("auto", Alternating())
    ]
    assert runs[0].losses[0] < runs[1].losses[0]
    options = {"constraint": "nonnegative", "loss": loss}
    near = np.random.default_rng(0).gamma(2, 1, (20, 4))
    assert isinstance(
        step_named("auto", Factorization(near, 2, **options)), Alternating
    )
    fit = Factorization(table, 2, **options)
    assert isinstance(step_named("auto", fit), Guarded)
    one = Factorization(table[:1, :2], 1, **options)
    assert isinstance(step_named("alternating", one, fitted=fit), Guarded)


def test_the_noise_is_a_share_of_the_variance_around_constants() -> None:
    """It was one of the squares of the numbers, which are large far from zero."""
    table = 50 + np.random.default_rng(0).normal(size=(80, 6))
    table[np.random.default_rng(1).random(table.shape) < 0.15] = np.nan
    model = fitted(table, "squared", max_iter=50)
    assert model.noise_.share == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("loss", "constraint", "remedy"),
    [
        ("kl", "nonnegative", "--constraint rows=simplex,columns=nonnegative"),
        ("squared", "nonnegative", "give --offsets columns"),
    ],
)
def test_a_penalty_above_the_loss_of_constants_is_reported(
    loss: str, constraint: str, remedy: str, tmp_path, capsys
) -> None:
    """In the result, on the page and on the terminal, with the parts of the loss."""
    path, out = tmp_path / "t.csv", tmp_path / "run"
    pd.DataFrame(far(), columns=[*"abcdef"]).to_csv(path, index=False)
    given = [
        "--rank",
        "2",
        "--loss",
        loss,
        "--constraint",
        constraint,
        "--out",
        str(out),
    ]
    more = ["--penalty", "l2=5", "--max-iter", "200", "--held-out", "0"]
    assert main(["factorize", str(path), *given, *more]) == 0
    result = json.loads((out / "result.json").read_text())
    says = next(one for one in result["warnings"] if "with its penalty" in one)
    assert says.startswith(f"the loss with its penalty, {result['loss']:.6g}, is above")
    assert remedy in says
    numbers = [float(part.split()[0]) for part in says.split(": ")[1].split("and ")]
    assert sum(numbers) == pytest.approx(result["loss"], rel=1e-5)
    assert numbers[0] < result["constants_loss"] < result["loss"]
    page = html.unescape((out / "report.html").read_text())
    for text in (capsys.readouterr().out, page):
        assert says in text


def test_a_penalty_below_it_is_not() -> None:
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        LowRankModel(
            2, loss="kl", constraint="nonnegative", penalty=0.01, random_state=0,
            held_out=0, max_iter=200,
        ).fit(far())  # fmt: skip
    assert not any("with its penalty" in str(one.message) for one in issued)
