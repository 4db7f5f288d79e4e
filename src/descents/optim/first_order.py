"""The update rules that use gradients alone, for every kind of problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from descents.devices import constant
from descents.errors import InvalidValueError
from descents.optim.problem import Bound, Parameters, flat
from descents.optim.rules import State, Update, UpdateRule
from descents.text import counted
from descents.validation import real_number, whole_number


@dataclass(frozen=True)
class _FirstOrder(UpdateRule):
    """Base of the rules that follow one gradient: learning rates and the prox."""

    learning_rate: float | Sequence[float] = 0.01

    def __post_init__(self) -> None:
        rates = self.learning_rate
        if not isinstance(rates, float | int) and np.ndim(rates):
            checked = tuple(
                real_number("a learning rate", rate, 0, strict=True) for rate in rates
            )
            if not checked:
                raise InvalidValueError(
                    "learning_rate is empty; give a rate for each start"
                )
            object.__setattr__(self, "learning_rate", checked)
            object.__setattr__(self, "_cache", {})
        else:
            rate = real_number("learning_rate", rates, 0, strict=True)
            object.__setattr__(self, "learning_rate", rate)

    def check_starts(self, last: int) -> None:
        """Raise if there are fewer rates than starts."""
        count = len(self.learning_rate) if isinstance(self.learning_rate, tuple) else 0
        if 0 < count <= last:
            raise InvalidValueError(
                f"learning_rate has {counted(count, 'rate')}, but start {last} is "
                "requested; give a rate for each start"
            )

    def _rates(self, parameters: Parameters, starts: torch.Tensor) -> Parameters:
        """Return the rate of each start, shaped to multiply each parameter."""
        if isinstance(self.learning_rate, float):  # one rate for all starts
            return {
                name: constant(self.learning_rate, value.dtype, value.device)
                for name, value in parameters.items()
            }
        cache: dict[torch.device, torch.Tensor] = vars(self)["_cache"]
        if starts.device not in cache:
            with torch.inference_mode(False):  # the cache outlives the caller's mode
                cache[starts.device] = torch.tensor(
                    self.learning_rate, dtype=torch.float64, device=starts.device
                )
        rates = cache[starts.device][starts]
        return {
            name: rates.to(value).reshape(-1, *[1] * (value.ndim - 1))
            for name, value in parameters.items()
        }

    def _move(
        self,
        bound: Bound,
        parameters: Parameters,
        directions: Parameters,
        gradients: Parameters,
        scales: Parameters | None = None,
    ) -> tuple[Parameters, Parameters]:
        """Return prox(x - rate * scale * direction), and the prox-gradient mapping.

        The prox-gradient mapping is (x - prox(x - rate g)) / rate, which without
        constraints is the gradient g. `scales` multiply the rate of each entry, as in
        Adam; the prox of the step uses the scaled rates, that of the mapping does not.
        """
        if not bound.constrained and isinstance(self.learning_rate, float):
            return self._plain_move(parameters, directions, scales), gradients
        rates = self._rates(parameters, bound.starts)
        used = rates if scales is None else {n: r * scales[n] for n, r in rates.items()}
        moved = {n: p - used[n] * directions[n] for n, p in parameters.items()}
        if not bound.constrained:
            return moved, gradients
        plain = bound.prox(  # prox(x - rate g)
            {n: p - rates[n] * gradients[n] for n, p in parameters.items()}, rates
        )
        mapping = {n: (p - plain[n]) / rates[n] for n, p in parameters.items()}
        return bound.prox(moved, used), mapping

    def _plain_move(
        self, parameters: Parameters, directions: Parameters, scales: Parameters | None
    ) -> Parameters:
        """Return the step for one rate and no constraints, by fewer calls of torch."""
        along = [directions[name] for name in parameters]
        if scales is None:
            moves = _times(along, self.learning_rate)
        else:
            used = [scales[name] for name in parameters]
            moves = _times(used, self.learning_rate)
            torch._foreach_mul_(moves, along)
        moved = torch._foreach_sub(list(parameters.values()), moves)
        return dict(zip(parameters, moved, strict=True))


@dataclass(frozen=True)
class GradientDescent(_FirstOrder):
    """Plain gradient descent: x <- x - rate * gradient.

    Parameters
    ----------
    learning_rate : float or sequence of float
        Above 0: one rate for all starts, or rate k for start k.

    Examples
    --------
    Two rates for two starts of (x - 1)^2; the second is the exact step:

    >>> from descents import Problem, descend, Stop
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: (parameters["x"] - 1).square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> descend(bowl, 2, steps=GradientDescent([0.25, 0.5]), stop=Stop(1)).losses
    array([0.25, 0.  ])
    """

    capturable: ClassVar[bool] = True

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        losses, gradients = bound.losses_and_gradients(parameters, step)
        moved, mapping = self._move(bound, parameters, gradients, gradients)
        return Update(moved, {}, losses, mapping)

    def leap(
        self,
        bound: Bound,
        parameters: Parameters,
        step: int,
        count: int,
    ) -> tuple[int, Parameters, State] | None:
        """Take up to `count` steps at once if the problem can, with the same bits.

        Returns
        -------
        taken : int
        parameters : dict of Tensor
        state : dict
        """
        if type(self) is not GradientDescent or bound.constrained:
            return None
        rates = next(iter(self._rates(parameters, bound.starts).values())).reshape(-1)
        rates = rates.expand(len(bound.starts)).contiguous()
        steps = bound.plain_steps(parameters, step, rates, count)
        if steps is None:
            return None
        taken, moved, _ = steps
        return taken, moved, {}


@dataclass(frozen=True)
class Momentum(_FirstOrder):
    """Gradient descent with momentum: v <- momentum * v + gradient; x <- x - rate * v.

    Parameters
    ----------
    learning_rate : float or sequence of float
    momentum : float
        From 0 to below 1.
    nesterov : bool
        Step along gradient + momentum * v instead of v (Sutskever et al., 2013, ICML, in
        the form of torch.optim.SGD).

    Examples
    --------
    >>> Momentum(0.1)
    Momentum(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    momentum: float = 0.9
    nesterov: bool = False
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("momentum", self.momentum)

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return a velocity of zero."""
        return {"velocity": _zeros(parameters)}

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        losses, gradients = bound.losses_and_gradients(parameters, step)
        g = list(gradients.values())
        v = _times([state["velocity"][n] for n in gradients], self.momentum)
        torch._foreach_add_(v, g)  # v = momentum * v + g
        velocity = directions = dict(zip(gradients, v, strict=True))
        if self.nesterov:  # g + momentum * v
            ahead = _times(v, self.momentum)
            torch._foreach_add_(ahead, g)
            directions = dict(zip(gradients, ahead, strict=True))
        moved, mapping = self._move(bound, parameters, directions, gradients)
        return Update(moved, {"velocity": velocity}, losses, mapping)


@dataclass(frozen=True)
class Adam(_FirstOrder):
    """Adam [1]_: x <- x - rate * m' / (sqrt(s') + epsilon).

    m and s are running means of the gradient and of its square. They begin at zero; m'
    and s' are m and s with this bias corrected, m / (1 - beta1^t) and s / (1 - beta2^t)
    after t steps.

    Parameters
    ----------
    learning_rate : float or sequence of float
    beta1, beta2 : float
        From 0 to below 1.
    epsilon : float
        Above 0.

    References
    ----------
    .. [1] Kingma and Ba (2015), "Adam: a method for stochastic optimization", ICLR.

    Examples
    --------
    >>> Adam(0.1).beta2
    0.999
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        real_number("epsilon", self.epsilon, 0, strict=True)

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return running means of zero."""
        return {"mean": _zeros(parameters), "square": _zeros(parameters)}

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        losses, gradients = bound.losses_and_gradients(parameters, step)
        # One call for all parameters: for small ones, the calls take most of the time.
        g = list(gradients.values())
        m = torch._foreach_lerp(  # beta1 m + (1 - beta1) g
            [state["mean"][name] for name in gradients], g, 1 - self.beta1
        )
        # s = beta2 s + (1 - beta2) g^2
        s = _times([state["square"][name] for name in gradients], self.beta2)
        squares = _times(g, 1 - self.beta2)
        torch._foreach_mul_(squares, g)
        torch._foreach_add_(s, squares)
        # scale = 1 / (sqrt(s') + epsilon)
        scale = _over(s, 1 - self.beta2 ** (step + 1))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, self.epsilon)
        torch._foreach_reciprocal_(scale)
        ahead = _over(m, 1 - self.beta1 ** (step + 1))  # m'
        mean, square, directions, scales = (
            dict(zip(gradients, tensors, strict=True))
            for tensors in (m, s, ahead, scale)
        )
        moved, mapping = self._move(bound, parameters, directions, gradients, scales)
        return Update(moved, {"mean": mean, "square": square}, losses, mapping)


SUFFICIENT, CURVATURE = 1e-4, 0.9
"""The constants c1 and c2 of Wolfe's conditions, for sufficient decrease and curvature."""
TRIALS = 25
"""The maximum number of step lengths that a line search tries."""


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay [1]_: x <- (1 - rate * weight_decay) x, then Adam.

    Only parameters that the problem declares to be weights decay (`Bound.decays`).

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon
        As `Adam` takes them.
    weight_decay : float
        At least 0.

    References
    ----------
    .. [1] Loshchilov and Hutter (2019), "Decoupled weight decay regularization", ICLR.

    Examples
    --------
    >>> AdamW(0.1).weight_decay
    0.01
    """

    weight_decay: float = 0.01
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        real_number("weight_decay", self.weight_decay, 0)

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        update = super().update(bound, parameters, state, step)
        rates = self._rates(parameters, bound.starts)
        shrunk = {
            name: value - rates[name] * self.weight_decay * parameters[name]
            if bound.decays(name)
            else value
            for name, value in update.parameters.items()
        }
        return update._replace(parameters=shrunk)


@dataclass(frozen=True)
class LineDescent(UpdateRule):
    """Gradient descent with a line search in place of a rate, for deterministic losses.

    x <- prox(x - t gradient), where t begins at the step length of Barzilai and Borwein
    [1]_ and is halved until the loss falls by at least a quarter of ||move||^2 / t.

    References
    ----------
    .. [1] Barzilai and Borwein (1988), "Two-point step size gradient methods", IMA
       Journal of Numerical Analysis 8.

    Examples
    --------
    >>> from descents import Problem, descend, Stop
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: (parameters["x"] - 1).square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> descend(bowl, 1, steps=LineDescent(), stop=Stop(30)).losses
    array([0.])
    """

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return rates of zero, which stand for a rate that is still to be found."""
        rate = next(iter(parameters.values()))
        return {"rate": {"rate": rate.new_zeros(len(rate))}}

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step."""
        losses, gradients = _evaluated(bound, parameters, state, step)
        g = flat(gradients)
        previous = state["rate"]["rate"]
        t = previous
        if not bool((previous > 0).all()):
            first = first_length(bound, parameters, g, step)
            t = torch.where(previous > 0, previous, first)
        t0 = t  # for the gain; t itself is halved below
        accepted = {n: p.clone() for n, p in parameters.items()}
        best, slopes = losses.clone(), {n: v.clone() for n, v in gradients.items()}
        # Starts in `waiting` have no accepted step yet; the others no longer change.
        waiting = torch.isfinite(losses) & torch.isfinite(g).all(1)
        mapping = gradients
        for trial in range(TRIALS):
            rates = {n: _shaped(t, p) for n, p in parameters.items()}
            tried = bound.prox(
                {n: p - rates[n] * gradients[n] for n, p in parameters.items()}, rates
            )
            if bound.constrained and trial == 0:
                mapping = {n: (p - tried[n]) / rates[n] for n, p in parameters.items()}
            new, sloped = bound.losses_and_gradients(tried, step)
            square = (flat(tried) - flat(parameters)).square().sum(1)
            slack = 4 * torch.finfo(new.dtype).eps * losses.abs()
            # The loss fell by at least ||move||^2 / (4 t), up to rounding.
            enough = waiting & (new <= losses - 0.25 * square / t + slack)
            accepted = chosen(enough, tried, accepted)
            slopes = chosen(enough, sloped, slopes)
            best = torch.where(enough, new, best)
            waiting = waiting & ~enough
            if not bool(waiting.any()):
                break
            t = torch.where(waiting, t / 2, t)
        moved, change = flat(accepted) - flat(parameters), flat(slopes) - g
        # Barzilai and Borwein: the next t is s's / s'y, where s is the move and y the
        # change of the gradient. It stays between t / 10 and 10 t; 2 t if s'y <= 0.
        sy = (moved * change).sum(1)
        bb = moved.square().sum(1) / sy.clamp_min(torch.finfo(g.dtype).tiny)
        following = torch.where(sy > 0, bb.clamp(max=10 * t).maximum(t / 10), 2 * t)
        evaluated = {"loss": best, **slopes}
        gain = t0.double() * flat(mapping).double().square().sum(1) / 2
        remembered = {"rate": {"rate": following}, "known": evaluated}
        return Update(accepted, remembered, losses, mapping, gain)


@dataclass(frozen=True)
class LBFGS(UpdateRule):
    """Limited-memory BFGS [1]_ with a line search for the weak Wolfe conditions [2]_.

    For smooth, deterministic losses without constraints. Each start has its own memory
    and its own step length; all starts are evaluated together.

    Parameters
    ----------
    memory : int
        The number of steps that the approximate Hessian is built from.

    References
    ----------
    .. [1] Liu and Nocedal (1989), "On the limited memory BFGS method for large scale
       optimization", Mathematical Programming 45.
    .. [2] Lewis and Overton (2013), "Nonsmooth optimization via quasi-Newton methods",
       Mathematical Programming 141.

    Examples
    --------
    >>> from descents import Problem, descend, Stop
    >>> def valley(parameters, starts, step):
    ...     x, y = parameters["x"], parameters["y"]
    ...     return (1 - x) ** 2 + 100 * (y - x**2) ** 2
    >>> def corner(generator):
    ...     return {"x": generator.uniform(-2, 2), "y": generator.uniform(-2, 2)}
    >>> runs = descend(Problem.from_batched_loss(valley, corner), starts=4, steps=LBFGS(),
    ...                stop=Stop(100))
    >>> bool(runs.losses.max() < 1e-20)
    True
    """

    memory: int = 10

    def __post_init__(self) -> None:
        whole_number("memory", self.memory, 1)

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return an empty memory."""
        if bound.constrained:
            raise InvalidValueError(
                "L-BFGS supports neither constraints nor an l1 penalty; use another "
                "update rule"
            )
        x = flat(parameters)
        blank = x.new_zeros(len(x), self.memory, x.shape[1])
        return {
            "memory": {
                "moves": blank,
                "changes": blank.clone(),
                "weights": x.new_zeros(len(x), self.memory),
            }
        }

    def update(
        self,
        bound: Bound,
        parameters: Parameters,
        state: State,
        step: int,
    ) -> Update:
        """Take one step: a direction, and a line search along it."""
        losses, gradients = _evaluated(bound, parameters, state, step)
        x, g = flat(parameters), flat(gradients)
        direction = -_inverse_times(state["memory"], g)
        uphill = (direction * g).sum(1) >= 0
        direction = torch.where(uphill[:, None], -g, direction)
        # Without a memory the scale of the Hessian is unknown, and so is the length.
        fresh = uphill | ~(state["memory"]["weights"] > 0).any(1)
        length = torch.ones_like(losses)
        if bool(fresh.any()):
            first = first_length(bound, parameters, g, step)
            length = torch.where(fresh, first, length)
        # With H approximated from the memory, the gain of a Newton step: g' H^-1 g / 2.
        gain = -0.5 * (length[:, None] * direction * g).double().sum(1)
        y, best, slopes = _line_search(
            bound, parameters, (losses, g), direction, length, step
        )
        memory = _remembered(state["memory"], y - x, slopes - g)
        evaluated = {"loss": best, **_unflat(slopes, parameters)}
        moved = _unflat(y, parameters)
        remembered = {"memory": memory, "known": evaluated}
        return Update(moved, remembered, losses, gradients, gain)


def curvature_along(
    bound: Bound,
    parameters: Parameters,
    direction: torch.Tensor,
    step: int,
) -> torch.Tensor:
    """Return d' H d for each start, by differentiating the gradient along d.

    Parameters
    ----------
    bound : Bound
    parameters : dict of Tensor, each of shape (S, ...)
    direction : Tensor of shape (S, P)
        d, in the order of `flat`.
    step : int

    Returns
    -------
    Tensor of shape (S,)

    Examples
    --------
    >>> from descents import Problem
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: 3 * parameters["x"].square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> x = {"x": torch.zeros(2)}
    >>> bound = bowl.bind(torch.arange(2))
    >>> curvature_along(bound, x, torch.tensor([[1.0], [2.0]]), 0)
    tensor([ 6., 24.])
    """
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.inference_mode(False), torch.enable_grad():
        losses = bound.losses(leaves, step)
        gradients = torch.autograd.grad(
            losses.sum(), list(leaves.values()), create_graph=True, allow_unused=True
        )
        slopes = {
            name: torch.zeros_like(leaf) if g is None else g
            for (name, leaf), g in zip(leaves.items(), gradients, strict=True)
        }
        along = (flat(slopes) * direction).sum()  # g'd
        if not along.requires_grad:  # the loss is linear here
            return direction.new_zeros(len(direction))
        # The gradient of g'd is H d.
        bent = torch.autograd.grad(along, list(leaves.values()), materialize_grads=True)
    return (flat(dict(zip(leaves, bent, strict=True))) * direction).sum(1)


def first_length(
    bound: Bound,
    parameters: Parameters,
    gradient: torch.Tensor,
    step: int,
) -> torch.Tensor:
    """Return the length t of a first step x - t g, shape (S,).

    The step leads to the minimum of the quadratic with the same slope and curvature, t =
    g'g / |g'Hg|, but is not longer than the point itself, ||t g|| <= ||x||. It does not
    depend on the units of the parameters or of the loss.
    """
    square = gradient.square().sum(1)
    norm = square.sqrt().clamp_min(torch.finfo(gradient.dtype).tiny)
    bent = curvature_along(bound, parameters, gradient, step).abs()
    size = flat(parameters).norm(dim=1)
    # Without curvature, go 1% of ||x||. At x = 0 only the curvature gives a scale.
    least = torch.where(size > 0, 0.01 * size, 1e-5)
    most = torch.where(size > 0, size, torch.inf)
    length = torch.where(bent > 0, square / bent, least / norm)
    length = torch.minimum(length, most / norm)
    return torch.where(torch.isfinite(length), length, least / norm)


def gains(
    bound: Bound,
    parameters: Parameters,
    mapping: Mapping[str, torch.Tensor],
    step: int,
) -> torch.Tensor:
    """Return how much the best step along the prox-gradient mapping m lowers each loss.

    To second order this is (m'm)^2 / (2 |m'Hm|). It does not depend on the units of the
    parameters, if all have the same, nor on a learning rate.

    Returns
    -------
    float64 Tensor of shape (S,)
        Infinite where the loss has a slope but no curvature along it.

    Examples
    --------
    >>> from descents import Problem
    >>> bowl = Problem.from_batched_loss(
    ...     lambda parameters, starts, step: 3 * parameters["x"].square(),
    ...     lambda generator: {"x": 0.0},
    ... )
    >>> x = {"x": torch.tensor([2.0])}
    >>> gains(bowl.bind(torch.arange(1)), x, {"x": 6 * x["x"]}, 0)  # all of the loss
    tensor([12.], dtype=torch.float64)
    """
    along = flat(mapping)
    square = along.double().square().sum(1)
    bent = curvature_along(bound, parameters, along, step).double().abs()
    gain = torch.where(bent > 0, square.square() / (2 * bent), torch.inf)
    return torch.where(square > 0, gain, square)


def _evaluated(
    bound: Bound,
    parameters: Parameters,
    state: State,
    step: int,
) -> tuple[torch.Tensor, Parameters]:
    """Return losses and gradients, from the last line search if it computed them."""
    if "known" not in state:
        return bound.losses_and_gradients(parameters, step)
    evaluated = dict(state["known"])
    return evaluated.pop("loss"), evaluated


def _line_search(
    bound: Bound,
    parameters: Parameters,
    here: tuple[torch.Tensor, torch.Tensor],
    direction: torch.Tensor,
    length: torch.Tensor,
    step: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the points, losses and gradients that a bracketing search accepts.

    Along x + t d it looks for a length t that meets both weak Wolfe conditions,

    - sufficient decrease, f(x + t d) <= f(x) + c1 t g'd, and
    - curvature, g(x + t d)'d >= c2 g'd.

    Without the first t is too long and becomes `high`; with the first alone it is too
    short and becomes `low`. The next t is in the middle, or twice `low` while `high` is
    infinite. A start that finds no such t keeps the last point with sufficient decrease,
    or else stays where it is.
    """
    losses, g = here
    x = flat(parameters)
    slope = (g * direction).sum(1)
    low, high = torch.zeros_like(length), torch.full_like(length, torch.inf)
    y, best, slopes = x.clone(), losses.clone(), g.clone()
    waiting = torch.isfinite(losses) & torch.isfinite(direction).all(1) & (slope < 0)
    slack = 4 * torch.finfo(losses.dtype).eps * losses.abs()
    for _ in range(TRIALS):
        if not bool(waiting.any()):
            break
        tried = x + length[:, None] * direction
        new, gradients = bound.losses_and_gradients(_unflat(tried, parameters), step)
        tried_slopes = flat(gradients)
        enough = new <= losses + SUFFICIENT * length * slope + slack
        enough &= torch.isfinite(tried_slopes).all(1)
        flatter = (tried_slopes * direction).sum(1) >= CURVATURE * slope
        if bool((waiting & enough & flatter).all()):  # usual, at the first trial
            return tried, new, tried_slopes
        accepted = (waiting & enough)[:, None]
        y, slopes = (
            torch.where(accepted, tried, y),
            torch.where(accepted, tried_slopes, slopes),
        )
        best = torch.where(accepted[:, 0], new, best)
        low = torch.where(waiting & enough, length, low)
        high = torch.where(waiting & ~enough, length, high)
        waiting = waiting & ~(enough & flatter)
        middle = torch.where(torch.isfinite(high), (low + high) / 2, 2 * low)
        length = torch.where(waiting, middle, length)
    return y, best, slopes


def _inverse_times(memory: Parameters, g: torch.Tensor) -> torch.Tensor:
    """Return H^-1 g by the two-loop recursion over the pairs (s, y) of the memory.

    With r = 1 / s'y: from the newest pair on, a = r s'q and q <- q - a y; then q <- q
    s'y / y'y with the newest pair; then from the oldest on, b = r y'q and q <- q + (a -
    b) s. A pair with weight 0 is empty and changes nothing.
    """
    # r s and r y, so that the loops only multiply and sum.
    weights = memory["weights"][..., None]
    moves, changes = memory["moves"].unbind(1), memory["changes"].unbind(1)
    by_moves = (weights * memory["moves"]).unbind(1)
    by_changes = (weights * memory["changes"]).unbind(1)
    q, shares = g, []
    for k in range(len(moves)):  # from the newest pair to the oldest
        share = (by_moves[k] * q).sum(1, keepdim=True)  # a
        q = torch.addcmul(q, share, changes[k], value=-1)
        shares.append(share)
    square = changes[0].square().sum(1, keepdim=True)
    newest = weights[:, 0]
    # s'y / y'y; 1 while the memory is empty
    scale = 1 / (newest * square).clamp_min(1e-30)
    q = torch.where(newest > 0, scale, torch.ones_like(scale)) * q
    for k in reversed(range(len(moves))):
        back = (by_changes[k] * q).sum(1, keepdim=True)  # b
        q = torch.addcmul(q, shares[k] - back, moves[k])
    return q


def _remembered(
    memory: Parameters, move: torch.Tensor, change: torch.Tensor
) -> Parameters:
    """Return the memory with the newest pair (s, y) in front, if its curvature is positive.

    Otherwise the memory stays as it is; that of a start that did not move is emptied.
    """
    sy = (move * change).sum(1)
    norm = torch.linalg.vector_norm  # a quarter of the time of Tensor.norm
    usable = sy > 1e-12 * norm(move, dim=1) * norm(change, dim=1)
    weight = torch.where(usable, 1 / sy.clamp_min(1e-300), torch.zeros_like(sy))
    added = {"moves": move, "changes": change, "weights": weight}
    longer = {
        name: torch.cat([added[name][:, None], old[:, :-1]], 1)
        for name, old in memory.items()
    }
    if bool(usable.all()):  # every start moved
        return longer
    stuck = move.square().sum(1) == 0
    result = {}
    for name, old in memory.items():
        new = torch.where(_shaped(usable, old), longer[name], old)
        result[name] = torch.where(_shaped(stuck, old), torch.zeros_like(old), new)
    return result


def _times(values: Sequence[torch.Tensor], factor: Any) -> list[torch.Tensor]:
    """Return each tensor times a number."""
    number: Any = _number(factor, values[0])
    return list(torch._foreach_mul(list(values), number))


def _number(value: Any, like: torch.Tensor) -> Any:
    """Return a number as a cached tensor on a CPU: for small tensors, twice as fast."""
    if like.device.type != "cpu":
        return value
    key = value, like.dtype
    if key not in _numbers:
        _numbers[key] = constant(value, like.dtype, like.device)
    return _numbers[key]


_numbers: dict[tuple[float, torch.dtype], torch.Tensor] = {}
"""The cache of `_number`."""


def _over(values: Sequence[torch.Tensor], divisor: Any) -> list[torch.Tensor]:
    """Return each tensor over a number, which is a tensor in a CUDA graph."""
    if isinstance(divisor, torch.Tensor):
        return [value / divisor for value in values]
    return list(torch._foreach_div(list(values), divisor))


def _shaped(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return one value for each start, shaped to multiply a parameter."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def chosen(mask: torch.Tensor, moved: Parameters, rest: Parameters) -> Parameters:
    """Return the moved parameters where the mask is true, else the old ones.

    Examples
    --------
    >>> mask = torch.tensor([True, False])
    >>> chosen(mask, {"x": torch.ones(2, 1)}, {"x": torch.zeros(2, 1)})["x"].T
    tensor([[1., 0.]])
    """
    return {
        name: torch.where(_shaped(mask, value), value, rest[name])
        for name, value in moved.items()
    }


def _unflat(values: torch.Tensor, like: Parameters) -> Parameters:
    """Return flat values as parameters again: the inverse of `flat`."""
    sizes = [value[0].numel() for value in like.values()]
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(
            like.items(), values.split_with_sizes(sizes, 1), strict=True
        )
    }


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= real_number(name, value) < 1:
        raise InvalidValueError(f"{name} is {value!r}; give a number in [0, 1)")


def _zeros(parameters: Parameters) -> Parameters:
    return {name: torch.zeros_like(value) for name, value in parameters.items()}
