"""Forests on top of the Gaussian model: as arrays, in files, and in other units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from descents import LowRankImputer, load
from descents.cli.main import main
from descents.marginal.forests import Forest
from descents.marginal.model import fit
from descents.marginal.refinement import RefinedModel
from descents.marginal.settings import Settings


def bent(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return a table whose columns depend on each other by curves and thresholds."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, rows)
    size = np.select([np.abs(x) < 1, x > 0], ["mid", "high"], "low")
    table = pd.DataFrame(
        {
            "x": x,
            "wave": np.sin(3 * x) + 0.1 * rng.normal(size=rows),
            "size": pd.Categorical(size, categories=["low", "mid", "high", "never"]),
        }
    )
    for name in table:
        table.loc[rng.random(rows) < 0.15, name] = np.nan
    return table


def test_forests_as_arrays_predict_as_in_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    design = rng.normal(size=(300, 5)) * [1e-3, 1, 1e6, 1, 1]
    design[:, 3] = design[:, 3].round()  # ties at thresholds are decided alike
    truth = np.sin(2 * design[:, 1]) + design[:, 3]
    regressor = ExtraTreesRegressor(30, min_samples_leaf=2, random_state=1)
    regressor.fit(design[:200], truth[:200])
    found = Forest.of(regressor).predict(design)
    np.testing.assert_allclose(found[:, 0], regressor.predict(design), rtol=1e-12)

    levels = np.digitize(truth, [-1, 1]) + 1  # of levels 0 to 4, which have 1, 2 and 3
    classifier = ExtraTreesClassifier(30, bootstrap=True, random_state=1)
    classifier.fit(design[:200], levels[:200])
    forest = Forest.of(classifier, 5)
    assert forest.values.dtype == np.uint8
    chances = forest.predict(design)
    expected = classifier.predict_proba(design)
    np.testing.assert_allclose(chances[:, 1:4], expected, atol=1e-12)
    np.testing.assert_array_equal(chances[:, [0, 4]], 0)


@pytest.mark.parametrize("wide", [False, True])
def test_a_saved_imputer_keeps_its_forests(tmp_path: Path, wide: bool) -> None:
    table = bent()
    if wide:  # the columns are the sample
        rng = np.random.default_rng(0)
        factor = rng.normal(size=(40, 1))
        values = factor * rng.normal(size=90) + 0.3 * rng.normal(size=(40, 90))
        values[:, 0] = np.abs(factor[:, 0]) > 0.7
        table = pd.DataFrame(values, columns=[f"x{place}" for place in range(90)])
        table.iloc[35:, 0] = np.nan
    imputer = LowRankImputer(random_state=0, refine=True, held_out=0).fit(table)
    model = imputer.fitted_.fitted.model
    assert isinstance(model, RefinedModel)
    assert model.readouts
    imputer.save(tmp_path / "imputer.safetensors")
    again = load(tmp_path / "imputer.safetensors")
    assert again.refine
    new = table.iloc[::2].reset_index(drop=True)
    for rows in (table, new):
        pd.testing.assert_frame_equal(
            again.transform(rows), imputer.transform(rows), rtol=1e-12
        )
    plain = LowRankImputer(random_state=0, held_out=0).fit(table).transform(table)
    assert not plain.equals(again.transform(table))


def test_apply_fills_new_rows_by_the_forests_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = bent()
    table.to_csv(tmp_path / "table.csv", index=False)
    table.iloc[:50].to_csv(tmp_path / "new.csv", index=False)
    paths = [str(tmp_path / name) for name in ("table.csv", "filled.csv")]
    run = str(tmp_path / "run")
    assert main(["impute", *paths, "--refine", "--out", run]) == 0
    again = [str(tmp_path / name) for name in ("new.csv", "again.csv", "applied")]
    done = main(["apply", run, *again[:2], "--out", again[2]])
    assert done == 0, capsys.readouterr().err
    filled, others = (pd.read_csv(path) for path in (paths[1], again[1]))
    pd.testing.assert_frame_equal(others, filled.iloc[:50], rtol=1e-12)
    opened = load(Path(run)).impute(table)
    pd.testing.assert_series_equal(opened["wave"].iloc[:50], others["wave"], atol=1e-6)


def test_refined_fills_change_with_the_unit_of_a_column() -> None:
    table = bent()
    codes = np.column_stack(
        [table["x"], table["wave"], table["size"].cat.codes.astype(float)]
    )
    codes[codes[:, 2] < 0, 2] = np.nan
    levels, settings = np.array([0, 0, 4]), Settings(refine=True, held_out=0)
    before = fit(codes, levels, settings).predicted(codes).values
    # Units of powers of 2 round nothing; where residuals are rounded, ties between splits
    # are decided otherwise, and trees differ.
    units = np.array([2.0**-30, 2.0**30, 1])
    after = fit(codes * units, levels, settings).predicted(codes * units).values
    np.testing.assert_allclose(after, before * units, rtol=1e-12)
