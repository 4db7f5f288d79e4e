"""The report re-run at its defaults, and its figures by other routes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from scipy import stats

from descents import (
    Factorization,
    GradientDescent,
    Network,
    Stop,
    descend,
    gd_factorise_ad,
)
from descents.errors import InvalidValueError
from descents.networks.splits import random_splits
from descents.reproduction import experiments
from descents.reproduction.agreement import compatibility
from descents.reproduction.claims import GD_LOSS, TRUNCATED_SVD_LOSS
from descents.reproduction.experiments import Parts, factorization_part, training_part
from descents.reproduction.report import reproduce
from descents.rng import stream
from descents.storage.files import read_table
from descents.storage.values import json_text
from descents.tables.datasets import uci_iris
from test_workers import all_same

SCHEMA = Path(__file__).parents[1] / "docs" / "result.schema.json"


def iris32() -> torch.Tensor:
    values = torch.tensor(uci_iris().values, dtype=torch.float32)
    return values - values.mean(0)


def setting(result, loss, weights, biases):
    return next(
        row
        for row in result["training"]["settings"]
        if (row["loss"], row["weights"], row["biases"]) == (loss, weights, biases)
    )


def test_the_result_follows_its_schema(result) -> None:
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))


def test_the_published_losses(result) -> None:
    found = result["factorization"]
    assert found["published"] == {
        "gd_loss": GD_LOSS,
        "truncated_svd_loss": TRUNCATED_SVD_LOSS,
    }
    assert found["truncated_svd_loss"] == pytest.approx(15.22883415, abs=2e-6)
    assert found["eckart_young"] == pytest.approx(
        found["truncated_svd_loss"], rel=1e-12
    )
    svd = found["truncated_svd_loss"]
    assert svd - 2e-6 <= found["gd_loss"] <= svd * (1 + 2e-5)
    assert found["gd_loss"] == pytest.approx(GD_LOSS, rel=1e-5)
    assert found["gd_loss_after_24_draws"] == pytest.approx(GD_LOSS, abs=5e-6)
    assert found["starts"]["count"] == 1000
    assert found["starts"]["below_reference"] == 0
    assert 0 <= found["starts"]["gap_median"] < 1e-4
    assert all(check["met"] for check in result["checks"])


def test_the_subspaces(result) -> None:
    found = result["subspace"]
    assert found["linear_r2"] >= 0.9999
    assert 0.90 <= found["similarity_r2"] <= 0.99
    assert max(found["principal_angles_rad"]) < 0.01


def test_the_settings(result) -> None:
    published = setting(result, "sum", "uniform01", "uniform01")
    assert 0.83 <= published["training_accuracy_mean"] <= 0.91
    averaged = setting(result, "mean", "uniform01", "zero")
    assert averaged["training_accuracy_quartiles"][1] < 0.72
    chosen = [tuple(row.values()) for row in result["training"]["chosen"]]
    assert ("sum", "uniform01", "uniform01") in chosen
    assert ("mean", "uniform01", "zero") not in chosen
    for row in result["training"]["settings"]:
        key = (row["loss"], row["weights"], row["biases"])
        assert (key in chosen) == (row["p_adjusted"] >= 0.05)
        assert row["starts"] == 1000


def test_most_failed_starts_are_on_a_plateau(result) -> None:
    found = result["diagnosis"]
    assert sum(found["verdicts"].values()) == found["failed"] > 50
    assert found["verdicts"]["plateau"] > found["failed"] / 2
    assert 0.5 < found["recovered_fraction"] < 1
    assert found["median_training_accuracy"][-1] > 0.85


def test_a_row_for_each_part_setting_split_and_start(whole, result) -> None:
    rows = read_table(whole / "starts.parquet")
    keys = list(
        zip(rows["part"], rows["setting"], rows["split"], rows["start"], strict=True)
    )
    ten = 10 * (1000 + 7 * 500) + 10
    assert len(set(keys)) == len(keys) == 2 + 1000 + 16 * 1000 + 1000 + ten
    table = rows["part"] == "table"
    failed = rows["training_accuracy"][table] < 0.8
    assert failed.sum() == result["diagnosis"]["failed"]
    assert ((rows["verdict"][table] != "") == failed).all()
    one = (rows["setting"] == "sum-uniform01-uniform01") & (rows["part"] == "settings")
    assert np.bincount(rows["split"][one].astype(int)).tolist() == [50] * 20
    mean = setting(result, "sum", "uniform01", "uniform01")["training_accuracy_mean"]
    assert rows["training_accuracy"][one].mean() == pytest.approx(mean)


def test_claim_6_gives_the_interval_of_the_rival_that_it_names(whole, result) -> None:
    rows = read_table(whole / "starts.parquet")
    chosen = result["training"]["table_setting"]
    bad = {}
    for weights in ("uniform01", "normal", "kaiming", "xavier"):
        name = f"{chosen['loss']}-{weights}-{chosen['biases']}"
        each = (rows["part"] == "settings") & (rows["setting"] == name)
        # A row for each shuffle, with its 50 starts.
        below = (rows["training_accuracy"][each] < 0.8).reshape(50, 20).T
        bad[weights] = below.astype(float)
    intervals = {}
    for rival in ("normal", "kaiming", "xavier"):
        by_shuffle = (bad["uniform01"] - bad[rival]).mean(1)
        test = stats.ttest_1samp(by_shuffle, 0.0)
        intervals[rival] = (by_shuffle.mean(), *test.confidence_interval(0.95))
    claim = result["claims"][5]
    evidence = claim["evidence"]
    least = min(intervals, key=lambda rival: intervals[rival][0])
    assert evidence["rival_with_least_excess"] == least
    names = ("excess_failure", "least_excess_low", "least_excess_high")
    assert [evidence[name] for name in names] == pytest.approx(intervals[least])
    for place, name in enumerate(("excess_failure_low", "excess_failure_high"), 1):
        smallest = min(interval[place] for interval in intervals.values())
        assert evidence[name] == pytest.approx(smallest)
    low, high = (f"{end:.1%}" for end in intervals[least][1:])
    assert f"95% interval of this difference {low} to {high}" in claim["finding"]


def plain_network(
    k: int,
    weights: str,
    biases: str,
    loss: str,
    dtype: torch.dtype,
    *,
    numbered: bool = False,
):
    """Train start k on the fixed shuffle as a plain script would.

    `numbered`: classes have the index of the order in which they appear.
    """
    values = torch.tensor(uci_iris().values, dtype=torch.float32)
    x = ((values - values.mean(0)) / values.var(0)).to(dtype)
    y = torch.tensor(uci_iris().classes)
    order = torch.tensor(stream(0, "split", 20).permutation(150))
    seen = list(dict.fromkeys(y[order].tolist())) if numbered else [0, 1, 2]
    y = torch.tensor([seen.index(kind) for kind in y.tolist()])
    rows, held_out = order[:100], order[100:]
    draw = stream(0, "start", k)
    rules = {
        "uniform01": lambda i, o: draw.random((i, o)),
        "normal": lambda i, o: draw.standard_normal((i, o)),
        "kaiming": lambda i, o: draw.standard_normal((i, o)) * np.sqrt(2 / i),
        "xavier": lambda i, o: draw.uniform(-1, 1, (i, o)) * np.sqrt(6 / (i + o)),
    }
    W1, W2 = (rules[weights](i, o) for i, o in ((4, 12), (12, 3)))
    b1, b2 = (draw.random() if biases == "uniform01" else 0.0 for _ in range(2))
    leaves = [
        torch.tensor(value, dtype=torch.float32).to(dtype).requires_grad_()
        for value in (W1, b1, W2, b2)
    ]

    def logits(features):
        W1, b1, W2, b2 = leaves
        return torch.relu(features @ W1 + b1) @ W2 + b2

    optimizer = torch.optim.SGD(leaves, lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            logits(x[rows]), y[rows], reduction=loss
        ).backward()
        optimizer.step()
    with torch.no_grad():
        final = torch.nn.functional.cross_entropy(
            logits(x[rows]).double(), y[rows], reduction=loss
        )
        accuracies = [
            float((logits(x[chosen]).argmax(1) == y[chosen]).double().mean())
            for chosen in (rows, held_out)
        ]
    return (*accuracies, float(final))


def test_a_plain_loop_gives_the_same_table_1(whole, result) -> None:
    rows = read_table(whole / "starts.parquet")
    losses = rows["loss"][rows["part"] == "table"]
    chosen = result["training"]["table_setting"]
    setting = (chosen["weights"], chosen["biases"], chosen["loss"])
    for row in result["training"]["table"]:
        k = row["start"]
        for dtype in (torch.float32, torch.float64):
            training, validation, loss = plain_network(
                k, *setting, dtype, numbered=True
            )
            assert row["training_accuracy"] == pytest.approx(training)
            assert row["validation_accuracy"] == pytest.approx(validation)
        # Rounding of float32 grows along a steep descent, in a plain loop as well: the
        # loss is that of float64, which the next test compares more closely.
        assert losses[k] == pytest.approx(loss, rel=1e-4), k


@pytest.mark.parametrize("weights", ["uniform01", "normal", "kaiming", "xavier"])
@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_a_plain_loop_gives_the_same_losses_to_1e_6(weights, loss) -> None:
    values = torch.tensor(uci_iris().values, dtype=torch.float32)
    x = ((values - values.mean(0)) / values.var(0)).double()
    problem = Network(
        x,
        uci_iris().classes,
        [12],
        weights=weights,
        biases="uniform01",
        loss=loss,
        scalar_biases=True,
        splits=random_splits(150, 100, [20], seed=0),
    )
    points = {n: p.float().double() for n, p in problem.points(range(10), 0).items()}
    # The bits that float32 begins with.
    problem.points = lambda starts, seed: {n: p[starts] for n, p in points.items()}
    runs = descend(problem, 10, steps=GradientDescent(0.01), stop=Stop(100))
    for k in range(10):
        *accuracies, final = plain_network(k, weights, "uniform01", loss, torch.float64)
        assert runs.losses[k] == pytest.approx(final, rel=1e-6), k
        assert [runs.metrics[n][k] for n in list(runs.metrics)[:2]] == accuracies


def sheet_gd(A, rank, num_epochs=1000, lr=0.01, generator=None):
    """Descend as the exercise sheet does, with an optimizer."""
    U = torch.rand(A.shape[0], rank, generator=generator).requires_grad_()
    V = torch.rand(A.shape[1], rank, generator=generator).requires_grad_()
    optimizer = torch.optim.SGD([U, V], lr=lr)
    for _ in range(num_epochs):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(U @ V.T, A, reduction="sum").backward()
        optimizer.step()
    return U.detach(), V.detach()


def test_gd_factorise_ad_is_the_function_of_the_sheet() -> None:
    A = iris32()
    found = gd_factorise_ad(A, 2, generator=torch.Generator().manual_seed(0))
    plain = sheet_gd(A, 2, generator=torch.Generator().manual_seed(0))
    for mine, theirs in zip(found, plain, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    losses = [
        float(torch.nn.functional.mse_loss(U @ V.T, A, reduction="sum"))
        for U, V in (found, plain)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_gd_factorise_ad_takes_torch_s_stream_as_the_sheet_does() -> None:
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(0)
        default = gd_factorise_ad(iris32(), 2, num_epochs=0)
        torch.manual_seed(0)
        expected = torch.rand(150, 2), torch.rand(4, 2)
    finally:
        torch.random.set_rng_state(state)
    torch.testing.assert_close(default, expected, rtol=0, atol=0)


def test_gd_factorise_ad_refuses_with_all_that_is_wrong() -> None:
    with pytest.raises(InvalidValueError, match="rank is 5.*num_epochs is -1.*lr is 0"):
        gd_factorise_ad(iris32(), 5, num_epochs=-1, lr=0)


def without_time(result):
    return {key: value for key, value in result.items() if key != "seconds"}


def test_few_starts_and_another_seed(unbroken) -> None:
    result = json.loads((unbroken / "result.json").read_text())
    assert (result["run"]["starts"], result["run"]["seed"]) == (7, 5 + 2**40)
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert len(result["training"]["table"]) == 7
    assert all(row["starts"] == 100 for row in result["training"]["settings"])
    # The report's own runs keep torch's seed.
    assert result["factorization"]["gd_loss"] == pytest.approx(GD_LOSS, rel=1e-5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result() -> None:
    first, again = (json_text(reproduce(7, 5).result) for _ in range(2))
    assert without_time(json.loads(again)) == without_time(json.loads(first))


@pytest.mark.slow
def test_two_processes_give_the_same_bits(monkeypatch) -> None:
    monkeypatch.setattr(experiments, "WEIGHT_RULES", ("kaiming", "normal"))
    for kind in (Network, Factorization):  # two chunks of the starts of a part
        monkeypatch.setattr(kind, "width", 64)
    one, two = (
        Parts(None, None, None, threads=1, workers=workers) for workers in (1, 2)
    )
    first, second = (factorization_part(p, 70, 3, "cpu").ours for p in (one, two))
    all_same(first, second)
    first, second = (training_part(p, 70, 3, "cpu") for p in (one, two))
    assert first.likeliest == second.likeliest
    all_same(first.table, second.table)
    for setting, runs in first.settings.items():
        all_same(runs, second.settings[setting])


def test_wrong_arguments_are_told_together() -> None:
    told = "starts is 0.*workers is 0.*seed is -1.*device is"
    with pytest.raises(InvalidValueError, match=told):
        reproduce(0, -1, device="nowhere", workers=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "weights", "biases"),
    [("sum", "uniform01", "uniform01"), ("sum", "kaiming", "zero")],
)
def test_a_new_table_on_a_new_shuffle_is_rejected_as_rarely_as_it_should_be(
    loss, weights, biases
) -> None:
    """Real networks: 20 of 200 shuffles make the null, a table comes from another."""
    iris = uci_iris()
    values = torch.tensor(iris.values, dtype=torch.float32)
    network = Network(
        ((values - values.mean(0)) / values.var(0)).numpy(),
        iris.classes,
        [12],
        weights=weights,
        biases=biases,
        loss=loss,
        scalar_biases=True,
        splits=random_splits(150, 100, range(200), 1),
    )
    runs = descend(network, 10_000, 1, steps=GradientDescent(0.01), stop=Stop(100))
    pairs = np.stack(list(runs.metrics.values())[:2], 1)
    shuffle = runs.starts % 200
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(400):
        own, *others = rng.permutation(200)[:21]
        table = pairs[rng.choice(np.flatnonzero(shuffle == own), 10, replace=False)]
        null = np.isin(shuffle, others)
        found = compatibility(table, [pairs[null]], [shuffle[null]], rng)
        p_values.append(found.p_values[0])
    for level in (0.05, 0.05 / 16):
        rejected = np.mean(np.array(p_values) <= level)
        # Tables share shuffles, so the error is somewhat more than binomial.
        assert rejected <= level + 3 * np.sqrt(level * (1 - level) / 400), level
