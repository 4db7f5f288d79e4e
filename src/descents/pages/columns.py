"""What a page says of each column: hidden cells, and filled beside observed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from descents.pages import small
from descents.runs.results import Calibration, Distribution
from descents.text import counted

MOST_POINTS = 6000
"""How many held-out cells are drawn at most, of all columns."""
MANY = 16
"""The details of more columns than this are folded."""


@dataclass(frozen=True)
class Detail:
    """A column as the list of columns shows it.

    Attributes
    ----------
    name : str
    summary : str
        How well it is predicted, in a few words.
    scatter : Markup or None
        Predicted against true values of held-out cells.
    scatter_says : str
    histograms : Markup or None
        Observed and filled values.
    histograms_says : str
    levels : sequence of (str, int, int, int, float or None)
        For each level: observed, filled and held-out cells, and the share of right
        predictions among the latter.
    calibration : sequence of (float, float, int)
        The predicted probability, the share of right predictions, and the cells.
    """

    name: str
    summary: str
    scatter: Markup | None
    scatter_says: str
    histograms: Markup | None
    histograms_says: str
    levels: Sequence[tuple[str, int, int, int, float | None]]
    calibration: Sequence[tuple[float, float, int]]

    @property
    def opens(self) -> bool:
        """Whether there is anything behind the summary."""
        return bool(self.scatter or self.histograms or self.levels or self.calibration)


def detail(
    name: str,
    place: int,
    summary: str,
    found: Distribution | None,
    tensors: Mapping[str, np.ndarray],
    cells: int,
    most: int,
    calibration: Calibration | None = None,
) -> Detail:
    """Return the details of a column.

    Parameters
    ----------
    name : str
    place : int
        Its number in ``hidden/column``.
    summary : str
    found : Distribution or None
    tensors : mapping of str to ndarray
    cells : int
        The number of its held-out cells.
    most : int
        How many of these are drawn at most.
    calibration : Calibration, optional
    """
    truth, predicted = _hidden(tensors, place)
    levels = list(found.levels) if found is not None else []
    scatter, scatter_says = None, ""
    if len(truth) and found is not None and not levels:
        shown = slice(0, most)
        drawn = f" ({len(truth[shown])} are drawn)" * (len(truth[shown]) < cells)
        scatter_says = (
            f"Predicted against true values of {counted(cells, 'held-out cell')}{drawn}; "
            "a perfect prediction lies on the line."
        )
        scatter = small.scatter(
            truth[shown], predicted[shown], f"{name}: {scatter_says}"
        )
    histograms, says = None, ""
    if found is not None and found.filled:
        histograms = small.both_histograms(found)
        says = (
            f"The {counted(sum(found.observed), 'observed cell')} above, the "
            f"{counted(sum(found.filled), 'filled cell')} below, each by its own scale."
        )
    return Detail(
        name,
        summary,
        scatter,
        scatter_says,
        histograms,
        says,
        _levels(found, truth, predicted) if levels and len(truth) else [],
        _calibration(calibration),
    )


def _hidden(
    tensors: Mapping[str, np.ndarray], place: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the predicted values of the held-out cells of a column."""
    if "hidden/column" not in tensors:
        return np.zeros(0), np.zeros(0)
    first, last = np.searchsorted(tensors["hidden/column"], [place, place + 1])
    return tensors["hidden/truth"][first:last], tensors["hidden/predicted"][first:last]


def _levels(
    found: Distribution | None, truth: np.ndarray, predicted: np.ndarray
) -> list[tuple[str, int, int, int, float | None]]:
    """Return how often each level is right among the held-out cells."""
    if found is None:
        return []
    filled = found.filled or [0] * len(found.levels)
    rows = []
    for code, level in enumerate(found.levels):
        mine = truth == code
        count = int(mine.sum())
        share = float((predicted[mine] == code).mean()) if count else None
        rows.append((level, found.observed[code], filled[code], count, share))
    return rows


def _calibration(found: Calibration | None) -> list[tuple[float, float, int]]:
    """Return the tenths of the probability that have held-out cells."""
    if found is None:
        return []
    return [
        (predicted, right, cells)
        for cells, predicted, right in zip(
            found.cells, found.predicted, found.right, strict=True
        )
        if cells and predicted is not None and right is not None
    ]


def points_of_column(columns: int) -> int:
    """Return how many held-out cells of a column are drawn at most.

    Examples
    --------
    >>> points_of_column(4), points_of_column(200)
    (300, 40)
    """
    return max(40, min(300, MOST_POINTS // max(columns, 1)))
