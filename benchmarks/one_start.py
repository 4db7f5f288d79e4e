"""One start, and ten, beside one start of a plain PyTorch loop of the same work.

Seconds are those of the processor, of one thread each, as what a start costs is to be
told apart from what a machine can do at once. Both sides take the same number of steps
from initial points of the same distribution; quality is 1 where all losses are finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from suite import Case, Contender, Outcome, Run

STEPS = 1000
BATCH = 30
MOST_OF_ONE, MOST_OF_TEN, MOST_OF_THE_SHEET = 1.4, 2.5, 1.1


def iris() -> tuple[np.ndarray, np.ndarray]:
    """Return the standardized table, and the classes."""
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    return ((X - X.mean(0)) / X.std(0)).astype(np.float32), y


def timed(work: Callable[[], float]) -> Run:
    """Return a run that is measured by the time of the processor."""

    def run() -> Outcome:
        begun = time.process_time()
        loss = work()
        taken = time.process_time() - begun
        return Outcome(float(math.isfinite(loss)), taken, f"loss {loss:.4g}")

    return run


# Ours


def sheet() -> Run:
    """Call the function of the report's exercise sheet."""
    import torch

    from descents import gd_factorise_ad

    table = torch.as_tensor(iris()[0])

    def work() -> float:
        U, V = gd_factorise_ad(table, 2, lr=0.001)
        return float((table - U @ V.T).square().sum())

    return timed(work)


def ours(kind: str, rule: str, starts: int) -> Run:
    """Descend from some starts."""
    from descents import LBFGS, Adam, GradientDescent, Stop, descend

    problem, rate = _problem(kind)
    steps: Any = {"gd": GradientDescent(rate), "adam": Adam(0.01), "lbfgs": LBFGS()}
    count = STEPS // 10 if rule == "lbfgs" else STEPS

    def work() -> float:
        runs = descend(problem, starts, steps=steps[rule], stop=Stop(count))
        return float(runs.losses.sum())

    return timed(work)


def module(rule: str, starts: int) -> Run:
    """Train a torch module through `train_module`."""
    import torch

    from descents import train_module

    X, y = iris()
    rate = {"gd": 0.1, "adam": 0.01}[rule]

    def work() -> float:
        runs = train_module(
            lambda: _layers(torch),
            X,
            y,
            n_starts=starts,
            optimizer=rule,
            learning_rate=rate,
            max_epochs=STEPS,
        )
        return float(runs.losses.sum())

    return timed(work)


def _problem(kind: str) -> tuple[Any, float]:
    """Return a problem, and a rate that gradient descent on it can take."""
    import torch

    from descents import Factorization, Network, Problem

    X, y = iris()
    if kind == "factorization":
        return Factorization(X, 2), 0.001
    if kind == "penalized":
        return Factorization(_with_holes(X), 2, penalty=1.0), 0.001
    if kind == "network":
        return Network(X, y), 0.1
    if kind == "batches":
        return Network(X, y, batch_size=BATCH), 0.1
    if kind == "own losses":
        return Problem.from_batched_loss(_valleys, _corner), 1e-4
    table, target = (torch.as_tensor(part) for part in _regression())

    def loss(p: Any) -> Any:
        rest = torch.nn.functional.softplus(table @ p["w"] - target)
        return rest.mean() + 1e-3 * p["w"].square().sum()

    return Problem.from_loss(loss, lambda g: {"w": g.normal(size=8)}), 0.1


def _valleys(parameters: Any, starts: Any, step: int) -> Any:
    x, y = parameters["x"], parameters["y"]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _corner(generator: np.random.Generator) -> dict[str, float]:
    return {"x": generator.uniform(-2, 2), "y": generator.uniform(-2, 2)}


def _regression() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.standard_normal((100, 8)), generator.standard_normal(100)


def _with_holes(X: np.ndarray) -> np.ndarray:
    holes = np.random.default_rng(1).random(X.shape) < 0.1
    return np.where(holes, np.float32("nan"), X)


def _layers(torch: Any) -> Any:
    layers = [torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)]
    return torch.nn.Sequential(*layers)


# One start, written plainly


def plain(kind: str, rule: str) -> Run:
    """Descend from one start by a loop, autograd and torch.optim.

    Plain gradient descent subtracts the gradient itself, which takes less time.
    """
    import torch

    rate = 0.01
    if rule != "adam":
        rate = {"module": 0.1}.get(kind) or _problem(kind)[1]

    def work() -> float:
        parameters, loss = _start(torch, kind)
        count = STEPS // 10 if rule == "lbfgs" else STEPS
        if rule == "gd":
            for step in range(count):
                total = loss(step)
                gradients = torch.autograd.grad(total, parameters)
                with torch.no_grad():
                    for value, slope in zip(parameters, gradients, strict=True):
                        value.sub_(rate * slope)
        elif rule == "adam":
            optimizer = torch.optim.Adam(parameters, lr=rate)
            for step in range(count):
                optimizer.zero_grad()
                total = loss(step)
                total.backward()
                optimizer.step()
        else:
            optimizer = torch.optim.LBFGS(
                parameters, max_iter=count, history_size=10,
                tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe",
            )  # fmt: skip

            def closure() -> Any:
                optimizer.zero_grad()
                found = loss(0)
                found.backward()
                return found

            total = optimizer.step(closure)
        return float(total)

    return timed(work)


def _start(torch: Any, kind: str) -> tuple[list[Any], Callable[[int], Any]]:
    """Return parameters of one start, and what gives its loss at a step."""
    X, y = (torch.as_tensor(part) for part in iris())
    if kind in ("factorization", "penalized"):
        U, V = (torch.rand(n, 2, requires_grad=True) for n in X.shape)
        if kind == "factorization":
            return [U, V], lambda step: (U @ V.T - X).square().sum()
        table = torch.as_tensor(_with_holes(X.numpy()))
        seen = (~table.isnan()).float()
        filled = table.nan_to_num()

        def penalized(step: int) -> Any:
            squares = (seen * (U @ V.T - filled).square()).sum()
            return squares + U.square().sum() + V.square().sum()

        return [U, V], penalized
    if kind == "own losses":
        x, z = (torch.rand((), dtype=torch.float64).requires_grad_() for _ in "xz")
        return [x, z], lambda step: (1 - x) ** 2 + 100 * (z - x**2) ** 2
    if kind == "own loss of one":
        table, target = (torch.as_tensor(part) for part in _regression())
        w = torch.randn(8, dtype=torch.float64, requires_grad=True)

        def loss(step: int) -> Any:
            rest = torch.nn.functional.softplus(table @ w - target)
            return rest.mean() + 1e-3 * w.square().sum()

        return [w], loss
    model = _layers(torch)
    cross_entropy = torch.nn.functional.cross_entropy
    if kind != "batches":
        return list(model.parameters()), lambda step: cross_entropy(model(X), y)
    order = [torch.randperm(len(X))]

    def of_batch(step: int) -> Any:
        place = step % (len(X) // BATCH)
        if place == 0:
            order[0] = torch.randperm(len(X))
        rows = order[0][place * BATCH : (place + 1) * BATCH]
        return cross_entropy(model(X[rows]), y[rows])

    return list(model.parameters()), of_batch


KINDS = (
    ("factorization", "gd"),
    ("factorization", "adam"),
    ("penalized", "adam"),
    ("factorization", "lbfgs"),
    ("network", "gd"),
    ("network", "adam"),
    ("batches", "gd"),
    ("batches", "adam"),
    ("own losses", "gd"),
    ("own losses", "adam"),
    ("own loss of one", "gd"),
    ("own loss of one", "adam"),
    ("module", "gd"),
    ("module", "adam"),
)
TITLES = {
    "factorization": "factorization of iris, rank 2",
    "penalized": "the same with missing cells and l2 penalties",
    "network": "a network 4-12-3 on iris",
    "batches": "the same in mini-batches of 30",
    "own losses": "a user's losses of all starts",
    "own loss of one": "a user's loss of one start",
    "module": "a torch module 4-12-3",
}
RULES = {"gd": "gradient descent", "adam": "Adam", "lbfgs": "L-BFGS"}


def cases(quick: bool = False) -> list[Case]:
    """Return a case for each kind and rule with one start, and with ten."""
    note = (
        f"{STEPS} steps (of L-BFGS a tenth) on both sides, in seconds of the processor, "
        "one thread each. The plain loop has one start in every case."
    )
    found = [
        Case(
            "one-start-sheet",
            "gd_factorise_ad on iris, rank 2",
            (
                Contender("descents", "one_start:sheet"),
                Contender(
                    "one start of a plain PyTorch loop",
                    "one_start:plain",
                    {"kind": "factorization", "rule": "gd"},
                    asked=1 / MOST_OF_THE_SHEET,
                ),
            ),
            "all losses finite",
            least=1,
            note=note,
        )
    ]
    for kind, rule in KINDS[:2] if quick else KINDS:
        for starts, most in ((1, MOST_OF_ONE), (10, MOST_OF_TEN)):
            options: dict[str, Any] = {"rule": rule, "starts": starts}
            make = "one_start:module"
            if kind != "module":
                make, options = "one_start:ours", {"kind": kind, **options}
            name = f"one-start-{kind.replace(' ', '-')}-{rule}"
            count = "one start" if starts == 1 else "ten starts"
            found.append(
                Case(
                    f"{name}-{starts}",
                    f"{TITLES[kind]}, {RULES[rule]}, {count}",
                    (
                        Contender(f"descents, {count}", make, options),
                        Contender(
                            "one start of a plain PyTorch loop",
                            "one_start:plain",
                            {"kind": kind, "rule": rule},
                            asked=1 / most,
                        ),
                    ),
                    "all losses finite",
                    least=1,
                    note=note,
                )
            )
    return found
