"""Rules for when a start stops, and for which of its steps is the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError
from descents.optim.curvature import gains
from descents.optim.problem import Bound, Parameters, Problem
from descents.optim.rules import Update
from descents.optim.stacked import kept_where
from descents.statistics.metrics import has_direction, higher_is_better
from descents.validation import real_number, whole_number

ROUNDINGS = 10
"""A fit is exact when its loss is below (10 roundings)^2, relative to the loss scale."""


@dataclass(frozen=True)
class EarlyStopping:
    """Return each start where a metric was best, and stop it once that no longer improves.

    Parameters
    ----------
    metric : str
        A metric that the problem records.
    higher_is_better : bool, optional
        The default comes from `descents.statistics.metrics`; it is False for a metric
        that is not listed there.
    every : int
        The number of steps between two checks.
    patience : int or None
        Stop a start after this many checks in a row without improvement on its best.
        None never stops a start, and only keeps its best point.
    min_delta : float
        An improvement has to exceed this fraction of the best value.

    Examples
    --------
    >>> EarlyStopping(every=5, patience=10).metric
    'validation_loss'
    """

    metric: str = "validation_loss"
    higher_is_better: bool | None = None
    every: int = 1
    patience: int | None = 10
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        complaints = Complaints()
        complaints.attempt(whole_number, "every", self.every, 1)
        if self.patience is not None:
            complaints.attempt(whole_number, "patience", self.patience, 1)
        complaints.attempt(real_number, "min_delta", self.min_delta, 0)
        complaints.raise_any()
        if self.higher_is_better is None:
            higher = has_direction(self.metric) and higher_is_better(self.metric)
            object.__setattr__(self, "higher_is_better", higher)


@dataclass(frozen=True)
class NoProgress:
    """Stop each start once its training loss no longer falls, as scikit-learn's MLP does.

    A check compares the mean loss over the last `every` steps with the smallest so far.
    A start stops when it was not lower by more than `tol` at more than `patience` checks
    in a row. The loss is that of the steps, with the penalty of weight decay; if steps
    use mini-batches, it is the loss of the mini-batch.

    Parameters
    ----------
    tol : float
        At least 0, in the units of the loss.
    patience : int
    every : int
        The number of steps between two checks, usually those of an epoch.

    Examples
    --------
    >>> NoProgress(tol=1e-3, every=5).patience
    10
    """

    tol: float = 1e-4
    patience: int = 10
    every: int = 1

    def __post_init__(self) -> None:
        complaints = Complaints()
        complaints.attempt(real_number, "tol", self.tol, 0)
        complaints.attempt(whole_number, "patience", self.patience, 1)
        complaints.attempt(whole_number, "every", self.every, 1)
        complaints.raise_any()


@dataclass(frozen=True)
class Stop:
    """When the starts of a descent stop.

    Parameters
    ----------
    max_steps : int
        The maximum number of steps, at least 0.
    gradient_tol : float
        A start stops as stationary when a Newton or prox-gradient step can lower its
        loss by at most ``gradient_tol**2`` of the loss, so that the parameters are within
        about ``gradient_tol`` of the nearest minimum. The gain of a step is predicted from
        gradient and curvature; it does not depend on units, on the learning rate or on
        the initial point. It is checked every 10 steps and at the end; if steps use
        mini-batches, only at the end. 0 turns the check off.
    loss_tol : float
        A start stops as settled when its loss has fallen by at most this fraction of
        itself over 10 steps. Use it for losses without a continuous gradient, or to stop
        where the working precision allows no further progress. 0 turns the check off.
    max_seconds : float or None
        The limit on wall time for the whole call; starts that have not stopped by then
        are interrupted.
    early : EarlyStopping or None
        Return each start where its metric was best, with the step as the metric
        ``best_step``. A start whose loss overflows later is also returned there, with a
        status that says so.
    progress : NoProgress or None
        Also stop a start once its training loss no longer falls.

    Examples
    --------
    >>> Stop(100, gradient_tol=1e-6).max_steps
    100
    """

    max_steps: int = 1000
    gradient_tol: float = 0.0
    loss_tol: float = 0.0
    max_seconds: float | None = None
    early: EarlyStopping | None = None
    progress: NoProgress | None = None

    def __post_init__(self) -> None:
        complaints = Complaints()
        complaints.attempt(whole_number, "max_steps", self.max_steps, 0)
        complaints.attempt(real_number, "gradient_tol", self.gradient_tol, 0)
        complaints.attempt(real_number, "loss_tol", self.loss_tol, 0)
        if self.max_seconds is not None:
            complaints.attempt(real_number, "max_seconds", self.max_seconds, 0)
        complaints.raise_any()


class Convergence:
    """Find the starts that a `Stop` calls stationary or settled."""

    def __init__(self, rule: Stop, problem: Problem, width: int) -> None:
        self.rule, self.problem, self.width = rule, problem, width
        self.scale: np.ndarray | None = None
        self.before: torch.Tensor | None = None

    def set_scale(self, losses: torch.Tensor) -> None:
        """Store the scale of the losses, relative to which a loss counts as zero."""
        if not self.rule.gradient_tol:  # the scale is not needed, and may be costly
            return
        scale = self.problem.loss_scale
        first = losses.abs().cpu().numpy().astype(np.float64)
        self.scale = first if scale is None else np.full(self.width, scale)

    def stationary(
        self, bound: Bound, parameters: Parameters, update: Update, step: int
    ) -> np.ndarray:
        """Return the starts at which a step can lower the loss by next to nothing.

        These have gain <= max(tolerance^2 * loss, (10 eps)^2 * scale), where eps is the
        rounding unit of the working precision.

        Parameters
        ----------
        bound : Bound
            The losses over all data.
        update : Update
            At these parameters.
        """
        if not self.rule.gradient_tol:
            return np.zeros(self.width, dtype=bool)
        if self.scale is None:  # no step was taken
            self.set_scale(update.losses)
        gain = update.gain
        if gain is None:
            gain = gains(bound, parameters, update.mapping, step)
        size = update.losses.abs().cpu().numpy().astype(np.float64)
        # The loss of an exact fit consists of rounding errors, which never shrink.
        unit = float(torch.finfo(self.problem.dtype).eps)
        rounded = np.square(ROUNDINGS * unit) * self.scale
        most = np.maximum(np.square(self.rule.gradient_tol) * size, rounded)
        stationary: np.ndarray = gain.cpu().numpy() <= most
        return stationary

    def settled(self, losses: torch.Tensor, unsettled: bool) -> np.ndarray:
        """Return the starts whose loss has hardly fallen since the last call.

        It is none while the rule still changes the losses themselves (`unsettled`).
        """
        settled = np.zeros(self.width, dtype=bool)
        if not self.rule.loss_tol:
            return settled
        if not unsettled and self.before is not None:
            small = self.before - losses <= self.rule.loss_tol * losses.abs()
            settled = small.cpu().numpy()
        self.before = losses
        return settled


class Best:
    """The best point of each start by a metric, and how long ago it was reached."""

    def __init__(self, rule: EarlyStopping, width: int) -> None:
        self.rule = rule
        self.values = np.full(width, np.inf)
        self.steps = np.zeros(width, dtype=np.int64)
        self.waited = np.zeros(width, dtype=np.int64)
        self.parameters: Parameters = {}
        self.buffers: Parameters = {}

    def look(
        self,
        metrics: dict[str, torch.Tensor],
        parameters: Parameters,
        buffers: Parameters,
        step: int | np.ndarray,
        active: np.ndarray,
    ) -> np.ndarray:
        """Compare a metric with the best; return which starts ran out of patience."""
        rule = self.rule
        if rule.metric not in metrics:
            raise InvalidValueError(
                f"early stopping uses the metric {rule.metric!r}, which the problem does "
                f"not record; it records {', '.join(metrics) or 'no metric'}"
            )
        values = metrics[rule.metric].cpu().numpy().astype(np.float64)
        values = -values if rule.higher_is_better else values
        with np.errstate(invalid="ignore"):
            gain = self.values - values
            better = (gain > rule.min_delta * np.abs(self.values)) & active
            better |= np.isinf(self.values) & np.isfinite(values) & active
        if not self.parameters:  # the first check: every start has this point only
            self.parameters, self.buffers = dict(parameters), buffers
        self.parameters = kept_where(better, parameters, self.parameters)
        self.buffers = kept_where(better, buffers, self.buffers)
        self.values = np.where(better, values, self.values)
        self.steps = np.where(better, step, self.steps)
        # Patience counts from the first finite value of the metric.
        defined = np.isfinite(self.values)
        self.waited = np.where(better, 0, self.waited + (active & defined))
        limit = np.inf if rule.patience is None else rule.patience
        return self.waited >= limit


class Progress:
    """The smallest training loss of each start, and for how long it has not fallen."""

    def __init__(self, rule: NoProgress, width: int) -> None:
        self.rule = rule
        self.least = np.full(width, np.inf)
        self.waited = np.zeros(width, dtype=np.int64)
        self.total: torch.Tensor | None = None

    def add(self, losses: torch.Tensor) -> None:
        """Add the losses of a step, or their sums over some steps."""
        self.total = losses if self.total is None else self.total + losses

    def look(self, active: np.ndarray) -> np.ndarray:
        """Return the active starts whose loss has not fallen for too long."""
        if self.total is None:
            return np.zeros_like(active)
        means = self.total.cpu().numpy() / self.rule.every
        self.total = None
        # The same comparisons as in scikit-learn's MLP, including ties.
        still = means > self.least - self.rule.tol
        self.waited = np.where(still, self.waited + 1, 0)
        self.least = np.fmin(self.least, means)
        stalled: np.ndarray = active & (self.waited > self.rule.patience)
        return stalled
