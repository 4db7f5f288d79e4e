"""The experiments of the published report: the factorization and the network."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from descents.bounds import gaps, subspaces
from descents.bounds.references import SVDAnswer, truncated_svd
from descents.errors import Complaints, InterruptedRunError
from descents.factorization.factorization import Factorization
from descents.networks.initialization import BIASES
from descents.networks.labeled import REDUCTIONS
from descents.networks.network import Network
from descents.networks.splits import random_splits
from descents.optim.executors import Workers
from descents.optim.first_order import GradientDescent
from descents.optim.loop import descend
from descents.optim.problem import Problem
from descents.optim.runs import Runs
from descents.optim.stopping import Stop
from descents.reproduction import agreement, claims
from descents.storage.run_folders import RunFolder
from descents.tables.datasets import uci_iris
from descents.validation import real_number, table_and_rank, whole_number

RANK = 2
FACTORIZATION_EPOCHS = 1000
NETWORK_EPOCHS = 100
LEARNING_RATE = 0.01
HIDDEN = (12,)
TRAINING_ROWS = 100
SPLITS = 20
SPENT_DRAWS = 24
"""The draws of two factorizations of a 3 x 3 table at rank 2, the test of the exercise
before."""
WEIGHT_RULES = ("uniform01", "normal", "kaiming", "xavier")
LEVEL = 0.05
RECORDED = tuple(range(0, NETWORK_EPOCHS + 1, 5))
SETTINGS_SHARE = 0.4
"""The share of the 16 settings in the whole work, for the progress bar."""


Progress = Callable[[str, float], None]


def gd_factorise_ad(
    A: ArrayLike | torch.Tensor,
    rank: int,
    num_epochs: int = 1000,
    lr: float = 0.01,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Minimize :math:`\|A - U V^\top\|_F^2` as the exercise sheet does.

    First U, then V is drawn uniformly from [0, 1). Each epoch takes one gradient step on
    U and V together. Names and spelling are those of the sheet.

    Parameters
    ----------
    A : array-like or Tensor of shape (rows, columns)
        The function does not center it.
    rank : int
    num_epochs : int
    lr : float
        The learning rate.
    generator : torch.Generator, optional
        The source of U and V. None means torch's default stream, as in the sheet; this
        is the only function of the package that uses global state.

    Returns
    -------
    U : Tensor of shape (rows, rank)
    V : Tensor of shape (columns, rank)

    Raises
    ------
    InvalidValueError
        If arguments are invalid; one message lists all problems.

    Examples
    --------
    >>> A = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    >>> U, V = gd_factorise_ad(A, 1, generator=torch.Generator().manual_seed(0))
    >>> bool(torch.dist(A, U @ V.T) < 1e-3)
    True
    """
    complaints = Complaints()
    table, rank = table_and_rank(complaints, "A", A, rank)
    num_epochs = complaints.attempt(whole_number, "num_epochs", num_epochs, 0)
    lr = complaints.attempt(real_number, "lr", lr, 0, strict=True)
    complaints.raise_any()
    rows, columns = table.shape
    factors = _uniform_factors(rows, columns, rank, generator)
    runs = report_run(table, factors, num_epochs, lr)
    return tuple(torch.as_tensor(runs.parameters[name][0]) for name in "UV")  # type: ignore[return-value]


def _uniform_factors(
    rows: int, columns: int, rank: int, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw U, then V uniformly from [0, 1), as the report does."""
    U = torch.rand(rows, rank, generator=generator)
    return U, torch.rand(columns, rank, generator=generator)


def report_run(
    table: np.ndarray,
    factors: tuple[torch.Tensor, torch.Tensor],
    num_epochs: int = FACTORIZATION_EPOCHS,
    lr: float = LEARNING_RATE,
) -> Runs:
    """Run gradient descent from the given factors, as the report does."""
    initial = tuple(factor.numpy()[None] for factor in factors)
    problem = Factorization(table, factors[0].shape[1], initialization=initial)  # type: ignore[arg-type]
    return descend(problem, steps=GradientDescent(lr), stop=Stop(num_epochs))


class Parts:
    """Runs the parts of the study, or loads those that are already stored."""

    def __init__(
        self,
        folder: RunFolder | None,
        max_seconds: float | None,
        progress: Progress | None,
        threads: int,
        workers: Workers,
    ) -> None:
        self.threads = threads
        self._workers = workers
        self._folder = folder
        self._end = None if max_seconds is None else time.monotonic() + max_seconds
        self._progress = progress
        self._done = 0.0

    def run(
        self,
        name: str,
        share: float,
        problem: Problem,
        starts: int,
        seed: int,
        epochs: int,
        record: Sequence[int] = (),
    ) -> Runs:
        """Return the runs of one part, which is `share` of the whole work."""
        return self.kept(
            name,
            share,
            lambda: self.descended(name, problem, starts, seed, epochs, record),
        )

    def kept(self, name: str, share: float, descended: Callable[[], Runs]) -> Runs:
        """Return the stored runs of one part; compute and store them if there are none."""
        path = (
            None if self._folder is None else self._folder.stage(f"{name}.safetensors")
        )
        runs = None if path is None else Runs.if_kept(path)
        if runs is None:
            self.tell(name)
            runs = descended()
            if path is not None:
                runs.save(path)
        self._done += share
        self.tell(name)
        return runs

    def descended(
        self,
        name: str,
        problem: Problem,
        starts: int | np.ndarray,
        seed: int,
        epochs: int,
        record: Sequence[int] = (),
    ) -> Runs:
        """Run gradient descent from some starts of a part.

        Raises
        ------
        InterruptedRunError
            If the time limit was reached, or the user interrupted.
        """
        runs = descend(
            problem,
            starts,
            seed,
            steps=GradientDescent(LEARNING_RATE),
            stop=Stop(epochs, max_seconds=self.seconds_left()),
            record=record,
            threads=self.threads,
            workers=self._workers,
        )
        if runs.interrupted:
            raise InterruptedRunError(f"stopped in the part {name!r}")
        return runs

    def seconds_left(self) -> float | None:
        """Return the seconds left of the time limit, None if there is none."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def tell(self, name: str) -> None:
        """Report progress: the name of the current part."""
        if self._progress is not None:
            self._progress(name, min(self._done, 1.0))


@dataclass
class FactorizationPart:
    """The first half of the report."""

    table: np.ndarray
    report: Runs
    after_draws: Runs
    ours: Runs
    exact: SVDAnswer
    best_constant: float
    as_in_sheet: dict[str, float]
    similarity: subspaces.Alignment
    linear: subspaces.Alignment
    angles: np.ndarray
    onto_similar: subspaces.Alignment
    onto_linear: subspaces.Alignment

    def below(self, runs: Runs) -> np.ndarray:
        """Return which losses are below the exact minimum; any would be a bug."""
        reference = self.exact.reference
        return gaps.below_reference(runs.losses, reference, self.best_constant)

    def gaps(self, runs: Runs) -> np.ndarray:
        """Return the gap of each start to the exact minimum."""
        reference = self.exact.reference
        return gaps.gap(runs.losses, reference, self.best_constant, np.float32)


def factorization_part(
    parts: Parts, starts: int, seed: int, device: str
) -> FactorizationPart:
    """Run the factorization: the report's run, the run after 24 draws, and our starts."""
    iris = torch.tensor(uci_iris().values, dtype=torch.float32)
    centered = iris - iris.mean(0)
    table = centered.numpy()
    rows, columns = table.shape

    def report_factors(spent: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        torch.rand(spent, generator=generator)
        return _uniform_factors(rows, columns, RANK, generator)

    report = report_run(table, report_factors(0))
    after = report_run(table, report_factors(SPENT_DRAWS))
    ours = parts.run(
        "factorization",
        0.1,
        Factorization(table, RANK, device=device),
        starts,
        seed,
        FACTORIZATION_EPOCHS,
    )
    exact = truncated_svd(table, RANK)
    fitted = report.parameters["U"][0]
    left, values, right = torch.linalg.svd(centered, full_matrices=False)
    cut = left[:, :RANK] @ torch.diag(values[:RANK]) @ right[:RANK]

    def sheet_loss(product: torch.Tensor) -> float:
        loss = torch.nn.functional.mse_loss(product, centered, reduction="sum")
        return float(loss)

    def product(runs: Runs) -> torch.Tensor:
        U, V = (torch.as_tensor(runs.parameters[name][0]) for name in "UV")
        return U @ V.T

    return FactorizationPart(
        table=table,
        report=report,
        after_draws=after,
        ours=ours,
        exact=exact,
        best_constant=float(np.square(table.astype(np.float64)).sum()),
        as_in_sheet={
            "gd_loss": sheet_loss(product(report)),
            "gd_loss_after_24_draws": sheet_loss(product(after)),
            "truncated_svd_loss": sheet_loss(cut),
        },
        similarity=subspaces.best_similarity(exact.left, fitted),
        linear=subspaces.best_linear_map(exact.left, fitted),
        angles=subspaces.principal_angles(exact.left, fitted),
        onto_similar=subspaces.best_similarity(fitted, exact.left),
        onto_linear=subspaces.best_linear_map(fitted, exact.left),
    )


Setting = tuple[str, str, str]


@dataclass
class TrainingPart:
    """The second half of the report: every setting, and the most likely one on one shuffle."""

    settings: dict[Setting, Runs]
    compatible: agreement.Compatibility
    likeliest: Setting
    problem: Network
    table: Runs

    @property
    def failed(self) -> np.ndarray:
        """Which starts of the table ended below the threshold, or non-finite."""
        return failed_of(self.table)


def accuracy_of(runs: Runs) -> np.ndarray:
    """Return the training accuracy of each start."""
    return runs.metrics["training_accuracy"]


def failed_of(runs: Runs) -> np.ndarray:
    """Return which starts ended below the threshold; non-finite ones count as below."""
    below = accuracy_of(runs) < claims.FAILED_BELOW
    failed: np.ndarray = below | ~np.isfinite(runs.losses)
    return failed


def pairs_of(runs: Runs) -> np.ndarray:
    """Return training and validation accuracy of each start, shape (S, 2)."""
    return np.stack([accuracy_of(runs), runs.metrics["validation_accuracy"]], 1)


def shuffle_of(runs: Runs) -> np.ndarray:
    """Return the shuffle that each start of a setting trains on."""
    shuffles: np.ndarray = runs.starts % SPLITS
    return shuffles


def setting_name(setting: Setting) -> str:
    """Return the name of a setting in tables."""
    return "-".join(setting)


def network_features() -> np.ndarray:
    """Return the features of the sheet: centered, divided by the variance of 150 rows.

    Examples
    --------
    >>> network_features().shape, network_features().dtype
    ((150, 4), dtype('float32'))
    """
    values = torch.tensor(uci_iris().values, dtype=torch.float32)
    features: np.ndarray = ((values - values.mean(0)) / values.var(0)).numpy()
    return features


def class_indices(order: np.ndarray) -> tuple[int, ...]:
    """Return the class index of each species, by first appearance in a shuffled table.

    The numbering matters: if all hidden units are off, the three logits are equal, and
    the class with index 0 is predicted.

    Parameters
    ----------
    order : ndarray of int
        Rows of the table, in the order of the shuffle; each species appears.

    Examples
    --------
    >>> class_indices(np.array([149, 0, 1, 50]))  # virginica first, then setosa
    (1, 2, 0)
    """
    seen = list(dict.fromkeys(uci_iris().classes[order].tolist()))
    return tuple(seen.index(kind) for kind in range(len(seen)))


def numbered(splits: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """Group the splits by how they number the classes.

    Parameters
    ----------
    splits : ndarray of shape (N, rows)
        The training rows of each split, in the order of the shuffle.

    Examples
    --------
    >>> numbered(np.array([[0, 50, 100], [50, 0, 100], [1, 51, 101]]))
    {(0, 1, 2): array([0, 2]), (1, 0, 2): array([1])}
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, order in enumerate(splits):
        groups.setdefault(class_indices(order), []).append(place)
    return {indices: np.array(places) for indices, places in groups.items()}


def training_part(parts: Parts, starts: int, seed: int, device: str) -> TrainingPart:
    """Run the network: every setting, then the most likely one on one shuffle."""
    shuffles = random_splits(150, TRAINING_ROWS, range(SPLITS + 1), seed)
    settings: dict[Setting, Runs] = {}
    for setting in itertools.product(REDUCTIONS, WEIGHT_RULES, BIASES):
        settings[setting] = _setting_runs(
            parts, setting, shuffles[:SPLITS], max(starts, 5 * SPLITS), seed, device
        )
    compatible = agreement.compatibility(
        np.array(claims.TABLE_1),
        [pairs_of(runs) for runs in settings.values()],
        [shuffle_of(runs) for runs in settings.values()],
        np.random.Generator(np.random.Philox(seed)),
        level=LEVEL,
    )
    # The most likely setting has the largest p-value, and among ties the least distance.
    order = np.lexsort((compatible.distances, -compatible.p_values))
    likeliest = list(settings)[order[0]]
    fixed = shuffles[SPLITS:]
    problem = _network(likeliest, fixed, class_indices(fixed[0]), device)
    table = parts.run("table", 0.05, problem, starts, seed, NETWORK_EPOCHS, RECORDED)
    return TrainingPart(settings, compatible, likeliest, problem, table)


def _network(
    setting: Setting, splits: np.ndarray, indices: tuple[int, ...], device: str
) -> Network:
    loss, weights, biases = setting
    return Network(
        network_features(),
        np.array(indices)[uci_iris().classes],
        HIDDEN,
        weights=weights,
        biases=biases,
        loss=loss,
        scalar_biases=True,
        splits=splits,
        device=device,
    )


def _setting_runs(
    parts: Parts,
    setting: Setting,
    shuffles: np.ndarray,
    starts: int,
    seed: int,
    device: str,
) -> Runs:
    """Return the runs of a setting: start k on shuffle k modulo the number of shuffles."""
    numbers, name = np.arange(starts), setting_name(setting)

    def descended() -> Runs:
        chunks = [
            parts.descended(
                name,
                _network(setting, shuffles, indices, device),
                numbers[np.isin(numbers % len(shuffles), places)],
                seed,
                NETWORK_EPOCHS,
            )
            for indices, places in numbered(shuffles).items()
        ]
        runs = Runs.joined(chunks)
        return runs.picked(np.argsort(runs.starts))

    settings = len(REDUCTIONS) * len(WEIGHT_RULES) * len(BIASES)
    return parts.kept(name, SETTINGS_SHARE / settings, descended)
