"""Early stopping against a plain loop over the whole history of the metric."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from descents import (
    LBFGS,
    Adam,
    Factorization,
    GradientDescent,
    Momentum,
    Network,
    Problem,
    Status,
    Stop,
    descend,
)
from descents.errors import InvalidValueError
from descents.optim.problem import losses_and_gradients
from descents.optim.stopping import EarlyStopping

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(40, 5))
CLASSES = (X[:, 0] + 0.8 * RANDOM.normal(size=40) > 0).astype(int)
SPLITS = [range(20), range(12, 33)]


def plain(curve: np.ndarray, rule: EarlyStopping) -> tuple[int, int]:
    """Return the best step, and the step at which a plain loop stops."""
    sign = -1 if rule.higher_is_better else 1
    best, best_step, waited = np.inf, 0, 0
    last = len(curve) - 1
    for step in [*range(0, last, rule.every), last]:
        value = sign * curve[step]
        if np.isinf(best) or best - value > rule.min_delta * abs(best):
            best, best_step, waited = value, step, 0
        else:
            waited += 1
            if waited == rule.patience and step < last:
                return best_step, step
    return best_step, last


@pytest.mark.parametrize(
    "rule",
    [
        EarlyStopping(patience=3),
        EarlyStopping(every=4, patience=2),
        EarlyStopping(patience=5, min_delta=0.02),
        EarlyStopping("validation_accuracy", higher_is_better=True, patience=6),
        EarlyStopping(patience=None),
        EarlyStopping("training_accuracy", higher_is_better=True, every=7, patience=2),
    ],
    ids=lambda rule: f"{rule.metric}-{rule.every}-{rule.patience}-{rule.min_delta}",
)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_it_is_a_plain_loop_that_keeps_the_best(rule, batch_size) -> None:
    network = Network(X, CLASSES, [8], splits=SPLITS, batch_size=batch_size)
    steps = Adam(0.05)
    whole = descend(network, 6, steps=steps, stop=Stop(60), record=range(61))
    runs = descend(network, 6, steps=steps, stop=Stop(60, early=rule))
    stopped = 0
    for k in range(6):
        best, end = plain(whole.histories[rule.metric][:, k], rule)
        assert runs.metrics["best_step"][k] == best
        assert runs.steps_taken[k] == end
        expected = Status.STOPPED if end < 60 else Status.LIMIT
        assert runs.statuses[k] is expected
        stopped += end < 60
        # What it returns is the point of that step, and all that is told is of it.
        there = descend(network, [k], steps=steps, stop=Stop(int(best)))
        for name, value in there.parameters.items():
            np.testing.assert_array_equal(runs.parameters[name][k], value[0])
        assert runs.losses[k] == there.losses[0]
        assert runs.gradient_norms[k] == there.gradient_norms[0]
        assert runs.metrics[rule.metric][k] == there.metrics[rule.metric][0]
    assert (stopped > 0) == (rule.patience is not None)


def test_a_start_does_not_depend_on_who_stops_beside_it() -> None:
    network = Network(X, CLASSES, [8], splits=SPLITS, batch_size=8)
    stop = Stop(60, early=EarlyStopping(patience=3))
    options = {"steps": Adam(0.05), "stop": stop, "record": range(0, 61, 5)}
    many = descend(network, 12, **options)
    assert len(set(many.steps_taken)) > 2
    for k in (0, 5, 11):
        alone = descend(network, [k], **options)
        assert alone.losses[0] == many.losses[k]
        assert alone.metrics["best_step"][0] == many.metrics["best_step"][k]
        np.testing.assert_array_equal(
            alone.histories["loss"][:, 0], many.histories["loss"][:, k]
        )


@pytest.mark.parametrize("steps", [LBFGS(), Momentum(0.3)])
def test_the_gradient_is_that_of_the_best_point(steps) -> None:
    network = Network(X, CLASSES, [8], splits=SPLITS)
    runs = descend(network, 4, steps=steps, stop=Stop(40, early=EarlyStopping()))
    assert (runs.metrics["best_step"] < runs.steps_taken).any()
    points = {name: torch.tensor(value) for name, value in runs.parameters.items()}
    losses, gradients = losses_and_gradients(network, points, torch.arange(4), 0)
    np.testing.assert_allclose(runs.losses, losses, rtol=1e-13)
    norms = torch.cat([g.flatten(1) for g in gradients.values()], 1).norm(dim=1)
    np.testing.assert_allclose(runs.gradient_norms, norms, rtol=1e-10)


def falling(least: float = 0.0) -> Problem:
    """Return a problem of loss (x - 1)^2 + least and metric (x - 1)^2, from x = 0."""

    class Told(Problem):
        dtype = torch.float64

        def point(self, generator, start):
            return {"x": np.zeros(())}

        def losses(self, parameters, starts, step):
            return (parameters["x"] - 1).square() + least

        def metrics(self, parameters, starts):
            return {"measured": (parameters["x"] - 1).square()}

    return Told()


def test_a_start_that_becomes_non_finite() -> None:
    rule = EarlyStopping("measured", patience=None)
    rates = [0.1, 1e200, 0.2]
    runs = descend(
        falling(), 3, steps=GradientDescent(rates), stop=Stop(20, early=rule)
    )
    assert runs.statuses == (Status.LIMIT, Status.NONFINITE, Status.LIMIT)
    assert np.isinf(runs.losses[1])
    np.testing.assert_allclose(runs.losses[[0, 2]], [0.8**40, 0.6**40], rtol=1e-10)
    assert list(runs.metrics["best_step"][[0, 2]]) == [20, 20]


def test_an_overshooting_start_is_stopped_at_its_best() -> None:
    rule = EarlyStopping("measured", patience=4)
    # At rate 1.1 |x - 1| grows by 1.2 at each step: the beginning is best.
    runs = descend(
        falling(), 2, steps=GradientDescent([1.1, 0.5]), stop=Stop(50, early=rule)
    )
    assert list(runs.metrics["best_step"]) == [0, 1]
    assert list(runs.steps_taken) == [4, 5]
    np.testing.assert_array_equal(runs.losses, [1.0, 0.0])
    assert runs.statuses == (Status.STOPPED,) * 2


def test_a_start_that_rests_is_looked_at_where_it_rests() -> None:
    rule = EarlyStopping("measured", every=25, patience=None)
    stop = Stop(60, gradient_tol=1e-3, early=rule)
    runs = descend(falling(1.0), 1, steps=GradientDescent(0.1), stop=stop)
    # A Newton step gains 0.8^2n of the loss 1 + 0.8^2n: at most 1e-6 of it first at
    # n = 31; looked at when n is 40.
    assert runs.statuses == (Status.STATIONARY,)
    assert runs.steps_taken[0] == runs.metrics["best_step"][0] == 40
    np.testing.assert_allclose(runs.losses, 1 + 0.8**80, rtol=1e-15)
    np.testing.assert_allclose(runs.metrics["measured"], 0.8**80, rtol=1e-10)


def test_a_projected_start_has_the_mapping_of_its_best_point() -> None:
    table = np.abs(RANDOM.normal(size=(12, 6)))
    problem = Factorization(table, 2, constraint="nonnegative")

    class Told(Factorization):
        def metrics(self, parameters, starts):
            # Best in the middle: the distance of U's size to a value on its way.
            size = parameters["U"].square().sum((1, 2))
            return {"measured": (size - 6.0).abs()}

    told = Told(table, 2, constraint="nonnegative")
    rule = EarlyStopping("measured", patience=None)
    runs = descend(told, 3, steps=Adam(0.02), stop=Stop(80, early=rule))
    assert runs.metrics["best_step"].min() < 80
    for k in range(3):
        best = int(runs.metrics["best_step"][k])
        there = descend(
            problem, [k], steps=Adam(0.02), stop=Stop(best), width=told.width
        )
        np.testing.assert_allclose(runs.gradient_norms[k], there.gradient_norms[0])


def test_a_metric_that_is_not_recorded_is_refused() -> None:
    network = Network(X, CLASSES, [3])  # nothing is held out
    with pytest.raises(
        InvalidValueError,
        match="uses the metric 'validation_loss', which the problem does not record; it "
        "records training_accuracy, dead_units",
    ):
        descend(network, 2, stop=Stop(5, early=EarlyStopping()))
    with pytest.raises(InvalidValueError, match="it records no metric"):
        descend(Factorization(X, 1), 2, stop=Stop(5, early=EarlyStopping("x")))


def test_wrong_rules_are_told_together() -> None:
    with pytest.raises(
        InvalidValueError, match="every is 0.*patience is 0.*min_delta is -1"
    ):
        EarlyStopping(every=0, patience=0, min_delta=-1)
