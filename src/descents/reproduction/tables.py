"""Test whether a table of results can come from the process that simulated other tables.

Every test in this module is a Monte Carlo test that is exact for any number of
simulations: under the null hypothesis the published table and the simulated ones are
exchangeable, and the statistic treats all of them alike [1]_, [2]_.

References
----------
.. [1] Barnard (1963), discussion of Bartlett, JRSS B 25.
.. [2] Vovk, Gammerman and Shafer (2005), "Algorithmic Learning in a Random World".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from descents.statistics.samples import chunk_rows

ROUNDING = 1e-9
"""Statistics that differ by less than this are equal up to rounding."""


def tail_share(found: float, others: np.ndarray) -> float:
    """Return the share of values at least as large as one of them, including itself.

    Parameters
    ----------
    found : float
    others : ndarray of shape (N,)
        The other values.

    Examples
    --------
    >>> tail_share(2.0, np.array([1.0, 2.0, 3.0]))
    0.75
    """
    return float((1 + np.sum(others >= found - ROUNDING)) / (1 + len(others)))


def monte_carlo_error(p_value: float, simulated: int) -> float:
    """Return the standard error of a p-value from a number of simulations.

    Examples
    --------
    >>> round(monte_carlo_error(0.5, 100), 3)
    0.05
    """
    return float(np.sqrt(p_value * (1 - p_value) / simulated))


def mean_distances(tables: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """Return the mean Euclidean distance between each table and others.

    Parameters
    ----------
    tables : ndarray of shape (N, ...)
    others : ndarray of shape (M, ...), optional
        By default `tables`, without the table itself.

    Returns
    -------
    ndarray of shape (N,)

    Examples
    --------
    >>> mean_distances(np.array([[0.0], [1.0], [3.0]]))
    array([2. , 1.5, 2.5])
    """
    flat = np.asarray(tables, np.float64).reshape(len(tables), -1)
    targets = flat if others is None else others.reshape(len(others), -1)
    count = len(targets) - (others is None)
    squares, total, begin = np.square(targets).sum(1), np.empty(len(flat)), 0
    for rows in chunk_rows(len(flat), len(targets)):
        part = flat[begin : begin + rows]
        squared = np.square(part).sum(1)[:, None] + squares - 2 * part @ targets.T
        # Remove rounding, so that the distance of a table to itself is 0.
        squared[squared < ROUNDING] = 0
        total[begin : begin + rows] = np.sqrt(squared).sum(1)
        begin += rows
    return total / max(1, count)


@dataclass(frozen=True)
class TableTest:
    """The comparison of one table with N simulated ones.

    Attributes
    ----------
    simulated : int
        N.
    joint, pattern, shortfall : float
        The p-values; see `table_test`.
    """

    simulated: int
    joint: float
    pattern: float
    shortfall: float


def table_test(published: np.ndarray, simulated: np.ndarray, line: float) -> TableTest:
    r"""Test whether a published table is exchangeable with simulated tables.

    There are three statistics. Each is computed for every table i among all N + 1:

    - joint: the mean Euclidean distance between the whole table and the others. Distant
      tables are extreme.
    - pattern (which runs fail): :math:`-\sum_k \log \hat P(F_{ik})`, where
      :math:`F_{ik}` is whether run k of table i is below the line, and :math:`\hat P` is
      the share of all tables whose run k does the same, with half a table added to each
      side. Unlikely patterns are extreme.
    - shortfall (by how much runs fail): the amounts by which runs are below the line,
      summed over the runs. The test is two-sided: the p-value is twice that of the
      smaller tail.

    Parameters
    ----------
    published : ndarray of shape (K, M)
        M results of each of K runs; the first result is compared with the line.
    simulated : ndarray of shape (N, K, M)
    line : float
        A run fails if its first result is below it.

    Returns
    -------
    TableTest

    Examples
    --------
    >>> simulated = np.random.default_rng(0).uniform(0.8, 1.0, (99, 3, 2))
    >>> test = table_test(np.full((3, 2), 0.2), simulated, 0.5)
    >>> test.joint, test.pattern, test.shortfall
    (0.01, 0.01, 0.02)
    """
    tables = np.concatenate([published[None], simulated])
    first = tables[..., 0]
    failed = first < line
    share = (failed.sum(0) + 0.5) / (len(tables) + 1)
    pattern = -np.where(failed, np.log(share), np.log1p(-share)).sum(1)
    short = np.maximum(line - first, 0).sum(1)
    tails = [tail_share(sign * short[0], sign * short[1:]) for sign in (1, -1)]
    joint = mean_distances(tables)
    return TableTest(
        len(simulated),
        tail_share(joint[0], joint[1:]),
        tail_share(pattern[0], pattern[1:]),
        min(1.0, 2 * min(tails)),
    )


def rejected_share(
    simulated: np.ndarray, other: np.ndarray, level: float = 0.05
) -> float:
    """Return the power of the joint test: the share of other tables that it rejects.

    Parameters
    ----------
    simulated : ndarray of shape (N, K, M)
        Tables from the null hypothesis.
    other : ndarray of shape (L, K, M)
        Tables from the alternative.

    Examples
    --------
    >>> simulated = np.random.default_rng(0).uniform(0.8, 1.0, (99, 3, 2))
    >>> rejected_share(simulated, simulated[:10] - 0.7)
    1.0
    """
    null = mean_distances(simulated)
    distances = mean_distances(other, simulated)
    p_values = np.array([tail_share(value, null) for value in distances])
    return float(np.mean(p_values <= level))


def alignment_test(
    published: np.ndarray,
    simulated: np.ndarray,
    generator: np.random.Generator,
    permutations: int = 9999,
) -> tuple[float, float]:
    """Test whether the rows of a table line up with the runs of the simulated tables.

    Under the null hypothesis, the rows are in random order. The statistic is the
    correlation between the first results of the rows and the means of the runs over the
    simulated tables; it is compared with that after permutations of the rows. A small
    p-value is evidence for the runs in this order.

    Parameters
    ----------
    published : ndarray of shape (K, M)
    simulated : ndarray of shape (N, K, M)
    generator : numpy Generator
    permutations : int

    Returns
    -------
    correlation, p_value : float

    Examples
    --------
    >>> rows = np.arange(8.0)[:, None]
    >>> simulated = rows[None] + np.zeros((5, 1, 1))
    >>> correlation, p = alignment_test(rows, simulated, np.random.default_rng(0))
    >>> round(correlation, 6), p < 0.001
    (1.0, True)
    """
    row = published[:, 0] - published[:, 0].mean()
    mean = simulated[..., 0].mean(0)
    mean = mean - mean.mean()
    scale = np.linalg.norm(row) * np.linalg.norm(mean)
    if not scale:
        return float("nan"), 1.0
    permuted = (
        generator.permuted(np.tile(row, (permutations, 1)), axis=1) @ mean / scale
    )
    correlation = float(row @ mean / scale)
    return correlation, tail_share(correlation, permuted)
