"""The pictures of `descents train`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from descents.report import figures
from descents.report.figures import Picture, Stored

MOST_DOTS = 4000
"""How many starts a picture shows one by one at most."""


def _named(metric: str) -> str:
    return metric.replace("_", " ")


def _distribution(run: Stored) -> Figure:
    settings = [setting["name"] for setting in run.result["settings"]]
    figure, (ax,) = figures.new_figure(6.2, 1.4 + 0.55 * len(settings))
    figures.distributions(
        ax, settings, [run.tensors[f"values/{name}"] for name in settings]
    )
    ax.set_xlabel(f"{_named(run.result['metric'])} of a start")
    return figure


def _training_and_validation(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(4.8, 4.4)
    rows, best = run.rows, run.result["best"]["setting"]
    score = "accuracy" if run.result["classes"] else "r2"
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


def _curves(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(6.2, 3.8)
    tensors = run.tensors
    figures.training_curves(
        ax, tensors["epochs"], tensors["history_loss"], tensors["failed"]
    )
    return figure


def _profile(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    found = run.result["profile"]
    best = run.result["best"]["setting"]
    figures.profile(ax, found["thresholds"], found["settings"], best)
    if not run.result["higher_is_better"]:
        ax.invert_xaxis()
    ax.set(xlabel=_named(run.result["metric"]), ylabel="share of starts that reach it")
    return figure


def _expected_best(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    found = run.result["expected_best"]
    low, high = (
        [np.nan if x is None else x for x in found[side]] for side in ("low", "high")
    )
    figures.band(ax, found["draws"], found["best"], low, high)
    ax.set(
        xlabel="how many starts are tried",
        ylabel=f"expected best {_named(run.result['metric'])}",
    )
    return figure


PICTURES: Mapping[str, Picture] = {
    "figure-distribution": Picture(
        _distribution, "The metric of every start as a dot, settings below each other.",
        wide=True,
    ),
    "figure-profile": Picture(
        _profile, "The share of starts that reach each value of the metric."
    ),
    "figure-training-validation": Picture(
        _training_and_validation, "Validation against training score, a dot a start."
    ),
    "figure-curves": Picture(
        _curves, "The training loss of every start over the epochs."
    ),
    "figure-expected-best": Picture(
        _expected_best, "The expected best of so many starts, with its interval."
    ),
}  # fmt: skip
