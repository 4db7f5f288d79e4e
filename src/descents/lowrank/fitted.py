"""The fit of a low-rank model: all that is known once it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from descents.bounds.gaps import Reference
from descents.lowrank.judged import Judged
from descents.lowrank.judging import Unseen
from descents.lowrank.noise import Noise
from descents.lowrank.prediction_intervals import Calibration
from descents.lowrank.predictor import Predictor
from descents.lowrank.selection import Selection
from descents.lowrank.settings import Settings
from descents.lowrank.table import Header
from descents.text import counted


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted(Predictor):
    """The fit of a low-rank model to a table, as `descents.lowrank.fit` returns it.

    It has the attributes of `Predictor` too.

    Attributes
    ----------
    settings : Settings
    header : Header
        The columns of the table of the fit.
    seed : int
    solver : str
        The update rule.
    reference : Reference
        The best known answer.
    gap : float
        The distance of the loss from the reference, relative to it; NaN if nothing better
        than the best start is known.
    constants_loss : float
        The loss of the best constant of each column.
    selection : Selection or None
        How the rank and the penalty were chosen; None if they were given.
    noise : Noise or None
        The noise of the table, if the penalty follows from it.
    scales : str or None
        Why columns are scaled; None if they are not.
    judged : Judged or None
        How well held-out cells are predicted by fits without them; None if no cells were
        held out.
    unseen : Unseen or None
        The predictions of these cells. They are not stored with a model.
    far : str or None
        The warning about cells of the table that are filled far outside the observed range
        of their column. It is not stored with a model.
    calibration : Calibration or None
        The scores of held-out cells, for prediction intervals.
    """

    settings: Settings
    header: Header
    seed: int
    solver: str
    reference: Reference
    gap: float
    constants_loss: float
    selection: Selection | None = None
    noise: Noise | None = None
    scales: str | None = None
    judged: Judged | None = None
    unseen: Unseen | None = None
    far: str | None = None
    calibration: Calibration | None = None

    def __repr__(self) -> str:
        """Return the rank, the starts and the loss."""
        starts = counted(len(self.runs), "start")
        return f"Fitted(rank {len(self.components)}, {starts}, loss {self.loss:.6g})"

    def filled(self, codes: list[np.ndarray]) -> list[np.ndarray]:
        """Return predicted columns, with constants in place of columns that need them."""
        return codes if self.judged is None else self.judged.filled(codes)
