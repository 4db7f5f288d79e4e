"""The starts of several settings, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from descents.errors import InvalidValueError
from descents.networks.cautions import hopeless, many_failed
from descents.networks.estimator_base import StartsEstimator
from descents.networks.estimators import MLPStartsClassifier, MLPStartsRegressor
from descents.networks.fitted import generator
from descents.networks.shown import block_of_settings
from descents.statistics import differences, effects, factorial
from descents.statistics import summaries as statistics
from descents.statistics.metrics import higher_is_better, metric_kind
from descents.statistics.simultaneous import simultaneous_differences
from descents.tables.data_frames import data_frame
from descents.text import counted

if TYPE_CHECKING:
    import pandas as pd

FLOORS = {
    "accuracy": 0.0,
    "balanced_accuracy": 0.0,
    "f1": 0.0,
    "roc_auc": 0.0,
    "r2": 0.0,
}
"""The most that a failed start counts in the ranking, for metrics where more is better."""


@dataclass(frozen=True)
class SweepResult:
    """The starts of several settings, and their comparison.

    Attributes
    ----------
    settings : tuple of dict
        The parameters of each setting.
    names : tuple of str
        A short unique name of each setting, made of the parameters that vary.
    models : tuple of MLPStartsClassifier or MLPStartsRegressor
        The fitted estimator of each setting. An estimator all of whose starts failed has
        `runs_`, but cannot predict.
    metric : str
        The default metric of the comparison.
    """

    settings: tuple[dict[str, object], ...]
    names: tuple[str, ...]
    models: tuple[MLPStartsClassifier | MLPStartsRegressor, ...]
    metric: str

    def __repr__(self) -> str:
        """Return how many settings there are, and the best one."""
        starts = counted(len(self.models[0].runs_) // self.models[0].splits_, "start")
        return (
            f"SweepResult({counted(len(self.names), 'setting')} of {starts}, best "
            f"{self.names[self.best]!r} by {self.metric})"
        )

    def _repr_html_(self) -> str:
        """Return a sentence, a picture and the five best settings, for a notebook."""
        fits = [model.fitted_ for model in self.models]
        return block_of_settings(
            fits,
            self.names,
            self.metric,
            self.ranked,
            self.summaries(),
            self.compared(),
        )

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values of `metric` are better."""
        return higher_is_better(self.metric)

    def values(self, metric: str | None = None) -> np.ndarray:
        """Return a metric of every start in every setting, NaN if it failed.

        The values are means over the splits on which the metric is defined, of shape
        (settings, n_starts). If no split defines it, all are NaN.
        """
        metric = self.metric if metric is None else metric
        return np.stack([model.values(metric) for model in self.models])

    def failed(self, metric: str | None = None) -> np.ndarray:
        """Return which starts failed, bool of shape (settings, n_starts)."""
        metric = self.metric if metric is None else metric
        return np.stack([model.failed(metric) for model in self.models])

    def counted_values(self, metric: str | None = None) -> np.ndarray:
        """Return `values` with each failed start counted as the worst.

        A failed start gets the worst value of any start of any setting, but no better one
        than this limit: 0 for R^2, accuracy and similar scores, and for a loss the loss
        of the best constant answer.

        Returns
        -------
        ndarray of shape (settings, n_starts)
            NaN only where the metric is not defined.
        """
        metric = self.metric if metric is None else metric
        values, failed = self.values(metric), self.failed(metric)
        finite = values[np.isfinite(values)]
        if not len(finite):
            return values
        if higher_is_better(metric):
            floor = FLOORS.get(metric_kind(metric), np.inf)
            worst = min(float(finite.min()), floor)
        else:
            constant = (constant_loss(model, metric) for model in self.models)
            worst = max(float(finite.max()), *constant)
        return np.where(failed, worst, values)

    @property
    def ranked(self) -> list[int]:
        """The indices of the settings, from best to worst.

        Settings are ranked by the mean of `counted_values` over all starts, in which a
        failed start counts as the worst. A setting in which more than half of the starts
        failed comes after all others, and one in which all failed comes last. Ties keep
        the order of the settings. If the metric is not defined for any start, the loss on
        held-out rows is used, or the training loss if no rows are held out.
        """
        metric = self.metric
        if not np.isfinite(self.values()).any():
            metric = loss_of(self.models[0])
        values, lost = self.counted_values(metric), self.failed(metric).mean(1)
        sign = -1 if higher_is_better(metric) else 1
        undefined = np.isnan(values).all(1)
        means = np.full(len(values), np.inf)
        means[~undefined] = sign * np.nanmean(values[~undefined], axis=1)
        rank = (lost > 0.5).astype(int) + (lost == 1)
        return [int(place) for place in np.lexsort((means, rank))]

    @property
    def best(self) -> int:
        """The index of the best setting, the first of `ranked`."""
        return self.ranked[0]

    @property
    def best_model(self) -> MLPStartsClassifier | MLPStartsRegressor:
        """The fitted estimator of the best setting."""
        return self.models[self.best]

    def summaries(
        self, metric: str | None = None, confidence: float = 0.95
    ) -> list[statistics.Summary | None]:
        """Return counts, mean with interval, and quartiles of a metric in each setting.

        The statistics are computed from ``count`` starts; ``failed`` starts failed. The
        entry is None if no start of the setting has a value, because all failed or the
        metric is not defined.
        """
        summaries = [
            statistics.summary_of_starts(row, lost, generator(), confidence)
            for row, lost in zip(self.values(metric), self.failed(metric), strict=True)
        ]
        return [summary if summary.count else None for summary in summaries]

    def warnings(self) -> list[str]:
        """Return a warning for each setting in which more than a tenth of starts failed."""
        sentences = [
            many_failed(lost, f"of the setting {name} ", model.problem_)
            for name, lost, model in zip(
                self.names, self.failed(), self.models, strict=True
            )
        ]
        return [sentence for sentence in sentences if sentence]

    def compared(
        self, metric: str | None = None
    ) -> list[tuple[int, differences.Comparison, float]]:
        """Compare the best setting with each other setting, start by start.

        The best setting is `best`, which uses the study's own metric. It is chosen by the
        values that are compared. Therefore the intervals of the differences are
        simultaneous over all pairs of settings (see `simultaneous_differences`): the
        probability that all of them cover is 95%. With fewer than eight starts they cover
        less often, about 92% if the spreads of settings differ.

        Parameters
        ----------
        metric : str, optional
            As for `values`. The direction of this metric is used.

        Returns
        -------
        list of (int, Comparison, float)
            The index of the other setting, from second best to worst; the comparison; and
            the p-value adjusted for all pairs of settings. The difference, with its
            simultaneous interval, and the permutation test are over the starts that
            failed in neither setting. The probability of improvement is of this pair
            alone, and a failed start counts as the worse one. Settings that share no
            successful start with the best are left out.
        """
        metric = self.metric if metric is None else metric
        values, failed = self.values(metric), self.failed(metric)
        best, *others = self.ranked
        intervals = simultaneous_differences(values, generator=generator())
        comparisons = []
        for other in others:
            if not intervals.count[best, other]:
                continue
            comparison = compared_starts(
                values[best],
                values[other],
                paired=True,
                higher_is_better=higher_is_better(metric),
                failed=(failed[best], failed[other]),
            )
            low, high = (side[best, other] for side in (intervals.low, intervals.high))
            comparison = replace(comparison, low=float(low), high=float(high))
            adjusted = np.fmax(intervals.p_value[best, other], comparison.p_value)
            comparisons.append((other, comparison, float(adjusted)))
        return comparisons

    def effects(self, metric: str | None = None) -> list[effects.Effect]:
        """Estimate which parameters of the grid matter, with intervals.

        It applies `main_effects` to the starts that failed in no setting.

        Returns
        -------
        list of Effect
            The parameter with the largest share of the variance first; empty if the grid
            varies nothing.

        Raises
        ------
        InvalidValueError
            If fewer than two starts succeeded in all settings, the metric is not defined,
            or the settings are not a full grid.
        """
        values, settings = self._complete(metric)
        return effects.main_effects(values, settings, generator=generator())

    def sources(self, metric: str | None = None) -> list[factorial.Source]:
        """Split the variance among the options, their interactions and the starts.

        It applies `variance_sources` to the starts that failed in no setting.

        Raises
        ------
        InvalidValueError
            As `effects`.
        """
        values, settings = self._complete(metric)
        return factorial.variance_sources(values, settings, generator=generator())

    def _complete(
        self, metric: str | None
    ) -> tuple[np.ndarray, tuple[Mapping[str, object], ...]]:
        """Return the values of the starts that failed in no setting, and the settings."""
        metric = self.metric if metric is None else metric
        values = self.values(metric)
        complete = np.isfinite(values).all(0)
        if len(complete) < 2:
            raise InvalidValueError(
                "one start was trained in each setting, and two are needed to separate the "
                "effect of a setting from that of the start; give more starts"
            )
        if not np.isfinite(values).any():
            raise InvalidValueError(
                f"{metric} is not defined for any start; give another metric, such as "
                f"{loss_of(self.models[0])}"
            )
        if complete.sum() < 2:
            failed = [
                name
                for name, row in zip(self.names, values, strict=True)
                if np.isfinite(row).sum() < 2
            ]
            which = f" (in {', '.join(failed)} nearly all failed)" if failed else ""
            raise InvalidValueError(
                f"{complete.sum()} of {values.shape[1]} starts have a value in all settings"
                f"{which}, and two are needed; leave out settings that fail, or give "
                "more starts"
            )
        return values[:, complete], self.settings

    def table(self) -> pd.DataFrame | dict[str, np.ndarray]:
        """Return the results as a data frame, with a row for each setting, start and split.

        Returns
        -------
        DataFrame
            If pandas is not installed, a dict of ndarray. Its columns are ``setting``, the
            name of the setting, and those that the tables of all models share.
        """
        return data_frame(self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of `table` as arrays."""
        tables = [model.fitted_.columns() for model in self.models]
        shared = [n for n in tables[0] if all(n in table for table in tables)]
        sizes = [len(table["start"]) for table in tables]
        return {
            "setting": np.repeat(self.names, sizes),
            **{n: np.concatenate([table[n] for table in tables]) for n in shared},
        }


def judged(
    settings: Sequence[Mapping[str, object]],
    names: Sequence[str],
    models: Sequence[MLPStartsClassifier | MLPStartsRegressor],
    metric: str | None = None,
) -> SweepResult:
    """Return the study of models whose starts were trained.

    If no metric is given and the score is not defined for any start, settings are
    compared by the loss on held-out rows, or by the training loss if no rows are held
    out.

    Raises
    ------
    InvalidValueError
        If every start of every model failed.
    """
    if not any(model.fitted_.usable for model in models):
        first, problem = models[0].fitted_.settings, models[0].problem_
        raise InvalidValueError(hopeless(first.optimizer, first.learning_rate, problem))
    if metric is None:
        metric = models[0].metric_
        defined = any(np.isfinite(model.values(metric)).any() for model in models)
        metric = metric if defined else loss_of(models[0])
    return SweepResult(
        tuple(dict(s) for s in settings), tuple(names), tuple(models), metric
    )


def loss_of(model: StartsEstimator) -> str:
    """Return the loss that ranks settings if the metric is not defined."""
    names = model.metric_names()
    return "validation_loss" if "validation_loss" in names else "loss"


def constant_loss(model: StartsEstimator, metric: str) -> float:
    """Return the loss of the best constant answer to all rows; 0 for other metrics.

    Rows are weighted, and in the loss their classes too.
    """
    problem, kind = getattr(model, "problem_", None), metric_kind(metric)
    if problem is None or kind not in ("loss", "log_loss"):
        return 0.0
    weights = problem.loss_weights if kind == "loss" else problem.row_weights
    weights = np.ones(len(problem.y)) if weights is None else weights
    if problem.classifies:
        shares = np.bincount(problem.y, weights) / weights.sum()
        return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    center = np.average(problem.y, axis=0, weights=weights)
    return float(np.average((problem.y - center) ** 2, axis=0, weights=weights).mean())


def compared_starts(
    first: np.ndarray,
    second: np.ndarray,
    *,
    paired: bool,
    higher_is_better: bool,
    failed: tuple[np.ndarray, np.ndarray] | None = None,
) -> differences.Comparison:
    """Compare a metric of two sets of starts, some of which may have failed.

    The difference and the test use the starts that have a value, if paired in both sets.
    The probability of improvement counts a failed start as worse than any other.

    Parameters
    ----------
    first : ndarray of shape (A,)
        NaN for starts without a value.
    second : ndarray of shape (B,)
    paired : bool
    higher_is_better : bool
    failed : pair of bool ndarray, optional
        Which starts of each set failed; by default those without a value.

    Returns
    -------
    Comparison
        Every number is NaN if no start can be compared.

    Examples
    --------
    >>> first, second = np.array([0.9, 0.8, np.nan]), np.array([0.7, np.nan, 0.6])
    >>> result = compared_starts(first, second, paired=True, higher_is_better=True)
    >>> result.first_count, result.second_failed
    (1, 1)
    >>> round(result.probability_of_improvement, 3)
    0.667
    """
    in_first, in_second = np.isfinite(first), np.isfinite(second)
    lost = (~in_first, ~in_second) if failed is None else failed
    if paired:
        in_first = in_second = in_first & in_second
    if not (in_first.any() and in_second.any()):
        return replace(
            differences.Comparison.of_none(paired),
            first_failed=int(lost[0].sum()),
            second_failed=int(lost[1].sum()),
        )
    comparison = differences.compared(
        first[in_first],
        second[in_second],
        paired=paired,
        generator=generator(),
        higher_is_better=higher_is_better,
    )
    sign = 1.0 if higher_is_better else -1.0
    sides = [
        np.where(gone, -np.inf, sign * side)
        for side, gone in zip((first, second), lost, strict=True)
    ]
    counts = [~np.isnan(side) for side in sides]
    if paired:
        counts = [counts[0] & counts[1]] * 2
    share, low, high = differences.improvement(
        sides[0][counts[0]], sides[1][counts[1]], paired
    )
    return replace(
        comparison,
        probability_of_improvement=share,
        improvement_low=low,
        improvement_high=high,
        first_failed=int(lost[0].sum()),
        second_failed=int(lost[1].sum()),
    )
