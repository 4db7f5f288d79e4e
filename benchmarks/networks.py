"""Many starts of small networks: the report's on iris, and a larger one on digits.

Weights and biases of the report's network begin uniform on [0, 1), for each contender
from a generator of its own: quality is the mean training accuracy over the starts,
which would differ were something else trained.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from suite import Case, Contender, Curve, Outcome, Run

EPOCHS, RATE = 100, 0.01
SHAPES = ((4, 12), (1,), (12, 3), (1,))
DIGITS_EPOCHS, DIGITS_RATE = 200, 0.2


def iris() -> tuple[np.ndarray, np.ndarray]:
    """Return 100 rows of UCI's table, standardized as the report does, and classes."""
    from descents.data.datasets import uci_iris

    values = uci_iris().values.astype(np.float32)
    features = (values - values.mean(0)) / values.var(0, ddof=1)
    rows = np.random.default_rng(0).permutation(len(values))[:100]
    return features[rows], uci_iris().classes[rows]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1797 digits, on [0, 1], and their classes."""
    from sklearn.datasets import load_digits

    table = load_digits()
    return (table.data / 16).astype(np.float32), table.target


def draw(starts: int) -> list[np.ndarray]:
    """Return weights and biases of all starts, stacked."""
    generator = np.random.default_rng(0)
    return [generator.random((starts, *shape), np.float32) for shape in SHAPES]


# The report's network


def ours(starts: int, rows: int = 100, threads: int = 2) -> Run:
    from descents import GradientDescent, Network, Stop, descend

    x, y = iris()
    repeated = np.resize(np.arange(100), rows)
    problem = Network(
        x[repeated],
        y[repeated],
        [12],
        weights="uniform01",
        biases="uniform01",
        loss="sum",
        scalar_biases=True,
        outputs=3,
    )

    def run() -> Outcome:
        runs = descend(
            problem,
            starts,
            steps=GradientDescent(RATE * 100 / rows),
            stop=Stop(EPOCHS),
            threads=threads,
        )
        return Outcome(float(runs.metrics["training_accuracy"].mean()))

    return run


def plain_loop(starts: int) -> Run:
    """Train one start after the other with torch.optim."""
    import torch

    x, y = (torch.as_tensor(part) for part in iris())

    def run() -> Outcome:
        accuracies = []
        for one in zip(*draw(starts), strict=True):
            p = [torch.tensor(value).requires_grad_() for value in one]
            optimizer = torch.optim.SGD(p, lr=RATE)
            for _ in range(EPOCHS):
                optimizer.zero_grad()
                logits = torch.relu(x @ p[0] + p[1]) @ p[2] + p[3]
                torch.nn.functional.cross_entropy(logits, y, reduction="sum").backward()
                optimizer.step()
            accuracies.append(float((logits.argmax(1) == y).float().mean()))
        return Outcome(float(np.mean(accuracies)))

    return run


def vmap(starts: int, chunk: int, compiled: bool = False) -> Run:
    """Train chunks of starts by torch.func.vmap of the gradient of one."""
    import torch

    x, y = (torch.as_tensor(part) for part in iris())

    def logits(p: Any) -> Any:
        return torch.relu(x @ p[0] + p[1]) @ p[2] + p[3]

    def loss(p: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits(p), y, reduction="sum")

    gradient = torch.func.vmap(torch.func.grad(loss))

    def step(p: Any) -> Any:
        return [v - RATE * g for v, g in zip(p, gradient(p), strict=True)]

    if compiled:
        step = torch.compile(step)

    def run() -> Outcome:
        right = 0.0
        drawn = [torch.as_tensor(value).split(chunk) for value in draw(starts)]
        for part in zip(*drawn, strict=True):
            p = list(part)
            for _ in range(EPOCHS):
                p = step(p)
            right += float((torch.vmap(logits)(p).argmax(-1) == y).float().sum())
        return Outcome(right / starts / len(y))

    return run


def jax_lanes(starts: int, chunk: int) -> Run:
    """Train chunks of starts by one compiled scan, the axis of starts last."""
    import jax
    import jax.numpy as jnp

    x, y = iris()
    x, truth = jnp.asarray(x), jax.nn.one_hot(y, 3)[:, :, None]

    def logits(p: Any) -> Any:
        # One row of starts for each scalar bias; sums of outer products otherwise.
        h = sum(x[:, i, None, None] * p[0][None, i] for i in range(4)) + p[1][None]
        h = jax.nn.relu(h)
        return sum(h[:, j, None] * p[2][None, j] for j in range(12)) + p[3][None]

    def loss(p: Any) -> Any:
        z = logits(p)
        return (jax.nn.logsumexp(z, 1) - (z * truth).sum(1)).sum()

    def step(p: Any, _: None) -> Any:
        return [v - RATE * g for v, g in zip(p, jax.grad(loss)(p), strict=True)], None

    @jax.jit
    def train(parts: Any) -> Any:
        def one(p: Any) -> Any:
            p, _ = jax.lax.scan(step, p, None, EPOCHS)
            return (logits(p).argmax(1) == truth.argmax(1)).mean()

        return jax.lax.map(one, parts)

    def run() -> Outcome:
        parts = [
            np.moveaxis(value.reshape(-1, chunk, *value.shape[1:]), 1, -1)
            for value in draw(starts)
        ]
        return Outcome(float(train(parts).mean()))

    return run


def written_c(starts: int, threads: int = 2) -> Run:
    """Train eight starts in the lanes of a vector, by `starts.c`."""
    library = compiled("starts.c")
    x, y = iris()
    x, y = np.ascontiguousarray(x), y.astype(np.int32)
    groups = -(-starts // 8)

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    def run() -> Outcome:
        drawn = draw(8 * groups)
        order = [drawn[place].reshape(8 * groups, -1) for place in (0, 2, 1, 3)]
        p = np.concatenate(order, 1).reshape(groups, 8, -1)
        p = np.ascontiguousarray(p.transpose(0, 2, 1))
        library.train(
            pointer(p),
            groups,
            pointer(x),
            pointer(y),
            len(y),
            EPOCHS,
            ctypes.c_float(RATE),
            threads,
        )
        flat = p.transpose(0, 2, 1).reshape(8 * groups, -1)[:starts]
        first, second = flat[:, :48].reshape(-1, 4, 12), flat[:, 48:84]
        h = np.maximum(x @ first + flat[:, 84, None, None], 0)
        z = h @ second.reshape(-1, 12, 3) + flat[:, 85, None, None]
        return Outcome(float((z.argmax(-1) == y).mean()))

    return run


def compiled(source: str) -> ctypes.CDLL:
    """Compile a C file beside this one for this processor, and load it."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ImportError("there is no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "starts.so"
        options = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]
        files = [str(Path(__file__).parent / source), "-o", str(library)]
        subprocess.run([compiler, *options, *files], check=True, capture_output=True)
        return ctypes.CDLL(str(library))
