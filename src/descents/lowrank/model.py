"""The low-rank model: a problem, its descent, and how far from the best it is."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch

from descents.bounds import gaps
from descents.cells.base import Cells
from descents.cells.dense import Dense
from descents.cells.intake import (
    checked_weights,
    convergence_warning,
    plain_array,
    seed_of,
)
from descents.cells.observed import cells
from descents.cells.streamed import LIMITS, Streamed
from descents.constraints.constraints import most_components, regularizers
from descents.constraints.sets import Fixed, OneHot, Simplex, Sparse
from descents.devices import numpy_dtype
from descents.errors import Complaints, InvalidValueError
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import INITIALIZATIONS, OFFSETS, Factorization
from descents.factorization.rescaled import Rescaled, rescaled
from descents.losses import Huber, Loss, get_loss
from descents.lowrank import conformal, noise, selection
from descents.lowrank.blanks import alone
from descents.lowrank.conformal import Calibration
from descents.lowrank.fitted import STEPS, Fitted, name_of, step_named, with_widths
from descents.lowrank.folds import dealt, with_holes
from descents.lowrank.judging import judged
from descents.lowrank.noise import Noise
from descents.lowrank.prediction import FORMER, UsesFitted, absent
from descents.lowrank.selection import Search, Selection
from descents.optim.chunk import Watch
from descents.optim.first_order import Adam
from descents.optim.loop import descend
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs, Status
from descents.optim.stopping import Stop
from descents.rng import stream
from descents.tables.blocks import TableOnDisk
from descents.text import counted
from descents.validation import one_of, real_number, whole_number

SCALES = ("auto", True, False)
OF_BIASES = {"l2_biases"}
"""A penalty of no more than this says nothing of the factors."""
APART = 10.0
"""With missing cells, columns whose spreads differ by more than this are scaled."""
PRIOR = 0.1
"""The default l2 over the root of a column's number of cells, where there is one: what
hidden cells of real tables of mixed columns asked for (benchmarks/imputation.py)."""
BRIEF = 1e-3
"""The tolerance of fits that are judged: a step can gain a millionth of the loss."""
EXACT = 1e-12
"""A loss below this share of the constants' is nothing but rounding."""
FAR = 1e7
"""A column that is so much larger than it varies loses digits to rounding."""
FAR_SINGLE = 100.0
"""The same for float32, which is then computed in float64."""
SETTLED = 1e-7
"""Losses without a continuous gradient rest once they fall by less than this share."""


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
        (`descents.lowrank.selection.by_cells`), for a complete table too;
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

    # For the command: what is watched and written down, and a budget of seconds.
    _watch: Watch | None = None
    _record: Sequence[int] = ()
    _max_seconds: float | None = None
    _workers: int = 1
    _seed: int | None = None
    _far: str | None = None
    """What was said of fills far outside what their column holds."""

    def __init__(  # noqa: PLR0913
        self,
        n_components: Any = 2,
        *,
        loss: Any = "auto",
        offsets: str = "auto",
        scales: Any = "auto",
        constraint: Any = None,
        penalty: Any = None,
        sparse: str = "missing",
        unseen: str = "error",
        initialization: Any = "auto",
        n_starts: int = 1,
        combine: str = "best",
        solver: Any = "auto",
        learning_rate: float | None = None,
        cv: int = 5,
        held_out: float = 0.1,
        max_iter: int = 2000,
        tol: float = 1e-7,
        random_state: Any = None,
        device: str = "cpu",
        steps: Any = "deprecated",
        folds: Any = "deprecated",
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

    # Fitting

    def fit(self, X: Any, y: Any = None, *, weights: Any = None) -> Self:
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
        self._check_settings()
        self._seed = seed_of(self.random_state)
        weights = checked_weights(weights)
        if isinstance(X, TableOnDisk):
            self._check_streamed(weights)
        table, values = self._read(X, reset=True, weights=weights)
        if table is not None:
            weights = self._weights_of_table(table, weights)
        begun = time.monotonic()
        self.calibration_: Calibration | None = None
        found = self._cells(values, weights, self._trial_losses())
        rank, penalty = self._chosen(found, values, weights)
        problem, implied = self._problem(found, values.dtype, rank, penalty)
        smooth = (
            problem.row_regularizer.smoothness > 0,
            problem.column_regularizer.smoothness > 0,
        )
        self._warn_of_blanks(found, alone(problem), smooth)
        if self._waiting():
            self.columns_ = with_widths(self.columns_, problem)
            found = self._cells(values, weights, [c.loss for c in self.columns_])
            problem, implied = self._problem(found, values.dtype, rank, penalty)
        self.noise_ = implied
        step = self._step(problem)
        seconds = self._seconds_left(begun)
        record = [step for step in self._record if step <= self.max_iter]
        runs = self._descended(problem, step, seconds, record, self._watch)
        runs = _compared_with_constants(problem, runs)
        self.solver_ = name_of(step)
        if not np.isfinite(runs.losses).any():
            raise InvalidValueError(self._hopeless())
        self._keep(Fitted(self.columns_, problem, runs, self.combine))
        self.reference_, self.gap_, self.constants_loss_ = self.fitted_.judged()
        size = self.constants_loss_
        if not all(block.loss.identity for block in found.blocks):
            size += found.observed  # sums of logarithms, which may cancel
        # Far from zero the squares themselves are rounded.
        size += np.finfo(np.float64).eps / gaps.ROUNDING * found.square
        bound = gaps.below_reference([self.loss_], self.reference_, size)
        if bound[0]:
            warnings.warn(
                f"the loss {self.loss_:.10g} is below what no loss can be below, "
                f"{self.reference_.value:.10g}: a defect of descents; please report it",
                RuntimeWarning,
                stacklevel=2,
            )
        self._warn_of_the_fit(found)
        self._judge(found, problem, self._seconds_left(begun))
        self._warn_of_fills(found)
        ended = {Status.STATIONARY, Status.SETTLED, Status.WORSE}
        if not ended & set(runs.statuses):
            flat = problem.row_regularizer.l2 == 0 and found.weights is not None
            warnings.warn(
                f"{_none_of(len(runs))} stationary after "
                f"{counted(self.max_iter, 'iteration')}; raise max_iter, or try more starts (n_starts)"
                + (", or give a penalty, as holes can leave no minimum" * flat),
                convergence_warning(),
                stacklevel=2,
            )
        return self

    def _seconds_left(self, begun: float) -> float | None:
        """Return what is left of the budget; None where there is none."""
        if self._max_seconds is None:
            return None
        return max(0.0, self._max_seconds - (time.monotonic() - begun))

    def _warn_of_fills(self, found: Cells) -> None:
        """Warn of fills of the table of the fit that lie far outside of what it holds."""
        self._far = None
        if isinstance(found, Dense) and not found.complete_with_ones:
            codes = self.fitted_.decoded(*self.fitted_.predictions(self.fitted_.points))
            if self.judged_ is not None:
                codes = self.judged_.filled(codes)
            self._far = self._warn_of_far(codes, found.weights == 0, 4)

    def _judge(
        self, found: Cells, problem: Factorization, seconds: float | None
    ) -> None:
        """Compare predictions of cells that a fit has not seen with constants."""
        self.judged_ = self._unseen = None
        by_cells = self.selection_ is not None and self.selection_.how == "cells"
        wanted = noise.lacks_cells(found) or by_cells
        if not (wanted and self.held_out) or isinstance(found, Streamed):
            return
        if self.runs_.interrupted or seconds == 0:
            return
        dtype = numpy_dtype(problem.dtype)
        given = self.fitted_.penalty if self.noise_ is None else None
        settings = self._settings(found, dtype, given, holes=True)
        settings["penalty"] = self.fitted_.penalty
        spent = problem.rank * (sum(problem.cells.shape) - problem.rank)
        exact = self.noise_ is not None and self.noise_.l2 == 0
        if found.observed > spent + found.coordinates:
            exact |= self.loss_ <= EXACT * self.constants_loss_
        both = judged(
            found,
            self.columns_,
            problem.rank,
            settings,
            self._step,
            replace(self._brief_stop(dtype, seconds), gradient_tol=BRIEF),
            share=self.held_out,
            seed=self._seed or 0,
            workers=self._workers,
            exact=exact,
        )
        if both is not None:
            self.judged_, self._unseen = both

    def _gradient_tol(self, dtype: Any) -> float:
        """Return `tol`, or a hundred roundings where these are larger."""
        return max(self.tol, 100 * float(np.finfo(dtype).eps))

    def _brief_stop(self, dtype: Any, seconds: float | None) -> Stop:
        """Return when a fit without some cells rests."""
        return Stop(
            min(self.max_iter, selection.STEPS),
            gradient_tol=self._gradient_tol(dtype),
            loss_tol=selection.SETTLED,
            max_seconds=seconds,
        )

    def _descended(
        self,
        problem: Factorization,
        step: Any,
        seconds: float | None = None,
        record: Sequence[int] = (),
        watch: Watch | None = None,
    ) -> Runs:
        automatic = isinstance(self._solver, str) and self.learning_rate is None
        exact = all(block.loss.quadratic for block in problem.cells.blocks)
        if automatic and not (exact and isinstance(step, Alternating)):
            over = rescaled(problem)
            if over is not None:
                told = None
                if watch is not None:
                    told = _watching(watch, over.factor)
                runs = self._in_units(over.problem, step, seconds, record, told)
                return _brought_back(problem, over, runs)
        return self._in_units(problem, step, seconds, record, watch)

    def _in_units(
        self,
        problem: Factorization,
        step: UpdateRule,
        seconds: float | None,
        record: Sequence[int],
        watch: Watch | None,
    ) -> Runs:
        """Descend from the starts of a problem, in whatever units it is."""
        dtype = numpy_dtype(problem.dtype)
        if isinstance(step, Adam) and self.learning_rate is None:
            # Losses that are all larger make gradients larger, and nothing else.
            mean = problem.cells.constants_loss() / max(problem.cells.observed, 1)
            step = replace(step, epsilon=Adam().epsilon * (mean if mean > 0 else 1.0))
        return descend(
            problem,
            self.n_starts,
            self._seed or 0,
            steps=step,
            stop=Stop(
                self.max_iter,
                gradient_tol=self._gradient_tol(dtype),
                loss_tol=_loss_tol(problem.cells, dtype),
                max_seconds=seconds,
            ),
            record=record,
            watch=watch,
            workers=self._workers,
        )

    def _warn_of_the_fit(self, found: Cells) -> None:
        """Warn when a fit is worse than constants, or numbers are too large to fit."""
        worse = self.runs_.statuses.count(Status.WORSE)
        if self.runs_.statuses[self.runs_.best] is Status.WORSE:
            warnings.warn(
                f"the loss {self.loss_:.6g} is above {self.constants_loss_:.6g}, that of "
                "the best constant of each column: the model predicts worse than column "
                f"means or modes would; {self._remedy()}",
                convergence_warning(),
                stacklevel=3,
            )
        elif worse:
            warnings.warn(
                f"{worse} of {len(self.runs_)} starts {'ends' if worse == 1 else 'end'} at a loss above that of the "
                "best constant of each column; the statuses say which, and the best "
                "start is none of them",
                convergence_warning(),
                stacklevel=3,
            )
        far = []
        for block in found.blocks:
            if block.loss.identity and self.fitted_.problem.has_offsets:
                middle = np.abs(found.offsets[block.place])
                spread = self.fitted_.problem.deviations()[block.place]
                # What is left of a constant column is rounding, and hides nothing.
                varies = spread > 8 * np.finfo(found.dtype).eps * middle
                far += list(block.columns[varies & (middle > FAR * spread)])
        if far:
            listed = ", ".join(repr(self.columns_[j].name) for j in far[:5])
            warnings.warn(
                f"column{'s' * (len(far) > 1)} {listed} {'vary' if len(far) > 1 else 'varies'} by "
                f"less than {1 / FAR:g} of the size of the numbers, so that "
                "rounding hides part of it; subtract a constant, such as the mean",
                UserWarning,
                stacklevel=3,
            )

    def _remedy(self) -> str:
        """Return what to change where the fit is worse than constants."""
        problem, runs = self.fitted_.problem, self.runs_
        sides = (problem.row_regularizer, problem.column_regularizer)
        charged = any(side.l1 or side.l2 or side.smoothness for side in sides)
        if charged and not problem.has_offsets:
            return "lower the penalty, or give offsets='columns'"
        if runs.steps_taken[runs.best] >= self.max_iter:
            return "raise max_iter, or try more starts (n_starts)"
        if not problem.has_offsets and not any(side.positive for side in sides):
            return "give offsets='columns', a larger n_components, or more starts"
        return "try more starts (n_starts), a larger n_components, or another solver"

    @property
    def _solver(self) -> Any:
        return self.solver if absent(self.steps) else self.steps

    @property
    def _cv(self) -> Any:
        return self.cv if absent(self.folds) else self.folds

    def _warn_of_former_names(self) -> None:
        for former, name in FORMER.items():
            if not absent(getattr(self, former)):
                warnings.warn(
                    f"{former} is now called {name}, and the former name will be removed "
                    f"in version 0.4; give {name}={getattr(self, former)!r}",
                    FutureWarning,
                    stacklevel=3,
                )

    def _check_settings(self) -> None:
        self._warn_of_former_names()
        complaints = Complaints()
        search = complaints.attempt(selection.asked, *self._open())
        complaints.attempt(whole_number, "cv", self._cv, 2)
        share = complaints.attempt(real_number, "held_out", self.held_out, 0)
        complaints.require(
            share is None or share <= 0.5,
            f"held_out is {self.held_out}; give a number from 0 to 0.5",
        )
        complaints.attempt(whole_number, "n_starts", self.n_starts, 1)
        complaints.attempt(whole_number, "max_iter", self.max_iter, 1)
        complaints.attempt(real_number, "tol", self.tol, 0)
        complaints.attempt(one_of, "combine", self.combine, ("best", "mean"))
        complaints.attempt(one_of, "sparse", self.sparse, ("missing", "zero"))
        complaints.attempt(one_of, "unseen", self.unseen, ("error", "missing"))
        complaints.attempt(one_of, "offsets", self.offsets, ("auto", *OFFSETS))
        complaints.require(
            self.scales in SCALES,
            f"scales is {self.scales!r}; give one of {', '.join(map(repr, SCALES))}",
        )
        penalty = self.penalty if search is None else search.penalty(1.0)
        complaints.attempt(regularizers, self.constraint, penalty)
        if not isinstance(self._solver, UpdateRule):
            complaints.attempt(one_of, "solver", self._solver, STEPS)
        if self.learning_rate is not None:
            complaints.attempt(
                real_number, "learning_rate", self.learning_rate, 0, strict=True
            )
            complaints.require(
                self._solver in ("gd", "adam"),
                f"learning_rate is given, but solver is {self._solver!r}, which has none; "
                "give solver='gd' or solver='adam' with it",
            )
        if isinstance(self.initialization, str):
            names = ("auto", *INITIALIZATIONS)
            complaints.attempt(one_of, "initialization", self.initialization, names)
        else:
            complaints.attempt(_check_pair, self.initialization)
            complaints.require(
                search is None,
                "initialization is two arrays, which have one rank, but a rank or a "
                "penalty is to be chosen; give the name of an initialization",
            )
        complaints.raise_any()

    def _check_streamed(self, weights: Any) -> None:
        """Refuse, all together, what a table on disk cannot have."""
        complaints = Complaints()
        for name, value, allowed in (
            ("loss", self.loss, ("auto", "squared", get_loss("squared"))),
            ("solver", self._solver, ("auto", "alternating", Alternating())),
            ("scales", self.scales, ("auto", False)),
            ("device", self.device, ("cpu",)),
        ):
            complaints.require(
                any(value is one or value == one for one in allowed),
                f"{name} is {value!r}, but {LIMITS}",
            )
        complaints.require(weights is None, f"weights are given, but {LIMITS}")
        complaints.require(
            not self._chooses(),
            "a rank or a penalty is to be chosen, but a table that is read by blocks of "
            "rows has no cells to hold out; give both as numbers",
        )
        complaints.raise_any()

    def _chooses(self) -> bool:
        """Return whether the rank or the penalty is to be chosen."""
        return self._by_threshold() or selection.asked(*self._open()) is not None

    def _by_threshold(self) -> bool:
        """Return whether singular values are to choose the rank."""
        rank = self.n_components
        return isinstance(rank, str) and rank == selection.THRESHOLD

    def _open(self) -> tuple[Any, Any]:
        """Return the rank and the penalty as `selection.asked` takes them."""
        return (1 if self._by_threshold() else self.n_components), self.penalty

    def _step(self, problem: Factorization) -> Any:
        if isinstance(self._solver, str):
            return step_named(self._solver, problem, self.learning_rate)
        return self._solver

    def _chosen(self, found: Cells, values: Any, weights: Any) -> tuple[int, Any]:
        """Return the rank and the penalty, given or chosen."""
        self.selection_: Selection | None = None
        search = selection.asked(*self._open())
        if self._by_threshold():
            self.selection_ = self._counted(found, search)
        elif search is not None:
            self.selection_ = self._searched(found, search, values, weights)
        if self.selection_ is None:
            return self.n_components, self.penalty
        penalty = self.penalty
        if search is not None:
            penalty = search.penalty(self.selection_.penalty)
        return max(1, self.selection_.rank), penalty

    def _counted(self, found: Cells, search: Search | None) -> Selection:
        """Return the rank by singular values."""
        asked = None if search else regularizers(self.constraint, self.penalty)
        if asked is None or any(
            not side.smooth or side.l2 or side.smoothness for side in asked[:2]
        ):
            raise InvalidValueError(
                f"n_components is {selection.THRESHOLD!r}, which knows no constraint "
                "and no penalty; give 'auto', or leave those out"
            )
        chosen = selection.by_singular_values(found, self._offsets())
        if chosen.rank == 0:
            warnings.warn(
                "no singular value is above the optimal hard threshold: nothing stands "
                "out of the noise, and rank 1 is taken",
                UserWarning,
                stacklevel=4,
            )
        return chosen

    def _searched(
        self, found: Cells, search: Search, values: Any, weights: Any
    ) -> Selection:
        """Return the rank and the penalty by held-out cells."""
        dtype = values.dtype
        if self._waiting():
            # Huber's widths, which the chosen rank will have anew, at the largest.
            sides = regularizers(self.constraint, None)[:2]
            most = most_components(found.shape, *sides)
            rank = search.ranks[-1] if search.ranks else selection.RANKS
            penalty = search.penalty(1.0)
            trial, _ = self._problem(found, dtype, min(rank, most), penalty)
            known = with_widths(self.columns_, trial)
            found = self._cells(values, weights, [column.loss for column in known])

        def settings(penalty: Any) -> dict[str, Any]:
            return self._settings(found, dtype, penalty, holes=True)

        def l2_of(rank: int) -> float | None:
            implied = self._noise(found, rank, settings(search.rest))
            return None if implied is None else implied.l2

        chosen = selection.by_cells(
            found,
            search,
            settings,
            self._step,
            l2_of=l2_of if noise.lacks_cells(found) else None,
            folds=self._cv,
            seed=self._seed or 0,
            stop=self._brief_stop(dtype, self._max_seconds),
            workers=self._workers,
        )
        if chosen.mean[chosen.best] >= 1:
            warnings.warn(
                "no rank and penalty of those tried predicts held-out cells better than "
                "the best constants do; the table may have no low-rank structure",
                UserWarning,
                stacklevel=4,
            )
        return chosen

    def _waiting(self) -> bool:
        """Return whether a Huber loss waits for its width."""
        return self._trial_losses() != [column.loss for column in self.columns_]

    def _trial_losses(self) -> list[Loss]:
        """Return the losses, with absolute loss where Huber's has no width yet."""
        return [
            get_loss("absolute")
            if isinstance(column.loss, Huber) and column.loss.width is None
            else column.loss
            for column in self.columns_
        ]

    def _cells(self, values: Any, weights: Any, losses: Sequence[Loss]) -> Cells:
        self.scales_: str | None = None
        if isinstance(values, TableOnDisk):
            biased = self.offsets in ("rows", "both")
            disk = Streamed(values, self.n_components + biased, self.n_starts)
            for j in np.flatnonzero(values.whole):
                limits = (float(disk.least[j]), float(disk.most[j]))
                self.columns_[j] = replace(self.columns_[j], whole=True, limits=limits)
            return disk
        if hasattr(values, "tocsr"):
            return cells(values, losses, weights=weights, sparse=self.sparse)
        several = len({column.loss.name for column in self.columns_}) > 1
        auto = isinstance(self.scales, str)
        found = cells(
            values,
            losses,
            weights=weights,
            levels=[len(column.levels) for column in self.columns_],
            scales=several if auto else bool(self.scales),
            names=[column.name for column in self.columns_],
        )
        if auto and several:
            self.scales_ = "columns have different losses"
        elif auto and isinstance(found, Dense) and not self._has_fixed_values():
            ratio = _largest_ratio(found)
            if ratio > APART:
                self.scales_ = (
                    "cells are missing and the spreads of columns differ by a factor of "
                    f"{ratio:.3g}"
                )
                return found.standardized()
        elif not auto and self.scales:
            self.scales_ = "scales are asked for"
        return found

    def _has_fixed_values(self) -> bool:
        """Return whether a factor has values that are given in the units of the data."""
        sides = regularizers(self.constraint, None)[:2]
        return any(isinstance(side.inside, Fixed) for side in sides)

    def _offsets(self) -> str:
        if self.offsets != "auto":
            return self.offsets
        sides = regularizers(self.constraint, None)[:2]
        return "none" if any(side.positive for side in sides) else "columns"

    def _settings(
        self, found: Cells, dtype: Any, penalty: Any, *, holes: bool
    ) -> dict[str, Any]:
        """Return the settings of `Factorization` that the rank has no part in."""
        if penalty is None:
            bounded = all(block.loss.identity for block in found.blocks)
            if not bounded:
                penalty = PRIOR * float(np.sqrt(found.observed / found.shape[1]))
        initialization = self.initialization
        if isinstance(initialization, str) and initialization == "auto":
            known = all(block.loss.quadratic for block in found.blocks)
            charged = any(
                side.l1 or side.l2 or side.smoothness
                for side in regularizers(self.constraint, penalty)[:2]
            )
            spectral = holes and known and not charged
            initialization = "spectral_then_normal" if spectral else "normal"
            sides = regularizers(self.constraint, None)[:2]
            if any(side.inside is not None for side in sides):
                one = sides[0].inside
                initialization = "normal"
                if isinstance(one, Simplex | OneHot) or one == Sparse(1):
                    initialization = "centers" if known else "centers_and_normal"
                if isinstance(one, Simplex) and sides[1].inside is not None:
                    # Rows of the table are no members of a set.
                    initialization = "uniform"
            elif any(side.nonnegative for side in sides):
                initialization = "nndsvd_then_normal"
            if isinstance(found, Streamed) and not found.has_triangle:
                initialization = "normal"
        if not isinstance(initialization, str) and found.units is not None:
            U, V = (np.asarray(factor) for factor in initialization)
            initialization = (U, V / found.coordinate_units[:, None])
        return {
            "offsets": self._offsets(),
            "constraint": self.constraint,
            "penalty": penalty,
            "initialization": initialization,
            "dtype": torch.float32 if dtype == np.float32 else torch.float64,
            "device": self.device,
        }

    def _problem(
        self, found: Cells, dtype: Any, rank: int, penalty: Any
    ) -> tuple[Factorization, Noise | None]:
        """Return the problem, and the noise that its penalty is from, if it is."""
        rows, wide = found.shape
        sides = regularizers(self.constraint, None)[:2]
        most = most_components((rows, wide), *sides)
        if rank > most:
            raise InvalidValueError(
                f"n_components is {rank} (the rank), but the table has "
                f"n_samples={counted(rows, 'row')} and n_features={counted(wide, 'column')}; give a whole "
                f"number from 1 to {most}"
            )
        dtype = _precise_enough(found, dtype, self._offsets())
        settings = self._settings(found, dtype, penalty, holes=not found.complete)
        # Huber's widths are found without: they are those of what is left of the cells.
        implied = None if self._waiting() else self._noise(found, rank, settings)
        if implied is not None:
            settings["penalty"] = {**(penalty or {}), "l2": implied.l2}
        return Factorization(found, rank, **settings), implied

    def _noise(self, found: Cells, rank: int, settings: dict[str, Any]) -> Noise | None:
        """Return what the noise implies, where no penalty of the factors is given."""
        given = settings["penalty"]
        if given is not None and not (
            isinstance(given, dict) and {*given} <= OF_BIASES
        ):
            return None
        if not all(block.loss.identity for block in found.blocks):
            return None
        return noise.implied(Factorization(found, rank, **settings))

    def _hopeless(self) -> str:
        if any(column.loss.name == "own" for column in self.columns_):
            return (
                "the given loss is NaN or infinite at every start; return finite numbers "
                "for every finite prediction"
            )
        remedy = "give another solver, or divide numbers that are very large"
        if self.learning_rate is not None:
            remedy += f", or a learning_rate below {self.learning_rate:g}"
        return (
            f"the loss of every start became infinite or NaN with {self.solver_} steps; "
            f"{remedy}"
        )

    def calibrate(self, X: Any, y: Any = None, *, weights: Any = None) -> Self:
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
        if hasattr(X, "tocsr"):
            raise InvalidValueError(
                "X is sparse, and intervals are for cells that impute fills, of which a "
                "sparse table has none; give a dense table with NaN at the holes"
            )
        conformal.check_scored(self.columns_)
        weights = checked_weights(weights)
        table, values = self._read(X, reset=False)
        if table is not None and weights is not None:
            weights = self._weights_of_table(table, weights)
        elif weights is not None:
            weights = self._of_model(weights)
        if len(values) != len(self.embedding_):
            raise InvalidValueError(
                f"X has {counted(len(values), 'row')}, but the model was fitted to "
                f"{len(self.embedding_)}; give the table of the fit"
            )
        losses = [column.loss for column in self.columns_]
        whole = with_holes(self._cells(values, weights, losses))
        if self._seed is None:  # a model that was read from a file
            self._seed = seed_of(self.random_state)
        generator = stream(self._seed, "split", 1)
        held = dealt(whole, conformal.PARTS, generator) == 0
        if not held.any():
            raise InvalidValueError(
                "no cell can be held out such that its row, its column and its level "
                "keep another; give a larger table"
            )
        found = self._cells(np.where(held, np.nan, values), weights, losses)
        rank, penalty = self.n_components_, self._taken()
        problem, _ = self._problem(found, values.dtype, rank, penalty)
        runs = self._descended(problem, self._step(problem), self._max_seconds)
        if not np.isfinite(runs.losses).any():
            raise InvalidValueError(self._hopeless())
        twin = Fitted(self.columns_, problem, runs, self.combine)
        self.calibration_ = conformal.calibrated(twin, values, held, generator)
        return self

    def _taken(self) -> Any:
        """Return the penalty that the model was fitted with, given or chosen."""
        search = selection.asked(*self._open())
        if search is None or self.selection_ is None:
            return self.penalty
        return search.penalty(self.selection_.penalty)


def _largest_ratio(found: Dense) -> float:
    """Return the ratio of the largest and the least unit; 1 where no cell is missing.

    Units are spreads, of angles the length of a radian. Constant columns have none.
    """
    if not noise.lacks_cells(found):
        return 1.0
    spreads = found.spreads()[0]
    units = found.own_units()[np.isfinite(spreads) & (spreads > 0)]
    return float(units.max() / units.min()) if len(units) else 1.0


def _none_of(starts: int) -> str:
    """Return the beginning of a sentence about what no start is."""
    return "the start is not" if starts == 1 else f"none of {starts} starts is"


def _watching(watch: Watch, factor: float) -> Watch:
    """Return what reports losses in the units of the data."""
    return lambda starts, step, losses: watch(starts, step, losses * factor)


def _brought_back(problem: Factorization, over: Rescaled, runs: Runs) -> Runs:
    """Return runs in the units of the data, their final losses evaluated in these."""
    parameters = over.parameters(runs.parameters)
    losses, count = runs.losses.copy(), len(runs)
    for first in range(0, count, problem.width):
        place = slice(first, first + problem.width)
        tensors = {
            name: torch.as_tensor(value[place], device=problem.device).double()
            for name, value in parameters.items()
        }
        with torch.no_grad():
            found = problem.losses(tensors, torch.as_tensor(runs.starts[place]), 0)
        losses[place] = found.cpu().numpy()
    losses = np.where(np.isfinite(runs.losses), losses, runs.losses)
    histories = {**runs.histories}
    if "loss" in histories:
        histories["loss"] = histories["loss"] * over.factor
    return replace(runs, parameters=parameters, losses=losses, histories=histories)


def _compared_with_constants(problem: Factorization, runs: Runs) -> Runs:
    """Return the runs with the status WORSE for starts that constants would beat.

    The loss of the data counts, without penalties. Where a factor is given as a whole,
    the model is the user's, and is not to be judged by what others could be.
    """
    found = problem.cells
    sides = (problem.row_regularizer.inside, problem.column_regularizer.inside)
    if any(isinstance(one, Fixed) and not np.isnan(one.values).any() for one in sides):
        return runs
    constants = found.constants_loss()
    most = constants * (1 + 1e-6) + 1e-12 * found.loss_of_zero
    above = np.flatnonzero(np.isfinite(runs.losses) & (runs.losses > most))
    if found.square == 0 or not len(above) or isinstance(found, Streamed):
        return runs
    statuses = list(runs.statuses)
    ended = (Status.STATIONARY, Status.SETTLED, Status.LIMIT)
    for k in above:
        if statuses[k] not in ended:
            continue
        one = {
            n: torch.as_tensor(p[k])[None].double() for n, p in runs.parameters.items()
        }
        with torch.no_grad():
            left, right = problem.extended(one)
            loss = float(found.losses(left, right, problem.cut_parameters(one)))
        if loss > most:
            statuses[k] = Status.WORSE
    return replace(runs, statuses=tuple(statuses))


def _precise_enough(found: Cells, dtype: Any, offsets: str) -> Any:
    """Return float64 where columns lie too far from zero for sums of float32, else dtype.

    Products with a table of float32 lose the digits that its means take up.
    """
    if dtype != np.float32 or offsets == "none" or isinstance(found, Streamed):
        return dtype
    table = found.in_memory.table
    if not isinstance(table, np.ndarray):
        return dtype
    for block in found.blocks:
        if not block.loss.identity or block.each > 1:
            continue
        middle = found.offsets[block.place]
        rest = table[:, block.columns] - middle
        if found.weights is not None:
            rest = np.where(found.weights[:, block.columns] > 0, rest, 0)
        spread = np.sqrt(
            np.square(rest).sum(0) / np.maximum(found.column_counts[block.columns], 1)
        )
        if (np.abs(middle) > FAR_SINGLE * spread).any():
            return np.dtype(np.float64)
    return dtype


def _loss_tol(found: Cells, dtype: Any) -> float:
    """Return the relative fall over some steps below which a start is settled."""
    roundings = 10 * float(np.finfo(dtype).eps)
    return roundings if found.smooth else max(SETTLED, roundings)


def _check_pair(factors: Any) -> None:
    pair = isinstance(factors, tuple | list) and len(factors) == 2
    if not pair or any(
        np.ndim(f) != 3 or np.asarray(f).dtype.kind not in "biuf" for f in factors
    ):
        raise InvalidValueError(
            "initialization is neither a name nor two arrays of numbers; give one of "
            f"{', '.join(map(repr, ('auto', *INITIALIZATIONS)))}, or U of shape "
            "(n_starts, rows, n_components) and V of shape (n_starts, coordinates, "
            "n_components)"
        )
