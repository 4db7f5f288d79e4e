"""Diagnose why a start did not reach the level of the best starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from descents.diagnosis.evidence import Look, look, norms
from descents.diagnosis.verdicts import (
    Diagnosis,
    quotients,
    stationary,
    verdicts,
)
from descents.errors import Complaints, InterruptedRunError, InvalidValueError
from descents.optim.abilities import Diagnosable
from descents.optim.chunk import Watch
from descents.optim.loop import descend
from descents.optim.problem import Parameters, Problem
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

ROUNDING = 1e-12
"""A share of a count of rows that equals a threshold may be below it by rounding."""


METRICS = ("training_accuracy", "training_r2")
"""The default metrics that are compared with the threshold, in order of preference."""

EARLY = (Status.STOPPED, Status.STALLED)
"""Statuses of starts that a rule stopped before the limit of steps."""


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
    # Starts with an undefined metric count as having reached the threshold.
    reached = ~(runs.metrics[metric][positions].astype(np.float64) < threshold)
    reached &= ~_ends(runs, positions)[0]
    longer = None
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
    place = _Place(problem, runs, chosen, positions)
    evidence = _evidence(place, metric, threshold, marks, reached, longer)
    return replace(evidence, verdicts=verdicts(evidence))


def _evidence(
    place: _Place,
    metric: str,
    threshold: float,
    marks: tuple[int, ...],
    reached: np.ndarray,
    longer: Runs | None,
) -> Diagnosis:
    """Return the evidence of the starts, without verdicts.

    Parameters
    ----------
    longer : Runs or None
        The longer descents of the starts that have not `reached` the threshold.
    """
    runs, positions, count = place.runs, place.positions, len(place.starts)
    nonfinite, early = _ends(runs, positions)
    begun = place.points(runs.settings["seed"])
    ended = place.tensors(runs.parameters, positions, begun)
    latest = ended
    metrics, losses = np.full((2, len(marks), count), np.nan)
    metrics[0], losses[0] = runs.metrics[metric][positions], runs.losses[positions]
    growth, size = np.full((2, count), np.nan)
    if longer is not None:
        # The first row stays that of the run, which may have returned an earlier step.
        rows = np.searchsorted(longer.recorded, marks[1:])
        metrics[1:, ~reached] = longer.histories[metric][rows]
        losses[1:, ~reached] = longer.histories["loss"][rows]
        taken = runs.steps_taken[positions][~reached]
        growth[~reached] = _growth(longer, taken, early[~reached])
        latest = place.tensors(longer.parameters, np.arange(len(longer)), begun)
        size[~reached] = norms(place.without_buffers(latest))
    last = place.look(latest, curved=None, rows=~reached)
    return Diagnosis(
        starts=place.starts,
        verdicts=(),
        threshold=threshold,
        initial=place.look(begun, curved=np.zeros_like(reached)),
        end=place.look(ended, curved=~reached),
        last=last,
        distance=place.distance(begun, ended),
        growth=growth,
        steps=marks,
        metric=metrics,
        loss=losses,
        reached=reached,
        recovered=~reached & np.any(metrics[1:] >= threshold, axis=0),
        nonfinite=nonfinite,
        size=size,
        stationary=stationary(last, losses),
        overfitted=_overfitted(place.problem, runs, positions, metric),
        ended_early=early,
    )


def _ends(runs: Runs, positions: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return which starts became non-finite, and which a rule stopped early."""
    statuses = [runs.statuses[position] for position in positions]
    nonfinite = np.array([status is Status.NONFINITE for status in statuses], bool)
    nonfinite |= ~np.isfinite(runs.losses[positions])
    return nonfinite, np.array([status in EARLY for status in statuses], bool)


def _longer(
    problem: Problem,
    runs: Runs,
    starts: np.ndarray,
    metric: str,
    marks: Sequence[int],
    *,
    steps: UpdateRule,
    max_seconds: float | None,
    watch: Watch | None,
    threads: int | None,
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
        steps=steps,
        watch=watch,
        threads=threads,
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
    growth = quotients(within.max(0), history[0])
    overflowed = np.array([s is Status.NONFINITE for s in longer.statuses], bool)
    growth[overflowed & ~early] = np.inf
    return growth


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

    def __init__(
        self, problem: Problem, runs: Runs, starts: np.ndarray, positions: list[int]
    ) -> None:
        self.problem, self.runs = problem, runs
        self.starts, self.positions = starts, positions
        self.width = int(runs.settings["width"])
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

    def without_buffers(self, parameters: Parameters) -> Parameters:
        """Return the parameters that are learned by descent."""
        return {name: parameters[name] for name in self.learned}

    def distance(self, begun: Parameters, ended: Parameters) -> np.ndarray:
        """Return the distance between two points, over the norm of the first."""
        first, second = self.without_buffers(begun), self.without_buffers(ended)
        moved = {name: second[name].double() - first[name].double() for name in first}
        return quotients(norms(moved), norms(first))

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
