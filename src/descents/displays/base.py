"""What all displays share: axes to draw on, and the attributes after drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descents.errors import InvalidValueError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Display:
    """Base class of displays.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    ax_: Axes
    figure_: Figure

    def _axes(self, ax: Axes | None) -> Axes:
        """Return the axes to draw on, new ones without any, and keep them."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(layout="constrained")
        figure = ax.get_figure(root=True) if hasattr(ax, "get_figure") else None
        if figure is None:
            raise InvalidValueError(
                f"ax is {ax!r}, which is not in a figure; give matplotlib axes, or None"
            )
        self.ax_, self.figure_ = ax, figure
        return ax
