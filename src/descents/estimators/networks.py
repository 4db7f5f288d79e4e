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

from descents.answers import compare, statistics
from descents.answers.diagnosis import Diagnosis, diagnose
from descents.checks import (
    Complaints,
    InterruptedRunError,
    InvalidValueError,
    RunFolderError,
    one_of,
    real_number,
    whole_number,
)
from descents.data import storage
from descents.descent.chunk import Watch
from descents.descent.loop import described
from descents.descent.runs import Runs
from descents.descent.stopping import EarlyStopping
from descents.descent.workers import Store
from descents.estimators.intake import plain_array, seed_of
from descents.estimators.training import (
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
from descents.problems.batches import Folds, HoldOut
from descents.problems.network import ACTIVATIONS, WEIGHTS, Network
from descents.problems.rules import UpdateRule
from descents.problems.scores import SCORES

SHARED = ("initialization", "learning_rate", "weight_decay", "dropout")
"""In what estimators may differ that are trained in one batch."""


class _Starts(BaseEstimator):
    """What the classifier and the regressor share."""

    _task = "classification"
    # For the command: what is watched and written down, where, and for how long.
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
            The weight of each row, as if the row were repeated so often: in training and
            validation losses and in all metrics. In mini-batches the expected gradient
            is that of the weighted mean.

        Returns
        -------
        MLPStartsClassifier or MLPStartsRegressor
            Itself.
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
        """Return the problem, in some of whose settings other models may take part."""
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
        """Return the place of the start of least mean over splits, where it is least.

        A start that failed on a split comes after all that did on fewer.
        """
        runs = self.runs_
        merit = np.asarray(runs.metrics.get("validation_loss", runs.losses), np.float64)
        known = np.isfinite(runs.losses) & np.isfinite(merit)
        table = np.where(known, merit, np.inf).reshape(-1, self.splits_)
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
                "early_stopping looks at rows that are held out, but validation is None; "
                "give validation=0.33 or so with it",
            )
        complaints.raise_any()

    def predict_starts(self, X: Any) -> np.ndarray:
        """Return what every start says of rows, one after the other.

        Parameters
        ----------
        X : array-like of shape (rows, features)

        Returns
        -------
        ndarray of shape (n_starts splits, rows, outputs)
            Probabilities of the classes, or numbers, in the order of `runs_`; NaN of
            starts that failed.
        """
        return self._outputs(self._rows(X), np.arange(len(self.runs_)))

    def _rows(self, X: Any) -> np.ndarray:
        """Return rows to predict as a float32 or float64 array."""
        check_is_fitted(self)
        X = plain_array(X)
        rows: np.ndarray = validate_data(
            self, X, reset=False, dtype=[np.float64, np.float32]
        )
        return rows

    def _outputs(self, X: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return probabilities or numbers of rows by some starts, (S, rows, outputs)."""
        working = {
            n: torch.tensor(value[chosen]).to(self.problem_.dtype)
            for n, value in self.runs_.parameters.items()
        }
        found = predicted(self.problem_, working, X)
        return np.where(
            np.isfinite(self.runs_.losses[chosen])[:, None, None], found, np.nan
        )

    def _combined(self, X: np.ndarray) -> np.ndarray:
        """Return the best start's answer, or the mean of all that did not fail."""
        chosen = np.array([self.best_])
        if self.combine == "mean":
            chosen = np.flatnonzero(np.isfinite(self.runs_.losses))
        return np.asarray(self._outputs(X, chosen).mean(0))

    def unbeaten(self) -> Unbeaten | None:
        """Return that no start is better than a constant answer, None where one is.

        By accuracy, or R^2, on the rows held out, where there are some; by balanced
        accuracy where classes are weighted.
        """
        check_is_fitted(self)
        if not hasattr(self, "rule_"):
            raise InvalidValueError(
                "the model was read from a file, which has no rows to compare with; fit it"
            )
        balanced = getattr(self, "class_weight", None) is not None
        return unbeaten(self.problem_, self.runs_, balanced=balanced)

    # What the starts tell

    def table(self) -> dict[str, np.ndarray]:
        """Return a column for each fact, a row for each start and split.

        Returns
        -------
        dict of ndarray
            What `pandas.DataFrame` takes: start, split, loss, metrics, epochs, status,
            gradient norm; ``best_epoch`` where a best one was kept, ``verdict`` once
            `diagnose` was asked.
        """
        check_is_fitted(self)
        count = self.splits_
        columns = dict(self.runs_.table())
        numbers = columns.pop("start")
        found = {"start": numbers // count, "split": numbers % count, **columns}
        found["epochs"] = np.ceil(found.pop("steps_taken") / self.steps_in_epoch_)
        if "best_step" in found:
            best = found.pop("best_step") / self.steps_in_epoch_
            found["best_epoch"] = np.ceil(best)
        return found

    def values(self, metric: str | None = None) -> np.ndarray:
        """Return a metric of every start, the mean over its splits; NaN where it failed.

        Splits on which it is not defined are left out: R^2 where all rows held out have
        one target. Where no split defines it, all values are NaN.

        Parameters
        ----------
        metric : str, optional
            A column of `table`; by default the validation score, or without held-out
            rows the training score.

        Returns
        -------
        ndarray of shape (n_starts,)
        """
        return statistics.start_means(*self._of_splits(metric))[0]

    def failed(self, metric: str | None = None) -> np.ndarray:
        """Return which starts failed, so that `values` has no number of theirs.

        The loss of a start that failed became infinite or NaN on a split, or its metric
        did on a split where the metric is defined.

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
        """Return on how many divisions of the rows a metric is not defined.

        Divisions on which all starts failed do not count.

        Parameters
        ----------
        metric : str, optional
            As `values` takes it.
        """
        values, failed = self._of_splits(metric)
        known = np.isfinite(values) & ~failed
        return int((~known.any(0) & ~failed.all(0)).sum())

    def _of_splits(self, metric: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Return a metric and which starts failed, both of shape (n_starts, splits)."""
        table = self.table()
        metric = self.metric_ if metric is None else metric
        one_of("metric", metric, self.metric_names())
        values = table[metric].astype(np.float64).reshape(-1, self.splits_)
        return values, ~np.isfinite(table["loss"]).reshape(-1, self.splits_)

    @property
    def metric_(self) -> str:
        """The score that starts are told apart by."""
        return self.metric_names()[0]

    def metric_names(self) -> list[str]:
        """Return by which columns of `table` starts can be compared, the score first."""
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
        """Say how far a metric depends on the start, with an interval of its mean.

        Parameters
        ----------
        metric : str, optional
            As `values` takes it.
        confidence : float

        Returns
        -------
        Summary
            Count, mean with a bias-corrected bootstrap interval, standard deviation and
            quartiles over the starts that have not failed, and how many have. All are
            NaN where the metric is not defined.
        """
        generator = np.random.Generator(np.random.Philox(0))
        return statistics.summary_of_starts(
            *statistics.start_means(*self._of_splits(metric)), generator, confidence
        )

    def variance(self, metric: str | None = None) -> dict[str, float | None]:
        """Tell the variance of a metric between starts from that between splits.

        By the method of moments for two crossed factors without repetition: the mean
        square of starts, or of splits, less that of the residual, over the number of
        the other; at least 0.

        Returns
        -------
        dict
            ``starts``, ``splits`` (None with one split) and ``residual``. Splits on
            which the metric is not defined are left out.
        """
        values, failed = self._of_splits(metric)
        return compare.crossed_variances(np.where(failed, np.nan, values))

    def diagnose(
        self, starts: Any = None, *, multiples: Sequence[int] = (10, 30)
    ) -> Diagnosis:
        """Say of each start how it ended: why it falls short, or that it does not.

        Those that fall short of what the best reach are trained on, for multiples of
        the epochs. The verdicts are then a column of `table` and of ``runs_.table()``.

        Parameters
        ----------
        starts : iterable of int, optional
            Numbers in `runs_`; by default all.
        multiples : sequence of int

        Returns
        -------
        Diagnosis

        Raises
        ------
        InvalidValueError
            When the model was read back, and has no rows to train on.
        """
        check_is_fitted(self)
        if not hasattr(self, "rule_"):
            raise InvalidValueError(
                "the model was read from a file, which holds no rows to train on; fit it "
                "to diagnose it"
            )
        found = diagnose(
            self.problem_,
            self.runs_,
            starts,
            steps=self.rule_,
            multiples=multiples,
            max_seconds=self._seconds_left(),
            threads=self._threads,
        )
        words = [verdict.word for verdict in found.verdicts]
        self.runs_ = self.runs_.with_verdicts(found.starts, words)
        return found

    # Storing

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one safetensors file, which loads without code.

        Raises
        ------
        InvalidValueError
            When a parameter or the classes are of a type that cannot be stored.
        RunFolderError
            When the file cannot be written.
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
            settings["initialization"] = "zero"  # it is not drawn again
        if not isinstance(settings["random_state"], int | np.integer | None):
            settings["random_state"] = None
        for name, value in settings.items():
            if isinstance(value, HoldOut | Folds | EarlyStopping):
                given = {n: storage.typed(v) for n, v in vars(value).items()}
                settings[name] = {"kind": type(value).__name__, **given}
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
        """Read what `save` wrote: it predicts, and tells of its starts.

        Raises
        ------
        RunFolderError
            When the file cannot be read or is no such file.
        """
        arrays, facts = storage.read_tensors(Path(path))
        try:
            if facts["model"] != cls.__name__ or facts["format"] not in (1, 2):
                raise InvalidValueError(
                    f"it holds something else than a {cls.__name__}"
                )
            return cls._restored(arrays, facts)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise RunFolderError(
                f"{path} holds no model that can be used ({error}); give a file that "
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
            elif kind == "sizes":  # of the first format
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
        # It knows the shapes, not the rows: blank ones stand for them.
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
        """Take what the class alone has from what `save` wrote."""

    def _read(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Return rows, codes or numbers, and weights, seen to be such."""
        raise NotImplementedError

    def _class_weights(self, codes: np.ndarray, weights: Any) -> np.ndarray | None:
        """Return the weight of each class, None where classes are not weighted."""
        return None


class MLPStartsClassifier(ClassifierMixin, _Starts):
    """The same classifying network from many initial points, in one batch.

    Minimises, from every start separately, the weighted mean over its training rows of
    the cross-entropy, plus weight_decay / 2 times the squared weights, and tells how
    far accuracy depends on the start.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        The width of each hidden layer.
    activation : {"relu", "tanh", "logistic", "gelu"}
    initialization : {"kaiming", "xavier", "normal", "orthogonal", "uniform01", "zero"} or callable
        How weights are drawn; ``f(generator, inputs, outputs)`` returns an array of
        that shape. Biases begin at zero.
    optimizer : {"adam", "adamw", "gd", "momentum", "lbfgs"}
    learning_rate : float or sequence of float
        One for all, or one for each start; "lbfgs" has none.
    max_epochs : int
    batch_size : int, optional
        How many rows a step looks at, in an order of each start's own; by default all.
    weight_decay : float
        With "adamw" decoupled, as Loshchilov and Hutter have it.
    dropout : float
        With which probability a hidden unit is left out in a step.
    class_weight : dict, "balanced" or None
        The weight of the rows of each class in training and validation losses,
        multiplied by `sample_weight`; metrics other than losses ignore it, as
        scikit-learn's do. "balanced" gives each class the same total weight,
        ``sum(sample_weight) / (classes * sum(sample_weight of the class))``.
    validation : float, HoldOut, Folds or None
        Which rows are held out: a share, as `HoldOut` or k folds. Every start is tried
        on every split.
    early_stopping : int, EarlyStopping or None
        After how many epochs without a lower validation loss a start ends; its best
        epoch is kept, also where its loss overflows later. As the held-out rows choose
        the epoch, the scores on them are somewhat better than on new rows.
    tol : float or None
        A start ends once its training loss has not fallen by more than this below its
        least for more than `n_iter_no_change` epochs in a row, as in scikit-learn's
        `MLPClassifier`; the loss of an epoch is the mean over its mini-batches. None
        trains for `max_epochs`.
    n_iter_no_change : int
        Has no effect where `tol` is None.
    n_starts : int
    combine : {"best", "mean"}
        What predicts: the start of least training loss (of least validation loss, where
        rows are held out), or the mean of the probabilities of all (a deep ensemble
        [1]_). Of several splits, the start is that of the least mean over them, and the
        split the one on which it has the least.
    random_state : int, RandomState or None
    device : str

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
    runs_ : Runs
        All starts, split by split: losses, metrics, statuses, parameters. Number k is
        start k // splits on split k % splits.
    best_ : int
        The position of the best in `runs_`.
    loss_ : float
        Its training loss.
    n_iter_ : int
        Its epochs.
    splits_ : int
        On how many divisions of the rows each start is tried.
    problem_ : Network
    n_features_in_ : int
    feature_names_in_ : ndarray
        Where X had names.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message; when every start failed.

    References
    ----------
    .. [1] Lakshminarayanan, Pritzel and Blundell (2017), "Simple and scalable
       predictive uncertainty estimation using deep ensembles", NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPStartsClassifier(n_starts=20, validation=0.33, random_state=0)
    >>> found = model.fit(X, y).interval("validation_accuracy")
    >>> found.count, bool(0.85 < found.low <= found.mean <= found.high <= 1)
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
                f"y holds labels that cannot be sorted, of types {', '.join(kinds)}; give "
                "labels of one type, and leave out rows without a label"
            ) from None
        if len(self.classes_) < 2:
            raise InvalidValueError(
                f"y holds one class only, {storage.plain(self.classes_[0])!r}; give two "
                "at least"
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
            known = list(self.classes_)
            unknown = [repr(name) for name in self.class_weight if name not in known]
            if unknown and any(name not in self.class_weight for name in known):
                names = ", ".join(repr(storage.plain(name)) for name in known)
                raise InvalidValueError(
                    f"class_weight names {', '.join(unknown)}, which y does not hold; its "
                    f"classes are {names}"
                )
        each = np.bincount(codes, weights, minlength=len(self.classes_))
        if balanced and not each.all():  # a class all of whose rows weigh nothing
            found = np.ones(len(each))
            found[each > 0] = each.sum() / (np.count_nonzero(each) * each[each > 0])
            return found
        found = compute_class_weight(
            self.class_weight,
            classes=self.classes_,
            y=self.classes_[codes],
            sample_weight=weights,
        )
        return np.asarray(found, np.float64)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (rows, classes)."""
        return self._combined(self._rows(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each row, shape (rows,)."""
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
    """The same network that foretells numbers, from many initial points, in one batch.

    Minimises, from every start separately, the weighted mean over its training rows of
    the squared error, plus weight_decay / 2 times the squared weights. Numbers far from
    the size of 1 are to be scaled before.

    Parameters
    ----------
    hidden_layer_sizes, activation, initialization, optimizer, learning_rate, max_epochs
        As `MLPStartsClassifier` has them.
    batch_size, weight_decay, dropout, validation, early_stopping, tol, n_iter_no_change
        As `MLPStartsClassifier` has them.
    n_starts : int
    combine : {"best", "mean"}
        What predicts: the start of least loss, or the mean of all.
    random_state, device
        As `MLPStartsClassifier` has them.

    Attributes
    ----------
    runs_, best_, loss_, n_iter_, splits_, problem_, n_features_in_, feature_names_in_
        As `MLPStartsClassifier` has them.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message; when every start failed.

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
        """Return what scikit-learn asks: several numbers may be foretold."""
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
        """Return the numbers foretold, of the shape that y had; float32 where X is."""
        rows = self._rows(X)
        found = self._combined(rows).astype(rows.dtype, copy=False)
        return found[:, 0] if self._single else found

    def _own_facts(self) -> dict[str, Any]:
        return {"single": self._single}

    def _take_facts(self, facts: dict[str, Any]) -> None:
        self._single = facts["single"]


def _check_class_weight(given: Any) -> None:
    """Raise unless weights of classes are a dict of weights, "balanced" or None."""
    complaints = Complaints()
    if isinstance(given, Mapping):
        for name, weight in given.items():
            what = f"class_weight of {storage.plain(name)!r}"
            complaints.attempt(real_number, what, weight, 0)
    else:
        complaints.require(
            given is None or (isinstance(given, str) and given == "balanced"),
            f"class_weight is {given!r}; give None, 'balanced', or a dict with the weight "
            "of each class that does not weigh 1",
        )
    complaints.raise_any()


def cautions(models: Sequence[Any]) -> list[str]:
    """Return what to warn of: what is not tested or defined, and that nothing was learned.

    Of several models, that none of them beats the constant answer.
    """
    first = models[0]
    names = [str(storage.plain(name)) for name in getattr(first, "classes_", ())]
    lone = lone_classes(first.problem_)
    found = [lone_sentence([names[code] for code in lone])] if lone else []
    # A setting all of whose starts failed beats nothing.
    well = [model for model in models if np.isfinite(model.runs_.losses).any()]
    if well:
        missing = well[0].undefined_splits(), well[0].splits_
        found += undefined_sentences(well[0].metric_, *missing)
    none = [model.unbeaten() for model in well]
    if none and all(one is not None for one in none):
        best = max(none, key=lambda one: one.best - one.constant)
        answer = "the mean" if best.answer is None else repr(names[best.answer])
        remedy = remedy_for(well[0].problem_)
        remedy = remedy.replace("weight the classes", "give class_weight='balanced'")
        if "balanced" in best.metric:
            remedy = remedy.split("; ")[0]
        found.append(best.sentence(answer, remedy))
    return found


def fit_together(
    models: Sequence[Any], X: Any, y: Any, sample_weight: Any = None
) -> None:
    """Train the starts of some estimators in one batch.

    They may differ in what `SHARED` names; what each learns is what it would learn
    alone, but for rounding. Where one of them fills a batch, each has its own. A model
    all of whose starts fail is left with its `runs_` and no best start.

    Raises
    ------
    InvalidValueError
        When a parameter of one, or the data, cannot be used.
    InterruptedRunError
        When several do not share a batch, and one was interrupted.
    """
    first = models[0]
    for model in models:
        model._check_settings()
    X, y, sample_weight = (plain_array(part) for part in (X, y, sample_weight))
    read = [model._read(X, y, sample_weight) for model in models]
    features, target, weights = read[0]
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
    for place, model in enumerate(models):  # each fills a batch of its own
        _train(problem.of_setting(place), [model])
        if model.runs_.interrupted:
            raise InterruptedRunError("interrupted before its end")


def _train(problem: Network, models: Sequence[Any]) -> None:
    """Train the starts of the settings of a problem, one for each of some estimators."""
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
    """Return the rate of all models, or of each start in each of them."""
    given = [model.learning_rate for model in models]
    if len(models) == 1 or models[0].optimizer == "lbfgs":
        return given[0]
    each = np.stack([np.broadcast_to(rate, models[0].n_starts) for rate in given], 1)
    return given[0] if (each == each[0, 0]).all() else each.ravel()
