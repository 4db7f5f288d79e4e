"""Whether a table of results can be another draw of what produced simulated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descents.statistics.confidence import holm


@dataclass(frozen=True)
class Compatibility:
    """Which of C settings a small table of points can come from.

    Attributes
    ----------
    distances : ndarray of shape (C,)
        The energy distance between the table and all points of a setting.
    p_values : ndarray of shape (C,)
    adjusted : ndarray of shape (C,)
        The p-values adjusted by Holm for the number of settings.
    power : ndarray of shape (C, C)
        The share of tables drawn from setting j that the test of setting i rejects, at
        level / C; the diagonal is the share of false rejections.
    """

    distances: np.ndarray
    p_values: np.ndarray
    adjusted: np.ndarray
    power: np.ndarray


def compatibility(
    table: np.ndarray,
    points: Sequence[np.ndarray],
    groups: Sequence[np.ndarray],
    generator: np.random.Generator,
    *,
    draws: int = 2000,
    level: float = 0.05,
) -> Compatibility:
    """Test by simulation which settings a table of points can come from.

    The statistic is the energy distance [1]_ between the table and all points of a
    setting, 2 E‖t - x‖ - E‖t - t'‖ - E‖x - x'‖. Its null distribution is simulated: a
    group (a shuffle of the rows) is picked at random, as many points as the table has
    are drawn within it with replacement, and their distance to the points of the other
    groups is computed, because the table comes from a group that is not among these. The
    p-value is the share of simulated tables at least as far, including the table itself.
    The test knows the variation between groups only as well as the number of groups
    allows.

    Parameters
    ----------
    table : ndarray of shape (size, d)
    points : sequence of ndarray of shape (N, d)
        The points of each setting. Distances between all distinct points are stored, so
        the points should lie on a lattice, as accuracies do.
    groups : sequence of ndarray of shape (N,)
        The group of each point.
    generator : numpy Generator
    draws : int
        The number of tables simulated from each setting.
    level : float
        The level of the test for `power`.

    Returns
    -------
    Compatibility

    References
    ----------
    .. [1] Székely and Rizzo (2013), "Energy statistics", Journal of Statistical
       Planning and Inference 143.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> near = generator.integers(0, 10, (400, 2)) / 10
    >>> twenty = np.repeat(np.arange(20), 20)
    >>> test = compatibility(near[:10], [near, near + 0.5], [twenty, twenty], generator)
    >>> test.adjusted < 0.05
    array([False,  True])
    """
    lattice = _Lattice.of(table, points)
    shares = [lattice.shares(member) for member in lattice.members]
    simulated, nulls = [], []
    for member, group in zip(lattice.members, groups, strict=True):
        tables, null = _null(lattice, member, group, generator, draws)
        simulated.append(tables)
        nulls.append(null)
    own = np.array(
        [lattice.distances(lattice.table[None], share)[0] for share in shares]
    )
    p_values = np.array([_upper_tail(*pair) for pair in zip(nulls, own, strict=True)])
    power = np.array(
        [
            [
                np.mean(
                    _upper_tail(null, lattice.distances(tables, share))
                    <= level / len(points)
                )
                for tables in simulated
            ]
            for null, share in zip(nulls, shares, strict=True)
        ]
    )
    return Compatibility(own, p_values, holm(p_values), power)


@dataclass(frozen=True)
class _Lattice:
    """Points as indices of the distinct points, whose distances are computed once.

    Attributes
    ----------
    pairwise : ndarray of shape (P, P)
        The distances between the distinct points.
    table : ndarray of int, shape (size,)
    members : list of ndarray of int, shape (N,)
        The points of each setting.
    """

    pairwise: np.ndarray
    table: np.ndarray
    members: list[np.ndarray]

    @classmethod
    def of(cls, table: np.ndarray, points: Sequence[np.ndarray]) -> _Lattice:
        """Return a table and the points of each setting; equal up to rounding is equal."""
        places, index = np.unique(
            np.concatenate([table, *points]).round(9), axis=0, return_inverse=True
        )
        sizes = [len(table), *(len(chosen) for chosen in points)]
        own, *members = np.split(index.reshape(-1), np.cumsum(sizes)[:-1])
        return cls(
            np.linalg.norm(places[:, None] - places[None], axis=-1), own, members
        )

    def shares(self, chosen: np.ndarray) -> np.ndarray:
        """Return the share of each distinct point among some points, shape (P,)."""
        return np.bincount(chosen, minlength=len(self.pairwise)) / len(chosen)

    def distances(self, tables: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return the energy distances of (T, size) tables to a distribution, shape (T,)."""
        to_setting = self.pairwise @ shares  # E‖p - x‖ for every distinct point p
        within = self.pairwise[tables[:, :, None], tables[:, None]].mean((1, 2))
        energy: np.ndarray = (
            2 * to_setting[tables].mean(1) - within - shares @ to_setting
        )
        return energy


def _null(
    lattice: _Lattice,
    member: np.ndarray,
    group: np.ndarray,
    generator: np.random.Generator,
    draws: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw tables of a setting, each within one group.

    Returns
    -------
    tables : ndarray of int, shape (draws, size)
    distances : ndarray of shape (draws,)
        From each table to the points of the other groups, sorted.
    """
    tables, distances = [], []
    names = np.unique(group)
    picked = np.bincount(generator.integers(len(names), size=draws))
    for name, number in zip(names, picked, strict=False):
        inside, others = member[group == name], member[group != name]
        tables.append(generator.choice(inside, (number, len(lattice.table))))
        shares = lattice.shares(others if len(others) else member)
        distances.append(lattice.distances(tables[-1], shares))
    return np.concatenate(tables), np.sort(np.concatenate(distances))


def _upper_tail(null: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the share of a sorted null at least as large, including the observed value."""
    # The margin makes equal tables count as equal in spite of rounding.
    farther = len(null) - np.searchsorted(null, observed - 1e-12, side="left")
    tail: np.ndarray = (1 + farther) / (1 + len(null))
    return tail
