"""How well a point fit predicts cells that it has not seen, column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.columns import ColumnModel
from descents.cells.layouts import Stored
from descents.factorization.candidates import Candidates, OfCandidates
from descents.factorization.factorization import Factorization
from descents.lowrank.fitted import decoded
from descents.lowrank.folds import dealt, with_holes
from descents.lowrank.folds import observed as observed_of
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
from descents.marginal.model import MANY_ROWS, Settings, fit
from descents.optim.loop import descend
from descents.optim.problem import Problem
from descents.optim.rules import UpdateRule
from descents.optim.stopping import Stop
from descents.rng import stream
from descents.tables.levels import listed
from descents.text import counted

MOST_WORK = 1e7
"""With more rows times squared features the imputer is not fitted to be compared."""
FOLDS_OF_IMPUTER = 2
"""In how many folds it is compared."""
AWAY = 1e6
"""What is infinite counts as so many times the size of the others."""


@dataclass(frozen=True, eq=False)
class Judged:
    """How well a fit predicts cells that it has not seen.

    Attributes
    ----------
    levels : int64 ndarray of shape (columns,)
        How many levels each column has; 0 for numbers.
    scores : tuple of ColumnScore or None
        One for each column. Errors of numbers are roots of mean losses, in their units:
        for squared loss the root mean squared error.
    constant : bool ndarray of shape (columns,)
        Which columns are filled with their best constant.
    constants : float64 ndarray of shape (columns,)
        The best constant of each column by its loss, or the code of a level.
    held_out : HeldOut or None
        What was predicted; the truth of numbers is 0, and predictions are the roots of
        their losses. None of a stored model.
    predicted : HeldOut or None
        The same with numbers as they are predicted.
    rows : int64 ndarray or None
        The row of each held-out cell.
    folds : int64 ndarray or None
        The fold of each held-out cell.
    """

    levels: np.ndarray
    scores: tuple[ColumnScore | None, ...]
    constant: np.ndarray
    constants: np.ndarray
    held_out: HeldOut | None = None
    predicted: HeldOut | None = field(default=None, repr=False)
    rows: np.ndarray | None = field(default=None, repr=False)
    folds: np.ndarray | None = field(default=None, repr=False)

    def shares(self) -> list[float | None]:
        """Return which share of each column's loss is predicted, of cells not seen.

        1 less the mean loss over that of the constant, for squared loss the share of the
        variance; of levels 1 less the share of wrong ones over that of the constant.
        """
        found: list[float | None] = []
        for score, count in zip(self.scores, self.levels, strict=True):
            if score is None or score.constant_error == 0:
                found.append(None)
                continue
            ratio = score.error / score.constant_error
            found.append(1 - (ratio if count else ratio**2))
        return found

    def says(self, names: Sequence[str], lacking: np.ndarray) -> str | None:
        """Return a warning where missing cells are filled with constants, or None.

        Parameters
        ----------
        names : sequence of str
            Of the columns.
        lacking : bool ndarray of shape (columns,)
            Which columns have missing cells.
        """
        varies = [one is not None and one.constant_error > 0 for one in self.scores]
        here = self.constant & lacking & varies
        flat = [name for name, one in zip(names, here, strict=True) if one]
        if not flat:
            return None
        if all(one is None or one.difference >= 0 for one in self.scores):
            return (
                "held-out cells of no column are predicted better than by its mean or "
                "most frequent level, with which missing cells are filled; the table may "
                "have no structure of this rank"
            )
        are = "is" if len(flat) == 1 else "are"
        return (
            f"{counted(len(flat), 'column')} {are} filled with the mean or the most "
            f"frequent level, as held-out cells are not predicted better: {listed(flat)}"
        )

    def as_filled(self, held_out: HeldOut) -> HeldOut:
        """Return held-out cells with the constants where these are what is filled in."""
        flat = self.constant[held_out.columns]
        return replace(
            held_out, values=np.where(flat, held_out.constants, held_out.values)
        )

    def overall(self) -> dict[str, Any] | None:
        """Return the error of what is filled in over that of constants, in all.

        Returns
        -------
        dict or None
            `cells`, how many were held out; `relative_error`, the mean over columns of
            the error over that of the constants; its `standard_error`, by the jackknife;
            and a sentence, `says`. None of a stored model.
        """
        if self.held_out is None:
            return None
        errors = relative_errors(self.as_filled(self.held_out), self.levels)
        deviation = deviation_of(errors)
        says = (
            f"On {counted(len(self.held_out.columns), 'cell')} that a fit had not seen, "
            f"the error is {errors[0]:.3g} of that of the best constants (mean over "
            f"columns, standard error {deviation:.2g})."
        )
        return {
            "cells": len(self.held_out.columns),
            "relative_error": float(errors[0]),
            "standard_error": deviation,
            "says": says,
        }

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
        if self.predicted is None or self.rows is None or self.folds is None:
            return None
        width = int(np.maximum(self.levels, 1).sum())
        if codes.shape[0] * width**2 > MOST_WORK:
            return None
        some = self.folds < FOLDS_OF_IMPUTER
        kept = _some(self.as_filled(self.predicted), some)
        found = kept.values.copy()
        strength = 0.0 if len(codes) >= MANY_ROWS * width else 1.0
        settings = Settings(held_out=0.0, strength=strength, seed=seed)
        for fold in range(int(self.folds[some].max()) + 1):
            mine = self.folds[some] == fold
            places = self.rows[some][mine], kept.columns[mine]
            shown = codes.copy()
            shown[places] = np.nan
            fitted = fit(shown, self.levels, settings)
            found[mine] = fitted.predicted(shown).values[places]
        ours = relative_errors(kept, self.levels)
        theirs = relative_errors(replace(kept, values=found), self.levels)
        if not ours[0] - theirs[0] > deviation_of(ours - theirs):
            return None
        return (
            f"'descents impute' predicts these cells better: on {len(found)} cells that "
            f"neither had seen its error is {theirs[0]:.3g} of that of constants, that of "
            f"this model {ours[0]:.3g}"
        )

    def filled(self, codes: list[np.ndarray]) -> list[np.ndarray]:
        """Return what is predicted of each column, constants where nothing beats them."""
        return [
            np.full_like(column, constant) if flat else column
            for column, flat, constant in zip(
                codes, self.constant, self.constants, strict=True
            )
        ]

    def stored(self) -> dict[str, np.ndarray]:
        """Return what `restored` takes."""
        names = ("cells", "error", "constant_error", "difference", "standard_error")
        each = [
            [np.nan] * len(names) if one is None else [getattr(one, n) for n in names]
            for one in self.scores
        ]
        return {
            "judged/levels": self.levels,
            "judged/scores": np.array(each, dtype=np.float64).reshape(-1, len(names)),
            "judged/constant": self.constant.astype(np.uint8),
            "judged/constants": self.constants,
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray]) -> Judged | None:
        """Return what `stored` gave; None where there is nothing of it."""
        if "judged/scores" not in arrays:
            return None
        scores = tuple(
            None if np.isnan(row[0]) else ColumnScore(int(row[0]), *map(float, row[1:]))
            for row in arrays["judged/scores"]
        )
        return cls(
            arrays["judged/levels"],
            scores,
            arrays["judged/constant"].astype(bool),
            arrays["judged/constants"],
        )


def judged(
    found: Cells,
    models: Sequence[ColumnModel],
    rank: int,
    settings: Mapping[str, Any],
    step: Callable[[Factorization], UpdateRule],
    stop: Stop,
    *,
    share: float = 0.1,
    seed: int = 0,
    workers: int = 1,
    exact: bool = False,
) -> Judged | None:
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
    workers : int
        Processes that descend side by side.
    exact : bool
        Whether the table is fitted exactly by fewer parameters than it has cells, so that
        no column is filled with a constant.

    Returns
    -------
    Judged or None
        None where no cell can be held out.
    """
    whole = with_holes(found)
    fold = _folds(whole, share, seed)
    if not (fold >= 0).any():
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
    losses = HeldOut.joined([part[0] for part in parts])
    predicted = HeldOut.joined([part[1] for part in parts])
    rows = np.concatenate([part[2] for part in parts])
    folds = np.repeat(np.arange(len(parts)), [len(part[2]) for part in parts])
    scores = scores_of(losses, levels)
    constant = np.zeros(len(levels), dtype=bool)
    if len(rows) >= ENOUGH_OF_COLUMN and not exact:
        constant = filled_by_constants(losses, scores, levels)
        empty = np.array([score is None for score in scores])
        constant &= ~empty
    constants = np.array(
        [codes[0] for codes in decoded(found, found.offsets[None], found.cuts)]
    )
    return Judged(levels, scores, constant, constants, losses, predicted, rows, folds)


def _some(held_out: HeldOut, kept: np.ndarray) -> HeldOut:
    """Return some of the held-out cells."""
    return HeldOut(*(getattr(held_out, one.name)[kept] for one in fields(HeldOut)))


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
) -> tuple[HeldOut, HeldOut, np.ndarray]:
    """Return what one fit says of the cells that it has not seen, and their rows."""
    rank, _, fold = problem.numbered[start]
    alone, found = problem.alone(rank, fold), problem.template.cells
    hidden = problem.folds == fold
    i, j, truth = observed_of(found)
    mine = hidden if isinstance(found, Stored) else hidden[i, j]
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
    roots, guesses = [], []
    for sides, its in (((left, right), cuts), (middle, torch.as_tensor(known.cuts))):
        each = np.asarray(found.each(*sides, its))[hidden]
        roots.append(np.sqrt(np.maximum(_finite(each), 0)) * units[j])
        guesses.append(_guesses(found, sides, its.numpy(), i, j))
    truth = truth * units[j]
    of_levels = levels[j] > 0
    none = np.zeros(len(j))
    by_loss = [np.where(of_levels, g, r) for g, r in zip(guesses, roots, strict=True)]
    return (
        HeldOut(j, np.where(of_levels, truth, 0.0), by_loss[0], by_loss[1], none),
        HeldOut(j, truth, guesses[0], guesses[1], none),
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
    if isinstance(found, Stored):
        natural = (left[rows] * right[columns]).sum(1)
        return _finite(found.blocks[0].loss.impute(natural))
    codes = decoded(found, left @ right.T, cuts)
    picked = np.empty(len(rows))
    for column, values in enumerate(codes):
        mine = columns == column
        picked[mine] = values[rows[mine]]
    return _finite(picked)


def _finite(values: np.ndarray) -> np.ndarray:
    """Return numbers with what has run away at many times the size of the others."""
    known = np.isfinite(values)
    most = AWAY * float(np.abs(values[known]).max(initial=1.0))
    return np.nan_to_num(values, nan=most, posinf=most, neginf=-most)
