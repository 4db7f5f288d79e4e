"""Fit the Gaussian model of a table, and judge it by cells that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from descents.answers.intervals import coverage_checked, rank_of
from descents.checks import Complaints, InvalidValueError, real_number, whole_number
from descents.descent.loop import Stop, descend
from descents.descent.runs import Runs
from descents.marginal.features import Features, NumberFeatures, features_of
from descents.marginal.gaussian import Marginal, Point
from descents.marginal.maximization import EM
from descents.marginal.posterior import Cells, Gaussian, drawn, predicted
from descents.problems.problem import stream

MOST_HELD_OUT = 20_000
"""No more cells are held out in one fold."""
ENOUGH_HELD_OUT = 1000
"""Folds are added until so many cells were held out."""
MOST_FOLDS = 10
STRENGTHS = (0.0, 1.0, 3.0, 10.0)
"""What `strength="auto"` chooses from, where rows are few."""
FOLDS_OF_STRENGTHS = 3
"""In how many folds all of these are tried."""
BLOCKS = 20
"""The blocks of cells of the jackknife that compares them."""
MANY_ROWS = 10
"""With so many rows for each feature the covariance is not shrunk."""


@dataclass(frozen=True)
class Settings:
    """How a table is modeled.

    Parameters
    ----------
    n_components : int, optional
        The rank of the loadings; by default every covariance is possible.
    strength : float or "auto"
        How much the covariance is shrunk (`Marginal`). "auto" takes 0 where there are
        ten rows or more for each feature, and else what predicts held-out cells best.
    n_starts : int
    seed : int
    tol : float
        A start is stationary when EM can lower its loss by at most ``tol**2`` of it.
    max_steps : int
    held_out : float
        The share of the observed cells that the model is judged by.
    """

    n_components: int | None = None
    strength: float | str = "auto"
    n_starts: int = 1
    seed: int = 0
    tol: float = 1e-3
    max_steps: int = 300
    held_out: float = 0.1

    def __post_init__(self) -> None:
        complaints = Complaints()
        if self.n_components is not None:
            complaints.attempt(whole_number, "n_components", self.n_components, 0)
        if self.strength != "auto":
            complaints.attempt(real_number, "strength", self.strength, 0)
        complaints.attempt(whole_number, "n_starts", self.n_starts, 1)
        complaints.attempt(whole_number, "max_steps", self.max_steps, 0)
        complaints.attempt(real_number, "tol", self.tol, 0)
        complaints.attempt(real_number, "held_out", self.held_out, 0)
        complaints.raise_any()


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What was predicted of cells that a fit had not seen.

    Attributes
    ----------
    columns : int64 ndarray
        The column of each cell.
    truth, values, constants : float64 ndarray
        What was observed; the predictions of the model; the mean or the most frequent
        level of the column, of the cells that the same fit had seen.
    scores : float64 ndarray
        The nonconformity of the truth: of a number, its distance from the prediction
        over the standard deviation that the model gives it; of a level, 1 less its
        probability.
    """

    columns: np.ndarray
    truth: np.ndarray
    values: np.ndarray
    constants: np.ndarray
    scores: np.ndarray

    def __repr__(self) -> str:
        """Return in a line how many cells there are."""
        return f"HeldOut({len(self.truth)} cells of {len(np.unique(self.columns))} columns)"

    def errors(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the errors of each cell by the model, and by constants.

        Squared differences of numbers, and 1 for a wrong level.
        """
        of_levels = levels[self.columns] > 0
        model, constant = (
            np.where(of_levels, guess != self.truth, np.square(guess - self.truth))
            for guess in (self.values, self.constants)
        )
        return model, constant

    @classmethod
    def joined(cls, parts: Sequence[HeldOut]) -> HeldOut:
        """Return the cells of several folds."""
        names = ("columns", "truth", "values", "constants", "scores")
        return cls(*(np.concatenate([getattr(x, n) for x in parts]) for n in names))


@dataclass(frozen=True)
class ColumnScore:
    """How well the held-out cells of a column were predicted.

    Attributes
    ----------
    cells : int
        How many cells were held out.
    error, constant_error : float
        The root mean squared error of numbers, in their units, or the share of wrong
        levels: of the model, and of the mean or the most frequent level.
    difference, standard_error : float
        The mean difference of the errors of cells (squared, of numbers), the model's
        less the constant's, and its standard error.
    """

    cells: int
    error: float
    constant_error: float
    difference: float
    standard_error: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model of a table.

    Attributes
    ----------
    features : Features
    levels : int64 ndarray of shape (p,)
        How many levels each column has; 0 for numbers.
    gaussian : Gaussian
        The distribution of the features of a row.
    runs : Runs
        The descents of the last fit, to all observed cells.
    strength : float
        How much the covariance was shrunk.
    n_components : int
        How many components the loadings have.
    held_out : HeldOut or None
    scores : tuple of ColumnScore or None
        One for each column; None where no cell was held out.
    constant : bool ndarray of shape (p,)
        Which columns are filled by their mean or their most frequent level, because held
        out cells were not predicted better than that.
    """

    features: Features
    levels: np.ndarray
    gaussian: Gaussian
    runs: Runs
    strength: float
    n_components: int
    held_out: HeldOut | None
    scores: tuple[ColumnScore | None, ...]
    constant: np.ndarray

    def __repr__(self) -> str:
        """Return in a line what was fitted."""
        return (
            f"Fitted({len(self.levels)} columns, {self.features.width} features, "
            f"{self.n_components} components, strength {self.strength:g}, "
            f"loss {self.runs.losses[self.runs.best]:.6g})"
        )

    def predicted(self, codes: np.ndarray, *, limited: bool = True) -> Cells:
        """Return what the model says of the missing cells of a table.

        Parameters
        ----------
        codes : float64 ndarray of shape (n, p)
            NaN where missing.
        limited : bool
            Whether numbers are kept within the observed range of their column.
        """
        found = predicted(self.gaussian, self.features, codes)
        lacking = np.isnan(codes)
        for place, column in enumerate(self.features.columns):
            rows = lacking[:, place]
            if not rows.any():
                continue
            values = found.values[:, place]
            if self.constant[place]:
                values[rows] = self.constants[place]
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
        values = drawn(self.gaussian, self.features, codes, generator)
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

        Of its own held-out cells where there are 30, and as many as the coverage needs;
        else of those of all columns of numbers, or of all columns of levels.

        Raises
        ------
        InvalidValueError
            When too few cells were held out.
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


def constants_of(features: Features) -> np.ndarray:
    """Return the mean, or the code of the most frequent level, of each column."""
    return np.array(
        [
            column.center
            if isinstance(column, NumberFeatures)
            else float(column.shares.argmax())
            for column in features.columns
        ]
    )


def fit(
    codes: np.ndarray,
    levels: np.ndarray,
    settings: Settings | None = None,
    weights: np.ndarray | None = None,
) -> Fitted:
    """Fit a model of a table, and judge it by cells that it has not seen.

    A share of the observed cells is held out, a model is fitted to the others, and its
    predictions of the held-out cells are compared with the mean or the most frequent
    level of each column. Small tables have up to ten such folds. The model that is
    returned is fitted to all observed cells.

    Parameters
    ----------
    codes : float64 ndarray of shape (n, p)
        Numbers, and codes 0, 1, ... of levels; NaN where missing.
    levels : int ndarray of shape (p,)
        How many levels each column has; 0 for numbers.
    settings : Settings, optional
    weights : ndarray of shape (n,), optional
        Of the rows.

    Raises
    ------
    InvalidValueError
        When the table has no observed cell.

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
    codes = np.asarray(codes, dtype=np.float64)
    levels = np.asarray(levels, dtype=np.int64)
    if not (~np.isnan(codes)).any():
        raise InvalidValueError(
            "the table has no observed cell; give one that has some"
        )
    features = features_of(codes, levels)
    folds = list(_folds(codes, settings)) if settings.held_out else []
    strengths = _strengths(settings, len(codes), features.width)
    parts: dict[float, list[HeldOut]] = {strength: [] for strength in strengths}
    before: dict[float, Point] = {}
    for place, hidden in enumerate(folds):
        if place == FOLDS_OF_STRENGTHS:
            best = _best_strength(parts, levels)
            parts = {best: parts[best]}
        shown = np.where(hidden, np.nan, codes)
        mine = features_of(shown, levels)
        encoded = mine.encoded(shown)
        for strength, some in parts.items():
            problem = _problem(encoded, mine, settings, strength, weights)
            point, _ = _descended(problem, settings, before.get(strength), starts=1)
            before[strength] = point
            gaussian = Gaussian.of(problem, point)
            some.append(_held_out(gaussian, mine, codes, shown, hidden))
    strength = _best_strength(parts, levels) if folds else strengths[0]
    held_out = HeldOut.joined(parts[strength]) if folds else None
    problem = _problem(features.encoded(codes), features, settings, strength, weights)
    point, runs = _descended(
        problem, settings, before.get(strength), starts=settings.n_starts
    )
    scores = (
        _scores(held_out, levels) if held_out is not None else (None,) * len(levels)
    )
    constant = np.array([one is not None and one.difference > 0 for one in scores])
    return Fitted(
        features,
        levels,
        Gaussian.of(problem, point),
        runs,
        strength,
        int((point["loadings"].square().sum(0) > 0).sum()),
        held_out,
        scores,
        constant,
    )


def _problem(
    encoded: np.ndarray,
    features: Features,
    settings: Settings,
    strength: float,
    weights: np.ndarray | None,
) -> Marginal:
    """Return the problem of a fit."""
    rank = settings.n_components
    return Marginal(
        encoded,
        None if rank is None else min(rank, features.width),
        ridge=features.ridge,
        strength=strength,
        weights=weights,
    )


def _descended(
    problem: Marginal, settings: Settings, before: Point | None, *, starts: int
) -> tuple[Point, Runs]:
    """Return the best point that starts reach, the first of them from a point before."""
    problem.begin_at(before)
    runs = descend(
        problem,
        starts,
        settings.seed,
        steps=EM(),
        stop=Stop(settings.max_steps, tolerance=settings.tol),
    )
    best = runs.best
    point = {n: torch.as_tensor(p[best]) for n, p in runs.parameters.items()}
    return point, runs


def _strengths(settings: Settings, rows: int, width: int) -> tuple[float, ...]:
    """Return the strengths that are tried."""
    if not isinstance(settings.strength, str):
        return (float(settings.strength),)
    if rows >= MANY_ROWS * width or not settings.held_out:
        return (0.0,)
    return STRENGTHS


def _folds(codes: np.ndarray, settings: Settings) -> Iterator[np.ndarray]:
    """Give the cells that are held out, as masks, never the last of a row or a column.

    One fold where that holds out enough cells, else up to ten that share no cell.
    """
    cells = np.argwhere(~np.isnan(codes))
    cells = stream(settings.seed, "split", 0).permutation(cells)
    kept = np.zeros(len(cells), dtype=bool)
    for axis in (0, 1):  # the first of each row and of each column stays
        kept[np.unique(cells[:, axis], return_index=True)[1]] = True
    cells = cells[~kept]
    each = min(round(settings.held_out * (len(cells) + kept.sum())), MOST_HELD_OUT)
    if not each or not len(cells):
        return
    count = min(MOST_FOLDS, -(-ENOUGH_HELD_OUT // each), -(-len(cells) // each))
    for fold in range(count):
        hidden = np.zeros(codes.shape, dtype=bool)
        hidden[tuple(cells[fold * each : (fold + 1) * each].T)] = True
        yield hidden


def _held_out(
    gaussian: Gaussian,
    features: Features,
    codes: np.ndarray,
    shown: np.ndarray,
    hidden: np.ndarray,
) -> HeldOut:
    """Return what a model of the shown cells says of the hidden ones."""
    rows = np.flatnonzero(hidden.any(1))
    part = hidden[rows]
    found = predicted(gaussian, features, shown[rows])
    cells, columns = np.nonzero(part)
    truth, values = codes[rows][part], found.values[part]
    scores = np.zeros(len(truth))
    for place, column in enumerate(features.columns):
        mine = columns == place
        if not mine.any():
            continue
        if isinstance(column, NumberFeatures):
            off = np.abs(truth[mine] - values[mine])
            deviations = found.deviations[part][mine]
            scores[mine] = off / np.maximum(deviations, 1e-300)
            values[mine] = np.clip(values[mine], column.low, column.high)
        else:
            chances = found.probabilities[place][cells[mine]]
            true = truth[mine].astype(np.int64)
            scores[mine] = 1 - chances[np.arange(len(true)), true]
    constants = constants_of(features)[columns]
    return HeldOut(columns, truth, values, constants, scores)


def _best_strength(parts: dict[float, list[HeldOut]], levels: np.ndarray) -> float:
    """Return the strength with the least error, or the first if none is clearly better.

    The error is the mean over columns of the root mean squared error, or of the share of
    wrong levels, over that of the constants. Another strength has to be better than the
    first by two standard errors of the difference, by the jackknife over blocks of cells.
    """
    first, *others = parts
    if not others:
        return first
    joined = {strength: HeldOut.joined(some) for strength, some in parts.items()}
    blocks = np.arange(len(joined[first].columns)) % BLOCKS
    errors = np.array(
        [
            [
                _mean_error(part, levels, blocks != block)
                for block in (-1, *range(BLOCKS))
            ]
            for part in joined.values()
        ]
    )
    best = int(errors[:, 0].argmin())
    off = errors[best] - errors[0]
    deviation = np.sqrt((BLOCKS - 1) * np.var(off[1:]))
    return list(parts)[best] if off[0] < -2 * deviation else first


def _mean_error(held_out: HeldOut, levels: np.ndarray, kept: np.ndarray) -> float:
    """Return the mean error over columns, relative to constants, of some of the cells."""
    columns = held_out.columns[kept]
    sums = [
        np.bincount(columns, weights=part[kept], minlength=len(levels))
        for part in held_out.errors(levels)
    ]
    some = sums[1] > 0
    ratios = sums[0][some] / sums[1][some]
    ratios = np.where(levels[some] > 0, ratios, np.sqrt(ratios))
    return float(ratios.mean()) if len(ratios) else 0.0


def _scores(held_out: HeldOut, levels: np.ndarray) -> tuple[ColumnScore | None, ...]:
    """Return how well each column was predicted."""
    model, constant = held_out.errors(levels)
    found: list[ColumnScore | None] = []
    for place, count in enumerate(levels):
        mine = held_out.columns == place
        cells = int(mine.sum())
        if not cells:
            found.append(None)
            continue
        off = model[mine] - constant[mine]
        errors = [float(part[mine].mean()) for part in (model, constant)]
        if not count:
            errors = [float(np.sqrt(error)) for error in errors]
        deviation = float(off.std(ddof=1)) if cells > 1 else np.inf
        found.append(
            ColumnScore(
                cells,
                errors[0],
                errors[1],
                float(off.mean()),
                deviation / float(np.sqrt(cells)),
            )
        )
    return tuple(found)
