"""Histograms of columns, and what held-out cells of them show, for the pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descents.cells.columns import ColumnModel
from descents.marginal.held_out import HeldOut
from descents.optim.collective import ALONE, Collective
from descents.rng import stream
from descents.runs.results import Calibration, Distribution
from descents.tables.spelling import text_of

BINS = 16
"""The number of bins of a histogram of numbers."""
TENTHS = 10
MOST_LEVELS = 20
"""A column with more levels has no histogram."""
MOST_COLUMNS = 200
"""Of a table with more columns, only the first ones have a histogram."""
MOST_CELLS = 300
"""How many held-out cells of a column are drawn at most."""


def distribution(
    model: ColumnModel,
    observed: np.ndarray,
    filled: np.ndarray,
    together: Collective = ALONE,
) -> Distribution | None:
    """Return how often values occur in a column.

    Parameters
    ----------
    model : ColumnModel
    observed, filled : float64 ndarray
        The observed cells and those that were filled: numbers, or codes of levels.
    together : Collective
        Processes that share the table, of which each has some rows.

    Returns
    -------
    Distribution or None
        None for columns without observed cells or with more than 20 levels.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> model = ColumnModel("a", get_loss("squared"), (), "")
    >>> found = distribution(model, np.array([0.0, 1.0, 1.0]), np.array([0.5]))
    >>> found.observed[0], found.observed[-1], sum(found.filled)
    (1, 2, 1)
    """
    if len(model.levels) > MOST_LEVELS:
        return None
    if model.levels:
        counts = [
            np.bincount(part.astype(np.int64), minlength=len(model.levels))
            for part in (observed, filled)
        ]
        seen, fills = _summed(counts, together)
        if not sum(seen):
            return None
        levels = [text_of(level) for level in model.levels]
        return Distribution(
            levels=levels, observed=seen, filled=fills if sum(fills) else []
        )
    both = np.concatenate([observed, filled])
    both = both[np.isfinite(both)]
    low = float(together.least(np.min(both, initial=np.inf, keepdims=True))[0])
    high = float(together.most(np.max(both, initial=-np.inf, keepdims=True))[0])
    edges = np.linspace(low, high, BINS + 1) if low < high else np.array([np.inf])
    if np.isfinite(edges).all():
        counts = [np.histogram(part, edges)[0] for part in (observed, filled)]
    else:
        counts = [np.array([len(part)]) for part in (observed, filled)]
    seen, fills = _summed(counts, together)
    if not sum(seen):
        return None
    return Distribution(
        low=_value(model, low),
        high=_value(model, high),
        levels=[],
        observed=seen,
        filled=fills if sum(fills) else [],
    )


def _summed(counts: list[np.ndarray], together: Collective) -> list[list[int]]:
    """Return the sums of counts over all processes."""
    summed = together.sum_arrays(*(one.astype(np.float64) for one in counts))
    return [one.astype(np.int64).tolist() for one in summed]


def _value(model: ColumnModel, number: float) -> float | str:
    """Return a number, or the date of a number of days."""
    if model.dates:
        return str(np.datetime64(int(np.floor(number)), "D"))
    return number


def hidden_cells(held_out: HeldOut | None, seed: int) -> dict[str, np.ndarray]:
    """Return held-out cells as a page draws them: at most 300 of a column, at random.

    Returns
    -------
    dict of ndarray
        The arrays ``hidden/column``, ``hidden/truth`` and ``hidden/predicted``; no array
        if no cell was held out.
    """
    if held_out is None or not len(held_out.columns):
        return {}
    order = stream(seed, "split", 3).permutation(len(held_out.columns))
    column = held_out.columns[order]
    by_column = np.argsort(column, kind="stable")
    first = np.searchsorted(column[by_column], column[by_column])
    kept = order[by_column[np.arange(len(order)) - first < MOST_CELLS]]
    kept = kept[np.argsort(held_out.columns[kept], kind="stable")]
    return {
        "hidden/column": held_out.columns[kept].astype(np.int64),
        "hidden/truth": held_out.truth[kept].astype(np.float64),
        "hidden/predicted": held_out.values[kept].astype(np.float64),
    }


def calibrations(
    held_out: HeldOut | None, levels: Sequence[int]
) -> list[Calibration | None]:
    """Return the calibration of the probabilities of each column of levels."""
    found: list[Calibration | None] = [None] * len(levels)
    if held_out is None or not held_out.chances.size:
        return found
    for place, count in enumerate(levels):
        mine = held_out.columns == place
        if count and mine.any():
            found[place] = _calibration(
                held_out.chances[mine, :count], held_out.truth[mine]
            )
    return found


def _calibration(chances: np.ndarray, truth: np.ndarray) -> Calibration:
    """Return how often the most probable level is right, by its probability."""
    probable = np.nan_to_num(chances).max(1)
    right = np.nan_to_num(chances).argmax(1) == truth
    tenth = np.minimum((probable * TENTHS).astype(np.int64), TENTHS - 1)
    cells = np.bincount(tenth, minlength=TENTHS)
    with np.errstate(invalid="ignore"):
        predicted, share = (
            np.bincount(tenth, part, TENTHS) / cells for part in (probable, right)
        )
    return Calibration(
        cells=cells.tolist(), predicted=predicted.tolist(), right=share.tolist()
    )
