"""The training rows of each start, in mini-batches, and its held-out rows."""

from __future__ import annotations

import copy
import functools
from typing import TypeVar

import numpy as np
import torch

from descents.networks.splits import Splits, training_rows
from descents.optim.problem import sent
from descents.rng import streams

Numbers = TypeVar("Numbers", int, np.ndarray, torch.Tensor)
"""One number of a start, or many."""


class Batches:
    """The rows of a table that each start trains on, and in which order.

    Parameters
    ----------
    rows : int
        The number of rows.
    splits : sequence of array-like of int, optional
        The training rows of each split, each row once. Start k is trained on split k modulo
        their number, and validated on the other rows. By default all rows are training
        rows.
    weights : ndarray of shape (rows,), optional
        The weight of each row in training, at least 0; by default 1.
    batch_size : int, optional
        The maximum number of rows of a step; by default all. Each start has its own order
        of the rows, a new one in every epoch; the last batch of an epoch may be smaller. If
        splits differ in length, all have as many batches as the longest one needs, and each
        spreads its rows over them evenly.
    seed : int
        The seed of the orders: the order of start k in an epoch depends on (seed, k, epoch)
        alone.
    settings : int
        The number of settings that each start is trained in, on each split: number k is
        start k // (settings splits) in setting (k // splits) modulo settings. The order of
        the rows depends on the start and the split alone, so that settings can be compared
        in pairs.
    device : torch.device

    Raises
    ------
    InvalidValueError
        If a split contains a row twice, or a row that does not exist.

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
        splits: Splits | None = None,
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
        """Whether splits differ in length, so that the shorter ones are padded."""
        return self._training[1] is not None

    @property
    def whole(self) -> Batches:
        """The same rows, all of them at every step."""
        other = copy.copy(self)
        other.batch_size = None
        return other

    @property
    def steps_in_epoch(self) -> int:
        """The number of steps in which each training row is used once."""
        size = self.batch_size
        return 1 if size is None else -(-self.longest // size)

    @property
    def fewest(self) -> int:
        """The number of rows, without padding, of the smallest batch of any start."""
        least = int(self.counts.min())
        if self.batch_size is None or least < self.longest:
            return max(1, least // self.steps_in_epoch)
        return least % self.batch_size or self.batch_size

    @property
    def any_held_out(self) -> bool:
        """Whether any rows are held out for validation."""
        return bool(self._held_out[0].shape[1])

    def split_of(self, starts: torch.Tensor) -> torch.Tensor:
        """Return the number of each start's split, shape (S,)."""
        return starts % len(self.splits)

    def setting_of(self, starts: Numbers) -> Numbers:
        """Return the number of the setting of each start."""
        return starts // len(self.splits) % self.settings

    def alone(self, start: Numbers) -> Numbers:
        """Return the number that a start has if there is only one setting."""
        count = len(self.splits)
        return start // (count * self.settings) * count + start % count

    def training(
        self, starts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return all training rows of each start, and their weights.

        Returns
        -------
        rows : int64 Tensor of shape (S, R)
            If splits differ in length, the shorter ones are padded.
        weights : float64 Tensor of shape (S, R), or None if all are 1
            0 for padding.
        """
        place = self.split_of(starts)
        weights = None if self._weights is None else self._weights[place]
        return self._training[0][place], weights

    def held_out(
        self, starts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the held-out rows of each start, and 1 for rows, 0 for padding."""
        place = self.split_of(starts)
        rows, counted = self._held_out
        return rows[place], None if counted is None else counted[place]

    def counted(self, starts: torch.Tensor) -> torch.Tensor | None:
        """Return 1 for training rows and 0 for padding, (S, R); None without padding."""
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
    """The batches of the starts of one chunk. Orders of the rows are drawn once per epoch.

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
        """The distinct numbers of the starts, and the position of each start among them.

        They are read once per chunk, because reading from a device waits for its work.
        """
        found = np.unique(self._starts.cpu().numpy(), return_inverse=True)
        return found[0], found[1]

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the rows of each start at a step, and their weights, as `training`.

        No batch is empty: a start with fewer rows than batches uses some rows more than
        once per epoch.
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
        where m is the mean weight of all training rows of the start. Because n m does not
        depend on which rows are in the batch, the expected gradient of a batch is the
        gradient of the weighted mean over all training rows.

        Returns
        -------
        rows : int64 Tensor of shape (S, R)
        shares : float64 Tensor of shape (S, R), or None if all are 1 / R
        """
        rows, weights = self.at(step)
        if weights is None:
            return rows, None
        if self._batches.batch_size is None:
            return rows, weights / weights.sum(1, keepdim=True)
        counts: torch.Tensor | int = rows.shape[1]
        if self._batches.padded:
            batch = step % self._batches.steps_in_epoch
            counts = self._dealt(batch)[1].sum(1, keepdim=True)
        means = self._batches.means
        if means is not None:
            counts = counts * means[self._split][:, None]
        return rows, weights / counts

    def _dealt(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the positions of the rows of a batch in the order of each start.

        Of n rows, batch b of B has those from floor(b n / B) to floor((b + 1) n / B), at
        least one.

        Returns
        -------
        places : int64 Tensor of shape (S, ceil(R / B))
        counted : float64 Tensor of shape (S, ceil(R / B))
            0 for padding.
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
            # Padding stays last.
            order[:count] = generator.permutation(count)
        return sent(orders[places], of.device)


def _padded(
    parts: list[np.ndarray], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return rows padded to one tensor, and 1 for rows and 0 for padding."""
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
