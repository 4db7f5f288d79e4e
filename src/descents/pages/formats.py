"""A figure as the content of a file."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from descents.pages import figures
from descents.text import visible


def as_file(figure: Figure, form: str) -> bytes:
    """Return a figure as the bytes of a PNG, SVG or PDF file.

    Examples
    --------
    >>> figure, _ = figures.new_figure(2, 1)
    >>> as_file(figure, "pdf")[:5]
    b'%PDF-'
    """
    # The canvases are used directly, because `Figure.savefig` draws everything twice.
    buffer = io.BytesIO()
    write: Callable[..., None]
    # What writes PNG and PDF loads slowly, and pages need neither.
    if form == "png":
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        write, date = FigureCanvasAgg(figure).print_png, {"Software": None}
    elif form == "svg":
        write, date = FigureCanvasSVG(figure).print_svg, {"Date": None}
    else:
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        write, date = FigureCanvasPdf(figure).print_pdf, {"CreationDate": None}
    with figures.style():
        figure.set_dpi(mpl.rcParams["savefig.dpi"])
        write(buffer, metadata=date)
    content = buffer.getvalue()
    # The name of a column may contain control characters, which XML forbids.
    return visible(content.decode()).encode() if form == "svg" else content
