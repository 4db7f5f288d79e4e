"""The low-rank model with the parameters and attributes of a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from descents.cells.intake import plain_array
from descents.cells.streamed import LIMITS
from descents.errors import InvalidValueError
from descents.lowrank import conformal
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
    r"""A table as a product of two thin factors, whatever its columns hold.

    Minimises the loss of the observed cells,
    :math:`\sum_{ij} w_{ij}\, \ell_j(a_i + b_j + u_i^\top v_j,\; x_{ij})`, plus penalties
    on U and V, from one or many starting points, and says how far the result is from
    the best known answer [1]_. Holes (NaN, None, NA, masked, or not stored) have no
    part in the loss and are never filled while fitting.

    Parameters
    ----------
    n_components : int, "auto", sequence of int, or "gavish-donoho"
        The rank, from 1 to min(rows, columns); up to the number of rows where rows are
        shares or sparse, such as clusters. "auto" and a sequence choose it by cells
        that are held out, in `cv` folds, with the one-standard-error rule
        (`descents.lowrank.cross_validation.by_cells`), for a complete table too;
        "gavish-donoho" counts the singular values above the optimal hard threshold
        [2]_, which is for complete squared loss without constraint or penalty.
    loss : "auto", str, Loss, callable, a sequence of one for each column, or a dict
        Numbers: "squared", "absolute", "huber", "quantile", "periodic:24"; two values:
        "logistic", "hinge"; counts and other numbers of 0 or more: "poisson", "kl",
        "itakura_saito", "beta:0.5"; classes: "categorical", "one_vs_all",
        "one_vs_all_hinge"; levels with an order: "ordinal", "ordinal_hinge",
        "bigger_vs_smaller", "bigger_vs_smaller_hinge", "sequential", "ordistic", which
        take numbers, ordered categories of a data frame, and text of a well-known scale
        or with numbers; other text is refused, as the alphabet is not an order. A
        number behind a colon is the width of huber, the level of quantile, the period
        of periodic, the weight of ones in hinge, the exponent of beta. Or a function
        of prediction and target, two tensors of one shape, that returns the loss of
        each cell. "auto" takes squared loss for numbers,
        logistic for two values, categorical for text and ordinal for ordered levels of
        a data frame; a dict of column names overrules it for some.
    offsets : {"auto", "none", "columns", "rows", "both"}
        Column offsets b and row biases a. "auto" is "columns", or "none" where a factor
        is nonnegative (also as shares, or as clusters).
    scales : "auto" or bool
        Whether each column of numbers is divided by its standard deviation before the
        fit, and the loss of each column by that of its best constant, so that the units
        of columns do not count. "auto" does so where columns have different losses, and
        where cells are missing and the standard deviations of columns differ by more
        than a factor of ten, unless a factor has fixed values. The data alone decide,
        the same for a data frame and its array, and `scales_` says why; sparse tables
        and those on disk are never scaled. Penalties,
        row biases and the components are then in units of the standard deviations
        (`units_`); widths and periods of losses are given in those of the data.
        Without it, the unit of the whole table does not count either, except with a
        `learning_rate`.
    constraint : None, str, `Fixed`, or a pair for rows and columns
        What U and V have to be: "nonnegative"; "simplex" (each row of the factor is of
        shares, 0 or more with the sum 1); "unit_norm" (each of its columns has norm 1,
        exactly); "sparse:K" (rows of at most K entries that are not 0); "one_sparse"
        (K of 1); "one_hot" (one entry of 1, the others 0: as U, the clusters of
        k-means); or `Fixed` values, NaN where free. "nonnegative" may be joined to each
        ("nonnegative+sparse:2", or a sequence inside of a pair).
    penalty : None, float, "auto", or dict
        l2 on both factors: l2 (||U||^2 + ||V||^2); or a dict of l1, l2, l1_rows,
        l2_rows, l1_columns, l2_columns, l2_biases and count_power, with which the l1 and
        l2 of a row or column grow with its number of observed cells; and smooth_rows and
        smooth_columns, s in s sum_i ||x_{i+1} - x_i||^2 over neighboring rows of U or
        of V (which shrinks them too, so that the other factor needs a penalty or norm 1
        to hold their size). By default
        (None) complete tables have no penalty, and tables with missing cells the l2 that
        the noise of the table implies, `noise_`: that for which point estimates shrink as
        the model does in which factors are integrated out
        (`descents.lowrank.noise`). It is 0 where there is no noise, and where a factor
        lies in a set or a loss is the user's. Where some predictions are log-odds
        or logarithms, which without one can run to infinity, it is an l2 of a tenth of
        the root of a column's mean number of observed cells, as noise grows with it,
        for complete tables too. 0 is no penalty.
        "auto" is {"l2": "auto"}: l2 is chosen as the rank is, the largest within one
        standard error, together with it where both are open. l2, or l1, may also be a
        sequence of numbers to choose from.
    unseen : {"error", "missing"}
        What `transform`, `impute` and `score` do with a level of a column that the
        model was not fitted with: raise an error, or read the cell as missing, with a
        warning that counts such cells.
    sparse : {"missing", "zero"}
        What an entry is that a sparse table does not store: a hole, or a zero.
    initialization : {"auto", "uniform", "normal", "spectral", "nndsvd", "centers"}
        Or two arrays. "auto" is "normal". Where rows of U are shares or have one entry,
        it is "centers", rows of the table chosen as k-means++ does, save that under other
        losses than squared every second start is normal ("uniform" where rows are
        shares and V is in a set too); under nonnegativity the first two starts are
        "nndsvd"; with holes and squared loss and no penalty
        or other constraint, where a normal start may run off, the first is spectral.
        Arrays are U of shape
        (n_starts, rows, n_components) and V of shape (n_starts, coordinates,
        n_components).
    n_starts : int
        How many starting points are descended from together.
    combine : {"best", "mean"}
        What imputes and scores: the start of least loss, or the mean of the
        predictions of all.
    solver : {"auto", "alternating", "lbfgs", "gd", "adam"} or UpdateRule
        "auto": alternating, where every loss is squared, has a quadratic above it and
        is constrained or not smooth, or for a divergence alone; L-BFGS for other smooth losses without
        constraint; gradient descent that finds its own rate for others, Adam for a
        function of the user's under constraints.
    learning_rate : float, optional
        Of "gd" and "adam"; without it "gd" finds its own.
    cv : int
        In how many parts cells are held out where something is chosen, at least 2.
    held_out : float
        The share of the observed cells, up to 0.5, by which the fit is judged where cells
        are missing or the rank or the penalty is chosen: it is fitted once more without
        them (at most 20,000; of a small table in up to ten folds), and what it says of
        them is compared with the best constants (`scores_`). `impute` fills columns that
        are predicted no better with their constants. The model itself is fitted to all
        cells. 0 does without. Tables on disk are not judged.
    max_iter : int
    tol : float
        A start is stationary when a step can lower its loss by at most ``tol**2`` of
        the loss, so that the parameters are within about `tol` (at least a hundred
        roundings) of the minimum nearby.
    random_state : int, RandomState or None
    device : str
    steps, folds
        .. deprecated:: 0.2
           The former names of `solver` and `cv`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, coordinates)
        V^T in SVD form (orthonormal rows, by falling size, the largest entry of each
        positive) where loss and penalty allow a rotation, else as it was found. A
        column has one coordinate, with categorical loss one for each class. Where
        columns are scaled, it is counted in `units_`.
    embedding_ : ndarray of shape (rows, n_components)
        What `fit_transform` returns.
    offsets_ : ndarray of shape (coordinates,)
        The natural parameters at an embedding of zero.
    row_biases_ : ndarray of shape (rows,)
        The biases of the rows of the fit, with `offsets` of "rows" or "both".
    units_ : ndarray of shape (coordinates,)
        The standard deviation of each column of numbers where columns are scaled,
        else 1:
        ``offsets_ + units_ * (embedding_ @ components_)`` is the prediction.
    loss_ : float
        Of the best start, penalties included.
    gap_ : float
        ``(loss_ - reference_.value) / reference_.value``; NaN where nothing better
        than the best start is known.
    reference_ : Reference
        The best known answer: its value, its kind ("exact", "bound" or "best found")
        and what it says.
    runs_ : Runs
        All starts: losses, statuses, parameters.
    subspace_agreement_ : float or None
        How far the starts find one space of columns: the median over the others of the
        mean squared cosine of the angles to the best's; 1 is the same space.
    solver_ : str
        Which steps were taken.
    n_components_ : int
        The rank, chosen or given.
    selection_ : Selection or None
        The held-out losses and what was chosen by them.
    noise_ : Noise or None
        The default penalty of a table with missing cells, `l2`, and the `share` of the
        variance that is noise; None where that is not what the penalty is from.
    scales_ : str or None
        Why columns are scaled; None where they are not.
    scores_ : dict of ColumnScore or None
        How well each column is predicted, of cells that a fit had not seen.
    judged_ : Judged or None
        The same in full; None where no cells were held out, or fewer than 50 could be.
    constant_columns_ : list of str
        The columns that `impute` fills with their best constants.
    calibration_ : Calibration or None
        What `calibrate` found.
    columns_ : list of ColumnModel
        The loss of each column and why, and the levels that its codes stand for.
    fitted_ : Fitted
        The problem and what was found, for who wants more of it.
    constants_loss_ : float
        The loss of the best constant of each column.
    n_iter_ : int
        Steps of the best start.
    n_features_in_ : int
    feature_names_in_ : ndarray
        Where the table had names.

    Raises
    ------
    InvalidValueError
        With all that is wrong in one message.

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
            Or a `descents.TableOnDisk`, which is read by blocks of rows: once for
            each step, and a few times before and after. It takes squared loss and
            alternating steps.
        y : ignored
        weights : array-like of the shape of X, optional
            At least 0; of a sparse table, a sparse array of the same entries.

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
        """Find how far predictions are from cells that they have not seen.

        A fifth of the observed cells is held out, of each column as much, and a twin of
        this model, of the same rank, penalty and settings, is fitted without them: this
        takes as long as the fit, and changes nothing of it. Its residuals on the cells
        held out are what `impute` makes intervals of; `save` keeps them. To fit again
        forgets them.

        Parameters
        ----------
        X : array-like, masked array or data frame
            The table of the fit; not a sparse one.
        y : ignored
        weights : array-like, optional
            Those of the fit.

        Returns
        -------
        LowRankModel
            Itself.

        Raises
        ------
        InvalidValueError
            When a column has a loss of the user's, the table is sparse, or no cell can
            be held out, as no row and column has another.

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
                "sparse table has none; give a dense table with NaN at the holes"
            )
        conformal.check_scored(self.columns_)
        table = self._coded(X, weights, reset=False)
        found = calibrated(self.fitted_, table, self._settings())
        self.fitted_ = replace(self.fitted_, calibration=found)
        self.calibration_ = found
        return self
