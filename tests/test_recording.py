"""Recorded steps: what a device repeats is what single steps do.

No graphics processor is asked for: a recorder of the tests' own takes down the torch
operations of one step, and repeats those alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from descents import (
    Adam,
    AdamW,
    EarlyStopping,
    Factorization,
    GradientDescent,
    Momentum,
    Network,
    Problem,
    Status,
    Stop,
    descend,
)
from descents.optim import graphs as recording
from descents.optim.chunk import Chunk
from descents.tables.datasets import planted_table

aten = torch.ops.aten
TABLE, _ = planted_table(30, 8, 3, noise=0.1, seed=3)
LABELS = np.arange(30) % 3
READS = (
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
)


class Tape(TorchDispatchMode):
    """Takes down torch operations; what they wrote to is then as it was before.

    As on a device that records, none has happened after it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list = []
        self.before: dict = {}

    def __enter__(self):
        def sent(*arguments, **options):
            raise AssertionError("numbers are sent to the device")

        self.patch = pytest.MonkeyPatch()
        for name in ("tensor", "as_tensor", "from_numpy"):
            self.patch.setattr(torch, name, sent)
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function not in READS, f"{function} waits for the device"
        if function is aten.copy_.default:
            self.before.setdefault(id(args[0]), (args[0], args[0].clone()))
        found = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, found))
        return found

    def __exit__(self, *reasons) -> None:
        super().__exit__(*reasons)
        self.patch.undo()
        for tensor, value in self.before.values():
            tensor.copy_(value)

    def repeat(self) -> None:
        known: dict = {}

        def now(tensor):
            return known.get(id(tensor), tensor)

        for function, args, kwargs, before in self.calls:
            given, options = tree_map_only(torch.Tensor, now, (args, kwargs))
            after = function(*given, **options)
            pairs = zip(tree_leaves(before), tree_leaves(after), strict=True)
            known.update({id(old): new for old, new in pairs})


@pytest.fixture
def tapes(monkeypatch) -> list[Tape]:
    """Let the CPU pass for a device that records, and nothing be compiled."""
    made: list[Tape] = []

    def recorder(body, device):
        body()
        with Tape() as tape:
            body()
        made.append(tape)
        return tape.repeat

    monkeypatch.setenv("DESCENTS_COMPILE", "0")
    monkeypatch.setattr(Chunk, "_leap", lambda *_: 0)
    monkeypatch.setitem(recording.RECORDERS, "cpu", recorder)
    return made


def network(**options) -> Network:
    return Network(TABLE, LABELS, [5], **options)


def factorization(**options) -> Factorization:
    return Factorization(TABLE, 2, **options)


HALVES = [range(20), range(10, 30)]
UNEVEN = [range(20), range(7, 30)]
CASES = {
    "plain": (factorization, GradientDescent(0.004), {}, 1),
    "failing": (
        lambda **more: factorization(penalty=0.1, offsets="both", **more),
        GradientDescent([0.004, 1e6, 0.003, 0.5]),
        {"record": [0, 40]},
        1,
    ),
    "holes": (
        lambda **more: Factorization(
            np.where(TABLE > 1, np.nan, TABLE), 2, loss="huber:0.3", **more
        ),
        Momentum(0.002, nesterov=True),
        {"stop": Stop(120, gradient_tol=0.02)},
        1,
    ),
    "network": (
        lambda **more: network(splits=HALVES, **more),
        Adam(0.02),
        {"record": [7, 120]},
        1,
    ),
    "batches": (
        lambda **more: network(
            splits=[range(20)], batch_size=6, row_weights=LABELS + 1.0, **more
        ),
        Adam(0.02),
        {"stop": Stop(120, early=EarlyStopping("validation_loss", every=20))},
        2,  # of 6 rows, and of 2
    ),
    "settings": (
        lambda **more: network(
            splits=UNEVEN,
            batch_size=7,
            dropout=[0.0, 0.3],
            weight_decay=[0.1, 0.0],
            settings=2,
            crossed=True,
            **more,
        ),
        AdamW(0.02),
        {"stop": Stop(90)},
        1,
    ),
    "numbers": (
        lambda **more: Network(
            TABLE[:, :5], TABLE[:, 5:], [4, 3], task="regression", **more
        ),
        Momentum([0.01, 0.02, 0.03, 0.04]),
        {"stop": Stop(80)},
        1,
    ),
}


def same_ends(near, far) -> None:
    assert far.statuses == near.statuses
    np.testing.assert_array_equal(far.steps_taken, near.steps_taken)
    for name, values in near.histories.items():
        np.testing.assert_allclose(far.histories[name], values, rtol=1e-9)
    np.testing.assert_allclose(far.losses, near.losses, rtol=1e-9)
    for name, values in near.parameters.items():
        np.testing.assert_allclose(
            far.parameters[name], values, rtol=1e-7, atol=1e-9, err_msg=name
        )
    for name, values in near.metrics.items():
        np.testing.assert_allclose(far.metrics[name], values, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_what_is_recorded_is_what_single_steps_do(case, tapes, monkeypatch) -> None:
    make, rule, options, count = CASES[case]
    # One chunk, as there is on a device that records.
    options = {"stop": Stop(120), "width": 4, **options}
    with monkeypatch.context() as patch:
        patch.delitem(recording.RECORDERS, "cpu")
        near = descend(make(), 4, steps=rule, **options)
    assert not tapes
    monkeypatch.setattr(Chunk, "remote", True)
    updates = []
    plain = type(rule).update
    monkeypatch.setattr(
        type(rule), "update", lambda *a: updates.append(a[-1]) or plain(*a)
    )
    far = descend(make(), 4, steps=rule, **options)
    assert len(tapes) == count
    told = [step for step in updates if not isinstance(step, torch.Tensor)]
    assert len(updates) - len(told) == 2 * count  # to warm up, and to record
    assert len(told) <= 60 if options["stop"].gradient_tol else len(told) <= 15
    same_ends(near, far)


def test_a_start_that_fails_on_the_way_rests_where_it_was(tapes, monkeypatch) -> None:
    monkeypatch.setattr(Chunk, "remote", True)
    runs = descend(
        factorization(), 2, steps=GradientDescent([0.004, 0.5]), stop=Stop(120)
    )
    assert tapes
    assert runs.statuses == (Status.LIMIT, Status.NONFINITE)
    assert 0 < runs.steps_taken[1] < 50
    assert np.isfinite(runs.losses[0])


def test_what_may_read_a_number_is_not_recorded(tapes, monkeypatch) -> None:
    monkeypatch.setattr(Chunk, "remote", True)
    own = Problem.from_batched_loss(
        lambda parameters, starts, step: (parameters["x"] - step).square(),
        lambda generator: {"x": generator.normal()},
    )
    descend(own, 3, stop=Stop(40))
    descend(factorization(constraint="nonnegative"), 3, steps=GradientDescent(1e-3))

    class Counting(Adam):
        def update(self, *arguments):
            return super().update(*arguments)

    descend(factorization(), 3, steps=Counting(0.01), stop=Stop(40))
    by_user = factorization(loss=lambda z, x: (z - x).square())
    descend(by_user, 3, steps=Adam(0.01), stop=Stop(40))
    assert not tapes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_agrees_with_the_processor(case) -> None:
    """Warnings are errors: among them, that steps cannot be captured in a CUDA graph."""
    make, rule, options, _ = CASES[case]
    options = {"stop": Stop(120), "steps": rule, "width": 8, **options}
    same_ends(descend(make(), 4, **options), descend(make(device="cuda"), 4, **options))


def test_a_device_that_refuses_is_told_step_by_step(tapes, monkeypatch) -> None:
    near = descend(network(), 3, steps=Adam(0.02), stop=Stop(60))

    def refused(body, device):
        body()
        return body

    monkeypatch.setitem(recording.RECORDERS, "cpu", refused)
    monkeypatch.setattr(Chunk, "remote", True)
    same_ends(near, descend(network(), 3, steps=Adam(0.02), stop=Stop(60)))
