"""The components of a low-rank model, and how much each explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from descents.displays.base import Display
from descents.errors import InvalidValueError
from descents.lowrank.model import LowRank
from descents.plots import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


class ComponentsDisplay(Display):
    """The loadings of the columns on each component, and the importance of components.

    Parameters
    ----------
    components : ndarray of shape (n_components, coordinates)
        In the units of scaled columns.
    names : sequence of str
        The names of the coordinates.
    importance : ndarray of shape (n_components,)
        The share of each component in the sum of squares of the predictions, without
        offsets and in the units of scaled columns; shares sum to 1 if components are
        orthogonal.

    Attributes
    ----------
    image_ : matplotlib AxesImage
    ax_, figure_
        The axes and the figure.

    Examples
    --------
    >>> import numpy as np
    >>> from descents import ComponentsDisplay, LowRankModel
    >>> table = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 2.0])
    >>> model = LowRankModel(n_components=1, random_state=0).fit(table)
    >>> display = ComponentsDisplay.from_estimator(model).plot()
    >>> display.importance.round(3), display.image_.get_array().shape
    (array([1.]), (3, 1))
    """

    image_: AxesImage

    def __init__(
        self, components: np.ndarray, names: Sequence[str], importance: np.ndarray
    ) -> None:
        self.components, self.names = components, list(names)
        self.importance = importance

    @classmethod
    def from_estimator(cls, model: LowRank) -> Self:
        """Return the display of a fitted model.

        Parameters
        ----------
        model : LowRankModel

        Raises
        ------
        InvalidValueError
            If it is not a fitted `LowRankModel`.
        """
        if not isinstance(model, LowRank) or not hasattr(model, "fitted_"):
            raise InvalidValueError(
                f"model is a {type(model).__name__} that is not fitted, or has no "
                "components; give a fitted LowRankModel"
            )
        components = np.asarray(model.components_, dtype=np.float64)
        scores = np.asarray(model.embedding_, dtype=np.float64)
        if not model.fitted_.problem.constrained and model.fitted_.problem.has_offsets:
            scores = scores - scores.mean(0)
        sizes = np.square(scores).sum(0) * np.square(components).sum(1)
        total = np.square(scores @ components).sum()
        importance = sizes / total if total > 0 else np.zeros(len(sizes))
        return cls(components, model.fitted_.labels, importance)

    def plot(self, ax: Axes | None = None, **kwargs: object) -> Self:
        """Draw the loadings; the importance stands below the numbers of components.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **kwargs
            As `matplotlib.axes.Axes.imshow` takes them.
        """
        ax = self._axes(ax)
        self.image_ = axes.loadings(ax, self.components, self.names, kwargs)
        ax.set_xticks(
            range(len(self.components)),
            [f"{k + 1}\n{share:.0%}" for k, share in enumerate(self.importance)],
        )
        self.figure_.colorbar(self.image_, ax=ax, label="loading")
        return self
