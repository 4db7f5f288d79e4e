"""How well a point fit predicts cells that it has not seen, column by column."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.columns import ColumnModel
from descents.cells.sparse import Sparse
from descents.factorization.candidates import Candidates, OfCandidates
from descents.factorization.factorization import Factorization
from descents.lowrank.folds import dealt, with_holes
from descents.lowrank.folds import observed as observed_of
from descents.lowrank.judged import Judged
from descents.lowrank.predictor import decoded, probabilities
from descents.lowrank.problems import OfFactorization
from descents.marginal.held_out import (
    ENOUGH_HELD_OUT,
    ENOUGH_OF_COLUMN,
    MOST_FOLDS,
    MOST_HELD_OUT,
    ColumnScore,
    HeldOut,
    deviation_of,
    filled_by_constants,
    relative_errors,
    scores_of,
)
from descents.marginal.model import MANY_ROWS, fit
from descents.marginal.settings import Settings
from descents.optim.executors import Workers
from descents.optim.loop import descend
from descents.optim.problem import Problem
from descents.optim.rules import UpdateRule
from descents.optim.stopping import Stop
from descents.rng import stream

MOST_WORK = 1e7
"""With more rows times squared features the imputer is not fitted to be compared."""
FOLDS_OF_IMPUTER = 2
"""In how many folds it is compared."""
ENOUGH_TO_JUDGE = 50
"""Of fewer held-out cells nothing is concluded."""
AWAY = 1e6
"""What is infinite counts as so many times the size of the others."""


@dataclass(frozen=True, eq=False)
class Unseen:
    """What fits predicted of cells that they had not seen; it is not stored with a model.

    Attributes
    ----------
    levels : int64 ndarray of shape (columns,)
        How many levels each column has; 0 for numbers.
    constant : bool ndarray of shape (columns,)
        Which columns are filled with their best constant.
    losses : HeldOut
        The truth of numbers is 0, and predictions are the roots of their losses.
    predicted : HeldOut
        The same with numbers as they are predicted.
    rows : int64 ndarray
        The row of each held-out cell.
    folds : int64 ndarray
        The fold of each held-out cell.
    """

    levels: np.ndarray
    constant: np.ndarray
    losses: HeldOut
    predicted: HeldOut
    rows: np.ndarray
    folds: np.ndarray

    def as_filled(self, held_out: HeldOut) -> HeldOut:
        """Return held-out cells with the constants where these are what is filled in."""
        flat = self.constant[held_out.columns]
        return replace(
            held_out, values=np.where(flat, held_out.constants, held_out.values)
        )

    def better_by_imputer(self, codes: np.ndarray, seed: int) -> str | None:
        """Return a sentence where `descents impute` predicts the same cells better.

        Better by more than a standard error. Where the table is small enough for its
        model to be fitted in a few seconds.

        Parameters
        ----------
        codes : float64 ndarray of shape (rows, columns)
            The table: numbers, and codes of levels; NaN where missing.
        seed : int
        """
        levels = self.levels
        width = int(np.maximum(levels, 1).sum())
        if codes.shape[0] * width**2 > MOST_WORK:
            return None
        some = self.folds < FOLDS_OF_IMPUTER
        kept = self.as_filled(self.predicted).some(some)
        found = kept.values.copy()
        strength = 0.0 if len(codes) >= MANY_ROWS * width else 1.0
        settings = Settings(held_out=0.0, strength=strength, seed=seed)
        for fold in range(int(self.folds[some].max()) + 1):
            mine = self.folds[some] == fold
            places = self.rows[some][mine], kept.columns[mine]
            shown = codes.copy()
            shown[places] = np.nan
            fitted = fit(shown, levels, settings)
            found[mine] = fitted.predicted(shown).values[places]
        ours = relative_errors(kept, levels)
        theirs = relative_errors(replace(kept, values=found), levels)
        if not ours[0] - theirs[0] > deviation_of(ours - theirs):
            return None
        return (
            f"'descents impute' predicts these cells better: on {len(found)} cells that "
            f"neither had seen its error is {theirs[0]:.3g} of that of constants, that of "
            f"this model {ours[0]:.3g}"
        )


def judged(
    found: Cells,
    models: Sequence[ColumnModel],
    rank: int,
    settings: OfFactorization,
    step: Callable[[Factorization], UpdateRule],
    stop: Stop,
    *,
    share: float = 0.1,
    seed: int = 0,
    workers: Workers = 1,
    exact: bool = False,
) -> tuple[Judged, Unseen] | None:
    """Fit without some of the cells, and compare what is predicted of them.

    A tenth of the observed cells is held out, at most 20,000; of a small table in up to
    ten folds that share no cell. They are compared with the best constants of the cells
    that the same fit had seen. A column is filled with its constant where that is better
    (`descents.marginal.held_out.filled_by_constants`).

    Parameters
    ----------
    found : Cells
        All that is known.
    models : sequence of ColumnModel
    rank : int
    settings : mapping
        Of `Factorization`.
    step : callable
        Returns the update rule for a factorization.
    stop : Stop
        When a fit rests.
    share : float
    seed : int
    workers : int or Executor
        Processes that descend side by side.
    exact : bool
        Whether the table is fitted exactly by fewer parameters than it has cells, so that
        no column is filled with a constant.

    Returns
    -------
    tuple of Judged and Unseen, or None
        None where fewer than 50 cells can be held out, of which nothing is concluded.
    """
    whole = with_holes(found)
    fold = _folds(whole, share, seed)
    if (fold >= 0).sum() < ENOUGH_TO_JUDGE:
        return None
    problem = Candidates(whole, fold, [rank], [1.0], **settings)
    count = len(problem.numbered)
    fitted: Problem = problem
    steps: UpdateRule = OfCandidates(step(problem.template))
    if count == 1:  # its cells need no mask for each start
        fitted = problem.alone(rank, 0)
        steps = step(problem.alone(rank, 0))
    runs = descend(
        fitted,
        count,
        seed,
        steps=steps,
        stop=stop,
        width=min(fitted.width, count),
        workers=workers,
    )
    levels = np.array([len(model.levels) for model in models])
    parts = [_of_fold(problem, runs.parameters, k, levels) for k in range(count)]
    constants = np.array(
        [codes[0] for codes in decoded(found, found.offsets[None], found.cuts)]
    )
    return concluded(parts, levels, constants, exact=exact)


Part = tuple[HeldOut, HeldOut, np.ndarray]
"""What one fit says of the cells that it has not seen: by their losses, as predicted (see
`Unseen`), and the rows of the cells."""


def concluded(
    parts: Sequence[Part], levels: np.ndarray, constants: np.ndarray, *, exact: bool
) -> tuple[Judged, Unseen]:
    """Return what follows from the cells that some fits have not seen.

    Parameters
    ----------
    parts : sequence of Part
        One for each fit.
    levels : int64 ndarray of shape (columns,)
        How many levels each column has; 0 for numbers.
    constants : float64 ndarray of shape (columns,)
        The best constant of each column.
    exact : bool
        See `judged`.
    """
    losses = HeldOut.joined([part[0] for part in parts])
    predicted = HeldOut.joined([part[1] for part in parts])
    rows = np.concatenate([part[2] for part in parts])
    folds = np.repeat(np.arange(len(parts)), [len(part[2]) for part in parts])
    scores = scores_of(losses, levels)
    constant = np.zeros(len(levels), dtype=bool)
    if not exact:
        constant = _better_constants(losses, scores, levels)
    unseen = Unseen(levels, constant, losses, predicted, rows, folds)
    errors = relative_errors(unseen.as_filled(losses), levels)
    overall = len(rows), float(errors[0]), deviation_of(errors)
    model = math.nan, math.nan
    if not exact:
        alone = relative_errors(losses, levels)
        model = float(alone[0]), deviation_of(alone)
    numbers = (*overall, *model)
    judged = Judged(levels, scores, constant, constants, *numbers, rounds=len(parts))
    return judged, unseen


def _better_constants(
    losses: HeldOut, scores: Sequence[ColumnScore | None], levels: np.ndarray
) -> np.ndarray:
    """Return which columns are filled by their constants.

    Of a column with few held-out cells nothing is concluded by itself: it is filled by its
    constant only where the model as a whole is worse than the constants.
    """
    errors = relative_errors(losses, levels)
    worse = errors[0] > 1 + min(deviation_of(errors), 1.0)
    least = 1 if worse else ENOUGH_OF_COLUMN
    enough = np.array([one is not None and one.cells >= least for one in scores])
    return filled_by_constants(losses, scores, levels) & enough


def _folds(whole: Cells, share: float, seed: int) -> np.ndarray:
    """Return the fold of each cell that is held out, -1 of the others."""
    generator = stream(seed, "split", 2)
    fold = dealt(whole, max(2, round(1 / share)), generator)
    if not (fold >= 0).any():
        return fold
    sizes = np.bincount(fold[fold >= 0])
    some = np.flatnonzero(sizes)  # of a small table, a few parts have no cell
    count = min(MOST_FOLDS, len(some), -(-ENOUGH_HELD_OUT // int(sizes[some[0]])))
    numbers = np.full(len(sizes) + 1, -1)  # the last is that of cells never held out
    numbers[some[:count]] = np.arange(count)
    fold = numbers[fold]
    places = np.flatnonzero(fold == 0)
    if len(places) > MOST_HELD_OUT:
        left = generator.permutation(len(places))[MOST_HELD_OUT:]
        fold.reshape(-1)[places[left]] = -1
    return fold


def _of_fold(
    problem: Candidates,
    parameters: Mapping[str, np.ndarray],
    start: int,
    levels: np.ndarray,
) -> Part:
    """Return what one fit says of the cells that it has not seen, and their rows."""
    rank, _, fold = problem.numbered[start]
    alone, found = problem.alone(rank, fold), problem.template.cells
    hidden = problem.folds == fold
    i, j, truth = observed_of(found)
    mine = hidden if isinstance(found, Sparse) else hidden[i, j]
    i, j, truth = i[mine], j[mine], truth[mine].astype(np.float64)
    tensors = {
        name: torch.as_tensor(value[start])[None].double()
        for name, value in parameters.items()
    }
    left, right = (side[0] for side in alone.extended(tensors))
    cuts = alone.cut_parameters(tensors)[0]
    known = alone.cells
    middle = (
        torch.ones(found.shape[0], 1, dtype=torch.float64),
        torch.as_tensor(known.offsets)[:, None],
    )
    units = _units(found)
    chances = _chances(found, (left, right), cuts.numpy(), i, j)
    roots, guesses = [], []
    for sides, its in (((left, right), cuts), (middle, torch.as_tensor(known.cuts))):
        each = np.asarray(found.in_memory.each(*sides, its))[hidden]
        roots.append(np.sqrt(np.maximum(_finite(each), 0)) * units[j])
        guesses.append(_guesses(found, sides, its.numpy(), i, j))
    truth = truth * units[j]
    of_levels = levels[j] > 0
    none = np.zeros(len(j))
    by_loss = [np.where(of_levels, g, r) for g, r in zip(guesses, roots, strict=True)]
    return (
        HeldOut(j, np.where(of_levels, truth, 0.0), by_loss[0], by_loss[1], none),
        HeldOut(j, truth, guesses[0], guesses[1], none, chances=chances),
        i,
    )


def _units(found: Cells) -> np.ndarray:
    """Return what numbers of each column are multiplied by to be in the data's units."""
    units = np.ones(found.shape[1])
    for block in found.blocks:
        if found.units is not None and block.loss.has_units:
            units[block.columns] = found.units[block.columns]
    return units


def _guesses(
    found: Cells,
    sides: tuple[torch.Tensor, torch.Tensor],
    cuts: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """Return the numbers or codes that are predicted of some cells."""
    left, right = (side.numpy() for side in sides)
    if isinstance(found, Sparse):
        natural = (left[rows] * right[columns]).sum(1)
        return _finite(found.blocks[0].loss.impute(natural))
    codes = decoded(found, left @ right.T, cuts)
    picked = np.empty(len(rows))
    for column, values in enumerate(codes):
        mine = columns == column
        picked[mine] = values[rows[mine]]
    return _finite(picked)


def _chances(
    found: Cells,
    sides: tuple[torch.Tensor, torch.Tensor],
    cuts: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """Return the probabilities of the levels of some cells, where the loss has these.

    Returns
    -------
    ndarray of shape (cells, most levels)
        NaN past the last level of a column, and for losses that are no likelihood.
    """
    likely = [block for block in found.blocks if block.loss.likelihood]
    if isinstance(found, Sparse) or not likely:
        return np.zeros((len(rows), 0))
    left, right = (side.numpy() for side in sides)
    most = max(max(block.levels, 2) for block in likely)
    chances: np.ndarray = np.full((len(rows), most), np.nan)
    of_columns = probabilities(found, left @ right.T, cuts)
    for block in likely:
        for column in block.columns:
            mine, values = columns == column, of_columns[column]
            if values is not None:
                chances[mine, : values.shape[1]] = values[rows[mine]]
    return chances


def _finite(values: np.ndarray) -> np.ndarray:
    """Return numbers with what has run away at many times the size of the others."""
    known = np.isfinite(values)
    most = AWAY * float(np.abs(values[known]).max(initial=1.0))
    return np.nan_to_num(values, nan=most, posinf=most, neginf=-most)
