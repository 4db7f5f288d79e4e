"""`sweep`: compare settings of a network over shared starts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid

from descents.cells.intake import seed_of
from descents.errors import Complaints, InvalidValueError
from descents.networks.estimator_base import cautions, settings_of, with_fit
from descents.networks.estimators import MLPStartsClassifier, MLPStartsRegressor
from descents.networks.fitting import Job, fit_all
from descents.networks.rows import labeled_rows
from descents.networks.setting_names import named
from descents.networks.sweep_result import SweepResult, judged
from descents.statistics.effects import same_value
from descents.validation import one_of

FIXED = {
    "n_starts": "settings are compared start by start, so all have the same number",
    "random_state": "settings are compared start by start, so all have the same seed",
    "combine": "it says how a fitted model predicts, and changes no start",
    "device": "all settings are trained on the same device",
    "validation": "settings are compared on the same held-out rows",
}
"""The parameters that all settings share, and why."""


def sweep(
    estimator: MLPStartsClassifier | MLPStartsRegressor,
    grid: Mapping[str, Sequence[object]] | Sequence[Mapping[str, Sequence[object]]],
    X: object,
    y: object,
    *,
    metric: str | None = None,
    sample_weight: object = None,
) -> SweepResult:
    """Train the starts of an estimator in every setting of a grid, and compare.

    Every setting uses the same initial random numbers, orders of the rows and splits, so
    start k of one setting is compared with start k of the other. Settings that differ
    only in initialization, learning rate, weight decay or dropout share a batch if one of
    them does not fill it.

    Parameters
    ----------
    estimator : MLPStartsClassifier or MLPStartsRegressor
        The base estimator, which is not changed. Each setting has its `n_starts` starts.
    grid : dict of lists, or list of dicts of lists
        The values of each parameter, as in `sklearn.model_selection.ParameterGrid`. Every
        combination is run.
    X, y, sample_weight
        As for `fit`.
    metric : str, optional
        A column of `SweepResult.table`; by default the score on held-out rows, or the training
        score if no rows are held out.

    Returns
    -------
    SweepResult

    Raises
    ------
    InvalidValueError
        If the grid names an unknown parameter, or one that settings share; if a value is
        invalid; or if every start of every setting failed.
    InterruptedRunError
        After Ctrl-C.

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
    combinations = _combinations(estimator, grid)
    seed = seed_of(estimator.random_state)
    models = [
        clone(estimator).set_params(**chosen, random_state=seed)
        for chosen in combinations
    ]
    complaints = Complaints()
    settings = [complaints.attempt(settings_of, model) for model in models]
    complaints.raise_any()
    if metric is not None:
        names_of_all = [set(one.metric_names) for one in settings]
        shared = [
            n for n in settings[0].metric_names if all(n in s for s in names_of_all)
        ]
        one_of("metric", metric, shared)
    rows = labeled_rows(X, y, estimator.task, sample_weight, estimator=clone(estimator))
    fits = fit_all(rows, [Job(one) for one in settings])
    fitted = [with_fit(model, one) for model, one in zip(models, fits, strict=True)]
    study = judged(combinations, named(combinations), fitted, metric)
    for sentence in study.warnings():
        warnings.warn(sentence, ConvergenceWarning, stacklevel=2)
    used = study.best_model.fitted_ if estimator.combine == "best" else None
    for line in cautions(fits, used, metric):
        warnings.warn(line, UserWarning, stacklevel=2)
    return study


def _combinations(estimator: object, grid: object) -> list[dict[str, object]]:
    """Return every combination of a grid, without duplicates."""
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
    allowed = [name for name in estimator.get_params() if name not in FIXED]
    for part in parts:
        if not isinstance(part, Mapping):
            complaints.require(False, f"grid contains {part!r}; give dicts of lists")
            continue
        for name, values in part.items():
            complaints.require(
                name not in FIXED,
                f"grid names {name}, which settings share ({FIXED.get(name)}); give "
                f"{name} to the estimator, and call sweep once for each value to try",
            )
            if name not in FIXED:
                complaints.attempt(one_of, "a parameter of grid", name, allowed)
            complaints.require(
                isinstance(values, list | tuple | np.ndarray) and len(values) > 0,
                f"grid has {values!r} for {name}; give a list of values",
            )
    complaints.raise_any()
    settings: list[dict[str, object]] = []
    for setting in ParameterGrid([dict(part) for part in parts]):
        if not any(_same_setting(setting, other) for other in settings):
            settings.append(setting)
    return settings


def _same_setting(one: Mapping[str, object], two: Mapping[str, object]) -> bool:
    return one.keys() == two.keys() and all(same_value(one[n], two[n]) for n in one)
