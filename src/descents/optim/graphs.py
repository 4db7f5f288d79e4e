"""Capture the steps of an update rule in a CUDA graph and replay them.

A small step on an accelerator consists of hundreds of operations, and launching them one
by one takes most of the time. A CUDA graph [1]_ launches all of them at once.

References
----------
.. [1] Ng et al. (2021), "Accelerating PyTorch with CUDA graphs", PyTorch blog.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import cast

import torch

from descents.optim.problem import Bound, Parameters
from descents.optim.rules import State, Update, UpdateRule
from descents.optim.stacked import chosen

Body = Callable[[], None]
"""A step to capture: it takes and returns nothing, and writes to fixed tensors."""


class Recording:
    """Captured steps of an update rule.

    A step reads from tensors at fixed addresses and writes to them: the parameters, the
    state, which starts are alive, how many steps each start has taken, and the number of
    the step. The inputs that the problem draws for a step are copied there before it.

    Parameters
    ----------
    rule : UpdateRule
    bound : Bound

    Examples
    --------
    >>> from descents import Adam, Network
    >>> network = Network([[0.0], [1.0]], [0, 1])
    >>> Recording.possible(Adam(), network.bind(torch.arange(2)), 1)  # on a CPU
    False
    """

    def __init__(self, rule: UpdateRule, bound: Bound) -> None:
        self.rule, self.bound = rule, bound
        self.buffers: dict[str, Parameters] = {}
        self.total = torch.zeros(bound.starts.shape, dtype=torch.float64)
        """The sum of the losses over the steps taken last."""
        # One graph for each size of batch: the last batch of an epoch may be smaller.
        self._plays: dict[
            tuple[tuple[str, torch.Size], ...], tuple[Parameters, Bound, Body]
        ] = {}

    @staticmethod
    def possible(rule: UpdateRule, bound: Bound, step: int) -> bool:
        """Return whether steps of this rule and problem can be captured."""
        return (
            bound.device.type in RECORDERS
            and rule.capturable
            and not bound.constrained
            and bound.graph_inputs(step) is not None
        )

    def take(
        self,
        parameters: Parameters,
        state: State,
        alive: torch.Tensor,
        steps: range,
    ) -> tuple[Parameters, State, torch.Tensor, torch.Tensor]:
        """Take some steps; a start whose loss is not finite stays where it is.

        Parameters
        ----------
        parameters, state
            As the rule's `update` returned them.
        alive : bool Tensor of shape (S,)
            The starts that have not failed.
        steps : range
            The numbers of the steps.

        Returns
        -------
        parameters, state
        alive : bool Tensor of shape (S,)
        taken : int64 Tensor of shape (S,)
            How many of the steps each start has taken.
        """
        device = alive.device
        point: dict[str, Parameters] = {f"of {name}": g for name, g in state.items()}
        point["parameters"] = parameters
        point["counters"] = {
            "alive": alive,
            "taken": torch.zeros_like(alive, dtype=torch.int64),
            "total": torch.zeros(alive.shape, dtype=torch.float64, device=device),
            "step": torch.full((), steps.start, dtype=torch.float64, device=device),
        }
        if self.buffers:
            for name, group in self.buffers.items():
                _written(point[name], group)
        else:
            self.buffers = {name: _copied(group) for name, group in point.items()}
        for step in steps:
            self._take_one(self.bound.graph_inputs(step) or {})
        copies = {name: _copied(group) for name, group in self.buffers.items()}
        moved, counters = copies.pop("parameters"), copies.pop("counters")
        self.total = counters["total"]
        later = {name.removeprefix("of "): group for name, group in copies.items()}
        return moved, later, counters["alive"], counters["taken"]

    def _take_one(self, inputs: Parameters) -> None:
        key = tuple((name, value.shape) for name, value in inputs.items())
        if key in self._plays:
            place, _, play = self._plays[key]
            _written(inputs, place)
            play()
            return
        place = _copied(inputs)
        bound = self.bound.with_inputs(place) if place else self.bound
        recorder = RECORDERS[bound.device.type]
        play = recorder(lambda: self._step(bound), bound.device)
        # Keep the bound problem too: a graph does not keep its input tensors alive.
        self._plays[key] = (place, bound, play)

    def _step(self, bound: Bound) -> None:
        """Take one step, from the buffers to the buffers."""
        counters, parameters = self.buffers["counters"], self.buffers["parameters"]
        state = {n[3:]: g for n, g in self.buffers.items() if n.startswith("of ")}
        step = counters["step"]  # a tensor stands for the number of the step
        update = self.rule.update(bound, dict(parameters), state, cast("int", step))
        losses = update.losses
        alive = counters["alive"] & losses.isfinite()
        parameters, state = advanced(alive, parameters, state, update)
        _written(parameters, self.buffers["parameters"])
        for name, group in state.items():
            _written(group, self.buffers[f"of {name}"])
        taken = counters["taken"] + alive
        total = counters["total"] + losses.detach().double()
        _written(
            {"alive": alive, "taken": taken, "total": total, "step": step + 1}, counters
        )


def advanced(
    going: torch.Tensor, parameters: Parameters, state: State, update: Update
) -> tuple[Parameters, State]:
    """Return parameters and state after an update of the starts in `going` only.

    Parameters
    ----------
    going : bool Tensor of shape (S,)
        Which starts are updated; the others keep their parameters and state.
    parameters, state
        Before the update.
    update : Update
        Of all starts.

    Examples
    --------
    >>> before, after = {"x": torch.zeros(2)}, {"x": torch.ones(2)}
    >>> update = Update(after, {}, torch.zeros(2), {})
    >>> advanced(torch.tensor([True, False]), before, {}, update)
    ({'x': tensor([1., 0.])}, {})
    """
    remembered = {
        name: chosen(going, group, state.get(name, group))
        for name, group in update.state.items()
    }
    return chosen(going, update.parameters, parameters), remembered


def _copied(group: Parameters) -> Parameters:
    return {name: value.clone() for name, value in group.items()}


def _written(group: Parameters, places: Parameters) -> None:
    for name, place in places.items():
        place.copy_(group[name])


def _cuda_graph(body: Body, device: torch.device) -> Body:
    """Run a step once, capture it, and return a function that replays the CUDA graph.

    The first run is on the capture stream, not captured, because libraries initialize
    themselves at first use, which must not happen during a capture.
    """
    # One capture at a time, and one stream for each device, because every stream that
    # has multiplied matrices keeps a workspace of its own.
    with _one_at_a_time, torch.cuda.device(device):
        here, number = torch.cuda.current_stream(), torch.cuda.current_device()
        if number not in _beside:
            _beside[number] = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside = _beside[number]
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            body()
        here.wait_stream(beside)
        if _refused:
            return body
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph, stream=beside, capture_error_mode="thread_local"
            ):
                body()
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # a failed capture may leave its stream set
            _refused.append(str(error).partition("\n")[0])
            warnings.warn(
                f"the steps cannot be captured in a CUDA graph ({_refused[0]}); they run "
                "one by one, with the same results up to rounding",
                RuntimeWarning,
                stacklevel=2,
            )
            return body
    return graph.replay


_one_at_a_time = threading.Lock()
_beside: dict[int, torch.cuda.Stream] = {}
"""The capture stream of each device."""
_refused: list[str] = []
"""Why a capture failed; after one failure no other capture is tried."""


RECORDERS: dict[str, Callable[[Body, torch.device], Body]] = {"cuda": _cuda_graph}
"""The capture function for each type of device: it runs a step once and returns a function
that runs it again."""
