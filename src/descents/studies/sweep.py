"""Settings of a network compared over shared starts: `sweep` and what it finds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from descents.answers import compare, differences, effects, statistics
from descents.checks import Complaints, InterruptedRunError, InvalidValueError, one_of
from descents.estimators.intake import seed_of
from descents.estimators.networks import (
    SHARED,
    MLPStartsClassifier,
    MLPStartsRegressor,
    cautions,
    fit_together,
)
from descents.estimators.training import hopeless

FIXED = ("n_starts", "random_state", "combine", "device")
"""What settings cannot differ in: their starts are shared."""


@dataclass(frozen=True)
class Study:
    """What the starts of several settings tell.

    Attributes
    ----------
    settings : tuple of dict
        What each setting has of each parameter of the grid.
    names : tuple of str
        Each setting in a few words: what tells it from the others.
    models : tuple of MLPStartsClassifier or MLPStartsRegressor
        The estimator of each setting, fitted; one all of whose starts failed has
        `runs_`, but predicts nothing.
    metric : str
        What settings are judged by where nothing else is asked for.
    higher_is_better : bool
    """

    settings: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    models: tuple[Any, ...]
    metric: str
    higher_is_better: bool

    def values(self, metric: str | None = None) -> np.ndarray:
        """Return a metric of every start in every setting, NaN where it failed.

        The mean over the splits, shape (settings, n_starts).
        """
        metric = self.metric if metric is None else metric
        return np.stack([model.values(metric) for model in self.models])

    @property
    def ranked(self) -> list[int]:
        """The numbers of the settings from the best on; those that failed are last.

        By the mean over the starts that did not fail; of equal ones, the first is first.
        """
        means = [
            row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan
            for row in self.values()
        ]
        sign = -1 if self.higher_is_better else 1
        order = np.argsort(sign * np.array(means), kind="stable")
        return [int(place) for place in order]  # NaN is sorted to the end

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
        """Return count, mean with interval, and quartiles of a metric in each setting.

        None for a setting all of whose starts failed.
        """
        return [
            statistics.summary(row[np.isfinite(row)], generator(), confidence)
            if np.isfinite(row).any()
            else None
            for row in self.values(metric)
        ]

    def compared(
        self, metric: str | None = None
    ) -> list[tuple[int, differences.Comparison, float]]:
        """Compare the best setting with each other one, start by start.

        Returns
        -------
        list of (int, Comparison, float)
            The number of the other setting, from the next best on; difference, chance
            of improvement and permutation test over the starts that failed in neither;
            the p-value adjusted for the number of comparisons (Holm). Settings without
            a start in common with the best are left out.
        """
        values = self.values(metric)
        best, *others = self.ranked
        found = [
            (
                other,
                compared_starts(
                    values[best],
                    values[other],
                    paired=True,
                    higher_is_better=self.higher_is_better,
                ),
            )
            for other in others
            if np.isfinite(values[[best, other]]).all(0).any()
        ]
        if not found:
            return []
        adjusted = compare.holm([one.p_value for _, one in found])
        return [
            (other, one, float(p))
            for (other, one), p in zip(found, adjusted, strict=True)
        ]

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
            When fewer than two starts ended well in all settings, or the settings are
            no full grid.
        """
        values = self.values(metric)
        kept = np.isfinite(values).all(0)
        if len(kept) < 2:
            raise InvalidValueError(
                "one start was trained in each setting, and two are needed to tell what a "
                "setting does from what the start does; give more starts"
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
    if metric is not None:
        one_of("metric", metric, estimator.metric_names())
    names = named(settings)
    seed = seed_of(estimator.random_state)
    models = [
        clone(estimator).set_params(**setting, random_state=seed)
        for setting in settings
    ]
    train_all(models, X, y, sample_weight)
    study = judged(settings, names, models, metric)
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
    metric = models[0].metric_ if metric is None else metric
    return Study(
        tuple(dict(s) for s in settings),
        tuple(names),
        tuple(models),
        metric,
        higher_is_better(metric),
    )


def higher_is_better(metric: str) -> bool:
    """Return whether more of a metric is better.

    Examples
    --------
    >>> higher_is_better("validation_loss"), higher_is_better("training_r2")
    (False, True)
    """
    return metric.endswith(("accuracy", "r2", "f1", "roc_auc"))


def compared_starts(
    first: np.ndarray, second: np.ndarray, *, paired: bool, higher_is_better: bool
) -> differences.Comparison:
    """Compare a metric of two sets of starts, without those that failed.

    If paired, a start is left out where it failed in either.

    Examples
    --------
    >>> first, second = np.array([0.9, 0.8, np.nan]), np.array([0.7, np.nan, 0.6])
    >>> compared_starts(first, second, paired=True, higher_is_better=True).first_count
    1
    """
    kept, matched = np.isfinite(first), np.isfinite(second)
    if paired:
        kept = matched = kept & matched
    return differences.compared(
        first[kept],
        second[matched],
        paired=paired,
        generator=generator(),
        higher_is_better=higher_is_better,
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

    Examples
    --------
    >>> named([{"optimizer": "gd", "dropout": 0}, {"optimizer": "adam", "dropout": 0}])
    ('optimizer=gd', 'optimizer=adam')
    """
    every = {name: value for setting in settings for name, value in setting.items()}
    varied = [n for n in every if any(s.get(n) != every[n] for s in settings)]
    return tuple(
        ", ".join(
            f"{n}={_word(v)}" for n, v in setting.items() if n in (varied or every)
        )
        or "as given"
        for setting in settings
    )


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
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
                f"grid names {name}, which settings share; set it on the estimator",
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
        if setting not in found:
            found.append(setting)
    wrong = Complaints()
    for setting in found:
        wrong.attempt(clone(estimator).set_params(**setting)._check_settings)
    wrong.raise_any()
    return found


def generator() -> np.random.Generator:
    """Return the generator of bootstrap and tests, at its beginning.

    Examples
    --------
    >>> generator().random() == generator().random()
    True
    """
    return np.random.Generator(np.random.Philox(0))
