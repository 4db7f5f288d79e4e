"""Networks by compiled code against autograd, in any company, and without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import some
from descents import Adam, GradientDescent, Network, Stop, descend
from descents.devices import processors
from descents.kernels import compiled
from descents.networks import fused
from descents.optim.pace import Pace
from descents.optim.problem import Parameters, losses_and_gradients
from descents.optim.runs import Status

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(37, 5))
CLASSES = np.arange(37) % 4
NUMBERS = RANDOM.normal(size=(37, 2))
SPLITS = [range(20), range(5, 37), range(3, 9)]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "splits": {"splits": SPLITS},
    "batches": {"batch_size": 7, "weight_decay": 0.1},
    "weights": {"row_weights": RANDOM.integers(0, 3, 37) + 0.5},
    "all": {
        "splits": SPLITS,
        "crossed": True,
        "settings": 2,
        "weight_decay": [0.0, 0.2],
        "batch_size": 6,
        "row_weights": RANDOM.random(37),
    },
}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}

pytestmark = pytest.mark.skipif(
    compiled._compiler() is None and not os.environ.get("CI"),
    reason="no C compiler is installed",
)


class ByAutograd(Network):
    """The same network; what is derived from it is left to autograd."""


def target(task: str) -> np.ndarray:
    return CLASSES if task == "classification" else NUMBERS


def rows_of(gradients: Parameters) -> torch.Tensor:
    """Return all slopes of each start in a row."""
    return torch.cat([g.flatten(1) for g in gradients.values()], 1)


def agree(
    network: Network, plain: Network, starts: torch.Tensor, step: int, scale: float = 1
) -> None:
    """Assert that losses and gradients are those of autograd."""
    points = network.points(starts.numpy(), 1)
    points = {name: scale * value for name, value in points.items()}
    found = network.fused(points, starts, step)
    assert found is not None
    assert list(found[1]) == list(points)
    assert plain.fused(points, starts, step) is None
    losses, gradients = losses_and_gradients(plain, points, starts, step)
    tolerance = TOLERANCE[network.dtype]
    # Where large terms of a start cancel, rounding is that of what cancels.
    size = losses.clamp_min(float(losses.mean()))
    assert bool(((found[0] - losses).abs() <= tolerance * size).all())
    off = (rows_of(found[1]) - rows_of(gradients)).norm(dim=1)
    size = rows_of(gradients).norm(dim=1)
    size = size.clamp_min(max(1e-3, float(size.mean())))
    assert bool((off <= tolerance * size).all())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("activation", fused.ACTIVATIONS)
def test_gradients_are_those_of_autograd(activation, task, name, dtype) -> None:
    for hidden in ([3], [6, 4], [13, 1, 7]):
        for loss, scalar in (("sum", True), ("mean", False)):
            options = {
                "task": task, "activation": activation, "loss": loss, "dtype": dtype,
                "scalar_biases": scalar, "biases": "uniform01", **OPTIONS[name],
            }  # fmt: skip
            network = Network(X, target(task), hidden, **options)
            plain = ByAutograd(X, target(task), hidden, **options)
            for step in (0, 3):
                agree(network, plain, torch.arange(11), step)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_networks_of_any_shape(data) -> None:
    rows = data.draw(st.integers(2, 70), "rows")
    features = data.draw(st.integers(1, 9), "features")
    hidden = data.draw(st.lists(st.integers(1, 10), min_size=1, max_size=3), "hidden")
    task = data.draw(st.sampled_from(["classification", "regression"]), "task")
    outputs = data.draw(st.integers(2, 6), "outputs")
    batch = data.draw(st.none() | st.integers(1, 40), "batch_size")
    first = data.draw(st.integers(0, 50), "first")
    count = data.draw(st.integers(1, 20), "count")
    # Larger weights condition the sums of the third layer badly.
    scale = 10.0 ** data.draw(st.integers(-4, 0), "scale")
    activation = data.draw(st.sampled_from(list(fused.ACTIVATIONS)), "activation")
    random = np.random.default_rng(rows)
    table = random.normal(size=(rows, features))
    y = np.arange(rows) % outputs
    if task == "regression":
        y = random.normal(size=(rows, outputs))
    options = {"task": task, "activation": activation, "batch_size": batch}
    if task == "classification":
        options["outputs"] = max(outputs, int(y.max()) + 1)
    network = Network(table, y, hidden, **options)
    plain = ByAutograd(table, y, hidden, **options)
    agree(network, plain, torch.arange(first, first + count), 5, scale)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("rule", [GradientDescent(0.05), Adam(0.02)])
def test_whole_descents_are_those_by_autograd(name, rule) -> None:
    options = {"biases": "uniform01", **OPTIONS[name]}
    together = {"steps": rule, "stop": Stop(60), "record": range(0, 61, 10)}
    first = descend(Network(X, CLASSES, [6, 4], **options), 12, **together)
    second = descend(ByAutograd(X, CLASSES, [6, 4], **options), 12, **together)
    np.testing.assert_allclose(first.losses, second.losses, rtol=1e-9)
    for metric, history in first.histories.items():
        np.testing.assert_allclose(history, second.histories[metric], rtol=1e-9)
    for key, value in first.parameters.items():
        np.testing.assert_allclose(value, second.parameters[key], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_start_has_the_same_bits_in_any_company_and_lane(name, dtype) -> None:
    network = Network(X, CLASSES, [6, 4], dtype=dtype, **OPTIONS[name])
    many = torch.arange(300)
    points = network.points(range(300), 0)
    losses, gradients = network.fused(points, many, 2)
    for chosen in ([0], [7], list(range(3, 20)), [299, 5, 18, 44, 3, 2, 150, 9, 8]):
        part = {key: value[chosen] for key, value in points.items()}
        few, slopes = network.fused(part, torch.tensor(chosen), 2)
        assert torch.equal(few, losses[chosen])
        for key, slope in slopes.items():
            assert torch.equal(slope, gradients[key][chosen])


@pytest.mark.parametrize("activation", fused.ACTIVATIONS)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_what_is_not_finite_stays_with_its_start(task, activation) -> None:
    network = Network(X, target(task), [6, 4], task=task, activation=activation)
    points, starts = network.points(range(20), 0), torch.arange(20)
    losses, gradients = network.fused(points, starts, 0)
    broken = {key: value.clone() for key, value in points.items()}
    broken["weight1"][3, 0, 0] = torch.nan
    broken["weight3"][5, 0, 1] = torch.nan
    broken["bias3"][9, 0, 1] = torch.inf
    broken["weight2"][12] = 1e200 * broken["weight2"][12]
    broken["weight3"][12] = 1e200
    found, slopes = network.fused(broken, starts, 0)
    wrong = [3, 5, 9]
    assert not torch.isfinite(found[wrong]).any()
    assert not torch.isfinite(rows_of(slopes)[wrong]).all(1).any()
    well = [k for k in range(20) if k not in (*wrong, 12)]
    assert torch.equal(found[well], losses[well])
    for key, slope in slopes.items():
        assert torch.equal(slope[well], gradients[key][well])


def test_a_start_that_diverges_is_told_and_disturbs_none() -> None:
    network = Network(X, NUMBERS, [6], task="regression")
    rates = [0.01] * 20
    calm = descend(network, 20, steps=GradientDescent(rates), stop=Stop(200))
    rates[4] = 1e6
    wild = descend(network, 20, steps=GradientDescent(rates), stop=Stop(200))
    assert wild.statuses[4] is Status.NONFINITE
    others = [k for k in range(20) if k != 4]
    np.testing.assert_array_equal(calm.losses[others], wild.losses[others])
    assert np.isfinite(calm.losses).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("name", some(["splits", "plain", "weights"], 1))
def test_steps_at_once_have_the_bits_of_single_ones(name, scalar, task, dtype) -> None:
    network = Network(
        X, target(task), [6, 4], task=task, scalar_biases=scalar, dtype=dtype,
        biases="uniform01", weight_decay=0.1, **OPTIONS[name],
    )  # fmt: skip
    rates = list(np.linspace(0.01, 0.3, 21))
    for rule in (GradientDescent(0.1), GradientDescent(rates)):
        # Where every step is recorded, none is taken together with another.
        single = descend(network, 21, steps=rule, stop=Stop(90), record=range(91))
        several = descend(network, 21, steps=rule, stop=Stop(90), record=[0, 40, 90])
        np.testing.assert_array_equal(single.losses, several.losses)
        np.testing.assert_array_equal(single.gradient_norms, several.gradient_norms)
        np.testing.assert_array_equal(single.steps_taken, several.steps_taken)
        for key, value in single.parameters.items():
            np.testing.assert_array_equal(value, several.parameters[key])
        for key, history in several.histories.items():
            expected = single.histories[key][[0, 40, 90]]
            np.testing.assert_array_equal(history, expected)


def test_a_start_that_fails_among_steps_at_once_ends_where_it_does_alone() -> None:
    network = Network(X, NUMBERS, [6], task="regression")
    rates = [0.01] * 20
    rates[4] = 3.0
    rule = GradientDescent(rates)
    points, starts = network.points(range(20), 0), torch.arange(20)
    found = rule.leap(network.bind(starts), points, 0, 100)
    assert found is None
    assert rule.leap(network.bind(starts), points, 0, 2) is not None
    single = descend(network, 20, steps=rule, stop=Stop(100), record=range(101))
    several = descend(network, 20, steps=rule, stop=Stop(100))
    assert several.statuses[4] is Status.NONFINITE
    assert 2 < several.steps_taken[4] < 100
    np.testing.assert_array_equal(single.steps_taken, several.steps_taken)
    for key, value in single.parameters.items():
        np.testing.assert_array_equal(value, several.parameters[key])


def test_large_differences_of_logits() -> None:
    # Softmax far in its tails: losses from 0 to hundreds.
    network = Network(X, CLASSES, [4], weights="normal")
    plain = ByAutograd(X, CLASSES, [4], weights="normal")
    for scale in (1.0, 10.0, 30.0):
        agree(network, plain, torch.arange(16), 0, scale)


# Where it applies


@pytest.mark.parametrize(
    "network",
    [
        Network(X, CLASSES, [4], dropout=0.2),
        ByAutograd(X, CLASSES, [4]),
        Network(X, CLASSES, [4, fused.MOST_PARAMETERS]),
    ],
    ids=["dropout", "derived", "large"],
)
def test_what_is_not_covered_is_left_to_autograd(network) -> None:
    starts = torch.arange(2)
    points = network.points([0, 1], 0)
    assert network.fused(points, starts, 0) is None
    assert not network.one_threaded
    assert losses_and_gradients(network, points, starts, 0)[0].shape == (2,)


def test_the_whole_of_a_network_with_dropout_is_covered() -> None:
    network = Network(X, CLASSES, [4], dropout=0.2, batch_size=5)
    agree(network.whole, ByAutograd(X, CLASSES, [4]), torch.arange(3), 0)


def test_chunks_are_as_wide_as_the_problem_is_small() -> None:
    assert Network(X, CLASSES, [4]).width == 256
    wide = Network(np.zeros((1797, 64)) + np.eye(1797, 64), np.arange(1797) % 10, [64])
    assert wide.width == 16


def test_threads_are_chosen_by_the_problem() -> None:
    network, plain = Network(X, CLASSES, [4]), ByAutograd(X, CLASSES, [4])
    assert Pace(network, Adam(), 8, None).share(9) == (9, min(9, processors()))
    assert Pace(plain, Adam(), 8, None).share(9) == (9, 1)
    assert Pace(network, Adam(), 8, 3).share(9) == (9, 3)
    assert Pace(network, Adam(), 8, 3).share(2) == (2, 2)
    options = {"stop": Stop(20), "width": 8, "record": [0, 20]}
    runs = [descend(network, 40, threads=t, **options) for t in (None, 1, 3)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].losses, other.losses)
        np.testing.assert_array_equal(
            runs[0].histories["loss"], other.histories["loss"]
        )


# The compiler


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Forget what was compiled, and keep it in a new folder."""
    monkeypatch.setattr(compiled, "_known", {})
    monkeypatch.setattr(compiled, "_warned", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DESCENTS_COMPILE", raising=False)
    return tmp_path


def compiler_that(folder: Path, does: str) -> str:
    """Return a compiler that keeps a list of its calls, and then does something."""
    script = folder / "own cc"
    script.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/calls"\n{does}\n')
    script.chmod(0o755)
    return f"'{script}'"


def calls(folder: Path) -> list[str]:
    found = (folder / "calls").read_text().splitlines()
    return [line for line in found if line != "--version"]


def same_as_autograd(*dtypes: torch.dtype) -> None:
    for dtype in dtypes or (torch.float64,):
        network = Network(X, CLASSES, [4], dtype=dtype)
        plain = ByAutograd(X, CLASSES, [4], dtype=dtype)
        options = {"steps": Adam(0.02), "stop": Stop(5), "width": network.width}
        first, second = (descend(which, 5, **options) for which in (network, plain))
        np.testing.assert_array_equal(first.losses, second.losses)


def test_without_a_compiler_one_line_is_said(afresh, monkeypatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.warns(RuntimeWarning, match="CC is .*, which was not found") as told:
        same_as_autograd(torch.float64, torch.float64, torch.float32)
    assert len(told) == 1


def test_a_compiler_that_fails_is_told(afresh, monkeypatch) -> None:
    does = (
        'case "$*" in --version) echo 1;; *) echo "x.c: error: full" >&2; exit 1;; esac'
    )
    monkeypatch.setenv("CC", compiler_that(afresh, does))
    with pytest.warns(RuntimeWarning, match=r"failed \(x\.c: error: full\)") as told:
        same_as_autograd()
    assert len(told) == 1
    assert len(calls(afresh)) == len(compiled.MACHINES)  # once with each


def test_compilation_is_turned_off_without_a_word(afresh, monkeypatch) -> None:
    monkeypatch.setenv("CC", compiler_that(afresh, "exit 1"))
    monkeypatch.setenv("DESCENTS_COMPILE", "0")
    same_as_autograd()
    assert not (afresh / "calls").exists()


def test_what_was_compiled_is_kept(afresh, monkeypatch) -> None:
    real, _ = compiled._compiler()
    assert real is not None
    monkeypatch.setenv("CC", compiler_that(afresh, f'exec {real[0]} "$@"'))
    network = Network(X, CLASSES, [4])
    for _ in range(3):
        assert fused.compiled(network.dtype) is not None
        compiled._known.clear()  # as another process would begin
    assert len(calls(afresh)) == 1
    assert len(list((afresh / "cache" / "descents").iterdir())) == 1
    # Another precision is another library.
    assert fused.compiled(torch.float32) is not None
    assert len(calls(afresh)) == 2


def test_a_folder_that_cannot_be_written_to(afresh, monkeypatch) -> None:
    (afresh / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(afresh / "file"))
    network = Network(X, CLASSES, [4])
    with pytest.warns(
        RuntimeWarning, match="cannot be kept, because .* cannot be used"
    ):
        agree(network, ByAutograd(X, CLASSES, [4]), torch.arange(3), 0)


@pytest.mark.slow
def test_two_processes_compile_at_once(afresh) -> None:
    code = (
        "import torch; from descents.networks import fused; "
        "print(fused.compiled(torch.float64) is not None)"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [one.communicate(timeout=120)[0].strip() for one in both] == ["True"] * 2
    assert len(list((afresh / "cache" / "descents").iterdir())) == 1
