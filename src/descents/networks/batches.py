"""Which rows each start trains on, at which step, and which are held out from it."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descents.errors import Complaints, InvalidValueError
from descents.optim.problem import sent
from descents.rng import stream, streams
from descents.text import counted
from descents.validation import real_number, whole_number


def random_splits(
    rows: int, training_rows: int, splits: Sequence[int], seed: int
) -> np.ndarray:
    """Return the training rows of some random divisions of a table.

    Split number s is a shuffle drawn from (seed, s) alone, of which the first rows
    train.

    Parameters
    ----------
    rows, training_rows : int
    splits : sequence of int
        The numbers of the splits.
    seed : int

    Returns
    -------
    ndarray of int64, shape (len(splits), training_rows)

    Examples
    --------
    >>> random_splits(5, 3, [0, 1], seed=0).shape
    (2, 3)
    """
    return random_orders(rows, splits, seed)[:, :training_rows]


def random_orders(rows: int, splits: Sequence[int], seed: int) -> np.ndarray:
    """Return random orders of the rows of a table, a function of (seed, number) each.

    Parameters
    ----------
    rows : int
    splits : sequence of int
        The numbers of the orders.
    seed : int

    Returns
    -------
    ndarray of int64, shape (len(splits), rows)

    Examples
    --------
    >>> random_orders(5, [0, 1], seed=0).shape
    (2, 5)
    """
    return np.stack([stream(seed, "split", s).permutation(rows) for s in splits])


def stratified_splits(
    groups: np.ndarray, held_out: float, splits: Sequence[int], seed: int
) -> list[np.ndarray]:
    """Return training rows of random divisions that keep the shares of some groups.

    Rows are shuffled within each group; from every group the same share is held out,
    rounded up or down so that the shares add up as far as that goes, and at least one
    row of each group trains.

    Parameters
    ----------
    groups : ndarray of shape (rows,)
        Classes; all equal for a plain random division.
    held_out : float
        The share that is held out, above 0 and below 1.
    splits : sequence of int
        The numbers of the splits; each is a function of (seed, its number).
    seed : int

    Returns
    -------
    list of ndarray of int64
        The training rows of each split, in rising order.

    Examples
    --------
    >>> stratified_splits(np.array([0, 0, 0, 1, 1, 1]), 1 / 3, [0], seed=0)[0].shape
    (4,)
    """
    found = []
    for split in splits:
        generator = stream(seed, "split", split)
        parts, owed = [], 0.0
        for group in np.unique(groups):
            members = generator.permutation(np.flatnonzero(groups == group))
            share = held_out * len(members)
            owed += share
            # What small groups could not give is not taken from one that follows.
            count = max(0, min(round(owed), math.ceil(share), len(members) - 1))
            owed -= count
            parts.append(members[count:])
        found.append(np.sort(np.concatenate(parts)))
    return found


def stratified_folds(groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Return the training rows of k folds that keep the shares of some groups.

    Each row is held out once. Groups are shuffled, and dealt out one after the other.

    Parameters
    ----------
    groups : ndarray of shape (rows,)
    folds : int
        From 2 to the number of rows.
    seed : int

    Returns
    -------
    list of ndarray of int64, one for each fold

    Examples
    --------
    >>> [len(rows) for rows in stratified_folds(np.zeros(5), 2, seed=0)]
    [2, 3]
    """
    generator = stream(seed, "split", 0)
    order = np.concatenate(
        [
            generator.permutation(np.flatnonzero(groups == group))
            for group in np.unique(groups)
        ]
    )
    fold = np.empty(len(groups), dtype=np.int64)
    fold[order] = np.arange(len(groups)) % folds
    return [np.flatnonzero(fold != number) for number in range(folds)]


class Batches:
    """The rows of a table that each start trains on, and in which order.

    Parameters
    ----------
    rows : int
        How many there are.
    splits : sequence of array-like of int, optional
        The training rows of each division, each row once; start k trains on number k
        modulo their count and is validated on the other rows. By default all rows
        train.
    weights : ndarray of shape (rows,), optional
        What each row counts while training, at least 0; by default all count 1.
    batch_size : int, optional
        How many rows a step looks at, at most; by default all. Then a start goes
        through its rows in an order of its own, a new one in every epoch; the last
        batch of an epoch may be smaller. Where splits differ in length, all have as
        many batches as the longest needs, and each deals its rows to them evenly.
    seed : int
        Of the order: batch b of start k is a function of (seed, k, its epoch).
    settings : int
        How many settings each start is tried in, on each split: number k is start
        k // (settings splits) in setting (k // splits) modulo settings. Its order is
        that of the start and split alone, so that settings are compared in pairs.
    device : torch.device

    Raises
    ------
    InvalidValueError
        When splits name a row twice, or one that there is not.

    Examples
    --------
    >>> batches = Batches(5, splits=[[0, 1, 2], [2, 3, 4]])
    >>> batches.training(torch.tensor([1]))[0]
    tensor([[2, 3, 4]])
    >>> batches.held_out(torch.tensor([1]))[0]
    tensor([[0, 1]])
    """

    def __init__(
        self,
        rows: int,
        *,
        splits: Any = None,
        weights: np.ndarray | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        settings: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = settings
        self.splits = (
            [np.arange(rows)] if splits is None else training_rows(splits, rows)
        )
        others = [np.setdiff1d(np.arange(rows), split) for split in self.splits]
        self.counts = np.array([len(split) for split in self.splits])
        self.longest = int(self.counts.max())
        self.batch_size = None if batch_size is None else min(batch_size, self.longest)
        self.seed, self.device = seed, torch.device(device)
        self._training = _padded(self.splits, self.device)
        self._held_out = _padded(others, self.device)
        self._weights = self._training[1]
        self.split_counts = torch.tensor(self.counts, device=self.device)
        self.means: torch.Tensor | None = None
        if weights is not None:
            each = torch.tensor(weights, dtype=torch.float64, device=self.device)
            chosen = each[self._training[0]]
            self._weights = chosen if self._weights is None else chosen * self._weights
            self.means = self._weights.sum(1) / self.split_counts

    @property
    def padded(self) -> bool:
        """Whether splits differ in length, so that the shorter ones are filled up."""
        return self._training[1] is not None

    @property
    def whole(self) -> Batches:
        """The same rows, all of them at every step."""
        other = copy.copy(self)
        other.batch_size = None
        return other

    @property
    def steps_in_epoch(self) -> int:
        """How many steps go once through all training rows."""
        size = self.batch_size
        return 1 if size is None else -(-self.longest // size)

    @property
    def fewest(self) -> int:
        """How many rows of its own the smallest batch of any start has."""
        least = int(self.counts.min())
        if self.batch_size is None or least < self.longest:
            return max(1, least // self.steps_in_epoch)
        return least % self.batch_size or self.batch_size

    @property
    def any_held_out(self) -> bool:
        """Whether there are rows to validate on."""
        return bool(self._held_out[0].shape[1])

    def split_of(self, starts: torch.Tensor) -> torch.Tensor:
        """Return the number of the split that each start trains on, shape (S,)."""
        return starts % len(self.splits)

    def setting_of(self, starts: Any) -> Any:
        """Return the number of the setting of each start."""
        return starts // len(self.splits) % self.settings

    def alone(self, start: Any) -> Any:
        """Return the number that a start has on its split with one setting only."""
        count = len(self.splits)
        return start // (count * self.settings) * count + start % count

    def training(
        self, starts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return all training rows of each start, and what they count.

        Returns
        -------
        rows : int64 Tensor of shape (S, R)
            Where splits differ in length, the shorter ones are filled up.
        weights : float64 Tensor of shape (S, R), or None where all count 1
            0 for what only fills up.
        """
        place = self.split_of(starts)
        weights = None if self._weights is None else self._weights[place]
        return self._training[0][place], weights

    def held_out(
        self, starts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the rows that each start is validated on, and which of them count."""
        place = self.split_of(starts)
        rows, counted = self._held_out
        return rows[place], None if counted is None else counted[place]

    def counted(self, starts: torch.Tensor) -> torch.Tensor | None:
        """Return which training rows are rows, (S, R); None where all are."""
        counted = self._training[1]
        return None if counted is None else counted[self.split_of(starts)]

    def bind(self, starts: torch.Tensor) -> BoundBatches:
        """Return the batches of some starts, looked up once."""
        return BoundBatches(self, starts)

    def at(
        self, starts: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the rows of each start at a step, and their weights."""
        return self.bind(starts).at(step)


class BoundBatches:
    """The batches of the starts of one chunk; an order of rows is drawn once an epoch.

    Parameters
    ----------
    batches : Batches
    starts : int64 Tensor of shape (S,)

    Examples
    --------
    >>> bound = Batches(4, batch_size=2).bind(torch.arange(3))
    >>> rows, weights = bound.at(0)
    >>> rows.shape, weights
    (torch.Size([3, 2]), None)
    """

    def __init__(self, batches: Batches, starts: torch.Tensor) -> None:
        self._batches, self._starts = batches, starts
        self._split = batches.split_of(starts)
        self._order: tuple[int, torch.Tensor, torch.Tensor | None] | None = None

    @functools.cached_property
    def training(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """All training rows of each start, and their weights, as `Batches.training`."""
        return self._batches.training(self._starts)

    @functools.cached_property
    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the starts, each once, and which of them each start is.

        They are read once for a chunk: to read from a device is to wait for it.
        """
        found = np.unique(self._starts.cpu().numpy(), return_inverse=True)
        return found[0], found[1]

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the rows of each start at a step, and their weights, as `training`.

        No batch is empty: with fewer rows than there are batches, a start meets some of
        them more than once in an epoch.
        """
        size = self._batches.batch_size
        if size is None:
            return self.training
        epoch, place = divmod(step, self._batches.steps_in_epoch)
        if self._order is None or self._order[0] != epoch:
            rows, weights = self.training
            order = self._shuffled(epoch)
            rows = rows.gather(1, order)
            weights = None if weights is None else weights.gather(1, order)
            self._order = (epoch, rows, weights)
        _, rows, weights = self._order
        if self._batches.padded:
            assert weights is not None  # noqa: S101
            dealt, counted = self._dealt(place)
            return rows.gather(1, dealt), weights.gather(1, dealt) * counted
        chosen = slice(place * size, (place + 1) * size)
        return rows[:, chosen], None if weights is None else weights[:, chosen]

    def shares(self, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the rows of each start at a step, and the share of each in the mean loss.

        The loss of a batch of n rows is the sum of w_r / (n m) times the loss of row r,
        with m the mean weight of all training rows of the start. The divisor does not
        depend on which rows are in the batch, so that the expected gradient of a batch
        is the gradient of the weighted mean over all training rows.

        Returns
        -------
        rows : int64 Tensor of shape (S, R)
        shares : float64 Tensor of shape (S, R), or None where all are 1 / R
        """
        rows, weights = self.at(step)
        if weights is None:
            return rows, None
        if self._batches.batch_size is None:
            return rows, weights / weights.sum(1, keepdim=True)
        counts: Any = rows.shape[1]
        if self._batches.padded:
            batch = step % self._batches.steps_in_epoch
            counts = self._dealt(batch)[1].sum(1, keepdim=True)
        means = self._batches.means
        if means is not None:
            counts = counts * means[self._split][:, None]
        return rows, weights / counts

    def _dealt(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which of the rows of each start, in their order, are in a batch.

        Batch b of B has, of n rows, those from floor(b n / B) to floor((b + 1) n / B),
        one at least.

        Returns
        -------
        places : int64 Tensor of shape (S, ceil(R / B))
        counted : float64 Tensor of shape (S, ceil(R / B))
            0 for what only fills up.
        """
        batches = self._batches.steps_in_epoch
        counts = self._batches.split_counts[self._split][:, None]
        first = place * counts // batches
        end = ((place + 1) * counts // batches).maximum(first + 1)
        width = -(-self._batches.longest // batches)
        places = first + torch.arange(width, device=self._batches.device)
        return places, (places < end).double()

    def _shuffled(self, epoch: int) -> torch.Tensor:
        """Return an order of the training rows of each start, (S, R)."""
        of = self._batches
        numbers, places = self.numbers
        orders = np.tile(np.arange(of.longest), (len(numbers), 1))
        counts = of.counts[numbers % len(of.splits)]
        generators = streams(of.seed, "order", of.alone(numbers), epoch)
        for order, count, generator in zip(orders, counts, generators, strict=True):
            # What fills up stays last.
            order[:count] = generator.permutation(count)
        return sent(orders[places], of.device)


def training_rows(splits: Any, rows: int) -> list[np.ndarray]:
    """Return the training rows of each split, as given, once they are seen to be rows.

    Examples
    --------
    >>> training_rows([[0, 2]], 3)
    [array([0, 2])]
    """
    try:
        found = [np.asarray(split) for split in splits]
    except (TypeError, ValueError):
        found = []
    whole = [s.ndim == 1 and len(s) and s.dtype.kind in "iu" for s in found]
    if not found or not all(whole):
        raise InvalidValueError(
            "splits are not lists of whole numbers; give the training rows of each "
            "split, one at least"
        )
    for split in found:
        if split.min() < 0 or split.max() >= rows or len(np.unique(split)) < len(split):
            raise InvalidValueError(
                f"splits names a row twice or outside 0 to {rows - 1}; name each "
                "training row once"
            )
    return [split.astype(np.int64) for split in found]


def _padded(
    parts: list[np.ndarray], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return ragged rows as one tensor, and which of its entries are rows."""
    longest = max(len(part) for part in parts)
    rows = np.zeros((len(parts), longest), dtype=np.int64)
    counted = np.zeros((len(parts), longest))
    for place, part in enumerate(parts):
        rows[place, : len(part)] = part
        counted[place, : len(part)] = 1
    return (
        torch.tensor(rows, device=device),
        None if counted.all() else torch.tensor(counted, device=device),
    )


@dataclass(frozen=True)
class HoldOut:
    """Validation on a share of the rows that no start trains on, once or several times.

    Parameters
    ----------
    share : float
        Above 0 and below 1; of every class, where there are classes.
    repeats : int
        How many random divisions; every initial point is tried on each.

    Examples
    --------
    >>> [len(rows) for rows in HoldOut(0.25, 2).splits(np.zeros(8), seed=0)]
    [6, 6]
    """

    share: float = 0.33
    repeats: int = 1

    def __post_init__(self) -> None:
        complaints = Complaints()
        share = complaints.attempt(real_number, "the share held out", self.share, 0)
        complaints.require(
            share is None or 0 < share < 1,
            f"the share held out is {self.share}; give a number above 0 and below 1",
        )
        complaints.attempt(whole_number, "repeats", self.repeats, 1)
        complaints.raise_any()

    @property
    def number(self) -> int:
        """The number of splits."""
        return self.repeats

    def splits(self, groups: np.ndarray, seed: int) -> list[np.ndarray]:
        """Return the training rows of each division."""
        found = stratified_splits(groups, self.share, range(self.repeats), seed)
        if any(len(rows) == len(groups) for rows in found):
            raise InvalidValueError(
                f"a share of {self.share:g} of {counted(len(groups), 'row')} holds none out; give "
                "a larger share, or more rows"
            )
        return found


@dataclass(frozen=True)
class Folds:
    """Validation by k folds: every initial point is tried on each of them.

    Parameters
    ----------
    count : int
        At least 2; every row is held out in one fold.

    Examples
    --------
    >>> [len(rows) for rows in Folds(4).splits(np.zeros(8), seed=0)]
    [6, 6, 6, 6]
    """

    count: int = 5

    def __post_init__(self) -> None:
        whole_number("the number of folds", self.count, 2)

    @property
    def number(self) -> int:
        """The number of splits."""
        return self.count

    def splits(self, groups: np.ndarray, seed: int) -> list[np.ndarray]:
        """Return the training rows of each fold."""
        if self.count > len(groups):
            raise InvalidValueError(
                f"{counted(self.count, 'fold')} are asked for, but there are {counted(len(groups), 'row')}; "
                "give fewer folds"
            )
        found = stratified_folds(groups, self.count, seed)
        for rows in found:
            absent = np.setdiff1d(groups, groups[rows])
            if len(absent):
                raise InvalidValueError(
                    f"a class has so few rows that a fold of {self.count} trains on "
                    "none; give fewer folds, or leave rare classes out"
                )
        return found
