"""How the best setting of a sweep compares with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from descents.displays.base import Display
from descents.errors import InvalidValueError
from descents.networks.estimator_base import StartsEstimator
from descents.networks.estimators import MLPStartsClassifier, MLPStartsRegressor
from descents.networks.sweep_result import SweepResult, judged
from descents.plots import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer


class ComparisonDisplay(Display):
    """Differences of the best setting from each other one, with simultaneous intervals.

    The probability that all intervals contain their differences is 95%. A setting whose
    interval contains zero cannot be distinguished from the best one.

    Parameters
    ----------
    best : str
        The name of the best setting.
    names : sequence of str
        The names of the others.
    difference, low, high : ndarray of shape (len(names),)
        The mean of the best setting minus that of the other one, and its interval.
    metric : str

    Attributes
    ----------
    errorbar_ : matplotlib ErrorbarContainer
    ax_, figure_
        The axes and the figure.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from descents import ComparisonDisplay, MLPStartsClassifier, sweep
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPStartsClassifier(4, n_starts=8, max_epochs=5, random_state=0)
    >>> study = sweep(model, {"learning_rate": [0.001, 0.1]}, X, y)
    >>> display = ComparisonDisplay.from_sweep(study).plot()
    >>> display.best, display.names
    ('learning_rate=0.1', ['learning_rate=0.001'])
    """

    errorbar_: ErrorbarContainer

    def __init__(
        self,
        best: str,
        names: Sequence[str],
        difference: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        metric: str,
    ) -> None:
        self.best, self.names, self.metric = best, list(names), metric
        self.difference, self.low, self.high = difference, low, high

    @classmethod
    def from_sweep(cls, study: SweepResult, metric: str | None = None) -> Self:
        """Return the display of a sweep.

        Parameters
        ----------
        study : SweepResult
        metric : str, optional
            As `SweepResult.values` takes it.

        Raises
        ------
        InvalidValueError
            If no two settings can be compared.
        """
        if not isinstance(study, SweepResult):
            raise InvalidValueError(
                f"study is a {type(study).__name__}; give the result of sweep"
            )
        compared = study.compared(metric)
        if not compared:
            raise InvalidValueError(
                "no setting shares a start with the best one; give several settings, with "
                "starts that do not fail"
            )
        each = [(one.difference, one.low, one.high) for _, one, _ in compared]
        difference, low, high = np.array(each, dtype=np.float64).T
        names = [study.names[place] for place, _, _ in compared]
        return cls(
            study.names[study.best],
            names,
            difference,
            low,
            high,
            metric or study.metric,
        )

    @classmethod
    def from_estimators(
        cls,
        models: Mapping[str, MLPStartsClassifier | MLPStartsRegressor],
        metric: str | None = None,
    ) -> Self:
        """Return the display of estimators that were fitted to the same rows.

        Parameters
        ----------
        models : mapping of fitted estimators
            Their names, and the estimators, with the same number of starts.
        metric : str, optional
            As `SweepResult.values` takes it.

        Raises
        ------
        InvalidValueError
            If they are not fitted estimators with the same number of starts.
        """
        fitted = list(models.values())
        if any(
            not isinstance(one, StartsEstimator) or not hasattr(one, "fitted_")
            for one in fitted
        ):
            raise InvalidValueError(
                "models holds something that is not a fitted MLPStartsClassifier or "
                "MLPStartsRegressor; give a dict of names and fitted estimators"
            )
        counts = {len(one.values()) for one in fitted}
        if len(fitted) < 2 or len(counts) > 1:
            raise InvalidValueError(
                f"models holds {len(fitted)} estimators, with {sorted(counts)} starts; "
                "give two or more with the same number of starts"
            )
        settings = [one.get_params(deep=False) for one in fitted]
        return cls.from_sweep(judged(settings, list(models), fitted, metric))

    def plot(self, ax: Axes | None = None, **kwargs: object) -> Self:
        """Draw the differences, with their intervals and a line at zero.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **kwargs
            As `matplotlib.axes.Axes.errorbar` takes them.
        """
        ax = self._axes(ax)
        drawn = (self.names, self.difference, self.low, self.high)
        self.errorbar_ = axes.differences(ax, *drawn, kwargs)
        name = self.metric.replace("_", " ")
        ax.set_xlabel(f"{name} of {axes.shown(self.best)}, minus that of the other")
        return self
