"""The same network from many initial points, as scikit-learn estimators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import Tags

from descents.cells.intake import plain_array
from descents.networks.class_weights import ClassWeight
from descents.networks.estimator_base import StartsEstimator, with_fit
from descents.networks.fitted import Fitted
from descents.networks.initialization import Initialization
from descents.networks.rows import exact_target
from descents.networks.splits import Folds, HoldOut
from descents.optim.stopping import EarlyStopping


class MLPStartsClassifier(ClassifierMixin, StartsEstimator):
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
        hidden_layer_sizes: int | Sequence[int] = (12,),
        *,
        activation: str = "relu",
        initialization: str | Initialization = "kaiming",
        optimizer: str = "adam",
        learning_rate: float | Sequence[float] = 0.01,
        max_epochs: int = 200,
        batch_size: int | None = None,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        class_weight: ClassWeight = None,
        validation: float | HoldOut | Folds | None = None,
        early_stopping: int | EarlyStopping | None = None,
        tol: float | None = None,
        n_iter_no_change: int = 10,
        n_starts: int = 1,
        combine: str = "best",
        random_state: int | np.random.RandomState | None = None,
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

    def predict_proba(self, X: object) -> np.ndarray:
        """Return the probability of each class, shape (rows, classes)."""
        return self._combined(self._rows(X))

    def predict(self, X: object) -> np.ndarray:
        """Return the most probable class of each row, shape (rows,)."""
        rows = self._rows(X)
        chosen: np.ndarray = self.classes_[self._combined(rows).argmax(1)]
        return chosen

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return the accuracy on rows with known classes."""
        return float(super().score(X, exact_target(plain_array(y)), sample_weight))


class MLPStartsRegressor(RegressorMixin, StartsEstimator):
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

    task = "regression"

    def __init__(  # noqa: PLR0913
        self,
        hidden_layer_sizes: int | Sequence[int] = (12,),
        *,
        activation: str = "relu",
        initialization: str | Initialization = "kaiming",
        optimizer: str = "adam",
        learning_rate: float | Sequence[float] = 0.01,
        max_epochs: int = 200,
        batch_size: int | None = None,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        validation: float | HoldOut | Folds | None = None,
        early_stopping: int | EarlyStopping | None = None,
        tol: float | None = None,
        n_iter_no_change: int = 10,
        n_starts: int = 1,
        combine: str = "best",
        random_state: int | np.random.RandomState | None = None,
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

    def __sklearn_tags__(self) -> Tags:
        """Return the scikit-learn tags: multi-output targets are supported."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: object) -> np.ndarray:
        """Return the predicted numbers, shaped like y; float32 if X is float32."""
        rows = self._rows(X)
        numbers = self._combined(rows).astype(rows.dtype, copy=False)
        return numbers[:, 0] if self.fitted_.single else numbers


def estimator_of(fitted: Fitted) -> MLPStartsClassifier | MLPStartsRegressor:
    """Return the estimator of a fit, with the settings of the fit as its parameters."""
    parameters = fitted.settings.parameters()
    if fitted.settings.classifies:
        return with_fit(MLPStartsClassifier().set_params(**parameters), fitted)
    return with_fit(MLPStartsRegressor().set_params(**parameters), fitted)
