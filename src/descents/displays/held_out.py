"""The held-out losses by which a rank or a penalty was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from descents.displays.base import Display
from descents.errors import InvalidValueError
from descents.lowrank.model import LowRank
from descents.lowrank.selection import Selection
from descents.plots import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer


class SelectionDisplay(Display):
    """The loss of held-out cells by rank, or by penalty, with standard errors.

    The loss of the best constants is 1.

    Parameters
    ----------
    selection : Selection
        Chosen by held-out cells. If several ranks and penalties were tried, each rank is
        drawn with its best penalty.

    Attributes
    ----------
    values : ndarray of shape (K,)
        The ranks; the penalties if only one rank was tried.
    mean, error : ndarray of shape (K,)
        The mean over the folds, and its standard error.
    errorbar_ : matplotlib ErrorbarContainer
    ax_, figure_
        The axes and the figure.

    Examples
    --------
    >>> from descents import LowRankModel, SelectionDisplay
    >>> from descents.tables.datasets import planted_table
    >>> table = planted_table(40, 8, 2, noise=0.1)[0]
    >>> model = LowRankModel("auto", random_state=0).fit(table)
    >>> display = SelectionDisplay.from_estimator(model).plot()
    >>> display.values[:3], model.n_components_
    (array([1., 2., 3.]), 2)
    """

    errorbar_: ErrorbarContainer

    def __init__(self, selection: Selection) -> None:
        if selection.how != "cells":
            raise InvalidValueError(
                "the rank was chosen by singular values, not by held-out cells; give "
                "n_components='auto' to choose it by held-out cells"
            )
        self.selection = selection
        mean = np.where(np.isfinite(selection.mean), selection.mean, np.inf)
        rank, penalty = selection.chosen
        self._by_rank = len(selection.ranks) > 1
        if self._by_rank:
            places = mean.argmin(1)
            places[rank] = penalty
            rows = np.arange(len(places))
            self.values = np.array(selection.ranks, dtype=np.float64)
            self.mean = selection.mean[rows, places]
            self.error = selection.error[rows, places]
            self.chosen = rank
        else:
            self.values = np.array(selection.penalties, dtype=np.float64)
            self.mean, self.error = selection.mean[0], selection.error[0]
            self.chosen = penalty

    @classmethod
    def from_estimator(cls, model: LowRank) -> Self:
        """Return the display of how a fitted model was chosen.

        Parameters
        ----------
        model : LowRankModel
            With ``n_components="auto"``, or with a penalty to choose.

        Raises
        ------
        InvalidValueError
            If nothing was chosen by held-out cells.
        """
        selection = getattr(model, "selection_", None)
        if not isinstance(selection, Selection):
            raise InvalidValueError(
                f"model is a {type(model).__name__} for which no rank and no penalty was "
                "chosen; give a LowRankModel that was fitted with n_components='auto' or "
                "penalty='auto'"
            )
        return cls(selection)

    def plot(self, ax: Axes | None = None, **kwargs: object) -> Self:
        """Draw the held-out losses, those of constants, and the choice.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **kwargs
            As `matplotlib.axes.Axes.errorbar` takes them.
        """
        from matplotlib.ticker import MaxNLocator

        ax = self._axes(ax)
        drawn = (self.values, self.mean, self.error, self.chosen)
        self.errorbar_ = axes.held_out_losses(ax, *drawn, kwargs)
        if self._by_rank:
            ax.set_xlabel("rank")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            ax.set(xscale="log", xlabel=self.selection.name)
        return self
