"""The ten published starts, which are known exactly, trained on any shuffle.

The author seeded torch once and drew the initial weights and biases of run after run
from the default stream. The rows were shuffled without a seed, and classes were numbered
in the order in which they first appear in the shuffled table. So the initial points of
Table 1 are known, and only the shuffle is not.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from descents.data.datasets import uci_iris
from descents.problems.network import Network
from descents.problems.problem import Parameters, stream
from descents.studies import claims

RUNS = len(claims.TABLE_1)
HIDDEN = (12,)
TRAINING_ROWS = 100
CLASS_ORDERS = tuple(itertools.permutations(range(3)))
"""The class index of each species, for every order in which species can first appear."""


def network_features() -> np.ndarray:
    """Return the features as the sheet has them: centered, over the variance of 150 rows.

    Examples
    --------
    >>> network_features().shape, network_features().dtype
    ((150, 4), dtype('float32'))
    """
    values = torch.tensor(uci_iris().values, dtype=torch.float32)
    features: np.ndarray = ((values - values.mean(0)) / values.var(0)).numpy()
    return features


def published_starts(
    weights: str = "uniform01", biases: str = "uniform01"
) -> dict[str, torch.Tensor]:
    """Return the initial points of runs 0 to 9, as ``torch.manual_seed(0)`` gives them.

    Run after run draws W1 (4 x 12), W2 (12 x 3), b1 (1) and b2 (1) from one stream, in
    that order. Biases of zero draw nothing.

    Parameters
    ----------
    weights : {"uniform01", "normal"}
        By ``torch.rand`` or ``torch.randn``.
    biases : {"uniform01", "zero"}
        By ``torch.rand`` or ``torch.zeros``.

    Returns
    -------
    dict of float32 Tensor
        ``weight1`` (10, 4, 12), ``weight2`` (10, 12, 3), ``bias1`` and ``bias2``
        (10, 1, 1).

    Examples
    --------
    >>> published_starts()["weight1"][0, 0, :3]
    tensor([0.4963, 0.7682, 0.0885])
    """
    generator = torch.Generator().manual_seed(0)
    draw = {"uniform01": torch.rand, "normal": torch.randn}[weights]
    runs = []
    for _ in range(RUNS):
        drawn = [draw(shape, generator=generator) for shape in ((4, 12), (12, 3))]
        for _ in range(2):
            drawn.append(
                torch.rand((1, 1), generator=generator)
                if biases == "uniform01"
                else torch.zeros((1, 1))
            )
        runs.append(drawn)
    names = ("weight1", "weight2", "bias1", "bias2")
    return {
        name: torch.stack(values)
        for name, values in zip(names, zip(*runs, strict=True), strict=True)
    }


def class_indices(order: np.ndarray) -> tuple[int, ...]:
    """Return the class index of each species, by first appearance in a shuffled table.

    Parameters
    ----------
    order : ndarray of shape (150,)
        The rows of the table as the shuffle has them.

    Examples
    --------
    >>> class_indices(np.array([149, 0, *range(1, 149)]))  # virginica first, then setosa
    (1, 2, 0)
    """
    species = uci_iris().classes[order]
    seen = list(dict.fromkeys(species.tolist()))
    return tuple(seen.index(kind) for kind in range(len(seen)))


def shuffled(count: int, seed: int) -> np.ndarray:
    """Return random orders of the 150 rows; number s is a function of (seed, s).

    Examples
    --------
    >>> shuffled(3, seed=0).shape
    (3, 150)
    """
    rows = len(uci_iris().classes)
    return np.stack([stream(seed, "shuffle", s).permutation(rows) for s in range(count)])


class _Given:
    """Initial points that are given: start k begins where run k // splits does."""

    def __init__(self, points: Parameters, splits: int) -> None:
        self.points, self.splits = points, splits

    def __call__(self, starts: np.ndarray, seed: int) -> Parameters:
        run = torch.as_tensor(np.asarray(starts)) // self.splits
        return {name: value[run] for name, value in self.points.items()}


def network_of(
    points: Parameters,
    indices: tuple[int, ...],
    splits: np.ndarray,
    loss: str = "sum",
) -> Network:
    """Return the network of given starts on given splits, each start on each split.

    Parameters
    ----------
    points : dict of Tensor
        See `published_starts`.
    indices : tuple of int
        The class index of each species, see `class_indices`.
    splits : ndarray of shape (N, 100)
        The training rows of each split, in the order of the shuffled table.
    loss : {"sum", "mean"}

    Returns
    -------
    Network
        Start k of it is run k // N on split k % N.
    """
    network = Network(
        network_features(),
        np.array(indices)[uci_iris().classes],
        HIDDEN,
        loss=loss,
        scalar_biases=True,
        splits=splits,
        crossed=True,
        dtype=points["weight1"].dtype,
    )
    # A derived class would have no compiled kernel: the points of this one are replaced.
    network.points = _Given(points, len(splits))  # type: ignore[method-assign]
    return network
