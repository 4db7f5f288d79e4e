"""How well a low-rank model fits each column, on seen cells and on hidden ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from descents.lowrank.fitted import Fitted
from descents.lowrank.matrices import is_sparse
from descents.lowrank.predictor import decoded
from descents.marginal.held_out import BLOCKS, HeldOut, deviation_of
from descents.runs.block_tables import Seen
from descents.runs.distributions import (
    MOST_COLUMNS,
    calibrations,
    distribution,
)
from descents.runs.factorize_result import ColumnOfFit, SharesOfFit
from descents.runs.results import Distribution


@dataclass(frozen=True, eq=False)
class SeenCells:
    """The cells of a fit with what the model and the constants make of them.

    Attributes
    ----------
    fitted : Fitted
    blocks : Seen or None
        How the model fits a table on disk.
    """

    fitted: Fitted
    blocks: Seen | None

    @cached_property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each column under the model and under its constant."""
        if self.blocks is not None:
            return self.blocks.losses, self.blocks.constants
        fitted = self.fitted
        each, constant = fitted.cell_losses(), fitted.cell_losses(constants=True)
        table = fitted.problem.cells.in_memory.table
        if is_sparse(table):
            wide = fitted.problem.cells.shape[1]
            left, whole = (
                np.bincount(table.indices, part, wide) for part in (each, constant)
            )
            return left, whole
        return np.nansum(each, 0), np.nansum(constant, 0)

    @property
    def dense(self) -> bool:
        """Whether the table is in memory, and not sparse."""
        return self.blocks is None and not is_sparse(
            self.fitted.problem.cells.in_memory.table
        )

    @cached_property
    def mask(self) -> np.ndarray:
        """Which cells of a dense table are observed."""
        cells = self.fitted.problem.cells
        if cells.weights is None:
            return np.ones(cells.shape, dtype=bool)
        found: np.ndarray = cells.weights > 0
        return found

    @cached_property
    def codes(self) -> list[np.ndarray]:
        """The numbers or codes that the model predicts for each column of a dense table."""
        return self.fitted.codes_of(np.arange(self.fitted.problem.cells.shape[0]))

    @cached_property
    def explained(self) -> list[float | None]:
        """The share of the loss of each column's constant that the model explains."""
        return [_share(a, b) for a, b in zip(*self.losses, strict=True)]

    @cached_property
    def shares(self) -> list[float | None]:
        """The share that is explained; for levels that of the wrong levels."""
        found = list(self.explained)
        if not self.dense:
            return found
        cells = self.fitted.problem.cells
        constants = decoded(cells, cells.offsets[None], cells.cuts)
        given = cells.in_memory.given
        for place, model in enumerate(self.fitted.models):
            if model.levels:
                here = self.mask[:, place]
                truth = given[here, place]
                wrong = float((self.codes[place][here] != truth).sum())
                found[place] = _share(wrong, float((constants[place] != truth).sum()))
        return found

    def distribution(self, place: int) -> Distribution | None:
        """Return how often the values of a column occur, observed and filled."""
        if not self.dense or len(self.fitted.models) > MOST_COLUMNS:
            return None
        here = self.mask[:, place]
        given = self.fitted.problem.cells.in_memory.given[here, place]
        filled = self._filled[place][~here]
        return distribution(self.fitted.models[place], given.astype(np.float64), filled)

    @cached_property
    def _filled(self) -> list[np.ndarray]:
        return self.fitted.filled(self.codes)

    def spread(self, place: int) -> float | None:
        """Return the standard deviation of a column of numbers."""
        if not self.dense or self.fitted.models[place].levels:
            return None
        here = self.mask[:, place]
        values = self.fitted.problem.cells.in_memory.given[here, place]
        return float(values.std(dtype=np.float64)) if len(values) else None

    def columns(self) -> list[ColumnOfFit]:
        """Return the columns of the result."""
        fitted = self.fitted
        judged, wide = fitted.judged, len(fitted.models)
        unseen = [None] * wide if judged is None else judged.shares()
        constant = np.zeros(wide, dtype=bool) if judged is None else judged.constant
        cells = (
            [None] * wide
            if judged is None
            else [None if score is None else score.cells for score in judged.scores]
        )
        counts = fitted.problem.cells.column_counts
        levels = [len(m.levels) if m.loss.likelihood else 0 for m in fitted.models]
        held_out = None if fitted.unseen is None else fitted.unseen.predicted
        calibrated = calibrations(held_out, levels)
        return [
            ColumnOfFit(
                name=column.name,
                loss=column.loss_label,
                why=column.why,
                observed=int(counts[k]),
                explained=self.explained[k],
                unseen=unseen[k],
                filled_by="constant" if constant[k] else "model",
                seen=self.shares[k],
                held_out=cells[k],
                kind="levels"
                if column.levels
                else "dates"
                if column.dates
                else "numbers",
                spread=self.spread(k),
                distribution=self.distribution(k),
                calibration=calibrated[k],
            )
            for k, column in enumerate(fitted.models)
        ]

    def overall(self) -> SharesOfFit:
        """Return the shares of the whole table."""
        fitted = self.fitted
        if all(column.loss.name == "squared" for column in fitted.models):
            return self._of_variance()
        # The error of numbers is the root mean squared error, that of levels their share.
        errors = [
            1 - share if column.levels else np.sqrt(max(1 - share, 0.0))
            for column, share in zip(fitted.models, self.shares, strict=True)
            if share is not None
        ]
        judged = fitted.judged
        hidden, error, count = np.nan, np.nan, 0
        if judged is not None:
            known = np.isfinite(judged.model_error)
            size = judged.model_error if known else judged.relative_error
            error = judged.model_standard_error if known else judged.standard_error
            hidden, count = 1 - size, judged.cells
        return SharesOfFit(
            measure="error",
            seen=1 - float(np.mean(errors)) if errors else None,
            hidden=hidden,
            standard_error=error,
            cells=count,
        )

    def _of_variance(self) -> SharesOfFit:
        cells = self.fitted.problem.cells
        wide = cells.shape[1]
        scale = np.ones(wide) if cells.scales is None else cells.scales
        left, whole = self.losses
        seen = _share(float((scale * left).sum()), float((scale * whole).sum()))
        hidden, error, count = np.nan, np.nan, 0
        if self.fitted.unseen is not None:
            units = np.ones(wide) if cells.units is None else cells.units
            shares = _hidden_shares(self.fitted.unseen.losses, scale / units**2)
            hidden, error = float(shares[0]), deviation_of(shares)
            count = len(self.fitted.unseen.rows)
        return SharesOfFit(
            measure="variance",
            seen=seen,
            hidden=hidden,
            standard_error=error,
            cells=count,
        )


def _hidden_shares(losses: HeldOut, weights: np.ndarray) -> np.ndarray:
    """Return the share of the variance of held-out cells, of all and of all but a block."""
    weight = weights[losses.columns]
    model, constant = (
        weight * np.square(part) for part in (losses.values, losses.constants)
    )
    blocks = np.arange(len(weight)) % BLOCKS
    found = []
    for block in (-1, *range(BLOCKS)):
        kept = blocks != block
        whole = float(constant[kept].sum())
        found.append(1 - float(model[kept].sum()) / whole if whole > 0 else np.nan)
    return np.array(found)


def _share(left: float, whole: float) -> float | None:
    return float(1 - left / whole) if whole > 0 else None
