"""How starts end: by their training loss, at their limit, or by an overflow after the best."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from descents import (
    Adam,
    EarlyStopping,
    GradientDescent,
    MLPStartsClassifier,
    MLPStartsRegressor,
    Momentum,
    Network,
    Problem,
    Status,
    Stop,
    descend,
    train_module,
)
from descents.errors import InvalidValueError
from descents.networks import network as networks
from descents.optim import graphs as recording
from descents.optim.first_order import AdamW
from descents.optim.stopping import NoProgress

pytestmark = pytest.mark.filterwarnings("ignore:no start of")
"""What few epochs learn is not the subject here."""
RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(40, 3))
CLASSES = (X[:, 0] + 0.8 * RANDOM.normal(size=40) > 0).astype(int)
NUMBERS = X[:, 0] + 0.1 * RANDOM.normal(size=40)


def plain(curve: np.ndarray, rule: NoProgress) -> int:
    """Return how many epochs scikit-learn's rule would take of a curve of losses."""
    least, count = np.inf, 0
    for epoch, loss in enumerate(curve, 1):
        count = count + 1 if loss > least - rule.tol else 0
        least = min(least, loss)
        if count > rule.patience:
            return epoch
    return len(curve)


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("steps", [Adam(0.05), GradientDescent(0.3)])
def test_it_ends_as_scikit_learns_rule(steps, batch_size) -> None:
    network = Network(X, CLASSES, [6], batch_size=batch_size, weight_decay=0.01)
    epoch = network.batches.steps_in_epoch
    rule = NoProgress(tol=2e-3, patience=3, every=epoch)
    starts = torch.arange(5)
    # The losses of the steps, by single steps with no rule at all.
    points = network.points(range(5), 0)
    bound = network.bind(starts)
    state, curves = steps.init(bound, points), []
    for step in range(60 * epoch):
        update = steps.update(bound, points, state, step)
        points, state = update.parameters, update.state
        curves.append(update.losses)
    curve = torch.stack(curves).reshape(60, epoch, 5).mean(1).numpy()
    runs = descend(network, 5, steps=steps, stop=Stop(60 * epoch, progress=rule))
    expected = [plain(curve[:, k], rule) for k in range(5)]
    assert [int(n) for n in runs.steps_taken] == [n * epoch for n in expected]
    ended = [Status.STALLED if n < 60 else Status.LIMIT for n in expected]
    assert list(runs.statuses) == ended
    assert Status.STALLED in ended
    for k in range(5):  # at the point where it ended
        there = descend(network, [k], steps=steps, stop=Stop(int(runs.steps_taken[k])))
        np.testing.assert_allclose(runs.losses[k], there.losses[0], rtol=1e-12)


def test_the_number_of_epochs_is_scikit_learns() -> None:
    options = {"max_iter": 200, "n_iter_no_change": 4, "tol": 1e-3}
    peer = MLPClassifier((4,), solver="sgd", learning_rate_init=1e-9, **options)
    peer.fit(X, CLASSES)
    ours = MLPStartsClassifier(
        4, optimizer="gd", learning_rate=1e-9, max_epochs=200, batch_size=20,
        tol=1e-3, n_iter_no_change=4, n_starts=3, random_state=0,
    ).fit(X, CLASSES)  # fmt: skip
    assert list(ours.table()["epochs"]) == [peer.n_iter_] * 3
    assert ours.n_iter_ == peer.n_iter_ < 200
    assert list(ours.table()["status"]) == ["stalled"] * 3


def test_a_start_ends_by_itself_alone() -> None:
    options = {"max_epochs": 80, "tol": 5e-3, "n_iter_no_change": 2, "batch_size": 8}
    many = MLPStartsRegressor(5, n_starts=40, random_state=3, **options).fit(X, NUMBERS)
    few = MLPStartsRegressor(5, n_starts=7, random_state=3, **options).fit(X, NUMBERS)
    assert len(set(many.table()["epochs"])) > 3
    for name in ("loss", "epochs", "status"):
        np.testing.assert_array_equal(few.table()[name], many.table()[name][:7])


def test_without_compiled_code_starts_end_alike(monkeypatch) -> None:
    network = Network(X, CLASSES, [6])
    stop = Stop(80, progress=NoProgress(tol=2e-3, patience=3))
    compiled = descend(network, 5, steps=Adam(0.05), stop=stop)
    monkeypatch.setattr(networks, "losses_and_gradients", lambda *_: None)
    monkeypatch.setattr(networks, "plain_steps", lambda *_: None)
    by_torch = descend(network, 5, steps=Adam(0.05), stop=stop)
    np.testing.assert_array_equal(compiled.steps_taken, by_torch.steps_taken)
    assert compiled.statuses == by_torch.statuses
    assert Status.STALLED in compiled.statuses


@pytest.mark.parametrize("recorded", [False, True])
def test_a_device_that_is_not_read_at_every_step(monkeypatch, recorded) -> None:
    network = Network(X, CLASSES, [6], batch_size=9)
    epoch = network.batches.steps_in_epoch
    stop = Stop(60 * epoch, progress=NoProgress(tol=5e-3, patience=3, every=epoch))
    read = descend(network, 5, steps=Adam(0.05), stop=stop)
    monkeypatch.setattr("descents.optim.chunk.remote", lambda device: True)
    if recorded:

        def record(body, device):
            body()
            return body

        monkeypatch.setitem(recording.RECORDERS, "cpu", record)
        assert recording.Recording.possible(Adam(), network.bind(torch.arange(5)), 1)
    unread = descend(network, 5, steps=Adam(0.05), stop=stop)
    assert Status.STALLED in read.statuses
    np.testing.assert_array_equal(read.steps_taken, unread.steps_taken)
    np.testing.assert_allclose(read.losses, unread.losses, rtol=1e-10)
    assert read.statuses == unread.statuses


def test_modules_end_alike() -> None:
    def made() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
        )

    options = {"learning_rate": 1e-9, "max_epochs": 50, "optimizer": "gd"}
    runs = train_module(
        made, X, CLASSES, n_starts=2, tol=1e-3, n_iter_no_change=3, **options
    )
    # The first epoch sets the least loss; four more than it make one too many.
    assert list(runs.steps_taken) == [5, 5]
    assert set(runs.statuses) == {Status.STALLED}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": -1.0}, "tol is -1"),
        ({"tol": "small"}, "tol is 'small'"),
        ({"tol": 1e-3, "n_iter_no_change": 0}, "n_iter_no_change is 0"),
    ],
)
def test_wrong_ends_are_refused(options, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        MLPStartsClassifier(4, **options).fit(X, CLASSES)
    with pytest.raises(InvalidValueError, match=message):
        train_module(torch.nn.Identity, X, CLASSES, **options)


RATES = Momentum([0.1, 0.6, 0.2, 0.3, 0.4, 0.5, 0.1, 0.1, 0.1, 0.6])
"""Of ten starts, some of which overflow after the first epoch, and some in it."""


class Bursting(Problem):
    """(x - 1)^2 from 0, its metric; NaN from step 12 + k on, but of start 2 and at the end."""

    dtype = torch.float64

    def point(self, generator, start):
        return {"x": np.zeros(1)}

    def losses(self, parameters, starts, step):
        losses = (parameters["x"][:, 0] - 1).square()
        late = (starts != 2) & (step >= 12 + starts) & (step < 40)
        return losses + torch.where(late, torch.nan, 0.0)

    def metrics(self, parameters, starts):
        return {"measured": (parameters["x"][:, 0] - 0.5).square()}


@pytest.mark.parametrize(
    "steps", [GradientDescent(0.01), Momentum(0.01), Adam(0.1), AdamW(0.1)]
)
@pytest.mark.parametrize("width", [1, 3])
def test_every_rule_goes_back_to_its_best(steps, width) -> None:
    early = EarlyStopping("measured", patience=None)
    whole = descend(Bursting(), 3, steps=steps, stop=Stop(10), record=range(11))
    runs = descend(Bursting(), 3, steps=steps, stop=Stop(40, early=early), width=width)
    assert runs.statuses == (Status.OVERFLOWED, Status.OVERFLOWED, Status.LIMIT)
    for k in (0, 1):
        assert runs.steps_taken[k] == 12 + k
        best = int(runs.metrics["best_step"][k])
        least = whole.histories["measured"][:, k].min()
        assert runs.metrics["measured"][k] <= least
        assert 0 < best <= 12 + k
        there = descend(Bursting(), [k], steps=steps, stop=Stop(best), width=width)
        assert runs.parameters["x"][k] == there.parameters["x"][0]
        assert runs.losses[k] == (runs.parameters["x"][k, 0] - 1) ** 2


def overflowing(batch_size: int | None, **options) -> Network:
    return Network(
        X.astype(np.float32), NUMBERS, [8], task="regression", batch_size=batch_size,
        splits=[np.arange(28)], **options,
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [None, 7])
def test_the_best_epoch_outlasts_an_overflow(batch_size) -> None:
    network, steps = overflowing(batch_size), RATES
    epoch = network.batches.steps_in_epoch
    early = EarlyStopping(every=epoch, patience=None)
    runs = descend(network, 10, steps=steps, stop=Stop(300 * epoch, early=early))
    over = [k for k in range(10) if runs.statuses[k] is Status.OVERFLOWED]
    gone = [k for k in range(10) if runs.statuses[k] is Status.NONFINITE]
    assert over
    assert gone
    assert np.isfinite(runs.losses[over]).all()
    assert np.isinf(runs.losses[gone]).all()
    for k in over:
        best = int(runs.metrics["best_step"][k])
        assert best > 0
        there = descend(network, [k], steps=steps, stop=Stop(best))
        assert runs.losses[k] == there.losses[0]
        for name in ("validation_loss", "training_r2"):
            assert runs.metrics[name][k] == there.metrics[name][0]
        for name, value in there.parameters.items():
            np.testing.assert_array_equal(runs.parameters[name][k], value[0])
    for k in gone:  # nothing was learned before it overflowed
        assert runs.metrics["best_step"][k] == 0


def test_overflows_in_parts_and_when_gone_on_with() -> None:
    class Memory(dict):
        put = dict.__setitem__

    network, steps = overflowing(7), RATES
    stop = Stop(1200, early=EarlyStopping(every=4, patience=None))
    whole = descend(network, 10, steps=steps, stop=stop, width=2)
    assert Status.OVERFLOWED in whole.statuses
    store = Memory()
    for _ in range(2):
        parts = descend(network, 10, steps=steps, stop=stop, width=2, store=store)
        assert parts.statuses == whole.statuses
        np.testing.assert_array_equal(parts.losses, whole.losses)
    assert [s.word for s in parts.statuses] == list(parts.table()["status"])


def test_a_metric_that_is_never_defined_keeps_the_last_epoch() -> None:
    y = np.where(np.arange(40) < 28, NUMBERS, 1.0)  # constant where it is held out
    network = Network(X, y, [8], task="regression", splits=[np.arange(28)])
    rule = EarlyStopping("validation_r2", higher_is_better=True, patience=2)
    runs = descend(network, 3, steps=Adam(0.01), stop=Stop(30, early=rule))
    plain_runs = descend(network, 3, steps=Adam(0.01), stop=Stop(30))
    np.testing.assert_array_equal(runs.losses, plain_runs.losses)
    assert list(runs.metrics["best_step"]) == [30] * 3
    assert set(runs.statuses) == {Status.LIMIT}


def test_estimators_return_the_kept_epoch_and_say_so() -> None:
    options = {
        "hidden_layer_sizes": (8,), "optimizer": "momentum", "learning_rate": 0.4,
        "n_starts": 12, "random_state": 0, "validation": 0.33, "max_epochs": 300,
        "early_stopping": EarlyStopping(patience=None),
    }  # fmt: skip
    rows = np.random.default_rng(0)
    features = rows.normal(size=(80, 3))
    y = features[:, 0] + 0.1 * rows.normal(size=80)
    # Those that have an epoch to go back to have not failed.
    with pytest.warns(ConvergenceWarning, match="4 of 12 starts failed.* the other 8"):
        model = MLPStartsRegressor(**options).fit(features, y)
    table = model.table()
    np.testing.assert_array_equal(model.failed(), table["status"] == "nonfinite")
    np.testing.assert_array_equal(model.failed("loss"), model.failed())
    over = np.flatnonzero(table["status"] == "overflowed")
    assert len(over)
    assert np.isfinite(table["validation_loss"][over]).all()
    first = int(over[0])
    options["max_epochs"] = int(table["best_epoch"][first]) + 1
    again = MLPStartsRegressor(**options).fit(features, y).table()
    assert again["status"][first] == "limit"
    assert again["validation_loss"][first] == table["validation_loss"][first]
    assert again["best_epoch"][first] == table["best_epoch"][first]


def test_scikit_learn_warns_where_it_is_cut_off() -> None:
    # The counts above are of a peer that ended by its rule, not by its limit.
    with pytest.warns(ConvergenceWarning):
        MLPClassifier((4,), max_iter=2).fit(X, CLASSES)
