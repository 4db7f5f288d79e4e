"""Settings of a network compared over shared starts: `sweep` and what it finds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid

from descents.answers import differences, effects, statistics
from descents.answers.effects import same_value
from descents.answers.simultaneous import simultaneous_differences
from descents.checks import (
    Complaints,
    InterruptedRunError,
    InvalidValueError,
    one_of,
)
from descents.estimators.intake import seed_of
from descents.estimators.networks import (
    SHARED,
    MLPStartsClassifier,
    MLPStartsRegressor,
    cautions,
    fit_together,
)
from descents.estimators.training import hopeless, many_failed
from descents.problems.metrics import higher_is_better, metric_kind

FIXED = {
    "n_starts": "settings are compared start by start, so all have the same number",
    "random_state": "settings are compared start by start, so all have the same seed",
    "combine": "it says how a fitted model predicts, and changes no start",
    "device": "all settings are trained on the same device",
    "validation": "settings are compared on the same held-out rows",
}
"""In what settings cannot differ, and why."""


FLOORS = {
    "accuracy": 0.0,
    "balanced_accuracy": 0.0,
    "f1": 0.0,
    "roc_auc": 0.0,
    "r2": 0.0,
}
"""What a failed start counts at most in the ranking, for metrics where more is better."""


@dataclass(frozen=True)
class Study:
    """What the starts of several settings tell.

    Attributes
    ----------
    settings : tuple of dict
        What each setting has of each parameter of the grid.
    names : tuple of str
        Each setting in a few words: what tells it from the others. No two are equal.
    models : tuple of MLPStartsClassifier or MLPStartsRegressor
        The estimator of each setting, fitted; one all of whose starts failed has
        `runs_`, but predicts nothing.
    metric : str
        What settings are judged by where nothing else is asked for.
    """

    settings: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    models: tuple[Any, ...]
    metric: str

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values of `metric` are better."""
        return higher_is_better(self.metric)

    def values(self, metric: str | None = None) -> np.ndarray:
        """Return a metric of every start in every setting, NaN where it failed.

        The mean over the splits on which the metric is defined, shape
        (settings, n_starts); NaN for all where no split defines it.
        """
        metric = self.metric if metric is None else metric
        return np.stack([model.values(metric) for model in self.models])

    def failed(self, metric: str | None = None) -> np.ndarray:
        """Return which starts failed, bool of shape (settings, n_starts)."""
        metric = self.metric if metric is None else metric
        return np.stack([model.failed(metric) for model in self.models])

    def counted_values(self, metric: str | None = None) -> np.ndarray:
        """Return `values` with each failed start counted as the worst.

        It gets the worst value that any start of any setting has, and no more than an
        answer that takes nothing from the features: 0 of accuracy and the like and of
        R^2, and of a loss that of the best constant answer.

        Returns
        -------
        ndarray of shape (settings, n_starts)
            NaN only where the metric is not defined.
        """
        metric = self.metric if metric is None else metric
        values, failed = self.values(metric), self.failed(metric)
        known = values[np.isfinite(values)]
        if not len(known):
            return values
        if higher_is_better(metric):
            floor = FLOORS.get(metric_kind(metric), np.inf)
            worst = min(float(known.min()), floor)
        else:
            constant = (constant_loss(model, metric) for model in self.models)
            worst = max(float(known.max()), *constant)
        return np.where(failed, worst, values)

    @property
    def ranked(self) -> list[int]:
        """The numbers of the settings from the best on.

        By the mean over all starts, where a failed one counts as the worst, as
        `counted_values` has it. A setting in which more than half of the starts failed
        comes after all others, and one in which all failed comes last. Of equal
        settings, the first is first. Where the metric is not defined for any start, the
        loss on held-out rows ranks, or without such the training loss.
        """
        metric = self.metric
        if not np.isfinite(self.values()).any():
            metric = _loss_of(self.models[0])
        values, lost = self.counted_values(metric), self.failed(metric).mean(1)
        sign = -1 if higher_is_better(metric) else 1
        undefined = np.isnan(values).all(1)
        means = np.full(len(values), np.inf)
        means[~undefined] = sign * np.nanmean(values[~undefined], axis=1)
        rank = (lost > 0.5).astype(int) + (lost == 1)
        return [int(place) for place in np.lexsort((means, rank))]

    @property
    def best(self) -> int:
        """The number of the best setting, the first of `ranked`."""
        return self.ranked[0]

    @property
    def best_model(self) -> Any:
        """The fitted estimator of the best setting."""
        return self.models[self.best]

    def summaries(
        self, metric: str | None = None, confidence: float = 0.95
    ) -> list[statistics.Summary | None]:
        """Return counts, mean with interval, and quartiles of a metric in each setting.

        ``count`` is of the starts that the numbers are of, ``failed`` of those that
        failed. None for a setting without a start that has a value: all failed, or the
        metric is not defined.
        """
        found = [
            statistics.summary_of_starts(row, lost, generator(), confidence)
            for row, lost in zip(self.values(metric), self.failed(metric), strict=True)
        ]
        return [one if one.count else None for one in found]

    def warnings(self) -> list[str]:
        """Return a sentence for each setting in which many starts failed.

        Those where more than a tenth failed.
        """
        found = [
            many_failed(lost, f"of the setting {name} ")
            for name, lost in zip(self.names, self.failed(), strict=True)
        ]
        return [sentence for sentence in found if sentence]

    def compared(
        self, metric: str | None = None
    ) -> list[tuple[int, differences.Comparison, float]]:
        """Compare the best setting with each other one, start by start.

        The best setting is that of the study's own metric, `best`. It is chosen by the
        values that are compared, so the intervals of the differences hold together for
        all pairs of settings, see `simultaneous_differences`: the probability that all
        of them cover is 95%.

        Parameters
        ----------
        metric : str, optional
            As `values` takes it; its own direction says what is better.

        Returns
        -------
        list of (int, Comparison, float)
            The number of the other setting, from the next best on. With fewer than eight
            starts the intervals cover less often than 95%, about 92% where the spreads of
            settings differ. The difference with
            its simultaneous interval, and the permutation test, over the starts that
            failed in neither. The probability of improvement of this pair alone, in
            which a failed start loses. The p-value adjusted for all pairs of settings.
            Settings without a start in common with the best are left out.
        """
        metric = self.metric if metric is None else metric
        values, failed = self.values(metric), self.failed(metric)
        best, *others = self.ranked
        together = simultaneous_differences(values, generator=generator())
        found = []
        for other in others:
            if not together.count[best, other]:
                continue
            one = compared_starts(
                values[best],
                values[other],
                paired=True,
                higher_is_better=higher_is_better(metric),
                failed=(failed[best], failed[other]),
            )
            low, high = (side[best, other] for side in (together.low, together.high))
            one = replace(one, low=float(low), high=float(high))
            adjusted = np.fmax(together.p_value[best, other], one.p_value)
            found.append((other, one, float(adjusted)))
        return found

    def effects(self, metric: str | None = None) -> list[effects.Effect]:
        """Say which parameters of the grid matter, with intervals.

        Over the starts that failed in no setting, as `main_effects` says it.

        Returns
        -------
        list of Effect
            The parameter with the largest share of the variance first; none where the
            grid varies nothing.

        Raises
        ------
        InvalidValueError
            When fewer than two starts ended well in all settings, the metric is not
            defined, or the settings are no full grid.
        """
        metric = self.metric if metric is None else metric
        values = self.values(metric)
        kept = np.isfinite(values).all(0)
        if len(kept) < 2:
            raise InvalidValueError(
                "one start was trained in each setting, and two are needed to tell what a "
                "setting does from what the start does; give more starts"
            )
        if not np.isfinite(values).any():
            raise InvalidValueError(
                f"{metric} is not defined for any start; give another metric, such as "
                f"{_loss_of(self.models[0])}"
            )
        if kept.sum() < 2:
            failed = [
                name
                for name, row in zip(self.names, values, strict=True)
                if np.isfinite(row).sum() < 2
            ]
            which = f" (in {', '.join(failed)} nearly all failed)" if failed else ""
            raise InvalidValueError(
                f"{kept.sum()} of {values.shape[1]} starts ended well in all settings"
                f"{which}, and two are needed; leave out settings that fail, or give "
                "more starts"
            )
        return effects.main_effects(
            values[:, kept], self.settings, generator=generator()
        )

    def table(self) -> dict[str, np.ndarray]:
        """Return a column for each fact, a row for each setting, start and split.

        Returns
        -------
        dict of ndarray
            What `pandas.DataFrame` takes: ``setting``, its name; then the columns that
            the tables of all models have.
        """
        tables = [model.table() for model in self.models]
        shared = [n for n in tables[0] if all(n in table for table in tables)]
        sizes = [len(table["start"]) for table in tables]
        return {
            "setting": np.repeat(self.names, sizes),
            **{n: np.concatenate([table[n] for table in tables]) for n in shared},
        }


def sweep(
    estimator: MLPStartsClassifier | MLPStartsRegressor,
    grid: Any,
    X: Any,
    y: Any,
    *,
    metric: str | None = None,
    sample_weight: Any = None,
) -> Study:
    """Train the starts of an estimator in every setting of a grid, and compare.

    Every setting sees the same initial random numbers, orders of rows and divisions:
    start k of one is compared with start k of the other. Settings that differ in
    initialization, learning rate, weight decay or dropout alone share a batch where
    one of them would not fill it.

    Parameters
    ----------
    estimator : MLPStartsClassifier or MLPStartsRegressor
        It is not changed; its `n_starts` are those of each setting.
    grid : dict of lists, or list of such
        The values of each parameter, as `sklearn.model_selection.ParameterGrid` takes
        them: every combination is run.
    X, y, sample_weight
        As `fit` takes them.
    metric : str, optional
        A column of `Study.table`; by default the score on held-out rows, or without
        such the training score.

    Returns
    -------
    Study

    Raises
    ------
    InvalidValueError
        When the grid names what is no parameter, or what settings share; when a value
        cannot be used; when every start of every setting failed.
    InterruptedRunError
        At Ctrl-C.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from descents import MLPStartsClassifier, sweep
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPStartsClassifier(n_starts=10, max_epochs=50, random_state=0)
    >>> study = sweep(model, {"initialization": ["kaiming", "zero"]}, X, y)
    >>> study.names[study.best]
    'initialization=kaiming'
    >>> effect, = study.effects()
    >>> effect.parameter, effect.p_adjusted < 0.01
    ('initialization', True)
    """
    settings = _settings(estimator, grid)
    names = named(settings)
    seed = seed_of(estimator.random_state)
    models = [
        clone(estimator).set_params(**setting, random_state=seed)
        for setting in settings
    ]
    if metric is not None:
        shared = [set(model.metric_names()) for model in models]
        known = [n for n in models[0].metric_names() if all(n in s for s in shared)]
        one_of("metric", metric, known)
    train_all(models, X, y, sample_weight)
    study = judged(settings, names, models, metric)
    for sentence in study.warnings():
        warnings.warn(sentence, ConvergenceWarning, stacklevel=2)
    for line in cautions(models):
        warnings.warn(line, UserWarning, stacklevel=2)
    return study


def train_all(models: Sequence[Any], X: Any, y: Any, sample_weight: Any = None) -> None:
    """Train the starts of some estimators, those in one batch that can be.

    Raises
    ------
    InvalidValueError
        When a parameter of one, or the data, cannot be used.
    InterruptedRunError
        When time ended, or the user interrupted.
    """
    for group in batched(models):
        fit_together([models[k] for k in group], X, y, sample_weight)
        if any(models[k].runs_.interrupted for k in group):
            raise InterruptedRunError("interrupted before its end")


def judged(
    settings: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    models: Sequence[Any],
    metric: str | None = None,
) -> Study:
    """Return the study of some models whose starts were trained.

    Where no metric is given and the score is not defined for any start, settings are
    judged by the loss on held-out rows, or without such by the training loss.

    Raises
    ------
    InvalidValueError
        When all starts of all failed.
    """
    well = [bool(np.isfinite(model.runs_.losses).any()) for model in models]
    if not any(well):
        worst = models[0]
        raise InvalidValueError(hopeless(worst.optimizer, worst.learning_rate))
    for model, good in zip(models, well, strict=True):
        if good:
            model._keep()
    if metric is None:
        metric = models[0].metric_
        defined = any(np.isfinite(model.values(metric)).any() for model in models)
        metric = metric if defined else _loss_of(models[0])
    return Study(tuple(dict(s) for s in settings), tuple(names), tuple(models), metric)


def _loss_of(model: Any) -> str:
    """Return the loss that ranks where the metric is not defined."""
    names = model.metric_names()
    return "validation_loss" if "validation_loss" in names else "loss"


def constant_loss(model: Any, metric: str) -> float:
    """Return the loss of the best constant answer to all rows; 0 of other metrics.

    Rows have their weights, and in the loss also those of their classes.
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
    """Compare a metric of two sets of starts, of which some failed.

    The difference and the test are over the starts that have a value, if paired in both
    sets. The probability of improvement counts a failed start as worse than any other.

    Parameters
    ----------
    first : ndarray of shape (A,)
        NaN where a start has no value.
    second : ndarray of shape (B,)
    paired : bool
    higher_is_better : bool
    failed : pair of bool ndarray, optional
        Which starts of each failed; by default those without a value.

    Returns
    -------
    Comparison
        Every number is NaN where no start can be compared.

    Examples
    --------
    >>> first, second = np.array([0.9, 0.8, np.nan]), np.array([0.7, np.nan, 0.6])
    >>> found = compared_starts(first, second, paired=True, higher_is_better=True)
    >>> found.first_count, found.second_failed, round(found.probability_of_improvement, 3)
    (1, 1, 0.667)
    """
    kept, matched = np.isfinite(first), np.isfinite(second)
    lost = (~kept, ~matched) if failed is None else failed
    if paired:
        kept = matched = kept & matched
    if not (kept.any() and matched.any()):
        return replace(
            differences.Comparison.of_none(paired),
            first_failed=int(lost[0].sum()),
            second_failed=int(lost[1].sum()),
        )
    found = differences.compared(
        first[kept],
        second[matched],
        paired=paired,
        generator=generator(),
        higher_is_better=higher_is_better,
    )
    sign = 1.0 if higher_is_better else -1.0
    sides = [
        np.where(gone, -np.inf, sign * side)
        for side, gone in zip((first, second), lost, strict=True)
    ]
    counted = [~np.isnan(side) for side in sides]
    if paired:
        counted = [counted[0] & counted[1]] * 2
    share, low, high = differences.improvement(
        sides[0][counted[0]], sides[1][counted[1]], paired
    )
    return replace(
        found,
        probability_of_improvement=share,
        improvement_low=low,
        improvement_high=high,
        first_failed=int(lost[0].sum()),
        second_failed=int(lost[1].sum()),
    )


def batched(models: Sequence[Any]) -> list[list[int]]:
    """Return which models can be trained in one batch, as groups of their numbers.

    Those that differ in `SHARED` alone.

    Examples
    --------
    >>> from descents import MLPStartsClassifier as Model
    >>> models = [Model(learning_rate=r, optimizer=o) for r in (1, 2) for o in ("gd", "adam")]
    >>> batched(models)
    [[0, 2], [1, 3]]
    """
    groups: dict[str, list[int]] = {}
    for place, model in enumerate(models):
        rest = {n: v for n, v in model.get_params().items() if n not in SHARED}
        if model.optimizer == "adamw":  # whose decay is the rule's, one for all
            rest["weight_decay"] = model.weight_decay
        if np.ndim(model.dropout) == 0:
            rest["drops"] = bool(model.dropout)
        groups.setdefault(repr(sorted(rest.items())), []).append(place)
    return list(groups.values())


def named(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return each setting in a few words: what tells it from the others.

    No two names are equal.

    Examples
    --------
    >>> named([{"optimizer": "gd", "dropout": 0}, {"optimizer": "adam", "dropout": 0}])
    ('optimizer=gd', 'optimizer=adam')
    """
    every = {name: value for setting in settings for name, value in setting.items()}
    varied = [
        n for n in every if any(not same_value(s.get(n), every[n]) for s in settings)
    ]
    words = [
        ", ".join(
            f"{n}={word_of(v)}" for n, v in setting.items() if n in (varied or every)
        )
        or "as given"
        for setting in settings
    ]
    return _told_apart(words)


def _told_apart(words: Sequence[str]) -> tuple[str, ...]:
    """Return names of which no two are equal: the second of a kind gets a number."""
    found: list[str] = []
    for word in words:
        name, number = word, 1
        while name in found:
            number += 1
            name = f"{word} ({number})"
        found.append(name)
    return tuple(found)


def word_of(value: Any) -> str:
    """Return a value of a parameter in a word; a number to its last digit.

    Examples
    --------
    >>> word_of(0.01), word_of(1e-5), word_of(0.01000001), word_of(np.int64(3))
    ('0.01', '1e-05', '0.01000001', '3')
    """
    if isinstance(value, np.floating):
        value = float(str(value)) if value.dtype.itemsize < 8 else float(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return value if isinstance(value, str) else getattr(value, "__name__", repr(value))


def _settings(estimator: Any, grid: Any) -> list[dict[str, Any]]:
    """Return every combination of a grid, each once."""
    if not isinstance(estimator, MLPStartsClassifier | MLPStartsRegressor):
        raise InvalidValueError(
            f"estimator is {type(estimator).__name__}; give an MLPStartsClassifier or "
            "an MLPStartsRegressor"
        )
    parts = [grid] if isinstance(grid, Mapping) else grid
    if not isinstance(parts, list | tuple) or not parts:
        raise InvalidValueError(
            f"grid is {grid!r}; give a dict of parameter names with lists of values"
        )
    complaints = Complaints()
    known = [name for name in estimator.get_params() if name not in FIXED]
    for part in parts:
        if not isinstance(part, Mapping):
            complaints.require(False, f"grid holds {part!r}; give dicts of lists")
            continue
        for name, values in part.items():
            complaints.require(
                name not in FIXED,
                f"grid names {name}, which settings share ({FIXED.get(name)}); give "
                f"{name} to the estimator, and call sweep once for each value to try",
            )
            if name not in FIXED:
                complaints.attempt(one_of, "a parameter of grid", name, known)
            complaints.require(
                isinstance(values, list | tuple | np.ndarray) and len(values) > 0,
                f"grid has {values!r} for {name}; give a list of values",
            )
    complaints.raise_any()
    found: list[dict[str, Any]] = []
    for setting in ParameterGrid([dict(part) for part in parts]):
        if not any(_same_setting(setting, other) for other in found):
            found.append(setting)
    wrong = Complaints()
    for setting in found:
        wrong.attempt(clone(estimator).set_params(**setting)._check_settings)
    wrong.raise_any()
    return found


def _same_setting(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return one.keys() == two.keys() and all(same_value(one[n], two[n]) for n in one)


def generator() -> np.random.Generator:
    """Return the generator of bootstrap and tests, at its beginning.

    Examples
    --------
    >>> generator().random() == generator().random()
    True
    """
    return np.random.Generator(np.random.Philox(0))
