"""Pictures for the page of `descents train`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from descents.pages import figures
from descents.pages.figures import Picture, Stored
from descents.runs.train_result import NetworkResult

Run = Stored[NetworkResult]

MOST_DOTS = 4000
"""Maximum number of starts that are drawn as dots."""


def _named(metric: str) -> str:
    return metric.replace("_", " ")


def _distribution(run: Run) -> Figure:
    settings = [setting.name for setting in run.result.settings]
    figure, (ax,) = figures.new_figure(6.2, 1.4 + 0.55 * len(settings))
    figures.distributions(
        ax, settings, [run.tensors[f"values/{name}"] for name in settings]
    )
    ax.set_xlabel(f"{_named(run.result.metric)} of a start")
    return figure


def _training_and_validation(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(4.8, 4.4)
    rows, best = run.rows, run.result.best.setting
    score = "accuracy" if run.result.classes else "r2"
    chosen = (rows["setting"] == best) & np.isfinite(rows["loss"])
    training = rows[f"training_{score}"][chosen][:MOST_DOTS]
    held_out = rows.get(f"validation_{score}")
    if held_out is None:
        figures.histogram(ax, training)
        ax.set(xlabel=f"training {score}", ylabel="starts")
    else:
        figures.against(ax, training, held_out[chosen][:MOST_DOTS])
        ax.set(xlabel=f"training {score}", ylabel=f"validation {score}")
    return figure


def _curves(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(6.2, 3.8)
    tensors = run.tensors
    figures.training_curves(
        ax, tensors["epochs"], tensors["history_loss"], tensors["failed"]
    )
    return figure


def _profile(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    profile = run.result.profile
    best = run.result.best.setting
    figures.profile(ax, profile.thresholds, profile.settings, best)
    if not run.result.higher_is_better:
        ax.invert_xaxis()
    ax.set(xlabel=_named(run.result.metric), ylabel="share of starts that reach it")
    return figure


def _expected_best(run: Run) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    expected = run.result.expected_best
    figures.band(ax, expected.draws, expected.best, expected.low, expected.high)
    ax.set(
        xlabel="number of starts",
        ylabel=f"expected best {_named(run.result.metric)}",
    )
    return figure


PICTURES: Mapping[str, Picture[NetworkResult]] = {
    "figure-distribution": Picture(
        _distribution, "The metric of every start as a dot, one line per setting.",
        wide=True,
    ),
    "figure-profile": Picture(
        _profile, "The share of starts that reach each value of the metric."
    ),
    "figure-training-validation": Picture(
        _training_and_validation, "Scores of the starts in training and validation."
    ),
    "figure-curves": Picture(
        _curves, "Curves of the training loss of the starts over the epochs."
    ),
    "figure-expected-best": Picture(
        _expected_best, "The expected best over the number of starts, with its interval."
    ),
}  # fmt: skip
