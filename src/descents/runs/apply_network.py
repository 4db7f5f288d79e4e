"""Stored networks of `descents train`: apply them to new rows, and compare two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from descents.errors import InvalidValueError
from descents.networks.cautions import many_failed
from descents.networks.estimators import MLPStartsClassifier, MLPStartsRegressor
from descents.networks.features import Features
from descents.networks.sweep_result import compared_starts
from descents.runs.apply import without_unseen
from descents.runs.network_result import ComparisonResult, NetworkResult, facts_of
from descents.runs.request import Data
from descents.runs.train import MODEL
from descents.statistics.metrics import higher_is_better, metric_kind
from descents.statistics.summaries import start_means
from descents.storage import folders as storage
from descents.storage.folders import RESULT, ROWS
from descents.storage.results import read_result
from descents.tables.tables import Table, from_frame
from descents.validation import folder_path, one_of

NO_METRIC = ("start", "split")
"""Numeric columns that identify the start of a row, and are not metrics."""
Side = tuple[NetworkResult, np.ndarray, np.ndarray, str]
"""A run's result; of its best setting the values of the starts, which failed, the name."""


@dataclass(frozen=True)
class Trained:
    """A stored network with the encoding of its table.

    It predicts from a data frame with the columns of the run, or from an array with the
    columns of the features in their order. The other attributes of the fitted estimator,
    such as ``runs_``, ``table`` and ``interval``, are available too.

    Attributes
    ----------
    model : MLPStartsClassifier or MLPStartsRegressor
        All starts of the best setting. It takes encoded features, and its classes are
        integers.
    features : Features
    target : dict
    classes : list or None
        The classes as in the table: text, whole numbers, numbers or booleans.
    result : dict
        The contents of ``result.json``.
    """

    model: Any
    features: Features
    target: Mapping[str, Any]
    classes: list[Any] | None
    result: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the estimator."""
        if name.startswith("__") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    @property
    def classes_(self) -> np.ndarray:
        """The classes, with the type that they have in the table.

        Raises
        ------
        AttributeError
            If the network predicts numbers.
        """
        if self.classes is None:
            raise AttributeError("a network that predicts numbers has no classes_")
        kinds = {type(label) for label in self.classes}
        mixed = len(kinds) > 1 and kinds != {int, float}
        return np.array(self.classes, dtype=object if mixed else None)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each row, or the number in the unit of the target.

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
        probabilities: np.ndarray = self.model.predict_proba(self._encoded(X))
        return probabilities

    def predict_starts(self, X: Any) -> np.ndarray:
        """Predict rows with each start of the best setting separately.

        Parameters
        ----------
        X : data frame, Table or array-like of shape (rows, columns)

        Returns
        -------
        ndarray of shape (starts splits, rows, outputs)
            Class probabilities, or numbers in the unit of the target; NaN for starts that
            failed.
        """
        outputs: np.ndarray = self.model.predict_starts(self._encoded(X))
        return self._in_units(outputs) if self.classes is None else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict`, or its R^2 if it predicts numbers.

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
        """Return data without unseen levels, and a list of these levels.

        See `descents.runs.apply.without_unseen` for `unseen` and the list.
        """
        if not isinstance(data.values, Table):
            return data, []
        table, levels = without_unseen(data.values, self.features.known, unseen)
        return replace(data, values=table), levels

    def apply(self, data: Data) -> dict[str, Any]:
        """Return the predictions for new rows as columns."""
        if not isinstance(data.values, Table):
            raise InvalidValueError(
                "the model needs a table with column names, but this one is sparse; give "
                "CSV, TSV or Parquet"
            )
        X = self._encoded(data.values)
        columns: dict[str, Any] = {"row": list(data.row_names)}
        if self.classes is None:
            columns[self.target["name"]] = self._in_units(self.model.predict(X))
            return columns
        probabilities = self.model.predict_proba(X)
        codes = probabilities.argmax(1)
        columns[self.target["name"]] = [self.classes[code] for code in codes]
        for code, name in enumerate(self.classes):
            columns[f"probability_{name}"] = probabilities[:, code]
        return columns

    def _encoded(self, X: Any) -> np.ndarray:
        """Return the features of a table, encoded for the network."""
        if not isinstance(X, Table):
            X = from_frame(X if hasattr(X, "columns") else self._named(X))
        return self.features.encoded(X).astype(np.float32)

    def _named(self, X: Any) -> Any:
        """Return an array as a frame with the column names of the run."""
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
        """Convert predictions of the scaled target to its unit, in float64.

        In float32 a target far from zero, such as a time in seconds, would be rounded
        by more than its variation.
        """
        numbers: np.ndarray = np.asarray(scaled, np.float64) * self.target["spread"]
        return numbers + self.target["center"]


def load(folder: str | Path) -> Trained:
    """Return the network of a stored run.

    Raises
    ------
    RunFolderError
        If the folder contains no complete run.
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
) -> ComparisonResult:
    """Compare the best settings of two stored runs.

    Starts are compared in pairs if both runs have the same table, target, number of
    starts, seed and validation.

    Raises
    ------
    RunFolderError
        If a folder contains no complete run of train.
    InvalidValueError
        If the metric is not in both runs.
    """
    sides = [_side(folder, metric) for folder in (first, second)]
    (one, values, failed, a), (two, others, lost, b) = sides
    if one.metric != two.metric and metric is None:
        raise InvalidValueError(
            f"the runs have the metrics {one.metric} and {two.metric}; give --metric "
            "with one that both have"
        )
    name = metric or one.metric
    comparison = compared_starts(
        values,
        others,
        paired=_paired(one) == _paired(two),
        higher_is_better=higher_is_better(name),
        failed=(failed, lost),
    )
    return ComparisonResult(
        runs=[str(first), str(second)],
        settings=[a, b],
        metric=name,
        higher_is_better=higher_is_better(name),
        means=[_mean(values), _mean(others)],
        starts=[len(values), len(others)],
        **facts_of(comparison),
        warnings=[
            *_differing(one, two),
            *_weighted_apart(one, two, name),
            *_undefined(name, sides, (first, second)),
            *_failing(sides, (first, second)),
        ],
        notes=_chosen(sides, (first, second)),
    )


def _paired(result: NetworkResult) -> tuple[Any, ...]:
    """Return what runs that are compared start by start have in common."""
    options = result.run.options
    facts = (result.starts, result.splits, result.rows, result.target)
    return (*facts, options["seed"], options["validation"], result.run.sha256)


def _differing(one: NetworkResult, two: NetworkResult) -> list[str]:
    """Warn about differences between the runs that affect the comparison."""
    warnings = []
    if one.run.sha256 != two.run.sha256 or one.target != two.target:
        warnings.append(
            "they learned from different tables or targets, which contributes to the "
            "difference"
        )
    first, second = (result.run.options["validation"] for result in (one, two))
    if first != second:
        warnings.append(
            f"they hold out different rows (--validation {first} and {second}), which "
            "contributes to the difference"
        )
    seeds = [result.run.options["seed"] for result in (one, two)]
    if not warnings and seeds[0] != seeds[1]:
        warnings.append(
            f"their seeds ({seeds[0]} and {seeds[1]}) draw different starts and held-out "
            "rows; with the same seed they are compared start by start"
        )
    return warnings


def _weighted_apart(one: NetworkResult, two: NetworkResult, metric: str) -> list[str]:
    """Warn if the metric weights rows or classes differently in the two runs."""
    one_options, two_options = one.run.options, two.run.options
    warnings = []
    rows = [one_options.get("weights"), two_options.get("weights")]
    if rows[0] != rows[1]:
        names = " and ".join(f"--weights {name}" if name else "none" for name in rows)
        warnings.append(
            f"they weight rows differently ({names}), and {metric} uses these weights, "
            "which contributes to the difference"
        )
    classes = [
        list(options.get("class_weight") or ())
        for options in (one_options, two_options)
    ]
    if metric_kind(metric) == "loss" and classes[0] != classes[1]:
        warnings.append(
            f"their --class-weight differ, and {metric} uses these weights, which "
            "contributes to the difference; validation_log_loss does not use them"
        )
    return warnings


def _mean(values: np.ndarray) -> float:
    """Return the mean of the starts that have a value; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else np.nan


def _undefined(
    metric: str, sides: Sequence[Side], runs: Sequence[str | Path]
) -> list[str]:
    """Warn about runs in which no start has a value."""
    return [
        f"{metric} is not defined for any start of {run}; give --metric validation_loss, "
        "or another that is defined"
        for (_, values, failed, _), run in zip(sides, runs, strict=True)
        if not np.isfinite(values).any() and not failed.all()
    ]


def _failing(sides: Sequence[Side], runs: Sequence[str | Path]) -> list[str]:
    """Warn about runs in which many starts failed."""
    sentences = [
        many_failed(failed, f"of {run} ({setting}) ")
        for (_, _, failed, setting), run in zip(sides, runs, strict=True)
    ]
    return [sentence for sentence in sentences if sentence]


def _chosen(sides: Sequence[Side], runs: Sequence[str | Path]) -> list[str]:
    """Return notes on settings that were chosen by the starts that are compared."""
    notes = [
        f"{setting} is the best of {len(result.settings)} settings of {run} by these "
        "starts, so its values are somewhat too good; to compare it without this bias, "
        "train it alone with another --seed"
        for (result, _, _, setting), run in zip(sides, runs, strict=True)
        if len(result.settings) > 1
    ]
    return list(dict.fromkeys(notes))


def _side(folder: str | Path, metric: str | None) -> Side:
    """Return a stored run, with a metric of the starts of its best setting."""
    folder = folder_path(folder)
    stored = storage.read_json(folder / RESULT)
    run = stored.get("run")
    if not isinstance(run, dict) or run.get("command") != "train":
        raise InvalidValueError(
            f"{folder} contains no run of 'descents train'; give the folder of one"
        )
    result = read_result(NetworkResult, folder / RESULT)
    rows = storage.read_table(folder / ROWS)
    name = metric or result.metric
    metrics = [
        n
        for n, v in rows.items()
        if v.dtype.kind in "iuf" and n not in NO_METRIC and not n.startswith("seconds")
    ]
    one_of("--metric", name, metrics)
    setting = result.best.setting
    chosen = rows["setting"] == setting
    table, lost = (
        column[chosen].reshape(-1, result.splits)
        for column in (rows[name].astype(np.float64), ~np.isfinite(rows["loss"]))
    )
    values, failed = start_means(table, lost)
    return result, values, failed, setting
