"""The page: a stored run as figures and one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from matplotlib.figure import Figure

from descents.checks import RunFolderError
from descents.data import storage
from descents.report import figures

PAGE = "report.html"
SPECIES = ("setosa", "versicolor", "virginica")


class Stored(NamedTuple):
    """What is read of a run's folder."""

    result: dict[str, Any]
    rows: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]


class Picture(NamedTuple):
    """One figure: how it is drawn, and what it says to who cannot see it."""

    draw: Callable[[Stored], Figure]
    says: str
    wide: bool = False


def _figure_1a(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(4.8, 4.2)
    tensors = run.tensors
    figures.scatter_species(
        ax, tensors["left_singular_vectors"], tensors["species"], SPECIES
    )
    ax.set(xlabel="first column of U_t", ylabel="second column of U_t")
    ax.legend()
    return figure


def _figure_1b(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(4.8, 4.2)
    figures.scatter_species(ax, run.tensors["U"], run.tensors["species"], SPECIES)
    ax.set(xlabel="first column of U-hat", ylabel="second column of U-hat")
    ax.legend()
    return figure


def _figure_1c(run: Stored) -> Figure:
    figure, axes = figures.new_figure(8.6, 4.2, columns=2)
    tensors, fit = run.tensors, run.result["subspace"]["figure_1c_r2"]
    panels = (
        (
            "U_similar",
            f"by a rotation with one scale: R² {fit['rotation_with_one_scale']:.3f}",
        ),
        ("U_aligned", f"by a linear map: R² {fit['linear_map']:.8f}"),
    )
    for ax, (name, title) in zip(axes, panels, strict=True):
        figures.scatter_species(
            ax,
            tensors["left_singular_vectors"],
            tensors["species"],
            SPECIES,
            hollow=True,
            suffix=", U_t",
        )
        figures.scatter_species(
            ax, tensors[name], tensors["species"], SPECIES, suffix=", U-hat"
        )
        ax.set(xlabel="first column", title=title)
    axes[0].set_ylabel("second column")
    axes[0].legend(fontsize=8)
    return figure


def _part(run: Stored, part: str, column: str, setting: str = "") -> np.ndarray:
    chosen = run.rows["part"] == part
    if setting:
        chosen &= run.rows["setting"] == setting
    values: np.ndarray = run.rows[column][chosen]
    return values


def _figure_gaps(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    figures.gaps(
        ax, _part(run, "factorization", "gap"), run.result["factorization"]["gap"]
    )
    return figure


def _published(run: Stored) -> list[float]:
    return [row["training_accuracy"] for row in run.result["training"]["published"]]


def _figure_settings(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(6.8, 5.6)
    training = run.result["training"]
    rows = training["settings"]
    names = [f"{row['loss']}, {row['weights']}, {row['biases']}" for row in rows]
    accuracies = [
        _part(run, "settings", "training_accuracy", name.replace(", ", "-"))
        for name in names
    ]
    possible = [row["p_adjusted"] >= training["level"] for row in rows]
    figures.settings(ax, names, accuracies, possible, _published(run))
    ax.set_title("loss, weights, biases; blue: not rejected by Table 1")
    return figure


def _figure_accuracy(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    values = _part(run, "table", "training_accuracy")
    line = run.result["diagnosis"]["threshold"]
    figures.accuracy_histogram(ax, values, _published(run), line)
    return figure


def _figure_losses(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.8)
    tensors = run.tensors
    figures.loss_curves(
        ax, tensors["recorded"], tensors["history_loss"], tensors["failed"]
    )
    return figure


def _figure_epochs(run: Stored) -> Figure:
    figure, (ax,) = figures.new_figure(5.6, 3.6)
    diagnosis = run.result["diagnosis"]
    if diagnosis["failed"]:
        figures.later_accuracy(
            ax,
            diagnosis["epochs"],
            run.tensors["later_accuracy"],
            diagnosis["threshold"],
        )
    else:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no start failed", ha="center", va="center")
    return figure


PICTURES: Mapping[str, Picture] = {
    "figure-1a": Picture(
        _figure_1a,
        "Scatter plot of the first two left singular vectors, a color for each species.",
    ),
    "figure-1b": Picture(
        _figure_1b,
        "Scatter plot of the two columns of U-hat, a color for each species.",
    ),
    "figure-1c": Picture(
        _figure_1c,
        "Two scatter plots of U-hat laid over U_t: mapped by a rotation with one scale, "
        "and by a linear map.",
        wide=True,
    ),
    "figure-gaps": Picture(
        _figure_gaps, "The share of starts of the factorization within each gap."
    ),
    "figure-settings": Picture(
        _figure_settings,
        "The training accuracies of every setting beside the published ones.",
        wide=True,
    ),
    "figure-accuracy": Picture(
        _figure_accuracy, "Histogram of training accuracy over starts."
    ),
    "figure-losses": Picture(
        _figure_losses, "Loss curves of all starts, failed ones in red."
    ),
    "figure-epochs": Picture(
        _figure_epochs,
        "Training accuracy of the failed starts after 1, 10 and 30 times the epochs.",
    ),
}


def _as(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with figures.style():
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def read_run(folder: Path) -> Stored:
    """Read the stored run that a page is drawn from.

    Raises
    ------
    RunFolderError
        When the folder holds no complete run that has a page.
    """
    result = storage.read_json(folder / storage.RESULT)
    identity = result.get("run")
    command = identity.get("command") if isinstance(identity, dict) else None
    if command != "reproduce":
        raise RunFolderError(
            f"{folder} holds a run of {command!r}; give the folder of a run that has a "
            "page, such as that of 'descents reproduce'"
        )
    rows = storage.read_table(folder / storage.ROWS)
    tensors, _ = storage.read_tensors(folder / storage.TENSORS)
    return Stored(result, rows, tensors)


def draw(folder: Path) -> None:
    """Draw the figures of a stored run, as PNG and SVG, and its page.

    Parameters
    ----------
    folder : Path
        With ``result.json``, ``starts.parquet`` and ``tensors.safetensors``.

    Raises
    ------
    RunFolderError
        When it holds no such run, or cannot be written.
    """
    run = read_run(folder)
    files: dict[str, bytes] = {}
    embedded = {}
    try:
        for name, picture in PICTURES.items():
            with figures.style():
                figure = picture.draw(run)
            files[f"{name}.png"] = _as(figure, "png")
            svg = files[f"{name}.svg"] = _as(figure, "svg")
            embedded[name] = {
                "uri": "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
                "says": picture.says,
                "wide": picture.wide,
            }
        files[PAGE] = html(run.result, embedded).encode()
    except (LookupError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise RunFolderError(
            f"{folder} holds a damaged run, or files of different ones ({error}); run "
            "the command again, to a new folder"
        ) from error
    for name, content in files.items():
        storage.write_bytes(folder / name, content)


def html(result: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page as text; it asks for nothing from anywhere."""
    environment = Environment(
        loader=PackageLoader("descents", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["f"] = fixed
    template = environment.get_template("page.html")
    return template.render(r=result, pictures=pictures)


def fixed(value: Any, form: str) -> str:
    """Return a number in the given form, or say that there is none.

    Examples
    --------
    >>> fixed(0.12345, ".2f"), fixed(None, ".2f")
    ('0.12', 'not known')
    """
    return "not known" if value is None else format(value, form)


def number(value: Any) -> str:
    """Return a number as people read it: four significant digits, more just below 1.

    Examples
    --------
    >>> number(0.000123456), number(1000), number(0.9), number(None), number("kaiming")
    ('0.0001235', '1000', '0.9', 'not known', 'kaiming')
    """
    if value is None:
        return "not known"
    if isinstance(value, str | int):
        return str(value)
    # Four digits would round 0.9999996 to 1.
    return f"{value:.7g}" if 0.999 < abs(value) < 1 else f"{value:.4g}"
