"""Draws the page of a stored run: one HTML file that refers to no other file."""

from __future__ import annotations

import base64
import hashlib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from descents import __version__
from descents.errors import DescentsError, DrawingError, RunFolderError
from descents.pages import figures, svg
from descents.pages.figures import Picture, R, Stored
from descents.pages.formats import as_file
from descents.pages.kinds import Kind
from descents.pages.numbers import fixed, number
from descents.statistics.metrics import metric_words
from descents.storage.damage import undamaged
from descents.storage.files import read_json, read_table, read_tensors, write_bytes
from descents.storage.results import Result, read_result
from descents.storage.run_folders import RESULT, ROWS, TENSORS
from descents.text import counted, decimals_of, rounded, shortened, small, visible

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


AnyKind = Kind[Any]
"""The page of a command whose result is of any type."""
COMMANDS = ("reproduce", "factorize", "impute", "train", "compare", "apply")
"""The commands that have a page; each has a module here with its `KIND`."""
WITHOUT_STARTS = ("apply",)
WITHOUT_TENSORS = ("compare", "apply")


def kind_of(command: str) -> AnyKind:
    """Return the page of a command; the module of no other command is loaded."""
    kind: AnyKind = importlib.import_module(f"descents.pages.{command}").KIND
    return kind


Contents = tuple[RunResult, dict[str, np.ndarray], dict[str, np.ndarray]]
"""The result, the rows and the tensors of a run."""
Task = tuple[Stored[RunResult], str]
"""A run, and the name of one of its pictures."""
Each = Callable[[Callable[[Task], "Drawn"], Iterable[Task]], Iterable["Drawn"]]
"""A function like `map`."""


@dataclass(frozen=True)
class Drawn:
    """A picture as it stands in a page, and in files if the command writes them.

    Attributes
    ----------
    svg : str
        The SVG element.
    says : str
        What the picture shows: its caption, and its alternative text.
    wide : bool
        Whether it is scrolled sideways on a narrow screen.
    files : mapping of str to bytes
        The content of each file, by its format.
    """

    svg: str
    says: str
    wide: bool
    files: Mapping[str, bytes]


def _drawn(task: Task) -> Drawn:
    """Draw a picture of a run for its page."""
    run, name = task
    kind = kind_of(run.result.run.command)
    picture = kind.pictures[name]
    says = visible(picture.says(run) if callable(picture.says) else picture.says)
    with figures.style():
        figure = finished(picture, run)
        text = svg.inline(figure, name, says)
        files = {}
        if name in kind.files:
            files = {form: as_file(figure, form) for form in ("png", "svg")}
    return Drawn(text, says, picture.wide, files)


def finished(picture: Picture[R], run: Stored[R]) -> Figure:
    """Return a figure with plain numbers on its logarithmic axes."""
    figure = picture.draw(run)
    figures.plain_logarithms(figure)
    return figure


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
    if not isinstance(command, str) or command not in COMMANDS:
        commands = " or ".join(f"'descents {name}'" for name in COMMANDS)
        raise RunFolderError(
            f"{folder} contains a run of {shortened(command)}; give the folder of a run that has a "
            f"page: of {commands}"
        )
    result = read_result(kind_of(command).type_of(stored), path)
    rows: dict[str, np.ndarray] = {}
    tensors: dict[str, np.ndarray] = {}
    if command not in WITHOUT_STARTS:
        rows = read_table(folder / ROWS)
    if command not in WITHOUT_TENSORS:
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


def pictures_of(run: Stored[RunResult]) -> dict[str, Picture[Any]]:
    """Return the pictures of the page of a run, by name."""
    kind = kind_of(run.result.run.command)
    return {
        name: picture
        for name, picture in kind.pictures.items()
        if picture.needs is None or kind.has(run, picture.needs)
    }


def draw(
    folder: Path, contents: Contents | None = None, each: Each | None = None
) -> None:
    """Draw the page of a run.

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
    DrawingError
        If the run is damaged.
    """
    if contents is None:
        with undamaged(folder):
            run = read_run(folder)
    else:
        run = Stored(_shown(contents[0]), *contents[1:])
    files: dict[str, bytes] = {}
    try:
        names = list(pictures_of(run))
        drawn = dict(
            zip(names, (each or map)(_drawn, [(run, n) for n in names]), strict=True)
        )
        for name, picture in drawn.items():
            files |= {f"{name}.{form}": got for form, got in picture.files.items()}
        files[PAGE] = html(run, drawn).encode()
    except (DescentsError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged run can raise any
        raise DrawingError(
            f"{folder} contains a damaged run, or files of different runs; run "
            "the command again, with a new folder"
        ) from error
    for name, content in files.items():
        write_bytes(folder / name, content, alone=True)


def warm(command: str = "train") -> None:
    """Load the page of a command and draw a small picture, so that this is done early."""
    kind_of(command)
    figure, (ax,) = figures.new_figure(1, 1)
    ax.plot([1, 2], [1, 10])
    ax.set(yscale="log")
    figures.plain_logarithms(figure)
    with figures.style():
        svg.inline(figure, "warm", "")
    _environment().get_template(f"{command}.html")


@cache
def _environment() -> Environment:
    """Return what renders templates, with the filters that they use."""
    environment = Environment(
        loader=PackageLoader("descents", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "f": fixed,
        "counted": counted,
        "rounded": rounded,
        "small": small,
        "decimals_of": decimals_of,
        "metric_words": metric_words,
    }
    return environment


def _scripts(linked: bool) -> list[str]:
    """Return the scripts of a page; `linked` pages have a selection of starts."""
    folder = resources.files("descents.pages") / "static"
    names = ["d3-brush.min.js", "linked.js"] if linked else []
    return [(folder / name).read_text(encoding="utf-8") for name in [*names, "page.js"]]


def policy(scripts: Sequence[str]) -> str:
    """Return the content security policy of a page.

    Only these scripts run, nothing is evaluated from text, and nothing is requested from
    anywhere.
    """
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    ]
    return (
        "default-src 'none'; connect-src 'none'; base-uri 'none'; form-action 'none'; "
        "style-src 'unsafe-inline'; img-src data:; "
        f"script-src {' '.join(hashes)}"
    )


def _versions(result: RunResult) -> Mapping[str, str]:
    """Return the versions of the libraries that computed a result."""
    environment = vars(result)["environment"]
    if environment is None:  # of a run of an earlier version
        return {}
    versions: Mapping[str, str] = environment.versions
    return versions


def html(run: Stored[RunResult], drawn: Mapping[str, Drawn]) -> str:
    """Return the page as HTML text, which refers to no other file."""
    result = run.result
    kind = kind_of(result.run.command)
    table = kind.starts(run)
    scripts = _scripts(table is not None)
    template = _environment().get_template(f"{result.run.command}.html")
    text = template.render(
        r=result,
        answer=kind.answer(run),
        pictures={
            name: {"svg": Markup(one.svg), "says": one.says, "wide": one.wide}  # noqa: S704
            for name, one in drawn.items()
        },
        starts=None if table is None else Markup(table.json()),  # noqa: S704 - escaped
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - ours
        policy=policy(scripts),
        version=_versions(result).get("descents", __version__),
        versions=_versions(result),
        **kind.facts(run),
    )
    return visible(text)
