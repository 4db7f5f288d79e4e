"""One start costs one start: narrow first chunks, with the bits of every other call."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from descents import (
    LBFGS,
    Adam,
    AdamW,
    Alternating,
    EarlyStopping,
    Factorization,
    GradientDescent,
    LineDescent,
    Momentum,
    Network,
    Problem,
    Stop,
    descend,
    train_module,
)
from descents.cells.observed import cells
from descents.factorization.factorization import BoundFactorization
from descents.networks.modules import Modules
from descents.optim import autograd, clock
from descents.optim import problem as contract
from descents.optim.autograd import lifted
from descents.optim.clock import Clock
from descents.optim.problem import losses_and_gradients
from descents.optim.runs import Runs, Status
from descents.optim.spans import chunked, span

GENERATOR = np.random.default_rng(7)
TABLE = GENERATOR.standard_normal((24, 6))
HOLED = np.where(GENERATOR.random(TABLE.shape) < 0.2, np.nan, TABLE)
CLASSES = GENERATOR.integers(0, 3, 24)
CLASSES[:3] = range(3)


def perceptron() -> torch.nn.Module:
    layers = [torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)]
    return torch.nn.Sequential(*layers)


class Residual(torch.nn.Module):
    """What no compiled code is there for; two of its layers share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(6, 6)
        self.again = torch.nn.Linear(6, 6)
        self.again.weight = self.inner.weight
        self.norm = torch.nn.LayerNorm(6)
        self.outer = torch.nn.Linear(6, 3)

    def forward(self, rows):
        hidden = rows + torch.tanh(self.inner(rows))
        return self.outer(self.norm(hidden + self.again(hidden)))


def own_losses(dtype) -> Problem:
    table = torch.as_tensor(TABLE, dtype=dtype)

    def losses(parameters, starts, step):
        rest = torch.nn.functional.softplus(parameters["w"] @ table.mT)
        return rest.mean(1) + parameters["w"].square().sum(1)

    def points(generator):
        return {"w": generator.normal(size=6)}

    return Problem.from_batched_loss(losses, points, dtype=dtype)


def own_loss_of_one(dtype) -> Problem:
    table = torch.as_tensor(TABLE, dtype=dtype)

    def loss(parameters):
        rest = torch.nn.functional.softplus(table @ parameters["w"])
        return rest.mean() + parameters["w"].square().sum()

    def points(generator):
        return {"w": generator.normal(size=6)}

    return Problem.from_loss(loss, points, dtype=dtype)


KINDS: dict[str, Any] = {
    "factorization": lambda dtype: Factorization(TABLE, 2, dtype=dtype),
    "penalized": lambda dtype: Factorization(
        cells(HOLED, scales=True), 2, offsets="both", penalty=0.1, dtype=dtype
    ),
    "huber": lambda dtype: Factorization(HOLED, 2, loss="huber:0.5", dtype=dtype),
    "network": lambda dtype: Network(TABLE, CLASSES, [5], dtype=dtype),
    "batches": lambda dtype: Network(
        TABLE, CLASSES, [5], batch_size=7, dtype=dtype, dropout=0.2
    ),
    "numbers": lambda dtype: Network(
        TABLE[:, :4], TABLE[:, 4:], [5], task="regression", activation="gelu",
        batch_size=9, dtype=dtype,
    ),
    "own losses": own_losses,
    "own loss of one": own_loss_of_one,
    "module": lambda dtype: Modules(perceptron, TABLE, CLASSES, dtype=dtype),
    "residual": lambda dtype: Modules(Residual, TABLE, CLASSES, dtype=dtype),
}  # fmt: skip
RULES: dict[str, Any] = {
    "gd": GradientDescent(0.003),
    "rates": GradientDescent(tuple(0.003 / (1 + k % 3) for k in range(1000))),
    "momentum": Momentum(0.002, nesterov=True),
    "adam": Adam(0.01),
    "adamw": AdamW(0.01),
    "line": LineDescent(),
    "lbfgs": LBFGS(),
    "alternating": Alternating(),
}


def same(first: Runs, second: Runs, place: int, other: int) -> None:
    """The same bits; NaN is NaN."""
    for name in ("losses", "gradient_norms", "initial_gradient_norms", "steps_taken"):
        one, two = getattr(first, name)[place], getattr(second, name)[other]
        np.testing.assert_array_equal(one, two, err_msg=name)
    assert first.statuses[place] is second.statuses[other]
    for group in ("parameters", "metrics"):
        for name, values in getattr(first, group).items():
            np.testing.assert_array_equal(
                values[place], getattr(second, group)[name][other], err_msg=name
            )
    for name, values in first.histories.items():
        np.testing.assert_array_equal(
            values[:, place], second.histories[name][:, other]
        )


# Which chunk a start is in


@given(
    size=st.integers(1, 10**7),
    numbers=st.sets(st.integers(0, 3000), min_size=1, max_size=40),
)
@settings(deadline=None, max_examples=60)
def test_the_chunk_of_a_start_does_not_depend_on_others(size, numbers) -> None:
    problem = own_losses(torch.float64)
    problem.size = size
    width, edges = problem.width, problem.edges
    assert edges[0] == 0
    assert list(edges) == sorted(set(edges))
    assert edges[-1] < width or width == 1
    if width > 1:
        assert edges[1] == 1
    found = chunked(np.array(sorted(numbers)), width, edges)
    assert [int(k) for part in found for k in part] == sorted(numbers)
    firsts = set()
    for part in found:
        first, count = span(int(part[0]), width, edges)
        assert 0 < count <= width
        assert all(span(int(k), width, edges) == (first, count) for k in part)
        assert all(first <= k < first + count for k in part)
        firsts.add(first)
    assert len(firsts) == len(found)
    # The chunks of all starts lie side by side.
    end = 0
    while end < 3000:
        first, count = span(end, width, edges)
        assert first == end
        end += count


@pytest.mark.parametrize("size", [1, 600, 1024, 5000, 20_000, 100_000, 10**6])
def test_few_starts_are_computed_by_the_work_of_few(size) -> None:
    """Beyond what costs next to nothing, at most half of what is computed is padding."""
    problem = own_losses(torch.float64)
    problem.size = size
    for count in range(1, 120):
        parts = chunked(np.arange(count), problem.width, problem.edges)
        whole = [span(int(p[0]), problem.width, problem.edges)[1] for p in parts]
        if count == 1:
            assert whole == [1]
        if count <= 10:
            assert len(parts) <= 2 or size > contract.CHEAP_ENTRIES // 9
        padding = sum(whole) - count
        assert padding * size <= max(count * size, 2 * contract.CHEAP_ENTRIES)


def test_compiled_networks_share_the_lanes_of_a_vector() -> None:
    network = Network(TABLE, CLASSES, [5])
    assert network.edges == (0, 1, 16, 64)
    assert Modules(perceptron, TABLE, CLASSES).edges == (0, 1, 16, 64)
    assert Modules(Residual, TABLE, CLASSES).edges[:3] == (0, 1, 10)


def test_a_width_that_is_given_is_that_of_every_chunk() -> None:
    runs = descend(own_losses(torch.float64), 6, stop=Stop(2), width=4)
    assert (runs.settings["width"], runs.settings["edges"]) == (4, [0])
    runs = descend(own_losses(torch.float64), 6, stop=Stop(2))
    assert runs.settings["edges"][:3] == [0, 1, 10]


# Bits


def suits(kind: str, rule: str) -> bool:
    if rule == "alternating":
        return kind in ("factorization", "penalized", "huber")
    return kind != "batches" or rule not in ("line", "lbfgs")


PAIRS = [pair for pair in itertools.product(KINDS, RULES) if suits(*pair)]
QUICK = [(kind, "adam") for kind in KINDS] + [
    ("penalized", "alternating"),
    ("factorization", "gd"),
    ("own losses", "lbfgs"),
    ("module", "rates"),
]


@pytest.mark.parametrize(("kind", "rule"), QUICK)
def test_a_start_has_the_same_bits_in_any_company(kind, rule) -> None:
    dtype = torch.float32
    options = {"steps": RULES[rule], "stop": Stop(6), "record": [0, 3, 6]}
    many = descend(KINDS[kind](dtype), 40, **options)
    for count in (1, 2, 4, 10):
        few = descend(KINDS[kind](dtype), count, **options)
        for k in {0, 1, 3, 9} & set(range(count)):
            same(few, many, k, k)
    scattered = descend(KINDS[kind](dtype), [37, 5, 12], **options)
    for place, k in enumerate([37, 5, 12]):
        same(scattered, many, place, k)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "rule"), PAIRS)
def test_a_start_has_the_same_bits_among_a_thousand(kind, rule, dtype) -> None:
    options = {"steps": RULES[rule], "stop": Stop(6), "record": [0, 6]}
    many = descend(KINDS[kind](dtype), 1000, **options)
    for count in (1, 2, 4, 10, 100):
        few = descend(KINDS[kind](dtype), count, **options)
        for k in range(count):
            same(few, many, k, k)
    scattered = [999, 9, 523, 256]
    company = descend(KINDS[kind](dtype), scattered, threads=3, **options)
    for place, k in enumerate(scattered):
        same(company, many, place, k)


@pytest.mark.parametrize("kind", ["factorization", "network", "own loss of one"])
def test_in_parts_and_on_threads_the_bits_are_the_same(kind) -> None:
    options = {"steps": Adam(0.01), "stop": Stop(6)}
    plain = descend(KINDS[kind](torch.float64), 14, **options)
    parts = descend(KINDS[kind](torch.float64), 14, **options)
    threads = descend(KINDS[kind](torch.float64), 14, threads=3, **options)
    for k in range(14):
        same(plain, parts, k, k)
        same(plain, threads, k, k)
    assert parts.settings == plain.settings


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["factorization", "batches", "module", "residual"])
def test_two_processes_have_the_bits_of_one(kind) -> None:
    options = {"steps": Adam(0.01), "stop": Stop(6)}
    one = descend(KINDS[kind](torch.float32), 14, **options)
    two = descend(KINDS[kind](torch.float32), 14, workers=2, **options)
    for k in range(14):
        same(one, two, k, k)


def test_estimators_keep_the_promise() -> None:
    options = {"random_state": 3, "max_epochs": 5, "batch_size": 8}
    many = train_module(perceptron, TABLE, CLASSES, n_starts=12, **options)
    few = train_module(perceptron, TABLE, CLASSES, n_starts=1, **options)
    same(few, many, 0, 0)


# A budget of time


@pytest.mark.parametrize("early", [None, EarlyStopping(every=3, patience=2)])
def test_a_chunk_that_waits_for_its_turn_goes_on_as_if_it_had_not(
    early, monkeypatch
) -> None:
    problem = Network(TABLE, CLASSES, [5], splits=[range(18)], dtype=torch.float64)
    options = {"steps": Adam(0.05), "record": [0, 5, 17, 30], "threads": 1}
    plain = descend(problem, 20, stop=Stop(30, early=early), **options)

    class Short(Clock):
        """Time for four steps."""

        def __init__(self, whole: Clock) -> None:
            super().__init__(None)
            self._whole, self.looks = whole, 0

        @property
        def out(self) -> bool:
            self.looks += 1
            return self.looks > 4

    turns: list[int] = []
    monkeypatch.setattr(
        Clock, "share", lambda self, parts: turns.append(parts) or Short(self)
    )
    patient = Stop(30, early=early, max_seconds=1000)
    cut = descend(problem, 20, stop=patient, **options)
    assert len(turns) > 6
    for k in range(20):
        same(plain, cut, k, k)


def test_no_start_uses_up_the_time_of_the_others() -> None:
    stop = Stop(10**9, max_seconds=0.3)
    runs = descend(
        own_losses(torch.float64), 30, steps=GradientDescent(1e-3), stop=stop
    )
    assert runs.statuses == (Status.INTERRUPTED,) * 30
    assert (runs.steps_taken > 0).all()
    assert clock.LEAST_SHARE < 0.1


# The faster ways to losses and gradients


class ByAutograd(Factorization):
    def fused(self, parameters, starts, step):
        return None


@pytest.mark.parametrize("penalty", [None, 0.3, {"l2_biases": 0.7}])
@pytest.mark.parametrize("offsets", ["none", "columns", "rows", "both"])
@pytest.mark.parametrize("holes", [False, True])
def test_gradients_of_squared_losses_are_those_of_autograd(
    holes, offsets, penalty
) -> None:
    if offsets == "none" and isinstance(penalty, dict):
        penalty = {"l2_rows": 0.2, "l1_columns": 0.1}
    table = cells(HOLED * [1, 100, 1, 1, 0.01, 1], scales=True) if holes else TABLE
    made = [
        kind(table, 2, offsets=offsets, penalty=penalty, dtype=torch.float64)
        for kind in (Factorization, ByAutograd)
    ]
    parameters = made[0].points([0, 5, 7], 1)
    ways = [(problem, parameters) for problem in made]
    some = made[0].cells if holes else cells(TABLE[:4])
    fixed = {name: value[0].numpy() for name, value in parameters.items()}
    rows = [problem.for_rows(some, fixed) for problem in made]
    ways += [(problem, rows[0].points([0, 1], 0)) for problem in rows]
    for fast, plain in (ways[:2], ways[2:]):
        starts = torch.arange(len(fast[1]["U"]))
        found = fast[0].fused(fast[1], starts, 0)
        assert found is not None
        losses, gradients = losses_and_gradients(plain[0], plain[1], starts, 0)
        torch.testing.assert_close(found[0], losses, rtol=1e-12, atol=0)
        assert list(found[1]) == list(gradients)
        for name, value in gradients.items():
            torch.testing.assert_close(found[1][name], value, rtol=1e-10, atol=1e-12)


def test_several_plain_steps_have_the_bits_of_single_ones(monkeypatch) -> None:
    rates = [0.003, 50.0, 0.001, 0.004]
    made = Factorization(HOLED, 2, offsets="columns", penalty=0.1)
    for options in (
        {"steps": GradientDescent(0.003)},
        {"steps": GradientDescent(rates)},
    ):
        together = descend(made, 4, stop=Stop(60), record=[11, 60], **options)
        with monkeypatch.context() as patch:
            patch.setattr(BoundFactorization, "plain_steps", lambda *_: None)
            single = descend(made, 4, stop=Stop(60), record=[11, 60], **options)
        for k in range(4):
            same(together, single, k, k)
    assert together.statuses[1] is Status.NONFINITE
    assert together.statuses[0] is Status.LIMIT


def test_gradients_by_the_engine_are_those_of_torch() -> None:
    def losses(parameters, starts, step):
        return parameters["x"].square().sum((1, 2)) * 3

    problem = Problem.from_batched_loss(losses, lambda generator: {})
    p = {"x": torch.randn(4, 2, 3), "unused": torch.randn(4)}
    found = losses_and_gradients(problem, p, torch.arange(4), 0)[1]
    torch.testing.assert_close(found["x"], 6 * p["x"])
    assert not found["unused"].any()
    asked = {name: value.requires_grad_() for name, value in p.items()}
    total = problem.losses(asked, torch.arange(4), 0).sum()
    public = torch.autograd.grad(total, list(p.values()), materialize_grads=True)
    for name, value in zip(p, public, strict=True):
        assert torch.equal(found[name], value)


def test_a_lifted_function_is_that_of_vmap(monkeypatch) -> None:
    def loss(parameters, rows):
        return torch.logsumexp(rows @ parameters["w"], 0) + parameters["b"]

    p = {"w": torch.randn(5, 3), "b": torch.randn(5)}
    rows = torch.randn(5, 4, 3)
    expected = torch.func.vmap(loss)(p, rows)
    fast = lifted(loss)
    assert torch.equal(fast(p, rows), expected)
    one = {name: value[2:3] for name, value in p.items()}
    torch.testing.assert_close(fast(one, rows[2:3]), expected[2:3])
    assert torch.equal(lifted(lambda x: torch.ones(()))(p["b"]), torch.ones(5))
    monkeypatch.setattr(autograd, "_FUNCTORCH", None)
    assert torch.equal(lifted(loss)(p, rows), expected)


@pytest.mark.parametrize("count", [1, 3])
def test_a_loss_of_one_that_draws_numbers_is_refused(count) -> None:
    """They would be torch's own, and no start would be a function of its number."""
    noisy = Problem.from_loss(
        lambda p: (p["x"] - torch.randn(())).square(), lambda generator: {"x": 0.0}
    )
    with pytest.raises(RuntimeError, match="random"):
        descend(noisy, count, stop=Stop(2))


class PlainModules(Modules):
    """A kind derived from it may have other losses: no compiled code."""


def shared() -> torch.nn.Module:
    tanh = torch.nn.Tanh()
    inner = torch.nn.Sequential(torch.nn.Linear(6, 4), tanh, torch.nn.Linear(4, 5))
    return torch.nn.Sequential(inner, tanh, torch.nn.Linear(5, 3))


@pytest.mark.parametrize("make", [perceptron, shared])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 7, "loss": "sum"},
        {"weight_decay": 0.3, "row_weights": CLASSES + 0.5},
    ],
)
def test_a_perceptron_of_modules_is_computed_as_the_module_is(make, options) -> None:
    fast, plain = (
        kind(make, TABLE, CLASSES, dtype=torch.float64, **options)
        for kind in (Modules, PlainModules)
    )
    parameters, starts = fast.points([0, 3, 9], 2), torch.tensor([0, 3, 9])
    found = fast.fused(parameters, starts, 1)
    assert found is not None
    losses, gradients = losses_and_gradients(plain, parameters, starts, 1)
    torch.testing.assert_close(found[0], losses, rtol=1e-12, atol=0)
    assert list(found[1]) == list(gradients)
    for name, value in gradients.items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-9, atol=1e-13)


def test_modules_that_are_no_perceptron_are_called() -> None:
    def biasless() -> torch.nn.Module:
        first = torch.nn.Linear(6, 5, bias=False)
        return torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Linear(5, 3))

    def hooked() -> torch.nn.Module:
        module = perceptron()
        module[0].register_forward_hook(lambda part, given, found: 2 * found)
        return module

    def mixed() -> torch.nn.Module:
        between = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(5, 5))
        return torch.nn.Sequential(
            torch.nn.Linear(6, 5), between, torch.nn.Tanh(), torch.nn.Linear(5, 3)
        )

    def frozen() -> torch.nn.Module:
        module = perceptron()
        torch.nn.init.ones_(module[0].weight).requires_grad_(False)
        return module

    for make in (biasless, hooked, mixed, frozen, Residual):
        problem = Modules(make, TABLE, CLASSES)
        parameters = problem.points([0, 1], 0)
        assert problem.fused(parameters, torch.arange(2), 0) is None


def test_a_module_is_called_with_the_parameters_of_each_start_and_left_as_it_was() -> (
    None
):
    problem = Modules(Residual, TABLE, CLASSES, dtype=torch.float64)
    parameters = problem.points(range(3), 0)
    before = {n: v.clone() for n, v in problem._module.named_parameters()}
    rows = torch.as_tensor(TABLE).expand(3, -1, -1)
    found = problem.predict(parameters, rows)
    for k in range(3):
        one = {name: value[k] for name, value in parameters.items()}
        alone = problem.predict({n: v[None] for n, v in one.items()}, rows[:1])
        expected = torch.func.functional_call(problem._module, one, (rows[k],))
        torch.testing.assert_close(found[k], expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(alone[0], expected)
    for name, value in problem._module.named_parameters():
        assert torch.equal(value, before[name])
    bound = problem.bind(torch.arange(len(rows)))
    assert bound.caller.module is not problem._module
    for other in (bound, copy.copy(problem), copy.deepcopy(problem)):
        assert torch.equal(other.predict(parameters, rows), found)
    again = pickle.loads(pickle.dumps(problem))
    assert torch.equal(again.predict(parameters, rows), found)


def test_a_large_network_is_computed_alone_by_torch() -> None:
    generator = np.random.default_rng(0)
    X = generator.standard_normal((1000, 40))
    problem = Network(X, generator.integers(0, 3, 1000), [64], outputs=3)
    points = problem.points([0, 1], 0)
    both = torch.arange(2)
    assert problem.fused(points, both, 0) is not None
    one = {name: value[:1] for name, value in points.items()}
    assert problem.fused(one, both[:1], 0) is None
    alone, together = (
        descend(problem, 1, stop=Stop(3)),
        descend(problem, 2, stop=Stop(3)),
    )
    same(alone, together, 0, 0)
