"""An estimator for sparse ratings, which predicts any cell with its standard deviation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from descents.cells.intake import plain_array, seed_of
from descents.errors import Complaints, InvalidValueError
from descents.marginal.notices import warn_unconverged
from descents.marginal.ratings import FORMAT, RatingsModel, fit_ratings
from descents.marginal.saved import RatingsEstimatorFacts, facts_of, unfitted
from descents.marginal.stored import Arrays
from descents.optim.runs import Runs
from descents.optim.stopping import Stop
from descents.storage.files import write_tensors
from descents.storage.models import read_model
from descents.text import counted
from descents.validation import one_of, real_number, whole_number

UNSEEN = ("missing", "error")


class LowRankRatings(BaseEstimator):
    r"""Predict ratings, or other cells of a table with few observed cells.

    A cell is the sum of a mean, a bias of its row, a bias of its column, the product of
    their factors, and noise. The factors and biases of rows and columns are integrated out
    by variational Bayes [1]_ [2]_. Rows and columns with few cells therefore shrink towards
    the others, and there is no penalty to choose. The rank is estimated: components that
    are not needed are removed. Rows and columns may differ in noise, and which cells are
    observed may depend on their values.

    Parameters
    ----------
    n_components : int, optional
        The number of components at the beginning. By default 20, or fewer if there would
        be more factors than observed cells.
    n_starts : int
        The number of starts, whose predictions are averaged. Each takes the same time, and
        the gain is small.
    max_iter : int
        The maximum number of steps.
    tol : float
        A start has converged if its loss can fall by at most ``tol**2`` nats per cell. The
        default corresponds to about a thousandth of the noise.
    unseen : {"missing", "error"}
        Whether rows and columns after the end of the table of the fit are predicted like
        those without observed cells, with a warning, or are an error.
    random_state : int, RandomState or None
        The seed of the starting points.

    Attributes
    ----------
    n_components_ : int
        The number of components of the best start.
    noise_ : float
        The standard deviation of the noise of a typical row and column.
    runs_ : Runs
        The starts.
    n_iter_ : int
        The number of steps of the best start.
    loss_ : float
        The negative evidence lower bound of the best start, in nats per observed cell, for
        the table scaled to mean 0 and variance 1.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    LowRankModel : A point estimate of the factors, with other losses and constraints.
    LowRankImputer : For tables with mostly observed cells.

    Notes
    -----
    The observed cells and a covariance matrix of the factors of each column are in memory,
    so rows should be the longer side.

    References
    ----------
    .. [1] Lim and Teh (2007), "Variational Bayesian approach to movie rating prediction",
       KDD Cup and Workshop.
    .. [2] Ilin and Raiko (2010), "Practical approaches to principal component analysis in
       the presence of missing values", Journal of Machine Learning Research 11.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from descents import LowRankRatings
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(200, 1)) * rng.normal(size=50) + 3
    >>> i, j = np.nonzero(rng.random(truth.shape) < 0.2)
    >>> seen = truth[i, j] + 0.1 * rng.normal(size=len(i))
    >>> table = sparse.coo_array((seen, (i, j)), shape=truth.shape)
    >>> model = LowRankRatings(random_state=0).fit(table)
    >>> model.n_components_
    1
    >>> mean, std = model.predict_cells([0, 1], [2, 3], return_std=True)
    >>> bool((abs(mean - truth[[0, 1], [2, 3]]) < 3 * std).all())
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_starts: int = 1,
        max_iter: int = 200,
        tol: float = 0.03,
        unseen: str = "missing",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_starts = n_starts
        self.max_iter = max_iter
        self.tol = tol
        self.unseen = unseen
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn's tags: sparse tables and missing cells are accepted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: object, y: object = None) -> Self:
        """Fit the model to the observed cells.

        Parameters
        ----------
        X : sparse array, array-like, masked array or data frame, (rows, columns)
            In a sparse array, the stored entries are observed, including zeros, and all
            other cells are missing. In a dense array, NaN are missing.
        y : ignored

        Returns
        -------
        self
        """
        self._check_settings()
        cells = self._cells(X, reset=True)
        if not cells.nnz:
            raise InvalidValueError(
                "no cell of X is observed; give a sparse array with ratings as its stored "
                "entries"
            )
        self._set_model(
            fit_ratings(
                cells,
                self.n_components,
                starts=self.n_starts,
                seed=seed_of(self.random_state),
                stop=Stop(self.max_iter, self.tol),
            )
        )
        warn_unconverged(self.runs_, "the model", self.max_iter, 3)
        return self

    def _check_settings(self) -> None:
        """Raise one error that reports all wrong settings."""
        complaints = Complaints()
        if self.n_components is not None:
            complaints.attempt(whole_number, "n_components", self.n_components, 0)
        complaints.attempt(whole_number, "n_starts", self.n_starts, 1)
        complaints.attempt(whole_number, "max_iter", self.max_iter, 1)
        complaints.attempt(real_number, "tol", self.tol, 0)
        complaints.attempt(one_of, "unseen", self.unseen, UNSEEN)
        complaints.raise_any()

    def _cells(self, X: object, *, reset: bool) -> sparse.sparray:
        """Return the observed cells of a table as a sparse array of rows."""
        table = plain_array(X)
        if np.ma.isMaskedArray(table):
            table = np.ma.filled(table.astype(np.float64), np.nan)
        table = validate_data(
            self,
            table,
            reset=reset,
            dtype=[np.float64, np.float32],
            accept_sparse=["csr", "csc", "coo"],
            ensure_all_finite="allow-nan",
        )
        if not sparse.issparse(table):
            i, j = np.nonzero(~np.isnan(table))
            return sparse.coo_array((table[i, j], (i, j)), shape=table.shape)
        if not np.isnan(table.data).any():
            return table
        cells = sparse.coo_array(table)
        there = ~np.isnan(cells.data)
        places = tuple(part[there] for part in cells.coords)
        return sparse.coo_array((cells.data[there], places), shape=cells.shape)

    def _set_model(self, model: RatingsModel) -> None:
        """Set the attributes that follow from a fitted model."""
        self.fitted_ = model
        self.runs_: Runs = model.runs
        best = self.runs_.best
        self.n_components_ = int(model.ranks[best])
        self.n_iter_ = int(self.runs_.steps_taken[best])
        self.loss_ = float(self.runs_.losses[best])
        log_noise = float(self.runs_.parameters["noise"][best, 0])
        self.noise_ = float(np.exp(log_noise / 2)) * model.problem.unit

    @overload
    def predict_cells(
        self,
        rows: ArrayLike,
        columns: ArrayLike,
        X: object = None,
        *,
        return_std: Literal[False] = False,
    ) -> np.ndarray: ...

    @overload
    def predict_cells(
        self,
        rows: ArrayLike,
        columns: ArrayLike,
        X: object = None,
        *,
        return_std: Literal[True],
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict_cells(
        self,
        rows: ArrayLike,
        columns: ArrayLike,
        X: object = None,
        *,
        return_std: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the expectations of some cells.

        Parameters
        ----------
        rows, columns : array-like of int, shape (cells,)
            Positions in the table of the fit, from 0, or in X. Observed cells are predicted
            too, without their noise.
        X : as `fit` takes it, optional
            Observed cells of new rows, in the columns of the fit. The model is not fitted
            again: the factors of new rows follow from those of the columns.
        return_std : bool
            Whether standard deviations of observations are returned too. They include the
            noise and the uncertainty of factors and biases.

        Returns
        -------
        mean : ndarray of shape (cells,)
        std : ndarray of shape (cells,)
            Only with ``return_std=True``.
        """
        check_is_fitted(self, "fitted_")
        complaints = Complaints()
        complaints.attempt(one_of, "unseen", self.unseen, UNSEEN)
        complaints.raise_any()
        free = self.unseen == "missing"
        model = self.fitted_
        if X is None:
            found = model.predicted(rows, columns, unseen=free)
        else:
            cells = self._cells(X, reset=False)
            found = model.predicted_new(cells, rows, columns, unseen=free)
        if free:
            self._warn_of_unseen(rows if X is None else [], columns)
        return (found.values, found.deviations) if return_std else found.values

    def _warn_of_unseen(self, rows: ArrayLike, columns: ArrayLike) -> None:
        """Warn of cells in rows or columns that the table of the fit does not have."""
        shape = self.fitted_.problem.cells.shape
        for name, places, size in zip(
            ("row", "column"), (rows, columns), shape, strict=True
        ):
            count = int(np.count_nonzero(np.asarray(places) >= size))
            if count:
                warnings.warn(
                    f"{counted(count, 'cell')} in {name}s from {size} on, which the table "
                    f"of the fit does not have; predicted as a {name} without any "
                    "observed cell",
                    UserWarning,
                    stacklevel=3,
                )

    def score(self, X: object, y: object = None) -> float:
        """Return R^2 of the observed cells of X, predicted from the table of the fit.

        Parameters
        ----------
        X : as `fit` takes it
            Other cells of the table of the fit, and of the same shape.
        y : ignored
        """
        check_is_fitted(self, "fitted_")
        cells = sparse.coo_array(self._cells(X, reset=False))
        shape = self.fitted_.problem.cells.shape
        if cells.shape != shape or not cells.nnz:
            raise InvalidValueError(
                f"X has shape {cells.shape} and {counted(cells.nnz, 'observed cell')}; "
                f"give other cells of the same {shape[0]} rows and {shape[1]} columns"
            )
        off = cells.data - self.fitted_.predicted(*cells.coords).values
        total = float(np.square(cells.data - cells.data.mean()).sum())
        rest = float(np.square(off).sum())
        return 1.0 - rest / total if total > 0 else float(rest == 0)

    def save(self, path: str | Path) -> None:
        """Write the fitted model, with the observed cells, to one file.

        Parameters
        ----------
        path : path
            That of a safetensors file, which `load` and `descents.load` read.

        Raises
        ------
        RunFolderError
            If the file cannot be written.
        """
        check_is_fitted(self, "fitted_")
        arrays, facts = self.fitted_.stored()
        of_estimator = facts_of(self, "LowRankRatings")
        write_tensors(Path(path), arrays, {**facts, **of_estimator})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a model that `save` wrote.

        Raises
        ------
        RunFolderError
            If the file cannot be read, or contains no such model.
        """
        kind = RatingsEstimatorFacts
        return read_model(path, "LowRankRatings", cls._restored, (FORMAT,), kind)

    @classmethod
    def _restored(cls, arrays: Arrays, facts: RatingsEstimatorFacts) -> Self:
        """Return the model from the contents of a file."""
        model = unfitted(cls, facts)
        model._set_model(RatingsModel.restored(arrays, facts))
        model.fitted_.predicted([0], [0])  # fails here if arrays do not belong together
        return model
