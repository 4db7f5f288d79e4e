"""The ten published starts, which are known exactly, trained on many shuffles.

The author seeded torch once and drew the initial weights and biases of run after run
from the default stream. The rows were shuffled without a seed, and classes were numbered
in the order in which they first appear in the shuffled table. Therefore the initial
points of Table 1 are known, and only the shuffle is unknown.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from descents.networks.network import Network
from descents.networks.splits import random_orders
from descents.optim.problem import Parameters
from descents.optim.runs import Runs
from descents.reproduction import claims
from descents.reproduction.experiments import (
    HIDDEN,
    NETWORK_EPOCHS,
    SPLITS,
    TRAINING_ROWS,
    Parts,
    Setting,
    class_indices,
    failed_of,
    network_features,
    numbered,
    setting_name,
)
from descents.reproduction.result import WitnessSearch
from descents.storage.results import of_json
from descents.tables.datasets import uci_iris

RUNS = len(claims.TABLE_1)
CLASS_ORDERS = tuple(itertools.permutations(range(3)))
"""The class index of each species, for every order in which species can first appear."""
PUBLISHED_SETTING: Setting = ("sum", "uniform01", "uniform01")
SETTINGS = tuple(
    itertools.product(("sum", "mean"), ("uniform01", "normal"), ("uniform01", "zero"))
)
"""The settings whose ten initial points can be computed; the first is the published one."""
FEWEST_SHUFFLES, FEWEST_OF_OTHERS = 100, 50
SHARE = 0.2
"""The share of this part in the whole work, for the progress bar."""


def published_starts(
    weights: str = "uniform01", biases: str = "uniform01"
) -> dict[str, torch.Tensor]:
    """Return the initial points of runs 0 to 9, drawn after ``torch.manual_seed(0)``.

    Each run in turn draws W1 (4 x 12), W2 (12 x 3), b1 (1) and b2 (1) from one stream, in
    this order. Biases of zero draw nothing.

    Parameters
    ----------
    weights : {"uniform01", "normal"}
        ``torch.rand`` or ``torch.randn``.
    biases : {"uniform01", "zero"}
        ``torch.rand`` or ``torch.zeros``.

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


class _Given:
    """Fixed initial points: start k has that of run k // splits."""

    def __init__(self, points: Parameters, splits: int) -> None:
        self.points, self.splits = points, splits

    def __call__(self, starts: Sequence[int] | np.ndarray, seed: int) -> Parameters:
        run = torch.as_tensor(np.asarray(starts)) // self.splits
        return {name: value[run] for name, value in self.points.items()}


def network_of(
    points: Parameters,
    indices: tuple[int, ...],
    splits: np.ndarray,
    loss: str = "sum",
) -> Network:
    """Return the network with given initial points, each start on each split.

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
        Its start k is run k // N on split k % N.
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
    # A derived class would not use the compiled kernel, so replace the method instead.
    network.points = _Given(points, len(splits))  # type: ignore[method-assign]
    return network


@dataclass
class TenStarts:
    """The ten starts of one setting on N shuffles.

    Attributes
    ----------
    runs : Runs
        Start 10 s + k is run k on shuffle s.
    accuracies : ndarray of shape (N, 10, 2)
        Training and validation accuracy.
    failed : ndarray of bool, shape (N, 10)
    unlit : ndarray of int, shape (N, 10)
        The number of the 150 rows with all hidden units off, so that logits are equal.
    """

    runs: Runs
    accuracies: np.ndarray
    failed: np.ndarray
    unlit: np.ndarray


@dataclass(frozen=True)
class Witness:
    """A shuffle under which the ten starts come near Table 1, and the search for it.

    Attributes
    ----------
    order : ndarray of shape (150,)
    accuracies : ndarray of shape (10, 2)
        Training and validation accuracy of the ten starts, as the search found them.
    search : WitnessSearch
        The search, and the distance from Table 1.
    """

    order: np.ndarray
    accuracies: np.ndarray
    search: WitnessSearch

    @classmethod
    def stored(cls) -> Witness:
        """Return the witness that is stored in the package.

        Examples
        --------
        >>> sorted(Witness.stored().order.tolist()) == list(range(150))
        True
        """
        file = importlib.resources.files("descents.reproduction") / "witness.json"
        stored = json.loads(file.read_text(encoding="utf-8"))
        order, accuracies = (
            np.array(stored.pop(name)) for name in ("order", "accuracies")
        )
        return cls(order, accuracies, of_json(WitnessSearch, stored))


@dataclass
class TenStartsPart:
    """The results of the ten published starts over shuffles, and on the witness.

    Attributes
    ----------
    orders : ndarray of shape (N, 150)
        The shuffles; settings other than the published one use only the first of them.
    settings : dict of Setting to TenStarts
    witness : Witness
    replayed : Runs
        The ten starts on the witness, with their losses at every epoch.
    """

    orders: np.ndarray
    settings: dict[Setting, TenStarts]
    witness: Witness
    replayed: Runs

    @property
    def published(self) -> TenStarts:
        """The setting of the report."""
        return self.settings[PUBLISHED_SETTING]


def ten_starts_part(parts: Parts, starts: int, seed: int) -> TenStartsPart:
    """Train the ten starts over shuffles in every setting, and on the witness.

    They run on the CPU, as the report's own runs do. The published setting has as many
    shuffles as other parts have starts, the other settings have half as many.
    """
    most = max(starts, FEWEST_SHUFFLES)
    others = max(starts // 2, FEWEST_OF_OTHERS)
    # Shuffles 0 to SPLITS are used by the fresh starts.
    orders = random_orders(150, range(SPLITS + 1, SPLITS + 1 + most), seed)
    settings = {}
    for setting in SETTINGS:
        chosen = orders if setting == PUBLISHED_SETTING else orders[:others]
        share = SHARE * len(chosen) / (most + others * (len(SETTINGS) - 1))
        settings[setting] = _over_shuffles(parts, setting, chosen, share, seed)
    witness = Witness.stored()
    replayed = parts.run(
        "ten-witness",
        0.0,
        network_of(
            published_starts(),
            class_indices(witness.order),
            witness.order[None, :TRAINING_ROWS],
        ),
        RUNS,
        seed,
        NETWORK_EPOCHS,
        range(NETWORK_EPOCHS + 1),
    )
    return TenStartsPart(orders, settings, witness, replayed)


def _over_shuffles(
    parts: Parts, setting: Setting, orders: np.ndarray, share: float, seed: int
) -> TenStarts:
    loss, weights, biases = setting
    points = published_starts(weights, biases)
    splits = orders[:, :TRAINING_ROWS]
    name = f"ten-{setting_name(setting)}"

    def descended() -> Runs:
        chunks, numbers = [], []
        for indices, places in numbered(splits).items():
            problem = network_of(points, indices, splits[places], loss)
            runs = parts.descended(
                name, problem, RUNS * len(places), seed, NETWORK_EPOCHS
            )
            run, place = np.divmod(runs.starts, len(places))
            numbers.append(RUNS * places[place] + run)
            chunks.append(runs)
        order = np.argsort(np.concatenate(numbers))
        return replace(
            Runs.joined(chunks).picked(order), starts=np.concatenate(numbers)[order]
        )

    runs = parts.kept(name, share, descended)
    shape = (len(orders), RUNS)
    names = ("training_accuracy", "validation_accuracy")
    return TenStarts(
        runs,
        np.stack([runs.metrics[name].reshape(shape) for name in names], -1),
        failed_of(runs).reshape(shape),
        _unlit(runs).reshape(shape),
    )


def _unlit(runs: Runs) -> np.ndarray:
    """Return the number of rows with all hidden units off at the end of each start."""
    inputs = network_features() @ runs.parameters["weight1"] + runs.parameters["bias1"]
    rows: np.ndarray = (inputs <= 0).all(-1).sum(1)
    return rows


def distance(accuracies: np.ndarray) -> np.ndarray:
    """Return the distance of tables from Table 1 in percentage points, over 20 numbers.

    Parameters
    ----------
    accuracies : ndarray of shape (..., 10, 2)

    Examples
    --------
    >>> float(distance(np.array(claims.TABLE_1) + 0.01).round(9))
    20.0
    """
    difference = np.abs(accuracies - np.array(claims.TABLE_1))
    total: np.ndarray = 100 * difference.sum((-1, -2))
    return total
