"""The marks of starts in a figure: drawn by matplotlib, selectable on a page.

A figure that shows every start draws them as one `StartMarks`. In a PNG or PDF it looks
like any other artist. On a page, `svg.inline` writes its marks as one path, with the row
of the table of starts that each mark belongs to, so that a script can draw a selection.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from descents.runs.curves import thinned


class StartMarks(PathPatch):
    """Points or curves of starts, as one path.

    Parameters
    ----------
    points : ndarray of shape (all points, 2)
        The points of all marks one after another, in data coordinates.
    lengths : ndarray of int
        The number of points of each mark; a mark of one point is drawn as a dot.
    rows : ndarray of int
        The row of the table of starts that each mark belongs to.
    color : str
    width : float
        The width of the line, or the diameter of the dots, in points.
    alpha : float
    """

    def __init__(
        self,
        points: np.ndarray,
        lengths: np.ndarray,
        rows: np.ndarray,
        color: str,
        width: float,
        alpha: float,
    ) -> None:
        self.points, self.lengths, self.rows = points, lengths, rows
        # A dot is a line of length 0 with a round cap, so its point is there twice.
        twice = np.repeat(lengths == 1, lengths)
        drawn = np.repeat(points, 1 + twice, axis=0)
        codes = np.full(len(drawn), Path.LINETO, dtype=np.uint8)
        codes[self.firsts(np.where(lengths == 1, 2, lengths))] = Path.MOVETO
        path = Path(drawn, codes)
        path.should_simplify = False
        super().__init__(
            path,
            facecolor="none",
            edgecolor=color,
            linewidth=width,
            capstyle="round",
            joinstyle="round",
            alpha=alpha,
        )

    @staticmethod
    def firsts(lengths: np.ndarray) -> np.ndarray:
        """Return the place of the first point of each mark."""
        return np.cumsum(lengths) - lengths

    def add_to(self, ax: Axes) -> None:
        """Add the marks to axes and enlarge their data limits."""
        self.set_in_layout(False)  # it lies within the axes, and measuring it is slow
        ax.add_artist(self)
        if len(self.points):
            ax.update_datalim(self.points)
            ax.autoscale_view()


def dots(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    color: str,
    size: float = 4.0,
    alpha: float = 0.5,
) -> StartMarks:
    """Draw a dot for each start whose coordinates are finite.

    Examples
    --------
    >>> from descents.pages.figures import new_figure
    >>> _, (ax,) = new_figure(3, 2)
    >>> dots(ax, np.array([1.0, np.nan]), np.ones(2), np.arange(2), "k").rows
    array([0])
    """
    place = np.column_stack([x, y]).astype(np.float64)
    shown = np.isfinite(place).all(1)
    lengths = np.ones(int(shown.sum()), dtype=np.int64)
    marks = StartMarks(
        place[shown], lengths, np.asarray(rows)[shown], color, size, alpha
    )
    marks.add_to(ax)
    return marks


def curves(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    color: str,
    alpha: float = 0.35,
) -> StartMarks:
    """Draw the columns of y over x as curves of at most 32 points."""
    picked = thinned(len(x))
    lines = np.stack([np.broadcast_to(x[:, None], y.shape), y], -1)[picked]
    lines = lines.transpose(1, 0, 2)
    finite = np.isfinite(lines).all(2)
    lengths = finite.sum(1)
    marks = StartMarks(
        lines[finite],
        lengths[lengths > 0],
        np.asarray(rows)[lengths > 0],
        color,
        0.7,
        alpha,
    )
    marks.add_to(ax)
    return marks
