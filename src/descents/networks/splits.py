"""Splits of the rows into training rows and held-out rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descents.errors import Complaints, InvalidValueError, name_of
from descents.rng import stream
from descents.text import counted
from descents.validation import real_number, whole_number

Splits = Sequence[Sequence[int] | np.ndarray] | np.ndarray
"""The training rows of each split."""


def random_splits(
    rows: int, training_rows: int, splits: Sequence[int], seed: int
) -> np.ndarray:
    """Return the training rows of some random splits of a table.

    Split number s depends on (seed, s) alone: the rows are shuffled, and the first
    `training_rows` of them are used for training.

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
    """Return random orders of the rows of a table; each depends on (seed, number) alone.

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
    """Return the training rows of random splits, stratified by group.

    Rows are shuffled within each group. The same share of every group is held out,
    rounded up or down so that the held-out rows add up to the share of all rows as nearly
    as possible. At least one row of each group is a training row.

    Parameters
    ----------
    groups : ndarray of shape (rows,)
        The classes; all equal for a split that is not stratified.
    held_out : float
        The share of the rows that is held out, above 0 and below 1.
    splits : sequence of int
        The numbers of the splits; each depends on (seed, its number) alone.
    seed : int

    Returns
    -------
    list of ndarray of int64
        The training rows of each split, in increasing order.

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
            # Rows that a small group could not give are not taken from a later one.
            count = max(0, min(round(owed), math.ceil(share), len(members) - 1))
            owed -= count
            parts.append(members[count:])
        found.append(np.sort(np.concatenate(parts)))
    return found


def stratified_folds(groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Return the training rows of k folds, stratified by group.

    Each row is held out once. The rows of each group are shuffled, and dealt to the folds
    one after the other.

    Parameters
    ----------
    groups : ndarray of shape (rows,)
    folds : int
        From 2 to the number of rows.
    seed : int

    Returns
    -------
    list of ndarray of int64, one per fold

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


def training_rows(splits: Splits, rows: int) -> list[np.ndarray]:
    """Return the training rows of each split, checked.

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


@dataclass(frozen=True)
class HoldOut:
    """Hold out a random share of the rows for validation, once or several times.

    Parameters
    ----------
    share : float
        The share that is held out, above 0 and below 1; of every class, if there are
        classes.
    repeats : int
        The number of random splits. Every start is trained on each of them.

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
        """Return the training rows of each split."""
        found = stratified_splits(groups, self.share, range(self.repeats), seed)
        if any(len(rows) == len(groups) for rows in found):
            raise InvalidValueError(
                f"{name_of('validation')} is {self.share:g}, and this share of "
                f"{counted(len(groups), 'row')} is no row; give "
                "a larger share, or more rows"
            )
        return found


@dataclass(frozen=True)
class Folds:
    """Validate by k folds: every start is trained on each of them.

    Parameters
    ----------
    count : int
        The number of folds, at least 2. Every row is held out in one of them.

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
                f"{name_of('validation')} has {counted(self.count, 'fold')}, but there are {counted(len(groups), 'row')}; "
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
