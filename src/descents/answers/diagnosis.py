"""Why a start fell short, from evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import torch

from descents.checks import (
    Complaints,
    InterruptedRunError,
    real_number,
    whole_number,
)
from descents.descent.loop import Stop, Watch, descend
from descents.descent.runs import Runs, Status
from descents.descent.steps import Step
from descents.problems.problem import (
    Parameters,
    Problem,
    flat,
    losses_and_gradients,
)

DEAD_SHARE = 0.5
"""Dead units: at least this share of the units gives nothing on every row."""
STATIONARY_RATIO = 1e-3
"""Stationary: the gradient norm is at most this times that at the initial point."""
STATIONARY_MOVE = 1e-8
"""... or, where a start begins at a stationary point, a gradient step of 1 / the largest
curvature would move it by at most this."""
VANISHED_RATIO = 1e-3
"""Vanished: the gradient norm at the end of the run is at most this times that at the
initial point, while the start still falls short."""
NEGATIVE_CURVATURE = -1e-6
"""Saddle: a Hessian eigenvalue is below this times the largest in magnitude."""


class Verdict(Enum):
    """Why a start fell short, in order of precedence; the value says the rule."""

    NONFINITE = "the loss became infinite or NaN"
    DEAD_UNITS = (
        "at the end of the run at least half of the hidden units give nothing on every "
        "row, and it does not recover with more steps"
    )
    PLATEAU = "it descends on with more steps, and recovers"
    SADDLE = (
        "stationary after the most steps, where the Hessian has a negative eigenvalue"
    )
    LOCAL_MINIMUM = (
        "stationary after the most steps, where the Hessian has no negative eigenvalue"
    )
    UNDECIDED = "no rule holds"

    @property
    def word(self) -> str:
        """The verdict as tables have it."""
        return {"NONFINITE": "non-finite"}.get(
            self.name, self.name.lower().replace("_", " ")
        )


@dataclass(frozen=True)
class Diagnosis:
    """Evidence and verdict for each start that fell short, F of them.

    Attributes
    ----------
    starts : int64 ndarray of shape (F,)
    verdicts : tuple of Verdict, length F
    gradient_norm : ndarray of shape (F,)
        At the end of the run that is diagnosed.
    gradient_ratio, final_gradient_ratio : ndarray of shape (F,)
        The gradient norm over that at the initial point: at the end of the run, and
        after the most steps.
    layer_shares : dict of ndarray of shape (F,)
        The share of each layer in the squared gradient norm.
    first_layer_ratio : ndarray of shape (F,)
        The gradient norm of the first layer over that at the initial point.
    dead_share : ndarray of shape (F,)
        The share of dead hidden units at the end of the run (0 where the problem has no
        units); `final_dead_share` after the most steps.
    smallest_eigenvalue, largest_eigenvalue : ndarray of shape (F,)
        Of the Hessian at the end of the run, the largest in magnitude; NaN where the
        start is non-finite. `final_smallest_eigenvalue` and `final_largest_eigenvalue`
        after the most steps.
    steps : tuple of int
        After how many steps `metric` was looked at: the run's own and its multiples.
    metric : ndarray of shape (len(steps), F)
    loss : ndarray of shape (len(steps), F)
    recovered : bool ndarray of shape (F,)
        Whether the metric reached the threshold at one of the multiples.
    """

    starts: np.ndarray
    verdicts: tuple[Verdict, ...]
    gradient_norm: np.ndarray
    gradient_ratio: np.ndarray
    final_gradient_ratio: np.ndarray
    layer_shares: dict[str, np.ndarray]
    first_layer_ratio: np.ndarray
    dead_share: np.ndarray
    final_dead_share: np.ndarray
    smallest_eigenvalue: np.ndarray
    largest_eigenvalue: np.ndarray
    final_smallest_eigenvalue: np.ndarray
    final_largest_eigenvalue: np.ndarray
    steps: tuple[int, ...]
    metric: np.ndarray
    loss: np.ndarray
    recovered: np.ndarray

    def counts(self) -> dict[str, int]:
        """Return how many starts have each verdict, all verdicts named."""
        return {verdict.word: self.verdicts.count(verdict) for verdict in Verdict}

    def table(self) -> dict[str, np.ndarray]:
        """Return a column for each fact, one row per diagnosed start."""
        columns = {
            name: getattr(self, name)
            for name in (
                "gradient_ratio",
                "final_gradient_ratio",
                "first_layer_ratio",
                "dead_share",
                "final_dead_share",
                "smallest_eigenvalue",
                "largest_eigenvalue",
                "final_smallest_eigenvalue",
                "final_largest_eigenvalue",
                "recovered",
            )
        }
        shares = {f"gradient_share_{n}": s for n, s in self.layer_shares.items()}
        later = {
            f"metric_after_{steps}": row
            for steps, row in zip(self.steps[1:], self.metric[1:], strict=True)
        }
        words = np.array([verdict.word for verdict in self.verdicts], dtype=object)
        return {"start": self.starts, "verdict": words, **columns, **shares, **later}


def hessians(
    problem: Problem, parameters: Parameters, starts: torch.Tensor, step: int = 0
) -> torch.Tensor:
    """Return the Hessian of each start's loss, exact by autograd, in float64.

    The gradient is differentiated entry by entry, all starts at once; parameters are
    flattened and joined in the order of the dict.

    Parameters
    ----------
    problem : Problem
    parameters : dict of Tensor, each of shape (S, ...)
    starts : int64 Tensor of shape (S,)
    step : int

    Returns
    -------
    Tensor of shape (S, P, P)

    Examples
    --------
    >>> saddle = Problem.from_losses(
    ...     lambda parameters, starts, step: (
    ...         parameters["x"][:, 0] ** 2 - 3 * parameters["x"][:, 1] ** 2
    ...     ),
    ...     lambda generator: {"x": generator.random(2)},
    ... )
    >>> hessians(saddle, {"x": torch.zeros(1, 2)}, torch.arange(1))
    tensor([[[ 2.,  0.],
             [ 0., -6.]]], dtype=torch.float64)
    """
    precise = problem.evaluation_dtype
    leaves = {n: p.detach().to(precise).requires_grad_() for n, p in parameters.items()}
    with torch.enable_grad():
        losses = problem.losses(leaves, starts, step)

        def gradient(values: torch.Tensor) -> torch.Tensor:
            """Return the gradient of the sum by all parameters, flat."""
            if not values.requires_grad:  # a loss that is linear in the parameters
                return torch.zeros_like(flat(leaves))
            entries = torch.autograd.grad(
                values.sum(),
                list(leaves.values()),
                create_graph=values is losses,
                retain_graph=True,
                materialize_grads=True,
            )
            return flat(dict(zip(leaves, entries, strict=True)))

        first = gradient(losses)
        rows = [gradient(entry) for entry in first.unbind(1)]
    return torch.stack(rows, 1).double().detach()


def diagnose(
    problem: Problem,
    runs: Runs,
    failed: Iterable[int],
    *,
    steps: Step,
    metric: str = "training_accuracy",
    threshold: float = 0.8,
    multiples: Sequence[int] = (10, 30),
    max_seconds: float | None = None,
    watch: Watch | None = None,
    threads: int = 1,
) -> Diagnosis:
    """Say of each start that fell short why it did.

    The starts are descended again, by the same rule, for multiples of the steps; where
    they end, and where the run ended, gradient, curvature and units are looked at. The
    first verdict of `Verdict` whose rule holds is given.

    Parameters
    ----------
    problem : Problem
    runs : Runs
        Of this problem, not interrupted.
    failed : iterable of int
        The numbers of the starts to diagnose, each in `runs`.
    steps : Step
        The rule that `runs` came from.
    metric : str
        The metric that says whether a start recovers: one that the problem records.
    threshold : float
        Recovered means at least this.
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
    >>> short = runs.starts[runs.metrics["training_accuracy"] < 0.8]
    >>> diagnose(network, runs, short, steps=rule, multiples=[100]).counts()["plateau"]
    3
    """
    chosen, positions = _checked(problem, runs, failed, metric, threshold, multiples)
    limit = int(runs.settings["stop"]["max_steps"])
    marks = (limit, *(limit * multiple for multiple in sorted(multiples)))
    width = int(runs.settings["width"])
    if not len(chosen):
        return _nothing(problem, marks, runs)
    longer = descend(
        problem,
        chosen,
        runs.settings["seed"],
        steps=steps,
        stop=Stop(marks[-1], max_seconds=max_seconds),
        record=marks,
        watch=watch,
        width=width,
        threads=threads,
    )
    if longer.interrupted:
        raise InterruptedRunError("stopped in the longer descents of the diagnosis")
    initial = problem.points(chosen, runs.settings["seed"])
    at_start = _Look(problem, chosen, initial, curvature=False, width=width)
    ends = {name: value[positions] for name, value in runs.parameters.items()}
    at_end = _Look(problem, chosen, _tensors(problem, ends), width=width)
    at_last = _Look(problem, chosen, _tensors(problem, longer.parameters), width=width)
    values, losses = longer.histories[metric], longer.histories["loss"]
    first = next(iter(at_start.layers))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = Diagnosis(
            starts=chosen,
            verdicts=(),
            gradient_norm=at_end.norm,
            gradient_ratio=at_end.norm / at_start.norm,
            final_gradient_ratio=at_last.norm / at_start.norm,
            layer_shares={
                name: np.square(norms / at_end.norm)
                for name, norms in at_end.layers.items()
            },
            first_layer_ratio=at_end.layers[first] / at_start.layers[first],
            dead_share=at_end.dead,
            final_dead_share=at_last.dead,
            smallest_eigenvalue=at_end.smallest,
            largest_eigenvalue=at_end.largest,
            final_smallest_eigenvalue=at_last.smallest,
            final_largest_eigenvalue=at_last.largest,
            steps=marks,
            metric=values,
            loss=losses,
            recovered=np.any(values[1:] >= threshold, axis=0),
        )
    nonfinite = np.array(
        [
            Status.NONFINITE in (runs.statuses[position], longer.statuses[row])
            for row, position in enumerate(positions)
        ]
    )
    stationary = at_last.norm <= np.fmax(
        STATIONARY_RATIO * at_start.norm, STATIONARY_MOVE * at_last.largest
    )
    return replace(found, verdicts=verdicts(found, nonfinite, stationary))


def verdicts(
    found: Diagnosis, nonfinite: np.ndarray, stationary: np.ndarray
) -> tuple[Verdict, ...]:
    """Return the verdict that the evidence of each start leads to.

    The one place where the rules stand, in the order of `Verdict`.

    Parameters
    ----------
    found : Diagnosis
        Its verdicts are not looked at.
    nonfinite, stationary : bool ndarray of shape (F,)
        Whether the start became non-finite; whether it is stationary after the most
        steps.
    """
    curved = found.final_smallest_eigenvalue < (
        NEGATIVE_CURVATURE * np.abs(found.final_largest_eigenvalue)
    )
    descends = (found.loss[1:] < found.loss[0]).any(0)
    dead = found.dead_share >= DEAD_SHARE
    rules = (
        (Verdict.NONFINITE, nonfinite),
        (Verdict.DEAD_UNITS, dead & ~found.recovered),
        (Verdict.PLATEAU, found.recovered & descends),
        (Verdict.SADDLE, stationary & curved),
        (Verdict.LOCAL_MINIMUM, stationary & ~curved),
    )
    return tuple(
        next((verdict for verdict, holds in rules if holds[row]), Verdict.UNDECIDED)
        for row in range(len(found.starts))
    )


def _checked(
    problem: Problem,
    runs: Runs,
    failed: Iterable[int],
    metric: str,
    threshold: float,
    multiples: Sequence[int],
) -> tuple[np.ndarray, list[int]]:
    """Return the numbers of the starts and their positions in the runs."""
    place = {int(start): position for position, start in enumerate(runs.starts)}
    chosen = np.array(list(failed), dtype=np.int64)
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
        not runs.interrupted, "the runs were interrupted; run them to their end first"
    )
    complaints.attempt(real_number, "threshold", threshold)
    complaints.require(bool(multiples), "multiples is empty; give one at least")
    for multiple in multiples:
        complaints.attempt(whole_number, "a multiple", multiple, 2)
    complaints.raise_any()
    return chosen, [place[int(start)] for start in chosen]


class _Look:
    """Gradient, units and curvature of some starts at some parameters, in float64."""

    def __init__(
        self,
        problem: Problem,
        numbers: np.ndarray,
        parameters: Parameters,
        *,
        width: int,
        curvature: bool = True,
    ) -> None:
        parts = []
        for first in range(0, len(numbers), width):
            chosen = slice(first, first + width)
            part = {
                n: p[chosen].to(problem.evaluation_dtype) for n, p in parameters.items()
            }
            starts = torch.as_tensor(numbers[chosen], device=problem.device)
            parts.append(_look(problem, starts, part, curvature))
        self.layers = {
            name: np.concatenate([part["layers"][name] for part in parts])
            for name in parts[0]["layers"]
        }
        self.norm = np.sqrt(sum(np.square(norms) for norms in self.layers.values()))
        self.dead = np.concatenate([part["dead"] for part in parts])
        self.smallest = np.concatenate([part["smallest"] for part in parts])
        self.largest = np.concatenate([part["largest"] for part in parts])


def _look(
    problem: Problem, starts: torch.Tensor, parameters: Parameters, curvature: bool
) -> dict[str, Any]:
    _, gradients = losses_and_gradients(problem, parameters, starts, 0)
    layers = {
        layer: flat({name: gradients[name] for name in names}).norm(dim=1).cpu().numpy()
        for layer, names in problem.layers(parameters).items()
    }
    with torch.no_grad():
        dead = problem.dead_units(parameters, starts).double()
    share = dead.mean(1) if dead.shape[1] else dead.sum(1)
    smallest = np.full(len(starts), np.nan)
    largest = np.full(len(starts), np.nan)
    if curvature:
        matrices = hessians(problem, parameters, starts).cpu().numpy()
        sound = np.isfinite(matrices).all((1, 2))
        if sound.any():
            symmetric = (matrices + matrices.transpose(0, 2, 1))[sound] / 2
            values = np.linalg.eigvalsh(symmetric)
            smallest[sound] = values[:, 0]
            largest[sound] = np.abs(values).max(1)
    return {
        "layers": layers,
        "dead": share.cpu().numpy(),
        "smallest": smallest,
        "largest": largest,
    }


def _tensors(problem: Problem, arrays: dict[str, np.ndarray]) -> Parameters:
    return {
        name: torch.as_tensor(value, device=problem.device)
        for name, value in arrays.items()
    }


def _nothing(problem: Problem, marks: tuple[int, ...], runs: Runs) -> Diagnosis:
    """Return the diagnosis of no start at all."""
    names = problem.layers(_tensors(problem, runs.parameters))
    none = np.zeros(0)
    empty = np.zeros((len(marks), 0))
    return Diagnosis(
        np.zeros(0, np.int64), (), none, none, none, {name: none for name in names}, none,
        none, none, none, none, none, none, marks, empty, empty, np.zeros(0, bool),
    )  # fmt: skip
