"""What held-out cells say of a point fit: errors of columns, and what fills them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from descents.marginal.held_out import ColumnScore
from descents.tables.spelling import listed
from descents.text import OneLine, counted, in_rounds

ROUNDING = 1e-6
"""Errors that are nearer to each other, in their own units, are the same."""
CLEAR = 0.01
"""A model whose error is above that of constants by a smaller share is not called worse."""
ENOUGH_OF_TABLE = 100
"""Fewest held-out cells from which it is said that the model is no better than constants."""


class Overall(TypedDict):
    """The error on held-out cells: see `Judged.overall`."""

    cells: int
    relative_error: float
    standard_error: float
    says: str
    rounds: int


@dataclass(frozen=True, eq=False)
class Judged(OneLine):
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
    cells : int
        How many cells were held out.
    relative_error : float
        The mean error of the columns as filled over that of the constants. The error of
        numbers is the root mean squared error over that of the constant, the error of
        levels the share of wrong ones.
    standard_error : float
        Of `relative_error`, by the jackknife.
    model_error, model_standard_error : float
        The same for the model in all columns; NaN for models of version 0.1,
        and for tables that are fitted exactly by fewer parameters than cells.
    rounds : int
        The number of fits, each without other cells; 0 if it is not known.
    """

    levels: np.ndarray
    scores: tuple[ColumnScore | None, ...]
    constant: np.ndarray
    constants: np.ndarray
    cells: int
    relative_error: float
    standard_error: float
    model_error: float = math.nan
    model_standard_error: float = math.nan
    rounds: int = field(default=0, kw_only=True)

    @property
    def is_worse(self) -> bool:
        """Whether the model as a whole predicts clearly worse than constants."""
        return self.model_error > 1 + max(self.model_standard_error, CLEAR)

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
            return self._of_the_whole() if lacking.any() else None
        if not any(one is not None and _is_less(one) for one in self.scores):
            return (
                "held-out cells of no column are predicted better than by its mean or "
                f"most frequent level, with which missing cells are filled{self._worse()}; "
                "the table may have no structure of this rank"
            )
        are = "is" if len(flat) == 1 else "are"
        return (
            f"{counted(len(flat), 'column')} {are} filled with the mean or the most "
            f"frequent level, as held-out cells are not clearly predicted better: "
            f"{listed(flat)}{self._worse()}"
        )

    def _worse(self) -> str:
        """Return by how much the model as a whole is worse than constants, if it is."""
        if not self.is_worse:
            return ""
        return (
            f"; the model as a whole is worse than constants, with {self.model_error:.3g} "
            "times their error"
        )

    def _of_the_whole(self) -> str | None:
        """Return a warning if the model as a whole predicts no better than constants.

        None of fewer than `ENOUGH_OF_TABLE` cells, or if it is not known.
        """
        if not self.model_error >= 1 - ROUNDING or self.cells < ENOUGH_OF_TABLE:
            return None
        return (
            f"the model as a whole predicts {counted(self.cells, 'held-out cell')} no "
            f"better than constants: its error is {self.model_error:.3g} times theirs "
            "(mean over columns); the table may have no structure of this rank"
        )

    def overall(self) -> Overall:
        """Return the error of what is filled in over that of constants, in all.

        Returns
        -------
        dict
            `cells` (of columns that vary), `relative_error`, `standard_error`, and a
            sentence, `says`.
        """
        # A column that does not vary is predicted by its constant without an error.
        cells = sum(one.cells for one in self.scores if one and one.constant_error > 0)
        rounds = in_rounds(self.rounds)
        on = f"On {counted(cells, 'cell')} that a fit had not seen"
        on += f"{rounds and f' (hidden{rounds})'}, "
        scored = np.array([one is not None for one in self.scores])
        if self.constant[scored].all():
            says = (
                f"{on}the model is {self._compared()}; missing cells of all columns are "
                "filled with these."
            )
        else:
            flat = int(self.constant.sum())
            some = f", with {counted(flat, 'column')} filled with constants" * bool(
                flat
            )
            times = "times" if self.relative_error >= 1 + ROUNDING else "of"
            says = (
                f"{on}the error is {self.relative_error:.3g} {times} that of the best "
                f"constants (mean over columns{some}, standard error {self.standard_error:.2g})."
            )
        return {
            "cells": cells,
            "relative_error": self.relative_error,
            "standard_error": self.standard_error,
            "says": says,
            "rounds": self.rounds,
        }

    def _compared(self) -> str:
        """Return how the model compares with the best constants."""
        size, error = self.model_error, self.model_standard_error
        if not np.isfinite(size):
            return "not clearly better than the best constants"
        how = "worse than" if self.is_worse else "not clearly better than"
        times = "times" if size >= 1 + ROUNDING else "of"
        return (
            f"{how} the best constants: its error is {size:.3g} {times} theirs (mean over "
            f"columns, standard error {error:.2g})"
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
            "judged/overall": np.array(
                [
                    self.cells,
                    self.relative_error,
                    self.standard_error,
                    self.model_error,
                    self.model_standard_error,
                ]
            ),
            "judged/rounds": np.array([self.rounds]),
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
        rounds = arrays.get("judged/rounds", [0])
        return cls(
            arrays["judged/levels"],
            scores,
            arrays["judged/constant"].astype(bool),
            arrays["judged/constants"],
            int(arrays["judged/overall"][0]),
            *map(float, arrays["judged/overall"][1:]),
            rounds=int(rounds[0]),
        )


def _is_less(score: ColumnScore) -> bool:
    """Return whether the error is below that of the constant by more than rounding."""
    return score.error < score.constant_error * (1 - ROUNDING)
