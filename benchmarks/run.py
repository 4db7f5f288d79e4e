"""What many starts in one batch cost, as ratios against peers in the same run.

Each case trains the report's network (4-12-3, 100 rows, summed cross-entropy, 100
epochs of full-batch gradient descent). The contenders take turns, so that a drift of
the machine falls on all of them; what is printed is the median of the ratios, turn by
turn, with their range. Quality stands beside time: the mean training accuracy.

    python benchmarks/run.py [--starts 200] [--turns 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from descents import GradientDescent, Network, Stop, descend
from descents.data.datasets import uci_iris
from descents.problems.batches import random_splits

EPOCHS, RATE = 100, 0.01


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the standardized table and the classes of one shuffle's training rows."""
    values = torch.tensor(uci_iris().values, dtype=torch.float32)
    features = (values - values.mean(0)) / values.var(0)
    rows = torch.tensor(random_splits(150, 100, [0], seed=0)[0])
    return features[rows], torch.tensor(uci_iris().classes)[rows]


def batched(starts: int) -> float:
    """Train all starts by the engine."""
    x, y = data()
    problem = Network(
        x,
        y,
        [12],
        weights="uniform01",
        biases="uniform01",
        loss="sum",
        scalar_biases=True,
    )
    runs = descend(problem, starts, steps=GradientDescent(RATE), stop=Stop(EPOCHS))
    return float(runs.metrics["training_accuracy"].mean())


def draw(starts: int) -> list[torch.Tensor]:
    """Return weights and biases of all starts, stacked."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 12), (1,), (12, 3), (1,))
    return [torch.rand(starts, *shape, generator=generator) for shape in shapes]


def logits(p: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return what one network says."""
    return torch.relu(x @ p[0] + p[1]) @ p[2] + p[3]


def plain_loop(starts: int) -> float:
    """Train one start after the other with torch.optim."""
    x, y = data()
    accuracies = []
    for one in zip(*draw(starts), strict=True):
        p = [value.clone().requires_grad_() for value in one]
        optimizer = torch.optim.SGD(p, lr=RATE)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(logits(p, x), y, reduction="sum")
            loss.backward()
            optimizer.step()
        accuracies.append(float((logits(p, x).argmax(1) == y).float().mean()))
    return float(np.mean(accuracies))


def vmapped(starts: int) -> float:
    """Train all starts by torch.func.vmap."""
    x, y = data()

    def loss(*p: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits(list(p), x), y, reduction="sum")

    gradient = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2, 3)))
    p = draw(starts)
    for _ in range(EPOCHS):
        p = [value - RATE * g for value, g in zip(p, gradient(*p), strict=True)]
    said = torch.func.vmap(lambda *p: logits(list(p), x))(*p).argmax(-1)
    return float((said == y).float().mean())


def main() -> None:
    """Run the contenders in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    contenders: dict[str, Callable[[int], float]] = {
        "descents": batched,
        "torch.func.vmap": vmapped,
        "plain loop": plain_loop,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    quality: dict[str, float] = {}
    for turn in range(options.turns + 1):
        for name, contender in contenders.items():
            begun = time.perf_counter()
            quality[name] = contender(options.starts)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - begun)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'':<16} {'starts/s':>9} {'accuracy':>9}  times slower (range)")
    for name, taken in seconds.items():
        ratios = [t / own for t, own in zip(taken, seconds["descents"], strict=True)]
        print(
            f"{name:<16} {options.starts / statistics.median(taken):>9.0f} "
            f"{quality[name]:>9.3f}  {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
