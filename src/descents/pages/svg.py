"""A figure as SVG that stands in a page and takes its colors from the page's style."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html import escape

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.path import Path

from descents.pages.marks import StartMarks
from descents.text import visible

THEME = {
    "#222222": "var(--ink)",
    "#000000": "var(--ink)",
    "#9aa0a6": "var(--rule)",
    "#c0392b": "var(--red)",
    "#1f5fa8": "var(--blue)",
    "#ffffff": "var(--paper)",
}
"""Colors of figures, and the variables of the page's style that replace them."""

DOT = Path(np.zeros((1, 2)))
"""What matplotlib writes in place of marks; `inline` replaces it."""


def inline(figure: Figure, name: str, says: str) -> str:
    """Return a figure as an SVG element for a page.

    Marks of starts are one path each, with coordinates to a tenth of a point; the
    attribute ``data-rows`` lists the rows of the table of starts they belong to, as JSON.

    Parameters
    ----------
    figure : Figure
    name : str
        Unique on the page; identifiers in the figure begin with it.
    says : str
        The alternative text.
    """
    marks = [
        artist
        for artist in figure.findobj(StartMarks)
        if isinstance(artist, StartMarks)
    ]
    paths = [artist.get_path() for artist in marks]
    buffer = io.StringIO()
    for place, artist in enumerate(marks):
        artist.set_gid(f"marks-{place}")
        artist.set_path(DOT)
    write: Callable[..., None] = FigureCanvasSVG(figure).print_svg
    write(
        buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    for artist, path in zip(marks, paths, strict=True):
        artist.set_path(path)
    text = _element(visible(buffer.getvalue()), name, says)
    for place, artist in enumerate(marks):
        text = _with_marks(text, f"{name}-marks-{place}", artist, figure)
    return text


def _element(text: str, name: str, says: str) -> str:
    """Return the SVG element of a document, with unique names and the page's colors."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.S)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert size is not None  # noqa: S101 - matplotlib writes it
    begin = (
        f'<svg id="{name}-svg" class="plot" role="img" aria-label="{escape(says)}" '
        f'viewBox="0 0 {size[1]} {size[2]}" style="max-width: {float(size[1]) * 4 / 3:.0f}px">'
    )
    text = re.sub(r"<svg[^>]*>", lambda _: begin, text, count=1)
    text = re.sub(
        r'(\sid="|url\(#|href="#)(?!' + re.escape(name) + ")", rf"\g<1>{name}-", text
    )
    text = text.replace("xlink:href", "href")
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 var(--font)", text)
    return re.sub("#[0-9a-f]{6}", lambda found: THEME.get(found[0], found[0]), text)


def _with_marks(text: str, name: str, artist: StartMarks, figure: Figure) -> str:
    """Put the marks into the group that matplotlib wrote for them."""
    to_points = artist.get_transform() - figure.transFigure
    width, height = figure.get_size_inches() * 72

    place = to_points.transform(artist.points).reshape(-1, 2)
    x, y = place[:, 0] * width, (1 - place[:, 1]) * height
    pieces = [f"L{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    for first, length in zip(
        artist.firsts(artist.lengths), artist.lengths, strict=True
    ):
        # A dot is a line of length 0 with round caps.
        pieces[first] = "M" + pieces[first][1:] + ("h0" if length == 1 else "")
    drawn = "".join(pieces)
    rows = _rows(artist.rows)

    def path(found: re.Match[str]) -> str:
        return f'<path class="marks" data-rows="{escape(rows)}" d="{drawn}"{found[1]}/>'

    start = text.index(f'<g id="{name}"')
    end = text.index("</g>", start)
    group = re.sub(
        r'<path(?: d="[^"]*")?([^>]*)/>', path, text[start:end], count=1, flags=re.S
    )
    return text[:start] + group + text[end:]


def _rows(rows: np.ndarray) -> str:
    """Return rows as JSON: [first, count] if they follow each other, else all."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return json.dumps({"first": int(rows[0]), "count": len(rows)})
    return json.dumps(rows.tolist(), separators=(",", ":"))
