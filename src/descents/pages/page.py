"""Draws the figures of a stored run and its page, one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypedDict

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from descents.errors import RunFolderError
from descents.pages import factorize as factorized
from descents.pages import figures
from descents.pages import impute as imputed
from descents.pages import reproduce as reproduced
from descents.pages import train as trained
from descents.pages.figures import Picture, Stored
from descents.reproduction.result import ReproductionResult
from descents.runs.factorize_result import LowRankResult
from descents.runs.impute_result import ImputationResult
from descents.runs.train_result import NetworkResult
from descents.storage.files import read_json, read_table, read_tensors, write_bytes
from descents.storage.results import Result, read_result
from descents.storage.run_folders import RESULT, ROWS, TENSORS
from descents.text import counted, visible

PAGE = "report.html"


class _Run(Protocol):
    """The identity of a run."""

    @property
    def command(self) -> str: ...


class RunResult(Protocol):
    """The result of a run that has a page."""

    @property
    def run(self) -> _Run:
        """The identity of the run."""


PAGES: Mapping[str, Mapping[str, Picture[Any]]] = {
    "reproduce": reproduced.PICTURES,
    "factorize": factorized.PICTURES,
    "impute": imputed.PICTURES,
    "train": trained.PICTURES,
}
"""The pictures of each command; its template has the name of the command."""
RESULTS: Mapping[str, type[Result]] = {
    "factorize": LowRankResult,
    "reproduce": ReproductionResult,
    "impute": ImputationResult,
    "train": NetworkResult,
}
"""The result of each command that has a page."""
Contents = tuple[RunResult, dict[str, np.ndarray], dict[str, np.ndarray]]
"""The result, the rows and the tensors of a run."""
Task = tuple[Stored[RunResult], str]
"""A run, and the name of one of its pictures."""
Files = tuple[bytes, bytes]
"""A picture as PNG and as SVG."""
Each = Callable[[Callable[[Task], Files], Iterable[Task]], Iterable[Files]]
"""A function like `map`."""


class Embedded(TypedDict):
    """A picture for the template of a page."""

    uri: str
    says: str
    wide: bool


def _files(task: Task) -> Files:
    """Return a picture of a run as PNG and as SVG.

    The canvases are used directly, because `Figure.savefig` draws everything twice.
    """
    run, name = task
    png, svg = io.BytesIO(), io.BytesIO()
    with figures.style():
        figure = PAGES[run.result.run.command][name].draw(run)
        figures.plain_logarithms(figure)
        figure.set_dpi(mpl.rcParams["savefig.dpi"])
        _write(FigureCanvasAgg(figure).print_png, png, {"Software": None})
        figure.set_layout_engine("none")  # keep the layout of the PNG
        _write(FigureCanvasSVG(figure).print_svg, svg, {"Date": None})
    # The name of a column may contain control characters, which XML forbids.
    return png.getvalue(), visible(svg.getvalue().decode()).encode()


def _write(
    write: Callable[..., None], buffer: io.BytesIO, metadata: Mapping[str, None]
) -> None:
    """Call a print method of a canvas, for which matplotlib has no types."""
    write(buffer, metadata=metadata)


def read_run(folder: Path) -> Stored[RunResult]:
    """Read the stored run that a page is drawn from.

    Raises
    ------
    RunFolderError
        If the folder does not contain a complete run that has a page.
    """
    path = folder / RESULT
    stored = read_json(path)
    identity = stored.get("run")
    command = identity.get("command") if isinstance(identity, dict) else None
    if not isinstance(command, str) or command not in PAGES:
        raise RunFolderError(
            f"{folder} contains a run of {command!r}; give the folder of a run that has a "
            "page: of 'descents reproduce', 'descents factorize', 'descents impute' or "
            "'descents train'"
        )
    result = read_result(RESULTS[command], path)
    rows = read_table(folder / ROWS)
    tensors, _ = read_tensors(folder / TENSORS)
    return Stored(_shown(result), rows, tensors)


def _shown(value: Any) -> Any:
    """Return a result or a value in it, with control characters in texts escaped."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Result):
        return replace(value, **{n: _shown(item) for n, item in vars(value).items()})
    if isinstance(value, dict):
        return {_shown(n): _shown(item) for n, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def draw(
    folder: Path, contents: Contents | None = None, each: Each | None = None
) -> None:
    """Draw the figures of a run, as PNG and SVG, and its page.

    Parameters
    ----------
    folder : Path
        The folder to draw into.
    contents : tuple, optional
        The result, the rows and the tensors of the run. By default they are read from
        ``result.json``, ``starts.parquet`` and ``tensors.safetensors`` in the folder.
    each : callable, optional
        A function like `map`, for example that of a pool of processes. The default is
        `map`.

    Raises
    ------
    RunFolderError
        If the folder does not contain such a run, or cannot be written.
    """
    if contents is None:
        run = read_run(folder)
    else:
        run = Stored(_shown(contents[0]), *contents[1:])
    files: dict[str, bytes] = {}
    embedded: dict[str, Embedded] = {}
    try:
        pictures = {
            name: picture
            for name, picture in PAGES[run.result.run.command].items()
            if picture.needs is None
            or picture.needs in run.tensors
            or getattr(run.result, picture.needs, None) is not None
        }
        drawn = (each or map)(_files, [(run, name) for name in pictures])
        for (name, picture), (png, svg) in zip(pictures.items(), drawn, strict=True):
            files |= {f"{name}.png": png, f"{name}.svg": svg}
            embedded[name] = {
                "uri": "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
                "says": picture.says,
                "wide": picture.wide,
            }
        files[PAGE] = html(run.result, embedded).encode()
    except (LookupError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise RunFolderError(
            f"{folder} contains a damaged run, or files of different runs; run "
            "the command again, with a new folder"
        ) from error
    for name, content in files.items():
        write_bytes(folder / name, content)


def warm() -> None:
    """Draw a small picture, so that fonts and parsers are loaded in advance."""
    figure, (ax,) = figures.new_figure(1, 1)
    ax.plot([1, 2], [1, 10])
    ax.set(yscale="log")
    figures.plain_logarithms(figure)
    with figures.style():
        _write(FigureCanvasAgg(figure).print_png, io.BytesIO(), {})
        _write(FigureCanvasSVG(figure).print_svg, io.BytesIO(), {})


def html(result: RunResult, pictures: Mapping[str, Embedded]) -> str:
    """Return the page as HTML text, which refers to no other file."""
    environment = Environment(
        loader=PackageLoader("descents", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["f"] = fixed
    environment.filters["counted"] = counted
    template = environment.get_template(f"{result.run.command}.html")
    return visible(template.render(r=result, pictures=pictures))


def fixed(value: float | None, form: str) -> str:
    """Return a number in a format, or "not known" for None.

    Examples
    --------
    >>> fixed(0.12345, ".2f"), fixed(None, ".2f")
    ('0.12', 'not known')
    """
    return "not known" if value is None else format(value, form)


def number(value: float | str | None) -> str:
    """Return a number with four significant digits, or seven just below 1.

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
