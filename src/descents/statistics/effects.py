"""Estimate which parameters of a sweep matter, with intervals and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from descents.errors import Complaints, InvalidValueError
from descents.statistics.confidence import (
    holm,
    paired_difference_interval,
    residual_mean_square,
)
from descents.statistics.differences import permuted_share
from descents.statistics.samples import RESAMPLES, chunk_rows, number_between
from descents.text import counted
from descents.validation import whole_number


@dataclass(frozen=True)
class Effect:
    """The main effect of one parameter of a sweep on a metric.

    Attributes
    ----------
    parameter : str
    levels : tuple
        The values of the parameter.
    means : tuple of float
        The mean of the metric at each level, over all values of the other parameters.
    differences : tuple of float
        Each mean minus the mean over all levels.
    intervals : tuple of (float, float)
        Student's interval of each difference, over the shared starts.
    share : float
        The share of the variance over settings and starts that is due to the parameter
        alone: omega squared, at least 0.
    count : int
        The number of starts that were used.
    p_value, p_adjusted : float
        The p-value of the permutation test that the parameter has no effect, and the same
        adjusted for the number of parameters by Holm's method.
    """

    parameter: str
    levels: tuple[Any, ...]
    means: tuple[float, ...]
    differences: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    share: float
    p_value: float
    p_adjusted: float
    count: int


def main_effects(
    values: ArrayLike,
    settings: Sequence[Mapping[str, object]],
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> list[Effect]:
    r"""Estimate the main effects of the parameters of a full grid, over shared starts.

    Let v_gk be the metric of start k in setting g. The mean of a level is over all
    settings with this level, so the effects of the other parameters cancel. The starts
    are shared, so the effect of a start on all settings cancels too: intervals and tests
    use the differences d_kl between a start's mean at level l and its mean over the
    levels.

    The test permutes the levels within each start. Its statistic is the absolute mean of
    d_kl over its standard error, maximized over the levels, which makes it robust to
    levels with different spreads. The share is omega squared [1]_,
    (SS - df MS_rest) / (SS_total + MS_rest), of a two-way analysis of settings by starts.
    The rest, after the effects of settings and starts, is interaction and noise.

    Parameters
    ----------
    values : array-like of shape (G, S)
        A finite number for each setting and start; at least two starts.
    settings : sequence of G mappings
        The parameters of each setting; every combination must occur once.
    generator : numpy Generator
        The source of the permutations; equal states give equal p-values.
    confidence : float
    resamples : int

    Returns
    -------
    list of Effect
        One effect for each parameter with at least two levels, the largest share first.

    Raises
    ------
    InvalidValueError
        If the settings are not a full grid, or a value is not finite.

    References
    ----------
    .. [1] Hays (1963), "Statistics for psychologists"; Olejnik and Algina (2003),
       Psychological Methods 8.

    Examples
    --------
    >>> settings = [{"rate": r, "seed": s} for r in (0.1, 0.2) for s in "ab"]
    >>> noise = np.random.default_rng(0).normal(size=(4, 30)) / 100
    >>> values = noise + np.array([0.8, 0.8, 0.9, 0.9])[:, None]
    >>> effects = main_effects(values, settings, generator=np.random.default_rng(1))
    >>> [(e.parameter, round(e.share, 2), e.p_adjusted < 0.01) for e in effects]
    [('rate', 0.96, True), ('seed', 0.0, False)]
    """
    complaints = Complaints()
    confidence = complaints.attempt(number_between, "confidence", confidence)
    resamples = complaints.attempt(whole_number, "resamples", resamples, 1)
    table = complaints.attempt(checked_values, values, settings)
    complaints.raise_any()
    grid = grid_of(settings)
    rest = residual_mean_square(table)
    total = float(np.square(table - table.mean()).sum())
    effects = []
    for name, (levels, places) in grid.items():
        means = np.stack([table[places == k].mean(0) for k in range(len(levels))], 1)
        middle = means.mean(1)
        compared = [
            paired_difference_interval(means[:, k], middle, confidence=confidence)
            for k in range(len(levels))
        ]
        per_level = table.size / len(levels)
        square = float(per_level * sum(gap**2 for gap, _, _ in compared))  # SS
        share = square - (len(levels) - 1) * rest
        effects.append(
            Effect(
                name,
                levels,
                tuple(float(mean) for mean in means.mean(0)),
                tuple(gap for gap, _, _ in compared),
                tuple((low, high) for _, low, high in compared),
                max(0.0, share / (total + rest)) if total > 0 else 0.0,
                _test(means - middle[:, None], generator, resamples),
                1.0,
                table.shape[1],
            )
        )
    if not effects:
        return []
    adjusted = holm([effect.p_value for effect in effects])
    effects = [
        replace(effect, p_adjusted=float(p))
        for effect, p in zip(effects, adjusted, strict=True)
    ]
    return sorted(effects, key=lambda effect: -effect.share)


def checked_values(
    values: ArrayLike, settings: Sequence[Mapping[str, object]]
) -> np.ndarray:
    """Return the values of a sweep as a table with a row for each setting.

    Raises
    ------
    InvalidValueError
        If there is not a row of at least two finite numbers for each setting.
    """
    complaints = Complaints()
    table = np.asarray(values, dtype=np.float64)
    complaints.require(
        table.ndim == 2 and len(table) == len(settings) and table.shape[1] > 1,
        f"values has shape {table.shape} for {counted(len(settings), 'setting')}; give one "
        "row per setting, with at least two starts",
    )
    complaints.require(
        bool(np.isfinite(table).all()),
        "values contains a number that is not finite; leave out starts and settings that "
        "failed",
    )
    complaints.raise_any()
    return table


def same_value(one: object, two: object) -> bool:
    """Return whether two values of a parameter are equal; arrays are compared as a whole.

    Examples
    --------
    >>> same_value(0.1, 0.1), same_value([0.1, 0.2], np.array([0.1, 0.2]))
    (True, True)
    >>> same_value(None, np.array([0.1])), same_value("a", ["a"])
    (False, False)
    """
    if one is None or two is None or isinstance(one, str) or isinstance(two, str):
        return np.asarray(one).ndim == np.asarray(two).ndim and bool(one == two)
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        first, second = np.asarray(one), np.asarray(two)
        return first.shape == second.shape and bool(np.array_equal(first, second))
    return bool(one == two)


def grid_of(
    settings: Sequence[Mapping[str, object]],
) -> dict[str, tuple[tuple[object, ...], np.ndarray]]:
    """Return for each parameter that varies its levels, and the level of each setting."""
    grid = {}
    size = 1
    for name in settings[0]:
        levels: list[object] = []
        places = []
        for setting in settings:
            value = setting.get(name)
            place = next(
                (k for k, level in enumerate(levels) if same_value(level, value)),
                len(levels),
            )
            if place == len(levels):
                levels.append(value)
            places.append(place)
        size *= len(levels)
        if len(levels) > 1:
            grid[name] = (tuple(levels), np.array(places))
    rows = np.stack([p for _, p in grid.values()], 1) if grid else np.zeros((1, 0))
    names = {frozenset(setting) for setting in settings}
    full = size == len(settings) == len(np.unique(rows, axis=0)) and len(names) == 1
    if not full:
        raise InvalidValueError(
            f"the {counted(len(settings), 'setting')} do not contain every combination of "
            "their values exactly once; give a full grid"
        )
    return grid


def largest_ratio(size: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return the largest size over its standard error in each row.

    Without an error, the ratio is infinite, and 0 if the size is 0.
    """
    ratio = np.where(size > 0, np.inf, 0.0)
    np.divide(size, error, out=ratio, where=error > 1e-12)
    return np.asarray(ratio.max(1))


def _test(
    differences: np.ndarray, generator: np.random.Generator, resamples: int
) -> float:
    """Return the p-value of d_kl, shape (S, levels), by permutation within each start."""
    scale = np.abs(differences).max()
    if scale == 0:
        return 1.0
    differences = (differences / scale).round(12)
    starts = len(differences)

    def greatest(rows: np.ndarray) -> np.ndarray:
        mean = np.abs(rows.mean(1)).round(12)
        error = rows.std(1, ddof=1) / np.sqrt(starts)
        return largest_ratio(mean, error)

    def chunks() -> Iterator[np.ndarray]:
        for rows in chunk_rows(resamples, differences.size):
            drawn = np.broadcast_to(differences, (rows, *differences.shape))
            yield greatest(generator.permuted(drawn, axis=2))

    return permuted_share(float(greatest(differences[None])[0]), chunks(), exact=False)
