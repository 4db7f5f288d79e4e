"""Why a start fell short, from evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import torch

from descents.answers.evidence import Look, look, norms
from descents.checks import (
    Complaints,
    InterruptedRunError,
    InvalidValueError,
    real_number,
    whole_number,
)
from descents.descent.chunk import Watch
from descents.descent.loop import descend
from descents.descent.runs import Runs, Status
from descents.descent.stopping import Stop
from descents.problems.metrics import has_direction, higher_is_better
from descents.problems.problem import Diagnosable, Parameters, Problem
from descents.problems.rules import UpdateRule

REACHED_SHARE = 0.8
"""Reached: the metric is at least the baseline plus this share of what the best start
gains over it, and above the baseline."""
GENERALIZED_SHARE = 0.8
"""Overfitted: the validation metric is below the baseline plus this share of what the
training metric of the same start gains over it."""
EXPLODED_RATIO = 100.0
"""Exploded: at some step of the run the loss is at least this times the initial one, ..."""
RISEN_RATIO = 2.0
"""... or at least this times, and the gradient norm at the end `EXPLODED_RATIO` times."""
DEAD_SHARE = 0.5
"""Dead units: at least this share of the units gives nothing on every row."""
SATURATED_SHARE = 0.5
"""Saturated: at least this share of the units is saturated on every row."""
LAYER_RATIO = 1e-3
"""Vanishing: the gradient norm of the first layer is at most this times the last's."""
FLAT_CURVATURE = -1e-2
"""... while no Hessian eigenvalue is below this times the largest in magnitude: where
one is, there is a way out, along which the gradient grows: a saddle."""
STATIONARY_GAIN = 1e-6
"""Stationary: a gradient step of 1 / the largest curvature gains at most this times the
loss, ..."""
SETTLED_GAIN = 1e-2
"""... or at most this, ..."""
SETTLED_FALL = 0.05
"""... where the loss also fell by at most this times itself since the last but one look.
Steps of one size keep jumping around a point: what they leave is no sign of a way down,
and differs between starts that are at one loss."""
STATIONARY_MOVE = 1e-8
"""... or such a step would move the start by at most this."""
VANISHED_RATIO = 1e-3
"""Vanished: the gradient norm at the end of the run is at most this times that at the
initial point, while the start still falls short."""
NEGATIVE_CURVATURE = -1e-6
"""Saddle: a Hessian eigenvalue is below this times the largest in magnitude, ..."""
RESIDUAL_CURVATURE = 10.0
"""... and its magnitude is more than this times the gradient norm over the norm of the
parameters. A gradient that is left makes curvature of its own size of either sign, in
products of weights among others; that of a saddle stays where the gradient vanishes."""
SURE_RESIDUAL = 1e-3
"""Local minimum: the eigenvalues are known to this times the largest in magnitude."""

HAIR = 1e-12
"""A share of a count of rows that equals a threshold may be below it by rounding."""


class Verdict(Enum):
    """Why a start fell short, in order of precedence; the value says the rule.

    What overflowed comes first, then what blew up on the way: whatever is seen of such
    a start later, units that died or saturated among it, is of its explosion. Dead and
    saturated units stand before the vanishing gradient because they cause one: what a
    unit does not pass on, the layers before it do not get. These four are about what
    more steps do not mend, so they leave to the plateau what recovers, and they stand
    before saddle and minimum, which say only that nothing moves, not why. A start that
    was ended before the limit of steps has its own verdict in the place of these three,
    which are about what more steps do: it did not take them. The last
    three are for starts that reach what the best reach, and for what no rule explains.
    """

    NONFINITE = "the loss became infinite or NaN"
    EXPLODING = (
        "the loss grew to 100 times its initial value or more, or overflows with more "
        "steps; or it grew to twice, and the gradient to 100 times its own"
    )
    DEAD_UNITS = (
        "at the end of the run at least half of the hidden units give nothing on every "
        "row, or some do and no gradient reaches the first layer, and it does not "
        "recover with more steps"
    )
    SATURATED = (
        "at the end of the run at least half of the hidden units are saturated on every "
        "row, or some are and no gradient reaches the first layer, and it does not "
        "recover with more steps"
    )
    VANISHING_GRADIENT = (
        "the gradient of the first layer is at most a thousandth of the last's, and "
        "with more steps it does not recover and finds no curvature that leads away"
    )
    ENDED_EARLY = (
        "it was ended before the limit of steps, by early stopping or as its training loss "
        "no longer fell, and falls short where it was ended"
    )
    PLATEAU = "it descends on with more steps, and recovers"
    SADDLE = (
        "stationary after the most steps, where the Hessian has a negative eigenvalue "
        "beyond what is left of the gradient"
    )
    LOCAL_MINIMUM = (
        "stationary after the most steps, where the Hessian has no negative eigenvalue "
        "beyond what is left of the gradient"
    )
    OVERFITTED = (
        "it reaches what the best reach on its training rows, and far less on its "
        "validation rows"
    )
    CONVERGED = "it reaches what the best reach"
    UNDECIDED = "no rule holds"

    @property
    def word(self) -> str:
        """The verdict as tables have it."""
        return {"NONFINITE": "non-finite"}.get(
            self.name, self.name.lower().replace("_", " ")
        )


METRICS = ("training_accuracy", "training_r2")
"""What says whether a start falls short, where nothing else is asked for."""

EARLY = (Status.STOPPED, Status.STALLED)
"""Statuses of starts that a rule ended before the limit of steps."""

HEALTHY = (Verdict.OVERFITTED, Verdict.CONVERGED)
"""Verdicts of starts that do not fall short."""


@dataclass(frozen=True)
class Diagnosis:
    """Evidence and verdict for each start that is diagnosed, F of them.

    What takes longer descents or curvature is looked at for starts below the threshold
    only, and is NaN for the others. Of a stochastic problem, all is of the whole.

    Attributes
    ----------
    starts : int64 ndarray of shape (F,)
    verdicts : tuple of Verdict, length F
    threshold : float
        The least metric of a start that does not fall short.
    initial, end, last : Look
        Gradient, units and curvature at the initial point (there without curvature), at
        the end of the run that is diagnosed, and after the most steps.
    distance : ndarray of shape (F,)
        From the initial point to the end of the run, over the norm of the initial point.
    growth : ndarray of shape (F,)
        The largest loss seen in the run, over the initial loss; infinite where it
        overflows, in the run or with more steps.
    steps : tuple of int
        After how many steps `metric` was looked at: the run's own and its multiples.
    metric : ndarray of shape (len(steps), F)
        First of what the run returned, then of longer descents without early stopping.
    loss : ndarray of shape (len(steps), F)
    size : ndarray of shape (F,)
        The norm of the parameters after the most steps.
    reached, recovered : bool ndarray of shape (F,)
        Whether the metric is at the threshold at the end of the run; whether one that
        fell short was there at one of the multiples.
    nonfinite, stationary, overfitted, ended_early : bool ndarray of shape (F,)
        Whether the start became non-finite; whether, after the most steps, a gradient
        step can gain next to nothing of the loss; whether the validation metric is far below the training metric;
        whether a rule ended the start before the limit of steps.
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
        """The same after the most steps."""
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
        """The same after the most steps."""
        return self.last.dead_share

    @property
    def smallest_eigenvalue(self) -> np.ndarray:
        """The smallest eigenvalue of the Hessian at the end of the run."""
        return self.end.smallest_eigenvalue

    @property
    def largest_eigenvalue(self) -> np.ndarray:
        """The largest in magnitude."""
        return self.end.largest_eigenvalue

    @property
    def failed(self) -> np.ndarray:
        """Which starts have a verdict of those that fall short, bool of shape (F,)."""
        return np.array([v not in HEALTHY for v in self.verdicts], dtype=bool)

    def counts(self) -> dict[str, int]:
        """Return how many starts have each verdict, all verdicts named."""
        return {verdict.word: self.verdicts.count(verdict) for verdict in Verdict}

    def table(self) -> dict[str, np.ndarray]:
        """Return a column for each fact, one row per diagnosed start."""
        words = np.array([verdict.word for verdict in self.verdicts], dtype=object)
        layers = {
            f"{when}gradient_of_{name}": values
            for when, seen in (("initial_", self.initial), ("", self.end))
            for name, values in seen.layers.items()
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
    """Return the least metric of a start that reaches what the best of the runs reach.

    That is ``baseline + REACHED_SHARE * (best - baseline)``, with the best of the starts
    whose loss is finite, and the baseline that of the problem: what is got without
    learning. It is always above the baseline.

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
    share -= HAIR * abs(share)
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
    """Say of each start how it ended: why it fell short, or that it did not.

    Starts below the threshold are descended again, by the same rule, for multiples of
    the steps; where they end, and where the run ended, gradient, curvature and units
    are looked at. The first verdict of `Verdict` whose rule holds is given.

    Parameters
    ----------
    problem : Problem
    runs : Runs
        Of this problem, not interrupted.
    starts : iterable of int, optional
        The numbers of the starts to diagnose, each in `runs`; by default all.
    steps : UpdateRule
        The rule that `runs` came from.
    metric : str, optional
        The metric, higher for better, that says whether a start falls short: one that
        the problem records; by default ``training_accuracy`` or ``training_r2``.
    threshold : float, optional
        A start falls short below this; by default, `reached_by_the_best`.
    multiples : sequence of int
        How many times the steps of the run are tried, each above 1.
    max_seconds : float, optional
        A budget of wall time for the longer descents.
    watch, threads
        As in `descend`.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InvalidValueError
        When a start is not in the runs, a multiple is not above 1, or the problem does
        not record the metric.
    InterruptedRunError
        When the longer descents were interrupted: evidence cut short decides nothing.

    Examples
    --------
    >>> from descents import Network, descend, GradientDescent, Stop
    >>> network = Network([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], hidden=[4])
    >>> rule = GradientDescent(0.05)
    >>> runs = descend(network, 3, steps=rule, stop=Stop(5))
    >>> found = diagnose(network, runs, steps=rule, threshold=0.8, multiples=[100])
    >>> found.counts()["plateau"]
    3
    """
    metric = _metric(runs) if metric is None else metric
    chosen, positions = _checked(runs, starts, metric, threshold, multiples)
    if threshold is None:
        threshold = reached_by_the_best(problem, runs, metric)
    limit = int(runs.settings["stop"]["max_steps"])
    marks = (limit, *(limit * multiple for multiple in sorted(multiples)))
    seed, width = runs.settings["seed"], int(runs.settings["width"])
    place = _Place(problem, chosen, width)
    # The first chunks of a descent may be narrower; the longer one has the same chunks.
    uniform = len(runs.settings.get("edges", (0,))) == 1
    nonfinite = np.array(
        [runs.statuses[p] is Status.NONFINITE for p in positions], bool
    )
    nonfinite |= ~np.isfinite(runs.losses[positions])
    early = np.array([runs.statuses[p] in EARLY for p in positions], bool)
    values = runs.metrics[metric][positions].astype(np.float64)
    # Of a start whose metric is not defined, nothing says that it falls short.
    reached = ~(values < threshold) & ~nonfinite
    begun = place.points(seed)
    ended = place.tensors(runs.parameters, positions, begun)
    metrics, losses = np.full((2, len(marks), len(chosen)), np.nan)
    metrics[0], losses[0] = values, runs.losses[positions]
    growth = np.full(len(chosen), np.nan)
    size = np.full(len(chosen), np.nan)
    latest = ended
    if not reached.all():
        longer = descend(
            problem,
            chosen[~reached],
            seed,
            steps=steps,
            stop=Stop(marks[-1], max_seconds=max_seconds),
            record={*_doubling(limit), *marks},
            watch=watch,
            width=width if uniform else None,
            threads=threads,
        )
        if longer.interrupted:
            raise InterruptedRunError("stopped in the longer descents of the diagnosis")
        if metric not in longer.histories:
            raise InvalidValueError(
                f"metric is {metric!r}, which is computed at the end only; give one that "
                f"has a history: {', '.join(longer.histories)}"
            )
        history = longer.histories["loss"]
        # The first row stays that of the run: it may have kept an earlier step.
        rows = np.searchsorted(longer.recorded, marks[1:])
        metrics[1:, ~reached] = longer.histories[metric][rows]
        losses[1:, ~reached] = history[rows]
        # Only steps that the run took tell how its loss grew.
        taken = runs.steps_taken[positions][~reached]
        within = np.where(longer.recorded[:, None] <= taken, history, -np.inf)
        growth[~reached] = _ratio(within.max(0), history[0])
        burst = np.array([s is Status.NONFINITE for s in longer.statuses], bool)
        burst &= ~early[~reached]
        growth[np.flatnonzero(~reached)[burst]] = np.inf
        latest = place.tensors(longer.parameters, np.arange(len(longer)), begun)
        size[~reached] = norms({name: latest[name] for name in place.learned})
    initial = place.look(begun, curved=np.zeros_like(reached))
    end = place.look(ended, curved=~reached)
    last = place.look(latest, curved=None, rows=~reached)
    begun, ended = ({n: p[n] for n in place.learned} for p in (begun, ended))
    moved = {name: ended[name].double() - begun[name].double() for name in begun}
    found = Diagnosis(
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
    return replace(found, verdicts=verdicts(found))


def verdicts(found: Diagnosis) -> tuple[Verdict, ...]:
    """Return the verdict that the evidence of each start leads to.

    The one place where the rules stand, in the order of `Verdict`.

    Parameters
    ----------
    found : Diagnosis
        Its verdicts are not looked at.
    """
    initial, end, last = found.initial, found.end, found.last
    short = ~found.reached
    lasting = short & ~found.recovered
    exploded = found.growth >= EXPLODED_RATIO
    exploded |= (found.growth >= RISEN_RATIO) & (found.gradient_ratio >= EXPLODED_RATIO)
    cut_off = end.first_layer == 0
    dead = (end.dead_share >= DEAD_SHARE) | (cut_off & (end.dead_share > 0))
    saturated = end.saturated_share >= SATURATED_SHARE
    saturated |= cut_off & (end.saturated_share > 0)
    curved = last.smallest_eigenvalue < NEGATIVE_CURVATURE * last.largest_eigenvalue
    left = RESIDUAL_CURVATURE * _ratio(last.gradient_norm, found.size)
    rounding = last.gradient_norm <= STATIONARY_MOVE * last.largest_eigenvalue
    curved &= rounding | ~(np.abs(last.smallest_eigenvalue) <= left)
    sure = last.eigenvalue_residual <= SURE_RESIDUAL * last.largest_eigenvalue
    with np.errstate(invalid="ignore"):
        descends = (found.loss[1:] < found.loss[0]).any(0)
    rules = (
        (Verdict.NONFINITE, found.nonfinite),
        (Verdict.EXPLODING, short & exploded),
        (Verdict.DEAD_UNITS, lasting & dead),
        (Verdict.SATURATED, lasting & saturated),
        (Verdict.VANISHING_GRADIENT, lasting & _vanishing(initial, end, last)),
        (Verdict.ENDED_EARLY, short & found.ended_early),
        (Verdict.PLATEAU, found.recovered & descends),
        (Verdict.SADDLE, short & found.stationary & curved),
        (Verdict.LOCAL_MINIMUM, short & found.stationary & ~curved & sure),
        (Verdict.OVERFITTED, found.reached & found.overfitted),
        (Verdict.CONVERGED, found.reached),
    )
    return tuple(
        next((verdict for verdict, holds in rules if holds[row]), Verdict.UNDECIDED)
        for row in range(len(found.starts))
    )


def _stationary(last: Look, losses: np.ndarray) -> np.ndarray:
    """Return where a gradient step can gain next to nothing, after the most steps."""
    slope, curvature = last.gradient_norm, last.largest_eigenvalue
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        gain = np.where(slope > 0, np.square(slope) / (2 * curvature), 0.0)
        scale = np.abs(losses[-1])
        settled = losses[-2] - losses[-1] <= SETTLED_FALL * scale
        found: np.ndarray = gain <= STATIONARY_GAIN * scale
        found |= settled & (gain <= SETTLED_GAIN * scale)
        found |= slope <= STATIONARY_MOVE * curvature
    return found & np.isfinite(slope)


def _vanishing(initial: Look, end: Look, last: Look) -> np.ndarray:
    """Return where the first layer gets far less gradient than the last.

    From the initial point on, or since: then it must also have shrunk. What moves no
    parameter is rounding, and no gradient; one that is exactly 0 is cut off.
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
    found: np.ndarray = (early | late) & flat
    return found


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
    below: np.ndarray = validation < limit - HAIR * np.abs(limit)
    return below


def _metric(runs: Runs) -> str:
    """Return the metric that says whether a start falls short."""
    return next((m for m in METRICS if m in runs.metrics), METRICS[0])


def _checked(
    runs: Runs,
    starts: Iterable[int] | None,
    metric: str,
    threshold: float | None,
    multiples: Sequence[int],
) -> tuple[np.ndarray, list[int]]:
    """Return the numbers of the starts and their positions in the runs."""
    place = {int(start): position for position, start in enumerate(runs.starts)}
    chosen = np.array(list(runs.starts if starts is None else starts), dtype=np.int64)
    strangers = [int(start) for start in chosen if int(start) not in place]
    complaints = Complaints()
    complaints.require(
        not strangers,
        f"starts {strangers[:3]} are not in these runs; give some that are",
    )
    complaints.require(
        metric in runs.metrics,
        f"metric is {metric!r}; give one that the problem records: "
        f"{', '.join(runs.metrics) or 'it records none'}",
    )
    complaints.require(
        not has_direction(metric) or higher_is_better(metric),
        f"metric is {metric!r}, of which less is better; give one of which more is, such "
        "as training_accuracy or training_r2",
    )
    complaints.require(
        not runs.interrupted, "the runs were interrupted; run them to their end first"
    )
    if threshold is not None:
        complaints.attempt(real_number, "threshold", threshold)
    complaints.require(bool(multiples), "multiples is empty; give one at least")
    for multiple in multiples:
        complaints.attempt(whole_number, "a multiple", multiple, 2)
    complaints.raise_any()
    return chosen, [place[int(start)] for start in chosen]


class _Place:
    """The starts that are diagnosed: where they are, and what is seen of them there."""

    def __init__(self, problem: Problem, starts: np.ndarray, width: int) -> None:
        self.problem, self.starts, self.width = problem, starts, width
        self.learned: tuple[str, ...] = ()

    def points(self, seed: int) -> Parameters:
        """Return the initial points, with what the problem remembers beside them."""
        if not len(self.starts):
            return {n: p[:0] for n, p in self._begun([0], seed).items()}
        first = torch.as_tensor(self.starts[:1], device=self.problem.device)
        if not self.problem.bind(first, seed).buffers():
            return self._begun(self.starts, seed)
        # What is remembered is of one start at a time.
        each = [self._begun([start], seed) for start in self.starts]
        return {name: torch.cat([one[name] for one in each]) for name in each[0]}

    def _begun(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
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
        """Return the parameters at some rows, with what is remembered beside them."""
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
        """Look at all starts; or at some rows, with their curvature, and NaN else."""
        if rows is None:
            return look(self.problem, self.starts, parameters, self.width, curved)
        chosen = self.starts[rows]
        found = look(self.problem, chosen, parameters, self.width)
        return found.placed(np.flatnonzero(rows), len(self.starts))


def _doubling(limit: int) -> list[int]:
    """Return 0, 1, 2, 4, 8, ... below the limit: where explosions are looked for."""
    return [0, *(2**power for power in range(limit.bit_length()) if 2**power < limit)]


def _ratio(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return quotients, infinite or NaN where a divisor is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = values / others
    return found
