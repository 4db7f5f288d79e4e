"""Problems: initial points, losses, gradients and constraints of many starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike

from descents.devices import remote
from descents.errors import InvalidValueError
from descents.optim.autograd import gradients_of, lifted
from descents.optim.checks import check_losses
from descents.optim.inner import Inner
from descents.rng import streams

Parameters = dict[str, torch.Tensor]
"""The parameters of S starts by name; every tensor has the start axis first."""
CHUNK_ENTRIES = 2**18
"""The size of the largest tensor of a chunk, in numbers: it fits into the second-level
cache of a common processor."""
WIDEST_CHUNK = 256
"""The maximum number of starts in a chunk."""
FEW = 10
"""The first 10 starts of a small problem are two chunks: start 0, then the other nine."""
CHEAP_ENTRIES = 2**14
"""Below this many numbers, the time of an operation is mostly that of calling it."""
AWAY = 16
"""The factor by which chunks are larger on an accelerator, which has a larger cache and
needs more parallel work."""


def sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return a copy of an array on a device, without waiting for work queued there.

    Examples
    --------
    >>> sent(np.arange(3), torch.device("cpu"))
    tensor([0, 1, 2])
    """
    copied = torch.tensor(array)
    if device.type != "cuda":
        return copied.to(device)
    return copied.pin_memory().to(device, non_blocking=True)


class Problem(ABC):
    """The losses of many starts, and their initial points.

    A subclass defines three things: `point`, the initial point of one start; `losses`, of
    all starts at once; and `size`. The rest has defaults. Optional abilities are declared
    by the protocols `Accelerated`, `Parallel` and `Diagnosable`.

    Attributes
    ----------
    dtype : torch.dtype
        The working precision of the descent.
    evaluation_dtype : torch.dtype
        The precision of final losses.
    device : torch.device
    size : int
        The size of the largest tensor of one start, in numbers. It limits how many
        starts a chunk has.
    available : int or None
        The number of starts that exist; None for no limit.
    constrained : bool
        Whether `prox` changes anything.
    loss_scale : float or None
        The loss relative to which another loss counts as zero, such as that of the best
        constants. None uses the loss at each start's initial point.
    """

    dtype: torch.dtype = torch.float32
    evaluation_dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    size: int = CHUNK_ENTRIES // WIDEST_CHUNK
    available: int | None = None
    constrained: bool = False

    @property
    def loss_scale(self) -> float | None:  # noqa: D102 - among the attributes
        return None

    @property
    def width(self) -> int:
        """The maximum number of starts in a chunk, a function of the problem alone."""
        scale = AWAY if remote(self.device) else 1
        width = min(scale * WIDEST_CHUNK, max(1, scale * CHUNK_ENTRIES // self.size))
        return width if self.available is None else min(width, self.available)

    @property
    def edges(self) -> tuple[int, ...]:
        """Return the first starts of the chunks that are narrower than `width`.

        They are a function of the problem alone, so that start k is always computed in
        the same chunk, at the same place. Start 0 has a chunk of its own. The next chunk
        has as many starts as cost about as much as one, up to start 9. Each later chunk
        has about half as many starts as all before it, or more if they are cheap.
        """
        if remote(self.device):  # few starts cost as much as many there
            return (0,)
        size = max(1, self.size)
        edges = [0, 1, 1 + min(FEW - 1, max(1, CHEAP_ENTRIES // size))]
        while edges[-1] < self.width:
            more = edges[-1] + max(1, edges[-1] // 2)
            edges.append(max(more, 2 * CHEAP_ENTRIES // size))
        return tuple(edge for edge in edges if edge < self.width)

    @abstractmethod
    def point(
        self, generator: np.random.Generator, start: int
    ) -> Mapping[str, ArrayLike]:
        """Draw the initial point of one start from its own generator."""

    @abstractmethod
    def losses(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Return the loss of each start.

        Parameters
        ----------
        parameters : dict of Tensor, each of shape (S, ...)
        starts : int64 Tensor of shape (S,)
            The numbers of the starts, to look up what differs between starts.
        step : int
            The iteration.

        Returns
        -------
        Tensor of shape (S,), in the dtype of the parameters
        """

    def bind(self, starts: torch.Tensor, seed: int = 0) -> Bound:
        """Return this problem bound to the starts of one chunk.

        Parameters
        ----------
        starts : int64 Tensor of shape (S,)
        seed : int
            The seed of the initial points. It matters only for problems that learn more
            than their parameters, such as running means.
        """
        return Bound(self, starts)

    def points(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
        """Return the initial points of the given starts, stacked.

        Start k depends on (seed, k) alone. The problem itself does not change.

        Raises
        ------
        InvalidValueError
            If a point is not a mapping of arrays, or the points differ in shape.
        """
        numbers = [int(start) for start in starts]
        return stacked_points(self, numbers, streams(seed, "start", numbers))

    def prox(self, parameters: Parameters, rates: Parameters) -> Parameters:
        """Return the prox of the part of the loss without a gradient; here, the point.

        The prox is the x that minimizes h(x) + sum (x - p)^2 / (2 rate), where h is the
        part of the loss that has no gradient, such as an l1 penalty, and infinite
        outside the feasible set. For constraints alone it is the nearest feasible point.

        Parameters
        ----------
        parameters : dict of Tensor
            The point p.
        rates : dict of Tensor
            Each broadcasts with its parameter.
        """
        return parameters

    def metrics(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return metrics to record beside the loss, by name, each of shape (S,)."""
        return {}

    def final_metrics(
        self, parameters: Parameters, starts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return metrics that are computed only at the end, each of shape (S,)."""
        return {}

    @staticmethod
    def from_batched_loss(
        losses: Callable[[Parameters, torch.Tensor, int], torch.Tensor],
        points: Callable[[np.random.Generator], Mapping[str, ArrayLike]],
        *,
        dtype: torch.dtype = torch.float64,
        size: int = CHUNK_ENTRIES // WIDEST_CHUNK,
    ) -> Problem:
        """Make a problem from a function that returns the losses of all starts.

        Parameters
        ----------
        losses : callable
            ``losses(parameters, starts, step) -> Tensor (S,)``; the loss of a start must
            not depend on another start.
        points : callable
            ``points(generator)`` draws the initial point of one start from its own numpy
            generator, and returns a dict of arrays.
        dtype : torch.dtype
            The precision of the parameters, of the descent and of final losses.
        size : int
            The size of the largest tensor of one start, in numbers.

        Examples
        --------
        The valley (1 - x)^2 + 100 (y - x^2)^2 from four points:

        >>> from descents import Problem, descend, Adam, Stop
        >>> def valley(parameters, starts, step):
        ...     x, y = parameters["x"], parameters["y"]
        ...     return (1 - x) ** 2 + 100 * (y - x**2) ** 2
        >>> def corner(generator):
        ...     return {"x": generator.uniform(-2, 2), "y": generator.uniform(-2, 2)}
        >>> runs = descend(Problem.from_batched_loss(valley, corner), starts=4,
        ...                steps=Adam(0.05), stop=Stop(5000))
        >>> bool(runs.losses.min() < 1e-12)  # the global minimum is 0, at (1, 1)
        True
        """
        from descents.optim.functions import FunctionProblem

        return FunctionProblem(losses, points, dtype, size)

    @staticmethod
    def from_loss(
        loss: Callable[[Parameters], torch.Tensor],
        points: Callable[[np.random.Generator], Mapping[str, ArrayLike]],
        *,
        dtype: torch.dtype = torch.float64,
        size: int = CHUNK_ENTRIES // WIDEST_CHUNK,
    ) -> Problem:
        """Make a problem from the loss of one start, vectorized by `torch.func.vmap`.

        Parameters
        ----------
        loss : callable
            ``loss(parameters) -> scalar Tensor``, for the parameters of one start, which
            have no start axis.
        points, dtype, size
            As in `from_batched_loss`.

        Examples
        --------
        >>> from descents import Problem, descend, GradientDescent
        >>> bowl = Problem.from_loss(
        ...     lambda parameters: (parameters["x"] - 3).square().sum(),
        ...     lambda generator: {"x": generator.normal(size=2)},
        ... )
        >>> runs = descend(bowl, starts=2, steps=GradientDescent(0.1))
        >>> runs.parameters["x"].round(6)
        array([[3., 3.],
               [3., 3.]])
        """
        of_all = lifted(loss)

        def losses(
            parameters: Parameters, starts: torch.Tensor, step: int
        ) -> torch.Tensor:
            return of_all(parameters)

        from descents.optim.functions import FunctionProblem

        return FunctionProblem(losses, points, dtype, size)


class Bound:
    """A problem bound to the starts of one chunk; the loop and update rules call this.

    Data that belongs to the starts, such as rows or masks, is looked up once here. The
    defaults call the methods of the problem.

    Attributes
    ----------
    problem : Problem
    starts : int64 Tensor of shape (S,)
        The numbers of the starts.
    inner : Inner
        Inner products of parameters, over all processes.
    stochastic : bool
        Whether `losses` are those of a random sample, such as a mini-batch.

    Examples
    --------
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: parameters["x"].square(),
    ...     lambda generator: {"x": generator.random()},
    ... )
    >>> bound = bowl.bind(torch.arange(2))
    >>> bound.losses_and_gradients({"x": torch.tensor([1.0, -2.0])}, 0)
    (tensor([1., 4.]), {'x': tensor([ 2., -4.])})
    """

    stochastic: bool = False

    def __init__(self, problem: Problem, starts: torch.Tensor) -> None:
        self.problem, self.starts = problem, starts
        self.inner = Inner.of(problem)
        self.constrained, self.device = problem.constrained, problem.device
        self._fused = problem.fused if isinstance(problem, Accelerated) else None

    @property
    def whole(self) -> Bound:
        """The same starts with the losses over all data, without randomness."""
        return self

    def part(self, places: torch.Tensor | slice) -> Bound:
        """Return this problem bound to some of the starts."""
        return self.problem.bind(self.starts[places])

    def losses(self, parameters: Parameters, step: int) -> torch.Tensor:
        """Return the loss of each start, shape (S,)."""
        return self.problem.losses(parameters, self.starts, step)

    def fused(
        self, parameters: Parameters, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients without autograd, or None if not implemented."""
        if self._fused is None:
            return None
        return self._fused(parameters, self.starts, step)

    def losses_and_gradients(
        self, parameters: Parameters, step: int
    ) -> tuple[torch.Tensor, Parameters]:
        """Return the losses of all starts and the gradient of each.

        Autograd differentiates the sum of the losses once. Because the loss of start k
        does not depend on start j, the gradient of the sum is the stack of the
        gradients. A problem may have a faster way (`Accelerated`).

        Returns
        -------
        losses : Tensor of shape (S,)
        gradients : dict of Tensor, shaped as the parameters

        Raises
        ------
        InvalidValueError
            If the losses are not one number for each start.
        """
        fused = self.fused(parameters, step)
        if fused is not None:
            return fused
        leaves = {
            name: value.detach().requires_grad_() for name, value in parameters.items()
        }
        with torch.enable_grad():
            losses = self.losses(leaves, step)
            check_losses(losses, self.starts.shape[0])
            if not losses.requires_grad:
                raise InvalidValueError(
                    "the losses do not depend on the parameters through torch "
                    "operations; compute them from the given tensors without detaching"
                )
            gradients = gradients_of(losses, tuple(leaves.values()))
        return losses.detach(), dict(zip(leaves, gradients, strict=True))

    def prox(self, parameters: Parameters, rates: Parameters) -> Parameters:
        """Return the prox of the part of the loss without a gradient: `Problem.prox`."""
        return self.problem.prox(parameters, rates)

    def metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return metrics to record beside the loss: `Problem.metrics`."""
        return self.problem.metrics(parameters, self.starts)

    def final_metrics(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Return metrics that are computed only at the end: `Problem.final_metrics`."""
        return self.problem.final_metrics(parameters, self.starts)

    def decays(self, name: str) -> bool:
        """Return whether weight decay acts on a parameter."""
        return True

    def plain_steps(
        self, parameters: Parameters, step: int, rates: torch.Tensor, count: int
    ) -> tuple[int, Parameters, Parameters] | None:
        """Take several steps of plain gradient descent at once; by default None.

        Parameters
        ----------
        rates : Tensor of shape (S,)
        count : int
            The maximum number of steps.

        Returns
        -------
        taken : int
            The number of steps taken, with the same bits as single steps. The result is
            None if the loss of a start is not finite before one of them.
        moved : dict of Tensor
            The parameters after the steps.
        gradients : dict of Tensor
            The gradients of the last step.
        """
        return None

    def graph_inputs(self, step: int) -> Parameters | None:
        """Return the per-step inputs as tensors, or None if steps cannot be captured.

        With these inputs (`with_inputs`), losses have to consist of torch operations that
        read no number and do not depend on the step, so that a CUDA graph can hold them.
        """
        return None

    def with_inputs(self, inputs: Parameters) -> Bound:
        """Return the bound problem whose steps read these tensors as their inputs."""
        raise NotImplementedError

    def buffers(self) -> Parameters:
        """Return values learned besides the parameters, such as running means."""
        return {}

    def load_buffers(self, buffers: Parameters) -> None:
        """Restore values that `buffers` returned."""


@runtime_checkable
class Accelerated(Protocol):
    """A problem with a faster way to losses and gradients than autograd."""

    def fused(
        self, parameters: Parameters, starts: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Parameters] | None:
        """Return losses and gradients as autograd would, up to rounding.

        None means that autograd is used.
        """


def stacked_points(
    problem: Problem,
    starts: Sequence[int],
    generators: Iterable[np.random.Generator],
) -> Parameters:
    """Return the initial points of starts, each drawn from its own generator.

    Raises
    ------
    InvalidValueError
        If a point is not a mapping of arrays, or the points differ in shape.
    """
    drawn: list[dict[str, np.ndarray]] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for start, generator in zip(starts, generators, strict=True):
        point = problem.point(generator, start)
        if not isinstance(point, Mapping) or not point:
            raise InvalidValueError(
                f"the initial point of start {start} is {type(point).__name__}; "
                "give a dict of arrays by name"
            )
        arrays = [np.asarray(value) for value in point.values()]
        shapes_here = {n: a.shape for n, a in zip(point, arrays, strict=True)}
        shapes = shapes or shapes_here
        if shapes_here != shapes:
            raise InvalidValueError(
                f"the initial point of start {start} has other names or shapes "
                f"than {shapes}; give every start the same"
            )
        drawn.append(dict(zip(point, arrays, strict=True)))
    return {
        name: torch.as_tensor(
            np.array([point[name] for point in drawn]), dtype=problem.dtype
        ).to(problem.device)
        for name in shapes
    }


def losses_and_gradients(
    problem: Problem, parameters: Parameters, starts: torch.Tensor, step: int
) -> tuple[torch.Tensor, Parameters]:
    """Return the losses of all starts and the gradient of each.

    It binds the problem to the starts. To take several steps, bind it once instead.

    Examples
    --------
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: parameters["x"].square(),
    ...     lambda generator: {"x": generator.random()},
    ... )
    >>> x = {"x": torch.tensor([1.0, -2.0])}
    >>> losses_and_gradients(bowl, x, torch.arange(2), 0)
    (tensor([1., 4.]), {'x': tensor([ 2., -4.])})
    """
    return problem.bind(starts).losses_and_gradients(parameters, step)
