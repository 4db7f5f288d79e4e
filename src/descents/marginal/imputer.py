"""A transformer that fills missing cells, in the place of scikit-learn's imputers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from descents.cells import columns
from descents.cells.intake import seed_of
from descents.errors import Complaints, InvalidValueError
from descents.losses import get_loss
from descents.marginal.clipping import Bound, clip_range
from descents.marginal.draws import with_gaussian
from descents.marginal.held_out import ColumnScore, HeldOut
from descents.marginal.incomplete import CompletesTables, Incomplete
from descents.marginal.missing_values import check_mark, is_blank
from descents.marginal.row_weights import row_weights
from descents.marginal.saved import ImputerFacts, check_columns, facts_of, unfitted
from descents.marginal.settings import Settings
from descents.marginal.shown import block_of
from descents.marginal.stored import FORMAT, Arrays, restored, stored
from descents.marginal.tables import TableModel, fit_codes, fit_table
from descents.optim.runs import Runs
from descents.plots.estimators import ShownEstimator
from descents.storage.files import write_tensors
from descents.storage.models import read_model
from descents.tables.frames import Frame
from descents.validation import one_of, real_number, true_or_false, whole_number

LIMITS = ("auto", "observed", "free")
UNSEEN = ("missing", "error")


class LowRankImputer(CompletesTables, TransformerMixin, ShownEstimator):
    r"""Fill missing cells of a table by a Gaussian model of its rows.

    Rows have a normal distribution with any covariance, or one of low rank plus noise. Its
    parameters maximize the likelihood of the observed cells [1]_. The factors of the rows
    are integrated out, so that a row with few observed cells is filled with values near the
    means. Columns of levels are modeled as indicators, and skewed numbers also as normal
    scores. Missing cells are filled with their expectation or their most probable level;
    `sample` draws them [2]_. Observed cells are unchanged.

    Parameters
    ----------
    missing_values : float, str or None
        A value that represents a missing cell. NaN, None, NA, NaT, null of a data frame and
        masked cells of an array always do.
    n_components : int, optional
        The rank of the loadings. By default every covariance is possible, and there is no
        rank to choose.
    strength : float or "auto"
        How much the covariance is shrunk, at least 0. "auto" takes 0 if there are at least
        ten rows for each feature, and otherwise 1 unless 0 or 4 predicts held-out cells
        clearly better.
    n_starts : int
        The number of starts. The first one, where columns are independent, is nearly always
        enough.
    max_iter : int
        The maximum number of steps of EM.
    tol : float
        A start has converged if its loss can fall by at most ``tol**2``.
    sample_posterior : bool
        Whether `transform` fills cells with a draw, the first one of `sample`, in place of
        the expectation.
    n_imputations : int
        The number of tables that `sample` returns.
    min_value, max_value : float, array-like of shape (columns,), or dict of names
        Filled numbers are clipped to these.
    limits : {"auto", "observed", "free"}
        Whether filled numbers are clipped to the observed range of their column. "auto"
        clips expectations but not draws, because clipped draws vary too little.
    add_indicator : bool
        Whether to add a column for each column with missing cells in the fit, which
        indicates where cells are missing.
    keep_empty_features : bool
        Whether columns of an array without observed cells in the fit are kept and filled
        with 0; otherwise they are dropped. Those of a data frame are always kept unchanged.
    unseen : {"missing", "error"}
        Whether levels that did not occur in the fit are filled like missing cells, with a
        warning, or are an error.
    held_out : float
        The share of the observed cells that are held out to judge the model. With 0 there
        are no held-out cells, which is faster.
    refine : bool
        Whether to improve the predictions by a forest for each column with missing cells,
        which takes several times as long. `sample` draws from the model without forests.
    random_state : int, RandomState or None
        The seed of starts, held-out cells and draws. After a fit, draws are the same each
        time.

    Attributes
    ----------
    scores_ : dict
        The errors of the held-out cells of each column, predicted by models that had not
        seen them, and those of the mean or the most frequent level.
    held_out_ : HeldOut or None
        The held-out cells.
    constant_columns_ : list
        The columns that are filled with their mean or most frequent level, because held-out
        cells were not predicted better.
    passed_columns_ : dict
        The columns of a data frame that are returned unchanged, and the reasons.
    n_components_ : int
        The number of components of the loadings.
    strength_ : float
        How much the covariance was shrunk.
    runs_ : Runs
        The starts.
    n_iter_ : int
        The number of steps of the best start.
    loss_ : float
        The penalized negative log likelihood per observed feature of a row.
    gap_ : float
        The difference of the loss from that of `reference_`; NaN if there is none.
    gaps_ : ndarray of shape (n_starts,)
        The same for each start.
    reference_ : str or None
        "the closed form", which is known for complete tables if the covariance is neither
        of low rank nor shrunk; otherwise "the best of the starts", or None if there is one
        start.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    pool : Combines the results of an analysis of several completed tables.
    LowRankModel : A point estimate of the factors of rows and columns.

    References
    ----------
    .. [1] Tipping and Bishop (1999), "Probabilistic principal component analysis",
       Journal of the Royal Statistical Society B 61(3).
    .. [2] Honaker, King and Blackwell (2011), "Amelia II: a program for missing data",
       Journal of Statistical Software 45(7).

    Examples
    --------
    >>> import numpy as np
    >>> from descents import LowRankImputer
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 1)) * [1.0, 2.0, -1.0] + 0.1 * rng.normal(size=(200, 3))
    >>> X[:40, 1] = np.nan
    >>> imputer = LowRankImputer(random_state=0).fit(X)
    >>> filled = imputer.transform([[1.0, np.nan, -1.0]])
    >>> bool(abs(filled[0, 1] - 2) < 0.1)
    True
    >>> imputer.scores_["x1"].error < 0.2 * imputer.scores_["x1"].constant_error
    True
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        missing_values: object = np.nan,
        n_components: int | None = None,
        strength: float | str = "auto",
        n_starts: int = 1,
        max_iter: int = 300,
        tol: float = 1e-3,
        sample_posterior: bool = False,
        n_imputations: int = 5,
        min_value: Bound = -np.inf,
        max_value: Bound = np.inf,
        limits: str = "auto",
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        unseen: str = "missing",
        held_out: float = 0.1,
        refine: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.missing_values = missing_values
        self.n_components = n_components
        self.strength = strength
        self.n_starts = n_starts
        self.max_iter = max_iter
        self.tol = tol
        self.sample_posterior = sample_posterior
        self.n_imputations = n_imputations
        self.min_value = min_value
        self.max_value = max_value
        self.limits = limits
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.unseen = unseen
        self.held_out = held_out
        self.refine = refine
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn's tags: tables with missing cells are accepted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = is_blank(self.missing_values)
        tags.input_tags.string = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _shown(self) -> str:
        return block_of(self.fitted_) if hasattr(self, "fitted_") else ""

    def _validated(self, X: object, *, reset: bool, **settings: object) -> np.ndarray:
        array: np.ndarray = validate_data(self, X, reset=reset, **settings)
        return array

    # Fitting

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> Self:
        """Fit the model to a table.

        Parameters
        ----------
        X : array-like, masked array, tensor or data frame of shape (rows, columns)
            It may have missing cells. Text, booleans and dates need a data frame of
            pandas or polars, or a pyarrow table.
        y : ignored
        sample_weight : array-like of shape (rows,), optional
            At least 0 each; a constant times the weights changes nothing. With w, the
            weights over the mean of those above 0, the fit minimizes the sum over rows of
            w times the negative log likelihood of the observed cells, plus the penalty of
            `strength`. Rows with weight 0 are left out. In `scores_` and `held_out_`,
            every other row counts once.

        Returns
        -------
        self
        """
        self._fit(X, sample_weight, 3)
        return self

    def _fit(self, X: object, sample_weight: object, level: int) -> Incomplete:
        """Fit the model, and return the table as it was read.

        Parameters
        ----------
        X, sample_weight
            As `fit` takes them.
        level : int
            How many calls up the user's code is, for warnings.
        """
        self._seed = seed_of(self.random_state)
        settings = self._settings()
        table = self._incomplete(X, reset=True)
        weights = row_weights(sample_weight, len(table.missing))
        missing = table.missing if weights is None else table.missing[weights > 0]
        self._empty = np.asarray(missing.all(0))
        self._indicated = np.flatnonzero(table.missing.any(0))
        if table.table is not None:
            model = fit_table(table.table, settings, weights)
        else:
            model = self._fit_array(table, settings, weights)
        names = self._names_of(table)
        self._set_model(model, names)
        self._warn(table, names, missing, level)
        return table

    def _settings(self) -> Settings:
        """Return the settings of the model; one error reports all that are wrong."""
        complaints = Complaints()
        complaints.attempt(one_of, "limits", self.limits, LIMITS)
        complaints.attempt(one_of, "unseen", self.unseen, UNSEEN)
        complaints.attempt(check_mark, self.missing_values)
        refine = complaints.attempt(true_or_false, "refine", self.refine)
        for name in ("sample_posterior", "add_indicator", "keep_empty_features"):
            complaints.attempt(true_or_false, name, getattr(self, name))
        complaints.attempt(whole_number, "n_imputations", self.n_imputations, 1)
        complaints.attempt(whole_number, "max_iter", self.max_iter, 1)
        share = complaints.attempt(real_number, "held_out", self.held_out, 0)
        complaints.require(
            share is None or share < 1,
            f"held_out is {self.held_out}; give a number of at least 0 and below 1",
        )
        settings = complaints.attempt(
            lambda: Settings(
                self.n_components,
                self.strength,
                self.n_starts,
                self._seed,
                self.tol,
                held_out=0.0 if share is None else share,
                refine=bool(refine),
            )
        )
        complaints.raise_any()
        return replace(settings, max_steps=self.max_iter)

    def _fit_array(
        self, table: Incomplete, settings: Settings, weights: np.ndarray | None
    ) -> TableModel:
        """Return a model of the columns of an array that have any observed cell."""
        places = np.flatnonzero(~self._empty)
        if not len(places):
            raise InvalidValueError(
                "no column of X has an observed cell; give a table that has some"
            )
        assert table.array is not None  # noqa: S101
        names = [self._names_of(table)[place] for place in places]
        values = np.asarray(table.array[:, places], dtype=np.float64)
        models = columns.of_matrix(values, [get_loss("squared")] * len(places), names)
        return fit_codes(values, tuple(models), settings, weights)

    def _set_model(self, model: TableModel, names: list[str]) -> None:
        """Set the attributes that follow from a model of a table with these columns."""
        fitted = model.fitted
        self.fitted_, self.columns_ = model, list(model.columns)
        modeled = [column.name for column in model.columns]
        self._places = [names.index(name) for name in modeled]
        self.passed_columns_ = {one.name: one.why for one in model.passed}
        self.constant_columns_ = [
            name for name, flat in zip(modeled, fitted.constant, strict=True) if flat
        ]
        self.scores_: dict[str, ColumnScore | None] = dict(
            zip(modeled, fitted.scores, strict=True)
        )
        self.held_out_: HeldOut | None = fitted.held_out
        self.n_components_ = fitted.n_components
        self.strength_ = fitted.setting.strength
        self.runs_: Runs = fitted.runs
        best = self.runs_.best
        self.loss_ = float(self.runs_.losses[best])
        self.n_iter_ = int(self.runs_.steps_taken[best])
        self.reference_: str | None
        least, self.reference_ = model.reference
        self.gaps_ = self.runs_.losses - least
        self.gap_ = float(self.gaps_[best])
        self._low, self._high = clip_range(
            self.min_value,
            self.max_value,
            names,
            dict(zip(self._places, self.columns_, strict=True)),
        )

    # Filling

    def transform(self, X: object) -> np.ndarray | Frame:
        """Return a table with its missing cells filled.

        Parameters
        ----------
        X : array-like, masked array, tensor or data frame of shape (rows, columns)
            The table of the fit, or new rows with the same columns.

        Returns
        -------
        ndarray or data frame
            For a data frame, one of the same library with the same types of columns; for
            an array, one of float64, or of float32 or float16 if X is. Observed cells are
            unchanged.
        """
        self._check_fitted()
        return self._transformed(self._incomplete(X, reset=False))

    def fit_transform(
        self, X: object, y: object = None, sample_weight: object = None
    ) -> np.ndarray | Frame:
        """Fit the model to a table, and return it with its missing cells filled.

        Parameters
        ----------
        X, y, sample_weight
            As `fit` takes them.

        Returns
        -------
        ndarray or data frame
            As `transform` returns it.
        """
        # scikit-learn wraps this method, which is one more call.
        return self._transformed(self._fit(X, sample_weight, 4))

    def sample(self, X: object, m: int | None = None) -> list[np.ndarray | Frame]:
        """Return m completed tables, whose missing cells are drawn.

        For each table, the model is fitted to rows that are drawn with replacement from the
        table of the fit. The missing cells are then drawn from their distribution given
        the observed cells of their row. The differences between the tables therefore
        reflect the uncertainty of the cells and that of the parameters. Analyze each
        table, and combine the results with `pool`.

        Parameters
        ----------
        X : as `transform` takes it
            The table of the fit, or new rows.
        m : int, optional
            By default `n_imputations`.

        Returns
        -------
        list of ndarray or data frame
            As `transform` returns them. Number k is the same whatever m is.

        Examples
        --------
        >>> import numpy as np
        >>> from descents import LowRankImputer
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 1)) + rng.normal(size=(100, 3))
        >>> X[0, 0] = np.nan
        >>> tables = LowRankImputer(random_state=0).fit(X).sample(X, m=3)
        >>> len({table[0, 0] for table in tables})
        3
        """
        self._check_fitted()
        m = whole_number("m", self.n_imputations if m is None else m, 1)
        table = self._incomplete(X, reset=False)
        drawn = self._drawn(table, m)
        return [self._completed(table, values, drawn=True) for values in drawn]

    def _drawn(self, table: Incomplete, count: int) -> Iterator[np.ndarray]:
        """Yield drawn values for the modeled columns of a table, `count` times."""
        limited = self.limits == "observed"
        codes = self._codes(table)
        for values in self.fitted_.draws(codes, count, self._seed, limited=limited):
            yield self._clipped(values)

    def _transformed(self, table: Incomplete) -> np.ndarray | Frame:
        """Return a table with its missing cells filled, with expectations or draws."""
        if self.sample_posterior:
            return self._completed(table, next(self._drawn(table, 1)), drawn=True)
        limited = self.limits != "free"
        cells = self.fitted_.fitted.predicted(self._codes(table), limited=limited)
        return self._completed(table, self._clipped(cells.values), drawn=False)

    def _clipped(self, values: np.ndarray) -> np.ndarray:
        """Return values within `min_value` and `max_value`.

        Those of observed cells are clipped too, but nothing reads them.
        """
        return np.clip(values, self._low, self._high)

    # Storing

    def save(self, path: str | Path) -> None:
        """Write the fitted imputer to one safetensors file, which loads without code.

        The file does not contain the table of the fit, but the models of its
        resampled rows: the loaded imputer can `sample` at most `n_imputations` tables.

        Raises
        ------
        RunFolderError
            If the file cannot be written.
        """
        self._check_fitted()
        models = self.fitted_.resampled(self.n_imputations, self._seed)
        gaussians = [one.model.gaussian for one in models]
        arrays, facts = stored(self.fitted_, gaussians)
        blank = {"missing_values": np.nan} if is_blank(self.missing_values) else {}
        of_imputer: ImputerFacts = {
            **facts_of(self, "LowRankImputer", **blank),
            "gap": self.gap_,
            "reference": self.reference_,
            "seed": self._seed,
            "framed": self._framed,
            "empty": self._empty.tolist(),
            "indicated": self._indicated.tolist(),
            "places": self._places or [],
        }
        write_tensors(Path(path), arrays, {**facts, **of_imputer})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load an imputer that `save` wrote.

        Raises
        ------
        RunFolderError
            If the file cannot be read, or contains no imputer.
        """
        kind = ImputerFacts
        return read_model(path, "LowRankImputer", cls._restored, (FORMAT,), kind)

    @classmethod
    def _restored(cls, arrays: Arrays, facts: ImputerFacts) -> Self:
        """Return the imputer from the contents of a file."""
        imputer = unfitted(cls, facts)
        imputer._restore(arrays, facts)
        return imputer

    def _restore(self, arrays: Arrays, facts: ImputerFacts) -> None:
        """Set the attributes of the fit that `save` stored."""
        check_columns(facts)
        self._seed, self._framed = facts["seed"], facts["framed"]
        self._empty = np.array(facts["empty"], dtype=bool)
        self._indicated = np.array(facts["indicated"], dtype=np.int64)
        model, gaussians = restored(arrays, {**facts, "model": "TableModel"})
        models = tuple(with_gaussian(model.fitted, one) for one in gaussians)
        names = facts["names"] or self._names(self.n_features_in_)
        self._set_model(replace(model, models=models), names)
        # The reference is not computed again: the file does not have the table of the fit.
        self.gap_ = np.nan if facts["gap"] is None else facts["gap"]
        self.gaps_ = self.runs_.losses - self.loss_ + self.gap_
        self.reference_ = facts.get("reference")
