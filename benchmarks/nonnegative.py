"""Nonnegative factorization: of a complete table, and of counts.

The complete one goes to 1.0003 of the SVD's loss. Quality is the loss over that of the truncated SVD, below which no nonnegative
factorization can be, in float64 on the factors as they are; all work in float32.
Contenders take the fewest sweeps that reach it.

The counts are those of words in Reuters stories, most of them zeros that are data, under
Kullback-Leibler divergence. scikit-learn's multiplicative steps end by themselves, ours
take the fewest steps to what those reach; quality is the divergence in float64, by the
whole table.
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


class CountsJudge:
    """The generalised Kullback-Leibler divergence of factors from the counts."""

    def __init__(self, counts: Any) -> None:
        self.counts = counts.toarray()

    def __call__(self, U: Any, V: Any) -> float:
        U, V = np.asarray(U, np.float64), np.asarray(V, np.float64)
        if min(U.min(), V.min()) < 0:
            raise ValueError("a factor is negative")
        fitted, seen = U @ V.T, self.counts > 0
        logs = self.counts[seen] * np.log(self.counts[seen] / fitted[seen])
        return float(logs.sum() - self.counts.sum() + fitted.sum())


def counts() -> Any:
    """Return the words of the Reuters stories; the package lda has them."""
    from descents.tables.datasets import reuters_counts

    return reuters_counts().astype(np.float64)


def ours_counts(rank: int, wanted: float) -> Run:
    """Take extrapolated multiplicative steps, the problem built within the time."""
    from descents import Alternating, Factorization, Stop, descend
    from descents.cells.observed import cells

    A = counts()
    judge = CountsJudge(A)

    def fit(count: int) -> Any:
        problem = Factorization(
            cells(A, "kl", sparse="zero"),
            rank,
            constraint="nonnegative",
            initialization="nndsvd",
        )
        runs = descend(problem, 1, steps=Alternating(), stop=Stop(count), width=1)
        return runs.parameters["U"][0], runs.parameters["V"][0]

    count = fewest(lambda count: judge(*fit(count)) <= wanted, 2000)

    def run() -> Outcome:
        begun = time.perf_counter()
        U, V = fit(count)
        seconds = time.perf_counter() - begun
        return Outcome(judge(U, V), seconds, f"{count} steps")

    return run


def sklearn_mu(rank: int) -> Run:
    """Take scikit-learn's multiplicative steps from NNDSVDa, to a tolerance of 1e-6."""
    from sklearn.decomposition import NMF

    A = counts()
    judge = CountsJudge(A)

    def run() -> Outcome:
        model = NMF(
            rank,
            init="nndsvda",
            solver="mu",
            beta_loss="kullback-leibler",
            max_iter=1000,
            tol=1e-6,
            random_state=0,
        )
        begun = time.perf_counter()
        U = model.fit_transform(A)
        seconds = time.perf_counter() - begun
        return Outcome(judge(U, model.components_.T), seconds, f"{model.n_iter_} steps")

    return run


COUNTED = {10: 173_673.0, 20: 145_943.2}
"""What scikit-learn's steps reach at each rank."""


def counts_cases(quick: bool) -> list[Case]:
    """Return a case for each rank."""
    return [
        Case(
            f"nonnegative-counts-{rank}",
            f"Word counts by {rank} topics, Kullback-Leibler divergence",
            (
                Contender(
                    "descents, multiplicative",
                    "nonnegative:ours_counts",
                    {"rank": rank, "wanted": wanted},
                    threads=2,
                ),
                Contender(
                    "scikit-learn MU, NNDSVDa",
                    "nonnegative:sklearn_mu",
                    {"rank": rank},
                    asked=1,
                    threads=2,
                    warms=not quick,
                    turns=2,
                ),
            ),
            "divergence",
            most=wanted,
            note="Reuters, 395 x 4258 with 60,114 entries that are not zero, float64; the "
            "table's preparation counts.",
        )
        for rank, wanted in COUNTED.items()
        if rank == 10 or not quick
    ]


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
        *counts_cases(quick),
        Case(
            "nonnegative",
            "A nonnegative factorization to 1.0003 of the SVD's loss",
            tuple(contenders),
            "loss over the SVD's",
            most=WANTED,
            note="2000 x 500, rank 10, float32; the table's preparation counts.",
        ),
    ]
