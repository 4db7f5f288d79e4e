"""The evidence of diagnosed starts, and the rules that turn it into verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from descents.diagnosis.evidence import Look
from descents.text import OneLine

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


HEALTHY = (Verdict.OVERFITTED, Verdict.CONVERGED)
"""Verdicts of starts that reach the threshold."""


@dataclass(frozen=True)
class Diagnosis(OneLine):
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
        return quotients(self.end.gradient_norm, self.initial.gradient_norm)

    @property
    def final_gradient_ratio(self) -> np.ndarray:
        """The gradient norm after the most steps over that at the initial point."""
        return quotients(self.last.gradient_norm, self.initial.gradient_norm)

    @property
    def layer_shares(self) -> dict[str, np.ndarray]:
        """The share of each layer in the squared gradient norm at the end of the run."""
        return {
            name: np.square(quotients(layer, self.end.gradient_norm))
            for name, layer in self.end.layers.items()
        }

    @property
    def first_layer_ratio(self) -> np.ndarray:
        """The gradient norm of the first layer over that at the initial point."""
        return quotients(self.end.first_layer, self.initial.first_layer)

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
    explained = RESIDUAL_CURVATURE * quotients(last.gradient_norm, evidence.size)
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


def stationary(last: Look, losses: np.ndarray) -> np.ndarray:
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


def quotients(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return quotients, infinite or NaN where a divisor is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients: np.ndarray = values / others
    return quotients
