"""Predicted numbers that are far outside the observed range of their column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descents.cells.base import Cells
from descents.cells.columns import ColumnModel
from descents.cells.streamed import Streamed
from descents.losses import Periodic
from descents.tables.frames import short
from descents.text import counted


@dataclass(frozen=True)
class Far:
    """Filled values that are far outside the observed range of their column.

    Attributes
    ----------
    cells : int
        The number of filled values that are outside by more than the length of the range.
    column : str
        The column with the value that is farthest outside, relative to that length.
    value, low, high : float
        That value, and the range.
    """

    cells: int
    column: str
    value: float
    low: float
    high: float

    def says(self, penalized: bool) -> str:
        """Return a warning.

        Parameters
        ----------
        penalized : bool
            Whether the factors have a penalty.

        Examples
        --------
        >>> Far(2, "a", 4e5, 0.0, 3.0).says(False)[:60]
        '2 missing cells are predicted far outside the observed range'
        """
        are = "is" if self.cells == 1 else "are"
        remedy = (
            "raise the penalty, or lower the rank"
            if penalized
            else "give a penalty (--penalty l2=auto, penalty='auto'; or a number, such as "
            "--penalty l2=1, penalty=1.0), or lower the rank"
        )
        return (
            f"{counted(self.cells, 'missing cell')} {are} predicted far outside the "
            "observed range of the column, by more than its length: the worst is "
            f"{self.value:.4g} in {short(self.column)}, whose observed cells lie between "
            f"{self.low:.4g} and {self.high:.4g}; do not use such fills: {remedy}"
        )


def ranges(cells: Cells, models: Sequence[ColumnModel]) -> np.ndarray:
    """Return the least and the largest observed number of each column.

    Returns
    -------
    ndarray of shape (2, columns)
        In the units of the data; NaN for levels and for columns with a bounded loss.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> from descents.cells.columns import of_matrix
    >>> from descents.cells.observed import cells
    >>> table = np.array([[1.0, np.nan], [3.0, 5.0]])
    >>> ranges(cells(table), of_matrix(table, [get_loss("squared")] * 2, ["a", "b"]))
    array([[1., 5.],
           [3., 5.]])
    """
    found: np.ndarray = np.full((2, cells.shape[1]), np.nan)
    if isinstance(cells, Streamed):
        found[:] = cells.least, cells.most
    elif hasattr(given := cells.in_memory.given, "tocsr"):
        places = given.indices
        if len(places):
            found[0], found[1] = np.inf, -np.inf
            np.minimum.at(found[0], places, given.data)
            np.maximum.at(found[1], places, given.data)
    else:
        seen = True if cells.weights is None else cells.weights > 0
        found[0] = np.min(given, 0, initial=np.inf, where=seen)
        found[1] = np.max(given, 0, initial=-np.inf, where=seen)
    bounded = [bool(m.levels) or isinstance(m.loss, Periodic) for m in models]
    found[:, np.array(bounded)] = np.nan
    found[~np.isfinite(found)] = np.nan
    return found


def far_outside(
    models: Sequence[ColumnModel],
    limits: np.ndarray,
    fills: Sequence[np.ndarray],
    holes: np.ndarray,
) -> Far | None:
    """Return the filled values that are outside the range by more than its length.

    The range of a column is from its smallest to its largest observed number. If these are
    equal, their size counts as the length.

    Parameters
    ----------
    models : sequence of ColumnModel
    limits : ndarray of shape (2, columns)
        What `ranges` returned.
    fills : sequence of ndarray of shape (rows,)
        The numbers or codes that are predicted for each column.
    holes : bool ndarray of shape (rows, columns)
        Which cells are filled.

    Examples
    --------
    >>> from descents.losses import get_loss
    >>> from descents.cells.columns import of_matrix
    >>> models = of_matrix(np.eye(2), [get_loss("squared")] * 2, ["a", "b"])
    >>> limits = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> fills = [np.array([1.9, -1.1]), np.array([0.5, 1e6])]
    >>> far_outside(models, limits, fills, np.ones((2, 2), bool))
    Far(cells=2, column='b', value=1000000.0, low=0.0, high=1.0)
    """
    count, worst, far = 0, 0.0, None
    for j, (model, numbers) in enumerate(zip(models, fills, strict=True)):
        low, high = (float(end) for end in limits[:, j])
        place = np.flatnonzero(holes[:, j])
        if np.isnan(low) or not len(place):
            continue
        length = high - low or abs(high) or 1.0
        part = np.asarray(numbers, dtype=np.float64)[place]
        outside = np.fmax(low - part, part - high) / length
        outside = np.where(np.isnan(part), np.inf, outside)
        count += int((outside > 1).sum())
        k = int(outside.argmax())
        if outside[k] > max(worst, 1.0):
            worst, far = float(outside[k]), (model.name, float(part[k]), low, high)
    return None if far is None else Far(count, *far)
