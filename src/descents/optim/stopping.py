"""When a descent ends, and which step of a start is its best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError
from descents.optim.first_order import chosen
from descents.optim.problem import Parameters
from descents.statistics.metrics import has_direction, higher_is_better
from descents.validation import real_number, whole_number


@dataclass(frozen=True)
class EarlyStopping:
    """Keep each start where a metric was best, and end it once that no longer improves.

    Parameters
    ----------
    metric : str
        One that the problem records.
    higher_is_better : bool, optional
        By default what `descents.statistics.metrics` knows of the metric, and False for a
        metric that it does not know.
    every : int
        How many steps pass between two looks.
    patience : int or None
        A start is stopped when so many looks in a row have not improved on its best;
        None never ends one, and only keeps the best.
    least_gain : float
        An improvement is more than this times the best.

    Examples
    --------
    >>> EarlyStopping(every=5, patience=10).metric
    'validation_loss'
    """

    metric: str = "validation_loss"
    higher_is_better: bool | None = None
    every: int = 1
    patience: int | None = 10
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        complaints = Complaints()
        complaints.attempt(whole_number, "every", self.every, 1)
        if self.patience is not None:
            complaints.attempt(whole_number, "patience", self.patience, 1)
        complaints.attempt(real_number, "least_gain", self.least_gain, 0)
        complaints.raise_any()
        if self.higher_is_better is None:
            known = has_direction(self.metric) and higher_is_better(self.metric)
            object.__setattr__(self, "higher_is_better", known)


@dataclass(frozen=True)
class NoProgress:
    """End each start once its training loss no longer falls, as scikit-learn's MLP does.

    A look compares the mean loss over the last `every` steps with the least so far. A
    start ends when it was not lower by more than `tol` at more than `patience` looks in
    a row. The loss is that of the steps: of a mini-batch, where steps look at one, with
    the penalty of weight decay.

    Parameters
    ----------
    tol : float
        At least 0, in the units of the loss.
    patience : int
    every : int
        How many steps pass between two looks: those of an epoch.

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
    """When a descent ends.

    Parameters
    ----------
    max_steps : int
        The limit of steps, at least 0.
    tolerance : float
        A start is stationary, and stops, when a Newton or prox-gradient step can lower
        its loss by at most ``tolerance**2`` of the loss, so that the parameters are
        within about ``tolerance`` of the minimum nearby. What a step can gain is
        predicted from gradient and curvature; it does not depend on units, on the
        learning rate or on where the start began. Checked every 10 steps and at the
        end; at the end only where steps use mini-batches. 0 never stops a start.
    least_fall : float
        A start is settled, and rests, when its loss has fallen by at most this times
        itself over 10 steps: what is left for losses without a continuous gradient, and
        at the end of a precision. 0 never stops a start so.
    max_seconds : float or None
        A budget of wall time for the whole call; starts that have not ended then are
        interrupted.
    early : EarlyStopping or None
        What a start returns is then where its metric was best, with the step as the
        metric ``best_step``; also where its loss overflows later, which its status says.
    progress : NoProgress or None
        A start also ends once its training loss no longer falls.

    Examples
    --------
    >>> Stop(100, tolerance=1e-6).max_steps
    100
    """

    max_steps: int = 1000
    tolerance: float = 0.0
    least_fall: float = 0.0
    max_seconds: float | None = None
    early: EarlyStopping | None = None
    progress: NoProgress | None = None

    def __post_init__(self) -> None:
        complaints = Complaints()
        complaints.attempt(whole_number, "max_steps", self.max_steps, 0)
        complaints.attempt(real_number, "tolerance", self.tolerance, 0)
        complaints.attempt(real_number, "least_fall", self.least_fall, 0)
        if self.max_seconds is not None:
            complaints.attempt(real_number, "max_seconds", self.max_seconds, 0)
        complaints.raise_any()


class Best:
    """Where a metric of each start was best, and since when it has not improved."""

    def __init__(self, rule: EarlyStopping, width: int) -> None:
        self.rule = rule
        self.values = np.full(width, np.inf)
        self.steps = np.zeros(width, dtype=np.int64)
        self.waited = np.zeros(width, dtype=np.int64)
        self.parameters: Parameters = {}
        self.kept: Parameters = {}

    def look(
        self,
        metrics: dict[str, torch.Tensor],
        parameters: Parameters,
        kept: Parameters,
        step: int | np.ndarray,
        active: np.ndarray,
    ) -> np.ndarray:
        """Take note of a metric; return which starts have not improved for too long."""
        rule = self.rule
        if rule.metric not in metrics:
            raise InvalidValueError(
                f"early stopping asks for {rule.metric!r}; give a metric that the "
                f"problem records: {', '.join(metrics) or 'it records none'}"
            )
        values = metrics[rule.metric].cpu().numpy().astype(np.float64)
        values = -values if rule.higher_is_better else values
        with np.errstate(invalid="ignore"):
            gain = self.values - values
            better = (gain > rule.least_gain * np.abs(self.values)) & active
            better |= np.isinf(self.values) & np.isfinite(values) & active
        if not self.parameters:  # at the first look there is nothing else to go back to
            self.parameters, self.kept = dict(parameters), kept
        self.parameters = kept_where(better, parameters, self.parameters)
        self.kept = kept_where(better, kept, self.kept)
        self.values = np.where(better, values, self.values)
        self.steps = np.where(better, step, self.steps)
        # A metric that was never defined cannot fail to improve.
        known = np.isfinite(self.values)
        self.waited = np.where(better, 0, self.waited + (active & known))
        limit = np.inf if rule.patience is None else rule.patience
        return self.waited >= limit


class Progress:
    """The least training loss of each start, and since when it has not fallen."""

    def __init__(self, rule: NoProgress, width: int) -> None:
        self.rule = rule
        self.least = np.full(width, np.inf)
        self.waited = np.zeros(width, dtype=np.int64)
        self.total: torch.Tensor | None = None

    def add(self, losses: torch.Tensor) -> None:
        """Add the losses of a step, or their sums over some steps."""
        self.total = losses if self.total is None else self.total + losses

    def look(self, active: np.ndarray) -> np.ndarray:
        """Return which active starts have not made progress for too long."""
        if self.total is None:
            return np.zeros_like(active)
        means = self.total.cpu().numpy() / self.rule.every
        self.total = None
        # The comparisons are those of scikit-learn's MLP, ties included.
        still = means > self.least - self.rule.tol
        self.waited = np.where(still, self.waited + 1, 0)
        self.least = np.fmin(self.least, means)
        stalled: np.ndarray = active & (self.waited > self.rule.patience)
        return stalled


def kept_where(active: np.ndarray, moved: Parameters, rest: Parameters) -> Parameters:
    """Return the moved parameters of active starts and the old ones of the others."""
    if active.all() or not moved:
        return moved
    some = next(iter(moved.values()))
    return chosen(torch.as_tensor(active, device=some.device), moved, rest)
