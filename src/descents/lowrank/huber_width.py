"""The width of Huber's loss, from the noise of each column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from descents.cells.columns import ColumnModel
from descents.factorization import alternating
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import Factorization
from descents.factorization.rescaled import charged, rescaled
from descents.losses import Huber
from descents.lowrank.update_rules import step_named
from descents.optim.loop import descend
from descents.optim.rules import UpdateRule
from descents.optim.stopping import Stop

HUBER_EFFICIENCY = 1.345
"""The width of Huber's loss over the noise's standard deviation, at which 95% of the
efficiency of least squares remains under normal noise (Huber, 1964)."""

NORMAL_MEDIAN = 0.6745
"""The median of the absolute value of a standard normal number."""


def with_widths(models: list[ColumnModel], problem: Factorization) -> list[ColumnModel]:
    """Return columns with a width of Huber's loss, 1.345 times an estimate of the noise.

    The noise of a column is estimated from a fit under absolute loss: the median absolute
    residual over 0.6745, among the largest N - p of N residuals, because the fit makes p
    residuals vanish, the number of its parameters [1]_.

    Parameters
    ----------
    models : list of ColumnModel
    problem : Factorization
        A problem with absolute loss in place of Huber's.

    References
    ----------
    .. [1] Maronna, Martin and Yohai (2006), "Robust Statistics", section 4.4.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(400, 40))
    >>> models = [ColumnModel(str(j), Huber(), (), "") for j in range(40)]
    >>> problem = Factorization(noise, 1, loss="absolute")
    >>> widths = [m.loss.width for m in with_widths(models, problem)]
    >>> bool(np.allclose(widths, 1.345, rtol=0.25))
    True
    """
    # In one unit for the whole table, unless each column has its own.
    over, unit = rescaled(problem), 1.0
    if over is not None:
        problem, unit = over.problem, over.unit
        # The penalties are for Huber's loss, whose degree in the unit is larger by 1.
        problem.row_regularizer = charged(problem.row_regularizer, 1.0, unit)
        problem.column_regularizer = charged(problem.column_regularizer, 1.0, unit)
        problem.l2_biases /= unit
    applies = alternating.applies(problem)
    steps: UpdateRule = Alternating() if applies else step_named("auto", problem)
    runs = descend(problem, 1, steps=steps, stop=Stop(100), width=1)
    tensors = {n: torch.as_tensor(v).double() for n, v in runs.parameters.items()}
    left, right = (side[0].numpy() for side in problem.extended(tensors))
    found, given = problem.cells.in_memory, list(models)
    scale = float(np.abs(found.table).max()) or 1.0
    rows, wide = found.shape
    if hasattr(found.table, "tocsr"):
        places = np.repeat(np.arange(rows), np.diff(found.table.indptr))
        rest = found.table.data - (left[places] * right[found.table.indices]).sum(1)
        noise = _noise(np.abs(rest), problem.rank * (rows + wide))
        width = HUBER_EFFICIENCY * max(noise, 1e-9 * scale)
        return [_with_loss(model, Huber(width * unit)) for model in models]
    noises = {}
    for block in found.blocks:
        for place, column in enumerate(block.columns):
            if not isinstance(models[column].loss, Huber):
                continue
            kept = np.ones(rows, dtype=bool)
            if found.weights is not None:
                kept = found.weights[:, column] > 0
            line = right[block.first + place]
            rest = np.abs(found.table[kept, column] - left[kept] @ line)
            spent = problem.rank * (1 + rows / wide) * kept.sum() / rows
            noises[int(column)] = _noise(rest, spent)
    # The noise has a lower limit, because a column may be fitted exactly by chance. The
    # noise of columns is compared in the units of the cells.
    units = np.full(wide, unit) if found.units is None else found.units
    typical = np.median(list(noises.values()))
    for column, noise in noises.items():
        floor = max(noise, 0.1 * typical, 1e-9 * scale)
        loss = Huber(float(HUBER_EFFICIENCY * floor * units[column]))
        given[column] = _with_loss(given[column], loss)
    return given


def _noise(sizes: np.ndarray, parameters: float) -> float:
    spent = min(int(np.ceil(parameters)), len(sizes) // 2)
    largest = np.sort(sizes)[spent:]
    return float(np.median(largest) / NORMAL_MEDIAN) if len(largest) else 0.0


def _with_loss(model: ColumnModel, loss: Huber) -> ColumnModel:
    return replace(model, loss=loss, width_from_noise=True)
