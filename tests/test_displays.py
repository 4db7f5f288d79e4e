"""Displays draw the numbers of the results that they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from sklearn.datasets import load_iris

from descents import (
    ComparisonDisplay,
    ComponentsDisplay,
    Factorization,
    GradientDescent,
    LowRankModel,
    MLPStartsClassifier,
    SelectionDisplay,
    StartsDisplay,
    Stop,
    SweepResult,
    descend,
    sweep,
)
from descents.errors import InvalidValueError
from descents.optim.runs import Runs
from descents.tables.datasets import planted_table


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def runs() -> Runs:
    table = np.random.default_rng(0).normal(size=(6, 4))
    return descend(
        Factorization(table, 2), 9, 0, steps=GradientDescent(0.01), stop=Stop(20)
    )


@pytest.fixture(scope="module")
def model() -> LowRankModel:
    table = planted_table(40, 6, 2, noise=0.1)[0]
    return LowRankModel("auto", random_state=0).fit(table)


@pytest.fixture(scope="module")
def study() -> SweepResult:
    X, y = load_iris(return_X_y=True)
    network = MLPStartsClassifier(4, n_starts=8, max_epochs=5, random_state=0)
    return sweep(network, {"learning_rate": [0.001, 0.1, 0.03]}, X, y)


def test_starts_are_drawn_at_their_gaps(runs: Runs) -> None:
    ax = Figure().add_subplot()
    display = StartsDisplay.from_runs(runs).plot(ax, color="red", ms=2)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    gaps = sorted(loss - min(runs.losses) for loss in runs.losses)
    drawn = display.line_.get_ydata()
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 10))
    np.testing.assert_allclose(drawn[1:], gaps[1:], rtol=1e-14)
    assert 0 < drawn[0] < gaps[1]  # the least loss, at the end of the axis
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert low < drawn.min()
    assert drawn.max() < high
    assert display.line_.get_color() == "red"


def test_starts_that_all_agree_and_starts_that_failed(runs: Runs) -> None:
    same = StartsDisplay(np.full(3, 2.0)).plot(Figure().add_subplot())
    np.testing.assert_array_equal(same.line_.get_ydata(), [0, 0, 0])
    assert same.ax_.get_yscale() == "linear"
    some = StartsDisplay(np.array([np.inf, 3.0, np.nan, 2.0]))
    line = some.plot(Figure().add_subplot()).line_
    np.testing.assert_allclose(line.get_ydata(), [0.1, 1.0])
    with pytest.raises(InvalidValueError, match="no start has a finite loss"):
        StartsDisplay.from_runs(replace(runs, losses=np.full(9, np.nan)))
    with pytest.raises(InvalidValueError, match="runs is a LowRankModel; give a Runs"):
        StartsDisplay.from_runs(LowRankModel())  # type: ignore[arg-type]


def test_components_are_drawn_as_they_are(model: LowRankModel) -> None:
    display = ComponentsDisplay.from_estimator(model).plot(Figure().add_subplot())
    np.testing.assert_array_equal(display.image_.get_array(), model.components_.T)
    low, high = display.image_.get_clim()
    assert -low == high == np.abs(model.components_).max()  # white is zero
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == display.names
    # Another route to the importance: the sum of squares of each component alone.
    centered = model.embedding_ - model.embedding_.mean(0)
    alone = [
        np.square(np.outer(u, v)).sum()
        for u, v in zip(centered.T, model.components_, strict=True)
    ]
    whole = np.square(centered @ model.components_).sum()
    np.testing.assert_allclose(display.importance, np.divide(alone, whole), rtol=1e-10)
    assert display.importance.sum() == pytest.approx(1, abs=1e-9)
    ticks = [t.get_text() for t in display.ax_.get_xticklabels()]
    assert ticks[0] == f"1\n{display.importance[0]:.0%}"


def test_names_are_no_formulas() -> None:
    table = np.outer([1.0, 2.0, 3.0, 5.0], [1.0, -1.0])
    model = LowRankModel(1, random_state=0).fit(table)
    display = ComponentsDisplay(model.components_, ["$x", "a\x1b\n"], np.ones(1))
    figure = display.plot(Figure().add_subplot()).figure_
    figure.canvas.draw()
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == [r"\$x", r"a\x1b "]


def test_selection_draws_losses_errors_and_the_line_of_constants(
    model: LowRankModel,
) -> None:
    display = SelectionDisplay.from_estimator(model).plot(Figure().add_subplot())
    found = model.selection_
    assert found is not None
    line, _, (bars,) = display.errorbar_
    np.testing.assert_array_equal(line.get_xdata(), found.ranks)
    means = [np.mean(found.losses[k, 0]) for k in range(len(found.ranks))]
    np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-13)
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    spread = found.losses[:, 0].std(1, ddof=1) / np.sqrt(found.losses.shape[-1])
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * spread, rtol=1e-9)
    constants, chosen = display.ax_.get_lines()[-2:]
    assert list(constants.get_ydata()) == [1, 1]
    assert chosen.get_xdata() == [model.n_components_]


def test_selection_of_a_penalty_is_by_penalty() -> None:
    table = planted_table(40, 6, 2, noise=0.3)[0]
    model = LowRankModel(2, penalty={"l2": [0.1, 1, 10]}, random_state=0).fit(table)
    display = SelectionDisplay.from_estimator(model).plot()
    np.testing.assert_array_equal(display.values, [10, 1, 0.1])
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "l2"
    with pytest.raises(InvalidValueError, match="no rank and no penalty was chosen"):
        SelectionDisplay.from_estimator(LowRankModel(1).fit(table))
    by_threshold = LowRankModel("gavish-donoho", random_state=0).fit(table)
    with pytest.raises(InvalidValueError, match="by singular values"):
        SelectionDisplay.from_estimator(by_threshold)


def test_comparison_draws_differences_with_their_intervals(study: SweepResult) -> None:
    display = ComparisonDisplay.from_sweep(study).plot(Figure().add_subplot())
    line, _, (bars,) = display.errorbar_
    values = study.values()
    compared = study.compared()
    means = [(values[study.best] - values[k]).mean() for k, _, _ in compared]
    np.testing.assert_allclose(line.get_xdata(), means, atol=1e-12)
    for segment, (_, one, _) in zip(bars.get_segments(), compared, strict=True):
        np.testing.assert_allclose(segment[:, 0], [one.low, one.high], atol=1e-12)
    zero = display.ax_.get_lines()[-1]
    assert list(zero.get_xdata()) == [0, 0]
    labels = [t.get_text() for t in display.ax_.get_yticklabels()]
    assert labels == [study.names[k] for k, _, _ in compared]
    assert study.names[study.best] in display.ax_.get_xlabel()


def test_estimators_are_compared_as_a_sweep_is(study: SweepResult) -> None:
    models = dict(zip("abc", study.models, strict=True))
    ours, theirs = (
        ComparisonDisplay.from_estimators(models),
        ComparisonDisplay.from_sweep(study),
    )
    np.testing.assert_array_equal(ours.difference, theirs.difference)
    np.testing.assert_array_equal(ours.low, theirs.low)
    assert ours.best == "abc"[study.best]
    with pytest.raises(InvalidValueError, match="not a fitted MLPStartsClassifier"):
        ComparisonDisplay.from_estimators({"a": MLPStartsClassifier()})
    with pytest.raises(InvalidValueError, match="1 estimators"):
        ComparisonDisplay.from_estimators({"a": study.models[0]})


def test_without_axes_there_is_a_new_figure_and_no_setting_changes(runs: Runs) -> None:
    before = dict(mpl.rcParams)
    one, two = (
        StartsDisplay.from_runs(runs).plot(),
        StartsDisplay.from_runs(runs).plot(),
    )
    assert one.figure_ is not two.figure_
    assert dict(mpl.rcParams) == before
    with pytest.raises(InvalidValueError, match="ax is 3, which is not in a figure"):
        StartsDisplay.from_runs(runs).plot(3)  # type: ignore[arg-type]
