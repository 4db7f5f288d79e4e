"""Fit a network from many starts: `fit`, and several settings in shared batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from descents.errors import InterruptedRunError, called, for_caller
from descents.networks.class_weights import weights_of_classes
from descents.networks.fitted import Fitted
from descents.networks.network import Network
from descents.networks.rows import LabeledRows
from descents.networks.settings import SHARED, Settings, optimizer_named
from descents.networks.supervised import Supervised
from descents.optim.control import RunControl
from descents.optim.loop import descend, described
from descents.optim.rules import UpdateRule
from descents.optim.runs import Runs
from descents.optim.spans import Shard
from descents.optim.workers import Store


@dataclass(frozen=True)
class Job:
    """One setting to be trained, and how it is run.

    Attributes
    ----------
    settings : Settings
    control : RunControl
        Its ``record`` and its time limit are those of the whole call.
    threads : int or None
        How many chunks of starts run in parallel threads.
    store : Store or None
        Where finished chunks are saved.
    """

    settings: Settings
    control: RunControl = field(default_factory=RunControl)
    threads: int | None = None
    store: Store | None = None


def fit(
    rows: LabeledRows, settings: Settings, control: RunControl | None = None
) -> Fitted:
    """Train a network from many starts.

    Parameters
    ----------
    rows : LabeledRows
        See `labeled_rows`.
    settings : Settings
    control : RunControl, optional
        ``record`` counts epochs.

    Returns
    -------
    Fitted
        Of the starts that failed or were interrupted, too; see its ``runs``.

    Raises
    ------
    InvalidValueError
        If the settings do not fit the rows.

    Examples
    --------
    >>> from descents.networks import fit, labeled_rows, Settings
    >>> rows = labeled_rows([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"])
    >>> settings = Settings.of(n_starts=3, learning_rate=0.05, random_state=0)
    >>> fit(rows, settings).values("training_accuracy")
    array([1., 1., 1.])
    """
    job = Job(settings, control or RunControl())
    return _trained(_problem(rows, [settings]), rows, [job])[0]


def fit_all(rows: LabeledRows, jobs: Sequence[Job]) -> list[Fitted]:
    """Train several settings, in shared batches if possible.

    Each learns what it would learn alone, up to rounding. In a shared batch, the control
    of the first job counts.

    Raises
    ------
    InvalidValueError
        If the settings do not fit the rows.
    InterruptedRunError
        If the time limit was reached, or the user interrupted.
    """
    fits: dict[int, Fitted] = {}
    for places, problem, own in _in_turn(rows, jobs):
        fitted = _trained(problem, rows, own)
        for one in fitted:
            _check_whole(one.runs)
        fits |= dict(zip(places, fitted, strict=True))
    return [fits[place] for place in range(len(jobs))]


def train_shard(rows: LabeledRows, jobs: Sequence[Job], shard: Shard) -> None:
    """Train the starts of a shard in every setting, and leave them in the stores of the jobs.

    `fit_all` with the same jobs then finds these starts in the stores.

    Raises
    ------
    InvalidValueError
        If the settings do not fit the rows.
    InterruptedRunError
        If the time limit was reached, or the user interrupted.
    """
    for _, problem, own in _in_turn(rows, jobs):
        runs = _descended(problem, own, shard)
        if runs is not None:
            _check_whole(runs)


def _in_turn(
    rows: LabeledRows, jobs: Sequence[Job]
) -> Iterator[tuple[list[int], Network, list[Job]]]:
    """Yield each problem with its jobs and their places; these have the time that is left.

    Settings that differ only as `SHARED` says share a problem, unless one of them fills a
    batch.
    """
    begun = time.monotonic()
    for group in batched([job.settings for job in jobs]):
        problem = _problem(rows, [jobs[place].settings for place in group])
        starts = jobs[group[0]].settings.n_starts * len(problem.batches.splits)
        parts = [(group, problem)]
        if len(group) > 1 and starts >= problem.width:
            parts = [([j], problem.of_setting(k)) for k, j in enumerate(group)]
        for places, part in parts:
            spent = time.monotonic() - begun
            yield places, part, [_later(jobs[place], spent) for place in places]


def _check_whole(runs: Runs) -> None:
    """Raise an error if starts were interrupted."""
    if runs.interrupted:
        raise InterruptedRunError("training was interrupted")


def batched(settings: Sequence[Settings]) -> list[list[int]]:
    """Group the indices of settings that can be trained in one batch.

    Settings of a group differ only in what `SHARED` names.

    Examples
    --------
    >>> settings = [
    ...     Settings.of(learning_rate=rate, optimizer=name, random_state=0)
    ...     for rate in (1, 2) for name in ("gd", "adam")
    ... ]
    >>> batched(settings)
    [[0, 2], [1, 3]]
    """
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(settings):
        rest = {name: v for name, v in vars(one).items() if name not in SHARED}
        if one.optimizer == "adamw":  # the update rule has one decay for all starts
            rest["weight_decay"] = one.weight_decay
        rest["drops"] = bool(one.dropout)
        groups.setdefault(repr(sorted(rest.items())), []).append(place)
    return list(groups.values())


def descend_network(
    problem: Supervised,
    starts: int | np.ndarray,
    settings: Settings,
    rule: UpdateRule,
    job: Job | None = None,
) -> Runs:
    """Train starts of a problem, with limits and records counted in epochs."""
    job = job or Job(settings)
    epoch, control = problem.batches.steps_in_epoch, job.control
    record = control.record or ()
    return descend(
        problem,
        starts,
        settings.random_state,
        steps=rule,
        stop=settings.stop(epoch, control.seconds),
        record=[epoch * n for n in record if n <= settings.max_epochs],
        watch=control.watch,
        threads=job.threads,
        workers=control.workers,
        store=job.store,
    )


def _later(job: Job, spent: float) -> Job:
    """Return a job with the time that is left of its limit."""
    seconds = job.control.seconds
    if seconds is None:
        return job
    return replace(job, control=replace(job.control, seconds=max(0.0, seconds - spent)))


def _problem(rows: LabeledRows, settings: Sequence[Settings]) -> Network:
    """Return the problem of the settings that share a batch."""
    first, class_weights, splits = settings[0], None, None
    if rows.classes is not None:
        class_weights = weights_of_classes(
            first.class_weight, rows.classes, rows.y, rows.weights
        )
    if first.validation is not None:
        groups = rows.y if first.classifies else np.zeros(len(rows.y))
        splits = first.validation.splits(groups, first.random_state)
    coupled = first.optimizer != "adamw"
    with called(
        row_weights=for_caller("--weights", "sample_weight"),
        class_weights=for_caller("--class-weight", "class_weight"),
    ):
        return Network(
            rows.X,
            rows.y,
            first.hidden_layer_sizes,
            task=first.task,
            outputs=None if rows.classes is None else len(rows.classes),
            activation=first.activation,
            weights=tuple(one.initialization for one in settings),
            splits=splits,
            crossed=True,
            row_weights=rows.weights,
            class_weights=class_weights,
            batch_size=first.batch_size,
            dropout=tuple(one.dropout for one in settings),
            weight_decay=tuple(
                one.weight_decay if coupled else 0.0 for one in settings
            ),
            settings=len(settings),
            seed=first.random_state,
            device=first.device,
        )


def _descended(
    problem: Network, jobs: Sequence[Job], shard: Shard | None = None
) -> Runs | None:
    """Train the starts of a problem that has one setting per job, or those of a shard.

    Returns
    -------
    Runs or None
        None if the shard has no start.
    """
    first, splits = jobs[0].settings, len(problem.batches.splits)
    count = first.n_starts * splits * len(jobs)
    starts: int | np.ndarray = count
    if shard is not None:
        starts = shard.starts(count, problem.width, problem.edges)
        if not len(starts):
            return None
    return descend_network(
        problem,
        starts,
        first,
        optimizer_named(
            first.optimizer,
            _rates([job.settings for job in jobs]),
            first.weight_decay,
            splits=splits,
        ),
        jobs[0],
    )


def _trained(problem: Network, rows: LabeledRows, jobs: Sequence[Job]) -> list[Fitted]:
    """Train the starts of a problem that has one setting per job."""
    splits = len(problem.batches.splits)
    runs = _descended(problem, jobs)
    assert runs is not None  # noqa: S101  of all starts
    number = problem.batches.setting_of(runs.starts)
    fits = []
    for place, job in enumerate(jobs):
        rule = job.settings.rule(splits)
        own = runs.picked(np.flatnonzero(number == place))
        own = replace(
            own,
            starts=problem.batches.alone(own.starts),
            settings={**runs.settings, "steps": described(rule)},
        )
        fits.append(
            Fitted(
                job.settings,
                problem.of_setting(place),
                own,
                splits,
                problem.batches.steps_in_epoch,
                classes=rows.classes,
                names=rows.names,
                single=rows.single,
                rule=rule,
            )
        )
    return fits


def _rates(settings: Sequence[Settings]) -> float | Sequence[float]:
    """Return the common learning rate, or one per start and setting, starts first."""
    rates = [one.learning_rate for one in settings]
    if len(settings) == 1 or settings[0].optimizer == "lbfgs":
        return rates[0]
    starts = settings[0].n_starts
    table = np.stack([np.broadcast_to(rate, starts) for rate in rates], 1)
    if (table == table[0, 0]).all():
        return rates[0]
    return [float(rate) for rate in table.ravel()]
