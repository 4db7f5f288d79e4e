"""The problem that a low-rank model minimizes: cells in their units, and penalties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.columns import ColumnModel
from descents.cells.dense import Dense
from descents.cells.distributed import Distributed, SharedTable
from descents.cells.observed import cells
from descents.cells.streamed import Streamed
from descents.constraints.constraints import most_components, regularizers
from descents.constraints.sets import OneHot, Simplex
from descents.errors import InvalidValueError, for_caller
from descents.factorization.factorization import Factorization
from descents.factorization.initialization import clusters
from descents.losses import Huber, Loss, Ordistic, get_loss
from descents.lowrank import noise
from descents.lowrank.matrices import is_sparse
from descents.lowrank.noise import Noise
from descents.lowrank.selection import Penalty
from descents.lowrank.settings import Initialization, Settings
from descents.tables.blocks import TableOnDisk
from descents.text import counted

if TYPE_CHECKING:  # that module reads tables for a fit, and needs this one
    from descents.lowrank.table import CodedTable

OF_BIASES = {"l2_biases"}
"""Penalties that are not penalties on the factors."""
APART = 10.0
"""With missing cells, columns whose spreads differ by more than this factor are scaled."""
PRIOR = 0.1
"""The default l2, divided by the square root of a column's number of cells, where there is
one. It was chosen on held-out cells of tables with columns of several types
(benchmarks/imputation.py)."""
FAR_SINGLE = 100.0
"""A column of float32 that is this many times larger than it varies is computed in
float64."""


class OfFactorization(TypedDict, total=False):
    """The arguments of `Factorization` that do not depend on the rank."""

    offsets: str
    constraint: object
    penalty: Penalty
    initialization: Initialization
    dtype: torch.dtype
    device: str


@dataclass(frozen=True, eq=False)
class Encoded:
    """The cells of a table under given losses.

    Attributes
    ----------
    cells : Cells
    columns : list of ColumnModel
    scales : str or None
        Why columns are scaled; None if they are not.
    """

    cells: Cells
    columns: list[ColumnModel]
    scales: str | None = None


def trial_losses(columns: Sequence[ColumnModel]) -> list[Loss]:
    """Return the losses, with absolute loss in place of Huber's without a width."""
    return [
        get_loss("absolute")
        if isinstance(column.loss, Huber) and column.loss.width is None
        else column.loss
        for column in columns
    ]


def lacks_widths(columns: Sequence[ColumnModel]) -> bool:
    """Return whether a column has Huber's loss without a width."""
    return trial_losses(columns) != [column.loss for column in columns]


def encoded(table: CodedTable, settings: Settings) -> Encoded:
    """Return the cells of a table, scaled if the settings or the data require it.

    Columns with Huber's loss without a width have absolute loss.
    """
    values, columns = table.values, list(table.columns)
    losses = trial_losses(columns)
    if isinstance(values, TableOnDisk):
        assert isinstance(settings.n_components, int)  # noqa: S101  checked by `read`
        biased = settings.offsets in ("rows", "both")
        size = settings.n_components + biased, settings.n_starts
        if isinstance(values, SharedTable):
            disk: Streamed = Distributed(values, *size)
            _check_spreads(disk, settings)
        else:
            disk = Streamed(values, *size)
        for j in np.flatnonzero(values.whole):
            limits = (float(disk.least[j]), float(disk.most[j]))
            columns[j] = replace(columns[j], whole=True, limits=limits)
        return Encoded(disk, columns)
    if is_sparse(values):
        found = cells(values, losses, weights=table.weights, sparse=settings.sparse)
        return Encoded(found, columns)
    several = len({column.loss.name for column in columns}) > 1
    auto = isinstance(settings.scales, str)
    found = cells(
        values,
        losses,
        weights=table.weights,
        levels=[len(column.levels) for column in columns],
        scales=several if auto else bool(settings.scales),
        names=[column.name for column in columns],
    )
    if not auto:
        why = "scales are requested" if settings.scales else None
        return Encoded(found, columns, why)
    if several:
        return Encoded(found, columns, "columns have different losses")
    if isinstance(found, Dense) and not settings.has_units:
        ratio = _largest_ratio(found)
        if ratio > APART:
            why = (
                "cells are missing and the spreads of columns differ by a factor of "
                f"{ratio:.3g}"
            )
            return Encoded(found.standardized(), columns, why)
    return Encoded(found, columns)


def _check_spreads(disk: Streamed, settings: Settings) -> None:
    """Raise an error if one process would scale the columns of a shared table."""
    spreads = disk.root_mean_squares(disk.offsets)
    spreads = spreads[spreads > 0]
    if disk.complete or settings.scales != "auto" or settings.has_units:
        return
    ratio = float(spreads.max() / spreads.min()) if len(spreads) else 1.0
    if ratio > APART:
        raise InvalidValueError(
            f"cells are missing and the spreads of columns differ by a factor of {ratio:.3g}, "
            "for which one process scales the columns, but several processes do not; "
            + for_caller("give --scales no", "give scales=False")
            + ", or divide the columns by their spreads first"
        )


def _largest_ratio(found: Dense) -> float:
    """Return the ratio of the largest and the smallest unit; 1 if no cell is missing.

    The unit of a column is its spread, that of angles the length of a radian. Constant
    columns have no unit.
    """
    if not noise.lacks_cells(found):
        return 1.0
    spreads = found.spreads()[0]
    units = found.own_units()[np.isfinite(spreads) & (spreads > 0)]
    return float(units.max() / units.min()) if len(units) else 1.0


def problem_settings(
    settings: Settings,
    found: Cells,
    dtype: np.dtype,
    penalty: Penalty,
    *,
    incomplete: bool,
) -> OfFactorization:
    """Return the arguments of `Factorization` that do not depend on the rank.

    Parameters
    ----------
    settings : Settings
    found : Cells
    dtype : dtype
        The type of the parameters.
    penalty : None, number or mapping
        None is the default penalty of losses whose predictions are log-odds or
        logarithms, and no penalty for others.
    incomplete : bool
        Whether the fit is to a table with missing cells.
    """
    if penalty is None and not all(block.loss.identity for block in found.blocks):
        penalty = PRIOR * float(np.sqrt(found.observed / found.shape[1]))
        penalty *= found.mean_weight  # so that the size of weights has no effect
    ordistic = any(isinstance(block.loss, Ordistic) for block in found.blocks)
    if ordistic and isinstance(penalty, int | float):
        # The exponent of a level, -(b + z)^2 = -b^2 - 2 b z - z^2, changes with z as much
        # as one likes if the offset b is large enough. With free offsets, a penalty on
        # the factors alone therefore has no effect.
        penalty = {"l2": penalty, "l2_biases": penalty}
    initialization = settings.initialization
    if isinstance(initialization, str):
        if initialization == "auto":
            charged = any(
                side.l1 or side.l2 or side.smoothness
                for side in regularizers(settings.constraint, penalty)[:2]
            )
            initialization = _initialization(
                settings, found, spectral=incomplete and not charged
            )
    elif found.units is not None:
        U, V = (np.asarray(factor) for factor in initialization)
        initialization = (U, V / found.coordinate_units[:, None])
    return {
        "offsets": settings.offsets_used,
        "constraint": settings.constraint,
        "penalty": penalty,
        "initialization": initialization,
        "dtype": torch.float32 if dtype == np.float32 else torch.float64,
        "device": settings.device,
    }


def _initialization(settings: Settings, found: Cells, *, spectral: bool) -> str:
    """Return the initialization that "auto" stands for.

    Parameters
    ----------
    spectral : bool
        Whether normal starts may diverge, because cells are missing and there is no
        penalty.
    """
    if (
        isinstance(found, Streamed)
        and not isinstance(found, Distributed)
        and not found.has_triangle
    ):
        return "normal"
    quadratic = all(block.loss.quadratic for block in found.blocks)
    rows, columns = settings.sides
    if rows.inside is not None or columns.inside is not None:
        return _initialization_in_sets(rows.inside, columns.inside, quadratic=quadratic)
    if rows.nonnegative or columns.nonnegative:
        return "nndsvd_then_normal"
    return "spectral_then_normal" if spectral and quadratic else "normal"


def _initialization_in_sets(rows: object, columns: object, *, quadratic: bool) -> str:
    """Return the initialization of factors of which one lies in a set."""
    if isinstance(rows, Simplex) and columns is not None:
        # Rows of the table, the centers, are not members of the set of V.
        return "uniform"
    if isinstance(rows, Simplex) or clusters(rows):
        return "centers" if quadratic else "centers_and_normal"
    if rows is None and isinstance(columns, OneHot):
        return "centers_and_normal"
    return "normal"


def check_rank(rank: int, found: Cells, settings: Settings) -> None:
    """Raise if a rank is too large for a table."""
    rows, columns = found.whole_shape
    most = most_components((rows, columns), *settings.sides)
    if rank > most:
        raise InvalidValueError(
            for_caller(
                f"--rank is {rank}, but the table has {counted(rows, 'row')} and "
                f"{counted(columns, 'column')}; give a whole number from 1 to {most}",
                f"n_components is {rank} (the rank), but the table has "
                f"n_samples={counted(rows, 'row')} and "
                f"n_features={counted(columns, 'column')}; give a whole number from 1 to "
                f"{most}",
            )
        )


def problem_of(
    data: Encoded, settings: Settings, dtype: np.dtype, rank: int, penalty: Penalty
) -> tuple[Factorization, Noise | None]:
    """Return the problem of a table.

    Parameters
    ----------
    data : Encoded
    settings : Settings
    dtype : dtype
        The type of the table; numbers that vary little are computed in float64.
    rank : int
    penalty : None, number or mapping

    Returns
    -------
    problem : Factorization
    noise : Noise or None
        The noise of the table, if the penalty follows from it.

    Raises
    ------
    InvalidValueError
        If the rank is too large for the table.
    """
    found = data.cells
    check_rank(rank, found, settings)
    dtype = _precise_enough(found, dtype, settings.offsets_used)
    arguments = problem_settings(
        settings, found, dtype, penalty, incomplete=not found.complete
    )
    implied = None
    # The widths of Huber's loss are estimated without this penalty.
    if not lacks_widths(data.columns):
        implied = implied_noise(found, rank, arguments)
    if implied is not None:
        biases = penalty if isinstance(penalty, Mapping) else {}
        arguments["penalty"] = {**biases, "l2": implied.l2}
    return Factorization(found, rank, **arguments), implied


def implied_noise(found: Cells, rank: int, arguments: OfFactorization) -> Noise | None:
    """Return the noise that a penalty follows from; None if a penalty is given."""
    given = arguments["penalty"]
    if given is not None and not (isinstance(given, dict) and {*given} <= OF_BIASES):
        return None
    if not all(block.loss.identity for block in found.blocks):
        return None
    return noise.implied(Factorization(found, rank, **arguments))


def _precise_enough(found: Cells, dtype: np.dtype, offsets: str) -> np.dtype:
    """Return float64 if columns are too far from zero for sums in float32, else dtype.

    Products with a table of float32 lose the digits that its means take up.
    """
    if dtype != np.float32 or offsets == "none" or isinstance(found, Streamed):
        return dtype
    table = found.in_memory.table
    if not isinstance(table, np.ndarray):
        return dtype
    for block in found.blocks:
        if not block.loss.identity or block.each > 1:
            continue
        middle = found.offsets[block.place]
        rest = table[:, block.columns] - middle
        if found.weights is not None:
            rest = np.where(found.weights[:, block.columns] > 0, rest, 0)
        spread = np.sqrt(
            np.square(rest).sum(0) / np.maximum(found.column_counts[block.columns], 1)
        )
        if (np.abs(middle) > FAR_SINGLE * spread).any():
            return np.dtype(np.float64)
    return dtype
