"""A complete dense table: 5000 x 1000, rank 20, singular values 100 to 1 under noise.

Quality is the relative excess of the loss over that of the truncated SVD, in float64 on
the factors as they are; all work in float32. Each contender begins at four random points
one after the other, as a lucky one saves a step, and takes from each the fewest steps that
reach 1e-6; plain gradient descent from one those that reach 1e-2.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from suite import Case, Contender, Curve, Outcome, Run, fewest

ROWS, COLUMNS, RANK = 5000, 1000, 20
NOISE = 2e-3
EXCESS, PLAIN_EXCESS = 1e-6, 1e-2
SEEDS = range(4)


@functools.cache
def table(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Return the planted table."""
    generator = np.random.default_rng(0)
    left = np.linalg.qr(generator.normal(size=(rows, RANK)))[0]
    right = np.linalg.qr(generator.normal(size=(columns, RANK)))[0]
    noise = NOISE * generator.normal(size=(rows, columns))
    return ((left * np.geomspace(100, 1, RANK)) @ right.T + noise).astype(np.float32)


class Judge:
    """The relative excess of factors over the best of their rank."""

    def __init__(self, A: np.ndarray, rank: int) -> None:
        self.table = A.astype(np.float64)
        gram = self.table.T @ self.table
        self.best = float(np.linalg.eigvalsh(gram)[:-rank].sum())

    def __call__(self, U: Any, V: Any) -> float:
        U, V = np.asarray(U, np.float64), np.asarray(V, np.float64)
        return float(np.square(self.table - U @ V.T).sum()) / self.best - 1


def ours(
    rank: int = RANK, rows: int = ROWS, building: bool = False, steps: int | None = None
) -> Run:
    """Alternate from a normal start; the problem is built before, or is timed too."""
    from descents import Alternating, Factorization, Stop, descend

    A = table(rows)
    problem = Factorization(A, rank, initialization="normal")

    def fit(seed: int, count: int) -> Any:
        of = problem
        if building:
            of = Factorization(A, rank, initialization="normal")
        stop = Stop(count)
        runs = descend(of, 1, seed=seed, steps=Alternating(), stop=stop, width=1)
        return runs.parameters["U"][0], runs.parameters["V"][0]

    return _judged(fit, Judge(A, rank), steps, "sweeps")


def svd_lowrank(rank: int = RANK, rows: int = ROWS, steps: int | None = None) -> Run:
    """Take torch's randomized SVD."""
    import torch

    A = torch.as_tensor(table(rows))

    def fit(seed: int, count: int) -> Any:
        torch.manual_seed(seed)
        U, values, V = torch.svd_lowrank(A, q=rank, niter=count)
        return U * values, V

    return _judged(fit, Judge(table(rows), rank), steps, "iterations")


def sklearn_randomized(rank: int = RANK, rows: int = ROWS) -> Run:
    """Take scikit-learn's randomized SVD."""
    from sklearn.utils.extmath import randomized_svd

    A = table(rows)

    def fit(seed: int, count: int) -> Any:
        U, values, V = randomized_svd(A, rank, n_iter=count, random_state=seed)
        return U * values, V.T

    return _judged(fit, Judge(A, rank), None, "iterations")


def _judged(fit: Any, judge: Judge, steps: int | None, what: str) -> Run:
    """Time the fits alone, a mean over the seeds; the worst of them is judged."""
    import time

    def needed(seed: int) -> int:
        return fewest(lambda count: judge(*fit(seed, count)) <= EXCESS, 100)

    counts = {seed: steps or needed(seed) for seed in SEEDS}

    def run() -> Outcome:
        begun = time.perf_counter()
        found = [fit(seed, count) for seed, count in counts.items()]
        seconds = (time.perf_counter() - begun) / len(counts)
        told = sorted(set(counts.values()))
        return Outcome(
            max(judge(*pair) for pair in found),
            seconds,
            f"{' or '.join(map(str, told))} {what}",
        )

    return run


def plain_descent(rank: int = RANK) -> Run:
    """Descend by the gradient of the squared residuals, a fixed rate and a fair start.

    The start is balanced and of the size of the data, the rate the largest stable one.
    """
    import torch

    A = torch.as_tensor(table())
    judge = Judge(table(), rank)

    def fit(steps: int = 100_000, every: int = 50) -> Any:
        generator = torch.Generator().manual_seed(0)
        U = torch.randn(ROWS, rank, generator=generator) * 3 / math.sqrt(ROWS)
        V = torch.randn(COLUMNS, rank, generator=generator) * 3 / math.sqrt(COLUMNS)
        U.requires_grad_()
        V.requires_grad_()
        optimizer = torch.optim.SGD([U, V], lr=1 / (4.5 * 100))
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss = (A - U @ V.mT).square().sum()
            loss.backward()
            if step % every == 0 and loss.item() <= (1 + PLAIN_EXCESS) * judge.best:
                break
            optimizer.step()
        return U.detach(), V.detach(), step

    def run() -> Outcome:
        import time

        begun = time.perf_counter()
        U, V, steps = fit()
        seconds = time.perf_counter() - begun
        return Outcome(judge(U, V), seconds, f"{steps} steps, to 1e-2 alone")

    return run


def cases(quick: bool) -> list[Case]:
    """Return the cases of this subject."""
    contenders = [
        Contender("descents, alternating", "factorization:ours", threads=2),
        Contender(
            "torch.svd_lowrank", "factorization:svd_lowrank", asked=0.5, threads=2
        ),
        Contender(
            "scikit-learn, randomized SVD",
            "factorization:sklearn_randomized",
            threads=2,
        ),
        Contender(
            "descents, its problem built too",
            "factorization:ours",
            {"building": True},
            threads=2,
        ),
    ]
    if not quick:
        plain = Contender(
            "plain gradient descent, to 1e-2",
            "factorization:plain_descent",
            asked=200,
            threads=2,
            turns=1,
            warms=False,
            limit=400,
        )
        contenders.insert(1, plain)
    return [
        Case(
            "dense",
            "A complete table to a relative excess of 1e-6",
            tuple(contenders),
            "relative excess",
            most=1.01e-2,
            note="5000 x 1000, rank 20, singular values 100 to 1, noise 2e-3, float32. "
            "Mean of a fit over four random starts, each with the fewest steps that it "
            "needs, the worst of their ends; plain gradient descent runs once.",
        )
    ]


def curves(quick: bool) -> list[Curve]:
    """Return what a run costs against rank and rows."""
    if quick:
        return []
    ours = Contender("descents", "factorization:ours", {"steps": 5}, threads=2)
    svd = Contender(
        "torch.svd_lowrank", "factorization:svd_lowrank", {"steps": 2}, threads=2
    )
    title = "A complete table with 1000 columns, 5 sweeps and 2 iterations"
    return [
        Curve(
            "rank",
            title + ", 5000 rows",
            "rank",
            (ours, svd),
            (5, 10, 20, 40, 80),
        ),
        Curve(
            "table-rows",
            title + ", rank 20",
            "rows",
            (ours, svd),
            (1000, 3000, 10_000, 30_000),
        ),
    ]
