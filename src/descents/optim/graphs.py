"""Steps that another device is told of once, and then repeats.

What a small step costs on an accelerator is telling it of some hundreds of operations,
one by one. A recording, there a CUDA graph [1]_, tells them all at once.

References
----------
.. [1] Ng et al. (2021), "Accelerating PyTorch with CUDA graphs", PyTorch blog.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch

from descents.optim.first_order import chosen
from descents.optim.problem import Bound, Parameters
from descents.optim.rules import State, Update, UpdateRule

Body = Callable[[], None]
"""What is recorded: it takes nothing, returns nothing, and writes to tensors it knows."""


class Recording:
    """Steps of an update rule at which nothing is looked at, each told at once.

    A step reads from tensors that stay where they are, and writes to them: parameters,
    state, who is alive, how many steps each start has taken, the number of the step,
    and what the problem draws for a step, which is put there before it.

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
        self.kept: dict[str, Parameters] = {}
        self.total = torch.zeros(bound.starts.shape, dtype=torch.float64)
        """The sum of the losses over the steps taken last."""
        # Batches of an epoch differ in size: one recording for each.
        self._plays: dict[Any, tuple[Parameters, Bound, Body]] = {}

    @staticmethod
    def possible(rule: UpdateRule, bound: Bound, step: int) -> bool:
        """Return whether the device can record, and the steps be recorded."""
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
            Which starts go on.
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
        point["told"] = {
            "alive": alive,
            "taken": torch.zeros_like(alive, dtype=torch.int64),
            "total": torch.zeros(alive.shape, dtype=torch.float64, device=device),
            "step": torch.full((), steps.start, dtype=torch.float64, device=device),
        }
        if self.kept:
            for name, group in self.kept.items():
                _written(point[name], group)
        else:
            self.kept = {name: _copied(group) for name, group in point.items()}
        for step in steps:
            self._one(self.bound.graph_inputs(step) or {})
        found = {name: _copied(group) for name, group in self.kept.items()}
        moved, told = found.pop("parameters"), found.pop("told")
        self.total = told["total"]
        later = {name.removeprefix("of "): group for name, group in found.items()}
        return moved, later, told["alive"], told["taken"]

    def _one(self, inputs: Parameters) -> None:
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
        # With the bound problem: a recording keeps no tensor alive that it reads from.
        self._plays[key] = (place, bound, play)

    def _step(self, bound: Bound) -> None:
        """Take one step, from the kept tensors to the kept tensors."""
        told, parameters = self.kept["told"], self.kept["parameters"]
        state = {n[3:]: g for n, g in self.kept.items() if n.startswith("of ")}
        step: Any = told["step"]
        found = self.rule.update(bound, dict(parameters), state, step)
        losses = found.losses
        alive = told["alive"] & losses.isfinite()
        parameters, state = advanced(alive, parameters, state, found)
        _written(parameters, self.kept["parameters"])
        for name, group in state.items():
            _written(group, self.kept[f"of {name}"])
        taken = told["taken"] + alive
        total = told["total"] + losses.detach().double()
        _written(
            {"alive": alive, "taken": taken, "total": total, "step": step + 1}, told
        )


def advanced(
    going: torch.Tensor, parameters: Parameters, state: State, found: Update
) -> tuple[Parameters, State]:
    """Return where an update leads the starts that go on; the others keep what they had.

    Parameters
    ----------
    going : bool Tensor of shape (S,)
    parameters, state
        Before the update.
    found : Update
        Of all starts.

    Examples
    --------
    >>> before, after = {"x": torch.zeros(2)}, {"x": torch.ones(2)}
    >>> found = Update(after, {}, torch.zeros(2), {})
    >>> advanced(torch.tensor([True, False]), before, {}, found)
    ({'x': tensor([1., 0.])}, {})
    """
    remembered = {
        name: chosen(going, group, state.get(name, group))
        for name, group in found.state.items()
    }
    return chosen(going, found.parameters, parameters), remembered


def _copied(group: Parameters) -> Parameters:
    return {name: value.clone() for name, value in group.items()}


def _written(group: Parameters, places: Parameters) -> None:
    for name, place in places.items():
        place.copy_(group[name])


def _cuda_graph(body: Body, device: torch.device) -> Body:
    """Do it once, and return what does it again: a CUDA graph.

    The first time is on a stream of its own, as the recording will be: what libraries
    make at first use is not to be made while it is recorded.
    """
    # A process records one thing at a time, on one stream of a device: each stream that
    # has multiplied keeps memory of its own.
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
            torch.cuda.set_stream(here)  # the failed recording may have left its own
            _refused.append(str(error).partition("\n")[0])
            warnings.warn(
                f"CUDA cannot record the steps ({_refused[0]}): it is told them one by "
                "one, with the same results to rounding",
                RuntimeWarning,
                stacklevel=2,
            )
            return body
    return graph.replay


_one_at_a_time = threading.Lock()
_beside: dict[int, Any] = {}
"""The stream of each device that is recorded on."""
_refused: list[str] = []
"""Why CUDA could not record, if it could not: it is not asked again."""


RECORDERS: dict[str, Callable[[Body, torch.device], Body]] = {"cuda": _cuda_graph}
"""How each kind of device records: the body is run once, and what runs it again returned."""
