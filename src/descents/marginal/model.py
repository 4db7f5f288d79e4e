"""Fit the Gaussian model of a table, and judge it by held-out cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError, name_of
from descents.marginal.calibration import (
    calibrated,
    calibrated_as,
    with_profiles,
    with_readout,
)
from descents.marginal.em import EM
from descents.marginal.features import (
    Features,
    NumberFeatures,
    constants_of,
)
from descents.marginal.gaussian import Marginal, Point
from descents.marginal.held_out import (
    ColumnScore,
    HeldOut,
    best_of,
    enough_folds,
    filled_by_constants,
    folds_of,
    scores_of,
    with_columns,
    worse_columns,
)
from descents.marginal.posterior import Cells, Gaussian, RowsModel
from descents.marginal.refinement import Watch, refined
from descents.marginal.rows import Model, Rows
from descents.marginal.settings import Setting, Settings
from descents.marginal.wide import ColumnsModel, Standard, sample_of
from descents.optim.collective import ALONE, Collective
from descents.optim.loop import descend
from descents.optim.runs import Runs
from descents.optim.stopping import Stop
from descents.statistics.quantiles import coverage_checked, rank_of
from descents.text import OneLine

STRENGTHS = (1.0, 0.0, 4.0)
"""Candidates of `strength="auto"` if there are few rows. The first one is taken unless
another is clearly better on held-out cells."""
FOLDS_OF_CHOICES = 3
"""Number of folds in which all of these are tried."""
MANY_ROWS = 10
"""The covariance is not shrunk if there are at least this many rows for each feature."""


@dataclass(frozen=True, eq=False)
class Fitted(OneLine):
    """A model of a table.

    Attributes
    ----------
    features : Features
    levels : int64 ndarray of shape (p,)
        Number of levels of each column; 0 for numbers.
    model : RowsModel, ColumnsModel or RefinedModel
        Predicts missing cells.
    runs : Runs
        The starts of the last fit, to all observed cells.
    setting : Setting
        The kind of model.
    n_components : int
        Number of components of the loadings.
    held_out : HeldOut or None
    scores : tuple of ColumnScore or None
        One for each column; None if it has no held-out cell.
    constant : bool ndarray of shape (p,)
        Which columns are filled with their mean or their most frequent level
        (`descents.marginal.held_out.filled_by_constants`).
    unrefined : HeldOut or None
        The predictions of the model without forests for the same held-out cells; None if
        it has none.
    """

    features: Features
    levels: np.ndarray
    model: Model
    runs: Runs
    setting: Setting
    n_components: int
    held_out: HeldOut | None
    scores: tuple[ColumnScore | None, ...]
    constant: np.ndarray
    unrefined: HeldOut | None = None

    def __repr__(self) -> str:
        """Return a summary of the fit, in one line."""
        return (
            f"Fitted({len(self.levels)} columns, {self.features.width} features, "
            f"{self.n_components} components, strength {self.setting.strength:g}, "
            f"loss {self.runs.losses[self.runs.best]:.6g})"
        )

    def predicted(self, codes: np.ndarray, *, limited: bool = True) -> Cells:
        """Return predictions of the missing cells of a table.

        Parameters
        ----------
        codes : float64 ndarray of shape (n, p)
            NaN where missing.
        limited : bool
            Whether numbers are kept within the observed range of their column.
        """
        found = self.model.predicted(codes)
        lacking = np.isnan(codes)
        for place, column in enumerate(self.features.columns):
            rows = lacking[:, place]
            if not rows.any():
                continue
            values = found.values[:, place]
            if self.constant[place]:
                values[rows] = self.constants[place]
                if isinstance(column, NumberFeatures):
                    spread = column.spread if column.low < column.high else 0.0
                    found.deviations[rows, place] = spread
                else:
                    found.probabilities[place][rows] = column.shares
            elif limited and isinstance(column, NumberFeatures):
                values[rows] = np.clip(values[rows], column.low, column.high)
        return found

    @property
    def constants(self) -> np.ndarray:
        """The mean, or the code of the most frequent level, of each column."""
        return constants_of(self.features)

    def drawn(
        self,
        codes: np.ndarray,
        generator: np.random.Generator,
        *,
        limited: bool = False,
    ) -> np.ndarray:
        """Return a table whose missing cells are drawn from their distribution."""
        values = self.model.drawn(codes, generator)
        if limited:
            lacking = np.isnan(codes)
            for place, column in enumerate(self.features.columns):
                if isinstance(column, NumberFeatures):
                    rows = lacking[:, place]
                    part = values[rows, place]
                    values[rows, place] = np.clip(part, column.low, column.high)
        return values

    def quantiles(self, coverage: float) -> np.ndarray:
        """Return the quantile of the scores of each column, shape (p,).

        It is that of the column's own held-out cells if these are at least 30, and as many
        as the coverage needs. Otherwise it is that of all columns of numbers, or of all
        columns of levels.

        Raises
        ------
        InvalidValueError
            If too few cells were held out.
        """
        coverage = coverage_checked(coverage)
        least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        found = np.zeros(len(self.levels))
        for place, count in enumerate(self.levels):
            own = np.empty(0)
            if self.held_out is not None:
                columns, scores = self.held_out.columns, self.held_out.scores
                own = scores[columns == place]
                if len(own) < max(30, least):
                    own = scores[(self.levels[columns] > 0) == (count > 0)]
            if len(own) < least:
                raise InvalidValueError(
                    f"a coverage of {coverage:g} needs {least} held-out cells of such "
                    f"columns, but there are {len(own)}; give a smaller coverage, or a "
                    "larger table"
                )
            found[place] = np.sort(own)[rank_of(coverage, len(own)) - 1]
        return found


def fit(
    codes: np.ndarray,
    levels: np.ndarray,
    settings: Settings | None = None,
    weights: np.ndarray | None = None,
    watch: Watch | None = None,
    together: Collective = ALONE,
) -> Fitted:
    """Fit a model of a table, and judge it by held-out cells.

    A share of the observed cells is held out, and a model of the others predicts them. The
    predictions are compared with the mean or the most frequent level of each column. Small
    tables have up to ten such folds. The model that is returned is then fitted to all
    observed cells.

    Parameters
    ----------
    codes : float64 ndarray of shape (n, p)
        Numbers, and codes 0, 1, ... of levels; NaN where missing.
    levels : int ndarray of shape (p,)
        Number of levels of each column; 0 for numbers.
    settings : Settings, optional
    weights : ndarray of shape (n,), optional
        Weights of the rows.
    watch : callable, optional
        ``watch(done, count)`` is called after each column that is refined.
    together : Collective
        Processes that share the table. Each has some rows; the model is the same in all.

    Raises
    ------
    InvalidValueError
        If the table has no observed cell; if processes share one that has not at least
        twice as many rows as features, or `refine` is requested.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(200, 1)) * [1.0, 2.0] + 0.1 * rng.normal(size=(200, 2))
    >>> table[::4, 1] = np.nan
    >>> found = fit(table, np.zeros(2, int))
    >>> float(np.round(found.scores[1].error / found.scores[1].constant_error, 1))
    0.1
    """
    settings = Settings() if settings is None else settings
    rows = Rows(
        np.asarray(codes, dtype=np.float64),
        np.asarray(levels, dtype=np.int64),
        weights,
        together,
    )
    codes, levels = rows.codes, rows.levels
    if not together.agreed(bool((~np.isnan(codes)).any())):
        raise InvalidValueError(
            "the table has no observed cell; give one that has some"
        )
    folds = list(folds_of(codes, settings.held_out, settings.seed, together))
    whole = rows.features(plain=False)
    choice, held_out, before = _chosen(folds, rows, whole, settings)
    features = whole
    if choice.sample == "columns":
        features = rows.features(plain=True)
    model, point, runs = _fitted(
        rows, features, choice, settings, before, starts=settings.n_starts
    )
    if isinstance(model, RowsModel):
        model = with_profiles(model, codes, settings.seed, together)
    if held_out is not None:
        model = replace(model, features=with_readout(model.features, held_out))
        held_out = calibrated(held_out, model.features)
    scores: tuple[ColumnScore | None, ...] = (None,) * len(levels)
    # Without held-out cells, no column is known to depend on others.
    constant = np.full(len(levels), bool(settings.held_out))
    if held_out is not None:
        scores = scores_of(held_out, levels)
        constant = filled_by_constants(held_out, scores, levels, sample=choice.sample)
    fitted = Fitted(
        model.features,
        levels,
        model,
        runs,
        choice,
        int((point["loadings"].square().sum(0) > 0).sum()),
        held_out,
        scores,
        constant,
    )
    if settings.refine:
        return _with_forests(fitted, model, rows, folds, settings, point, watch)
    return fitted


def _with_forests(
    fitted: Fitted,
    model: RowsModel | ColumnsModel,
    rows: Rows,
    folds: Sequence[np.ndarray],
    settings: Settings,
    point: Point,
    watch: Watch | None,
) -> Fitted:
    """Return a fit whose model has forests, and is judged with them."""
    codes, levels = rows.codes, rows.levels
    missing = np.asarray(np.isnan(codes).any(0))
    better = refined(model, codes, settings.seed, missing, watch)
    some = folds[: enough_folds(folds, codes)]
    parts = _refined_held_out(
        some, rows, fitted.features, fitted.setting, settings, point
    )
    if parts is None:
        return replace(fitted, model=better)
    worse = worse_columns(*parts, levels)
    held_out = with_columns(parts[1], worse, parts[0])
    scores = scores_of(held_out, levels)
    # All folds have judged the model without forests, and only some these.
    predicted = [one is not None and one.is_better() for one in scores]
    return replace(
        fitted,
        model=better.without(worse),
        held_out=held_out,
        scores=scores,
        constant=fitted.constant & ~np.array(predicted),
        unrefined=parts[0],
    )


def _chosen(
    folds: Sequence[np.ndarray], rows: Rows, whole: Features, settings: Settings
) -> tuple[Setting, HeldOut | None, Point | None]:
    """Return the setting that predicts the held-out cells of all folds best.

    All settings are tried in the first folds, and the best one of these in the others.

    Parameters
    ----------
    folds : sequence of bool ndarray of shape (n, p)
        The held-out cells of each fold.
    rows : Rows
    whole : Features
        Those of all observed cells.
    settings : Settings

    Returns
    -------
    choice : Setting
    held_out : HeldOut or None
        Its predictions of the held-out cells; None if there are no folds.
    point : Point or None
        Where its last fit ended, from which another one may begin.
    """
    levels, choices = rows.levels, _choices(settings, whole, rows)
    parts: dict[Setting, list[HeldOut]] = {choice: [] for choice in choices}
    before: dict[Setting, Point] = {}
    for place, hidden in enumerate(folds):
        if place == FOLDS_OF_CHOICES:
            best = best_of(parts, levels)
            parts = {best: parts[best]}
        shown = rows.without(hidden)
        known = {
            sample: shown.features(plain=sample == "columns")
            for sample in {choice.sample for choice in parts}
        }
        for choice, some in parts.items():
            features = known[choice.sample]
            model, point, _ = _fitted(
                shown, features, choice, settings, before.get(choice), starts=1
            )
            before[choice] = point
            some.append(rows.of_hidden(model, features, hidden, whole))
    if not folds:
        return choices[0], None, None
    choice = best_of(parts, levels)
    return choice, HeldOut.joined(parts[choice]), before[choice]


def _fitted(
    rows: Rows,
    features: Features,
    choice: Setting,
    settings: Settings,
    before: Point | None,
    *,
    starts: int,
) -> tuple[RowsModel | ColumnsModel, Point, Runs]:
    """Return the best of some starts; the first one begins where an earlier fit ended."""
    encoded, ridge = sample_of(choice.sample, features, rows.codes)
    # Weights belong to rows, which may not be the sample.
    weights = None if choice.sample == "columns" else rows.weights
    rank = settings.n_components
    problem = Marginal(
        encoded,
        None if rank is None else min(rank, encoded.shape[1]),
        ridge=ridge,
        strength=choice.strength,
        weights=weights,
        together=rows.together,
    )
    problem.begin_at(before)
    runs = descend(
        problem,
        starts,
        settings.seed,
        steps=EM(),
        stop=Stop(settings.max_steps, gradient_tol=settings.tol),
    )
    if runs.interrupted:  # otherwise later fits would go on
        raise KeyboardInterrupt
    point = {n: torch.as_tensor(p[runs.best]) for n, p in runs.parameters.items()}
    gaussian = Gaussian.of(problem, point)
    if choice.sample == "columns":
        return ColumnsModel(gaussian, features, rows.codes), point, runs
    return RowsModel(gaussian, features), point, runs


def _refined_held_out(
    folds: Sequence[np.ndarray],
    rows: Rows,
    whole: Features,
    choice: Setting,
    settings: Settings,
    before: Point,
) -> tuple[HeldOut, HeldOut] | None:
    """Return the predictions of models for held-out cells, without and with forests."""
    found, before_them = [], []
    for hidden in folds:
        shown = rows.without(hidden)
        features = shown.features(plain=choice.sample == "columns")
        model, _, _ = _fitted(shown, features, choice, settings, before, starts=1)
        model = replace(model, features=calibrated_as(features, whole))
        mask = np.asarray(hidden.any(0))
        better = refined(model, shown.codes, settings.seed, mask)
        found.append(rows.of_hidden(better, features, hidden, whole))
        before_them.append(rows.of_hidden(model, features, hidden, whole))
    return (HeldOut.joined(before_them), HeldOut.joined(found)) if found else None


def _choices(
    settings: Settings, features: Features, sample: Rows
) -> tuple[Setting, ...]:
    """Return the kinds of models of which held-out cells choose one.

    The longer side is the sample, whose factors are integrated out. If neither side is
    twice as long as the other, both are tried. If the sample has at least ten times as many
    members as features, the covariance is not shrunk.
    """
    rows = sum(sample.together.each(len(sample.codes)))
    columns = Standard(features).places[-1].stop
    sides = ["rows"] if rows >= columns else ["columns", "rows"]
    if sample.weights is not None:  # only a sample of rows can have weights of rows
        sides = ["rows"]
    elif columns > 2 * rows:
        sides = ["columns"]
    elif columns > rows / 2 and rows >= columns:
        sides = ["rows", "columns"]
    if not settings.held_out:
        sides = sides[:1]
    if sample.together.size > 1:
        complaints = Complaints()
        complaints.require(
            sides == ["rows"],
            f"the table has {rows} rows and {columns} features, but several processes "
            "share one with at least twice as many rows as features; start one process",
        )
        complaints.require(
            not settings.refine,
            f"{name_of('refine')} is given, but several processes fit no forests; leave it "
            "out, or start one process",
        )
        complaints.raise_any()
    found = []
    for side in sides:
        members, width = columns, rows
        if side == "rows":
            members, width = rows, features.width
        strengths: tuple[float, ...] = STRENGTHS
        if not isinstance(settings.strength, str):
            strengths = (float(settings.strength),)
        elif members >= MANY_ROWS * width or not settings.held_out:
            strengths = (0.0,)
        found += [Setting(side, strength) for strength in strengths]
    return tuple(found)
