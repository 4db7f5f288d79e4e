"""Former names of parameters and constraints: accepted with a warning, in stored models too."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from descents import LowRankModel, TableOnDisk
from descents.errors import InvalidValueError
from descents.storage.files import write_tensors
from descents.storage.values import typed

TABLE = np.random.default_rng(0).normal(size=(12, 5))


def fitted(**options: Any) -> LowRankModel:
    return LowRankModel(2, random_state=0, max_iter=500, **options).fit(TABLE)


@pytest.mark.parametrize(
    ("former", "now", "message"),
    [
        ({"steps": "lbfgs"}, {"solver": "lbfgs"}, "steps is now called solver"),
        ({"folds": 3}, {"cv": 3}, "folds is now called cv"),
        (
            {"constraint": ("unit_one_sparse", None)},
            {"constraint": ("one_hot", None)},
            "'unit_one_sparse' is now called 'one_hot'",
        ),
    ],
)
def test_former_names_do_the_same_and_warn(former, now, message) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = fitted(**now)
    with pytest.warns(FutureWarning, match=message):
        old = fitted(**former)
    np.testing.assert_array_equal(old.runs_.losses, new.runs_.losses)
    assert old.solver_ == new.solver_


def test_former_names_are_parameters_that_can_be_cloned() -> None:
    model = clone(LowRankModel(2, steps="gd", folds=4))
    assert (model.steps, model.folds) == ("gd", 4)
    settings = model._settings()
    assert (settings.solver, settings.cv) == ("gd", 4)


def test_models_stored_under_former_names_are_opened(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few steps
        model = fitted(solver="alternating", cv=3, constraint=("one_hot", None))
    arrays, facts = model.stored()
    settings = facts["settings"]
    settings["steps"], settings["folds"] = settings.pop("solver"), settings.pop("cv")
    settings["constraint"] = typed(("unit_one_sparse", None))
    facts["constraint"] = [["unit_one_sparse"], []]
    write_tensors(tmp_path / "model.safetensors", arrays, facts)
    back = LowRankModel.load(tmp_path / "model.safetensors")
    assert (back.solver, back.cv) == ("alternating", 3)
    assert tuple(back.constraint) == ("one_hot", None)
    np.testing.assert_array_equal(back.transform(TABLE), model.transform(TABLE))


def test_a_model_fitted_by_a_former_name_is_stored_with_what_it_took(
    tmp_path: Path,
) -> None:
    with pytest.warns(FutureWarning, match="steps is now called solver"):
        fitted(steps="lbfgs").save(tmp_path / "model.safetensors")
    back = LowRankModel.load(tmp_path / "model.safetensors")
    assert (back.solver, back.steps, back.cv) == ("lbfgs", "deprecated", 5)


def test_former_names_are_checked_for_a_table_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", TABLE)
    table = TableOnDisk(tmp_path / "table.npy", memory=10**6)
    with (
        pytest.warns(FutureWarning, match="steps is now called solver"),
        pytest.raises(InvalidValueError, match="solver is 'lbfgs', but a table"),
    ):
        LowRankModel(2, steps="lbfgs").fit(table)
