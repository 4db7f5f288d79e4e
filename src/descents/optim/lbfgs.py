"""Update rules that search for a step length along a direction: for deterministic losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from descents.errors import InvalidValueError, for_caller
from descents.optim.curvature import first_length
from descents.optim.inner import Inner
from descents.optim.problem import Bound, Parameters
from descents.optim.rules import State, Update, UpdateRule
from descents.optim.stacked import chosen, flat, shaped, unflat
from descents.validation import whole_number

SUFFICIENT, CURVATURE = 1e-4, 0.9
"""The constants c1 and c2 of Wolfe's conditions, for sufficient decrease and curvature."""

TRIALS = 25
"""The maximum number of step lengths that a line search tries."""


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

    distributed: ClassVar[bool] = True

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
        inner = bound.inner
        waiting = torch.isfinite(losses) & inner.every(torch.isfinite(g).all(1))
        mapping = gradients
        for trial in range(TRIALS):
            rates = {n: shaped(t, p) for n, p in parameters.items()}
            tried = bound.prox(
                {n: p - rates[n] * gradients[n] for n, p in parameters.items()}, rates
            )
            if bound.constrained and trial == 0:
                mapping = {n: (p - tried[n]) / rates[n] for n, p in parameters.items()}
            new, sloped = bound.losses_and_gradients(tried, step)
            apart = flat(tried) - flat(parameters)
            square = inner.dot(apart, apart, parameters)
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
        sy = inner.dot(moved, change, parameters)
        bb = inner.dot(moved, moved, parameters) / sy.clamp_min(
            torch.finfo(g.dtype).tiny
        )
        following = torch.where(sy > 0, bb.clamp(max=10 * t).maximum(t / 10), 2 * t)
        evaluated = {"loss": best, **slopes}
        steepest = flat(mapping).double()
        gain = t0.double() * inner.dot(steepest, steepest, parameters) / 2
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
    distributed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_number("memory", self.memory, 1)

    def init(self, bound: Bound, parameters: Parameters) -> State:
        """Return an empty memory."""
        if bound.constrained:
            raise InvalidValueError(
                for_caller(
                    "--solver lbfgs supports neither --constraint nor --penalty l1; give "
                    "another --solver, or leave these out",
                    "L-BFGS supports neither constraints nor an l1 penalty; use another "
                    "update rule",
                )
            )
        x = flat(parameters)
        return {
            "memory": {
                # The moves s of the last steps, and below them the changes y of gradients.
                "pairs": x.new_zeros(len(x), 2 * self.memory, x.shape[1]),
                "used": torch.zeros(len(x), self.memory, dtype=torch.bool).to(x.device),
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
        memory = state["memory"]
        inner = bound.inner
        direction = -_inverse_times(memory, g, inner, parameters)
        slope = inner.dot(direction, g, parameters)
        length = torch.ones_like(losses)
        uphill = slope >= 0
        fresh = uphill | ~memory["used"][:, 0]
        if bool(fresh.any()):
            direction = torch.where(uphill[:, None], -g, direction)
            slope = inner.dot(direction, g, parameters)
            # Without a memory the scale of the Hessian is unknown, and so is the length.
            first = first_length(bound, parameters, g, step)
            length = torch.where(fresh, first, length)
        # With H approximated from the memory, the gain of a Newton step: g' H^-1 g / 2.
        gain = -0.5 * (length * slope).double()
        line = _Line(bound, parameters, x, direction, step)
        with np.errstate(invalid="ignore", over="ignore"):  # failed starts are NaN
            y, best, slopes = _line_search(line, losses, g, slope, length)
        memory = _remembered(memory, y - x, slopes - g, inner, parameters)
        evaluated = {"loss": best, **unflat(slopes, parameters)}
        moved = unflat(y, parameters)
        remembered = {"memory": memory, "known": evaluated}
        return Update(moved, remembered, losses, gradients, gain)


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


@dataclass(frozen=True)
class _Line:
    """The line x + t d, and what evaluates a problem on it."""

    bound: Bound
    parameters: Parameters
    x: torch.Tensor
    direction: torch.Tensor
    step: int

    def at(
        self, length: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the points with these t, their losses and gradients, and g(x + t d)'d."""
        point = torch.addcmul(self.x, length[:, None], self.direction)
        there = unflat(point, self.parameters)
        losses, gradients = self.bound.losses_and_gradients(there, self.step)
        g = flat(gradients)
        rise = self.bound.inner.dot(g, self.direction, self.parameters)
        return point, losses, g, rise


def _line_search(
    line: _Line,
    losses: torch.Tensor,
    g: torch.Tensor,
    slope: torch.Tensor,
    length: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the points, losses and gradients that a bracketing search accepts.

    Along x + t d it looks for a length t that meets both weak Wolfe conditions,

    - sufficient decrease, f(x + t d) <= f(x) + c1 t g'd, and
    - curvature, g(x + t d)'d >= c2 g'd.

    Without the first t is too long and becomes `high`; with the first alone it is too
    short and becomes `low`. The next t is in the middle, or twice `low` while `high` is
    infinite. A start that finds no such t keeps the last point with sufficient decrease,
    or else stays where it is.

    Each start has one t, so these decisions are made in NumPy, which is several times as
    fast as torch on so few numbers.
    """
    f, downhill, t = (_on_host(part) for part in (losses, slope, length))
    slack = 4 * torch.finfo(losses.dtype).eps * np.abs(f)
    low, high = np.zeros_like(t), np.full_like(t, np.inf)
    waiting = np.isfinite(f) & np.isfinite(downhill) & (downhill < 0)
    y, best, slopes = line.x, losses, g
    for trial in range(TRIALS):
        if not waiting.any():
            break
        if trial:
            length = torch.as_tensor(t, dtype=losses.dtype, device=losses.device)
        point, new, there, rise = line.at(length)
        value, rising = _on_host(new), _on_host(rise)
        # A gradient with an entry that is not finite has no finite product with d.
        enough = np.isfinite(rising) & (value <= f + SUFFICIENT * t * downhill + slack)
        flatter = rising >= CURVATURE * downhill
        accepted = waiting & enough
        if (accepted & flatter).all():  # usual, at the first trial
            return point, new, there
        mask = torch.as_tensor(accepted, device=losses.device)
        y = torch.where(mask[:, None], point, y)
        slopes = torch.where(mask[:, None], there, slopes)
        best = torch.where(mask, new, best)
        low, high = np.where(accepted, t, low), np.where(waiting & ~enough, t, high)
        waiting &= ~(enough & flatter)
        middle = np.where(np.isfinite(high), (low + high) / 2, 2 * low)
        t = np.where(waiting, middle, t)
    return y, best, slopes


def _on_host(values: torch.Tensor) -> np.ndarray:
    """Return one value for each start as float64."""
    array: np.ndarray = values.numpy(force=True).astype(np.float64)
    return array


def _inverse_times(
    memory: Parameters, g: torch.Tensor, inner: Inner, like: Parameters
) -> torch.Tensor:
    """Return H^-1 g for the pairs (s, y) of the memory, in the compact form of [1]_.

    With S and Y the pairs as columns, R the triangle of S'Y where y is not older than s,
    D its diagonal and c = s'y / y'y of the newest pair,

        H^-1 g = c g + S R^-T ((D + c Y'Y) p - c Y'g) - c Y p,  p = R^-1 S'g.

    This is the two-loop recursion as two triangular systems: a few operations whatever
    the number of pairs. A pair that is not used has s = y = 0 and changes nothing.

    References
    ----------
    .. [1] Byrd, Nocedal and Schnabel (1994), "Representations of quasi-Newton matrices
       and their use in limited memory methods", Mathematical Programming 63.
    """
    pairs, used = memory["pairs"], memory["used"]
    m = used.shape[1]
    own = inner.counted(pairs, like)
    by_changes, by_gradient = inner.totals(
        torch.bmm(own, pairs[:, m:].mT),  # S'Y above Y'Y
        (own * g[:, None]).sum(2, keepdim=True),  # S'g above Y'g
    )
    sy, yy = by_changes.chunk(2, 1)
    # The newest pair comes first, so that R is the lower triangle.
    d = sy.diagonal(dim1=1, dim2=2)[:, :, None]
    c = sy[:, :1, :1] / yy[:, :1, :1].clamp_min(torch.finfo(g.dtype).tiny)
    if not bool(used.all()):
        sy = sy + torch.diag_embed((~used).to(g.dtype))
        c = torch.where(used[:, :1, None], c, torch.ones_like(c))
    sg, yg = by_gradient.chunk(2, 1)
    p = torch.linalg.solve_triangular(sy, sg, upper=False)
    right = torch.addcmul(d * p, c, torch.baddbmm(yg, yy, p, beta=-1))
    by_moves = torch.linalg.solve_triangular(sy.mT, right, upper=True)
    factors = torch.cat([by_moves, -c * p], 1)
    return torch.baddbmm(c * g[:, None], factors.mT, pairs)[:, 0]


def _remembered(
    memory: Parameters,
    move: torch.Tensor,
    change: torch.Tensor,
    inner: Inner,
    like: Parameters,
) -> Parameters:
    """Return the memory with the newest pair (s, y) in front, if its curvature is positive.

    Otherwise the memory stays as it is; that of a start that did not move is emptied.
    """
    pairs, used = memory["pairs"], memory["used"]
    sizes, lengths, product = inner.norms_and_product(move, change, like)
    usable = product > 1e-12 * sizes * lengths
    m = used.shape[1]
    moves = [move[:, None], pairs[:, : m - 1]]
    changes = [change[:, None], pairs[:, m : 2 * m - 1]]
    longer = torch.cat([*moves, *changes], 1)
    more = torch.cat([usable[:, None], used[:, :-1]], 1)
    if bool(usable.all()):  # every start moved
        return {"pairs": longer, "used": more}
    stuck = (sizes == 0)[:, None]
    pairs = torch.where(usable[:, None, None], longer, pairs)
    return {
        "pairs": torch.where(stuck[..., None], torch.zeros_like(pairs), pairs),
        "used": torch.where(usable[:, None], more, used) & ~stuck,
    }
