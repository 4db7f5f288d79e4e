"""Diagnose why a start did not reach the level of the best starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import torch

from descents.diagnosis.evidence import Look, look, norms
from descents.errors import Complaints, InterruptedRunError, InvalidValueError
from descents.optim.chunk import Watch
from descents.optim.loop import descend
from descents.optim.problem import Diagnosable, Parameters, Problem
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs, Status
from descents.optim.stopping import Stop
from descents.statistics.metrics import has_direction, higher_is_better
from descents.validation import real_number, whole_number

REACHED_SHARE = 0.8
"""Reached: the metric is above the baseline, and at least the baseline plus this share of
the best start's gain over it."""
GENERALIZED_SHARE = 0.8
"""Overfitted: the validation metric is below the baseline plus this share of the gain of
the same start's training metric over it."""
EXPLODED_RATIO = 100.0
"""Exploded: at some step of the run the loss is at least this times the initial loss, ..."""
RISEN_RATIO = 2.0
"""... or it is at least this times the initial loss, and the gradient norm at the end is at
least `EXPLODED_RATIO` times the initial norm."""
DEAD_SHARE = 0.5
"""Dead units: at least this share of the units have output zero on every row."""
SATURATED_SHARE = 0.5
"""Saturated: at least this share of the units are saturated on every row."""
LAYER_RATIO = 1e-3
"""Vanishing: the gradient norm of the first layer is at most this times that of the last."""
FLAT_CURVATURE = -1e-2
"""... and no Hessian eigenvalue is below this times the largest in magnitude. If one is,
the gradient grows along its direction, so the point is a saddle."""
STATIONARY_GAIN = 1e-6
"""Stationary: a gradient step of 1 / the largest curvature gains at most this times the
loss, ..."""
SETTLED_GAIN = 1e-2
"""... or it gains at most this times the loss, ..."""
SETTLED_FALL = 0.05
"""... and the loss fell by at most this times itself between the last two marks. Steps of
constant size keep jumping around a point. The gradient that they leave is not a sign of a
way down, and differs between starts with the same loss."""
STATIONARY_MOVE = 1e-8
"""... or such a step would move the start by at most this."""
VANISHED_RATIO = 1e-3
"""Vanished: the gradient norm at the end of the run is at most this times that at the
initial point, and the start is still below the threshold."""
NEGATIVE_CURVATURE = -1e-6
"""Saddle: a Hessian eigenvalue is below this times the largest in magnitude, ..."""
RESIDUAL_CURVATURE = 10.0
"""... and its magnitude is more than this times the gradient norm over the norm of the
parameters. A remaining gradient causes curvature of its own size and of either sign, for
example in products of weights. The curvature of a saddle remains when the gradient
vanishes."""
SURE_RESIDUAL = 1e-3
"""Local minimum: the eigenvalues are accurate to this times the largest in magnitude."""

ROUNDING = 1e-12
"""A share of a count of rows that equals a threshold may be below it by rounding."""


class Verdict(Enum):
    """Why a start is below the threshold, in order of precedence; values are the rules.

    Overflow comes first, then explosion, because later evidence on such a start, such as
    dead or saturated units, is a consequence. Dead and saturated units come before the
    vanishing gradient because they cause it: layers before a unit get no gradient through
    it. These rules apply to starts that do not recover with more steps; those that do are
    on a plateau. They come before saddle and minimum, which say only that nothing moves,
    not why. A start that was stopped before the limit of steps has its own verdict in
    place of plateau, saddle and minimum, because these describe the effect of more steps,
    which it did not take. The last three verdicts are for starts that reach the
    threshold, and for starts that no rule explains.
    """

    NONFINITE = "the loss became infinite or NaN"
    EXPLODING = (
        "the loss grew to at least 100 times its initial value, or overflows with more "
        "steps; or it grew to at least twice, and the gradient to at least 100 times"
    )
    DEAD_UNITS = (
        "at the end of the run at least half of the hidden units have output zero on "
        "every row, or some have and no gradient reaches the first layer; and the start "
        "does not recover with more steps"
    )
    SATURATED = (
        "at the end of the run at least half of the hidden units are saturated on every "
        "row, or some are and no gradient reaches the first layer; and the start does not "
        "recover with more steps"
    )
    VANISHING_GRADIENT = (
        "the gradient of the first layer is at most a thousandth of that of the last, and "
        "with more steps the start does not recover, nor reach negative curvature along "
        "which the gradient grows"
    )
    ENDED_EARLY = (
        "early stopping, or a training loss that no longer fell, stopped the start before "
        "the limit of steps, below the threshold"
    )
    PLATEAU = "with more steps the loss falls further, and the start recovers"
    SADDLE = (
        "stationary after the most steps, where the Hessian has a negative eigenvalue "
        "that the remaining gradient does not explain"
    )
    LOCAL_MINIMUM = (
        "stationary after the most steps, where the Hessian has no negative eigenvalue "
        "that the remaining gradient does not explain"
    )
    OVERFITTED = (
        "it reaches the level of the best starts on its training rows, and far less on "
        "its validation rows"
    )
    CONVERGED = "it reaches the level of the best starts"
    UNDECIDED = "no rule applies"

    @property
    def word(self) -> str:
        """The name of the verdict in tables."""
        return {"NONFINITE": "non-finite"}.get(
            self.name, self.name.lower().replace("_", " ")
        )


METRICS = ("training_accuracy", "training_r2")
"""The default metrics that are compared with the threshold, in order of preference."""

EARLY = (Status.STOPPED, Status.STALLED)
"""Statuses of starts that a rule stopped before the limit of steps."""

HEALTHY = (Verdict.OVERFITTED, Verdict.CONVERGED)
"""Verdicts of starts that reach the threshold."""


@dataclass(frozen=True)
class Diagnosis:
    """Evidence and verdicts of the F diagnosed starts.

    Evidence that needs longer descents or curvature is computed only for starts below the
    threshold, and is NaN for the others. For a stochastic problem, all evidence uses all
    rows.

    Attributes
    ----------
    starts : int64 ndarray of shape (F,)
    verdicts : tuple of Verdict, length F
    threshold : float
        The metric that a start must reach.
    initial, end, last : Look
        Gradient, units and curvature at the initial point (without curvature), at the end
        of the run, and after the most steps.
    distance : ndarray of shape (F,)
        The distance from the initial point to the end of the run, over the norm of the
        initial point.
    growth : ndarray of shape (F,)
        The largest loss in the run, over the initial loss; infinite if the loss overflows
        in the run or with more steps.
    steps : tuple of int
        The numbers of steps at which `metric` was computed: those of the run and its
        multiples.
    metric : ndarray of shape (len(steps), F)
        The first row is that of the run, the others are those of longer descents without
        early stopping.
    loss : ndarray of shape (len(steps), F)
    size : ndarray of shape (F,)
        The norm of the parameters after the most steps.
    reached, recovered : bool ndarray of shape (F,)
        Whether the metric reaches the threshold at the end of the run; whether it reaches
        it only at one of the multiples.
    nonfinite, stationary, overfitted, ended_early : bool ndarray of shape (F,)
        Whether the loss became non-finite; whether, after the most steps, a gradient step
        can gain next to nothing; whether the validation metric is far below the training
        metric; whether a rule stopped the start before the limit of steps.
    """

    starts: np.ndarray
    verdicts: tuple[Verdict, ...]
    threshold: float
    initial: Look
    end: Look
    last: Look
    distance: np.ndarray
    growth: np.ndarray
    steps: tuple[int, ...]
    metric: np.ndarray
    loss: np.ndarray
    size: np.ndarray
    reached: np.ndarray
    recovered: np.ndarray
    nonfinite: np.ndarray
    stationary: np.ndarray
    overfitted: np.ndarray
    ended_early: np.ndarray

    @property
    def gradient_norm(self) -> np.ndarray:
        """The gradient norm at the end of the run."""
        return self.end.gradient_norm

    @property
    def gradient_ratio(self) -> np.ndarray:
        """The gradient norm at the end of the run over that at the initial point."""
        return _ratio(self.end.gradient_norm, self.initial.gradient_norm)

    @property
    def final_gradient_ratio(self) -> np.ndarray:
        """The gradient norm after the most steps over that at the initial point."""
        return _ratio(self.last.gradient_norm, self.initial.gradient_norm)

    @property
    def layer_shares(self) -> dict[str, np.ndarray]:
        """The share of each layer in the squared gradient norm at the end of the run."""
        return {
            name: np.square(_ratio(layer, self.end.gradient_norm))
            for name, layer in self.end.layers.items()
        }

    @property
    def first_layer_ratio(self) -> np.ndarray:
        """The gradient norm of the first layer over that at the initial point."""
        return _ratio(self.end.first_layer, self.initial.first_layer)

    @property
    def dead_share(self) -> np.ndarray:
        """The share of dead hidden units at the end of the run."""
        return self.end.dead_share

    @property
    def final_dead_share(self) -> np.ndarray:
        """The share of dead hidden units after the most steps."""
        return self.last.dead_share

    @property
    def smallest_eigenvalue(self) -> np.ndarray:
        """The smallest eigenvalue of the Hessian at the end of the run."""
        return self.end.smallest_eigenvalue

    @property
    def largest_eigenvalue(self) -> np.ndarray:
        """The largest eigenvalue in magnitude at the end of the run."""
        return self.end.largest_eigenvalue

    @property
    def failed(self) -> np.ndarray:
        """Which starts are below the threshold or failed, bool of shape (F,)."""
        return np.array([v not in HEALTHY for v in self.verdicts], dtype=bool)

    def counts(self) -> dict[str, int]:
        """Return the number of starts with each verdict, zeros included."""
        return {verdict.word: self.verdicts.count(verdict) for verdict in Verdict}

    def table(self) -> dict[str, np.ndarray]:
        """Return the evidence as columns, with a row per diagnosed start."""
        words = np.array([verdict.word for verdict in self.verdicts], dtype=object)
        layers = {
            f"{when}gradient_of_{name}": values
            for when, evidence in (("initial_", self.initial), ("", self.end))
            for name, values in evidence.layers.items()
        }
        shares = {f"gradient_share_{n}": s for n, s in self.layer_shares.items()}
        later = {
            f"metric_after_{steps}": row
            for steps, row in zip(self.steps[1:], self.metric[1:], strict=True)
        }
        return {
            "start": self.starts,
            "verdict": words,
            "gradient_ratio": self.gradient_ratio,
            "final_gradient_ratio": self.final_gradient_ratio,
            "first_layer_ratio": self.first_layer_ratio,
            "dead_share": self.end.dead_share,
            "final_dead_share": self.last.dead_share,
            "saturated_share": self.end.saturated_share,
            "final_saturated_share": self.last.saturated_share,
            "smallest_eigenvalue": self.end.smallest_eigenvalue,
            "largest_eigenvalue": self.end.largest_eigenvalue,
            "eigenvalue_residual": self.end.eigenvalue_residual,
            "final_smallest_eigenvalue": self.last.smallest_eigenvalue,
            "final_largest_eigenvalue": self.last.largest_eigenvalue,
            "final_eigenvalue_residual": self.last.eigenvalue_residual,
            "distance": self.distance,
            "growth": self.growth,
            "reached": self.reached,
            "recovered": self.recovered,
            **layers,
            **shares,
            **later,
        }


def reached_by_the_best(problem: Problem, runs: Runs, metric: str) -> float:
    """Return the threshold for reaching the level of the best starts.

    It is ``baseline + REACHED_SHARE * (best - baseline)``. ``best`` is the best metric of
    the starts with a finite loss, and ``baseline`` is the metric without learning. The
    threshold is always above the baseline.

    Examples
    --------
    >>> from descents import Network, descend, GradientDescent, Stop
    >>> network = Network([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], hidden=[4])
    >>> runs = descend(network, 3, steps=GradientDescent(0.3), stop=Stop(300))
    >>> round(reached_by_the_best(network, runs, "training_accuracy"), 3)
    0.9
    """
    baseline = baseline_of(problem, metric)
    values = runs.metrics[metric][np.isfinite(runs.losses)].astype(np.float64)
    best = float(np.nanmax(values, initial=baseline))
    share = baseline + REACHED_SHARE * (best - baseline)
    share -= ROUNDING * abs(share)
    return max(share, float(np.nextafter(baseline, np.inf)))


def diagnose(
    problem: Problem,
    runs: Runs,
    starts: Iterable[int] | None = None,
    *,
    steps: UpdateRule,
    metric: str | None = None,
    threshold: float | None = None,
    multiples: Sequence[int] = (10, 30),
    max_seconds: float | None = None,
    watch: Watch | None = None,
    threads: int | None = None,
) -> Diagnosis:
    """Diagnose how each start ended: that it reached the threshold, or why it did not.

    Starts below the threshold are run again from the beginning, with the same update rule,
    for multiples of the steps. Gradient, curvature and units are computed where they end,
    and where the run ended. A start gets the first verdict of `Verdict` whose rule
    applies.

    Parameters
    ----------
    problem : Problem
    runs : Runs
        Complete runs of this problem.
    starts : iterable of int, optional
        The numbers of the starts to diagnose, each in `runs`; by default all.
    steps : UpdateRule
        The update rule of `runs`.
    metric : str, optional
        The metric to compare with the threshold, of which more is better. The problem
        must record it. By default ``training_accuracy`` or ``training_r2``.
    threshold : float, optional
        The metric that a start must reach; by default `reached_by_the_best`.
    multiples : sequence of int
        The lengths of the longer descents, in multiples of the steps, each above 1.
    max_seconds : float, optional
        A limit of wall time for the longer descents.
    watch, threads
        See `descend`.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InvalidValueError
        If a start is not in the runs, a multiple is not above 1, or the problem does not
        record the metric.
    InterruptedRunError
        If the longer descents were interrupted, because partial evidence decides nothing.

    Examples
    --------
    >>> from descents import Network, descend, GradientDescent, Stop
    >>> network = Network([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], hidden=[4])
    >>> rule = GradientDescent(0.05)
    >>> runs = descend(network, 3, steps=rule, stop=Stop(5))
    >>> diagnosis = diagnose(network, runs, steps=rule, threshold=0.8, multiples=[100])
    >>> diagnosis.counts()["plateau"]
    3
    """
    metric = _metric(runs) if metric is None else metric
    chosen, positions = _checked(runs, starts, metric, threshold, multiples)
    if threshold is None:
        threshold = reached_by_the_best(problem, runs, metric)
    limit = int(runs.settings["stop"]["max_steps"])
    marks = (limit, *(limit * multiple for multiple in sorted(multiples)))
    place = _Place(problem, chosen, int(runs.settings["width"]))
    statuses = [runs.statuses[p] for p in positions]
    nonfinite = np.array([status is Status.NONFINITE for status in statuses], bool)
    nonfinite |= ~np.isfinite(runs.losses[positions])
    early = np.array([status in EARLY for status in statuses], bool)
    values = runs.metrics[metric][positions].astype(np.float64)
    # Starts with an undefined metric count as having reached the threshold.
    reached = ~(values < threshold) & ~nonfinite
    begun = place.points(runs.settings["seed"])
    ended = place.tensors(runs.parameters, positions, begun)
    metrics, losses = np.full((2, len(marks), len(chosen)), np.nan)
    metrics[0], losses[0] = values, runs.losses[positions]
    growth = np.full(len(chosen), np.nan)
    size = np.full(len(chosen), np.nan)
    latest = ended
    if not reached.all():
        longer = _longer(
            problem,
            runs,
            chosen[~reached],
            metric,
            marks,
            steps=steps,
            max_seconds=max_seconds,
            watch=watch,
            threads=threads,
        )
        # The first row is that of the run, which may have returned an earlier step.
        rows = np.searchsorted(longer.recorded, marks[1:])
        metrics[1:, ~reached] = longer.histories[metric][rows]
        losses[1:, ~reached] = longer.histories["loss"][rows]
        taken = runs.steps_taken[positions][~reached]
        growth[~reached] = _growth(longer, taken, early[~reached])
        latest = place.tensors(longer.parameters, np.arange(len(longer)), begun)
        size[~reached] = norms({name: latest[name] for name in place.learned})
    initial = place.look(begun, curved=np.zeros_like(reached))
    end = place.look(ended, curved=~reached)
    last = place.look(latest, curved=None, rows=~reached)
    begun, ended = ({n: p[n] for n in place.learned} for p in (begun, ended))
    moved = {name: ended[name].double() - begun[name].double() for name in begun}
    diagnosis = Diagnosis(
        starts=chosen,
        verdicts=(),
        threshold=threshold,
        initial=initial,
        end=end,
        last=last,
        distance=_ratio(norms(moved), norms(begun)),
        growth=growth,
        steps=marks,
        metric=metrics,
        loss=losses,
        reached=reached,
        recovered=~reached & np.any(metrics[1:] >= threshold, axis=0),
        nonfinite=nonfinite,
        size=size,
        stationary=_stationary(last, losses),
        overfitted=_overfitted(problem, runs, positions, metric),
        ended_early=early,
    )
    return replace(diagnosis, verdicts=verdicts(diagnosis))


def _longer(
    problem: Problem,
    runs: Runs,
    starts: np.ndarray,
    metric: str,
    marks: Sequence[int],
    *,
    max_seconds: float | None,
    **options: Any,
) -> Runs:
    """Descend again from the given starts, for the most steps of `marks`."""
    # The first chunks of a descent may be narrower; the longer descent uses equal chunks.
    uniform = len(runs.settings.get("edges", (0,))) == 1
    longer = descend(
        problem,
        starts,
        runs.settings["seed"],
        stop=Stop(marks[-1], max_seconds=max_seconds),
        record={*_doubling(marks[0]), *marks},
        width=int(runs.settings["width"]) if uniform else None,
        **options,
    )
    if longer.interrupted:
        raise InterruptedRunError("stopped in the longer descents of the diagnosis")
    if metric not in longer.histories:
        raise InvalidValueError(
            f"metric is {metric!r}, which is computed only at the end; give one that "
            f"is recorded during training: {', '.join(longer.histories)}"
        )
    return longer


def _growth(longer: Runs, taken: np.ndarray, early: np.ndarray) -> np.ndarray:
    """Return the largest loss over the initial loss, over the steps that the run took.

    It is infinite if the loss overflows later, unless a rule stopped the start `early`.
    """
    history = longer.histories["loss"]
    within = np.where(longer.recorded[:, None] <= taken, history, -np.inf)
    growth = _ratio(within.max(0), history[0])
    overflowed = np.array([s is Status.NONFINITE for s in longer.statuses], bool)
    growth[overflowed & ~early] = np.inf
    return growth


def verdicts(evidence: Diagnosis) -> tuple[Verdict, ...]:
    """Return the verdict of each start.

    All rules are defined here, in the order of `Verdict`.

    Parameters
    ----------
    evidence : Diagnosis
        Its verdicts are ignored.
    """
    initial, end, last = evidence.initial, evidence.end, evidence.last
    short = ~evidence.reached
    lasting = short & ~evidence.recovered
    exploded = evidence.growth >= EXPLODED_RATIO
    exploded |= (evidence.growth >= RISEN_RATIO) & (
        evidence.gradient_ratio >= EXPLODED_RATIO
    )
    cut_off = end.first_layer == 0  # no gradient reaches the first layer
    dead = (end.dead_share >= DEAD_SHARE) | (cut_off & (end.dead_share > 0))
    saturated = end.saturated_share >= SATURATED_SHARE
    saturated |= cut_off & (end.saturated_share > 0)
    # Curvature counts as negative if the remaining gradient does not explain it.
    curved = last.smallest_eigenvalue < NEGATIVE_CURVATURE * last.largest_eigenvalue
    explained = RESIDUAL_CURVATURE * _ratio(last.gradient_norm, evidence.size)
    rounding = last.gradient_norm <= STATIONARY_MOVE * last.largest_eigenvalue
    curved &= rounding | ~(np.abs(last.smallest_eigenvalue) <= explained)
    sure = last.eigenvalue_residual <= SURE_RESIDUAL * last.largest_eigenvalue
    with np.errstate(invalid="ignore"):
        descends = (evidence.loss[1:] < evidence.loss[0]).any(0)
    rules = (
        (Verdict.NONFINITE, evidence.nonfinite),
        (Verdict.EXPLODING, short & exploded),
        (Verdict.DEAD_UNITS, lasting & dead),
        (Verdict.SATURATED, lasting & saturated),
        (Verdict.VANISHING_GRADIENT, lasting & _vanishing(initial, end, last)),
        (Verdict.ENDED_EARLY, short & evidence.ended_early),
        (Verdict.PLATEAU, evidence.recovered & descends),
        (Verdict.SADDLE, short & evidence.stationary & curved),
        (Verdict.LOCAL_MINIMUM, short & evidence.stationary & ~curved & sure),
        (Verdict.OVERFITTED, evidence.reached & evidence.overfitted),
        (Verdict.CONVERGED, evidence.reached),
    )
    return tuple(
        next((verdict for verdict, holds in rules if holds[row]), Verdict.UNDECIDED)
        for row in range(len(evidence.starts))
    )


def _stationary(last: Look, losses: np.ndarray) -> np.ndarray:
    """Return where a gradient step can gain next to nothing, after the most steps."""
    slope, curvature = last.gradient_norm, last.largest_eigenvalue
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # A step of 1 / curvature gains slope^2 / (2 curvature).
        gain = np.where(slope > 0, np.square(slope) / (2 * curvature), 0.0)
        scale = np.abs(losses[-1])
        settled = losses[-2] - losses[-1] <= SETTLED_FALL * scale
        stationary: np.ndarray = gain <= STATIONARY_GAIN * scale
        stationary |= settled & (gain <= SETTLED_GAIN * scale)
        stationary |= slope <= STATIONARY_MOVE * curvature
    return stationary & np.isfinite(slope)


def _vanishing(initial: Look, end: Look, last: Look) -> np.ndarray:
    """Return where the first layer gets far less gradient than the last.

    Either this is so from the initial point on (`early`), or only at the end (`late`);
    then the gradient of the first layer must also have shrunk. A gradient too small to
    move a parameter is rounding. A gradient of exactly 0 is cut off by dead units.
    """
    rounding = STATIONARY_MOVE * end.largest_eigenvalue
    early = (initial.first_layer > 0) & (initial.last_layer > rounding)
    early &= initial.first_layer <= LAYER_RATIO * initial.last_layer
    early &= end.first_layer <= LAYER_RATIO * np.fmax(
        initial.last_layer, end.last_layer
    )
    late = (end.first_layer > 0) & (end.last_layer > rounding)
    late &= end.first_layer <= LAYER_RATIO * end.last_layer
    late &= end.first_layer <= VANISHED_RATIO * initial.first_layer
    flat = last.smallest_eigenvalue >= FLAT_CURVATURE * last.largest_eigenvalue
    vanishing: np.ndarray = (early | late) & flat
    return vanishing


def baseline_of(problem: Problem, metric: str) -> float:
    """Return the value of a metric without learning, by default 0.

    Examples
    --------
    >>> from descents import Network
    >>> network = Network([[0.0], [1.0], [2.0]], [0, 0, 1], [2])
    >>> round(baseline_of(network, "training_accuracy"), 3)
    0.667
    """
    return problem.baseline(metric) if isinstance(problem, Diagnosable) else 0.0


def _overfitted(
    problem: Problem, runs: Runs, positions: list[int], metric: str
) -> np.ndarray:
    """Return which starts do far less on validation rows than on training rows."""
    held_out = metric.replace("training_", "validation_")
    if held_out == metric or held_out not in runs.metrics:
        return np.zeros(len(positions), dtype=bool)
    training, validation = (
        runs.metrics[name][positions] for name in (metric, held_out)
    )
    baseline = baseline_of(problem, metric)
    gained = baseline + GENERALIZED_SHARE * (training - baseline)
    limit = np.minimum(gained, training)
    below: np.ndarray = validation < limit - ROUNDING * np.abs(limit)
    return below


def _metric(runs: Runs) -> str:
    """Return the default metric to compare with the threshold."""
    return next((m for m in METRICS if m in runs.metrics), METRICS[0])


def _checked(
    runs: Runs,
    starts: Iterable[int] | None,
    metric: str,
    threshold: float | None,
    multiples: Sequence[int],
) -> tuple[np.ndarray, list[int]]:
    """Validate the arguments; return the starts and their positions in the runs."""
    place = {int(start): position for position, start in enumerate(runs.starts)}
    chosen = np.array(list(runs.starts if starts is None else starts), dtype=np.int64)
    unknown = [int(start) for start in chosen if int(start) not in place]
    complaints = Complaints()
    complaints.require(
        not unknown,
        f"starts {unknown[:3]} are not in these runs; give starts that are",
    )
    complaints.require(
        metric in runs.metrics,
        f"metric is {metric!r}; give one that the problem records: "
        f"{', '.join(runs.metrics) or 'it records none'}",
    )
    complaints.require(
        not has_direction(metric) or higher_is_better(metric),
        f"metric is {metric!r}, of which less is better; give one of which more is "
        "better, such as training_accuracy or training_r2",
    )
    complaints.require(
        not runs.interrupted, "the runs were interrupted; complete them first"
    )
    if threshold is not None:
        complaints.attempt(real_number, "threshold", threshold)
    complaints.require(bool(multiples), "multiples is empty; give at least one")
    for multiple in multiples:
        complaints.attempt(whole_number, "a multiple", multiple, 2)
    complaints.raise_any()
    return chosen, [place[int(start)] for start in chosen]


class _Place:
    """The diagnosed starts: their parameters at a point, and the evidence there."""

    def __init__(self, problem: Problem, starts: np.ndarray, width: int) -> None:
        self.problem, self.starts, self.width = problem, starts, width
        self.learned: tuple[str, ...] = ()

    def points(self, seed: int) -> Parameters:
        """Return the initial points, with the buffers of the problem."""
        if not len(self.starts):
            return {n: p[:0] for n, p in self._initial([0], seed).items()}
        first = torch.as_tensor(self.starts[:1], device=self.problem.device)
        if not self.problem.bind(first, seed).buffers():
            return self._initial(self.starts, seed)
        # A problem with buffers has those of one start at a time.
        points = [self._initial([start], seed) for start in self.starts]
        return {
            name: torch.cat([point[name] for point in points]) for name in points[0]
        }

    def _initial(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
        points = self.problem.points(starts, seed)
        self.learned = tuple(points)
        numbers = torch.as_tensor(np.asarray(starts), device=self.problem.device)
        return {**points, **self.problem.bind(numbers, seed).buffers()}

    def tensors(
        self,
        arrays: dict[str, np.ndarray],
        rows: Sequence[int] | np.ndarray,
        like: Parameters,
    ) -> Parameters:
        """Return the parameters at some rows, with the buffers of the problem."""
        return {
            name: torch.as_tensor(arrays[name][rows], device=self.problem.device)
            for name in like
            if name in arrays
        }

    def look(
        self,
        parameters: Parameters,
        curved: np.ndarray | None,
        rows: np.ndarray | None = None,
    ) -> Look:
        """Return the evidence of all starts; with `rows`, of these, NaN for others."""
        if rows is None:
            return look(self.problem, self.starts, parameters, self.width, curved)
        chosen = self.starts[rows]
        evidence = look(self.problem, chosen, parameters, self.width)
        return evidence.placed(np.flatnonzero(rows), len(self.starts))


def _doubling(limit: int) -> list[int]:
    """Return the steps 0, 1, 2, 4, ... below the limit, which are searched for explosions."""
    return [0, *(2**power for power in range(limit.bit_length()) if 2**power < limit)]


def _ratio(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return quotients, infinite or NaN where a divisor is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients: np.ndarray = values / others
    return quotients
