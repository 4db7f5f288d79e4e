"""The same starts in any company, on several processes, and after a resume."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from descents import (
    Adam,
    GradientDescent,
    Network,
    Problem,
    Runs,
    Status,
    Stop,
    descend,
)
from descents.cli.main import main
from descents.errors import InvalidValueError, LostProcessError
from descents.optim.stopping import EarlyStopping

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(20, 4))
CLASSES = np.arange(20) % 3
SPLITS = [range(14), range(5, 20), range(0, 20, 2)]
OPTIONS = {"steps": Adam(0.03), "stop": Stop(11), "record": [0, 6, 11]}


def network(**options) -> Network:
    return Network(
        X, CLASSES, [5], splits=SPLITS, batch_size=4, dropout=0.3, seed=9, **options
    )


def same(first: Runs, second: Runs, place: int, other: int) -> None:
    """Assert that a start has the same bits in two runs."""
    assert first.starts[place] == second.starts[other]
    for name in ("losses", "gradient_norms", "initial_gradient_norms", "steps_taken"):
        assert getattr(first, name)[place] == getattr(second, name)[other], name
    assert first.statuses[place] is second.statuses[other]
    for group in ("parameters", "metrics"):
        mine, others = getattr(first, group), getattr(second, group)
        assert mine.keys() == others.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value[place], others[name][other])
    assert first.histories.keys() == second.histories.keys()
    for name, history in first.histories.items():
        np.testing.assert_array_equal(
            history[:, place], second.histories[name][:, other]
        )


def all_same(first: Runs, second: Runs) -> None:
    assert len(first) == len(second)
    for k in range(len(first)):
        same(first, second, k, k)


class Folder:
    """A store of files, which tells what it was asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self.found, self.kept = path, [], []

    def get(self, name: str) -> Runs | None:
        if not (self.path / name).exists():
            return None
        self.found.append(name)
        return Runs.load(self.path / name)

    def put(self, name: str, runs: Runs) -> None:
        self.kept.append(name)
        runs.save(self.path / name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("early", [None, EarlyStopping(patience=2)])
def test_a_start_is_the_same_bits_among_8_and_800(dtype, early) -> None:
    problem = network(dtype=dtype, crossed=True)
    options = {**OPTIONS, "stop": Stop(8, early=early), "record": [0, 5, 8]}
    many = descend(problem, 800, **options)
    few = descend(problem, 8, **options)
    for k in range(8):
        same(few, many, k, k)
    scattered = [799, 3, 500, 256]
    company = descend(problem, scattered, **options)
    for place, k in enumerate(scattered):
        same(company, many, place, k)


def test_orders_and_dropout_differ_between_starts_and_seeds() -> None:
    """Starts that begin alike, on the same rows, part ways."""
    problem = Network(
        X, CLASSES, [5], weights=lambda g, n, m: np.full((n, m), 0.1) + np.eye(n, m),
        batch_size=4, seed=9,
    )  # fmt: skip
    dropping = Network(
        X, CLASSES, [5], weights=lambda g, n, m: np.full((n, m), 0.1) + np.eye(n, m),
        dropout=0.3, seed=9,
    )  # fmt: skip
    for each in (problem, dropping):
        runs = descend(each, 6, **OPTIONS)
        assert len(set(runs.histories["loss"][0])) == 1
        assert len(set(runs.losses)) == 6


def test_two_processes_give_the_same_bits(tmp_path) -> None:
    problem = network(crossed=True)
    plain = descend(problem, 10, width=4, **OPTIONS)
    one = descend(problem, 10, width=4, **OPTIONS)
    told = []
    store = Folder(tmp_path)
    two = descend(
        problem, 10, width=4, workers=2, store=store,
        watch=lambda starts, step, losses: told.append(list(starts)), **OPTIONS,
    )  # fmt: skip
    all_same(one, plain)
    all_same(two, plain)
    assert sorted(told) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert sorted(store.kept) == ["0-3-4", "4-7-4", "8-9-2"]
    assert two.settings == one.settings


def test_a_resume_takes_what_is_kept_and_gives_the_same_bits(tmp_path) -> None:
    problem = network()
    store = Folder(tmp_path)
    descend(problem, 8, width=4, store=store, **OPTIONS)
    again = Folder(tmp_path)
    whole = descend(problem, 14, width=4, store=again, **OPTIONS)
    assert again.found == ["0-3-4", "4-7-4"]
    # Chunks are saved as they end, in parallel threads.
    assert sorted(again.kept) == ["12-13-2", "8-11-4"]
    all_same(whole, descend(problem, 14, width=4, **OPTIONS))
    shuffled = [9, 2, 0, 1, 3]
    some = descend(problem, shuffled, width=4, store=again, **OPTIONS)
    for place, k in enumerate(shuffled):
        same(some, whole, place, k)


def test_other_starts_with_the_same_ends_are_not_taken_for_these(tmp_path) -> None:
    problem, store = network(), Folder(tmp_path)
    first = descend(problem, [0, 1, 3], width=4, store=store, **OPTIONS)
    second = descend(problem, [0, 2, 3], width=4, store=store, **OPTIONS)
    assert list(first.starts) == [0, 1, 3]
    assert list(second.starts) == [0, 2, 3]
    same(second, descend(problem, [2], width=4, **OPTIONS), 1, 0)


def test_an_interrupt_leaves_the_store_usable(tmp_path) -> None:
    class Interrupting(Adam):
        calls = 0

        def update(self, *arguments):
            type(self).calls += 1
            if self.calls == 18:  # in the second chunk of 11 steps
                raise KeyboardInterrupt
            return super().update(*arguments)

    problem, store = network(), Folder(tmp_path)
    options = {**OPTIONS, "steps": Interrupting(0.03)}
    cut = descend(problem, 12, width=4, store=store, threads=1, **options)
    assert cut.statuses == (Status.LIMIT,) * 4 + (Status.INTERRUPTED,) * 8
    assert store.kept == ["0-3-4"]
    again = Folder(tmp_path)
    whole = descend(problem, 12, width=4, store=again, **OPTIONS)
    assert again.found == ["0-3-4"]
    all_same(whole, descend(problem, 12, width=4, **OPTIONS))


def test_an_interrupt_of_two_processes_keeps_what_was_finished(tmp_path) -> None:
    def stop_now(starts, step, losses):
        raise KeyboardInterrupt

    problem, store = network(), Folder(tmp_path)
    cut = descend(
        problem, 12, width=4, workers=2, store=store, watch=stop_now, **OPTIONS
    )
    assert len(store.kept) == 1
    first = int(store.kept[0].split("-")[0])
    points = problem.points(range(12), 0)
    for k in range(12):
        if first <= k < first + 4:
            assert cut.statuses[k] is Status.LIMIT
        else:
            assert cut.statuses[k] is Status.INTERRUPTED
            np.testing.assert_array_equal(
                cut.parameters["weight2"][k], points["weight2"][k]
            )
    again = Folder(tmp_path)
    whole = descend(problem, 12, width=4, workers=2, store=again, **OPTIONS)
    assert sorted(again.found) == sorted(store.kept)
    all_same(whole, descend(problem, 12, width=4, **OPTIONS))


def test_a_killed_process_leaves_the_store_usable(tmp_path) -> None:
    flag = str(tmp_path / "flag")
    mine = os.getpid()

    class Killed(Problem):
        dtype = torch.float64

        def point(self, generator, start):
            if start == 9 and os.path.exists(flag) and os.getpid() != mine:
                # The first chunk has been kept by then.
                import time

                for _ in range(300):
                    if os.path.exists(flag + ".kept"):
                        break
                    time.sleep(0.1)
                os.unlink(flag)
                os.kill(os.getpid(), signal.SIGKILL)
            return {"x": generator.normal(size=3)}

        def losses(self, parameters, starts, step):
            return (parameters["x"] - 1).square().sum(1)

    Path(flag).touch()
    store = Folder(tmp_path)
    options = {"steps": GradientDescent(0.1), "stop": Stop(5), "width": 4}
    with pytest.raises(LostProcessError) as raised:
        descend(
            Killed(), 12, workers=2, store=store,
            watch=lambda *told: Path(flag + ".kept").touch(), **options,
        )  # fmt: skip
    assert len(store.kept) >= 1
    said = str(raised.value)
    assert f"{len(store.kept)} of 3 chunks of starts were finished" in said
    for words in ("one of 2 processes", "memory ran out", "saved", "fewer workers"):
        assert words in said
    again = Folder(tmp_path)
    whole = descend(Killed(), 12, workers=2, store=again, **options)
    assert sorted(again.found) == sorted(store.kept)
    all_same(whole, descend(Killed(), 12, **options))


@pytest.fixture
def dying(monkeypatch) -> None:
    """Let joblib give what a first task returns, and then lose a process."""

    class Dying:
        def __init__(self, **options) -> None:
            pass

        def __call__(self, tasks):
            work, given, named = next(iter(tasks))
            yield work(*given, **named)
            raise TerminatedWorkerError("killed")

    monkeypatch.setattr("joblib.Parallel", Dying)


def test_a_command_that_lost_a_process_says_how_to_go_on(
    dying, tmp_path, monkeypatch, capsys
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    monkeypatch.setattr(Network, "width", 2)  # starts 0; 1; 2 and 3; 4 and 5
    options = ["train", str(table), "--target", "b", "--starts", "6", "--epochs", "2",
               "--out", str(tmp_path / "run")]  # fmt: skip
    assert main([*options, "--workers", "2"]) == 4
    said = capsys.readouterr().err
    said = re.sub(r"^\d+% .* left\n", "", said, flags=re.MULTILINE)  # progress
    assert "1 of 4 chunks of starts were finished and saved" in said
    assert "use fewer workers; 1 finished part is kept: continue with" in said
    assert "--resume --out" in said
    assert said.count("\n") == 1
    stages = tmp_path / "run" / ".partial" / "stages"
    assert [path.name for path in stages.iterdir()] == ["kaiming-0-0-1.safetensors"]
    assert main([*options, "--resume"]) == 0


def test_an_error_in_a_process_is_the_users_to_see() -> None:
    problem = network(weights=lambda g, n, m: np.zeros(n))
    with pytest.raises(InvalidValueError, match="what weights returned"):
        descend(problem, 8, width=4, workers=2, **OPTIONS)


def test_a_budget_of_time_is_for_all_parts() -> None:
    options = {**OPTIONS, "stop": Stop(10**7, max_seconds=0.5), "record": []}
    runs = descend(network(), 8, width=4, threads=1, **options)
    assert runs.interrupted
    assert list(runs.steps_taken[4:]) == [0] * 4
    points = network().points(range(4, 8), 0)
    np.testing.assert_array_equal(runs.parameters["weight1"][4:], points["weight1"])


def test_wrong_numbers_of_workers_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="workers is 0"):
        descend(network(), 2, workers=0, **OPTIONS)
    with pytest.raises(InvalidValueError, match="starts is 0"):
        descend(network(), 0, **OPTIONS)


@pytest.mark.parametrize("batched", [pytest.param(True, marks=pytest.mark.slow), False])
def test_modules_on_two_processes(batched) -> None:
    from torch import nn

    from descents.networks.modules import Modules

    def make() -> nn.Module:
        middle = (
            nn.Tanh() if batched else nn.Sequential(nn.BatchNorm1d(5), nn.Dropout())
        )
        return nn.Sequential(nn.Linear(4, 5), middle, nn.Linear(5, 3))

    problem = Modules(make, X, CLASSES, batched=batched, batch_size=6, seed=3)
    width = 4 if batched else 1
    one = descend(problem, 7, width=width, **OPTIONS)
    two = descend(problem, 7, width=width, workers=2, **OPTIONS)
    all_same(one, two)
