"""A transformer that fills missing cells, in the place of scikit-learn's imputers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import validate_data

from descents.cells import columns, encoding
from descents.cells.intake import (
    ReadsTables,
    convergence_warning,
    is_frame,
    plain_array,
    seed_of,
)
from descents.errors import Complaints, InvalidValueError
from descents.losses import get_loss
from descents.marginal import saved
from descents.marginal.draws import with_gaussian
from descents.marginal.held_out import ColumnScore, HeldOut
from descents.marginal.model import Settings
from descents.marginal.stored import restored, stored
from descents.marginal.tables import TableModel, fit_codes, fit_table
from descents.optim.runs import Runs, Status
from descents.storage.files import write_tensors
from descents.tables.frames import given_back
from descents.tables.spelling import listed
from descents.tables.tables import Table, from_frame
from descents.tables.typed_columns import Column
from descents.text import counted, visible
from descents.validation import one_of, real_number, whole_number

LIMITS = ("auto", "observed", "free")
UNSEEN = ("missing", "error")


@dataclass(frozen=True, eq=False)
class Taken:
    """A table as it was given.

    Attributes
    ----------
    table : Table or None
        That of a data frame; None of an array.
    array : ndarray or None
        That of an array, NaN where a cell is missing.
    lacking : bool ndarray of shape (rows, columns)
    """

    table: Table | None
    array: np.ndarray | None
    lacking: np.ndarray


class LowRankImputer(
    ReadsTables, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    r"""Fill missing cells of a table by a Gaussian model of its rows.

    The rows are normal with a covariance of low rank plus noise, or of any form by
    default, whose parameters maximize the likelihood of the observed cells [1]_. The
    factors of the rows are integrated out, so that a row with few observed cells is
    filled with values near the means. Columns of levels enter as indicators, skewed
    numbers also as normal scores. Missing cells are filled with their expectation, or
    with their most probable level; `sample` draws them [2]_. What was observed is
    returned as it was.

    Parameters
    ----------
    missing_values : float, str or None
        What stands for a missing cell, beside what always does: NaN, None, NA, NaT and
        null of a data frame, masked cells of an array.
    n_components : int, optional
        The rank of the loadings. By default every covariance is possible, so that there
        is no rank to choose.
    strength : float or "auto"
        How much the covariance is shrunk, at least 0. "auto" takes 0 where there are ten
        rows or more for each feature, and otherwise what predicts held-out cells best.
    n_starts : int
        How many starting points. The first, the independent model, is nearly always
        enough.
    max_iter : int
        The largest number of steps of EM.
    tol : float
        A start has converged when a step can lower its loss by at most ``tol**2``.
    sample_posterior : bool
        Whether `transform` fills cells with a draw, the first that `sample` gives, in
        place of the expectation.
    n_imputations : int
        How many tables `sample` returns.
    min_value, max_value : float, array-like of shape (columns,), or dict of names
        Filled numbers are clipped to these.
    limits : {"auto", "observed", "free"}
        Whether filled numbers are kept within the observed range of their column. "auto"
        does so for the expectation, and leaves draws free, as they would otherwise vary
        too little.
    add_indicator : bool
        Whether a column is added for each column that had missing cells in the fit, which
        says where cells are missing.
    keep_empty_features : bool
        Whether columns of an array that had no observed cell in the fit are kept and
        filled with 0; otherwise they are dropped. Those of a data frame are always kept
        as they are.
    unseen : {"missing", "error"}
        Whether levels that did not occur in the fit are filled as missing cells are, with
        a warning, or refused.
    held_out : float
        The share of the observed cells that the columns are judged by; 0 for none, which
        is quicker.
    refine : bool
        Whether a forest for each column with missing cells improves on the model, which
        takes several times as long. `sample` draws from the model without the forests.
    random_state : int, RandomState or None
        Of starts, held-out cells and draws. After a fit, draws are the same each time.

    Attributes
    ----------
    scores_ : dict
        How well the held-out cells of each column were predicted by models that had not
        seen them, and how well by the mean or the most frequent level.
    held_out_ : HeldOut or None
        These cells.
    constant_columns_ : list
        The columns that are filled with their mean or most frequent level, as held-out
        cells were not predicted better than by these.
    passed_columns_ : dict
        The columns of a data frame that are returned as they were, and why.
    n_components_ : int
        How many components the loadings have.
    strength_ : float
        How much the covariance was shrunk.
    runs_ : Runs
        The starts.
    n_iter_ : int
        The steps of the best start.
    loss_ : float
        The penalized negative log likelihood for each observed feature of a row.
    gap_ : float
        By how much the loss is above that of `reference_`; NaN where there is none.
    gaps_ : ndarray of shape (n_starts,)
        The same of each start.
    reference_ : str or None
        "the closed form", which is known for complete tables without `n_components` and
        `strength`; else "the best of the starts", or None where there is one start.
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

    fitted_: TableModel
    _empty: np.ndarray
    """Which columns of the fit have no observed cell."""
    _framed: bool
    """Whether the model was fitted to a data frame."""

    def __init__(  # noqa: PLR0913
        self,
        *,
        missing_values: Any = np.nan,
        n_components: int | None = None,
        strength: float | str = "auto",
        n_starts: int = 1,
        max_iter: int = 300,
        tol: float = 1e-3,
        sample_posterior: bool = False,
        n_imputations: int = 5,
        min_value: Any = -np.inf,
        max_value: Any = np.inf,
        limits: str = "auto",
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        unseen: str = "missing",
        held_out: float = 0.1,
        refine: bool = False,
        random_state: Any = None,
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

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn requests: missing cells are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = _is_blank(self.missing_values)
        tags.input_tags.string = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validated(self, X: Any, **settings: Any) -> Any:
        return validate_data(self, X, **settings)

    # Fitting

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model to a table.

        Parameters
        ----------
        X : array-like, masked array, tensor or data frame of shape (rows, columns)
            Missing cells are welcome. Text, booleans and dates need a data frame of
            pandas or polars, or a pyarrow table.
        y : ignored
        sample_weight : array-like of shape (rows,), optional
            At least 0 each.

        Returns
        -------
        self
        """
        self._fit(X, sample_weight, 3)
        return self

    def _fit(self, X: Any, sample_weight: Any, level: int) -> Taken:
        """Fit the model, and return the table as it was read."""
        self._seed = seed_of(self.random_state)
        settings = self._settings()
        taken = self._taken(X, reset=True)
        weights = _weights(sample_weight, taken.lacking)
        lacking = taken.lacking if weights is None else taken.lacking[weights > 0]
        self._empty = np.asarray(lacking.all(0))
        self._indicated = np.flatnonzero(taken.lacking.any(0))
        if taken.table is not None:
            model = fit_table(taken.table, settings, weights)
        else:
            model = self._fit_array(taken.array, settings, weights)
        names = self._names_of(taken)
        self._places = [names.index(column.name) for column in model.columns]
        self._keep(model)
        self._low, self._high = self._bounds(names)
        self._warn(names, lacking, level)
        return taken

    def _settings(self) -> Settings:
        """Return the settings of the model, or refuse all that are wrong together."""
        complaints = Complaints()
        complaints.attempt(one_of, "limits", self.limits, LIMITS)
        complaints.attempt(one_of, "unseen", self.unseen, UNSEEN)
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
                refine=bool(self.refine),
            )
        )
        complaints.raise_any()
        return replace(settings, max_steps=self.max_iter)

    def _fit_array(
        self, array: Any, settings: Settings, weights: np.ndarray | None
    ) -> TableModel:
        """Return a model of the columns of an array that have any observed cell."""
        kept = np.flatnonzero(~self._empty)
        if not len(kept):
            raise InvalidValueError(
                "no column of X has an observed cell; give a table that has some"
            )
        names = np.array(self._names(array.shape[1]), dtype=object)[kept]
        values = np.asarray(array[:, kept], dtype=np.float64)
        models = columns.of_matrix(
            values, [get_loss("squared")] * len(kept), list(names)
        )
        return fit_codes(values, tuple(models), settings, weights)

    def _keep(self, model: TableModel) -> None:
        """Set what is known of a fitted model."""
        fitted = model.fitted
        self.fitted_, self.columns_ = model, list(model.columns)
        names = [column.name for column in model.columns]
        self.passed_columns_ = {one.name: one.why for one in model.passed}
        self.constant_columns_ = [
            name for name, flat in zip(names, fitted.constant, strict=True) if flat
        ]
        self.scores_: dict[str, ColumnScore | None] = dict(
            zip(names, fitted.scores, strict=True)
        )
        self.held_out_: HeldOut | None = fitted.held_out
        self.n_components_, self.strength_ = (
            fitted.n_components,
            fitted.setting.strength,
        )
        self.runs_: Runs = fitted.runs
        best = self.runs_.best
        self.loss_ = float(self.runs_.losses[best])
        self.n_iter_ = int(self.runs_.steps_taken[best])
        self.reference_: str | None
        least, self.reference_ = model.reference
        self.gaps_ = self.runs_.losses - least
        self.gap_ = float(self.gaps_[best])

    def _warn(self, names: list[str], lacking: np.ndarray, level: int) -> None:
        """Say which columns are not modeled, or not predicted, and what did not converge."""
        for sentence in self._remarks(names, lacking):
            warnings.warn(sentence, UserWarning, stacklevel=level + 1)
        ended = {Status.STATIONARY, Status.SETTLED}
        if not ended & set(self.runs_.statuses):
            warnings.warn(
                f"EM has not converged after {counted(self.max_iter, 'step')}; raise "
                "max_iter or tol",
                convergence_warning(),
                stacklevel=level + 1,
            )

    def _remarks(self, names: list[str], lacking: np.ndarray) -> list[str]:
        """Return what the caller should know of the columns."""
        found = []
        passed = {
            name: why
            for name, why in self.passed_columns_.items()
            if not self._empty[names.index(name)]
        }
        if passed:
            shown = "; ".join(
                f"{name!r} {why}" for name, why in list(passed.items())[:5]
            )
            more = f"; and {len(passed) - 5} more" if len(passed) > 5 else ""
            found.append(
                f"{counted(len(passed), 'column')} cannot be modeled, and "
                f"{'is' if len(passed) == 1 else 'are'} returned without a change: "
                f"{visible(shown)}{more}"
            )
        empty = [name for name, blank in zip(names, self._empty, strict=True) if blank]
        if empty:
            of_frame = bool(self._framed)
            kept = "filled with 0" if self.keep_empty_features else "dropped"
            found.append(
                f"{counted(len(empty), 'column')} without any observed cell "
                f"{'is' if len(empty) == 1 else 'are'} "
                f"{'kept, still missing' if of_frame else kept}: {listed(empty)}"
            )
        flat = [
            name
            for name in self.constant_columns_
            if lacking[:, names.index(name)].any()
        ]
        judged = [one for one in self.scores_.values() if one is not None]
        if judged and all(one.difference >= 0 for one in judged):
            found.append(
                "held-out cells of no column were predicted better than by the mean or "
                "the most frequent level of the column; what is filled in says little more "
                "than these"
            )
        elif flat:
            found.append(
                f"{counted(len(flat), 'column')} {'is' if len(flat) == 1 else 'are'} "
                "filled with the mean or the most frequent level, as held-out cells were "
                f"not predicted better: {listed(flat)}"
            )
        return found

    # Filling

    def transform(self, X: Any) -> Any:
        """Return a table with its missing cells filled.

        Parameters
        ----------
        X : array-like, masked array, tensor or data frame of shape (rows, columns)
            The table of the fit, or new rows with the same columns.

        Returns
        -------
        ndarray or data frame
            A data frame is returned as one of the same library, with the same types of
            columns; an array as an array of float64, or of float32 if it was. Observed
            cells are unchanged.
        """
        self._check_fitted()
        return self._transformed(self._taken(X, reset=False))

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
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
        return self._transformed(
            self._fit(X, sample_weight, 4)
        )  # scikit-learn wraps it

    def sample(self, X: Any, m: int | None = None) -> list[Any]:
        """Return m completed tables, whose missing cells are drawn.

        For each, the model is fitted to rows that are drawn with replacement from the
        table of the fit, and the missing cells are then drawn from their distribution
        given the observed cells of their row. So the tables differ by what the
        observed cells leave open and by how uncertain the parameters are. Analyze each
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
        taken = self._taken(X, reset=False)
        return [self._returned(taken, values, True) for values in self._drawn(taken, m)]

    def _drawn(self, taken: Taken, count: int) -> Any:
        limited = self.limits == "observed"
        codes = self._codes(taken)
        for values in self.fitted_.draws(codes, count, self._seed, limited=limited):
            yield self._clipped(values)

    def _transformed(self, taken: Taken) -> Any:
        if self.sample_posterior:
            return self._returned(taken, next(self._drawn(taken, 1)), True)
        limited = self.limits != "free"
        found = self.fitted_.fitted.predicted(self._codes(taken), limited=limited)
        return self._returned(taken, self._clipped(found.values), False)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, optional
            By default those of the fit.

        Returns
        -------
        ndarray of str
        """
        self._check_fitted()
        names = super().get_feature_names_out(input_features)
        added = [f"missingindicator_{names[place]}" for place in self._indicated]
        kept = names[self._kept]
        if not self.add_indicator:
            return kept
        return np.concatenate([kept, np.array(added, dtype=object)])

    # Reading and returning tables

    def _taken(self, X: Any, *, reset: bool) -> Taken:
        """Return a table as it was given, and where its cells are missing."""
        X = plain_array(X)
        if isinstance(X, Table) or is_frame(X):
            return self._taken_frame(X, reset=reset)
        if hasattr(X, "tocsr"):
            raise InvalidValueError(
                "X is sparse, and filling what it does not store would make it dense; "
                "give a dense array with NaN where a cell is missing"
            )
        other = not _is_blank(self.missing_values)
        if (
            isinstance(X, list | tuple)
            or getattr(getattr(X, "dtype", None), "kind", "") == "O"
        ):
            X = _none_as_nan(X)
        array = self._clean(X, reset=reset)
        if other:
            if not np.ma.isMaskedArray(X) and np.isnan(array).any():
                raise InvalidValueError(
                    f"X holds NaN, but missing_values is {self.missing_values!r}; give "
                    "missing_values=np.nan, or no NaN"
                )
            array = np.where(array == self.missing_values, np.nan, array)
        if reset:
            self._framed = False
        return Taken(None, array, np.isnan(array))

    def _taken_frame(self, X: Any, *, reset: bool) -> Taken:
        """Return the table of a data frame."""
        table = X if isinstance(X, Table) else from_frame(X)
        if not isinstance(X, Table):
            self._validated(X, reset=reset, skip_check_array=True)
        elif reset:
            names = [column.name for column in table.columns]
            self.feature_names_in_ = np.array(names, dtype=object)
            self.n_features_in_ = len(names)
        if not _is_blank(self.missing_values):
            marked = (_without(column, self.missing_values) for column in table.columns)
            table = replace(table, columns=tuple(marked))
        lacking = np.column_stack([np.isnan(column.values) for column in table.columns])
        if reset:
            self._framed = True
        elif not self._framed:
            # The model knows places, not the names of this frame.
            array = np.column_stack([_as_numbers(column) for column in table.columns])
            return Taken(None, array, np.isnan(array))
        return Taken(table, None, lacking)

    def _names_of(self, taken: Taken) -> list[str]:
        """Return the names of the columns of the table of the fit."""
        if taken.table is not None:
            return [column.name for column in taken.table.columns]
        assert taken.array is not None  # noqa: S101
        return self._names(taken.array.shape[1])

    def _codes(self, taken: Taken) -> np.ndarray:
        """Return the modeled columns of a table as numbers and codes."""
        if taken.table is not None:
            codes, unseen = self.fitted_.codes(taken.table)
            if self.unseen == "error":
                complaints = Complaints()
                for one in unseen:
                    complaints.require(False, f"{one.says}; {encoding.UNSEEN}")
                complaints.raise_any()
            for one in unseen:
                warnings.warn(
                    f"{one.says}; these cells are filled as if they were missing",
                    UserWarning,
                    stacklevel=5,
                )
            return codes
        assert taken.array is not None  # noqa: S101
        part = np.asarray(taken.array[:, self._places], dtype=np.float64)
        return self._codes_of_array(part)

    def _returned(self, taken: Taken, values: np.ndarray, drawn: bool) -> Any:
        """Return a table as it was given, with its missing cells filled."""
        lacking = taken.lacking[:, self._indicated]
        if taken.table is not None:
            limited = self.limits == "observed" or (self.limits == "auto" and not drawn)
            completed = self.fitted_.put(taken.table, values, free=not limited)
            filled = given_back(completed.source)
            if self.add_indicator:
                names = self.get_feature_names_out()[-len(self._indicated) :]
                filled = _beside(filled, dict(zip(names, lacking.T, strict=True)))
            return self._in_container(filled)
        assert taken.array is not None  # noqa: S101
        kind = taken.array.dtype
        found = np.where(taken.lacking, 0, taken.array)
        fills = np.zeros(found.shape)
        for place, model, part in zip(
            self._places or [], self.columns_, values.T, strict=True
        ):
            fills[:, place] = encoding.decoded(model, part)
        found = np.where(taken.lacking, fills, found).astype(kind)[:, self._kept]
        if self.add_indicator:
            found = np.hstack([found, lacking.astype(kind)])
        return found

    @property
    def _kept(self) -> np.ndarray:
        """The places of the columns that are returned."""
        if self._framed or self.keep_empty_features:
            return np.arange(self.n_features_in_)
        return np.flatnonzero(~self._empty)

    def _in_container(self, frame: Any) -> Any:
        """Return a data frame as one of the library that `set_output` chose."""
        from sklearn.utils._set_output import _get_output_config

        wanted = _get_output_config("transform", self)["dense"]
        if wanted == "default" or type(frame).__module__.split(".")[0] == wanted:
            return frame
        import narwhals

        found = narwhals.from_native(frame)
        return found.to_pandas() if wanted == "pandas" else found.to_polars()

    # Storing

    def save(self, path: str | Path) -> None:
        """Write the fitted imputer to one safetensors file, which loads without code.

        The file does not have the table of the fit: `sample` of what is loaded gives at
        most `n_imputations` tables, whose models are stored.

        Parameters
        ----------
        path : path

        Raises
        ------
        RunFolderError
            When the file cannot be written.
        """
        self._check_fitted()
        models = self.fitted_.resampled(self.n_imputations, self._seed)
        gaussians = [one.model.gaussian for one in models]
        arrays, facts = stored(self.fitted_, gaussians)
        blank = {"missing_values": np.nan} if _is_blank(self.missing_values) else {}
        facts |= {
            **saved.facts_of(self, "LowRankImputer", **blank),
            "gap": self.gap_,
            "reference": self.reference_,
            "seed": self._seed,
            "framed": self._framed,
            "empty": self._empty.tolist(),
            "indicated": self._indicated.tolist(),
            "places": self._places,
        }
        write_tensors(Path(path), arrays, facts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path

        Raises
        ------
        RunFolderError
            When the file cannot be read or is no such file.
        """
        imputer, arrays, facts = saved.opened(cls, path, "LowRankImputer")
        imputer._seed, imputer._framed = facts["seed"], facts["framed"]
        imputer._empty = np.array(facts["empty"], dtype=bool)
        imputer._indicated = np.array(facts["indicated"], dtype=np.int64)
        imputer._places = facts["places"]
        model, gaussians = restored(arrays, {**facts, "model": "TableModel"})
        models = tuple(with_gaussian(model.fitted, one) for one in gaussians)
        imputer._keep(replace(model, models=models))
        imputer.gap_ = np.nan if facts["gap"] is None else facts["gap"]
        imputer.gaps_ = imputer.runs_.losses - imputer.loss_ + imputer.gap_
        imputer.reference_ = facts.get("reference")
        names = facts["names"] or imputer._names(imputer.n_features_in_)
        imputer._low, imputer._high = imputer._bounds(names)
        return imputer

    # Bounds

    def _bounds(self, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest value of each modeled column."""
        complaints = Complaints()
        ends = []
        for name in ("min_value", "max_value"):
            given = getattr(self, name)
            free = -np.inf if name == "min_value" else np.inf
            if isinstance(given, Mapping):
                unknown = [key for key in given if key not in names]
                complaints.require(
                    not unknown,
                    f"{name} names {listed(unknown)}, which is no column of X; name those "
                    f"({listed(names)})",
                )
                given = [given.get(one, free) for one in names]
            try:
                found = np.array(
                    np.broadcast_to(np.asarray(given, np.float64), (len(names),))
                )
            except (TypeError, ValueError):
                complaints.require(
                    False,
                    f"{name} is {given!r}; give a number, or one for each of the "
                    f"{counted(len(names), 'column')}",
                )
                found = np.full(len(names), free)
            complaints.require(
                not np.isnan(found).any(),
                f"{name} is NaN; give numbers, or leave it out",
            )
            ends.append(found)
        low, high = ends
        wrong = np.flatnonzero(low >= high)
        complaints.require(
            not len(wrong),
            f"min_value is not below max_value for {listed(names[j] for j in wrong)}; give "
            "smaller ones",
        )
        complaints.raise_any()
        low, high = low[self._places], high[self._places]
        for j, model in enumerate(self.columns_):
            if model.levels or model.dates:
                low[j], high[j] = -np.inf, np.inf
            elif model.whole:
                low[j], high[j] = np.ceil(low[j]), np.floor(high[j])
        return low, high

    def _clipped(self, values: np.ndarray) -> np.ndarray:
        """Return values within the bounds; those of observed cells are not read."""
        return np.clip(values, self._low, self._high)


def _is_blank(value: Any) -> bool:
    """Return whether a value always stands for a missing cell: NaN, None or NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _none_as_nan(X: Any) -> Any:
    """Return nested sequences or an array of objects with NaN for None and NA."""
    try:
        array = np.asarray(X, dtype=object)
    except ValueError:
        return X
    if array.ndim != 2 or not array.size:
        return X
    blank = np.vectorize(_is_blank, otypes=[bool])(array)
    if not blank.any():
        return X
    return np.where(blank, np.nan, array)


def _without(column: Column, mark: Any) -> Column:
    """Return a column in which a mark stands for a missing cell."""
    if column.levels:
        if mark not in column.levels:
            return column
        place = column.levels.index(mark)
        values = np.where(column.values == place, np.nan, column.values)
        values = np.where(values > place, values - 1, values)
        kept = column.levels[:place] + column.levels[place + 1 :]
        found = replace(column, values=values, levels=kept)
    elif isinstance(mark, int | float | np.number) and column.kind == "number":
        values = np.where(column.values == mark, np.nan, column.values)
        found = replace(column, values=values)
    else:
        return column
    return replace(found, kind="empty") if np.isnan(found.values).all() else found


def _as_numbers(column: Column) -> np.ndarray:
    """Return a column of a frame for a model that was fitted to an array."""
    if column.kind in ("number", "boolean", "empty"):
        return column.values
    raise InvalidValueError(
        f"column {column.name!r} is {column.says}, but the model was fitted to an array; "
        "give numbers, or fit it to a data frame"
    )


def _beside(frame: Any, added: Mapping[str, np.ndarray]) -> Any:
    """Return a frame with more columns after its own."""
    import narwhals

    found = narwhals.from_native(frame)
    made = [
        narwhals.new_series(
            name, np.ascontiguousarray(values), backend=found.implementation
        )
        for name, values in added.items()
    ]
    if found.implementation.is_pandas():
        return frame.assign(**added)
    return found.with_columns(*made).to_native()


def _weights(given: Any, lacking: np.ndarray) -> np.ndarray | None:
    """Return the weights of rows, or refuse them."""
    if given is None:
        return None
    weights = np.asarray(plain_array(given))
    try:
        weights = weights.astype(np.float64)
    except (TypeError, ValueError):
        weights = np.full(1, np.nan)
    if isinstance(given, int | float | np.number):
        weights = np.full(len(lacking), float(weights))
    if (
        weights.shape != (len(lacking),)
        or not (np.isfinite(weights) & (weights >= 0)).all()
    ):
        raise InvalidValueError(
            f"sample_weight has shape {weights.shape}, or holds other than finite numbers "
            f"of at least 0; give one for each of the {counted(len(lacking), 'row')}"
        )
    if not weights.any():
        raise InvalidValueError(
            "every weight in sample_weight is zero; give some above 0"
        )
    return weights
