"""The page: a stored run as figures and one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from matplotlib.figure import Figure

from descents.checks import RunFolderError, counted
from descents.data import storage
from descents.report import factorized, figures, reproduced, trained
from descents.report.figures import Stored

PAGE = "report.html"


PAGES = {
    "reproduce": reproduced.PICTURES,
    "factorize": factorized.PICTURES,
    "train": trained.PICTURES,
}
"""The pictures of each command; its template has the command's name."""


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
    if command not in PAGES:
        raise RunFolderError(
            f"{folder} holds a run of {command!r}; give the folder of a run that has a "
            "page: of 'descents reproduce', 'descents factorize' or 'descents train'"
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
        pictures = PAGES[run.result["run"]["command"]]
        for name, picture in pictures.items():
            if not picture.of(run):
                continue
            with figures.style():
                figure = picture.draw(run)
            files[f"{name}.png"] = _as(figure, "png")
            figure.set_layout_engine("none")  # it is laid out, and stays so
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
    environment.filters["counted"] = counted
    template = environment.get_template(f"{result['run']['command']}.html")
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
