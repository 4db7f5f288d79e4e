"""The same network from many initial points, as scikit-learn estimators."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from descents.cells.intake import plain_array, seed_of
from descents.diagnosis.diagnosis import diagnose
from descents.diagnosis.verdicts import Diagnosis
from descents.errors import (
    Complaints,
    InterruptedRunError,
    InvalidValueError,
    RunFolderError,
)
from descents.networks.batches import Folds, HoldOut
from descents.networks.network import ACTIVATIONS, WEIGHTS, Network
from descents.networks.scores import SCORES
from descents.networks.training import (
    Unbeaten,
    check_optimizer,
    descend_network,
    early_stopping_of,
    hopeless,
    lone_classes,
    lone_sentence,
    many_failed,
    no_progress,
    optimizer_named,
    predicted,
    remedy_for,
    unbeaten,
    undefined_sentences,
    validation_of,
)
from descents.optim.chunk import Watch
from descents.optim.loop import described
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs
from descents.optim.stopping import EarlyStopping
from descents.optim.workers import Store
from descents.statistics import summaries as statistics
from descents.statistics import variance
from descents.storage import folders as storage
from descents.validation import one_of, real_number, whole_number

SHARED = ("initialization", "learning_rate", "weight_decay", "dropout")
"""The parameters in which estimators that are trained in one batch may differ."""


class _Starts(BaseEstimator):
    """Base class of the classifier and the regressor."""

    _task = "classification"
    # Set by the command: progress, recorded epochs, storage and the time limit.
    _watch: Watch | None = None
    _record: Sequence[int] = ()
    _deadline: float | None = None  # of time.monotonic
    _threads: int | None = None
    _workers: int = 1
    _store: Store | None = None
    problem_: Network
    rule_: UpdateRule
    runs_: Runs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
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
        fit_together([self], X, y, sample_weight)
        self._keep()
        sentence = many_failed(self.failed("loss"))
        if sentence is not None:
            warnings.warn(sentence, ConvergenceWarning, stacklevel=2)
        for line in cautions([self]):
            warnings.warn(line, UserWarning, stacklevel=2)
        return self

    def _network(self, X: np.ndarray, y: np.ndarray, **of_settings: Any) -> Network:
        """Return the problem; it may have settings for other models."""
        splits = None
        seed = seed_of(self.random_state)
        if self.validation is not None:
            groups = y if self._task == "classification" else np.zeros(len(y))
            splits = validation_of(self.validation).splits(groups, seed)
        return Network(
            X,
            y,
            self.hidden_layer_sizes,
            task=self._task,
            outputs=len(self.classes_) if self._task == "classification" else None,
            activation=self.activation,
            splits=splits,
            crossed=True,
            batch_size=self.batch_size,
            seed=seed,
            device=self.device,
            **of_settings,
        )

    def _seconds_left(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def _keep(self) -> None:
        runs = self.runs_
        if not np.isfinite(runs.losses).any():
            raise InvalidValueError(hopeless(self.optimizer, self.learning_rate))
        self.best_ = self._best()
        self.loss_ = float(runs.losses[self.best_])
        self.n_iter_ = int(np.ceil(runs.steps_taken[self.best_] / self.steps_in_epoch_))

    def _best(self) -> int:
        """Return the position in `runs_` of the best start, on its best split.

        The best start has the lowest mean loss over the splits. A start that failed on a
        split comes after all starts that failed on fewer splits.
        """
        runs = self.runs_
        losses = np.asarray(
            runs.metrics.get("validation_loss", runs.losses), np.float64
        )
        defined = np.isfinite(runs.losses) & np.isfinite(losses)
        table = np.where(defined, losses, np.inf).reshape(-1, self.splits_)
        finite = np.isfinite(table)
        total = np.where(finite, table, 0.0).sum(1)
        means = np.divide(
            total, finite.sum(1), out=np.full(len(table), np.inf), where=finite.any(1)
        )
        start = int(np.lexsort((means, -finite.sum(1)))[0])
        return start * self.splits_ + int(table[start].argmin())

    def _check_settings(self) -> None:
        complaints = Complaints()
        sizes = self.hidden_layer_sizes
        sizes = sizes if isinstance(sizes, list | tuple | np.ndarray) else [sizes]
        for size in sizes:
            complaints.attempt(whole_number, "a hidden layer size", size, 1)
        complaints.attempt(one_of, "activation", self.activation, ACTIVATIONS)
        if not callable(self.initialization):
            complaints.attempt(one_of, "initialization", self.initialization, WEIGHTS)
        complaints.attempt(check_optimizer, self)
        complaints.attempt(whole_number, "max_epochs", self.max_epochs, 1)
        complaints.attempt(whole_number, "n_starts", self.n_starts, 1)
        complaints.attempt(real_number, "weight_decay", self.weight_decay, 0)
        complaints.attempt(one_of, "combine", self.combine, ("best", "mean"))
        complaints.attempt(no_progress, self.tol, self.n_iter_no_change, 1)
        complaints.attempt(_check_class_weight, getattr(self, "class_weight", None))
        if self.validation is not None:
            complaints.attempt(validation_of, self.validation)
        if self.early_stopping is not None:
            complaints.attempt(early_stopping_of, self.early_stopping, 1)
            complaints.require(
                self.validation is not None
                or isinstance(self.early_stopping, EarlyStopping),
                "early_stopping needs held-out rows, but validation is None; also give "
                "validation, such as validation=0.33",
            )
        complaints.raise_any()

    def predict_starts(self, X: Any) -> np.ndarray:
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
        return self._outputs(self._rows(X), np.arange(len(self.runs_)))

    def _rows(self, X: Any) -> np.ndarray:
        """Return the rows to predict as a float32 or float64 array."""
        check_is_fitted(self)
        X = plain_array(X)
        rows: np.ndarray = validate_data(
            self, X, reset=False, dtype=[np.float64, np.float32]
        )
        return rows

    def _outputs(self, X: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return the predictions of the chosen starts, shape (S, rows, outputs)."""
        parameters = {
            n: torch.tensor(value[chosen]).to(self.problem_.dtype)
            for n, value in self.runs_.parameters.items()
        }
        outputs = predicted(self.problem_, parameters, X)
        return np.where(
            np.isfinite(self.runs_.losses[chosen])[:, None, None], outputs, np.nan
        )

    def _combined(self, X: np.ndarray) -> np.ndarray:
        """Return the best start's predictions, or the mean of all that did not fail."""
        chosen = np.array([self.best_])
        if self.combine == "mean":
            chosen = np.flatnonzero(np.isfinite(self.runs_.losses))
        return np.asarray(self._outputs(X, chosen).mean(0))

    def unbeaten(self) -> Unbeaten | None:
        """Return a record that no start beats a constant prediction, None if one does.

        Starts are judged by accuracy or R^2, on the held-out rows if there are any; by
        balanced accuracy if classes are weighted.
        """
        check_is_fitted(self)
        if not hasattr(self, "rule_"):
            raise InvalidValueError(
                "the model was loaded from a file, which does not contain the training "
                "rows; fit it first"
            )
        balanced = getattr(self, "class_weight", None) is not None
        return unbeaten(self.problem_, self.runs_, balanced=balanced)

    # Statistics of the starts

    def table(self) -> dict[str, np.ndarray]:
        """Return the results as columns, with a row for each start and split.

        Returns
        -------
        dict of ndarray
            Input for `pandas.DataFrame`: start, split, loss, metrics, epochs, status,
            gradient norm; ``best_epoch`` if the best epoch was kept, ``verdict`` after
            `diagnose` was called.
        """
        check_is_fitted(self)
        count = self.splits_
        columns = dict(self.runs_.table())
        numbers = columns.pop("start")
        table = {"start": numbers // count, "split": numbers % count, **columns}
        table["epochs"] = np.ceil(table.pop("steps_taken") / self.steps_in_epoch_)
        if "best_step" in table:
            best = table.pop("best_step") / self.steps_in_epoch_
            table["best_epoch"] = np.ceil(best)
        return table

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
        return statistics.start_means(*self._of_splits(metric))[0]

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
        return statistics.start_means(*self._of_splits(metric))[1]

    def undefined_splits(self, metric: str | None = None) -> int:
        """Return the number of splits on which a metric is undefined.

        Splits on which all starts failed do not count.

        Parameters
        ----------
        metric : str, optional
            As `values` takes it.
        """
        values, failed = self._of_splits(metric)
        defined = np.isfinite(values) & ~failed
        return int((~defined.any(0) & ~failed.all(0)).sum())

    def _of_splits(self, metric: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Return a metric and which starts failed, both of shape (n_starts, splits)."""
        table = self.table()
        metric = self.metric_ if metric is None else metric
        one_of("metric", metric, self.metric_names())
        values = table[metric].astype(np.float64).reshape(-1, self.splits_)
        return values, ~np.isfinite(table["loss"]).reshape(-1, self.splits_)

    @property
    def metric_(self) -> str:
        """The score by which starts are compared."""
        return self.metric_names()[0]

    def metric_names(self) -> list[str]:
        """Return the columns of `table` that starts can be compared by, score first."""
        score = "accuracy" if self._task == "classification" else "r2"
        names = [f"training_{score}", "loss", "gradient_norm", "initial_gradient_norm"]
        names += ["epochs", "dead_units"]
        more = SCORES if self._task == "classification" else ()
        names += [f"training_{name}" for name in more]
        if self.validation is not None:
            names = [f"validation_{score}", "validation_loss", *names]
            names += [f"validation_{name}" for name in more]
        if self.early_stopping is not None:
            names.append("best_epoch")
        return names

    def interval(
        self, metric: str | None = None, confidence: float = 0.95
    ) -> statistics.Summary:
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
        generator = np.random.Generator(np.random.Philox(0))
        return statistics.summary_of_starts(
            *statistics.start_means(*self._of_splits(metric)), generator, confidence
        )

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
        values, failed = self._of_splits(metric)
        return variance.crossed_variances(np.where(failed, np.nan, values))

    def diagnose(
        self, starts: Any = None, *, multiples: Sequence[int] = (10, 30)
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
        if not hasattr(self, "rule_"):
            raise InvalidValueError(
                "the model was loaded from a file, which does not contain the training "
                "rows; fit it to diagnose it"
            )
        diagnosis = diagnose(
            self.problem_,
            self.runs_,
            starts,
            steps=self.rule_,
            multiples=multiples,
            max_seconds=self._seconds_left(),
            threads=self._threads,
        )
        words = [verdict.word for verdict in diagnosis.verdicts]
        self.runs_ = self.runs_.with_verdicts(diagnosis.starts, words)
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
        try:
            arrays, facts = self._stored()
        except TypeError as error:
            raise InvalidValueError(
                f"the model cannot be saved ({error}); fit it with numbers, text, "
                "booleans or dates"
            ) from None
        storage.write_tensors(Path(path), arrays, facts)

    def _stored(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the fitted model as arrays and plain values."""
        settings = self.get_params()
        if callable(settings["initialization"]):
            settings["initialization"] = "zero"  # a loaded model draws no weights
        if not isinstance(settings["random_state"], int | np.integer | None):
            settings["random_state"] = None
        for name, value in settings.items():
            if isinstance(value, HoldOut | Folds | EarlyStopping):
                fields = {n: storage.typed(v) for n, v in vars(value).items()}
                settings[name] = {"kind": type(value).__name__, **fields}
            else:
                settings[name] = storage.typed(value)
        arrays, runs = self.runs_.stored()
        facts = {
            "format": 2,
            "model": type(self).__name__,
            "settings": settings,
            "names": list(getattr(self, "feature_names_in_", [])),
            "features": self.n_features_in_,
            "outputs": self.problem_.outputs,
            "splits": self.splits_,
            "steps_in_epoch": self.steps_in_epoch_,
            "dtype": str(self.problem_.dtype),
            "runs": runs,
            **self._own_facts(),
        }
        return arrays, facts

    def _own_facts(self) -> dict[str, Any]:
        return {}

    @classmethod
    def load(cls, path: str | Path) -> Any:
        """Load a model that `save` wrote.

        It predicts and has the statistics of its starts, but not the training rows.

        Raises
        ------
        RunFolderError
            If the file cannot be read or has another format.
        """
        arrays, facts = storage.read_tensors(Path(path))
        try:
            if facts["model"] != cls.__name__ or facts["format"] not in (1, 2):
                raise InvalidValueError(f"it does not contain a {cls.__name__}")
            return cls._restored(arrays, facts)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise RunFolderError(
                f"{path} contains no usable model ({error}); give a file that "
                f"{cls.__name__}.save wrote"
            ) from None

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> Any:
        kinds = {kind.__name__: kind for kind in (HoldOut, Folds, EarlyStopping)}
        settings = dict(facts["settings"])
        for name, value in facts["settings"].items():
            kind = value.get("kind") if isinstance(value, dict) else None
            if kind in kinds:
                rest = {n: v for n, v in value.items() if n != "kind"}
                settings[name] = kinds[kind](
                    **{n: storage.of_typed(v) for n, v in rest.items()}
                )
            elif kind == "sizes":  # format 1
                settings[name] = tuple(value["sizes"])
            elif facts["format"] > 1:
                settings[name] = storage.of_typed(value)
        model = cls(**settings)
        if facts["names"]:
            model.feature_names_in_ = np.array(facts["names"], dtype=object)
        model.n_features_in_ = facts["features"]
        model._take_facts(facts)
        model.runs_ = Runs.restored(arrays, facts["runs"])
        model.steps_in_epoch_ = facts["steps_in_epoch"]
        model.splits_ = facts["splits"]
        # The file has no training rows, so the problem gets placeholder rows.
        classes = cls._task == "classification"
        model.problem_ = Network(
            np.zeros((2, facts["features"])),
            [0, 1] if classes else np.zeros((2, facts["outputs"])),
            model.hidden_layer_sizes,
            task=cls._task,
            outputs=facts["outputs"] if classes else None,
            activation=model.activation,
            dtype=torch.float32 if facts["dtype"] == "torch.float32" else torch.float64,
        )
        model._keep()
        return model

    def _take_facts(self, facts: dict[str, Any]) -> None:
        """Restore the attributes that `_own_facts` stored."""

    def _read(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Validate X, y and weights; return rows, class codes or numbers, and weights."""
        raise NotImplementedError

    def _class_weights(self, codes: np.ndarray, weights: Any) -> np.ndarray | None:
        """Return the weight of each class, None if classes are not weighted."""
        return None


class MLPStartsClassifier(ClassifierMixin, _Starts):
    """A neural network classifier trained from many initial points, in one batch.

    From every start separately, it minimizes the weighted mean of the cross-entropy over
    the training rows, plus weight_decay / 2 times the squared weights. Its methods
    summarize how much accuracy depends on the start.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        The width of each hidden layer.
    activation : {"relu", "tanh", "logistic", "gelu"}
    initialization : {"kaiming", "xavier", "normal", "orthogonal", "uniform01", "zero"} or callable
        The distribution of the initial weights. A callable ``f(generator, inputs,
        outputs)`` returns an array of shape (inputs, outputs). Biases start at zero.
    optimizer : {"adam", "adamw", "gd", "momentum", "lbfgs"}
    learning_rate : float or sequence of float
        One rate for all starts, or one per start; "lbfgs" ignores it.
    max_epochs : int
    batch_size : int, optional
        Rows per step; each start has its own order of the rows. By default all rows.
    weight_decay : float
        Decoupled with "adamw" (Loshchilov and Hutter).
    dropout : float
        The probability that a hidden unit is dropped in a step.
    class_weight : dict, "balanced" or None
        The weight of the rows of each class in training and validation losses,
        multiplied by `sample_weight`. Metrics other than losses ignore it, as in
        scikit-learn. "balanced" gives each class the same total weight,
        ``sum(sample_weight) / (classes * sum(sample_weight of the class))``.
    validation : float, HoldOut, Folds or None
        The rows that are held out: a share, `HoldOut` or k folds. Every start is trained
        on every split.
    early_stopping : int, EarlyStopping or None
        Stop a start after this many epochs without a lower validation loss, and return
        its best epoch, even if its loss overflows later. Because the held-out rows choose
        the epoch, the scores on them are somewhat better than on new rows.
    tol : float or None
        Stop a start when its training loss has not fallen by more than `tol` below its
        minimum for more than `n_iter_no_change` epochs in a row, as in scikit-learn's
        `MLPClassifier`. The loss of an epoch is the mean over its mini-batches. None
        trains for `max_epochs`.
    n_iter_no_change : int
        Ignored if `tol` is None.
    n_starts : int
    combine : {"best", "mean"}
        "best" predicts with the start with the lowest training loss (the lowest
        validation loss if rows are held out), "mean" with the mean of the probabilities
        of all starts (a deep ensemble [1]_). With several splits, the best start has the
        lowest mean over the splits, and the split on which it has its lowest loss is used.
    random_state : int, RandomState or None
    device : str

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
    runs_ : Runs
        Losses, metrics, statuses and parameters of all starts on all splits. Number k is
        start k // splits on split k % splits.
    best_ : int
        The position of the best start in `runs_`.
    loss_ : float
        The training loss of the best start.
    n_iter_ : int
        The number of epochs of the best start.
    splits_ : int
        The number of splits that each start is trained on.
    problem_ : Network
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X has column names.

    Raises
    ------
    InvalidValueError
        If parameters or data are invalid (one message lists all problems), or if every
        start failed.

    References
    ----------
    .. [1] Lakshminarayanan, Pritzel and Blundell (2017), "Simple and scalable
       predictive uncertainty estimation using deep ensembles", NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPStartsClassifier(n_starts=20, validation=0.33, random_state=0)
    >>> summary = model.fit(X, y).interval("validation_accuracy")
    >>> summary.count, bool(0.85 < summary.low <= summary.mean <= summary.high <= 1)
    (20, True)
    """

    def __init__(  # noqa: PLR0913
        self,
        hidden_layer_sizes: Any = (12,),
        *,
        activation: str = "relu",
        initialization: Any = "kaiming",
        optimizer: str = "adam",
        learning_rate: Any = 0.01,
        max_epochs: int = 200,
        batch_size: int | None = None,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        class_weight: Any = None,
        validation: Any = None,
        early_stopping: Any = None,
        tol: float | None = None,
        n_iter_no_change: int = 10,
        n_starts: int = 1,
        combine: str = "best",
        random_state: Any = None,
        device: str = "cpu",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.initialization = initialization
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.class_weight = class_weight
        self.validation = validation
        self.early_stopping = early_stopping
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.n_starts = n_starts
        self.combine = combine
        self.random_state = random_state
        self.device = device

    def _read(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        try:
            check_classification_targets(y)
            y = column_or_1d(y, warn=True)
            self.classes_, codes = np.unique(y, return_inverse=True)
        except TypeError:
            kinds = sorted({type(label).__name__ for label in np.ravel(y)})
            raise InvalidValueError(
                f"y contains labels that cannot be sorted, of types {', '.join(kinds)}; "
                "give labels of one type, and leave out rows without a label"
            ) from None
        if len(self.classes_) < 2:
            raise InvalidValueError(
                f"y contains only one class, {storage.plain(self.classes_[0])!r}; give at "
                "least two classes"
            )
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        return X, codes, weights

    def _class_weights(self, codes: np.ndarray, weights: Any) -> np.ndarray | None:
        """Return the weight of each class; "balanced" counts rows by their weights."""
        if self.class_weight is None:
            return None
        balanced = isinstance(self.class_weight, str)
        if not balanced:
            classes = list(self.classes_)
            unknown = [repr(name) for name in self.class_weight if name not in classes]
            if unknown and any(name not in self.class_weight for name in classes):
                names = ", ".join(repr(storage.plain(name)) for name in classes)
                raise InvalidValueError(
                    f"class_weight names {', '.join(unknown)}, which y does not contain; "
                    f"its classes are {names}"
                )
        totals = np.bincount(codes, weights, minlength=len(self.classes_))
        if balanced and not totals.all():  # every row of some class has weight 0
            class_weights = np.ones(len(totals))
            positive = totals > 0
            class_weights[positive] = totals.sum() / (positive.sum() * totals[positive])
            return class_weights
        class_weights = compute_class_weight(
            self.class_weight,
            classes=self.classes_,
            y=self.classes_[codes],
            sample_weight=weights,
        )
        return np.asarray(class_weights, np.float64)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (rows, classes)."""
        return self._combined(self._rows(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row, shape (rows,)."""
        rows = self._rows(X)
        chosen: np.ndarray = self.classes_[self._combined(rows).argmax(1)]
        return chosen

    def _own_facts(self) -> dict[str, Any]:
        return {"classes": storage.typed(self.classes_)}

    def _take_facts(self, facts: dict[str, Any]) -> None:
        if facts["format"] > 1:
            self.classes_ = storage.of_typed(facts["classes"])
            return
        self.classes_ = np.array(
            facts["classes"], dtype=object if facts["class_kind"] == "O" else None
        )


class MLPStartsRegressor(RegressorMixin, _Starts):
    """A neural network regressor trained from many initial points, in one batch.

    From every start separately, it minimizes the weighted mean of the squared error over
    the training rows, plus weight_decay / 2 times the squared weights. Scale targets
    whose size is far from 1 first.

    Parameters
    ----------
    hidden_layer_sizes, activation, initialization, optimizer, learning_rate, max_epochs
        See `MLPStartsClassifier`.
    batch_size, weight_decay, dropout, validation, early_stopping, tol, n_iter_no_change
        See `MLPStartsClassifier`.
    n_starts : int
    combine : {"best", "mean"}
        Predict with the start with the lowest loss, or with the mean of all starts.
    random_state, device
        See `MLPStartsClassifier`.

    Attributes
    ----------
    runs_, best_, loss_, n_iter_, splits_, problem_, n_features_in_, feature_names_in_
        See `MLPStartsClassifier`.

    Raises
    ------
    InvalidValueError
        If parameters or data are invalid (one message lists all problems), or if every
        start failed.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> model = MLPStartsRegressor(n_starts=5, random_state=0).fit(X, np.abs(X[:, 0]))
    >>> bool(model.score(X, np.abs(X[:, 0])) > 0.95)
    True
    """

    _task = "regression"

    def __init__(  # noqa: PLR0913
        self,
        hidden_layer_sizes: Any = (12,),
        *,
        activation: str = "relu",
        initialization: Any = "kaiming",
        optimizer: str = "adam",
        learning_rate: Any = 0.01,
        max_epochs: int = 200,
        batch_size: int | None = None,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        validation: Any = None,
        early_stopping: Any = None,
        tol: float | None = None,
        n_iter_no_change: int = 10,
        n_starts: int = 1,
        combine: str = "best",
        random_state: Any = None,
        device: str = "cpu",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.initialization = initialization
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.validation = validation
        self.early_stopping = early_stopping
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.n_starts = n_starts
        self.combine = combine
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Any:
        """Return the scikit-learn tags: multi-output targets are supported."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _read(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
        )
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        self._single = y.ndim == 1
        return X, y, weights

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted numbers, shaped like y; float32 if X is float32."""
        rows = self._rows(X)
        numbers = self._combined(rows).astype(rows.dtype, copy=False)
        return numbers[:, 0] if self._single else numbers

    def _own_facts(self) -> dict[str, Any]:
        return {"single": self._single}

    def _take_facts(self, facts: dict[str, Any]) -> None:
        self._single = facts["single"]


def _check_class_weight(class_weight: Any) -> None:
    """Raise unless class_weight is a dict of weights, "balanced" or None."""
    complaints = Complaints()
    if isinstance(class_weight, Mapping):
        for name, weight in class_weight.items():
            what = f"class_weight of {storage.plain(name)!r}"
            complaints.attempt(real_number, what, weight, 0)
    else:
        complaints.require(
            class_weight is None
            or (isinstance(class_weight, str) and class_weight == "balanced"),
            f"class_weight is {class_weight!r}; give None, 'balanced', or a dict with the "
            "weight of each class whose weight is not 1",
        )
    complaints.raise_any()


def cautions(models: Sequence[Any]) -> list[str]:
    """Return the warnings after a fit.

    They name classes that are not tested, metrics that are undefined, and say if nothing
    was learned: of several models, that none of them beats the constant prediction.
    """
    first = models[0]
    names = [str(storage.plain(name)) for name in getattr(first, "classes_", ())]
    lone = lone_classes(first.problem_)
    sentences = [lone_sentence([names[code] for code in lone])] if lone else []
    # Leave out settings all of whose starts failed: they beat nothing.
    fitted = [model for model in models if np.isfinite(model.runs_.losses).any()]
    if fitted:
        missing = fitted[0].undefined_splits(), fitted[0].splits_
        sentences += undefined_sentences(fitted[0].metric_, *missing)
    records = [model.unbeaten() for model in fitted]
    if records and all(record is not None for record in records):
        best = max(records, key=lambda record: record.best - record.constant)
        answer = "the mean" if best.answer is None else repr(names[best.answer])
        remedy = remedy_for(fitted[0].problem_)
        remedy = remedy.replace("weight the classes", "give class_weight='balanced'")
        if "balanced" in best.metric:
            remedy = remedy.split("; ")[0]
        sentences.append(best.sentence(answer, remedy))
    return sentences


def fit_together(
    models: Sequence[Any], X: Any, y: Any, sample_weight: Any = None
) -> None:
    """Train the starts of several estimators in one batch.

    The estimators may differ only in the parameters that `SHARED` names. Each learns what
    it would learn alone, up to rounding. If one of them fills a batch, each is trained in
    a batch of its own. A model all of whose starts fail has `runs_` but no best start.

    Raises
    ------
    InvalidValueError
        If a parameter or the data are invalid.
    InterruptedRunError
        If the estimators do not share a batch, and one was interrupted.
    """
    first = models[0]
    for model in models:
        model._check_settings()
    X, y, sample_weight = (plain_array(part) for part in (X, y, sample_weight))
    # Every model validates the data, as each sets its own fitted attributes.
    data = [model._read(X, y, sample_weight) for model in models]
    features, target, weights = data[0]
    coupled = first.optimizer != "adamw"
    problem = first._network(
        features,
        target,
        settings=len(models),
        row_weights=weights,
        class_weights=first._class_weights(target, weights),
        weights=tuple(model.initialization for model in models),
        dropout=tuple(model.dropout for model in models),
        weight_decay=tuple(model.weight_decay if coupled else 0.0 for model in models),
    )
    starts = first.n_starts * len(problem.batches.splits)
    if len(models) == 1 or starts < problem.width:
        _train(problem, models)
        return
    for place, model in enumerate(models):
        _train(problem.of_setting(place), [model])
        if model.runs_.interrupted:
            raise InterruptedRunError("training was interrupted")


def _train(problem: Network, models: Sequence[Any]) -> None:
    """Train the starts of a problem that has one setting per estimator."""
    first, splits = models[0], len(problem.batches.splits)
    runs = descend_network(
        problem,
        first.n_starts * splits * len(models),
        problem.seed,
        steps=optimizer_named(
            first.optimizer, _rates(models), first.weight_decay, splits=splits
        ),
        max_epochs=first.max_epochs,
        early_stopping=first.early_stopping,
        tol=first.tol,
        n_iter_no_change=first.n_iter_no_change,
        record=first._record,
        watch=first._watch,
        threads=first._threads,
        workers=first._workers,
        store=first._store,
        max_seconds=first._seconds_left(),
    )
    settings = problem.batches.setting_of(runs.starts)
    for place, model in enumerate(models):
        model.problem_, model.splits_ = problem.of_setting(place), splits
        model.rule_ = optimizer_named(
            model.optimizer, model.learning_rate, model.weight_decay, splits=splits
        )
        model.steps_in_epoch_ = problem.batches.steps_in_epoch
        own = runs.picked(np.flatnonzero(settings == place))
        model.runs_ = replace(
            own,
            starts=problem.batches.alone(own.starts),
            settings={**runs.settings, "steps": described(model.rule_)},
        )


def _rates(models: Sequence[Any]) -> Any:
    """Return the common learning rate, or one per start and model, starts first."""
    rates = [model.learning_rate for model in models]
    if len(models) == 1 or models[0].optimizer == "lbfgs":
        return rates[0]
    table = np.stack([np.broadcast_to(rate, models[0].n_starts) for rate in rates], 1)
    return rates[0] if (table == table[0, 0]).all() else table.ravel()
