"""Tables and settings that several tests of `LowRankModel` share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import slow
from descents.tables.datasets import planted_table, uci_iris

IRIS = uci_iris().values
PLANTED = planted_table(60, 10, 2, noise=0.3, seed=0)[0]
UNFINISHED = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BLANKS = pytest.mark.filterwarnings("ignore:.*no observed cell:UserWarning")


def with_holes(table: np.ndarray, share: float = 0.3, seed: int = 0) -> np.ndarray:
    """Return a table of which a share is missing, no row or column wholly."""
    hidden = np.random.default_rng(seed).random(table.shape) < share
    spared = np.arange(len(table)) % table.shape[1]
    hidden[np.arange(len(table)), spared] = False
    return np.where(hidden, np.nan, table)


def two_by_two(loss: str, rows: int = 40, seed: int = 0) -> np.ndarray:
    """Return a table of six columns that a loss can take, with holes."""
    noisy, _ = planted_table(rows, 6, 2, noise=0.3, seed=seed)
    table = noisy
    if loss == "logistic":
        table = (noisy > 0).astype(float)
    elif loss in ("categorical", "ordinal"):
        table = np.digitize(noisy, [-0.5, 0.5]).astype(float)
    elif loss in ("poisson", "kl"):
        table = np.random.default_rng(seed).poisson(np.exp(0.5 * noisy)).astype(float)
    elif loss == "nonnegative":
        table = np.abs(noisy)
    return with_holes(table, 0.15, seed)


def settings_for(loss: str) -> dict[str, object]:
    """Return the settings under which a loss has a minimum and is followed to it."""
    given: dict[str, object] = {"loss": loss, "penalty": 0.5, "held_out": 0}
    if loss in ("kl", "nonnegative"):
        given["constraint"] = "nonnegative"
    if loss == "nonnegative":
        given["loss"] = "squared"
    return given | {"random_state": 0, "tol": 1e-12, "max_iter": 20_000}


LOSSES = (
    "squared",
    "absolute",
    "huber",
    "logistic",
    "poisson",
    "kl",
    "categorical",
    "ordinal",
)
SOME_LOSSES = [
    loss if loss in ("squared", "logistic", "ordinal") else slow(loss)
    for loss in LOSSES
]


def mixed_frame(rows: int = 60) -> pd.DataFrame:
    """Return numbers and levels of rank two, complete."""
    noisy, _ = planted_table(rows, 8, 2, noise=0.2, seed=3)
    three = np.digitize(noisy, [-0.5, 0.5])
    return pd.DataFrame(
        {
            "height": noisy[:, 0],
            "single": noisy[:, 1].astype(np.float32),
            "count": np.rint(10 * noisy[:, 2]).astype(int),
            "colour": np.array(["red", "green", "blue"])[three[:, 3]],
            "member": noisy[:, 4] > 0,
            "size": pd.Categorical(
                np.array(["S", "M", "L"])[three[:, 5]], ["S", "M", "L"], ordered=True
            ),
            "kind": pd.Categorical(np.array(["x", "y", "z"])[three[:, 6]]),
            "yes": pd.Categorical(np.array(["no", "yes"])[(noisy[:, 7] > 0) * 1]),
        },
        index=[f"row {i}" for i in range(100, 100 + rows)],
    )


def frame_with_holes(rows: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    frame = mixed_frame(rows)
    hole = np.isnan(with_holes(np.zeros(frame.shape), 0.2, seed=4))
    frame = frame.astype({"count": "Int64", "member": "boolean", "colour": "string"})
    return frame.mask(hole), hole


def own_squared(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return squared loss, as a function of a user."""
    return (prediction - target) ** 2
