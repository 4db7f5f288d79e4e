"""Fit a low-rank model to a table, and calibrate its prediction intervals."""

from __future__ import annotations

import time
from dataclasses import fields, replace

import numpy as np

from descents.cells.base import Cells
from descents.cells.dense import Dense
from descents.cells.distributed import Distributed, SharedTable
from descents.cells.streamed import Streamed
from descents.devices import numpy_dtype
from descents.errors import InvalidValueError
from descents.lowrank import noise, prediction_intervals
from descents.lowrank.choosing import chosen, penalty_taken
from descents.lowrank.descending import (
    brief_stop,
    compared_with_constants,
    descended,
)
from descents.lowrank.fitted import Fitted
from descents.lowrank.folds import dealt, with_holes
from descents.lowrank.huber_width import with_widths
from descents.lowrank.judged import Judged
from descents.lowrank.judging import Unseen, judged
from descents.lowrank.judging_shared import judged_together
from descents.lowrank.matrices import is_sparse
from descents.lowrank.notices import (
    hopeless,
    warn_of_blanks,
    warn_of_far,
    warn_of_the_end,
    warn_of_the_fit,
)
from descents.lowrank.prediction_intervals import Calibration
from descents.lowrank.predictor import Predictor
from descents.lowrank.problems import (
    encoded,
    lacks_widths,
    problem_of,
    problem_settings,
)
from descents.lowrank.settings import RunControl, Settings
from descents.lowrank.table import CodedTable, read
from descents.lowrank.update_rules import name_of
from descents.rng import stream
from descents.tables.blocks import TableOnDisk
from descents.text import counted

BRIEF = 1e-3
"""The tolerance of fits that are judged: a step can lower the loss by a millionth."""
EXACT = 1e-12
"""A loss below this share of the constants' is nothing but rounding errors."""


def fit(
    table: object, settings: Settings | None = None, control: RunControl | None = None
) -> Fitted:
    """Fit a low-rank model to the observed cells of a table.

    `descents.LowRankModel` and ``descents factorize`` call this function.

    Parameters
    ----------
    table : CodedTable, or what `descents.lowrank.read` takes
    settings : Settings, optional
    control : RunControl, optional

    Returns
    -------
    Fitted

    Raises
    ------
    InvalidValueError
        If the settings do not suit the table, or every loss becomes infinite or NaN.

    Examples
    --------
    >>> table = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 2.0])
    >>> fit(table, Settings(n_components=1, offsets="none")).reference.kind
    'exact'
    """
    settings = Settings() if settings is None else settings
    control = RunControl() if control is None else control
    if not isinstance(table, CodedTable):
        table = read(table, settings)
    if isinstance(
        table.values, SharedTable
    ):  # without a seed, each process has drawn one
        seed = table.values.together.from_first(settings.seed)
        settings = replace(settings, random_state=seed)
    begun = time.monotonic()
    data = encoded(table, settings)
    choice = chosen(table, data, settings, control)
    problem, implied = problem_of(
        data, settings, table.dtype, choice.rank, choice.penalty
    )
    warn_of_blanks(problem, data.columns, table.row_names)
    if lacks_widths(data.columns):
        table = replace(table, columns=with_widths(data.columns, problem))
        data = encoded(table, settings)
        problem, implied = problem_of(
            data, settings, table.dtype, choice.rank, choice.penalty
        )
    step = settings.step(problem)
    recorded = [step for step in control.record if step <= settings.max_iter]
    seconds = _seconds_left(control, begun)
    now = replace(control, record=recorded, seconds=seconds)
    runs = descended(problem, step, settings, settings.seed, now)
    runs = compared_with_constants(problem, runs)
    solver = name_of(step)
    if not np.isfinite(runs.losses).any():
        raise InvalidValueError(hopeless(data.columns, solver, settings.learning_rate))
    start = Predictor.of(data.columns, problem, runs, settings.combine)
    reference, gap, constants = start.compared()
    warn_of_the_fit(start, reference, constants, settings)
    seconds = _seconds_left(control, begun)
    result = Fitted(
        **{one.name: getattr(start, one.name) for one in fields(start)},
        settings=settings,
        header=table.header,
        seed=settings.seed,
        solver=solver,
        reference=reference,
        gap=gap,
        constants_loss=constants,
        selection=choice.selection,
        noise=implied,
        scales=data.scales,
    )
    both = _judged(result, table, replace(control, seconds=seconds))
    if both is not None:
        result = replace(result, judged=both[0], unseen=both[1])
    result = replace(result, far=_far(result))
    warn_of_the_end(result, settings)
    return result


def _seconds_left(control: RunControl, begun: float) -> float | None:
    """Return the rest of the time limit; None if there is no limit."""
    if control.seconds is None:
        return None
    return max(0.0, control.seconds - (time.monotonic() - begun))


def _judged(
    fit: Fitted, table: CodedTable, control: RunControl
) -> tuple[Judged, Unseen] | None:
    """Fit without some of the cells, and compare predictions of them with constants.

    It is None if no cell is missing and nothing was chosen by held-out cells, if the table
    is on disk, or if the time is up.
    """
    problem, settings = fit.problem, fit.settings
    found = problem.cells
    by_cells = fit.selection is not None and fit.selection.how == "cells"
    wanted = noise.lacks_cells(found) or by_cells
    if not (wanted and settings.held_out) or control.seconds == 0:
        return None
    if fit.runs.interrupted:
        return None
    if isinstance(found, Distributed):
        exact = _is_exact(fit, found)
        return judged_together(fit, table, control, exact=exact)
    if isinstance(found, Streamed):
        return None
    dtype = np.dtype(numpy_dtype(problem.dtype))
    given = fit.penalty if fit.noise is None else None
    arguments = problem_settings(settings, found, dtype, given, incomplete=True)
    arguments["penalty"] = fit.penalty
    stop = brief_stop(settings, dtype, control.seconds)
    return judged(
        found,
        fit.models,
        problem.rank,
        arguments,
        settings.step,
        replace(stop, gradient_tol=BRIEF),
        share=settings.held_out,
        seed=fit.seed,
        workers=control.workers,
        exact=_is_exact(fit, found),
    )


def _is_exact(fit: Fitted, found: Cells) -> bool:
    """Return whether fewer parameters than cells fit the table exactly."""
    problem = fit.problem
    parameters = problem.rank * (sum(found.whole_shape) - problem.rank)
    exact = fit.noise is not None and fit.noise.l2 == 0
    if found.observed > parameters + found.coordinates:
        exact |= fit.loss <= EXACT * fit.constants_loss
    return exact


def _far(fit: Fitted) -> str | None:
    """Warn if missing cells of the table are filled far outside the observed range."""
    found = fit.problem.cells
    if not isinstance(found, Dense) or found.complete_with_ones:
        return None
    codes = fit.filled(fit.decoded(*fit.predictions(fit.points)))
    return warn_of_far(fit, codes, found.weights == 0)


def calibrated(
    fit: Fitted,
    table: CodedTable,
    settings: Settings | None = None,
    control: RunControl | None = None,
) -> Calibration:
    """Return the scores of held-out cells, for prediction intervals.

    A fifth of the observed cells is held out, with equal parts of each column. A second
    model with the same rank, penalty and settings is fitted without them.

    Parameters
    ----------
    fit : Fitted
    table : CodedTable
        The table of the fit.
    settings : Settings, optional
        By default those of the fit.
    control : RunControl, optional

    Raises
    ------
    InvalidValueError
        If a column has a custom loss, the table is sparse or on disk, or no cell can be
        held out because no row and column has another.
    """
    settings = fit.settings if settings is None else settings
    control = RunControl() if control is None else control
    values = table.values
    if is_sparse(values) or isinstance(values, TableOnDisk):
        raise InvalidValueError(
            "the table is sparse or on disk, and intervals are for cells that impute "
            "fills; give a dense table with NaN at the missing cells"
        )
    prediction_intervals.check_scored(fit.models)
    rows = len(fit.points[0]["U"])
    if len(values) != rows:
        raise InvalidValueError(
            f"X has {counted(len(values), 'row')}, but the model was fitted to {rows}; "
            "give the table of the fit"
        )
    table = replace(table, columns=fit.models)
    whole = with_holes(encoded(table, settings).cells)
    generator = stream(fit.seed, "split", 1)
    held = dealt(whole, prediction_intervals.PARTS, generator) == 0
    if not held.any():
        raise InvalidValueError(
            "no cell can be held out such that its row, its column and its level "
            "keep another; give a larger table"
        )
    data = encoded(replace(table, values=np.where(held, np.nan, values)), settings)
    penalty = penalty_taken(settings, fit.selection)
    problem, _ = problem_of(data, settings, table.dtype, fit.problem.rank, penalty)
    step = settings.step(problem)
    quiet = RunControl(seconds=control.seconds, workers=control.workers)
    runs = descended(problem, step, settings, fit.seed, quiet)
    if not np.isfinite(runs.losses).any():
        raise InvalidValueError(
            hopeless(fit.models, fit.solver, settings.learning_rate)
        )
    twin = Predictor.of(fit.models, problem, runs, settings.combine)
    flat = None
    if fit.judged is not None:
        _, shares = prediction_intervals.constants_of(fit, whole)
        flat = prediction_intervals.Flat.of(fit.judged.constant, shares)
    return prediction_intervals.calibrated(twin, values, held, generator, flat)
