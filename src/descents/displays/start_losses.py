"""How far the starts are from the best one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from descents.displays.base import Display
from descents.errors import InvalidValueError
from descents.optim.runs import Runs
from descents.plots import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

ROUNDING = 1e-14
"""Losses that differ by less, relative to the largest, are the same."""


class StartsDisplay(Display):
    """The loss of each start minus the least one, by rank, on a logarithmic axis.

    Starts that reach the same minimum stand together. A step between them shows that
    there are several minima, or that some starts stopped early.

    Parameters
    ----------
    losses : ndarray of shape (S,)
        Starts without a finite loss are not drawn.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The starts that were drawn.
    ax_, figure_
        The axes and the figure.

    Examples
    --------
    >>> from descents import Factorization, StartsDisplay, descend
    >>> runs = descend(Factorization([[1.0, 0.0], [0.0, 2.0]], rank=1), starts=5)
    >>> display = StartsDisplay.from_runs(runs).plot()
    >>> len(display.line_.get_xdata())
    5
    """

    line_: Line2D

    def __init__(self, losses: np.ndarray) -> None:
        self.losses = np.asarray(losses, dtype=np.float64)

    @classmethod
    def from_runs(cls, runs: Runs) -> Self:
        """Return the display of some starts.

        Parameters
        ----------
        runs : Runs
            For example ``model.runs_``.

        Raises
        ------
        InvalidValueError
            If `runs` is not a `Runs`, or no start has a finite loss.
        """
        if not isinstance(runs, Runs):
            raise InvalidValueError(
                f"runs is a {type(runs).__name__}; give a Runs, such as model.runs_"
            )
        if not np.isfinite(runs.losses).any():
            raise InvalidValueError(
                "no start has a finite loss; lower the learning rate"
            )
        return cls(runs.losses)

    def plot(self, ax: Axes | None = None, **kwargs: object) -> Self:
        """Draw the starts.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **kwargs
            As `matplotlib.axes.Axes.plot` takes them.
        """
        finite = self.losses[np.isfinite(self.losses)]
        rounding = ROUNDING * float(np.abs(finite).max(initial=0.0))
        self.line_ = axes.start_gaps(self._axes(ax), self.losses, kwargs, rounding)
        return self
