"""Verdicts are of what a run returned, and the same for starts with the same evidence."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from descents import (
    Adam,
    EarlyStopping,
    GradientDescent,
    MLPStartsClassifier,
    Network,
    Status,
    Stop,
    descend,
)
from descents.diagnosis.diagnosis import diagnose
from descents.diagnosis.verdicts import Verdict
from descents.networks.modules import Modules

pytestmark = pytest.mark.filterwarnings("ignore:no start of")
"""What few epochs learn is not the subject here."""
XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(60, 4))
CLASSES = (X[:, 0] * X[:, 1] + 0.3 * RANDOM.normal(size=60) > 0).astype(int)


@pytest.mark.parametrize(
    ("activation", "steps", "count"),
    [("tanh", Adam(0.05), 250), ("relu", GradientDescent(0.5), 1000)],
)
def test_starts_at_one_loss_with_one_evidence_have_one_verdict(
    activation, steps, count
) -> None:
    weights = "normal" if activation == "tanh" else "kaiming"
    network = Network(XOR, [0, 1, 1, 0], [2], activation=activation, weights=weights)
    runs = descend(network, 32, steps=steps, stop=Stop(count))
    found = diagnose(network, runs, steps=steps)
    groups = defaultdict(set)
    sizes = defaultdict(int)
    for k, verdict in enumerate(found.verdicts):
        evidence = (
            round(float(found.loss[-1, k] / found.loss[0, k]), 1),
            round(float(runs.losses[k]), 2),
            bool(found.reached[k]),
            float(found.dead_share[k]),
        )
        groups[evidence].add(verdict)
        sizes[evidence] += 1
    assert max(sizes.values()) >= 5
    for evidence, verdicts in groups.items():
        assert len(verdicts) == 1, evidence
    assert Verdict.UNDECIDED not in found.verdicts


@pytest.mark.filterwarnings(
    "ignore:(the starts are not|start 12, which):UserWarning"
)  # too short a training
def test_a_start_that_was_ended_early_says_so() -> None:
    options = {
        "hidden_layer_sizes": (16,), "n_starts": 20, "max_epochs": 200,
        "learning_rate": 0.02, "validation": 0.33, "random_state": 0,
    }  # fmt: skip
    model = MLPStartsClassifier(early_stopping=3, **options).fit(X, CLASSES)
    found = model.diagnose(multiples=[10])
    table = model.table()
    np.testing.assert_array_equal(found.metric[0], table["training_accuracy"])
    np.testing.assert_allclose(found.loss[0], table["loss"])
    short = table["training_accuracy"] < found.threshold
    stopped = table["status"] == "stopped"
    assert (short & stopped).sum() > 5
    causes = {"ended early", "dead units", "vanishing gradient", "exploding"}
    assert set(table["verdict"][short & stopped]) <= causes
    assert "ended early" in set(table["verdict"])
    assert not (table["verdict"] == "plateau")[stopped].any()
    # The evidence is that of the returned parameters.
    later = MLPStartsClassifier(**options).fit(X, CLASSES)
    assert later.table()["training_accuracy"].mean() > found.metric[0].mean()


def test_a_start_without_progress_says_so_too() -> None:
    model = MLPStartsClassifier(
        8, n_starts=6, max_epochs=300, learning_rate=0.01, tol=0.03,
        n_iter_no_change=2, random_state=0,
    ).fit(X, CLASSES)  # fmt: skip
    runs = model.runs_
    assert Status.STALLED in runs.statuses
    found = diagnose(
        model.problem_, runs, steps=model.fitted_.rule, threshold=0.99, multiples=[5]
    )
    for verdict, status, reached in zip(
        found.verdicts, runs.statuses, found.reached, strict=True
    ):
        if status is Status.STALLED and not reached:
            assert verdict is Verdict.ENDED_EARLY


def test_an_overflow_after_the_best_is_no_success_where_it_falls_short() -> None:
    y = X[:, 0]
    network = Network(
        X.astype(np.float32), y, [8], task="regression", splits=[np.arange(40)]
    )
    steps = GradientDescent(1.0)
    runs = descend(network, 30, steps=steps, stop=Stop(200, early=EarlyStopping(patience=None)))  # fmt: skip
    over = [k for k, s in enumerate(runs.statuses) if s is Status.OVERFLOWED]
    assert over
    found = diagnose(network, runs, over, steps=steps, threshold=2.0, multiples=[2])
    assert set(found.verdicts) == {Verdict.EXPLODING}


@pytest.mark.parametrize("batch_size", [None, 8])
def test_batch_normalization_is_judged_with_its_running_means(batch_size) -> None:
    shifted = X + np.array([30.0, -20.0, 0.0, 5.0])  # far from a fresh running mean

    def made() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 6), torch.nn.ReLU(),
            torch.nn.Linear(6, 2),
        )  # fmt: skip

    problem = Modules(made, shifted, CLASSES, batched=False, batch_size=batch_size)
    before = {n: v.clone() for n, v in problem._module.named_buffers()}
    rule = Adam(0.01)
    runs = descend(problem, 3, steps=rule, stop=Stop(60))
    found = diagnose(problem, runs, steps=rule, threshold=2.0, multiples=[2])
    for name, value in problem._module.named_buffers():
        assert torch.equal(value, before[name])  # the caller's module is left alone
    fresh = []
    for k in range(3):
        module = made().double()
        state = {n: torch.tensor(v[k]) for n, v in runs.parameters.items()}
        module.load_state_dict(state)
        module.eval()
        rows = torch.tensor(shifted)
        hidden = module[:3](rows)
        dead = (hidden <= 0).all(0).double().mean()
        assert found.dead_share[k] == pytest.approx(float(dead))
        if batch_size is None:  # its loss is that of the layers in training
            module.train()
        loss = torch.nn.functional.cross_entropy(module(rows), torch.tensor(CLASSES))
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
        assert found.gradient_norm[k] == pytest.approx(float(norm), rel=1e-6)
        module.eval()
        module[0].reset_running_stats()
        fresh.append(float((module[:3](rows) <= 0).all(0).double().mean()))
    assert fresh != found.dead_share.tolist()  # else this shows nothing
