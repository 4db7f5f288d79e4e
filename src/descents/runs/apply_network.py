"""Apply a stored network of `descents train` to new rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from descents.cells.columns import ColumnModel
from descents.cells.intake import plain_array
from descents.errors import InvalidValueError
from descents.losses import get_loss
from descents.networks.estimators import MLPStartsClassifier, MLPStartsRegressor
from descents.networks.features import Features
from descents.networks.rows import exact_target
from descents.runs.apply import without_unseen
from descents.runs.apply_facts import NOT_SAID, Arguments
from descents.runs.apply_result import (
    AppliedRun,
    NewColumn,
    PredictedRows,
    UnseenLevel,
)
from descents.runs.distributions import distribution
from descents.runs.request import Data, environment
from descents.runs.results import Distribution
from descents.runs.scored_rows import UNSCORED, Scored, score_classes, score_numbers
from descents.runs.train import MODEL
from descents.statistics.metrics import metric_kind
from descents.storage.damage import check_facts, undamaged
from descents.storage.files import read_json
from descents.storage.run_folders import RESULT
from descents.tables.levels import Places
from descents.tables.spelling import plain, text_of
from descents.tables.tables import Table, from_frame
from descents.text import OneLine, counted
from descents.validation import folder_path

if TYPE_CHECKING:
    import pyarrow


PREDICTIONS = "predictions.parquet"
Column = np.ndarray | Sequence[object]
"""A column of predictions."""


@dataclass(frozen=True)
class Trained(OneLine):
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

    model: MLPStartsClassifier | MLPStartsRegressor
    features: Features
    target: Mapping[str, Any]
    classes: list[object] | None
    result: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the estimator."""
        if name.startswith("__") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    def check(self) -> None:
        """Raise an error if the parts of a stored run do not belong together.

        Raises
        ------
        TypeError or ValueError
        """
        check_facts(str, self.target["name"], "the name of the target")
        numbers = [(one.fill, one.center, one.spread) for one in self.features.features]
        if any(number is None for each in numbers for number in each):
            raise ValueError("the encoding lacks numbers")
        encoded = sum(len(feature.labels) for feature in self.features.features)
        named = hasattr(self.model, "feature_names_in_")
        if encoded != self.model.n_features_in_ or named:
            raise ValueError(
                f"the network has {counted(self.model.n_features_in_, 'feature')}, but "
                f"the table {encoded}"
            )
        if self.classes is None:
            for name in ("center", "spread"):
                check_facts(float, self.target[name], f"the {name} of the target")
                if self.target[name] is None:
                    raise ValueError(f"there is no {name} of the target")
        elif len(self.classes) != len(self._classifier.classes_):
            raise ValueError("the network has another number of classes")
        else:
            check_facts(list[str | float | bool], self.classes, "its classes")
            majority = self.target.get("majority")
            check_facts(int | None, majority, "the most frequent class")
            if majority is not None and not 0 <= majority < len(self.classes):
                raise ValueError("the most frequent class is not one of the classes")

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

    @property
    def _classifier(self) -> MLPStartsClassifier:
        """The model, if it has probabilities.

        Raises
        ------
        AttributeError
            If it predicts numbers.
        """
        if not isinstance(self.model, MLPStartsClassifier):
            raise AttributeError("a network that predicts numbers has no predict_proba")
        return self.model

    def predict(self, X: object) -> np.ndarray:
        """Predict the class of each row, or the number in the unit of the target.

        Parameters
        ----------
        X : data frame, Table or array-like of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows,)
        """
        if self.classes is None:
            return self._in_units(self.model.predict(self._encoded(X)))
        chosen: np.ndarray = self.classes_[self._codes(X)]
        return chosen

    def _codes(self, X: object) -> np.ndarray:
        """Return the position in `classes` of the predicted class of each row."""
        return np.asarray(self.predict_proba(X).argmax(1))

    def predict_proba(self, X: object) -> np.ndarray:
        """Return the probability of each class, shape (rows, classes)."""
        return self._classifier.predict_proba(self._encoded(X))

    def predict_starts(self, X: object) -> np.ndarray:
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
        outputs = self.model.predict_starts(self._encoded(X))
        return self._in_units(outputs) if self.classes is None else outputs

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return the accuracy of `predict`, or its R^2 if it predicts numbers.

        Parameters
        ----------
        X : data frame, Table or array-like of shape (rows, columns)
        y : array-like of shape (rows,)
            Classes, or numbers in the unit of the target. Classes may be spelled in
            another way than in the table of the run, such as 1 for 1.0 or "1".
        sample_weight : array-like of shape (rows,), optional
        """
        if self.classes is None:
            return float(r2_score(y, self.predict(X), sample_weight=sample_weight))
        # Codes are compared, because classes may be fractions, which scikit-learn's
        # measures take for numbers.
        search = Places(self.classes)
        given = np.ravel(np.asarray(exact_target(plain_array(y))))
        unknown = len(self.classes)  # as good as a wrong class
        codes = [unknown if (at := search.of(plain(x))) is None else at for x in given]
        weights = None if sample_weight is None else plain_array(sample_weight)
        return float(accuracy_score(codes, self._codes(X), sample_weight=weights))

    def predicted(
        self,
        run: AppliedRun,
        data: Data,
        unseen: str = "error",
        said: Arguments = NOT_SAID,
    ) -> tuple[PredictedRows, dict[str, Column]]:
        """Predict new rows, as `descents apply` does.

        Parameters
        ----------
        run : AppliedRun
            The identity of the run.
        data : Data
        unseen : {"error", "missing"}
            Whether levels that the network was not trained with are an error, or are read
            as missing cells.
        said : Arguments, optional
            What `descents.runs.apply_facts.arguments` returned.

        Returns
        -------
        result : PredictedRows
        predictions : dict
            The columns of ``predictions.parquet``.

        Raises
        ------
        InvalidValueError
            If columns are missing, or have levels that the network does not know.
        """
        data, strange = self.known_only(data, unseen)
        found = self.apply(data)
        target = str(self.target["name"])
        names = [*(feature.name for feature in self.features.features), target]
        scored, notes = UNSCORED, list[str]()
        if not said["fitted_rows"] and target in data.column_names:
            scored, notes = self._scores(data.values, found[target])
        majority = self.target.get("majority")
        result = PredictedRows(
            run=run,
            read=[*data.notes, *notes],
            target=target,
            not_used=[name for name in data.column_names if name not in names],
            unseen=[UnseenLevel(**one) for one in strange],
            rows=len(data.row_names),
            table_columns=self._new_columns(data.values),
            columns=list(found),
            predicted=self._distribution(found[target]),
            scored_rows=scored[0],
            scores=scored[1],
            constant=(
                None
                if self.classes is None or majority is None
                else text_of(self.classes[majority])
            ),
            environment=environment(),
            **said,
        )
        return result, found

    def _new_columns(self, table: Table) -> list[NewColumn]:
        """Return how many cells of each feature are missing in new rows."""
        lacking = {
            feature.name: table.column(feature.name).values
            for feature in self.features.features
        }
        return [
            NewColumn(name=name, missing=int(np.isnan(values).sum()))
            for name, values in lacking.items()
        ]

    def _distribution(self, values: Column) -> Distribution | None:
        """Return how often classes or numbers are predicted."""
        name, classes = str(self.target["name"]), self.classes
        if classes is None:
            numbers = ColumnModel(name, get_loss("squared"), (), "")
            return distribution(numbers, np.asarray(values, np.float64), np.zeros(0))
        levels = ColumnModel(name, get_loss("categorical"), tuple(classes), "")
        return distribution(levels, _places(values, classes), np.zeros(0))

    def _scores(self, table: Table, values: Column) -> tuple[Scored, list[str]]:
        """Return the scores of predictions on rows with a target, and notes.

        Parameters
        ----------
        table : Table
            The new rows, which have the target.
        values : Column
            The predictions.
        """
        column = table.column(self.target["name"])
        if self.classes is None:
            numbers = np.asarray(values, np.float64)
            scored = score_numbers(column, numbers, self.target["center"])
            if scored is not None:
                return scored, []
            return UNSCORED, [
                f"{column.name}: {column.says}, and the network predicts numbers; the "
                "predictions are not scored"
            ]
        codes = _places(values, self.classes).astype(np.int64)
        majority = self.target.get("majority")
        kind = metric_kind(str(self.result.get("metric", "")))
        balanced = kind == "balanced_accuracy"
        found = score_classes(column, codes, self.classes, majority, balanced=balanced)
        return found, []

    def known_only(self, data: Data, unseen: str) -> tuple[Data, list[dict[str, Any]]]:
        """Return data without unseen levels, and a list of these levels.

        See `descents.runs.apply.without_unseen` for `unseen` and the list.
        """
        if not isinstance(data.values, Table):
            return data, []
        table, levels = without_unseen(data.values, self.features.known, unseen)
        return replace(data, values=table), levels

    def apply(self, data: Data) -> dict[str, Column]:
        """Return the predictions for new rows as columns."""
        if not isinstance(data.values, Table):
            raise InvalidValueError(
                "the model needs a table with column names, but this one is sparse; give "
                "CSV, TSV or Parquet"
            )
        X = self._encoded(data.values)
        columns: dict[str, Column] = {"row": list(data.row_names)}
        if self.classes is None:
            columns[self.target["name"]] = self._in_units(self.model.predict(X))
            return columns
        probabilities = self._classifier.predict_proba(X)
        codes = probabilities.argmax(1)
        columns[self.target["name"]] = [self.classes[code] for code in codes]
        for code, name in enumerate(self.classes):
            columns[f"probability_{name}"] = probabilities[:, code]
        return columns

    def _encoded(self, X: object) -> np.ndarray:
        """Return the features of a table, encoded for the network."""
        if not isinstance(X, Table):
            X = from_frame(X if hasattr(X, "columns") else self._named(X))
        return self.features.encoded(X).astype(np.float32)

    def _named(self, X: object) -> pyarrow.Table:
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


def _places(values: Column, classes: Sequence[object]) -> np.ndarray:
    """Return the positions of predicted classes in `classes`."""
    search = Places(classes)
    return np.array([search.of(value) for value in values], np.float64)


def load(folder: str | Path) -> Trained:
    """Return the network of a stored run.

    Raises
    ------
    RunFolderError
        If the folder contains no complete run.
    """
    folder = folder_path(folder)
    with undamaged(folder):
        result = read_json(folder / RESULT)
        kind: type[MLPStartsClassifier | MLPStartsRegressor] = (
            MLPStartsClassifier if result["classes"] else MLPStartsRegressor
        )
        trained = Trained(
            kind.load(folder / MODEL),
            Features.restored(result["encoding"]),
            result["target"],
            result["classes"],
            result,
        )
        trained.check()
    return trained
