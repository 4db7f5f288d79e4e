"""A stored network of `descents train`: used on new rows, and compared with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from descents.answers.statistics import start_means
from descents.checks import InvalidValueError, folder_path, one_of
from descents.data import storage
from descents.data.storage import RESULT, ROWS
from descents.data.tables import Table, from_frame
from descents.estimators.networks import MLPStartsClassifier, MLPStartsRegressor
from descents.estimators.training import many_failed
from descents.problems.features import Features
from descents.problems.metrics import higher_is_better, metric_kind
from descents.studies.applied import without_unseen
from descents.studies.asked import Data
from descents.studies.sweep import compared_starts
from descents.studies.train import MODEL, comparison_facts

NO_METRIC = ("start", "split")
"""Columns of numbers that say of which start a row is, not how good it is."""
Side = tuple[dict[str, Any], np.ndarray, np.ndarray, str]
"""A run's result, the values of the starts of its best setting, which failed, its name."""


@dataclass(frozen=True)
class Trained:
    """A stored network with what its table was made into.

    It predicts from tables as the run read them: a data frame with the columns of the
    run, or an array whose columns are those features in their order. What the fitted
    estimator has beside that, such as ``runs_``, ``table`` and ``interval``, is found
    here too.

    Attributes
    ----------
    model : MLPStartsClassifier or MLPStartsRegressor
        All starts of the best setting. It takes encoded features, and its classes are
        numbered.
    features : Features
    target : dict
    classes : list or None
        The classes as the table had them: text, whole numbers, numbers or booleans.
    result : dict
        What the run found, as in ``result.json``.
    """

    model: Any
    features: Features
    target: Mapping[str, Any]
    classes: list[Any] | None
    result: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """Return what the estimator has of a name that is not here."""
        if name.startswith("__") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    @property
    def classes_(self) -> np.ndarray:
        """The classes, of the type that the table had them in.

        Raises
        ------
        AttributeError
            When the network predicts numbers.
        """
        if self.classes is None:
            raise AttributeError("a network that predicts numbers has no classes_")
        kinds = {type(one) for one in self.classes}
        mixed = len(kinds) > 1 and kinds != {int, float}
        return np.array(self.classes, dtype=object if mixed else None)

    def predict(self, X: Any) -> np.ndarray:
        """Return the class, or the number in the unit of the target, of each row.

        Parameters
        ----------
        X : data frame, Table or array-like of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows,)
        """
        features = self._encoded(X)
        if self.classes is None:
            return self._in_units(self.model.predict(features))
        chosen: np.ndarray = self.classes_[self.model.predict_proba(features).argmax(1)]
        return chosen

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (rows, classes)."""
        found: np.ndarray = self.model.predict_proba(self._encoded(X))
        return found

    def predict_starts(self, X: Any) -> np.ndarray:
        """Return what every start of the best setting predicts for each row.

        Parameters
        ----------
        X : data frame, Table or array-like of shape (rows, columns)

        Returns
        -------
        ndarray of shape (starts splits, rows, outputs)
            Probabilities of the classes, or numbers in the unit of the target; NaN for
            starts that failed.
        """
        found: np.ndarray = self.model.predict_starts(self._encoded(X))
        return self._in_units(found) if self.classes is None else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict`, or its R^2 where numbers are predicted.

        Parameters
        ----------
        X : data frame, Table or array-like of shape (rows, columns)
        y : array-like of shape (rows,)
            Classes, or numbers in the unit of the target.
        sample_weight : array-like of shape (rows,), optional
        """
        measure = r2_score if self.classes is None else accuracy_score
        return float(measure(y, self.predict(X), sample_weight=sample_weight))

    def known_only(self, data: Data, unseen: str) -> tuple[Data, list[dict[str, Any]]]:
        """Return data without levels that the model does not know, and what they were.

        The parameter `unseen` and what is returned second are those of
        `descents.studies.applied.without_unseen`.
        """
        if not isinstance(data.values, Table):
            return data, []
        table, strange = without_unseen(data.values, self.features.known, unseen)
        return replace(data, values=table), strange

    def apply(self, data: Data) -> dict[str, Any]:
        """Return what is foretold of new rows, a column for each fact."""
        if not isinstance(data.values, Table):
            raise InvalidValueError(
                "the model needs a table whose columns have names, but this one is "
                "sparse; give CSV, TSV or Parquet"
            )
        X = self._encoded(data.values)
        found: dict[str, Any] = {"row": list(data.row_names)}
        if self.classes is None:
            found[self.target["name"]] = self._in_units(self.model.predict(X))
            return found
        chances = self.model.predict_proba(X)
        chosen = chances.argmax(1)
        found[self.target["name"]] = [self.classes[code] for code in chosen]
        for code, name in enumerate(self.classes):
            found[f"probability_{name}"] = chances[:, code]
        return found

    def _encoded(self, X: Any) -> np.ndarray:
        """Return the features of a table as the network takes them."""
        if not isinstance(X, Table):
            X = from_frame(X if hasattr(X, "columns") else self._named(X))
        return self.features.encoded(X).astype(np.float32)

    def _named(self, X: Any) -> Any:
        """Return an array as a frame, its columns named as those of the run."""
        import pyarrow

        names = [feature.name for feature in self.features.features]
        array = np.asarray(X)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise InvalidValueError(
                f"X has shape {array.shape}; give a data frame, or an array of shape "
                f"(rows, {len(names)}) with the columns {', '.join(names)}"
            )
        columns = (array[:, place].tolist() for place in range(len(names)))
        return pyarrow.table(dict(zip(names, columns, strict=True)))

    def _in_units(self, scaled: np.ndarray) -> np.ndarray:
        """Return predictions of the scaled target in its unit, in float64.

        In float32 a target far from zero, such as a time in seconds, would be rounded
        by more than it varies.
        """
        numbers: np.ndarray = np.asarray(scaled, np.float64) * self.target["spread"]
        return numbers + self.target["center"]


def load(folder: str | Path) -> Trained:
    """Return the network of a stored run.

    Raises
    ------
    RunFolderError
        When the folder holds no complete run.
    """
    folder = folder_path(folder)
    result = storage.read_json(folder / RESULT)
    kind: Any = MLPStartsClassifier if result["classes"] else MLPStartsRegressor
    return Trained(
        kind.load(folder / MODEL),
        Features.restored(result["encoding"]),
        result["target"],
        result["classes"],
        result,
    )


def compare_runs(
    first: str | Path, second: str | Path, metric: str | None = None
) -> dict[str, Any]:
    """Compare the best settings of two stored runs.

    Starts are compared in pairs where both runs have the same numbers of starts, seed
    and validation.

    Raises
    ------
    RunFolderError
        When a folder holds no complete run of train.
    InvalidValueError
        When the metric is not in both.
    """
    sides = [_side(folder, metric) for folder in (first, second)]
    (one, values, failed, a), (two, others, lost, b) = sides
    if one["metric"] != two["metric"] and metric is None:
        raise InvalidValueError(
            f"the runs are judged by {one['metric']} and {two['metric']}; give --metric "
            "one that both have"
        )
    same = ("starts", "splits", "rows", "target")
    paired = all(one[n] == two[n] for n in same) and all(
        one["run"]["options"][n] == two["run"]["options"][n]
        for n in ("seed", "validation")
    )
    paired = paired and one["run"]["sha256"] == two["run"]["sha256"]
    name = metric or one["metric"]
    found = compared_starts(
        values,
        others,
        paired=paired,
        higher_is_better=higher_is_better(name),
        failed=(failed, lost),
    )
    told = {
        "runs": [str(first), str(second)],
        "settings": [a, b],
        "metric": name,
        "higher_is_better": higher_is_better(name),
        "means": [_mean(values), _mean(others)],
        "starts": [len(values), len(others)],
        **comparison_facts(found),
        "warnings": [
            *_differing(one, two),
            *_weighted_apart(one, two, name),
            *_undefined(name, sides, (first, second)),
            *_failing(sides, (first, second)),
        ],
        "notes": _chosen(sides, (first, second)),
    }
    plain: dict[str, Any] = storage.plain(told)
    return plain


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Say what the runs differ in beside what they are compared for."""
    found = []
    if one["run"]["sha256"] != two["run"]["sha256"] or one["target"] != two["target"]:
        found.append(
            "they learned from different tables or targets, so that the difference is of "
            "these too"
        )
    first, second = (run["run"]["options"]["validation"] for run in (one, two))
    if first != second:
        found.append(
            f"they hold out different rows (--validation {first} and {second}), so that "
            "the difference is of these too"
        )
    seeds = [run["run"]["options"]["seed"] for run in (one, two)]
    if not found and seeds[0] != seeds[1]:
        found.append(
            f"their seeds ({seeds[0]} and {seeds[1]}) draw other starts, and other rows "
            "to hold out; with the same seed they are compared start by start"
        )
    return found


def _weighted_apart(
    one: Mapping[str, Any], two: Mapping[str, Any], metric: str
) -> list[str]:
    """Say where the metric counts rows or classes differently in the two runs."""
    options = [run["run"]["options"] for run in (one, two)]
    found = []
    rows = [each.get("weights") for each in options]
    if rows[0] != rows[1]:
        said = " and ".join(f"--weights {name}" if name else "none" for name in rows)
        found.append(
            f"they weigh rows differently ({said}), and {metric} with them, so that the "
            "difference is of these too"
        )
    classes = [list(each.get("class_weight") or ()) for each in options]
    if metric_kind(metric) == "loss" and classes[0] != classes[1]:
        found.append(
            f"their --class-weight differ, and {metric} is weighted by it, so that the "
            "difference is of these too; validation_log_loss is not weighted by classes"
        )
    return found


def _mean(values: np.ndarray) -> float:
    """Return the mean of the starts that have a value; NaN where none has."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _undefined(
    metric: str, sides: Sequence[Side], runs: Sequence[str | Path]
) -> list[str]:
    """Say in which runs no start has a value."""
    return [
        f"{metric} is not defined for any start of {run}; give --metric validation_loss, "
        "or another that is"
        for (_, values, failed, _), run in zip(sides, runs, strict=True)
        if not np.isfinite(values).any() and not failed.all()
    ]


def _failing(sides: Sequence[Side], runs: Sequence[str | Path]) -> list[str]:
    """Say in which runs many starts failed."""
    found = [
        many_failed(failed, f"of {run} ({setting}) ")
        for (_, _, failed, setting), run in zip(sides, runs, strict=True)
    ]
    return [sentence for sentence in found if sentence]


def _chosen(sides: Sequence[Side], runs: Sequence[str | Path]) -> list[str]:
    """Say which setting was chosen by the starts that are compared."""
    found = [
        f"{setting} is the best of {len(result['settings'])} settings of {run} by these "
        "starts, so its values are somewhat too good; train it alone with another --seed "
        "to compare it without that"
        for (result, _, _, setting), run in zip(sides, runs, strict=True)
        if len(result["settings"]) > 1
    ]
    return list(dict.fromkeys(found))


def _side(folder: str | Path, metric: str | None) -> Side:
    """Return a stored run, its best setting, and what its starts have of a metric."""
    folder = folder_path(folder)
    result = storage.read_json(folder / RESULT)
    run = result.get("run")
    if not isinstance(run, dict) or run.get("command") != "train":
        raise InvalidValueError(
            f"{folder} holds no run of 'descents train'; give the folder of one"
        )
    rows = storage.read_table(folder / ROWS)
    name = metric or result["metric"]
    known = [
        n
        for n, v in rows.items()
        if v.dtype.kind in "iuf" and n not in NO_METRIC and not n.startswith("seconds")
    ]
    one_of("--metric", name, known)
    setting = result["best"]["setting"]
    chosen = rows["setting"] == setting
    table, lost = (
        column[chosen].reshape(-1, result["splits"])
        for column in (rows[name].astype(np.float64), ~np.isfinite(rows["loss"]))
    )
    values, failed = start_means(table, lost)
    return result, values, failed, setting
