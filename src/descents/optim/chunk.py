"""The loop over the steps of one chunk, for every kind of problem and every rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from descents.devices import remote
from descents.optim.checkpoints import Keeper, go_on, keep
from descents.optim.checks import check_losses, check_points
from descents.optim.clock import Clock
from descents.optim.graphs import Recording, advanced
from descents.optim.problem import Bound, Parameters, Problem
from descents.optim.rules import State, Update, UpdateRule
from descents.optim.runs import Runs, RunSettings, Status
from descents.optim.stacked import flat, kept_where
from descents.optim.stopping import Best, Convergence, Progress, Stop

CHECK_EVERY = 10
"""Check every 10 steps whether a start is stationary."""
MOST_UNREAD = 50
"""Read the losses of another device, and the clock, at least every 50 steps."""


Watch = Callable[[np.ndarray, int, np.ndarray], None]


@dataclass
class Final:
    """The final results of the requested starts of a chunk."""

    losses: np.ndarray
    gradient_norms: np.ndarray
    parameters: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]


@dataclass
class Chunk:
    """A fixed number of starts that are computed together.

    Every product has the same shape, and start k is always at place k - first, because
    the last bits of a result depend on where a slice begins in memory. Places of starts
    that were not requested are filled with copies.
    """

    problem: Problem
    numbers: np.ndarray
    seed: int
    first: int
    width: int
    epochs: list[int]
    final: Final = field(init=False)
    histories: dict[str, list[np.ndarray]] = field(default_factory=dict)
    noted: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    bound: Bound = field(init=False)
    whole: Bound = field(init=False)
    best: Best | None = field(init=False)
    progress: Progress | None = field(init=False)
    convergence: Convergence = field(init=False)
    places: np.ndarray = field(init=False)
    rows: torch.Tensor = field(init=False)
    starts: torch.Tensor = field(init=False)
    parameters: Parameters = field(init=False)
    state: State = field(init=False)
    statuses: np.ndarray = field(init=False)
    taken: np.ndarray = field(init=False)
    initial: np.ndarray = field(init=False)
    recording: Recording | None = None
    single: int = 0
    final_only: tuple[str, ...] = ()
    active: np.ndarray | None = None
    reached: int = 0
    seconds: float = 0.0
    closed: bool = False
    keeper: Keeper | None = None

    def descend(
        self, steps: UpdateRule, stop: Stop, clock: Clock, watch: Watch | None
    ) -> None:
        """Descend all starts of the chunk; after an interrupt, evaluate where they are."""
        self.advance(steps, stop, clock, watch)
        self.close(steps, stop, clock, watch)

    def advance(
        self, steps: UpdateRule, stop: Stop, clock: Clock, watch: Watch | None
    ) -> bool:
        """Descend to the end or until the time is up; return whether to close."""
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
        """Set all starts to their initial points."""
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
        del points  # frees a second copy of the parameters, which can be large
        self.state = steps.init(self.bound, self.parameters)
        self.best = None if stop.early is None else Best(stop.early, self.width)
        self.progress = (
            None if stop.progress is None else Progress(stop.progress, self.width)
        )
        self.convergence = Convergence(stop, self.problem, self.width)
        self.active = np.ones(self.width, dtype=bool)
        go_on(self)

    def close(
        self, steps: UpdateRule, stop: Stop, clock: Clock, watch: Watch | None
    ) -> None:
        """Evaluate the starts where they are; keep only the results."""
        begun = time.perf_counter()
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
            watch(self.numbers, int(self.taken.max()), self.final.losses)
        self.seconds += time.perf_counter() - begun
        self.closed = True
        # The results are copies, so free everything else: there may be many chunks.
        del self.problem, self.bound, self.whole, self.starts, self.rows
        del self.parameters, self.state
        del self.best, self.progress, self.convergence, self.recording

    @property
    def steps(self) -> int:
        """The number of steps taken, of the start that took most."""
        return int(self.taken.max())

    def runs(self, settings: RunSettings) -> Runs:
        """Return the results of all starts."""
        count, final = len(self.numbers), self.final
        return Runs(
            starts=self.numbers,
            losses=final.losses,
            statuses=tuple(self.statuses[self.places]),
            steps_taken=self.taken[self.places],
            gradient_norms=final.gradient_norms,
            initial_gradient_norms=self.initial[self.places],
            parameters=final.parameters,
            metrics=final.metrics,
            recorded=np.array(self.epochs, dtype=np.int64),
            histories={
                name: np.stack(rows) for name, rows in self.histories.items() if rows
            },
            seconds=np.full(count, self.seconds / count),
            settings=settings,
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
            keep(self, step)
            if clock.out:
                return
            if self.best is not None and step % self.best.rule.every == 0:
                stopped = self._update_best(step, active) & active
                self.statuses[stopped] = Status.STOPPED
                active &= ~stopped
            if not np.count_nonzero(active):
                return
            if several := self._take_several(steps, stop, step, active):
                step += several - 1
                self._end_stalled(step, active)
                continue
            # Before the step: a training step may change the buffers of a problem.
            metrics = self._metrics() if step in epochs else {}
            update = steps.update(self.bound, self.parameters, self.state, step)
            losses = update.losses
            if step in epochs:
                self._record({"loss": losses, **metrics})
                if watch is not None:
                    watch(self.numbers, step, self.noted["loss"][-1].cpu().numpy())
            if step == 0:
                self._measure_initial(update)
            active &= self._finite(losses, active)
            if step % CHECK_EVERY == 0 and not self.bound.stochastic:
                active &= ~self._converged(steps, update, active, step)
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
        """After a step, stop active starts whose training loss no longer falls."""
        progress = self.progress
        if progress is not None and (step + 1) % progress.rule.every == 0:
            stalled = progress.look(active)
            self.statuses[stalled] = Status.STALLED
            active &= ~stalled

    def _take_several(
        self, steps: UpdateRule, stop: Stop, step: int, active: np.ndarray
    ) -> int:
        """Take several steps with no check in between, if possible; return how many."""
        taken = self._leap(steps, stop, step, active)
        if not taken and self.remote:
            taken = self._steps_to_check(stop, step)
            self._without_reading(steps, range(step, step + taken), active)
        return taken

    @property
    def remote(self) -> bool:
        """Whether the device is an accelerator, where reading a number means waiting."""
        return remote(self.problem.device)

    def _steps_to_check(self, stop: Stop, step: int) -> int:
        """Return how many steps can be taken, from this one on, before the next check."""
        checked = (stop.gradient_tol or stop.loss_tol) and not self.bound.stochastic
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
        """Take steps whose losses stay on the device; mark failed starts afterwards."""
        if not several:
            return
        alive = torch.as_tensor(active, device=self.problem.device)
        if self.recording is None and len(several) > 1:
            here = steps, self.bound
            if Recording.possible(*here, several.start):
                self.recording = Recording(*here)
        if self.recording is not None:
            result = self.recording.take(self.parameters, self.state, alive, several)
            self.parameters, self.state, alive, taken = result
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
        """Take steps with no check in between by one call of the rule; return how many.

        Return 0 if a start fails on the way: single steps then find which one and when.
        """
        if step < max(1, self.single):
            return 0
        checks = stop.early is not None or stop.progress is not None
        checks = checks or bool(stop.gradient_tol or stop.loss_tol)
        if checks or self.bound.stochastic or not active.all():
            return 0
        end = min([stop.max_steps, *(e for e in self.epochs if e >= step)])
        if end - step < 2:
            return 0
        leap = steps.leap(self.bound, self.parameters, step, end - step)
        if leap is None:
            self.single = end
            return 0
        taken, self.parameters, self.state = leap
        self.taken += taken
        return int(taken)

    def _whole_gradient(self, step: int) -> Parameters:
        """Return the gradient of the loss over all data, not of a mini-batch."""
        return self.whole.losses_and_gradients(self.parameters, step)[1]

    def _update_best(self, step: int | np.ndarray, active: np.ndarray) -> np.ndarray:
        """Keep the parameters of starts at their best; return which ran out of patience."""
        assert self.best is not None  # noqa: S101
        with torch.no_grad():
            metrics = self.whole.metrics(self.parameters)
            if self.best.rule.metric not in metrics:
                final = self.whole.final_metrics(self.parameters)
                metrics = {**metrics, **final}
        buffers = self.bound.buffers()
        return self.best.look(metrics, self.parameters, buffers, step, active)

    def _measure_initial(self, update: Update) -> None:
        """Store the gradient norms and the scale of the loss at the initial points."""
        stochastic = self.bound.stochastic
        mapping = self._whole_gradient(0) if stochastic else update.mapping
        self.initial = self._norms(mapping)
        self.convergence.set_scale(update.losses)

    def _converged(
        self, steps: UpdateRule, update: Update, active: np.ndarray, step: int
    ) -> np.ndarray:
        """Return the starts that are stationary or settled; mark active ones."""
        rule, here = self.convergence, (self.whole, self.parameters)
        stationary = rule.stationary(*here, update, step)
        settled = rule.settled(update.losses, steps.unsettled(self.bound, step))
        self.statuses[active & stationary] = Status.STATIONARY
        self.statuses[active & ~stationary & settled] = Status.SETTLED
        return stationary | settled

    def _finite(self, losses: torch.Tensor, active: np.ndarray) -> np.ndarray:
        """Return which losses are finite; mark active starts with a non-finite loss."""
        finite: np.ndarray = np.isfinite(losses.numpy(force=True))
        if np.count_nonzero(finite) < self.width:
            self.statuses[active & ~finite] = Status.NONFINITE
        return finite

    def _metrics(self) -> Parameters:
        """Return the metrics and, if steps use mini-batches, the losses over all data."""
        with torch.no_grad():
            metrics = dict(self.whole.metrics(self.parameters))
            if self.bound.stochastic:
                metrics["loss"] = self.whole.losses(self.parameters, 0)
        return metrics

    def _record(self, values_by_name: Parameters) -> None:
        """Add losses and metrics to the histories, on the device they are on."""
        for name, values in values_by_name.items():
            row = values[self.rows].double()
            self.noted.setdefault(name, []).append(row)

    def _close(self, steps: UpdateRule, stop: Stop) -> None:
        """Evaluate the final losses in the evaluation precision, metrics and gradients.

        All starts are evaluated at the same step number, so that the result of a start
        does not depend on when the others stopped.
        """
        whole, places, step = self.whole, self.places, stop.max_steps
        buffers = self.bound.buffers()
        if self.best is not None:
            ended = (self.statuses == Status.NONFINITE) | (
                self.statuses == Status.STOPPED
            )
            self._update_best(self.taken, ~ended)
            failed = self.statuses == Status.NONFINITE
            # A failed start needs a finite metric after its first step to go back to.
            has_best = np.isfinite(self.best.values) & (~failed | (self.best.steps > 0))
            self.statuses[failed & has_best] = Status.OVERFLOWED
            self.best.steps[~has_best & ~failed] = self.taken[~has_best & ~failed]
            self.parameters = kept_where(
                ~has_best, self.parameters, self.best.parameters
            )
            buffers = kept_where(~has_best, buffers, self.best.buffers)
            self.bound.load_buffers(buffers)
        precise = {
            n: p.to(self.problem.evaluation_dtype) for n, p in self.parameters.items()
        }
        with torch.no_grad():
            metrics = whole.metrics(self.parameters)
            final_only = whole.final_metrics(self.parameters)
            fused = whole.fused(precise, step)
            losses = fused[0] if fused else whole.losses(precise, step)
        check_losses(losses, self.width)
        self.final_only = tuple(n for n in final_only if n not in metrics)
        final = losses.cpu().numpy().astype(np.float64)
        norms = np.full(self.width, np.nan)
        if step == 0 or self.reached:
            # Skipped for a chunk that never began because the time was up.
            limited = self.statuses[places] == Status.LIMIT
            decides = bool(stop.gradient_tol) and limited.any()
            update = self._final_update(steps, step, losses, decides=decides)
            norms = self._norms(update.mapping)
            if decides:
                here = whole, self.parameters
                small = self.convergence.stationary(*here, update, step)
                small &= self.statuses == Status.LIMIT
                self.statuses[small] = Status.STATIONARY
        if step == 0:
            self.initial = norms
        limited = self.statuses == Status.LIMIT
        limited |= self.statuses == Status.OVERFLOWED
        self.statuses[limited & ~np.isfinite(final)] = Status.NONFINITE
        # A loss that overflowed in the working precision may be finite in the other.
        final[(self.statuses == Status.NONFINITE) & np.isfinite(final)] = np.inf
        self.final = Final(
            final[places],
            norms[places],
            self._requested({**self.parameters, **buffers}),
            self._requested({**metrics, **final_only}),
        )
        if self.best is not None:
            self.final.metrics["best_step"] = self.best.steps[places]

    def _requested(self, group: Parameters) -> dict[str, np.ndarray]:
        """Return the values of the requested starts as arrays."""
        return {n: value[self.places].cpu().numpy() for n, value in group.items()}

    def _final_update(
        self, steps: UpdateRule, step: int, losses: torch.Tensor, *, decides: bool
    ) -> Update:
        """Return the prox-gradient mapping at the final points as an `Update`.

        It includes the predicted gain if that `decides` which starts are stationary.
        """
        unmoved = Update(self.parameters, self.state, losses, {})
        if self.bound.stochastic:
            return unmoved._replace(mapping=self._whole_gradient(step))
        state = self.state
        if self.best is not None:  # the state belongs to the last point, not the best
            state = steps.init(self.bound, self.parameters)
        here = self.bound, self.parameters, state, step
        if decides:
            return steps.update(*here)._replace(losses=losses)
        return unmoved._replace(mapping=steps.mapping(*here))

    def _norms(self, mapping: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Return each start's norm over all parameters, accumulated in float64."""
        norms = self.bound.inner.norm(flat(mapping).double(), mapping)
        found: np.ndarray = norms.cpu().numpy()
        return found

    def _complete_histories(self) -> None:
        """Fill each start's histories from its last step on: its final value, or NaN.

        NaN stands for the steps that an interrupted start did not take.
        """
        for name, noted in self.noted.items():
            self.histories[name] = list(torch.stack(noted).cpu().numpy())
        self.noted.clear()
        cut = self.statuses[self.places] == Status.INTERRUPTED
        ends = {"loss": self.final.losses, **self.final.metrics}
        ends.pop("best_step", None)
        for name in self.final_only:  # metrics without a history
            del ends[name]
        for name, values in ends.items():
            rows = self.histories.setdefault(name, [])
            rest = np.where(cut, np.nan, values.astype(np.float64))
            rows += [rest] * (len(self.epochs) - len(rows))
            for place, epoch in enumerate(self.epochs):
                ended = self.taken[self.places] <= epoch
                rows[place] = np.where(ended & ~cut, rest, rows[place])
