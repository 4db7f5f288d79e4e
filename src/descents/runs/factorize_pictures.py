"""What the pictures of `descents factorize` are drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descents.cells.base import Cells
from descents.cells.streamed import Streamed
from descents.errors import InvalidValueError
from descents.lowrank.fitted import Fitted
from descents.lowrank.matrices import is_sparse
from descents.runs.block_tables import Seen
from descents.runs.distributions import hidden_cells

MOST_POINTS = 4000
"""The largest number of rows, or cells, in a picture."""
MOST_COORDINATES = 200
"""The largest number of coordinates whose loadings are in the page."""
MOST_COMPONENTS = 12
"""The largest number of components whose loadings are in the page."""
PAIRED = 4
"""The scores of this many components are drawn against each other."""
PATTERN = 160
"""The largest number of squares along a side of the picture of the observed cells."""
MOST_IMAGES = 60
"""The largest number of components that are drawn as pictures."""


def tensors_of(
    fitted: Fitted, generator: np.random.Generator, seen: Seen | None
) -> dict[str, np.ndarray]:
    """Return what the pictures are drawn from, with as many points as they can show.

    Parameters
    ----------
    fitted : Fitted
    generator : numpy Generator
        Draws the rows and cells that are shown if there are too many.
    seen : Seen or None
        How the model fits a table on disk.
    """
    cells, runs = fitted.problem.cells, fitted.runs
    rows = np.arange(cells.shape[0])
    if len(rows) > MOST_POINTS:
        rows = np.sort(generator.choice(len(rows), MOST_POINTS, replace=False))
    if seen is None:
        pattern = _pattern(cells)
        observed, predicted, column = _pairs(fitted, generator)
    else:
        assert isinstance(cells, Streamed)  # noqa: S101
        pattern, column = seen.pattern, seen.places[:, 1]
        spread = cells.root_mean_squares(cells.offsets)[column]
        spread[spread == 0] = 1
        observed, predicted = (
            (part - cells.offsets[column]) / spread
            for part in (seen.values, seen.predicted)
        )
    # After the last step of any start, the curves would only be level.
    moving = runs.recorded <= max(2, int(1.3 * runs.steps_taken.max()))
    return {
        "pattern": pattern,
        "scores": fitted.scores[rows, :PAIRED],
        "loadings": fitted.components[:MOST_COMPONENTS, _strongest(fitted)].T,
        "recorded": runs.recorded[moving],
        "history_loss": runs.histories["loss"][moving],
        "losses": runs.losses,
        "best": np.array(runs.best),
        "sizes": np.linalg.norm(fitted.scores, axis=0),
        "importance": np.linalg.norm(fitted.scores, axis=0)
        * np.linalg.norm(fitted.components, axis=1),
        "observed": observed,
        "predicted": predicted,
        "column": column,
        **hidden_cells(
            None if fitted.unseen is None else fitted.unseen.predicted, fitted.seed
        ),
    }


def images(fitted: Fitted, sizes: Sequence[int]) -> np.ndarray:
    """Return the components as pictures, shape (components, height, width[, 3])."""
    components = fitted.components[:MOST_IMAGES]
    if components.shape[1] != len(fitted.models):
        many = next(c for c in fitted.models if len(c.levels) > 2)
        raise InvalidValueError(
            f"--image draws one number for each column, but column {many.name!r} of "
            f"{many.loss.name} loss has several; leave --image out, or give the column "
            "another loss (--loss-of)"
        )
    return components.reshape(-1, *sizes)


def strongest(fitted: Fitted) -> list[str]:
    """Return the names of the coordinates with the largest loadings."""
    labels = fitted.labels
    return [labels[place] for place in _strongest(fitted)]


def _strongest(fitted: Fitted) -> np.ndarray:
    # Scores are in the units of the cells: a coordinate counts by what it contributes.
    weights = np.square(fitted.scores[:, :MOST_COMPONENTS]).sum(0, dtype=np.float64)
    size = weights @ np.square(fitted.components[:MOST_COMPONENTS], dtype=np.float64)
    return np.argsort(-size, kind="stable")[:MOST_COORDINATES]


def _pattern(cells: Cells) -> np.ndarray:
    """Return the share of observed cells in each square of a coarse grid."""
    m, n = cells.shape
    high, wide = min(m, PATTERN), min(n, PATTERN)
    table = cells.in_memory.table
    if is_sparse(table):
        i = np.repeat(np.arange(m), np.diff(table.indptr))
        j = table.indices
    else:
        mask = np.ones((m, n), bool) if cells.weights is None else cells.weights > 0
        i, j = np.nonzero(mask)
    place = (i * high // m) * wide + j * wide // n
    counts = np.bincount(place, minlength=high * wide).reshape(high, wide)
    tall = np.bincount(np.arange(m) * high // m, minlength=high)
    broad = np.bincount(np.arange(n) * wide // n, minlength=wide)
    share: np.ndarray = counts / (tall[:, None] * broad)
    return share


def _pairs(
    fitted: Fitted, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return observed and predicted numbers, and the columns that they are in.

    Columns of numbers of dense tables are standardized.
    """
    cells = fitted.problem.cells
    table = cells.in_memory.given
    if is_sparse(table):
        place = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        pick = _picked(len(table.data), generator)
        x = table.data[pick].astype(np.float64)
        z = fitted.cells_at(place[pick], table.indices[pick].astype(np.int64))
        return x, z, table.indices[pick].astype(np.int64)
    numbers = [j for j, c in enumerate(fitted.models) if not c.levels]
    if not numbers:
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
    mask = np.ones(cells.shape, bool) if cells.weights is None else cells.weights > 0
    rows, wide = np.nonzero(mask[:, numbers])
    pick = _picked(len(rows), generator)
    rows, wide = rows[pick], wide[pick]
    codes = fitted.codes_of(np.arange(cells.shape[0]))
    where = np.array(numbers)[wide]
    x = table[rows, where].astype(np.float64)
    z = np.array([codes[j][i] for i, j in zip(rows, where, strict=True)])
    mean, spread = np.zeros(cells.shape[1]), np.ones(cells.shape[1])
    for j in numbers:
        values = table[mask[:, j], j].astype(np.float64)
        if len(values) and values.std() > 0:
            mean[j], spread[j] = values.mean(), values.std()
    return (x - mean[where]) / spread[where], (z - mean[where]) / spread[where], where


def _picked(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return the places of all points, or of as many as a picture shows."""
    if count <= MOST_POINTS:
        return np.arange(count)
    return np.sort(generator.choice(count, MOST_POINTS, replace=False))
