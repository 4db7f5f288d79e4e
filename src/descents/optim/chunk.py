"""The loop over the steps of one chunk: one for every kind of problem and every rule."""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from descents.devices import remote
from descents.optim.first_order import gains
from descents.optim.graphs import Recording, advanced
from descents.optim.problem import (
    Bound,
    Parameters,
    Problem,
    check_losses,
    check_points,
    flat,
)
from descents.optim.rules import State, Update, UpdateRule
from descents.optim.runs import Runs, Status
from descents.optim.stopping import Best, Progress, Stop, kept_where

CHECK_EVERY = 10
"""How many steps pass between two looks at whether a start is stationary."""
ROUNDINGS = 10
"""A loss of less than so many roundings of the data, squared, is an exact fit."""
MOST_UNREAD = 50
"""After so many steps at most the losses on another device are read, and the clock."""

LEAST_SHARE = 0.05
"""The seconds that a chunk goes on at least when it is its turn."""

Watch = Callable[[np.ndarray, int, np.ndarray], None]


class Clock:
    """Whether the time is out, or the user has interrupted."""

    def __init__(self, max_seconds: float | None) -> None:
        limit = math.inf if max_seconds is None else max_seconds
        self._end = time.monotonic() + limit
        self._stopped = False
        self._whole: Clock | None = None

    def share(self, parts: int) -> Clock:
        """Return a clock of one of some equal parts of the time that is left."""
        left = self._end - time.monotonic()
        if parts == 1 or math.isinf(left):
            return self
        found = Clock(max(left / parts, LEAST_SHARE))
        found._end, found._whole = min(found._end, self._end), self
        return found

    @property
    def whole(self) -> Clock:
        """The clock that this one has a share of."""
        return self._whole or self

    def interrupt(self) -> None:
        """Stop the clock that this one has a share of, and with it all shares."""
        self.whole._stopped = True

    @property
    def interrupted(self) -> bool:
        """Whether the user did so, or something failed; not whether the time is out."""
        return self.whole._stopped

    @property
    def out(self) -> bool:
        """Whether the time is out, or the clock was stopped."""
        return self.whole._stopped or time.monotonic() >= self._end


@dataclass
class Chunk:
    """A fixed number of starts that are computed together.

    Every product has the same shape, and start k the place k - first in it: where a
    slice begins in memory decides its last bits. Places of starts that are not
    asked for are filled with copies.
    """

    problem: Problem
    numbers: np.ndarray
    seed: int
    first: int
    width: int
    epochs: list[int]
    results: dict[str, Any] = field(default_factory=dict)
    histories: dict[str, list[np.ndarray]] = field(default_factory=dict)
    noted: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    bound: Bound = field(init=False)
    whole: Bound = field(init=False)
    best: Best | None = field(init=False)
    progress: Progress | None = field(init=False)
    places: np.ndarray = field(init=False)
    rows: torch.Tensor = field(init=False)
    starts: torch.Tensor = field(init=False)
    parameters: Parameters = field(init=False)
    state: State = field(init=False)
    statuses: np.ndarray = field(init=False)
    taken: np.ndarray = field(init=False)
    initial: np.ndarray = field(init=False)
    scale: np.ndarray | None = None
    recording: Recording | None = None
    before: torch.Tensor | None = None
    single: int = 0
    final_only: tuple[str, ...] = ()
    active: np.ndarray | None = None
    reached: int = 0
    seconds: float = 0.0
    closed: bool = False

    def descend(
        self, steps: UpdateRule, stop: Stop, clock: Clock, watch: Watch | None
    ) -> None:
        """Descend all starts of the chunk; an interrupt ends it where it is."""
        self.advance(steps, stop, clock, watch)
        self.close(steps, stop, clock, watch)

    def advance(
        self, steps: UpdateRule, stop: Stop, clock: Clock, watch: Watch | None
    ) -> bool:
        """Descend until the end, or until the time is out; return whether to close."""
        begun = time.perf_counter()
        if self.active is None:
            self._begin(steps, stop)
        try:
            self._loop(steps, stop, clock, watch)
        except KeyboardInterrupt:
            clock.interrupt()
        self.seconds += time.perf_counter() - begun
        going = self.active is not None and self.active.any()
        return clock.whole.out or not going or self.reached >= stop.max_steps

    def _begin(self, steps: UpdateRule, stop: Stop) -> None:
        """Take all starts to their initial points."""
        count = len(self.numbers)
        self.places = self.numbers - self.first
        self.rows = torch.as_tensor(self.places, device=self.problem.device)
        sources = np.zeros(self.width, dtype=np.int64)
        sources[self.places] = np.arange(count)
        self.starts = torch.tensor(self.numbers[sources], device=self.problem.device)
        self.statuses = np.full(self.width, Status.LIMIT, dtype=object)
        self.taken = np.zeros(self.width, dtype=np.int64)
        self.initial = np.full(self.width, np.nan)
        points = self.problem.points(self.numbers, self.seed)
        check_points(points, count)
        self.bound = self.problem.bind(self.starts, self.seed)
        self.whole = self.bound.whole
        self.parameters = {n: p[sources] for n, p in points.items()}
        del points  # a second copy, that large factors would be kept in till the end
        self.state = steps.init(self.bound, self.parameters)
        self.best = None if stop.early is None else Best(stop.early, self.width)
        self.progress = (
            None if stop.progress is None else Progress(stop.progress, self.width)
        )
        self.active = np.ones(self.width, dtype=bool)

    def close(
        self, steps: UpdateRule, stop: Stop, clock: Clock, watch: Watch | None
    ) -> None:
        """Evaluate where the starts are, and keep that alone."""
        begun, count = time.perf_counter(), len(self.numbers)
        if clock.out:
            running = (self.statuses == Status.LIMIT) & (self.taken < stop.max_steps)
            self.statuses[running] = Status.INTERRUPTED
        try:
            self._close(steps, stop)
        except KeyboardInterrupt:
            clock.interrupt()
            self._close(steps, stop)
        self._complete_histories()
        if watch is not None:
            watch(self.numbers, int(self.taken.max()), self.results["losses"])
        self.results.update(
            statuses=tuple(self.statuses[self.places]),
            steps_taken=self.taken[self.places],
            seconds=np.full(
                count, (self.seconds + time.perf_counter() - begun) / count
            ),
        )
        self.closed = True
        # The results are copies: many finished chunks would fill the memory.
        del self.problem, self.bound, self.whole, self.starts, self.rows
        del self.parameters, self.state
        del self.best, self.progress, self.before, self.recording

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return int(self.taken.max())

    def runs(self, settings: dict[str, Any]) -> Runs:
        """Return what has become of the starts."""
        return Runs(
            starts=self.numbers,
            recorded=np.array(self.epochs, dtype=np.int64),
            histories={
                name: np.stack(rows) for name, rows in self.histories.items() if rows
            },
            settings=settings,
            **self.results,
        )

    def _loop(
        self, steps: UpdateRule, stop: Stop, clock: Clock, watch: Watch | None
    ) -> None:
        active = self.active
        assert active is not None  # noqa: S101
        epochs = frozenset(self.epochs)
        step = self.reached - 1
        while (step := step + 1) < stop.max_steps:
            self.reached = step
            if clock.out:
                return
            if self.best is not None and step % self.best.rule.every == 0:
                tired = self._look_for_best(step, active) & active
                self.statuses[tired] = Status.STOPPED
                active &= ~tired
            if not np.count_nonzero(active):
                return
            if several := self._several(steps, stop, step, active):
                step += several - 1
                self._end_stalled(step, active)
                continue
            # Before the step: a problem may remember what it saw while training.
            known = self._known() if step in epochs else {}
            update = steps.update(self.bound, self.parameters, self.state, step)
            losses = update.losses
            if step in epochs:
                self._record({"loss": losses, **known})
                if watch is not None:
                    watch(self.numbers, step, self.noted["loss"][-1].cpu().numpy())
            if step == 0:
                self._look_first(stop, update)
            active &= self._finite(losses, active)
            if step % CHECK_EVERY == 0 and not self.bound.stochastic:
                settle = not steps.unsettled(self.bound, step)
                active &= ~self._resting(stop, update, active, step, settle=settle)
            if np.count_nonzero(active) == self.width:
                self.parameters, self.state = update.parameters, update.state
            else:
                going = torch.as_tensor(active, device=self.problem.device)
                self.parameters, self.state = advanced(
                    going, self.parameters, self.state, update
                )
            self.taken += active
            if self.progress is not None:
                self.progress.add(losses.detach().double())
                self._end_stalled(step, active)
        self.reached = stop.max_steps

    def _end_stalled(self, step: int, active: np.ndarray) -> None:
        """After a step, end active starts whose training loss no longer falls."""
        progress = self.progress
        if progress is not None and (step + 1) % progress.rule.every == 0:
            stalled = progress.look(active)
            self.statuses[stalled] = Status.STALLED
            active &= ~stalled

    def _several(
        self, steps: UpdateRule, stop: Stop, step: int, active: np.ndarray
    ) -> int:
        """Take steps at which nothing is looked at, where they go together; return how many."""
        taken = self._leap(steps, stop, step, active)
        if not taken and self.remote:
            taken = self._unread(stop, step)
            self._without_reading(steps, range(step, step + taken), active)
        return taken

    @property
    def remote(self) -> bool:
        """Whether to read a number of the device is to wait for it."""
        return remote(self.problem.device)

    def _unread(self, stop: Stop, step: int) -> int:
        """Return how many steps from this one on nothing is looked at."""
        checked = (stop.tolerance or stop.least_fall) and not self.bound.stochastic
        every = [CHECK_EVERY] * bool(checked)
        if self.best is not None:
            every.append(self.best.rule.every)
        if self.progress is not None:
            epoch = self.progress.rule.every
            most = min(stop.max_steps, step + epoch - step % epoch)
        else:
            most = min(stop.max_steps, step + MOST_UNREAD)
        end = step
        while end < most:
            if end == 0 or end in self.epochs:
                break
            if any(end % often == 0 for often in every):
                break
            end += 1
        return end - step

    def _without_reading(
        self, steps: UpdateRule, several: range, active: np.ndarray
    ) -> None:
        """Take steps whose losses stay on the device; who failed is told after them."""
        if not several:
            return
        alive = torch.as_tensor(active, device=self.problem.device)
        if self.recording is None and len(several) > 1:
            here = steps, self.bound
            if Recording.possible(*here, several.start):
                self.recording = Recording(*here)
        if self.recording is not None:
            found = self.recording.take(self.parameters, self.state, alive, several)
            self.parameters, self.state, alive, taken = found
            if self.progress is not None:
                self.progress.add(self.recording.total)
        else:
            taken = torch.zeros_like(alive, dtype=torch.int64)
            for step in several:
                update = steps.update(self.bound, self.parameters, self.state, step)
                alive = alive & update.losses.isfinite()
                taken += alive
                if self.progress is not None:
                    self.progress.add(update.losses.detach().double())
                self.parameters, self.state = advanced(
                    alive, self.parameters, self.state, update
                )
        lives = alive.cpu().numpy()
        self.statuses[active & ~lives] = Status.NONFINITE
        active &= lives
        self.taken += taken.cpu().numpy()

    def _leap(
        self, steps: UpdateRule, stop: Stop, step: int, active: np.ndarray
    ) -> int:
        """Take steps at which nothing is looked at together; return how many.

        None where a start fails on the way: which, and when, single steps tell.
        """
        if step < max(1, self.single):
            return 0
        looks = stop.early is not None or stop.progress is not None
        looks = looks or bool(stop.tolerance or stop.least_fall)
        if looks or self.bound.stochastic or not active.all():
            return 0
        end = min([stop.max_steps, *(e for e in self.epochs if e >= step)])
        if end - step < 2:
            return 0
        found = steps.leap(self.bound, self.parameters, step, end - step)
        if found is None:
            self.single = end
            return 0
        taken, self.parameters, self.state = found
        self.taken += taken
        return int(taken)

    def _whole_gradient(self, step: int) -> Parameters:
        """Return the gradient of the whole loss, not of a mini-batch."""
        return self.whole.losses_and_gradients(self.parameters, step)[1]

    def _look_for_best(self, step: int | np.ndarray, active: np.ndarray) -> np.ndarray:
        """Keep the parameters of starts that are at their best; return who is tired."""
        assert self.best is not None  # noqa: S101
        with torch.no_grad():
            metrics = self.whole.metrics(self.parameters)
            if self.best.rule.metric not in metrics:
                final = self.whole.final_metrics(self.parameters)
                metrics = {**metrics, **final}
        kept = self.bound.buffers()
        return self.best.look(metrics, self.parameters, kept, step, active)

    def _look_first(self, stop: Stop, update: Update) -> None:
        """Write down what the initial points are like."""
        stochastic = self.bound.stochastic
        self.initial = _norms(self._whole_gradient(0) if stochastic else update.mapping)
        if stop.tolerance:
            self._measure(update.losses)

    def _measure(self, losses: torch.Tensor) -> None:
        """Write down the size of the losses, to know when one is next to nothing."""
        known = self.problem.loss_scale
        first = losses.abs().cpu().numpy().astype(np.float64)
        self.scale = first if known is None else np.full(self.width, known)

    def _stationary(self, stop: Stop, update: Update, step: int) -> np.ndarray:
        """Return for which starts a step can gain next to nothing of the loss."""
        gain = update.gain
        if gain is None:
            gain = gains(self.whole, self.parameters, update.mapping, step)
        size = update.losses.abs().cpu().numpy().astype(np.float64)
        # Of an exact fit nothing is left but roundings of the size of the data.
        unit = float(torch.finfo(self.problem.dtype).eps)
        rounded = np.square(ROUNDINGS * unit) * self.scale
        most = np.maximum(np.square(stop.tolerance) * size, rounded)
        found: np.ndarray = gain.cpu().numpy() <= most
        return found

    def _judge_the_rest(self, stop: Stop, update: Update, step: int) -> None:
        """Mark which starts are stationary at the limit of steps."""
        if self.scale is None:  # there was no step
            self._measure(update.losses)
        small = self._stationary(stop, update, step)
        self.statuses[small & (self.statuses == Status.LIMIT)] = Status.STATIONARY

    def _resting(
        self,
        stop: Stop,
        update: Update,
        active: np.ndarray,
        step: int,
        *,
        settle: bool,
    ) -> np.ndarray:
        """Return which starts are stationary, or have settled; mark active ones."""
        losses = update.losses
        resting: np.ndarray = np.zeros(self.width, dtype=bool)
        if stop.tolerance:
            resting = self._stationary(stop, update, step)
            self.statuses[active & resting] = Status.STATIONARY
        if stop.least_fall:
            if settle and self.before is not None:
                fall = self.before - losses <= stop.least_fall * losses.abs()
                still = fall.cpu().numpy()
                self.statuses[active & ~resting & still] = Status.SETTLED
                resting = resting | still
            self.before = losses
        return resting

    def _finite(self, losses: torch.Tensor, active: np.ndarray) -> np.ndarray:
        """Return which losses are finite; mark active starts whose is not."""
        finite: np.ndarray = np.isfinite(losses.numpy(force=True))
        if np.count_nonzero(finite) < self.width:
            self.statuses[active & ~finite] = Status.NONFINITE
        return finite

    def _known(self) -> Parameters:
        """Return the metrics and, where a step looks at a sample, the whole losses."""
        with torch.no_grad():
            known = dict(self.whole.metrics(self.parameters))
            if self.bound.stochastic:
                known["loss"] = self.whole.losses(self.parameters, 0)
        return known

    def _record(self, known: Parameters) -> None:
        """Write losses and metrics down, on the device where they are."""
        for name, values in known.items():
            row = values[self.rows].double()
            self.noted.setdefault(name, []).append(row)

    def _close(self, steps: UpdateRule, stop: Stop) -> None:
        """Evaluate the end: losses in the evaluation precision, metrics, gradient.

        At one step number for all, so that a start's end does not depend on others.
        """
        whole, places, step = self.whole, self.places, stop.max_steps
        kept = self.bound.buffers()
        if self.best is not None:
            ended = (self.statuses == Status.NONFINITE) | (
                self.statuses == Status.STOPPED
            )
            self._look_for_best(self.taken, ~ended)
            failed = self.statuses == Status.NONFINITE
            # Without a finite look after the first step there is no epoch to go back to.
            found = np.isfinite(self.best.values) & (~failed | (self.best.steps > 0))
            self.statuses[failed & found] = Status.OVERFLOWED
            self.best.steps[~found & ~failed] = self.taken[~found & ~failed]
            self.parameters = kept_where(~found, self.parameters, self.best.parameters)
            kept = kept_where(~found, kept, self.best.kept)
            self.bound.load_buffers(kept)
        precise = {
            n: p.to(self.problem.evaluation_dtype) for n, p in self.parameters.items()
        }
        with torch.no_grad():
            metrics = whole.metrics(self.parameters)
            final_only = whole.final_metrics(self.parameters)
            fused = whole.fused(precise, step)
            losses = fused[0] if fused else whole.losses(precise, step)
        check_losses(losses, self.width)
        self.final_only = tuple(final_only)
        final = losses.cpu().numpy().astype(np.float64)
        norms = np.full(self.width, np.nan)
        if step == 0 or self.reached:
            # A chunk that never began, for want of time, is spared this evaluation.
            limited = self.statuses[places] == Status.LIMIT
            decides = bool(stop.tolerance) and limited.any()
            update = self._last_look(steps, step, losses, decides=decides)
            norms = _norms(update.mapping)
            if decides:
                self._judge_the_rest(stop, update, step)
        if step == 0:
            self.initial = norms
        limited = self.statuses == Status.LIMIT
        limited |= self.statuses == Status.OVERFLOWED
        self.statuses[limited & ~np.isfinite(final)] = Status.NONFINITE
        # What overflowed in the working precision may be finite in the other.
        final[(self.statuses == Status.NONFINITE) & np.isfinite(final)] = np.inf
        self.results = {
            "losses": final[places],
            "gradient_norms": norms[places],
            "initial_gradient_norms": self.initial[places],
            "parameters": {
                n: p[places].cpu().numpy()
                for n, p in {**self.parameters, **kept}.items()
            },
            "metrics": {
                n: m[places].cpu().numpy() for n, m in {**metrics, **final_only}.items()
            },
        }
        if self.best is not None:
            self.results["metrics"]["best_step"] = self.best.steps[places]

    def _last_look(
        self, steps: UpdateRule, step: int, losses: torch.Tensor, *, decides: bool
    ) -> Update:
        """Return what an update knows of the end, without the move itself.

        With the predicted gain if that `decides` which starts are stationary.
        """
        unmoved = Update(self.parameters, self.state, losses, {})
        if self.bound.stochastic:
            return unmoved._replace(mapping=self._whole_gradient(step))
        state = self.state
        if self.best is not None:  # the state belongs to where the starts went on to
            state = steps.init(self.bound, self.parameters)
        here = self.bound, self.parameters, state, step
        if decides:
            return steps.update(*here)._replace(losses=losses)
        return unmoved._replace(mapping=steps.mapping(*here))

    def _complete_histories(self) -> None:
        """Give every start its own end from where it ended: NaN if interrupted."""
        for name, noted in self.noted.items():
            self.histories[name] = list(torch.stack(noted).cpu().numpy())
        self.noted.clear()
        cut = self.statuses[self.places] == Status.INTERRUPTED
        ends = {"loss": self.results["losses"], **self.results["metrics"]}
        ends.pop("best_step", None)
        for name in self.final_only:  # these have no histories
            del ends[name]
        for name, values in ends.items():
            rows = self.histories.setdefault(name, [])
            rest = np.where(cut, np.nan, values.astype(np.float64))
            rows += [rest] * (len(self.epochs) - len(rows))
            for place, epoch in enumerate(self.epochs):
                ended = self.taken[self.places] <= epoch
                rows[place] = np.where(ended & ~cut, rest, rows[place])


def span(number: int, width: int, edges: Sequence[int] = (0,)) -> tuple[int, int]:
    """Return the first start of the chunk that a start is in, and the chunk's width.

    Examples
    --------
    >>> span(0, 16, (0, 1, 10)), span(4, 16, (0, 1, 10)), span(40, 16, (0, 1, 10))
    ((0, 1), (1, 9), (32, 16))
    """
    if number >= width:
        return int(number) // width * width, width
    place = bisect.bisect_right(edges, number)
    return edges[place - 1], [*edges, width][place] - edges[place - 1]


def chunked(
    numbers: np.ndarray, width: int, edges: Sequence[int] = (0,)
) -> list[np.ndarray]:
    """Return the sorted numbers in groups, one for each chunk that they are in.

    Examples
    --------
    >>> chunked(np.arange(7), 4, (0, 1))
    [array([0]), array([1, 2, 3]), array([4, 5, 6])]
    """
    firsts = np.asarray(edges)[np.searchsorted(edges, numbers, "right") - 1]
    firsts = np.where(numbers < width, firsts, numbers // width * width)
    return np.split(numbers, np.flatnonzero(np.diff(firsts)) + 1)


def _norms(mapping: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Return the norm over all parameters of each start, accumulated in float64."""
    norms: np.ndarray = flat(mapping).double().norm(dim=1).cpu().numpy()
    return norms
