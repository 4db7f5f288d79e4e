"""Pictures for the page of `descents reproduce`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from descents.pages import report_figures
from descents.pages.figures import Picture, Stored, new_figure
from descents.reproduction.result import ReproductionResult

Run = Stored[ReproductionResult]

PUBLISHED_SETTING = "sum-uniform01-uniform01"
SPECIES = ("setosa", "versicolor", "virginica")


def _figure_1a(run: Run) -> Figure:
    figure, (ax,) = new_figure(4.8, 4.2)
    tensors = run.tensors
    report_figures.scatter_species(
        ax, tensors["left_singular_vectors"], tensors["species"], SPECIES
    )
    ax.set(xlabel="first column of U_t", ylabel="second column of U_t")
    ax.legend()
    return figure


def _figure_1b(run: Run) -> Figure:
    figure, (ax,) = new_figure(4.8, 4.2)
    report_figures.scatter_species(
        ax, run.tensors["U"], run.tensors["species"], SPECIES
    )
    ax.set(xlabel="first column of U-hat", ylabel="second column of U-hat")
    ax.legend()
    return figure


def _figure_1c(run: Run) -> Figure:
    figure, axes = new_figure(8.6, 4.2, columns=2)
    tensors, fit = run.tensors, run.result.subspace.figure_1c_r2
    panels = (
        (
            "U_similar",
            f"by a rotation with one scale: R² {fit.rotation_with_one_scale:.3f}",
        ),
        ("U_aligned", f"by a linear map: R² {fit.linear_map:.8f}"),
    )
    for ax, (name, title) in zip(axes, panels, strict=True):
        report_figures.scatter_species(
            ax,
            tensors["left_singular_vectors"],
            tensors["species"],
            SPECIES,
            hollow=True,
            suffix=", U_t",
        )
        report_figures.scatter_species(
            ax, tensors[name], tensors["species"], SPECIES, suffix=", U-hat"
        )
        ax.set(xlabel="first column", title=title)
    axes[0].set_ylabel("second column")
    axes[0].legend(fontsize=8)
    return figure


def _part(run: Run, part: str, column: str, setting: str = "") -> np.ndarray:
    chosen = run.rows["part"] == part
    if setting:
        chosen &= run.rows["setting"] == setting
    values: np.ndarray = run.rows[column][chosen]
    return values


def _figure_gaps(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.6, 3.6)
    report_figures.gaps(
        ax, _part(run, "factorization", "gap"), run.result.factorization.gap
    )
    return figure


def _published(run: Run) -> list[float]:
    return [row.training_accuracy for row in run.result.training.published]


def _figure_ten_starts(run: Run) -> Figure:
    figure, axes = new_figure(8.6, 4.2, columns=2)
    training = run.result.training
    chosen = (run.rows["part"] == "ten-starts") & (
        run.rows["setting"] == PUBLISHED_SETTING
    )
    starts = run.rows["start"][chosen]
    for ax, kind in zip(axes, ("training", "validation"), strict=True):
        name = f"{kind}_accuracy"
        values = run.rows[name][chosen]
        by_run = np.stack([values[starts == k] for k in np.unique(starts)], 1)
        marks = [
            [getattr(row, name) for row in rows]
            for rows in (training.published, training.ten_starts.witness.table)
        ]
        report_figures.runs_over_shuffles(ax, by_run, *marks)
        ax.set(xlabel=f"{kind} accuracy")
    axes[0].set_ylabel("run")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _figure_ten_losses(run: Run) -> Figure:
    figure, (ax,) = new_figure(6.8, 4.2)
    line = run.result.diagnosis.threshold
    report_figures.few_loss_curves(
        ax,
        run.tensors["ten_recorded"],
        run.tensors["ten_history_loss"],
        np.array(_published(run)) < line,
    )
    return figure


def _figure_shuffles(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.6, 3.6)
    failures = run.result.training.failures
    report_figures.failures_by_shuffle(
        ax, failures.by_shuffle, failures.fixed.share, failures.share
    )
    return figure


def _figure_settings(run: Run) -> Figure:
    figure, (ax,) = new_figure(6.8, 5.6)
    training = run.result.training
    rows = training.settings
    names = [f"{row.loss}, {row.weights}, {row.biases}" for row in rows]
    accuracies = [
        _part(run, "settings", "training_accuracy", name.replace(", ", "-"))
        for name in names
    ]
    possible = [row.p_adjusted >= training.level for row in rows]
    report_figures.settings(ax, names, accuracies, possible, _published(run))
    ax.set_title("loss, weights, biases; blue: not rejected by Table 1")
    return figure


def _figure_accuracy(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.6, 3.6)
    values = _part(run, "table", "training_accuracy")
    line = run.result.diagnosis.threshold
    report_figures.accuracy_histogram(ax, values, _published(run), line)
    return figure


def _figure_losses(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.6, 3.8)
    tensors = run.tensors
    report_figures.loss_curves(
        ax, tensors["recorded"], tensors["history_loss"], tensors["failed"]
    )
    return figure


def _figure_epochs(run: Run) -> Figure:
    figure, (ax,) = new_figure(5.6, 3.6)
    diagnosis = run.result.diagnosis
    if diagnosis.failed:
        report_figures.later_accuracy(
            ax,
            diagnosis.epochs,
            run.tensors["later_accuracy"],
            diagnosis.threshold,
        )
    else:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no start failed", ha="center", va="center")
    return figure


PICTURES: Mapping[str, Picture[ReproductionResult]] = {
    "figure-1a": Picture(
        _figure_1a,
        "Scatter plot of the first two left singular vectors, colored by species.",
    ),
    "figure-1b": Picture(
        _figure_1b,
        "Scatter plot of the two columns of U-hat, colored by species.",
    ),
    "figure-1c": Picture(
        _figure_1c,
        "Two scatter plots of U-hat over U_t: mapped by a rotation with one scale, and by "
        "a linear map.",
        wide=True,
    ),
    "figure-gaps": Picture(
        _figure_gaps, "Share of starts of the factorization within each gap."
    ),
    "figure-ten-starts": Picture(
        _figure_ten_starts,
        "Training and validation accuracy of each of the ten published starts over "
        "shuffles, with the published values marked.",
        wide=True,
    ),
    "figure-ten-losses": Picture(
        _figure_ten_losses,
        "Loss curves of the ten published starts on the witness, with the three bad runs "
        "in red.",
    ),
    "figure-shuffles": Picture(
        _figure_shuffles,
        "Share of failed starts on each of 21 shuffles, with the fixed one in red.",
    ),
    "figure-settings": Picture(
        _figure_settings,
        "Training accuracies of every setting, with the published ones marked.",
        wide=True,
    ),
    "figure-accuracy": Picture(
        _figure_accuracy, "Histogram of training accuracy over starts."
    ),
    "figure-losses": Picture(
        _figure_losses, "Loss curves of all starts, with failed starts in red."
    ),
    "figure-epochs": Picture(
        _figure_epochs,
        "Training accuracy of the failed starts after 1, 10 and 30 times the epochs.",
    ),
}
