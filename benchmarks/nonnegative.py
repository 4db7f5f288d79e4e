"""Nonnegative factorization of a complete table, to 1.0003 of the SVD's loss.

Quality is the loss over that of the truncated SVD, below which no nonnegative
factorization can be, in float64 on the factors as they are; all work in float32.
Contenders take the fewest sweeps that reach it.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from suite import Case, Contender, Outcome, Run, fewest

ROWS, COLUMNS, RANK = 2000, 500, 10
NOISE = 0.5
WANTED = 1.0003


def table() -> np.ndarray:
    """Return a planted nonnegative table under noise, cut at 0."""
    generator = np.random.default_rng(0)
    U = generator.exponential(size=(ROWS, RANK))
    V = generator.exponential(size=(COLUMNS, RANK))
    noise = NOISE * generator.normal(size=(ROWS, COLUMNS))
    return np.maximum(U @ V.T + noise, 0).astype(np.float32)


class Judge:
    """The loss of factors over that of the truncated SVD."""

    def __init__(self, A: np.ndarray) -> None:
        self.table = A.astype(np.float64)
        gram = self.table.T @ self.table
        self.best = float(np.linalg.eigvalsh(gram)[:-RANK].sum())

    def __call__(self, U: Any, V: Any) -> float:
        U, V = np.asarray(U, np.float64), np.asarray(V, np.float64)
        if min(U.min(), V.min()) < 0:
            raise ValueError("a factor is negative")
        return float(np.square(self.table - U @ V.T).sum()) / self.best


def _timed(fit: Any, count: int | None = None, most: int = 2000) -> Run:
    judge = Judge(table())
    if count is None:
        count = fewest(lambda count: judge(*fit(count)) <= WANTED, most)

    def run() -> Outcome:
        begun = time.perf_counter()
        U, V = fit(count)
        seconds = time.perf_counter() - begun
        return Outcome(judge(U, V), seconds, f"{count} sweeps")

    return run


def ours(initialization: str = "normal") -> Run:
    """Alternate, the problem built within the time."""
    from descents import Alternating, Factorization, Stop, descend

    A = table()

    def fit(count: int) -> Any:
        problem = Factorization(
            A, RANK, constraint="nonnegative", initialization=initialization
        )
        runs = descend(problem, 1, steps=Alternating(), stop=Stop(count), width=1)
        return runs.parameters["U"][0], runs.parameters["V"][0]

    return _timed(fit)


def sklearn_cd(init: str = "random") -> Run:
    """Take scikit-learn's coordinate descent."""
    from sklearn.decomposition import NMF

    A = table()

    def fit(count: int) -> Any:
        model = NMF(RANK, init=init, solver="cd", max_iter=count, tol=0, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            U = model.fit_transform(A)
        return U, model.components_.T

    return _timed(fit)


def torchnmf(iterations: int = 500) -> Run:
    """Take torchnmf's multiplicative steps, so many of them."""
    import torch
    from torchnmf.nmf import NMF

    A = torch.as_tensor(table())

    def fit(count: int) -> Any:
        torch.manual_seed(0)
        net = NMF(A.shape, RANK)
        net.fit(A, beta=2, tol=0, max_iter=count)
        return net.H.detach(), net.W.detach()

    return _timed(fit, iterations)


def cases(quick: bool) -> list[Case]:
    """Return the cases of this subject."""
    contenders = [
        Contender("descents, alternating", "nonnegative:ours", threads=2),
        Contender(
            "scikit-learn CD, random start",
            "nonnegative:sklearn_cd",
            asked=1,
            threads=2,
        ),
        Contender(
            "scikit-learn CD, NNDSVDa",
            "nonnegative:sklearn_cd",
            {"init": "nndsvda"},
            asked=1,
            threads=2,
        ),
    ]
    if not quick:
        contenders.append(
            Contender("torchnmf, 500 steps", "nonnegative:torchnmf", threads=2, turns=1)
        )
    return [
        Case(
            "nonnegative",
            "A nonnegative factorization to 1.0003 of the SVD's loss",
            tuple(contenders),
            "loss over the SVD's",
            most=WANTED,
            note="2000 x 500, rank 10, float32; the table's preparation counts.",
        )
    ]
