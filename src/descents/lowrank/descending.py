"""The descent of a low-rank model, in units in which the size of numbers is 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from descents.cells.base import Cells
from descents.cells.streamed import Streamed
from descents.constraints.sets import Fixed
from descents.devices import numpy_dtype
from descents.errors import InterruptedRunError
from descents.factorization.alternating import Alternating
from descents.factorization.factorization import Factorization
from descents.factorization.rescaled import Rescaled, rescaled
from descents.lowrank import cross_validation
from descents.lowrank.settings import RunControl, Settings
from descents.optim.chunk import Watch
from descents.optim.first_order import Adam
from descents.optim.loop import descend
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs, Status
from descents.optim.stopping import Stop

SETTLED = 1e-7
"""A start of a loss without a continuous gradient stops when the loss decreases by a
smaller share."""


class ShardDone(Exception):  # noqa: N818 - it is no error
    """The starts of a shard have descended, and there is no fit without the others."""


def descended(
    problem: Factorization,
    step: UpdateRule,
    settings: Settings,
    seed: int,
    control: RunControl,
) -> Runs:
    """Return the runs of all starts of a problem.

    Update rules with their own step sizes, line searches or limited memory depend on the
    size of the numbers. They descend in units in which it is 1, unless the user has given
    the rule or its learning rate.

    Parameters
    ----------
    problem : Factorization
    step : UpdateRule
    settings : Settings
    seed : int
    control : RunControl
    """
    automatic = isinstance(settings.solver, str) and settings.learning_rate is None
    exact = all(block.loss.quadratic for block in problem.cells.blocks)
    over = None
    if automatic and not (exact and isinstance(step, Alternating)):
        over = rescaled(problem)
    if over is None:
        return _in_units_of(problem, step, settings, seed, control)
    if control.watch is not None:
        control = replace(control, watch=_watching(control.watch, over.factor))
    runs = _in_units_of(over.problem, step, settings, seed, control)
    return _brought_back(problem, over, runs)


def _in_units_of(
    problem: Factorization,
    step: UpdateRule,
    settings: Settings,
    seed: int,
    control: RunControl,
) -> Runs:
    dtype = np.dtype(numpy_dtype(problem.dtype))
    if isinstance(step, Adam) and settings.learning_rate is None:
        # Epsilon is relative to the gradient, so that the size of the loss has no effect.
        mean = problem.cells.constants_loss() / max(problem.cells.observed, 1)
        step = replace(step, epsilon=Adam().epsilon * (mean if mean > 0 else 1.0))
    starts: int | np.ndarray = settings.n_starts
    if control.shard is not None:
        starts = control.shard.starts(settings.n_starts, problem.width, problem.edges)
        if not len(starts):
            raise ShardDone
    runs = descend(
        problem,
        starts,
        seed,
        steps=step,
        stop=Stop(
            settings.max_iter,
            gradient_tol=settings.tolerance(dtype),
            loss_tol=_loss_tol(problem.cells, dtype),
            max_seconds=control.seconds,
        ),
        record=control.record,
        watch=control.watch,
        workers=control.workers,
        store=control.store,
    )
    if control.shard is None:
        return runs
    if runs.interrupted:
        raise InterruptedRunError("the descent was interrupted")
    raise ShardDone


def brief_stop(settings: Settings, dtype: np.dtype, seconds: float | None) -> Stop:
    """Return when a fit without some of the cells stops."""
    return Stop(
        min(settings.max_iter, cross_validation.STEPS),
        gradient_tol=settings.tolerance(dtype),
        loss_tol=cross_validation.SETTLED,
        max_seconds=seconds,
    )


def _loss_tol(found: Cells, dtype: np.dtype) -> float:
    """Return the relative decrease of the loss below which a start stops."""
    rounding = 10 * float(np.finfo(dtype).eps)
    return rounding if found.smooth else max(SETTLED, rounding)


def _watching(watch: Watch, factor: float) -> Watch:
    """Return a function that reports losses in the units of the data."""
    return lambda starts, step, losses: watch(starts, step, losses * factor)


def _brought_back(problem: Factorization, over: Rescaled, runs: Runs) -> Runs:
    """Return runs in the units of the data, where their final losses are computed."""
    parameters = over.parameters(runs.parameters)
    losses, count = runs.losses.copy(), len(runs)
    for first in range(0, count, problem.width):
        place = slice(first, first + problem.width)
        tensors = {
            name: torch.as_tensor(value[place], device=problem.device).double()
            for name, value in parameters.items()
        }
        with torch.no_grad():
            found = problem.losses(tensors, torch.as_tensor(runs.starts[place]), 0)
        losses[place] = found.cpu().numpy()
    losses = np.where(np.isfinite(runs.losses), losses, runs.losses)
    histories = {**runs.histories}
    if "loss" in histories:
        histories["loss"] = histories["loss"] * over.factor
    return replace(runs, parameters=parameters, losses=losses, histories=histories)


def compared_with_constants(problem: Factorization, runs: Runs) -> Runs:
    """Return the runs with the status WORSE for starts that are worse than constants.

    The loss of the data is compared, without penalties. A model of which a factor is given
    as a whole is not compared with others.
    """
    found = problem.cells
    if is_given(problem):
        return runs
    constants = found.constants_loss()
    most = constants * (1 + 1e-6) + 1e-12 * found.loss_of_zero
    above = np.flatnonzero(np.isfinite(runs.losses) & (runs.losses > most))
    if found.square == 0 or not len(above) or isinstance(found, Streamed):
        return runs
    statuses = list(runs.statuses)
    ended = (Status.STATIONARY, Status.SETTLED, Status.LIMIT)
    for k in above.tolist():
        if statuses[k] not in ended:
            continue
        if loss_of_the_data(problem, runs, k) > most:
            statuses[k] = Status.WORSE
    return replace(runs, statuses=tuple(statuses))


def is_given(problem: Factorization) -> bool:
    """Return whether a factor is given as a whole."""
    sides = (problem.row_regularizer.inside, problem.column_regularizer.inside)
    return any(
        isinstance(one, Fixed) and not np.isnan(one.values).any() for one in sides
    )


def loss_of_the_data(problem: Factorization, runs: Runs, place: int) -> float:
    """Return the loss of a start without penalties."""
    one = {
        name: torch.as_tensor(value[place])[None].double()
        for name, value in runs.parameters.items()
    }
    with torch.no_grad():
        left, right = problem.extended(one)
        return float(problem.cells.losses(left, right, problem.cut_parameters(one)))
