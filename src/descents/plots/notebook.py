"""What a notebook shows of a result: a sentence, a small picture and five rows."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from descents.plots.axes import STYLE
from descents.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = Sequence[object] | np.ndarray
"""A column of a table."""
ROWS = 5
"""The number of rows of a table that are shown."""
_CELL = "text-align:right;padding:.15em .6em"


def block(
    sentence: str,
    columns: Mapping[str, Values],
    draw: Callable[[Axes], object] | None = None,
    *,
    rows: int | None = None,
    note: str = "",
) -> str:
    """Return HTML of a sentence, a picture and the first rows of a table.

    All texts are escaped, because names of columns and levels come from the user's data.

    Parameters
    ----------
    sentence : str
    columns : mapping of sequences
        The columns of the table; the first one names the rows.
    draw : callable, optional
        Draws the picture on the axes that it gets.
    rows : int, optional
        How many rows the table has, if `columns` has only some of them.
    note : str
        A remark below the table.

    Examples
    --------
    >>> "&lt;b&gt;" in block("Two starts.", {"start": ["<b>"], "loss": [0.5]})
    True
    """
    below = f"<p>{escaped(note)}</p>" if note else ""
    picture = "" if draw is None else image(draw, sentence)
    return (
        '<div class="descents">'
        f"<p>{escaped(sentence)}</p>{picture}{table(columns, rows)}{below}</div>"
    )


def escaped(value: object) -> str:
    """Return a value as text for HTML, with control characters made visible."""
    return html.escape(visible(str(value)))


def image(draw: Callable[[Axes], object], says: str) -> str:
    """Return a picture as an HTML image.

    It is a link to data, in which no text of the user can become a part of the page.

    Parameters
    ----------
    draw : callable
    says : str
        The alternative text.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with mpl.rc_context(rc=dict(STYLE)):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.2, 2.4), layout="constrained")
        draw(figure.add_subplot())
        print_svg: Callable[..., object] = FigureCanvasSVG(figure).print_svg
        print_svg(buffer, metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img alt="{escaped(says)}" style="background:#fff;max-width:100%" '
        f'src="data:image/svg+xml;base64,{data}">'
    )


def table(columns: Mapping[str, Values], rows: int | None = None) -> str:
    """Return the first rows of a table as HTML, and how many rows it has."""
    count = max((len(values) for values in columns.values()), default=0)
    if not count:
        return ""
    names = "".join(f'<th style="{_CELL}">{escaped(name)}</th>' for name in columns)
    lines = []
    for place in range(min(count, ROWS)):
        cells = [text_of(values[place]) for values in columns.values()]
        lines.append("".join(f'<td style="{_CELL}">{escaped(x)}</td>' for x in cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    whole = count if rows is None else rows
    more = f"<p>{len(lines)} of {whole} rows</p>" if whole > len(lines) else ""
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>{more}"


def text_of(value: object) -> str:
    """Return a value of a table as text: numbers with four digits, "-" for none.

    Examples
    --------
    >>> text_of(0.123456), text_of(7), text_of(float("nan")), text_of(None), text_of("a")
    ('0.1235', '7', '-', '-', 'a')
    """
    if value is None:
        return "-"
    if isinstance(value, float | np.floating):
        return "-" if math.isnan(value) else f"{float(value):.4g}"
    return str(value)
