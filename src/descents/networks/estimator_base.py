"""What the classifier and the regressor share: a shell around `Fitted`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from descents.cells.intake import plain_array
from descents.diagnosis.verdicts import Diagnosis
from descents.errors import InvalidValueError
from descents.networks import stored
from descents.networks.cautions import (
    advice,
    constant_target,
    hopeless,
    many_failed,
    undefined_sentences,
    untested,
)
from descents.networks.constants import LIMIT_THE_FIT, Unbeaten
from descents.networks.fitted import Fitted, unbeaten_of_all
from descents.networks.fitting import fit as fit_network
from descents.networks.network import Network
from descents.networks.rows import labeled_rows
from descents.networks.settings import Settings, metric_names
from descents.networks.shown import block_of_starts
from descents.networks.splits import Folds, HoldOut
from descents.optim.runs import Runs
from descents.optim.stopping import EarlyStopping
from descents.plots.estimators import ShownEstimator
from descents.statistics.summaries import Summary
from descents.storage.models import read_model
from descents.storage.values import plain

if TYPE_CHECKING:
    import pandas as pd


class StartsEstimator(ShownEstimator):
    """Base class of the classifier and the regressor.

    It trains by `descents.networks.fit` and keeps its result, `Fitted`, from which it
    predicts and computes all statistics.
    """

    task: ClassVar[str] = "classification"
    validation: float | HoldOut | Folds | None
    early_stopping: int | EarlyStopping | None
    combine: str
    fitted_: Fitted
    problem_: Network
    runs_: Runs
    splits_: int
    best_: int
    loss_: float
    n_iter_: int

    def fit(self, X: object, y: object, sample_weight: object = None) -> Self:
        """Train all starts.

        Parameters
        ----------
        X : array-like of shape (rows, features)
        y : array-like of shape (rows,), for regression also (rows, outputs)
            Classes of any type, or numbers.
        sample_weight : array-like of shape (rows,), optional
            The weight of each row. A row with weight w counts like w copies of the row,
            in training and validation losses and in all metrics. In mini-batches the
            expected gradient is that of the weighted mean.

        Returns
        -------
        self : MLPStartsClassifier or MLPStartsRegressor
        """
        settings = settings_of(self)
        rows = labeled_rows(X, y, self.task, sample_weight, estimator=self)
        self._take(fit_network(rows, settings))
        if not self.fitted_.usable:
            raise InvalidValueError(
                hopeless(settings.optimizer, settings.learning_rate, self.problem_)
            )
        sentence = many_failed(self.failed("loss"), problem=self.problem_)
        if sentence is not None:
            warnings.warn(sentence, ConvergenceWarning, stacklevel=2)
        used = self.fitted_ if self.combine == "best" else None
        for line in cautions([self.fitted_], used):
            warnings.warn(line, UserWarning, stacklevel=2)
        return self

    def _take(self, fitted: Fitted) -> None:
        """Set the attributes of a fit."""
        self.fitted_ = fitted
        self.runs_, self.problem_ = fitted.runs, fitted.problem
        self.splits_, self.n_features_in_ = fitted.splits, fitted.problem.X.shape[1]
        if fitted.names:
            self.feature_names_in_ = np.array(fitted.names, dtype=object)
        if fitted.classes is not None:
            self.classes_ = fitted.classes
        if fitted.usable:
            self.best_ = fitted.best
            self.loss_ = float(fitted.runs.losses[self.best_])
            steps = fitted.runs.steps_taken[self.best_]
            self.n_iter_ = int(np.ceil(steps / fitted.steps_in_epoch))

    def predict_starts(self, X: object) -> np.ndarray:
        """Predict rows with each start separately.

        Parameters
        ----------
        X : array-like of shape (rows, features)

        Returns
        -------
        ndarray of shape (n_starts splits, rows, outputs)
            Class probabilities, or numbers, in the order of `runs_`; NaN for starts that
            failed.
        """
        rows = self._rows(X)
        return self.fitted_.outputs(rows, np.arange(len(self.runs_)))

    def _rows(self, X: object) -> np.ndarray:
        """Return the rows to predict as a float32 or float64 array."""
        check_is_fitted(self)
        types = [np.float64, np.float32]
        rows: np.ndarray = validate_data(self, plain_array(X), reset=False, dtype=types)
        return rows

    def _combined(self, X: np.ndarray) -> np.ndarray:
        """Return the best start's predictions, or the mean of all that did not fail."""
        if not self.fitted_.usable:
            raise InvalidValueError(
                "every start failed, so there is no model to predict with; fit with a "
                "smaller learning_rate, or scale the features"
            )
        chosen = np.array([self.best_])
        if self.combine == "mean":
            chosen = np.flatnonzero(np.isfinite(self.runs_.losses))
        return np.asarray(self.fitted_.outputs(X, chosen).mean(0))

    def unbeaten(self) -> Unbeaten | None:
        """Return a record that starts do not beat a constant prediction, None if they do.

        Starts are judged by accuracy or R^2, on the held-out rows if there are any; by
        balanced accuracy if classes are weighted. The best of many starts beats a constant
        by chance: see `descents.networks.constants.unbeaten`.
        """
        check_is_fitted(self)
        return self.fitted_.unbeaten()

    def _shown(self) -> str:
        """Return the HTML that a notebook shows of the starts."""
        return block_of_starts(self.fitted_) if hasattr(self, "fitted_") else ""

    # Statistics of the starts

    def table(self) -> pd.DataFrame | dict[str, np.ndarray]:
        """Return the results as a data frame, with a row for each start and split.

        Returns
        -------
        DataFrame
            If pandas is not installed, a dict of ndarray. Its columns are start, split, loss, metrics, epochs, status,
            gradient norm; ``best_epoch`` if the best epoch was kept, ``verdict`` after
            `diagnose` was called.
        """
        check_is_fitted(self)
        return self.fitted_.table()

    def values(self, metric: str | None = None) -> np.ndarray:
        """Return a metric of every start, averaged over its splits; NaN if it failed.

        Splits on which the metric is undefined are excluded, for example R^2 if all
        held-out rows have the same target. If no split defines it, all values are NaN.

        Parameters
        ----------
        metric : str, optional
            A column of `table`; by default the validation score, or the training score
            if no rows are held out.

        Returns
        -------
        ndarray of shape (n_starts,)
        """
        check_is_fitted(self)
        return self.fitted_.values(metric)

    def failed(self, metric: str | None = None) -> np.ndarray:
        """Return which starts failed; `values` is NaN for them.

        A start fails if its loss became infinite or NaN on a split, or its metric did on
        a split where the metric is defined.

        Parameters
        ----------
        metric : str, optional
            As `values` takes it.

        Returns
        -------
        bool ndarray of shape (n_starts,)
        """
        check_is_fitted(self)
        return self.fitted_.failed(metric)

    def undefined_splits(self, metric: str | None = None) -> int:
        """Return the number of splits on which a metric is undefined.

        Splits on which all starts failed do not count.

        Parameters
        ----------
        metric : str, optional
            As `values` takes it.
        """
        check_is_fitted(self)
        return self.fitted_.undefined_splits(metric)

    @property
    def metric_(self) -> str:
        """The score by which starts are compared."""
        return self.metric_names()[0]

    def metric_names(self) -> list[str]:
        """Return the columns of `table` that starts can be compared by, score first."""
        return metric_names(
            self.task,
            validated=self.validation is not None,
            early=self.early_stopping is not None,
        )

    def interval(self, metric: str | None = None, confidence: float = 0.95) -> Summary:
        """Summarize a metric over the starts, with a confidence interval of its mean.

        Parameters
        ----------
        metric : str, optional
            As `values` takes it.
        confidence : float

        Returns
        -------
        Summary
            Count, mean with a bias-corrected bootstrap interval, standard deviation and
            quartiles of the starts that did not fail, and the number that failed. The
            statistics are NaN if the metric is undefined.
        """
        check_is_fitted(self)
        return self.fitted_.interval(metric, confidence)

    def variance(self, metric: str | None = None) -> dict[str, float | None]:
        """Estimate the variance of a metric between starts and between splits.

        The method of moments for two crossed factors without repetition: the mean
        square of starts (or splits) minus that of the residual, divided by the number of
        splits (or starts); at least 0.

        Returns
        -------
        dict
            ``starts``, ``splits`` (None with one split) and ``residual``. Splits on
            which the metric is undefined are excluded.
        """
        check_is_fitted(self)
        return self.fitted_.variance(metric)

    def diagnose(
        self,
        starts: Iterable[int] | None = None,
        *,
        multiples: Sequence[int] = (10, 30),
    ) -> Diagnosis:
        """Diagnose how each start ended: converged, or why it did not.

        Starts that do not reach the level of the best are trained longer, for multiples
        of the epochs. The verdicts become a column of `table` and of ``runs_.table()``.

        Parameters
        ----------
        starts : iterable of int, optional
            Numbers in `runs_`; by default all.
        multiples : sequence of int
            How long to continue training, in multiples of the epochs.

        Returns
        -------
        Diagnosis

        Raises
        ------
        InvalidValueError
            If the model was loaded from a file, which has no rows to train on.
        """
        check_is_fitted(self)
        diagnosis = self.fitted_.diagnose(starts, multiples=multiples)
        words = [verdict.word for verdict in diagnosis.verdicts]
        self._take(self.fitted_.with_verdicts(diagnosis.starts, words))
        return diagnosis

    # Storing

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a safetensors file, which contains no code.

        Raises
        ------
        InvalidValueError
            If a parameter or the classes have a type that cannot be stored.
        RunFolderError
            If the file cannot be written.
        """
        check_is_fitted(self)
        stored.write(path, self.fitted_, type(self).__name__, self.get_params())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a model that `save` wrote.

        It predicts and has the statistics of its starts, but not the training rows.

        Raises
        ------
        RunFolderError
            If the file cannot be read or has another format.
        """
        return read_model(path, cls.__name__, cls._restored, stored.FORMATS)

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: stored.Facts) -> Self:
        """Return the model from what `save` wrote."""
        model = cls(**stored.parameters_of(facts))
        settings = settings_of(model)
        model._take(stored.restored(arrays, facts, settings))
        if not model.fitted_.usable:
            raise InvalidValueError(
                hopeless(settings.optimizer, settings.learning_rate)
            )
        rows = np.zeros((1, model.n_features_in_), dtype=np.float32)
        model._combined(rows)  # fails here if arrays do not belong together
        return model


def settings_of(estimator: StartsEstimator) -> Settings:
    """Return the settings that the parameters of an estimator are, checked.

    Examples
    --------
    >>> from descents import MLPStartsRegressor
    >>> settings_of(MLPStartsRegressor(8, random_state=0)).hidden_layer_sizes
    (8,)
    """
    return Settings.of(task=estimator.task, **estimator.get_params(deep=False))


Estimator = TypeVar("Estimator", bound=StartsEstimator)


def with_fit(estimator: Estimator, fitted: Fitted) -> Estimator:
    """Return a new estimator with the same parameters, and with a fit."""
    copied: Estimator = clone(estimator)
    copied._take(fitted)
    return copied


def cautions(
    fits: Sequence[Fitted], used: Fitted | None, metric: str | None = None
) -> list[str]:
    """Return the warnings after a fit.

    They name classes that are not tested, metrics that are undefined, and say if nothing
    was learned: of several settings, that none of them beats the constant prediction.

    Parameters
    ----------
    fits : sequence of Fitted
    used : Fitted or None
        The fit whose best start predicts; None if not one start alone does.
    metric : str, optional
        The metric that compares starts.
    """
    classes = fits[0].classes
    names = [] if classes is None else [str(plain(name)) for name in classes]
    sentences = untested(fits[0].problem, names)
    # Leave out settings all of whose starts failed: they beat nothing.
    usable = [one for one in fits if one.usable]
    if usable:
        missing = usable[0].undefined_splits(), usable[0].splits
        one = usable[0]
        sentences += undefined_sentences(one.metric, *missing, one.problem)
        sentences += constant_target(one.problem, one.runs)

    def said(judged: Unbeaten) -> str:
        return "the mean" if judged.answer is None else repr(names[judged.answer])

    record = unbeaten_of_all(usable, metric)
    if record is not None:
        remedy = advice(
            usable[0].problem,
            weighted=record.balanced
            or any(one.settings.class_weight is not None for one in usable),
            weight_classes="give class_weight='balanced'",
        )
        if record.better:
            remedy = LIMIT_THE_FIT
        sentences.append(record.sentence(said(record), remedy))
    if used is not None and used.usable and (record is None or record.better):
        best = used.best_unbeaten(metric)
        if best is not None:
            which = f"start {used.best // used.splits}, which predict uses,"
            sentences.append(best.sentence_of_best(which, said(best)))
    return sentences
