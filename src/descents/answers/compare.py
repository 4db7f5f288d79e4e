"""Compare results with references and with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from descents.answers.references import Reference
from descents.checks import InvalidValueError, counted

ROUNDING = 1e-12
"""How far below an exact reference a float64 loss may be by rounding, relative to the
loss of the best constant."""


def gap(
    losses: Any, reference: Reference, best_constant_loss: float, dtype: Any
) -> np.ndarray:
    """Return (loss - reference) / max(abs(reference), eps x loss of the best constant).

    Parameters
    ----------
    losses : array-like of shape (S,)
    reference : Reference
    best_constant_loss : float
        The loss of the best constant, which keeps the gap finite if the reference is
        zero.
    dtype : numpy dtype
        The precision of the descent; eps is its spacing at 1.

    Examples
    --------
    >>> exact = Reference(2.0, "exact", "known")
    >>> gap([2.0, 3.0], exact, 10.0, np.float64)
    array([0. , 0.5])
    """
    floor = float(np.finfo(dtype).eps) * best_constant_loss
    scale = max(abs(reference.value), floor, np.finfo(np.float64).tiny)
    return (np.asarray(losses, dtype=np.float64) - reference.value) / scale


def below_reference(
    losses: Any, reference: Reference, best_constant_loss: float
) -> np.ndarray:
    """Return which losses are below an exact reference or a bound by more than rounding.

    Such a loss is a bug of the program.

    Examples
    --------
    >>> exact = Reference(2.0, "exact", "known")
    >>> below_reference([2.0 - 1e-15, 1.9], exact, 10.0)
    array([False,  True])
    """
    losses = np.asarray(losses, dtype=np.float64)
    if reference.kind == "best found":
        return np.zeros(losses.shape, dtype=bool)
    below: np.ndarray = losses < reference.value - ROUNDING * best_constant_loss
    return below


def principal_angles(first: Any, second: Any) -> np.ndarray:
    """Return the angles between two column spaces in radians, largest first.

    Small angles are computed from sines (Björck and Golub [1]_), which distinguishes 1e-10
    from 0.

    Parameters
    ----------
    first, second : array-like of shape (rows, k) and (rows, l)

    References
    ----------
    .. [1] Björck and Golub (1973), "Numerical methods for computing angles between
       linear subspaces", Mathematics of Computation 27.

    Examples
    --------
    >>> principal_angles([[1.0], [0.0]], [[1.0], [1.0]]).round(4)
    array([0.7854])
    """
    from scipy.linalg import subspace_angles

    angles: np.ndarray = subspace_angles(
        np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    )
    return angles


def subspace_agreement(factors: Any, best: int) -> float | None:
    """Return how well column spaces agree with that of the best start.

    It is the median over the other starts of the mean squared cosine of the principal
    angles: 1 for equal spaces, 0 for orthogonal ones.

    Parameters
    ----------
    factors : array-like of shape (S, columns, rank)
    best : int

    Returns
    -------
    float or None
        None if there is only one start.

    Examples
    --------
    >>> subspace_agreement([[[1.0], [0.0]], [[2.0], [0.0]], [[1.0], [1.0]]], 0)
    0.75
    """
    factors = np.asarray(factors, dtype=np.float64)
    if len(factors) < 2:
        return None
    bases = np.linalg.qr(factors)[0]
    cosines = np.linalg.svd(bases[best].T @ bases, compute_uv=False)
    means = np.delete(np.square(cosines).mean(1), best)
    return float(np.median(means).round(12))


def _r_squared(target: np.ndarray, fitted: np.ndarray) -> float:
    return 1.0 - float(np.square(target - fitted).sum() / np.square(target).sum())


@dataclass(frozen=True)
class Alignment:
    """A map from one factor to another.

    Attributes
    ----------
    aligned : ndarray of shape (rows, rank)
        The source mapped onto the target.
    r_squared : float
        1 - ‖target - aligned‖^2 / ‖target‖^2.
    matrix : ndarray of shape (rank, rank)
        aligned = source @ matrix.
    singular_values : ndarray of shape (rank,)
        The singular values of the matrix; all are equal for a rotation with one scale.
    """

    aligned: np.ndarray
    r_squared: float
    matrix: np.ndarray
    singular_values: np.ndarray


def best_similarity(source: Any, target: Any) -> Alignment:
    """Minimize ‖target - c source R‖^2 over a scale c and an orthogonal R.

    R may include a reflection, because the signs of singular vectors are arbitrary. The
    solution is due to Schönemann [1]_.

    Parameters
    ----------
    source, target : array-like of shape (rows, rank)

    References
    ----------
    .. [1] Schönemann (1966), "A generalized solution of the orthogonal Procrustes
       problem", Psychometrika 31.

    Examples
    --------
    >>> turned = best_similarity([[1.0, 0], [0, 1]], [[0.0, 2], [-2, 0]])
    >>> round(turned.r_squared, 12), turned.singular_values.round(12)
    (1.0, array([2., 2.]))
    """
    from scipy.linalg import orthogonal_procrustes

    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    rotation, total = orthogonal_procrustes(source, target)
    matrix = rotation * (total / np.square(source).sum())
    return _alignment(source, target, matrix)


def best_linear_map(source: Any, target: Any) -> Alignment:
    """Minimize ‖target - source M‖^2 over all square matrices M.

    Parameters
    ----------
    source, target : array-like of shape (rows, rank)

    Examples
    --------
    >>> sheared = best_linear_map([[1.0, 0], [0, 1]], [[1.0, 1], [0, 1]])
    >>> round(sheared.r_squared, 12)
    1.0
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    matrix = np.linalg.lstsq(source, target, rcond=None)[0]
    return _alignment(source, target, matrix)


def _alignment(source: np.ndarray, target: np.ndarray, matrix: np.ndarray) -> Alignment:
    aligned = source @ matrix
    values = np.linalg.svd(matrix, compute_uv=False)
    return Alignment(aligned, _r_squared(target, aligned), matrix, values)


def wilson_interval(
    successes: int, count: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Wilson's interval for a proportion.

    References
    ----------
    .. [1] Wilson (1927), "Probable inference, the law of succession, and statistical
       inference", JASA 22.

    Examples
    --------
    >>> low, high = wilson_interval(5, 10)
    >>> round(low, 4), round(high, 4)
    (0.2366, 0.7634)
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference_interval(
    first: Any, second: Any, groups: Any = None, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean of first - second over shared starts, with Student's interval.

    Parameters
    ----------
    first, second : array-like of shape (S,), S at least 2
        Values of the same starts in the same order.
    groups : array-like of shape (S,), optional
        The group of each start, such as the shuffle it trains on. The interval is then
        over the means of the groups; at least two groups are needed.
    confidence : float

    Returns
    -------
    difference, low, high : float

    Examples
    --------
    >>> difference, low, high = paired_difference_interval([1, 1, 1, 0], [0, 0, 1, 0])
    >>> difference, round(low, 3), round(high, 3)
    (0.5, -0.419, 1.419)
    """
    from scipy.stats import t

    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if groups is not None:
        _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        differences = np.bincount(member, differences) / sizes
    count = len(differences)
    mean = float(differences.mean())
    quantile = t.ppf((1 + confidence) / 2, count - 1)
    half = float(quantile * differences.std(ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def variance_components(values: Any, groups: Any) -> tuple[float, float]:
    """Estimate the variance within groups and the variance between groups.

    The method of moments for the one-way random-effects model gives within = mean square
    within, and between = (mean square between - within) / n0, at least 0, where n0 is the
    group size corrected for imbalance [1]_.

    Parameters
    ----------
    values : array-like of shape (N,)
    groups : array-like of shape (N,)
        At least two groups, one of them with two members.

    Returns
    -------
    within, between : float

    References
    ----------
    .. [1] Searle, Casella and McCulloch (1992), "Variance Components", chapter 3.

    Examples
    --------
    >>> variance_components([1.0, 3.0, 11.0, 13.0], [0, 0, 1, 1])
    (2.0, 49.0)
    """
    values = np.asarray(values, dtype=np.float64)
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    total, count = len(values), len(sizes)
    if count < 2 or total == count:
        raise InvalidValueError(
            f"{counted(total, 'value')} in {count} groups; give at least two groups, one of "
            "them with two values"
        )
    means = np.bincount(member, values) / sizes
    within = float(np.square(values - means[member]).sum() / (total - count))
    spread = float((sizes * np.square(means - values.mean())).sum() / (count - 1))
    size = (total - float(np.square(sizes).sum()) / total) / (count - 1)
    return within, max(0.0, (spread - within) / size)


def residual_mean_square(table: np.ndarray) -> float:
    """Return the residual mean square of a table after its row and column effects.

    Examples
    --------
    >>> residual_mean_square(np.array([[1.0, 0.0], [0.0, 1.0]]))
    1.0
    """
    rows, columns = table.shape
    residual = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    return float(np.square(residual).sum() / max(1, (rows - 1) * (columns - 1)))


def crossed_variances(values: Any) -> dict[str, float | None]:
    """Estimate the variance between rows and the variance between columns of a table.

    The method of moments for two crossed random effects without repetition [1]_ gives
    rows = (mean square of rows - mean square of the residual) / columns, and the same for
    columns; at least 0.

    Parameters
    ----------
    values : array-like of shape (starts, splits)
        Columns without any finite number are left out, then rows with a number that is
        not finite.

    Returns
    -------
    dict
        ``starts``, ``splits`` and ``residual``. With one split, ``starts`` is the
        variance and the others are None. With fewer than two starts, all are None.

    References
    ----------
    .. [1] Searle, Casella and McCulloch (1992), "Variance Components", chapter 4.

    Examples
    --------
    >>> crossed_variances([[0.0, 2.0], [4.0, 6.0]])
    {'starts': 8.0, 'splits': 2.0, 'residual': 0.0}
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, np.isfinite(table).any(0)]
    table = table[np.isfinite(table).all(1)]
    rows, columns = table.shape
    if rows < 2 or columns < 1:
        return {"starts": None, "splits": None, "residual": None}
    if columns < 2:
        return {
            "starts": float(table.var(ddof=1)),
            "splits": None,
            "residual": None,
        }
    by_row, by_column = table.mean(1), table.mean(0)
    residual = residual_mean_square(table)
    return {
        "starts": max(0.0, float(by_row.var(ddof=1)) - residual / columns),
        "splits": max(0.0, float(by_column.var(ddof=1)) - residual / rows),
        "residual": residual,
    }


def holm(p_values: Any) -> np.ndarray:
    """Return p-values adjusted for multiple tests by Holm's step-down rule [1]_.

    References
    ----------
    .. [1] Holm (1979), "A simple sequentially rejective multiple test procedure",
       Scandinavian Journal of Statistics 6.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


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
    size, count = len(table), len(points)
    # Points become indices of the distinct points, whose distances are computed once.
    places, index = np.unique(
        np.concatenate([table, *points]).round(9), axis=0, return_inverse=True
    )
    cuts = np.cumsum([size, *(len(chosen) for chosen in points)])[:-1]
    own, *members = np.split(index.reshape(-1), cuts)
    pairwise = np.linalg.norm(places[:, None] - places[None], axis=-1)

    def distances(tables: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return the energy distances of (T, size) tables to a distribution."""
        to_setting = pairwise @ shares  # E‖p - x‖ for every distinct point p
        within = pairwise[tables[:, :, None], tables[:, None]].mean((1, 2))
        energy: np.ndarray = (
            2 * to_setting[tables].mean(1) - within - shares @ to_setting
        )
        return energy

    def shares_of(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(chosen, minlength=len(places)) / len(chosen)

    shares = [shares_of(member) for member in members]
    simulated, nulls = [], []
    for member, group in zip(members, groups, strict=True):
        tables, left_out = [], []
        names = np.unique(group)
        picked = np.bincount(generator.integers(len(names), size=draws))
        for name, number in zip(names, picked, strict=False):
            inside = member[group == name]
            tables.append(generator.choice(inside, (number, size)))
            others = member[group != name]
            left_out.append(
                distances(tables[-1], shares_of(others if len(others) else member))
            )
        simulated.append(np.concatenate(tables))
        nulls.append(np.sort(np.concatenate(left_out)))
    own_distance = np.array([distances(own[None], share)[0] for share in shares])
    p_values = np.array(
        [_upper_tail(*pair) for pair in zip(nulls, own_distance, strict=True)]
    )
    power = np.array(
        [
            [
                np.mean(_upper_tail(null, distances(tables, share)) <= level / count)
                for tables in simulated
            ]
            for null, share in zip(nulls, shares, strict=True)
        ]
    )
    return Compatibility(own_distance, p_values, holm(p_values), power)


def _upper_tail(null: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the share of a sorted null at least as large, including the observed value."""
    # The margin makes equal tables count as equal in spite of rounding.
    farther = len(null) - np.searchsorted(null, observed - 1e-12, side="left")
    tail: np.ndarray = (1 + farther) / (1 + len(null))
    return tail
