"""The same network from many initial points, as scikit-learn estimators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.class_weight import compute_sample_weight
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
    InvalidValueError,
    RunFolderError,
    one_of,
    real_number,
    whole_number,
)
from descents.data import storage
from descents.descent.loop import EarlyStopping, Stop, Watch
from descents.descent.runs import Runs
from descents.descent.steps import (
    LBFGS,
    Adam,
    AdamW,
    GradientDescent,
    Momentum,
    Step,
)
from descents.descent.workers import Store, descend_in_parts
from descents.estimators.intake import seed_of
from descents.problems.batches import Folds, HoldOut
from descents.problems.modules import Modules
from descents.problems.network import ACTIVATIONS, WEIGHTS, Network
from descents.problems.problem import Parameters
from descents.problems.supervised import Supervised

OPTIMIZERS = ("gd", "momentum", "adam", "adamw", "lbfgs")
PREDICTED_ENTRIES = 2**24
"""How many numbers are kept at once while predicting."""


class _Starts(BaseEstimator):
    """What the classifier and the regressor share."""

    _task = "classification"
    # For the command: what is watched and written down, where, and for how long.
    _watch: Watch | None = None
    _record: Sequence[int] = ()
    _max_seconds: float | None = None
    _threads: int = 1
    _workers: int = 1
    _store: Store | None = None

    def _descend(self, X: np.ndarray, y: np.ndarray, weights: Any) -> None:
        """Build the problem, descend, and keep what came of it."""
        self._check_settings()
        seed = seed_of(self.random_state)
        splits = None
        if self.validation is not None:
            groups = y if self._task == "classification" else np.zeros(len(y))
            splits = validation_of(self.validation).splits(groups, seed)
        decoupled = self.optimizer == "adamw"
        problem = Network(
            X,
            y,
            self.hidden_layer_sizes,
            task=self._task,
            outputs=len(self.classes_) if self._task == "classification" else None,
            activation=self.activation,
            weights=self.initialization,
            splits=splits,
            crossed=True,
            row_weights=weights,
            batch_size=self.batch_size,
            dropout=self.dropout,
            weight_decay=0.0 if decoupled else self.weight_decay,
            seed=seed,
            device=self.device,
        )
        count = len(problem.batches.splits)
        steps = optimizer_named(
            self.optimizer, self.learning_rate, self.weight_decay, splits=count
        )
        self.problem_, self.rule_ = problem, steps
        self.steps_in_epoch_ = problem.batches.steps_in_epoch
        self.runs_ = descend_network(
            problem,
            self.n_starts * count,
            seed,
            steps=steps,
            max_epochs=self.max_epochs,
            early_stopping=self.early_stopping,
            record=self._record,
            watch=self._watch,
            threads=self._threads,
            workers=self._workers,
            store=self._store,
            max_seconds=self._max_seconds,
        )
        self._keep()

    def _keep(self) -> None:
        runs = self.runs_
        if not np.isfinite(runs.losses).any():
            raise InvalidValueError(hopeless(self.optimizer, self.learning_rate))
        self.best_ = int(np.nanargmin(self._merit()))
        self.loss_ = float(runs.losses[self.best_])
        self.n_iter_ = int(np.ceil(runs.steps_taken[self.best_] / self.steps_in_epoch_))

    def _merit(self) -> np.ndarray:
        """Return what the best start has the least of."""
        merit = self.runs_.metrics.get("validation_loss", self.runs_.losses)
        merit = np.where(np.isfinite(self.runs_.losses), merit, np.nan)
        return np.asarray(merit, dtype=np.float64)

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

    def _outputs(self, X: Any) -> np.ndarray:
        """Return what the starts say of rows, combined: logits' softmax, or numbers."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        parameters = self.runs_.parameters
        if self.combine == "best":
            chosen = np.array([self.best_])
        else:
            chosen = np.flatnonzero(np.isfinite(self.runs_.losses))
        working = {
            n: torch.tensor(value[chosen]).to(self.problem_.dtype)
            for n, value in parameters.items()
        }
        return predicted(self.problem_, working, X).mean(0)

    # What the starts tell

    def table(self) -> dict[str, np.ndarray]:
        """Return a column for each fact, a row for each start and split.

        Returns
        -------
        dict of ndarray
            What `pandas.DataFrame` takes: start, split, loss, metrics, epochs, status,
            gradient norm; ``best_epoch`` where a best one was kept.
        """
        check_is_fitted(self)
        count = len(self.problem_.batches.splits)
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

        Parameters
        ----------
        metric : str, optional
            A column of `table`; by default the validation score, or without held-out
            rows the training score.

        Returns
        -------
        ndarray of shape (n_starts,)
        """
        table = self.table()
        metric = self.metric_ if metric is None else metric
        numbers = [n for n, v in table.items() if v.dtype.kind in "biuf"]
        one_of("metric", metric, numbers)
        count = len(self.problem_.batches.splits)
        finite = np.isfinite(table["loss"])
        values = np.where(finite, table[metric].astype(np.float64), np.nan)
        return values.reshape(-1, count).mean(1)

    @property
    def metric_(self) -> str:
        """The score that starts are told apart by."""
        score = "accuracy" if self._task == "classification" else "r2"
        held_out = self.problem_.batches.any_held_out
        return f"{'validation' if held_out else 'training'}_{score}"

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
            quartiles over the starts that have not failed.
        """
        values = self.values(metric)
        values = values[np.isfinite(values)]
        generator = np.random.Generator(np.random.Philox(0))
        return statistics.summary(values, generator, confidence)

    def variance(self, metric: str | None = None) -> dict[str, float | None]:
        """Tell the variance of a metric between starts from that between splits.

        By the method of moments for two crossed factors without repetition: the mean
        square of starts, or of splits, less that of the residual, over the number of
        the other; at least 0.

        Returns
        -------
        dict
            ``starts``, ``splits`` (None with one split) and ``residual``.
        """
        table = self.table()
        metric = self.metric_ if metric is None else metric
        count = len(self.problem_.batches.splits)
        values = table[metric].astype(np.float64)
        values = np.where(np.isfinite(table["loss"]), values, np.nan)
        return compare.crossed_variances(values.reshape(-1, count))

    def diagnose(
        self, starts: Any = None, *, multiples: Sequence[int] = (10, 30)
    ) -> Diagnosis:
        """Say of each start how it ended: why it falls short, or that it does not.

        Those that fall short of what the best reach are trained on, for multiples of
        the epochs.

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
        return diagnose(
            self.problem_,
            self.runs_,
            starts,
            steps=self.rule_,
            multiples=multiples,
            max_seconds=self._max_seconds,
            threads=self._threads,
        )

    # Storing

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one safetensors file, which loads without code.

        Raises
        ------
        InvalidValueError
            When the initialization is a function, which cannot be stored.
        RunFolderError
            When the file cannot be written.
        """
        check_is_fitted(self)
        settings = self.get_params()
        if callable(settings["initialization"]):
            settings["initialization"] = "zero"  # it is not drawn again
        for name, value in settings.items():
            if name == "hidden_layer_sizes" and isinstance(value, list | tuple):
                settings[name] = {"kind": "sizes", "sizes": list(value)}
            if isinstance(value, HoldOut | Folds | EarlyStopping):
                settings[name] = {"kind": type(value).__name__, **vars(value)}
        if not isinstance(settings["random_state"], int | None):
            settings["random_state"] = None
        arrays, runs = self.runs_.stored()
        facts = {
            "format": 1,
            "model": type(self).__name__,
            "settings": settings,
            "names": list(getattr(self, "feature_names_in_", [])),
            "features": self.n_features_in_,
            "outputs": self.problem_.outputs,
            "splits": len(self.problem_.batches.splits),
            "held_out": self.problem_.batches.any_held_out,
            "steps_in_epoch": self.steps_in_epoch_,
            "dtype": str(self.problem_.dtype),
            "runs": runs,
            **self._own_facts(),
        }
        storage.write_tensors(Path(path), arrays, facts)

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
            if facts["model"] != cls.__name__ or facts["format"] != 1:
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
            if isinstance(value, dict) and "kind" in value:
                rest = {n: v for n, v in value.items() if n != "kind"}
                if value["kind"] == "sizes":
                    settings[name] = tuple(rest["sizes"])
                    continue
                settings[name] = kinds[value["kind"]](**rest)
        model = cls(**settings)
        if facts["names"]:
            model.feature_names_in_ = np.array(facts["names"], dtype=object)
        model.n_features_in_ = facts["features"]
        model._take_facts(facts)
        model.runs_ = Runs.restored(arrays, facts["runs"])
        model.steps_in_epoch_ = facts["steps_in_epoch"]
        outputs = facts["outputs"]
        # It knows the shapes, not the rows: as many blank ones as there are splits.
        rows = facts["splits"] + 1
        classes = np.arange(max(rows, outputs)) % max(outputs, 2)
        given = classes if cls._task == "classification" else np.zeros((rows, outputs))
        splits = [
            np.delete(np.arange(len(given)), k)
            if facts["held_out"]
            else np.arange(len(given))
            for k in range(facts["splits"])
        ]
        model.problem_ = Network(
            np.zeros((len(given), facts["features"])),
            given,
            model.hidden_layer_sizes,
            task=cls._task,
            outputs=outputs if cls._task == "classification" else None,
            activation=model.activation,
            splits=splits,
            crossed=True,
            dtype=torch.float32 if facts["dtype"] == "torch.float32" else torch.float64,
        )
        model._keep()
        return model

    def _take_facts(self, facts: dict[str, Any]) -> None:
        """Take what the class alone has from what `save` wrote."""


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
        What a row of each class counts.
    validation : float, HoldOut, Folds or None
        Which rows are held out: a share, as `HoldOut` or k folds. Every start is tried
        on every split.
    early_stopping : int, EarlyStopping or None
        After how many epochs without a lower validation loss a start ends; its best
        epoch is kept.
    n_starts : int
    combine : {"best", "mean"}
        What predicts: the start of least training loss (of least validation loss, where
        rows are held out), or the mean of the probabilities of all (a deep ensemble
        [1]_).
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
        self.n_starts = n_starts
        self.combine = combine
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPStartsClassifier:
        """Train all starts.

        Parameters
        ----------
        X : array-like of shape (rows, features)
        y : array-like of shape (rows,)
            Classes of any type.
        sample_weight : array-like of shape (rows,), optional
            As if the row stood there so often.

        Returns
        -------
        MLPStartsClassifier
            Itself.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidValueError(
                f"y holds one class only, {self.classes_[0]!r}; give two at least"
            )
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if self.class_weight is not None:
            each = compute_sample_weight(self.class_weight, y)
            weights = each if weights is None else weights * each
        self._descend(X, codes, weights)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (rows, classes)."""
        return self._outputs(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each row, shape (rows,)."""
        check_is_fitted(self)
        chosen: np.ndarray = self.classes_[self._outputs(X).argmax(1)]
        return chosen

    def _own_facts(self) -> dict[str, Any]:
        kind = self.classes_.dtype.kind
        return {"classes": self.classes_.tolist(), "class_kind": kind}

    def _take_facts(self, facts: dict[str, Any]) -> None:
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
    batch_size, weight_decay, dropout, validation, early_stopping, n_starts
        As `MLPStartsClassifier` has them.
    combine : {"best", "mean"}
        What predicts: the start of least loss, or the mean of all.
    random_state, device
        As `MLPStartsClassifier` has them.

    Attributes
    ----------
    runs_, best_, loss_, n_iter_, problem_, n_features_in_, feature_names_in_
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
        self.n_starts = n_starts
        self.combine = combine
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks: several numbers may be foretold."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPStartsRegressor:
        """Train all starts.

        Parameters
        ----------
        X : array-like of shape (rows, features)
        y : array-like of shape (rows,) or (rows, outputs)
        sample_weight : array-like of shape (rows,), optional
            As if the row stood there so often.

        Returns
        -------
        MLPStartsRegressor
            Itself.
        """
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
        self._descend(X, y, weights)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the numbers foretold, of the shape that y had."""
        found = self._outputs(X)
        return found[:, 0] if self._single else found

    def _own_facts(self) -> dict[str, Any]:
        return {"single": self._single}

    def _take_facts(self, facts: dict[str, Any]) -> None:
        self._single = facts["single"]


def train_starts(  # noqa: PLR0913
    make_module: Callable[[], torch.nn.Module],
    X: Any,
    y: Any,
    *,
    task: str = "classification",
    n_starts: int = 100,
    optimizer: str = "adam",
    learning_rate: Any = 0.01,
    max_epochs: int = 200,
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    validation: Any = None,
    early_stopping: Any = None,
    batched: bool = True,
    random_state: int = 0,
    device: str = "cpu",
) -> Runs:
    """Train any torch module from many initial points, in one batch.

    Parameters
    ----------
    make_module : callable
        ``make_module()`` returns a `torch.nn.Module` with its parameters drawn, which
        takes rows of features and returns logits, or numbers to foretell.
    X : array-like of shape (rows, features)
    y : array-like
        Classes 0, 1, ..., or numbers.
    task : {"classification", "regression"}
    n_starts : int
    optimizer, learning_rate, max_epochs, batch_size, weight_decay, validation
        As `MLPStartsClassifier` has them; start k is tried on split k modulo their
        count.
    early_stopping
        As `MLPStartsClassifier` has it.
    batched : bool
        False trains start by start: for modules with random layers or batch
        normalization, which in a batch would not be each start's own.
    random_state : int
    device : str

    Returns
    -------
    Runs

    Raises
    ------
    InvalidValueError
        When an argument is wrong, or the module has layers that cannot be batched.

    Examples
    --------
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> make = lambda: torch.nn.Sequential(
    ...     torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
    ... )
    >>> train_starts(make, X, y, n_starts=3, learning_rate=0.05).metrics
    {'training_accuracy': array([1., 1., 1.]), 'dead_units': array([0, 0, 0])}
    """
    complaints = Complaints()
    complaints.attempt(whole_number, "n_starts", n_starts, 1)
    complaints.attempt(whole_number, "max_epochs", max_epochs, 1)
    complaints.attempt(one_of, "optimizer", optimizer, OPTIMIZERS)
    complaints.raise_any()
    splits = None
    if validation is not None:
        groups = np.asarray(y) if task == "classification" else np.zeros(len(y))
        splits = validation_of(validation).splits(groups, random_state)
    problem = Modules(
        make_module,
        X,
        y,
        batched=batched,
        task=task,
        splits=splits,
        batch_size=batch_size,
        weight_decay=0.0 if optimizer == "adamw" else weight_decay,
        seed=random_state,
        device=device,
    )
    return descend_network(
        problem,
        n_starts,
        random_state,
        steps=optimizer_named(optimizer, learning_rate, weight_decay),
        max_epochs=max_epochs,
        early_stopping=early_stopping,
    )


def descend_network(  # noqa: PLR0913
    problem: Supervised,
    count: int,
    seed: int,
    *,
    steps: Step,
    max_epochs: int,
    early_stopping: Any = None,
    record: Sequence[int] = (),
    watch: Watch | None = None,
    threads: int = 1,
    workers: int = 1,
    store: Store | None = None,
    max_seconds: float | None = None,
) -> Runs:
    """Descend from some starts for some epochs."""
    epoch = problem.batches.steps_in_epoch
    early = None
    if early_stopping is not None:
        early = early_stopping_of(early_stopping, epoch)
    return descend_in_parts(
        problem,
        count,
        seed,
        steps=steps,
        stop=Stop(max_epochs * epoch, early=early, max_seconds=max_seconds),
        record=[epoch * number for number in record if number <= max_epochs],
        watch=watch,
        width=min(problem.width, count),
        threads=threads,
        workers=workers,
        store=store,
    )


def optimizer_named(
    name: str, learning_rate: Any, weight_decay: float = 0.0, *, splits: int = 1
) -> Step:
    """Return the update rule of a name.

    Parameters
    ----------
    name : one of `OPTIMIZERS`
    learning_rate : float or sequence of float
        One for all, or one for each start.
    weight_decay : float
        Of "adamw".
    splits : int
        On how many splits each start is tried.

    Examples
    --------
    >>> optimizer_named("adamw", 0.1, 0.5).weight_decay
    0.5
    """
    if name == "lbfgs":
        return LBFGS()
    if np.ndim(learning_rate):
        learning_rate = tuple(np.repeat(np.asarray(learning_rate, float), splits))
    if name == "adamw":
        return AdamW(learning_rate, weight_decay=weight_decay)
    rules: dict[str, Any] = {"gd": GradientDescent, "momentum": Momentum, "adam": Adam}
    rule: Step = rules[name](learning_rate)
    return rule


def check_optimizer(estimator: Any) -> None:
    """Raise unless the optimizer is known and its rate, and what else it needs, right."""
    name, rate = estimator.optimizer, estimator.learning_rate
    one_of("optimizer", name, OPTIMIZERS)
    if name == "lbfgs":
        if estimator.batch_size is not None or estimator.dropout:
            raise InvalidValueError(
                "optimizer is 'lbfgs', which looks at the whole loss at every step; "
                "leave batch_size and dropout out, or give another optimizer"
            )
        return
    rates = np.atleast_1d(np.asarray(rate, dtype=object))
    for one in rates:
        real_number("learning_rate", one, 0, strict=True)
    if np.ndim(rate) and len(rates) != estimator.n_starts:
        raise InvalidValueError(
            f"learning_rate has {len(rates)} rates for {estimator.n_starts} starts; give "
            "one for each, or one for all"
        )


def validation_of(given: Any) -> HoldOut | Folds:
    """Return what is held out: a share stands for `HoldOut`.

    Examples
    --------
    >>> validation_of(0.25)
    HoldOut(share=0.25, repeats=1)
    """
    if isinstance(given, HoldOut | Folds):
        return given
    if isinstance(given, float):
        return HoldOut(given)
    raise InvalidValueError(
        f"validation is {given!r}; give None, a share such as 0.33, HoldOut or Folds"
    )


def early_stopping_of(given: Any, steps_in_epoch: int) -> EarlyStopping:
    """Return how starts are stopped early: a number of epochs stands for the patience.

    Examples
    --------
    >>> early_stopping_of(10, 5).every
    5
    """
    if isinstance(given, EarlyStopping):
        return given
    patience = whole_number("early_stopping", given, 1)
    return EarlyStopping(every=steps_in_epoch, patience=patience)


def hopeless(optimizer: str, learning_rate: Any) -> str:
    """Return what to say when every start failed."""
    if optimizer == "lbfgs":
        return "the loss of every start became infinite or NaN; scale the features"
    highest = float(np.max(learning_rate))
    return (
        f"the loss of every start became infinite or NaN with learning_rate {highest:g}; "
        "give a smaller one, or scale the features"
    )


def predicted(problem: Supervised, parameters: Parameters, X: np.ndarray) -> np.ndarray:
    """Return probabilities, or numbers, of rows by some starts, (S, rows, outputs).

    Few rows of few starts are kept in memory at once.
    """
    count = len(next(iter(parameters.values())))
    widest = max([X.shape[1], *(v[0].numel() for v in parameters.values())])
    size = max(1, PREDICTED_ENTRIES // (count * min(widest, 2**12)))
    found = []
    with torch.no_grad():
        for first in range(0, len(X), size):
            rows = torch.tensor(X[first : first + size], dtype=problem.dtype)
            features = rows.to(problem.device).expand(count, *rows.shape)
            given = {n: v.to(problem.device) for n, v in parameters.items()}
            outputs = problem.predict(given, features).double()
            if problem.classifies:
                outputs = outputs.softmax(-1)
            found.append(outputs.cpu().numpy())
    return np.concatenate(found, 1)
