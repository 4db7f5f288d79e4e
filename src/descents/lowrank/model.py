"""The low-rank model with the parameters and attributes of a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from descents.cells.intake import plain_array
from descents.cells.streamed import LIMITS
from descents.errors import InvalidValueError
from descents.lowrank import prediction_intervals
from descents.lowrank.fitting import calibrated, fit
from descents.lowrank.matrices import is_sparse
from descents.lowrank.notices import warn
from descents.lowrank.prediction import UsesFitted
from descents.lowrank.selection import Penalty
from descents.lowrank.settings import (
    PARAMETERS,
    Initialization,
    Settings,
)
from descents.lowrank.stored import FORMER, absent
from descents.optim.rules import UpdateRule
from descents.tables.blocks import TableOnDisk


class LowRank(UsesFitted):
    r"""Low-rank model of a table with columns of any types and missing cells.

    It minimizes the loss of the observed cells,
    :math:`\sum_{ij} w_{ij}\, \ell_j(a_i + b_j + u_i^\top v_j,\; x_{ij})`, plus penalties
    on U and V, from one or many starting points, and compares the result with the best
    known answer [1]_. Missing cells (NaN, None, NA, masked, or not stored) have no part in
    the loss and are never filled while fitting.

    Parameters
    ----------
    n_components : int, "auto", sequence of int, or "gavish-donoho"
        The rank, from 1 to min(rows, columns). If the rows of a factor are shares or
        sparse, such as clusters, it can be as large as their number. "auto" and a sequence
        choose it by held-out cells in `cv` folds, with the one-standard-error rule
        (`descents.lowrank.cross_validation.by_cells`), also for a complete table.
        "gavish-donoho" counts the singular values above the optimal hard threshold [2]_;
        it is for complete tables under squared loss without constraint and penalty.
    loss : "auto", str, Loss, callable, a sequence of one for each column, or a dict
        For numbers: "squared", "absolute", "huber", "quantile", "periodic:24". For two
        values: "logistic", "hinge". For counts and other numbers of 0 or more: "poisson",
        "kl", "itakura_saito", "beta:0.5". For classes: "categorical", "one_vs_all",
        "one_vs_all_hinge". For ordered levels: "ordinal", "ordinal_hinge",
        "bigger_vs_smaller", "bigger_vs_smaller_hinge", "sequential", "ordistic"; they take
        numbers, ordered categories of a data frame, and text with numbers or of a
        well-known scale, but no other text, because the alphabet is not an order. A
        parameter after a colon is the width of huber, the level of quantile, the period of
        periodic, the weight of ones in hinge, or the exponent of beta. A function takes
        predictions and targets, two tensors of one shape, and returns the loss of each
        cell. "auto" is squared loss for numbers, logistic for two values, categorical for
        text and ordinal for ordered levels of a data frame. A dict by column names replaces
        it for some columns.
    offsets : {"auto", "none", "columns", "rows", "both"}
        Column offsets b and row biases a. "auto" is "columns", or "none" if a factor is
        nonnegative (also as shares, or as clusters).
    scales : "auto" or bool
        Whether to divide each column of numbers by its standard deviation before the fit,
        and the loss of each column by that of its best constant, so that the units of
        columns have no effect. "auto" does so if columns have different losses, or if cells
        are missing and the standard deviations differ by more than a factor of ten, unless
        a factor has fixed values or rows of V are shares or clusters, which relate the
        units of columns to each other. This depends on the data alone, whether they are in a
        data frame or an array; `scales_` has the reason. Sparse tables and tables on disk
        are never scaled. Penalties, row biases and components are then in units of the
        standard deviations (`units_`), but widths and periods of losses are in the units of
        the data. Without scales, the unit of the whole table has no effect either, except
        with a `learning_rate`.
    constraint : None, str, `Fixed`, or a pair for rows and columns
        The constraint on U and V: "nonnegative"; "simplex" (each row of the factor has
        shares, which are 0 or more and sum to 1); "unit_norm" (each column of the factor
        has norm 1); "sparse:K" (each row has at most K nonzero entries); "one_sparse" (K is
        1); "one_hot" (each row has one entry of 1 and zeros: for U, the clusters of
        k-means); or `Fixed` values, NaN for free ones. "nonnegative" can be combined with
        each of them ("nonnegative+sparse:2", or a sequence inside of a pair).
    penalty : None, float, "auto", or dict
        A number is l2 on both factors: l2 (||U||^2 + ||V||^2). A dict can have l1, l2,
        l1_rows, l2_rows, l1_columns, l2_columns and l2_biases; count_power, with which the
        l1 and l2 of a row or column grow with its number of observed cells; and smooth_rows
        and smooth_columns, s in s sum_i ||x_{i+1} - x_i||^2 over neighboring rows of U or of
        V. Smoothness shrinks a factor too, so the other factor needs a penalty or norm 1.

        By default (None), complete tables have no penalty, and tables with missing cells
        have the l2 that follows from the noise of the table, `noise_`: with it, point
        estimates shrink as in the model in which factors are integrated out
        (`descents.lowrank.noise`). It is 0 without noise, if a factor lies in a set, and for
        a custom loss. If some predictions are log-odds or logarithms, which can diverge
        without penalty, the default is an l2 of a tenth of the square root of a column's
        mean number of observed cells, also for complete tables. 0 is no penalty. With
        ordistic loss, a number is l2_biases too: with free offsets, a penalty on the
        factors has no effect.

        "auto" is {"l2": "auto"}: l2 is chosen like the rank, and together with it if both
        are open, as the largest within one standard error. l2 or l1 can also be a sequence
        of numbers to choose from.
    unseen : {"error", "missing"}
        What `transform`, `impute` and `score` do with a level of a column that the
        model was not fitted with: raise an error, or read the cell as missing, with a
        warning that counts such cells.
    sparse : {"missing", "zero"}
        What an entry is that a sparse table does not store.
    initialization : {"auto", "uniform", "normal", "spectral", "nndsvd", "centers"}
        The name of an initialization, or two arrays: U of shape (n_starts, rows,
        n_components) and V of shape (n_starts, coordinates, n_components). "auto" is
        "normal", with these exceptions. If rows of U are shares or have one nonzero entry,
        it is "centers", rows of the table chosen by k-means++; under losses other than
        squared, every second start is normal; if rows are shares and V is in a set too, it
        is "uniform". If only V is "one_hot", the centers are columns of the table, and
        every second start is normal. Under nonnegativity, the first two starts are "nndsvd". With missing
        cells and squared loss, and without penalty or other constraint, a normal start may
        diverge, and the first start is "spectral".
    n_starts : int
        The number of starting points.
    combine : {"best", "mean"}
        Whether the start with the smallest loss imputes and scores, or the mean of the
        predictions of all starts.
    solver : {"auto", "alternating", "lbfgs", "gd", "adam"} or UpdateRule
        "auto" is alternating if every loss is squared, if every loss has a quadratic above
        it and is constrained or not smooth, and for a divergence alone. It is L-BFGS for
        other smooth losses without constraint, Adam for a custom loss under constraints,
        and gradient descent with its own step sizes for others.
    learning_rate : float, optional
        For "gd" and "adam". Without it, "gd" finds its own step sizes.
    cv : int
        The number of folds of held-out cells if something is chosen, at least 2.
    held_out : float
        The share of the observed cells, up to 0.5, that are held out to judge the fit, if
        cells are missing or the rank or the penalty is chosen. A second fit without them
        (at most 20,000 cells; for a small table, in up to ten folds) predicts them, and is
        compared with the best constants (`scores_`). `impute` fills columns that are not
        predicted better with their constants. The model itself is fitted to all cells. With
        0, nothing is held out. Fits of tables on disk are not judged.
    max_iter : int
    tol : float
        A start is stationary when a step can lower its loss by at most ``tol**2`` of
        the loss, so that the parameters are within about `tol` (at least 100 rounding
        errors) of a local minimum.
    random_state : int, RandomState or None
    device : str
    steps, folds
        .. deprecated:: 0.2
           The former names of `solver` and `cv`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, coordinates)
        V^T. If loss and penalty allow a rotation, it is in SVD form: orthonormal rows in
        decreasing order, the largest entry of each positive. A column has one coordinate,
        with categorical loss one for each class. If columns are scaled, it is in `units_`.
    embedding_ : ndarray of shape (rows, n_components)
        What `fit_transform` returns.
    offsets_ : ndarray of shape (coordinates,)
        The natural parameters at an embedding of zero.
    row_biases_ : ndarray of shape (rows,)
        The biases of the rows of the fit, with `offsets` of "rows" or "both".
    units_ : ndarray of shape (coordinates,)
        The standard deviation of each column of numbers if columns are scaled, else 1:
        ``offsets_ + units_ * (embedding_ @ components_)`` is the prediction.
    loss_ : float
        The loss of the best start, with penalties.
    gap_ : float
        ``(loss_ - reference_.value) / reference_.value``; NaN if nothing better than the
        best start is known.
    reference_ : Reference
        The best known answer: its value, its kind ("exact", "bound" or "best found") and a
        sentence.
    runs_ : Runs
        All starts: losses, statuses, parameters.
    subspace_agreement_ : float or None
        How far the starts find the same space of columns: the median over the other starts
        of the mean squared cosine of the angles to that of the best; 1 is the same space.
    solver_ : str
        The update rule.
    n_components_ : int
        The rank, chosen or given.
    selection_ : Selection or None
        The held-out losses and what was chosen by them.
    noise_ : Noise or None
        The default penalty of a table with missing cells, `l2`, and the `share` of the
        variance that is noise; None if the penalty does not follow from the noise.
    scales_ : str or None
        Why columns are scaled; None if they are not.
    scores_ : dict of ColumnScore or None
        How well held-out cells of each column are predicted.
    judged_ : Judged or None
        The same in full; None if no cells were held out, or if fewer than 50 could be.
    constant_columns_ : list of str
        The columns that `impute` fills with their best constants.
    calibration_ : Calibration or None
        The scores of held-out cells, from `calibrate`.
    columns_ : list of ColumnModel
        The loss of each column and why, and the levels that its codes stand for.
    fitted_ : Fitted
        The fit with all its parts: problem, starts, and what follows from them.
    constants_loss_ : float
        The loss of the best constant of each column.
    n_iter_ : int
        The number of steps of the best start.
    n_features_in_ : int
    feature_names_in_ : ndarray
        The names of the columns, if the table has any.

    Raises
    ------
    InvalidValueError
        If parameters are invalid, or do not suit the table. The message lists all problems.

    References
    ----------
    .. [1] Udell, Horn, Zadeh and Boyd (2016), "Generalized low rank models",
       Foundations and Trends in Machine Learning 9.
    .. [2] Gavish and Donoho (2014), "The optimal hard threshold for singular values is
       4 / sqrt(3)", IEEE Transactions on Information Theory 60.

    Examples
    --------
    >>> import numpy as np
    >>> from descents import LowRankModel
    >>> table = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 2.0])
    >>> table[1, 2] = np.nan
    >>> model = LowRankModel(n_components=1, offsets="none", random_state=0).fit(table)
    >>> model.impute(table)[1].round(6)
    array([ 2., -2.,  4.])
    >>> bool(model.loss_ < 1e-12)
    True
    """

    def __init__(  # noqa: PLR0913
        self,
        n_components: int | str | Sequence[int] = 2,
        *,
        loss: object = "auto",
        offsets: str = "auto",
        scales: str | bool = "auto",
        constraint: object = None,
        penalty: Penalty = None,
        sparse: str = "missing",
        unseen: str = "error",
        initialization: Initialization = "auto",
        n_starts: int = 1,
        combine: str = "best",
        solver: str | UpdateRule = "auto",
        learning_rate: float | None = None,
        cv: int = 5,
        held_out: float = 0.1,
        max_iter: int = 2000,
        tol: float = 1e-7,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        steps: str | UpdateRule = "deprecated",
        folds: int | str = "deprecated",
    ) -> None:
        self.n_components = n_components
        self.loss = loss
        self.offsets = offsets
        self.scales = scales
        self.constraint = constraint
        self.penalty = penalty
        self.sparse = sparse
        self.unseen = unseen
        self.initialization = initialization
        self.n_starts = n_starts
        self.combine = combine
        self.solver = solver
        self.learning_rate = learning_rate
        self.cv = cv
        self.held_out = held_out
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.device = device
        self.steps = steps
        self.folds = folds

    def _settings(self) -> Settings:
        """Return the parameters, checked and parsed."""
        given = {name: getattr(self, name) for name in PARAMETERS}
        for former, name in FORMER.items():
            if not absent(getattr(self, former)):
                given[name] = getattr(self, former)
        return Settings(**given)

    def fit(self, X: object, y: object = None, *, weights: object = None) -> Self:
        """Fit the model to the observed cells of a table.

        Parameters
        ----------
        X : array-like, masked array, sparse array or data frame, (rows, columns)
            Or a `descents.TableOnDisk`, which is read in blocks of rows: once for each
            step, and a few times before and after. It is for squared loss and alternating
            steps.
        y : ignored
        weights : array-like of the shape of X, optional
            Numbers of at least 0; for a sparse table, a sparse array with the same entries.

        Returns
        -------
        LowRankModel
            Itself.
        """
        self._warn_of_former_names()
        settings = self._settings()
        if isinstance(X, TableOnDisk):
            settings.check_on_disk(weights is not None)
        self._keep(fit(self._coded(X, weights), settings))
        return self

    def _warn_of_former_names(self) -> None:
        for former, name in FORMER.items():
            given = getattr(self, former)
            if not absent(given):
                warn(
                    f"{former} is now called {name}, and the former name will be removed "
                    f"in version 0.4; give {name}={given!r}",
                    FutureWarning,
                )

    def calibrate(self, X: object, y: object = None, *, weights: object = None) -> Self:
        """Calibrate prediction intervals on held-out cells.

        A fifth of the observed cells is held out, with equal parts of each column, and a
        second model (the twin) with the same rank, penalty and settings is fitted without
        them. This takes as long as the fit and does not change the model. `impute` makes
        intervals from the residuals of the twin on the held-out cells. `save` stores them,
        and another `fit` drops them.

        Parameters
        ----------
        X : array-like, masked array or data frame
            The table of the fit. It must not be sparse.
        y : ignored
        weights : array-like, optional
            The weights of the fit.

        Returns
        -------
        LowRankModel
            Itself.

        Raises
        ------
        InvalidValueError
            If a column has a custom loss, the table is sparse, or no cell can be held out
            because no row and column has another.

        Examples
        --------
        >>> from descents import LowRankModel
        >>> from descents.tables.datasets import planted_table
        >>> table = planted_table(60, 12, 1, noise=0.1)[0]
        >>> truth, table[3, 4] = table[3, 4], np.nan
        >>> model = LowRankModel(1, random_state=0).fit(table).calibrate(table)
        >>> filled, found = model.impute(table, return_interval=True, coverage=0.95)
        >>> bool(found.lower[3, 4] < filled[3, 4] < found.upper[3, 4])
        True
        >>> bool(found.lower[3, 4] <= truth <= found.upper[3, 4])
        True
        """
        self._check_fitted()
        X = plain_array(X)
        if isinstance(X, TableOnDisk):
            raise InvalidValueError(
                "X is a table on disk, and intervals are for cells that impute fills, "
                f"but {LIMITS}"
            )
        if is_sparse(X):
            raise InvalidValueError(
                "X is sparse, and intervals are for cells that impute fills, of which a "
                "sparse table has none; give a dense table with NaN at the missing cells"
            )
        prediction_intervals.check_scored(self.columns_)
        table = self._coded(X, weights, reset=False)
        found = calibrated(self.fitted_, table, self._settings())
        self.fitted_ = replace(self.fitted_, calibration=found)
        self.calibration_ = found
        return self
