"""The loop: oracles, equality, statuses, budgets."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from descents import (
    Adam,
    Alternating,
    EarlyStopping,
    Factorization,
    GradientDescent,
    Momentum,
    Network,
    Problem,
    Runs,
    Status,
    Stop,
    descend,
)
from descents.errors import InvalidValueError, RunFolderError
from descents.factorization import alternating
from descents.optim import pace
from descents.optim.chunk import Chunk
from descents.optim.pace import Pace
from descents.optim.problem import losses_and_gradients
from descents.optim.rules import Update, UpdateRule
from descents.tables.datasets import planted_table

TABLE, _ = planted_table(30, 8, 3, noise=0.1, seed=3)
LABELS = np.arange(30) % 3
RULES = {
    "gradient descent": (GradientDescent(0.004), torch.optim.SGD, {"lr": 0.004}),
    "momentum": (
        Momentum(0.002, 0.8),
        torch.optim.SGD,
        {"lr": 0.002, "momentum": 0.8},
    ),
    "nesterov": (
        Momentum(0.002, 0.8, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.002, "momentum": 0.8, "nesterov": True},
    ),
    "adam": (Adam(0.02), torch.optim.Adam, {"lr": 0.02}),
}


def factorization() -> Factorization:
    return Factorization(TABLE, 2)


def network() -> Network:
    return Network(TABLE, LABELS, [5], loss="sum", splits=[range(20), range(10, 30)])


def bowl(**options) -> Problem:
    """Return (x - 1)^2 from x = start number, whatever the seed."""
    return Problem.from_batched_loss(
        lambda p, starts, step: (p["x"] - 1).square(),
        lambda generator: {"x": 0.0},
        **options,
    )


@pytest.mark.parametrize("problem", [factorization(), network()], ids=["uv", "mlp"])
@pytest.mark.parametrize("rule", RULES)
def test_a_plain_torch_loop_gives_the_same_curve(problem, rule) -> None:
    steps, optimizer, options = RULES[rule]
    epochs = range(0, 61, 5)
    runs = descend(problem, 3, steps=steps, stop=Stop(60), record=epochs)
    for k in range(3):
        start = torch.tensor([k])
        leaves = {n: p.requires_grad_() for n, p in problem.points([k], 0).items()}
        plain = optimizer(list(leaves.values()), **options)
        curve = []
        for _ in range(61):
            plain.zero_grad()
            loss = problem.losses(leaves, start, 0).sum()
            curve.append(float(loss.detach()))
            loss.backward()
            plain.step()
        np.testing.assert_allclose(
            runs.histories["loss"][:, k], np.array(curve)[::5], rtol=1e-10
        )
        assert runs.losses[k] == runs.histories["loss"][-1, k]


def same(first: Runs, second: Runs, place: int, other: int) -> None:
    """Assert that a start has the same bits in two runs."""
    assert first.starts[place] == second.starts[other]
    assert first.losses[place] == second.losses[other]
    assert first.gradient_norms[place] == second.gradient_norms[other]
    assert first.statuses[place] is second.statuses[other]
    for name, value in first.parameters.items():
        np.testing.assert_array_equal(value[place], second.parameters[name][other])
    for name, history in first.histories.items():
        np.testing.assert_array_equal(
            history[:, place], second.histories[name][:, other]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["factorization", "network"])
def test_a_start_is_the_same_bits_among_1_10_and_1000(kind, dtype) -> None:
    if kind == "factorization":
        problem: Problem = Factorization(TABLE, 2, dtype=dtype)
    else:
        problem = Network(TABLE, LABELS, [5], splits=[range(20)], dtype=dtype)
    options = {"steps": Adam(0.02), "stop": Stop(25), "record": [0, 20, 25]}
    alone = descend(problem, 1, **options)
    ten = descend(problem, 10, **options)
    thousand = descend(problem, 1000, **options)
    same(alone, ten, 0, 0)
    same(alone, thousand, 0, 0)
    same(ten, thousand, 9, 9)
    # In any company and at any place in its chunk.
    few = descend(problem, [999, 9, 523], **options)
    for place, start in enumerate([999, 9, 523]):
        same(few, thousand, place, start)


def test_two_calls_give_the_same_bits_and_seeds_differ() -> None:
    first, second = (descend(factorization(), 4, stop=Stop(20)) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    wrapped = descend(factorization(), 4, seed=2**32, stop=Stop(20))
    assert not np.isclose(first.losses, wrapped.losses).any()


@settings(deadline=None, max_examples=20)
@given(width=st.integers(1, 12), count=st.integers(1, 12))
def test_results_agree_across_widths(width, count) -> None:
    wide = descend(factorization(), 12, stop=Stop(30), width=64)
    narrow = descend(factorization(), count, stop=Stop(30), width=width)
    np.testing.assert_allclose(narrow.losses, wide.losses[:count], rtol=1e-10)


def test_no_global_state_is_changed() -> None:
    torch.manual_seed(0)
    before = (
        torch.random.get_rng_state(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    descend(factorization(), 3, stop=Stop(3))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1:] == (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


def test_a_rate_may_be_any_number() -> None:
    for rate in (np.float32(0.25), np.array(0.25), torch.tensor(0.25), 0.25):
        assert GradientDescent(rate) == GradientDescent(0.25)
    assert GradientDescent(np.array([0.25, 1])) == GradientDescent([0.25, 1.0])


def test_a_rate_for_each_start() -> None:
    rates = [0.25, 0.5, 0.1]
    runs = descend(bowl(), 3, steps=GradientDescent(rates), stop=Stop(2))
    # x - 1 shrinks by 1 - 2 rate at each step, from -1.
    np.testing.assert_allclose(
        runs.losses, [(1 - 2 * r) ** 4 for r in rates], atol=1e-15
    )
    one = descend(factorization(), 3, steps=Adam([0.1, 0.02, 0.3]), stop=Stop(9))
    alone = descend(factorization(), [1], steps=Adam(0.02), stop=Stop(9))
    np.testing.assert_allclose(one.losses[1], alone.losses[0], rtol=1e-12)
    with pytest.raises(InvalidValueError, match="3 rates, but start 3 is requested"):
        descend(bowl(), 4, steps=GradientDescent(rates), stop=Stop(2))


def test_one_bad_start_is_a_status_and_disturbs_nobody() -> None:
    rates = [0.004] * 5
    calm = descend(factorization(), 5, steps=GradientDescent(rates), stop=Stop(50))
    rates[2] = 1e6
    wild = descend(factorization(), 5, steps=GradientDescent(rates), stop=Stop(50))
    assert wild.statuses[2] is Status.NONFINITE
    assert not np.isfinite(wild.losses[2])
    assert wild.steps_taken[2] < 50
    for k in (0, 1, 3, 4):
        same(calm, wild, k, k)
    assert wild.best in (0, 1, 3, 4)


class Reads(TorchDispatchMode):
    """Counts what waits for a device: a number that is read, a tensor that is fetched."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self.count = 0
        plain = torch.Tensor.numpy

        def numpy(tensor, **options):
            self.count += 1
            return plain(tensor, **options)

        monkeypatch.setattr(torch.Tensor, "numpy", numpy)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


REMOTE = {
    "plain": (factorization, GradientDescent(0.004), {"stop": Stop(300)}),
    "adam": (network, Adam(0.02), {"stop": Stop(300), "record": [0, 7, 300]}),
    "failing": (
        factorization,
        GradientDescent([0.004, 1e6, 0.003, 0.5]),
        {"stop": Stop(300), "record": [0, 100]},
    ),
    "stationary": (
        factorization,
        GradientDescent(0.004),
        {"stop": Stop(400, gradient_tol=0.02)},
    ),
    "settled": (factorization, Momentum(0.002), {"stop": Stop(400, loss_tol=1e-4)}),
    "sampled": (
        lambda: Network(
            TABLE, LABELS, [5], splits=[range(20)], batch_size=6, dtype=torch.float64
        ),
        Adam(0.02),
        {"stop": Stop(120, early=EarlyStopping("validation_loss", 3, every=20))},
    ),
}


@pytest.mark.parametrize("case", REMOTE)
def test_on_another_device_steps_wait_for_no_number(case, monkeypatch) -> None:
    """Told by a device that is the CPU in truth: the same bits, and few reads."""
    make, steps, options = REMOTE[case]
    options = {**options, "width": 4}  # one chunk, as there is on such a device
    near = descend(make(), 4, steps=steps, **options)
    monkeypatch.setattr(Chunk, "remote", True)
    monkeypatch.setattr(Chunk, "_leap", lambda *_: 0)
    with Reads(monkeypatch) as reads:
        far = descend(make(), 4, steps=steps, **options)
    assert far.statuses == near.statuses
    np.testing.assert_array_equal(far.steps_taken, near.steps_taken)
    for name, values in near.histories.items():
        np.testing.assert_array_equal(far.histories[name], values)
    for start in range(4):
        same(near, far, start, start)
    looks = {"stationary": 40, "settled": 40, "sampled": 8}.get(case, 6)
    assert reads.count <= 30 + 6 * looks, reads.count


@pytest.mark.parametrize("holes", [False, True])
def test_alternating_steps_wait_for_no_number(holes, monkeypatch) -> None:
    """Nor for whether a loss has to be measured again, on a table of rank two."""
    table, _ = planted_table(30, 8, 2, noise=0.0, seed=3)
    table[0, 0] = np.nan if holes else table[0, 0]
    problem = Factorization(table, 2, offsets="columns", penalty=1e-9)
    options = {"steps": Alternating(), "stop": Stop(60), "record": range(61)}
    options["width"] = 4  # one chunk, as there is on such a device
    near = descend(problem, 3, **options)
    assert near.losses.max() < 1e-3 * near.histories["loss"][0].min()
    monkeypatch.setattr(Chunk, "remote", True)
    monkeypatch.setattr(alternating, "remote", lambda device: True)
    with Reads(monkeypatch) as reads:
        far = descend(problem, 3, **{**options, "record": ()})
    assert reads.count <= 20, reads.count
    np.testing.assert_allclose(far.losses, near.losses, rtol=1e-6)
    told = descend(problem, 3, **options).histories["loss"]
    whole = near.histories["loss"]
    np.testing.assert_allclose(told, whole, rtol=1e-6, atol=1e-12 * whole[0].max())
    np.testing.assert_allclose(told[::10], whole[::10], rtol=1e-6)


def test_a_start_that_begins_non_finite() -> None:
    problem = Problem.from_batched_loss(
        lambda p, starts, step: p["x"].log().square(),
        lambda generator: {"x": generator.random() - 0.5},
    )
    runs = descend(problem, 20, steps=GradientDescent(1e-3), stop=Stop(5))
    negative = problem.points(range(20), 0)["x"].numpy() < 0
    assert 0 < negative.sum() < 20
    statuses = np.array([status is Status.NONFINITE for status in runs.statuses])
    np.testing.assert_array_equal(statuses, negative)
    assert (runs.steps_taken[negative] == 0).all()


def test_an_overflow_in_float32_is_no_finite_loss_in_float64() -> None:
    problem = Factorization(TABLE, 2, dtype=torch.float32)
    runs = descend(problem, 3, steps=GradientDescent(1e5), stop=Stop(50))
    assert runs.statuses == (Status.NONFINITE,) * 3
    assert not np.isfinite(runs.losses).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_start_that_rests_is_the_same_in_any_company(dtype) -> None:
    options = {
        "steps": GradientDescent(0.004),
        "stop": Stop(400, gradient_tol=0.02),
        "record": range(0, 401, 10),
    }
    problem = Factorization(TABLE, 2, dtype=dtype)
    many = descend(problem, 8, **options)
    assert Status.STATIONARY in many.statuses
    assert len(set(many.steps_taken)) > 1
    for k in range(8):
        same(descend(problem, [k], **options), many, 0, k)


def test_no_finite_start_has_no_best() -> None:
    runs = descend(bowl(), 2, steps=GradientDescent(1e300), stop=Stop(9))
    assert runs.statuses == (Status.NONFINITE,) * 2
    with pytest.raises(
        InvalidValueError, match="none of the 2 starts has a finite loss"
    ):
        _ = runs.best


def test_stationary_starts_rest() -> None:
    rates = [0.4, 0.01]
    stop = Stop(100, gradient_tol=1e-6)
    runs = descend(
        bowl(), 2, steps=GradientDescent(rates), stop=stop, record=[0, 50, 100]
    )
    assert runs.statuses == (Status.STATIONARY, Status.LIMIT)
    # A Newton step gains all of the loss, 0.2^2n, at every step: stationary where that
    # is ten roundings, squared, of the first loss, 1. 0.2^n is 2e-15 at n = 21.
    assert list(runs.steps_taken) == [30, 100]
    np.testing.assert_allclose(runs.losses[0], 0, atol=1e-28)
    np.testing.assert_allclose(runs.histories["loss"][1:, 0], 0, atol=1e-28)
    np.testing.assert_allclose(
        runs.gradient_norms, [0, 2 * 0.98**100], rtol=1e-7, atol=1e-14
    )
    np.testing.assert_allclose(runs.initial_gradient_norms, 2.0)


def test_a_start_at_a_stationary_point_of_tolerance() -> None:
    runs = descend(bowl(), 1, stop=Stop(0, gradient_tol=2.0))
    assert runs.statuses == (Status.STATIONARY,)
    assert runs.losses[0] == 1.0


def test_a_projection_keeps_a_start_inside_and_tells_the_mapping() -> None:
    class Box(type(bowl())):  # type: ignore[misc]
        constrained = True

        def prox(self, parameters, rates):
            return {"x": parameters["x"].clamp(-0.5, 0.5)}

    problem = Box(
        lambda p, starts, step: (p["x"] - 1).square(),
        lambda generator: {"x": 0.0},
        torch.float64,
        1,
    )
    stop = Stop(40, gradient_tol=1e-9)
    runs = descend(problem, 1, steps=GradientDescent(0.1), stop=stop)
    # The gradient at 1/2 is -1, but the prox-gradient mapping is zero.
    assert runs.parameters["x"][0] == 0.5
    assert runs.statuses == (Status.STATIONARY,)
    assert runs.gradient_norms[0] == 0


def test_no_step_at_all_returns_the_initial_points() -> None:
    runs = descend(factorization(), 3, stop=Stop(0), record=[0])
    points = factorization().points(range(3), 0)
    np.testing.assert_array_equal(runs.parameters["U"], points["U"].numpy())
    np.testing.assert_array_equal(runs.histories["loss"][0], runs.losses)


def test_final_losses_are_evaluated_in_float64() -> None:
    problem = Factorization(TABLE, 2, dtype=torch.float32)
    runs = descend(problem, 3, stop=Stop(20))
    assert runs.parameters["U"].dtype == np.float32
    for k in range(3):
        U, V = (runs.parameters[name][k].astype(np.float64) for name in "UV")
        expected = np.square(TABLE - U @ V.T).sum()
        np.testing.assert_allclose(runs.losses[k], expected, rtol=1e-14)


class Interrupting(UpdateRule):
    """A rule that interrupts at one step, as Ctrl-C would."""

    def __init__(self, at: int) -> None:
        self.rule, self.at, self.calls = GradientDescent(0.004), at, 0

    def init(self, bound, parameters):
        return self.rule.init(bound, parameters)

    def update(self, bound, parameters, state, step):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.rule.update(bound, parameters, state, step)


def test_only_an_update_rule_is_taken_as_one() -> None:
    with pytest.raises(InvalidValueError, match="give an update rule, such as Adam"):
        descend(factorization(), 2, steps=GradientDescent)
    with pytest.raises(InvalidValueError, match="give an update rule, such as Adam"):
        descend(factorization(), 2, steps="adam")


def test_a_rule_of_ones_own_needs_an_update_alone() -> None:
    """The loop takes the defaults of the base class for all else."""

    class Plain(UpdateRule):
        def update(self, bound, parameters, state, step):
            losses, slopes = bound.losses_and_gradients(parameters, step)
            moved = {n: p - 0.004 * slopes[n] for n, p in parameters.items()}
            return Update(moved, state, losses, slopes)

    stop = Stop(50, gradient_tol=1e-4, loss_tol=1e-9)
    mine, theirs = (
        descend(factorization(), 4, steps=rule, stop=stop)
        for rule in (Plain(), GradientDescent(0.004))
    )
    assert mine.statuses == theirs.statuses
    for name in ("losses", "gradient_norms", "initial_gradient_norms"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    for name, values in theirs.parameters.items():
        np.testing.assert_array_equal(mine.parameters[name], values)


def test_a_derived_rule_declares_anew_whether_it_can_be_captured() -> None:
    class Silent(GradientDescent):
        pass

    class Declared(GradientDescent):
        capturable = True

    assert GradientDescent.capturable
    assert Declared.capturable
    assert not Silent.capturable


def test_ctrl_c_ends_all_chunks_that_share_a_budget_of_time() -> None:
    begun = time.monotonic()
    stop = Stop(10**9, max_seconds=60)
    cut = descend(factorization(), 6, steps=Interrupting(4), stop=stop, width=2)
    assert cut.statuses == (Status.INTERRUPTED,) * 6
    # The first chunk took three steps; those after it took none.
    assert cut.steps_taken.tolist() == [3, 3, 0, 0, 0, 0]
    default = descend(factorization(), 6, steps=Interrupting(4), stop=stop)
    assert default.steps_taken.tolist() == [3, 0, 0, 0, 0, 0]
    assert time.monotonic() - begun < 20


def test_ctrl_c_keeps_what_there_is() -> None:
    whole = descend(
        factorization(), 6, steps=GradientDescent(0.004), stop=Stop(20), width=2
    )
    # Chunk 0 takes 20 steps and one look at its end; the interrupt is in chunk 1.
    cut = descend(
        factorization(),
        6,
        steps=Interrupting(29),
        stop=Stop(20),
        width=2,
        threads=1,
        record=[5, 20],
    )
    assert [s.word for s in cut.statuses] == ["limit"] * 2 + ["interrupted"] * 4
    assert list(cut.steps_taken) == [20, 20, 7, 7, 0, 0]
    assert cut.interrupted
    np.testing.assert_array_equal(cut.losses[:2], whole.losses[:2])
    points = factorization().points([4, 5], 0)
    np.testing.assert_array_equal(cut.parameters["U"][4:], points["U"].numpy())
    assert np.isfinite(cut.losses).all()
    assert np.isnan(cut.histories["loss"][1, 2:]).all()
    assert np.isfinite(cut.histories["loss"][0, :4]).all()


@pytest.mark.parametrize("kind", [factorization, network])
def test_chunks_side_by_side_give_the_same_bits(kind) -> None:
    options = {"stop": Stop(30), "width": 4, "record": [0, 10, 30]}
    one = descend(kind(), 19, **options)
    three = descend(kind(), 19, threads=3, **options)
    for k in range(19):
        same(one, three, k, k)


def test_an_error_or_an_interrupt_in_one_thread_ends_all() -> None:
    cut = descend(
        factorization(),
        6,
        steps=Interrupting(29),
        stop=Stop(10**7),
        width=2,
        threads=3,
    )
    assert cut.statuses == (Status.INTERRUPTED,) * 6
    wrong = Problem.from_batched_loss(
        lambda p, starts, step: p["x"].sum(), lambda generator: {"x": np.ones(2)}
    )
    with pytest.raises(InvalidValueError, match="return a tensor of shape"):
        descend(wrong, 6, stop=Stop(10**7), width=2, threads=3)


def test_ctrl_c_at_the_very_end_keeps_the_finished_starts() -> None:
    # The 21st call is the look at the end of chunk 0.
    cut = descend(
        factorization(), 4, steps=Interrupting(21), stop=Stop(20), width=2, threads=1
    )
    assert [s.word for s in cut.statuses] == ["limit"] * 2 + ["interrupted"] * 2
    assert np.isfinite(cut.gradient_norms[:2]).all()


def test_a_time_budget_ends_the_descent() -> None:
    begun = time.monotonic()
    runs = descend(bowl(), 2, stop=Stop(10**9, max_seconds=0.2))
    assert time.monotonic() - begun < 20
    assert runs.statuses == (Status.INTERRUPTED,) * 2
    assert (runs.steps_taken > 0).all()


def test_watch_is_told_of_every_recorded_step_and_every_chunk() -> None:
    told = []
    descend(
        bowl(),
        3,
        steps=GradientDescent(0.5),
        stop=Stop(4),
        record=[0, 2],
        width=2,
        watch=lambda starts, step, losses: told.append(
            (list(starts), step, list(losses))
        ),
    )
    assert told == [
        ([0, 1], 0, [1.0, 1.0]),
        ([0, 1], 2, [0.0, 0.0]),
        ([0, 1], 4, [0.0, 0.0]),
        ([2], 0, [1.0]),
        ([2], 2, [0.0]),
        ([2], 4, [0.0]),
    ]


def test_runs_come_back_from_a_file_as_they_were(tmp_path) -> None:
    steps = GradientDescent([0.004, 1e300, 0.001])
    runs = descend(network(), 3, steps=steps, stop=Stop(8), record=[0, 8])
    assert Status.NONFINITE in runs.statuses
    runs.save(tmp_path / "runs.safetensors")
    back = Runs.load(tmp_path / "runs.safetensors")
    for field in dataclasses.fields(Runs):
        mine, stored = getattr(runs, field.name), getattr(back, field.name)
        if isinstance(mine, dict) and field.name != "settings":
            assert mine.keys() == stored.keys()
            for name in mine:
                np.testing.assert_array_equal(mine[name], stored[name])
                assert mine[name].dtype == stored[name].dtype
        elif isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, stored)
    assert back.statuses == runs.statuses
    assert back.settings["steps"]["learning_rate"] == [0.004, 1e300, 0.001]
    with pytest.raises(RunFolderError, match="cannot be read"):
        Runs.load(tmp_path / "absent")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(RunFolderError, match="give a file that descents wrote"):
        Runs.load(tmp_path / "text")


def test_all_that_is_wrong_with_a_call_is_told_at_once() -> None:
    with pytest.raises(
        InvalidValueError,
        match="starts is 0.*seed is -1.*width is 0.*recorded step is 9",
    ):
        descend(bowl(), 0, -1, stop=Stop(5), width=0, record=[9])
    with pytest.raises(InvalidValueError, match="max_steps is -1.*gradient_tol is -1"):
        Stop(-1, gradient_tol=-1)
    given_points = Factorization(
        TABLE, 1, initialization=(np.ones((2, 30, 1)), np.ones((2, 8, 1)))
    )
    with pytest.raises(InvalidValueError, match="only 2 initial points were given"):
        descend(given_points, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GradientDescent(0),
            "learning_rate is 0; give a finite number above 0",
        ),
        (lambda: GradientDescent([]), "learning_rate is empty"),
        (lambda: GradientDescent("x"), "learning_rate is 'x'"),
        (lambda: Adam([0.1, -1]), "a learning rate is -1"),
        (lambda: Momentum(0.1, 1.0), r"momentum is 1.0; give a number in \[0, 1\)"),
        (lambda: Adam(beta2=2), "beta2 is 2"),
        (lambda: Adam(epsilon=0), "epsilon is 0"),
    ],
)
def test_wrong_rules_are_refused(make, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make()


def paced(monkeypatch, threads: int = 1) -> Pace:
    """Return the pace of a problem by torch operations, on four processors."""
    monkeypatch.setattr(pace, "processors", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    return Pace(factorization(), Adam(), 2, None)


@pytest.mark.parametrize(("faster", "threads"), [(1.05, 1), (3.0, 4)])
def test_threads_are_tried_once_on_the_work_itself(
    faster, threads, monkeypatch
) -> None:
    monkeypatch.setattr(pace, "_fastest", {})
    tried = paced(monkeypatch)
    assert tried.share(19) == (1, 1)
    tried.took(100, 1.0)
    assert tried.share(18) == (4, 4)
    tried.took(400, 4.0 / faster)
    assert tried.share(14) == (14, threads)
    assert paced(monkeypatch).share(3) == (3, min(3, threads))  # known from then on


def test_threads_are_not_tried_where_there_is_little_to_learn(monkeypatch) -> None:
    monkeypatch.setattr(pace, "_fastest", {})
    assert paced(monkeypatch).share(4) == (4, 4)
    assert paced(monkeypatch, threads=2).share(20) == (20, 1)
    monkeypatch.setattr(pace, "MOST_ENTRIES", 2 * 2 * factorization().size)
    small = paced(monkeypatch)  # room for two chunks
    assert small.share(20) == (1, 1)
    small.took(0, 1.0)  # the time was out
    for steps, seconds in ((9, 1.0), (18, 1.0)):
        small.took(steps, seconds)
    assert small.share(20) == (20, 2)


def test_who_watches_is_told_by_the_calling_thread() -> None:
    seen = set()

    def watch(starts, step, losses) -> None:
        seen.add((threading.current_thread().name, int(starts[0]), step))

    options = {"stop": Stop(20), "width": 2, "record": [0, 10]}
    descend(factorization(), 6, threads=3, watch=watch, **options)
    here = threading.current_thread().name
    assert seen == {(here, k, step) for k in (0, 2, 4) for step in (0, 10, 20)}

    def broken(starts, step, losses) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        descend(factorization(), 6, threads=3, watch=broken, **options)


def test_chunks_go_one_after_the_other_on_another_device(monkeypatch) -> None:
    monkeypatch.setattr(pace, "remote", lambda device: True)
    assert Pace(factorization(), Adam(), 2, None).share(9) == (9, 1)
    assert Pace(factorization(), Adam(), 2, 4).share(9) == (9, 1)


def test_what_is_kept_in_inference_mode_can_be_fitted_with() -> None:
    table = Factorization(TABLE, 1, loss="huber:0.123", offsets="both", penalty=0.1)
    point = table.points([0], 0)
    with torch.inference_mode():
        table.losses(point, torch.arange(1), 0)
    assert losses_and_gradients(table, point, torch.arange(1), 0)[0].shape == (1,)
